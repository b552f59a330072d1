//! The paper's decoders, and their losses by token.

use autodidact_core::error::check_range;
use autodidact_core::nn::{AttentionPattern, Gpt, GptConfig};
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::nn::Path;
use tch::{Kind, Reduction, Tensor};

/// What a place attends to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Attending {
    /// All earlier places.
    Dense,
    /// By turns the last `stride` places and every `stride`-th one: images and video, with the length of a row of tokens.
    Strided {
        /// Tokens of a row.
        stride: i64,
    },
}

/// A decoder with norms before its layers, GELU, a learned position for every place, and a head of its own.
///
/// ```
/// use autodidact_scaling::autoregressive_scaling::ScalingTransformer;
/// // Images: perceptrons as wide as the model, attention a quarter of it: 3 n d^2 weights.
/// let image = ScalingTransformer::image(256, 192, 64, 8);
/// assert_eq!((image.mlp, image.attention, image.parameters()), (64, 16, 98_304.0));
/// assert_eq!(image.aspect_ratio(), 8.0);
/// // Text: 12 n d^2.
/// let text = ScalingTransformer::text(50_257, 1024, 64, 2);
/// assert_eq!((text.mlp, text.attention, text.parameters()), (256, 64, 98_304.0));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ScalingTransformer {
    /// Tokens that are predicted.
    pub vocab: i64,
    /// Further tokens that only stand before the others (labels, words of a caption): they follow the predicted ones in the numbering, and
    /// have an embedding and no logit.
    pub prefix_vocab: i64,
    /// Longest sequence, prefix included.
    pub context: i64,
    /// Model width `d`.
    pub width: i64,
    /// Layers `n`.
    pub depth: usize,
    /// Heads.
    pub heads: i64,
    /// Width of the perceptrons, `m_mlp d`.
    pub mlp: i64,
    /// Width of queries, keys and values, `m_attn d`; a multiple of the heads.
    pub attention: i64,
    /// Which places are attended to.
    pub attending: Attending,
}

impl ScalingTransformer {
    /// The shape for images, video and mathematics: perceptrons of width `d`, attention of width `d/4`, `max(2, d/64)` heads, dense.
    pub fn image(vocab: i64, context: i64, width: i64, depth: usize) -> Self {
        let (mlp, attention, heads) = (width, width / 4, (width / 64).max(2));
        Self { vocab, prefix_vocab: 0, context, width, depth, heads, mlp, attention, attending: Attending::Dense }
    }

    /// The shape for text and for text with images: perceptrons of width `4 d`, attention of width `d`.
    pub fn text(vocab: i64, context: i64, width: i64, depth: usize) -> Self {
        Self { mlp: 4 * width, attention: width, ..Self::image(vocab, context, width, depth) }
    }

    /// Weights `N` without embeddings, head, norms and biases: `n (4 d m_attn d + 2 d m_mlp d)`.
    pub fn parameters(&self) -> f64 {
        let (d, attention, mlp) = (self.width as f64, self.attention as f64, self.mlp as f64);
        self.depth as f64 * d * (4.0 * attention + 2.0 * mlp)
    }

    /// Width over layers.
    pub fn aspect_ratio(&self) -> f64 {
        self.width as f64 / self.depth as f64
    }

    /// The same as a network's configuration.
    ///
    /// # Errors
    /// Sizes that are not positive, an attention that is no multiple of the heads.
    pub fn config(&self) -> Result<GptConfig> {
        check_range("predicted tokens", self.vocab as f64, 1.0..)?;
        check_range("tokens of the prefix", self.prefix_vocab as f64, 0.0..)?;
        if self.heads < 1 || self.attention < 1 || self.attention % self.heads != 0 {
            let expected = format!("a positive multiple of the {} heads", self.heads);
            return Err(Error::value("width of attention", expected, self.attention));
        }
        let pattern = match self.attending {
            Attending::Dense => AttentionPattern::Dense,
            Attending::Strided { stride } => AttentionPattern::Strided { stride },
        };
        let vocab = self.vocab + self.prefix_vocab;
        let config = GptConfig {
            head_width: Some(self.attention / self.heads),
            hidden: self.mlp,
            tied: false,
            pattern,
            ..GptConfig::gpt2(vocab, self.context, self.width, self.depth, self.heads)
        };
        config.check()?;
        Ok(config)
    }

    /// A network with fresh weights under `p`.
    ///
    /// # Errors
    /// As [`config`](Self::config).
    pub fn network(&self, p: Path) -> Result<Gpt> {
        Gpt::new(p, &self.config()?)
    }
}

/// Losses in nats of every target, Float `[B, T]`: predicts `targets [B, T]` among the first `vocab` tokens from `inputs [B, T]`. A target of
/// -100 costs nothing.
///
/// # Errors
/// Targets of another shape, inputs that the network does not take, more predicted tokens than it has.
pub fn token_losses(model: &Gpt, inputs: &Tensor, targets: &Tensor, vocab: i64) -> Result<Tensor> {
    if targets.size() != inputs.size() {
        return Err(Error::shape("targets", format!("{:?}", inputs.size()), targets));
    }
    check_range("predicted tokens", vocab as f64, 1.0..=model.config().vocab as f64)?;
    let hidden = model.hidden(inputs, None)?;
    let logits = hidden.matmul(&model.head().narrow(0, 0, vocab).tr());
    let flat = targets.reshape([-1]);
    let losses = logits.view([-1, vocab]).f_cross_entropy_loss::<Tensor>(&flat, None, Reduction::None, -100, 0.0)?;
    Ok(losses.view_as(targets))
}

/// The loss of captions with their images, `weight L_image + L_text` of means over each (the paper's weight is 9), of losses `[B, T]` whose
/// first `text` places are the caption's.
///
/// # Errors
/// No place of one of the two.
pub fn multimodal_loss(losses: &Tensor, text: i64, weight: f64) -> Result<Tensor> {
    let places = match losses.size()[..] {
        [_, t] if (1..t).contains(&text) => t,
        _ => return Err(Error::shape("losses", format!("[B, T] with T above the {text} places of text"), losses)),
    };
    let mean = |from, n| losses.narrow(1, from, n).mean(Kind::Float);
    Ok(mean(text, places - text) * weight + mean(0, text))
}
