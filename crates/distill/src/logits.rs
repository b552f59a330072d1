//! Losses on the logits of a student and its teacher, and the regularisers that need no teacher. Each is to be added to the
//! student's cross entropy with the weight that its paper gives.
//!
//! Logits are `[B, C]`, labels class indices `[B]`; teachers get no gradient. All are means over the batch, of sums over classes.
//!
//! ```
//! use autodidact_distill::logits::{Dkd, kd, kd_cross_entropy};
//! use tch::Tensor;
//! let s = Tensor::from_slice2(&[[2f64, 1., 0., -1.]]);
//! let t = Tensor::from_slice2(&[[3f64, 1., 0.5, -1.]]);
//! let y = Tensor::from_slice(&[0i64]);
//! assert!((kd(&s, &t, 1.0).unwrap().double_value(&[]) - 0.07097041).abs() < 1e-8);
//! assert!((kd_cross_entropy(&s, &t, 1.0).unwrap().double_value(&[]) - 0.72702460).abs() < 1e-8);
//! // Decoupled: with alpha 1 and beta 1 - T_y it is KD again.
//! let dkd = Dkd { alpha: 1.0, beta: 1.0, tau: 1.0 }.forward(&s, &t, &y).unwrap();
//! let whole = dkd.target + dkd.non_target * (1.0 - 0.809234);
//! assert!((whole.double_value(&[]) - 0.07097041).abs() < 1e-6);
//! ```

use autodidact_core::device::in_full_precision;
use autodidact_core::error::{check_class_indices, check_matrix, check_range};
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::{Kind, Reduction, Tensor};

/// In place of minus infinity, of which products with 0 are not 0.
const HIDDEN: f64 = -1e30;

/// Checks logits of a student and a teacher, of the same shape with two or more classes.
pub(crate) fn check_logits(student: &Tensor, teacher: &Tensor) -> Result<(i64, i64)> {
    let (b, c) = check_matrix("student logits", student)?;
    check_matrix("teacher logits", teacher)?;
    if b < 1 || c < 2 {
        return Err(Error::shape("student logits", "[B, C] of at least one row and two classes", student));
    }
    if teacher.size() != [b, c] {
        return Err(Error::shape("teacher logits", format!("[{b}, {c}], the shape of the student's"), teacher));
    }
    Ok((b, c))
}

pub(crate) fn row_sum(x: &Tensor) -> Tensor {
    x.sum_dim_intlist([1i64].as_slice(), false, x.kind())
}

pub(crate) fn mean(x: &Tensor) -> Tensor {
    x.mean(x.kind())
}

/// Entries of the classes `y [B]` in `x [B, C]`: `[B]`.
pub(crate) fn at(x: &Tensor, y: &Tensor) -> Tensor {
    x.gather(1, &y.unsqueeze(1), false).squeeze_dim(1)
}

/// Log-softmax of the logits of all classes but those of `y [B, K]`, at temperature `tau`: `[B, C]`, with about -1e30 at `y`.
pub(crate) fn hidden_log_softmax(logits: &Tensor, y: &Tensor, tau: f64) -> Tensor {
    let scaled = if tau == 1.0 { logits.shallow_clone() } else { logits / tau };
    scaled.scatter_value(1, y, HIDDEN).log_softmax(1, logits.kind())
}

/// The classes but `labels [B]`, of `classes`, in order: `[B, classes - 1]`.
pub fn non_targets(labels: &Tensor, classes: i64) -> Tensor {
    let column = Tensor::arange(classes - 1, (Kind::Int64, labels.device())).unsqueeze(0);
    &column + column.ge_tensor(&labels.unsqueeze(1)).to_kind(Kind::Int64)
}

/// Log-softmax over the non-target classes alone, at temperature `tau`: logits `[B, C]`, labels `[B]`, result `[B, C-1]`, the other
/// classes in order. It is the softmax over all classes without the target, brought to sum 1 again; computed from the logits,
/// since `1 - S_y` vanishes for confident networks.
///
/// # Errors
/// Logits that are no matrix of two or more classes, labels outside them, a temperature not above 0.
pub fn non_target_log_softmax(logits: &Tensor, labels: &Tensor, tau: f64) -> Result<Tensor> {
    let (b, c) = check_logits(logits, logits)?;
    check_class_indices("labels", labels, b, c)?;
    check_range("temperature", tau, f64::MIN_POSITIVE..)?;
    in_full_precision([logits], |[logits]| {
        Ok((logits.gather(1, &non_targets(labels, c), false) / tau).log_softmax(1, logits.kind()))
    })
}

/// Hinton, Vinyals and Dean, 2015 (arXiv 1503.02531): `tau^2 mean_b KL(T || S)` with both softmaxes at temperature `tau`. A scalar.
///
/// # Errors
/// Shapes that differ, a temperature not above 0.
pub fn kd(student: &Tensor, teacher: &Tensor, tau: f64) -> Result<Tensor> {
    distilled(student, teacher, tau, true)
}

/// The same as a cross entropy, `-tau^2 mean_b sum_i T_i log S_i`: larger by the teacher's entropy, with the same gradient.
///
/// # Errors
/// As [`kd`].
pub fn kd_cross_entropy(student: &Tensor, teacher: &Tensor, tau: f64) -> Result<Tensor> {
    distilled(student, teacher, tau, false)
}

fn distilled(student: &Tensor, teacher: &Tensor, tau: f64, divergence: bool) -> Result<Tensor> {
    check_logits(student, teacher)?;
    check_range("temperature", tau, f64::MIN_POSITIVE..)?;
    in_full_precision([student, teacher], |[s, t]| {
        let kind = s.kind();
        let log_s = (s / tau).log_softmax(1, kind);
        let log_t = (t.detach() / tau).log_softmax(1, kind);
        let apart = if divergence { &log_t - log_s } else { -log_s };
        Ok(mean(&row_sum(&(log_t.exp() * apart))) * (tau * tau))
    })
}

/// Decoupled knowledge distillation (Zhao, Cui, Song, Qiu and Liang, 2022; arXiv 2203.08679).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Dkd {
    /// Weight of the target-class part.
    pub alpha: f64,
    /// Weight of the non-target part.
    pub beta: f64,
    /// Temperature of both.
    pub tau: f64,
}

impl Default for Dkd {
    /// The weights for CIFAR-100: 1 and 8 at temperature 4.
    fn default() -> Self {
        Self { alpha: 1.0, beta: 8.0, tau: 4.0 }
    }
}

/// The two parts of [`Dkd`], scalars with their weights and `tau^2`.
#[derive(Debug)]
pub struct DkdOutput {
    /// Their sum.
    pub total: Tensor,
    /// `alpha tau^2 mean_b` of the divergence of the two-class distributions (target, rest).
    pub target: Tensor,
    /// `beta tau^2 mean_b KL` of the non-target distributions.
    pub non_target: Tensor,
}

impl Dkd {
    /// Of logits `[B, C]` and labels `[B]`.
    ///
    /// # Errors
    /// Shapes that differ, labels outside the classes, a temperature not above 0.
    pub fn forward(&self, student: &Tensor, teacher: &Tensor, labels: &Tensor) -> Result<DkdOutput> {
        let (b, c) = check_logits(student, teacher)?;
        check_class_indices("labels", labels, b, c)?;
        check_range("temperature", self.tau, f64::MIN_POSITIVE..)?;
        in_full_precision([student, teacher], |[s, t]| {
            let (s, t, own) = (s / self.tau, t.detach() / self.tau, labels.unsqueeze(1));
            // Log-odds of the target against the rest.
            let split = |z: &Tensor| {
                let all = z.logsumexp([1i64].as_slice(), false);
                let rest = z.scatter_value(1, &own, HIDDEN).logsumexp([1i64].as_slice(), false);
                (at(z, labels) - &all, rest - all)
            };
            let ((log_s, rest_s), (log_t, rest_t)) = (split(&s), split(&t));
            let target = log_t.exp() * (&log_t - log_s) + rest_t.exp() * (&rest_t - rest_s);
            let (others_s, others_t) = (hidden_log_softmax(&s, &own, 1.0), hidden_log_softmax(&t, &own, 1.0));
            let non_target = row_sum(&(others_t.exp() * (&others_t - others_s)));
            let scale = self.tau * self.tau;
            let target = mean(&target) * (self.alpha * scale);
            let non_target = mean(&non_target) * (self.beta * scale);
            Ok(DkdOutput { total: &target + &non_target, target, non_target })
        })
    }
}

/// Weighted soft labels (Zhou, Song, Chen, Zhou, Wang, Yuan and Zhang, 2021; arXiv 2102.00650):
/// `alpha tau^2 mean_b w_b H(T_b, S_b)`, where `w = 1 - exp(-CE_s/CE_t)` is small on samples that the student already has right.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Wsld {
    /// Weight.
    pub alpha: f64,
    /// Temperature.
    pub tau: f64,
}

impl Default for Wsld {
    /// The values for CIFAR-100.
    fn default() -> Self {
        Self { alpha: 2.25, tau: 4.0 }
    }
}

impl Wsld {
    /// Of logits `[B, C]` and labels `[B]`: a scalar. The weights get no gradient.
    ///
    /// # Errors
    /// As [`Dkd::forward`].
    pub fn forward(&self, student: &Tensor, teacher: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let (b, c) = check_logits(student, teacher)?;
        check_class_indices("labels", labels, b, c)?;
        check_range("temperature", self.tau, f64::MIN_POSITIVE..)?;
        in_full_precision([student, teacher], |[s, t]| {
            let (kind, t) = (s.kind(), t.detach());
            let own = |z: &Tensor| -at(&z.log_softmax(1, kind), labels);
            let weight = 1.0 - (-own(&s.detach()) / (own(&t) + 1e-7)).exp();
            let soft = -row_sum(&((&t / self.tau).softmax(1, kind) * (s / self.tau).log_softmax(1, kind)));
            Ok(mean(&(weight * soft)) * (self.alpha * self.tau * self.tau))
        })
    }
}

/// Cross entropy with label smoothing (Szegedy et al., 2016; arXiv 1512.00567): the target is `(1 - eps) onehot + eps/C`.
///
/// # Errors
/// Logits that are no matrix, labels outside the classes, `eps` outside `[0, 1]`.
pub fn label_smoothing(logits: &Tensor, labels: &Tensor, eps: f64) -> Result<Tensor> {
    let (b, c) = check_logits(logits, logits)?;
    check_class_indices("labels", labels, b, c)?;
    check_range("eps", eps, 0.0..=1.0)?;
    in_full_precision([logits], |[logits]| {
        Ok(logits.cross_entropy_loss::<Tensor>(labels, None, Reduction::Mean, -100, eps))
    })
}

/// Teacher-free distillation (Yuan, Tay, Li, Wang and Feng, 2020; arXiv 1909.11723), the variant with a virtual teacher that gives
/// the target probability `correct` and the rest evenly to the others: `tau^2 mean_b KL(T || S)`, both at temperature `tau`. In the
/// paper 0.99 or more, at temperature 20.
///
/// # Errors
/// As [`kd`]; `correct` not between `1/C` and 1.
pub fn teacher_free(logits: &Tensor, labels: &Tensor, correct: f64, tau: f64) -> Result<Tensor> {
    let (b, c) = check_logits(logits, logits)?;
    check_class_indices("labels", labels, b, c)?;
    check_range("correct", correct, 1.0 / c as f64..1.0)?;
    // Log-probabilities are logits.
    let rest = ((1.0 - correct) / (c - 1) as f64).ln();
    let virtual_teacher = (logits.detach().zeros_like() + rest).scatter_value(1, &labels.unsqueeze(1), correct.ln());
    kd(logits, &virtual_teacher, tau)
}
