//! The gradient noise scale (McCandlish et al., 2018): a cheap comparator for the critical batch size.

use autodidact_core::error::check_range;
use autodidact_core::{Error, Result};
use std::ops::Bound::{Excluded, Unbounded};

/// Size and noise of a gradient, from mean squared norms at two batch sizes: `E|g_B|^2 = |G|^2 + tr(Sigma)/B`.
///
/// ```
/// use autodidact_scaling::scaling_law_estimation::GradientNoiseScale;
/// // |G|^2 = 2, tr(Sigma) = 12: squared norms 5 and 3 at batches of 4 and 12.
/// let scale = GradientNoiseScale::from_norms((4.0, 5.0), (12.0, 3.0))?;
/// assert!((scale.gradient - 2.0).abs() < 1e-12 && (scale.noise - 12.0).abs() < 1e-12);
/// assert!((scale.b_simple() - 6.0).abs() < 1e-12);
/// # Ok::<(), autodidact_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GradientNoiseScale {
    /// Unbiased estimate of `|G|^2`; noise may make it negative.
    pub gradient: f64,
    /// Unbiased estimate of the trace of the covariance of one example's gradient.
    pub noise: f64,
}

impl GradientNoiseScale {
    /// From `(batch size, mean squared norm)` of two batch sizes: `|G|^2 = (B1 g1 - B2 g2)/(B1 - B2)`,
    /// `tr(Sigma) = (g2 - g1)/(1/B2 - 1/B1)`. Average both over many batches before dividing them.
    ///
    /// # Errors
    /// Batch sizes that are equal or not positive, norms that are negative.
    pub fn from_norms((b1, g1): (f64, f64), (b2, g2): (f64, f64)) -> Result<Self> {
        for (b, g) in [(b1, g1), (b2, g2)] {
            check_range("batch size", b, (Excluded(0.0), Unbounded))?;
            check_range("squared norm", g, 0.0..)?;
        }
        if b1 == b2 {
            return Err(Error::value("batch sizes", "two different ones", format!("{b1} twice")));
        }
        Ok(Self { gradient: (b1 * g1 - b2 * g2) / (b1 - b2), noise: (g2 - g1) / (1.0 / b2 - 1.0 / b1) })
    }

    /// `tr(Sigma)/|G|^2`, in examples.
    pub fn b_simple(&self) -> f64 {
        self.noise / self.gradient
    }
}
