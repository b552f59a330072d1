//! Statistics of experiments: means with confidence intervals, paired differences, bootstrap, proportions, rank correlation.

mod bootstrap;
mod correlation;
mod ks;
mod segments;

pub use bootstrap::{bootstrap_ci, paired_bootstrap_ci};
pub use correlation::{kendall, pearson, ranks, spearman, spearman_ci};
pub use ks::{KsTest, ks_2samp};
pub use segments::TwoSegments;

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

/// A point estimate with a confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The estimate.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
    /// Observations behind it.
    pub n: usize,
}

impl Estimate {
    /// A value known exactly (a computed identity, a single deterministic run).
    pub fn exact(value: f64) -> Self {
        Self { value, low: value, high: value, n: 1 }
    }
}

/// Arithmetic mean; NaN of nothing.
pub fn mean(x: &[f64]) -> f64 {
    x.iter().sum::<f64>() / x.len() as f64
}

/// Unbiased variance (divisor `n - 1`); NaN of fewer than two values.
pub fn variance(x: &[f64]) -> f64 {
    let m = mean(x);
    x.iter().map(|v| (v - m).powi(2)).sum::<f64>() / (x.len() as f64 - 1.0)
}

/// Standard error of the mean.
pub fn standard_error(x: &[f64]) -> f64 {
    (variance(x) / x.len() as f64).sqrt()
}

/// Smallest and largest value (NaN left out); `(inf, -inf)` of nothing.
pub fn extent(values: impl IntoIterator<Item = f64>) -> (f64, f64) {
    values.into_iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)))
}

/// Median (the mean of the middle two for an even count); NaN of nothing.
pub fn median(x: &[f64]) -> f64 {
    quantile(x, 0.5)
}

/// Quantile by linear interpolation between order statistics (type 7, as NumPy); NaN of nothing.
pub fn quantile(x: &[f64], q: f64) -> f64 {
    let mut sorted = x.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let at = q.clamp(0.0, 1.0) * last as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    // Equal neighbours may be infinite.
    if low == high { low } else { low + (high - low) * at.fract() }
}

/// Two-sided critical value of Student's t.
pub fn t_critical(degrees: f64, level: f64) -> f64 {
    StudentsT::new(0.0, 1.0, degrees).map_or(f64::NAN, |t| t.inverse_cdf(0.5 + level / 2.0))
}

fn check_sample(x: &[f64], at_least: usize, level: f64) -> Result<()> {
    crate::error::check_range("confidence level", level, 0.0..1.0)?;
    if x.len() < at_least {
        return Err(Error::value("sample size", format!("at least {at_least}"), x.len()));
    }
    match x.iter().find(|v| !v.is_finite()) {
        Some(bad) => Err(Error::value("sample", "finite values", bad)),
        None => Ok(()),
    }
}

/// Mean with Student's t interval.
///
/// ```
/// let e = autodidact_core::stats::mean_ci(&[1.0, 2.0, 3.0], 0.95).unwrap();
/// assert_eq!(e.value, 2.0);
/// assert!((e.high - (2.0 + 4.302653 / 3f64.sqrt())).abs() < 1e-5); // t(2, 97.5 %) = 4.302653
/// ```
///
/// # Errors
/// Fewer than two values, values that are not finite, a level outside `(0, 1)`.
pub fn mean_ci(x: &[f64], level: f64) -> Result<Estimate> {
    check_sample(x, 2, level)?;
    let (value, half) = (mean(x), t_critical(x.len() as f64 - 1.0, level) * standard_error(x));
    Ok(Estimate { value, low: value - half, high: value + half, n: x.len() })
}

/// Mean of the paired differences `a_i - b_i` with Student's t interval.
///
/// # Errors
/// Samples of different lengths; otherwise as [`mean_ci`].
pub fn paired_difference_ci(a: &[f64], b: &[f64], level: f64) -> Result<Estimate> {
    mean_ci(&paired(a, b)?.map(|(a, b)| a - b).collect::<Vec<_>>(), level)
}

fn paired<'a>(a: &'a [f64], b: &'a [f64]) -> Result<impl Iterator<Item = (f64, f64)> + 'a> {
    if a.len() != b.len() {
        return Err(Error::value("paired samples", format!("{} values each", a.len()), b.len()));
    }
    Ok(a.iter().copied().zip(b.iter().copied()))
}

/// Wilson's score interval for a proportion.
///
/// ```
/// let e = autodidact_core::stats::wilson_ci(8, 10, 0.95).unwrap();
/// assert!((e.low - 0.4902).abs() < 1e-4 && (e.high - 0.9433).abs() < 1e-4);
/// ```
///
/// # Errors
/// No trials, or more successes than trials.
pub fn wilson_ci(successes: usize, trials: usize, level: f64) -> Result<Estimate> {
    crate::error::check_range("confidence level", level, 0.0..1.0)?;
    if trials == 0 || successes > trials {
        return Err(Error::value("successes", format!("at most {trials} of at least 1 trial"), successes));
    }
    let z = Normal::standard().inverse_cdf(0.5 + level / 2.0);
    let (n, p) = (trials as f64, successes as f64 / trials as f64);
    let centre = (p + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z / (1.0 + z * z / n) * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    Ok(Estimate { value: p, low: (centre - half).max(0.0), high: (centre + half).min(1.0), n: trials })
}

/// A test's statistic with its two-sided p.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TestResult {
    /// The statistic.
    pub statistic: f64,
    /// Probability of one as large, or larger, by chance.
    pub p: f64,
}

/// McNemar's test of two classifiers (or one before and after) on the same cases, with Edwards' correction for continuity: of the cases
/// that only one of them gets right, `b` by the first and `c` by the second, `max(0, |b - c| - 1)^2 / (b + c)` is chi-squared with one
/// degree of freedom. Means of counts over repetitions may be given too. Without such cases the statistic is 0.
///
/// ```
/// let test = autodidact_core::stats::mcnemar(40.0, 65.0).unwrap();
/// // 24^2 / 105.
/// assert!((test.statistic - 5.4857).abs() < 1e-4 && (test.p - 0.0192).abs() < 1e-4);
/// ```
///
/// # Errors
/// Counts that are negative or not finite.
pub fn mcnemar(b: f64, c: f64) -> Result<TestResult> {
    for count in [b, c] {
        crate::error::check_range("count of McNemar's test", count, 0.0..f64::INFINITY)?;
    }
    let statistic = if b + c > 0.0 { ((b - c).abs() - 1.0).max(0.0).powi(2) / (b + c) } else { 0.0 };
    Ok(TestResult { statistic, p: 2.0 * Normal::standard().sf(statistic.sqrt()) })
}

/// `ln(e^a + e^b)`, without overflow; minus infinity stands for `ln 0`.
///
/// ```
/// use autodidact_core::stats::ln_add_exp;
/// assert!((ln_add_exp(-1000.0, -1000.0) + 1000.0 - 2f64.ln()).abs() < 1e-12);
/// assert_eq!(ln_add_exp(f64::NEG_INFINITY, 3.0), 3.0);
/// ```
pub fn ln_add_exp(a: f64, b: f64) -> f64 {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    if low == f64::NEG_INFINITY { high } else { high + (low - high).exp().ln_1p() }
}

/// Slope of the least-squares line of `y` on `x`.
///
/// # Errors
/// Fewer than two points, or all `x` equal.
pub fn slope(x: &[f64], y: &[f64]) -> Result<f64> {
    let pairs: Vec<_> = paired(x, y)?.collect();
    let (mx, my) = (mean(x), mean(y));
    let (sxy, sxx) =
        pairs.iter().fold((0.0, 0.0), |(sxy, sxx), (x, y)| (sxy + (x - mx) * (y - my), sxx + (x - mx).powi(2)));
    if pairs.len() < 2 || sxx == 0.0 {
        return Err(Error::value("x of a slope", "two or more different values", pairs.len()));
    }
    Ok(sxy / sxx)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_interpolate_as_numpy_does() {
        let x = [4.0, 1.0, 3.0, 2.0];
        assert_eq!((quantile(&x, 0.0), median(&x), quantile(&x, 1.0)), (1.0, 2.5, 4.0));
        assert!((quantile(&x, 0.1) - 1.3).abs() < 1e-12);
        assert!(median(&[]).is_nan());
        assert_eq!(median(&[1.0, f64::INFINITY, f64::INFINITY]), f64::INFINITY);
    }

    #[test]
    fn a_constant_shift_between_pairs_has_a_zero_width_interval() {
        let a = [1.0, 5.0, 2.0];
        let b = [0.5, 4.5, 1.5];
        let e = paired_difference_ci(&a, &b, 0.95).unwrap();
        assert!((e.value - 0.5).abs() < 1e-12 && (e.high - e.low).abs() < 1e-12);
        assert!(paired_difference_ci(&a, &b[..2], 0.95).is_err());
    }

    #[test]
    fn bad_samples_are_errors() {
        assert!(mean_ci(&[1.0], 0.95).unwrap_err().to_string().contains("at least 2"));
        assert!(mean_ci(&[1.0, f64::NAN], 0.95).is_err());
        assert!(mean_ci(&[1.0, 2.0], 1.0).is_err());
        assert!(wilson_ci(3, 2, 0.95).is_err());
    }

    #[test]
    fn a_slope_is_that_of_the_line() {
        assert!((slope(&[0.0, 1.0, 2.0], &[1.0, 3.0, 5.0]).unwrap() - 2.0).abs() < 1e-12);
        assert!(slope(&[1.0, 1.0], &[0.0, 1.0]).is_err());
    }
}
