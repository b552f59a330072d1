//! Experiments of `autodidact-preference`.

mod cream;
mod garland;
mod language;
mod rpo;

pub use cream::Cream;
pub use rpo::RpoExperiment;
