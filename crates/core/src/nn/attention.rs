//! Multi-head attention with grouped keys and values, rotary positions and a key-value cache.

use super::layers;
use crate::{Error, Result};
use tch::nn::{Linear, Module, Path};
use tch::{Device, Kind, Tensor};

/// Shape of an [`Attention`] layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionConfig {
    /// Model width.
    pub width: i64,
    /// Query heads; must divide `width`.
    pub heads: i64,
    /// Key and value heads; must divide `heads` (fewer: grouped-query attention).
    pub kv_heads: i64,
    /// Biases in the four projections.
    pub bias: bool,
    /// Each position sees only itself and earlier ones.
    pub causal: bool,
    /// Base of the rotary position embedding; `None` for none.
    pub rotary: Option<f64>,
}

impl AttentionConfig {
    pub(super) fn check(&self) -> Result<()> {
        let &Self { width, heads, kv_heads, .. } = self;
        if heads < 1 || width % heads != 0 {
            return Err(Error::value("attention heads", format!("a divisor of width {width}"), heads));
        }
        if kv_heads < 1 || heads % kv_heads != 0 {
            return Err(Error::value("key-value heads", format!("a divisor of {heads} heads"), kv_heads));
        }
        if self.rotary.is_some() && (width / heads) % 2 != 0 {
            return Err(Error::value("head width", "an even number for rotary positions", width / heads));
        }
        Ok(())
    }
}

/// Keys and values of the positions seen so far, in buffers of fixed capacity: `[B, kv_heads, capacity, head_width]`.
#[derive(Debug)]
pub struct KvCache {
    pub(super) layers: Vec<(Tensor, Tensor)>,
    pub(super) len: i64,
    pub(super) capacity: i64,
}

impl KvCache {
    pub(super) fn new(
        layers: usize,
        batch: i64,
        config: &AttentionConfig,
        capacity: i64,
        options: (Kind, Device),
    ) -> Self {
        let shape = [batch, config.kv_heads, capacity, config.width / config.heads];
        let buffer = || Tensor::zeros(shape, options);
        Self { layers: (0..layers).map(|_| (buffer(), buffer())).collect(), len: 0, capacity }
    }

    /// Positions stored.
    pub fn len(&self) -> i64 {
        self.len
    }

    /// Whether nothing is stored.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Keeps only the given rows of the batch, in that order: drops finished sequences.
    pub fn select(&mut self, rows: &Tensor) {
        for (k, v) in &mut self.layers {
            *k = k.index_select(0, rows);
            *v = v.index_select(0, rows);
        }
    }
}

/// Multi-head self-attention, `[B, T, width] -> [B, T, width]`.
#[derive(Debug)]
pub struct Attention {
    config: AttentionConfig,
    qkv: Linear,
    out: Linear,
}

impl Attention {
    /// A layer with fresh weights under `p`.
    ///
    /// # Errors
    /// Head counts that do not divide each other.
    pub fn new(p: Path, config: &AttentionConfig) -> Result<Self> {
        config.check()?;
        let head = config.width / config.heads;
        let qkv = layers::linear(&p / "qkv", config.width, head * (config.heads + 2 * config.kv_heads), config.bias);
        let out = layers::linear(&p / "out", config.width, config.width, config.bias);
        Ok(Self { config: *config, qkv, out })
    }

    /// The input projection and the output projection.
    pub(super) fn linears(&self) -> [&Linear; 2] {
        [&self.qkv, &self.out]
    }

    /// Attends within `x`; with a cache (of this layer: keys, values, and how many positions they hold), to those before it too.
    ///
    /// `rotary` holds cosines and sines of the positions of `x`, from [`rotary_table`].
    pub(super) fn forward(
        &self,
        x: &Tensor,
        rotary: Option<&(Tensor, Tensor)>,
        cache: Option<(&mut Tensor, &mut Tensor, i64)>,
    ) -> Tensor {
        let c = &self.config;
        let head = c.width / c.heads;
        let (b, t, _) = x.size3().expect("[B, T, width] is checked by the caller");
        let qkv = self.qkv.forward(x).view([b, t, c.heads + 2 * c.kv_heads, head]).transpose(1, 2);
        let mut q = qkv.narrow(1, 0, c.heads);
        let mut k = qkv.narrow(1, c.heads, c.kv_heads);
        let mut v = qkv.narrow(1, c.heads + c.kv_heads, c.kv_heads);
        if let Some(table) = rotary {
            q = rotate(&q, table);
            k = rotate(&k, table);
        }
        let mut mask: Option<Tensor> = None;
        let mut causal = c.causal;
        if let Some((keys, values, past)) = cache {
            keys.narrow(2, past, t).copy_(&k);
            values.narrow(2, past, t).copy_(&v);
            k = keys.narrow(2, 0, past + t);
            v = values.narrow(2, 0, past + t);
            if past > 0 && t > 1 {
                mask = Some(Tensor::ones([t, past + t], (Kind::Bool, x.device())).tril(past));
            }
            causal &= past == 0;
        }
        let causal = causal && t > 1;
        let y =
            Tensor::scaled_dot_product_attention(&q, &k, &v, mask.as_ref(), 0.0, causal, None, c.heads != c.kv_heads);
        self.out.forward(&y.transpose(1, 2).reshape([b, t, c.width]))
    }
}

/// Cosines and sines `[T, head_width]` of positions `from..from+len`, for [`rotate`] (rotate-half convention: feature
/// `i` pairs with `i + head_width/2`).
pub(super) fn rotary_table(head: i64, base: f64, from: i64, len: i64, device: Device) -> (Tensor, Tensor) {
    let frequency = (Tensor::arange(head / 2, (Kind::Float, device)) * (-2.0 * base.ln() / head as f64)).exp();
    let position = Tensor::arange_start(from, from + len, (Kind::Float, device));
    let angle = position.outer(&frequency);
    let angle = Tensor::cat(&[&angle, &angle], 1);
    (angle.cos(), angle.sin())
}

pub(super) fn rotate(x: &Tensor, (cos, sin): &(Tensor, Tensor)) -> Tensor {
    let half = x.size()[3] / 2;
    let turned = Tensor::cat(&[-x.narrow(3, half, half), x.narrow(3, 0, half)], 3);
    x * cos + turned * sin
}
