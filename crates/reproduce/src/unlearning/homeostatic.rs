//! Homeostatic learning rates: does a learner that regulates its own rate keep up with labels that change?
//!
//! Streams of images whose labels are swapped at several rates are learned, test then train, by the same small perceptron with a constant
//! rate, a randomly regulated one and the homeostatic one. Within a seed and a stream all arms have the same weights at the start, the
//! same order and the same swaps.

mod judge;

use crate::experiment::{Cell, Claim, Experiment, Plan, Scale, check_list};
use crate::plot::Plot;
use crate::results::Results;
use crate::runner::Context;
use crate::verdict::Finding;
use anyhow::{Context as _, Result};
use autodidact_core::error::check_range;
use autodidact_core::{Error, seed};
use autodidact_datasets::image::{ImageSet, digits};
use autodidact_datasets::load_images;
use autodidact_unlearning::homeostatic::{
    Constant, Effect, HomeostaticRegulator, Mlp, Policy, RandomRegulator, Regulator, Samples, SimGradient, Simulation,
    Spacing, Stream, Update, learn,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The experiment.
pub struct Homeostatic;

/// What depends on the data set.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Setting {
    /// Training and validation images.
    images: (usize, usize),
    /// Images are averaged over squares of this side.
    pool: i64,
    hidden: Vec<usize>,
    epochs: usize,
    /// Spacings of swaps whose gain C2 asks for, in samples, fastest last.
    fast: Vec<usize>,
    /// The others.
    slow: Vec<usize>,
    /// Second-order shift: slow and fast spacing, and epochs of a season.
    seasons: (usize, usize, usize),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Config {
    /// Rate at the start; a move is a tenth of it.
    eta: f64,
    batch: usize,
    interval: usize,
    memory: usize,
    /// Constant rates.
    constants: Vec<f64>,
    momentum: f32,
    adam: f64,
    /// Of the accuracy around swaps: samples of a bin, and bins on each side.
    around: (usize, usize),
    /// Epochs that one logged point stands for.
    every: usize,
    digits: Setting,
    mnist: Setting,
}

impl Config {
    fn setting(&self, plan: &Plan) -> &Setting {
        if plan.dataset == "digits" { &self.digits } else { &self.mnist }
    }

    fn check(&self, setting: &Setting) -> Result<()> {
        check_range("eta", self.eta, f64::MIN_POSITIVE..)?;
        check_range("adam", self.adam, f64::MIN_POSITIVE..)?;
        check_range("momentum", f64::from(self.momentum), 0.0..1.0)?;
        check_list("constants", &self.constants, f64::MIN_POSITIVE..)?;
        for (what, value) in [
            ("batch", self.batch),
            ("interval", self.interval),
            ("memory", self.memory),
            ("every", self.every),
            ("training images", setting.images.0),
            ("validation images", setting.images.1),
            ("epochs", setting.epochs),
            ("samples of a bin", self.around.0),
            ("bins", self.around.1),
        ] {
            check_range(what, value as f64, 1.0..)?;
        }
        if !self.constants.contains(&self.eta) {
            return Err(Error::value("constants", "eta among them: it is LRC", format!("{:?}", self.constants)).into());
        }
        if setting.fast.is_empty() || setting.slow.is_empty() {
            return Err(Error::value("fast and slow", "a spacing or more each", "none").into());
        }
        streams(setting).iter().try_for_each(|(_, spacing)| Ok(spacing.check()?))
    }
}

const STATIONARY: &str = "none";
const SEASONS: &str = "seasons";

/// Streams by name, slowest first.
fn streams(setting: &Setting) -> Vec<(String, Spacing)> {
    let every = setting.slow.iter().chain(&setting.fast).map(|s| (s.to_string(), Spacing::Every(*s)));
    let (slow, fast, epochs) = setting.seasons;
    let seasons = (SEASONS.to_owned(), Spacing::Seasons { slow, fast, epochs });
    [(STATIONARY.to_owned(), Spacing::Never)].into_iter().chain(every).chain([seasons]).collect()
}

/// Who regulates the rate.
#[derive(Debug, Clone, Copy)]
enum Learner {
    Constant(f64),
    Random,
    Homeostatic(SimGradient, Policy),
    Momentum,
    Adam,
}

const LRR: &str = "random";
const LRH: &str = "homeostatic";
const LRH_MEMORY: &str = "homeostatic, gradient of the memory";
const ALWAYS: &str = "always ingest";
const ORACLE: &str = "homeostatic, true labels";
const MOMENTUM: &str = "momentum";
const ADAM: &str = "adam";

fn constant(eta: f64) -> String {
    format!("constant {eta}")
}

fn learners(config: &Config) -> Vec<(String, Learner)> {
    let mut all: Vec<_> = config.constants.iter().map(|c| (constant(*c), Learner::Constant(*c))).collect();
    all.extend(
        [
            (LRR, Learner::Random),
            (LRH, Learner::Homeostatic(SimGradient::Accumulated, Policy::Guess)),
            (LRH_MEMORY, Learner::Homeostatic(SimGradient::Memory, Policy::Guess)),
            (ORACLE, Learner::Homeostatic(SimGradient::Accumulated, Policy::Oracle)),
            (ALWAYS, Learner::Homeostatic(SimGradient::Accumulated, Policy::Always)),
            (MOMENTUM, Learner::Momentum),
            (ADAM, Learner::Adam),
        ]
        .map(|(name, learner)| (name.to_owned(), learner)),
    );
    all
}

/// Arms of one stream are `stream/learner`.
fn arm(stream: &str, learner: &str) -> String {
    format!("{stream}/{learner}")
}

const ONLINE: &str = "online accuracy (%)";
const VALIDATION: &str = "validation accuracy (%)";
const ETA: &str = "learning rate";
/// Over the whole stream.
const MEAN_ONLINE: &str = "mean online accuracy (%)";
const FINAL_ETA: &str = "mean rate of the last quarter";
const INGESTED_UP: &str = "labels 5 to 9 ingested (%)";
const INGESTED_DOWN: &str = "labels 0 to 4 ingested (%)";
/// Array: accuracy around swaps.
const AROUND: &str = "around";

impl Experiment for Homeostatic {
    fn slug(&self) -> &'static str {
        "homeostatic"
    }

    fn version(&self) -> u32 {
        1
    }

    fn claims(&self) -> Vec<Claim> {
        vec![
            Claim::new(
                "C1",
                "Regulating its own rate does not hurt a learner: without shift it is about as accurate as with a constant rate",
                "figure",
                "Validation accuracy without swaps, homeostatic (published code) minus constant, paired by seed: the 95 % interval lies within 2 points either way.",
            ),
            Claim::new(
                "C2a",
                "Under concept shift the homeostatic rate beats the constant one, most at the fastest shift",
                "figure",
                "Mean online accuracy, homeostatic minus constant at the same starting rate, paired by seed: at both fast spacings (digits: 200 and 100 samples) the interval is above 0 and the mean is larger than at the slowest spacing and without swaps. Partly if so with the memory's gradient only.",
            ),
            Claim::new(
                "C2b",
                "Under concept shift the homeostatic rate beats the randomly regulated one",
                "figure",
                "As C2a, against the random regulator.",
            ),
            Claim::new(
                "C3",
                "The homeostatic rate is superior under second-order shift",
                "figure",
                "On the stream of seasons, homeostatic minus constant and minus random: both intervals are above 0. Partly if one is, or both with the memory's gradient only.",
            ),
            Claim::new(
                "C4",
                "The regulated rate follows the environment: higher under faster shift",
                "figure",
                "The mean rate of the last quarter of the stream (mean over seeds) grows from each spacing to the next faster one, homeostatic. Partly if with the memory's gradient only.",
            ),
        ]
    }

    fn datasets(&self) -> &'static [&'static str] {
        &["digits", "mnist"]
    }

    fn seeds(&self, scale: Scale) -> usize {
        if scale == Scale::Smoke { 1 } else { 10 }
    }

    fn config(&self, scale: Scale) -> Value {
        let digits = Setting {
            images: (1400, 397),
            pool: 1,
            hidden: vec![40, 30],
            epochs: 100,
            fast: vec![200, 100],
            slow: vec![1400, 400],
            seasons: (1400, 200, 10),
        };
        let mnist = Setting {
            images: (8000, 2000),
            pool: 2,
            hidden: vec![80, 60],
            epochs: 12,
            fast: vec![500, 250],
            slow: vec![4000, 1000],
            seasons: (4000, 250, 3),
        };
        let mut config = Config {
            eta: 0.01,
            batch: 10,
            interval: 10,
            memory: 20,
            constants: vec![0.003, 0.01, 0.03, 0.1, 0.3, 1.0],
            momentum: 0.9,
            adam: 1e-3,
            around: (10, 10),
            every: 10,
            digits,
            mnist,
        };
        match scale {
            Scale::Smoke => {
                (config.constants, config.every) = (vec![0.01, 0.1], 1);
                for setting in [&mut config.digits, &mut config.mnist] {
                    (setting.images, setting.epochs) = ((400, 100), 2);
                    (setting.slow, setting.fast, setting.seasons) = (vec![200], vec![100], (200, 100, 1));
                }
            }
            Scale::Small => {}
            Scale::Full => {
                config.eta = 0.001;
                config.constants = vec![3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1];
                config.mnist = Setting {
                    images: (60_000, 10_000),
                    pool: 1,
                    epochs: 50,
                    slow: vec![60_000, 30_000, 12_000, 6000],
                    fast: vec![1000, 500],
                    seasons: (60_000, 500, 10),
                    ..config.mnist
                };
            }
        }
        json!(config)
    }

    fn cells(&self, plan: &Plan) -> Result<Vec<Cell>> {
        let config: Config = plan.config()?;
        let setting = config.setting(plan);
        config.check(setting)?;
        let learners = learners(&config);
        let of = |stream: &str| learners.iter().map(|l| arm(stream, &l.0)).collect::<Vec<_>>();
        Ok(plan.cross(&streams(setting).iter().flat_map(|s| of(&s.0)).collect::<Vec<_>>()))
    }

    fn run(&self, cell: &Cell, context: &mut Context<'_>) -> Result<()> {
        let config: Config = context.plan.config()?;
        let (stream, learner) = cell.arm.split_once('/').context("an arm is a stream and a learner")?;
        let spacing = streams(config.setting(context.plan)).into_iter().find(|s| s.0 == stream);
        let learner = learners(&config).into_iter().find(|l| l.0 == learner);
        run(spacing.context("an unknown stream")?.1, learner.context("an unknown learner")?.1, &config, context)
    }

    fn judge(&self, results: &Results) -> Result<Vec<Finding>> {
        judge::findings(results)
    }

    fn plots(&self, results: &Results) -> Result<Vec<Plot>> {
        judge::plots(results)
    }

    fn note(&self, _plan: &Plan) -> String {
        "The official code is followed, which simulates with the gradient that the minibatch has accumulated so far: where opportunities fall on its first sample, that is one sample's over ten, and the two simulated networks rarely differ; the variant with the memory's mean gradient is run beside it. All regulators start at the same rate, far below the best constant one, which is shown too (chosen per stream after the fact, so it is a bound and no part of a verdict). The paper's grid of spacings and its seasons are not known: these are this project's. Momentum has the starting rate, Adam its usual 1e-3.".to_owned()
    }
}

/// Images as the perceptron reads them.
fn samples(set: &ImageSet, pool: i64) -> Result<Samples> {
    let images = set.to_float();
    let pooled =
        if pool > 1 { images.avg_pool2d([pool, pool], [pool, pool], [0, 0], false, true, None) } else { images };
    let classes = Vec::<i64>::try_from(&set.labels)?.into_iter().map(|c| c as usize).collect();
    Ok(Samples::new(Vec::try_from(pooled.flatten(0, -1))?, classes)?)
}

fn load(setting: &Setting, context: &Context<'_>) -> Result<[Samples; 2]> {
    let (plan, seed) = (context.plan, context.seed("images"));
    let (n, validation) = setting.images;
    let (train, kept) = if plan.dataset == "digits" {
        let (train, rest) = digits().split(n, seed)?;
        (train, rest.subset(validation, seed)?)
    } else {
        let (train, test) = load_images(&plan.dataset, plan.data_dir.as_deref(), plan.download)?;
        (train.subset(n, seed)?, test.subset(validation, seed)?)
    };
    Ok([samples(&train, setting.pool)?, samples(&kept, setting.pool)?])
}

fn run(spacing: Spacing, learner: Learner, config: &Config, context: &mut Context<'_>) -> Result<()> {
    let setting = config.setting(context.plan);
    let [train, validation] = load(setting, context)?;
    let sizes: Vec<usize> = [train.width()].into_iter().chain(setting.hidden.iter().copied()).chain([10]).collect();
    let mut net = Mlp::new(&sizes, &mut seed::rng(context.seed("init"), &["weights"]))?;
    let effect = Effect::of(config.eta);
    let (update, mut regulator): (Update, Box<dyn Regulator>) = match learner {
        Learner::Constant(eta) => (Update::Sgd, Box::new(Constant(eta))),
        Learner::Momentum => (Update::Momentum(config.momentum), Box::new(Constant(config.eta))),
        Learner::Adam => (Update::Adam, Box::new(Constant(config.adam))),
        Learner::Random => {
            let rng = seed::rng(context.arm_seed("regulator"), &["random"]);
            (Update::Sgd, Box::new(RandomRegulator::new(config.eta, effect, 0.5, rng)?))
        }
        Learner::Homeostatic(gradient, policy) => {
            let simulation = Simulation { memory: config.memory, gradient, policy };
            (Update::Sgd, Box::new(HomeostaticRegulator::new(config.eta, effect, simulation)?))
        }
    };
    let stream = Stream {
        batch: config.batch,
        interval: config.interval,
        epochs: setting.epochs,
        spacing,
        update,
        seed: context.seed("stream"),
    };
    let trace = learn(&mut net, &train, &validation, &stream, &mut *regulator)?;

    let updates = trace.eta.len() / setting.epochs;
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    for from in (0..setting.epochs).step_by(config.every) {
        let to = (from + config.every).min(setting.epochs);
        context.metric(to, ONLINE, 100.0 * mean(&trace.online[from..to]));
        context.metric(to, VALIDATION, 100.0 * mean(&trace.validation[from..to]));
        context.metric(to, ETA, mean(&trace.eta[from * updates..to * updates]));
    }
    context.metric(setting.epochs, MEAN_ONLINE, 100.0 * trace.mean_online());
    context.metric(setting.epochs, FINAL_ETA, trace.final_eta());
    let share = |part: &[(usize, usize)]| {
        let (asked, ingested) = part.iter().fold((0, 0), |sum, d| (sum.0 + d.0, sum.1 + d.1));
        100.0 * ingested as f64 / asked.max(1) as f64
    };
    context.metric(setting.epochs, INGESTED_DOWN, share(&trace.decisions[..effect.up_from]));
    context.metric(setting.epochs, INGESTED_UP, share(&trace.decisions[effect.up_from..]));
    if let Some(around) = trace.around_swaps(config.around.0, config.around.1) {
        context.array(AROUND, around);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_work_are_refused_before_anything_runs() {
        let cells = |changes: &[(&str, Value)]| Plan::trial_cells(&Homeostatic, changes);
        assert_eq!(cells(&[]).unwrap().len(), 4 * (2 + 7));
        let refused = [
            ("eta", json!(0.0), "eta: "),
            ("eta", json!(0.02), "constants: expected eta among them"),
            ("batch", json!(0), "batch: "),
            ("momentum", json!(1.0), "momentum: "),
            ("digits.epochs", json!(0), "epochs: "),
            ("digits.fast", json!([]), "fast and slow: "),
            ("digits.fast", json!([0]), "spacing: "),
            ("digits.seasons", json!([10, 10, 0]), "epochs of a season: "),
        ];
        Plan::assert_refused(&Homeostatic, &refused);
    }
}
