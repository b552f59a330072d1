//! Decoder-only transformers: GPT-2 style (learned positions, layer norm, GELU) by default; rotary positions and grouped
//! key-value heads by choice.

use super::attention::{Attention, AttentionConfig, KvCache, rotary_table};
use super::layers;
use crate::{Error, Result};
use tch::nn::{Embedding, EmbeddingConfig, Init, LayerNorm, Linear, Module, Path};
use tch::{Device, Kind, Tensor};

/// How positions enter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Position {
    /// A learned vector per position (GPT-2).
    Learned,
    /// Rotary embedding of queries and keys with this base (Llama: 10,000).
    Rotary(f64),
}

/// Shape of a [`Gpt`].
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
    /// Key and value heads.
    pub kv_heads: i64,
    /// Positions.
    pub position: Position,
    /// Biases in the linear layers.
    pub bias: bool,
    /// Output head shares the token embedding.
    pub tied: bool,
}

impl GptConfig {
    /// A GPT-2 style network: full heads, learned positions, biases, tied head.
    pub fn gpt2(vocab: i64, context: i64, width: i64, depth: usize, heads: i64) -> Self {
        let position = Position::Learned;
        Self { vocab, context, width, depth, heads, kv_heads: heads, position, bias: true, tied: true }
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

/// A decoder-only language model.
#[derive(Debug)]
pub struct Gpt {
    config: GptConfig,
    attention: AttentionConfig,
    tokens: Embedding,
    positions: Option<Tensor>,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Tensor,
}

impl Gpt {
    /// A network with fresh weights under `p`: normal with deviation 0.02, and `0.02/sqrt(2 depth)` in the projections that
    /// write to the residual stream (GPT-2).
    ///
    /// # Errors
    /// Sizes that are not positive or do not divide each other.
    pub fn new(p: Path, config: &GptConfig) -> Result<Self> {
        let &GptConfig { vocab, context, width, bias, .. } = config;
        if vocab < 1 || context < 1 || width < 1 || config.depth < 1 {
            return Err(Error::value(
                "GPT sizes",
                "positive vocabulary, context, width and depth",
                format!("{config:?}"),
            ));
        }
        let rotary = match config.position {
            Position::Rotary(base) => Some(base),
            Position::Learned => None,
        };
        let attention =
            AttentionConfig { width, heads: config.heads, kv_heads: config.kv_heads, bias, causal: true, rotary };
        let init = Init::Randn { mean: 0.0, stdev: 0.02 };
        let embedding = EmbeddingConfig { ws_init: init, ..Default::default() };
        let tokens = tch::nn::embedding(&p / "tokens", vocab, width, embedding);
        let positions = rotary.is_none().then(|| p.var("positions", &[context, width], init));
        let blocks = (0..config.depth).map(|i| {
            let p = &p / "blocks" / i;
            Ok(Block {
                norm1: layers::layer_norm(&p / "norm1", width),
                attention: Attention::new(&p / "attention", &attention)?,
                norm2: layers::layer_norm(&p / "norm2", width),
                up: layers::linear(&p / "up", width, 4 * width, bias),
                down: layers::linear(&p / "down", 4 * width, width, bias),
            })
        });
        let blocks = blocks.collect::<Result<Vec<_>>>()?;
        let norm = layers::layer_norm(&p / "norm", width);
        let head = if config.tied { tokens.ws.shallow_clone() } else { p.var("head", &[vocab, width], init) };
        let model = Self { config: *config, attention, tokens, positions, blocks, norm, head };
        tch::no_grad(|| model.initialise());
        Ok(model)
    }

    fn initialise(&self) {
        let residual = 0.02 / (2.0 * self.config.depth as f64).sqrt();
        for block in &self.blocks {
            for (linear, stdev) in block
                .attention
                .linears()
                .into_iter()
                .zip([0.02, residual])
                .chain([(&block.up, 0.02), (&block.down, residual)])
            {
                let _ = linear.ws.shallow_clone().normal_(0.0, stdev);
                if let Some(bias) = &linear.bs {
                    let _ = bias.shallow_clone().zero_();
                }
            }
        }
    }

    /// The configuration.
    pub fn config(&self) -> &GptConfig {
        &self.config
    }

    /// An empty cache for `batch` sequences.
    pub fn cache(&self, batch: i64, device: Device) -> KvCache {
        let kind = self.tokens.ws.kind();
        KvCache::new(self.blocks.len(), batch, &self.attention, self.config.context, (kind, device))
    }

    /// Hidden states after the last norm: `[B, T]` token indices to `[B, T, width]`. With a cache, the tokens follow those
    /// that it holds, and are added to it.
    ///
    /// # Errors
    /// Indices of another rank or type, a sequence beyond the context, a cache of another batch size.
    pub fn hidden(&self, tokens: &Tensor, mut cache: Option<&mut KvCache>) -> Result<Tensor> {
        let (b, t) = match tokens.size()[..] {
            [b, t] if tokens.kind() == Kind::Int64 => (b, t),
            _ => return Err(Error::shape("tokens", "Int64 [B, T]", tokens)),
        };
        let past = cache.as_ref().map_or(0, |c| c.len);
        let capacity = cache.as_ref().map_or(self.config.context, |c| c.capacity);
        if past + t > capacity {
            return Err(Error::value("sequence length", format!("at most the context of {capacity}"), past + t));
        }
        if let Some(c) = cache.as_ref().filter(|c| c.layers[0].0.size()[0] != b) {
            return Err(Error::shape("key-value cache", format!("a batch of {b}"), &c.layers[0].0));
        }
        let mut x = self.tokens.forward(tokens);
        if let Some(positions) = &self.positions {
            x += positions.narrow(0, past, t);
        }
        let table = self
            .attention
            .rotary
            .map(|base| rotary_table(self.config.width / self.config.heads, base, past, t, tokens.device()));
        for (i, block) in self.blocks.iter().enumerate() {
            let layer = cache.as_mut().map(|c| {
                let (k, v) = &mut c.layers[i];
                (k, v, past)
            });
            x = &x + block.attention.forward(&block.norm1.forward(&x), table.as_ref(), layer);
            x = &x + block.down.forward(&block.up.forward(&block.norm2.forward(&x)).gelu("tanh"));
        }
        if let Some(c) = cache {
            c.len += t;
        }
        Ok(self.norm.forward(&x))
    }

    /// Next-token logits `[B, T, vocab]`; see [`hidden`](Self::hidden).
    ///
    /// # Errors
    /// As [`hidden`](Self::hidden).
    pub fn logits(&self, tokens: &Tensor, cache: Option<&mut KvCache>) -> Result<Tensor> {
        Ok(self.project(&self.hidden(tokens, cache)?))
    }

    /// Logits of hidden states, `[..., width] -> [..., vocab]`.
    pub fn project(&self, hidden: &Tensor) -> Tensor {
        hidden.matmul(&self.head.tr())
    }

    /// The output head, `[vocab, width]`.
    pub fn head(&self) -> &Tensor {
        &self.head
    }

    /// Mean next-token cross-entropy in nats: predicts `targets [B, T]` from `tokens [B, T]`.
    ///
    /// # Errors
    /// As [`hidden`](Self::hidden), and targets of another shape.
    pub fn loss(&self, tokens: &Tensor, targets: &Tensor) -> Result<Tensor> {
        if targets.size() != tokens.size() {
            return Err(Error::shape("targets", format!("{:?}", tokens.size()), targets));
        }
        let logits = self.logits(tokens, None)?;
        Ok(logits.view([-1, self.config.vocab]).cross_entropy_for_logits(&targets.reshape([-1])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::nn::VarStore;

    fn models() -> Vec<(VarStore, Gpt)> {
        tch::manual_seed(7);
        let base = GptConfig::gpt2(11, 12, 16, 2, 4);
        let rotary = GptConfig { position: Position::Rotary(10_000.0), kv_heads: 2, bias: false, tied: false, ..base };
        [base, rotary]
            .into_iter()
            .map(|config| {
                let vs = VarStore::new(Device::Cpu);
                let model = Gpt::new(vs.root(), &config).unwrap();
                // Larger weights than at the start of training, so that attention is far from uniform.
                tch::no_grad(|| {
                    for mut t in vs.trainable_variables() {
                        if t.dim() > 1 {
                            let _ = t.g_mul_scalar_(20.0);
                        }
                    }
                });
                (vs, model)
            })
            .collect()
    }

    #[test]
    fn later_tokens_do_not_change_earlier_logits() {
        for (_vs, model) in models() {
            let a = Tensor::from_slice(&[1i64, 2, 3, 4]).view([1, 4]);
            let b = Tensor::from_slice(&[1i64, 2, 3, 9]).view([1, 4]);
            let (a, b) = (model.logits(&a, None).unwrap(), model.logits(&b, None).unwrap());
            assert!(a.narrow(1, 0, 3).allclose(&b.narrow(1, 0, 3), 1e-5, 1e-5, false));
            assert!(!a.narrow(1, 3, 1).allclose(&b.narrow(1, 3, 1), 1e-3, 1e-3, false));
        }
    }

    #[test]
    fn the_cache_gives_the_same_logits_token_by_token_and_in_chunks() {
        for (_vs, model) in models() {
            let tokens = Tensor::randint(11, [3, 9], (Kind::Int64, Device::Cpu));
            let whole = model.logits(&tokens, None).unwrap();
            for chunks in [vec![1; 9], vec![4, 1, 3, 1], vec![9]] {
                let mut cache = model.cache(3, Device::Cpu);
                let mut parts = vec![];
                for len in chunks {
                    let part = tokens.narrow(1, cache.len(), len);
                    parts.push(model.logits(&part, Some(&mut cache)).unwrap());
                }
                assert!(Tensor::cat(&parts, 1).allclose(&whole, 1e-4, 1e-4, false));
            }
        }
    }

    #[test]
    fn rotary_logits_depend_on_relative_positions_only_through_content() {
        // Rotating queries and keys alike leaves their products a function of the distance.
        let (cos, sin) = rotary_table(8, 10_000.0, 0, 6, Device::Cpu);
        let q = Tensor::rand([8], (Kind::Float, Device::Cpu)).expand([1, 1, 6, 8], false);
        let k = Tensor::rand([8], (Kind::Float, Device::Cpu)).expand([1, 1, 6, 8], false);
        let table = (cos, sin);
        let (q, k) = (super::super::attention::rotate(&q, &table), super::super::attention::rotate(&k, &table));
        let products = q.matmul(&k.transpose(-1, -2)).squeeze();
        let at = |i: i64, j: i64| products.double_value(&[i, j]);
        assert!((at(3, 1) - at(5, 3)).abs() < 1e-5);
        assert!((at(2, 1) - at(3, 1)).abs() > 1e-6);
    }

    #[test]
    fn too_long_or_mistyped_input_is_an_error() {
        let (_vs, model) = models().remove(0);
        let long = Tensor::zeros([1, 13], (Kind::Int64, Device::Cpu));
        assert!(model.logits(&long, None).unwrap_err().to_string().contains("at most the context of 12"));
        let floats = Tensor::zeros([1, 3], (Kind::Float, Device::Cpu));
        assert!(model.logits(&floats, None).is_err());
    }
}
