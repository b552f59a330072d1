//! One cell: networks, training with a pretext task, and the judges of the representation.

use super::{Arm, Config, KNN, Network, PARAMETERS, PROBE, Setting, TASK_ACCURACY, Task};
use crate::pretrain::Networks;
use crate::runner::Context;
use crate::vision::{Embedder, Encoder as Small, Images, augmentation, features, knn, standardised};
use anyhow::Result;
use autodidact_core::metrics::{LinearProbe, accuracy, standardise};
use autodidact_core::nn::Mlp;
use autodidact_core::optim::{Adam, Rule};
use autodidact_datasets::augment::{Pipeline, RandomAffine, SimClr, Transform};
use autodidact_ssl::contrastive::nt_xent;
use autodidact_ssl::scatsimclr::pretext::{Pretext, PretextSchedule, max_hamming_permutations};
use autodidact_ssl::scatsimclr::{AdapterConfig, Encoder, projector};
use autodidact_ssl::scattering::Scattering2d;
use std::cell::Cell;
use tch::nn::{ModuleT, Path};
use tch::{Kind, Tensor};

/// Most coefficients of the transform, over all labelled images, that are probed.
const COEFFICIENTS: i64 = 500_000_000;

/// Networks as an arm says, for images of `channels` channels.
fn embedder(arm: &Arm, setting: &Setting, channels: i64, p: &Path) -> Result<(Embedder, i64)> {
    let scales = arm.scales.unwrap_or(setting.scales);
    let angles = arm.angles.unwrap_or(setting.angles);
    let size = (setting.side, setting.side);
    let scattering = || Scattering2d::new(scales, angles, size, 2, p.device());
    let adapter = match arm.blocks {
        Some(blocks) => AdapterConfig::published(blocks)?,
        None => {
            let (stem, stages) = (setting.stem, setting.stages.clone());
            AdapterConfig { stem, stages, pool: setting.pool, input_norm: false }
        }
    };
    let at = p / "encoder";
    let (encoder, width): (Box<dyn ModuleT>, i64) = match arm.network {
        Network::Scattering => {
            let (transform, (h, w)) = (scattering()?, scattering()?.output_size());
            let width = channels * transform.channels() * h * w;
            (Box::new(Coefficients(transform)), width)
        }
        Network::ScatSimClr => {
            (Box::new(Encoder::scattering(at, channels, scattering()?, &adapter)?), adapter.features())
        }
        Network::ConvStem => {
            let maps = channels * scattering()?.channels();
            (Box::new(Encoder::convolutional(at, channels, maps, scales, &adapter)?), adapter.features())
        }
        Network::Resnet18 => (Small::Resnet18.build(at, channels, setting.side)?, Small::Resnet18.features()),
    };
    let (hidden, embedding) = match arm.network {
        // Nothing is trained; the coefficients are many.
        Network::Scattering => (1, 1),
        Network::Resnet18 => (width, setting.embedding),
        _ => (setting.hidden, setting.embedding),
    };
    let projector = Mlp::new(p / "projector", &projector(width, hidden, embedding))?;
    Ok((Embedder::of(encoder, projector), width))
}

/// The transform alone.
#[derive(Debug)]
struct Coefficients(Scattering2d);

impl ModuleT for Coefficients {
    fn forward_t(&self, x: &Tensor, _train: bool) -> Tensor {
        self.0.forward(x).expect("images have the size of the transform").flatten(1, -1)
    }
}

/// What both views, and rotated copies, are drawn from.
fn views(arm: &Arm, setting: &Setting, dataset: &str) -> Pipeline {
    if dataset == "digits" {
        return augmentation(dataset, setting.side);
    }
    let mut pipeline = SimClr { size: setting.side as usize, ..SimClr::default() }.pipeline();
    if arm.affine {
        let affine = RandomAffine { rotation: 15f64.to_radians(), zoom: (0.9, 1.1), shift: 0.2 };
        pipeline.0.insert(0, Transform::Affine(affine));
    }
    pipeline
}

fn task(arm: &Arm, config: &Config, networks: &Networks, width: i64) -> Result<Option<Pretext>> {
    let p = networks.variables();
    Ok(match arm.task {
        None => None,
        Some(Task::Rotation) => Some(Pretext::rotation(p, width)?),
        Some(Task::Jigsaw) => Some(Pretext::jigsaw(p, width, &max_hamming_permutations(config.orders)?)?),
    })
}

/// Trains and evaluates; logs everything.
pub(super) fn cell(arm: &Arm, config: &Config, context: &mut Context<'_>) -> Result<()> {
    let (plan, setting) = (context.plan, config.of(&context.plan.dataset));
    let images = Images::load(plan, &plan.dataset, "scatsimclr", setting.train, setting.test, setting.side)?;
    let mut width = 0;
    let networks = Networks::build(plan.device, context.seed("init"), |p| {
        let (twin, features) = embedder(arm, setting, images.channels, p)?;
        width = features;
        Ok(twin)
    })?;
    let probe_seed = context.seed("probe");
    // Of the coefficients alone there would be gigabytes.
    let most = if arm.network == Network::Scattering { COEFFICIENTS / width } else { i64::MAX };
    let labels = (setting.labels as i64).min(most).min(images.train.len());
    let measure = |networks: &Networks| measured(networks, &images, setting.k, labels, config.probe_epochs, probe_seed);
    for (name, value) in measure(&networks)? {
        context.metric(0, name, value);
    }
    let trained = arm.network != Network::Scattering;
    context.metric(0, PARAMETERS, if trained { networks.parameters() as f64 } else { 0.0 });
    if !trained {
        return Ok(());
    }
    let pretext = task(arm, config, &networks, width)?;
    let steps = setting.training.steps;
    let schedule = PretextSchedule { warmup: (config.warmup * steps as f64).round() as usize, lambda: config.lambda };
    let augment = views(arm, setting, &plan.dataset);
    let (watch, half) = ((steps / 20).max(1), steps.div_ceil(2));
    // Read back only when it is logged.
    let right: Cell<Option<Tensor>> = Cell::default();
    let checkpoint = context.checkpoint_every(200);
    let history = networks.pretrain(
        &setting.training,
        &images.train.x,
        &augment,
        context.seed("train"),
        checkpoint,
        |za, zb, batch| {
            let contrastive = nt_xent(za, zb, config.tau)?;
            let weight = schedule.weight(batch.step.index);
            let Some(pretext) = pretext.as_ref().filter(|_| weight > 0.0) else { return Ok(contrastive) };
            let rng = &mut batch.step.rng("pretext");
            let (copies, labels) = pretext.pose(batch.images, rng)?;
            let copies = if matches!(pretext, Pretext::Rotation(_)) { augment.apply(&copies, rng)? } else { copies };
            let scores = pretext.logits(&networks.twin.encoder.forward_t(&standardised(&copies), true), true)?;
            right.set(Some(scores.argmax(1, false).eq_tensor(&labels).to_kind(Kind::Float).mean(Kind::Float)));
            Ok(contrastive + scores.cross_entropy_for_logits(&labels) * weight)
        },
        |networks, p| {
            context.progress(p.done, p.total, p.loss);
            if p.done.is_multiple_of(half) || p.done == p.total {
                for (name, value) in measure(networks)? {
                    p.log(name, value)?;
                }
            }
            if p.done.is_multiple_of(watch)
                && let Some(right) = right.take()
            {
                p.log(TASK_ACCURACY, 100.0 * right.double_value(&[]))?;
            }
            Ok(())
        },
    )?;
    context.log(&history);
    Ok(())
}

/// Linear probe and k-NN on the representations of labelled training images, judged on test images.
fn measured(
    networks: &Networks,
    images: &Images,
    k: i64,
    labels: i64,
    epochs: usize,
    seed: u64,
) -> Result<[(&'static str, f64); 2]> {
    let labelled = images.train.slice(0, labels);
    let of = |x: &Tensor| features(&*networks.twin.encoder, x);
    let (bank, queries) = (of(&labelled.x), of(&images.test.x));
    let neighbours = knn((&bank, &labelled.y), (&queries, &images.test.y), images.classes, k)?;
    let (bank, [queries]) = standardise(&bank, [&queries])?;
    let rule = Rule::Adam(Adam::default());
    let probe = LinearProbe { rule, lr: 3e-4, weight_decay: 1e-4, epochs, batch: 64, seed };
    let scores = probe.logits(&bank, &labelled.y, images.classes, &queries)?;
    Ok([(PROBE, 100.0 * accuracy(&scores, &images.test.y)?), (KNN, neighbours)])
}
