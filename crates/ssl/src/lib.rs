//! Self-supervised learning of representations: one validated method per paper.
//!
//! Every loss takes plain tensors (`[N, D]` embeddings), checks them at the door and returns differentiable scalars:
//!
//! ```
//! use autodidact_ssl::barlow_twins::BarlowTwinsLoss;
//! use tch::{Device, Kind, Tensor};
//!
//! # fn main() -> autodidact_core::Result<()> {
//! let za = Tensor::randn([256, 128], (Kind::Float, Device::Cpu)).set_requires_grad(true);
//! let zb = &za + Tensor::randn([256, 128], (Kind::Float, Device::Cpu)) * 0.1;
//! let loss = BarlowTwinsLoss::default().forward(&za, &zb)?;
//! loss.total.backward();
//! assert!(za.grad().abs().max().double_value(&[]) > 0.0);
//! # Ok(())
//! # }
//! ```

pub mod barlow_twins;
pub mod contrastive;
pub mod generative_classifiers;
pub mod isogclr;
pub mod label_augmentation;
pub mod mixed_barlow_twins;
pub mod moco;
pub mod multi_head_contrastive;
pub mod projection_head;
pub mod rankme;
pub mod scatsimclr;
pub mod scattering;
pub mod siamese;
pub mod vicreg;

/// What the README shows compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// What the project's README shows of this crate compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct ProjectReadme;

pub(crate) use autodidact_core::device::in_full_precision;
use autodidact_core::error::check_matrix;
use autodidact_core::{Error, Result};
use tch::Tensor;

/// Checks a pair of embeddings `[N, D]` of the same shape with at least two rows.
pub(crate) fn check_pair(za: &Tensor, zb: &Tensor) -> Result<(i64, i64)> {
    let (n, d) = check_matrix("za", za)?;
    check_matrix("zb", zb)?;
    if zb.size() != [n, d] {
        return Err(Error::shape("zb", format!("[{n}, {d}], the shape of za"), zb));
    }
    if n < 2 || d < 1 {
        return Err(Error::shape("za", "two or more rows and a column", za));
    }
    Ok((n, d))
}

pub use autodidact_core::nn::unit;
