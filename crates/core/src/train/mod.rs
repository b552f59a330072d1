//! The training loop: gradient accumulation, precision, clipping, checkpoints and exact resume.
//!
//! A run that is killed at any moment and continued from its last checkpoint gives, bit for bit, the parameters and the
//! metrics of the uninterrupted run. Nothing random is saved for that: every step derives its streams from the seed and
//! its own index ([`Step::rng`], and libtorch's generator is seeded likewise), so a repeated step repeats exactly.

mod checkpoint;
mod order;

pub use checkpoint::{Checkpoint, write_atomically};
pub(crate) use checkpoint::{read_tensors, write_tensors};
pub use order::Order;

use crate::device::Precision;
use crate::error::check_range;
use crate::optim::{Ema, Optimizer, sorted_trainables};
use crate::schedule::Schedule;
use crate::seed::{self, Rng};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use tch::{Device, Kind, Tensor, nn::VarStore};

/// How a [`Trainer`] runs.
#[derive(Debug, Clone)]
pub struct TrainConfig {
    /// Learning rate by step; also the number of steps.
    pub schedule: Schedule,
    /// Micro-batches per step, whose gradients are averaged.
    pub accumulate: usize,
    /// Largest joint gradient norm.
    pub clip_norm: Option<f64>,
    /// Arithmetic of the forward pass.
    pub precision: Precision,
    /// Base of all random streams of the run.
    pub seed: u64,
    /// Loss is read back (and checked for NaN) every so many steps, and at the last.
    pub log_every: usize,
    /// Where to save, and every how many steps; `None` never saves.
    pub checkpoint: Option<(PathBuf, usize)>,
}

impl TrainConfig {
    /// One micro-batch per step, no clipping, the precision of [`Precision::for_training`] (32-bit floats), a loss value every 10 steps,
    /// no checkpoints.
    pub fn new(schedule: Schedule, seed: u64) -> Self {
        Self {
            schedule,
            accumulate: 1,
            clip_norm: None,
            precision: Precision::for_training(),
            seed,
            log_every: 10,
            checkpoint: None,
        }
    }
}

/// One micro-batch's place in the run.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// Optimizer step, from 0.
    pub index: usize,
    /// Micro-batch within the step.
    pub micro: usize,
    seed: u64,
}

impl Step {
    /// A generator for this micro-batch and purpose; the same after a resume.
    pub fn rng(&self, purpose: &str) -> Rng {
        seed::rng(self.seed, &[purpose, &self.index.to_string(), &self.micro.to_string()])
    }
}

/// A value of the loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LossPoint {
    /// Optimizer step, from 0.
    pub step: usize,
    /// Mean loss over the step's micro-batches.
    pub loss: f64,
}

/// A value that an observer logged ([`Progress::log`]).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Logged {
    /// Steps done.
    pub done: usize,
    /// Name.
    pub metric: String,
    /// Value.
    pub value: f64,
}

/// What a finished run logged.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// The loss every [`TrainConfig::log_every`] steps.
    pub losses: Vec<LossPoint>,
    /// What observers logged, in order.
    pub logged: Vec<Logged>,
}

/// Trains the variables of one store.
pub struct Trainer<'a> {
    config: TrainConfig,
    vs: &'a VarStore,
    optimizer: Optimizer,
    ema: Option<(Ema, &'a VarStore, f64)>,
    history: History,
    next: usize,
}

impl<'a> Trainer<'a> {
    /// A run from step 0, or from the configured checkpoint when there is one.
    ///
    /// # Errors
    /// Settings out of range; a checkpoint that cannot be read or belongs to another network or optimizer.
    pub fn new(config: TrainConfig, vs: &'a VarStore, optimizer: Optimizer) -> Result<Self> {
        if config.accumulate == 0 || config.log_every == 0 {
            return Err(Error::value("accumulate and log_every", "at least 1", "0"));
        }
        config.schedule.check()?;
        if let Some(norm) = config.clip_norm {
            check_range("clip_norm", norm, f64::MIN_POSITIVE..)?;
        }
        let mut trainer = Self { config, vs, optimizer, ema: None, history: History::default(), next: 0 };
        trainer.resume()?;
        Ok(trainer)
    }

    /// Lets the network of `target` follow the trained one as an exponential moving average, updated after each step.
    ///
    /// # Errors
    /// As [`Ema::new`]; a checkpoint without the target's variables.
    pub fn with_ema(mut self, target: &'a mut VarStore, decay: f64) -> Result<Self> {
        let ema = Ema::new(target, self.vs)?;
        self.ema = Some((ema, target, decay));
        self.resume()?;
        Ok(self)
    }

    /// The step that comes next.
    pub fn next_step(&self) -> usize {
        self.next
    }

    /// Runs to the end: `loss` gives the loss of a micro-batch (its forward pass runs in the configured precision);
    /// `observe` sees each logged loss, and every step's end. What it collects by itself does not survive a kill; what it
    /// gives to [`Progress::log`] is in the checkpoint.
    ///
    /// # Errors
    /// Those of `loss` and `observe`; a loss that is NaN or infinite; a checkpoint that cannot be written.
    pub fn run(
        mut self,
        mut loss: impl FnMut(Step) -> Result<Tensor>,
        mut observe: impl FnMut(Progress<'_>) -> Result<()>,
    ) -> Result<History> {
        let device = self.vs.device();
        let total = self.config.schedule.total;
        while self.next < total {
            let index = self.next;
            let mut sum: Option<Tensor> = None;
            self.optimizer.zero_grad();
            for micro in 0..self.config.accumulate {
                let step = Step { index, micro, seed: self.config.seed };
                seed::seed_torch(self.config.seed, &["torch", &index.to_string(), &micro.to_string()]);
                let value = self.config.precision.run(device, || loss(step))?;
                let value = value.to_kind(Kind::Float) / self.config.accumulate as f64;
                value.f_backward()?;
                let value = value.detach();
                sum = Some(sum.map_or_else(|| value.shallow_clone(), |s| s + &value));
            }
            if let Some(max) = self.config.clip_norm {
                let _norm = self.optimizer.clip_grad_norm(max)?;
            }
            self.optimizer.step(self.config.schedule.lr(index))?;
            if let Some((ema, _, decay)) = &mut self.ema {
                ema.update(*decay)?;
            }
            self.next += 1;
            let last = self.next == total;
            let mut point = None;
            if index.is_multiple_of(self.config.log_every) || last {
                let loss = sum.map_or(f64::NAN, |s| s.double_value(&[]));
                if !loss.is_finite() {
                    return Err(Error::Diverged { loss, step: index, total });
                }
                self.history.losses.push(LossPoint { step: index, loss });
                point = Some(loss);
            }
            let history = &mut self.history;
            let optimizer = &self.optimizer;
            observe(Progress { done: self.next, total, loss: point, vs: self.vs, optimizer, history })?;
            if let Some((_, every)) = &self.config.checkpoint
                && (self.next.is_multiple_of((*every).max(1)) && !last)
            {
                self.save()?;
            }
        }
        Ok(self.history)
    }

    fn stores(&self) -> Vec<(&'static str, &'a VarStore)> {
        let ema = self.ema.as_ref().map(|(_, vs, _)| ("ema", *vs));
        std::iter::once(("model", self.vs)).chain(ema).collect()
    }

    /// The settings that decide the numbers of the run.
    fn fingerprint(&self) -> serde_json::Value {
        let c = &self.config;
        let precision = format!("{:?}", c.precision);
        serde_json::json!({
            "schedule": c.schedule, "accumulate": c.accumulate, "clip_norm": c.clip_norm,
            "precision": precision, "seed": c.seed, "log_every": c.log_every, "optimizer": self.optimizer.constants(),
        })
    }

    /// Parameters that have had a gradient. It is zero on a step that does not use them, and their momentum and decay still
    /// move them; a parameter that never had one stays where it is.
    fn with_gradient(&self) -> Vec<String> {
        sorted_trainables(self.vs).into_iter().filter(|(_, p)| p.grad().defined()).map(|(name, _)| name).collect()
    }

    fn save(&self) -> Result<()> {
        let Some((path, _)) = &self.config.checkpoint else { return Ok(()) };
        let mut checkpoint = Checkpoint::default();
        for (prefix, vs) in self.stores() {
            checkpoint.insert(prefix, vs.variables());
        }
        checkpoint.insert("optimizer", self.optimizer.state_dict());
        checkpoint.set("run", &self.fingerprint())?;
        checkpoint.set("with gradient", &self.with_gradient())?;
        checkpoint.set("ema decay", &self.ema.as_ref().map(|(.., decay)| decay))?;
        checkpoint.set("next", &self.next)?;
        checkpoint.set("history", &self.history)?;
        checkpoint.save(path)
    }

    fn resume(&mut self) -> Result<()> {
        let Some((path, _)) = &self.config.checkpoint else { return Ok(()) };
        if !path.exists() {
            return Ok(());
        }
        let refuse = |expected: String, found: String| {
            Err(Error::format(path, expected, format!("{found}; remove the file to start this run over")))
        };
        let checkpoint = match Checkpoint::load(path, Device::Cpu) {
            Err(Error::Format { expected, found, .. }) => return refuse(expected, found),
            other => other?,
        };
        for (prefix, vs) in self.stores() {
            let saved = checkpoint.section(prefix);
            for (name, to) in vs.variables() {
                let Some(from) = saved.get(&name).filter(|f| f.size() == to.size()) else {
                    return refuse(
                        format!("a checkpoint with {name} {:?}", to.size()),
                        "that of another network".into(),
                    );
                };
                tch::no_grad(|| to.shallow_clone().f_copy_(from).map(|_| ()))?;
            }
        }
        if self.optimizer.load_state_dict(&checkpoint.section("optimizer")).is_err() {
            return refuse("a checkpoint of the same optimizer".into(), "that of another one".into());
        }
        let (run, saved) = (self.fingerprint(), checkpoint.get::<serde_json::Value>("run")?);
        if run != saved {
            return refuse(format!("a checkpoint of the run {run}"), format!("that of the run {saved}"));
        }
        // Without the moving average yet, `new` cannot compare it; `with_ema` does.
        if let Some((.., decay)) = &self.ema {
            let saved: Option<f64> = checkpoint.get("ema decay")?;
            if saved != Some(*decay) {
                return refuse(format!("a moving average of decay {decay}"), format!("one of {saved:?}"));
            }
        }
        let with_gradient: Vec<String> = checkpoint.get("with gradient")?;
        for (name, parameter) in sorted_trainables(self.vs) {
            if with_gradient.contains(&name) {
                (parameter.sum(parameter.kind()) * 0.0).f_backward()?;
            }
        }
        self.next = checkpoint.get("next")?;
        self.history = checkpoint.get("history")?;
        Ok(())
    }
}

/// What an observer of [`Trainer::run`] sees after a step.
pub struct Progress<'a> {
    /// Steps done.
    pub done: usize,
    /// Steps in all.
    pub total: usize,
    /// The step's loss, when it was read back.
    pub loss: Option<f64>,
    /// The trained variables, with the gradients of the step (clipped, if the run clips).
    pub vs: &'a VarStore,
    /// The optimizer after the step.
    pub optimizer: &'a Optimizer,
    history: &'a mut History,
}

impl Progress<'_> {
    /// Logs a value into the run's [`History`]; after a resume it is there again.
    ///
    /// # Errors
    /// A value that is not finite, which a checkpoint cannot hold.
    pub fn log(&mut self, metric: &str, value: f64) -> Result<()> {
        check_range(metric, value, ..)?;
        self.history.logged.push(Logged { done: self.done, metric: metric.to_owned(), value });
        Ok(())
    }
}
