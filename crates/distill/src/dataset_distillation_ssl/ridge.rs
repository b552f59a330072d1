//! Kernel ridge regression as a differentiable function of features and targets.

use autodidact_core::error::{check_matrix, check_range};
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// The penalty `lambda` of the regression.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Penalty {
    /// This value, above 0.
    Fixed(f64),
    /// This times the trace of the kernel matrix, which gets no gradient from it.
    Trace(f64),
}

impl Penalty {
    pub(super) fn check(self) -> Result<()> {
        let (Penalty::Fixed(v) | Penalty::Trace(v)) = self;
        check_range("penalty", v, f64::MIN_POSITIVE..)
    }
}

/// `A^-1 B` for symmetric positive definite `A`, both f64: one Cholesky factorisation. The gradient passes through one step of
/// iterative refinement from the solution, whose derivative is that of the inverse; the factorisation itself is not differentiated
/// (its own derivative costs several times as much). Correct once, not for derivatives of derivatives.
fn solve(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let factor = a.detach().f_linalg_cholesky(false).map_err(|_| {
        Error::value("kernel matrix", "positive definite (finite features, or a larger penalty)", "indefinite")
    })?;
    let near = b.detach().cholesky_solve(&factor, false);
    let rest = b - a.matmul(&near);
    Ok(near + rest.cholesky_solve(&factor, false))
}

/// Predictions `[B, d]` at features `f_t [B, p]` of the ridge regression of targets `y_s [m, d]` on features `f_s [m, p]`:
/// `K_ts (K_ss + lambda I)^-1 y_s` with the linear kernel; with `bias`, a constant 1 is appended to all features (and penalised as
/// they are). Solved in f64 in the smaller of the two forms, `m x m` or `p x p`; the result has the kind of `f_t`. Differentiable
/// once, in all three.
///
/// # Errors
/// Not matrices, widths or lengths that do not fit, a penalty not above 0, features that are not finite.
pub fn krr_predict(f_t: &Tensor, f_s: &Tensor, y_s: &Tensor, penalty: Penalty, bias: bool) -> Result<Tensor> {
    let (b, p) = check_matrix("f_t", f_t)?;
    let (m, width) = check_matrix("f_s", f_s)?;
    let (rows, _) = check_matrix("y_s", y_s)?;
    penalty.check()?;
    if width != p {
        return Err(Error::shape("f_s", format!("[m, {p}], the width of f_t"), f_s));
    }
    if rows != m || m < 1 || b < 1 {
        return Err(Error::shape("y_s", format!("[{m}, d], a row for each of f_s"), y_s));
    }
    let append = |f: &Tensor| match bias {
        true => Tensor::cat(&[f, &Tensor::ones([f.size()[0], 1], (f.kind(), f.device()))], 1),
        false => f.shallow_clone(),
    };
    let (f_t, f_s) = (append(f_t), append(f_s));
    let double = |t: &Tensor| t.to_kind(Kind::Double);
    let p = f_s.size()[1];
    let dual = m <= p;
    // The products are made in the features' own precision, which is what costs; lambda is far above their rounding.
    let gram = double(&if dual { f_s.matmul(&f_s.tr()) } else { f_s.tr().matmul(&f_s) });
    let lambda = match penalty {
        Penalty::Fixed(value) => Tensor::full([], value, (Kind::Double, gram.device())),
        Penalty::Trace(scale) => gram.detach().trace() * scale,
    };
    let regularised = &gram + Tensor::eye(gram.size()[0], (Kind::Double, gram.device())) * lambda;
    Ok(if dual {
        let coefficients = solve(&regularised, &double(y_s))?.to_kind(f_t.kind());
        f_t.matmul(&f_s.tr()).matmul(&coefficients)
    } else {
        f_t.matmul(&solve(&regularised, &double(&f_s).tr().matmul(&double(y_s)))?.to_kind(f_t.kind()))
    })
}

/// The outer loss of KRR-ST: mean over rows and columns of the squared difference between the predictions of [`krr_predict`] (with
/// a bias) and the representations `y_t [B, d]`, which get no gradient.
///
/// # Errors
/// As [`krr_predict`]; representations of another shape.
pub fn krr_st_loss(f_t: &Tensor, f_s: &Tensor, y_s: &Tensor, y_t: &Tensor, penalty: Penalty) -> Result<Tensor> {
    let predicted = krr_predict(f_t, f_s, y_s, penalty, true)?;
    if y_t.size() != predicted.size() {
        return Err(Error::shape("y_t", format!("{:?}", predicted.size()), y_t));
    }
    Ok((predicted - y_t.detach()).square().mean(f_t.kind()))
}
