//! Decoder-only transformers: one network that is GPT-2 (learned positions, layer norm, GELU), Llama (rotary positions, RMS norm,
//! SwiGLU, grouped key-value heads) or Qwen2 (Llama with biases in queries, keys and values), as its configuration says.

mod config;
mod lora;
mod pattern;
mod trace;

pub use config::{Bias, GptConfig, Perceptron, Position};
pub use pattern::AttentionPattern;
pub use trace::BlockTrace;

use super::attention::{Attention, Place};
use super::lora::Projection;
use super::norm::NormLayer;
use super::rotary::RotaryTable;
use super::{KvCache, layers};
use crate::{Error, Result};
use std::collections::BTreeMap;
use tch::nn::{Embedding, EmbeddingConfig, Init, Module, Path};
use tch::{Device, Kind, Tensor};

#[derive(Debug)]
struct Block {
    norm1: NormLayer,
    attention: Attention,
    norm2: NormLayer,
    /// Of a SwiGLU perceptron only.
    gate: Option<Projection>,
    up: Projection,
    down: Projection,
}

impl Block {
    fn forward(
        &self,
        x: &Tensor,
        place: &Place,
        cache: Option<&mut (Tensor, Tensor)>,
        see: impl FnOnce(&Tensor, &Tensor),
    ) -> Tensor {
        let x = x + self.attention.forward_seen(&self.norm1.forward(x), place, cache, see);
        let y = self.norm2.forward(&x);
        let y = match &self.gate {
            Some(gate) => gate.forward(&y).silu() * self.up.forward(&y),
            None => self.up.forward(&y).gelu("tanh"),
        };
        &x + self.down.forward(&y)
    }
}

/// A decoder-only language model.
#[derive(Debug)]
pub struct Gpt {
    config: GptConfig,
    tokens: Embedding,
    positions: Option<Tensor>,
    /// Frequencies `[head/2]` of rotary positions, and the factor on cosines and sines.
    rotary: Option<(Tensor, f64)>,
    blocks: Vec<Block>,
    norm: NormLayer,
    head: Tensor,
}

impl Gpt {
    /// A network with fresh weights under `p`: normal with deviation 0.02, and `0.02/sqrt(2 depth)` in the projections that
    /// write to the residual stream (GPT-2).
    ///
    /// # Errors
    /// Sizes that are not positive or do not divide each other, settings out of range.
    pub fn new(p: Path, config: &GptConfig) -> Result<Self> {
        let model = Self::build(p, config, layers::linear, Init::Randn { mean: 0.0, stdev: 0.02 })?;
        tch::no_grad(|| model.initialise());
        Ok(model)
    }

    /// A network whose weights are zero (norms: one), to be filled from a file.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub(crate) fn blank(p: Path, config: &GptConfig) -> Result<Self> {
        Self::build(p, config, layers::blank_linear, Init::Const(0.0))
    }

    fn build(p: Path, config: &GptConfig, linear: layers::MakeLinear, init: Init) -> Result<Self> {
        config.check()?;
        let &GptConfig { vocab, context, width, hidden, bias, .. } = config;
        let attention = config.attention();
        let norm = |p: Path| NormLayer::new(p, width, config.norm, config.norm_eps);
        let project = |p: Path, input, output| Projection::new(linear(p, input, output, bias.perceptron));
        let embedding = EmbeddingConfig { ws_init: init, ..Default::default() };
        let tokens = tch::nn::embedding(&p / "tokens", vocab, width, embedding);
        let learned = config.position == Position::Learned;
        let positions = learned.then(|| p.var("positions", &[context, width], init));
        let rotary = attention.rotary.map(|rotary| {
            let (frequencies, factor) = rotary.frequencies(attention.head());
            (Tensor::from_slice(&frequencies).to_kind(Kind::Float).to_device(p.device()), factor)
        });
        let gated = config.perceptron == Perceptron::SwiGlu;
        let blocks = (0..config.depth).map(|i| {
            let p = &p / "blocks" / i;
            Ok(Block {
                norm1: norm(&p / "norm1"),
                attention: Attention::with(&p / "attention", &attention, linear)?,
                norm2: norm(&p / "norm2"),
                gate: gated.then(|| project(&p / "gate", width, hidden)),
                up: project(&p / "up", width, hidden),
                down: project(&p / "down", hidden, width),
            })
        });
        let blocks = blocks.collect::<Result<Vec<_>>>()?;
        let norm = norm(&p / "norm");
        let head = if config.tied { tokens.ws.shallow_clone() } else { p.var("head", &[vocab, width], init) };
        Ok(Self { config: *config, tokens, positions, rotary, blocks, norm, head })
    }

    fn initialise(&self) {
        let residual = 0.02 / (2.0 * self.config.depth as f64).sqrt();
        for block in &self.blocks {
            let [qkv, out] = block.attention.linears();
            let gate = block.gate.as_ref().map(|gate| (&gate.linear, 0.02));
            let rest = [(&block.up.linear, 0.02), (&block.down.linear, residual)];
            for (linear, stdev) in [(qkv, 0.02), (out, residual)].into_iter().chain(gate).chain(rest) {
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

    /// The weights by the names that they have under the network's path in its store, without those of adapters.
    pub fn parameters(&self) -> BTreeMap<String, Tensor> {
        let mut all = BTreeMap::new();
        let mut put = |name: String, t: Option<&Tensor>| {
            if let Some(t) = t {
                all.insert(name, t.shallow_clone());
            }
        };
        put("tokens.weight".into(), Some(&self.tokens.ws));
        put("positions".into(), self.positions.as_ref());
        put("head".into(), Some(&self.head).filter(|_| !self.config.tied));
        for (i, block) in self.blocks.iter().enumerate() {
            for (name, norm) in [("norm1", &block.norm1), ("norm2", &block.norm2)] {
                let (weight, bias) = norm.parameters();
                put(format!("blocks.{i}.{name}.weight"), weight);
                put(format!("blocks.{i}.{name}.bias"), bias);
            }
            for (name, gain) in ["q_norm", "k_norm"].into_iter().zip(block.attention.gains().into_iter().flatten()) {
                put(format!("blocks.{i}.attention.{name}.weight"), Some(gain));
            }
            let [qkv, out] = block.attention.linears();
            let gate = block.gate.as_ref().map(|gate| ("gate", &gate.linear));
            let rest = [("up", &block.up.linear), ("down", &block.down.linear)];
            for (name, linear) in [("attention.qkv", qkv), ("attention.out", out)].into_iter().chain(gate).chain(rest) {
                put(format!("blocks.{i}.{name}.weight"), Some(&linear.ws));
                put(format!("blocks.{i}.{name}.bias"), linear.bs.as_ref());
            }
        }
        let (weight, bias) = self.norm.parameters();
        put("norm.weight".into(), weight);
        put("norm.bias".into(), bias);
        all
    }

    /// An empty cache for `batch` sequences of up to the whole context.
    pub fn cache(&self, batch: i64, device: Device) -> KvCache {
        self.cache_with_capacity(batch, self.config.context, device)
    }

    /// An empty cache for `batch` sequences of up to `capacity` tokens (at most the context); its memory grows with both.
    pub fn cache_with_capacity(&self, batch: i64, capacity: i64, device: Device) -> KvCache {
        let capacity = capacity.clamp(1, self.config.context);
        let options = (self.tokens.ws.kind(), device);
        let mut cache = KvCache::new(self.blocks.len(), batch, &self.config.attention(), capacity, options);
        cache.rotary = self.rotary_table(capacity, device);
        cache
    }

    /// An empty cache as [`cache_with_capacity`](Self::cache_with_capacity) for rows whose first `padding [B]` (Int64) places are no
    /// tokens: these are never attended to, and a row's positions count from its first token.
    pub fn cache_after_padding(&self, padding: &Tensor, capacity: i64) -> KvCache {
        let mut cache = self.cache_with_capacity(padding.numel() as i64, capacity, padding.device());
        cache.pad(padding);
        cache
    }

    fn rotary_table(&self, len: i64, device: Device) -> Option<RotaryTable> {
        let (frequencies, factor) = self.rotary.as_ref()?;
        Some(RotaryTable::new(&frequencies.to_device(device), *factor, len, self.tokens.ws.kind()))
    }

    /// Embeddings of tokens without their positions, `[B, T]` (Int64) to `[B, T, width]`: what
    /// [`hidden_of_embeddings`](Self::hidden_of_embeddings) takes, on their own or behind embeddings of something else (patches of an
    /// image, say).
    ///
    /// ```
    /// use autodidact_core::nn::{Gpt, GptConfig};
    /// use tch::{Device, Kind, Tensor, nn::VarStore};
    /// let vs = VarStore::new(Device::Cpu);
    /// let model = Gpt::new(vs.root(), &GptConfig::gpt2(10, 8, 16, 1, 2)).unwrap();
    /// let image = Tensor::randn([1, 4, 16], (Kind::Float, Device::Cpu));
    /// let words = model.embed(&Tensor::from_slice(&[3i64, 7]).view([1, 2])).unwrap();
    /// let hidden = model.hidden_of_embeddings(&Tensor::cat(&[image, words], 1), None).unwrap();
    /// assert_eq!(hidden.size(), [1, 6, 16]);
    /// ```
    ///
    /// # Errors
    /// Indices of another rank or type or (on the CPU) outside the vocabulary.
    pub fn embed(&self, tokens: &Tensor) -> Result<Tensor> {
        if tokens.dim() != 2 || tokens.kind() != Kind::Int64 {
            return Err(Error::shape("tokens", "Int64 [B, T]", tokens));
        }
        Ok(Tensor::f_embedding(&self.tokens.ws, tokens, -1, false, false)?)
    }

    /// Hidden states after the last norm: `[B, T]` token indices to `[B, T, width]`. With a cache, the tokens follow those
    /// that it holds, and are added to it.
    ///
    /// # Errors
    /// As [`embed`](Self::embed) and [`hidden_of_embeddings`](Self::hidden_of_embeddings).
    pub fn hidden(&self, tokens: &Tensor, cache: Option<&mut KvCache>) -> Result<Tensor> {
        self.hidden_of_embeddings(&self.embed(tokens)?, cache)
    }

    /// As [`hidden`](Self::hidden) for embeddings `[B, T, width]` in the places of tokens; positions are added here.
    ///
    /// # Errors
    /// Embeddings of another shape or of integers, a sequence beyond the context, a cache of another batch size.
    pub fn hidden_of_embeddings(&self, embeddings: &Tensor, cache: Option<&mut KvCache>) -> Result<Tensor> {
        self.run(embeddings, cache, None)
    }

    /// The blocks and the last norm; with a list, what the blocks compute inside.
    fn run(
        &self,
        embeddings: &Tensor,
        mut cache: Option<&mut KvCache>,
        mut traces: Option<&mut Vec<BlockTrace>>,
    ) -> Result<Tensor> {
        let t = self.check_length(embeddings, cache.as_deref())?;
        let past = cache.as_ref().map_or(0, |c| c.len);
        let positions = cache.as_ref().and_then(|c| c.positions(t));
        let mut x = match (&self.positions, &positions) {
            (Some(learned), Some(positions)) => {
                embeddings + learned.index_select(0, &positions.view([-1])).view_as(embeddings)
            }
            (Some(learned), None) => embeddings + learned.narrow(0, past, t),
            (None, _) => embeddings.shallow_clone(),
        };
        let rotary = match cache.as_ref().map(|c| &c.rotary) {
            Some(table) => table.as_ref().map(|table| match &positions {
                Some(positions) => table.gather(positions),
                None => table.narrow(past, t),
            }),
            None => self.rotary_table(t, embeddings.device()),
        };
        let cached = cache.as_ref().and_then(|c| c.mask(t));
        let mut masks = self.config.pattern.masks(cached, past, t, embeddings.device());
        let mut place = Place { past, rotary, mask: None };
        for (i, block) in self.blocks.iter().enumerate() {
            // The mask of this turn, which goes back afterwards.
            let turn = i % masks.len();
            place.mask = masks[turn].take();
            let mut seen = None;
            x = block.forward(&x, &place, cache.as_mut().map(|c| &mut c.layers[i]), |q, k| {
                if traces.is_some() {
                    seen = Some((q.shallow_clone(), k.shallow_clone()));
                }
            });
            if let (Some(traces), Some((queries, keys))) = (traces.as_deref_mut(), seen) {
                let scale = self.config.scores.factor(queries.size()[3]);
                traces.push(BlockTrace { queries, keys, scale, output: x.shallow_clone() });
            }
            masks[turn] = place.mask.take();
        }
        if let Some(c) = cache {
            c.len += t;
        }
        Ok(self.norm.forward(&x))
    }

    /// Checks the input of [`hidden_of_embeddings`](Self::hidden_of_embeddings); its length.
    fn check_length(&self, embeddings: &Tensor, cache: Option<&KvCache>) -> Result<i64> {
        let (b, t) = match embeddings.size()[..] {
            [b, t, width] if width == self.config.width => (b, t),
            _ => return Err(Error::shape("embeddings", format!("[B, T, {}]", self.config.width), embeddings)),
        };
        if !embeddings.is_floating_point() {
            let found = format!("{:?} (tokens go to `hidden`)", embeddings.kind());
            return Err(Error::value("embeddings", "a floating-point tensor", found));
        }
        let past = cache.map_or(0, |c| c.len);
        let capacity = cache.map_or(self.config.context, |c| c.capacity);
        if past + t > capacity {
            return Err(Error::value("sequence length", format!("at most the context of {capacity}"), past + t));
        }
        if let Some(c) = cache.filter(|c| c.layers[0].0.size()[0] != b) {
            return Err(Error::shape("key-value cache", format!("a batch of {b}"), &c.layers[0].0));
        }
        Ok(t)
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
        let llama = GptConfig { head_width: Some(6), ..GptConfig::llama(11, 12, 16, 2, (4, 2), 24) };
        [base, llama, GptConfig::qwen2(11, 12, 16, 2, (4, 1), 24)]
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
    fn padding_before_a_row_does_not_change_it() {
        for (_vs, model) in models() {
            let rows = Tensor::randint(11, [3, 8], (Kind::Int64, Device::Cpu));
            let padding = Tensor::from_slice(&[0i64, 2, 5]);
            let mut cache = model.cache_after_padding(&padding, 12);
            let first = model.logits(&rows.narrow(1, 0, 6), Some(&mut cache)).unwrap();
            let second = model.logits(&rows.narrow(1, 6, 1), Some(&mut cache)).unwrap();
            // The last row takes the place of the first.
            assert_eq!(cache.retain(&[false, true, true]).unwrap(), [2, 1]);
            let others = rows.index_select(0, &Tensor::from_slice(&[2i64, 1]));
            let third = model.logits(&others.narrow(1, 7, 1), Some(&mut cache)).unwrap();
            assert!(cache.retain(&[true; 3]).is_err() && cache.retain(&[false; 2]).is_err());
            assert_eq!(first.isfinite().all().int64_value(&[]), 1);
            for (row, before) in [(0, 0), (1, 2), (2, 5)] {
                let alone = model.logits(&rows.narrow(0, row, 1).narrow(1, before, 8 - before), None).unwrap();
                let mut got = vec![first.narrow(0, row, 1).narrow(1, before, 6 - before), second.narrow(0, row, 1)];
                if row > 0 {
                    got.push(third.narrow(0, 2 - row, 1));
                }
                let got = Tensor::cat(&got, 1);
                assert!(got.allclose(&alone.narrow(1, 0, got.size()[1]), 1e-4, 1e-4, false), "row {row}");
            }
        }
    }

    #[test]
    fn parameters_are_those_of_the_store_under_the_same_names() {
        for (vs, model) in models() {
            let own = model.parameters();
            assert_eq!(own, vs.variables().into_iter().collect());
        }
    }

    #[test]
    fn the_networks_take_half_precision_and_gradients_reach_every_weight() {
        for (mut vs, model) in models() {
            let tokens = Tensor::randint(11, [2, 9], (Kind::Int64, Device::Cpu));
            let loss = model.loss(&tokens, &tokens).unwrap();
            loss.backward();
            for (name, t) in vs.variables() {
                assert!(t.grad().abs().max().double_value(&[]) > 0.0, "{name}");
            }
            vs.bfloat16();
            let half = model.loss(&tokens, &tokens).unwrap();
            assert!((half.double_value(&[]) / loss.double_value(&[]) - 1.0).abs() < 0.1, "{half:?} {loss:?}");
        }
    }

    #[test]
    fn too_long_or_mistyped_input_is_an_error() {
        let (_vs, model) = models().remove(0);
        let long = Tensor::zeros([1, 13], (Kind::Int64, Device::Cpu));
        assert!(model.logits(&long, None).unwrap_err().to_string().contains("at most the context of 12"));
        let floats = Tensor::zeros([1, 3], (Kind::Float, Device::Cpu));
        assert!(model.logits(&floats, None).is_err());
        let unknown = Tensor::from_slice(&[11i64]).view([1, 1]);
        assert!(model.logits(&unknown, None).unwrap_err().to_string().contains("index out of range"));
    }

    #[test]
    fn bad_shapes_are_errors() {
        let vs = VarStore::new(Device::Cpu);
        let llama = GptConfig::llama(11, 12, 16, 2, (4, 2), 24);
        let check = |config| Gpt::new(vs.root(), &config).unwrap_err().to_string();
        assert!(check(GptConfig { kv_heads: 3, ..llama }).contains("key-value heads"));
        assert!(check(GptConfig { heads: 3, ..llama }).contains("attention heads"));
        assert!(check(GptConfig { head_width: Some(5), ..llama }).contains("head width"));
        assert!(check(GptConfig { norm_eps: 0.0, ..llama }).contains("norm_eps"));
        assert!(check(GptConfig { hidden: 0, ..llama }).contains("GPT sizes"));
        assert!(vs.is_empty());
    }
}
