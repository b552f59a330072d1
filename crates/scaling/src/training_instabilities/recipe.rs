//! The optimizer: AdamW with its two kinds of weight decay and per-layer learning rates.

use super::Proxy;
use autodidact_core::error::check_range;
use autodidact_core::optim::{Adam, Group, Optimizer, Rule, sorted_trainables};
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::nn::VarStore;

/// Weight decay `lambda`, of all parameters alike (norms' gains too, as in the paper).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decay {
    /// Follows the schedule, not the peak: `p <- p (1 - s lambda)` (1e-4 in the paper).
    Independent(f64),
    /// AdamW of libraries: `p <- p (1 - s eta lambda)` (0.1 in the paper).
    Coupled(f64),
}

/// Parts of the maximal-update parametrisation (Yang et al., 2022; arXiv 2203.03466).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MuParam {
    /// None of them.
    Standard,
    /// Learning rates of hidden matrices times `base / fan_in`.
    Simple,
    /// The head's initialisation too.
    Intermediate,
    /// Scores over `d_h` and queries from zero too.
    Full,
}

/// How a network is optimised.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// Weight decay.
    pub decay: Decay,
    /// Adam's decay rates of the moments.
    pub betas: (f64, f64),
    /// Adam's epsilon.
    pub eps: f64,
}

impl Default for Recipe {
    fn default() -> Self {
        Self { decay: Decay::Independent(1e-4), betas: (0.9, 0.95), eps: 1e-8 }
    }
}

/// The matrices whose inputs grow with the model.
const HIDDEN: [&str; 4] = ["attention.qkv.weight", "attention.out.weight", "up.weight", "down.weight"];

impl Recipe {
    /// Adam's constants.
    pub fn adam(&self) -> Adam {
        Adam { betas: self.betas, eps: self.eps }
    }

    /// The decay that AdamW is told, at a peak rate and a group's multiple of it.
    pub fn weight_decay(&self, peak: f64, scale: f64) -> f64 {
        match self.decay {
            Decay::Coupled(lambda) => lambda,
            // AdamW multiplies by its learning rate, s * peak * scale.
            Decay::Independent(lambda) => lambda / (peak * scale),
        }
    }

    /// AdamW over the parameters of a [`Proxy`]'s network in `vs`, for a schedule of this peak.
    ///
    /// # Errors
    /// A peak that is not positive, constants out of range, a network without hidden matrices.
    pub fn optimizer(&self, vs: &VarStore, proxy: &Proxy, peak: f64) -> Result<Optimizer> {
        check_range("peak learning rate", peak, f64::MIN_POSITIVE..)?;
        let (Decay::Independent(lambda) | Decay::Coupled(lambda)) = self.decay;
        check_range("weight decay", lambda, 0.0..)?;
        let hidden = |name: &str| HIDDEN.iter().any(|h| name.ends_with(h));
        let (hidden, rest): (Vec<_>, Vec<_>) = sorted_trainables(vs).into_iter().partition(|(name, _)| hidden(name));
        if hidden.is_empty() {
            return Err(Error::value("network", "one of this module's", "one without its hidden matrices"));
        }
        // Every hidden matrix's inputs are a fixed multiple of the width.
        let scale = match proxy.mu {
            MuParam::Standard => 1.0,
            _ => proxy.base_width as f64 / proxy.width as f64,
        };
        let group = |params, scale| Group::of(params, self.weight_decay(peak, scale)).scaled(scale);
        Optimizer::new(Rule::AdamW(self.adam()), vec![group(hidden, scale), group(rest, 1.0)])
    }
}
