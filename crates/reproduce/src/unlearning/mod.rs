//! Experiments of `autodidact-unlearning`.

mod homeostatic;
mod label_agnostic_forgetting;

pub use homeostatic::Homeostatic;
pub use label_agnostic_forgetting::LabelAgnosticForgetting;
