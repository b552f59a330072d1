//! The chain in the eigenbasis of the kernel matrix.

use autodidact_core::error::check_range;
use autodidact_core::{Error, Result};

fn check(eigenvalues: &[f64], lambda: f64) -> Result<()> {
    check_range("lambda", lambda, f64::MIN_POSITIVE..)?;
    match eigenvalues.iter().find(|d| !(d.is_finite() && **d >= 0.0)) {
        Some(bad) => Err(Error::value("eigenvalues", "finite values of at least 0", bad)),
        None => Ok(()),
    }
}

/// Diagonal of `B^(t)` after steps with ground-truth weights `alphas` (that of step 1 has no effect), by the recursion; `t`
/// is the number of weights.
///
/// # Errors
/// Eigenvalues below 0, `lambda` not above 0, no step.
pub fn shrinkage_recursion(eigenvalues: &[f64], lambda: f64, alphas: &[f64]) -> Result<Vec<f64>> {
    check(eigenvalues, lambda)?;
    if alphas.is_empty() {
        return Err(Error::value("steps", "at least 1", 0));
    }
    let a: Vec<f64> = eigenvalues.iter().map(|d| d / (d + lambda)).collect();
    let mut b = a.clone();
    for alpha in &alphas[1..] {
        b.iter_mut().zip(&a).for_each(|(b, a)| *b = a * ((1.0 - alpha) * *b + alpha));
    }
    Ok(b)
}

/// Diagonal of `B^(t)` at a constant weight, in closed form:
/// `(1 - alpha)^(t-1) A^t + alpha A (1 - ((1-alpha) A)^(t-1)) / (1 - (1-alpha) A)`.
///
/// # Errors
/// As [`shrinkage_recursion`]; `alpha` outside `[0, 1]`.
pub fn shrinkage_closed_form(eigenvalues: &[f64], lambda: f64, alpha: f64, t: u32) -> Result<Vec<f64>> {
    check(eigenvalues, lambda)?;
    check_range("alpha", alpha, 0.0..=1.0)?;
    if t == 0 {
        return Err(Error::value("steps", "at least 1", 0));
    }
    let factor = |d: &f64| {
        let a = d / (d + lambda);
        let kept = ((1.0 - alpha) * a).powi(t as i32 - 1);
        // a < 1, so the denominator is above 0 even at alpha = 0.
        a * kept + alpha * a * (1.0 - kept) / (1.0 - (1.0 - alpha) * a)
    };
    Ok(eigenvalues.iter().map(factor).collect())
}

/// The penalty of the plain ridge regression that the chain converges to: `lambda / alpha`, infinite at `alpha = 0`.
pub fn limit_lambda(lambda: f64, alpha: f64) -> f64 {
    lambda / alpha
}

/// Diagonal of the limit `alpha D (alpha D + lambda I)^-1`; zero at `alpha = 0`.
///
/// # Errors
/// As [`shrinkage_closed_form`].
pub fn limit_shrinkage(eigenvalues: &[f64], lambda: f64, alpha: f64) -> Result<Vec<f64>> {
    check(eigenvalues, lambda)?;
    check_range("alpha", alpha, 0.0..=1.0)?;
    Ok(eigenvalues.iter().map(|d| alpha * d / (alpha * d + lambda)).collect())
}

/// Ratios `B_j / B_k` of neighbouring modes, eigenvalues ascending, modes with `d_k` at most `floor` left out: how sparse the
/// solution is in the eigenbasis.
///
/// With `q = a_j/a_k` (at least 1, `a = d/(d + lambda)`) the ratio is `q^t` at `alpha = 0`, which grows without bound. At any
/// other weight, `B^(t)` is a positive combination of `a, a^2, ..., a^t`, so the ratio is from `q` to `q^t`; and as every mode
/// falls from `a` to its limit, the ratio is at most `1/alpha` times that of [`limit_shrinkage`], to which it tends. The
/// limit's ratio is itself no bound: modes with `a` near 1 fall late, and until then the ratio may be above.
pub fn sparsity_ratios(eigenvalues: &[f64], shrinkage: &[f64], floor: f64) -> Vec<f64> {
    let mut modes: Vec<(f64, f64)> =
        eigenvalues.iter().copied().zip(shrinkage.iter().copied()).filter(|m| m.0 > floor).collect();
    modes.sort_by(|a, b| a.0.total_cmp(&b.0));
    modes.windows(2).map(|w| w[1].1 / w[0].1).collect()
}
