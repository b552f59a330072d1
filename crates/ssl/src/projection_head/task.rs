//! The feature model of data and how hard a downstream task is.

use autodidact_core::error::check_range;
use autodidact_core::seed::Rng;
use autodidact_core::{Error, Result};
use rand::RngExt;
use tch::{Kind, Tensor};

/// Inputs `x = sum_i phi_i xi_i v_i` with fair signs `xi_i` and the unit vectors `v_i` of the coordinate axes. An augmentation
/// keeps `xi_i` with probability `1 - alpha_i` and redraws it otherwise, for each view and feature on its own. Downstream the
/// label is one of the signs, and the features have other magnitudes.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureTask {
    /// `phi_i`, magnitudes in pre-training, above 0.
    pub phi: Vec<f64>,
    /// `alpha_i`, probabilities of disruption, in `[0, 1]`.
    pub alpha: Vec<f64>,
    /// `phi'_i`, magnitudes downstream, at least 0.
    pub phi_down: Vec<f64>,
}

impl FeatureTask {
    /// A task from its numbers, checked.
    ///
    /// # Errors
    /// No features, lists of different lengths, numbers out of range.
    pub fn new(phi: Vec<f64>, alpha: Vec<f64>, phi_down: Vec<f64>) -> Result<Self> {
        let d = phi.len();
        if d == 0 || alpha.len() != d || phi_down.len() != d {
            let got = format!("{d}, {} and {}", alpha.len(), phi_down.len());
            return Err(Error::value("lengths of phi, alpha and phi_down", "one number above 0", got));
        }
        phi.iter().try_for_each(|v| check_range("phi", *v, f64::MIN_POSITIVE..))?;
        alpha.iter().try_for_each(|v| check_range("alpha", *v, 0.0..=1.0))?;
        phi_down.iter().try_for_each(|v| check_range("phi_down", *v, 0.0..))?;
        Ok(Self { phi, alpha, phi_down })
    }

    /// Number of features, `d`.
    pub fn features(&self) -> usize {
        self.phi.len()
    }

    /// `Sigma = E[x x^T]` of a view, `[d, d]` in f64.
    pub fn covariance(&self) -> Tensor {
        diagonal(self.phi.iter().map(|phi| phi * phi))
    }

    /// `C = E[x x+^T]` of two views of one input, `[d, d]` in f64.
    pub fn cross_covariance(&self) -> Tensor {
        diagonal(self.phi.iter().zip(&self.alpha).map(|(phi, alpha)| (phi * (1.0 - alpha)).powi(2)))
    }

    /// Two views of `n` inputs, `[n, d]` each, f32.
    pub fn views(&self, n: usize, rng: &mut Rng) -> [Tensor; 2] {
        let mut views = [vec![], vec![]];
        for _ in 0..n {
            for (phi, alpha) in self.phi.iter().zip(&self.alpha) {
                let xi = sign(rng);
                for view in &mut views {
                    let seen = if rng.random::<f64>() < *alpha { sign(rng) } else { xi };
                    view.push((phi * seen) as f32);
                }
            }
        }
        views.map(|v| Tensor::from_slice(&v).view([n as i64, -1]))
    }

    /// `n` downstream inputs `[n, d]`, f32, and the labels of the tasks, one a column: 1 where the sign is positive, else 0
    /// (`[n, d]`, Int64).
    pub fn downstream(&self, n: usize, rng: &mut Rng) -> (Tensor, Tensor) {
        let xi: Vec<f32> = (0..n * self.features()).map(|_| sign(rng) as f32).collect();
        let xi = Tensor::from_slice(&xi).view([n as i64, -1]);
        let phi: Vec<f32> = self.phi_down.iter().map(|v| *v as f32).collect();
        (&xi * Tensor::from_slice(&phi), xi.gt(0.0).to_kind(Kind::Int64))
    }
}

fn sign(rng: &mut Rng) -> f64 {
    if rng.random::<bool>() { 1.0 } else { -1.0 }
}

fn diagonal(values: impl Iterator<Item = f64>) -> Tensor {
    Tensor::from_slice(&values.collect::<Vec<_>>()).diag(0)
}

/// `D_k = sum_i (w_i phi'_i)^2 / (w_k phi'_k)^2` of the task whose label is the sign of feature `k`: the squared ratio of the
/// inputs' norm to their margin, to which a perceptron's sample size is proportional. Infinite where feature `k` is absent.
///
/// # Errors
/// Lists of different lengths, `k` outside them.
pub fn difficulty(weights: &[f64], phi_down: &[f64], k: usize) -> Result<f64> {
    if weights.len() != phi_down.len() || k >= weights.len() {
        let got = format!("{} weights, {} magnitudes, k = {k}", weights.len(), phi_down.len());
        return Err(Error::value("difficulty", "as many weights as magnitudes and k below that", got));
    }
    let squares: Vec<f64> = weights.iter().zip(phi_down).map(|(w, phi)| (w * phi).powi(2)).collect();
    Ok(if squares[k] == 0.0 { f64::INFINITY } else { squares.iter().sum::<f64>() / squares[k] })
}
