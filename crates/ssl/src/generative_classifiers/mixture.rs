//! The paper's simulation: Gaussian classes whose Bayes error is known, and the samples a classifier needs to come near it.
//!
//! Class `k` is `N(c_k 1, diag(n, .., n, 1, .., 1))` in `n` dimensions, half of them wide; `c = -1, 1, 2, 4, 8, ...`.

use super::evaluation::{Labelled, LinearEvaluation, random_subset};
use autodidact_core::error::check_range;
use autodidact_core::seed::Rng;
use autodidact_core::{Error, Result};
use rand_distr::{Distribution, StandardNormal};
use statrs::distribution::{ContinuousCDF, Normal};
use tch::Tensor;

/// The mixture: `classes` in `dimension` dimensions.
///
/// ```
/// use autodidact_ssl::generative_classifiers::mixture::GaussianMixtureTask;
/// // Two classes in 10 dimensions: means two apart along 1, precision S = 5/10 + 5; the error is Phi(-sqrt(5.5)).
/// let task = GaussianMixtureTask::new(2, 10)?;
/// assert!((task.bayes_error() - 0.009508).abs() < 1e-6);
/// # Ok::<(), autodidact_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GaussianMixtureTask {
    classes: i64,
    dimension: i64,
}

impl GaussianMixtureTask {
    /// A mixture of 2 to 60 classes in an even number of dimensions (the paper: 2, 3, 5, 7 in 100 to 1000).
    ///
    /// # Errors
    /// Other numbers.
    pub fn new(classes: i64, dimension: i64) -> Result<Self> {
        check_range("classes", classes as f64, 2.0..=60.0)?;
        if dimension < 2 || dimension % 2 != 0 {
            return Err(Error::value("dimension", "an even number from 2 on", dimension));
        }
        Ok(Self { classes, dimension })
    }

    /// Position `c_k` of each class along the diagonal.
    pub fn centres(&self) -> Vec<f64> {
        std::iter::once(-1.0).chain((0..self.classes - 1).map(|k| (k as f64).exp2())).collect()
    }

    /// Error of the best classifier for balanced classes, exact: `t = (sum_j x_j/v_j)/S` with `S = sum_j 1/v_j = 1/2 + n/2`
    /// is sufficient and `N(c_k, 1/S)`, so that the error is the mass beyond the mid-points between neighbours.
    pub fn bayes_error(&self) -> f64 {
        let precision = 0.5 + self.dimension as f64 / 2.0;
        let tail = |gap: f64| Normal::standard().cdf(-gap / 2.0 * precision.sqrt());
        let tails: f64 = self.centres().windows(2).map(|c| 2.0 * tail(c[1] - c[0])).sum();
        tails / self.classes as f64
    }

    /// `count` samples in turn from the classes: `([count, dimension]` f32, labels `[count])`.
    pub fn sample(&self, count: i64, rng: &mut Rng) -> (Tensor, Tensor) {
        let (n, centres) = (self.dimension as usize, self.centres());
        let wide = (n as f64).sqrt();
        let mut x = Vec::with_capacity(count as usize * n);
        for i in 0..count as usize {
            let centre = centres[i % centres.len()];
            x.extend((0..n).map(|j| {
                let z: f64 = StandardNormal.sample(rng);
                (centre + z * if j < n / 2 { wide } else { 1.0 }) as f32
            }));
        }
        let y: Vec<i64> = (0..count).map(|i| i % self.classes).collect();
        (Tensor::from_slice(&x).view([count, self.dimension]), Tensor::from_slice(&y))
    }
}

/// Subset sizes from `first` to `last`, each `ratio` times (and at least one more than) the one before.
///
/// ```
/// use autodidact_ssl::generative_classifiers::mixture::geometric_sizes;
/// assert_eq!(geometric_sizes(4, 20, 1.5)?, [4, 6, 9, 14]);
/// # Ok::<(), autodidact_core::Error>(())
/// ```
///
/// # Errors
/// `first` below 1, a ratio not above 1.
pub fn geometric_sizes(first: i64, last: i64, ratio: f64) -> Result<Vec<i64>> {
    check_range("first size", first as f64, 1.0..)?;
    if !(ratio.is_finite() && ratio > 1.0) {
        return Err(Error::value("ratio", "a finite number above 1", ratio));
    }
    let next = |m: &i64| Some(((*m as f64 * ratio).round() as i64).max(m + 1));
    Ok(std::iter::successors(Some(first), next).take_while(|m| *m <= last).collect())
}

/// The sample complexity `m*`: the first of `sizes` at which the test error, averaged over `draws` random subsets of the
/// pool, is below `target`; none if it never is.
///
/// # Errors
/// Wrong shapes, a size that the pool does not have, no draws.
pub fn sample_complexity(
    evaluation: &LinearEvaluation,
    pool: Labelled<'_>,
    test: Labelled<'_>,
    target: f64,
    sizes: &[i64],
    draws: usize,
    rng: &mut Rng,
) -> Result<Option<i64>> {
    check_range("draws", draws as f64, 1.0..)?;
    for &m in sizes {
        let mut sum = 0.0;
        for _ in 0..draws {
            let (x, y) = pool.select(&random_subset(pool.y, m, pool.classes, rng)?);
            sum += evaluation.fit(Labelled { x: &x, y: &y, classes: pool.classes })?.error(test)?;
        }
        if sum / (draws as f64) < target {
            return Ok(Some(m));
        }
    }
    Ok(None)
}
