//! The source with its representations, and the sets that arms make of it.

use super::judge::SHOWN;
use super::{HELD_OUT, Method, OUTER, RANDOM_RIDGE, Setting, TARGET_RIDGE};
use crate::pretrain::Networks;
use crate::runner::Context;
use crate::vision::{Part, augmentation, features, ridge};
use anyhow::{Result, ensure};
use autodidact_core::optim::{Group, Optimizer, Rule, Sgd};
use autodidact_core::train::Checkpoint;
use autodidact_core::{Result as CoreResult, seed};
use autodidact_datasets::load_images;
use autodidact_distill::dataset_distillation_ssl::{
    DistilledSet, InnerModel, InnerTraining, KrrSt, KrrStConfig, PooledConvNet, krr_st_loss,
};
use autodidact_distill::distilled_data::{
    FlatConvNet, FlatConvNetConfig, distribution_matching_loss, gradient_matching_loss, kmeans, nearest,
    random_per_class,
};
use autodidact_distill::smooth_trajectories::TrajectoryBuffer;
use autodidact_ssl::barlow_twins::BarlowTwinsLoss;
use rand::seq::SliceRandom;
use std::collections::BTreeMap;
use tch::nn::{ModuleT, Path};
use tch::{Kind, Tensor};

/// How often the outer loss is looked at.
const LOOKS: usize = 20;
/// Fresh networks on which a finished set's outer loss is looked at, and their steps.
const JUDGES: (u64, usize) = (2, 100);

/// Source images, normalised, with labels and with the target network's representations.
pub(super) struct Source {
    pub train: Part,
    pub held_out: Part,
    pub classes: i64,
    pub y: Tensor,
    pub held_out_y: Tensor,
    /// Percent that ridge probes on the target network and on a fresh one classify rightly.
    ridge: (f64, f64),
}

impl Source {
    pub fn load(setting: &Setting, context: &mut Context<'_>) -> Result<Self> {
        let plan = context.plan;
        let (all, _) = load_images(&plan.dataset, plan.data_dir.as_deref(), plan.download)?;
        let of = |what| seed::derive(0, &["dataset-distillation-ssl", what]);
        let wanted = setting.images + setting.held_out;
        ensure!(wanted <= all.len(), "images and held_out: expected at most {} together, got {wanted}", all.len());
        let (train, held_out) = all.subset(wanted, of("split"))?.split(setting.images, of("split"))?;
        let [train, held_out] = [train, held_out].map(|set| Part::new(&set, setting.side, plan.device));
        let classes = all.classes.len() as i64;
        let key = (&setting.target, setting.side, setting.images, setting.held_out);
        let tensors = context.shared_tensors("target network", &key, |context| {
            let networks =
                || Networks::new(&setting.target, train.x.size()[1], setting.side, plan.device, of("target"));
            let (target, random) = (networks()?, networks()?);
            let loss = BarlowTwinsLoss::default();
            let place = context.checkpoint_every(1000);
            let place = (place.0.with_extension("target"), place.1);
            target.pretrain(
                &setting.target.training,
                &train.x,
                &augmentation(&plan.dataset, setting.side),
                of("order"),
                place.clone(),
                |za, zb, _| Ok(loss.forward(za, zb)?.total),
                |_, p| {
                    context.progress(p.done, p.total, p.loss);
                    Ok(())
                },
            )?;
            // The run is finished; the folder would keep it.
            std::fs::remove_file(place.0).ok();
            let encoder = &*target.twin.encoder;
            let (y, held_out_y) = (features(encoder, &train.x), features(encoder, &held_out.x));
            let probe = |y: &Tensor, h: &Tensor| ridge((y, &train.y), (h, &held_out.y), classes);
            let encoder = &*random.twin.encoder;
            let ours = probe(&y, &held_out_y)?;
            let fresh = probe(&features(encoder, &train.x), &features(encoder, &held_out.x))?;
            let all = [("train", y), ("held out", held_out_y), ("ridge", Tensor::from_slice(&[ours, fresh]))];
            Ok(all.into_iter().map(|(name, t)| (name.to_owned(), t)).collect::<BTreeMap<_, _>>())
        })?;
        let on = |name: &str| tensors[name].to_device(plan.device);
        let ridge = (tensors["ridge"].double_value(&[0]), tensors["ridge"].double_value(&[1]));
        let (y, held_out_y) = (on("train"), on("held out"));
        let (train, held_out) = (train.standardised(), held_out.standardised());
        Ok(Self { train, held_out, classes, y, held_out_y, ridge })
    }

    /// Channels of an image.
    pub fn channels(&self) -> i64 {
        self.train.x.size()[1]
    }

    /// Labels as targets of a regression: one-hot minus `1/C`.
    fn centred_labels(&self, y: &Tensor) -> Tensor {
        y.one_hot(self.classes).to_kind(Kind::Float) - 1.0 / self.classes as f64
    }

    fn flat_net(&self, setting: &Setting) -> CoreResult<FlatConvNet> {
        let (width, depth) = (setting.supervised.width, setting.supervised.depth);
        let config =
            FlatConvNetConfig { channels: self.channels(), side: setting.side, width, depth, classes: self.classes };
        FlatConvNet::new(config)
    }
}

/// A network of the kind that the sets train, from a seed.
pub(super) fn fresh(
    setting: &Setting,
    training: InnerTraining,
    source: &Source,
    outputs: i64,
    init: u64,
) -> CoreResult<InnerModel> {
    tch::manual_seed(init as i64);
    let body =
        |p: &Path<'_>| -> Box<dyn ModuleT> { Box::new(PooledConvNet::new(p, source.channels(), &setting.widths)) };
    let features = PooledConvNet::features(&setting.widths, setting.side);
    InnerModel::new(source.train.x.device(), body, features, outputs, training)
}

/// A small set.
pub(super) enum Set {
    /// None at all.
    None,
    /// Images with targets to regress.
    Targets(DistilledSet),
    /// Images with class indices.
    Labels(Tensor, Tensor),
}

/// The set of an arm.
pub(super) fn make(method: Method, source: &Source, setting: &Setting, context: &mut Context<'_>) -> Result<Set> {
    context.metric(0, TARGET_RIDGE, source.ridge.0);
    context.metric(0, RANDOM_RIDGE, source.ridge.1);
    let rng = &mut seed::rng(context.seed("images"), &[]);
    let n = source.train.len();
    // Without labels: the first images of a random order.
    let mut order: Vec<i64> = (0..n).collect();
    order.shuffle(rng);
    let random = |m: usize| Tensor::from_slice(&order[..m]).to_device(source.train.x.device());
    let at = |t: &Tensor, index: &Tensor| t.index_select(0, index);
    let with_features = |index: &Tensor| DistilledSet::new(at(&source.train.x, index), at(&source.y, index));
    let per_class = setting.size / source.classes.max(1) as usize;
    let set = match method {
        Method::None => return Ok(Set::None),
        Method::Features { kmeans: false } => Set::Targets(with_features(&random(setting.size))?),
        Method::Features { kmeans: true } => {
            let (centres, _) = kmeans(&source.y, setting.size as i64, rng)?;
            let chosen: Vec<Tensor> =
                centres.unbind(0).iter().map(|c| nearest(&source.y, c, 1)).collect::<CoreResult<_>>()?;
            Set::Targets(with_features(&Tensor::cat(&chosen, 0))?)
        }
        Method::KrrSt { size, learn_targets, models } => {
            let config = KrrStConfig { learn_targets, models, ..setting.krr };
            let start = with_features(&random(size))?;
            Set::Targets(distil(
                config,
                setting.training(method),
                &start,
                &source.y,
                Some(&source.held_out_y),
                source,
                setting,
                context,
            )?)
        }
        Method::Frepo => {
            let index = random_per_class(&source.train.y, source.classes, per_class, rng)?;
            let targets = source.centred_labels(&source.train.y);
            let start = DistilledSet::new(at(&source.train.x, &index), at(&targets, &index))?;
            Set::Targets(distil(
                setting.krr,
                setting.training(method),
                &start,
                &targets,
                None,
                source,
                setting,
                context,
            )?)
        }
        Method::Labels => {
            let index = random_per_class(&source.train.y, source.classes, per_class, rng)?;
            Set::Labels(at(&source.train.x, &index), at(&source.train.y, &index))
        }
        Method::Gradient | Method::Distribution | Method::Trajectory => {
            supervised(method, per_class, source, setting, context)?
        }
    };
    let images = match &set {
        Set::Targets(set) => set.x.shallow_clone(),
        Set::Labels(x, _) => x.shallow_clone(),
        Set::None => return Ok(set),
    };
    let shown = images.narrow(0, 0, images.size()[0].min(SHOWN as i64)).to_kind(Kind::Double);
    context.array("images", shown.contiguous().view(-1).try_into()?);
    Ok(set)
}

/// Distils by kernel ridge regression, with checkpoints.
fn distil(
    config: KrrStConfig,
    training: InnerTraining,
    start: &DistilledSet,
    targets: &Tensor,
    held_out: Option<&Tensor>,
    source: &Source,
    setting: &Setting,
    context: &mut Context<'_>,
) -> Result<DistilledSet> {
    let outputs = targets.size()[1];
    let make = |init| fresh(setting, training, source, outputs, init);
    let mut krr = KrrSt::new(config, start, make, context.seed("distillation"))?;
    let (place, every) = context.checkpoint_every(1000);
    if place.exists() {
        krr.restore(&Checkpoint::load(&place, context.plan.device)?)?;
    }
    let look = (config.iterations / LOOKS).max(1);
    for step in krr.next_step()..config.iterations {
        // Batches are functions of the step, so that a run that was stopped sees the same.
        let mut rng = seed::rng(context.seed("batches"), &[&step.to_string()]);
        let picked = rand::seq::index::sample(&mut rng, source.train.len() as usize, setting.batch);
        let picked: Vec<i64> = picked.iter().map(|i| i as i64).collect();
        let index = Tensor::from_slice(&picked).to_device(source.train.x.device());
        let loss = krr.step(&source.train.x.index_select(0, &index), &targets.index_select(0, &index))?;
        if (step + 1).is_multiple_of(look) {
            let loss = loss.double_value(&[]);
            ensure!(loss.is_finite(), "the outer loss became {loss} at step {step}: lower krr.lr");
            context.metric(step + 1, OUTER, loss);
            if let Some(y) = held_out {
                let mut sum = 0.0;
                for i in 0..config.models {
                    let of = || krr.loss(i, &source.held_out.x, y);
                    sum += tch::no_grad(of)?.double_value(&[]) / config.models as f64;
                }
                context.metric(step + 1, "held-out outer loss, pool", sum);
            }
            context.progress(step + 1, config.iterations, Some(loss));
        }
        if (step + 1).is_multiple_of(every) {
            krr.checkpoint()?.save(&place)?;
        }
    }
    let set = krr.set();
    if let Some(y) = held_out {
        context.metric(config.iterations, HELD_OUT, outer_loss(&set, y, source, setting, context)?);
    }
    Ok(set)
}

/// The outer loss on held-out images with fresh networks trained on the set.
fn outer_loss(
    set: &DistilledSet,
    y: &Tensor,
    source: &Source,
    setting: &Setting,
    context: &Context<'_>,
) -> Result<f64> {
    let mut sum = 0.0;
    for i in 0..JUDGES.0 {
        let init = seed::derive(context.seed("judge"), &[&i.to_string()]);
        let mut model = fresh(setting, setting.inner, source, y.size()[1], init)?;
        for _ in 0..JUDGES.1 {
            model.regress(set)?;
        }
        let loss = tch::no_grad(|| {
            let (f_t, f_s) = (model.features(&source.held_out.x, false)?, model.features(&set.x, false)?);
            krr_st_loss(&f_t, &f_s, &set.y, y, setting.krr.penalty)
        })?;
        sum += loss.double_value(&[]) / JUDGES.0 as f64;
    }
    Ok(sum)
}

/// Distils with labels: by gradients (DSA), features (DM) or trajectories (MTT).
fn supervised(
    method: Method,
    per_class: usize,
    source: &Source,
    setting: &Setting,
    context: &mut Context<'_>,
) -> Result<Set> {
    let s = &setting.supervised;
    let net = source.flat_net(setting)?;
    let rng = &mut seed::rng(context.seed("supervised"), &[]);
    let (x, y) = (&source.train.x, &source.train.y);
    let chosen = random_per_class(y, source.classes, per_class, rng)?;
    let images = x.index_select(0, &chosen).set_requires_grad(true);
    let labels = y.index_select(0, &chosen);
    let step_size = Tensor::from(s.step_size as f32).to_device(x.device());
    let mut buffer = TrajectoryBuffer::default();
    let (steps, lr) = match method {
        Method::Gradient => s.gradient,
        Method::Distribution => s.distribution,
        _ => {
            for i in 0..s.experts {
                context.progress(i, s.experts, None);
                buffer.push(s.expert.trajectory(&net, (x, y), rng)?)?;
            }
            s.trajectory
        }
    };
    let learned = vec![("images".to_owned(), images.shallow_clone())];
    let rule = Rule::Sgd(Sgd { momentum: 0.5, nesterov: false });
    let mut optimizer = Optimizer::new(rule, vec![Group::of(learned, 0.0)])?;
    let augment = s.matching.augment.as_ref();
    for step in 0..steps {
        optimizer.zero_grad();
        let loss = if method == Method::Trajectory {
            s.matching.forward(&net, &buffer, (&images, &labels), &step_size, rng)?.total
        } else {
            let theta = net.init(rng, x.device());
            let real = random_per_class(y, source.classes, s.batch, rng)?;
            let real = (&x.index_select(0, &real), &y.index_select(0, &real));
            let of = if method == Method::Gradient { gradient_matching_loss } else { distribution_matching_loss };
            of(&net, &theta, real, (&images, &labels), augment, rng)?
        };
        loss.backward();
        optimizer.step(lr)?;
        context.progress(step + 1, steps, None);
    }
    ensure!(bool::try_from(images.isfinite().all())?, "supervised distillation diverged: lower its learning rate");
    Ok(Set::Labels(images.detach(), labels))
}
