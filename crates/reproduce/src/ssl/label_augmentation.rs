//! Label augmentation: does the joint label of class and transformation avoid what forced invariance costs, what does
//! aggregation add, and does self-distillation keep it?
//!
//! Part (a) is UCI digits with a few labels of each class; part (b), on another data set, a thin ResNet on labelled images
//! pooled to 16x16. All arms of a seed start from the same encoder and see the same labelled images in the same order; the
//! baseline is also run with four times the images per step, the work of four rotations.

mod judge;
mod train;

use crate::experiment::{Cell, Claim, Experiment, Plan, Scale, check_list};
use crate::plot::Plot;
use crate::results::Results;
use crate::runner::Context;
use crate::verdict::Finding;
use anyhow::{Result, ensure};
use autodidact_core::error::check_range;
use autodidact_ssl::label_augmentation::SlaLoss;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use train::{Arm, Setting};

/// The experiment.
pub struct LabelAugmentation;

/// Hyper-parameters.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Config {
    digits: Setting,
    color: Setting,
    /// Labels of each class on digits.
    labels: Vec<usize>,
    /// Transformations besides rotation, for SLA on the colour images.
    transformations: Vec<String>,
    /// Images of the rarest class as shares of those of the most frequent, on the colour images.
    imbalance: Vec<f64>,
    /// Weight of the single head's cross entropy.
    beta: f64,
    /// Temperature of the distillation.
    temperature: f64,
    /// Networks of the ensemble.
    members: usize,
}

impl Config {
    fn loss(&self) -> SlaLoss {
        SlaLoss { beta: self.beta, temperature: self.temperature, ..Default::default() }
    }

    fn check(&self) -> Result<()> {
        self.digits.check("digits", 8)?;
        self.color.check("color", 32)?;
        let labels: Vec<f64> = self.labels.iter().map(|l| *l as f64).collect();
        check_list("labels", &labels, 1.0..=100.0)?;
        ensure!(labels.is_sorted_by(|a, b| a < b), "labels: expected ascending values, got {labels:?}");
        let fewest = self.labels[0] * 10;
        ensure!(
            self.digits.batch <= fewest,
            "digits.batch: expected at most {fewest} images, got {}",
            self.digits.batch
        );
        for name in &self.transformations {
            train::transformation(name)?;
        }
        self.imbalance.iter().try_for_each(|r| check_range("imbalance", *r, f64::MIN_POSITIVE..1.0))?;
        check_range("beta", self.beta, 0.0..)?;
        check_range("members", self.members as f64, 1.0..)?;
        Ok(check_range("temperature", self.temperature, f64::MIN_POSITIVE..)?)
    }
}

/// Arms of every part.
const ARMS: [&str; 7] = ["baseline", "baseline-4x", "ensemble", "da", "mt", "sla", "sla+sd"];

/// Percent of test images that one forward pass of the untransformed image classifies rightly.
const SINGLE: &str = "single accuracy";
/// The same of the four copies' averaged logits (ensemble: of its members' averaged probabilities).
const AGGREGATE: &str = "aggregate accuracy";
const JOINT: &str = "joint accuracy";
const TRANSFORMATION: &str = "transformation accuracy";

/// What follows an arm's name in the parts of a plan: digits by number of labels, then the colour images.
fn parts(config: &Config, dataset: &str) -> Vec<String> {
    let digits = config.labels.iter().map(|l| format!("/labels={l}"));
    digits.chain((dataset != "digits").then(String::new)).collect()
}

impl Experiment for LabelAugmentation {
    fn slug(&self) -> &'static str {
        "label-augmentation"
    }

    fn version(&self) -> u32 {
        1
    }

    fn claims(&self) -> Vec<Claim> {
        vec![
            Claim::new(
                "C1",
                "Forcing invariance to rotation hurts, the joint label does not",
                "single inference, CIFAR-10: baseline 92.39, DA 90.44, MT 90.79, SLA 92.50 (from memory)",
                "Single accuracy, paired by seed. Differences are divided by the standard deviation over seeds within the arms of a part (root of the mean variance) and pooled over seeds and parts: SLA minus DA and SLA minus MT both have 95 % intervals above 0, and SLA is at most 0.5 points below the baseline (mean over parts). Partly if only one of the differences is above 0, or both without the last condition.",
            ),
            Claim::new(
                "C2",
                "Aggregation adds much",
                "CIFAR-10: baseline 92.39, SLA+AG 94.50 (from memory)",
                "SLA aggregate minus baseline, pooled as in C1, has a 95 % interval above 0, and the aggregate is at least as good as SLA's single inference (mean over parts).",
            ),
            Claim::new(
                "C3",
                "Self-distillation keeps most of it in one pass",
                "CIFAR-10: SLA+SD 93.26 (from memory)",
                "SLA+SD single minus baseline, pooled as in C1, has a 95 % interval above 0, and it is at least half of the aggregate's (positive) gain over the baseline in points (mean over parts). Partly if only its mean in points is above 0.",
            ),
            Claim::new(
                "C4",
                "Aggregation is close to an ensemble of four networks",
                "plot",
                "Mean over parts: SLA aggregate is at most 1 point below an ensemble of four independently initialised baselines (averaged probabilities).",
            ),
            Claim::new(
                "C5",
                "Composed transformations help further",
                "12 transformations best, 10 to 19 % relative on fine-grained sets (from memory)",
                "Scale full: mean aggregate accuracy with 12 transformations exceeds that with 4 rotations. Not judged at scale small.",
            ),
            Claim::new(
                "C6",
                "The fewer the labels, the larger the gain",
                "gains on limited CIFAR grow as data shrink (plot)",
                "Digits: SLA aggregate minus baseline in points is larger at the fewest labels than at the most (means over seeds).",
            ),
            Claim::new(
                "C7",
                "It helps on imbalanced data",
                "CIFAR-10-LT, ratio 10: 89.58 with LDAM-DRW and SLA+SD",
                "Scale full: SLA+SD single minus baseline on long-tailed data, standardised and pooled over ratios and seeds, has a 95 % interval above 0 (plain cross entropy). Not judged at scale small.",
            ),
        ]
    }

    fn datasets(&self) -> &'static [&'static str] {
        &["digits", "shapes", "cifar10", "cifar100"]
    }

    fn config(&self, scale: Scale) -> Value {
        let digits =
            Setting { depth: None, images: 0, test: 500, side: 8, batch: 32, steps: 400, lr: 0.05, weight_decay: 5e-4 };
        let mut config = Config {
            digits,
            color: Setting {
                depth: Some(8),
                images: 5000,
                test: 2000,
                side: 16,
                batch: 32,
                steps: 300,
                lr: 0.1,
                weight_decay: 1e-4,
            },
            labels: vec![10, 30],
            transformations: vec![],
            imbalance: vec![],
            beta: 1.0,
            temperature: 1.0,
            members: 4,
        };
        match scale {
            Scale::Smoke => {
                (config.labels, config.members) = (vec![10, 20], 2);
                for s in [&mut config.digits, &mut config.color] {
                    (s.steps, s.batch, s.test) = (30, 16, 100);
                }
                (config.color.images, config.color.steps) = (200, 5);
            }
            Scale::Small => {}
            Scale::Full => {
                config.color = Setting {
                    depth: Some(32),
                    images: 50_000,
                    test: 10_000,
                    side: 32,
                    batch: 128,
                    steps: 80_000,
                    ..config.color
                };
                config.transformations = ["color3", "color6", "rotation2xcolor3", "rotationxcolor3", "rotationxcolor6"]
                    .map(Into::into)
                    .into();
                config.imbalance = vec![0.1, 0.01];
            }
        }
        json!(config)
    }

    fn cells(&self, plan: &Plan) -> Result<Vec<Cell>> {
        let config: Config = plan.config()?;
        config.check()?;
        let parts = parts(&config, &plan.dataset);
        let mut arms: Vec<String> = parts.iter().flat_map(|p| ARMS.map(|a| format!("{a}{p}"))).collect();
        if plan.dataset != "digits" {
            arms.extend(config.transformations.iter().map(|t| format!("sla:{t}")));
            arms.extend(config.imbalance.iter().flat_map(|r| ["baseline", "sla+sd"].map(|a| format!("{a}/ratio={r}"))));
        }
        Ok(plan.cross(&arms))
    }

    fn run(&self, cell: &Cell, context: &mut Context<'_>) -> Result<()> {
        train::cell(&Arm::parse(&cell.arm)?, &context.plan.config()?, context)
    }

    fn judge(&self, results: &Results) -> Result<Vec<Finding>> {
        judge::findings(results)
    }

    fn plots(&self, results: &Results) -> Result<Vec<Plot>> {
        judge::plots(results)
    }

    fn note(&self, plan: &Plan) -> String {
        let color = if plan.dataset == "digits" {
            "Part (b), on colour images, is not run on digits."
        } else {
            "Part (b) is a ResNet-8 on class-balanced images pooled to 16x16, drawn anew for every seed, for far fewer steps than the paper's 80,000 (32 images per step, 128 with their rotations), so that networks are far from converged."
        };
        format!(
            "Part (a) is a small convolutional network on UCI digits. {color} No arm is tuned: as in the paper all share one learning rate, schedule (divided by 10 at one half and three quarters) and weight decay; the last step's network is judged instead of the best on validation images. baseline-4x takes four batches per step, the work of four rotations. Batches follow shuffled epochs. Among digits are classes that a rotation turns into each other (6 and 9). The paper's table values are quoted from memory."
        )
    }
}
