//! The learner of Zipf-keyed recall: residual perceptrons on a sum of digit embeddings.

use anyhow::Result;
use autodidact_core::nn::layers;
use autodidact_datasets::synthetic::{RecallTable, ZipfRecall};
use tch::nn::{Embedding, LayerNorm, Linear, Module as _, Path};
use tch::{Kind, Reduction, Tensor};

/// A residual block: `x + down(gelu(up(norm(x))))`, with four times the width inside.
#[derive(Debug)]
struct Block {
    norm: LayerNorm,
    up: Linear,
    down: Linear,
}

/// A network of two residual blocks over the sum of the digits' embeddings, `[N, digits] -> [N, values]`.
#[derive(Debug)]
pub struct RecallNet {
    digits: Embedding,
    offsets: Tensor,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Linear,
}

impl RecallNet {
    /// Parameters without embeddings, biases, norms and head: `16 d^2`.
    pub fn size(width: i64) -> f64 {
        16.0 * (width * width) as f64
    }

    /// A network with fresh weights under `p`.
    pub fn new(p: Path<'_>, source: &ZipfRecall, width: i64) -> Self {
        let rows = source.base * i64::from(source.digits);
        let block = |i: usize| {
            let p = &p / format!("block{i}");
            Block {
                norm: layers::layer_norm(&p / "norm", width),
                up: layers::linear(&p / "up", width, 4 * width, true),
                down: layers::linear(&p / "down", 4 * width, width, true),
            }
        };
        Self {
            digits: tch::nn::embedding(&p / "digits", rows, width, Default::default()),
            offsets: Tensor::arange(i64::from(source.digits), (Kind::Int64, p.device())) * source.base,
            blocks: (0..2).map(block).collect(),
            norm: layers::layer_norm(&p / "norm", width),
            head: layers::linear(&p / "head", width, source.values, true),
        }
    }

    /// Logits of keys by their digits.
    pub fn logits(&self, digits: &Tensor) -> Tensor {
        let embedded = self.digits.forward(&(digits + &self.offsets));
        let start = embedded.sum_dim_intlist([1i64].as_slice(), false, Kind::Float);
        let blocks = self.blocks.iter().fold(start, |x, b| {
            let inner = b.up.forward(&b.norm.forward(&x)).gelu("none");
            x + b.down.forward(&inner)
        });
        self.head.forward(&self.norm.forward(&blocks))
    }

    /// Losses weighted by shares that sum to 1.
    pub fn loss(&self, digits: &Tensor, values: &Tensor, weights: &Tensor) -> Tensor {
        let each = self.logits(digits).cross_entropy_loss::<Tensor>(values, None, Reduction::None, -100, 0.0);
        each.dot(weights)
    }

    /// The exact test loss, over all keys.
    ///
    /// # Errors
    /// Those of libtorch.
    pub fn exact_loss(&self, table: &RecallTable) -> Result<f64> {
        let loss = tch::no_grad(|| self.loss(&table.inputs, &table.targets, &table.probabilities));
        Ok(f64::try_from(loss)?)
    }
}
