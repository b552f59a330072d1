//! Unlearning of classifiers with labels: the methods that others are compared with. [Training](train) from scratch on the remaining data
//! is what all of them try to match.
//!
//! | method | forget | remaining | original | other |
//! |---|---|---|---|---|
//! | [`train`], fine-tuning | | yes | | |
//! | [`gradient_ascent`] | yes | | | |
//! | [`random_labels`] | yes | yes | | |
//! | [`boundary_shrink`] | yes | | yes | |
//! | [`unroll`] | yes | yes | | initial weights |
//! | [`bad_teacher`] | yes | yes | yes | a network that knows nothing |
//! | [`scrub`] | yes | yes | yes | |
//! | [`Sisa`] | | yes | | shards from the start |

use crate::classifier::{Embedder, Labelled, Training, derived, train};
use autodidact_core::error::check_range;
use autodidact_core::optim::sorted_trainables;
use autodidact_core::{Error, Result, seed};
use rand::RngExt;
use rand::seq::SliceRandom;
use tch::{Kind, Tensor};

/// `KL(p || q)` of logits `[N, C]` at a temperature, summed over classes and averaged over rows; no gradient for `p`.
fn divergence(p: &Tensor, q: &Tensor, temperature: f64) -> Tensor {
    let p = (p.detach() / temperature).log_softmax(-1, None::<Kind>);
    let q = (q / temperature).log_softmax(-1, None::<Kind>);
    (p.exp() * (&p - q)).sum(Kind::Float) * (temperature.powi(2) / p.size()[0] as f64)
}

fn joined(a: &Labelled, b: &Labelled) -> Labelled {
    Labelled { x: Tensor::cat(&[&a.x, &b.x], 0), y: Tensor::cat(&[&a.y, &b.y], 0) }
}

/// Ascends the cross-entropy of the data to forget (NegGrad). It has no bound: it is for few steps.
///
/// # Errors
/// Settings outside their ranges, a loss that is not finite.
pub fn gradient_ascent(model: &impl Embedder, forget: &Labelled, training: &Training) -> Result<Vec<f64>> {
    training.minimise(sorted_trainables(model.store()), forget.len(), forget.x.device(), |_, rows| {
        let batch = forget.rows(rows);
        Ok(-model.logits(&batch.x, true).cross_entropy_for_logits(&batch.y))
    })
}

/// Labels `[N]` drawn uniformly from the classes that a sample is not of.
///
/// # Errors
/// Fewer than two classes.
pub fn wrong_labels(labels: &Tensor, classes: i64, seed: u64) -> Result<Tensor> {
    check_range("classes", classes as f64, 2.0..)?;
    let rng = &mut seed::rng(seed, &["wrong labels"]);
    let labels = Vec::<i64>::try_from(labels)?;
    let wrong: Vec<i64> = labels.iter().map(|y| (y + rng.random_range(1..classes)) % classes).collect();
    Ok(Tensor::from_slice(&wrong))
}

/// Fine-tunes on the remaining data and on those to forget under [`wrong_labels`] (random labels, as amnesiac unlearning: Graves, Nagisetty
/// and Ganesh, 2021; arXiv 2010.10981).
///
/// # Errors
/// As [`train`] and [`wrong_labels`].
pub fn random_labels(
    model: &impl Embedder,
    forget: &Labelled,
    remaining: &Labelled,
    classes: i64,
    training: &Training,
) -> Result<Vec<f64>> {
    let y = wrong_labels(&forget.y, classes, derived(training.seed, "random labels"))?.to_device(forget.y.device());
    train(model, &joined(&Labelled { x: forget.x.shallow_clone(), y }, remaining), training)
}

/// Fine-tunes on the data to forget as the nearest wrong class (boundary shrink: Chen, Gao, Liu, Peng and Wang, 2023; arXiv 2303.11570): the
/// class, other than the label, that the model prefers after a step of `eps` along the sign of the loss's gradient.
///
/// # Errors
/// As [`train`]; an `eps` below 0.
pub fn boundary_shrink(model: &impl Embedder, forget: &Labelled, eps: f64, training: &Training) -> Result<Vec<f64>> {
    check_range("eps", eps, 0.0..)?;
    let x = forget.x.detach().copy().set_requires_grad(true);
    let loss = model.logits(&x, false).cross_entropy_for_logits(&forget.y);
    let gradient = Tensor::f_run_backward(&[&loss], &[&x], false, false)?;
    let shifted = x.detach() + gradient[0].sign() * eps;
    let y = tch::no_grad(|| {
        let own = forget.y.unsqueeze(1);
        model.logits(&shifted, false).scatter_value(1, &own, f64::NEG_INFINITY).argmax(1, false)
    });
    train(model, &Labelled { x: forget.x.shallow_clone(), y }, training)
}

/// Adds `lr` times the summed gradient that the data to forget had at the initial weights, batch by batch, as one epoch of gradient
/// descent would have subtracted it (Thudi, Deza, Chandrasekaran and Papernot, 2022; arXiv 2109.13398); then fine-tunes on the remaining data.
///
/// # Errors
/// As [`train`]; an `lr` below 0, an initial network with other parameters.
pub fn unroll<M: Embedder>(
    model: &M,
    initial: &M,
    forget: &Labelled,
    remaining: &Labelled,
    lr: f64,
    training: &Training,
) -> Result<Vec<f64>> {
    check_range("lr", lr, 0.0..)?;
    training.check()?;
    let (old, new) = (sorted_trainables(initial.store()), sorted_trainables(model.store()));
    if !old.iter().zip(&new).all(|(a, b)| a.0 == b.0 && a.1.size() == b.1.size()) || old.len() != new.len() {
        return Err(Error::value("initial network", "the parameters of the model", "others"));
    }
    let leaves: Vec<&Tensor> = old.iter().map(|p| &p.1).collect();
    let part = training.batch as i64;
    let mut rest = forget.len() as i64;
    while rest > 0 {
        let n = part.min(rest);
        let (x, y) = (forget.x.narrow(0, rest - n, n), forget.y.narrow(0, rest - n, n));
        let loss = initial.logits(&x, true).cross_entropy_for_logits(&y);
        let gradients = Tensor::f_run_backward(&[&loss], &leaves, false, false)?;
        tch::no_grad(|| {
            for ((_, p), g) in new.iter().zip(&gradients) {
                let _ = p.shallow_clone().g_add_(&(g * lr));
            }
        });
        rest -= n;
    }
    train(model, remaining, training)
}

/// Distils two teachers (Chundawat, Tarun, Mandal and Kankanhalli, 2023; arXiv 2205.08096): data to forget from one that knows nothing,
/// remaining data from the original, `KL(teacher || model)` averaged over a batch of both.
///
/// # Errors
/// Settings outside their ranges, a loss that is not finite.
pub fn bad_teacher<M: Embedder>(
    model: &M,
    [original, ignorant]: [&M; 2],
    forget: &Labelled,
    remaining: &Labelled,
    training: &Training,
) -> Result<Vec<f64>> {
    let x = Tensor::cat(&[&forget.x, &remaining.x], 0);
    let taught = Tensor::cat(&[ignorant.log_probabilities(&forget.x), original.log_probabilities(&remaining.x)], 0);
    training.minimise(sorted_trainables(model.store()), x.size()[0] as usize, x.device(), |_, rows| {
        let logits = model.logits(&x.index_select(0, rows), true);
        Ok(divergence(&taught.index_select(0, rows), &logits, 1.0))
    })
}

/// Constants of [`scrub`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScrubConfig {
    /// Epochs that begin with a pass away from the original on the data to forget; the others repair.
    pub forgetting_epochs: usize,
    /// Weight of the divergence on remaining data.
    pub alpha: f64,
    /// Weight of their cross-entropy.
    pub gamma: f64,
    /// Temperature of the divergences.
    pub temperature: f64,
}

impl Default for ScrubConfig {
    /// As published for small classifiers.
    fn default() -> Self {
        Self { forgetting_epochs: 2, alpha: 0.5, gamma: 1.0, temperature: 4.0 }
    }
}

/// SCRUB (Kurmanji, Triantafillou, Hayes and Triantafillou, 2023; arXiv 2302.09880): passes that raise `KL(original || model)` on the data
/// to forget, each followed by one that lowers `alpha KL + gamma CE` on remaining data.
///
/// # Errors
/// Settings outside their ranges, a loss that is not finite.
pub fn scrub<M: Embedder>(
    model: &M,
    original: &M,
    forget: &Labelled,
    remaining: &Labelled,
    config: &ScrubConfig,
    training: &Training,
) -> Result<Vec<f64>> {
    check_range("temperature", config.temperature, f64::MIN_POSITIVE..)?;
    let (away, near) = (original.log_probabilities(&forget.x), original.log_probabilities(&remaining.x));
    let params = || sorted_trainables(model.store());
    let device = forget.x.device();
    let mut losses = vec![];
    for epoch in 0..training.epochs {
        let pass = Training {
            epochs: 1,
            seed: seed::derive(training.seed, &["scrub", &epoch.to_string()]),
            ..training.clone()
        };
        if epoch < config.forgetting_epochs {
            pass.minimise(params(), forget.len(), device, |_, rows| {
                let logits = model.logits(&forget.x.index_select(0, rows), true);
                Ok(-divergence(&away.index_select(0, rows), &logits, config.temperature))
            })?;
        }
        losses.extend(pass.minimise(params(), remaining.len(), device, |_, rows| {
            let batch = remaining.rows(rows);
            let logits = model.logits(&batch.x, true);
            let kl = divergence(&near.index_select(0, rows), &logits, config.temperature);
            Ok(config.alpha * kl + config.gamma * logits.cross_entropy_for_logits(&batch.y))
        })?);
    }
    Ok(losses)
}

/// Networks of disjoint shards of the training data, which vote (Bourtoule et al., 2021; arXiv 1912.03817): to forget, only the networks of
/// shards with forgotten samples are trained again.
#[derive(Debug)]
pub struct Sisa<M> {
    models: Vec<M>,
    shards: Vec<Vec<i64>>,
}

impl<M: Embedder> Sisa<M> {
    /// Deals the samples to `shards` shards and trains a network from `fresh` on each.
    ///
    /// # Errors
    /// No shards or more than samples; those of [`train`] and `fresh`.
    pub fn train(
        data: &Labelled,
        shards: usize,
        fresh: impl FnMut() -> Result<M>,
        training: &Training,
    ) -> Result<Self> {
        check_range("shards", shards as f64, 1.0..=data.len() as f64)?;
        let mut order: Vec<i64> = (0..data.len() as i64).collect();
        order.shuffle(&mut seed::rng(derived(training.seed, "shards"), &["order"]));
        let shards: Vec<Vec<i64>> =
            (0..shards).map(|s| order.iter().skip(s).step_by(shards).copied().collect()).collect();
        let models = std::iter::repeat_with(fresh).take(shards.len()).collect::<Result<Vec<M>>>()?;
        for (model, shard) in models.iter().zip(&shards) {
            train(model, &data.rows(&Tensor::from_slice(shard).to_device(data.x.device())), training)?;
        }
        Ok(Self { models, shards })
    }

    /// Forgets samples (rows of the same `data`): drops them, and trains the networks of their shards again. Returns how many these were.
    ///
    /// # Errors
    /// A shard that would be empty; those of [`train`] and `fresh`.
    pub fn forget(
        &mut self,
        data: &Labelled,
        rows: &[i64],
        mut fresh: impl FnMut() -> Result<M>,
        training: &Training,
    ) -> Result<usize> {
        let rows: std::collections::HashSet<i64> = rows.iter().copied().collect();
        let mut again = 0;
        for (model, shard) in self.models.iter_mut().zip(&mut self.shards) {
            let before = shard.len();
            shard.retain(|i| !rows.contains(i));
            if shard.len() == before {
                continue;
            }
            check_range("samples of a shard", shard.len() as f64, 1.0..)?;
            *model = fresh()?;
            train(model, &data.rows(&Tensor::from_slice(shard).to_device(data.x.device())), training)?;
            again += 1;
        }
        Ok(again)
    }

    /// Mean class probabilities of the networks, `[N, C]`.
    pub fn probabilities(&self, x: &Tensor) -> Tensor {
        let each: Vec<Tensor> = self.models.iter().map(|m| m.probabilities(x)).collect();
        Tensor::stack(&each, 0).mean_dim([0i64].as_slice(), false, Kind::Float)
    }
}
