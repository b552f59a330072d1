//! The estimation: sizes give `N_c, alpha_N`, batch sizes give `B_*, alpha_B`, all runs give `S_c, alpha_S`.

use super::{KaplanLaw, refine};
use crate::fit::{BatchTradeoff, CriticalBatchLaw, PowerLaw};
use autodidact_core::stats::quantile;
use autodidact_core::{Error, Result, seed};
use rand::RngExt;
use rayon::prelude::*;

/// A run at a constant learning rate after warm-up.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Parameters, without embeddings.
    pub n: f64,
    /// Tokens of a step.
    pub batch: f64,
    /// Whether its lowest loss counts as that of endless training.
    pub converged: bool,
    /// `(steps done, test loss)`, by steps; without those of the warm-up.
    pub points: Vec<(f64, f64)>,
}

impl Run {
    fn lowest(&self) -> f64 {
        self.points.iter().map(|p| p.1).fold(f64::INFINITY, f64::min)
    }
}

/// How the constants are estimated.
#[derive(Debug, Clone, PartialEq)]
pub struct EstimateOptions {
    /// Loss levels at which the batch sizes are compared; 12.
    pub levels: usize,
    /// Standard error of a loss, nats: points within twice this of `L(N)` do not count for `S_c`.
    pub noise: f64,
    /// Whether the batch size enters; without it `B_*` is 0 and `S_min` is `S`.
    pub batch: bool,
    /// Joint refinement of all constants by Huber's loss of log residuals.
    pub refine: bool,
    /// Resamples of the runs for intervals; 0 for none.
    pub resamples: usize,
    /// Seed of the bootstrap.
    pub seed: u64,
}

impl Default for EstimateOptions {
    fn default() -> Self {
        Self { levels: 12, noise: 0.0, batch: true, refine: false, resamples: 0, seed: 0 }
    }
}

/// Estimated constants.
#[derive(Debug, Clone)]
pub struct FitReport {
    /// The law: of the steps, and refined if that was asked for.
    pub law: KaplanLaw,
    /// The law of the steps alone.
    pub stepwise: KaplanLaw,
    /// `R^2` of the lines in logarithms: loss on size, critical batch on loss (1 without batch sizes), reducible loss on `S_min`.
    pub r2: [f64; 3],
    /// `(loss, contour)` of the levels at which the batch sizes were compared.
    pub contours: Vec<(f64, BatchTradeoff)>,
    /// 95 % bootstrap intervals of `N_c, alpha_N, S_c, alpha_S, B_*, alpha_B`; empty without resamples.
    pub intervals: Vec<(f64, f64)>,
}

/// `N_c` and `alpha_N` from `(parameters, loss)` of converged runs, and the line's `R^2`.
///
/// # Errors
/// As [`PowerLaw::ols`].
pub fn fit_n(losses: &[(f64, f64)]) -> Result<(PowerLaw, f64)> {
    PowerLaw::ols(losses)
}

/// The step at which a curve `(step, loss)` first reaches a level, by interpolation in the logarithm of the step.
pub fn first_reach(curve: &[(f64, f64)], level: f64) -> Option<f64> {
    let at = curve.iter().position(|p| p.1 <= level)?;
    let (s1, l1) = curve[at];
    let Some(&(s0, l0)) = at.checked_sub(1).and_then(|i| curve.get(i)) else { return (l1 == level).then_some(s1) };
    let part = (l0 - level) / (l0 - l1);
    Some((s0.ln() + part * (s1.ln() - s0.ln())).exp())
}

/// `S_min` and `E_min` of a level from curves `(batch size, curve)` of one model.
///
/// # Errors
/// Fewer than two curves that pass the level; otherwise as [`BatchTradeoff::linear`].
pub fn contour(curves: &[(f64, &[(f64, f64)])], level: f64) -> Result<BatchTradeoff> {
    let steps: Vec<(f64, f64)> = curves.iter().filter_map(|(b, c)| Some((*b, first_reach(c, level)?))).collect();
    BatchTradeoff::linear(&steps)
}

/// `B_*` and `alpha_B` from `(loss, critical batch size)`, and the line's `R^2`.
///
/// # Errors
/// As [`PowerLaw::ols`].
pub fn fit_b_crit(points: &[(f64, f64)]) -> Result<(CriticalBatchLaw, f64)> {
    let (law, r2) = PowerLaw::ols(points)?;
    Ok((CriticalBatchLaw { b_star: law.at(1.0), alpha_b: 1.0 / law.alpha }, r2))
}

/// `S_c` and `alpha_S` from all runs, given the other constants of `law`, and the line's `R^2`. Points within twice the `noise` of `L(N)`
/// (or below it) are dropped.
///
/// # Errors
/// As [`PowerLaw::ols`], of the points that are left.
pub fn fit_s(runs: &[Run], law: &KaplanLaw, noise: f64) -> Result<(PowerLaw, f64)> {
    let mut points = vec![];
    for run in runs {
        let floor = law.min_loss(run.n);
        for &(s, loss) in &run.points {
            if loss - floor > 2.0 * noise && loss > floor {
                points.push((s / (1.0 + law.b_crit(loss) / run.batch), loss - floor));
            }
        }
    }
    PowerLaw::ols(&points)
}

/// All six constants: step a from the converged runs, step b from the runs of the size with most batch sizes, step c from all runs, and
/// the refinement.
///
/// # Errors
/// Runs without points or with numbers that are not positive; fewer than two converged sizes, or (with batch sizes) no size with three of
/// them whose curves have levels in common.
pub fn estimate_all(runs: &[Run], options: &EstimateOptions) -> Result<FitReport> {
    check(runs, options)?;
    let (stepwise, r2, contours) = steps(runs, options)?;
    let law = if options.refine { refine(runs, &stepwise)? } else { stepwise };

    let draw = |i: usize| {
        let mut rng = seed::rng(options.seed, &["scaling-law estimation", "bootstrap", &i.to_string()]);
        let drawn: Vec<Run> = (0..runs.len()).map(|_| runs[rng.random_range(0..runs.len())].clone()).collect();
        // A resample may lack the sizes or the batch sizes that a step needs; it says nothing then.
        let (law, ..) = steps(&drawn, options).ok()?;
        let law = if options.refine { refine(&drawn, &law).ok()? } else { law };
        Some([law.n_c, law.alpha_n, law.s_c, law.alpha_s, law.b_star, law.alpha_b])
    };
    let draws: Vec<[f64; 6]> = (0..options.resamples).into_par_iter().filter_map(draw).collect();
    let interval = |k: usize| {
        let values: Vec<f64> = draws.iter().map(|d| d[k]).collect();
        (quantile(&values, 0.025), quantile(&values, 0.975))
    };
    let intervals = if draws.is_empty() { vec![] } else { (0..6).map(interval).collect() };
    Ok(FitReport { law, stepwise, r2, contours, intervals })
}

fn check(runs: &[Run], options: &EstimateOptions) -> Result<()> {
    autodidact_core::error::check_range("noise", options.noise, 0.0..)?;
    for (i, run) in runs.iter().enumerate() {
        if run.points.is_empty() {
            return Err(Error::value(format!("points of run {i}"), "at least one", "none"));
        }
        let numbers = [run.n, run.batch].into_iter().chain(run.points.iter().flat_map(|p| [p.0, p.1]));
        if let Some(bad) = numbers.into_iter().find(|v| !(v.is_finite() && *v > 0.0)) {
            return Err(Error::value(format!("run {i}"), "positive finite numbers", bad));
        }
    }
    Ok(())
}

/// The law with the lines' `R^2` and the contours.
type Steps = (KaplanLaw, [f64; 3], Vec<(f64, BatchTradeoff)>);

fn steps(runs: &[Run], options: &EstimateOptions) -> Result<Steps> {
    let converged: Vec<(f64, f64)> = runs.iter().filter(|r| r.converged).map(|r| (r.n, r.lowest())).collect();
    let (size, r2_n) = fit_n(&converged)?;
    let (batch, r2_b, contours) = match options.batch {
        false => (CriticalBatchLaw { b_star: 0.0, alpha_b: 1.0 }, 1.0, vec![]),
        true => {
            let contours = contours(runs, options.levels)?;
            let points: Vec<(f64, f64)> = contours.iter().map(|(l, c)| (*l, c.critical())).collect();
            let (law, r2) = fit_b_crit(&points)?;
            (law, r2, contours)
        }
    };
    let (b_star, alpha_b) = (batch.b_star, batch.alpha_b);
    let law = KaplanLaw { n_c: size.x0, alpha_n: size.alpha, s_c: 1.0, alpha_s: 1.0, b_star, alpha_b };
    let (step, r2_s) = fit_s(runs, &law, options.noise)?;
    Ok((KaplanLaw { s_c: step.x0, alpha_s: step.alpha, ..law }, [r2_n, r2_b, r2_s], contours))
}

/// Contours of the size with most batch sizes, at levels evenly spread in `ln L` where at least half of the curves pass.
fn contours(runs: &[Run], levels: usize) -> Result<Vec<(f64, BatchTradeoff)>> {
    let batches = |n: f64| {
        let mut b: Vec<f64> = runs.iter().filter(|r| r.n == n).map(|r| r.batch).collect();
        b.sort_by(f64::total_cmp);
        b.dedup();
        b.len()
    };
    let n = runs.iter().map(|r| r.n).max_by_key(|&n| batches(n)).filter(|&n| batches(n) >= 3);
    let n = n.ok_or_else(|| Error::value("batch sizes of one model", "at least three", "fewer"))?;
    let curves: Vec<(f64, &[(f64, f64)])> =
        runs.iter().filter(|r| r.n == n).map(|r| (r.batch, r.points.as_slice())).collect();
    let ends: Vec<f64> = runs.iter().filter(|r| r.n == n).map(Run::lowest).collect();
    let low = quantile(&ends, 0.5) * 1.02;
    let high = curves.iter().map(|(_, c)| c[0].1).fold(f64::INFINITY, f64::min);
    let level = |i: usize| low * (high / low).powf((i as f64 + 0.5) / levels as f64);
    let found: Vec<_> = (0..levels).filter_map(|i| Some((level(i), contour(&curves, level(i)).ok()?))).collect();
    if found.len() < 3 {
        return Err(Error::value("levels at which the batch sizes compare", "at least 3", found.len()));
    }
    Ok(found)
}
