//! A toolbox for fitting scaling laws, in one way for all of them.
//!
//! A [`Law`] predicts a positive quantity (a loss, a critical batch size) from one or more positive inputs (parameters, tokens, compute).
//! [`fit()`] minimises Huber's loss of log residuals, or squares, by L-BFGS with analytic gradients from many starts in parallel, and gives
//! bootstrap intervals of the constants; [`validate_largest`] fits without the largest runs and predicts them.
//!
//! | law | formula | source |
//! |---|---|---|
//! | [`PowerLaw`] | `(x0/x)^alpha` | Kaplan et al., 2020 |
//! | [`PowerLawPlusConst`] | `L_inf + (x0/x)^alpha`, also under a frontier ([`fit_frontier`](PowerLawPlusConst::fit_frontier)) | Henighan et al., 2020 |
//! | [`ChinchillaLaw`] | `E + A/N^alpha + B/D^beta` | Hoffmann et al., 2022 |
//! | [`CriticalBatchLaw`], [`BatchTradeoff`] | `B_*/L^(1/alpha_B)`; `S = S_min + E_min/B` | McCandlish et al., 2018; Kaplan et al., 2020 |
//! | [`BivariateLaw`], [`UnivariateLaw`], [`AdditiveLaw`] | encoder and decoder sizes | Ghorbani et al., 2021 |
//! | [`JointDataParamLaw`] | `((N_c/N)^(a_N/a_D) + D_c/D)^a_D` | Kaplan et al., 2020; Gordon et al., 2021 |
//!
//! The law of learning-rate annealing, whose input is a schedule, is fitted by [`lr_annealing_law::fit`](crate::lr_annealing_law::fit).
//!
//! Constants are searched as logarithms, about the middle of the inputs: there exponents and factors are nearly independent, which is
//! where most of the speed comes from.
//!
//! ```
//! use autodidact_scaling::fit::{ChinchillaLaw, FitOptions, Law, Points, fit};
//! let truth = ChinchillaLaw { e: 1.8, a: 480.0, alpha: 0.35, b: 2100.0, beta: 0.37 };
//! let sizes = [1e7, 1e8, 1e9, 1e10];
//! let grid = sizes.iter().flat_map(|&n| sizes.map(|d| ([n, 20.0 * d], truth.loss(n, 20.0 * d))));
//! let fitted = fit::<ChinchillaLaw>(&Points::new(grid).unwrap(), &FitOptions::default()).unwrap();
//! assert!((fitted.law.alpha - 0.35).abs() < 1e-4 && (fitted.law.e - 1.8).abs() < 1e-3);
//! // Twenty tokens a parameter would be alpha = beta; here larger models profit less.
//! let best = fitted.law.optimal_allocation(5.76e23);
//! assert!((best.n / 1e10 - 7.1).abs() < 1.0);
//! ```

mod bivariate;
mod chinchilla;
mod critical_batch;
mod engine;
mod frontier;
mod joint;
mod points;
mod power;
mod vector;

pub use bivariate::{AdditiveLaw, BivariateLaw, Comparison, Split, UnivariateLaw, compare_laws};
pub use chinchilla::{Allocation, ChinchillaLaw};
pub use critical_batch::{BatchTradeoff, CriticalBatchLaw};
pub use engine::{Evaluation, FitOptions, Fitted, Law, Objective, Validation, fit, fit_from, validate_largest};
pub use frontier::{NOpt, PF_DAY, loss_per_sample, lower_hull_log, pareto_envelope};
pub use joint::JointDataParamLaw;
pub use points::Points;
pub use power::{PowerLaw, PowerLawPlusConst};
