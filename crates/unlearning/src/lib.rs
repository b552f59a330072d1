//! Machine unlearning and adaptation: one validated method per paper.
//!
//! ```
//! use autodidact_unlearning::homeostatic::Effect;
//!
//! // A learner's rate moves with what it ingests.
//! let effect = Effect::of(0.01);
//! assert!(effect.apply(0.01, 7) > 0.01 && effect.apply(0.01, 1) < 0.01);
//! ```

pub mod answers;
pub mod baselines;
pub mod classifier;
pub mod flat;
pub mod homeostatic;
pub mod label_agnostic_forgetting;
pub mod membership;
pub mod model_surgery;
pub mod splits;
pub mod tofu;
pub mod unlearner;

/// What the README shows compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
