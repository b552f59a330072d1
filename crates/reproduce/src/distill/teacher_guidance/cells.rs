//! What the cells compute.

use super::{Config, TOY_ALPHAS};
use crate::runner::Context;
use anyhow::Result;
use autodidact_core::metrics::accuracy;
use autodidact_core::nn::{Mlp, MlpConfig};
use autodidact_core::optim::{Adam, Group, Optimizer, Rule};
use autodidact_core::schedule::{Schedule, Shape};
use autodidact_core::train::{TrainConfig, Trainer};
use autodidact_core::{Result as CoreResult, seed};
use autodidact_datasets::batch::Order;
use autodidact_datasets::image::digits;
use autodidact_distill::kernel::{Kernel, KernelRidge};
use autodidact_distill::teacher_guidance::{
    AlphaSchedule, DistillationLoss, GroundTruthWeight, SelfDistillation, SelfDistilledKrr, TOY_TARGETS,
    limit_shrinkage, parameter_norm_penalty, shrinkage_closed_form, shrinkage_recursion, sparsity_ratios,
    weighted_distillation_loss,
};
use rand::RngExt;
use rand::seq::SliceRandom;
use tch::nn::{ModuleT, VarStore};
use tch::{Device, Kind, Tensor};

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);

fn mse(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).square().mean(Kind::Double).double_value(&[])
}

fn largest(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// Errors of the theory's identities on one chain per weight: recursion against closed form (20 steps), solves against the
/// spectral form, step 200 against the limit; and what happens to the ratios of the spectrum.
fn identities(krr: KernelRidge, x: &Tensor, y: &Tensor, alphas: &[f64], context: &mut Context<'_>) -> Result<()> {
    let (mut closed_error, mut limit_error) = (0.0f64, 0.0f64);
    let (mut monotone_without, mut settled_with, mut overshoot) = (true, true, 0.0f64);
    for &alpha in alphas {
        let mut chain = SelfDistilledKrr::new(krr, x, y, AlphaSchedule::Constant(alpha))?;
        chain.run(200)?;
        let (vectors, values) = chain.spectrum()?;
        let coordinates = vectors.tr().matmul(&y.to_kind(Kind::Double));
        let ratios = |t: u32| -> Result<Vec<f64>> {
            Ok(sparsity_ratios(&values, &shrinkage_closed_form(&values, krr.lambda, alpha, t)?, 1e-10))
        };
        for t in 1..=20usize {
            let closed = shrinkage_closed_form(&values, krr.lambda, alpha, t as u32)?;
            closed_error =
                closed_error.max(largest(&closed, &shrinkage_recursion(&values, krr.lambda, &vec![alpha; t])?));
            let spectral = vectors.matmul(&(Tensor::from_slice(&closed).unsqueeze(1) * &coordinates));
            let solved = chain.train_predictions(t)?;
            closed_error = closed_error.max((spectral - solved).abs().max().double_value(&[]));
            if alpha == 0.0 {
                let (now, next) = (ratios(t as u32)?, ratios(t as u32 + 1)?);
                monotone_without &= now.iter().zip(&next).all(|(a, b)| *b >= a * (1.0 - 1e-12));
            }
        }
        if alpha >= 0.1 {
            let limit = chain.limit(alpha)?.predict(x)?;
            limit_error = limit_error.max((chain.train_predictions(200)? - limit).abs().max().double_value(&[]));
            let bound = sparsity_ratios(&values, &limit_shrinkage(&values, krr.lambda, alpha)?, 1e-10);
            settled_with &= ratios(400)?.iter().zip(&bound).all(|(a, b)| (a / b - 1.0).abs() < 1e-6);
            for t in 1..=20 {
                let over = ratios(t)?.iter().zip(&bound).map(|(a, b)| a / b - 1.0).fold(0.0, f64::max);
                overshoot = overshoot.max(over);
            }
        }
    }
    context.metric(0, "error of closed form", closed_error);
    context.metric(0, "error of limit", limit_error);
    context.metric(0, "ratios monotone at alpha 0", f64::from(monotone_without));
    context.metric(0, "ratios settle at the limit's", f64::from(settled_with));
    context.metric(0, "overshoot of ratios", overshoot);
    Ok(())
}

pub(super) fn toy(context: &mut Context<'_>) -> Result<()> {
    let x = Tensor::linspace(0.0, 1.0, 11, F64).view([11, 1]);
    let y = Tensor::from_slice(&TOY_TARGETS).view([11, 1]);
    let at = Tensor::linspace(0.0, 1.0, 101, F64).view([101, 1]);
    let truth = (&at * (2.0 * std::f64::consts::PI)).sin();
    let krr = KernelRidge { kernel: Kernel::Rbf { gamma: 80.0 }, lambda: 0.2 };
    for alpha in TOY_ALPHAS {
        let mut chain = SelfDistilledKrr::new(krr, &x, &y, AlphaSchedule::Constant(alpha))?;
        chain.run(6)?;
        for t in 1..=6 {
            let f = chain.model(t)?.predict(&at)?;
            context.metric(t, &format!("error alpha={alpha}"), mse(&f, &truth));
            context.array(&format!("fit alpha={alpha} t={t}"), f.view(-1).try_into()?);
            context.array(&format!("B alpha={alpha} t={t}"), chain.shrinkage(t)?);
        }
        let limit = chain.limit(alpha)?.predict(&at)?;
        context.metric(7, &format!("error alpha={alpha}"), mse(&limit, &truth));
        context.array(&format!("fit alpha={alpha} limit"), limit.view(-1).try_into()?);
    }
    identities(krr, &x, &y, &[0.0, 0.1, 0.25, 0.35, 0.5, 1.0], context)
}

/// A seed's split of the digits: `(x, onehot)` of training (with replaced labels), validation and test.
struct Split {
    train: (Tensor, Tensor),
    validation: (Tensor, Tensor),
    test: (Tensor, Tensor),
}

fn split(train: usize, validation: usize, noise: f64, seed: u64) -> CoreResult<Split> {
    let set = digits();
    let mut rng = seed::rng(seed, &["digits split"]);
    let mut order: Vec<i64> = (0..set.len() as i64).collect();
    order.shuffle(&mut rng);
    let set = set.select(&order)?;
    let x = set.to_float().flatten(1, -1).to_kind(Kind::Double);
    let mut labels: Vec<i64> = Vec::try_from(&set.labels)?;
    // Exactly the stated share, drawn uniformly from the nine other classes.
    for label in &mut labels[..(train as f64 * noise).round() as usize] {
        *label = (*label + rng.random_range(1..10)) % 10;
    }
    let y = Tensor::from_slice(&labels).one_hot(10).to_kind(Kind::Double);
    let part = |from: usize, to: usize| {
        let len = (to - from) as i64;
        (x.narrow(0, from as i64, len), y.narrow(0, from as i64, len))
    };
    let held = train + validation;
    Ok(Split { train: part(0, train), validation: part(train, held), test: part(held, set.len()) })
}

pub(super) fn kernel_chains(lambda: f64, c: &Config, context: &mut Context<'_>) -> Result<()> {
    let data = split(c.krr_train, c.validation, c.noise, context.seed("split"))?;
    let krr = KernelRidge { kernel: Kernel::Rbf { gamma: c.gamma }, lambda };
    let labels = data.test.1.argmax(1, false);
    let (x, y) = &data.train;
    let mut log = |chain: &SelfDistilledKrr, t: usize, name: &str| -> Result<()> {
        let f = chain.model(t)?.predict(&data.test.0)?;
        context.metric(t, &format!("test MSE alpha={name}"), mse(&f, &data.test.1));
        context.metric(t, &format!("test accuracy alpha={name}"), 100.0 * accuracy(&f, &labels)?);
        Ok(())
    };
    for alpha in &c.alphas {
        let mut chain = SelfDistilledKrr::new(krr, x, y, AlphaSchedule::Constant(*alpha))?;
        chain.run(c.steps)?;
        (1..=c.steps).try_for_each(|t| log(&chain, t, &alpha.to_string()))?;
    }
    let (vx, vy) = &data.validation;
    let optimal = AlphaSchedule::Optimal { x: vx.shallow_clone(), y: vy.shallow_clone(), clip: false };
    let mut chain = SelfDistilledKrr::new(krr, x, y, optimal)?;
    chain.run(c.steps)?;
    (1..=c.steps).try_for_each(|t| log(&chain, t, "optimal"))?;
    // At each step, for the same teacher: the optimal weight against every weight of the grid.
    let mut excess = f64::NEG_INFINITY;
    for t in 2..=c.steps {
        let (f, g) = chain.components(t, vx)?;
        let error = |a: f64| mse(&(&f * a + &g * (1.0 - a)), vy);
        let best = c.alphas.iter().map(|a| error(*a)).fold(f64::INFINITY, f64::min);
        excess = excess.max(error(chain.alphas()[t - 1]) - best);
        context.metric(t, "optimal alpha", chain.alphas()[t - 1]);
    }
    context.metric(c.steps, "validation MSE of optimal minus best of grid", excess);
    for alpha in c.alphas.iter().filter(|a| **a > 0.0) {
        if let Some(steps) = chain.steps_to_tolerance(*alpha, 1e-6, 100_000)? {
            context.metric(c.steps, &format!("steps to 1e-6 of the limit alpha={alpha}"), steps as f64);
        }
    }
    identities(krr, x, y, &c.alphas, context)
}

/// A network of the chain.
struct Network {
    /// Owns the parameters.
    _vs: VarStore,
    net: Mlp,
}

impl Network {
    fn logits(&self, x: &Tensor) -> Tensor {
        tch::no_grad(|| self.net.forward_t(x, false))
    }

    fn probabilities(&self, x: &Tensor) -> Tensor {
        self.logits(x).softmax(1, Kind::Float)
    }
}

pub(super) fn networks(alpha: Option<f64>, c: &Config, context: &mut Context<'_>) -> Result<()> {
    let data = split(c.mlp_train, c.validation, c.noise, context.seed("split"))?;
    let device = context.plan.device;
    let [train, validation, test] = [&data.train, &data.validation, &data.test]
        .map(|(x, y)| (x.to_kind(Kind::Float).to_device(device), y.to_kind(Kind::Float).to_device(device)));
    let widths: Vec<i64> = [64].into_iter().chain(c.hidden.iter().copied()).chain([10]).collect();
    let base = context.seed("networks");
    let trainings = if alpha.is_some() { c.mlp_steps } else { 2 * c.mlp_steps - 1 };
    let mut done = 0;
    let fit = |step: usize, alpha: f64, teacher: Option<&Network>| -> CoreResult<Network> {
        // Fresh weights and order at every step, the same for every weight of the ground truth.
        let seed = seed::derive(base, &[&step.to_string()]);
        let vs = VarStore::new(device);
        tch::manual_seed(seed as i64);
        let net = Mlp::new(vs.root(), &MlpConfig::plain(&widths))?;
        let parameters = vs.trainable_variables();
        let order = Order::new(train.0.size()[0] as usize, c.batch, seed)?;
        let steps = c.epochs * order.batches_per_epoch();
        let optimizer = Optimizer::new(Rule::Adam(Adam::default()), vec![Group::all(&vs, 0.0)])?;
        let config =
            TrainConfig { log_every: 100, ..TrainConfig::new(Schedule::new(c.lr, steps, Shape::Constant), seed) };
        let targets = teacher.map(|t| t.probabilities(&train.0));
        Trainer::new(config, &vs, optimizer)?.run(
            |s| {
                let index = Tensor::from_slice(&order.batch(s.index)).to_device(device);
                let (x, y) = (train.0.index_select(0, &index), train.1.index_select(0, &index));
                let q = targets.as_ref().map_or_else(|| y.shallow_clone(), |t| t.index_select(0, &index));
                let logits = net.forward_t(&x, true);
                let loss = weighted_distillation_loss(&logits, &q, &y, alpha, DistillationLoss::BrierSoftmax)?;
                Ok(loss + parameter_norm_penalty(&parameters) * c.penalty)
            },
            |p| {
                context.progress(done * p.total + p.done, trainings * p.total, p.loss);
                Ok(())
            },
        )?;
        done += 1;
        Ok(Network { _vs: vs, net })
    };
    let weight = alpha.map_or(GroundTruthWeight::Estimated, GroundTruthWeight::Constant);
    let predict = |n: &Network| Ok(n.probabilities(&validation.0));
    let chain = SelfDistillation { steps: c.mlp_steps, alpha: weight }.run(fit, predict, &validation.1)?;
    let (valid, labels) = (validation.1.argmax(1, false), test.1.argmax(1, false));
    for (i, student) in chain.iter().enumerate() {
        context.metric(i + 1, "test accuracy", 100.0 * accuracy(&student.model.logits(&test.0), &labels)?);
        context.metric(i + 1, "validation accuracy", 100.0 * accuracy(&student.model.logits(&validation.0), &valid)?);
        context.metric(i + 1, "alpha", student.alpha);
    }
    Ok(())
}
