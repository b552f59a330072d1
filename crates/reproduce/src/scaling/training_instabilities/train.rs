//! One training run with its monitors.

use super::super::characters::Characters;
use super::Config;
use super::runs::{Norm, Run};
use crate::experiment::Plan;
use crate::runner::Context;
use anyhow::{Context as _, Result};
use autodidact_core::nn::{AttentionScores, AttentionWeights, Gpt, QkNorm};
use autodidact_core::optim::Adam;
use autodidact_core::schedule::{Schedule, Shape};
use autodidact_core::text::Windows;
use autodidact_core::train::{TrainConfig, Trainer};
use autodidact_core::{Error, seed};
use autodidact_scaling::monitors::{
    Pairs, Recorder, adam_direction, attention_stats, gradient_rms, max_attention_logit, output_stats, rms,
};
use autodidact_scaling::training_instabilities::{Proxy, Recipe, loss};
use std::cell::RefCell;
use tch::Tensor;
use tch::nn::VarStore;

/// Metrics.
pub const LOSS: &str = "final loss (nats/token)";
pub const START: &str = "loss at the start (nats/token)";
pub const DIVERGED: &str = "no finite loss at the end";
pub const MAX_LOGIT: &str = "largest attention logit so far";
pub const QUERY: &str = "mean length of queries";
pub const KEY: &str = "mean length of keys";
pub const COSINE: &str = "cosine of queries and keys (RMS)";
pub const LOG_Z: &str = "mean log Z";
pub const MIN_LOG_Z: &str = "smallest log Z";
pub const LOGIT: &str = "mean output logit";
pub const BLOCK: &str = "RMS of the first block's output";
pub const GRADIENT: &str = "gradient RMS";
pub const UPDATE: &str = "update RMS";
pub const WEIGHTS: &str = "weights without embedding and head";
pub const BIGRAM: &str = "loss of bigram counts (nats/token)";
/// With epsilon at the gradient's RMS.
pub const EPS_UPDATE: &str = "update RMS, epsilon at the gradient RMS";
pub const EPS_LOSS: &str = "final loss (nats/token), epsilon at the gradient RMS";

/// The matrix whose gradients and updates are watched.
const WATCHED: &str = "blocks.0.up.weight";

struct Data {
    vocab: i64,
    train: Windows,
    validation: (Tensor, Tensor),
}

impl Data {
    fn new(c: &Config, text: &Characters, plan: &Plan) -> Result<Self> {
        let (train, validation) = text.split();
        Ok(Self {
            vocab: text.vocab(),
            train: Windows::new(train, c.context, plan.device)?,
            validation: Windows::new(validation, c.context, plan.device)?.fixed(c.windows),
        })
    }
}

/// Cross-entropy of validation text under the counts of pairs in the training text, each plus one.
fn bigram_loss(train: &[i64], validation: &[i64], vocab: usize) -> f64 {
    let mut counts = vec![1u32; vocab * vocab];
    train.windows(2).for_each(|w| counts[w[0] as usize * vocab + w[1] as usize] += 1);
    let totals: Vec<u32> = counts.chunks(vocab).map(|row| row.iter().sum()).collect();
    let cost = |w: &[i64]| {
        let from = w[0] as usize;
        (f64::from(totals[from]) / f64::from(counts[from * vocab + w[1] as usize])).ln()
    };
    validation.windows(2).map(cost).sum::<f64>() / (validation.len() - 1) as f64
}

pub fn cell(run: &Run, c: &Config, context: &mut Context<'_>) -> Result<()> {
    let text = Characters::load(context.plan, "")?;
    let data = Data::new(c, &text, context.plan)?;
    if matches!(run.norm, Norm::Fixed(_)) {
        let (train, validation) = text.split();
        context.metric(0, BIGRAM, bigram_loss(train, validation, data.vocab as usize));
    }
    let outcome = train(run, &run.recipe, c, &data, context)?;
    for (step, metric, value) in &outcome.log {
        context.metric(*step, metric, *value);
    }
    context.metric(0, WEIGHTS, run.proxy(c, data.vocab).weights() as f64);
    context.metric(0, START, outcome.start);
    context.metric(run.steps, LOSS, outcome.last);
    context.metric(run.steps, DIVERGED, f64::from(u8::from(outcome.diverged)));
    if run.with_epsilon {
        let eps = outcome.at_the_end(GRADIENT, c).context("no gradient was measured")?;
        let second = train(run, &Recipe { eps, ..run.recipe }, c, &data, context)?;
        let update = second.at_the_end(UPDATE, c).context("no update was measured")?;
        context.metric(run.steps, EPS_UPDATE, update);
        context.metric(run.steps, EPS_LOSS, second.last);
    }
    Ok(())
}

struct Outcome {
    start: f64,
    /// The start's where the run has no finite one.
    last: f64,
    diverged: bool,
    log: Vec<(usize, &'static str, f64)>,
}

impl Outcome {
    /// Mean over the last tenth of training.
    fn at_the_end(&self, metric: &str, c: &Config) -> Option<f64> {
        let late = self.log.iter().filter(|(step, m, _)| *m == metric && *step + c.steps / 10 > c.steps);
        let values: Vec<f64> = late.map(|l| l.2).collect();
        (!values.is_empty()).then(|| autodidact_core::stats::mean(&values))
    }
}

fn network(run: &Run, proxy: &Proxy, vs: &VarStore) -> Result<Gpt> {
    let mut config = proxy.config();
    match run.norm {
        Norm::Fixed(kappa) => config.scores = AttentionScores { norm: QkNorm::Fixed { kappa }, ..config.scores },
        Norm::Pointwise => {
            let weights = AttentionWeights::SquaredRelu { length: proxy.context };
            config.scores = AttentionScores { weights, ..config.scores };
        }
        Norm::Plain | Norm::Learned => {}
    }
    Ok(proxy.network_with(vs.root(), config)?)
}

fn train(run: &Run, recipe: &Recipe, c: &Config, data: &Data, context: &mut Context<'_>) -> Result<Outcome> {
    let proxy = run.proxy(c, data.vocab);
    let vs = VarStore::new(context.plan.device);
    // The same initialisation for all runs of a shape, and the same batches for all.
    seed::seed_torch(context.seed("init"), &["weights"]);
    let model = network(run, &proxy, &vs)?;
    let optimizer = recipe.optimizer(&vs, &proxy, run.lr)?;
    let watched = vs.variables()[WATCHED].shallow_clone();
    let adam: Adam = recipe.adam();

    let (inputs, targets) = &data.validation;
    let validate = || -> Result<f64> {
        tch::no_grad(|| {
            let logits = model.logits(inputs, None)?;
            Ok(loss(&logits, targets, 0.0)?.1.double_value(&[]))
        })
    };
    let start = validate()?;

    let schedule = Schedule::new(run.lr, run.steps, Shape::cosine_to(c.end_lr / run.lr)).warmup(run.warmup);
    let logged = |done: usize| done.is_multiple_of(c.every) || done == run.steps;
    let config = TrainConfig {
        clip_norm: Some(c.clip),
        log_every: c.every,
        // A run of two trainings starts over.
        checkpoint: (!run.with_epsilon).then(|| context.checkpoint_every((run.steps / 10).max(500))),
        ..TrainConfig::new(schedule, context.seed("train"))
    };
    let window = RefCell::new(Recorder::new(&[MAX_LOGIT]));
    let seen: RefCell<Vec<(&'static str, Tensor)>> = RefCell::new(vec![]);
    // A run that diverges returns no history; this is it.
    let mut log: Vec<(usize, &'static str, f64)> = vec![];
    let mut largest = f64::NEG_INFINITY;
    let result = Trainer::new(config, &vs, optimizer)?.run(
        |step| {
            let (x, y) = data.train.random(c.batch, &mut step.rng("batch"));
            let (hidden, blocks) = model.hidden_traced(&x)?;
            let logits = model.project(&hidden);
            window.borrow_mut().push(&[max_attention_logit(&blocks[0], Pairs::Causal)?])?;
            if step.index == 0 || logged(step.index + 1) {
                let (a, o) = (attention_stats(&blocks[0], Pairs::Causal)?, output_stats(&logits)?);
                *seen.borrow_mut() = vec![
                    (QUERY, a.query_norm),
                    (KEY, a.key_norm),
                    (COSINE, a.cosine),
                    (LOG_Z, o.log_z),
                    (MIN_LOG_Z, o.min_log_z),
                    (LOGIT, o.mean),
                    (BLOCK, rms(&blocks[0].output)),
                ];
            }
            Ok(loss(&logits, &y, run.z_loss)?.0)
        },
        |mut p| {
            context.progress(p.done, p.total, p.loss);
            // Gradients and updates of the last tenth are averaged.
            let late = p.done + c.steps / 10 > p.total;
            let regular = p.done == 1 || logged(p.done);
            let mut values: Vec<(&'static str, f64)> = vec![];
            if regular || (late && p.done % (c.every / 5).max(1) == 0) {
                values.push((GRADIENT, gradient_rms(&watched)?.double_value(&[])));
                let direction = adam_direction(&p.optimizer.state_dict(), WATCHED, &adam)?;
                values.push((UPDATE, rms(&direction).double_value(&[])));
            }
            if regular {
                values.extend(seen.borrow_mut().drain(..).map(|(name, t)| (name, t.double_value(&[]))));
                for (_, logits) in window.borrow_mut().take()? {
                    largest = logits.into_iter().filter(|v| v.is_finite()).fold(largest, f64::max);
                }
                values.push((MAX_LOGIT, largest));
            }
            for (name, value) in values.into_iter().filter(|v| v.1.is_finite()) {
                log.push((p.done, name, value));
                p.log(name, value)?;
            }
            Ok(())
        },
    );
    let finished = match result {
        Ok(history) => {
            // What a run logged before it was interrupted is in its history only.
            let names = [MAX_LOGIT, QUERY, KEY, COSINE, LOG_Z, MIN_LOG_Z, LOGIT, BLOCK, GRADIENT, UPDATE];
            let name = |m: &str| names.into_iter().find(|n| *n == m);
            log = history.logged.iter().filter_map(|l| Some((l.done, name(&l.metric)?, l.value))).collect();
            true
        }
        Err(Error::Diverged { .. }) => false,
        Err(e) => return Err(e.into()),
    };
    let last = if finished { validate()? } else { f64::NAN };
    let diverged = !last.is_finite();
    Ok(Outcome { start, last: if diverged { start } else { last }, diverged, log })
}
