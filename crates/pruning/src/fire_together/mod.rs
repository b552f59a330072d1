//! Dynamic pruning with self-supervised mask prediction (Elkerdawy, Elhoushi, Zhang and Ray, 2022; arXiv 2110.08232).
//!
//! Before each convolution a small head looks at the convolution's input and predicts which filters will fire; only those are computed. The
//! heads learn from the network itself: the filters that hold the first share `r` of an image's peak activations are the ones to keep
//! ([`mass_mask`]), and each filter is a binary classification ([`mask_loss`]). How much is saved follows from `r` and the dense network alone
//! ([`Peaks`]), before anything is trained.
//!
//! ```
//! use autodidact_pruning::fire_together::{Criterion, mask_loss};
//! use tch::Tensor;
//! let peaks = Tensor::from_slice(&[5.5, 7.9, 0.3, 8.6, 2.2, 3.1, 0.9]).view([1, 7]);
//! let kept = Criterion::Mass(0.95).mask(&peaks)?;
//! // The filter that crosses the share is dropped: 0.8807 of all is held by four.
//! assert_eq!(Vec::<f64>::try_from(kept.view(-1))?, [1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0]);
//! let (logits, target) = (Tensor::from_slice2(&[[2.0, -1.0, 0.0]]), Tensor::from_slice2(&[[1.0, 0.0, 1.0]]));
//! assert!((mask_loss(&[(logits, target)])?.double_value(&[]) - 1.133337).abs() < 1e-6);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod compact;
mod head;
mod network;

pub use compact::CompactNet;
pub use head::{HeadInput, MaskHead, Pooling};
pub use network::{GatedNet, GatedNetConfig, Gates, Layer, Outcome, Peaks, Stage};

use autodidact_core::error::{check_matrix, check_range};
use autodidact_core::{Error, Result};
use tch::{Kind, Reduction, Tensor};

/// Which filters of an image are to be computed, from their peak activations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Criterion {
    /// Those that hold the first share of the sum of all peaks; the one that crosses it is dropped. At 1 all that fire at all are kept,
    /// below 0 all.
    Mass(f64),
    /// All but a share of the filters, those of the lowest peaks, and but those that do not fire.
    Uniform(f64),
}

/// Shares below this are none.
const NOTHING: f64 = 1e-5;

impl Criterion {
    /// # Errors
    /// A share above 1 or that is not finite; of [`Criterion::Uniform`], below 0.
    pub fn check(&self) -> Result<()> {
        match self {
            Criterion::Mass(r) => check_range("share of the peaks", *r, ..=1.0),
            Criterion::Uniform(share) => check_range("share of the filters", *share, 0.0..=1.0),
        }
    }

    /// Masks of 0 and 1, `[B, C]`, for peaks `[B, C]` (not negative), of their kind.
    ///
    /// # Errors
    /// As [`check`](Self::check); peaks that are no matrix.
    pub fn mask(&self, peaks: &Tensor) -> Result<Tensor> {
        self.check()?;
        let (_, filters) = check_matrix("peaks", peaks)?;
        let fires = |p: &Tensor| p.gt(NOTHING);
        let keep = match *self {
            Criterion::Mass(r) if r < 0.0 => peaks.ones_like().to_kind(Kind::Bool),
            Criterion::Mass(r) => {
                let total = peaks.sum_dim_intlist([1i64].as_slice(), true, Kind::Double);
                let share = peaks.to_kind(Kind::Double) / total.clamp_min(f64::MIN_POSITIVE);
                if r == 1.0 {
                    fires(&share)
                } else {
                    let (sorted, order) = share.sort(1, true);
                    let inside = (sorted.cumsum(1, Kind::Double) - r).le(NOTHING).logical_and(&sorted.gt(0.0));
                    inside.zeros_like().scatter(1, &order, &inside)
                }
            }
            Criterion::Uniform(share) => {
                let dropped = (share * filters as f64).floor() as i64;
                let order = peaks.argsort(1, false).narrow(1, 0, dropped);
                fires(peaks).scatter_value(1, &order, 0)
            }
        };
        Ok(keep.to_kind(peaks.kind()))
    }
}

/// Largest absolute activation of each channel: `[B, C, H, W] -> [B, C]`, without a gradient.
///
/// # Errors
/// Other shapes.
pub fn peak(activations: &Tensor) -> Result<Tensor> {
    if activations.dim() != 4 || activations.numel() == 0 {
        return Err(Error::shape("activations", "[B, C, H, W], not empty", activations));
    }
    Ok(activations.detach().abs().amax([2i64, 3].as_slice(), false))
}

/// [`Criterion::Mass`] of activations `[B, C, H, W]`, as `[B, C]`.
///
/// # Errors
/// As [`peak`] and [`Criterion::mask`].
pub fn mass_mask(activations: &Tensor, r: f64) -> Result<Tensor> {
    Criterion::Mass(r).mask(&peak(activations)?)
}

/// What heads minimise: of each gated layer's logits and target masks `[B, C]` the binary cross-entropy, averaged over images and summed
/// over filters; the mean over layers.
///
/// # Errors
/// No layers; logits and targets of different shapes.
pub fn mask_loss(layers: &[(Tensor, Tensor)]) -> Result<Tensor> {
    let mut sum = None::<Tensor>;
    for (logits, target) in layers {
        let (images, _) = check_matrix("mask logits", logits)?;
        if logits.size() != target.size() {
            return Err(Error::shape("target masks", format!("{:?}, as the logits", logits.size()), target));
        }
        let loss =
            logits.binary_cross_entropy_with_logits::<Tensor>(target, None, None, Reduction::Sum) / images as f64;
        sum = Some(match sum {
            Some(s) => s + loss,
            None => loss,
        });
    }
    sum.map(|s| s / layers.len() as f64).ok_or_else(|| Error::value("gated layers", "at least one", "none"))
}
