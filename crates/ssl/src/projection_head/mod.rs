//! Projection heads (Xue, Gan, Ni, Joshi and Mirzasoleiman, 2024; arXiv 2403.11391): why the layer below the loss makes the
//! better representation.
//!
//! A loss fixes how strongly each feature of the input is weighted in the last layer; the implicit bias of gradient descent
//! makes every layer below weight the features more equally, so that what the augmentation disrupts, or what was too strong or
//! too weak in pre-training, survives there. A head without parameters that multiplies coordinate `i` by `kappa^-(i-1)`
//! imitates the effect.
//!
//! In the linear model `f(x) = W_D ... W_1 x` with the spectral contrastive loss
//! `L = -2 E[f(x).f(x+)] + E[(f(x).f(x-))^2]` on features `i` of magnitude `phi_i` that the augmentation keeps with probability
//! `1 - alpha_i`, the network from balanced initialisation weights feature `i` by `((1 - alpha_i) / phi_i)^(l/D)` after layer
//! `l`. A downstream task of feature `k` with magnitudes `phi'` is the harder the larger
//! `sum_i (w_i phi'_i)^2 / (w_k phi'_k)^2`.
//!
//! ```
//! use autodidact_ssl::projection_head::{FeatureTask, closed_form, difficulty};
//!
//! // The augmentation redraws the first feature nine times in ten and never the second.
//! let task = FeatureTask::new(vec![1.0, 1.0], vec![0.9, 0.0], vec![1.0, 1.0]).unwrap();
//! let (post, pre) = (closed_form::post(&task), closed_form::pre(&task));
//! assert!((post[0] - 0.1).abs() < 1e-12 && (pre[0] - 0.1f64.sqrt()).abs() < 1e-12);
//! // The first feature is hidden behind the second: (0.01 + 1) / 0.01 above the head, (0.1 + 1) / 0.1 below.
//! assert!((difficulty(&post, &task.phi_down, 0).unwrap() - 101.0).abs() < 1e-9);
//! assert!((difficulty(&pre, &task.phi_down, 0).unwrap() - 11.0).abs() < 1e-9);
//! ```
//!
//! - [`ProjectionHead`]: [`NoHead`], [`FixedReweightHead`], [`MlpHead`], [`SymmetricRelu`];
//! - [`spectral_contrastive_loss`] here, NT-Xent and SupCon in [`contrastive`](crate::contrastive);
//! - [`FeatureTask`], [`LinearContrastiveNet`], [`DiagonalNet`] and [`closed_form`]: the models of the analysis;
//! - [`worst_group_accuracy`], [`last_layer_retrain`]: how representations are judged under spurious correlation.

pub mod closed_form;
mod diagonal;
mod groups;
mod heads;
mod linear;
mod task;

pub use diagonal::DiagonalNet;
pub use groups::{LastLayer, last_layer_retrain, worst_group_accuracy};
pub use heads::{FixedReweightHead, MlpHead, MlpHeadConfig, NoHead, ProjectionHead, SymmetricRelu, Taps};
pub use linear::{LinearContrastiveNet, balancedness};
pub use task::{FeatureTask, difficulty};

use crate::{check_pair, in_full_precision};
use autodidact_core::Result;
use tch::Tensor;

/// Spectral contrastive loss (HaoChen, Wei, Gaidon and Ma, 2021; arXiv 2106.04156) of two views `[N, D]`, not normalised:
/// `-2 mean_i z1_i.z2_i + mean_{i != j} (z1_i.z2_j)^2`, a scalar with gradients to both views. Work is `O(N D min(N, D))`.
///
/// ```
/// use autodidact_ssl::projection_head::spectral_contrastive_loss;
/// use tch::Tensor;
/// let za = Tensor::from_slice2(&[[1f32, 0.], [1., 1.]]);
/// let zb = Tensor::from_slice2(&[[2f32, 0.], [0., 3.]]);
/// // Positives 2 and 3; negatives z1_1.z2_2 = 0 and z1_2.z2_1 = 2.
/// assert_eq!(spectral_contrastive_loss(&za, &zb).unwrap().double_value(&[]), -5.0 + 2.0);
/// ```
///
/// # Errors
/// Shapes that differ, or fewer than two rows.
pub fn spectral_contrastive_loss(za: &Tensor, zb: &Tensor) -> Result<Tensor> {
    let (n, d) = check_pair(za, zb)?;
    in_full_precision([za, zb], |[a, b]| {
        // |a b^T|^2 = <a^T a, b^T b>: the smaller matrices cost less. (Twice, as autograd multiplies twice for each of them.)
        let (positive, all) = if 2 * d < n {
            let positive = (&a * &b).sum_dim_intlist([1i64].as_slice(), false, a.kind());
            (positive, a.tr().matmul(&a) * b.tr().matmul(&b))
        } else {
            let inner = a.matmul(&b.tr());
            (inner.diagonal(0, 0, 1), inner.square())
        };
        let negative = (all.sum(a.kind()) - positive.square().sum(a.kind())) / (n * (n - 1)) as f64;
        Ok(negative - positive.mean(a.kind()) * 2.0)
    })
}
