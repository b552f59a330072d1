//! Dense training, retraining under a mask, and what pairs of retrained networks are compared by.

use super::Config;
use crate::runner::Context;
use crate::vision::{Images, in_parts, standardised};
use anyhow::Result;
use autodidact_core::curvature::{Hessian, Lanczos};
use autodidact_core::landscape::{along_line, load_state_dict, recalibrate_batch_norm, state_dict};
use autodidact_core::masks::Masks;
use autodidact_core::metrics::accuracy;
use autodidact_core::nn::{ConvNet, ConvNetConfig, ConvNetHead, layers};
use autodidact_core::optim::{Group, Optimizer, Rule, Sam, Sgd, Snapshot, StateDict};
use autodidact_core::schedule::{Schedule, Shape};
use autodidact_core::{Error, seed};
use autodidact_datasets::batch::Order;
use rand::RngExt;
use tch::nn::{Linear, Module, ModuleT, VarStore};
use tch::{Kind, Tensor};

/// Convolutions with batch norm, the mean over positions and a linear classifier.
pub struct Network {
    pub vs: VarStore,
    encoder: ConvNet,
    head: Linear,
}

impl Network {
    pub fn new(data: &Images, config: &Config, seed: u64, device: tch::Device) -> Result<Self> {
        let vs = VarStore::new(device);
        tch::manual_seed(seed as i64);
        let shape =
            ConvNetConfig { channels: data.channels, blocks: config.blocks.clone(), head: ConvNetHead::GlobalMean };
        let encoder = ConvNet::new(vs.root() / "encoder", &shape)?;
        let head = layers::linear(vs.root() / "head", shape.features(), data.classes, true);
        Ok(Self { vs, encoder, head })
    }

    /// Dense masks over the kernels; the classifier is not pruned.
    pub fn masks(&self) -> Result<Masks> {
        Ok(autodidact_pruning::pruners::matrices(&self.vs, |name| name.starts_with("encoder"))?)
    }

    fn logits(&self, x: &Tensor, train: bool) -> Tensor {
        self.head.forward(&self.encoder.forward_t(&standardised(x), train))
    }

    /// Softmax in evaluation mode.
    pub fn probabilities(&self, x: &Tensor) -> Tensor {
        in_parts(x, PART, |x| self.logits(x, false).softmax(1, Kind::Float))
    }

    /// Share of images that are classified wrongly.
    pub fn error(&self, x: &Tensor, y: &Tensor) -> Result<f64> {
        Ok(1.0 - accuracy(&self.probabilities(x), y)?)
    }

    /// Largest eigenvalue of the Hessian of the training loss, on the first images.
    pub fn sharpness(&self, data: &Images, seed: u64) -> Result<f64> {
        let n = data.train.len().min(PART);
        let (x, y) = (data.train.x.narrow(0, 0, n), data.train.y.narrow(0, 0, n));
        let loss = || Ok(self.logits(&x, false).cross_entropy_for_logits(&y));
        // Two digits are enough to rank.
        let lanczos = Lanczos { steps: 15, tolerance: 1e-2, seed };
        Ok(Hessian::of(&self.vs.trainable_variables(), loss)?.sharpness(&lanczos)?)
    }
}

/// Images of an evaluation at a time.
const PART: i64 = 500;

/// How a network is trained.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    pub batch: usize,
    /// Steps in all; the rate falls to a tenth at a half and at three quarters of them.
    pub steps: usize,
    pub rho: f64,
    /// Order and flips.
    pub seed: u64,
}

/// Trains a network, under masks if there are any; `observe` sees the steps done.
pub fn train(
    network: &Network,
    data: &Images,
    run: &Run,
    config: &Config,
    masks: Option<&Masks>,
    mut observe: impl FnMut(usize) -> Result<()>,
) -> Result<()> {
    let order = Order::new(data.train.len() as usize, run.batch, seed::derive(run.seed, &["order"]))?;
    let schedule =
        Schedule::new(config.lr, run.steps, Shape::Steps(vec![(run.steps / 2, 0.1), (run.steps * 3 / 4, 0.01)]));
    let rule = Rule::Sgd(Sgd { momentum: config.momentum, nesterov: false });
    let mut optimizer = Optimizer::new(rule, vec![Group::all(&network.vs, config.weight_decay)])?;
    let mut sam = Sam::new(run.rho, network.vs.trainable_variables())?;
    let mut statistics = Snapshot::of_buffers(&network.vs);
    if let Some(masks) = masks {
        masks.apply();
    }
    let mut flips = seed::rng(run.seed, &["flips"]);
    for step in 0..run.steps {
        let chosen = Tensor::from_slice(&order.batch(step)).to_device(data.train.x.device());
        let (x, y) = (data.train.x.index_select(0, &chosen), data.train.y.index_select(0, &chosen));
        let flipped: Vec<bool> = (0..run.batch).map(|_| flips.random_bool(0.5)).collect();
        let flipped = Tensor::from_slice(&flipped).to_device(x.device()).view([-1, 1, 1, 1]);
        let x = x.flip([3]).where_self(&flipped, &x);
        let loss = |x: &Tensor| network.logits(x, true).cross_entropy_for_logits(&y);
        optimizer.zero_grad();
        let first = loss(&x);
        first.backward();
        if run.rho > 0.0 {
            statistics.take();
            sam.climb()?;
            loss(&x).backward();
            sam.descend();
            statistics.restore();
        }
        optimizer.step(schedule.lr(step))?;
        if let Some(masks) = masks {
            masks.apply();
        }
        if step % 100 == 0 || step + 1 == run.steps {
            let loss = first.double_value(&[]);
            if !loss.is_finite() {
                return Err(Error::Diverged { loss, step, total: run.steps }.into());
            }
        }
        observe(step + 1)?;
    }
    Ok(())
}

/// A dense network at a point of its training.
pub struct Dense {
    pub weights: StateDict,
    pub test_error: f64,
    pub sharpness: f64,
}

/// What a run of dense training is called, and how many steps of it count.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Temperature {
    pub batch: usize,
    pub rho: f64,
    /// Share of the training after which it stops.
    pub stop: f64,
}

impl Temperature {
    pub fn name(&self, config: &Config) -> String {
        match *self {
            Self { rho, .. } if rho > 0.0 => format!("rho {rho}"),
            Self { batch, .. } if batch != config.batch => format!("batch {batch}"),
            Self { stop, .. } => format!("stop {stop}"),
        }
    }

    /// Trains the dense network, or takes it from another cell of the seed. Stops of one training come from one run, so that they are
    /// checkpoints of the same schedule.
    pub fn dense(&self, data: &Images, config: &Config, context: &mut Context<'_>) -> Result<Dense> {
        let whole = Self { stop: 1.0, ..*self };
        let stops: Vec<f64> = if *self == whole && (self.rho > 0.0 || self.batch != config.batch) {
            vec![1.0]
        } else {
            config.stops.clone()
        };
        let run = Run { batch: self.batch, steps: config.steps(data), rho: self.rho, seed: context.seed("dense") };
        let name = format!("dense, {}", whole.name(config));
        let key =
            (&name, config.dense(), &stops, run.steps, context.seed("dense"), context.plan.threads, &context.plan.data);
        let key = serde_json::to_value(key)?;
        let mut all = context.shared_tensors(&name, &key, |c| {
            let network = Network::new(data, config, c.seed("init"), c.plan.device)?;
            let mut kept = StateDict::new();
            train(&network, data, &run, config, None, |done| {
                c.progress(done, run.steps, None);
                for stop in stops.iter().filter(|s| (*s * run.steps as f64).round() as usize == done) {
                    let test = network.error(&data.test.x, &data.test.y)?;
                    let sharpness = network.sharpness(data, 0)?;
                    let measured = Tensor::from_slice(&[test, sharpness]);
                    kept.insert(format!("{stop}/measured"), measured);
                    kept.extend(state_dict(&network.vs).into_iter().map(|(n, t)| (format!("{stop}/{n}"), t)));
                }
                Ok(())
            })?;
            Ok(kept)
        })?;
        let prefix = format!("{}/", self.stop);
        let mut weights: StateDict = std::mem::take(&mut all)
            .into_iter()
            .filter_map(|(n, t)| Some((n.strip_prefix(&prefix)?.to_owned(), t)))
            .collect();
        let measured = weights.remove("measured").ok_or_else(|| Error::value("stop", "one of stops", self.stop))?;
        let measured = Vec::<f64>::try_from(measured.to_kind(Kind::Double))?;
        Ok(Dense { weights, test_error: measured[0], sharpness: measured[1] })
    }
}

/// A retrained network: its weights, and its test error averaged over the last epochs.
pub struct Retrained {
    pub weights: StateDict,
    pub test_error: f64,
}

/// Prunes a dense network (every kernel to the same density) and trains it again with the whole schedule.
pub fn retrain(
    dense: &Dense,
    density: f64,
    copy: usize,
    data: &Images,
    config: &Config,
    context: &Context<'_>,
) -> Result<Retrained> {
    let network = Network::new(data, config, 0, context.plan.device)?;
    load_state_dict(&network.vs, &dense.weights)?;
    let masks = autodidact_pruning::pruners::layerwise_magnitude(&network.masks()?, 1.0 - density)?;
    let seed = seed::derive(context.seed("retrain"), &[&copy.to_string()]);
    let run = Run { batch: config.batch, steps: config.steps(data), rho: 0.0, seed };
    let per_epoch = data.train.len() as usize / config.batch;
    let mut errors = vec![];
    train(&network, data, &run, config, Some(&masks), |done| {
        context.progress(done, run.steps, None);
        if done % per_epoch == 0 && done + config.last_epochs * per_epoch > run.steps {
            errors.push(network.error(&data.test.x, &data.test.y)?);
        }
        Ok(())
    })?;
    Ok(Retrained { weights: state_dict(&network.vs), test_error: autodidact_core::stats::mean(&errors) })
}

/// Training errors on the line between two networks, the statistics of batch norm computed anew at every point.
pub fn errors_between(
    a: &StateDict,
    b: &StateDict,
    data: &Images,
    config: &Config,
    context: &Context<'_>,
) -> Result<Vec<f64>> {
    let network = Network::new(data, config, 0, context.plan.device)?;
    along_line(a, b, config.points, |weights| {
        load_state_dict(&network.vs, weights)?;
        let batches = data.train.x.split(PART, 0);
        recalibrate_batch_norm(&network.vs, batches, |x| drop(network.logits(x, true)))?;
        network.error(&data.train.x, &data.train.y)
    })
}
