//! Layers with PyTorch's default initialisation.

use tch::nn::{self, Init, Path};

/// PyTorch's default for weights and biases: `U(-1/sqrt(fan_in), 1/sqrt(fan_in))`.
pub(super) fn uniform(fan_in: i64) -> Init {
    let bound = 1.0 / (fan_in as f64).sqrt();
    Init::Uniform { lo: -bound, up: bound }
}

/// Fully connected layer, `[..., in] -> [..., out]`.
pub fn linear(p: Path, input: i64, output: i64, bias: bool) -> nn::Linear {
    let config = nn::LinearConfig { ws_init: uniform(input), bs_init: Some(uniform(input)), bias };
    nn::linear(p, input, output, config)
}

/// A constructor of linear layers: path, inputs, outputs, whether there is a bias.
pub(super) type MakeLinear = fn(Path, i64, i64, bool) -> nn::Linear;

/// [`linear`] with weights of zero: for weights that are read from a file, which need no draws.
pub(super) fn blank_linear(p: Path, input: i64, output: i64, bias: bool) -> nn::Linear {
    let zero = Init::Const(0.0);
    nn::linear(p, input, output, nn::LinearConfig { ws_init: zero, bs_init: Some(zero), bias })
}

/// Square 2-D convolution, `[N, in, H, W] -> [N, out, H', W']`.
pub fn conv2d(p: Path, input: i64, output: i64, kernel: i64, stride: i64, padding: i64, bias: bool) -> nn::Conv2D {
    let fan_in = uniform(input * kernel * kernel);
    let config = nn::ConvConfig { stride, padding, bias, ws_init: fan_in, bs_init: fan_in, ..Default::default() };
    nn::conv2d(p, input, output, kernel, config)
}

/// Convolution without bias, initialised as in the ResNet paper's code: normal, fan-out, gain of ReLU.
pub fn conv2d_he(p: Path, input: i64, output: i64, kernel: i64, stride: i64, padding: i64) -> nn::Conv2D {
    let stdev = (2.0 / (output * kernel * kernel) as f64).sqrt();
    let ws_init = Init::Randn { mean: 0.0, stdev };
    nn::conv2d(p, input, output, kernel, nn::ConvConfig { stride, padding, bias: false, ws_init, ..Default::default() })
}

/// Batch norm over the channels of `[N, C, H, W]`, gain 1, shift 0.
pub fn batch_norm2d(p: Path, channels: i64) -> nn::BatchNorm {
    nn::batch_norm2d(p, channels, batch_norm_config(1.0))
}

/// Batch norm whose gain starts at 0: the last one of a residual block, which then starts as the identity.
pub fn batch_norm2d_zero(p: Path, channels: i64) -> nn::BatchNorm {
    nn::batch_norm2d(p, channels, batch_norm_config(0.0))
}

/// Batch norm over the columns of `[N, D]`, gain 1, shift 0.
pub fn batch_norm1d(p: Path, width: i64) -> nn::BatchNorm {
    nn::batch_norm1d(p, width, batch_norm_config(1.0))
}

fn batch_norm_config(gain: f64) -> nn::BatchNormConfig {
    nn::BatchNormConfig { ws_init: Init::Const(gain), bs_init: Init::Const(0.0), ..Default::default() }
}

/// Layer norm over the last dimension, gain 1, shift 0.
pub fn layer_norm(p: Path, width: i64) -> nn::LayerNorm {
    nn::layer_norm(p, vec![width], nn::LayerNormConfig::default())
}
