//! Findings and plots.

use super::{
    Arm, CONV_STEM, Config, KNN, Network, PARAMETERS, PROBE, SCATSIMCLR, SCATTERING, Setting, TASK_ACCURACY, Task,
};
use crate::experiment::Scale;
use crate::plot::{Plot, Series};
use crate::results::Results;
use crate::verdict::{self, Finding, Judgement, Verdict};
use anyhow::Result;
use autodidact_core::stats::{self, Estimate};

struct Study<'a> {
    results: &'a Results,
    config: Config,
}

impl<'a> Study<'a> {
    fn new(results: &'a Results) -> Result<Self> {
        Ok(Self { results, config: results.plan().config()? })
    }

    fn setting(&self) -> &Setting {
        self.config.of(&self.results.plan().dataset)
    }

    fn has(&self, arm: Arm) -> bool {
        self.results.has(&arm.name())
    }

    fn probe(&self, arm: Arm) -> Result<Vec<f64>> {
        self.results.values(&arm.name(), PROBE)
    }

    fn mean(&self, arm: Arm) -> Result<f64> {
        Ok(stats::mean(&self.probe(arm)?))
    }

    fn enough(&self, verdict: Verdict) -> Verdict {
        verdict.with_seeds(self.results.plan().seeds.len())
    }

    /// Name, probe and k-NN accuracy of an arm, before and after training.
    fn described(&self, arm: Arm) -> Result<String> {
        let name = arm.name();
        let knn = self.results.mean(&name, KNN)?;
        let start = self.untrained(arm)?;
        let before =
            if arm.network == Network::Scattering { String::new() } else { format!(" (untrained {start:.1})") };
        Ok(format!("{name} {:.1}{before}, k-NN {knn:.1}", self.mean(arm)?))
    }

    /// Mean probe accuracy before training.
    fn untrained(&self, arm: Arm) -> Result<f64> {
        let series = self.results.mean_series(&arm.name(), PROBE)?;
        Ok(series.first().map_or(f64::NAN, |p| p.1))
    }

    /// C1.
    fn fewer_parameters(&self) -> Result<Finding> {
        let [ours, baseline] = self.config.pair();
        let gain = verdict::difference(&self.probe(ours)?, &self.probe(baseline)?, 0.0);
        let parameters = |arm: Arm| self.results.mean(&arm.name(), PARAMETERS);
        let (own, other) = (parameters(ours)?, parameters(baseline)?);
        let verdict = match gain.verdict {
            Verdict::Reproduced if own > other => Verdict::Partly,
            Verdict::NotReproduced if gain.estimate.value > 0.0 => Verdict::Partly,
            v => v,
        };
        let nothing = if self.mean(SCATTERING)? >= self.mean(ours)? {
            " A linear probe on the transform itself is at least as good: for that, training adds nothing."
        } else {
            ""
        };
        let note = format!(
            "Points of linear-probe accuracy. Accuracy (%): {}; {}; {}. Trained parameters: {own:.0} and {other:.0}.{nothing}",
            self.described(SCATTERING)?,
            self.described(ours)?,
            self.described(baseline)?,
        );
        Ok(Finding::new("C1", gain, note).against(self.mean(baseline)?).verdict(verdict))
    }

    /// C2.
    fn pretext(&self) -> Result<Finding> {
        let mut differences = vec![];
        let mut means = vec![];
        let mut words = vec![];
        let mut beats_jigsaw = true;
        for arm in self.config.pair() {
            let rotation = arm.with(Task::Rotation);
            // Short runs have the task at one seed only.
            let seeds = self.results.seeds(&rotation.name());
            let with = self.probe(rotation)?;
            let without =
                seeds.iter().map(|s| self.results.value(&arm.name(), *s, PROBE)).collect::<Result<Vec<_>>>()?;
            differences.extend(with.iter().zip(&without).map(|(a, b)| a - b));
            means.push(stats::mean(&with) - stats::mean(&without));
            words.push(format!("{}, without {:.1}", self.described(rotation)?, stats::mean(&without)));
            let jigsaw = arm.with(Task::Jigsaw);
            if self.has(jigsaw) {
                beats_jigsaw &= stats::mean(&with) > self.mean(jigsaw)?;
                words.push(self.described(jigsaw)?);
            }
        }
        let pooled = verdict::difference(&differences, &vec![0.0; differences.len()], 0.0);
        let both = means.iter().all(|m| *m > 0.0);
        let verdict = match pooled.verdict {
            Verdict::NotJudged => Verdict::NotJudged,
            Verdict::Reproduced if both && beats_jigsaw => Verdict::Reproduced,
            _ if means.iter().any(|m| *m > 0.0) => Verdict::Partly,
            _ => Verdict::NotReproduced,
        };
        let (verdict, short) = if self.config.judges_tasks(&self.results.plan().dataset) {
            (self.enough(verdict), String::new())
        } else {
            let short =
                format!(" Not judged: {} steps are too few for the task to matter.", self.setting().training.steps);
            (Verdict::NotJudged, short)
        };
        let note = format!("Points of linear-probe accuracy, pooled. Accuracy (%): {}.{short}", words.join("; "));
        Ok(Finding::new("C2", pooled, note).verdict(verdict))
    }

    /// C3.
    fn scales(&self) -> Result<Finding> {
        let setting = self.setting();
        let of_scales = |j: usize| {
            let arm = if j == setting.scales { SCATSIMCLR } else { Arm { scales: Some(j), ..SCATSIMCLR } };
            self.has(arm).then(|| self.mean(arm)).transpose()
        };
        let of_angles = |l: usize| {
            let arm = if l == setting.angles { SCATSIMCLR } else { Arm { angles: Some(l), ..SCATSIMCLR } };
            self.has(arm).then(|| self.mean(arm)).transpose()
        };
        let most = setting.other_angles.iter().fold(setting.angles, |most, l| most.max(*l));
        let scales = (of_scales(1)?, of_scales(2)?, of_scales(3)?);
        let ((Some(one), Some(two), Some(three)), Some(half), Some(whole)) =
            (scales, of_angles(most / 2)?, of_angles(most)?)
        else {
            let needs = "needs 1, 2 and 3 scales (images of 32 pixels) and a number of angles with its half";
            return Ok(Finding::not_judged("C3", needs));
        };
        let held = [two > one, two > three, whole > half].iter().filter(|h| **h).count();
        let verdict = match held {
            3 => Verdict::Reproduced,
            2 => Verdict::Partly,
            _ => Verdict::NotReproduced,
        };
        let note = format!(
            "Of the three comparisons. Linear-probe accuracy (%): J=1 {one:.1}, J=2 {two:.1}, J=3 {three:.1}; L={} {half:.1}, L={most} {whole:.1}.",
            most / 2,
        );
        let estimate =
            Estimate { value: held as f64, low: f64::NAN, high: f64::NAN, n: self.results.plan().seeds.len() };
        Ok(Finding::new("C3", Judgement { estimate, verdict: self.enough(verdict) }, note))
    }

    /// C4.
    fn depth(&self) -> Result<Finding> {
        let arms: Vec<Arm> = self.config.blocks.iter().map(|b| Arm { blocks: Some(*b), ..SCATSIMCLR }).collect();
        if self.results.plan().scale != Scale::Full || arms.len() < 2 {
            return Ok(Finding::not_judged("C4", "the published depths are run at scale full"));
        }
        let means = arms.iter().map(|a| self.mean(*a)).collect::<Result<Vec<f64>>>()?;
        let rise = means[means.len() - 1] - means[0];
        let verdict = self.enough(Verdict::of(means.is_sorted_by(|a, b| a < b)));
        let words = arms.iter().map(|a| self.described(*a)).collect::<Result<Vec<_>>>()?.join("; ");
        let estimate = Estimate { n: self.results.plan().seeds.len(), low: f64::NAN, high: f64::NAN, value: rise };
        let note = format!("Points from the shallowest to the deepest. Accuracy (%): {words}.");
        Ok(Finding::new("C4", Judgement { estimate, verdict }, note))
    }

    /// C5.
    fn geometry(&self) -> Result<Finding> {
        let affine = Arm { affine: true, ..SCATSIMCLR };
        if !self.has(affine) {
            return Ok(Finding::not_judged("C5", "the digits' augmentation is an affine map"));
        }
        let (with, without) = (self.probe(affine)?, self.probe(SCATSIMCLR)?);
        let difference = verdict::difference(&with, &without, 0.0);
        let verdict = self.enough(Verdict::of(stats::mean(&with) - stats::mean(&without) <= 0.5));
        let note = format!(
            "Points of linear-probe accuracy, with the affine map minus without. Accuracy (%): {}; {}.",
            self.described(affine)?,
            self.described(SCATSIMCLR)?
        );
        Ok(Finding::new("C5", difference, note).verdict(verdict))
    }

    /// Mean and half the width of its interval.
    fn summary(&self, arm: Arm, metric: &str) -> Result<(f64, f64)> {
        Ok(verdict::summary(&self.results.values(&arm.name(), metric)?))
    }
}

pub(super) fn findings(results: &Results) -> Result<Vec<Finding>> {
    let study = Study::new(results)?;
    Ok(vec![study.fewer_parameters()?, study.pretext()?, study.scales()?, study.depth()?, study.geometry()?])
}

/// Colour of an arm: by network, tasks apart.
fn colour(arm: &Arm) -> usize {
    match (arm.network, arm.task) {
        (Network::Scattering, _) => 7,
        (Network::ScatSimClr, None) => 0,
        (Network::ConvStem, None) => 1,
        (Network::Resnet18, None) => 2,
        (Network::ScatSimClr, _) => 4,
        (Network::ConvStem, _) => 5,
        (Network::Resnet18, _) => 6,
    }
}

pub(super) fn plots(results: &Results) -> Result<Vec<Plot>> {
    let study = Study::new(results)?;
    let arms = study.config.arms(&results.plan().dataset);
    let n = results.plan().seeds.len();
    let mut bars = vec![];
    let mut neighbours = vec![];
    let mut sizes = vec![];
    let mut training = vec![];
    let mut tasks = vec![];
    for arm in &arms {
        let (mean, half) = study.summary(*arm, PROBE)?;
        bars.push((arm.name(), mean, half, colour(arm)));
        let (near, half) = study.summary(*arm, KNN)?;
        neighbours.push((arm.name(), near, half, colour(arm)));
        if arm.network == Network::Scattering {
            continue;
        }
        let parameters = results.mean(&arm.name(), PARAMETERS)? / 1e6;
        if arm.task.is_none() {
            sizes.push(Series::line(arm.name(), sizes.len(), &[(parameters, mean)]).dots());
        }
        let series = Series::line(arm.name(), colour(arm), &results.mean_series(&arm.name(), PROBE)?);
        if [SCATSIMCLR, CONV_STEM].contains(&Arm { task: None, ..*arm }) {
            training.push(if arm.task.is_some() { series.dashed() } else { series });
        }
        if arm.task.is_some() {
            // A task that never had weight was never posed.
            if let Ok(accuracy) = results.mean_series(&arm.name(), TASK_ACCURACY) {
                let line = Series::line(arm.name(), colour(arm), &accuracy);
                tasks.push(if arm.task == Some(Task::Jigsaw) { line.dashed() } else { line });
            }
        }
    }
    let dataset = &results.plan().dataset;
    let mut plots = vec![
        Plot::bars(
            "linear-probe",
            &format!("Linear probe on representations of {dataset}; means of {n} seeds with 95 % intervals."),
            "linear probe accuracy (%)",
            bars,
        ),
        Plot::bars(
            "k-nn",
            &format!(
                "{} nearest neighbours among {} labelled images; means of {n} seeds with 95 % intervals.",
                study.setting().k,
                study.setting().labels
            ),
            "k-NN accuracy (%)",
            neighbours,
        ),
        Plot::lines(
            "parameters",
            "Linear-probe accuracy by the number of trained parameters, the projector's included.",
            "trained parameters (millions)",
            "linear probe accuracy (%)",
            sizes,
        ),
        Plot::lines(
            "training",
            "Linear probe before, in the middle of and after training; means over seeds.",
            "step",
            "linear probe accuracy (%)",
            training,
        ),
    ];
    if !tasks.is_empty() {
        plots.push(Plot::lines(
            "pretext",
            "Accuracy of the pretext task on training batches, from the step on at which it has weight; means over seeds.",
            "step",
            "pretext accuracy (%)",
            tasks,
        ));
    }
    Ok(plots)
}
