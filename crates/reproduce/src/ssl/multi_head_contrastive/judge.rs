//! Findings and plots.

use super::train::BINS;
use super::{CHOSEN, Config, FEW, KNN, NEGATIVE, OVERLAP, POSITIVE, PROBE, Part, RANK, TAU_NEGATIVE, TAU_POSITIVE, at};
use crate::experiment::Scale;
use crate::plot::{Plot, Series};
use crate::results::Results;
use crate::verdict::{self, Finding, Judgement, Verdict};
use anyhow::Result;
use autodidact_core::stats;

struct Study<'a> {
    results: &'a Results,
    config: Config,
    /// Where all arms are.
    part: Part,
    /// The colour images with all augmentations, and with the fewest.
    all: Part,
    one: Part,
}

impl<'a> Study<'a> {
    fn new(results: &'a Results) -> Result<Self> {
        let config: Config = results.plan().config()?;
        let [one, all] = [config.augmentations.first(), config.augmentations.last()]
            .map(|n| Part::Color(n.copied().unwrap_or_default()));
        Ok(Self { results, part: config.study(), config, all, one })
    }

    fn values(&self, arm: &str, metric: &str) -> Result<Vec<f64>> {
        self.results.values(arm, metric)
    }

    /// An arm of the study at the temperature of comparison.
    fn at(&self, method: &str) -> String {
        at(method, self.part, self.config.tau)
    }

    /// An arm of the study with learned temperatures.
    fn learned(&self, method: &str) -> String {
        format!("{method}/{}", self.part)
    }

    fn difference(&self, metric: &str, method: &str, baseline: &str) -> Result<Judgement> {
        Ok(verdict::difference(&self.values(method, metric)?, &self.values(baseline, metric)?, 0.0))
    }

    /// NT-Xent at the temperature of the grid with the best mean.
    fn best_nt_xent(&self, metric: &str) -> Result<String> {
        let mut best = (f64::NEG_INFINITY, String::new());
        for tau in &self.config.taus {
            let arm = at("nt-xent", self.part, *tau);
            let mean = self.results.mean(&arm, metric)?;
            if mean > best.0 {
                best = (mean, arm);
            }
        }
        Ok(best.1)
    }

    /// C1.
    fn plug_in(&self) -> Result<Finding> {
        let mut parts = vec![self.part];
        if self.part != self.all {
            parts.push(self.all);
        }
        let (mut verdicts, mut notes, mut first) = (vec![], vec![], None);
        for part in parts {
            let mut means = vec![];
            let mut gains = vec![];
            for metric in [FEW, PROBE, KNN] {
                let baseline = if part == self.part { self.best_nt_xent(metric)? } else { format!("nt-xent/{part}") };
                let gain = self.difference(metric, &format!("amcl/{part}"), &baseline)?;
                means.push(format!("{metric} {gain:+}, NT-Xent {:.2}", self.results.mean(&baseline, metric)?));
                gains.push(gain);
            }
            let probes = &gains[..2];
            verdicts.push(match () {
                () if probes.iter().any(|g| g.verdict == Verdict::NotJudged) => Verdict::NotJudged,
                () if probes.iter().any(|g| g.verdict == Verdict::Reproduced) => Verdict::Reproduced,
                () if probes.iter().map(|g| g.estimate.value).sum::<f64>() > 0.0 => Verdict::Partly,
                () => Verdict::NotReproduced,
            });
            notes.push(format!("{part}: {}", means.join("; ")));
            first = first.or(gains.into_iter().next());
        }
        let note = format!("AMCL minus NT-Xent in points. {}. The first is shown.", notes.join(". "));
        let unknown = Finding::not_judged("C1", "");
        Ok(first.map_or(unknown, |gain| Finding::new("C1", gain, note)).verdict(Verdict::all(&verdicts)))
    }

    /// Gains of AMCL over NT-Xent on a part, by seed.
    fn gains(&self, method: &str, part: Part) -> Result<Vec<f64>> {
        let (a, b) =
            (self.values(&format!("{method}/{part}"), PROBE)?, self.values(&format!("nt-xent/{part}"), PROBE)?);
        Ok(a.iter().zip(&b).map(|(a, b)| a - b).collect())
    }

    /// C2.
    fn augmentations(&self) -> Result<Finding> {
        let growth = verdict::difference(&self.gains("amcl", self.all)?, &self.gains("amcl", self.one)?, 0.0);
        let each = self.config.augmentations.iter().map(|n| {
            let part = Part::Color(*n);
            let taus = self.results.mean(&format!("nt-xent/{part}"), CHOSEN)?;
            let gain = |method: &str| Ok::<_, anyhow::Error>(stats::mean(&self.gains(method, part)?));
            Ok(format!("{n}: {:+.2} ({:+.2}; temperature {taus:.2})", gain("amcl")?, gain("multi-head")?))
        });
        let each = each.collect::<Result<Vec<_>>>()?.join(", ");
        let own = self.results.mean(&format!("amcl/{}", self.all), TAU_POSITIVE)?;
        let note = format!(
            "Gain with all augmentations minus that with one, in points. Mean gain of AMCL (of several heads at NT-Xent's temperature) by number of augmentations: {each}. With all of them AMCL's temperatures of positives end at {own:.3} in the mean."
        );
        let verdict = match growth.verdict {
            Verdict::NotJudged => Verdict::NotJudged,
            Verdict::Reproduced if self.results.plan().scale == Scale::Full => Verdict::Reproduced,
            _ if growth.estimate.value > 0.0 => Verdict::Partly,
            _ => Verdict::NotReproduced,
        };
        Ok(Finding::new("C2", growth, note).verdict(verdict))
    }

    /// C3.
    fn factors(&self) -> Result<Finding> {
        let (one, several) = (self.at("nt-xent"), self.at("multi-head"));
        let heads = self.difference(FEW, &several, &one)?;
        let adaptive = self.difference(FEW, &self.learned("amcl-one-head"), &one)?;
        let both = self.difference(FEW, &self.learned("amcl"), &several)?;
        let main = heads.verdict == Verdict::Reproduced && adaptive.estimate.value.abs() < 1.0;
        let verdict = match heads.verdict {
            Verdict::NotJudged => Verdict::NotJudged,
            _ if main && both.verdict == Verdict::Reproduced => Verdict::Reproduced,
            _ if main => Verdict::Partly,
            _ => Verdict::NotReproduced,
        };
        let mut others = vec![];
        for tau in self.config.taus.iter().filter(|tau| **tau != self.config.tau) {
            let of = |method| at(method, self.part, *tau);
            others.push(format!("{tau}: {:+}", self.difference(FEW, &of("multi-head"), &of("nt-xent"))?));
        }
        let temperatures = |method: &str| {
            let mean = |metric| self.results.mean(&self.learned(method), metric);
            Ok::<_, anyhow::Error>(format!("{:.3} and {:.3}", mean(TAU_POSITIVE)?, mean(TAU_NEGATIVE)?))
        };
        let note = format!(
            "Several heads minus one at temperature {} shown (at {}). One head with learned temperatures minus NT-Xent {:+}; several with learned minus several with constant temperatures {:+}, with temperatures from the entrywise product {:+}. Mean temperatures of positives and negatives at the end: {} ({}).",
            self.config.tau,
            others.join(", "),
            adaptive,
            both,
            self.difference(FEW, &self.learned("amcl-hadamard"), &several)?,
            temperatures("amcl")?,
            temperatures("amcl-hadamard")?,
        );
        Ok(Finding::new("C3", heads, note).against(self.results.mean(&one, FEW)?).verdict(verdict))
    }

    /// C4.
    fn wide(&self) -> Result<Finding> {
        let wide = [self.at("wide-hidden"), self.at("wide")];
        let means = [self.results.mean(&wide[0], FEW)?, self.results.mean(&wide[1], FEW)?];
        let better = usize::from(means[1] > means[0]);
        let gain = self.difference(FEW, &self.at("multi-head"), &wide[better])?;
        let note = format!(
            "{FEW} (%): several heads {:.2}, wider hidden layer {:.2}, wider hidden layer and embedding {:.2}.",
            self.results.mean(&self.at("multi-head"), FEW)?,
            means[0],
            means[1],
        );
        Ok(Finding::new("C4", gain, note).against(means[better]))
    }

    /// Arms by number of heads at the constant temperature, ascending.
    fn by_heads(&self) -> Vec<(i64, String)> {
        let mut arms = vec![(1, self.at("nt-xent")), (self.config.heads, self.at("multi-head"))];
        let others = self.config.other_heads.iter();
        arms.extend(others.map(|c| (*c, format!("{},heads={c}", self.at("multi-head")))));
        arms.sort_by_key(|(c, _)| *c);
        arms
    }

    /// C5.
    fn count(&self) -> Result<Finding> {
        let mut means = vec![];
        for (c, arm) in self.by_heads() {
            means.push((c, self.results.mean(&arm, PROBE)?, self.results.mean(&arm, FEW)?));
        }
        let listed = means.iter().map(|(c, probe, few)| format!("{c}: {probe:.2}, {few:.2}")).collect::<Vec<_>>();
        let note = format!("Linear and few-shot probe (%) by number of heads: {}.", listed.join("; "));
        if self.results.plan().scale != Scale::Full {
            return Ok(Finding::not_judged("C5", format!("differences are within noise at this scale. {note}")));
        }
        let best = means.iter().max_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |m| m.0);
        let mut judged = verdict::within(&[(best - 4).abs() as f64], 1.0);
        judged.verdict = judged.verdict.with_seeds(self.results.plan().seeds.len());
        Ok(Finding::new("C5", judged, format!("Distance of the best number of heads, {best}, from 4. {note}")))
    }

    /// C6.
    fn overlap(&self) -> Result<Finding> {
        let arm = |method: &str| format!("{method}/{}", self.all);
        let nt_xent = arm("nt-xent");
        let less = self.difference(OVERLAP, &nt_xent, &arm("amcl"))?;
        let mean = |arm: &str, metric: &str| self.results.mean(arm, metric);
        let (linear, amcl) = (self.learned("amcl-linear"), self.learned("amcl"));
        let note = format!(
            "NT-Xent's overlap minus AMCL's; several heads at a constant temperature {:.3}, AMCL {:.3}. The linear form in the study: few-shot probe {:.2} % (soft {:.2} %), mean cosine of positives {:.3} (soft {:.3}) and of negatives {:.3} (soft {:.3}), effective rank of its embeddings {:.2} (soft {:.2}).",
            mean(&arm("multi-head"), OVERLAP)?,
            mean(&arm("amcl"), OVERLAP)?,
            mean(&linear, FEW)?,
            mean(&amcl, FEW)?,
            mean(&linear, POSITIVE)?,
            mean(&amcl, POSITIVE)?,
            mean(&linear, NEGATIVE)?,
            mean(&amcl, NEGATIVE)?,
            mean(&linear, RANK)?,
            mean(&amcl, RANK)?,
        );
        let verdict = match less.verdict {
            Verdict::NotReproduced if less.estimate.value > 0.0 => Verdict::Partly,
            other => other,
        };
        Ok(Finding::new("C6", less, note).against(mean(&nt_xent, OVERLAP)?).verdict(verdict))
    }
}

/// The finding of every claim.
pub fn findings(results: &Results) -> Result<Vec<Finding>> {
    let study = Study::new(results)?;
    Ok(vec![
        study.plug_in()?,
        study.augmentations()?,
        study.factors()?,
        study.wide()?,
        study.count()?,
        study.overlap()?,
    ])
}

/// Accuracies, numbers of heads and augmentations, histograms and temperatures.
pub fn plots(results: &Results) -> Result<Vec<Plot>> {
    let study = Study::new(results)?;
    let place = if study.part == Part::Digits { "UCI digits".to_owned() } else { results.plan().dataset.clone() };
    let mut bars = vec![];
    let mut add = |label: String, arm: &str, colour: usize| -> Result<()> {
        let (mean, half) = verdict::summary(&results.values(arm, FEW)?);
        bars.push((label, mean, half, colour));
        Ok(())
    };
    for (method, label, colour) in [("nt-xent", "one head", 0), ("multi-head", "several heads", 1)] {
        for tau in &study.config.taus {
            add(format!("{label}, tau {tau}"), &at(method, study.part, *tau), colour)?;
        }
    }
    add("wider hidden layer".into(), &study.at("wide-hidden"), 3)?;
    add("wider layer and embedding".into(), &study.at("wide"), 3)?;
    for (method, label, colour) in [
        ("amcl-one-head", "AMCL, one head", 2),
        ("amcl", "AMCL", 2),
        ("amcl-hadamard", "AMCL, entrywise product", 4),
        ("amcl-linear", "AMCL, linear form", 7),
    ] {
        add(label.into(), &study.learned(method), colour)?;
    }
    let mut by_heads = vec![];
    for (name, metric, colour) in [("few-shot probe", FEW, 0), ("linear probe", PROBE, 1)] {
        let points = study.by_heads().into_iter().map(|(c, arm)| {
            let (mean, half) = verdict::summary(&results.values(&arm, metric)?);
            Ok((c as f64, mean, half))
        });
        by_heads.push(Series::with_intervals(name, colour, points.collect::<Result<_>>()?));
    }
    let mut gains = vec![];
    for (method, name, colour) in [("multi-head", "several heads", 1), ("amcl", "AMCL", 2)] {
        let points = study.config.augmentations.iter().map(|n| {
            let (mean, half) = verdict::summary(&study.gains(method, Part::Color(*n))?);
            Ok((*n as f64, mean, half))
        });
        gains.push(Series::with_intervals(name, colour, points.collect::<Result<_>>()?));
    }
    let mut histograms = vec![];
    let width = 2.0 / BINS as f64;
    let seed = results.plan().seeds[0];
    for (name, arm, colour) in [("NT-Xent", "nt-xent", 0), ("AMCL", "amcl", 2)] {
        for (kind, metric) in [("positives", POSITIVE), ("negatives", NEGATIVE)] {
            let shares = results.array(&format!("{arm}/{}", study.all), seed, metric)?.iter().enumerate();
            let points: Vec<_> = shares.map(|(b, s)| (-1.0 + (b as f64 + 0.5) * width, 100.0 * s)).collect();
            let line = Series::line(format!("{name}, {kind}"), colour, &points);
            histograms.push(if metric == NEGATIVE { line.dashed() } else { line });
        }
    }
    let mut temperatures = vec![];
    for (name, arm, colour) in [
        ("AMCL", study.learned("amcl"), 2),
        ("entrywise", study.learned("amcl-hadamard"), 4),
        ("linear form", study.learned("amcl-linear"), 7),
    ] {
        for (kind, metric) in [("positives", TAU_POSITIVE), ("negatives", TAU_NEGATIVE)] {
            let line = Series::line(format!("{name}, {kind}"), colour, &results.mean_series(&arm, metric)?);
            temperatures.push(if metric == TAU_NEGATIVE { line.dashed() } else { line });
        }
    }
    let n = results.plan().seeds.len();
    Ok(vec![
        Plot::bars(
            "accuracy",
            &format!("Few-shot probe on {place}; means of {n} seeds with 95 % intervals."),
            &format!("{FEW} (%)"),
            bars,
        ),
        Plot::lines(
            "heads",
            &format!("Accuracy on {place} by number of heads, all at temperature {}.", study.config.tau),
            "heads",
            "accuracy (%)",
            by_heads,
        ),
        Plot::lines(
            "augmentations",
            &format!("Gain over NT-Xent on {} by number of augmentations.", results.plan().dataset),
            "augmentations",
            "gain in linear probe accuracy (points)",
            gains,
        ),
        Plot::lines(
            "similarities",
            &format!("Cosines of pairs of views of test images, all augmentations, mean over heads, seed {seed}."),
            "cosine similarity",
            "share of the pairs (%)",
            histograms,
        ),
        Plot::lines(
            "temperatures",
            &format!("Mean learned temperatures on {place} during training; means over seeds."),
            "step",
            "temperature",
            temperatures,
        ),
    ])
}
