//! Smooth trajectories: do smoother experts, and a steadier matching with them, give better synthetic images?
//!
//! Experts of three kinds (plain, strong, smooth) are trained once per seed. Every method then learns as few images per class by
//! the same number of outer steps, once for each of the same number of image learning rates; images held out of the training set
//! choose the rate, test images judge. What is learned is evaluated by training fresh networks on it alone.

mod distill;
mod judge;

use crate::experiment::{Cell, Claim, Experiment, Plan, Scale, check_list};
use crate::plot::Plot;
use crate::results::Results;
use crate::runner::Context;
use crate::verdict::Finding;
use anyhow::{Result, bail};
use autodidact_core::error::check_range;
use autodidact_distill::distilled_data::{GradientPenalty, InnerLoop, PenaltyNorm, Ramp, Recipe};
use autodidact_distill::smooth_trajectories::{Intermediate, TrajectoryMatching, smooth_expert, strong_expert};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The experiment.
pub struct SmoothTrajectories;

/// One data set.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Setting {
    /// Images are average-pooled to this side.
    side: i64,
    /// Filters and blocks of the ConvNet.
    width: i64,
    depth: usize,
    /// Training images at most, of which some are held out to choose learning rates, and test images.
    images: usize,
    held_out: usize,
    test: usize,
    /// Synthetic images per class.
    per_class: usize,
    /// Experts of each kind and seed, and how they are trained.
    experts: usize,
    plain: Recipe,
    strong: Recipe,
    smooth: Recipe,
    /// The whole method; trajectory matching is what is left without its additions.
    matching: TrajectoryMatching,
    iterations: usize,
    /// Learning rates of the images to choose from: of trajectory matching, of gradient and of distribution matching.
    image_lrs: Vec<f64>,
    gradient_lrs: Vec<f64>,
    distribution_lrs: Vec<f64>,
    /// The student's first step without momentum (with momentum `m`, times `1 - m`), and the rate at which it is learned.
    step_size: f64,
    step_size_lr: f64,
    /// Real images per class in a step of gradient or distribution matching.
    real_batch: usize,
    /// How fresh networks are trained on synthetic images, how many, and at which rates if the images come without a step size.
    evaluation: Recipe,
    networks: usize,
    evaluation_lrs: Vec<f64>,
    /// Hidden units of the perceptron that judges transfer to another architecture.
    hidden: i64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Config {
    digits: Setting,
    color: Setting,
}

/// Kinds of expert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Strong,
    Smooth,
}

impl Kind {
    const ALL: [Self; 3] = [Kind::Plain, Kind::Strong, Kind::Smooth];

    fn name(self) -> &'static str {
        match self {
            Kind::Plain => "plain",
            Kind::Strong => "strong",
            Kind::Smooth => "smooth",
        }
    }

    fn arm(self) -> String {
        format!("expert/{}", self.name())
    }

    fn recipe(self, setting: &Setting) -> &Recipe {
        match self {
            Kind::Plain => &setting.plain,
            Kind::Strong => &setting.strong,
            Kind::Smooth => &setting.smooth,
        }
    }
}

/// How synthetic images come about.
#[derive(Debug, Clone, PartialEq)]
enum Method {
    /// Real images at random.
    Random,
    /// Real images nearest to the centres of clusters of pixels.
    KMeans,
    Gradient,
    Distribution,
    Trajectory {
        expert: Kind,
        matching: TrajectoryMatching,
        representative: bool,
    },
}

const RANDOM: &str = "random";
const KMEANS: &str = "k-means";
const GRADIENT: &str = "gradient-matching";
const DISTRIBUTION: &str = "distribution-matching";
const MTT: &str = "mtt";
const STRONG: &str = "strong";
const SMOOTH: &str = "smooth";
const AST: &str = "ast";
/// All of the matching, on plain experts.
const PLAIN_AST: &str = "plain/ast-matching";
/// The components, each added alone to [`SMOOTH`].
const COMPONENTS: [&str; 4] = ["smooth/representative", "smooth/balanced", "smooth/intermediate", "smooth/perturbed"];

const HELD_OUT: &str = "held-out accuracy";
const ACCURACY: &str = "test accuracy";
/// Of a perceptron trained on the images.
const TRANSFER: &str = "perceptron's test accuracy";
const LOSS: &str = "matching loss";
const STEP_SIZE: &str = "step size";
const DIVERGED: &str = "diverged";
/// Largest squared change of an epoch, mean over experts.
const CHANGE: &str = "largest change of an epoch";
const COSINE: &str = "cosine of successive changes";

impl Setting {
    fn methods(&self) -> Vec<(&'static str, Method)> {
        let full = self.matching.clone();
        let mtt = TrajectoryMatching {
            inner: InnerLoop { momentum: 0.0, ..full.inner },
            balance: false,
            intermediate: Intermediate::Off,
            perturbation: 0.0,
            ..full.clone()
        };
        let of = |expert, matching, representative| Method::Trajectory { expert, matching, representative };
        let [representative, balanced, intermediate, perturbed] = COMPONENTS;
        vec![
            (RANDOM, Method::Random),
            (KMEANS, Method::KMeans),
            (GRADIENT, Method::Gradient),
            (DISTRIBUTION, Method::Distribution),
            (MTT, of(Kind::Plain, mtt.clone(), false)),
            (STRONG, of(Kind::Strong, mtt.clone(), false)),
            (SMOOTH, of(Kind::Smooth, mtt.clone(), false)),
            (representative, of(Kind::Smooth, mtt.clone(), true)),
            (balanced, of(Kind::Smooth, TrajectoryMatching { balance: true, ..mtt.clone() }, false)),
            (
                intermediate,
                of(Kind::Smooth, TrajectoryMatching { intermediate: full.intermediate, ..mtt.clone() }, false),
            ),
            (perturbed, of(Kind::Smooth, TrajectoryMatching { perturbation: full.perturbation, ..mtt }, false)),
            (AST, of(Kind::Smooth, full.clone(), true)),
            (PLAIN_AST, of(Kind::Plain, full, true)),
        ]
    }

    /// The learning rates among which a method's is chosen: of its images, or of the networks trained on real ones.
    fn rates(&self, method: &Method) -> &[f64] {
        match method {
            Method::Random | Method::KMeans => &self.evaluation_lrs,
            Method::Gradient => &self.gradient_lrs,
            Method::Distribution => &self.distribution_lrs,
            Method::Trajectory { .. } => &self.image_lrs,
        }
    }

    /// Every method at every rate.
    fn arms(&self) -> Vec<(String, Method, f64)> {
        let of = |(name, method): (&str, Method)| {
            let rates = self.rates(&method).to_vec();
            let name = name.to_owned();
            rates.into_iter().map(move |lr| (rate_arm(&name, lr), method.clone(), lr)).collect::<Vec<_>>()
        };
        self.methods().into_iter().flat_map(of).collect()
    }

    fn check(&self, name: &str, image: i64) -> Result<()> {
        let key = |field: &str| format!("{name}.{field}");
        crate::vision::check_side(&key("side"), self.side, image)?;
        for (field, value) in [
            ("width", self.width as usize),
            ("depth", self.depth),
            ("held_out", self.held_out),
            ("test", self.test),
            ("per_class", self.per_class),
            ("experts", self.experts),
            ("iterations", self.iterations),
            ("real_batch", self.real_batch),
            ("networks", self.networks),
            ("hidden", self.hidden as usize),
        ] {
            check_range(&key(field), value as f64, 1.0..1e9)?;
        }
        check_range(&key("images"), self.images as f64, (self.held_out + 10 * self.per_class) as f64..)?;
        for recipe in [&self.plain, &self.strong, &self.smooth, &self.evaluation] {
            recipe.check()?;
        }
        let [epochs, strong, smooth] = Kind::ALL.map(|k| k.recipe(self).epochs);
        if strong != epochs || smooth != epochs {
            bail!("{}: experts of all kinds need the same epochs, got {epochs}, {strong}, {smooth}", key("epochs"));
        }
        self.matching.check(epochs)?;
        for (field, list) in [
            ("image_lrs", &self.image_lrs),
            ("gradient_lrs", &self.gradient_lrs),
            ("distribution_lrs", &self.distribution_lrs),
            ("evaluation_lrs", &self.evaluation_lrs),
        ] {
            check_list(&key(field), list, f64::MIN_POSITIVE..)?;
        }
        check_range(&key("step_size"), self.step_size, LEAST_STEP..)?;
        Ok(check_range(&key("step_size_lr"), self.step_size_lr, 0.0..)?)
    }
}

/// Learned step sizes stay above this.
const LEAST_STEP: f64 = 1e-3;

fn rate_arm(name: &str, lr: f64) -> String {
    format!("{name}/lr={lr}")
}

impl Config {
    fn of(&self, dataset: &str) -> &Setting {
        if dataset == "digits" { &self.digits } else { &self.color }
    }
}

impl Experiment for SmoothTrajectories {
    fn slug(&self) -> &'static str {
        "smooth-trajectories"
    }

    fn version(&self) -> u32 {
        1
    }

    fn claims(&self) -> Vec<Claim> {
        vec![
            Claim::new(
                "C1",
                "Stronger experts alone do not improve trajectory matching; smoothing them does",
                "figures not verified",
                "Test accuracy, paired by seed, image learning rates chosen on held-out images: the 95 % interval of matching with smooth minus with strong experts is above 0, and that of strong minus plain is not. Partly if the first holds without the second.",
            ),
            Claim::new(
                "C2",
                "The ramped loss and the gradient penalty slow the parameters without hurting the expert's accuracy",
                "figures not verified",
                "Largest squared change of an epoch, mean over experts: of smooth at most 0.7 of strong in every seed; and mean test accuracy of smooth at least that of strong minus one point. Partly if only one of the two holds.",
            ),
            Claim::new(
                "C3",
                "The whole method beats earlier ones",
                "CIFAR-10 at 1, 10, 50 images per class: distribution matching 26.0, 48.9, 63.0; trajectory matching 46.2, 65.4, 71.6; the method's own not verified",
                "Test accuracy, the whole method minus trajectory matching, paired by seed: the 95 % interval is above 0 (at full: the mean is at least 0.5 points). Partly if only the mean is above 0.",
            ),
            Claim::new(
                "C4",
                "Each component adds accuracy: representative images, balanced loss, intermediate epochs, perturbation",
                "figures not verified",
                "Mean test accuracy of matching with smooth experts and one component minus without: above 0 for three of the four or more. Partly if for two.",
            ),
            Claim::new(
                "C5",
                "What is learned transfers better to another architecture",
                "figures not verified",
                "Test accuracy of a perceptron trained on the images (its learning rate chosen on held-out images), the whole method minus trajectory matching, paired by seed: the 95 % interval is above 0. Partly if only the mean is.",
            ),
        ]
    }

    fn datasets(&self) -> &'static [&'static str] {
        &["digits", "cifar10"]
    }

    fn config(&self, scale: Scale) -> Value {
        let penalty = GradientPenalty { weight: 0.1, norm: PenaltyNorm::Image, ..GradientPenalty::default() };
        let expert = |recipe: Recipe, epochs, batch, lr| Recipe { epochs, batch, lr, augment: None, ..recipe };
        let strong = expert(strong_expert(), 15, 64, 0.01);
        let evaluation = Recipe {
            epochs: 300,
            lr: 0.0,
            momentum: 0.9,
            weight_decay: 5e-4,
            decay: 0.5,
            augment: None,
            ..Recipe::default()
        };
        let matching = TrajectoryMatching {
            inner: InnerLoop { steps: 15, momentum: 0.9, kept: None },
            expert_epochs: 3,
            max_start: 8,
            perturbation: 0.1,
            augment: None,
            ..TrajectoryMatching::default()
        };
        let digits = Setting {
            side: 8,
            width: 16,
            depth: 2,
            images: 1297,
            held_out: 100,
            test: 500,
            per_class: 1,
            experts: 8,
            plain: expert(Recipe::default(), 15, 64, 0.03),
            smooth: Recipe { ramp: Some(Ramp::default()), penalty: Some(penalty), ..strong.clone() },
            strong,
            matching,
            iterations: 200,
            image_lrs: vec![3.0, 10.0, 30.0],
            gradient_lrs: vec![0.1, 1.0, 10.0],
            distribution_lrs: vec![0.1, 1.0, 10.0],
            step_size: 0.05,
            step_size_lr: 1e-5,
            real_batch: 32,
            evaluation,
            networks: 3,
            evaluation_lrs: vec![0.005, 0.02, 0.08],
            hidden: 64,
        };
        let color = Setting { side: 16, width: 32, depth: 3, images: 5100, test: 2000, ..digits.clone() };
        let mut config = Config { digits, color };
        match scale {
            Scale::Smoke => {
                for s in [&mut config.digits, &mut config.color] {
                    (s.images, s.test, s.experts, s.iterations) = (300, 100, 2, 3);
                    for recipe in [&mut s.plain, &mut s.strong, &mut s.smooth] {
                        recipe.epochs = 3;
                    }
                    (s.matching.expert_epochs, s.matching.max_start, s.matching.inner.steps) = (2, 2, 4);
                    (s.evaluation.epochs, s.networks, s.real_batch) = (10, 1, 8);
                    for rates in [&mut s.image_lrs, &mut s.gradient_lrs, &mut s.distribution_lrs, &mut s.evaluation_lrs]
                    {
                        rates.truncate(1);
                    }
                }
            }
            Scale::Small => {}
            Scale::Full => {
                let paper = TrajectoryMatching::default();
                let s = &mut config.color;
                let augmented = |recipe: Recipe| Recipe { epochs: 50, ..recipe };
                *s = Setting {
                    side: 32,
                    width: 128,
                    images: 50_000,
                    held_out: 2000,
                    test: 10_000,
                    per_class: 10,
                    experts: 30,
                    plain: augmented(Recipe::default()),
                    strong: augmented(strong_expert()),
                    smooth: augmented(smooth_expert()),
                    iterations: 5000,
                    image_lrs: vec![30.0, 100.0, 1000.0],
                    step_size: 0.01,
                    step_size_lr: 1e-5,
                    real_batch: 256,
                    evaluation: Recipe { epochs: 1000, augment: paper.augment.clone(), ..s.evaluation.clone() },
                    networks: 5,
                    hidden: 512,
                    matching: paper,
                    ..s.clone()
                };
            }
        }
        json!(config)
    }

    fn cells(&self, plan: &Plan) -> Result<Vec<Cell>> {
        let config: Config = plan.config()?;
        config.digits.check("digits", 8)?;
        config.color.check("color", 32)?;
        let setting = config.of(&plan.dataset);
        let mut arms: Vec<String> = Kind::ALL.iter().map(|k| k.arm()).collect();
        arms.extend(setting.arms().into_iter().map(|(name, ..)| name));
        Ok(plan.cross(&arms))
    }

    fn run(&self, cell: &Cell, context: &mut Context<'_>) -> Result<()> {
        let config: Config = context.plan.config()?;
        let setting = config.of(&context.plan.dataset);
        if let Some(kind) = Kind::ALL.into_iter().find(|k| k.arm() == cell.arm) {
            return distill::expert_cell(kind, setting, context);
        }
        match setting.arms().into_iter().find(|(name, ..)| *name == cell.arm) {
            Some((_, method, lr)) => distill::cell(&method, lr, setting, context),
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
        let config = plan.config::<Config>().ok();
        let setting = config.as_ref().map(|c| c.of(&plan.dataset));
        let augmented = setting.is_some_and(|s| s.matching.augment.is_some());
        let size = match plan.scale {
            Scale::Full => "The penalty is per pixel, as in the published code. Images are not whitened.".to_owned(),
            _ => "Networks are narrow and images small; the gradient penalty is per image with weight 0.1 and the perturbation a tenth of the published one, which is relatively stronger in narrow layers.".to_owned(),
        };
        let augment = if augmented { "" } else { " Nothing is augmented." };
        format!(
            "{size}{augment} Each method's learning rate (of the images; of the evaluation for real images) is the one of {} with the best mean accuracy on images held out of training; all other settings are shared. The student's first step is {} without momentum, and smaller by the factor that momentum adds with it. Gradient and distribution matching take a fresh network for every step. A run whose loss is not finite counts as chance. Accuracies are those of the last epoch.",
            setting.map_or(3, |s| s.image_lrs.len()),
            setting.map_or(0.0, |s| s.step_size),
        )
    }
}
