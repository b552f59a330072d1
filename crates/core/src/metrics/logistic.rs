//! Multinomial logistic regression, exact to the optimizer's tolerance.

use crate::error::{check_class_indices, check_matrix, check_range};
use crate::fit::Lbfgs;
use crate::{Error, Result};
use tch::{Kind, Tensor};

/// Settings of [`LogisticRegression`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogisticRegressionConfig {
    /// L2 penalty: `penalty/2 * |W|^2` is added to the mean cross-entropy (biases are free). scikit-learn's `C` is
    /// `1/(N*penalty)`.
    pub penalty: f64,
    /// Most L-BFGS iterations.
    pub max_iterations: usize,
    /// Stop when the largest component of the gradient is below this.
    pub tolerance: f64,
}

impl Default for LogisticRegressionConfig {
    fn default() -> Self {
        Self { penalty: 1e-4, max_iterations: 500, tolerance: 1e-6 }
    }
}

impl LogisticRegressionConfig {
    /// The fit that scikit-learn's `LogisticRegression(C=c, max_iter=1000)` makes of `samples` samples: `1/2 |W|^2 + C` times the
    /// summed cross-entropy, to 1e-4. Of two classes it fits the difference of the weight vectors alone, penalised as one
    /// vector: twice the penalty that two opposite halves would get.
    ///
    /// # Errors
    /// `c` not above 0, no samples, no classes.
    pub fn scikit_learn(c: f64, samples: i64, classes: i64) -> Result<Self> {
        check_range("C", c, f64::MIN_POSITIVE..)?;
        check_range("samples", samples as f64, 1.0..)?;
        check_range("classes", classes as f64, 1.0..)?;
        let scale = if classes == 2 { 2.0 } else { 1.0 };
        Ok(Self { penalty: scale / (c * samples as f64), max_iterations: 1000, tolerance: 1e-4 })
    }
}

/// A fitted classifier `x -> W x + b`.
#[derive(Debug)]
pub struct LogisticRegression {
    /// `[C, D]`, f64.
    pub weight: Tensor,
    /// `[C]`, f64.
    pub bias: Tensor,
    /// Whether the tolerance was met.
    pub converged: bool,
}

impl LogisticRegression {
    /// Fits `features [N, D]` to `labels [N]` in `0..classes` by L-BFGS in f64.
    ///
    /// # Errors
    /// Wrong shapes, labels outside the classes, features that are not finite, a negative penalty.
    pub fn fit(features: &Tensor, labels: &Tensor, classes: i64, config: &LogisticRegressionConfig) -> Result<Self> {
        let (n, d) = check_matrix("features", features)?;
        check_class_indices("labels", labels, n, classes)?;
        check_range("penalty", config.penalty, 0.0..)?;
        let x = features.to_kind(Kind::Double);
        let target = labels.one_hot(classes).to_kind(Kind::Double);
        let size = (classes * d) as usize;
        let unpack = |p: &[f64]| {
            let (w, b) = p.split_at(size);
            let to = |s: &[f64], shape: &[i64]| Tensor::from_slice(s).view(shape).to_device(features.device());
            (to(w, &[classes, d]), to(b, &[classes]))
        };
        let minimiser = Lbfgs {
            max_iterations: config.max_iterations,
            f_tolerance: 0.0,
            g_tolerance: config.tolerance,
            ..Default::default()
        };
        let mut failed = None;
        let minimum = minimiser.minimise(&vec![0.0; size + classes as usize], |p, g| {
            let mut evaluate = || -> Result<f64> {
                let (w, b) = unpack(p);
                let logits = x.matmul(&w.tr()) + b;
                let log_p = logits.log_softmax(1, Kind::Double);
                let loss = -(&target * &log_p).sum(Kind::Double) / n as f64
                    + w.square().sum(Kind::Double) * (config.penalty / 2.0);
                let residual = (log_p.exp() - &target) / n as f64;
                let gw = residual.tr().matmul(&x) + &w * config.penalty;
                let gb = residual.sum_dim_intlist([0i64].as_slice(), false, Kind::Double);
                let flat = Tensor::cat(&[gw.view(-1), gb], 0).to_device(tch::Device::Cpu);
                flat.f_copy_data(g, g.len())?;
                Ok(loss.double_value(&[]))
            };
            evaluate().unwrap_or_else(|e| {
                failed = Some(e);
                f64::NAN
            })
        });
        if let Some(e) = failed {
            return Err(e);
        }
        let m = minimum.ok_or_else(|| Error::value("features", "finite values", "NaN or infinity"))?;
        let (weight, bias) = unpack(&m.x);
        Ok(Self { weight, bias, converged: m.converged })
    }

    /// Logits `[N, C]` (f64) of features `[N, D]`.
    ///
    /// # Errors
    /// Features of another width.
    pub fn logits(&self, features: &Tensor) -> Result<Tensor> {
        let (_, d) = check_matrix("features", features)?;
        if d != self.weight.size()[1] {
            return Err(Error::shape("features", format!("[N, {}]", self.weight.size()[1]), features));
        }
        Ok(features.to_kind(Kind::Double).matmul(&self.weight.tr()) + &self.bias)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn the_gradient_vanishes_at_the_fit_and_other_starts_cannot_beat_it() {
        tch::manual_seed(1);
        let x = Tensor::randn([60, 3], (Kind::Double, Device::Cpu));
        let y = Tensor::randint(3, [60], (Kind::Int64, Device::Cpu));
        let config = LogisticRegressionConfig { penalty: 0.01, tolerance: 1e-9, ..Default::default() };
        let fit = LogisticRegression::fit(&x, &y, 3, &config).unwrap();
        assert!(fit.converged);
        let (w, b) = (fit.weight.set_requires_grad(true), fit.bias.set_requires_grad(true));
        let loss = (x.matmul(&w.tr()) + &b).cross_entropy_for_logits(&y) + w.square().sum(Kind::Double) * 0.005;
        loss.backward();
        assert!(w.grad().abs().max().double_value(&[]) < 1e-8);
        assert!(b.grad().abs().max().double_value(&[]) < 1e-8);
    }

    #[test]
    fn one_feature_two_classes_has_the_known_solution() {
        // x = -1 (3 of 4 in class 0) and x = 1 (3 of 4 in class 1): without penalty the fitted odds are the observed ones.
        let x = Tensor::from_slice(&[-1.0f64, -1., -1., -1., 1., 1., 1., 1.]).view([8, 1]);
        let y = Tensor::from_slice(&[0i64, 0, 0, 1, 1, 1, 1, 0]);
        let config = LogisticRegressionConfig { penalty: 0.0, tolerance: 1e-10, ..Default::default() };
        let fit = LogisticRegression::fit(&x, &y, 2, &config).unwrap();
        let p = fit.logits(&x).unwrap().softmax(1, Kind::Double);
        assert!((p.double_value(&[0, 0]) - 0.75).abs() < 1e-6);
        assert!(fit.logits(&Tensor::zeros([1, 2], (Kind::Double, Device::Cpu))).is_err());
    }
}
