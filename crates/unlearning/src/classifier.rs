//! Classifiers that are unlearned: an extractor of embeddings and a head on top, their data, and their training.

use autodidact_core::error::{check_class_indices, check_range};
use autodidact_core::nn::layers;
use autodidact_core::optim::{Adam, Group, Optimizer, Rule, sorted_trainables};
use autodidact_core::train::Order;
use autodidact_core::{Error, Result, seed};
use tch::nn::{Conv2D, Linear, Module, VarStore};
use tch::{Device, Kind, Tensor};

/// Variables by name.
pub type Named = Vec<(String, Tensor)>;

/// Images (or other inputs) with classes.
#[derive(Debug)]
pub struct Labelled {
    /// `Float [N, ...]`.
    pub x: Tensor,
    /// `Int64 [N]`.
    pub y: Tensor,
}

impl Labelled {
    /// Inputs and their classes, in `0..classes`.
    ///
    /// # Errors
    /// No inputs, another number of labels, labels outside the classes.
    pub fn new(x: Tensor, y: Tensor, classes: i64) -> Result<Self> {
        let n = x.size().first().copied().unwrap_or(0);
        check_range("labelled samples", n as f64, 1.0..)?;
        check_class_indices("labels", &y, n, classes)?;
        Ok(Self { x, y })
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.y.size()[0] as usize
    }

    /// Never: a set has a sample at least.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The samples of some rows, `Int64 [M]`.
    pub fn rows(&self, rows: &Tensor) -> Self {
        Self { x: self.x.index_select(0, rows), y: self.y.index_select(0, rows) }
    }

    /// The first `n` samples, or all.
    pub fn first(&self, n: usize) -> Self {
        let n = n.min(self.len()) as i64;
        Self { x: self.x.narrow(0, 0, n), y: self.y.narrow(0, 0, n) }
    }
}

/// A classifier whose head reads an embedding. Names of the head's variables start with `head.`.
pub trait Embedder: Sized {
    /// All variables.
    fn store(&self) -> &VarStore;
    /// Embeddings `[N, D]` of inputs.
    fn embed(&self, x: &Tensor, train: bool) -> Tensor;
    /// Logits `[N, C]` of embeddings.
    fn classify(&self, embedding: &Tensor) -> Tensor;
    /// The same network with its own copy of the weights.
    ///
    /// # Errors
    /// Out of memory.
    fn copy(&self) -> Result<Self>;

    /// Logits `[N, C]` of inputs.
    fn logits(&self, x: &Tensor, train: bool) -> Tensor {
        self.classify(&self.embed(x, train))
    }

    /// Log-probabilities of the classes `[N, C]` without gradients, some hundreds of inputs at a time.
    fn log_probabilities(&self, x: &Tensor) -> Tensor {
        tch::no_grad(|| {
            let part = |x: &Tensor| self.logits(x, false).log_softmax(-1, None::<Kind>);
            Tensor::cat(&x.split(500, 0).iter().map(part).collect::<Vec<_>>(), 0)
        })
    }

    /// Class probabilities `[N, C]` without gradients, some hundreds of inputs at a time.
    fn probabilities(&self, x: &Tensor) -> Tensor {
        self.log_probabilities(x).exp()
    }

    /// Embeddings `[N, D]` without gradients, some hundreds of inputs at a time.
    fn embeddings(&self, x: &Tensor) -> Tensor {
        tch::no_grad(|| Tensor::cat(&x.split(500, 0).iter().map(|x| self.embed(x, false)).collect::<Vec<_>>(), 0))
    }

    /// Trainable variables of the extractor and of the head.
    fn parts(&self) -> [Named; 2] {
        let (head, extractor) =
            sorted_trainables(self.store()).into_iter().partition(|(name, _)| name.starts_with("head."));
        [extractor, head]
    }
}

/// Shape of a [`SmallCnn`].
#[derive(Debug, Clone, PartialEq)]
pub struct SmallCnnConfig {
    /// Input channels and side length.
    pub channels: i64,
    /// Side of the square images, divisible by four.
    pub side: i64,
    /// Side of the filters, odd.
    pub kernel: i64,
    /// Filters of both convolutions.
    pub filters: [i64; 2],
    /// Width of the embedding.
    pub embedding: i64,
    /// Width of a linear layer between embedding and logits.
    pub hidden: Option<i64>,
    /// Classes.
    pub classes: i64,
}

impl SmallCnnConfig {
    /// The network that label-agnostic forgetting uses for 28x28 images: 5x5 filters, embedding 256, head 256-128-10.
    pub fn mnist() -> Self {
        Self { channels: 1, side: 28, kernel: 5, filters: [16, 32], embedding: 256, hidden: Some(128), classes: 10 }
    }
}

/// Two convolutions, each with ReLU and 2x2 max pooling, and a linear embedding without activation; one or two linear layers (without
/// activation between) as the head.
#[derive(Debug)]
pub struct SmallCnn {
    config: SmallCnnConfig,
    vs: VarStore,
    convolutions: [Conv2D; 2],
    embedding: Linear,
    head: Vec<Linear>,
}

impl SmallCnn {
    /// A network with fresh weights on a device.
    ///
    /// # Errors
    /// Widths that are not positive, a side that four does not divide, an even filter.
    pub fn new(config: &SmallCnnConfig, device: Device) -> Result<Self> {
        let c = config;
        let widths = [c.channels, c.side, c.filters[0], c.filters[1], c.embedding, c.hidden.unwrap_or(1), c.classes];
        for width in widths {
            check_range("width of a SmallCnn", width as f64, 1.0..)?;
        }
        if c.side % 4 != 0 {
            return Err(Error::value("side of a SmallCnn's images", "a multiple of 4", c.side));
        }
        if c.kernel % 2 != 1 {
            return Err(Error::value("side of a SmallCnn's filters", "an odd number", c.kernel));
        }
        let vs = VarStore::new(device);
        let (e, h) = (vs.root() / "extractor", vs.root() / "head");
        let conv = |i: usize, from, to| layers::conv2d(&e / "conv" / i, from, to, c.kernel, 1, c.kernel / 2, true);
        let convolutions = [conv(0, c.channels, c.filters[0]), conv(1, c.filters[0], c.filters[1])];
        let map = c.filters[1] * (c.side / 4).pow(2);
        let embedding = layers::linear(&e / "embedding", map, c.embedding, true);
        let ends: Vec<i64> = [c.embedding].into_iter().chain(c.hidden).chain([c.classes]).collect();
        let head =
            ends.windows(2).enumerate().map(|(i, w)| layers::linear(&h / i, w[0], w[1], true)).collect::<Vec<_>>();
        Ok(Self { config: c.clone(), convolutions, embedding, head, vs })
    }
}

impl Embedder for SmallCnn {
    fn store(&self) -> &VarStore {
        &self.vs
    }

    fn embed(&self, x: &Tensor, _train: bool) -> Tensor {
        let mut x = x.shallow_clone();
        for conv in &self.convolutions {
            x = conv.forward(&x).relu().max_pool2d([2, 2], [2, 2], [0, 0], [1, 1], false);
        }
        self.embedding.forward(&x.flatten(1, -1))
    }

    fn classify(&self, embedding: &Tensor) -> Tensor {
        self.head.iter().fold(embedding.shallow_clone(), |x, layer| layer.forward(&x))
    }

    fn copy(&self) -> Result<Self> {
        let mut copy = Self::new(&self.config, self.vs.device())?;
        copy.vs.copy(&self.vs)?;
        Ok(copy)
    }
}

/// How long, and with what, a classifier is trained with Adam.
#[derive(Debug, Clone, PartialEq)]
pub struct Training {
    /// Passes over the data.
    pub epochs: usize,
    /// Samples of a step; the last of an epoch may have fewer.
    pub batch: usize,
    /// Constant learning rate.
    pub lr: f64,
    /// Added to the gradient.
    pub weight_decay: f64,
    /// Order of the samples.
    pub seed: u64,
}

impl Default for Training {
    fn default() -> Self {
        Self { epochs: 20, batch: 32, lr: 1e-4, weight_decay: 1e-4, seed: 0 }
    }
}

impl Training {
    /// # Errors
    /// Settings outside their ranges.
    pub fn check(&self) -> Result<()> {
        check_range("batch", self.batch as f64, 1.0..)?;
        check_range("learning rate", self.lr, 0.0..)?;
        check_range("weight decay", self.weight_decay, 0.0..)
    }

    /// Minimises a loss of batches of rows of `n` samples; returns its mean in each epoch.
    pub(crate) fn minimise(
        &self,
        params: Named,
        n: usize,
        device: Device,
        mut loss: impl FnMut(usize, &Tensor) -> Result<Tensor>,
    ) -> Result<Vec<f64>> {
        self.check()?;
        let mut optimizer = Optimizer::new(Rule::Adam(Adam::default()), vec![Group::of(params, self.weight_decay)])?;
        let order = Order::new(n, self.batch.min(n), self.seed)?;
        let mut means = vec![];
        for epoch in 0..self.epochs {
            let mut sum = Tensor::zeros([], (Kind::Float, device));
            let rows = order.epoch(epoch);
            for batch in rows.chunks(self.batch) {
                let value = loss(epoch, &Tensor::from_slice(batch).to_device(device))?;
                optimizer.zero_grad();
                value.f_backward()?;
                optimizer.step(self.lr)?;
                sum += value.detach();
            }
            let mean = sum.double_value(&[]) / rows.len().div_ceil(self.batch) as f64;
            if !mean.is_finite() {
                return Err(Error::Diverged { loss: mean, step: epoch, total: self.epochs });
            }
            means.push(mean);
        }
        Ok(means)
    }
}

/// Trains the whole classifier by cross-entropy: from scratch, or on (fine-tuning).
///
/// # Errors
/// Settings outside their ranges, a loss that is not finite.
pub fn train(model: &impl Embedder, data: &Labelled, training: &Training) -> Result<Vec<f64>> {
    training.minimise(sorted_trainables(model.store()), data.len(), data.x.device(), |_, rows| {
        let batch = data.rows(rows);
        Ok(model.logits(&batch.x, true).cross_entropy_for_logits(&batch.y))
    })
}

/// Trains the head alone by cross-entropy on a few labelled samples: the repair that follows label-agnostic forgetting.
///
/// # Errors
/// Settings outside their ranges, a loss that is not finite.
pub fn repair_head(model: &impl Embedder, data: &Labelled, training: &Training) -> Result<Vec<f64>> {
    let embeddings = model.embeddings(&data.x);
    let [_, head] = model.parts();
    training.minimise(head, data.len(), data.x.device(), |_, rows| {
        Ok(model.classify(&embeddings.index_select(0, rows)).cross_entropy_for_logits(&data.y.index_select(0, rows)))
    })
}

/// A seed for one purpose.
pub(crate) fn derived(seed: u64, purpose: &str) -> u64 {
    seed::derive(seed, &["unlearning", purpose])
}
