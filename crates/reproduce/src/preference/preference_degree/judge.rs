//! Findings and plots.

use super::super::garland::{GOLD, KL, win_rate};
use super::{
    ACCURACY, CONFUSION, Config, DPO, GOLD_BY_DEGREE, IMPLICIT, IPO, IPO_SPO, LENGTH_ACCURACY, MONOTONE, ORACLE,
    RANDOM, REJECTED, RPO, Regime, SHUFFLED, SPEARMAN, VALIDATION, rewards_at, spo_arm,
};
use crate::plot::{Plot, Series};
use crate::results::Results;
use crate::verdict::{self, Finding, Judgement, Verdict};
use anyhow::{Context as _, Result};
use autodidact_core::stats;

/// Accuracy of degrees that counts as telling them, in percent.
const TOLD: f64 = 60.0;

struct Judge<'a> {
    results: &'a Results,
    config: Config,
}

/// The best checkpoint of a cell.
struct Best<'a> {
    step: usize,
    rewards: &'a [f64],
}

impl Judge<'_> {
    /// The checkpoint with the highest gold reward on the prompts kept out.
    fn best(&self, arm: &str, seed: u64) -> Result<Best<'_>> {
        let course = self.results.series(arm, seed, &format!("{GOLD}{VALIDATION}"))?;
        let top = course.iter().max_by(|a, b| a.1.total_cmp(&b.1)).context("there are evaluations")?;
        let step = top.0 as usize;
        Ok(Best { step, rewards: self.results.array(arm, seed, &rewards_at(step))? })
    }

    /// Gold reward of the best checkpoints of an arm in a regime, by seed.
    fn gold(&self, regime: &Regime, name: &str) -> Result<Vec<f64>> {
        let arm = Config::arm(regime, name);
        let seeds = self.results.seeds(&arm).into_iter();
        seeds.map(|seed| Ok(stats::mean(self.best(&arm, seed)?.rewards))).collect()
    }

    /// Means over regimes of values by seed.
    fn over_regimes(&self, of: impl Fn(&Regime) -> Result<Vec<f64>>) -> Result<Vec<f64>> {
        let all = self.config.regimes.iter().map(of).collect::<Result<Vec<_>>>()?;
        Ok((0..all[0].len()).map(|i| stats::mean(&all.iter().map(|v| v[i]).collect::<Vec<_>>())).collect())
    }

    fn gain(&self, arm: &str, baseline: &str) -> Result<Judgement> {
        let of = |name: &str| self.over_regimes(|regime| self.gold(regime, name));
        Ok(verdict::difference(&of(arm)?, &of(baseline)?, 0.0))
    }

    /// Percent of samples of the best checkpoint of an arm that beat those of another's, mean over seeds.
    fn wins(&self, regime: &Regime, name: &str, against: &str) -> Result<f64> {
        let (arm, other) = (Config::arm(regime, name), Config::arm(regime, against));
        let seeds = self.results.seeds(&arm).into_iter();
        let all = seeds.map(|s| Ok(100.0 * win_rate(self.best(&arm, s)?.rewards, self.best(&other, s)?.rewards)));
        Ok(stats::mean(&all.collect::<Result<Vec<_>>>()?))
    }

    fn spo(&self) -> String {
        spo_arm(self.config.gamma())
    }

    fn base_of(name: &str) -> &'static str {
        if name.starts_with(IPO) { IPO } else { DPO }
    }

    fn improves(&self) -> Result<Finding> {
        let (dpo, ipo) = (self.gain(&self.spo(), DPO)?, self.gain(IPO_SPO, IPO)?);
        let mut each = vec![];
        for regime in &self.config.regimes {
            let mut arms = vec![];
            for (name, _) in self.config.methods() {
                let arm = Config::arm(regime, &name);
                let seeds = self.results.seeds(&arm).into_iter();
                let steps = seeds.map(|s| Ok(self.best(&arm, s)?.step as f64)).collect::<Result<Vec<_>>>()?;
                arms.push(format!(
                    "{name} {:.2} ({:.0} %, step {:.0}, last {:.2} at {:.1} nats)",
                    stats::mean(&self.gold(regime, &name)?),
                    self.wins(regime, &name, Self::base_of(&name))?,
                    stats::mean(&steps),
                    self.results.mean(&arm, GOLD)?,
                    self.results.mean(&arm, KL)?,
                ));
            }
            each.push(format!("{} pairs: {}", regime.pairs.count, arms.join(", ")));
        }
        let note = format!(
            "Gold reward of dpo with SPO (gamma {}) over dpo; with ipo {ipo:+}, whose loss (h - 5)^2 is so steep at the start, 200 times DPO's, that the same gamma hardly matters beside it. Gold reward of the best checkpoints (win rate against dpo or ipo, mean step; at the last step, divergence): {}.",
            self.config.gamma(),
            each.join("; ")
        );
        let above = Verdict::of(ipo.estimate.value > 0.0).with_seeds(ipo.estimate.n);
        let baseline = stats::mean(&self.over_regimes(|r| self.gold(r, DPO))?);
        Ok(Finding::new("C1", dpo, note).against(baseline).verdict(Verdict::all(&[dpo.verdict, above])))
    }

    fn content(&self) -> Result<Finding> {
        let gain = self.gain(&self.spo(), RANDOM)?;
        let others = [SHUFFLED, ORACLE, REJECTED].map(|name| Ok(format!("{name} {:+}", self.gain(name, DPO)?)));
        let note = format!(
            "Gold reward of SPO with key content over SPO with random words; over dpo: {}, {}.",
            format_args!("{RANDOM} {:+}", self.gain(RANDOM, DPO)?),
            others.into_iter().collect::<Result<Vec<_>>>()?.join(", ")
        );
        let baseline = stats::mean(&self.over_regimes(|r| self.gold(r, RANDOM))?);
        Ok(Finding::new("C3", gain, note).against(baseline))
    }

    fn mean(&self, name: &str, metric: &str) -> Result<f64> {
        let all = self.over_regimes(|regime| self.results.values(&Config::arm(regime, name), metric));
        Ok(stats::mean(&all?))
    }

    fn told(&self) -> Result<Finding> {
        let spo = self.spo();
        let values = |name: &str, metric: &str| {
            self.over_regimes(|regime| self.results.values(&Config::arm(regime, name), metric))
        };
        let accuracy = values(&spo, ACCURACY)?;
        let above = verdict::difference(&accuracy, &vec![0.0; accuracy.len()], TOLD);
        let ranks = verdict::difference(&values(&spo, SPEARMAN)?, &values(DPO, SPEARMAN)?, 0.0);
        let not_lower = Verdict::of(ranks.estimate.value >= 0.0).with_seeds(accuracy.len());
        let mut each = vec![];
        for (name, _) in self.config.methods() {
            let told = if [DPO, IPO, REJECTED, RPO].contains(&name.as_str()) {
                String::new()
            } else {
                format!(", degrees {:.0} %", self.mean(&name, ACCURACY)?)
            };
            let (ranks, falls) = (self.mean(&name, SPEARMAN)?, self.mean(&name, MONOTONE)?);
            each.push(format!("{name} {ranks:.3}, {falls:.0} %{told}"));
        }
        let note = format!(
            "Percent of unseen responses whose degree is told (chance {:.0} %, from the length alone {:.0} %). Rank correlation of implicit and gold reward on fresh answers, SPO minus dpo: {ranks:+}. By arm, this correlation and the share of answers whose implicit reward falls with every degree: {}.",
            100.0 / self.config.grades as f64,
            self.mean(&spo, LENGTH_ACCURACY)?,
            each.join("; ")
        );
        Ok(Finding::new("C4", above, note).against(TOLD).verdict(Verdict::all(&[above.verdict, not_lower])))
    }
}

fn judge(results: &Results) -> Result<Judge<'_>> {
    Ok(Judge { results, config: results.plan().config()? })
}

pub(super) fn findings(results: &Results) -> Result<Vec<Finding>> {
    let judge = judge(results)?;
    let untested = Finding::not_judged("C2", "Needs the paper's methods, models and data.");
    Ok(vec![judge.improves()?, untested, judge.content()?, judge.told()?])
}

pub(super) fn plots(results: &Results) -> Result<Vec<Plot>> {
    let judge = judge(results)?;
    let spo = judge.spo();
    let n = results.plan().seeds.len();
    let mut plots = vec![];
    for regime in &judge.config.regimes {
        let mut gold = vec![];
        for (i, name) in [DPO, &spo, RANDOM, ORACLE, IPO, IPO_SPO, RPO].into_iter().enumerate() {
            let series = Series::line(name, i, &results.mean_series(&Config::arm(regime, name), GOLD)?);
            gold.push(if name == IPO || name == DPO { series.dashed() } else { series });
        }
        let caption = format!(
            "Gold reward of samples during training on {} pairs (dashed: without SPO); means over {n} seeds.",
            regime.pairs.count
        );
        plots.push(Plot::lines(&format!("gold-{}", regime.name), &caption, "step", "gold reward", gold));
    }
    let (first, g) = (&judge.config.regimes[0], judge.config.grades);
    let mut panels = vec![];
    for name in [&spo, RANDOM, SHUFFLED] {
        panels.push((name.to_owned(), g, g, results.mean_array(&Config::arm(first, name), CONFUSION)?));
    }
    plots.push(Plot::heat(
        "confusion",
        &format!("What the head says (columns) of unseen responses of each degree (rows), in percent: 0 is orange, 100 blue; trained on {} pairs, means over {n} seeds.", first.pairs.count),
        panels,
        0.0,
        100.0,
    ));
    let mut courses = vec![];
    let by_degree = |values: Vec<f64>| values.into_iter().enumerate().map(|(d, v)| (d as f64, v)).collect::<Vec<_>>();
    for (i, name) in [DPO, &spo, RANDOM, ORACLE, REJECTED].into_iter().enumerate() {
        let values = results.mean_array(&Config::arm(first, name), IMPLICIT)?;
        courses.push(Series::line(name, i, &by_degree(values)));
    }
    let gold = results.mean_array(&Config::arm(first, DPO), GOLD_BY_DEGREE)?;
    courses.push(Series::line("gold reward", 7, &by_degree(gold)).dashed());
    plots.push(Plot::lines(
        "degrees",
        &format!("Mean implicit reward of unseen responses by degree of removal, after training on {} pairs, and their gold reward; means over {n} seeds.", first.pairs.count),
        "degree (0: untouched)",
        "reward",
        courses,
    ));
    Ok(plots)
}
