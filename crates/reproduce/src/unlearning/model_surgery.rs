//! Model surgery: do adapters that are merged and retrieved keep classes that come task by task?
//!
//! A small vision transformer is pre-trained on other classes and frozen; every learner then gets the same tasks of new classes, one after
//! the other, and is tested on all classes so far without being told the task. Within a seed all learners share backbone, data and order of
//! classes.

mod data;
mod judge;
mod run;

use crate::experiment::{Cell, Claim, Experiment, Plan, Scale, check_list};
use crate::plot::Plot;
use crate::results::Results;
use crate::runner::Context;
use crate::verdict::Finding;
use anyhow::{Context as _, Result};
use autodidact_core::Error;
use autodidact_core::error::check_range;
use autodidact_unlearning::model_surgery::{AdapterConfig, Alignment, MergeSchedule, TaskTraining};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The experiment.
pub struct ModelSurgery;

/// How the backbone comes about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Pretraining {
    /// Cross-entropy on the classes of the source.
    Supervised,
    /// Barlow Twins on the images of the source.
    BarlowTwins,
}

/// What depends on the data set.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Setting {
    /// Classes of the source (of the generated alphabet) and images of it in all.
    source_classes: usize,
    source_images: usize,
    /// Tasks, and classes of each.
    tasks: usize,
    classes: usize,
    /// Training and test images of a class.
    train: usize,
    test: usize,
    net: Net,
    adapter: AdapterConfig,
    /// Of every learner; MOS and the others alike.
    training: TaskTraining,
    alignment: Alignment,
}

/// The vision transformer.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Net {
    side: i64,
    patch: i64,
    width: i64,
    depth: usize,
    heads: i64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Config {
    pretraining: Pretraining,
    /// A file of weights as `timm` publishes them, in place of the pre-training; empty for none.
    weights: String,
    /// Passes over the source, its batch and Adam's rate; the width of the self-supervised embedding.
    source_epochs: usize,
    source_batch: usize,
    source_lr: f64,
    embedding: i64,
    /// Probability that a view of a grey image of the source has bright and dark swapped, in self-supervision.
    inversion: f64,
    alpha: f64,
    /// Further strengths of merging.
    alphas: Vec<f64>,
    reg: f64,
    /// SLCA: epochs and draws of its alignment.
    slca: (usize, i64),
    glyphs: Setting,
    mnist: Setting,
    cifar100: Setting,
}

impl Config {
    fn setting(&self, plan: &Plan) -> &Setting {
        match plan.dataset.as_str() {
            "mnist" => &self.mnist,
            "cifar100" => &self.cifar100,
            _ => &self.glyphs,
        }
    }

    fn check(&self, plan: &Plan) -> Result<()> {
        let setting = self.setting(plan);
        let net = setting.net;
        for (what, value, low) in [
            ("source_epochs", self.source_epochs as f64, 0.0),
            ("source_batch", self.source_batch as f64, 2.0),
            ("source_lr", self.source_lr, f64::MIN_POSITIVE),
            ("embedding", self.embedding as f64, 1.0),
            ("width", net.width as f64, 1.0),
            ("depth", net.depth as f64, 1.0),
            ("heads", net.heads as f64, 1.0),
            ("source_classes", setting.source_classes as f64, 2.0),
            ("source_images", setting.source_images as f64, self.source_batch as f64),
            ("tasks", setting.tasks as f64, 2.0),
            ("classes", setting.classes as f64, 1.0),
            ("train", setting.train as f64, 2.0),
            ("test", setting.test as f64, 1.0),
            ("reg", self.reg, f64::MIN_POSITIVE),
            ("slca", self.slca.1 as f64, 1.0),
        ] {
            check_range(what, value, low..)?;
        }
        check_range("inversion", self.inversion, 0.0..=1.0)?;
        setting.training.check()?;
        setting.adapter.check()?;
        // An alpha of 0 would be the ablation.
        check_range("alpha", self.alpha, f64::MIN_POSITIVE..=1.0)?;
        if !self.alphas.is_empty() {
            check_list("alphas", &self.alphas, f64::MIN_POSITIVE..=1.0)?;
        }
        let mut all = self.alphas.clone();
        all.push(self.alpha);
        all.sort_unstable_by(f64::total_cmp);
        if all.windows(2).any(|w| w[0] == w[1]) {
            return Err(Error::value("alphas", "different ones, without alpha itself", format!("{all:?}")).into());
        }
        if net.patch < 1 || net.side < net.patch || net.side % net.patch != 0 {
            return Err(Error::value("side", format!("a multiple of patch = {}", net.patch), net.side).into());
        }
        if net.width % net.heads != 0 {
            return Err(Error::value("width", format!("a multiple of heads = {}", net.heads), net.width).into());
        }
        if plan.dataset == GLYPHS && net.side != 16 {
            return Err(Error::value("side", "16, that of the glyphs", net.side).into());
        }
        let most = match plan.dataset.as_str() {
            "mnist" => 10,
            "cifar100" => 100,
            _ => usize::MAX,
        };
        Ok(check_range("tasks * classes", (setting.tasks * setting.classes) as f64, ..=most as f64)?)
    }
}

const GLYPHS: &str = "stroke-glyphs";

/// Who learns.
#[derive(Debug, Clone, Copy)]
enum Learner {
    Finetune,
    FinetuneAdapter,
    Lwf,
    SimpleCil,
    Aper,
    Slca,
    Ease,
    /// MOS, with changes to its training.
    Mos(Change),
}

#[derive(Debug, Clone, Copy)]
enum Change {
    None,
    Alpha(f64),
    NoAlignment,
    NoOrth,
    Merge(MergeSchedule, bool),
}

const FINETUNE: &str = "Finetune";
const FINETUNE_ADAPTER: &str = "Finetune Adapter";
const LWF: &str = "LwF";
const SIMPLE: &str = "SimpleCIL";
const APER: &str = "APER";
const SLCA: &str = "SLCA";
const EASE: &str = "EASE";
const MOS: &str = "MOS";
const NO_MERGING: &str = "MOS, no merging";
const NO_ALIGNMENT: &str = "MOS, no alignment";
const NO_ORTH: &str = "MOS, no orthogonality";
const OFFICIAL: &str = "MOS, official merging";
const MUTATING: &str = "MOS, official merging and evaluation";

fn with_alpha(alpha: f64) -> String {
    format!("MOS, alpha {alpha}")
}

fn learners(config: &Config) -> Vec<(String, Learner)> {
    let mut all: Vec<_> = [
        (FINETUNE, Learner::Finetune),
        (FINETUNE_ADAPTER, Learner::FinetuneAdapter),
        (LWF, Learner::Lwf),
        (SIMPLE, Learner::SimpleCil),
        (APER, Learner::Aper),
        (SLCA, Learner::Slca),
        (EASE, Learner::Ease),
        (MOS, Learner::Mos(Change::None)),
        (NO_MERGING, Learner::Mos(Change::Alpha(0.0))),
        (NO_ALIGNMENT, Learner::Mos(Change::NoAlignment)),
        (NO_ORTH, Learner::Mos(Change::NoOrth)),
        (OFFICIAL, Learner::Mos(Change::Merge(MergeSchedule::OfficialPerBlock, false))),
        (MUTATING, Learner::Mos(Change::Merge(MergeSchedule::OfficialPerBlock, true))),
    ]
    .map(|(name, learner)| (name.to_owned(), learner))
    .into();
    all.extend(config.alphas.iter().map(|a| (with_alpha(*a), Learner::Mos(Change::Alpha(*a)))));
    all
}

/// By classes seen.
const ACCURACY: &str = "accuracy (%)";
const AVERAGE: &str = "average accuracy (%)";
const LAST: &str = "last accuracy (%)";
const FORGETTING: &str = "forgetting (points)";
/// Of networks with retrieval, after the last task: by evaluation, from 1.
const RETRIEVAL: &str = "retrieval accuracy (%)";
const FIRST: &str = "retrieval accuracy of the first guess (%)";
const REFINED: &str = "retrieval accuracy after refinement (%)";
const EVALUATIONS: &str = "evaluations per image";
/// By task, from the second.
const DISTANCE: &str = "distance to the mean of earlier adapters";
/// Array: share of each task's images (rows) that get a class of each task.
const CONFUSION: &str = "task confusion";

/// Inference with a part left out, on the same networks; `prefix/last accuracy (%)` and so on.
const NO_REFINEMENT: &str = "no refinement";
const NO_ENSEMBLE: &str = "no ensemble";
const ORACLE_ADAPTER: &str = "adapter of the true task";
const ORACLE_TASK: &str = "true task";

fn variant(name: &str, metric: &str) -> String {
    format!("{name}/{metric}")
}

const SHARED_CRITERION: &str = "A_B, paired by seed: MOS minus APER and MOS minus SimpleCIL have 95 % intervals above 0, mean A_B of MOS is at least that of the better of SLCA and EASE minus 1 point, and Finetune Adapter's is below SimpleCIL's (C1 and C2 share this). Partly if MOS only beats the prototype methods. Full scale on CIFAR-100 also asks for mean A-bar with the official merging within 1.5 points of 93.30. Not judged if SimpleCIL or MOS is not above twice the chance.";

impl Experiment for ModelSurgery {
    fn slug(&self) -> &'static str {
        "model-surgery"
    }

    fn version(&self) -> u32 {
        1
    }

    fn claims(&self) -> Vec<Claim> {
        vec![
            Claim::new(
                "C1",
                "MOS has the best average and last accuracy",
                "on 6 of 7 benchmarks; CIFAR-100 in steps of 5: 93.30 / 89.25, SLCA 92.49 / 88.55, EASE 91.51 / 85.80",
                SHARED_CRITERION,
            ),
            Claim::new(
                "C2",
                "Learners rank in families: fine-tuning, one adapter, prototypes, SLCA and EASE, MOS",
                "CIFAR-100, last accuracy: 20.17, 49.32, 81.26 and 85.15, 88.55 and 85.80, 89.25",
                SHARED_CRITERION,
            ),
            Claim::new(
                "C3",
                "Merging adapters reduces their drift and is better than the same without merging",
                "ablation",
                "A_B of MOS minus that without merging, paired by seed: the 95 % interval is above 0. The distances of adapters to the mean of earlier ones are reported.",
            ),
            Claim::new(
                "C4",
                "Self-refined retrieval beats the first guess",
                "last accuracy 86.01 by the first guess, 89.25 in the end (CIFAR-100 in steps of 5)",
                "After the last task, refined minus first guess of the same networks, paired by seed: the 95 % interval of the retrieval accuracy (the final adapter is that of the true task) is above 0, and that of the accuracy is. Partly if one is.",
            ),
            Claim::new(
                "C5",
                "The ensemble of both stages adds to it",
                "ablation",
                "A_B with minus without the ensemble, the same networks, paired by seed: the 95 % interval is above 0.",
            ),
        ]
    }

    fn datasets(&self) -> &'static [&'static str] {
        &[GLYPHS, "mnist", "cifar100"]
    }

    fn further_datasets(&self, dataset: &str) -> &'static [&'static str] {
        match dataset {
            "mnist" => &["fashion-mnist"],
            "cifar100" => &["cifar10"],
            _ => &[],
        }
    }

    fn config(&self, scale: Scale) -> Value {
        let glyphs = Setting {
            source_classes: 20,
            source_images: 6000,
            tasks: 5,
            classes: 4,
            train: 100,
            test: 50,
            net: Net { side: 16, patch: 4, width: 64, depth: 4, heads: 4 },
            adapter: AdapterConfig { rank: 8, scale: 1.0, dropout: 0.1 },
            training: TaskTraining { epochs: 15, batch: 32, lr: 0.03, ..Default::default() },
            alignment: Alignment { samples: 160, ..Default::default() },
        };
        let mnist =
            Setting { source_classes: 10, source_images: 10_000, classes: 2, train: 200, test: 200, ..glyphs.clone() };
        let cifar100 = Setting {
            source_images: 20_000,
            tasks: 20,
            classes: 5,
            train: 100,
            test: 100,
            net: Net { side: 32, patch: 8, ..glyphs.net },
            ..mnist.clone()
        };
        let mut config = Config {
            pretraining: Pretraining::BarlowTwins,
            weights: String::new(),
            source_epochs: 12,
            source_batch: 128,
            source_lr: 1e-3,
            embedding: 128,
            inversion: 0.0,
            alpha: 0.1,
            alphas: vec![0.3, 0.6],
            reg: 0.1,
            slca: (5, 256),
            glyphs,
            mnist,
            cifar100,
        };
        match scale {
            Scale::Smoke => {
                (config.source_epochs, config.source_batch, config.embedding) = (1, 16, 16);
                (config.alphas, config.slca) = (vec![0.3], (2, 10));
                for s in [&mut config.glyphs, &mut config.mnist, &mut config.cifar100] {
                    (s.source_images, s.tasks, s.classes, s.train, s.test) = (80, 2, 2, 10, 10);
                    (s.net.width, s.net.depth, s.net.heads) = (16, 2, 2);
                    s.training.epochs = 1;
                    (s.alignment.epochs, s.alignment.samples) = (2, 10);
                }
            }
            Scale::Small => {}
            Scale::Full => {
                (config.source_epochs, config.embedding) = (100, 1024);
                (config.glyphs.source_images, config.glyphs.test) = (20_000, 200);
                (config.mnist.source_images, config.mnist.train, config.mnist.test) = (60_000, 1000, 500);
                config.cifar100 = Setting {
                    source_images: 50_000,
                    train: 500,
                    net: Net { side: 224, patch: 16, width: 768, depth: 12, heads: 12 },
                    adapter: AdapterConfig::default(),
                    training: TaskTraining::default(),
                    alignment: Alignment::default(),
                    ..config.cifar100
                };
            }
        }
        json!(config)
    }

    fn cells(&self, plan: &Plan) -> Result<Vec<Cell>> {
        let config: Config = plan.config()?;
        config.check(plan)?;
        Ok(plan.cross(&learners(&config).iter().map(|l| &l.0).collect::<Vec<_>>()))
    }

    fn run(&self, cell: &Cell, context: &mut Context<'_>) -> Result<()> {
        let config: Config = context.plan.config()?;
        let found = learners(&config).into_iter().find(|l| l.0 == cell.arm);
        run::run(found.context("an arm that is not there")?.1, &config, context)
    }

    fn judge(&self, results: &Results) -> Result<Vec<Finding>> {
        judge::findings(results)
    }

    fn plots(&self, results: &Results) -> Result<Vec<Plot>> {
        judge::plots(results)
    }

    fn note(&self, plan: &Plan) -> String {
        let config = plan.config::<Config>().ok();
        let how = match config.as_ref().map(|c| (c.pretraining, c.weights.is_empty())) {
            Some((_, false)) => "read from a file",
            Some((Pretraining::Supervised, _)) => "trained on the source's labels",
            _ => "trained by Barlow Twins on the source without labels",
        };
        format!(
            "The backbone is {how}, once per seed, and the same for all learners; so are the tasks, the steps, the batches and the rate ({}). Heads learn at that rate too, MOS's at a tenth of it. Learners of all weights take the adapters' rate for them, SLCA a hundredth of it. SLCA aligns as its code does, LwF has weight 3 at temperature 2, EASE 0.1 for other subspaces; nothing was tuned for any learner. Pre-training is self-supervised because that is what a frozen backbone without labels stands for here, not for its result: on seed 100 SimpleCIL's last accuracy (chance: 5 %) was 29.0 % by Barlow Twins as it is, 24.9 % with bright and dark swapped in half of the views, and 35.7 % with labels (pretraining=supervised). That all heads but MOS's learn at the whole rate was set after one seed's trial, as their published code has it. MOS without refinement, without ensemble and with the true task are measured on MOS's own networks, as they train the same. Pulls go on at full strength while the rate falls to 0, so that merged adapters end near the mean; the distances say how near. MOS follows the paper's text; the arm with official merging pulls once per block and step, as the code does in effect, and the one with official evaluation lets every evaluated batch pull the kept adapters, too.",
            config.map_or_else(String::new, |c| {
                let training = c.setting(plan).training;
                format!("{} epochs at {}", training.epochs, training.lr)
            }),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_work_are_refused_before_anything_runs() {
        let cells = |changes: &[(&str, Value)]| Plan::trial_cells(&ModelSurgery, changes);
        let all = cells(&[]).unwrap();
        let names: std::collections::BTreeSet<_> = all.iter().map(|c| &c.arm).collect();
        assert_eq!((names.len(), all.len()), (14, 14), "every arm comes once");
        let refused = [
            ("alpha", json!(0.0), "alpha: "),
            ("alphas", json!([0.1]), "alphas: expected different"),
            ("alphas", json!([1.5]), "alphas: "),
            ("reg", json!(0.0), "reg: "),
            ("glyphs.net.side", json!(18), "side: expected a multiple"),
            ("glyphs.net.side", json!(20), "side: expected 16"),
            ("glyphs.net.heads", json!(3), "width: "),
            ("source_batch", json!(100), "source_images: "),
            ("glyphs.tasks", json!(1), "tasks: "),
            ("glyphs.train", json!(1), "train: "),
            ("glyphs.training.batch", json!(0), "batch: "),
        ];
        Plan::assert_refused(&ModelSurgery, &refused);
        assert!(cells(&[("pretraining", json!("supervised"))]).is_ok());
        assert!(cells(&[("pretraining", json!("magic"))]).is_err());
    }
}
