//! Experiments of `autodidact-ssl`.

mod barlow_twins;
mod generative_classifiers;
mod isogclr;
mod label_augmentation;
mod mixed_barlow_twins;
mod multi_head_contrastive;
mod projection_head;
mod rankme;
mod scatsimclr;

pub use barlow_twins::BarlowTwins;
pub use generative_classifiers::GenerativeClassifiers;
pub use isogclr::Isogclr;
pub use label_augmentation::LabelAugmentation;
pub use mixed_barlow_twins::MixedBarlowTwins;
pub use multi_head_contrastive::MultiHeadContrastive;
pub use projection_head::ProjectionHeads;
pub use rankme::RankMe;
pub use scatsimclr::ScatSimClr;
