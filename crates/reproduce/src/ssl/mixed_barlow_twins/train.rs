//! One cell: data, training and the evaluations along the way.

use super::{HELD_LOSS, HELD_REGULARISER, KNN, OWN_LOSS, PROBE, TRAINING_LOSS};
use crate::experiment::Plan;
use crate::runner::Context;
use crate::vision::{Embedder, Encoder, Images, Part, augmentation, check_side, corner, features, knn, ridge};
use anyhow::{Result, bail};
use autodidact_core::optim::{Adam, Group, Optimizer, Rule};
use autodidact_core::schedule::{Schedule, Shape};
use autodidact_core::train::{TrainConfig, Trainer};
use autodidact_core::{Error, error::check_range, seed};
use autodidact_datasets::augment::Pipeline;
use autodidact_datasets::batch::Order;
use autodidact_ssl::barlow_twins::{BarlowTwinsLoss, cross_correlation};
use autodidact_ssl::mixed_barlow_twins::{Mix, MixedBarlowTwins};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use tch::nn::VarStore;
use tch::{Kind, Tensor};

/// Data sizes, network and optimiser on one data set.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Setting {
    /// Images to pre-train on, the first of the bank.
    pub train: usize,
    /// Labelled images of the k-NN judge and the probe.
    pub bank: usize,
    /// Test images (at most).
    pub test: usize,
    /// Images are average-pooled to this side.
    pub side: i64,
    /// Strength of the pattern that every image carries as its own.
    pub nuisance: f64,
    /// The encoder.
    pub encoder: Encoder,
    /// Hidden width of the projector.
    pub hidden: i64,
    /// Width of the embedding.
    pub embedding: i64,
    /// `lambda_BT`.
    pub lambda_bt: f64,
    /// `lambda_reg`.
    pub lambda_reg: f64,
    /// Batch size.
    pub batch: usize,
    /// Epochs (of full batches).
    pub epochs: usize,
    /// Epochs from one evaluation to the next.
    pub every: usize,
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
    /// 300 digits with nuisance.
    pub(super) fn digits() -> Self {
        Self {
            train: 300,
            bank: 800,
            test: 797,
            side: 8,
            nuisance: 0.5,
            encoder: Encoder::Flat,
            hidden: 256,
            embedding: 1024,
            lambda_bt: 1.0 / 128.0,
            lambda_reg: 4.0,
            batch: 128,
            epochs: 300,
            every: 10,
            lr: 1e-3,
            cosine: false,
            weight_decay: 1e-6,
            k: 20,
        }
    }

    /// 512 colour images of 16x16.
    pub(super) fn color() -> Self {
        Self {
            train: 512,
            bank: 3000,
            test: 2000,
            side: 16,
            nuisance: 0.0,
            encoder: Encoder::Pooled,
            hidden: 512,
            epochs: 120,
            lr: 2e-3,
            cosine: true,
            ..Self::digits()
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
            batch: 256,
            epochs: 1000,
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
        within("train", self.train, 2, self.bank)?;
        within("test", self.test, 2, usize::MAX)?;
        within("batch", self.batch, 2, self.train)?;
        within("epochs", self.epochs, 1, usize::MAX)?;
        within("every", self.every, 2, self.epochs)?;
        check_side(&key("side"), self.side, image)?;
        for (field, value) in [("hidden", self.hidden), ("embedding", self.embedding)] {
            check_range(&key(field), value as f64, 1.0..)?;
        }
        check_range(&key("k"), self.k as f64, 1.0..=self.bank as f64)?;
        for (field, value) in [("lambda_bt", self.lambda_bt), ("lr", self.lr)] {
            check_range(&key(field), value, f64::MIN_POSITIVE..)?;
        }
        for (field, value) in
            [("lambda_reg", self.lambda_reg), ("nuisance", self.nuisance), ("weight_decay", self.weight_decay)]
        {
            check_range(&key(field), value, 0.0..)?;
        }
        Ok(())
    }

    pub(super) fn steps_per_epoch(&self) -> usize {
        self.train / self.batch
    }
}

/// What the encoder learns from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Method {
    /// Barlow Twins of two views.
    Twins,
    /// With the regulariser on the mixtures.
    Mixed,
    /// The mixtures as a third view: the mean of Barlow Twins of the views, and of the mixtures and the first view.
    MixedInputs,
}

impl Method {
    /// An arm's method, and for how many times the epochs it trains.
    pub(super) fn parse(arm: &str) -> Result<(Self, f64)> {
        Ok(match arm {
            "barlow-twins" => (Self::Twins, 1.0),
            "barlow-twins-longer" => (Self::Twins, 1.5),
            "mixed" => (Self::Mixed, 1.0),
            "mixed-inputs" => (Self::MixedInputs, 1.0),
            other => bail!("unknown arm {other}"),
        })
    }
}

/// Images on the device, and how they are augmented.
pub(super) struct Data {
    train: Part,
    bank: Part,
    test: Part,
    classes: i64,
    channels: i64,
    augment: Pipeline,
}

impl Data {
    pub(super) fn load(plan: &Plan, dataset: &str, setting: &Setting) -> Result<Self> {
        let slug = "mixed-barlow-twins";
        let Images { train: bank, test, classes, channels } =
            Images::load(plan, dataset, slug, setting.bank, setting.test, setting.side)?;
        let marked = |part: Part, name: &str| {
            if setting.nuisance == 0.0 {
                return part;
            }
            seed::seed_torch(0, &[slug, "nuisance", name]);
            let field = Tensor::randn([part.len(), channels, 4, 4], (Kind::Float, tch::Device::Cpu));
            let pattern = field.upsample_bilinear2d([setting.side; 2], false, None, None) * setting.nuisance;
            Part { x: &part.x + pattern.to_device(part.x.device()), y: part.y }
        };
        let (bank, test) = (marked(bank, "bank"), marked(test, "test"));
        let train = bank.slice(0, bank.len().min(setting.train as i64));
        Ok(Self { train, bank, test, classes, channels, augment: augmentation(dataset, setting.side) })
    }

    /// Representations and losses of a network in evaluation mode.
    fn evaluate(
        &self,
        twin: &Embedder,
        setting: &Setting,
        loss: &MixedBarlowTwins,
    ) -> Result<Vec<(&'static str, f64)>> {
        let [bank, test] = [&self.bank, &self.test].map(|p| (features(&*twin.encoder, &p.x), &p.y));
        let (labelled, queries) = ((&bank.0, bank.1), (&test.0, test.1));
        let mut found = vec![
            (KNN, knn(labelled, queries, self.classes, setting.k)?),
            (PROBE, ridge(labelled, queries, self.classes)?),
        ];
        // As many images of either kind: the loss depends on their number.
        let n = self.train.len().min(self.test.len()).min(512);
        for (name, part) in [(OWN_LOSS, &self.train), (HELD_LOSS, &self.test)] {
            let [za, zb, zm] = self.pairs(twin, &part.x.narrow(0, 0, n))?;
            let out = loss.forward(&za, &zb, &zm, &mixing(n)?)?;
            found.push((name, out.twins.total.double_value(&[])));
            if name == HELD_LOSS {
                found.push((HELD_REGULARISER, (out.reg_a + out.reg_b).double_value(&[])));
            }
        }
        Ok(found)
    }

    /// Embeddings of two views and of their mixtures, the same views each time.
    fn pairs(&self, twin: &Embedder, x: &Tensor) -> Result<[Tensor; 3]> {
        let mut rng = seed::rng(0, &["mixed-barlow-twins", "evaluated pairs"]);
        let (a, b) = (self.augment.apply(x, &mut rng)?, self.augment.apply(x, &mut rng)?);
        let m = mixing(x.size()[0])?.apply(&a, &b)?;
        Ok(tch::no_grad(|| [a, b, m].map(|x| twin.embed(&x, false))))
    }

    /// Corners of `C` and of `C^MA - G^MA` on test images.
    fn matrices(&self, twin: &Embedder, loss: &MixedBarlowTwins) -> Result<[Vec<f64>; 2]> {
        let n = self.test.len().min(512);
        let [za, zb, zm] = self.pairs(twin, &self.test.x.narrow(0, 0, n))?;
        let [target, _] = loss.targets(&za, &zb, &mixing(n)?)?;
        let c = |left: &Tensor, right: &Tensor| cross_correlation(left, right, loss.standardise);
        Ok([corner(&c(&za, &zb)?)?, corner(&(c(&zm, &za)? - target))?])
    }
}

/// How evaluated images are mixed.
fn mixing(n: i64) -> Result<Mix> {
    Ok(Mix::draw(n as usize, 1.0, &mut seed::rng(0, &["mixed-barlow-twins", "evaluated mixtures"]))?)
}

/// Trains and evaluates along the way; logs everything.
pub(super) fn cell(
    method: Method,
    stretch: f64,
    setting: &Setting,
    data: &Data,
    context: &mut Context<'_>,
) -> Result<()> {
    let vs = VarStore::new(data.train.x.device());
    tch::manual_seed(context.seed("init") as i64);
    let Setting { encoder, side, hidden, embedding, .. } = *setting;
    let twin = Embedder::new(&vs.root(), encoder, data.channels, side, hidden, embedding)?;
    let (lambda_bt, lambda_reg) = (setting.lambda_bt, setting.lambda_reg);
    let mixed = MixedBarlowTwins { lambda_bt, lambda_reg, ..Default::default() };
    let twins = BarlowTwinsLoss { lambda: lambda_bt, ..Default::default() };
    for (metric, value) in data.evaluate(&twin, setting, &mixed)? {
        context.metric(0, metric, value);
    }

    let run = context.seed("order");
    let order = Order::new(data.train.len() as usize, setting.batch, run)?;
    let per_epoch = order.batches_per_epoch();
    let steps = (setting.epochs as f64 * stretch).round() as usize * per_epoch;
    let shape = if setting.cosine { Shape::cosine_to(0.0) } else { Shape::Constant };
    // Checkpoints fall on evaluations, so that a resumed run has all losses of the mean that it logs next.
    let checkpoint = Some(context.checkpoint_every(setting.every * per_epoch));
    let config = TrainConfig { checkpoint, ..TrainConfig::new(Schedule::new(setting.lr, steps, shape), run) };
    let optimizer = Optimizer::new(Rule::Adam(Adam::default()), vec![Group::all(&vs, setting.weight_decay)])?;
    let losses = RefCell::new(vec![]);
    let history = Trainer::new(config, &vs, optimizer)?.run(
        |step| {
            let index = Tensor::from_slice(&order.batch(step.index)).to_device(data.train.x.device());
            let x = data.train.x.index_select(0, &index);
            let view = |name: &str| data.augment.apply(&x, &mut step.rng(name));
            let (a, b) = (view("view a")?, view("view b")?);
            let (za, zb) = (twin.embed(&a, true), twin.embed(&b, true));
            let mixture = || -> autodidact_core::Result<(Tensor, Mix)> {
                let mix = Mix::draw(setting.batch, 1.0, &mut step.rng("mix"))?;
                let zm = twin.embed(&mix.apply(&a, &b)?, true);
                Ok((zm, mix))
            };
            let (total, of_views) = match method {
                Method::Twins => {
                    let total = twins.forward(&za, &zb)?.total;
                    (total.shallow_clone(), total)
                }
                Method::Mixed => {
                    let (zm, mix) = mixture()?;
                    let out = mixed.forward(&za, &zb, &zm, &mix)?;
                    (out.total, out.twins.total)
                }
                Method::MixedInputs => {
                    let of_views = twins.forward(&za, &zb)?.total;
                    let third = twins.forward(&mixture()?.0, &za)?.total;
                    ((&of_views + third) / 2.0, of_views)
                }
            };
            losses.borrow_mut().push(of_views.detach());
            Ok(total)
        },
        |mut p| {
            context.progress(p.done, p.total, p.loss);
            let regular = setting.every * per_epoch;
            if p.done.is_multiple_of(regular) || p.done == regular / 2 || p.done == p.total {
                let mean = Tensor::stack(&losses.take(), 0).mean(Kind::Double).double_value(&[]);
                p.log(TRAINING_LOSS, mean)?;
                let found = data.evaluate(&twin, setting, &mixed);
                for (metric, value) in found.map_err(|e| Error::Failed(format!("{e:#}")))? {
                    p.log(metric, value)?;
                }
            }
            Ok(())
        },
    )?;
    context.log(&history);
    if context.plan.seeds.first() == Some(&context.cell_seed()) {
        let [c, miss] = data.matrices(&twin, &mixed)?;
        context.array("C", c);
        context.array("C^MA - G^MA", miss);
    }
    Ok(())
}
