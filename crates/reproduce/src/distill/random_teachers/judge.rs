//! Findings and plots.

use super::{
    BARRIER, Config, FAR, FINAL_KL, GROUP, KL, LINES, LOCAL_ARM, MOVED, NO_NORM, NOISE, Network, PIXELS, PROBES, SGD,
    SPARSE, TEACHER, TICKETS, TRANSFER, TRANSFER_TEACHER, alpha_arm, count_arm,
};
use crate::experiment::Scale;
use crate::plot::{Plot, Series};
use crate::results::Results;
use crate::verdict::{self, Finding, Judgement, Verdict};
use anyhow::{Context as _, Result};
use autodidact_core::masks::IterativePruning;
use autodidact_core::stats;

/// The paper's figure for ResNet-18 on CIFAR-10, and by how much a full run may miss it.
const PUBLISHED: f64 = 46.02;
const MARGIN: f64 = 4.0;

struct Judge<'a> {
    results: &'a Results,
    config: Config,
}

impl Judge<'_> {
    /// Values of a probe at the deciding step (without norms: at the last one), by seed.
    fn decided(&self, arm: &str, metric: &str) -> Result<Vec<f64>> {
        let step = if arm == NO_NORM { self.config.slow_steps } else { self.config.decided } as f64;
        let of = |seed: u64| -> Result<f64> {
            let series = self.results.series(arm, seed, metric)?;
            let at = series.iter().find(|(s, _)| *s == step);
            Ok(at.with_context(|| format!("{arm} seed {seed} has no {metric} at step {step}"))?.1)
        };
        self.results.seeds(arm).into_iter().map(of).collect()
    }

    fn teacher(&self, arm: &str, probe: &str) -> Result<Vec<f64>> {
        self.results.values(arm, &format!("{TEACHER}{probe}"))
    }

    /// Points of the student over its teacher.
    fn gain(&self, arm: &str, probe: &str) -> Result<Judgement> {
        Ok(verdict::difference(&self.decided(arm, probe)?, &self.teacher(arm, probe)?, 0.0))
    }

    /// C1.
    fn better(&self) -> Result<Finding> {
        let [ridge, linear, knn] = PROBES;
        let gain = self.gain(LOCAL_ARM, ridge)?;
        let (student, teacher) = (self.decided(LOCAL_ARM, ridge)?, self.teacher(LOCAL_ARM, ridge)?);
        let pixels = |probe: &str| self.results.mean(PIXELS, probe);
        let by_linear = self.gain(LOCAL_ARM, linear)?;
        let plan = self.results.plan();
        let published =
            plan.scale == Scale::Full && plan.dataset == "cifar10" && self.config.network == Network::Resnet18;
        let linear_mean = stats::mean(&self.decided(LOCAL_ARM, linear)?);
        let near = !published || (linear_mean - PUBLISHED).abs() <= MARGIN;
        let verdict = match gain.verdict {
            Verdict::Reproduced if stats::mean(&student) > pixels(ridge)? && near => Verdict::Reproduced,
            Verdict::Reproduced => Verdict::Partly,
            Verdict::NotReproduced if by_linear.verdict == Verdict::Reproduced => Verdict::Partly,
            v => v,
        };
        let mut words = vec![];
        for probe in PROBES {
            words.push(format!(
                "{probe} {:.2} to {:.2}, pixels {:.2}",
                stats::mean(&self.teacher(LOCAL_ARM, probe)?),
                stats::mean(&self.decided(LOCAL_ARM, probe)?),
                pixels(probe)?
            ));
        }
        let note = format!(
            "Points of the student over its teacher at step {}, ridge probe; AdamW probe {by_linear:+}, k-NN {:+}. Teacher to student (%): {}. Of other encoders, ridge probe: {GROUP} {:+}, {NO_NORM} {:+} after {} steps.",
            self.config.decided,
            self.gain(LOCAL_ARM, knn)?,
            words.join("; "),
            self.gain(GROUP, ridge)?,
            self.gain(NO_NORM, ridge)?,
            self.config.slow_steps,
        );
        Ok(Finding::new("C1", gain, note).against(stats::mean(&teacher)).verdict(verdict))
    }

    /// C2.
    fn data(&self) -> Result<Finding> {
        let [ridge, linear, _] = PROBES;
        let noise = self.gain(NOISE, ridge)?;
        let apart = verdict::difference(&self.decided(LOCAL_ARM, ridge)?, &self.decided(NOISE, ridge)?, 0.0);
        let verdict = match (apart.verdict, noise.verdict) {
            (Verdict::Reproduced, Verdict::NotReproduced) => Verdict::Reproduced,
            (Verdict::Reproduced, Verdict::Reproduced) => Verdict::Partly,
            (v, _) => v,
        };
        let mut counts = vec![];
        for count in &self.config.counts {
            let arm = count_arm(*count);
            counts.push(format!("{count} images {:+}", self.gain(&arm, ridge)?));
        }
        let counts = if counts.is_empty() { String::new() } else { format!("; of {}", counts.join(", ")) };
        let note = format!(
            "Points of the student of images over that of noise, ridge probe. Over the teacher: student of noise {noise:+} (AdamW probe {:+}){counts}.",
            self.gain(NOISE, linear)?
        );
        let baseline = stats::mean(&self.decided(NOISE, ridge)?);
        Ok(Finding::new("C2", apart, note).against(baseline).verdict(verdict))
    }

    /// C3.
    fn transfer(&self) -> Result<Finding> {
        let values = |prefix: &str, probe: &str| self.results.values(LOCAL_ARM, &format!("{prefix}{probe}"));
        let of = |probe: &str| -> Result<Judgement> {
            Ok(verdict::difference(&values(TRANSFER, probe)?, &values(TRANSFER_TEACHER, probe)?, 0.0))
        };
        let [ridge, linear, knn] = PROBES;
        let gain = of(ridge)?;
        let teacher = stats::mean(&values(TRANSFER_TEACHER, ridge)?);
        let note = format!(
            "Points of the student over its teacher, ridge probe; AdamW probe {:+}, k-NN {:+}.",
            of(linear)?,
            of(knn)?
        );
        let verdict = match gain.verdict {
            Verdict::NotJudged => Verdict::NotJudged,
            _ => Verdict::of(gain.estimate.value > 0.0),
        };
        Ok(Finding::new("C3", gain, note).against(teacher).verdict(verdict))
    }

    /// C4.
    fn locality(&self) -> Result<Finding> {
        let ridge = PROBES[0];
        let (near, far) = (self.gain(LOCAL_ARM, ridge)?, self.gain(FAR, ridge)?);
        let verdict = match (near.estimate.value >= far.estimate.value, far.estimate.value > 0.0) {
            _ if far.verdict == Verdict::NotJudged => Verdict::NotJudged,
            (true, true) => Verdict::Reproduced,
            (false, false) => Verdict::NotReproduced,
            _ => Verdict::Partly,
        };
        let mut others = String::new();
        for alpha in &self.config.alphas {
            let arm = alpha_arm(*alpha);
            others += &format!(", {arm} {:+}", self.gain(&arm, ridge)?);
        }
        let apart = verdict::difference(&self.decided(LOCAL_ARM, ridge)?, &self.decided(FAR, ridge)?, 0.0);
        let note = format!(
            "Points of the student at alpha 1e-10 over that at alpha 1. Over the teacher: {LOCAL_ARM} {near:+}{others}, {FAR} {far:+}."
        );
        Ok(Finding::new("C4", apart, note).verdict(verdict))
    }

    /// C5.
    fn loss(&self) -> Result<Finding> {
        let scale = 1e5;
        let of = |arm: &str| -> Result<Vec<f64>> {
            Ok(self.results.values(arm, FINAL_KL)?.into_iter().map(|v| v * scale).collect())
        };
        let (near, far) = (of(LOCAL_ARM)?, of(FAR)?);
        let gap = verdict::difference(&far, &near, 0.0);
        let moved = |arm: &str| self.results.mean(arm, MOVED);
        let note = format!(
            "KL in 1e-5, alpha 1 minus alpha 1e-10; means {:.2} and {:.2}. Students have moved by {:.2} and {:.2} of the norm of their first weights.",
            stats::mean(&far),
            stats::mean(&near),
            moved(FAR)?,
            moved(LOCAL_ARM)?
        );
        Ok(Finding::new("C5", gap, note).against(stats::mean(&near)).verdict(gap.or_partly()))
    }

    /// Accuracy of the tickets of a start by round, means over seeds.
    fn by_round(&self, arm: &str) -> Result<Vec<f64>> {
        Ok(self.results.mean_series(arm, SPARSE)?.into_iter().map(|(_, v)| v).collect())
    }

    fn densities(&self) -> Vec<f64> {
        let s = &self.config.supervised;
        let pruning = IterativePruning { rate: s.rate, rounds: s.rounds };
        (0..=s.rounds).map(|r| pruning.density(r)).collect()
    }

    /// C6.
    fn tickets(&self) -> Result<Finding> {
        let [student, random, rewound] = TICKETS;
        let sparse = |arm: &str| self.results.values(arm, SPARSE);
        let over = verdict::difference(&sparse(student)?, &sparse(random)?, 0.0);
        let near = verdict::difference(&sparse(student)?, &sparse(rewound)?, 0.0);
        let verdict = match over.verdict {
            Verdict::Reproduced if near.estimate.value < -1.0 => Verdict::Partly,
            v => v,
        };
        let list = |arm: &str| -> Result<String> {
            let values = self.by_round(arm)?.iter().map(|v| format!("{v:.1}")).collect::<Vec<_>>();
            Ok(format!("{arm} {}", values.join(", ")))
        };
        let densities = self.densities().iter().map(|d| format!("{:.1}", 100.0 * d)).collect::<Vec<_>>();
        let note = format!(
            "Points of the student over the random start at the lowest density; over the rewound start {near:+}. Accuracy (%) at {} % of the weights: {}; {}; {}.",
            densities.join(", "),
            list(student)?,
            list(random)?,
            list(rewound)?
        );
        Ok(Finding::new("C6", over, note).against(stats::mean(&sparse(random)?)).verdict(verdict))
    }

    /// C7.
    fn lines(&self) -> Result<Finding> {
        let [student, random] = LINES.map(|arm| self.results.values(arm, BARRIER));
        let (student, random) = (student?, random?);
        let lower = verdict::difference(&random, &student, 0.0);
        let all = student.iter().zip(&random).all(|(s, r)| s < r);
        let verdict = match lower.estimate.value {
            _ if all => Verdict::Reproduced,
            mean if mean > 0.0 => Verdict::Partly,
            _ => Verdict::NotReproduced,
        };
        let note = format!(
            "Points of error by which the random start's barrier exceeds the student's; means {:.2} and {:.2}.",
            stats::mean(&random),
            stats::mean(&student)
        );
        Ok(Finding::new("C7", lower, note).against(stats::mean(&random)).verdict(verdict.with_seeds(student.len())))
    }

    /// C8.
    fn adam(&self) -> Result<Finding> {
        let moved = self.results.values(SGD, MOVED)?;
        let judged = verdict::within(&moved, 1e-6);
        let note = format!(
            "Largest relative distance after {} steps of plain gradient descent. AdamW, without norms too: {:.2} after {} steps. That normalisation of features matters more than that of weights, and the number of outputs, are not judged.",
            self.config.sgd_steps,
            self.results.mean(NO_NORM, MOVED)?,
            self.config.slow_steps
        );
        let verdict = judged.verdict.with_seeds(moved.len());
        Ok(Finding::new("C8", judged, note).against(1e-6).verdict(verdict))
    }
}

fn judge(results: &Results) -> Result<Judge<'_>> {
    Ok(Judge { results, config: results.plan().config()? })
}

pub(super) fn findings(results: &Results) -> Result<Vec<Finding>> {
    let j = judge(results)?;
    Ok(vec![j.better()?, j.data()?, j.transfer()?, j.locality()?, j.loss()?, j.tickets()?, j.lines()?, j.adam()?])
}

pub(super) fn plots(results: &Results) -> Result<Vec<Plot>> {
    let j = judge(results)?;
    let ridge = PROBES[0];
    let mut plots = vec![];
    let end = j.config.steps as f64;
    for (name, probe) in [("ridge", ridge), ("adamw", PROBES[1])] {
        let mut series = vec![];
        for (i, arm) in [LOCAL_ARM, FAR, NOISE, GROUP].into_iter().enumerate() {
            series.push(Series::line(arm, i, &results.mean_series(arm, probe)?));
        }
        for (name, i, value) in
            [("teacher", 7, stats::mean(&j.teacher(LOCAL_ARM, probe)?)), ("pixels", 8, results.mean(PIXELS, probe)?)]
        {
            series.push(Series::line(name, i, &[(0.0, value), (end, value)]).dashed());
        }
        plots.push(Plot::lines(
            name,
            &format!("The {probe} of students while they imitate their teachers; means over seeds."),
            "step",
            &format!("{probe} (%)"),
            series,
        ));
    }
    let with_interval = |x: f64, arm: &str| -> Result<(f64, f64, f64)> {
        let (mean, half) = verdict::summary(&j.decided(arm, ridge)?);
        Ok((x, mean, half))
    };
    let mut by_alpha = vec![with_interval(0.0, LOCAL_ARM)?];
    for alpha in &j.config.alphas {
        by_alpha.push(with_interval(*alpha, &alpha_arm(*alpha))?);
    }
    by_alpha.push(with_interval(1.0, FAR)?);
    by_alpha.sort_by(|a, b| a.0.total_cmp(&b.0));
    let teacher = stats::mean(&j.teacher(LOCAL_ARM, ridge)?);
    plots.push(Plot::lines(
        "alpha",
        "Ridge probe of the student at the deciding step by the distance of its start from the teacher; means with 95 % intervals.",
        "alpha",
        "ridge probe accuracy (%)",
        vec![
            Series::with_intervals("student", 0, by_alpha),
            Series::line("teacher", 7, &[(0.0, teacher), (1.0, teacher)]).dashed(),
        ],
    ));
    let mut by_count = vec![];
    for count in &j.config.counts {
        by_count.push(with_interval(*count as f64, &count_arm(*count))?);
    }
    by_count.push(with_interval(j.config.images as f64, LOCAL_ARM)?);
    by_count.sort_by(|a, b| a.0.total_cmp(&b.0));
    let ends = [by_count[0].0, j.config.images as f64];
    let flat = |name: &str, colour: usize, y: f64| Series::line(name, colour, &ends.map(|x| (x, y))).dashed();
    plots.push(
        Plot::lines(
            "images",
            "Ridge probe of the student at the deciding step by the number of images that it saw; means with 95 % intervals.",
            "images",
            "ridge probe accuracy (%)",
            vec![
                Series::with_intervals("student", 0, by_count),
                flat("noise", 2, stats::mean(&j.decided(NOISE, ridge)?)),
                flat("teacher", 7, teacher),
            ],
        )
        .log(true, false),
    );
    let mut kl = vec![];
    for (i, arm) in [LOCAL_ARM, FAR, NOISE, GROUP, NO_NORM].into_iter().enumerate() {
        kl.push(Series::line(arm, i, &results.mean_series(arm, KL)?));
    }
    plots.push(
        Plot::lines(
            "kl",
            "Divergence of students from their teachers on training batches; means over seeds.",
            "step",
            "KL (nats)",
            kl,
        )
        .log(false, true),
    );
    let mut tickets = vec![];
    for (i, arm) in TICKETS.into_iter().enumerate() {
        let points: Vec<_> = j.densities().into_iter().map(|d| 100.0 * d).zip(j.by_round(arm)?).collect();
        tickets.push(Series::line(arm, i, &points));
    }
    plots.push(
        Plot::lines(
            "tickets",
            "Test accuracy of networks trained after iterative magnitude pruning with rewinding to each start; means over seeds.",
            "weights left (%)",
            "test accuracy (%)",
            tickets,
        )
        .log(true, false),
    );
    let mut lines = vec![];
    for (i, arm) in LINES.into_iter().enumerate() {
        let seeds = results.seeds(arm);
        let mut sum = vec![0.0; j.config.supervised.points];
        for seed in &seeds {
            sum.iter_mut().zip(results.array(arm, *seed, "errors")?).for_each(|(s, e)| *s += e / seeds.len() as f64);
        }
        let last = (sum.len() - 1) as f64;
        let points: Vec<_> = sum.iter().enumerate().map(|(k, e)| (k as f64 / last, *e)).collect();
        lines.push(Series::line(arm, i, &points));
    }
    plots.push(Plot::lines(
        "lines",
        "Test error on the line between networks trained from one start in two orders; means over pairs and seeds.",
        "share of the second network",
        "test error (%)",
        lines,
    ));
    Ok(plots)
}
