//! Data.
pub mod augment;
pub mod batch;
mod files;
pub mod image;
