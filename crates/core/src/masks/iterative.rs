//! Train, prune, rewind, and again.

use super::Masks;
use crate::error::check_range;
use crate::optim::Snapshot;
use crate::{Error, Result};

/// Iterative magnitude pruning with rewinding (Frankle and Carbin, 2019, arXiv 1803.03635; Frankle et al., 2020, arXiv 1912.05671):
/// train, prune a share of what is left by magnitude, go back to the start, and again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IterativePruning {
    /// Share of the remaining weights that each round prunes, in `(0, 1)`.
    pub rate: f64,
    /// Rounds of pruning; one training more than that.
    pub rounds: usize,
}

impl Default for IterativePruning {
    /// A fifth at a time, to about a tenth.
    fn default() -> Self {
        Self { rate: 0.2, rounds: 10 }
    }
}

impl IterativePruning {
    /// Share of weights left after a number of rounds.
    pub fn density(&self, round: usize) -> f64 {
        (1.0 - self.rate).powi(round as i32)
    }

    /// Runs all rounds from `masks` (of which nothing is pruned yet): [`prune_in_rounds`] at the densities of the rounds.
    ///
    /// # Errors
    /// A rate outside `(0, 1)`, those of `train`.
    pub fn run<T, E: From<Error>>(
        &self,
        masks: Masks,
        start: &Snapshot,
        train: impl FnMut(usize, &Masks) -> Result<T, E>,
    ) -> Result<Vec<(f64, T)>, E> {
        check_range("rate", self.rate, f64::MIN_POSITIVE..1.0)?;
        let densities: Vec<f64> = (1..=self.rounds).map(|round| self.density(round)).collect();
        Ok(prune_in_rounds(masks, start, &densities, train)?.1)
    }
}

/// Trains, prunes to the first density by the magnitudes that training has left, puts `start` back, trains under the masks, and so on;
/// the last training is under the last masks. `train` trains under masks (which it applies after each update) and returns what it
/// measured. Gives the last masks, and the measurements by round with their density.
///
/// # Errors
/// Densities that rise or lie outside `[0, 1]`, those of `train`.
pub fn prune_in_rounds<T, E: From<Error>>(
    mut masks: Masks,
    start: &Snapshot,
    densities: &[f64],
    mut train: impl FnMut(usize, &Masks) -> Result<T, E>,
) -> Result<(Masks, Vec<(f64, T)>), E> {
    let mut results = vec![];
    for round in 0..=densities.len() {
        if round > 0 {
            masks = masks.by_magnitude(densities[round - 1])?;
        }
        start.restore();
        masks.apply();
        results.push((masks.density(), train(round, &masks)?));
    }
    Ok((masks, results))
}
