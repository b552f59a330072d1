//! Experiments of `autodidact-pruning`.

mod essential_sparsity;

pub use essential_sparsity::EssentialSparsity;
