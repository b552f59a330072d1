//! What all arms of a seed share: the generator, its rollouts on training problems, its samples on test problems, rollouts from steps.

use super::super::language::{LmSize, Policy, Sampling, Sequence, Sequences, sample};
use super::Config;
use crate::runner::Context;
use anyhow::{Context as _, Result};
use autodidact_core::error::check_range;
use autodidact_core::landscape::state_dict;
use autodidact_core::optim::{Adam, Group, Optimizer, Rule, StateDict};
use autodidact_core::schedule::{Schedule, Shape};
use autodidact_core::seed;
use autodidact_datasets::synthetic::{RegisterCheck, RegisterMachine};
use autodidact_preference::implicit_prm::{MonteCarlo, monte_carlo_step_labels};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

const PROMPT: usize = RegisterMachine::PROMPT;
pub(super) const STEPS: usize = RegisterMachine::STEPS;
const SOLUTION: usize = RegisterMachine::SOLUTION;

/// Column of the last token of a step (from 0) in a sequence with a well-formed response.
pub(super) fn step_end(step: usize) -> usize {
    PROMPT + 3 * step + 2
}

/// The generator: trained on right solutions until it is right often enough.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Generator {
    pub lr: f64,
    pub warmup: usize,
    pub batch: usize,
    /// Every so many steps its samples on so many problems are checked,
    pub every: usize,
    pub probes: usize,
    /// and training ends where this share is right,
    pub accuracy: f64,
    /// or after so many steps.
    pub limit: usize,
}

impl Generator {
    pub fn check(&self) -> Result<()> {
        for (what, count) in
            [("batch", self.batch), ("every", self.every), ("probes", self.probes), ("limit", self.limit)]
        {
            check_range(&format!("generator.{what}"), count as f64, 1.0..)?;
        }
        check_range("generator.lr", self.lr, f64::MIN_POSITIVE..)?;
        Ok(check_range("generator.accuracy", self.accuracy, 0.0..=1.0)?)
    }

    fn train(&self, lm: LmSize, seed: u64, context: &mut Context<'_>) -> Result<Policy> {
        let device = context.plan.device;
        let policy = Policy::new(lm, RegisterMachine::VOCAB, seed::derive(seed, &["generator"]), device)?;
        let probes = problems(self.probes, seed, "probes");
        let mut chains = seed::rng(seed, &["chains"]);
        let schedule = Schedule::new(self.lr, self.limit.max(self.warmup), Shape::Constant).warmup(self.warmup);
        let mut optimizer = Optimizer::new(Rule::AdamW(Adam::default()), vec![Group::all(&policy.vs, 0.01)])?;
        for step in 0..self.limit {
            let batch: Vec<Sequence> = (0..self.batch)
                .map(|_| {
                    let problem = RegisterMachine::random(&mut chains);
                    Sequence { prompt: problem.tokens(), response: problem.solution() }
                })
                .collect();
            let batch = Sequences::new(&batch, RegisterMachine::PAD, device)?;
            optimizer.zero_grad();
            let all: Vec<i64> = (0..batch.len() as i64).collect();
            batch.loss(&policy.model, &all)?.backward();
            let _ = optimizer.clip_grad_norm(1.0)?;
            optimizer.step(schedule.lr(step))?;
            if (step + 1) % self.every == 0 {
                let drawn = responses(&policy, &probes, 1, 1.0, seed::derive(seed, &["probe", &step.to_string()]))?;
                let right = probes.iter().zip(&drawn).filter(|(p, r)| p.check(&r.response).outcome).count();
                context.progress(step + 1, self.limit, None);
                if right as f64 >= self.accuracy * self.probes as f64 {
                    break;
                }
            }
        }
        Ok(policy)
    }
}

fn problems(count: usize, seed: u64, what: &str) -> Vec<RegisterMachine> {
    let mut rng = seed::rng(seed, &["problems", what]);
    (0..count).map(|_| RegisterMachine::random(&mut rng)).collect()
}

fn sampling(temperature: f64) -> Sampling {
    Sampling { temperature, most: SOLUTION, end: RegisterMachine::EOS, padding: RegisterMachine::PAD }
}

/// So many responses to each problem, one after the other.
pub(super) fn responses(
    policy: &Policy,
    problems: &[RegisterMachine],
    each: usize,
    temperature: f64,
    seed: u64,
) -> Result<Vec<Sequence>> {
    let prompts: Vec<Vec<i64>> = problems.iter().flat_map(|p| std::iter::repeat_n(p.tokens(), each)).collect();
    sample(&policy.model, &prompts, &sampling(temperature), seed, policy.vs.device())
}

/// Responses to problems, with what is right in them and the generator's log-probabilities.
pub(super) struct Rollouts {
    pub problems: Vec<RegisterMachine>,
    /// Responses to each problem.
    pub each: usize,
    pub sequences: Vec<Sequence>,
    pub checks: Vec<RegisterCheck>,
    pub data: Sequences,
    /// `[N, T]`.
    pub reference: Tensor,
}

impl Rollouts {
    fn new(
        problems: Vec<RegisterMachine>,
        each: usize,
        tokens: &Tensor,
        reference: &Tensor,
        device: Device,
    ) -> Result<Self> {
        let rows: Vec<i64> = tokens.reshape([-1]).try_into()?;
        let sequences: Vec<Sequence> = rows
            .chunks(SOLUTION)
            .enumerate()
            .map(|(i, row)| {
                let count = row.iter().position(|&t| t == RegisterMachine::EOS).map_or(SOLUTION, |end| end + 1);
                Sequence { prompt: problems[i / each].tokens(), response: row[..count].to_vec() }
            })
            .collect();
        let checks = sequences.iter().enumerate().map(|(i, s)| problems[i / each].check(&s.response)).collect();
        let data = Sequences::new(&sequences, RegisterMachine::PAD, device)?;
        let reference = reference.narrow(1, 0, data.tokens.size()[1]).to_device(device);
        Ok(Self { problems, each, sequences, checks, data, reference })
    }

    /// Sampled tokens of the first so many problems.
    pub fn tokens(&self, problems: usize) -> u64 {
        self.sequences[..problems * self.each].iter().map(|s| s.response.len() as u64).sum()
    }

    pub fn device(&self) -> Device {
        self.data.tokens.device()
    }
}

/// Responses and their log-probabilities under the policy that gave them, for the cache.
fn put(name: &str, all: &[Sequence], policy: &Policy, into: &mut StateDict) -> Result<()> {
    let padded = |s: &Sequence| [&s.response[..], &vec![RegisterMachine::PAD; SOLUTION - s.response.len()]].concat();
    let tokens: Vec<i64> = all.iter().flat_map(padded).collect();
    let device = policy.vs.device();
    let data = Sequences::new(all, RegisterMachine::PAD, device)?;
    let each = data.in_parts(|part| part.token_log_probs(&policy.model))?;
    let missing = (PROMPT + SOLUTION) as i64 - each.size()[1];
    into.insert(format!("{name} tokens"), Tensor::from_slice(&tokens).view([-1, SOLUTION as i64]));
    into.insert(format!("{name} log-probabilities"), each.constant_pad_nd([0, missing]).to_device(Device::Cpu));
    Ok(())
}

/// Everything that the arms of a seed start from.
pub(super) struct Stage {
    weights: StateDict,
    lm: LmSize,
    pub train: Rollouts,
    pub test: Rollouts,
}

impl Stage {
    pub fn new(config: &Config, context: &mut Context<'_>) -> Result<Self> {
        let device = context.plan.device;
        let seed = context.seed("task");
        let sizes = [config.problems, config.responses, config.test_problems, config.samples];
        let key = (config.lm, &config.generator, sizes, seed);
        let [train, test] = [("train", config.problems), ("test", config.test_problems)]
            .map(|(what, count)| problems(count, seed, what));
        let mut all = context.shared_tensors("generator and its rollouts", &key, |context| {
            let policy = config.generator.train(config.lm, seed, context)?;
            let mut out: StateDict =
                state_dict(&policy.vs).into_iter().map(|(name, t)| (format!("weights {name}"), t)).collect();
            for (what, problems, each) in [("train", &train, config.responses), ("test", &test, config.samples)] {
                let drawn = responses(&policy, problems, each, 1.0, seed::derive(seed, &["responses", what]))?;
                put(what, &drawn, &policy, &mut out)?;
            }
            Ok(out)
        })?;
        let mut rollouts = |what: &str, problems, each| {
            let mut take =
                |name: &str| all.remove(&format!("{what} {name}")).context("a shared part that lacks tensors");
            let (tokens, reference) = (take("tokens")?, take("log-probabilities")?);
            Rollouts::new(problems, each, &tokens, &reference, device)
        };
        let train = rollouts("train", train, config.responses)?;
        let test = rollouts("test", test, config.samples)?;
        let weights = all.into_iter().filter_map(|(name, t)| Some((name.strip_prefix("weights ")?.to_owned(), t)));
        Ok(Self { weights: weights.collect(), lm: config.lm, train, test })
    }

    /// The generator, which is the reference and where all training starts.
    pub fn policy(&self) -> Result<Policy> {
        Policy::with(self.lm, RegisterMachine::VOCAB, &self.weights, self.train.device())
    }

    /// Labels of the steps of the well-formed responses to the first problems, by rollouts from the ends of all steps but the last,
    /// whose label is the outcome; and the tokens generated for each problem's labels.
    pub fn rollout_labels(
        &self,
        config: &Config,
        estimate: MonteCarlo,
        context: &mut Context<'_>,
    ) -> Result<(Vec<Labelled>, Vec<u64>)> {
        let train = &self.train;
        let seed = context.seed("task");
        let chosen: Vec<usize> = (0..config.labelled * train.each).filter(|&i| train.checks[i].well_formed).collect();
        let prefixes: Vec<(usize, usize)> =
            chosen.iter().flat_map(|&row| (0..STEPS - 1).map(move |step| (row, step))).collect();
        let sizes = [config.problems, config.responses, config.test_problems, config.samples, config.labelled];
        let key = (config.lm, &config.generator, sizes, config.rollouts, seed);
        let mut spent = vec![0; config.labelled];
        let complete = |all: &[(usize, usize)]| -> Result<Vec<bool>> {
            let done = context.shared_tensors("rollouts from steps", &key, |_| {
                let policy = self.policy()?;
                let prompts: Vec<Vec<i64>> =
                    all.iter().map(|&(row, step)| self.prefix(&train.sequences[row], step)).collect();
                let seed = seed::derive(seed, &["rollouts from steps"]);
                let drawn = sample(&policy.model, &prompts, &sampling(1.0), seed, train.device())?;
                let right = all.iter().zip(&drawn).map(|(&(row, step), s)| {
                    let whole = [&train.sequences[row].response[..3 * step + 3], &s.response].concat();
                    i64::from(train.problems[row / train.each].check(&whole).outcome)
                });
                let right: Vec<i64> = right.collect();
                let tokens: Vec<i64> = drawn.iter().map(|s| s.response.len() as i64).collect();
                Ok([("right", right), ("tokens", tokens)].map(|(n, v)| (n.to_owned(), Tensor::from_slice(&v))).into())
            })?;
            let numbers = |name: &str| -> Result<Vec<i64>> { Ok((&done[name]).try_into()?) };
            for (&(row, _), tokens) in all.iter().zip(numbers("tokens")?) {
                spent[row / train.each] += tokens as u64;
            }
            Ok(numbers("right")?.into_iter().map(|r| r > 0).collect())
        };
        let labels = monte_carlo_step_labels(&prefixes, config.rollouts, estimate, complete)?;
        let labelled = chosen.iter().zip(labels.chunks(STEPS - 1)).map(|(&row, labels)| {
            let outcome = f64::from(u8::from(train.checks[row].outcome));
            Labelled { row, labels: [labels, &[outcome]].concat() }
        });
        Ok((labelled.collect(), spent))
    }

    /// The problem with a response up to the end of a step.
    pub fn prefix(&self, sequence: &Sequence, step: usize) -> Vec<i64> {
        [&sequence.prompt[..], &sequence.response[..3 * step + 3]].concat()
    }

    /// Rewards of so many continuations of each prefix (response, step) of test responses by the generator, and `q` of the prefix, all
    /// under a policy.
    pub fn continuations(
        &self,
        policy: &Policy,
        prefixes: &[(usize, usize)],
        count: usize,
        (beta, seed): (f64, u64),
    ) -> Result<Vec<(f64, Vec<f64>)>> {
        let (test, generator) = (&self.test, self.policy()?);
        let prompts: Vec<Vec<i64>> =
            prefixes.iter().map(|&(row, step)| self.prefix(&test.sequences[row], step)).collect();
        let repeated: Vec<Vec<i64>> = prompts.iter().flat_map(|p| std::iter::repeat_n(p.clone(), count)).collect();
        let drawn = sample(&generator.model, &repeated, &sampling(1.0), seed, test.device())?;
        // Scored as responses to the problem, so that the prefix is in the sum.
        let whole = |rows: &[Vec<i64>]| -> Result<Vec<f64>> {
            let split = |row: &Vec<i64>| Sequence { prompt: row[..PROMPT].to_vec(), response: row[PROMPT..].to_vec() };
            let data =
                Sequences::new(&rows.iter().map(split).collect::<Vec<_>>(), RegisterMachine::PAD, test.device())?;
            let ratio = data.scores(&policy.model)? - data.scores(&generator.model)?;
            Ok((ratio.to_kind(Kind::Double) * beta).to_device(Device::Cpu).try_into()?)
        };
        let rows: Vec<Vec<i64>> = drawn.iter().map(|s| [&s.prompt[..], &s.response].concat()).collect();
        let rewards = whole(&rows)?;
        Ok(whole(&prompts)?.into_iter().zip(rewards.chunks(count).map(<[f64]>::to_vec)).collect())
    }
}

/// A training response with labels of its steps.
pub(super) struct Labelled {
    pub row: usize,
    pub labels: Vec<f64>,
}
