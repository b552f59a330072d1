//! Power laws, with and without a constant.

use super::{Evaluation, FitOptions, Fitted, Law, Objective, Points, fit, pareto_envelope};
use autodidact_core::fit::grid;
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// A pure power law `(x0/x)^alpha` (Kaplan et al., 2020; arXiv 2001.08361). It rises where `alpha` is negative.
///
/// ```
/// let law = autodidact_scaling::fit::PowerLaw { x0: 6.5e13, alpha: 0.077 };
/// assert!((law.at(1e6) - 3.99571).abs() < 1e-5);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PowerLaw {
    /// Where the law is 1, in units of `x`.
    pub x0: f64,
    /// Exponent.
    pub alpha: f64,
}

impl PowerLaw {
    /// The value at `x`.
    pub fn at(&self, x: f64) -> f64 {
        (-self.alpha * (x.ln() - self.x0.ln())).exp()
    }

    /// Where the law has a value.
    pub fn inverse(&self, value: f64) -> f64 {
        self.x0 * value.powf(-1.0 / self.alpha)
    }

    /// Ordinary least squares of `ln y` on `ln x` for points `(x, y)`; also the fit's `R^2` (of logarithms).
    ///
    /// # Errors
    /// Fewer than two different `x`, numbers that are not positive.
    pub fn ols(points: &[(f64, f64)]) -> Result<(Self, f64)> {
        let bad = |v: f64| !(v.is_finite() && v > 0.0);
        if let Some((i, p)) = points.iter().enumerate().find(|(_, p)| bad(p.0) || bad(p.1)) {
            return Err(Error::value(format!("point {i}"), "positive finite numbers", format!("({}, {})", p.0, p.1)));
        }
        let (x, y): (Vec<f64>, Vec<f64>) = points.iter().map(|(x, y)| (x.ln(), y.ln())).unzip();
        let slope = autodidact_core::stats::slope(&x, &y)?;
        let intercept = autodidact_core::stats::mean(&y) - slope * autodidact_core::stats::mean(&x);
        let predicted: Vec<f64> = x.iter().map(|x| intercept + slope * x).collect();
        let law = Self { x0: (-intercept / slope).exp(), alpha: -slope };
        Ok((law, super::engine::r_squared(&y, &predicted)))
    }
}

impl Law for PowerLaw {
    const NAME: &'static str = "power";
    const INPUTS: &'static [&'static str] = &["x"];
    const CONSTANTS: &'static [&'static str] = &["x0", "alpha"];

    fn constants(&self) -> Vec<f64> {
        vec![self.x0, self.alpha]
    }

    fn predict(&self, x: &[f64]) -> f64 {
        self.at(x[0])
    }

    fn coordinates(&self, centre: &[f64]) -> Vec<f64> {
        vec![self.alpha * (self.x0.ln() - centre[0]), self.alpha]
    }

    fn from_coordinates(at: &[f64], centre: &[f64]) -> Self {
        Self { x0: (at[0] / at[1] + centre[0]).exp(), alpha: at[1] }
    }

    fn starts(points: &Points, _centre: &[f64]) -> Vec<Vec<f64>> {
        let middle = (points.smallest() * points.largest()).sqrt().ln();
        grid(&[&[middle], &[-1.0, -0.1, 0.1, 1.0]])
    }

    fn evaluate(at: &[f64], features: &[Vec<f64>], into: &mut Evaluation) {
        into.slopes[0].fill(1.0);
        for (i, x) in features[0].iter().enumerate() {
            into.log[i] = at[0] - at[1] * x;
            into.slopes[1][i] = -x;
        }
    }
}

/// A power law and a constant, `L_inf + (x0/x)^alpha` (Henighan et al., 2020; arXiv 2010.14701): the constant is read as the data's
/// entropy, the power law as what a model of that size (or compute, or data) has not learnt.
///
/// ```
/// let law = autodidact_scaling::fit::PowerLawPlusConst { l_inf: 3.12, x0: 80.0, alpha: 0.24 };
/// assert!((law.loss(1.23e4) - 3.4186).abs() < 1e-3);
/// // The reducible loss halves when x grows by 2^(1/alpha).
/// let doubled = 1e6 * 2f64.powf(1.0 / 0.24);
/// assert!((law.reducible(doubled) - law.reducible(1e6) / 2.0).abs() < 1e-12);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PowerLawPlusConst {
    /// Irreducible loss.
    pub l_inf: f64,
    /// Where the reducible loss is 1, in units of `x`.
    pub x0: f64,
    /// Exponent.
    pub alpha: f64,
}

impl PowerLawPlusConst {
    /// The loss at `x`.
    pub fn loss(&self, x: f64) -> f64 {
        self.l_inf + self.reducible(x)
    }

    /// The loss less the irreducible loss.
    pub fn reducible(&self, x: f64) -> f64 {
        (-self.alpha * (x.ln() - self.x0.ln())).exp()
    }

    /// Where the reducible loss has a value.
    pub fn x_for_reducible(&self, reducible: f64) -> f64 {
        self.x0 * reducible.powf(-1.0 / self.alpha)
    }

    /// The law of losses per sample of `tokens` tokens, of this law of losses per token: the constant grows by `tokens`, the scale by
    /// `tokens^(1/alpha)`.
    pub fn per_sample(&self, tokens: f64) -> Self {
        Self { l_inf: self.l_inf * tokens, x0: self.x0 * tokens.powf(1.0 / self.alpha), ..*self }
    }

    /// Fits `(x, loss)` points.
    ///
    /// # Errors
    /// As [`fit()`].
    pub fn fit(points: &[(f64, f64)], options: &FitOptions) -> Result<Fitted<Self>> {
        fit(&Points::new(points.iter().map(|&(x, y)| ([x], y)))?, options)
    }

    /// Fits the lower envelope of learning curves `(x, loss)` (x mostly the compute), kept below it by a penalty of weight 100.
    ///
    /// # Errors
    /// As [`fit()`], of the points of the envelope.
    pub fn fit_frontier(curves: &[Vec<(f64, f64)>], options: &FitOptions) -> Result<Fitted<Self>> {
        let all: Vec<(f64, f64)> = curves.iter().flatten().copied().collect();
        let frontier = if options.frontier > 0.0 { options.frontier } else { 100.0 };
        Self::fit(&pareto_envelope(&all)?, &FitOptions { frontier, ..options.clone() })
    }

    /// The least objective for each of the given irreducible losses, which are held: how well the points determine it.
    ///
    /// # Errors
    /// A loss that is not above 0 and below all observations; otherwise as [`fit()`].
    pub fn profile(points: &[(f64, f64)], l_inf: &[f64], objective: Objective) -> Result<Vec<(f64, f64)>> {
        let smallest = points.iter().map(|p| p.1).fold(f64::INFINITY, f64::min);
        let options = FitOptions { objective, ..Default::default() };
        let of = |&held: &f64| {
            autodidact_core::error::check_range("irreducible loss", held, f64::MIN_POSITIVE..smallest)?;
            let points = Points::new(points.iter().map(|&(x, y)| ([x], y)))?;
            Ok((held, super::engine::fit_held::<Self>(&points, &[(0, held.ln())], &options)?.objective))
        };
        l_inf.iter().map(of).collect()
    }
}

impl Law for PowerLawPlusConst {
    const NAME: &'static str = "power-plus-constant";
    const INPUTS: &'static [&'static str] = &["x"];
    const CONSTANTS: &'static [&'static str] = &["L_inf", "x0", "alpha"];

    fn constants(&self) -> Vec<f64> {
        vec![self.l_inf, self.x0, self.alpha]
    }

    fn predict(&self, x: &[f64]) -> f64 {
        self.loss(x[0])
    }

    fn coordinates(&self, centre: &[f64]) -> Vec<f64> {
        vec![self.l_inf.max(f64::MIN_POSITIVE).ln(), self.alpha * (self.x0.ln() - centre[0]), self.alpha]
    }

    fn from_coordinates(at: &[f64], centre: &[f64]) -> Self {
        Self { l_inf: at[0].exp(), x0: (at[1] / at[2] + centre[0]).exp(), alpha: at[2] }
    }

    fn bounds(points: &Points) -> Vec<(f64, f64)> {
        vec![below(points), (f64::NEG_INFINITY, f64::INFINITY), (1e-4, 20.0)]
    }

    fn starts(points: &Points, _centre: &[f64]) -> Vec<Vec<f64>> {
        reducible_starts(points, &[&[0.05, 0.1, 0.2, 0.4, 1.0]])
    }

    fn evaluate(at: &[f64], features: &[Vec<f64>], into: &mut Evaluation) {
        let constant = at[0].exp();
        let [e, b, alpha] = &mut into.slopes[..] else { unreachable!("three coordinates") };
        for (i, x) in features[0].iter().enumerate() {
            let power = (at[1] - at[2] * x).exp();
            let sum = constant + power;
            into.log[i] = sum.ln();
            e[i] = constant / sum;
            b[i] = power / sum;
            alpha[i] = -x * b[i];
        }
    }
}

/// Bounds of the logarithm of an irreducible loss: below all observations, and not so small that nothing changes any more.
pub(super) fn below(points: &Points) -> (f64, f64) {
    (points.smallest().ln() - 30.0, points.smallest().ln())
}

/// Starts of laws `constant * reducible` type whose first two coordinates are the logarithms of the constant and of the reducible loss in
/// the middle: a tenth to nearly all of the smallest loss, and what then remains of the middle one.
pub(super) fn reducible_starts(points: &Points, exponents: &[&[f64]]) -> Vec<Vec<f64>> {
    let middle = (points.smallest() * points.largest()).sqrt();
    let constants = [0.1, 0.5, 0.9, 0.99].map(|share| share * points.smallest());
    let rest = grid(exponents);
    let start = |c: f64, rest: &[f64]| [c.ln(), (middle - c).ln()].into_iter().chain(rest.iter().copied()).collect();
    constants.iter().flat_map(|&c| rest.iter().map(move |rest| start(c, rest))).collect()
}
