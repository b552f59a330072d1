//! Unraveling the Mystery of Scaling Laws: Part I (Su, Tian, Shen and Cai, 2024; arXiv 2403.06563).
//!
//! The constants of a scaling law belong to one's own data, tokenizer, context and optimizer; the report estimates all six of them on
//! small models and then tells a large model's whole loss trajectory at any batch size. With `N` parameters (without embeddings), `S`
//! steps of `B` tokens and test loss `L` (Kaplan et al., 2020; McCandlish et al., 2018):
//!
//! `L(N, S_min) = (N_c/N)^alpha_N + (S_c/S_min)^alpha_S`, `B_crit(L) = B_*/L^(1/alpha_B)`, `S = S_min (1 + B_crit(L)/B)`.
//!
//! Only over `S_min`, the steps that endless batches would take, is the loss a clean power law: every run is converted to it first
//! ([`estimate_all`]).
//!
//! ```
//! use autodidact_scaling::scaling_law_estimation::KaplanLaw;
//! let law = KaplanLaw::PUBLISHED;
//! assert!((law.min_loss(6e7) - 2.91526).abs() < 1e-5);
//! // 60 M parameters after 10,000 steps of 500,000 tokens, and how many steps that took.
//! let loss = law.loss_at(6e7, 1e4, 5e5)?;
//! assert!((loss - 3.459549).abs() < 1e-6);
//! let needs = law.requirements(6e7, loss, 5e5)?;
//! assert!((needs.steps - 1e4).abs() < 1e-6 && (needs.s_min - 4675.28).abs() < 1e-2);
//! # Ok::<(), autodidact_core::Error>(())
//! ```

mod estimate;
mod noise_scale;
mod refine;

pub use estimate::{EstimateOptions, FitReport, Run, contour, estimate_all, first_reach, fit_b_crit, fit_n, fit_s};
pub use noise_scale::GradientNoiseScale;
pub use refine::refine;

use crate::fit::{BatchTradeoff, CriticalBatchLaw, PowerLaw};
use autodidact_core::error::check_range;
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};
use std::ops::Bound::{Excluded, Unbounded};

/// The six constants.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct KaplanLaw {
    /// `N_c`, parameters.
    pub n_c: f64,
    /// `alpha_N`.
    pub alpha_n: f64,
    /// `S_c`, steps.
    pub s_c: f64,
    /// `alpha_S`.
    pub alpha_s: f64,
    /// `B_*`, tokens; 0 for a law that knows no batch size.
    pub b_star: f64,
    /// `alpha_B`.
    pub alpha_b: f64,
}

/// What it takes to bring a model to a loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Requirements {
    /// Fewest steps, at endless batches.
    pub s_min: f64,
    /// Fewest tokens, at the smallest batches.
    pub e_min: f64,
    /// Steps at the batch size asked for.
    pub steps: f64,
    /// Tokens at the batch size asked for.
    pub tokens: f64,
    /// `steps/s_min`.
    pub time_factor: f64,
    /// `tokens/e_min`.
    pub compute_factor: f64,
}

fn positive(what: &str, value: f64) -> Result<()> {
    check_range(what, value, (Excluded(0.0), Unbounded))
}

impl KaplanLaw {
    /// Kaplan et al.'s constants for WebText2, as this report cites them.
    pub const PUBLISHED: Self =
        Self { n_c: 6.5e13, alpha_n: 0.077, s_c: 2.1e3, alpha_s: 0.76, b_star: 2.1e8, alpha_b: 0.21 };

    /// The loss of `n` parameters after endless training.
    pub fn min_loss(&self, n: f64) -> f64 {
        PowerLaw { x0: self.n_c, alpha: self.alpha_n }.at(n)
    }

    /// The loss of `n` parameters after `s_min` steps of endless batches.
    pub fn loss_min_steps(&self, n: f64, s_min: f64) -> f64 {
        self.min_loss(n) + (self.s_c / s_min).powf(self.alpha_s)
    }

    /// The critical batch size at a loss, tokens.
    pub fn b_crit(&self, loss: f64) -> f64 {
        CriticalBatchLaw { b_star: self.b_star, alpha_b: self.alpha_b }.at(loss)
    }

    /// The loss of `n` parameters after `s` steps of `b` tokens: the root of `L = L(N) + (S_c (1 + B_crit(L)/B)/S)^alpha_S` above `L(N)`,
    /// to rounding.
    ///
    /// # Errors
    /// Arguments that are not positive.
    pub fn loss_at(&self, n: f64, s: f64, b: f64) -> Result<f64> {
        for (what, value) in [("parameters", n), ("steps", s), ("batch size", b)] {
            positive(what, value)?;
        }
        Ok(self.root(self.min_loss(n), s, b))
    }

    /// Newton's steps, bisection where they leave the bracket; the right side falls in `L`, so that the root is the only one.
    fn root(&self, floor: f64, s: f64, b: f64) -> f64 {
        let (ratio, k) = (self.s_c / s, 1.0 / self.alpha_b);
        let excess = |l: f64| {
            let q = self.b_star * l.powf(-k) / b;
            let term = (ratio * (1.0 + q)).powf(self.alpha_s);
            (l - floor - term, 1.0 + term * self.alpha_s * q / (1.0 + q) * k / l)
        };
        let (mut low, mut high) = (floor, floor + ratio.powf(self.alpha_s));
        while excess(high).0 < 0.0 && high < 1e12 {
            high *= 2.0;
        }
        let mut l = 0.5 * (low + high);
        for _ in 0..200 {
            let (value, slope) = excess(l);
            if value < 0.0 {
                low = l
            } else {
                high = l
            }
            let newton = l - value / slope;
            let next = if newton > low && newton < high { newton } else { 0.5 * (low + high) };
            if (next - l).abs() <= 1e-15 * l {
                return next;
            }
            l = next;
        }
        l
    }

    /// The losses of `n` parameters at batch size `b` after each number of `steps`.
    ///
    /// # Errors
    /// As [`loss_at`](Self::loss_at).
    pub fn trajectory(&self, n: f64, b: f64, steps: &[f64]) -> Result<Vec<f64>> {
        steps.iter().map(|&s| self.loss_at(n, s, b)).collect()
    }

    /// What it takes to bring `n` parameters to a loss at batch size `b`.
    ///
    /// # Errors
    /// Arguments that are not positive, or a loss that `n` parameters never reach.
    pub fn requirements(&self, n: f64, loss: f64, b: f64) -> Result<Requirements> {
        positive("parameters", n)?;
        positive("batch size", b)?;
        let floor = self.min_loss(n);
        if !(loss.is_finite() && loss > floor) {
            return Err(Error::value("loss", format!("above {floor:.5}, which {n:e} parameters never reach"), loss));
        }
        let s_min = self.s_c * (loss - floor).powf(-1.0 / self.alpha_s);
        let to_loss = BatchTradeoff { s_min, e_min: s_min * self.b_crit(loss) };
        let (steps, tokens) = (to_loss.steps(b), to_loss.tokens(b));
        let e_min = to_loss.e_min;
        Ok(Requirements { s_min, e_min, steps, tokens, time_factor: steps / s_min, compute_factor: tokens / e_min })
    }
}

/// Parameters of `layers` standard transformer blocks of a width, without embeddings, biases and norms: `12 L d^2`.
pub fn block_parameters(layers: usize, width: usize) -> f64 {
    12.0 * layers as f64 * (width * width) as f64
}

/// FLOP of training `n` parameters on `tokens`: `6 N D`.
pub fn training_flop(n: f64, tokens: f64) -> f64 {
    6.0 * n * tokens
}
