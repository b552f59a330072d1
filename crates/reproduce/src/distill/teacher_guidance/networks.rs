//! Chains of networks.

use super::cells::{replace_labels, split};
use super::config::{Architecture, Setting};
use crate::experiment::Plan;
use crate::runner::Context;
use crate::vision::resized;
use anyhow::Result;
use autodidact_core::Result as CoreResult;
use autodidact_core::metrics::accuracy;
use autodidact_core::nn::{
    ConvNet, ConvNetConfig, ConvNetHead, Mlp, MlpConfig, ResNet, ResNetConfig, ResNetDepth, ResNetStem, layers,
};
use autodidact_core::optim::{Adam, Group, Optimizer, Rule};
use autodidact_core::schedule::{Schedule, Shape};
use autodidact_core::seed::{self, Rng};
use autodidact_core::train::{Checkpoint, TrainConfig, Trainer};
use autodidact_datasets::augment::{Filter, Op, Rect, run};
use autodidact_datasets::batch::Order;
use autodidact_datasets::image::ImageSet;
use autodidact_datasets::load_images;
use autodidact_distill::teacher_guidance::{
    DistillationLoss, GroundTruthWeight, SelfDistillation, parameter_norm_penalty, weighted_distillation_loss,
};
use rand::RngExt;
use tch::nn::{ModuleT, Path, VarStore, seq_t};
use tch::{Kind, Tensor};

/// Images are classified in batches of this size.
const EVALUATED: i64 = 500;
/// Networks whose training takes more steps are kept in the cell's checkpoint, so that a stopped chain goes on from them.
const LONG: usize = 2000;

/// Images `[N, C, side, side]` in `[0, 1]` with one-hot labels, on the device.
struct Data {
    train: (Tensor, Tensor),
    validation: (Tensor, Tensor),
    test: (Tensor, Tensor),
}

impl Data {
    fn load(setting: &Setting, plan: &Plan, seed: u64) -> Result<Self> {
        let place = |(x, y): (Tensor, Tensor)| {
            (x.to_kind(Kind::Float).to_device(plan.device), y.to_kind(Kind::Float).to_device(plan.device))
        };
        if plan.dataset == "digits" {
            let data = split(setting.train, setting.validation, setting.noise, seed)?;
            let images = |(x, y): (Tensor, Tensor)| place((x.view([-1, 1, setting.side, setting.side]), y));
            return Ok(Self {
                train: images(data.train),
                validation: images(data.validation),
                test: images(data.test),
            });
        }
        let (all, test) = load_images(&plan.dataset, plan.data_dir.as_deref(), plan.download)?;
        let (mut train, rest) = all.split(setting.train, seed)?;
        train.labels = replace_labels(&train.labels, 10, setting.noise, &mut seed::rng(seed, &["replaced labels"]))?;
        let tensors = |set: &ImageSet| place((resized(&set.to_float(), setting.side), set.labels.one_hot(10)));
        // The same test images for every seed.
        let test = test.subset(setting.test, seed::derive(0, &["teacher-guidance", "test images"]))?;
        Ok(Self {
            train: tensors(&train),
            validation: tensors(&rest.subset(setting.validation, seed)?),
            test: tensors(&test),
        })
    }
}

/// A batch with every image flipped at random and cropped at random from itself padded by an eighth of its side.
fn augmented(x: &Tensor, rng: &mut Rng) -> CoreResult<Tensor> {
    let (n, side) = (x.size()[0], x.size()[2] as usize);
    let pad = side / 8;
    // Padded first: a crop of the image's own size is not resampled.
    let mut place = || rng.random_range(0..=2 * pad);
    let rects = (0..n).map(|_| Rect { top: place(), left: place(), height: side, width: side }).collect();
    let flips = (0..n).map(|_| rng.random_bool(0.5)).collect();
    let crop = Op::ResizedCrop { rects, size: (side, side), filter: Filter::Bilinear };
    run(&x.constant_pad_nd([pad as i64; 4]), &[crop, Op::Flip(flips)])
}

fn build(p: Path, setting: &Setting, channels: i64) -> CoreResult<Box<dyn ModuleT>> {
    let standardised = || seq_t().add_fn(|x| (x - 0.5) / 0.25);
    Ok(match setting.network {
        Architecture::Mlp => {
            let input = channels * setting.side * setting.side;
            let widths: Vec<i64> = std::iter::once(input).chain(setting.widths.iter().copied()).chain([10]).collect();
            Box::new(seq_t().add_fn(|x| x.flatten(1, -1)).add(Mlp::new(p, &MlpConfig::plain(&widths))?))
        }
        Architecture::ConvNet => {
            let blocks = setting.widths.iter().enumerate().map(|(i, w)| (*w, if i == 0 { 1 } else { 2 })).collect();
            let head = ConvNetHead::Flatten { side: setting.side, width: 10 };
            Box::new(standardised().add(ConvNet::new(p, &ConvNetConfig { channels, blocks, head })?))
        }
        Architecture::ResNet18 => {
            let width = setting.widths[0];
            let config = ResNetConfig { channels, width, ..ResNetConfig::new(ResNetDepth::D18, ResNetStem::Cifar) };
            let net = ResNet::new(&p / "encoder", &config);
            Box::new(standardised().add(net).add(layers::linear(&p / "classifier", config.features(), 10, true)))
        }
    })
}

/// A network of the chain.
struct Network {
    vs: VarStore,
    net: Box<dyn ModuleT>,
}

impl Network {
    fn new(setting: &Setting, x: &Tensor, seed: u64) -> CoreResult<Self> {
        let vs = VarStore::new(x.device());
        tch::manual_seed(seed as i64);
        let net = build(vs.root(), setting, x.size()[1])?;
        Ok(Self { vs, net })
    }

    fn logits(&self, x: &Tensor) -> Tensor {
        let parts: Vec<Tensor> =
            tch::no_grad(|| x.split(EVALUATED, 0).iter().map(|x| self.net.forward_t(x, false)).collect());
        Tensor::cat(&parts, 0)
    }

    fn probabilities(&self, x: &Tensor) -> Tensor {
        self.logits(x).softmax(1, Kind::Float)
    }
}

/// Trains and evaluates a chain at a weight of the ground truth, `None` for the estimated one.
pub(super) fn networks(alpha: Option<f64>, setting: &Setting, context: &mut Context<'_>) -> Result<()> {
    let data = Data::load(setting, context.plan, context.seed("split"))?;
    let (x, y) = &data.train;
    let base = context.seed("networks");
    let trainings = if alpha.is_some() { setting.steps } else { 2 * setting.steps - 1 };
    let steps = setting.epochs * (setting.train / setting.batch);
    let path = Some(context.checkpoint_every(LONG).0).filter(|_| steps > LONG);
    let mut kept = match path.as_ref().filter(|p| p.exists()) {
        Some(path) => Checkpoint::load(path, x.device())?,
        None => Checkpoint::default(),
    };
    let mut done = 0;
    let fit = |step: usize, alpha: f64, teacher: Option<&Network>| -> CoreResult<Network> {
        // Fresh weights and order at every step, the same for every weight of the ground truth.
        let seed = seed::derive(base, &[&step.to_string()]);
        let student = Network::new(setting, x, seed)?;
        let training = done.to_string();
        done += 1;
        let finished = kept.section(&training);
        if !finished.is_empty() {
            tch::no_grad(|| student.vs.variables().iter_mut().for_each(|(name, v)| v.copy_(&finished[name])));
            return Ok(student);
        }
        let parameters = student.vs.trainable_variables();
        let order = Order::new(setting.train, setting.batch, seed)?;
        let optimizer = Optimizer::new(Rule::Adam(Adam::default()), vec![Group::all(&student.vs, 0.0)])?;
        let schedule = Schedule::new(setting.lr, steps, Shape::Constant);
        let config = TrainConfig { log_every: 100, ..TrainConfig::new(schedule, seed) };
        Trainer::new(config, &student.vs, optimizer)?.run(
            |s| {
                let index = Tensor::from_slice(&order.batch(s.index)).to_device(x.device());
                let (mut x, y) = (x.index_select(0, &index), y.index_select(0, &index));
                if setting.augment {
                    x = augmented(&x, &mut s.rng("augment"))?;
                }
                // The teacher sees the same images.
                let q = teacher.map_or_else(|| y.shallow_clone(), |t| t.probabilities(&x));
                let logits = student.net.forward_t(&x, true);
                let loss = weighted_distillation_loss(&logits, &q, &y, alpha, DistillationLoss::BrierSoftmax)?;
                Ok(loss + parameter_norm_penalty(&parameters) * setting.penalty)
            },
            |p| {
                context.progress((done - 1) * p.total + p.done, trainings * p.total, p.loss);
                Ok(())
            },
        )?;
        if let Some(path) = &path {
            kept.insert(&training, student.vs.variables());
            kept.save(path)?;
        }
        Ok(student)
    };
    let weight = alpha.map_or(GroundTruthWeight::Estimated, GroundTruthWeight::Constant);
    let predict = |n: &Network| Ok(n.probabilities(&data.validation.0));
    let chain = SelfDistillation { steps: setting.steps, alpha: weight }.run(fit, predict, &data.validation.1)?;
    let labels = [&data.validation, &data.test].map(|(_, y)| y.argmax(1, false));
    for (i, student) in chain.iter().enumerate() {
        let percent = |x: &Tensor, labels: &Tensor| accuracy(&student.model.logits(x), labels).map(|a| 100.0 * a);
        context.metric(i + 1, "test accuracy", percent(&data.test.0, &labels[1])?);
        context.metric(i + 1, "validation accuracy", percent(&data.validation.0, &labels[0])?);
        context.metric(i + 1, "alpha", student.alpha);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn crops_are_the_padded_image_moved_by_whole_pixels() {
        let x = Tensor::rand([64, 3, 16, 16], (Kind::Float, Device::Cpu));
        let y = augmented(&x, &mut seed::rng(0, &["crops"])).unwrap();
        assert_eq!(y.size(), x.size());
        let padded = x.constant_pad_nd([2, 2, 2, 2]);
        let mut seen = std::collections::BTreeSet::new();
        for i in 0..64 {
            let found = (0..50).find(|at| {
                let (flip, top, left) = (at / 25, at / 5 % 5, at % 5);
                let crop = padded.get(i).narrow(1, top, 16).narrow(2, left, 16);
                (if flip == 1 { crop.flip([2]) } else { crop }) == y.get(i)
            });
            seen.insert(found.expect("one of the 50 possible crops"));
        }
        assert!(seen.len() > 25, "{seen:?}");
        assert_eq!(augmented(&x, &mut seed::rng(0, &["crops"])).unwrap(), y);
    }
}
