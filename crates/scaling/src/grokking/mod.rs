//! Grokking as the transition from lazy to rich training (Kumar, Bordelon, Gershman and Pehlevan, ICLR 2024; arXiv 2310.06110).
//!
//! A network may fit its training set with the tangent kernel that it starts with, and generalise only much later, when it has learned
//! features: no weight decay is needed, and the scale `alpha` of the output decides how late. The paper's example is a two-layer network
//! with a fixed read-out, `f(x) = alpha/N sum_i (w_i.x + eps/2 (w_i.x)^2)`, on a target `(beta.x)^2 / 2` with `x ~ N(0, I/D)`. It depends
//! on its weights through `wbar = mean_i w_i` and `M = mean_i w_i w_i^T` alone, so that its test loss is known exactly: with `A = alpha eps
//! M - beta beta^T`,
//!
//! `L = (tr A / D)^2 / 4  +  |A|^2 / (2 D^2)  +  alpha^2 |wbar|^2 / D`:
//! variance, misalignment and power of the linear part.
//!
//! [`QuadraticNet`] is that network with these statistics and its tangent kernel, [`GrokTrainer`] its gradient descent (in a form that
//! needs no more than `D + 1` units however many the network has), [`Linearised`] and [`KernelRegression`] the lazy references,
//! [`PopulationFlow`] its course with unlimited data. [`OutputScaled`] turns the same knob on any network; [`NtkMlp`] and
//! [`ModularAddition`] are what the paper turns it on.
//!
//! ```
//! use autodidact_scaling::grokking::QuadraticNet;
//! use tch::{Device, Kind, Tensor};
//!
//! let net = QuadraticNet::new(Tensor::eye(2, (Kind::Double, Device::Cpu)), 2.0, 0.5)?;
//! let x = Tensor::from_slice2(&[[1f64, 2.0]]);
//! // (2/2) ((1 + 0.25) + (2 + 1)).
//! assert!((net.forward(&x)?.double_value(&[0]) - 4.25).abs() < 1e-12);
//! let terms = net.test_loss_terms(&Tensor::from_slice(&[2f64.sqrt(), 0.0]), None)?;
//! assert!((terms.variance - 0.0625).abs() < 1e-12 && (terms.misalignment - 0.3125).abs() < 1e-12);
//! assert!((terms.total() - 1.375).abs() < 1e-12);
//! # Ok::<(), autodidact_core::Error>(())
//! ```

mod lazy;
mod mlp;
mod modular;
mod net;
mod scaled;
mod theory;
mod train;

pub use lazy::{KernelRegression, LazyState, Linearised};
pub use mlp::NtkMlp;
pub use modular::ModularAddition;
pub use net::{QuadraticNet, Statistics, TestLossTerms};
pub use scaled::OutputScaled;
pub use theory::{FlowState, PopulationFlow, initial_terms};
pub use train::{GrokRecord, GrokTrainer, log_steps};

use autodidact_core::device::on_host;
use autodidact_core::error::check_range;
use autodidact_core::{Result, seed};
use tch::{Kind, Tensor};

/// The single-index target `(beta.x)^2 / 2` on inputs `x ~ N(0, I/D)`.
#[derive(Debug)]
pub struct SingleIndex {
    /// `beta [D]` (f64).
    pub beta: Tensor,
    seed: u64,
}

impl SingleIndex {
    /// A direction `beta ~ N(0, I)`, with `normalise` of squared length `D` exactly, which keeps the target's variance (1/2) the same for
    /// all seeds. Seeds libtorch's generator, as [`sample`](Self::sample) does.
    ///
    /// # Errors
    /// `d` below 1.
    pub fn new(d: i64, seed: u64, normalise: bool) -> Result<Self> {
        check_range("dimension", d as f64, 1.0..)?;
        seed::seed_torch(seed, &["beta"]);
        let mut beta = Tensor::randn([d], on_host(Kind::Double));
        if normalise {
            beta = &beta * ((d as f64).sqrt() / beta.norm());
        }
        Ok(Self { beta, seed })
    }

    /// `p` inputs `[P, D]` and their targets `[P]` (f64, on the CPU), a function of the seed, `p` and the name of the set.
    ///
    /// # Errors
    /// `p` below 1.
    pub fn sample(&self, p: i64, set: &str) -> Result<(Tensor, Tensor)> {
        check_range("samples", p as f64, 1.0..)?;
        seed::seed_torch(self.seed, &["inputs", set]);
        let d = self.beta.size()[0];
        let x = Tensor::randn([p, d], on_host(Kind::Double)) / (d as f64).sqrt();
        let y = self.target(&x)?;
        Ok((x, y))
    }

    /// `(beta.x)^2 / 2 [P]` of inputs `[P, D]` (f64).
    ///
    /// # Errors
    /// Inputs of another width or type.
    pub fn target(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_mv(&self.beta)?.square() * 0.5)
    }
}

/// When training and test loss first are at or below a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrokGap {
    /// Step of the training loss; `None` if it never is.
    pub t_train: Option<usize>,
    /// Step of the test loss.
    pub t_test: Option<usize>,
}

impl GrokGap {
    /// Steps between the two; negative where the test loss is first. `None` unless both happen.
    pub fn gap(&self) -> Option<f64> {
        Some(self.t_test? as f64 - self.t_train? as f64)
    }

    /// `ln(t_test / t_train)`, with step 0 counted as 1.
    pub fn log_ratio(&self) -> Option<f64> {
        Some((self.t_test?.max(1) as f64 / self.t_train?.max(1) as f64).ln())
    }
}

/// The gap of a curve of `(step, training loss, test loss)`, by ascending step.
///
/// ```
/// use autodidact_scaling::grokking::grok_gap;
/// let gap = grok_gap(&[(0, 1.0, 1.0), (10, 0.01, 1.2), (100, 0.001, 0.9), (1000, 0.0, 0.01)], 0.02);
/// assert_eq!((gap.t_train, gap.t_test, gap.gap()), (Some(10), Some(1000), Some(990.0)));
/// assert!((gap.log_ratio().unwrap() - 100f64.ln()).abs() < 1e-12);
/// ```
pub fn grok_gap(curve: &[(usize, f64, f64)], threshold: f64) -> GrokGap {
    let first = |loss: fn(&(usize, f64, f64)) -> f64| curve.iter().find(|p| loss(p) <= threshold).map(|p| p.0);
    GrokGap { t_train: first(|p| p.1), t_test: first(|p| p.2) }
}
