//! The exact inductive bias: how many nats single out hypotheses that generalise, and how many of them do networks supply?
//!
//! Three parts. Regression tasks of growing dimension, whose bias under a Gaussian process is computed from its exact law; classes of
//! hypotheses on images (Gaussian processes of four widths, ensembles of trained networks) at the same target error; and how far the
//! estimate from sampled hypotheses is from the exact value.

mod judge;

use crate::experiment::{Cell, Claim, Experiment, Plan, Scale, check_list};
use crate::plot::Plot;
use crate::results::Results;
use crate::runner::Context;
use crate::verdict::Finding;
use anyhow::{Context as _, Result};
use autodidact_core::error::check_range;
use autodidact_core::kernel::Kernel;
use autodidact_core::{Error, stats};
use autodidact_datasets::image::ImageSet;
use autodidact_datasets::load_images;
use autodidact_scaling::inductive_bias::{
    Architecture, GpPosterior, GpTask, HypothesisSampler, ScaledNcx2, TrainedEnsemble,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

/// The experiment.
pub struct InductiveBias;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Config {
    /// Dimensions of the regression tasks.
    dimensions: Vec<i64>,
    /// Training and test samples of a regression.
    regression: (i64, i64),
    /// The target error, as a share of the variance of the test targets.
    target: f64,
    jitter: f64,
    /// Training and test images.
    images: (usize, usize),
    /// Widths of the Gaussian processes on images.
    sigmas: Vec<f64>,
    /// Classes of networks and how many of each are trained.
    classes: Vec<(String, Architecture, usize)>,
    epochs: usize,
    batch: usize,
    lr: f64,
    /// Seeds of the parts on images and on the estimator.
    repeated: usize,
    /// Dimension of the estimator's task, numbers of samples, and repetitions of each.
    estimator_dimension: i64,
    counts: Vec<usize>,
    repeats: usize,
    /// Samples of the fit that C1 looks at.
    fitted: usize,
}

impl Config {
    fn check(&self) -> Result<()> {
        let of = |v: &[i64]| v.iter().map(|v| *v as f64).collect::<Vec<_>>();
        check_list("dimensions", &of(&self.dimensions), 2.0..)?;
        check_list("sigmas", &self.sigmas, f64::MIN_POSITIVE..)?;
        check_list("counts", &self.counts.iter().map(|c| *c as f64).collect::<Vec<_>>(), 8.0..)?;
        for (what, value, low) in [
            ("training samples of a regression", self.regression.0 as f64, 2.0),
            ("test samples of a regression", self.regression.1 as f64, 2.0),
            ("training images", self.images.0 as f64, 10.0),
            ("test images", self.images.1 as f64, 10.0),
            ("target", self.target, f64::MIN_POSITIVE),
            ("lr", self.lr, f64::MIN_POSITIVE),
            ("repeated", self.repeated as f64, 1.0),
            ("estimator_dimension", self.estimator_dimension as f64, 2.0),
            ("repeats", self.repeats as f64, 1.0),
            ("fitted", self.fitted as f64, 8.0),
        ] {
            check_range(what, value, low..)?;
        }
        for name in [MLP, CNN] {
            if !self.classes.iter().any(|c| c.0 == name) {
                return Err(Error::value("classes", format!("{name} among them: claims compare it"), "none").into());
            }
        }
        self.classes
            .iter()
            .try_for_each(|(name, _, n)| Ok(check_range(&format!("networks of {name}"), *n as f64, 8.0..)?))
    }
}

const MLP: &str = "mlp";
const CNN: &str = "cnn";
const ESTIMATOR: &str = "estimator";
const KERNELS: &str = "classes/gp";

fn dimension_arm(d: i64) -> String {
    format!("dimension/{d}")
}

fn class_arm(name: &str) -> String {
    format!("classes/{name}")
}

const BIAS: &str = "inductive bias (nats)";
const SAMPLED: &str = "inductive bias from samples (nats)";
const MEAN_ERROR: &str = "mean error over variance of targets";
const TRAIN_ERROR: &str = "training error";
const TEST_ERROR: &str = "test error";
const KS: &str = "Kolmogorov-Smirnov distance of the fit";
const LIKELIHOOD_OFF: &str = "error of maximum likelihood (nats)";
const MOMENTS_OFF: &str = "error of two moments (nats)";
const EXACT: &str = "exact inductive bias (nats)";

/// Names of arrays: errors of sampled hypotheses; of a Gaussian process of a width the law, as its variances and squared means.
const ERRORS: &str = "errors";

fn law_arrays(sigma: f64) -> [String; 2] {
    [format!("variances/sigma={sigma}"), format!("squared means/sigma={sigma}")]
}

fn rbf(sigma: f64) -> Kernel {
    Kernel::Rbf { gamma: 0.5 / (sigma * sigma) }
}

/// A smooth random function on the unit sphere of `R^d`: `(x, y)` of training and test set.
fn regression(d: i64, (train, test): (i64, i64), seed: u64) -> [(Tensor, Tensor); 2] {
    const TERMS: i64 = 64;
    autodidact_core::seed::seed_torch(seed, &["regression", &d.to_string()]);
    let normal = |shape: [i64; 2]| Tensor::randn(shape, (Kind::Double, Device::Cpu));
    let x = normal([train + test, d]);
    let x = &x / x.norm_scalaropt_dim(2.0, [1i64].as_slice(), true);
    let (w, a) = (normal([d, TERMS]), normal([TERMS, 1]));
    let phase = Tensor::rand([TERMS], (Kind::Double, Device::Cpu)) * (2.0 * std::f64::consts::PI);
    let y = (x.matmul(&w) * 1.5 + phase).cos().matmul(&a) * (2.0 / TERMS as f64).sqrt();
    let part = |from, n| (x.narrow(0, from, n), y.narrow(0, from, n));
    [part(0, train), part(train, test)]
}

/// Images in `[0, 1]` and one-hot targets (f32).
fn classification(set: &ImageSet, n: usize, seed: u64) -> Result<(Tensor, Tensor)> {
    let part = set.subset(n, seed)?;
    let targets = part.labels.one_hot(set.classes.len() as i64).to_kind(Kind::Float);
    Ok((part.to_float(), targets))
}

impl Experiment for InductiveBias {
    fn slug(&self) -> &'static str {
        "inductive-bias"
    }

    fn version(&self) -> u32 {
        1
    }

    fn claims(&self) -> Vec<Claim> {
        vec![
            Claim::new(
                "C1",
                "A parametric model of the error's tail estimates the inductive bias directly, for kernels and networks",
                "no figure",
                "The distribution fitted to the errors of 2,000 hypotheses of a Gaussian process is within 0.05 (Kolmogorov-Smirnov) of those of 2,000 fresh ones, mean over seeds, on the estimator's regression and, for every width, on images. Partly if on the regression.",
            ),
            Claim::new(
                "C2",
                "Tasks of higher dimension require more inductive bias",
                "MNIST below CIFAR-10, figures not seen",
                "Spearman's correlation of dimension and the median (over seeds) exact bias of the regressions, for dimensions up to 10, is at least 0.9.",
            ),
            Claim::new(
                "C3",
                "Networks encode large amounts of inductive bias relative to other expressive classes",
                "no figure",
                "In every seed and for every width, the bias of the Gaussian process exceeds that of fully connected networks by more than 50 nats at the target of the networks' median error. Partly if in the mean over seeds.",
            ),
            Claim::new(
                "C4",
                "Differences between architectures are measurable",
                "no figure",
                "In every seed the biases of fully connected and convolutional networks at that target differ by more than the sum of half the widths of their bootstrap intervals. Partly if in most.",
            ),
            Claim::new(
                "C5",
                "The estimate's error falls with the number of sampled hypotheses",
                "a bound, not seen",
                "Slope of the logarithm of the median (over repetitions) distance from the exact bias on the logarithm of the number of samples, over the numbers at which that distance is more than twice what it is at the largest (the model's own error), mean over seeds: between -0.7 and -0.3 for maximum likelihood. Not judged with fewer than three such numbers.",
            ),
        ]
    }

    fn datasets(&self) -> &'static [&'static str] {
        &["digits", "mnist", "cifar10"]
    }

    fn seeds(&self, scale: Scale) -> usize {
        if scale == Scale::Smoke { 1 } else { 10 }
    }

    fn config(&self, scale: Scale) -> Value {
        let class = |name: &str, architecture, n| (name.to_owned(), architecture, n);
        let mut config = Config {
            dimensions: vec![4, 5, 6, 7, 8, 10, 12, 16],
            regression: (300, 100),
            target: 0.05,
            jitter: 1e-6,
            images: (300, 200),
            sigmas: vec![0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
            classes: vec![
                class(MLP, Architecture::Mlp(vec![64, 64, 64]), 40),
                class(CNN, Architecture::ConvNet(vec![16, 32]), 30),
                class("linear", Architecture::Linear, 20),
            ],
            epochs: 240,
            batch: 30,
            lr: 1e-3,
            repeated: 3,
            estimator_dimension: 10,
            counts: vec![10, 20, 30, 50, 100, 200, 500, 1000, 2000, 5000, 10_000],
            repeats: 20,
            fitted: 2000,
        };
        match scale {
            Scale::Smoke => {
                config.dimensions = vec![4, 8];
                (config.regression, config.images) = ((20, 10), (40, 20));
                config.classes =
                    vec![class(MLP, Architecture::Mlp(vec![16]), 8), class(CNN, Architecture::ConvNet(vec![4]), 8)];
                (config.epochs, config.batch, config.repeated) = (5, 20, 1);
                (config.counts, config.repeats, config.fitted) = (vec![50, 100, 200], 3, 200);
            }
            Scale::Small => {}
            Scale::Full => {
                config.images = (1000, 1000);
                for (_, _, networks) in &mut config.classes {
                    *networks = 100;
                }
                (config.epochs, config.fitted) = (200, 10_000);
            }
        }
        json!(config)
    }

    fn cells(&self, plan: &Plan) -> Result<Vec<Cell>> {
        let config: Config = plan.config()?;
        config.check()?;
        let mut all = plan.cross(&config.dimensions.iter().map(|d| dimension_arm(*d)).collect::<Vec<_>>());
        let mut arms = vec![ESTIMATOR.to_owned(), KERNELS.to_owned()];
        arms.extend(config.classes.iter().map(|c| class_arm(&c.0)));
        for &seed in plan.seeds.iter().take(config.repeated) {
            all.extend(arms.iter().map(|a| Cell::new(a.as_str(), seed)));
        }
        Ok(all)
    }

    fn run(&self, cell: &Cell, context: &mut Context<'_>) -> Result<()> {
        let config: Config = context.plan.config()?;
        match cell.arm.split_once('/') {
            Some(("dimension", d)) => dimension(d.parse()?, &config, context),
            Some(("classes", name)) => classes(name, &config, context),
            _ => estimator(&config, context),
        }
    }

    fn judge(&self, results: &Results) -> Result<Vec<Finding>> {
        judge::findings(results)
    }

    fn plots(&self, results: &Results) -> Result<Vec<Plot>> {
        judge::plots(results)
    }

    fn note(&self, _plan: &Plan) -> String {
        "Regressions are smooth random functions on the unit sphere; on images, hypotheses are regressions of one-hot labels. The bias of Gaussian processes comes from the saddle point of their errors' exact law, that of networks from the fitted tail model; a target more than about four standard deviations below the networks' mean error is extrapolation by the model. Networks are trained side by side for the same number of steps whatever their class. Dimensions have all seeds, the other parts the first three. Chosen on a seed that is not used here: 240 passes instead of 80, after which convolutional networks were still far from fitting the training set (error 0.006; 0.0015 now); numbers of samples from 10 on, so that more of them lie before the model's own error. Widths of Gaussian processes go on to 6, past the best. Linear maps cannot fit the training set and are no sample of hypotheses that do: they are shown for scale.".to_owned()
    }
}

/// The bias of a regression of a dimension under the Gaussian process of width 1.
fn dimension(d: i64, config: &Config, context: &mut Context<'_>) -> Result<()> {
    let [(x, y), (test, targets)] = regression(d, config.regression, context.seed("regression"));
    let posterior = GpPosterior::new(rbf(1.0), &x, &y, &test, config.jitter)?;
    let law = posterior.errors(&targets)?;
    let variance = targets.var(true).double_value(&[]);
    context.metric(0, BIAS, -law.ln_cdf(config.target * variance)?);
    context.metric(0, MEAN_ERROR, law.cumulants()[0] / variance);
    Ok(())
}

/// How far estimates from samples are from the exact bias at half the mean error.
fn estimator(config: &Config, context: &mut Context<'_>) -> Result<()> {
    let [(x, y), (test, targets)] =
        regression(config.estimator_dimension, config.regression, context.seed("regression"));
    let posterior = GpPosterior::new(rbf(1.0), &x, &y, &test, config.jitter)?;
    let law = posterior.errors(&targets)?;
    let task = GpTask::new(&posterior, &targets)?;
    let eps = 0.5 * law.cumulants()[0];
    let exact = -law.ln_cdf(eps)?;
    context.metric(0, EXACT, exact);
    let total = config.counts.len() * config.repeats;
    for (i, &count) in config.counts.iter().enumerate() {
        let (mut likelihood, mut moments) = (vec![], vec![]);
        for repeat in 0..config.repeats {
            let errors = task.sample_errors(count, context.arm_seed(&format!("samples {count} {repeat}")))?;
            let off = |fit: ScaledNcx2| -> Result<f64> { Ok((-fit.ln_cdf(eps)? - exact).abs()) };
            likelihood.push(off(ScaledNcx2::fit(&errors)?)?);
            moments.push(off(ScaledNcx2::fit_moments(&errors)?)?);
            context.progress(i * config.repeats + repeat + 1, total, None);
        }
        context.metric(count, LIKELIHOOD_OFF, stats::median(&likelihood));
        context.metric(count, MOMENTS_OFF, stats::median(&moments));
    }
    let ks = fit_distance(&task, config.fitted, context)?;
    context.metric(config.fitted, KS, ks);
    Ok(())
}

/// Distance of the distribution fitted to some samples from fresh ones.
fn fit_distance(task: &GpTask, count: usize, context: &Context<'_>) -> Result<f64> {
    let draw = |what: &str| task.sample_errors(count, context.arm_seed(what));
    Ok(ScaledNcx2::fit(&draw("fitted")?)?.ks_distance(&draw("fresh")?)?)
}

/// Errors of a class of hypotheses on images.
fn classes(name: &str, config: &Config, context: &mut Context<'_>) -> Result<()> {
    let plan = context.plan;
    let (train, test) = load_images(&plan.dataset, plan.data_dir.as_deref(), plan.download)?;
    let (x, y) = classification(&train, config.images.0, context.seed("training images"))?;
    let (test, targets) = classification(&test, config.images.1, context.seed("test images"))?;
    if name == "gp" {
        let flat = |t: &Tensor| t.flatten(1, -1);
        for (i, &sigma) in config.sigmas.iter().enumerate() {
            let posterior = GpPosterior::new(rbf(sigma), &flat(&x), &y, &flat(&test), config.jitter)?;
            let law = posterior.errors(&targets)?;
            let [variances, squares] = law_arrays(sigma);
            context.array(&variances, law.variances().to_vec());
            context.array(&squares, law.squared_means().to_vec());
            context.metric(i, MEAN_ERROR, law.cumulants()[0] / targets.var(true).double_value(&[]));
            let ks = fit_distance(&GpTask::new(&posterior, &targets)?, config.fitted, context)?;
            context.metric(i, KS, ks);
        }
        return Ok(());
    }
    let (_, architecture, networks) =
        config.classes.iter().find(|c| c.0 == name).context("a class that is not there")?;
    let on_device = |t: Tensor| t.to_device(plan.device);
    let ensemble = TrainedEnsemble {
        architecture: architecture.clone(),
        inputs: (on_device(x), on_device(test)),
        targets: (on_device(y), on_device(targets)),
        epochs: config.epochs,
        batch: config.batch,
        lr: config.lr,
    };
    let done = ensemble.train(*networks, context.arm_seed("networks"))?;
    context.metric(0, TRAIN_ERROR, stats::mean(&done.train));
    context.metric(0, TEST_ERROR, stats::mean(&done.test));
    context.array(ERRORS, done.test);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_work_are_refused_before_anything_runs() {
        let cells = Plan::trial_cells(&InductiveBias, &[]).unwrap();
        let names: std::collections::BTreeSet<_> = cells.iter().map(|c| &c.arm).collect();
        assert_eq!(names.len(), cells.len(), "every arm comes once");
        let refused = [
            ("dimensions", json!([]), "dimensions: expected at least one value"),
            ("dimensions", json!([1]), "dimensions: "),
            ("sigmas", json!([0.0]), "sigmas: "),
            ("counts", json!([7]), "counts: "),
            ("regression", json!([1, 10]), "training samples of a regression: "),
            ("images", json!([40, 0]), "test images: "),
            ("lr", json!(0.0), "lr: "),
            ("classes", json!([]), "classes: expected mlp among them"),
            ("classes", json!([["mlp", "linear", 3], ["cnn", "linear", 9]]), "networks of mlp: "),
        ];
        Plan::assert_refused(&InductiveBias, &refused);
    }
}
