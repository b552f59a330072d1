//! The regression losses of siamese networks without negatives: SimSiam (Chen and He, 2021; arXiv 2011.10566) and BYOL (Grill
//! et al., 2020; arXiv 2006.07733).
//!
//! A predictor's output for one view is drawn to the other view's projection, through which no gradient flows.
//!
//! ```
//! use autodidact_ssl::siamese::{byol, simsiam};
//! use tch::Tensor;
//! let p = Tensor::from_slice2(&[[1f32, 0.], [0., 2.]]);
//! let z = Tensor::from_slice2(&[[3f32, 0.], [1., 0.]]);
//! // Cosines 1 and 0.
//! assert_eq!(simsiam(&p, &z).unwrap().double_value(&[]), -0.5);
//! assert_eq!(byol(&p, &z).unwrap().double_value(&[]), 1.0);
//! ```

use crate::check_pair;
use autodidact_core::Result;
use tch::{Kind, Tensor};

/// Negative mean cosine similarity of predictions and projections `[N, D]`; `z` is detached. SimSiam averages it over the two
/// orders of the views.
///
/// # Errors
/// Shapes that differ, or fewer than two rows.
pub fn simsiam(p: &Tensor, z: &Tensor) -> Result<Tensor> {
    check_pair(p, z)?;
    let (p, z) = (p.to_kind(Kind::Float), z.detach().to_kind(Kind::Float));
    Ok(-Tensor::cosine_similarity(&p, &z, 1, 1e-8).mean(Kind::Float))
}

/// Mean squared distance of normalised predictions and target projections `[N, D]`, `2 - 2 cos`; `z` is detached. BYOL sums
/// it over the two orders of the views, with `z` from a moving-average network.
///
/// # Errors
/// Shapes that differ, or fewer than two rows.
pub fn byol(p: &Tensor, z: &Tensor) -> Result<Tensor> {
    Ok(simsiam(p, z)? * 2.0 + 2.0)
}
