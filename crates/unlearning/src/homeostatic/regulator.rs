//! Who sets the learning rate.

use super::Mlp;
use super::mlp::Workspace;
use autodidact_core::Result;
use autodidact_core::error::check_range;
use autodidact_core::seed::Rng;
use rand::RngExt;

/// Which gradient the simulated update takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SimGradient {
    /// The sum accumulated so far in the minibatch over the minibatch's size (the published code). Where opportunities fall on the first
    /// sample of a minibatch, that is one sample's gradient over the size.
    Accumulated,
    /// The mean over the whole minibatch, the samples to come included.
    FullMinibatch,
    /// The mean over the memory.
    Memory,
}

/// What a regulator sees.
pub trait Opportunity {
    /// The sample's label at present.
    fn label(&self) -> usize;
    /// The network's guess.
    fn guess(&self) -> usize;
    /// Accuracy on the memory (by its labels at present) of a copy of the network after one step at rate `eta`; `None` where there are fewer
    /// than `memory` samples before this one in the epoch.
    fn simulate(&mut self, memory: usize, gradient: SimGradient, eta: f64) -> Option<f64>;
}

/// What was done with a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The rate stays.
    Leave,
    /// The sample is ingested: its label moves the rate.
    Ingest,
}

/// Sets the rate of a learner, sample by sample.
pub trait Regulator {
    /// The rate at present.
    fn eta(&self) -> f64;

    /// Called before the update of the minibatch that the sample belongs to.
    fn opportunity(&mut self, seen: &mut dyn Opportunity) -> Decision;
}

/// A constant rate (LRC).
#[derive(Debug, Clone, Copy)]
pub struct Constant(pub f64);

impl Regulator for Constant {
    fn eta(&self) -> f64 {
        self.0
    }

    fn opportunity(&mut self, _: &mut dyn Opportunity) -> Decision {
        Decision::Leave
    }
}

/// How labels move the rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effect {
    /// Size of a move, `delta`.
    pub step: f64,
    /// Labels from this one on move the rate up, those below it down.
    pub up_from: usize,
    /// What a rate below 0 becomes.
    pub floor: f64,
}

impl Effect {
    /// The published values for a rate that starts at `eta`: a tenth of it, labels 5 to 9, and 1e-8.
    pub fn of(eta: f64) -> Self {
        Self { step: eta / 10.0, up_from: 5, floor: 1e-8 }
    }

    /// `eta` after a label.
    ///
    /// ```
    /// use autodidact_unlearning::homeostatic::Effect;
    /// let effect = Effect::of(0.001);
    /// assert!((effect.apply(0.001, 8) - 0.0011).abs() < 1e-15);
    /// assert!((effect.apply(0.001, 3) - 0.0009).abs() < 1e-15);
    /// assert_eq!(effect.apply(0.00005, 2), 1e-8);
    /// assert!((effect.apply(1e-8, 9) - 0.00010001).abs() < 1e-15);
    /// ```
    pub fn apply(self, eta: f64, label: usize) -> f64 {
        let moved = if label >= self.up_from { eta + self.step } else { eta - self.step };
        if moved < 0.0 { self.floor } else { moved }
    }

    fn check(self, eta: f64) -> Result<()> {
        check_range("eta", eta, 0.0..)?;
        check_range("step of the effect", self.step, 0.0..)?;
        check_range("floor of the effect", self.floor, 0.0..)
    }
}

/// Ingests with a probability, whatever the sample (LRR).
#[derive(Debug, Clone)]
pub struct RandomRegulator {
    eta: f64,
    effect: Effect,
    probability: f64,
    rng: Rng,
}

impl RandomRegulator {
    /// Starts at `eta`; the published probability is 1/2.
    ///
    /// # Errors
    /// A negative rate, step or floor, or a probability outside `[0, 1]`.
    pub fn new(eta: f64, effect: Effect, probability: f64, rng: Rng) -> Result<Self> {
        effect.check(eta)?;
        check_range("probability of ingestion", probability, 0.0..=1.0)?;
        Ok(Self { eta, effect, probability, rng })
    }
}

impl Regulator for RandomRegulator {
    fn eta(&self) -> f64 {
        self.eta
    }

    fn opportunity(&mut self, seen: &mut dyn Opportunity) -> Decision {
        if !self.rng.random_bool(self.probability) {
            return Decision::Leave;
        }
        self.eta = self.effect.apply(self.eta, seen.label());
        Decision::Ingest
    }
}

/// Whose effect is simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// That of the guessed class (the paper).
    Guess,
    /// That of the true label: a learner that never errs about what it eats.
    Oracle,
    /// None: everything is ingested.
    Always,
}

/// How [`HomeostaticRegulator`] decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Simulation {
    /// Samples remembered; opportunities with fewer before them in the epoch pass.
    pub memory: usize,
    /// The gradient of the simulated update.
    pub gradient: SimGradient,
    /// Whose effect is simulated.
    pub policy: Policy,
}

impl Default for Simulation {
    /// As published: 20 samples, the accumulated gradient, the effect of the guess.
    fn default() -> Self {
        Self { memory: 20, gradient: SimGradient::Accumulated, policy: Policy::Guess }
    }
}

/// Ingests what it expects to make it better (LRH): simulates one update with the rate as it is and as the guessed class would make it,
/// and takes the sample if the second is strictly better on the last samples. What then moves the rate is the true label.
#[derive(Debug, Clone)]
pub struct HomeostaticRegulator {
    eta: f64,
    effect: Effect,
    simulation: Simulation,
}

impl HomeostaticRegulator {
    /// Starts at `eta`.
    ///
    /// # Errors
    /// A negative rate, step or floor, or no memory.
    pub fn new(eta: f64, effect: Effect, simulation: Simulation) -> Result<Self> {
        effect.check(eta)?;
        check_range("memory", simulation.memory as f64, 1.0..)?;
        Ok(Self { eta, effect, simulation })
    }
}

impl Regulator for HomeostaticRegulator {
    fn eta(&self) -> f64 {
        self.eta
    }

    fn opportunity(&mut self, seen: &mut dyn Opportunity) -> Decision {
        let Simulation { memory, gradient, policy } = self.simulation;
        let expected = if policy == Policy::Oracle { seen.label() } else { seen.guess() };
        let taken = self.effect.apply(self.eta, expected);
        let better = match policy {
            Policy::Always => true,
            _ => {
                let leave = seen.simulate(memory, gradient, self.eta);
                let take = seen.simulate(memory, gradient, taken);
                matches!((leave, take), (Some(leave), Some(take)) if take > leave)
            }
        };
        if !better {
            return Decision::Leave;
        }
        self.eta = self.effect.apply(self.eta, seen.label());
        Decision::Ingest
    }
}

/// Accuracy of a network on samples.
pub(super) fn accuracy<'a>(
    net: &Mlp,
    samples: impl ExactSizeIterator<Item = (&'a [f32], usize)>,
    space: &mut Workspace,
) -> f64 {
    let n = samples.len();
    let right = samples.filter(|(x, label)| net.predict(x, space) == *label).count();
    right as f64 / n.max(1) as f64
}
