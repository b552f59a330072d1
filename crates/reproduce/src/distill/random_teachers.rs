//! Random teachers: does a student that imitates a frozen random network end with better features than it?
//!
//! All arms of a seed have the same teacher and see the same batches. What a network knows is read off its frozen encoder by three
//! probes; the student at one step, fixed beforehand, is what counts. That student is also the start of supervised training, whose
//! lottery tickets and barriers are compared with those of the random network.

mod judge;
mod tickets;
mod train;

use crate::experiment::{Cell, Claim, Experiment, Plan, Scale, check_list};
use crate::plot::Plot;
use crate::results::Results;
use crate::runner::Context;
use crate::verdict::Finding;
use crate::vision::check_side;
use anyhow::{Result, bail, ensure};
use autodidact_core::error::check_range;
use autodidact_core::nn::VggNorm;
use autodidact_distill::random_teachers::LOCAL;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The experiment.
pub struct RandomTeachers;

/// An encoder.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Network {
    /// VGG of the configured stages with a norm.
    Vgg(VggNorm),
    /// ResNet-18 with the CIFAR stem.
    Resnet18,
}

/// Supervised training from a start.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Supervised {
    epochs: usize,
    batch: usize,
    /// SGD's learning rate, divided by 10 at one half and at three quarters of the epochs.
    lr: f64,
    weight_decay: f64,
    /// Share of the remaining weights that a round prunes, and rounds.
    rate: f64,
    rounds: usize,
    /// Supervised epochs before the rewound start.
    rewind: usize,
    /// Batch orders whose results are joined by lines, and errors on each line, ends included.
    orders: usize,
    points: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Config {
    /// Training and test images; side to which they are average-pooled.
    images: usize,
    test: usize,
    side: i64,
    network: Network,
    /// Widths of the VGG's convolutions by stage.
    stages: Vec<Vec<i64>>,
    /// The head: hidden widths, bottleneck, outputs.
    hidden: Vec<i64>,
    bottleneck: i64,
    outputs: i64,
    batch: usize,
    /// Steps, those of the arm without norms, and those of plain gradient descent.
    steps: usize,
    slow_steps: usize,
    sgd_steps: usize,
    lr: f64,
    /// Steps at which the student is probed beside the first and the last, one of which decides.
    probed: Vec<usize>,
    decided: usize,
    /// Localities beside the paper's.
    alphas: Vec<f64>,
    /// Numbers of images beside all.
    counts: Vec<usize>,
    /// Ridge penalty relative to the number of images, epochs of the AdamW probe, neighbours.
    penalty: f64,
    probe_epochs: usize,
    k: i64,
    /// Images of the other data set, for training probes and for testing.
    transfer: [usize; 2],
    /// Seeds of the arms that do not decide claims C1, C2 and C4.
    repeats: usize,
    supervised: Supervised,
}

/// What a student sees.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Input {
    /// So many images.
    Images(usize),
    /// Gaussian noise.
    Noise,
}

/// A distillation.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Distillation {
    network: Network,
    alpha: f64,
    input: Input,
    steps: usize,
    /// Plain gradient descent instead of AdamW.
    sgd: bool,
}

/// From where supervised training starts.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Start {
    /// The student at the deciding step.
    Student,
    /// The random network that is its teacher.
    Random,
    /// The same after some supervised epochs.
    Rewound,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Arm {
    Distilled(Distillation),
    /// Probes of the pixels.
    Pixels,
    Tickets(Start),
    Lines(Start),
}

/// Arms that the claims name.
const LOCAL_ARM: &str = "alpha=1e-10";
const FAR: &str = "alpha=1";
const NOISE: &str = "noise";
const GROUP: &str = "layer-norm";
const NO_NORM: &str = "no-norm";
const SGD: &str = "sgd-from-copy";
const PIXELS: &str = "input";
const TICKETS: [&str; 3] = ["tickets/student", "tickets/random", "tickets/rewound"];
const LINES: [&str; 2] = ["lines/student", "lines/random"];

fn alpha_arm(alpha: f64) -> String {
    format!("alpha={alpha}")
}

fn count_arm(count: usize) -> String {
    format!("images={count}")
}

impl Config {
    /// Arms, and whether they run on all seeds.
    fn arms(&self) -> Vec<(String, Arm, bool)> {
        let local = Distillation {
            network: self.network,
            alpha: LOCAL,
            input: Input::Images(self.images),
            steps: self.steps,
            sgd: false,
        };
        let slow =
            |alpha, sgd, steps| Distillation { network: Network::Vgg(VggNorm::None), alpha, sgd, steps, ..local };
        let distilled = |name: String, d, all| (name, Arm::Distilled(d), all);
        let mut arms = vec![
            distilled(LOCAL_ARM.into(), local, true),
            distilled(FAR.into(), Distillation { alpha: 1.0, ..local }, true),
            distilled(NOISE.into(), Distillation { input: Input::Noise, ..local }, true),
        ];
        arms.extend(self.alphas.iter().map(|a| distilled(alpha_arm(*a), Distillation { alpha: *a, ..local }, false)));
        arms.extend(
            self.counts
                .iter()
                .map(|n| distilled(count_arm(*n), Distillation { input: Input::Images(*n), ..local }, false)),
        );
        let norm = Distillation { network: Network::Vgg(VggNorm::Group(1)), ..local };
        arms.push(distilled(GROUP.into(), norm, false));
        arms.push(distilled(NO_NORM.into(), slow(LOCAL, false, self.slow_steps), false));
        arms.push(distilled(SGD.into(), slow(0.0, true, self.sgd_steps), false));
        arms.push((PIXELS.into(), Arm::Pixels, false));
        let starts = [Start::Student, Start::Random, Start::Rewound];
        arms.extend(TICKETS.iter().zip(starts).map(|(name, s)| ((*name).into(), Arm::Tickets(s), false)));
        arms.extend(LINES.iter().zip(starts).map(|(name, s)| ((*name).into(), Arm::Lines(s), false)));
        arms
    }

    fn arm(&self, name: &str) -> Result<Arm> {
        match self.arms().into_iter().find(|(n, ..)| n == name) {
            Some((_, arm, _)) => Ok(arm),
            None => bail!("unknown arm {name}"),
        }
    }

    fn check(&self) -> Result<()> {
        let within = |what: &str, value: usize, low: usize, high: usize| {
            check_range(what, value as f64, low as f64..=high as f64)
        };
        within("batch", self.batch, 2, self.images)?;
        within("images", self.images, 2, 1_000_000_000)?;
        check_side("side", self.side, 32)?;
        ensure!(
            self.side >> self.stages.len() > 0,
            "stages: expected at most {} for images of side {}, got {}",
            self.side.ilog2(),
            self.side,
            self.stages.len()
        );
        for (what, value) in [
            ("test", self.test),
            ("steps", self.steps),
            ("slow_steps", self.slow_steps),
            ("sgd_steps", self.sgd_steps),
            ("probe_epochs", self.probe_epochs),
            ("transfer", self.transfer[0].min(self.transfer[1])),
            ("repeats", self.repeats),
        ] {
            within(what, value, 1, 1_000_000_000)?;
        }
        within("decided", self.decided, 1, self.steps)?;
        check_range("lr", self.lr, f64::MIN_POSITIVE..)?;
        check_range("penalty", self.penalty, f64::MIN_POSITIVE..)?;
        check_range("k", self.k as f64, 1.0..=self.transfer[0].min(self.images) as f64)?;
        if !self.alphas.is_empty() {
            check_list("alphas", &self.alphas, 0.0..1.0)?;
        }
        for count in &self.counts {
            within("counts", *count, self.batch, self.images)?;
        }
        let s = &self.supervised;
        within("supervised.epochs", s.epochs, 1, 1_000_000)?;
        within("supervised.batch", s.batch, 2, self.images)?;
        check_range("supervised.lr", s.lr, f64::MIN_POSITIVE..)?;
        check_range("supervised.weight_decay", s.weight_decay, 0.0..)?;
        check_range("supervised.rate", s.rate, 0.01..=0.99)?;
        within("supervised.rounds", s.rounds, 1, 100)?;
        within("supervised.rewind", s.rewind, 0, s.epochs)?;
        within("supervised.orders", s.orders, 2, 100)?;
        Ok(within("supervised.points", s.points, 3, 1000)?)
    }
}

/// Probes, the deciding one first.
const PROBES: [&str; 3] = ["ridge probe accuracy", "AdamW probe accuracy", "k-NN accuracy"];
/// Prefixes of what is probed beside the student on its own data.
const TEACHER: &str = "teacher's ";
const TRANSFER: &str = "transfer ";
const TRANSFER_TEACHER: &str = "teacher's transfer ";
/// Divergence of the student from its teacher on a training batch, and its mean over the last tenth of the steps.
const KL: &str = "KL to the teacher";
const FINAL_KL: &str = "KL to the teacher, last tenth";
/// Distance from the initial weights, relative to their norm.
const MOVED: &str = "relative distance from the start";
/// Test accuracy of a sparse network; the step is the round.
const SPARSE: &str = "test accuracy of the ticket";
const BARRIER: &str = "error barrier";

impl Experiment for RandomTeachers {
    fn slug(&self) -> &'static str {
        "random-teachers"
    }

    fn version(&self) -> u32 {
        1
    }

    fn claims(&self) -> Vec<Claim> {
        vec![
            Claim::new(
                "C1",
                "The student's features beat its teacher's, and the pixels",
                "CIFAR-10, linear probe: ResNet-18 35.50 to 46.02, VGG-11 36.55 to 51.98, pixels 39.02",
                "Ridge probe on standardised features of the student at the step fixed beforehand, minus its teacher's, paired by seed: the 95 % interval is above 0, and the student's mean is above the pixels'. Partly if only the interval is, or that of the AdamW probe. At scale full with ResNet-18 on CIFAR-10 the student's AdamW probe must also lie within 4 points of 46.02.",
            ),
            Claim::new(
                "C2",
                "It is the data: noise does not do",
                "VGG-11: 41.76 with 500 images, 51.36 with 50,000, 16.3 to 16.7 with noise",
                "Ridge probe: the 95 % interval of the student of Gaussian noise minus its teacher is not above 0, and that of the student of images minus the one of noise is. Partly if only the latter.",
            ),
            Claim::new(
                "C3",
                "The gain transfers to another data set",
                "TinyImageNet to CIFAR-10: 46.06 and 52.45",
                "Ridge probe on another data set of the student minus its teacher: the mean is above 0.",
            ),
            Claim::new(
                "C4",
                "It is strongest near the teacher, and there from afar too",
                "flat up to alpha 0.6, then declining, above the teacher at 1 (figure)",
                "Means of the gain over the teacher, ridge probe: at alpha 1e-10 at least that at alpha 1, and at alpha 1 above 0. Partly if only one holds.",
            ),
            Claim::new(
                "C5",
                "Students from afar reduce the loss less",
                "figure",
                "KL to the teacher over the last tenth of the steps, alpha 1 minus alpha 1e-10, paired by seed: the 95 % interval is above 0. Partly if only the mean is.",
            ),
            Claim::new(
                "C6",
                "The student holds lottery tickets as networks of the first supervised epochs do; random networks do not",
                "ResNet-18, tickets as good as those of 1 to 2 epochs (figure)",
                "Test accuracy at the lowest density, paired by seed: the 95 % interval of the student minus the random start is above 0, and the student's mean is at most a point below the rewound start's. Partly if only the interval is.",
            ),
            Claim::new(
                "C7",
                "Trainings from the student are linearly connected, those from random networks not",
                "figure",
                "Error barrier between trainings in different orders, mean over pairs: below that of the random start in every seed. Partly if only the mean is.",
            ),
            Claim::new(
                "C8",
                "Adam is part of it: plain gradient descent from an exact copy stays there",
                "no figure; the other ablations of this claim are not judged",
                "Without norms, relative distance of all weights from the start after gradient descent: at most 1e-6 in every seed.",
            ),
        ]
    }

    fn datasets(&self) -> &'static [&'static str] {
        &["shapes", "cifar10", "cifar100"]
    }

    fn further_datasets(&self, dataset: &str) -> &'static [&'static str] {
        if dataset == "shapes" { &["digits"] } else { &["mnist"] }
    }

    fn seeds(&self, scale: Scale) -> usize {
        match scale {
            Scale::Smoke => 1,
            Scale::Small => 5,
            Scale::Full => 3,
        }
    }

    fn config(&self, scale: Scale) -> Value {
        let mut config = Config {
            images: 5000,
            test: 4000,
            side: 16,
            network: Network::Vgg(VggNorm::Batch),
            stages: vec![vec![16], vec![32], vec![64, 64]],
            hidden: vec![256, 256],
            bottleneck: 64,
            outputs: 1024,
            batch: 128,
            steps: 200,
            slow_steps: 500,
            sgd_steps: 30,
            lr: 1e-3,
            probed: vec![50, 100],
            decided: 200,
            alphas: vec![0.6],
            counts: vec![500],
            penalty: 0.02,
            probe_epochs: 10,
            k: 20,
            transfer: [3000, 1000],
            repeats: 3,
            supervised: Supervised {
                epochs: 5,
                batch: 128,
                lr: 0.1,
                weight_decay: 1e-4,
                rate: 0.8,
                rounds: 2,
                rewind: 1,
                orders: 3,
                points: 5,
            },
        };
        match scale {
            Scale::Smoke => {
                (config.images, config.test, config.steps, config.slow_steps, config.sgd_steps) = (256, 200, 30, 30, 5);
                (config.probed, config.decided, config.probe_epochs) = (vec![10], 30, 2);
                (config.transfer, config.alphas, config.counts) = ([200, 100], vec![], vec![]);
                config.batch = 32;
                let s = &mut config.supervised;
                (s.epochs, s.batch, s.rounds, s.orders, s.points) = (1, 64, 1, 2, 3);
            }
            Scale::Small => {}
            Scale::Full => {
                (config.images, config.test, config.side, config.network) = (50_000, 10_000, 32, Network::Resnet18);
                config.stages = vec![vec![64], vec![128], vec![256, 256], vec![512, 512], vec![512, 512]];
                (config.hidden, config.bottleneck, config.outputs) = (vec![2048, 2048], 256, 1 << 16);
                // 100 epochs.
                (config.batch, config.steps, config.slow_steps, config.sgd_steps) = (256, 19_500, 19_500, 1000);
                (config.probed, config.decided) = (vec![200, 1000, 5000, 10_000], 19_500);
                (config.alphas, config.counts) = (vec![0.2, 0.4, 0.6, 0.8], vec![500, 5000]);
                config.transfer = [60_000, 10_000];
                let s = &mut config.supervised;
                (s.epochs, s.rate, s.rounds, s.orders, s.points) = (60, 0.2, 10, 3, 11);
            }
        }
        json!(config)
    }

    fn cells(&self, plan: &Plan) -> Result<Vec<Cell>> {
        let config: Config = plan.config()?;
        config.check()?;
        train::check(&config)?;
        let few = &plan.seeds[..config.repeats.min(plan.seeds.len())];
        let arms = config.arms();
        let on = |seed: &u64| {
            let chosen = arms.iter().filter(|(_, _, all)| *all || few.contains(seed));
            chosen.map(|(name, ..)| Cell::new(name.clone(), *seed)).collect::<Vec<_>>()
        };
        Ok(plan.seeds.iter().flat_map(on).collect())
    }

    fn run(&self, cell: &Cell, context: &mut Context<'_>) -> Result<()> {
        let config: Config = context.plan.config()?;
        match config.arm(&cell.arm)? {
            Arm::Distilled(distillation) => train::distilled(distillation, &config, context),
            Arm::Pixels => train::pixels(&config, context),
            Arm::Tickets(start) => tickets::tickets(start, &config, context),
            Arm::Lines(start) => tickets::lines(start, &config, context),
        }
    }

    fn judge(&self, results: &Results) -> Result<Vec<Finding>> {
        judge::findings(results)
    }

    fn plots(&self, results: &Results) -> Result<Vec<Plot>> {
        judge::plots(results)
    }

    fn note(&self, plan: &Plan) -> String {
        let scale = if plan.scale == Scale::Full {
            "Supervised training takes 60 epochs."
        } else {
            "Images are average-pooled to side 16; the encoder is a small VGG with batch norm, the head and its outputs are small, training and pruning are short: a round of pruning takes more than the published fifth. The deciding step was fixed on other seeds."
        };
        format!(
            "{scale} Digits of the other data set are brought to the same side and three channels. The AdamW probe's rate falls along a cosine, and k-NN goes by cosine similarity. On the lines between networks, batch norm uses the statistics of the test images themselves, at the ends too. Tickets are rewound with running statistics; the rewound start with SGD's momentum too. Denormal numbers count as zero."
        )
    }
}
