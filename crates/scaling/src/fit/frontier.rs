//! Frontiers of learning curves over compute, and the model size that is best at each compute (Henighan et al., 2020).

use super::PowerLaw;
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// FLOP of one PF-day.
pub const PF_DAY: f64 = 8.64e19;

/// A loss per token as nats per sample of `tokens` tokens.
pub fn loss_per_sample(loss: f64, tokens: usize) -> f64 {
    loss * tokens as f64
}

/// The points `(x, loss)` below which no point of smaller or equal `x` lies, by `x`.
///
/// # Errors
/// No points, or numbers that are not finite.
pub fn pareto_envelope(points: &[(f64, f64)]) -> Result<Vec<(f64, f64)>> {
    let sorted = sorted(points)?;
    let mut best = f64::INFINITY;
    Ok(sorted
        .into_iter()
        .filter(|p| {
            let better = p.1 < best;
            best = best.min(p.1);
            better
        })
        .collect())
}

fn sorted(points: &[(f64, f64)]) -> Result<Vec<(f64, f64)>> {
    if points.is_empty() {
        return Err(Error::value("points of a frontier", "at least one", "none"));
    }
    if let Some(bad) = points.iter().find(|p| !(p.0.is_finite() && p.1.is_finite())) {
        return Err(Error::value("points of a frontier", "finite numbers", format!("({}, {})", bad.0, bad.1)));
    }
    let mut sorted = points.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    Ok(sorted)
}

/// The corners of the falling part of the lower convex hull of points `(x, loss)` in `(ln x, ln loss)`, by `x`; indices into the points.
///
/// # Errors
/// No points, or numbers that are not positive and finite.
pub fn lower_hull_log(points: &[(f64, f64)]) -> Result<Vec<usize>> {
    if let Some(bad) = points.iter().find(|p| !(p.0 > 0.0 && p.1 > 0.0 && p.0.is_finite() && p.1.is_finite())) {
        return Err(Error::value("points of a hull", "positive finite numbers", format!("({}, {})", bad.0, bad.1)));
    }
    sorted(points)?;
    let log = |i: usize| (points[i].0.ln(), points[i].1.ln());
    let mut order: Vec<usize> = (0..points.len()).collect();
    order.sort_by(|&a, &b| points[a].0.total_cmp(&points[b].0).then(points[a].1.total_cmp(&points[b].1)));
    order.dedup_by(|b, a| points[*b].0 == points[*a].0);
    let mut hull: Vec<usize> = vec![];
    for i in order {
        while let [.., a, b] = hull[..] {
            let ((ax, ay), (bx, by), (cx, cy)) = (log(a), log(b), log(i));
            // b is above or on the line from a to i.
            if (bx - ax) * (cy - ay) - (by - ay) * (cx - ax) <= 0.0 {
                hull.pop();
            } else {
                break;
            }
        }
        hull.push(i);
    }
    let lowest = (0..hull.len()).min_by(|&a, &b| points[hull[a]].1.total_cmp(&points[hull[b]].1)).unwrap_or(0);
    hull.truncate(lowest + 1);
    Ok(hull)
}

/// The model size that is best at a compute: `N_opt = (C/C_0)^beta`.
///
/// ```
/// use autodidact_scaling::fit::NOpt;
/// // Language, C in PF-days.
/// let law = NOpt { c0: 3.3e-13, beta: 0.73 };
/// assert!((law.n(1.0) / 1.293e9 - 1.0).abs() < 1e-3);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct NOpt {
    /// The compute at which one parameter is best.
    pub c0: f64,
    /// Exponent.
    pub beta: f64,
}

impl NOpt {
    /// Least squares in logarithms of `(compute, size)`; also its `R^2`.
    ///
    /// # Errors
    /// As [`PowerLaw::ols`].
    pub fn fit(points: &[(f64, f64)]) -> Result<(Self, f64)> {
        let (law, r2) = PowerLaw::ols(points)?;
        Ok((Self { c0: law.x0, beta: -law.alpha }, r2))
    }

    /// Fits the corners of the convex hull of learning curves `(compute, loss)` of models of `sizes`.
    ///
    /// # Errors
    /// Another number of sizes than curves, fewer than two corners of different compute; otherwise as [`PowerLaw::ols`].
    pub fn fit_curves(sizes: &[f64], curves: &[Vec<(f64, f64)>]) -> Result<(Self, f64)> {
        if sizes.len() != curves.len() {
            return Err(Error::value("sizes", format!("one for each of {} curves", curves.len()), sizes.len()));
        }
        let points: Vec<(f64, f64)> = curves.iter().flatten().copied().collect();
        let of: Vec<f64> = curves.iter().zip(sizes).flat_map(|(c, n)| vec![*n; c.len()]).collect();
        let hull = lower_hull_log(&points)?;
        Self::fit(&hull.iter().map(|&i| (points[i].0, of[i])).collect::<Vec<_>>())
    }

    /// The best size at a compute.
    pub fn n(&self, c: f64) -> f64 {
        (c / self.c0).powf(self.beta)
    }

    /// The tokens that go with it, where the compute is `unit` FLOP (1, or [`PF_DAY`]): `D = C/(6 N)`.
    pub fn tokens(&self, c: f64, unit: f64) -> f64 {
        c * unit / (6.0 * self.n(c))
    }

    /// The exponent of data in model size along the optimum, `(1 - beta)/beta`.
    pub fn data_exponent(&self) -> f64 {
        (1.0 - self.beta) / self.beta
    }
}
