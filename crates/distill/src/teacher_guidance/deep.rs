//! Self-distillation of trained networks.

use super::optimal_alpha;
use autodidact_core::error::{check_matrix, check_range};
use autodidact_core::{Error, Result};
use tch::{Kind, Tensor};

/// What is compared with the two targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DistillationLoss {
    /// Mean squared error of probabilities (the paper's code).
    BrierSoftmax,
    /// Cross-entropy of probabilities.
    CrossEntropy,
    /// Mean squared error of logits; the teacher's target is its logits.
    LogitMse,
}

/// `alpha * d(student, onehot) + (1 - alpha) * d(student, teacher)` for logits `[B, C]`, teacher probabilities (logits for
/// [`DistillationLoss::LogitMse`]) `[B, C]` and one-hot labels `[B, C]`: a scalar. Squared errors are means over batch and
/// classes, cross-entropies means over the batch. The targets are detached.
///
/// # Errors
/// Shapes that differ, or `alpha` outside `[0, 1]`.
pub fn weighted_distillation_loss(
    student_logits: &Tensor,
    teacher: &Tensor,
    onehot: &Tensor,
    alpha: f64,
    kind: DistillationLoss,
) -> Result<Tensor> {
    let (b, c) = check_matrix("student logits", student_logits)?;
    check_range("alpha", alpha, 0.0..=1.0)?;
    for (what, t) in [("teacher", teacher), ("onehot", onehot)] {
        if t.size() != [b, c] {
            return Err(Error::shape(what, format!("[{b}, {c}]"), t));
        }
    }
    let (teacher, onehot) = (teacher.detach().to_kind(Kind::Float), onehot.detach().to_kind(Kind::Float));
    Ok(match kind {
        DistillationLoss::CrossEntropy => {
            // Linear in the target, so one mixed target serves.
            let target = onehot * alpha + teacher * (1.0 - alpha);
            -(target * student_logits.log_softmax(1, Kind::Float)).sum(Kind::Float) / b as f64
        }
        kind => {
            let q = match kind {
                DistillationLoss::BrierSoftmax => student_logits.softmax(1, Kind::Float),
                _ => student_logits.to_kind(Kind::Float),
            };
            (&q - onehot).square().mean(Kind::Float) * alpha + (&q - teacher).square().mean(Kind::Float) * (1.0 - alpha)
        }
    })
}

/// `sum_p |p|_2` over parameter tensors, norms not squared (the paper's code); `1e-12` under the root keeps the gradient of
/// zero tensors defined.
pub fn parameter_norm_penalty(parameters: &[Tensor]) -> Tensor {
    let norms: Vec<Tensor> = parameters.iter().map(|p| (p.square().sum(Kind::Float) + 1e-12).sqrt()).collect();
    Tensor::stack(&norms, 0).sum(Kind::Float)
}

/// Where the weights of the ground truth come from.
#[derive(Debug, Clone, PartialEq)]
pub enum GroundTruthWeight {
    /// The same at every step.
    Constant(f64),
    /// One per step, from step 1 (whose weight has no effect).
    PerStep(Vec<f64>),
    /// Estimated from two trainings per step: [`optimal_alpha`] with the validation probabilities of the first step's network
    /// and of one trained on the teacher alone, kept in `[0, 1]`.
    Estimated,
}

/// Repeated distillation into fresh networks.
#[derive(Debug, Clone, PartialEq)]
pub struct SelfDistillation {
    /// Networks in the chain; the first is trained on the ground truth.
    pub steps: usize,
    /// Weights of the ground truth.
    pub alpha: GroundTruthWeight,
}

/// A network of the chain.
#[derive(Debug)]
pub struct Student<M> {
    /// The network.
    pub model: M,
    /// Weight of the ground truth that it was trained with.
    pub alpha: f64,
}

impl SelfDistillation {
    /// Runs the chain. `train(step, alpha, teacher)` fits fresh weights (steps count from 1, the first has no teacher);
    /// `predict` gives probabilities `[m, C]` on validation data whose one-hot labels are `y`.
    ///
    /// # Errors
    /// Those of the closures; no steps, weights outside `[0, 1]` or too few.
    pub fn run<M>(
        &self,
        mut train: impl FnMut(usize, f64, Option<&M>) -> Result<M>,
        predict: impl Fn(&M) -> Result<Tensor>,
        y: &Tensor,
    ) -> Result<Vec<Student<M>>> {
        let needed = match &self.alpha {
            GroundTruthWeight::PerStep(alphas) => {
                alphas.iter().try_for_each(|a| check_range("alpha", *a, 0.0..=1.0))?;
                alphas.len()
            }
            GroundTruthWeight::Constant(alpha) => {
                check_range("alpha", *alpha, 0.0..=1.0)?;
                self.steps
            }
            GroundTruthWeight::Estimated => self.steps,
        };
        if self.steps == 0 || needed < self.steps {
            return Err(Error::value("steps", "at least 1, with a weight each", self.steps));
        }
        let mut chain: Vec<Student<M>> = vec![Student { model: train(1, 1.0, None)?, alpha: 1.0 }];
        let first = predict(&chain[0].model)?;
        for step in 2..=self.steps {
            let teacher = &chain[step - 2].model;
            let alpha = match &self.alpha {
                GroundTruthWeight::Constant(alpha) => *alpha,
                GroundTruthWeight::PerStep(alphas) => alphas[step - 1],
                GroundTruthWeight::Estimated => {
                    let distilled = train(step, 0.0, Some(teacher))?;
                    optimal_alpha(y, &first, &predict(&distilled)?, true)?
                }
            };
            let model = train(step, alpha, Some(teacher))?;
            chain.push(Student { model, alpha });
        }
        Ok(chain)
    }
}
