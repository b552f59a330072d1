//! RankMe: does the rank of the embeddings, without labels, tell how good a representation is?
//!
//! Sweeps over one hyper-parameter of VICReg or SimCLR; every run of a seed starts from the same weights and sees the same
//! batches. For each run: RankMe of the embeddings of all training images, of the representations, alpha-ReQ, a linear probe
//! (ridge) on the source data and one on data that pre-training has not seen.

mod judge;

use crate::experiment::{Cell, Claim, Experiment, Plan, Scale, check_list};
use crate::plot::Plot;
use crate::pretrain::{Networks, Pretraining};
use crate::results::Results;
use crate::runner::Context;
use crate::verdict::Finding;
use crate::vision::{Encoder, Images, Part, augmentation, check_side, features, ridge};
use anyhow::{Result, bail, ensure};
use autodidact_core::error::check_range;
use autodidact_datasets::image::shapes;
use autodidact_ssl::contrastive::nt_xent;
use autodidact_ssl::rankme::{EPS, alpha_req, classical_rank, rankme, rankme_from_singular_values, singular_values};
use autodidact_ssl::vicreg::Vicreg;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The experiment.
pub struct RankMe;

/// Hyper-parameters of one data set.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Setting {
    /// Images to pre-train on; all of them are labelled for the probe.
    train: usize,
    /// Test images.
    test: usize,
    /// Images are average-pooled to this side.
    side: i64,
    pretraining: Pretraining,
    /// Rows of the subset that C4 compares with all.
    subset: usize,
    /// Weights of VICReg's covariance term.
    nu: Vec<f64>,
    /// Weights of VICReg's invariance term.
    lambda: Vec<f64>,
    /// Learning rates of VICReg.
    lr: Vec<f64>,
    /// Temperatures of SimCLR.
    tau: Vec<f64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Config {
    digits: Setting,
    color: Setting,
    /// Labels of each class for the few-shot probe.
    shots: usize,
    /// Runs whose RankMe is within this share of the highest count as equal.
    tolerance: f64,
    /// Training is watched at this many moments.
    watched: usize,
}

impl Config {
    fn of(&self, dataset: &str) -> &Setting {
        if dataset == "digits" { &self.digits } else { &self.color }
    }
}

/// A run: VICReg or SimCLR with its hyper-parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Method {
    Vicreg { nu: f64, lambda: f64, lr: f64 },
    Simclr { tau: f64 },
}

/// A sweep: its name and, by ascending value, the arms.
struct Sweep {
    name: &'static str,
    method: &'static str,
    arms: Vec<(f64, String)>,
}

impl Setting {
    /// The sweeps; a run that is VICReg's default belongs to all of VICReg's.
    fn sweeps(&self) -> Vec<Sweep> {
        let default = Vicreg::default();
        let sweep = |name: &'static str, method: &'static str, values: &[f64], base: f64| {
            let arm = |v: &f64| if *v == base { "vicreg/default".to_owned() } else { format!("{method}/{name}={v}") };
            Sweep { name, method, arms: values.iter().map(|v| (*v, arm(v))).collect() }
        };
        let sweeps = [
            sweep("nu", "vicreg", &self.nu, default.covariance),
            sweep("lambda", "vicreg", &self.lambda, default.invariance),
            sweep("lr", "vicreg", &self.lr, self.pretraining.training.lr),
            sweep("tau", "simclr", &self.tau, f64::NAN),
        ];
        sweeps.into_iter().filter(|s| !s.arms.is_empty()).collect()
    }

    fn method(&self, arm: &str) -> Result<Method> {
        let Vicreg { covariance: nu, invariance: lambda, .. } = Vicreg::default();
        let lr = self.pretraining.training.lr;
        let value = arm.split_once('=').map(|(_, v)| v.parse::<f64>()).transpose()?;
        Ok(match (arm.split('=').next(), value) {
            (Some("vicreg/default"), None) => Method::Vicreg { nu, lambda, lr },
            (Some("vicreg/nu"), Some(nu)) => Method::Vicreg { nu, lambda, lr },
            (Some("vicreg/lambda"), Some(lambda)) => Method::Vicreg { nu, lambda, lr },
            (Some("vicreg/lr"), Some(lr)) => Method::Vicreg { nu, lambda, lr },
            (Some("simclr/tau"), Some(tau)) => Method::Simclr { tau },
            _ => bail!("unknown arm {arm}"),
        })
    }

    fn check(&self, name: &str, image: i64) -> Result<()> {
        check_side(&format!("{name}.side"), self.side, image)?;
        check_range(&format!("{name}.train"), self.train as f64, 2.0..)?;
        check_range(&format!("{name}.test"), self.test as f64, 1.0..)?;
        check_range(&format!("{name}.subset"), self.subset as f64, 1.0..=self.train as f64)?;
        self.pretraining.check(&format!("{name}.pretraining"), self.train)?;
        for (list, values, low, needed) in [
            ("nu", &self.nu, 0.0, true),
            ("lambda", &self.lambda, f64::MIN_POSITIVE, false),
            ("lr", &self.lr, f64::MIN_POSITIVE, false),
            ("tau", &self.tau, f64::MIN_POSITIVE, true),
        ] {
            let key = format!("{name}.{list}");
            if needed || !values.is_empty() {
                check_list(&key, values, low..)?;
                ensure!(values.len() > 1, "{key}: expected two or more values, got {values:?}");
                ensure!(values.is_sorted_by(|a, b| a < b), "{key}: expected ascending values, got {values:?}");
            }
        }
        Ok(())
    }
}

/// Metrics of a run.
const RANK: &str = "RankMe";
const RANK_R: &str = "RankMe of representations";
const RANK_SUBSET: &str = "RankMe of a subset";
const CLASSICAL: &str = "rank above 1e-2";
const ALPHA: &str = "alpha-ReQ";
const PROBE: &str = "linear probe accuracy";
const FEW: &str = "few-shot probe accuracy";
const OUTSIDE: &str = "out-of-domain probe accuracy";

impl Experiment for RankMe {
    fn slug(&self) -> &'static str {
        "rankme"
    }

    fn version(&self) -> u32 {
        1
    }

    fn claims(&self) -> Vec<Claim> {
        vec![
            Claim::new(
                "C1",
                "Within a method, RankMe correlates with linear-probe accuracy; a low rank means a low accuracy",
                "scatter plots of VICReg, SimCLR and DINO runs on ImageNet",
                "Spearman's correlation of RankMe and probe accuracy (full probe; on digits, where that saturates, the few-shot one) per sweep, mean over seeds: at least 0.6 in every VICReg sweep and at least 0.3 on average over all sweeps; and in every VICReg sweep the run of lowest mean rank is among the two of lowest mean accuracy. Partly if only VICReg's sweep of nu passes.",
            ),
            Claim::new(
                "C2",
                "The same holds on data that pre-training has not seen",
                "scatter plots for eleven other data sets",
                "As C1 with the out-of-domain probe: at least 0.5 in VICReg's sweep of nu and at least 0.3 on average over all sweeps. Partly if one of the two holds.",
            ),
            Claim::new(
                "C3",
                "Choosing hyper-parameters by RankMe loses little against labels",
                "below half a point on average on ImageNet; better than alpha-ReQ",
                "Probe accuracy (as in C1) of the oracle's choice minus that of RankMe's, mean over sweeps and seeds: at most 1.0 point (scale full: 0.5), and no larger than with alpha-ReQ and with the median of the sweep. Partly if it is smaller than with the median only.",
            ),
            Claim::new(
                "C4",
                "A sample suffices, and RankMe agrees with the rank at a threshold",
                "25,600 images for embeddings of 2,048",
                "In every run RankMe of a subset (ten rows per unit, at least 1,000) is within 5 % of that of all images; and Spearman's correlation of RankMe and the number of singular values above 1e-2 of the largest, over all runs, is above 0.9. Partly if one of the two holds.",
            ),
            Claim::new(
                "C5",
                "The rank of embeddings predicts the rank of representations",
                "plot",
                "Spearman's correlation of RankMe of embeddings and of representations, pooled over runs and seeds, is above 0.6 for VICReg and for SimCLR. Partly if for one of them.",
            ),
        ]
    }

    fn datasets(&self) -> &'static [&'static str] {
        &["digits", "shapes", "cifar10"]
    }

    fn config(&self, scale: Scale) -> Value {
        let mut config = Config {
            digits: Setting {
                train: 1000,
                test: 797,
                side: 8,
                pretraining: Pretraining::digits(250),
                subset: 1000,
                nu: vec![0.0, 0.01, 0.1, 1.0, 10.0],
                lambda: vec![1.0, 5.0, 25.0, 100.0, 400.0],
                lr: vec![],
                tau: vec![0.02, 0.07, 0.2, 0.5, 1.5],
            },
            color: Setting {
                train: 6000,
                test: 2000,
                side: 16,
                pretraining: Pretraining::color(128, 200),
                subset: 2560,
                nu: vec![0.0, 0.01, 0.1, 1.0, 10.0],
                lambda: vec![],
                lr: vec![1e-4, 3e-4, 1e-3, 3e-3],
                tau: vec![0.05, 0.1, 0.2, 0.5, 1.0],
            },
            shots: 5,
            tolerance: 0.02,
            watched: 5,
        };
        match scale {
            Scale::Smoke => {
                for s in [&mut config.digits, &mut config.color] {
                    (s.train, s.test, s.subset) = (200, 100, 100);
                    (s.pretraining.training.steps, s.pretraining.training.batch) = (20, 40);
                    (s.nu, s.lambda, s.lr, s.tau) = (vec![0.0, 1.0], vec![], vec![], vec![0.1, 0.5]);
                }
            }
            Scale::Small => {}
            Scale::Full => {
                let s = &mut config.color;
                (s.train, s.test, s.side, s.subset) = (50_000, 10_000, 32, 10_240);
                let p = &mut s.pretraining;
                (p.encoder, p.hidden, p.embedding, p.training.batch) = (Encoder::Resnet18, 1024, 1024, 256);
                // 100 epochs.
                p.training.steps = 19_500;
                s.nu = vec![0.0, 0.01, 0.1, 0.3, 1.0, 3.0, 10.0];
                s.lambda = vec![1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 400.0];
                s.lr = vec![1e-4, 3e-4, 5e-4, 1e-3, 2e-3, 3e-3, 1e-2];
                s.tau = vec![0.05, 0.07, 0.1, 0.2, 0.3, 0.5, 1.0];
            }
        }
        json!(config)
    }

    fn cells(&self, plan: &Plan) -> Result<Vec<Cell>> {
        let config: Config = plan.config()?;
        config.digits.check("digits", 8)?;
        config.color.check("color", 32)?;
        check_range("shots", config.shots as f64, 1.0..)?;
        check_range("tolerance", config.tolerance, 0.0..1.0)?;
        check_range("watched", config.watched as f64, 1.0..)?;
        let mut arms: Vec<String> = vec![];
        for (_, arm) in config.of(&plan.dataset).sweeps().into_iter().flat_map(|s| s.arms) {
            if !arms.contains(&arm) {
                arms.push(arm);
            }
        }
        Ok(plan.cross(&arms))
    }

    fn run(&self, cell: &Cell, context: &mut Context<'_>) -> Result<()> {
        let config: Config = context.plan.config()?;
        let setting = config.of(&context.plan.dataset);
        let method = setting.method(&cell.arm)?;
        let mut spec = setting.pretraining.clone();
        if let Method::Vicreg { lr, .. } = method {
            spec.training.lr = lr;
        }
        let images =
            Images::load(context.plan, &context.plan.dataset, "rankme", setting.train, setting.test, setting.side)?;
        let augment = augmentation(&context.plan.dataset, setting.side);
        let (channels, device) = (images.channels, context.plan.device);
        let networks = Networks::new(&spec, channels, setting.side, device, context.seed("init"))?;
        let watch = (spec.training.steps / config.watched).max(1);
        let checkpoint = context.checkpoint_every(500);
        let x = &images.train.x;
        let watched = x.narrow(0, 0, (setting.subset as i64).min(images.train.len()));
        let history = networks.pretrain(
            &spec.training,
            x,
            &augment,
            context.seed("train"),
            checkpoint,
            |za, zb, _| match method {
                Method::Vicreg { nu, lambda, .. } => {
                    Ok(Vicreg { covariance: nu, invariance: lambda, ..Default::default() }.forward(za, zb)?.total)
                }
                Method::Simclr { tau } => nt_xent(za, zb, tau),
            },
            |networks, p| {
                context.progress(p.done, p.total, p.loss);
                if p.done.is_multiple_of(watch) {
                    p.log(
                        "RankMe in training",
                        rankme(&networks.twin.project(&features(&*networks.twin.encoder, &watched)), EPS)?,
                    )?;
                }
                Ok(())
            },
        )?;
        context.log(&history);
        measure(&networks, &images, setting, &config, context)
    }

    fn judge(&self, results: &Results) -> Result<Vec<Finding>> {
        judge::findings(results)
    }

    fn plots(&self, results: &Results) -> Result<Vec<Plot>> {
        judge::plots(results)
    }

    fn note(&self, plan: &Plan) -> String {
        let outside = match plan.dataset.as_str() {
            "digits" => "grey 8x8 shapes",
            _ => "digits, enlarged and in three equal channels",
        };
        let rates = if self.sweeps_rates(plan) {
            " In a few hundred steps a small learning rate leaves a network near its random start, whose embeddings have a high rank: that sweep speaks against RankMe at this scale, not at the paper's hundred epochs."
        } else {
            ""
        };
        format!(
            "Small convolutional encoders and a few hundred steps of Adam instead of ResNet-50 on ImageNet; images are pooled to 16x16 (colour). The linear probe is ridge regression in closed form. Out of domain: {outside}. DINO is left out. The oracle's accuracy is the best on the same test images, which favours it over every rule.{rates}"
        )
    }
}

impl RankMe {
    fn sweeps_rates(&self, plan: &Plan) -> bool {
        let config = plan.config::<Config>();
        plan.scale == Scale::Small && config.is_ok_and(|c| !c.of(&plan.dataset).lr.is_empty())
    }
}

/// Logs everything about a trained network.
fn measure(
    networks: &Networks,
    images: &Images,
    setting: &Setting,
    config: &Config,
    context: &mut Context<'_>,
) -> Result<()> {
    let steps = setting.pretraining.training.steps;
    let [train, test] = [&images.train, &images.test].map(|p| features(&*networks.twin.encoder, &p.x));
    let z = networks.twin.project(&train);
    let singular = singular_values(&z)?;
    context.metric(steps, RANK, rankme_from_singular_values(&singular, EPS)?);
    context.metric(steps, CLASSICAL, classical_rank(&singular, 1e-2)? as f64);
    let subset = (setting.subset as i64).min(z.size()[0]);
    context.metric(steps, RANK_SUBSET, rankme(&z.narrow(0, 0, subset), EPS)?);
    context.metric(steps, RANK_R, rankme(&train, EPS)?);
    context.metric(steps, ALPHA, alpha_req(&train, 10..100)?);
    let queries = (&test, &images.test.y);
    context.metric(steps, PROBE, ridge((&train, &images.train.y), queries, images.classes)?);
    let few = images.train.of_each_class(images.classes, config.shots)?;
    let (x, y) = (train.index_select(0, &few), images.train.y.index_select(0, &few));
    context.metric(steps, FEW, ridge((&x, &y), queries, images.classes)?);
    let other = other_domain(context.plan, images.channels, setting)?;
    let [bank, outside] = [&other.train, &other.test].map(|p| features(&*networks.twin.encoder, &p.x));
    context.metric(steps, OUTSIDE, ridge((&bank, &other.train.y), (&outside, &other.test.y), other.classes)?);
    if context.plan.seeds.first() == Some(&context.cell_seed()) {
        context.array("singular values", singular);
    }
    Ok(())
}

/// Images of another kind in the shape that the encoder takes.
fn other_domain(plan: &Plan, channels: i64, setting: &Setting) -> Result<Images> {
    let Images { train, test, classes, .. } = if plan.dataset == "digits" {
        let part = |range| Part::new(&shapes(0, range), setting.side, plan.device);
        Images { train: part(0..1000), test: part(1000..1800), classes: 10, channels: 3 }
    } else {
        Images::load(plan, "digits", "rankme", 1000, 797, setting.side)?
    };
    let fit = |p: Part| {
        let x = p.x.upsample_bilinear2d([setting.side, setting.side], false, None, None);
        let x = if channels == 1 {
            x.mean_dim([1i64].as_slice(), true, x.kind())
        } else {
            x.expand([-1, channels, -1, -1], false)
        };
        Part { x: x.contiguous(), y: p.y }
    };
    Ok(Images { train: fit(train), test: fit(test), classes, channels })
}
