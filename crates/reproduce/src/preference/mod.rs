//! Experiments of `autodidact-preference`.

mod cream;
mod garland;
mod language;
mod rpo;
mod srpo;

pub use cream::Cream;
pub use rpo::RpoExperiment;
pub use srpo::SrpoExperiment;
