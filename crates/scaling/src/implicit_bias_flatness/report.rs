//! Does flatness or loss go with what models of one loss are worth downstream?

use super::SaturationMeter;
use autodidact_core::stats::{extent, spearman};
use autodidact_core::{Error, Result};

/// A model as it is compared with others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Checkpoint {
    /// Loss over the language's entropy, in nats.
    pub excess: f64,
    /// Trace of the Hessian.
    pub trace: f64,
    /// Accuracy, or another score, on a downstream task.
    pub downstream: f64,
}

/// Rank correlations among the saturated models.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FlatnessReport {
    /// Models in the band.
    pub models: usize,
    /// Spearman's correlation of trace and downstream score; negative where flatter models are better.
    pub trace: f64,
    /// Of excess loss and downstream score.
    pub excess: f64,
    /// Smallest and largest downstream score.
    pub range: (f64, f64),
}

/// Compares the models whose excess is inside the meter's band, which must be set before looking: among models of any loss, loss explains
/// the most.
///
/// ```
/// use autodidact_scaling::implicit_bias_flatness::{Checkpoint, SaturationMeter, flatness_report};
/// let models = [(0.0010, 2.0, 0.90), (0.0004, 1.6, 0.93), (0.0006, 1.1, 0.96), (0.3, 0.1, 0.5)];
/// let models = models.map(|(excess, trace, downstream)| Checkpoint { excess, trace, downstream });
/// let report = flatness_report(&models, &SaturationMeter { entropy: 0.0, tol: 0.002 }).unwrap();
/// assert_eq!(report.models, 3); // the last is not saturated
/// assert!((report.trace + 1.0).abs() < 1e-12 && (report.excess + 0.5).abs() < 1e-12);
/// ```
///
/// # Errors
/// Fewer than three models in the band, or all of one trace, excess or score.
pub fn flatness_report(models: &[Checkpoint], meter: &SaturationMeter) -> Result<FlatnessReport> {
    let band: Vec<&Checkpoint> = models.iter().filter(|m| meter.saturated(m.excess)).collect();
    if band.len() < 3 {
        let expected = format!("at least 3 models with an excess of at most {}", meter.tol);
        return Err(Error::value("checkpoints", expected, band.len()));
    }
    let of = |f: fn(&Checkpoint) -> f64| -> Vec<f64> { band.iter().map(|m| f(m)).collect() };
    let downstream = of(|m| m.downstream);
    Ok(FlatnessReport {
        models: band.len(),
        trace: spearman(&of(|m| m.trace), &downstream)?,
        excess: spearman(&of(|m| m.excess), &downstream)?,
        range: extent(downstream.iter().copied()),
    })
}
