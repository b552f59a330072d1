//! Pre-training that spoils features while it keeps the loss.

use super::{BinaryLanguage, TwoLayer};
use autodidact_core::error::{check_labels, check_range};
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// A linear head that reads a downstream label off the features while a reversed gradient hides it from the head.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Adversary {
    /// `lambda`: weight of the head's loss, which the features raise.
    pub lambda: f64,
    /// Learning rate of the head.
    pub head_lr: f64,
    /// Weight decay of the head. Without it the head finds what the output needs however weak it is in the features; with it, it sees what
    /// a probe of few labels would see.
    pub decay: f64,
}

impl Default for Adversary {
    fn default() -> Self {
        Self { lambda: 0.1, head_lr: 0.5, decay: 0.1 }
    }
}

/// Descends, without noise and in place, on `L - lambda L_head`: the second layer on `L`, the first on the difference, the head `v [m]` on
/// its logistic loss `L_head` for `labels [N]` (0 or 1, Int64) plus `decay/2 |v|^2`. All features are seen by the head as by the output,
/// times `c`.
///
/// # Errors
/// Settings out of range, labels of another shape, a language with other inputs, weights that are not finite in the end.
pub fn adversarial_pretrain(
    net: &mut TwoLayer,
    language: &BinaryLanguage,
    labels: &Tensor,
    adversary: &Adversary,
    lr: f64,
    steps: usize,
) -> Result<()> {
    net.check(language)?;
    check_labels("labels", labels, language.len())?;
    check_range("lambda", adversary.lambda, 0.0..)?;
    check_range("learning rate", lr, 0.0..)?;
    check_range("learning rate of the head", adversary.head_lr, 0.0..)?;
    check_range("decay of the head", adversary.decay, 0.0..)?;
    if adversary.head_lr * adversary.decay >= 1.0 {
        return Err(Error::value("head_lr * decay", "below 1", adversary.head_lr * adversary.decay));
    }
    let (c, n) = (net.factor(), language.len() as f64);
    let lr = lr * net.scale.rate(net.width());
    let head_lr = adversary.head_lr * net.scale.rate(net.width());
    let (x, p, z) = (&language.inputs, &language.probabilities, labels.to_kind(Kind::Double));
    let mut v = net.a.zeros_like();
    tch::no_grad(|| {
        for _ in 0..steps {
            let r = x.matmul(&net.w.tr()).relu();
            // Derivatives of the two losses by r a and r v.
            let of = |weights: &Tensor, target: &Tensor| ((r.mv(weights) * c).sigmoid() - target) * (c / n);
            let (e, h) = (of(&net.a, p), of(&v, &z));
            let slopes = e.outer(&net.a) - h.outer(&v) * adversary.lambda;
            let first = (slopes * r.sign()).tr().matmul(x);
            net.w -= first * lr;
            net.a -= r.tr().mv(&e) * lr;
            v = &v * (1.0 - adversary.head_lr * adversary.decay) - r.tr().mv(&h) * head_lr;
        }
    });
    check_range("sum of the weights", (net.w.sum(Kind::Double) + net.a.sum(Kind::Double)).double_value(&[]), ..)?;
    Ok(())
}
