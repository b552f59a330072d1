//! RPO on a bandit with few arms, where the max-min problem can be looked at.

use crate::tabular::{check_distribution, normalised, softplus};
use autodidact_core::error::check_range;
use autodidact_core::fit::Lbfgs;
use autodidact_core::{Error, Result};

/// A comparison of two arms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Comparison {
    /// The preferred arm.
    pub winner: usize,
    /// The other.
    pub loser: usize,
}

/// RPO for a policy that is a softmax of free logits: mean DPO loss over comparisons plus `eta beta` times the mean negative
/// log-likelihood of their winners.
#[derive(Debug, Clone, PartialEq)]
pub struct TabularRpo {
    beta: f64,
    eta: f64,
    log_reference: Vec<f64>,
    data: Vec<Comparison>,
}

impl TabularRpo {
    /// A problem: reference probabilities of the arms, and comparisons.
    ///
    /// # Errors
    /// Beta not above 0, eta below 0, probabilities that are not positive or do not sum to 1, no comparisons, unknown arms.
    pub fn new(reference: &[f64], data: &[Comparison], beta: f64, eta: f64) -> Result<Self> {
        check_range("beta", beta, f64::MIN_POSITIVE..)?;
        check_range("eta", eta, 0.0..)?;
        check_distribution("reference", reference)?;
        if reference.iter().any(|&p| p <= 0.0) {
            return Err(Error::value("reference", "positive probabilities", "a zero"));
        }
        if data.is_empty() {
            return Err(Error::value("comparisons", "at least one", "none"));
        }
        if let Some(c) = data.iter().find(|c| c.winner.max(c.loser) >= reference.len() || c.winner == c.loser) {
            return Err(Error::value("comparison", format!("two of {} arms", reference.len()), format!("{c:?}")));
        }
        Ok(Self { beta, eta, log_reference: reference.iter().map(|p| p.ln()).collect(), data: data.to_vec() })
    }

    /// The objective at `logits`, and its gradient in `gradient`.
    ///
    /// # Panics
    /// When a slice is not as long as there are arms.
    pub fn objective(&self, logits: &[f64], gradient: &mut [f64]) -> f64 {
        assert!(logits.len() == self.log_reference.len() && gradient.len() == logits.len(), "one number per arm");
        let policy = normalised(logits).0;
        gradient.fill(0.0);
        let (n, nll) = (self.data.len() as f64, self.eta * self.beta);
        let mut total = 0.0;
        for &Comparison { winner, loser } in &self.data {
            let ratio = |a: usize| logits[a] - self.log_reference[a];
            let h = self.beta * (ratio(winner) - ratio(loser));
            total += softplus(-h) - nll * policy[winner].ln();
            let pull = self.beta / (1.0 + h.exp());
            gradient[winner] -= (pull + nll) / n;
            gradient[loser] += pull / n;
        }
        gradient.iter_mut().zip(&policy).for_each(|(g, p)| *g += nll * p);
        total / n
    }

    /// The optimal policy.
    ///
    /// # Errors
    /// Eta 0 (DPO's optimum may lie at infinity: use [`descend`](Self::descend)); a search that fails.
    pub fn solve(&self) -> Result<Vec<f64>> {
        check_range("eta of a problem to solve", self.eta, f64::MIN_POSITIVE..)?;
        let search = Lbfgs { max_iterations: 5_000, f_tolerance: 0.0, g_tolerance: 1e-12, ..Lbfgs::default() };
        let found = search.minimise(&vec![0.0; self.log_reference.len()], |x, g| self.objective(x, g));
        let found = found.ok_or_else(|| Error::Failed("the tabular objective is not finite at its start".into()))?;
        Ok(normalised(&found.x).0)
    }

    /// The policy after gradient descent from the reference.
    ///
    /// # Errors
    /// A learning rate not above 0.
    pub fn descend(&self, steps: usize, lr: f64) -> Result<Vec<f64>> {
        check_range("learning rate", lr, f64::MIN_POSITIVE..)?;
        let (mut logits, mut gradient) = (self.log_reference.clone(), vec![0.0; self.log_reference.len()]);
        for _ in 0..steps {
            let _value = self.objective(&logits, &mut gradient);
            logits.iter_mut().zip(&gradient).for_each(|(x, g)| *x -= lr * g);
        }
        Ok(normalised(&logits).0)
    }
}

/// The bracket of the max-min problem for a policy and a reward: `E_pi r - E_base r - beta KL(pi || ref)`.
///
/// # Errors
/// Slices that differ in length, probabilities that do not sum to 1, a policy outside the reference's support.
pub fn policy_bracket(policy: &[f64], reward: &[f64], base: &[f64], reference: &[f64], beta: f64) -> Result<f64> {
    for (what, p) in [("policy", policy), ("base", base), ("reference", reference)] {
        check_distribution(what, p)?;
        if p.len() != reward.len() {
            return Err(Error::value(what, format!("{} arms, as rewards", reward.len()), p.len()));
        }
    }
    check_range("beta", beta, f64::MIN_POSITIVE..)?;
    let mut sum = 0.0;
    for i in 0..reward.len() {
        sum += (policy[i] - base[i]) * reward[i];
        if policy[i] > 0.0 {
            if reference[i] == 0.0 {
                return Err(Error::value("policy", "the support of the reference", format!("arm {i}")));
            }
            sum -= beta * policy[i] * (policy[i] / reference[i]).ln();
        }
    }
    Ok(sum)
}

/// The largest bracket over all policies, `beta log Z_r - E_base r`, and the policy `pi_ref exp(r/beta) / Z_r` that attains it.
///
/// # Errors
/// As [`policy_bracket`].
pub fn inner_maximum(reward: &[f64], base: &[f64], reference: &[f64], beta: f64) -> Result<(f64, Vec<f64>)> {
    check_range("beta", beta, f64::MIN_POSITIVE..)?;
    check_distribution("reference", reference)?;
    let logits: Vec<f64> = reward.iter().zip(reference).map(|(r, q)| r / beta + q.ln()).collect();
    let policy = normalised(&logits).0;
    Ok((policy_bracket(&policy, reward, base, reference, beta)?, policy))
}

/// How badly data of pairs (probabilities over ordered pairs of arms) may miss what tells a policy from a baseline: the largest of
/// `E_{pi, base}[D] / sqrt(E_data[D^2])` over rewards of a finite class, with `D` the error of the reward's differences against the
/// true one's; at least 0, infinite where data see no error that the policy pays for.
///
/// # Errors
/// Rewards of other lengths, probabilities that do not sum to 1.
pub fn coverage_coefficient(
    policy: &[f64],
    base: &[f64],
    truth: &[f64],
    rewards: &[Vec<f64>],
    data: &[((usize, usize), f64)],
) -> Result<f64> {
    let arms = truth.len();
    for (what, p) in [("policy", policy), ("base", base)] {
        check_distribution(what, p)?;
        if p.len() != arms {
            return Err(Error::value(what, format!("{arms} arms"), p.len()));
        }
    }
    check_distribution("pairs", &data.iter().map(|d| d.1).collect::<Vec<_>>())?;
    if data.iter().any(|((a, b), _)| a.max(b) >= &arms) || rewards.iter().any(|r| r.len() != arms) {
        return Err(Error::value("pairs and rewards", format!("{arms} arms"), "others"));
    }
    let mut largest: f64 = 0.0;
    for reward in rewards {
        let error: Vec<f64> = truth.iter().zip(reward).map(|(t, r)| t - r).collect();
        let mean = |p: &[f64]| p.iter().zip(&error).map(|(p, e)| p * e).sum::<f64>();
        let missed = mean(policy) - mean(base);
        let seen: f64 = data.iter().map(|&((a, b), p)| p * (error[a] - error[b]).powi(2)).sum();
        if missed > 0.0 {
            largest = largest.max(missed / seen.sqrt());
        }
    }
    Ok(largest)
}
