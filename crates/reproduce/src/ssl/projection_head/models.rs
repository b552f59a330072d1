//! Parts (a) and (b): networks whose limits are known.

use super::{ACCURACY, Diagonal, GAP, LAYERS, Linear, Sampled, VARIATION, WEIGHT_ERROR};
use crate::runner::Context;
use anyhow::Result;
use autodidact_core::Error;
use autodidact_core::metrics::{LogisticRegression, LogisticRegressionConfig, accuracy};
use autodidact_core::optim::{Adam, Group, Optimizer, Rule};
use autodidact_core::schedule::{Schedule, Shape};
use autodidact_core::seed::{self, Rng};
use autodidact_core::stats;
use autodidact_core::train::{TrainConfig, Trainer};
use autodidact_ssl::projection_head::{
    DiagonalNet, FeatureTask, LinearContrastiveNet, balancedness, closed_form, spectral_contrastive_loss,
};
use rand::RngExt;
use tch::nn::VarStore;
use tch::{Kind, Tensor};

/// Name of the weight of feature `i`.
pub(super) fn weight_of(layer: &str, i: usize) -> String {
    format!("weight of feature {}, {layer}", i + 1)
}

/// Steps at which a run of `total` is looked at: about ten in each power of ten.
fn looks(total: usize) -> Vec<usize> {
    let mut steps: Vec<usize> =
        (0..).map(|i| 10f64.powf(f64::from(i) / 10.0).round() as usize).take_while(|s| *s < total).collect();
    steps.push(total);
    steps.dedup();
    steps
}

/// Largest relative error of `got`.
fn error(got: &[f64], want: &[f64]) -> f64 {
    got.iter().zip(want).map(|(g, w)| (g / w - 1.0).abs()).fold(0.0, f64::max)
}

/// Gradient descent on the population's loss.
pub(super) fn linear(config: &Linear, context: &mut Context<'_>) -> Result<()> {
    let d = config.phi.len();
    let task = FeatureTask::new(config.phi.clone(), config.alpha.clone(), vec![1.0; d])?;
    let (sigma, c) = (task.covariance(), task.cross_covariance());
    let mut rng = seed::rng(context.seed("linear"), &["weights"]);
    let mut net = LinearContrastiveNet::random(d as i64, config.width, 2, config.std, &mut rng)?;
    let start = balancedness(&net.layers()[0], &net.layers()[1])?;
    let mut done = 0;
    for step in looks(config.steps) {
        net.descend(&sigma, &c, config.lr, step - done)?;
        done = step;
        context.progress(done, config.steps, Some(net.population_loss(&sigma, &c)?));
        for (layer, name) in LAYERS.iter().enumerate() {
            for (i, w) in net.feature_weights(layer + 1)?.into_iter().enumerate() {
                context.metric(step, &weight_of(name, i), w);
            }
        }
    }
    let (pre, post) = (net.feature_weights(1)?, net.feature_weights(2)?);
    let errors = [error(&pre, &closed_form::pre(&task)), error(&post, &closed_form::post(&task))];
    context.metric(done, WEIGHT_ERROR, errors[0].max(errors[1]));
    for (name, error) in LAYERS.iter().zip(errors) {
        context.metric(done, &format!("{WEIGHT_ERROR}, {name}"), error);
    }
    context.metric(done, "excess loss", net.population_loss(&sigma, &c)? - closed_form::minimum_loss(&task));
    let drift = balancedness(&net.layers()[0], &net.layers()[1])? - start;
    context.metric(done, "drift of the balance", drift.abs().max().double_value(&[]));
    Ok(())
}

/// A random task of the sampled runs, the same for both arms of a seed.
fn random_task(features: usize, seed: u64) -> Result<FeatureTask> {
    let mut rng = seed::rng(seed, &["task"]);
    let mut draw = |low: f64, high: f64| (0..features).map(|_| rng.random_range(low..high)).collect::<Vec<_>>();
    let (phi, alpha) = (draw(0.5, 2.0), draw(0.0, 0.9));
    Ok(FeatureTask::new(phi, alpha, vec![1.0; features])?)
}

/// Adam on batches, then few-shot probes of every feature.
pub(super) fn sampled(config: &Sampled, weight_decay: f64, context: &mut Context<'_>) -> Result<()> {
    let task = random_task(config.features, context.seed("task"))?;
    let vs = VarStore::new(context.plan.device);
    let start = LinearContrastiveNet::random(
        config.features as i64,
        config.width,
        2,
        config.std,
        &mut seed::rng(context.seed("sampled"), &["weights"]),
    )?;
    let variable = |(name, w): (&&str, &Tensor)| vs.root().var_copy(name, &w.to_kind(Kind::Float));
    let net = LinearContrastiveNet::new(LAYERS.iter().zip(start.layers()).map(variable).collect())?;
    let schedule = Schedule::new(config.lr, config.steps, Shape::cosine_to(0.0));
    let train = TrainConfig { log_every: 100, ..TrainConfig::new(schedule, context.seed("samples")) };
    let optimizer = Optimizer::new(Rule::Adam(Adam::default()), vec![Group::all(&vs, weight_decay)])?;
    Trainer::new(train, &vs, optimizer)?.run(
        |step| {
            let views = task.views(config.batch, &mut step.rng("views")).map(|x| x.to_device(vs.device()));
            let [a, b] = [net.forward(&views[0], 2)?, net.forward(&views[1], 2)?];
            spectral_contrastive_loss(&a, &b)
        },
        |p| {
            context.progress(p.done, p.total, p.loss);
            Ok::<_, Error>(())
        },
    )?;
    let weights = [net.feature_weights(1)?, net.feature_weights(2)?];
    for ((name, w), array) in VARIATION.iter().zip(&weights).zip(LAYERS) {
        context.metric(config.steps, name, stats::variance(w).sqrt() / stats::mean(w));
        context.array(&format!("weights, {array}"), w.clone());
    }
    let limits = [closed_form::pre(&task), closed_form::post(&task)];
    for (name, w) in LAYERS.iter().zip(limits) {
        context.array(&format!("limits, {name}"), w);
    }
    let each = few_shot(config, &task, &net, context)?;
    let gaps: Vec<f64> = each[0].iter().zip(&each[1]).map(|(pre, post)| (pre - post).abs()).collect();
    context.metric(config.steps, GAP, stats::mean(&gaps));
    for ((name, accuracies), array) in ACCURACY.iter().zip(each).zip(LAYERS) {
        context.metric(config.steps, name, stats::mean(&accuracies));
        context.array(&format!("accuracies, {array}"), accuracies);
    }
    context.array("phi", task.phi);
    context.array("alpha", task.alpha);
    Ok(())
}

/// Percent of test samples that probes of a few labels classify rightly, for every feature, below and above; means over
/// numbers of labels and draws.
fn few_shot(
    config: &Sampled,
    task: &FeatureTask,
    net: &LinearContrastiveNet,
    context: &Context<'_>,
) -> Result<[Vec<f64>; 2]> {
    let mut rng: Rng = seed::rng(context.seed("downstream"), &["samples"]);
    let most = config.shots.iter().max().copied().unwrap_or(0);
    let sets = [500, 2000].map(|n| task.downstream(n, &mut rng));
    let draws: Vec<_> = (0..config.draws).map(|_| task.downstream(most, &mut rng)).collect();
    let mut out = [vec![], vec![]];
    for (layer, out) in out.iter_mut().enumerate() {
        // One number scales all features: relative weights are what differs between the layers.
        let raw = |x: &Tensor| tch::no_grad(|| net.forward(&x.to_device(context.plan.device), layer + 1));
        let scale = raw(&sets[0].0)?.square().mean(Kind::Double).double_value(&[]).sqrt();
        let at =
            |x: &Tensor| -> Result<Tensor> { Ok((raw(x)? / scale).to_kind(Kind::Double).to_device(tch::Device::Cpu)) };
        let [validation, test] = [at(&sets[0].0)?, at(&sets[1].0)?];
        let drawn: Vec<Tensor> = draws.iter().map(|(x, _)| at(x)).collect::<Result<_>>()?;
        for k in 0..task.features() as i64 {
            let label = |y: &Tensor| y.select(1, k).contiguous();
            let mut accuracies = vec![];
            for (x, (_, y)) in drawn.iter().zip(&draws) {
                for &n in &config.shots {
                    let (x, y) = (x.narrow(0, 0, n as i64), label(&y.narrow(0, 0, n as i64)));
                    let fits = config.penalties.iter().map(|&penalty| -> Result<(f64, f64)> {
                        let fit = LogisticRegressionConfig { penalty, max_iterations: 100, tolerance: 1e-4 };
                        let fit = LogisticRegression::fit(&x, &y, 2, &fit)?;
                        let on = |x: &Tensor, y: &Tensor| -> Result<f64> { Ok(accuracy(&fit.logits(x)?, &label(y))?) };
                        Ok((on(&validation, &sets[0].1)?, on(&test, &sets[1].1)?))
                    });
                    let fits = fits.collect::<Result<Vec<_>>>()?;
                    let best = fits.into_iter().reduce(|best, fit| if fit.0 > best.0 { fit } else { best });
                    accuracies.push(100.0 * best.map_or(f64::NAN, |best| best.1));
                }
            }
            out.push(stats::mean(&accuracies));
        }
    }
    Ok(out)
}

/// Names of `u` and `z` of a unit of part (b).
pub(super) fn unit(phi: f64, alpha: f64) -> [String; 2] {
    ["u", "z"].map(|layer| format!("{layer}, phi = {phi}, alpha = {alpha}"))
}

/// Units of all magnitudes and probabilities of disruption.
pub(super) fn diagonal(config: &Diagonal, context: &mut Context<'_>) -> Result<()> {
    let pairs: Vec<(f64, f64)> = config.phi.iter().flat_map(|p| config.alpha.iter().map(move |a| (*p, *a))).collect();
    let (phi, alpha): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
    let u = |phi: f64| config.start * phi.sqrt();
    let w1 = phi.iter().map(|&p| (u(p) + config.b1) / p).collect();
    let w2 = phi.iter().map(|&p| u(p) / p).collect();
    let task = FeatureTask::new(phi, alpha, vec![1.0; pairs.len()])?;
    let mut net = DiagonalNet::new(w1, w2, config.b1, config.b2)?;
    let mut done = 0;
    for step in looks(config.steps) {
        net.descend(&task, config.lr, step - done)?;
        done = step;
        context.progress(done, config.steps, Some(net.loss(&task)?));
        for (i, &(phi, alpha)) in pairs.iter().enumerate() {
            let (u, z) = net.unit(&task, i)?;
            for (name, value) in unit(phi, alpha).iter().zip([u, z]) {
                context.metric(step, name, value);
            }
        }
    }
    Ok(())
}
