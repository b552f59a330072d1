//! One cell of the language task: a reference that can edit, training on pairs, answers and their revisions.

use super::super::garland::{Answer, PairData, Pairs, answers, gold_reward, prompts, sampling, win_rate, world};
use super::super::language::{Policy, Sequence, Sequences, sample};
use super::{COPIES, Config, Method, SETS, gold, wins, words};
use crate::runner::Context;
use anyhow::Result;
use autodidact_core::landscape::state_dict;
use autodidact_core::nn::Gpt;
use autodidact_core::optim::StateDict;
use autodidact_core::{Result as CoreResult, seed, stats};
use autodidact_datasets::synthetic::{Garland, GarlandPrompt};
use autodidact_preference::losses::{dpo, ipo};
use autodidact_preference::srpo::{RevisionTemplate, Srpo, SrpoLogRatios};
use tch::{Device, Tensor};

fn template() -> RevisionTemplate {
    RevisionTemplate { marker: vec![Garland::REV], end: Garland::EOS }
}

/// Whether pairs may have this topic.
fn is_known(prompt: &GarlandPrompt) -> bool {
    prompt.topic < 2
}

/// Prompts of one of [`SETS`].
fn in_set(set: usize, prompt: &GarlandPrompt) -> bool {
    match set {
        0 => is_known(prompt) && !prompt.is_held_out(),
        1 => is_known(prompt) && prompt.is_held_out(),
        _ => !is_known(prompt),
    }
}

/// The reference: half of its corpus are sentences, half edits of sentences.
fn reference(config: &Config, context: &mut Context<'_>) -> Result<StateDict> {
    let device = context.plan.device;
    let run = context.seed("reference");
    let base = &config.base;
    context.shared_tensors("reference that edits", &(base, run), |context| {
        let world = world();
        let mut rng = seed::rng(run, &["corpus"]);
        let end = |words: &[i64]| [words, &[Garland::EOS]].concat();
        let corpus: Vec<Sequence> = (0..base.corpus)
            .map(|i| {
                let (prompt, words) = world.example(&mut rng);
                let prompt_tokens = prompt.tokens().to_vec();
                if i % 2 == 0 {
                    return Sequence { prompt: prompt_tokens, response: end(&words) };
                }
                let edited = world.edited(prompt.topic, &words, &mut rng);
                Sequence { prompt: template().context(&prompt_tokens, &words), response: end(&edited) }
            })
            .collect();
        let policy = Policy::new(base.lm, Garland::VOCAB, run, device)?;
        let data = Sequences::new(&corpus, Garland::PAD, device)?;
        base.training.run(&policy, &data, seed::derive(run, &["order"]), |done, loss| {
            context.progress(done, base.training.steps, loss);
            Ok(())
        })?;
        Ok(state_dict(&policy.vs))
    })
}

pub(super) fn cell(method: Method, config: &Config, context: &mut Context<'_>) -> Result<()> {
    let device = context.plan.device;
    let weights = reference(config, context)?;
    let (policy, reference) = (config.base.policy(&weights, device)?, config.base.policy(&weights, device)?);
    let asked: Vec<GarlandPrompt> = prompts(false).into_iter().filter(is_known).collect();
    let pairs = Pairs::on(&asked, &reference.model, &config.pairs, context.seed("pairs"), device)?;
    context.metric(0, "agreement of labels with the reward (%)", 100.0 * pairs.agreement());
    let order = context.seed("order");
    let data = || PairData::new(&pairs, &reference.model, device);
    let report = |done: usize, loss: Option<f64>, context: &Context<'_>| {
        context.progress(done, config.training.steps, loss);
        Ok(())
    };
    match method {
        Method::Reference => {}
        Method::Dpo => config.training.run(
            &policy,
            &data()?,
            order,
            |b| dpo(&b.margin()?, config.beta),
            |done, loss| report(done, loss, context),
        )?,
        Method::Ipo => config.training.run(
            &policy,
            &data()?,
            order,
            |b| ipo(&b.margin()?, config.beta),
            |done, loss| report(done, loss, context),
        )?,
        Method::Srpo { alpha } => {
            let srpo = Srpo { beta: config.srpo_beta, alpha };
            let six = Six::new(&pairs, &reference.model, device)?;
            config.training.minimise(
                &policy,
                (pairs.chosen.len(), order),
                |index| Ok(srpo.forward(&six.ratios(&policy.model, index)?, None)?.total),
                |done, loss| report(done, loss, context),
            )?;
        }
    }
    for (set, name) in SETS.iter().enumerate() {
        revise(&policy.model, set, name, config, context)?;
    }
    Ok(())
}

/// The six sequences of each pair, with the reference's log-probabilities.
struct Six {
    sequences: Vec<Sequences>,
    reference: Vec<Tensor>,
}

impl Six {
    fn new(pairs: &Pairs, reference: &Gpt, device: Device) -> Result<Self> {
        let given = |context: &Answer, response: &Answer| Sequence {
            prompt: template().context(&context.sequence.prompt, &context.sequence.response),
            response: response.sequence.response.clone(),
        };
        let both = || pairs.chosen.iter().zip(&pairs.rejected);
        // In the order of the fields of the log-ratios.
        let sides: [Vec<Sequence>; 6] = [
            pairs.chosen.iter().map(|a| a.sequence.clone()).collect(),
            pairs.rejected.iter().map(|a| a.sequence.clone()).collect(),
            both().map(|(w, l)| given(l, w)).collect(),
            both().map(|(w, l)| given(w, l)).collect(),
            pairs.chosen.iter().map(|w| given(w, w)).collect(),
            pairs.rejected.iter().map(|l| given(l, l)).collect(),
        ];
        let sequences = sides.iter().map(|s| Sequences::new(s, Garland::PAD, device)).collect::<Result<Vec<_>>>()?;
        let reference = sequences.iter().map(|s| s.scores(reference)).collect::<CoreResult<Vec<_>>>()?;
        Ok(Self { sequences, reference })
    }

    fn ratios(&self, model: &Gpt, index: &Tensor) -> CoreResult<SrpoLogRatios> {
        let of = |side: usize| -> CoreResult<Tensor> {
            let log_probs = self.sequences[side].rows(index).log_probs(model)?;
            Ok(log_probs - self.reference[side].index_select(0, index))
        };
        Ok(SrpoLogRatios {
            chosen: of(0)?,
            rejected: of(1)?,
            chosen_given_rejected: of(2)?,
            rejected_given_chosen: of(3)?,
            chosen_given_chosen: of(4)?,
            rejected_given_rejected: of(5)?,
        })
    }
}

/// Answers to the prompts of corpus sentences, and their revisions, against those sentences.
fn revise(model: &Gpt, set: usize, name: &str, config: &Config, context: &mut Context<'_>) -> Result<()> {
    let device = context.plan.device;
    let world = world();
    // The same in all runs.
    let mut rng = seed::rng(0, &["srpo", "corpus answers", name]);
    let (mut asked, mut corpus) = (vec![], vec![]);
    while asked.len() < config.compared {
        let (prompt, words) = world.example(&mut rng);
        if in_set(set, &prompt) {
            asked.push(prompt);
            corpus.push(world.reward(&prompt, &words, true).total());
        }
    }
    let run = context.arm_seed(name);
    let mut now: Vec<Vec<i64>> = answers(model, &asked, 1.0, seed::derive(run, &["0"]), device)?
        .into_iter()
        .map(|a| a.sequence.response)
        .collect();
    for revision in 0..=config.revisions {
        if revision > 0 {
            let contexts: Vec<Vec<i64>> =
                asked.iter().zip(&now).map(|(p, y)| template().context(&p.tokens(), y)).collect();
            let next = sample(model, &contexts, &sampling(1.0), seed::derive(run, &[&revision.to_string()]), device)?;
            let next: Vec<Vec<i64>> = next.into_iter().map(|s| s.response).collect();
            if set == 0 && revision == 1 {
                let same = now.iter().zip(&next).filter(|(a, b)| a == b).count();
                context.metric(1, COPIES, 100.0 * same as f64 / now.len() as f64);
            }
            now = next;
        }
        let rewards: Vec<f64> = asked.iter().zip(&now).map(|(p, y)| gold_reward(&world, p, y)).collect();
        let length = now.iter().map(|y| Garland::response(y).0.len() as f64).collect::<Vec<_>>();
        context.metric(revision, &wins(name), 100.0 * win_rate(&rewards, &corpus));
        context.metric(revision, &gold(name), stats::mean(&rewards));
        context.metric(revision, &words(name), stats::mean(&length));
    }
    Ok(())
}
