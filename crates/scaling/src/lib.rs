//! Scaling laws and training dynamics: one validated method per paper.
//!
//! ```
//! use autodidact_core::schedule::{Decay, Schedule, Shape};
//! use autodidact_scaling::lr_annealing_law::{AnnealLaw, WarmupTreatment};
//!
//! // The published law predicts that a cool-down beats a cosine of the same length.
//! let law =
//!     AnnealLaw { l0: 2.628, a: 0.429, alpha: 0.550, c: 0.411, lambda: 0.999, warmup: WarmupTreatment::AsPeak };
//! let wsd = Schedule::new(2e-4, 20_000, Shape::wsd(0.2, Decay::Linear));
//! let cosine = Schedule::new(2e-4, 20_000, Shape::cosine_to(0.0));
//! assert!(law.final_loss(&wsd) < law.final_loss(&cosine));
//! ```

pub mod autoregressive_scaling;
pub mod fit;
pub mod grokking;
pub mod implicit_bias_flatness;
pub mod inductive_bias;
pub mod infinite_lr;
pub mod loss_reweighting;
pub mod lr_annealing_law;
pub mod monitors;
pub mod scaling_law_estimation;
pub mod training_instabilities;
pub mod translation_scaling;

/// What the README shows compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
