//! Training over a stream of tasks.

use super::TaskSchedule;
use autodidact_core::error::check_range;
use autodidact_core::optim::{Optimizer, Snapshot};
use autodidact_core::{Error, Result, seed};
use serde::{Deserialize, Serialize};
use tch::nn::VarStore;
use tch::{Kind, Tensor};

/// What the next task starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resume {
    /// Weights and moments at the end of the constant phase: annealed weights are for use only. (As [`Annealed`](Self::Annealed)
    /// where the schedule has no constant phase.)
    PreAnneal,
    /// Weights and moments at the end of the task.
    Annealed,
}

/// A point of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The task, from 0.
    pub task: usize,
    /// Steps of it that are done.
    pub done: usize,
    /// Whether the task is at its end: the weights are annealed.
    pub end: bool,
}

/// Trains the variables of a store over several tasks, one after another. Like the trainer of a single task, it seeds libtorch's
/// generator for every step.
#[derive(Debug, Clone, Copy)]
pub struct ContinualRun<'a> {
    /// Number of tasks.
    pub tasks: usize,
    /// What a task starts from.
    pub resume: Resume,
    /// Largest joint gradient norm.
    pub clip_norm: Option<f64>,
    /// Base of the streams of random numbers.
    pub seed: u64,
    /// The variables that are trained.
    pub vs: &'a VarStore,
}

impl ContinualRun<'_> {
    /// Runs all tasks: `loss(task, n)` gives the loss of a step, `observe` sees the weights after every step.
    ///
    /// # Errors
    /// A schedule that makes no sense, a loss that is NaN or infinite at the end of a task, whatever `loss` and `observe` report.
    pub fn run(
        &self,
        schedule: &dyn TaskSchedule,
        optimizer: &mut Optimizer,
        mut loss: impl FnMut(usize, usize) -> Result<Tensor>,
        mut observe: impl FnMut(Moment) -> Result<()>,
    ) -> Result<()> {
        schedule.check()?;
        check_range("number of tasks", self.tasks as f64, 1.0..)?;
        let branch = schedule.branch().filter(|_| self.resume == Resume::PreAnneal);
        let mut kept: Option<Snapshot> = None;
        for task in 0..self.tasks {
            let steps = schedule.steps();
            for n in 0..steps {
                seed::seed_torch(self.seed, &["continual", &task.to_string(), &n.to_string()]);
                optimizer.zero_grad();
                let value = loss(task, n)?;
                value.f_backward()?;
                if let Some(most) = self.clip_norm {
                    let _norm = optimizer.clip_grad_norm(most)?;
                }
                optimizer.step(schedule.lr(task, n))?;
                let end = n + 1 == steps;
                if end {
                    let loss = value.to_kind(Kind::Double).double_value(&[]);
                    if !loss.is_finite() {
                        return Err(Error::Diverged { loss, step: task * steps + n, total: self.tasks * steps });
                    }
                }
                if branch == Some(n) && task + 1 < self.tasks {
                    // Weights, running statistics and the optimizer's moments and step count.
                    let all = self.vs.variables().into_values().chain(optimizer.state_dict().into_values());
                    kept = Some(Snapshot::of(all));
                }
                observe(Moment { task, done: n + 1, end })?;
            }
            if let Some(kept) = kept.take() {
                kept.restore();
            }
        }
        Ok(())
    }
}
