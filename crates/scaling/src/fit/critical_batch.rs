//! The critical batch size: how steps trade against data (McCandlish et al., 2018, arXiv 1812.06162; Kaplan et al., 2020).

use super::{Evaluation, Law, Points};
use autodidact_core::fit::grid;
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// Steps and tokens to one loss over batch sizes: `(S/S_min - 1)(E/E_min - 1) = 1` with `E = B S`, hence `S = S_min + E_min/B`.
///
/// ```
/// use autodidact_scaling::fit::BatchTradeoff;
/// let to_a_loss = BatchTradeoff { s_min: 1e4, e_min: 2e9 };
/// assert_eq!(to_a_loss.critical(), 2e5);
/// // At the critical batch size twice the steps and twice the tokens.
/// assert_eq!((to_a_loss.steps(2e5), to_a_loss.tokens(2e5)), (2e4, 4e9));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BatchTradeoff {
    /// Fewest steps, at any batch size.
    pub s_min: f64,
    /// Fewest tokens, at any batch size.
    pub e_min: f64,
}

impl BatchTradeoff {
    /// The critical batch size `E_min/S_min`, tokens.
    pub fn critical(&self) -> f64 {
        self.e_min / self.s_min
    }

    /// Steps at batch size `b`.
    pub fn steps(&self, b: f64) -> f64 {
        self.s_min + self.e_min / b
    }

    /// Tokens at batch size `b`.
    pub fn tokens(&self, b: f64) -> f64 {
        self.s_min * b + self.e_min
    }

    /// Least squares of the relative residuals of `S = S_min + E_min/B` for points `(B, S)`, with both constants positive; it is linear
    /// in them, and so needs no start.
    ///
    /// # Errors
    /// Fewer than two batch sizes, numbers that are not positive, points that no positive constants describe.
    pub fn linear(points: &[(f64, f64)]) -> Result<Self> {
        if let Some(bad) = points.iter().find(|p| !(p.0 > 0.0 && p.1 > 0.0 && p.0.is_finite() && p.1.is_finite())) {
            return Err(Error::value(
                "batch size and steps",
                "positive finite numbers",
                format!("({}, {})", bad.0, bad.1),
            ));
        }
        // Unknowns in units of a typical size, so that the two columns are of one order.
        let unit = (points.iter().map(|p| p.0.ln()).sum::<f64>() / points.len().max(1) as f64).exp();
        let (mut uu, mut uv, mut vv, mut u, mut v) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for (b, s) in points {
            let (p, q) = (1.0 / s, unit / (b * s));
            uu += p * p;
            uv += p * q;
            vv += q * q;
            u += p;
            v += q;
        }
        let determinant = uu * vv - uv * uv;
        if determinant <= 1e-12 * uu * vv {
            return Err(Error::value("batch sizes", "two or more different ones", points.len()));
        }
        let (s_min, e_min) = ((u * vv - v * uv) / determinant, unit * (v * uu - u * uv) / determinant);
        if !(s_min > 0.0 && e_min > 0.0) {
            let why = "the steps do not fall with the batch size as 1/B plus a constant";
            return Err(Error::Failed(format!("{why}: S_min {s_min:.3e}, E_min {e_min:.3e}")));
        }
        Ok(Self { s_min, e_min })
    }
}

impl Law for BatchTradeoff {
    const NAME: &'static str = "batch trade-off";
    const INPUTS: &'static [&'static str] = &["b"];
    const CONSTANTS: &'static [&'static str] = &["S_min", "E_min"];

    fn constants(&self) -> Vec<f64> {
        vec![self.s_min, self.e_min]
    }

    fn predict(&self, x: &[f64]) -> f64 {
        self.steps(x[0])
    }

    fn coordinates(&self, centre: &[f64]) -> Vec<f64> {
        vec![self.s_min.ln(), self.e_min.ln() - centre[0]]
    }

    fn from_coordinates(at: &[f64], centre: &[f64]) -> Self {
        Self { s_min: at[0].exp(), e_min: (at[1] + centre[0]).exp() }
    }

    fn starts(points: &Points, _centre: &[f64]) -> Vec<Vec<f64>> {
        let middle = (points.smallest() * points.largest()).sqrt();
        [0.1, 0.5, 0.9].map(|share| vec![(share * middle).ln(), ((1.0 - share) * middle).ln()]).to_vec()
    }

    fn evaluate(at: &[f64], features: &[Vec<f64>], into: &mut Evaluation) {
        let (s_min, e_min) = (at[0].exp(), at[1].exp());
        for (i, b) in features[0].iter().enumerate() {
            let tokens = e_min * (-b).exp();
            let steps = s_min + tokens;
            into.log[i] = steps.ln();
            into.slopes[0][i] = s_min / steps;
            into.slopes[1][i] = tokens / steps;
        }
    }
}

/// The critical batch size over losses, `B_crit = B_*/L^(1/alpha_B)`.
///
/// ```
/// let law = autodidact_scaling::fit::CriticalBatchLaw { b_star: 2.1e8, alpha_b: 0.21 };
/// assert!((law.at(3.0) / 1.12257e6 - 1.0).abs() < 1e-5);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CriticalBatchLaw {
    /// The critical batch size at loss 1, tokens.
    pub b_star: f64,
    /// `alpha_B`.
    pub alpha_b: f64,
}

impl CriticalBatchLaw {
    /// The critical batch size at a loss, tokens.
    pub fn at(&self, loss: f64) -> f64 {
        self.b_star * loss.powf(-1.0 / self.alpha_b)
    }
}

impl Law for CriticalBatchLaw {
    const NAME: &'static str = "critical batch size";
    const INPUTS: &'static [&'static str] = &["loss"];
    const CONSTANTS: &'static [&'static str] = &["B_*", "alpha_B"];

    fn constants(&self) -> Vec<f64> {
        vec![self.b_star, self.alpha_b]
    }

    fn predict(&self, x: &[f64]) -> f64 {
        self.at(x[0])
    }

    /// The lower the loss, the larger the run.
    fn scale(x: &[f64]) -> f64 {
        1.0 / x[0]
    }

    fn coordinates(&self, centre: &[f64]) -> Vec<f64> {
        vec![self.b_star.ln() - centre[0] / self.alpha_b, 1.0 / self.alpha_b]
    }

    fn from_coordinates(at: &[f64], centre: &[f64]) -> Self {
        Self { b_star: (at[0] + at[1] * centre[0]).exp(), alpha_b: 1.0 / at[1] }
    }

    fn starts(points: &Points, _centre: &[f64]) -> Vec<Vec<f64>> {
        let middle = (points.smallest() * points.largest()).sqrt().ln();
        grid(&[&[middle], &[1.0, 5.0]])
    }

    fn evaluate(at: &[f64], features: &[Vec<f64>], into: &mut Evaluation) {
        into.slopes[0].fill(1.0);
        for (i, loss) in features[0].iter().enumerate() {
            into.log[i] = at[0] - at[1] * loss;
            into.slopes[1][i] = -loss;
        }
    }
}
