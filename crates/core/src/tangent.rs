//! Empirical neural tangent kernels, and the alignment of kernels and of features (CKA).
//!
//! The tangent kernel of a network `f` at its present weights is `K(x, x') = <df(x)/dtheta, df(x')/dtheta>` (Jacot et al., 2018; arXiv
//! 1806.07572). Centred kernel alignment compares it with targets: `<K_c, y_c y_c^T> / (|K_c| |y_c y_c^T|)` (Cortes et al., 2012; arXiv
//! 1203.0550). Between two sets of features it is a similarity of representations (Kornblith et al., 2019; arXiv 1905.00414).
//!
//! ```
//! use autodidact_core::tangent::{Centring, cka, empirical_ntk};
//! use tch::Tensor;
//! // f(x) = a x with a = 3 is linear: its kernel is x x'.
//! let a = Tensor::from(3f64).set_requires_grad(true);
//! let f = &a * Tensor::from_slice(&[1f64, 2.0]);
//! let k = empirical_ntk(&f, &[a]).unwrap();
//! assert_eq!(k, Tensor::from_slice2(&[[1f64, 2.0], [2.0, 4.0]]));
//! // Aligned with targets in proportion to x.
//! let y = Tensor::from_slice(&[-0.5f64, -1.0]);
//! assert!((cka(&k, &y, Centring::None).unwrap() - 1.0).abs() < 1e-12);
//! ```

use crate::curvature::{check, flat};
use crate::error::check_matrix;
use crate::{Error, Result};
use tch::{Kind, Tensor};

/// Derivatives of each output with respect to all parameters: `[..., P]` for outputs `[...]` (with their graph, which is kept), the
/// entries of the parameters one after the other.
///
/// One backward pass per output, each through the graph of all inputs: give few inputs at a time and put the rows together. The kernel
/// between two sets of inputs is [`tangent_kernel`] of their Jacobians; outputs `[N, C]` give `[N, C, P]`, whose rows `[N C, P]` give the
/// kernel of every pair of outputs.
///
/// # Errors
/// No parameters, some without gradients or of different types; outputs that do not depend on any.
pub fn jacobian(outputs: &Tensor, params: &[Tensor]) -> Result<Tensor> {
    let size = check(params)?;
    if !outputs.requires_grad() || outputs.numel() == 0 {
        return Err(Error::value("outputs", "one or more that depend on the parameters", "none"));
    }
    let each = outputs.reshape([-1]);
    let rows = Tensor::zeros([each.size()[0], size], (params[0].kind(), params[0].device()));
    for i in 0..each.size()[0] {
        let row = flat(Tensor::f_run_backward(&[each.get(i)], params, true, false)?, params)?;
        rows.get(i).copy_(&row);
    }
    Ok(rows.view(&[&outputs.size()[..], &[size]].concat()[..]))
}

/// `K [N, M]` of two Jacobians `[N, ..., P]` and `[M, ..., P]`, summed over the outputs of an input.
///
/// # Errors
/// Jacobians of different outputs or parameters.
pub fn tangent_kernel(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (of_a, of_b) = (a.size(), b.size());
    if of_a.len() < 2 || of_b.len() < 2 || of_a[1..] != of_b[1..] {
        return Err(Error::shape("second Jacobian", format!("as of the first, {of_a:?}, but for the inputs"), b));
    }
    Ok(a.reshape([of_a[0], -1]).matmul(&b.reshape([of_b[0], -1]).tr()))
}

/// The empirical tangent kernel `[N, N]` of outputs `[N]` or `[N, C]` (summed over the `C` outputs).
///
/// # Errors
/// As [`jacobian`].
pub fn empirical_ntk(outputs: &Tensor, params: &[Tensor]) -> Result<Tensor> {
    let j = jacobian(outputs, params)?;
    tangent_kernel(&j, &j)
}

/// What is taken off a kernel before it is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Centring {
    /// Nothing, from the targets neither.
    None,
    /// The mean of each column: `H K`, `H = I - 1 1^T / N`.
    Columns,
    /// Means of columns and rows: `H K H`, the kernel of features of mean zero.
    #[default]
    Both,
}

/// Alignment of a kernel `[N, N]` with targets `[N]` or `[N, C]`: `<K_c, Y_c Y_c^T> / (|K_c| |Y_c Y_c^T|)` in Frobenius' norm; 1 where the
/// kernel is that of the targets. Targets lose their mean, except with [`Centring::None`].
///
/// # Errors
/// A kernel that is not square, targets of another number, either constant (nothing is left to compare).
pub fn cka(kernel: &Tensor, targets: &Tensor, centring: Centring) -> Result<f64> {
    let (n, m) = check_matrix("kernel", kernel)?;
    if n != m {
        return Err(Error::shape("kernel", "[N, N]", kernel));
    }
    let mut y = if targets.dim() == 1 { targets.unsqueeze(1) } else { targets.shallow_clone() };
    if y.dim() != 2 || y.size()[0] != n {
        return Err(Error::shape("targets", format!("[{n}] or [{n}, C]"), targets));
    }
    y = y.detach().to_kind(Kind::Double);
    let mut k = kernel.detach().to_kind(Kind::Double);
    if centring != Centring::None {
        y = without_mean(&y, 0);
        k = without_mean(&k, 0);
    }
    if centring == Centring::Both {
        k = without_mean(&k, 1);
    }
    let product = (y.tr().matmul(&k) * y.tr()).sum(Kind::Double).double_value(&[]);
    ratio(product, norm(&k) * norm(&y.tr().matmul(&y)))
}

/// Linear CKA of two sets of features of the same `N` inputs, `[N, D]` and `[N, E]`: `|X^T Y|^2 / (|X^T X| |Y^T Y|)` with columns of mean
/// zero. Turning, scaling and shifting the features does not change it.
///
/// ```
/// use autodidact_core::tangent::linear_cka;
/// use tch::Tensor;
/// let x = Tensor::from_slice2(&[[1f64, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]]);
/// let y = &x * Tensor::from_slice(&[1f64, 2.0]);
/// // Two uncorrelated directions of equal variance, one then doubled: (1 + 4) / (sqrt 2 sqrt(1 + 16)).
/// assert!((linear_cka(&x, &y).unwrap() - 5.0 / 34f64.sqrt()).abs() < 1e-12);
/// ```
///
/// # Errors
/// Features of different numbers of inputs, or constant.
pub fn linear_cka(x: &Tensor, y: &Tensor) -> Result<f64> {
    let (n, d) = check_matrix("features", x)?;
    let (m, e) = check_matrix("features", y)?;
    if n != m {
        return Err(Error::shape("second features", format!("[{n}, E]"), y));
    }
    let [x, y] = [x, y].map(|t| without_mean(&t.detach().to_kind(Kind::Double), 0));
    // Through the smaller of the two forms, features by features or inputs by inputs.
    if n < d.max(e) {
        let [k, l] = [&x, &y].map(|t| t.matmul(&t.tr()));
        return ratio((&k * &l).sum(Kind::Double).double_value(&[]), norm(&k) * norm(&l));
    }
    let cross = norm(&x.tr().matmul(&y));
    ratio(cross * cross, norm(&x.tr().matmul(&x)) * norm(&y.tr().matmul(&y)))
}

/// [`linear_cka`] with unbiased estimates of the three Hilbert-Schmidt independence criteria (Song et al., 2012; as used by Nguyen et al.,
/// 2021, arXiv 2010.15327): near 0 for features that have nothing to do with each other, however few inputs there are; it may be below 0.
///
/// With kernels `K`, `L` whose diagonals are set to 0:
/// `HSIC = (tr(K L) + 1'K1 1'L1 / ((n - 1)(n - 2)) - 2 1'K L 1 / (n - 2)) / (n (n - 3))`.
///
/// # Errors
/// As there, and fewer than four inputs.
pub fn debiased_cka(x: &Tensor, y: &Tensor) -> Result<f64> {
    let (n, _) = check_matrix("features", x)?;
    let (m, _) = check_matrix("features", y)?;
    if n != m || n < 4 {
        return Err(Error::shape("second features", format!("[{n}, E], of four inputs or more"), y));
    }
    let [k, l] = [x, y].map(|t| {
        let t = t.detach().to_kind(Kind::Double);
        let k = t.matmul(&t.tr());
        &k - k.diagonal(0, 0, 1).diag_embed(0, 0, 1)
    });
    let n = n as f64;
    let sum = |t: &Tensor| t.sum(Kind::Double).double_value(&[]);
    let hsic = |k: &Tensor, l: &Tensor| {
        // Both are symmetric.
        let columns = |t: &Tensor| t.sum_dim_intlist([0i64].as_slice(), false, Kind::Double);
        let cross = sum(&(columns(k) * columns(l)));
        (sum(&(k * l)) + sum(k) * sum(l) / ((n - 1.0) * (n - 2.0)) - 2.0 * cross / (n - 2.0)) / (n * (n - 3.0))
    };
    ratio(hsic(&k, &l), (hsic(&k, &k) * hsic(&l, &l)).sqrt())
}

fn without_mean(t: &Tensor, dim: i64) -> Tensor {
    t - t.mean_dim([dim].as_slice(), true, Kind::Double)
}

fn norm(t: &Tensor) -> f64 {
    t.square().sum(Kind::Double).double_value(&[]).sqrt()
}

fn ratio(product: f64, norms: f64) -> Result<f64> {
    if norms.is_finite() && norms > 0.0 {
        return Ok(product / norms);
    }
    Err(Error::value("alignment", "finite kernels, features and targets that vary", "constant or non-finite ones"))
}
