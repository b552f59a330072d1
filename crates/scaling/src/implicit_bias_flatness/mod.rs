//! Same Pre-training Loss, Better Downstream: Implicit Bias Matters for Language Models (Liu, Xie, Li and Ma, 2023; arXiv 2210.14199):
//! models of the same, minimal pre-training loss differ downstream, and flatness tells them apart.
//!
//! Where a model's predictions are those of the language, the covariance of a sample's gradient is the Hessian of the loss:
//!
//! `L(theta) = E_x E_(y ~ p*(.|x)) [-log p_theta(y|x)]`, `p_theta = p*`  gives  `E[grad] = 0`, `Cov[grad] = E[grad log p grad log p^T] = grad^2 L`.
//!
//! So the noise of stochastic gradient descent with batches of `B` is `grad^2 L / B`, and on the manifold of minimisers it drives training
//! slowly, at a rate of order `eta^2 / B` per step, towards a smaller trace of the Hessian; descent without noise stays where it is.
//!
//! - [`BinaryLanguage`]: inputs that can all be listed with the probabilities of their labels, so that loss and entropy are exact; the
//!   XOR-language is one. [`SaturationMeter`] says how far a loss is from the entropy.
//! - [`TwoLayer`]: a ReLU network with its gradient and the trace of its Hessian in closed form.
//! - [`continue_training`], [`anneal_to_manifold`], [`frozen_random_features`], [`adversarial_pretrain`]: ways to one loss.
//! - [`trace`]: the Fisher form of the trace, sampled or exact, for any model.
//! - [`RidgeShots`], [`linear_probe`], [`finetune`], [`flatness_report`]: what differs downstream, and what predicts it.
//!
//! ```
//! use autodidact_scaling::implicit_bias_flatness::{BinaryLanguage, SaturationMeter, TwoLayer, Init};
//! // P(y = 1 | x) = sigmoid(2 x_1 x_2): the entropy is that of sigmoid(2) = 0.8808 for every input.
//! let language = BinaryLanguage::xor(4, 2.0)?;
//! assert!((language.entropy() - 0.365334).abs() < 1e-6);
//! // A network whose output is zero pays ln 2.
//! let net = TwoLayer::new(4, 8, &Init::default(), 0)?;
//! let meter = SaturationMeter { entropy: language.entropy(), tol: 0.002 };
//! let excess = meter.excess(net.loss(&language)?.double_value(&[]));
//! assert!((excess - 0.327813).abs() < 1e-6 && !meter.saturated(excess));
//! # Ok::<(), autodidact_core::Error>(())
//! ```

mod adversary;
mod language;
mod probe;
mod report;
pub mod trace;
mod training;
mod two_layer;

pub use adversary::{Adversary, adversarial_pretrain};
pub use language::{BinaryLanguage, SaturationMeter};
pub use probe::{RidgeShots, finetune, linear_probe};
pub use report::{Checkpoint, FlatnessReport, flatness_report};
pub use training::{Noise, Training, anneal_to_manifold, continue_training, frozen_random_features};
pub use two_layer::{Init, OutputScale, TwoLayer};
