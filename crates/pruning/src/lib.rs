//! Pruning: one validated method per paper.
//!
//! ```
//! use autodidact_core::masks::Masks;
//! use autodidact_pruning::pruners::{global_magnitude, n_of_m};
//! use tch::Tensor;
//!
//! let w = Tensor::from_slice(&[0.1f32, -0.5, 0.3, 0.05, 0.9, -0.2, 0.4, -0.7]).view([2, 4]);
//! let dense = Masks::of(vec![("w".into(), w)]);
//! let of = |masks: &Masks| Vec::<f32>::try_from(masks.iter().next().unwrap().1.flatten(0, -1)).unwrap();
//! // Half of all weights, wherever they are; and two of four in every row.
//! assert_eq!(of(&global_magnitude(&dense, 0.5)?), [0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0]);
//! assert_eq!(of(&n_of_m(&dense, 2, 4)?), [0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0]);
//! # Ok::<(), autodidact_core::Error>(())
//! ```

pub mod essential_sparsity;
pub mod fire_together;
pub mod pruners;
pub mod storage;
pub mod three_regimes;

/// What the README shows compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
