//! Data for autodidact: loaders of published formats, generators, augmentations, batches.
//!
//! - [`load_images`], [`load_text`], [`load_parallel`] and [`load_interactions`] load a data set by name, [`fetch`] downloads published ones;
//! - [`image`]: labelled images and their formats (CIFAR, IDX, folders), the shipped digits, procedural shapes;
//! - [`augment`]: batched augmentations, every image with its own parameters;
//! - [`batch`]: shuffled epochs as a function of the step, and batches built ahead of the training thread;
//! - [`interactions`]: who took what, in which order;
//! - [`preferences`]: pairs of responses, for language models;
//! - [`text`], [`tabular`], [`audio`], [`array`](mod@array): other formats;
//! - [`synthetic`]: a language of known entropy, arithmetic that can be checked, a shop with a known Markov chain.
//!
//! Errors of loaders name the file, what was expected there and what was found.
//!
//! ```
//! use autodidact_core::seed::rng;
//! use autodidact_datasets::{augment::barlow_twins_small_digits, batch::{Batches, Prefetch}, load_images};
//!
//! let (train, test) = load_images("digits", None, false)?;
//! assert_eq!((train.len(), test.len()), (1000, 797));
//!
//! // Two views of every batch, prepared on another thread; step 7 is always the same.
//! let batches = Batches::new(train, 128, 0)?;
//! let views = Prefetch::new(7..10, 2, move |step| {
//!     let images = batches.get(step)?.images;
//!     let mut rng = rng(0, &["views", &step.to_string()]);
//!     let augment = barlow_twins_small_digits();
//!     Ok((augment.apply(&images, &mut rng)?, augment.apply(&images, &mut rng)?))
//! });
//! for views in views {
//!     let (a, b) = views?;
//!     assert_eq!((a.size(), b.size()), (vec![128, 1, 8, 8], vec![128, 1, 8, 8]));
//! }
//! # Ok::<(), autodidact_core::Error>(())
//! ```

pub mod array;
pub mod audio;
pub mod augment;
pub mod batch;
pub mod fetch;
mod files;
pub mod image;
pub mod interactions;
mod names;
pub mod preferences;
pub mod questions;
pub mod synthetic;
pub mod tabular;
pub mod text;

pub use names::{
    IMAGE_SETS, INTERACTION_SETS, PARALLEL_TEXTS, TEXTS, default_data_dir, find, fingerprint, load_images,
    load_interactions, load_parallel, load_text,
};

/// What the README shows compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
