//! Findings and plots.

use super::bandit::{BETAS, KINDS, METHODS, SAMPLED_BETA, SIZES, moved};
use super::{ARMS, BANDIT, COPIES, DPO, IPO, REFERENCE, SETS, SRPO, gold, wins, words};
use crate::plot::{Plot, Series};
use crate::results::Results;
use crate::verdict::{self, Finding, Judgement, Verdict};
use anyhow::Result;
use autodidact_core::stats::{self, Estimate};

struct Judge<'a> {
    results: &'a Results,
}

impl Judge<'_> {
    /// Total variations of all seeds.
    fn moved(&self, name: &str) -> Result<Vec<f64>> {
        let mut all = vec![];
        for seed in self.results.seeds(BANDIT) {
            all.extend_from_slice(self.results.array(BANDIT, seed, name)?);
        }
        Ok(all)
    }

    /// C1.
    fn behaviour(&self) -> Result<Finding> {
        let (mut exact_srpo, mut exact_ipo): (Vec<f64>, Vec<f64>) = (vec![], vec![]);
        for kind in KINDS {
            for (size, beta) in SIZES.into_iter().flat_map(|s| BETAS.map(|b| (s, b))) {
                exact_srpo.extend(self.moved(&moved("srpo", "exact", kind, size, beta))?);
                exact_ipo.extend(self.moved(&moved("ipo", "exact", kind, size, beta))?);
            }
        }
        let exact = verdict::within(&exact_srpo, 1e-3);
        let mut parts = vec![exact.verdict, Verdict::of(stats::mean(&exact_ipo) > 0.05)];
        let mut described = vec![];
        for size in SIZES {
            let of = |method: &str| self.moved(&moved(method, "sampled", KINDS[1], size, SAMPLED_BETA));
            let [srpo, ipo, dpo] = METHODS.map(of);
            let (srpo, ipo, dpo) = (srpo?, ipo?, dpo?);
            let below = |other: &[f64]| srpo.iter().zip(other).filter(|(a, b)| a < b).count();
            let n = srpo.len();
            for other in [&ipo, &dpo] {
                parts.push(Verdict::of(stats::mean(&srpo) < 0.5 * stats::mean(other)));
                parts.push(Verdict::of(10 * below(other) >= 8 * n));
            }
            described.push(format!(
                "{size} responses: SRPO {:.3}, IPO {:.3}, DPO {:.3}, SRPO below IPO in {} and below DPO in {} of {n}",
                stats::mean(&srpo),
                stats::mean(&ipo),
                stats::mean(&dpo),
                below(&ipo),
                below(&dpo)
            ));
        }
        let transitive = self.moved(&moved("dpo", "exact", KINDS[0], SIZES[0], SAMPLED_BETA))?;
        let note = format!(
            "Largest total variation of SRPO's policy between behaviours at exact expectations; IPO's mean {:.3}. From samples of intransitive preferences, {}. Under Bradley-Terry DPO's exact optimum does not move either ({:.4}).",
            stats::mean(&exact_ipo),
            described.join("; "),
            stats::mean(&transitive)
        );
        let n = self.results.seeds(BANDIT).len();
        let exact = Judgement { estimate: Estimate { n, ..exact.estimate }, ..exact };
        Ok(Finding::new("C1", exact, note).against(stats::mean(&exact_ipo)).verdict(Verdict::all(&parts).with_seeds(n)))
    }

    /// Win rates by revision, for each seed.
    fn courses(&self, arm: &str, set: &str) -> Result<Vec<Vec<f64>>> {
        let each = self.results.seeds(arm).into_iter();
        each.map(|s| Ok(self.results.series(arm, s, &wins(set))?.into_iter().map(|p| p.1).collect())).collect()
    }

    fn slope(&self, arm: &str, set: &str) -> Result<Judgement> {
        let courses = self.courses(arm, set)?;
        let revisions: Vec<f64> = (0..courses[0].len()).map(|r| r as f64).collect();
        Ok(verdict::trend(&revisions, &courses))
    }

    fn described(&self, set: &str) -> Result<String> {
        let words = ARMS.iter().map(|arm| {
            let course: Vec<String> =
                self.results.mean_series(arm, &wins(set))?.iter().map(|p| format!("{:.0}", p.1)).collect();
            Ok(format!("{arm} {}", course.join(", ")))
        });
        Ok(words.collect::<Result<Vec<_>>>()?.join("; "))
    }

    /// C2.
    fn revisions(&self) -> Result<Finding> {
        let [srpo, dpo, ipo] = [SRPO, DPO, IPO].map(|arm| self.slope(arm, SETS[0]));
        let (srpo, dpo, ipo) = (srpo?, dpo?, ipo?);
        let rises = |j: &Judgement| j.verdict == Verdict::Reproduced;
        let verdict = match srpo.verdict {
            Verdict::NotJudged => Verdict::NotJudged,
            _ if rises(&srpo) && !rises(&dpo) && !rises(&ipo) => Verdict::Reproduced,
            _ if srpo.estimate.value > dpo.estimate.value.max(ipo.estimate.value) => Verdict::Partly,
            _ => Verdict::NotReproduced,
        };
        // Without the first revision, before which whoever starts higher has more to lose.
        let later = |arm: &str| -> Result<String> {
            let courses: Vec<Vec<f64>> = self.courses(arm, SETS[0])?.iter().map(|c| c[1..].to_vec()).collect();
            let revisions: Vec<f64> = (1..=courses[0].len()).map(|r| r as f64).collect();
            Ok(format!("{:+}", verdict::trend(&revisions, &courses)))
        };
        let length = |arm: &str| self.results.mean(arm, &words(SETS[0]));
        let note = format!(
            "Points of win rate for each revision by SRPO; by DPO {dpo:+}, by IPO {ipo:+}; from the first revision on SRPO {}, DPO {}, IPO {}. Win rate (%) from no revision on: {}. Words at the end: SRPO {:.1}, DPO {:.1}, reference {:.1}; the reference's revisions change nothing in {:.0} %.",
            later(SRPO)?,
            later(DPO)?,
            later(IPO)?,
            self.described(SETS[0])?,
            length(SRPO)?,
            length(DPO)?,
            length(REFERENCE)?,
            self.results.mean(REFERENCE, COPIES)?
        );
        Ok(Finding::new("C2", srpo, note).verdict(verdict))
    }

    /// C3.
    fn elsewhere(&self) -> Result<Finding> {
        let set = SETS[2];
        let (srpo, dpo) = (self.courses(SRPO, set)?, self.courses(DPO, set)?);
        let last: Vec<f64> = srpo.iter().map(|c| c[c.len() - 1]).collect();
        let best: Vec<f64> = dpo.iter().map(|c| c.iter().copied().fold(f64::NEG_INFINITY, f64::max)).collect();
        let lead = verdict::difference(&last, &best, 0.0);
        let first = |courses: &[Vec<f64>]| stats::mean(&courses.iter().map(|c| c[0]).collect::<Vec<_>>());
        let apart = first(&srpo) - first(&dpo);
        let verdict = match lead.or_partly() {
            Verdict::Reproduced if apart.abs() > 5.0 => Verdict::Partly,
            v => v,
        };
        let note = format!(
            "Points of win rate of SRPO after the last revision over DPO's best, on topics that no pair has; without revision {apart:+.1}. Win rate (%) from no revision on, new topics: {}. New combinations: {}.",
            self.described(set)?,
            self.described(SETS[1])?
        );
        Ok(Finding::new("C3", lead, note).against(stats::mean(&best)).verdict(verdict))
    }

    /// C4, reported only.
    fn gaps(&self) -> Result<Finding> {
        let at = |arm: &str, revision: usize| -> Result<f64> {
            Ok(stats::mean(&self.courses(arm, SETS[0])?.iter().map(|c| c[revision]).collect::<Vec<_>>()))
        };
        let gap =
            |revision: usize| -> Result<f64> { Ok(at(SRPO, revision)? - at(DPO, revision)?.max(at(IPO, revision)?)) };
        let why = format!(
            "Needs chat models and a judge. Here SRPO's win rate minus the better of DPO's and IPO's is {:+.1} points without revision and {:+.1} after one.",
            gap(0)?,
            gap(1)?
        );
        Ok(Finding::not_judged("C4", why))
    }
}

pub(super) fn findings(results: &Results) -> Result<Vec<Finding>> {
    let judge = Judge { results };
    Ok(vec![judge.behaviour()?, judge.revisions()?, judge.elsewhere()?, judge.gaps()?])
}

pub(super) fn plots(results: &Results) -> Result<Vec<Plot>> {
    let judge = Judge { results };
    let n = results.plan().seeds.len();
    let curve = |name: &str, set: &str, y: &str, metric: String| -> Result<Plot> {
        let each = ARMS.iter().enumerate();
        let series: Result<Vec<Series>> =
            each.map(|(i, arm)| Ok(Series::line(*arm, i, &results.mean_series(arm, &metric)?))).collect();
        Ok(Plot::lines(name, &format!("{y} by revision, {set}; means over {n} seeds."), "revisions", y, series?))
    };
    let mut bars = vec![];
    for size in SIZES {
        for (how, kind) in [("exact", KINDS[1]), ("sampled", KINDS[1]), ("sampled", KINDS[0])] {
            for (i, method) in METHODS.into_iter().enumerate() {
                let (mean, half) = verdict::summary(&judge.moved(&moved(method, how, kind, size, SAMPLED_BETA))?);
                bars.push((format!("{size}, {how}, {kind}: {method}"), mean, half, i));
            }
        }
    }
    let win = "win rate (%)";
    Ok(vec![
        curve("wins", SETS[0], win, wins(SETS[0]))?,
        curve("wins-new-combinations", SETS[1], win, wins(SETS[1]))?,
        curve("wins-new-topics", SETS[2], win, wins(SETS[2]))?,
        curve("gold", SETS[0], "gold reward", gold(SETS[0]))?,
        Plot::bars(
            "behaviour",
            "Total variation between policies learnt from uniform and from skewed pairs (beta 0.2), by number of responses; means over instances with 95 % intervals.",
            "total variation",
            bars,
        ),
    ])
}
