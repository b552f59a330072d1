//! Findings and plots.

use super::{
    BIAS, BIAS_COSINE, BIAS_ERRORS, Config, DM, DSA, FIXED, FREPO, HELD_OUT, KMEANS, KRR, LABELS, MTT, Measure, NONE,
    ONE, OUTER, RANDOM, RANDOM_RIDGE, Setting, TARGET_RIDGE, TOY, size_arm, tasks,
};
use crate::plot::{Picture, Plot, Series};
use crate::results::Results;
use crate::verdict::{self, Finding, Judgement, Verdict};
use anyhow::Result;
use autodidact_core::stats;

/// Standard errors that the bias must exceed, and the largest error of the example.
const ERRORS: f64 = 5.0;
const EXACT: f64 = 1e-6;

/// Images that a cell keeps for the plot.
pub(super) const SHOWN: usize = 10;

struct Study<'a> {
    results: &'a Results,
    setting: Setting,
    tasks: [&'static str; 2],
}

impl Study<'_> {
    fn difference(&self, arm: &str, baseline: &str, metric: &str) -> Result<Judgement> {
        let (a, b) = (self.results.values(arm, metric)?, self.results.values(baseline, metric)?);
        Ok(verdict::difference(&a, &b, 0.0))
    }

    fn described(&self, arms: &[&str], metric: &str) -> Result<String> {
        let words =
            arms.iter().map(|a| Ok(format!("{a} {:.2}", self.results.mean(a, metric)?))).collect::<Result<Vec<_>>>()?;
        Ok(words.join(", "))
    }

    /// C1.
    fn biased(&self) -> Result<Finding> {
        let toy = self.results.values(BIAS, TOY)?;
        let errors = self.results.values(BIAS, BIAS_ERRORS)?;
        let exact = toy.iter().all(|e| *e <= EXACT);
        let above = errors.iter().all(|e| *e > ERRORS);
        let judged = verdict::difference(&errors, &vec![0.0; errors.len()], ERRORS);
        let verdict = match (exact, above) {
            (true, true) => Verdict::Reproduced,
            (true, false) => Verdict::Partly,
            _ => Verdict::NotReproduced,
        };
        let note = format!(
            "Standard errors between the mean of sampled gradients and the gradient of the averaged inner objective (least {:.2}); bias {:.3} of the gradient's norm, cosine {:.3}. The one-dimensional example is met to {:.0e}.",
            errors.iter().copied().fold(f64::INFINITY, f64::min),
            self.results.mean(BIAS, "bias relative to the gradient")?,
            self.results.mean(BIAS, BIAS_COSINE)?,
            toy.iter().copied().fold(0.0, f64::max).max(1e-16),
        );
        Ok(Finding::new("C1", judged, note).against(ERRORS).verdict(verdict.with_seeds(errors.len())))
    }

    /// C2.
    fn transfers(&self) -> Result<Finding> {
        let mut met = 0;
        let mut words = vec![];
        let mut first = None;
        for task in self.tasks {
            let mut holds = true;
            for measure in [Measure::Ridge, Measure::FineTuned] {
                let metric = measure.name(task);
                let gain = self.difference(KRR, NONE, &metric)?;
                let over_real = self.difference(KRR, RANDOM, &metric)?;
                holds &= gain.verdict == Verdict::Reproduced && over_real.estimate.value > 0.0;
                first.get_or_insert(gain);
                words.push(format!("{metric}: over none {gain:+}, over real images {over_real:+}"));
            }
            met += usize::from(holds);
        }
        let first = first.expect("there are two tasks");
        let verdict = [Verdict::NotReproduced, Verdict::Partly, Verdict::Reproduced][met];
        let ridge = Measure::Ridge.name(self.tasks[0]);
        let arms = [NONE, RANDOM, KMEANS, LABELS, DSA, DM, MTT, FREPO, KRR, FIXED, ONE];
        let mut accuracies = vec![];
        for task in self.tasks {
            for measure in [Measure::Ridge, Measure::FineTuned] {
                let metric = measure.name(task);
                accuracies.push(format!("{metric} (%): {}", self.described(&arms, &metric)?));
            }
        }
        let note = format!(
            "Points of the distilled set, first task's ridge accuracy over none. {}. {}. On the source the target network's ridge probe has {:.2} %, a fresh network's {:.2} %.",
            words.join("; "),
            accuracies.join(". "),
            self.results.mean(KRR, TARGET_RIDGE)?,
            self.results.mean(KRR, RANDOM_RIDGE)?,
        );
        let baseline = self.results.mean(NONE, &ridge)?;
        let verdict = verdict.with_seeds(self.results.seeds(KRR).len());
        Ok(Finding::new("C2", first, note).against(baseline).verdict(verdict))
    }

    /// C3.
    fn architectures(&self) -> Result<Finding> {
        let mut gains = vec![];
        let mut words = vec![];
        for task in self.tasks {
            let metric = Measure::Other.name(task);
            let gain = self.difference(KRR, NONE, &metric)?;
            let over_real = self.difference(KRR, RANDOM, &metric)?;
            words.push(format!(
                "{task}: over none {gain:+}, over real images {over_real:+} ({})",
                self.described(&[NONE, RANDOM, KRR], &metric)?
            ));
            gains.push(gain);
        }
        let verdict = Verdict::all(&gains.iter().map(|g| g.verdict).collect::<Vec<_>>());
        let note = format!("Points of ridge accuracy over none on the first task. {}.", words.join("; "));
        let baseline = self.results.mean(NONE, &Measure::Other.name(self.tasks[0]))?;
        Ok(Finding::new("C3", gains[0], note).against(baseline).verdict(verdict))
    }

    /// C5.
    fn targets_matter(&self) -> Result<Finding> {
        let (learned, fixed) = (self.results.values(KRR, HELD_OUT)?, self.results.values(FIXED, HELD_OUT)?);
        let judged = verdict::ratio(&learned, &fixed, 0.0);
        let lower = learned.iter().zip(&fixed).all(|(a, b)| a < b);
        let note = format!(
            "Held-out outer loss with learned over with fixed targets (geometric mean of the ratio); means {:.5} and {:.5}, with a pool of one network {:.5}.",
            stats::mean(&learned),
            stats::mean(&fixed),
            self.results.mean(ONE, HELD_OUT)?
        );
        let verdict = Verdict::of(lower).with_seeds(learned.len());
        Ok(Finding::new("C5", judged, note).against(1.0).verdict(verdict))
    }
}

fn study(results: &Results) -> Result<Study<'_>> {
    let config: Config = results.plan().config()?;
    let dataset = &results.plan().dataset;
    Ok(Study { results, setting: config.of(dataset).clone(), tasks: tasks(dataset) })
}

pub(super) fn findings(results: &Results) -> Result<Vec<Finding>> {
    let study = study(results)?;
    Ok(vec![
        study.biased()?,
        study.transfers()?,
        study.architectures()?,
        Finding::not_judged("C4", "Distillation of a teacher without its data is not run."),
        study.targets_matter()?,
    ])
}

pub(super) fn plots(results: &Results) -> Result<Vec<Plot>> {
    let study = study(results)?;
    let n = results.plan().seeds.len();
    let mut losses = vec![];
    for (i, arm) in [KRR, FIXED, ONE].into_iter().enumerate() {
        losses.push(Series::line(format!("{arm}, batch"), i, &results.mean_series(arm, OUTER)?).dashed());
        let held_out = results.mean_series(arm, "held-out outer loss, pool")?;
        losses.push(Series::line(format!("{arm}, held out"), i, &held_out));
    }
    let mut plots = vec![
        Plot::lines(
            "outer-loss",
            "Outer loss on batches of the source and on held-out images, with the pool's networks; means over seeds.",
            "outer step",
            "mean squared error",
            losses,
        )
        .log(false, true),
    ];
    for task in study.tasks {
        for (measure, what) in [(Measure::Ridge, "ridge"), (Measure::FineTuned, "fine-tuned")] {
            let mut bars = vec![];
            for (i, (arm, _)) in study.setting.arms().iter().enumerate() {
                let (mean, half) = verdict::summary(&results.values(arm, &measure.name(task))?);
                bars.push((arm.clone(), mean, half, i));
            }
            let caption = format!(
                "{task}: {what} test accuracy after pre-training on the set; means of {n} seeds with 95 % intervals."
            );
            plots.push(Plot::bars(&format!("{what}-{task}"), &caption, "test accuracy (%)", bars));
        }
    }
    let mut sizes: Vec<(usize, String)> = study.setting.smaller.iter().map(|m| (*m, size_arm(*m))).collect();
    sizes.push((study.setting.size, KRR.to_owned()));
    sizes.sort();
    let mut by_size = vec![];
    for (i, task) in study.tasks.into_iter().enumerate() {
        let mut points = vec![];
        for (m, arm) in &sizes {
            let (mean, half) = verdict::summary(&results.values(arm, &Measure::Ridge.name(task))?);
            points.push((*m as f64, mean, half));
        }
        by_size.push(Series::with_intervals(task, i, points));
        let none = results.mean(NONE, &Measure::Ridge.name(task))?;
        let ends = [sizes[0].0 as f64, study.setting.size as f64];
        by_size.push(Series::line(format!("{task}, none"), i, &ends.map(|m| (m, none))).dashed());
    }
    plots.push(Plot::lines(
        "size",
        "Ridge accuracy by the number of distilled images; means over seeds with 95 % intervals.",
        "distilled images",
        "test accuracy (%)",
        by_size,
    ));
    plots.push(pictures(&study)?);
    Ok(plots)
}

/// The first images of a few arms' sets, of the first seed.
fn pictures(study: &Study<'_>) -> Result<Plot> {
    let side = study.setting.side as usize;
    let shown = SHOWN.min(study.setting.size);
    let mut rows = vec![];
    for arm in [RANDOM, KRR, FREPO, DSA, DM, MTT] {
        let values = study.results.array(arm, study.results.seeds(arm)[0], "images")?;
        let pictures = values.chunks_exact(values.len() / shown).map(|v| Picture::of_values(v, side, -2.0, 2.0));
        rows.push((arm.to_owned(), pictures.collect()));
    }
    let caption = "The first images of a set, first seed: real ones, and what distillation makes of some.";
    Ok(Plot::pictures("images", caption, rows))
}
