//! Adaptive multi-head contrastive learning: do several heads help, do learned temperatures, and do both help more the more
//! augmentations there are?
//!
//! A study of all arms is on UCI digits (scale full: on the colour images), with the constant temperatures of a grid. On colour images NT-Xent, several heads
//! at a constant temperature and the full method are compared with one, three and five augmentations; the constant temperature
//! is NT-Xent's best on validation images, for each number of augmentations. All arms of a seed start from the same encoder
//! and see the same batches.

mod judge;
mod train;

use crate::experiment::{Cell, Claim, Experiment, Plan, Scale, check_list};
use crate::plot::Plot;
use crate::pretrain::Pretraining;
use crate::results::Results;
use crate::runner::Context;
use crate::verdict::Finding;
use crate::vision::{Encoder, check_side};
use anyhow::{Result, bail, ensure};
use autodidact_core::error::check_range;
use autodidact_ssl::multi_head_contrastive::{Amcl, Rule, TemperatureConfig};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The experiment.
pub struct MultiHeadContrastive;

/// One data set.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Setting {
    /// Images to pre-train on (at most).
    train: usize,
    /// Other labelled images, on which the constant temperature is chosen.
    validation: usize,
    /// Test images (at most).
    test: usize,
    /// Images are average-pooled to this side.
    side: i64,
    /// Widths are those of each head.
    pretraining: Pretraining,
    /// Neighbours.
    k: i64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Config {
    digits: Setting,
    color: Setting,
    /// Whether the study of all arms is on the colour images, with all augmentations, instead of digits.
    study_color: bool,
    /// Seeds, the first ones, that the colour images are run with.
    color_seeds: usize,
    /// `C` of the method.
    heads: i64,
    /// Other numbers of heads, at the constant temperature.
    other_heads: Vec<i64>,
    /// Constant temperatures of the study, and the one at which arms are compared.
    taus: Vec<f64>,
    tau: f64,
    /// Temperatures from which the constant one on the colour images is chosen.
    color_taus: Vec<f64>,
    /// Numbers of augmentations on the colour images.
    augmentations: Vec<usize>,
    low: f64,
    high: f64,
    beta: f64,
    kappa: i64,
    /// Labels of each class for the few-shot probe, and how many draws of them its accuracy is averaged over.
    shots: usize,
    draws: usize,
}

impl Config {
    fn of(&self, part: Part) -> &Setting {
        if part == Part::Digits { &self.digits } else { &self.color }
    }

    /// Where all arms are.
    fn study(&self) -> Part {
        if self.study_color { Part::Color(train::AUGMENTATIONS) } else { Part::Digits }
    }

    fn temperature(&self, rule: Rule) -> TemperatureConfig {
        // A network of the entrywise product does its work for every pair.
        let hidden = if rule == Rule::Hadamard { 16 } else { 128 };
        TemperatureConfig { rule, low: self.low, high: self.high, hidden, detach: false }
    }

    fn check(&self, dataset: &str) -> Result<()> {
        let color_classes = if dataset == "cifar100" { 100 } else { 10 };
        for (name, s, image, classes) in [("digits", &self.digits, 8, 10), ("color", &self.color, 32, color_classes)] {
            let key = |field: &str| format!("{name}.{field}");
            check_side(&key("side"), s.side, image)?;
            check_range(&key("test"), s.test as f64, 10.0..)?;
            check_range(&key("k"), s.k as f64, 1.0..)?;
            check_range(&key("train"), s.train as f64, (classes * self.shots * self.draws) as f64..)?;
            s.pretraining.check(&key("pretraining"), s.train)?;
        }
        check_range("color.validation", self.color.validation as f64, 10.0..)?;
        check_range("heads", self.heads as f64, 2.0..)?;
        self.other_heads.iter().try_for_each(|c| check_range("other_heads", *c as f64, 2.0..))?;
        ensure!(!self.other_heads.contains(&self.heads), "other_heads: expected none equal to heads = {}", self.heads);
        check_list("taus", &self.taus, f64::MIN_POSITIVE..)?;
        ensure!(self.taus.contains(&self.tau), "taus: expected a list with tau = {}, got {:?}", self.tau, self.taus);
        check_list("color_taus", &self.color_taus, f64::MIN_POSITIVE..)?;
        let counts: Vec<f64> = self.augmentations.iter().map(|n| *n as f64).collect();
        check_list("augmentations", &counts, 1.0..=train::AUGMENTATIONS as f64)?;
        ensure!(
            counts.is_sorted_by(|a, b| a < b)
                && counts.len() > 1
                && self.augmentations.ends_with(&[train::AUGMENTATIONS]),
            "augmentations: expected ascending numbers up to {}, got {counts:?}",
            train::AUGMENTATIONS
        );
        check_range("low", self.low, f64::MIN_POSITIVE..)?;
        check_range("high", self.high, self.low..)?;
        let middle = (self.low + self.high) / 2.0;
        ensure!(
            (self.tau - middle).abs() < 1e-9,
            "tau: expected the middle of low and high, {middle}, got {}",
            self.tau
        );
        check_range("beta", self.beta, 0.0..)?;
        check_range("kappa", self.kappa as f64, 1.0..)?;
        check_range("shots", self.shots as f64, 1.0..)?;
        Ok(check_range("draws", self.draws as f64, 1.0..)?)
    }
}

/// Images and what views are drawn from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Digits,
    /// Colour images, with so many augmentations.
    Color(usize),
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Part::Digits => f.write_str("digits"),
            Part::Color(n) => write!(f, "augmentations={n}"),
        }
    }
}

/// A cell's projector and loss.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Method {
    /// One head at a constant temperature.
    NtXent,
    /// Several, at a constant temperature.
    MultiHead,
    /// One, with the hidden width of all heads together: as many weights.
    WideHidden,
    /// The same with an embedding that is as many times as wide.
    Wide,
    /// Learned temperatures, with one head and with several.
    AmclOne,
    Amcl,
    /// The same with temperatures from the entrywise product of the embeddings.
    Hadamard,
    /// The linear form over the hardest negatives, with several heads and learned temperatures.
    Linear,
}

const METHODS: [(&str, Method); 8] = [
    ("nt-xent", Method::NtXent),
    ("multi-head", Method::MultiHead),
    ("wide-hidden", Method::WideHidden),
    ("wide", Method::Wide),
    ("amcl-one-head", Method::AmclOne),
    ("amcl", Method::Amcl),
    ("amcl-hadamard", Method::Hadamard),
    ("amcl-linear", Method::Linear),
];

/// What an arm's name says: `method/part`, then `,tau=` or `,heads=` where they are not the part's own.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Arm {
    method: Method,
    part: Part,
    tau: Option<f64>,
    heads: Option<i64>,
}

impl Arm {
    fn parse(arm: &str) -> Result<Self> {
        let mut fields = arm.split(['/', ',']);
        let name = fields.next().unwrap_or_default();
        let Some((_, method)) = METHODS.into_iter().find(|(n, _)| *n == name) else { bail!("unknown arm {arm}") };
        let mut parsed = Self { method, part: Part::Digits, tau: None, heads: None };
        for field in fields {
            match field.split_once('=') {
                None if field == "digits" => {}
                Some(("augmentations", n)) => parsed.part = Part::Color(n.parse()?),
                Some(("tau", tau)) => parsed.tau = Some(tau.parse()?),
                Some(("heads", heads)) => parsed.heads = Some(heads.parse()?),
                _ => bail!("unknown arm {arm}"),
            }
        }
        Ok(parsed)
    }

    fn loss(&self, config: &Config) -> Amcl {
        match self.method {
            Method::AmclOne | Method::Amcl | Method::Hadamard => Amcl { beta: config.beta, ..Default::default() },
            Method::Linear => Amcl { beta: config.beta, ..Amcl::linear(config.kappa) },
            // NT-Xent for every head.
            _ => Amcl { beta: 0.0, ..Default::default() },
        }
    }

    fn adaptive(&self) -> bool {
        matches!(self.method, Method::AmclOne | Method::Amcl | Method::Hadamard | Method::Linear)
    }
}

/// The arm of a method in the study, at a constant temperature.
fn at(method: &str, part: Part, tau: f64) -> String {
    format!("{method}/{part},tau={tau}")
}

const FEW: &str = "few-shot probe accuracy";
const PROBE: &str = "linear probe accuracy";
const KNN: &str = "k-NN accuracy";
const OVERLAP: &str = "overlap of similarities";
const POSITIVE: &str = "mean cosine of positives";
const NEGATIVE: &str = "mean cosine of negatives";
const RANK: &str = "effective rank of embeddings";
const TAU_POSITIVE: &str = "mean temperature of positives";
const TAU_NEGATIVE: &str = "mean temperature of negatives";
/// The constant temperature that was chosen on validation images.
const CHOSEN: &str = "chosen temperature";

impl Experiment for MultiHeadContrastive {
    fn slug(&self) -> &'static str {
        "multi-head-contrastive"
    }

    fn version(&self) -> u32 {
        1
    }

    fn claims(&self) -> Vec<Claim> {
        vec![
            Claim::new(
                "C1",
                "As a plug-in it improves contrastive learning",
                "ResNet-18, CIFAR-10: SimCLR 89.9 to 92.2, MoCo 90.4 to 92.9 (from a summary of the paper)",
                "Soft AMCL with several heads minus NT-Xent with the best constant temperature (study: by mean over seeds in the grid, for each probe; colour images: on validation images), paired by seed: the 95 % interval is above 0 in the few-shot or in the linear probe, in the study and on the colour images with all augmentations. Partly if in one of the two, or if the mean over both probes is above 0 in one.",
            ),
            Claim::new(
                "C2",
                "Gains grow with the number of augmentations",
                "about 1 point with one, 4.6 with five (from a summary of the paper)",
                "Linear probe on the colour images: the gain of AMCL over NT-Xent (its temperature chosen for each number of augmentations) with five augmentations minus that with one, paired by seed: scale full, the 95 % interval is above 0. Partly if the mean is, at scale small too.",
            ),
            Claim::new(
                "C3",
                "Several heads are the main factor; both together are best",
                "ablation: one head with adaptive temperature is about level with a fixed one (from a summary of the paper)",
                "Few-shot probe in the study, paired by seed, at the same constant temperature (the middle of the learned ones' range): several heads minus one has a 95 % interval above 0, and AMCL with one head differs from NT-Xent by less than 1 point in the mean; and AMCL with several heads minus several heads at the constant temperature has an interval above 0. Partly if only the first two hold.",
            ),
            Claim::new(
                "C4",
                "Several heads beat one wider head of as many weights",
                "1.6 to 2.5 points (from a summary of the paper)",
                "Few-shot probe in the study at the same constant temperature, paired by seed: several heads minus one head of as many times the hidden width (equal weights), or of as many times hidden width and embedding (more weights), the better of the two by mean: the 95 % interval is above 0. Other temperature methods are not run.",
            ),
            Claim::new(
                "C5",
                "Three to five heads are best",
                "ablation (from a summary of the paper)",
                "Scale full: the number of heads with the best mean linear probe at the constant temperature, of 1 to 8, is 3, 4 or 5. Not judged at scale small.",
            ),
            Claim::new(
                "C6",
                "Similarities of positives and negatives overlap less, with many augmentations",
                "histograms",
                "Colour images with all augmentations, the same pairs of views of test images for all arms, overlap coefficient of the histograms of positive and negative cosines, mean over heads: AMCL minus NT-Xent, paired by seed, has a 95 % interval below 0. Partly if the mean is below 0.",
            ),
        ]
    }

    fn datasets(&self) -> &'static [&'static str] {
        &["shapes", "cifar10", "cifar100"]
    }

    fn seeds(&self, scale: Scale) -> usize {
        match scale {
            Scale::Smoke => 1,
            Scale::Small => 4,
            Scale::Full => 3,
        }
    }

    fn config(&self, scale: Scale) -> Value {
        let color = Pretraining { hidden: 256, embedding: 128, ..Pretraining::color(128, 100) };
        let mut config = Config {
            digits: Setting {
                train: 1000,
                validation: 0,
                test: 797,
                side: 8,
                pretraining: Pretraining::digits(300),
                k: 20,
            },
            color: Setting { train: 5000, validation: 1000, test: 2000, side: 16, pretraining: color, k: 20 },
            study_color: false,
            color_seeds: 3,
            heads: 3,
            other_heads: vec![5],
            taus: vec![0.2, 0.55],
            tau: 0.55,
            color_taus: vec![0.1, 0.2, 0.5],
            augmentations: vec![1, 3, 5],
            low: 0.1,
            high: 1.0,
            beta: 0.01,
            kappa: 16,
            shots: 5,
            draws: 10,
        };
        match scale {
            Scale::Smoke => {
                for s in [&mut config.digits, &mut config.color] {
                    (s.train, s.test) = (400, 100);
                    (s.pretraining.training.steps, s.pretraining.training.batch) = (10, 32);
                }
                (config.color.validation, config.color.pretraining.training.steps) = (100, 3);
                // Enough for a hundred classes too.
                config.color.train = 1000;
                (config.draws, config.heads, config.other_heads) = (2, 2, vec![]);
                (config.color_taus, config.augmentations) = (vec![0.2, 0.5], vec![1, 5]);
            }
            Scale::Small => {}
            Scale::Full => {
                config.study_color = true;
                config.other_heads = vec![2, 4, 5, 8];
                config.taus = vec![0.1, 0.2, 0.5, 0.55];
                config.color_taus = config.taus.clone();
                config.augmentations = vec![1, 2, 3, 4, 5];
                let s = &mut config.color;
                (s.train, s.validation, s.test, s.side, s.k) = (45_000, 5000, 10_000, 32, 200);
                let p = &mut s.pretraining;
                (p.encoder, p.hidden, p.embedding, p.training.batch) = (Encoder::Resnet18, 512, 128, 512);
                // 200 epochs.
                p.training.steps = 17_600;
            }
        }
        json!(config)
    }

    fn cells(&self, plan: &Plan) -> Result<Vec<Cell>> {
        let config: Config = plan.config()?;
        config.check(&plan.dataset)?;
        let study = config.study();
        let mut arms: Vec<String> = ["nt-xent", "multi-head"]
            .into_iter()
            .flat_map(|method| config.taus.iter().map(move |tau| at(method, study, *tau)))
            .collect();
        arms.extend(config.other_heads.iter().map(|c| format!("{},heads={c}", at("multi-head", study, config.tau))));
        arms.extend(["wide-hidden", "wide"].map(|method| at(method, study, config.tau)));
        arms.extend(
            ["amcl-one-head", "amcl", "amcl-hadamard", "amcl-linear"].map(|method| format!("{method}/{study}")),
        );
        let mut cells = plan.cross(&arms);
        let mut color: Vec<String> = vec![];
        for n in &config.augmentations {
            color.extend(["nt-xent", "multi-head", "amcl"].map(|m| format!("{m}/{}", Part::Color(*n))));
        }
        color.retain(|arm| !arms.contains(arm));
        // What is compared with the study's arms needs all of its seeds.
        let most = if config.study_color { usize::MAX } else { config.color_seeds };
        let first: Vec<u64> = plan.seeds.iter().copied().take(most).collect();
        cells.extend(first.iter().flat_map(|s| color.iter().map(|arm| Cell::new(arm, *s))));
        Ok(cells)
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
        let scale = if plan.scale == Scale::Full {
            "Adam instead of SGD and 200 instead of 800 epochs."
        } else {
            "Small convolutional encoders and a few hundred steps of Adam instead of ResNet-18, SGD and 800 epochs; the study is on UCI digits with views by affine maps, gain, noise and cut-out, and colour images are pooled to 16x16 and run with fewer seeds. The temperatures among which NT-Xent's is chosen on colour images leave 0.55 out, the middle of the learned ones' range, near which those stay: there, a gain or an overlap may be that of the temperature."
        };
        format!(
            "{scale} Heads have batch norm in their hidden layer. The loss is the soft form, because the literal linear one (also run) collapses; the form of the temperature predictor and the values of the constants are ours, for the paper's were not to be had, and its figures are quoted from a summary. The augmentations are counted in the order crop, blur, grey, colour jitter, flip, and applied in SimCLR's; the kernel of the blur is three pixels wide. Few-shot accuracies are means over draws of a few labels of each class. Linear probes are ridge regressions in closed form. MoCo, SimSiam and Barlow Twins with several heads are in the library, but not run here."
        )
    }
}
