//! Beyond Cosine Decay: On the effectiveness of Infinite Learning Rate Schedule for Continual Pre-training (Singh, Janson, Mehrbod,
//! Ibrahim, Rish, Belilovsky and Therien, 2025; arXiv 2503.02844): pre-training that goes on over a stream of data sets without warming
//! up again.
//!
//! Steps `n` are counted within a task of `T`, with marks `w < c < k`. In the first task the rate rises linearly to `eta_max` (until `w`)
//! and cools down to `eta_const` (until `c`); there it stays, in all tasks, until `k`; then it anneals to `eta_min`,
//!
//! `eta(n) = eta_const (eta_min / eta_const)^((n-k)/(T-k))`,
//!
//! for weights that are to be used, while the next task goes on at `eta_const` from the weights and moments at `k`
//! ([`Resume::PreAnneal`]). What it is compared with, a cosine with a new warm-up for every task, is [`RepeatedCosine`].
//!
//! ```
//! use autodidact_scaling::infinite_lr::{InfiniteSchedule, TaskSchedule};
//! let s = InfiniteSchedule::new(1e-3, 1000); // marks at 50, 150 and 800
//! let micro = |task, n| (s.lr(task, n) * 1e6 * 1e4f64).round() / 1e4;
//! assert_eq!([25, 50, 100, 150, 800].map(|n| micro(0, n)), [500.0, 1000.0, 550.0, 100.0, 100.0]);
//! assert_eq!((micro(0, 900), micro(0, 1000)), (31.6228, 10.0));
//! assert_eq!(micro(1, 0), 100.0); // no warm-up any more
//! ```

mod baselines;
mod matrix;
mod run;

pub use baselines::{Ewc, ReservoirBuffer, feature_distillation};
pub use matrix::ContinualMatrix;
pub use run::{ContinualRun, Moment, Resume};

use autodidact_core::error::check_range;
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// Learning rates over a stream of tasks.
pub trait TaskSchedule {
    /// The rate at step `n` (from 0) of a task (from 0).
    fn lr(&self, task: usize, n: usize) -> f64;

    /// Steps of a task.
    fn steps(&self) -> usize;

    /// The last step of the constant phase, from which the next task may go on; none where there is no such phase.
    fn branch(&self) -> Option<usize> {
        None
    }

    /// Checks its settings.
    ///
    /// # Errors
    /// Rates that are negative or not finite, marks out of order.
    fn check(&self) -> Result<()>;

    /// The rates of all steps of `tasks` tasks, one after another.
    fn curve(&self, tasks: usize) -> Vec<f64> {
        (0..tasks).flat_map(|task| (0..self.steps()).map(move |n| self.lr(task, n))).collect()
    }
}

/// How the first task cools down from the peak to the constant rate, with `u` from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cooldown {
    /// `eta_const + (eta_max - eta_const) (1 + cos(pi u)) / 2`.
    Cosine,
    /// `eta_max - (eta_max - eta_const) u`.
    Linear,
    /// `eta_max + (eta_const - eta_max) g(u)/g(1)` with `g(u) = 1/sqrt(1 + s u) - 1`; linear as `s` goes to 0.
    InverseSqrt {
        /// `s`, above 0; the code's is 10.
        timescale: f64,
    },
}

impl Cooldown {
    /// The share of the way gone at `u`, from 0 to 1.
    fn gone(self, u: f64) -> f64 {
        match self {
            Cooldown::Cosine => 0.5 * (1.0 - (PI * u).cos()),
            Cooldown::Linear => u,
            Cooldown::InverseSqrt { timescale } => {
                let g = |u: f64| (1.0 + timescale * u).sqrt().recip() - 1.0;
                g(u) / g(1.0)
            }
        }
    }
}

/// The infinite schedule. Marks are steps within a task, not lengths; each belongs to the phase before it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct InfiniteSchedule {
    /// Peak rate of the first task.
    pub eta_max: f64,
    /// Rate of the constant phase, above 0.
    pub eta_const: f64,
    /// Rate at the end of a task, above 0.
    pub eta_min: f64,
    /// `w`: end of the warm-up.
    pub warmup: usize,
    /// `c`: end of the cool-down.
    pub cooldown_end: usize,
    /// `k`: end of the constant phase.
    pub constant_end: usize,
    /// `T`: steps of a task.
    pub total: usize,
    /// The cool-down's curve.
    pub cooldown: Cooldown,
}

impl InfiniteSchedule {
    /// With the code's ratios: marks at 5, 15 and 80 % of the steps, a tenth of the peak as constant and a hundredth as last rate, a
    /// cosine to cool down.
    pub fn new(eta_max: f64, total: usize) -> Self {
        let mark = |share: f64| (share * total as f64).round() as usize;
        Self {
            eta_max,
            eta_const: 0.1 * eta_max,
            eta_min: 0.01 * eta_max,
            warmup: mark(0.05),
            cooldown_end: mark(0.15),
            constant_end: mark(0.8),
            total,
            cooldown: Cooldown::Cosine,
        }
    }
}

impl TaskSchedule for InfiniteSchedule {
    fn lr(&self, task: usize, n: usize) -> f64 {
        let between = |from: usize, to: usize| (n - from) as f64 / (to - from).max(1) as f64;
        if task == 0 && n <= self.warmup && self.warmup > 0 {
            self.eta_max * n as f64 / self.warmup as f64
        } else if task == 0 && n <= self.cooldown_end && self.cooldown_end > self.warmup {
            self.eta_max + (self.eta_const - self.eta_max) * self.cooldown.gone(between(self.warmup, self.cooldown_end))
        } else if n <= self.constant_end {
            self.eta_const
        } else {
            self.eta_const * (self.eta_min / self.eta_const).powf(between(self.constant_end, self.total))
        }
    }

    fn steps(&self) -> usize {
        self.total
    }

    fn branch(&self) -> Option<usize> {
        Some(self.constant_end)
    }

    fn check(&self) -> Result<()> {
        check_range("eta_max", self.eta_max, 0.0..)?;
        check_range("eta_const", self.eta_const, f64::MIN_POSITIVE..)?;
        check_range("eta_min", self.eta_min, f64::MIN_POSITIVE..)?;
        if let Cooldown::InverseSqrt { timescale } = self.cooldown {
            check_range("timescale of the cool-down", timescale, f64::MIN_POSITIVE..)?;
        }
        let marks = [self.warmup, self.cooldown_end, self.constant_end, self.total];
        if marks.is_sorted() && self.total > 0 {
            Ok(())
        } else {
            Err(Error::value(
                "marks of the schedule",
                "warm-up, cool-down, constant phase, end in order",
                format!("{marks:?}"),
            ))
        }
    }
}

/// A linear warm-up to `eta_max` and a cosine to `eta_min`, again for every task.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RepeatedCosine {
    /// Peak rate.
    pub eta_max: f64,
    /// Rate at the end of a task.
    pub eta_min: f64,
    /// Steps of warm-up.
    pub warmup: usize,
    /// Steps of a task.
    pub total: usize,
}

impl TaskSchedule for RepeatedCosine {
    fn lr(&self, _task: usize, n: usize) -> f64 {
        if n < self.warmup {
            return self.eta_max * n as f64 / self.warmup as f64;
        }
        let u = (n - self.warmup) as f64 / (self.total - self.warmup).max(1) as f64;
        self.eta_min + 0.5 * (self.eta_max - self.eta_min) * (1.0 + (PI * u).cos())
    }

    fn steps(&self) -> usize {
        self.total
    }

    fn check(&self) -> Result<()> {
        check_range("eta_max", self.eta_max, 0.0..)?;
        check_range("eta_min", self.eta_min, 0.0..)?;
        check_range("warm-up", self.warmup as f64, ..=self.total as f64)?;
        check_range("steps of a task", self.total as f64, 1.0..)
    }
}

/// One warm-up and cosine over all tasks together: it knows the horizon.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SingleCosine {
    /// Warm-up and cosine, `total` being the steps of all tasks together.
    pub whole: RepeatedCosine,
    /// Number of tasks, which have equal steps.
    pub tasks: usize,
}

impl TaskSchedule for SingleCosine {
    fn lr(&self, task: usize, n: usize) -> f64 {
        self.whole.lr(0, (task * self.steps() + n).min(self.whole.total))
    }

    fn steps(&self) -> usize {
        self.whole.total / self.tasks.max(1)
    }

    fn check(&self) -> Result<()> {
        self.whole.check()?;
        if self.tasks == 0 || !self.whole.total.is_multiple_of(self.tasks) {
            let expected = format!("a divisor of the {} steps", self.whole.total);
            return Err(Error::value("number of tasks", expected, self.tasks));
        }
        Ok(())
    }
}

/// A warm-up in the first task, then the same rate for ever.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ConstantRate {
    /// The rate.
    pub eta: f64,
    /// Steps of warm-up.
    pub warmup: usize,
    /// Steps of a task.
    pub total: usize,
}

impl TaskSchedule for ConstantRate {
    fn lr(&self, task: usize, n: usize) -> f64 {
        if task == 0 && n < self.warmup { self.eta * n as f64 / self.warmup as f64 } else { self.eta }
    }

    fn steps(&self) -> usize {
        self.total
    }

    fn check(&self) -> Result<()> {
        check_range("eta", self.eta, 0.0..)?;
        check_range("warm-up", self.warmup as f64, ..=self.total as f64)?;
        check_range("steps of a task", self.total as f64, 1.0..)
    }
}
