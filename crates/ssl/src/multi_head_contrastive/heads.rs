//! Several projection heads as one batched network.

use autodidact_core::nn::layers;
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::Tensor;
use tch::nn::{BatchNorm, Init, Linear, Module, ModuleT, Path};

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
