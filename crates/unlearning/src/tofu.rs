//! How much is forgotten and how much is left: the measures of TOFU (Maini et al., 2024; arXiv 2401.06121) and of MUSE (Shi et al., 2024;
//! arXiv 2407.06460).
//!
//! All begin with `a = l / |y|`, an answer's negative log-likelihood per token.
//!
//! ```
//! use autodidact_unlearning::tofu::{Losses, model_utility};
//! let losses = Losses { paraphrase: 1.0, perturbed: vec![1.5, 2.0, 1.2, 1.0, 3.0] };
//! assert!((losses.truth_ratio()? - 0.585695).abs() < 1e-6);
//! assert!((model_utility(&[0.9, 0.8, 0.5])? - 0.687898).abs() < 1e-6);
//! # Ok::<(), autodidact_core::Error>(())
//! ```

use autodidact_core::error::check_range;
use autodidact_core::metrics::RougeL;
use autodidact_core::stats::{KsTest, ks_2samp, mean};
use autodidact_core::{Error, Result};

/// Losses per token of a question's paraphrased answer and of its wrong ones.
#[derive(Debug, Clone, PartialEq)]
pub struct Losses {
    /// Of the paraphrase (or of the answer, where there is none).
    pub paraphrase: f64,
    /// Of the wrong answers.
    pub perturbed: Vec<f64>,
}

impl Losses {
    fn check(&self) -> Result<()> {
        check_range("wrong answers", self.perturbed.len() as f64, 1.0..)?;
        self.perturbed.iter().chain([&self.paraphrase]).try_for_each(|l| check_range("loss per token", *l, ..))
    }

    /// `R = mean_p exp(-a_p) / exp(-a)`: how probable wrong answers are beside the right one.
    ///
    /// # Errors
    /// No wrong answers, losses that are not finite.
    pub fn truth_ratio(&self) -> Result<f64> {
        self.check()?;
        // Relative to the paraphrase, so that nothing underflows.
        Ok(mean(&self.perturbed.iter().map(|p| (self.paraphrase - p).exp()).collect::<Vec<_>>()))
    }

    /// `max(0, 1 - R)`: what is known, for questions that should be known.
    ///
    /// # Errors
    /// As [`Losses::truth_ratio`].
    pub fn known(&self) -> Result<f64> {
        Ok((1.0 - self.truth_ratio()?).max(0.0))
    }

    /// `min(R, 1/R)`: 1 where right and wrong answers are alike, for questions that should be forgotten.
    ///
    /// # Errors
    /// As [`Losses::truth_ratio`].
    pub fn undecided(&self) -> Result<f64> {
        let ratio = self.truth_ratio()?;
        Ok(ratio.min(1.0 / ratio))
    }

    /// `s = exp(mean_p a_p - a)`, of mean losses instead of mean probabilities: what [`forget_quality`] compares.
    ///
    /// # Errors
    /// As [`Losses::truth_ratio`].
    pub fn statistic(&self) -> Result<f64> {
        Ok(self.ln_statistic()?.exp())
    }

    /// The logarithm of [`Losses::statistic`], which does not overflow.
    ///
    /// # Errors
    /// As [`Losses::truth_ratio`].
    pub fn ln_statistic(&self) -> Result<f64> {
        self.check()?;
        Ok(mean(&self.perturbed) - self.paraphrase)
    }

    /// `exp(-a) / (exp(-a) + sum_p exp(-a_p))`: the right answer's share of the probability.
    ///
    /// # Errors
    /// As [`Losses::truth_ratio`].
    pub fn normalised_probability(&self) -> Result<f64> {
        Ok(1.0 / (1.0 + self.truth_ratio()? * self.perturbed.len() as f64))
    }
}

/// Forget quality: the two-sided Kolmogorov-Smirnov test of the [`Losses::statistic`] on the forgotten questions, of the unlearned model against one
/// that never saw them. A p-value near 1 says that they cannot be told apart.
///
/// # Errors
/// As [`Losses::statistic`], no questions.
pub fn forget_quality(unlearned: &[Losses], retrained: &[Losses]) -> Result<KsTest> {
    // The test sees the order of the values alone, which logarithms keep.
    let of = |losses: &[Losses]| losses.iter().map(Losses::ln_statistic).collect::<Result<Vec<f64>>>();
    ks_2samp(&of(unlearned)?, &of(retrained)?)
}

/// Model utility: the harmonic mean of measures in `[0, 1]` (TOFU: ROUGE-L recall, probability and truth ratio, each on retained questions,
/// on real authors and on world facts). 0 where one of them is.
///
/// # Errors
/// No measures, or one outside `[0, 1]`.
pub fn model_utility(measures: &[f64]) -> Result<f64> {
    check_range("measures", measures.len() as f64, 1.0..)?;
    measures.iter().try_for_each(|m| check_range("measure of utility", *m, 0.0..=1.0))?;
    Ok(measures.len() as f64 / measures.iter().map(|m| 1.0 / m).sum::<f64>())
}

/// MUSE's memorisation, in `[0, 1]`: the mean F1 of ROUGE-L between what a model says and what it was trained to say. Of continuations of
/// the texts to forget it is called VerbMem, of answers to questions about them (or about what is retained) KnowMem.
///
/// # Errors
/// No texts, or another number of references.
pub fn memorisation<T: AsRef<str>, R: AsRef<str>>(texts: &[T], references: &[R]) -> Result<f64> {
    check_range("texts", texts.len() as f64, 1.0..)?;
    if texts.len() != references.len() {
        return Err(Error::value("references", format!("{} as the texts", texts.len()), references.len()));
    }
    let pairs = texts.iter().zip(references);
    Ok(mean(&pairs.map(|(t, r)| RougeL::of(t.as_ref(), r.as_ref(), false).f1).collect::<Vec<_>>()))
}

/// Min-K%: the negated mean of a text's lowest token log-probabilities, a share `k` of them (at least one); MUSE takes 0.4. Texts that were
/// trained on have low values.
///
/// # Errors
/// No tokens, values that are not finite, a share outside `(0, 1]`.
pub fn min_k(log_probs: &[f64], k: f64) -> Result<f64> {
    check_range("k", k, f64::MIN_POSITIVE..=1.0)?;
    if log_probs.is_empty() || log_probs.iter().any(|l| !l.is_finite()) {
        return Err(Error::value(
            "log-probabilities",
            "finite ones, one at least",
            format!("{} values", log_probs.len()),
        ));
    }
    let mut sorted = log_probs.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let n = ((k * sorted.len() as f64) as usize).max(1);
    Ok(-mean(&sorted[..n]))
}

/// Probability that a member scores above a non-member (ties count half): the area under the ROC curve of a membership attack.
///
/// # Errors
/// No members or non-members, scores that are not finite.
pub fn auc(members: &[f64], others: &[f64]) -> Result<f64> {
    for (what, scores) in [("members", members), ("non-members", others)] {
        if scores.is_empty() || scores.iter().any(|s| !s.is_finite()) {
            return Err(Error::value(what, "finite scores, one at least", format!("{} values", scores.len())));
        }
    }
    let all = [members, others].concat();
    let ranks = autodidact_core::stats::ranks(&all);
    let (m, n) = (members.len() as f64, others.len() as f64);
    let sum: f64 = ranks[..members.len()].iter().sum();
    Ok((sum - m * (m + 1.0) / 2.0) / (m * n))
}

/// MUSE's PrivLeak, in percent: `100 (AUC - AUC_retrained) / AUC_retrained`, the areas of Min-K% for telling held-out texts from forgotten ones
/// (oriented as the probability that a held-out text's [`min_k`] is below a forgotten one's). Far below 0: still memorised; far above:
/// conspicuously forgotten.
///
/// # Errors
/// Areas outside `[0, 1]`, or 0 for the retrained model.
pub fn privacy_leakage(unlearned: f64, retrained: f64) -> Result<f64> {
    check_range("AUC", unlearned, 0.0..=1.0)?;
    check_range("AUC of the retrained model", retrained, f64::MIN_POSITIVE..=1.0)?;
    Ok(100.0 * (unlearned - retrained) / retrained)
}
