//! What the methods on finitely many responses share.

use autodidact_core::Result;
use autodidact_core::error::check_range;

/// Checks that probabilities lie in `[0, 1]` and sum to 1.
pub(crate) fn check_distribution(what: &str, p: &[f64]) -> Result<()> {
    p.iter().try_for_each(|&p| check_range(what, p, 0.0..=1.0))?;
    check_range(&format!("sum of {what}"), p.iter().sum(), 1.0 - 1e-9..=1.0 + 1e-9)
}

/// Probabilities in proportion to the exponentials of `logits`, and the logarithm of the sum of these.
pub(crate) fn normalised(logits: &[f64]) -> (Vec<f64>, f64) {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logits.iter().map(|x| (x - largest).exp()).sum();
    let log_z = largest + sum.ln();
    (logits.iter().map(|x| (x - log_z).exp()).collect(), log_z)
}

/// `log(1 + exp(x))`.
pub(crate) fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}
