//! Plots.

use super::arms::{Arm, Change, LOSS, ON_THE_WAY};
use super::judge::{Study, flat};
use super::measures::{LOG_P, STATISTIC, UTILITY, of};
use super::models::Stage;
use super::{Config, FORGET, RETAINED};
use crate::plot::{Plot, Series, histogram};
use crate::results::Results;
use anyhow::Result;
use autodidact_core::stats;

/// Bins of the histogram.
const BINS: usize = 24;

pub(super) fn plots(results: &Results) -> Result<Vec<Plot>> {
    let study = Study { results, config: Config::of(results.plan())? };
    let mut all = vec![trajectories(&study)?, utility(&study)?];
    // On one scale nothing would be seen of the bounded ones.
    all.push(losses(&study, "losses", "FLAT's losses", &flat())?);
    all.push(losses(&study, "unbounded", "Losses with gradient ascent", &[Change::Ga, Change::Gd, Change::Kl])?);
    all.extend(statistics(&study)?);
    all.push(rates(&study)?);
    Ok(all)
}

/// Methods that are drawn, with their colours.
fn shown() -> impl Iterator<Item = (usize, Change)> {
    let others = [Change::Ga, Change::Npo, Change::Dpo, Change::Gd, Change::Kl];
    flat().into_iter().chain(others).enumerate()
}

fn trajectories(study: &Study<'_>) -> Result<Plot> {
    let mut series = vec![];
    let first = study.results.seeds(Stage::Full.arm()).into_iter().next().unwrap_or(0);
    for (i, change) in shown() {
        let arm = Arm::Matched(change).name();
        let way = |set: &str| study.results.series(&arm, first, &of(ON_THE_WAY, set));
        let points: Vec<(f64, f64)> = way(FORGET)?.iter().zip(way(RETAINED)?).map(|(f, r)| (f.1, r.1)).collect();
        let line = Series::line(change.name(), i, &points);
        series.push(if i < flat().len() { line } else { line.dashed() });
    }
    Ok(Plot::lines(
        "trajectories",
        &format!(
            "What is known of retained questions against what is known of those to forget, on the way to matched forgetting: values whose words are all the most probable ones, given the true words before (seed {first})."
        ),
        "value accuracy of the forget set",
        "value accuracy of retained questions",
        series,
    ))
}

fn utility(study: &Study<'_>) -> Result<Plot> {
    let mut series = vec![];
    for (i, change) in Change::all().enumerate() {
        let point = (study.mean(change, LOG_P)?, study.mean(change, UTILITY)?);
        series.push(Series::line(change.name(), i, &[point]).labelled());
    }
    for stage in [Stage::Full, Stage::Retain] {
        let point = (study.results.mean(stage.arm(), LOG_P)?, study.results.mean(stage.arm(), UTILITY)?);
        series.push(Series::line(format!("{} model", stage.arm()), 7, &[point]).labelled());
    }
    Ok(Plot::lines(
        "utility",
        "Model utility against forget quality at matched forgetting (or after the most steps), mean over seeds.",
        "log10 p of forget quality",
        "model utility",
        series,
    ))
}

fn losses(study: &Study<'_>, name: &str, what: &str, changes: &[Change]) -> Result<Plot> {
    let mut series = vec![];
    for (i, change) in shown().filter(|(_, c)| changes.contains(c)) {
        let points = study.results.mean_series(&Arm::Matched(change).name(), LOSS)?;
        series.push(Series::line(change.name(), i, &points));
    }
    let caption =
        format!("{what} by step, to matched forgetting and further, mean over the seeds that are still at it.");
    Ok(Plot::lines(name, &caption, "step", "loss", series))
}

/// Histogram of the statistic that forget quality compares, over all seeds.
fn statistics(study: &Study<'_>) -> Result<Option<Plot>> {
    let mut arms = vec![(Stage::Full.arm().to_owned() + " model", Stage::Full.arm().to_owned())];
    for change in [flat()[1], Change::Ga] {
        arms.push((change.name(), Arm::Matched(change).name()));
    }
    arms.push((Stage::Retain.arm().to_owned() + " model", Stage::Retain.arm().to_owned()));
    let mut pooled = vec![];
    for (name, arm) in arms {
        let mut values: Vec<f64> = vec![];
        for seed in study.results.seeds(&arm) {
            values.extend(study.results.array(&arm, seed, STATISTIC)?.iter().filter(|v| v.is_finite()));
        }
        pooled.push((name, values));
    }
    let (low, high) = stats::extent(pooled.iter().flat_map(|(_, values)| values).copied());
    if high <= low {
        return Ok(None);
    }
    let series = (pooled.iter().enumerate())
        .map(|(i, (name, values))| Series::line(name.clone(), i, &histogram(values, (low, high), BINS)));
    Ok(Some(Plot::lines(
        "statistic",
        "Histogram of the statistic that forget quality compares, questions to forget of all seeds: high where the paraphrase is more probable than wrong answers.",
        "ln s",
        "questions (%)",
        series.collect(),
    )))
}

fn rates(study: &Study<'_>) -> Result<Plot> {
    let lr = &study.config.rates.lr;
    let mut series = vec![];
    for (i, change) in shown() {
        let arm = Arm::Rates(change).name();
        let known = study.results.mean_series(&arm, UTILITY)?;
        let points: Vec<(f64, f64)> = lr.iter().zip(known).map(|(lr, (_, utility))| (1e4 * lr, utility)).collect();
        let line = Series::line(change.name(), i, &points);
        series.push(if i < flat().len() { line } else { line.dashed() });
    }
    Ok(Plot::lines(
        "rates",
        &format!("Model utility after {} epochs, by learning rate, mean over seeds.", study.config.rates.epochs),
        "learning rate (1e-4)",
        "model utility",
        series,
    )
    .log(true, false))
}
