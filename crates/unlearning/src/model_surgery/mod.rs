//! MOS: Model Surgery for Pre-Trained Model-Based Class-Incremental Learning (Sun, Zhou, Zhao, Gan, Zhan and Ye, 2025; arXiv 2412.09441):
//! one adapter per task over a frozen vision transformer.
//!
//! Classes come task by task, earlier samples do not come back, and at test time the task is not known. Two kinds of forgetting are
//! treated. Adapters that are trained one after the other drift: after each step the one in training is pulled to the mean of its
//! predecessors ([`AdapterBank::merge`]), `A <- (1 - alpha) A + alpha / b * sum_(k < b) A_k`. And the wrong task's adapter may be taken:
//! what the classifier predicts with it names the next one, until they agree ([`self_refine`]). The classifier is aligned with normal
//! distributions of all classes ([`GaussianMemory`], [`align_classifier`]), and in the end the prototypes of the first adapter and the
//! retrieved adapter decide together ([`two_stage_ensemble`]): `softmax(l) + softmax(tasks * cos)`.
//!
//! [`Mos`] puts it together; what it is compared with learns behind the same trait, [`CilLearner`]:
//!
//! | learner | trains | classifies by |
//! |---|---|---|
//! | [`Finetune`] | all weights | linear |
//! | [`Lwf`] | all weights, with distillation | linear |
//! | [`Slca`] | all weights, slowly | linear, aligned |
//! | [`FinetuneAdapter`] | one adapter | linear |
//! | [`SimpleCil`] | nothing | prototypes |
//! | [`Aper`] | an adapter on the first task | prototypes |
//! | [`Ease`] | an adapter per task, each from the start | prototypes in every subspace |
//!
//! ```
//! use autodidact_unlearning::model_surgery::two_stage_ensemble;
//! use tch::Tensor;
//! let retrieved = Tensor::from_slice2(&[[2f64, 1.0, 0.0]]);
//! let general = Tensor::from_slice2(&[[0.9f64, 0.5, 0.1]]);
//! // (0.66524, 0.24473, 0.09003) + (0.71844, 0.21639, 0.06518)
//! let scores = Vec::<f64>::try_from(two_stage_ensemble(&retrieved, &general, 3)?.view([-1]))?;
//! assert!((scores[0] - 1.38368).abs() < 1e-5 && (scores[2] - 0.15520).abs() < 1e-5);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod adapter;
mod backbone;
mod heads;
mod learner;
mod memory;
mod mos;
mod prototypes;
mod retrieval;
mod tuned;

pub use adapter::{AdapterBank, AdapterConfig, AdapterSet, MergeSchedule};
pub use backbone::AdaptedVit;
pub use heads::{Alignment, CosineHead, LinearHead, align_classifier, orth_loss};
pub use learner::{CilLearner, CilMetrics, TaskTraining, Tasks};
pub use memory::{GaussianMemory, MemoryKind};
pub use mos::{Decision, Inference, Mos, MosConfig};
pub use prototypes::{Aper, Ease, SimpleCil};
pub use retrieval::{Refined, self_refine, two_stage_ensemble};
pub use tuned::{Finetune, FinetuneAdapter, Lwf, Slca, SlcaConfig};
