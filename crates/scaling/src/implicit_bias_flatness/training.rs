//! Ways to train on, which differ in their noise.

use super::{BinaryLanguage, TwoLayer};
use autodidact_core::error::check_range;
use autodidact_core::{Error, Result, seed};
use serde::{Deserialize, Serialize};
use tch::Kind;

/// Random numbers are drawn for as many samples at a time.
const BLOCK: usize = 16_384;

/// What a step sees of the language.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Noise {
    /// Inputs and labels drawn afresh, so many of them: stochastic gradient descent.
    Minibatch(usize),
    /// All inputs with the probabilities of their labels: descent on the population loss, no noise.
    FullBatch,
    /// All inputs, one label of each drawn afresh.
    Labels,
}

/// Plain gradient descent on a [`TwoLayer`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Training {
    /// What a step sees.
    pub noise: Noise,
    /// Learning rate; multiplied by [`OutputScale::rate`](super::OutputScale::rate).
    pub lr: f64,
    /// Steps.
    pub steps: usize,
    /// Only the second layer is trained.
    pub output_only: bool,
    /// Of the noise.
    pub seed: u64,
}

impl Default for Training {
    /// Batches of 8 at learning rate 0.15 for 40,000 steps.
    fn default() -> Self {
        Self { noise: Noise::Minibatch(8), lr: 0.15, steps: 40_000, output_only: false, seed: 0 }
    }
}

impl Training {
    fn check(&self) -> Result<()> {
        check_range("learning rate", self.lr, 0.0..)?;
        if self.noise == Noise::Minibatch(0) {
            return Err(Error::value("batch", "at least 1", 0));
        }
        Ok(())
    }
}

/// Trains a network on, in place. Noise is drawn in blocks, on the language's device, from libtorch's generator, which is seeded anew
/// for every block.
///
/// # Errors
/// Settings out of range, a language with other inputs, weights that are not finite in the end.
pub fn continue_training(net: &mut TwoLayer, language: &BinaryLanguage, training: &Training) -> Result<()> {
    training.check()?;
    net.check(language)?;
    let lr = training.lr * net.scale.rate(net.width());
    let (x, p, n) = (&language.inputs, &language.probabilities, language.len());
    let per_step = match training.noise {
        Noise::Minibatch(b) => b,
        Noise::FullBatch => 0,
        Noise::Labels => n as usize,
    };
    let block = (BLOCK / per_step.max(1)).max(1);
    tch::no_grad(|| {
        for start in (0..training.steps).step_by(block) {
            let steps = block.min(training.steps - start) as i64;
            seed::seed_torch(training.seed, &["continue training", &start.to_string()]);
            match training.noise {
                Noise::FullBatch => (0..steps).for_each(|_| net.step(x, p, lr, training.output_only)),
                Noise::Labels => {
                    let labels = p.expand([steps, n], false).bernoulli();
                    (0..steps).for_each(|i| net.step(x, &labels.get(i), lr, training.output_only));
                }
                Noise::Minibatch(b) => {
                    let (b, d) = (b as i64, x.size()[1]);
                    let index = tch::Tensor::randint(n, [steps * b], (Kind::Int64, x.device()));
                    let inputs = x.index_select(0, &index).view([steps, b, d]);
                    let labels = p.index_select(0, &index).bernoulli().view([steps, b]);
                    (0..steps).for_each(|i| net.step(&inputs.get(i), &labels.get(i), lr, training.output_only));
                }
            }
        }
    });
    check_range("sum of the weights", (net.w.sum(Kind::Double) + net.a.sum(Kind::Double)).double_value(&[]), ..)?;
    Ok(())
}

/// A copy that has descended without noise, before its flatness is measured: noisy training hovers above the manifold of minimisers, by
/// more than minimisers differ.
///
/// # Errors
/// As [`continue_training`].
pub fn anneal_to_manifold(net: &TwoLayer, language: &BinaryLanguage, lr: f64, steps: usize) -> Result<TwoLayer> {
    let mut copy = net.copy();
    let quiet = Training { noise: Noise::FullBatch, lr, steps, ..Default::default() };
    continue_training(&mut copy, language, &quiet)?;
    Ok(copy)
}

/// Trains the second layer on features that stay as they were drawn, without noise, until the excess is at most `tol` (looked at every
/// `every` steps) or `steps` are over: a look-up of conditional probabilities that learns no features. The steps taken.
///
/// # Errors
/// As [`continue_training`], and `every` of 0.
pub fn frozen_random_features(
    net: &mut TwoLayer,
    language: &BinaryLanguage,
    lr: f64,
    steps: usize,
    tol: f64,
    every: usize,
) -> Result<usize> {
    check_range("steps between looks", every as f64, 1.0..)?;
    let mut done = 0;
    while done < steps && net.excess(language)? > tol {
        let next = every.min(steps - done);
        let part = Training { noise: Noise::FullBatch, lr, steps: next, output_only: true, ..Default::default() };
        continue_training(net, language, &part)?;
        done += next;
    }
    Ok(done)
}
