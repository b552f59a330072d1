//! One cell: scenes, networks, training and evaluation.

use super::{Config, EARLY, LABELS, Method, NETS, Study, test, validation};
use crate::runner::Context;
use crate::vision::{in_parts, standardised};
use anyhow::Result;
use autodidact_core::landscape::load_state_dict;
use autodidact_core::metrics::ConfusionMatrix;
use autodidact_core::nn::{UNet, UNetConfig};
use autodidact_core::optim::{Adam, Group, Optimizer, Rule};
use autodidact_core::schedule::{Decay, Schedule, Shape};
use autodidact_core::seed::{self, Rng};
use autodidact_core::train::Checkpoint;
use autodidact_core::{Error, stats};
use autodidact_datasets::batch::Order;
use autodidact_datasets::image::{SCENE_CLASSES, SceneStyle, scenes};
use autodidact_distill::learning_from_future::{
    DomainMix, DomainMixConfig, Domains, PartlyLabelled, PixelLabels, SelfTraining, SelfTrainingConfig, SemiSupervised,
    SemiSupervisedConfig, Task, Variant,
};
use rand::RngExt;
use serde::{Deserialize, Serialize};
use tch::nn::{ModuleT, VarStore};
use tch::{Device, Kind, Tensor};

/// Stretches of the iterations over which the accuracy of labels is averaged.
const STRETCHES: usize = 20;
/// Test scenes whose predictions are kept for pictures.
pub(super) const PICTURES: i64 = 6;
/// Iterations between two checkpoints.
const CHECKPOINT: usize = 2000;
const CLASSES: i64 = SCENE_CLASSES.len() as i64;

/// Scenes as networks see them, with their masks.
struct Part {
    x: Tensor,
    y: Tensor,
}

/// What a study reads.
struct Data {
    labelled: Part,
    unlabelled: Part,
    validation: Part,
    test: Part,
}

/// Where the scenes of a part begin in their endless set.
pub(super) fn test_start(config: &Config) -> u64 {
    (config.labelled.max(config.few) + config.unlabelled + config.validation) as u64
}

impl Data {
    fn new(study: Study, config: &Config, scene_seed: u64, device: Device) -> Result<Self> {
        let part = |first: usize, count: usize, style: &SceneStyle| -> Result<Part> {
            let scenes = scenes(scene_seed, first as u64..(first + count) as u64, config.side, style)?;
            let x = standardised(&(scenes.images.to_kind(Kind::Float) / 255.0));
            Ok(Part { x: x.to_device(device), y: scenes.masks.to_device(device) })
        };
        let (labelled, other) = match study {
            Study::Domains => (config.labelled, &config.target),
            Study::Few => (config.few, &config.source),
        };
        let begin = config.labelled.max(config.few);
        Ok(Self {
            labelled: part(0, labelled, &config.source)?,
            unlabelled: part(begin, config.unlabelled, other)?,
            validation: part(begin + config.unlabelled, config.validation, other)?,
            test: part(test_start(config) as usize, config.test, other)?,
        })
    }
}

fn network(config: &Config, device: Device, init: u64) -> Result<(VarStore, UNet)> {
    let vs = VarStore::new(device);
    tch::manual_seed(init as i64);
    let (widths, groups) = (config.widths.clone(), config.groups);
    let net = UNet::new(vs.root(), &UNetConfig { channels: 3, widths, outputs: CLASSES, groups })?;
    Ok((vs, net))
}

/// Checks what the networks and tasks are made of.
pub(super) fn check(config: &Config) -> Result<()> {
    let (_, net) = network(config, Device::Cpu, 0)?;
    let rng = || seed::rng(0, &[]);
    DomainMix::new(&net, &net, mixing(config, 1.0), rng())?;
    SemiSupervised::new(&net, &net, config.semi, rng())?;
    for style in [&config.source, &config.target] {
        scenes(0, 0..0, config.side, style)?;
    }
    Ok(())
}

fn mixing(config: &Config, weight: f64) -> DomainMixConfig {
    DomainMixConfig { threshold: config.threshold, weight, ..DomainMixConfig::new(CLASSES) }
}

/// A task of this experiment.
trait Segmentation: Task {
    fn reseed(&mut self, rng: Rng);
    fn batch(labelled: Part, unlabelled: Tensor) -> Self::Batch;
    fn maps(labels: &Self::Labels) -> &Tensor;
}

impl Segmentation for DomainMix<'_> {
    fn reseed(&mut self, rng: Rng) {
        self.rng = rng;
    }

    fn batch(labelled: Part, target: Tensor) -> Domains {
        Domains { source: labelled.x, labels: labelled.y, target }
    }

    fn maps(labels: &PixelLabels) -> &Tensor {
        &labels.labels
    }
}

impl Segmentation for SemiSupervised<'_> {
    fn reseed(&mut self, rng: Rng) {
        self.rng = rng;
    }

    fn batch(labelled: Part, unlabelled: Tensor) -> PartlyLabelled {
        PartlyLabelled { images: labelled.x, labels: labelled.y, unlabelled }
    }

    fn maps(labels: &Tensor) -> &Tensor {
        labels
    }
}

/// Batches of an iteration: for its update (stream 0), and for looks ahead (streams from 1 on).
struct Batches<'a> {
    data: &'a Data,
    orders: Vec<[Order; 2]>,
    seed: u64,
}

impl<'a> Batches<'a> {
    fn new(data: &'a Data, config: &Config, streams: usize, seed: u64) -> Result<Self> {
        let order = |part: &Part, stream: usize, name: &str| {
            Order::new(part.x.size()[0] as usize, config.batch, seed::derive(seed, &[name, &stream.to_string()]))
        };
        let orders = (0..streams)
            .map(|s| Ok([order(&data.labelled, s, "labelled")?, order(&data.unlabelled, s, "unlabelled")?]));
        Ok(Self { data, orders: orders.collect::<Result<_>>()?, seed })
    }

    /// The batches and the masks of the unlabelled scenes, flipped at random.
    fn get(&self, stream: usize, iteration: usize) -> (Part, Part) {
        let [labelled, unlabelled] = &self.orders[stream];
        let mut rng = seed::rng(self.seed, &["flips", &stream.to_string(), &iteration.to_string()]);
        let mut draw = |part: &Part, order: &Order| {
            let indices = order.batch(iteration);
            let flips: Vec<bool> = indices.iter().map(|_| rng.random_bool(0.5)).collect();
            let device = part.x.device();
            let index = Tensor::from_slice(&indices).to_device(device);
            let flip = Tensor::from_slice(&flips).to_device(device).view([-1, 1, 1]);
            let (x, y) = (part.x.index_select(0, &index), part.y.index_select(0, &index));
            Part { x: x.flip([3]).where_self(&flip.unsqueeze(1), &x), y: y.flip([2]).where_self(&flip, &y) }
        };
        (draw(&self.data.labelled, labelled), draw(&self.data.unlabelled, unlabelled))
    }
}

/// What a run has logged so far.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Log {
    /// Percent of pixels that the teacher labelled rightly, by iteration.
    labels: Vec<f64>,
    /// Iteration, metric, value.
    values: Vec<(usize, String, f64)>,
}

fn predictions(net: &UNet, x: &Tensor) -> Tensor {
    in_parts(x, 100, |x| net.forward_t(x, false).argmax(1, false))
}

fn confusion(net: &UNet, part: &Part) -> Result<ConfusionMatrix> {
    let mut confusion = ConfusionMatrix::new(SCENE_CLASSES.len())?;
    confusion.add(&predictions(net, &part.x), &part.y, None)?;
    Ok(confusion)
}

/// Student and teacher.
struct Pair {
    stores: [VarStore; 2],
    nets: [UNet; 2],
}

/// Trains a student and its teacher, and judges both.
pub(super) fn cell(method: Method, config: &Config, context: &mut Context<'_>) -> Result<()> {
    let device = context.plan.device;
    let data = Data::new(method.study, config, context.seed("scenes"), device)?;
    let [(student_store, student), (teacher_store, teacher)] =
        [network(config, device, context.seed("init"))?, network(config, device, 0)?];
    let mut pair = Pair { stores: [student_store, teacher_store], nets: [student, teacher] };
    let optimizer =
        Optimizer::new(Rule::AdamW(Adam::default()), Group::split_decay(&pair.stores[0], config.weight_decay))?;
    let base = match method.study {
        Study::Domains => SelfTrainingConfig::new(method.variant),
        Study::Few => SelfTrainingConfig::semi_supervised(method.variant),
    };
    let training = SelfTrainingConfig { restore: method.restore, momentum: method.momentum, ..base };
    let [student, teacher] = &mut pair.stores;
    let training = SelfTraining::new(training, student, teacher, optimizer)?;
    let [student, teacher] = &pair.nets;
    let rng = seed::rng(0, &[]);
    let log = match method.study {
        Study::Domains => {
            let task = DomainMix::new(student, teacher, mixing(config, method.weight), rng)?;
            train(task, training, &pair, &data, method, config, context)?
        }
        Study::Few => {
            let semi = SemiSupervisedConfig { weight: method.weight, ..config.semi };
            train(SemiSupervised::new(student, teacher, semi, rng)?, training, &pair, &data, method, config, context)?
        }
    };
    report(&log, &pair, &data, config, context)
}

fn train<T: Segmentation>(
    mut task: T,
    mut training: SelfTraining,
    pair: &Pair,
    data: &Data,
    method: Method,
    config: &Config,
    context: &mut Context<'_>,
) -> Result<Log> {
    let ahead = if let Variant::Wide(k) = method.variant { k } else { 0 };
    let batches = Batches::new(data, config, ahead + 1, context.seed("order"))?;
    let shape = Shape::Decay { decay: Decay::Linear, end: 0.0 };
    let schedule = Schedule::new(config.lr, config.iterations, shape).warmup(config.warmup);
    schedule.check()?;
    let (place, _) = context.checkpoint_every(CHECKPOINT);
    let (mut next, mut log) = (0, Log::default());
    if place.exists() {
        let checkpoint = Checkpoint::load(&place, Device::Cpu)?;
        for (name, store) in NETS.iter().zip(&pair.stores) {
            load_state_dict(store, &checkpoint.section(name))?;
        }
        training.load_state_dict(&checkpoint.section("training"))?;
        (next, log) = (checkpoint.get("next")?, checkpoint.get("log")?);
    }
    let every = (config.iterations / config.evaluations).max(1);
    while next < config.iterations {
        task.reseed(seed::rng(context.seed("mixing"), &[&next.to_string()]));
        let batch = |stream: usize| {
            let (labelled, unlabelled) = batches.get(stream, next);
            (T::batch(labelled, unlabelled.x), unlabelled.y)
        };
        let (now, truth) = batch(0);
        // The first iteration looks nowhere, but is handed its batches all the same.
        let future: Vec<T::Batch> = (1..=ahead).map(|stream| batch(stream).0).collect();
        for _ in 0..method.updates {
            let done = training.iteration(&mut task, &now, &future, schedule.lr(next))?;
            let loss = done.loss.double_value(&[]);
            if !loss.is_finite() {
                return Err(Error::Diverged { loss, step: next, total: config.iterations }.into());
            }
            context.progress(next + 1, config.iterations, Some(loss));
            if log.labels.len() == next {
                let right = T::maps(&done.labels).eq_tensor(&truth).to_kind(Kind::Float).mean(Kind::Float);
                log.labels.push(100.0 * right.double_value(&[]));
            }
        }
        next += 1;
        if next.is_multiple_of(every) && next + every <= config.iterations {
            for (name, net) in NETS.iter().zip(&pair.nets) {
                log.values.push((next, validation(name), 100.0 * confusion(net, &data.validation)?.mean_iou()));
            }
        }
        if next.is_multiple_of(CHECKPOINT) && next < config.iterations {
            let mut checkpoint = Checkpoint::default();
            for (name, store) in NETS.iter().zip(&pair.stores) {
                checkpoint.insert(name, store.variables());
            }
            checkpoint.insert("training", training.state_dict());
            checkpoint.set("next", &next)?;
            checkpoint.set("log", &log)?;
            checkpoint.save(&place)?;
        }
    }
    Ok(log)
}

fn report(log: &Log, pair: &Pair, data: &Data, config: &Config, context: &mut Context<'_>) -> Result<()> {
    for (iteration, metric, value) in &log.values {
        context.metric(*iteration, metric, *value);
    }
    let n = config.iterations;
    for stretch in log.labels.chunks(n.div_ceil(STRETCHES)).enumerate().map(|(i, s)| (i, stats::mean(s))) {
        let end = ((stretch.0 + 1) * n.div_ceil(STRETCHES)).min(n);
        context.metric(end, LABELS, stretch.1);
    }
    context.metric(n, EARLY, stats::mean(&log.labels[..n.div_ceil(3)]));
    let mut scores = vec![];
    for (name, net) in NETS.iter().zip(&pair.nets) {
        let score = 100.0 * confusion(net, &data.validation)?.mean_iou();
        scores.push(score);
        context.metric(n, &validation(name), score);
        let confusion = confusion(net, &data.test)?;
        context.metric(n, &test(name), 100.0 * confusion.mean_iou());
        context.metric(n, &format!("test pixel accuracy, {name}"), 100.0 * confusion.accuracy());
        for (class, iou) in SCENE_CLASSES.iter().zip(confusion.iou()) {
            // A small test part may lack a class.
            if !iou.is_nan() {
                context.metric(n, &format!("test IoU of {class}, {name}"), 100.0 * iou);
            }
        }
    }
    if context.plan.seeds.first() == Some(&context.cell_seed()) {
        let better = usize::from(scores[1] > scores[0]);
        let shown = data.test.x.narrow(0, 0, PICTURES.min(data.test.x.size()[0]));
        let maps = predictions(&pair.nets[better], &shown).to_kind(Kind::Double).to_device(Device::Cpu);
        context.array("predictions", maps.flatten(0, -1).try_into()?);
    }
    Ok(())
}
