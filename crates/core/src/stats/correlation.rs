//! Correlation of values and of ranks.

use super::{Estimate, mean, paired};
use crate::{Error, Result};
use statrs::distribution::{ContinuousCDF, Normal};

/// Ranks from 1, equal values sharing the mean of theirs.
pub fn ranks(x: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..x.len()).collect();
    order.sort_by(|&a, &b| x[a].total_cmp(&x[b]));
    let mut ranks = vec![0.0; x.len()];
    let mut start = 0;
    while start < order.len() {
        let end = (start..order.len()).take_while(|&i| x[order[i]] == x[order[start]]).last().unwrap_or(start) + 1;
        for &i in &order[start..end] {
            ranks[i] = (start + end + 1) as f64 / 2.0;
        }
        start = end;
    }
    ranks
}

/// Pearson's correlation.
///
/// # Errors
/// Fewer than two pairs, or a constant sample.
pub fn pearson(x: &[f64], y: &[f64]) -> Result<f64> {
    let (mx, my) = (mean(x), mean(y));
    let (mut sxy, mut sxx, mut syy) = (0.0, 0.0, 0.0);
    for (a, b) in paired(x, y)? {
        sxy += (a - mx) * (b - my);
        sxx += (a - mx).powi(2);
        syy += (b - my).powi(2);
    }
    if !(sxx > 0.0 && syy > 0.0) {
        return Err(Error::value("correlation", "two samples that vary", format!("{} pairs", x.len())));
    }
    Ok(sxy / (sxx * syy).sqrt())
}

/// Spearman's rank correlation.
///
/// ```
/// assert_eq!(autodidact_core::stats::spearman(&[1.0, 2.0, 3.0], &[1.0, 8.0, 27.0]).unwrap(), 1.0);
/// ```
///
/// # Errors
/// As [`pearson`].
pub fn spearman(x: &[f64], y: &[f64]) -> Result<f64> {
    pearson(&ranks(x), &ranks(y))
}

/// Spearman's correlation with an interval by Fisher's transform (variance `1.06/(n - 3)`; Fieller et al., 1957).
///
/// # Errors
/// Fewer than four pairs; otherwise as [`pearson`].
pub fn spearman_ci(x: &[f64], y: &[f64], level: f64) -> Result<Estimate> {
    let n = x.len();
    if n < 4 {
        return Err(Error::value("pairs", "at least 4", n));
    }
    let value = spearman(x, y)?;
    let half = Normal::standard().inverse_cdf(0.5 + level / 2.0) * (1.06 / (n as f64 - 3.0)).sqrt();
    let z = value.clamp(-1.0 + 1e-12, 1.0 - 1e-12).atanh();
    Ok(Estimate { value, low: (z - half).tanh(), high: (z + half).tanh(), n })
}

/// Kendall's tau-b, which corrects for ties.
///
/// # Errors
/// As [`pearson`].
pub fn kendall(x: &[f64], y: &[f64]) -> Result<f64> {
    let pairs: Vec<_> = paired(x, y)?.collect();
    let (mut score, mut untied_x, mut untied_y) = (0.0, 0.0, 0.0);
    let sign = |d: f64| if d == 0.0 { 0.0 } else { d.signum() };
    for (i, a) in pairs.iter().enumerate() {
        for b in &pairs[..i] {
            let (dx, dy) = (sign(a.0 - b.0), sign(a.1 - b.1));
            score += dx * dy;
            untied_x += dx * dx;
            untied_y += dy * dy;
        }
    }
    if untied_x == 0.0 || untied_y == 0.0 {
        return Err(Error::value("correlation", "two samples that vary", format!("{} pairs", x.len())));
    }
    Ok(score / (untied_x * untied_y).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    const X: [f64; 8] = [1.0, 2.0, 2.0, 4.0, 5.0, 6.0, 7.0, 8.0];
    const Y: [f64; 8] = [2.0, 1.0, 4.0, 3.0, 7.0, 7.0, 5.0, 8.0];

    #[test]
    fn ties_share_their_mean_rank() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0]), [3.5, 1.0, 3.5, 2.0]);
    }

    #[test]
    fn coefficients_equal_scipy() {
        // scipy.stats.spearmanr, kendalltau and pearsonr of X and Y.
        assert!((spearman(&X, &Y).unwrap() - 0.8433734939759037).abs() < 1e-12);
        assert!((kendall(&X, &Y).unwrap() - 0.6666666666666667).abs() < 1e-12);
        assert!((pearson(&X, &Y).unwrap() - 0.8310626702997272).abs() < 1e-12);
    }

    #[test]
    fn constant_samples_are_errors_and_reversal_is_minus_one() {
        assert!(spearman(&[1.0, 1.0], &[1.0, 2.0]).is_err());
        assert!((kendall(&[1.0, 2.0, 3.0], &[3.0, 2.0, 1.0]).unwrap() + 1.0).abs() < 1e-12);
    }
}
