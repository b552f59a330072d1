//! Findings and plots.

use super::{
    ABOVE, ACCURACY, ALIGNED, BACKBONE_CONFLICTS, BACKBONE_COSINE, BINARY, CE, CE_BINARY, CE_NORM, Config, DIVERGED,
    EDGE, HEAD_CONFLICTS, HEAD_COSINE, KD, LINEAR, MARGINS, MLP, NC1, PLAIN, SINGLE, STEEP, TEACHER, VALIDATION,
};
use crate::plot::{Plot, Series};
use crate::results::Results;
use crate::verdict::{self, Finding, Judgement, Verdict};
use anyhow::Result;
use autodidact_core::stats;

/// By how much the classifier's cosine must be below the backbone's.
const GAP: f64 = 0.1;

struct Study<'a> {
    results: &'a Results,
    config: Config,
}

impl Study<'_> {
    /// The arm of a method that is best on validation images, by mean.
    fn chosen(&self, method: &str) -> Result<String> {
        let mut best = (f64::NEG_INFINITY, String::new());
        for arm in self.config.candidates(method) {
            let mean = self.results.mean(&arm, VALIDATION)?;
            if mean > best.0 {
                best = (mean, arm);
            }
        }
        Ok(best.1)
    }

    fn accuracy(&self, method: &str) -> Result<Vec<f64>> {
        self.results.values(&self.chosen(method)?, ACCURACY)
    }

    fn mean(&self, method: &str) -> Result<f64> {
        Ok(stats::mean(&self.accuracy(method)?))
    }

    fn difference(&self, method: &str, baseline: &str) -> Result<Judgement> {
        Ok(verdict::difference(&self.accuracy(method)?, &self.accuracy(baseline)?, 0.0))
    }

    /// Chosen arms and their mean accuracies.
    fn described(&self, methods: &[&str]) -> Result<String> {
        let words = methods.iter().map(|m| Ok(format!("{} {:.2}", self.chosen(m)?, self.mean(m)?)));
        Ok(words.collect::<Result<Vec<_>>>()?.join(", "))
    }

    /// C1.
    fn one_head_suffers(&self) -> Result<Finding> {
        // How much better each is alone.
        let (ce, binary) = (self.difference(CE, CE_BINARY)?, self.difference(BINARY, CE_BINARY)?);
        let verdict = Verdict::all(&[ce.verdict, binary.verdict]);
        let loss = self.difference(CE_BINARY, BINARY)?;
        let mut note = format!(
            "Points of the sum over BinaryKL alone; over cross entropy alone {:+}. Accuracy (%): {}.",
            self.difference(CE_BINARY, CE)?,
            self.described(&SINGLE)?
        );
        note += &self.at_steep()?;
        note += &self.where_outgrown()?;
        Ok(Finding::new("C1", loss, note).against(self.mean(BINARY)?).verdict(verdict))
    }

    /// What the steep pair does.
    fn at_steep(&self) -> Result<String> {
        let Some(steep) = self.config.steep else { return Ok(String::new()) };
        let mut words = vec![];
        for method in self.config.methods().iter().filter(|m| STEEP.contains(&m.name)) {
            let arm = Config::name(method, steep);
            let diverged = self.results.values(&arm, DIVERGED)?.iter().filter(|d| **d > 0.0).count();
            let runs = self.results.seeds(&arm).len();
            let mean = self.results.mean(&arm, ACCURACY)?;
            words.push(format!("{} {mean:.2} (no finite loss in {diverged} of {runs} runs)", method.name));
        }
        Ok(format!(" At alpha {}, rate {}: {}.", steep.alpha, steep.lr, words.join(", ")))
    }

    /// The same comparison where students can outgrow the teacher.
    fn where_outgrown(&self) -> Result<String> {
        let Some(outgrown) = &self.config.outgrown else { return Ok(String::new()) };
        let arm = |m: &str| Config::outgrown_name(m);
        let values = |m: &str| self.results.values(&arm(m), ACCURACY);
        let over = |m: &str| -> Result<Judgement> { Ok(verdict::difference(&values(CE_BINARY)?, &values(m)?, 0.0)) };
        let above = match self.results.mean(&arm(CE_BINARY), ABOVE) {
            Ok(share) => format!("; its target logits are above the teacher's on {:.0} % of images", 100.0 * share),
            Err(_) => String::new(),
        };
        Ok(format!(
            " Against a teacher with label smoothing {}, without weight decay, {} epochs: the sum {:.2} %, over BinaryKL {:+}, over cross entropy {:+}{above}.",
            outgrown.smoothing,
            outgrown.epochs,
            stats::mean(&values(CE_BINARY)?),
            over(BINARY)?,
            over(CE)?,
        ))
    }

    /// Of a metric, the mean over the last third of the epochs, by seed.
    fn late(&self, arm: &str, metric: &str) -> Result<Vec<f64>> {
        let of = |seed| -> Result<f64> {
            let series = self.results.series(arm, seed, metric)?;
            let late = &series[series.len() - series.len().div_ceil(3)..];
            Ok(stats::mean(&late.iter().map(|p| p.1).collect::<Vec<_>>()))
        };
        self.results.seeds(arm).into_iter().map(of).collect()
    }

    /// C2.
    fn conflict(&self) -> Result<Finding> {
        let arm = self.chosen(CE_BINARY)?;
        let diverged = self.results.values(&arm, DIVERGED)?;
        if diverged.iter().any(|d| *d > 0.0) {
            return Ok(Finding::not_judged("C2", "some runs of the arm had no finite loss"));
        }
        let (head, backbone) = (self.late(&arm, HEAD_COSINE)?, self.late(&arm, BACKBONE_COSINE)?);
        let pairs: Vec<_> = head.iter().zip(&backbone).collect();
        let apart = pairs.iter().all(|(h, b)| **h < **b - GAP);
        let verdict = match () {
            _ if apart && head.iter().all(|h| *h < 0.0) => Verdict::Reproduced,
            _ if pairs.iter().all(|(h, b)| h < b) => Verdict::Partly,
            _ => Verdict::NotReproduced,
        };
        let gap = verdict::difference(&head, &backbone, 0.0);
        let (mean, range) = (stats::mean(&head), |v: &[f64]| {
            let (low, high) = stats::extent(v.iter().copied());
            format!("{low:.2} to {high:.2}")
        });
        let mut note = format!(
            "Cosine in the classifier minus in the backbone, {arm}. Classifier {mean:.2} (seeds {}), conflicts in {:.0} % of batches; backbone {:.2} (seeds {}), {:.0} %.",
            range(&head),
            100.0 * stats::mean(&self.late(&arm, HEAD_CONFLICTS)?),
            stats::mean(&backbone),
            range(&backbone),
            100.0 * stats::mean(&self.late(&arm, BACKBONE_CONFLICTS)?),
        );
        if self.config.outgrown.is_some()
            && let Ok(head) = self.late(&Config::outgrown_name(CE_BINARY), HEAD_COSINE)
        {
            let backbone = self.late(&Config::outgrown_name(CE_BINARY), BACKBONE_COSINE)?;
            note += &format!(
                " Where students can outgrow the teacher: classifier {:.2}, backbone {:.2}.",
                stats::mean(&head),
                stats::mean(&backbone)
            );
        }
        Ok(Finding::new("C2", gap, note).verdict(verdict.with_seeds(head.len())))
    }

    /// The auxiliary head that is better on validation images.
    fn dhkd(&self) -> Result<&'static str> {
        let of = |m: &str| -> Result<f64> { self.results.mean(&self.chosen(m)?, VALIDATION) };
        Ok(if of(MLP)? > of(LINEAR)? { MLP } else { LINEAR })
    }

    /// C3.
    fn two_heads_help(&self) -> Result<Finding> {
        let dhkd = self.dhkd()?;
        let (gain, over_one, over_kd) =
            (self.difference(dhkd, CE)?, self.difference(dhkd, CE_NORM)?, self.difference(dhkd, KD)?);
        let verdict = match gain.verdict {
            Verdict::Reproduced if over_one.estimate.value <= 0.0 => Verdict::Partly,
            v => v,
        };
        let note = format!(
            "Points over cross entropy; over one classifier with both losses {over_one:+}, over KD {over_kd:+}. Accuracy (%): teacher {:.2}, {}.",
            self.results.mean(&self.chosen(CE)?, TEACHER)?,
            self.described(&[CE, KD, CE_NORM, LINEAR, MLP, ALIGNED])?
        );
        Ok(Finding::new("C3", gain, note).against(self.mean(CE)?).verdict(verdict))
    }

    /// C4.
    fn normalised(&self) -> Result<Finding> {
        let gain = self.difference(LINEAR, PLAIN)?;
        let verdict = Verdict::of(gain.estimate.value > 0.0).with_seeds(self.accuracy(LINEAR)?.len());
        let note = format!("Points over BinaryKL. Accuracy (%): {}.", self.described(&[PLAIN, LINEAR])?);
        Ok(Finding::new("C4", gain, note).against(self.mean(PLAIN)?).verdict(verdict))
    }
}

fn study(results: &Results) -> Result<Study<'_>> {
    Ok(Study { results, config: results.plan().config()? })
}

pub(super) fn findings(results: &Results) -> Result<Vec<Finding>> {
    let study = study(results)?;
    Ok(vec![study.one_head_suffers()?, study.conflict()?, study.two_heads_help()?, study.normalised()?])
}

pub(super) fn plots(results: &Results) -> Result<Vec<Plot>> {
    let study = study(results)?;
    let n = results.plan().seeds.len();
    let mut bars = vec![];
    for (i, arm) in results.arms().into_iter().enumerate() {
        let (mean, half) = verdict::summary(&results.values(arm, ACCURACY)?);
        bars.push((arm.to_owned(), mean, half, i));
    }
    // A run without a finite loss has no series.
    let series = |arm: &str, metric: &str| results.mean_series(arm, metric).ok();
    let (single, dual) = (study.chosen(CE_BINARY)?, study.chosen(LINEAR)?);
    let (norm, outgrown) = (study.chosen(CE_NORM)?, Config::outgrown_name(CE_BINARY));
    let mut cosines = vec![];
    for (i, arm) in [&single, &norm, &dual].into_iter().enumerate() {
        cosines.extend(series(arm, HEAD_COSINE).map(|s| Series::line(format!("classifier, {arm}"), i, &s)));
        cosines.extend(series(arm, BACKBONE_COSINE).map(|s| Series::line(format!("backbone, {arm}"), i, &s).dashed()));
    }
    let mut margins = vec![];
    for (i, arm) in [&single, &dual, &outgrown].into_iter().enumerate() {
        let seeds = results.seeds(arm);
        let mut shares = vec![0.0; 2 * EDGE as usize];
        let mut runs = 0;
        for values in seeds.iter().filter_map(|seed| results.array(arm, *seed, MARGINS).ok()) {
            shares.iter_mut().zip(values).for_each(|(s, v)| *s += v);
            runs += 1;
        }
        if runs > 0 {
            let at = |bin: usize| bin as f64 - EDGE as f64 + 0.5;
            let points: Vec<_> = shares.iter().enumerate().map(|(b, s)| (at(b), s / runs as f64)).collect();
            margins.push(Series::line(arm, i, &points));
        }
    }
    let mut collapse = vec![];
    for (i, method) in [CE, BINARY, CE_BINARY, CE_NORM, KD, LINEAR, MLP].into_iter().enumerate() {
        let arm = study.chosen(method)?;
        collapse.extend(series(&arm, NC1).map(|s| Series::line(arm, i, &s)));
    }
    let mut plots = vec![Plot::bars(
        "accuracy",
        &format!("Test accuracy of the student in every arm; means of {n} seeds (fewer of some) with 95 % intervals."),
        "test accuracy (%)",
        bars,
    )];
    plots.extend((!cosines.is_empty()).then(|| {
        Plot::lines(
            "cosines",
            "Cosine of the gradients of cross entropy and logit loss on training images; means over seeds.",
            "step",
            "cosine of the gradients",
            cosines,
        )
    }));
    plots.extend((!margins.is_empty()).then(|| {
        Plot::lines(
            "margins",
            "The classifier's target logit less the teacher's, on training images: histograms, means over seeds.",
            "student minus teacher target logit",
            "share of images",
            margins,
        )
    }));
    plots.extend((!collapse.is_empty()).then(|| {
        Plot::lines(
            "collapse",
            "Variability within classes over that between them (NC1), on training images; means over seeds.",
            "step",
            "NC1",
            collapse,
        )
        .log(false, true)
    }));
    Ok(plots)
}
