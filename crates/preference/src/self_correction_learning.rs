//! SCL: what a model says before and after it reviews its answer are pairs from which it learns to answer right at once.
//!
//! He, Lin, Wang, Fung, Ji: *Self-Correction is More than Refinement: A Learning Framework for Visual and Language Reasoning Tasks*,
//! Findings of ACL 2025, arXiv 2410.04055.
//!
//! Asked to review its own answer without help, a model breaks right answers as well as it fixes wrong ones. Either way there are two of
//! its own responses R1, R2 to one question (I, Q) of which exactly one is right; the right one is preferred, and both are trained on as
//! *direct* answers, the review left out:
//!
//! ```text
//! L = (1 - m) L_DPO(R_c, R_r | I, Q) + m NLL(R_c)        m = 0 in the paper's equation, 0.1 in its published command
//! ```
//!
//! Nobody helps the model when it answers; which of the two answers is right is the training data's own knowledge.
//!
//! ```
//! use autodidact_preference::self_correction_learning::{Judged, TransitionCounts, Corrections, self_correction_pairs};
//!
//! let of = |first, second, right| Judged { first, second, right };
//! // Right and right, fixed, broken, wrong and wrong.
//! let records = [
//!     of("7", "7", (true, true)),
//!     of("5", "7", (false, true)),
//!     of("7", "9", (true, false)),
//!     of("5", "6", (false, false)),
//! ];
//! let pairs = self_correction_pairs(&records, Corrections::Both);
//! assert_eq!((pairs.len(), pairs[0].question, pairs[0].chosen, pairs[0].rejected), (2, 1, "7", "5"));
//! assert_eq!((pairs[1].chosen, pairs[1].rejected), ("7", "9"));
//! assert_eq!(TransitionCounts::of(&records).change(), 0.0);
//! ```

mod extract;
mod pairs;
mod turns;

pub use extract::{Choice, extract_choice};
pub use pairs::{Corrections, Judged, ResponsePair, independent_sample_pairs, self_correction_pairs};
pub use turns::{TwoTurn, iterate_review, run_two_turn};

use crate::losses::{PairLogProbs, dpo};
use autodidact_core::error::check_range;
use autodidact_core::stats::{Estimate, TestResult, mcnemar, wilson_ci};
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// What a review did to an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CorrectionType {
    /// Right before and after: type 1.
    Keep,
    /// Wrong, then right: type 2.
    Fix,
    /// Right, then wrong: type 3.
    Break,
    /// Wrong before and after: type 4.
    Fail,
}

impl CorrectionType {
    /// The type, from whether the first and the second answer are right.
    pub fn classify(first: bool, second: bool) -> Self {
        match (first, second) {
            (true, true) => Self::Keep,
            (false, true) => Self::Fix,
            (true, false) => Self::Break,
            (false, false) => Self::Fail,
        }
    }
}

/// How many answers a review kept, fixed, broke and failed to fix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TransitionCounts {
    /// Type 1.
    pub keep: usize,
    /// Type 2.
    pub fix: usize,
    /// Type 3.
    pub broken: usize,
    /// Type 4.
    pub fail: usize,
}

impl TransitionCounts {
    /// Counts of records.
    pub fn of<R>(records: &[Judged<R>]) -> Self {
        records.iter().map(|r| r.right).collect()
    }

    /// All answers.
    pub fn total(&self) -> usize {
        self.keep + self.fix + self.broken + self.fail
    }

    /// Share of right answers before the review, with Wilson's interval.
    ///
    /// # Errors
    /// No answers, a level outside `(0, 1)`.
    pub fn first_accuracy(&self, level: f64) -> Result<Estimate> {
        wilson_ci(self.keep + self.broken, self.total(), level)
    }

    /// The same after it.
    ///
    /// # Errors
    /// As [`first_accuracy`](Self::first_accuracy).
    pub fn second_accuracy(&self, level: f64) -> Result<Estimate> {
        wilson_ci(self.keep + self.fix, self.total(), level)
    }

    /// Share of wrong answers that the review fixed, and of right ones that it broke, each with Wilson's interval; none where there is
    /// no such answer.
    ///
    /// # Errors
    /// A level outside `(0, 1)`.
    pub fn rates(&self, level: f64) -> Result<[Option<Estimate>; 2]> {
        let rate = |part: usize, all: usize| (all > 0).then(|| wilson_ci(part, all, level)).transpose();
        Ok([rate(self.fix, self.fix + self.fail)?, rate(self.broken, self.broken + self.keep)?])
    }

    /// Accuracy after the review minus that before it: `(fix - broken) / total`; NaN of nothing.
    pub fn change(&self) -> f64 {
        (self.fix as f64 - self.broken as f64) / self.total() as f64
    }

    /// McNemar's test that the review changes accuracy.
    pub fn mcnemar(&self) -> TestResult {
        mcnemar(self.fix as f64, self.broken as f64).expect("counts are no negative numbers")
    }
}

/// Counts from pairs of whether the first and the second answer are right.
impl FromIterator<(bool, bool)> for TransitionCounts {
    fn from_iter<I: IntoIterator<Item = (bool, bool)>>(all: I) -> Self {
        let mut counts = Self::default();
        for (first, second) in all {
            *match CorrectionType::classify(first, second) {
                CorrectionType::Keep => &mut counts.keep,
                CorrectionType::Fix => &mut counts.fix,
                CorrectionType::Break => &mut counts.broken,
                CorrectionType::Fail => &mut counts.fail,
            } += 1;
        }
        counts
    }
}

/// The loss: DPO, mixed with the likelihood of the chosen responses.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DpoWithSft {
    /// Strength of the reference, beta.
    pub beta: f64,
    /// Weight m of the likelihood, 0 to 1; DPO's is `1 - m`.
    pub sft_mix: f64,
}

impl Default for DpoWithSft {
    /// The paper's equation; its published training command mixes in 0.1 of the likelihood.
    fn default() -> Self {
        Self { beta: 0.1, sft_mix: 0.0 }
    }
}

/// `(1 - m) DPO + m NLL` of a batch of pairs, `[B]`. `nll` is the negative log-likelihood of the chosen responses under the policy, `[B]`
/// or one number; a mean over tokens in the published command.
///
/// ```
/// use autodidact_preference::losses::PairLogProbs;
/// use autodidact_preference::self_correction_learning::{DpoWithSft, dpo_with_sft};
/// use tch::Tensor;
///
/// # fn main() -> autodidact_core::Result<()> {
/// let one = |x: f64| Tensor::from_slice(&[x]);
/// let policy = PairLogProbs::new(one(-12.3), one(-10.1))?;
/// let reference = PairLogProbs::new(one(-13.0), one(-9.6))?;
/// // Eight tokens in the chosen response: 0.9 * 0.6349461 + 0.1 * 12.3 / 8.
/// let nll = -&policy.chosen / 8.0;
/// let loss = dpo_with_sft(&policy, &reference, &nll, &DpoWithSft { beta: 0.1, sft_mix: 0.1 })?;
/// assert!((loss.double_value(&[0]) - 0.7252015).abs() < 1e-7);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Shapes that differ, beta not above 0, a mix outside `[0, 1]`.
pub fn dpo_with_sft(
    policy: &PairLogProbs,
    reference: &PairLogProbs,
    nll: &Tensor,
    config: &DpoWithSft,
) -> Result<Tensor> {
    let &DpoWithSft { beta, sft_mix } = config;
    check_range("sft_mix", sft_mix, 0.0..=1.0)?;
    let margin = policy.margin(reference)?;
    if nll.dim() > 0 && nll.size() != margin.size() {
        return Err(Error::shape("nll", format!("one number or {:?}", margin.size()), nll));
    }
    let dpo = dpo(&margin, beta)?;
    // Without the term the result is DPO to the bit.
    Ok(if sft_mix == 0.0 { dpo } else { dpo * (1.0 - sft_mix) + nll * sft_mix })
}
