//! Learning-rate schedules, as pure functions of the step.
//!
//! ```
//! use autodidact_core::schedule::{Schedule, Shape};
//! // Barlow Twins, batch 2048: warm-up over 10 of 1000 epochs to 1.6, then a cosine to a thousandth.
//! let s = Schedule::new(1.6, 1000, Shape::cosine_to(0.001)).warmup(10);
//! assert_eq!((s.lr(5), s.lr(10), s.lr(1000)), (0.8, 1.6, 0.0016));
//! assert!((s.lr(505) - 0.8008).abs() < 1e-12);
//! ```

use crate::error::check_range;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// How a cool-down goes from 1 to its end value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Decay {
    /// `1 - x`.
    Linear,
    /// `(1 + cos(pi x)) / 2`.
    Cosine,
    /// `1 - sqrt(x)` (Hägele et al., 2024).
    OneMinusSqrt,
    /// Geometric: the end value to the power of `x`; needs an end above 0.
    Exponential,
}

impl Decay {
    /// The factor at fraction `x` in `[0, 1]` of the cool-down, from 1 to `end`.
    pub fn factor(self, x: f64, end: f64) -> f64 {
        let x = x.clamp(0.0, 1.0);
        let q = match self {
            Decay::Linear => 1.0 - x,
            Decay::Cosine => (1.0 + (PI * x).cos()) / 2.0,
            Decay::OneMinusSqrt => 1.0 - x.sqrt(),
            Decay::Exponential => return end.powf(x),
        };
        q + end * (1.0 - q)
    }
}

/// The shape of a schedule after warm-up, as factors of the peak.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Shape {
    /// Constant at the peak.
    Constant,
    /// One decay over all steps after the warm-up.
    Decay {
        /// The curve.
        decay: Decay,
        /// Final factor.
        end: f64,
    },
    /// A cosine whose half period is `cycle` steps (from step 0, warm-up included) whatever the run's length.
    CosineCycle {
        /// Steps from the start to the minimum.
        cycle: usize,
        /// Factor at the minimum, held afterwards.
        end: f64,
    },
    /// Warm-up, stable, decay: constant, then a cool-down over the last `cooldown` fraction of all steps.
    Wsd {
        /// Fraction of all steps, in `[0, 1]`.
        cooldown: f64,
        /// The cool-down's curve.
        decay: Decay,
        /// Final factor.
        end: f64,
    },
    /// Piecewise constant: from each step on, the factor beside it (1 before the first).
    Steps(Vec<(usize, f64)>),
    /// Cosines from the peak to `end` that start again every `period` steps (warm restarts).
    Restarts {
        /// Steps of one cycle.
        period: usize,
        /// Factor at the end of a cycle.
        end: f64,
    },
}

impl Shape {
    /// A cosine over the whole run to a fraction `end` of the peak.
    pub fn cosine_to(end: f64) -> Self {
        Shape::Decay { decay: Decay::Cosine, end }
    }

    /// Warm-up, stable, decay with a cool-down to zero.
    pub fn wsd(cooldown: f64, decay: Decay) -> Self {
        Shape::Wsd { cooldown, decay, end: 0.0 }
    }

    /// Constant, then constant at `factor` from step `at` on.
    pub fn two_stage(at: usize, factor: f64) -> Self {
        Shape::Steps(vec![(at, factor)])
    }
}

/// A schedule over steps `0..=total`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// Peak learning rate.
    pub peak: f64,
    /// Steps of linear warm-up from 0; the peak is reached at step `warmup`.
    pub warmup: usize,
    /// Total steps, warm-up included.
    pub total: usize,
    /// What follows the warm-up.
    pub shape: Shape,
}

impl Schedule {
    /// A schedule without warm-up.
    pub fn new(peak: f64, total: usize, shape: Shape) -> Self {
        Self { peak, warmup: 0, total, shape }
    }

    /// The same with a linear warm-up.
    pub fn warmup(mut self, steps: usize) -> Self {
        self.warmup = steps;
        self
    }

    /// Checks the schedule, as every [`Trainer`](crate::train::Trainer) does.
    ///
    /// # Errors
    /// A peak or a factor that is negative or not finite, a warm-up longer than the run, a cool-down outside `[0, 1]`, an
    /// exponential cool-down to 0 (which has no geometric path), an empty cycle.
    pub fn check(&self) -> Result<()> {
        check_range("peak learning rate", self.peak, 0.0..)?;
        if self.warmup > self.total {
            return Err(Error::value("warm-up", format!("at most the {} steps of the run", self.total), self.warmup));
        }
        let end_of = |decay: Decay, end: f64| {
            let lowest = if decay == Decay::Exponential { f64::MIN_POSITIVE } else { 0.0 };
            check_range("final factor of the schedule", end, lowest..)
        };
        let cycle_of = |steps: usize| match steps {
            0 => Err(Error::value("cycle of the schedule", "at least 1 step", 0)),
            _ => Ok(()),
        };
        match &self.shape {
            Shape::Constant => Ok(()),
            Shape::Decay { decay, end } => end_of(*decay, *end),
            Shape::Wsd { cooldown, decay, end } => {
                check_range("cool-down", *cooldown, 0.0..=1.0)?;
                end_of(*decay, *end)
            }
            Shape::CosineCycle { cycle: steps, end } | Shape::Restarts { period: steps, end } => {
                cycle_of(*steps)?;
                end_of(Decay::Cosine, *end)
            }
            Shape::Steps(steps) => steps.iter().try_for_each(|s| check_range("factor of the schedule", s.1, 0.0..)),
        }
    }

    /// The learning rate at a step.
    pub fn lr(&self, step: usize) -> f64 {
        if step < self.warmup {
            return self.peak * step as f64 / self.warmup as f64;
        }
        let span =
            |from: usize, to: usize| (step.saturating_sub(from)) as f64 / (to.saturating_sub(from)).max(1) as f64;
        let factor = match &self.shape {
            Shape::Constant => 1.0,
            Shape::Decay { decay, end } => decay.factor(span(self.warmup, self.total), *end),
            Shape::CosineCycle { cycle, end } => Decay::Cosine.factor(span(self.warmup, *cycle), *end),
            Shape::Wsd { cooldown, decay, end } => {
                let start = self.total - (cooldown.clamp(0.0, 1.0) * self.total as f64).round() as usize;
                if step < start { 1.0 } else { decay.factor(span(start, self.total), *end) }
            }
            Shape::Steps(steps) => steps.iter().rev().find(|(at, _)| step >= *at).map_or(1.0, |(_, f)| *f),
            Shape::Restarts { period, end } => {
                let phase = (step - self.warmup) % (*period).max(1);
                Decay::Cosine.factor(phase as f64 / (*period).max(1) as f64, *end)
            }
        };
        self.peak * factor
    }

    /// Learning rates of steps `0..=total`.
    pub fn lrs(&self) -> Vec<f64> {
        (0..=self.total).map(|s| self.lr(s)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_starts_at_the_peak_and_ends_where_it_says() {
        let end = 0.1;
        for (shape, last) in [
            (Shape::Constant, 1.0),
            (Shape::cosine_to(end), end),
            (Shape::Decay { decay: Decay::Linear, end }, end),
            (Shape::CosineCycle { cycle: 100, end }, end),
            (Shape::Wsd { cooldown: 0.2, decay: Decay::OneMinusSqrt, end }, end),
            (Shape::Wsd { cooldown: 0.2, decay: Decay::Exponential, end }, end),
            (Shape::two_stage(50, end), end),
        ] {
            let s = Schedule::new(2.0, 100, shape.clone()).warmup(10);
            assert_eq!(s.lr(0), 0.0, "{shape:?}");
            assert_eq!(s.lr(5), 1.0, "{shape:?}");
            assert_eq!(s.lr(10), 2.0, "{shape:?}");
            assert!((s.lr(100) - 2.0 * last).abs() < 1e-12, "{shape:?}: {}", s.lr(100));
        }
    }

    #[test]
    fn the_cooldown_takes_the_last_fraction_and_restarts_restart() {
        let s = Schedule::new(1.0, 100, Shape::wsd(0.2, Decay::Linear));
        assert_eq!((s.lr(80), s.lr(90)), (1.0, 0.5));
        let s = Schedule::new(1.0, 100, Shape::Restarts { period: 40, end: 0.0 });
        assert_eq!((s.lr(0), s.lr(40), s.lr(80)), (1.0, 1.0, 1.0));
        assert!((s.lr(20) - 0.5).abs() < 1e-12);
        assert_eq!(s.lrs().len(), 101);
    }

    #[test]
    fn exponential_decay_is_geometric_and_cannot_end_at_0() {
        let half = Decay::Exponential.factor(0.5, 0.01);
        assert!((half - 0.1).abs() < 1e-12);
        assert!(
            Schedule::new(1.0, 100, Shape::Wsd { cooldown: 0.2, decay: Decay::Exponential, end: 0.01 }).check().is_ok()
        );
        let e = Schedule::new(1.0, 100, Shape::wsd(0.2, Decay::Exponential)).check().unwrap_err();
        assert!(e.to_string().starts_with("final factor of the schedule: expected a finite number"), "{e}");
    }

    #[test]
    fn schedules_that_make_no_sense_are_errors() {
        assert!(Schedule::new(f64::NAN, 10, Shape::Constant).check().is_err());
        assert!(Schedule::new(1.0, 10, Shape::Constant).warmup(11).check().is_err());
        assert!(Schedule::new(1.0, 10, Shape::wsd(1.5, Decay::Linear)).check().is_err());
        assert!(Schedule::new(1.0, 10, Shape::Restarts { period: 0, end: 0.0 }).check().is_err());
        assert!(Schedule::new(1.0, 10, Shape::two_stage(5, -1.0)).check().is_err());
        assert!(Schedule::new(1.0, 10, Shape::cosine_to(0.0)).warmup(10).check().is_ok());
    }
}
