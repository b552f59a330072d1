//! Self-distillation for further pre-training: does going on with masked autoencoding on a small target set overfit, and does a
//! teacher made by it help a student that starts anew?
//!
//! A masked autoencoder is pre-trained once on source images of four classes. Two target tasks with few images follow: a far domain
//! (digits), and a near one (the source's other six classes). Every arm pre-trains further in its own way, from the same weights,
//! then fine-tunes alike.

mod judge;
mod train;

use crate::experiment::{Cell, Claim, Experiment, Plan, Scale, check_list};
use crate::plot::Plot;
use crate::results::Results;
use crate::runner::Context;
use crate::verdict::Finding;
use anyhow::{Result, bail, ensure};
use autodidact_core::error::check_range;
use autodidact_distill::self_distilled_pretraining::{MaeConfig, SelfDistillation};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The experiment.
pub struct SelfDistilledPretraining;

/// Steps of AdamW.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Stage {
    steps: usize,
    batch: usize,
    lr: f64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Config {
    mae: MaeConfig,
    /// Source images, and the pre-training on them.
    source_images: usize,
    source: Stage,
    /// Images of a target task: for training, held out to choose the penalty's weight, for the test.
    images: usize,
    held_out: usize,
    test: usize,
    /// Further pre-training and self-distillation, per round.
    further: Stage,
    /// Other numbers of steps of further pre-training.
    other_steps: Vec<usize>,
    distillation: SelfDistillation,
    /// Weights of the penalty on the distance to the first weights, to choose from.
    penalties: Vec<f64>,
    fine_tuning: Stage,
    weight_decay: f64,
}

/// Target tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    Far,
    Near,
}

impl Task {
    const ALL: [Self; 2] = [Task::Far, Task::Near];

    fn name(self) -> &'static str {
        match self {
            Task::Far => "far",
            Task::Near => "near",
        }
    }
}

/// What happens between pre-training and fine-tuning.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Method {
    Nothing,
    /// Masked autoencoding for so many steps.
    Further(usize),
    /// Rounds of self-distillation after a teacher of so many steps.
    SelfDistil {
        teacher: usize,
        rounds: usize,
    },
    /// The distance to the teacher alone.
    DistilOnly,
    /// Masked autoencoding with a penalty on the distance to the first weights.
    Penalty(f64),
}

fn further_arm(steps: usize) -> String {
    format!("further/N={steps}")
}

fn penalty_arm(weight: f64) -> String {
    format!("penalty/c={weight}")
}

const FINE_TUNE: &str = "fine-tune";
const SELF: &str = "self-distil";
const LONG: &str = "self-distil/long-teacher";
const ROUNDS: &str = "self-distil/two-rounds";
const DISTIL: &str = "distil-only";

fn arm(task: Task, name: &str) -> String {
    format!("{}/{name}", task.name())
}

const ACCURACY: &str = "test accuracy";
const HELD_OUT: &str = "held-out accuracy";
const TRAIN: &str = "training accuracy";
/// Of the encoder after fine-tuning, to the first weights.
const DISTANCE: &str = "distance from the first weights";
/// On test images, under fixed masks.
const MAE: &str = "autoencoding loss on test images";

impl Config {
    /// All numbers of steps of further pre-training.
    fn steps(&self) -> Vec<usize> {
        let mut all = self.other_steps.clone();
        all.push(self.further.steps);
        all.sort_unstable();
        all.dedup();
        all
    }

    fn longest(&self) -> usize {
        self.steps().last().copied().unwrap_or(0)
    }

    /// Twice the steps, what self-distillation costs with its teacher.
    fn double(&self) -> usize {
        2 * self.further.steps
    }

    fn methods(&self, task: Task) -> Vec<(String, Method)> {
        let n = self.further.steps;
        let mut all = vec![(FINE_TUNE.to_owned(), Method::Nothing)];
        let mut steps = self.steps();
        if task == Task::Far {
            steps.push(self.double());
            steps.sort_unstable();
            steps.dedup();
        }
        all.extend(steps.into_iter().map(|n| (further_arm(n), Method::Further(n))));
        all.push((SELF.to_owned(), Method::SelfDistil { teacher: n, rounds: 1 }));
        if task == Task::Far {
            all.push((LONG.to_owned(), Method::SelfDistil { teacher: self.longest(), rounds: 1 }));
            all.push((ROUNDS.to_owned(), Method::SelfDistil { teacher: n, rounds: 2 }));
            all.push((DISTIL.to_owned(), Method::DistilOnly));
            all.extend(self.penalties.iter().map(|c| (penalty_arm(*c), Method::Penalty(*c))));
        }
        all
    }

    fn arms(&self) -> Vec<(String, Task, Method)> {
        let of = |t: Task| self.methods(t).into_iter().map(move |(name, m)| (arm(t, &name), t, m));
        Task::ALL.into_iter().flat_map(of).collect()
    }

    fn check(&self) -> Result<()> {
        let m = &self.mae;
        ensure!(m.side == 32, "mae.side: expected 32, the side of the images, got {}", m.side);
        ensure!(m.channels == 3, "mae.channels: expected 3, got {}", m.channels);
        // Builds it once, so that a shape that cannot be is refused before anything runs.
        let vs = tch::nn::VarStore::new(tch::Device::Cpu);
        autodidact_distill::self_distilled_pretraining::Mae::new(&vs.root(), m)?;
        for (name, stage, images) in [
            ("source", &self.source, self.source_images),
            ("further", &self.further, self.images),
            ("fine_tuning", &self.fine_tuning, self.images),
        ] {
            check_range(&format!("{name}.steps"), stage.steps as f64, 1.0..1e9)?;
            check_range(&format!("{name}.batch"), stage.batch as f64, 1.0..=images as f64)?;
            check_range(&format!("{name}.lr"), stage.lr, f64::MIN_POSITIVE..)?;
        }
        for (name, value) in [("held_out", self.held_out), ("test", self.test), ("images", self.images)] {
            check_range(name, value as f64, 1.0..1e9)?;
        }
        let steps: Vec<f64> = self.other_steps.iter().map(|n| *n as f64).collect();
        check_list("other_steps", &steps, 1.0..1e9)?;
        ensure!(self.steps().len() > 1, "other_steps: expected another number than further.steps, got {steps:?}");
        check_list("penalties", &self.penalties, f64::MIN_POSITIVE..)?;
        check_range("distillation.weight", self.distillation.weight, 0.0..)?;
        Ok(check_range("weight_decay", self.weight_decay, 0.0..)?)
    }
}

impl Experiment for SelfDistilledPretraining {
    fn slug(&self) -> &'static str {
        "self-distilled-pretraining"
    }

    fn version(&self) -> u32 {
        1
    }

    fn claims(&self) -> Vec<Claim> {
        vec![
            Claim::new(
                "C1",
                "Further pre-training on the target overfits: accuracy falls with more steps",
                "figure",
                "Test accuracy after fine-tuning, mean over seeds: at the most steps below the best of fewer, on at least one target task.",
            ),
            Claim::new(
                "C2",
                "Self-distillation beats fine-tuning and further pre-training",
                "fine-tune, further, self-distil: Aircraft 72.33, 73.38, 74.37; CUB 55.55, 55.72, 58.06; DTD 67.56, 65.55, 68.51; Flowers 88.78, 88.63, 90.28 (not verified)",
                "Test accuracy, paired by seed: the 95 % interval of self-distillation minus further pre-training at equal steps is above 0, and its mean minus fine-tuning is. Reproduced on both target tasks; partly if it holds on one, or if the means alone are above 0 on one.",
            ),
            Claim::new("C3", "It helps on text too", "0.5 to 2 points (not verified)", "not run: images only"),
            Claim::new(
                "C4",
                "Both parts of the loss are needed",
                "ablation, figures not verified",
                "Far task, mean test accuracy of self-distillation: above that of the distance alone, and above that of masked autoencoding with a penalty on the distance to the first weights (its weight chosen on held-out images). Partly if above one of them.",
            ),
            Claim::new(
                "C5",
                "Self-distilled models end nearer to the first weights and generalise with a smaller gap",
                "figures not verified",
                "Far task: distance of the fine-tuned encoder from the first weights smaller with self-distillation than with further pre-training in every seed, and mean gap between training and test accuracy smaller. Partly if only one holds.",
            ),
        ]
    }

    fn datasets(&self) -> &'static [&'static str] {
        &["shapes", "cifar10"]
    }

    fn further_datasets(&self, dataset: &str) -> &'static [&'static str] {
        if dataset == "cifar10" { &["mnist"] } else { &["digits"] }
    }

    fn config(&self, scale: Scale) -> Value {
        let stage = |steps, batch, lr| Stage { steps, batch, lr };
        let mae = MaeConfig { side: 32, patch: 4, encoder: (64, 4, 4), decoder: (48, 1, 4), ..MaeConfig::default() };
        let mut config = Config {
            mae,
            source_images: 8000,
            source: stage(800, 128, 1e-3),
            images: 500,
            held_out: 100,
            test: 2000,
            further: stage(300, 32, 5e-4),
            other_steps: vec![75, 900],
            distillation: SelfDistillation::default(),
            penalties: vec![1e-3, 1e-2, 1e-1],
            fine_tuning: stage(300, 32, 1e-3),
            weight_decay: 0.01,
        };
        match scale {
            Scale::Smoke => {
                (config.mae.encoder, config.mae.decoder) = ((32, 1, 2), (16, 1, 2));
                (config.source_images, config.source) = (128, stage(3, 16, 1e-3));
                (config.images, config.held_out, config.test) = (48, 16, 48);
                (config.further, config.fine_tuning) = (stage(3, 16, 5e-4), stage(3, 16, 5e-4));
                (config.other_steps, config.penalties) = (vec![2, 5], vec![1e-2]);
            }
            Scale::Small => {}
            Scale::Full => {
                (config.mae.encoder, config.mae.decoder) = ((192, 12, 3), (128, 4, 4));
                (config.source_images, config.source) = (20_000, stage(31_000, 128, 1e-3));
                (config.images, config.test) = (2500, 6000);
                (config.further, config.fine_tuning) = (stage(5000, 64, 1.5e-4), stage(5000, 32, 1e-4));
                config.other_steps = vec![1250, 20_000];
            }
        }
        json!(config)
    }

    fn cells(&self, plan: &Plan) -> Result<Vec<Cell>> {
        let config: Config = plan.config()?;
        config.check()?;
        Ok(plan.cross(&config.arms().into_iter().map(|(name, ..)| name).collect::<Vec<_>>()))
    }

    fn run(&self, cell: &Cell, context: &mut Context<'_>) -> Result<()> {
        let config: Config = context.plan.config()?;
        match config.arms().into_iter().find(|(name, ..)| *name == cell.arm) {
            Some((_, task, method)) => train::cell(task, method, &config, context),
            None => bail!("unknown arm {}", cell.arm),
        }
    }

    fn judge(&self, results: &Results) -> Result<Vec<Finding>> {
        judge::findings(results)
    }

    fn plots(&self, results: &Results) -> Result<Vec<Plot>> {
        judge::plots(results)
    }

    fn note(&self, plan: &Plan) -> String {
        let (source, far) = if plan.dataset == "cifar10" {
            ("aeroplanes, cars, ships and lorries of CIFAR-10", "MNIST, enlarged, in three channels")
        } else {
            ("four classes of generated shapes", "UCI digits, enlarged, in three channels")
        };
        format!(
            "Source: {source}; near task: the other six classes; far task: {far}. One pre-trained network serves all seeds and both tasks. A small transformer in place of ViT-B/16, at the published loss, weights, restart and schedules; learning rates are higher for the fewer steps. Self-distillation takes as many steps as its teacher took, so its cost is more than twice that of further pre-training; the arm with twice the steps is the control. Text is not run."
        )
    }
}
