//! Experiments of `autodidact-distill`.

mod classifier;
mod dataset_distillation_ssl;
mod dual_head_distillation;
mod learning_from_future;
mod model_extraction;
mod normalized_distillation;
mod random_teachers;
mod self_distilled_pretraining;
mod smooth_trajectories;
mod teacher_guidance;

pub use dataset_distillation_ssl::DatasetDistillationSsl;
pub use dual_head_distillation::DualHeadDistillation;
pub use learning_from_future::LearningFromFuture;
pub use model_extraction::ModelExtraction;
pub use normalized_distillation::NormalizedDistillation;
pub use random_teachers::RandomTeachers;
pub use self_distilled_pretraining::SelfDistilledPretraining;
pub use smooth_trajectories::SmoothTrajectories;
pub use teacher_guidance::TeacherGuidance;
