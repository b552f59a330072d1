//! Monitors of training runs: what tells that a run is about to become unstable, and how sensitive runs are to their learning rate.
//!
//! Attention scores and output logits that grow, gradients that shrink to Adam's epsilon, and the spread of final losses over learning
//! rates are the signs that Wortsman et al. (2023; arXiv 2309.14322) read in small models to foresee what large ones do. The curvature of
//! the loss and tangent kernels are in [`autodidact_core::curvature`] and [`autodidact_core::tangent`].
//!
//! What is measured in a step is a scalar tensor where the network is: nothing waits for the device until a value is read, and a
//! [`Recorder`] reads many at once.
//!
//! ```
//! use autodidact_scaling::monitors::lr_sensitivity;
//! // Losses 2, 1 and divergence, from 4 at the start: mean(2, 1, 4) - 1.
//! let s = lr_sensitivity(&[(1e-3, 2.0), (1e-2, 1.0), (1e-1, f64::NAN)], 4.0).unwrap();
//! assert!((s.value - 4.0 / 3.0).abs() < 1e-12);
//! assert_eq!((s.best_lr, s.best_loss, s.diverged), (1e-2, 1.0, 1));
//! ```

mod attention;
mod outputs;
mod prediction;
mod recorder;
mod sensitivity;
mod updates;

pub use attention::{AttentionStats, Pairs, attention_stats, max_attention_logit};
pub use outputs::{OutputStats, cross_entropy_with_z, output_stats, z_loss};
pub use prediction::{Polynomial, predict_next_scale};
pub use recorder::Recorder;
pub use sensitivity::{LrSensitivity, lr_sensitivity, lr_sensitivity_over_ranges};
pub use updates::{adam_direction, adam_update_rms, gradient_norm, gradient_rms, rms};
