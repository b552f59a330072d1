//! The models before unlearning: base, full (knows all authors), retain (never saw those to forget). Each is trained once per seed.

use super::task::Task;
use super::{Config, Hub};
use crate::preference::language::{Policy, Sequence, Sequences, minimise};
use crate::runner::Context;
use anyhow::{Result, ensure};
use autodidact_core::device::Precision;
use autodidact_core::landscape::{load_state_dict, state_dict};
use autodidact_core::nn::{Gpt, GptConfig};
use autodidact_core::optim::StateDict;
use autodidact_core::schedule::{Decay, Schedule, Shape};
use autodidact_core::{hub, seed};
use autodidact_datasets::batch::Order;
use autodidact_unlearning::unlearner::{Method, QuestionAnswer, Stop, UnlearnConfig, UnlearnData, Unlearner};
use serde::{Deserialize, Serialize};
use tch::Device;
use tch::nn::VarStore;

/// A model before unlearning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Stage {
    Base,
    Full,
    Retain,
}

impl Stage {
    pub const ALL: [Self; 3] = [Self::Base, Self::Full, Self::Retain];

    /// The arm that only measures it.
    pub fn arm(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Full => "full",
            Self::Retain => "retain",
        }
    }
}

/// A model of the task's kind, with any weights.
pub(super) fn blank(config: &Config, task: &Task, context: &Context<'_>) -> Result<Policy> {
    let device = context.plan.device;
    if let Some(folder) = &config.model {
        let (vs, model) = hub::load(folder, device)?;
        let (context, longest) = (model.config().context, task.longest);
        ensure!(longest as i64 <= context, "sequences have up to {longest} tokens, the model's context is {context}");
        return Ok(Policy { vs, model });
    }
    let c = &config.lm;
    let vs = VarStore::new(device);
    seed::seed_torch(context.seed("weights"), &["weights"]);
    let length = (task.longest as i64).max(c.context);
    let model = Gpt::new(vs.root(), &GptConfig::gpt2(task.format.vocabulary, length, c.width, c.depth, c.heads))?;
    Ok(Policy { vs, model })
}

/// A model with given weights.
pub(super) fn with(config: &Config, task: &Task, weights: &StateDict, context: &Context<'_>) -> Result<Policy> {
    let policy = blank(config, task, context)?;
    load_state_dict(&policy.vs, weights)?;
    Ok(policy)
}

/// The weights of a stage, from the cache if they are there.
pub(super) fn weights(stage: Stage, config: &Config, task: &Task, context: &mut Context<'_>) -> Result<StateDict> {
    if stage == Stage::Base && config.model.is_some() {
        // It is on this machine already.
        return Ok(on_cpu(&blank(config, task, context)?));
    }
    let begun = match stage {
        Stage::Base => None,
        _ if config.model.is_some() => None,
        _ => Some(weights(Stage::Base, config, task, context)?),
    };
    let seed = context.cell_seed();
    let key = (stage, seed, &config.facts, &config.tofu, &config.lm, (&config.base, &config.tuned), hub_key(config));
    context.shared_tensors(&format!("{} model", stage.arm()), &key, |context| {
        let policy = blank(config, task, context)?;
        if let Some(begun) = &begun {
            load_state_dict(&policy.vs, begun)?;
        }
        if config.model.is_some() {
            tune_published(&config.hub, &policy, stage, task, context)?;
        } else {
            train(config, &policy, stage, task, context)?;
        }
        Ok(on_cpu(&policy))
    })
}

/// A model's weights where the cache has them.
pub(super) fn on_cpu(policy: &Policy) -> StateDict {
    state_dict(&policy.vs).into_iter().map(|(name, t)| (name, t.to_device(Device::Cpu))).collect()
}

fn hub_key(config: &Config) -> serde_json::Value {
    let tuned = config.model.as_ref().map(|_| &config.hub);
    serde_json::json!([config.model, config.tokenizer, tuned])
}

/// What a stage tunes on of the authors: nothing, all, or the retained ones.
fn authors(stage: Stage, task: &Task) -> Vec<&QuestionAnswer> {
    let forget = task.material.forget.iter().filter(|_| stage == Stage::Full);
    if stage == Stage::Base { vec![] } else { task.material.retain.iter().chain(forget).collect() }
}

/// A small decoder: the base on whole sequences, then everything with losses on answers only.
fn train(config: &Config, policy: &Policy, stage: Stage, task: &Task, context: &Context<'_>) -> Result<()> {
    let mut sequences = task.base.clone();
    if stage == Stage::Base {
        // All but the first token is learnt.
        for s in &mut sequences {
            let rest = s.prompt.split_off(1);
            s.response.splice(0..0, rest);
        }
    }
    for e in authors(stage, task) {
        let sequence = Sequence { prompt: e.question.clone(), response: e.answer.clone() };
        sequences.extend([sequence.clone(), sequence]);
    }
    ensure!(!sequences.is_empty(), "there is nothing to learn before unlearning");
    let settings = if stage == Stage::Base { &config.base } else { &config.tuned };
    let data = Sequences::new(&sequences, 0, context.plan.device)?;
    let seed = context.seed(stage.arm());
    let order = Order::new(data.len(), settings.batch.min(data.len()), seed)?;
    let schedule = Schedule::new(settings.lr, settings.steps, Shape::cosine_to(0.1)).warmup(settings.warmup);
    minimise(
        &policy.vs,
        (schedule, settings.weight_decay, seed),
        |step| data.loss(&policy.model, &order.batch(step.index)),
        |done, loss| {
            context.progress(done, settings.steps, loss);
            Ok(())
        },
    )
}

/// A published model, fine-tuned on answers.
fn tune_published(hub: &Hub, policy: &Policy, stage: Stage, task: &Task, context: &Context<'_>) -> Result<()> {
    let learnt: Vec<QuestionAnswer> = authors(stage, task).into_iter().cloned().collect();
    let material = UnlearnData { forget: learnt, ..UnlearnData::default() };
    let per_epoch = material.forget.len().div_ceil(hub.batch);
    let steps = per_epoch * hub.epochs;
    let schedule =
        Schedule::new(hub.lr, steps, Shape::Decay { decay: Decay::Linear, end: 0.0 }).warmup(per_epoch.min(steps / 2));
    let config = UnlearnConfig {
        batch: hub.batch,
        micro_batch: hub.micro_batch,
        precision: precision(hub),
        ..UnlearnConfig::new(schedule, context.seed(stage.arm()))
    };
    let mut tuning = Unlearner::new(Method::FineTuning, &policy.vs, &policy.model, None, &material, config)?;
    tuning.run(Stop::Steps(steps), |p| {
        context.progress(p.done, steps, Some(p.loss));
        Ok(())
    })?;
    Ok(())
}

pub(super) fn precision(hub: &Hub) -> Precision {
    if hub.bf16 { Precision::Bf16 } else { Precision::for_training() }
}
