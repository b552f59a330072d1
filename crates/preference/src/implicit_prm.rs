//! Implicit process rewards: a model trained on outcomes that scores steps.
//!
//! Yuan, Li, Chen, Cui, Ding, Zhang, Zhou, Liu, Peng: *Free Process Rewards without Process Labels*, ICML 2025, arXiv 2412.01981.
//!
//! Let a reward model of whole responses be the log-ratio of a policy to a reference,
//!
//! ```text
//! r(y) = beta sum_i log pi(y_i|y_<i) / pi_ref(y_i|y_<i)          (sums over response tokens, never means)
//! ```
//!
//! and train it on outcome labels with any loss ([`ImplicitRewardLoss`]). Then the same sum over a prefix, `q_t`, is the exponential
//! average of the rewards of all its continuations by the reference (proposition 3.1), between their mean and their largest (3.2):
//!
//! ```text
//! q_t = beta log E_ref[exp(r(y)/beta) | y_<=t],          E_ref[r | y_<=t] <= q_t <= max r
//! ```
//!
//! so that differences of it are rewards of steps ([`step_rewards`]), without any label of a step.
//!
//! The rest is what such rewards are used for and compared with: scores of responses ([`score`]), the choice among them
//! ([`expected_best_of_n`], [`weighted_majority_vote`]), the first wrong step ([`first_error_f1`]); reward models with a head on hidden
//! states ([`ValueHead`]) and Monte-Carlo labels of steps ([`monte_carlo_step_labels`]).
//!
//! ```
//! use autodidact_preference::implicit_prm::{log_ratio, step_rewards};
//! use tch::Tensor;
//! # fn main() -> autodidact_core::Result<()> {
//! // One response of two tokens, each a step: the reference gives them 0.5 and 0.6, the policy 0.8 and 0.9.
//! let log = |p: [f64; 2]| Tensor::from_slice2(&[p]).log();
//! let ratio = log_ratio(&log([0.8, 0.9]), &log([0.5, 0.6]), &Tensor::from_slice2(&[[true, true]]))?;
//! let r = step_rewards(&ratio, &[vec![0, 1]], 0.5)?;
//! assert!((r[0][0] - 0.235002).abs() < 1e-6 && (r[0][1] - 0.202733).abs() < 1e-6);
//! # Ok(())
//! # }
//! ```

mod baselines;
mod data;
mod loss;
mod select;

pub use baselines::{MonteCarlo, TokenCount, ValueHead, label_loss, monte_carlo_step_labels};
pub use data::{Balance, ResponsePair, all_pairs, balanced};
pub use loss::{ImplicitRewardLoss, Responses, cross_entropy};
pub use select::{
    FirstErrors, best_of_n, best_threshold, expected_best_of_n, first_error_f1, majority_vote, pass_at_n, separation,
    weighted_majority_vote,
};

use autodidact_core::error::check_range;
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

fn check_beta(beta: f64) -> Result<()> {
    check_range("beta", beta, f64::MIN_POSITIVE..)
}

/// Log-ratios `[B, T]` of tokens, from their log-probabilities under policy and reference, each `[B, T]` in nats
/// ([`response_log_probs`](autodidact_core::text::response_log_probs)). Exactly 0 where `response [B, T]` (Bool) says that a token is
/// prompt or padding. No gradient comes from the reference.
///
/// # Errors
/// Shapes that differ, a mask that is not Bool.
pub fn log_ratio(policy: &Tensor, reference: &Tensor, response: &Tensor) -> Result<Tensor> {
    if policy.dim() != 2 || !policy.is_floating_point() {
        return Err(Error::shape("log-probabilities", "floating-point [B, T]", policy));
    }
    if reference.size() != policy.size() {
        return Err(Error::shape("reference", format!("{:?}, as the policy", policy.size()), reference));
    }
    if response.size() != policy.size() || response.kind() != Kind::Bool {
        return Err(Error::shape("response", format!("Bool {:?}", policy.size()), response));
    }
    Ok((policy - reference.detach()).masked_fill(&response.logical_not(), 0.0))
}

/// `q [B, T]` of each prefix of the responses: beta times the running sum of `log_ratio [B, T]`. Its last column is the reward of the
/// whole response.
///
/// # Errors
/// Anything but a matrix, beta not above 0.
pub fn prefix_q(log_ratio: &Tensor, beta: f64) -> Result<Tensor> {
    check_beta(beta)?;
    if log_ratio.dim() != 2 || !log_ratio.is_floating_point() {
        return Err(Error::shape("log-ratio", "floating-point [B, T]", log_ratio));
    }
    Ok(log_ratio.cumsum(1, log_ratio.kind()) * beta)
}

/// Rewards of the steps of each response, `r_t = q_t - q_(t-1)`: beta times the log-ratio (`[B, T]`) of the step's tokens. `step_ends`
/// has for each response the columns of the last tokens of its steps, ascending; with the response's very last token among them, the
/// steps' rewards sum to that of the response.
///
/// # Errors
/// As [`prefix_q`]; another number of responses, ends that do not ascend or lie outside.
pub fn step_rewards(log_ratio: &Tensor, step_ends: &[Vec<usize>], beta: f64) -> Result<Vec<Vec<f64>>> {
    let q = prefix_q(&log_ratio.detach(), beta)?;
    let (rows, width) = (q.size()[0] as usize, q.size()[1] as usize);
    if step_ends.len() != rows {
        return Err(Error::value("step ends", format!("those of {rows} responses"), step_ends.len()));
    }
    let q: Vec<f64> = q.to_device(Device::Cpu).to_kind(Kind::Double).reshape([-1]).try_into()?;
    let one = |(row, ends): (usize, &Vec<usize>)| {
        if ends.windows(2).any(|w| w[0] >= w[1]) || ends.last().is_some_and(|&e| e >= width) {
            return Err(Error::value("step ends", format!("ascending columns below {width}"), format!("{ends:?}")));
        }
        let mut before = 0.0;
        let each = ends.iter().map(|&end| {
            let now = q[row * width + end];
            now - std::mem::replace(&mut before, now)
        });
        Ok(each.collect())
    };
    step_ends.iter().enumerate().map(one).collect()
}

/// What is taken for the worth of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum StepKind {
    /// Its own reward, `r_t`.
    #[default]
    Increment,
    /// That of all steps so far, `q_t`.
    Accumulated,
}

impl StepKind {
    /// Values of steps from their rewards.
    pub fn of(self, rewards: &[f64]) -> Vec<f64> {
        let mut sum = 0.0;
        let accumulated = rewards.iter().map(|r| {
            sum += r;
            sum
        });
        match self {
            Self::Increment => rewards.to_vec(),
            Self::Accumulated => accumulated.collect(),
        }
    }
}

/// How the values of steps make one of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum StepAggregate {
    /// The worst step (the paper's choice).
    #[default]
    Min,
    /// All steps together; of increments, the reward of the response.
    Sum,
    /// The last step.
    Last,
    /// The average step.
    Mean,
}

impl StepAggregate {
    /// The value of a response from those of its steps.
    ///
    /// # Errors
    /// No steps, NaN.
    pub fn of(self, values: &[f64]) -> Result<f64> {
        let Some(&last) = values.last() else { return Err(Error::value("steps", "at least one", "none")) };
        if values.iter().any(|v| v.is_nan()) {
            return Err(Error::value("values of steps", "numbers", "NaN"));
        }
        let sum = values.iter().sum::<f64>();
        Ok(match self {
            Self::Min => values.iter().copied().fold(f64::INFINITY, f64::min),
            Self::Sum => sum,
            Self::Last => last,
            Self::Mean => sum / values.len() as f64,
        })
    }
}

/// The score of a response from the rewards of its steps.
///
/// ```
/// use autodidact_preference::implicit_prm::{StepAggregate::*, StepKind::*, score};
/// let rewards = [0.5, -0.25, 0.125];
/// assert_eq!(score(&rewards, Increment, Min).unwrap(), -0.25);
/// assert_eq!(score(&rewards, Accumulated, Min).unwrap(), 0.25);
/// assert_eq!(score(&rewards, Increment, Sum).unwrap(), 0.375);
/// ```
///
/// # Errors
/// As [`StepAggregate::of`].
pub fn score(rewards: &[f64], kind: StepKind, aggregate: StepAggregate) -> Result<f64> {
    aggregate.of(&kind.of(rewards))
}

/// What is known of a prefix from the rewards of its continuations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PrefixValue {
    /// Their mean: the soft estimate of Monte-Carlo labels.
    pub mean: f64,
    /// `beta log mean exp(r/beta)`: what `q` of the prefix is (proposition 3.1).
    pub q: f64,
    /// Standard error of `q`, to first order.
    pub error: f64,
    /// The largest: the hard estimate.
    pub best: f64,
}

/// Values of a prefix from the rewards `r` of independent continuations by the reference, whose `q` is measured so. The exponentials'
/// distribution has a long tail where policy and reference differ much: the standard error is then too small.
///
/// # Errors
/// Fewer than two rewards, NaN, beta not above 0.
pub fn prefix_value(rewards: &[f64], beta: f64) -> Result<PrefixValue> {
    check_beta(beta)?;
    if rewards.len() < 2 {
        return Err(Error::value("rewards", "at least two", rewards.len()));
    }
    if rewards.iter().any(|r| r.is_nan()) {
        return Err(Error::value("rewards", "numbers", "NaN"));
    }
    let n = rewards.len() as f64;
    let best = rewards.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = rewards.iter().map(|r| ((r - best) / beta).exp()).collect();
    let mean = weights.iter().sum::<f64>() / n;
    let variance = weights.iter().map(|w| (w - mean).powi(2)).sum::<f64>() / (n - 1.0);
    Ok(PrefixValue {
        mean: rewards.iter().sum::<f64>() / n,
        q: best + beta * mean.ln(),
        error: beta * (variance / n).sqrt() / mean,
        best,
    })
}
