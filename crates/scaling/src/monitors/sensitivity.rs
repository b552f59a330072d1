//! Sensitivity of the final loss to the learning rate.

use autodidact_core::error::check_range;
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// How far the loss at a typical learning rate is from that at the best one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LrSensitivity {
    /// `mean_eta min(l(eta), l0) - min_eta l(eta)`, in the loss's unit.
    pub value: f64,
    /// The learning rate of the lowest loss.
    pub best_lr: f64,
    /// The lowest loss.
    pub best_loss: f64,
    /// Runs that ended at or above the initial loss, or without a finite one.
    pub diverged: usize,
}

/// Learning-rate sensitivity: the mean of the final losses over a grid of learning rates, each at most the loss at the start `l0`, above
/// the lowest. Points are (peak learning rate, final loss); a loss that is not finite counts as `l0`. Adding a constant to all losses
/// changes nothing, so show the curve with it.
///
/// ```
/// use autodidact_scaling::monitors::lr_sensitivity;
/// let lrs = [1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1];
/// let losses = [2.568, 2.412, 2.322, 2.415, 2.469, 2.509];
/// let curve: Vec<(f64, f64)> = lrs.into_iter().zip(losses).collect();
/// assert!((lr_sensitivity(&curve, 4.577).unwrap().value - 0.1272).abs() < 1e-4);
/// ```
///
/// # Errors
/// No points, a learning rate that is not positive or comes twice, a start that is not finite, no finite loss.
pub fn lr_sensitivity(points: &[(f64, f64)], l0: f64) -> Result<LrSensitivity> {
    check_range("loss at the start", l0, ..)?;
    for (i, (lr, _)) in points.iter().enumerate() {
        check_range("learning rate", *lr, f64::MIN_POSITIVE..)?;
        if points[..i].iter().any(|p| p.0 == *lr) {
            return Err(Error::value("learning rates", "each once", format!("{lr} twice")));
        }
    }
    let finite = points.iter().copied().filter(|p| p.1.is_finite());
    let Some((best_lr, best_loss)) = finite.min_by(|a, b| a.1.total_cmp(&b.1)) else {
        return Err(Error::value("losses of the sweep", "at least one finite one", format!("{} points", points.len())));
    };
    let capped = |loss: f64| if loss.is_finite() { loss.min(l0) } else { l0 };
    let mean = points.iter().map(|p| capped(p.1)).sum::<f64>() / points.len() as f64;
    let diverged = points.iter().filter(|p| !p.1.is_finite() || p.1 >= l0).count();
    Ok(LrSensitivity { value: mean - best_loss, best_lr, best_loss, diverged })
}

/// The lowest sensitivity over ranges `(lowest, highest)` of learning rates: for comparisons of settings that shift the best learning rate,
/// which would otherwise count as sensitivity.
///
/// # Errors
/// As [`lr_sensitivity`], for each range; no ranges.
pub fn lr_sensitivity_over_ranges(points: &[(f64, f64)], l0: f64, ranges: &[(f64, f64)]) -> Result<LrSensitivity> {
    let inside = |&(low, high): &(f64, f64)| {
        // Ends that were written as the grid's values are inside, whatever their rounding.
        let inside = |lr: f64| (low * (1.0 - 1e-9)..=high * (1.0 + 1e-9)).contains(&lr);
        lr_sensitivity(&points.iter().copied().filter(|p| inside(p.0)).collect::<Vec<_>>(), l0)
    };
    let all = ranges.iter().map(inside).collect::<Result<Vec<_>>>()?;
    let least = all.into_iter().min_by(|a, b| a.value.total_cmp(&b.value));
    least.ok_or_else(|| Error::value("ranges of learning rates", "at least one", "none"))
}
