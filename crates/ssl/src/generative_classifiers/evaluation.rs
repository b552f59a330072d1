//! Linear evaluation of frozen features with few labels: scaling, a fit, and errors over subset sizes.

use super::naive_bayes::{GaussianNaiveBayes, NaiveBayesConfig};
use autodidact_core::error::{check_class_indices, check_matrix, check_range};
use autodidact_core::metrics::{LogisticRegression, LogisticRegressionConfig, class_accuracy};
use autodidact_core::seed::Rng;
use autodidact_core::{Error, Result};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// How features are scaled before the fit, always by statistics of the samples fitted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scaler {
    /// Not at all.
    None,
    /// To `[0, 1]` (the paper's); a constant feature is shifted only.
    MinMax,
    /// To mean 0 and population variance 1; a constant feature is shifted only.
    Standard,
}

/// The affine map that a [`Scaler`] makes of some samples.
#[derive(Debug)]
pub struct Scaling {
    /// Offset and width, `[1, D]` each.
    map: Option<(Tensor, Tensor)>,
}

impl Scaler {
    /// The map for samples `x [N, D]`.
    ///
    /// # Errors
    /// Not a matrix of floats, or without rows.
    pub fn fit(self, x: &Tensor) -> Result<Scaling> {
        if check_matrix("features", x)?.0 == 0 {
            return Err(Error::shape("features", "[N, D] with a row", x));
        }
        let x = x.to_kind(Kind::Double);
        let rows = [0i64].as_slice();
        let (offset, width) = match self {
            Scaler::None => return Ok(Scaling { map: None }),
            Scaler::MinMax => {
                let low = x.amin(rows, true);
                let width = x.amax(rows, true) - &low;
                (low, width)
            }
            Scaler::Standard => {
                let (variance, mean) = x.var_mean_dim(rows, false, true);
                (mean, variance.sqrt())
            }
        };
        let constant = width.eq(0.0);
        Ok(Scaling { map: Some((offset, width.masked_fill(&constant, 1.0))) })
    }
}

impl Scaling {
    /// Scaled features `[N, D]`, f64.
    ///
    /// # Errors
    /// Features of another width.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let (_, d) = check_matrix("features", x)?;
        match &self.map {
            None => Ok(x.to_kind(Kind::Double)),
            Some((offset, width)) if offset.size()[1] == d => Ok((x.to_kind(Kind::Double) - offset) / width),
            Some((offset, _)) => Err(Error::shape("features", format!("[N, {}]", offset.size()[1]), x)),
        }
    }
}

/// What is fitted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Classifier {
    /// Gaussian naive Bayes.
    NaiveBayes(NaiveBayesConfig),
    /// Logistic regression by scikit-learn's objective.
    LogisticRegression {
        /// Weight `C` of the summed log loss.
        c: f64,
    },
}

/// A linear evaluation: a scaler and a classifier.
///
/// ```
/// use autodidact_ssl::generative_classifiers::{Classifier, Labelled, LinearEvaluation};
/// use tch::Tensor;
/// let (x, y) = (Tensor::from_slice2(&[[0f32, 9.], [1., 9.], [4., 9.], [5., 9.]]), Tensor::from_slice(&[0i64, 0, 1, 1]));
/// let train = Labelled { x: &x, y: &y, classes: 2 };
/// let fitted = LinearEvaluation::default().fit(train)?;
/// assert_eq!(fitted.error(train)?, 0.0);
/// # Ok::<(), autodidact_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LinearEvaluation {
    /// Scaling.
    pub scaler: Scaler,
    /// Classifier.
    pub classifier: Classifier,
}

impl Default for LinearEvaluation {
    /// The paper's generative evaluation: min-max scaling, naive Bayes with shared variances.
    fn default() -> Self {
        Self { scaler: Scaler::MinMax, classifier: Classifier::NaiveBayes(NaiveBayesConfig::default()) }
    }
}

/// Features `x [N, D]` with labels `y [N]` in `0..classes`.
#[derive(Debug, Clone, Copy)]
pub struct Labelled<'a> {
    /// Features, of any floating-point kind.
    pub x: &'a Tensor,
    /// Labels, Int64.
    pub y: &'a Tensor,
    /// Number of classes.
    pub classes: i64,
}

impl Labelled<'_> {
    fn check(&self, what: &str) -> Result<()> {
        let (n, _) = check_matrix(what, self.x)?;
        check_class_indices(&format!("labels of the {what}"), self.y, n, self.classes)
    }

    /// The samples at `indices [M]`, as tensors of their own.
    pub(crate) fn select(&self, indices: &Tensor) -> (Tensor, Tensor) {
        (self.x.index_select(0, indices), self.y.index_select(0, indices))
    }
}

#[derive(Debug)]
enum Model {
    NaiveBayes(GaussianNaiveBayes),
    LogisticRegression(LogisticRegression),
}

/// A fitted [`LinearEvaluation`].
#[derive(Debug)]
pub struct FittedEvaluation {
    scaling: Scaling,
    model: Model,
}

impl LinearEvaluation {
    /// Fits scaler and classifier on the samples.
    ///
    /// # Errors
    /// Wrong shapes, labels outside the classes, features that are not finite; for naive Bayes a class without samples.
    pub fn fit(&self, train: Labelled<'_>) -> Result<FittedEvaluation> {
        train.check("training features")?;
        let scaling = self.scaler.fit(train.x)?;
        let x = scaling.apply(train.x)?;
        let model = match self.classifier {
            Classifier::NaiveBayes(config) => {
                let fitted = GaussianNaiveBayes::fit(&x, train.y, train.classes, &config)?;
                fitted.check_seen()?;
                Model::NaiveBayes(fitted)
            }
            Classifier::LogisticRegression { c } => {
                let config = LogisticRegressionConfig::scikit_learn(c, x.size()[0], train.classes)?;
                Model::LogisticRegression(LogisticRegression::fit(&x, train.y, train.classes, &config)?)
            }
        };
        Ok(FittedEvaluation { scaling, model })
    }
}

impl FittedEvaluation {
    /// Classes `[N]` of `x [N, D]`.
    ///
    /// # Errors
    /// Features of another width.
    pub fn predict(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.scaling.apply(x)?;
        match &self.model {
            Model::NaiveBayes(m) => m.predict(&x),
            Model::LogisticRegression(m) => Ok(m.logits(&x)?.argmax(1, false)),
        }
    }

    /// Share of samples classified wrongly, in `[0, 1]`.
    ///
    /// # Errors
    /// Wrong shapes, or no samples.
    pub fn error(&self, test: Labelled<'_>) -> Result<f64> {
        Ok(1.0 - class_accuracy(&self.predict(test.x)?, test.y)?)
    }
}

/// Indices `[m]` of a random subset of `labels` without replacement in which every class occurs: redrawn until one does.
///
/// # Errors
/// `m` below the number of classes or above the number of samples, a class without samples, or no success in 100,000 draws.
pub fn random_subset(labels: &Tensor, m: i64, classes: i64, rng: &mut Rng) -> Result<Tensor> {
    let n = labels.numel() as i64;
    check_class_indices("labels", labels, n, classes)?;
    check_range("subset size", m as f64, classes as f64..=n as f64)?;
    let labels_host = Vec::<i64>::try_from(labels)?;
    let mut order: Vec<i64> = (0..n).collect();
    let mut seen = vec![0usize; classes as usize];
    for draw in 1..=100_000 {
        let (subset, _) = order.partial_shuffle(rng, m as usize);
        subset.iter().for_each(|&i| seen[labels_host[i as usize] as usize] = draw);
        if seen.iter().all(|&last| last == draw) {
            return Ok(Tensor::from_slice(subset).to_device(labels.device()));
        }
    }
    Err(Error::Failed(format!("no subset of {m} of {n} samples with all {classes} classes in 100,000 draws")))
}

/// Test errors of several evaluations fitted on the same random subsets of the pool (all classes present): for each
/// evaluation its mean error over `draws` subsets at each of the `sizes`.
///
/// # Errors
/// Wrong shapes, a size that the pool does not have, no draws.
pub fn learning_curve(
    evaluations: &[LinearEvaluation],
    pool: Labelled<'_>,
    test: Labelled<'_>,
    sizes: &[i64],
    draws: usize,
    rng: &mut Rng,
) -> Result<Vec<Vec<f64>>> {
    pool.check("pool")?;
    check_range("draws", draws as f64, 1.0..)?;
    let mut curves = vec![vec![0.0; sizes.len()]; evaluations.len()];
    for (i, &m) in sizes.iter().enumerate() {
        for _ in 0..draws {
            let (x, y) = pool.select(&random_subset(pool.y, m, pool.classes, rng)?);
            for (evaluation, curve) in evaluations.iter().zip(&mut curves) {
                let fitted = evaluation.fit(Labelled { x: &x, y: &y, classes: pool.classes })?;
                curve[i] += fitted.error(test)? / draws as f64;
            }
        }
    }
    Ok(curves)
}

/// Samples at which an error curve has come within a `remainder` (0.1, say) of its way from the first error to the last:
/// the smallest `m` with `err(m) - err(m_max) <= remainder (err(m_min) - err(m_max))`, interpolated in `log m` between the
/// points of `curve`, `(m, error)` by ascending `m`. A curve that does not fall converges at its first point.
///
/// ```
/// use autodidact_ssl::generative_classifiers::samples_to_converge;
/// // The error has to come down to 0.1 + 0.1 * 0.5 = 0.15, halfway from 0.2 to 0.1: between 100 and 400, log-wise, 200.
/// let m = samples_to_converge(&[(10.0, 0.6), (100.0, 0.2), (400.0, 0.1)], 0.1)?;
/// assert!((m - 200.0).abs() < 1e-9);
/// # Ok::<(), autodidact_core::Error>(())
/// ```
///
/// # Errors
/// Fewer than two points, sizes that do not ascend from above 0, a remainder outside `[0, 1)`.
pub fn samples_to_converge(curve: &[(f64, f64)], remainder: f64) -> Result<f64> {
    check_range("remainder", remainder, 0.0..1.0)?;
    if curve.len() < 2 || !curve.is_sorted_by(|a, b| 0.0 < a.0 && a.0 < b.0) {
        return Err(Error::value("curve", "two or more points, sizes ascending from above 0", format!("{curve:?}")));
    }
    let (first, last) = (curve[0].1, curve[curve.len() - 1].1);
    let target = last + remainder * (first - last).max(0.0);
    let at = curve.iter().position(|p| p.1 <= target).unwrap_or(curve.len() - 1);
    if at == 0 {
        return Ok(curve[0].0);
    }
    let ((m0, e0), (m1, e1)) = (curve[at - 1], curve[at]);
    let t = (e0 - target) / (e0 - e1);
    Ok((m0.ln() + t * (m1.ln() - m0.ln())).exp())
}
