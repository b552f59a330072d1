//! Learning from preferences: one validated method per paper, on log-probabilities of whole responses.
//!
//! ```
//! use autodidact_preference::losses::{PairLogProbs, dpo};
//! use tch::Tensor;
//!
//! # fn main() -> autodidact_core::Result<()> {
//! let one = |x: f64| Tensor::from_slice(&[x]);
//! let policy = PairLogProbs::new(one(-12.3), one(-10.1))?;
//! let reference = PairLogProbs::new(one(-13.0), one(-9.6))?;
//! let loss = dpo(&policy.margin(&reference)?, 0.1)?;
//! assert!((loss.double_value(&[0]) - 0.6349461).abs() < 1e-7);
//! # Ok(())
//! # }
//! ```

pub mod cream;
pub mod implicit_prm;
pub mod losses;
pub mod online_self_preferring;
pub mod preference_degree;
pub mod preference_logic;
pub mod rpo;
pub mod self_correction_learning;
pub mod self_rationalization;
pub mod srpo;

mod tabular;

/// What the README shows compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
