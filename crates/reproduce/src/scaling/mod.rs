//! Experiments of `autodidact-scaling`.

mod autoregressive_scaling;
mod characters;
mod grokking;
mod implicit_bias_flatness;
mod inductive_bias;
mod infinite_lr;
mod loss_reweighting;
mod lr_annealing_law;
mod recall;
mod scaling_law_estimation;
mod training_instabilities;
mod translation_scaling;

pub use autoregressive_scaling::AutoregressiveScaling;
pub use grokking::Grokking;
pub use implicit_bias_flatness::ImplicitBiasFlatness;
pub use inductive_bias::InductiveBias;
pub use infinite_lr::InfiniteLr;
pub use loss_reweighting::LossReweighting;
pub use lr_annealing_law::LrAnnealingLaw;
pub use scaling_law_estimation::ScalingLawEstimation;
pub use training_instabilities::TrainingInstabilities;
pub use translation_scaling::TranslationScaling;
