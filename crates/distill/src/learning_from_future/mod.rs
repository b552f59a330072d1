//! Learning from future: self-training whose teacher has seen the student's next steps.
//!
//! Du, Shen, Wang, Fei, Li, Wu, Zhao, Fu and Liu, "Learning from Future: A Novel Self-Training Framework for Semantic
//! Segmentation", NeurIPS 2022 (arXiv 2209.06993). The teacher of ordinary self-training is a moving average of students of the past
//! and confirms their mistakes; here the student is first updated virtually, the teacher follows that future student, and then labels
//! the batch for the real update of the present one.
//!
//! With student `theta`, teacher `phi`, `EMA(phi, theta) = mu phi + (1 - mu) theta` and `G(theta, phi)` the gradient of
//! `L_sup(theta) + lambda L_u(theta, labels of phi)`:
//!
//! - ST, the baseline: `theta <- OPT(theta, G(theta, phi))`, `phi <- EMA(phi, theta)`;
//! - FST-D(K), deep: `K` times on one batch `phi <- EMA(phi, theta')`, `theta' <- OPT(theta', G(theta', phi))` from `theta' = theta`;
//!   `phi <- EMA(phi, theta')`; `theta <- OPT(theta, G(theta, phi))`;
//! - FST-W(K), wide: `theta'_i = OPT(theta, G_i(theta, phi))` on `K` other batches, `phi <- EMA(phi, mean theta'_i)`,
//!   `theta <- OPT(theta, G(theta, phi))`, `phi <- EMA(phi, theta)`.
//!
//! The teacher keeps what it learned from the future. Whatever labels a batch has is the [`Task`]'s matter; [`DomainMix`] and
//! [`SemiSupervised`] are the two of the paper.
//!
//! ```
//! use autodidact_core::optim::{Group, Optimizer, Rule, Sgd};
//! use autodidact_distill::learning_from_future::{SelfTraining, SelfTrainingConfig, Task, Variant};
//! use tch::{Device, Tensor, nn};
//!
//! // L_sup = theta^2 / 2, L_u = (theta - phi)^2 / 2, where the teacher's label is its weight.
//! struct Scalars { theta: Tensor, phi: Tensor }
//! impl Task for Scalars {
//!     type Batch = ();
//!     type Labels = Tensor;
//!     fn label(&mut self, _: &()) -> autodidact_core::Result<Tensor> {
//!         Ok(self.phi.copy())
//!     }
//!     fn loss(&mut self, _: &(), label: &Tensor) -> autodidact_core::Result<Tensor> {
//!         Ok((self.theta.square() + (&self.theta - label).square()) / 2.0)
//!     }
//! }
//!
//! let (student, mut teacher) = (nn::VarStore::new(Device::Cpu), nn::VarStore::new(Device::Cpu));
//! let theta = student.root().var("w", &[], nn::Init::Const(1.0));
//! let mut phi = teacher.root().var("w", &[], nn::Init::Const(0.0));
//! let sgd = Optimizer::new(Rule::Sgd(Sgd { momentum: 0.0, nesterov: false }), vec![Group::all(&student, 0.0)])?;
//! let config = SelfTrainingConfig { momentum: 0.5, ramp: false, plain_start: false, ..SelfTrainingConfig::new(Variant::Deep(1)) };
//! let mut training = SelfTraining::new(config, &student, &mut teacher, sgd)?;
//! let _ = tch::no_grad(|| phi.fill_(0.0)); // It begins as a copy of the student.
//! let mut task = Scalars { theta: theta.shallow_clone(), phi: phi.shallow_clone() };
//! training.iteration(&mut task, &(), &[], 0.1)?;
//! // EMA .5; virtual student 1 - .1 (1 + .5) = .85; EMA .675; real student 1 - .1 (1 + .325).
//! assert!((phi.double_value(&[]) - 0.675).abs() < 1e-6 && (theta.double_value(&[]) - 0.8675).abs() < 1e-6);
//! # Ok::<(), autodidact_core::Error>(())
//! ```

mod mixing;
mod pixels;
mod tasks;

pub use mixing::{class_masks, cut_masks, mix};
pub use pixels::{PixelLabels, confidence_weight, entropy_drop_mask, weighted_pixel_ce};
pub use tasks::{DomainMix, DomainMixConfig, Domains, PartlyLabelled, SemiSupervised, SemiSupervisedConfig};

use autodidact_core::error::check_range;
use autodidact_core::optim::{Ema, Optimizer, Snapshot, StateDict};
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::nn::VarStore;
use tch::{Kind, Tensor};

/// What is learned in an iteration: a batch, the labels a teacher gives it, and the student's loss on both. It holds the networks,
/// whose weights a [`SelfTraining`] moves.
pub trait Task {
    /// Data of one update, labelled and not.
    type Batch;
    /// What the teacher says of a batch.
    type Labels;

    /// The teacher's labels of a batch. Called before every update, real or virtual, without recording gradients.
    ///
    /// # Errors
    /// A batch that the networks cannot take.
    fn label(&mut self, batch: &Self::Batch) -> Result<Self::Labels>;

    /// The student's whole loss, a scalar.
    ///
    /// # Errors
    /// As [`label`](Self::label).
    fn loss(&mut self, batch: &Self::Batch, labels: &Self::Labels) -> Result<Tensor>;
}

/// How far, and how, the student looks ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Variant {
    /// ST: not at all.
    Plain,
    /// FST-D: so many virtual steps one after the other on the batch itself.
    Deep(usize),
    /// FST-W: so many virtual steps side by side on other batches.
    Wide(usize),
}

impl Variant {
    /// Passes (updates of a student, real or virtual) of an iteration.
    pub fn passes(self) -> usize {
        match self {
            Variant::Plain => 1,
            Variant::Deep(k) | Variant::Wide(k) => k + 1,
        }
    }
}

/// What the end of the virtual steps undoes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Restore {
    /// The weights, as in the paper's code: moments of the optimizer and running statistics keep what the virtual steps did.
    Weights,
    /// The optimizer's state too.
    WeightsAndOptimizer,
    /// All of it: also the buffers of the student's network (running statistics).
    Everything,
}

/// Constants of [`SelfTraining`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SelfTrainingConfig {
    /// ST, FST-D or FST-W.
    pub variant: Variant,
    /// What the virtual steps leave behind.
    pub restore: Restore,
    /// `mu`, the decay of the moving average, in `[0, 1]`.
    pub momentum: f64,
    /// Whether the decay is `min(1 - 1/(t + 1), mu)` after `t` passes (virtual ones count).
    pub ramp: bool,
    /// FST-D: whether the teacher follows the real student too, as in the paper's semi-supervised code.
    pub follow_real: bool,
    /// Whether the first iteration is one of ST, as in the paper's code.
    pub plain_start: bool,
}

impl SelfTrainingConfig {
    /// The paper's values for domain adaptation: momentum 0.999 with ramp, only weights restored.
    pub fn new(variant: Variant) -> Self {
        let restore = Restore::Weights;
        Self { variant, restore, momentum: 0.999, ramp: true, follow_real: false, plain_start: true }
    }

    /// The paper's values for semi-supervised learning: momentum 0.99 with ramp, the teacher follows the real student too.
    pub fn semi_supervised(variant: Variant) -> Self {
        Self { momentum: 0.99, follow_real: true, ..Self::new(variant) }
    }
}

impl Default for SelfTrainingConfig {
    /// FST-D with three steps, for domain adaptation.
    fn default() -> Self {
        Self::new(Variant::Deep(3))
    }
}

/// What an iteration did.
#[derive(Debug)]
pub struct Iteration<L> {
    /// Loss of the real update, a detached scalar.
    pub loss: Tensor,
    /// The teacher's labels in the real update.
    pub labels: L,
    /// Updates of a student, the real one and the virtual ones.
    pub passes: usize,
    /// Updates of the teacher.
    pub ema_updates: usize,
}

/// Self-training of a student and a teacher of the same architecture.
#[derive(Debug)]
pub struct SelfTraining {
    config: SelfTrainingConfig,
    optimizer: Optimizer,
    ema: Ema,
    /// What [`Restore`] names: the weights first.
    restored: Vec<Snapshot>,
    /// Passes and iterations so far.
    passes: usize,
    iterations: usize,
}

impl SelfTraining {
    /// The teacher becomes a frozen copy of the student; later it follows the student's parameters, while its buffers are its own.
    ///
    /// # Errors
    /// A momentum outside `[0, 1]`, FST-W over no batch, networks of different shapes.
    pub fn new(
        config: SelfTrainingConfig,
        student: &VarStore,
        teacher: &mut VarStore,
        optimizer: Optimizer,
    ) -> Result<Self> {
        check_range("momentum", config.momentum, 0.0..=1.0)?;
        if config.variant == Variant::Wide(0) {
            return Err(Error::value("steps of FST-W", "at least 1", 0));
        }
        let mut restored = vec![Snapshot::of_parameters(student)];
        if config.restore != Restore::Weights {
            restored.push(Snapshot::of(optimizer.state_dict().into_values()));
        }
        if config.restore == Restore::Everything {
            restored.push(Snapshot::of_buffers(student));
        }
        let ema = Ema::of_parameters(teacher, student)?;
        Ok(Self { config, optimizer, ema, restored, passes: 0, iterations: 0 })
    }

    /// One real update on `batch`, with learning rate `lr`; FST-W looks ahead on the batches of `future`, one for each of its steps (the
    /// others look at none).
    ///
    /// # Errors
    /// Another number of future batches, those of the task, a learning rate that is negative or not finite.
    pub fn iteration<T: Task>(
        &mut self,
        task: &mut T,
        batch: &T::Batch,
        future: &[T::Batch],
        lr: f64,
    ) -> Result<Iteration<T::Labels>> {
        let wanted = if let Variant::Wide(k) = self.config.variant { k } else { 0 };
        if future.len() != wanted {
            return Err(Error::value("future batches", wanted.to_string(), future.len()));
        }
        let plain = self.iterations == 0 && self.config.plain_start;
        let variant = if plain { Variant::Plain } else { self.config.variant };
        let follow_real = match variant {
            Variant::Plain | Variant::Wide(_) => true,
            Variant::Deep(_) => self.config.follow_real,
        };
        let mut ema_updates = usize::from(follow_real);
        match variant {
            Variant::Plain => {}
            Variant::Deep(k) => {
                self.take();
                for _ in 0..k {
                    self.follow()?;
                    let _virtual = self.pass(task, batch, lr)?;
                }
                self.follow()?;
                self.restore();
                ema_updates += k + 1;
            }
            Variant::Wide(_) => {
                self.take();
                self.look_around(task, future, lr)?;
                ema_updates += 1;
            }
        }
        let (loss, labels) = self.pass(task, batch, lr)?;
        if follow_real {
            self.follow()?;
        }
        self.iterations += 1;
        Ok(Iteration { loss, labels, passes: variant.passes(), ema_updates })
    }

    /// Lets the teacher follow the mean of one virtual step on each batch.
    fn look_around<T: Task>(&mut self, task: &mut T, batches: &[T::Batch], lr: f64) -> Result<()> {
        let mut sum: Vec<Tensor> = self.restored[0].live().iter().map(Tensor::zeros_like).collect();
        for (i, batch) in batches.iter().enumerate() {
            if i > 0 {
                self.restore();
            }
            let _virtual = self.pass(task, batch, lr)?;
            tch::no_grad(|| sum.iter_mut().zip(self.restored[0].live()).for_each(|(s, w)| *s += w));
        }
        // The average of the students takes the student's place for a moment.
        tch::no_grad(|| {
            for (sum, weight) in sum.iter().zip(self.restored[0].live()) {
                weight.shallow_clone().copy_(&(sum / batches.len() as f64));
            }
        });
        self.follow()?;
        self.restore();
        Ok(())
    }

    fn pass<T: Task>(&mut self, task: &mut T, batch: &T::Batch, lr: f64) -> Result<(Tensor, T::Labels)> {
        let labels = tch::no_grad(|| task.label(batch))?;
        let loss = task.loss(batch, &labels)?;
        self.optimizer.zero_grad();
        loss.f_backward()?;
        self.optimizer.step(lr)?;
        self.passes += 1;
        Ok((loss.detach(), labels))
    }

    fn follow(&mut self) -> Result<()> {
        let SelfTrainingConfig { momentum, ramp, .. } = self.config;
        let start = 1.0 - 1.0 / (self.passes + 1) as f64;
        self.ema.update(if ramp { momentum.min(start) } else { momentum })
    }

    fn take(&mut self) {
        self.restored.iter_mut().for_each(Snapshot::take);
    }

    fn restore(&self) {
        self.restored.iter().for_each(Snapshot::restore);
    }

    /// Passes so far, virtual ones included.
    pub fn passes(&self) -> usize {
        self.passes
    }

    /// What a checkpoint needs beside the variables of both networks: the optimizer's state (shared, not copied) and the counts.
    pub fn state_dict(&self) -> StateDict {
        let mut state = self.optimizer.state_dict();
        for (name, count) in [(PASSES, self.passes), (ITERATIONS, self.iterations)] {
            state.insert(name.into(), Tensor::from(count as i64));
        }
        state
    }

    /// Takes up what [`state_dict`](Self::state_dict) gave.
    ///
    /// # Errors
    /// A missing or wrongly shaped entry.
    pub fn load_state_dict(&mut self, state: &StateDict) -> Result<()> {
        let mut rest: StateDict = state.iter().map(|(name, t)| (name.clone(), t.shallow_clone())).collect();
        let mut count = |name: &str| match rest.remove(name) {
            Some(t) if t.kind() == Kind::Int64 && t.numel() == 1 => Ok(t.int64_value(&[]) as usize),
            _ => Err(Error::value("state of self-training", format!("a count {name}"), "none")),
        };
        let (passes, iterations) = (count(PASSES)?, count(ITERATIONS)?);
        self.optimizer.load_state_dict(&rest)?;
        (self.passes, self.iterations) = (passes, iterations);
        Ok(())
    }
}

const PASSES: &str = "self-training passes";
const ITERATIONS: &str = "self-training iterations";
