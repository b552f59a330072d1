//! Linear probes: how much of the labels a linear map reads off frozen features.

use crate::error::{check_labels, check_matrix, check_range};
use crate::nn::layers;
use crate::optim::{Group, Optimizer, Rule, Sgd};
use crate::schedule::{Schedule, Shape};
use crate::{Error, Result, seed};
use rand::seq::SliceRandom;
use tch::nn::{Module, VarStore};
use tch::{Kind, Tensor};

/// The usual linear evaluation: a linear layer on frozen features, its learning rate on a cosine to 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinearProbe {
    /// Optimizer.
    pub rule: Rule,
    /// Peak learning rate.
    pub lr: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Passes over the data.
    pub epochs: usize,
    /// Batch size.
    pub batch: usize,
    /// Seed of initialisation and order.
    pub seed: u64,
}

impl Default for LinearProbe {
    /// Barlow Twins' linear evaluation: SGD with learning rate 0.3, momentum 0.9, decay 1e-6, 100 epochs of batches of 256.
    fn default() -> Self {
        Self { rule: Rule::Sgd(Sgd::default()), lr: 0.3, weight_decay: 1e-6, epochs: 100, batch: 256, seed: 0 }
    }
}

impl LinearProbe {
    /// Trains on `features [N, D]`, `labels [N]`; returns the layer's logits `[M, classes]` for `test [M, D]`.
    ///
    /// # Errors
    /// Wrong shapes, or settings out of range.
    pub fn logits(&self, features: &Tensor, labels: &Tensor, classes: i64, test: &Tensor) -> Result<Tensor> {
        let (n, d) = check_matrix("features", features)?;
        check_labels("labels", labels, n)?;
        let (_, test_d) = check_matrix("test features", test)?;
        if test_d != d {
            return Err(Error::shape("test features", format!("[M, {d}]"), test));
        }
        if self.batch == 0 || self.epochs == 0 || n == 0 {
            return Err(Error::value("batch, epochs and N", "at least 1", 0));
        }
        let vs = VarStore::new(features.device());
        seed::seed_torch(self.seed, &["linear probe"]);
        let layer = layers::linear(vs.root(), d, classes, true);
        let mut optimizer = Optimizer::new(self.rule, vec![Group::all(&vs, self.weight_decay)])?;
        let per_epoch = (n as usize).div_ceil(self.batch);
        let schedule = Schedule::new(self.lr, self.epochs * per_epoch, Shape::cosine_to(0.0));
        let mut rng = seed::rng(self.seed, &["linear probe", "order"]);
        let mut order: Vec<i64> = (0..n).collect();
        let mut step = 0;
        for _ in 0..self.epochs {
            order.shuffle(&mut rng);
            for batch in order.chunks(self.batch) {
                let index = Tensor::from_slice(batch).to_device(features.device());
                let (x, y) = (features.index_select(0, &index), labels.index_select(0, &index));
                optimizer.zero_grad();
                layer.forward(&x).cross_entropy_for_logits(&y).backward();
                optimizer.step(schedule.lr(step))?;
                step += 1;
            }
        }
        Ok(tch::no_grad(|| layer.forward(test)))
    }
}

/// Brings every column of `features [N, D]` to mean 0 and (biased) variance 1, and the columns of `others` (test features) by
/// the same numbers. A column that does not vary becomes 0.
///
/// # Errors
/// Not matrices, no rows, or others of another width.
pub fn standardise<const K: usize>(features: &Tensor, others: [&Tensor; K]) -> Result<(Tensor, [Tensor; K])> {
    let (n, d) = check_matrix("features", features)?;
    if n == 0 {
        return Err(Error::shape("features", "one or more rows", features));
    }
    for other in others {
        if check_matrix("other features", other)?.1 != d {
            return Err(Error::shape("other features", format!("[M, {d}]"), other));
        }
    }
    let (variance, mean) = features.var_mean_dim([0i64].as_slice(), false, true);
    // Rounding leaves a constant column some variance; its deviations are of that size too.
    let floor = mean.square() * 1e-12 + 1e-24;
    let scale =
        variance.where_self(&variance.gt_tensor(&floor), &Tensor::from(f64::INFINITY).to_kind(variance.kind())).rsqrt();
    let apply = |x: &Tensor| (x - &mean) * &scale;
    Ok((apply(features), others.map(apply)))
}

/// Ridge regression on one-hot labels, in closed form: fast, with nothing to tune but the penalty.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RidgeProbe {
    /// Penalty, relative to the mean squared feature: the normal matrix gets `penalty * trace / D` on its diagonal.
    pub penalty: f64,
}

impl Default for RidgeProbe {
    fn default() -> Self {
        Self { penalty: 1e-3 }
    }
}

impl RidgeProbe {
    /// Fits centred `features [N, D]` to `labels [N]`; returns the scores `[M, classes]` of `test [M, D]`.
    ///
    /// # Errors
    /// Wrong shapes, a penalty that is not positive, or features that are all equal.
    pub fn scores(&self, features: &Tensor, labels: &Tensor, classes: i64, test: &Tensor) -> Result<Tensor> {
        let (n, d) = check_matrix("features", features)?;
        check_labels("labels", labels, n)?;
        let (_, test_d) = check_matrix("test features", test)?;
        if test_d != d {
            return Err(Error::shape("test features", format!("[M, {d}]"), test));
        }
        check_range("penalty", self.penalty, f64::MIN_POSITIVE..)?;
        let x = features.to_kind(Kind::Double);
        let mean = x.mean_dim([0i64].as_slice(), true, Kind::Double);
        let x = x - &mean;
        let y = labels.one_hot(classes).to_kind(Kind::Double);
        let centre = y.mean_dim([0i64].as_slice(), true, Kind::Double);
        let normal = x.tr().matmul(&x);
        let ridge = normal.trace() * (self.penalty / d as f64);
        let normal = normal + Tensor::eye(d, (Kind::Double, x.device())) * ridge;
        let factor = normal
            .f_linalg_cholesky(false)
            .map_err(|_| Error::value("features", "finite values that vary", "otherwise"))?;
        let weight = x.tr().matmul(&(y - &centre)).f_cholesky_solve(&factor, false)?;
        Ok((test.to_kind(Kind::Double) - mean).matmul(&weight) + centre)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::accuracy;
    use tch::Device;

    fn clusters() -> (Tensor, Tensor) {
        tch::manual_seed(2);
        let labels = Tensor::arange(300, (Kind::Int64, Device::Cpu)).remainder(3);
        let centres = Tensor::from_slice2(&[[2.0f32, 0.0], [-2.0, 1.0], [0.0, -2.0]]);
        let x = centres.index_select(0, &labels) + Tensor::randn([300, 2], (Kind::Float, Device::Cpu)) * 0.4;
        (x, labels)
    }

    #[test]
    fn both_probes_separate_clusters_and_fail_on_noise() {
        let (x, y) = clusters();
        let probe = LinearProbe { epochs: 20, batch: 64, ..Default::default() };
        assert!(accuracy(&probe.logits(&x, &y, 3, &x).unwrap(), &y).unwrap() > 0.98);
        assert!(accuracy(&RidgeProbe::default().scores(&x, &y, 3, &x).unwrap(), &y).unwrap() > 0.98);
        let noise = Tensor::randn([300, 2], (Kind::Float, Device::Cpu));
        assert!(accuracy(&RidgeProbe::default().scores(&noise, &y, 3, &noise).unwrap(), &y).unwrap() < 0.5);
    }

    #[test]
    fn the_same_seed_gives_the_same_probe() {
        let (x, y) = clusters();
        let probe = LinearProbe { epochs: 2, batch: 64, ..Default::default() };
        assert_eq!(probe.logits(&x, &y, 3, &x).unwrap(), probe.logits(&x, &y, 3, &x).unwrap());
    }

    #[test]
    fn standardised_columns_have_mean_0_and_variance_1_and_constant_ones_vanish() {
        let x = Tensor::from_slice2(&[[1f64, 5., 0.3], [3., 5., 0.3], [5., 5., 0.3]]);
        let (x, [y]) = standardise(&x, [&Tensor::from_slice2(&[[3f64, 7., 0.3]])]).unwrap();
        let root = 1.5f64.sqrt();
        let expected = Tensor::from_slice2(&[[-root, 0., 0.], [0., 0., 0.], [root, 0., 0.]]);
        assert!((x - expected).abs().max().double_value(&[]) < 1e-12);
        assert!(y.abs().max().double_value(&[]) < 1e-12);
        assert!(standardise(&Tensor::zeros([0, 2], (Kind::Float, Device::Cpu)), []).is_err());
    }

    #[test]
    fn wrong_widths_are_errors() {
        let (x, y) = clusters();
        let test = Tensor::zeros([1, 5], (Kind::Float, Device::Cpu));
        assert!(LinearProbe::default().logits(&x, &y, 3, &test).unwrap_err().to_string().contains("[M, 2]"));
        assert!(RidgeProbe::default().scores(&x, &y, 3, &test).is_err());
    }
}
