//! Sparsity as pre-training goes on.

use autodidact_core::error::check_range;
use autodidact_core::masks::Masks;
use autodidact_core::stats::TwoSegments;
use autodidact_core::{Error, Result};
use tch::Kind;

/// Share of the weights under `masks` (masked or not) whose magnitude is below `tau`.
///
/// # Errors
/// A negative `tau`, no weights.
pub fn zero_fraction(masks: &Masks, tau: f64) -> Result<f64> {
    check_range("tau", tau, 0.0..)?;
    check_range("weights", masks.len() as f64, 1.0..)?;
    let below = masks.parameters().map(|(_, p)| p.detach().abs().lt(tau).sum(Kind::Double).double_value(&[]));
    Ok(below.sum::<f64>() / masks.len() as f64)
}

/// The break of a curve of zero fractions over the steps of pre-training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Abruptness {
    /// Step where the slope changes.
    pub at: f64,
    /// Rise per step before it.
    pub before: f64,
    /// And after it.
    pub after: f64,
}

impl Abruptness {
    /// The best fit of two lines to `(step, fraction)`.
    ///
    /// # Errors
    /// Fewer than four points at different steps, values that are not finite.
    pub fn of(curve: &[(f64, f64)]) -> Result<Self> {
        let (x, y): (Vec<f64>, Vec<f64>) = curve.iter().copied().unzip();
        let TwoSegments { at, before, after, .. } = TwoSegments::fit(&x, &y)?;
        Ok(Self { at, before, after })
    }

    /// How many times as fast zeros appear after the break as before it: infinite where none appear before it, 0 where none do after it.
    pub fn ratio(&self) -> f64 {
        super::steepening(self.before, self.after)
    }
}

/// The step at which decay alone brings a weight without gradient from `w` below `tau`: `ln(w / tau) / (lr decay)`, for AdamW's decay at a
/// constant rate. Decay can so fake an abrupt emergence of zeros: compare with this, and with a run without decay.
///
/// ```
/// use autodidact_pruning::essential_sparsity::decayed_at;
/// assert!((decayed_at(1e-2, 1e-3, 1e-3, 0.01)? - 10f64.ln() / 1e-5).abs() < 1e-6);
/// # Ok::<(), autodidact_core::Error>(())
/// ```
///
/// # Errors
/// Numbers that are not positive, a `tau` above `w`.
pub fn decayed_at(w: f64, tau: f64, lr: f64, decay: f64) -> Result<f64> {
    for (what, value) in [("tau", tau), ("lr", lr), ("decay", decay)] {
        check_range(what, value, f64::MIN_POSITIVE..)?;
    }
    if w.is_nan() || w < tau {
        return Err(Error::value("w", format!("tau = {tau} or more"), w));
    }
    Ok((w / tau).ln() / (lr * decay))
}
