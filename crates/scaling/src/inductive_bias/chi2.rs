//! The tail model: a scaled non-central chi-squared distribution.

use super::check_errors;
use super::special::{ln_gamma_cdf, ln_normal_cdf, ln_sum_log_concave};
use autodidact_core::error::check_range;
use autodidact_core::fit::Lbfgs;
use autodidact_core::stats::{mean, variance};
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};
use statrs::function::gamma::{digamma, ln_gamma};

/// `scale` times a non-central chi-squared variable with `df` degrees of freedom and non-centrality `nc` (central where that is 0).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ScaledNcx2 {
    /// Degrees of freedom, above 0.
    pub df: f64,
    /// Non-centrality, from 0.
    pub nc: f64,
    /// Scale, above 0.
    pub scale: f64,
}

impl ScaledNcx2 {
    /// A distribution.
    ///
    /// # Errors
    /// Parameters outside their ranges.
    pub fn new(df: f64, nc: f64, scale: f64) -> Result<Self> {
        check_range("degrees of freedom", df, f64::MIN_POSITIVE..f64::MAX)?;
        check_range("non-centrality", nc, 0.0..f64::MAX)?;
        check_range("scale", scale, f64::MIN_POSITIVE..f64::MAX)?;
        Ok(Self { df, nc, scale })
    }

    /// `ln P[e <= eps]`: the Poisson mixture of central distribution functions summed in logarithms, so that it neither underflows nor
    /// loses digits far in the tail; minus infinity for `eps <= 0`.
    ///
    /// ```
    /// use autodidact_scaling::inductive_bias::ScaledNcx2;
    /// let e = ScaledNcx2::new(10.0, 5.0, 0.1)?;
    /// assert!((e.ln_cdf(0.3)? + 5.908226).abs() < 1e-6);
    /// # Ok::<(), autodidact_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// A target that is NaN, or parameters out of range.
    pub fn ln_cdf(&self, eps: f64) -> Result<f64> {
        let Self { df, nc, scale } = Self::new(self.df, self.nc, self.scale)?;
        if eps.is_nan() {
            return Err(Error::value("target error", "a number", eps));
        }
        let (a, x, l) = (df / 2.0, eps / scale / 2.0, nc / 2.0);
        if x <= 0.0 {
            return Ok(f64::NEG_INFINITY);
        }
        if l == 0.0 {
            return Ok(ln_gamma_cdf(a, x));
        }
        let poisson = |j: f64| j * l.ln() - l - ln_gamma(j + 1.0);
        Ok(ln_sum_log_concave(|j| poisson(j as f64) + ln_gamma_cdf(a + j as f64, x)).min(0.0))
    }

    /// Sankaran's (1959) normal approximation of the same, for comparison: `ln Phi(z)`.
    pub fn ln_cdf_sankaran(&self, eps: f64) -> f64 {
        let (x, k, l) = (eps / self.scale, self.df, self.nc);
        let h = 1.0 - 2.0 / 3.0 * (k + l) * (k + 3.0 * l) / (k + 2.0 * l).powi(2);
        let p = (k + 2.0 * l) / (k + l).powi(2);
        let m = (h - 1.0) * (1.0 - 3.0 * h);
        let z = ((x / (k + l)).powf(h) - (1.0 + h * p * (h - 1.0 - 0.5 * (2.0 - h) * m * p)))
            / (h * (2.0 * p).sqrt() * (1.0 + 0.5 * m * p));
        ln_normal_cdf(z)
    }

    /// The central distribution with the first two cumulants: `scale = k2 / (2 k1)`, `df = k1 / scale`.
    ///
    /// # Errors
    /// Cumulants that are not above 0.
    pub fn of_moments(k1: f64, k2: f64) -> Result<Self> {
        check_range("mean of errors", k1, f64::MIN_POSITIVE..f64::MAX)?;
        check_range("variance of errors", k2, f64::MIN_POSITIVE..f64::MAX)?;
        let scale = k2 / (2.0 * k1);
        Self::new(k1 / scale, 0.0, scale)
    }

    /// The non-central distribution with the first three cumulants, where there is one:
    /// `k1 = s (df + nc)`, `k2 = 2 s^2 (df + 2 nc)`, `k3 = 8 s^3 (df + 3 nc)`.
    pub fn of_three_moments(k1: f64, k2: f64, k3: f64) -> Option<Self> {
        // k1 s^2 - k2 s + k3/8 = 0, by elimination; of its roots the smaller has nc >= 0.
        let scale = (k2 - (k2 * k2 - 0.5 * k1 * k3).sqrt()) / (2.0 * k1);
        let nc = k2 / (2.0 * scale * scale) - k1 / scale;
        let df = 2.0 * k1 / scale - k2 / (2.0 * scale * scale);
        (df > 0.0 && nc >= 0.0).then(|| Self::new(df, nc, scale).ok()).flatten()
    }

    /// The central distribution with the sample's mean and variance.
    ///
    /// # Errors
    /// Fewer than eight errors, or some that are not finite and positive; no spread.
    pub fn fit_moments(errors: &[f64]) -> Result<Self> {
        check_errors(errors)?;
        let (mean, variance) = (mean(errors), variance(errors));
        // Rounding alone gives equal errors a spread of some 1e-16 of them.
        if variance.sqrt() < 1e-6 * mean {
            return Err(Error::value(
                "spread of errors of hypotheses",
                "above a millionth of their mean",
                variance.sqrt(),
            ));
        }
        Self::of_moments(mean, variance)
    }

    /// Maximum likelihood, from the fit of three moments (and from an almost central one). The likelihood can have its maximum at a
    /// corner that has nothing to do with the sample (no degrees of freedom); so where the fitted distribution function is farther from
    /// the sample's than that of [`fit_moments`](Self::fit_moments), by more than `1/(2 sqrt n)` in the Kolmogorov-Smirnov distance,
    /// the latter is the answer.
    ///
    /// # Errors
    /// As [`fit_moments`](Self::fit_moments).
    pub fn fit(errors: &[f64]) -> Result<Self> {
        let central = Self::fit_moments(errors)?;
        let (k1, k2) = (mean(errors), variance(errors));
        let k3 = errors.iter().map(|e| (e - k1).powi(3)).sum::<f64>() / errors.len() as f64;
        let start = |d: &Self| [d.df.ln(), d.nc.max(1e-2 * d.df).ln(), d.scale.ln()];
        let mut starts = vec![start(&central)];
        starts.extend(Self::of_three_moments(k1, k2, k3).as_ref().map(start));
        let count = errors.len() as f64;
        // Beyond e^12 degrees of freedom, non-centrality or means over scale it is a normal distribution for every purpose, and the
        // mixture's sums are long.
        let bounds = vec![(-12.0, 12.0), (-25.0, 12.0), (k1.ln() - 12.0, k1.ln() + 12.0)];
        let minimiser = Lbfgs { f_tolerance: 1e-13, max_iterations: 300, bounds, ..Lbfgs::default() };
        let best = starts
            .iter()
            .filter_map(|x0| {
                minimiser.minimise(x0, |p, g| {
                    let d = Self { df: p[0].exp(), nc: p[1].exp(), scale: p[2].exp() };
                    let (total, gradient) = errors.iter().fold((0.0, [0.0; 3]), |(total, mut sum), &e| {
                        let (value, each) = d.ln_pdf_with_gradient(e);
                        sum.iter_mut().zip(each).for_each(|(s, v)| *s += v);
                        (total + value, sum)
                    });
                    g.iter_mut().zip(gradient).for_each(|(g, v)| *g = -v / count);
                    -total / count
                })
            })
            .min_by(|a, b| a.value.total_cmp(&b.value));
        let Some(best) = best else { return Ok(central) };
        let fitted = Self { df: best.x[0].exp(), nc: best.x[1].exp(), scale: best.x[2].exp() };
        Ok(if fitted.ks_distance(errors)? <= central.ks_distance(errors)? + 0.5 / count.sqrt() {
            fitted
        } else {
            central
        })
    }

    /// `ln` of the density at an error, and its derivatives by `ln df`, `ln nc` and `ln scale`.
    pub(crate) fn ln_pdf_with_gradient(&self, e: f64) -> (f64, [f64; 3]) {
        // With t_j the Poisson-weighted central densities, t_{j+1}/t_j = (l / (j+1)) (y / (a+j)): summed outwards from the largest.
        let (a, l, y) = (0.5 * self.df, 0.5 * self.nc, 0.5 * e / self.scale);
        let top = (0.5 * (-a - 1.0 + ((a - 1.0).powi(2) + 4.0 * l * y).sqrt())).floor().max(0.0);
        let digamma_top = digamma(a + top);
        let (mut sum, mut first, mut psi) = (1.0, top, digamma_top);
        let (mut t, mut j, mut digamma_j) = (1.0, top, digamma_top);
        loop {
            t *= l / (j + 1.0) * y / (a + j);
            digamma_j += 1.0 / (a + j);
            j += 1.0;
            if t < 1e-17 * sum {
                break;
            }
            (sum, first, psi) = (sum + t, first + t * j, psi + t * digamma_j);
        }
        (t, j, digamma_j) = (1.0, top, digamma_top);
        while j > 0.0 {
            j -= 1.0;
            t *= (j + 1.0) / l * (a + j) / y;
            digamma_j -= 1.0 / (a + j);
            if t < 1e-17 * sum {
                break;
            }
            (sum, first, psi) = (sum + t, first + t * j, psi + t * digamma_j);
        }
        let (mean_j, mean_psi) = (first / sum, psi / sum);
        let ln_top = top * l.ln() - l - ln_gamma(top + 1.0) + (a + top - 1.0) * y.ln() - y - ln_gamma(a + top);
        // The density in e: dy/de = 1 / (2 scale).
        let value = ln_top + sum.ln() - (2.0 * self.scale).ln();
        (value, [a * (y.ln() - mean_psi), mean_j - l, y - a - mean_j])
    }

    /// Kolmogorov-Smirnov distance from a sample.
    ///
    /// # Errors
    /// No sample.
    pub fn ks_distance(&self, errors: &[f64]) -> Result<f64> {
        let mut sorted = errors.to_vec();
        sorted.sort_by(f64::total_cmp);
        let n = sorted.len() as f64;
        if sorted.is_empty() {
            return Err(Error::value("errors of hypotheses", "at least one", 0));
        }
        sorted.iter().enumerate().try_fold(0.0, |most: f64, (i, e)| {
            let p = self.ln_cdf(*e)?.exp();
            Ok(most.max((p - i as f64 / n).abs()).max(((i + 1) as f64 / n - p).abs()))
        })
    }
}
