//! The U-Net, from images to maps of the same size.

use super::layers;
use crate::{Error, Result};
use tch::Tensor;
use tch::nn::{self, Conv2D, GroupNorm, Module, ModuleT, Path};

/// Shape of a [`UNet`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UNetConfig {
    /// Input channels.
    pub channels: i64,
    /// Width of each level, the finest first; every further level has half the side.
    pub widths: Vec<i64>,
    /// Output channels: classes of a segmentation.
    pub outputs: i64,
    /// Groups of the group norms; divides every width.
    pub groups: i64,
}

impl Default for UNetConfig {
    /// Three levels of 12, 24 and 48 channels in groups of a quarter of them, for RGB images and one output.
    fn default() -> Self {
        Self { channels: 3, widths: vec![12, 24, 48], outputs: 1, groups: 4 }
    }
}

/// Encoder and decoder with a connection at every level (Ronneberger, Fischer and Brox, 2015; arXiv 1505.04597), `[N, C, H, W] ->
/// [N, outputs, H, W]`.
///
/// A level is two 3x3 convolutions, each followed by group norm and ReLU, so that nothing depends on the batch; 2x2 max-pooling
/// leads down, nearest-neighbour upsampling and concatenation lead up. Sides need not be powers of two.
#[derive(Debug)]
pub struct UNet {
    down: Vec<Level>,
    up: Vec<Level>,
    head: Conv2D,
}

#[derive(Debug)]
struct Level([(Conv2D, GroupNorm); 2]);

impl Level {
    fn new(p: &Path, input: i64, width: i64, groups: i64) -> Self {
        let half = |i: i64, input| {
            let p = p / i;
            // A bias before the norm has next to no effect.
            let conv = layers::conv2d(&p / "conv", input, width, 3, 1, 1, false);
            (conv, nn::group_norm(&p / "norm", groups, width, Default::default()))
        };
        Self([half(0, input), half(1, width)])
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        self.0.iter().fold(x.shallow_clone(), |x, (conv, norm)| norm.forward(&conv.forward(&x)).relu())
    }
}

impl UNet {
    /// A network with fresh weights under `p`.
    ///
    /// # Errors
    /// No levels, sizes that are not positive, a width that the groups do not divide.
    pub fn new(p: Path, config: &UNetConfig) -> Result<Self> {
        let UNetConfig { channels, widths, outputs, groups } = config;
        if *channels < 1 || *outputs < 1 || *groups < 1 {
            let got = format!("{channels}, {outputs} and {groups}");
            return Err(Error::value("channels, outputs and groups of a U-Net", "positive numbers", got));
        }
        if widths.is_empty() || widths.iter().any(|w| *w < 1 || w % groups != 0) {
            let expected = format!("one or more multiples of {groups}");
            return Err(Error::value("widths of a U-Net", expected, format!("{widths:?}")));
        }
        let inputs = std::iter::once(channels).chain(widths);
        let down = inputs.zip(widths).enumerate();
        let down = down.map(|(i, (input, width))| Level::new(&(&p / "down" / i), *input, *width, *groups)).collect();
        let up = widths.windows(2).enumerate();
        let up = up.map(|(i, w)| Level::new(&(&p / "up" / i), w[0] + w[1], w[0], *groups)).collect();
        Ok(Self { down, up, head: layers::conv2d(&p / "head", widths[0], *outputs, 1, 1, 0, true) })
    }
}

impl ModuleT for UNet {
    fn forward_t(&self, x: &Tensor, _train: bool) -> Tensor {
        let mut skips: Vec<Tensor> = vec![];
        for level in &self.down {
            let x = skips.last().map_or_else(|| x.shallow_clone(), |x| x.max_pool2d(2, 2, 0, 1, true));
            skips.push(level.forward(&x));
        }
        let mut x = skips.pop().expect("there is a level");
        for level in self.up.iter().rev() {
            let skip = skips.pop().expect("a level up has one down");
            let [h, w] = [skip.size()[2], skip.size()[3]];
            x = level.forward(&Tensor::cat(&[skip, x.upsample_nearest2d([h, w], None, None)], 1));
        }
        self.head.forward(&x)
    }
}
