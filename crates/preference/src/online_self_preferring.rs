//! OSP: a model judges pairs of its own fresh responses, and how sure it is decides how far it is pulled.
//!
//! Zhai, Zhang, Xu, Peng, Yu, Feng, Yang, Ding, Wang: *Online Self-Preferring Language Models*, 2024, arXiv 2405.14103.
//!
//! For every prompt the current policy gives K responses. A judge (the model itself, asked for a verdict A or B) gives every ordered
//! pair a strength `s_ij`; the mean over both orders, `p_ij = (s_ij + 1 - s_ji)/2`, knows no position. Responses are ranked by their mean
//! strength, and ranked pairs are trained on with a cross entropy towards their strength,
//!
//! ```text
//! l = -p log s(beta h) - (1-p) log s(-beta h)          (losses::soft_label_dpo)
//! ```
//!
//! whose optimum `h = logit(p)/beta` is finite: near-ties pull almost nothing.
//!
//! ```
//! use autodidact_preference::online_self_preferring::{RankedPairing, Strengths};
//! // The judge prefers 0 to 1 in both orders, if more so when it stands first.
//! let strengths = Strengths::debiased(&[vec![0.5, 0.817574], vec![0.289050, 0.5]]).unwrap();
//! let pairs = RankedPairing::AllPairs.pairs(&strengths);
//! assert_eq!((pairs[0].better, pairs[0].worse), (0, 1));
//! assert!((pairs[0].strength - 0.764262).abs() < 1e-6);
//! ```

use autodidact_core::error::{check_range, check_values};
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// Probabilities that one response is preferred to another, the same whichever stands first: `p_ij + p_ji = 1`.
#[derive(Debug, Clone, PartialEq)]
pub struct Strengths {
    p: Vec<Vec<f64>>,
}

impl Strengths {
    /// From a judge's verdicts: `s[i][j]` is its probability for `i` when `i` stands before `j` (the diagonal is not read).
    ///
    /// # Errors
    /// A matrix that is not square or has fewer than two responses, entries outside `[0, 1]`.
    pub fn debiased(s: &[Vec<f64>]) -> Result<Self> {
        let k = s.len();
        if k < 2 || s.iter().any(|row| row.len() != k) {
            return Err(Error::value("strengths", "a square matrix of two or more responses", format!("{k} rows")));
        }
        for (i, row) in s.iter().enumerate() {
            for (j, &v) in row.iter().enumerate() {
                if i != j {
                    check_range("strength", v, 0.0..=1.0)?;
                }
            }
        }
        let p = |i: usize, j: usize| if i == j { 0.5 } else { 0.5 * (s[i][j] + 1.0 - s[j][i]) };
        Ok(Self { p: (0..k).map(|i| (0..k).map(|j| p(i, j)).collect()).collect() })
    }

    /// Probability that response `i` is preferred to `j`.
    ///
    /// # Panics
    /// For a response that is not there.
    pub fn between(&self, i: usize, j: usize) -> f64 {
        self.p[i][j]
    }

    /// Mean strength of each response against the others.
    pub fn scores(&self) -> Vec<f64> {
        let others = (self.p.len() - 1) as f64;
        // The diagonal counts a half.
        self.p.iter().map(|row| (row.iter().sum::<f64>() - 0.5) / others).collect()
    }

    /// Responses from the best to the worst mean strength; ties in their order.
    pub fn ranking(&self) -> Vec<usize> {
        let scores = self.scores();
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        order
    }

    /// Number of triples of which each response beats the next: preferences that no ranking has.
    pub fn cycles(&self) -> usize {
        let k = self.p.len();
        let beats = |i: usize, j: usize| self.p[i][j] > 0.5;
        let mut count = 0;
        for a in 0..k {
            for b in a + 1..k {
                for c in b + 1..k {
                    let around = |x: usize, y: usize, z: usize| beats(x, y) && beats(y, z) && beats(z, x);
                    count += usize::from(around(a, b, c) || around(a, c, b));
                }
            }
        }
        count
    }
}

/// A ranked pair with the probability that the first is preferred; below 1/2 where the judge contradicts its own ranking.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RankedPair {
    /// Place of the higher ranked response.
    pub better: usize,
    /// Place of the other.
    pub worse: usize,
    /// The judge's probability for the first.
    pub strength: f64,
}

/// Which pairs of ranked responses are trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RankedPairing {
    /// All K(K-1)/2.
    AllPairs,
    /// The best with each other, K-1.
    BestVsRest,
    /// Each with the next, K-1.
    Adjacent,
    /// The best with the worst.
    BestVsWorst,
}

impl RankedPairing {
    /// The pairs of the responses of one prompt.
    pub fn pairs(self, strengths: &Strengths) -> Vec<RankedPair> {
        let order = strengths.ranking();
        let k = order.len();
        let places: Vec<(usize, usize)> = match self {
            RankedPairing::AllPairs => (0..k).flat_map(|i| (i + 1..k).map(move |j| (i, j))).collect(),
            RankedPairing::BestVsRest => (1..k).map(|j| (0, j)).collect(),
            RankedPairing::Adjacent => (1..k).map(|j| (j - 1, j)).collect(),
            RankedPairing::BestVsWorst => vec![(0, k - 1)],
        };
        let of = |(i, j): (usize, usize)| {
            let (better, worse) = (order[i], order[j]);
            RankedPair { better, worse, strength: strengths.between(better, worse) }
        };
        places.into_iter().map(of).collect()
    }
}

/// Regression on strengths instead of the cross entropy: `(beta h - logit p)^2`, `[B]`; strengths are kept from 0 and 1 by 1e-6, and
/// give no gradient.
///
/// # Errors
/// Vectors of different lengths, strengths outside `[0, 1]`, beta not above 0.
pub fn strength_regression_loss(margin: &Tensor, strength: &Tensor, beta: f64) -> Result<Tensor> {
    check_range("beta", beta, f64::MIN_POSITIVE..)?;
    if margin.dim() != 1 || strength.size() != margin.size() {
        return Err(Error::shape("strength", format!("[B], as the margin {:?}", margin.size()), strength));
    }
    check_values("strength", strength, 0.0..=1.0)?;
    Ok((margin * beta - strength.detach().to_kind(margin.kind()).logit(1e-6)).square())
}

/// The policy-gradient loss that preference losses stand in for: for K responses to each prompt with rewards `[N, K]`, minus the
/// log-probability `[N, K]` of each times its reward's lead over the mean of the prompt's others (leave-one-out; Ahmadian et al. 2024,
/// arXiv 2402.14740). No gradient comes from rewards. The mean of all.
///
/// # Errors
/// Matrices of different shapes, fewer than two responses.
pub fn rloo_loss(log_probs: &Tensor, rewards: &Tensor) -> Result<Tensor> {
    let k = match log_probs.size()[..] {
        [n, k] if n > 0 && k > 1 => k as f64,
        _ => return Err(Error::shape("log-probabilities", "[N, K] of two or more responses", log_probs)),
    };
    if rewards.size() != log_probs.size() {
        return Err(Error::shape("rewards", format!("{:?}", log_probs.size()), rewards));
    }
    let rewards = rewards.detach();
    // r - (sum - r)/(K-1) = K/(K-1) (r - mean).
    let lead = (&rewards - rewards.mean_dim([1i64].as_slice(), true, rewards.kind())) * (k / (k - 1.0));
    Ok(-(lead * log_probs).mean(log_probs.kind()))
}
