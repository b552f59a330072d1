//! Findings and plots.

use super::stage::STEPS;
use super::{
    ACCURACY, BEST, BEST_SUM, CE, Config, DPO, ERROR_F1, EXACT, FIRST_ERROR, FULL, GENERATED, GREEDY, HARD, HARD_EQUAL,
    HARD_RATIO, HEAT, JUDGED, KTO, LIKELIHOOD, MILD, NCA, NO_REFERENCE, ORACLE, ORACLE_RATIO, ORDERED, ORM, OUTCOME,
    PASS, RANDOM, SIZES, SOFT, SOFT_EQUAL, TRAINED, TREES, VOTE, WELL_FORMED, WITHIN, WITHIN_QUARTER, beta_arm,
    fewer_arm,
};
use crate::plot::{Plot, Series};
use crate::results::Results;
use crate::verdict::{self, Finding, Judgement, Verdict};
use anyhow::{Context as _, Result};
use autodidact_core::stats;

const IMPLICIT: [&str; 4] = [CE, DPO, NCA, KTO];
/// Arms that were trained on all data, in the order of plots.
const TRAINED_ARMS: [&str; 12] =
    [CE, DPO, NCA, KTO, ORM, HARD, SOFT, HARD_EQUAL, SOFT_EQUAL, ORACLE, HARD_RATIO, ORACLE_RATIO];

struct Judge<'a> {
    results: &'a Results,
    config: Config,
}

impl Judge<'_> {
    /// A metric among so many responses, by seed.
    fn among(&self, arm: &str, metric: &str, n: usize) -> Result<Vec<f64>> {
        let each = self.results.seeds(arm).into_iter().map(|seed| {
            let series = self.results.series(arm, seed, metric)?;
            let at = series.iter().find(|p| p.0 == n as f64);
            Ok(at.with_context(|| format!("cell {arm} seed {seed} has no {metric} at {n}"))?.1)
        });
        each.collect()
    }

    /// Best-of-4 accuracy by the worst step, by seed.
    fn best(&self, arm: &str) -> Result<Vec<f64>> {
        self.among(arm, BEST, JUDGED)
    }

    fn mean_best(&self, arm: &str) -> Result<f64> {
        Ok(stats::mean(&self.best(arm)?))
    }

    /// What random choice among well-formed responses gets.
    fn chance(&self) -> Result<Vec<f64>> {
        self.best(RANDOM)
    }

    /// `arm value` of a metric for some arms, as text.
    fn list(&self, arms: &[&str], value: impl Fn(&str) -> Result<String>) -> Result<String> {
        let each = arms.iter().map(|arm| Ok(format!("{arm} {}", value(arm)?)));
        Ok(each.collect::<Result<Vec<_>>>()?.join(", "))
    }

    fn sizes(&self) -> Vec<usize> {
        SIZES.into_iter().filter(|&n| n <= self.config.samples).collect()
    }

    /// C1.
    fn propositions(&self) -> Result<Finding> {
        let exact = verdict::within(&self.results.values(TREES, EXACT)?, 1e-9);
        let within = self.results.values(CE, WITHIN)?;
        let share = verdict::difference(&within, &vec![95.0; within.len()], 0.0);
        let held = Verdict::of(stats::mean(&within) >= 95.0).with_seeds(within.len());
        let note = format!(
            "Percent, less 95, of prefixes of test responses whose q under CE is within three standard errors of what {} continuations say ({:.1} % are between their mean and their best); of a quarter of them {:.1} %: where continuations that the policy prefers are rare under the reference, few of them are drawn, and the standard error is too small. Largest violation on {} random trees per seed: {:.1e}.",
            self.config.continuations,
            self.results.mean(CE, ORDERED)?,
            self.results.mean(CE, WITHIN_QUARTER)?,
            self.config.trees,
            exact.estimate.value,
        );
        Ok(Finding::new("C1", share, note).verdict(Verdict::all(&[exact.verdict.with_seeds(within.len()), held])))
    }

    /// C2.
    fn chooses(&self) -> Result<Finding> {
        let chance = self.chance()?;
        let mut parts = vec![];
        let mut gains = vec![];
        for arm in [CE, DPO] {
            let gain = verdict::difference(&self.best(arm)?, &chance, 0.0);
            let clear = gain.verdict == Verdict::Reproduced && gain.estimate.value > 5.0;
            parts.push(if gain.verdict == Verdict::NotJudged { gain.verdict } else { Verdict::of(clear) });
            let auc = self.results.values(arm, FIRST_ERROR)?;
            parts.push(Verdict::of(stats::mean(&auc) > 0.65).with_seeds(auc.len()));
            gains.push(gain);
        }
        let all = [&TRAINED_ARMS[..], &[LIKELIHOOD, RANDOM]].concat();
        let largest = self.sizes().pop().unwrap_or(JUDGED);
        let accuracy = self.list(&all, |arm| {
            let at = |metric, n| Ok::<_, anyhow::Error>(stats::mean(&self.among(arm, metric, n)?));
            Ok(format!(
                "{:.1} / {:.1} ({:.1} / {:.1})",
                at(BEST, JUDGED)?,
                at(BEST, largest)?,
                at(BEST_SUM, JUDGED)?,
                at(BEST_SUM, largest)?
            ))
        })?;
        let stepwise: Vec<&str> = TRAINED_ARMS.into_iter().filter(|a| *a != ORM).chain([LIKELIHOOD]).collect();
        let errors = self.list(&stepwise, |arm| {
            Ok(format!("{:.2} / {:.2}", self.results.mean(arm, FIRST_ERROR)?, self.results.mean(arm, ERROR_F1)?))
        })?;
        let outcome = self.list(&TRAINED_ARMS, |arm| Ok(format!("{:.2}", self.results.mean(arm, OUTCOME)?)))?;
        let betas = self.config.betas.iter().map(|&b| {
            let arm = beta_arm(b);
            Ok(format!("{b}: {:.1} / {:.2}", self.mean_best(&arm)?, self.results.mean(&arm, FIRST_ERROR)?))
        });
        let note = format!(
            "Points of best-of-4 accuracy of CE over the generator's choice by chance (DPO: {:+}); over the choice by the generator's log-likelihood, which takes no training, {:+}. Accuracy of best of 4 / of {largest} by the worst step (by the sum): {accuracy}; one of 4 is right for {:.1} % of problems. AUC of right steps over the first wrong one / F1 of first errors: {errors}. AUC of outcomes: {outcome}. CE at other betas, best of 4 / AUC of steps: {}. The generator is right in {:.1} % of its samples, of which {:.1} % are well-formed.",
            gains[1],
            verdict::difference(&self.best(CE)?, &self.best(LIKELIHOOD)?, 0.0),
            stats::mean(&self.among(RANDOM, PASS, JUDGED)?),
            betas.collect::<Result<Vec<_>>>()?.join(", "),
            self.results.mean(RANDOM, ACCURACY)?,
            self.results.mean(RANDOM, WELL_FORMED)?,
        );
        Ok(Finding::new("C2", gains[0], note).against(stats::mean(&chance)).verdict(Verdict::all(&parts)))
    }

    /// C2b.
    fn beats_rollouts(&self) -> Result<Finding> {
        let hard = self.mean_best(HARD_EQUAL)? >= self.mean_best(SOFT_EQUAL)?;
        let against = if hard { HARD_EQUAL } else { SOFT_EQUAL };
        let other = self.best(against)?;
        let lead = verdict::difference(&self.best(CE)?, &other, 0.0);
        let more: Vec<String> = [HARD, SOFT]
            .into_iter()
            .map(|arm| Ok(format!("{arm} {:+}", verdict::difference(&self.best(CE)?, &self.best(arm)?, 0.0))))
            .collect::<Result<_>>()?;
        let generated = |arm| self.results.mean(arm, GENERATED);
        let note = format!(
            "Points of best-of-4 accuracy of CE over {against}, a head that no rate in the grid lifted above chance (its rate is the lowest of them): this compares heads with log-ratios more than labels. Against labels on {} problems, which cost {:.1} times the generated tokens: {}. Over the process model with the verifier's labels: {:+}; DPO over {against}: {:+}. Over log-ratios trained on labels of steps, from rollouts at equal tokens {:+}, from the verifier {:+}. Right responses to a problem are often the same, wrong ones differ: a score that says little finds its highest value among the many, so that its best of N falls below chance.",
            self.config.labelled,
            generated(HARD)? / generated(CE)?,
            more.join(", "),
            verdict::difference(&self.best(CE)?, &self.best(ORACLE)?, 0.0),
            verdict::difference(&self.best(DPO)?, &other, 0.0),
            verdict::difference(&self.best(CE)?, &self.best(HARD_RATIO)?, 0.0),
            verdict::difference(&self.best(CE)?, &self.best(ORACLE_RATIO)?, 0.0),
        );
        Ok(Finding::new("C2b", lead, note).against(stats::mean(&other)).verdict(lead.or_partly()))
    }

    /// Tokens generated and trained on, by seed.
    fn tokens(&self, arm: &str) -> Result<Vec<f64>> {
        let (generated, trained) = (self.results.values(arm, GENERATED)?, self.results.values(arm, TRAINED)?);
        Ok(generated.iter().zip(&trained).map(|(g, t)| g + t).collect())
    }

    /// C3.
    fn cost(&self) -> Result<Finding> {
        let (full, ce) = (self.results.values(CE, FULL)?, self.tokens(CE)?);
        let ratio = verdict::ratio(&full, &ce, 10.0);
        let generated = self.results.values(CE, GENERATED)?;
        let trained = self.results.values(CE, TRAINED)?;
        let only: Vec<f64> = (0..full.len()).map(|i| (full[i] - trained[i]) / generated[i]).collect();
        let note = format!(
            "Ratio of tokens, training counted with all its {} epochs; of generated tokens alone {:.1}. Tokens generated + trained on, thousands: {}. Responses of 16 tokens leave 7 on average after a step, so that rollouts cost less here than in long solutions.",
            self.config.epochs,
            stats::mean(&only),
            self.list(&TRAINED_ARMS, |arm| {
                let thousands = |metric| Ok::<_, anyhow::Error>(self.results.mean(arm, metric)? / 1e3);
                Ok(format!("{:.0} + {:.0}", thousands(GENERATED)?, thousands(TRAINED)?))
            })?,
        );
        Ok(Finding::new("C3", ratio, note).against(stats::mean(&ce)))
    }

    /// C4.
    fn votes(&self) -> Result<Finding> {
        let sizes: Vec<usize> = self.sizes().into_iter().filter(|n| [4, 16].contains(n)).collect();
        let mean = |arm: &str, metric: &str| -> Result<Vec<f64>> {
            let each = sizes.iter().map(|&n| self.among(arm, metric, n)).collect::<Result<Vec<_>>>()?;
            Ok((0..each[0].len()).map(|i| stats::mean(&each.iter().map(|e| e[i]).collect::<Vec<_>>())).collect())
        };
        let (weighted, vote, best) = (mean(CE, VOTE)?, mean(RANDOM, VOTE)?, mean(CE, BEST)?);
        let larger = if stats::mean(&vote) > stats::mean(&best) { &vote } else { &best };
        let gain = verdict::difference(&weighted, larger, 0.0);
        let held = Verdict::of(gain.estimate.value >= -0.5).with_seeds(weighted.len());
        let all = self.list(&TRAINED_ARMS, |arm| {
            let of = |metric| Ok::<_, anyhow::Error>(stats::mean(&mean(arm, metric)?));
            Ok(format!("{:.1} ({:.1}, {:.1})", of(VOTE)?, of(MILD)?, of(BEST)?))
        })?;
        let note = format!(
            "Points of the vote weighted by CE over the larger of majority vote ({:.1}) and best of N ({:.1}); means over N of {sizes:?}. Weighted votes (with nearly equal weights; best of N): {all}.",
            stats::mean(&vote),
            stats::mean(&best),
        );
        Ok(Finding::new("C4", gain, note).against(stats::mean(larger)).verdict(held))
    }

    /// Best-of-4 accuracies by number of responses; DPO has no pairs with one, and stays the generator.
    fn by_responses(&self, arm: &str) -> Result<Vec<(usize, Vec<f64>)>> {
        let mut numbers = self.config.fewer.clone();
        numbers.push(self.config.responses);
        numbers.sort_unstable();
        numbers.dedup();
        let each = numbers.into_iter().map(|n| {
            let best = match n {
                _ if n == self.config.responses => self.best(arm)?,
                1 if arm == DPO => self.chance()?,
                _ => self.best(&fewer_arm(arm, n))?,
            };
            Ok((n, best))
        });
        each.collect()
    }

    /// C5.
    fn responses(&self) -> Result<Finding> {
        let mut parts = vec![];
        let mut texts = vec![];
        let mut gaps = vec![];
        for arm in [CE, DPO] {
            let all = self.by_responses(arm)?;
            let (x, y): (Vec<f64>, Vec<f64>) = all.iter().map(|(n, b)| (*n as f64, stats::mean(b))).unzip();
            let rho = stats::spearman(&x, &y).unwrap_or(f64::NAN);
            parts.push(Verdict::of(rho > 0.0));
            let two = all.iter().find(|(n, _)| *n == 2).context("two responses are not among the numbers")?;
            let most = &all.last().context("there are numbers")?.1;
            gaps.push(most.iter().zip(&two.1).map(|(m, t)| m - t).collect::<Vec<f64>>());
            let points: Vec<String> = all.iter().map(|(n, b)| format!("{:.1} at {n}", stats::mean(b))).collect();
            texts.push(format!("{arm} {} (Spearman {rho:.2})", points.join(", ")));
        }
        let wider = verdict::difference(&gaps[1], &gaps[0], 0.0);
        let mut parts: Vec<Verdict> = parts.into_iter().map(|p| p.with_seeds(gaps[0].len())).collect();
        parts.push(verdict::all_above(&gaps[1], &gaps[0]));
        let note = format!(
            "Points by which {} responses instead of 2 raise best-of-4 accuracy more for DPO than for CE. Best-of-4 accuracy by number of responses: {}; DPO has no pairs with one response and stays the generator. Fewer responses are trained on for as many epochs, in fewer steps.",
            self.config.responses,
            texts.join("; "),
        );
        Ok(Finding::new("C5", wider, note).verdict(Verdict::all(&parts)))
    }

    /// C7.
    fn policies(&self) -> Result<Finding> {
        let before = self.results.values(RANDOM, GREEDY)?;
        let chance = self.chance()?;
        let (mut changes, mut texts) = (vec![], vec![]);
        for arm in IMPLICIT {
            let change = verdict::difference(&self.results.values(arm, GREEDY)?, &before, 0.0);
            let chooses = self.mean_best(arm)? > stats::mean(&chance);
            texts.push(format!("{arm} {change:+}"));
            changes.push((change, chooses));
        }
        let large = changes.iter().any(|(c, _)| c.estimate.value.abs() > 5.0);
        let falls = changes.iter().any(|(c, chooses)| *chooses && c.estimate.value < -5.0);
        let seeds = before.len();
        let verdict = if large { Verdict::of(falls).with_seeds(seeds) } else { Verdict::NotJudged };
        let note = format!(
            "Change of CE's greedy accuracy in points. All: {}.{}",
            texts.join(", "),
            if large { "" } else { " None is larger than 5 points." }
        );
        Ok(Finding::new("C7", changes[0].0, note).against(stats::mean(&before)).verdict(verdict))
    }

    /// C8.
    fn without_reference(&self) -> Result<Finding> {
        let of = |arm: &str| -> Result<Judgement> {
            Ok(verdict::difference(&self.among(arm, NO_REFERENCE, JUDGED)?, &self.best(arm)?, 0.0))
        };
        let ce = of(CE)?;
        let rest = self.list(&IMPLICIT[1..], |arm| Ok(format!("{:+}", of(arm)?)))?;
        let n = self.best(CE)?.len();
        let held = Verdict::of(ce.estimate.value.abs() <= 3.0).with_seeds(n);
        let note = format!(
            "Change of CE's best-of-4 accuracy in points when the reference is left out of scores. Others: {rest}. The generator's own log-likelihood gets {:.1}.",
            self.mean_best(LIKELIHOOD)?
        );
        Ok(Finding::new("C8", ce, note).against(self.mean_best(CE)?).verdict(held))
    }

    fn curves(&self) -> Result<Plot> {
        let mut series = vec![];
        for (i, arm) in [CE, DPO, KTO, ORM, HARD, ORACLE, ORACLE_RATIO, LIKELIHOOD].iter().enumerate() {
            series.push(Series::line(*arm, i, &self.results.mean_series(arm, BEST)?));
        }
        series.push(Series::line("majority vote", 8, &self.results.mean_series(RANDOM, VOTE)?).dashed());
        series.push(Series::line("CE, weighted vote", 0, &self.results.mean_series(CE, VOTE)?).dashed());
        let caption = format!(
            "Accuracy of the best of N responses by their worst step, and of votes; means over {} seeds.",
            self.results.plan().seeds.len()
        );
        Ok(Plot::lines("best-of-n", &caption, "N", "accuracy (%)", series).log(true, false))
    }

    fn heat(&self) -> Result<Plot> {
        let mut panels = vec![];
        for arm in [CE, DPO, KTO, HARD, ORACLE] {
            let values = self.results.mean_array(arm, HEAT)?;
            let largest = values.iter().fold(f64::MIN_POSITIVE, |l, v| l.max(v.abs()));
            panels.push((arm.to_owned(), STEPS, STEPS, values.iter().map(|v| v / largest).collect()));
        }
        let caption = format!(
            "Values of steps (columns, first to last) of test responses by their first wrong step (rows: first to last step), less those of faultless responses, each panel in units of its largest; orange is below. Means over {} seeds.",
            self.results.plan().seeds.len()
        );
        Ok(Plot::heat("steps", &caption, panels, -1.0, 1.0))
    }

    fn costs(&self) -> Result<Plot> {
        let mut series = vec![];
        let tokens = |arm: &str| Ok::<_, anyhow::Error>(stats::mean(&self.tokens(arm)?));
        for (i, arm) in [CE, DPO].into_iter().enumerate() {
            let mut points = vec![];
            for (n, best) in self.by_responses(arm)?.into_iter().filter(|(n, _)| arm == CE || *n > 1) {
                let name = if n == self.config.responses { arm.to_owned() } else { fewer_arm(arm, n) };
                points.push((tokens(&name)?, stats::mean(&best)));
            }
            series.push(Series::line(format!("{arm}, by responses"), i, &points));
        }
        for (i, arm) in [NCA, KTO, ORM, HARD, SOFT, HARD_EQUAL, ORACLE_RATIO].into_iter().enumerate() {
            series.push(Series::line(arm, i + 2, &[(tokens(arm)?, self.mean_best(arm)?)]).dots());
        }
        let caption = format!(
            "Accuracy of the best of 4 responses by their worst step against tokens generated and trained on; means over {} seeds.",
            self.results.plan().seeds.len()
        );
        Ok(Plot::lines("cost", &caption, "tokens", "accuracy (%)", series).log(true, false))
    }

    fn bars(&self) -> Result<Plot> {
        let mut bars = vec![];
        for (i, arm) in TRAINED_ARMS.into_iter().chain([LIKELIHOOD, RANDOM]).enumerate() {
            let (mean, half) = verdict::summary(&self.best(arm)?);
            bars.push((arm.to_owned(), mean, half, i));
        }
        let caption = "Accuracy of the best of 4 responses by their worst step, with 95 % intervals over seeds.";
        Ok(Plot::bars("best-of-4", caption, "accuracy (%)", bars))
    }
}

fn judge(results: &Results) -> Result<Judge<'_>> {
    Ok(Judge { results, config: results.plan().config()? })
}

pub(super) fn findings(results: &Results) -> Result<Vec<Finding>> {
    let judge = judge(results)?;
    Ok(vec![
        judge.propositions()?,
        judge.chooses()?,
        judge.beats_rollouts()?,
        judge.cost()?,
        judge.votes()?,
        judge.responses()?,
        Finding::not_judged(
            "C6",
            "No arm of this experiment adds labels of steps to outcomes, other tasks or diverse responses.",
        ),
        judge.policies()?,
        judge.without_reference()?,
    ])
}

pub(super) fn plots(results: &Results) -> Result<Vec<Plot>> {
    let judge = judge(results)?;
    Ok(vec![judge.curves()?, judge.bars()?, judge.heat()?, judge.costs()?])
}
