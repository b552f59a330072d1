//! Findings and plots.

use super::super::garland::win_rate;
use super::{
    ACCURACY, ARMS, BY_META, BY_PROBABILITY, CONSISTENCY, Config, DROPPED, ERROR, FACTS, INCONSISTENT, KAPPA, MAJORITY,
    MARGIN_1, MARGIN_2, PAIRS, PAIRWISE, PEARSON, REJECTION, SAMPLED, SCORE_ONLY, TEST_TIME, UNREADABLE, WITHIN_ONE,
    by_fact, confusion, margins, right_facts,
};
use crate::plot::{Plot, Series};
use crate::results::Results;
use crate::verdict::{self, Finding, Judgement, Verdict};
use anyhow::{Context as _, Result};
use autodidact_core::stats;

struct Judge<'a> {
    results: &'a Results,
    config: Config,
}

impl Judge<'_> {
    fn last(&self) -> usize {
        self.config.rounds.len()
    }

    /// A metric of an arm at a round, by seed.
    fn at(&self, arm: &str, metric: &str, round: usize) -> Result<Vec<f64>> {
        let each = self.results.seeds(arm).into_iter().map(|seed| {
            let series = self.results.series(arm, seed, metric)?;
            Ok(series.iter().find(|p| p.0 == round as f64).context("a round without its metric")?.1)
        });
        each.collect()
    }

    fn mean(&self, arm: &str, metric: &str, round: usize) -> Result<f64> {
        Ok(stats::mean(&self.at(arm, metric, round)?))
    }

    /// Difference of a metric between two arms at rounds.
    fn gain(&self, metric: &str, (arm, round): (&str, usize), (other, before): (&str, usize)) -> Result<Judgement> {
        Ok(verdict::difference(&self.at(arm, metric, round)?, &self.at(other, metric, before)?, 0.0))
    }

    /// Percent of test inputs where an arm's rationale after all rounds has more right facts than the first judge's, minus 50.
    fn rationale_lead(&self, arm: &str) -> Result<Vec<f64>> {
        let each = self.results.seeds(arm).into_iter().map(|seed| {
            let of = |round| self.results.array(arm, seed, &right_facts(round));
            Ok(100.0 * win_rate(of(self.last())?, of(0)?) - 50.0)
        });
        each.collect()
    }

    fn rationales(&self) -> Result<Finding> {
        let lead = self.rationale_lead(MARGIN_1)?;
        let win = verdict::difference(&lead, &vec![0.0; lead.len()], 0.0);
        let mut each = vec![];
        for (arm, _) in ARMS.iter().filter(|a| ![SCORE_ONLY, TEST_TIME].contains(&a.0)) {
            each.push(format!(
                "{arm} {:.1} % ({:.1} %)",
                self.mean(arm, FACTS, self.last())?,
                50.0 + stats::mean(&self.rationale_lead(arm)?)
            ));
        }
        let note = format!(
            "Points above 50 % of win rate of rationales after two rounds against those of the first judge, whose facts are right in {:.1} %. Right facts (win rate): {}. Scores that contradict their rationale: {:.1} % before, {:.1} % after.",
            self.mean(MARGIN_1, FACTS, 0)?,
            each.join(", "),
            self.mean(MARGIN_1, INCONSISTENT, 0)?,
            self.mean(MARGIN_1, INCONSISTENT, self.last())?,
        );
        Ok(Finding::new("C1", win, note).against(0.0).verdict(win.or_partly()))
    }

    fn scores(&self) -> Result<Finding> {
        let behind = |name: &str| format!("{PEARSON}{name}");
        let mut rivals = vec![("imitation", self.at(MARGIN_1, PEARSON, 0)?)];
        for (name, of) in [
            ("self-consistency", CONSISTENCY),
            ("best by probability", BY_PROBABILITY),
            ("best by meta-judge", BY_META),
        ] {
            rivals.push((name, self.at(TEST_TIME, &behind(of), 0)?));
        }
        let (name, best) = rivals
            .iter()
            .max_by(|a, b| stats::mean(&a.1).total_cmp(&stats::mean(&b.1)))
            .map(|(name, values)| (*name, values.clone()))
            .context("there are rivals")?;
        let ours = self.at(MARGIN_1, PEARSON, self.last())?;
        let gain = verdict::difference(&ours, &best, 0.0);
        let verdict = match gain.verdict {
            Verdict::NotReproduced if stats::mean(&ours) > stats::mean(&rivals[0].1) => Verdict::Partly,
            v => v,
        };
        let listed: Vec<String> = rivals.iter().map(|(n, v)| format!("{n} {:.3}", stats::mean(v))).collect();
        let mut each = vec![];
        for (arm, _) in ARMS.iter().filter(|a| a.0 != TEST_TIME) {
            let at = |metric| self.mean(arm, metric, self.last());
            each.push(format!(
                "{arm} {:.3}, {:.1} %, {:.1} %, {:.2}, {:.3}, {:.1} %, {:.1} %",
                at(PEARSON)?,
                at(ACCURACY)?,
                at(WITHIN_ONE)?,
                at(ERROR)?,
                at(KAPPA)?,
                at(PAIRWISE)?,
                at(UNREADABLE)?
            ));
        }
        let note = format!(
            "Pearson correlation after two rounds (margin 1, one greedy judgement) minus {name}'s (10 judgements for all but imitation). Before: {}. After (correlation, accuracy, within one, mean error, kappa, pairs of responses, unreadable): {}. Accuracy of imitation {:.1} %, of self-consistency {:.1} %.",
            listed.join(", "),
            each.join("; "),
            self.mean(MARGIN_1, ACCURACY, 0)?,
            self.mean(TEST_TIME, &format!("{ACCURACY}{CONSISTENCY}"), 0)?,
        );
        Ok(Finding::new("C2", gain, note).against(stats::mean(&best)).verdict(verdict))
    }

    fn with_and_without(&self) -> Result<Finding> {
        let before = self.gain(ACCURACY, (MARGIN_1, 0), (SCORE_ONLY, 0))?;
        let after = self.gain(ACCURACY, (MARGIN_1, self.last()), (SCORE_ONLY, self.last()))?;
        let note = format!(
            "Points of accuracy of imitation with rationales over score only; after two rounds {after:+}. Score only: {:.1} % before, {:.1} % after; unreadable with rationales {:.1} %.",
            self.mean(SCORE_ONLY, ACCURACY, 0)?,
            self.mean(SCORE_ONLY, ACCURACY, self.last())?,
            self.mean(MARGIN_1, UNREADABLE, 0)?,
        );
        let baseline = self.mean(SCORE_ONLY, ACCURACY, 0)?;
        Ok(Finding::new("C3", before, note).against(baseline).verdict(Verdict::all(&[before.verdict, after.verdict])))
    }

    /// Paired differences of the correlation, and their standard error.
    fn differences(&self, (arm, round): (&str, usize), (other, before): (&str, usize)) -> Result<(f64, f64)> {
        let (a, b) = (self.at(arm, PEARSON, round)?, self.at(other, PEARSON, before)?);
        let each: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a - b).collect();
        Ok((stats::mean(&each), stats::standard_error(&each)))
    }

    fn margins(&self) -> Result<Finding> {
        let last = self.last();
        let gain = self.gain(PEARSON, (MARGIN_2, last), (MARGIN_1, last))?;
        let (difference, error) = self.differences((MARGIN_2, last), (MARGIN_1, last))?;
        let majority = self.gain(PEARSON, (MAJORITY, last), (MAJORITY, 0))?;
        let n = gain.estimate.n;
        let rises = verdict::all_above(&self.at(MAJORITY, PEARSON, last)?, &self.at(MAJORITY, PEARSON, 0)?);
        let parts = [Verdict::of(difference >= -error).with_seeds(n), rises];
        let mut each = vec![];
        for arm in [MARGIN_1, MARGIN_2, MAJORITY, REJECTION] {
            let pairs =
                (1..=last).map(|r| Ok(format!("{:.0}", self.mean(arm, PAIRS, r)?))).collect::<Result<Vec<_>>>()?;
            each.push(format!(
                "{arm} {} ({:.0} % of inputs without)",
                pairs.join(" and "),
                self.mean(arm, DROPPED, 1)?
            ));
        }
        let note = format!(
            "Pearson correlation with margin 2 minus margin 1 (standard error {error:.3}); majority rule over imitation {majority:+}. Pairs by round: {}.",
            each.join(", ")
        );
        Ok(Finding::new("C4", gain, note).against(self.mean(MARGIN_1, PEARSON, last)?).verdict(Verdict::all(&parts)))
    }

    fn second_round(&self) -> Result<Finding> {
        let last = self.last();
        let gain = self.gain(PEARSON, (MARGIN_1, last), (MARGIN_1, last - 1))?;
        let (difference, error) = self.differences((MARGIN_1, last), (MARGIN_1, last - 1))?;
        let verdict =
            match verdict::all_above(&self.at(MARGIN_1, PEARSON, last)?, &self.at(MARGIN_1, PEARSON, last - 1)?) {
                Verdict::NotReproduced if difference >= -error => Verdict::Partly,
                v => v,
            };
        let mut courses = vec![];
        for (arm, _) in ARMS.iter().filter(|a| a.0 != TEST_TIME) {
            let course =
                (0..=last).map(|r| Ok(format!("{:.3}", self.mean(arm, PEARSON, r)?))).collect::<Result<Vec<_>>>()?;
            courses.push(format!("{arm} {}", course.join(", ")));
        }
        let sampled: Vec<String> =
            (1..=last).map(|r| Ok(format!("{:.1} %", self.mean(MARGIN_1, SAMPLED, r)?))).collect::<Result<_>>()?;
        let note = format!(
            "Pearson correlation after the last round minus the one before (standard error {error:.3}). By round: {}. Accuracy of sampled scores in the rounds: {}.",
            courses.join("; "),
            sampled.join(", ")
        );
        let n = gain.estimate.n;
        Ok(Finding::new("C5", gain, note)
            .against(self.mean(MARGIN_1, PEARSON, last - 1)?)
            .verdict(verdict.with_seeds(n)))
    }
}

fn judge(results: &Results) -> Result<Judge<'_>> {
    Ok(Judge { results, config: results.plan().config()? })
}

pub(super) fn findings(results: &Results) -> Result<Vec<Finding>> {
    let judge = judge(results)?;
    Ok(vec![judge.rationales()?, judge.scores()?, judge.with_and_without()?, judge.margins()?, judge.second_round()?])
}

pub(super) fn plots(results: &Results) -> Result<Vec<Plot>> {
    let judge = judge(results)?;
    let (last, n) = (judge.last(), results.plan().seeds.len());
    let mut plots = vec![];
    for (name, metric, label) in [("accuracy", ACCURACY, "accuracy (%)"), ("pearson", PEARSON, "Pearson correlation")] {
        let mut series = vec![];
        for (i, (arm, _)) in ARMS.iter().enumerate().filter(|a| a.1.0 != TEST_TIME) {
            series.push(Series::line(*arm, i, &results.mean_series(arm, metric)?));
        }
        for (i, behind) in [CONSISTENCY, BY_PROBABILITY, BY_META].into_iter().enumerate() {
            let value = judge.mean(TEST_TIME, &format!("{metric}{behind}"), 0)?;
            let ends = [(0.0, value), (last as f64, value)];
            series.push(Series::line(behind.trim_start_matches(", "), 6 + i, &ends).dashed());
        }
        let caption = format!(
            "Scores of greedy judgements on unseen inputs by round (0: imitation); dashed: ten judgements of the first judge; means over {n} seeds."
        );
        plots.push(Plot::lines(name, &caption, "round", label, series));
    }
    let panels = (0..=last).map(|r| Ok((format!("round {r}"), 5, 5, results.mean_array(MARGIN_1, &confusion(r))?)));
    plots.push(Plot::heat(
        "scores",
        &format!("Scores given (columns, 1 to 5) to responses of each right score (rows), in percent: 0 is orange, 100 blue; margin 1, means over {n} seeds."),
        panels.collect::<Result<Vec<_>>>()?,
        0.0,
        100.0,
    ));
    let mut bars = vec![];
    let names = ["illegal transitions", "repetitions", "length", "noun"];
    for (fact, name) in names.into_iter().enumerate() {
        for round in [0, last] {
            let seeds = results.seeds(MARGIN_1).into_iter();
            let each =
                seeds.map(|s| Ok(results.array(MARGIN_1, s, &by_fact(round))?[fact])).collect::<Result<Vec<_>>>()?;
            let (mean, half) = verdict::summary(&each);
            bars.push((format!("{name}, round {round}"), mean, half, usize::from(round > 0)));
        }
    }
    plots.push(Plot::bars(
        "facts",
        &format!("Right facts in greedy rationales on unseen inputs, before and after (margin 1); means over {n} seeds with 95 % intervals."),
        "right (%)",
        bars,
    ));
    let mut series = vec![];
    for (i, arm) in [MARGIN_1, MARGIN_2, MAJORITY].into_iter().enumerate() {
        let counts = results.mean_array(arm, &margins(1))?;
        let points: Vec<(f64, f64)> = counts.into_iter().enumerate().map(|(d, c)| (d as f64, c)).collect();
        series.push(Series::line(arm, i, &points));
    }
    plots.push(Plot::lines(
        "margins",
        &format!("Pairs of the first round by the difference of their scores; means over {n} seeds."),
        "difference of scores",
        "pairs",
        series,
    ));
    Ok(plots)
}
