//! Fitting the law to loss curves.

use super::{AnnealAreas, AnnealLaw, WarmupTreatment};
use autodidact_core::fit::{Lbfgs, RobustFit, grid, huber};
use autodidact_core::stats::{mean, quantile};
use autodidact_core::{Error, Result, seed};
use rand::RngExt;
use rayon::prelude::*;

/// Observed losses of one run.
#[derive(Debug, Clone)]
pub struct Curve {
    /// Learning rates of steps `0..=T`.
    pub lrs: Vec<f64>,
    /// Steps of warm-up.
    pub warmup: usize,
    /// `(i, validation loss in nats per token)`: the loss after the update with rate `lrs[i]`, so that it is matched to the
    /// areas of the rates up to and including `lrs[i]`. A loss measured after `s` updates, which used `lrs[..s]`, has
    /// `i = s - 1`.
    pub points: Vec<(usize, f64)>,
}

/// How the law is fitted; the default is the published listing's way.
#[derive(Debug, Clone, PartialEq)]
pub struct FitOptions {
    /// Huber's `delta` on residuals of the logarithm; 1e-3.
    pub delta: f64,
    /// Warm-up in the areas.
    pub warmup: WarmupTreatment,
    /// Whether `C` is fitted; without it the law is a power law in `S1`.
    pub annealing: bool,
    /// Bootstrap resamples of the points for intervals of the constants; 0 for none.
    pub resamples: usize,
    /// Seed of the bootstrap.
    pub seed: u64,
}

impl Default for FitOptions {
    fn default() -> Self {
        Self { delta: 1e-3, warmup: WarmupTreatment::AsPeak, annealing: true, resamples: 0, seed: 0 }
    }
}

/// A fitted law.
#[derive(Debug, Clone)]
pub struct FitReport {
    /// The law.
    pub law: AnnealLaw,
    /// Sum of Huber losses of log residuals.
    pub objective: f64,
    /// `1 - SS_res/SS_tot` of the losses.
    pub r2: f64,
    /// Largest relative error `|L_pred/L - 1|`.
    pub max_error: f64,
    /// Mean relative error.
    pub mean_error: f64,
    /// Starts that ended within 1e-4 of the best objective, of how many.
    pub agreeing: (usize, usize),
    /// 95 % bootstrap intervals of `L0`, `A`, `alpha`, `C`; empty without resamples.
    pub intervals: Vec<(f64, f64)>,
}

/// The published grid of starts: 54 combinations of `L0`, `A`, `alpha`, `C`.
fn starts() -> Vec<Vec<f64>> {
    grid(&[&[0.1, 2.1], &[1.0, 11.5, 22.0], &[0.0, 0.4, 0.8], &[1.0, 11.5, 22.0]])
}

#[derive(Clone, Copy)]
struct Point {
    s1: f64,
    s2: f64,
    loss: f64,
}

fn points(curves: &[Curve], lambda: f64, warmup: WarmupTreatment) -> Result<Vec<Point>> {
    let mut all = vec![];
    for (i, curve) in curves.iter().enumerate() {
        let areas = AnnealAreas::from_lrs(&curve.lrs, curve.warmup, lambda, warmup)?;
        for &(step, loss) in &curve.points {
            if step >= areas.s1.len() {
                let range = format!("at most {}", areas.s1.len() - 1);
                return Err(Error::value(format!("step of curve {i}"), range, step));
            }
            if !(loss.is_finite() && loss > 0.0) {
                return Err(Error::value(
                    format!("loss of curve {i} at step {step}"),
                    "a positive finite number",
                    loss,
                ));
            }
            if areas.s1[step] == 0.0 {
                return Err(Error::value(format!("step of curve {i}"), "a learning rate above 0 up to it", step));
            }
            all.push(Point { s1: areas.s1[step], s2: areas.s2[step], loss });
        }
    }
    Ok(all)
}

/// Constants in the order `L0`, `A`, `alpha`, `C`.
fn minimise(points: &[Point], options: &FitOptions, starts: &[Vec<f64>]) -> Result<autodidact_core::fit::FitReport> {
    let free = if options.annealing { f64::INFINITY } else { 0.0 };
    let positive = (0.0, f64::INFINITY);
    let minimiser = Lbfgs {
        bounds: vec![positive, positive, positive, (0.0, free)],
        max_iterations: 5000,
        f_tolerance: 1e-13,
        g_tolerance: 1e-14,
        ..Default::default()
    };
    let logs: Vec<f64> = points.iter().map(|p| p.s1.ln()).collect();
    let losses: Vec<f64> = points.iter().map(|p| p.loss).collect();
    let model = |x: &[f64], i: usize, g: &mut [f64]| {
        let power = (-x[2] * logs[i]).exp();
        g.copy_from_slice(&[1.0, power, -x[1] * power * logs[i], -points[i].s2]);
        x[0] + x[1] * power - x[3] * points[i].s2
    };
    RobustFit { delta: options.delta, minimiser }.run(&losses, model, starts)
}

/// Fits the four constants to curves at a given `lambda`.
///
/// # Errors
/// Curves that [`AnnealAreas::from_lrs`] refuses, points outside their runs or not positive, fewer than four points.
pub fn fit(curves: &[Curve], lambda: f64, options: &FitOptions) -> Result<FitReport> {
    let points = points(curves, lambda, options.warmup)?;
    if points.len() < 4 {
        return Err(Error::value("points", "at least as many as constants, 4", points.len()));
    }
    let report = minimise(&points, options, &starts())?;
    let to_law = |x: &[f64]| AnnealLaw { l0: x[0], a: x[1], alpha: x[2], c: x[3], lambda, warmup: options.warmup };
    let law = to_law(&report.best.x);
    let predicted: Vec<f64> = points.iter().map(|p| law.loss(p.s1, p.s2)).collect();
    let observed: Vec<f64> = points.iter().map(|p| p.loss).collect();
    let centre = mean(&observed);
    let total: f64 = observed.iter().map(|l| (l - centre).powi(2)).sum();
    let residual: f64 = observed.iter().zip(&predicted).map(|(l, p)| (l - p).powi(2)).sum();
    let errors: Vec<f64> = observed.iter().zip(&predicted).map(|(l, p)| (p / l - 1.0).abs()).collect();

    let draw = |i: usize| -> Result<Vec<f64>> {
        let mut rng = seed::rng(options.seed, &["annealing law", "bootstrap", &i.to_string()]);
        let sample: Vec<Point> = (0..points.len()).map(|_| points[rng.random_range(0..points.len())]).collect();
        Ok(minimise(&sample, options, std::slice::from_ref(&report.best.x))?.best.x)
    };
    let draws = (0..options.resamples).into_par_iter().map(draw).collect::<Result<Vec<_>>>()?;
    let interval = |k: usize| {
        let values: Vec<f64> = draws.iter().map(|d| d[k]).collect();
        (quantile(&values, 0.025), quantile(&values, 0.975))
    };
    Ok(FitReport {
        law,
        objective: report.best.value,
        r2: 1.0 - residual / total,
        max_error: errors.iter().copied().fold(0.0, f64::max),
        mean_error: mean(&errors),
        agreeing: (report.agreeing, report.starts),
        intervals: if draws.is_empty() { vec![] } else { (0..4).map(interval).collect() },
    })
}

/// Fits at every `lambda` of a list; returns the best fit and the objective at each.
///
/// # Errors
/// An empty list; otherwise as [`fit`].
pub fn fit_lambda(curves: &[Curve], lambdas: &[f64], options: &FitOptions) -> Result<(FitReport, Vec<(f64, f64)>)> {
    let fits = lambdas.iter().map(|&l| fit(curves, l, options)).collect::<Result<Vec<_>>>()?;
    let profile = lambdas.iter().zip(&fits).map(|(l, f)| (*l, f.objective)).collect();
    let best = fits.into_iter().min_by(|a, b| a.objective.total_cmp(&b.objective));
    Ok((best.ok_or_else(|| Error::value("lambdas", "at least one", "none"))?, profile))
}

impl AnnealLaw {
    /// Relative errors `L_pred/L - 1` of the law on a curve.
    ///
    /// # Errors
    /// As [`fit`], but for the number of points.
    pub fn relative_errors(&self, curve: &Curve) -> Result<Vec<f64>> {
        let points = points(std::slice::from_ref(curve), self.lambda, self.warmup)?;
        Ok(points.iter().map(|p| self.loss(p.s1, p.s2) / p.loss - 1.0).collect())
    }

    /// The fit's objective for this law on curves: the sum of Huber losses of log residuals.
    ///
    /// # Errors
    /// As [`relative_errors`](Self::relative_errors).
    pub fn objective(&self, curves: &[Curve], delta: f64) -> Result<f64> {
        let points = points(curves, self.lambda, self.warmup)?;
        Ok(points.iter().map(|p| huber(p.loss.ln() - self.loss(p.s1, p.s2).ln(), delta).0).sum())
    }
}
