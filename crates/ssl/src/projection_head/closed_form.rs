//! Where gradient flow on the population's spectral contrastive loss ends.

use super::FeatureTask;
use autodidact_core::error::{check_matrix, check_range};
use autodidact_core::{Error, Result};
use tch::{Kind, Tensor};

/// Weights of the features above the head: `(1 - alpha_i) / phi_i`, if the network is at least as wide as there are features.
pub fn post(task: &FeatureTask) -> Vec<f64> {
    task.phi.iter().zip(&task.alpha).map(|(phi, alpha)| (1.0 - alpha) / phi).collect()
}

/// Weights below the head of two linear layers trained from balanced initialisation: the square roots of [`post`].
pub fn pre(task: &FeatureTask) -> Vec<f64> {
    layer(task, 1, 2)
}

/// Weights after layer `layer` of `depth` balanced linear layers: `post^(layer / depth)`; 0 layers weight all features by 1.
pub fn layer(task: &FeatureTask, layer: usize, depth: usize) -> Vec<f64> {
    post(task).into_iter().map(|w| w.powf(layer as f64 / depth as f64)).collect()
}

/// The least loss: `-sum_i (1 - alpha_i)^4`.
pub fn minimum_loss(task: &FeatureTask) -> f64 {
    -task.alpha.iter().map(|alpha| (1.0 - alpha).powi(4)).sum::<f64>()
}

/// The minimiser `A* = W^T W` of the loss over linear maps to `p` dimensions, for any covariances (`[d, d]`, f64):
/// `S^(-1/2) [S^(-1/2) C S^(-1/2)]_+ S^(-1/2)`, the positive part of the `p` largest eigenvalues.
///
/// # Errors
/// Matrices that are not square or differ in size, a `sigma` that is not positive definite, `p` below 1.
pub fn minimiser(sigma: &Tensor, c: &Tensor, p: i64) -> Result<Tensor> {
    let (d, columns) = check_matrix("sigma", sigma)?;
    if d != columns {
        return Err(Error::shape("sigma", "[d, d]", sigma));
    }
    if c.size() != [d, d] {
        return Err(Error::shape("c", format!("[{d}, {d}], the shape of sigma"), c));
    }
    check_range("p", p as f64, 1.0..)?;
    let (values, vectors) = sigma.f_linalg_eigh("L")?;
    if values.min().double_value(&[]).is_nan() || values.min().double_value(&[]) <= 0.0 {
        return Err(Error::value("sigma", "a positive definite matrix", values.min().double_value(&[])));
    }
    let root = (&vectors * values.rsqrt()).matmul(&vectors.tr());
    let (values, vectors) = root.matmul(c).matmul(&root).f_linalg_eigh("L")?;
    // Ascending: the largest are last.
    let kept = p.min(d);
    let (values, vectors) = (values.narrow(0, d - kept, kept).clamp_min(0.0), vectors.narrow(1, d - kept, kept));
    Ok(root.matmul(&(&vectors * values).matmul(&vectors.tr())).matmul(&root))
}

/// Least loss of covariances, `-2 tr(A C) + tr(A S A S)` at `a`.
///
/// # Errors
/// Matrices that cannot be multiplied.
pub fn loss(a: &Tensor, sigma: &Tensor, c: &Tensor) -> Result<f64> {
    let (ac, s) = (a.f_matmul(c)?, a.f_matmul(sigma)?);
    Ok((s.matmul(&s).trace() - ac.trace() * 2.0).to_kind(Kind::Double).double_value(&[]))
}

/// Limit `(u, z)` of a unit of [`DiagonalNet`](super::DiagonalNet) that is active and positive: `z = 1 - alpha`, and with
/// `m = b2 + 1 - alpha` and the conserved `k = phi^2 w2^2 - u^2`, `u^2 = (-k + sqrt(k^2 + 4 phi^2 m^2)) / 2`; for `k = 0`
/// that is `phi m`.
pub fn diag_fixed_point(phi: f64, alpha: f64, k: f64, b2: f64) -> (f64, f64) {
    let m = b2 + 1.0 - alpha;
    (((k.hypot(2.0 * phi * m) - k) / 2.0).sqrt(), 1.0 - alpha)
}
