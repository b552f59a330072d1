//! Projection heads: are features weighted more equally below the head, when does that help, and does it help in images?
//!
//! Part (a) trains linear networks on the feature model, (b) units with two non-linearities, (c) encoders on images with digits
//! that one view may drop, (d) encoders on super-classes, judged on the classes within them. All arms of a part and seed start
//! from the same encoder and see the same images in the same order.

mod arm;
mod images;
mod judge;
mod models;
mod train;

use crate::experiment::{Cell, Claim, Experiment, Plan, Scale, check_list};
use crate::plot::Plot;
use crate::pretrain::Training;
use crate::results::Results;
use crate::runner::Context;
use crate::verdict::Finding;
use crate::vision::{Encoder, check_side};
use anyhow::{Result, bail, ensure};
use arm::{Arm, Head, Supervision};
use autodidact_core::error::check_range;
use autodidact_ssl::projection_head::{DiagonalNet, FeatureTask};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The experiment.
pub struct ProjectionHeads;

/// Part (a), by the population's gradient.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Linear {
    phi: Vec<f64>,
    alpha: Vec<f64>,
    width: i64,
    /// Standard deviation of the initial weights.
    std: f64,
    lr: f64,
    steps: usize,
}

/// Part (a), on samples of random tasks.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Sampled {
    /// Number of features; `phi` is uniform in `[0.5, 2]`, `alpha` in `[0, 0.9]`, downstream magnitudes are 1.
    features: usize,
    width: i64,
    std: f64,
    batch: usize,
    steps: usize,
    lr: f64,
    /// Of the second arm; the first has none.
    weight_decay: f64,
    /// Labels of the few-shot probes.
    shots: Vec<usize>,
    /// Draws of labelled samples for each number.
    draws: usize,
    /// L2 penalties among which validation chooses.
    penalties: Vec<f64>,
}

/// Part (b).
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Diagonal {
    phi: Vec<f64>,
    alpha: Vec<f64>,
    b1: f64,
    b2: f64,
    /// Initial `u` in units of `sqrt(phi)`; the upper weights balance it.
    start: f64,
    lr: f64,
    steps: usize,
}

/// Parts (c) and (d): encoders on images.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Setting {
    encoder: Encoder,
    /// Side to which images of 32 pixels are average-pooled.
    side: i64,
    /// Training images.
    train: usize,
    /// Of them labelled for the probes.
    labels: usize,
    /// Test images.
    test: usize,
    #[serde(flatten)]
    training: Training,
}

impl Setting {
    fn check(&self, name: &str) -> Result<()> {
        check_side(&format!("{name}.side"), self.side, 32)?;
        check_range(&format!("{name}.train"), self.train as f64, 20.0..)?;
        check_range(&format!("{name}.labels"), self.labels as f64, 20.0..=self.train as f64)?;
        check_range(&format!("{name}.test"), self.test as f64, 1.0..)?;
        self.training.check(name, self.train)
    }
}

/// Hyper-parameters.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Config {
    linear: Linear,
    sampled: Sampled,
    diagonal: Diagonal,
    digits: Setting,
    coarse: Setting,
    /// Width of the MLP head's embedding in contrastive training.
    embedding: i64,
    /// Temperature of NT-Xent and SupCon.
    tau: f64,
    /// Probabilities with which one view shows no digit; claims compare the first and the last.
    p_drop: Vec<f64>,
    /// That at which heads are compared.
    focus: f64,
    /// Strengths of the digits; claims are judged at the first.
    strengths: Vec<f64>,
    /// Whether the heads beside the MLP are run for every `p_drop` and in part (d) too.
    all_heads: bool,
    /// Parts (c) and (d) are run for so many of the seeds, the first ones.
    image_seeds: usize,
}

impl Config {
    fn check(&self) -> Result<()> {
        let l = &self.linear;
        FeatureTask::new(l.phi.clone(), l.alpha.clone(), vec![1.0; l.phi.len()])?;
        // A feature that is always disrupted has no weight to be compared with.
        check_list("linear.alpha", &l.alpha, 0.0..1.0)?;
        check_range("linear.width", l.width as f64, l.phi.len() as f64..)?;
        check_range("linear.std", l.std, f64::MIN_POSITIVE..)?;
        check_range("linear.lr", l.lr, f64::MIN_POSITIVE..)?;
        check_range("linear.steps", l.steps as f64, 1.0..)?;
        let s = &self.sampled;
        check_range("sampled.features", s.features as f64, 2.0..)?;
        check_range("sampled.width", s.width as f64, s.features as f64..)?;
        check_range("sampled.std", s.std, f64::MIN_POSITIVE..)?;
        check_range("sampled.batch", s.batch as f64, 2.0..)?;
        check_range("sampled.steps", s.steps as f64, 1.0..)?;
        check_range("sampled.lr", s.lr, f64::MIN_POSITIVE..)?;
        check_range("sampled.weight_decay", s.weight_decay, f64::MIN_POSITIVE..)?;
        check_list("sampled.shots", &s.shots.iter().map(|n| *n as f64).collect::<Vec<_>>(), 2.0..)?;
        check_range("sampled.draws", s.draws as f64, 1.0..)?;
        check_list("sampled.penalties", &s.penalties, f64::MIN_POSITIVE..)?;
        let d = &self.diagonal;
        check_list("diagonal.phi", &d.phi, f64::MIN_POSITIVE..)?;
        check_list("diagonal.alpha", &d.alpha, 0.0..=1.0)?;
        ensure!(d.alpha.contains(&1.0), "diagonal.alpha: expected 1 among its values, got {:?}", d.alpha);
        DiagonalNet::new(vec![], vec![], d.b1, d.b2)?;
        check_range("diagonal.start", d.start, f64::MIN_POSITIVE..)?;
        check_range("diagonal.lr", d.lr, f64::MIN_POSITIVE..)?;
        check_range("diagonal.steps", d.steps as f64, 1.0..)?;
        self.digits.check("digits")?;
        self.coarse.check("coarse")?;
        check_range("embedding", self.embedding as f64, 1.0..)?;
        check_range("tau", self.tau, f64::MIN_POSITIVE..)?;
        check_range("image_seeds", self.image_seeds as f64, 1.0..)?;
        check_list("p_drop", &self.p_drop, 0.0..=1.0)?;
        ensure!(self.p_drop.is_sorted_by(|a, b| a < b), "p_drop: expected ascending values, got {:?}", self.p_drop);
        ensure!(
            self.p_drop.contains(&self.focus),
            "focus: expected one of p_drop {:?}, got {}",
            self.p_drop,
            self.focus
        );
        check_list("strengths", &self.strengths, f64::MIN_POSITIVE..=1.0)
    }

    /// For how many of the seeds an arm is run.
    fn repetitions(&self, arm: &Arm) -> usize {
        match arm {
            Arm::Linear | Arm::Sampled { .. } => usize::MAX,
            Arm::Diagonal => 1,
            Arm::Digits { .. } | Arm::Coarse { .. } => self.image_seeds,
        }
    }

    /// All arms.
    fn arms(&self) -> Vec<Arm> {
        let mut arms = vec![Arm::Diagonal, Arm::Linear, Arm::Sampled { weight_decay: 0.0 }];
        arms.push(Arm::Sampled { weight_decay: self.sampled.weight_decay });
        for &strength in &self.strengths {
            for head in Head::ALL {
                let p = if head == Head::Mlp || self.all_heads {
                    &self.p_drop[..]
                } else {
                    std::slice::from_ref(&self.focus)
                };
                arms.extend(p.iter().map(|&p| Arm::Digits { head, p, strength }));
            }
        }
        let heads = if self.all_heads { &Head::ALL[..] } else { &[Head::Mlp] };
        arms.extend(
            Supervision::ALL.iter().flat_map(|&loss| heads.iter().map(move |&head| Arm::Coarse { loss, head })),
        );
        arms
    }
}

/// Largest relative error of the weights of features against the closed form.
const WEIGHT_ERROR: &str = "relative error of weights";
/// Coefficient of variation of the weights below and above the head.
const VARIATION: [&str; 2] = ["variation of weights, pre", "variation of weights, post"];
/// Percent of test samples classified rightly by a probe below and above the head.
const ACCURACY: [&str; 2] = ["accuracy, pre", "accuracy, post"];
/// Mean over features of the absolute difference of few-shot accuracies below and above.
const GAP: &str = "absolute accuracy gap";
/// The layers' names.
const LAYERS: [&str; 2] = ["pre", "post"];

impl Experiment for ProjectionHeads {
    fn slug(&self) -> &'static str {
        "projection-head"
    }

    fn version(&self) -> u32 {
        1
    }

    fn claims(&self) -> Vec<Claim> {
        vec![
            Claim::new(
                "C1",
                "Linear contrastive networks weight features more equally below the head",
                "theorem; not at hand",
                "By the population's gradient, the weights of all features below and above the head are within 2 % of the closed form in every seed; and in the sampled run without weight decay their coefficient of variation below is less than above in every seed.",
            ),
            Claim::new(
                "C2",
                "When the representation below the head is better, and when not",
                "theorem; not at hand",
                "Sampled run without weight decay: among the pairs of feature and seed whose difficulties by the closed form differ by a factor above e^0.5, the sign of the few-shot accuracy below minus above is that of the difficulty above minus below for at least 80 %. Partly from 65 % on.",
            ),
            Claim::new(
                "C3",
                "With non-linearities, features that are absent above stay below",
                "theorem; not at hand",
                "For every magnitude phi, the unit whose feature is always disrupted ends with z < 0.02 and u > 0.9 sqrt(phi b2).",
            ),
            Claim::new(
                "C4",
                "Images with digits that one view drops: digits are read off better below the head, the more so the more often they are dropped",
                "figure (MNIST on CIFAR-10); not at hand",
                "MLP head, paired by seed: digit accuracy below minus above has a 95 % interval above 0 at the focal probability (0.75), and its mean at the largest probability is at least that at the least. Partly if only the first.",
            ),
            Claim::new(
                "C5",
                "The same holds for supervised and supervised contrastive training on coarser labels",
                "figures (CIFAR-100 coarse to fine, UrbanCars, ImageNet); not at hand",
                "Super-classes, MLP head, paired by seed: fine accuracy below minus above has a 95 % interval above 0 for cross entropy and for SupCon. Partly if for one.",
            ),
            Claim::new(
                "C6",
                "A fixed head without parameters gives comparable gains",
                "tables; not at hand",
                "Digits at the focal probability, accuracies below the head, means over seeds: fixed head minus no head above 0, and the fixed head at most 2 points below the MLP head. Partly if only the first.",
            ),
            Claim::new(
                "C7",
                "With weight decay the advantage shrinks",
                "remark; not at hand",
                "Sampled run: mean over features of the absolute difference of the accuracies below and above is smaller with weight decay than without (mean over seeds).",
            ),
        ]
    }

    fn datasets(&self) -> &'static [&'static str] {
        &["digits", "cifar10", "cifar100"]
    }

    fn further_datasets(&self, dataset: &str) -> &'static [&'static str] {
        if dataset == "digits" { &[] } else { &["mnist"] }
    }

    fn seeds(&self, scale: Scale) -> usize {
        match scale {
            Scale::Smoke => 1,
            Scale::Small => 5,
            Scale::Full => 3,
        }
    }

    fn config(&self, scale: Scale) -> Value {
        let training = Training { batch: 128, steps: 250, lr: 1e-3, weight_decay: 1e-6 };
        let digits = Setting {
            encoder: Encoder::Pooled,
            side: 16,
            train: 6000,
            labels: 2000,
            test: 2000,
            training: training.clone(),
        };
        let coarse = Setting { training: Training { steps: 400, ..training }, ..digits.clone() };
        let mut config = Config {
            linear: Linear {
                phi: vec![2.0, 1.0, 1.0, 0.5],
                alpha: vec![0.0, 0.0, 0.5, 0.2],
                width: 6,
                std: 0.05,
                lr: 0.005,
                steps: 200_000,
            },
            sampled: Sampled {
                features: 16,
                width: 24,
                std: 0.05,
                batch: 512,
                steps: 5000,
                lr: 1e-3,
                weight_decay: 1e-2,
                shots: vec![8, 16, 32, 64],
                draws: 2,
                penalties: vec![1e-3, 1e-2, 1e-1],
            },
            diagonal: Diagonal {
                phi: vec![0.5, 1.0, 2.0],
                alpha: vec![0.0, 0.5, 0.9, 1.0],
                b1: 0.1,
                b2: 0.25,
                start: 1.1,
                lr: 0.01,
                steps: 200_000,
            },
            digits,
            coarse,
            embedding: 64,
            tau: 0.5,
            p_drop: vec![0.0, 0.75, 0.95],
            focus: 0.75,
            strengths: vec![0.7],
            all_heads: false,
            image_seeds: 3,
        };
        match scale {
            Scale::Smoke => {
                (config.linear.steps, config.diagonal.steps) = (2000, 2000);
                config.sampled = Sampled {
                    features: 4,
                    width: 6,
                    steps: 200,
                    batch: 64,
                    shots: vec![16],
                    draws: 1,
                    ..config.sampled
                };
                for s in [&mut config.digits, &mut config.coarse] {
                    (s.train, s.labels, s.test) = (200, 100, 100);
                    (s.training.batch, s.training.steps) = (32, 5);
                }
                config.digits.training.steps = 20;
                config.p_drop = vec![0.0, 0.75];
            }
            Scale::Small => {}
            Scale::Full => {
                let epochs = |n: usize| n * 50_000 / 512;
                for s in [&mut config.digits, &mut config.coarse] {
                    let training = Training { batch: 512, steps: epochs(400), ..s.training.clone() };
                    *s = Setting {
                        encoder: Encoder::Resnet18,
                        side: 32,
                        train: 50_000,
                        labels: 50_000,
                        test: 10_000,
                        training,
                    };
                }
                config.embedding = 128;
                config.p_drop = vec![0.0, 0.25, 0.5, 0.75, 0.95, 1.0];
                config.strengths = vec![0.7, 0.3, 0.5, 1.0];
                config.all_heads = true;
            }
        }
        json!(config)
    }

    fn cells(&self, plan: &Plan) -> Result<Vec<Cell>> {
        let config: Config = plan.config()?;
        config.check()?;
        let arms = config.arms();
        let mut cells = vec![];
        for (i, seed) in plan.seeds.iter().enumerate() {
            let run = arms.iter().filter(|arm| i < config.repetitions(arm));
            cells.extend(run.map(|arm| Cell::new(arm.to_string(), *seed)));
        }
        Ok(cells)
    }

    fn run(&self, cell: &Cell, context: &mut Context<'_>) -> Result<()> {
        let config: Config = context.plan.config()?;
        let Some(arm) = config.arms().into_iter().find(|arm| arm.to_string() == cell.arm) else {
            bail!("unknown arm {}", cell.arm);
        };
        match arm {
            Arm::Linear => models::linear(&config.linear, context),
            Arm::Sampled { weight_decay } => models::sampled(&config.sampled, weight_decay, context),
            Arm::Diagonal => models::diagonal(&config.diagonal, context),
            Arm::Digits { head, p, strength } => train::digits(&config, head, p, strength, context),
            Arm::Coarse { loss, head } => train::coarse(&config, loss, head, context),
        }
    }

    fn judge(&self, results: &Results) -> Result<Vec<Finding>> {
        judge::findings(results)
    }

    fn plots(&self, results: &Results) -> Result<Vec<Plot>> {
        judge::plots(results)
    }

    fn note(&self, plan: &Plan) -> String {
        let images = match plan.dataset.as_str() {
            "digits" => {
                "Without downloads, part (c) puts UCI digits, enlarged twice, on random colour textures, and part (d) takes procedural shapes, whose super-classes are their two textures."
            }
            "cifar10" => {
                "Part (c) puts MNIST digits of 16x16 pixels on CIFAR-10; the super-classes of part (d) are vehicles and animals."
            }
            _ => "Part (c) puts MNIST digits of 16x16 pixels on CIFAR-100; part (d) has its 20 super-classes.",
        };
        let small = if plan.scale == Scale::Full {
            ""
        } else {
            " Encoders are four convolutions of up to 256 channels on images pooled to 16x16, trained for a few hundred steps, and the heads other than the MLP are run at the focal probability alone; the paper trains ResNet-18 for 400 epochs. The embedding of the MLP head in contrastive training is narrower than the representation. Digit accuracies of the contrastive part are low (chance is 10 %); that the backgrounds alone solve its task in so few steps without crops is our guess."
        };
        format!(
            "{images}{small} Networks on the population's loss take plain gradient descent; everything else is trained by Adam, with weight decay as an L2 penalty. Probes of images are ridge regressions on standardised features, below and above the head alike as they are or with rows of length 1, whichever with the best penalty is best on held-out labelled images. Few-shot probes are logistic regressions on features scaled by one number, with penalties chosen likewise. Robustness under group shift (Waterbirds, UrbanCars, ImageNet variants) is not run. Models are repeated for all seeds, encoders for the first ones only. The feature model and its limits are a derivation for the mechanism that the paper describes; the paper's own theorems and tables were not at hand."
        )
    }
}
