//! Self-rationalization: a judge that learns from its own judgements which rationales lead to the right score.
//!
//! Trivedi and others: *Self-rationalization improves LLM as a fine-grained judge*, 2024, arXiv 2410.05495.
//!
//! A judge writes a rationale and then a score. Of several judgements of the same input, sampled at temperature 1, pairs are made whose
//! chosen side is better by a [`CurationRule`]: the score is right, or is that of the majority, or the judge itself rates the judgement
//! higher; and by at least a margin. DPO on whole judgements (rationale and score, [`losses::dpo`](crate::losses::dpo)) against the judge that
//! wrote them gives the next judge, which writes the judgements of the next round.
//!
//! ```
//! use autodidact_preference::self_rationalization::{Judgement, CurationRule, curate};
//! // Six judgements with different rationales; the right score is 4.
//! let judgements: Vec<_> = [4, 3, 5, 4, 1, 2].iter().zip("abcdef".chars()).map(|(&score, r)| Judgement::new(r, score)).collect();
//! let pairs = |margin| curate(&judgements, &CurationRule::CorrectAnswer { truth: 4 }, margin).unwrap();
//! // Chosen 0 or 3, rejected 1, 2, 4 or 5.
//! assert_eq!((pairs(1).len(), pairs(2).len(), pairs(3).len()), (8, 4, 2));
//! ```

use autodidact_core::optim::StateDict;
use autodidact_core::{Error, Result};
use std::collections::BTreeMap;

/// Highest score of the scale, which begins at 1.
pub const HIGHEST: u8 = 5;

/// A rationale (a text, tokens) with its score.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement<R> {
    /// The reasons.
    pub rationale: R,
    /// From 1 to [`HIGHEST`]; none if it could not be read.
    pub score: Option<u8>,
}

impl<R> Judgement<R> {
    /// A judgement that could be read.
    pub fn new(rationale: R, score: u8) -> Self {
        Self { rationale, score: Some(score) }
    }
}

/// By what one judgement is better than another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum CurationRule<'a> {
    /// The chosen score is the right one, the rejected is not; its distance from the right one is the margin.
    CorrectAnswer {
        /// The right score.
        truth: u8,
    },
    /// The chosen score is the commonest ([`self_consistency_score`]), in place of the right one: no labels are needed.
    Majority,
    /// The chosen judgement is rated higher by the judge itself; the difference of ratings is the margin.
    MetaJudge {
        /// A rating of each judgement.
        ratings: &'a [f64],
    },
}

/// Pairs `(chosen, rejected)` of places of judgements of one input, each with a difference of at least `margin`. Judgements that could
/// not be read and repetitions of earlier ones are left out; the pairs of a chosen judgement are together.
///
/// # Errors
/// A margin below 1 (of a rule on scores) or not above 0, a right score outside the scale, not one rating per judgement.
pub fn curate<R: PartialEq>(
    judgements: &[Judgement<R>],
    rule: &CurationRule<'_>,
    margin: u8,
) -> Result<Vec<(usize, usize)>> {
    if margin < 1 {
        return Err(Error::value("margin", "at least 1", margin));
    }
    let usable: Vec<(usize, u8)> = (0..judgements.len())
        .filter(|&i| !judgements[..i].contains(&judgements[i]))
        .filter_map(|i| Some((i, judgements[i].score?)))
        .collect();
    let pairs = |better: &dyn Fn((usize, u8), (usize, u8)) -> bool| {
        let all = usable.iter().flat_map(|&a| usable.iter().map(move |&b| (a, b)));
        all.filter(|&(a, b)| better(a, b)).map(|(a, b)| (a.0, b.0)).collect()
    };
    let close_to = |right: u8| pairs(&|a, b| a.1 == right && b.1.abs_diff(right) >= margin);
    match *rule {
        CurationRule::CorrectAnswer { truth } if (1..=HIGHEST).contains(&truth) => Ok(close_to(truth)),
        CurationRule::CorrectAnswer { truth } => Err(Error::value("right score", format!("1 to {HIGHEST}"), truth)),
        CurationRule::Majority => {
            let scores: Vec<u8> = judgements.iter().filter_map(|j| j.score).collect();
            Ok(self_consistency_score(&scores).map_or_else(Vec::new, close_to))
        }
        CurationRule::MetaJudge { ratings } if ratings.len() == judgements.len() => {
            Ok(pairs(&|a, b| ratings[a.0] - ratings[b.0] >= f64::from(margin)))
        }
        CurationRule::MetaJudge { ratings } => {
            Err(Error::value("ratings", judgements.len().to_string(), ratings.len()))
        }
    }
}

/// The commonest score; of several, the one nearest to the mean (the lower of two). None of no scores.
pub fn self_consistency_score(scores: &[u8]) -> Option<u8> {
    let mut counts: BTreeMap<u8, usize> = BTreeMap::new();
    scores.iter().for_each(|s| *counts.entry(*s).or_default() += 1);
    let most = counts.values().max()?;
    let mean = scores.iter().map(|&s| f64::from(s)).sum::<f64>() / scores.len() as f64;
    let distance = |s: &u8| (f64::from(*s) - mean).abs();
    counts.iter().filter(|(_, n)| *n == most).map(|(s, _)| *s).min_by(|a, b| distance(a).total_cmp(&distance(b)))
}

/// The place of the judgement with the highest reward (the first of several), among those that could be read. None if there is none.
///
/// # Errors
/// Not one reward per judgement.
pub fn best_of_n<R>(judgements: &[Judgement<R>], rewards: &[f64]) -> Result<Option<usize>> {
    if rewards.len() != judgements.len() {
        return Err(Error::value("rewards", judgements.len().to_string(), rewards.len()));
    }
    let readable = (0..judgements.len()).filter(|&i| judgements[i].score.is_some());
    Ok(readable.rev().max_by(|&a, &b| rewards[a].total_cmp(&rewards[b])))
}

/// The mean score from the probabilities of 1, 2, ... (of the score's tokens; normalised here).
///
/// # Errors
/// Probabilities that are negative, not finite or all 0.
pub fn expected_score(probabilities: &[f64]) -> Result<f64> {
    let total: f64 = probabilities.iter().sum();
    if !total.is_finite() || total <= 0.0 || probabilities.iter().any(|p| *p < 0.0) {
        return Err(Error::value("probabilities", "numbers of at least 0, not all 0", format!("{probabilities:?}")));
    }
    Ok(probabilities.iter().enumerate().map(|(i, p)| (i + 1) as f64 * p).sum::<f64>() / total)
}

/// The weighted mean of the weights of several models, as the paper merges its pointwise and its pairwise judge.
///
/// # Errors
/// No models, not one weight per model, weights that do not sum to 1, models whose variables differ.
pub fn merge_weights(models: &[&StateDict], weights: &[f64]) -> Result<StateDict> {
    let (Some((first, others)), true) = (models.split_first(), models.len() == weights.len()) else {
        return Err(Error::value(
            "weights",
            format!("one for each of at least one model ({})", models.len()),
            weights.len(),
        ));
    };
    let sum: f64 = weights.iter().sum();
    if (sum - 1.0).abs() > 1e-6 || sum.is_nan() {
        return Err(Error::value("sum of weights", "1", sum));
    }
    let mut merged = StateDict::new();
    for (name, tensor) in first.iter() {
        if !tensor.is_floating_point() {
            merged.insert(name.clone(), tensor.copy());
            continue;
        }
        let mut mean = tensor * weights[0];
        for (model, weight) in others.iter().zip(&weights[1..]) {
            match model.get(name) {
                Some(t) if t.size() == tensor.size() && model.len() == first.len() => mean += t * *weight,
                _ => return Err(Error::value("models", "the same variables in all", name)),
            }
        }
        merged.insert(name.clone(), mean);
    }
    Ok(merged)
}

/// How far scores agree with the right ones.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScoreAgreement {
    /// Share that are right.
    pub accuracy: f64,
    /// Share that are off by at most one.
    pub within_one: f64,
    /// Mean absolute error.
    pub mean_absolute_error: f64,
    /// Cohen's kappa with quadratic weights: 1 minus the mean squared difference over that of independent scores. 1 if neither varies
    /// and all are right.
    pub quadratic_weighted_kappa: f64,
}

impl ScoreAgreement {
    /// Of scores and the right ones.
    ///
    /// # Errors
    /// Lists of different lengths or empty ones.
    pub fn of(scores: &[u8], truth: &[u8]) -> Result<Self> {
        if scores.len() != truth.len() || scores.is_empty() {
            let expected = format!("{} scores, at least one", truth.len());
            return Err(Error::value("scores", expected, scores.len()));
        }
        let n = scores.len() as f64;
        let off = || scores.iter().zip(truth).map(|(a, b)| f64::from(a.abs_diff(*b)));
        let share = |most: f64| off().filter(|d| *d <= most).count() as f64 / n;
        // E (a - b)^2 of independent draws from the two lists.
        let moments = |x: &[u8]| {
            let mean = x.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
            (mean, x.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / n)
        };
        let ((a, aa), (b, bb)) = (moments(scores), moments(truth));
        let (observed, expected) = (off().map(|d| d * d).sum::<f64>() / n, aa + bb - 2.0 * a * b);
        let kappa = if expected > 0.0 { 1.0 - observed / expected } else { 1.0 };
        Ok(Self {
            accuracy: share(0.0),
            within_one: share(1.0),
            mean_absolute_error: off().sum::<f64>() / n,
            quadratic_weighted_kappa: kappa,
        })
    }
}
