//! The preference task that the experiments share: the garland language, whose gold reward is known.

use super::language::{LmSize, Policy, Sampling, Sequence, Sequences, Supervised, minimise, sample};
use crate::plot::{Plot, Series};
use crate::results::Results;
use crate::runner::Context;
use anyhow::Result;
use autodidact_core::landscape::state_dict;
use autodidact_core::nn::Gpt;
use autodidact_core::optim::StateDict;
use autodidact_core::schedule::{Schedule, Shape};
use autodidact_core::{Result as CoreResult, error::check_range, seed, stats};
use autodidact_datasets::batch::Order;
use autodidact_datasets::synthetic::{Garland, GarlandPrompt, illegal_transitions};
use autodidact_preference::losses::PairLogProbs;
use rand::RngExt;
use rand::seq::IndexedRandom;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// The world is the same in all runs, so that rewards are.
pub(crate) fn world() -> Garland {
    Garland::new(0)
}

/// Prompts of preference data; and those kept out of it.
pub(crate) fn prompts(held_out: bool) -> Vec<GarlandPrompt> {
    GarlandPrompt::all().into_iter().filter(|p| p.is_held_out() == held_out).collect()
}

/// The language model that everything starts from: pre-trained on the corpus.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Base {
    pub lm: LmSize,
    /// Sentences of the corpus.
    pub corpus: usize,
    #[serde(flatten)]
    pub training: Supervised,
}

impl Base {
    /// The settings that go with a size.
    pub fn of(lm: LmSize) -> Self {
        let (lr, steps) = match lm {
            LmSize::S => (3e-3, 350),
            LmSize::M => (1e-3, 700),
            LmSize::L => (6e-4, 3000),
        };
        Self { lm, corpus: 6000, training: Supervised { steps, batch: 64, lr, warmup: 30, weight_decay: 0.01 } }
    }

    /// For runs that only prove that everything runs.
    pub fn smoke() -> Self {
        let base = Self::of(LmSize::S);
        Self { corpus: 1000, training: Supervised { steps: 40, warmup: 4, ..base.training }, ..base }
    }

    pub fn check(&self) -> Result<()> {
        self.training.check("base", self.corpus)
    }

    /// Its weights at a seed: made once per machine, for all experiments.
    pub fn weights(&self, seed: u64, context: &mut Context<'_>) -> Result<StateDict> {
        let device = context.plan.device;
        context.common_tensors("garland", VERSION, ("pre-trained language model", &(self, seed)), |context| {
            let world = world();
            let mut rng = seed::rng(seed, &["garland", "corpus"]);
            let corpus: Vec<Sequence> = (0..self.corpus)
                .map(|_| {
                    let (prompt, words) = world.example(&mut rng);
                    Sequence { prompt: prompt.tokens().to_vec(), response: [&words[..], &[Garland::EOS]].concat() }
                })
                .collect();
            let policy = Policy::new(self.lm, Garland::VOCAB, seed::derive(seed, &["garland", "base"]), device)?;
            let data = Sequences::new(&corpus, Garland::PAD, device)?;
            let order = seed::derive(seed, &["garland", "order"]);
            self.training.run(&policy, &data, order, |done, loss| {
                context.progress(done, self.training.steps, loss);
                Ok(())
            })?;
            Ok(state_dict(&policy.vs))
        })
    }

    pub fn policy(&self, weights: &StateDict, device: Device) -> Result<Policy> {
        Policy::with(self.lm, Garland::VOCAB, weights, device)
    }
}

/// Raised whenever a change here changes the base's weights.
const VERSION: u32 = 1;

/// A response to a request, with its gold reward.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub sequence: Sequence,
    pub reward: f64,
}

/// How answers are drawn.
pub(crate) fn sampling(temperature: f64) -> Sampling {
    Sampling { temperature, most: Garland::MOST, end: Garland::EOS, padding: Garland::PAD }
}

/// The gold reward of a response, given as tokens up to its end.
pub(crate) fn gold_reward(world: &Garland, prompt: &GarlandPrompt, response: &[i64]) -> f64 {
    let (tokens, finished) = Garland::response(response);
    world.reward(prompt, tokens, finished).total()
}

/// One answer to each prompt at a temperature.
pub(crate) fn answers(
    model: &Gpt,
    prompts: &[GarlandPrompt],
    temperature: f64,
    seed: u64,
    device: Device,
) -> Result<Vec<Answer>> {
    let rows: Vec<Vec<i64>> = prompts.iter().map(|p| p.tokens().to_vec()).collect();
    let world = world();
    let drawn = sample(model, &rows, &sampling(temperature), seed, device)?.into_iter().zip(prompts);
    let judged = drawn.map(|(sequence, prompt)| {
        let reward = gold_reward(&world, prompt, &sequence.response);
        Answer { sequence, reward }
    });
    Ok(judged.collect())
}

/// `count` prompts, all as often as each other (up to one).
pub(crate) fn spread(prompts: &[GarlandPrompt], count: usize) -> Vec<GarlandPrompt> {
    prompts.iter().copied().cycle().take(count).collect()
}

/// Pairs of answers to the same prompts with preferences drawn from the gold reward.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PairSettings {
    /// Number of pairs.
    pub count: usize,
    /// Noise of the preferences: 1 agrees with the reward in about 70 % of pairs.
    pub tau: f64,
}

/// Chosen and rejected answers.
pub(crate) struct Pairs {
    pub chosen: Vec<Answer>,
    pub rejected: Vec<Answer>,
}

impl Pairs {
    /// Samples of a model at temperature 1 on the prompts of preference data.
    pub fn of(model: &Gpt, settings: &PairSettings, seed: u64, device: Device) -> Result<Self> {
        Self::on(&prompts(false), model, settings, seed, device)
    }

    /// The same on some prompts only.
    ///
    /// # Panics
    /// Without prompts.
    pub fn on(from: &[GarlandPrompt], model: &Gpt, settings: &PairSettings, seed: u64, device: Device) -> Result<Self> {
        let mut rng = seed::rng(seed, &["pairs"]);
        let asked: Vec<GarlandPrompt> =
            (0..settings.count).map(|_| *from.choose(&mut rng).expect("there are prompts")).collect();
        let side = |name| answers(model, &asked, 1.0, seed::derive(seed, &[name]), device);
        let mut pairs = Self { chosen: vec![], rejected: vec![] };
        for (a, b) in side("first")?.into_iter().zip(side("second")?) {
            let first = rng.random_bool(Garland::preference(a.reward, b.reward, settings.tau)?);
            let (w, l) = if first { (a, b) } else { (b, a) };
            pairs.chosen.push(w);
            pairs.rejected.push(l);
        }
        Ok(pairs)
    }

    /// Share of pairs whose chosen answer has the higher reward (half of the ties).
    pub fn agreement(&self) -> f64 {
        win_rate(&rewards(&self.chosen), &rewards(&self.rejected))
    }
}

pub(crate) fn rewards(answers: &[Answer]) -> Vec<f64> {
    answers.iter().map(|a| a.reward).collect()
}

/// Share of rewards above those at the same place in `others`, ties as halves.
pub(crate) fn win_rate(rewards: &[f64], others: &[f64]) -> f64 {
    let won = rewards.iter().zip(others).map(|(a, b)| f64::from(u8::from(a > b)) + 0.5 * f64::from(u8::from(a == b)));
    won.sum::<f64>() / rewards.len().max(1) as f64
}

/// Pairs as tensors, with the reference's log-probabilities.
pub(crate) struct PairData {
    chosen: Sequences,
    rejected: Sequences,
    reference: PairLogProbs,
}

/// What a loss sees of a batch of pairs.
pub(crate) struct PairBatch {
    /// Places of the pairs in the data, `[B]`.
    pub index: Tensor,
    pub policy: PairLogProbs,
    pub reference: PairLogProbs,
    /// Tokens of the chosen responses, ends included.
    pub chosen_lengths: Tensor,
    /// Tokens of the rejected ones.
    pub rejected_lengths: Tensor,
}

impl PairBatch {
    /// The margin over the reference.
    pub fn margin(&self) -> CoreResult<Tensor> {
        self.policy.margin(&self.reference)
    }
}

impl PairData {
    pub fn new(pairs: &Pairs, reference: &Gpt, device: Device) -> Result<Self> {
        let count = pairs.chosen.len() as i64;
        // Padded together, so that a batch of both is one tensor.
        let both = pairs.chosen.iter().chain(&pairs.rejected).map(|a| &a.sequence);
        let both = Sequences::new(both, Garland::PAD, device)?;
        let reference = PairLogProbs::halves(&both.scores(reference)?)?;
        let half = |from: i64| Sequences {
            tokens: both.tokens.narrow(0, from, count),
            response: both.response.narrow(0, from, count),
        };
        Ok(Self { chosen: half(0), rejected: half(count), reference })
    }

    /// Log-probabilities of the pairs `index [B]`, the policy's with gradients.
    pub fn batch(&self, model: &Gpt, index: &Tensor) -> CoreResult<PairBatch> {
        let (w, l) = (self.chosen.rows(index), self.rejected.rows(index));
        let cat = |a: &Tensor, b: &Tensor| Tensor::cat(&[a, b], 0);
        let both = Sequences { tokens: cat(&w.tokens, &l.tokens), response: cat(&w.response, &l.response) };
        let rows = |t: &Tensor| t.index_select(0, index);
        Ok(PairBatch {
            index: index.shallow_clone(),
            policy: PairLogProbs::halves(&both.log_probs(model)?)?,
            reference: PairLogProbs::new(rows(&self.reference.chosen), rows(&self.reference.rejected))?,
            chosen_lengths: w.lengths(),
            rejected_lengths: l.lengths(),
        })
    }

    /// Logs the mean change of the log-probabilities of chosen and rejected answers since the reference.
    pub fn log_changes(&self, model: &Gpt, step: usize, context: &mut Context<'_>) -> Result<()> {
        let change = |s: &Sequences, reference: &Tensor| -> Result<f64> {
            Ok((s.scores(model)? - reference).mean(Kind::Double).double_value(&[]))
        };
        context.metric(step, CHOSEN, change(&self.chosen, &self.reference.chosen)?);
        context.metric(step, REJECTED, change(&self.rejected, &self.reference.rejected)?);
        Ok(())
    }
}

/// Training on pairs: AdamW without decay at a constant rate after warm-up, gradients clipped to norm 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PairTraining {
    pub steps: usize,
    /// Pairs of a step.
    pub batch: usize,
    pub lr: f64,
    pub warmup: usize,
}

impl PairTraining {
    pub fn check(&self, pairs: &PairSettings) -> Result<()> {
        check_range("training.steps", self.steps as f64, 1.0..)?;
        check_range("training.batch", self.batch as f64, 1.0..=pairs.count as f64)?;
        check_range("training.lr", self.lr, f64::MIN_POSITIVE..)?;
        check_range("training.warmup", self.warmup as f64, 0.0..=self.steps as f64)?;
        Ok(check_range("pairs.tau", pairs.tau, f64::MIN_POSITIVE..)?)
    }

    /// Minimises the mean over the batch of `loss`; `observe` sees how many steps are done, from 0, and the loss where it is known.
    pub fn run(
        &self,
        policy: &Policy,
        data: &PairData,
        seed: u64,
        loss: impl Fn(&PairBatch) -> CoreResult<Tensor>,
        observe: impl FnMut(usize, Option<f64>) -> Result<()>,
    ) -> Result<()> {
        let count = data.chosen.len();
        self.minimise(policy, (count, seed), |index| loss(&data.batch(&policy.model, index)?), observe)
    }

    /// The same for a loss of the places of pairs, `[B]`, of so many.
    pub fn minimise(
        &self,
        policy: &Policy,
        (count, seed): (usize, u64),
        loss: impl Fn(&Tensor) -> CoreResult<Tensor>,
        mut observe: impl FnMut(usize, Option<f64>) -> Result<()>,
    ) -> Result<()> {
        let order = Order::new(count, self.batch, seed)?;
        let schedule = Schedule::new(self.lr, self.steps, Shape::Constant).warmup(self.warmup);
        observe(0, None)?;
        minimise(
            &policy.vs,
            (schedule, 0.0, seed),
            |step| {
                let index = Tensor::from_slice(&order.batch(step.index)).to_device(policy.vs.device());
                Ok(loss(&index)?.mean(Kind::Float))
            },
            observe,
        )
    }
}

/// Metrics of training pairs: mean changes since the reference, sums over tokens.
pub(crate) const CHOSEN: &str = "change of log-probability, chosen (nats)";
pub(crate) const REJECTED: &str = "change of log-probability, rejected (nats)";
/// Metrics of samples at temperature 1.
pub(crate) const GOLD: &str = "gold reward";
pub(crate) const GOLD_ERROR: &str = "gold reward, standard error";
pub(crate) const KL: &str = "KL to the reference (nats)";
pub(crate) const FINISHED: &str = "finished (%)";
pub(crate) const GRAMMATICAL: &str = "grammatical (%)";
pub(crate) const LENGTH: &str = "words";
pub(crate) const DISTINCT: &str = "distinct bigrams (%)";

/// Samples of a policy on prompts, with what is measured of them.
pub(crate) struct Evaluation {
    pub rewards: Vec<f64>,
    pub kl: f64,
    finished: f64,
    grammatical: f64,
    length: f64,
    distinct: f64,
}

impl Evaluation {
    /// One sample to each of `asked`.
    pub fn of(policy: &Gpt, reference: &Gpt, asked: &[GarlandPrompt], seed: u64, device: Device) -> Result<Self> {
        let answers = answers(policy, asked, 1.0, seed, device)?;
        let data = Sequences::new(answers.iter().map(|a| &a.sequence), Garland::PAD, device)?;
        let ratio = data.scores(policy)? - data.scores(reference)?;
        let n = answers.len() as f64;
        let parts: Vec<_> = answers.iter().map(|a| Garland::response(&a.sequence.response)).collect();
        let percent = |count: usize| 100.0 * count as f64 / n;
        let bigrams: Vec<&[i64]> = parts.iter().flat_map(|(tokens, _)| tokens.windows(2)).collect();
        let distinct = bigrams.iter().collect::<std::collections::HashSet<_>>().len();
        Ok(Self {
            rewards: rewards(&answers),
            kl: ratio.mean(Kind::Double).double_value(&[]),
            finished: percent(parts.iter().filter(|p| p.1).count()),
            grammatical: percent(
                parts.iter().filter(|(t, f)| !t.is_empty() && illegal_transitions(t, *f) == 0).count(),
            ),
            length: parts.iter().map(|p| p.0.len()).sum::<usize>() as f64 / n,
            distinct: 100.0 * distinct as f64 / bigrams.len().max(1) as f64,
        })
    }

    pub fn gold(&self) -> f64 {
        stats::mean(&self.rewards)
    }

    /// Logs all at a step, with something behind the names.
    pub fn log(&self, step: usize, behind: &str, context: &mut Context<'_>) {
        let error = stats::standard_error(&self.rewards);
        for (metric, value) in [
            (GOLD, self.gold()),
            (GOLD_ERROR, error),
            (KL, self.kl),
            (FINISHED, self.finished),
            (GRAMMATICAL, self.grammatical),
            (LENGTH, self.length),
            (DISTINCT, self.distinct),
        ] {
            context.metric(step, &format!("{metric}{behind}"), value);
        }
    }
}

/// How far the mean gold reward of an arm falls from its maximum over the evaluations to the last, and that difference's standard error
/// over the seeds (0 where the maximum is the last).
pub(crate) struct Fall {
    pub fall: f64,
    pub error: f64,
}

impl Fall {
    pub fn of(results: &Results, arm: &str) -> Result<Self> {
        let courses =
            results.seeds(arm).into_iter().map(|s| results.series(arm, s, GOLD)).collect::<Result<Vec<_>>>()?;
        let mean = results.mean_series(arm, GOLD)?;
        let last = mean.len() - 1;
        let top = (0..=last).max_by(|a, b| mean[*a].1.total_cmp(&mean[*b].1)).expect("there are evaluations");
        let falls: Vec<f64> = courses.iter().map(|c| c[top].1 - c[last].1).collect();
        Ok(Self { fall: stats::mean(&falls), error: stats::standard_error(&falls) })
    }

    /// Whether it is more than two standard errors.
    pub fn is_clear(&self) -> bool {
        self.fall > 2.0 * self.error
    }
}

impl std::fmt::Display for Fall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} (standard error {:.2})", self.fall, self.error)
    }
}

/// Gold reward against divergence from the reference, evaluation by evaluation.
pub(crate) fn paths(results: &Results, arms: &[&str], from: &str) -> Result<Plot> {
    let mut paths = vec![];
    for (i, arm) in arms.iter().enumerate() {
        let kl = results.mean_series(arm, KL)?.into_iter().map(|p| p.1);
        let points: Vec<(f64, f64)> = kl.zip(results.mean_series(arm, GOLD)?.into_iter().map(|p| p.1)).collect();
        paths.push(Series::line(*arm, i, &points));
    }
    let n = results.plan().seeds.len();
    let caption = format!(
        "Gold reward of samples against divergence from {from}, evaluation by evaluation; means over {n} seeds."
    );
    Ok(Plot::lines("paths", &caption, "KL (nats)", "gold reward", paths))
}
