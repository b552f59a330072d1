//! Choosing schedules with a fitted law.

use super::AnnealLaw;
use autodidact_core::error::check_range;
use autodidact_core::schedule::{Decay, Schedule, Shape};
use autodidact_core::{Error, Result};

/// Indices of schedules from the lowest predicted final loss to the highest, with the losses.
///
/// # Errors
/// A schedule that the law cannot evaluate.
pub fn compare_schedules(law: &AnnealLaw, schedules: &[Schedule]) -> Result<Vec<(usize, f64)>> {
    let mut all = schedules
        .iter()
        .enumerate()
        .map(|(i, s)| law.curve(s).map(|c| (i, c[c.len() - 1])))
        .collect::<Result<Vec<_>>>()?;
    all.sort_by(|a, b| a.1.total_cmp(&b.1));
    Ok(all)
}

/// The fraction of a run to spend on a cool-down to zero, of those in steps of one percent, and the predicted final loss.
///
/// # Errors
/// A run of fewer than 100 steps, or a peak that is not positive.
pub fn optimal_cooldown_ratio(law: &AnnealLaw, total: usize, peak: f64, decay: Decay) -> Result<(f64, f64)> {
    check_range("peak learning rate", peak, f64::MIN_POSITIVE..)?;
    if total < 100 {
        return Err(Error::value("total steps", "at least 100", total));
    }
    let loss = |percent: u32| {
        let ratio = f64::from(percent) / 100.0;
        (ratio, law.final_loss(&Schedule::new(peak, total, Shape::wsd(ratio, decay))))
    };
    let best = (0..=100).map(loss).min_by(|a, b| a.1.total_cmp(&b.1));
    Ok(best.expect("there are 101 ratios"))
}
