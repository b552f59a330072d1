//! What continual learners are compared with: replay, penalties on weights, distillation of features.

use autodidact_core::error::check_range;
use autodidact_core::{Error, Result};
use rand::RngExt;
use tch::{Kind, Tensor};

/// A uniform sample of everything that it has seen (reservoir sampling; Vitter, 1985).
#[derive(Debug, Clone)]
pub struct ReservoirBuffer<T> {
    items: Vec<T>,
    capacity: usize,
    seen: usize,
}

impl<T: Clone> ReservoirBuffer<T> {
    /// # Errors
    /// No capacity.
    pub fn new(capacity: usize) -> Result<Self> {
        check_range("capacity of a buffer", capacity as f64, 1.0..)?;
        Ok(Self { items: vec![], capacity, seen: 0 })
    }

    /// Shows it an item, which it keeps with the chance that makes all items seen equally likely to be there.
    pub fn add(&mut self, item: T, rng: &mut impl rand::Rng) {
        self.seen += 1;
        if self.items.len() < self.capacity {
            self.items.push(item);
        } else {
            let place = rng.random_range(0..self.seen);
            if let Some(old) = self.items.get_mut(place) {
                *old = item;
            }
        }
    }

    /// `n` items drawn with replacement; none while it is empty.
    pub fn sample(&self, n: usize, rng: &mut impl rand::Rng) -> Vec<T> {
        if self.items.is_empty() {
            return vec![];
        }
        (0..n).map(|_| self.items[rng.random_range(0..self.items.len())].clone()).collect()
    }

    /// The items kept.
    pub fn items(&self) -> &[T] {
        &self.items
    }
}

/// Elastic weight consolidation (Kirkpatrick et al., 2017): `strength/2 sum_p F_p (p - p*)^2` with the diagonal Fisher information `F` at
/// the weights `p*` after the last task.
#[derive(Debug)]
pub struct Ewc {
    anchors: Vec<Tensor>,
    fisher: Vec<Tensor>,
    /// Factor of the penalty, from 0.
    pub strength: f64,
}

impl Ewc {
    /// At the present values of `params`, with the mean of squared gradients over `samples` calls of `loss` (each the loss of one
    /// sample, or of a batch as an approximation) as Fisher information.
    ///
    /// # Errors
    /// No parameters or samples, a strength below 0, whatever `loss` reports.
    pub fn new(
        params: &[Tensor],
        samples: usize,
        strength: f64,
        mut loss: impl FnMut(usize) -> Result<Tensor>,
    ) -> Result<Self> {
        check_range("samples of the Fisher information", samples as f64, 1.0..)?;
        check_range("strength of the penalty", strength, 0.0..)?;
        if params.is_empty() {
            return Err(Error::value("parameters", "at least one", 0));
        }
        let mut fisher: Vec<Tensor> = params.iter().map(|p| p.detach().zeros_like()).collect();
        for i in 0..samples {
            let gradients = Tensor::f_run_backward(&[&loss(i)?], params, false, false)?;
            for (f, g) in fisher.iter_mut().zip(gradients) {
                *f += g.square() / samples as f64;
            }
        }
        Ok(Self { anchors: params.iter().map(|p| p.detach().copy()).collect(), fisher, strength })
    }

    /// The penalty of the parameters' present values, a scalar tensor.
    ///
    /// # Errors
    /// Other parameters than it was made for.
    pub fn penalty(&self, params: &[Tensor]) -> Result<Tensor> {
        let fits =
            params.len() == self.anchors.len() && params.iter().zip(&self.anchors).all(|(p, a)| p.size() == a.size());
        if !fits {
            return Err(Error::value("parameters", "those of the penalty", format!("{} tensors", params.len())));
        }
        let each = params.iter().zip(self.anchors.iter().zip(&self.fisher));
        let parts: Vec<Tensor> = each.map(|(p, (a, f))| (f * (p - a).square()).sum(Kind::Float)).collect();
        Ok(Tensor::stack(&parts, 0).sum(Kind::Float) * (0.5 * self.strength))
    }
}

/// Learning without forgetting on features: the mean squared distance from the previous model's, which get no gradient.
///
/// # Errors
/// Features of different shapes.
pub fn feature_distillation(features: &Tensor, previous: &Tensor) -> Result<Tensor> {
    if features.size() != previous.size() {
        return Err(Error::shape("features of the previous model", format!("{:?}", features.size()), previous));
    }
    Ok((features - previous.detach()).square().mean(features.kind()))
}
