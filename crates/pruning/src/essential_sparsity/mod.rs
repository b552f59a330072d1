//! The Emergence of Essential Sparsity in Large Pre-trained Models: The Weights that Matter (Jaiswal, Liu, Chen and Wang, 2023;
//! arXiv 2306.03805): how many of the smallest weights of a pre-trained network can be removed at once, for free.
//!
//! With a mask `m` of the weights that one-shot magnitude pruning keeps, and `E` the score after fine-tuning with the mask fixed, the
//! essential sparsity is the sparsity `s*` of the sharp knee:
//!
//! `E(m theta) >= E(theta) - eps`,  and removing a little more breaks it.
//!
//! - The masks are those of [`crate::pruners`]; the expensive ones of lottery tickets come from
//!   [`autodidact_core::masks::prune_in_rounds`]; networks train under them by applying them after each step.
//! - [`essential_sparsity`] reads `s*` off a curve, [`Knee`] says how sharp it is.
//! - [`zero_fraction`] and [`Abruptness`] follow how sparsity emerges in pre-training.
//!
//! ```
//! use autodidact_pruning::essential_sparsity::{Knee, essential_sparsity};
//! let curve = [(0.0, 90.0), (0.1, 90.2), (0.2, 89.5), (0.3, 89.1), (0.4, 88.7), (0.5, 89.3)];
//! // Within a point of the dense 90: up to 0.3; that 0.5 comes back is noise.
//! assert_eq!(essential_sparsity(&curve, 90.0, 1.0)?, Some(0.3));
//! let knee = Knee::of(&[(0.0, 90.0), (0.2, 90.0), (0.4, 89.0), (0.6, 60.0), (0.8, 30.0)])?;
//! assert!(knee.at == 0.4 && knee.sharpness() > 10.0);
//! # Ok::<(), autodidact_core::Error>(())
//! ```

mod curve;
mod emergence;

pub use curve::{Knee, essential_sparsity};
pub use emergence::{Abruptness, decayed_at, zero_fraction};

/// How many times as steep a rise is after a break as before it: infinite where there is none before it, 0 where there is none after it.
fn steepening(before: f64, after: f64) -> f64 {
    match (before, after) {
        (_, after) if after <= 0.0 => 0.0,
        (before, _) if before <= 0.0 => f64::INFINITY,
        (before, after) => after / before,
    }
}
