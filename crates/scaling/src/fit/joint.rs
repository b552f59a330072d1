//! One law of parameters and data with a shared bottleneck.

use super::{Evaluation, Law, Points};
use autodidact_core::fit::grid;
use serde::{Deserialize, Serialize};

/// `L = ((N_c/N)^(a_N/a_D) + D_c/D)^a_D` (Kaplan et al., 2020; fitted to translation by Gordon, Duh and Kaplan, 2021), `N` parameters and
/// `D` data in any unit: with endless data `(N_c/N)^a_N` remains, with an endless model `(D_c/D)^a_D`.
///
/// ```
/// let law = autodidact_scaling::fit::JointDataParamLaw { a_n: 0.1, ln_n_c: 20.0, a_d: 0.4, ln_d_c: 19.0 };
/// assert!((law.loss(1e6, 1e30) - (20f64.exp() / 1e6).powf(0.1)).abs() < 1e-9);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct JointDataParamLaw {
    /// Exponent of the parameters.
    pub a_n: f64,
    /// Logarithm of the parameters' scale.
    pub ln_n_c: f64,
    /// Exponent of the data.
    pub a_d: f64,
    /// Logarithm of the data's scale.
    pub ln_d_c: f64,
}

impl JointDataParamLaw {
    /// The loss of a model of `n` parameters on `d` data.
    pub fn loss(&self, n: f64, d: f64) -> f64 {
        let (u, v) = ((self.ln_n_c - n.ln()) * self.a_n / self.a_d, self.ln_d_c - d.ln());
        let m = u.max(v);
        (self.a_d * (m + ((u - m).exp() + (v - m).exp()).ln())).exp()
    }
}

/// Coordinates `(u0, v0, a_N/a_D, a_D)`: the logarithms of both terms in the middle, and the exponents.
impl Law for JointDataParamLaw {
    const NAME: &'static str = "joint data and parameter";
    const INPUTS: &'static [&'static str] = &["n", "d"];
    const CONSTANTS: &'static [&'static str] = &["a_N", "ln N_c", "a_D", "ln D_c"];

    fn constants(&self) -> Vec<f64> {
        vec![self.a_n, self.ln_n_c, self.a_d, self.ln_d_c]
    }

    fn predict(&self, x: &[f64]) -> f64 {
        self.loss(x[0], x[1])
    }

    fn coordinates(&self, centre: &[f64]) -> Vec<f64> {
        let ratio = self.a_n / self.a_d;
        vec![(self.ln_n_c - centre[0]) * ratio, self.ln_d_c - centre[1], ratio, self.a_d]
    }

    fn from_coordinates(at: &[f64], centre: &[f64]) -> Self {
        Self { a_n: at[2] * at[3], ln_n_c: at[0] / at[2] + centre[0], a_d: at[3], ln_d_c: at[1] + centre[1] }
    }

    fn bounds(_points: &Points) -> Vec<(f64, f64)> {
        let free = (f64::NEG_INFINITY, f64::INFINITY);
        vec![free, free, (1e-4, 100.0), (1e-4, 20.0)]
    }

    fn starts(points: &Points, _centre: &[f64]) -> Vec<Vec<f64>> {
        let middle = (points.smallest() * points.largest()).sqrt().ln();
        let mut starts = vec![];
        for s in grid(&[&[0.2, 0.5, 0.8], &[0.1, 0.3, 1.0], &[0.1, 0.3, 1.0]]) {
            // The two terms share exp(middle/a_D).
            let sum = middle / s[2];
            starts.push(vec![sum + s[0].ln(), sum + (1.0 - s[0]).ln(), s[1], s[2]]);
        }
        starts
    }

    fn evaluate(at: &[f64], features: &[Vec<f64>], into: &mut Evaluation) {
        let [first, second, ratio, exponent] = &mut into.slopes[..] else { unreachable!("four coordinates") };
        for (i, (n, d)) in features[0].iter().zip(&features[1]).enumerate() {
            let (u, v) = ((at[0] - at[2] * n).exp(), (at[1] - d).exp());
            let sum = u + v;
            let log = sum.ln();
            into.log[i] = at[3] * log;
            first[i] = at[3] * u / sum;
            second[i] = at[3] * v / sum;
            ratio[i] = -n * first[i];
            exponent[i] = log;
        }
    }
}
