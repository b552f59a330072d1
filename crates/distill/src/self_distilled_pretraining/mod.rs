//! Lee, Kang, Lee, Hwang and Kawaguchi, "Self-Distillation for Further Pre-training of Transformers" (2022), arXiv 2210.02871.
//!
//! Going on with masked autoencoding on the small unlabelled target set before fine-tuning lets a vision transformer overfit.
//! Instead, that further pre-training only makes a teacher; the student starts again from the ORIGINAL weights and minimises the same
//! loss plus the squared distance between its representation of the whole image and the teacher's:
//!
//! `L = L_MAE(theta, phi; x) + weight * 1/B sum_b |h_theta(x_b) - h_teacher(x_b)|^2` (sum over features, teacher in evaluation mode).
//!
//! ```
//! use autodidact_distill::self_distilled_pretraining::distill_representation;
//! use tch::Tensor;
//! let teacher = Tensor::from_slice2(&[[0f64, 0.0], [1.0, 1.0]]);
//! let student = Tensor::from_slice2(&[[1f64, 2.0], [1.0, 1.0]]);
//! assert_eq!(distill_representation(&student, &teacher)?.double_value(&[]), 2.5);
//! # Ok::<(), autodidact_core::Error>(())
//! ```

mod mae;

pub use mae::{Mae, MaeConfig, MaeOutput, patchify};

use autodidact_core::error::{check_matrix, check_range};
use autodidact_core::optim::StateDict;
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// What of the last layer (after its norm) student and teacher are compared on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Match {
    /// The class token, as the published code.
    ClassToken,
    /// The mean of the patches' tokens.
    MeanPatch,
    /// All tokens; the distance is their mean.
    AllTokens,
}

/// `1/B sum_b |s_b - t_b|^2` for representations `[B, D]`: sum over features, mean over the batch. The teacher's get no gradient.
///
/// # Errors
/// Not matrices of one shape.
pub fn distill_representation(student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
    let (b, d) = check_matrix("student representations", student)?;
    if teacher.size() != [b, d] {
        return Err(Error::shape("teacher representations", format!("[{b}, {d}]"), teacher));
    }
    Ok((student - teacher.detach()).square().sum(student.kind()) / b as f64)
}

/// Parts of the student's loss, scalars.
#[derive(Debug)]
pub struct SelfDistillationOutput {
    /// What is minimised: `mae + weight * distance`.
    pub total: Tensor,
    /// Masked autoencoding.
    pub mae: Tensor,
    /// Distance of representations, without its weight.
    pub distance: Tensor,
}

/// Self-distillation of a masked autoencoder.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SelfDistillation {
    /// What is compared.
    pub on: Match,
    /// Weight of the distance.
    pub weight: f64,
}

impl Default for SelfDistillation {
    fn default() -> Self {
        Self { on: Match::ClassToken, weight: 1.0 }
    }
}

impl SelfDistillation {
    /// Representation of images `[B, C, S, S]` by all of their patches: `[B, D]`, or `[B * tokens, D]` of all tokens.
    ///
    /// # Errors
    /// Images that the encoder cannot take.
    pub fn represent(&self, model: &Mae, images: &Tensor) -> Result<Tensor> {
        let tokens = model.encoder().tokens(images)?;
        Ok(match self.on {
            Match::ClassToken => tokens.select(1, 0),
            Match::MeanPatch => {
                tokens.narrow(1, 1, tokens.size()[1] - 1).mean_dim([1i64].as_slice(), false, tokens.kind())
            }
            Match::AllTokens => tokens.flatten(0, 1),
        })
    }

    /// The student's loss on images under the masks of `noise` ([`Mae::forward`]); the teacher sees them whole.
    ///
    /// # Errors
    /// As [`Mae::forward`]; a weight below 0, a teacher of another width.
    pub fn forward(
        &self,
        student: &Mae,
        teacher: &Mae,
        images: &Tensor,
        noise: &Tensor,
    ) -> Result<SelfDistillationOutput> {
        check_range("distillation weight", self.weight, 0.0..)?;
        let mae = student.forward(images, noise)?.loss;
        let target = tch::no_grad(|| self.represent(teacher, images))?;
        let distance = distill_representation(&self.represent(student, images)?, &target)?;
        Ok(SelfDistillationOutput { total: &mae + &distance * self.weight, mae, distance })
    }
}

/// Euclidean distance between the parameters of two networks, over the names that `of` picks.
///
/// # Errors
/// A parameter that the other network lacks or has in another shape.
pub fn weight_distance(a: &StateDict, b: &StateDict, of: impl Fn(&str) -> bool) -> Result<f64> {
    Ok(weight_distance_squared(a, b, of)?.to_kind(Kind::Double).sqrt().double_value(&[]))
}

/// `|theta - theta_0|^2` over the names that `of` picks: the penalty that keeps fine-tuned weights near their start (L2-SP; Li,
/// Grandvalet and Davoine, 2018). Differentiable in `a`; `b` gets no gradient.
///
/// # Errors
/// As [`weight_distance`].
pub fn weight_distance_squared(a: &StateDict, b: &StateDict, of: impl Fn(&str) -> bool) -> Result<Tensor> {
    let mut total: Option<Tensor> = None;
    for (name, t) in a.iter().filter(|(name, _)| of(name)) {
        let other = b.get(name).filter(|o| o.size() == t.size());
        let other =
            other.ok_or_else(|| Error::value("the other network", format!("a parameter {name}"), "none like it"))?;
        let part = (t - other.detach()).square().sum(Kind::Float);
        total = Some(match total {
            Some(total) => total + part,
            None => part,
        });
    }
    total.ok_or_else(|| Error::value("parameters to compare", "at least one", "none"))
}
