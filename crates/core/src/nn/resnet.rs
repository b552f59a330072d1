//! Residual networks (He et al., 2016) for 32x32 and 224x224 images.

use super::layers;
use tch::Tensor;
use tch::nn::{BatchNorm, Conv2D, Module, ModuleT, Path};

/// First layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResNetStem {
    /// 3x3 convolution, no pooling: for 32x32 images.
    Cifar,
    /// 7x7 convolution with stride 2 and 3x3 max-pooling with stride 2: for 224x224 images.
    ImageNet,
}

/// Standard depths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResNetDepth {
    /// Basic blocks 2-2-2-2; 512 features.
    D18,
    /// Basic blocks 3-4-6-3; 512 features.
    D34,
    /// Bottleneck blocks 3-4-6-3; 2048 features.
    D50,
}

impl ResNetDepth {
    fn plan(self) -> ([usize; 4], bool) {
        match self {
            ResNetDepth::D18 => ([2, 2, 2, 2], false),
            ResNetDepth::D34 => ([3, 4, 6, 3], false),
            ResNetDepth::D50 => ([3, 4, 6, 3], true),
        }
    }
}

/// Shape of a [`ResNet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResNetConfig {
    /// Number of layers.
    pub depth: ResNetDepth,
    /// First layers.
    pub stem: ResNetStem,
    /// Input channels.
    pub channels: i64,
    /// Width of the first stage; 64 in the paper.
    pub width: i64,
    /// Gain 0 in the last batch norm of every residual block.
    pub zero_init_residual: bool,
}

impl ResNetConfig {
    /// The paper's network on RGB images.
    pub fn new(depth: ResNetDepth, stem: ResNetStem) -> Self {
        Self { depth, stem, channels: 3, width: 64, zero_init_residual: true }
    }

    /// Width of the pooled representation.
    pub fn features(&self) -> i64 {
        self.width * 8 * if self.depth.plan().1 { 4 } else { 1 }
    }
}

/// A residual block: two 3x3 convolutions (or a bottleneck of three) with batch norm and ReLU, whose result is added to the
/// input; where the shapes differ, to its 1x1 convolution with batch norm.
#[derive(Debug)]
pub struct ResidualBlock {
    convs: Vec<(Conv2D, BatchNorm)>,
    shortcut: Option<(Conv2D, BatchNorm)>,
}

/// Makes a convolution without bias: path, input and output channels, kernel, stride, padding.
type Convolution = fn(Path, i64, i64, i64, i64, i64) -> Conv2D;

impl ResidualBlock {
    /// A basic block of stride 1 with PyTorch's default initialisation.
    pub fn basic(p: Path, input: i64, output: i64) -> Self {
        let conv: Convolution =
            |p, a, b, kernel, stride, padding| layers::conv2d(p, a, b, kernel, stride, padding, false);
        Self::new(p, input, output, 1, (false, false), conv).0
    }

    fn new(
        p: Path,
        input: i64,
        width: i64,
        stride: i64,
        (bottleneck, zero): (bool, bool),
        conv: Convolution,
    ) -> (Self, i64) {
        let output = if bottleneck { width * 4 } else { width };
        let plan: &[(i64, i64, i64, i64)] = if bottleneck {
            // The stride sits in the 3x3 convolution, as in torchvision.
            &[(input, width, 1, 1), (width, width, 3, stride), (width, output, 1, 1)]
        } else {
            &[(input, width, 3, stride), (width, output, 3, 1)]
        };
        let convs = plan
            .iter()
            .enumerate()
            .map(|(i, &(a, b, kernel, stride))| {
                let p = &p / i;
                let conv = conv(&p / "conv", a, b, kernel, stride, kernel / 2);
                let norm = if zero && i + 1 == plan.len() { layers::batch_norm2d_zero } else { layers::batch_norm2d };
                (conv, norm(&p / "norm", b))
            })
            .collect();
        let shortcut = (stride != 1 || input != output).then(|| {
            let p = &p / "shortcut";
            (conv(&p / "conv", input, output, 1, stride, 0), layers::batch_norm2d(&p / "norm", output))
        });
        (Self { convs, shortcut }, output)
    }
}

impl ModuleT for ResidualBlock {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        let mut y = x.shallow_clone();
        for (i, (conv, norm)) in self.convs.iter().enumerate() {
            y = norm.forward_t(&conv.forward(&y), train);
            if i + 1 < self.convs.len() {
                y = y.relu_();
            }
        }
        let skip = match &self.shortcut {
            Some((conv, norm)) => norm.forward_t(&conv.forward(x), train),
            None => x.shallow_clone(),
        };
        (y + skip).relu_()
    }
}

/// A residual network without its classifier: `[N, C, H, W] -> [N, features]`.
#[derive(Debug)]
pub struct ResNet {
    stem: (Conv2D, BatchNorm),
    pool: bool,
    blocks: Vec<ResidualBlock>,
    /// Number of blocks before the last stage.
    earlier: usize,
}

impl ResNet {
    /// A network with fresh weights under `p`.
    pub fn new(p: Path, config: &ResNetConfig) -> Self {
        let (counts, bottleneck) = config.depth.plan();
        let pool = config.stem == ResNetStem::ImageNet;
        let (kernel, stride) = if pool { (7, 2) } else { (3, 1) };
        let stem = &p / "stem";
        let stem = (
            layers::conv2d_he(&stem / "conv", config.channels, config.width, kernel, stride, kernel / 2),
            layers::batch_norm2d(&stem / "norm", config.width),
        );
        let mut blocks = vec![];
        let mut input = config.width;
        for (stage, &count) in counts.iter().enumerate() {
            for i in 0..count {
                let stride = if stage > 0 && i == 0 { 2 } else { 1 };
                let p = &p / format!("stage{stage}") / i;
                let kind = (bottleneck, config.zero_init_residual);
                let (block, output) =
                    ResidualBlock::new(p, input, config.width << stage, stride, kind, layers::conv2d_he);
                blocks.push(block);
                input = output;
            }
        }
        let earlier = blocks.len() - counts[counts.len() - 1];
        Self { stem, pool, blocks, earlier }
    }

    /// The representation `[N, features]`, and before it the pooled output of the last stage but one, `[N, features / 2]`.
    pub fn forward_with_tap(&self, x: &Tensor, train: bool) -> (Tensor, Tensor) {
        let mut x = self.stem.1.forward_t(&self.stem.0.forward(x), train).relu_();
        if self.pool {
            x = x.max_pool2d(3, 2, 1, 1, false);
        }
        let pooled = |x: &Tensor| x.mean_dim([2i64, 3].as_slice(), false, x.kind());
        let (earlier, last) = self.blocks.split_at(self.earlier);
        let x = earlier.iter().fold(x, |x, block| block.forward_t(&x, train));
        let tap = pooled(&x);
        (pooled(&last.iter().fold(x, |x, block| block.forward_t(&x, train))), tap)
    }
}

impl ModuleT for ResNet {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        self.forward_with_tap(x, train).0
    }
}
