//! Images as sequences of embeddings: one linear map of every patch (Dosovitskiy et al., 2021).

use super::layers;
use crate::{Error, Result};
use tch::Tensor;
use tch::nn::{Conv2D, Module, Path};

/// Cuts images into square patches and maps each linearly to an embedding, without a position: what a [`Vit`](super::Vit) begins with,
/// and what stands before the text of a decoder that sees ([`Gpt::hidden_of_embeddings`](super::Gpt::hidden_of_embeddings) adds
/// positions).
///
/// ```
/// use autodidact_core::nn::PatchEmbedding;
/// use tch::{Device, Kind, Tensor, nn::VarStore};
/// let vs = VarStore::new(Device::Cpu);
/// let patches = PatchEmbedding::new(vs.root() / "patches", 1, 4, 64).unwrap();
/// let images = Tensor::zeros([3, 1, 8, 16], (Kind::Float, Device::Cpu));
/// assert_eq!(patches.forward(&images).unwrap().size(), [3, 2 * 4, 64]);
/// ```
#[derive(Debug)]
pub struct PatchEmbedding {
    map: Conv2D,
    channels: i64,
    patch: i64,
}

impl PatchEmbedding {
    /// A map with fresh weights under `p`, of patches with `channels` channels and side `patch` to `width` features.
    ///
    /// # Errors
    /// Sizes that are not positive.
    pub fn new(p: Path, channels: i64, patch: i64, width: i64) -> Result<Self> {
        if channels < 1 || patch < 1 || width < 1 {
            let got = format!("{channels}, {patch} and {width}");
            return Err(Error::value("channels, patch and width", "at least 1 each", got));
        }
        Ok(Self { map: layers::conv2d(p, channels, width, patch, patch, 0, true), channels, patch })
    }

    /// Embeddings of the patches, row by row: `[N, C, H, W] -> [N, H/patch * W/patch, width]`.
    ///
    /// # Errors
    /// Images with other channels, or with sides that are no multiples of the patch.
    pub fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let &Self { channels, patch, .. } = self;
        match images.size()[..] {
            [_, c, h, w] if c == channels && h >= patch && h % patch == 0 && w >= patch && w % patch == 0 => {}
            _ => {
                let expected = format!("[N, {channels}, H, W] with sides of a multiple of {patch}");
                return Err(Error::shape("images", expected, images));
            }
        }
        Ok(self.map.forward(images).flatten(2, 3).transpose(1, 2))
    }
}
