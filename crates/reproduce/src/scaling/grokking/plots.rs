//! Plots.

use super::judge::gaps;
use super::{
    ALPHA, CKA, Config, DRIFT, EPS, KERNEL, LAZY, LINEAR, MISALIGNMENT, TEST, TRAIN, VARIANCE, alpha_arm, decay_arm,
    eps_arm, image_arm, samples_arm,
};
use crate::plot::{Plot, Series};
use crate::results::Results;
use anyhow::Result;
use autodidact_core::stats;
use autodidact_scaling::grokking::{PopulationFlow, log_steps};

/// Points without step 0, which a logarithmic axis has no place for.
fn curve(results: &Results, arm: &str, seed: u64, metric: &str) -> Result<Vec<(f64, f64)>> {
    Ok(results.series(arm, seed, metric)?.into_iter().filter(|p| p.0 > 0.0 && p.1.is_finite()).collect())
}

/// Test losses as lines and training losses, down to a hundredth of the threshold, dashed.
fn losses(results: &Results, arms: &[(String, String)], floor: f64) -> Result<Vec<Series>> {
    let seed = results.plan().seeds[0];
    let mut series = vec![];
    for (i, (name, arm)) in arms.iter().enumerate() {
        series.push(Series::line(name, i, &curve(results, arm, seed, TEST)?));
        let mut train = curve(results, arm, seed, TRAIN)?;
        train.retain(|p| p.1 > floor);
        series.push(Series::line(format!("{name}, training"), i, &train).dashed());
    }
    Ok(series)
}

pub fn all(results: &Results, c: &Config) -> Result<Vec<Plot>> {
    let seed = results.plan().seeds[0];
    let main = alpha_arm(ALPHA);
    let floor = 0.01 * c.threshold;
    let plot = |name: &str, caption: &str, y: &str, series| Plot::lines(name, caption, "step", y, series);

    let by_alpha: Vec<_> = c.alphas.iter().map(|a| (format!("alpha {a}"), alpha_arm(*a))).collect();
    let mut sizes = c.other_samples.clone();
    sizes.push(c.samples);
    sizes.sort_unstable();
    let by_samples: Vec<_> = sizes.iter().map(|p| (format!("P {p}"), samples_arm(*p, c))).collect();
    let by_eps: Vec<_> = c.epss.iter().map(|e| (format!("eps {e}"), eps_arm(*e))).collect();

    let end = results.series(LAZY, seed, TEST)?.last().map_or(1.0, |p| p.0);
    let kernel = results.value(LAZY, seed, KERNEL)?;
    let mut lazy = losses(results, &[("network".into(), main.clone()), ("linearised".into(), LAZY.into())], floor)?;
    lazy.push(Series::line("kernel regression", 2, &[(1.0, kernel), (end, kernel)]).dashed());
    for (i, decay) in c.decays.iter().enumerate() {
        let points = curve(results, &decay_arm(*decay), seed, TEST)?;
        lazy.push(Series::line(format!("decay {decay}"), 3 + i, &points));
    }

    let mut terms = vec![];
    for (i, metric) in [VARIANCE, MISALIGNMENT, LINEAR].into_iter().enumerate() {
        terms.push(Series::line(metric, i, &curve(results, &main, seed, metric)?));
    }
    terms.push(Series::line(TEST, 3, &curve(results, &main, seed, TEST)?).dashed());
    let mut kernels = vec![];
    for (i, alpha) in c.alphas.iter().enumerate() {
        let arm = alpha_arm(*alpha);
        kernels.push(Series::line(format!("CKA, alpha {alpha}"), i, &curve(results, &arm, seed, CKA)?));
        let mut drift = curve(results, &arm, seed, DRIFT)?;
        drift.retain(|p| p.1 > 1e-3);
        kernels.push(Series::line(format!("drift, alpha {alpha}"), i, &drift).dashed());
    }

    let images: Vec<_> = c.image_scales.iter().map(|s| (format!("scale {s}"), image_arm(*s))).collect();
    Ok(vec![
        plot("alpha", "Losses over the output scale, first seed.", "mean squared error", losses(results, &by_alpha, floor)?)
            .log(true, true),
        times(results, c)?,
        plot("lazy", "The main arm, its lazy references and weight decay, first seed.", "mean squared error", lazy)
            .log(true, true),
        plot("samples", "Losses over the number of samples, first seed.", "mean squared error", losses(results, &by_samples, floor)?)
            .log(true, true),
        plot("eps", "Losses over eps, first seed.", "mean squared error", losses(results, &by_eps, floor)?).log(true, true),
        plot("terms", "The terms of the exact test loss in the main arm, first seed.", "loss", terms).log(true, false),
        plot(
            "kernel",
            "Alignment of the tangent kernel with the targets, and how far it is from the initial one relative to that, first seed.",
            "CKA; drift",
            kernels,
        )
        .log(true, true),
        plot("images", "Losses of the ReLU network on images over the output scale, first seed.", "squared error per image", losses(results, &images, 0.01 * c.image_threshold)?)
            .log(true, true),
    ])
}

/// When the losses reach the threshold, over alpha, with the theory's time for unlimited data.
fn times(results: &Results, c: &Config) -> Result<Plot> {
    let mut alphas = c.alphas.clone();
    alphas.sort_by(f64::total_cmp);
    let (mut train, mut test) = (vec![], vec![]);
    for &alpha in &alphas {
        let gaps = gaps(results, &alpha_arm(alpha), c.threshold)?;
        let median = |times: Vec<f64>| (!times.is_empty()).then(|| (alpha, stats::median(&times)));
        train.extend(median(gaps.iter().filter_map(|g| g.gap.t_train.map(|t| t as f64)).collect()));
        test.extend(median(gaps.iter().filter_map(|g| g.gap.t_test.map(|t| t as f64)).collect()));
    }
    let mut theory = vec![];
    if let (Some(low), Some(high)) = (alphas.first(), alphas.last()) {
        let steps = log_steps(10 * c.long_steps, 200);
        for i in 0..=40 {
            let alpha = low * (high / low).powf(f64::from(i) / 40.0);
            let flow = PopulationFlow { d: c.d, alpha, eps: EPS, rate: 1.0 };
            theory.extend(flow.time(c.threshold, &steps)?.map(|t| (alpha, t as f64)));
        }
    }
    Ok(Plot::lines(
        "times",
        "Steps until the losses are below the threshold (medians over the seeds in which they are), and the theory's for unlimited data.",
        "output scale alpha",
        "steps",
        vec![
            Series::line("training loss", 0, &train).dots(),
            Series::line("test loss", 1, &test).dots(),
            Series::line("theory, unlimited data", 2, &theory),
        ],
    )
    .log(true, true))
}
