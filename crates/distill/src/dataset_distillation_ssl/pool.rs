//! Inner networks, and a pool of them at all stages of their training.

use super::set::DistilledSet;
use autodidact_core::error::check_range;
use autodidact_core::nn::layers;
use autodidact_core::optim::{Group, Optimizer, Rule, Sgd};
use autodidact_core::seed::{Rng, derive, rng};
use autodidact_core::train::Checkpoint;
use autodidact_core::{Error, Result};
use rand::RngExt;
use serde::{Deserialize, Serialize};
use tch::nn::{BatchNorm, Conv2D, Linear, Module, ModuleT, Path, VarStore};
use tch::{Device, Reduction, Tensor};

/// Blocks of 3x3 convolution, batch norm, ReLU and 2x2 average pooling: `[N, C, S, S] -> [N, width * (S/2^depth)^2]`.
#[derive(Debug)]
pub struct PooledConvNet {
    blocks: Vec<(Conv2D, BatchNorm)>,
}

impl PooledConvNet {
    /// Fresh weights, a block for each width.
    pub fn new(p: &Path, channels: i64, widths: &[i64]) -> Self {
        let inputs = std::iter::once(channels).chain(widths.iter().copied());
        let block = |(i, (input, width)): (usize, (i64, &i64))| {
            let p = p / i;
            let conv = layers::conv2d(&p / "conv", input, *width, 3, 1, 1, true);
            (conv, layers::batch_norm2d(&p / "norm", *width))
        };
        Self { blocks: inputs.zip(widths).enumerate().map(block).collect() }
    }

    /// Width of the features of images of side `side`.
    pub fn features(widths: &[i64], side: i64) -> i64 {
        widths.last().map_or(0, |w| w * (side >> widths.len()).pow(2))
    }
}

impl ModuleT for PooledConvNet {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        let mut x = x.shallow_clone();
        for (conv, norm) in &self.blocks {
            x = norm.forward_t(&conv.forward(&x), train).relu().avg_pool2d([2, 2], [2, 2], [0, 0], false, true, None);
        }
        x.flatten(1, -1)
    }
}

/// How a network is trained on a distilled set: SGD on the mean squared error.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct InnerTraining {
    /// Learning rate.
    pub lr: f64,
    /// Momentum in `[0, 1)`.
    pub momentum: f64,
    /// Weight decay.
    pub weight_decay: f64,
}

impl Default for InnerTraining {
    fn default() -> Self {
        Self { lr: 0.1, momentum: 0.9, weight_decay: 1e-3 }
    }
}

/// A network with a linear head, in training.
#[derive(Debug)]
pub struct InnerModel {
    vs: VarStore,
    body: Box<dyn ModuleT>,
    head: Linear,
    training: InnerTraining,
    optimizer: Optimizer,
    steps: usize,
}

impl InnerModel {
    /// A network under `body` with `features` outputs, and a head to `outputs` under `head`; weights by libtorch's generator,
    /// which the caller seeds.
    ///
    /// # Errors
    /// Constants outside their ranges.
    pub fn new(
        device: Device,
        body: impl FnOnce(&Path) -> Box<dyn ModuleT>,
        features: i64,
        outputs: i64,
        training: InnerTraining,
    ) -> Result<Self> {
        check_range("inner.lr", training.lr, 0.0..)?;
        let vs = VarStore::new(device);
        let body = body(&(vs.root() / "body"));
        let head = layers::linear(vs.root() / "head", features, outputs, true);
        let rule = Rule::Sgd(Sgd { momentum: training.momentum, nesterov: false });
        let optimizer = Optimizer::new(rule, vec![Group::all(&vs, training.weight_decay)])?;
        Ok(Self { vs, body, head, training, optimizer, steps: 0 })
    }

    /// Features `[N, p]`; batch norm uses the batch if `train`, else its running statistics.
    ///
    /// # Errors
    /// Images that the network cannot take.
    pub fn features(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        if x.dim() != 4 {
            return Err(Error::shape("images", "[N, C, S, S]", x));
        }
        Ok(self.body.forward_t(x, train))
    }

    /// The head's outputs `[N, d]`.
    ///
    /// # Errors
    /// As [`features`](Self::features).
    pub fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        Ok(self.features(x, train)?.f_linear(&self.head.ws, self.head.bs.as_ref())?)
    }

    /// The body, for what is trained on top of it.
    pub fn body(&self) -> &dyn ModuleT {
        &*self.body
    }

    /// The parameters.
    pub fn variables(&self) -> &VarStore {
        &self.vs
    }

    /// Takes over the parameters and running statistics of a network of the same shape (not the optimizer's state).
    ///
    /// # Errors
    /// A network of another shape.
    pub fn copy_from(&mut self, other: &Self) -> Result<()> {
        self.vs.copy(&other.vs).map_err(Error::from)
    }

    /// Steps done.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// One step on a loss of this network, in training mode.
    ///
    /// # Errors
    /// Those of the loss.
    pub fn step(&mut self, loss: impl FnOnce(&Self) -> Result<Tensor>) -> Result<()> {
        self.optimizer.zero_grad();
        loss(self)?.f_backward()?;
        self.optimizer.step(self.training.lr)?;
        self.steps += 1;
        Ok(())
    }

    /// One step of regression on a whole set.
    ///
    /// # Errors
    /// Images or targets that do not fit the network.
    pub fn regress(&mut self, set: &DistilledSet) -> Result<()> {
        let (x, y) = (set.x.detach(), set.y.detach());
        self.step(|net| {
            let predicted = net.forward(&x, true)?;
            if predicted.size() != y.size() {
                return Err(Error::shape("targets", format!("{:?}, the network's outputs", predicted.size()), &y));
            }
            Ok(predicted.mse_loss(&y, Reduction::Mean))
        })
    }
}

/// Inner networks that are trained on the set as it changes, each replaced by a fresh one after its last step.
pub struct ModelPool<'a> {
    models: Vec<InnerModel>,
    /// How often each place has had a fresh network.
    renewed: Vec<usize>,
    max_steps: usize,
    fresh: Box<dyn Fn(u64) -> Result<InnerModel> + 'a>,
    seed: u64,
}

impl std::fmt::Debug for ModelPool<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ModelPool").field("steps", &self.steps()).field("max_steps", &self.max_steps).finish()
    }
}

impl<'a> ModelPool<'a> {
    /// `models` networks, each trained on the set for a number of steps uniform in `1..max_steps`.
    pub(super) fn new(
        models: usize,
        max_steps: usize,
        fresh: impl Fn(u64) -> Result<InnerModel> + 'a,
        set: &DistilledSet,
        seed: u64,
    ) -> Result<Self> {
        check_range("models", models as f64, 1.0..)?;
        check_range("max_steps", max_steps as f64, 2.0..)?;
        let renewed = vec![0; models];
        let mut pool = Self { models: vec![], renewed, max_steps, fresh: Box::new(fresh), seed };
        let mut steps = rng(seed, &["pool"]);
        for i in 0..models {
            let mut model = pool.make(i)?;
            for _ in 0..steps.random_range(1..max_steps) {
                model.regress(set)?;
            }
            pool.models.push(model);
        }
        Ok(pool)
    }

    fn make(&self, place: usize) -> Result<InnerModel> {
        let path = ["fresh", &place.to_string(), &self.renewed[place].to_string()];
        (self.fresh)(derive(self.seed, &path))
    }

    /// Place of a network at random.
    pub fn sample(&self, rng: &mut Rng) -> usize {
        rng.random_range(0..self.models.len())
    }

    /// The network at a place.
    ///
    /// # Errors
    /// No such place.
    pub fn get(&self, place: usize) -> Result<&InnerModel> {
        self.models
            .get(place)
            .ok_or_else(|| Error::value("place in the pool", format!("below {}", self.models.len()), place))
    }

    /// Steps of each network.
    pub fn steps(&self) -> Vec<usize> {
        self.models.iter().map(InnerModel::steps).collect()
    }

    /// One step of the network at a place on the set; a fresh network, at step 0, in place of one that has done its last.
    ///
    /// # Errors
    /// No such place, a set that does not fit the network.
    pub fn advance(&mut self, place: usize, set: &DistilledSet) -> Result<()> {
        if self.get(place)?.steps() < self.max_steps {
            return self.models[place].regress(set);
        }
        self.renewed[place] += 1;
        self.models[place] = self.make(place)?;
        Ok(())
    }

    pub(super) fn save(&self, file: &mut Checkpoint) -> Result<()> {
        file.set("steps", &self.steps())?;
        file.set("renewed", &self.renewed)?;
        for (i, m) in self.models.iter().enumerate() {
            file.insert(&format!("network {i}"), m.vs.variables());
            file.insert(&format!("optimizer {i}"), m.optimizer.state_dict());
        }
        Ok(())
    }

    pub(super) fn load(&mut self, file: &Checkpoint) -> Result<()> {
        let (steps, renewed): (Vec<usize>, Vec<usize>) = (file.get("steps")?, file.get("renewed")?);
        if steps.len() != self.models.len() || renewed.len() != steps.len() {
            return Err(Error::value("checkpoint", format!("{} networks", self.models.len()), steps.len()));
        }
        for (i, m) in self.models.iter_mut().enumerate() {
            let from = file.section(&format!("network {i}"));
            for (name, mut to) in m.vs.variables() {
                let from = from.get(&name).filter(|t| t.size() == to.size());
                let from = from.ok_or_else(|| Error::value("checkpoint", format!("the pool's {name}"), "another"))?;
                tch::no_grad(|| to.f_copy_(from).map(|_| ()))?;
            }
            m.optimizer.load_state_dict(&file.section(&format!("optimizer {i}")))?;
            m.steps = steps[i];
        }
        self.renewed = renewed;
        Ok(())
    }
}
