//! One network in one domain: data, training, tests.

use super::super::characters::Characters;
use super::super::recall::RecallNet;
use super::{Config, IMAGES, LONGER, LOSS, POSITIONS, SAMPLES, SCRATCH, TOKENS, TOLD, TUNED};
use crate::experiment::Plan;
use crate::runner::Context;
use anyhow::Result;
use autodidact_core::nn::Gpt;
use autodidact_core::optim::{Adam, Group, Optimizer, Rule};
use autodidact_core::schedule::{Decay, Schedule, Shape};
use autodidact_core::text::Windows;
use autodidact_core::train::{Step, TrainConfig, Trainer};
use autodidact_core::{Result as CoreResult, seed};
use autodidact_datasets::image::PixelSequences;
use autodidact_datasets::load_images;
use autodidact_datasets::synthetic::{DigitSums, ZipfRecall};
use autodidact_scaling::autoregressive_scaling::{
    Attending, FinetuneConfig, ScalingTransformer, finetune_classifier, new_classifier, token_losses,
};
use std::collections::BTreeSet;
use tch::nn::VarStore;
use tch::{Kind, Tensor};

/// Where a network learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Domain {
    Images,
    Arithmetic,
    Text,
    Recall,
}

impl Domain {
    /// In the order in which they are shown.
    pub const ALL: [Self; 4] = [Self::Images, Self::Arithmetic, Self::Text, Self::Recall];

    pub fn name(self) -> &'static str {
        match self {
            Self::Images => "images",
            Self::Arithmetic => "arithmetic",
            Self::Text => "text",
            Self::Recall => "recall",
        }
    }

    /// The networks by which its laws are fitted, from the smallest on.
    pub fn runs(self, c: &Config) -> Vec<Run> {
        let run = |width, depth| Run { domain: self, width, depth, limit: None };
        let mut runs: Vec<Run> = match self {
            Self::Images | Self::Arithmetic => c.sizes.iter().map(|s| run(s.0, s.1)).collect(),
            Self::Text => c.text_sizes.iter().map(|s| run(s.0, s.1)).collect(),
            Self::Recall => c.recall_widths.iter().map(|&w| run(w, 2)).collect(),
        };
        runs.sort_by(|a, b| a.weights().total_cmp(&b.weights()));
        runs
    }

    /// Networks of equal size that differ in shape.
    pub fn shapes(self, c: &Config) -> Vec<Run> {
        c.shapes.iter().map(|s| Run { domain: self, width: s.0, depth: s.1, limit: None }).collect()
    }
}

/// A network in a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    pub domain: Domain,
    pub width: i64,
    pub depth: usize,
    /// Images to which it is held.
    pub limit: Option<usize>,
}

impl Run {
    pub fn all(c: &Config) -> Vec<Self> {
        let shapes = [Domain::Images, Domain::Text].into_iter().flat_map(|d| d.shapes(c));
        let mut all: Vec<Self> = vec![];
        for run in Domain::ALL.into_iter().flat_map(|d| d.runs(c)).chain(shapes).chain(Self::limited(c)) {
            if !all.contains(&run) {
                all.push(run);
            }
        }
        all
    }

    /// The largest network on fewer images.
    pub fn limited(c: &Config) -> Vec<Self> {
        let largest = Domain::Images.runs(c).pop();
        let of = |run: Self| c.data.iter().map(move |&n| Self { limit: Some(n), ..run });
        largest.into_iter().flat_map(of).collect()
    }

    pub fn arm(&self) -> String {
        let limit = self.limit.map(|n| format!(" D={n}")).unwrap_or_default();
        format!("{} d={} n={}{limit}", self.domain.name(), self.width, self.depth)
    }

    /// Weights without embeddings, head, norms and biases.
    pub fn weights(&self) -> f64 {
        match self.domain {
            Domain::Recall => RecallNet::size(self.width),
            _ => self.shape(1, 0, 1).parameters(),
        }
    }

    pub fn aspect_ratio(&self) -> f64 {
        self.width as f64 / self.depth as f64
    }

    fn shape(&self, vocab: i64, prefix_vocab: i64, context: usize) -> ScalingTransformer {
        let of = if self.domain == Domain::Text { ScalingTransformer::text } else { ScalingTransformer::image };
        ScalingTransformer { prefix_vocab, ..of(vocab, context as i64, self.width, self.depth) }
    }

    /// What the network itself refuses.
    pub fn check(&self) -> Result<()> {
        if self.domain != Domain::Recall {
            self.shape(2, 0, 8).config()?;
        }
        Ok(())
    }

    fn rate(&self, c: &Config) -> f64 {
        match self.domain {
            Domain::Recall => c.recall_rate,
            _ => c.rate * (8.0 / self.width as f64).powf(0.75),
        }
    }
}

/// Steps after which a run is tested.
pub fn checkpoints(c: &Config, steps: usize) -> BTreeSet<usize> {
    let (first, ratio) = (c.warmup as f64, steps as f64 / c.warmup as f64);
    let at = |i: usize| first * ratio.powf(i as f64 / (c.points - 1) as f64);
    (0..c.points).map(|i| at(i).round() as usize).collect()
}

fn schedule(peak: f64, steps: usize, warmup: usize) -> Schedule {
    Schedule::new(peak, steps, Shape::Decay { decay: Decay::Linear, end: 0.1 }).warmup(warmup)
}

fn adam() -> Rule {
    Rule::AdamW(Adam { betas: (0.9, 0.95), ..Adam::default() })
}

/// Trains one network, with its tests.
pub fn run(run: Run, c: &Config, context: &mut Context<'_>) -> Result<()> {
    // The same initialisation of the same shape, whatever the domain.
    tch::manual_seed(context.seed("init") as i64);
    match run.domain {
        Domain::Images => images(run, c, context),
        Domain::Arithmetic => arithmetic(run, c, context),
        Domain::Text => text(run, c, context),
        Domain::Recall => recall(run, c, context),
    }
}

/// Trains and logs the tests.
fn train(
    run: Run,
    vs: &VarStore,
    (steps, decay): (usize, f64),
    c: &Config,
    context: &mut Context<'_>,
    loss: impl FnMut(Step) -> CoreResult<Tensor>,
    test: impl Fn() -> CoreResult<Vec<(&'static str, f64)>>,
) -> Result<()> {
    let optimizer = Optimizer::new(adam(), Group::split_decay(vs, decay))?;
    let config = TrainConfig {
        clip_norm: Some(c.clip),
        log_every: steps,
        checkpoint: Some(context.checkpoint_every(2000)),
        ..TrainConfig::new(schedule(run.rate(c), steps, c.warmup), context.seed("train"))
    };
    let tested = checkpoints(c, steps);
    let history = Trainer::new(config, vs, optimizer)?.run(loss, |mut p| {
        if tested.contains(&p.done) {
            let values = tch::no_grad(&test)?;
            context.progress(p.done, p.total, values.first().map(|v| v.1));
            for (name, value) in values {
                p.log(name, value)?;
            }
        }
        Ok(())
    })?;
    context.log(&history);
    Ok(())
}

/// Parts of a batch of tests.
const PART: i64 = 250;

/// Losses of all targets, `[B, T]`, in parts.
fn tested(model: &Gpt, (inputs, targets): &(Tensor, Tensor), vocab: i64) -> CoreResult<Tensor> {
    let parts = inputs.split(PART, 0).into_iter().zip(targets.split(PART, 0));
    let parts: CoreResult<Vec<Tensor>> =
        parts.map(|(x, y)| tch::no_grad(|| token_losses(model, &x, &y, vocab))).collect();
    Ok(Tensor::cat(&parts?, 0))
}

fn mean(losses: &Tensor) -> f64 {
    losses.mean(Kind::Double).double_value(&[])
}

fn list(t: &Tensor) -> Result<Vec<f64>> {
    Ok(Vec::try_from(t.to_kind(Kind::Double))?)
}

/// Training and test images.
fn sequences(run: Run, c: &Config, plan: &Plan) -> Result<(PixelSequences, PixelSequences)> {
    let (train, test) = load_images(&plan.dataset, plan.data_dir.as_deref(), plan.download)?;
    let some = run.limit.unwrap_or(c.images).min(train.len());
    let train = train.subset(some, seed::derive(0, &["autoregressive-scaling", "images"]))?;
    let test = test.subset(c.finetune_test.max(c.test_images).min(test.len()), 0)?;
    let of = |set| PixelSequences::new(set, c.side, c.levels, plan.device);
    Ok((of(&train)?, of(&test)?))
}

fn images(run: Run, c: &Config, context: &mut Context<'_>) -> Result<()> {
    let (train_set, test_set) = sequences(run, c, context.plan)?;
    let tokens = train_set.tokens();
    let labels = train_set.vocab() - c.levels;
    let mut shape = run.shape(c.levels, labels, tokens as usize);
    if c.sparse {
        shape.attending = Attending::Strided { stride: tokens / c.side };
    }
    let vs = VarStore::new(context.plan.device);
    let model = shape.network(vs.root())?;
    let rows = |n: usize| -> Vec<i64> { (0..n as i64).collect() };
    let few = rows(c.test_images.min(test_set.len()));
    let (blank, told) = (test_set.rows(&few, None)?, test_set.rows(&few, Some(0))?);
    context.metric(0, TOKENS, (c.batch as i64 * tokens) as f64);
    let loss = |step: Step| {
        let (x, y) = train_set.random(c.batch, c.blank, &mut step.rng("batch"))?;
        Ok(token_losses(&model, &x, &y, c.levels)?.mean(Kind::Float))
    };
    let test = || {
        let [blank, told] = [&blank, &told].map(|set| tested(&model, set, c.levels));
        Ok(vec![(LOSS, mean(&blank?)), (TOLD, mean(&told?))])
    };
    train(run, &vs, (c.steps, 0.0), c, context, loss, test)?;
    let losses = tested(&model, &blank, c.levels)?;
    context.array(SAMPLES, list(&losses.sum_dim_intlist([1i64].as_slice(), false, Kind::Double))?);
    context.array(POSITIONS, list(&losses.mean_dim([0i64].as_slice(), false, Kind::Double))?);
    if run.limit.is_some() {
        context.metric(0, IMAGES, train_set.len() as f64);
        return Ok(());
    }

    // The last pixel, which a generative network never reads, is left out here too.
    let part = |set: &PixelSequences, n: usize| -> Result<(Tensor, Tensor)> {
        let n = n.min(set.len());
        Ok((set.rows(&rows(n), None)?.0, set.labels.narrow(0, 0, n as i64)))
    };
    let (few, asked) = (part(&train_set, c.finetune_images)?, part(&test_set, c.finetune_test)?);
    let config = FinetuneConfig {
        schedule: schedule(run.rate(c), c.finetune_steps, c.warmup * c.finetune_steps / c.steps),
        batch: c.batch,
        weight_decay: 0.0,
        clip_norm: Some(c.clip),
        seed: context.seed("finetune"),
    };
    let classes = labels - 1;
    let error = |vs: &VarStore, model: &Gpt| -> Result<f64> {
        tch::manual_seed(config.seed as i64);
        let classifier = new_classifier(vs, model, classes)?;
        finetune_classifier(vs, &classifier, (&few.0, &few.1), &config)?;
        Ok(100.0 * classifier.error(&asked.0, &asked.1, PART)?)
    };
    let tuned = error(&vs, &model)?;
    tch::manual_seed(context.seed("init") as i64);
    let fresh = VarStore::new(context.plan.device);
    let scratch = error(&fresh, &shape.network(fresh.root())?)?;
    context.metric(c.steps, TUNED, tuned);
    context.metric(c.steps, SCRATCH, scratch);
    Ok(())
}

/// Mean over the targets that count.
fn answered(losses: &Tensor, targets: &Tensor) -> Tensor {
    losses.sum(Kind::Float) / targets.not_equal(DigitSums::IGNORED).sum(Kind::Float)
}

fn arithmetic(run: Run, c: &Config, context: &mut Context<'_>) -> Result<()> {
    let device = context.plan.device;
    let vs = VarStore::new(device);
    let vocab = DigitSums::VOCAB;
    let model = run.shape(vocab, 0, c.sum_window).network(vs.root())?;
    let source = DigitSums { digits: c.digits, window: c.sum_window };
    let test_seed = context.seed("test");
    let draw = |digits, name: &str| {
        let source = DigitSums { digits, ..source };
        source.batch(c.windows, &mut seed::rng(test_seed, &[name]), device)
    };
    let (same, longer) = (draw(c.digits, "same")?, draw(c.longer, "longer")?);
    context.metric(0, TOKENS, (c.sum_batch * c.sum_window) as f64);
    let loss = |step: Step| {
        let (x, y) = source.batch(c.sum_batch, &mut step.rng("batch"), device)?;
        Ok(answered(&token_losses(&model, &x, &y, vocab)?, &y))
    };
    let test = || {
        let of = |set: &(Tensor, Tensor)| tested(&model, set, vocab).map(|l| answered(&l, &set.1).double_value(&[]));
        Ok(vec![(LOSS, of(&same)?), (LONGER, of(&longer)?)])
    };
    train(run, &vs, (c.steps, c.sum_decay), c, context, loss, test)
}

fn text(run: Run, c: &Config, context: &mut Context<'_>) -> Result<()> {
    let plan = context.plan;
    let name = if plan.dataset == "digits" { "grammar" } else { "tinyshakespeare" };
    let text = Characters::of(name, plan, "")?;
    let (train_part, validation) = text.split();
    let windows = Windows::new(train_part, c.text_context, plan.device)?;
    let validation = Windows::new(validation, c.text_context, plan.device)?;
    let held_out = validation.fixed(c.windows);
    let vs = VarStore::new(plan.device);
    let vocab = text.vocab();
    let model = run.shape(vocab, 0, c.text_context).network(vs.root())?;
    context.metric(0, TOKENS, (c.text_batch * c.text_context) as f64);
    let loss = |step: Step| {
        let (x, y) = windows.random(c.text_batch, &mut step.rng("batch"));
        Ok(token_losses(&model, &x, &y, vocab)?.mean(Kind::Float))
    };
    let test = || Ok(vec![(LOSS, mean(&tested(&model, &held_out, vocab)?))]);
    train(run, &vs, (c.steps, 0.0), c, context, loss, test)?;
    // Single characters vary more than whole windows.
    let losses = tested(&model, &validation.fixed(8 * c.windows), vocab)?;
    context.array(POSITIONS, list(&losses.mean_dim([0i64].as_slice(), false, Kind::Double))?);
    Ok(())
}

fn recall(run: Run, c: &Config, context: &mut Context<'_>) -> Result<()> {
    let device = context.plan.device;
    // A source of its own for every seed, the same for all sizes.
    let source = ZipfRecall { language: context.seed("source"), ..Default::default() };
    let table = source.table(device)?;
    let vs = VarStore::new(device);
    let net = RecallNet::new(vs.root(), &source, run.width);
    context.metric(0, TOKENS, c.recall_batch as f64);
    let loss = |step: Step| {
        let batch = table.counted(c.recall_batch, &mut step.rng("batch"));
        Ok(net.loss(&batch.inputs, &batch.targets, &batch.weights))
    };
    let test = || Ok(vec![(LOSS, net.loss(&table.inputs, &table.targets, &table.probabilities).double_value(&[]))]);
    train(run, &vs, (c.recall_steps, 0.0), c, context, loss, test)
}
