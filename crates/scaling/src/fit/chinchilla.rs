//! Chinchilla's law of parameters and tokens.

use super::power::below;
use super::{Evaluation, Law, Points, vector};
use autodidact_core::fit::grid;
use serde::{Deserialize, Serialize};

/// `L = E + A/N^alpha + B/D^beta` (Hoffmann et al., 2022; arXiv 2203.15556), `N` parameters, `D` tokens.
///
/// ```
/// use autodidact_scaling::fit::ChinchillaLaw;
/// let law = ChinchillaLaw { e: 1.8172, a: 482.01, alpha: 0.3478, b: 2085.43, beta: 0.3658 };
/// assert!((law.optimal_allocation(5.76e23).n / 7.3e10 - 1.0).abs() < 0.02);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ChinchillaLaw {
    /// Irreducible loss, nats per token.
    pub e: f64,
    /// Factor of the parameters' term.
    pub a: f64,
    /// Exponent of the parameters.
    pub alpha: f64,
    /// Factor of the tokens' term.
    pub b: f64,
    /// Exponent of the tokens.
    pub beta: f64,
}

/// How to spend a compute.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Allocation {
    /// Parameters.
    pub n: f64,
    /// Tokens.
    pub d: f64,
    /// The loss there.
    pub loss: f64,
}

impl ChinchillaLaw {
    /// The loss of a model of `n` parameters after `d` tokens.
    pub fn loss(&self, n: f64, d: f64) -> f64 {
        self.e + self.a * n.powf(-self.alpha) + self.b * d.powf(-self.beta)
    }

    /// The exponent of the best size in compute, `beta/(alpha + beta)`.
    pub fn allocation_exponent(&self) -> f64 {
        self.beta / (self.alpha + self.beta)
    }

    /// The best size and tokens for `flop = 6 N D`: `N = G (C/6)^(beta/(alpha+beta))`, `G = (alpha A/(beta B))^(1/(alpha+beta))`.
    pub fn optimal_allocation(&self, flop: f64) -> Allocation {
        let g = (self.alpha * self.a / (self.beta * self.b)).powf(1.0 / (self.alpha + self.beta));
        let n = g * (flop / 6.0).powf(self.allocation_exponent());
        let d = flop / (6.0 * n);
        Allocation { n, d, loss: self.loss(n, d) }
    }

    /// The 4,500 starts of Hoffmann et al.: `ln A` and `ln B` in 0, 5, .., 25, `ln E` in -1, -0.5, .., 1, `alpha` and `beta` in 0, 0.5, .., 2.
    pub fn published_starts() -> Vec<Self> {
        let (factors, constants) = ([0.0, 5.0, 10.0, 15.0, 20.0, 25.0], [-1.0, -0.5, 0.0, 0.5, 1.0]);
        let exponents = [0.0, 0.5, 1.0, 1.5, 2.0];
        let starts = grid(&[&factors, &factors, &constants, &exponents, &exponents]);
        let law = |s: &Vec<f64>| Self { a: s[0].exp(), b: s[1].exp(), e: s[2].exp(), alpha: s[3], beta: s[4] };
        starts.iter().map(law).collect()
    }
}

impl Law for ChinchillaLaw {
    const NAME: &'static str = "Chinchilla";
    const INPUTS: &'static [&'static str] = &["n", "d"];
    const CONSTANTS: &'static [&'static str] = &["E", "A", "alpha", "B", "beta"];

    fn constants(&self) -> Vec<f64> {
        vec![self.e, self.a, self.alpha, self.b, self.beta]
    }

    fn predict(&self, x: &[f64]) -> f64 {
        self.loss(x[0], x[1])
    }

    fn coordinates(&self, centre: &[f64]) -> Vec<f64> {
        let factor = |f: f64, exponent: f64, centre: f64| f.ln() - exponent * centre;
        let (a, b) = (factor(self.a, self.alpha, centre[0]), factor(self.b, self.beta, centre[1]));
        vec![self.e.max(f64::MIN_POSITIVE).ln(), a, b, self.alpha, self.beta]
    }

    fn from_coordinates(at: &[f64], centre: &[f64]) -> Self {
        let factor = |f: f64, exponent: f64, centre: f64| (f + exponent * centre).exp();
        let (a, b) = (factor(at[1], at[3], centre[0]), factor(at[2], at[4], centre[1]));
        Self { e: at[0].exp(), a, b, alpha: at[3], beta: at[4] }
    }

    fn starts(points: &Points, _centre: &[f64]) -> Vec<Vec<f64>> {
        two_term_starts(points)
    }

    fn evaluate(at: &[f64], features: &[Vec<f64>], into: &mut Evaluation) {
        two_terms(at, features, into);
    }
}

/// Starts of a constant and two terms: shares of the constant, and of the terms in what remains.
pub(super) fn two_term_starts(points: &Points) -> Vec<Vec<f64>> {
    let middle = (points.smallest() * points.largest()).sqrt();
    let exponents = grid(&[&[0.1, 0.3, 0.6], &[0.1, 0.3, 0.6]]);
    let mut starts = vec![];
    for constant in [0.1, 0.5, 0.9].map(|share| share * points.smallest()) {
        for share in [0.2, 0.5, 0.8] {
            let rest = middle - constant;
            let head = [constant.ln(), (share * rest).ln(), ((1.0 - share) * rest).ln()];
            starts.extend(exponents.iter().map(|e| head.iter().chain(e).copied().collect::<Vec<f64>>()));
        }
    }
    starts
}

/// `exp(e) + exp(a - alpha x) + exp(b - beta y)`, coordinates in the order `e, a, b, alpha, beta`.
pub(super) fn two_terms(at: &[f64], features: &[Vec<f64>], into: &mut Evaluation) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma")]
        fn fast(at: &[f64], features: &[Vec<f64>], into: &mut Evaluation) {
            two_terms_by::<true>(at, features, into);
        }
        if vector::has_fma() {
            // SAFETY: the processor has the instructions.
            return unsafe { fast(at, features, into) };
        }
    }
    two_terms_by::<false>(at, features, into);
}

/// Points that are computed side by side, in arrays of their own: a compiler then sees that nothing overlaps.
const BLOCK: usize = 8;

/// Logarithms and slopes of a block. A function, not a closure: closures would not be compiled with the caller's instructions.
#[inline(always)]
fn block<const FMA: bool>(at: &[f64], constant: f64, x: &[f64; BLOCK], y: &[f64; BLOCK]) -> [[f64; BLOCK]; 6] {
    let &[_, first, second, alpha, beta] = at else { unreachable!("five coordinates") };
    let mut out = [[0.0; BLOCK]; 6];
    for i in 0..BLOCK {
        let (u, v) = (vector::exp::<FMA>(first - alpha * x[i]), vector::exp::<FMA>(second - beta * y[i]));
        let sum = constant + u + v;
        let inverse = 1.0 / sum;
        out[0][i] = vector::ln::<FMA>(sum);
        out[1][i] = constant * inverse;
        out[2][i] = u * inverse;
        out[3][i] = v * inverse;
        out[4][i] = -x[i] * (u * inverse);
        out[5][i] = -y[i] * (v * inverse);
    }
    out
}

#[inline(always)]
fn two_terms_by<const FMA: bool>(at: &[f64], features: &[Vec<f64>], into: &mut Evaluation) {
    let constant = at[0].exp();
    let (x, x_rest) = features[0].as_chunks::<BLOCK>();
    let (y, y_rest) = features[1].as_chunks::<BLOCK>();
    for (k, (x, y)) in x.iter().zip(y).enumerate() {
        let out = block::<FMA>(at, constant, x, y);
        let store = |to: &mut [f64], from: &[f64; BLOCK]| {
            if let Some(to) = to.as_chunks_mut::<BLOCK>().0.get_mut(k) {
                *to = *from;
            }
        };
        store(&mut into.log, &out[0]);
        into.slopes.iter_mut().zip(&out[1..]).for_each(|(slopes, out)| store(slopes, out));
    }
    if !x_rest.is_empty() {
        let (mut last_x, mut last_y) = ([0.0; BLOCK], [0.0; BLOCK]);
        last_x[..x_rest.len()].copy_from_slice(x_rest);
        last_y[..x_rest.len()].copy_from_slice(y_rest);
        let out = block::<FMA>(at, constant, &last_x, &last_y);
        let from = into.log.len() - x_rest.len();
        into.log[from..].copy_from_slice(&out[0][..x_rest.len()]);
        for (slopes, out) in into.slopes.iter_mut().zip(&out[1..]) {
            slopes[from..].copy_from_slice(&out[..x_rest.len()]);
        }
    }
}

/// [`below`], for laws of two terms that are held to it.
pub(super) fn two_term_bounds(points: &Points) -> Vec<(f64, f64)> {
    let free = (f64::NEG_INFINITY, f64::INFINITY);
    vec![below(points), free, free, (0.0, 2.0), (0.0, 2.0)]
}
