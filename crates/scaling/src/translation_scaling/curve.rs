//! BLEU over the loss.

use super::logs;
use autodidact_core::Result;
use autodidact_core::fit::LevenbergMarquardt;
use autodidact_core::stats::{mean, slope};
use autodidact_core::{Error, stats};
use serde::{Deserialize, Serialize};

/// The form of a [`BleuLossCurve`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CurveForm {
    /// `factor L^-rate`, the form that Ghorbani et al. (2021) find on texts whose target is natural.
    Power,
    /// `factor exp(-rate L)`, the form of Gordon, Duh and Kaplan (2021).
    Exponential,
}

/// BLEU as a function of the cross-entropy `L` (nats per token).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BleuLossCurve {
    /// Its form.
    pub form: CurveForm,
    /// BLEU at a loss of 1 (power) or 0 (exponential).
    pub factor: f64,
    /// How fast BLEU falls: per logarithm of the loss (power), or per nat (exponential).
    pub rate: f64,
}

/// A fitted curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CurveFit {
    /// The curve.
    pub curve: BleuLossCurve,
    /// `1 - SS_res/SS_tot` of BLEU.
    pub r2: f64,
}

impl BleuLossCurve {
    /// BLEU at a loss.
    pub fn at(&self, loss: f64) -> f64 {
        self.factor
            * match self.form {
                CurveForm::Power => loss.powf(-self.rate),
                CurveForm::Exponential => (-self.rate * loss).exp(),
            }
    }

    /// Least squares in BLEU, on points `(loss, BLEU)`.
    ///
    /// # Errors
    /// Fewer than three points, numbers that are not positive, losses that are all equal.
    pub fn fit(form: CurveForm, points: &[(f64, f64)]) -> Result<CurveFit> {
        let (x, y) = logs(points, 3)?;
        // BLEU is e^(a - b x) in both forms; the straight line of its logarithm is where the search starts.
        let x: Vec<f64> = match form {
            CurveForm::Power => x,
            CurveForm::Exponential => points.iter().map(|p| p.0).collect(),
        };
        let steep = slope(&x, &y)?;
        let centre = mean(&x);
        let residual = |p: &[f64], i: usize, gradient: &mut [f64]| {
            let off = x[i] - centre;
            let value = (p[0] - p[1] * off).exp();
            gradient.copy_from_slice(&[value, -off * value]);
            value - points[i].1
        };
        let found = LevenbergMarquardt::default().minimise(&[mean(&y), -steep], x.len(), residual);
        let found = found.ok_or_else(|| Error::Failed("the curve of BLEU has no value at its start".into()))?;
        let curve = Self { form, factor: (found.x[0] + found.x[1] * centre).exp(), rate: found.x[1] };
        let bleu: Vec<f64> = points.iter().map(|p| p.1).collect();
        let residual: f64 = points.iter().map(|p| (p.1 - curve.at(p.0)).powi(2)).sum();
        let total = stats::variance(&bleu) * (bleu.len() as f64 - 1.0);
        Ok(CurveFit { curve, r2: 1.0 - residual / total })
    }
}
