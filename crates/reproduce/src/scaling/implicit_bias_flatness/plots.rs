//! The plots.

use super::judge::Study;
use super::{ADVERSARIAL, EXCESS, FROZEN, GD, HALF, LABELS, PROBE, SGD, TRACE, by_size, by_width};
use crate::plot::{Plot, Series};
use crate::results::Results;
use crate::verdict::summary;
use anyhow::Result;
use autodidact_scaling::implicit_bias_flatness::OutputScale;

pub fn plots(results: &Results) -> Result<Vec<Plot>> {
    let study = Study::new(results)?;
    let panel = |name: &str, metric: &str, what: &str| -> Result<Plot> {
        let lines = [SGD, HALF, LABELS, GD].into_iter().enumerate();
        let lines = lines.map(|(i, arm)| Ok(Series::line(arm, i, &results.mean_series(arm, metric)?)));
        let caption = format!("{what} over the steps after saturation, mean over seeds (part A).");
        Ok(Plot::lines(name, &caption, "step", metric, lines.collect::<Result<Vec<_>>>()?))
    };
    Ok(vec![
        panel("excess", EXCESS, "Loss over the entropy")?,
        panel("trace", TRACE, "Trace of the Hessian")?,
        panel("probe", PROBE, "Accuracy of the probe of 16 labels")?,
        scatter(&study)?,
        widths(&study)?,
        sizes(&study, "sizes-probe", PROBE)?,
        sizes(&study, "sizes-trace", TRACE)?,
    ])
}

fn scatter(study: &Study<'_>) -> Result<Plot> {
    let mut series = vec![];
    for (i, arm) in [SGD, HALF, LABELS, GD, FROZEN, ADVERSARIAL].into_iter().enumerate() {
        let mut points = vec![];
        for &seed in &study.seeds {
            points.extend(study.models(arm, seed)?.iter().map(|m| (m.trace, m.downstream)));
        }
        series.push(Series::line(arm, i, &points).dots());
    }
    Ok(Plot::lines(
        "trace-probe",
        "Probe accuracy by trace of all models of part A (all seeds and checkpoints).",
        TRACE,
        PROBE,
        series,
    ))
}

fn widths(study: &Study<'_>) -> Result<Plot> {
    let mut series = vec![];
    for (i, scale) in [OutputScale::Root, OutputScale::Mean].into_iter().enumerate() {
        let points = study.c.widths.iter().map(|&m| {
            let (mean, half) = summary(&study.results.values(&by_width(m, scale), PROBE)?);
            Ok(((m as f64).log2(), mean, half))
        });
        let name = if scale == OutputScale::Root { "1/sqrt m" } else { "1/m, rate times m" };
        series.push(Series::with_intervals(name, i, points.collect::<Result<Vec<_>>>()?));
    }
    let caption = "Probe accuracy by width under two output scales after noise-free descent (part A).";
    Ok(Plot::lines("widths", caption, "log2 width", PROBE, series))
}

fn sizes(study: &Study<'_>, name: &str, metric: &str) -> Result<Plot> {
    let mut series = vec![];
    for (i, &step) in study.c.sgd_checkpoints.iter().enumerate() {
        let points = study.c.sizes.iter().map(|&d| {
            let (mean, half) = summary(&study.at(&by_size(d), metric, step)?);
            Ok(((d as f64).log2(), mean, half))
        });
        series.push(Series::with_intervals(format!("SGD step {step}"), i, points.collect::<Result<Vec<_>>>()?));
    }
    let caption = format!("{metric} by width of the decoder after saturation (part B).");
    Ok(Plot::lines(name, &caption, "log2 width", metric, series))
}
