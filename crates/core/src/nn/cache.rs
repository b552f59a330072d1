//! Keys and values of the positions that a language model has seen.

use super::attention::AttentionConfig;
use super::rotary::RotaryTable;
use tch::{Device, Kind, Tensor};

/// Keys and values of the positions seen so far, in buffers of fixed capacity: `[B, kv_heads, capacity, head_width]`.
#[derive(Debug)]
pub struct KvCache {
    pub(super) layers: Vec<(Tensor, Tensor)>,
    pub(super) len: i64,
    pub(super) capacity: i64,
    /// Turns of the positions `0..capacity`.
    pub(super) rotary: Option<RotaryTable>,
    padding: Option<Padding>,
}

/// Padding before the first token of each row.
#[derive(Debug)]
struct Padding {
    /// Its length, `[B]`.
    before: Tensor,
    /// Added to the attention scores of a place: minus infinity in the padding, `[B, 1, 1, capacity]`.
    scores: Tensor,
}

impl KvCache {
    pub(super) fn new(
        layers: usize,
        batch: i64,
        config: &AttentionConfig,
        capacity: i64,
        options: (Kind, Device),
    ) -> Self {
        let shape = [batch, config.kv_heads, capacity, config.head()];
        let buffer = || Tensor::zeros(shape, options);
        let layers = (0..layers).map(|_| (buffer(), buffer())).collect();
        Self { layers, len: 0, capacity, rotary: None, padding: None }
    }

    /// Declares the first `before [B]` (Int64) places of each row padding.
    pub(super) fn pad(&mut self, before: &Tensor) {
        let options = (self.layers[0].0.kind(), before.device());
        let inside = Tensor::arange(self.capacity, (Kind::Int64, before.device())).less_tensor(&before.unsqueeze(1));
        let scores = Tensor::zeros(inside.size(), options).masked_fill(&inside, f64::NEG_INFINITY);
        self.padding = Some(Padding { before: before.shallow_clone(), scores: scores.unsqueeze(1).unsqueeze(1) });
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
        if let Some(p) = &mut self.padding {
            p.before = p.before.index_select(0, rows);
            p.scores = p.scores.index_select(0, rows);
        }
    }

    /// Positions `[B, t]` of the next `t` places, counted from each row's first token (0 in the padding), where rows differ.
    pub(super) fn positions(&self, t: i64) -> Option<Tensor> {
        let before = &self.padding.as_ref()?.before;
        let place = Tensor::arange_start(self.len, self.len + t, (Kind::Int64, before.device()));
        Some((place - before.unsqueeze(1)).clamp_min(0))
    }

    /// What the next `t` places may attend to, where "nothing later" does not say it.
    pub(super) fn mask(&self, t: i64) -> Option<Tensor> {
        let all = self.len + t;
        let earlier = || Tensor::ones([t, all], (Kind::Bool, self.layers[0].0.device())).tril(self.len);
        match &self.padding {
            None => (self.len > 0 && t > 1).then(earlier),
            Some(p) if t == 1 => Some(p.scores.narrow(3, 0, all)),
            Some(p) => {
                let token = p.scores.narrow(3, 0, all).eq(0.0);
                // A place in the padding sees what is before it: a softmax over nothing would be NaN, and no token sees the place.
                let padding = token.narrow(3, self.len, t).logical_not().transpose(2, 3);
                Some(earlier().logical_and(&token.logical_or(&padding)))
            }
        }
    }
}
