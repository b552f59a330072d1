//! Several projection heads as one batched network.

use autodidact_core::nn::layers;
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::nn::{BatchNorm, Init, Linear, Module, ModuleT, Path};
use tch::{Kind, Tensor};

/// Shape of a [`MultiHeadProjector`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heads {
    /// `C`, number of heads.
    pub heads: i64,
    /// Hidden width of each head.
    pub hidden: i64,
    /// `d'`, output width of each head.
    pub output: i64,
    /// Batch norm between the hidden layer and its ReLU; the layers then have no biases.
    pub batch_norm: bool,
}

impl Default for Heads {
    /// The official code's: 3 heads, 512 and 128 units, no batch norm.
    fn default() -> Self {
        Self { heads: 3, hidden: 512, output: 128, batch_norm: false }
    }
}

/// `C` heads of one hidden layer (ReLU), each with weights of its own: representations `[N, d]` to embeddings `[C, N, d']`.
///
/// The hidden layers are one matrix product (and one batch norm) of all heads side by side, the output layers one batched
/// product over heads.
#[derive(Debug)]
pub struct MultiHeadProjector {
    config: Heads,
    hidden: Linear,
    norm: Option<BatchNorm>,
    /// `[C, hidden, d']`.
    output: Tensor,
    /// `[C, 1, d']`.
    bias: Option<Tensor>,
}

impl MultiHeadProjector {
    /// Fresh weights under `p` for representations of width `input`, each head initialised as linear layers are by default.
    ///
    /// # Errors
    /// A width or number of heads below 1.
    pub fn new(p: Path, input: i64, config: &Heads) -> Result<Self> {
        let Heads { heads, hidden, output, batch_norm } = *config;
        for (what, value) in [("input", input), ("heads", heads), ("hidden", hidden), ("output", output)] {
            if value < 1 {
                return Err(Error::value(what, "at least 1", value));
            }
        }
        let bound = 1.0 / (hidden as f64).sqrt();
        let init = Init::Uniform { lo: -bound, up: bound };
        Ok(Self {
            config: *config,
            hidden: layers::linear(&p / "hidden", input, heads * hidden, !batch_norm),
            norm: batch_norm.then(|| layers::batch_norm1d(&p / "norm", heads * hidden)),
            output: p.var("output", &[heads, hidden, output], init),
            bias: (!batch_norm).then(|| p.var("bias", &[heads, 1, output], init)),
        })
    }
}

impl ModuleT for MultiHeadProjector {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        let mut x = self.hidden.forward(x);
        if let Some(norm) = &self.norm {
            x = norm.forward_t(&x, train);
        }
        let x = x.relu().view([-1, self.config.heads, self.config.hidden]).transpose(0, 1);
        match &self.bias {
            Some(bias) => bias.baddbmm(&x, &self.output, 1.0, 1.0),
            None => x.bmm(&self.output),
        }
    }
}

/// How similar positive and negative pairs are.
#[derive(Debug, Clone, PartialEq)]
pub struct SimilarityHistogram {
    /// Share of the positive pairs in each of the equal bins of `[-1, 1]`, ascending.
    pub positive: Vec<f64>,
    /// The same of the negative pairs.
    pub negative: Vec<f64>,
}

impl SimilarityHistogram {
    /// Of cosine similarities, in tensors of any shape.
    ///
    /// # Errors
    /// No bins, no pairs, similarities that are not finite.
    pub fn new(positive: &Tensor, negative: &Tensor, bins: i64) -> Result<Self> {
        if bins < 1 {
            return Err(Error::value("bins", "at least 1", bins));
        }
        let shares = |what: &str, s: &Tensor| -> Result<Vec<f64>> {
            if s.numel() == 0 || s.isfinite().all().int64_value(&[]) == 0 {
                return Err(Error::value(what, "one or more finite similarities", "none or NaN"));
            }
            // Rounding may carry a cosine past its bounds.
            let s = s.detach().to_device(tch::Device::Cpu).to_kind(Kind::Double).clamp(-1.0, 1.0);
            // Not `histc`, which takes its bounds from the data when they are equal.
            let bin = ((s + 1.0) * (bins as f64 / 2.0)).floor().clamp_max(bins as f64 - 1.0).to_kind(Kind::Int64);
            let counts = bin.view(-1).bincount::<Tensor>(None, bins).to_kind(Kind::Double);
            Ok((&counts / counts.sum(Kind::Double)).try_into()?)
        };
        Ok(Self { positive: shares("positive", positive)?, negative: shares("negative", negative)? })
    }

    /// Overlap coefficient of the two: the sum over bins of the smaller share, 0 (apart) to 1 (equal).
    pub fn overlap(&self) -> f64 {
        self.positive.iter().zip(&self.negative).map(|(p, n)| p.min(*n)).sum()
    }
}
