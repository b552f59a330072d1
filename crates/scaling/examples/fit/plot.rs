//! Points, law and extrapolation as SVG.

use anyhow::{Result, anyhow};
use autodidact_scaling::fit::{Fitted, Law, Points, Validation};
use plotters::prelude::*;
use std::path::Path;

const BLUE: RGBColor = RGBColor(0, 114, 178);
const ORANGE: RGBColor = RGBColor(213, 94, 0);
const LARGEST: f64 = 10.0;

/// Over the first input, one curve for each combination of the others (at most twelve of them), to ten times the largest input; the band
/// is the bootstrap's. Points that were left out are orange, and so is the law fitted without them.
pub fn draw<L: Law>(
    path: &Path,
    names: &[String],
    points: &Points,
    fitted: &Fitted<L>,
    validation: Option<&Validation<L>>,
) -> Result<()> {
    let first: Vec<f64> = points.iter().map(|(x, _)| x[0]).collect();
    let (low, high) = (least(&first), most(&first));
    let ends = (low / 1.3, high * LARGEST);
    let mut others: Vec<Vec<f64>> = points.iter().map(|(x, _)| x[1..].to_vec()).collect();
    others.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    others.dedup();
    let stride = others.len().div_ceil(12);
    let others: Vec<Vec<f64>> = others.into_iter().step_by(stride).collect();

    let xs: Vec<f64> = (0..=100).map(|i| ends.0 * (ends.1 / ends.0).powf(f64::from(i) / 100.0)).collect();
    let at = |x: f64, rest: &[f64]| [x].iter().chain(rest).copied().collect::<Vec<f64>>();
    let curves: Vec<Vec<(f64, f64)>> =
        others.iter().map(|o| xs.iter().map(|&x| (x, fitted.law.predict(&at(x, o)))).collect()).collect();
    let all: Vec<f64> = curves.iter().flatten().map(|p| p.1).chain(points.values().iter().copied()).collect();
    let all: Vec<f64> = all.into_iter().filter(|v| v.is_finite() && *v > 0.0).collect();
    let range = (least(&all) / 1.03)..(most(&all) * 1.03);

    let failed = |e: DrawingAreaErrorKind<std::io::Error>| anyhow!("{e}");
    let area = SVGBackend::new(path, (900, 520)).into_drawing_area();
    area.fill(&WHITE).map_err(failed)?;
    let value = &names[names.len() - 1];
    let title = format!("{} law, {} points", L::NAME, points.len());
    let mut chart = ChartBuilder::on(&area)
        .margin(12)
        .caption(title, ("sans-serif", 18))
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d((ends.0..ends.1).log_scale(), range.log_scale())
        .map_err(failed)?;
    let x_name = match names.len() {
        2 => names[0].clone(),
        n => format!("{} (a curve for each {})", names[0], names[1..n - 1].join(", ")),
    };
    chart
        .configure_mesh()
        .x_desc(x_name)
        .y_desc(value)
        .light_line_style(RGBColor(238, 238, 238))
        .x_label_formatter(&|v| format!("{v:.0e}"))
        .draw()
        .map_err(failed)?;
    for (rest, curve) in others.iter().zip(&curves) {
        if !fitted.resampled.is_empty() {
            let bounds: Vec<(f64, (f64, f64))> = xs.iter().map(|&x| (x, fitted.interval(&at(x, rest)))).collect();
            let band = bounds.iter().map(|(x, b)| (*x, b.1)).chain(bounds.iter().rev().map(|(x, b)| (*x, b.0)));
            chart.draw_series([Polygon::new(band.collect::<Vec<_>>(), BLUE.mix(0.12))]).map_err(failed)?;
        }
        chart.draw_series(LineSeries::new(curve.iter().copied(), BLUE.mix(0.8))).map_err(failed)?;
        if let Some(check) = validation {
            let predicted = xs.iter().map(|&x| (x, check.fitted.law.predict(&at(x, rest))));
            chart.draw_series(DashedLineSeries::new(predicted, 5, 4, ORANGE.mix(0.8).into())).map_err(failed)?;
        }
    }
    let dots = points.iter().enumerate().map(|(i, (x, y))| {
        let out = validation.is_some_and(|v| v.held_out.contains(&i));
        Circle::new((x[0], y), 3, if out { ORANGE } else { BLUE }.filled())
    });
    chart.draw_series(dots).map_err(failed)?;
    area.present().map_err(failed)
}

fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

fn most(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}
