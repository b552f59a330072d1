//! The masked autoencoder.

use autodidact_core::error::check_range;
use autodidact_core::nn::{EncoderBlocks, PatchPosition, Vit, VitConfig, layers, sine_cosine_positions};
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::nn::{Init, Linear, Module, Path};
use tch::{Kind, Tensor};

/// Shape of a [`Mae`]; the default is ViT-B/16 with the published decoder.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MaeConfig {
    /// Side of the square images, a multiple of `patch`.
    pub side: i64,
    /// Side of a patch.
    pub patch: i64,
    /// Channels.
    pub channels: i64,
    /// Width, blocks and heads of the encoder.
    pub encoder: (i64, usize, i64),
    /// Width, blocks and heads of the decoder.
    pub decoder: (i64, usize, i64),
    /// Share of the patches that is hidden.
    pub mask_ratio: f64,
    /// Whether each patch's pixels are brought to mean 0 and (unbiased) variance 1 before they are predicted.
    pub normalise: bool,
}

impl Default for MaeConfig {
    fn default() -> Self {
        Self {
            side: 224,
            patch: 16,
            channels: 3,
            encoder: (768, 12, 12),
            decoder: (512, 8, 16),
            mask_ratio: 0.75,
            normalise: true,
        }
    }
}

/// Added to the variance of a patch.
const EPS: f64 = 1e-6;

/// What a masked autoencoder makes of images.
#[derive(Debug)]
pub struct MaeOutput {
    /// Mean over the hidden patches of the mean squared error of their pixels.
    pub loss: Tensor,
    /// 1 at hidden patches: `[N, patches]`.
    pub mask: Tensor,
    /// Predicted pixels `[N, patches, patch * patch * channels]`.
    pub prediction: Tensor,
}

/// Masked autoencoder (He et al., 2022): a vision transformer sees a quarter of the patches, a small decoder predicts the others'
/// pixels. Positions are fixed sines and cosines.
#[derive(Debug)]
pub struct Mae {
    config: MaeConfig,
    encoder: Vit,
    embed: Linear,
    mask_token: Tensor,
    position: Tensor,
    decoder: EncoderBlocks,
    predict: Linear,
}

/// Pixels of the patches, row by row: `[N, C, S, S] -> [N, (S/p)^2, p*p*C]`, channels last within a patch.
///
/// # Errors
/// Images whose sides the patch does not divide.
pub fn patchify(images: &Tensor, patch: i64) -> Result<Tensor> {
    match images.size()[..] {
        [n, c, h, w] if patch > 0 && h % patch == 0 && w % patch == 0 => {
            let x = images.view([n, c, h / patch, patch, w / patch, patch]).permute([0, 2, 4, 3, 5, 1]);
            Ok(x.reshape([n, h / patch * (w / patch), patch * patch * c]))
        }
        _ => Err(Error::shape("images", format!("[N, C, H, W] of patches of side {patch}"), images)),
    }
}

impl Mae {
    /// A network with fresh weights, under `encoder` and `decoder` of `p`.
    ///
    /// # Errors
    /// A side that is no multiple of the patch, heads that do not divide widths, widths that are no multiples of 4, a ratio that
    /// leaves no patch seen or none hidden.
    pub fn new(p: &Path, config: &MaeConfig) -> Result<Self> {
        let MaeConfig { side, patch, channels, encoder, decoder, mask_ratio, .. } = *config;
        check_range("mask_ratio", mask_ratio, 0.0..1.0)?;
        let (width, depth, heads) = encoder;
        let position = PatchPosition::SineCosine;
        let vit = VitConfig { side, patch, channels, width, depth, heads, mlp_ratio: 4, position };
        let vit = Vit::new(p / "encoder", &vit)?;
        let (width, depth, heads) = decoder;
        let fixed = sine_cosine_positions(side / patch, width)?;
        let p = p / "decoder";
        let mut position = p.zeros_no_train("position", &fixed.size());
        tch::no_grad(|| position.copy_(&fixed));
        let model = Self {
            config: *config,
            encoder: vit,
            embed: layers::linear(&p / "embed", encoder.0, width, true),
            mask_token: p.var("mask", &[1, 1, width], Init::Randn { mean: 0.0, stdev: 0.02 }),
            position,
            decoder: EncoderBlocks::new(&p, width, depth, heads, 4)?,
            predict: layers::linear(&p / "predict", width, patch * patch * channels, true),
        };
        match model.visible() {
            v if v >= 1 && v < model.patches() => Ok(model),
            v => Err(Error::value("mask_ratio", "one that leaves patches seen and hidden", format!("{v} seen"))),
        }
    }

    /// The encoder.
    pub fn encoder(&self) -> &Vit {
        &self.encoder
    }

    /// Patches of an image.
    pub fn patches(&self) -> i64 {
        self.encoder.config().patches()
    }

    /// Patches that are seen: `floor(patches * (1 - mask_ratio))`.
    pub fn visible(&self) -> i64 {
        (self.patches() as f64 * (1.0 - self.config.mask_ratio)) as i64
    }

    /// Noise `[N, patches]` from libtorch's generator, which decides the masks of [`forward`](Self::forward).
    pub fn noise(&self, images: i64) -> Tensor {
        Tensor::rand([images, self.patches()], (Kind::Float, self.position.device()))
    }

    /// Predicts the hidden patches of images `[N, C, S, S]`; each image sees the patches of its least entries of `noise`
    /// `[N, patches]`.
    ///
    /// # Errors
    /// Images of another size, noise of another shape.
    pub fn forward(&self, images: &Tensor, noise: &Tensor) -> Result<MaeOutput> {
        let patches = self.encoder.embed(images)?;
        let (n, count, width) = patches.size3()?;
        if noise.size() != [n, count] {
            return Err(Error::shape("noise", format!("[{n}, {count}]"), noise));
        }
        let visible = self.visible();
        let order = noise.argsort(1, false);
        let place = order.argsort(1, false);
        let kept = order.narrow(1, 0, visible).unsqueeze(2);
        let tokens = self.encoder.encode(&patches.gather(1, &kept.expand([n, visible, width], false), false))?;
        let prediction = self.decode(&tokens, &place);
        let mask = place.ge(visible).to_kind(prediction.kind());

        let mut target = patchify(images, self.config.patch)?;
        if self.config.normalise {
            let (variance, mean) = target.var_mean_dim([-1i64].as_slice(), true, true);
            target = (target - mean) / (variance + EPS).sqrt();
        }
        let error = (&prediction - target).square().mean_dim([-1i64].as_slice(), false, prediction.kind());
        // Every image hides as many.
        let hidden = (n * (count - visible)) as f64;
        Ok(MaeOutput { loss: (error * &mask).sum(prediction.kind()) / hidden, mask, prediction })
    }

    /// Pixels from the encoder's tokens `[N, 1 + visible, width]` and the place of every patch in the shuffled order.
    fn decode(&self, tokens: &Tensor, place: &Tensor) -> Tensor {
        let x = self.embed.forward(tokens);
        let (n, seen, width) = x.size3().expect("the encoder's tokens");
        let count = place.size()[1];
        let masks = self.mask_token.expand([n, count + 1 - seen, width], false);
        let shuffled = Tensor::cat(&[&x.narrow(1, 1, seen - 1), &masks], 1);
        let restored = shuffled.gather(1, &place.unsqueeze(2).expand([n, count, width], false), false);
        let x = Tensor::cat(&[&x.narrow(1, 0, 1), &restored], 1) + &self.position;
        self.predict.forward(&self.decoder.forward(&x)).narrow(1, 1, count)
    }
}
