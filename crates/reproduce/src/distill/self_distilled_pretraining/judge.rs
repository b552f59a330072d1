//! Findings and plots.

use super::{
    ACCURACY, Config, DISTANCE, DISTIL, FINE_TUNE, HELD_OUT, LONG, MAE, ROUNDS, SELF, TRAIN, Task, arm, further_arm,
    penalty_arm,
};
use crate::plot::{Plot, Series};
use crate::results::Results;
use crate::verdict::{self, Finding, Judgement, Verdict};
use anyhow::Result;
use autodidact_core::stats::{self, Estimate};

struct Study<'a> {
    results: &'a Results,
    config: Config,
}

impl Study<'_> {
    fn values(&self, task: Task, name: &str, metric: &str) -> Result<Vec<f64>> {
        self.results.values(&arm(task, name), metric)
    }

    fn mean(&self, task: Task, name: &str) -> Result<f64> {
        self.results.mean(&arm(task, name), ACCURACY)
    }

    fn difference(&self, task: Task, name: &str, baseline: &str) -> Result<Judgement> {
        let (a, b) = (self.values(task, name, ACCURACY)?, self.values(task, baseline, ACCURACY)?);
        Ok(verdict::difference(&a, &b, 0.0))
    }

    fn described(&self, task: Task, names: &[&str]) -> Result<String> {
        let words = names.iter().map(|n| Ok(format!("{n} {:.2}", self.mean(task, n)?))).collect::<Result<Vec<_>>>()?;
        Ok(words.join(", "))
    }

    fn seeds(&self) -> usize {
        self.results.plan().seeds.len()
    }

    /// Further pre-training at the steps of self-distillation.
    fn further(&self) -> String {
        further_arm(self.config.further.steps)
    }

    /// How far the accuracy at the most steps is below the best of fewer.
    fn fall(&self, task: Task) -> Result<f64> {
        let steps = self.config.steps();
        let (last, fewer) = steps.split_last().expect("at least one number of steps");
        let mut best = f64::NEG_INFINITY;
        for n in fewer {
            best = best.max(self.mean(task, &further_arm(*n))?);
        }
        Ok(best - self.mean(task, &further_arm(*last))?)
    }

    /// C1.
    fn overfits(&self) -> Result<Finding> {
        let falls = Task::ALL.map(|t| self.fall(t));
        let [far, near] = falls.map(|f| f.unwrap_or(f64::NAN));
        let verdict = Verdict::of(far > 0.0 || near > 0.0).with_seeds(self.seeds());
        let mut words = vec![];
        for task in Task::ALL {
            let names: Vec<String> = self.config.steps().into_iter().map(further_arm).collect();
            let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
            names.insert(0, FINE_TUNE);
            words.push(format!("{}: {}", task.name(), self.described(task, &names)?));
        }
        let largest = far.max(near);
        let judged = Judgement { estimate: Estimate::exact(largest), verdict };
        let note = format!(
            "Points by which the accuracy at the most steps is below the best of fewer, larger of the two tasks (far {far:.2}, near {near:.2}). Test accuracy (%): {}.",
            words.join("; ")
        );
        Ok(Finding::new("C1", judged, note))
    }

    /// C2.
    fn self_distillation(&self) -> Result<Finding> {
        let further = self.further();
        let (mut met, mut means) = (0, 0);
        let mut words = vec![];
        let mut first = None;
        for task in Task::ALL {
            let over_further = self.difference(task, SELF, &further)?;
            let over_plain = self.difference(task, SELF, FINE_TUNE)?;
            let above = over_plain.estimate.value > 0.0;
            met += usize::from(over_further.verdict == Verdict::Reproduced && above);
            means += usize::from(over_further.estimate.value > 0.0 && above);
            first.get_or_insert(over_further);
            words.push(format!(
                "{}: over further {over_further:+}, over fine-tuning {over_plain:+} ({})",
                task.name(),
                self.described(task, &[FINE_TUNE, &further, SELF])?
            ));
        }
        let verdict = match (met, means) {
            (2, _) => Verdict::Reproduced,
            (0, 0) => Verdict::NotReproduced,
            _ => Verdict::Partly,
        };
        let double = further_arm(self.config.double());
        let control = self.difference(Task::Far, SELF, &double)?;
        let room = if self.fall(Task::Far)? > 0.0 || self.fall(Task::Near)? > 0.0 {
            ""
        } else {
            " Further pre-training does not overfit here, so there is little for self-distillation to mend."
        };
        let note = format!(
            "Points over further pre-training at equal steps, far task. {}. Far task, over twice the steps {control:+}; {}.{room}",
            words.join("; "),
            self.described(Task::Far, &[&double, LONG, ROUNDS])?
        );
        let first = first.expect("there are two tasks");
        Ok(Finding::new("C2", first, note)
            .against(self.mean(Task::Far, &further)?)
            .verdict(verdict.with_seeds(self.seeds())))
    }

    /// The penalty's arm with the best mean held-out accuracy.
    fn penalty(&self) -> Result<String> {
        let arms = self.config.penalties.iter().map(|c| arm(Task::Far, &penalty_arm(*c)));
        let best = self.results.best(arms, HELD_OUT)?;
        Ok(best.trim_start_matches("far/").to_owned())
    }

    /// C4.
    fn both_parts(&self) -> Result<Finding> {
        let penalty = self.penalty()?;
        let over_distance = self.difference(Task::Far, SELF, DISTIL)?;
        let over_penalty = self.difference(Task::Far, SELF, &penalty)?;
        let parts = [over_distance, over_penalty].map(|j| Verdict::of(j.estimate.value > 0.0));
        let note = format!(
            "Points over the distance alone; over {penalty} {over_penalty:+}. Test accuracy (%): {}.",
            self.described(Task::Far, &[DISTIL, &penalty, SELF])?
        );
        Ok(Finding::new("C4", over_distance, note)
            .against(self.mean(Task::Far, DISTIL)?)
            .verdict(Verdict::all(&parts).with_seeds(self.seeds())))
    }

    /// C5.
    fn nearer(&self) -> Result<Finding> {
        let further = self.further();
        let of = |name: &str| self.values(Task::Far, name, DISTANCE);
        let (own, theirs) = (of(SELF)?, of(&further)?);
        let judged = verdict::ratio(&own, &theirs, 0.0);
        let gap = |name: &str| -> Result<f64> {
            Ok(stats::mean(&self.values(Task::Far, name, TRAIN)?) - self.mean(Task::Far, name)?)
        };
        let (own_gap, their_gap) = (gap(SELF)?, gap(&further)?);
        let parts = [own.iter().zip(&theirs).all(|(a, b)| a < b), own_gap < their_gap].map(Verdict::of);
        let note = format!(
            "Distance of the fine-tuned encoder from the first weights, self-distillation over further pre-training (geometric mean of the ratio); means {:.2} and {:.2}, fine-tuning alone {:.2}. Gap between training and test accuracy: {own_gap:.2} and {their_gap:.2} points.",
            stats::mean(&own),
            stats::mean(&theirs),
            stats::mean(&of(FINE_TUNE)?)
        );
        Ok(Finding::new("C5", judged, note).against(1.0).verdict(Verdict::all(&parts).with_seeds(self.seeds())))
    }
}

fn study(results: &Results) -> Result<Study<'_>> {
    Ok(Study { results, config: results.plan().config()? })
}

pub(super) fn findings(results: &Results) -> Result<Vec<Finding>> {
    let study = study(results)?;
    Ok(vec![
        study.overfits()?,
        study.self_distillation()?,
        Finding::not_judged("C3", "Images only: text is not run."),
        study.both_parts()?,
        study.nearer()?,
    ])
}

pub(super) fn plots(results: &Results) -> Result<Vec<Plot>> {
    let study = study(results)?;
    let n = study.seeds();
    let mut over_steps = vec![];
    for (i, task) in Task::ALL.into_iter().enumerate() {
        let mut points = vec![];
        for steps in study.config.steps() {
            let (mean, half) = verdict::summary(&study.values(task, &further_arm(steps), ACCURACY)?);
            points.push((steps as f64, mean, half));
        }
        let ends = [points[0].0, points[points.len() - 1].0];
        over_steps.push(Series::with_intervals(format!("{}, further", task.name()), i, points));
        let own = study.mean(task, SELF)?;
        over_steps.push(Series::line(format!("{}, self-distil", task.name()), i, &ends.map(|x| (x, own))).dashed());
    }
    let mut plots = vec![
        Plot::lines(
            "steps",
            "Test accuracy after further pre-training and fine-tuning, by steps; dashed: self-distillation. Means over seeds with 95 % intervals.",
            "steps of further pre-training",
            "test accuracy (%)",
            over_steps,
        )
        .log(true, false),
    ];
    for task in Task::ALL {
        let (mut bars, mut distances) = (vec![], vec![]);
        for (i, (name, _)) in study.config.methods(task).iter().enumerate() {
            let (mean, half) = verdict::summary(&study.values(task, name, ACCURACY)?);
            bars.push((name.clone(), mean, half, i));
            let (mean, half) = verdict::summary(&study.values(task, name, DISTANCE)?);
            distances.push((name.clone(), mean, half, i));
        }
        let name = task.name();
        plots.push(Plot::bars(
            &format!("accuracy-{name}"),
            &format!("Test accuracy on the {name} task after fine-tuning; means of {n} seeds with 95 % intervals."),
            "test accuracy (%)",
            bars,
        ));
        plots.push(Plot::bars(
            &format!("distance-{name}"),
            &format!("How far fine-tuning on the {name} task ends from the first weights; means of {n} seeds with 95 % intervals."),
            "distance of the encoder",
            distances,
        ));
    }
    // The student's loss; that of a teacher is logged by whichever cell made it.
    let mut losses = vec![];
    for (i, name) in [SELF, ROUNDS].into_iter().enumerate() {
        let round = if name == ROUNDS { 2 } else { 1 };
        let metric = format!("{MAE}, round{round}");
        losses.push(Series::line(
            format!("{name}, round {round}"),
            i,
            &results.mean_series(&arm(Task::Far, name), &metric)?,
        ));
    }
    let penalty = study.penalty()?;
    let series = results.mean_series(&arm(Task::Far, &penalty), &format!("{MAE}, penalty"))?;
    losses.push(Series::line(penalty, 2, &series));
    plots.push(Plot::lines(
        "autoencoding",
        "Masked autoencoding loss on test images of the far task, under fixed masks; means over seeds.",
        "step",
        "mean squared error",
        losses,
    ));
    Ok(plots)
}
