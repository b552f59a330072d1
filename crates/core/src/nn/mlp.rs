//! Multilayer perceptrons, which are also the projectors and predictors of self-supervised learning.

use super::layers;
use crate::error::check_range;
use crate::{Error, Result};
use tch::Tensor;
use tch::nn::{BatchNorm, Linear, Module, ModuleT, Path};

/// Shape of an [`Mlp`].
#[derive(Debug, Clone, PartialEq)]
pub struct MlpConfig {
    /// Input width, hidden widths, output width.
    pub widths: Vec<i64>,
    /// Batch norm between each hidden layer and its ReLU.
    pub batch_norm: bool,
    /// Biases in the linear layers.
    pub bias: bool,
    /// Batch norm after the last layer (no ReLU follows).
    pub output_batch_norm: bool,
    /// Probability with which a hidden unit is dropped in training, in `[0, 1)`.
    pub dropout: f64,
}

impl MlpConfig {
    /// Linear layers with biases and ReLU between them.
    pub fn plain(widths: &[i64]) -> Self {
        Self { widths: widths.to_vec(), batch_norm: false, bias: true, output_batch_norm: false, dropout: 0.0 }
    }

    /// The projector of Barlow Twins: no biases, batch norm and ReLU between layers, nothing after the last.
    pub fn projector(widths: &[i64]) -> Self {
        Self { widths: widths.to_vec(), batch_norm: true, bias: false, ..Self::plain(widths) }
    }
}

/// Linear layers with (batch norm,) ReLU (and dropout) between them, `[N, widths[0]] -> [N, widths.last()]`.
#[derive(Debug)]
pub struct Mlp {
    layers: Vec<(Linear, Option<BatchNorm>)>,
    dropout: f64,
}

impl Mlp {
    /// A network with fresh weights under `p`.
    ///
    /// # Errors
    /// Fewer than two widths, or one that is not positive; a dropout outside `[0, 1)`.
    pub fn new(p: Path, config: &MlpConfig) -> Result<Self> {
        let w = &config.widths;
        if w.len() < 2 || w.iter().any(|&w| w < 1) {
            return Err(Error::value("MLP widths", "two or more positive widths", format!("{w:?}")));
        }
        check_range("MLP dropout", config.dropout, 0.0..1.0)?;
        let last = w.len() - 2;
        let layers = w
            .windows(2)
            .enumerate()
            .map(|(i, pair)| {
                let p = &p / i;
                let norm = if i == last { config.output_batch_norm } else { config.batch_norm };
                let linear = layers::linear(&p / "linear", pair[0], pair[1], config.bias);
                (linear, norm.then(|| layers::batch_norm1d(&p / "norm", pair[1])))
            })
            .collect();
        Ok(Self { layers, dropout: config.dropout })
    }
}

impl ModuleT for Mlp {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        let mut x = x.shallow_clone();
        for (i, (linear, norm)) in self.layers.iter().enumerate() {
            x = linear.forward(&x);
            if let Some(norm) = norm {
                x = norm.forward_t(&x, train);
            }
            if i + 1 < self.layers.len() {
                x = x.relu();
                if self.dropout > 0.0 {
                    x = x.dropout(self.dropout, train);
                }
            }
        }
        x
    }
}
