//! Findings and plots.

use super::{AGGREGATE, ARMS, Config, JOINT, SINGLE, TRANSFORMATION, parts};
use crate::experiment::Scale;
use crate::plot::{Plot, Series};
use crate::results::Results;
use crate::verdict::{self, Finding, Judgement, Verdict};
use anyhow::Result;
use autodidact_core::stats;

/// An arm and its metric.
type Measure = (&'static str, &'static str);

const BASELINE: Measure = ("baseline", SINGLE);
const SI: Measure = ("sla", SINGLE);
const AG: Measure = ("sla", AGGREGATE);
const SD: Measure = ("sla+sd", SINGLE);
/// What decides a part's standard deviation.
const SPREAD: [Measure; 6] = [BASELINE, ("da", SINGLE), ("mt", SINGLE), SI, AG, SD];

struct Study<'a> {
    results: &'a Results,
    config: Config,
    parts: Vec<String>,
}

impl<'a> Study<'a> {
    fn new(results: &'a Results) -> Result<Self> {
        let config: Config = results.plan().config()?;
        let parts = parts(&config, &results.plan().dataset);
        Ok(Self { results, config, parts })
    }

    fn values(&self, (arm, metric): Measure, part: &str) -> Result<Vec<f64>> {
        self.results.values(&format!("{arm}{part}"), metric)
    }

    fn enough(&self, verdict: Verdict) -> Verdict {
        verdict.with_seeds(self.results.plan().seeds.len())
    }

    /// Standard deviation over seeds within the measures of a part; 1 where nothing varies.
    fn spread(&self, measures: &[Measure], part: &str) -> Result<f64> {
        let variances = measures.iter().map(|m| Ok(stats::variance(&self.values(*m, part)?)));
        let sd = stats::mean(&variances.collect::<Result<Vec<_>>>()?).sqrt();
        Ok(if sd > 0.0 { sd } else { 1.0 })
    }

    /// Differences `a - b` in units of the part's spread, pooled over seeds and parts.
    fn pooled(&self, a: Measure, b: Measure) -> Result<Judgement> {
        self.pooled_over(&self.parts, &SPREAD, a, b)
    }

    fn pooled_over(&self, parts: &[String], spread: &[Measure], a: Measure, b: Measure) -> Result<Judgement> {
        let (mut of_a, mut of_b) = (vec![], vec![]);
        for part in parts {
            let sd = self.spread(spread, part)?;
            of_a.extend(self.values(a, part)?.iter().map(|v| v / sd));
            of_b.extend(self.values(b, part)?.iter().map(|v| v / sd));
        }
        let judged = verdict::difference(&of_a, &of_b, 0.0);
        Ok(Judgement { verdict: self.enough(judged.verdict), ..judged })
    }

    /// Mean of a measure over seeds, then over parts.
    fn mean(&self, measure: Measure) -> Result<f64> {
        let means = self.parts.iter().map(|p| Ok(stats::mean(&self.values(measure, p)?)));
        Ok(stats::mean(&means.collect::<Result<Vec<_>>>()?))
    }

    fn points(&self, a: Measure, b: Measure) -> Result<f64> {
        Ok(self.mean(a)? - self.mean(b)?)
    }

    fn name(&self, part: &str) -> String {
        match part.strip_prefix("/labels=") {
            Some(n) => format!("digits, {n} labels of each class"),
            None => self.results.plan().dataset.clone(),
        }
    }

    /// The difference `a - b` in points, part by part, with intervals.
    fn apart(&self, what: &str, a: Measure, b: Measure) -> Result<String> {
        let each = self.parts.iter().map(|part| {
            let j = verdict::difference(&self.values(a, part)?, &self.values(b, part)?, 0.0);
            Ok(format!("{} {j}", self.name(part)))
        });
        Ok(format!("{what}, in points: {}", each.collect::<Result<Vec<_>>>()?.join("; ")))
    }

    /// C1.
    fn invariance(&self) -> Result<Finding> {
        let (da, mt) = (("da", SINGLE), ("mt", SINGLE));
        let (over_da, over_mt) = (self.pooled(SI, da)?, self.pooled(SI, mt)?);
        let loss = self.points(SI, BASELINE)?;
        let verdict = match Verdict::all(&[over_da.verdict, over_mt.verdict]) {
            Verdict::Reproduced if loss < -0.5 => Verdict::Partly,
            other => other,
        };
        let note = format!(
            "Single accuracy (%), mean over parts: baseline {:.2}, DA {:.2}, MT {:.2}, SLA {:.2}. Standardised difference to DA shown; to MT {}. {}; {}; {}.",
            self.mean(BASELINE)?,
            self.mean(da)?,
            self.mean(mt)?,
            self.mean(SI)?,
            over_mt,
            self.apart("SLA minus DA", SI, da)?,
            self.apart("minus MT", SI, mt)?,
            self.apart("minus baseline", SI, BASELINE)?,
        );
        Ok(Finding::new("C1", over_da, note).verdict(verdict))
    }

    /// C2.
    fn aggregation(&self) -> Result<Finding> {
        let gain = self.pooled(AG, BASELINE)?;
        let over_single = self.points(AG, SI)?;
        let verdict = match gain.verdict {
            Verdict::Reproduced if over_single < 0.0 => Verdict::NotReproduced,
            other => other,
        };
        let note = format!(
            "Standardised. {}; over SLA's single inference {over_single:.2} (mean over parts). Equal work: {}; {}.",
            self.apart("Aggregate minus baseline", AG, BASELINE)?,
            self.apart("aggregate minus the baseline with four batches per step", AG, ("baseline-4x", SINGLE))?,
            self.apart("aggregate minus DA averaged over four views", AG, ("da", AGGREGATE))?,
        );
        Ok(Finding::new("C2", gain, note).verdict(verdict))
    }

    /// C3.
    fn distillation(&self) -> Result<Finding> {
        let gain = self.pooled(SD, BASELINE)?;
        let (kept, whole) = (self.points(SD, BASELINE)?, self.points(AG, BASELINE)?);
        let verdict = match gain.verdict {
            Verdict::NotJudged => Verdict::NotJudged,
            Verdict::Reproduced if whole > 0.0 && kept >= 0.5 * whole => Verdict::Reproduced,
            _ if kept > 0.0 => Verdict::Partly,
            _ => Verdict::NotReproduced,
        };
        let note = format!(
            "Standardised. In points, mean over parts: SLA+SD {kept:.2} over the baseline, the aggregate {whole:.2}. {}; {}.",
            self.apart("SLA+SD minus baseline", SD, BASELINE)?,
            self.apart("minus the baseline with four batches per step", SD, ("baseline-4x", SINGLE))?,
        );
        Ok(Finding::new("C3", gain, note).verdict(verdict))
    }

    /// C4.
    fn ensemble(&self) -> Result<Finding> {
        let ensemble = ("ensemble", AGGREGATE);
        let points = self.points(AG, ensemble)?;
        let judged = self.pooled(AG, ensemble)?;
        let note = format!(
            "Standardised; mean over parts {points:.2} points. {}.",
            self.apart("Aggregate minus ensemble", AG, ensemble)?
        );
        Ok(Finding::new("C4", judged, note).verdict(self.enough(Verdict::of(points >= -1.0))))
    }

    /// C5.
    fn composition(&self) -> Result<Finding> {
        let composed = "sla:rotationxcolor3";
        if self.results.plan().scale != Scale::Full || !self.results.has(composed) {
            return Ok(Finding::not_judged("C5", "composed transformations are run at scale full, on colour images"));
        }
        let (composed, rotation) = (self.results.values(composed, AGGREGATE)?, self.values(AG, "")?);
        let judged = verdict::difference(&composed, &rotation, 0.0);
        let verdict = self.enough(Verdict::of(judged.estimate.value > 0.0));
        Ok(Finding::new("C5", judged, "Points, 12 transformations minus 4.").verdict(verdict))
    }

    /// C6.
    fn few_labels(&self) -> Result<Finding> {
        let labels = &self.config.labels;
        let [few, many] = [labels[0], labels[labels.len() - 1]];
        if few == many {
            return Ok(Finding::not_judged("C6", "needs two numbers of labels"));
        }
        let gain = |labels: usize| -> Result<Vec<f64>> {
            let part = format!("/labels={labels}");
            let (ag, baseline) = (self.values(AG, &part)?, self.values(BASELINE, &part)?);
            Ok(ag.iter().zip(baseline).map(|(a, b)| a - b).collect())
        };
        let (small, large) = (gain(few)?, gain(many)?);
        let judged = verdict::difference(&small, &large, 0.0);
        let note = format!(
            "Aggregate minus baseline in points: {:.2} with {few} labels of each class, {:.2} with {many}.",
            stats::mean(&small),
            stats::mean(&large)
        );
        let verdict = self.enough(Verdict::of(stats::mean(&small) > stats::mean(&large)));
        Ok(Finding::new("C6", judged, note).against(stats::mean(&large)).verdict(verdict))
    }

    /// C7.
    fn imbalance(&self) -> Result<Finding> {
        let parts: Vec<String> = self.config.imbalance.iter().map(|r| format!("/ratio={r}")).collect();
        let run = parts.first().is_some_and(|p| self.results.has(&format!("baseline{p}")));
        if self.results.plan().scale != Scale::Full || !run {
            return Ok(Finding::not_judged("C7", "long-tailed data are run at scale full, on colour images"));
        }
        let judged = self.pooled_over(&parts, &[BASELINE, SD], SD, BASELINE)?;
        Ok(Finding::new("C7", judged, "Standardised, pooled over ratios and seeds."))
    }
}

/// The finding of every claim.
pub(super) fn findings(results: &Results) -> Result<Vec<Finding>> {
    let study = Study::new(results)?;
    Ok(vec![
        study.invariance()?,
        study.aggregation()?,
        study.distillation()?,
        study.ensemble()?,
        study.composition()?,
        study.few_labels()?,
        study.imbalance()?,
    ])
}

/// Accuracy by arm, the joint classifier in training, gain by number of labels.
pub(super) fn plots(results: &Results) -> Result<Vec<Plot>> {
    let study = Study::new(results)?;
    let bars: [(&str, Measure); 10] = [
        ("baseline", BASELINE),
        ("baseline, 4 batches", ("baseline-4x", SINGLE)),
        ("ensemble of baselines", ("ensemble", AGGREGATE)),
        ("DA", ("da", SINGLE)),
        ("DA, 4 views", ("da", AGGREGATE)),
        ("MT", ("mt", SINGLE)),
        ("MT, 4 views", ("mt", AGGREGATE)),
        ("SLA, single", SI),
        ("SLA, aggregate", AG),
        ("SLA+SD, single", SD),
    ];
    let colour = |arm: &str| ARMS.iter().position(|a| *a == arm).unwrap_or(0);
    let n = results.plan().seeds.len();
    let mut plots = vec![];
    for part in &study.parts {
        let bars = bars.iter().map(|(name, measure)| {
            let (mean, half) = verdict::summary(&study.values(*measure, part)?);
            Ok(((*name).to_owned(), mean, half, colour(measure.0)))
        });
        let name =
            if part.is_empty() { "accuracy".into() } else { format!("accuracy-{}", &part[1..].replace('=', "-")) };
        let caption = format!("Test accuracy, {}; means of {n} seeds with 95 % intervals.", study.name(part));
        plots.push(Plot::bars(&name, &caption, "accuracy (%)", bars.collect::<Result<_>>()?));
    }
    if let Some(part) = study.parts.last() {
        let lines = [
            ("class and rotation", JOINT),
            ("rotation", TRANSFORMATION),
            ("class, single", "watched single accuracy"),
            ("class, aggregate", "watched aggregate accuracy"),
        ];
        let lines = lines.iter().enumerate().map(|(i, (name, metric))| {
            Ok(Series::line(*name, i, &results.mean_series(&format!("sla{part}"), metric)?))
        });
        let lines = lines.collect::<Result<_>>()?;
        let caption =
            format!("What SLA gets right of test images in training, {}; means over seeds.", study.name(part));
        plots.push(Plot::lines("training", &caption, "step", "accuracy (%)", lines));
    }
    if study.config.labels.len() > 1 {
        let gains = [("SLA, single", SI), ("SLA, aggregate", AG), ("SLA+SD, single", SD)];
        let lines = gains.iter().enumerate().map(|(i, (name, measure))| {
            let points = study.config.labels.iter().map(|labels| {
                let part = format!("/labels={labels}");
                let (of, baseline) = (study.values(*measure, &part)?, study.values(BASELINE, &part)?);
                let gain: Vec<f64> = of.iter().zip(baseline).map(|(a, b)| a - b).collect();
                let (mean, half) = verdict::summary(&gain);
                Ok((*labels as f64, mean, half))
            });
            Ok(Series::with_intervals(*name, i, points.collect::<Result<_>>()?))
        });
        let lines = lines.collect::<Result<_>>()?;
        let caption = "Gain over the baseline by number of labels, digits; paired by seed, with 95 % intervals.";
        plots.push(Plot::lines("gain-by-labels", caption, "labels of each class", "gain (points)", lines));
    }
    Ok(plots)
}
