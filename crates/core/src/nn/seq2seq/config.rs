//! Shape of an encoder-decoder transformer.

use crate::error::check_range;
use crate::nn::AttentionScores;
use crate::nn::attention::AttentionConfig;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Shape of a [`Seq2Seq`](super::Seq2Seq).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Seq2SeqConfig {
    /// Tokens of the source language.
    pub source_vocab: i64,
    /// Tokens of the target language.
    pub target_vocab: i64,
    /// Most tokens of a sequence.
    pub context: i64,
    /// Model width.
    pub width: i64,
    /// Hidden width of the perceptrons.
    pub hidden: i64,
    /// Attention heads.
    pub heads: i64,
    /// Blocks of the encoder.
    pub encoder_layers: usize,
    /// Blocks of the decoder.
    pub decoder_layers: usize,
    /// Output head and target embedding are one matrix.
    pub tied: bool,
    /// Source and target embedding are one matrix (of one vocabulary).
    pub share: bool,
    /// Share of features that training drops behind embeddings and within blocks, in `[0, 1)`.
    pub dropout: f64,
    /// The token before the first of a target.
    pub start: i64,
    /// The token that ends a target.
    pub end: i64,
}

impl Seq2SeqConfig {
    /// Two layers each for vocabularies, width, hidden width and heads: tied output, no dropout, up to 128 tokens, of which 1 starts
    /// and 2 ends a target.
    pub fn new(source_vocab: i64, target_vocab: i64, width: i64, hidden: i64, heads: i64) -> Self {
        Self {
            source_vocab,
            target_vocab,
            context: 128,
            width,
            hidden,
            heads,
            encoder_layers: 2,
            decoder_layers: 2,
            tied: true,
            share: false,
            dropout: 0.0,
            start: 1,
            end: 2,
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        for (name, value) in [
            ("source vocabulary", self.source_vocab),
            ("target vocabulary", self.target_vocab),
            ("context", self.context),
            ("width", self.width),
            ("hidden width", self.hidden),
        ] {
            check_range(name, value as f64, 1.0..)?;
        }
        check_range("dropout", self.dropout, 0.0..1.0)?;
        for (name, token) in [("start token", self.start), ("end token", self.end)] {
            check_range(name, token as f64, 0.0..self.target_vocab as f64)?;
        }
        if self.share && self.source_vocab != self.target_vocab {
            let expected = format!("the source's, {}, where embeddings are shared", self.source_vocab);
            return Err(Error::value("target vocabulary", expected, self.target_vocab));
        }
        self.attention(true).check()
    }

    pub(super) fn attention(&self, causal: bool) -> AttentionConfig {
        AttentionConfig {
            width: self.width,
            heads: self.heads,
            kv_heads: self.heads,
            head_width: None,
            bias: (true, true),
            causal,
            rotary: None,
            scores: AttentionScores::default(),
        }
    }

    /// Weights of the encoder and of the decoder as scaling laws count them: matrices of the blocks, without embeddings, head, biases and
    /// norms; `4 d^2 + 2 d d_ff` a layer of the encoder, `8 d^2 + 2 d d_ff` one of the decoder, which attends twice.
    ///
    /// ```
    /// use autodidact_core::nn::Seq2SeqConfig;
    /// let base = Seq2SeqConfig { encoder_layers: 6, decoder_layers: 6, ..Seq2SeqConfig::new(32_000, 32_000, 512, 2048, 8) };
    /// assert_eq!(base.param_split(), (18_874_368, 25_165_824));
    /// ```
    pub fn param_split(&self) -> (i64, i64) {
        let (square, perceptron) = (self.width * self.width, 2 * self.width * self.hidden);
        let encoder = self.encoder_layers as i64 * (4 * square + perceptron);
        (encoder, self.decoder_layers as i64 * (8 * square + perceptron))
    }
}
