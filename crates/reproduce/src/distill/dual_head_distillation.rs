//! Dual-head distillation: does one linear classifier suffer from a loss on its logits beside the cross entropy, and does a head of its own
//! for that loss help?
//!
//! By default the task has a hundred classes and needs no download: two UCI digits side by side, under noise. One teacher serves all
//! students. Every method runs at each pair of weight and learning rate, and is judged at the pair that is best on validation images.
//! All arms of a seed start from the same weights and see the same batches.

mod judge;
mod train;

use crate::distill::classifier::{Network, Setting, Training};
use crate::experiment::{Cell, Claim, Experiment, Plan, Scale};
use crate::plot::Plot;
use crate::results::Results;
use crate::runner::Context;
use crate::verdict::Finding;
use anyhow::{Result, bail, ensure};
use autodidact_core::error::check_range;
use autodidact_distill::dual_head_distillation::AuxHeadConfig;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The experiment.
pub struct DualHeadDistillation;

/// Weight of the logit loss, and learning rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Choice {
    alpha: f64,
    lr: f64,
}

/// Runs in which students can grow beyond the teacher's logits: a teacher of low logits (label smoothing), no weight decay, many epochs.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Outgrown {
    /// Label smoothing of the teacher.
    smoothing: f64,
    epochs: usize,
    choice: Choice,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Config {
    digits: Setting,
    color: Setting,
    choices: Vec<Choice>,
    /// A pair at which some methods run too, and which is never chosen.
    steep: Option<Choice>,
    outgrown: Option<Outgrown>,
    /// Seeds of the runs at the steep pair and of those in which students outgrow the teacher.
    few: usize,
    /// Temperature of the sigmoids.
    tau: f64,
    /// Temperature of KD.
    kd_temperature: f64,
    auxiliary: AuxHeadConfig,
    /// Images to choose by.
    validation: usize,
    /// Training images on which gradients and features are looked at, and in batches of how many.
    watched: usize,
    watched_batch: usize,
}

/// The loss on logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LogitLoss {
    BinaryKl,
    BinaryKlNorm,
    Kd,
}

/// What is minimised, and by which heads.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Method {
    name: &'static str,
    cross_entropy: bool,
    logits: Option<LogitLoss>,
    /// The head of the logit loss; without one it is the classifier.
    head: Option<AuxHeadConfig>,
    align: bool,
}

/// A method with its numbers.
#[derive(Debug, Clone)]
struct Arm {
    method: Method,
    choice: Choice,
    outgrown: bool,
    /// Whether it is beside the comparison, and runs on a few seeds only.
    beside: bool,
}

const CE: &str = "ce";
const BINARY: &str = "binary-kl";
const CE_BINARY: &str = "ce+binary-kl";
const CE_NORM: &str = "ce+binary-kl-norm";
const KD: &str = "kd";
const LINEAR: &str = "dhkd-linear";
const MLP: &str = "dhkd-mlp";
const ALIGNED: &str = "dhkd-linear-aligned";
const PLAIN: &str = "dual-head-binary-kl";
/// Methods that are run where students outgrow the teacher.
const SINGLE: [&str; 3] = [CE, BINARY, CE_BINARY];
/// Methods that are run at the steep pair.
const STEEP: [&str; 2] = [CE_BINARY, LINEAR];

impl Config {
    fn of(&self, dataset: &str) -> &Setting {
        if dataset == "digits" { &self.digits } else { &self.color }
    }

    fn methods(&self) -> Vec<Method> {
        use LogitLoss::{BinaryKl, BinaryKlNorm, Kd};
        let one = |name, cross_entropy, logits| Method { name, cross_entropy, logits, head: None, align: false };
        let two = |name, loss, head| Method { head: Some(head), ..one(name, true, Some(loss)) };
        vec![
            one(CE, true, None),
            one(BINARY, false, Some(BinaryKl)),
            one(CE_BINARY, true, Some(BinaryKl)),
            one("binary-kl-norm", false, Some(BinaryKlNorm)),
            one(CE_NORM, true, Some(BinaryKlNorm)),
            one(KD, true, Some(Kd)),
            two(LINEAR, BinaryKlNorm, AuxHeadConfig::Linear),
            two(MLP, BinaryKlNorm, self.auxiliary),
            Method { align: true, ..two(ALIGNED, BinaryKlNorm, AuxHeadConfig::Linear) },
            two(PLAIN, BinaryKl, AuxHeadConfig::Linear),
        ]
    }

    /// Name of a method's arm; where the weight is not used, it is not named.
    fn name(method: &Method, choice: Choice) -> String {
        match method.logits {
            None | Some(LogitLoss::Kd) => format!("{}/lr={}", method.name, choice.lr),
            _ => format!("{}/alpha={},lr={}", method.name, choice.alpha, choice.lr),
        }
    }

    fn outgrown_name(method: &str) -> String {
        format!("outgrown/{method}")
    }

    /// Names of a method's arms from which one is chosen.
    fn candidates(&self, method: &str) -> Vec<String> {
        let mut names = vec![];
        for m in self.methods().iter().filter(|m| m.name == method) {
            for name in self.choices.iter().map(|c| Self::name(m, *c)) {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        names
    }

    /// All arms with their names, in the order in which they run.
    fn arms(&self) -> Vec<(String, Arm)> {
        let mut arms: Vec<(String, Arm)> = vec![];
        for method in self.methods() {
            let steep = self.steep.filter(|_| STEEP.contains(&method.name));
            for choice in self.choices.iter().copied().chain(steep) {
                let name = Self::name(&method, choice);
                if arms.iter().all(|(known, _)| *known != name) {
                    let beside = Some(choice) == steep && !self.choices.contains(&choice);
                    arms.push((name, Arm { method, choice, outgrown: false, beside }));
                }
            }
        }
        if let Some(outgrown) = &self.outgrown {
            for method in self.methods().into_iter().filter(|m| SINGLE.contains(&m.name)) {
                let arm = Arm { method, choice: outgrown.choice, outgrown: true, beside: true };
                arms.push((Self::outgrown_name(method.name), arm));
            }
        }
        arms
    }

    fn arm(&self, name: &str) -> Result<Arm> {
        match self.arms().into_iter().find(|(known, _)| known == name) {
            Some((_, arm)) => Ok(arm),
            None => bail!("unknown arm {name}"),
        }
    }

    fn check(&self) -> Result<()> {
        self.digits.check("digits")?;
        self.color.check("color")?;
        ensure!(!self.choices.is_empty(), "choices: expected at least one pair of alpha and lr, got none");
        let outgrown = self.outgrown.as_ref();
        for choice in self.choices.iter().chain(&self.steep).chain(outgrown.map(|o| &o.choice)) {
            check_range("alpha", choice.alpha, f64::MIN_POSITIVE..)?;
            check_range("lr", choice.lr, f64::MIN_POSITIVE..)?;
        }
        if let Some(outgrown) = outgrown {
            check_range("outgrown.smoothing", outgrown.smoothing, f64::MIN_POSITIVE..1.0)?;
            check_range("outgrown.epochs", outgrown.epochs as f64, 1.0..)?;
        }
        check_range("tau", self.tau, f64::MIN_POSITIVE..)?;
        check_range("kd_temperature", self.kd_temperature, f64::MIN_POSITIVE..)?;
        if let AuxHeadConfig::Mlp { hidden, dropout } = self.auxiliary {
            check_range("auxiliary.hidden", hidden as f64, 1.0..)?;
            check_range("auxiliary.dropout", dropout, 0.0..1.0)?;
        }
        check_range("few", self.few as f64, 1.0..)?;
        check_range("validation", self.validation as f64, 1.0..)?;
        check_range("watched_batch", self.watched_batch as f64, 2.0..)?;
        for (name, setting) in [("digits", &self.digits), ("color", &self.color)] {
            let most = setting.student.images as f64;
            check_range(&format!("watched ({name})"), self.watched as f64, self.watched_batch as f64..=most)?;
        }
        Ok(())
    }
}

const ACCURACY: &str = "test accuracy";
const VALIDATION: &str = "validation accuracy";
const TEACHER: &str = "teacher's test accuracy";
/// 1 if the loss was no longer finite; the accuracy is then that of guessing.
const DIVERGED: &str = "diverged";
/// Cosines of the gradients of cross entropy and logit loss, means over batches; and share of batches in which it is negative.
const HEAD_COSINE: &str = "gradient cosine, head";
const BACKBONE_COSINE: &str = "gradient cosine, backbone";
const HEAD_CONFLICTS: &str = "share of conflicting batches, head";
const BACKBONE_CONFLICTS: &str = "share of conflicting batches, backbone";
/// Mean absolute logit of the classifier.
const SCALE: &str = "mean absolute logit";
const NC1: &str = "within-class variability (NC1)";
/// Share of training images whose target logit is above the teacher's.
const ABOVE: &str = "share of target logits above the teacher's";
/// Histogram of student minus teacher target logits on training images, for plots: bins of width 1 from `-EDGE` to `EDGE`, tails in the
/// last ones.
const MARGINS: &str = "student minus teacher target logit";
const EDGE: i64 = 20;

impl Experiment for DualHeadDistillation {
    fn slug(&self) -> &'static str {
        "dual-head-distillation"
    }

    fn version(&self) -> u32 {
        1
    }

    fn claims(&self) -> Vec<Claim> {
        vec![
            Claim::new(
                "C1",
                "Cross entropy and BinaryKL on one classifier do worse together than either alone",
                "figures not verified",
                "Test accuracy, cross entropy + BinaryKL minus each of the two alone, paired by seed, each at its better pair of weight and rate by validation: both 95 % intervals are below 0. Partly if one is.",
            ),
            Claim::new(
                "C2",
                "The two losses' gradients conflict in the classifier, not in the backbone",
                "an analysis by neural collapse",
                "Cross entropy + BinaryKL on one classifier, cosine of the two gradients on training images, mean over the last third of the epochs: in all seeds below 0 for the classifier's weights, and below the backbone's by more than 0.1. Partly if it is below the backbone's in all seeds.",
            ),
            Claim::new(
                "C3",
                "Two heads repair that, and more: DHKD beats cross entropy and distillation with one head",
                "CIFAR-100 and ImageNet, by a few tenths over the best peer (figures not verified)",
                "Test accuracy, DHKD with the better auxiliary head (linear or not, by validation) minus cross entropy, paired by seed: the 95 % interval is above 0; and the mean of DHKD minus cross entropy + BinaryKL-Norm on one classifier is above 0. Partly if only the first holds.",
            ),
            Claim::new(
                "C4",
                "In the auxiliary head BinaryKL-Norm is better than BinaryKL",
                "figures not verified",
                "Mean test accuracy of DHKD with a linear auxiliary head minus that of the same with BinaryKL is above 0.",
            ),
        ]
    }

    fn datasets(&self) -> &'static [&'static str] {
        &["digits", "cifar10", "cifar100"]
    }

    fn seeds(&self, scale: Scale) -> usize {
        match scale {
            Scale::Smoke => 1,
            Scale::Small => 5,
            Scale::Full => 3,
        }
    }

    fn config(&self, scale: Scale) -> Value {
        let (careful, heavy) = (Choice { alpha: 0.1, lr: 0.05 }, Choice { alpha: 1.0, lr: 0.01 });
        let digits = Setting::digits();
        let mut config = Config {
            digits: Setting { student: Training { epochs: 20, ..digits.student }, ..digits },
            color: Setting::color(),
            choices: vec![careful, heavy],
            steep: Some(Choice { alpha: 1.0, lr: 0.05 }),
            outgrown: Some(Outgrown { smoothing: 0.1, epochs: 60, choice: careful }),
            few: 3,
            tau: 2.0,
            kd_temperature: 4.0,
            auxiliary: AuxHeadConfig::mlp(),
            validation: 500,
            watched: 512,
            watched_batch: 256,
        };
        match scale {
            Scale::Smoke => {
                (config.digits, config.color) = (config.digits.smoke(), config.color.smoke());
                config.choices = vec![careful];
                config.outgrown = config.outgrown.map(|o| Outgrown { epochs: 3, ..o });
                (config.validation, config.watched) = (100, 256);
            }
            Scale::Small => {}
            Scale::Full => {
                let of = |depth| Training::new(Network::Cifar { depth }, 49_500, 240);
                (config.color.teacher, config.color.student) = (of(56), of(20));
                (config.color.test, config.color.side) = (10_000, 32);
                config.choices = vec![Choice { alpha: 1.0, lr: 0.05 }];
                (config.steep, config.outgrown) = (None, None);
            }
        }
        json!(config)
    }

    fn cells(&self, plan: &Plan) -> Result<Vec<Cell>> {
        let config: Config = plan.config()?;
        config.check()?;
        let arms = config.arms();
        let runs = |i: usize, arm: &Arm| !arm.beside || i < config.few;
        let of = |(i, seed): (usize, &u64)| -> Vec<Cell> {
            arms.iter().filter(|(_, arm)| runs(i, arm)).map(|(name, _)| Cell::new(name, *seed)).collect()
        };
        Ok(plan.seeds.iter().enumerate().flat_map(of).collect())
    }

    fn run(&self, cell: &Cell, context: &mut Context<'_>) -> Result<()> {
        let config: Config = context.plan.config()?;
        train::cell(&config.arm(&cell.arm)?, &config, context)
    }

    fn judge(&self, results: &Results) -> Result<Vec<Finding>> {
        judge::findings(results)
    }

    fn plots(&self, results: &Results) -> Result<Vec<Plot>> {
        judge::plots(results)
    }

    fn note(&self, plan: &Plan) -> String {
        let data = if plan.dataset == "digits" {
            "The task is ours: pairs of UCI digits under noise, a hundred classes."
        } else {
            "Random crops (padding of an eighth of the side) and flips."
        };
        let sizes = if plan.scale == Scale::Full && plan.dataset != "digits" {
            "ResNet-56 teaches ResNet-20, the one pair of the paper's that is run; the rate falls at 60 and 85 % of the epochs; 500 training images are held out."
        } else {
            "Networks are small, the teacher is trained once for all students on more images."
        };
        let beside = if plan.scale == Scale::Full {
            ""
        } else {
            " The steep pair of weight and rate is run to show what it does and is never chosen; it and the students that outgrow the teacher are run on fewer seeds."
        };
        format!(
            "{data} {sizes} Teacher and student are of one family, so what the nonlinear head and the alignment do for pairs of different families is not judged; both are run. KD is half cross entropy, half distillation. Accuracy is that of the last epoch (the published code reports the best on test images). Gradients are compared in evaluation mode, on training images without augmentation.{beside}"
        )
    }
}
