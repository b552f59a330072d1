//! How attention makes its weights of queries and keys: norms before the products, their scale, what takes the softmax's place.
//!
//! The default, [`AttentionScores::default`], is the attention that all common models have. The variants are those by which the
//! stability of training is studied (Wortsman et al., 2023; arXiv 2309.14322).

use super::attention::Place;
use crate::error::check_range;
use crate::{Error, Result};
use tch::nn::{Init, Path};
use tch::{Kind, Tensor};

/// From queries and keys to weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionScores {
    /// What is done to queries and keys before they are turned.
    pub norm: QkNorm,
    /// Factor on the products of queries and keys.
    pub scale: ScoreScale,
    /// What scores become.
    pub weights: AttentionWeights,
    /// Softmax goes through libtorch's fused kernel. Without it attention is a plain product of matrices: slower, and differentiable
    /// twice, as [`curvature`](crate::curvature) needs it.
    pub fused: bool,
}

impl Default for AttentionScores {
    fn default() -> Self {
        Self { norm: QkNorm::None, scale: ScoreScale::InvSqrt, weights: AttentionWeights::Softmax, fused: true }
    }
}

/// A norm of queries and keys.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum QkNorm {
    /// None.
    None,
    /// Layer norm within each head (Dehghani et al., 2023; arXiv 2302.05442), with a learned gain for queries and one for keys that all
    /// heads share, no shift. With gains of 1 no score exceeds `sqrt(head width)`.
    PerHead {
        /// Added to the variance.
        eps: f64,
    },
    /// Layer norm over all heads together, with gains as wide.
    Whole {
        /// Added to the variance.
        eps: f64,
    },
    /// `sqrt(kappa) z / sqrt(mean z^2)` within each head, without a gain: scores of the order of `kappa`.
    Fixed {
        /// Mean square of the entries afterwards.
        kappa: f64,
    },
}

/// The factor on the products.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScoreScale {
    /// `1 / sqrt(head width)`.
    InvSqrt,
    /// `1 / head width` (the maximal-update parametrisation's).
    Inv,
}

/// Weights of attention from scores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum AttentionWeights {
    /// `softmax`.
    Softmax,
    /// Pointwise: `relu(score)^2 / sqrt(length)`, each place for itself.
    SquaredRelu {
        /// The sequence length of training.
        length: i64,
    },
}

impl AttentionScores {
    pub(super) fn check(&self) -> Result<()> {
        match self.norm {
            QkNorm::PerHead { eps } | QkNorm::Whole { eps } => check_range("eps of the query-key norm", eps, 0.0..)?,
            QkNorm::Fixed { kappa } => check_range("kappa", kappa, f64::MIN_POSITIVE..)?,
            QkNorm::None => {}
        }
        match self.weights {
            AttentionWeights::SquaredRelu { length } if length < 1 => {
                Err(Error::value("length of pointwise attention", "at least 1", length))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn factor(&self, head: i64) -> f64 {
        match self.scale {
            ScoreScale::InvSqrt => 1.0 / (head as f64).sqrt(),
            ScoreScale::Inv => 1.0 / head as f64,
        }
    }

    /// Gains of queries and keys, where the norm has them.
    pub(super) fn gains(&self, p: &Path, heads: i64, kv_heads: i64, head: i64) -> Option<[Tensor; 2]> {
        let widths = match self.norm {
            QkNorm::PerHead { .. } => [head, head],
            QkNorm::Whole { .. } => [heads * head, kv_heads * head],
            _ => return None,
        };
        let [q, k] = [("q_norm", widths[0]), ("k_norm", widths[1])];
        Some([q, k].map(|(name, width)| (p / name).var("weight", &[width], Init::Const(1.0))))
    }

    /// Queries or keys `[B, heads, T, head]` after the norm.
    pub(super) fn normalise(&self, z: Tensor, gain: Option<&Tensor>) -> Tensor {
        let layer = |z: &Tensor, eps| {
            let width = z.size()[z.dim() - 1];
            z.layer_norm([width], gain, None::<&Tensor>, eps, false)
        };
        match self.norm {
            QkNorm::None => z,
            QkNorm::PerHead { eps } => layer(&z, eps),
            QkNorm::Whole { eps } => {
                let (b, heads, t, head) = z.size4().expect("[B, heads, T, head]");
                let rows = z.transpose(1, 2).reshape([b, t, heads * head]);
                layer(&rows, eps).view([b, t, heads, head]).transpose(1, 2)
            }
            QkNorm::Fixed { kappa } => {
                let width = z.size()[3];
                z.rms_norm([width], None::<&Tensor>, 1e-12) * kappa.sqrt()
            }
        }
    }

    /// Weighted sums of the values `[B, H, T, head]`; keys and values have as many heads as queries, or, `grouped`, fewer.
    pub(super) fn attend(&self, [q, k, v]: [&Tensor; 3], place: &Place, causal: bool, grouped: bool) -> Tensor {
        if self.fused && self.weights == AttentionWeights::Softmax {
            let scale = match self.scale {
                ScoreScale::InvSqrt => None,
                ScoreScale::Inv => Some(self.factor(q.size()[3])),
            };
            return Tensor::scaled_dot_product_attention(q, k, v, place.mask.as_ref(), 0.0, causal, scale, grouped);
        }
        let repeat = |t: &Tensor| match grouped {
            true => t.repeat_interleave_self_int(q.size()[1] / t.size()[1], 1, None),
            false => t.shallow_clone(),
        };
        let (k, v) = (repeat(k), repeat(v));
        let mut scores = q.matmul(&k.transpose(-1, -2)) * self.factor(q.size()[3]);
        let (t, s) = (q.size()[2], k.size()[2]);
        let hidden = match &place.mask {
            Some(mask) if mask.kind() == Kind::Bool => Some(mask.logical_not()),
            Some(mask) => {
                scores += mask;
                None
            }
            None if causal => Some(Tensor::ones([t, s], (Kind::Bool, q.device())).triu(1)),
            None => None,
        };
        if let Some(hidden) = hidden {
            scores = scores.masked_fill(&hidden, f64::NEG_INFINITY);
        }
        let weights = match self.weights {
            AttentionWeights::Softmax => scores.softmax(-1, scores.kind()),
            AttentionWeights::SquaredRelu { length } => scores.relu().square() / (length as f64).sqrt(),
        };
        weights.matmul(&v)
    }
}
