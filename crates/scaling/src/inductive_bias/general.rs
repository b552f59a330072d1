//! Weighted sums of squares of normal variables: the exact law of a Gaussian process's test error.

use super::special::ln_normal_cdf;
use autodidact_core::{Error, Result};

/// `sum_i (sqrt(a_i) z_i + sqrt(c_i))^2` with independent standard normal `z_i`.
#[derive(Debug, Clone, PartialEq)]
pub struct GeneralizedChi2 {
    a: Vec<f64>,
    c: Vec<f64>,
}

impl GeneralizedChi2 {
    /// From the variances `a_i` and squared means `c_i` of the terms.
    ///
    /// # Errors
    /// Lists of different lengths, without a term, or with entries that are negative or not finite; all variances 0.
    pub fn new(a: Vec<f64>, c: Vec<f64>) -> Result<Self> {
        if a.len() != c.len() || a.is_empty() {
            return Err(Error::value("squared means", format!("{} of at least one, as variances", a.len()), c.len()));
        }
        if let Some(bad) = a.iter().chain(&c).find(|v| !(v.is_finite() && **v >= 0.0)) {
            return Err(Error::value("variances and squared means", "finite and from 0", bad));
        }
        if a.iter().all(|v| *v == 0.0) {
            return Err(Error::value("variances", "at least one above 0", 0));
        }
        Ok(Self { a, c })
    }

    /// The variances `a_i`.
    pub fn variances(&self) -> &[f64] {
        &self.a
    }

    /// The squared means `c_i`.
    pub fn squared_means(&self) -> &[f64] {
        &self.c
    }

    fn terms(&self) -> impl Iterator<Item = (f64, f64)> {
        self.a.iter().copied().zip(self.c.iter().copied())
    }

    /// Mean, variance and third cumulant: `sum a + c`, `2 sum (a^2 + 2 a c)`, `8 sum (a^3 + 3 a^2 c)`.
    pub fn cumulants(&self) -> [f64; 3] {
        self.terms().fold([0.0; 3], |[k1, k2, k3], (a, c)| {
            [k1 + a + c, k2 + 2.0 * (a * a + 2.0 * a * c), k3 + 8.0 * (a.powi(3) + 3.0 * a * a * c)]
        })
    }

    /// The cumulant function `K(t) = sum -ln(1 - 2 t a)/2 + t c / (1 - 2 t a)` with its first two derivatives, for `t < 1/(2 max a)`.
    fn cumulant_function(&self, t: f64) -> [f64; 3] {
        self.terms().fold([0.0; 3], |[k, k1, k2], (a, c)| {
            let d = 1.0 - 2.0 * t * a;
            [
                k - 0.5 * d.ln() + t * c / d,
                k1 + a / d + c / (d * d),
                k2 + 2.0 * a * a / (d * d) + 4.0 * a * c / (d * d * d),
            ]
        })
    }

    /// `ln P[sum <= eps]` by the saddle point (Lugannani and Rice's expansion in the form of Barndorff-Nielsen): with `K'(t) = eps`,
    /// `w = sign(t) sqrt(2 (t eps - K))` and `u = t sqrt(K'')` it is `ln Phi(w + ln(u/w)/w)`. Minus infinity at and below the least
    /// value that the sum can have.
    ///
    /// # Errors
    /// A target that is NaN.
    pub fn ln_cdf(&self, eps: f64) -> Result<f64> {
        if eps.is_nan() {
            return Err(Error::value("target error", "a number", eps));
        }
        // Terms without variance are a constant below which the sum cannot fall.
        let least: f64 = self.terms().filter(|(a, _)| *a == 0.0).map(|(_, c)| c).sum();
        if eps <= least {
            return Ok(f64::NEG_INFINITY);
        }
        if eps == f64::INFINITY {
            return Ok(0.0);
        }
        let t = self.saddle_point(eps);
        let [k, _, k2] = self.cumulant_function(t);
        let [_, variance, third] = self.cumulants();
        let w = t.signum() * (2.0 * (t * eps - k)).max(0.0).sqrt();
        let u = t * k2.sqrt();
        // At the mean both vanish; the correction has the limit k3 / (6 k2^(3/2)).
        let correction = if w.abs() < 1e-4 { third / (6.0 * variance.powf(1.5)) } else { (u / w).ln() / w };
        Ok(ln_normal_cdf(w + correction))
    }

    /// `t` with `K'(t) = eps`: Newton's steps inside an interval that is halved where they leave it.
    fn saddle_point(&self, eps: f64) -> f64 {
        let largest = self.a.iter().fold(0.0f64, |m, v| m.max(*v));
        let top = 0.5 / largest;
        let above = |t: f64| self.cumulant_function(t)[1] > eps;
        let (mut low, mut high) = if above(0.0) {
            let mut low = -top;
            while above(low) && low > -1e300 {
                low *= 4.0;
            }
            (low, 0.0)
        } else {
            let mut gap = 0.5;
            while !above(top * (1.0 - gap)) && gap > 1e-15 {
                gap *= 0.25;
            }
            (0.0, top * (1.0 - gap))
        };
        let mut t = 0.5 * (low + high);
        for _ in 0..200 {
            let [_, k1, k2] = self.cumulant_function(t);
            if k1 > eps {
                high = t
            } else {
                low = t
            }
            let newton = t - (k1 - eps) / k2;
            let next = if newton > low && newton < high { newton } else { 0.5 * (low + high) };
            if (next - t).abs() <= 1e-14 * t.abs() {
                break;
            }
            t = next;
        }
        t
    }
}
