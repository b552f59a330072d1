//! Mixed Barlow Twins: does Barlow Twins overfit small data, and does the regulariser on mixtures guard it?
//!
//! The judged comparison runs on UCI digits of which each carries a smooth pattern of its own: invariant, specific to the
//! sample and useless, something that a wide decorrelated code can memorise. All arms share initialisation, batches and views
//! by seed, and are evaluated along the way; the last epoch counts, none is selected.

mod train;

use crate::experiment::{Cell, Claim, Experiment, Plan, Scale, check_list};
use crate::plot::{Plot, Series};
use crate::results::Results;
use crate::runner::Context;
use crate::verdict::{self, Finding, Verdict};
use anyhow::Result;
use autodidact_core::stats::{self, Estimate};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The experiment.
pub struct MixedBarlowTwins;

/// Metrics.
const KNN: &str = "k-NN accuracy";
const PROBE: &str = "ridge probe accuracy";
const TRAINING_LOSS: &str = "training loss of Barlow Twins";
const OWN_LOSS: &str = "loss on pre-training images";
const HELD_LOSS: &str = "loss on held-out images";
const HELD_REGULARISER: &str = "regulariser on held-out images";

/// Arms of the comparison.
const TWINS: &str = "barlow-twins";
const MIXED: &str = "mixed";
const CONTROLS: [&str; 2] = ["barlow-twins-longer", "mixed-inputs"];

/// Hyper-parameters.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Config {
    digits: train::Setting,
    color: train::Setting,
    /// Values of `lambda_reg` beside the setting's own.
    lambdas: Vec<f64>,
    /// Widths of the embedding beside the setting's own.
    widths: Vec<i64>,
}

impl Config {
    /// The judged setting: digits, at full scale that of the chosen data set.
    fn judged(&self, plan: &Plan) -> &train::Setting {
        if judged_on(plan) == "digits" { &self.digits } else { &self.color }
    }

    /// All values of `lambda_reg` with their arms, ascending.
    fn by_lambda(&self, own: f64) -> Vec<(f64, String)> {
        let mut all: Vec<_> = self.lambdas.iter().map(|&l| (l, format!("{MIXED}/lambda_reg={l}"))).collect();
        all.push((own, MIXED.to_owned()));
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        all
    }
}

fn judged_on(plan: &Plan) -> &str {
    if plan.scale == Scale::Full { &plan.dataset } else { "digits" }
}

/// The arm of a method on the data set that is reported beside the judged one.
fn beside(dataset: &str, method: &str) -> String {
    format!("{dataset}/{method}")
}

impl Experiment for MixedBarlowTwins {
    fn slug(&self) -> &'static str {
        "mixed-barlow-twins"
    }

    fn version(&self) -> u32 {
        1
    }

    fn claims(&self) -> Vec<Claim> {
        vec![
            Claim::new(
                "C1",
                "Barlow Twins overfits: k-NN accuracy falls while its loss goes on falling",
                "curves only",
                "k-NN accuracy of Barlow Twins at its best evaluation in the first 10 epochs (after 5 and after 10) minus its lowest afterwards: the 95 % interval over seeds lies above 0, and the training loss falls between the two in every seed. Partly if instead only the loss on held-out images rises or stalls (falls by less than 1 % on average) from epoch 30 to the last while the training loss falls by more in every seed.",
            ),
            Claim::new(
                "C2",
                "Mixed Barlow Twins removes the fall and ends higher",
                "k-NN with ResNet-18: CIFAR-10 90.52, CIFAR-100 61.25, STL-10 88.94",
                "k-NN accuracy, paired by seed: Mixed minus Barlow Twins, averaged over evaluations from epoch 30 on, has a 95 % interval above 0, and the mean difference at the last epoch is above 0. Partly if one of the two holds.",
            ),
            Claim::new(
                "C3",
                "On ImageNet it gains over Barlow Twins",
                "linear top-1 after 300 epochs: 72.2 against 71.3",
                "Not decidable at this scale.",
            ),
            Claim::new(
                "C4",
                "A wide range of lambda_reg works",
                "ImageNet: 0.1, 1, 2 and 3 all above the baseline",
                "Mean k-NN accuracy at the last epoch is at least that of Barlow Twins for three or more of the four values of lambda_reg.",
            ),
            Claim::new("C5", "The features transfer better", "seven target data sets", "Not attempted."),
        ]
    }

    fn datasets(&self) -> &'static [&'static str] {
        &["digits", "cifar10", "shapes"]
    }

    fn config(&self, scale: Scale) -> Value {
        let mut config = Config {
            digits: train::Setting::digits(),
            color: train::Setting::color(),
            lambdas: vec![0.1, 1.0, 10.0],
            widths: vec![128],
        };
        match scale {
            Scale::Smoke => {
                for s in [&mut config.digits, &mut config.color] {
                    (s.train, s.bank, s.test, s.embedding, s.batch) = (128, 160, 100, 32, 64);
                    (s.epochs, s.every) = (6, 2);
                }
                (config.lambdas, config.widths) = (vec![1.0], vec![16]);
            }
            Scale::Small => {}
            Scale::Full => {
                config.color = train::Setting::full();
                config.widths = vec![128, 2048];
            }
        }
        json!(config)
    }

    fn cells(&self, plan: &Plan) -> Result<Vec<Cell>> {
        let config: Config = plan.config()?;
        config.digits.check("digits", 8)?;
        config.color.check("color", 32)?;
        check_list("lambdas", &config.lambdas, f64::MIN_POSITIVE..)?;
        check_list("widths", &config.widths.iter().map(|w| *w as f64).collect::<Vec<_>>(), 1.0..)?;
        let sweep = config.by_lambda(config.judged(plan).lambda_reg).into_iter().map(|(_, arm)| arm);
        let mut arms: Vec<String> = [TWINS.to_owned()].into_iter().chain(sweep).collect();
        let mut once: Vec<String> = CONTROLS.map(str::to_owned).to_vec();
        for width in &config.widths {
            once.extend([TWINS, MIXED].map(|method| format!("{method}/width={width}")));
        }
        if plan.scale == Scale::Full {
            arms.append(&mut once);
        } else if plan.dataset != "digits" {
            once.extend([TWINS, MIXED].map(|method| beside(&plan.dataset, method)));
        }
        let mut cells = plan.cross(&arms);
        cells.extend(plan.seeds.first().into_iter().flat_map(|&s| once.iter().map(move |a| Cell::new(a, s))));
        Ok(cells)
    }

    fn run(&self, cell: &Cell, context: &mut Context<'_>) -> Result<()> {
        let config: Config = context.plan.config()?;
        let (mut dataset, mut setting) = (judged_on(context.plan), config.judged(context.plan).clone());
        let (mut name, change) = cell.arm.split_once('/').unwrap_or((&cell.arm, ""));
        match change.split_once('=') {
            Some(("lambda_reg", value)) => setting.lambda_reg = value.parse()?,
            Some((_, width)) => setting.embedding = width.parse()?,
            None if !change.is_empty() => (dataset, name, setting) = (name, change, config.color),
            None => {}
        }
        let (method, stretch) = train::Method::parse(name)?;
        let data = train::Data::load(context.plan, dataset, &setting)?;
        train::cell(method, stretch, &setting, &data, context)
    }

    fn judge(&self, results: &Results) -> Result<Vec<Finding>> {
        let config: Config = results.plan().config()?;
        let setting = config.judged(results.plan());
        let curve = |arm: &str, seed: u64, metric: &str| -> Result<Vec<(f64, f64)>> {
            let per_epoch = setting.steps_per_epoch() as f64;
            Ok(results.series(arm, seed, metric)?.into_iter().map(|(step, v)| (step / per_epoch, v)).collect())
        };
        let seeds = results.seeds(TWINS);

        // C1.
        let (mut best, mut lowest, mut later, mut held) = (vec![], vec![], vec![], vec![]);
        let (mut falls_meanwhile, mut falls_late) = (true, true);
        for &seed in &seeds {
            let knn: Vec<_> = curve(TWINS, seed, KNN)?.into_iter().filter(|p| p.0 > 0.0).collect();
            let early = knn.iter().filter(|p| p.0 <= 10.0);
            let Some(&top) = early.max_by(|a, b| a.1.total_cmp(&b.1)) else { break };
            let after: Vec<_> = knn.iter().copied().filter(|p| p.0 > top.0).collect();
            let Some(&bottom) = after.iter().min_by(|a, b| a.1.total_cmp(&b.1)) else { break };
            best.push(top.1);
            lowest.push(bottom.1);
            later.push(stats::mean(&after.iter().map(|p| p.1).collect::<Vec<_>>()));
            let training = curve(TWINS, seed, TRAINING_LOSS)?;
            let loss_at = |epoch: f64| training.iter().find(|p| p.0 == epoch).map_or(f64::NAN, |p| p.1);
            falls_meanwhile &= loss_at(bottom.0) < loss_at(top.0);
            let change = |points: &[(f64, f64)]| {
                let from = points.iter().find(|p| p.0 >= 30.0).map_or(f64::NAN, |p| p.1);
                points.last().map_or(f64::NAN, |p| p.1 / from - 1.0)
            };
            let held_out = change(&curve(TWINS, seed, HELD_LOSS)?);
            falls_late &= change(&training) < held_out.min(-0.01);
            held.push(held_out);
        }
        let fall = verdict::difference(&best, &lowest, 0.0);
        let stalls = stats::mean(&held) > -0.01 && falls_late;
        let c1 = match fall.verdict {
            Verdict::NotJudged => Verdict::NotJudged,
            Verdict::Reproduced if falls_meanwhile => Verdict::Reproduced,
            _ if stalls => Verdict::Partly,
            _ => Verdict::NotReproduced,
        };
        let start = seeds.iter().map(|&s| Ok(curve(TWINS, s, KNN)?[0].1)).collect::<Result<Vec<_>>>()?;
        let c1 = Finding::new(
            "C1",
            fall,
            format!(
                "Points of k-NN accuracy lost. Accuracy (%): untrained encoder {:.1}, best of epochs 5 and 10 {:.1}, lowest afterwards {:.1}, mean afterwards {:.1}, last {:.1}. The training loss falls meanwhile in every seed: {falls_meanwhile}. Loss on held-out images from epoch 30 to the last: {:+.1} %.",
                stats::mean(&start),
                stats::mean(&best),
                stats::mean(&lowest),
                stats::mean(&later),
                results.mean(TWINS, KNN)?,
                100.0 * stats::mean(&held),
            ),
        )
        .against(stats::mean(&lowest))
        .verdict(c1);

        // C2.
        let late = |arm: &str| -> Result<Vec<f64>> {
            let mean = |seed: &u64| {
                let points = curve(arm, *seed, KNN)?;
                Ok(stats::mean(&points.iter().filter(|p| p.0 >= 30.0).map(|p| p.1).collect::<Vec<_>>()))
            };
            seeds.iter().map(mean).collect()
        };
        let (mixed, twins) = (late(MIXED)?, late(TWINS)?);
        let higher = verdict::difference(&mixed, &twins, 0.0);
        let last = results.mean(MIXED, KNN)? - results.mean(TWINS, KNN)?;
        let verdict = match higher.verdict {
            Verdict::NotJudged => Verdict::NotJudged,
            other => Verdict::all(&[other, Verdict::of(last > 0.0)]),
        };
        let gap = |arm: &str| Ok::<_, anyhow::Error>(results.mean(arm, HELD_LOSS)? - results.mean(arm, OWN_LOSS)?);
        let mut beside_them = vec![];
        for arm in results.arms().into_iter().filter(|a| *a != TWINS && *a != MIXED && !a.contains("lambda")) {
            beside_them.push(format!("{arm} {:.1}", results.mean(arm, KNN)?));
        }
        let c2 = Finding::new(
            "C2",
            higher,
            format!(
                "Mean difference in points from epoch 30 on; at the last epoch {last:+.2} (Mixed {:.1}, Barlow Twins {:.1}; ridge probe {:.1} and {:.1}). Loss on held-out minus on pre-training images at the last epoch: Mixed {:.1}, Barlow Twins {:.1}. k-NN accuracy of other arms at the last epoch: {}.",
                results.mean(MIXED, KNN)?,
                results.mean(TWINS, KNN)?,
                results.mean(MIXED, PROBE)?,
                results.mean(TWINS, PROBE)?,
                gap(MIXED)?,
                gap(TWINS)?,
                beside_them.join(", "),
            ),
        )
        .against(stats::mean(&twins))
        .verdict(verdict);

        // C4.
        let baseline = results.mean(TWINS, KNN)?;
        let sweep = config.by_lambda(setting.lambda_reg);
        let means = sweep.iter().map(|(_, arm)| results.mean(arm, KNN)).collect::<Result<Vec<_>>>()?;
        let as_good = means.iter().filter(|m| **m >= baseline).count();
        let listed: Vec<String> = sweep.iter().zip(&means).map(|((l, _), m)| format!("{l}: {m:.1}")).collect();
        let c4 = verdict::Judgement {
            estimate: Estimate { n: seeds.len(), ..Estimate::exact(as_good as f64) },
            verdict: Verdict::of(as_good >= 3).with_seeds(seeds.len()),
        };
        let c4 = Finding::new(
            "C4",
            c4,
            format!(
                "Values of lambda_reg that end at least as high as Barlow Twins ({baseline:.1} %), of {}: {}.",
                means.len(),
                listed.join(", ")
            ),
        );
        let c3 = Finding::not_judged("C3", "needs ImageNet-size pre-training");
        Ok(vec![c1, c2, c3, c4, Finding::not_judged("C5", "transfer is not attempted")])
    }

    fn plots(&self, results: &Results) -> Result<Vec<Plot>> {
        let config: Config = results.plan().config()?;
        let setting = config.judged(results.plan());
        let series = |name: &str, colour: usize, arm: &str, metric: &str, per_epoch: usize| -> Result<Series> {
            let points = results.mean_series(arm, metric)?;
            let points: Vec<_> = points.into_iter().map(|(step, v)| (step / per_epoch as f64, v)).collect();
            Ok(Series::line(name, colour, &points))
        };
        let per_epoch = setting.steps_per_epoch();
        let mut lines = vec![];
        for (colour, arm) in [TWINS, MIXED].into_iter().chain(CONTROLS).enumerate() {
            lines.push(series(arm, colour, arm, KNN, per_epoch)?);
        }
        for width in &config.widths {
            for (colour, method) in [TWINS, MIXED].into_iter().enumerate() {
                let arm = format!("{method}/width={width}");
                lines.push(series(&format!("{method}, D = {width}"), colour, &arm, KNN, per_epoch)?.dashed());
            }
        }
        let caption = format!(
            "k-NN accuracy during pre-training on {} (epoch 0: untrained); {TWINS} and {MIXED}: means of {} seeds.",
            judged_on(results.plan()),
            results.seeds(TWINS).len()
        );
        let mut plots = vec![Plot::lines("accuracy", &caption, "epoch", "k-NN accuracy (%)", lines)];
        let mut lines = vec![];
        for (colour, arm) in [TWINS, MIXED].into_iter().enumerate() {
            lines.push(series(&format!("{arm}, held-out"), colour, arm, HELD_LOSS, per_epoch)?);
            lines.push(series(&format!("{arm}, pre-training"), colour, arm, OWN_LOSS, per_epoch)?.dashed());
        }
        let caption =
            "Loss of Barlow Twins on pairs of held-out and of pre-training images, as many of each (means over seeds).";
        plots.push(Plot::lines("loss", caption, "epoch", "loss (sum over units)", lines).log(false, true));

        let mut points = vec![];
        for (lambda, arm) in config.by_lambda(setting.lambda_reg) {
            let (mean, half) = verdict::summary(&results.values(&arm, KNN)?);
            points.push((lambda, mean, half));
        }
        let baseline = results.mean(TWINS, KNN)?;
        let ends: Vec<_> = points.iter().map(|p| (p.0, baseline)).collect();
        let lines = vec![Series::with_intervals(MIXED, 1, points), Series::line(TWINS, 0, &ends).dashed()];
        let caption = "k-NN accuracy at the last epoch by weight of the regulariser; means with 95 % intervals.";
        plots.push(Plot::lines("lambda", caption, "lambda_reg", "k-NN accuracy (%)", lines).log(true, false));

        let seed = results.plan().seeds[0];
        let mut panels = vec![];
        for (arm, name) in [(TWINS, "C"), (TWINS, "C^MA - G^MA"), (MIXED, "C"), (MIXED, "C^MA - G^MA")] {
            let values = results.array(arm, seed, name)?;
            let side = (values.len() as f64).sqrt() as usize;
            panels.push((format!("{arm}: {name}"), side, side, values.to_vec()));
        }
        let caption =
            format!("First 32 units on pairs of test images after training, blue +1, orange -1 (seed {seed}).");
        plots.push(Plot::heat("correlation", &caption, panels, -1.0, 1.0));

        let dataset = &results.plan().dataset;
        if results.has(&beside(dataset, MIXED)) {
            let per_epoch = config.color.steps_per_epoch();
            let lines = [TWINS, MIXED].into_iter().enumerate();
            let lines = lines.map(|(colour, m)| series(m, colour, &beside(dataset, m), KNN, per_epoch));
            let caption = format!("k-NN accuracy during pre-training on {dataset} (one seed, not judged).");
            let lines = lines.collect::<Result<_>>()?;
            plots.push(Plot::lines("beside", &caption, "epoch", "k-NN accuracy (%)", lines));
        }
        Ok(plots)
    }

    fn note(&self, plan: &Plan) -> String {
        let beside = match (plan.scale, plan.dataset.as_str()) {
            (Scale::Full, _) | (_, "digits") => "",
            _ => " The data set named above is reported for one seed, not judged.",
        };
        format!(
            "Judged on {}.{beside} Small convolutional encoders and Adam instead of ResNets; embeddings are standardised with the biased deviation and are not scaled to length 1 before. At small scale the longer run, the mixtures as mere inputs and the other widths have one seed. barlow-twins-longer trains 1.5 times as many epochs, the computing that the mixtures cost. mixed-inputs takes the mixtures as a third view: the mean of the loss of the two views and of that of the mixtures and the first view. As in the official code, mixed batches update the running statistics of batch norm. The last epoch counts; the official code reports the best one by test accuracy.",
            judged_on(plan)
        )
    }
}
