//! What every area of autodidact shares: networks, optimizers, schedules, training with exact resume, metrics, statistics,
//! curve fits and text.
//!
//! Tensors are [`tch::Tensor`]s; functions that take them check shapes and ranges at the door and return [`Result`].

pub mod cluster;
pub mod curvature;
pub mod device;
pub mod error;
pub mod fit;
pub mod hub;
pub mod kernel;
pub mod landscape;
pub mod masks;
pub mod metrics;
pub mod nn;
pub mod optim;
pub mod schedule;
pub mod seed;
mod shim;
pub mod stats;
pub mod tangent;
pub mod testing;
pub mod text;
pub mod train;

pub use error::{Error, Result};

/// What the README shows compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
