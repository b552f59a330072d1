//! Percentile bootstrap.

use super::{Estimate, check_sample, paired, quantile};
use crate::Result;
use crate::seed;
use rand::RngExt;
use rayon::prelude::*;

/// Percentile bootstrap interval of any statistic of one sample, with `resamples` draws in parallel; the same seed gives
/// the same interval.
///
/// With very few observations (under about ten) the interval is too narrow; use [`mean_ci`](super::mean_ci) for means.
///
/// # Errors
/// As [`mean_ci`](super::mean_ci).
pub fn bootstrap_ci(
    x: &[f64],
    statistic: impl Fn(&[f64]) -> f64 + Sync,
    level: f64,
    resamples: usize,
    seed: u64,
) -> Result<Estimate> {
    check_sample(x, 2, level)?;
    let draw = |i: usize| {
        let mut rng = seed::rng(seed, &["bootstrap", &i.to_string()]);
        let sample: Vec<f64> = (0..x.len()).map(|_| x[rng.random_range(0..x.len())]).collect();
        statistic(&sample)
    };
    let draws: Vec<f64> = (0..resamples).into_par_iter().map(draw).collect();
    let tail = (1.0 - level) / 2.0;
    Ok(Estimate { value: statistic(x), low: quantile(&draws, tail), high: quantile(&draws, 1.0 - tail), n: x.len() })
}

/// [`bootstrap_ci`] of a statistic of the paired differences `a_i - b_i`.
///
/// # Errors
/// Samples of different lengths; otherwise as [`bootstrap_ci`].
pub fn paired_bootstrap_ci(
    a: &[f64],
    b: &[f64],
    statistic: impl Fn(&[f64]) -> f64 + Sync,
    level: f64,
    resamples: usize,
    seed: u64,
) -> Result<Estimate> {
    let differences: Vec<f64> = paired(a, b)?.map(|(a, b)| a - b).collect();
    bootstrap_ci(&differences, statistic, level, resamples, seed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{mean, mean_ci};

    #[test]
    fn agrees_with_the_t_interval_on_a_large_sample_and_repeats() {
        let mut rng = seed::rng(3, &["test"]);
        let x: Vec<f64> = (0..400).map(|_| rng.random::<f64>()).collect();
        let b = bootstrap_ci(&x, mean, 0.95, 2000, 1).unwrap();
        let t = mean_ci(&x, 0.95).unwrap();
        let width = t.high - t.low;
        assert!((b.low - t.low).abs() < 0.1 * width && (b.high - t.high).abs() < 0.1 * width);
        assert_eq!(b, bootstrap_ci(&x, mean, 0.95, 2000, 1).unwrap());
        assert_ne!(b, bootstrap_ci(&x, mean, 0.95, 2000, 2).unwrap());
    }
}
