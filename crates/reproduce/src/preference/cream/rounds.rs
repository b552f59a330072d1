//! One cell: a tuned model that answers, ranks and trains, round after round.

use super::super::garland::{
    Answer, Evaluation, PairData, PairTraining, Pairs, answers, prompts, rewards, spread, win_rate,
};
use super::super::language::{Policy, Sequence, Sequences};
use super::{Config, LABELS, Label, Method, RATE, RATES, REWARDS, RIGHT, Ranking, SPEARMAN, TAU, TOP};
use crate::runner::Context;
use anyhow::{Result, ensure};
use autodidact_core::landscape::{load_state_dict, state_dict};
use autodidact_core::nn::Gpt;
use autodidact_core::optim::StateDict;
use autodidact_core::seed;
use autodidact_datasets::synthetic::{Garland, GarlandPrompt};
use autodidact_preference::cream::{Agreement, Consistency, best_and_worst, consistency};
use autodidact_preference::losses::soft_label_dpo;
use rand::RngExt;
use rand::seq::IndexedRandom;
use tch::{Device, Tensor};

/// Several answers to each of some prompts.
struct Asked {
    by_prompt: Vec<Vec<Answer>>,
}

impl Asked {
    fn of(model: &Gpt, config: &Config, count: usize, each: usize, seed: u64, device: Device) -> Result<Self> {
        let mut rng = seed::rng(seed, &["prompts"]);
        let from = prompts(false);
        let chosen: Vec<GarlandPrompt> = (0..count).map(|_| *from.choose(&mut rng).expect("there are 72")).collect();
        let repeated: Vec<GarlandPrompt> = chosen.iter().flat_map(|p| vec![*p; each]).collect();
        let all = answers(model, &repeated, config.temperature, seed, device)?;
        Ok(Self { by_prompt: all.chunks(each).map(<[Answer]>::to_vec).collect() })
    }

    fn sequences(&self) -> impl Iterator<Item = &Sequence> {
        self.by_prompt.iter().flatten().map(|a| &a.sequence)
    }

    /// A number for each answer, by prompt.
    fn grouped(&self, flat: &Tensor) -> Result<Vec<Vec<f64>>> {
        let flat: Vec<f64> = flat.to_kind(tch::Kind::Double).to_device(Device::Cpu).try_into()?;
        let each = self.by_prompt.first().map_or(1, Vec::len);
        Ok(flat.chunks(each).map(<[f64]>::to_vec).collect())
    }
}

/// The base, and the two first models of the loop.
struct Start {
    base: StateDict,
    before: StateDict,
    tuned: StateDict,
}

fn start(config: &Config, context: &mut Context<'_>) -> Result<Start> {
    let device = context.plan.device;
    let base = config.base.weights(context.cell_seed(), context)?;
    let run = context.seed("tuning");
    let key =
        (&config.base, config.seed_prompts, config.best_of, &config.tuning, config.before, config.temperature, run);
    let both = context.shared_tensors("tuned models", &key, |context| {
        let policy = config.base.policy(&base, device)?;
        let asked = Asked::of(&policy.model, config, config.seed_prompts, config.best_of, run, device)?;
        let best = asked.by_prompt.iter().map(|answers| {
            let best = answers.iter().max_by(|a, b| a.reward.total_cmp(&b.reward));
            &best.expect("each prompt has answers").sequence
        });
        let data = Sequences::new(best, Garland::PAD, device)?;
        let mut both = StateDict::new();
        let mut keep = |name: &str| {
            both.extend(state_dict(&policy.vs).into_iter().map(|(variable, t)| (format!("{name}.{variable}"), t)));
        };
        config.tuning.run(&policy, &data, run, |done, loss| {
            context.progress(done, config.tuning.steps, loss);
            if done == config.before {
                keep("before");
            }
            Ok(())
        })?;
        keep("tuned");
        Ok(both)
    })?;
    let part = |name: &str| -> StateDict {
        let inside = both.iter().filter_map(|(variable, t)| Some((variable.strip_prefix(name)?, t)));
        inside.map(|(variable, t)| (variable.to_owned(), t.shallow_clone())).collect()
    };
    let (before, tuned) = (part("before."), part("tuned."));
    Ok(Start { base, before, tuned })
}

/// What a model makes of its answers: scores against the base, now and of the model before.
struct Ranked {
    asked: Asked,
    scores: Vec<Vec<f64>>,
    kendall: Consistency,
}

impl Ranked {
    fn log(&self, previous: &[Vec<f64>], round: usize, pairs: Option<&Pairs>, context: &mut Context<'_>) -> Result<()> {
        let rate = |agreement| Ok::<_, anyhow::Error>(consistency(&self.scores, previous, agreement)?.mean);
        context.metric(round, RATE, self.kendall.mean);
        context.metric(round, TAU, 2.0 * self.kendall.mean - 1.0);
        context.metric(round, SPEARMAN, 2.0 * rate(Agreement::Spearman)? - 1.0);
        context.metric(round, TOP, rate(Agreement::TopOrder)?);
        if let Some(pairs) = pairs {
            context.metric(round, LABELS, 100.0 * pairs.agreement());
        }
        Ok(())
    }
}

pub(super) fn cell(method: Method, config: &Config, context: &mut Context<'_>) -> Result<()> {
    let device = context.plan.device;
    let start = start(config, context)?;
    let base = config.base.policy(&start.base, device)?;
    let policy = config.base.policy(&start.tuned, device)?;
    let previous = config.base.policy(&start.before, device)?;
    let held_out = spread(&prompts(true), 24 * config.samples);
    let run = context.seed("rounds");
    for round in 0..=config.rounds {
        let seed_of = |what: &str| seed::derive(run, &[what, &round.to_string()]);
        let evaluation = Evaluation::of(&policy.model, &base.model, &held_out, seed_of("evaluation"), device)?;
        evaluation.log(round, "", context);
        let asked = Asked::of(&policy.model, config, config.prompts, config.answers, seed_of("answers"), device)?;
        let (ranked, before) = rank(asked, &policy, &previous, &base, method.likelihood && round == 0, device)?;
        let mut rng = seed::rng(seed_of("coin"), &[]);
        let (pairs, of_prompt) = pairs_of(&ranked, method.ranking, &mut rng);
        ranked.log(&before, round, (!of_prompt.is_empty()).then_some(&pairs), context)?;
        if round == 0 {
            context.array(RATES, of_prompt.iter().map(|&p| ranked.kendall.dynamic()[p]).collect());
            let right = rewards(&pairs.chosen)
                .iter()
                .zip(rewards(&pairs.rejected))
                .map(|(w, l)| win_rate(&[*w], &[l]))
                .collect();
            context.array(RIGHT, right);
        }
        if round == config.rounds {
            context.array(REWARDS, evaluation.rewards);
            break;
        }
        let labels: Vec<f64> = match method.label {
            Label::Hard => vec![1.0; of_prompt.len()],
            Label::Fixed(c) => vec![c; of_prompt.len()],
            Label::Average => vec![ranked.kendall.mean; of_prompt.len()],
            Label::Dynamic => of_prompt.iter().map(|&p| ranked.kendall.dynamic()[p]).collect(),
        };
        load_state_dict(&previous.vs, &state_dict(&policy.vs))?;
        train(&policy, &previous.model, &pairs, &labels, config, seed_of("order"), context)?;
        context.progress(round + 1, config.rounds, None);
    }
    Ok(())
}

/// Scores of the answers under the current model and the one before, both against the base.
fn rank(
    asked: Asked,
    policy: &Policy,
    previous: &Policy,
    base: &Policy,
    likelihood: bool,
    device: Device,
) -> Result<(Ranked, Vec<Vec<f64>>)> {
    let data = Sequences::new(asked.sequences(), Garland::PAD, device)?;
    let floor = data.scores(&base.model)?;
    let scores = asked.grouped(&(data.scores(&policy.model)? - &floor))?;
    let before = if likelihood { floor / data.lengths() } else { data.scores(&previous.model)? - floor };
    let before = asked.grouped(&before)?;
    let kendall = consistency(&scores, &before, Agreement::Kendall)?;
    Ok((Ranked { asked, scores, kendall }, before))
}

/// Best and worst answers, and the prompts that they are from.
fn pairs_of(ranked: &Ranked, ranking: Ranking, rng: &mut seed::Rng) -> (Pairs, Vec<usize>) {
    let (mut pairs, mut of_prompt) = (Pairs { chosen: vec![], rejected: vec![] }, vec![]);
    for (p, answers) in ranked.asked.by_prompt.iter().enumerate() {
        let scores = match ranking {
            Ranking::Own => ranked.scores[p].clone(),
            Ranking::Gold => rewards(answers),
            Ranking::Chance => answers.iter().map(|_| rng.random()).collect(),
        };
        let texts: Vec<&[i64]> = answers.iter().map(|a| &a.sequence.response[..]).collect();
        if let Some((best, worst)) = best_and_worst(&scores, &texts) {
            pairs.chosen.push(answers[best].clone());
            pairs.rejected.push(answers[worst].clone());
            of_prompt.push(p);
        }
    }
    (pairs, of_prompt)
}

fn train(
    policy: &Policy,
    reference: &Gpt,
    pairs: &Pairs,
    labels: &[f64],
    config: &Config,
    seed: u64,
    context: &Context<'_>,
) -> Result<()> {
    let device = context.plan.device;
    ensure!(!labels.is_empty(), "the model gives the same answer to every prompt: there is nothing to rank");
    let batch = config.batch.min(labels.len());
    let training =
        PairTraining { steps: config.epochs * (labels.len() / batch), batch, lr: config.lr, warmup: config.warmup };
    let data = PairData::new(pairs, reference, device)?;
    let labels = Tensor::from_slice(labels).to_kind(tch::Kind::Float).to_device(device);
    training.run(
        policy,
        &data,
        seed,
        |batch| soft_label_dpo(&batch.margin()?, &labels.index_select(0, &batch.index), config.beta),
        |_, _| Ok(()),
    )
}
