//! Dual-Head Knowledge Distillation (Yang, Zong, Huang, Feng and An, 2024; arXiv 2411.08937): losses on logits that see their level, and an
//! auxiliary head for them, since in one linear classifier their gradients contradict the cross entropy's.
//!
//! With `q = sigmoid(t/tau)` and `p = sigmoid(a/tau)` of a student's logits `a` and its teacher's `t`,
//!
//! `BinaryKL = tau^2 mean_b sum_k KL(Bernoulli(q) || Bernoulli(p))`,
//! `BinaryKL-Norm = tau^2 mean_b sum_k KL(Bernoulli(1/2) || Bernoulli(sigmoid((a - t)/tau))) = tau^2 mean_b sum_k log cosh((a - t)/(2 tau))`,
//!
//! and the student minimises `gamma CE(main head) + alpha BinaryKL-Norm(auxiliary head)`. The auxiliary head is dropped after training.
//!
//! ```
//! use autodidact_distill::dual_head_distillation::{binary_kl, binary_kl_norm};
//! use autodidact_distill::logits::kd;
//! use tch::Tensor;
//! // A softmax does not see the level of the logits; here the difference is 4 everywhere: 4 * 3 * log cosh(1).
//! let s = Tensor::from_slice2(&[[2f64, 3., 4.]]);
//! let t = Tensor::from_slice2(&[[-2f64, -1., 0.]]);
//! assert!(kd(&s, &t, 4.0).unwrap().double_value(&[]).abs() < 1e-12);
//! assert!((binary_kl_norm(&s, &t, 2.0).unwrap().double_value(&[]) - 12.0 * 1f64.cosh().ln()).abs() < 1e-12);
//! assert_eq!(binary_kl(&t, &t, 2.0).unwrap().double_value(&[]), 0.0);
//! ```

mod align;
mod collapse;
mod heads;

pub use align::{Aligned, GradientAligner, Projection, Scope, gradient_conflict};
pub use collapse::{NeuralCollapse, neural_collapse};
pub use heads::{AuxHead, AuxHeadConfig, DualHead};

use crate::logits::check_logits;
use autodidact_core::Result;
use autodidact_core::device::in_full_precision;
use autodidact_core::error::{check_class_indices, check_range};
use serde::{Deserialize, Serialize};
use tch::{Kind, Reduction, Tensor};

/// BinaryKL: divergence of the classes' sigmoids at temperature `tau`, the teacher's from the student's; logits `[B, C]`, result a scalar,
/// summed over classes, mean over the batch. No gradient to the teacher; to the student `tau (sigmoid(a/tau) - sigmoid(t/tau)) / B`.
///
/// It is computed from log-sigmoids, so large logits stay exact (the published code clamps probabilities to `[1e-8, 1 - 1e-8]`).
///
/// # Errors
/// Shapes that differ, a temperature not above 0.
pub fn binary_kl(student: &Tensor, teacher: &Tensor, tau: f64) -> Result<Tensor> {
    scaled(student, teacher, tau, |a, t| {
        let (a, t) = (a / tau, t / tau);
        // KL = log sigmoid(t) - log sigmoid(a) + (1 - sigmoid(t)) (a - t), as log sigmoid(-z) = log sigmoid(z) - z.
        t.log_sigmoid() - a.log_sigmoid() + (-&t).sigmoid() * (&a - &t)
    })
}

/// BinaryKL-Norm: `tau^2 log cosh((a - t)/(2 tau))`, summed over classes, mean over the batch; logits `[B, C]`, result a scalar. No gradient
/// to the teacher; to the student `tau/2 tanh((a - t)/(2 tau)) / B`: quadratic near the teacher, linear far from it.
///
/// # Errors
/// As [`binary_kl`].
pub fn binary_kl_norm(student: &Tensor, teacher: &Tensor, tau: f64) -> Result<Tensor> {
    scaled(student, teacher, tau, |a, t| {
        let d = (a - t) / tau;
        // log cosh(d/2) = d/2 + log(1 + exp(-d)) - log 2 on either side of 0.
        &d * 0.5 - d.log_sigmoid() - std::f64::consts::LN_2
    })
}

/// `tau^2 mean_b sum_k` of what `entries` makes of the student's and the detached teacher's logits.
fn scaled(
    student: &Tensor,
    teacher: &Tensor,
    tau: f64,
    entries: impl FnOnce(&Tensor, &Tensor) -> Tensor,
) -> Result<Tensor> {
    let (b, _) = check_logits(student, teacher)?;
    check_range("temperature", tau, f64::MIN_POSITIVE..)?;
    in_full_precision([student, teacher], |[a, t]| Ok(entries(&a, &t.detach()).sum(a.kind()) * (tau * tau / b as f64)))
}

/// Weights of DHKD, as a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Dhkd {
    /// `gamma`, weight of the main head's cross entropy.
    pub gamma: f64,
    /// `alpha`, weight of the auxiliary head's BinaryKL-Norm.
    pub alpha: f64,
    /// `tau`, temperature of the sigmoids.
    pub tau: f64,
    /// The first epoch (from 0) without the auxiliary loss.
    pub stop_epoch: Option<usize>,
}

impl Default for Dhkd {
    /// The values for CIFAR-100.
    fn default() -> Self {
        Self { gamma: 1.0, alpha: 1.0, tau: 2.0, stop_epoch: None }
    }
}

/// The two losses of [`Dhkd`], scalars with their weights.
#[derive(Debug)]
pub struct DhkdOutput {
    /// Their sum.
    pub total: Tensor,
    /// `gamma CE` of the main head.
    pub cross_entropy: Tensor,
    /// `alpha BinaryKL-Norm` of the auxiliary head; `None` when its weight is 0, so that it costs nothing.
    pub logit_loss: Option<Tensor>,
}

impl Dhkd {
    /// The values for ImageNet: a tenth of the weight, and none from epoch 50 of 100 on.
    pub fn imagenet() -> Self {
        Self { alpha: 0.1, stop_epoch: Some(50), ..Self::default() }
    }

    /// Of the logits `[B, C]` of both heads and of the teacher, and labels `[B]`, in an epoch counted from 0.
    ///
    /// # Errors
    /// Shapes that differ, labels outside the classes, a temperature not above 0, negative weights.
    pub fn forward(
        &self,
        main: &Tensor,
        auxiliary: &Tensor,
        teacher: &Tensor,
        labels: &Tensor,
        epoch: usize,
    ) -> Result<DhkdOutput> {
        let (b, c) = check_logits(main, auxiliary)?;
        check_class_indices("labels", labels, b, c)?;
        check_range("gamma", self.gamma, 0.0..)?;
        check_range("alpha", self.alpha, 0.0..)?;
        let cross_entropy = in_full_precision([main], |[main]| {
            Ok(main.cross_entropy_loss::<Tensor>(labels, None, Reduction::Mean, -100, 0.0) * self.gamma)
        })?;
        let on = self.alpha > 0.0 && self.stop_epoch.is_none_or(|stop| epoch < stop);
        let logit_loss = match on {
            true => Some(binary_kl_norm(auxiliary, teacher, self.tau)? * self.alpha),
            false => None,
        };
        let total = logit_loss.as_ref().map_or_else(|| cross_entropy.shallow_clone(), |loss| &cross_entropy + loss);
        Ok(DhkdOutput { total, cross_entropy, logit_loss })
    }
}

/// Sum in the tensor's own kind.
fn sum(x: &Tensor) -> Tensor {
    x.sum(x.kind())
}

/// Inner product of two flat vectors, in 64 bits.
fn dot(a: &Tensor, b: &Tensor) -> Tensor {
    (a * b).sum(Kind::Double)
}
