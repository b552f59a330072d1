//! Bottleneck adapters beside the perceptrons of a vision transformer, and the bank of those of earlier tasks.

use autodidact_core::error::check_range;
use autodidact_core::optim::Group;
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// Shape of an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AdapterConfig {
    /// `r`, width of the bottleneck. At least 1.
    pub rank: i64,
    /// Factor of the result.
    pub scale: f64,
    /// Share of the bottleneck's units that are dropped in training, in `[0, 1)`.
    pub dropout: f64,
}

impl Default for AdapterConfig {
    /// The official code's, for ViT-B/16.
    fn default() -> Self {
        Self { rank: 16, scale: 0.1, dropout: 0.1 }
    }
}

impl AdapterConfig {
    /// # Errors
    /// Settings outside their ranges.
    pub fn check(&self) -> Result<()> {
        check_range("adapter rank", self.rank as f64, 1.0..)?;
        check_range("adapter scale", self.scale, ..)?;
        check_range("adapter dropout", self.dropout, 0.0..1.0)
    }
}

/// The adapters of all blocks, `A(x) = scale * (W_up ReLU(W_down x + b_down) + b_up)` in each.
///
/// The blocks' tensors are kept as one, so that merging and optimizer steps are four kernels, however deep the network.
#[derive(Debug)]
pub struct AdapterSet {
    /// `W_down [depth, r, d]`, `b_down [depth, r]`, `W_up [depth, d, r]`, `b_up [depth, d]`.
    tensors: [Tensor; 4],
    config: AdapterConfig,
}

const NAMES: [&str; 4] = ["down.weight", "down.bias", "up.weight", "up.bias"];

impl AdapterSet {
    /// Adapters that add nothing yet: `W_down` uniform within `1 / sqrt(d)` (Kaiming's with `a = sqrt(5)`), everything else 0.
    ///
    /// # Errors
    /// Settings outside their ranges, no blocks, no width.
    pub fn fresh(depth: i64, width: i64, config: AdapterConfig, device: Device) -> Result<Self> {
        config.check()?;
        check_range("depth", depth as f64, 1.0..)?;
        check_range("width", width as f64, 1.0..)?;
        let (r, d, options) = (config.rank, width, (Kind::Float, device));
        let bound = 1.0 / (d as f64).sqrt();
        let down = Tensor::empty([depth, r, d], options).uniform_(-bound, bound);
        let zeros = |size: &[i64]| Tensor::zeros(size, options);
        Ok(Self { tensors: [down, zeros(&[depth, r]), zeros(&[depth, d, r]), zeros(&[depth, d])], config })
    }

    /// From `W_down [depth, r, d]`, `b_down [depth, r]`, `W_up [depth, d, r]` and `b_up [depth, d]`, which are shared.
    ///
    /// # Errors
    /// Shapes that do not fit each other or the rank.
    pub fn of(tensors: [Tensor; 4], config: AdapterConfig) -> Result<Self> {
        config.check()?;
        let (depth, r, d) = match tensors[0].size()[..] {
            [depth, r, d] if r == config.rank => (depth, r, d),
            _ => return Err(Error::shape(NAMES[0], format!("[depth, {}, d]", config.rank), &tensors[0])),
        };
        for (i, size) in [vec![depth, r, d], vec![depth, r], vec![depth, d, r], vec![depth, d]].into_iter().enumerate()
        {
            if tensors[i].size() != size {
                return Err(Error::shape(NAMES[i], format!("{size:?}"), &tensors[i]));
            }
        }
        Ok(Self { tensors, config })
    }

    /// `W_down [depth, r, d]`, `b_down [depth, r]`, `W_up [depth, d, r]`, `b_up [depth, d]`; shared, not copied.
    pub fn tensors(&self) -> &[Tensor; 4] {
        &self.tensors
    }

    /// Shape.
    pub fn config(&self) -> &AdapterConfig {
        &self.config
    }

    /// Values of their own, that record no gradient.
    pub fn copy(&self) -> Self {
        Self { tensors: std::array::from_fn(|i| self.tensors[i].detach().copy()), config: self.config }
    }

    /// The same to be trained.
    pub fn trainable(self) -> Self {
        Self { tensors: self.tensors.map(|t| t.set_requires_grad(true)), config: self.config }
    }

    /// The tensors as a group of an optimizer.
    pub fn group(&self, weight_decay: f64) -> Group {
        let named = NAMES.iter().zip(&self.tensors).map(|(n, t)| (format!("adapter.{n}"), t.shallow_clone()));
        Group::of(named.collect(), weight_decay)
    }

    /// Euclidean distance of all weights.
    ///
    /// # Errors
    /// Adapters of another shape.
    pub fn distance(&self, other: &Self) -> Result<f64> {
        self.check_like(other)?;
        let squares = self.tensors.iter().zip(&other.tensors).map(|(a, b)| (a - b).square().sum(Kind::Double));
        Ok(squares.fold(Tensor::from(0.0).to_device(self.tensors[0].device()), |s, x| s + x).sqrt().double_value(&[]))
    }

    fn check_like(&self, other: &Self) -> Result<()> {
        match self.tensors.iter().zip(&other.tensors).position(|(a, b)| a.size() != b.size()) {
            Some(i) => Err(Error::shape(NAMES[i], format!("{:?}", self.tensors[i].size()), &other.tensors[i])),
            None => Ok(()),
        }
    }

    /// Moves all weights towards `goal`, `pulls` times by a share `alpha` of the way; no gradient is recorded.
    ///
    /// # Errors
    /// Adapters of another shape, a share outside `[0, 1]`.
    pub fn pull(&mut self, goal: &Self, alpha: f64, pulls: usize) -> Result<()> {
        check_range("alpha", alpha, 0.0..=1.0)?;
        self.check_like(goal)?;
        let share = 1.0 - (1.0 - alpha).powi(pulls as i32);
        tch::no_grad(|| self.tensors.iter_mut().zip(&goal.tensors).for_each(|(a, g)| drop(a.lerp_(g, share))));
        Ok(())
    }

    /// What each block adds, as the vision transformer asks for it: block number and tokens `[N, T, d]` to `[N, T, d]`.
    pub(super) fn beside(&self, train: bool) -> impl FnMut(usize, &Tensor) -> Option<Tensor> + use<> {
        // One node of the graph for all blocks.
        let [down, down_bias, up, up_bias] = [0, 1, 2, 3].map(|i: usize| self.tensors[i].unbind(0));
        let AdapterConfig { scale, dropout, .. } = self.config;
        move |block, x| {
            let hidden = x.linear(&down[block], Some(&down_bias[block])).relu();
            let hidden = if train && dropout > 0.0 { hidden.dropout(dropout, true) } else { hidden };
            let out = hidden.linear(&up[block], Some(&up_bias[block]));
            Some(if scale == 1.0 { out } else { out * scale })
        }
    }
}

/// The same for several sets at once, copy by copy: the first block sees tokens that all share, the others their own.
pub(super) fn all_beside(sets: &[&AdapterSet]) -> impl FnMut(usize, &Tensor) -> Option<Tensor> + use<> {
    let stacked = |i: usize| Tensor::stack(&sets.iter().map(|s| &s.tensors[i]).collect::<Vec<_>>(), 1).detach();
    // By block: [sets, r, d], [sets, 1, r], [sets, d, r], [sets, 1, d].
    let (down, up) = (stacked(0), stacked(2));
    let (down_bias, up_bias) = (stacked(1).unsqueeze(2), stacked(3).unsqueeze(2));
    let (count, scale) = (sets.len() as i64, sets.first().map_or(1.0, |s| s.config.scale));
    move |block, x| {
        let block = block as i64;
        let (n, t, d) = x.size3().ok()?;
        let (down, up) = (down.get(block).transpose(1, 2), up.get(block).transpose(1, 2));
        // In the first block all copies multiply the same tokens.
        let own = if block == 0 { x.reshape([1, n * t, d]) } else { x.reshape([count, n / count * t, d]) };
        let hidden = (own.matmul(&down) + down_bias.get(block)).relu();
        let out = up_bias.get(block).baddbmm(&hidden, &up, 1.0, 1.0);
        let out = out.reshape([-1, t, d]);
        Some(if scale == 1.0 { out } else { out * scale })
    }
}

/// How often an adapter in training is pulled to its predecessors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MergeSchedule {
    /// Once, after each step.
    PerStep,
    /// As the official code does in effect: once per block in each forward pass, and once after each step. (The code pulls all blocks
    /// whenever a block runs; here these pulls come before the pass.)
    OfficialPerBlock,
}

/// The adapters of finished tasks.
///
/// ```
/// use autodidact_unlearning::model_surgery::{AdapterBank, AdapterConfig, AdapterSet};
/// use tch::{Device, Tensor, no_grad};
/// let config = AdapterConfig { rank: 1, ..Default::default() };
/// let filled = |v: f64| {
///     let set = AdapterSet::fresh(1, 1, config, Device::Cpu)?;
///     let tensors = set.tensors().each_ref().map(|t| Tensor::full_like(t, v));
///     AdapterSet::of(tensors, config)
/// };
/// let mut bank = AdapterBank::default();
/// bank.push(&filled(1.0)?)?;
/// bank.push(&filled(3.0)?)?;
/// let mut current = filled(5.0)?;
/// bank.merge(&mut current, 0.1)?; // 0.9 * 5 + 0.1 * (1 + 3) / 2
/// assert!((current.tensors()[0].double_value(&[0, 0, 0]) - 4.7).abs() < 1e-6);
/// # Ok::<(), autodidact_core::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct AdapterBank {
    sets: Vec<AdapterSet>,
    /// Mean of all sets.
    mean: Option<AdapterSet>,
}

impl AdapterBank {
    /// Keeps a copy of an adapter.
    ///
    /// # Errors
    /// An adapter of another shape than the first.
    pub fn push(&mut self, set: &AdapterSet) -> Result<()> {
        let count = self.sets.len() as f64;
        match &mut self.mean {
            Some(mean) => mean.pull(set, 1.0 / (count + 1.0), 1)?,
            None => self.mean = Some(set.copy()),
        }
        self.sets.push(set.copy());
        Ok(())
    }

    /// All sets, in the order of the tasks.
    pub fn sets(&self) -> &[AdapterSet] {
        &self.sets
    }

    /// Number of sets.
    pub fn len(&self) -> usize {
        self.sets.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// The mean of the kept adapters: of a task in training, the mean of its predecessors. `None` of an empty bank.
    pub fn mean_of_previous(&self) -> Option<&AdapterSet> {
        self.mean.as_ref()
    }

    /// `current <- (1 - alpha) current + alpha mean`; nothing with an empty bank.
    ///
    /// # Errors
    /// As [`AdapterSet::pull`].
    pub fn merge(&self, current: &mut AdapterSet, alpha: f64) -> Result<()> {
        self.mean.as_ref().map_or(Ok(()), |mean| current.pull(mean, alpha, 1))
    }

    /// Pulls every kept adapter but the first to the mean of those before it, which are pulled first: what evaluation does to the bank in
    /// the official code.
    ///
    /// # Errors
    /// As [`AdapterSet::pull`].
    pub fn pull_all(&mut self, alpha: f64, pulls: usize) -> Result<()> {
        let Some((first, rest)) = self.sets.split_first_mut() else { return Ok(()) };
        let mut mean = first.copy();
        for (i, set) in rest.iter_mut().enumerate() {
            set.pull(&mean, alpha, pulls)?;
            mean.pull(set, 1.0 / (i as f64 + 2.0), 1)?;
        }
        self.mean = Some(mean);
        Ok(())
    }
}
