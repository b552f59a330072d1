//! Experiments of `autodidact-ssl`.

mod barlow_twins;

pub use barlow_twins::BarlowTwins;
