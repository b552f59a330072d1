//! The learning-rate annealing law: do two loss curves predict those of other schedules?
//!
//! A small character-level language model is trained under eight schedules, with the same data order for all schedules of a
//! seed. The law is fitted on the constant and the cosine run of each seed and predicts the others; a power law in the
//! forward area alone (no annealing term) and a Chinchilla-type fit of final losses are fitted for comparison.

use crate::experiment::{Cell, Claim, Experiment, Plan, Scale};
use crate::plot::{Plot, Series};
use crate::results::Results;
use crate::runner::Context;
use crate::verdict::{self, Finding, Verdict};
use anyhow::{Result, bail};
use autodidact_core::nn::{Gpt, GptConfig};
use autodidact_core::optim::{Adam, Group, Optimizer, Rule};
use autodidact_core::schedule::{Decay, Schedule, Shape};
use autodidact_core::stats::{self, Estimate};
use autodidact_core::text::{CharTokenizer, Tokenizer, Windows};
use autodidact_core::train::{TrainConfig, Trainer};
use autodidact_datasets::load_text;
use autodidact_scaling::lr_annealing_law::{
    AnnealAreas, AnnealLaw, ChinchillaData, Curve, FitOptions, FitReport, WarmupTreatment, fit, fit_lambda,
    optimal_cooldown_ratio, published_curves,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::nn::VarStore;

/// The experiment.
pub struct LrAnnealingLaw;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Config {
    width: i64,
    depth: usize,
    heads: i64,
    context: usize,
    batch: usize,
    peak: f64,
    warmup: usize,
    steps: usize,
    weight_decay: f64,
    clip: f64,
    /// Windows of the validation text.
    windows: usize,
    /// Steps between validations.
    every: usize,
    /// Points before this step are not used.
    first: usize,
    /// Grid of the annealing momentum's decay.
    lambdas: Vec<f64>,
}

/// The runs that the law is fitted on.
const FITTED: [&str; 2] = ["constant", "cosine"];
/// The runs that it predicts.
const HELD_OUT: [&str; 4] = ["wsd", "two-stage", "cosine-cycle-1.5", "cosine-1.5T"];
/// Cosine runs of other lengths, for the Chinchilla-type fit of final losses (with `cosine`).
const SHORTER: [&str; 2] = ["cosine-0.25T", "cosine-0.5T"];
/// Fits the points that the paper prints.
const PUBLISHED: &str = "published points";

fn schedule(arm: &str, c: &Config) -> Result<Schedule> {
    let t = c.steps;
    let cosine = |total| (total, Shape::cosine_to(0.0));
    let (total, shape) = match arm {
        "constant" => (t, Shape::Constant),
        "cosine" => cosine(t),
        "wsd" => (t, Shape::wsd(0.25, Decay::Linear)),
        "two-stage" => (t, Shape::two_stage(t / 2, 0.2)),
        "cosine-cycle-1.5" => (t, Shape::CosineCycle { cycle: 3 * t / 2, end: 0.0 }),
        "cosine-1.5T" => cosine(3 * t / 2),
        "cosine-0.25T" => cosine(t / 4),
        "cosine-0.5T" => cosine(t / 2),
        other => bail!("unknown arm {other}"),
    };
    Ok(Schedule::new(c.peak, total, shape).warmup(c.warmup))
}

fn curve(results: &Results, arm: &str, seed: u64, c: &Config) -> Result<Curve> {
    let schedule = schedule(arm, c)?;
    let points = results.series(arm, seed, LOSS)?.into_iter().map(|(s, l)| (s as usize, l));
    Ok(Curve { warmup: schedule.warmup, lrs: schedule.lrs(), points: points.filter(|p| p.0 >= c.first).collect() })
}

const LOSS: &str = "validation loss (nats/token)";

/// Everything fitted on one seed.
struct Fits {
    law: FitReport,
    profile: Vec<(f64, f64)>,
    plain: FitReport,
}

fn fits(results: &Results, seed: u64, c: &Config) -> Result<Fits> {
    let curves = FITTED.iter().map(|arm| curve(results, arm, seed, c)).collect::<Result<Vec<_>>>()?;
    let (law, profile) = fit_lambda(&curves, &c.lambdas, &FitOptions::default())?;
    let plain = fit(&curves, law.law.lambda, &FitOptions { annealing: false, ..Default::default() })?;
    Ok(Fits { law, profile, plain })
}

fn mean_error(law: &AnnealLaw, curve: &Curve) -> Result<f64> {
    let errors: Vec<f64> = law.relative_errors(curve)?.iter().map(|e| e.abs()).collect();
    Ok(stats::mean(&errors))
}

fn estimate(values: &[f64]) -> Estimate {
    stats::mean_ci(values, verdict::LEVEL).unwrap_or(Estimate::exact(values.first().copied().unwrap_or(f64::NAN)))
}

impl Experiment for LrAnnealingLaw {
    fn slug(&self) -> &'static str {
        "lr-annealing-law"
    }

    fn version(&self) -> u32 {
        1
    }

    fn claims(&self) -> Vec<Claim> {
        vec![
            Claim::new(
                "C1",
                "Full curves of constant and cosine runs follow the law",
                "L = 2.628 + 0.429 S1^-0.550 - 0.411 S2 with lambda 0.999, R^2 about 0.9996",
                "R^2 of the fitting curves is at least 0.99 in every seed.",
            ),
            Claim::new(
                "C2",
                "Constants fitted on two curves predict unseen schedules at every step",
                "mean errors of the order of 0.2 to 0.5 %",
                "On every held-out schedule the mean relative error (over points and seeds) is below 1 % and below that of the fit without the annealing term. Partly: below 2 % on every one.",
            ),
            Claim::new(
                "C3",
                "The annealing momentum is needed",
                "lambda = 1 or no S2 fits worse; the loss keeps falling after a drop",
                "In every seed the best lambda of the grid (which includes 1) is below 1, and the annealing term lowers the objective by at least 30 %. Partly: in most seeds.",
            ),
            Claim::new(
                "C4",
                "The law ranks schedules rightly: cool-downs beat cosine",
                "WSD with a cool-down of 10 to 20 % beats cosine",
                "Over the runs of equal length, Spearman's correlation of observed and predicted final losses is at least 0.8 on average over seeds, and WSD ends below two-stage and below cosine on average. Partly if one of the two holds.",
            ),
            Claim::new(
                "C5",
                "Fitting costs less than 1 % of a Chinchilla-type fit",
                "less than 1 %",
                "Arithmetic: training steps of the two fitting runs, divided by those of a 3x3 grid of model sizes and run lengths (half, once and twice the length), are below 1 %.",
            ),
        ]
    }

    fn datasets(&self) -> &'static [&'static str] {
        &["grammar", "tinyshakespeare"]
    }

    fn config(&self, scale: Scale) -> Value {
        let small = Config {
            width: 64,
            depth: 2,
            heads: 4,
            context: 32,
            batch: 16,
            peak: 2e-3,
            warmup: 50,
            steps: 1600,
            weight_decay: 0.01,
            clip: 1.0,
            windows: 384,
            every: 40,
            first: 200,
            lambdas: vec![0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0],
        };
        json!(match scale {
            Scale::Smoke =>
                Config { width: 16, depth: 1, steps: 80, warmup: 5, windows: 32, every: 4, first: 20, ..small },
            Scale::Small => small,
            Scale::Full => Config {
                width: 384,
                depth: 6,
                heads: 6,
                context: 256,
                batch: 64,
                peak: 1e-3,
                warmup: 500,
                steps: 20_000,
                every: 250,
                first: 1000,
                lambdas: vec![0.99, 0.995, 0.999, 0.9995, 1.0],
                ..small
            },
        })
    }

    fn cells(&self, plan: &Plan) -> Result<Vec<Cell>> {
        let arms: Vec<&str> = FITTED.into_iter().chain(HELD_OUT).chain(SHORTER).chain([PUBLISHED]).collect();
        Ok(plan.cross(&arms))
    }

    fn run(&self, cell: &Cell, context: &mut Context<'_>) -> Result<()> {
        if cell.arm == PUBLISHED {
            let report = fit(&published_curves(), 0.999, &FitOptions::default())?;
            let AnnealLaw { l0, a, alpha, c, .. } = report.law;
            for (name, value) in [("L0", l0), ("A", a), ("alpha", alpha), ("C", c), ("R2", report.r2)] {
                context.metric(0, name, value);
            }
            return Ok(());
        }
        let c: Config = context.plan.config()?;
        let device = context.plan.device;
        let text = load_text(&context.plan.dataset, context.plan.data_dir.as_deref(), context.plan.download)?;
        let tokenizer = CharTokenizer::from_text(&text)?;
        let tokens = tokenizer.encode(&text)?;
        let (train, validation) = tokens.split_at(tokens.len() / 10 * 9);
        let (train, validation) =
            (Windows::new(train, c.context, device)?, Windows::new(validation, c.context, device)?);
        let (inputs, targets) = validation.fixed(c.windows);

        // The same initialisation and the same batches for every schedule of a seed.
        let seed = context.seed("train");
        tch::manual_seed(context.seed("init") as i64);
        let vs = VarStore::new(device);
        let model =
            Gpt::new(vs.root(), &GptConfig::gpt2(tokenizer.vocab(), c.context as i64, c.width, c.depth, c.heads))?;
        let adam = Adam { betas: (0.9, 0.95), ..Default::default() };
        let optimizer = Optimizer::new(Rule::AdamW(adam), Group::split_decay(&vs, c.weight_decay))?;
        let config = TrainConfig {
            clip_norm: Some(c.clip),
            log_every: c.every,
            checkpoint: Some(context.checkpoint_every(500)),
            ..TrainConfig::new(schedule(&cell.arm, &c)?, seed)
        };
        let history = Trainer::new(config, &vs, optimizer)?.run(
            |step| {
                let (x, y) = train.random(c.batch, &mut step.rng("batch"));
                model.loss(&x, &y)
            },
            |mut p| {
                context.progress(p.done, p.total, p.loss);
                if p.done % c.every == 0 || p.done == p.total {
                    p.log(LOSS, tch::no_grad(|| model.loss(&inputs, &targets))?.double_value(&[]))?;
                }
                Ok(())
            },
        )?;
        context.log(&history);
        Ok(())
    }

    fn judge(&self, results: &Results) -> Result<Vec<Finding>> {
        let c: Config = results.plan().config()?;
        let seeds = &results.plan().seeds;
        let enough = |v: Verdict| if seeds.len() >= verdict::MIN_SEEDS { v } else { Verdict::NotJudged };
        let fits = seeds.iter().map(|&s| fits(results, s, &c)).collect::<Result<Vec<_>>>()?;

        let r2: Vec<f64> = fits.iter().map(|f| f.law.r2).collect();
        let laws: Vec<String> = fits
            .iter()
            .map(|f| {
                let AnnealLaw { l0, a, alpha, c, lambda } = f.law.law;
                format!("L0 {l0:.3}, A {a:.3}, alpha {alpha:.3}, C {c:.3}, lambda {lambda}")
            })
            .collect();
        let published = |name| results.mean(PUBLISHED, name);
        let c1 = Finding {
            id: "C1",
            estimate: estimate(&r2),
            baseline: Some(published("R2")?),
            verdict: enough(Verdict::of(r2.iter().all(|r| *r >= 0.99))),
            note: format!(
                "R^2 by seed, lowest {:.4}. Constants by seed: {}. The paper's own 40 points give L0 {:.3}, A {:.3}, alpha {:.3}, C {:.3}, R^2 {:.4}.",
                r2.iter().copied().fold(f64::MAX, f64::min),
                laws.join("; "),
                published("L0")?,
                published("A")?,
                published("alpha")?,
                published("C")?,
                published("R2")?,
            ),
        };

        let mut worst = (f64::MIN, vec![], 0.0);
        let (mut below_one, mut below_two, mut words) = (true, true, vec![]);
        for arm in HELD_OUT {
            let by_seed = |plain: bool| -> Result<Vec<f64>> {
                seeds
                    .iter()
                    .zip(&fits)
                    .map(|(&s, f)| {
                        mean_error(if plain { &f.plain.law } else { &f.law.law }, &curve(results, arm, s, &c)?)
                    })
                    .collect()
            };
            let (errors, plain) = (by_seed(false)?, by_seed(true)?);
            let (e, p) = (100.0 * stats::mean(&errors), 100.0 * stats::mean(&plain));
            below_one &= e < 1.0 && e < p;
            below_two &= e < 2.0;
            words.push(format!("{arm} {e:.2} (without S2 {p:.2})"));
            if e > worst.0 {
                worst = (e, errors.iter().map(|v| 100.0 * v).collect(), p);
            }
        }
        let c2_verdict = match (below_one, below_two) {
            (true, _) => Verdict::Reproduced,
            (_, true) => Verdict::Partly,
            _ => Verdict::NotReproduced,
        };
        let last_errors = HELD_OUT.iter().map(|arm| {
            let finals = seeds.iter().zip(&fits).map(|(&s, f)| {
                let errors = f.law.law.relative_errors(&curve(results, arm, s, &c)?)?;
                Ok(100.0 * errors.last().copied().unwrap_or(f64::NAN))
            });
            Ok(format!("{arm} {:+.2}", stats::mean(&finals.collect::<Result<Vec<_>>>()?)))
        });
        let c2 = Finding {
            id: "C2",
            estimate: estimate(&worst.1),
            baseline: Some(worst.2),
            verdict: enough(c2_verdict),
            note: format!(
                "Mean relative errors (%): {}; the worst is shown. Signed errors at the last step (%): {}.",
                words.join(", "),
                last_errors.collect::<Result<Vec<_>>>()?.join(", "),
            ),
        };

        let gains: Vec<f64> = fits.iter().map(|f| 100.0 * (1.0 - f.law.objective / f.plain.objective)).collect();
        let met: Vec<bool> = fits.iter().zip(&gains).map(|(f, g)| f.law.law.lambda < 1.0 && *g >= 30.0).collect();
        let count = met.iter().filter(|m| **m).count();
        let c3_verdict = match count {
            n if n == met.len() => Verdict::Reproduced,
            n if 2 * n > met.len() => Verdict::Partly,
            _ => Verdict::NotReproduced,
        };
        let c3 = Finding {
            id: "C3",
            estimate: estimate(&gains),
            baseline: None,
            verdict: enough(c3_verdict),
            note: format!(
                "Percent by which the annealing term lowers the objective; best lambda by seed {}; met in {count} of {} seeds.",
                fits.iter().map(|f| f.law.law.lambda.to_string()).collect::<Vec<_>>().join(", "),
                met.len(),
            ),
        };

        let equal: Vec<&str> = FITTED.into_iter().chain(HELD_OUT).filter(|a| *a != "cosine-1.5T").collect();
        let last = |arm: &str, seed| results.value(arm, seed, LOSS);
        let correlations = seeds.iter().zip(&fits).map(|(&s, f)| {
            let observed = equal.iter().map(|a| last(a, s)).collect::<Result<Vec<_>>>()?;
            let predicted =
                equal.iter().map(|a| Ok(f.law.law.final_loss(&schedule(a, &c)?))).collect::<Result<Vec<_>>>()?;
            Ok(stats::spearman(&observed, &predicted)?)
        });
        let correlations = correlations.collect::<Result<Vec<_>>>()?;
        let ends = |arm: &str| results.mean(arm, LOSS);
        let ordered = ends("wsd")? < ends("two-stage")? && ends("wsd")? < ends("cosine")?;
        let finals = equal.iter().map(|a| Ok(format!("{a} {:.4}", ends(a)?))).collect::<Result<Vec<_>>>()?;
        let rank = stats::mean(&correlations);
        let c4 = Finding {
            id: "C4",
            estimate: estimate(&correlations),
            baseline: None,
            verdict: enough(Verdict::all(&[Verdict::of(rank >= 0.8), Verdict::of(ordered)])),
            note: format!("Spearman's correlation by seed, mean shown. Observed final losses: {}.", finals.join(", ")),
        };

        let cost = (2 * c.steps) as f64 / (3.0 * 3.5 * c.steps as f64);
        let chinchilla = seeds.iter().zip(&fits).map(|(&s, f)| {
            let point = |arm: &str| -> Result<(f64, f64)> { Ok((schedule(arm, &c)?.total as f64, last(arm, s)?)) };
            let points = SHORTER.into_iter().chain(["cosine"]).map(point).collect::<Result<Vec<_>>>()?;
            let (steps, observed) = point("cosine-1.5T")?;
            let data = ChinchillaData::fit(&points, 1e-3)?.loss(steps);
            let law = f.law.law.final_loss(&schedule("cosine-1.5T", &c)?);
            Ok((100.0 * (data / observed - 1.0).abs(), 100.0 * (law / observed - 1.0).abs()))
        });
        let chinchilla = chinchilla.collect::<Result<Vec<(f64, f64)>>>()?;
        let (data, law): (Vec<f64>, Vec<f64>) = chinchilla.into_iter().unzip();
        let used: usize = FITTED.iter().map(|a| schedule(a, &c).map(|s| s.total)).sum::<Result<usize>>()?;
        let points: Vec<usize> = (1..=c.steps / c.every).map(|k| k * c.every).filter(|s| *s >= c.first).collect();
        let one_run_each = FITTED.len() * points.iter().sum::<usize>();
        let c5 = Finding::new(
            "C5",
            verdict::within(&[cost], 0.01),
            format!(
                "Steps of the two fitting runs over those of the 3x3 grid, {:.0} %. With one run per fitted point, as a fit of final losses needs, it would be {:.1} %. \
             Prediction of the cosine run 1.5 times as long: law {:.2} % off, Chinchilla-type fit of three cosine runs {:.2} % off (final loss, mean over seeds).",
                100.0 * cost,
                100.0 * used as f64 / one_run_each as f64,
                stats::mean(&law),
                stats::mean(&data),
            ),
        );
        Ok(vec![c1, c2, c3, c4, c5])
    }

    fn plots(&self, results: &Results) -> Result<Vec<Plot>> {
        let c: Config = results.plan().config()?;
        let seed = results.plan().seeds[0];
        let fits = fits(results, seed, &c)?;
        let law = fits.law.law;
        let arms: Vec<&str> = FITTED.into_iter().chain(HELD_OUT).collect();
        let (mut curves, mut areas) = (vec![], vec![]);
        for (i, arm) in arms.iter().enumerate() {
            let observed: Vec<(f64, f64)> =
                curve(results, arm, seed, &c)?.points.iter().map(|&(s, l)| (s as f64, l)).collect();
            let s = schedule(arm, &c)?;
            let predicted: Vec<(f64, f64)> =
                law.curve(&s)?.into_iter().enumerate().skip(c.first).map(|(s, l)| (s as f64, l)).collect();
            curves.push(Series::line(format!("{arm}, observed"), i, &observed).dots());
            curves.push(Series::line(format!("{arm}, law"), i, &predicted));
            let a = AnnealAreas::of(&s, law.lambda, WarmupTreatment::AsPeak)?;
            let s2: Vec<(f64, f64)> = a.s2.iter().enumerate().map(|(s, &v)| (s as f64, v)).collect();
            areas.push(Series::line(*arm, i, &s2));
        }
        let profile: Vec<(f64, f64)> = fits.profile.iter().enumerate().map(|(i, p)| (i as f64, p.1)).collect();
        let names: Vec<String> = fits.profile.iter().map(|p| p.0.to_string()).collect();
        let ratios: Vec<(f64, f64)> = (0..=20)
            .map(|i| f64::from(i) / 20.0)
            .map(|r| {
                (
                    100.0 * r,
                    law.final_loss(&Schedule::new(c.peak, c.steps, Shape::wsd(r, Decay::Linear)).warmup(c.warmup)),
                )
            })
            .collect();
        let best = optimal_cooldown_ratio(&law, c.steps.max(100), c.peak, Decay::Linear)?.0;
        Ok(vec![
            Plot::lines(
                "curves",
                "Loss curves of seed 0 (dots) and the law fitted on the constant and the cosine run (lines).",
                "step",
                "validation loss (nats/token)",
                curves,
            ),
            Plot::lines(
                "annealing-area",
                "Annealing area S2 of the schedules at the fitted lambda.",
                "step",
                "S2 (learning rate)",
                areas,
            ),
            Plot::lines(
                "lambda",
                &format!("Objective of the fit over lambda ({}), seed 0.", names.join(", ")),
                "lambda (index in the grid)",
                "objective (sum of Huber losses)",
                vec![Series::line("objective", 0, &profile)],
            )
            .log(false, true),
            Plot::lines(
                "cooldown",
                &format!("Predicted final loss by length of a linear cool-down; the best is {:.0} %.", 100.0 * best),
                "cool-down (% of the run)",
                "final loss (nats/token)",
                vec![Series::line("law", 0, &ratios)],
            ),
        ])
    }

    fn note(&self, _plan: &Plan) -> String {
        "A character-level decoder stands in for the paper's 0.6 B parameter model; run length, peak rate and the lambda grid are scaled with it. The grid of lambda includes 1, so that the claim about the momentum can fail.".into()
    }
}
