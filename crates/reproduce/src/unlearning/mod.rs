//! Experiments of `autodidact-unlearning`.

mod flat;
mod homeostatic;
mod label_agnostic_forgetting;
mod model_surgery;

pub use flat::FlatExperiment;
pub use homeostatic::Homeostatic;
pub use label_agnostic_forgetting::LabelAgnosticForgetting;
pub use model_surgery::ModelSurgery;
