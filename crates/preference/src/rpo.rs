//! RPO: DPO with the likelihood of baseline responses as an adversarial regulariser against over-optimisation.
//!
//! Liu, Lu, Zhang, Liu, Guo, Yang, Blanchet, Wang: *Provably Mitigating Overoptimization in RLHF: Your SFT Loss is Implicitly an
//! Adversarial Regularizer*, NeurIPS 2024, arXiv 2405.16436.
//!
//! The policy that is best against a reward chosen by an adversary, who must fit the data but may lower the policy's advantage over a
//! baseline, solves a min-max problem whose inner maximum is `beta log Z_r`. In terms of the policy alone it is (eq. 4.8)
//!
//! ```text
//! L = eta beta E_{y0 ~ pi_base}[-log pi(y0|x)] + L_DPO,
//! ```
//!
//! with the chosen responses as baseline. Beta only scales DPO's direction; eta turns it.
//!
//! ```
//! use autodidact_preference::losses::PairLogProbs;
//! use autodidact_preference::rpo::Rpo;
//! use tch::Tensor;
//!
//! # fn main() -> autodidact_core::Result<()> {
//! let one = |x: f64| Tensor::from_slice(&[x]);
//! let policy = PairLogProbs::new(one(-12.3), one(-10.1))?;
//! let reference = PairLogProbs::new(one(-13.0), one(-9.6))?;
//! let out = Rpo { beta: 0.1, ..Rpo::default() }.forward(&policy, &reference, &one(8.0))?;
//! // DPO's 0.6349461, and eta beta 12.3 = 0.0005 * 12.3.
//! assert!((out.total.double_value(&[]) - 0.6410961).abs() < 1e-7);
//! # Ok(())
//! # }
//! ```

use crate::losses::{PairLogProbs, check_lengths, dpo};
use autodidact_core::Result;
use autodidact_core::error::check_range;
use serde::{Deserialize, Serialize};
use tch::Tensor;

mod tabular;

pub use tabular::{Comparison, TabularRpo, coverage_coefficient, inner_maximum, policy_bracket};

/// How the likelihood of the chosen responses is reduced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SftReduction {
    /// Sums over tokens, times eta beta (eq. 4.8; the paper's first implementation).
    Sum,
    /// Mean over the batch of means over tokens, times eta alone (appendix F; the paper's second implementation, eta 0.2).
    Mean,
}

/// The loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rpo {
    /// Strength of the reference, beta.
    pub beta: f64,
    /// Weight of the baseline, eta; 0 is DPO.
    pub eta: f64,
    /// Reduction of the likelihood.
    pub reduction: SftReduction,
}

impl Default for Rpo {
    fn default() -> Self {
        Self { beta: 0.01, eta: 0.005, reduction: SftReduction::Sum }
    }
}

/// What [`Rpo::forward`] gives; scalars but for the rewards.
#[derive(Debug)]
pub struct RpoOutput {
    /// The loss to minimise.
    pub total: Tensor,
    /// DPO's part.
    pub dpo: Tensor,
    /// The likelihood's part, before its weight.
    pub sft: Tensor,
    /// Implicit rewards `beta log pi/pi_ref` of both responses, detached.
    pub rewards: PairLogProbs,
}

impl Rpo {
    /// The loss of a batch of pairs: means over the batch. `lengths [B]` are the tokens of the chosen responses.
    ///
    /// # Errors
    /// Shapes that differ, beta not above 0, eta below 0.
    pub fn forward(&self, policy: &PairLogProbs, reference: &PairLogProbs, lengths: &Tensor) -> Result<RpoOutput> {
        check_lengths("lengths of chosen", lengths, &policy.chosen)?;
        self.with_baseline(policy, reference, &policy.chosen, lengths)
    }

    /// The loss with baseline responses of another source: their log-probabilities `[N]` under the policy, and their lengths `[N]`.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn with_baseline(
        &self,
        policy: &PairLogProbs,
        reference: &PairLogProbs,
        baseline: &Tensor,
        lengths: &Tensor,
    ) -> Result<RpoOutput> {
        check_range("eta", self.eta, 0.0..)?;
        check_lengths("lengths of the baseline", lengths, baseline)?;
        let ratios = policy.over(reference)?;
        let mean = |x: Tensor| x.mean(x.kind());
        let dpo = mean(dpo(&ratios.gap(), self.beta)?);
        let (sft, weight) = match self.reduction {
            SftReduction::Sum => (mean(-baseline), self.eta * self.beta),
            SftReduction::Mean => (mean(-(baseline / lengths)), self.eta),
        };
        // Without the term the result is DPO to the bit.
        let total = if weight == 0.0 { dpo.shallow_clone() } else { &dpo + &sft * weight };
        let reward = |x: &Tensor| x.detach() * self.beta;
        let rewards = PairLogProbs::new(reward(&ratios.chosen), reward(&ratios.rejected))?;
        Ok(RpoOutput { total, dpo, sft, rewards })
    }
}
