//! Attention scores before the softmax.

use autodidact_core::nn::BlockTrace;
use autodidact_core::{Error, Result};
use tch::{Kind, Tensor};

/// Which pairs of places count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pairs {
    /// Those that causal attention sees: keys not after the query.
    #[default]
    Causal,
    /// All.
    All,
}

/// What a block's attention looks like, scalars (f32 or the network's type) without graphs.
#[derive(Debug)]
pub struct AttentionStats {
    /// The largest score over batch, heads and pairs.
    pub max_logit: Tensor,
    /// Mean length of the queries.
    pub query_norm: Tensor,
    /// Mean length of the keys.
    pub key_norm: Tensor,
    /// Root mean square of the cosines of queries and keys: how aligned they are.
    pub cosine: Tensor,
}

/// Products of queries and keys `[B, H, T, T]` without scale, and a mask of pairs that do not count.
fn products(block: &BlockTrace, pairs: Pairs) -> Result<(Tensor, Option<Tensor>)> {
    let (q, k) = (block.queries.detach(), block.keys.detach());
    let [b, h, t, d] = q.size()[..] else { return Err(Error::shape("queries", "[B, H, T, head]", &q)) };
    let kv = if k.dim() == 4 { k.size()[1].max(1) } else { 1 };
    if k.size() != [b, kv, t, d] || h % kv != 0 {
        return Err(Error::shape("keys", format!("[{b}, a divisor of {h}, {t}, {d}]"), &k));
    }
    // Queries of a group are rows that meet the same keys.
    let scores = q.reshape([b, kv, h / kv * t, d]).matmul(&k.transpose(-1, -2)).view([b, h, t, t]);
    let hidden = (pairs == Pairs::Causal).then(|| Tensor::ones([t, t], (Kind::Bool, q.device())).triu(1));
    Ok((scores, hidden))
}

/// The largest attention score of a block, before softmax and mask: over the batch, heads and pairs, a scalar. NaN if any is.
///
/// # Errors
/// Queries and keys that do not fit together.
pub fn max_attention_logit(block: &BlockTrace, pairs: Pairs) -> Result<Tensor> {
    tch::no_grad(|| {
        let (mut scores, hidden) = products(block, pairs)?;
        if let Some(hidden) = hidden {
            let _ = scores.masked_fill_(&hidden, f64::NEG_INFINITY);
        }
        Ok(scores.max() * block.scale)
    })
}

/// All of [`AttentionStats`].
///
/// # Errors
/// Queries and keys that do not fit together.
pub fn attention_stats(block: &BlockTrace, pairs: Pairs) -> Result<AttentionStats> {
    tch::no_grad(|| {
        let (scores, hidden) = products(block, pairs)?;
        let length = |t: &Tensor| t.detach().norm_scalaropt_dim(2, [-1i64].as_slice(), true);
        let (q, k) = (length(&block.queries), length(&block.keys));
        let repeated = k.repeat_interleave_self_int(q.size()[1] / k.size()[1], 1, None);
        let cosines = (&scores / (&q * repeated.transpose(-1, -2)).clamp_min(f64::from(f32::MIN_POSITIVE))).square();
        let kept = match &hidden {
            Some(hidden) => hidden.logical_not().to_kind(cosines.kind()).expand_as(&cosines),
            None => cosines.ones_like(),
        };
        let cosine = ((cosines * &kept).sum(kept.kind()) / kept.sum(kept.kind())).sqrt();
        let visible = match &hidden {
            Some(hidden) => scores.masked_fill(hidden, f64::NEG_INFINITY),
            None => scores,
        };
        Ok(AttentionStats {
            max_logit: visible.max() * block.scale,
            query_norm: q.mean(q.kind()),
            key_norm: k.mean(k.kind()),
            cosine,
        })
    })
}
