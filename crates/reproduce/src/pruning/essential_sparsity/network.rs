//! The encoder, its pre-training and its fine-tuning under a mask.

use super::Config;
use super::arms::Pretraining;
use super::corpus::{Copy, Corpus, LENGTH, MASK, STATES, SYMBOLS, Task, VOCAB};
use crate::runner::Context;
use anyhow::Result;
use autodidact_core::landscape::{load_state_dict, state_dict};
use autodidact_core::masks::Masks;
use autodidact_core::metrics::accuracy;
use autodidact_core::nn::{EncoderBlocks, layers};
use autodidact_core::optim::{Adam, Group, Optimizer, Rule, StateDict};
use autodidact_core::schedule::{Decay, Schedule, Shape};
use autodidact_core::seed;
use autodidact_core::train::{TrainConfig, Trainer};
use autodidact_datasets::batch::Order;
use autodidact_pruning::essential_sparsity::zero_fraction;
use autodidact_pruning::pruners::matrices;
use rand::RngExt;
use rand::seq::index;
use std::cell::RefCell;
use tch::nn::{Init, Linear, Module, VarStore};
use tch::{Device, Kind, Reduction, Tensor};

/// Symbols that are predicted in each sequence: about 15 %.
const PREDICTED: usize = 5;
/// Name of the tensor of zero fractions beside the weights.
const ZEROS: &str = "zeros";

/// A bidirectional encoder of tokens.
pub struct Encoder {
    pub vs: VarStore,
    tokens: Tensor,
    positions: Tensor,
    blocks: EncoderBlocks,
    width: i64,
}

impl Encoder {
    pub fn new(config: &Config, seed: u64, device: Device) -> Result<Self> {
        let vs = VarStore::new(device);
        tch::manual_seed(seed as i64);
        let root = vs.root();
        let normal = Init::Randn { mean: 0.0, stdev: 0.02 };
        Ok(Self {
            tokens: root.var("tokens", &[VOCAB, config.width], normal),
            positions: root.var("positions", &[LENGTH, config.width], normal),
            blocks: EncoderBlocks::new(&root, config.width, config.depth, config.heads, 4)?,
            width: config.width,
            vs,
        })
    }

    /// `[N, T]` to `[N, T, width]`.
    pub fn hidden(&self, tokens: &Tensor) -> Tensor {
        let embedded = Tensor::embedding(&self.tokens, tokens, -1, false, false) + &self.positions;
        self.blocks.forward(&embedded)
    }

    /// Dense masks over the matrices of the blocks.
    pub fn masks(&self) -> Result<Masks> {
        Ok(matrices(&self.vs, |name| name.starts_with("blocks"))?)
    }
}

fn adam(vs: &VarStore, decay: f64) -> Result<Optimizer> {
    Ok(Optimizer::new(Rule::AdamW(Adam::default()), Group::split_decay(vs, decay))?)
}

/// Weights after pre-training, and the share of zeros on the way: `(step, share)` for each threshold.
pub struct Pretrained {
    weights: StateDict,
    pub zeros: Vec<Vec<(f64, f64)>>,
}

impl Pretrained {
    /// An encoder with these weights.
    pub fn encoder(&self, config: &Config, device: Device) -> Result<Encoder> {
        let encoder = Encoder::new(config, 0, device)?;
        load_state_dict(&encoder.vs, &self.weights)?;
        Ok(encoder)
    }

    /// Pre-trains, or takes what another cell of the seed has pre-trained.
    pub fn get(pretraining: Pretraining, config: &Config, context: &mut Context<'_>) -> Result<Self> {
        let key = (pretraining.name(), config.network(), context.seed("pretraining"), context.plan.threads);
        let mut tensors = context.shared_tensors(pretraining.name(), &key, |c| pretrain(pretraining, config, c))?;
        let zeros = tensors.remove(ZEROS);
        let zeros = zeros.map(|z| -> Result<Vec<Vec<(f64, f64)>>> {
            let rows = Vec::<f64>::try_from(z.flatten(0, -1).to_kind(Kind::Double))?;
            let columns = 1 + config.taus.len();
            let curve = |k: usize| rows.chunks_exact(columns).map(|r| (r[0], r[1 + k])).collect();
            Ok((0..config.taus.len()).map(curve).collect())
        });
        Ok(Self { weights: tensors, zeros: zeros.transpose()?.unwrap_or_default() })
    }
}

/// What pre-training reads: sequences, half of which repeat a stretch, and the states of their first symbols.
fn volume(corpus: &Corpus, n: usize, seed: u64, device: Device) -> Result<(Tensor, Tensor)> {
    let mut rng = seed::rng(seed, &["corpus"]);
    let drawn = corpus.sample(n, &mut rng, |_, rng| if rng.random_bool(0.5) { Copy::Exact } else { Copy::None })?;
    Ok((drawn.tokens.to_device(device), drawn.states.select(1, 0).to_device(device)))
}

fn pretrain(pretraining: Pretraining, config: &Config, context: &mut Context<'_>) -> Result<StateDict> {
    let device = context.plan.device;
    let seed = context.seed("pretraining");
    let corpus = Corpus::new(seed)?;
    let n = if pretraining == Pretraining::Tenth { config.sequences / 10 } else { config.sequences };
    let (tokens, states) = volume(&corpus, n, seed, device)?;
    let encoder = Encoder::new(config, context.seed("init"), device)?;
    // Heads are no part of what is handed on.
    let handed_on: Vec<String> = encoder.vs.variables().into_keys().collect();
    let root = encoder.vs.root();
    let predict = layers::linear(&root / "predict", config.width, VOCAB, true);
    let classify = layers::linear(&root / "classify", config.width, STATES, true);
    let order = Order::new(n, config.batch, seed::derive(seed, &["order"]))?;

    let masks = encoder.masks()?;
    let deviation = {
        let all: Vec<Tensor> = masks.parameters().map(|(_, p)| p.detach().flatten(0, -1)).collect();
        Tensor::cat(&all, 0).std(true).double_value(&[])
    };
    let zeros: RefCell<Vec<f64>> = RefCell::default();
    let look = |step: usize| -> autodidact_core::Result<()> {
        let mut zeros = zeros.borrow_mut();
        zeros.push(step as f64);
        for tau in &config.taus {
            zeros.push(zero_fraction(&masks, tau * deviation)?);
        }
        Ok(())
    };
    look(0)?;
    let schedule = Schedule::new(config.lr, config.steps, Shape::cosine_to(0.0)).warmup(config.warmup);
    let decay = if pretraining == Pretraining::NoDecay { 0.0 } else { config.weight_decay };
    let training = TrainConfig { log_every: 100, ..TrainConfig::new(schedule, seed) };
    Trainer::new(training, &encoder.vs, adam(&encoder.vs, decay)?)?.run(
        |step| {
            let chosen = Tensor::from_slice(&order.batch(step.index)).to_device(device);
            let x = tokens.index_select(0, &chosen);
            if pretraining == Pretraining::Supervised {
                let logits = classify.forward(&encoder.hidden(&x).select(1, 0));
                return Ok(logits.cross_entropy_for_logits(&states.index_select(0, &chosen)));
            }
            let (places, masked) = masked(&x, &mut step.rng("mask"));
            let hidden = encoder.hidden(&masked);
            let index = places.unsqueeze(-1).expand([-1, -1, config.width], false);
            let logits = predict.forward(&hidden.gather(1, &index, false));
            let truth = x.gather(1, &places, false);
            let (logits, truth) = (logits.flatten(0, 1), truth.flatten(0, 1));
            Ok(logits.cross_entropy_loss::<Tensor>(&truth, None, Reduction::Mean, -100, 0.0))
        },
        |p| {
            context.progress(p.done, p.total, p.loss);
            if p.done % config.look_every == 0 { look(p.done) } else { Ok(()) }
        },
    )?;
    let mut made = state_dict(&encoder.vs);
    made.retain(|name, _| handed_on.contains(name));
    let zeros = Tensor::from_slice(&zeros.into_inner()).view([-1, 1 + config.taus.len() as i64]);
    made.insert(ZEROS.to_owned(), zeros);
    Ok(made)
}

/// Places to predict `[N, 5]`, and the sequences as the encoder sees them: of those places eight in ten masked, one random, one as it was.
fn masked(x: &Tensor, rng: &mut seed::Rng) -> (Tensor, Tensor) {
    let n = x.size()[0];
    let (mut places, mut shown) = (vec![], vec![]);
    for _ in 0..n {
        places.extend(index::sample(rng, LENGTH as usize - 1, PREDICTED).into_iter().map(|p| 1 + p as i64));
        for _ in 0..PREDICTED {
            shown.push(match rng.random_range(0..10) {
                0 => rng.random_range(SYMBOLS..VOCAB),
                // Stays.
                1 => -1,
                _ => MASK,
            });
        }
    }
    let shape = [n, PREDICTED as i64];
    let [places, shown] = [places, shown].map(|v| Tensor::from_slice(&v).view(shape).to_device(x.device()));
    let old = x.gather(1, &places, false);
    let seen = old.where_self(&shown.lt(0), &shown);
    (places.shallow_clone(), x.scatter(1, &places, &seen))
}

/// Training and test part of a task.
pub struct TaskData {
    train: (Tensor, Tensor),
    test: (Tensor, Tensor),
}

impl TaskData {
    /// The same for all arms of a seed.
    pub fn new(task: Task, config: &Config, context: &Context<'_>) -> Result<Self> {
        let corpus = Corpus::new(context.seed("pretraining"))?;
        let seed = context.seed("tasks");
        let device = context.plan.device;
        let draw = |n: usize, part: &str| -> Result<(Tensor, Tensor)> {
            let (x, y) = task.sample(&corpus, n, &mut seed::rng(seed, &[task.name(), part]))?;
            Ok((x.to_device(device), y.to_device(device)))
        };
        Ok(Self { train: draw(config.examples, "train")?, test: draw(config.test, "test")? })
    }
}

/// An encoder with a linear classifier on the class token.
pub struct Classifier {
    pub encoder: Encoder,
    head: Linear,
}

impl Classifier {
    /// A fresh head, the same for all arms of a seed, on an encoder.
    pub fn new(encoder: Encoder, task: Task, context: &Context<'_>) -> Self {
        tch::manual_seed(context.seed("head") as i64);
        let head = layers::linear(encoder.vs.root() / "head", encoder.width, task.classes(), true);
        Self { encoder, head }
    }

    fn logits(&self, x: &Tensor) -> Tensor {
        self.head.forward(&self.encoder.hidden(x).select(1, 0))
    }

    /// Trains all weights that are not masked; gives the test accuracy in percent.
    pub fn fine_tune(&self, data: &TaskData, masks: &Masks, config: &Config, context: &Context<'_>) -> Result<f64> {
        let (x, y) = &data.train;
        let order = Order::new(config.examples, config.task_batch, context.seed("task order"))?;
        let steps = config.task_epochs * order.batches_per_epoch();
        let schedule = Schedule::new(config.task_lr, steps, Shape::wsd(1.0, Decay::Linear));
        let training = TrainConfig { log_every: 100, ..TrainConfig::new(schedule, context.seed("task")) };
        masks.apply();
        Trainer::new(training, &self.encoder.vs, adam(&self.encoder.vs, 0.0)?)?.run(
            |step| {
                let chosen = Tensor::from_slice(&order.batch(step.index)).to_device(x.device());
                Ok(self.logits(&x.index_select(0, &chosen)).cross_entropy_for_logits(&y.index_select(0, &chosen)))
            },
            |p| {
                masks.apply();
                context.progress(p.done, p.total, p.loss);
                Ok(())
            },
        )?;
        let (x, y) = &data.test;
        Ok(100.0 * accuracy(&tch::no_grad(|| self.logits(x)), y)?)
    }
}
