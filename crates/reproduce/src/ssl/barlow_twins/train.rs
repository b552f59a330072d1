//! One cell: data, networks, training and evaluation.

use super::KNN;
use crate::experiment::Plan;
use crate::runner::Context;
use crate::vision::{
    Embedder, Encoder, Images, Part, augmentation, check_side, corner, features, knn, ridge, standardised,
};
use anyhow::{Result, bail};
use autodidact_core::metrics::{accuracy, effective_rank};
use autodidact_core::nn::Mlp;
use autodidact_core::optim::{Adam, Group, Optimizer, Rule};
use autodidact_core::schedule::{Schedule, Shape};
use autodidact_core::train::{History, TrainConfig, Trainer};
use autodidact_core::{error::check_range, seed};
use autodidact_datasets::augment::Pipeline;
use autodidact_datasets::batch::Order;
use autodidact_ssl::barlow_twins::{BarlowTwinsLoss, Form, Standardise, cross_correlation, predictor};
use autodidact_ssl::contrastive::nt_xent;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use tch::nn::{Linear, Module, ModuleT, VarStore};
use tch::{Kind, Tensor};

/// Data sizes, network and optimiser of one part of the experiment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Setting {
    /// Images to pre-train on.
    pub train: usize,
    /// Of these, how many are the labelled bank; the others validate.
    pub bank: usize,
    /// Test images (at most).
    pub test: usize,
    /// Images are average-pooled to this side.
    pub side: i64,
    /// The encoder.
    pub encoder: Encoder,
    /// Hidden width of the projector.
    pub hidden: i64,
    /// Width of the embedding.
    pub embedding: i64,
    /// Weight of the redundancy term.
    pub lambda: f64,
    /// Temperature of NT-Xent.
    pub tau: f64,
    /// Batch size.
    pub batch: usize,
    /// Steps, the same at every batch size.
    pub steps: usize,
    /// Adam's learning rate.
    pub lr: f64,
    /// Whether it follows a cosine to 0.
    pub cosine: bool,
    /// Weight decay.
    pub weight_decay: f64,
    /// Neighbours.
    pub k: i64,
}

impl Setting {
    /// 3,000 colour images of 16x16.
    pub(super) fn color() -> Self {
        Self {
            train: 3000,
            bank: 3000,
            test: 2000,
            side: 16,
            encoder: Encoder::Pooled,
            hidden: 512,
            embedding: 512,
            lambda: 1.0 / 128.0,
            tau: 0.5,
            batch: 128,
            steps: 250,
            lr: 2e-3,
            cosine: true,
            weight_decay: 1e-6,
            k: 20,
        }
    }

    /// 1,000 digits.
    pub(super) fn digits() -> Self {
        Self {
            train: 1000,
            bank: 800,
            test: 797,
            side: 8,
            encoder: Encoder::Flat,
            hidden: 256,
            embedding: 128,
            steps: 150,
            lr: 1e-3,
            cosine: false,
            ..Self::color()
        }
    }

    /// All of a 32x32 data set with ResNet-18.
    pub(super) fn full() -> Self {
        Self {
            train: 50_000,
            bank: 50_000,
            test: 10_000,
            side: 32,
            encoder: Encoder::Resnet18,
            embedding: 1024,
            batch: 256,
            // 300 epochs.
            steps: 58_500,
            lr: 1e-3,
            k: 200,
            ..Self::color()
        }
    }

    /// Checks what `--set` may have changed; `image` is the side of the images.
    pub(super) fn check(&self, name: &str, image: i64) -> Result<()> {
        let key = |field: &str| format!("{name}.{field}");
        let within = |field: &str, value: usize, low: usize, high: usize| {
            check_range(&key(field), value as f64, low as f64..=high as f64)
        };
        within("train", self.train, 2, usize::MAX)?;
        within("bank", self.bank, 1, self.train)?;
        within("test", self.test, 1, usize::MAX)?;
        within("batch", self.batch, 2, self.train)?;
        within("steps", self.steps, 1, usize::MAX)?;
        check_side(&key("side"), self.side, image)?;
        for (field, value) in [("hidden", self.hidden), ("embedding", self.embedding)] {
            check_range(&key(field), value as f64, 1.0..)?;
        }
        check_range(&key("k"), self.k as f64, 1.0..=self.bank as f64)?;
        for (field, value) in [("lambda", self.lambda), ("tau", self.tau), ("lr", self.lr)] {
            check_range(&key(field), value, f64::MIN_POSITIVE..)?;
        }
        Ok(check_range(&key("weight_decay"), self.weight_decay, 0.0..)?)
    }
}

/// What trains the encoder.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Method {
    Twins { form: Form, predictor: bool, stop_gradient: bool },
    NtXent,
    Random,
    Supervised,
}

impl Method {
    pub(super) fn parse(arm: &str) -> Result<Self> {
        let twins = |form, predictor, stop_gradient| Self::Twins { form, predictor, stop_gradient };
        Ok(match arm {
            "full" => twins(Form::Full, false, false),
            "invariance-only" => twins(Form::InvarianceOnly, false, false),
            "redundancy-only" => twins(Form::RedundancyOnly, false, false),
            "stop-gradient" => twins(Form::Full, false, true),
            "predictor" => twins(Form::Full, true, false),
            "predictor+stop-gradient" => twins(Form::Full, true, true),
            "nt-xent" => Self::NtXent,
            "random" => Self::Random,
            "supervised" => Self::Supervised,
            other => bail!("unknown arm {other}"),
        })
    }
}

/// Images on the device, and how they are augmented.
pub(super) struct Data {
    train: Part,
    bank: Part,
    validation: Part,
    test: Part,
    classes: i64,
    channels: i64,
    augment: Pipeline,
}

impl Data {
    pub(super) fn load(plan: &Plan, dataset: &str, main: &Setting, digits: &Setting) -> Result<Self> {
        let setting = if dataset == "digits" { digits } else { main };
        let Images { train, test, classes, channels } =
            Images::load(plan, dataset, "barlow-twins", setting.train, setting.test, setting.side)?;
        let bank = train.len().min(setting.bank as i64);
        let augment = augmentation(dataset, setting.side);
        let (bank, validation) = (train.slice(0, bank), train.slice(bank, train.len() - bank));
        Ok(Self { train, bank, validation, test, classes, channels, augment })
    }
}

struct Networks {
    vs: VarStore,
    twin: Embedder,
    predictor: Mlp,
    classifier: Linear,
}

impl Networks {
    fn new(setting: &Setting, data: &Data, init: u64) -> Result<Self> {
        let vs = VarStore::new(data.train.x.device());
        tch::manual_seed(init as i64);
        let Setting { encoder, side, hidden, embedding, .. } = *setting;
        let twin = Embedder::new(&vs.root(), encoder, data.channels, side, hidden, embedding)?;
        let predictor = predictor(vs.root() / "predictor", embedding, hidden)?;
        let classifier =
            autodidact_core::nn::layers::linear(vs.root() / "classifier", encoder.features(), data.classes, true);
        Ok(Self { vs, twin, predictor, classifier })
    }
}

/// Trains an encoder; returns its networks, and what was logged (the terms of the loss by step).
fn train(
    method: &Method,
    setting: &Setting,
    data: &Data,
    seeds: (u64, u64),
    checkpoint: Option<(PathBuf, usize)>,
    mut observe: impl FnMut(usize, usize, Option<f64>),
) -> Result<(Networks, History)> {
    let networks = Networks::new(setting, data, seeds.0)?;
    if *method == Method::Random {
        return Ok((networks, History::default()));
    }
    let order = Order::new(data.train.len() as usize, setting.batch, seeds.1)?;
    let steps = setting.steps;
    let shape = if setting.cosine { Shape::cosine_to(0.0) } else { Shape::Constant };
    let config = TrainConfig { checkpoint, ..TrainConfig::new(Schedule::new(setting.lr, steps, shape), seeds.1) };
    let optimizer = Optimizer::new(Rule::Adam(Adam::default()), vec![Group::all(&networks.vs, setting.weight_decay)])?;
    let twins = |form| BarlowTwinsLoss { lambda: setting.lambda, form, ..Default::default() };
    let logged = (steps / 40).max(1);
    let terms = std::cell::Cell::new(None);
    let trainer = Trainer::new(config, &networks.vs, optimizer)?;
    let history = trainer.run(
        |step| {
            let index = Tensor::from_slice(&order.batch(step.index)).to_device(data.train.x.device());
            let x = data.train.x.index_select(0, &index);
            let view = |name: &str| data.augment.apply(&x, &mut step.rng(name));
            let a = view("view a")?;
            match *method {
                Method::Random => unreachable!("it is not trained"),
                Method::Supervised => {
                    let logits = networks.classifier.forward(&networks.twin.encoder.forward_t(&standardised(&a), true));
                    Ok(logits.cross_entropy_for_logits(&data.train.y.index_select(0, &index)))
                }
                Method::NtXent => {
                    nt_xent(&networks.twin.embed(&a, true), &networks.twin.embed(&view("view b")?, true), setting.tau)
                }
                Method::Twins { form, predictor, stop_gradient } => {
                    let (mut za, mut zb) = (networks.twin.embed(&a, true), networks.twin.embed(&view("view b")?, true));
                    if predictor {
                        za = networks.predictor.forward_t(&za, true);
                    }
                    if stop_gradient {
                        zb = zb.detach();
                    }
                    let out = twins(form).forward(&za, &zb)?;
                    if step.index % logged == 0 {
                        let (on, off) = (out.on_diag.double_value(&[]), out.off_diag.double_value(&[]));
                        terms.set(Some((on, setting.lambda * off)));
                    }
                    Ok(out.total)
                }
            }
        },
        |mut p| {
            observe(p.done, p.total, p.loss);
            if let Some((on, off)) = terms.take() {
                p.log("loss on-diagonal", on)?;
                p.log("loss lambda x off-diagonal", off)?;
            }
            Ok(())
        },
    )?;
    Ok((networks, history))
}

/// The learning rate with the best validation accuracy of a method at a batch size. The streams are those of no repetition.
pub(super) fn tuned_lr(
    method: &Method,
    setting: &Setting,
    batch: usize,
    candidates: &[f64],
    data: &Data,
    context: &mut Context<'_>,
) -> Result<f64> {
    if let [only] = candidates {
        return Ok(*only);
    }
    let key = (format!("{method:?}"), setting, batch, candidates);
    let name =
        format!("learning rate of {} at batch {batch}", if *method == Method::NtXent { "nt-xent" } else { "full" });
    let seeds = ["init", "order"].map(|purpose| seed::derive(0, &["barlow-twins", "tuning", purpose]));
    context.shared(&name, &key, |context| {
        let mut best = (f64::NEG_INFINITY, candidates[0]);
        for (i, &lr) in candidates.iter().enumerate() {
            let setting = Setting { lr, batch, ..setting.clone() };
            let (networks, _) = train(method, &setting, data, seeds.into(), None, |done, total, loss| {
                context.progress(i * total + done, candidates.len() * total, loss);
            })?;
            let [bank, queries] =
                [&data.bank, &data.validation].map(|p| (features(&*networks.twin.encoder, &p.x), &p.y));
            let accuracy = knn((&bank.0, bank.1), (&queries.0, queries.1), data.classes, setting.k)?;
            if accuracy > best.0 {
                best = (accuracy, lr);
            }
        }
        Ok(best.1)
    })
}

/// Trains and evaluates; logs everything.
pub(super) fn cell(method: &Method, setting: &Setting, data: &Data, context: &mut Context<'_>) -> Result<()> {
    let seeds = (context.seed("init"), context.seed("order"));
    let held_out = |networks: &Networks| -> Result<Tensor> {
        let x = &data.test.x;
        let mut rng = seed::rng(seeds.1, &["held-out pairs"]);
        tch::no_grad(|| {
            let (a, b) = (data.augment.apply(x, &mut rng)?, data.augment.apply(x, &mut rng)?);
            let standardise = Standardise::Batch { unbiased: false, eps: 1e-5 };
            Ok(cross_correlation(&networks.twin.embed(&a, false), &networks.twin.embed(&b, false), standardise)?)
        })
    };
    if context.plan.seeds.first() == Some(&context.cell_seed()) {
        let corner = corner(&held_out(&Networks::new(setting, data, seeds.0)?)?)?;
        context.array("C before training", corner);
    }
    let checkpoint = Some(context.checkpoint_every(500));
    let (networks, history) =
        train(method, setting, data, seeds, checkpoint, |done, total, loss| context.progress(done, total, loss))?;
    context.log(&history);
    let steps = setting.steps;
    let [bank, test] = [&data.bank, &data.test].map(|p| features(&*networks.twin.encoder, &p.x));
    let (labelled, queries) = ((&bank, &data.bank.y), (&test, &data.test.y));
    context.metric(steps, KNN, knn(labelled, queries, data.classes, setting.k)?);
    context.metric(steps, "ridge probe accuracy", ridge(labelled, queries, data.classes)?);
    context.metric(steps, "effective rank", effective_rank(&test)?);
    if *method == Method::Supervised {
        let logits = tch::no_grad(|| networks.classifier.forward(&test));
        context.metric(steps, "classifier accuracy", 100.0 * accuracy(&logits, &data.test.y)?);
        return Ok(());
    }
    let c = held_out(&networks)?;
    let diagonal = c.diagonal(0, 0, 1);
    let d = c.size()[0] as f64;
    let off = (c.square().sum(Kind::Double) - diagonal.square().sum(Kind::Double)) / (d * (d - 1.0));
    context.metric(steps, "mean diagonal of C", diagonal.mean(Kind::Double).double_value(&[]));
    context.metric(steps, "RMS off-diagonal of C", off.sqrt().double_value(&[]));
    if context.plan.seeds.first() == Some(&context.cell_seed()) {
        context.array("C after training", corner(&c)?);
    }
    Ok(())
}
