//! Curve fitting: bounded L-BFGS, Levenberg-Marquardt, and robust fits from many starts in parallel.
//!
//! ```
//! use autodidact_core::fit::{RobustFit, grid};
//! // y = 2 + 3 x^-0.5 without noise, recovered from eight starts.
//! let x: Vec<f64> = (1..=20).map(f64::from).collect();
//! let y: Vec<f64> = x.iter().map(|x| 2.0 + 3.0 * x.powf(-0.5)).collect();
//! let model = |p: &[f64], i: usize, g: &mut [f64]| {
//!     let t = x[i].powf(-p[2]);
//!     g.copy_from_slice(&[1.0, t, -p[1] * t * x[i].ln()]);
//!     p[0] + p[1] * t
//! };
//! let starts = grid(&[&[1.0, 4.0], &[1.0, 5.0], &[0.2, 1.0]]);
//! let fit = RobustFit::default().run(&y, model, &starts).unwrap();
//! assert!((fit.best.x[2] - 0.5).abs() < 1e-6);
//! ```

mod lbfgs;
mod least_squares;
mod robust;

pub use lbfgs::{Lbfgs, Minimum};
pub use least_squares::LevenbergMarquardt;
pub use robust::{FitReport, RobustFit, huber};

use rayon::prelude::*;

/// All combinations of the given values, the last varying fastest: the usual grid of starting points.
pub fn grid(axes: &[&[f64]]) -> Vec<Vec<f64>> {
    axes.iter().fold(vec![vec![]], |points, axis| {
        points.iter().flat_map(|p| axis.iter().map(|v| p.iter().copied().chain([*v]).collect())).collect()
    })
}

/// Runs a minimiser from every start in parallel; returns the results that exist, in the order of the starts.
pub fn from_starts<F>(starts: &[Vec<f64>], minimise: F) -> Vec<Minimum>
where
    F: Fn(&[f64]) -> Option<Minimum> + Sync,
{
    starts.par_iter().filter_map(|x0| minimise(x0)).collect()
}
