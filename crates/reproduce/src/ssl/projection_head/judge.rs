//! Findings and plots.

use super::models::{unit, weight_of};
use super::{ACCURACY, Arm, Config, GAP, Head, LAYERS, Supervision, VARIATION, WEIGHT_ERROR};
use crate::plot::{Plot, Series};
use crate::results::Results;
use crate::verdict::{self, Finding, Judgement, Verdict};
use anyhow::Result;
use autodidact_core::stats::{self, Estimate};
use autodidact_ssl::projection_head::{FeatureTask, closed_form, difficulty};

/// A feature of a sampled run.
struct Pair {
    phi: f64,
    alpha: f64,
    /// `log(D_post / D_pre)` by the closed form.
    log_ratio: f64,
    /// Accuracy below minus above, in points.
    gap: f64,
}

struct Study<'a> {
    results: &'a Results,
    config: Config,
}

impl<'a> Study<'a> {
    fn new(results: &'a Results) -> Result<Self> {
        Ok(Self { results, config: results.plan().config()? })
    }

    fn values(&self, arm: Arm, metric: &str) -> Result<Vec<f64>> {
        self.results.values(&arm.to_string(), metric)
    }

    fn sampled(&self) -> Arm {
        Arm::Sampled { weight_decay: 0.0 }
    }

    fn digits(&self, head: Head, p: f64) -> Arm {
        Arm::Digits { head, p, strength: self.config.strengths[0] }
    }

    /// Accuracy below minus above the head, paired by seed.
    fn gap(&self, arm: Arm) -> Result<Judgement> {
        let [pre, post] = ACCURACY;
        Ok(verdict::difference(&self.values(arm, pre)?, &self.values(arm, post)?, 0.0))
    }

    fn pairs(&self) -> Result<Vec<Pair>> {
        let arm = self.sampled().to_string();
        let mut pairs = vec![];
        for seed in self.results.seeds(&arm) {
            let array = |name: &str| self.results.array(&arm, seed, name).map(<[f64]>::to_vec);
            let (phi, alpha) = (array("phi")?, array("alpha")?);
            let task = FeatureTask::new(phi, alpha, vec![1.0; self.config.sampled.features])?;
            let [pre, post] = [closed_form::pre(&task), closed_form::post(&task)];
            let [below, above] = [array("accuracies, pre")?, array("accuracies, post")?];
            for k in 0..task.features() {
                let d = |weights: &[f64]| difficulty(weights, &task.phi_down, k);
                pairs.push(Pair {
                    phi: task.phi[k],
                    alpha: task.alpha[k],
                    log_ratio: (d(&post)? / d(&pre)?).ln(),
                    gap: below[k] - above[k],
                });
            }
        }
        Ok(pairs)
    }

    /// C1.
    fn weighting(&self) -> Result<Finding> {
        let closed = verdict::within(&self.values(Arm::Linear, WEIGHT_ERROR)?, 0.02);
        let [pre, post] = VARIATION.map(|name| self.values(self.sampled(), name));
        let (pre, post) = (pre?, post?);
        let ordered = pre.iter().zip(&post).filter(|(pre, post)| pre < post).count();
        let worst = |layer: &str| -> Result<f64> {
            let errors = self.values(Arm::Linear, &format!("{WEIGHT_ERROR}, {layer}"))?;
            Ok(100.0 * errors.into_iter().fold(0.0, f64::max))
        };
        let note = format!(
            "Largest relative error shown; in percent {:.3} below and {:.1e} above the head. Coefficient of variation in the sampled runs {:.3} below and {:.3} above (means), less below in {ordered} of {} seeds.",
            worst("pre")?,
            worst("post")?,
            stats::mean(&pre),
            stats::mean(&post),
            pre.len()
        );
        let met = closed.verdict == Verdict::Reproduced && ordered == pre.len();
        Ok(Finding::new("C1", closed, note).against(0.02).verdict(Verdict::of(met).with_seeds(pre.len())))
    }

    /// C2.
    fn conditions(&self) -> Result<Finding> {
        let pairs = self.pairs()?;
        let apart: Vec<&Pair> = pairs.iter().filter(|p| p.log_ratio.abs() > 0.5).collect();
        let agree = |pairs: &[&Pair]| pairs.iter().filter(|p| p.gap * p.log_ratio > 0.0).count();
        let right = agree(&apart);
        let Ok(estimate) = stats::wilson_ci(right, apart.len(), verdict::LEVEL) else {
            return Ok(Finding::not_judged("C2", "no two difficulties differ by the factor"));
        };
        let verdict = match estimate.value {
            rate if rate >= 0.8 => Verdict::Reproduced,
            rate if rate >= 0.65 => Verdict::Partly,
            _ => Verdict::NotReproduced,
        };
        let (below, above): (Vec<&Pair>, Vec<&Pair>) = apart.iter().partition(|p| p.log_ratio > 0.0);
        let points = |pairs: &[&Pair]| stats::mean(&pairs.iter().map(|p| p.gap).collect::<Vec<_>>());
        let note = format!(
            "Signs agree for {right} of {} pairs ({} in all): {} of the {} where the layer below should be better (mean gap {:.2} points), {} of the {} where the one above should ({:.2}).",
            apart.len(),
            pairs.len(),
            agree(&below),
            below.len(),
            points(&below),
            agree(&above),
            above.len(),
            points(&above),
        );
        let constant = 100.0 * below.len().max(above.len()) as f64 / apart.len() as f64;
        let note = format!("{note} Always answering with the more frequent side would be right for {constant:.0} %.");
        let judged = Judgement { estimate, verdict: verdict.with_seeds(self.results.plan().seeds.len()) };
        Ok(Finding::new("C2", judged, note).against(0.8))
    }

    /// C3.
    fn absent(&self) -> Result<Finding> {
        let (d, arm) = (&self.config.diagonal, Arm::Diagonal.to_string());
        let seed = self.results.seeds(&arm)[0];
        let (mut zs, mut shares) = (vec![], vec![]);
        for &phi in &d.phi {
            let [u, z] = unit(phi, 1.0);
            zs.push(self.results.value(&arm, seed, &z)?);
            shares.push(self.results.value(&arm, seed, &u)? / (phi * d.b2).sqrt());
        }
        let list = |v: &[f64], digits: usize| v.iter().map(|v| format!("{v:.digits$}")).collect::<Vec<_>>().join(", ");
        let note = format!(
            "Largest z shown. For phi = {:?}: z = {}, u / sqrt(phi b2) = {}. Nothing in it is random.",
            d.phi,
            list(&zs, 4),
            list(&shares, 3)
        );
        let met = zs.iter().all(|z| *z < 0.02) && shares.iter().all(|s| *s > 0.9);
        let estimate = Estimate { n: zs.len(), ..Estimate::exact(zs.iter().copied().fold(0.0, f64::max)) };
        Ok(Finding::new("C3", Judgement { estimate, verdict: Verdict::of(met) }, note).against(0.02))
    }

    /// C4.
    fn dropped_digits(&self) -> Result<Finding> {
        let gaps: Vec<Judgement> =
            self.config.p_drop.iter().map(|p| self.gap(self.digits(Head::Mlp, *p))).collect::<Result<_>>()?;
        let focal = self.gap(self.digits(Head::Mlp, self.config.focus))?;
        let grows = gaps[gaps.len() - 1].estimate.value >= gaps[0].estimate.value;
        let verdict = match focal.verdict {
            Verdict::Reproduced if !grows => Verdict::Partly,
            other => other,
        };
        let each = self.config.p_drop.iter().zip(&gaps).map(|(p, gap)| -> Result<String> {
            let arm = self.digits(Head::Mlp, *p);
            let [pre, post] = ACCURACY.map(|name| self.values(arm, name));
            let (pre, post) = (stats::mean(&pre?), stats::mean(&post?));
            Ok(format!("{pre:.2} and {post:.2} at p = {p}, difference {gap}"))
        });
        let ends = [self.config.p_drop[self.config.p_drop.len() - 1], self.config.p_drop[0]];
        let of = |p: f64| -> Result<Vec<f64>> {
            let [pre, post] = ACCURACY.map(|name| self.values(self.digits(Head::Mlp, p), name));
            Ok(pre?.iter().zip(post?).map(|(pre, post)| pre - post).collect())
        };
        let growth = verdict::difference(&of(ends[0])?, &of(ends[1])?, 0.0);
        let note = format!(
            "Digit accuracy (%) below and above the head: {}. The difference grows from the least to the largest probability by {growth}.",
            each.collect::<Result<Vec<_>>>()?.join("; ")
        );
        Ok(Finding::new("C4", focal, note).verdict(verdict))
    }

    /// C5.
    fn super_classes(&self) -> Result<Finding> {
        let mut gaps = vec![];
        let mut notes = vec![];
        for loss in Supervision::ALL {
            let arm = Arm::Coarse { loss, head: Head::Mlp };
            let gap = self.gap(arm)?;
            let [pre, post] = ACCURACY.map(|name| self.values(arm, name));
            let (pre, post) = (stats::mean(&pre?), stats::mean(&post?));
            notes.push(format!("{} {pre:.2} and {post:.2}, difference {gap}", loss.words()));
            gaps.push(gap);
        }
        let verdict = Verdict::all(&gaps.iter().map(|g| g.verdict).collect::<Vec<_>>());
        let note =
            format!("Fine accuracy (%) below and above the head: {}. The first difference is shown.", notes.join("; "));
        Ok(Finding::new("C5", gaps[0], note).verdict(verdict))
    }

    /// C6.
    fn fixed_head(&self) -> Result<Finding> {
        let pre = |head| self.values(self.digits(head, self.config.focus), ACCURACY[0]);
        let (mlp, fixed, none) = (pre(Head::Mlp)?, pre(Head::Fixed)?, pre(Head::None)?);
        let gain = verdict::difference(&fixed, &none, 0.0);
        let (over_none, below_mlp) =
            (stats::mean(&fixed) - stats::mean(&none), stats::mean(&mlp) - stats::mean(&fixed));
        let verdict = match (over_none > 0.0, below_mlp <= 2.0) {
            (true, true) => Verdict::Reproduced,
            (true, false) => Verdict::Partly,
            _ => Verdict::NotReproduced,
        };
        let note = format!(
            "Digit accuracy (%) below the head at p = {}: MLP {:.2}, fixed {:.2}, none {:.2}. Fixed minus none in points {}, fixed minus MLP {}.",
            self.config.focus,
            stats::mean(&mlp),
            stats::mean(&fixed),
            stats::mean(&none),
            gain,
            verdict::difference(&fixed, &mlp, 0.0),
        );
        Ok(Finding::new("C6", gain, note).verdict(verdict.with_seeds(mlp.len())))
    }

    /// C7.
    fn weight_decay(&self) -> Result<Finding> {
        let without = self.values(self.sampled(), GAP)?;
        let decayed = Arm::Sampled { weight_decay: self.config.sampled.weight_decay };
        let with = self.values(decayed, GAP)?;
        let accuracies = |arm: Arm| -> Result<String> {
            let [pre, post] = ACCURACY.map(|name| self.values(arm, name));
            Ok(format!("{:.2} and {:.2}", stats::mean(&pre?), stats::mean(&post?)))
        };
        // A small feature's gradient is of the third order in its weights, its decay of the first.
        let lost = |arm: Arm| -> Result<usize> {
            let arm = arm.to_string();
            let each = self.results.seeds(&arm).into_iter().map(|seed| -> Result<usize> {
                let of = |name: &str| self.results.array(&arm, seed, name);
                let (weights, limits) = (of("weights, post")?, of("limits, post")?);
                Ok(weights.iter().zip(limits).filter(|(w, limit)| **w < 0.2 * **limit).count())
            });
            each.sum()
        };
        let note = format!(
            "Absolute gap in points {:.2} without and {:.2} with decay {}; accuracies (%) below and above {} without, {} with. Features that end below a fifth of their limit above the head, over all seeds: {} without, {} with decay, which keeps weak features from being learned. Without minus with is shown.",
            stats::mean(&without),
            stats::mean(&with),
            self.config.sampled.weight_decay,
            accuracies(self.sampled())?,
            accuracies(decayed)?,
            lost(self.sampled())?,
            lost(decayed)?,
        );
        let judged = verdict::difference(&without, &with, 0.0);
        let verdict = Verdict::of(stats::mean(&with) < stats::mean(&without)).with_seeds(with.len());
        Ok(Finding::new("C7", judged, note).verdict(verdict))
    }
}

/// The finding of every claim.
pub(super) fn findings(results: &Results) -> Result<Vec<Finding>> {
    let study = Study::new(results)?;
    Ok(vec![
        study.weighting()?,
        study.conditions()?,
        study.absent()?,
        study.dropped_digits()?,
        study.super_classes()?,
        study.fixed_head()?,
        study.weight_decay()?,
    ])
}

/// Weights over time, accuracy gaps over difficulty, units over time, accuracies of the image parts.
pub(super) fn plots(results: &Results) -> Result<Vec<Plot>> {
    let study = Study::new(results)?;
    let mut plots = vec![study.weights()?, study.gaps()?, study.gap_map()?, study.units()?];
    plots.extend(study.accuracies()?);
    Ok(plots)
}

impl Study<'_> {
    fn weights(&self) -> Result<Plot> {
        let (l, arm) = (&self.config.linear, Arm::Linear.to_string());
        let seed = self.results.seeds(&arm)[0];
        let mut lines = vec![];
        for (layer, name) in LAYERS.iter().enumerate() {
            for i in 0..l.phi.len() {
                let points = self.results.series(&arm, seed, &weight_of(name, i))?;
                let line = Series::line(format!("feature {}, {name}", i + 1), i, &points);
                lines.push(if layer == 0 { line.dashed() } else { line });
            }
        }
        let caption = format!(
            "Weights of the features below (dashed) and above the head by the population's gradient, first seed; phi = {:?}, alpha = {:?}.",
            l.phi, l.alpha
        );
        Ok(Plot::lines("weights", &caption, "step", "weight of the feature", lines).log(true, false))
    }

    fn gaps(&self) -> Result<Plot> {
        let points: Vec<(f64, f64)> = self.pairs()?.iter().map(|p| (p.log_ratio, p.gap)).collect();
        let dots = Series::line("features", 0, &points).dots();
        let caption = "Few-shot accuracy below minus above the head, over how much harder the task is above by the closed form; every feature of every seed, without weight decay.";
        Ok(Plot::lines("gap", caption, "log(D post / D pre)", "accuracy, pre minus post (points)", vec![dots]))
    }

    /// Means of the gap over a grid of `alpha` (across) and `phi` (upwards).
    fn gap_map(&self) -> Result<Plot> {
        const BINS: usize = 4;
        let bin = |v: f64, low: f64, high: f64| (((v - low) / (high - low) * BINS as f64) as usize).min(BINS - 1);
        let mut cells = vec![vec![]; BINS * BINS];
        for p in self.pairs()? {
            let (row, column) = (BINS - 1 - bin(p.phi, 0.5, 2.0), bin(p.alpha, 0.0, 0.9));
            cells[row * BINS + column].push(p.gap);
        }
        let means: Vec<f64> = cells.iter().map(|c| if c.is_empty() { 0.0 } else { stats::mean(c) }).collect();
        let most = means.iter().fold(0.1, |m: f64, v| m.max(v.abs()));
        let panel = ("accuracy, pre minus post".to_owned(), BINS, BINS, means);
        let caption = format!(
            "Mean of the same gap by alpha (0 to 0.9, left to right) and phi (0.5 to 2, bottom to top): blue where the layer below is better, orange where the one above is, up to {most:.1} points."
        );
        Ok(Plot::heat("gap-map", &caption, vec![panel], -most, most))
    }

    fn units(&self) -> Result<Plot> {
        let (d, arm) = (&self.config.diagonal, Arm::Diagonal.to_string());
        let seed = self.results.seeds(&arm)[0];
        let phi = if d.phi.contains(&1.0) { 1.0 } else { d.phi[0] };
        let mut lines = vec![];
        for (i, &alpha) in d.alpha.iter().enumerate() {
            for (name, dashed) in unit(phi, alpha).into_iter().zip([true, false]) {
                let layer = if dashed { "u" } else { "z" };
                let line =
                    Series::line(format!("{layer}, alpha = {alpha}"), i, &self.results.series(&arm, seed, &name)?);
                lines.push(if dashed { line.dashed() } else { line });
            }
        }
        let caption = format!("Units with two dead zones at phi = {phi}: below (u, dashed) and above (z).");
        Ok(Plot::lines("units", &caption, "step", "activation", lines).log(true, false))
    }

    fn accuracies(&self) -> Result<Vec<Plot>> {
        let n = self.results.seeds(&self.digits(Head::Mlp, self.config.focus).to_string()).len();
        let lines = ACCURACY.iter().enumerate().map(|(i, metric)| {
            let points = self.config.p_drop.iter().map(|&p| -> Result<(f64, f64, f64)> {
                let (mean, half) = verdict::summary(&self.values(self.digits(Head::Mlp, p), metric)?);
                Ok((p, mean, half))
            });
            Ok(Series::with_intervals(LAYERS[i], i, points.collect::<Result<_>>()?))
        });
        let caption = format!(
            "Digit accuracy below (pre) and above (post) the MLP head; means of {n} seeds with 95 % intervals."
        );
        let x = "probability that one view shows no digit";
        let dropped = Plot::lines("dropped", &caption, x, "digit accuracy (%)", lines.collect::<Result<_>>()?);
        let bars = |arms: Vec<(String, Arm)>| -> Result<Vec<_>> {
            let mut bars = vec![];
            for (name, arm) in arms {
                for (i, metric) in ACCURACY.iter().enumerate() {
                    let (mean, half) = verdict::summary(&self.values(arm, metric)?);
                    bars.push((format!("{name}, {}", LAYERS[i]), mean, half, i));
                }
            }
            Ok(bars)
        };
        let heads = Head::ALL.map(|h| (h.words().to_owned(), self.digits(h, self.config.focus)));
        let caption = format!(
            "Digit accuracy by head, one view without its digit with probability {}; means of {n} seeds with 95 % intervals.",
            self.config.focus
        );
        let heads = Plot::bars("heads", &caption, "digit accuracy (%)", bars(heads.into())?);
        let losses = Supervision::ALL.map(|loss| (loss.words().to_owned(), Arm::Coarse { loss, head: Head::Mlp }));
        let caption = format!(
            "Accuracy on classes after training on super-classes, MLP head; means of {n} seeds with 95 % intervals."
        );
        let coarse = Plot::bars("super-classes", &caption, "accuracy (%)", bars(losses.into())?);
        Ok(vec![dropped, heads, coarse])
    }
}
