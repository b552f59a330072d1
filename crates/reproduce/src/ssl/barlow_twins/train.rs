//! One cell: data, networks, training and evaluation.

use super::KNN;
use crate::experiment::Plan;
use crate::runner::Context;
use anyhow::{Result, bail};
use autodidact_core::metrics::{Knn, RidgeProbe, Vote, accuracy, effective_rank};
use autodidact_core::nn::{ConvNet, ConvNetConfig, Depth, Head, Mlp, ResNet, ResNetConfig, Stem};
use autodidact_core::optim::{Adam, Group, Optimizer, Rule};
use autodidact_core::schedule::{Schedule, Shape};
use autodidact_core::{Error, error::check_range, seed};
use autodidact_core::train::{History, TrainConfig, Trainer};
use autodidact_datasets::augment::{Pipeline, barlow_twins_small_color, barlow_twins_small_digits};
use autodidact_datasets::batch::Order;
use autodidact_datasets::image::ImageSet;
use autodidact_datasets::load_images;
use autodidact_ssl::barlow_twins::{BarlowTwinsLoss, Form, Standardise, cross_correlation, predictor, projector};
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
    /// `resnet18`, or the widths of the small network's convolutions.
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

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Encoder {
    /// Four convolutions and the mean over positions: 256 features.
    Pooled,
    /// Three convolutions and a linear layer: 128 features.
    Flat,
    /// ResNet-18 with the CIFAR stem: 512 features.
    Resnet18,
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
        if !(4..=image).contains(&self.side) || image % self.side != 0 {
            return Err(Error::value(key("side"), format!("a divisor of {image}, at least 4"), self.side).into());
        }
        for (field, value) in [("hidden", self.hidden), ("embedding", self.embedding)] {
            check_range(&key(field), value as f64, 1.0..)?;
        }
        check_range(&key("k"), self.k as f64, 1.0..=self.bank as f64)?;
        for (field, value) in [("lambda", self.lambda), ("tau", self.tau), ("lr", self.lr)] {
            check_range(&key(field), value, f64::MIN_POSITIVE..)?;
        }
        Ok(check_range(&key("weight_decay"), self.weight_decay, 0.0..)?)
    }

    fn features(&self) -> i64 {
        match self.encoder {
            Encoder::Pooled => 256,
            Encoder::Flat => 128,
            Encoder::Resnet18 => 512,
        }
    }

    fn build(&self, p: tch::nn::Path, channels: i64) -> Result<Box<dyn ModuleT>> {
        let net = |blocks: &[(i64, i64)], head| ConvNetConfig { channels, blocks: blocks.to_vec(), head };
        Ok(match self.encoder {
            Encoder::Pooled => {
                let config = net(&[(32, 1), (64, 2), (128, 2), (256, 2)], Head::GlobalMean);
                Box::new(ConvNet::new(p, &config)?)
            }
            Encoder::Flat => {
                let config = net(&[(32, 1), (64, 2), (128, 2)], Head::Flatten { side: self.side, width: 128 });
                Box::new(ConvNet::new(p, &config)?)
            }
            Encoder::Resnet18 => {
                Box::new(ResNet::new(p, &ResNetConfig { channels, ..ResNetConfig::new(Depth::D18, Stem::Cifar) }))
            }
        })
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

/// Images as floats on the device, standardised, with labels.
pub(super) struct Data {
    train: (Tensor, Tensor),
    bank: (Tensor, Tensor),
    validation: (Tensor, Tensor),
    test: (Tensor, Tensor),
    classes: i64,
    channels: i64,
    augment: Pipeline,
}

impl Data {
    pub(super) fn load(plan: &Plan, dataset: &str, main: &Setting, digits: &Setting) -> Result<Self> {
        let setting = if dataset == "digits" { digits } else { main };
        let (train, test) = load_images(dataset, plan.data_dir.as_deref(), plan.download)?;
        // One split for all seeds and arms.
        let split = seed::derive(0, &["barlow-twins", "split"]);
        let train = train.subset(setting.train.min(train.len()), split)?;
        let bank_size = setting.bank.min(train.len());
        let test = test.subset(setting.test.min(test.len()), split)?;
        let tensors = |set: &ImageSet| {
            let x = set.to_float();
            let side = x.size()[2];
            let x = if side > setting.side {
                x.avg_pool2d(side / setting.side, side / setting.side, 0, false, true, None)
            } else {
                x
            };
            (x.to_device(plan.device), set.labels.to_device(plan.device))
        };
        let (classes, channels) = (train.classes.len() as i64, train.image_size()[0]);
        let all = tensors(&train);
        let part = |from: usize, len: usize| {
            (all.0.narrow(0, from as i64, len as i64), all.1.narrow(0, from as i64, len as i64))
        };
        let (bank, validation) = (part(0, bank_size), part(bank_size, train.len() - bank_size));
        let augment = if dataset == "digits" {
            barlow_twins_small_digits()
        } else {
            barlow_twins_small_color(setting.side as usize)
        };
        Ok(Self { bank, validation, test: tensors(&test), train: all, classes, channels, augment })
    }

    fn network_input(x: &Tensor) -> Tensor {
        (x - 0.5) / 0.25
    }
}

struct Networks {
    vs: VarStore,
    encoder: Box<dyn ModuleT>,
    projector: Mlp,
    predictor: Mlp,
    classifier: Linear,
}

impl Networks {
    fn new(setting: &Setting, data: &Data, init: u64) -> Result<Self> {
        let vs = VarStore::new(data.train.0.device());
        tch::manual_seed(init as i64);
        let encoder = setting.build(vs.root() / "encoder", data.channels)?;
        let f = setting.features();
        let projector = projector(vs.root() / "projector", &[f, setting.hidden, setting.embedding])?;
        let predictor = predictor(vs.root() / "predictor", setting.embedding, setting.hidden)?;
        let classifier = autodidact_core::nn::layers::linear(vs.root() / "classifier", f, data.classes, true);
        Ok(Self { vs, encoder, projector, predictor, classifier })
    }

    fn features(&self, x: &Tensor) -> Tensor {
        tch::no_grad(|| {
            let parts: Vec<Tensor> =
                x.split(512, 0).iter().map(|x| self.encoder.forward_t(&Data::network_input(x), false)).collect();
            Tensor::cat(&parts, 0)
        })
    }

    fn embed(&self, x: &Tensor, train: bool) -> Tensor {
        self.projector.forward_t(&self.encoder.forward_t(&Data::network_input(x), train), train)
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
    let order = Order::new(data.train.0.size()[0] as usize, setting.batch, seeds.1)?;
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
            let index = Tensor::from_slice(&order.batch(step.index)).to_device(data.train.0.device());
            let x = data.train.0.index_select(0, &index);
            let view = |name: &str| data.augment.apply(&x, &mut step.rng(name));
            let a = view("view a")?;
            match *method {
                Method::Random => unreachable!("it is not trained"),
                Method::Supervised => {
                    let logits =
                        networks.classifier.forward(&networks.encoder.forward_t(&Data::network_input(&a), true));
                    Ok(logits.cross_entropy_for_logits(&data.train.1.index_select(0, &index)))
                }
                Method::NtXent => {
                    nt_xent(&networks.embed(&a, true), &networks.embed(&view("view b")?, true), setting.tau)
                }
                Method::Twins { form, predictor, stop_gradient } => {
                    let (mut za, mut zb) = (networks.embed(&a, true), networks.embed(&view("view b")?, true));
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

/// Percent of queries that weighted k-NN on the bank classifies rightly.
fn knn(networks: &Networks, data: &Data, queries: &(Tensor, Tensor), k: i64) -> Result<f64> {
    let knn = Knn::new(&networks.features(&data.bank.0), &data.bank.1, data.classes)?;
    Ok(100.0 * knn.accuracy(&networks.features(&queries.0), &queries.1, k, Vote::Temperature(0.5))?)
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
            let accuracy = knn(&networks, data, &data.validation, setting.k)?;
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
        let x = &data.test.0;
        let mut rng = seed::rng(seeds.1, &["held-out pairs"]);
        tch::no_grad(|| {
            let (a, b) = (data.augment.apply(x, &mut rng)?, data.augment.apply(x, &mut rng)?);
            let standardise = Standardise::Batch { unbiased: false, eps: 1e-5 };
            Ok(cross_correlation(&networks.embed(&a, false), &networks.embed(&b, false), standardise)?)
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
    let (bank, test) = (networks.features(&data.bank.0), networks.features(&data.test.0));
    let knn = Knn::new(&bank, &data.bank.1, data.classes)?;
    context.metric(steps, KNN, 100.0 * knn.accuracy(&test, &data.test.1, setting.k, Vote::Temperature(0.5))?);
    let scores = RidgeProbe::default().scores(&bank, &data.bank.1, data.classes, &test)?;
    context.metric(steps, "ridge probe accuracy", 100.0 * accuracy(&scores, &data.test.1)?);
    context.metric(steps, "effective rank", effective_rank(&test)?);
    if *method == Method::Supervised {
        let logits = tch::no_grad(|| networks.classifier.forward(&test));
        context.metric(steps, "classifier accuracy", 100.0 * accuracy(&logits, &data.test.1)?);
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

/// The first 32 rows and columns, for the plot.
fn corner(c: &Tensor) -> Result<Vec<f64>> {
    let side = c.size()[0].min(32);
    let corner = c.narrow(0, 0, side).narrow(1, 0, side).to_kind(Kind::Double).contiguous().view(-1);
    Ok(corner.try_into()?)
}
