//! Even your Teacher Needs Guidance: Ground-Truth Targets Dampen Regularization Imposed by Self-Distillation (Borup and
//! Andersen, 2021; arXiv 2102.13088).
//!
//! Self-distillation refits the same model class to `alpha y + (1 - alpha) y^(t-1)`, the ground truth mixed with the previous
//! model's predictions. `alpha` is the weight of the **ground truth**. In kernel ridge regression with `K = V D V^T` the
//! predictions are `y^(t) = V B^(t) V^T y` with the diagonal recursion
//! `B^(1) = A`, `B^(t) = A ((1 - alpha_t) B^(t-1) + alpha_t I)`, `A = D (D + lambda I)^-1`:
//! without ground truth the spectrum shrinks to nothing, with it the chain converges to ridge regression with `lambda/alpha`.
//! Each step's best `alpha` on validation data is a least-squares quotient ([`optimal_alpha`]).
//!
//! ```
//! use autodidact_distill::teacher_guidance::{limit_shrinkage, shrinkage_closed_form};
//! // Eigenvalues 1 and 3, lambda 1, alpha 1/2.
//! let b = shrinkage_closed_form(&[1.0, 3.0], 1.0, 0.5, 2).unwrap();
//! assert_eq!(b, [0.375, 0.65625]);
//! let limit = limit_shrinkage(&[1.0, 3.0], 1.0, 0.5).unwrap();
//! assert!((limit[0] - 1.0 / 3.0).abs() < 1e-15 && (limit[1] - 0.6).abs() < 1e-15);
//! ```

mod deep;
mod krr;
mod spectrum;

pub use deep::{
    DistillationLoss, GroundTruthWeight, SelfDistillation, Student, parameter_norm_penalty, weighted_distillation_loss,
};
pub use krr::{AlphaSchedule, SelfDistilledKrr};
pub use spectrum::{limit_lambda, limit_shrinkage, shrinkage_closed_form, shrinkage_recursion, sparsity_ratios};

use autodidact_core::{Error, Result};
use tch::{Kind, Tensor};

/// Targets of the paper's toy example at `x = 0, 0.1, ..., 1` (the official notebook's; its fits use an RBF kernel with
/// `gamma = 80`, `lambda = 0.2`, and are compared with `sin(2 pi x)`).
pub const TOY_TARGETS: [f64; 11] = [
    0.38476636465198066,
    1.2333967683416893,
    1.33232242218057,
    0.6920159488889518,
    -0.29756145531871736,
    -0.24189291901377769,
    -0.7964485769175675,
    -0.9616480167034174,
    -0.49672509509916934,
    -0.3469066003991437,
    0.5589512650600734,
];

/// The weight of the ground truth that minimises the squared validation error of `alpha f_gt + (1 - alpha) f_distill`:
/// `<y - f_distill, f_gt - f_distill> / |f_gt - f_distill|^2`, in f64. `f_gt` are predictions of the fit to the ground truth,
/// `f_distill` of the fit to the teacher's predictions alone, all of the shape of `y`. It may leave `[0, 1]`; `clip` keeps it
/// there. 1 if the two predictions are the same.
///
/// ```
/// use autodidact_distill::teacher_guidance::optimal_alpha;
/// use tch::Tensor;
/// let (y, gt, distilled) = (Tensor::from_slice(&[1.0]), Tensor::from_slice(&[2.0]), Tensor::from_slice(&[0.0]));
/// assert_eq!(optimal_alpha(&y, &gt, &distilled, true).unwrap(), 0.5);
/// ```
///
/// # Errors
/// Shapes that differ, or values that are not finite.
pub fn optimal_alpha(y: &Tensor, f_gt: &Tensor, f_distill: &Tensor, clip: bool) -> Result<f64> {
    for (what, t) in [("f_gt", f_gt), ("f_distill", f_distill)] {
        if t.size() != y.size() {
            return Err(Error::shape(what, format!("{:?}, the shape of y", y.size()), t));
        }
    }
    let [y, f, g] = [y, f_gt, f_distill].map(|t| t.to_kind(Kind::Double));
    let direction = f - &g;
    let length = direction.square().sum(Kind::Double).double_value(&[]);
    let product = ((y - g) * direction).sum(Kind::Double).double_value(&[]);
    if !(length.is_finite() && product.is_finite()) {
        return Err(Error::value("predictions", "finite values", "NaN or infinity"));
    }
    let alpha = if length == 0.0 { 1.0 } else { product / length };
    Ok(if clip { alpha.clamp(0.0, 1.0) } else { alpha })
}
