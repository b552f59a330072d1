//! Learners that go on training the same weights: all of them, or one adapter.

use super::adapter::{AdapterConfig, AdapterSet};
use super::backbone::AdaptedVit;
use super::heads::{Alignment, LinearHead, align_classifier};
use super::learner::{CilLearner, TaskTraining, Tasks};
use super::memory::{GaussianMemory, MemoryKind};
use autodidact_core::error::check_range;
use autodidact_core::optim::Group;
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// All weights and a classifier.
#[derive(Debug)]
struct Network {
    backbone: AdaptedVit,
    head: LinearHead,
    training: TaskTraining,
    tasks: Tasks,
}

impl Network {
    fn new(backbone: &AdaptedVit, training: TaskTraining) -> Result<Self> {
        training.check()?;
        let head = LinearHead::new(backbone.width(), backbone.device());
        Ok(Self { backbone: backbone.copy()?.trainable(), head, training, tasks: Tasks::default() })
    }

    /// Trains on a task with the cross-entropy of its classes plus `further`, which gets the batch, its features and the head.
    fn observe(
        &mut self,
        images: &Tensor,
        labels: &Tensor,
        further: impl Fn(&Tensor, &Tensor, &LinearHead) -> Option<Tensor>,
    ) -> Result<()> {
        let from = self.tasks.classes();
        let classes = self.tasks.add(labels)?;
        self.training.begin(self.tasks.len());
        self.head.grow(classes.end - from);
        let decay = self.training.weight_decay;
        let groups = (Group::of(self.backbone.parameters(), decay), self.head.group(decay));
        let loss = |batch: &Tensor| {
            let (x, y) = (images.index_select(0, batch), labels.index_select(0, batch));
            let z = self.backbone.features(&x, None, true)?;
            let loss = self.head.loss_from(&z, &y, from);
            Ok(match further(batch, &z, &self.head) {
                Some(more) => loss + more,
                None => loss,
            })
        };
        self.training.run(groups, labels.size()[0], self.backbone.device(), loss, || Ok(()))
    }

    fn predict(&self, images: &Tensor) -> Result<Tensor> {
        if self.tasks.is_empty() {
            return Err(Error::value("tasks", "one or more", 0));
        }
        let features = self.backbone.frozen_features(images, None)?;
        Ok(tch::no_grad(|| self.head.logits(&features)))
    }
}

/// Goes on training all weights with every task.
#[derive(Debug)]
pub struct Finetune(Network);

impl Finetune {
    /// From the weights of `backbone`, which are copied.
    ///
    /// # Errors
    /// Settings outside their ranges.
    pub fn new(backbone: &AdaptedVit, training: TaskTraining) -> Result<Self> {
        Ok(Self(Network::new(backbone, training)?))
    }
}

impl CilLearner for Finetune {
    fn observe_task(&mut self, images: &Tensor, labels: &Tensor) -> Result<()> {
        self.0.observe(images, labels, |_, _, _| None)
    }

    fn predict(&mut self, images: &Tensor) -> Result<Tensor> {
        self.0.predict(images)
    }

    fn tasks(&self) -> &Tasks {
        &self.0.tasks
    }
}

/// Learning without forgetting (Li and Hoiem, 2016; arXiv 1606.09282): [`Finetune`] plus `weight` times the cross-entropy between the old
/// classes' softmax before the task and now, both at temperature `T`, on the task's images.
#[derive(Debug)]
pub struct Lwf {
    net: Network,
    temperature: f64,
    weight: f64,
}

impl Lwf {
    /// From the weights of `backbone`, which are copied. Usual are a temperature of 2 and a weight of 3.
    ///
    /// # Errors
    /// Settings outside their ranges.
    pub fn new(backbone: &AdaptedVit, training: TaskTraining, temperature: f64, weight: f64) -> Result<Self> {
        check_range("temperature", temperature, f64::MIN_POSITIVE..)?;
        check_range("weight", weight, 0.0..)?;
        Ok(Self { net: Network::new(backbone, training)?, temperature, weight })
    }
}

impl CilLearner for Lwf {
    fn observe_task(&mut self, images: &Tensor, labels: &Tensor) -> Result<()> {
        let (known, temperature, weight) = (self.net.tasks.classes(), self.temperature, self.weight);
        if known == 0 {
            return self.net.observe(images, labels, |_, _, _| None);
        }
        // Images come as they are each time, so the old network is asked once.
        let old = (self.net.predict(images)? / temperature).softmax(1, None::<Kind>);
        self.net.observe(images, labels, |batch, z, head| {
            let now = (head.logits(z).narrow(1, 0, known) / temperature).log_softmax(1, None::<Kind>);
            let each = (old.index_select(0, batch) * now).sum_dim_intlist([1i64].as_slice(), false, Kind::Float);
            Some(each.mean(Kind::Float) * -weight)
        })
    }

    fn predict(&mut self, images: &Tensor) -> Result<Tensor> {
        self.net.predict(images)
    }

    fn tasks(&self) -> &Tasks {
        &self.net.tasks
    }
}

/// Settings of [`Slca`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SlcaConfig {
    /// Training on a task; the rate is the classifier's.
    pub training: TaskTraining,
    /// Alignment of the classifier from the second task on.
    pub alignment: Alignment,
    /// Added to the remembered variances.
    pub ridge: f64,
}

impl Default for SlcaConfig {
    /// The backbone a hundredth as fast as the classifier; five alignments with 256 samples of each class, logits over a tenth of their norm.
    fn default() -> Self {
        let alignment = Alignment {
            epochs: 5,
            samples: 256,
            logit_norm: Some(0.1),
            older_means_shrink: true,
            ..Default::default()
        };
        let training = TaskTraining { body_scale: 0.01, head_scale: 1.0, ..Default::default() };
        Self { training, alignment, ridge: 1e-4 }
    }
}

/// Slow learner with classifier alignment (Zhang et al., 2023; arXiv 2303.05118): all weights, slowly, and a classifier aligned with
/// Gaussian memories of the classes.
#[derive(Debug)]
pub struct Slca {
    net: Network,
    memory: GaussianMemory,
    alignment: Alignment,
}

impl Slca {
    /// From the weights of `backbone`, which are copied.
    ///
    /// # Errors
    /// Settings outside their ranges.
    pub fn new(backbone: &AdaptedVit, config: SlcaConfig) -> Result<Self> {
        config.alignment.check()?;
        let memory = GaussianMemory::new(MemoryKind::Full, config.ridge)?;
        Ok(Self { net: Network::new(backbone, config.training)?, memory, alignment: config.alignment })
    }
}

impl CilLearner for Slca {
    fn observe_task(&mut self, images: &Tensor, labels: &Tensor) -> Result<()> {
        let from = self.net.tasks.classes();
        self.net.observe(images, labels, |_, _, _| None)?;
        let features = self.net.backbone.frozen_features(images, None)?;
        for class in from..self.net.tasks.classes() {
            self.memory.fit(&features.index_select(0, &labels.eq(class).nonzero().squeeze_dim(1)))?;
        }
        if from == 0 {
            return Ok(());
        }
        align_classifier(&self.net.head, &self.memory, &self.net.tasks, &self.alignment)
    }

    fn predict(&mut self, images: &Tensor) -> Result<Tensor> {
        self.net.predict(images)
    }

    fn tasks(&self) -> &Tasks {
        &self.net.tasks
    }
}

/// Trains an adapter and the classifier on a task.
pub(super) fn train_adapter(
    backbone: &AdaptedVit,
    adapter: &AdapterSet,
    head: &LinearHead,
    training: &TaskTraining,
    (images, labels): (&Tensor, &Tensor),
    from: i64,
) -> Result<()> {
    let groups = (adapter.group(training.weight_decay), head.group(training.weight_decay));
    let loss = |batch: &Tensor| {
        let (x, y) = (images.index_select(0, batch), labels.index_select(0, batch));
        Ok(head.loss_from(&backbone.features(&x, Some(adapter), true)?, &y, from))
    };
    training.run(groups, labels.size()[0], backbone.device(), loss, || Ok(()))
}

/// Goes on training one adapter with every task.
#[derive(Debug)]
pub struct FinetuneAdapter<'a> {
    backbone: &'a AdaptedVit,
    adapter: AdapterSet,
    head: LinearHead,
    training: TaskTraining,
    tasks: Tasks,
}

impl<'a> FinetuneAdapter<'a> {
    /// A learner that has seen nothing; libtorch's generator draws its weights.
    ///
    /// # Errors
    /// Settings outside their ranges.
    pub fn new(backbone: &'a AdaptedVit, adapter: AdapterConfig, training: TaskTraining) -> Result<Self> {
        training.check()?;
        training.begin_adapter(0);
        let adapter = backbone.adapters(adapter)?.trainable();
        let head = LinearHead::new(backbone.width(), backbone.device());
        Ok(Self { backbone, adapter, head, training, tasks: Tasks::default() })
    }
}

impl CilLearner for FinetuneAdapter<'_> {
    fn observe_task(&mut self, images: &Tensor, labels: &Tensor) -> Result<()> {
        let classes = self.tasks.add(labels)?;
        self.training.begin(self.tasks.len());
        self.head.grow(classes.end - classes.start);
        train_adapter(self.backbone, &self.adapter, &self.head, &self.training, (images, labels), classes.start)
    }

    fn predict(&mut self, images: &Tensor) -> Result<Tensor> {
        if self.tasks.is_empty() {
            return Err(Error::value("tasks", "one or more", 0));
        }
        let features = self.backbone.frozen_features(images, Some(&self.adapter))?;
        Ok(tch::no_grad(|| self.head.logits(&features)))
    }

    fn tasks(&self) -> &Tasks {
        &self.tasks
    }
}
