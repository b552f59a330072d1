//! Heads, from the representation that is kept to the embedding that the loss sees.

use autodidact_core::device::on_host;
use autodidact_core::error::check_range;
use autodidact_core::nn::layers;
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::nn::{Init, Linear, Module, Path};
use tch::{Device, Kind, Tensor};

/// A representation below and above a head.
#[derive(Debug)]
pub struct Taps {
    /// What downstream tasks use, `[N, p]`.
    pub pre: Tensor,
    /// What the loss sees, `[N, q]`.
    pub post: Tensor,
}

/// A map from representations `[N, p]` to embeddings `[N, q]`, the same in training and evaluation: a batch norm here would
/// undo the weighting of features.
pub trait ProjectionHead: Module {
    /// The representation with its embedding; gradients flow through both.
    fn forward_with_taps(&self, pre: Tensor) -> Taps {
        let post = self.forward(&pre);
        Taps { pre, post }
    }
}

impl<M: Module> ProjectionHead for M {}

/// The loss sees the representation itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NoHead;

impl Module for NoHead {
    fn forward(&self, x: &Tensor) -> Tensor {
        x.shallow_clone()
    }
}

/// Coordinate `i` of `1..=p` multiplied by `kappa^-(i-1)`, without parameters.
///
/// In 32 bits the last weights of a wide representation are 0 for large `kappa` (from 1.25 at 512 coordinates): those
/// coordinates get no gradient and keep what the initialisation gave them, which is part of the effect.
#[derive(Debug)]
pub struct FixedReweightHead {
    weights: Tensor,
}

impl FixedReweightHead {
    /// The paper's `kappa` for self-supervised training.
    pub const SELF_SUPERVISED: f64 = 1.05;
    /// The paper's `kappa` for supervised training.
    pub const SUPERVISED: f64 = 1.2;
    /// The paper's `kappa` for supervised contrastive training.
    pub const SUPERVISED_CONTRASTIVE: f64 = 1.5;

    /// For representations of this width; 1 is the identity.
    ///
    /// # Errors
    /// `kappa` below 1, a width that is not positive.
    pub fn new(kappa: f64, width: i64, device: Device) -> Result<Self> {
        check_range("kappa", kappa, 1.0..)?;
        check_range("width", width as f64, 1.0..)?;
        let weights = (Tensor::arange(width, on_host(Kind::Double)) * -kappa.ln()).exp();
        Ok(Self { weights: weights.to_kind(Kind::Float).to_device(device) })
    }

    /// The weights, `[p]`.
    pub fn weights(&self) -> &Tensor {
        &self.weights
    }
}

impl Module for FixedReweightHead {
    fn forward(&self, x: &Tensor) -> Tensor {
        x * &self.weights
    }
}

/// `relu(t - b) - relu(-t - b)`: 0 for `|t| <= b`, else `t` moved towards 0 by `b`. Odd, so that a feature and its negation
/// are treated alike.
#[derive(Debug)]
pub struct SymmetricRelu {
    b: Threshold,
}

#[derive(Debug)]
enum Threshold {
    Fixed(f64),
    /// A scalar.
    Learned(Tensor),
}

impl SymmetricRelu {
    /// With a constant threshold `b`; 0 is the identity.
    ///
    /// # Errors
    /// A negative threshold.
    pub fn new(b: f64) -> Result<Self> {
        check_range("b", b, 0.0..)?;
        Ok(Self { b: Threshold::Fixed(b) })
    }

    /// With a threshold that is learned, as variable `b` under `p`, from the value `b` on. Where it becomes negative the map
    /// jumps at 0 instead of having a dead zone.
    ///
    /// # Errors
    /// A negative threshold.
    pub fn learnable(p: &Path, b: f64) -> Result<Self> {
        check_range("b", b, 0.0..)?;
        Ok(Self { b: Threshold::Learned(p.var("b", &[], Init::Const(b))) })
    }
}

impl Module for SymmetricRelu {
    fn forward(&self, x: &Tensor) -> Tensor {
        match &self.b {
            Threshold::Fixed(0.0) => x.shallow_clone(),
            Threshold::Fixed(b) => x - x.clamp(-b, *b),
            Threshold::Learned(b) => (x - b).relu() - (-x - b).relu(),
        }
    }
}

/// Shape of an [`MlpHead`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MlpHeadConfig {
    /// `p`, width of the representation and of the hidden layer.
    pub width: i64,
    /// `q`, width of the embedding.
    pub output: i64,
    /// Threshold of a learned symmetrised ReLU in place of the ReLU.
    pub symmetric: Option<f64>,
}

impl MlpHeadConfig {
    /// The head for contrastive losses: embeddings of width 128.
    pub fn contrastive(width: i64) -> Self {
        Self { width, output: 128, symmetric: None }
    }

    /// The head for supervised training, behind which a classifier stands: embeddings as wide as the representation.
    pub fn supervised(width: i64) -> Self {
        Self { width, output: width, symmetric: None }
    }
}

/// A linear layer, ReLU (or symmetrised ReLU), a linear layer; with biases, without batch norm.
#[derive(Debug)]
pub struct MlpHead {
    hidden: Linear,
    activation: Option<SymmetricRelu>,
    output: Linear,
}

impl MlpHead {
    /// Fresh weights under `p`.
    ///
    /// # Errors
    /// Widths that are not positive, a negative threshold.
    pub fn new(p: &Path, config: &MlpHeadConfig) -> Result<Self> {
        if config.width < 1 || config.output < 1 {
            let got = format!("{} and {}", config.width, config.output);
            return Err(Error::value("widths of the head", "positive numbers", got));
        }
        let activation = config.symmetric.map(|b| SymmetricRelu::learnable(&(p / "activation"), b)).transpose()?;
        let hidden = layers::linear(p / "hidden", config.width, config.width, true);
        let output = layers::linear(p / "output", config.width, config.output, true);
        Ok(Self { hidden, activation, output })
    }
}

impl Module for MlpHead {
    fn forward(&self, x: &Tensor) -> Tensor {
        let hidden = self.hidden.forward(x);
        let hidden = match &self.activation {
            None => hidden.relu(),
            Some(symmetric) => symmetric.forward(&hidden),
        };
        self.output.forward(&hidden)
    }
}
