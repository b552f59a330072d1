//! The shape of a decoder-only transformer.

use super::AttentionPattern;
use crate::error::check_range;
use crate::nn::attention::AttentionConfig;
use crate::nn::{AttentionScores, Rotary, TransformerNorm};
use crate::{Error, Result};

/// How positions enter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Position {
    /// A learned vector per position (GPT-2).
    Learned,
    /// Rotary embedding of queries and keys (Llama, Qwen2).
    Rotary(Rotary),
}

/// The perceptron of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Perceptron {
    /// `down(gelu(up(x)))`, with the tanh form of GELU (GPT-2).
    Gelu,
    /// `down(silu(gate(x)) * up(x))` (SwiGLU; Shazeer, 2020, arXiv 2002.05202).
    SwiGlu,
}

/// Which linear layers have biases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bias {
    /// Queries, keys and values.
    pub qkv: bool,
    /// Output of the attention.
    pub out: bool,
    /// The perceptron's layers.
    pub perceptron: bool,
}

impl Bias {
    /// Everywhere (GPT-2).
    pub const ALL: Self = Self { qkv: true, out: true, perceptron: true };
    /// Nowhere (Llama).
    pub const NONE: Self = Self { qkv: false, out: false, perceptron: false };
    /// In queries, keys and values (Qwen2).
    pub const QKV: Self = Self { qkv: true, ..Self::NONE };
}

/// Shape of a [`Gpt`](super::Gpt).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GptConfig {
    /// Number of tokens.
    pub vocab: i64,
    /// Longest sequence.
    pub context: i64,
    /// Model width.
    pub width: i64,
    /// Blocks.
    pub depth: usize,
    /// Query heads.
    pub heads: i64,
    /// Key and value heads; must divide `heads`.
    pub kv_heads: i64,
    /// Width of a head; `None` for `width / heads`, which must then be whole.
    pub head_width: Option<i64>,
    /// Hidden width of the blocks' perceptrons.
    pub hidden: i64,
    /// The perceptron.
    pub perceptron: Perceptron,
    /// The norms.
    pub norm: TransformerNorm,
    /// Added to the variance (or mean square) in the norms, above 0.
    pub norm_eps: f64,
    /// Positions.
    pub position: Position,
    /// Biases in the linear layers.
    pub bias: Bias,
    /// Output head shares the token embedding.
    pub tied: bool,
    /// From queries and keys to weights of attention.
    pub scores: AttentionScores,
    /// Which places are attended to.
    pub pattern: AttentionPattern,
}

impl GptConfig {
    /// A GPT-2 style network: full heads, learned positions, layer norm, GELU with four times the width, biases, tied head.
    pub fn gpt2(vocab: i64, context: i64, width: i64, depth: usize, heads: i64) -> Self {
        Self {
            vocab,
            context,
            width,
            depth,
            heads,
            kv_heads: heads,
            head_width: None,
            hidden: 4 * width,
            perceptron: Perceptron::Gelu,
            norm: TransformerNorm::Layer,
            norm_eps: 1e-5,
            position: Position::Learned,
            bias: Bias::ALL,
            tied: true,
            scores: AttentionScores::default(),
            pattern: AttentionPattern::Dense,
        }
    }

    /// A Llama style network: `(query, key-value)` heads, rotary positions of base 10,000, RMS norm, SwiGLU with this hidden width, no
    /// biases, a head of its own.
    pub fn llama(vocab: i64, context: i64, width: i64, depth: usize, heads: (i64, i64), hidden: i64) -> Self {
        Self {
            kv_heads: heads.1,
            hidden,
            perceptron: Perceptron::SwiGlu,
            norm: TransformerNorm::Rms,
            position: Position::Rotary(Rotary::new(10_000.0)),
            bias: Bias::NONE,
            tied: false,
            ..Self::gpt2(vocab, context, width, depth, heads.0)
        }
    }

    /// A Qwen2 style network: as [`llama`](Self::llama) with biases in queries, keys and values, base 1,000,000 and a tied head.
    pub fn qwen2(vocab: i64, context: i64, width: i64, depth: usize, heads: (i64, i64), hidden: i64) -> Self {
        Self {
            norm_eps: 1e-6,
            position: Position::Rotary(Rotary::new(1_000_000.0)),
            bias: Bias::QKV,
            tied: true,
            ..Self::llama(vocab, context, width, depth, heads, hidden)
        }
    }

    /// Checks the sizes.
    ///
    /// # Errors
    /// Sizes that are not positive or do not divide each other, settings out of range.
    pub fn check(&self) -> Result<()> {
        let &Self { vocab, context, width, hidden, .. } = self;
        if vocab < 1 || context < 1 || width < 1 || hidden < 1 || self.depth < 1 {
            return Err(Error::value(
                "GPT sizes",
                "positive vocabulary, context, width, hidden width and depth",
                format!("{self:?}"),
            ));
        }
        check_range("norm_eps", self.norm_eps, f64::MIN_POSITIVE..)?;
        self.pattern.check()?;
        self.attention().check()
    }

    /// The attention layers' part.
    pub(crate) fn attention(&self) -> AttentionConfig {
        AttentionConfig {
            width: self.width,
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_width: self.head_width,
            bias: (self.bias.qkv, self.bias.out),
            causal: true,
            rotary: match self.position {
                Position::Rotary(rotary) => Some(rotary),
                Position::Learned => None,
            },
            scores: self.scores,
        }
    }
}
