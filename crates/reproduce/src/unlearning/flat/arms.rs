//! The arms: what is only measured, and every method at matched forgetting and at fixed rates.

use super::data::Questions;
use super::measures::{PROBABILITY, Retrained, kept, measure, of, tells};
use super::models::{self, Stage};
use super::task::Task;
use super::{Config, FORGET, RETAINED};
use crate::preference::language::Policy;
use crate::runner::Context;
use anyhow::{Context as _, Result};
use autodidact_core::landscape::load_state_dict;
use autodidact_core::optim::StateDict;
use autodidact_core::schedule::{Decay, Schedule, Shape};
use autodidact_core::{Error, Result as CoreResult};
use autodidact_unlearning::answers::TaskVector;
use autodidact_unlearning::flat::{FDivergence, Flat};
use autodidact_unlearning::unlearner::{Method, Stop, UnlearnConfig, Unlearner, value_accuracy};

/// Metrics of the way.
pub(super) const LOSS: &str = "loss";
/// Of the forget set and of retained questions (given the true words before), by step.
pub(super) const ON_THE_WAY: &str = "known on the way";
/// Of the same sets, in greedy answers, once an epoch.
pub(super) const TOLD: &str = "told on the way";
/// Whether the forget set was forgotten, at which step, and how probable retained answers are further on.
pub(super) const REACHED: &str = "forgotten";
pub(super) const STEPS: &str = "steps to forget";
pub(super) const FURTHER: &str = "probability of retained answers further on";
pub(super) const FURTHER_KNOWN: &str = "retained values known further on";
/// The task vector's factor.
pub(super) const ALPHA: &str = "factor";

/// How a model is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Ga,
    Npo,
    Dpo,
    Idk,
    Flat(FDivergence),
    Forgetting(FDivergence),
    Gd,
    Kl,
    Po,
    NpoRetain,
    Llmu,
    Mismatch,
    TaskVector,
}

impl Change {
    /// All but FLAT, those that see the forget set only first.
    const OTHERS: [Self; 11] = [
        Self::Ga,
        Self::Npo,
        Self::Dpo,
        Self::Idk,
        Self::TaskVector,
        Self::Gd,
        Self::Kl,
        Self::Po,
        Self::NpoRetain,
        Self::Llmu,
        Self::Mismatch,
    ];
    pub const WITH_RETAINED: [Self; 6] = [Self::Gd, Self::Kl, Self::Po, Self::NpoRetain, Self::Llmu, Self::Mismatch];

    /// All that are compared.
    pub fn all() -> impl Iterator<Item = Self> {
        FDivergence::PUBLISHED.into_iter().map(Self::Flat).chain(Self::OTHERS)
    }

    pub fn name(self) -> String {
        match self {
            Self::Ga => "GA".into(),
            Self::Npo => "NPO".into(),
            Self::Dpo => "DPO".into(),
            Self::Idk => "IDK".into(),
            Self::Flat(d) => format!("FLAT {}", divergence(d)),
            Self::Forgetting(d) => format!("FLAT {} without templates", divergence(d)),
            Self::Gd => "GD".into(),
            Self::Kl => "KL".into(),
            Self::Po => "PO".into(),
            Self::NpoRetain => "NPO-RT".into(),
            Self::Llmu => "LLMU".into(),
            Self::Mismatch => "mismatch".into(),
            Self::TaskVector => "task vector".into(),
        }
    }

    /// The loss; `None` for the task vector.
    fn method(self, beta: f64) -> Option<Method> {
        Some(match self {
            Self::Ga => Method::GradientAscent,
            Self::Npo => Method::Npo { beta },
            Self::Dpo => Method::Dpo { beta },
            Self::Idk => Method::Templates,
            Self::Flat(d) => Method::Flat(Flat::new(d)),
            Self::Forgetting(d) => Method::FlatWithoutTemplates(Flat::new(d)),
            Self::Gd => Method::GradientDifference,
            Self::Kl => Method::KlToReference,
            Self::Po => Method::PreferenceOptimization,
            Self::NpoRetain => Method::NpoRetain { beta },
            Self::Llmu => Method::Llmu,
            Self::Mismatch => Method::Mismatch,
            Self::TaskVector => return None,
        })
    }
}

fn divergence(d: FDivergence) -> &'static str {
    match d {
        FDivergence::TotalVariation => "TV",
        FDivergence::Kl => "KL",
        FDivergence::JensenShannon => "JS",
        FDivergence::Pearson => "Pearson",
        FDivergence::ReverseKl => "reverse KL",
        FDivergence::SquaredHellinger => "Hellinger",
        FDivergence::Neyman => "Neyman",
        FDivergence::Jeffrey => "Jeffrey",
    }
}

/// A cell's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arm {
    Measured(Stage),
    Matched(Change),
    Rates(Change),
}

impl Arm {
    pub fn all() -> impl Iterator<Item = Self> {
        let ablations = FDivergence::PUBLISHED.into_iter().map(Change::Forgetting);
        let matched = Change::all().chain(ablations).map(Self::Matched);
        Stage::ALL.into_iter().map(Self::Measured).chain(matched).chain(Change::all().map(Self::Rates))
    }

    pub fn name(self) -> String {
        match self {
            Self::Measured(stage) => stage.arm().to_owned(),
            Self::Matched(change) => format!("matched/{}", change.name()),
            Self::Rates(change) => format!("rates/{}", change.name()),
        }
    }

    pub fn of(name: &str) -> Result<Self> {
        Self::all().find(|arm| arm.name() == name).with_context(|| format!("unknown arm {name}"))
    }
}

/// What a cell has before it begins.
struct Bench<'a> {
    config: &'a Config,
    task: Task,
    retrained: Retrained,
    full: StateDict,
    policy: Policy,
    /// The same, frozen, for methods that compare with it.
    reference: Option<Policy>,
    seed: u64,
}

pub(super) fn run(arm: Arm, config: &Config, context: &mut Context<'_>) -> Result<()> {
    let task = Task::new(config, Questions::load(config, context.plan, context.seed("facts"))?)?;
    let retrained = Retrained::get(config, &task, context)?;
    let stage = if let Arm::Measured(stage) = arm { stage } else { Stage::Full };
    let weights = models::weights(stage, config, &task, context)?;
    let policy = models::with(config, &task, &weights, context)?;
    let (Arm::Matched(change) | Arm::Rates(change)) = arm else {
        return measure(&policy.model, 0, &retrained, (config, &task), context);
    };
    let refers = change.method(config.unlearning.beta).is_some_and(Method::needs_reference);
    let reference = refers.then(|| models::with(config, &task, &weights, context)).transpose()?;
    if let Some(reference) = &reference {
        reference.vs.trainable_variables().iter().for_each(|v| _ = v.set_requires_grad(false));
    }
    let seed = context.seed("unlearning");
    let bench = Bench { config, task, retrained, full: weights, policy, reference, seed };
    match arm {
        Arm::Matched(_) => bench.matched(change, context),
        _ => bench.rates(change, context),
    }
}

impl Bench<'_> {
    fn unlearner(&self, method: Method, schedule: Schedule) -> CoreResult<Unlearner<'_>> {
        let (c, hub) = (&self.config.unlearning, &self.config.hub);
        let mut config =
            UnlearnConfig { batch: c.batch, weight_decay: c.weight_decay, ..UnlearnConfig::new(schedule, self.seed) };
        if self.config.model.is_some() {
            (config.micro_batch, config.precision) = (hub.micro_batch, models::precision(hub));
        }
        let reference = self.reference.as_ref().map(|r| &r.model);
        Unlearner::new(method, &self.policy.vs, &self.policy.model, reference, &self.task.material, config)
    }

    fn measure(&self, step: usize, context: &mut Context<'_>) -> Result<()> {
        measure(&self.policy.model, step, &self.retrained, (self.config, &self.task), context)
    }

    fn forget_accuracy(&self) -> CoreResult<f64> {
        value_accuracy(&self.policy.model, &self.task.forget.exchanges)
    }

    /// What is known at a step, and told.
    fn look(&self, step: usize, greedy: bool, context: &mut Context<'_>) -> Result<()> {
        let [p, known] = kept(&self.policy.model, &self.task)?;
        context.metric(step, &of(ON_THE_WAY, FORGET), self.forget_accuracy()?);
        context.metric(step, &of(ON_THE_WAY, RETAINED), known);
        context.metric(step, &of(&format!("{PROBABILITY} {ON_THE_WAY}"), RETAINED), p);
        if greedy {
            let [forget, retained] = tells(&self.policy.model, (self.config, &self.task), context)?;
            context.metric(step, &of(TOLD, FORGET), forget);
            context.metric(step, &of(TOLD, RETAINED), retained);
        }
        Ok(())
    }

    /// Until the forget set is forgotten, and further.
    fn matched(&self, change: Change, context: &mut Context<'_>) -> Result<()> {
        let c = &self.config.unlearning;
        let Some(method) = change.method(c.beta) else { return self.matched_vector(context) };
        let total = c.most + c.further;
        let schedule = Schedule::new(c.lr, total, Shape::Constant).warmup(c.warmup.min(total));
        let mut unlearner = self.unlearner(method, schedule)?;
        let epoch = unlearner.steps_per_epoch();
        self.look(0, true, context)?;
        // The runner's errors and the library's are of two kinds.
        let failed = |e: anyhow::Error| Error::Failed(format!("{e:#}"));
        let stop = Stop::ForgetAccuracy { at_most: c.known, max_steps: c.most };
        let outcome = unlearner.run(stop, |p| {
            context.metric(p.done, LOSS, p.loss);
            context.progress(p.done, total, Some(p.loss));
            let last = p.done == c.most || p.forget_accuracy.is_some_and(|a| a <= c.known);
            self.look(p.done, last || p.done.is_multiple_of(epoch), context).map_err(failed)
        })?;
        context.metric(outcome.steps, REACHED, f64::from(u8::from(outcome.met)));
        context.metric(outcome.steps, STEPS, outcome.steps as f64);
        self.measure(outcome.steps, context)?;
        let further = unlearner.run(Stop::Steps(c.further), |p| {
            context.metric(p.done, LOSS, p.loss);
            context.progress(p.done, total, Some(p.loss));
            Ok(())
        })?;
        let [p, known] = kept(&self.policy.model, &self.task)?;
        context.metric(further.steps, FURTHER, p);
        context.metric(further.steps, FURTHER_KNOWN, known);
        Ok(())
    }

    /// The difference that learning the forget set further makes.
    fn vector(&self, lr: f64) -> Result<TaskVector> {
        let epochs = self.config.unlearning.vector_epochs;
        load_state_dict(&self.policy.vs, &self.full)?;
        let schedule = Schedule::new(lr, 1, Shape::Constant);
        self.unlearner(Method::FineTuning, schedule)?.run(Stop::Epochs(epochs), |_| Ok(()))?;
        Ok(TaskVector::between(&self.full, &models::on_cpu(&self.policy))?)
    }

    fn matched_vector(&self, context: &mut Context<'_>) -> Result<()> {
        let c = &self.config.unlearning;
        let vector = self.vector(c.lr)?;
        let mut met = false;
        for (i, alpha) in c.alphas.iter().enumerate() {
            load_state_dict(&self.policy.vs, &vector.subtracted_from(&self.full, *alpha)?)?;
            self.look(i + 1, true, context)?;
            context.metric(i + 1, ALPHA, *alpha);
            met = self.forget_accuracy()? <= c.known;
            if met {
                break;
            }
        }
        context.metric(0, REACHED, f64::from(u8::from(met)));
        self.measure(0, context)
    }

    /// The same number of epochs at every rate, the rate falling to 0. The step of a metric is the rate's place.
    fn rates(&self, change: Change, context: &mut Context<'_>) -> Result<()> {
        let (c, rates) = (&self.config.unlearning, &self.config.rates);
        for (i, lr) in rates.lr.iter().enumerate() {
            load_state_dict(&self.policy.vs, &self.full)?;
            if let Some(method) = change.method(c.beta) {
                let steps = self.task.material.forget.len().div_ceil(c.batch) * rates.epochs;
                let shape = Shape::Decay { decay: Decay::Linear, end: 0.0 };
                let schedule = Schedule::new(*lr, steps, shape).warmup(c.warmup.min(steps));
                self.unlearner(method, schedule)?.run(Stop::Steps(steps), |_| Ok(()))?;
            } else {
                let vector = self.vector(*lr)?;
                load_state_dict(&self.policy.vs, &vector.subtracted_from(&self.full, c.alpha)?)?;
            }
            context.progress(i + 1, rates.lr.len(), None);
            self.measure(i, context)?;
        }
        Ok(())
    }
}
