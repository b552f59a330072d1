//! Small convolutional networks for small images.

use super::layers;
use crate::{Error, Result};
use tch::Tensor;
use tch::nn::{BatchNorm, Conv2D, Linear, Module, ModuleT, Path};

/// What turns the last feature map into a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConvNetHead {
    /// Nothing: the map itself, `[N, C, H', W']`.
    Map,
    /// Mean over the positions: `[N, C]`.
    GlobalMean,
    /// All positions, then a linear layer: `[N, width]`. Needs the input's side length.
    Flatten {
        /// Side of the square input images.
        side: i64,
        /// Output width.
        width: i64,
    },
}

/// Shape of a [`ConvNet`].
#[derive(Debug, Clone, PartialEq)]
pub struct ConvNetConfig {
    /// Input channels.
    pub channels: i64,
    /// `(width, stride)` of each 3x3 convolution, each followed by batch norm and ReLU.
    pub blocks: Vec<(i64, i64)>,
    /// Pooling.
    pub head: ConvNetHead,
}

impl ConvNetConfig {
    /// Width of the output (channels of a map).
    pub fn features(&self) -> i64 {
        match self.head {
            ConvNetHead::Map | ConvNetHead::GlobalMean => self.blocks.last().map_or(self.channels, |b| b.0),
            ConvNetHead::Flatten { width, .. } => width,
        }
    }
}

/// 3x3 convolutions with batch norm and ReLU, then what [`ConvNetHead`] says: `[N, C, H, W] -> [N, features]`.
#[derive(Debug)]
pub struct ConvNet {
    blocks: Vec<(Conv2D, BatchNorm)>,
    pooling: Pooling,
}

#[derive(Debug)]
enum Pooling {
    None,
    Mean,
    Linear(Linear),
}

impl ConvNet {
    /// A network with fresh weights under `p`.
    ///
    /// # Errors
    /// No blocks, or widths or strides that are not positive.
    pub fn new(p: Path, config: &ConvNetConfig) -> Result<Self> {
        if config.blocks.is_empty() || config.blocks.iter().any(|&(w, s)| w < 1 || s < 1) {
            return Err(Error::value("ConvNet blocks", "positive widths and strides", format!("{:?}", config.blocks)));
        }
        let mut input = config.channels;
        let mut blocks = vec![];
        for (i, &(width, stride)) in config.blocks.iter().enumerate() {
            let p = &p / i;
            // A bias before batch norm has no effect.
            let conv = layers::conv2d(&p / "conv", input, width, 3, stride, 1, false);
            blocks.push((conv, layers::batch_norm2d(&p / "norm", width)));
            input = width;
        }
        let pooling = match config.head {
            ConvNetHead::Map => Pooling::None,
            ConvNetHead::GlobalMean => Pooling::Mean,
            ConvNetHead::Flatten { side, width } => {
                let side = config.blocks.iter().fold(side, |s, &(_, stride)| (s - 1) / stride + 1);
                Pooling::Linear(layers::linear(&p / "linear", input * side * side, width, true))
            }
        };
        Ok(Self { blocks, pooling })
    }
}

impl ModuleT for ConvNet {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        let mut x = x.shallow_clone();
        for (conv, norm) in &self.blocks {
            x = norm.forward_t(&conv.forward(&x), train).relu();
        }
        match &self.pooling {
            Pooling::None => x,
            Pooling::Mean => x.mean_dim([2i64, 3].as_slice(), false, x.kind()),
            Pooling::Linear(linear) => linear.forward(&x.flatten(1, -1)),
        }
    }
}
