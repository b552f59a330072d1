//! Keys and values of the positions that a language model has seen.

use super::attention::AttentionConfig;
use super::rotary::RotaryTable;
use crate::{Error, Result};
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
    /// Added to the attention scores of a place: minus infinity in the padding, `[B, 1, 1, capacity or more]`.
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
        // Rows of a length that GPU kernels take as it is.
        let places = (self.capacity + 15) / 16 * 16;
        let inside = Tensor::arange(places, (Kind::Int64, before.device())).less_tensor(&before.unsqueeze(1));
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

    /// Drops the rows that are not to be kept, one flag per row. The last rows take the places of dropped ones, so that no other row is
    /// copied; returns which of the rows before each row is now.
    ///
    /// # Errors
    /// Flags for another number of rows, or none that is set.
    pub fn retain(&mut self, keep: &[bool]) -> Result<Vec<i64>> {
        let batch = self.layers[0].0.size()[0];
        let kept = keep.iter().filter(|&&k| k).count();
        if keep.len() as i64 != batch || kept == 0 {
            return Err(Error::value("rows to keep", format!("{batch} flags, one or more set"), format!("{keep:?}")));
        }
        let mut last = (kept..keep.len()).filter(|&row| keep[row]);
        let rows: Vec<i64> =
            (0..kept).map(|row| if keep[row] { row } else { last.next().expect("as many as holes") } as i64).collect();
        let moves = || rows.iter().enumerate().map(|(to, &from)| (to as i64, from)).filter(|(to, from)| to != from);
        for buffer in self.layers.iter_mut().flat_map(|(k, v)| [k, v]) {
            let used = buffer.narrow(2, 0, self.len);
            moves().for_each(|(to, from)| used.select(0, to).copy_(&used.select(0, from)));
            *buffer = buffer.narrow(0, 0, kept as i64);
        }
        if let Some(p) = &mut self.padding {
            let index = Tensor::from_slice(&rows).to_device(p.before.device());
            p.before = p.before.index_select(0, &index);
            p.scores = p.scores.index_select(0, &index);
        }
        Ok(rows)
    }

    /// Rows of these indices, of which some may be repeated and others missing.
    pub(super) fn select(&mut self, rows: &Tensor) {
        for buffer in self.layers.iter_mut().flat_map(|(k, v)| [k, v]) {
            *buffer = buffer.index_select(0, rows);
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
