//! The source, the tasks, and the backbone between them.

use super::{Config, GLYPHS, Net, Pretraining, Setting};
use crate::experiment::Plan;
use crate::pretrain::{Networks, Training};
use crate::runner::Context;
use crate::vision::{Embedder, Part, brought_to};
use anyhow::{Context as _, Result};
use autodidact_core::nn::{Mlp, MlpConfig, Vit, VitConfig};
use autodidact_core::optim::StateDict;
use autodidact_core::train::Checkpoint;
use autodidact_core::{Error, seed};
use autodidact_datasets::augment::{Pipeline, Transform, barlow_twins_small_color, barlow_twins_small_digits};
use autodidact_datasets::load_images;
use autodidact_datasets::synthetic::{GlyphStyle, StrokeGlyphs};
use autodidact_ssl::barlow_twins::BarlowTwinsLoss;
use autodidact_unlearning::model_surgery::AdaptedVit;
use rand::seq::SliceRandom;
use std::path::Path;
use tch::Tensor;

/// Images as the backbone takes them, and classes in the order of their coming.
pub struct Task {
    pub train: (Tensor, Tensor),
    pub test: (Tensor, Tensor),
}

/// Channels of the images.
fn channels(plan: &Plan) -> i64 {
    if plan.dataset == "cifar100" { 3 } else { 1 }
}

fn shape(setting: &Setting, plan: &Plan) -> VitConfig {
    let Net { side, patch, width, depth, heads } = setting.net;
    VitConfig { side, patch, channels: channels(plan), width, depth, heads, ..Default::default() }
}

/// What the backbone sees of images in `[0, 1]`.
fn seen(x: &Tensor, config: &Config) -> Tensor {
    // Published weights expect another scale than those that are trained here.
    if config.weights.is_empty() { crate::vision::standardised(x) } else { (x - 0.5) / 0.5 }
}

/// Images of the source in `[0, 1]`, with labels.
fn source(setting: &Setting, context: &Context<'_>) -> Result<Part> {
    let plan = context.plan;
    let set = match plan.dataset.as_str() {
        GLYPHS => {
            let alphabet = alphabet(setting, context)?;
            let classes: Vec<usize> = (0..setting.source_classes).collect();
            let each = setting.source_images / setting.source_classes;
            alphabet.draw(&classes, each, GlyphStyle::Plain, context.seed("source"))?
        }
        dataset => {
            let name = if dataset == "mnist" { "fashion-mnist" } else { "cifar10" };
            let (train, _) = load_images(name, plan.data_dir.as_deref(), plan.download)?;
            train.subset(setting.source_images.min(train.len()), context.seed("source"))?
        }
    };
    let x = brought_to(&set.to_float(), setting.net.side, channels(plan)).to_device(plan.device);
    Ok(Part { x, y: set.labels.to_device(plan.device) })
}

/// Source classes first, then those of the tasks.
fn alphabet(setting: &Setting, context: &Context<'_>) -> Result<StrokeGlyphs> {
    Ok(StrokeGlyphs::new(setting.source_classes + setting.tasks * setting.classes, context.cell_seed())?)
}

/// All tasks; which class comes when is the seed's.
pub fn tasks(config: &Config, context: &Context<'_>) -> Result<Vec<Task>> {
    let (plan, setting) = (context.plan, config.setting(context.plan));
    let count = setting.tasks * setting.classes;
    let rng = &mut seed::rng(context.seed("class order"), &["classes"]);
    let parts: [Part; 2] = if plan.dataset == GLYPHS {
        let alphabet = alphabet(setting, context)?;
        let mut order: Vec<usize> = (setting.source_classes..setting.source_classes + count).collect();
        order.shuffle(rng);
        let draw = |n, purpose: &str| -> Result<Part> {
            let set = alphabet.draw(&order, n, GlyphStyle::Inverted, context.seed(purpose))?;
            Ok(Part::new(&set, setting.net.side, plan.device))
        };
        [draw(setting.train, "train")?, draw(setting.test, "test")?]
    } else {
        let (train, test) = load_images(&plan.dataset, plan.data_dir.as_deref(), plan.download)?;
        let mut order: Vec<usize> = (0..train.classes.len()).collect();
        order.shuffle(rng);
        order.truncate(count);
        let part = |set: &autodidact_datasets::image::ImageSet, n: usize, purpose: &str| -> Result<Part> {
            let mut counts = vec![0; set.classes.len()];
            order.iter().for_each(|c| counts[*c] = n);
            let (chosen, _) = set.with_class_counts(&counts, context.seed(purpose))?;
            let mut place = vec![0i64; set.classes.len()];
            order.iter().enumerate().for_each(|(i, c)| place[*c] = i as i64);
            let y = Tensor::from_slice(&place).index_select(0, &chosen.labels);
            let x = brought_to(&chosen.to_float(), setting.net.side, channels(plan));
            Ok(Part { x: x.to_device(plan.device), y: y.to_device(plan.device) })
        };
        [part(&train, setting.train, "train")?, part(&test, setting.test, "test")?]
    };
    let classes = setting.classes as i64;
    let of = |part: &Part, task: i64| {
        let inside = part.y.floor_divide_scalar(classes).eq(task).nonzero().squeeze_dim(1);
        (seen(&part.x.index_select(0, &inside), config), part.y.index_select(0, &inside))
    };
    Ok((0..setting.tasks as i64).map(|t| Task { train: of(&parts[0], t), test: of(&parts[1], t) }).collect())
}

/// Two views of an image of the source.
fn augmentation(config: &Config, plan: &Plan) -> Pipeline {
    if channels(plan) == 3 {
        return barlow_twins_small_color(config.setting(plan).net.side as usize);
    }
    let Pipeline(mut transforms) = barlow_twins_small_digits();
    // Bright on dark or dark on bright.
    transforms.push(Transform::Solarize { threshold: 0.0, p: config.inversion });
    Pipeline(transforms)
}

/// The pre-trained backbone, from another cell of the seed or trained now.
pub fn backbone(config: &Config, context: &mut Context<'_>) -> Result<AdaptedVit> {
    let (plan, setting) = (context.plan, config.setting(context.plan).clone());
    let shape = shape(&setting, plan);
    if !config.weights.is_empty() {
        let file = Checkpoint::load(Path::new(&config.weights), plan.device).context("the setting weights")?;
        return Ok(AdaptedVit::new(&shape, &Vit::from_timm(&file.all()), plan.device)?);
    }
    let key = serde_json::json!([
        config.pretraining,
        setting.source_classes,
        setting.source_images,
        setting.tasks,
        setting.classes,
        setting.net,
        config.embedding,
        config.inversion,
        config.source_epochs,
        config.source_batch,
        config.source_lr,
        context.cell_seed(),
    ]);
    let weights = context.shared_tensors("backbone", &key, |c| pretrain(config, &setting, &shape, c))?;
    Ok(AdaptedVit::new(&shape, &weights, plan.device)?)
}

fn pretrain(config: &Config, setting: &Setting, shape: &VitConfig, context: &Context<'_>) -> Result<StateDict> {
    let source = source(setting, context)?;
    let (n, batch) = (source.len() as usize, config.source_batch);
    if n < batch {
        return Err(Error::value("images of the source", format!("a batch of {batch} or more"), n).into());
    }
    let head = match config.pretraining {
        Pretraining::Supervised => MlpConfig::plain(&[shape.width, setting.source_classes as i64]),
        Pretraining::BarlowTwins => MlpConfig::projector(&[shape.width, 2 * config.embedding, config.embedding]),
    };
    let networks = Networks::build(context.plan.device, context.seed("init"), |p| {
        Ok(Embedder::of(Box::new(Vit::new(p / "encoder", shape)?), Mlp::new(p / "projector", &head)?))
    })?;
    let steps = config.source_epochs * (n / batch);
    if steps == 0 {
        return Ok(networks.encoder_weights());
    }
    let spec = Training { batch, steps, lr: config.source_lr, weight_decay: 1e-6 };
    let (seed, checkpoint) = (context.seed("pre-training"), context.checkpoint_every(1000));
    match config.pretraining {
        Pretraining::Supervised => {
            let loss = |_, index: &Tensor| {
                let logits = networks.twin.embed(&source.x.index_select(0, index), true);
                Ok(logits.cross_entropy_for_logits(&source.y.index_select(0, index)))
            };
            networks.train(&spec, n, seed, checkpoint, loss, |p| {
                context.progress(p.done, p.total, p.loss);
                Ok(())
            })?;
        }
        Pretraining::BarlowTwins => {
            let objective = BarlowTwinsLoss::default();
            let augment = augmentation(config, context.plan);
            networks.pretrain(
                &spec,
                &source.x,
                &augment,
                seed,
                checkpoint,
                |za, zb, _| Ok(objective.forward(za, zb)?.total),
                |_, p| {
                    context.progress(p.done, p.total, p.loss);
                    Ok(())
                },
            )?;
        }
    }
    Ok(networks.encoder_weights())
}
