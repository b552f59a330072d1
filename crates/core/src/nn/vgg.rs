//! VGG encoders, with the choice of a normalisation.

use super::layers;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::Tensor;
use tch::nn::{self, BatchNorm, Conv2D, GroupNorm, Init, Module, ModuleT, Path};

/// What follows a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VggNorm {
    /// Nothing.
    None,
    /// Batch norm.
    Batch,
    /// Group norm of so many groups: 1 is layer norm over channels and positions, as many as channels instance norm.
    Group(i64),
}

#[derive(Debug)]
enum NormLayer {
    None,
    Batch(BatchNorm),
    Group(GroupNorm),
}

impl NormLayer {
    fn new(p: Path, norm: VggNorm, channels: i64) -> Result<Self> {
        Ok(match norm {
            VggNorm::None => Self::None,
            VggNorm::Batch => Self::Batch(layers::batch_norm2d(p, channels)),
            VggNorm::Group(groups) if groups > 0 && channels % groups == 0 => {
                Self::Group(nn::group_norm(p, groups, channels, Default::default()))
            }
            VggNorm::Group(groups) => {
                return Err(Error::value("groups of the norm", format!("a divisor of {channels}"), groups));
            }
        })
    }

    fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        match self {
            Self::None => x.shallow_clone(),
            Self::Batch(norm) => norm.forward_t(x, train),
            Self::Group(norm) => norm.forward(x),
        }
    }
}

/// Shape of a [`Vgg`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VggConfig {
    /// Input channels.
    pub channels: i64,
    /// Widths of the 3x3 convolutions by stage; 2x2 max-pooling ends every stage.
    pub stages: Vec<Vec<i64>>,
    /// What follows each convolution, before its ReLU.
    pub norm: VggNorm,
}

impl VggConfig {
    /// VGG-11 for RGB images (Simonyan and Zisserman, 2015; arXiv 1409.1556), without its classifier and without norms.
    pub fn vgg11() -> Self {
        let stages = vec![vec![64], vec![128], vec![256, 256], vec![512, 512], vec![512, 512]];
        Self { channels: 3, stages, norm: VggNorm::None }
    }

    /// Width of the output for square images of a side.
    pub fn features(&self, side: i64) -> i64 {
        let side = side >> self.stages.len();
        self.stages.last().and_then(|s| s.last()).map_or(0, |width| width * side * side)
    }
}

/// 3x3 convolutions with ReLU in stages with max-pooling, then the flattened map: `[N, C, S, S] -> [N, features(S)]`.
///
/// Convolutions have biases, initialised to 0; their weights are normal with variance `2 / fan_out`.
#[derive(Debug)]
pub struct Vgg {
    stages: Vec<Vec<(Conv2D, NormLayer)>>,
}

impl Vgg {
    /// A network with fresh weights under `p`.
    ///
    /// # Errors
    /// No stages, an empty one, widths that are not positive, groups that do not divide a width.
    pub fn new(p: Path, config: &VggConfig) -> Result<Self> {
        if config.stages.is_empty() || config.stages.iter().any(|s| s.is_empty() || s.iter().any(|w| *w < 1)) {
            return Err(Error::value("VGG stages", "lists of positive widths", format!("{:?}", config.stages)));
        }
        let mut input = config.channels;
        let mut stages = vec![];
        for (i, widths) in config.stages.iter().enumerate() {
            let mut stage = vec![];
            for (j, width) in widths.iter().enumerate() {
                let p = &p / i / j;
                let ws_init = Init::Randn { mean: 0.0, stdev: (2.0 / (9 * width) as f64).sqrt() };
                let conv = nn::ConvConfig { padding: 1, ws_init, bs_init: Init::Const(0.0), ..Default::default() };
                let conv = nn::conv2d(&p / "conv", input, *width, 3, conv);
                stage.push((conv, NormLayer::new(&p / "norm", config.norm, *width)?));
                input = *width;
            }
            stages.push(stage);
        }
        Ok(Self { stages })
    }
}

impl ModuleT for Vgg {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        let layer = |x: Tensor, (conv, norm): &(Conv2D, NormLayer)| norm.forward(&conv.forward(&x), train).relu();
        let stage = |x: Tensor, layers: &Vec<_>| layers.iter().fold(x, layer).max_pool2d(2, 2, 0, 1, false);
        self.stages.iter().fold(x.shallow_clone(), stage).flatten(1, -1)
    }
}
