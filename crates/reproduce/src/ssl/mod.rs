//! Experiments of `autodidact-ssl`.

mod barlow_twins;
mod isogclr;
mod pretrain;
mod rankme;

pub use barlow_twins::BarlowTwins;
pub use isogclr::Isogclr;
pub use rankme::RankMe;
