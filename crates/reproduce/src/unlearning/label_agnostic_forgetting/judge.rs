//! Verdicts and plots.

use super::{
    AFTER, ALIGNMENT_LOSS, ASR, BEFORE, Config, Method, RELEARN, TEST, TEST_F, TEST_R, TRAIN_F, TRAIN_R, Task,
    UNLEARNING_LOSS, arm,
};
use crate::plot::{Plot, Series};
use crate::results::Results;
use crate::verdict::{self, Finding, Judgement, Verdict, summary};
use anyhow::Result;
use autodidact_core::stats;

pub(super) fn findings(results: &Results) -> Result<Vec<Finding>> {
    let study = Study { results };
    Ok(vec![study.class()?, study.repaired()?, study.both_losses()?, study.noise()?, study.data()?])
}

/// Retraining and the original differ by less than this on the forgotten training data: there is nothing to see (points).
const DECIDABLE: f64 = 3.0;

struct Study<'a> {
    results: &'a Results,
}

impl Study<'_> {
    fn values(&self, task: Task, method: Method, metric: &str) -> Result<Vec<f64>> {
        self.results.values(&arm(task, method), metric)
    }

    fn mean(&self, task: Task, method: Method, metric: &str) -> Result<f64> {
        Ok(stats::mean(&self.values(task, method, metric)?))
    }

    /// Distance to retraining, by seed.
    fn distance(&self, task: Task, method: Method) -> Result<Vec<f64>> {
        let mut sum = vec![];
        for metric in [TRAIN_R, TRAIN_F, TEST] {
            let (of, to) = (self.values(task, method, metric)?, self.values(task, Method::Retrain, metric)?);
            let each = of.iter().zip(&to).map(|(a, b)| (a - b).abs());
            sum = if sum.is_empty() { each.collect() } else { sum.iter().zip(each).map(|(s, e)| s + e).collect() };
        }
        Ok(sum)
    }

    fn seeds(&self, task: Task) -> usize {
        self.results.seeds(&arm(task, Method::Laf)).len()
    }

    /// Mean distances of the supervised baselines, ascending.
    fn supervised(&self, task: Task) -> Result<Vec<(f64, Method)>> {
        let each = Method::supervised().map(|m| Ok((stats::mean(&self.distance(task, m)?), m)));
        let mut all = each.collect::<Result<Vec<_>>>()?;
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        Ok(all)
    }

    fn median(&self, task: Task) -> Result<f64> {
        Ok(stats::median(&self.supervised(task)?.into_iter().map(|d| d.0).collect::<Vec<_>>()))
    }

    /// By how much retraining and the original differ on what is forgotten (mean over seeds).
    fn gap(&self, task: Task) -> Result<f64> {
        let of = |m| self.mean(task, m, TRAIN_F);
        Ok((of(Method::Original)? - of(Method::Retrain)?).abs())
    }

    /// Whether baselines have rates that were chosen on these data.
    fn tuned(&self) -> bool {
        self.results.plan().dataset == "digits"
    }

    /// Why a claim that compares with baselines is not judged.
    fn incomparable(&self, task: Task) -> Result<Option<String>> {
        if !self.tuned() {
            return Ok(Some("The rates of the baselines were chosen on digits, not on these data.".to_owned()));
        }
        self.undecidable(task)
    }

    fn undecidable(&self, task: Task) -> Result<Option<String>> {
        let gap = self.gap(task)?;
        Ok((gap.is_nan() || gap < DECIDABLE).then(|| {
            format!(
                "Not decidable: on the data to forget the original and retraining differ by {gap:.1} points, less than {DECIDABLE}."
            )
        }))
    }

    /// All methods of a task in numbers.
    fn table(&self, task: Task) -> Result<String> {
        let mut words = vec![];
        for method in Method::ALL {
            let of = |metric: &str| self.mean(task, method, metric);
            let mut line = format!("{} {:.1} / {:.1} / {:.1}", method.name(), of(TRAIN_R)?, of(TRAIN_F)?, of(TEST)?);
            if method != Method::Retrain {
                line += &format!(", D {:.1}", stats::mean(&self.distance(task, method)?));
            }
            words.push(format!("{line}, attack {:.0}", of(ASR)?));
        }
        Ok(format!("Accuracy in % on remaining / forgotten training data / test data: {}.", words.join("; ")))
    }

    /// C1.
    fn class(&self) -> Result<Finding> {
        let task = Task::Class;
        if let Some(why) = self.incomparable(task)? {
            return Ok(Finding::not_judged("C1", format!("{why} {}", self.table(task)?)));
        }
        let of = |m, metric: &str| self.mean(task, m, metric);
        let (forgotten, kept) = (of(Method::Laf, TEST_F)?, of(Method::Laf, TEST_R)?);
        let gold = of(Method::Retrain, TEST_R)?;
        let (distance, median) = (self.distance(task, Method::Laf)?, self.median(task)?);
        let accurate = forgotten <= 5.0 && kept >= gold - 4.0;
        let verdict = match (accurate, stats::mean(&distance) <= median) {
            (true, true) => Verdict::Reproduced,
            (true, false) => Verdict::Partly,
            _ => Verdict::NotReproduced,
        };
        let relearn: Vec<String> = Method::ALL
            .into_iter()
            .filter(|m| *m != Method::Sisa)
            .map(|m| Ok(format!("{} {:.0}", m.name(), of(m, RELEARN)?)))
            .collect::<Result<_>>()?;
        let note = format!(
            "LAF: test images of the class {forgotten:.1} %, of the others {kept:.1} % (retraining {gold:.1} %); D {:.1}, median of the supervised baselines {median:.1}. {} Steps until the class is known again ({} is given up at): {}. Shown: D of LAF.",
            stats::mean(&distance),
            self.table(task)?,
            self.results.plan().config::<Config>()?.relearn_steps,
            relearn.join(", "),
        );
        let judgement = Judgement { estimate: verdict::estimate(&distance), verdict };
        Ok(Finding::new("C1", judgement, note).against(median).verdict(verdict.with_seeds(self.seeds(task))))
    }

    /// C2.
    fn repaired(&self) -> Result<Finding> {
        let (mut parts, mut words, mut shown) = (vec![], vec![], None);
        for task in [Task::Class, Task::Noise] {
            if let Some(why) = self.incomparable(task)? {
                return Ok(Finding::not_judged("C2", why));
            }
            let (with, without) = (self.distance(task, Method::LafRepaired)?, self.distance(task, Method::Laf)?);
            let lower = verdict::difference(&without, &with, 0.0);
            let best = self.supervised(task)?[0];
            let near = stats::mean(&with) <= best.0 + 2.0;
            let met = lower.verdict == Verdict::Reproduced && near;
            parts.push(Verdict::of(met).with_seeds(with.len()));
            words.push(format!(
                "{}: D {:.1} with labels, {:.1} without ({lower} lower), best supervised baseline {} {:.1}",
                task.name(),
                stats::mean(&with),
                stats::mean(&without),
                best.1.name(),
                best.0
            ));
            shown = Some(lower);
        }
        let Some(shown) = shown else { return Ok(Finding::not_judged("C2", "No task.")) };
        let note = format!("{}. Shown: by how much D is lower with labels, noisy labels.", words.join("; "));
        Ok(Finding::new("C2", shown, note).against(0.0).verdict(Verdict::all(&parts)))
    }

    /// C3.
    fn both_losses(&self) -> Result<Finding> {
        let task = Task::Class;
        if let Some(why) = self.undecidable(task)? {
            return Ok(Finding::not_judged("C3", why));
        }
        let laf = self.distance(task, Method::Laf)?;
        let of = |m| Ok::<_, anyhow::Error>(verdict::difference(&self.distance(task, m)?, &laf, 0.0));
        let (unlearning, alignment) = (of(Method::UnlearningOnly)?, of(Method::AlignmentOnly)?);
        let sigmoid = of(Method::SigmoidDecoder)?;
        let note = format!(
            "D minus LAF's, in points: unlearning alone {unlearning:+}, alignment alone {alignment:+}; with the official sigmoid decoder {sigmoid:+}. Accuracies stand with C1. Shown: unlearning alone."
        );
        let verdict = Verdict::all(&[unlearning.verdict, alignment.verdict]);
        Ok(Finding::new("C3", unlearning, note).against(0.0).verdict(verdict))
    }

    /// C4.
    fn noise(&self) -> Result<Finding> {
        let task = Task::Noise;
        if let Some(why) = self.undecidable(task)? {
            return Ok(Finding::not_judged("C4", why));
        }
        let original = self.values(task, Method::Original, TEST)?;
        let gain = |m| Ok::<_, anyhow::Error>(verdict::difference(&self.values(task, m, TEST)?, &original, 0.0));
        let met = |j: &Judgement| j.verdict == Verdict::Reproduced && j.estimate.value > 2.0;
        let (laf, repaired) = (gain(Method::Laf)?, gain(Method::LafRepaired)?);
        let verdict = match (met(&laf), met(&repaired)) {
            (true, _) => Verdict::Reproduced,
            (false, true) => Verdict::Partly,
            _ => Verdict::NotReproduced,
        };
        let note = format!(
            "Test accuracy minus the original's, in points: LAF {laf:+}, LAF+R {repaired:+}, retraining {:+}. {} Shown: LAF.",
            gain(Method::Retrain)?,
            self.table(task)?
        );
        Ok(Finding::new("C4", laf, note).against(0.0).verdict(verdict.with_seeds(self.seeds(task))))
    }

    /// C5.
    fn data(&self) -> Result<Finding> {
        let task = Task::Data;
        let attack = |m| self.mean(task, m, ASR);
        let numbers = format!(
            "{} Attack: LAF minus retraining {:+.1} points.",
            self.table(task)?,
            attack(Method::Laf)? - attack(Method::Retrain)?
        );
        if let Some(why) = self.incomparable(task)? {
            return Ok(Finding::not_judged("C5", format!("{why} {numbers}")));
        }
        let (distance, median) = (self.distance(task, Method::Laf)?, self.median(task)?);
        let gain = verdict::difference(&self.distance(task, Method::Original)?, &distance, 0.0);
        let verdict = match gain.verdict {
            Verdict::Reproduced => Verdict::of(stats::mean(&distance) <= median),
            verdict => verdict,
        };
        let note = format!(
            "D of LAF {:.1}, median of the supervised baselines {median:.1}; D of the original is {gain:+} points larger. {numbers}",
            stats::mean(&distance)
        );
        Ok(Finding::new("C5", Judgement { estimate: verdict::estimate(&distance), verdict }, note).against(median))
    }
}

pub(super) fn plots(results: &Results) -> Result<Vec<Plot>> {
    let study = Study { results };
    let config: Config = results.plan().config()?;
    let mut plots = vec![];
    for task in Task::ALL {
        let bars = Method::ALL.into_iter().filter(|m| *m != Method::Retrain).map(|m| {
            let (mean, half) = summary(&study.distance(task, m)?);
            let colour = usize::from(Method::supervised().any(|s| s == m));
            Ok((m.name().to_owned(), mean, half, if m == Method::Original { 2 } else { colour }))
        });
        let name = format!("distance-{}", task.name().replace(' ', "-"));
        let caption = format!("Distance to retraining, {}: LAF, baselines with labels, and the original.", task.name());
        plots.push(Plot::bars(&name, &caption, "D (points)", bars.collect::<Result<_>>()?));
    }
    let mut losses = vec![];
    for (i, task) in [Task::Class, Task::Noise].into_iter().enumerate() {
        let epochs = config.setting(results.plan()).rates(task).epochs;
        for (metric, dashed) in [(UNLEARNING_LOSS, false), (ALIGNMENT_LOSS, true)] {
            let points = results.mean_series(&arm(task, Method::Laf), metric)?;
            let points: Vec<(f64, f64)> = points.into_iter().filter(|p| p.0 <= epochs as f64).collect();
            let series = Series::line(format!("{}: {metric}", task.name()), i, &points);
            losses.push(if dashed { series.dashed() } else { series });
        }
    }
    plots.push(Plot::lines("losses", "Both losses of LAF, means of epochs over seeds.", "epoch", "loss", losses));
    let laf = arm(Task::Class, Method::Laf);
    if let Some(&seed) = results.seeds(&laf).first() {
        for (array, name, when) in [(BEFORE, "before", "before"), (AFTER, "after", "after")] {
            let rows: Vec<&[f64]> = results.array(&laf, seed, array)?.chunks_exact(3).collect();
            let mut classes: Vec<i64> = rows.iter().map(|r| r[2] as i64).collect();
            classes.sort_unstable();
            classes.dedup();
            let of = |class: i64| -> Vec<(f64, f64)> {
                rows.iter().filter(|r| r[2] as i64 == class).map(|r| (r[0], r[1])).collect()
            };
            // The forgotten class has a colour of its own; there are fewer colours than classes.
            let colour = |class: i64| if class == 0 { 0 } else { 1 + (class as usize - 1) % 7 };
            let dots = classes.iter().map(|&c| Series::line(c.to_string(), colour(c), &of(c)).dots()).collect();
            let caption = format!(
                "Embeddings of test images {when} class 0 is forgotten, on two principal axes of those before, by class."
            );
            plots.push(Plot::lines(&format!("embeddings-{name}"), &caption, "first axis", "second axis", dots));
        }
    }
    Ok(plots)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::{Cell, Experiment, Plan, Scale};
    use crate::runner::{CellRecord, MetricPoint};
    use crate::unlearning::LabelAgnosticForgetting;

    /// Made-up accuracies `(remaining, forgotten, test, other classes, the class)` of every method of a task.
    fn trial(of: impl Fn(Task, Method, u64) -> [f64; 5]) -> Vec<Finding> {
        let mut plan = Plan::trial(Scale::Small, "digits", LabelAgnosticForgetting.config(Scale::Small));
        plan.seeds = vec![0, 1, 2];
        let mut cells = vec![];
        for &seed in &plan.seeds {
            for (task, method) in Task::ALL.into_iter().flat_map(|t| Method::ALL.map(|m| (t, m))) {
                let values = of(task, method, seed);
                let mut record = CellRecord::default();
                let point = |metric: &str, value| MetricPoint { step: 1, metric: metric.into(), value };
                record.metrics =
                    [TRAIN_R, TRAIN_F, TEST, TEST_R, TEST_F].iter().zip(values).map(|(m, v)| point(m, v)).collect();
                record.metrics.extend([point(ASR, 50.0), point(RELEARN, 3.0)]);
                cells.push((Cell::new(arm(task, method), seed), record));
            }
        }
        findings(&Results::new(plan, cells)).unwrap()
    }

    fn verdicts(of: impl Fn(Task, Method, u64) -> [f64; 5]) -> Vec<Verdict> {
        trial(of).into_iter().map(|f| f.verdict).collect()
    }

    #[test]
    fn a_study_in_which_everything_holds_and_one_in_which_nothing_is_forgotten() {
        use Verdict::{NotJudged, NotReproduced, Reproduced};
        let held = |task: Task, method: Method, seed: u64| {
            let jitter = 0.1 * seed as f64;
            match (task, method) {
                (Task::Data, Method::Original) => [100.0, 99.0, 97.0, 97.0, 97.0],
                (Task::Data, _) => [100.0, 97.0, 97.0, 97.0, 97.0],
                (_, Method::Original) => [99.0, 99.0, 85.0, 97.0, 99.0],
                (_, Method::Retrain) => [99.0, 0.0, 90.0, 98.0, 0.0],
                (_, Method::Laf) => [97.0 + jitter, 1.0, 89.0, 96.0, 1.0],
                (_, Method::LafRepaired) => [99.0, 1.0 + jitter, 90.0, 98.0, 1.0],
                (_, Method::UnlearningOnly | Method::AlignmentOnly) => [80.0 + jitter, 60.0, 80.0, 80.0, 60.0],
                _ => [95.0, 9.0 + jitter, 88.0, 95.0, 8.0],
            }
        };
        assert_eq!(verdicts(held), [Reproduced, Reproduced, Reproduced, Reproduced, NotJudged]);
        // Methods that leave the original as it is.
        let idle = |task: Task, method: Method, seed: u64| match method {
            Method::Retrain => held(task, method, seed),
            _ => held(task, Method::Original, seed),
        };
        assert_eq!(verdicts(idle), [NotReproduced, NotReproduced, NotReproduced, NotReproduced, NotJudged]);
        // With a gap that can be seen an idle method is not as good as the others, though they are no better.
        let gap = |task: Task, method: Method, seed: u64| match (task, method) {
            (Task::Data, Method::Retrain) => [100.0, 90.0, 97.0, 97.0, 97.0],
            (Task::Data, _) => [100.0, 99.0, 97.0, 97.0, 97.0],
            _ => idle(task, method, seed),
        };
        assert_eq!(verdicts(gap)[4], NotReproduced);
        // Retraining that knows what it never saw leaves nothing to judge.
        let known = |_: Task, _: Method, _: u64| [99.0, 99.0, 97.0, 97.0, 97.0];
        assert_eq!(verdicts(known), [NotJudged; 5]);
    }
}
