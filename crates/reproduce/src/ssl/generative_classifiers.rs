//! Naive Bayes against logistic regression: who needs fewer labels, and on which features?
//!
//! On mixtures of Gaussians of growing dimension every seed measures the samples at which each classifier comes within a
//! point of the Bayes error. On frozen features of three encoders (supervised, contrastive, random; the same network, data
//! and steps) every seed measures both errors on the same labelled subsets of growing size.

mod cells;
mod judge;

use crate::experiment::{Cell, Claim, Experiment, Plan, Scale, check_list};
use crate::plot::{Plot, Series};
use crate::results::Results;
use crate::runner::Context;
use crate::verdict::{self, Finding};
use crate::vision::{Encoder, check_side};
use anyhow::Result;
use autodidact_core::Error;
use autodidact_core::error::check_range;
use autodidact_ssl::generative_classifiers::mixture::GaussianMixtureTask;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The experiment.
pub struct GenerativeClassifiers;

/// The two classifiers, as metrics name them.
const NB: &str = "naive Bayes";
const LR: &str = "logistic regression";

/// How encoders are trained.
const ENCODERS: [&str; 3] = ["supervised", "contrastive", "random"];

/// The arm whose features the claims about regimes name.
const SUPERVISED: &str = ENCODERS[0];

/// Hyper-parameters.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Config {
    simulation: Simulation,
    color: Features,
    digits: Features,
}

/// The mixtures.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Simulation {
    classes: Vec<i64>,
    dimensions: Vec<i64>,
    /// Training samples to draw from, per dimension.
    pool: i64,
    test: i64,
    /// Subsets whose errors are averaged at each size.
    draws: usize,
    /// Ratio of successive subset sizes, from twice the number of classes on.
    ratio: f64,
    /// A size is enough when the error is below the Bayes error plus this.
    excess: f64,
    /// Weight of the log loss.
    c: f64,
}

/// Encoders and labelled subsets.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Features {
    /// Images that train the encoder, that are labelled, and that test.
    encoder_images: usize,
    pool: usize,
    test: usize,
    /// Images are average-pooled to this side.
    side: i64,
    encoder: Encoder,
    /// Widths of the contrastive projector.
    hidden: i64,
    embedding: i64,
    /// Temperature of NT-Xent.
    tau: f64,
    batch: usize,
    steps: usize,
    /// Adam's learning rate at the start of a cosine to 0.
    lr: f64,
    /// Sizes of the labelled subsets.
    sizes: Vec<i64>,
    /// Subsets whose errors are averaged at each size.
    draws: usize,
    /// Candidates for naive Bayes' variance floor and the weight of the log loss; chosen on the pool's remainder by a fit on
    /// `tuned_at` samples.
    floors: Vec<f64>,
    cs: Vec<f64>,
    tuned_at: i64,
}

impl Simulation {
    /// Dimensions at which the mixture is nearly free of overlap (a Bayes error below 0.1 %), as the paper's are.
    fn dimensions_for(&self, classes: i64) -> Result<Vec<i64>> {
        let mut kept = vec![];
        for &n in &self.dimensions {
            if GaussianMixtureTask::new(classes, n)?.bayes_error() < 1e-3 {
                kept.push(n);
            }
        }
        Ok(kept)
    }

    fn check(&self) -> Result<()> {
        check_list("simulation.classes", &floats(&self.classes), 2.0..=60.0)?;
        ascending("simulation.dimensions", &floats(&self.dimensions), 2.0)?;
        for (name, value, least) in [("pool", self.pool, 1), ("test", self.test, 1), ("draws", self.draws as i64, 1)] {
            check_range(&format!("simulation.{name}"), value as f64, f64::from(least)..)?;
        }
        check_range("simulation.ratio", self.ratio, 1.001..=10.0)?;
        check_range("simulation.excess", self.excess, 1e-4..1.0)?;
        check_range("simulation.c", self.c, f64::MIN_POSITIVE..)?;
        for &k in &self.classes {
            if self.dimensions_for(k)?.len() < 2 {
                let expected = format!("two or more with a Bayes error below 0.1 % of {k} classes");
                return Err(Error::value("simulation.dimensions", expected, format!("{:?}", self.dimensions)).into());
            }
        }
        Ok(())
    }
}

impl Features {
    fn check(&self, name: &str, image: i64) -> Result<()> {
        let key = |field: &str| format!("{name}.{field}");
        let at_least = |field: &str, value: usize, least: usize| check_range(&key(field), value as f64, least as f64..);
        at_least("test", self.test, 1)?;
        at_least("draws", self.draws, 1)?;
        at_least("steps", self.steps, 1)?;
        check_range(&key("batch"), self.batch as f64, 2.0..=self.encoder_images as f64)?;
        check_side(&key("side"), self.side, image)?;
        for (field, value) in [("hidden", self.hidden), ("embedding", self.embedding)] {
            check_range(&key(field), value as f64, 1.0..)?;
        }
        for (field, value) in [("tau", self.tau), ("lr", self.lr)] {
            check_range(&key(field), value, f64::MIN_POSITIVE..)?;
        }
        check_list(&key("floors"), &self.floors, f64::MIN_POSITIVE..)?;
        check_list(&key("cs"), &self.cs, f64::MIN_POSITIVE..)?;
        // The smallest subsets need a sample of each of ten classes, with a fair chance of getting it.
        ascending(&key("sizes"), &floats(&self.sizes), 15.0)?;
        check_range(&key("sizes' last"), self.sizes[self.sizes.len() - 1] as f64, 1.0..=self.pool as f64)?;
        Ok(check_range(&key("tuned_at"), self.tuned_at as f64, 15.0..self.pool as f64)?)
    }
}

fn floats(values: &[i64]) -> Vec<f64> {
    values.iter().map(|v| *v as f64).collect()
}

fn ascending(name: &str, values: &[f64], least: f64) -> Result<()> {
    check_list(name, values, least..)?;
    if values.len() < 2 || !values.is_sorted_by(|a, b| a < b) {
        return Err(Error::value(name, "two or more values, ascending", format!("{values:?}")).into());
    }
    Ok(())
}

/// The setting of the features for a data set.
fn features<'a>(config: &'a Config, dataset: &str) -> &'a Features {
    if dataset == "digits" { &config.digits } else { &config.color }
}

fn mixture_arm(classes: i64, dimension: i64) -> String {
    format!("mixture/k={classes},n={dimension}")
}

fn m_star(classifier: &str) -> String {
    format!("m* of {classifier}")
}

fn error_of(classifier: &str) -> String {
    format!("error of {classifier}")
}

impl Experiment for GenerativeClassifiers {
    fn slug(&self) -> &'static str {
        "generative-classifiers"
    }

    fn version(&self) -> u32 {
        1
    }

    fn claims(&self) -> Vec<Claim> {
        vec![
            Claim::new(
                "C1",
                "On Gaussian mixtures logistic regression needs samples in proportion to the dimension, naive Bayes at most logarithmically many",
                "linear against flat curves for 2, 3, 5 and 7 classes and n = 100 to 1000 (plots)",
                "m*: the first size at which the mean test error of the subsets is below the Bayes error plus 0.01. Least-squares slope of log m* on log n, mean over seeds: for every number of classes in [0.7, 1.3] for logistic regression and below 0.4 for naive Bayes. Partly if only naive Bayes' mean m* is the smaller one at every n. Dimensions whose Bayes error is above 0.1 % are left out.",
            ),
            Claim::new(
                "C2",
                "On pre-trained features naive Bayes approaches its own limit with fewer samples",
                "for all of seven pre-trained models (plots)",
                "m_0.1: the size at which the error has come within a tenth of its way from the smallest to the largest subset (interpolated in log m). Smaller for naive Bayes in at least two thirds of all pairs of encoder and seed.",
            ),
            Claim::new(
                "C3",
                "With few labels naive Bayes is better on features of supervised pre-training",
                "some of seven models, best with supervised pre-training (plots)",
                "Supervised encoder: at some size up to 50 the 95 % interval over seeds of the error of naive Bayes minus that of logistic regression is below 0. Partly if only a mean is.",
            ),
            Claim::new(
                "C4",
                "Two regimes on features of supervised pre-training: naive Bayes wins with few labels, logistic regression with many",
                "ViT, ResNet and CLIP (plots)",
                "Supervised encoder: C3's condition, and at the largest size the 95 % interval of the difference is above 0. Partly if only the means are on these sides.",
            ),
        ]
    }

    fn datasets(&self) -> &'static [&'static str] {
        &["digits", "shapes", "cifar10"]
    }

    fn seeds(&self, scale: Scale) -> usize {
        if scale == Scale::Smoke { 1 } else { 5 }
    }

    fn config(&self, scale: Scale) -> Value {
        let simulation = Simulation {
            classes: vec![2, 3],
            dimensions: vec![50, 100, 200, 400],
            pool: 100,
            test: 10_000,
            draws: 5,
            ratio: 1.1,
            excess: 0.01,
            c: 1.0,
        };
        let color = Features {
            encoder_images: 8000,
            pool: 5000,
            test: 5000,
            side: 16,
            encoder: Encoder::Pooled,
            hidden: 512,
            embedding: 128,
            tau: 0.2,
            batch: 128,
            steps: 250,
            lr: 2e-3,
            sizes: vec![20, 30, 50, 100, 200, 500, 1000, 2000],
            draws: 3,
            floors: vec![1e-9, 1e-3, 1e-2],
            cs: vec![0.1, 1.0, 10.0],
            tuned_at: 200,
        };
        let digits = Features {
            encoder_images: 600,
            pool: 697,
            test: 500,
            side: 8,
            lr: 1e-3,
            sizes: vec![20, 30, 50, 100, 200, 500],
            ..color.clone()
        };
        let small = Config { simulation, color, digits };
        json!(match scale {
            Scale::Smoke => {
                let mut smoke = small;
                smoke.simulation = Simulation {
                    classes: vec![2],
                    dimensions: vec![20, 30],
                    test: 1000,
                    draws: 1,
                    ratio: 1.5,
                    ..smoke.simulation
                };
                for f in [&mut smoke.color, &mut smoke.digits] {
                    (f.encoder_images, f.pool, f.test, f.batch, f.steps) = (200, 200, 100, 40, 20);
                    (f.hidden, f.embedding, f.draws) = (64, 32, 1);
                    (f.sizes, f.tuned_at) = (vec![20, 50, 100], 50);
                }
                smoke
            }
            Scale::Small => small,
            Scale::Full => {
                let mut full = small;
                full.simulation.classes = vec![2, 3, 5, 7];
                full.simulation.dimensions = vec![100, 200, 400, 1000];
                let color = &mut full.color;
                (color.encoder_images, color.pool, color.test, color.side) = (30_000, 20_000, 10_000, 32);
                (color.encoder, color.batch, color.steps, color.lr) = (Encoder::Resnet18, 256, 23_400, 1e-3);
                color.sizes = vec![20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000];
                color.draws = 5;
                full
            }
        })
    }

    fn cells(&self, plan: &Plan) -> Result<Vec<Cell>> {
        let config: Config = plan.config()?;
        config.simulation.check()?;
        config.color.check("color", 32)?;
        config.digits.check("digits", 8)?;
        let mut arms = vec![];
        for &k in &config.simulation.classes {
            arms.extend(config.simulation.dimensions_for(k)?.into_iter().map(|n| mixture_arm(k, n)));
        }
        arms.extend(ENCODERS.map(String::from));
        Ok(plan.cross(&arms))
    }

    fn run(&self, cell: &Cell, context: &mut Context<'_>) -> Result<()> {
        let config: Config = context.plan.config()?;
        let s = &config.simulation;
        for &k in &s.classes {
            for n in s.dimensions_for(k)? {
                if cell.arm == mixture_arm(k, n) {
                    return cells::mixture(GaussianMixtureTask::new(k, n)?, n, s, context);
                }
            }
        }
        cells::encoder(&cell.arm, features(&config, &context.plan.dataset), context)
    }

    fn judge(&self, results: &Results) -> Result<Vec<Finding>> {
        judge::findings(results, &results.plan().config()?)
    }

    fn plots(&self, results: &Results) -> Result<Vec<Plot>> {
        let config: Config = results.plan().config()?;
        let summary = |values: Vec<f64>| verdict::summary(&values);
        let mut sizes = vec![];
        for (i, &k) in config.simulation.classes.iter().enumerate() {
            for (j, classifier) in [NB, LR].into_iter().enumerate() {
                let points = config.simulation.dimensions_for(k)?.into_iter().map(|n| {
                    let (mean, half) = summary(results.values(&mixture_arm(k, n), &m_star(classifier))?);
                    Ok((n as f64, mean, half))
                });
                let series =
                    Series::with_intervals(format!("{classifier}, K = {k}"), 2 * i + j, points.collect::<Result<_>>()?);
                sizes.push(if j == 0 { series } else { series.dashed() });
            }
        }
        let caption = "Samples at which the test error is within a point of the Bayes error; means over seeds with 95 % intervals.";
        let plot = Plot::lines("sample-complexity", caption, "dimension n", "samples m*", sizes).log(true, true);
        let mut plots = vec![plot];
        for arm in ENCODERS {
            let f = features(&config, &results.plan().dataset);
            let plain = cells::with_floor(f.floors[0]);
            let mut series = vec![];
            for (i, classifier) in [NB, LR, &plain].into_iter().enumerate() {
                let points = f.sizes.iter().map(|&m| {
                    let (mean, half) = summary(judge::errors(results, arm, classifier, m)?);
                    Ok((m as f64, mean, half))
                });
                let line = Series::with_intervals(classifier, i, points.collect::<Result<_>>()?);
                series.push(if i == 2 { line.dashed() } else { line });
            }
            let caption = format!(
                "Test error on frozen features of the {arm} encoder, {}; means over seeds with 95 % intervals.",
                results.plan().dataset
            );
            let name = format!("learning-curve-{arm}");
            plots.push(Plot::lines(&name, &caption, "labelled samples m", "test error (%)", series).log(true, false));
        }
        let seed = results.plan().seeds[0];
        let histograms = ENCODERS.iter().enumerate().map(|(i, arm)| {
            let histogram = judge::histogram(results.array(arm, seed, cells::RATIOS)?, 60);
            Ok(Series::line(*arm, i, &histogram))
        });
        plots.push(Plot::lines(
            "log-likelihood-ratios",
            &format!("Log-likelihood ratios of the true class against every other under naive Bayes on test features (seed {seed})."),
            "log p(x | true class) - log p(x | other class), per feature",
            "share of pairs (%)",
            histograms.collect::<Result<_>>()?,
        ));
        Ok(plots)
    }

    fn note(&self, _plan: &Plan) -> String {
        "Encoders are small convolutional networks trained here, for the same steps on the same images, instead of seven published models; \
         images are not enlarged to 224 pixels. A seed has its own encoder, and its errors are means over a few random subsets; intervals are over seeds. \
         Naive Bayes and logistic regression are tuned alike, each over three values (the variance floor, on features in [0, 1]; the weight C of the log loss), by \
         a fit on a subset of the labelled pool judged on the pool's remainder; the pool is drawn from again for the learning curves, the test images are not. \
         Sample sizes of the mixtures grow geometrically instead of by ln n, and each seed's m* is that of the mean error of its subsets, as published. With two classes logistic \
         regression penalises one weight vector, as scikit-learn does."
            .into()
    }
}
