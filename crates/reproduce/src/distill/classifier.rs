//! Classifiers that a larger one teaches: pairs of digits (or other images), networks, their training, the teacher.

use crate::experiment::Plan;
use crate::runner::Context;
use crate::vision::{Part, in_parts};
use anyhow::{Result, ensure};
use autodidact_core::error::check_range;
use autodidact_core::landscape::{load_state_dict, state_dict};
use autodidact_core::metrics::accuracy;
use autodidact_core::nn::{CifarResNet, ResNet, ResNetConfig, ResNetDepth, ResNetStem, layers};
use autodidact_core::optim::{Group, Optimizer, Rule, Sgd};
use autodidact_core::schedule::{Schedule, Shape};
use autodidact_core::train::{History, Progress, Step, TrainConfig, Trainer};
use autodidact_core::{Error, Result as CoreResult, seed};
use autodidact_datasets::augment::{Pipeline, Transform};
use autodidact_datasets::batch::Order;
use autodidact_datasets::image::{ImageSet, digits};
use autodidact_datasets::load_images;
use autodidact_distill::logits::label_smoothing;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use tch::nn::{BatchNorm, Conv2D, Linear, Module, ModuleT, VarStore};
use tch::{Device, Tensor};

/// Images are classified in batches of this size.
const EVALUATED: i64 = 500;
/// Names the random streams of data and teacher, which all experiments share; that of the first of them.
const STREAM: &str = "normalized-distillation";

/// A network of the study.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// Three 3x3 convolutions of these widths with batch norm, 2x2 max-pooling after the first two, and a hidden layer.
    Small { widths: [i64; 3], hidden: i64 },
    /// ResNet-18 with the CIFAR stem.
    Resnet18,
    /// ResNet-34 with the CIFAR stem.
    Resnet34,
    /// The thin residual network of this many layers: 20, 32, 56, ...
    Cifar { depth: usize },
}

/// How a network is trained: SGD with momentum 0.9, its rate divided by 10 at 60 and 85 % of the epochs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Training {
    pub network: Network,
    /// Training images.
    pub images: usize,
    pub epochs: usize,
    pub batch: usize,
    pub lr: f64,
    pub weight_decay: f64,
    /// Largest norm of the gradient: losses of large weight would ruin a fresh network.
    pub clip: Option<f64>,
}

/// One data set.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Setting {
    pub teacher: Training,
    pub student: Training,
    /// Test images.
    pub test: usize,
    /// Images are average-pooled to this side (not those of digits).
    pub side: i64,
    /// Random crops and flips; the teacher's logits are then computed anew for every batch.
    pub augment: bool,
}

impl Training {
    /// Batches of 64, rate 0.05, weight decay 5e-4, no clipping.
    pub fn new(network: Network, images: usize, epochs: usize) -> Self {
        Self { network, images, epochs, batch: 64, lr: 0.05, weight_decay: 5e-4, clip: None }
    }

    fn check(&self, name: &str) -> Result<()> {
        let key = |field: &str| format!("{name}.{field}");
        check_range(&key("images"), self.images as f64, self.batch as f64..)?;
        check_range(&key("epochs"), self.epochs as f64, 1.0..)?;
        check_range(&key("batch"), self.batch as f64, 2.0..)?;
        check_range(&key("lr"), self.lr, f64::MIN_POSITIVE..)?;
        check_range(&key("weight_decay"), self.weight_decay, 0.0..)?;
        if let Some(clip) = self.clip {
            check_range(&key("clip"), clip, f64::MIN_POSITIVE..)?;
        }
        match &self.network {
            Network::Small { widths, hidden } => {
                for width in widths.iter().chain([hidden]) {
                    check_range(&key("network"), *width as f64, 1.0..)?;
                }
            }
            Network::Cifar { depth } => {
                ensure!(*depth >= 8 && depth % 6 == 2, "{name}.network: expected 6 n + 2 layers, got {depth}");
            }
            Network::Resnet18 | Network::Resnet34 => {}
        }
        Ok(())
    }
}

impl Setting {
    /// Pairs of digits: a small network taught by one six times as wide, on the first 3000 of its 20,000 images.
    pub fn digits() -> Self {
        let small = |widths, hidden| Network::Small { widths, hidden };
        Self {
            teacher: Training::new(small([24, 48, 96], 192), 20_000, 12),
            student: Training::new(small([4, 8, 16], 32), 3000, 30),
            test: 4000,
            side: 8,
            augment: false,
        }
    }

    /// Colour images at half of CIFAR's side, augmented.
    pub fn color() -> Self {
        let small = |widths, hidden| Network::Small { widths, hidden };
        Self {
            teacher: Training::new(small([32, 64, 128], 256), 10_000, 15),
            student: Training::new(small([8, 16, 32], 64), 10_000, 15),
            test: 4000,
            side: 16,
            augment: true,
        }
    }

    /// The same within seconds.
    pub fn smoke(self) -> Self {
        let brief = |t: Training| Training { images: 500, epochs: 2, ..t };
        Self { teacher: brief(self.teacher), student: brief(self.student), test: 200, ..self }
    }

    /// Checks everything that `--set` may have changed; `name` is the setting's in the configuration.
    pub fn check(&self, name: &str) -> Result<()> {
        self.teacher.check(&format!("{name}.teacher"))?;
        self.student.check(&format!("{name}.student"))?;
        ensure!(
            self.student.images <= self.teacher.images,
            "{name}.student.images: expected at most the teacher's {}, got {}",
            self.teacher.images,
            self.student.images
        );
        check_range(&format!("{name}.test"), self.test as f64, 1.0..)?;
        if name == "color" { crate::vision::check_side("color.side", self.side, 32) } else { Ok(()) }
    }
}

/// Images as networks see them, with their labels, on the plan's device.
pub struct Data {
    pub train: Part,
    pub test: Part,
    pub classes: i64,
    augment: Option<Pipeline>,
}

/// Pairs of digits side by side, `[count, 1, 8, 16]`, under noise of standard deviation 0.3; the label is the two-digit number.
fn pairs(pool: &ImageSet, count: usize, purpose: &str) -> Result<(Tensor, Tensor)> {
    let rng = &mut seed::rng(0, &[STREAM, "pairs", purpose]);
    let mut draw = || -> Vec<i64> { (0..count).map(|_| rng.random_range(0..pool.len() as i64)).collect() };
    let [left, right] = [(); 2].map(|()| Tensor::from_slice(&draw()));
    let (images, labels) = (pool.to_float(), &pool.labels);
    let x = Tensor::cat(&[images.index_select(0, &left), images.index_select(0, &right)], 3);
    let x = Pipeline(vec![Transform::Noise { std: 0.3 }]).apply(&x, rng)?;
    Ok(((x - 0.3) / 0.45, labels.index_select(0, &left) * 10 + labels.index_select(0, &right)))
}

impl Data {
    /// As many training images as the teacher's; the student's are the first of them.
    pub fn load(plan: &Plan, setting: &Setting) -> Result<Self> {
        let split = Self::split();
        let images = setting.teacher.images;
        if plan.dataset == "digits" {
            let (pool, held) = digits().split(1297, split)?;
            let part = |(x, y): (Tensor, Tensor)| Part { x: x.to_device(plan.device), y: y.to_device(plan.device) };
            let train = part(pairs(&pool, images, "train")?);
            return Ok(Self { train, test: part(pairs(&held, setting.test, "test")?), classes: 100, augment: None });
        }
        let (all, held) = load_images(&plan.dataset, plan.data_dir.as_deref(), plan.download)?;
        let part = |set: &ImageSet, count: usize| -> Result<Part> {
            Ok(Part::new(&set.subset(count.min(set.len()), split)?, setting.side, plan.device).standardised())
        };
        let augment = setting.augment.then(|| {
            let padding = setting.side as usize / 8;
            Pipeline(vec![Transform::PaddedCrop { padding }, Transform::HorizontalFlip { p: 0.5 }])
        });
        let classes = all.classes.len() as i64;
        Ok(Self { train: part(&all, images)?, test: part(&held, setting.test)?, classes, augment })
    }

    /// The same choice of digits and images for all seeds and arms.
    fn split() -> u64 {
        seed::derive(0, &[STREAM, "split"])
    }

    /// Images like the training images that no network trains on, to choose settings by.
    pub fn validation(plan: &Plan, setting: &Setting, count: usize) -> Result<Part> {
        if plan.dataset == "digits" {
            let (x, y) = pairs(&digits().split(1297, Self::split())?.0, count, "validation")?;
            return Ok(Part { x: x.to_device(plan.device), y: y.to_device(plan.device) });
        }
        let (all, _) = load_images(&plan.dataset, plan.data_dir.as_deref(), plan.download)?;
        let used = setting.teacher.images;
        let set = all.subset(used + count, Self::split())?;
        Ok(Part::new(&set, setting.side, plan.device).standardised().slice(used as i64, count as i64))
    }
}

/// What comes before the classifier.
#[derive(Debug)]
enum Body {
    Small { blocks: Vec<(Conv2D, BatchNorm)>, hidden: Linear },
    ResNet(Box<ResNet>),
    Cifar(Box<CifarResNet>),
}

/// A classifier that also gives an intermediate feature.
#[derive(Debug)]
pub struct Net {
    pub vs: VarStore,
    body: Body,
    pub classifier: Linear,
    /// Width of what the classifier sees.
    pub features: i64,
    /// Width of the intermediate feature.
    pub tap: i64,
}

/// What a network makes of images.
pub struct Output {
    /// What the classifier sees, `[N, features]`.
    pub features: Tensor,
    /// `[N, classes]`.
    pub logits: Tensor,
    /// The pooled output of the last but one block or stage (of thin residual networks, the features), `[N, tap]`.
    pub tap: Tensor,
}

impl Net {
    /// Fresh weights for images `[N, C, H, W]`.
    pub fn new(network: &Network, image: &[i64], classes: i64, device: Device, init: u64) -> Result<Self> {
        let vs = VarStore::new(device);
        tch::manual_seed(init as i64);
        let (p, channels) = (vs.root(), image[1]);
        let (body, features, tap) = match network {
            Network::Small { widths, hidden } => {
                let inputs = std::iter::once(channels).chain(*widths);
                let blocks = inputs.zip(widths).enumerate().map(|(i, (input, width))| {
                    let p = &p / "blocks" / i;
                    let conv = layers::conv2d(&p / "conv", input, *width, 3, 1, 1, false);
                    (conv, layers::batch_norm2d(&p / "norm", *width))
                });
                let blocks = blocks.collect();
                let flat = widths[2] * (image[2] / 4) * (image[3] / 4);
                let layer = layers::linear(&p / "hidden", flat, *hidden, true);
                (Body::Small { blocks, hidden: layer }, *hidden, widths[1])
            }
            Network::Resnet18 | Network::Resnet34 => {
                let depth = if *network == Network::Resnet18 { ResNetDepth::D18 } else { ResNetDepth::D34 };
                let config = ResNetConfig { channels, ..ResNetConfig::new(depth, ResNetStem::Cifar) };
                let features = config.features();
                (Body::ResNet(Box::new(ResNet::new(&p / "encoder", &config))), features, features / 2)
            }
            Network::Cifar { depth } => {
                let net = CifarResNet::new(&p / "encoder", *depth, channels)?;
                (Body::Cifar(Box::new(net)), CifarResNet::FEATURES, CifarResNet::FEATURES)
            }
        };
        let classifier = layers::linear(&p / "classifier", features, classes, true);
        Ok(Self { vs, body, classifier, features, tap })
    }

    pub fn forward(&self, x: &Tensor, train: bool) -> Output {
        let (features, tap) = match &self.body {
            Body::Small { blocks, hidden } => {
                let mut tap = None;
                let mut x = x.shallow_clone();
                for (i, (conv, norm)) in blocks.iter().enumerate() {
                    x = norm.forward_t(&conv.forward(&x), train).relu();
                    if i < 2 {
                        x = x.max_pool2d(2, 2, 0, 1, false);
                        tap = Some(x.mean_dim([2i64, 3].as_slice(), false, x.kind()));
                    }
                }
                (hidden.forward(&x.flatten(1, -1)).relu(), tap.expect("there are three blocks"))
            }
            Body::ResNet(net) => net.forward_with_tap(x, train),
            Body::Cifar(net) => {
                let features = net.forward_t(x, train);
                (features.shallow_clone(), features)
            }
        };
        Output { logits: self.classifier.forward(&features), features, tap }
    }

    /// Logits in evaluation mode, without gradients.
    pub fn logits(&self, x: &Tensor) -> Tensor {
        in_parts(x, EVALUATED, |x| self.forward(x, false).logits)
    }

    /// Trains on the first images; the loss gets the batch with the network's output.
    pub fn train(
        &self,
        training: &Training,
        data: &Data,
        seed: u64,
        checkpoint: Option<(PathBuf, usize)>,
        loss: impl Fn(&Batch<'_>) -> CoreResult<Tensor>,
        mut observe: impl FnMut(&mut Progress<'_>) -> Result<()>,
    ) -> Result<History> {
        let order = Order::new(training.images.min(data.train.len() as usize), training.batch, seed)?;
        let per_epoch = order.batches_per_epoch();
        let steps = training.epochs * per_epoch;
        let drop_at = |share: f64| (share * training.epochs as f64).round() as usize * per_epoch;
        let shape = Shape::Steps(vec![(drop_at(0.6), 0.1), (drop_at(0.85), 0.01)]);
        let schedule = Schedule::new(training.lr, steps, shape);
        let config = TrainConfig { checkpoint, clip_norm: training.clip, ..TrainConfig::new(schedule, seed) };
        let optimizer = Optimizer::new(Rule::Sgd(Sgd::default()), vec![Group::all(&self.vs, training.weight_decay)])?;
        let history = Trainer::new(config, &self.vs, optimizer)?.run(
            |step: Step| {
                let index = Tensor::from_slice(&order.batch(step.index)).to_device(data.train.x.device());
                let (mut x, y) = (data.train.x.index_select(0, &index), data.train.y.index_select(0, &index));
                if let Some(augment) = &data.augment {
                    x = augment.apply(&x, &mut step.rng("augment"))?;
                }
                let output = self.forward(&x, true);
                let epoch_ends = (step.index + 1).is_multiple_of(per_epoch);
                let done = step.index as f64 / steps as f64;
                loss(&Batch { x: &x, y: &y, index: &index, output, epoch_ends, done })
            },
            |mut p| observe(&mut p).map_err(|e| Error::Failed(format!("{e:#}"))),
        )?;
        Ok(history)
    }

    /// Percent of the images that are classified rightly.
    pub fn accuracy(&self, part: &Part) -> Result<f64> {
        Ok(100.0 * accuracy(&self.logits(&part.x), &part.y)?)
    }
}

/// What a loss sees.
pub struct Batch<'a> {
    pub x: &'a Tensor,
    pub y: &'a Tensor,
    /// Places among the training images.
    pub index: &'a Tensor,
    pub output: Output,
    /// Whether it is the last of its epoch.
    pub epoch_ends: bool,
    /// Share of the steps that are done.
    pub done: f64,
}

/// Trained once for all seeds and arms, with label smoothing if that is above 0.
pub fn teacher(setting: &Setting, smoothing: f64, data: &Data, context: &mut Context<'_>) -> Result<Net> {
    let of = |name| seed::derive(0, &[STREAM, "teacher", name]);
    let size = data.train.x.size();
    let fresh = Net::new(&setting.teacher.network, &size, data.classes, context.plan.device, of("init"))?;
    let name = if smoothing > 0.0 { format!("teacher/smoothing={smoothing}") } else { "teacher".to_owned() };
    let key = (&setting.teacher, setting.side, setting.augment);
    let weights = context.shared_tensors(&name, &key, |context| {
        let place = context.checkpoint_every(1000);
        let place = (place.0.with_extension("teacher"), place.1);
        fresh.train(
            &setting.teacher,
            data,
            of("order"),
            Some(place.clone()),
            |batch| match smoothing {
                0.0 => Ok(batch.output.logits.cross_entropy_for_logits(batch.y)),
                _ => label_smoothing(&batch.output.logits, batch.y, smoothing),
            },
            |p| {
                context.progress(p.done, p.total, p.loss);
                Ok(())
            },
        )?;
        // The run is finished; the folder would keep it.
        std::fs::remove_file(place.0).ok();
        Ok(state_dict(&fresh.vs))
    })?;
    load_state_dict(&fresh.vs, &weights)?;
    Ok(fresh)
}

/// The teacher's logits for the student's images, or none where augmentation makes every batch new.
pub fn cached_logits(setting: &Setting, teacher: &Net, data: &Data) -> Option<Tensor> {
    let images = data.train.len().min(setting.student.images as i64);
    (!setting.augment).then(|| teacher.logits(&data.train.x.narrow(0, 0, images)))
}
