//! Label-agnostic forgetting: can a classifier forget a class, or mislabelled samples, when nobody gives a label?
//!
//! A small convolutional network is trained on digits and asked to forget a class, mislabelled samples, or a random part of some classes.
//! All methods of a seed start from the same network; the measure is how far they end from one that is trained from scratch on what remains.

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
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The experiment.
pub struct LabelAgnosticForgetting;

/// What is to be forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Task {
    Class,
    Noise,
    Data,
}

impl Task {
    const ALL: [Task; 3] = [Task::Class, Task::Noise, Task::Data];

    fn name(self) -> &'static str {
        match self {
            Task::Class => "class",
            Task::Noise => "noisy labels",
            Task::Data => "data",
        }
    }
}

/// Who makes it forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Method {
    Original,
    Retrain,
    Laf,
    LafRepaired,
    UnlearningOnly,
    AlignmentOnly,
    SigmoidDecoder,
    FineTuning,
    Ascent,
    RandomLabels,
    Boundary,
    Unroll,
    BadTeacher,
    Scrub,
    Sisa,
}

impl Method {
    const ALL: [Method; 15] = [
        Method::Original,
        Method::Retrain,
        Method::Laf,
        Method::LafRepaired,
        Method::UnlearningOnly,
        Method::AlignmentOnly,
        Method::SigmoidDecoder,
        Method::FineTuning,
        Method::Ascent,
        Method::RandomLabels,
        Method::Boundary,
        Method::Unroll,
        Method::BadTeacher,
        Method::Scrub,
        Method::Sisa,
    ];

    /// Baselines that use labels.
    fn supervised() -> impl Iterator<Item = Method> {
        Self::ALL.into_iter().skip_while(|m| *m != Method::FineTuning)
    }

    /// Those whose rate is chosen: all but the one that trains from scratch.
    fn tuned() -> impl Iterator<Item = Method> {
        Self::supervised().filter(|m| *m != Method::Sisa)
    }

    fn name(self) -> &'static str {
        match self {
            Method::Original => "original",
            Method::Retrain => "retrain",
            Method::Laf => "LAF",
            Method::LafRepaired => "LAF+R",
            Method::UnlearningOnly => "LAF unlearning only",
            Method::AlignmentOnly => "LAF alignment only",
            Method::SigmoidDecoder => "LAF sigmoid decoder",
            Method::FineTuning => "fine-tuning",
            Method::Ascent => "gradient ascent",
            Method::RandomLabels => "random labels",
            Method::Boundary => "boundary shrink",
            Method::Unroll => "unroll",
            Method::BadTeacher => "bad teacher",
            Method::Scrub => "SCRUB",
            Method::Sisa => "SISA",
        }
    }
}

fn arm(task: Task, method: Method) -> String {
    format!("{}/{}", task.name(), method.name())
}

/// How a task is done.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Rates {
    lr_unlearning: f64,
    lr_alignment: f64,
    tau: f64,
    epochs: usize,
    /// Learning rate (of unrolling: the gradient's) of each baseline.
    baselines: BTreeMap<String, f64>,
}

/// A data set's network, training and rates.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Setting {
    /// Training and test images.
    images: (usize, usize),
    kernel: i64,
    embedding: i64,
    head: Option<i64>,
    /// Training from scratch.
    epochs: usize,
    lr: f64,
    /// Autoencoders: hidden widths, latent width, epochs of that of all data and of that of the data to forget.
    hidden: Vec<i64>,
    latent: i64,
    vae_epochs: (usize, usize),
    class: Rates,
    noise: Rates,
    data: Rates,
}

impl Setting {
    fn rates(&self, task: Task) -> &Rates {
        match task {
            Task::Class => &self.class,
            Task::Noise => &self.noise,
            Task::Data => &self.data,
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Config {
    batch: usize,
    weight_decay: f64,
    /// Epochs of baselines that see remaining data, and of those that see the data to forget alone.
    baseline_epochs: usize,
    short_epochs: usize,
    /// Boundary shrink's step, SISA's shards, SCRUB's epochs that forget.
    epsilon: f64,
    shards: usize,
    forgetting_epochs: usize,
    /// Repair of the head: labelled samples, epochs, rate.
    labelled: usize,
    repair_epochs: usize,
    repair_lr: f64,
    /// Relearning: rate and most steps.
    relearn_lr: f64,
    relearn_steps: usize,
    digits: Setting,
    mnist: Setting,
}

impl Config {
    fn setting(&self, plan: &Plan) -> &Setting {
        if plan.dataset == "digits" { &self.digits } else { &self.mnist }
    }

    fn check(&self, setting: &Setting) -> Result<()> {
        for (what, value, low) in [
            ("batch", self.batch as f64, 1.0),
            ("weight_decay", self.weight_decay, 0.0),
            ("baseline_epochs", self.baseline_epochs as f64, 1.0),
            ("short_epochs", self.short_epochs as f64, 1.0),
            ("epsilon", self.epsilon, 0.0),
            ("shards", self.shards as f64, 1.0),
            ("labelled", self.labelled as f64, 1.0),
            ("repair_epochs", self.repair_epochs as f64, 1.0),
            ("repair_lr", self.repair_lr, f64::MIN_POSITIVE),
            ("relearn_lr", self.relearn_lr, f64::MIN_POSITIVE),
            ("training images", setting.images.0 as f64, 100.0),
            ("test images", setting.images.1 as f64, 50.0),
            ("epochs", setting.epochs as f64, 1.0),
            ("lr", setting.lr, f64::MIN_POSITIVE),
            ("latent", setting.latent as f64, 1.0),
        ] {
            check_range(what, value, low..)?;
        }
        for task in Task::ALL {
            let rates = setting.rates(task);
            check_range("epochs", rates.epochs as f64, 1.0..)?;
            check_range("tau", rates.tau, f64::MIN_POSITIVE..)?;
            check_range("lr_unlearning", rates.lr_unlearning, 0.0..)?;
            check_range("lr_alignment", rates.lr_alignment, 0.0..)?;
            check_list("baselines", &rates.baselines.values().copied().collect::<Vec<_>>(), f64::MIN_POSITIVE..)?;
            for method in Method::tuned() {
                if !rates.baselines.contains_key(method.name()) {
                    return Err(Error::value("baselines", format!("a rate of {}", method.name()), "none").into());
                }
            }
        }
        Ok(())
    }
}

/// Accuracies in percent: with the labels that were trained on, of remaining data and of data to forget; of test data, of their classes that
/// remain, and of the class to forget.
const TRAIN_R: &str = "remaining training data (%)";
const TRAIN_F: &str = "forgotten training data (%)";
const TEST: &str = "test (%)";
const TEST_R: &str = "test, remaining classes (%)";
const TEST_F: &str = "test, forgotten class (%)";
/// Accuracy of the membership attack (percent; 50 is guessing).
const ASR: &str = "membership attack (%)";
/// Steps until the data to forget are known again; the most that are tried if they are not.
const RELEARN: &str = "steps to learn it again";
const UNLEARNING_LOSS: &str = "unlearning loss";
const ALIGNMENT_LOSS: &str = "alignment loss";
/// Test embeddings on two principal axes of the original's: `x, y, class` of each.
const BEFORE: &str = "embeddings before";
const AFTER: &str = "embeddings after";

impl Experiment for LabelAgnosticForgetting {
    fn slug(&self) -> &'static str {
        "label-agnostic-forgetting"
    }

    fn version(&self) -> u32 {
        2
    }

    fn claims(&self) -> Vec<Claim> {
        vec![
            Claim::new(
                "C1",
                "Without labels LAF removes a class about as well as methods that use them",
                "closest or second closest to retraining in many cells of the tables",
                "Class removal, means over seeds: LAF's accuracy on test images of the class is at most 5 %, on those of the others at most 4 points below retraining's, and its distance D to retraining (sum of the absolute differences of the accuracies on remaining training data, forgotten training data and test data, in points) is at most the median of the supervised baselines'. Partly if only the accuracies are met.",
            ),
            Claim::new(
                "C2",
                "With a few labels, LAF+R beats fully supervised baselines",
                "figures not seen",
                "D of LAF+R minus D of LAF, paired by seed: the 95 % interval is below 0; and the mean D of LAF+R is at most that of the best supervised baseline plus 2 points. For class removal and for noisy labels; partly if for one.",
            ),
            Claim::new(
                "C3",
                "Both losses are needed",
                "unlearning alone destroys the remaining accuracy, alignment restores it",
                "Class removal: D of unlearning alone and D of alignment alone, each minus D of LAF, paired by seed: both 95 % intervals are above 0. Partly if one is.",
            ),
            Claim::new(
                "C4",
                "Removing mislabelled samples raises the test accuracy towards retraining's",
                "figures not seen",
                "Noisy labels: test accuracy of LAF minus the original's is above 2 points, with its 95 % interval above 0, paired by seed. Partly if that of LAF+R only.",
            ),
            Claim::new(
                "C5",
                "Without labels LAF removes random data about as well as methods that use them",
                "closest or second closest to retraining in many cells of the tables",
                "Data removal: D of LAF is at most the median of the supervised baselines', and below the original's with the 95 % interval of the difference, paired by seed. As all claims not decidable, hence not judged, if the mean accuracies of retraining and of the original on the forgotten training data differ by less than 3 points.",
            ),
        ]
    }

    fn datasets(&self) -> &'static [&'static str] {
        &["digits", "mnist", "fashion-mnist"]
    }

    fn seeds(&self, scale: Scale) -> usize {
        if scale == Scale::Smoke { 1 } else { 5 }
    }

    fn config(&self, scale: Scale) -> Value {
        let baselines = |rates: [f64; 7]| -> BTreeMap<String, f64> {
            Method::tuned().zip(rates).map(|(m, r)| (m.name().to_owned(), r)).collect()
        };
        let rates = |lr_unlearning, lr_alignment, tau, epochs, of| Rates {
            lr_unlearning,
            lr_alignment,
            tau,
            epochs,
            baselines: baselines(of),
        };
        // In the order of `Method::tuned`.
        let class = [1e-2, 3e-4, 1e-2, 1e-3, 0.1, 3e-3, 3e-3];
        let noise = [3e-4, 3e-5, 1e-2, 1e-3, 1.0, 3e-3, 3e-4];
        let data = [1e-2, 3e-5, 1e-3, 3e-5, 0.03, 3e-3, 1e-3];
        let digits = Setting {
            images: (1347, 450),
            kernel: 3,
            embedding: 64,
            head: None,
            epochs: 40,
            lr: 1e-3,
            hidden: vec![48, 24],
            latent: 8,
            vae_epochs: (30, 60),
            class: rates(3e-4, 6e-4, 20.0, 40, class),
            noise: rates(1e-3, 1e-3, 5.0, 20, noise),
            data: rates(3e-4, 6e-4, 20.0, 40, data),
        };
        let mnist = Setting {
            images: (10_000, 10_000),
            kernel: 5,
            embedding: 256,
            head: Some(128),
            epochs: 20,
            lr: 1e-4,
            hidden: vec![128, 32],
            latent: 8,
            vae_epochs: (10, 10),
            class: rates(5e-5, 1e-4, 20.0, 20, class),
            noise: rates(5e-5, 1e-4, 20.0, 20, noise),
            data: rates(5e-5, 1e-4, 5.0, 20, data),
        };
        let mut config = Config {
            batch: 32,
            weight_decay: 1e-4,
            baseline_epochs: 10,
            short_epochs: 5,
            epsilon: 0.1,
            shards: 3,
            forgetting_epochs: 10,
            labelled: 200,
            repair_epochs: 20,
            repair_lr: 1e-3,
            relearn_lr: 1e-3,
            relearn_steps: 200,
            digits,
            mnist,
        };
        match scale {
            Scale::Smoke => {
                (config.baseline_epochs, config.short_epochs, config.forgetting_epochs) = (1, 1, 1);
                (config.labelled, config.repair_epochs, config.relearn_steps) = (50, 1, 3);
                for setting in [&mut config.digits, &mut config.mnist] {
                    (setting.images, setting.epochs, setting.vae_epochs) = ((300, 100), 2, (1, 1));
                    for rates in [&mut setting.class, &mut setting.noise, &mut setting.data] {
                        rates.epochs = 2;
                    }
                }
            }
            Scale::Small => {}
            Scale::Full => config.mnist.images = (60_000, 10_000),
        }
        json!(config)
    }

    fn cells(&self, plan: &Plan) -> Result<Vec<Cell>> {
        let config: Config = plan.config()?;
        config.check(config.setting(plan))?;
        let arms = Task::ALL.into_iter().flat_map(|t| Method::ALL.into_iter().map(move |m| arm(t, m)));
        Ok(plan.cross(&arms.collect::<Vec<_>>()))
    }

    fn run(&self, cell: &Cell, context: &mut Context<'_>) -> Result<()> {
        let config: Config = context.plan.config()?;
        let mut all = Task::ALL.into_iter().flat_map(|t| Method::ALL.map(|m| (t, m)));
        let (task, method) = all.find(|(t, m)| arm(*t, *m) == cell.arm).context("an arm that is not there")?;
        run::run(task, method, &config, context)
    }

    fn judge(&self, results: &Results) -> Result<Vec<Finding>> {
        judge::findings(results)
    }

    fn plots(&self, results: &Results) -> Result<Vec<Plot>> {
        judge::plots(results)
    }

    fn note(&self, plan: &Plan) -> String {
        let settings = if plan.dataset == "digits" {
            "LAF's rates and epochs for digits come from a pilot on one split, before these runs; they are larger than the official ones, which are for data sets with fifty times as many steps in an epoch. "
        } else {
            "LAF has the official rates, epochs and widths of this data set; those of the baselines were chosen on digits, so that what compares with them (C1, C2, C5) is not judged here. "
        };
        format!(
            "Autoencoders end linearly; a variant with the official sigmoid, which cannot reach most embeddings, is run beside. Mislabelled samples get any wrong class (the official code never draws the last). {settings}That C5 asks for more than the original does was added after its result was seen (which it did not change). Each supervised baseline has one rate, chosen for each task on seed 100 of digits from six (0.00003 to 0.01 in steps of about three; a hundred times as much for unrolling) as that of the smallest distance to retraining, to which test images count, too; they are drawn anew in each seed from the same 1,797 digits. Epochs are the same for all baselines that see remaining data, half as many for those that see the data to forget alone; SCRUB forgets in all of its epochs, because with five it did not forget the class at any rate. Attacks are boosted stumps on sorted probabilities in place of trees of depth six."
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_work_are_refused_before_anything_runs() {
        let cells = |changes: &[(&str, Value)]| Plan::trial_cells(&LabelAgnosticForgetting, changes);
        assert_eq!(cells(&[]).unwrap().len(), 45);
        let refused = [
            ("batch", json!(0), "batch: "),
            ("epsilon", json!(-1.0), "epsilon: "),
            ("digits.images", json!([10, 100]), "training images: "),
            ("digits.class.tau", json!(0.0), "tau: "),
            ("digits.noise.epochs", json!(0), "epochs: "),
            ("digits.data.baselines", json!({}), "baselines: expected at least one value"),
            ("digits.data.baselines", json!({"SCRUB": 1.0}), "baselines: expected a rate of fine-tuning"),
        ];
        Plan::assert_refused(&LabelAgnosticForgetting, &refused);
    }
}
