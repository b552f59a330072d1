//! Training instabilities of large transformers in small ones: losses over learning rates, with and without the cures.
//!
//! Character-level decoders of several widths and depths are trained at learning rates up to far too high; every run is a cell, and the
//! runs of one setting over the learning rates are a curve, whose learning-rate sensitivity is judged.

mod judge;
mod plots;
mod runs;
mod train;

use crate::experiment::{Cell, Claim, Experiment, Plan, Scale, check_list};
use crate::plot::Plot;
use crate::results::Results;
use crate::runner::Context;
use crate::verdict::Finding;
use anyhow::{Result, bail};
use autodidact_core::Error;
use autodidact_core::error::check_range;
use runs::runs;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The experiment.
pub struct TrainingInstabilities;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Config {
    /// Widths, ascending; the first is the base of muParam.
    widths: Vec<i64>,
    /// Depth of the networks that differ in width.
    depth: usize,
    /// Depths, at the smallest width.
    depths: Vec<usize>,
    /// A narrower network, for the trend over sizes only.
    narrow: i64,
    head_width: i64,
    context: usize,
    batch: usize,
    steps: usize,
    warmup: usize,
    /// Lengths of the warm-up.
    warmups: Vec<usize>,
    /// Peak learning rates.
    lrs: Vec<f64>,
    /// One more below them, for the comparison of weight decays.
    low_lr: f64,
    /// Learning rate at the end of the cosine.
    end_lr: f64,
    clip: f64,
    z_loss: f64,
    independent: f64,
    coupled: f64,
    /// Mean squares of queries and keys that are set by force, and the learning rate there.
    kappas: Vec<f64>,
    middle_lr: f64,
    /// Steps and learning rates of the runs without weight decay.
    long: usize,
    long_lrs: Vec<f64>,
    /// Windows of the validation text.
    windows: usize,
    /// Steps between logged values.
    every: usize,
}

impl Config {
    fn check(&self) -> Result<()> {
        for (name, value) in [
            ("depth", self.depth),
            ("context", self.context),
            ("batch", self.batch),
            ("windows", self.windows),
            ("every", self.every),
            ("steps", self.steps),
            ("long", self.long),
        ] {
            check_range(name, value as f64, 1.0..)?;
        }
        for (name, value) in
            [("low_lr", self.low_lr), ("middle_lr", self.middle_lr), ("end_lr", self.end_lr), ("clip", self.clip)]
        {
            check_range(name, value, f64::MIN_POSITIVE..)?;
        }
        for (name, value) in [("z_loss", self.z_loss), ("independent", self.independent), ("coupled", self.coupled)] {
            check_range(name, value, 0.0..)?;
        }
        check_list("lrs", &self.lrs, self.end_lr..)?;
        check_list("long_lrs", &self.long_lrs, self.end_lr..)?;
        check_list("kappas", &self.kappas, f64::MIN_POSITIVE..)?;
        ascending("widths", self.widths.iter().map(|w| *w as f64), 2)?;
        ascending("depths", self.depths.iter().map(|d| *d as f64), 2)?;
        ascending("warmups", self.warmups.iter().map(|w| *w as f64), 2)?;
        ascending("lrs", std::iter::once(self.low_lr).chain(self.lrs.iter().copied()), 3)?;
        ascending("kappas", self.kappas.iter().copied(), 2)?;
        ascending("narrow and widths", [self.narrow, self.widths[0]].into_iter().map(|w| w as f64), 2)?;
        let longest = self.warmups.iter().copied().max().unwrap_or(0).max(self.warmup);
        if longest > self.steps {
            return Err(Error::value("warm-up", format!("at most the {} steps", self.steps), longest).into());
        }
        for width in self.widths.iter().chain([&self.narrow]) {
            if self.head_width < 1 || width % self.head_width != 0 || self.head_width % 2 != 0 {
                let expected = format!("even, a divisor of the width {width}");
                return Err(Error::value("head_width", expected, self.head_width).into());
            }
        }
        for (name, has, value) in [
            ("warmups", self.warmups.contains(&self.warmup), self.warmup as f64),
            ("depths", self.depths.contains(&self.depth), self.depth as f64),
            ("lrs", self.lrs.contains(&self.middle_lr), self.middle_lr),
        ] {
            if !has {
                return Err(Error::value(name, format!("{value} among them"), "others").into());
            }
        }
        Ok(())
    }

    /// The width at which warm-up and forced scores are varied.
    fn middle(&self) -> i64 {
        self.widths[self.widths.len() / 2]
    }

    fn widest(&self) -> i64 {
        self.widths[self.widths.len() - 1]
    }

    /// The two highest learning rates.
    fn high_lrs(&self) -> &[f64] {
        &self.lrs[self.lrs.len().saturating_sub(2)..]
    }
}

fn ascending(what: &str, values: impl Iterator<Item = f64>, at_least: usize) -> Result<()> {
    let values: Vec<f64> = values.collect();
    if values.len() < at_least || values.windows(2).any(|w| w[0] >= w[1]) || values.iter().any(|v| *v < 0.0) {
        let expected = format!("at least {at_least} ascending values");
        return Err(Error::value(what, expected, format!("{values:?}")).into());
    }
    Ok(())
}

impl Experiment for TrainingInstabilities {
    fn slug(&self) -> &'static str {
        "training-instabilities"
    }

    fn version(&self) -> u32 {
        1
    }

    fn claims(&self) -> Vec<Claim> {
        vec![
            Claim::new(
                "C1",
                "With a layer norm of queries and keys the final loss depends much less on the learning rate; without it the highest workable rate falls with size",
                "with it 1.2B parameters train at a rate of 0.3",
                "LRS(without) - LRS(with) is above 0 with its 95 % interval at every width, and the mean LRS(without) is larger at the largest width than at the smallest. Partly if only the first.",
            ),
            Claim::new(
                "C2",
                "Failing runs show exploding attention logits, which come from the lengths of queries and keys, and large logits by themselves harm",
                "runs above 1e4 diverged; logits forced to 1e4: worse than a bigram model",
                "At the middle width without the norm, at each of the two highest rates: the largest logit is above 1e3 (geometric mean over seeds) and the mean loss at least 0.1 above that with the norm; the lengths of queries times keys grow by a larger factor over training than the root mean square of their cosines (mean of logs). Forced scores: the loss at the largest kappa exceeds that at kappa 10 by more than 0.1. All: reproduced; some: partly.",
            ),
            Claim::new(
                "C3",
                "Without weight decay output logits diverge late at high rates (log Z far below 0); the z-loss removes it",
                "at any size, late in training",
                "At the highest rate without decay: mean log Z ends below -1 without the z-loss and within 1 of 0 with it, in every seed. Partly if it ends below -1 and at least 1 below that with the z-loss, in every seed. No divergence is expected at this size.",
            ),
            Claim::new(
                "C4",
                "A longer warm-up lowers the sensitivity",
                "most for larger models",
                "LRS(shortest warm-up) - LRS(longest) at the middle width is above 0 with its 95 % interval. Partly if its mean is. (One width: that larger models gain most is not tested.)",
            ),
            Claim::new(
                "C5",
                "Independent weight decay lowers the sensitivity",
                "against coupled decay of 0.1",
                "LRS(coupled) - LRS(independent) at the smallest width, each the lower of two ranges of rates (the grid and one rate more below, without its highest; the grid), is above 0 with its 95 % interval. Partly if its mean is.",
            ),
            Claim::new(
                "C6",
                "Depth raises the sensitivity faster than width",
                "by parameters, with the cures on",
                "Slope of the LRS on log10 N over depths minus that over widths, paired by seed, is above 0 with its 95 % interval. Partly if its mean is.",
            ),
            Claim::new(
                "C7",
                "muParam (simple) keeps the best rate over widths, and does not lower the sensitivity",
                "nor the loss",
                "With muParam the best rates (of the mean losses) at the smallest and the largest width are at most one step of the grid apart, and at the largest width the LRS is not lower than the standard one's with its 95 % interval. One of the two: partly.",
            ),
            Claim::new(
                "C8",
                "The trend of the largest attention logit over sizes predicts that of the next",
                "a 4.8B model at 1e-2 would diverge, and did",
                "Without the norm, at the second highest rate: a quadratic in log10 N through the smaller widths (means over seeds of log10 of the largest logit) predicts the largest width's within 0.5.",
            ),
            Claim::new(
                "C9",
                "Gradients shrink with the learning rate, until Adam's epsilon matters",
                "at 4.8B and rate 0.3 an epsilon of 1e-15 improves the loss, 1e-6 diverges",
                "Slope of log10 of the gradient's RMS (first perceptron matrix, last tenth of training, middle width, with the norm) on log10 of the rate is below 0 with its 95 % interval, and with epsilon at the measured RMS (smallest width) the update's RMS is 0.4 to 0.6 times that with 1e-8 on average, g/(g + epsilon) being 0.5. One of the two: partly.",
            ),
            Claim::new(
                "C10",
                "Run length and batch size hardly change the sensitivity",
                "50 to 200 thousand steps, batches of 256 to 1024 at equal data",
                "Not judged: a claim of equality needs runs several times as long as the others, over all rates.",
            ),
        ]
    }

    fn datasets(&self) -> &'static [&'static str] {
        &["grammar", "tinyshakespeare"]
    }

    fn config(&self, scale: Scale) -> Value {
        let small = Config {
            widths: vec![32, 64, 128],
            depth: 2,
            depths: vec![1, 2, 4],
            narrow: 16,
            head_width: 16,
            context: 32,
            batch: 16,
            steps: 250,
            warmup: 40,
            warmups: vec![10, 40, 100],
            lrs: vec![1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1],
            low_lr: 3e-4,
            end_lr: 1e-5,
            clip: 1.0,
            z_loss: 1e-4,
            independent: 1e-4,
            coupled: 0.1,
            kappas: vec![1.0, 10.0, 1e2, 1e3, 1e4],
            middle_lr: 1e-2,
            long: 2000,
            long_lrs: vec![0.3],
            windows: 256,
            every: 25,
        };
        json!(match scale {
            Scale::Smoke => Config {
                widths: vec![16, 32],
                depth: 1,
                depths: vec![1, 2],
                narrow: 8,
                head_width: 8,
                steps: 60,
                warmup: 10,
                warmups: vec![5, 10],
                lrs: vec![1e-3, 3e-1],
                kappas: vec![10.0, 1e4],
                middle_lr: 1e-3,
                long: 60,
                long_lrs: vec![0.3],
                windows: 32,
                every: 20,
                ..small
            },
            Scale::Small => small,
            Scale::Full => Config {
                widths: vec![256, 512, 768],
                depth: 6,
                depths: vec![3, 6, 12],
                narrow: 128,
                head_width: 64,
                context: 256,
                batch: 256,
                steps: 20_000,
                warmup: 1000,
                warmups: vec![250, 1000, 4000],
                lrs: vec![3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1],
                low_lr: 1e-4,
                long: 20_000,
                windows: 1024,
                every: 500,
                ..small
            },
        })
    }

    fn cells(&self, plan: &Plan) -> Result<Vec<Cell>> {
        let config: Config = plan.config()?;
        config.check()?;
        Ok(plan.cross(&runs(&config).into_iter().map(|run| run.arm()).collect::<Vec<_>>()))
    }

    fn run(&self, cell: &Cell, context: &mut Context<'_>) -> Result<()> {
        let config: Config = context.plan.config()?;
        let Some(run) = runs(&config).into_iter().find(|run| run.arm() == cell.arm) else {
            bail!("unknown arm {}", cell.arm)
        };
        train::cell(&run, &config, context)
    }

    fn judge(&self, results: &Results) -> Result<Vec<Finding>> {
        judge::findings(results)
    }

    fn plots(&self, results: &Results) -> Result<Vec<Plot>> {
        plots::plots(results)
    }

    fn note(&self, _plan: &Plan) -> String {
        "Character-level text stands in for C4, in 32-bit floats (the paper trains in bfloat16, which is less stable). All runs of a seed share initialisation (per shape) and batches. The loss is the cross-entropy on fixed windows of held-out text; a run without a finite loss counts as its start, and every loss as at most that. The gradient's RMS is after clipping, as Adam sees it. An update RMS below 0.5 with a large epsilon would prove nothing, as gradient noise alone puts it at a quarter: C9 compares it with that at the usual epsilon, and, as equal sizes give exactly a half, asks for about a half (settled on seed 100, which is not among the recorded ones). muParam's base is the smallest width. Weight decay acts on all parameters alike, gains included. The root mean square of cosines starts near a quarter and cannot grow more than fourfold, so that logits of a thousand need long queries and keys. Decay, its absence and epsilon are varied at the smallest width, warm-up and forced scores at the middle one.".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(change: Option<(&str, Value)>) -> Result<Vec<Cell>> {
        Plan::trial_cells(&TrainingInstabilities, change.as_slice())
    }

    #[test]
    fn every_arm_comes_once() {
        let cells = cells(None).unwrap();
        let names: std::collections::BTreeSet<_> = cells.iter().map(|c| &c.arm).collect();
        assert_eq!(names.len(), cells.len());
        assert!(names.contains(&"plain,d=32/lr=0.3".to_owned()), "{names:?}");
    }

    #[test]
    fn settings_that_cannot_work_are_refused_before_anything_runs() {
        let refused = [
            ("widths", json!([32, 16]), "widths: expected at least 2 ascending"),
            ("widths", json!([32]), "widths: "),
            ("lrs", json!([]), "lrs: expected at least one"),
            ("lrs", json!([1e-3, 1e-3]), "lrs: "),
            ("lrs", json!([1e-4, 1e-3]), "lrs: "),
            ("steps", json!(0), "steps: "),
            ("steps", json!(5), "warm-up: expected at most the 5 steps"),
            ("head_width", json!(5), "head_width: "),
            ("head_width", json!(16), "head_width: expected even, a divisor of the width 8"),
            ("depth", json!(3), "depths: expected 3 among them"),
            ("middle_lr", json!(0.02), "lrs: expected 0.02 among them"),
            ("z_loss", json!(-1.0), "z_loss: "),
            ("kappas", json!([0.0, 1.0]), "kappas: "),
            ("clip", json!(0.0), "clip: "),
        ];
        Plan::assert_refused(&TrainingInstabilities, &refused);
    }
}
