//! Laws of encoder and decoder sizes (Ghorbani et al., 2021; arXiv 2109.07740).

use super::chinchilla::{two_term_bounds, two_term_starts, two_terms};
use super::power::{below, reducible_starts};
use super::{Evaluation, FitOptions, Fitted, Law, Points, PowerLawPlusConst, fit};
use autodidact_core::Result;
use autodidact_core::error::check_range;
use serde::{Deserialize, Serialize};

/// `L = alpha (ref_e/N_e)^p_e (ref_d/N_d)^p_d + L_inf`: a product of power laws of the encoder's and the decoder's parameters. The
/// reference sizes only make `alpha` a loss; a fit takes the geometric means of the sizes.
///
/// ```
/// use autodidact_scaling::fit::BivariateLaw;
/// let law = BivariateLaw { alpha: 0.6, p_e: 0.18, p_d: 0.31, l_inf: 0.9, ref_e: 1.0, ref_d: 1.0 };
/// assert!((law.loss(4.0, 1.0) - 1.36750).abs() < 1e-5);
/// // Of two units the decoder should get more, in proportion to its exponent.
/// let split = law.optimal_split(2.0);
/// assert!((split.n_e - 0.734694).abs() < 1e-6 && (split.loss - 1.489619).abs() < 1e-6);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BivariateLaw {
    /// Reducible loss at the reference sizes.
    pub alpha: f64,
    /// Exponent of the encoder.
    pub p_e: f64,
    /// Exponent of the decoder.
    pub p_d: f64,
    /// Irreducible loss.
    pub l_inf: f64,
    /// Reference size of the encoder.
    pub ref_e: f64,
    /// Reference size of the decoder.
    pub ref_d: f64,
}

/// The best division of a number of parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Split {
    /// Encoder's.
    pub n_e: f64,
    /// Decoder's.
    pub n_d: f64,
    /// The loss there.
    pub loss: f64,
}

impl BivariateLaw {
    /// The loss.
    pub fn loss(&self, n_e: f64, n_d: f64) -> f64 {
        self.l_inf + self.alpha * (self.ref_e / n_e).powf(self.p_e) * (self.ref_d / n_d).powf(self.p_d)
    }

    /// The same law by other reference sizes: only `alpha` changes.
    pub fn with_reference(&self, ref_e: f64, ref_d: f64) -> Self {
        let alpha = self.alpha * (self.ref_e / ref_e).powf(self.p_e) * (self.ref_d / ref_d).powf(self.p_d);
        Self { alpha, ref_e, ref_d, ..*self }
    }

    /// Of `total` parameters the encoder gets `p_e/(p_e + p_d)`.
    pub fn optimal_split(&self, total: f64) -> Split {
        let n_e = total * self.p_e / (self.p_e + self.p_d);
        let n_d = total - n_e;
        Split { n_e, n_d, loss: self.loss(n_e, n_d) }
    }

    /// The factor of the loss along the best splits, `L = alpha_star B^-(p_e + p_d) + L_inf`.
    pub fn alpha_star(&self) -> f64 {
        let sum = self.p_e + self.p_d;
        self.alpha * (self.ref_e * sum / self.p_e).powf(self.p_e) * (self.ref_d * sum / self.p_d).powf(self.p_d)
    }

    /// The decoder size that gives a loss with an encoder of `n_e`.
    ///
    /// # Errors
    /// A loss that is not above the irreducible one.
    pub fn iso_loss(&self, loss: f64, n_e: f64) -> Result<f64> {
        check_range("loss", loss - self.l_inf, f64::MIN_POSITIVE..)?;
        let rest = (loss - self.l_inf) / (self.alpha * (self.ref_e / n_e).powf(self.p_e));
        Ok(self.ref_d * rest.powf(-1.0 / self.p_d))
    }
}

/// Coordinates `(ln L_inf, ln alpha at the centre, p_e, p_d)`.
impl Law for BivariateLaw {
    const NAME: &'static str = "bivariate";
    const INPUTS: &'static [&'static str] = &["n_e", "n_d"];
    const CONSTANTS: &'static [&'static str] = &["alpha", "p_e", "p_d", "L_inf"];

    fn constants(&self) -> Vec<f64> {
        vec![self.alpha, self.p_e, self.p_d, self.l_inf]
    }

    fn predict(&self, x: &[f64]) -> f64 {
        self.loss(x[0], x[1])
    }

    fn scale(x: &[f64]) -> f64 {
        x[0] + x[1]
    }

    fn coordinates(&self, centre: &[f64]) -> Vec<f64> {
        let here = self.with_reference(centre[0].exp(), centre[1].exp());
        vec![self.l_inf.max(f64::MIN_POSITIVE).ln(), here.alpha.ln(), self.p_e, self.p_d]
    }

    fn from_coordinates(at: &[f64], centre: &[f64]) -> Self {
        let (ref_e, ref_d) = (centre[0].exp(), centre[1].exp());
        Self { alpha: at[1].exp(), p_e: at[2], p_d: at[3], l_inf: at[0].exp(), ref_e, ref_d }
    }

    fn bounds(points: &Points) -> Vec<(f64, f64)> {
        vec![below(points), (f64::NEG_INFINITY, f64::INFINITY), (0.0, 2.0), (0.0, 2.0)]
    }

    fn starts(points: &Points, _centre: &[f64]) -> Vec<Vec<f64>> {
        reducible_starts(points, &[&[0.1, 0.2, 0.4], &[0.1, 0.2, 0.4]])
    }

    fn evaluate(at: &[f64], features: &[Vec<f64>], into: &mut Evaluation) {
        let constant = at[0].exp();
        let [l_inf, alpha, p_e, p_d] = &mut into.slopes[..] else { unreachable!("four coordinates") };
        for (i, (e, d)) in features[0].iter().zip(&features[1]).enumerate() {
            let power = (at[1] - at[2] * e - at[3] * d).exp();
            let sum = constant + power;
            into.log[i] = sum.ln();
            l_inf[i] = constant / sum;
            alpha[i] = power / sum;
            p_e[i] = -e * alpha[i];
            p_d[i] = -d * alpha[i];
        }
    }
}

/// `L = beta (N_e + N_d)^-p + L_inf`: a competitor that knows only the total.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct UnivariateLaw {
    /// Factor.
    pub beta: f64,
    /// Exponent.
    pub p: f64,
    /// Irreducible loss.
    pub l_inf: f64,
}

impl UnivariateLaw {
    fn as_power(&self) -> PowerLawPlusConst {
        PowerLawPlusConst { l_inf: self.l_inf, x0: self.beta.powf(1.0 / self.p), alpha: self.p }
    }
}

impl Law for UnivariateLaw {
    const NAME: &'static str = "univariate";
    const INPUTS: &'static [&'static str] = &["n_e", "n_d"];
    const CONSTANTS: &'static [&'static str] = &["beta", "p", "L_inf"];

    fn constants(&self) -> Vec<f64> {
        vec![self.beta, self.p, self.l_inf]
    }

    fn predict(&self, x: &[f64]) -> f64 {
        self.l_inf + self.beta * (x[0] + x[1]).powf(-self.p)
    }

    fn features(x: &[f64]) -> Vec<f64> {
        vec![(x[0] + x[1]).ln()]
    }

    fn scale(x: &[f64]) -> f64 {
        x[0] + x[1]
    }

    fn coordinates(&self, centre: &[f64]) -> Vec<f64> {
        self.as_power().coordinates(centre)
    }

    fn from_coordinates(at: &[f64], centre: &[f64]) -> Self {
        Self { beta: (at[1] + at[2] * centre[0]).exp(), p: at[2], l_inf: at[0].exp() }
    }

    fn bounds(points: &Points) -> Vec<(f64, f64)> {
        PowerLawPlusConst::bounds(points)
    }

    fn starts(points: &Points, centre: &[f64]) -> Vec<Vec<f64>> {
        PowerLawPlusConst::starts(points, centre)
    }

    fn evaluate(at: &[f64], features: &[Vec<f64>], into: &mut Evaluation) {
        PowerLawPlusConst::evaluate(at, features, into);
    }
}

/// `L = a_e N_e^-p_e + a_d N_d^-p_d + L_inf`: a competitor in which the two sizes do not meet.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AdditiveLaw {
    /// Factor of the encoder's term.
    pub a_e: f64,
    /// Exponent of the encoder.
    pub p_e: f64,
    /// Factor of the decoder's term.
    pub a_d: f64,
    /// Exponent of the decoder.
    pub p_d: f64,
    /// Irreducible loss.
    pub l_inf: f64,
}

impl Law for AdditiveLaw {
    const NAME: &'static str = "additive";
    const INPUTS: &'static [&'static str] = &["n_e", "n_d"];
    const CONSTANTS: &'static [&'static str] = &["a_e", "p_e", "a_d", "p_d", "L_inf"];

    fn constants(&self) -> Vec<f64> {
        vec![self.a_e, self.p_e, self.a_d, self.p_d, self.l_inf]
    }

    fn predict(&self, x: &[f64]) -> f64 {
        self.l_inf + self.a_e * x[0].powf(-self.p_e) + self.a_d * x[1].powf(-self.p_d)
    }

    fn scale(x: &[f64]) -> f64 {
        x[0] + x[1]
    }

    fn coordinates(&self, centre: &[f64]) -> Vec<f64> {
        let factor = |f: f64, exponent: f64, centre: f64| f.ln() - exponent * centre;
        let (e, d) = (factor(self.a_e, self.p_e, centre[0]), factor(self.a_d, self.p_d, centre[1]));
        vec![self.l_inf.max(f64::MIN_POSITIVE).ln(), e, d, self.p_e, self.p_d]
    }

    fn from_coordinates(at: &[f64], centre: &[f64]) -> Self {
        let factor = |f: f64, exponent: f64, centre: f64| (f + exponent * centre).exp();
        let (a_e, a_d) = (factor(at[1], at[3], centre[0]), factor(at[2], at[4], centre[1]));
        Self { a_e, p_e: at[3], a_d, p_d: at[4], l_inf: at[0].exp() }
    }

    fn bounds(points: &Points) -> Vec<(f64, f64)> {
        two_term_bounds(points)
    }

    fn starts(points: &Points, _centre: &[f64]) -> Vec<Vec<f64>> {
        two_term_starts(points)
    }

    fn evaluate(at: &[f64], features: &[Vec<f64>], into: &mut Evaluation) {
        two_terms(at, features, into);
    }
}

/// A law beside its competitors.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The law's name.
    pub name: &'static str,
    /// `R^2` of the points it was fitted on.
    pub r2: f64,
    /// Akaike's criterion of least squares, `n ln(SSE/n) + 2 k`.
    pub aic: f64,
    /// Mean of `|f - y|` on the held-out points.
    pub held_out_error: f64,
}

/// The bivariate, the univariate and the additive law on the same points, and on points that were held out.
///
/// # Errors
/// As [`fit()`]; held-out points of another number of inputs.
pub fn compare_laws(points: &Points, held_out: &Points, options: &FitOptions) -> Result<[Comparison; 3]> {
    Ok([
        compared::<BivariateLaw>(points, held_out, options)?,
        compared::<UnivariateLaw>(points, held_out, options)?,
        compared::<AdditiveLaw>(points, held_out, options)?,
    ])
}

fn compared<L: Law>(points: &Points, held_out: &Points, options: &FitOptions) -> Result<Comparison> {
    if held_out.inputs(0).len() != L::INPUTS.len() {
        let got = held_out.inputs(0).len();
        return Err(autodidact_core::Error::value("inputs of held-out points", L::INPUTS.len().to_string(), got));
    }
    let Fitted { law, r2, .. } = fit::<L>(points, options)?;
    let squares = |(x, y): (&[f64], f64)| (law.predict(x) - y).powi(2);
    let (n, sse) = (points.len() as f64, points.iter().map(squares).sum::<f64>());
    let error: f64 = held_out.iter().map(|(x, y)| (law.predict(x) - y).abs()).sum();
    Ok(Comparison {
        name: L::NAME,
        r2,
        aic: n * (sse.max(f64::MIN_POSITIVE) / n).ln() + 2.0 * L::CONSTANTS.len() as f64,
        held_out_error: error / held_out.len() as f64,
    })
}
