//! Training of the arms, and the values that they give to the steps of test responses.

use super::super::language::{Policy, Sequences, minimise};
use super::stage::{Labelled, STEPS, Stage, step_end};
use super::{Config, Labels, Method, Objective};
use crate::runner::Context;
use anyhow::{Result, ensure};
use autodidact_core::Result as CoreResult;
use autodidact_core::schedule::{Schedule, Shape};
use autodidact_datasets::batch::Order;
use autodidact_datasets::synthetic::RegisterMachine;
use autodidact_preference::implicit_prm::{
    ImplicitRewardLoss, Responses, TokenCount, ValueHead, all_pairs, label_loss, log_ratio, prefix_q, step_rewards,
};
use autodidact_preference::losses::PairLogProbs;
use tch::{Device, Kind, Tensor};

/// A trained arm.
pub(super) struct Trained {
    pub policy: Policy,
    /// Values of the steps of the test responses `rows`.
    pub values: Vec<Vec<f64>>,
    /// The same from the policy alone.
    pub without_reference: Option<Vec<Vec<f64>>>,
    pub cost: TokenCount,
}

/// Log-probabilities of the responses in some rows, `[N, T]`.
fn rows_of(data: &Sequences, all: &Tensor, rows: &[usize]) -> (Sequences, Tensor) {
    let index: Vec<i64> = rows.iter().map(|&r| r as i64).collect();
    let index = Tensor::from_slice(&index).to_device(all.device());
    (data.rows(&index), all.index_select(0, &index))
}

/// Ends of all steps but the last, whose end is that of the response.
fn ends() -> Vec<usize> {
    let mut ends: Vec<usize> = (0..STEPS).map(step_end).collect();
    ends[STEPS - 1] += 1;
    ends
}

/// Rewards of the steps of well-formed responses from log-ratios, or log-probabilities, of their tokens.
pub(super) fn steps_of(ratio: &Tensor, beta: f64) -> Result<Vec<Vec<f64>>> {
    Ok(step_rewards(ratio, &vec![ends(); ratio.size()[0] as usize], beta)?)
}

pub(super) struct Training<'a> {
    pub stage: &'a Stage,
    pub config: &'a Config,
    pub method: Method,
    /// Well-formed test responses.
    pub rows: &'a [usize],
}

impl Training<'_> {
    /// Steps of one pass over so many responses, times the epochs: the same for all objectives.
    fn steps(&self) -> usize {
        (self.config.epochs * self.config.problems * self.method.responses).div_ceil(self.config.batch)
    }

    pub fn run(&self, context: &mut Context<'_>) -> Result<Trained> {
        match self.method.objective {
            Objective::Implicit(loss) => self.implicit(loss, context),
            Objective::ImplicitSteps(labels) => {
                let (labelled, generated) = self.labelled(labels, context)?;
                self.implicit_steps(&labelled, generated, context)
            }
            Objective::Outcome => {
                let train = &self.stage.train;
                let all = (0..train.sequences.len())
                    .map(|row| Labelled { row, labels: vec![f64::from(u8::from(train.checks[row].outcome))] });
                let generated = train.tokens(self.config.problems);
                self.with_head(&all.collect::<Vec<_>>(), generated, context)
            }
            Objective::Steps(labels) => {
                let (labelled, generated) = self.labelled(labels, context)?;
                self.with_head(&labelled, generated, context)
            }
        }
    }

    /// Responses with labels of their steps, and the tokens generated for them.
    fn labelled(&self, labels: Labels, context: &mut Context<'_>) -> Result<(Vec<Labelled>, u64)> {
        let train = &self.stage.train;
        let all = train.tokens(self.config.problems);
        match labels {
            Labels::Exact => {
                let rows = (0..train.sequences.len()).filter(|&row| train.checks[row].well_formed);
                let labelled = rows.map(|row| {
                    let wrong = train.checks[row].first_error().unwrap_or(STEPS);
                    Labelled { row, labels: (0..STEPS).map(|t| f64::from(u8::from(t < wrong))).collect() }
                });
                Ok((labelled.collect(), all))
            }
            Labels::Rollouts { estimate, equal } => {
                let (mut labelled, spent) = self.stage.rollout_labels(self.config, estimate, context)?;
                let mut cost = vec![0];
                spent.iter().enumerate().for_each(|(i, s)| {
                    cost.push(cost[i] + s + train.tokens(i + 1) - train.tokens(i));
                });
                // As many problems as the responses to all of them cost without labels.
                let budget = if equal { all } else { u64::MAX };
                let count = cost.iter().take_while(|c| **c <= budget).count() - 1;
                labelled.retain(|l| l.row < count * train.each);
                ensure!(!labelled.is_empty(), "no problem can be labelled within {budget} tokens");
                Ok((labelled, cost[count]))
            }
        }
    }

    fn minimise(
        &self,
        policy: &Policy,
        loss: impl Fn(usize) -> CoreResult<Tensor>,
        context: &mut Context<'_>,
    ) -> Result<()> {
        let steps = self.steps();
        let warmup = self.config.warmup.min(steps);
        let schedule = Schedule::new(self.method.rate, steps, Shape::Constant).warmup(warmup);
        let seed = context.seed("training");
        minimise(
            &policy.vs,
            (schedule, 0.0, seed),
            |step| loss(step.index),
            |done, loss| {
                context.progress(done, steps, loss);
                Ok(())
            },
        )
    }

    /// A policy whose log-ratio to the generator is the reward.
    fn implicit(&self, loss: ImplicitRewardLoss, context: &mut Context<'_>) -> Result<Trained> {
        let (train, beta) = (&self.stage.train, self.method.beta);
        let (policy, reference) = (self.stage.policy()?, self.stage.policy()?);
        let outcomes: Vec<bool> = train.checks.iter().map(|c| c.outcome).collect();
        let used = |row: usize| row % train.each < self.method.responses;
        let ratio = |rows: &[usize]| -> CoreResult<Tensor> {
            let (batch, reference) = rows_of(&train.data, &train.reference, rows);
            let each = log_ratio(&batch.token_log_probs(&policy.model)?, &reference, &batch.response)?;
            Ok(each.sum_dim_intlist([1i64].as_slice(), false, Kind::Float))
        };
        let seed = context.seed("order");
        let mut trained = self.steps() * self.config.batch;
        if loss.needs_pairs() {
            let by_problem: Vec<Vec<bool>> =
                outcomes.chunks(train.each).map(|o| o[..self.method.responses].to_vec()).collect();
            let pairs: Vec<[usize; 2]> = all_pairs(&by_problem)
                .iter()
                .map(|p| [p.correct, p.incorrect].map(|place| p.prompt * train.each + place))
                .collect();
            ensure!(!pairs.is_empty(), "no problem has right and wrong responses");
            context.metric(0, super::PAIRS, pairs.len() as f64);
            let size = (self.config.batch / 2).clamp(1, pairs.len());
            trained = self.steps() * size * 2;
            let order = Order::new(pairs.len(), size, seed)?;
            let value = |step: usize| {
                let chosen = order.batch(step);
                let side = |s: usize| chosen.iter().map(move |&i| (i as usize, s));
                let rows: Vec<usize> = side(0).chain(side(1)).map(|(i, s)| pairs[i][s]).collect();
                let ratios = PairLogProbs::halves(&ratio(&rows)?)?;
                Ok(loss.forward(&Responses::Pairs(&ratios), beta)?.mean(Kind::Float))
            };
            self.minimise(&policy, value, context)?;
        } else {
            let rows: Vec<usize> = (0..outcomes.len()).filter(|&row| used(row)).collect();
            let order = Order::new(rows.len(), self.config.batch.min(rows.len()), seed)?;
            let value = |step: usize| {
                let rows: Vec<usize> = order.batch(step).iter().map(|&i| rows[i as usize]).collect();
                let correct: Vec<bool> = rows.iter().map(|&row| outcomes[row]).collect();
                let correct = Tensor::from_slice(&correct).to_device(train.device());
                let kl = match loss {
                    ImplicitRewardLoss::Kto { .. } => Some(mismatched(train, &rows, &policy, &reference)?),
                    _ => None,
                };
                let ratio = ratio(&rows)?;
                let batch = Responses::Single { log_ratio: &ratio, correct: &correct, kl: kl.as_ref() };
                Ok(loss.forward(&batch, beta)?.mean(Kind::Float))
            };
            self.minimise(&policy, value, context)?;
        }
        let share = self.method.responses as f64 / train.each as f64;
        let generated = (train.tokens(self.config.problems) as f64 * share).round() as u64;
        self.scored(policy, TokenCount { generated, trained: (trained * RegisterMachine::SOLUTION) as u64 })
    }

    /// A trained policy with the values that it gives to steps as a log-ratio.
    fn scored(&self, policy: Policy, cost: TokenCount) -> Result<Trained> {
        let (test, beta) = (&self.stage.test, self.method.beta);
        let (data, reference) = rows_of(&test.data, &test.reference, self.rows);
        let each = data.in_parts(|part| part.token_log_probs(&policy.model))?;
        let values = steps_of(&log_ratio(&each, &reference, &data.response)?, beta)?;
        let without_reference = Some(steps_of(&each, beta)?);
        Ok(Trained { policy, values, without_reference, cost })
    }

    /// The same log-ratio, trained on labels of steps: cross entropy of the rewards of steps.
    fn implicit_steps(&self, labelled: &[Labelled], generated: u64, context: &mut Context<'_>) -> Result<Trained> {
        let train = &self.stage.train;
        let policy = self.stage.policy()?;
        let batch = self.config.batch.min(labelled.len());
        let order = Order::new(labelled.len(), batch, context.seed("order"))?;
        let places: Vec<i64> = ends().iter().map(|&end| end as i64).collect();
        let places = Tensor::from_slice(&places).to_device(train.device());
        let value = |step: usize| {
            let chosen: Vec<&Labelled> = order.batch(step).iter().map(|&i| &labelled[i as usize]).collect();
            let rows: Vec<usize> = chosen.iter().map(|l| l.row).collect();
            let (data, reference) = rows_of(&train.data, &train.reference, &rows);
            let each = log_ratio(&data.token_log_probs(&policy.model)?, &reference, &data.response)?;
            let q = prefix_q(&each, self.method.beta)?.index_select(1, &places);
            let before = q.narrow(1, 0, STEPS as i64 - 1).constant_pad_nd([1, 0]);
            let labels: Vec<f32> = chosen.iter().flat_map(|l| &l.labels).map(|&l| l as f32).collect();
            let labels = Tensor::from_slice(&labels).view_as(&q).to_device(train.device());
            Ok(label_loss(&(q - before), &labels)?.mean(Kind::Float))
        };
        self.minimise(&policy, value, context)?;
        let trained = (self.steps() * batch * RegisterMachine::SOLUTION) as u64;
        self.scored(policy, TokenCount { generated, trained })
    }

    /// A head on the hidden states at the ends of steps (or, for one label, of responses), trained together with the model.
    fn with_head(&self, labelled: &[Labelled], generated: u64, context: &mut Context<'_>) -> Result<Trained> {
        let (train, test) = (&self.stage.train, &self.stage.test);
        let policy = self.stage.policy()?;
        let head = ValueHead::new(policy.vs.root() / "value", policy.model.config().width)?;
        let count = labelled[0].labels.len() as i64;
        let places = |length: usize| -> Vec<i64> {
            if count == 1 {
                vec![(RegisterMachine::PROMPT + length - 1) as i64]
            } else {
                (0..STEPS).map(|t| step_end(t) as i64).collect()
            }
        };
        let logits =
            |data: &Sequences, places: &Tensor| head.forward(&policy.model.hidden(&data.tokens, None)?, places);
        let batch = self.config.batch.min(labelled.len());
        let order = Order::new(labelled.len(), batch, context.seed("order"))?;
        let on_device = |t: Tensor| t.view([-1, count]).to_device(train.device());
        let value = |step: usize| {
            let chosen: Vec<&Labelled> = order.batch(step).iter().map(|&i| &labelled[i as usize]).collect();
            let rows: Vec<usize> = chosen.iter().map(|l| l.row).collect();
            let (data, _) = rows_of(&train.data, &train.reference, &rows);
            let at: Vec<i64> = rows.iter().flat_map(|&r| places(train.sequences[r].response.len())).collect();
            let labels: Vec<f32> = chosen.iter().flat_map(|l| &l.labels).map(|&l| l as f32).collect();
            let logits = logits(&data, &on_device(Tensor::from_slice(&at)))?;
            Ok(label_loss(&logits, &on_device(Tensor::from_slice(&labels)))?.mean(Kind::Float))
        };
        self.minimise(&policy, value, context)?;
        let (data, _) = rows_of(&test.data, &test.reference, self.rows);
        let at = places(RegisterMachine::SOLUTION);
        let each = data.in_parts(|part| {
            let at = Tensor::from_slice(&at).to_device(part.tokens.device());
            logits(part, &at.unsqueeze(0).expand([part.len() as i64, count], false))
        })?;
        let all: Vec<f64> = each.to_kind(Kind::Double).to_device(Device::Cpu).reshape([-1]).try_into()?;
        let values = all.chunks(count as usize).map(<[f64]>::to_vec).collect();
        let trained = (self.steps() * batch * RegisterMachine::SOLUTION) as u64;
        Ok(Trained { policy, values, without_reference: None, cost: TokenCount { generated, trained } })
    }
}

/// Mean log-ratio of each response as one to the next one's problem: KTO's estimate of the divergence.
fn mismatched(
    train: &super::stage::Rollouts,
    rows: &[usize],
    policy: &Policy,
    reference: &Policy,
) -> CoreResult<Tensor> {
    let (batch, _) = rows_of(&train.data, &train.reference, rows);
    let prompt = RegisterMachine::PROMPT as i64;
    let rest = batch.tokens.size()[1] - prompt;
    let others = batch.tokens.narrow(1, 0, prompt).roll([1], [0]);
    let tokens = Tensor::cat(&[others, batch.tokens.narrow(1, prompt, rest)], 1);
    let batch = Sequences { tokens, response: batch.response };
    tch::no_grad(|| Ok((batch.log_probs(&policy.model)? - batch.log_probs(&reference.model)?).mean(Kind::Float)))
}
