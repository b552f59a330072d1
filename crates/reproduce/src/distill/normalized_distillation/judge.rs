//! Findings and plots.

use super::{
    ACCURACY, CE, COST, Config, DKD, NORMALISED, OVERHEAD, OVERHEAD_STUDENT, RANDOM, SMOOTHING, STUDENT_MASS, TARGET,
    TEACHER, TEACHER_MASS, UNNORMALISED, USKD, kd_arm, nkd_arm,
};
use crate::plot::{Plot, Series};
use crate::results::Results;
use crate::verdict::{self, Finding, Judgement, Verdict};
use anyhow::Result;
use autodidact_core::stats;

/// Points by which the teacher must be better than a student without it.
const LEAD: f64 = 5.0;

struct Study<'a> {
    results: &'a Results,
    config: Config,
}

impl Study<'_> {
    fn accuracy(&self, arm: &str) -> Result<Vec<f64>> {
        self.results.values(arm, ACCURACY)
    }

    fn mean(&self, arm: &str) -> Result<f64> {
        self.results.mean(arm, ACCURACY)
    }

    fn nkd(&self) -> Result<String> {
        self.results.best(self.config.temperatures.iter().map(|t| nkd_arm(*t)), ACCURACY)
    }

    fn kd(&self) -> Result<String> {
        self.results.best(self.config.kd_temperatures.iter().map(|t| kd_arm(*t)), ACCURACY)
    }

    fn difference(&self, arm: &str, baseline: &str) -> Result<Judgement> {
        Ok(verdict::difference(&self.accuracy(arm)?, &self.accuracy(baseline)?, 0.0))
    }

    /// Names and mean accuracies of arms.
    fn described(&self, arms: &[&str]) -> Result<String> {
        let words = arms.iter().map(|a| Ok(format!("{a} {:.2}", self.mean(a)?))).collect::<Result<Vec<_>>>()?;
        Ok(words.join(", "))
    }

    /// C1.
    fn nkd_beats(&self) -> Result<Finding> {
        let (nkd, kd) = (self.nkd()?, self.kd()?);
        let (gain, over_kd) = (self.difference(&nkd, CE)?, self.difference(&nkd, &kd)?);
        let teacher = self.results.mean(CE, TEACHER)?;
        let lead = teacher - self.mean(CE)?;
        let verdict = match gain.verdict {
            Verdict::Reproduced if lead < LEAD => Verdict::NotJudged,
            Verdict::Reproduced if over_kd.estimate.value <= 0.0 => Verdict::Partly,
            v => v,
        };
        let weak = if lead < LEAD { " The teacher is too weak for a verdict." } else { "" };
        let note = format!(
            "Points over cross entropy; over KD {over_kd:+}. Accuracy (%): teacher {teacher:.2}, {}.{weak}",
            self.described(&[CE, &kd, &nkd])?,
        );
        Ok(Finding::new("C1", gain, note).against(self.mean(CE)?).verdict(verdict))
    }

    /// C2.
    fn nkd_and_dkd(&self) -> Result<Finding> {
        let nkd = self.nkd()?;
        let gain = self.difference(&nkd, DKD)?;
        let verdict = match gain.verdict {
            Verdict::NotJudged => Verdict::NotJudged,
            _ => Verdict::of(gain.estimate.value > -0.5),
        };
        let note = format!("Points over DKD. Accuracy (%): {}.", self.described(&[DKD, &nkd])?);
        Ok(Finding::new("C2", gain, note).against(self.mean(DKD)?).verdict(verdict))
    }

    /// C3.
    fn normalising(&self) -> Result<Finding> {
        let gain = self.difference(NORMALISED, UNNORMALISED)?;
        let note = format!(
            "Points of the normalised over the plain non-target part. Accuracy (%): {}.",
            self.described(&[CE, TARGET, UNNORMALISED, NORMALISED, &nkd_arm(1.0)])?
        );
        Ok(Finding::new("C3", gain, note).against(self.mean(UNNORMALISED)?).verdict(gain.or_partly()))
    }

    /// C4.
    fn without_teacher(&self) -> Result<Finding> {
        let gain = self.difference(USKD, CE)?;
        let mut others = vec![];
        for arm in [SMOOTHING, RANDOM] {
            others.push(format!("over {arm} {:+}", self.difference(USKD, arm)?));
        }
        let note = format!(
            "Points over cross entropy; {}. Accuracy (%): {}.",
            others.join(", "),
            self.described(&[CE, SMOOTHING, USKD, "uskd/no-non-target", "uskd/no-target", RANDOM])?
        );
        Ok(Finding::new("C4", gain, note).against(self.mean(CE)?).verdict(gain.or_partly()))
    }

    /// C5.
    fn cost(&self) -> Result<Finding> {
        if !self.results.has(COST) {
            return Ok(Finding::not_judged("C5", "nothing was timed"));
        }
        let overhead = self.results.values(COST, OVERHEAD)?;
        let judged = verdict::at_most(&overhead, &vec![0.0; overhead.len()], 10.0);
        let verdict = match judged.verdict {
            Verdict::NotJudged => Verdict::NotJudged,
            _ => Verdict::of(stats::mean(&overhead) < 10.0),
        };
        let student = self.results.mean(COST, OVERHEAD_STUDENT)?;
        let note = format!(
            "Percent more time for a step of ResNet-18. Of the study's own student, whose step takes little: {student:.0} %."
        );
        Ok(Finding::new("C5", judged, note).verdict(verdict))
    }
}

fn study(results: &Results) -> Result<Study<'_>> {
    Ok(Study { results, config: results.plan().config()? })
}

pub(super) fn findings(results: &Results) -> Result<Vec<Finding>> {
    let study = study(results)?;
    Ok(vec![study.nkd_beats()?, study.nkd_and_dkd()?, study.normalising()?, study.without_teacher()?, study.cost()?])
}

pub(super) fn plots(results: &Results) -> Result<Vec<Plot>> {
    let study = study(results)?;
    let n = results.plan().seeds.len();
    let mut bars = vec![];
    for (i, (arm, _)) in study.config.arms().iter().enumerate() {
        let values = study.accuracy(arm)?;
        let (mean, half) = verdict::summary(&values);
        bars.push((arm.clone(), mean, half, i));
    }
    let (kd, nkd) = (study.kd()?, study.nkd()?);
    let mut masses = vec![];
    for (i, arm) in [CE, &kd, &nkd].into_iter().enumerate() {
        masses.push(Series::line(arm, i, &results.mean_series(arm, STUDENT_MASS)?));
    }
    masses.push(Series::line("teacher", 7, &results.mean_series(&nkd, TEACHER_MASS)?).dashed());
    let mut parts = vec![];
    for (i, part) in ["target", "non-target", "mass"].into_iter().enumerate() {
        let name = format!("{part} part of KD");
        parts.push(Series::line(format!("{part}, {kd}"), i, &results.mean_series(&kd, &name)?).dashed());
        parts.push(Series::line(format!("{part}, {nkd}"), i, &results.mean_series(&nkd, &name)?));
    }
    let mut ranks = vec![];
    for (i, (name, title)) in
        [("soft labels by rank", "USKD's soft labels"), ("teacher by rank", "teacher")].into_iter().enumerate()
    {
        let mean = results.mean_array(USKD, name)?;
        let points: Vec<_> = mean.iter().enumerate().map(|(rank, v)| ((rank + 1) as f64, *v)).collect();
        ranks.push(Series::line(title, i, &points));
    }
    Ok(vec![
        Plot::bars(
            "accuracy",
            &format!("Test accuracy of the student; means of {n} seeds with 95 % intervals."),
            "test accuracy (%)",
            bars,
        ),
        Plot::lines(
            "masses",
            "Mass outside of the target class on a training batch at the end of each epoch; means over seeds.",
            "step",
            "1 - probability of the target",
            masses,
        ),
        Plot::lines(
            "parts",
            "The parts of KD's cross entropy at temperature 1 during training with KD and with NKD; means over seeds.",
            "step",
            "nats",
            parts,
        ),
        Plot::lines(
            "ranks",
            "Soft non-target labels on test images by the teacher's rank of the class; means over images and seeds.",
            "rank of the class among the others, by the teacher",
            "soft label",
            ranks,
        )
        .log(true, true),
    ])
}
