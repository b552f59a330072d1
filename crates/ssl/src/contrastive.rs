//! Contrastive losses: SimCLR's NT-Xent (Chen, Kornblith, Norouzi and Hinton, 2020; arXiv 2002.05709), InfoNCE (van den Oord,
//! Li and Vinyals, 2018; arXiv 1807.03748) and SupCon, the supervised contrastive loss (Khosla et al., 2020; arXiv 2004.11362).
//!
//! For `2N` rows (two views each), `L = mean_i -log( exp(s_i,pos(i)/tau) / sum_{k != i} exp(s_ik/tau) )` with cosine
//! similarities `s`.
//!
//! ```
//! use autodidact_ssl::contrastive::nt_xent;
//! use tch::Tensor;
//! // Orthogonal pairs of identical views: each row has its positive at similarity 1 and two negatives at 0.
//! let z = Tensor::from_slice2(&[[1f32, 0.], [0., 3.]]);
//! let loss = nt_xent(&z, &z, 1.0).unwrap().double_value(&[]);
//! assert!((loss - (1.0 + 2.0 * (-1f64).exp()).ln()).abs() < 1e-6);
//! ```

use crate::{check_pair, in_full_precision, unit};
use autodidact_core::error::{check_labels, check_matrix, check_range};
use autodidact_core::{Error, Result};
use tch::{Kind, Reduction, Tensor};

/// NT-Xent of two views `[N, D]`, temperature `tau` (SimCLR: 0.5 for CIFAR, 0.1 for ImageNet): a scalar, the mean over the
/// `2N` rows, gradients to both views.
///
/// # Errors
/// Shapes that differ, fewer than two rows, a temperature not above 0.
pub fn nt_xent(za: &Tensor, zb: &Tensor, tau: f64) -> Result<Tensor> {
    let (n, _) = check_pair(za, zb)?;
    check_range("tau", tau, f64::MIN_POSITIVE..)?;
    in_full_precision([za, zb], |views| {
        let z = unit(&Tensor::cat(&views, 0));
        let own = Tensor::eye(2 * n, (Kind::Bool, z.device()));
        let logits = (z.matmul(&z.tr()) / tau).masked_fill(&own, f64::NEG_INFINITY);
        let positive = Tensor::arange(2 * n, (Kind::Int64, z.device())).roll([n].as_slice(), [0i64].as_slice());
        Ok(logits.cross_entropy_loss::<Tensor>(&positive, None, Reduction::Mean, -100, 0.0))
    })
}

/// InfoNCE of queries and keys `[N, D]` with the other keys of the batch as negatives: a scalar, the mean over queries.
/// Gradients go to both; detach the keys where a method wants that.
///
/// # Errors
/// Shapes that differ, fewer than two rows, a temperature not above 0.
pub fn info_nce(queries: &Tensor, keys: &Tensor, tau: f64) -> Result<Tensor> {
    let (n, _) = check_pair(queries, keys)?;
    check_range("tau", tau, f64::MIN_POSITIVE..)?;
    in_full_precision([queries, keys], |[queries, keys]| {
        let logits = unit(&queries).matmul(&unit(&keys).tr()) / tau;
        let positive = Tensor::arange(n, (Kind::Int64, logits.device()));
        Ok(logits.cross_entropy_loss::<Tensor>(&positive, None, Reduction::Mean, -100, 0.0))
    })
}

/// SupCon of embeddings `[N, D]` (several views of an image are rows of their own, one after the other or not) and labels `[N]`:
/// the mean over rows of `-mean_p log( exp(s_ip/tau) / sum_{k != i} exp(s_ik/tau) )`, `p` over the other rows of row `i`'s
/// label. Rows that are alone with their label are negatives for the others and have no term; if all are, the loss is 0.
/// A scalar. With two views and a label for each image it is [`nt_xent`]. (Khosla et al.: tau 0.1.)
///
/// ```
/// use autodidact_ssl::contrastive::supcon;
/// use tch::Tensor;
/// // Two rows of class 0 in one direction, one row of class 1 orthogonal to it.
/// let z = Tensor::from_slice2(&[[1f32, 0.], [2., 0.], [0., 1.]]);
/// let loss = supcon(&z, &Tensor::from_slice(&[0i64, 0, 1]), 1.0).unwrap().double_value(&[]);
/// assert!((loss - (1.0 + (-1f64).exp()).ln()).abs() < 1e-6);
/// ```
///
/// # Errors
/// Shapes that do not match, fewer than two rows, labels that are not Int64, a temperature not above 0.
pub fn supcon(z: &Tensor, labels: &Tensor, tau: f64) -> Result<Tensor> {
    let (n, _) = check_matrix("z", z)?;
    check_labels("labels", labels, n)?;
    if n < 2 {
        return Err(Error::shape("z", "two or more rows", z));
    }
    check_range("tau", tau, f64::MIN_POSITIVE..)?;
    in_full_precision([z], |[z]| {
        let z = unit(&z) / tau.sqrt();
        let own = Tensor::eye(n, (Kind::Bool, z.device()));
        // Finite: minus infinity times a weight of 0 would not be 0.
        let logits = z.matmul(&z.tr()).masked_fill(&own, -1e30);
        let same =
            labels.unsqueeze(0).eq_tensor(&labels.unsqueeze(1)).logical_and(&own.logical_not()).to_kind(z.kind());
        let positives = same.sum_dim_intlist([1i64].as_slice(), false, z.kind());
        // A row's weights sum to one over the number of rows with a positive; to 0 where it has none.
        let rows = positives.clamp_max(1.0).sum(z.kind()).clamp_min(1.0);
        let weights = same / (positives.clamp_min(1.0) * rows).unsqueeze(1);
        Ok(-(weights * logits.log_softmax(1, z.kind())).sum(z.kind()))
    })
}
