//! Parts (c) and (d): encoders on images, probed below and above the head.

use super::images::{Classes, Composites, composites};
use super::{ACCURACY, Config, Head, LAYERS, Setting, Supervision};
use crate::pretrain::Networks;
use crate::runner::Context;
use crate::vision::{Embedder, Part, augmentation, features};
use anyhow::Result;
use autodidact_core::Result as CoreResult;
use autodidact_core::metrics::{RidgeProbe, accuracy, effective_rank, standardise};
use autodidact_core::nn::layers;
use autodidact_datasets::augment::{ColorJitter, Pipeline, Transform};
use autodidact_ssl::contrastive::{nt_xent, supcon};
use autodidact_ssl::projection_head::{FixedReweightHead, MlpHead, MlpHeadConfig, NoHead};
use autodidact_ssl::unit;
use rand::RngExt;
use tch::nn::Module;
use tch::{Device, Tensor};

/// An encoder with a head whose MLP form has embeddings of width `output`.
fn networks(setting: &Setting, head: Head, output: i64, kappa: f64, device: Device, init: u64) -> Result<Networks> {
    Networks::build(device, init, |p| {
        let dim = setting.encoder.features();
        let encoder = setting.encoder.build(p / "encoder", 3, setting.side)?;
        Ok(match head {
            Head::Mlp => Embedder::of(
                encoder,
                MlpHead::new(&(p / "head"), &MlpHeadConfig { width: dim, output, symmetric: None })?,
            ),
            Head::Fixed => Embedder::of(encoder, FixedReweightHead::new(kappa, dim, device)?),
            Head::None => Embedder::of(encoder, NoHead),
        })
    })
}

/// Part (c): NT-Xent on two views, one of which may show the background alone.
pub(super) fn digits(config: &Config, head: Head, p: f64, strength: f64, context: &mut Context<'_>) -> Result<()> {
    let setting = &config.digits;
    let (train, test) = composites(context.plan, (setting.train, setting.test), setting.side, strength)?;
    let networks = networks(
        setting,
        head,
        config.embedding,
        FixedReweightHead::SELF_SUPERVISED,
        context.plan.device,
        context.seed("init"),
    )?;
    let Composites { backgrounds, images } = &train;
    // No crop: the digit is in the middle of every view that has it.
    let augment = Pipeline(vec![
        Transform::Grayscale { p: 0.2 },
        Transform::HorizontalFlip { p: 0.5 },
        Transform::GaussianBlur { kernel: 3, sigma: (0.1, 2.0), p: 0.5 },
        Transform::ColorJitter(ColorJitter { brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1, p: 0.8 }),
    ]);
    let checkpoint = context.checkpoint_every(500);
    let history = networks.train(
        &setting.training,
        images.len() as usize,
        context.seed("digits"),
        checkpoint,
        |step, index| {
            let whole = images.x.index_select(0, index);
            let mut rng = step.rng("drop");
            let dropped: Vec<bool> = (0..index.size()[0]).map(|_| rng.random::<f64>() < p).collect();
            let dropped = Tensor::from_slice(&dropped).to_device(whole.device()).view([-1, 1, 1, 1]);
            let other = backgrounds.index_select(0, index).where_self(&dropped, &whole);
            let view = |x: &Tensor, name| -> CoreResult<Tensor> {
                Ok(networks.twin.embed(&augment.apply(x, &mut step.rng(name))?, true))
            };
            nt_xent(&view(&whole, "view a")?, &view(&other, "view b")?, config.tau)
        },
        |p| {
            context.progress(p.done, p.total, p.loss);
            Ok(())
        },
    )?;
    context.log(&history);
    probe(&networks, &train.first(setting.labels as i64), &test.images, 10, setting, context)
}

/// Part (d): cross entropy or SupCon on super-classes, then probes of the classes.
pub(super) fn coarse(config: &Config, loss: Supervision, head: Head, context: &mut Context<'_>) -> Result<()> {
    let setting = &config.coarse;
    let data = Classes::load(context.plan, (setting.train, setting.test), setting.side)?;
    let (output, kappa) = match loss {
        Supervision::CrossEntropy => (setting.encoder.features(), FixedReweightHead::SUPERVISED),
        Supervision::SupCon => (config.embedding, FixedReweightHead::SUPERVISED_CONTRASTIVE),
    };
    let networks = networks(setting, head, output, kappa, context.plan.device, context.seed("init"))?;
    let classifier = (loss == Supervision::CrossEntropy)
        .then(|| layers::linear(networks.variables() / "classifier", output, data.super_classes, true));
    let augment = augmentation("cifar10", setting.side);
    let labels = data.coarse.index_select(0, &data.train.y);
    let checkpoint = context.checkpoint_every(500);
    let history = networks.train(
        &setting.training,
        data.train.len() as usize,
        context.seed("coarse"),
        checkpoint,
        |step, index| {
            let (x, y) = (data.train.x.index_select(0, index), labels.index_select(0, index));
            let view = |name| -> CoreResult<Tensor> {
                Ok(networks.twin.embed(&augment.apply(&x, &mut step.rng(name))?, true))
            };
            match &classifier {
                Some(classifier) => Ok(classifier.forward(&view("view a")?).cross_entropy_for_logits(&y)),
                None => supcon(&Tensor::cat(&[view("view a")?, view("view b")?], 0), &y.repeat([2]), config.tau),
            }
        },
        |p| {
            context.progress(p.done, p.total, p.loss);
            Ok(())
        },
    )?;
    context.log(&history);
    let labelled = data.train.slice(0, data.train.len().min(setting.labels as i64));
    probe(&networks, &labelled, &data.test, data.classes(), setting, context)
}

/// Probes representations below and above the head.
fn probe(
    networks: &Networks,
    labelled: &Part,
    test: &Part,
    classes: i64,
    setting: &Setting,
    context: &mut Context<'_>,
) -> Result<()> {
    let pre = [labelled, test].map(|part| features(&*networks.twin.encoder, &part.x));
    let post = [&pre[0], &pre[1]].map(|z| networks.twin.project(z));
    for (name, [bank, queries]) in ACCURACY.iter().zip([&pre, &post]) {
        let accuracy = tuned_ridge((bank, &labelled.y), (queries, &test.y), classes)?;
        context.metric(setting.training.steps, name, accuracy);
    }
    for (layer, z) in LAYERS.iter().zip([&pre[1], &post[1]]) {
        let rank = effective_rank(&(z - z.mean_dim([0i64].as_slice(), true, z.kind())))?;
        context.metric(setting.training.steps, &format!("effective rank, {layer}"), rank);
    }
    Ok(())
}

/// Share of the labelled images that choose the probe.
const VALIDATION: f64 = 0.25;
const PENALTIES: [f64; 4] = [1e-4, 1e-3, 1e-2, 1e-1];

/// Percent of `queries` that a ridge probe on standardised features classifies rightly; held-out rows of the bank choose the
/// penalty, and whether rows are brought to length 1 first.
fn tuned_ridge(bank: (&Tensor, &Tensor), queries: (&Tensor, &Tensor), classes: i64) -> Result<f64> {
    let n = bank.0.size()[0];
    let held = ((n as f64 * VALIDATION).round() as i64).clamp(1, n - 1);
    let rows = |t: &Tensor, from: i64, len: i64| t.narrow(0, from, len);
    let score = |bank: (&Tensor, &Tensor), queries: (&Tensor, &Tensor), penalty: f64| -> Result<f64> {
        let (x, [test]) = standardise(bank.0, [queries.0])?;
        Ok(100.0 * accuracy(&RidgeProbe { penalty }.scores(&x, bank.1, classes, &test)?, queries.1)?)
    };
    let mut best: Option<(f64, [Tensor; 2], f64)> = None;
    for [x, test] in [[bank.0.shallow_clone(), queries.0.shallow_clone()], [unit(bank.0), unit(queries.0)]] {
        for penalty in PENALTIES {
            let fit = (rows(&x, 0, n - held), rows(bank.1, 0, n - held));
            let on = (rows(&x, n - held, held), rows(bank.1, n - held, held));
            let right = score((&fit.0, &fit.1), (&on.0, &on.1), penalty)?;
            if best.as_ref().is_none_or(|best| right > best.0) {
                best = Some((right, [x.shallow_clone(), test.shallow_clone()], penalty));
            }
        }
    }
    let (_, [x, test], penalty) = best.expect("penalties are tried");
    score((&x, bank.1), (&test, queries.1), penalty)
}
