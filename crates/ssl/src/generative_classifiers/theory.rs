//! What the paper's analysis says in numbers: from excess log loss to excess error, samples for naive Bayes, and whether
//! features meet its assumptions.
//!
//! Logistic regression has no function here: uniform convergence over linear classifiers gives it `O(n)` samples, with
//! constants that say nothing at practical sizes.

use super::evaluation::Labelled;
use super::naive_bayes::{GaussianNaiveBayes, NaiveBayesConfig};
use autodidact_core::error::check_range;
use autodidact_core::stats::quantile;
use autodidact_core::{Error, Result};
use tch::{Kind, Tensor};

/// `psi(t) = (1+t)/2 ln(1+t) + (1-t)/2 ln(1-t)`, the least excess log loss of a wrong prediction in a two-class problem
/// whose class probabilities differ by `t`; at least `t^2/2`.
///
/// ```
/// use autodidact_ssl::generative_classifiers::theory::psi;
/// assert_eq!((psi(0.0)?, psi(1.0)?), (0.0, 2f64.ln()));
/// # Ok::<(), autodidact_core::Error>(())
/// ```
///
/// # Errors
/// `t` outside `[0, 1]`.
pub fn psi(t: f64) -> Result<f64> {
    check_range("t", t, 0.0..=1.0)?;
    // t ln t goes to 0 with t.
    let half = |u: f64| if u == 0.0 { 0.0 } else { u / 2.0 * u.ln() };
    // The two terms cancel near 0, where psi is t^2/2 + t^4/12.
    Ok(if t < 1e-3 { t * t / 2.0 + t.powi(4) / 12.0 } else { half(1.0 + t) + half(1.0 - t) })
}

/// Least excess log loss `KL(p||q)` of a softmax prediction `q` whose largest entry is at a class of probability
/// `predicted` when another has `best`: `s psi((best - predicted)/s)`, `s = best + predicted`.
///
/// # Errors
/// Not `0 <= predicted <= best`, `best` of 0, a sum above 1.
pub fn excess_log_loss_lower(best: f64, predicted: f64) -> Result<f64> {
    check_range("best", best, f64::MIN_POSITIVE..=1.0)?;
    check_range("predicted", predicted, 0.0..=best)?;
    let s = best + predicted;
    check_range("best + predicted", s, 0.0..=1.0 + 1e-12)?;
    Ok(s * psi((best - predicted) / s)?)
}

/// Most excess zero-one error of a linear classifier whose expected log loss exceeds the least possible by `excess_log`:
/// `sqrt(2 excess_log)`, at most 1. (By [`excess_log_loss_lower`] and Jensen's inequality.)
///
/// # Errors
/// A negative excess.
pub fn excess01_upper(excess_log: f64) -> Result<f64> {
    check_range("excess log loss", excess_log, 0.0..)?;
    Ok((2.0 * excess_log).sqrt().min(1.0))
}

/// Samples per class after which the class means and second moments of all `features`, which lie in `[0, 1]`, are within
/// `eps` of their expectations with probability at least `1 - delta`: `ln(4 n K/delta)/(2 eps^2)`, by Hoeffding's inequality for
/// the `2 n K` averages together. Naive Bayes is a function of these (and of the priors): hence `O(log n)`.
///
/// # Errors
/// `eps` or `delta` outside `(0, 1)`, no features or classes.
pub fn naive_bayes_samples(eps: f64, delta: f64, features: usize, classes: usize) -> Result<f64> {
    for (name, value) in [("eps", eps), ("delta", delta)] {
        check_range(name, value, f64::MIN_POSITIVE..1.0)?;
    }
    for (name, value) in [("features", features), ("classes", classes)] {
        check_range(name, value as f64, 1.0..)?;
    }
    Ok((4.0 * features as f64 * classes as f64 / delta).ln() / (2.0 * eps * eps))
}

/// The quantities on features about which the analysis makes assumptions; see [`assumption_stats`].
#[derive(Debug)]
pub struct AssumptionStats {
    /// Percentiles 0, 10, .., 100 of the shared variances.
    pub variance_deciles: Vec<f64>,
    /// `E[log p(x|i) - log p(x|j)]/n` over class `k`, at `[k, i, j]`: to be bounded away from 0 for `i != j`.
    pub mean_log_ratio: Tensor,
    /// `Var[log p(x|i) - log p(x|j)]/n` over class `k`, at `[k, i, j]` (population variance).
    pub variance_log_ratio: Tensor,
}

impl AssumptionStats {
    /// Percentile `100 q` of `|mean_log_ratio|` over `i != j` and all `k`.
    pub fn mean_log_ratio_quantile(&self, q: f64) -> Result<f64> {
        let [k, _, _] = self.mean_log_ratio.size()[..] else { unreachable!("it is [K, K, K]") };
        let other = Tensor::eye(k, (Kind::Bool, self.mean_log_ratio.device())).logical_not().expand([k, k, k], false);
        Ok(quantile(&Vec::<f64>::try_from(self.mean_log_ratio.masked_select(&other).abs())?, q))
    }
}

/// The log-likelihood ratios of naive Bayes with shared variances, fitted on the samples, over the samples of each class.
/// Affine maps of features leave them unchanged, but for the floor; the variances are in the units that come. (The
/// published diagnostics divide by the number of classes where the analysis has the number `n` of features, as here.)
///
/// # Errors
/// Wrong shapes, one class, a class without samples.
pub fn assumption_stats(samples: Labelled<'_>, floor: f64) -> Result<AssumptionStats> {
    if samples.classes < 2 {
        return Err(Error::value("classes", "two or more", samples.classes));
    }
    let config = NaiveBayesConfig { floor, ..Default::default() };
    let nb = GaussianNaiveBayes::fit(samples.x, samples.y, samples.classes, &config)?;
    let n = samples.x.size()[1] as f64;
    let log_p = nb.log_likelihood(samples.x)?;
    let k = samples.classes;
    let (mut means, mut variances) = (vec![], vec![]);
    for class in 0..k {
        let own = log_p.index_select(0, &samples.y.eq(class).nonzero().squeeze_dim(1));
        let mean = own.mean_dim([0i64].as_slice(), true, Kind::Double);
        let deviation = own - &mean;
        let c = deviation.tr().matmul(&deviation) / deviation.size()[0] as f64;
        let v = c.diagonal(0, 0, 1);
        variances.push((v.unsqueeze(1) + v.unsqueeze(0) - c * 2.0) / n);
        means.push((mean.tr() - mean) / n);
    }
    let shared = Vec::<f64>::try_from(nb.variances()?.view(-1))?;
    Ok(AssumptionStats {
        variance_deciles: (0..=10).map(|d| quantile(&shared, f64::from(d) / 10.0)).collect(),
        mean_log_ratio: Tensor::stack(&means, 0),
        variance_log_ratio: Tensor::stack(&variances, 0),
    })
}
