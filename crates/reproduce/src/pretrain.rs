//! Pre-training on two views of every image: an encoder with a projector, any loss of two batches of embeddings.

use crate::vision::{Embedder, Encoder};
use anyhow::Result;
use autodidact_core::nn::parameter_count;
use autodidact_core::optim::{Adam, Group, Optimizer, Rule, StateDict};
use autodidact_core::schedule::{Schedule, Shape};
use autodidact_core::train::{History, Progress, Step, TrainConfig, Trainer};
use autodidact_core::{Error, Result as CoreResult, error::check_range};
use autodidact_datasets::augment::Pipeline;
use autodidact_datasets::batch::Order;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use tch::nn::{Path, VarStore};
use tch::{Device, Tensor};

/// How long, and with what, an encoder is trained.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Training {
    /// Batch size.
    pub batch: usize,
    /// Steps.
    pub steps: usize,
    /// Adam's learning rate; it follows a cosine to 0.
    pub lr: f64,
    /// Weight decay.
    pub weight_decay: f64,
}

impl Training {
    /// Checks what `--set` may have changed, on `images` training images.
    pub fn check(&self, name: &str, images: usize) -> Result<()> {
        let key = |field: &str| format!("{name}.{field}");
        check_range(&key("batch"), self.batch as f64, 2.0..=images as f64)?;
        check_range(&key("steps"), self.steps as f64, 1.0..)?;
        check_range(&key("lr"), self.lr, f64::MIN_POSITIVE..)?;
        Ok(check_range(&key("weight_decay"), self.weight_decay, 0.0..)?)
    }
}

/// Networks and their training.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Pretraining {
    /// The encoder.
    pub encoder: Encoder,
    /// Hidden width of the projector.
    pub hidden: i64,
    /// Width of the embedding.
    pub embedding: i64,
    #[serde(flatten)]
    pub training: Training,
}

impl Pretraining {
    /// For 8x8 digits.
    pub fn digits(steps: usize) -> Self {
        let training = Training { batch: 128, steps, lr: 1e-3, weight_decay: 1e-6 };
        Self { encoder: Encoder::Flat, hidden: 128, embedding: 64, training }
    }

    /// For small colour images.
    pub fn color(batch: usize, steps: usize) -> Self {
        let training = Training { batch, ..Self::digits(steps).training };
        Self { encoder: Encoder::Pooled, hidden: 256, embedding: 256, training }
    }

    /// Checks what `--set` may have changed, on `images` training images.
    pub fn check(&self, name: &str, images: usize) -> Result<()> {
        for (field, value) in [("hidden", self.hidden), ("embedding", self.embedding)] {
            check_range(&format!("{name}.{field}"), value as f64, 1.0..)?;
        }
        self.training.check(name, images)
    }
}

/// Where a step is: what a loss may ask for beside the embeddings.
pub(crate) struct Batch<'a> {
    /// Place in the run.
    pub step: Step,
    /// Indices of the images in the training set.
    pub index: &'a Tensor,
    /// The images themselves, in `[0, 1]`.
    pub images: &'a Tensor,
}

/// An encoder with its projector.
pub(crate) struct Networks {
    vs: VarStore,
    /// The networks themselves.
    pub twin: Embedder,
}

impl Networks {
    /// Fresh weights for images `[N, channels, side, side]`.
    pub fn new(spec: &Pretraining, channels: i64, side: i64, device: Device, init: u64) -> Result<Self> {
        Self::build(device, init, |p| Embedder::new(p, spec.encoder, channels, side, spec.hidden, spec.embedding))
    }

    /// Fresh weights for networks of any kind.
    pub fn build(device: Device, init: u64, twin: impl FnOnce(&Path) -> Result<Embedder>) -> Result<Self> {
        let vs = VarStore::new(device);
        tch::manual_seed(init as i64);
        let twin = twin(&vs.root())?;
        Ok(Self { vs, twin })
    }

    /// Number of weights, those of the projector included.
    pub fn parameters(&self) -> i64 {
        parameter_count(&self.vs)
    }

    /// Copies of the encoder's weights, by their names in it.
    pub fn encoder_weights(&self) -> StateDict {
        let named = |(name, t): (String, Tensor)| Some((name.strip_prefix("encoder.")?.to_owned(), t.detach().copy()));
        self.vs.variables().into_iter().filter_map(named).collect()
    }

    /// Where a loss may keep variables of its own, which then are in the checkpoints.
    pub fn variables(&self) -> Path<'_> {
        self.vs.root() / "loss"
    }

    /// Trains on images `x` in `[0, 1]`; both views are drawn from `augment`. The loss gets their embeddings and the
    /// batch.
    ///
    /// # Errors
    /// Those of the loss; a loss that is not finite.
    pub fn pretrain(
        &self,
        spec: &Training,
        x: &Tensor,
        augment: &Pipeline,
        seed: u64,
        checkpoint: (PathBuf, usize),
        mut loss: impl FnMut(&Tensor, &Tensor, &Batch<'_>) -> CoreResult<Tensor>,
        mut observe: impl FnMut(&Self, &mut Progress<'_>) -> Result<()>,
    ) -> Result<History> {
        self.train(
            spec,
            x.size()[0] as usize,
            seed,
            checkpoint,
            |step, index| {
                let images = x.index_select(0, index);
                let view = |name| augment.apply(&images, &mut step.rng(name));
                let (za, zb) = (self.twin.embed(&view("view a")?, true), self.twin.embed(&view("view b")?, true));
                loss(&za, &zb, &Batch { step, index, images: &images })
            },
            |p| observe(self, p),
        )
    }

    /// Trains on any loss of a batch, which gets the place in the run and the indices of the batch among `samples`.
    ///
    /// # Errors
    /// Those of the loss; a loss that is not finite.
    pub fn train(
        &self,
        spec: &Training,
        samples: usize,
        seed: u64,
        checkpoint: (PathBuf, usize),
        mut loss: impl FnMut(Step, &Tensor) -> CoreResult<Tensor>,
        mut observe: impl FnMut(&mut Progress<'_>) -> Result<()>,
    ) -> Result<History> {
        let order = Order::new(samples, spec.batch, seed)?;
        let schedule = Schedule::new(spec.lr, spec.steps, Shape::cosine_to(0.0));
        let config = TrainConfig { checkpoint: Some(checkpoint), ..TrainConfig::new(schedule, seed) };
        let optimizer = Optimizer::new(Rule::Adam(Adam::default()), vec![Group::all(&self.vs, spec.weight_decay)])?;
        let history = Trainer::new(config, &self.vs, optimizer)?.run(
            |step| loss(step, &Tensor::from_slice(&order.batch(step.index)).to_device(self.vs.device())),
            |mut p| observe(&mut p).map_err(|e| Error::Failed(format!("{e:#}"))),
        )?;
        Ok(history)
    }
}
