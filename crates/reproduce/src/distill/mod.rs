//! Experiments of `autodidact-distill`.

mod normalized_distillation;
mod teacher_guidance;

pub use normalized_distillation::NormalizedDistillation;
pub use teacher_guidance::TeacherGuidance;
