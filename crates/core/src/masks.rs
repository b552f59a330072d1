//! Masks over parameters: which weights of a network are kept.
//!
//! ```
//! use autodidact_core::masks::Masks;
//! use tch::{Device, Tensor, nn};
//! let vs = nn::VarStore::new(Device::Cpu);
//! let mut w = vs.root().var("w", &[4], nn::Init::Const(0.0));
//! tch::no_grad(|| w.copy_(&Tensor::from_slice(&[0.1f32, -3.0, 2.0, -0.2])));
//! let masks = Masks::full(&vs).by_magnitude(0.5)?; // half of the weights, the largest
//! masks.apply();
//! assert_eq!(Vec::<f32>::try_from(&w)?, [0.0, -3.0, 2.0, 0.0]);
//! assert_eq!(masks.density(), 0.5);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::error::check_range;
use crate::optim::{Snapshot, sorted_trainables};
use crate::{Error, Result};
use tch::{Kind, Tensor, nn::VarStore};

/// A mask of zeros and ones for each of a set of parameters, which it shares with their network.
#[derive(Debug)]
pub struct Masks {
    /// Name, parameter, mask of the parameter's shape and kind.
    entries: Vec<(String, Tensor, Tensor)>,
}

impl Masks {
    /// All trainable variables of a store, everything kept.
    pub fn full(vs: &VarStore) -> Self {
        Self::of(sorted_trainables(vs))
    }

    /// The given parameters, everything kept.
    pub fn of(parameters: Vec<(String, Tensor)>) -> Self {
        let entry = |(name, p): (String, Tensor)| {
            let p = p.detach();
            let mask = p.ones_like();
            (name, p, mask)
        };
        Self { entries: parameters.into_iter().map(entry).collect() }
    }

    /// Masks that keep a share `density` of all weights, the largest in magnitude as they are now, all parameters in one ranking. What is
    /// masked already stays so.
    ///
    /// # Errors
    /// A density outside `[0, 1]`, or above the present one.
    pub fn by_magnitude(&self, density: f64) -> Result<Self> {
        check_range("density", density, 0.0..=1.0)?;
        let total = self.len();
        let keep = (density * total as f64).round() as i64;
        let kept = self.kept();
        if keep > kept {
            return Err(Error::value("density", format!("at most the present {}", self.density()), density));
        }
        // What is masked ranks below a weight of 0.
        let rank = |(_, p, mask): &(String, Tensor, Tensor)| ((p.abs() + 1.0) * mask - 1.0).flatten(0, -1);
        let scores = Tensor::cat(&self.entries.iter().map(rank).collect::<Vec<_>>(), 0);
        // By place, not by threshold: weights of the same magnitude must not bring the count off.
        let (_, largest) = scores.topk(keep, 0, true, false);
        let flat = scores.zeros_like().index_fill(0, &largest, 1.0);
        let mut first = 0;
        let mut entries = vec![];
        for (name, p, _) in &self.entries {
            let count = p.numel() as i64;
            let mask = flat.narrow(0, first, count).view_as(p).to_kind(p.kind());
            entries.push((name.clone(), p.shallow_clone(), mask));
            first += count;
        }
        Ok(Self { entries })
    }

    /// Sets the masked weights to 0, in place.
    pub fn apply(&self) {
        tch::no_grad(|| {
            for (_, p, mask) in &self.entries {
                let _ = p.shallow_clone().g_mul_(mask);
            }
        });
    }

    /// The masks by name, of zeros and ones.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.entries.iter().map(|(name, _, mask)| (name.as_str(), mask))
    }

    /// Number of weights, masked or not.
    pub fn len(&self) -> i64 {
        self.entries.iter().map(|(_, p, _)| p.numel() as i64).sum()
    }

    /// Whether there are no weights.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of weights that are kept.
    pub fn kept(&self) -> i64 {
        self.entries.iter().map(|(_, _, mask)| mask.sum(Kind::Double).double_value(&[]) as i64).sum()
    }

    /// Share of weights that are kept; NaN without weights.
    pub fn density(&self) -> f64 {
        self.kept() as f64 / self.len() as f64
    }
}

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

    /// Runs all rounds from `masks` (of which nothing is pruned yet): `start` is put back, `train` trains under masks (which it applies
    /// after each update) and returns what it measured. Returns that by round, with the density.
    ///
    /// # Errors
    /// A rate outside `(0, 1)`, those of `train`.
    pub fn run<T, E: From<Error>>(
        &self,
        mut masks: Masks,
        start: &Snapshot,
        mut train: impl FnMut(usize, &Masks) -> Result<T, E>,
    ) -> Result<Vec<(f64, T)>, E> {
        check_range("rate", self.rate, f64::MIN_POSITIVE..1.0)?;
        let mut results = vec![];
        for round in 0..=self.rounds {
            if round > 0 {
                masks = masks.by_magnitude(self.density(round))?;
            }
            start.restore();
            masks.apply();
            results.push((masks.density(), train(round, &masks)?));
        }
        Ok(results)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, nn::Init};

    fn store() -> VarStore {
        let vs = VarStore::new(Device::Cpu);
        for (name, values) in [("a", [4.0f32, -1.0, 3.0, 0.0]), ("b", [-2.0, 0.0, 0.5, 2.5])] {
            let mut v = vs.root().var(name, &[2, 2], Init::Const(0.0));
            tch::no_grad(|| v.copy_(&Tensor::from_slice(&values).view([2, 2])));
        }
        vs
    }

    fn of(masks: &Masks) -> Vec<f32> {
        masks.iter().flat_map(|(_, m)| Vec::<f32>::try_from(m.flatten(0, -1)).unwrap()).collect()
    }

    #[test]
    fn one_ranking_over_all_parameters_and_what_is_masked_stays_masked() {
        let vs = store();
        let half = Masks::full(&vs).by_magnitude(0.5).unwrap();
        assert_eq!(of(&half), [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0]);
        half.apply();
        // Masked weights that have grown since do not come back; two zeros more are kept by count.
        let mut a = vs.variables().remove("a").unwrap();
        let _ = tch::no_grad(|| a.fill_(9.0));
        let quarter = half.by_magnitude(0.25).unwrap();
        assert_eq!(of(&quarter), [1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!((quarter.kept(), quarter.len()), (2, 8));
        assert!(quarter.by_magnitude(0.5).unwrap_err().to_string().contains("at most the present 0.25"));
        // Ties at zero: the count is kept all the same.
        assert_eq!(Masks::full(&store()).by_magnitude(7.0 / 8.0).unwrap().kept(), 7);
    }

    #[test]
    fn rounds_start_from_the_start_with_fewer_weights() {
        let vs = store();
        let start = Snapshot::of_parameters(&vs);
        let a = vs.variables().remove("a").unwrap();
        let pruning = IterativePruning { rate: 0.5, rounds: 2 };
        let results: Vec<(f64, f64)> = pruning
            .run::<_, Error>(Masks::full(&vs), &start, |_, masks| {
                let sum = a.sum(Kind::Double).double_value(&[]);
                // "Training" makes the second weight of the first parameter the largest.
                let _ = tch::no_grad(|| a.view(-1).get(1).fill_(100.0));
                masks.apply();
                Ok(sum)
            })
            .unwrap();
        // 4 - 1 + 3; then the weights 4, -1, 3 and 2.5; then 4 and -1.
        assert_eq!(results, [(1.0, 6.0), (0.5, 6.0), (0.25, 3.0)]);
        assert!((IterativePruning::default().density(10) - 0.8f64.powi(10)).abs() < 1e-12);
        let none = IterativePruning { rate: 0.0, rounds: 1 };
        assert!(none.run::<(), Error>(Masks::full(&vs), &start, |_, _| Ok(())).is_err());
    }
}
