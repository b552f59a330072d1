//! Experiments of `autodidact-distill`.

mod teacher_guidance;

pub use teacher_guidance::TeacherGuidance;
