//! What the law is compared with: the multi-power law of loss curves, and the data term of Chinchilla's law for final losses.

use autodidact_core::fit::{Lbfgs, RobustFit, grid};
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// The multi-power law (Luo et al., 2025; arXiv 2503.12811):
/// `L(t) = L0 + A S1(t)^-alpha - B sum_{k<=t} (eta_{k-1} - eta_k) (1 - (1 + C eta_k^-gamma S_k(t))^-beta)`,
/// `S_k(t) = sum_{i=k..t} eta_i`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MultiPowerLaw {
    /// Irreducible loss.
    pub l0: f64,
    /// `A`.
    pub a: f64,
    /// `alpha`.
    pub alpha: f64,
    /// `B`.
    pub b: f64,
    /// `beta`.
    pub beta: f64,
    /// `C`.
    pub c: f64,
    /// `gamma`.
    pub gamma: f64,
}

impl MultiPowerLaw {
    /// The loss at `step` of learning rates `eta_0, eta_1, ...`; work proportional to the number of drops before it.
    ///
    /// # Errors
    /// A step beyond the run.
    pub fn loss_at(&self, lrs: &[f64], step: usize) -> Result<f64> {
        if step >= lrs.len() {
            return Err(Error::value("step", format!("below {}", lrs.len()), step));
        }
        let mut area = 0.0; // S_k(step) while k counts down
        let mut gain = 0.0;
        for k in (1..=step).rev() {
            area += lrs[k];
            let drop = lrs[k - 1] - lrs[k];
            // At rate 0 the power law of the remaining area has saturated.
            let saturation = if lrs[k] > 0.0 {
                1.0 - (1.0 + self.c * lrs[k].powf(-self.gamma) * area).powf(-self.beta)
            } else {
                1.0
            };
            gain += drop * saturation;
        }
        let s1 = area + lrs[0];
        Ok(self.l0 + self.a * s1.powf(-self.alpha) - self.b * gain)
    }
}

/// Chinchilla's law in the amount of training alone, for final losses of runs of one model and one shape of schedule:
/// `L(T) = L0 + A T^-alpha`. Each point costs a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ChinchillaData {
    /// Irreducible loss.
    pub l0: f64,
    /// `A`.
    pub a: f64,
    /// `alpha`.
    pub alpha: f64,
}

impl ChinchillaData {
    /// The final loss of a run of `steps`.
    pub fn loss(&self, steps: f64) -> f64 {
        self.l0 + self.a * steps.powf(-self.alpha)
    }

    /// Fits `(steps, final loss)` points by Huber's loss of log residuals.
    ///
    /// # Errors
    /// Fewer than three points, or values that are not positive.
    pub fn fit(points: &[(f64, f64)], delta: f64) -> Result<Self> {
        if points.len() < 3 || points.iter().any(|p| !(p.0 > 0.0 && p.0.is_finite())) {
            return Err(Error::value("final losses", "three or more runs of positive length", points.len()));
        }
        let losses: Vec<f64> = points.iter().map(|p| p.1).collect();
        let largest = losses.iter().copied().fold(0.0, f64::max);
        // T relative to its geometric mean keeps A of the order of the loss.
        let centre = points.iter().map(|p| p.0.ln()).sum::<f64>() / points.len() as f64;
        let logs: Vec<f64> = points.iter().map(|p| p.0.ln() - centre).collect();
        let positive = (0.0, f64::INFINITY);
        let minimiser = Lbfgs { bounds: vec![positive; 3], max_iterations: 5000, ..Default::default() };
        let model = |x: &[f64], i: usize, g: &mut [f64]| {
            let power = (-x[2] * logs[i]).exp();
            g.copy_from_slice(&[1.0, power, -x[1] * power * logs[i]]);
            x[0] + x[1] * power
        };
        let starts = grid(&[&[0.0, largest / 2.0, largest * 0.9], &[largest / 10.0, largest], &[0.1, 0.5, 1.0]]);
        let best = RobustFit { delta, minimiser }.run(&losses, model, &starts)?.best.x;
        Ok(Self { l0: best[0], a: best[1] * (best[2] * centre).exp(), alpha: best[2] })
    }
}
