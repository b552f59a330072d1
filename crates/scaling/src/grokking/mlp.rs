//! The perceptron in which the output scale is the only knob.

use autodidact_core::error::check_range;
use autodidact_core::{Error, Result};
use tch::Tensor;
use tch::nn::{Init, Path};

/// ReLU layers without biases in the tangent kernel's parametrisation: weights `~ N(0, gain^2)`, each layer's product divided by the root
/// of its width, the last one's by the width itself (so that features move at widths that are large).
#[derive(Debug)]
pub struct NtkMlp {
    layers: Vec<Tensor>,
}

impl NtkMlp {
    /// Of widths `[inputs, hidden ..., outputs]`, with fresh weights under `p` from libtorch's generator.
    ///
    /// # Errors
    /// Fewer than two widths or one that is not positive; a gain not above 0.
    pub fn new(p: &Path<'_>, widths: &[i64], gain: f64) -> Result<Self> {
        if widths.len() < 2 || widths.iter().any(|w| *w < 1) {
            return Err(Error::value("widths", "two or more positive widths", format!("{widths:?}")));
        }
        check_range("gain", gain, f64::MIN_POSITIVE..)?;
        let layer = |(i, pair): (usize, &[i64])| {
            p.var(&format!("layer{i}"), &[pair[1], pair[0]], Init::Randn { mean: 0.0, stdev: gain })
        };
        Ok(Self { layers: widths.windows(2).enumerate().map(layer).collect() })
    }

    /// Outputs `[P, C]` of inputs `[P, D]`.
    ///
    /// # Errors
    /// Inputs of another width or type.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let last = self.layers.len() - 1;
        let mut h = x.shallow_clone();
        for (i, w) in self.layers.iter().enumerate() {
            let width = w.size()[1] as f64;
            let scale = if i == last && last > 0 { width } else { width.sqrt() };
            h = h.f_matmul(&w.tr())? / scale;
            if i < last {
                h = h.relu();
            }
        }
        Ok(h)
    }
}
