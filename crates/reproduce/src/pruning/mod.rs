//! Experiments of `autodidact-pruning`.

mod essential_sparsity;
mod fire_together;
mod three_regimes;

pub use essential_sparsity::EssentialSparsity;
pub use fire_together::FireTogether;
pub use three_regimes::ThreeRegimes;
