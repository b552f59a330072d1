//! Findings and plots.

use super::{BALANCED, Config, FEW, KNN, PROBE, Setting, TAIL, arm, tau_of};
use crate::experiment::Scale;
use crate::plot::{Plot, Series};
use crate::results::Results;
use crate::verdict::{self, Finding, Judgement, Verdict};
use anyhow::Result;
use autodidact_core::stats;

struct Study<'a> {
    results: &'a Results,
    config: Config,
    /// The accuracy that C1, C2 and C5 look at.
    accuracy: &'static str,
}

impl<'a> Study<'a> {
    fn new(results: &'a Results) -> Result<Self> {
        let accuracy = if results.plan().dataset == "digits" { FEW } else { PROBE };
        Ok(Self { results, config: results.plan().config()?, accuracy })
    }

    fn seeds(&self) -> &[u64] {
        &self.results.plan().seeds
    }

    fn setting(&self) -> &Setting {
        self.config.of(&self.results.plan().dataset)
    }

    fn enough(&self, verdict: Verdict) -> Verdict {
        verdict.with_seeds(self.seeds().len())
    }

    /// iSogCLR against the better fixed temperature, on long-tailed or (with the prefix) balanced data.
    fn gain(&self, prefix: &str) -> Result<(Judgement, String, f64)> {
        let of = |method: &str| {
            let arm = format!("{prefix}{}", arm(method, self.config.tau));
            Ok((self.results.values(&arm, self.accuracy)?, arm))
        };
        let (simclr, sogclr, ours): (_, _, Result<_>) = (of("simclr")?, of("sogclr")?, of("isogclr"));
        let ours = ours?;
        let better = if stats::mean(&simclr.0) >= stats::mean(&sogclr.0) { &simclr } else { &sogclr };
        let mut others = vec![];
        for metric in [KNN, TAIL, FEW, PROBE].into_iter().filter(|m| *m != self.accuracy) {
            let mean = |arm: &str| self.results.mean(arm, metric);
            others.push(format!("{metric} {:.1}, {:.1}, {:.1}", mean(&simclr.1)?, mean(&sogclr.1)?, mean(&ours.1)?));
        }
        let note = format!(
            "{} (%) of SimCLR {:.2}, SogCLR {:.2}, iSogCLR {:.2}; in the same order: {}.",
            self.accuracy,
            stats::mean(&simclr.0),
            stats::mean(&sogclr.0),
            stats::mean(&ours.0),
            others.join("; "),
        );
        let gain = verdict::difference(&ours.0, &better.0, 0.0);
        Ok((Judgement { verdict: gain.or_partly(), ..gain }, note, stats::mean(&better.0)))
    }

    /// C1.
    fn balanced(&self) -> Result<Finding> {
        if !self.config.balanced {
            return Ok(Finding::not_judged("C1", "no arms on balanced data at this scale"));
        }
        let (gain, note, better) = self.gain(BALANCED)?;
        let finding = Finding::new("C1", gain, note).against(better);
        Ok(if self.results.plan().scale == Scale::Full { finding } else { finding.verdict(Verdict::NotJudged) })
    }

    /// C2.
    fn long_tail(&self) -> Result<Finding> {
        let (gain, note, better) = self.gain("")?;
        Ok(Finding::new("C2", gain, note).against(better))
    }

    /// Count and mean temperature of every class at one seed.
    fn temperatures(&self, seed: u64) -> Result<Vec<(f64, f64)>> {
        let arm = arm("isogclr", self.config.tau);
        let counts = self.setting().counts(10, seed).into_iter().enumerate();
        counts.map(|(c, n)| Ok((n as f64, self.results.value(&arm, seed, &tau_of(c))?))).collect()
    }

    /// C3.
    fn frequency(&self) -> Result<Finding> {
        let by_seed = self.seeds().iter().map(|s| self.temperatures(*s)).collect::<Result<Vec<_>>>()?;
        let correlations: Vec<f64> = by_seed
            .iter()
            .map(|classes| {
                let (counts, taus): (Vec<f64>, Vec<f64>) = classes.iter().copied().unzip();
                stats::spearman(&counts, &taus).unwrap_or(0.0)
            })
            .collect();
        // Of each class: its temperature at the seeds where it has the larger count, less that at the others.
        let (orders, classes) = (by_seed.len(), by_seed[0].len());
        let both = self.seeds().iter().any(|s| s % 2 == 0) && self.seeds().iter().any(|s| s % 2 == 1);
        let differences = (0..classes).map(|c| {
            let most = (0..orders).map(|s| by_seed[s][c].0).fold(0.0, f64::max);
            let mean = |frequent: bool| {
                let taus: Vec<f64> = by_seed.iter().filter(|s| (s[c].0 == most) == frequent).map(|s| s[c].1).collect();
                stats::mean(&taus)
            };
            mean(true) - mean(false)
        });
        let differences: Vec<f64> = differences.filter(|d| d.is_finite()).collect();
        let difference = stats::mean(&differences);
        let zero = vec![0.0; correlations.len()];
        let positive = verdict::difference(&correlations, &zero, 0.0);
        let mean = stats::mean(&correlations);
        let verdict = match positive.verdict {
            Verdict::NotJudged => Verdict::NotJudged,
            _ if !both => Verdict::NotJudged,
            Verdict::Reproduced if mean > 0.5 && difference > 0.0 => Verdict::Reproduced,
            _ if mean > 0.2 => Verdict::Partly,
            _ => Verdict::NotReproduced,
        };
        let listed: Vec<String> = correlations.iter().map(|r| format!("{r:.2}")).collect();
        Ok(Finding::new("C3", positive, format!(
            "Spearman's correlation of count and mean temperature, by seed: {}. Temperature of a class where it is frequent less where it is rare, mean over classes {difference:.3}.",
            listed.join(", "),
        )).verdict(verdict))
    }

    /// C5.
    fn sensitivity(&self) -> Result<Finding> {
        let spread = |method: &str, seed: u64| -> Result<f64> {
            let values = self.config.taus.iter().map(|t| self.results.value(&arm(method, *t), seed, self.accuracy));
            let values = values.collect::<Result<Vec<_>>>()?;
            Ok(values.iter().fold(f64::MIN, |m, v| m.max(*v)) - values.iter().fold(f64::MAX, |m, v| m.min(*v)))
        };
        let of = |method: &str| self.seeds().iter().map(|s| spread(method, *s)).collect::<Result<Vec<_>>>();
        let (ours, simclr) = (of("isogclr")?, of("simclr")?);
        let smaller = ours.iter().zip(&simclr).filter(|(a, b)| a < b).count();
        let held = Verdict::of(3 * smaller >= 2 * ours.len());
        let mut means = vec![];
        for method in ["simclr", "isogclr"] {
            let at = |t: &f64| Ok(format!("{:.1}", self.results.mean(&arm(method, *t), self.accuracy)?));
            means.push(format!("{method} {}", self.config.taus.iter().map(at).collect::<Result<Vec<_>>>()?.join(", ")));
        }
        let difference = verdict::difference(&simclr, &ours, 0.0);
        Ok(Finding::new("C5", difference, format!(
            "SimCLR's spread less iSogCLR's, in points; smaller in {smaller} of {} seeds. Means over temperatures {:?}: {}.",
            ours.len(), self.config.taus, means.join("; "),
        )).against(stats::mean(&simclr)).verdict(self.enough(held)))
    }
}

/// The finding of every claim.
pub fn findings(results: &Results) -> Result<Vec<Finding>> {
    let study = Study::new(results)?;
    Ok(vec![
        study.balanced()?,
        study.long_tail()?,
        study.frequency()?,
        Finding::not_judged("C4", "needs millions of captioned images"),
        study.sensitivity()?,
    ])
}

/// Accuracies, sensitivity, and where the temperatures go.
pub fn plots(results: &Results) -> Result<Vec<Plot>> {
    let study = Study::new(results)?;
    let summary =
        |arm: &str, metric: &str| -> Result<(f64, f64)> { Ok(verdict::summary(&results.values(arm, metric)?)) };
    let methods = ["simclr", "sogclr", "isogclr"];
    let mut bars = vec![];
    for (i, method) in methods.into_iter().enumerate() {
        let (mean, half) = summary(&arm(method, study.config.tau), study.accuracy)?;
        bars.push((method.to_owned(), mean, half, i));
    }
    let mut sensitivity = vec![];
    for (method, colour) in [("simclr", 0), ("isogclr", 2)] {
        let point = |t: &f64| summary(&arm(method, *t), study.accuracy).map(|(mean, half)| (*t, mean, half));
        let points = study.config.taus.iter().map(point).collect::<Result<_>>()?;
        sensitivity.push(Series::with_intervals(method, colour, points));
    }
    let mut by_count = vec![];
    for seed in study.seeds() {
        let order = if seed % 2 == 0 { "in order" } else { "reversed" };
        by_count.push(
            Series::line(format!("seed {seed} ({order})"), (seed % 2) as usize, &study.temperatures(*seed)?).dots(),
        );
    }
    let main = arm("isogclr", study.config.tau);
    let mut time = vec![];
    for (i, class) in ["head", "tail"].into_iter().enumerate() {
        let series = results.mean_series(&main, &format!("mean temperature of the {class} class"))?;
        time.push(Series::line(format!("{class} class"), i, &series));
    }
    let divergence = results.mean_series(&main, "mean KL to uniform")?;
    let rho = vec![(0.0, study.config.rho), (study.setting().pretraining.training.steps as f64, study.config.rho)];
    let n = study.seeds().len();
    Ok(vec![
        Plot::bars(
            "accuracy",
            &format!(
                "Accuracy on the balanced test set after training on long-tailed {}; means of {n} seeds with 95 % intervals.",
                results.plan().dataset
            ),
            &format!("{} (%)", study.accuracy),
            bars,
        ),
        Plot::lines(
            "sensitivity",
            "Accuracy by temperature (SimCLR) and by first temperature (iSogCLR).",
            "temperature",
            &format!("{} (%)", study.accuracy),
            sensitivity,
        )
        .log(true, false),
        Plot::lines(
            "temperature-by-count",
            "Mean learned temperature of each class by its number of images.",
            "images of the class",
            "temperature",
            by_count,
        )
        .log(true, false),
        Plot::lines(
            "temperature-in-training",
            "Mean temperature of the most frequent and of the rarest class during training; means over seeds.",
            "step",
            "temperature",
            time,
        ),
        Plot::lines(
            "divergence",
            "Mean divergence of the weights of negatives from uniform, and the radius rho that temperatures aim at.",
            "step",
            "KL (nats)",
            vec![Series::line("iSogCLR", 2, &divergence), Series::line("rho", 7, &rho).dashed()],
        ),
    ])
}
