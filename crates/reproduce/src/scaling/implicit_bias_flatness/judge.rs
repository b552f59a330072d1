//! The findings.

use super::{
    ADVERSARIAL, CEILING, Config, EARLIER, EXCESS, FROZEN, GD, HALF, LABELS, PROBE, SGD, TRACE, by_size, by_width,
};
use crate::results::Results;
use crate::verdict::{self, Finding, Judgement, Verdict};
use anyhow::{Context as _, Result};
use autodidact_core::stats::{self, Estimate};
use autodidact_scaling::implicit_bias_flatness::{
    Checkpoint, FlatnessReport, OutputScale, SaturationMeter, flatness_report,
};

/// Largest excess of saturated frozen features.
const FROZEN_BAND: f64 = 0.003;
/// Arms whose models are compared in one band.
const COMPARED: [&str; 6] = [SGD, HALF, LABELS, GD, FROZEN, ADVERSARIAL];

pub fn findings(results: &Results) -> Result<Vec<Finding>> {
    let study = Study::new(results)?;
    Ok(vec![study.longer()?, study.sizes()?, study.algorithms()?, study.flatness()?, study.noise()?, study.flattest()?])
}

pub struct Study<'a> {
    pub results: &'a Results,
    pub c: Config,
    pub seeds: Vec<u64>,
}

impl<'a> Study<'a> {
    pub fn new(results: &'a Results) -> Result<Self> {
        Ok(Self { results, c: results.plan().config()?, seeds: results.seeds(SGD) })
    }

    /// A metric at a step of every seed.
    pub fn at(&self, arm: &str, metric: &str, step: usize) -> Result<Vec<f64>> {
        let of = |seed: &u64| {
            let series = self.results.series(arm, *seed, metric)?;
            let point = series.iter().find(|p| p.0 == step as f64).map(|p| p.1);
            point.with_context(|| format!("{arm} has no {metric} at step {step}"))
        };
        self.results.seeds(arm).iter().map(of).collect()
    }

    fn enough(&self, verdict: Verdict) -> Verdict {
        verdict.with_seeds(self.seeds.len())
    }

    /// All models of an arm and seed.
    pub fn models(&self, arm: &str, seed: u64) -> Result<Vec<Checkpoint>> {
        let [excess, trace, probe] = [EXCESS, TRACE, PROBE].map(|m| self.results.series(arm, seed, m));
        let (excess, trace, probe) = (excess?, trace?, probe?);
        let each = excess.iter().zip(&trace).zip(&probe);
        Ok(each.map(|((e, t), p)| Checkpoint { excess: e.1, trace: t.1, downstream: p.1 }).collect())
    }

    /// The models of the main width (and frozen features), each once: arms that train on start from the same one.
    fn compared(&self, seed: u64) -> Result<Vec<Checkpoint>> {
        let shared = |arm: &str| usize::from([HALF, LABELS, GD].contains(&arm));
        let all = COMPARED.iter().map(|arm| Ok(self.models(arm, seed)?.split_off(shared(arm))));
        Ok(all.collect::<Result<Vec<_>>>()?.concat())
    }

    /// The models of other widths, with a factor of the output.
    fn other_widths(&self, scale: OutputScale, seed: u64) -> Result<Vec<Checkpoint>> {
        let all = self.c.widths.iter().map(|m| self.models(&by_width(*m, scale), seed));
        Ok(all.collect::<Result<Vec<_>>>()?.concat())
    }

    fn meter(&self) -> SaturationMeter {
        SaturationMeter { entropy: 0.0, tol: self.c.band }
    }

    fn gain(&self) -> Result<Judgement> {
        Ok(verdict::difference(&self.results.values(SGD, PROBE)?, &self.results.values(GD, PROBE)?, 0.0))
    }

    /// C1.
    fn longer(&self) -> Result<Finding> {
        let gain = self.gain()?;
        let mean = |arm: &str, step: usize| Ok::<f64, anyhow::Error>(stats::mean(&self.at(arm, PROBE, step)?));
        let last = self.c.last();
        let mut decoders = vec![];
        for &size in &self.c.sizes {
            let (arm, end) = (by_size(size), self.c.sgd_checkpoints[self.c.sgd_checkpoints.len() - 1]);
            decoders.push(format!("d = {size}: {:.3} to {:.3}", mean(&arm, 0)?, mean(&arm, end)?));
        }
        let note = format!(
            "Probe with SGD {:.3} at saturation, {:.3} after {last} further steps; without noise {:.3}, with label noise {:.3}, at half the rate {:.3}. Part B, probe before and after SGD: {}. Shown: SGD minus descent.",
            mean(SGD, 0)?,
            mean(SGD, last)?,
            mean(GD, last)?,
            mean(LABELS, last)?,
            mean(HALF, last)?,
            decoders.join("; "),
        );
        Ok(Finding::new("C1", gain, note).against(mean(GD, last)?))
    }

    /// C2.
    fn sizes(&self) -> Result<Finding> {
        let c = &self.c;
        let seeds = self.results.seeds(&by_size(c.sizes[0]));
        let x: Vec<f64> = c.sizes.iter().map(|s| (*s as f64).log2()).collect();
        let by_seed = |metric: &str, sign: f64| -> Result<Vec<Vec<f64>>> {
            let of =
                |s: &u64| c.sizes.iter().map(|d| Ok(sign * self.results.value(&by_size(*d), *s, metric)?)).collect();
            seeds.iter().map(of).collect()
        };
        let (probe, flat) = (verdict::trend(&x, &by_seed(PROBE, 1.0)?), verdict::trend(&x, &by_seed(TRACE, -1.0)?));
        let excesses = by_seed(EXCESS, 1.0)?.concat();
        let saturated = excesses.iter().all(|e| *e < c.hmm_band);
        let mut table = vec![];
        for &d in &c.sizes {
            let mean = |metric: &str| self.results.mean(&by_size(d), metric);
            table.push(format!(
                "d = {d}: excess {:.4}, trace {:.1}, probe {:.3} (earlier state {:.3}, exact posterior {:.3})",
                mean(EXCESS)?,
                mean(TRACE)?,
                mean(PROBE)?,
                mean(EARLIER)?,
                mean(CEILING)?
            ));
        }
        let mut widths = vec![];
        for scale in [OutputScale::Root, OutputScale::Mean] {
            for &m in &c.widths {
                let mean = |metric: &str| self.results.mean(&by_width(m, scale), metric);
                widths.push(format!(
                    "{} {m}: excess {:.4}, trace {:.3}, probe {:.3}",
                    if scale == OutputScale::Root { "1/sqrt m," } else { "1/m," },
                    mean(EXCESS)?,
                    mean(TRACE)? * scale.rate(m),
                    mean(PROBE)?
                ));
            }
        }
        let verdict = if saturated { Verdict::all(&[probe.verdict, flat.verdict]) } else { Verdict::NotJudged };
        let note = format!(
            "Part B, {}: {}. Slope of the probe by log2 d {probe:+}, of minus the trace {flat:+}{}. Part A's widths after descent (traces times the factor of the rate): {}. Shown: the probe's slope.",
            if saturated { "all saturated" } else { "not all saturated" },
            table.join("; "),
            if saturated { "" } else { "; without equal loss these say nothing about the claim" },
            widths.join("; "),
        );
        Ok(Finding::new("C2", probe, note).verdict(self.enough(verdict)))
    }

    /// C3.
    fn algorithms(&self) -> Result<Finding> {
        let probes = |arm: &str| self.results.values(arm, PROBE);
        let (natural, frozen) = (probes(GD)?, probes(FROZEN)?);
        let loss = verdict::difference(&natural, &frozen, 0.1);
        let partner = by_width(self.c.frozen_width, OutputScale::Root);
        let as_wide = probes(&partner)?;
        let of_width = verdict::difference(&as_wide, &frozen, 0.0);
        let excess = [self.results.values(FROZEN, EXCESS)?, self.results.values(&partner, EXCESS)?].concat();
        let saturated = excess.iter().all(|e| *e < FROZEN_BAND);
        let verdict = match loss.or_partly() {
            _ if !saturated => Verdict::NotJudged,
            Verdict::Reproduced if of_width.verdict != Verdict::Reproduced => Verdict::Partly,
            verdict => verdict,
        };
        let start = self.at(GD, PROBE, 0)?;
        let note = format!(
            "Probe {:.3} without noise, {:.3} with SGD, {:.3} on frozen features, {:.3} by descent at their width (difference {of_width:+}; largest excess of the two {:.4}{}). With the adversary {:.3} (excess {:.4}, trace {:.2}), after as many plain steps {:.3} (difference {:+}). Shown: descent minus frozen features.",
            stats::mean(&natural),
            self.results.mean(SGD, PROBE)?,
            stats::mean(&frozen),
            stats::mean(&as_wide),
            excess.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            if saturated { "" } else { ", not saturated" },
            self.results.mean(ADVERSARIAL, PROBE)?,
            self.results.mean(ADVERSARIAL, EXCESS)?,
            self.results.mean(ADVERSARIAL, TRACE)?,
            stats::mean(&start),
            verdict::difference(&start, &probes(ADVERSARIAL)?, 0.0),
        );
        Ok(Finding::new("C3", loss, note).against(stats::mean(&frozen)).verdict(self.enough(verdict)))
    }

    /// C4.
    fn flatness(&self) -> Result<Finding> {
        let of = |models: &dyn Fn(u64) -> Result<Vec<Checkpoint>>| {
            self.seeds.iter().map(|s| models(*s)).collect::<Result<Vec<_>>>()
        };
        let main = of(&|s| self.compared(s))?;
        let [root, mean] = [OutputScale::Root, OutputScale::Mean].map(|scale| of(&|s| self.other_widths(scale, s)));
        let (root, mean) = (root?, mean?);
        let all: Vec<Vec<Checkpoint>> =
            main.iter().zip(&root).zip(&mean).map(|((a, b), c)| [&a[..], b, c].concat()).collect();
        let Ok(report) = flatness_report(&all.concat(), &self.meter()) else {
            return Ok(Finding::not_judged("C4", "Fewer than three models are saturated, or they do not differ."));
        };
        let words = |models: &[Vec<Checkpoint>]| {
            let report = flatness_report(&models.concat(), &self.meter()).ok();
            report.map_or("unknown".to_owned(), |r| format!("{:.2} and {:.2}", r.trace, r.excess))
        };
        let FlatnessReport { models, trace, excess, range } = report;
        let within: Vec<f64> = all.iter().filter_map(|m| Some(flatness_report(m, &self.meter()).ok()?.trace)).collect();
        let at = |step: usize| Ok::<f64, anyhow::Error>(stats::mean(&self.at(SGD, TRACE, step)?));
        let verdict = Verdict::all(&[trace <= -0.7, excess.abs() < trace.abs()].map(Verdict::of));
        let note = format!(
            "{models} saturated models with probes from {:.3} to {:.3}: Spearman's correlation with the probe is {trace:.2} of the trace and {excess:.2} of the excess; within seeds {:.2} of the trace on average. Of the main width and frozen features alone {}; of the other widths with 1/sqrt m {}, where wider and flatter nets probe worse. Models of one run depend on each other, so no interval is given. With SGD the trace falls from {:.2} to {:.2}.",
            range.0,
            range.1,
            stats::mean(&within),
            words(&main),
            words(&root),
            at(0)?,
            at(self.c.last())?,
        );
        let judgement = Judgement { estimate: Estimate { n: self.seeds.len(), ..Estimate::exact(trace) }, verdict };
        Ok(Finding::new("C4", judgement, note).against(excess).verdict(self.enough(verdict)))
    }

    /// C5.
    fn noise(&self) -> Result<Finding> {
        let last = self.c.last();
        let ratios = |arm: &str, step: usize| -> Result<Vec<f64>> {
            let (start, end) = (self.at(arm, TRACE, 0)?, self.at(arm, TRACE, step)?);
            Ok(end.iter().zip(&start).map(|(e, s)| e / s).collect())
        };
        let (sgd, gd) = (ratios(SGD, last)?, ratios(GD, last)?);
        let mut worst = f64::NEG_INFINITY;
        for (arm, seed) in [SGD, GD].into_iter().flat_map(|a| self.seeds.iter().map(move |s| (a, *s))) {
            worst = self.models(arm, seed)?.iter().fold(worst, |w, m| w.max(m.excess));
        }
        let met =
            sgd.iter().all(|r| *r <= 0.75) && gd.iter().all(|r| (0.98..=1.02).contains(r)) && worst <= self.c.band;
        let verdict = match () {
            _ if met => Verdict::Reproduced,
            _ if sgd.iter().zip(&gd).all(|(s, g)| s < g) => Verdict::Partly,
            _ => Verdict::NotReproduced,
        };
        let list = |r: &[f64]| r.iter().map(|v| format!("{v:.3}")).collect::<Vec<_>>().join(", ");
        // Half the rate for four times the steps should give the same trace.
        let quarter = self.c.checkpoints.iter().find(|s| **s > 0 && **s * 4 == last);
        let slow = match quarter {
            Some(step) => {
                format!(" (at the full rate after a quarter of the steps {:.3})", stats::mean(&ratios(SGD, *step)?))
            }
            None => String::new(),
        };
        let note = format!(
            "Trace after {last} steps over its start, by seed: SGD {}; without noise {}. Means: label noise {:.3}, SGD at half the rate {:.3}{slow}. Largest excess {worst:.4}. Shown: SGD's mean.",
            list(&sgd),
            list(&gd),
            stats::mean(&ratios(LABELS, last)?),
            stats::mean(&ratios(HALF, last)?),
        );
        let estimate = verdict::estimate(&sgd);
        Ok(Finding::new("C5", Judgement { estimate, verdict }, note)
            .against(stats::mean(&gd))
            .verdict(self.enough(verdict)))
    }

    /// C6.
    fn flattest(&self) -> Result<Finding> {
        let gain = self.gain()?;
        let (mut better, mut seen, mut probes) = (0, 0, vec![]);
        for &seed in &self.seeds {
            let mut band: Vec<Checkpoint> =
                self.compared(seed)?.into_iter().filter(|m| self.meter().saturated(m.excess)).collect();
            band.sort_by(|a, b| a.trace.total_cmp(&b.trace));
            let (Some(flat), Some(sharp)) = (band.first(), band.last()) else { continue };
            let median = stats::median(&band.iter().map(|m| m.downstream).collect::<Vec<_>>());
            seen += 1;
            better += usize::from(flat.downstream >= median);
            probes.push((flat.downstream, sharp.downstream));
        }
        if seen == 0 {
            return Ok(Finding::not_judged("C6", "No model is saturated."));
        }
        let verdict = Verdict::all(&[gain.verdict, self.enough(Verdict::of(2 * better > seen))]);
        let (flat, sharp): (Vec<f64>, Vec<f64>) = probes.into_iter().unzip();
        let note = format!(
            "SGD's probe gain over descent is {gain:+}. The flattest saturated model is in the better half in {better} of {seen} seeds: probe {:.3} on average, {:.3} of the sharpest.",
            stats::mean(&flat),
            stats::mean(&sharp)
        );
        Ok(Finding::new("C6", gain, note).verdict(verdict))
    }
}
