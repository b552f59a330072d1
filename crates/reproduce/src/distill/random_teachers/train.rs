//! Data, networks, distillation and probes.

use super::{
    Arm, Config, Distillation, FINAL_KL, Input, KL, MOVED, Network, PROBES, RandomTeachers, TEACHER, TRANSFER,
    TRANSFER_TEACHER,
};
use crate::experiment::{Experiment, Plan};
use crate::runner::Context;
use crate::vision::{Images, Part, brought_to, in_parts};
use anyhow::Result;
use autodidact_core::device::flush_denormals;
use autodidact_core::error::check_range;
use autodidact_core::metrics::{Knn, LinearProbe, RidgeProbe, Vote, accuracy, standardise};
use autodidact_core::nn::{ResNet, ResNetConfig, ResNetDepth, ResNetStem, Vgg, VggConfig};
use autodidact_core::optim::{Adam, Group, Optimizer, Rule, Sgd, StateDict, sorted_trainables};
use autodidact_core::schedule::{Schedule, Shape};
use autodidact_core::train::{History, Progress, TrainConfig, Trainer};
use autodidact_core::{Error, landscape, seed, stats};
use autodidact_datasets::batch::Order;
use autodidact_datasets::image::ImageSet;
use autodidact_datasets::load_images;
use autodidact_distill::logits::{kd, kd_cross_entropy};
use autodidact_distill::random_teachers::{Head, HeadConfig, interpolate};
use std::cell::Cell;
use std::path::PathBuf;
use tch::nn::{Module, ModuleT, VarStore};
use tch::{Device, Kind, Tensor};

/// Images are looked at in batches of this size outside of training.
pub(super) const EVALUATED: i64 = 500;
/// Teachers' logits are kept where they are at most so many numbers.
const KEPT: i64 = 1 << 26;
/// Steps between two values of the divergence.
const LOGGED: usize = 10;

/// Images with mean 0 and variance 1 in every channel (of the training images), and their labels.
pub(super) struct Data {
    pub train: Part,
    pub test: Part,
    pub classes: i64,
}

fn scaled(train: Part, test: Part, classes: i64) -> Data {
    let dims = [0i64, 2, 3];
    let (variance, mean) = train.x.var_mean_dim(dims.as_slice(), false, true);
    let of = |part: Part| Part { x: (part.x - &mean) / (&variance + 1e-8).sqrt(), y: part.y };
    Data { train: of(train), test: of(test), classes }
}

impl Data {
    pub(super) fn load(config: &Config, plan: &Plan) -> Result<Self> {
        let slug = RandomTeachers.slug();
        let Images { train, test, classes, .. } =
            Images::load(plan, &plan.dataset, slug, config.images, config.test, config.side)?;
        Ok(scaled(train, test, classes))
    }

    /// Digits of another data set, of the same side, in three channels.
    fn transfer(config: &Config, plan: &Plan) -> Result<Self> {
        let name = RandomTeachers.further_datasets(&plan.dataset)[0];
        let (all, held) = load_images(name, plan.data_dir.as_deref(), plan.download)?;
        let split = seed::derive(0, &[RandomTeachers.slug(), "transfer"]);
        let part = |set: &ImageSet, count: usize| -> Result<Part> {
            let set = set.subset(count.min(set.len()), split)?;
            let mut x = set.to_float();
            if x.size()[2] == 28 {
                x = x.constant_pad_nd([2, 2, 2, 2]);
            }
            let x = brought_to(&x, config.side, 3);
            Ok(Part { x: x.to_device(plan.device), y: set.labels.to_device(plan.device) })
        };
        let classes = all.classes.len() as i64;
        Ok(scaled(part(&all, config.transfer[0])?, part(&held, config.transfer[1])?, classes))
    }
}

/// An encoder with its head.
pub(super) struct Net {
    pub vs: VarStore,
    encoder: Box<dyn ModuleT>,
    head: Head,
}

/// A fresh encoder in a store, and the width of its features.
pub(super) fn encoder(vs: &VarStore, network: Network, config: &Config) -> Result<(Box<dyn ModuleT>, i64)> {
    let p = vs.root() / "encoder";
    Ok(match network {
        Network::Vgg(norm) => {
            let vgg = VggConfig { channels: 3, stages: config.stages.clone(), norm };
            (Box::new(Vgg::new(p, &vgg)?), vgg.features(config.side))
        }
        Network::Resnet18 => {
            let resnet = ResNetConfig::new(ResNetDepth::D18, ResNetStem::Cifar);
            (Box::new(ResNet::new(p, &resnet)), resnet.features())
        }
    })
}

impl Net {
    fn new(network: Network, config: &Config, device: Device, init: u64) -> Result<Self> {
        let vs = VarStore::new(device);
        tch::manual_seed(init as i64);
        let (encoder, features) = encoder(&vs, network, config)?;
        let (hidden, bottleneck, outputs) = (config.hidden.clone(), config.bottleneck, config.outputs);
        let head = HeadConfig { hidden, bottleneck, outputs, ..HeadConfig::new(features) };
        let head = Head::new(vs.root() / "head", &head)?;
        Ok(Self { vs, encoder, head })
    }

    fn logits(&self, x: &Tensor, train: bool) -> Tensor {
        self.head.forward(&self.encoder.forward_t(x, train))
    }

    fn parameters(&self) -> StateDict {
        sorted_trainables(&self.vs).into_iter().map(|(name, t)| (name, t.detach().copy())).collect()
    }
}

/// Checks what networks are made of, on small ones: sizes of the head do not depend on each other.
pub(super) fn check(config: &Config) -> Result<()> {
    for (_, arm, _) in config.arms() {
        if let Arm::Distilled(Distillation { network: network @ Network::Vgg(_), .. }) = arm {
            encoder(&VarStore::new(Device::Cpu), network, config)?;
        }
    }
    let sizes = config.hidden.iter().chain([&config.bottleneck, &config.outputs]);
    for size in sizes {
        check_range("hidden, bottleneck and outputs", *size as f64, 1.0..=1e8)?;
    }
    Ok(())
}

/// Percent of test images that each of [`PROBES`] classifies rightly from features, fitted on the training images'.
fn probed(train: &Tensor, test: &Tensor, data: &Data, config: &Config) -> Result<[f64; 3]> {
    let (y, held, classes) = (&data.train.y, &data.test.y, data.classes);
    let (scaled, [scaled_test]) = standardise(train, [test])?;
    let ridge = RidgeProbe { penalty: config.penalty }.scores(&scaled, y, classes, &scaled_test)?;
    let rule = Rule::AdamW(Adam::default());
    let linear = LinearProbe { rule, lr: 1e-3, weight_decay: 0.01, epochs: config.probe_epochs, batch: 256, seed: 0 };
    let linear = linear.logits(train, y, classes, test)?;
    let knn = Knn::new(train, y, classes)?.accuracy(test, held, config.k, Vote::Plain)?;
    Ok([100.0 * accuracy(&ridge, held)?, 100.0 * accuracy(&linear, held)?, 100.0 * knn])
}

fn probed_network(net: &Net, data: &Data, config: &Config) -> Result<[f64; 3]> {
    let of = |part: &Part| in_parts(&part.x, EVALUATED, |x| net.encoder.forward_t(x, false));
    probed(&of(&data.train), &of(&data.test), data, config)
}

/// Probes of the pixels.
pub(super) fn pixels(config: &Config, context: &mut Context<'_>) -> Result<()> {
    let data = Data::load(config, context.plan)?;
    let [train, test] = [&data.train, &data.test].map(|p| p.x.flatten(1, -1));
    for (probe, value) in PROBES.iter().zip(probed(&train, &test, &data, config)?) {
        context.metric(0, probe, value);
    }
    Ok(())
}

/// Seeds that all arms of a repetition share.
pub(super) struct Seeds {
    teacher: u64,
    fresh: u64,
    order: u64,
}

impl Seeds {
    pub(super) fn of(context: &Context<'_>) -> Self {
        Self { teacher: context.seed("teacher"), fresh: context.seed("student"), order: context.seed("order") }
    }
}

/// A teacher and its student before training.
pub(super) fn pair(d: &Distillation, config: &Config, seeds: &Seeds, device: Device) -> Result<(Net, Net)> {
    let mut teacher = Net::new(d.network, config, device, seeds.teacher)?;
    let student = Net::new(d.network, config, device, seeds.fresh)?;
    interpolate(&student.vs, &teacher.vs, d.alpha, true)?;
    teacher.vs.freeze();
    Ok((teacher, student))
}

/// Trains the student for `steps`.
pub(super) fn distill(
    d: &Distillation,
    steps: usize,
    (teacher, student): (&Net, &Net),
    images: &Tensor,
    config: &Config,
    seeds: &Seeds,
    checkpoint: Option<(PathBuf, usize)>,
    mut observe: impl FnMut(&mut Progress<'_>) -> Result<()>,
) -> Result<History> {
    let x = match d.input {
        Input::Images(count) => images.narrow(0, 0, images.size()[0].min(count as i64)),
        Input::Noise => {
            tch::manual_seed(seed::derive(seeds.order, &["noise"]) as i64);
            images.randn_like()
        }
    };
    let n = x.size()[0];
    let order = Order::new(n as usize, config.batch.min(n as usize), seeds.order)?;
    let kept = (n * config.outputs <= KEPT).then(|| in_parts(&x, EVALUATED, |x| teacher.logits(x, false)));
    let rule = if d.sgd { Rule::Sgd(Sgd { momentum: 0.0, nesterov: false }) } else { Rule::AdamW(Adam::default()) };
    let optimizer = Optimizer::new(rule, vec![Group::all(&student.vs, 0.0)])?;
    // A schedule of all steps, so that a shorter run is the beginning of a longer one.
    let schedule = Schedule::new(config.lr, steps, Shape::Constant);
    let run = TrainConfig { checkpoint, log_every: LOGGED, ..TrainConfig::new(schedule, seeds.order) };
    let divergence: Cell<Option<f64>> = Cell::new(None);
    flush_denormals(true);
    let history = Trainer::new(run, &student.vs, optimizer)?.run(
        |step| {
            let index = Tensor::from_slice(&order.batch(step.index)).to_device(x.device());
            let batch = x.index_select(0, &index);
            let told = match &kept {
                Some(logits) => logits.index_select(0, &index),
                None => tch::no_grad(|| teacher.logits(&batch, false)),
            };
            let logits = student.logits(&batch, true);
            if step.index % LOGGED == 0 {
                let wide = |t: &Tensor| t.detach().to_kind(Kind::Double);
                divergence.set(Some(kd(&wide(&logits), &wide(&told), 1.0)?.double_value(&[])));
            }
            kd_cross_entropy(&logits, &told, 1.0)
        },
        |mut p| {
            if let Some(value) = divergence.take() {
                p.log(KL, value)?;
            }
            observe(&mut p).map_err(|e| Error::Failed(format!("{e:#}")))
        },
    );
    flush_denormals(false);
    Ok(history?)
}

/// Distils, probes and logs.
pub(super) fn distilled(d: Distillation, config: &Config, context: &mut Context<'_>) -> Result<()> {
    let device = context.plan.device;
    let data = Data::load(config, context.plan)?;
    let seeds = Seeds::of(context);
    let (teacher, student) = pair(&d, config, &seeds, device)?;
    let start = student.parameters();
    let norm = landscape::distance(&start, &start.iter().map(|(n, t)| (n.clone(), t.zeros_like())).collect())?;
    let checkpoint = Some(context.checkpoint_every(1000));
    if !d.sgd {
        for (probe, value) in PROBES.iter().zip(probed_network(&teacher, &data, config)?) {
            context.metric(0, &format!("{TEACHER}{probe}"), value);
        }
        for (probe, value) in PROBES.iter().zip(probed_network(&student, &data, config)?) {
            context.metric(0, probe, value);
        }
    }
    let transfers = d.alpha < 1e-6 && d.input == Input::Images(config.images) && d.network == config.network && !d.sgd;
    let transfer = if transfers { Some(Data::transfer(config, context.plan)?) } else { None };
    let history = distill(&d, d.steps, (&teacher, &student), &data.train.x, config, &seeds, checkpoint, |p| {
        context.progress(p.done, p.total, p.loss);
        if config.probed.contains(&p.done) || p.done == config.decided || p.done == p.total {
            if !d.sgd {
                for (probe, value) in PROBES.iter().zip(probed_network(&student, &data, config)?) {
                    p.log(probe, value)?;
                }
            }
            p.log(MOVED, landscape::distance(&start, &student.parameters())? / norm)?;
        }
        if p.done == config.decided
            && let Some(other) = &transfer
        {
            for (prefix, net) in [(TRANSFER, &student), (TRANSFER_TEACHER, &teacher)] {
                for (probe, value) in PROBES.iter().zip(probed_network(net, other, config)?) {
                    p.log(&format!("{prefix}{probe}"), value)?;
                }
            }
        }
        Ok(())
    })?;
    context.log(&history);
    let kl: Vec<f64> = history.logged.iter().filter(|l| l.metric == KL).map(|l| l.value).collect();
    context.metric(d.steps, FINAL_KL, stats::mean(&kl[kl.len() - kl.len().div_ceil(10)..]));
    Ok(())
}
