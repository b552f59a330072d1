//! One cell: data, the stages of pre-training, fine-tuning.

use super::{ACCURACY, Config, DISTANCE, HELD_OUT, MAE, Method, Stage, TRAIN, Task};
use crate::runner::Context;
use crate::vision::{Part, brought_to, load_some, standardised};
use anyhow::{Result, ensure};
use autodidact_core::landscape::{load_state_dict, state_dict};
use autodidact_core::metrics::accuracy;
use autodidact_core::nn::layers;
use autodidact_core::optim::{Adam, Group, Optimizer, Rule, StateDict, sorted_trainables};
use autodidact_core::schedule::{Decay, Schedule, Shape};
use autodidact_core::train::{Step, TrainConfig, Trainer};
use autodidact_core::{Result as CoreResult, seed};
use autodidact_datasets::augment::{Pipeline, Transform};
use autodidact_datasets::batch::Order;
use autodidact_datasets::image::ImageSet;
use autodidact_datasets::load_images;
use autodidact_distill::self_distilled_pretraining::{
    Mae, SelfDistillation, distill_representation, weight_distance, weight_distance_squared,
};
use tch::nn::{Linear, Module, VarStore};
use tch::{Device, Kind, Tensor};

/// Classes of the source; the others are the near task's.
const SOURCE_CLASSES: [i64; 4] = [0, 1, 8, 9];
/// How often the autoencoding loss is looked at, on how many images.
const LOOKS: (usize, i64) = (10, 256);

/// A target task, images in `[0, 1]`, `[N, 3, 32, 32]`.
struct Data {
    train: Part,
    held_out: Part,
    test: Part,
    classes: i64,
    /// Whether mirrored images are of the same class.
    flips: bool,
}

/// The images of some classes, with their places in the list as labels.
fn of_classes(set: &ImageSet, classes: &[i64]) -> Result<ImageSet> {
    let labels: Vec<i64> = Vec::try_from(&set.labels)?;
    let rows: Vec<i64> = (0..).zip(&labels).filter(|(_, l)| classes.contains(l)).map(|(i, _)| i).collect();
    let chosen = set.select(&rows)?;
    let place = |l: &i64| classes.iter().position(|c| c == l).expect("only these were selected") as i64;
    let labels: Vec<i64> = Vec::<i64>::try_from(&chosen.labels)?.iter().map(place).collect();
    let names = classes.iter().map(|c| set.classes[*c as usize].clone()).collect();
    Ok(ImageSet::new(chosen.images, Tensor::from_slice(&labels), names)?)
}

fn other_classes(set: &ImageSet) -> Vec<i64> {
    (0..set.classes.len() as i64).filter(|c| !SOURCE_CLASSES.contains(c)).collect()
}

fn split_seed() -> u64 {
    seed::derive(0, &["self-distilled-pretraining", "split"])
}

fn part(set: &ImageSet, side: i64, device: Device) -> Part {
    let x = brought_to(&set.to_float(), side, 3);
    Part { x: x.to_device(device), y: set.labels.to_device(device) }
}

impl Data {
    fn load(task: Task, config: &Config, context: &Context<'_>) -> Result<Self> {
        let plan = context.plan;
        let (name, near) = match (task, plan.dataset.as_str()) {
            (Task::Near, name) => (name, true),
            (Task::Far, "cifar10") => ("mnist", false),
            (Task::Far, _) => ("digits", false),
        };
        // So many that enough are of the near task's classes.
        let (mut all, mut test) = load_some(plan, name, 4 * (config.images + config.held_out), 4 * config.test)?;
        if near {
            let classes = other_classes(&all);
            (all, test) = (of_classes(&all, &classes)?, of_classes(&test, &classes)?);
        }
        let wanted = config.images + config.held_out;
        ensure!(wanted <= all.len(), "images and held_out: expected at most {} together, got {wanted}", all.len());
        let (train, held_out) = all.subset(wanted, split_seed())?.split(config.images, split_seed())?;
        let test = test.subset(config.test.min(test.len()), split_seed())?;
        let of = |set: &ImageSet| part(set, config.mae.side, plan.device);
        let classes = all.classes.len() as i64;
        Ok(Self { train: of(&train), held_out: of(&held_out), test: of(&test), classes, flips: near })
    }
}

/// A masked autoencoder with its variables.
struct Model {
    vs: VarStore,
    mae: Mae,
}

impl Model {
    /// Fresh weights, by `init`.
    fn fresh(config: &Config, device: Device, init: u64) -> Result<Self> {
        tch::manual_seed(init as i64);
        let vs = VarStore::new(device);
        let mae = Mae::new(&(vs.root() / "mae"), &config.mae)?;
        Ok(Self { vs, mae })
    }

    /// The given weights.
    fn from(config: &Config, device: Device, weights: &StateDict) -> Result<Self> {
        let model = Self::fresh(config, device, 0)?;
        load_state_dict(&model.vs, weights)?;
        Ok(model)
    }

    fn state(&self) -> StateDict {
        state_dict(&self.vs)
    }
}

fn on(device: Device, weights: &StateDict) -> StateDict {
    weights.iter().map(|(name, t)| (name.clone(), t.to_device(device))).collect()
}

fn is_encoder(name: &str) -> bool {
    name.starts_with("mae.encoder") && !name.ends_with("position")
}

/// AdamW; no decay of vectors, nor of tokens and positions.
fn optimizer(vs: &VarStore, betas: (f64, f64), weight_decay: f64) -> CoreResult<Optimizer> {
    let token = |name: &str| ["class", "mask", "position"].iter().any(|t| name.ends_with(t));
    let (decayed, plain): (Vec<_>, Vec<_>) =
        sorted_trainables(vs).into_iter().partition(|(name, p)| p.dim() > 1 && !token(name));
    let groups = vec![Group::of(decayed, weight_decay), Group::of(plain, 0.0)];
    Optimizer::new(Rule::AdamW(Adam { betas, ..Adam::default() }), groups)
}

/// Trains on batches of `x` in `[0, 1]`; the loss sees normalised images and the step.
#[allow(clippy::type_complexity)]
fn stage(
    vs: &VarStore,
    stage: Stage,
    (x, flips): (&Tensor, bool),
    schedule: Schedule,
    optimizer: Optimizer,
    clip: Option<f64>,
    seed: u64,
    name: &str,
    context: &mut Context<'_>,
    loss: &dyn Fn(&Tensor, &Tensor, Step) -> CoreResult<Tensor>,
    look: Option<&dyn Fn() -> CoreResult<f64>>,
) -> Result<()> {
    let order = Order::new(x.size()[0] as usize, stage.batch, seed)?;
    let place = context.checkpoint_every(2000);
    let place = (place.0.with_extension(name), place.1);
    let config = TrainConfig { checkpoint: Some(place.clone()), clip_norm: clip, ..TrainConfig::new(schedule, seed) };
    let flip = Pipeline(vec![Transform::HorizontalFlip { p: 0.5 }]);
    let every = (stage.steps / LOOKS.0).max(1);
    let history = Trainer::new(config, vs, optimizer)?.run(
        |step| {
            let index = Tensor::from_slice(&order.batch(step.index)).to_device(x.device());
            let mut images = x.index_select(0, &index);
            if flips {
                images = flip.apply(&images, &mut step.rng("flip"))?;
            }
            loss(&standardised(&images), &index, step)
        },
        |mut p| {
            context.progress(p.done, p.total, p.loss);
            if let Some(look) = look
                && (p.done.is_multiple_of(every) || p.done == p.total)
            {
                p.log(&format!("{MAE}, {name}"), look()?)?;
            }
            Ok(())
        },
    )?;
    context.log(&history);
    // The stage is finished; the folder would keep it.
    std::fs::remove_file(place.0).ok();
    Ok(())
}

/// The masked autoencoder that was pre-trained on the source, once.
fn source(config: &Config, context: &mut Context<'_>) -> Result<StateDict> {
    let key = (&config.mae, config.source_images, config.source, config.weight_decay);
    context.shared_tensors("source network", &key, |context| {
        let plan = context.plan;
        let (all, _) = load_images(&plan.dataset, plan.data_dir.as_deref(), plan.download)?;
        let set = of_classes(&all, &SOURCE_CLASSES)?;
        let wanted = config.source_images;
        ensure!(wanted <= set.len(), "source_images: expected at most {}, got {wanted}", set.len());
        let images = part(&set.subset(wanted, split_seed())?, config.mae.side, plan.device);
        let of = |what| seed::derive(0, &["self-distilled-pretraining", what]);
        let model = Model::fresh(config, plan.device, of("source"))?;
        let s = config.source;
        stage(
            &model.vs,
            s,
            (&images.x, true),
            Schedule::new(s.lr, s.steps, Shape::cosine_to(0.0)).warmup(s.steps / 20),
            optimizer(&model.vs, (0.9, 0.95), config.weight_decay)?,
            None,
            of("order"),
            "source",
            context,
            &|x, _, _| Ok(model.mae.forward(x, &model.mae.noise(x.size()[0]))?.loss),
            None,
        )?;
        Ok(model.state())
    })
}

/// One round on the target, from the source's weights; `objective` gives the loss.
fn pretrain(
    name: &str,
    steps: usize,
    config: &Config,
    data: &Data,
    init: &StateDict,
    context: &mut Context<'_>,
    objective: impl Fn(&Model, &Tensor, &Tensor) -> CoreResult<Tensor>,
) -> Result<StateDict> {
    let model = Model::from(config, context.plan.device, init)?;
    let s = Stage { steps, ..config.further };
    let shown = standardised(&data.test.x.narrow(0, 0, data.test.x.size()[0].min(LOOKS.1)));
    tch::manual_seed(0);
    let masks = model.mae.noise(shown.size()[0]);
    let look = || tch::no_grad(|| Ok(model.mae.forward(&shown, &masks)?.loss.double_value(&[])));
    // Batches and masks are those of all arms of the seed.
    let order = context.seed("further");
    stage(
        &model.vs,
        s,
        (&data.train.x, false),
        Schedule::new(s.lr, steps, Shape::Decay { decay: Decay::Linear, end: 0.0 }),
        optimizer(&model.vs, (0.9, 0.95), config.weight_decay)?,
        None,
        order,
        name,
        context,
        &|x, _, _| objective(&model, x, &model.mae.noise(x.size()[0])),
        Some(&look),
    )?;
    Ok(model.state())
}

/// Plain further pre-training, also the teacher of self-distillation; done once per task, steps and seed.
fn further(
    steps: usize,
    task: Task,
    config: &Config,
    data: &Data,
    init: &StateDict,
    context: &mut Context<'_>,
) -> Result<StateDict> {
    let stages = (&config.mae, config.source_images, config.source, config.further, config.weight_decay);
    let key = (stages, steps, config.images, config.held_out, task.name(), context.cell_seed());
    context.shared_tensors(&format!("further pre-training, {steps} steps"), &key, |context| {
        pretrain("teacher", steps, config, data, init, context, |m, x, noise| Ok(m.mae.forward(x, noise)?.loss))
    })
}

/// Pre-trains further by the method, fine-tunes, logs.
pub(super) fn cell(task: Task, method: Method, config: &Config, context: &mut Context<'_>) -> Result<()> {
    let init = source(config, context)?;
    let data = Data::load(task, config, context)?;
    let device = context.plan.device;
    let weights = match method {
        Method::Nothing => init.iter().map(|(n, t)| (n.clone(), t.shallow_clone())).collect(),
        Method::Further(steps) => further(steps, task, config, &data, &init, context)?,
        Method::SelfDistil { teacher, rounds } => {
            let mut weights = further(teacher, task, config, &data, &init, context)?;
            for round in 1..=rounds {
                let teacher = Model::from(config, device, &weights)?;
                let name = format!("round{round}");
                weights = pretrain(&name, config.further.steps, config, &data, &init, context, |m, x, noise| {
                    Ok(config.distillation.forward(&m.mae, &teacher.mae, x, noise)?.total)
                })?;
            }
            weights
        }
        Method::DistilOnly => {
            let teacher = further(config.further.steps, task, config, &data, &init, context)?;
            let teacher = Model::from(config, device, &teacher)?;
            let of: SelfDistillation = config.distillation;
            pretrain("distil", config.further.steps, config, &data, &init, context, |m, x, _| {
                let target = tch::no_grad(|| of.represent(&teacher.mae, x))?;
                Ok(distill_representation(&of.represent(&m.mae, x)?, &target)? * of.weight)
            })?
        }
        Method::Penalty(weight) => {
            let first = on(device, &init);
            pretrain("penalty", config.further.steps, config, &data, &init, context, |m, x, noise| {
                let now: StateDict = m.vs.variables().into_iter().collect();
                Ok(m.mae.forward(x, noise)?.loss + weight_distance_squared(&now, &first, is_encoder)? * weight)
            })?
        }
    };
    fine_tune(&weights, &init, config, &data, context)
}

fn class_tokens(mae: &Mae, x: &Tensor) -> CoreResult<Tensor> {
    Ok(mae.encoder().tokens(x)?.select(1, 0))
}

/// Percent of a part that the fine-tuned network classifies rightly.
fn judged(mae: &Mae, head: &Linear, part: &Part) -> Result<f64> {
    let logits = tch::no_grad(|| {
        let parts = part.x.split(250, 0);
        parts.iter().map(|x| Ok(head.forward(&class_tokens(mae, &standardised(x))?))).collect::<CoreResult<Vec<_>>>()
    })?;
    Ok(100.0 * accuracy(&Tensor::cat(&logits, 0), &part.y)?)
}

fn fine_tune(
    weights: &StateDict,
    init: &StateDict,
    config: &Config,
    data: &Data,
    context: &mut Context<'_>,
) -> Result<()> {
    let model = Model::from(config, context.plan.device, weights)?;
    tch::manual_seed(context.seed("head") as i64);
    let head = layers::linear(model.vs.root() / "head", config.mae.encoder.0, data.classes, true);
    let s = config.fine_tuning;
    let seed = context.seed("fine-tuning");
    stage(
        &model.vs,
        s,
        (&data.train.x, data.flips),
        Schedule::new(s.lr, s.steps, Shape::Decay { decay: Decay::Linear, end: 0.0 }).warmup(s.steps / 10),
        optimizer(&model.vs, (0.9, 0.999), config.weight_decay)?,
        Some(1.0),
        seed,
        "fine-tuning",
        context,
        &|x, index, _| {
            let logits = head.forward(&class_tokens(&model.mae, x)?);
            Ok(logits.cross_entropy_for_logits(&data.train.y.index_select(0, index)))
        },
        None,
    )?;
    for (metric, part) in [(TRAIN, &data.train), (HELD_OUT, &data.held_out), (ACCURACY, &data.test)] {
        context.metric(s.steps, metric, judged(&model.mae, &head, part)?);
    }
    let mut tuned = model.state();
    tuned.retain(|name, t| !name.starts_with("head") && t.kind() == Kind::Float);
    context.metric(s.steps, DISTANCE, weight_distance(&tuned, &on(model.vs.device(), init), is_encoder)?);
    Ok(())
}
