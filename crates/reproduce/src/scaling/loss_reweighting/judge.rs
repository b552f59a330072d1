//! Verdicts and plots.

use super::regression::{ARMS, SETTINGS, error_of, steps_of};
use super::{
    AT_ONCE, Config, INFORMATIVE, LIN_UPPER, R, REDUNDANT, SIZE, TEMPERATURES, UNIFORM, WEIGHT, with_share,
    with_temperature, with_width,
};
use crate::plot::{Plot, Series};
use crate::results::Results;
use crate::verdict::{Finding, Judgement, Verdict, difference, trend};
use anyhow::Result;
use autodidact_core::stats::{self, Estimate};
use autodidact_scaling::loss_reweighting::{LossReweighter, ReweightShape, Temperature};
use tch::Tensor;

pub(super) fn findings(results: &Results) -> Result<Vec<Finding>> {
    let config: Config = results.plan().config()?;
    Ok(vec![
        direction(results)?,
        size(results, &config)?,
        Finding::not_judged("C3", "Needs models of that size."),
        convergence(results)?,
        temperature(results)?,
    ])
}

fn lin_upper() -> String {
    with_temperature(LIN_UPPER, R)
}

/// C1.
fn direction(results: &Results) -> Result<Finding> {
    let text = |arm: &str| results.values(arm, INFORMATIVE);
    let gain = difference(&text(UNIFORM)?, &text(&lin_upper())?, 0.0);
    let extremes = with_temperature("extremes", R);
    let mean = |arm: &str, metric: &str| results.mean(arm, metric);
    let both = |arm: &str| Ok::<f64, anyhow::Error>(0.5 * (mean(arm, INFORMATIVE)? + mean(arm, REDUNDANT)?));
    let extremes_worse = mean(&extremes, INFORMATIVE)? > mean(UNIFORM, INFORMATIVE)?;
    let verdict = match gain.verdict {
        Verdict::Reproduced if !extremes_worse => Verdict::NotReproduced,
        Verdict::Reproduced if both(&lin_upper())? > both(UNIFORM)? => Verdict::Partly,
        v => v,
    };
    let arms = [
        UNIFORM.to_owned(),
        lin_upper(),
        with_temperature(LIN_UPPER, 1.0),
        with_temperature("quadratic", R),
        extremes,
        "hard-half".to_owned(),
        "focal".to_owned(),
    ];
    let words: Vec<String> = arms
        .iter()
        .map(|a| Ok(format!("{a} {:.3} / {:.3}", mean(a, INFORMATIVE)?, mean(a, REDUNDANT)?)))
        .collect::<Result<_>>()?;
    let note = format!(
        "Nats per character on text, uniform minus LinUpper; over both domains {:+.3}. Losses on text / redundant sentences: {}.",
        both(UNIFORM)? - both(&lin_upper())?,
        words.join(", ")
    );
    Ok(Finding::new("C1", gain, note).against(0.0).verdict(verdict))
}

/// C2.
fn size(results: &Results, config: &Config) -> Result<Finding> {
    let mut widths: Vec<i64> = config.widths.iter().map(|w| w.0).collect();
    widths.push(config.width);
    widths.sort_unstable();
    let arm = |base: &str, w: i64| {
        let plain = if base == UNIFORM { UNIFORM.to_owned() } else { lin_upper() };
        if w == config.width { plain } else { with_width(base, w) }
    };
    let gains_at = |w: i64| -> Result<Vec<f64>> {
        let (a, b) = (results.values(&arm(UNIFORM, w), INFORMATIVE)?, results.values(&arm(LIN_UPPER, w), INFORMATIVE)?);
        Ok(a.iter().zip(&b).map(|(a, b)| a - b).collect())
    };
    let gains: Vec<Vec<f64>> = widths.iter().map(|w| gains_at(*w)).collect::<Result<_>>()?;
    let means: Vec<f64> = gains.iter().map(|g| stats::mean(g)).collect();
    let logs: Vec<f64> = widths.iter().map(|w| (*w as f64).log2()).collect();
    let by_seed: Vec<Vec<f64>> = (0..gains[0].len()).map(|s| gains.iter().map(|g| g[s]).collect()).collect();
    let slope = trend(&logs, &by_seed);
    let grows = means.windows(2).all(|w| w[1] > w[0]);
    let verdict = match slope.verdict {
        Verdict::Reproduced if grows => Verdict::Reproduced,
        Verdict::NotJudged => Verdict::NotJudged,
        _ if stats::spearman(&logs, &means).is_ok_and(|r| r > 0.0) => Verdict::Partly,
        _ if slope.estimate.high < 0.0 => Verdict::NotReproduced,
        _ => Verdict::NotJudged,
    };
    let undecided = if verdict == Verdict::NotJudged { "Not decided. " } else { "" };
    let words: Vec<String> = widths.iter().zip(&means).map(|(w, g)| format!("{g:+.3} at width {w}")).collect();
    let text = |arm: &str| results.values(arm, INFORMATIVE);
    let with_domains = difference(&text(&with_share(UNIFORM))?, &text(&with_share(LIN_UPPER))?, 0.0);
    let note = format!(
        "{undecided}Slope of the gain (nats on text, uniform minus LinUpper) over the doublings of width. Gain {}; with three quarters of text in a batch {with_domains:+}.",
        words.join(", ")
    );
    Ok(Finding::new("C2", slope, note).against(0.0).verdict(verdict))
}

/// C4.
fn convergence(results: &Results) -> Result<Finding> {
    let order = ["lin-upper/r=1", "quadratic/r=1", "uniform", "extremes/r=1"];
    let (mut shares, mut words) = (vec![], vec![]);
    let mut seeds = 0;
    for (setting, _, noise) in SETTINGS {
        let steps: Vec<Vec<f64>> =
            order.iter().map(|a| results.values(setting, &steps_of(a))).collect::<Result<_>>()?;
        seeds = steps[0].len();
        let medians: Vec<String> =
            order.iter().zip(&steps).map(|(a, s)| format!("{a} {:.0}", stats::median(s))).collect();
        let name = setting.trim_start_matches("regression/");
        if noise > 0.0 {
            let ends: Vec<String> = order
                .iter()
                .map(|a| {
                    let curve = results.mean_series(setting, &error_of(a))?;
                    let early = curve.iter().find(|p| p.0 >= 150.0).or(curve.last()).map_or(f64::NAN, |p| p.1);
                    Ok(format!("{a} {early:.3} then {:.4}", curve.last().map_or(f64::NAN, |p| p.1)))
                })
                .collect::<Result<_>>()?;
            words.push(format!("With noise, errors after 150 steps and in the end: {}", ends.join(", ")));
            continue;
        }
        let ordered = (0..seeds).filter(|s| steps.windows(2).all(|w| w[0][*s] < w[1][*s])).count();
        shares.push(ordered as f64 / seeds as f64);
        words.push(format!("{name}: in order in {ordered} of {seeds} seeds, median steps {}", medians.join(", ")));
    }
    let met = shares.iter().filter(|s| **s >= 0.8).count();
    let verdict = match met {
        0 => Verdict::NotReproduced,
        n if n == shares.len() => Verdict::Reproduced,
        _ => Verdict::Partly,
    };
    let least = shares.iter().copied().fold(f64::INFINITY, f64::min);
    let judgement =
        Judgement { estimate: Estimate { n: seeds, ..Estimate::exact(least) }, verdict: verdict.with_seeds(seeds) };
    let note = format!("Share of seeds in order, the less of both settings. {}.", words.join(". "));
    Ok(Finding::new("C4", judgement, note).against(0.8))
}

/// C5.
fn temperature(results: &Results) -> Result<Finding> {
    let uniform = results.mean(UNIFORM, INFORMATIVE)?;
    let losses: Vec<f64> = TEMPERATURES
        .iter()
        .map(|r| results.mean(&with_temperature(LIN_UPPER, *r), INFORMATIVE))
        .collect::<Result<_>>()?;
    let falls = losses.windows(2).all(|w| (w[1] - uniform).abs() < (w[0] - uniform).abs());
    let at_once = difference(&results.values(AT_ONCE, INFORMATIVE)?, &results.values(&lin_upper(), INFORMATIVE)?, 0.0);
    let needed = at_once.estimate.value >= 0.0;
    let verdict = Verdict::all(&[Verdict::of(falls), Verdict::of(needed)]).with_seeds(results.seeds(UNIFORM).len());
    let words: Vec<String> = TEMPERATURES.iter().zip(&losses).map(|(r, l)| format!("{l:.3} at r = {r}")).collect();
    let note = format!(
        "Nats on text of reweighting from step 0 over reweighting after the warm-up. LinUpper's loss on text: {}; uniform {uniform:.3}.",
        words.join(", ")
    );
    Ok(Finding::new("C5", at_once, note).against(0.0).verdict(verdict))
}

pub(super) fn plots(results: &Results) -> Result<Vec<Plot>> {
    let shapes = [
        ("uniform", UNIFORM.to_owned()),
        ("LinUpper, r = 0.4", lin_upper()),
        ("LinUpper, r = 1", with_temperature(LIN_UPPER, 1.0)),
        ("Quadratic, r = 0.4", with_temperature("quadratic", R)),
        ("Extremes, r = 0.4", with_temperature("extremes", R)),
    ];
    let over_steps = |metric: &str| -> Result<Vec<Series>> {
        let line =
            |(i, (name, arm)): (usize, &(&str, String))| Ok(Series::line(*name, i, &results.mean_series(arm, metric)?));
        shapes.iter().enumerate().map(line).collect()
    };
    let mut plots = vec![weight_of_loss()?];
    for (setting, _, _) in SETTINGS {
        let name = setting.trim_start_matches("regression/");
        let series = ARMS
            .iter()
            .enumerate()
            .map(|(i, (arm, _, _))| Ok(Series::line(*arm, i, &results.mean_series(setting, &error_of(arm))?)))
            .collect::<Result<Vec<_>>>()?;
        let caption = format!("Linear regression ({name}): expected squared error over the steps, mean over seeds.");
        plots.push(Plot::lines(&format!("regression-{name}"), &caption, "step", "error", series).log(false, true));
    }
    for (name, caption, metric) in [
        ("text", "Validation loss on the informative domain.", INFORMATIVE),
        ("redundant", "Validation loss on the redundant domain.", REDUNDANT),
        ("weight", "Weight of the informative half of a batch.", WEIGHT),
        ("effective-size", "Effective sample size of a batch's weights.", SIZE),
    ] {
        plots.push(Plot::lines(name, caption, "step", metric, over_steps(metric)?));
    }
    Ok(plots)
}

/// The weights of evenly spread losses.
fn weight_of_loss() -> Result<Plot> {
    let losses: Vec<f64> = (0..41).map(|i| f64::from(i) / 20.0 - 1.0).collect();
    let mut series = vec![];
    for (name, shape) in [
        ("LinUpper", ReweightShape::LinUpper),
        ("Quadratic", ReweightShape::Quadratic),
        ("Extremes", ReweightShape::Extremes),
        ("Upper", ReweightShape::Upper),
    ] {
        for r in [0.4, 1.0] {
            let of = LossReweighter { shape, delta: 1.0, temperature: Temperature::Constant(r), warmup_steps: 0 };
            let w = Vec::<f64>::try_from(of.weights(&Tensor::from_slice(&losses), 0)?)?;
            let points: Vec<_> = losses.iter().copied().zip(w.iter().map(|w| w * losses.len() as f64)).collect();
            let line = Series::line(format!("{name}, r = {r}"), series.len() / 2, &points);
            series.push(if r == 1.0 { line.dashed() } else { line });
        }
    }
    let caption = "Weight of a sequence by its normalised loss, for losses spread evenly over a batch (1 is uniform).";
    Ok(Plot::lines("weights", caption, "normalised loss h", "weight times batch size", series))
}
