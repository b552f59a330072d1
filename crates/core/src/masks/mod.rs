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

mod iterative;
mod select;

pub use iterative::{IterativePruning, prune_in_rounds};

use crate::error::check_range;
use crate::optim::sorted_trainables;
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
            let mask = p.ones_like();
            (name, p, mask)
        };
        Self { entries: parameters.into_iter().map(entry).collect() }
    }

    /// Masks that keep a share `density` of all weights, the largest in magnitude as they are now, all parameters in one ranking; of equals
    /// the first, in the order of the parameters. What is masked already stays so. The count is exact (rounded once, over all weights), and
    /// masks of lower densities are nested in those of higher ones.
    ///
    /// # Errors
    /// A density outside `[0, 1]`, or above the present one; weights that are not finite.
    pub fn by_magnitude(&self, density: f64) -> Result<Self> {
        check_range("density", density, 0.0..=1.0)?;
        let keep = (density * self.len() as f64).round() as i64;
        if keep > self.kept() {
            return Err(Error::value("density", format!("at most the present {}", self.density()), density));
        }
        self.keep_largest(keep)
    }

    /// As [`Masks::by_magnitude`], by the number of weights to keep.
    ///
    /// # Errors
    /// A number below 0 or above the present one; weights that are not finite.
    pub fn keep_largest(&self, keep: i64) -> Result<Self> {
        let kept = self.kept();
        if !(0..=kept).contains(&keep) {
            return Err(Error::value("weights to keep", format!("0 to the present {kept}"), keep));
        }
        if keep == 0 {
            return self.with(self.entries.iter().map(|(_, p, _)| p.zeros_like()).collect());
        }
        let entries = self.entries.iter().map(|(name, p, mask)| (name.as_str(), p, mask));
        let (threshold, mut ties) = select::threshold(entries, keep as usize)?;
        self.with(self.entries.iter().map(|(_, p, mask)| select::above(p, mask, threshold, &mut ties)).collect())
    }

    /// What `prune` makes of each parameter alone.
    ///
    /// # Errors
    /// Those of `prune`.
    pub fn in_each(&self, mut prune: impl FnMut(&Self) -> Result<Self>) -> Result<Self> {
        let mut each = |(name, p, mask): &(String, Tensor, Tensor)| {
            let alone = Self { entries: vec![(name.clone(), p.shallow_clone(), mask.shallow_clone())] };
            let pruned = prune(&alone)?;
            pruned.entries.into_iter().next().map(|e| e.2).ok_or_else(|| Error::value("masks", "one", "none"))
        };
        let masks = self.entries.iter().map(&mut each).collect::<Result<_>>()?;
        self.with(masks)
    }

    /// The same parameters under other masks, of zeros and ones, in the order of [`Masks::iter`].
    ///
    /// # Errors
    /// Another number of masks, or of other shapes.
    pub fn with(&self, masks: Vec<Tensor>) -> Result<Self> {
        if masks.len() != self.entries.len() {
            return Err(Error::value("masks", format!("{} of them", self.entries.len()), masks.len()));
        }
        let entry = |((name, p, _), mask): (&(String, Tensor, Tensor), Tensor)| {
            if mask.size() != p.size() {
                return Err(Error::shape(format!("mask of {name}"), format!("{:?}", p.size()), &mask));
            }
            Ok((name.clone(), p.shallow_clone(), mask.to_kind(p.kind()).to_device(p.device())))
        };
        Ok(Self { entries: self.entries.iter().zip(masks).map(entry).collect::<Result<_>>()? })
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

    /// Sets the gradients of masked weights to 0, in place: for norms and clipping that should not see them.
    pub fn apply_to_gradients(&self) {
        tch::no_grad(|| {
            for (_, p, mask) in &self.entries {
                let mut gradient = p.grad();
                if gradient.defined() {
                    let _ = gradient.g_mul_(mask);
                }
            }
        });
    }

    /// The parameters by name, in the order of [`Masks::iter`].
    pub fn parameters(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.entries.iter().map(|(name, p, _)| (name.as_str(), p))
    }

    /// Share of weights that are kept, of each parameter.
    pub fn densities(&self) -> Vec<(&str, f64)> {
        self.entries.iter().map(|(name, _, m)| (name.as_str(), m.mean(Kind::Double).double_value(&[]))).collect()
    }

    /// Weights that both keep.
    ///
    /// # Errors
    /// Masks of other parameters (by name and shape).
    pub fn kept_by_both(&self, other: &Self) -> Result<i64> {
        let names = |m: &Self| m.entries.iter().map(|(n, p, _)| (n.clone(), p.size())).collect::<Vec<_>>();
        if names(self) != names(other) {
            return Err(Error::value("masks", "of the same parameters", "of others"));
        }
        let pairs = self.entries.iter().zip(&other.entries);
        Ok(pairs.map(|(a, b)| (&a.2 * b.2.to_kind(a.2.kind())).sum(Kind::Double).double_value(&[]) as i64).sum())
    }

    /// Cosine of two masks of what is kept: weights that both keep over the geometric mean of what each keeps. Masks of one sparsity that
    /// have nothing to do with each other have a cosine of their density.
    ///
    /// # Errors
    /// As [`Masks::kept_by_both`]; masks that keep nothing.
    pub fn cosine(&self, other: &Self) -> Result<f64> {
        let product = self.kept() as f64 * other.kept() as f64;
        check_range("weights kept by both masks", product, 1.0..)?;
        Ok(self.kept_by_both(other)? as f64 / product.sqrt())
    }

    /// Whether everything that is kept here is kept there.
    ///
    /// # Errors
    /// As [`Masks::kept_by_both`].
    pub fn is_nested_in(&self, other: &Self) -> Result<bool> {
        Ok(self.kept_by_both(other)? == self.kept())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::Snapshot;
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

    #[test]
    fn selection_is_that_of_a_sort() {
        tch::manual_seed(3);
        let parts: Vec<Tensor> = [7i64, 1, 600, 41].map(|n| Tensor::randn([n], (Kind::Float, Device::Cpu))).into();
        // Many equals, zeros of both signs, and a subnormal.
        let rounded = (&parts[2] * 4.0).round() / 4.0;
        let odd = Tensor::from_slice(&[0.0f32, -0.0, 1e-42, -0.25, 0.25]);
        let parts = [&parts[0], &parts[1], &rounded, &parts[3], &odd].map(Tensor::copy);
        let named = parts.iter().enumerate().map(|(i, p)| (i.to_string(), p.shallow_clone())).collect();
        let full = Masks::of(named);
        let all = Vec::<f32>::try_from(Tensor::cat(&parts, 0).abs()).unwrap();
        let mut places: Vec<usize> = (0..all.len()).collect();
        // Stable: of equals the first.
        places.sort_by(|a, b| all[*b].total_cmp(&all[*a]));
        let mut before: Option<Masks> = None;
        for keep in [0usize, 1, 5, 100, 300, 500, 650, all.len()] {
            let masks = full.by_magnitude(keep as f64 / all.len() as f64).unwrap();
            let mut expected = vec![0.0f32; all.len()];
            places[..keep].iter().for_each(|i| expected[*i] = 1.0);
            assert_eq!(of(&masks), expected, "{keep}");
            if let Some(before) = &before {
                assert!(before.is_nested_in(&masks).unwrap());
            }
            before = Some(masks);
        }
        let bad = Masks::of(vec![("w".into(), Tensor::from_slice(&[1.0f32, f32::NAN]))]);
        assert!(bad.by_magnitude(0.5).unwrap_err().to_string().starts_with("w: expected finite weights"));
    }

    #[test]
    fn masks_are_compared() {
        let full = Masks::full(&store());
        let (half, quarter) = (full.by_magnitude(0.5).unwrap(), full.by_magnitude(0.25).unwrap());
        assert_eq!(half.cosine(&half).unwrap(), 1.0);
        assert_eq!(half.cosine(&quarter).unwrap(), 2.0 / 8f64.sqrt());
        assert!(quarter.is_nested_in(&half).unwrap() && !half.is_nested_in(&quarter).unwrap());
        let each = full.in_each(|one| one.keep_largest(2)).unwrap();
        assert_eq!(of(&each), [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0]);
        assert!(each.densities().iter().all(|d| d.1 == 0.5));
        let other = Masks::of(vec![("a".into(), Tensor::ones([2, 2], (Kind::Float, Device::Cpu)))]);
        assert!(half.cosine(&other).is_err());
        assert!(half.with(vec![]).is_err() && half.keep_largest(5).is_err() && half.keep_largest(-1).is_err());
        assert!(full.by_magnitude(0.0).unwrap().cosine(&half).is_err());
        let turned = half.with(half.iter().map(|(_, m)| 1.0 - m).collect()).unwrap();
        assert_eq!((turned.kept(), turned.kept_by_both(&half).unwrap()), (4, 0));
    }

    #[test]
    fn gradients_of_masked_weights_vanish() {
        let vs = store();
        let half = Masks::full(&vs).by_magnitude(0.5).unwrap();
        let variables = vs.variables();
        let loss = variables.values().map(|v| v.square().sum(Kind::Float)).sum::<Tensor>();
        loss.backward();
        half.apply_to_gradients();
        let seen = Vec::<f32>::try_from(variables["a"].grad().flatten(0, -1)).unwrap();
        assert_eq!(seen, [8.0, 0.0, 6.0, 0.0]);
    }
}
