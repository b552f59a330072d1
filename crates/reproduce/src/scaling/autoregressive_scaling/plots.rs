//! Plots: means over seeds where they are possible, else the first seed.

use super::runs::{Domain, Run};
use super::study::{PERCENTILES, Points, Study};
use super::{Config, SCRATCH, TUNED};
use crate::plot::{Plot, Series};
use crate::results::Results;
use crate::verdict::summary;
use anyhow::Result;
use autodidact_core::stats::mean;
use autodidact_scaling::fit::{NOpt, PowerLawPlusConst};

pub fn plots(results: &Results, c: &Config) -> Result<Vec<Plot>> {
    let study = Study { results, c };
    let all = [
        by_size(&study),
        reducible(&study),
        by_compute(&study, Domain::Images),
        by_compute(&study, Domain::Arithmetic),
        by_compute(&study, Domain::Text),
        best_sizes(&study),
        percentiles(&study),
        information(&study),
        extrapolation(&study),
        errors(&study),
        positions(&study),
    ];
    // Runs that allow no fit leave out a plot; the findings say why.
    Ok(all.into_iter().flatten().collect())
}

/// The law at points evenly spread in the logarithm over the range of others.
fn line(law: &PowerLawPlusConst, points: &[(f64, f64)], of: impl Fn(&PowerLawPlusConst, f64) -> f64) -> Points {
    let low = points.iter().map(|p| p.0).fold(f64::INFINITY, f64::min);
    let high = points.iter().map(|p| p.0).fold(0.0, f64::max);
    (0..=40).map(|i| low * (high / low).powf(f64::from(i) / 40.0)).map(|x| (x, of(law, x))).collect()
}

fn by_size(study: &Study<'_>) -> Result<Plot> {
    let seed = study.seeds()[0];
    let mut series = vec![];
    for (i, domain) in Domain::ALL.into_iter().enumerate() {
        let (points, law) = (study.sizes(domain, seed)?, study.law(domain, seed)?);
        series.push(Series::line(domain.name(), i, &points).dots());
        series.push(Series::line(format!("{}, L(N)", domain.name()), i, &line(&law, &points, |l, x| l.loss(x))));
    }
    let caption = "Lowest test losses by size in four domains, and the fitted power laws with constants (first seed).";
    Ok(Plot::lines("loss-by-size", caption, "weights N", "loss (nats/token)", series).log(true, true))
}

fn reducible(study: &Study<'_>) -> Result<Plot> {
    let seed = study.seeds()[0];
    let mut series = vec![];
    for (i, domain) in Domain::ALL.into_iter().enumerate() {
        let (points, law) = (study.sizes(domain, seed)?, study.law(domain, seed)?);
        let left: Points = points.iter().map(|p| (p.0, p.1 - law.l_inf)).collect();
        series.push(Series::line(domain.name(), i, &left).dots());
        series.push(Series::line(
            format!("{}, alpha {:.2}", domain.name(), law.alpha),
            i,
            &line(&law, &points, |l, x| l.reducible(x)),
        ));
    }
    let caption = "Reducible losses L - L_inf by size: straight lines where a power law is what the constant leaves (first seed).";
    Ok(Plot::lines("reducible-by-size", caption, "weights N", "L - L_inf (nats/token)", series).log(true, true))
}

fn by_compute(study: &Study<'_>, domain: Domain) -> Result<Plot> {
    let seed = study.seeds()[0];
    let (curves, law) = (study.curves(domain, seed)?, study.frontier(domain, seed)?);
    let runs = domain.runs(study.c);
    let mut series: Vec<Series> = curves
        .iter()
        .zip(&runs)
        .enumerate()
        .map(|(i, (curve, run))| Series::line(format!("N {:.0}", run.weights()), i, curve))
        .collect();
    let frontier = line(&law, &curves.concat(), |l, x| l.loss(x));
    series.push(Series::line(format!("L(C), L_inf {:.2}", law.l_inf), curves.len(), &frontier).dashed());
    let name = format!("loss-by-compute-{}", domain.name());
    let caption = format!("Learning curves on {} over compute, and the law below them (first seed).", domain.name());
    Ok(Plot::lines(&name, &caption, "compute (PF-days)", "test loss (nats/token)", series).log(true, true))
}

fn best_sizes(study: &Study<'_>) -> Result<Plot> {
    let seed = study.seeds()[0];
    let mut series = vec![];
    for (i, domain) in Domain::ALL.into_iter().take(3).enumerate() {
        let corners = study.corners(domain, seed)?;
        let (best, _) = NOpt::fit(&corners)?;
        let fitted: Points = corners.iter().map(|p| (p.0, best.n(p.0))).collect();
        series.push(Series::line(domain.name(), i, &corners).dots());
        series.push(Series::line(format!("{}, beta {:.2}", domain.name(), best.beta), i, &fitted));
    }
    let caption =
        "Sizes at the corners of the convex hull of the learning curves, and the power laws through them (first seed).";
    Ok(Plot::lines("best-size", caption, "compute (PF-days)", "best size N", series).log(true, true))
}

fn percentiles(study: &Study<'_>) -> Result<Plot> {
    let mut series = vec![];
    for (i, (trend, p)) in study.trends(study.seeds()[0])?.iter().zip(PERCENTILES).enumerate() {
        series.push(Series::line(format!("{p} %"), i, &trend.points).dots());
        let law = line(&trend.fitted.law, &trend.points, |l, x| l.loss(x));
        series.push(Series::line(format!("{p} %, law"), i, &law));
    }
    let caption = "Percentiles of the losses of test images by size, each with a law of its own (first seed).";
    Ok(Plot::lines("percentiles", caption, "weights N", "loss (nats/image)", series).log(true, true))
}

fn information(study: &Study<'_>) -> Result<Plot> {
    let by_seed = study.seeds().iter().map(|&s| study.information(s)).collect::<Result<Vec<_>>>()?;
    let with = |scale: f64| -> Vec<(f64, f64, f64)> {
        (0..by_seed[0].len())
            .map(|k| {
                let (value, half) = summary(&by_seed.iter().map(|p| p[k].1).collect::<Vec<_>>());
                (by_seed[0][k].0, value / scale, half / scale)
            })
            .collect()
    };
    let series = vec![
        Series::with_intervals("I (nats/image)", 0, with(1.0)),
        Series::with_intervals("infogain I/ln 10", 1, with(10f64.ln())),
    ];
    let caption = "What the label tells about the image, by size: straight where it grows as log N. Means and 95 % intervals over seeds.";
    Ok(Plot::lines("information", caption, "weights N", "information of the label", series).log(true, false))
}

fn extrapolation(study: &Study<'_>) -> Result<Plot> {
    let seed = study.seeds()[0];
    let of = |(i, run): (usize, Run)| {
        Ok(Series::line(format!("N {:.0}", run.weights()), i, &study.hard(&run, seed)?).dots())
    };
    let runs = Domain::Arithmetic.runs(study.c).into_iter().enumerate();
    let (digits, longer) = (study.c.digits, study.c.longer);
    let x = format!("loss on {} to {} digits (nats/token)", digits.0, digits.1);
    let y = format!("loss on {} to {} digits (nats/token)", longer.0, longer.1);
    let caption =
        "Loss on longer numbers over the loss on the digits of training, at all tests of all sizes (first seed).";
    Ok(Plot::lines("extrapolation", caption, &x, &y, runs.map(of).collect::<Result<Vec<_>>>()?))
}

fn errors(study: &Study<'_>) -> Result<Plot> {
    let sizes: Vec<f64> = Domain::Images.runs(study.c).iter().map(Run::weights).collect();
    let with = |metric| -> Result<Vec<(f64, f64, f64)>> {
        let errors = study.errors(metric)?;
        let of = |(k, n): (usize, &f64)| {
            let (value, half) = summary(&errors.iter().map(|e| e[k]).collect::<Vec<_>>());
            (*n, value, half)
        };
        Ok(sizes.iter().enumerate().map(of).collect())
    };
    let series = vec![
        Series::with_intervals("fine-tuned", 0, with(TUNED)?),
        Series::with_intervals("from scratch", 1, with(SCRATCH)?),
    ];
    let caption = "Test errors of classifiers by size, pre-trained or not, after equally many steps. Means and 95 % intervals over seeds.";
    Ok(Plot::lines("classification", caption, "weights N", "test error (%)", series).log(true, false))
}

fn positions(study: &Study<'_>) -> Result<Plot> {
    let of = |domain| -> Result<Points> {
        let points = study.by_position(domain)?;
        let scale = mean(&points.iter().map(|p| p.1).collect::<Vec<_>>());
        Ok(points.into_iter().map(|p| (p.0, p.1 / scale)).collect())
    };
    let series = vec![Series::line("images", 0, &of(Domain::Images)?), Series::line("text", 2, &of(Domain::Text)?)];
    let caption = "Losses by position, over their mean, of the largest networks (means over seeds): text falls towards a constant, images follow their content.";
    Ok(Plot::lines("positions", caption, "position", "loss over its mean", series).log(true, false))
}
