//! Learners whose classifier is a prototype per class.

use super::adapter::{AdapterConfig, AdapterSet};
use super::backbone::AdaptedVit;
use super::heads::{CosineHead, LinearHead, class_means};
use super::learner::{CilLearner, TaskTraining, Tasks};
use super::tuned::train_adapter;
use autodidact_core::error::check_range;
use autodidact_core::nn::unit;
use autodidact_core::{Error, Result};
use std::ops::Range;
use tch::{Kind, Tensor};

/// SimpleCIL (Zhou et al., 2023; arXiv 2303.07338): cosine to the classes' mean features of the backbone as it is.
#[derive(Debug)]
pub struct SimpleCil<'a> {
    backbone: &'a AdaptedVit,
    head: CosineHead,
    tasks: Tasks,
}

impl<'a> SimpleCil<'a> {
    /// A learner that has seen nothing.
    pub fn new(backbone: &'a AdaptedVit) -> Self {
        Self { backbone, head: CosineHead::default(), tasks: Tasks::default() }
    }
}

impl CilLearner for SimpleCil<'_> {
    fn observe_task(&mut self, images: &Tensor, labels: &Tensor) -> Result<()> {
        let Range { start, end } = self.tasks.add(labels)?;
        let features = self.backbone.frozen_features(images, None)?;
        self.head.push(&class_means(&features, labels, start, end - start))
    }

    fn predict(&mut self, images: &Tensor) -> Result<Tensor> {
        self.head.logits(&self.backbone.frozen_features(images, None)?)
    }

    fn tasks(&self) -> &Tasks {
        &self.tasks
    }
}

/// APER with an adapter (Zhou et al., 2023; arXiv 2303.07338): the adapter is trained on the first task and then kept; prototypes of the
/// features without and with it, side by side.
#[derive(Debug)]
pub struct Aper<'a> {
    backbone: &'a AdaptedVit,
    adapter: AdapterSet,
    training: TaskTraining,
    head: CosineHead,
    tasks: Tasks,
}

impl<'a> Aper<'a> {
    /// A learner that has seen nothing; libtorch's generator draws its weights.
    ///
    /// # Errors
    /// Settings outside their ranges.
    pub fn new(backbone: &'a AdaptedVit, adapter: AdapterConfig, training: TaskTraining) -> Result<Self> {
        training.check()?;
        training.begin_adapter(0);
        let adapter = backbone.adapters(adapter)?.trainable();
        Ok(Self { backbone, adapter, training, head: CosineHead::default(), tasks: Tasks::default() })
    }

    fn features(&self, images: &Tensor) -> Result<Tensor> {
        let raw = self.backbone.frozen_features(images, None)?;
        Ok(Tensor::cat(&[raw, self.backbone.frozen_features(images, Some(&self.adapter))?], 1))
    }
}

impl CilLearner for Aper<'_> {
    fn observe_task(&mut self, images: &Tensor, labels: &Tensor) -> Result<()> {
        let Range { start, end } = self.tasks.add(labels)?;
        if start == 0 {
            self.training.begin(1);
            let mut head = LinearHead::new(self.backbone.width(), self.backbone.device());
            head.grow(end);
            train_adapter(self.backbone, &self.adapter, &head, &self.training, (images, labels), 0)?;
        }
        self.head.push(&class_means(&self.features(images)?, labels, start, end - start))
    }

    fn predict(&mut self, images: &Tensor) -> Result<Tensor> {
        self.head.logits(&self.features(images)?)
    }

    fn tasks(&self) -> &Tasks {
        &self.tasks
    }
}

/// EASE (Zhou et al., 2024; arXiv 2403.12030): an adapter of its own for every task, and prototypes of every class in every adapter's
/// subspace.
///
/// Old classes cannot be seen through a new adapter: their prototypes there are sums of the new classes' ones, weighted by the softmax of the
/// cosines between old and new prototypes in the subspace of the old class's own task. A class's score is the cosine in its own task's
/// subspace plus `others` times those in the other ones.
#[derive(Debug)]
pub struct Ease<'a> {
    backbone: &'a AdaptedVit,
    config: AdapterConfig,
    training: TaskTraining,
    others: f64,
    sets: Vec<AdapterSet>,
    /// By subspace, `[classes, d]`.
    prototypes: Vec<Tensor>,
    tasks: Tasks,
}

impl<'a> Ease<'a> {
    /// A learner that has seen nothing. `others` is 0.1 in the paper's code.
    ///
    /// # Errors
    /// Settings outside their ranges.
    pub fn new(backbone: &'a AdaptedVit, config: AdapterConfig, training: TaskTraining, others: f64) -> Result<Self> {
        config.check()?;
        training.check()?;
        check_range("weight of other subspaces", others, 0.0..)?;
        Ok(Self { backbone, config, training, others, sets: vec![], prototypes: vec![], tasks: Tasks::default() })
    }

    /// Prototypes of the classes of earlier tasks in the new subspace, from the new classes' there `[k, d]`.
    fn synthesised(&self, new_here: &Tensor, new: &Range<i64>) -> Tensor {
        let mut parts = vec![];
        for task in 0..self.tasks.len() - 1 {
            let old = self.tasks.range(task);
            let own = unit(&self.prototypes[task]);
            let old = own.narrow(0, old.start, old.end - old.start);
            let similar = old.matmul(&own.narrow(0, new.start, new.end - new.start).tr());
            parts.push(similar.softmax(1, None::<Kind>).matmul(new_here));
        }
        Tensor::cat(&parts, 0)
    }
}

impl CilLearner for Ease<'_> {
    fn observe_task(&mut self, images: &Tensor, labels: &Tensor) -> Result<()> {
        let new = self.tasks.add(labels)?;
        let count = new.end - new.start;
        self.training.begin_adapter(self.sets.len());
        let adapter = self.backbone.adapters(self.config)?.trainable();
        self.training.begin(self.tasks.len());
        let mut head = LinearHead::new(self.backbone.width(), self.backbone.device());
        head.grow(count);
        let own = labels - new.start;
        train_adapter(self.backbone, &adapter, &head, &self.training, (images, &own), 0)?;
        self.sets.push(adapter.copy());
        let features = self.backbone.features_of_all(images, &self.sets)?;
        let here = |subspace: usize| class_means(&features.select(1, subspace as i64), labels, new.start, count);
        for (subspace, prototypes) in self.prototypes.iter_mut().enumerate() {
            *prototypes = Tensor::cat(&[&*prototypes, &here(subspace)], 0);
        }
        let mut all = here(self.sets.len() - 1);
        if new.start > 0 {
            all = Tensor::cat(&[self.synthesised(&all, &new), all], 0);
        }
        self.prototypes.push(all);
        Ok(())
    }

    fn predict(&mut self, images: &Tensor) -> Result<Tensor> {
        if self.tasks.is_empty() {
            return Err(Error::value("tasks", "one or more", 0));
        }
        let features = unit(&self.backbone.features_of_all(images, &self.sets)?).transpose(0, 1);
        let prototypes = unit(&Tensor::stack(&self.prototypes, 0));
        // By subspace: [tasks, N, C].
        let cosines = features.matmul(&prototypes.transpose(1, 2));
        let of_classes = self.tasks.of_classes(features.device());
        let own = of_classes.one_hot(self.tasks.len() as i64).to_kind(Kind::Float).tr();
        let weights: Tensor = &own * (1.0 - self.others) + self.others;
        Ok((cosines * weights.unsqueeze(1)).sum_dim_intlist([0i64].as_slice(), false, Kind::Float))
    }

    fn tasks(&self) -> &Tasks {
        &self.tasks
    }
}
