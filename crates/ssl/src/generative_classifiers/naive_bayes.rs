//! Gaussian naive Bayes from class moments that merge.

use autodidact_core::error::{check_class_indices, check_matrix, check_range};
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};
use std::f64::consts::TAU;
use tch::{Device, Kind, Tensor};

/// Whose variance a feature has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VarianceMode {
    /// One for all classes, the prior-weighted mean of theirs: a linear classifier, the paper's.
    SharedDiagonal,
    /// One per class: a quadratic classifier, the textbook's (and scikit-learn's).
    PerClassDiagonal,
}

/// Settings of [`GaussianNaiveBayes`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct NaiveBayesConfig {
    /// Shared or per class.
    pub variance: VarianceMode,
    /// Added to every variance, in squared units of the features; above 0, or a feature constant within its class is
    /// infinitely sure.
    pub floor: f64,
}

impl Default for NaiveBayesConfig {
    /// The paper's: shared variances, 1e-9.
    fn default() -> Self {
        Self { variance: VarianceMode::SharedDiagonal, floor: 1e-9 }
    }
}

/// A Gaussian naive Bayes classifier, fitted at once or batch by batch; any split of the data gives the same classifier.
#[derive(Debug)]
pub struct GaussianNaiveBayes {
    config: NaiveBayesConfig,
    /// Samples per class, `[K, 1]`, f64 as all of these.
    counts: Tensor,
    /// `[K, D]`.
    means: Tensor,
    /// Sums of squared deviations from the class mean, `[K, D]`.
    squares: Tensor,
}

impl GaussianNaiveBayes {
    /// A classifier of `features` features in `classes` classes that has seen nothing.
    ///
    /// # Errors
    /// No features, no classes, a floor that is not above 0.
    pub fn new(features: i64, classes: i64, device: Device, config: &NaiveBayesConfig) -> Result<Self> {
        check_range("features", features as f64, 1.0..)?;
        check_range("classes", classes as f64, 1.0..)?;
        check_range("floor", config.floor, f64::MIN_POSITIVE..)?;
        let zeros = |d| Tensor::zeros([classes, d], (Kind::Double, device));
        Ok(Self { config: *config, counts: zeros(1), means: zeros(features), squares: zeros(features) })
    }

    /// Fits `features [N, D]` with `labels [N]` in `0..classes`; moments are in f64 whatever the kind of `features`.
    ///
    /// # Errors
    /// As [`new`](Self::new) and [`partial_fit`](Self::partial_fit).
    pub fn fit(features: &Tensor, labels: &Tensor, classes: i64, config: &NaiveBayesConfig) -> Result<Self> {
        let (_, d) = check_matrix("features", features)?;
        let mut fitted = Self::new(d, classes, features.device(), config)?;
        fitted.partial_fit(features, labels)?;
        Ok(fitted)
    }

    /// Adds a batch `features [N, D]`, `labels [N]`: with counts `a` (before) and `b` (of the batch) of a class,
    /// `mu = (a mu_a + b mu_b)/(a+b)` and the sums of squares add up, plus `a b/(a+b) (mu_a - mu_b)^2`.
    ///
    /// # Errors
    /// Wrong shapes, an empty batch, labels outside the classes, features that are not finite.
    pub fn partial_fit(&mut self, features: &Tensor, labels: &Tensor) -> Result<()> {
        self.check_width(features)?;
        let (classes, _) = self.means.size2()?;
        check_class_indices("labels", labels, features.size()[0], classes)?;
        if !features.isfinite().all().int64_value(&[]).eq(&1) {
            return Err(Error::value("features", "finite values", "NaN or infinity"));
        }
        let features = features.to_kind(Kind::Double);
        let member = labels.one_hot(classes).to_kind(Kind::Double).tr();
        let b = member.sum_dim_intlist([1i64].as_slice(), true, Kind::Double);
        let means = member.matmul(&features) / b.clamp_min(1.0);
        // Deviations before squaring: sums of squares minus squared sums would cancel.
        let squares = member.matmul(&(&features - means.index_select(0, labels)).square());
        let (a, total) = (&self.counts, &self.counts + &b);
        let share = &b / total.clamp_min(1.0);
        let gap = means - &self.means;
        self.squares = &self.squares + squares + a * &share * gap.square();
        self.means = &self.means + gap * share;
        self.counts = total;
        Ok(())
    }

    /// Scores `log p(features, k)` of `features [N, D]`: `[N, K]`, f64, constants included.
    ///
    /// # Errors
    /// Features of another width; a class that was never seen.
    pub fn log_joint(&self, features: &Tensor) -> Result<Tensor> {
        Ok(self.log_likelihood(features)? + self.priors()?.log())
    }

    /// `log p(features | k)` of `features [N, D]`: `[N, K]`, f64, constants included.
    ///
    /// # Errors
    /// As [`log_joint`](Self::log_joint).
    pub fn log_likelihood(&self, features: &Tensor) -> Result<Tensor> {
        let (features, means) = self.centred(features)?;
        let v = self.variances()?.expand_as(&means);
        let norm = (&v * TAU).log().sum_dim_intlist([1i64].as_slice(), false, Kind::Double) * 0.5;
        // The square written out: matrix products instead of [N, K, D].
        Ok(features.matmul(&(&means / &v).tr())
            - features.square().matmul(&(v.reciprocal() * 0.5).tr())
            - half_norms(&means, &v)
            - norm)
    }

    /// The most probable class of each row of `features [N, D]`: `[N]`, Int64. Of equal scores the first wins.
    ///
    /// # Errors
    /// As [`log_joint`](Self::log_joint).
    pub fn predict(&self, features: &Tensor) -> Result<Tensor> {
        if self.config.variance == VarianceMode::PerClassDiagonal {
            return Ok(self.log_joint(features)?.argmax(1, false));
        }
        let (features, means) = self.centred(features)?;
        let v = self.variances()?;
        let scores = features.matmul(&(&means / &v).tr()) - half_norms(&means, &v) + self.priors()?.log();
        Ok(scores.argmax(1, false))
    }

    /// `(W [K, D], b [K])` of the linear classifier `argmax W x + b` that shared variances make:
    /// `w_k = mu_k/v`, `b_k = log pi_k - 1/2 sum_j mu_kj^2/v_j`.
    ///
    /// # Errors
    /// Variances per class, which make no linear classifier; a class that was never seen.
    pub fn as_linear(&self) -> Result<(Tensor, Tensor)> {
        if self.config.variance == VarianceMode::PerClassDiagonal {
            return Err(Error::value("variance", "shared, for a linear form", "per class"));
        }
        let v = self.variances()?;
        Ok((&self.means / &v, self.priors()?.log() - half_norms(&self.means, &v)))
    }

    /// Class shares `pi`, `[K]`, f64.
    ///
    /// # Errors
    /// A class that was never seen.
    pub fn priors(&self) -> Result<Tensor> {
        self.check_seen()?;
        Ok(self.counts.squeeze_dim(1) / self.counts.sum(Kind::Double))
    }

    /// Class means, `[K, D]`, f64.
    pub fn means(&self) -> &Tensor {
        &self.means
    }

    /// Variances with the floor: `[1, D]` if shared, else `[K, D]`; f64.
    ///
    /// # Errors
    /// A class that was never seen.
    pub fn variances(&self) -> Result<Tensor> {
        self.check_seen()?;
        let raw = match self.config.variance {
            // sum_k pi_k SSD_k/m_k = sum_k SSD_k / m.
            VarianceMode::SharedDiagonal => {
                self.squares.sum_dim_intlist([0i64].as_slice(), true, Kind::Double) / self.counts.sum(Kind::Double)
            }
            VarianceMode::PerClassDiagonal => &self.squares / &self.counts,
        };
        Ok(raw + self.config.floor)
    }

    /// Checks that every class has samples.
    pub(super) fn check_seen(&self) -> Result<()> {
        if self.counts.min().double_value(&[]) >= 1.0 {
            return Ok(());
        }
        let unseen = self.counts.argmin(0, false).int64_value(&[0]);
        Err(Error::value("samples", "at least one of every class", format!("none of class {unseen}")))
    }

    fn check_width(&self, features: &Tensor) -> Result<()> {
        let d = self.means.size()[1];
        match check_matrix("features", features)? {
            (n, width) if n > 0 && width == d => Ok(()),
            _ => Err(Error::shape("features", format!("[N, {d}] with a row"), features)),
        }
    }

    /// Samples and class means with the overall mean taken off: far from 0 the squares would cancel.
    fn centred(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        self.check_width(x)?;
        let centre = self.priors()?.unsqueeze(0).matmul(&self.means);
        Ok((x.to_kind(Kind::Double) - &centre, &self.means - &centre))
    }
}

/// `1/2 sum_j mu_kj^2/v_j`, `[K]`.
fn half_norms(means: &Tensor, v: &Tensor) -> Tensor {
    (means.square() / v).sum_dim_intlist([1i64].as_slice(), false, Kind::Double) * 0.5
}
