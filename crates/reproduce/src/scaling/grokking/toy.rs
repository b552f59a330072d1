//! Cells of the quadratic network.

use super::{
    ALPHA, CHANGE, CKA, Config, DIFFICULTY, DRIFT, EPS, EXACT, KERNEL, LINEAR, MISALIGNMENT, MONTE_CARLO, NORM,
    TARGETS, TEST, TRAIN, VARIANCE,
};
use crate::runner::Context;
use anyhow::Result;
use autodidact_core::Error;
use autodidact_scaling::grokking::{GrokTrainer, QuadraticNet, SingleIndex, log_steps};
use tch::{Kind, Tensor};

/// An arm.
#[derive(Debug, Clone, Copy)]
pub struct Toy {
    pub alpha: f64,
    pub eps: f64,
    pub samples: i64,
    /// Scale of the initial weights; the output is centred where it is given.
    pub norm: Option<f64>,
    pub decay: f64,
    /// Learning rate over `N / alpha^2`.
    pub rate: f64,
    pub steps: usize,
}

impl Toy {
    pub fn main(c: &Config) -> Self {
        Self { alpha: ALPHA, eps: EPS, samples: c.samples, norm: None, decay: 0.0, rate: 1.0, steps: c.steps }
    }

    pub fn with_alpha(self, alpha: f64, c: &Config) -> Self {
        Self { alpha, steps: if alpha >= 2.0 { c.long_steps } else { c.steps }, ..self }
    }

    /// Above the main arm's `eps` the kernel grows, and the rate is lower for it.
    pub fn with_eps(self, eps: f64) -> Self {
        Self { eps, rate: (EPS / eps.max(EPS)).powi(2), ..self }
    }

    pub fn with_norm(self, norm: f64) -> Self {
        Self { norm: Some(norm), rate: 1.0 / (norm * norm), ..self }
    }
}

/// A seed's data, on the run's device: training sets of one seed are parts of one set.
struct Data {
    task: SingleIndex,
    beta: Tensor,
    train: (Tensor, Tensor),
    test: (Tensor, Tensor),
}

impl Data {
    fn new(samples: i64, c: &Config, context: &Context<'_>) -> Result<Self> {
        let device = context.plan.device;
        let task = SingleIndex::new(c.d, context.seed("task"), true)?;
        let most = c.other_samples.iter().copied().max().unwrap_or(0).max(c.samples);
        let (x, y) = task.sample(most, "train")?;
        let (xt, yt) = task.sample(c.test, "test")?;
        Ok(Self {
            beta: task.beta.to_device(device),
            train: (x.narrow(0, 0, samples).to_device(device), y.narrow(0, 0, samples).to_device(device)),
            test: (xt.to_device(device), yt.to_device(device)),
            task,
        })
    }

    fn train(&self) -> (&Tensor, &Tensor) {
        (&self.train.0, &self.train.1)
    }

    fn test(&self) -> (&Tensor, &Tensor) {
        (&self.test.0, &self.test.1)
    }
}

fn network(arm: &Toy, c: &Config, context: &Context<'_>) -> Result<QuadraticNet> {
    let net =
        QuadraticNet::random((c.units, c.d), arm.alpha, arm.eps, arm.norm.unwrap_or(1.0), context.seed("weights"))?;
    Ok(QuadraticNet::new(net.w.to_device(context.plan.device), arm.alpha, arm.eps)?)
}

/// Trains an arm; with `monte_carlo` the test loss is also estimated from many fresh points.
pub fn cell(arm: &Toy, c: &Config, monte_carlo: bool, context: &mut Context<'_>) -> Result<()> {
    let data = Data::new(arm.samples, c, context)?;
    let mut net = network(arm, c, context)?;
    let trainer = GrokTrainer {
        steps: arm.steps,
        rate: arm.rate,
        decay: arm.decay,
        centre: arm.norm.is_some(),
        per_decade: c.per_decade,
        ..Default::default()
    };
    let many = if monte_carlo { Some(data.task.sample(c.monte_carlo, "monte carlo")?) } else { None };
    let many = many.map(|(x, y)| (x.to_device(context.plan.device), y.to_device(context.plan.device)));
    let result = trainer.run(&mut net, data.train(), data.test(), &data.beta, |r, now| {
        context.progress(r.step, arm.steps, Some(r.train));
        for (metric, value) in [
            (TRAIN, r.train),
            (TEST, r.test),
            (EXACT, r.terms.total()),
            (VARIANCE, r.terms.variance),
            (MISALIGNMENT, r.terms.misalignment),
            (LINEAR, r.terms.linear),
            (NORM, r.weight_norm),
            (CHANGE, r.weight_change),
            (CKA, r.cka),
            (DRIFT, r.kernel_drift),
        ] {
            context.metric(r.step, metric, value);
        }
        if let Some((x, y)) = &many {
            let error = (now.forward(x)? - y).square().mean(Kind::Double).double_value(&[]);
            context.metric(r.step, MONTE_CARLO, error);
        }
        Ok(())
    });
    match result {
        // A run that diverges has its curve until then.
        Ok(_) | Err(Error::Diverged { .. }) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// The lazy references of the main arm.
pub fn lazy(c: &Config, context: &mut Context<'_>) -> Result<()> {
    let arm = Toy::main(c);
    let data = Data::new(arm.samples, c, context)?;
    let net = network(&arm, c, context)?;
    let trainer = GrokTrainer { steps: arm.steps, rate: arm.rate, ..Default::default() };
    let linear = net.linearise(data.train(), data.test(), false)?;
    for step in log_steps(arm.steps, c.per_decade) {
        let state = linear.at(step, trainer.eta(&net))?;
        context.metric(step, TRAIN, state.train);
        context.metric(step, TEST, state.test);
    }
    let regression = net.kernel_regression(data.train(), data.test(), false, 1e-10)?;
    context.metric(0, KERNEL, regression.test_loss());
    context.metric(0, DIFFICULTY, regression.difficulty);
    context.metric(0, TARGETS, data.test.1.var(true).double_value(&[]));
    Ok(())
}
