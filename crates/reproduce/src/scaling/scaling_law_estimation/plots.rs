//! Plots of the first seed.

use super::judge::{self, curve};
use super::{Config, RecallNet, Setting};
use crate::plot::{Plot, Series};
use crate::results::Results;
use anyhow::Result;
use autodidact_scaling::scaling_law_estimation::first_reach;

pub fn plots(results: &Results, c: &Config) -> Result<Vec<Plot>> {
    // Without constants there is nothing to draw; the findings say why.
    let Ok(mut seeds) = judge::seeds(results, c) else { return Ok(vec![]) };
    let judge::Seed { seed, report, blind, .. } = seeds.swap_remove(0);
    let law = report.law;
    let lowest = |setting: Setting| -> Result<(f64, f64)> {
        let curve = curve(results, &setting.arm(), seed, c.first)?;
        Ok((RecallNet::size(setting.width), curve.iter().map(|p| p.1).fold(f64::INFINITY, f64::min)))
    };
    let fitted = c.widths.iter().map(|&width| lowest(Setting { width, batch: c.batch })).collect::<Result<Vec<_>>>()?;
    let batch = *c.held_out_batches.iter().max().unwrap_or(&c.batch);
    let held = c.held_out.iter().map(|&width| lowest(Setting { width, batch })).collect::<Result<Vec<_>>>()?;
    let sizes: Vec<f64> = fitted.iter().chain(&held).map(|p| p.0).collect();
    let line = |law: &autodidact_scaling::scaling_law_estimation::KaplanLaw| {
        sizes.iter().map(|&n| (n, law.min_loss(n))).collect::<Vec<_>>()
    };
    let by_size = Plot::lines(
        "loss-by-size",
        "Lowest losses of the fitted and the held-out sizes, the line through the former, and the refined L(N) of endless training (first seed).",
        "parameters N",
        "lowest test loss (nats/token)",
        vec![
            Series::line("fitted", 0, &fitted).dots(),
            Series::line("held out", 1, &held).dots(),
            Series::line("line", 0, &line(&report.stepwise)),
            Series::line("L(N), refined", 2, &line(&law)).dashed(),
        ],
    )
    .log(true, true);

    let mut contours = vec![];
    let stride = report.contours.len().div_ceil(4).max(1);
    for (i, (loss, fit)) in report.contours.iter().step_by(stride).enumerate() {
        let mut points = vec![];
        for &batch in &c.batches {
            let curve = curve(results, &Setting { width: c.sweep_width, batch }.arm(), seed, c.first)?;
            points.extend(first_reach(&curve, *loss).map(|s| (s, s * batch as f64)));
        }
        let hyperbola: Vec<(f64, f64)> =
            c.batches.iter().map(|&b| (fit.steps(b as f64), fit.tokens(b as f64))).collect();
        contours.push(Series::line(format!("loss {loss:.3}"), i, &points).dots());
        contours.push(Series::line(format!("loss {loss:.3}, fit"), i, &hyperbola));
    }
    let contours = Plot::lines(
        "contours",
        "Tokens against steps to equal losses over batch sizes, and the fitted trade-off (first seed).",
        "steps S",
        "tokens E",
        contours,
    )
    .log(true, true);

    let measured: Vec<(f64, f64)> = report.contours.iter().map(|(l, f)| (*l, f.critical())).collect();
    let of = |b_crit: &dyn Fn(f64) -> f64| measured.iter().map(|p| (p.0, b_crit(p.0))).collect::<Vec<_>>();
    let critical = Plot::lines(
        "critical-batch",
        "Critical batch size over the loss (first seed).",
        "test loss (nats/token)",
        "critical batch size (tokens)",
        vec![
            Series::line("measured", 0, &measured).dots(),
            Series::line("line", 0, &of(&|l| report.stepwise.b_crit(l))),
            Series::line("refined", 2, &of(&|l| law.b_crit(l))).dashed(),
        ],
    )
    .log(true, true);

    let mut trajectories = vec![];
    for (i, setting) in Setting::held_out(c).into_iter().enumerate() {
        let observed = curve(results, &setting.arm(), seed, c.first)?;
        let predict = |law: &autodidact_scaling::scaling_law_estimation::KaplanLaw| {
            let (n, b) = (RecallNet::size(setting.width), setting.batch as f64);
            observed.iter().map(|&(s, _)| Ok((s, law.loss_at(n, s, b)?))).collect::<Result<Vec<(f64, f64)>>>()
        };
        let name = format!("d={} B={}", setting.width, setting.batch);
        trajectories.push(Series::line(format!("{name}, observed"), i, &observed).dots());
        trajectories.push(Series::line(format!("{name}, predicted"), i, &predict(&law)?));
        trajectories.push(Series::line(format!("{name}, without B"), i, &predict(&blind.law)?).dashed());
    }
    let trajectories = Plot::lines(
        "trajectories",
        "Held-out trajectories: observed, predicted, and predicted without the batch size (first seed).",
        "steps",
        "test loss (nats/token)",
        trajectories,
    )
    .log(true, true);
    Ok(vec![by_size, contours, critical, trajectories])
}
