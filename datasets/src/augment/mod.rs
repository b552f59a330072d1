//! Batched image augmentations, each image with its own parameters.
//!
//! An [`Op`] is one operation with the parameters of every image of a batch; [`run`] applies a list of them. A
//! [`Transform`] draws the parameters of an `Op` from a generator, and a [`Pipeline`] is a list of transforms: the same
//! generator state gives the same output. The [`recipes`](SimClr) build the pipelines of published methods.
//!
//! Images are `[N, C, H, W]`, either `Float` in `[0, 1]` or `Uint8` (then scaled by 1/255); the result is `Float`. On
//! the CPU each image goes through the whole list while it is in the cache, images in parallel; on other devices each
//! operation is a few tensor operations over the batch. Both give the same values up to rounding, and neither records
//! gradients.
//!
//! ```
//! use autodidact_core::seed::rng;
//! use autodidact_datasets::{augment::SimClr, image::shapes};
//!
//! let images = shapes(0, 0..16).images;
//! let views = SimClr::small(32).pipeline();
//! let a = views.apply(&images, &mut rng(0, &["view", "a"]))?;
//! assert_eq!(a.size(), [16, 3, 32, 32]);
//! assert_eq!(a, views.apply(&images, &mut rng(0, &["view", "a"]))?);
//! # Ok::<(), autodidact_core::Error>(())
//! ```

mod color;
mod cpu;
mod ops;
mod random;
mod recipes;
mod tensor;
#[cfg(test)]
mod tests;

pub use ops::{Affine, Filter, Op, PerImage, Point, Rect, run};
pub use random::{ColorJitter, Pipeline, RandomAffine, RandomResizedCrop, Transform};
pub use recipes::{
    BarlowTwins, IMAGENET_MEAN, IMAGENET_STD, SimClr, barlow_twins_small_color, barlow_twins_small_digits,
};
