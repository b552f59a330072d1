//! Experiments of `autodidact-unlearning`.

mod homeostatic;

pub use homeostatic::Homeostatic;
