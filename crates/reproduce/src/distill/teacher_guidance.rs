//! Ground-truth targets in self-distillation: the exact theory, kernel regression on digits, and small networks.
//!
//! - `toy`: the paper's eleven points, everything exact.
//! - `krr/lambda=...`: UCI digits with a fifth of the training labels replaced, chains of 20 refits at a grid of weights of the
//!   ground truth and at the greedily optimal one.
//! - `mlp/alpha=...` (on CIFAR-10 `convnet/...`, at scale full `resnet18/...`): networks, chains of five, constant weights
//!   and the estimated one.

mod cells;
mod config;
mod networks;

use crate::experiment::{Cell, Claim, Experiment, Plan, Scale};
use crate::plot::{Plot, Series};
use crate::results::Results;
use crate::runner::Context;
use crate::verdict::{self, Finding, Judgement, Verdict};
use anyhow::{Context as _, Result, ensure};
use autodidact_core::stats::{self, Estimate};
use autodidact_distill::teacher_guidance::TOY_TARGETS;
use config::{Config, Setting};
use serde_json::{Value, json};

/// The experiment.
pub struct TeacherGuidance;

const TOY_ALPHAS: [f64; 3] = [0.0, 0.25, 0.35];
/// Errors of steps 1 to 6 and of the limit, from the official notebook (0.35 is mislabelled 0.25 in its README).
const TOY_ERRORS: [[f64; 7]; 3] = [
    [0.16477, 0.15076, 0.14915, 0.15561, 0.16735, 0.18251, 0.49505],
    [0.16477, 0.15309, 0.14958, 0.14903, 0.14946, 0.15011, 0.15250],
    [0.16477, 0.15424, 0.15089, 0.14983, 0.14954, 0.14948, 0.14959],
];

fn krr_arm(lambda: f64) -> String {
    format!("krr/lambda={lambda}")
}

fn network_arm(setting: &Setting, alpha: Option<f64>) -> String {
    format!("{}/alpha={}", setting.network.name(), alpha.map_or("estimated".into(), |a| a.to_string()))
}

impl Experiment for TeacherGuidance {
    fn slug(&self) -> &'static str {
        "teacher-guidance"
    }

    fn version(&self) -> u32 {
        2
    }

    fn claims(&self) -> Vec<Claim> {
        vec![
            Claim::new(
                "C1",
                "Every step is a closed-form function of the first fit; the limit is ridge regression with lambda/alpha",
                "theorem",
                "In f64, for toy and digits at every weight: recursion, closed form and repeated solves agree to 1e-9 for 20 steps, and step 200 is within 1e-8 of the limit for alpha of at least 0.1.",
            ),
            Claim::new(
                "C2",
                "Ground truth dampens the regularisation that self-distillation amplifies",
                "toy errors at step 6: 0.18251 (alpha 0), 0.15011 (0.25), 0.14948 (0.35)",
                "Toy errors equal the published ones to 5e-6; and on digits at every lambda the test MSE of alpha 0 at the last step exceeds its own minimum by more than that of alpha 0.5 does, in all seeds (partly: in all but one).",
            ),
            Claim::new(
                "C3",
                "Distillation sparsifies the solution in the eigenbasis; with ground truth this is bounded",
                "theorem",
                "A mode's amplitude is the projection of the solved training predictions on an eigenvector over that of the targets; ratios are those of larger modes to smaller ones, both above 1e-6. At alpha 0 no ratio decreases in 20 steps. At alpha of at least 0.1 every ratio is bounded in 20 steps (by that of alpha 0 at the same step, and by the larger mode's first amplitude over the smaller one's limit) and at step 200 equals that of the limit, solved with lambda/alpha. All to 1e-6, for toy and digits. Partly if one of the two holds.",
            ),
            Claim::new(
                "C4",
                "The closed-form weight minimises the validation error of its step, and is as good as a grid",
                "theorem",
                "At every step the validation MSE is at most that of the best weight of the grid (to 1e-12); and at every lambda the mean test MSE of the greedy chain at the last step is within 2 % of that of the test-best constant weight. Partly if only the first holds.",
            ),
            Claim::new(
                "C5",
                "In deep networks, too, ground truth makes repeated distillation stable, and the estimated weight does as well as a grid",
                "CIFAR-10 figures (not compared)",
                "Test accuracy at the last step: the best constant alpha in (0, 1), by mean validation accuracy, minus alpha 0 has a 95 % interval above 0; and the estimated weight is within 0.5 points of that one. Partly if one of the two holds.",
            ),
        ]
    }

    fn datasets(&self) -> &'static [&'static str] {
        &["digits", "cifar10"]
    }

    fn seeds(&self, scale: Scale) -> usize {
        match scale {
            Scale::Smoke => 1,
            Scale::Small => 5,
            Scale::Full => 3,
        }
    }

    fn config(&self, scale: Scale) -> Value {
        json!(Config::at(scale))
    }

    fn cells(&self, plan: &Plan) -> Result<Vec<Cell>> {
        let c: Config = plan.config()?;
        c.check(plan)?;
        let networks = c.networks(&plan.dataset);
        let mut arms: Vec<String> = c.lambdas.iter().map(|l| krr_arm(*l)).collect();
        arms.extend(networks.alphas.iter().map(|a| Some(*a)).chain([None]).map(|a| network_arm(&networks, a)));
        // The toy has nothing random.
        let toy = Cell::new("toy", plan.seeds[0]);
        Ok(std::iter::once(toy).chain(plan.cross(&arms)).collect())
    }

    fn run(&self, cell: &Cell, context: &mut Context<'_>) -> Result<()> {
        let c: Config = context.plan.config()?;
        let networks = c.networks(&context.plan.dataset);
        match cell.arm.split_once('=') {
            None => cells::toy(context),
            Some(("krr/lambda", lambda)) => cells::kernel_chains(lambda.parse()?, &c, context),
            Some((_, "estimated")) => networks::networks(None, &networks, context),
            Some((_, alpha)) => networks::networks(Some(alpha.parse()?), &networks, context),
        }
    }

    fn judge(&self, results: &Results) -> Result<Vec<Finding>> {
        let c: Config = results.plan().config()?;
        let enough = |v: Verdict| v.with_seeds(results.plan().seeds.len());
        let exact_arms: Vec<String> =
            std::iter::once("toy".into()).chain(c.lambdas.iter().map(|l| krr_arm(*l))).collect();
        let everywhere = |metric: &str| -> Result<Vec<f64>> {
            Ok(exact_arms.iter().map(|a| results.values(a, metric)).collect::<Result<Vec<_>>>()?.concat())
        };
        let closed = verdict::within(&everywhere("error of closed form")?, 1e-9);
        let limit = verdict::within(&everywhere("error of limit")?, 1e-8);
        let c1 = Finding::new("C1", closed, format!(
            "Largest difference between recursion, closed form and solves {:.1e}; of step 200 from the limit {:.1e}.",
            closed.estimate.value, limit.estimate.value,
        )).verdict(Verdict::all(&[closed.verdict, limit.verdict]));

        let seed = results.plan().seeds[0];
        let mut toy_errors = vec![];
        for (alpha, want) in TOY_ALPHAS.iter().zip(TOY_ERRORS) {
            let got = results.series("toy", seed, &format!("error alpha={alpha}"))?;
            ensure!(got.len() == want.len(), "toy, alpha {alpha}: {} errors instead of {}", got.len(), want.len());
            toy_errors.extend(got.iter().zip(want).map(|((_, g), w)| (g - w).abs()));
        }
        let excess = |arm: &str, seed: u64, alpha: f64| -> Result<f64> {
            let errors: Vec<f64> =
                results.series(arm, seed, &format!("test MSE alpha={alpha}"))?.iter().map(|p| p.1).collect();
            let last = errors.last().context("no steps")?;
            Ok(last - errors.iter().copied().fold(f64::INFINITY, f64::min))
        };
        let (mut fewest, mut differences, mut words) = (usize::MAX, vec![], vec![]);
        for lambda in &c.lambdas {
            let arm = krr_arm(*lambda);
            let d = results.seeds(&arm).into_iter().map(|s| Ok(excess(&arm, s, 0.0)? - excess(&arm, s, 0.5)?));
            let d = d.collect::<Result<Vec<_>>>()?;
            let held = d.iter().filter(|d| **d > 0.0).count();
            words.push(format!(
                "lambda {lambda}: {:.2e} in the mean, above 0 in {held} of {} seeds",
                stats::mean(&d),
                d.len()
            ));
            if held < fewest {
                (fewest, differences) = (held, d);
            }
        }
        let n = results.plan().seeds.len();
        let digits = match n - fewest {
            0 => Verdict::Reproduced,
            1 => Verdict::Partly,
            _ => Verdict::NotReproduced,
        };
        // Published to five decimals, so the comparison allows their rounding.
        let toy = verdict::within(&toy_errors, 5.1e-6);
        let c2 = Finding {
            id: "C2",
            estimate: verdict::estimate(&differences),
            baseline: None,
            // Both must hold; the seeds decide between reproduced and partly.
            verdict: enough(if toy.verdict == Verdict::Reproduced { digits } else { toy.verdict }),
            note: format!(
                "Largest difference from the published toy errors {:.1e}. Digits, rise of the test MSE above its minimum, alpha 0 minus alpha 0.5: {}; the weakest lambda is shown.",
                toy.estimate.value,
                words.join("; "),
            ),
        };

        let modes = everywhere("modes compared")?.into_iter().fold(f64::INFINITY, f64::min);
        ensure!(modes >= 2.0, "there are no two modes to compare");
        let small = |metric: &str| -> Result<Judgement> { Ok(verdict::within(&everywhere(metric)?, 1e-6)) };
        let monotone = small("fall of ratios at alpha 0")?;
        let bounded = small("ratios above their bounds")?;
        let settled = small("ratios off the limit's at step 200")?;
        let overshoot = |arms: &[String]| -> Result<f64> {
            let values = arms.iter().map(|a| results.values(a, "overshoot of ratios")).collect::<Result<Vec<_>>>()?;
            Ok(100.0 * values.concat().into_iter().fold(0.0, f64::max))
        };
        let worst =
            [monotone, bounded, settled].into_iter().max_by(|a, b| a.estimate.value.total_cmp(&b.estimate.value));
        let with = Verdict::of([bounded, settled].iter().all(|j| j.verdict == Verdict::Reproduced));
        let c3 = Finding::new("C3", worst.context("three parts")?, format!(
            "Largest relative violation (below 0: none is near one). Fall of a ratio from a step to the next at alpha 0: {:.1e}; excess over the bounds with ground truth: {:.1e}; distance from the limit's ratios at step 200: {:.1e} (at least {modes} modes compared). The limit's ratio itself is no bound: on the way ratios pass it by up to {:.1} % on the toy and {:.1} % on digits, and then decrease.",
            monotone.estimate.value, bounded.estimate.value, settled.estimate.value,
            overshoot(&exact_arms[..1])?, overshoot(&exact_arms[1..])?,
        )).verdict(Verdict::all(&[monotone.verdict, with]));

        let best = verdict::within(
            &c.lambdas
                .iter()
                .map(|l| results.values(&krr_arm(*l), "validation MSE of optimal minus best of grid"))
                .collect::<Result<Vec<_>>>()?
                .concat(),
            1e-12,
        );
        let mut ratios = vec![];
        for lambda in &c.lambdas {
            let mean = |alpha: &str| results.mean(&krr_arm(*lambda), &format!("test MSE alpha={alpha}"));
            let grid = c.alphas.iter().map(|a| mean(&a.to_string())).collect::<Result<Vec<_>>>()?;
            ratios.push(mean("optimal")? / grid.into_iter().fold(f64::INFINITY, f64::min));
        }
        let worst = ratios.iter().copied().fold(0.0, f64::max);
        let listed: Vec<String> = c.lambdas.iter().zip(&ratios).map(|(l, r)| format!("lambda {l}: {r:.4}")).collect();
        let c4_verdict = if best.verdict == Verdict::Reproduced {
            Verdict::all(&[best.verdict, Verdict::of(ratios.iter().all(|r| *r <= 1.02))])
        } else {
            best.verdict
        };
        let c4 = Finding {
            id: "C4",
            estimate: Estimate { n, ..Estimate::exact(worst) },
            baseline: Some(1.0),
            verdict: enough(c4_verdict),
            note: format!(
                "Largest validation MSE above the grid's best {:.1e}. Test MSE of the greedy chain over that of the test-best constant weight: {}.",
                best.estimate.value,
                listed.join(", "),
            ),
        };

        let networks = c.networks(&results.plan().dataset);
        let last = |alpha: Option<f64>| results.values(&network_arm(&networks, alpha), "test accuracy");
        let inner = networks.alphas.iter().copied().filter(|a| *a > 0.0 && *a < 1.0);
        // The weight is chosen on validation data and judged on test data.
        let validated = inner.map(|a| Ok((a, results.mean(&network_arm(&networks, Some(a)), "validation accuracy")?)));
        let validated = validated.collect::<Result<Vec<_>>>()?;
        let chosen = validated.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1)).context("no alpha inside (0, 1)")?.0;
        let top = (chosen, stats::mean(&last(Some(chosen))?));
        let gain = verdict::difference(&last(Some(top.0))?, &last(Some(0.0))?, 0.0);
        let estimated = stats::mean(&last(None)?);
        let close = Verdict::of(estimated >= top.1 - 0.5);
        let listed = networks
            .alphas
            .iter()
            .map(|a| Ok(format!("{a}: {:.2}", stats::mean(&last(Some(*a))?))))
            .collect::<Result<Vec<_>>>()?;
        let c5 = Finding::new("C5", gain, format!(
            "Points that the best constant weight ({}) gains over alpha 0 at the last step. Test accuracy (%) by alpha {}; estimated {estimated:.2}.",
            top.0, listed.join(", "),
        )).against(stats::mean(&last(Some(0.0))?)).verdict(Verdict::all(&[gain.verdict, close]));
        Ok(vec![c1, c2, c3, c4, c5])
    }

    fn plots(&self, results: &Results) -> Result<Vec<Plot>> {
        let c: Config = results.plan().config()?;
        let seed = results.plan().seeds[0];
        let mut plots = vec![];
        let xs: Vec<f64> = (0..101).map(|i| f64::from(i) / 100.0).collect();
        let line = |ys: &[f64]| xs.iter().copied().zip(ys.iter().copied()).collect::<Vec<_>>();
        for alpha in [0.0, 0.35] {
            let mut series = vec![];
            for (i, t) in [1, 2, 4, 6].into_iter().enumerate() {
                series.push(Series::line(
                    format!("step {t}"),
                    i,
                    &line(results.array("toy", seed, &format!("fit alpha={alpha} t={t}"))?),
                ));
            }
            series.push(
                Series::line("limit", 4, &line(results.array("toy", seed, &format!("fit alpha={alpha} limit"))?))
                    .dashed(),
            );
            let data: Vec<(f64, f64)> = TOY_TARGETS.iter().enumerate().map(|(i, y)| (i as f64 / 10.0, *y)).collect();
            series.push(Series::line("data", 7, &data).dots());
            let name = format!("toy-alpha-{alpha}");
            plots.push(Plot::lines(
                &name,
                &format!("Fits of the toy data at alpha = {alpha}, by step."),
                "x",
                "f(x)",
                series,
            ));
        }
        let mut series = vec![];
        for (i, t) in [1, 2, 4, 6].into_iter().enumerate() {
            for (alpha, dashed) in [(0.0, false), (0.35, true)] {
                let b = results.array("toy", seed, &format!("B alpha={alpha} t={t}"))?;
                let points: Vec<(f64, f64)> = b.iter().rev().enumerate().map(|(j, v)| (j as f64 + 1.0, *v)).collect();
                let s = Series::line(format!("step {t}, alpha {alpha}"), i, &points);
                series.push(if dashed { s.dashed() } else { s });
            }
        }
        plots.push(Plot::lines(
            "spectrum",
            "Shrinkage of each mode of the toy's kernel matrix, largest eigenvalue first (dashed: alpha 0.35).",
            "mode",
            "B (factor)",
            series,
        ));
        let middle = krr_arm(c.lambdas[c.lambdas.len() / 2]);
        let mut series = vec![];
        for (i, alpha) in c.alphas.iter().map(f64::to_string).chain(["optimal".into()]).enumerate() {
            let s = Series::line(
                format!("alpha {alpha}"),
                i,
                &results.mean_series(&middle, &format!("test MSE alpha={alpha}"))?,
            );
            series.push(if alpha == "optimal" { s.dashed() } else { s });
        }
        plots.push(Plot::lines(
            "test-error",
            &format!("Test error of kernel regression on digits by step, mean over seeds ({middle})."),
            "step",
            "test MSE",
            series,
        ));
        let series = c.lambdas.iter().enumerate().map(|(i, l)| {
            Ok(Series::line(format!("lambda {l}"), i, &results.mean_series(&krr_arm(*l), "optimal alpha")?))
        });
        plots.push(Plot::lines(
            "optimal-alpha",
            "Optimal weight of the ground truth by step, mean over seeds.",
            "step",
            "alpha",
            series.collect::<Result<_>>()?,
        ));
        let mut series = vec![];
        let networks = c.networks(&results.plan().dataset);
        for (i, alpha) in networks.alphas.iter().map(|a| Some(*a)).chain([None]).enumerate() {
            let name = alpha.map_or("estimated".into(), |a| format!("alpha {a}"));
            let s = Series::line(name, i, &results.mean_series(&network_arm(&networks, alpha), "test accuracy")?);
            series.push(if alpha.is_none() { s.dashed() } else { s });
        }
        plots.push(Plot::lines(
            "networks",
            &format!("Test accuracy of networks on {} by distillation step, mean over seeds.", results.plan().dataset),
            "step",
            "test accuracy (%)",
            series,
        ));
        Ok(plots)
    }

    fn note(&self, plan: &Plan) -> String {
        let networks = if plan.dataset == "digits" {
            "Networks are perceptrons on the digits at every scale; the paper's ResNets on CIFAR-10 take --dataset cifar10 --scale full."
        } else {
            "The toy and the kernel chains stay on their own data; networks are trained on CIFAR-10, with random crops and flips; the teacher sees the student's batch, in evaluation mode. Adam's rate is 1e-3 with batches of 128 (1e-4 and 16 in the authors' script)."
        };
        format!(
            "Training digits keep {:.0} % of their labels, the others get another class; validation and test labels are clean. The statement that with ground truth the ratios of the spectrum are bounded by those of the limit does not hold for the recursion itself, on the toy nor on digits: ratios pass the limit's and come back. C3 asks for bounds that can be proven and for convergence to the limit's ratios. The estimator of the weight for networks is reconstructed from the kernel case. {networks}",
            100.0 * (1.0 - plan.config::<Config>().map_or(f64::NAN, |c| c.noise)),
        )
    }
}
