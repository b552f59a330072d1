//! Multi-head attention with grouped keys and values, rotary positions and a key-value cache.

use super::layers;
use super::lora::Projection;
use super::rotary::{Rotary, RotaryTable};
use super::scores::{AttentionScores, QkNorm};
use crate::{Error, Result};
use tch::Tensor;
use tch::nn::{Linear, Module, Path};

/// Shape of an [`Attention`] layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionConfig {
    /// Model width.
    pub width: i64,
    /// Query heads.
    pub heads: i64,
    /// Key and value heads; must divide `heads` (fewer: grouped-query attention).
    pub kv_heads: i64,
    /// Width of a head; `None` for `width / heads`, which must then be whole.
    pub head_width: Option<i64>,
    /// Biases in the projections to queries, keys and values, and in the output projection.
    pub bias: (bool, bool),
    /// Each position sees only itself and earlier ones.
    pub causal: bool,
    /// Rotary position embedding; `None` for none.
    pub rotary: Option<Rotary>,
    /// From queries and keys to weights.
    pub scores: AttentionScores,
}

impl AttentionConfig {
    pub(super) fn check(&self) -> Result<()> {
        let &Self { width, heads, kv_heads, .. } = self;
        if heads < 1 || (self.head_width.is_none() && width % heads != 0) {
            return Err(Error::value("attention heads", format!("a divisor of width {width}"), heads));
        }
        if kv_heads < 1 || heads % kv_heads != 0 {
            return Err(Error::value("key-value heads", format!("a divisor of {heads} heads"), kv_heads));
        }
        self.scores.check()?;
        match self.rotary {
            _ if self.head() < 1 => Err(Error::value("head width", "at least 1", self.head())),
            Some(rotary) => rotary.check(self.head()),
            None => Ok(()),
        }
    }

    /// Width of a head.
    pub(crate) fn head(&self) -> i64 {
        self.head_width.unwrap_or(self.width / self.heads)
    }
}

/// What all layers of a network share in one pass: where the tokens are and what they may attend to.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// Positions that the cache already holds.
    pub past: i64,
    /// Turns queries and keys.
    pub rotary: Option<RotaryTable>,
    /// What may be attended to, if that is more than "everything" or "nothing later": bool, or added to the scores.
    pub mask: Option<Tensor>,
}

/// Multi-head self-attention, `[B, T, width] -> [B, T, width]`.
#[derive(Debug)]
pub struct Attention {
    config: AttentionConfig,
    pub(super) qkv: Projection,
    pub(super) out: Projection,
    /// Gains of the norms of queries and keys.
    gains: Option<[Tensor; 2]>,
}

impl Attention {
    /// A layer with fresh weights under `p`.
    ///
    /// # Errors
    /// Head counts that do not divide each other.
    pub fn new(p: Path, config: &AttentionConfig) -> Result<Self> {
        Self::with(p, config, layers::linear)
    }

    /// A layer whose weights are made by `linear`.
    pub(super) fn with(p: Path, config: &AttentionConfig, linear: layers::MakeLinear) -> Result<Self> {
        config.check()?;
        let head = config.head();
        let qkv = linear(&p / "qkv", config.width, head * (config.heads + 2 * config.kv_heads), config.bias.0);
        let out = linear(&p / "out", head * config.heads, config.width, config.bias.1);
        let gains = config.scores.gains(&p, config.heads, config.kv_heads, head);
        Ok(Self { config: *config, qkv: Projection::new(qkv), out: Projection::new(out), gains })
    }

    /// The input projection and the output projection.
    pub(super) fn linears(&self) -> [&Linear; 2] {
        [&self.qkv.linear, &self.out.linear]
    }

    /// Gains of the norms of queries and keys, if there are any.
    pub(super) fn gains(&self) -> Option<&[Tensor; 2]> {
        self.gains.as_ref()
    }

    /// Attends within `x`; with the buffers of keys and values of this layer, to the positions before it too.
    pub(super) fn forward(&self, x: &Tensor, place: &Place, cache: Option<&mut (Tensor, Tensor)>) -> Tensor {
        self.forward_seen(x, place, cache, |_, _| {})
    }

    /// The same, and shows the queries and keys that are multiplied.
    pub(super) fn forward_seen(
        &self,
        x: &Tensor,
        place: &Place,
        cache: Option<&mut (Tensor, Tensor)>,
        see: impl FnOnce(&Tensor, &Tensor),
    ) -> Tensor {
        let c = &self.config;
        let head = c.head();
        let (b, t, _) = x.size3().expect("[B, T, width] is checked by the caller");
        let qkv = self.qkv.forward(x).view([b, t, c.heads + 2 * c.kv_heads, head]).transpose(1, 2);
        let mut v = qkv.narrow(1, c.heads + c.kv_heads, c.kv_heads);
        let qkv = match &self.gains {
            None if c.scores.norm == QkNorm::None => qkv,
            gains => {
                let [q, k] = [(0, 0, c.heads), (1, c.heads, c.kv_heads)].map(|(i, from, heads)| {
                    c.scores.normalise(qkv.narrow(1, from, heads), gains.as_ref().map(|g| &g[i]))
                });
                Tensor::cat(&[q, k], 1)
            }
        };
        let qk = match &place.rotary {
            Some(table) => table.rotate(&qkv.narrow(1, 0, c.heads + c.kv_heads)),
            None => qkv,
        };
        let mut q = qk.narrow(1, 0, c.heads);
        let mut k = qk.narrow(1, c.heads, c.kv_heads);
        let past = place.past;
        if let Some((keys, values)) = cache {
            keys.narrow(2, past, t).copy_(&k);
            values.narrow(2, past, t).copy_(&v);
            k = keys.narrow(2, 0, past + t);
            v = values.narrow(2, 0, past + t);
        }
        see(&q, &k);
        let mut grouped = c.heads != c.kv_heads;
        if grouped && t == 1 {
            // One position's queries of a group see the same keys: as rows of one head they need no copies of these.
            q = q.reshape([b, c.kv_heads, c.heads / c.kv_heads, head]);
            grouped = false;
        }
        let causal = c.causal && t > 1 && past == 0 && place.mask.is_none();
        let y = c.scores.attend([&q, &k, &v], place, causal, grouped);
        let y = y.reshape([b, c.heads, t, head]).transpose(1, 2).reshape([b, t, c.heads * head]);
        self.out.forward(&y)
    }
}
