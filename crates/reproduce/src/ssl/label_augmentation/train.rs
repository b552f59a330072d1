//! One cell: data, network, training and evaluation.

use super::{AGGREGATE, Config, JOINT, SINGLE, TRANSFORMATION};
use crate::experiment::Plan;
use crate::runner::Context;
use crate::vision::{Part, check_side, features, standardised};
use anyhow::{Result, bail, ensure};
use autodidact_core::error::check_range;
use autodidact_core::metrics::accuracy;
use autodidact_core::nn::{CifarResNet, ConvNet, ConvNetConfig, ConvNetHead, layers};
use autodidact_core::optim::{Group, Optimizer, Rule, Sgd};
use autodidact_core::schedule::{Schedule, Shape};
use autodidact_core::train::{History, Progress, TrainConfig, Trainer};
use autodidact_core::{Error, seed};
use autodidact_datasets::augment::{Pipeline, RandomAffine, Transform};
use autodidact_datasets::batch::Order;
use autodidact_datasets::image::{ImageSet, digits};
use autodidact_datasets::load_images;
use autodidact_ssl::label_augmentation::{
    Classifier, ColorPerm3, ColorPerm6, Compose, CrossTransformAccuracy, Identity, InputTransform, Mode, Rotation2,
    Rotation4, SlaLoss, aggregate_logits,
};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use tch::nn::{BatchNorm, ModuleT, Path, VarStore};
use tch::{Kind, Tensor};

/// Data sizes, network and optimiser of one part.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Setting {
    /// Layers of the thin ResNet; none is the small network for digits.
    pub depth: Option<usize>,
    /// Labelled images (at most); on digits the number of labels decides.
    pub images: usize,
    /// Test images (at most).
    pub test: usize,
    /// Images are average-pooled to this side.
    pub side: i64,
    /// Images per step, before they are transformed.
    pub batch: usize,
    /// Steps.
    pub steps: usize,
    /// Learning rate, divided by 10 at one half and at three quarters of the steps.
    pub lr: f64,
    /// Weight decay.
    pub weight_decay: f64,
}

impl Setting {
    /// Checks what `--set` may have changed; `image` is the side of the images.
    pub(super) fn check(&self, name: &str, image: i64) -> Result<()> {
        let key = |field: &str| format!("{name}.{field}");
        if let Some(depth) = self.depth {
            ensure!(depth >= 8 && depth % 6 == 2, "{}: expected 6 n + 2 layers, got {depth}", key("depth"));
            check_range(&key("images"), self.images as f64, self.batch as f64..)?;
        }
        check_side(&key("side"), self.side, image)?;
        check_range(&key("batch"), self.batch as f64, 1.0..)?;
        check_range(&key("steps"), self.steps as f64, 1.0..)?;
        check_range(&key("test"), self.test as f64, 1.0..)?;
        check_range(&key("lr"), self.lr, f64::MIN_POSITIVE..)?;
        Ok(check_range(&key("weight_decay"), self.weight_decay, 0.0..)?)
    }
}

/// The transformations of a name.
pub(super) fn transformation(name: &str) -> Result<Box<dyn InputTransform>> {
    Ok(match name {
        "identity" => Box::new(Identity),
        "rotation" => Box::new(Rotation4),
        "color3" => Box::new(ColorPerm3),
        "color6" => Box::new(ColorPerm6),
        "rotation2xcolor3" => Box::new(Compose(Rotation2, ColorPerm3)),
        "rotationxcolor3" => Box::new(Compose(Rotation4, ColorPerm3)),
        "rotationxcolor6" => Box::new(Compose(Rotation4, ColorPerm6)),
        _ => bail!("unknown transformation {name}"),
    })
}

/// What an arm's name says.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Arm {
    mode: Mode,
    /// Batches per step.
    batches: usize,
    ensemble: bool,
    transformation: String,
    /// Digits, with so many labels of each class.
    labels: Option<usize>,
    /// Long-tailed data.
    ratio: Option<f64>,
}

impl Arm {
    pub(super) fn parse(arm: &str) -> Result<Self> {
        let (name, rest) = arm.split_once('/').unwrap_or((arm, ""));
        let (name, transformation) = name.split_once(':').unwrap_or((name, "rotation"));
        let mode = match name {
            "baseline" | "baseline-4x" | "ensemble" => Mode::Baseline,
            "da" => Mode::DataAugmentation,
            "mt" => Mode::MultiTask,
            "sla" => Mode::Sla,
            "sla+sd" => Mode::SelfDistilled,
            _ => bail!("unknown arm {arm}"),
        };
        let transformation = if mode == Mode::Baseline { "identity" } else { transformation };
        let mut parsed = Self {
            mode,
            batches: if name == "baseline-4x" { 4 } else { 1 },
            ensemble: name == "ensemble",
            transformation: transformation.into(),
            labels: None,
            ratio: None,
        };
        match rest.split_once('=') {
            Some(("labels", n)) => parsed.labels = Some(n.parse()?),
            Some(("ratio", r)) => parsed.ratio = Some(r.parse()?),
            None if rest.is_empty() => {}
            _ => bail!("unknown arm {arm}"),
        }
        Ok(parsed)
    }
}

struct Data {
    train: Part,
    test: Part,
    classes: i64,
    augment: Pipeline,
}

impl Data {
    /// The test images are the same for all cells, the labelled ones for all arms of a part and seed.
    fn load(plan: &Plan, setting: &Setting, arm: &Arm, repetition: u64) -> Result<Self> {
        let split = seed::derive(0, &["label-augmentation", "split"]);
        let draw = |purpose: &str| seed::derive(repetition, &["label-augmentation", "labelled", purpose]);
        let (pool, held) = match arm.labels {
            Some(_) => digits().split(1297, split)?,
            None => load_images(&plan.dataset, plan.data_dir.as_deref(), plan.download)?,
        };
        let classes = pool.classes.len();
        let train = match (arm.labels, arm.ratio) {
            (Some(labels), _) => pool.subset(labels * classes, draw(&labels.to_string()))?,
            (None, Some(ratio)) => {
                let most = setting.images.min(pool.len()) / classes;
                let of = |c: usize| (most as f64 * ratio.powf(c as f64 / (classes.max(2) - 1) as f64)).ceil() as usize;
                pool.with_class_counts(&(0..classes).map(of).collect::<Vec<_>>(), draw("long tail"))?.0
            }
            (None, None) => pool.subset(setting.images.min(pool.len()), draw("all"))?,
        };
        let test = held.subset(setting.test.min(held.len()), split)?;
        let augment = if arm.labels.is_some() {
            // Up to 1.2 pixels each way.
            let shift = RandomAffine { rotation: 0.0, zoom: (1.0, 1.0), shift: 0.3 };
            vec![Transform::Affine(shift), Transform::Noise { std: 0.1 }]
        } else {
            let padding = setting.side as usize / 8;
            vec![Transform::PaddedCrop { padding }, Transform::HorizontalFlip { p: 0.5 }]
        };
        let part = |set: &ImageSet| Part::new(set, setting.side, plan.device);
        Ok(Self { train: part(&train), test: part(&test), classes: classes as i64, augment: Pipeline(augment) })
    }
}

/// Two convolutions and a linear layer of 64 units, each with batch norm and ReLU.
#[derive(Debug)]
struct SmallNet(ConvNet, BatchNorm);

impl SmallNet {
    const FEATURES: i64 = 64;

    fn new(p: Path, channels: i64, side: i64) -> Result<Self> {
        let head = ConvNetHead::Flatten { side, width: Self::FEATURES };
        let config = ConvNetConfig { channels, blocks: vec![(32, 1), (64, 2)], head };
        Ok(Self(ConvNet::new(&p / "net", &config)?, layers::batch_norm1d(&p / "norm", Self::FEATURES)))
    }
}

impl ModuleT for SmallNet {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        self.1.forward_t(&self.0.forward_t(x, train), train).relu()
    }
}

struct Network {
    encoder: Box<dyn ModuleT>,
    classifier: Classifier,
    transform: Box<dyn InputTransform>,
    /// Per step.
    batches: usize,
    vs: VarStore,
}

impl Network {
    fn new(arm: &Arm, setting: &Setting, data: &Data, init: u64) -> Result<Self> {
        let vs = VarStore::new(data.train.x.device());
        tch::manual_seed(init as i64);
        let (p, channels) = (vs.root() / "encoder", data.train.x.size()[1]);
        let (encoder, features): (Box<dyn ModuleT>, i64) = match setting.depth {
            Some(depth) => (Box::new(CifarResNet::new(p, depth, channels)?), CifarResNet::FEATURES),
            None => (Box::new(SmallNet::new(p, channels, setting.side)?), SmallNet::FEATURES),
        };
        let transform = transformation(&arm.transformation)?;
        let classifier = Classifier::new(vs.root() / "classifier", arm.mode, features, data.classes, transform.m())?;
        Ok(Self { encoder, classifier, transform, batches: arm.batches, vs })
    }

    fn train(
        &self,
        setting: &Setting,
        loss: &SlaLoss,
        data: &Data,
        order: u64,
        checkpoint: (PathBuf, usize),
        mut observe: impl FnMut(&mut Progress<'_>) -> Result<()>,
    ) -> Result<History> {
        let steps = setting.steps;
        let shape = Shape::Steps(vec![(steps / 2, 0.1), (steps * 3 / 4, 0.01)]);
        let schedule = Schedule::new(setting.lr, steps, shape);
        let config = TrainConfig { checkpoint: Some(checkpoint), ..TrainConfig::new(schedule, order) };
        let optimizer = Optimizer::new(Rule::Sgd(Sgd::default()), vec![Group::all(&self.vs, setting.weight_decay)])?;
        let order = Order::new(data.train.len() as usize, setting.batch, order)?;
        let history = Trainer::new(config, &self.vs, optimizer)?.run(
            |step| {
                let index: Vec<i64> =
                    (0..self.batches).flat_map(|i| order.batch(step.index * self.batches + i)).collect();
                let index = Tensor::from_slice(&index).to_device(data.train.x.device());
                let x = data.augment.apply(&data.train.x.index_select(0, &index), &mut step.rng("augment"))?;
                let z = self.encoder.forward_t(&standardised(&self.transform.apply_all(&x)?), true);
                self.classifier.loss(loss, &z, &data.train.y.index_select(0, &index))
            },
            |mut p| observe(&mut p).map_err(|e| Error::Failed(format!("{e:#}"))),
        )?;
        Ok(history)
    }

    fn single(&self, x: &Tensor) -> Result<Tensor> {
        tch::no_grad(|| Ok(self.classifier.single(&features(&*self.encoder, x))?))
    }

    /// Representations of all copies.
    fn copies(&self, x: &Tensor) -> Result<Tensor> {
        Ok(features(&*self.encoder, &self.transform.apply_all(x)?))
    }
}

/// Test images on which a joint classifier is watched.
const WATCHED: i64 = 500;

/// Trains and evaluates; logs everything.
pub(super) fn cell(arm: &Arm, config: &Config, context: &mut Context<'_>) -> Result<()> {
    let setting = if arm.labels.is_some() { &config.digits } else { &config.color };
    let data = Data::load(context.plan, setting, arm, context.cell_seed())?;
    let members = if arm.ensemble { config.members } else { 1 };
    let (init, order) = (context.seed("init"), context.seed("order"));
    let (steps, watch) = (setting.steps, (setting.steps / 10).max(1));
    let (checkpoint, every) = context.checkpoint_every(500);
    let watched = data.test.slice(0, data.test.len().min(WATCHED));
    let mut probabilities = vec![];
    for member in 0..members {
        // The first member is the baseline of the same seed.
        let of = |seed: u64| if member == 0 { seed } else { seed::derive(seed, &["member", &member.to_string()]) };
        let network = Network::new(arm, setting, &data, of(init))?;
        let m = network.transform.m();
        let place = (checkpoint.with_extension(format!("{member}")), every);
        let history = network.train(setting, &config.loss(), &data, of(order), place, |p| {
            context.progress(member * steps + p.done, members * steps, p.loss);
            if arm.mode == Mode::Sla && (p.done.is_multiple_of(watch) || p.done == 1) {
                let z = network.copies(&watched.x)?;
                if let Some(joint) = tch::no_grad(|| network.classifier.joint(&z)) {
                    let right = CrossTransformAccuracy::new(&joint, &watched.y, m)?;
                    let aggregate = accuracy(&aggregate_logits(&joint, m)?, &watched.y)?;
                    p.log(JOINT, 100.0 * right.joint)?;
                    p.log(TRANSFORMATION, 100.0 * right.transformation)?;
                    p.log("watched single accuracy", 100.0 * right.per_transformation[0])?;
                    p.log("watched aggregate accuracy", 100.0 * aggregate)?;
                }
            }
            Ok(())
        })?;
        let single = network.single(&data.test.x)?;
        if arm.ensemble {
            probabilities.push(single.softmax(-1, Kind::Float));
            // The run is finished; the folder would keep it.
            std::fs::remove_file(checkpoint.with_extension(format!("{member}"))).ok();
            continue;
        }
        context.log(&history);
        context.metric(steps, SINGLE, 100.0 * accuracy(&single, &data.test.y)?);
        if m > 1 {
            let z = network.copies(&data.test.x)?;
            let scores = tch::no_grad(|| network.classifier.aggregate(&z))?;
            context.metric(steps, AGGREGATE, 100.0 * accuracy(&scores, &data.test.y)?);
        }
    }
    if arm.ensemble {
        context.metric(
            steps,
            AGGREGATE,
            100.0
                * accuracy(
                    &Tensor::stack(&probabilities, 0).mean_dim([0i64].as_slice(), false, Kind::Float),
                    &data.test.y,
                )?,
        );
    }
    Ok(())
}
