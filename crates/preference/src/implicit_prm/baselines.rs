//! Reward models with a head, labels of steps by Monte-Carlo rollouts (Wang et al. 2023, Math-Shepherd, 2312.08935), and what they cost.

use crate::losses::logistic_cross_entropy;
use autodidact_core::error::{check_range, check_values};
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::nn::{Init, Linear, LinearConfig, Module, Path};
use tch::{Kind, Tensor};

/// One number from a hidden state: at the last token of a response the logit of an outcome reward model, at the last token of each step
/// that of a process reward model. Starts at 0, so that an untrained one says 1/2 everywhere.
#[derive(Debug)]
pub struct ValueHead {
    linear: Linear,
}

impl ValueHead {
    /// A head under `p` on hidden states of a width.
    ///
    /// # Errors
    /// A width below 1.
    pub fn new(p: Path, width: i64) -> Result<Self> {
        check_range("width", width as f64, 1.0..)?;
        let zero = Init::Const(0.0);
        let config = LinearConfig { ws_init: zero, bs_init: Some(zero), bias: true };
        Ok(Self { linear: tch::nn::linear(p, width, 1, config) })
    }

    /// Logits `[B, S]` at the places `[B, S]` (Int64, columns) of hidden states `[B, T, H]`.
    ///
    /// # Errors
    /// Shapes that do not fit; (on the CPU) places outside.
    pub fn forward(&self, hidden: &Tensor, places: &Tensor) -> Result<Tensor> {
        let (b, t, width) = match hidden.size()[..] {
            [b, t, h] if h == self.linear.ws.size()[1] => (b, t, h),
            _ => return Err(Error::shape("hidden", format!("[B, T, {}]", self.linear.ws.size()[1]), hidden)),
        };
        let count = match places.size()[..] {
            [rows, s] if rows == b && s > 0 && places.kind() == Kind::Int64 => s,
            _ => return Err(Error::shape("places", format!("Int64 [{b}, S]"), places)),
        };
        check_values("places", places, 0.0..t as f64)?;
        let at = places.unsqueeze(2).expand([b, count, width], false);
        Ok(self.linear.forward(&hidden.gather(1, &at, false)).squeeze_dim(2))
    }
}

/// Binary cross entropy of `logits` with labels from 0 (wrong) to 1 (right) of the same shape, in nats, entry by entry. No gradient
/// comes from labels.
///
/// # Errors
/// Shapes that differ, (on the CPU) labels outside `[0, 1]`.
pub fn label_loss(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    if labels.size() != logits.size() {
        return Err(Error::shape("labels", format!("{:?}, as the logits", logits.size()), labels));
    }
    check_values("labels", labels, 0.0..=1.0)?;
    Ok(logistic_cross_entropy(logits, labels))
}

/// How rollouts label a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MonteCarlo {
    /// 1 if any comes to the right answer.
    Hard,
    /// The share that does.
    Soft,
}

impl MonteCarlo {
    /// The label from the number of right rollouts.
    ///
    /// # Errors
    /// No rollouts, more right ones than there are.
    pub fn label(self, right: usize, rollouts: usize) -> Result<f64> {
        if rollouts == 0 || right > rollouts {
            return Err(Error::value("right rollouts", format!("up to {rollouts}, of at least one"), right));
        }
        Ok(match self {
            Self::Hard => f64::from(u8::from(right > 0)),
            Self::Soft => right as f64 / rollouts as f64,
        })
    }
}

/// Labels of steps from rollouts: each prefix (the problem with the response up to the step's end) is completed `rollouts` times.
/// `complete` is called once, with every prefix `rollouts` times in a row, and says of each whether its completion is right, so that
/// all can be sampled in batches.
///
/// ```
/// use autodidact_preference::implicit_prm::{MonteCarlo, monte_carlo_step_labels};
/// use autodidact_core::{Error, Result};
/// let right = |all: &[&str]| -> Result<Vec<bool>> { Ok((0..all.len()).map(|i| all[i] == "good" && i != 1).collect()) };
/// let labels = |estimate| monte_carlo_step_labels(&["good", "bad"], 4, estimate, right).unwrap();
/// assert_eq!(labels(MonteCarlo::Soft), [0.75, 0.0]);
/// assert_eq!(labels(MonteCarlo::Hard), [1.0, 0.0]);
/// ```
///
/// # Errors
/// No rollouts; those of `complete`; another number of answers from it.
pub fn monte_carlo_step_labels<P: Clone, E: From<Error>>(
    prefixes: &[P],
    rollouts: usize,
    estimate: MonteCarlo,
    complete: impl FnOnce(&[P]) -> Result<Vec<bool>, E>,
) -> Result<Vec<f64>, E> {
    if rollouts == 0 {
        return Err(Error::value("rollouts", "at least one", rollouts).into());
    }
    let repeated: Vec<P> = prefixes.iter().flat_map(|p| std::iter::repeat_n(p, rollouts).cloned()).collect();
    let right = complete(&repeated)?;
    if right.len() != repeated.len() {
        return Err(Error::value("completions", format!("{} outcomes", repeated.len()), right.len()).into());
    }
    let label = |of_one: &[bool]| Ok(estimate.label(of_one.iter().filter(|r| **r).count(), rollouts)?);
    right.chunks(rollouts).map(label).collect()
}

/// What a reward model costs, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TokenCount {
    /// Sampled, for data and labels.
    pub generated: u64,
    /// Trained on, each epoch counted.
    pub trained: u64,
}

impl TokenCount {
    /// Both.
    pub fn total(&self) -> u64 {
        self.generated + self.trained
    }

    /// Floating-point operations with a model of so many weights: 2 per weight and token generated, 6 per weight and token trained on.
    pub fn flops(&self, weights: u64) -> f64 {
        weights as f64 * (2.0 * self.generated as f64 + 6.0 * self.trained as f64)
    }
}
