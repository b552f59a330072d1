//! Verdicts and plots.

use super::{
    ACCURACY, APER, AVERAGE, CONFUSION, Config, DISTANCE, EASE, EVALUATIONS, FINETUNE, FINETUNE_ADAPTER, FIRST,
    FORGETTING, LAST, LWF, MOS, MUTATING, NO_ALIGNMENT, NO_ENSEMBLE, NO_MERGING, NO_ORTH, NO_REFINEMENT, OFFICIAL,
    ORACLE_ADAPTER, ORACLE_TASK, REFINED, RETRIEVAL, SIMPLE, SLCA, Setting, variant, with_alpha,
};
use crate::experiment::Scale;
use crate::plot::{Plot, Series};
use crate::results::Results;
use crate::verdict::{self, Finding, Judgement, Verdict, summary};
use anyhow::Result;

pub(super) fn findings(results: &Results) -> Result<Vec<Finding>> {
    let study = Study::new(results)?;
    if let Some(why) = study.without_ground()? {
        return Ok(["C1", "C2", "C3", "C4", "C5"].map(|id| Finding::not_judged(id, why.clone())).into());
    }
    let (best, families) = study.ranking()?;
    Ok(vec![best, families, study.merging()?, study.retrieval()?, study.ensemble()?])
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

    fn values(&self, arm: &str, metric: &str) -> Result<Vec<f64>> {
        self.results.values(arm, metric)
    }

    fn mean(&self, arm: &str, metric: &str) -> Result<f64> {
        self.results.mean(arm, metric)
    }

    fn gain(&self, (arm, metric): (&str, &str), (other, metric_of_other): (&str, &str)) -> Result<Judgement> {
        Ok(verdict::difference(&self.values(arm, metric)?, &self.values(other, metric_of_other)?, 0.0))
    }

    fn enough(&self, verdict: Verdict) -> Verdict {
        verdict.with_seeds(self.results.seeds(MOS).len())
    }

    /// Why nothing can be judged, if that is so.
    fn without_ground(&self) -> Result<Option<String>> {
        let chance = 100.0 / (self.setting.tasks * self.setting.classes) as f64;
        for arm in [SIMPLE, MOS] {
            let last = self.mean(arm, LAST)?;
            // NaN is not above it either.
            if last.is_nan() || last <= 2.0 * chance {
                return Ok(Some(format!(
                    "{arm} ends at {last:.1} %, which is not above twice the chance of {chance:.1} %: the backbone has no features for these classes, or nothing was learned."
                )));
            }
        }
        Ok(None)
    }

    /// Means of average and last accuracy and forgetting.
    fn words(&self, arm: &str) -> Result<String> {
        let of = |metric: &str| self.mean(arm, metric);
        Ok(format!("{arm} {:.1} / {:.1} / {:.1}", of(AVERAGE)?, of(LAST)?, of(FORGETTING)?))
    }

    fn list(&self, arms: &[&str]) -> Result<String> {
        Ok(arms.iter().map(|a| self.words(a)).collect::<Result<Vec<_>>>()?.join(", "))
    }

    /// C1 and C2 share the criterion.
    fn ranking(&self) -> Result<(Finding, Finding)> {
        let over = |arm: &str| self.gain((MOS, LAST), (arm, LAST));
        let (aper, simple) = (over(APER)?, over(SIMPLE)?);
        let prototypes = Verdict::all(&[aper.verdict, simple.verdict]);
        let rival = self.results.best([SLCA, EASE].map(str::to_owned), LAST)?;
        let last = |arm: &str| self.mean(arm, LAST);
        let near = last(MOS)? >= last(&rival)? - 1.0;
        let tuned_below = last(FINETUNE_ADAPTER)? < last(SIMPLE)?;
        let full = self.results.plan().scale == Scale::Full && self.results.plan().dataset == "cifar100";
        let official = !full || (self.mean(OFFICIAL, AVERAGE)? - 93.30).abs() <= 1.5;
        let verdict = match prototypes {
            Verdict::Reproduced if near && tuned_below && official => Verdict::Reproduced,
            Verdict::Reproduced => Verdict::Partly,
            Verdict::NotJudged => Verdict::NotJudged,
            _ => Verdict::NotReproduced,
        };
        let all = self.list(&[FINETUNE, LWF, FINETUNE_ADAPTER, SIMPLE, APER, SLCA, EASE, MOS, OFFICIAL, MUTATING])?;
        let compared = [FINETUNE, LWF, FINETUNE_ADAPTER, SIMPLE, APER, SLCA, EASE, MOS];
        let highest = |metric: &str| self.results.best(compared.map(str::to_owned), metric);
        let best = format!(
            "A-bar / A_B / forgetting: {all}. The highest A-bar is that of {}, the highest A_B that of {} (of MOS as its text has it and the others). MOS minus SimpleCIL {simple:+}, minus APER {aper:+}, minus {rival} (the better of SLCA and EASE) {:+}. Shown: MOS minus APER, A_B.",
            highest(AVERAGE)?,
            highest(LAST)?,
            over(&rival)?
        );
        let order = [FINETUNE, FINETUNE_ADAPTER, SIMPLE, APER, SLCA, EASE, MOS];
        let order = order.iter().map(|a| Ok(format!("{a} {:.1}", last(a)?))).collect::<Result<Vec<_>>>()?.join(", ");
        let holds = |what: bool| if what { "holds" } else { "does not hold" };
        let families = format!(
            "A_B in the paper's order: {order}. That MOS is at least the better of SLCA and EASE minus 1 point {}; that Finetune Adapter ({:+}) is below SimpleCIL {}. Shown: MOS minus SimpleCIL, A_B.",
            holds(near),
            self.gain((FINETUNE_ADAPTER, LAST), (SIMPLE, LAST))?,
            holds(tuned_below),
        );
        let verdict = self.enough(verdict);
        Ok((
            Finding::new("C1", aper, best).against(last(APER)?).verdict(verdict),
            Finding::new("C2", simple, families).against(last(SIMPLE)?).verdict(verdict),
        ))
    }

    /// C3.
    fn merging(&self) -> Result<Finding> {
        let gain = self.gain((MOS, LAST), (NO_MERGING, LAST))?;
        let distance = |arm: &str| -> Result<f64> {
            let points = self.results.mean_series(arm, DISTANCE)?;
            Ok(points.iter().map(|p| p.1).sum::<f64>() / points.len().max(1) as f64)
        };
        let sweep: Vec<String> = self.config.alphas.iter().map(|a| with_alpha(*a)).collect();
        let mut arms = vec![NO_MERGING, MOS];
        arms.extend(sweep.iter().map(String::as_str));
        arms.extend([OFFICIAL, MUTATING]);
        let each = arms.iter().map(|a| {
            let over = self.gain((a, LAST), (NO_MERGING, LAST))?;
            Ok(format!("{} ({over:+}), distance {:.2}", self.words(a)?, distance(a)?))
        });
        let note = format!(
            "{}A-bar / A_B / forgetting (A_B minus that without merging), distance of adapters to the mean of earlier ones: {}. Shown: MOS (alpha {}) minus no merging, A_B.",
            undecided(&gain),
            each.collect::<Result<Vec<_>>>()?.join("; "),
            self.config.alpha,
        );
        Ok(Finding::new("C3", gain, note).against(self.mean(NO_MERGING, LAST)?))
    }

    /// C4.
    fn retrieval(&self) -> Result<Finding> {
        let found = self.gain((MOS, REFINED), (MOS, FIRST))?;
        let without = variant(NO_REFINEMENT, LAST);
        let gain = self.gain((MOS, LAST), (MOS, &without))?;
        let alone = self.mean(MOS, &variant(NO_ENSEMBLE, LAST))?;
        let arms = [MOS, NO_MERGING, NO_ALIGNMENT, OFFICIAL];
        let each = arms.iter().map(|a| {
            Ok(format!(
                "{a} {:.1} to {:.1} ({:+})",
                self.mean(a, FIRST)?,
                self.mean(a, REFINED)?,
                self.gain((a, REFINED), (a, FIRST))?
            ))
        });
        let note = format!(
            "{}Retrieval accuracy by the first guess and refined: {}; {:.2} evaluations per image. A_B of MOS {:.1}, without refinement {:.1} ({gain:+}), by the retrieved adapter alone {alone:.1}; with the true task's adapter {:.1}, with the true task {:.1}. Shown: retrieval accuracy, refined minus first guess.",
            undecided(&found),
            each.collect::<Result<Vec<_>>>()?.join("; "),
            self.mean(MOS, EVALUATIONS)?,
            self.mean(MOS, LAST)?,
            self.mean(MOS, &without)?,
            self.mean(MOS, &variant(ORACLE_ADAPTER, LAST))?,
            self.mean(MOS, &variant(ORACLE_TASK, LAST))?,
        );
        let verdict = Verdict::all(&[found.verdict, gain.verdict]);
        Ok(Finding::new("C4", found, note).against(self.mean(MOS, FIRST)?).verdict(verdict))
    }

    /// C5.
    fn ensemble(&self) -> Result<Finding> {
        let without = variant(NO_ENSEMBLE, LAST);
        let gain = self.gain((MOS, LAST), (MOS, &without))?;
        let official = self.gain((OFFICIAL, LAST), (OFFICIAL, &without))?;
        let note = format!(
            "{}A_B of MOS {:.1}, by the retrieved adapter alone {:.1}; the first branch (prototypes of the first adapter) retrieves {:.1} % of the tasks. With official merging {official:+}. Other ablations: {}.",
            undecided(&gain),
            self.mean(MOS, LAST)?,
            self.mean(MOS, &without)?,
            self.mean(MOS, FIRST)?,
            self.list(&[NO_ALIGNMENT, NO_ORTH])?,
        );
        Ok(Finding::new("C5", gain, note).against(self.mean(MOS, &without)?))
    }
}

fn undecided(gain: &Judgement) -> &'static str {
    let spans = gain.estimate.low <= 0.0 && gain.estimate.high >= 0.0;
    if spans { "Not decided: the interval spans 0. " } else { "" }
}

pub(super) fn plots(results: &Results) -> Result<Vec<Plot>> {
    let study = Study::new(results)?;
    let lines = |arms: &[&str]| -> Result<Vec<Series>> {
        let line = |(i, arm): (usize, &&str)| {
            let line = Series::line(*arm, i, &results.mean_series(arm, ACCURACY)?);
            Ok(if arm.starts_with(MOS) { line } else { line.dashed() })
        };
        arms.iter().enumerate().map(line).collect()
    };
    let sweep: Vec<String> = study.config.alphas.iter().map(|a| with_alpha(*a)).collect();
    let mut variants = vec![MOS, NO_MERGING, NO_ALIGNMENT, NO_ORTH];
    variants.extend(sweep.iter().map(String::as_str));
    variants.extend([OFFICIAL, MUTATING]);
    let curve = |name: &str, caption: &str, arms: &[&str]| -> Result<Plot> {
        Ok(Plot::lines(name, caption, "classes seen", "accuracy on them (%)", lines(arms)?))
    };
    let retrieving = [MOS, NO_MERGING, NO_ALIGNMENT, OFFICIAL];
    let retrieval = retrieving.iter().enumerate().map(|(i, arm)| {
        let seeds = results.seeds(arm);
        let all = seeds.iter().map(|s| results.series(arm, *s, RETRIEVAL)).collect::<Result<Vec<_>>>()?;
        let steps = all.iter().map(Vec::len).min().unwrap_or(0);
        let points = (0..steps).map(|k| {
            let (mean, half) = summary(&all.iter().map(|s| s[k].1).collect::<Vec<_>>());
            (all[0][k].0, mean, half)
        });
        Ok(Series::with_intervals(*arm, i, points.collect()))
    });
    let confused = [SIMPLE, SLCA, EASE, MOS];
    let tasks = study.setting.tasks;
    let panels = confused.iter().map(|a| Ok(((*a).to_owned(), tasks, tasks, results.mean_array(a, CONFUSION)?)));
    let last = [FINETUNE, LWF, FINETUNE_ADAPTER, SIMPLE, APER, SLCA, EASE].into_iter().chain(variants.iter().copied());
    let bars = last.enumerate().map(|(i, arm)| {
        let (mean, half) = summary(&results.values(arm, LAST)?);
        Ok((arm.to_owned(), mean, half, i))
    });
    Ok(vec![
        curve(
            "accuracy",
            "Accuracy on all classes seen so far, mean over seeds.",
            &[MOS, SLCA, EASE, APER, SIMPLE, FINETUNE_ADAPTER, LWF, FINETUNE],
        )?,
        curve("variants", "The same for MOS with parts changed.", &variants)?,
        Plot::lines(
            "retrieval",
            "Images whose adapter is that of the true task, by evaluation; the first is the prototypes' guess.",
            "evaluation",
            "right adapter (%)",
            retrieval.collect::<Result<_>>()?,
        ),
        Plot::heat(
            "confusion",
            "Share of each task's test images (rows) whose predicted class belongs to each task (columns), after the last task.",
            panels.collect::<Result<_>>()?,
            0.0,
            1.0,
        ),
        Plot::bars("last", "Accuracy after the last task.", "accuracy (%)", bars.collect::<Result<_>>()?),
    ])
}

#[cfg(test)]
mod tests {
    use super::super::{ModelSurgery, learners};
    use super::*;
    use crate::experiment::{Cell, Experiment as _, Plan};
    use crate::runner::{CellRecord, MetricPoint};

    /// Last accuracies by arm; what parts are worth to MOS; jitter between seeds.
    fn made_up(last: impl Fn(&str) -> f64, parts: [f64; 3], jitter: f64) -> Results {
        let config = ModelSurgery.config(Scale::Small);
        let plan = Plan { seeds: vec![0, 1, 2], ..Plan::trial(Scale::Small, "stroke-glyphs", config) };
        let config: Config = plan.config().unwrap();
        let mut cells = vec![];
        for (arm, _) in learners(&config) {
            for seed in 0..3u64 {
                let mut record = CellRecord::default();
                let mut put = |step: u64, metric: &str, value: f64| {
                    record.metrics.push(MetricPoint { step, metric: metric.to_owned(), value });
                };
                let noise = if arm == MOS { jitter * (seed as f64 - 1.0) } else { 0.0 };
                let end = last(&arm) + seed as f64 + noise;
                put(4, ACCURACY, 90.0);
                put(20, ACCURACY, end);
                put(5, LAST, end);
                put(5, AVERAGE, end + 10.0);
                put(5, FORGETTING, 20.0);
                if arm.starts_with(MOS) {
                    let [refinement, accuracy, ensemble] = parts.map(|p| p + noise);
                    put(2, DISTANCE, 1.0);
                    put(1, RETRIEVAL, 40.0);
                    put(2, RETRIEVAL, 40.0 + refinement);
                    put(5, FIRST, 40.0);
                    put(5, REFINED, 40.0 + refinement);
                    put(5, EVALUATIONS, 1.5);
                    put(5, &variant(NO_REFINEMENT, LAST), end - accuracy);
                    put(5, &variant(NO_ENSEMBLE, LAST), end - ensemble);
                    put(5, &variant(ORACLE_ADAPTER, LAST), end + 10.0);
                    put(5, &variant(ORACLE_TASK, LAST), end + 20.0);
                }
                record.arrays.insert(CONFUSION.into(), vec![0.2; 25]);
                cells.push((Cell::new(arm.clone(), seed), record));
            }
        }
        Results::new(plan, cells)
    }

    fn paper(arm: &str) -> f64 {
        match arm {
            FINETUNE | LWF => 15.0,
            FINETUNE_ADAPTER => 25.0,
            SIMPLE => 40.0,
            APER => 41.0,
            SLCA | EASE => 45.0,
            NO_MERGING => 46.0,
            _ => 50.0,
        }
    }

    fn verdicts(results: &Results) -> Vec<Verdict> {
        let found = findings(results).unwrap();
        assert_eq!(found.iter().map(|f| f.id).collect::<Vec<_>>(), ["C1", "C2", "C3", "C4", "C5"]);
        found.into_iter().map(|f| f.verdict).collect()
    }

    #[test]
    fn what_the_paper_says_is_reproduced_and_can_be_drawn() {
        let results = made_up(paper, [5.0, 2.0, 1.0], 0.1);
        assert_eq!(verdicts(&results), [Verdict::Reproduced; 5]);
        for plot in plots(&results).unwrap() {
            plot.svg().unwrap();
        }
    }

    #[test]
    fn rivals_that_are_better_leave_a_part_and_prototypes_that_are_better_none() {
        let results = made_up(|a| if a == EASE { 52.0 } else { paper(a) }, [5.0, 0.0, 0.0], 0.1);
        let (partly, not) = (Verdict::Partly, Verdict::NotReproduced);
        assert_eq!(verdicts(&results), [partly, partly, Verdict::Reproduced, partly, not]);
        let results = made_up(|a| if a == FINETUNE_ADAPTER { 42.0 } else { paper(a) }, [5.0, 2.0, 1.0], 0.1);
        assert_eq!(verdicts(&results)[0], partly);
        let results = made_up(|a| if a == APER { 51.0 } else { paper(a) }, [-1.0, -1.0, -1.0], 0.1);
        assert_eq!(verdicts(&results), [not, not, Verdict::Reproduced, not, not]);
    }

    #[test]
    fn intervals_over_0_decide_nothing() {
        let results = made_up(|a| if a == NO_MERGING { 49.9 } else { paper(a) }, [0.1, 0.1, 0.1], 3.0);
        let found = findings(&results).unwrap();
        for finding in &found[2..] {
            assert_eq!(finding.verdict, Verdict::NotReproduced);
            assert!(finding.note.starts_with("Not decided"), "{}", finding.note);
        }
    }

    #[test]
    fn a_backbone_without_features_and_learners_that_learned_nothing_are_not_judged() {
        for bad in [SIMPLE, MOS] {
            for value in [7.0, f64::NAN] {
                let results = made_up(|a| if a == bad { value } else { paper(a) }, [5.0, 2.0, 1.0], 0.1);
                assert_eq!(verdicts(&results), [Verdict::NotJudged; 5], "{bad} {value}");
            }
        }
        // An arm that equals another by construction has a difference of 0.
        let same = made_up(|a| if a == NO_MERGING { 50.0 } else { paper(a) }, [0.0, 0.0, 0.0], 0.0);
        assert_eq!(verdicts(&same)[2..], [Verdict::NotReproduced; 3]);
    }
}
