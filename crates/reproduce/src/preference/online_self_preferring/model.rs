//! The ability stage, the judge, and a reward model.

use super::super::garland::{Answer, Pairs};
use super::super::language::{Policy, Sequence, Sequences, minimise};
use super::Config;
use crate::runner::Context;
use anyhow::Result;
use autodidact_core::landscape::state_dict;
use autodidact_core::nn::Gpt;
use autodidact_core::optim::StateDict;
use autodidact_core::schedule::{Schedule, Shape};
use autodidact_core::{Result as CoreResult, seed};
use autodidact_datasets::batch::Order;
use autodidact_datasets::synthetic::Garland;
use autodidact_preference::losses::dpo;
use tch::nn::{Linear, Module};
use tch::{Device, Kind, Tensor};

/// Asks which of two answers to a prompt is better.
fn question(prompt: &[i64], first: &[i64], second: &[i64]) -> Vec<i64> {
    let words = |answer: &[i64]| Garland::response(answer).0.to_vec();
    [prompt, &words(first), &[Garland::SEP], &words(second), &[Garland::SEP, Garland::JUDGE]].concat()
}

/// The weights after the ability stage on offline pairs.
pub(super) fn ability(
    base: &StateDict,
    pairs: &Pairs,
    (config, few, run): (&Config, bool, u64),
    context: &mut Context<'_>,
) -> Result<StateDict> {
    let device = context.plan.device;
    let key = (&config.base, &config.pairs, few.then_some(config.few), &config.ability, run);
    context.shared_tensors("model that answers and judges", &key, |context| {
        let policy = config.base.policy(base, device)?;
        let answers: Vec<Sequence> = pairs.chosen.iter().map(|a| a.sequence.clone()).collect();
        let mut verdicts = vec![];
        for (w, l) in pairs.chosen.iter().zip(&pairs.rejected) {
            for (first, second, verdict) in [(w, l, 0), (l, w, 1)] {
                let prompt = question(&w.sequence.prompt, &first.sequence.response, &second.sequence.response);
                verdicts.push(Sequence { prompt, response: vec![Garland::VERDICTS[verdict]] });
            }
        }
        let [answers, verdicts] = [&answers, &verdicts].map(|s| Sequences::new(s, Garland::PAD, device));
        let (answers, verdicts) = (answers?, verdicts?);
        let half = config.ability.batch / 2;
        let order = |data: &Sequences, name: &str| {
            Order::new(data.len(), half.clamp(1, data.len()), seed::derive(run, &[name]))
        };
        let (order_a, order_v) = (order(&answers, "answers")?, order(&verdicts, "verdicts")?);
        let stage = &config.ability;
        stage.minimise(
            &policy,
            run,
            |step| {
                let answers = answers.loss(&policy.model, &order_a.batch(step.index))?;
                Ok((answers + verdicts.loss(&policy.model, &order_v.batch(step.index))?) * 0.5)
            },
            |done, loss| {
                context.progress(done, stage.steps, loss);
                Ok(())
            },
        )?;
        Ok(state_dict(&policy.vs))
    })
}

/// Hidden states at the last token of each sequence, `[N, width]`.
fn last_hidden(model: &Gpt, data: &Sequences, lengths: &Tensor) -> CoreResult<Tensor> {
    let hidden = model.hidden(&data.tokens, None)?;
    let width = hidden.size()[2];
    let at = (lengths - 1).view([-1, 1, 1]).expand([-1, 1, width], false);
    Ok(hidden.gather(1, &at, false).squeeze_dim(1))
}

fn with_lengths(sequences: &[Sequence], device: Device) -> Result<(Sequences, Tensor)> {
    let lengths: Vec<i64> = sequences.iter().map(|s| (s.prompt.len() + s.response.len()) as i64).collect();
    Ok((Sequences::new(sequences, Garland::PAD, device)?, Tensor::from_slice(&lengths).to_device(device)))
}

/// The judge's probability for the first of two answers to one prompt, for each pair of answers.
pub(super) fn verdicts(judge: &Gpt, pairs: &[(&Answer, &Answer)], device: Device) -> Result<Vec<f64>> {
    let questions: Vec<Sequence> = pairs
        .iter()
        .map(|(a, b)| Sequence {
            prompt: question(&a.sequence.prompt, &a.sequence.response, &b.sequence.response),
            response: vec![],
        })
        .collect();
    let strengths = tch::no_grad(|| -> Result<Vec<Tensor>> {
        let parts = questions.chunks(512).map(|part| {
            let (data, lengths) = with_lengths(part, device)?;
            let logits = judge.project(&last_hidden(judge, &data, &lengths)?);
            let [a, b] = Garland::VERDICTS.map(|v| logits.select(1, v));
            Ok((a - b).sigmoid())
        });
        parts.collect()
    })?;
    Ok(Tensor::cat(&strengths, 0).to_kind(Kind::Double).to_device(Device::Cpu).try_into()?)
}

/// A language model with a linear head on its last token: Bradley-Terry rewards.
pub(super) struct RewardModel {
    policy: Policy,
    head: Linear,
}

impl RewardModel {
    /// Trained on offline pairs, from the model after the ability stage.
    pub fn train(start: &StateDict, pairs: &Pairs, config: &Config, seed: u64, device: Device) -> Result<Self> {
        let policy = config.base.policy(start, device)?;
        let head = {
            let width = policy.model.config().width;
            let head = tch::nn::linear(policy.vs.root() / "reward", width, 1, Default::default());
            tch::no_grad(|| {
                let _ = head.ws.shallow_clone().zero_();
                head.bs.iter().for_each(|b| drop(b.shallow_clone().zero_()));
            });
            head
        };
        let model = Self { policy, head };
        let of = |answers: &[Answer]| -> Vec<Sequence> { answers.iter().map(|a| a.sequence.clone()).collect() };
        let (chosen, rejected) = (of(&pairs.chosen), of(&pairs.rejected));
        let order = Order::new(chosen.len(), 32.min(chosen.len()), seed)?;
        let schedule = Schedule::new(config.reward_lr, config.reward_steps, Shape::cosine_to(0.1));
        minimise(
            &model.policy.vs,
            (schedule, 0.01, seed),
            |step| {
                let index = order.batch(step.index);
                let pick = |from: &[Sequence]| index.iter().map(|&i| from[i as usize].clone()).collect::<Vec<_>>();
                let side =
                    |s: &[Sequence]| model.rewards(s).map_err(|e| autodidact_core::Error::Failed(format!("{e:#}")));
                let margin = side(&pick(&chosen))? - side(&pick(&rejected))?;
                Ok(dpo(&margin, 1.0)?.mean(Kind::Float))
            },
            |_, _| Ok(()),
        )?;
        Ok(model)
    }

    /// Rewards `[N]`.
    pub fn rewards(&self, sequences: &[Sequence]) -> Result<Tensor> {
        let (data, lengths) = with_lengths(sequences, self.policy.vs.device())?;
        Ok(self.head.forward(&last_hidden(&self.policy.model, &data, &lengths)?).squeeze_dim(1))
    }
}
