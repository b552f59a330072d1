//! iSogCLR: do temperatures of their own help, and do they follow how frequent a semantic is?
//!
//! Long-tailed data: class counts fall geometrically, in the order of the classes for even seeds and in reversed order for odd
//! ones, so that frequency is told apart from what a class is. SimCLR and SogCLR at fixed temperatures and iSogCLR start from
//! the same weights and see the same batches.

mod judge;

use crate::experiment::{Cell, Claim, Experiment, Plan, Scale, check_list};
use crate::plot::Plot;
use crate::pretrain::{Networks, Pretraining};
use crate::results::Results;
use crate::runner::Context;
use crate::verdict::Finding;
use crate::vision::{Encoder, Part, augmentation, check_side, features, knn, ridge};
use anyhow::{Result, bail, ensure};
use autodidact_core::error::check_range;
use autodidact_core::metrics::RidgeProbe;
use autodidact_core::seed;
use autodidact_datasets::image::{ImageSet, digits};
use autodidact_datasets::load_images;
use autodidact_ssl::contrastive::nt_xent;
use autodidact_ssl::isogclr::{Isogclr as Loss, TemperatureState};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::{Kind, Tensor};

/// The experiment.
pub struct Isogclr;

/// One data set.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Setting {
    /// Images of the most frequent class.
    most: usize,
    /// Images of the rarest class, as a share of those of the most frequent.
    ratio: f64,
    /// Test images, balanced.
    test: usize,
    /// Images are average-pooled to this side.
    side: i64,
    pretraining: Pretraining,
    /// Neighbours.
    k: i64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Config {
    digits: Setting,
    color: Setting,
    /// Temperature at which the methods are compared.
    tau: f64,
    /// Temperatures of the sensitivity study: SimCLR's, and the first ones of iSogCLR.
    taus: Vec<f64>,
    /// Whether balanced sets of the same size are run too.
    balanced: bool,
    rho: f64,
    eta: f64,
    beta: f64,
    gamma: f64,
    tau_min: f64,
    tau_max: f64,
    /// Labels of each class for the few-shot probe, from images that pre-training does not see.
    shots: usize,
}

impl Config {
    fn of(&self, dataset: &str) -> &Setting {
        if dataset == "digits" { &self.digits } else { &self.color }
    }

    fn loss(&self, tau_init: f64) -> Loss {
        let Self { rho, eta, beta, gamma, tau_min, tau_max, .. } = *self;
        Loss { rho, eta, beta, gamma, tau_min, tau_max, tau_init, ..Loss::default() }
    }

    fn check(&self) -> Result<()> {
        for (name, setting, image) in [("digits", &self.digits, 8), ("color", &self.color, 32)] {
            let key = |field: &str| format!("{name}.{field}");
            check_side(&key("side"), setting.side, image)?;
            check_range(&key("ratio"), setting.ratio, f64::MIN_POSITIVE..=1.0)?;
            check_range(&key("most"), setting.most as f64, 1.0..)?;
            check_range(&key("test"), setting.test as f64, 10.0..)?;
            check_range(&key("k"), setting.k as f64, 1.0..)?;
            let counts = setting.counts(10, 0);
            ensure!(counts[9] > 0, "{}: the rarest class would have no image; raise {0} or most", key("ratio"));
            setting.pretraining.check(&key("pretraining"), counts.iter().sum())?;
        }
        check_list("taus", &self.taus, self.tau_min..=self.tau_max)?;
        ensure!(self.taus.contains(&self.tau), "taus: expected a list with tau = {}, got {:?}", self.tau, self.taus);
        ensure!(self.taus.len() > 1, "taus: expected two or more values, got {:?}", self.taus);
        check_range("shots", self.shots as f64, 1.0..)?;
        check_range("tau_min", self.tau_min, f64::MIN_POSITIVE..)?;
        check_range("tau_max", self.tau_max, self.tau_min..)?;
        check_range("rho", self.rho, 0.0..)?;
        check_range("eta", self.eta, 0.0..)?;
        check_range("beta", self.beta, f64::MIN_POSITIVE..=1.0)?;
        Ok(check_range("gamma", self.gamma, f64::MIN_POSITIVE..=1.0)?)
    }
}

impl Setting {
    /// Images of each class: `most * ratio^(position/(classes-1))`, positions reversed for odd seeds.
    fn counts(&self, classes: usize, seed: u64) -> Vec<usize> {
        let at = |position: usize| {
            (self.most as f64 * self.ratio.powf(position as f64 / (classes.max(2) - 1) as f64) + 1e-9) as usize
        };
        (0..classes).map(|c| at(if seed.is_multiple_of(2) { c } else { classes - 1 - c })).collect()
    }
}

/// How the encoder is trained.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Method {
    Simclr,
    Sogclr,
    Isogclr,
}

/// Name of an arm; on balanced data it has a prefix.
fn arm(method: &str, tau: f64) -> String {
    format!("{method}/tau={tau}")
}

const BALANCED: &str = "balanced-";

fn parse(arm: &str) -> Result<(Method, f64, bool)> {
    let (balanced, rest) = arm.strip_prefix(BALANCED).map_or((false, arm), |rest| (true, rest));
    let Some((method, tau)) = rest.split_once("/tau=") else { bail!("unknown arm {arm}") };
    let method = match method {
        "simclr" => Method::Simclr,
        "sogclr" => Method::Sogclr,
        "isogclr" => Method::Isogclr,
        _ => bail!("unknown arm {arm}"),
    };
    Ok((method, tau.parse()?, balanced))
}

const FEW: &str = "few-shot probe accuracy";
const PROBE: &str = "linear probe accuracy";
const KNN: &str = "k-NN accuracy";
const TAIL: &str = "recall of the three rarest classes";

fn tau_of(class: usize) -> String {
    format!("mean temperature of class {class}")
}

impl Experiment for Isogclr {
    fn slug(&self) -> &'static str {
        "isogclr"
    }

    fn version(&self) -> u32 {
        2
    }

    fn claims(&self) -> Vec<Claim> {
        vec![
            Claim::new(
                "C1",
                "On balanced data it beats fixed temperatures",
                "linear top-1, CIFAR-10: SimCLR 88.7, SogCLR 88.9, iSogCLR 89.2 (from memory)",
                "Scale full, balanced data: as C2. At scale small not judged: the expected gain is far below its noise.",
            ),
            Claim::new(
                "C2",
                "On long-tailed data the gain is larger",
                "linear top-1, CIFAR-10-LT: SimCLR 77.1, SogCLR 77.7, iSogCLR 78.4 (from memory)",
                "Accuracy on the balanced test set (digits: few-shot probe; colour: linear probe on the long-tailed labels), iSogCLR minus the better (by mean) of SimCLR and SogCLR, all at the same (first) temperature, paired by seed: the 95 % interval is above 0. Partly if the mean is.",
            ),
            Claim::new(
                "C3",
                "Temperatures reflect frequency: samples of frequent semantics get larger ones",
                "examples and histograms",
                "Spearman's correlation of class count and mean temperature of the class, by seed: mean above 0.5 with its 95 % interval above 0; and the mean temperature of a class where it is frequent exceeds that where it is rare (the two orders of classes), averaged over classes. Partly if the mean correlation is above 0.2.",
            ),
            Claim::new(
                "C4",
                "For images and texts it beats CLIP, CyCLIP, VICReg and SogCLR",
                "zero-shot retrieval and classification after CC3M",
                "Not judged: needs millions of captioned images.",
            ),
            Claim::new(
                "C5",
                "It depends less on its first temperature than SimCLR on its temperature",
                "sensitivity plots",
                "Accuracy (as in C2) over the grid of temperatures: largest minus smallest is smaller for iSogCLR than for SimCLR in at least two thirds of the seeds.",
            ),
        ]
    }

    fn datasets(&self) -> &'static [&'static str] {
        &["digits", "shapes", "cifar10"]
    }

    fn seeds(&self, scale: Scale) -> usize {
        // Both orders of the classes equally often.
        if scale == Scale::Smoke { 2 } else { 4 }
    }

    fn config(&self, scale: Scale) -> Value {
        let mut config = Config {
            digits: Setting {
                most: 120,
                ratio: 0.05,
                test: 500,
                side: 8,
                pretraining: Pretraining::digits(600),
                k: 20,
            },
            color: Setting {
                most: 1000,
                ratio: 0.01,
                test: 2000,
                side: 16,
                pretraining: Pretraining::color(96, 400),
                k: 20,
            },
            tau: 0.2,
            taus: vec![0.05, 0.1, 0.2, 0.5],
            balanced: false,
            rho: 0.4,
            eta: 0.03,
            beta: 0.5,
            gamma: 0.8,
            tau_min: 0.05,
            tau_max: 1.0,
            shots: 5,
        };
        match scale {
            Scale::Smoke => {
                for s in [&mut config.digits, &mut config.color] {
                    (s.most, s.ratio, s.test) = (40, 0.2, 100);
                    (s.pretraining.training.steps, s.pretraining.training.batch) = (20, 32);
                }
                config.taus = vec![0.1, 0.2];
            }
            Scale::Small => {}
            Scale::Full => {
                config.balanced = true;
                let s = &mut config.color;
                (s.most, s.test, s.side) = (5000, 10_000, 32);
                let p = &mut s.pretraining;
                (p.encoder, p.hidden, p.embedding, p.training.batch) = (Encoder::Resnet18, 2048, 512, 128);
                // 400 epochs of the long-tailed set.
                p.training.steps = 38_400;
            }
        }
        json!(config)
    }

    fn cells(&self, plan: &Plan) -> Result<Vec<Cell>> {
        let config: Config = plan.config()?;
        config.check()?;
        let mut arms: Vec<String> = config.taus.iter().map(|t| arm("simclr", *t)).collect();
        arms.push(arm("sogclr", config.tau));
        arms.extend(config.taus.iter().map(|t| arm("isogclr", *t)));
        if config.balanced {
            arms.extend(["simclr", "sogclr", "isogclr"].map(|m| format!("{BALANCED}{}", arm(m, config.tau))));
        }
        Ok(plan.cross(&arms))
    }

    fn run(&self, cell: &Cell, context: &mut Context<'_>) -> Result<()> {
        let config: Config = context.plan.config()?;
        let setting = config.of(&context.plan.dataset);
        let (method, tau, balanced) = parse(&cell.arm)?;
        let data = Data::load(context.plan, setting, balanced, cell.seed)?;
        let augment = augmentation(&context.plan.dataset, setting.side);
        let spec = &setting.pretraining;
        let channels = data.train.x.size()[1];
        let networks = Networks::new(spec, channels, setting.side, context.plan.device, context.seed("init"))?;
        let loss = if method == Method::Isogclr {
            config.loss(tau)
        } else {
            Loss { gamma: config.gamma, ..Loss::sogclr(tau) }
        };
        let mut state = TemperatureState::new(networks.variables(), data.train.len(), &loss)?;
        let temperatures = state.tau.shallow_clone();
        // Read back only when it is logged.
        let kl: std::cell::Cell<Option<Tensor>> = std::cell::Cell::default();
        let watch = (spec.training.steps / 20).max(1);
        let (head, tail) = data.extremes();
        let checkpoint = context.checkpoint_every(500);
        let history = networks.pretrain(
            &spec.training,
            &data.train.x,
            &augment,
            context.seed("train"),
            checkpoint,
            |za, zb, batch| match method {
                Method::Simclr => nt_xent(za, zb, tau),
                Method::Sogclr | Method::Isogclr => {
                    let out = loss.forward(za, zb, batch.index, &mut state)?;
                    kl.set(Some(out.mean_kl));
                    Ok(out.surrogate)
                }
            },
            |_, p| {
                context.progress(p.done, p.total, p.loss);
                if method == Method::Isogclr && p.done.is_multiple_of(watch) {
                    for (name, index) in [("head", &head), ("tail", &tail)] {
                        let mean = temperatures.index_select(0, index).mean(Kind::Double).double_value(&[]);
                        p.log(&format!("mean temperature of the {name} class"), mean)?;
                    }
                    if let Some(kl) = kl.take() {
                        p.log("mean KL to uniform", kl.double_value(&[]))?;
                    }
                }
                Ok(())
            },
        )?;
        context.log(&history);
        data.measure(&networks, setting, &config, context)?;
        if method == Method::Isogclr {
            for class in 0..data.counts.len() {
                let of_class = data.train.y.eq(class as i64).nonzero().view(-1);
                let mean = temperatures.index_select(0, &of_class).mean(Kind::Double).double_value(&[]);
                context.metric(spec.training.steps, &tau_of(class), mean);
            }
            context.array("temperatures", temperatures.to_kind(Kind::Double).try_into()?);
        }
        Ok(())
    }

    fn judge(&self, results: &Results) -> Result<Vec<Finding>> {
        judge::findings(results)
    }

    fn plots(&self, results: &Results) -> Result<Vec<Plot>> {
        judge::plots(results)
    }

    fn note(&self, _plan: &Plan) -> String {
        "Small convolutional encoders on images pooled to 16x16 (colour) and a few hundred steps of Adam instead of ResNet-18, LARS and 400 epochs; the projector is two layers with batch norm. Linear probes are ridge regressions in closed form. Even seeds have the classes in order of frequency, odd seeds in reversed order. The paper's table values are quoted from memory.".into()
    }
}

/// Long-tailed (or balanced) training images, a balanced pool of labels, and test images.
struct Data {
    train: Part,
    pool: Part,
    test: Part,
    counts: Vec<usize>,
}

impl Data {
    fn load(plan: &Plan, setting: &Setting, balanced: bool, seed: u64) -> Result<Self> {
        let split = seed::derive(0, &["isogclr", "split"]);
        let (all, test) = if plan.dataset == "digits" {
            digits().split(1297, split)?
        } else {
            load_images(&plan.dataset, plan.data_dir.as_deref(), plan.download)?
        };
        let classes = all.classes.len();
        let mut counts = setting.counts(classes, seed);
        if balanced {
            counts = vec![counts.iter().sum::<usize>() / classes; classes];
        }
        let (train, rest) = all.with_class_counts(&counts, split)?;
        let part = |set: &ImageSet| Part::new(set, setting.side, plan.device);
        let pool = rest.subset(1000.min(rest.len()), split)?;
        let test = test.subset(setting.test.min(test.len()), split)?;
        Ok(Self { train: part(&train), pool: part(&pool), test: part(&test), counts })
    }

    /// Indices of the training images of the most frequent and of the rarest class.
    fn extremes(&self) -> (Tensor, Tensor) {
        let class = |best: usize| self.train.y.eq(best as i64).nonzero().view(-1);
        let by_count = |i: &usize| self.counts[*i];
        let head = (0..self.counts.len()).max_by_key(by_count).unwrap_or(0);
        let tail = (0..self.counts.len()).min_by_key(by_count).unwrap_or(0);
        (class(head), class(tail))
    }

    fn measure(
        &self,
        networks: &Networks,
        setting: &Setting,
        config: &Config,
        context: &mut Context<'_>,
    ) -> Result<()> {
        let steps = setting.pretraining.training.steps;
        let classes = self.counts.len() as i64;
        let [train, pool, test] =
            [&self.train, &self.pool, &self.test].map(|p| features(&*networks.twin.encoder, &p.x));
        let (bank, queries) = ((&train, &self.train.y), (&test, &self.test.y));
        context.metric(steps, PROBE, ridge(bank, queries, classes)?);
        context.metric(steps, KNN, knn(bank, queries, classes, setting.k)?);
        let few = self.pool.of_each_class(classes, config.shots)?;
        let (x, y) = (pool.index_select(0, &few), self.pool.y.index_select(0, &few));
        context.metric(steps, FEW, ridge((&x, &y), queries, classes)?);
        let predicted = RidgeProbe::default().scores(&train, &self.train.y, classes, &test)?.argmax(1, false);
        let mut rarest: Vec<usize> = (0..self.counts.len()).collect();
        rarest.sort_by_key(|c| self.counts[*c]);
        let recalls = rarest.iter().take(3).map(|c| {
            let own = self.test.y.eq(*c as i64).nonzero().view(-1);
            let hits = predicted.index_select(0, &own).eq(*c as i64).to_kind(Kind::Double);
            100.0 * hits.mean(Kind::Double).double_value(&[])
        });
        context.metric(steps, TAIL, recalls.sum::<f64>() / 3.0);
        Ok(())
    }
}
