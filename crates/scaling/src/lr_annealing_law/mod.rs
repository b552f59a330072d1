//! Scaling Law with Learning Rate Annealing (Tissue, Wang and Wang, 2024; arXiv 2408.11029).
//!
//! The validation loss at every step of a run follows from its learning-rate schedule `eta` alone:
//! `L(s) = L0 + A S1(s)^-alpha - C S2(s)`, where the forward area `S1(s) = sum_{i<=s} eta_i` says how far training has moved
//! and the annealing area `S2(s) = sum_{i<=s} m_i`, `m_i = lambda m_{i-1} + (eta_{i-1} - eta_i)`, how much of the noise floor a
//! falling learning rate has given back (with a delay of about `1/(1-lambda)` steps).
//!
//! Four constants, fitted on one or two curves, predict the loss of unseen schedules at every step.
//!
//! ```
//! use autodidact_scaling::lr_annealing_law::{AnnealAreas, WarmupTreatment};
//! // One drop by 0.5 at step 2, lambda 0.5: momentum 0.5, then 0.25; its sum after three steps 0.75.
//! let areas = AnnealAreas::from_lrs(&[1.0, 1.0, 0.5, 0.5], 0, 0.5, WarmupTreatment::AsPeak).unwrap();
//! assert_eq!(areas.s1, [1.0, 2.0, 2.5, 3.0]);
//! assert_eq!(areas.s2, [0.0, 0.0, 0.5, 0.75]);
//! ```

mod fit;
mod multi_power;
mod plan;
mod published;

pub use fit::{Curve, FitOptions, FitReport, fit, fit_lambda};
pub use multi_power::{ChinchillaData, MultiPowerLaw};
pub use plan::{compare_schedules, optimal_cooldown_ratio};
pub use published::published_curves;

use autodidact_core::error::check_range;
use autodidact_core::schedule::Schedule;
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// What warm-up contributes to the areas; it must not make `S2` negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum WarmupTreatment {
    /// Learning rates of the warm-up count as the peak (the paper).
    #[default]
    AsPeak,
    /// `S1` sums the true rates; differences up to the end of warm-up do not enter `S2`.
    TrueAreaNoDelta,
}

/// Forward and annealing areas at every step `0..=T` of a schedule.
#[derive(Debug, Clone, PartialEq)]
pub struct AnnealAreas {
    /// `S1`, in units of the learning rate; the sum includes step 0, as in the published listing.
    pub s1: Vec<f64>,
    /// `S2`, in units of the learning rate; positive after drops, negative after rises.
    pub s2: Vec<f64>,
}

impl AnnealAreas {
    /// Areas of learning rates `eta_0, eta_1, ...`, of which the first `warmup` are warm-up.
    ///
    /// # Errors
    /// A rate that is negative or not finite, `lambda` outside `[0, 1]`, a warm-up as long as the run.
    pub fn from_lrs(lrs: &[f64], warmup: usize, lambda: f64, treatment: WarmupTreatment) -> Result<Self> {
        check_range("lambda", lambda, 0.0..=1.0)?;
        if warmup >= lrs.len() {
            return Err(Error::value("learning rates", format!("more than the {warmup} steps of warm-up"), lrs.len()));
        }
        let peak = lrs[warmup];
        let (mut s1, mut s2) = (Vec::with_capacity(lrs.len()), Vec::with_capacity(lrs.len()));
        let (mut sum1, mut sum2, mut momentum, mut last) = (0.0, 0.0, 0.0, None);
        for (i, &lr) in lrs.iter().enumerate() {
            check_range("learning rate", lr, 0.0..)?;
            let warming = i < warmup;
            sum1 += if warming && treatment == WarmupTreatment::AsPeak { peak } else { lr };
            if let Some(last) = last.filter(|_| !warming && i > warmup) {
                momentum = lambda * momentum + (last - lr);
            }
            sum2 += momentum;
            last = Some(lr);
            s1.push(sum1);
            s2.push(sum2);
        }
        Ok(Self { s1, s2 })
    }

    /// Areas of a schedule.
    ///
    /// # Errors
    /// As [`from_lrs`](Self::from_lrs).
    pub fn of(schedule: &Schedule, lambda: f64, treatment: WarmupTreatment) -> Result<Self> {
        Self::from_lrs(&schedule.lrs(), schedule.warmup, lambda, treatment)
    }
}

/// The law's constants.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AnnealLaw {
    /// Irreducible loss `L0`, nats per token.
    pub l0: f64,
    /// `A`.
    pub a: f64,
    /// `alpha`.
    pub alpha: f64,
    /// `C`; about proportional to `1 - lambda`.
    pub c: f64,
    /// Decay of the annealing momentum; 0.999 in the paper (runs of tens of thousands of steps).
    pub lambda: f64,
    /// Warm-up in the areas that the constants belong to.
    #[serde(default)]
    pub warmup: WarmupTreatment,
}

impl AnnealLaw {
    /// The loss at given areas, nats per token.
    pub fn loss(&self, s1: f64, s2: f64) -> f64 {
        self.l0 + self.a * s1.powf(-self.alpha) - self.c * s2
    }

    /// The loss at every step `0..=T` of a schedule.
    ///
    /// # Errors
    /// A schedule that [`AnnealAreas::of`] refuses.
    pub fn curve(&self, schedule: &Schedule) -> Result<Vec<f64>> {
        let areas = AnnealAreas::of(schedule, self.lambda, self.warmup)?;
        Ok(areas.s1.iter().zip(&areas.s2).map(|(&s1, &s2)| self.loss(s1, s2)).collect())
    }

    /// The loss at step `T` of a schedule; NaN for one that [`curve`](Self::curve) refuses.
    pub fn final_loss(&self, schedule: &Schedule) -> f64 {
        self.curve(schedule).ok().and_then(|c| c.last().copied()).unwrap_or(f64::NAN)
    }

    /// The same law with all learning rates in units `factor` times as large: `S1`, `S2` shrink, `A` and `C` make up for it.
    pub fn rescaled(&self, factor: f64) -> Self {
        Self { a: self.a * factor.powf(self.alpha), c: self.c / factor, ..*self }
    }
}

/// The additive extension over model sizes `N`: `L0 + A S1^-alpha + B N^-beta - C S2 N^-gamma` (`gamma` 0 by default; the form is
/// reconstructed).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SizedAnnealLaw {
    /// The law of the schedule.
    pub law: AnnealLaw,
    /// `B`.
    pub b: f64,
    /// `beta`.
    pub beta: f64,
    /// Exponent of the size in the annealing term.
    pub gamma: f64,
}

impl SizedAnnealLaw {
    /// The loss of a model of `n` parameters at given areas.
    pub fn loss(&self, s1: f64, s2: f64, n: f64) -> f64 {
        let AnnealLaw { l0, a, alpha, c, .. } = self.law;
        l0 + a * s1.powf(-alpha) + self.b * n.powf(-self.beta) - c * s2 * n.powf(-self.gamma)
    }
}
