//! Experiments of `autodidact-preference`.

mod cream;
mod garland;
mod implicit_prm;
pub(crate) mod language;
mod online_self_preferring;
mod preference_degree;
mod preference_logic;
mod rpo;
mod self_correction_learning;
mod self_rationalization;
mod srpo;

pub use cream::Cream;
pub use implicit_prm::ImplicitPrm;
pub use online_self_preferring::OnlineSelfPreferring;
pub use preference_degree::PreferenceDegree;
pub use preference_logic::PreferenceLogic;
pub use rpo::RpoExperiment;
pub use self_correction_learning::SelfCorrectionLearning;
pub use self_rationalization::SelfRationalization;
pub use srpo::SrpoExperiment;
