//! Shen, Yang and Lam, "Efficient Dataset Distillation through Alignment with Smooth and High-Quality Expert Trajectories" (2023),
//! arXiv 2310.10541; on the ground of Cazenavette et al., "Dataset Distillation by Matching Training Trajectories" (2022).
//!
//! A few synthetic images are learned such that a student trained on them for `N` steps from an expert's weights after epoch `s`
//! ends where the expert is after epoch `s + M`:
//!
//! `L = |theta_N - theta*_{s+M}|^2 / |theta_0 - theta*_{s+M}|^2` (+ the same at the epochs between).
//!
//! Experts are trained to move smoothly ([`smooth_expert`]: a loss that ramps up, a penalty on the gradient with respect to images),
//! and the matching is steadied: the student's loss is weighted by the start epoch ([`balance_factor`]), its start is perturbed
//! ([`perturb_convolutions`]), intermediate epochs count ([`Intermediate`]), and the first images represent their class
//! ([`representative`](crate::distilled_data::representative)). With all of it off, this is plain trajectory matching
//! ([`TrajectoryMatching::mtt`]).
//!
//! ```
//! use autodidact_core::seed::rng;
//! use autodidact_distill::distilled_data::{FlatConvNet, FlatConvNetConfig, InnerLoop, Recipe};
//! use autodidact_distill::smooth_trajectories::{TrajectoryBuffer, TrajectoryMatching};
//! use tch::{Device, Kind, Tensor};
//!
//! let net = FlatConvNet::new(FlatConvNetConfig { channels: 1, side: 8, width: 4, depth: 1, classes: 2 })?;
//! let real = Tensor::randn([20, 1, 8, 8], (Kind::Float, Device::Cpu));
//! let labels = Tensor::arange(20, (Kind::Int64, Device::Cpu)).remainder(2);
//! let recipe = Recipe { epochs: 3, batch: 10, augment: None, ..Recipe::default() };
//! let mut buffer = TrajectoryBuffer::default();
//! buffer.push(recipe.trajectory(&net, (&real, &labels), &mut rng(0, &["expert"]))?)?;
//!
//! let matching = TrajectoryMatching { inner: InnerLoop { steps: 4, momentum: 0.0, kept: None }, ..TrajectoryMatching::mtt() };
//! let matching = TrajectoryMatching { expert_epochs: 1, max_start: 2, augment: None, ..matching };
//! let images = real.narrow(0, 0, 2).copy().set_requires_grad(true);
//! let step_size = Tensor::from(0.01f32).set_requires_grad(true);
//! let data = (&images, &labels.narrow(0, 0, 2));
//! let losses = matching.forward(&net, &buffer, data, &step_size, &mut rng(0, &["matching"]))?;
//! losses.total.backward();
//! assert_eq!(images.grad().size(), [2, 1, 8, 8]);
//! # Ok::<(), autodidact_core::Error>(())
//! ```

mod buffer;
mod matching;

pub use buffer::{Smoothness, TrajectoryBuffer};
pub use matching::{
    Intermediate, MatchingOutput, TrajectoryMatching, balance_factor, intermediate_steps, normalised_distance,
    perturb_convolutions,
};

use crate::distilled_data::{GradientPenalty, Ramp, Recipe};

/// The stronger expert: momentum 0.9, weight decay 1e-3, learning rate 0.003, times 0.6 after half of the epochs.
pub fn strong_expert() -> Recipe {
    Recipe { lr: 0.003, momentum: 0.9, weight_decay: 1e-3, decay: 0.6, ..Recipe::default() }
}

/// The strong expert made smooth: ramped loss and gradient penalty.
pub fn smooth_expert() -> Recipe {
    Recipe { ramp: Some(Ramp::default()), penalty: Some(GradientPenalty::default()), ..strong_expert() }
}
