//! Vision transformers (Dosovitskiy et al., 2021): pre-norm blocks, GELU, learned positions, class token.

use super::attention::{Attention, AttentionConfig};
use super::layers;
use crate::{Error, Result};
use tch::Tensor;
use tch::nn::{Conv2D, Init, LayerNorm, Linear, Module, ModuleT, Path};

/// Shape of a [`Vit`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VitConfig {
    /// Side of the square input images; a multiple of `patch`.
    pub side: i64,
    /// Side of a patch.
    pub patch: i64,
    /// Input channels.
    pub channels: i64,
    /// Model width.
    pub width: i64,
    /// Blocks.
    pub depth: usize,
    /// Attention heads.
    pub heads: i64,
    /// Hidden width of the blocks' perceptrons, as a multiple of `width`.
    pub mlp_ratio: i64,
}

impl Default for VitConfig {
    /// ViT-Ti/4 for 32x32 images (5.4 M parameters).
    fn default() -> Self {
        Self { side: 32, patch: 4, channels: 3, width: 192, depth: 12, heads: 3, mlp_ratio: 4 }
    }
}

#[derive(Debug)]
struct Block {
    norm1: LayerNorm,
    attention: Attention,
    norm2: LayerNorm,
    up: Linear,
    down: Linear,
}

/// A vision transformer without its classifier: `[N, C, side, side] -> [N, width]`, the normalised class token.
#[derive(Debug)]
pub struct Vit {
    config: VitConfig,
    patches: Conv2D,
    class: Tensor,
    position: Tensor,
    blocks: Vec<Block>,
    norm: LayerNorm,
}

impl Vit {
    /// A network with fresh weights under `p`.
    ///
    /// # Errors
    /// A side that is no multiple of the patch, or heads that do not divide the width.
    pub fn new(p: Path, config: &VitConfig) -> Result<Self> {
        let &VitConfig { side, patch, channels, width, heads, .. } = config;
        if patch < 1 || side % patch != 0 {
            return Err(Error::value("image side", format!("a multiple of patch {patch}"), side));
        }
        let attention = AttentionConfig { width, heads, kv_heads: heads, bias: true, causal: false, rotary: None };
        let count = (side / patch).pow(2);
        let init = Init::Randn { mean: 0.0, stdev: 0.02 };
        let blocks = (0..config.depth).map(|i| {
            let p = &p / "blocks" / i;
            Ok(Block {
                norm1: layers::layer_norm(&p / "norm1", width),
                attention: Attention::new(&p / "attention", &attention)?,
                norm2: layers::layer_norm(&p / "norm2", width),
                up: layers::linear(&p / "up", width, width * config.mlp_ratio, true),
                down: layers::linear(&p / "down", width * config.mlp_ratio, width, true),
            })
        });
        Ok(Self {
            config: *config,
            patches: layers::conv2d(&p / "patches", channels, width, patch, patch, 0, true),
            class: p.var("class", &[1, 1, width], init),
            position: p.var("position", &[1, count + 1, width], init),
            blocks: blocks.collect::<Result<_>>()?,
            norm: layers::layer_norm(&p / "norm", width),
        })
    }

    /// All tokens after the last norm, `[N, 1 + patches, width]`, the class token first.
    ///
    /// # Errors
    /// Images of another size than the configuration's.
    pub fn tokens(&self, images: &Tensor) -> Result<Tensor> {
        let VitConfig { side, channels, .. } = self.config;
        let n = match images.size()[..] {
            [n, c, h, w] if (c, h, w) == (channels, side, side) => n,
            _ => return Err(Error::shape("images", format!("[N, {channels}, {side}, {side}]"), images)),
        };
        let x = self.patches.forward(images).flatten(2, 3).transpose(1, 2);
        let mut x = Tensor::cat(&[self.class.expand([n, -1, -1], false), x], 1) + &self.position;
        for b in &self.blocks {
            x = &x + b.attention.forward(&b.norm1.forward(&x), None, None);
            x = &x + b.down.forward(&b.up.forward(&b.norm2.forward(&x)).gelu("none"));
        }
        Ok(self.norm.forward(&x))
    }
}

impl ModuleT for Vit {
    fn forward_t(&self, images: &Tensor, _train: bool) -> Tensor {
        self.tokens(images).unwrap_or_else(|e| panic!("{e}")).select(1, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind, nn::VarStore};

    #[test]
    fn tiny_vit_has_the_published_size_and_checks_its_input() {
        let vs = VarStore::new(Device::Cpu);
        let vit = Vit::new(vs.root(), &VitConfig { side: 224, patch: 16, ..Default::default() }).unwrap();
        // DeiT-Ti has 5.72 M parameters with its 1000-way classifier of 193 k.
        let count = super::super::parameter_count(&vs);
        assert_eq!(count, 5_717_416 - 193_000);
        let images = Tensor::zeros([2, 3, 32, 32], (Kind::Float, Device::Cpu));
        assert!(vit.tokens(&images).unwrap_err().to_string().contains("[N, 3, 224, 224]"));
        assert!(Vit::new(vs.root() / "b", &VitConfig { patch: 5, ..Default::default() }).is_err());
    }
}
