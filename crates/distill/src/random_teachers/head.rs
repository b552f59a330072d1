//! The head of self-distillation: an MLP, and a bottleneck on the unit sphere.

use autodidact_core::nn::unit;
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::Tensor;
use tch::nn::{self, Init, Linear, LinearConfig, Module, Path};

/// Shape of a [`Head`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadConfig {
    /// Width of the features it reads.
    pub input: i64,
    /// Widths of the hidden layers, each followed by GELU.
    pub hidden: Vec<i64>,
    /// Width of the bottleneck.
    pub bottleneck: i64,
    /// `m`, number of outputs.
    pub outputs: i64,
    /// Whether the rows of the output weights are brought to length 1 in every forward pass.
    pub normalise_weights: bool,
    /// Whether the bottleneck's vectors are brought to length 1.
    pub normalise_features: bool,
}

impl HeadConfig {
    /// The paper's head on features of a width: two hidden layers of 2,048, a bottleneck of 256, 65,536 outputs, all normalised.
    pub fn new(input: i64) -> Self {
        Self {
            input,
            hidden: vec![2048, 2048],
            bottleneck: 256,
            outputs: 1 << 16,
            normalise_weights: true,
            normalise_features: true,
        }
    }
}

/// DINO's head (Caron et al., 2021; arXiv 2104.14294) without batch norm: an MLP to `z`, then `o_i = v_i . z / (|v_i| |z|)`, so that
/// logits are cosines, in `[-1, 1]`. All weights, the rows `v_i` too, are trained; they start normal with standard deviation
/// 0.02 (the published truncation, at a hundred of them, never cuts), biases at 0.
#[derive(Debug)]
pub struct Head {
    layers: Vec<Linear>,
    output: Linear,
    config: HeadConfig,
}

impl Head {
    /// A head with fresh weights under `p`.
    ///
    /// # Errors
    /// Widths that are not positive.
    pub fn new(p: Path, config: &HeadConfig) -> Result<Self> {
        let HeadConfig { input, hidden, bottleneck, outputs, .. } = config;
        let widths: Vec<i64> = [*input].iter().chain(hidden).chain([bottleneck]).copied().collect();
        if widths.iter().chain([outputs]).any(|w| *w < 1) {
            let got = format!("{widths:?} and {outputs}");
            return Err(Error::value("widths of the head", "positive numbers", got));
        }
        let ws_init = Init::Randn { mean: 0.0, stdev: 0.02 };
        let linear = |name: &str, input, output, bias| {
            let config = LinearConfig { ws_init, bs_init: Some(Init::Const(0.0)), bias };
            nn::linear(&p / name, input, output, config)
        };
        let layers = widths.windows(2).enumerate().map(|(i, w)| linear(&i.to_string(), w[0], w[1], true)).collect();
        let output = linear("output", *bottleneck, *outputs, false);
        Ok(Self { layers, output, config: config.clone() })
    }
}

impl Module for Head {
    /// Features `[N, input]` to logits `[N, outputs]`.
    fn forward(&self, x: &Tensor) -> Tensor {
        let last = self.layers.len() - 1;
        let mut z = x.shallow_clone();
        for (i, layer) in self.layers.iter().enumerate() {
            z = layer.forward(&z);
            if i < last {
                z = z.gelu("none");
            }
        }
        let z = if self.config.normalise_features { unit(&z) } else { z };
        if self.config.normalise_weights { z.matmul(&unit(&self.output.ws).tr()) } else { self.output.forward(&z) }
    }
}
