//! A network of independent units with two non-linearities.

use super::FeatureTask;
use autodidact_core::error::check_range;
use autodidact_core::{Error, Result};

/// `u_i = s_b1(w1_i x_i)`, `z_i = s_b2(w2_i u_i)` with the symmetrised ReLU `s_b` ([`SymmetricRelu`](super::SymmetricRelu)):
/// every unit sees one feature. A feature that the augmentation always disrupts vanishes from `z` but stays in `u`.
///
/// Units are numbers, not tensors: the analysis wants many steps of few units.
///
/// ```
/// use autodidact_ssl::projection_head::{DiagonalNet, FeatureTask};
/// let task = FeatureTask::new(vec![1.0], vec![0.5], vec![1.0]).unwrap();
/// let mut net = DiagonalNet::new(vec![1.2], vec![1.1], 0.1, 0.25).unwrap();
/// net.descend(&task, 0.01, 2000).unwrap();
/// let (u, z) = net.unit(&task, 0).unwrap();
/// // z = 1 - alpha, and u = sqrt(0.25 + 0.5).
/// assert!((z - 0.5).abs() < 1e-9 && (u - 0.75f64.sqrt()).abs() < 1e-2);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct DiagonalNet {
    /// Lower weights.
    pub w1: Vec<f64>,
    /// Upper weights.
    pub w2: Vec<f64>,
    /// Dead zone of the lower layer.
    pub b1: f64,
    /// Dead zone of the upper layer.
    pub b2: f64,
}

/// The symmetrised ReLU of a number, and its slope.
fn symmetric(t: f64, b: f64) -> (f64, f64) {
    if t.abs() > b { (t - b.copysign(t), 1.0) } else { (0.0, if b == 0.0 { 1.0 } else { 0.0 }) }
}

impl DiagonalNet {
    /// From its weights.
    ///
    /// # Errors
    /// Lists of different lengths, weights that are not finite, negative dead zones.
    pub fn new(w1: Vec<f64>, w2: Vec<f64>, b1: f64, b2: f64) -> Result<Self> {
        if w1.len() != w2.len() {
            return Err(Error::value("w2", format!("{} weights", w1.len()), w2.len()));
        }
        w1.iter().chain(&w2).try_for_each(|w| check_range("weight", *w, ..))?;
        check_range("b1", b1, 0.0..)?;
        check_range("b2", b2, 0.0..)?;
        Ok(Self { w1, w2, b1, b2 })
    }

    fn check(&self, task: &FeatureTask) -> Result<()> {
        if task.features() != self.w1.len() || self.w2.len() != self.w1.len() {
            let got = format!("{}, {} and {}", task.features(), self.w1.len(), self.w2.len());
            return Err(Error::value("features of the task, lower and upper weights", "as many of each", got));
        }
        Ok(())
    }

    /// `(u_i, z_i)` of the input with all signs positive.
    ///
    /// # Errors
    /// A task of another number of features, a unit that does not exist.
    pub fn unit(&self, task: &FeatureTask, i: usize) -> Result<(f64, f64)> {
        self.check(task)?;
        if i >= self.w1.len() {
            return Err(Error::value("unit", format!("below {}", self.w1.len()), i));
        }
        let u = symmetric(self.w1[i] * task.phi[i], self.b1).0;
        Ok((u, symmetric(self.w2[i] * u, self.b2).0))
    }

    /// What gradient flow conserves in an active unit: `k_i = phi_i^2 w2_i^2 - u_i^2`.
    ///
    /// # Errors
    /// As [`DiagonalNet::unit`].
    pub fn conserved(&self, task: &FeatureTask, i: usize) -> Result<f64> {
        let (u, _) = self.unit(task, i)?;
        Ok((task.phi[i] * self.w2[i]).powi(2) - u * u)
    }

    /// The population's spectral contrastive loss, `sum_i z_i^4 - 2 (1 - alpha_i)^2 z_i^2`.
    ///
    /// # Errors
    /// A task of another number of features.
    pub fn loss(&self, task: &FeatureTask) -> Result<f64> {
        self.check(task)?;
        let term = |i: usize| -> Result<f64> {
            let (_, z) = self.unit(task, i)?;
            Ok(z.powi(4) - 2.0 * ((1.0 - task.alpha[i]) * z).powi(2))
        };
        (0..self.w1.len()).map(term).sum()
    }

    /// `steps` steps of gradient descent of rate `lr` on the population's loss.
    ///
    /// # Errors
    /// A task of another number of features, a rate that is not above 0.
    pub fn descend(&mut self, task: &FeatureTask, lr: f64, steps: usize) -> Result<()> {
        self.check(task)?;
        check_range("lr", lr, f64::MIN_POSITIVE..)?;
        for (i, (w1, w2)) in self.w1.iter_mut().zip(&mut self.w2).enumerate() {
            let (phi, kept) = (task.phi[i], (1.0 - task.alpha[i]).powi(2));
            for _ in 0..steps {
                let (u, du) = symmetric(*w1 * phi, self.b1);
                let (z, dz) = symmetric(*w2 * u, self.b2);
                let g = lr * 4.0 * (z.powi(3) - kept * z) * dz;
                (*w1, *w2) = (*w1 - g * *w2 * du * phi, *w2 - g * u);
            }
        }
        Ok(())
    }
}
