//! Experiments of `autodidact-ssl`.

mod barlow_twins;
mod pretrain;
mod rankme;

pub use barlow_twins::BarlowTwins;
pub use rankme::RankMe;
