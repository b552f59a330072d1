//! The norms of transformers.

use tch::Tensor;
use tch::nn::{self, Init, LayerNorm, LayerNormConfig, Module, Path};

/// Vectors of the last dimension at unit length (those shorter than 1e-12 stay short).
pub fn unit(x: &Tensor) -> Tensor {
    x / x.norm_scalaropt_dim(2.0, [-1i64].as_slice(), true).clamp_min(1e-12)
}

/// What is normalised in a transformer's blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransformerNorm {
    /// Layer norm: mean and variance over the features, gain and shift.
    Layer,
    /// Layer norm with a gain and no shift.
    LayerGain,
    /// RMS norm (Zhang and Sennrich, 2019, arXiv 1910.07467): `x / sqrt(mean(x^2) + eps)`, gain only.
    Rms,
}

/// A norm over the last dimension, gain 1 and shift 0 at the start.
#[derive(Debug)]
pub(super) enum NormLayer {
    Layer(LayerNorm),
    Gain { weight: Tensor, eps: f64 },
    Rms { weight: Tensor, eps: f64 },
}

impl NormLayer {
    pub fn new(p: Path, width: i64, kind: TransformerNorm, eps: f64) -> Self {
        match kind {
            TransformerNorm::Layer => {
                Self::Layer(nn::layer_norm(p, vec![width], LayerNormConfig { eps, ..LayerNormConfig::default() }))
            }
            TransformerNorm::LayerGain => Self::Gain { weight: p.var("weight", &[width], Init::Const(1.0)), eps },
            TransformerNorm::Rms => Self::Rms { weight: p.var("weight", &[width], Init::Const(1.0)), eps },
        }
    }

    /// Gain, and shift where there is one.
    pub fn parameters(&self) -> (Option<&Tensor>, Option<&Tensor>) {
        match self {
            Self::Layer(norm) => (norm.ws.as_ref(), norm.bs.as_ref()),
            Self::Gain { weight, .. } | Self::Rms { weight, .. } => (Some(weight), None),
        }
    }
}

impl Module for NormLayer {
    fn forward(&self, x: &Tensor) -> Tensor {
        match self {
            Self::Layer(norm) => norm.forward(x),
            Self::Gain { weight, eps } => x.layer_norm(weight.size(), Some(weight), None::<&Tensor>, *eps, false),
            Self::Rms { weight, eps } => x.rms_norm(weight.size(), Some(weight), *eps),
        }
    }
}
