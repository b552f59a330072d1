//! Experiments of `autodidact-preference`.

mod garland;
mod language;
mod rpo;

pub use rpo::RpoExperiment;
