//! Fitting any law: the objective, the starts, the bootstrap, and the check on the largest runs.

use super::Points;
use autodidact_core::error::check_range;
use autodidact_core::fit::{Lbfgs, Minimum, from_starts, huber};
use autodidact_core::stats::{mean, quantile};
use autodidact_core::{Error, Result, seed};
use rand::RngExt;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// A law that predicts a positive quantity from positive inputs.
///
/// It is searched in coordinates that suit a minimiser: logarithms of factors, and factors as they are at the middle of the inputs
/// (`centre`, means of the features) rather than at 1.
pub trait Law: Clone + Send + Sync {
    /// Its name.
    const NAME: &'static str;
    /// Names of the inputs.
    const INPUTS: &'static [&'static str];
    /// Names of the constants.
    const CONSTANTS: &'static [&'static str];

    /// The constants, in the order of [`CONSTANTS`](Self::CONSTANTS).
    fn constants(&self) -> Vec<f64>;

    /// The prediction at inputs, in the order of [`INPUTS`](Self::INPUTS).
    fn predict(&self, x: &[f64]) -> f64;

    /// What of the inputs the law depends on; their logarithms.
    fn features(x: &[f64]) -> Vec<f64> {
        x.iter().map(|v| v.ln()).collect()
    }

    /// How large a run is, for leaving out the largest; the product of the inputs.
    fn scale(x: &[f64]) -> f64 {
        x.iter().product()
    }

    /// The coordinates of this law.
    fn coordinates(&self, centre: &[f64]) -> Vec<f64>;

    /// The law of coordinates.
    fn from_coordinates(at: &[f64], centre: &[f64]) -> Self;

    /// Bounds of the coordinates; none by default.
    fn bounds(_points: &Points) -> Vec<(f64, f64)> {
        vec![]
    }

    /// Starting points, as coordinates, that suit the points.
    fn starts(points: &Points, centre: &[f64]) -> Vec<Vec<f64>>;

    /// Writes the logarithm of the prediction for every point, and its derivatives by the coordinates. `features` holds one row per
    /// feature, less the centre.
    fn evaluate(at: &[f64], features: &[Vec<f64>], into: &mut Evaluation);
}

/// Logarithms of predictions with their derivatives.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// By point.
    pub log: Vec<f64>,
    /// By coordinate, by point.
    pub slopes: Vec<Vec<f64>>,
}

/// What a fit minimises.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Objective {
    /// `sum Huber_delta(ln y - ln f)`: robust against outliers; `delta` 1e-3 since Hoffmann et al. (2022).
    Huber {
        /// Width of the quadratic part.
        delta: f64,
    },
    /// `sum (y - f)^2`.
    LeastSquares,
    /// `sum (ln y - ln f)^2`.
    LogLeastSquares,
}

/// How a law is fitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FitOptions {
    /// What is minimised.
    pub objective: Objective,
    /// Weight of `sum relu(ln f - ln y)^2`, which keeps a law below a frontier; 0 for none.
    pub frontier: f64,
    /// Bootstrap resamples for intervals of the constants; 0 for none.
    pub resamples: usize,
    /// Level of the intervals.
    pub level: f64,
    /// Seed of the bootstrap.
    pub seed: u64,
    /// Most iterations from each start.
    pub max_iterations: usize,
}

impl Default for FitOptions {
    fn default() -> Self {
        Self {
            objective: Objective::Huber { delta: 1e-3 },
            frontier: 0.0,
            resamples: 0,
            level: 0.95,
            seed: 0,
            max_iterations: 5000,
        }
    }
}

/// A fitted law.
#[derive(Debug, Clone)]
pub struct Fitted<L> {
    /// The law.
    pub law: L,
    /// The objective.
    pub objective: f64,
    /// `1 - SS_res/SS_tot` of the values.
    pub r2: f64,
    /// Mean of `|f/y - 1|`.
    pub mean_error: f64,
    /// Starts that ended within 1e-4 of the best objective, of how many.
    pub agreeing: (usize, usize),
    /// Bootstrap intervals of the constants; empty without resamples.
    pub intervals: Vec<(f64, f64)>,
    /// The laws of the resamples.
    pub resampled: Vec<L>,
    level: f64,
}

impl<L: Law> Fitted<L> {
    /// The interval of a prediction (of the law, not of a further noisy run); the prediction itself without resamples.
    pub fn interval(&self, x: &[f64]) -> (f64, f64) {
        self.interval_of(|law| law.predict(x))
    }

    /// The interval of anything that follows from the law.
    pub fn interval_of(&self, quantity: impl Fn(&L) -> f64) -> (f64, f64) {
        if self.resampled.is_empty() {
            let value = quantity(&self.law);
            return (value, value);
        }
        let values: Vec<f64> = self.resampled.iter().map(quantity).collect();
        let tail = (1.0 - self.level) / 2.0;
        (quantile(&values, tail), quantile(&values, 1.0 - tail))
    }
}

/// The points as the minimiser reads them.
struct Problem {
    features: Vec<Vec<f64>>,
    centre: Vec<f64>,
    values: Vec<f64>,
    logs: Vec<f64>,
}

impl Problem {
    fn new<L: Law>(points: &Points) -> Self {
        let rows: Vec<Vec<f64>> = (0..points.len()).map(|i| L::features(points.inputs(i))).collect();
        let mut features: Vec<Vec<f64>> = (0..rows[0].len()).map(|k| rows.iter().map(|r| r[k]).collect()).collect();
        let centre: Vec<f64> = features.iter().map(|f| mean(f)).collect();
        for (feature, centre) in features.iter_mut().zip(&centre) {
            feature.iter_mut().for_each(|f| *f -= centre);
        }
        let values = points.values().to_vec();
        let logs = values.iter().map(|v| v.ln()).collect();
        Self { features, centre, values, logs }
    }

    /// Minimises the objective in which point `i` counts `weights[i]` times.
    fn minimise<L: Law>(&self, start: &[f64], weights: &[f64], by: &FitOptions, with: &Lbfgs) -> Option<Minimum> {
        let n = self.values.len();
        let mut into = Evaluation { log: vec![0.0; n], slopes: vec![vec![0.0; n]; start.len()] };
        let mut pull = vec![0.0; n];
        with.minimise(start, |at, gradient| {
            L::evaluate(at, &self.features, &mut into);
            let sum = self.losses(&into.log, weights, by, &mut pull);
            for (gradient, slopes) in gradient.iter_mut().zip(&into.slopes) {
                *gradient = dot(&pull, slopes);
            }
            sum
        })
    }

    /// The objective, and its derivatives by the logarithms of the predictions.
    fn losses(&self, log: &[f64], weights: &[f64], by: &FitOptions, pull: &mut [f64]) -> f64 {
        let mut sum = 0.0;
        if let (Objective::Huber { delta }, 0.0) = (by.objective, by.frontier) {
            // Without branches, for most fits are of this kind.
            let one = |pull: &mut f64, log: f64, want: f64, weight: f64| {
                let r = log - want;
                let size = r.abs();
                let inside = size.min(delta);
                *pull = weight * r.clamp(-delta, delta);
                weight * inside * (size - 0.5 * inside)
            };
            let (pulls, last) = pull.as_chunks_mut::<LANES>();
            let ((logs, log), (wants, want)) = (log.as_chunks::<LANES>(), self.logs.as_chunks::<LANES>());
            let (weights, weight) = weights.as_chunks::<LANES>();
            let mut sums = [0.0; LANES];
            for (((pull, log), want), weight) in pulls.iter_mut().zip(logs).zip(wants).zip(weights) {
                for i in 0..LANES {
                    sums[i] += one(&mut pull[i], log[i], want[i], weight[i]);
                }
            }
            sum = sums.iter().sum();
            for (((pull, log), want), weight) in last.iter_mut().zip(log).zip(want).zip(weight) {
                sum += one(pull, *log, *want, *weight);
            }
            return sum;
        }
        let rows = log.iter().zip(&self.logs).zip(&self.values).zip(weights);
        for (pull, (((log, want), value), weight)) in pull.iter_mut().zip(rows) {
            let r = log - want;
            let (mut loss, mut slope) = match by.objective {
                Objective::Huber { delta } => huber(r, delta),
                Objective::LogLeastSquares => (r * r, 2.0 * r),
                Objective::LeastSquares => {
                    let f = log.exp();
                    ((f - value) * (f - value), 2.0 * (f - value) * f)
                }
            };
            if by.frontier > 0.0 && r > 0.0 {
                loss += by.frontier * r * r;
                slope += 2.0 * by.frontier * r;
            }
            sum += weight * loss;
            *pull = weight * slope;
        }
        sum
    }
}

/// Sums that a processor adds side by side.
const LANES: usize = 8;

fn dot(a: &[f64], b: &[f64]) -> f64 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [0.0; LANES];
    for (a, b) in a.iter().zip(b) {
        for i in 0..LANES {
            sums[i] += a[i] * b[i];
        }
    }
    sums.iter().sum::<f64>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f64>()
}

/// Fits a law from starts that suit the points.
///
/// # Errors
/// Points of another number of inputs, fewer points than constants, options out of range.
pub fn fit<L: Law>(points: &Points, options: &FitOptions) -> Result<Fitted<L>> {
    check::<L>(points, options)?;
    let problem = Problem::new::<L>(points);
    let starts = L::starts(points, &problem.centre);
    run(points, &problem, &starts, options)
}

/// Fits a law from given starts.
///
/// # Errors
/// No start at which the law has a value; otherwise as [`fit()`].
pub fn fit_from<L: Law>(points: &Points, starts: &[L], options: &FitOptions) -> Result<Fitted<L>> {
    check::<L>(points, options)?;
    let problem = Problem::new::<L>(points);
    let starts: Vec<Vec<f64>> = starts.iter().map(|s| s.coordinates(&problem.centre)).collect();
    run(points, &problem, &starts, options)
}

/// [`fit()`] with some coordinates held at values.
pub(super) fn fit_held<L: Law>(points: &Points, held: &[(usize, f64)], options: &FitOptions) -> Result<Fitted<L>> {
    check::<L>(points, options)?;
    let problem = Problem::new::<L>(points);
    let mut starts = L::starts(points, &problem.centre);
    let free = (f64::NEG_INFINITY, f64::INFINITY);
    let mut bounds = L::bounds(points);
    bounds.resize(starts[0].len(), free);
    for &(at, value) in held {
        starts.iter_mut().for_each(|s| s[at] = value);
        bounds[at] = (value, value);
    }
    run_within(points, &problem, &starts, bounds, options)
}

fn check<L: Law>(points: &Points, options: &FitOptions) -> Result<()> {
    if let Objective::Huber { delta } = options.objective {
        check_range("Huber delta", delta, f64::MIN_POSITIVE..)?;
    }
    check_range("frontier penalty", options.frontier, 0.0..)?;
    check_range("level", options.level, 0.0..1.0)?;
    if points.inputs(0).len() != L::INPUTS.len() {
        let expected = format!("{} ({})", L::INPUTS.len(), L::INPUTS.join(", "));
        return Err(Error::value(format!("inputs of the {} law", L::NAME), expected, points.inputs(0).len()));
    }
    if points.len() < L::CONSTANTS.len() {
        let expected = format!("at least as many as constants, {}", L::CONSTANTS.len());
        return Err(Error::value(format!("points of the {} law", L::NAME), expected, points.len()));
    }
    Ok(())
}

fn run<L: Law>(points: &Points, problem: &Problem, starts: &[Vec<f64>], options: &FitOptions) -> Result<Fitted<L>> {
    run_within(points, problem, starts, L::bounds(points), options)
}

fn run_within<L: Law>(
    points: &Points,
    problem: &Problem,
    starts: &[Vec<f64>],
    bounds: Vec<(f64, f64)>,
    options: &FitOptions,
) -> Result<Fitted<L>> {
    let minimiser = Lbfgs {
        bounds,
        max_iterations: options.max_iterations,
        f_tolerance: 1e-13,
        g_tolerance: 1e-14,
        ..Default::default()
    };
    let once = vec![1.0; points.len()];
    let minima = from_starts(starts, |x0| problem.minimise::<L>(x0, &once, options, &minimiser));
    let best = minima.iter().min_by(|a, b| a.value.total_cmp(&b.value));
    let best = best.ok_or_else(|| Error::Failed(format!("the {} law has no value at any start", L::NAME)))?;
    let close = |m: &&Minimum| m.value <= best.value * (1.0 + 1e-4) + f64::MIN_POSITIVE;
    let agreeing = (minima.iter().filter(close).count(), minima.len());

    let blocks = points.blocks();
    let draw = |i: usize| {
        let mut rng = seed::rng(options.seed, &["scaling law", "bootstrap", &i.to_string()]);
        let mut weights = vec![0.0; points.len()];
        for _ in 0..blocks.len() {
            blocks[rng.random_range(0..blocks.len())].iter().for_each(|&p| weights[p] += 1.0);
        }
        let found = problem.minimise::<L>(&best.x, &weights, options, &minimiser);
        found.map(|m| L::from_coordinates(&m.x, &problem.centre))
    };
    let resampled: Vec<L> = (0..options.resamples).into_par_iter().filter_map(draw).collect();

    let law = L::from_coordinates(&best.x, &problem.centre);
    let predicted: Vec<f64> = points.iter().map(|(x, _)| law.predict(x)).collect();
    let errors: Vec<f64> = predicted.iter().zip(points.values()).map(|(p, y)| (p / y - 1.0).abs()).collect();
    let mut fitted = Fitted {
        objective: best.value,
        r2: r_squared(points.values(), &predicted),
        mean_error: mean(&errors),
        agreeing,
        intervals: vec![],
        resampled,
        level: options.level,
        law,
    };
    if !fitted.resampled.is_empty() {
        fitted.intervals = (0..L::CONSTANTS.len()).map(|k| fitted.interval_of(|law| law.constants()[k])).collect();
    }
    Ok(fitted)
}

/// `1 - SS_res/SS_tot`.
pub(super) fn r_squared(observed: &[f64], predicted: &[f64]) -> f64 {
    let centre = mean(observed);
    let total: f64 = observed.iter().map(|y| (y - centre).powi(2)).sum();
    let residual: f64 = observed.iter().zip(predicted).map(|(y, p)| (y - p).powi(2)).sum();
    1.0 - residual / total
}

/// How well a law predicts runs larger than those it was fitted on.
#[derive(Debug, Clone)]
pub struct Validation<L> {
    /// The law of the smaller runs.
    pub fitted: Fitted<L>,
    /// Indices of the points that were left out.
    pub held_out: Vec<usize>,
    /// Relative errors `f/y - 1` on these.
    pub errors: Vec<f64>,
}

impl<L> Validation<L> {
    /// Mean of the errors' sizes.
    pub fn mean_error(&self) -> f64 {
        mean(&self.errors.iter().map(|e| e.abs()).collect::<Vec<_>>())
    }
}

/// Fits without the largest `share` of the points (by [`Law::scale`]; at least one, and all that are as large as the smallest of them), and
/// predicts those.
///
/// # Errors
/// A share outside `(0, 1)`, too few points left; otherwise as [`fit()`].
pub fn validate_largest<L: Law>(points: &Points, share: f64, options: &FitOptions) -> Result<Validation<L>> {
    check_range("share left out", share, (std::ops::Bound::Excluded(0.0), std::ops::Bound::Excluded(1.0)))?;
    check::<L>(points, options)?;
    let scales: Vec<f64> = points.iter().map(|(x, _)| L::scale(x)).collect();
    let mut order = scales.clone();
    order.sort_by(f64::total_cmp);
    let count = ((share * points.len() as f64).round() as usize).clamp(1, points.len());
    let threshold = order[points.len() - count] * (1.0 - 1e-12);
    let (held_out, kept): (Vec<usize>, Vec<usize>) = (0..points.len()).partition(|&i| scales[i] >= threshold);
    if kept.is_empty() {
        return Err(Error::value("points of different scales", "at least two scales", 1));
    }
    let fitted = fit::<L>(&points.select(&kept)?, options)?;
    let errors = held_out.iter().map(|&i| fitted.law.predict(points.inputs(i)) / points.values()[i] - 1.0).collect();
    Ok(Validation { fitted, held_out, errors })
}
