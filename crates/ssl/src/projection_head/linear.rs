//! Deep linear networks under the spectral contrastive loss.

use super::closed_form;
use autodidact_core::error::{check_matrix, check_range};
use autodidact_core::seed::Rng;
use autodidact_core::{Error, Result};
use rand_distr::{Distribution, StandardNormal};
use tch::Tensor;

/// `f(x) = W_D ... W_1 x`.
#[derive(Debug)]
pub struct LinearContrastiveNet {
    layers: Vec<Tensor>,
}

impl LinearContrastiveNet {
    /// From its matrices, `W_1` first; each `[out, in]`. Variables of a store stay variables, to be trained by any optimizer.
    ///
    /// # Errors
    /// No layers, or ones that do not follow each other.
    pub fn new(layers: Vec<Tensor>) -> Result<Self> {
        let mut width = None;
        for (i, w) in layers.iter().enumerate() {
            let (output, input) = check_matrix("layer", w)?;
            if width.is_some_and(|width| width != input) {
                return Err(Error::shape(format!("layer {}", i + 1), format!("[_, {}]", width.unwrap_or(0)), w));
            }
            width = Some(output);
        }
        match width {
            Some(_) => Ok(Self { layers }),
            None => Err(Error::value("layers", "at least one", 0)),
        }
    }

    /// Independent normal weights of standard deviation `std`, f64: from `d` features through `depth` layers of width `width`.
    ///
    /// # Errors
    /// Sizes below 1, a negative deviation.
    pub fn random(d: i64, width: i64, depth: usize, std: f64, rng: &mut Rng) -> Result<Self> {
        check_range("d", d as f64, 1.0..)?;
        check_range("width", width as f64, 1.0..)?;
        check_range("std", std, 0.0..)?;
        let layers = (0..depth).map(|i| {
            let input = if i == 0 { d } else { width };
            let draw = |_| std * Distribution::<f64>::sample(&StandardNormal, rng);
            Tensor::from_slice(&(0..width * input).map(draw).collect::<Vec<_>>()).view([width, input])
        });
        Self::new(layers.collect())
    }

    /// Its matrices, `W_1` first.
    pub fn layers(&self) -> &[Tensor] {
        &self.layers
    }

    /// `W_l ... W_1`, the map of the first `layer >= 1` layers.
    fn product(&self, layer: usize) -> Tensor {
        let mut layers = self.layers[..layer].iter();
        let first = layers.next().map(Tensor::shallow_clone);
        layers.fold(first.expect("at least one layer"), |product, w| w.matmul(&product))
    }

    /// Representations `[N, width]` after layer `layer` of inputs `[N, d]`.
    ///
    /// # Errors
    /// A layer that is not in `1..=depth`, inputs of another width.
    pub fn forward(&self, x: &Tensor, layer: usize) -> Result<Tensor> {
        self.check_layer(layer)?;
        let (_, d) = check_matrix("x", x)?;
        if d != self.layers[0].size()[1] {
            return Err(Error::shape("x", format!("[N, {}]", self.layers[0].size()[1]), x));
        }
        Ok(x.matmul(&self.product(layer).tr()))
    }

    /// `|W_l ... W_1 v_i|` for every feature `i`, the length to which layer `layer` brings its unit vector.
    ///
    /// # Errors
    /// A layer that is not in `1..=depth`.
    pub fn feature_weights(&self, layer: usize) -> Result<Vec<f64>> {
        self.check_layer(layer)?;
        let lengths = tch::no_grad(|| self.product(layer).norm_scalaropt_dim(2.0, [0i64].as_slice(), false));
        Ok(lengths.to_kind(tch::Kind::Double).try_into()?)
    }

    fn check_layer(&self, layer: usize) -> Result<()> {
        if (1..=self.layers.len()).contains(&layer) {
            return Ok(());
        }
        Err(Error::value("layer", format!("1 to {}", self.layers.len()), layer))
    }

    /// The population's loss `-2 tr(A C) + tr(A S A S)`, `A = W^T W`, for covariances as of
    /// [`FeatureTask`](super::FeatureTask).
    ///
    /// # Errors
    /// Covariances that are not `[d, d]`.
    pub fn population_loss(&self, sigma: &Tensor, c: &Tensor) -> Result<f64> {
        self.check_covariances(sigma, c)?;
        let w = tch::no_grad(|| self.product(self.layers.len()));
        closed_form::loss(&w.tr().matmul(&w), sigma, c)
    }

    fn check_covariances(&self, sigma: &Tensor, c: &Tensor) -> Result<()> {
        let d = self.layers[0].size()[1];
        for (name, matrix) in [("sigma", sigma), ("c", c)] {
            if matrix.size() != [d, d] || matrix.kind() != self.layers[0].kind() {
                let expected = format!("[{d}, {d}] of kind {:?}", self.layers[0].kind());
                return Err(Error::shape(name, expected, matrix));
            }
        }
        Ok(())
    }

    /// `steps` steps of gradient descent of rate `lr` on the population's loss, without autograd; covariances are symmetric.
    /// What stays between layers, [`balancedness`], drifts by `O(lr)`.
    ///
    /// # Errors
    /// Covariances that are not `[d, d]`, a rate that is not above 0.
    pub fn descend(&mut self, sigma: &Tensor, c: &Tensor, lr: f64, steps: usize) -> Result<()> {
        self.check_covariances(sigma, c)?;
        check_range("lr", lr, f64::MIN_POSITIVE..)?;
        tch::no_grad(|| (0..steps).for_each(|_| self.step(sigma, c, lr)));
        Ok(())
    }

    fn step(&mut self, sigma: &Tensor, c: &Tensor, lr: f64) {
        let depth = self.layers.len();
        let below: Vec<Tensor> = (1..=depth).map(|l| self.product(l)).collect();
        let w = &below[depth - 1];
        // dL/dW = 4 (W S W^T W S - W C).
        let ws = w.matmul(sigma);
        let mut above = (ws.matmul(&w.tr()).matmul(&ws) - w.matmul(c)) * (-4.0 * lr);
        for l in (0..depth).rev() {
            // `above` is the step of the product of the layers up to this one.
            let change = if l == 0 { above.shallow_clone() } else { above.matmul(&below[l - 1].tr()) };
            above = self.layers[l].tr().matmul(&above);
            let _ = self.layers[l].g_add_(&change);
        }
    }
}

/// `W_1 W_1^T - W_2^T W_2`, which gradient flow conserves between two linear layers: 0 where they are balanced.
///
/// # Errors
/// Layers that do not follow each other.
pub fn balancedness(w1: &Tensor, w2: &Tensor) -> Result<Tensor> {
    let (width, _) = check_matrix("w1", w1)?;
    let (_, input) = check_matrix("w2", w2)?;
    if input != width {
        return Err(Error::shape("w2", format!("[_, {width}]"), w2));
    }
    Ok(w1.matmul(&w1.tr()) - w2.tr().matmul(w2))
}
