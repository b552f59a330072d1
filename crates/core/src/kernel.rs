//! Kernel ridge regression in closed form, f64 throughout.
//!
//! `f(x) = k(x, X) (K + lambda I)^-1 y`, one Cholesky factorisation for any number of targets; `lambda` multiplies the squared
//! norm of the function without a factor `1/n`, as in scikit-learn's `KernelRidge(alpha=lambda)`.
//!
//! ```
//! use autodidact_core::kernel::{Kernel, KernelRidge};
//! use tch::{Device, Kind, Tensor};
//!
//! let x = Tensor::linspace(0.0, 1.0, 11, (Kind::Double, Device::Cpu)).view([11, 1]);
//! let y = (&x * 6.0).sin();
//! let model = KernelRidge { kernel: Kernel::Rbf { gamma: 10.0 }, lambda: 1e-6 }.fit(&x, &y)?;
//! assert!((model.predict(&x)? - y).abs().max().double_value(&[]) < 1e-2);
//! # Ok::<(), autodidact_core::Error>(())
//! ```

use crate::error::{check_matrix, check_range};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// Positive semi-definite kernels.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Kernel {
    /// `exp(-gamma |x - x'|^2)`.
    Rbf {
        /// Inverse squared width, above 0.
        gamma: f64,
    },
    /// `<x, x'>`.
    Linear,
    /// `exp(-gamma |x - x'|_1)`.
    Laplacian {
        /// Inverse width, above 0.
        gamma: f64,
    },
    /// Arc-cosine kernel of degree 1 (Cho and Saul, 2009), that of an infinitely wide ReLU layer:
    /// `|x| |x'| (sin t + (pi - t) cos t) / pi` at angle `t`.
    ArcCosine,
    /// Inputs are rows of the kernel matrix already: `[m, n]`, against the `n` training inputs.
    Precomputed,
}

impl Kernel {
    /// Kernel matrix `[m, n]` (f64) of `a [m, d]` and `b [n, d]`.
    ///
    /// # Errors
    /// Matrices of different widths, a width parameter not above 0.
    pub fn matrix(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        let (_, da) = check_matrix("a", a)?;
        let (n, db) = check_matrix("b", b)?;
        let (a, b) = (a.to_kind(Kind::Double), b.to_kind(Kind::Double));
        if *self == Kernel::Precomputed {
            return if da == n { Ok(a) } else { Err(Error::shape("kernel rows", format!("[m, {n}]"), &a)) };
        }
        if da != db {
            return Err(Error::shape("a", format!("[m, {db}], the width of b"), &a));
        }
        Ok(match *self {
            Kernel::Linear => a.matmul(&b.tr()),
            Kernel::Rbf { gamma } => {
                check_range("gamma", gamma, f64::MIN_POSITIVE..)?;
                (Tensor::f_cdist(&a, &b, 2.0, 2)?.square() * -gamma).exp()
            }
            Kernel::Laplacian { gamma } => {
                check_range("gamma", gamma, f64::MIN_POSITIVE..)?;
                (Tensor::f_cdist(&a, &b, 1.0, None)? * -gamma).exp()
            }
            Kernel::ArcCosine => {
                let norm = |x: &Tensor| x.norm_scalaropt_dim(2.0, [1i64].as_slice(), true);
                let lengths = norm(&a).matmul(&norm(&b).tr());
                let cos = (a.matmul(&b.tr()) / lengths.clamp_min(f64::MIN_POSITIVE)).clamp(-1.0, 1.0);
                let angle = cos.acos();
                let pi = std::f64::consts::PI;
                lengths * (angle.sin() + (-angle + pi) * cos) / pi
            }
            Kernel::Precomputed => unreachable!("handled above"),
        })
    }
}

/// Kernel ridge regression.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct KernelRidge {
    /// Kernel.
    pub kernel: Kernel,
    /// Penalty `lambda`, above 0.
    pub lambda: f64,
}

/// A fitted function.
#[derive(Debug)]
pub struct KrrModel {
    /// Kernel.
    pub kernel: Kernel,
    /// Training inputs `[n, d]` (f64).
    pub x: Tensor,
    /// Coefficients `[n, C]` (f64).
    pub beta: Tensor,
}

impl KrrModel {
    /// Predictions `[m, C]` (f64) at `x [m, d]`.
    ///
    /// # Errors
    /// Inputs of another width.
    pub fn predict(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.kernel.matrix(x, &self.x)?.matmul(&self.beta))
    }
}

impl KernelRidge {
    /// Fits `y [n, C]` at `x [n, d]`.
    ///
    /// # Errors
    /// Different numbers of rows, `lambda` not above 0, values that are not finite.
    pub fn fit(&self, x: &Tensor, y: &Tensor) -> Result<KrrModel> {
        let system = KernelSystem::new(self, x, y)?;
        Ok(KrrModel { kernel: self.kernel, beta: system.solve(&system.y), x: system.x })
    }
}

/// The factorised linear system `(K + lambda I) beta = y`, for any number of right-hand sides.
#[derive(Debug)]
pub struct KernelSystem {
    /// Training inputs `[n, d]` (f64).
    pub x: Tensor,
    /// Targets `[n, C]` (f64).
    pub y: Tensor,
    /// Kernel matrix `K [n, n]`, without the penalty.
    pub gram: Tensor,
    factor: Tensor,
}

impl KernelSystem {
    /// Factorises the system of a regression of `y [n, C]` on `x [n, d]`.
    ///
    /// # Errors
    /// As [`KernelRidge::fit`].
    pub fn new(krr: &KernelRidge, x: &Tensor, y: &Tensor) -> Result<Self> {
        check_range("lambda", krr.lambda, f64::MIN_POSITIVE..)?;
        let (n, _) = check_matrix("x", x)?;
        let (rows, _) = check_matrix("y", y)?;
        if rows != n {
            return Err(Error::shape("y", format!("[{n}, C]"), y));
        }
        let (x, y) = (x.to_kind(Kind::Double), y.to_kind(Kind::Double));
        if !bool::try_from(x.isfinite().all().logical_and(&y.isfinite().all()))? {
            return Err(Error::value("x and y", "finite values", "NaN or infinity"));
        }
        let gram = krr.kernel.matrix(&x, &x)?;
        let regularised = &gram + Tensor::eye(n, (Kind::Double, x.device())) * krr.lambda;
        let factor = regularised
            .f_linalg_cholesky(false)
            .map_err(|_| Error::value("kernel matrix", "positive semi-definite (or a larger lambda)", "indefinite"))?;
        Ok(Self { x, y, gram, factor })
    }

    /// `(K + lambda I)^-1 targets`, `[n, m]` for targets `[n, m]` (f64).
    pub fn solve(&self, targets: &Tensor) -> Tensor {
        targets.cholesky_solve(&self.factor, false)
    }
}
