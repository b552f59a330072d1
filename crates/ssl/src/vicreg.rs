//! VICReg: variance-invariance-covariance regularisation (Bardes, Ponce and LeCun, 2022; arXiv 2105.04906).
//!
//! Two embeddings of an image are drawn together; a hinge keeps every unit's standard deviation over the batch above 1, and
//! the covariances of different units are pushed to 0:
//!
//! `L = lambda MSE(za, zb) + mu [v(za) + v(zb)]/2 + nu [c(za) + c(zb)]` with
//! `v(z) = mean_j max(0, 1 - sqrt(Var_j + 1e-4))`, `c(z) = 1/D sum_{i != j} Cov_ij^2` (variances and covariances over the
//! batch, denominator `N - 1`).
//!
//! ```
//! use autodidact_ssl::vicreg::Vicreg;
//! use tch::Tensor;
//! // Two units of variance 4/3 with covariance 4/3; the views differ by 1 in one entry of eight.
//! let za = Tensor::from_slice2(&[[1f32, 1.], [1., 1.], [-1., -1.], [-1., -1.]]);
//! let zb = Tensor::from_slice2(&[[1f32, 1.], [1., 1.], [-1., -1.], [-1., 0.]]);
//! let out = Vicreg::default().forward(&za, &zb).unwrap();
//! assert!((out.invariance.double_value(&[]) - 1.0 / 8.0).abs() < 1e-6);
//! // c(za) = 2 (4/3)^2 / 2, c(zb) = 2 1^2 / 2.
//! assert!((out.covariance.double_value(&[]) - (16.0 / 9.0 + 1.0)).abs() < 1e-6);
//! ```

use crate::barlow_twins::{diagonal, off_diagonal_squares};
use crate::{check_pair, in_full_precision};
use autodidact_core::Result;
use autodidact_core::error::check_range;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// Weights of the terms; the default is the paper's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Vicreg {
    /// `lambda`, of the invariance term: 25.
    pub invariance: f64,
    /// `mu`, of the variance term: 25.
    pub variance: f64,
    /// `nu`, of the covariance term: 1.
    pub covariance: f64,
    /// Added to the variances: 1e-4.
    pub eps: f64,
}

impl Default for Vicreg {
    fn default() -> Self {
        Self { invariance: 25.0, variance: 25.0, covariance: 1.0, eps: 1e-4 }
    }
}

/// The loss and its unweighted terms: differentiable scalars, in f32 (f64 for embeddings in f64).
#[derive(Debug)]
pub struct VicregOutput {
    /// What is minimised.
    pub total: Tensor,
    /// `MSE(za, zb)`, over all entries.
    pub invariance: Tensor,
    /// `[v(za) + v(zb)]/2`.
    pub variance: Tensor,
    /// `c(za) + c(zb)`.
    pub covariance: Tensor,
}

impl Vicreg {
    /// The loss of two batches of embeddings `[N, D]`; gradients flow to both.
    ///
    /// # Errors
    /// Shapes that differ, fewer than two rows, a weight or `eps` below 0.
    pub fn forward(&self, za: &Tensor, zb: &Tensor) -> Result<VicregOutput> {
        let (n, d) = check_pair(za, zb)?;
        for (name, value) in [
            ("invariance", self.invariance),
            ("variance", self.variance),
            ("covariance", self.covariance),
            ("eps", self.eps),
        ] {
            check_range(name, value, 0.0..)?;
        }
        in_full_precision([za, zb], |views| {
            let invariance = (&views[0] - &views[1]).square().mean(views[0].kind());
            let [(va, ca), (vb, cb)] = views.map(|z| {
                let z = &z - z.mean_dim([0i64].as_slice(), true, z.kind());
                let scaled = &z / (n - 1) as f64;
                let variances = diagonal(&z, &scaled);
                let hinge = ((&variances + self.eps).sqrt().neg() + 1.0).relu().mean(z.kind());
                (hinge, off_diagonal_squares(&z, &scaled, || variances) / d as f64)
            });
            let (variance, covariance) = ((va + vb) * 0.5, ca + cb);
            let total = &invariance * self.invariance + &variance * self.variance + &covariance * self.covariance;
            Ok(VicregOutput { total, invariance, variance, covariance })
        })
    }
}
