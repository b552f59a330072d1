//! Verdicts and plots.

use super::Config;
use super::arms::{
    ACCURACY, Arm, COSINE, LAYERS, LAYERS_AT, Pretraining, Pruner, ROUND_ACCURACY, zeros_arm, zeros_metric,
};
use super::corpus::Task;
use crate::plot::{Plot, Series};
use crate::results::Results;
use crate::verdict::{self, Finding, Judgement, Verdict, summary};
use anyhow::{Context as _, Result};
use autodidact_core::stats::{self, Estimate};
use autodidact_pruning::essential_sparsity::{Abruptness, Knee, essential_sparsity};

/// Points of accuracy that are "no drop".
const EPS: f64 = 1.0;
/// What pre-training must add for a task to count.
const ADDED: f64 = 5.0;

pub(super) fn findings(results: &Results) -> Result<Vec<Finding>> {
    let study = Study::new(results)?;
    Ok(vec![
        study.knee()?,
        study.tasks()?,
        Finding::not_judged("C3", "Needs vision models beside language models."),
        study.patterns()?,
        study.lottery()?,
        study.emergence()?,
        study.pretraining("C7", Pretraining::Tenth)?,
        study.pretraining("C8", Pretraining::Supervised)?,
        Finding::not_judged("C9", "Needs a large language model."),
    ])
}

struct Study<'a> {
    results: &'a Results,
    config: Config,
    seeds: Vec<u64>,
}

impl<'a> Study<'a> {
    fn new(results: &'a Results) -> Result<Self> {
        Ok(Self { results, config: results.plan().config()?, seeds: results.seeds(&zeros_arm(Pretraining::Full)) })
    }

    fn enough(&self, verdict: Verdict) -> Verdict {
        verdict.with_seeds(self.seeds.len())
    }

    fn accuracies(&self, pretraining: Pretraining, task: Task, pruner: Pruner) -> Result<Vec<f64>> {
        self.results.values(&Arm { pretraining, task, pruner }.name(), ACCURACY)
    }

    fn accuracy(&self, task: Task, pruner: Pruner) -> Result<f64> {
        Ok(stats::mean(&self.accuracies(Pretraining::Full, task, pruner)?))
    }

    /// Mean over tasks, by seed.
    fn over(&self, tasks: &[Task], pretraining: Pretraining, pruner: Pruner) -> Result<Vec<f64>> {
        let each = tasks.iter().map(|task| self.accuracies(pretraining, *task, pruner)).collect::<Result<Vec<_>>>()?;
        let seeds = each.first().map_or(0, Vec::len);
        Ok((0..seeds).map(|i| each.iter().map(|a| a[i]).sum::<f64>() / each.len() as f64).collect())
    }

    /// Mean accuracy over sparsity.
    fn curve(&self, task: Task) -> Result<Vec<(f64, f64)>> {
        let sparsities = if task == Task::State { &self.config.control } else { &self.config.sparsities };
        sparsities.iter().map(|s| Ok((*s, self.accuracy(task, Pruner::Magnitude(*s))?))).collect()
    }

    /// The essential sparsity, on the curve of means; 0 where the smallest step already costs more.
    fn essential(&self, task: Task) -> Result<f64> {
        let curve = self.curve(task)?;
        Ok(essential_sparsity(&curve, curve[0].1, EPS)?.unwrap_or(0.0))
    }

    /// What a pre-training adds to the dense score.
    fn added(&self, pretraining: Pretraining, task: Task) -> Result<f64> {
        let of = |p| -> Result<f64> { Ok(stats::mean(&self.accuracies(p, task, Pruner::Magnitude(0.0))?)) };
        Ok(of(pretraining)? - of(Pretraining::None)?)
    }

    /// Copy tasks to which pre-training adds enough for them to count.
    fn counted(&self, pretraining: Pretraining) -> Result<Vec<Task>> {
        let mut tasks = vec![];
        for task in Task::COPY {
            if self.added(pretraining, task)? >= ADDED {
                tasks.push(task);
            }
        }
        Ok(tasks)
    }

    /// C1.
    fn knee(&self) -> Result<Finding> {
        let counted = self.counted(Pretraining::Full)?;
        let (mut free, mut holds, mut words) = (0, true, vec![]);
        for task in Task::ALL {
            let (curve, added) = (self.curve(task)?, self.added(Pretraining::Full, task)?);
            let essential = self.essential(task)?;
            let list = curve.iter().map(|(s, a)| format!("{s}: {a:.1}")).collect::<Vec<_>>().join(", ");
            let (mut random, mut ahead) = (vec![], true);
            for &s in &self.config.random {
                let masks = self.accuracy(task, Pruner::Random(s))?;
                random.push(format!("{s}: {masks:.1}"));
                if task != Task::State && (s == 0.3 || s == 0.5) {
                    ahead &= self.accuracy(task, Pruner::Magnitude(s))? - masks >= 5.0;
                }
            }
            let mut knee = String::new();
            if task != Task::State {
                let fitted = Knee::of(&curve)?;
                knee = format!(", knee at {} ({:.1} times as steep after it)", fitted.at, fitted.sharpness());
                if counted.contains(&task) {
                    free += usize::from(essential >= 0.2);
                    holds &= fitted.sharpness() >= 3.0 && ahead;
                }
            }
            words.push(format!(
                "{}: {list}; random {}; pre-training adds {added:.1}; free up to {essential}{knee}",
                task.name(),
                random.join(", ")
            ));
        }
        let verdict = match (free, holds) {
            _ if counted.len() < 2 => Verdict::NotJudged,
            (2.., true) => Verdict::Reproduced,
            (_, true) => Verdict::Partly,
            _ => Verdict::NotReproduced,
        };
        let dense = self.over(&Task::COPY, Pretraining::Full, Pruner::Magnitude(0.0))?;
        let middle = self.config.sparsities.iter().find(|s| **s >= 0.2).copied().unwrap_or(0.0);
        let pruned = self.over(&Task::COPY, Pretraining::Full, Pruner::Magnitude(middle))?;
        let judgement = verdict::difference(&pruned, &dense, 0.0);
        let note = format!(
            "Test accuracy in %, mean over seeds, by sparsity. {}. Shown: change of the copy tasks' mean at {middle}.",
            words.join(". ")
        );
        Ok(Finding::new("C1", judgement, note).against(0.0).verdict(self.enough(verdict)))
    }

    /// C2.
    fn tasks(&self) -> Result<Finding> {
        let essential = Task::COPY.map(|t| self.essential(t)).into_iter().collect::<Result<Vec<_>>>()?;
        let at = self.config.compared[0];
        let drops = Task::COPY.map(|t| -> Result<Vec<f64>> {
            let of = |s: f64| self.accuracies(Pretraining::Full, t, Pruner::Magnitude(s));
            Ok(of(0.0)?.iter().zip(of(at)?).map(|(dense, pruned)| dense - pruned).collect())
        });
        let drops = drops.into_iter().collect::<Result<Vec<_>>>()?;
        let means: Vec<f64> = drops.iter().map(|d| stats::mean(d)).collect();
        let equal = essential.iter().all(|s| *s == essential[0]);
        let met = if equal {
            means.windows(2).all(|w| w[1] >= w[0]) && means[2] - means[0] >= 5.0
        } else {
            essential.windows(2).all(|w| w[1] <= w[0]) && essential[0] - essential[2] >= 0.2 - 1e-9
        };
        let note = format!(
            "Easy, medium and hard: essential sparsity {essential:?}, drop at {at} {:.1}, {:.1} and {:.1} points. Shown: the hard task's drop minus the easy one's.",
            means[0], means[1], means[2]
        );
        let shown = verdict::difference(&drops[2], &drops[0], 0.0);
        let all_count = self.counted(Pretraining::Full)?.len() == Task::COPY.len();
        let verdict = if all_count { Verdict::of(met) } else { Verdict::NotJudged };
        Ok(Finding::new("C2", shown, note).against(0.0).verdict(self.enough(verdict)))
    }

    /// C4.
    fn patterns(&self) -> Result<Finding> {
        let counted = self.counted(Pretraining::Full)?;
        if counted.is_empty() {
            return Ok(Finding::not_judged("C4", "Pre-training adds 5 points to none of the tasks."));
        }
        let of = |pruner| self.over(&counted, Pretraining::Full, pruner);
        let (half, unstructured) = (of(Pruner::Pattern(2, 4))?, of(Pruner::Magnitude(0.5))?);
        let (three, one) = (of(Pruner::Pattern(3, 4))?, of(Pruner::Pattern(1, 4))?);
        let shown = verdict::difference(&half, &unstructured, 0.0);
        let falls = verdict::difference(&three, &one, 0.0);
        let near = Verdict::of((stats::mean(&half) - stats::mean(&unstructured)).abs() <= 2.0);
        let note = format!(
            "Mean over {} copy tasks in %: 3:4 {:.1}, 2:4 {:.1}, 1:4 {:.1}, unstructured 50 % {:.1}; 3:4 minus 1:4 {falls:+}. Shown: 2:4 minus unstructured.",
            counted.len(),
            stats::mean(&three),
            stats::mean(&half),
            stats::mean(&one),
            stats::mean(&unstructured)
        );
        let verdict = Verdict::all(&[near, falls.verdict]);
        let verdict = if verdict == Verdict::Partly { Verdict::NotReproduced } else { verdict };
        Ok(Finding::new("C4", shown, note).against(0.0).verdict(self.enough(verdict)))
    }

    /// Of the rounds of lottery tickets, a metric by seed at a sparsity.
    fn rounds(&self, metric: &str, sparsity: f64) -> Result<Vec<f64>> {
        let arm = Arm { pretraining: Pretraining::Full, task: Task::Medium, pruner: Pruner::Lottery }.name();
        let at = (100.0 * sparsity).round();
        let of = |seed: &u64| {
            let series = self.results.series(&arm, *seed, metric)?;
            series.iter().find(|p| p.0 == at).map(|p| p.1).with_context(|| format!("no round at {sparsity}"))
        };
        self.results.seeds(&arm).iter().map(of).collect()
    }

    /// C5.
    fn lottery(&self) -> Result<Finding> {
        let rounds = &self.config.rounds;
        let (first, last) = (rounds[rounds.len() / 2 - 1].max(rounds[0]), rounds[rounds.len() - 1]);
        let one_shot = |s: f64| self.accuracies(Pretraining::Full, Task::Medium, Pruner::Magnitude(s));
        let gain = |s: f64| -> Result<Judgement> {
            Ok(verdict::difference(&self.rounds(ROUND_ACCURACY, s)?, &one_shot(s)?, 0.0))
        };
        let (low, high) = (gain(first)?, gain(last)?);
        let cosine = |s: f64| Ok::<f64, anyhow::Error>(stats::mean(&self.rounds(COSINE, s)?));
        let similar = cosine(first)? >= 0.96 && cosine(last)? < cosine(first)?;
        let Estimate { low: below, high: above, .. } = low.estimate;
        let same = below <= 0.0 && above >= 0.0 && 0.5 * (above - below) <= 2.0;
        let counts = self.counted(Pretraining::Full)?.contains(&Task::Medium);
        let verdict = match (similar, same) {
            _ if !counts => Verdict::NotJudged,
            (true, true) => Verdict::Reproduced,
            (true, false) => Verdict::Partly,
            _ => Verdict::NotReproduced,
        };
        let mut words = vec![];
        for &s in rounds {
            let cosine = cosine(s)?;
            words.push(format!(
                "{s}: {:.1} and {:.1}, cosine {cosine:.3} (chance {:.2}, corrected {:.2})",
                stats::mean(&self.rounds(ROUND_ACCURACY, s)?),
                stats::mean(&one_shot(s)?),
                1.0 - s,
                (cosine - (1.0 - s)) / s
            ));
        }
        let note = format!(
            "Lottery and one-shot accuracy in % by sparsity: {}. At {last} lottery minus one-shot {high:+}. Shown: the difference at {first}.",
            words.join("; ")
        );
        Ok(Finding::new("C5", low, note).against(0.0).verdict(self.enough(verdict)))
    }

    /// Breaks of the curves of zeros, for every threshold the least ratio over seeds with the mean step. A curve that does not rise by a
    /// tenth of itself has no ratio (0): after a dip any rise would be infinitely fast.
    fn breaks(&self, pretraining: Pretraining) -> Result<Vec<(f64, f64, f64)>> {
        let arm = zeros_arm(pretraining);
        let each = self.config.taus.iter().map(|&tau| {
            let fits = self.seeds.iter().map(|s| {
                let series = self.results.series(&arm, *s, &zeros_metric(tau))?;
                let (first, last) = (series[0].1, series[series.len() - 1].1);
                let fit = Abruptness::of(&series)?;
                Ok((if last >= 1.1 * first { fit.ratio() } else { 0.0 }, fit.at))
            });
            let fits = fits.collect::<Result<Vec<(f64, f64)>>>()?;
            let least = fits.iter().map(|f| f.0).fold(f64::INFINITY, f64::min);
            Ok((tau, least, stats::mean(&fits.iter().map(|f| f.1).collect::<Vec<_>>())))
        });
        each.collect()
    }

    /// C6.
    fn emergence(&self) -> Result<Finding> {
        let (full, plain) = (self.breaks(Pretraining::Full)?, self.breaks(Pretraining::NoDecay)?);
        let words = |list: &[(f64, f64, f64)]| {
            let one = |(tau, ratio, at): &(f64, f64, f64)| format!("{tau}: {ratio:.2} (break at step {at:.0})");
            list.iter().map(one).collect::<Vec<_>>().join(", ")
        };
        let least = full.iter().fold(f64::INFINITY, |m, b| m.min(b.1));
        let ends = |pretraining| -> Result<String> {
            let of = |tau: &f64| Ok(format!("{:.4}", self.results.mean(&zeros_arm(pretraining), &zeros_metric(*tau))?));
            Ok(self.config.taus.iter().map(of).collect::<Result<Vec<_>>>()?.join(", "))
        };
        let note = format!(
            "Rise after the break over that before it (0 where the share does not rise by a tenth in all), least of the seeds, by threshold: {}; without weight decay {}. Shares in the end: {}; without weight decay {}. Shown: the least ratio.",
            words(&full),
            words(&plain),
            ends(Pretraining::Full)?,
            ends(Pretraining::NoDecay)?
        );
        let verdict = Verdict::of(least >= 5.0);
        let estimate = Estimate { n: self.seeds.len(), ..Estimate::exact(least) };
        Ok(Finding::new("C6", Judgement { estimate, verdict }, note).against(5.0).verdict(self.enough(verdict)))
    }

    /// C7 and C8.
    fn pretraining(&self, id: &'static str, other: Pretraining) -> Result<Finding> {
        let (ours, theirs) = (self.counted(Pretraining::Full)?, self.counted(other)?);
        let both: Vec<Task> = ours.into_iter().filter(|t| theirs.contains(t)).collect();
        let tasks = if both.is_empty() { &Task::COPY[..] } else { &both };
        let dense = [Pretraining::Full, other].map(|p| self.over(tasks, p, Pruner::Magnitude(0.0)));
        let [dense, other_dense] = dense.map(|d| d.map(|d| stats::mean(&d)));
        let (dense, other_dense) = (dense?, other_dense?);
        let (mut gains, mut words) = (vec![], vec![]);
        for &s in &self.config.compared {
            let [full, less] = [Pretraining::Full, other].map(|p| self.over(tasks, p, Pruner::Magnitude(s)));
            let (full, less) = (full?, less?);
            let gain = verdict::difference(&full, &less, 0.0);
            words.push(format!(
                "{s}: {:.1} and {:.1} ({gain:+}), drops {:.1} and {:.1}",
                stats::mean(&full),
                stats::mean(&less),
                dense - stats::mean(&full),
                other_dense - stats::mean(&less)
            ));
            gains.push(gain);
        }
        let names = tasks.iter().map(|t| t.name()).collect::<Vec<_>>().join(", ");
        let note = format!(
            "Mean accuracy in % ({names}), {} and {}: dense {dense:.1} and {other_dense:.1}; by sparsity {}.{}",
            Pretraining::Full.name(),
            other.name(),
            words.join("; "),
            if both.is_empty() {
                " On no task do both pre-trainings add 5 points: there is nothing to keep."
            } else {
                ""
            }
        );
        if both.is_empty() {
            return Ok(Finding::not_judged(id, note));
        }
        let verdict = Verdict::all(&gains.iter().map(|g| g.verdict).collect::<Vec<_>>());
        let note = format!("{note} Shown: the difference at {}.", self.config.compared[0]);
        Ok(Finding::new(id, gains.remove(0), note).against(0.0).verdict(self.enough(verdict)))
    }
}

pub(super) fn plots(results: &Results) -> Result<Vec<Plot>> {
    let study = Study::new(results)?;
    let with_intervals = |task: Task, of: &dyn Fn(f64) -> Pruner, sparsities: &[f64]| -> Result<Vec<(f64, f64, f64)>> {
        let point = |s: &f64| {
            let (mean, half) = summary(&study.accuracies(Pretraining::Full, task, of(*s))?);
            Ok((*s, mean, half))
        };
        sparsities.iter().map(point).collect()
    };
    let (mut curves, mut zeros, mut cosines) = (vec![], vec![], vec![]);
    for (i, task) in Task::ALL.into_iter().enumerate() {
        let sparsities = if task == Task::State { &study.config.control } else { &study.config.sparsities };
        let magnitude = with_intervals(task, &Pruner::Magnitude, sparsities)?;
        curves.push(Series::with_intervals(
            format!("{}, free up to {}", task.name(), study.essential(task)?),
            i,
            magnitude,
        ));
        let random = with_intervals(task, &Pruner::Random, &study.config.random)?;
        let random: Vec<_> = random.into_iter().map(|p| (p.0, p.1)).collect();
        curves.push(Series::line(format!("{}, random masks", task.name()), i, &random).dashed());
    }
    for (i, &tau) in study.config.taus.iter().enumerate() {
        for pretraining in [Pretraining::Full, Pretraining::NoDecay] {
            let series = results.mean_series(&zeros_arm(pretraining), &zeros_metric(tau))?;
            let line = Series::line(format!("{tau}, {}", pretraining.name()), i, &series);
            zeros.push(if pretraining == Pretraining::Full { line } else { line.dashed() });
        }
    }
    for &s in &study.config.rounds {
        cosines.push((s, stats::mean(&study.rounds(COSINE, s)?)));
    }
    let chance: Vec<_> = study.config.rounds.iter().map(|s| (*s, 1.0 - s)).collect();
    let mut kinds = vec![];
    for &s in &study.config.compared {
        for (i, pretraining) in [Pretraining::Full, Pretraining::Tenth, Pretraining::Supervised].into_iter().enumerate()
        {
            let (mean, half) = summary(&study.over(&Task::COPY, pretraining, Pruner::Magnitude(s))?);
            kinds.push((format!("{}, {s}", pretraining.name()), mean, half, i));
        }
    }
    let layers = results.mean_array(&zeros_arm(Pretraining::Full), LAYERS)?;
    let matrices = layers.len() / study.config.depth.max(1);
    Ok(vec![
        Plot::lines(
            "curves",
            "Accuracy over sparsity: magnitudes (with 95 % intervals) and random masks.",
            "sparsity",
            ACCURACY,
            curves,
        ),
        Plot::lines(
            "cosines",
            "Cosine of the masks of lottery tickets and of one-shot pruning, medium copy task.",
            "sparsity",
            "cosine",
            vec![Series::line("lottery", 0, &cosines).dots(), Series::line("chance", 7, &chance).dashed()],
        ),
        Plot::lines(
            "zeros",
            "Share of weights below thresholds (in initial standard deviations) during pre-training.",
            "step",
            "share of weights",
            zeros,
        ),
        Plot::bars("pretraining", "Mean accuracy of the copy tasks by pre-training and sparsity.", ACCURACY, kinds),
        Plot::heat(
            "layers",
            &format!("Densities of the matrices of each block at a sparsity of {LAYERS_AT}."),
            vec![("density".into(), study.config.depth, matrices, layers)],
            0.0,
            1.0,
        ),
    ])
}
