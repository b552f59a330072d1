//! The two-sample test of Kolmogorov and Smirnov.

use super::ln_add_exp;
use crate::{Error, Result};

/// Largest sample whose p-value is exact.
const EXACT: usize = 10_000;

/// Result of [`ks_2samp`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KsTest {
    /// Largest distance of the two empirical distribution functions.
    pub statistic: f64,
    /// Natural logarithm of the two-sided p-value, which underflows for samples that are far apart.
    pub ln_p: f64,
}

impl KsTest {
    /// The p-value.
    pub fn p(&self) -> f64 {
        self.ln_p.exp()
    }

    /// Its decimal logarithm.
    pub fn log10_p(&self) -> f64 {
        self.ln_p / std::f64::consts::LN_10
    }
}

/// Two-sided test of whether two samples come from one continuous distribution. The p-value is exact for samples of up to 10,000, from
/// the number of lattice paths that leave the band of the statistic (Hodges, 1958), and asymptotic beyond.
///
/// ```
/// use autodidact_core::stats::ks_2samp;
/// let test = ks_2samp(&[0.5, 0.9, 1.1, 1.3, 2.0], &[0.4, 0.6, 0.7, 0.8, 1.0])?;
/// assert!((test.statistic - 0.6).abs() < 1e-12 && (test.p() - 0.357143).abs() < 1e-6);
/// # Ok::<(), autodidact_core::Error>(())
/// ```
///
/// # Errors
/// An empty sample, values that are not finite.
pub fn ks_2samp(a: &[f64], b: &[f64]) -> Result<KsTest> {
    for sample in [a, b] {
        if sample.is_empty() || sample.iter().any(|v| !v.is_finite()) {
            return Err(Error::value("sample", "finite values, one at least", format!("{} values", sample.len())));
        }
    }
    let sorted = |x: &[f64]| {
        let mut x = x.to_vec();
        x.sort_unstable_by(f64::total_cmp);
        x
    };
    let (a, b) = (sorted(a), sorted(b));
    let (m, n) = (a.len(), b.len());
    // The distance in units of 1 / (m n), looked at after every different value.
    let (mut i, mut j, mut largest) = (0, 0, 0);
    while i < m && j < n {
        let here = a[i].min(b[j]);
        i += a[i..].iter().take_while(|v| **v == here).count();
        j += b[j..].iter().take_while(|v| **v == here).count();
        largest = largest.max((i * n).abs_diff(j * m));
    }
    let statistic = largest as f64 / (m * n) as f64;
    let ln_p = match (largest, m == n) {
        (0, _) => 0.0,
        _ if m.max(n) > EXACT => asymptotic(statistic, m as f64 * n as f64 / (m + n) as f64),
        (_, true) => equal_sizes(m, largest / n),
        _ => leaving_the_band(m, n, largest),
    };
    Ok(KsTest { statistic, ln_p: ln_p.min(0.0) })
}

/// `ln P(D >= h / n)` for two samples of `n`: `2 (C(2n, n-h) - C(2n, n-2h) + ...) / C(2n, n)`, nested so that nothing cancels.
fn equal_sizes(n: usize, h: usize) -> f64 {
    let mut ln_p = f64::NEG_INFINITY;
    for k in (0..=n / h).rev() {
        let term: f64 = (0..h).map(|j| ((n - k * h).saturating_sub(j) as f64 / (n + k * h + j + 1) as f64).ln()).sum();
        ln_p = term + (-ln_p.exp()).ln_1p();
    }
    2f64.ln() + ln_p
}

/// `ln P(D >= d / (m n))`: walks over the order of the pooled values, all being as likely, and adds up where they leave the band.
fn leaving_the_band(m: usize, n: usize, d: usize) -> f64 {
    // Log-probability of being at (i, j) without having left; a row per i.
    let mut row = vec![f64::NEG_INFINITY; n + 1];
    let mut left = f64::NEG_INFINITY;
    let outside = |i: usize, j: usize| (i * n).abs_diff(j * m) >= d;
    for i in 0..=m {
        for j in 0..=n {
            if (i, j) == (0, 0) {
                row[0] = 0.0;
                continue;
            }
            let before = (m + n - i - j + 1) as f64;
            let from_i = if i > 0 { row[j] + ((m - i + 1) as f64 / before).ln() } else { f64::NEG_INFINITY };
            let from_j = if j > 0 { row[j - 1] + ((n - j + 1) as f64 / before).ln() } else { f64::NEG_INFINITY };
            let here = ln_add_exp(from_i, from_j);
            row[j] = here;
            if outside(i, j) {
                left = ln_add_exp(left, here);
                row[j] = f64::NEG_INFINITY;
            }
        }
    }
    left
}

/// Kolmogorov's limit, `2 (e^-2z^2 - e^-8z^2 + ...)`, `z^2 = D^2 m n / (m + n)`.
fn asymptotic(statistic: f64, effective: f64) -> f64 {
    let z2 = statistic * statistic * effective;
    let first = -2.0 * z2;
    let rest: f64 = (2..200i32).map(|k| (-1f64).powi(k - 1) * (-2.0 * z2 * f64::from(k * k - 1)).exp()).sum();
    2f64.ln() + first + rest.max(-1.0).ln_1p()
}
