//! Three regimes of pruning: whether dense training should be hotter or colder depends on how hard the network is pruned.
//!
//! Small convolutional networks are trained at several temperatures (stopped early, small batches, SAM), pruned to several densities and
//! retrained twice; the pair's connectivity and similarity tell the regime.

mod judge;
mod train;

use crate::experiment::{Cell, Claim, Experiment, Plan, Scale, check_list};
use crate::plot::Plot;
use crate::results::Results;
use crate::runner::Context;
use crate::verdict::Finding;
use crate::vision::{Images, check_side};
use anyhow::{Context as _, Result};
use autodidact_core::Error;
use autodidact_core::error::check_range;
use autodidact_core::landscape::load_state_dict;
use autodidact_core::tangent::linear_cka;
use autodidact_pruning::three_regimes::{jensen_shannon, lmc, output_agreement};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use train::{Network, Temperature, errors_between, retrain};

/// The experiment.
pub struct ThreeRegimes;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Config {
    /// Training and test images, and their side after averaging.
    images: (usize, usize),
    side: i64,
    /// Width and stride of the convolutions.
    blocks: Vec<(i64, i64)>,
    epochs: usize,
    batch: usize,
    lr: f64,
    momentum: f64,
    weight_decay: f64,
    /// Temperatures, hottest first: shares of the dense training after which it stops, the last being 1.
    stops: Vec<f64>,
    /// Other batch sizes and radii of SAM of whole dense trainings of as many steps.
    batches: Vec<usize>,
    rhos: Vec<f64>,
    /// Densities, lowest first; other batch sizes and radii have the first and the last.
    densities: Vec<f64>,
    /// Points of a line, ends included.
    points: usize,
    /// The test error is the mean over so many last epochs.
    last_epochs: usize,
    /// Largest barrier of connected networks.
    eps: f64,
    /// Barrier that the hardest pruned, coldest networks should have.
    barrier: f64,
}

impl Config {
    fn steps(&self, data: &Images) -> usize {
        self.epochs * (data.train.len() as usize / self.batch)
    }

    /// What decides a dense network, beside its temperature.
    fn dense(&self) -> Value {
        json!([self.images, self.side, self.blocks, self.batch, self.lr, self.momentum, self.weight_decay])
    }

    fn check(&self) -> Result<()> {
        check_side("side", self.side, 32)?;
        for (what, value, low) in [
            ("training images", self.images.0 as f64, self.batch as f64),
            ("test images", self.images.1 as f64, 1.0),
            ("epochs", self.epochs as f64, 4.0),
            ("batch", self.batch as f64, 2.0),
            ("lr", self.lr, f64::MIN_POSITIVE),
            ("weight_decay", self.weight_decay, 0.0),
            ("points", self.points as f64, 3.0),
            ("last_epochs", self.last_epochs as f64, 1.0),
            ("eps", self.eps, f64::MIN_POSITIVE),
            ("barrier", self.barrier, f64::MIN_POSITIVE),
        ] {
            check_range(what, value, low..)?;
        }
        check_range("momentum", self.momentum, 0.0..1.0)?;
        check_range("last_epochs", self.last_epochs as f64, ..=self.epochs as f64)?;
        for (what, list) in [("stops", &self.stops), ("densities", &self.densities)] {
            check_list(what, list, f64::MIN_POSITIVE..=1.0)?;
            if list.len() < 2 || list.windows(2).any(|w| w[0] >= w[1]) {
                return Err(Error::value(what, "two or more, rising", format!("{list:?}")).into());
            }
        }
        if self.stops.last() != Some(&1.0) {
            return Err(Error::value("stops", "1 as the last", format!("{:?}", self.stops)).into());
        }
        check_list("rhos", &self.rhos, f64::MIN_POSITIVE..)?;
        let batches: Vec<f64> = self.batches.iter().map(|b| *b as f64).collect();
        check_list("batches", &batches, 2.0..=self.images.0 as f64)?;
        let mut distinct = batches.clone();
        distinct.extend(&self.rhos);
        distinct.sort_unstable_by(f64::total_cmp);
        if distinct.windows(2).any(|w| w[0] == w[1]) {
            return Err(Error::value("batches and rhos", "different ones", format!("{distinct:?}")).into());
        }
        let steps = self.epochs * (self.images.0 / self.batch);
        if (self.stops[0] * steps as f64).round() < 1.0 {
            return Err(Error::value("stops", format!("a step at least of {steps}"), self.stops[0]).into());
        }
        if self.batches.contains(&self.batch) {
            return Err(Error::value("batches", format!("others than batch = {}", self.batch), self.batch).into());
        }
        Ok(())
    }

    fn stop(&self, stop: f64) -> Temperature {
        Temperature { batch: self.batch, rho: 0.0, stop }
    }

    /// The coldest stop: the whole dense training.
    fn cold(&self) -> Temperature {
        self.stop(1.0)
    }

    /// Batch sizes, smallest (hottest) first, that of the stops among them.
    fn by_batch(&self) -> Vec<Temperature> {
        let mut all = self.batches.clone();
        all.push(self.batch);
        all.sort_unstable();
        all.into_iter().map(|batch| Temperature { batch, ..self.cold() }).collect()
    }

    /// Radii of SAM, largest (hottest) first, none last.
    fn by_rho(&self) -> Vec<Temperature> {
        let mut all = self.rhos.clone();
        all.sort_unstable_by(|a, b| b.total_cmp(a));
        all.push(0.0);
        all.into_iter().map(|rho| Temperature { rho, ..self.cold() }).collect()
    }

    fn ends(&self) -> [f64; 2] {
        [self.densities[0], self.densities[self.densities.len() - 1]]
    }
}

fn arm(temperature: &Temperature, density: f64, config: &Config) -> String {
    format!("{}/density {density}", temperature.name(config))
}

/// All pairs of a temperature and a density.
fn pairs(config: &Config) -> Vec<(Temperature, f64)> {
    let stops = config.stops.iter().flat_map(|s| config.densities.iter().map(|d| (config.stop(*s), *d)));
    let others = config.by_batch().into_iter().chain(config.by_rho()).filter(|t| *t != config.cold());
    stops.chain(others.flat_map(|t| config.ends().map(|d| (t, d)))).collect()
}

const TEST: &str = "test error (%)";
const TRAIN: &str = "training error (%)";
const LMC: &str = "linear mode connectivity";
const CKA: &str = "similarity (CKA)";
const AGREEMENT: &str = "agreement (%)";
const DIVERGENCE: &str = "Jensen-Shannon divergence (nats)";
const DENSE: &str = "test error of the dense network (%)";
const SHARPNESS: &str = "sharpness of the dense network";
/// Array: training errors on the line.
const CURVE: &str = "curve";

impl Experiment for ThreeRegimes {
    fn slug(&self) -> &'static str {
        "three-regimes"
    }

    fn version(&self) -> u32 {
        1
    }

    fn claims(&self) -> Vec<Claim> {
        vec![
            Claim::new(
                "C1",
                "The best temperature depends on the density: hot for few weights, cold for many",
                "at 5 to 8 % 60 to 80 of 160 epochs are up to 3 points better; at 20 to 80 % all epochs are best",
                "At the lowest density the coldest is worse than the best by 1 point or more in the mean, and not the best in any seed; at the highest it is the best or within 0.5 point in the mean. Partly if the coldest minus the hottest grows from each density to the next lower one.",
            ),
            Claim::new(
                "C2",
                "Networks pruned hard from cold training are badly connected, sharply so",
                "down to -0.65 left of 10 to 14 % and colder than 85 epochs, about 0 elsewhere",
                "Mean connectivity at the lowest density from the coldest training: at most -0.05 and at least 0.05 below that at the highest density (0.3 at full scale); and below that of the hottest training at the lowest density. Partly if one half.",
            ),
            Claim::new(
                "C3",
                "Similarity separates the connected regimes",
                "0.88, 0.92 to 0.96, above 0.98",
                "Mean CKA grows with density at every temperature, and at the highest density with coldness. Partly if one.",
            ),
            Claim::new(
                "C4",
                "The regime tells the direction of improvement",
                "rule",
                "From either side of all pairs of neighbouring temperatures (by seed and density) whose errors differ by 1 point or more, the rule (connectivity below -0.05: hotter, else colder) points to the better of the two in 75 % or more, and more often than the best constant answer.",
            ),
            Claim::new(
                "C5",
                "The same holds with the batch size as temperature",
                "figure",
                "At every batch size mean CKA is larger at the highest density than at the lowest, and the best batch size there is larger than the best at the lowest. Partly if one.",
            ),
            Claim::new(
                "C6",
                "Models selected by connectivity and similarity beat those selected by their dense accuracy",
                "figure",
                "Mean over seeds of the test error of the stop selected by seed and density: at no density above that of the stop with the best dense accuracy, and below it at one.",
            ),
        ]
    }

    fn datasets(&self) -> &'static [&'static str] {
        &["shapes", "cifar10"]
    }

    fn seeds(&self, scale: Scale) -> usize {
        if scale == Scale::Smoke { 1 } else { 3 }
    }

    fn config(&self, scale: Scale) -> Value {
        let small = Config {
            images: (2000, 1000),
            side: 16,
            blocks: vec![(12, 2), (12, 1), (24, 2), (24, 1), (48, 2)],
            epochs: 36,
            batch: 64,
            lr: 0.1,
            momentum: 0.9,
            weight_decay: 1e-4,
            stops: vec![0.33, 0.5, 1.0],
            batches: vec![16, 256],
            rhos: vec![0.1, 0.5],
            densities: vec![0.03, 0.1, 0.6],
            points: 11,
            last_epochs: 5,
            eps: 0.05,
            barrier: 0.05,
        };
        json!(match scale {
            Scale::Smoke => Config {
                images: (128, 64),
                blocks: vec![(8, 2), (8, 2)],
                epochs: 4,
                batch: 32,
                stops: vec![0.5, 1.0],
                batches: vec![16],
                rhos: vec![0.1],
                densities: vec![0.1, 0.6],
                points: 3,
                last_epochs: 2,
                ..small
            },
            Scale::Small => small,
            Scale::Full => Config {
                images: (50_000, 10_000),
                side: 32,
                blocks: vec![(32, 1), (32, 1), (64, 2), (64, 1), (128, 2), (128, 1)],
                epochs: 160,
                stops: vec![0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 1.0],
                batches: vec![16, 32, 128, 256, 512],
                rhos: vec![0.1, 0.2, 0.4, 0.6, 0.8],
                densities: vec![0.05, 0.08, 0.14, 0.4, 0.8],
                barrier: 0.3,
                ..small
            },
        })
    }

    fn cells(&self, plan: &Plan) -> Result<Vec<Cell>> {
        let config: Config = plan.config()?;
        config.check()?;
        Ok(plan.cross(&pairs(&config).iter().map(|(t, d)| arm(t, *d, &config)).collect::<Vec<_>>()))
    }

    fn run(&self, cell: &Cell, context: &mut Context<'_>) -> Result<()> {
        let config: Config = context.plan.config()?;
        let found = pairs(&config).into_iter().find(|(t, d)| arm(t, *d, &config) == cell.arm);
        let (temperature, density) = found.context("an arm that is not there")?;
        run(&temperature, density, &config, context)
    }

    fn judge(&self, results: &Results) -> Result<Vec<Finding>> {
        judge::findings(results)
    }

    fn plots(&self, results: &Results) -> Result<Vec<Plot>> {
        judge::plots(results)
    }

    fn note(&self, plan: &Plan) -> String {
        let config = plan.config::<Config>().ok();
        let (layers, images, side) = config.map_or((0, 0, 0), |c| (c.blocks.len(), c.images.0, c.side));
        format!(
            "{layers} convolutions with batch norm on {images} images averaged to {side} x {side} stand in for a residual network on all of CIFAR-10; seeds are dense trainings, each of whose pruned networks is retrained twice with the full schedule from the full rate. Every kernel keeps the same share of its weights, the classifier all. Connectivity is measured in training error on images without augmentation. Other batch sizes and SAM take as many steps as the whole dense training, at the same rate; they have the lowest and the highest density. The thresholds of the regimes (0.05 of error, the median similarity of a density's connected cells) and the procedures of tuning and selection are this project's readings."
        )
    }
}

fn run(temperature: &Temperature, density: f64, config: &Config, context: &mut Context<'_>) -> Result<()> {
    let (train, test) = config.images;
    let data = Images::load(context.plan, &context.plan.dataset, "three-regimes", train, test, config.side)?;
    let dense = temperature.dense(&data, config, context)?;
    context.metric(0, DENSE, 100.0 * dense.test_error);
    context.metric(0, SHARPNESS, dense.sharpness);
    let first = retrain(&dense, density, 1, &data, config, context)?;
    let second = retrain(&dense, density, 2, &data, config, context)?;
    context.metric(0, TEST, 50.0 * (first.test_error + second.test_error));
    let curve = errors_between(&first.weights, &second.weights, &data, config, context)?;
    context.metric(0, TRAIN, 50.0 * (curve[0] + curve[curve.len() - 1]));
    context.metric(0, LMC, lmc(&curve)?.value);
    context.array(CURVE, curve);
    let network = Network::new(&data, config, 0, context.plan.device)?;
    let mut outputs = vec![];
    for weights in [&first.weights, &second.weights] {
        load_state_dict(&network.vs, weights)?;
        outputs.push(network.probabilities(&data.train.x));
    }
    context.metric(0, CKA, linear_cka(&outputs[0], &outputs[1])?);
    context.metric(0, AGREEMENT, 100.0 * output_agreement(&outputs[0], &outputs[1])?);
    context.metric(0, DIVERGENCE, jensen_shannon(&outputs[0], &outputs[1])?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_work_are_refused_before_anything_runs() {
        let cells = |changes: &[(&str, Value)]| Plan::trial_cells(&ThreeRegimes, changes);
        let all = cells(&[]).unwrap();
        let names: std::collections::BTreeSet<_> = all.iter().map(|c| &c.arm).collect();
        assert_eq!((names.len(), all.len()), (8, 8), "every arm comes once");
        let refused = [
            ("side", json!(5), "side: "),
            ("batch", json!(200), "training images: "),
            ("stops", json!([0.5, 0.9]), "stops: expected 1 as the last"),
            ("stops", json!([1.0]), "stops: expected two"),
            ("densities", json!([0.6, 0.1]), "densities: expected two or more, rising"),
            ("batches", json!([32]), "batches: expected others"),
            ("rhos", json!([0.0]), "rhos: "),
            ("rhos", json!([0.1, 0.1]), "batches and rhos: "),
            ("stops", json!([0.001, 1.0]), "stops: expected a step"),
            ("points", json!(2), "points: "),
            ("last_epochs", json!(9), "last_epochs: "),
            ("momentum", json!(1.0), "momentum: "),
        ];
        Plan::assert_refused(&ThreeRegimes, &refused);
    }
}
