//! Experiments of `autodidact-pruning`.

mod essential_sparsity;
mod three_regimes;

pub use essential_sparsity::EssentialSparsity;
pub use three_regimes::ThreeRegimes;
