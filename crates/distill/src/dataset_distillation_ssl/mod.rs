//! Lee, Lee, Ko, Kawaguchi, Lee and Hwang, "Self-Supervised Dataset Distillation for Transfer Learning" (2023), arXiv 2310.06511:
//! KRR-ST.
//!
//! An unlabelled set is compressed into `m` images `X_s` with targets `Y_s`, such that a network trained to regress the targets on
//! the images has features that transfer. The inner problem is plain regression, without augmentations whose sampling would bias
//! the gradient; the outer problem asks for the representations `Y_t = g(X_t)` of real images by a frozen self-supervised network.
//! With the inner features `phi` fixed, the best head is kernel ridge regression, so one outer step costs one `m x m` solve:
//!
//! `L = mean (K_ts (K_ss + lambda I)^-1 Y_s - Y_t)^2`, `K_ab = [phi(X_a), 1] [phi(X_b), 1]^T`, `lambda = 1e-6 trace K_ss`.
//!
//! A pool of inner networks at all stages of their training supplies `phi`. All images are normalised, synthetic ones are kept so
//! (the published code feeds them to the inner networks as raw pixels beside normalised real ones).
//!
//! ```
//! use autodidact_distill::dataset_distillation_ssl::{Penalty, krr_predict};
//! use tch::{Kind, Tensor};
//! // Features (1, 0) and (0, 1), targets 1 and 3, query (1, 1); a constant is appended to all.
//! let (f_s, y_s) = (Tensor::from_slice2(&[[1., 0.], [0., 1.]]), Tensor::from_slice2(&[[1.], [3.]]));
//! let f_t = Tensor::from_slice2(&[[1., 1.]]);
//! let at = |penalty| krr_predict(&f_t, &f_s, &y_s, penalty, true).unwrap().double_value(&[0, 0]);
//! assert!((at(Penalty::Fixed(1.0)) - 2.0).abs() < 1e-12);
//! assert!((at(Penalty::Trace(1e-6)) - 2.66666311).abs() < 1e-8);
//! ```

mod pool;
mod ridge;
mod set;

pub use pool::{InnerModel, InnerTraining, ModelPool, PooledConvNet};
pub use ridge::{Penalty, krr_predict, krr_st_loss};
pub use set::DistilledSet;

use autodidact_core::error::check_range;
use autodidact_core::optim::{Adam, Group, Optimizer, Rule};
use autodidact_core::schedule::{Decay, Schedule, Shape};
use autodidact_core::seed::rng;
use autodidact_core::train::Checkpoint;
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// How a set is distilled; the defaults are the paper's for CIFAR-100.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct KrrStConfig {
    /// Inner networks `l` in the pool.
    pub models: usize,
    /// Steps `Z` after which an inner network is replaced by a fresh one.
    pub max_steps: usize,
    /// Outer steps.
    pub iterations: usize,
    /// AdamW's learning rate for images and targets; it falls linearly to a thousandth.
    pub lr: f64,
    /// Whether the targets are learned too.
    pub learn_targets: bool,
    /// Penalty of the regression.
    pub penalty: Penalty,
}

impl Default for KrrStConfig {
    fn default() -> Self {
        Self {
            models: 10,
            max_steps: 1000,
            iterations: 160_000,
            lr: 1e-4,
            learn_targets: true,
            penalty: Penalty::Trace(1e-6),
        }
    }
}

/// A set that is being distilled, with its pool of networks.
///
/// With targets that are labels (one-hot minus `1/C`) in place of representations, it is FRePo (Zhou et al., 2022).
#[derive(Debug)]
pub struct KrrSt<'a> {
    config: KrrStConfig,
    set: DistilledSet,
    pool: ModelPool<'a>,
    optimizer: Optimizer,
    schedule: Schedule,
    next: usize,
    seed: u64,
}

impl<'a> KrrSt<'a> {
    /// Starts from `set` (real images with the target network's representations). `fresh` makes an inner network from a seed;
    /// the pool is trained on the set, each network for a random number of steps.
    ///
    /// # Errors
    /// Constants outside their ranges, networks whose output does not fit the targets.
    pub fn new(
        config: KrrStConfig,
        set: &DistilledSet,
        fresh: impl Fn(u64) -> Result<InnerModel> + 'a,
        seed: u64,
    ) -> Result<Self> {
        check_range("iterations", config.iterations as f64, 1.0..)?;
        config.penalty.check()?;
        let set = set.trainable(config.learn_targets);
        let pool = ModelPool::new(config.models, config.max_steps, fresh, &set, seed)?;
        let mut learned = vec![("x".to_owned(), set.x.shallow_clone())];
        if config.learn_targets {
            learned.push(("y".to_owned(), set.y.shallow_clone()));
        }
        let optimizer = Optimizer::new(Rule::AdamW(Adam::default()), vec![Group::of(learned, 0.0)])?;
        let shape = Shape::Decay { decay: Decay::Linear, end: 1e-3 };
        let schedule = Schedule::new(config.lr, config.iterations, shape);
        schedule.check()?;
        Ok(Self { config, set, pool, optimizer, schedule, next: 0, seed })
    }

    /// The outer step that comes next.
    pub fn next_step(&self) -> usize {
        self.next
    }

    /// One outer step on real images `[B, C, S, S]` with representations `[B, d]`; the loss (a scalar, detached) before it.
    ///
    /// # Errors
    /// Images or representations that do not fit, a kernel matrix that has no Cholesky factor (values that are not finite).
    pub fn step(&mut self, x_t: &Tensor, y_t: &Tensor) -> Result<Tensor> {
        let rng = &mut rng(self.seed, &["outer", &self.next.to_string()]);
        let chosen = self.pool.sample(rng);
        let loss = self.loss(chosen, x_t, y_t)?;
        self.optimizer.zero_grad();
        loss.f_backward()?;
        self.optimizer.step(self.schedule.lr(self.next))?;
        self.pool.advance(chosen, &self.set)?;
        self.next += 1;
        Ok(loss.detach())
    }

    /// The outer loss with the features of the pool's network `model`.
    ///
    /// # Errors
    /// As [`step`](Self::step); no such network.
    pub fn loss(&self, model: usize, x_t: &Tensor, y_t: &Tensor) -> Result<Tensor> {
        let model = self.pool.get(model)?;
        // Features by running statistics; only the synthetic images' side is differentiated.
        let f_t = tch::no_grad(|| model.features(x_t, false))?;
        krr_st_loss(&f_t, &model.features(&self.set.x, false)?, &self.set.y, y_t, self.config.penalty)
    }

    /// The pool.
    pub fn pool(&self) -> &ModelPool<'a> {
        &self.pool
    }

    /// A copy of the set as it is now.
    pub fn set(&self) -> DistilledSet {
        self.set.copy()
    }

    /// Everything that decides how it goes on.
    ///
    /// # Errors
    /// A value that cannot be written.
    pub fn checkpoint(&self) -> Result<Checkpoint> {
        let mut file = Checkpoint::default();
        file.set("next", &self.next)?;
        file.insert("set", [("x", &self.set.x), ("y", &self.set.y)].map(|(n, t)| (n.to_owned(), t.detach())));
        file.insert("optimizer", self.optimizer.state_dict());
        self.pool.save(&mut file)?;
        Ok(file)
    }

    /// Goes on from a checkpoint of a run of the same configuration, with the very numbers of a run that was not stopped.
    ///
    /// # Errors
    /// A checkpoint of another run.
    pub fn restore(&mut self, file: &Checkpoint) -> Result<()> {
        let set = file.section("set");
        for (name, to) in [("x", &self.set.x), ("y", &self.set.y)] {
            let from = set.get(name).filter(|t| t.size() == to.size());
            let from = from.ok_or_else(|| Error::value("checkpoint", format!("a set of {to:?}"), "another"))?;
            tch::no_grad(|| to.shallow_clone().f_copy_(from).map(|_| ()))?;
        }
        self.optimizer.load_state_dict(&file.section("optimizer"))?;
        self.pool.load(file)?;
        self.next = file.get("next")?;
        Ok(())
    }
}
