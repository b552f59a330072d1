//! The learning-rate annealing law: do two loss curves predict those of other schedules?
//!
//! A small character-level language model is trained under eight schedules, with the same data order for all schedules of a
//! seed. The law is fitted on the constant and the cosine run of each seed and predicts the others; a power law in the
//! forward area alone (no annealing term) and a Chinchilla-type fit of final losses are fitted for comparison.

mod judge;

use super::characters::Characters;
use crate::experiment::{Cell, Claim, Experiment, Plan, Scale, check_list};
use crate::plot::{Plot, Series};
use crate::results::Results;
use crate::runner::Context;
use crate::verdict::Finding;
use anyhow::{Result, bail};
use autodidact_core::Error;
use autodidact_core::error::check_range;
use autodidact_core::nn::{Gpt, GptConfig};
use autodidact_core::optim::{Adam, Group, Optimizer, Rule};
use autodidact_core::schedule::{Decay, Schedule, Shape};
use autodidact_core::text::Windows;
use autodidact_core::train::{TrainConfig, Trainer};
use autodidact_scaling::lr_annealing_law::{
    AnnealAreas, AnnealLaw, FitOptions, fit, optimal_cooldown_ratio, published_curves,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::ops::Bound::{Excluded, Included, Unbounded};
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

/// Fewest points of a fitted run: the two together then have twice as many as the law has constants.
const MIN_POINTS: usize = 4;

impl Config {
    /// Refuses what cannot be trained, or fitted afterwards.
    fn check(&self) -> Result<()> {
        for (name, value) in [
            ("width", self.width as f64),
            ("depth", self.depth as f64),
            ("heads", self.heads as f64),
            ("context", self.context as f64),
            ("batch", self.batch as f64),
            ("steps", self.steps as f64),
            ("windows", self.windows as f64),
            ("every", self.every as f64),
            ("first", self.first as f64),
        ] {
            check_range(name, value, 1.0..)?;
        }
        check_range("peak", self.peak, (Excluded(0.0), Unbounded))?;
        check_range("clip", self.clip, (Excluded(0.0), Unbounded))?;
        check_range("weight_decay", self.weight_decay, 0.0..)?;
        check_list("lambdas", &self.lambdas, (Excluded(0.0), Included(1.0)))?;
        if self.width % self.heads != 0 {
            return Err(Error::value("width", format!("a multiple of the {} heads", self.heads), self.width).into());
        }
        let shortest = self.steps / 4;
        for (name, value, met, expected) in [
            ("every", self.every, self.every <= self.steps, format!("at most the {} steps of a run", self.steps)),
            ("warmup", self.warmup, self.warmup < shortest, format!("below steps / 4 = {shortest}, the shortest run")),
            (
                "first",
                self.first,
                (self.warmup + 1..self.steps).contains(&self.first),
                format!("above warmup = {} and below steps = {}", self.warmup, self.steps),
            ),
        ] {
            if !met {
                return Err(Error::value(name, expected, value).into());
            }
        }
        let points = self.steps.div_ceil(self.every) - (self.first - 1) / self.every;
        if points < MIN_POINTS {
            let expected = format!("at least {MIN_POINTS} (raise steps, lower every or first)");
            return Err(Error::value("validations of a run from first to steps", expected, points).into());
        }
        Ok(())
    }
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

const LOSS: &str = "validation loss (nats/token)";

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
                "In every seed the best lambda of the grid (which includes 1) is below 1, and the annealing term lowers the objective by at least 30 %. Partly: in most seeds. Not judged on a grid without 1.",
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
                "Not judged: the ratio is arithmetic on the configuration, which no run can decide. Reported are the training steps of the two fitting runs over those of a 3x3 grid of model sizes and run lengths (half, once and twice the length), over those of one run per predicted loss, and the errors of both kinds of fit on a held-out final loss.",
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
        plan.config::<Config>()?.check()?;
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
        let text = Characters::load(context.plan, "")?;
        let (train, validation) = text.split();
        let (train, validation) =
            (Windows::new(train, c.context, device)?, Windows::new(validation, c.context, device)?);
        let (inputs, targets) = validation.fixed(c.windows);

        // The same initialisation and the same batches for every schedule of a seed.
        let seed = context.seed("train");
        tch::manual_seed(context.seed("init") as i64);
        let vs = VarStore::new(device);
        let model = Gpt::new(vs.root(), &GptConfig::gpt2(text.vocab(), c.context as i64, c.width, c.depth, c.heads))?;
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
        judge::findings(results, &results.plan().config()?)
    }

    fn plots(&self, results: &Results) -> Result<Vec<Plot>> {
        let c: Config = results.plan().config()?;
        let seed = results.plan().seeds[0];
        let fits = judge::fits(results, seed, &c)?;
        let law = fits.law.law;
        let arms: Vec<&str> = FITTED.into_iter().chain(HELD_OUT).collect();
        let (mut curves, mut areas) = (vec![], vec![]);
        for (i, arm) in arms.iter().enumerate() {
            let observed: Vec<(f64, f64)> =
                judge::curve(results, arm, seed, &c)?.points.iter().map(|&(i, l)| ((i + 1) as f64, l)).collect();
            let s = schedule(arm, &c)?;
            // After `done` steps the last rate used is that of step `done - 1`.
            let losses = law.curve(&s)?;
            let predicted: Vec<(f64, f64)> = (c.first..=s.total).map(|done| (done as f64, losses[done - 1])).collect();
            curves.push(Series::line(format!("{arm}, observed"), i, &observed).dots());
            curves.push(Series::line(format!("{arm}, law"), i, &predicted));
            let a = AnnealAreas::of(&s, law.lambda, law.warmup)?;
            let s2: Vec<(f64, f64)> = a.s2.iter().enumerate().map(|(s, &v)| (s as f64, v)).collect();
            areas.push(Series::line(*arm, i, &s2));
        }
        let profile: Vec<(f64, f64)> = fits.profile.iter().enumerate().map(|(i, p)| (i as f64, p.1)).collect();
        let names: Vec<String> = fits.profile.iter().map(|p| p.0.to_string()).collect();
        let ratios = (0..=20).map(|i| {
            let ratio = f64::from(i) / 20.0;
            let schedule = Schedule::new(c.peak, c.steps, Shape::wsd(ratio, Decay::Linear)).warmup(c.warmup);
            Ok((100.0 * ratio, judge::final_loss(&law, &schedule)?))
        });
        let ratios = ratios.collect::<Result<Vec<(f64, f64)>>>()?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(change: Option<(&str, Value)>) -> Result<Vec<Cell>> {
        Plan::trial_cells(&LrAnnealingLaw, change.as_slice())
    }

    #[test]
    fn settings_that_cannot_work_are_refused_before_anything_runs() {
        assert_eq!(cells(None).unwrap().len(), 9);
        assert!(cells(Some(("lambdas", json!([0.99])))).is_ok());
        let refused = [
            ("lambdas", json!([]), "lambdas: expected at least one value"),
            ("lambdas", json!([0.9, 0.0]), "lambdas: expected a finite number"),
            ("lambdas", json!([1.5]), "lambdas: expected a finite number"),
            ("width", json!(0), "width: "),
            ("width", json!(18), "width: expected a multiple of the 4 heads, got 18"),
            ("heads", json!(-4), "heads: "),
            ("depth", json!(0), "depth: "),
            ("context", json!(0), "context: "),
            ("batch", json!(0), "batch: "),
            ("windows", json!(0), "windows: "),
            ("steps", json!(0), "steps: "),
            ("every", json!(0), "every: "),
            ("every", json!(81), "every: expected at most the 80 steps of a run, got 81"),
            ("every", json!(40), "validations of a run from first to steps: expected at least 4"),
            ("first", json!(0), "first: "),
            ("first", json!(5), "first: expected above warmup = 5 and below steps = 80, got 5"),
            ("first", json!(80), "first: "),
            ("warmup", json!(20), "warmup: expected below steps / 4 = 20"),
            ("peak", json!(0.0), "peak: "),
            ("clip", json!(0.0), "clip: "),
            ("weight_decay", json!(-0.1), "weight_decay: "),
        ];
        Plan::assert_refused(&LrAnnealingLaw, &refused);
    }
}
