//! The plots.

use super::judge::Study;
use super::runs::{arm, by_width, undecayed};
use super::train::{GRADIENT, LOG_Z, LOSS, UPDATE};
use crate::plot::{Plot, Series};
use crate::results::Results;
use crate::verdict::summary;
use anyhow::Result;
use autodidact_core::stats;
use autodidact_scaling::monitors::Polynomial;

pub fn plots(results: &Results) -> Result<Vec<Plot>> {
    let study = Study::new(results)?;
    let losses = losses(&study)?;
    let mut all = vec![losses, logits(&study)?, normalisers(&study)?];
    all.extend(sizes(&study)?);
    Ok(all)
}

fn losses(study: &Study<'_>) -> Result<Plot> {
    let c = &study.c;
    let mut series = vec![];
    for (i, &width) in c.widths.iter().enumerate() {
        for on in [true, false] {
            let curve = by_width(on, width);
            let points = c.lrs.iter().map(|&lr| {
                let (mean, half) = summary(&study.results.values(&arm(&curve, lr), LOSS)?);
                Ok((lr.log10(), mean, half))
            });
            let name = format!("d = {width}, {}", if on { "qk-norm" } else { "plain" });
            let line = Series::with_intervals(name, i, points.collect::<Result<Vec<_>>>()?);
            series.push(if on { line } else { line.dashed() });
        }
    }
    Ok(Plot::lines(
        "losses",
        "Final loss by peak learning rate, with a layer norm of queries and keys (lines) and without (dashed).",
        "log10 learning rate",
        "validation loss (nats/token)",
        series,
    ))
}

fn logits(study: &Study<'_>) -> Result<Plot> {
    let c = &study.c;
    let mut series = vec![];
    for (i, &lr) in c.lrs.iter().enumerate() {
        let points = c.widths.iter().map(|&width| {
            let curve = by_width(false, width);
            Ok((study.log_size(&arm(&curve, lr))?, study.log_logit(&curve, lr)?))
        });
        let points = points.collect::<Result<Vec<_>>>()?;
        series.push(Series::line(format!("rate {lr}"), i, &points).dots());
        let (x, y): (Vec<f64>, Vec<f64>) = points.into_iter().unzip();
        let fit = Polynomial::fit(&x, &y, 2.min(x.len() - 1))?;
        let (from, to) = (x[0], x[x.len() - 1]);
        let line: Vec<(f64, f64)> =
            (0..=30).map(|k| from + 1.25 * (to - from) * f64::from(k) / 30.0).map(|x| (x, fit.at(x))).collect();
        series.push(Series::line(format!("rate {lr}, quadratic"), i, &line));
    }
    Ok(Plot::lines(
        "attention-logits",
        "Largest attention logit of the first block over training by size, without the norm (mean over seeds of the logarithm).",
        "log10 weights without embedding and head",
        "log10 largest attention logit",
        series,
    ))
}

fn normalisers(study: &Study<'_>) -> Result<Plot> {
    let mut series = vec![];
    for (i, &lr) in study.c.long_lrs.iter().enumerate() {
        for z in [false, true] {
            let points = study.results.mean_series(&arm(&undecayed(z), lr), LOG_Z)?;
            let line = Series::line(format!("rate {lr}{}", if z { ", z-loss" } else { "" }), i, &points);
            series.push(if z { line.dashed() } else { line });
        }
    }
    Ok(Plot::lines(
        "log-z",
        "Mean log Z of the output logits over training without weight decay, without and with (dashed) the z-loss.",
        "step",
        "log Z",
        series,
    ))
}

/// RMS of gradients and of updates.
fn sizes(study: &Study<'_>) -> Result<Vec<Plot>> {
    let c = &study.c;
    let plot = |name: &str, metric: &str, what: &str, log: bool| -> Result<Plot> {
        let mut series = vec![];
        for (i, &width) in c.widths.iter().enumerate() {
            let points = c.lrs.iter().map(|&lr| {
                let name = arm(&by_width(true, width), lr);
                let values = study.seeds.iter().map(|&s| study.late(&name, s, metric)).collect::<Result<Vec<_>>>()?;
                Ok((lr.log10(), stats::mean(&values)))
            });
            series.push(Series::line(format!("d = {width}"), i, &points.collect::<Result<Vec<_>>>()?));
        }
        let caption = format!("{what} of the first perceptron matrix in the last tenth of training, with the norm.");
        Ok(Plot::lines(name, &caption, "log10 learning rate", what, series).log(false, log))
    };
    Ok(vec![
        plot("gradients", GRADIENT, "Gradient RMS", true)?,
        plot("updates", UPDATE, "Update RMS (of Adam's direction)", false)?,
    ])
}
