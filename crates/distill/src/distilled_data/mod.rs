//! What the methods of dataset distillation share: a network as a function of its parameters, differentiable augmentation,
//! the unrolled inner loop, the choice of real images, and the matching losses that new methods are compared with.

mod augment;
mod convnet;
mod matching;
mod recipe;
mod select;
mod unroll;

pub use augment::{DiffAugment, Drawn, Policy};
pub use autodidact_core::cluster::kmeans;
pub use convnet::{FlatConvNet, FlatConvNetConfig, Layer};
pub use matching::{distribution_matching_loss, gradient_distance, gradient_matching_loss};
pub(crate) use recipe::cross_entropy;
pub use recipe::{GradientPenalty, PenaltyNorm, Ramp, Recipe, gradient_penalty};
pub(crate) use select::Shuffled;
pub use select::{nearest, random_per_class, representative};
pub use unroll::{InnerLoop, unroll};
