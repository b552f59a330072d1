//! ScatSimCLR (Kinakh, Taran and Voloshynovskiy, 2021; arXiv 2108.13939): contrastive learning on small data sets behind a fixed
//! scattering transform.
//!
//! The wavelets of [`Scattering2d`] take over the invariances that a ResNet would have to learn, so that only a smaller residual
//! *adapter* is trained: `x -> a = Scat(x) -> h = adapter(a) -> z = projector(h)`, with NT-Xent at temperature 0.5 on `z`
//! ([`nt_xent`](crate::contrastive::nt_xent)). A [pretext task](pretext) on `h`, predicting a rotation or the order of tiles,
//! regularises: `L = NT-Xent + lambda CE`.
//!
//! ```
//! use autodidact_core::nn::{Mlp, parameter_count};
//! use autodidact_ssl::{scatsimclr::{AdapterConfig, Encoder, projector}, scattering::Scattering2d};
//! use tch::{Device, Kind, Tensor, nn::{ModuleT, VarStore}};
//! # fn main() -> autodidact_core::Result<()> {
//! let vs = VarStore::new(Device::Cpu);
//! let scattering = Scattering2d::new(2, 16, (32, 32), 2, Device::Cpu)?;
//! let encoder = Encoder::scattering(vs.root() / "encoder", 3, scattering, &AdapterConfig::published(8)?)?;
//! let head = Mlp::new(vs.root() / "projector", &projector(encoder.features(), 2048, 128))?;
//! assert_eq!(parameter_count(&vs), 6_104_480); // the paper: 6.1 M
//! let h = encoder.forward_t(&Tensor::zeros([1, 3, 32, 32], (Kind::Float, Device::Cpu)), false);
//! assert_eq!((h.size(), head.forward_t(&h, false).size()), (vec![1, 2048], vec![1, 128]));
//! # Ok(())
//! # }
//! ```

pub mod pretext;

use crate::scattering::Scattering2d;
use autodidact_core::nn::{ConvNet, ConvNetConfig, ConvNetHead, MlpConfig, ResidualBlock, layers};
use autodidact_core::{Error, Result};
use tch::Tensor;
use tch::nn::{BatchNorm, Conv2D, Module, ModuleT, Path};

/// Shape of an [`Adapter`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdapterConfig {
    /// Width of the first convolution.
    pub stem: i64,
    /// Width and number of residual blocks of each stage; none has a stride.
    pub stages: Vec<(i64, usize)>,
    /// Side of the grid to which the last maps are averaged.
    pub pool: i64,
    /// Batch norm over the maps that come in. The published code makes one and never applies it; second-order coefficients are
    /// one or two orders of magnitude below the zeroth.
    pub input_norm: bool,
}

impl AdapterConfig {
    /// The paper's networks of 8, 12, 16 or 30 residual blocks, as the published code builds them.
    ///
    /// # Errors
    /// Another number.
    pub fn published(blocks: usize) -> Result<Self> {
        let (stem, stages) = match blocks {
            8 => (32, vec![(64, 4), (128, 4)]),
            12 => (256, vec![(128, 4), (64, 4), (128, 4)]),
            16 => (256, vec![(128, 6), (64, 4), (128, 6)]),
            30 => (256, vec![(128, 30)]),
            _ => return Err(Error::value("residual blocks", "8, 12, 16 or 30", blocks)),
        };
        Ok(Self { stem, stages, pool: 4, input_norm: false })
    }

    /// Width of the flattened representation.
    pub fn features(&self) -> i64 {
        self.stages.last().map_or(self.stem, |s| s.0) * self.pool * self.pool
    }
}

/// A residual network on scattering maps, `[B, C, h, w] -> [B, width * pool^2]`: 3x3 convolution, batch norm, ReLU; basic blocks;
/// average over a grid of cells.
#[derive(Debug)]
pub struct Adapter {
    norm: Option<BatchNorm>,
    stem: (Conv2D, BatchNorm),
    blocks: Vec<ResidualBlock>,
    pool: i64,
}

impl Adapter {
    /// Fresh weights for maps of `channels` channels.
    ///
    /// # Errors
    /// Widths, numbers of blocks, or a pooling grid, that are not positive.
    pub fn new(p: Path, channels: i64, config: &AdapterConfig) -> Result<Self> {
        if config.stem < 1 || config.pool < 1 || channels < 1 || config.stages.iter().any(|s| s.0 < 1 || s.1 < 1) {
            let expected = "positive widths, numbers of blocks and pooling grid";
            return Err(Error::value("adapter", expected, format!("{config:?}")));
        }
        let norm = config.input_norm.then(|| layers::batch_norm2d(&p / "input_norm", channels));
        let stem = (
            layers::conv2d(&p / "stem" / "conv", channels, config.stem, 3, 1, 1, false),
            layers::batch_norm2d(&p / "stem" / "norm", config.stem),
        );
        let widths = config.stages.iter().flat_map(|&(width, count)| std::iter::repeat_n(width, count));
        let mut input = config.stem;
        let blocks = widths.enumerate().map(|(i, width)| {
            let block = ResidualBlock::basic(&p / "blocks" / i, input, width);
            input = width;
            block
        });
        Ok(Self { norm, stem, blocks: blocks.collect(), pool: config.pool })
    }
}

impl ModuleT for Adapter {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        let x = self.norm.as_ref().map_or_else(|| x.shallow_clone(), |norm| norm.forward_t(x, train));
        let x = self.stem.1.forward_t(&self.stem.0.forward(&x), train).relu();
        let x = self.blocks.iter().fold(x, |x, block| block.forward_t(&x, train));
        x.adaptive_avg_pool2d([self.pool, self.pool]).flatten(1, -1)
    }
}

/// What stands before the adapter.
#[derive(Debug)]
enum Front {
    Scattering(Scattering2d),
    Stem(ConvNet),
}

/// An encoder, `[B, C, H, W] -> [B, features]`.
#[derive(Debug)]
pub struct Encoder {
    front: Front,
    adapter: Adapter,
    /// Of the images.
    channels: i64,
    features: i64,
}

impl Encoder {
    /// ScatSimCLR's: the scattering transform, of which nothing is trained, and an adapter with fresh weights under `p`; for
    /// images of `channels` channels and the transform's size.
    ///
    /// # Errors
    /// Maps smaller than the pooling grid; otherwise as [`Adapter::new`].
    pub fn scattering(p: Path, channels: i64, scattering: Scattering2d, config: &AdapterConfig) -> Result<Self> {
        let (h, w) = scattering.output_size();
        if h.min(w) < config.pool {
            let expected = format!("scattering maps of at least {0}x{0}: fewer scales or larger images", config.pool);
            return Err(Error::value("adapter's pooling grid", expected, format!("{h}x{w}")));
        }
        let adapter = Adapter::new(p / "adapter", channels * scattering.channels(), config)?;
        Ok(Self { front: Front::Scattering(scattering), adapter, channels, features: config.features() })
    }

    /// The baseline with everything trained: in place of the transform `scales` 3x3 convolutions of stride 2 and `maps` channels,
    /// each with batch norm and ReLU, whose output has the shape of the transform's.
    ///
    /// # Errors
    /// No scales, no maps; otherwise as [`Adapter::new`].
    pub fn convolutional(p: Path, channels: i64, maps: i64, scales: usize, config: &AdapterConfig) -> Result<Self> {
        let stem = ConvNetConfig { channels, blocks: vec![(maps, 2); scales], head: ConvNetHead::Map };
        let stem = ConvNet::new(&p / "stem", &stem)?;
        Ok(Self {
            front: Front::Stem(stem),
            adapter: Adapter::new(p / "adapter", maps, config)?,
            channels,
            features: config.features(),
        })
    }

    /// Width of the representation.
    pub fn features(&self) -> i64 {
        self.features
    }

    /// Representations `[B, features]` of images `[B, C, H, W]`.
    ///
    /// # Errors
    /// Images with other channels, or of another size than the transform's.
    pub fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        if x.dim() != 4 || x.size()[1] != self.channels {
            return Err(Error::shape("images", format!("[B, {}, H, W]", self.channels), x));
        }
        let maps = match &self.front {
            Front::Scattering(scattering) => scattering.forward(x)?,
            Front::Stem(stem) => stem.forward_t(x, train),
        };
        Ok(self.adapter.forward_t(&maps, train))
    }
}

impl ModuleT for Encoder {
    /// As [`Encoder::forward`].
    ///
    /// # Panics
    /// Where that is an error.
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        self.forward(x, train).expect("images have the size that the encoder was made for")
    }
}

/// The projector: two linear layers with biases, ReLU between them, no batch norm. The paper's widths are 2048 and 128.
pub fn projector(features: i64, hidden: i64, embedding: i64) -> MlpConfig {
    MlpConfig::plain(&[features, hidden, embedding])
}
