//! Linear regression by stochastic gradient descent on reweighted batches.

use crate::runner::Context;
use anyhow::{Context as _, Result};
use autodidact_core::error::check_range;
use autodidact_core::seed;
use autodidact_scaling::loss_reweighting::{LossReweighter, ReweightShape, Temperature};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// The task and its training.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Regression {
    pub dimension: i64,
    pub batch: i64,
    pub lr: f64,
    pub steps: usize,
    /// The error that is to be reached.
    pub target: f64,
}

impl Default for Regression {
    fn default() -> Self {
        Self { dimension: 50, batch: 64, lr: 0.02, steps: 1500, target: 1e-3 }
    }
}

/// Coordinates that most inputs of the redundant setting have.
const COMMON: i64 = 5;
/// The share of those inputs.
const SHARE: f64 = 0.9;

/// Settings: name, whether inputs are redundant, standard deviation of the targets' noise.
pub(super) const SETTINGS: [(&str, bool, f64); 3] =
    [("regression/isotropic", false, 0.0), ("regression/redundant", true, 0.0), ("regression/noisy", false, 1.0)];

/// Arms: name, shape, temperature.
pub(super) const ARMS: [(&str, ReweightShape, f64); 7] = [
    ("uniform", ReweightShape::Uniform, 1.0),
    ("lin-upper/r=1", ReweightShape::LinUpper, 1.0),
    ("lin-upper/r=0.4", ReweightShape::LinUpper, 0.4),
    ("quadratic/r=1", ReweightShape::Quadratic, 1.0),
    ("quadratic/r=0.4", ReweightShape::Quadratic, 0.4),
    ("extremes/r=1", ReweightShape::Extremes, 1.0),
    ("extremes/r=0.4", ReweightShape::Extremes, 0.4),
];

/// Names of the metrics of an arm.
pub(super) fn error_of(arm: &str) -> String {
    format!("error of {arm}")
}

pub(super) fn steps_of(arm: &str) -> String {
    format!("steps of {arm}")
}

impl Regression {
    pub fn check(&self) -> Result<()> {
        check_range("regression.dimension", self.dimension as f64, COMMON as f64 + 1.0..)?;
        check_range("regression.batch", self.batch as f64, 2.0..)?;
        check_range("regression.lr", self.lr, f64::MIN_POSITIVE..)?;
        check_range("regression.steps", self.steps as f64, 1.0..)?;
        Ok(check_range("regression.target", self.target, f64::MIN_POSITIVE..)?)
    }

    /// Inputs `[batch, dimension]` of one step.
    fn inputs(&self, redundant: bool) -> Tensor {
        let options = (Kind::Double, Device::Cpu);
        let x = Tensor::randn([self.batch, self.dimension], options);
        if !redundant {
            return x;
        }
        let common = Tensor::arange(self.dimension, (Kind::Int64, Device::Cpu)).lt(COMMON);
        let among = Tensor::rand([self.batch, 1], options).lt(SHARE);
        x * among.eq_tensor(&common)
    }

    /// Trains all arms on the same batches; the error is the exact expectation of the squared residual, without the noise.
    pub fn run(&self, setting: &str, context: &mut Context<'_>) -> Result<()> {
        let (_, redundant, noise) = *SETTINGS.iter().find(|s| s.0 == setting).context("a setting that is not there")?;
        seed::seed_torch(context.seed("regression"), &[setting]);
        let options = (Kind::Double, Device::Cpu);
        let truth = Tensor::randn([self.dimension], options);
        // Variance of each coordinate of the inputs.
        let coordinates = Tensor::arange(self.dimension, (Kind::Int64, Device::Cpu));
        let variances = if redundant {
            coordinates.lt(COMMON).to_kind(Kind::Double) * (2.0 * SHARE - 1.0) + (1.0 - SHARE)
        } else {
            Tensor::ones([self.dimension], options)
        };
        let mut fitted: Vec<Tensor> = ARMS.map(|_| Tensor::zeros([self.dimension], options)).into();
        let mut errors = vec![];
        for step in 0..=self.steps {
            let away = Tensor::stack(&fitted, 0) - &truth;
            errors.push(away.square().matmul(&variances));
            if step == self.steps {
                break;
            }
            let x = self.inputs(redundant);
            let y = x.matmul(&truth) + Tensor::randn([self.batch], options) * noise;
            for (theta, (_, shape, r)) in fitted.iter_mut().zip(ARMS) {
                let residual = x.matmul(theta) - &y;
                let reweighter =
                    LossReweighter { shape, delta: 1.0, temperature: Temperature::Constant(r), warmup_steps: 0 };
                let weights = reweighter.weights(&residual.square(), 0)?;
                *theta -= x.tr().matmul(&(weights * residual)) * (2.0 * self.lr);
            }
            if step % 100 == 0 {
                context.progress(step, self.steps, None);
            }
        }
        let errors = Vec::<Vec<f64>>::try_from(Tensor::stack(&errors, 0))?;
        for (i, (arm, _, _)) in ARMS.iter().enumerate() {
            for step in (0..=self.steps).step_by(10) {
                context.metric(step, &error_of(arm), errors[step][i]);
            }
            // Runs that never get there count as one step more than there are.
            let reached = errors.iter().position(|e| e[i] < self.target).unwrap_or(self.steps + 1);
            context.metric(self.steps, &steps_of(arm), reached as f64);
        }
        Ok(())
    }
}
