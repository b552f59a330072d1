//! Knowledge distillation and self-distillation: one validated method per paper.
//!
//! ```
//! use autodidact_distill::logits::kd;
//! use tch::Tensor;
//!
//! // A student pays for what its teacher knows beside the right class.
//! let student = Tensor::from_slice2(&[[2f64, 1., 0., -1.]]);
//! let teacher = Tensor::from_slice2(&[[3f64, 1., 0.5, -1.]]);
//! assert!((kd(&student, &teacher, 1.0)?.double_value(&[]) - 0.07097041).abs() < 1e-8);
//! # Ok::<(), autodidact_core::Error>(())
//! ```

pub mod dataset_distillation_ssl;
pub mod distilled_data;
pub mod dual_head_distillation;
pub mod learning_from_future;
pub mod logits;
pub mod model_extraction;
pub mod normalized_distillation;
pub mod random_teachers;
pub mod self_distilled_pretraining;
pub mod smooth_trajectories;
pub mod teacher_guidance;

/// What the README shows compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
