//! Laws of parts of a distribution: how easy and hard samples improve.

use crate::fit::{FitOptions, Fitted, PowerLaw, PowerLawPlusConst};
use autodidact_core::error::check_range;
use autodidact_core::stats::quantile;
use autodidact_core::{Error, Result};

/// `R^2` of the straight line through `(ln x, ln(loss - L_inf))`: how well what a fitted constant leaves is a falling power law. 0 where a
/// loss is not above the constant, for then there is no logarithm, and where the line rises.
///
/// # Errors
/// Fewer than two different `x`, numbers that are not positive.
pub fn reducible_r2(law: &PowerLawPlusConst, points: &[(f64, f64)]) -> Result<f64> {
    let left: Vec<(f64, f64)> = points.iter().map(|&(x, loss)| (x, loss - law.l_inf)).collect();
    if left.iter().any(|p| p.1 <= 0.0) {
        return Ok(0.0);
    }
    let (law, r2) = PowerLaw::ols(&left)?;
    Ok(if law.alpha > 0.0 { r2 } else { 0.0 })
}

/// A percentile of the losses over samples, by size.
#[derive(Debug, Clone)]
pub struct Trend {
    /// Of the samples, percent.
    pub percentile: f64,
    /// `(N, loss)`.
    pub points: Vec<(f64, f64)>,
    /// The fitted law.
    pub fitted: Fitted<PowerLawPlusConst>,
    /// [`reducible_r2`].
    pub r2: f64,
}

/// Fits a power law with a constant to each percentile of the losses: `losses[m][i]` is the loss of sample `i` under the model of `sizes[m]`
/// weights.
///
/// ```
/// use autodidact_scaling::autoregressive_scaling::percentile_trends;
/// use autodidact_scaling::fit::FitOptions;
/// let sizes = [1e3, 1e4, 1e5, 1e6];
/// // Samples of entropies 1 to 2 whose losses fall alike.
/// let losses = sizes.map(|n: f64| (0..=100).map(|i| 1.0 + 0.01 * f64::from(i) + (100.0 / n).powf(0.3)).collect());
/// let trends = percentile_trends(&sizes, &losses, &[5.0, 50.0], &FitOptions::default()).unwrap();
/// assert!((trends[0].fitted.law.l_inf - 1.05).abs() < 1e-3 && (trends[1].fitted.law.l_inf - 1.5).abs() < 1e-3);
/// assert!(trends[1].r2 > 0.9999);
/// ```
///
/// # Errors
/// Another number of rows than sizes, rows of different lengths or none, percentiles outside 0 to 100; otherwise as
/// [`fit`](crate::fit::fit()).
pub fn percentile_trends(
    sizes: &[f64],
    losses: &[Vec<f64>],
    percentiles: &[f64],
    options: &FitOptions,
) -> Result<Vec<Trend>> {
    if losses.len() != sizes.len() {
        return Err(Error::value("rows of losses", format!("one for each of {} sizes", sizes.len()), losses.len()));
    }
    let samples = losses.first().map_or(0, Vec::len);
    if let Some(row) = losses.iter().find(|row| row.len() != samples || row.is_empty()) {
        let expected = format!("as many in every row ({samples}), at least one");
        return Err(Error::value("losses of samples", expected, row.len()));
    }
    let of = |&percentile: &f64| {
        check_range("percentile", percentile, 0.0..=100.0)?;
        let points: Vec<(f64, f64)> =
            sizes.iter().zip(losses).map(|(n, row)| (*n, quantile(row, percentile / 100.0))).collect();
        let fitted = PowerLawPlusConst::fit(&points, options)?;
        let r2 = reducible_r2(&fitted.law, &points)?;
        Ok(Trend { percentile, points, fitted, r2 })
    };
    percentiles.iter().map(of).collect()
}
