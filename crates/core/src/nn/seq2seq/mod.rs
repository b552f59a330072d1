//! Encoder-decoder transformers (Vaswani et al., 2017; arXiv 1706.03762) with norms before the blocks, for translation and other tasks
//! from sequence to sequence; greedy and beam decoding.

mod blocks;
mod config;
mod decode;

pub use config::Seq2SeqConfig;
pub use decode::{BeamConfig, Hypothesis};

use super::layers;
use crate::device::on_host;
use crate::text::selected_log_probs;
use crate::{Error, Result};
use blocks::{DecoderBlock, EncoderBlock};
use tch::nn::{Init, LayerNorm, Module, Path};
use tch::{Kind, Tensor};

/// An encoder-decoder transformer: pre-norm blocks with ReLU, fixed sinusoidal positions, embeddings times the root of the width.
///
/// ```
/// use autodidact_core::nn::{Seq2Seq, Seq2SeqConfig};
/// use tch::{Device, Kind, Tensor, nn::VarStore};
/// let vs = VarStore::new(Device::Cpu);
/// let model = Seq2Seq::new(vs.root(), &Seq2SeqConfig::new(20, 30, 16, 32, 2)).unwrap();
/// let source = Tensor::from_slice(&[4i64, 5, 6]).view([1, 3]);
/// let target = Tensor::from_slice(&[7i64, 8, 9, 2]).view([1, 4]);
/// // Before any training the loss is near that of guessing.
/// let loss = model.loss(&source, None, &target, false).unwrap().double_value(&[]);
/// assert!((loss - 30f64.ln()).abs() < 2.0);
/// assert_eq!(model.greedy(&source, None, 12).unwrap().len(), 1);
/// ```
#[derive(Debug)]
pub struct Seq2Seq {
    config: Seq2SeqConfig,
    source: Tensor,
    target: Tensor,
    /// Sines and cosines, `[context, width]`.
    positions: Tensor,
    encoder: Vec<EncoderBlock>,
    encoder_norm: LayerNorm,
    decoder: Vec<DecoderBlock>,
    decoder_norm: LayerNorm,
    head: Tensor,
}

/// What the decoder sees of a batch of sources.
#[derive(Debug)]
pub struct Encoded {
    /// `[B, S, width]`.
    pub states: Tensor,
    /// Which are tokens, `[B, 1, 1, S]` (bool); all of them without.
    pub mask: Option<Tensor>,
}

/// Sines and cosines of places `0..length`, `[length, width]`: features `2i` and `2i + 1` have the frequency `10000^(-2i/width)`.
fn sinusoids(length: i64, width: i64) -> Tensor {
    let options = on_host(Kind::Double);
    let frequency = (Tensor::arange_start_step(0, width, 2, options) * (-(10_000f64.ln()) / width as f64)).exp();
    let angle = Tensor::arange(length, options).outer(&frequency);
    let pairs = Tensor::stack(&[angle.sin(), angle.cos()], 2);
    pairs.reshape([length, -1]).narrow(1, 0, width).to_kind(Kind::Float).contiguous()
}

impl Seq2Seq {
    /// A network with fresh weights under `p`: matrices uniform as Glorot and Bengio's (2010), those that write to a stack's residual
    /// stream over the root of their number, biases 0, embeddings and head normal with deviation `1/sqrt(width)`.
    ///
    /// # Errors
    /// Sizes that are not positive, heads that do not divide the width, settings out of range.
    pub fn new(p: Path, config: &Seq2SeqConfig) -> Result<Self> {
        config.check()?;
        let c = config;
        let normal = Init::Randn { mean: 0.0, stdev: (c.width as f64).powf(-0.5) };
        let embedding = |name: &str, vocab| p.var(name, &[vocab, c.width], normal);
        let source = embedding("source", c.source_vocab);
        let target = if c.share { source.shallow_clone() } else { embedding("target", c.target_vocab) };
        let encoder = (0..c.encoder_layers).map(|i| EncoderBlock::new(&(&p / "encoder" / i), c));
        let encoder = encoder.collect::<Result<Vec<_>>>()?;
        let decoder = (0..c.decoder_layers).map(|i| DecoderBlock::new(&(&p / "decoder" / i), c));
        let decoder = decoder.collect::<Result<Vec<_>>>()?;
        let head = if c.tied { target.shallow_clone() } else { embedding("head", c.target_vocab) };
        Ok(Self {
            config: *c,
            source,
            target,
            positions: sinusoids(c.context, c.width).to_device(p.device()),
            encoder,
            encoder_norm: layers::layer_norm(&p / "encoder" / "norm", c.width),
            decoder,
            decoder_norm: layers::layer_norm(&p / "decoder" / "norm", c.width),
            head,
        })
    }

    /// The configuration.
    pub fn config(&self) -> &Seq2SeqConfig {
        &self.config
    }

    /// The output head, `[target_vocab, width]`.
    pub fn head(&self) -> &Tensor {
        &self.head
    }

    fn embed(&self, table: &Tensor, tokens: &Tensor, from: i64, train: bool) -> Result<Tensor> {
        let t = match tokens.size()[..] {
            [_, t] if t > 0 && tokens.kind() == Kind::Int64 => t,
            _ => return Err(Error::shape("tokens", "Int64 [B, T], at least one token each", tokens)),
        };
        if from + t > self.config.context {
            let expected = format!("at most the context of {}", self.config.context);
            return Err(Error::value("sequence length", expected, from + t));
        }
        let x = Tensor::f_embedding(table, tokens, -1, false, false)?;
        let positions = self.positions.narrow(0, from, t).to_kind(x.kind());
        // One kernel: x * sqrt(width) + positions.
        let scale = Tensor::from((self.config.width as f64).sqrt()).to_kind(x.kind());
        let x = positions.addcmul(&x, &scale.to_device(x.device()));
        Ok(self.drop(x, train))
    }

    fn drop(&self, x: Tensor, train: bool) -> Tensor {
        if train && self.config.dropout > 0.0 { x.dropout(self.config.dropout, true) } else { x }
    }

    /// The encoder's states of `source [B, S]` (Int64). `mask [B, S]` (bool) says which are tokens, where some are padding; tokens see no
    /// padding. `train` switches dropout on.
    ///
    /// # Errors
    /// Tokens of another rank or type, more than the context, (on the CPU) outside the vocabulary; a mask of another shape or type.
    pub fn encode(&self, source: &Tensor, mask: Option<&Tensor>, train: bool) -> Result<Encoded> {
        if let Some(m) = mask.filter(|m| m.size() != source.size() || m.kind() != Kind::Bool) {
            return Err(Error::shape("mask of the source", format!("Bool {:?}", source.size()), m));
        }
        let mask = mask.map(|m| m.unsqueeze(1).unsqueeze(1));
        let mut x = self.embed(&self.source, source, 0, train)?;
        let drop = |x| self.drop(x, train);
        for block in &self.encoder {
            x = block.forward(&x, mask.as_ref(), drop);
        }
        Ok(Encoded { states: self.encoder_norm.forward(&x), mask })
    }

    /// The decoder's states `[B, T, width]` after the last norm, for the tokens `inputs [B, T]` (Int64) so far, the first of them
    /// [`start`](Seq2SeqConfig::start).
    ///
    /// # Errors
    /// As [`encode`](Self::encode); a batch of another size than the sources'.
    pub fn hidden(&self, encoded: &Encoded, inputs: &Tensor, train: bool) -> Result<Tensor> {
        let batch = encoded.states.size()[0];
        if inputs.dim() == 2 && inputs.size()[0] != batch {
            return Err(Error::shape("target tokens", format!("[{batch}, T], as many as sources"), inputs));
        }
        let mut x = self.embed(&self.target, inputs, 0, train)?;
        let drop = |x| self.drop(x, train);
        for block in &self.decoder {
            let memory = block.memory(&encoded.states);
            x = block.forward(&x, &memory, encoded.mask.as_ref(), 0, None, drop);
        }
        Ok(self.decoder_norm.forward(&x))
    }

    /// Log-probabilities `[B, T]` of the tokens `target [B, T]` (Int64), each given the source and those before it. Negative targets are
    /// left out (0): fill the places behind a sentence's end with them. Logits are made in parts and never kept.
    ///
    /// # Errors
    /// As [`encode`](Self::encode) and [`hidden`](Self::hidden).
    pub fn log_probs(&self, source: &Tensor, mask: Option<&Tensor>, target: &Tensor, train: bool) -> Result<Tensor> {
        let (_, length) = match target.size()[..] {
            [b, t] if t > 0 && target.kind() == Kind::Int64 => (b, t),
            _ => return Err(Error::shape("target", "Int64 [B, T], at least one token each", target)),
        };
        let first = Tensor::full_like(&target.narrow(1, 0, 1), self.config.start);
        let inputs = Tensor::cat(&[first, target.narrow(1, 0, length - 1)], 1).clamp_min(0);
        let hidden = self.hidden(&self.encode(source, mask, train)?, &inputs, train)?;
        selected_log_probs(&hidden, &self.head, target)
    }

    /// Mean cross-entropy of the target tokens in nats; see [`log_probs`](Self::log_probs).
    ///
    /// # Errors
    /// As [`log_probs`](Self::log_probs).
    pub fn loss(&self, source: &Tensor, mask: Option<&Tensor>, target: &Tensor, train: bool) -> Result<Tensor> {
        let each = self.log_probs(source, mask, target, train)?;
        let count = target.ge(0).sum(each.kind());
        Ok(-each.sum(each.kind()) / count)
    }
}
