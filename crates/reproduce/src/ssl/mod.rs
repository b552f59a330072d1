//! Experiments of `autodidact-ssl`.

mod barlow_twins;
mod mixed_barlow_twins;

pub use barlow_twins::BarlowTwins;
pub use mixed_barlow_twins::MixedBarlowTwins;
