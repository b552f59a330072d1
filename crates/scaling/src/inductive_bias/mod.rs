//! Towards Exact Computation of Inductive Bias (Boopathy, Yue, Hwang, Iyer and Fiete, 2024; arXiv 2406.15941): how many nats, beyond the
//! training data, single out hypotheses that generalise?
//!
//! Hypotheses `h` are drawn from a class on condition that they fit the training set; `e(h)` is the mean squared error on test data. The
//! inductive bias that a target error asks for is minus the logarithm of the chance to meet it:
//!
//! `I(eps) = -ln P[e(h) <= eps | h fits the training set]`.
//!
//! The event lies far in the tail, so the distribution of errors is modelled: a scaled non-central chi-squared ([`ScaledNcx2`]) fitted to
//! the errors of sampled hypotheses ([`HypothesisSampler`]). For Gaussian processes the errors' law is known, a sum of squares with
//! different weights ([`GeneralizedChi2`]), and its saddle point gives the bias without samples. What a class of networks supplies over a
//! kernel is the difference of their biases at the same target.
//!
//! ```
//! use autodidact_core::kernel::Kernel;
//! use autodidact_scaling::inductive_bias::GpPosterior;
//! use tch::Tensor;
//! // Two points on a line, tested between them: error (f - 0.5)^2 with f of mean 0.549 and variance 0.030.
//! let column = |v: &[f64]| Tensor::from_slice(v).view([-1, 1]);
//! let kernel = Kernel::Rbf { gamma: 0.5 };
//! let gp = GpPosterior::new(kernel, &column(&[0.0, 1.0]), &column(&[0.0, 1.0]), &column(&[0.5]), 0.0)?;
//! let errors = gp.errors(&column(&[0.5]))?;
//! // P[e <= 0.01] is 0.418, 0.872 nats; the saddle point is off by 0.02 with a single test point, by 0.0004 with fifty.
//! assert!((-errors.ln_cdf(0.01)? - 0.872).abs() < 0.03);
//! # Ok::<(), autodidact_core::Error>(())
//! ```

mod chi2;
mod ensemble;
mod general;
mod gp;
mod special;

pub use chi2::ScaledNcx2;
pub use ensemble::{Architecture, Ensemble, TrainedEnsemble};
pub use general::GeneralizedChi2;
pub use gp::{GpPosterior, GpTask};
pub use special::{ln_gamma_cdf, ln_normal_cdf};

use autodidact_core::error::check_range;
use autodidact_core::stats::{Estimate, mean, quantile, variance};
use autodidact_core::{Error, Result, seed};
use rand::RngExt;

/// A class of hypotheses, conditioned on a training set.
pub trait HypothesisSampler {
    /// Test errors of `n` hypotheses that fit the training set.
    ///
    /// # Errors
    /// None drawn, or what making them reports.
    fn sample_errors(&self, n: usize, seed: u64) -> Result<Vec<f64>>;
}

/// The inductive bias that a target error asks for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InductiveBias {
    /// `I(eps)` in nats with its interval; infinite where the target is out of reach.
    pub nats: Estimate,
    /// The target's distance below the mean error, in standard deviations of the errors: from about four on, the bias is
    /// what the fitted family says and no sample has been there.
    pub deviations: f64,
    /// Whether the errors were modelled by the non-central family (else the central one, from two moments).
    pub noncentral: bool,
}

impl InductiveBias {
    /// In bits.
    pub fn bits(&self) -> f64 {
        self.nats.value / std::f64::consts::LN_2
    }
}

/// The bias for target error `eps` from the errors of sampled hypotheses: [`ScaledNcx2::fit`] with the percentile interval of
/// `resamples` bootstrap samples of them at 95 % (none with 0 resamples: the interval is the value).
///
/// ```
/// use autodidact_scaling::inductive_bias::inductive_bias;
/// let errors: Vec<f64> = (0..200).map(|i| 1.0 + 0.1 * (i as f64 * 0.7).sin()).collect();
/// assert!(inductive_bias(&errors, 2.0, 0, 0)?.nats.value < 1e-6); // everybody meets it
/// assert!(inductive_bias(&errors, 0.5, 0, 0)?.bits() > 20.0);
/// # Ok::<(), autodidact_core::Error>(())
/// ```
///
/// # Errors
/// As [`ScaledNcx2::fit`]; a target not above 0.
pub fn inductive_bias(errors: &[f64], eps: f64, resamples: usize, seed: u64) -> Result<InductiveBias> {
    check_range("target error", eps, f64::MIN_POSITIVE..)?;
    let fitted = ScaledNcx2::fit(errors)?;
    let value = -fitted.ln_cdf(eps)?;
    let mut rng = seed::rng(seed, &["inductive-bias", "bootstrap"]);
    let mut again = Vec::with_capacity(resamples);
    for _ in 0..resamples {
        let drawn: Vec<f64> = (0..errors.len()).map(|_| errors[rng.random_range(0..errors.len())]).collect();
        // A resample of one value repeated has no spread to fit; the next one does.
        if let Ok(fit) = ScaledNcx2::fit(&drawn) {
            again.push(-fit.ln_cdf(eps)?);
        }
    }
    let (low, high) = match again.len() {
        0 => (value, value),
        _ => (quantile(&again, 0.025), quantile(&again, 0.975)),
    };
    Ok(InductiveBias {
        nats: Estimate { value, low, high, n: errors.len() },
        deviations: (mean(errors) - eps) / variance(errors).sqrt(),
        noncentral: fitted.nc > 0.0,
    })
}

/// What a class of networks supplies beyond a kernel, in nats: the kernel's bias minus the networks' at the same target.
///
/// # Errors
/// A networks' bias that is infinite: the target is out of reach, the difference says nothing.
pub fn architecture_bias(kernel: f64, networks: f64) -> Result<f64> {
    if networks.is_finite() {
        Ok(kernel - networks)
    } else {
        Err(Error::value("bias of the networks", "finite (a target that they reach)", networks))
    }
}

/// Checks a sample of errors; all must be positive.
pub(crate) fn check_errors(errors: &[f64]) -> Result<()> {
    if errors.len() < 8 {
        return Err(Error::value("errors of hypotheses", "at least 8", errors.len()));
    }
    match errors.iter().find(|e| !(e.is_finite() && **e > 0.0)) {
        Some(bad) => Err(Error::value("errors of hypotheses", "finite and above 0", bad)),
        None => Ok(()),
    }
}
