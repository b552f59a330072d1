//! Findings and plots.

use super::{
    AGREEMENT, ALWAYS, AUGMENTED, AUTOREGRESSIVE, BIGRAMS, CHOICE, Config, FEW_SHOT, FIRST, FREQUENCY, GENRE_RUN,
    MISSED, NEVER, QUERIES, RANDOM, RECALL, UNIFORM, UNLABELLED, VICTIM_RECALL, VICTIM_SAMPLED, at_repair,
};
use crate::plot::{Plot, Series};
use crate::results::Results;
use crate::verdict::{self, Finding, Judgement, Verdict};
use anyhow::Result;
use autodidact_core::stats;

/// What every note begins with.
const RECONSTRUCTED: &str = "Reconstructed components.";

struct Study<'a> {
    results: &'a Results,
    config: Config,
}

/// An arm at a weight of the repair loss.
#[derive(Clone)]
struct Chosen {
    arm: String,
    repair: f64,
}

impl Study<'_> {
    /// An arm with the first surrogate, at a fraction by its place in the list.
    fn arm(&self, source: &str, fraction: usize) -> String {
        Config::name(source, self.config.fractions[fraction], self.config.surrogates[0])
    }

    fn smallest(&self) -> usize {
        self.config.fractions.len() - 1
    }

    /// The weight of at least `least` that is best on validation users, by mean.
    fn best_weight(&self, arm: &str, least: f64) -> Result<Chosen> {
        let mut best = (f64::NEG_INFINITY, 0.0);
        for repair in self.config.repairs.iter().copied().filter(|r| *r >= least) {
            let mean = self.results.mean(arm, &at_repair(CHOICE, repair))?;
            if mean > best.0 {
                best = (mean, repair);
            }
        }
        Ok(Chosen { arm: arm.to_owned(), repair: best.1 })
    }

    fn best(&self, arm: &str) -> Result<Chosen> {
        self.best_weight(arm, 0.0)
    }

    /// The same with the repair loss.
    fn repaired(&self, arm: &str) -> Result<Chosen> {
        self.best_weight(arm, f64::MIN_POSITIVE)
    }

    fn values(&self, chosen: &Chosen, metric: &str) -> Result<Vec<f64>> {
        self.results.values(&chosen.arm, &at_repair(metric, chosen.repair))
    }

    fn mean(&self, chosen: &Chosen) -> Result<f64> {
        Ok(stats::mean(&self.values(chosen, AGREEMENT)?))
    }

    /// Of some arms, each at its best weight, the best on validation users.
    fn better(&self, sources: [&str; 2]) -> Result<Chosen> {
        let [a, b] = sources.map(|s| self.best(&self.arm(s, 0)));
        let (a, b) = (a?, b?);
        let of = |c: &Chosen| -> Result<f64> { Ok(stats::mean(&self.values(c, CHOICE)?)) };
        Ok(if of(&b)? > of(&a)? { b } else { a })
    }

    fn difference(&self, a: &Chosen, b: &Chosen) -> Result<Judgement> {
        Ok(verdict::difference(&self.values(a, AGREEMENT)?, &self.values(b, AGREEMENT)?, 0.0))
    }

    /// An arm in words.
    fn described(&self, chosen: &Chosen) -> Result<String> {
        let first = stats::mean(&self.values(chosen, FIRST)?);
        Ok(format!("{} {:.1} (repair {}, Agr@1 {first:.1})", chosen.arm, self.mean(chosen)?, chosen.repair))
    }

    /// C1.
    fn augmented_agrees_most(&self) -> Result<Finding> {
        let augmented = self.repaired(&self.arm(AUGMENTED, 0))?;
        let (data_free, few) = (self.better([RANDOM, AUTOREGRESSIVE])?, self.best(&self.arm(FEW_SHOT, 0))?);
        let (over_free, over_few) = (self.difference(&augmented, &data_free)?, self.difference(&augmented, &few)?);
        let unlabelled = Chosen { arm: self.arm(UNLABELLED, 0), repair: 0.0 };
        let mut arms = vec![];
        for chosen in [&augmented, &data_free, &few, &unlabelled] {
            arms.push(self.described(chosen)?);
        }
        let victim = |metric| self.results.mean(&augmented.arm, metric);
        let mut note = format!(
            "{RECONSTRUCTED} Agr@10 in points over the better data-free arm; over the known histories alone {over_few:+}. Agr@10 (%): {}. The victim finds the next item among its first ten in {:.0} % of cases ({:.0} % among 100 negatives), the surrogate in {:.0} %. Queries: {:.0}, of the known histories alone {:.0}.",
            arms.join(", "),
            victim(VICTIM_RECALL)?,
            victim(VICTIM_SAMPLED)?,
            stats::mean(&self.values(&augmented, RECALL)?),
            self.results.mean(&augmented.arm, QUERIES)?,
            self.results.mean(&few.arm, QUERIES)?,
        );
        for surrogate in &self.config.surrogates[1..] {
            let name = |source| Config::name(source, self.config.fractions[0], *surrogate);
            let mut arms = vec![];
            for source in [AUGMENTED, RANDOM, AUTOREGRESSIVE, FEW_SHOT] {
                arms.push(self.described(&self.best(&name(source))?)?);
            }
            note += &format!(" Another surrogate: {}.", arms.join(", "));
        }
        let verdict = Verdict::all(&[over_free.verdict, over_few.verdict]);
        Ok(Finding::new("C1", over_free, note).against(self.mean(&data_free)?).verdict(verdict))
    }

    /// C2.
    fn components(&self) -> Result<Finding> {
        let sources = [RANDOM, AUTOREGRESSIVE, FEW_SHOT, AUGMENTED, NEVER, ALWAYS, UNIFORM];
        let seeds = self.results.plan().seeds.len();
        let at = |repair: f64| -> Result<Vec<f64>> {
            let mut sums = vec![0.0; seeds];
            for source in sources {
                let values = self.values(&Chosen { arm: self.arm(source, 0), repair }, AGREEMENT)?;
                sums.iter_mut().zip(values).for_each(|(s, v)| *s += v / sources.len() as f64);
            }
            Ok(sums)
        };
        let repair = verdict::difference(&at(1.0)?, &at(0.0)?, 0.0);
        let augmented = self.best(&self.arm(AUGMENTED, 0))?;
        let sampler = self.difference(&augmented, &self.best(&self.arm(UNIFORM, 0))?)?;
        let fixed = self.better([NEVER, ALWAYS])?;
        let signal = self.difference(&augmented, &fixed)?;
        let positive = |j: &Judgement| Verdict::of(j.estimate.value > 0.0).with_seeds(seeds);
        let verdict = Verdict::all(&[repair.verdict, positive(&sampler), positive(&signal)]);
        let first = |repair: f64| -> Result<f64> {
            let mut values = vec![];
            for source in sources {
                values.extend(self.values(&Chosen { arm: self.arm(source, 0), repair }, FIRST)?);
            }
            Ok(stats::mean(&values))
        };
        let note = format!(
            "{RECONSTRUCTED} Agr@10 in points of weight 1 of the repair loss over weight 0, mean over arms (Agr@1 goes from {:.1} to {:.1}); sampler {sampler:+} over uniform draws; signal {signal:+} over {}.",
            first(0.0)?,
            first(1.0)?,
            self.described(&fixed)?,
        );
        Ok(Finding::new("C2", repair, note).verdict(verdict))
    }

    /// What the synthetic sequences add at a fraction.
    fn added(&self, fraction: usize) -> Result<Judgement> {
        self.difference(&self.best(&self.arm(AUGMENTED, fraction))?, &self.best(&self.arm(FEW_SHOT, fraction))?)
    }

    /// C3.
    fn few_data(&self) -> Result<Finding> {
        if self.smallest() == 0 {
            return Ok(Finding::not_judged("C3", format!("{RECONSTRUCTED} One fraction alone was run.")));
        }
        let (small, large) = (self.added(self.smallest())?, self.added(0)?);
        let fractions = &self.config.fractions;
        let mut arms = vec![];
        for i in 0..fractions.len() {
            for source in [AUGMENTED, FEW_SHOT] {
                arms.push(self.described(&self.best(&self.arm(source, i))?)?);
            }
        }
        let note = format!(
            "{RECONSTRUCTED} Agr@10 in points over the known histories alone at {} of the users; at {} {large:+}. Agr@10 (%): {}.",
            fractions[self.smallest()],
            fractions[0],
            arms.join(", ")
        );
        let verdict = Verdict::of(small.estimate.value >= large.estimate.value);
        Ok(Finding::new("C3", small, note).verdict(verdict.with_seeds(self.results.plan().seeds.len())))
    }

    /// C4.
    fn close_to_raw(&self) -> Result<Finding> {
        let of = |source: &str, metric: &str| self.results.values(&self.arm(source, 0), metric);
        let (kl, coverage) = (of(AUGMENTED, FREQUENCY)?, of(AUGMENTED, BIGRAMS)?);
        let mut closer = true;
        let mut words = vec![];
        for source in [AUGMENTED, RANDOM, AUTOREGRESSIVE] {
            let (other_kl, other_coverage) = (of(source, FREQUENCY)?, of(source, BIGRAMS)?);
            if source != AUGMENTED {
                closer &= kl.iter().zip(&other_kl).all(|(a, b)| a < b);
                closer &= coverage.iter().zip(&other_coverage).all(|(a, b)| a > b);
            }
            let run = self.results.mean(&self.arm(source, 0), GENRE_RUN);
            let run = run.map_or_else(|_| String::new(), |r| format!(", genre run {r:.2}"));
            words.push(format!(
                "{source}: KL {:.3}, coverage {:.3}{run}",
                stats::mean(&other_kl),
                stats::mean(&other_coverage)
            ));
        }
        let gain = verdict::difference(&coverage, &of(AUTOREGRESSIVE, BIGRAMS)?, 0.0);
        let note = format!("{RECONSTRUCTED} Coverage over the autoregressive sequences'. {}.", words.join("; "));
        Ok(Finding::new("C4", gain, note).verdict(Verdict::of(closer).with_seeds(kl.len())))
    }
}

fn study(results: &Results) -> Result<Study<'_>> {
    Ok(Study { results, config: results.plan().config()? })
}

pub(super) fn findings(results: &Results) -> Result<Vec<Finding>> {
    let study = study(results)?;
    Ok(vec![study.augmented_agrees_most()?, study.components()?, study.few_data()?, study.close_to_raw()?])
}

pub(super) fn plots(results: &Results) -> Result<Vec<Plot>> {
    let study = study(results)?;
    let config = &study.config;
    let n = results.plan().seeds.len();
    let mut bars = vec![];
    for (i, arm) in results.arms().into_iter().enumerate() {
        for repair in if arm.starts_with(UNLABELLED) { vec![0.0] } else { vec![0.0, study.repaired(arm)?.repair] } {
            let values = results.values(arm, &at_repair(AGREEMENT, repair))?;
            let (mean, half) = verdict::summary(&values);
            bars.push((format!("{arm}, repair {repair}"), mean, half, i));
        }
    }
    let (mut by_fraction, mut by_queries) = (vec![], vec![]);
    for (i, source) in [AUGMENTED, FEW_SHOT].into_iter().enumerate() {
        let (mut fractions, mut queries) = (vec![], vec![]);
        for (j, fraction) in config.fractions.iter().enumerate() {
            let chosen = study.best(&study.arm(source, j))?;
            let (mean, half) = verdict::summary(&study.values(&chosen, AGREEMENT)?);
            fractions.push((100.0 * fraction, mean, half));
            queries.push((results.mean(&chosen.arm, QUERIES)?, mean, half));
        }
        by_fraction.push(Series::with_intervals(source, i, fractions));
        by_queries.push(Series::with_intervals(source, i, queries).dots());
    }
    for (i, source) in [RANDOM, AUTOREGRESSIVE].into_iter().enumerate() {
        let chosen = study.best(&study.arm(source, 0))?;
        let (mean, half) = verdict::summary(&study.values(&chosen, AGREEMENT)?);
        let flat = config.fractions.iter().map(|f| (100.0 * f, mean, 0.0)).collect();
        by_fraction.push(Series::with_intervals(source, i + 2, flat).dashed());
        let queries = vec![(results.mean(&chosen.arm, QUERIES)?, mean, half)];
        by_queries.push(Series::with_intervals(source, i + 2, queries).dots());
    }
    let mut missed = vec![];
    for (i, source) in [AUGMENTED, FEW_SHOT, RANDOM, AUTOREGRESSIVE].into_iter().enumerate() {
        let series = results.mean_series(&study.arm(source, 0), &at_repair(MISSED, 1.0))?;
        missed.push(Series::line(source, i, &series));
    }
    let mut closeness = vec![];
    for (i, source) in [RANDOM, AUTOREGRESSIVE, AUGMENTED, NEVER, ALWAYS, UNIFORM].into_iter().enumerate() {
        let (mean, half) = verdict::summary(&results.values(&study.arm(source, 0), BIGRAMS)?);
        closeness.push((source.to_owned(), mean, half, i));
    }
    Ok(vec![
        Plot::bars(
            "agreement",
            &format!(
                "Agreement of surrogates with the victim on test users, without and with the repair loss (weight by validation); means of {n} seeds with 95 % intervals."
            ),
            "Agr@10 (%)",
            bars,
        ),
        Plot::lines(
            "fractions",
            "Agreement by the share of users whose histories are known; means over seeds with 95 % intervals.",
            "known users (%)",
            "Agr@10 (%)",
            by_fraction,
        ),
        Plot::lines(
            "queries",
            "Agreement by the queries used; means over seeds with 95 % intervals.",
            "queries",
            "Agr@10 (%)",
            by_queries,
        ),
        Plot::lines(
            "missed",
            "Items of the victim's first ten that the surrogate's first ten miss, on training prefixes with weight 1 of the repair loss (as many intrude); means over seeds.",
            "step",
            "missed items of 10",
            missed,
        ),
        Plot::bars(
            "coverage",
            &format!(
                "Share of the unknown users' pairs of neighbours that occur in the synthetic sequences; means of {n} seeds with 95 % intervals."
            ),
            "share of pairs",
            closeness,
        ),
    ])
}
