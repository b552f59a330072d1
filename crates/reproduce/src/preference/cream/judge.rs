//! Findings and plots.

use super::super::garland::{Fall, GOLD, GOLD_ERROR, KL, LENGTH, paths, win_rate};
use super::{
    ARMS, CREAM, Config, DYNAMIC, FIXED, LABELS, ORACLE, RATE, RATES, REWARDS, RIGHT, SPEARMAN, SRLM, TAU, TOP,
};
use crate::plot::{Plot, Series};
use crate::results::Results;
use crate::verdict::{self, Finding, Judgement, Verdict};
use anyhow::Result;
use autodidact_core::stats::{self, Estimate};

struct Judge<'a> {
    results: &'a Results,
    config: Config,
}

impl Judge<'_> {
    fn gold(&self, arm: &str) -> Result<Vec<f64>> {
        self.results.values(arm, GOLD)
    }

    /// Mean gold reward by round, with the standard errors of the means' sampling.
    fn course(&self, arm: &str) -> Result<Vec<(f64, f64)>> {
        let seeds = self.results.seeds(arm);
        let mean = self.results.mean_series(arm, GOLD)?;
        let mut squares = vec![0.0; mean.len()];
        for seed in &seeds {
            let errors = self.results.series(arm, *seed, GOLD_ERROR)?;
            squares.iter_mut().zip(errors).for_each(|(s, (_, e))| *s += e * e);
        }
        Ok(mean.iter().zip(squares).map(|(m, s)| (m.1, s.sqrt() / seeds.len() as f64)).collect())
    }

    fn described(&self, arms: &[&str]) -> Result<String> {
        let words = arms.iter().map(|arm| {
            let course: Vec<String> = self.course(arm)?.iter().map(|(g, _)| format!("{g:.2}")).collect();
            Ok(format!("{arm} {}", course.join(", ")))
        });
        Ok(words.collect::<Result<Vec<_>>>()?.join("; "))
    }

    /// C1.
    fn degrades(&self) -> Result<Finding> {
        let seeds = self.results.seeds(SRLM);
        let (mut fallen, mut falls) = (0, vec![]);
        for seed in &seeds {
            let gold = self.results.series(SRLM, *seed, GOLD)?;
            let error = self.results.value(SRLM, *seed, GOLD_ERROR)?;
            let top = gold.iter().map(|p| p.1).fold(f64::NEG_INFINITY, f64::max);
            let fall = top - gold[gold.len() - 1].1;
            fallen += usize::from(fall > error);
            falls.push(fall);
        }
        let estimate = verdict::estimate(&falls);
        let verdict = Verdict::of(3 * fallen >= 2 * seeds.len()).with_seeds(seeds.len());
        let note = format!(
            "Fall of SRLM's gold reward from its maximum over the rounds to the last; by more than a standard error in {fallen} of {} seeds (of several noisy rounds the maximum looks high by chance too). Gold reward from the start on: {}.",
            seeds.len(),
            self.described(&ARMS)?
        );
        Ok(Finding::new("C1", Judgement { estimate, verdict }, note))
    }

    /// C2.
    fn beats(&self) -> Result<Finding> {
        let gain = verdict::difference(&self.gold(CREAM)?, &self.gold(SRLM)?, 0.0);
        let over =
            |arm: &str| -> Result<Judgement> { Ok(verdict::difference(&self.gold(CREAM)?, &self.gold(arm)?, 0.0)) };
        let mut paths = vec![];
        for arm in [SRLM, CREAM, DYNAMIC, FIXED, ORACLE] {
            paths.push(format!(
                "{arm} {:.2} at {:.1} nats",
                self.results.mean(arm, GOLD)?,
                self.results.mean(arm, KL)?
            ));
        }
        let note = format!(
            "Gold reward of CREAM minus SRLM after the last round; minus the fixed rate {:+}, minus the oracle {:+}. Reward at divergence from the base: {}.",
            over(FIXED)?,
            over(ORACLE)?,
            paths.join(", ")
        );
        Ok(Finding::new("C2", gain, note).against(self.results.mean(SRLM, GOLD)?).verdict(gain.or_partly()))
    }

    /// C3.
    fn improves(&self) -> Result<Finding> {
        let course = self.course(CREAM)?;
        let worst = course.windows(2).map(|w| w[0].0 - w[1].0).fold(f64::NEG_INFINITY, f64::max);
        let held = course.windows(2).all(|w| w[0].0 - w[1].0 <= w[1].1);
        let n = self.results.seeds(CREAM).len();
        let words: Vec<String> = course.iter().map(|(g, e)| format!("{g:.2} (standard error {e:.2})")).collect();
        let over_seeds = Fall::of(self.results, CREAM)?;
        let note = format!(
            "Largest fall of CREAM's mean gold reward from one round to the next. From the start on: {} (errors of sampling alone; the fall from the maximum to the last round, with its error over the seeds, is {over_seeds}); words: {:.1} at the end of SRLM, {:.1} of CREAM.",
            words.join(", "),
            self.results.mean(SRLM, LENGTH)?,
            self.results.mean(CREAM, LENGTH)?
        );
        let judgement =
            Judgement { estimate: Estimate { n, ..Estimate::exact(worst) }, verdict: Verdict::of(held).with_seeds(n) };
        Ok(Finding::new("C3", judgement, note))
    }

    /// C4.
    fn consistent(&self) -> Result<Finding> {
        let tau = |arm: &str| self.results.values(arm, TAU);
        let gain = verdict::difference(&tau(CREAM)?, &tau(SRLM)?, 0.1);
        let mut words = vec![];
        for arm in [SRLM, CREAM, DYNAMIC] {
            let mean = |metric: &str| self.results.mean(arm, metric);
            words.push(format!(
                "{arm} C {:.2}, tau {:.2}, rho {:.2}, same best and worst {:.2}",
                mean(RATE)?,
                mean(TAU)?,
                mean(SPEARMAN)?,
                mean(TOP)?
            ));
        }
        let note = format!("Tau between the last model and the one before, CREAM minus SRLM. {}.", words.join("; "));
        Ok(Finding::new("C4", gain, note).against(self.results.mean(SRLM, TAU)?))
    }

    /// C6.
    fn fixed(&self) -> Result<Finding> {
        let gain = verdict::difference(&self.gold(CREAM)?, &self.gold(FIXED)?, 0.0);
        let error = self.course(CREAM)?.last().map_or(0.0, |c| c.1);
        let (cream, fixed) = (self.gold(CREAM)?, self.gold(FIXED)?);
        let apart: Vec<f64> = cream.iter().zip(&fixed).map(|(a, b)| a - b).collect();
        let verdict = Verdict::of(gain.estimate.value >= -error).with_seeds(apart.len());
        let used = self.results.mean_series(CREAM, RATE)?;
        let note = format!(
            "Gold reward after the last round of CREAM minus the fixed rate {}; one standard error of sampling is {error:.2}; over the seeds, that of the difference is {:.2}. CREAM's rates in its rounds are {}.",
            self.config.fixed,
            stats::standard_error(&apart),
            used[..used.len() - 1].iter().map(|p| format!("{:.2}", p.1)).collect::<Vec<_>>().join(", ")
        );
        Ok(Finding::new("C6", gain, note).against(self.results.mean(FIXED, GOLD)?).verdict(verdict))
    }

    /// C5 and C7, which are reported only.
    fn reported(&self) -> Result<[Finding; 2]> {
        let mut labels = vec![];
        for arm in ARMS {
            let series = self.results.mean_series(arm, LABELS)?;
            let words: Vec<String> = series.iter().map(|p| format!("{:.0}", p.1)).collect();
            labels.push(format!("{arm} {}", words.join(", ")));
        }
        let mut wins = vec![];
        for seed in self.results.seeds(CREAM) {
            let of = |arm| self.results.array(arm, seed, REWARDS);
            wins.push(100.0 * win_rate(of(CREAM)?, of(SRLM)?));
        }
        let (mut rates, mut right) = (vec![], vec![]);
        for seed in self.results.seeds(SRLM) {
            rates.extend_from_slice(self.results.array(SRLM, seed, RATES)?);
            right.extend_from_slice(self.results.array(SRLM, seed, RIGHT)?);
        }
        let predicts = stats::pearson(&rates, &right).unwrap_or(f64::NAN);
        let asked = format!(
            "Needs a model that can be asked for its judgement. Labels that agree with the gold reward (%), from the first round on (the last are those of the final model): {}. In the first round, the correlation of a prompt's consistency with its label being right is {predicts:.2}.",
            labels.join("; ")
        );
        let judged =
            format!("Needs a judging model. Gold win rate of CREAM against SRLM: {:.1} %.", stats::mean(&wins));
        Ok([Finding::not_judged("C5", asked), Finding::not_judged("C7", judged)])
    }
}

fn judge(results: &Results) -> Result<Judge<'_>> {
    Ok(Judge { results, config: results.plan().config()? })
}

pub(super) fn findings(results: &Results) -> Result<Vec<Finding>> {
    let judge = judge(results)?;
    let [asked, judged] = judge.reported()?;
    Ok(vec![judge.degrades()?, judge.beats()?, judge.improves()?, judge.consistent()?, asked, judge.fixed()?, judged])
}

pub(super) fn plots(results: &Results) -> Result<Vec<Plot>> {
    let n = results.plan().seeds.len();
    let lines = |metric: &str| -> Result<Vec<Series>> {
        let each = ARMS.iter().enumerate();
        each.map(|(i, arm)| Ok(Series::line(*arm, i, &results.mean_series(arm, metric)?))).collect()
    };
    let over_rounds = |name: &str, what: &str, y: &str, metric: &str| -> Result<Plot> {
        Ok(Plot::lines(name, &format!("{what}; means over {n} seeds."), "rounds done", y, lines(metric)?))
    };
    Ok(vec![
        over_rounds("gold", "Gold reward of samples on held-out prompts", "gold reward", GOLD)?,
        paths(results, &ARMS, "the base")?,
        over_rounds(
            "labels",
            "Share of the labels that a round trains on (the last: would train on) that agree with the gold reward",
            "agreement (%)",
            LABELS,
        )?,
        over_rounds("consistency", "Consistency of the rankings of a model and the one before it", "C", RATE)?,
    ])
}
