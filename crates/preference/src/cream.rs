//! CREAM: self-rewarding with labels as soft as the model's rankings are consistent.
//!
//! Wang, He, Liang, Zhang, Bansal, Wei, Zhang, Yao: *CREAM: Consistency Regularized Self-Rewarding Language Models*, ICLR 2025,
//! arXiv 2410.12735.
//!
//! A model that ranks its own responses is trained on its best and worst ones. How far the ranking can be trusted is measured by how
//! well it agrees with that of the model of the round before: with Kendall's tau of the two, the rate is `c = (tau + 1)/2`, `C` its mean
//! over prompts, and a pair's loss is that of DPO with the soft label `C`,
//!
//! ```text
//! l = -C log s(beta h) - (1-C) log s(-beta h)          (losses::soft_label_dpo)
//! ```
//!
//! which for `C = (1 + lambda)/(1 + 2 lambda)` is DPO with `lambda` times a pull towards indifference.
//!
//! ```
//! use autodidact_preference::cream::{Agreement, consistency};
//! let now = [vec![1.2, 0.4, -0.3, 2.0, 0.1]];
//! let before = [vec![0.9, 0.5, 0.2, 0.7, -1.0]];
//! // 8 of 10 pairs of responses are in the same order.
//! let rate = consistency(&now, &before, Agreement::Kendall).unwrap();
//! assert!((rate.mean - 0.8).abs() < 1e-12);
//! ```

use autodidact_core::error::check_range;
use autodidact_core::{Error, Result, stats};
use serde::{Deserialize, Serialize};

/// How two rankings of the same responses are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Agreement {
    /// Concordant minus discordant pairs over all pairs (ties count as neither), brought from `[-1, 1]` to `[0, 1]`.
    Kendall,
    /// Correlation of ranks, brought from `[-1, 1]` to `[0, 1]`; all equal scores count as 1/2.
    Spearman,
    /// 1 if both have the same best and the same worst response, else 0.
    TopOrder,
}

/// Rates of agreement.
#[derive(Debug, Clone, PartialEq)]
pub struct Consistency {
    /// By prompt, in `[0, 1]`; none where fewer than two responses are ranked.
    pub by_prompt: Vec<Option<f64>>,
    /// Mean over prompts, C.
    pub mean: f64,
}

impl Consistency {
    /// The rate of each prompt, the mean where there is none.
    pub fn dynamic(&self) -> Vec<f64> {
        self.by_prompt.iter().map(|c| c.unwrap_or(self.mean)).collect()
    }
}

/// Kendall's tau-a of two lists of scores: `2/(N(N-1))` times the number of pairs in the same order minus that in opposite orders.
///
/// # Errors
/// Lists that differ in length or have fewer than two scores, NaN.
pub fn kendall_tau(a: &[f64], b: &[f64]) -> Result<f64> {
    check_scores(a, b)?;
    let n = a.len();
    let mut sum = 0i64;
    for i in 0..n {
        for j in 0..i {
            let order = (a[i] - a[j]) * (b[i] - b[j]);
            sum += i64::from(order > 0.0) - i64::from(order < 0.0);
        }
    }
    Ok(2.0 * sum as f64 / (n * (n - 1)) as f64)
}

/// Whether two lists of scores have the same best and the same worst place.
///
/// # Errors
/// As [`kendall_tau`].
pub fn top_order(a: &[f64], b: &[f64]) -> Result<bool> {
    check_scores(a, b)?;
    Ok(extremes(a) == extremes(b))
}

fn check_scores(a: &[f64], b: &[f64]) -> Result<()> {
    if a.len() != b.len() || a.len() < 2 {
        let got = format!("{} and {}", a.len(), b.len());
        return Err(Error::value("scores", "two lists of the same length, at least 2", got));
    }
    if a.iter().chain(b).any(|x| x.is_nan()) {
        return Err(Error::value("scores", "numbers", "NaN"));
    }
    Ok(())
}

/// First places of the largest and of the smallest score.
fn extremes(scores: &[f64]) -> (usize, usize) {
    let mut found = (0, 0);
    for (i, s) in scores.iter().enumerate() {
        if *s > scores[found.0] {
            found.0 = i;
        }
        if *s < scores[found.1] {
            found.1 = i;
        }
    }
    found
}

/// Agreement of the scores of the current model with those of the one before: for each prompt, scores of the same responses.
///
/// # Errors
/// Lists of different shapes, NaN, no prompt with two responses.
pub fn consistency(current: &[Vec<f64>], previous: &[Vec<f64>], agreement: Agreement) -> Result<Consistency> {
    if current.len() != previous.len() {
        return Err(Error::value("previous scores", format!("{} prompts", current.len()), previous.len()));
    }
    let rate = |(a, b): (&Vec<f64>, &Vec<f64>)| -> Result<Option<f64>> {
        if a.len() == b.len() && a.len() < 2 {
            return Ok(None);
        }
        Ok(Some(match agreement {
            Agreement::Kendall => (kendall_tau(a, b)? + 1.0) / 2.0,
            Agreement::TopOrder => f64::from(u8::from(top_order(a, b)?)),
            Agreement::Spearman => {
                check_scores(a, b)?;
                let flat = |x: &[f64]| x.iter().all(|v| *v == x[0]);
                if flat(a) || flat(b) { 0.5 } else { (stats::spearman(a, b)? + 1.0) / 2.0 }
            }
        }))
    };
    let by_prompt = current.iter().zip(previous).map(rate).collect::<Result<Vec<_>>>()?;
    let known: Vec<f64> = by_prompt.iter().copied().flatten().collect();
    if known.is_empty() {
        return Err(Error::value("prompts", "at least one with two responses", "none"));
    }
    Ok(Consistency { by_prompt, mean: stats::mean(&known) })
}

/// Places of the best and the worst response by their scores; none where these are the same or tie, or where the two responses are equal.
pub fn best_and_worst<T: PartialEq>(scores: &[f64], responses: &[T]) -> Option<(usize, usize)> {
    if scores.len() != responses.len() || scores.is_empty() {
        return None;
    }
    let (best, worst) = extremes(scores);
    (scores[best] > scores[worst] && responses[best] != responses[worst]).then_some((best, worst))
}

/// The soft label that is `lambda` times the regularisation towards indifference (theorem 3.3): `(1 + lambda)/(1 + 2 lambda)`.
///
/// # Errors
/// A lambda below 0.
pub fn label_of_regularisation(lambda: f64) -> Result<f64> {
    check_range("lambda", lambda, 0.0..)?;
    Ok((1.0 + lambda) / (1.0 + 2.0 * lambda))
}
