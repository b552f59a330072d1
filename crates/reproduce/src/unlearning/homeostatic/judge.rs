//! Verdicts and plots.

use super::{
    ADAM, ALWAYS, AROUND, Config, ETA, FINAL_ETA, INGESTED_DOWN, INGESTED_UP, LRH, LRH_MEMORY, LRR, MEAN_ONLINE,
    MOMENTUM, ORACLE, SEASONS, STATIONARY, Setting, VALIDATION, arm, constant,
};
use crate::plot::{Plot, Series};
use crate::results::Results;
use crate::verdict::{self, Finding, Judgement, Verdict, summary};
use anyhow::Result;
use autodidact_core::stats::{self, Estimate};

pub(super) fn findings(results: &Results) -> Result<Vec<Finding>> {
    let study = Study::new(results)?;
    Ok(vec![
        study.stationary()?,
        study.under_shift("C2a", &constant(study.config.eta))?,
        study.under_shift("C2b", LRR)?,
        study.seasons()?,
        study.rates()?,
    ])
}

/// The official variant's verdict; partly where only that with the memory's gradient holds.
fn or_memory(official: Verdict, memory: Verdict) -> Verdict {
    match (official, memory) {
        (Verdict::NotReproduced, Verdict::Reproduced) => Verdict::Partly,
        (verdict, _) => verdict,
    }
}

struct Study<'a> {
    results: &'a Results,
    config: Config,
    setting: Setting,
}

impl<'a> Study<'a> {
    fn new(results: &'a Results) -> Result<Self> {
        let config: Config = results.plan().config()?;
        let setting = config.setting(results.plan()).clone();
        Ok(Self { results, config, setting })
    }

    /// Streams with one rate of swaps, slowest first.
    fn spacings(&self) -> Vec<String> {
        let mut all: Vec<usize> = self.setting.slow.iter().chain(&self.setting.fast).copied().collect();
        all.sort_unstable_by(|a, b| b.cmp(a));
        all.into_iter().map(|s| s.to_string()).collect()
    }

    fn gain(&self, stream: &str, learner: &str, over: &str, metric: &str) -> Result<Judgement> {
        let values = |l: &str| self.results.values(&arm(stream, l), metric);
        Ok(verdict::difference(&values(learner)?, &values(over)?, 0.0))
    }

    fn online(&self, stream: &str, learner: &str) -> Result<f64> {
        self.results.mean(&arm(stream, learner), MEAN_ONLINE)
    }

    /// The constant rate that is best on a stream, and its accuracy.
    fn best_constant(&self, stream: &str) -> Result<(f64, f64)> {
        let each = self.config.constants.iter().map(|c| Ok((*c, self.online(stream, &constant(*c))?)));
        let all = each.collect::<Result<Vec<_>>>()?;
        Ok(all.into_iter().fold((0.0, f64::MIN), |best, c| if c.1 > best.1 { c } else { best }))
    }

    /// C1.
    fn stationary(&self) -> Result<Finding> {
        let lrc = constant(self.config.eta);
        let gain = self.gain(STATIONARY, LRH, &lrc, VALIDATION)?;
        let inside = gain.estimate.low > -2.0 && gain.estimate.high < 2.0;
        let of = |l: &str| self.results.mean(&arm(STATIONARY, l), VALIDATION);
        let ingested = |l: &str| -> Result<f64> {
            let share = |metric: &str| self.results.mean(&arm(STATIONARY, l), metric);
            Ok(0.5 * (share(INGESTED_UP)? + share(INGESTED_DOWN)?))
        };
        let note = format!(
            "Validation accuracy in %, mean of the last {} epochs: constant {:.1}, homeostatic {:.1}, with the memory's gradient {:.1} ({:+}), random {:.1}, momentum {:.1}, Adam {:.1}; of all opportunities {:.1} % are ingested by the homeostatic learner, with the memory's gradient {:.1} %. Shown: homeostatic minus constant.",
            self.config.every.min(self.setting.epochs),
            of(&lrc)?,
            of(LRH)?,
            of(LRH_MEMORY)?,
            self.gain(STATIONARY, LRH_MEMORY, &lrc, VALIDATION)?,
            of(LRR)?,
            of(MOMENTUM)?,
            of(ADAM)?,
            ingested(LRH)?,
            ingested(LRH_MEMORY)?,
        );
        let seeds = self.results.seeds(&arm(STATIONARY, LRH)).len();
        Ok(Finding::new("C1", gain, note).against(0.0).verdict(Verdict::of(inside).with_seeds(seeds)))
    }

    /// Whether a learner beats another at every fast spacing, and by more than at the slowest and without swaps.
    fn ahead(&self, learner: &str, over: &str) -> Result<Verdict> {
        let gain = |stream: &str| self.gain(stream, learner, over, MEAN_ONLINE);
        let slow = [STATIONARY.to_owned(), self.spacings()[0].clone()];
        let slow = slow.iter().map(|s| Ok(gain(s)?.estimate.value)).collect::<Result<Vec<f64>>>()?;
        let mut parts = vec![];
        for spacing in &self.setting.fast {
            let fast = gain(&spacing.to_string())?;
            parts.push(fast.verdict);
            parts.push(Verdict::of(slow.iter().all(|s| fast.estimate.value > *s)));
        }
        Ok(match Verdict::all(&parts) {
            Verdict::Partly => Verdict::NotReproduced,
            verdict => verdict,
        })
    }

    /// C2a and C2b.
    fn under_shift(&self, id: &'static str, over: &str) -> Result<Finding> {
        let verdict = or_memory(self.ahead(LRH, over)?, self.ahead(LRH_MEMORY, over)?);
        let mut words = vec![];
        for stream in [vec![STATIONARY.to_owned()], self.spacings()].concat() {
            let gain = |learner: &str| self.gain(&stream, learner, over, MEAN_ONLINE);
            let (rate, bound) = self.best_constant(&stream)?;
            words.push(format!(
                "{stream}: {:.1} and {:.1} ({:+}), with the memory's gradient {:.1} ({:+}), best constant ({rate}) {bound:.1}",
                self.online(&stream, over)?,
                self.online(&stream, LRH)?,
                gain(LRH)?,
                self.online(&stream, LRH_MEMORY)?,
                gain(LRH_MEMORY)?,
            ));
        }
        let fastest = self.spacings().pop().unwrap_or_default();
        let note = format!(
            "Mean online accuracy in % by samples between swaps, {over} and homeostatic (difference): {}. Shown: the difference at {fastest}.",
            words.join("; ")
        );
        let shown = self.gain(&fastest, LRH, over, MEAN_ONLINE)?;
        Ok(Finding::new(id, shown, note).against(0.0).verdict(verdict))
    }

    /// C3.
    fn seasons(&self) -> Result<Finding> {
        let lrc = constant(self.config.eta);
        let gains = |learner: &str| -> Result<[Judgement; 2]> {
            let gain = |over: &str| self.gain(SEASONS, learner, over, MEAN_ONLINE);
            Ok([gain(&lrc)?, gain(LRR)?])
        };
        let (official, memory) = (gains(LRH)?, gains(LRH_MEMORY)?);
        let all = |gains: &[Judgement; 2]| Verdict::all(&gains.each_ref().map(|g| g.verdict));
        let verdict = or_memory(all(&official), all(&memory));
        let mut others = vec![];
        for learner in [&lrc, LRR, LRH, LRH_MEMORY, ORACLE, ALWAYS, MOMENTUM, ADAM] {
            others.push(format!("{learner} {:.1}", self.online(SEASONS, learner)?));
        }
        let (rate, bound) = self.best_constant(SEASONS)?;
        let note = format!(
            "Mean online accuracy in %: {}; best constant ({rate}) {bound:.1}. Homeostatic minus random {:+}; with the memory's gradient minus constant {:+}, minus random {:+}. Shown: homeostatic minus constant.",
            others.join(", "),
            official[1],
            memory[0],
            memory[1]
        );
        let [shown, _] = official;
        Ok(Finding::new("C3", shown, note).against(0.0).verdict(verdict))
    }

    /// C4.
    fn rates(&self) -> Result<Finding> {
        let spacings = self.spacings();
        let of = |learner: &str, metric: &str| -> Result<Vec<f64>> {
            spacings.iter().map(|s| self.results.mean(&arm(s, learner), metric)).collect()
        };
        let grows = |rates: &[f64]| Verdict::of(rates.windows(2).all(|w| w[1] > w[0]));
        let (official, memory) = (of(LRH, FINAL_ETA)?, of(LRH_MEMORY, FINAL_ETA)?);
        let verdict = or_memory(grows(&official), grows(&memory));
        let list = |values: &[f64]| values.iter().map(|v| format!("{v:.4}")).collect::<Vec<_>>().join(", ");
        let share = |learner: &str| -> Result<String> {
            let last = spacings.last().cloned().unwrap_or_default();
            let of = |metric: &str| self.results.mean(&arm(&last, learner), metric);
            Ok(format!("{:.1} and {:.1}", of(INGESTED_UP)?, of(INGESTED_DOWN)?))
        };
        let note = format!(
            "Mean rate of the last quarter at {} samples between swaps (start: {}): homeostatic {}, with the memory's gradient {}, random {}; without swaps {:.4}, {:.4} and {:.4}. At the fastest, % of labels 5 to 9 and of 0 to 4 that are ingested: homeostatic {}, with the memory's gradient {}. Shown: homeostatic at the fastest.",
            spacings.join(", "),
            self.config.eta,
            list(&official),
            list(&memory),
            list(&of(LRR, FINAL_ETA)?),
            self.results.mean(&arm(STATIONARY, LRH), FINAL_ETA)?,
            self.results.mean(&arm(STATIONARY, LRH_MEMORY), FINAL_ETA)?,
            self.results.mean(&arm(STATIONARY, LRR), FINAL_ETA)?,
            share(LRH)?,
            share(LRH_MEMORY)?,
        );
        let fastest = spacings.last().cloned().unwrap_or_default();
        let seen = self.results.values(&arm(&fastest, LRH), FINAL_ETA)?;
        let estimate: Estimate = verdict::estimate(&seen);
        let seeds = seen.len();
        Ok(Finding::new("C4", Judgement { estimate, verdict }, note)
            .against(stats::mean(&self.results.values(&arm(STATIONARY, LRH), FINAL_ETA)?))
            .verdict(verdict.with_seeds(seeds)))
    }
}

pub(super) fn plots(results: &Results) -> Result<Vec<Plot>> {
    let study = Study::new(results)?;
    let lrc = constant(study.config.eta);
    let shown = [lrc.as_str(), LRR, LRH, LRH_MEMORY];
    let spacings = study.spacings();

    let mut by_rate = vec![];
    for (i, learner) in shown.into_iter().chain([MOMENTUM, ADAM]).enumerate() {
        let mut points = vec![];
        for spacing in &spacings {
            let (mean, half) = summary(&results.values(&arm(spacing, learner), MEAN_ONLINE)?);
            points.push((1000.0 / spacing.parse::<f64>()?, mean, half));
        }
        by_rate.push(Series::with_intervals(learner, i, points));
    }
    let mut bound = vec![];
    for spacing in &spacings {
        bound.push((1000.0 / spacing.parse::<f64>()?, study.best_constant(spacing)?.1));
    }
    by_rate.push(Series::line("best constant", 6, &bound).dashed());

    let fastest = spacings.last().cloned().unwrap_or_default();
    let (mut rates, mut seasons, mut around) = (vec![], vec![], vec![]);
    for (i, learner) in shown.into_iter().enumerate() {
        rates.push(Series::line(learner, i, &results.mean_series(&arm(&fastest, learner), ETA)?));
        seasons.push(Series::line(learner, i, &results.mean_series(&arm(SEASONS, learner), super::ONLINE)?));
        let (width, bins) = study.config.around;
        // The slowest rate of swaps: there the dip is deepest.
        if let Ok(curve) = results.mean_array(&arm(&spacings[0], learner), AROUND) {
            let at = |i: usize| (i as f64 + 0.5 - bins as f64) * width as f64;
            let points: Vec<_> = curve.iter().enumerate().map(|(i, v)| (at(i), 100.0 * v)).collect();
            around.push(Series::line(learner, i, &points));
        }
    }
    let mut ingested = vec![];
    for (i, learner) in [LRH, LRH_MEMORY, ORACLE].into_iter().enumerate() {
        for (labels, metric) in [("5 to 9", INGESTED_UP), ("0 to 4", INGESTED_DOWN)] {
            let (mean, half) = summary(&results.values(&arm(&fastest, learner), metric)?);
            ingested.push((format!("{learner}, {labels}"), mean, half, i));
        }
    }
    let mut all = vec![
        Plot::lines(
            "online",
            "Mean online accuracy over the rate of swaps, mean over seeds with 95 % intervals.",
            "swaps per 1,000 samples",
            "online accuracy (%)",
            by_rate,
        )
        .log(true, false),
        Plot::lines(
            "rates",
            &format!("Learning rate at {fastest} samples between swaps, mean over seeds."),
            "epoch",
            "learning rate",
            rates,
        ),
        Plot::lines("seasons", "Online accuracy under second-order shift.", "epoch", super::ONLINE, seasons),
        Plot::bars(
            "ingested",
            &format!("Share of opportunities that are ingested at {fastest} samples between swaps."),
            "ingested (%)",
            ingested,
        ),
    ];
    if !around.is_empty() {
        let caption =
            format!("Online accuracy around swaps, {} samples apart, mean over swaps and seeds.", spacings[0]);
        all.push(Plot::lines("around", &caption, "samples since the swap", "accuracy (%)", around));
    }
    Ok(all)
}
