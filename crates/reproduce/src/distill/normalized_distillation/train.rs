//! One cell: data, teacher, student.

use super::{
    ACCURACY, Config, Method, Network, OVERHEAD, OVERHEAD_STUDENT, STUDENT_MASS, Setting, TEACHER, TEACHER_MASS,
    Training,
};
use crate::experiment::Plan;
use crate::runner::Context;
use crate::vision::{Part, standardised};
use anyhow::Result;
use autodidact_core::metrics::accuracy;
use autodidact_core::nn::{Depth, ResNet, ResNetConfig, Stem, layers};
use autodidact_core::optim::{Group, Optimizer, Rule, Sgd};
use autodidact_core::schedule::{Schedule, Shape};
use autodidact_core::train::{History, Progress, Step, TrainConfig, Trainer};
use autodidact_core::{Error, Result as CoreResult, seed};
use autodidact_datasets::augment::{Pipeline, Transform};
use autodidact_datasets::batch::Order;
use autodidact_datasets::image::{ImageSet, digits};
use autodidact_datasets::load_images;
use autodidact_distill::logits::{kd_cross_entropy, label_smoothing, non_target_log_softmax, non_targets};
use autodidact_distill::normalized_distillation::{
    Nkd, RankScore, Uskd, UskdConfig, kd_decomposition, rank_score, zipf_labels,
};
use rand::RngExt;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;
use tch::nn::{BatchNorm, Conv2D, Linear, Module, ModuleT, VarStore};
use tch::{Device, Kind, Tensor};

/// Share of the steps over which DKD's weight rises: 20 of 240 epochs, as in its own code.
const DKD_WARMUP: f64 = 20.0 / 240.0;
/// Images are classified in batches of this size.
const EVALUATED: i64 = 500;

/// Images as networks see them, with their labels, on the plan's device.
struct Data {
    train: Part,
    test: Part,
    classes: i64,
    augment: Option<Pipeline>,
}

/// Pairs of digits side by side, `[count, 1, 8, 16]`, under noise of standard deviation 0.3; the label is the two-digit number.
fn pairs(pool: &ImageSet, count: usize, purpose: &str) -> Result<(Tensor, Tensor)> {
    let rng = &mut seed::rng(0, &["normalized-distillation", "pairs", purpose]);
    let mut draw = || -> Vec<i64> { (0..count).map(|_| rng.random_range(0..pool.len() as i64)).collect() };
    let [left, right] = [(); 2].map(|()| Tensor::from_slice(&draw()));
    let (images, labels) = (pool.to_float(), &pool.labels);
    let x = Tensor::cat(&[images.index_select(0, &left), images.index_select(0, &right)], 3);
    let x = Pipeline(vec![Transform::Noise { std: 0.3 }]).apply(&x, rng)?;
    Ok(((x - 0.3) / 0.45, labels.index_select(0, &left) * 10 + labels.index_select(0, &right)))
}

impl Data {
    /// As many training images as the teacher's; the student's are the first of them.
    fn load(plan: &Plan, setting: &Setting) -> Result<Self> {
        let split = seed::derive(0, &["normalized-distillation", "split"]);
        let images = setting.teacher.images;
        if plan.dataset == "digits" {
            let (pool, held) = digits().split(1297, split)?;
            let part = |(x, y): (Tensor, Tensor)| Part { x: x.to_device(plan.device), y: y.to_device(plan.device) };
            let train = part(pairs(&pool, images, "train")?);
            return Ok(Self { train, test: part(pairs(&held, setting.test, "test")?), classes: 100, augment: None });
        }
        let (all, held) = load_images(&plan.dataset, plan.data_dir.as_deref(), plan.download)?;
        let part = |set: &ImageSet, count: usize| -> Result<Part> {
            let Part { x, y } = Part::new(&set.subset(count.min(set.len()), split)?, setting.side, plan.device);
            Ok(Part { x: standardised(&x), y })
        };
        let augment = setting.augment.then(|| {
            let padding = setting.side as usize / 8;
            Pipeline(vec![Transform::PaddedCrop { padding }, Transform::HorizontalFlip { p: 0.5 }])
        });
        let classes = all.classes.len() as i64;
        Ok(Self { train: part(&all, images)?, test: part(&held, setting.test)?, classes, augment })
    }
}

/// What comes before the classifier.
#[derive(Debug)]
enum Body {
    Small { blocks: Vec<(Conv2D, BatchNorm)>, hidden: Linear },
    ResNet(Box<ResNet>),
}

/// A classifier that also gives an intermediate feature.
#[derive(Debug)]
struct Net {
    vs: VarStore,
    body: Body,
    classifier: Linear,
    /// Width of the intermediate feature.
    tap: i64,
}

impl Net {
    /// Fresh weights for images `[N, C, H, W]`.
    fn new(network: &Network, image: &[i64], classes: i64, device: Device, init: u64) -> Self {
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
                let depth = if *network == Network::Resnet18 { Depth::D18 } else { Depth::D34 };
                let config = ResNetConfig { channels, ..ResNetConfig::new(depth, Stem::Cifar) };
                let features = config.features();
                (Body::ResNet(Box::new(ResNet::new(&p / "encoder", &config))), features, features / 2)
            }
        };
        let classifier = layers::linear(&p / "classifier", features, classes, true);
        Self { vs, body, classifier, tap }
    }

    /// Logits `[N, classes]` and the pooled output of the last but one block or stage.
    fn forward(&self, x: &Tensor, train: bool) -> (Tensor, Tensor) {
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
        };
        (self.classifier.forward(&features), tap)
    }

    fn logits(&self, x: &Tensor) -> Tensor {
        let of = |x: &Tensor| self.forward(x, false).0;
        tch::no_grad(|| Tensor::cat(&x.split(EVALUATED, 0).iter().map(of).collect::<Vec<_>>(), 0))
    }

    /// Trains on the first images; the loss gets the step, the batch's images, indices and labels, logits and taps.
    fn train(
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
        let config = TrainConfig { checkpoint, clip_norm: Some(training.clip), ..TrainConfig::new(schedule, seed) };
        let optimizer = Optimizer::new(Rule::Sgd(Sgd::default()), vec![Group::all(&self.vs, training.weight_decay)])?;
        let history = Trainer::new(config, &self.vs, optimizer)?.run(
            |step: Step| {
                let index = Tensor::from_slice(&order.batch(step.index)).to_device(data.train.x.device());
                let (mut x, y) = (data.train.x.index_select(0, &index), data.train.y.index_select(0, &index));
                if let Some(augment) = &data.augment {
                    x = augment.apply(&x, &mut step.rng("augment"))?;
                }
                let (logits, tap) = self.forward(&x, true);
                let epoch_ends = (step.index + 1).is_multiple_of(per_epoch);
                let done = step.index as f64 / steps as f64;
                loss(&Batch { x: &x, y: &y, index: &index, logits, tap, epoch_ends, done })
            },
            |mut p| observe(&mut p).map_err(|e| Error::Failed(format!("{e:#}"))),
        )?;
        Ok(history)
    }

    fn accuracy(&self, part: &Part) -> Result<f64> {
        Ok(100.0 * accuracy(&self.logits(&part.x), &part.y)?)
    }
}

/// What a loss sees.
struct Batch<'a> {
    x: &'a Tensor,
    y: &'a Tensor,
    index: &'a Tensor,
    logits: Tensor,
    tap: Tensor,
    /// Whether it is the last of its epoch.
    epoch_ends: bool,
    /// Share of the steps that are done.
    done: f64,
}

/// The trained teacher, as it is kept for all cells.
#[derive(Debug, Serialize, Deserialize)]
struct Weights(BTreeMap<String, Vec<f32>>);

impl Weights {
    fn of(vs: &VarStore) -> Result<Self> {
        let flat =
            |t: Tensor| -> Result<Vec<f32>> { Ok(t.to_device(Device::Cpu).to_kind(Kind::Float).view(-1).try_into()?) };
        Ok(Self(vs.variables().into_iter().map(|(name, t)| Ok((name, flat(t)?))).collect::<Result<_>>()?))
    }

    fn put(&self, vs: &VarStore) {
        tch::no_grad(|| {
            for (name, mut variable) in vs.variables() {
                if let Some(values) = self.0.get(&name) {
                    variable.copy_(&Tensor::from_slice(values).view(&variable.size()[..]));
                }
            }
        });
    }
}

/// Trained once; the same for all seeds and arms.
fn teacher(setting: &Setting, data: &Data, context: &mut Context<'_>) -> Result<Net> {
    let of = |name| seed::derive(0, &["normalized-distillation", "teacher", name]);
    let fresh = Net::new(&setting.teacher.network, &data.train.x.size(), data.classes, context.plan.device, of("init"));
    let key = (&setting.teacher, setting.side, setting.augment);
    let weights: Weights = context.shared("teacher", &key, |context| {
        let place = context.checkpoint_every(1000);
        let place = (place.0.with_extension("teacher"), place.1);
        fresh.train(
            &setting.teacher,
            data,
            of("order"),
            Some(place.clone()),
            |batch| Ok(batch.logits.cross_entropy_for_logits(batch.y)),
            |p| {
                context.progress(p.done, p.total, p.loss);
                Ok(())
            },
        )?;
        // The run is finished; the folder would keep it.
        std::fs::remove_file(place.0).ok();
        Weights::of(&fresh.vs)
    })?;
    weights.put(&fresh.vs);
    Ok(fresh)
}

/// The student's loss.
fn objective(method: Method, config: &Config, uskd: Option<&Uskd>, b: &Batch<'_>, t: &Tensor) -> CoreResult<Tensor> {
    let (s, y) = (&b.logits, b.y);
    let ce = || s.cross_entropy_for_logits(y);
    let parts = |nkd: Nkd| nkd.forward(s, t, y);
    let gamma = Nkd { gamma: config.gamma, temperature: 1.0 };
    Ok(match method {
        Method::CrossEntropy => ce(),
        Method::LabelSmoothing => label_smoothing(s, y, config.smoothing)?,
        Method::Kd(tau) => (ce() + kd_cross_entropy(s, t, tau)?) / 2.0,
        // At once, its large weight ruins a fresh network.
        Method::Dkd => ce() + config.dkd.forward(s, t, y)?.total() * (b.done / DKD_WARMUP).min(1.0),
        Method::Nkd(nkd) => ce() + parts(nkd)?.total(),
        Method::Target => ce() + parts(gamma)?.target,
        Method::Normalised => ce() + parts(gamma)?.non_target,
        Method::Unnormalised => {
            let at = y.unsqueeze(1);
            let others = t.softmax(1, Kind::Float).scatter_value(1, &at, 0.0);
            let sum = (others * s.log_softmax(1, Kind::Float)).sum(Kind::Float);
            ce() - sum * (config.gamma / s.size()[0] as f64)
        }
        Method::Uskd(_) => match uskd {
            Some(uskd) => ce() + uskd.forward(&b.tap, s, y)?.total(),
            None => ce(),
        },
    })
}

/// Trains a student and judges it; logs everything.
pub(super) fn cell(method: Method, config: &Config, context: &mut Context<'_>) -> Result<()> {
    let setting = config.of(&context.plan.dataset);
    let data = Data::load(context.plan, setting)?;
    let teacher = teacher(setting, &data, context)?;
    let (size, device) = (data.train.x.size(), context.plan.device);
    let student = Net::new(&setting.student.network, &size, data.classes, device, context.seed("init"));
    let uskd = match method {
        Method::Uskd(c) => Some(Uskd::new(student.vs.root() / "uskd", student.tap, data.classes, c)?),
        _ => None,
    };
    // Without augmentation the teacher sees every image once.
    let cached = (!setting.augment)
        .then(|| teacher.logits(&data.train.x.narrow(0, 0, data.train.len().min(setting.student.images as i64))));
    let watched = std::cell::Cell::<Option<(Tensor, Tensor, Tensor)>>::default();
    let checkpoint = context.checkpoint_every(1000);
    let history = student.train(
        &setting.student,
        &data,
        context.seed("order"),
        Some(checkpoint),
        |batch| {
            let t = match &cached {
                Some(logits) => logits.index_select(0, batch.index),
                None => teacher.logits(batch.x),
            };
            let loss = objective(method, config, uskd.as_ref(), batch, &t)?;
            if batch.epoch_ends {
                watched.set(Some((batch.logits.detach(), t, batch.y.shallow_clone())));
            }
            Ok(loss)
        },
        |p| {
            context.progress(p.done, p.total, p.loss);
            if let Some((s, t, y)) = watched.take() {
                let parts = kd_decomposition(&s, &t, &y)?;
                p.log(STUDENT_MASS, parts.student_mass)?;
                p.log(TEACHER_MASS, parts.teacher_mass)?;
                for (name, value) in [("target", parts.target), ("non-target", parts.non_target), ("mass", parts.mass)]
                {
                    p.log(&format!("{name} part of KD"), value)?;
                }
            }
            Ok(())
        },
    )?;
    context.log(&history);
    let steps = history.losses.last().map_or(0, |p| p.step + 1);
    context.metric(steps, ACCURACY, student.accuracy(&data.test)?);
    context.metric(steps, TEACHER, teacher.accuracy(&data.test)?);
    if let Some(uskd) = &uskd {
        by_rank(&student, uskd, &teacher, &data, config.uskd, context)?;
    }
    Ok(())
}

/// Soft non-target labels of student and teacher on test images, both by the teacher's rank; means over images.
fn by_rank(
    student: &Net,
    uskd: &Uskd,
    teacher: &Net,
    data: &Data,
    config: UskdConfig,
    context: &mut Context<'_>,
) -> Result<()> {
    let part = data.test.slice(0, data.test.len().min(1000));
    let at = part.y.unsqueeze(1);
    let (logits, tap) = tch::no_grad(|| student.forward(&part.x, false));
    let scores = rank_score(&logits, &uskd.weak_logits(&tap), &at, RankScore::Probability)?;
    let zipf = zipf_labels(&scores, &at, config.zipf_exponent)?;
    let (sorted, order) = non_target_log_softmax(&teacher.logits(&part.x), &part.y, 1.0)?.exp().sort(1, true);
    let own = zipf.gather(1, &non_targets(&part.y, data.classes), false).gather(1, &order, false);
    for (name, x) in [("soft labels by rank", own), ("teacher by rank", sorted)] {
        context.array(name, x.mean_dim([0i64].as_slice(), false, Kind::Double).try_into()?);
    }
    Ok(())
}

/// What USKD adds to the time of a training step: of ResNet-18 on images of 32x32, and of the student.
pub(super) fn cost(config: &Config, context: &mut Context<'_>) -> Result<()> {
    let setting = config.of(&context.plan.dataset);
    let data = Data::load(context.plan, setting)?;
    let mut image = data.train.x.size();
    for (metric, network, size) in [
        (OVERHEAD, Network::Resnet18, vec![32, 3, 32, 32]),
        (OVERHEAD_STUDENT, setting.student.network.clone(), {
            image[0] = setting.student.batch as i64;
            image.clone()
        }),
    ] {
        let net = Net::new(&network, &size, data.classes, context.plan.device, context.seed("init"));
        let uskd = Uskd::new(net.vs.root() / "uskd", net.tap, data.classes, config.uskd)?;
        let mut optimizer = Optimizer::new(Rule::Sgd(Sgd::default()), vec![Group::all(&net.vs, 5e-4)])?;
        let x = Tensor::randn(&size[..], (Kind::Float, context.plan.device));
        let y = Tensor::randint(data.classes, [size[0]], (Kind::Int64, context.plan.device));
        let mut step = |with: bool| -> Result<f64> {
            let start = Instant::now();
            optimizer.zero_grad();
            let (logits, tap) = net.forward(&x, true);
            let mut loss = logits.cross_entropy_for_logits(&y);
            if with {
                loss += uskd.forward(&tap, &logits, &y)?.total();
            }
            loss.backward();
            optimizer.step(1e-3)?;
            // Reading the loss waits for the device.
            anyhow::ensure!(loss.double_value(&[]).is_finite(), "the loss is not finite");
            Ok(start.elapsed().as_secs_f64())
        };
        // The first steps find memory and kernels.
        for with in [false, true] {
            step(with)?;
        }
        let mut times = [vec![], vec![]];
        for _ in 0..config.timed {
            times[0].push(step(false)?);
            times[1].push(step(true)?);
        }
        let [without, with] = times.map(|t| autodidact_core::stats::median(&t));
        context.metric(0, metric, 100.0 * (with / without - 1.0));
    }
    Ok(())
}
