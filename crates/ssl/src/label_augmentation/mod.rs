//! Self-supervised label augmentation, SLA (Lee, Hwang and Shin, 2019; arXiv 1910.05872).
//!
//! Training on transformed copies (rotations, say) with the class as their label forces an invariance that makes the problem
//! harder. SLA drops it: one classifier learns the joint label (class `i`, transformation `j`); at test time the copies of an
//! image are each scored by their own transformation's outputs, and the logits are averaged. SLA+SD distils that aggregate into
//! an ordinary head, so that one forward pass suffices.
//!
//! With `z_j = f(t_j(x))`, `N` classes, `M` transformations and joint logits `u_ij(z)` at output `i M + j`:
//! `L_SLA = 1/M sum_j CE(softmax(u(z_j)), (y, j))`,
//! single inference (SI) `softmax_i u_i0(z_0)`, aggregation (AG) `softmax_i 1/M sum_j u_ij(z_j)`, and
//! `L_SD = L_SLA + beta CE(softmax(v(z_0)), y) + T^2 KL(AG_T || softmax(v(z_0)/T))`, where no gradient flows into AG.
//!
//! A batch of `B` images becomes `B M` copies, image by image: copy `j` of image `b` is row `b M + j`.
//!
//! ```
//! use autodidact_ssl::label_augmentation::{SlaLoss, aggregate_logits, single_logits};
//! use tch::{Kind, Tensor};
//!
//! // One image of class 1, two classes, two transformations.
//! let joint = Tensor::from_slice2(&[[1f32, 0., 2., -1.], [0.5, 0.5, 0., 1.]]);
//! let (single, y) = (Tensor::from_slice2(&[[0.2f32, 0.4]]), Tensor::from_slice(&[1i64]));
//! // Copy 0 against output 2, copy 1 against output 3: (0.4939 + 0.8944) / 2.
//! let parts = SlaLoss::default().self_distilled(&joint, &single, &y, 2).unwrap();
//! assert!((parts.joint.double_value(&[]) - 0.69417).abs() < 1e-5);
//! assert!((parts.total.double_value(&[]) - 1.32713).abs() < 1e-5);
//! // The identity's outputs 0 and 2 of copy 0; with those of copy 1, the means (1 + 0.5) / 2 and (2 + 1) / 2.
//! let si = single_logits(&joint.narrow(0, 0, 1), 2, 0).unwrap();
//! assert_eq!(Vec::<f32>::try_from(si.view(-1)).unwrap(), [1.0, 2.0]);
//! let ag = aggregate_logits(&joint, 2).unwrap();
//! assert_eq!(Vec::<f32>::try_from(ag.view(-1)).unwrap(), [0.75, 1.5]);
//! ```

mod classifier;
mod transform;

pub use classifier::{Classifier, Mode};
pub use transform::{ColorPerm3, ColorPerm6, Compose, Identity, InputTransform, Rotation2, Rotation4};

use crate::in_full_precision;
use autodidact_core::error::{check_labels, check_matrix, check_range};
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::{Kind, Reduction as Over, Tensor};

/// How the joint cross entropies of an image's copies are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reduction {
    /// Their mean.
    Mean,
    /// Their sum (the official code's large loss, for ImageNet and iNaturalist).
    SumOverTransforms,
}

/// The loss, as a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SlaLoss {
    /// Over the copies of an image; over the images of a batch it is the mean.
    pub reduction: Reduction,
    /// `beta`, weight of the single head's cross entropy, at least 0. Default: the code's 1.
    pub beta: f64,
    /// `T`, temperature of the distillation, above 0. Default: 1.
    pub temperature: f64,
}

impl Default for SlaLoss {
    fn default() -> Self {
        Self { reduction: Reduction::Mean, beta: 1.0, temperature: 1.0 }
    }
}

/// The loss with self-distillation and its parts: differentiable scalars, in f32 (f64 for logits in f64).
#[derive(Debug)]
pub struct SelfDistilledOutput {
    /// What is minimised.
    pub total: Tensor,
    /// The joint head's loss.
    pub joint: Tensor,
    /// Cross entropy of the single head, without `beta`.
    pub single: Tensor,
    /// Divergence of the single head from the aggregate, without `T^2`; it has no gradient in the joint head.
    pub distillation: Tensor,
}

impl SlaLoss {
    /// `L_SLA` of joint logits `[B*M, N*M]` and classes `y` `[B]`.
    ///
    /// # Errors
    /// Shapes that do not go together, a class outside `0..N`.
    pub fn forward(&self, joint: &Tensor, y: &Tensor, m: i64) -> Result<Tensor> {
        check_joint(joint, m)?;
        let labels = joint_labels(y, m)?;
        check_copies(joint, y, m)?;
        let loss = cross_entropy(joint, &labels)?;
        Ok(match self.reduction {
            Reduction::Mean => loss,
            Reduction::SumOverTransforms => loss * m as f64,
        })
    }

    /// `L_SD`: the same with the single head's logits `[B, N]` on the untransformed copies.
    ///
    /// # Errors
    /// As [`forward`](Self::forward); `beta` below 0, a temperature not above 0.
    pub fn self_distilled(&self, joint: &Tensor, single: &Tensor, y: &Tensor, m: i64) -> Result<SelfDistilledOutput> {
        check_range("beta", self.beta, 0.0..)?;
        check_range("temperature", self.temperature, f64::MIN_POSITIVE..)?;
        let joint_loss = self.forward(joint, y, m)?;
        let (b, n) = (y.size()[0], joint.size()[1] / m);
        if check_matrix("single", single)? != (b, n) {
            return Err(Error::shape("single", format!("[{b}, {n}]"), single));
        }
        let single_loss = cross_entropy(single, y)?;
        let t = self.temperature;
        let distillation = in_full_precision([joint, single], |[joint, single]| {
            let log = |logits: Tensor| (logits / t).log_softmax(-1, None::<Kind>);
            let target = log(aggregate_logits(&joint, m)?.detach());
            Ok(log(single).kl_div(&target, Over::Sum, true) / b as f64)
        })?;
        let total = &joint_loss + &single_loss * self.beta + &distillation * (t * t);
        Ok(SelfDistilledOutput { total, joint: joint_loss, single: single_loss, distillation })
    }
}

/// Plain data augmentation with the transformations: the mean cross entropy of every copy's class logits `[B*M, N]`.
///
/// # Errors
/// Shapes that do not go together, a class outside `0..N`.
pub fn data_augmentation_loss(logits: &Tensor, y: &Tensor, m: i64) -> Result<Tensor> {
    check_copies(logits, y, m)?;
    cross_entropy(logits, &y.repeat_interleave_self_int(m, 0, None))
}

/// Multi-task learning: [`data_augmentation_loss`] plus the mean cross entropy of the transformation's logits `[B*M, M]`.
///
/// # Errors
/// As [`data_augmentation_loss`].
pub fn multitask_loss(logits: &Tensor, transformation: &Tensor, y: &Tensor, m: i64) -> Result<Tensor> {
    let class_loss = data_augmentation_loss(logits, y, m)?;
    if check_matrix("transformation logits", transformation)? != (logits.size()[0], m) {
        let expected = format!("[{}, {m}]", logits.size()[0]);
        return Err(Error::shape("transformation logits", expected, transformation));
    }
    let which = Tensor::arange(m, (Kind::Int64, y.device())).repeat([y.size()[0]]);
    Ok(class_loss + cross_entropy(transformation, &which)?)
}

/// Joint labels `y M + j` of the copies: `[B] -> [B*M]`.
///
/// # Errors
/// Labels that are not an integer vector, `m` below 1.
pub fn joint_labels(y: &Tensor, m: i64) -> Result<Tensor> {
    check_labels("y", y, y.size().first().copied().unwrap_or(0))?;
    check_m(m)?;
    Ok((y.unsqueeze(1) * m + Tensor::arange(m, (Kind::Int64, y.device()))).flatten(0, 1))
}

/// Class logits `[B, N]` by the outputs of transformation `j`, from joint logits `[B, N*M]` of copies that all went through it.
///
/// # Errors
/// A width that is no multiple of `m`, `j` outside `0..m`.
pub fn single_logits(joint: &Tensor, m: i64, j: i64) -> Result<Tensor> {
    check_joint(joint, m)?;
    check_index(m, j)?;
    Ok(joint.unflatten(1, [-1, m]).select(2, j))
}

/// Class logits of every copy by its own transformation's outputs: `[B*M, N*M] -> [B, M, N]`.
///
/// # Errors
/// Sizes that are no multiples of `m`.
pub fn own_logits(joint: &Tensor, m: i64) -> Result<Tensor> {
    let (rows, width) = check_joint(joint, m)?;
    if rows % m != 0 {
        return Err(Error::shape("joint", format!("a multiple of {m} rows"), joint));
    }
    Ok(joint.reshape([rows / m, m, width / m, m]).diagonal(0, 1, 3).transpose(1, 2))
}

/// Aggregated class logits `[B, N]` of joint logits `[B*M, N*M]`: the mean of [`own_logits`] over the copies.
///
/// # Errors
/// As [`own_logits`].
pub fn aggregate_logits(joint: &Tensor, m: i64) -> Result<Tensor> {
    Ok(own_logits(joint, m)?.mean_dim([1i64].as_slice(), false, joint.kind()))
}

/// Class logits `[B*M, N]` of an ordinary head, averaged over the copies of each image: `[B, N]`.
///
/// # Errors
/// A number of rows that is no multiple of `m`.
pub fn average_logits(logits: &Tensor, m: i64) -> Result<Tensor> {
    let (rows, _) = check_matrix("logits", logits)?;
    check_m(m)?;
    if rows % m != 0 {
        return Err(Error::shape("logits", format!("a multiple of {m} rows"), logits));
    }
    Ok(logits.unflatten(0, [-1, m]).mean_dim([1i64].as_slice(), false, logits.kind()))
}

/// What a joint classifier gets right of the copies, as fractions.
#[derive(Debug, Clone, PartialEq)]
pub struct CrossTransformAccuracy {
    /// Class and transformation.
    pub joint: f64,
    /// The transformation, whatever the class.
    pub transformation: f64,
    /// The class of the copies by each transformation, which is known.
    pub per_transformation: Vec<f64>,
}

impl CrossTransformAccuracy {
    /// Of joint logits `[B*M, N*M]` and classes `[B]`, at least one.
    ///
    /// # Errors
    /// Shapes that do not go together, no images.
    pub fn new(joint: &Tensor, y: &Tensor, m: i64) -> Result<Self> {
        let own = own_logits(joint, m)?;
        check_copies(joint, y, m)?;
        if y.numel() == 0 {
            return Err(Error::value("batch size", "at least 1", 0));
        }
        let (predicted, labels) = (joint.argmax(1, false), joint_labels(y, m)?);
        let share = |hits: Tensor| hits.to_kind(Kind::Double).mean(Kind::Double).double_value(&[]);
        let by_transformation =
            own.argmax(2, false).eq_tensor(&y.unsqueeze(1)).to_kind(Kind::Double).mean_dim(0, false, Kind::Double);
        Ok(Self {
            joint: share(predicted.eq_tensor(&labels)),
            transformation: share(predicted.remainder(m).eq_tensor(&labels.remainder(m))),
            per_transformation: by_transformation.try_into()?,
        })
    }
}

fn cross_entropy(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    in_full_precision([logits], |[logits]| {
        Ok(logits.f_cross_entropy_loss::<Tensor>(labels, None, Over::Mean, -100, 0.0)?)
    })
}

fn check_m(m: i64) -> Result<()> {
    if m < 1 { Err(Error::value("number of transformations", "at least 1", m)) } else { Ok(()) }
}

fn check_index(m: i64, j: i64) -> Result<()> {
    if (0..m).contains(&j) { Ok(()) } else { Err(Error::value("transformation", format!("an index in 0..{m}"), j)) }
}

fn check_joint(joint: &Tensor, m: i64) -> Result<(i64, i64)> {
    check_m(m)?;
    match check_matrix("joint", joint)? {
        (rows, width) if width > 0 && width % m == 0 => Ok((rows, width)),
        _ => Err(Error::shape("joint", format!("a multiple of {m} columns"), joint)),
    }
}

/// Checks that `logits` has `m` rows for each label.
fn check_copies(logits: &Tensor, y: &Tensor, m: i64) -> Result<()> {
    check_m(m)?;
    let (rows, _) = check_matrix("logits", logits)?;
    check_labels("y", y, y.size().first().copied().unwrap_or(0))?;
    if rows != y.size()[0] * m {
        return Err(Error::shape("logits", format!("{m} rows for each of {} labels", y.size()[0]), logits));
    }
    Ok(())
}
