//! A language model on a stream of texts.

use super::super::characters::Characters;
use super::{Arm, Config, HELD_OUT, LOSS, SWITCH, TASKS, Training};
use crate::experiment::Plan;
use crate::runner::Context;
use anyhow::Result;
use autodidact_core::nn::{Gpt, GptConfig};
use autodidact_core::optim::{Adam, Group, Optimizer, Rule};
use autodidact_core::seed::{self, Rng};
use autodidact_core::text::{Tokenizer, Windows};
use autodidact_datasets::synthetic::word_problems;
use autodidact_scaling::infinite_lr::{
    ContinualRun, InfiniteSchedule, RepeatedCosine, ReservoirBuffer, Resume, SingleCosine, TaskSchedule,
};
use rand::RngExt;
use std::rc::Rc;
use tch::Tensor;
use tch::nn::VarStore;

/// Inputs and next tokens.
type Pairs = (Tensor, Tensor);

/// The texts of the tasks.
struct Stream {
    vocabulary: i64,
    train: Vec<Windows>,
    /// For choices, and for reports.
    held_out: Vec<Pairs>,
    test: Vec<Pairs>,
}

impl Stream {
    fn load(config: &Config, plan: &Plan, seed: u64) -> Result<Self> {
        let problems = word_problems(config.characters, seed);
        let text = Characters::load(plan, &problems)?;
        let problems = text.tokenizer.encode(&problems)?;
        let (first, second) = text.tokens.split_at(text.tokens.len() / 2);
        let mut stream = Self { vocabulary: text.vocab(), train: vec![], held_out: vec![], test: vec![] };
        for tokens in [first, &problems, second] {
            let tenth = tokens.len() / 10;
            let (train, rest) = tokens.split_at(8 * tenth);
            let (held_out, test) = rest.split_at(tenth);
            let windows = |tokens: &[i64]| Windows::new(tokens, config.context, plan.device);
            stream.train.push(windows(train)?);
            stream.held_out.push(windows(held_out)?.fixed(config.windows));
            stream.test.push(windows(test)?.fixed(config.windows));
        }
        Ok(stream)
    }
}

/// Trains one arm; losses on all texts at the end of every task.
pub(super) fn run(arm: &Arm, config: &Config, context: &mut Context<'_>) -> Result<()> {
    let device = context.plan.device;
    let stream = Stream::load(config, context.plan, context.seed("texts"))?;
    tch::manual_seed(context.seed("init") as i64);
    let vs = VarStore::new(device);
    let shape = GptConfig::gpt2(stream.vocabulary, config.context as i64, config.width, config.depth, config.heads);
    let model = Gpt::new(vs.root(), &shape)?;
    let adam = Adam { betas: (0.9, 0.95), ..Adam::default() };
    let mut optimizer = Optimizer::new(Rule::AdamW(adam), Group::split_decay(&vs, config.weight_decay))?;

    let rates = &config.language;
    let (schedule, resume, tasks): (Box<dyn TaskSchedule>, _, _) = match arm.training {
        Training::Cosine(peak) => (Box::new(rates.cosine(peak)), Resume::Annealed, TASKS),
        Training::Infinite(constant, resume) => (Box::new(rates.infinite(constant)), resume, TASKS),
        Training::Joint => {
            let whole = RepeatedCosine { total: TASKS * rates.steps, ..rates.cosine(config.peak()) };
            (Box::new(SingleCosine { whole, tasks: TASKS }), Resume::Annealed, TASKS)
        }
        // Runs over a part of the stream count it as one task.
        Training::AnnealedAt(share) => {
            let (constant_end, total) = config.point(share);
            let schedule = InfiniteSchedule { constant_end, total, ..rates.infinite(config.middle()) };
            (Box::new(schedule), Resume::Annealed, 1)
        }
        Training::FullRun(share, peak) => {
            let (_, total) = config.point(share);
            (Box::new(RepeatedCosine { total, ..rates.cosine(peak) }), Resume::Annealed, 1)
        }
    };
    let seed = context.seed("train");
    let replayed = if arm.replay { ((config.replay * config.batch as f64).round() as usize).max(1) } else { 0 };
    let mut buffers: Vec<ReservoirBuffer<Rc<Pairs>>> =
        (0..TASKS).map(|_| ReservoirBuffer::new(config.buffer)).collect::<Result<_, _>>()?;
    let run = ContinualRun { tasks, resume, clip_norm: Some(config.clip), seed, vs: &vs };
    let total = tasks * schedule.steps();
    let mut logged = vec![];
    run.run(
        schedule.as_ref(),
        &mut optimizer,
        |task, n| {
            // The data of a step of the stream are those of all arms.
            let at = task * schedule.steps() + n;
            let text = (at / rates.steps).min(TASKS - 1);
            let mut rng = seed::rng(seed, &["batch", &at.to_string()]);
            let (x, y) = match arm.training {
                Training::Joint => mixed(&stream.train, config.batch, &mut rng),
                _ => with_replay(&stream.train[text], config.batch, replayed, (&mut buffers, text), &mut rng),
            };
            model.loss(&x, &y)
        },
        |moment| {
            let done = moment.task * schedule.steps() + moment.done;
            let loss = |(x, y): &Pairs| {
                Ok::<f64, autodidact_core::Error>(tch::no_grad(|| model.loss(x, y))?.double_value(&[]))
            };
            if moment.end {
                for i in 0..TASKS {
                    logged.push((done, LOSS[i], loss(&stream.test[i])?));
                    logged.push((done, HELD_OUT[i], loss(&stream.held_out[i])?));
                }
            }
            // The first tenth of the second task.
            if moment.task == 1
                && moment.done <= rates.steps / 10
                && moment.done.is_multiple_of((rates.steps / 60).max(1))
            {
                logged.push((done, SWITCH, loss(&stream.test[0])?));
            }
            if done.is_multiple_of(20) {
                context.progress(done, total, None);
            }
            Ok(())
        },
    )?;
    for (step, metric, value) in logged {
        context.metric(step, metric, value);
    }
    Ok(())
}

/// As many windows of each text.
fn mixed(texts: &[Windows], batch: usize, rng: &mut Rng) -> Pairs {
    let parts: Vec<Pairs> = (0..texts.len()).map(|i| texts[i].random((batch + i) / texts.len(), rng)).collect();
    let of = |f: fn(&Pairs) -> &Tensor| Tensor::cat(&parts.iter().map(f).collect::<Vec<_>>(), 0);
    (of(|p| &p.0), of(|p| &p.1))
}

/// Windows of the text of a task, of which the last make way for some of earlier texts; the task's buffer sees the new ones.
fn with_replay(
    text: &Windows,
    batch: usize,
    replayed: usize,
    (buffers, task): (&mut [ReservoirBuffer<Rc<Pairs>>], usize),
    rng: &mut Rng,
) -> Pairs {
    let (x, y) = text.random(batch, rng);
    if replayed == 0 {
        return (x, y);
    }
    let kept = batch - if task > 0 { replayed } else { 0 };
    let mut rows: Vec<Rc<Pairs>> = (0..kept as i64).map(|i| Rc::new((x.get(i), y.get(i)))).collect();
    for row in &rows {
        buffers[task].add(row.clone(), rng);
    }
    for _ in kept..batch {
        let earlier = rng.random_range(0..task);
        rows.extend(buffers[earlier].sample(1, rng));
    }
    let of = |f: fn(&Pairs) -> &Tensor| Tensor::stack(&rows.iter().map(|r| f(r)).collect::<Vec<_>>(), 0);
    (of(|p| &p.0), of(|p| &p.1))
}
