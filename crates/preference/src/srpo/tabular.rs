//! SRPO, IPO and DPO on finitely many responses: closed forms, and optima on given pairs.

use crate::tabular::{check_distribution, normalised, softplus};
use autodidact_core::error::check_range;
use autodidact_core::fit::Lbfgs;
use autodidact_core::{Error, Result};

/// The solution of the game.
#[derive(Debug, Clone, PartialEq)]
pub struct ClosedForm {
    /// `log Z(y1) = log E_ref exp(p(y2 > y1)/beta)`, by `y1`.
    pub log_z: Vec<f64>,
    /// The policy, `ref(y) / Z(y)`, normalised.
    pub policy: Vec<f64>,
    /// The improver: row `y1` holds `pi+(y2|y1)`.
    pub improver: Vec<Vec<f64>>,
    /// The game's value at the solution.
    pub value: f64,
}

fn check_preferences(p: &[Vec<f64>]) -> Result<usize> {
    let n = p.len();
    if n < 2 || p.iter().any(|row| row.len() != n) {
        return Err(Error::value("preferences", "a square matrix of two or more responses", format!("{n} rows")));
    }
    for (i, row) in p.iter().enumerate() {
        for (value, other) in row.iter().zip(p.iter().map(|r| r[i])) {
            check_range("preference", *value, 0.0..=1.0)?;
            check_range("sum of both orders of a preference", value + other, 1.0 - 1e-9..=1.0 + 1e-9)?;
        }
    }
    Ok(n)
}

/// Checks a distribution over `n` responses that leaves none out.
fn check_support(what: &str, p: &[f64], n: usize) -> Result<()> {
    if p.len() != n {
        return Err(Error::value(what, format!("{n} probabilities"), p.len()));
    }
    p.iter().try_for_each(|&p| check_range(what, p, f64::MIN_POSITIVE..=1.0))?;
    check_distribution(what, p)
}

/// The solution for preferences `p[i][j] = p(i > j)`, a reference, and the improver's reference (row `y1`: `ref(y2|y1)`; none: the same
/// reference whatever `y1` is).
///
/// # Errors
/// A matrix that is not square or whose orders do not sum to 1, probabilities that are not positive or do not sum to 1, beta not above 0.
pub fn srpo_closed_form(
    p: &[Vec<f64>],
    reference: &[f64],
    improver: Option<&[Vec<f64>]>,
    beta: f64,
) -> Result<ClosedForm> {
    let n = check_preferences(p)?;
    check_support("reference", reference, n)?;
    check_range("beta", beta, f64::MIN_POSITIVE..)?;
    if let Some(rows) = improver {
        if rows.len() != n {
            return Err(Error::value("the improver's reference", format!("{n} rows"), rows.len()));
        }
        rows.iter().try_for_each(|row| check_support("the improver's reference", row, n))?;
    }
    let row = |y1: usize| improver.map_or(reference, |rows| &rows[y1]);
    let each = (0..n).map(|y1| {
        let logits: Vec<f64> = (0..n).map(|y2| row(y1)[y2].ln() + p[y2][y1] / beta).collect();
        normalised(&logits)
    });
    let (improver, log_z): (Vec<Vec<f64>>, Vec<f64>) = each.unzip();
    let logits: Vec<f64> = (0..n).map(|y| reference[y].ln() - log_z[y]).collect();
    let (policy, _) = normalised(&logits);
    // The improver's bracket is beta log Z(y1); the policy pays its own divergence.
    let value = beta * (0..n).map(|y| policy[y] * (log_z[y] + (policy[y] / reference[y]).ln())).sum::<f64>();
    Ok(ClosedForm { log_z, policy, improver, value })
}

/// IPO's optimum on pairs from `behaviour`: in proportion to `ref(y) exp(E_{y' ~ behaviour} p(y > y') / beta)`.
///
/// # Errors
/// As [`srpo_closed_form`].
pub fn ipo_closed_form(p: &[Vec<f64>], behaviour: &[f64], reference: &[f64], beta: f64) -> Result<Vec<f64>> {
    let n = check_preferences(p)?;
    check_support("behaviour", behaviour, n)?;
    check_support("reference", reference, n)?;
    check_range("beta", beta, f64::MIN_POSITIVE..)?;
    let mean = |y: usize| (0..n).map(|other| behaviour[other] * p[y][other]).sum::<f64>();
    let logits: Vec<f64> = (0..n).map(|y| reference[y].ln() + mean(y) / beta).collect();
    Ok(normalised(&logits).0)
}

/// Pairs of finitely many responses in number: how often each ordered pair occurs, and how often its first was preferred.
#[derive(Debug, Clone, PartialEq)]
pub struct TabularPairs {
    reference: Vec<f64>,
    /// Weight of each ordered pair, in all 1.
    weight: Vec<Vec<f64>>,
    /// Mean preference for the first of each ordered pair.
    preference: Vec<Vec<f64>>,
}

impl TabularPairs {
    /// All pairs of a behaviour policy with exact preferences.
    ///
    /// # Errors
    /// As [`srpo_closed_form`].
    pub fn exact(p: &[Vec<f64>], behaviour: &[f64], reference: &[f64]) -> Result<Self> {
        let n = check_preferences(p)?;
        check_support("behaviour", behaviour, n)?;
        check_support("reference", reference, n)?;
        let weight = behaviour.iter().map(|a| behaviour.iter().map(|b| a * b).collect()).collect();
        Ok(Self { reference: reference.to_vec(), weight, preference: p.to_vec() })
    }

    /// Given comparisons, winner first.
    ///
    /// # Errors
    /// No comparisons, unknown responses, a reference that is no distribution.
    pub fn observed(comparisons: &[(usize, usize)], reference: &[f64]) -> Result<Self> {
        let n = reference.len();
        check_support("reference", reference, n)?;
        if comparisons.is_empty() || comparisons.iter().any(|(w, l)| w.max(l) >= &n) {
            return Err(Error::value("comparisons", format!("at least one, of {n} responses"), comparisons.len()));
        }
        let mut wins = vec![vec![0.0; n]; n];
        comparisons.iter().for_each(|&(w, l)| wins[w][l] += 1.0);
        let total = 2.0 * comparisons.len() as f64;
        let of = |f: &dyn Fn(f64, f64) -> f64| -> Vec<Vec<f64>> {
            (0..n).map(|i| (0..n).map(|j| f(wins[i][j], wins[j][i])).collect()).collect()
        };
        let weight = of(&|a, b| (a + b) / total);
        let preference = of(&|a, b| if a + b > 0.0 { a / (a + b) } else { 0.5 });
        Ok(Self { reference: reference.to_vec(), weight, preference })
    }

    fn len(&self) -> usize {
        self.reference.len()
    }

    /// Visits the ordered pairs of different responses that occur: both places, weight, preference for the first.
    fn for_each_pair(&self, mut f: impl FnMut(usize, usize, f64, f64)) {
        for (i, row) in self.weight.iter().enumerate() {
            for (j, &w) in row.iter().enumerate() {
                if w > 0.0 && i != j {
                    f(i, j, w, self.preference[i][j]);
                }
            }
        }
    }

    fn minimise(&self, variables: usize, f: impl FnMut(&[f64], &mut [f64]) -> f64) -> Result<Vec<f64>> {
        let search = Lbfgs { max_iterations: 20_000, f_tolerance: 0.0, g_tolerance: 1e-13, ..Lbfgs::default() };
        let found = search.minimise(&vec![0.0; variables], f);
        Ok(found.ok_or_else(|| Error::Failed("the loss is not finite at its start".into()))?.x)
    }

    /// The policy whose log-ratios `h` minimise a loss of the margins: `loss(h_i - h_j, preference)` with its derivative.
    fn of_margins(&self, loss: impl Fn(f64, f64) -> (f64, f64)) -> Result<Vec<f64>> {
        let h = self.minimise(self.len(), |h, gradient| {
            gradient.fill(0.0);
            let mut total = 0.0;
            self.for_each_pair(|i, j, w, p| {
                let (value, slope) = loss(h[i] - h[j], p);
                total += w * value;
                gradient[i] += w * slope;
                gradient[j] -= w * slope;
            });
            total
        })?;
        let logits: Vec<f64> = h.iter().zip(&self.reference).map(|(h, r)| h + r.ln()).collect();
        Ok(normalised(&logits).0)
    }

    /// IPO's policy.
    ///
    /// # Errors
    /// Beta not above 0.
    pub fn ipo(&self, beta: f64) -> Result<Vec<f64>> {
        check_range("beta", beta, f64::MIN_POSITIVE..)?;
        self.of_margins(|h, p| {
            let residual = h - (p - 0.5) / beta;
            (residual * residual, 2.0 * residual)
        })
    }

    /// DPO's policy. Where a response won or lost all its comparisons, its optimum lies at infinity and this is far out on the way.
    ///
    /// # Errors
    /// Beta not above 0.
    pub fn dpo(&self, beta: f64) -> Result<Vec<f64>> {
        check_range("beta", beta, f64::MIN_POSITIVE..)?;
        self.of_margins(|h, p| {
            let x = beta * h;
            (softplus(x) - p * x, beta * (1.0 / (1.0 + (-x).exp()) - p))
        })
    }

    /// SRPO's loss at log-ratios `g` of the policy and `d` (row `y1`: `d(y2|y1)`) of the improver.
    ///
    /// # Panics
    /// When `g` or `d` has another number of responses.
    pub fn srpo_loss(&self, g: &[f64], d: &[Vec<f64>], beta: f64, alpha: f64) -> f64 {
        let mut total = 0.0;
        self.for_each_pair(|y2, y1, w, p| {
            let joint = p - 0.5 - 0.5 * beta * (d[y1][y2] - d[y2][y1] + g[y2] - g[y1]);
            let dagger = p - 0.5 - beta * (d[y1][y2] - d[y1][y1]);
            total += w * ((1.0 - alpha) * joint * joint + alpha * dagger * dagger);
        });
        total
    }

    /// SRPO's policy and improver (whose reference is the policy's, whatever it improves).
    ///
    /// # Errors
    /// Beta not above 0, alpha outside `(0, 1)`, between which alone the optimum is one.
    pub fn srpo(&self, beta: f64, alpha: f64) -> Result<(Vec<f64>, Vec<Vec<f64>>)> {
        check_range("beta", beta, f64::MIN_POSITIVE..)?;
        check_range("alpha", alpha, f64::MIN_POSITIVE..=1.0 - f64::EPSILON)?;
        let n = self.len();
        let logs: Vec<f64> = self.reference.iter().map(|r| r.ln()).collect();
        // Logits of the policy, then of the improver, row by row, all on top of the reference's.
        let unpack = |x: &[f64]| -> (Vec<f64>, Vec<Vec<f64>>) {
            let of = |part: &[f64]| normalised(&part.iter().zip(&logs).map(|(a, b)| a + b).collect::<Vec<_>>()).0;
            (of(&x[..n]), x[n..].chunks(n).map(of).collect())
        };
        let x = self.minimise(n + n * n, |x, gradient| {
            let (policy, improver) = unpack(x);
            let ratio = |p: &[f64]| -> Vec<f64> { p.iter().zip(&logs).map(|(p, l)| p.ln() - l).collect() };
            let (g, d) = (ratio(&policy), improver.iter().map(|r| ratio(r)).collect::<Vec<_>>());
            let (mut slope_g, mut slope_d) = (vec![0.0; n], vec![vec![0.0; n]; n]);
            self.for_each_pair(|y2, y1, w, p| {
                let joint = p - 0.5 - 0.5 * beta * (d[y1][y2] - d[y2][y1] + g[y2] - g[y1]);
                let dagger = p - 0.5 - beta * (d[y1][y2] - d[y1][y1]);
                let (a, b) = (-beta * w * (1.0 - alpha) * joint, -2.0 * beta * w * alpha * dagger);
                slope_g[y2] += a;
                slope_g[y1] -= a;
                slope_d[y1][y2] += a + b;
                slope_d[y2][y1] -= a;
                slope_d[y1][y1] -= b;
            });
            // Through the normalisation.
            let through = |slope: &[f64], p: &[f64], into: &mut [f64]| {
                let sum: f64 = slope.iter().sum();
                into.iter_mut().zip(slope.iter().zip(p)).for_each(|(g, (s, p))| *g = s - p * sum);
            };
            through(&slope_g, &policy, &mut gradient[..n]);
            for (y1, row) in slope_d.iter().enumerate() {
                through(row, &improver[y1], &mut gradient[n + y1 * n..][..n]);
            }
            self.srpo_loss(&g, &d, beta, alpha)
        })?;
        Ok(unpack(&x))
    }
}
