//! Findings and plots.

use super::super::garland::{Fall, GOLD, KL, LENGTH, paths};
use super::{
    ACCURACY, BEST_WORST, CALIBRATION, DPO, FEW_HARD, FEW_RLOO, FEW_SOFT, HARD, IPO, MARGIN, ORACLE, ORACLE_HARD,
    RANDOM, RLOO, SOFT, STRENGTHS, WINS, arms,
};
use crate::plot::{Plot, Series};
use crate::results::Results;
use crate::verdict::{self, Finding, Judgement, Verdict};
use anyhow::Result;
use autodidact_core::stats;

/// A judge that agrees less often than this with the reward cannot teach.
const ABLE: f64 = 62.0;

struct Judge<'a> {
    results: &'a Results,
}

impl Judge<'_> {
    fn gold(&self, arm: &str) -> Result<Vec<f64>> {
        self.results.values(arm, GOLD)
    }

    fn difference(&self, arm: &str, other: &str) -> Result<Judgement> {
        Ok(verdict::difference(&self.gold(arm)?, &self.gold(other)?, 0.0))
    }

    fn described(&self, arms: &[&str]) -> Result<String> {
        let words = arms.iter().map(|arm| {
            let course = self.results.mean_series(arm, GOLD)?;
            let top = course.iter().map(|p| p.1).fold(f64::NEG_INFINITY, f64::max);
            let last = course.last().map_or(f64::NAN, |p| p.1);
            Ok(format!("{arm} {last:.2} (highest {top:.2}, {:.1} nats)", self.results.mean(arm, KL)?))
        });
        Ok(words.collect::<Result<Vec<_>>>()?.join(", "))
    }

    /// Mean agreement of an arm's judge with the reward on fresh pairs at the start, in percent.
    fn agreement(&self, arm: &str) -> Result<f64> {
        Ok(self.results.mean_series(arm, ACCURACY)?[0].1)
    }

    /// A finding on self-judging: not judged, with the reason, where the judge cannot teach.
    fn if_able(&self, mut finding: Finding) -> Result<Finding> {
        let agreement = self.agreement(SOFT)?;
        if agreement < ABLE {
            finding.verdict = Verdict::NotJudged;
            finding.note = format!(
                "Not judged: the judge agrees with the reward in {agreement:.1} % of fresh pairs, {ABLE} are needed. {}",
                finding.note
            );
        }
        Ok(finding)
    }

    /// Divergence at which an arm's mean gold reward first reaches a value, on the line between evaluations; none if it never does.
    fn divergence_at(&self, arm: &str, gold: f64) -> Result<Option<f64>> {
        let (rewards, kl) = (self.results.mean_series(arm, GOLD)?, self.results.mean_series(arm, KL)?);
        if rewards[0].1 >= gold {
            return Ok(Some(kl[0].1));
        }
        let crossing = (1..rewards.len()).find(|&i| rewards[i].1 >= gold);
        Ok(crossing.map(|i| {
            let share = (gold - rewards[i - 1].1) / (rewards[i].1 - rewards[i - 1].1);
            kl[i - 1].1 + share * (kl[i].1 - kl[i - 1].1)
        }))
    }

    /// C1.
    fn strength(&self) -> Result<Finding> {
        let gain = self.difference(SOFT, HARD)?;
        let fall = Fall::of(self.results, HARD)?;
        let top = |arm: &str| -> Result<f64> {
            Ok(self.results.mean_series(arm, GOLD)?.iter().map(|p| p.1).fold(f64::NEG_INFINITY, f64::max))
        };
        let level = top(SOFT)?.min(top(HARD)?);
        let further = match (self.divergence_at(HARD, level)?, self.divergence_at(SOFT, level)?) {
            (Some(hard), Some(soft)) if soft > 0.0 => hard / soft,
            _ => f64::NAN,
        };
        let n = self.results.seeds(HARD).len();
        let overfits = Verdict::of(fall.is_clear() || further > 1.5).with_seeds(n);
        let judged = self.results.mean_series(SOFT, ACCURACY)?;
        let note = format!(
            "Gold reward at the last step, soft minus hard labels. Hard labels fall by {fall} from their maximum, and are {further:.2} times as far from the start as soft ones where both have {level:.2}. {}. With the oracle's labels: {}, soft minus hard {:+}. The judge agrees with the reward in {:.1} % of fresh pairs at the start, {:.1} % at the end; calibration error {:.1} %. Mean size of margins at the end: soft {:.1}, hard {:.1} nats.",
            self.described(&[SOFT, HARD, BEST_WORST])?,
            self.described(&[ORACLE, ORACLE_HARD])?,
            self.difference(ORACLE, ORACLE_HARD)?,
            judged[0].1,
            judged[judged.len() - 1].1,
            self.results.mean_series(SOFT, CALIBRATION)?[0].1,
            self.results.mean(SOFT, MARGIN)?,
            self.results.mean(HARD, MARGIN)?,
        );
        let finding = Finding::new("C1", gain, note).against(self.results.mean(HARD, GOLD)?);
        self.if_able(finding.verdict(Verdict::all(&[gain.verdict, overfits])))
    }

    /// C2, reported only.
    fn all(&self) -> Result<Finding> {
        let names: Vec<&str> = arms().iter().map(|a| a.0).collect();
        let mut words = vec![];
        for arm in &names {
            words.push(format!("{arm} {:.0} %", self.results.mean(arm, WINS)?));
        }
        let why = format!(
            "Needs those data and a judge. Gold reward at the last step: {}. Win rate over the start: {}.",
            self.described(&names)?,
            words.join(", ")
        );
        Ok(Finding::not_judged("C2", why))
    }

    /// C3.
    fn few(&self) -> Result<Finding> {
        let loss = |many: &str, few: &str| -> Result<Vec<f64>> {
            Ok(self.gold(many)?.iter().zip(self.gold(few)?).map(|(a, b)| a - b).collect())
        };
        let (osp, rloo) = (loss(SOFT, FEW_SOFT)?, loss(RLOO, FEW_RLOO)?);
        let gain = verdict::difference(&rloo, &osp, 0.0);
        let note = format!(
            "Gold reward lost with few pairs, RLOO minus OSP; OSP loses {:.2}, hard labels {:.2}, RLOO {:.2}. {}. The judge taught by few pairs agrees in {:.1} %.",
            stats::mean(&osp),
            stats::mean(&loss(HARD, FEW_HARD)?),
            stats::mean(&rloo),
            self.described(&[SOFT, FEW_SOFT, RLOO, FEW_RLOO])?,
            self.agreement(FEW_SOFT)?
        );
        self.if_able(Finding::new("C3", gain, note).verdict(gain.or_partly()))
    }

    /// C4.
    fn improves(&self) -> Result<Finding> {
        let wins = self.results.values(SOFT, WINS)?;
        let mean = stats::mean(&wins);
        let above = verdict::difference(&wins, &vec![50.0; wins.len()], 0.0);
        let verdict = match mean {
            _ if mean > 75.0 => Verdict::Reproduced,
            _ if mean > 60.0 => Verdict::Partly,
            _ => Verdict::NotReproduced,
        };
        let note = format!(
            "Points of win rate over the start above 50 %: {mean:.1} % in the mean; words {:.1}, of the start {:.1}.",
            self.results.mean(SOFT, LENGTH)?,
            self.results.mean_series(SOFT, LENGTH)?[0].1
        );
        self.if_able(Finding::new("C4", above, note).verdict(verdict.with_seeds(wins.len())))
    }

    /// C5.
    fn pairing(&self) -> Result<Finding> {
        let gain = self.difference(SOFT, RANDOM)?;
        let note = format!(
            "Gold reward at the last step of all ranked pairs over one random pair of each prompt; over best against worst {:+}, over offline DPO {:+}, over offline IPO {:+}. {}.",
            self.difference(SOFT, BEST_WORST)?,
            self.difference(SOFT, DPO)?,
            self.difference(SOFT, IPO)?,
            self.described(&[SOFT, RANDOM, BEST_WORST, DPO, IPO])?
        );
        let finding = Finding::new("C5", gain, note).against(self.results.mean(RANDOM, GOLD)?);
        self.if_able(finding.verdict(gain.or_partly()))
    }
}

pub(super) fn findings(results: &Results) -> Result<Vec<Finding>> {
    let judge = Judge { results };
    Ok(vec![judge.strength()?, judge.all()?, judge.few()?, judge.improves()?, judge.pairing()?])
}

pub(super) fn plots(results: &Results) -> Result<Vec<Plot>> {
    let n = results.plan().seeds.len();
    let shown: Vec<&str> = arms().iter().filter(|a| !a.2).map(|a| a.0).collect();
    let lines = |metric: &str| -> Result<Vec<Series>> {
        shown.iter().enumerate().map(|(i, a)| Ok(Series::line(*a, i, &results.mean_series(a, metric)?))).collect()
    };
    let by_step = |name: &str, what: &str, y: &str, metric: &str| -> Result<Plot> {
        Ok(Plot::lines(name, &format!("{what}; means over {n} seeds."), "step", y, lines(metric)?))
    };
    let mut bins = [0.0; 10];
    for seed in results.seeds(SOFT) {
        for s in results.array(SOFT, seed, STRENGTHS)? {
            bins[((s * 10.0) as usize).min(9)] += 1.0;
        }
    }
    let total: f64 = bins.iter().sum();
    let strengths = bins.iter().enumerate().map(|(i, count)| {
        (format!("{:.1} to {:.1}", 0.1 * i as f64, 0.1 * (i + 1) as f64), 100.0 * count / total, 0.0, 0)
    });
    Ok(vec![
        by_step("gold", "Gold reward of samples", "gold reward", GOLD)?,
        paths(results, &shown, "the start")?,
        by_step(
            "judge",
            "Share of fresh pairs of the policy's answers on which the judge agrees with the reward",
            "agreement (%)",
            ACCURACY,
        )?,
        by_step("length", "Words of samples", "words", LENGTH)?,
        Plot::bars(
            "strengths",
            "Strengths that the judge gives the ranked pairs of the first step, all seeds.",
            "pairs (%)",
            strengths.collect(),
        ),
    ])
}
