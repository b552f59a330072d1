//! Two straight lines that meet: knees and breaks of curves.

use super::{mean, slope};
use crate::{Error, Result};

/// The best continuous fit of two straight lines that meet at one of the points.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TwoSegments {
    /// Where they meet, one of the inner `x`.
    pub at: f64,
    /// Height there.
    pub height: f64,
    /// Slope before it.
    pub before: f64,
    /// Slope after it.
    pub after: f64,
    /// Sum of squared residuals.
    pub sse: f64,
}

impl TwoSegments {
    /// Least squares over all inner points as the meeting point (the first of equally good ones).
    ///
    /// ```
    /// use autodidact_core::stats::TwoSegments;
    /// let x = [0.0, 1.0, 2.0, 3.0, 4.0];
    /// let fit = TwoSegments::fit(&x, &[5.0, 5.0, 5.0, 2.0, -1.0])?;
    /// assert!(fit.at == 2.0 && fit.before.abs() < 1e-12 && (fit.after + 3.0).abs() < 1e-12);
    /// # Ok::<(), autodidact_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// Lists of different lengths, fewer than four different `x`, values that are not finite.
    pub fn fit(x: &[f64], y: &[f64]) -> Result<Self> {
        if let Some(bad) = x.iter().chain(y).find(|v| !v.is_finite()) {
            return Err(Error::value("points of two segments", "finite values", bad));
        }
        let mut different = x.to_vec();
        different.sort_unstable_by(f64::total_cmp);
        different.dedup();
        if different.len() < 4 || x.len() != y.len() {
            let got = format!("{} of {} and {} values", different.len(), x.len(), y.len());
            return Err(Error::value("points of two segments", "four or more different x, as many y", got));
        }
        // A line before the meeting point asks for two points up to it, a line after it for two from it on.
        let inner = &different[1..different.len() - 1];
        let fits = inner.iter().map(|at| Self::meeting_at(*at, x, y)).collect::<Result<Vec<_>>>()?;
        Ok(fits.into_iter().reduce(|best, fit| if fit.sse < best.sse { fit } else { best }).expect("inner points"))
    }

    /// `a + b x + c max(0, x - at)`: what of the hinge a line does not explain tells `c`.
    fn meeting_at(at: f64, x: &[f64], y: &[f64]) -> Result<Self> {
        let hinge: Vec<f64> = x.iter().map(|x| (x - at).max(0.0)).collect();
        let (ry, rh) = (residuals(x, y)?, residuals(x, &hinge)?);
        let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let c = product(&ry, &rh) / product(&rh, &rh);
        let line: Vec<f64> = y.iter().zip(&hinge).map(|(y, h)| y - c * h).collect();
        let b = slope(x, &line)?;
        let rest = residuals(x, &line)?;
        Ok(Self { at, height: mean(&line) + b * (at - mean(x)), before: b, after: b + c, sse: product(&rest, &rest) })
    }
}

/// What a straight line leaves.
fn residuals(x: &[f64], y: &[f64]) -> Result<Vec<f64>> {
    let (b, mx, my) = (slope(x, y)?, mean(x), mean(y));
    Ok(x.iter().zip(y).map(|(x, y)| y - my - b * (x - mx)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planted_breaks_come_back_and_the_fit_is_the_best_of_its_kind() {
        let x: Vec<f64> = (0..12).map(f64::from).collect();
        let planted = |x: f64| 3.0 + 0.5 * x - 4.0 * (x - 7.0).max(0.0);
        let y: Vec<f64> = x.iter().map(|x| planted(*x)).collect();
        let fit = TwoSegments::fit(&x, &y).unwrap();
        assert!((fit.at - 7.0).abs() + (fit.before - 0.5).abs() + (fit.after + 3.5).abs() + fit.sse < 1e-10, "{fit:?}");
        assert!((fit.height - 6.5).abs() < 1e-10);
        // With noise: no change of any constant lowers the sum of squares.
        let noisy: Vec<f64> = y.iter().enumerate().map(|(i, y)| y + [0.3, -0.2, 0.1, -0.4][i % 4]).collect();
        let fit = TwoSegments::fit(&x, &noisy).unwrap();
        let sse = |f: &TwoSegments| {
            let at = |x: f64| f.height + (x - f.at) * if x < f.at { f.before } else { f.after };
            x.iter().zip(&noisy).map(|(x, y)| (y - at(*x)).powi(2)).sum::<f64>()
        };
        assert!((sse(&fit) - fit.sse).abs() < 1e-10);
        for d in [-0.01, 0.01] {
            assert!(sse(&TwoSegments { height: fit.height + d, ..fit }) > fit.sse);
            assert!(sse(&TwoSegments { before: fit.before + d, ..fit }) > fit.sse);
            assert!(sse(&TwoSegments { after: fit.after + d, ..fit }) > fit.sse);
        }
    }

    #[test]
    fn too_little_is_refused() {
        assert!(TwoSegments::fit(&[0.0, 1.0, 1.0, 2.0], &[0.0; 4]).is_err());
        assert!(TwoSegments::fit(&[0.0, 1.0, 2.0, 3.0], &[0.0; 3]).is_err());
        assert!(TwoSegments::fit(&[0.0, 1.0, 2.0, f64::NAN], &[0.0; 4]).is_err());
    }
}
