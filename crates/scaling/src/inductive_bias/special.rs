//! Logarithms of distribution functions far in their tails.

use statrs::function::erf::erfc;
use statrs::function::gamma::ln_gamma;
use std::f64::consts::{PI, SQRT_2};

/// `ln Phi(z)` of the standard normal distribution, accurate however far down.
///
/// ```
/// use autodidact_scaling::inductive_bias::ln_normal_cdf;
/// assert!((ln_normal_cdf(0.0) + 2f64.ln()).abs() < 1e-15);
/// // Far down it is -z^2/2 - ln(|z| sqrt(2 pi)) - 1/z^2.
/// assert!((ln_normal_cdf(-40.0) + 804.608442).abs() < 1e-6);
/// ```
pub fn ln_normal_cdf(z: f64) -> f64 {
    if z > -5.0 {
        return if z > 5.0 { (-0.5 * erfc(z / SQRT_2)).ln_1p() } else { (0.5 * erfc(-z / SQRT_2)).ln() };
    }
    // Mills' ratio as a continued fraction, from its end: x + 1/(x + 2/(x + 3/(x + ...))).
    let x = -z;
    let fraction = (1..=60).rev().fold(x, |below, k| x + f64::from(k) / below);
    -0.5 * z * z - 0.5 * (2.0 * PI).ln() - fraction.ln()
}

/// `ln P(a, x)` of the regularised lower incomplete gamma function (the distribution function of a gamma variable of shape `a`),
/// for `a > 0`, accurate in the left tail.
///
/// ```
/// use autodidact_scaling::inductive_bias::ln_gamma_cdf;
/// assert!((ln_gamma_cdf(1.0, 1e-3) - (-(-1e-3f64).exp_m1()).ln()).abs() < 1e-12); // 1 - exp(-x)
/// assert!(ln_gamma_cdf(500.0, 1.0) < -2600.0);
/// ```
pub fn ln_gamma_cdf(a: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return f64::NEG_INFINITY;
    }
    let front = a * x.ln() - x;
    if x < a + 1.0 {
        let (mut term, mut sum, mut n) = (1.0, 1.0, a);
        while term > 1e-17 * sum {
            n += 1.0;
            term *= x / n;
            sum += term;
        }
        return front - ln_gamma(a + 1.0) + sum.ln();
    }
    // The upper function as a continued fraction (Lentz).
    let tiny = 1e-300;
    let mut b = x + 1.0 - a;
    let mut c = 1.0 / tiny;
    let mut d = 1.0 / b;
    let mut h = d;
    for i in 1..10_000 {
        let an = -f64::from(i) * (f64::from(i) - a);
        b += 2.0;
        let not_zero = |v: f64| if v.abs() < tiny { tiny } else { v };
        d = 1.0 / not_zero(an * d + b);
        c = not_zero(b + an / c);
        h *= d * c;
        if (d * c - 1.0).abs() < 1e-15 {
            break;
        }
    }
    let upper = (front - ln_gamma(a) + h.ln()).exp();
    (-upper.min(1.0)).ln_1p()
}

/// The logarithm of the sum of a log-concave sequence `exp(f(0)) + exp(f(1)) + ...`.
pub(crate) fn ln_sum_log_concave(f: impl Fn(u64) -> f64) -> f64 {
    // Where it stops growing: doubling, then halving the interval.
    let grows = |j: u64| f(j + 1) > f(j);
    let mut high = 1u64;
    while grows(high) && high < 1 << 40 {
        high *= 2;
    }
    let mut low = 0;
    while low < high {
        let middle = low + (high - low) / 2;
        if grows(middle) { low = middle + 1 } else { high = middle }
    }
    let most = f(low);
    if most == f64::NEG_INFINITY {
        return most;
    }
    let kept = |v: &f64| *v - most > -40.0;
    let up: f64 = (low + 1..).map(&f).take_while(kept).map(|v| (v - most).exp()).sum();
    let down: f64 = (0..low).rev().map(&f).take_while(kept).map(|v| (v - most).exp()).sum();
    most + (1.0 + up + down).ln()
}
