//! Normalised distillation: does bringing the non-target distributions to sum 1 help a student, and do soft labels that it makes
//! itself?
//!
//! By default the task has a hundred classes and needs no download: two UCI digits side by side, under noise. One teacher serves all
//! students; its logits are computed once. All arms of a seed start from the same weights and see the same batches.

mod judge;
mod train;

use crate::distill::classifier::{Network, Setting, Training};
use crate::experiment::{Cell, Claim, Experiment, Plan, Scale};
use crate::plot::Plot;
use crate::results::Results;
use crate::runner::Context;
use crate::verdict::Finding;
use anyhow::{Result, bail};
use autodidact_core::error::check_range;
use autodidact_distill::logits::Dkd;
use autodidact_distill::normalized_distillation::{Nkd, RankScore, UskdConfig};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The experiment.
pub struct NormalizedDistillation;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Config {
    digits: Setting,
    color: Setting,
    /// Weight of NKD's non-target part, and its temperatures.
    gamma: f64,
    temperatures: Vec<f64>,
    /// Temperatures of KD.
    kd_temperatures: Vec<f64>,
    dkd: Dkd,
    uskd: UskdConfig,
    smoothing: f64,
    /// Timed steps of each kind for the cost of USKD; 0 does not time.
    timed: usize,
}

/// What is added to, or put in place of, the student's cross entropy.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Method {
    CrossEntropy,
    LabelSmoothing,
    /// Half of the cross entropy, and half of `tau^2` times the cross entropy with the teacher.
    Kd(f64),
    Dkd,
    Nkd(Nkd),
    /// NKD's target part alone.
    Target,
    /// NKD's non-target part alone.
    Normalised,
    /// The same without bringing the distributions to sum 1: `-gamma sum_{i != y} T_i log S_i`.
    Unnormalised,
    Uskd(UskdConfig),
}

/// The name of the arm that times USKD.
const COST: &str = "cost";
/// Arms that the claims name.
const CE: &str = "cross-entropy";
const SMOOTHING: &str = "label-smoothing";
const DKD: &str = "dkd";
const TARGET: &str = "target-part";
const NORMALISED: &str = "normalised-part";
const UNNORMALISED: &str = "unnormalised-part";
const USKD: &str = "uskd";
const RANDOM: &str = "uskd/random-ranks";

fn nkd_arm(temperature: f64) -> String {
    format!("nkd/lambda={temperature}")
}

fn kd_arm(temperature: f64) -> String {
    format!("kd/tau={temperature}")
}

impl Config {
    fn of(&self, dataset: &str) -> &Setting {
        if dataset == "digits" { &self.digits } else { &self.color }
    }

    fn arms(&self) -> Vec<(String, Method)> {
        let nkd = |temperature| Nkd { gamma: self.gamma, temperature };
        let mut arms = vec![(CE.into(), Method::CrossEntropy), (SMOOTHING.into(), Method::LabelSmoothing)];
        arms.extend(self.kd_temperatures.iter().map(|t| (kd_arm(*t), Method::Kd(*t))));
        arms.push((DKD.into(), Method::Dkd));
        arms.extend(self.temperatures.iter().map(|t| (nkd_arm(*t), Method::Nkd(nkd(*t)))));
        let ablations =
            [(TARGET, Method::Target), (NORMALISED, Method::Normalised), (UNNORMALISED, Method::Unnormalised)];
        arms.extend(ablations.map(|(name, method)| (name.to_owned(), method)));
        let uskd = [
            (USKD, self.uskd),
            ("uskd/no-non-target", UskdConfig { beta: 0.0, ..self.uskd }),
            ("uskd/no-target", UskdConfig { alpha: 0.0, ..self.uskd }),
            (RANDOM, UskdConfig { rank_score: RankScore::Random, ..self.uskd }),
        ];
        arms.extend(uskd.map(|(name, config)| (name.to_owned(), Method::Uskd(config))));
        arms
    }

    fn method(&self, arm: &str) -> Result<Method> {
        match self.arms().into_iter().find(|(name, _)| name == arm) {
            Some((_, method)) => Ok(method),
            None => bail!("unknown arm {arm}"),
        }
    }

    fn check(&self) -> Result<()> {
        self.digits.check("digits")?;
        self.color.check("color")?;
        for (what, list) in [("temperatures", &self.temperatures), ("kd_temperatures", &self.kd_temperatures)] {
            crate::experiment::check_list(what, list, f64::MIN_POSITIVE..)?;
        }
        check_range("gamma", self.gamma, 0.0..)?;
        Ok(check_range("smoothing", self.smoothing, 0.0..=1.0)?)
    }
}

const ACCURACY: &str = "test accuracy";
const TEACHER: &str = "teacher's test accuracy";
/// Mean of `1 - S_y` and of `1 - T_y` on the epoch's last batch.
const STUDENT_MASS: &str = "student's non-target mass";
const TEACHER_MASS: &str = "teacher's non-target mass";
/// Share of a step's time that USKD adds.
const OVERHEAD: &str = "overhead of USKD";
const OVERHEAD_STUDENT: &str = "overhead of USKD on the student";

impl Experiment for NormalizedDistillation {
    fn slug(&self) -> &'static str {
        "normalized-distillation"
    }

    fn version(&self) -> u32 {
        1
    }

    fn claims(&self) -> Vec<Claim> {
        vec![
            Claim::new(
                "C1",
                "NKD beats training without a teacher, and KD",
                "ImageNet, ResNet-34 to ResNet-18: 69.90 to 71.96; ResNet-50 to MobileNet: 69.21 to 72.58",
                "Test accuracy, paired by seed, each of NKD and KD at its better temperature (by mean): the 95 % intervals of NKD minus cross entropy and of NKD minus KD are above 0 (of the latter the mean suffices). Partly if only the first holds.",
            ),
            Claim::new(
                "C2",
                "NKD is at or above other losses on logits",
                "figures not verified",
                "Mean of NKD (at its better temperature) minus DKD above -0.5 points.",
            ),
            Claim::new(
                "C3",
                "Normalising is what helps",
                "ablation, figures not verified",
                "Test accuracy, cross entropy with the normalised non-target part minus with the one that is not, same weight, paired by seed: the 95 % interval is above 0. Partly if only the mean is.",
            ),
            Claim::new(
                "C4",
                "USKD improves students without a teacher",
                "ImageNet: MobileNet 69.21 to 70.38, ResNet-18 69.90 to 70.79, Swin-T 81.18 to 81.49",
                "Test accuracy, USKD minus cross entropy, paired by seed: the 95 % interval is above 0. Partly if only the mean is.",
            ),
            Claim::new(
                "C5",
                "USKD costs almost nothing",
                "one linear layer and a sort",
                "Time of a step of ResNet-18 (batch 32, images of 32x32, the task's classes) with USKD, against cross entropy, in turns in one process: less than 10 % more, mean over seeds.",
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
        let clipped = |mut setting: Setting| {
            (setting.teacher.clip, setting.student.clip) = (Some(5.0), Some(5.0));
            setting
        };
        let mut config = Config {
            digits: clipped(Setting::digits()),
            color: clipped(Setting::color()),
            gamma: 1.5,
            temperatures: vec![1.0, 3.0],
            kd_temperatures: vec![1.0, 4.0],
            dkd: Dkd { beta: 6.0, ..Dkd::default() },
            uskd: UskdConfig::cifar100(),
            smoothing: 0.1,
            timed: 5,
        };
        match scale {
            Scale::Smoke => {
                (config.digits, config.color) = (config.digits.smoke(), config.color.smoke());
                config.timed = 1;
            }
            Scale::Small => {}
            Scale::Full => {
                let s = &mut config.color;
                let of =
                    |network| Training { batch: 128, lr: 0.1, clip: Some(5.0), ..Training::new(network, 50_000, 200) };
                (s.teacher, s.student) = (of(Network::Resnet34), of(Network::Resnet18));
                (s.test, s.side, config.gamma, config.dkd.beta) = (10_000, 32, 3.5, 8.0);
            }
        }
        json!(config)
    }

    fn cells(&self, plan: &Plan) -> Result<Vec<Cell>> {
        let config: Config = plan.config()?;
        config.check()?;
        let mut arms: Vec<String> = config.arms().into_iter().map(|(name, _)| name).collect();
        if config.timed > 0 {
            arms.push(COST.into());
        }
        Ok(plan.cross(&arms))
    }

    fn run(&self, cell: &Cell, context: &mut Context<'_>) -> Result<()> {
        let config: Config = context.plan.config()?;
        if cell.arm == COST {
            return train::cost(&config, context);
        }
        train::cell(config.method(&cell.arm)?, &config, context)
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
        format!(
            "{data} Networks are small, the teacher is trained once for all students on more images. The weights are the published ones for CIFAR-100, but for NKD's gamma (1.5) and DKD's beta (6) at scale small; gradients are clipped at norm 5 in all arms, without which DKD's weight ruins fresh networks; no arm is tuned beyond the two temperatures of KD and of NKD, of which each claim takes the better by test accuracy. DKD's weight rises linearly over the first twelfth of the run, as in its own code. KD is half cross entropy, half distillation, as in the published comparison; NKD adds to the whole cross entropy. Classes are ranked by probabilities, as the method is described (the published code mixes in log-probabilities)."
        )
    }
}
