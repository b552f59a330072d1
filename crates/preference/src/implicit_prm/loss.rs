//! Losses of outcome reward models that are log-ratios.

use super::check_beta;
use crate::losses::{Kto, PairLogProbs, dpo, kto, logistic_loss, nca_pair};
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// Cross entropy of outcomes: `-log s(r)` of a correct response, `-log s(-r)` of another, with `r = beta log_ratio`. On log-ratios of
/// steps with labels of steps it is the paper's second stage (whose printed form has `|r|`, which no label would change the sign of).
///
/// Of `log_ratio [B]` in nats and `correct [B]` (Bool); gives `[B]`.
///
/// # Errors
/// Anything but two vectors of the same length, beta not above 0.
pub fn cross_entropy(log_ratio: &Tensor, correct: &Tensor, beta: f64) -> Result<Tensor> {
    check_beta(beta)?;
    if log_ratio.dim() != 1 || !log_ratio.is_floating_point() {
        return Err(Error::shape("log-ratio", "floating-point [B]", log_ratio));
    }
    if correct.size() != log_ratio.size() || correct.kind() != Kind::Bool {
        return Err(Error::shape("correct", format!("Bool {:?}", log_ratio.size()), correct));
    }
    let r = log_ratio * beta;
    Ok(logistic_loss(&r.where_self(correct, &-&r)))
}

/// What a loss sees of a batch.
#[derive(Debug, Clone, Copy)]
pub enum Responses<'a> {
    /// Log-ratios ([`PairLogProbs::over`]) of a correct and an incorrect response to the same prompt.
    Pairs(&'a PairLogProbs),
    /// Any responses.
    Single {
        /// Log-ratios of whole responses, `[B]`.
        log_ratio: &'a Tensor,
        /// Which are correct, `[B]` (Bool).
        correct: &'a Tensor,
        /// An estimate of the policy's divergence from the reference in nats, one number: the mean log-ratio of responses to other
        /// prompts of the batch. Only KTO looks at it.
        kl: Option<&'a Tensor>,
    },
}

/// The losses that the paper trains with. All give one value per pair or response, in nats (KTO: between 0 and 1 times the weight).
///
/// ```
/// use autodidact_preference::implicit_prm::{ImplicitRewardLoss, Responses};
/// use tch::Tensor;
/// // log pi -12.3, log pi_ref -13.0, correct; -10.1 and -9.6, not.
/// let (log_ratio, correct) = (Tensor::from_slice(&[0.7f64, -0.5]), Tensor::from_slice(&[true, false]));
/// let batch = Responses::Single { log_ratio: &log_ratio, correct: &correct, kl: None };
/// let loss = ImplicitRewardLoss::Ce.forward(&batch, 0.05).unwrap();
/// assert!((loss.double_value(&[0]) - 0.6758003).abs() < 1e-7 && (loss.double_value(&[1]) - 0.6807253).abs() < 1e-7);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum ImplicitRewardLoss {
    /// [`dpo`], of pairs.
    Dpo,
    /// [`nca_pair`], of pairs.
    Nca,
    /// [`cross_entropy`], of any responses.
    Ce,
    /// [`kto`], of any responses.
    Kto {
        /// Weight of correct ones.
        desirable: f64,
        /// Weight of the others.
        undesirable: f64,
    },
}

impl ImplicitRewardLoss {
    /// Whether it is a loss of pairs.
    pub fn needs_pairs(self) -> bool {
        matches!(self, Self::Dpo | Self::Nca)
    }

    /// The loss of each pair or response.
    ///
    /// # Errors
    /// Pairs for a loss of single responses or the other way round, KTO without a divergence, those of the loss itself.
    pub fn forward(self, batch: &Responses<'_>, beta: f64) -> Result<Tensor> {
        match (self, *batch) {
            (Self::Dpo, Responses::Pairs(ratios)) => dpo(&ratios.gap(), beta),
            (Self::Nca, Responses::Pairs(ratios)) => nca_pair(ratios, beta),
            (Self::Ce, Responses::Single { log_ratio, correct, .. }) => cross_entropy(log_ratio, correct, beta),
            (Self::Kto { desirable, undesirable }, Responses::Single { log_ratio, correct, kl }) => {
                let kl = kl.ok_or_else(|| Error::value("kl", "an estimate for KTO", "none"))?;
                kto(log_ratio, correct, kl, &Kto { beta, desirable, undesirable })
            }
            (loss, batch) => {
                let got = if matches!(batch, Responses::Pairs(_)) { "pairs" } else { "single responses" };
                let want = if loss.needs_pairs() { "pairs" } else { "single responses" };
                Err(Error::value(format!("batch of {loss:?}"), want, got))
            }
        }
    }
}
