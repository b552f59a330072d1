//! One cell: offline pairs, the ability stage, and training on fresh answers (or on the pairs again).

use super::super::garland::{Answer, Evaluation, PairData, Pairs, answers, prompts, rewards, spread, win_rate};
use super::super::language::{Policy, Sequence, Sequences, minimise};
use super::model::{RewardModel, ability, verdicts};
use super::{ACCURACY, CALIBRATION, Config, MARGIN, Method, Pairing, Referee, STRENGTHS, WINS};
use crate::runner::Context;
use anyhow::Result;
use autodidact_core::nn::Gpt;
use autodidact_core::schedule::{Schedule, Shape};
use autodidact_core::{Error, Result as CoreResult, seed};
use autodidact_datasets::synthetic::{Garland, GarlandPrompt};
use autodidact_preference::losses::{dpo, ipo, soft_label_dpo};
use autodidact_preference::online_self_preferring::{RankedPair, Strengths, rloo_loss};
use rand::RngExt;
use rand::seq::IndexedRandom;
use std::cell::RefCell;
use tch::{Device, Kind, Tensor};

/// Bins of the calibration error.
const BINS: usize = 10;

pub(super) fn cell(method: Method, few: bool, config: &Config, context: &mut Context<'_>) -> Result<()> {
    let device = context.plan.device;
    let run = context.seed("run");
    let base = config.base.weights(context.cell_seed(), context)?;
    let mut pairs = Pairs::of(&config.base.policy(&base, device)?.model, &config.pairs, run, device)?;
    if few {
        pairs.chosen.truncate(config.few);
        pairs.rejected.truncate(config.few);
    }
    context.metric(0, "agreement of labels with the reward (%)", 100.0 * pairs.agreement());
    let start = ability(&base, &pairs, (config, few, run), context)?;
    let (policy, reference) = (config.base.policy(&start, device)?, config.base.policy(&start, device)?);
    let asked = spread(&prompts(false), config.samples);
    let first = rewards(&answers(&reference.model, &asked, 1.0, context.seed("start"), device)?);
    let seeds = context.arm_seed("evaluation");
    let observe = |done: usize, context: &mut Context<'_>| -> Result<()> {
        if !done.is_multiple_of(config.every) && done != config.steps {
            return Ok(());
        }
        let at = |what: &str| seed::derive(seeds, &[what, &done.to_string()]);
        let evaluation = Evaluation::of(&policy.model, &reference.model, &asked, at("samples"), device)?;
        evaluation.log(done, "", context);
        context.metric(done, WINS, 100.0 * win_rate(&evaluation.rewards, &first));
        let (accuracy, calibration) = test_judge(&policy.model, &reference.model, config, at("judge"), device)?;
        context.metric(done, ACCURACY, accuracy);
        context.metric(done, CALIBRATION, calibration);
        Ok(())
    };
    match method {
        Method::OfflineDpo | Method::OfflineIpo => {
            let data = PairData::new(&pairs, &reference.model, device)?;
            config.offline().run(
                &policy,
                &data,
                run,
                |b| match method {
                    Method::OfflineDpo => dpo(&b.margin()?, config.beta),
                    _ => ipo(&b.margin()?, config.beta),
                },
                |done, loss| {
                    context.progress(done, config.steps, loss);
                    observe(done, context)
                },
            )
        }
        Method::Rloo => {
            let reward = RewardModel::train(&start, &pairs, config, seed::derive(run, &["reward"]), device)?;
            let loss = |answers: &[Answer], _| policy_gradient(&policy, &reference, &reward, answers, config);
            online(&policy, config, loss, observe, context)
        }
        Method::Online { referee, soft, pairing } => {
            let margins = RefCell::new(vec![]);
            let strengths = RefCell::new(vec![]);
            let loss = |answers: &[Answer], step_seed: u64| -> Result<Tensor> {
                let (loss, margin, used) =
                    preference(&policy, &reference, (referee, soft, pairing, step_seed), answers, config)?;
                margins.borrow_mut().push(margin);
                if strengths.borrow().is_empty() {
                    *strengths.borrow_mut() = used;
                }
                Ok(loss)
            };
            online(&policy, config, loss, observe, context)?;
            for (step, margin) in margins.into_inner().into_iter().enumerate() {
                context.metric(step + 1, MARGIN, margin);
            }
            context.array(STRENGTHS, strengths.into_inner());
            Ok(())
        }
    }
}

/// Steps on fresh answers, K to each of some prompts, prompt by prompt; the loss also sees the step's seed.
fn online(
    policy: &Policy,
    config: &Config,
    loss: impl Fn(&[Answer], u64) -> Result<Tensor>,
    observe: impl Fn(usize, &mut Context<'_>) -> Result<()>,
    context: &mut Context<'_>,
) -> Result<()> {
    let device = policy.vs.device();
    let run = context.seed("online");
    let schedule = Schedule::new(config.lr, config.steps, Shape::Constant);
    let from = prompts(false);
    observe(0, context)?;
    minimise(
        &policy.vs,
        (schedule, 0.0, run),
        |step| {
            let step_seed = seed::derive(run, &[&step.index.to_string()]);
            let mut rng = seed::rng(step_seed, &["prompts"]);
            let asked: Vec<GarlandPrompt> = (0..config.prompts)
                .flat_map(|_| vec![*from.choose(&mut rng).expect("there are 72"); config.answers])
                .collect();
            let step = || loss(&answers(&policy.model, &asked, 1.0, step_seed, device)?, step_seed);
            step().map_err(|e| Error::Failed(format!("{e:#}")))
        },
        |done, loss| {
            context.progress(done, config.steps, loss);
            observe(done, context)
        },
    )
}

/// Log-ratios of answers to the reference, with gradients, and their log-probabilities.
fn log_ratios(policy: &Policy, reference: &Policy, answers: &[Answer]) -> Result<(Tensor, Tensor)> {
    let data = Sequences::new(answers.iter().map(|a| &a.sequence), Garland::PAD, policy.vs.device())?;
    let log_probs = data.log_probs(&policy.model)?;
    Ok((&log_probs - data.scores(&reference.model)?, log_probs))
}

/// The loss of a step of OSP (or with hard labels), the mean size of its margins, and the strengths used.
fn preference(
    policy: &Policy,
    reference: &Policy,
    (referee, soft, pairing, step_seed): (Referee, bool, Pairing, u64),
    answers: &[Answer],
    config: &Config,
) -> Result<(Tensor, f64, Vec<f64>)> {
    let device = policy.vs.device();
    let k = config.answers;
    let all = strengths(&reference.model, referee, answers, config, device)?;
    let (mut better, mut worse, mut target) = (vec![], vec![], vec![]);
    let mut rng = seed::rng(step_seed, &["pair"]);
    for (prompt, of_prompt) in all.iter().enumerate() {
        let pairs = match pairing {
            Pairing::Ranked(ranked) => ranked.pairs(of_prompt),
            Pairing::Random => {
                let first = rng.random_range(0..k);
                let second = (first + rng.random_range(1..k)) % k;
                vec![RankedPair { better: first, worse: second, strength: of_prompt.between(first, second) }]
            }
        };
        for pair in pairs {
            better.push((prompt * k + pair.better) as i64);
            worse.push((prompt * k + pair.worse) as i64);
            target.push(if soft { pair.strength } else { f64::from(u8::from(pair.strength > 0.5)) });
        }
    }
    let [better, worse] = [better, worse].map(|i| Tensor::from_slice(&i).to_device(device));
    let (ratio, _) = log_ratios(policy, reference, answers)?;
    let margin = ratio.index_select(0, &better) - ratio.index_select(0, &worse);
    let targets = Tensor::from_slice(&target).to_kind(Kind::Float).to_device(device);
    let loss = soft_label_dpo(&margin, &targets, config.beta)?.mean(Kind::Float);
    Ok((loss, margin.detach().abs().mean(Kind::Double).double_value(&[]), target))
}

/// Strengths among each prompt's answers.
fn strengths(
    judge: &Gpt,
    referee: Referee,
    answers: &[Answer],
    config: &Config,
    device: Device,
) -> Result<Vec<Strengths>> {
    let k = config.answers;
    let ordered = |prompt: &[Answer]| -> Vec<(usize, usize)> {
        (0..prompt.len()).flat_map(|i| (0..prompt.len()).map(move |j| (i, j))).filter(|(i, j)| i != j).collect()
    };
    let of_oracle = |a: &Answer, b: &Answer| Garland::preference(a.reward, b.reward, config.oracle_tau);
    let pairs: Vec<(&Answer, &Answer)> =
        answers.chunks(k).flat_map(|p| ordered(p).into_iter().map(move |(i, j)| (&p[i], &p[j]))).collect();
    let flat = match referee {
        Referee::Itself => verdicts(judge, &pairs, device)?,
        Referee::Oracle => pairs.iter().map(|(a, b)| of_oracle(a, b)).collect::<CoreResult<_>>()?,
    };
    let each = answers.chunks(k).zip(flat.chunks(k * (k - 1)));
    let all = each.map(|(prompt, values)| {
        let mut s = vec![vec![0.5; k]; k];
        ordered(prompt).into_iter().zip(values).for_each(|((i, j), &v)| s[i][j] = v);
        Ok(Strengths::debiased(&s)?)
    });
    all.collect()
}

/// RLOO on rewards of a reward model minus the weighted log-ratio to the reference.
fn policy_gradient(
    policy: &Policy,
    reference: &Policy,
    reward: &RewardModel,
    answers: &[Answer],
    config: &Config,
) -> Result<Tensor> {
    let sequences: Vec<Sequence> = answers.iter().map(|a| a.sequence.clone()).collect();
    let rewards = tch::no_grad(|| reward.rewards(&sequences))?;
    let (ratio, log_probs) = log_ratios(policy, reference, answers)?;
    let shape = [-1, config.answers as i64];
    let paid = rewards - ratio.detach() * config.kl_weight;
    Ok(rloo_loss(&log_probs.view(shape), &paid.view(shape))?)
}

/// How often the judge's debiased verdict on fresh pairs agrees with the reward, and its expected calibration error, in percent.
fn test_judge(policy: &Gpt, judge: &Gpt, config: &Config, seed: u64, device: Device) -> Result<(f64, f64)> {
    let asked = spread(&prompts(false), config.judged);
    let side = |name: &str| answers(policy, &asked, 1.0, seed::derive(seed, &[name]), device);
    let (a, b) = (side("first")?, side("second")?);
    let both = |x: &'_ [Answer], y: &'_ [Answer]| verdicts(judge, &x.iter().zip(y).collect::<Vec<_>>(), device);
    let p: Vec<f64> = both(&a, &b)?.iter().zip(both(&b, &a)?).map(|(s, t)| 0.5 * (s + 1.0 - t)).collect();
    // Whichever is preferred, with its probability, and whether the reward says so too.
    let mut bins = vec![(0.0, 0.0, 0usize); BINS];
    let mut right = 0.0;
    for ((p, a), b) in p.iter().zip(&a).zip(&b) {
        let sure = p.max(1.0 - p);
        let agrees =
            win_rate(&[if *p > 0.5 { a.reward } else { b.reward }], &[if *p > 0.5 { b.reward } else { a.reward }]);
        right += agrees;
        let bin = &mut bins[(((sure - 0.5) * 2.0 * BINS as f64) as usize).min(BINS - 1)];
        *bin = (bin.0 + sure, bin.1 + agrees, bin.2 + 1);
    }
    let n = p.len() as f64;
    let error: f64 = bins.iter().filter(|b| b.2 > 0).map(|b| (b.0 - b.1).abs() / n).sum();
    Ok((100.0 * right / n, 100.0 * error))
}
