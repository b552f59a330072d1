//! ScatSimCLR: does a fixed scattering transform in place of trained layers help contrastive learning on few images, does a
//! pretext task, and what do scales, angles and augmentations matter?
//!
//! All arms of a seed see the same images in the same order; the two views and the pretext task's copies are drawn from the same
//! streams. Representations `h` of images as they are go to a linear probe; so do the coefficients of the transform itself,
//! without any training.

mod judge;
mod train;

use crate::experiment::{Cell, Claim, Experiment, Plan, Scale};
use crate::plot::Plot;
use crate::pretrain::Training;
use crate::results::Results;
use crate::runner::Context;
use crate::verdict::Finding;
use anyhow::{Result, ensure};
use autodidact_core::error::check_range;
use autodidact_ssl::scatsimclr::AdapterConfig;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The experiment.
pub struct ScatSimClr;

/// One data set.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Setting {
    /// Images to pre-train on.
    train: usize,
    /// The first of them, whose labels the probes get.
    labels: usize,
    /// Test images.
    test: usize,
    /// Images are brought to this side.
    side: i64,
    /// The transform's scales `J` and angles `L`.
    scales: usize,
    angles: usize,
    /// The adapter: first width, width and blocks of its stages, side of its pooling grid.
    stem: i64,
    stages: Vec<(i64, usize)>,
    pool: i64,
    /// Widths of the projector.
    hidden: i64,
    embedding: i64,
    training: Training,
    /// Neighbours of the k-NN judge.
    k: i64,
    /// Other numbers of scales, and of angles, for ScatSimCLR.
    other_scales: Vec<usize>,
    other_angles: Vec<usize>,
    /// Whether ScatSimCLR is also run with a random affine map in its augmentation.
    affine: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Config {
    digits: Setting,
    color: Setting,
    /// Temperature of NT-Xent.
    tau: f64,
    /// Weight of the pretext task, and the share of the steps without it.
    lambda: f64,
    warmup: f64,
    /// Whether the jigsaw is run beside the rotation.
    jigsaw: bool,
    /// Orders of tiles in the jigsaw.
    orders: usize,
    /// The published networks to run, by residual blocks.
    blocks: Vec<usize>,
    /// Whether SimCLR on ResNet-18 is run.
    resnet: bool,
    /// Passes of the linear probe over the labelled images.
    probe_epochs: usize,
}

/// What is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Network {
    /// Nothing: the transform's coefficients.
    Scattering,
    /// Transform and adapter.
    ScatSimClr,
    /// The adapter behind trained convolutions.
    ConvStem,
    /// SimCLR's.
    Resnet18,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    Rotation,
    Jigsaw,
}

/// What a cell trains, and on what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Arm {
    network: Network,
    task: Option<Task>,
    /// Other than the setting's.
    scales: Option<usize>,
    angles: Option<usize>,
    blocks: Option<usize>,
    affine: bool,
}

impl Arm {
    const fn new(network: Network) -> Self {
        Self { network, task: None, scales: None, angles: None, blocks: None, affine: false }
    }

    fn with(self, task: Task) -> Self {
        Self { task: Some(task), ..self }
    }

    fn name(&self) -> String {
        let network = match self.network {
            Network::Scattering => "scattering",
            Network::ScatSimClr => "scatsimclr",
            Network::ConvStem => "conv-stem",
            Network::Resnet18 => "resnet-18",
        };
        let task = match self.task {
            None => "",
            Some(Task::Rotation) => "+rotation",
            Some(Task::Jigsaw) => "+jigsaw",
        };
        let mut name = format!("{network}{task}");
        for (key, value) in [("J", self.scales), ("L", self.angles), ("blocks", self.blocks)] {
            name += &value.map(|v| format!("/{key}={v}")).unwrap_or_default();
        }
        name + if self.affine { "/affine" } else { "" }
    }
}

/// The arms that C1 and C2 compare.
const SCATTERING: Arm = Arm::new(Network::Scattering);
const SCATSIMCLR: Arm = Arm::new(Network::ScatSimClr);
const CONV_STEM: Arm = Arm::new(Network::ConvStem);

impl Config {
    fn of(&self, dataset: &str) -> &Setting {
        if dataset == "digits" { &self.digits } else { &self.color }
    }

    /// ScatSimCLR and the network trained throughout that it is compared with: the published ones where they are run.
    fn pair(&self) -> [Arm; 2] {
        match (self.blocks.first(), self.resnet) {
            (Some(blocks), true) => [Arm { blocks: Some(*blocks), ..SCATSIMCLR }, Arm::new(Network::Resnet18)],
            _ => [SCATSIMCLR, CONV_STEM],
        }
    }

    fn arms(&self, dataset: &str) -> Vec<Arm> {
        let setting = self.of(dataset);
        let mut arms = vec![SCATTERING, SCATSIMCLR, CONV_STEM];
        arms.extend(setting.other_angles.iter().map(|l| Arm { angles: Some(*l), ..SCATSIMCLR }));
        arms.extend(setting.other_scales.iter().map(|j| Arm { scales: Some(*j), ..SCATSIMCLR }));
        if setting.affine {
            arms.push(Arm { affine: true, ..SCATSIMCLR });
        }
        let mut with_tasks = vec![SCATSIMCLR, CONV_STEM];
        let published = self.blocks.iter().map(|b| Arm { blocks: Some(*b), ..SCATSIMCLR });
        with_tasks.extend(published.chain(self.resnet.then_some(Arm::new(Network::Resnet18))));
        arms.extend(&with_tasks[2..]);
        arms.extend(with_tasks.iter().map(|a| a.with(Task::Rotation)));
        if self.jigsaw {
            arms.extend(with_tasks.iter().map(|a| a.with(Task::Jigsaw)));
        }
        arms
    }

    /// Whether runs are long enough for pretext tasks to matter.
    fn judges_tasks(&self, dataset: &str) -> bool {
        self.of(dataset).training.steps >= LONG
    }

    fn check(&self) -> Result<()> {
        for (name, s, image) in [("digits", &self.digits, 8), ("color", &self.color, 32)] {
            let key = |field: &str| format!("{name}.{field}");
            ensure!(
                s.side >= 4 && (s.side % image == 0 || image % s.side == 0),
                "{}: expected a multiple or a divisor of {image}, at least 4; got {}",
                key("side"),
                s.side
            );
            check_range(&key("train"), s.train as f64, s.training.batch as f64..)?;
            check_range(&key("labels"), s.labels as f64, 10.0..=s.train as f64)?;
            check_range(&key("test"), s.test as f64, 1.0..)?;
            check_range(&key("k"), s.k as f64, 1.0..=s.labels as f64)?;
            for scales in s.other_scales.iter().chain([&s.scales]) {
                let most = (s.side / s.pool.max(1)).max(1).ilog2();
                check_range(&key("scales"), *scales as f64, 1.0..=f64::from(most))?;
            }
            for angles in s.other_angles.iter().chain([&s.angles]) {
                check_range(&key("angles"), *angles as f64, 1.0..=32.0)?;
            }
            for (field, width) in [("stem", s.stem), ("pool", s.pool), ("hidden", s.hidden), ("embedding", s.embedding)]
            {
                check_range(&key(field), width as f64, 1.0..)?;
            }
            for (width, blocks) in &s.stages {
                check_range(&key("stages"), *width as f64, 1.0..)?;
                check_range(&key("stages"), *blocks as f64, 1.0..)?;
            }
            s.training.check(&key("training"), s.train)?;
        }
        check_range("tau", self.tau, f64::MIN_POSITIVE..)?;
        check_range("lambda", self.lambda, 0.0..)?;
        check_range("warmup", self.warmup, 0.0..1.0)?;
        for blocks in &self.blocks {
            AdapterConfig::published(*blocks)?;
        }
        ensure!(self.blocks.is_sorted_by(|a, b| a < b), "blocks: expected ascending numbers, got {:?}", self.blocks);
        check_range("orders", self.orders as f64, 2.0..=1000.0)?;
        Ok(check_range("probe_epochs", self.probe_epochs as f64, 1.0..)?)
    }
}

/// Percent of test images that the linear probe on `h` classifies rightly.
const PROBE: &str = "linear probe accuracy";
const KNN: &str = "k-NN accuracy";
const PARAMETERS: &str = "trainable parameters";
const TASK_ACCURACY: &str = "pretext accuracy";

/// Fewest steps at which a pretext task is judged.
const LONG: usize = 2000;

impl Experiment for ScatSimClr {
    fn slug(&self) -> &'static str {
        "scatsimclr"
    }

    fn version(&self) -> u32 {
        1
    }

    fn claims(&self) -> Vec<Claim> {
        vec![
            Claim::new(
                "C1",
                "With fewer trained parameters it is at least as good as SimCLR",
                "STL-10, 100 epochs: ScatSimCLR8 (6.1 M) 74.78, ScatSimCLR30 77.86, ResNet-18 (11.5 M) 71.90",
                "Linear probe, ScatSimCLR minus the same adapter behind trained convolutions (scale full: the shallowest published network minus ResNet-18), paired by seed: the 95 % interval is above 0, and it trains no more parameters. Partly if only the mean is above 0.",
            ),
            Claim::new(
                "C2",
                "A pretext task helps both kinds of network, rotation more than the jigsaw",
                "STL-10, rotation / jigsaw: 77.86 / 76.36 (8 blocks), 76.36 / 75.22 (ResNet-18); without 74.78, 71.90",
                "Runs of 2,000 steps or more. Linear probe, with rotation minus without, for ScatSimCLR and for the network trained throughout (the pair of C1): both means above 0, and the 95 % interval of the pooled differences is; where the jigsaw is run, rotation's mean exceeds its too. Partly if one of the two means is above 0.",
            ),
            Claim::new(
                "C3",
                "Two scales are best, and accuracy grows with the number of angles",
                "STL-10, 5 epochs: J=1 61.90-63.70, J=2 63.12-64.03, J=3 60.10-61.20 (L 4 to 16)",
                "Linear probe, means over seeds: J=2 above J=1, J=2 above J=3, and the largest number of angles above half of it. Partly if two of the three hold.",
            ),
            Claim::new(
                "C4",
                "Deeper adapters help",
                "STL-10, 1000 epochs: 76.47 (8 blocks), 83.53 (12), 84.01 (16), 84.76 (30)",
                "Scale full: mean accuracy rises from each of the published depths to the next. Not judged at scale small.",
            ),
            Claim::new(
                "C5",
                "Geometric augmentation matters less: without the random affine map it gets better",
                "STL-10: about 2 points gained without it",
                "Linear probe, mean over seeds: with the random affine map added, at most 0.5 points above without.",
            ),
        ]
    }

    fn datasets(&self) -> &'static [&'static str] {
        &["digits", "shapes", "cifar10", "cifar100"]
    }

    fn config(&self, scale: Scale) -> Value {
        let digits = Setting {
            train: 1000,
            labels: 300,
            test: 500,
            side: 16,
            scales: 2,
            angles: 4,
            stem: 32,
            stages: vec![(64, 1), (64, 1)],
            pool: 4,
            hidden: 256,
            embedding: 128,
            training: Training { batch: 96, steps: 200, lr: 1e-3, weight_decay: 1e-5 },
            k: 20,
            other_scales: vec![1],
            other_angles: vec![8],
            affine: false,
        };
        let color = Setting {
            train: 5000,
            labels: 2000,
            test: 2000,
            side: 32,
            other_scales: vec![1, 3],
            affine: true,
            ..digits.clone()
        };
        let mut config = Config {
            digits,
            color,
            tau: 0.5,
            lambda: 0.3,
            warmup: 0.2,
            jigsaw: false,
            orders: 35,
            blocks: vec![],
            resnet: false,
            probe_epochs: 100,
        };
        match scale {
            Scale::Smoke => {
                for s in [&mut config.digits, &mut config.color] {
                    (s.train, s.labels, s.test, s.side, s.scales) = (200, 100, 100, 16, 1);
                    (s.stem, s.stages, s.hidden, s.embedding) = (16, vec![(16, 1)], 64, 32);
                    (s.training.batch, s.training.steps) = (16, 30);
                    (s.other_scales, s.other_angles, s.affine) = (vec![2], vec![], false);
                }
                (config.jigsaw, config.orders, config.probe_epochs) = (true, 10, 5);
            }
            Scale::Small => {}
            Scale::Full => {
                let s = &mut config.color;
                (s.train, s.labels, s.test, s.angles) = (50_000, 50_000, 10_000, 16);
                (s.hidden, s.other_scales, s.other_angles) = (2048, vec![1, 3], vec![4, 8]);
                // A hundred epochs.
                s.training = Training { batch: 256, steps: 19_500, lr: 3e-4, weight_decay: 1e-5 };
                (config.jigsaw, config.blocks, config.resnet, config.warmup) = (true, vec![8, 12, 16, 30], true, 0.4);
            }
        }
        json!(config)
    }

    fn cells(&self, plan: &Plan) -> Result<Vec<Cell>> {
        let config: Config = plan.config()?;
        config.check()?;
        let judged = |a: &Arm| a.task.is_none() || config.judges_tasks(&plan.dataset);
        let (arms, tasks): (Vec<Arm>, Vec<Arm>) = config.arms(&plan.dataset).into_iter().partition(judged);
        let mut cells = plan.cross(&arms.iter().map(Arm::name).collect::<Vec<_>>());
        // One seed shows that the task is learned; that it matters, no number of seeds would.
        cells.extend(plan.seeds.iter().take(1).flat_map(|s| tasks.iter().map(|a| Cell::new(a.name(), *s))));
        Ok(cells)
    }

    fn run(&self, cell: &Cell, context: &mut Context<'_>) -> Result<()> {
        let config: Config = context.plan.config()?;
        let arms = config.arms(&context.plan.dataset);
        let arm = arms.iter().find(|a| a.name() == cell.arm);
        ensure!(arm.is_some(), "unknown arm {}", cell.arm);
        arm.map_or(Ok(()), |arm| train::cell(arm, &config, context))
    }

    fn judge(&self, results: &Results) -> Result<Vec<Finding>> {
        judge::findings(results)
    }

    fn plots(&self, results: &Results) -> Result<Vec<Plot>> {
        judge::plots(results)
    }

    fn note(&self, plan: &Plan) -> String {
        let adapter = if plan.scale == Scale::Full {
            "STL-10 and CIFAR-100 with 20 classes are not run; the probe on the transform itself gets fewer labels (its coefficients fill the memory)."
        } else {
            "A few hundred steps of batches of 96 and an adapter of two residual blocks, on a part of the images, instead of 100 epochs and 8 to 30 blocks; the trained baseline has the same adapter behind convolutions of stride 2 in place of the transform."
        };
        format!(
            "{adapter} The learning rate follows a cosine over the run (the published code hardly decays it), inputs are (x - 0.5)/0.25, crops are resized bilinearly instead of by Lanczos, and the affine map turns by up to 15 degrees, zooms and shifts by up to a tenth, without shear. Below 2,000 steps the pretext tasks run at one seed. While the pretext task has no weight its copies are not computed. The probe is the published one (softmax regression on standardised features, Adam, 100 passes) with a cosine schedule; means over seeds are reported, not the best of five runs."
        )
    }
}
