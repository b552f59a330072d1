//! The ConvNet of dataset distillation, as a function of one vector of parameters.

use autodidact_core::seed::Rng;
use autodidact_core::{Error, Result};
use rand::RngExt;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use tch::{Device, Tensor};

/// Shape of a [`FlatConvNet`]; the default is the one for CIFAR-10.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlatConvNetConfig {
    /// Channels of an image.
    pub channels: i64,
    /// Side of the square images in pixels, divisible by `2^depth`.
    pub side: i64,
    /// Filters of each convolution.
    pub width: i64,
    /// Number of blocks.
    pub depth: usize,
    /// Number of classes.
    pub classes: i64,
}

impl Default for FlatConvNetConfig {
    fn default() -> Self {
        Self { channels: 3, side: 32, width: 128, depth: 3, classes: 10 }
    }
}

/// A tensor of the network inside its vector of parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Name, such as `1.conv.weight`.
    pub name: String,
    /// Shape.
    pub shape: Vec<i64>,
    /// Place in the vector.
    pub range: Range<i64>,
    /// Inputs of one unit: the bound of a fresh weight is `1/sqrt(fan_in)`. 0 for normalisation.
    fan_in: i64,
}

/// Blocks of 3x3 convolution, instance normalisation with gain and shift, ReLU and 2x2 average pooling, then a linear layer
/// (Zhao, Mopuri and Bilen, 2021; Gidaris and Komodakis, 2018).
///
/// Parameters are one vector `[P]`, so that whole networks can be stored, subtracted and differentiated as vectors.
///
/// ```
/// use autodidact_core::seed::rng;
/// use autodidact_distill::distilled_data::{FlatConvNet, FlatConvNetConfig};
/// use tch::{Device, Kind, Tensor};
/// let net = FlatConvNet::new(FlatConvNetConfig::default())?;
/// assert_eq!(net.parameters(), 320_010);
/// let theta = net.init(&mut rng(0, &["init"]), Device::Cpu);
/// let images = Tensor::zeros([2, 3, 32, 32], (Kind::Float, Device::Cpu));
/// assert_eq!(net.forward(&theta, &images)?.size(), [2, 10]);
/// # Ok::<(), autodidact_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlatConvNet {
    config: FlatConvNetConfig,
    layers: Vec<Layer>,
    sizes: Vec<i64>,
}

impl FlatConvNet {
    /// A network.
    ///
    /// # Errors
    /// Sizes that are not positive; a side that pooling does not divide, or that leaves a map of one pixel to be normalised.
    pub fn new(config: FlatConvNetConfig) -> Result<Self> {
        let FlatConvNetConfig { channels, side, width, depth, classes } = config;
        for (what, value) in [("channels", channels), ("width", width), ("depth", depth as i64), ("classes", classes)] {
            if value < 1 {
                return Err(Error::value(format!("ConvNet {what}"), "at least 1", value));
            }
        }
        let factor = 1i64.checked_shl(depth as u32).filter(|f| *f > 0 && *f <= side && side % f == 0);
        let Some(factor) = factor else {
            return Err(Error::value("ConvNet side", format!("a multiple of 2^{depth}"), side));
        };
        let mut layers: Vec<Layer> = vec![];
        let mut push = |name: String, shape: Vec<i64>, fan_in: i64| {
            let from = layers.last().map_or(0, |l| l.range.end);
            let range = from..from + shape.iter().product::<i64>();
            layers.push(Layer { name, shape, range, fan_in });
        };
        for block in 0..depth {
            let input = if block == 0 { channels } else { width };
            push(format!("{block}.conv.weight"), vec![width, input, 3, 3], 9 * input);
            push(format!("{block}.conv.bias"), vec![width], 9 * input);
            push(format!("{block}.norm.weight"), vec![width], 0);
            push(format!("{block}.norm.bias"), vec![width], 0);
        }
        let features = width * (side / factor).pow(2);
        push("linear.weight".into(), vec![classes, features], features);
        push("linear.bias".into(), vec![classes], features);
        let sizes = layers.iter().map(|l| l.range.end - l.range.start).collect();
        Ok(Self { config, layers, sizes })
    }

    /// The shape.
    pub fn config(&self) -> &FlatConvNetConfig {
        &self.config
    }

    /// Length `P` of the vector.
    pub fn parameters(&self) -> i64 {
        self.sizes.iter().sum()
    }

    /// The tensors in the vector, in its order.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Fresh parameters `[P]` by PyTorch's rule: uniform within `1/sqrt(fan_in)`; gains 1, shifts 0.
    pub fn init(&self, rng: &mut Rng, device: Device) -> Tensor {
        let mut values = Vec::with_capacity(self.parameters() as usize);
        for layer in &self.layers {
            let n = (layer.range.end - layer.range.start) as usize;
            if layer.fan_in > 0 {
                let bound = (layer.fan_in as f32).sqrt().recip();
                values.extend((0..n).map(|_| (2.0 * rng.random::<f32>() - 1.0) * bound));
            } else {
                let value = if layer.name.ends_with("weight") { 1.0 } else { 0.0 };
                values.resize(values.len() + n, value);
            }
        }
        Tensor::from_slice(&values).to_device(device)
    }

    /// Logits `[N, classes]` of images `[N, channels, side, side]` under parameters `theta [P]`; differentiable in both, any
    /// number of times.
    ///
    /// # Errors
    /// Images or parameters of another shape.
    pub fn forward(&self, theta: &Tensor, images: &Tensor) -> Result<Tensor> {
        let (features, head) = self.run(theta, images)?;
        Ok(features.f_linear(&head[0], Some(&head[1]))?)
    }

    /// What the linear layer sees: `[N, width * (side/2^depth)^2]`.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn features(&self, theta: &Tensor, images: &Tensor) -> Result<Tensor> {
        Ok(self.run(theta, images)?.0)
    }

    fn run(&self, theta: &Tensor, images: &Tensor) -> Result<(Tensor, Vec<Tensor>)> {
        let FlatConvNetConfig { channels, side, width, depth, .. } = self.config;
        if theta.size() != [self.parameters()] {
            return Err(Error::shape("theta", format!("[{}]", self.parameters()), theta));
        }
        if images.dim() != 4 || images.size()[1..] != [channels, side, side] {
            return Err(Error::shape("images", format!("[N, {channels}, {side}, {side}]"), images));
        }
        // One split, whose derivative is one concatenation; a view per tensor would each add a whole vector.
        let mut parts: Vec<Tensor> = theta.split_with_sizes(&self.sizes, 0);
        for (part, layer) in parts.iter_mut().zip(&self.layers) {
            *part = part.view(&layer.shape[..]);
        }
        let mut x = images.shallow_clone();
        for block in parts[..4 * depth].chunks_exact(4) {
            x = x.f_conv2d(&block[0], Some(&block[1]), [1, 1], [1, 1], [1, 1], 1)?;
            x = x.f_group_norm(width, Some(&block[2]), Some(&block[3]), 1e-5, true)?;
            x = x.relu().avg_pool2d([2, 2], [2, 2], [0, 0], false, true, None);
        }
        Ok((x.flatten(1, -1), parts.split_off(4 * depth)))
    }
}
