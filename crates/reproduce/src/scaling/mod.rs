//! Experiments of `autodidact-scaling`.

mod lr_annealing_law;

pub use lr_annealing_law::LrAnnealingLaw;
