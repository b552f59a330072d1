//! Need is All You Need: Homeostatic Neural Networks Adapt to Concept Shift (Man, Damasio and Neven, 2022; arXiv 2205.08645): a learner
//! whose learning rate is its own state, moved by what it decides to ingest.
//!
//! The true label of an ingested sample moves the rate: `eta + delta` for labels 5 to 9, `eta - delta` for 0 to 4. Before it decides, the
//! learner simulates one update with the rate as it is and one with the rate as its own *guess* of the label would make it, and ingests
//! if the second is better on its last 20 samples:
//!
//! `ingest  iff  acc(theta - eta' g) > acc(theta - eta g)`,  `eta' = eta +- delta` by the guess.
//!
//! So being right about the world pays off for the learner itself. Under concept shift ([`ConceptShift`]: labels of two classes change
//! places again and again) this should raise the rate when old associations must be unlearned quickly. [`learn`] runs such a stream, test
//! then train, with a [`Regulator`]: [`Constant`] (LRC), [`RandomRegulator`] (LRR), [`HomeostaticRegulator`] (LRH).
//!
//! ```
//! use autodidact_core::seed;
//! use autodidact_unlearning::homeostatic::{
//!     Constant, Effect, HomeostaticRegulator, Mlp, Samples, Simulation, Spacing,
//!     Stream, learn,
//! };
//!
//! // Ten classes, each with one input that is on.
//! let inputs = (0..200).flat_map(|i| (0..10).map(move |j| if i % 10 == j { 1.0 } else { 0.0 })).collect();
//! let data = Samples::new(inputs, (0..200).map(|i| i % 10).collect())?;
//! let net = Mlp::new(&[10, 16, 10], &mut seed::rng(0, &["init"]))?;
//! let stream = Stream { epochs: 10, spacing: Spacing::Every(100), ..Default::default() };
//! let constant = learn(&mut net.clone(), &data, &data, &stream, &mut Constant(0.05))?;
//! let mut regulator = HomeostaticRegulator::new(0.05, Effect::of(0.05), Simulation::default())?;
//! let homeostatic = learn(&mut net.clone(), &data, &data, &stream, &mut regulator)?;
//! assert!(constant.eta.iter().all(|eta| *eta == 0.05));
//! assert_eq!(homeostatic.swaps, constant.swaps);
//! # Ok::<(), autodidact_core::Error>(())
//! ```

mod mlp;
mod regulator;
mod shift;
mod stream;

pub use mlp::{Mlp, Update, Updater, Workspace};
pub use regulator::{
    Constant, Decision, Effect, HomeostaticRegulator, Opportunity, Policy, RandomRegulator, Regulator, SimGradient,
    Simulation,
};
pub use shift::{ConceptShift, Spacing};
pub use stream::{Samples, Stream, Trace, learn};
