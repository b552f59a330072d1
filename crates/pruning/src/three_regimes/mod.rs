//! A Three-regime Model of Network Pruning (Zhou, Yang, Chang and Mahoney, 2023; arXiv 2305.18383): how a hyper-parameter of the dense
//! training affects the pruned network depends on how hard it is pruned.
//!
//! A *temperature* is anything that makes dense training noisier (few epochs, small batches, a large `rho` of SAM); the *load* is the
//! density of the pruned network. Two retrained copies of a pruned network tell which regime it is in:
//!
//! - linear mode connectivity: on the line `(1-t) theta_1 + t theta_2`, with `E(t)` the training error (statistics of batch norm computed anew at every
//!   `t`, [`recalibrate_batch_norm`](autodidact_core::landscape::recalibrate_batch_norm)), `m = (E(0)+E(1))/2` and `t* = argmax |m - E(t)|`:
//!   `LMC = m - E(t*)`; far below 0: a barrier ([`lmc`]).
//! - similarity of their outputs: [`linear_cka`](autodidact_core::tangent::linear_cka) of the softmax.
//!
//! Regime I is badly connected; II-A is connected and dissimilar; II-B is connected and similar. In regime I raise the temperature, elsewhere lower it:
//! [`tune_temperature`] does, [`select_model`] picks among models.
//!
//! ```
//! use autodidact_pruning::three_regimes::{Regime, Thresholds, lmc};
//! let curve = [0.02, 0.05, 0.10, 0.30, 0.10, 0.04];
//! assert!((lmc(&curve)?.value + 0.27).abs() < 1e-12);
//! let thresholds = Thresholds { lmc: 0.05, cka: 0.9 };
//! assert_eq!(thresholds.regime(-0.27, 0.95), Regime::I);
//! assert_eq!(thresholds.regime(-0.01, 0.95), Regime::IIB);
//! # Ok::<(), autodidact_core::Error>(())
//! ```

mod diagram;
mod tuning;

pub use diagram::{Lmc, PhaseDiagram, Regime, Thresholds, jensen_shannon, lmc, output_agreement};
pub use tuning::{Direction, Tuning, direction, select_model, tune_temperature};
