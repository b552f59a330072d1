//! Verdicts.

use super::arms::{Arm, Change, FURTHER, FURTHER_KNOWN, ON_THE_WAY, REACHED, STEPS, TOLD};
use super::measures::{FORCED, LEAK, LOG_P, PROBABILITY, REFUSED, UTILITY, UTILITY_OF_VALUES, VALUE, of};
use super::models::Stage;
use super::{Config, FORGET, KNOWN, RETAINED, WORLD};
use crate::results::Results;
use crate::verdict::{self, Finding, Judgement, Verdict};
use anyhow::Result;
use autodidact_core::stats::mean;
use autodidact_unlearning::flat::FDivergence;

/// What the model before unlearning must know of the forget set.
const MEMORIZED: f64 = 0.9;
/// The same of answers without values: their probability, and that of answers that were never seen.
const UNSEEN: f64 = 0.5;
/// Gain of log10 p over it.
const GAIN: f64 = 10.0;
/// How far utility may lie below that of methods with retained data.
const WITHIN: f64 = 0.1;
/// Probability of retained answers that is a collapse, and FLAT's lead.
const COLLAPSED: f64 = 0.1;
const SPREAD: f64 = 0.2;
/// A milder point of the way, which is reported.
const HALF: f64 = 0.5;

pub(super) fn findings(results: &Results) -> Result<Vec<Finding>> {
    let study = Study { results, config: Config::of(results.plan())? };
    if let Some(why) = study.unfit()? {
        return Ok(["C1", "C2", "C3", "C4", "C5"].map(|id| Finding::not_judged(id, why.clone())).into());
    }
    Ok(vec![study.forgets()?, study.keeps()?, study.collapse()?, study.divergences()?, study.parts()?])
}

pub(super) struct Study<'a> {
    pub results: &'a Results,
    pub config: Config,
}

/// The four of the paper.
pub(super) fn flat() -> [Change; 4] {
    FDivergence::PUBLISHED.map(Change::Flat)
}

fn forgetting() -> [Change; 4] {
    FDivergence::PUBLISHED.map(Change::Forgetting)
}

impl Study<'_> {
    /// Why nothing can be judged.
    fn unfit(&self) -> Result<Option<String>> {
        let (what, measure, most) = match self.has_values() {
            true => ("value accuracy", FORCED, self.config.unlearning.known),
            false => ("probability of answers", PROBABILITY, UNSEEN),
        };
        let known = |stage: Stage| self.results.values(stage.arm(), &of(measure, FORGET));
        let (full, retain) = (known(Stage::Full)?, known(Stage::Retain)?);
        let fit = full.iter().all(|a| *a >= MEMORIZED) && retain.iter().all(|a| *a <= most);
        Ok((!fit).then(|| {
            format!(
                "On the forget set, the {what} of the model before unlearning must be {MEMORIZED} or more and that of the model that never saw it {most} or less: they are {full:.2?} and {retain:.2?}."
            )
        }))
    }

    /// Whether questions say which words of their answers matter.
    fn has_values(&self) -> bool {
        self.results.plan().dataset != "tofu"
    }

    /// What is left of retained questions, in words and as a metric.
    fn kept(&self) -> (&'static str, String) {
        match self.has_values() {
            true => ("Retained value accuracy", of(VALUE, RETAINED)),
            false => ("Model utility", UTILITY.to_owned()),
        }
    }

    pub fn values(&self, change: Change, metric: &str) -> Result<Vec<f64>> {
        self.results.values(&Arm::Matched(change).name(), metric)
    }

    pub fn mean(&self, change: Change, metric: &str) -> Result<f64> {
        Ok(mean(&self.values(change, metric)?))
    }

    /// In how many seeds the forget set was forgotten.
    fn reached(&self, change: Change) -> Result<usize> {
        Ok(self.values(change, REACHED)?.iter().filter(|r| **r == 1.0).count())
    }

    fn always(&self, change: Change) -> Result<bool> {
        Ok(self.reached(change)? == self.seeds())
    }

    fn seeds(&self) -> usize {
        self.results.seeds(Stage::Full.arm()).len()
    }

    fn those_that_forget(&self, among: &[Change]) -> Result<Vec<Change>> {
        let mut all = vec![];
        for change in among {
            if self.always(*change)? {
                all.push(*change);
            }
        }
        Ok(all)
    }

    /// Mean of several methods, by seed.
    fn over(&self, changes: &[Change], metric: &str) -> Result<Vec<f64>> {
        let each = changes.iter().map(|c| self.values(*c, metric)).collect::<Result<Vec<_>>>()?;
        Ok((0..self.seeds()).map(|i| mean(&each.iter().map(|v| v[i]).collect::<Vec<_>>())).collect())
    }

    fn best(&self, among: &[Change], metric: &str) -> Result<Option<Change>> {
        let mut best: Option<(f64, Change)> = None;
        for change in among {
            let value = self.mean(*change, metric)?;
            if best.is_none_or(|(highest, _)| value > highest) {
                best = Some((value, *change));
            }
        }
        Ok(best.map(|(_, change)| change))
    }

    /// What is left of retained questions where a measure of the forget set first is small enough: its mean over seeds, in words; of
    /// methods that come there in every seed.
    fn on_the_way(&self, changes: &[Change], measure: &str, at_most: f64) -> Result<String> {
        let mut words = vec![];
        for change in changes {
            let arm = Arm::Matched(*change).name();
            let left = |seed| {
                let way = |set: &str| self.results.series(&arm, seed, &of(measure, set));
                let (forget, retained) = (way(FORGET)?, way(RETAINED)?);
                let first = forget.iter().zip(retained).find(|(f, _)| f.1 <= at_most);
                Ok(first.map(|(_, r)| r.1))
            };
            let seeds = self.results.seeds(&arm).into_iter();
            let left: Option<Vec<f64>> = seeds.map(left).collect::<Result<Vec<_>>>()?.into_iter().collect();
            let left = left.map_or("never".to_owned(), |l| format!("{:.2}", mean(&l)));
            words.push(format!("{} {left}", change.name()));
        }
        Ok(words.join(", "))
    }

    /// One metric of several methods, in words.
    fn list(&self, changes: &[Change], metric: &str) -> Result<String> {
        let each = changes.iter().map(|c| Ok(format!("{} {:.2}", c.name(), self.mean(*c, metric)?)));
        Ok(each.collect::<Result<Vec<_>>>()?.join(", "))
    }

    /// Why methods cannot be compared at matched forgetting.
    fn unmatched(&self, needed: &[Change]) -> Result<Option<String>> {
        let mut missing = vec![];
        for change in needed {
            if !self.always(*change)? {
                missing.push(format!("{} in {} of {} seeds", change.name(), self.reached(*change)?, self.seeds()));
            }
        }
        let why = format!(
            "Forgetting is not matched within {} steps: {} reached it.",
            self.config.unlearning.most,
            missing.join(", ")
        );
        Ok((!missing.is_empty()).then_some(why))
    }

    /// C1.
    fn forgets(&self) -> Result<Finding> {
        let before = |metric: &str| self.results.values(Stage::Full.arm(), metric);
        let all = flat();
        let reach = self.those_that_forget(&all)?.len() == all.len();
        let gain = verdict::difference(&self.over(&all, LOG_P)?, &before(LOG_P)?, GAIN);
        let utility = self.over(&all, UTILITY)?;
        let rivals = self.those_that_forget(&Change::WITH_RETAINED)?;
        let rival = self.best(&rivals, UTILITY)?;
        let lead =
            rival.map(|r| Ok::<_, anyhow::Error>(verdict::difference(&utility, &self.values(r, UTILITY)?, -WITHIN)));
        let lead: Option<Judgement> = lead.transpose()?;
        let kept = lead.is_some_and(|l| l.verdict == Verdict::Reproduced) && mean(&utility) > WITHIN;
        let verdict = match () {
            _ if !reach || gain.verdict == Verdict::NotReproduced => Verdict::NotReproduced,
            _ if kept => Verdict::Reproduced,
            _ => Verdict::Partly,
        };
        let compared = match (rival, lead) {
            (Some(rival), Some(lead)) => format!("FLAT's mean minus that of {} {lead:+}", rival.name()),
            _ => "no method with retained data forgets in every seed".to_owned(),
        };
        let mut rows = vec![];
        for change in Change::all().chain(forgetting()) {
            rows.push(self.row(change)?);
        }
        let note = format!(
            "FLAT forgets in {:?} of {} seeds. Log10 p minus that before unlearning {gain:+} (before: {:.1}). Model utility: {compared}; before unlearning {:.2}, retain model {:.2}. At matched forgetting, mean over seeds (steps; retained, known and world value accuracy; refusals to forgotten questions; log10 p; utility; utility with value accuracy for ROUGE; PrivLeak in %): {}. Best rate of fixed ones that forgets in every seed, with its utility and log10 p: {}. Shown: the gain of log10 p.",
            all.iter().map(|c| self.reached(*c)).collect::<Result<Vec<_>>>()?,
            self.seeds(),
            mean(&before(LOG_P)?),
            mean(&before(UTILITY)?),
            self.results.mean(Stage::Retain.arm(), UTILITY)?,
            rows.join("; "),
            self.rates()?,
        );
        Ok(Finding::new("C1", gain, note).against(GAIN).verdict(verdict.with_seeds(self.seeds())))
    }

    fn row(&self, change: Change) -> Result<String> {
        let m = |metric: &str| self.mean(change, metric);
        let steps = match self.reached(change)? {
            0 => "not reached".to_owned(),
            n if change == Change::TaskVector => format!("found in {n}"),
            n if n == self.seeds() => format!("{:.0}", m(STEPS)?),
            n => format!("{:.0} where those that did not reach it count as all, reached in {n}", m(STEPS)?),
        };
        let leak = self.mean(change, LEAK).map_or("-".to_owned(), |l| format!("{l:.0}"));
        Ok(format!(
            "{} ({steps}; {:.2}, {:.2}, {:.2}; {:.2}; {:.1}; {:.2}; {:.2}; {leak})",
            change.name(),
            m(&of(VALUE, RETAINED))?,
            m(&of(VALUE, KNOWN))?,
            m(&of(VALUE, WORLD))?,
            m(&of(REFUSED, FORGET))?,
            m(LOG_P)?,
            m(UTILITY)?,
            m(UTILITY_OF_VALUES)?,
        ))
    }

    /// Of each method the rate of the best mean utility among those at which the forget set is forgotten in every seed.
    fn rates(&self) -> Result<String> {
        let mut words = vec![];
        for change in Change::all() {
            let arm = Arm::Rates(change).name();
            let by_rate = |metric: &str| -> Result<Vec<Vec<f64>>> {
                let of_seed = |seed| Ok(self.results.series(&arm, seed, metric)?.iter().map(|p| p.1).collect());
                self.results.seeds(&arm).into_iter().map(of_seed).collect()
            };
            let (known, utility, p) = (by_rate(&of(FORCED, FORGET))?, by_rate(UTILITY)?, by_rate(LOG_P)?);
            let at = |all: &[Vec<f64>], i: usize| mean(&all.iter().map(|s| s[i]).collect::<Vec<_>>());
            let forgets = |i: &usize| known.iter().all(|s| s[*i] <= self.config.unlearning.known);
            let best = (0..self.config.rates.lr.len())
                .filter(forgets)
                .max_by(|a, b| at(&utility, *a).total_cmp(&at(&utility, *b)));
            words.push(match best {
                Some(i) => {
                    let (utility, p) = (at(&utility, i), at(&p, i));
                    format!("{} {:e} ({utility:.2}, {p:.1})", change.name(), self.config.rates.lr[i])
                }
                None => format!("{} fails to forget", change.name()),
            });
        }
        Ok(words.join(", "))
    }

    /// C2.
    fn keeps(&self) -> Result<Finding> {
        let all = flat();
        if let Some(why) = self.unmatched(&all)? {
            return Ok(Finding::not_judged("C2", why));
        }
        let (kept, metric) = self.kept();
        let rivals = [Change::Ga, Change::Npo, Change::Dpo];
        let those = self.those_that_forget(&rivals)?;
        let Some(rival) = self.best(&those, &metric)? else {
            return Ok(Finding::not_judged("C2", self.unmatched(&rivals)?.unwrap_or_default()));
        };
        let ours = self.over(&all, &metric)?;
        let lead = |over: Change| Ok::<_, anyhow::Error>(verdict::difference(&ours, &self.values(over, &metric)?, 0.0));
        let best = lead(rival)?;
        let ascent = lead(Change::Ga)?;
        let over_ascent = those.contains(&Change::Ga) && ascent.verdict == Verdict::Reproduced;
        let verdict = match best.verdict {
            Verdict::NotReproduced if over_ascent => Verdict::Partly,
            v => v,
        };
        let forced = of(FORCED, RETAINED);
        let forced_lead = |over: Change| {
            Ok::<_, anyhow::Error>(verdict::difference(&self.over(&all, &forced)?, &self.values(over, &forced)?, 0.0))
        };
        let compared = [&all[..], &rivals, &[Change::Gd, Change::Kl]].concat();
        let note = format!(
            "{kept} at matched forgetting: {}; {}. FLAT's mean minus {} {best:+}, minus GA {ascent:+}. Retained value accuracy given the true words before: {}; {}; FLAT's mean minus GA {:+}, minus NPO {:+}, minus DPO {:+}. Reported beside the criterion: the same at the first step at which {HALF} of the forget set or less is known ({}); and, in greedy answers, after the first epoch that ends with {} of it or less told ({}). {}",
            self.list(&all, &metric)?,
            self.list(&rivals, &metric)?,
            rival.name(),
            self.list(&all, &forced)?,
            self.list(&rivals, &forced)?,
            forced_lead(Change::Ga)?,
            forced_lead(Change::Npo)?,
            forced_lead(Change::Dpo)?,
            self.on_the_way(&compared, ON_THE_WAY, HALF)?,
            self.config.unlearning.known,
            self.on_the_way(&compared, TOLD, self.config.unlearning.known)?,
            self.unmatched(&rivals)?.unwrap_or_default(),
        );
        Ok(Finding::new("C2", best, note).against(0.0).verdict(verdict))
    }

    /// C3.
    fn collapse(&self) -> Result<Finding> {
        let all = flat();
        if let Some(why) = self.unmatched(&[&[Change::Ga][..], &all].concat())? {
            return Ok(Finding::not_judged("C3", why));
        }
        let ascent = self.values(Change::Ga, FURTHER)?;
        let lead = verdict::difference(&self.over(&all, FURTHER)?, &ascent, COLLAPSED);
        let left = verdict::estimate(&ascent);
        let collapsed = Verdict::of(left.high < COLLAPSED).with_seeds(self.seeds());
        let others: Vec<Change> = Change::all().filter(|c| *c != Change::TaskVector).collect();
        let note = format!(
            "Probability of retained answers {} steps after the stop: {}. GA {}. FLAT's mean minus GA {lead:+}. Retained values known there (given the true words before): {}.",
            self.config.unlearning.further,
            self.list(&others, FURTHER)?,
            Judgement { estimate: left, verdict: collapsed },
            self.list(&others, FURTHER_KNOWN)?,
        );
        Ok(Finding::new("C3", lead, note).against(COLLAPSED).verdict(Verdict::all(&[collapsed, lead.verdict])))
    }

    /// C4.
    fn divergences(&self) -> Result<Finding> {
        let all = flat();
        let (kept, metric) = self.kept();
        let each = all.iter().map(|c| self.values(*c, &metric)).collect::<Result<Vec<_>>>()?;
        let spread = |i: usize| {
            let values = each.iter().map(|v| v[i]);
            values.clone().fold(f64::NEG_INFINITY, f64::max) - values.fold(f64::INFINITY, f64::min)
        };
        let spreads: Vec<f64> = (0..self.seeds()).map(spread).collect();
        let estimate = verdict::estimate(&spreads);
        let level = mean(&self.over(&all, &metric)?);
        let reach = self.those_that_forget(&all)?.len() == all.len();
        let verdict = match () {
            _ if !reach || level.is_nan() || level <= SPREAD => Verdict::NotReproduced,
            _ if estimate.high <= SPREAD => Verdict::Reproduced,
            _ if estimate.value <= SPREAD => Verdict::Partly,
            _ => Verdict::NotReproduced,
        };
        let note = format!(
            "{kept} at matched forgetting: {}; forgotten in every seed: {}. Model utility: {}. Shown: the spread, mean over seeds.",
            self.list(&all, &metric)?,
            if reach { "all four" } else { "not all" },
            self.list(&all, UTILITY)?,
        );
        let verdict = verdict.with_seeds(self.seeds());
        Ok(Finding::new("C4", Judgement { estimate, verdict }, note).against(SPREAD))
    }

    /// C5.
    fn parts(&self) -> Result<Finding> {
        let all = flat();
        if let Some(why) = self.unmatched(&all)? {
            return Ok(Finding::not_judged("C5", why));
        }
        let utility = self.over(&all, UTILITY)?;
        let reached = self.reached(Change::Idk)?;
        let over_idk = verdict::difference(&utility, &self.values(Change::Idk, UTILITY)?, 0.0);
        let templates = if reached == 0 { Verdict::Reproduced } else { over_idk.verdict };

        let kept = forgetting();
        if let Some(why) = self.unmatched(&kept)? {
            return Ok(Finding::not_judged("C5", why));
        }
        let gain = verdict::difference(&self.over(&all, UTILITY)?, &self.over(&kept, UTILITY)?, 0.0);
        let note = format!(
            "Templates alone forget in {reached} of {} seeds; FLAT's mean utility minus theirs {over_idk:+}. Model utility at matched forgetting: {}; {}. Whole loss minus forgetting alone {gain:+}. Retained value accuracy: {}; {}.",
            self.seeds(),
            self.list(&all, UTILITY)?,
            self.list(&kept, UTILITY)?,
            self.list(&all, &of(VALUE, RETAINED))?,
            self.list(&kept, &of(VALUE, RETAINED))?,
        );
        let verdict = Verdict::all(&[templates, gain.verdict]).with_seeds(self.seeds());
        Ok(Finding::new("C5", gain, note).against(0.0).verdict(verdict))
    }
}

#[cfg(test)]
mod tests;
