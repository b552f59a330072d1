//! Scores over sparsity.

use autodidact_core::error::check_range;
use autodidact_core::stats::TwoSegments;
use autodidact_core::{Error, Result};

/// The largest sparsity of a curve of `(sparsity, score)` such that it and all smaller ones score at least `dense - eps`; `None` where
/// already the smallest does not. A later recovery does not count: it is noise. `eps` is in the scores' units.
///
/// # Errors
/// An empty curve, sparsities that do not rise or lie outside `[0, 1]`, values that are not finite, a negative `eps`.
pub fn essential_sparsity(curve: &[(f64, f64)], dense: f64, eps: f64) -> Result<Option<f64>> {
    check_curve(curve)?;
    check_range("eps", eps, 0.0..)?;
    check_range("dense score", dense, ..)?;
    Ok(curve.iter().take_while(|(_, score)| *score >= dense - eps).last().map(|(s, _)| *s))
}

fn check_curve(curve: &[(f64, f64)]) -> Result<()> {
    check_range("points of a curve", curve.len() as f64, 1.0..)?;
    for (s, score) in curve {
        check_range("sparsity", *s, 0.0..=1.0)?;
        check_range("score", *score, ..)?;
    }
    match curve.windows(2).find(|w| w[0].0 >= w[1].0) {
        Some(w) => Err(Error::value("sparsities", "rising ones", format!("{} then {}", w[0].0, w[1].0))),
        None => Ok(()),
    }
}

/// The knee of a curve: two straight lines fitted to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Knee {
    /// Sparsity where the lines meet.
    pub at: f64,
    /// Scores per unit of sparsity before it.
    pub before: f64,
    /// And after it.
    pub after: f64,
}

impl Knee {
    /// The best fit of two lines that meet at one of the inner sparsities.
    ///
    /// # Errors
    /// As [`essential_sparsity`]; fewer than four points.
    pub fn of(curve: &[(f64, f64)]) -> Result<Self> {
        check_curve(curve)?;
        let (x, y): (Vec<f64>, Vec<f64>) = curve.iter().copied().unzip();
        let TwoSegments { at, before, after, .. } = TwoSegments::fit(&x, &y)?;
        Ok(Self { at, before, after })
    }

    /// How many times as steeply scores fall after the knee as before it: infinite where they do not fall before it, 0 where they do not
    /// fall after it.
    pub fn sharpness(&self) -> f64 {
        super::steepening(-self.before, -self.after)
    }
}
