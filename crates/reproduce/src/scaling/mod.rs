//! Experiments of `autodidact-scaling`.

mod inductive_bias;
mod lr_annealing_law;

pub use inductive_bias::InductiveBias;
pub use lr_annealing_law::LrAnnealingLaw;
