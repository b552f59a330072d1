//! The method: adapters that stay together, retrieval that refines itself, two stages.

use super::adapter::{AdapterBank, AdapterConfig, AdapterSet, MergeSchedule};
use super::backbone::AdaptedVit;
use super::heads::{Alignment, CosineHead, LinearHead, align_classifier, class_means, orth_loss};
use super::learner::{CilLearner, TaskTraining, Tasks};
use super::memory::{GaussianMemory, MemoryKind};
use super::retrieval::{self_refine, two_stage_ensemble};
use autodidact_core::error::check_range;
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// Images of an evaluated batch in the official code, which matters where evaluation changes the adapters.
const OFFICIAL_BATCH: i64 = 128;

/// Settings of [`Mos`]; the ablations are among them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MosConfig {
    /// Adapters.
    pub adapter: AdapterConfig,
    /// Training on a task.
    pub training: TaskTraining,
    /// `alpha`, share of the way to the mean of earlier adapters, in `[0, 1]`; 0 does not merge.
    pub alpha: f64,
    /// How often.
    pub merge: MergeSchedule,
    /// Weight of the loss that keeps features apart; 0 leaves it out.
    pub reg: f64,
    /// Its temperature.
    pub tau: f64,
    /// What is remembered of a class.
    pub memory: MemoryKind,
    /// Added to the remembered variances.
    pub ridge: f64,
    /// Alignment of the classifier from the second task on; `None` leaves it out.
    pub alignment: Option<Alignment>,
    /// Most evaluations of the retrieval; at least 1.
    pub max_iter: usize,
    /// Whether the retrieval refines itself.
    pub refine: bool,
    /// Whether both stages decide; else the retrieved adapter alone.
    pub ensemble: bool,
    /// As the official code has it: every evaluated batch pulls the kept adapters together, too.
    pub eval_mutates: bool,
}

impl Default for MosConfig {
    fn default() -> Self {
        Self {
            adapter: AdapterConfig::default(),
            training: TaskTraining::default(),
            alpha: 0.1,
            merge: MergeSchedule::PerStep,
            reg: 0.1,
            tau: 0.8,
            memory: MemoryKind::Full,
            ridge: 1e-4,
            alignment: Some(Alignment::default()),
            max_iter: 4,
            refine: true,
            ensemble: true,
            eval_mutates: false,
        }
    }
}

/// Which parts of the inference are used.
#[derive(Debug, Clone, Copy)]
pub struct Inference<'a> {
    /// Whether the retrieval refines itself.
    pub refine: bool,
    /// Whether both stages decide.
    pub ensemble: bool,
    /// The true tasks `[N]` (Int64), in place of the retrieval: a bound.
    pub oracle: Option<&'a Tensor>,
}

/// What [`Mos::decide`] says.
#[derive(Debug)]
pub struct Decision {
    /// Scores `[N, C]`.
    pub scores: Tensor,
    /// Adapter of each evaluation, `[N, max_iter]` (Int64), the first guess first.
    pub path: Tensor,
    /// Evaluations `[N]` (Int64).
    pub iterations: Tensor,
}

/// Model surgery: an adapter per task over a frozen backbone.
#[derive(Debug)]
pub struct Mos<'a> {
    backbone: &'a AdaptedVit,
    config: MosConfig,
    /// In training: each task goes on from the one before.
    current: AdapterSet,
    bank: AdapterBank,
    head: LinearHead,
    prototypes: CosineHead,
    memory: GaussianMemory,
    tasks: Tasks,
}

impl<'a> Mos<'a> {
    /// A learner that has seen nothing; libtorch's generator draws its weights.
    ///
    /// # Errors
    /// Settings outside their ranges.
    pub fn new(backbone: &'a AdaptedVit, config: MosConfig) -> Result<Self> {
        config.adapter.check()?;
        config.training.check()?;
        config.alignment.map_or(Ok(()), |a| a.check())?;
        check_range("alpha", config.alpha, 0.0..=1.0)?;
        check_range("reg", config.reg, 0.0..)?;
        check_range("tau", config.tau, f64::MIN_POSITIVE..)?;
        check_range("max_iter", config.max_iter as f64, 1.0..)?;
        config.training.begin_adapter(0);
        Ok(Self {
            backbone,
            config,
            current: backbone.adapters(config.adapter)?.trainable(),
            bank: AdapterBank::default(),
            head: LinearHead::new(backbone.width(), backbone.device()),
            prototypes: CosineHead::default(),
            memory: GaussianMemory::new(config.memory, config.ridge)?,
            tasks: Tasks::default(),
        })
    }

    /// The adapters of finished tasks.
    pub fn bank(&self) -> &AdapterBank {
        &self.bank
    }

    /// The classifier.
    pub fn head(&self) -> &LinearHead {
        &self.head
    }

    /// Pulls of one pass through the network.
    fn pulls(&self) -> usize {
        match self.config.merge {
            MergeSchedule::PerStep => 0,
            MergeSchedule::OfficialPerBlock => self.backbone.depth(),
        }
    }

    fn train(&self, images: &Tensor, labels: &Tensor, from: i64) -> Result<()> {
        let MosConfig { training, alpha, reg, tau, .. } = self.config;
        let known = if from > 0 { Some(self.memory.means()?) } else { None };
        let current = &self.current;
        let groups = (current.group(training.weight_decay), self.head.group(training.weight_decay));
        // The same tensors: what is merged is what is trained.
        let shared = || AdapterSet::of(current.tensors().each_ref().map(Tensor::shallow_clone), *current.config());
        let (mut before, mut after) = (shared()?, shared()?);
        let mean = self.bank.mean_of_previous();
        let pull = |set: &mut AdapterSet, pulls: usize| mean.map_or(Ok(()), |m| set.pull(m, alpha, pulls));
        let pulls = self.pulls();
        training.run(
            groups,
            labels.size()[0],
            self.backbone.device(),
            |batch| {
                if pulls > 0 {
                    pull(&mut before, pulls)?;
                }
                let (x, y) = (images.index_select(0, batch), labels.index_select(0, batch));
                let z = self.backbone.features(&x, Some(current), true)?;
                let loss = self.head.loss_from(&z, &y, from);
                Ok(if reg > 0.0 { loss + orth_loss(&z, known.as_ref(), tau)? * reg } else { loss })
            },
            || if alpha > 0.0 { pull(&mut after, 1) } else { Ok(()) },
        )
    }

    /// Features of images with all adapters, `[N, tasks, d]`; the first adapter's are those of the prototypes.
    ///
    /// # Errors
    /// Images of another size, no task yet.
    pub fn features(&mut self, images: &Tensor) -> Result<Tensor> {
        if !self.config.eval_mutates {
            return self.backbone.features_of_all(images, self.bank.sets());
        }
        let pulls = self.pulls().max(1);
        let parts = images.split(OFFICIAL_BATCH, 0).into_iter().map(|x| {
            self.bank.pull_all(self.config.alpha, pulls)?;
            self.backbone.features_of_all(&x, self.bank.sets())
        });
        Ok(Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 0))
    }

    /// The inference as configured.
    pub fn inference(&self) -> Inference<'static> {
        Inference { refine: self.config.refine, ensemble: self.config.ensemble, oracle: None }
    }

    /// Decides on [`features`](Self::features) `[N, tasks, d]`; they may be used for several kinds of inference.
    ///
    /// # Errors
    /// Features of another shape, oracles that are no tasks.
    pub fn decide(&self, features: &Tensor, how: Inference<'_>) -> Result<Decision> {
        tch::no_grad(|| {
            let tasks = self.tasks.len();
            if features.dim() != 3 || features.size()[1] != tasks as i64 {
                return Err(Error::shape("features", format!("[N, {tasks}, d]"), features));
            }
            let general = self.prototypes.logits(&features.select(1, 0))?;
            let of_classes = self.tasks.of_classes(features.device());
            let guess = || of_classes.index_select(0, &general.argmax(1, false));
            let first = how.oracle.map_or_else(guess, Tensor::shallow_clone);
            let most = if how.refine && how.oracle.is_none() { self.config.max_iter } else { 1 };
            let refined = self_refine(features, &self.head, &of_classes, &first, most)?;
            let scores =
                if how.ensemble { two_stage_ensemble(&refined.logits, &general, tasks)? } else { refined.logits };
            Ok(Decision { scores, path: refined.path, iterations: refined.iterations })
        })
    }

    /// Logits `[N, classes]` with given tasks' adapters (`[N]`, Int64), those of other tasks' classes being minus infinity: what knowing the
    /// task is worth.
    ///
    /// # Errors
    /// As [`decide`](Self::decide).
    pub fn within_task(&self, features: &Tensor, tasks: &Tensor) -> Result<Tensor> {
        let how = Inference { refine: false, ensemble: false, oracle: Some(tasks) };
        let scores = self.decide(features, how)?.scores;
        let other = self.tasks.of_classes(features.device()).unsqueeze(0).ne_tensor(&tasks.unsqueeze(1));
        Ok(scores.masked_fill(&other, f64::NEG_INFINITY))
    }
}

impl CilLearner for Mos<'_> {
    fn observe_task(&mut self, images: &Tensor, labels: &Tensor) -> Result<()> {
        let classes = self.tasks.add(labels)?;
        let (from, new) = (classes.start, classes.end - classes.start);
        self.config.training.begin(self.tasks.len());
        self.head.grow(new);
        self.train(images, labels, from)?;
        if self.config.eval_mutates
            && let Some(mean) = self.bank.mean_of_previous()
        {
            let batches = (labels.size()[0] + OFFICIAL_BATCH - 1) / OFFICIAL_BATCH;
            let pulls = self.pulls().max(1) * batches as usize;
            self.current.pull(mean, self.config.alpha, pulls)?;
        }
        self.bank.push(&self.current)?;
        let features = self.backbone.frozen_features(images, Some(&self.current))?;
        for class in classes {
            self.memory.fit(&features.index_select(0, &labels.eq(class).nonzero().squeeze_dim(1)))?;
        }
        // Prototypes are those of the first adapter, whatever the task.
        let general = match self.tasks.len() {
            1 => features,
            _ => self.backbone.frozen_features(images, self.bank.sets().first())?,
        };
        self.prototypes.push(&class_means(&general, labels, from, new))?;
        match &self.config.alignment {
            Some(alignment) if from > 0 => align_classifier(&self.head, &self.memory, &self.tasks, alignment),
            _ => Ok(()),
        }
    }

    fn predict(&mut self, images: &Tensor) -> Result<Tensor> {
        let features = self.features(images)?;
        Ok(self.decide(&features, self.inference())?.scores)
    }

    fn tasks(&self) -> &Tasks {
        &self.tasks
    }
}
