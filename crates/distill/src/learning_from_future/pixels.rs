//! Losses and confidence of label maps. Labels are `Int64 [B, H, W]`, with 255 where there is none.

use autodidact_core::device::in_full_precision;
use autodidact_core::error::check_range;
use autodidact_core::{Error, Result};
use tch::{Kind, Reduction, Tensor};

/// The mark of pixels without a label.
pub(super) const IGNORE: i64 = 255;

/// Labels of pixels, with weights.
#[derive(Debug)]
pub struct PixelLabels {
    /// Classes, `Int64 [B, H, W]`.
    pub labels: Tensor,
    /// Weights of the pixels' losses, `[B, H, W]`.
    pub weight: Tensor,
}

pub(super) fn check_classes(what: &str, labels: &Tensor) -> Result<(i64, i64, i64)> {
    match labels.size()[..] {
        [b, h, w] if labels.kind() == Kind::Int64 && labels.numel() > 0 => Ok((b, h, w)),
        [_, _, _] if labels.kind() != Kind::Int64 => {
            Err(Error::value(what, "Int64 class indices", format!("{:?}", labels.kind())))
        }
        _ => Err(Error::shape(what, "[B, H, W] of at least one pixel", labels)),
    }
}

/// Checks logits `[B, C, H, W]`, and their labels if there are any.
pub(super) fn check_maps(logits: &Tensor, labels: Option<&Tensor>) -> Result<()> {
    let [b, _, h, w] = logits.size()[..] else { return Err(Error::shape("logits", "[B, C, H, W]", logits)) };
    if let Some(labels) = labels {
        check_classes("labels", labels)?;
        if labels.size() != [b, h, w] {
            return Err(Error::shape("labels", format!("[{b}, {h}, {w}]"), labels));
        }
    }
    Ok(())
}

/// Cross entropy of every pixel, times its weight, summed and divided by the number of all pixels (those without a label or of
/// weight 0 count): logits `[B, C, H, W]`, labels `[B, H, W]`, weights `[B, H, W]` without gradient. A scalar.
///
/// # Errors
/// Shapes that do not belong together, labels that are no `Int64`.
pub fn weighted_pixel_ce(logits: &Tensor, labels: &Tensor, weight: &Tensor) -> Result<Tensor> {
    check_maps(logits, Some(labels))?;
    if weight.size() != labels.size() {
        return Err(Error::shape("weights", format!("{:?}, the shape of the labels", labels.size()), weight));
    }
    in_full_precision([logits], |[logits]| {
        let loss = logits.cross_entropy_loss::<Tensor>(labels, None, Reduction::None, IGNORE, 0.0);
        Ok((loss * weight.detach()).mean(logits.kind()))
    })
}

/// Share of all pixels of the batch whose most probable class has a probability of at least `threshold`: logits `[B, C, H, W]`, a scalar
/// without gradient.
///
/// # Errors
/// Logits that are no maps, a threshold outside `[0, 1]`.
pub fn confidence_weight(logits: &Tensor, threshold: f64) -> Result<Tensor> {
    check_maps(logits, None)?;
    check_range("threshold", threshold, 0.0..=1.0)?;
    in_full_precision([&logits.detach()], |[logits]| {
        let highest = logits.softmax(1, logits.kind()).amax([1i64].as_slice(), false);
        Ok(highest.ge(threshold).to_kind(logits.kind()).mean(logits.kind()))
    })
}

/// Which labelled pixels to drop: those whose entropy under the teacher's logits `[B, C, H, W]` is at or above the `percent`-th
/// percentile (linear between order statistics) of the labelled ones. `Bool [B, H, W]`.
///
/// # Errors
/// Shapes that do not belong together, a percentage outside `[0, 100]`.
pub fn entropy_drop_mask(logits: &Tensor, labels: &Tensor, percent: f64) -> Result<Tensor> {
    check_maps(logits, Some(labels))?;
    check_range("percent", percent, 0.0..=100.0)?;
    in_full_precision([&logits.detach()], |[logits]| {
        let kind = logits.kind();
        let p = logits.softmax(1, kind);
        let entropy = -(&p * (&p + 1e-10).log()).sum_dim_intlist([1i64].as_slice(), false, kind);
        let labelled = labels.ne(IGNORE);
        // Pixels without a label are out of the ranking.
        let ranked = entropy.where_self(&labelled, &Tensor::from(f64::NAN).to_kind(kind).to_device(entropy.device()));
        let threshold = ranked.flatten(0, -1).nanquantile_scalar(percent / 100.0, None, false, "linear");
        Ok(entropy.ge_tensor(&threshold).logical_and(&labelled))
    })
}
