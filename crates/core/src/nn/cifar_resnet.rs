//! The thin residual networks for 32x32 images (He et al., 2016, section 4.2).

use super::layers;
use crate::{Error, Result};
use tch::Tensor;
use tch::nn::{BatchNorm, Conv2D, Module, ModuleT, Path};

/// Widths of the three stages.
const WIDTHS: [i64; 3] = [16, 32, 64];

#[derive(Debug)]
struct Block {
    convs: [(Conv2D, BatchNorm); 2],
    stride: i64,
}

impl Block {
    fn new(p: Path, input: i64, output: i64, stride: i64) -> Self {
        let layer = |i: i64, input, stride| {
            let p = &p / i;
            let conv = layers::conv2d_he(&p / "conv", input, output, 3, stride, 1);
            (conv, layers::batch_norm2d(&p / "norm", output))
        };
        Self { convs: [layer(0, input, stride), layer(1, output, 1)], stride }
    }

    fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let [(conv0, norm0), (conv1, norm1)] = &self.convs;
        let y = norm0.forward_t(&conv0.forward(x), train).relu_();
        let y = norm1.forward_t(&conv1.forward(&y), train);
        if self.stride == 1 {
            return (y + x).relu_();
        }
        // Option A: every second pixel, and zeros for the new channels.
        let skip = x.slice(2, None, None, self.stride).slice(3, None, None, self.stride);
        let new = y.size()[1] - x.size()[1];
        (y + skip.constant_pad_nd([0, 0, 0, 0, 0, new])).relu_()
    }
}

/// ResNet-8, 20, 32, ... without its classifier: `[N, C, H, W] -> [N, 64]`. Basic blocks of widths 16, 32 and 64 with
/// shortcuts that have no parameters (option A), then the mean over positions.
///
/// ```
/// use autodidact_core::nn::{CifarResNet, parameter_count};
/// let vs = tch::nn::VarStore::new(tch::Device::Cpu);
/// CifarResNet::new(vs.root(), 20, 3)?;
/// assert_eq!(parameter_count(&vs), 269_722 - 650); // the published network's, less its classifier's
/// # Ok::<(), autodidact_core::Error>(())
/// ```
#[derive(Debug)]
pub struct CifarResNet {
    stem: (Conv2D, BatchNorm),
    blocks: Vec<Block>,
}

impl CifarResNet {
    /// Width of the representation.
    pub const FEATURES: i64 = WIDTHS[2];

    /// A network of `depth = 6 n + 2` layers (8, 20, 32, 44, ...) with fresh weights, for images of `channels` channels.
    ///
    /// # Errors
    /// Another depth.
    pub fn new(p: Path, depth: usize, channels: i64) -> Result<Self> {
        if depth < 8 || depth % 6 != 2 {
            return Err(Error::value("depth", "6 n + 2 layers: 8, 14, 20, 26, 32, ...", depth));
        }
        let stem = &p / "stem";
        let conv = layers::conv2d_he(&stem / "conv", channels, WIDTHS[0], 3, 1, 1);
        let stem = (conv, layers::batch_norm2d(&stem / "norm", WIDTHS[0]));
        let (mut blocks, mut input) = (vec![], WIDTHS[0]);
        for (stage, width) in WIDTHS.into_iter().enumerate() {
            for i in 0..(depth - 2) / 6 {
                let stride = if stage > 0 && i == 0 { 2 } else { 1 };
                blocks.push(Block::new(&p / format!("stage{stage}") / i, input, width, stride));
                input = width;
            }
        }
        Ok(Self { stem, blocks })
    }
}

impl ModuleT for CifarResNet {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        let mut x = self.stem.1.forward_t(&self.stem.0.forward(x), train).relu_();
        for block in &self.blocks {
            x = block.forward(&x, train);
        }
        x.mean_dim([2i64, 3].as_slice(), false, x.kind())
    }
}
