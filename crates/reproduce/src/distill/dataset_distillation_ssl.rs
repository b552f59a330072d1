//! Self-supervised dataset distillation: do a few images with learned targets, distilled from unlabelled data, pre-train networks
//! that transfer, and is it the distillation that does it?
//!
//! A target network is trained once by Barlow Twins on the source images without labels. Every arm then gives a small set: real
//! images (chosen at random or by k-means) with the target network's representations, the same after distillation, or images with
//! labels from supervised distillation. A network is pre-trained on the set alone and judged on two target tasks with few labels,
//! by a ridge probe and by fine-tuning.

mod bias;
mod judge;
mod sets;
mod transfer;

use crate::experiment::{Cell, Claim, Experiment, Plan, Scale};
use crate::plot::Plot;
use crate::pretrain::Pretraining;
use crate::results::Results;
use crate::runner::Context;
use crate::verdict::Finding;
use anyhow::{Result, bail, ensure};
use autodidact_core::error::check_range;
use autodidact_distill::dataset_distillation_ssl::{InnerTraining, KrrStConfig, PooledConvNet};
use autodidact_distill::distilled_data::{InnerLoop, Recipe};
use autodidact_distill::smooth_trajectories::TrajectoryMatching;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The experiment.
pub struct DatasetDistillationSsl;

/// Distillation with labels, what the method is compared with.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Supervised {
    /// Filters and blocks of the ConvNet whose gradients, features or trajectories are matched.
    width: i64,
    depth: usize,
    /// Real images per class in a step of gradient or distribution matching.
    batch: usize,
    /// Outer steps and learning rates of the images.
    gradient: (usize, f64),
    distribution: (usize, f64),
    trajectory: (usize, f64),
    /// Experts, how they are trained, and the matching of their trajectories, with the student's step size.
    experts: usize,
    expert: Recipe,
    matching: TrajectoryMatching,
    step_size: f64,
}

/// The unrolled self-supervised inner problem whose gradient is biased.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Bias {
    /// Synthetic images, sampled augmentations, real images of the outer objective.
    images: i64,
    samples: usize,
    outer: i64,
    /// The inner loop.
    inner: InnerLoop,
    step_size: f64,
}

/// One source.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Setting {
    /// Images are average-pooled to this side.
    side: i64,
    /// Unlabelled source images, and others on which the outer loss is looked at.
    images: usize,
    held_out: usize,
    /// The target network.
    target: Pretraining,
    /// Widths of the inner networks' blocks.
    widths: Vec<i64>,
    /// Synthetic images, and the smaller numbers that are tried too.
    size: usize,
    smaller: Vec<usize>,
    krr: KrrStConfig,
    /// How networks are trained on representations, and at which rate on labels: the mean over a representation's many features
    /// makes gradients small.
    inner: InnerTraining,
    label_lr: f64,
    /// Real images in an outer step.
    batch: usize,
    supervised: Supervised,
    bias: Bias,
    /// Epochs on the set (of one batch).
    epochs: usize,
    /// Labelled and test images of a target task.
    labelled: usize,
    test: usize,
    /// Fine-tuning: steps, batch, learning rate.
    steps: usize,
    fine_batch: usize,
    fine_lr: f64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Config {
    digits: Setting,
    color: Setting,
}

/// What a network is pre-trained on.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Method {
    /// Nothing.
    None,
    /// Real images with the target network's representations, at random or by k-means on them.
    Features {
        kmeans: bool,
    },
    /// Real images with labels.
    Labels,
    /// Kernel ridge regression on labels.
    Frepo,
    KrrSt {
        size: usize,
        learn_targets: bool,
        models: usize,
    },
    Gradient,
    Distribution,
    Trajectory,
}

const BIAS: &str = "bias";
const NONE: &str = "none";
const RANDOM: &str = "real images";
const KMEANS: &str = "k-means images";
const LABELS: &str = "real images/labels";
const FREPO: &str = "frepo";
const KRR: &str = "krr-st";
const FIXED: &str = "krr-st/fixed-targets";
const ONE: &str = "krr-st/one-model";
const DSA: &str = "dsa";
const DM: &str = "dm";
const MTT: &str = "mtt";

fn size_arm(size: usize) -> String {
    format!("krr-st/m={size}")
}

const BIAS_ERRORS: &str = "bias in standard errors";
const BIAS_COSINE: &str = "cosine of sampled and exact gradient";
/// Largest error of the two gradients of the one-dimensional example.
const TOY: &str = "error of the example";
const OUTER: &str = "outer loss";
const HELD_OUT: &str = "held-out outer loss";
const TARGET_RIDGE: &str = "target network's ridge accuracy";
const RANDOM_RIDGE: &str = "random network's ridge accuracy";

/// How a pre-trained network is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Measure {
    Ridge,
    FineTuned,
    /// The ridge probe of another architecture.
    Other,
}

impl Measure {
    fn name(self, task: &str) -> String {
        match self {
            Measure::Ridge => format!("{task}: ridge accuracy"),
            Measure::FineTuned => format!("{task}: fine-tuned accuracy"),
            Measure::Other => format!("{task}: ridge accuracy, other network"),
        }
    }
}

/// The target tasks of a source.
fn tasks(dataset: &str) -> [&'static str; 2] {
    if dataset == "cifar10" { ["mnist", "cifar10"] } else { ["shapes", "digits"] }
}

impl Setting {
    fn arms(&self) -> Vec<(String, Method)> {
        let krr = |size, learn_targets, models| Method::KrrSt { size, learn_targets, models };
        let mut arms = [
            (NONE, Method::None),
            (RANDOM, Method::Features { kmeans: false }),
            (KMEANS, Method::Features { kmeans: true }),
            (LABELS, Method::Labels),
            (DSA, Method::Gradient),
            (DM, Method::Distribution),
            (MTT, Method::Trajectory),
            (FREPO, Method::Frepo),
            (KRR, krr(self.size, true, self.krr.models)),
            (FIXED, krr(self.size, false, self.krr.models)),
            (ONE, krr(self.size, true, 1)),
        ]
        .map(|(name, method)| (name.to_owned(), method))
        .to_vec();
        arms.extend(self.smaller.iter().map(|m| (size_arm(*m), krr(*m, true, self.krr.models))));
        arms
    }

    /// How the networks of a method are trained on its set.
    fn training(&self, method: Method) -> InnerTraining {
        match method {
            Method::Features { .. } | Method::KrrSt { .. } => self.inner,
            _ => InnerTraining { lr: self.label_lr, ..self.inner },
        }
    }

    fn check(&self, name: &str, image: i64) -> Result<()> {
        let key = |field: &str| format!("{name}.{field}");
        crate::vision::check_side(&key("side"), self.side, image)?;
        let blocks = self.widths.len() as u32;
        ensure!(
            blocks > 0 && self.widths.iter().all(|w| *w > 0) && PooledConvNet::features(&self.widths, self.side) > 0,
            "{}: expected positive widths of so few blocks that pooling leaves a pixel, got {:?}",
            key("widths"),
            self.widths
        );
        self.target.check(&key("target"), self.images)?;
        let s = &self.supervised;
        for (field, value, least) in [
            ("size", self.size, 10),
            ("held_out", self.held_out, 2),
            ("epochs", self.epochs, 1),
            ("labelled", self.labelled, 20),
            ("test", self.test, 2),
            ("steps", self.steps, 1),
            ("supervised.batch", s.batch, 1),
            ("supervised.experts", s.experts, 1),
            ("supervised.gradient", s.gradient.0, 1),
            ("supervised.distribution", s.distribution.0, 1),
            ("supervised.trajectory", s.trajectory.0, 1),
            ("bias.samples", self.bias.samples, 2),
            ("bias.images", self.bias.images as usize, 4),
            ("bias.outer", self.bias.outer as usize, 1),
        ] {
            check_range(&key(field), value as f64, least as f64..1e9)?;
        }
        for m in self.smaller.iter().chain([&self.size]) {
            ensure!(m % 10 == 0 && *m > 0, "{}: expected multiples of 10, got {m}", key("size and smaller"));
        }
        check_range(&key("images"), self.images as f64, (2 * self.size) as f64..)?;
        check_range(&key("batch"), self.batch as f64, 1.0..=self.images as f64)?;
        check_range(&key("bias.images"), self.bias.images as f64, 4.0..=self.images as f64)?;
        check_range(&key("bias.outer"), self.bias.outer as f64, 1.0..=self.held_out as f64)?;
        check_range(&key("fine_batch"), self.fine_batch as f64, 2.0..=self.labelled as f64)?;
        for (field, lr) in [
            ("fine_lr", self.fine_lr),
            ("inner.lr", self.inner.lr),
            ("label_lr", self.label_lr),
            ("supervised.gradient", s.gradient.1),
            ("supervised.distribution", s.distribution.1),
            ("supervised.trajectory", s.trajectory.1),
            ("supervised.step_size", s.step_size),
            ("bias.step_size", self.bias.step_size),
        ] {
            check_range(&key(field), lr, f64::MIN_POSITIVE..)?;
        }
        s.expert.check()?;
        Ok(s.matching.check(s.expert.epochs)?)
    }
}

impl Config {
    fn of(&self, dataset: &str) -> &Setting {
        if dataset == "cifar10" { &self.color } else { &self.digits }
    }
}

impl Experiment for DatasetDistillationSsl {
    fn slug(&self) -> &'static str {
        "dataset-distillation-ssl"
    }

    fn version(&self) -> u32 {
        1
    }

    fn claims(&self) -> Vec<Claim> {
        vec![
            Claim::new(
                "C1",
                "Gradients through an inner problem with sampled augmentations are biased",
                "theorem",
                "One-dimensional example: gradients -0.64 (exact) and -2.2222 (mean of sampled), to 1e-6. Unrolled Barlow Twins inner loop: the mean of the sampled gradients differs from the gradient of the averaged inner objective by more than 5 standard errors, in norm, in every seed. Partly if only the first holds.",
            ),
            Claim::new(
                "C2",
                "Pre-training on the distilled set transfers better than none, and than other small sets",
                "CIFAR-100 to CIFAR-10, Aircraft, Cars, Flowers: 87.34 to 88.72, 34.66 to 41.54, 19.43 to 28.68, 58.75 to 67.88 (not verified)",
                "On a target task, by ridge probe and by fine-tuning alike, paired by seed: the 95 % interval of the distilled set minus no pre-training is above 0, and the mean of the distilled set minus as many random real images with representations is. Reproduced on both target tasks; partly on one.",
            ),
            Claim::new(
                "C3",
                "The gain carries over to other architectures",
                "VGG11, AlexNet, MobileNet, ResNet10; figures not verified",
                "Ridge accuracy of a strided network with a global mean, paired by seed: the 95 % interval of the distilled set minus no pre-training is above 0 on both target tasks. Partly on one.",
            ),
            Claim::new(
                "C4",
                "The distilled set helps distillation without the target's data",
                "figures not verified",
                "not run at any scale yet",
            ),
            Claim::new(
                "C5",
                "Learning the targets as well as the images matters",
                "ablation, figures not verified",
                "Outer loss on held-out images, with fresh networks trained on the set: lower with learned than with fixed targets in every seed.",
            ),
        ]
    }

    fn datasets(&self) -> &'static [&'static str] {
        &["digits", "cifar10"]
    }

    fn further_datasets(&self, dataset: &str) -> &'static [&'static str] {
        if dataset == "cifar10" { &["mnist"] } else { &["shapes"] }
    }

    fn config(&self, scale: Scale) -> Value {
        let expert = Recipe { epochs: 5, batch: 128, lr: 0.01, momentum: 0.9, augment: None, ..Recipe::default() };
        let matching = TrajectoryMatching {
            inner: InnerLoop { steps: 8, momentum: 0.0, kept: None },
            expert_epochs: 1,
            max_start: 4,
            ..TrajectoryMatching::mtt()
        };
        let color = Setting {
            side: 16,
            images: 5000,
            held_out: 1000,
            target: Pretraining::color(128, 400),
            widths: vec![24, 48, 96],
            size: 100,
            smaller: vec![50],
            krr: KrrStConfig { models: 5, max_steps: 100, iterations: 250, lr: 0.01, ..KrrStConfig::default() },
            inner: InnerTraining { lr: 1.0, ..InnerTraining::default() },
            label_lr: 0.2,
            batch: 128,
            supervised: Supervised {
                width: 32,
                depth: 3,
                batch: 32,
                gradient: (40, 1.0),
                distribution: (150, 1.0),
                trajectory: (40, 30.0),
                experts: 2,
                expert,
                matching,
                step_size: 0.05,
            },
            bias: Bias {
                images: 20,
                samples: 200,
                outer: 100,
                inner: InnerLoop { steps: 5, momentum: 0.0, kept: None },
                step_size: 0.003,
            },
            epochs: 250,
            labelled: 500,
            test: 2000,
            steps: 150,
            fine_batch: 64,
            fine_lr: 0.01,
        };
        let digits = Setting {
            side: 8,
            images: 800,
            held_out: 200,
            target: Pretraining::digits(400),
            widths: vec![24, 48],
            labelled: 200,
            test: 797,
            supervised: Supervised { depth: 2, ..color.supervised.clone() },
            ..color.clone()
        };
        let mut config = Config { digits, color };
        match scale {
            Scale::Smoke => {
                for s in [&mut config.digits, &mut config.color] {
                    (s.images, s.held_out, s.size, s.smaller, s.batch) = (300, 50, 20, vec![10], 32);
                    (s.target.training.steps, s.target.training.batch) = (3, 32);
                    (s.krr.models, s.krr.max_steps, s.krr.iterations) = (2, 4, 5);
                    (s.epochs, s.labelled, s.test, s.steps, s.fine_batch) = (3, 60, 60, 3, 16);
                    let u = &mut s.supervised;
                    (u.gradient.0, u.distribution.0, u.trajectory.0, u.experts, u.batch) = (1, 2, 1, 1, 4);
                    (u.expert.epochs, u.matching.inner.steps, u.matching.max_start, u.width) = (2, 2, 1, 8);
                    (s.bias.samples, s.bias.images, s.bias.outer, s.bias.inner.steps) = (4, 8, 8, 2);
                }
            }
            Scale::Small => {}
            Scale::Full => {
                let s = &mut config.color;
                (s.side, s.images, s.held_out, s.size, s.smaller) = (32, 48_000, 2000, 1000, vec![100, 500]);
                s.target.encoder = crate::vision::Encoder::Resnet18;
                (s.target.hidden, s.target.embedding) = (2048, 2048);
                (s.target.training.batch, s.target.training.steps) = (256, 40_000);
                s.widths = vec![128, 256, 512];
                s.krr = KrrStConfig { iterations: 40_000, lr: 1e-3, ..KrrStConfig::default() };
                (s.inner, s.label_lr, s.batch, s.epochs) = (InnerTraining::default(), 0.1, 1024, 1000);
                let u = &mut s.supervised;
                (u.width, u.batch, u.experts, u.expert.epochs) = (128, 256, 10, 30);
                (u.gradient.0, u.distribution.0, u.trajectory.0) = (1000, 5000, 2000);
                (u.matching.inner.steps, u.matching.expert_epochs, u.matching.max_start) = (20, 2, 20);
                (s.labelled, s.test, s.steps, s.fine_batch) = (10_000, 10_000, 10_000, 256);
            }
        }
        json!(config)
    }

    fn cells(&self, plan: &Plan) -> Result<Vec<Cell>> {
        let config: Config = plan.config()?;
        config.digits.check("digits", 8)?;
        config.color.check("color", 32)?;
        let mut arms = vec![BIAS.to_owned()];
        arms.extend(config.of(&plan.dataset).arms().into_iter().map(|(name, _)| name));
        Ok(plan.cross(&arms))
    }

    fn run(&self, cell: &Cell, context: &mut Context<'_>) -> Result<()> {
        let config: Config = context.plan.config()?;
        let setting = config.of(&context.plan.dataset);
        let source = sets::Source::load(setting, context)?;
        if cell.arm == BIAS {
            return bias::cell(&source, setting, context);
        }
        match setting.arms().into_iter().find(|(name, _)| *name == cell.arm) {
            Some((_, method)) => transfer::cell(method, &source, setting, context),
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
        let tasks = tasks(&plan.dataset).join(" and ");
        format!(
            "Source: {}, without labels but for the arms that say so; target tasks: {tasks}, few labels each, images brought to the source's side and channels. The representations of the source are computed once: outer steps see it without augmentation. The target network is trained once for all seeds. Synthetic images are kept normalised, as real ones are. Every set trains networks for the same number of steps at the same rates (regression for targets, cross entropy for labels); the supervised methods' rates are those of their papers' small settings and not tuned, nor is the method's.",
            plan.dataset,
        )
    }
}
