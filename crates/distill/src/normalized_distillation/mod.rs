//! From Knowledge Distillation to Self-Knowledge Distillation (Yang, Zeng, Li, Zhang, Yuan and Li, 2023; arXiv 2303.13005): the
//! normalised loss NKD, and USKD, which makes its soft labels without a teacher.
//!
//! As a cross entropy, distillation is `-T_y log S_y - sum_{i != y} T_i log S_i`. The second sum cannot be matched in shape alone,
//! since the masses `1 - T_y` and `1 - S_y` differ; NKD brings both non-target distributions to sum 1, `N`, and adds to the
//! cross entropy
//!
//! `L = -mean_b T_y log S_y - gamma lambda^2 mean_b sum_{i != y} N_i(t; lambda) log N_i(s; lambda)`.
//!
//! ```
//! use autodidact_distill::normalized_distillation::Nkd;
//! use tch::Tensor;
//! let s = Tensor::from_slice2(&[[2f64, 1., 0., -1.]]);
//! let t = Tensor::from_slice2(&[[3f64, 1., 0.5, -1.]]);
//! let loss = Nkd::default().forward(&s, &t, &Tensor::from_slice(&[0i64])).unwrap();
//! // -0.809234 ln 0.643914, and 1.5 times the cross entropy of softmax(1, 0.5, -1) and softmax(1, 0, -1).
//! assert!((loss.target.double_value(&[]) - 0.35621664).abs() < 1e-8);
//! assert!((loss.non_target.double_value(&[]) - 1.36680683).abs() < 1e-8);
//! ```

mod uskd;

pub use uskd::{RankScore, Uskd, UskdConfig, UskdOutput, rank_score, soft_target_label, zipf_labels};

use crate::logits::{at, check_logits, hidden_log_softmax, mean, row_sum};
use autodidact_core::device::in_full_precision;
use autodidact_core::error::{check_class_indices, check_range};
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// NKD, as a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Nkd {
    /// Weight of the non-target part.
    pub gamma: f64,
    /// `lambda`, temperature of the non-target part.
    pub temperature: f64,
}

impl Default for Nkd {
    /// The values for ImageNet.
    fn default() -> Self {
        Self { gamma: 1.5, temperature: 1.0 }
    }
}

/// The two parts of NKD, scalars with their weights.
#[derive(Debug)]
pub struct NkdOutput {
    /// Their sum, to be added to the cross entropy with weight 1.
    pub total: Tensor,
    /// `-mean_b T_y log S_y`, at temperature 1.
    pub target: Tensor,
    /// `-gamma lambda^2 mean_b sum_{i != y} N_i(t) log N_i(s)`.
    pub non_target: Tensor,
}

impl Nkd {
    /// The values for CIFAR-100 (ResNet-34 to ResNet-18).
    pub fn cifar100() -> Self {
        Self { gamma: 3.5, temperature: 3.0 }
    }

    /// Of logits `[B, C]` of student and teacher (which gets no gradient) and labels: class indices `[B]`, or distributions `[B, C]`
    /// (of mixed images), whose heaviest class is the target.
    ///
    /// # Errors
    /// Shapes that differ, labels outside the classes, a temperature not above 0.
    pub fn forward(&self, student: &Tensor, teacher: &Tensor, labels: &Tensor) -> Result<NkdOutput> {
        let (b, c) = check_logits(student, teacher)?;
        check_range("temperature", self.temperature, f64::MIN_POSITIVE..)?;
        check_range("gamma", self.gamma, 0.0..)?;
        let y = if labels.is_floating_point() && labels.size() == [b, c] {
            labels.argmax(1, false)
        } else {
            check_class_indices("labels", labels, b, c)?;
            labels.shallow_clone()
        };
        in_full_precision([student, teacher], |[s, t]| {
            let (kind, t) = (s.kind(), t.detach());
            let log_s = at(&s, &y) - s.logsumexp([1i64].as_slice(), false);
            let target = -mean(&(at(&t.softmax(1, kind), &y) * log_s));
            let own = y.unsqueeze(1);
            let others_t = hidden_log_softmax(&t, &own, self.temperature).exp();
            let others_s = hidden_log_softmax(&s, &own, self.temperature);
            let scale = self.gamma * self.temperature * self.temperature;
            let non_target = mean(&row_sum(&(others_t * others_s))) * -scale;
            Ok(NkdOutput { total: &target + &non_target, target, non_target })
        })
    }
}

/// The cross-entropy form of distillation at temperature 1, `-sum_i T_i log S_i`, apart; means over the batch, detached.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KdDecomposition {
    /// `-T_y log S_y`.
    pub target: f64,
    /// `-(1 - T_y) sum_{i != y} N_i(t) log N_i(s)`: the normalised distributions, with the weight that NKD drops.
    pub non_target: f64,
    /// `-(1 - T_y) log(1 - S_y)`: the masses, which NKD drops.
    pub mass: f64,
    /// Mean of `1 - T_y`.
    pub teacher_mass: f64,
    /// Mean of `1 - S_y`.
    pub student_mass: f64,
}

/// What distillation at temperature 1 consists of, for logits `[B, C]` and labels `[B]`. Computed in f64.
///
/// # Errors
/// Shapes that differ, labels outside the classes.
pub fn kd_decomposition(student: &Tensor, teacher: &Tensor, labels: &Tensor) -> Result<KdDecomposition> {
    let (b, c) = check_logits(student, teacher)?;
    check_class_indices("labels", labels, b, c)?;
    let [s, t] = [student, teacher].map(|z| z.detach().to_kind(Kind::Double));
    let own = labels.unsqueeze(1);
    let log_at = |z: &Tensor| at(z, labels) - z.logsumexp([1i64].as_slice(), false);
    let hidden = |z: &Tensor| z.scatter_value(1, &own, f64::NEG_INFINITY).logsumexp([1i64].as_slice(), false);
    let log_rest = hidden(&s) - s.logsumexp([1i64].as_slice(), false);
    let (log_s, t_y) = (log_at(&s), log_at(&t).exp());
    let rest = (hidden(&t) - t.logsumexp([1i64].as_slice(), false)).exp();
    let shapes = row_sum(&(hidden_log_softmax(&t, &own, 1.0).exp() * hidden_log_softmax(&s, &own, 1.0)));
    let value = |x: Tensor| mean(&x).double_value(&[]);
    Ok(KdDecomposition {
        target: -value(&t_y * &log_s),
        non_target: -value(&rest * shapes),
        mass: -value(&rest * &log_rest),
        teacher_mass: value(rest),
        student_mass: value(log_rest.exp()),
    })
}

/// Labels as columns: the target classes `[B, K]` with their weights `[B, K]`, one of weight 1 for class indices `[B]`, the two
/// heaviest for distributions `[B, C]`; where the second has no weight it is no target, and the first stands in its place.
fn targets(labels: &Tensor, b: i64, c: i64, kind: Kind) -> Result<(Tensor, Tensor)> {
    if labels.is_floating_point() {
        if labels.size() != [b, c] {
            return Err(Error::shape("labels", format!("[{b}] class indices, or distributions [{b}, {c}]"), labels));
        }
        let (weight, class) = labels.to_kind(kind).topk(2, 1, true, true);
        let class = class.narrow(1, 0, 1).expand([b, 2], false).where_self(&weight.eq(0.0), &class);
        return Ok((class, weight));
    }
    check_class_indices("labels", labels, b, c)?;
    Ok((labels.unsqueeze(1), Tensor::ones([b, 1], (kind, labels.device()))))
}
