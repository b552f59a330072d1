//! Neural collapse (Papyan, Han and Donoho, 2020; arXiv 2008.08186): how far features and classifier are from a simplex.

use super::sum;
use autodidact_core::error::{check_class_indices, check_matrix};
use autodidact_core::{Error, Result};
use tch::{Kind, Tensor};

/// Distances from neural collapse, all 0 when it is complete.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NeuralCollapse {
    /// NC1: `tr(S_W pinv(S_B)) / C` of the covariances within and between classes.
    pub within: f64,
    /// NC2: standard deviation over mean, of the norms of the centred class means.
    pub equinorm: f64,
    /// NC2: mean of `|cos + 1/(C - 1)|` over pairs of centred class means.
    pub equiangular: f64,
    /// NC3: `||W/||W|| - M/||M|| ||^2` of the classifier and the centred class means, in Frobenius norms.
    pub self_duality: f64,
}

/// Of features `[N, D]`, labels `[N]` and a classifier's weights `[K, D]`, in 64 bits. The `C` classes that occur among the labels count.
///
/// # Errors
/// Shapes that do not fit, labels outside `0..K`, fewer than two classes.
pub fn neural_collapse(features: &Tensor, labels: &Tensor, weights: &Tensor) -> Result<NeuralCollapse> {
    let ((n, d), (k, width)) = (check_matrix("features", features)?, check_matrix("weights", weights)?);
    if width != d {
        return Err(Error::shape("weights", format!("[K, {d}], the width of the features"), weights));
    }
    check_class_indices("labels", labels, n, k)?;
    let (h, w) = (features.detach().to_kind(Kind::Double), weights.detach().to_kind(Kind::Double));
    let (present, class, count) = labels.unique_dim(0, true, true, true);
    let c = present.size()[0];
    if c < 2 {
        return Err(Error::value("classes among the labels", "at least 2", c));
    }
    let means = h.new_zeros([c, d], (Kind::Double, h.device())).index_add(0, &class, &h)
        / count.to_kind(Kind::Double).unsqueeze(1);
    let within = &h - means.index_select(0, &class);
    let within = within.tr().matmul(&within) / n as f64;
    // Means of the class means, so that every class counts alike.
    let centred = &means - means.mean_dim([0i64].as_slice(), true, Kind::Double);
    let between = centred.tr().matmul(&centred) / c as f64;
    let norms = centred.norm_scalaropt_dim(2, [1i64], true);
    let unit = &centred / &norms;
    let cosines = (unit.matmul(&unit.tr()) + 1.0 / (c - 1) as f64).abs();
    let pairs = (c * (c - 1)) as f64;
    let w = w.index_select(0, &present);
    let apart = &w / w.norm() - &centred / centred.norm();
    let value = |x: Tensor| x.double_value(&[]);
    Ok(NeuralCollapse {
        within: value(within.matmul(&between.linalg_pinv(1e-12, true)).trace()) / c as f64,
        equinorm: value(norms.std(false)) / value(norms.mean(Kind::Double)),
        equiangular: value(sum(&cosines) - cosines.trace()) / pairs,
        self_duality: value(sum(&(&apart * &apart))),
    })
}
