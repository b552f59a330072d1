//! Huber fits of logarithms from many starts, the usual way to fit scaling laws.

use super::{Lbfgs, Minimum, from_starts};
use crate::error::check_range;
use crate::{Error, Result};

/// Huber's loss and its derivative: `r^2/2` within `delta`, `delta*|r| - delta^2/2` outside.
///
/// ```
/// assert_eq!(autodidact_core::fit::huber(0.5, 1.0), (0.125, 0.5));
/// assert_eq!(autodidact_core::fit::huber(-3.0, 1.0), (2.5, -1.0));
/// ```
pub fn huber(r: f64, delta: f64) -> (f64, f64) {
    if r.abs() <= delta { (r * r / 2.0, r) } else { (delta * r.abs() - delta * delta / 2.0, delta * r.signum()) }
}

/// Minimises `sum_i Huber_delta(ln y_i - ln f_i(p))` over the parameters `p` of a positive model `f`.
#[derive(Debug, Clone)]
pub struct RobustFit {
    /// Width of the quadratic part; 1e-3 in Hoffmann et al. (2022) and its successors.
    pub delta: f64,
    /// The minimiser, with the parameters' bounds.
    pub minimiser: Lbfgs,
}

impl Default for RobustFit {
    fn default() -> Self {
        Self { delta: 1e-3, minimiser: Lbfgs::default() }
    }
}

/// A fit from many starts.
#[derive(Debug, Clone)]
pub struct FitReport {
    /// The lowest minimum.
    pub best: Minimum,
    /// Starts that lay in the model's domain.
    pub starts: usize,
    /// Starts that ended within 1e-4 (relative) of the best objective.
    pub agreeing: usize,
}

impl RobustFit {
    /// Fits `model(p, i, gradient) -> f_i(p)`, which writes the derivatives of `f_i` by `p`, to the observations `y`.
    ///
    /// # Errors
    /// Observations that are not positive, or no start in the model's domain.
    pub fn run<M>(&self, y: &[f64], model: M, starts: &[Vec<f64>]) -> Result<FitReport>
    where
        M: Fn(&[f64], usize, &mut [f64]) -> f64 + Sync,
    {
        check_range("Huber delta", self.delta, f64::MIN_POSITIVE..)?;
        if let Some(bad) = y.iter().find(|v| !(v.is_finite() && **v > 0.0)) {
            return Err(Error::value("observations", "positive finite values", bad));
        }
        if y.is_empty() {
            return Err(Error::value("observations", "at least one", "none"));
        }
        let logs: Vec<f64> = y.iter().map(|v| v.ln()).collect();
        let fit = |x0: &[f64]| {
            let mut row = vec![0.0; x0.len()];
            self.minimiser.minimise(x0, |p, g| {
                g.fill(0.0);
                let mut sum = 0.0;
                for (i, log) in logs.iter().enumerate() {
                    let f = model(p, i, &mut row);
                    if !(f.is_finite() && f > 0.0) {
                        return f64::INFINITY;
                    }
                    let (loss, slope) = huber(log - f.ln(), self.delta);
                    sum += loss;
                    g.iter_mut().zip(&row).for_each(|(g, d)| *g -= slope * d / f);
                }
                sum
            })
        };
        let minima = from_starts(starts, fit);
        let best = minima.iter().min_by(|a, b| a.value.total_cmp(&b.value)).cloned();
        let best = best.ok_or_else(|| Error::Failed("no starting point lies in the model's domain".into()))?;
        let close = |m: &&Minimum| m.value <= best.value * (1.0 + 1e-4) + f64::MIN_POSITIVE;
        let agreeing = minima.iter().filter(close).count();
        Ok(FitReport { best, starts: minima.len(), agreeing })
    }
}
