//! One cell: experts, or synthetic images and what networks learn from them.

use super::{
    ACCURACY, CHANGE, COSINE, DIVERGED, HELD_OUT, Kind, LEAST_STEP, LOSS, Method, STEP_SIZE, Setting, TRANSFER,
};
use crate::runner::Context;
use crate::vision::Part;
use anyhow::Result;
use autodidact_core::metrics::accuracy;
use autodidact_core::nn::{Mlp, MlpConfig};
use autodidact_core::optim::{Group, Optimizer, Rule, Sgd};
use autodidact_core::schedule::{Schedule, Shape};
use autodidact_core::train::{TrainConfig, Trainer};
use autodidact_core::{Error, seed};
use autodidact_datasets::load_images;
use autodidact_distill::distilled_data::{
    FlatConvNet, FlatConvNetConfig, InnerLoop, Recipe, distribution_matching_loss, gradient_matching_loss,
    random_per_class, representative,
};
use autodidact_distill::smooth_trajectories::{TrajectoryBuffer, TrajectoryMatching};
use tch::nn::{Init, ModuleT, VarStore};
use tch::{Device, Kind as Dtype, Tensor};

/// Steps and learning rates of the perceptron that judges transfer.
const PERCEPTRON: (usize, [f64; 3]) = (300, [0.01, 0.05, 0.2]);
/// How often the accuracy is looked at during distillation.
const LOOKS: usize = 4;

/// Images with mean 0 and standard deviation 1 in each channel.
struct Data {
    train: Part,
    held_out: Part,
    test: Part,
    net: FlatConvNet,
}

impl Data {
    fn load(setting: &Setting, context: &Context<'_>) -> Result<Self> {
        let plan = context.plan;
        let (all, test) = load_images(&plan.dataset, plan.data_dir.as_deref(), plan.download)?;
        let split = seed::derive(0, &["smooth-trajectories", "split"]);
        let (held_out, rest) = all.subset(setting.images.min(all.len()), split)?.split(setting.held_out, split)?;
        let part = |set| Part::new(set, setting.side, plan.device);
        let (train, held_out) = (part(&rest), part(&held_out));
        let test = part(&test.subset(setting.test.min(test.len()), split)?);
        let dims: &[i64] = &[0, 2, 3];
        let mean = train.x.mean_dim(dims, true, Dtype::Float);
        let std = train.x.std_dim(dims, false, true);
        let standardised = |p: Part| Part { x: (p.x - &mean) / &std, y: p.y };
        let net = FlatConvNetConfig {
            channels: train.x.size()[1],
            side: setting.side,
            width: setting.width,
            depth: setting.depth,
            classes: all.classes.len() as i64,
        };
        let [train, held_out, test] = [train, held_out, test].map(standardised);
        Ok(Self { train, held_out, test, net: FlatConvNet::new(net)? })
    }

    fn accuracy(&self, theta: &Tensor, part: &Part) -> Result<f64> {
        let logits = tch::no_grad(|| {
            let parts = part.x.split(500, 0);
            parts.iter().map(|x| self.net.forward(theta, x)).collect::<autodidact_core::Result<Vec<_>>>()
        })?;
        Ok(100.0 * accuracy(&Tensor::cat(&logits, 0), &part.y)?)
    }
}

/// Experts of one kind at this seed, trained once.
fn experts(kind: Kind, setting: &Setting, data: &Data, context: &mut Context<'_>) -> Result<TrajectoryBuffer> {
    let recipe = kind.recipe(setting);
    let name = format!("{} experts", kind.name());
    let seed = context.cell_seed();
    let key = (recipe, setting.experts, setting.images, setting.held_out, data.net.config(), seed);
    let tensors = context.shared_tensors(&name, &key, |context| {
        let mut all = std::collections::BTreeMap::new();
        for i in 0..setting.experts {
            context.progress(i, setting.experts, None);
            // All kinds start from the same weights and see the same batches.
            let rng = &mut seed::rng(context.seed("expert"), &[&i.to_string()]);
            let path = recipe.trajectory(&data.net, (&data.train.x, &data.train.y), rng)?;
            all.insert(format!("{i:05}"), path.to_device(Device::Cpu));
        }
        Ok(all)
    })?;
    let mut buffer = TrajectoryBuffer::default();
    for t in tensors.into_values() {
        buffer.push(t.to_device(context.plan.device))?;
    }
    Ok(buffer)
}

/// How fast experts of a kind move, and how good they are.
pub(super) fn expert_cell(kind: Kind, setting: &Setting, context: &mut Context<'_>) -> Result<()> {
    let data = Data::load(setting, context)?;
    let buffer = experts(kind, setting, &data, context)?;
    let smoothness = buffer.smoothness()?;
    let n = smoothness.len() as f64;
    let epochs = buffer.epochs();
    for e in 0..epochs {
        let change = smoothness.iter().map(|s| s.change[e]).sum::<f64>() / n;
        context.metric(e + 1, "change of an epoch", change);
    }
    let largest = smoothness.iter().map(|s| s.max_change()).sum::<f64>() / n;
    context.metric(epochs, CHANGE, largest);
    let cosine = smoothness.iter().map(|s| autodidact_core::stats::mean(&s.cosine)).sum::<f64>() / n;
    context.metric(epochs, COSINE, cosine);
    let mut accuracies = vec![];
    for t in buffer.trajectories() {
        accuracies.push(data.accuracy(&t.get(epochs as i64), &data.test)?);
    }
    context.metric(epochs, ACCURACY, autodidact_core::stats::mean(&accuracies));
    Ok(())
}

/// What is learned: images with their classes, and the rate at which networks are to be trained on them.
struct Learned {
    x: Tensor,
    y: Tensor,
    lr: f64,
}

/// Trains `networks` fresh networks on the images and gives mean accuracies on the held-out and the test part.
fn evaluate(
    l: &Learned,
    setting: &Setting,
    data: &Data,
    networks: usize,
    seed: u64,
) -> Result<(f64, f64), autodidact_core::Error> {
    let recipe = Recipe { lr: l.lr, ..setting.evaluation.clone() };
    let mut sums = (0.0, 0.0);
    for i in 0..networks {
        let rng = &mut seed::rng(seed, &["evaluation", &i.to_string()]);
        let start = data.net.init(rng, l.x.device());
        let theta = recipe.train(&data.net, &start, (&l.x, &l.y), rng, |_, _| Ok(()))?;
        let of = |part| data.accuracy(&theta, part).map_err(|e| Error::Failed(format!("{e:#}")));
        sums = (sums.0 + of(&data.held_out)?, sums.1 + of(&data.test)?);
    }
    Ok((sums.0 / networks as f64, sums.1 / networks as f64))
}

/// Learns images (or takes real ones), trains networks on them, logs everything.
pub(super) fn cell(method: &Method, lr: f64, setting: &Setting, context: &mut Context<'_>) -> Result<()> {
    let data = Data::load(setting, context)?;
    let classes = data.net.config().classes;
    // Every method starts from the same images unless its own choice is part of it.
    let rng = &mut seed::rng(context.seed("images"), &[]);
    let flat = data.train.x.flatten(1, -1);
    let buffer = match method {
        Method::Trajectory { expert, .. } => experts(*expert, setting, &data, context)?,
        _ => TrajectoryBuffer::default(),
    };
    let chosen = match method {
        Method::KMeans => representative(&flat, &data.train.y, classes, setting.per_class, rng)?,
        Method::Trajectory { representative: true, .. } => {
            let last = buffer.sample(rng)?.get(buffer.epochs() as i64);
            let logits = tch::no_grad(|| data.net.forward(&last, &data.train.x))?;
            representative(&logits, &data.train.y, classes, setting.per_class, rng)?
        }
        _ => random_per_class(&data.train.y, classes, setting.per_class, rng)?,
    };
    let start = Learned { x: data.train.x.index_select(0, &chosen), y: data.train.y.index_select(0, &chosen), lr };
    let learned = match method {
        Method::Random | Method::KMeans => Some(start),
        _ => learn(method, lr, start, setting, &data, &buffer, context)?,
    };
    let chance = 100.0 / classes as f64;
    let steps = setting.iterations;
    let seed = context.seed("evaluation");
    let (mut held_out, mut test, mut transfer) = (chance, chance, chance);
    if let Some(learned) = &learned {
        // Without a step size of their own, images are judged at the best of as many rates.
        let rates = match method {
            Method::Gradient | Method::Distribution => setting.evaluation_lrs.clone(),
            _ => vec![learned.lr],
        };
        held_out = f64::NEG_INFINITY;
        for lr in rates {
            let l = Learned { x: learned.x.shallow_clone(), y: learned.y.shallow_clone(), lr };
            let (h, t) = evaluate(&l, setting, &data, setting.networks, seed)?;
            if h > held_out {
                (held_out, test) = (h, t);
            }
        }
        transfer = perceptron(learned, setting, &data, seed)?;
        if let Method::Trajectory { matching, .. } = method {
            by_start(matching, learned, &data, &buffer, context)?;
        }
        context.array("images", Vec::<f64>::try_from(learned.x.to_kind(Dtype::Double).contiguous().view(-1))?);
    }
    context.metric(steps, DIVERGED, f64::from(u8::from(learned.is_none())));
    context.metric(steps, HELD_OUT, held_out);
    context.metric(steps, ACCURACY, test);
    context.metric(steps, TRANSFER, transfer);
    Ok(())
}

/// Learns images by matching; `None` if it diverges.
fn learn(
    method: &Method,
    lr: f64,
    start: Learned,
    setting: &Setting,
    data: &Data,
    buffer: &TrajectoryBuffer,
    context: &mut Context<'_>,
) -> Result<Option<Learned>> {
    let vs = VarStore::new(context.plan.device);
    let images = vs.root().var_copy("images", &start.x);
    let first = match method {
        Method::Trajectory { matching, .. } => setting.step_size * (1.0 - matching.inner.momentum),
        _ => setting.step_size,
    };
    let step_size = vs.root().var("step_size", &[], Init::Const(first.max(LEAST_STEP)));
    let group = |name: &str, t: &Tensor, lr| Group::of(vec![(name.into(), t.shallow_clone())], 0.0).scaled(lr);
    let mut groups = vec![group("images", &images, lr)];
    if matches!(method, Method::Trajectory { .. }) {
        groups.push(group("step_size", &step_size, setting.step_size_lr));
    }
    let optimizer = Optimizer::new(Rule::Sgd(Sgd { momentum: 0.5, nesterov: false }), groups)?;
    let schedule = Schedule::new(1.0, setting.iterations, Shape::Constant);
    // The same experts and start epochs for all methods of a seed.
    let config = TrainConfig {
        checkpoint: Some(context.checkpoint_every(500)),
        ..TrainConfig::new(schedule, context.seed("matching"))
    };
    let classes = data.net.config().classes;
    let labels = start.y.shallow_clone();
    let seed = context.seed("evaluation");
    let run = Trainer::new(config, &vs, optimizer)?.run(
        |step| {
            let rng = &mut step.rng("matching");
            let synthetic = (&images, &labels);
            if let Method::Trajectory { matching, .. } = method {
                return Ok(matching.forward(&data.net, buffer, synthetic, &step_size, rng)?.total);
            }
            let theta = data.net.init(rng, images.device());
            let real = random_per_class(&data.train.y, classes, setting.real_batch, rng)?;
            let (x, y) = (data.train.x.index_select(0, &real), data.train.y.index_select(0, &real));
            let augment = setting.matching.augment.as_ref();
            match method {
                Method::Gradient => gradient_matching_loss(&data.net, &theta, (&x, &y), synthetic, augment, rng),
                _ => distribution_matching_loss(&data.net, &theta, (&x, &y), synthetic, augment, rng),
            }
        },
        |mut p| {
            context.progress(p.done, p.total, p.loss);
            let _ = tch::no_grad(|| step_size.shallow_clone().clamp_min_(LEAST_STEP));
            if let Some(loss) = p.loss {
                p.log(LOSS, loss)?;
            }
            if p.done.is_multiple_of((p.total / LOOKS).max(1)) {
                let lr = step_size.double_value(&[]);
                p.log(STEP_SIZE, lr)?;
                if matches!(method, Method::Trajectory { .. }) {
                    let now = Learned { x: images.detach(), y: labels.shallow_clone(), lr };
                    p.log("accuracy on the way", evaluate(&now, setting, data, 1, seed)?.0)?;
                }
            }
            Ok(())
        },
    );
    match run {
        Ok(history) => context.log(&history),
        Err(Error::Diverged { .. }) => return Ok(None),
        Err(e) => return Err(e.into()),
    }
    let finite = bool::try_from(images.isfinite().all())?;
    Ok(finite.then(|| Learned { x: images.detach(), y: start.y, lr: step_size.double_value(&[]) }))
}

/// The matching loss after the last step by start epoch, over two experts, at the learned images and without perturbation.
fn by_start(
    matching: &TrajectoryMatching,
    learned: &Learned,
    data: &Data,
    buffer: &TrajectoryBuffer,
    context: &mut Context<'_>,
) -> Result<()> {
    let plain = TrajectoryMatching {
        inner: InnerLoop { kept: Some(0), ..matching.inner },
        perturbation: 0.0,
        augment: None,
        ..matching.clone()
    };
    let rng = &mut seed::rng(context.seed("by start"), &[]);
    let step_size = Tensor::from(learned.lr as f32).to_device(learned.x.device());
    let mut losses = vec![];
    for start in 0..matching.max_start {
        let mut sum = 0.0;
        let experts = &buffer.trajectories()[..buffer.len().min(2)];
        for t in experts {
            let parts = plain.from_epoch(&data.net, t, start, (&learned.x, &learned.y), &step_size, rng)?;
            sum += parts.last.double_value(&[]) / experts.len() as f64;
        }
        losses.push(sum);
    }
    context.array("loss by start", losses);
    Ok(())
}

/// Test accuracy of a perceptron trained on the images, at the rate that is best on the held-out part.
fn perceptron(learned: &Learned, setting: &Setting, data: &Data, seed: u64) -> Result<f64> {
    let (steps, rates) = PERCEPTRON;
    let classes = data.net.config().classes;
    let flat = |x: &Tensor| x.flatten(1, -1);
    let (x, held_out, test) = (flat(&learned.x), flat(&data.held_out.x), flat(&data.test.x));
    let mut best = (0.0, 0.0);
    for lr in rates {
        tch::manual_seed(seed as i64);
        let vs = VarStore::new(learned.x.device());
        let net = Mlp::new(vs.root(), &MlpConfig::plain(&[x.size()[1], setting.hidden, classes]))?;
        let mut optimizer = Optimizer::new(Rule::Sgd(Sgd::default()), vec![Group::all(&vs, 5e-4)])?;
        for _ in 0..steps {
            optimizer.zero_grad();
            net.forward_t(&x, true).cross_entropy_for_logits(&learned.y).backward();
            optimizer.step(lr)?;
        }
        let of = |x: &Tensor, y: &Tensor| -> Result<f64> {
            Ok(100.0 * accuracy(&tch::no_grad(|| net.forward_t(x, false)), y)?)
        };
        let h = of(&held_out, &data.held_out.y)?;
        if h > best.0 {
            best = (h, of(&test, &data.test.y)?);
        }
    }
    Ok(best.1)
}
