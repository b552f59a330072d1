//! Verdicts and plots.

use super::{
    BIAS, CNN, Config, ERRORS, ESTIMATOR, EXACT, KERNELS, KS, LIKELIHOOD_OFF, MEAN_ERROR, MLP, MOMENTS_OFF, SAMPLED,
    TEST_ERROR, TRAIN_ERROR, class_arm, dimension_arm, law_arrays,
};
use crate::plot::{Plot, Series};
use crate::results::Results;
use crate::verdict::{Finding, Judgement, Verdict, estimate, within};
use anyhow::{Result, bail};
use autodidact_core::stats::{self, Estimate};
use autodidact_scaling::inductive_bias::{
    GeneralizedChi2, InductiveBias, ScaledNcx2, architecture_bias, inductive_bias,
};

/// Resamples of a bootstrap interval.
const RESAMPLES: usize = 200;

/// The law of a Gaussian process's errors on images.
fn law(results: &Results, seed: u64, sigma: f64) -> Result<GeneralizedChi2> {
    let [variances, squares] = law_arrays(sigma);
    let array = |name: &str| Ok::<_, anyhow::Error>(results.array(KERNELS, seed, name)?.to_vec());
    Ok(GeneralizedChi2::new(array(&variances)?, array(&squares)?)?)
}

/// What one seed says of classes at the median error of the fully connected networks.
struct Classes {
    target: f64,
    /// By width.
    kernels: Vec<f64>,
    /// By class.
    networks: Vec<InductiveBias>,
}

impl Classes {
    fn of(results: &Results, config: &Config, seed: u64) -> Result<Self> {
        let errors = |name: &str| results.array(&class_arm(name), seed, ERRORS);
        let target = stats::median(errors(MLP)?);
        let kernel = |sigma: &f64| Ok(-law(results, seed, *sigma)?.ln_cdf(target)?);
        let network = |c: &(String, _, _)| Ok(inductive_bias(errors(&c.0)?, target, RESAMPLES, seed)?);
        Ok(Self {
            target,
            kernels: config.sigmas.iter().map(kernel).collect::<Result<_>>()?,
            networks: config.classes.iter().map(network).collect::<Result<_>>()?,
        })
    }
}

pub(super) fn findings(results: &Results) -> Result<Vec<Finding>> {
    let config: Config = results.plan().config()?;
    let seeds = results.seeds(ESTIMATOR);
    let classes: Vec<Classes> = seeds.iter().map(|s| Classes::of(results, &config, *s)).collect::<Result<_>>()?;
    Ok(vec![
        tail(results, &config)?,
        dimensions(results, &config)?,
        kernels(&classes, &config)?,
        architectures(results, &classes, &config)?,
        samples(results)?,
    ])
}

/// C1.
fn tail(results: &Results, config: &Config) -> Result<Finding> {
    let regression = results.mean(ESTIMATOR, KS)?;
    let by_width: Vec<f64> = results.mean_series(KERNELS, KS)?.iter().map(|p| p.1).collect();
    let (first, rest) = (within(&[regression], 0.05), within(&by_width, 0.05));
    let verdict = match (first.verdict, rest.verdict) {
        (Verdict::Reproduced, Verdict::Reproduced) => Verdict::Reproduced,
        (Verdict::Reproduced, _) => Verdict::Partly,
        (other, _) => other,
    };
    let widths: Vec<String> =
        config.sigmas.iter().zip(&by_width).map(|(s, ks)| format!("{ks:.3} at width {s}")).collect();
    // Of networks there are too few for fresh ones: the distance from those that were fitted.
    let own = |name: &str| -> Result<f64> {
        let each = |s: &u64| {
            let errors = results.array(&class_arm(name), *s, ERRORS)?;
            Ok(ScaledNcx2::fit(errors)?.ks_distance(errors)?)
        };
        Ok(mean_of(results.seeds(ESTIMATOR).iter().map(each).collect::<Result<Vec<_>>>()?.into_iter()))
    };
    let networks: Vec<String> =
        config.classes.iter().map(|c| Ok(format!("{:.3} of {} {}", own(&c.0)?, c.2, c.0))).collect::<Result<_>>()?;
    let note = format!(
        "Kolmogorov-Smirnov distance of the fit from fresh errors: {regression:.3} on the regression; on images {}. Networks are not judged: distance from their own errors {}.",
        widths.join(", "),
        networks.join(", ")
    );
    let seeds = results.seeds(ESTIMATOR).len();
    let judgement = Judgement { estimate: Estimate { n: seeds, ..first.estimate }, verdict: verdict.with_seeds(seeds) };
    Ok(Finding::new("C1", judgement, note).against(0.05))
}

/// C2.
fn dimensions(results: &Results, config: &Config) -> Result<Finding> {
    let (mut x, mut y, mut words) = (vec![], vec![], vec![]);
    for &d in &config.dimensions {
        let arm = dimension_arm(d);
        let bias = stats::median(&results.values(&arm, BIAS)?);
        words.push(format!("{d}: {bias:.0} ({:.2})", results.mean(&arm, MEAN_ERROR)?));
        if d <= 10 {
            x.push(d as f64);
            y.push(bias);
        }
    }
    let rho = stats::spearman(&x, &y).unwrap_or(f64::NAN);
    let seeds = results.seeds(&dimension_arm(config.dimensions[0])).len();
    let estimate = Estimate { n: seeds, ..Estimate::exact(rho) };
    let verdict = Verdict::of(rho >= 0.9).with_seeds(seeds);
    let note = format!(
        "Spearman's correlation up to dimension 10. Median exact bias in nats by dimension (mean error over variance of the targets): {}. The target is {} of that variance.",
        words.join(", "),
        config.target
    );
    Ok(Finding::new("C2", Judgement { estimate, verdict }, note).against(0.9))
}

fn mean_of(values: impl Iterator<Item = f64>) -> f64 {
    stats::mean(&values.collect::<Vec<_>>())
}

fn class_index(config: &Config, name: &str) -> Result<usize> {
    match config.classes.iter().position(|c| c.0 == name) {
        Some(i) => Ok(i),
        None => bail!("no class {name} was run"),
    }
}

/// C3.
fn kernels(classes: &[Classes], config: &Config) -> Result<Finding> {
    let mlp = class_index(config, MLP)?;
    let least = |c: &Classes| {
        let best = c.kernels.iter().copied().fold(f64::INFINITY, f64::min);
        architecture_bias(best, c.networks[mlp].nats.value)
    };
    let supplied: Vec<f64> = classes.iter().map(least).collect::<Result<_, _>>()?;
    let verdict = match () {
        _ if supplied.iter().all(|v| *v > 50.0) => Verdict::Reproduced,
        _ if stats::mean(&supplied) > 50.0 => Verdict::Partly,
        _ => Verdict::NotReproduced,
    };
    let judgement = Judgement { estimate: estimate(&supplied), verdict: verdict.with_seeds(supplied.len()) };
    let widths: Vec<String> = (config.sigmas.iter().enumerate())
        .map(|(i, s)| format!("{:.0} at width {s}", mean_of(classes.iter().map(|c| c.kernels[i]))))
        .collect();
    let note = format!(
        "Nats that fully connected networks supply over the Gaussian process of the best width, at their median error of {:.4}. Bias of the processes, mean over seeds: {}; of the networks {:.1}.",
        mean_of(classes.iter().map(|c| c.target)),
        widths.join(", "),
        mean_of(classes.iter().map(|c| c.networks[mlp].nats.value))
    );
    Ok(Finding::new("C3", judgement, note).against(50.0))
}

/// C4.
fn architectures(results: &Results, classes: &[Classes], config: &Config) -> Result<Finding> {
    let (mlp, cnn) = (class_index(config, MLP)?, class_index(config, CNN)?);
    let half = |b: &InductiveBias| 0.5 * (b.nats.high - b.nats.low);
    let differences: Vec<f64> =
        classes.iter().map(|c| c.networks[cnn].nats.value - c.networks[mlp].nats.value).collect();
    let apart = classes
        .iter()
        .zip(&differences)
        .filter(|(c, d)| d.abs() > half(&c.networks[mlp]) + half(&c.networks[cnn]))
        .count();
    let verdict = match () {
        _ if apart == classes.len() => Verdict::Reproduced,
        _ if 2 * apart > classes.len() => Verdict::Partly,
        _ => Verdict::NotReproduced,
    };
    let judgement = Judgement { estimate: estimate(&differences), verdict: verdict.with_seeds(classes.len()) };
    let words: Vec<String> = (config.classes.iter().enumerate())
        .map(|(i, (name, _, _))| {
            let arm = class_arm(name);
            Ok(format!(
                "{name} {:.1} nats at {:.1} deviations below the mean (test error {:.4}, training {:.5})",
                mean_of(classes.iter().map(|c| c.networks[i].nats.value)),
                mean_of(classes.iter().map(|c| c.networks[i].deviations)),
                results.mean(&arm, TEST_ERROR)?,
                results.mean(&arm, TRAIN_ERROR)?
            ))
        })
        .collect::<Result<_>>()?;
    let intervals: Vec<String> = classes
        .iter()
        .map(|c| {
            let of = |i: usize| format!("{:.1} to {:.1}", c.networks[i].nats.low, c.networks[i].nats.high);
            format!("{} and {}", of(mlp), of(cnn))
        })
        .collect();
    let note = format!(
        "Bias of convolutional minus that of fully connected networks; apart in {apart} of {} seeds. Means over seeds: {}. Networks that fit the training set less well are poorer samples of those that do, which is part of the difference. Intervals of fully connected and convolutional networks by seed: {}.",
        classes.len(),
        words.join(", "),
        intervals.join("; ")
    );
    Ok(Finding::new("C4", judgement, note))
}

/// Slope in logarithms over the numbers of samples before the model's own error, and how many those are.
fn falling(points: &[(f64, f64)]) -> Option<(f64, usize)> {
    let floor = points.last()?.1;
    let kept: Vec<_> = points.iter().filter(|p| p.1 > 2.0 * floor).collect();
    let of = |f: &dyn Fn(&(f64, f64)) -> f64| kept.iter().map(|p| f(p).ln()).collect::<Vec<_>>();
    if kept.len() < 3 {
        return None;
    }
    Some((stats::slope(&of(&|p| p.0), &of(&|p| p.1)).ok()?, kept.len()))
}

/// C5.
fn samples(results: &Results) -> Result<Finding> {
    let slopes = |metric: &str| -> Result<Vec<Option<(f64, usize)>>> {
        results.seeds(ESTIMATOR).iter().map(|s| Ok(falling(&results.series(ESTIMATOR, *s, metric)?))).collect()
    };
    let words = |metric: &str| -> Result<String> {
        let means = results.mean_series(ESTIMATOR, metric)?;
        Ok(means.iter().map(|(n, off)| format!("{n} {off:.1}")).collect::<Vec<_>>().join(", "))
    };
    let by_seed = |slopes: &[Option<(f64, usize)>]| {
        let one =
            |s: &Option<(f64, usize)>| s.map_or("too few numbers".to_owned(), |s| format!("{:.2} over {}", s.0, s.1));
        slopes.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    let likelihood = slopes(LIKELIHOOD_OFF)?;
    let note = format!(
        "Slope for maximum likelihood; by seed {}. Exact bias {:.1} nats at half the mean error; mean over seeds of the median distance from it by number of samples: maximum likelihood {}; two moments {}. Slopes of two moments: {}.",
        by_seed(&likelihood),
        results.mean(ESTIMATOR, EXACT)?,
        words(LIKELIHOOD_OFF)?,
        words(MOMENTS_OFF)?,
        by_seed(&slopes(MOMENTS_OFF)?)
    );
    let Some(known) = likelihood.into_iter().map(|s| s.map(|s| s.0)).collect::<Option<Vec<f64>>>() else {
        return Ok(Finding::not_judged(
            "C5",
            format!("Fewer than three numbers of samples before the model's own error. {note}"),
        ));
    };
    let judgement = Judgement {
        estimate: estimate(&known),
        verdict: Verdict::of((-0.7..=-0.3).contains(&stats::mean(&known))).with_seeds(known.len()),
    };
    Ok(Finding::new("C5", judgement, note).against(-0.5))
}

pub(super) fn plots(results: &Results) -> Result<Vec<Plot>> {
    let config: Config = results.plan().config()?;
    let across: Vec<(f64, f64)> = config
        .dimensions
        .iter()
        .map(|d| Ok((*d as f64, stats::median(&results.values(&dimension_arm(*d), BIAS)?))))
        .collect::<Result<_>>()?;
    let mut each = vec![];
    for &d in &config.dimensions {
        each.extend(results.values(&dimension_arm(d), BIAS)?.into_iter().map(|v| (d as f64, v)));
    }
    let dimension = Plot::lines(
        "dimension",
        "Inductive bias that a target of a twentieth of the targets' variance asks of a Gaussian process, by dimension of the task.",
        "dimension",
        BIAS,
        vec![Series::line("median", 0, &across), Series::line("seeds", 1, &each).dots()],
    );
    let off = |metric: &str, name: &str, colour| -> Result<Series> {
        Ok(Series::line(name, colour, &results.mean_series(ESTIMATOR, metric)?))
    };
    let estimator = Plot::lines(
        "estimator",
        "Distance of the estimated from the exact inductive bias by number of sampled hypotheses (median of repetitions, mean over seeds).",
        "sampled hypotheses",
        "distance (nats)",
        vec![off(LIKELIHOOD_OFF, "maximum likelihood", 0)?, off(MOMENTS_OFF, "two moments", 1)?],
    )
    .log(true, true);
    Ok(vec![dimension, by_target(results, &config)?, histogram(results)?, estimator])
}

/// Bias over the target error, by class, at the first seed.
fn by_target(results: &Results, config: &Config) -> Result<Plot> {
    let seed = results.seeds(KERNELS)[0];
    let errors = |name: &str| results.array(&class_arm(name), seed, ERRORS);
    let middle = stats::median(errors(MLP)?);
    let targets: Vec<f64> = (0..40).map(|i| middle * 0.6 * (6f64).powf(f64::from(i) / 39.0)).collect();
    let mut series = vec![];
    for (i, (name, _, _)) in config.classes.iter().enumerate() {
        let fit = ScaledNcx2::fit(errors(name)?)?;
        let curve: Vec<_> = targets.iter().map(|t| Ok((*t, -fit.ln_cdf(*t)?))).collect::<Result<_>>()?;
        series.push(Series::line(name.as_str(), i, &curve));
    }
    for (i, sigma) in config.sigmas.iter().enumerate() {
        let law = law(results, seed, *sigma)?;
        let curve: Vec<_> = targets.iter().map(|t| Ok((*t, -law.ln_cdf(*t)?))).collect::<Result<_>>()?;
        series
            .push(Series::line(format!("Gaussian process, width {sigma}"), config.classes.len() + i, &curve).dashed());
    }
    // From a hundredth of a nat: below, everybody meets the target.
    for s in &mut series {
        s.points.retain(|p| p.1 > 1e-2 && p.1.is_finite());
    }
    series.retain(|s| !s.points.is_empty());
    let caption = "Inductive bias of classes of hypotheses by target error (one seed).";
    Ok(Plot::lines("classes", caption, "target error", SAMPLED, series).log(true, true))
}

/// Distribution of the fully connected networks' errors beside the fit (one seed).
fn histogram(results: &Results) -> Result<Plot> {
    let seed = results.seeds(KERNELS)[0];
    let mut series = vec![];
    for (i, name) in [MLP, CNN].iter().enumerate() {
        let mut errors = results.array(&class_arm(name), seed, ERRORS)?.to_vec();
        errors.sort_by(f64::total_cmp);
        let n = errors.len() as f64;
        let empirical: Vec<_> = errors.iter().enumerate().map(|(j, e)| (*e, (j as f64 + 0.5) / n)).collect();
        let fit = ScaledNcx2::fit(&errors)?;
        let (low, high) = (errors[0] * 0.95, errors[errors.len() - 1] * 1.05);
        let curve: Vec<_> = (0..60)
            .map(|j| {
                let e = low + (high - low) * f64::from(j) / 59.0;
                Ok((e, fit.ln_cdf(e)?.exp()))
            })
            .collect::<Result<_>>()?;
        series.push(Series::line(format!("{name}, networks"), i, &empirical).dots());
        series.push(Series::line(format!("{name}, fitted"), i, &curve));
    }
    Ok(Plot::lines(
        "errors",
        "Test errors of trained networks and the tail model fitted to them, as distribution functions (one seed).",
        "test error",
        "share of networks below",
        series,
    ))
}
