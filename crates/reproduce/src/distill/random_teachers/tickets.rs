//! Supervised training from a student and from random networks: lottery tickets, and errors on the lines between trained networks.

use super::train::{Data, EVALUATED, Seeds, distill, encoder, pair};
use super::{BARRIER, Config, Distillation, Input, SPARSE, Start};
use crate::runner::Context;
use crate::vision::in_parts;
use anyhow::{Result, ensure};
use autodidact_core::landscape::{along_line, barrier, load_state_dict, state_dict};
use autodidact_core::masks::{IterativePruning, Masks};
use autodidact_core::metrics::accuracy;
use autodidact_core::nn::layers;
use autodidact_core::optim::{Group, Optimizer, Rule, Sgd, Snapshot, StateDict};
use autodidact_core::schedule::{Schedule, Shape};
use autodidact_core::{seed, stats};
use autodidact_datasets::augment::{Pipeline, Transform};
use autodidact_datasets::batch::Order;
use autodidact_distill::random_teachers::LOCAL;
use tch::Tensor;
use tch::nn::{Linear, Module, ModuleT, VarStore};

/// An encoder with a linear classifier, and what trains both.
struct Classifier<'a> {
    vs: VarStore,
    encoder: Box<dyn ModuleT>,
    classifier: Linear,
    optimizer: Optimizer,
    data: &'a Data,
    config: &'a Config,
    augment: Pipeline,
    /// Epochs that are behind the start.
    behind: usize,
    order: u64,
}

impl<'a> Classifier<'a> {
    /// At its start.
    fn new(start: Start, data: &'a Data, config: &'a Config, context: &mut Context<'_>) -> Result<Self> {
        let device = context.plan.device;
        let local = Distillation {
            network: config.network,
            alpha: LOCAL,
            input: Input::Images(config.images),
            steps: config.decided,
            sgd: false,
        };
        let seeds = Seeds::of(context);
        let (teacher, student) = pair(&local, config, &seeds, device)?;
        if start == Start::Student {
            distill(&local, config.decided, (&teacher, &student), &data.train.x, config, &seeds, None, |p| {
                context.progress(p.done, p.total, p.loss);
                Ok(())
            })?;
        }
        let begin = if start == Start::Student { student } else { teacher };
        // The head is no part of it.
        let vs = VarStore::new(device);
        let (encoder, features) = encoder(&vs, config.network, config)?;
        load_state_dict(&vs, &state_dict(&begin.vs))?;
        tch::manual_seed(context.seed("classifier") as i64);
        let classifier = layers::linear(vs.root() / "classifier", features, data.classes, true);
        let s = &config.supervised;
        let optimizer = Optimizer::new(Rule::Sgd(Sgd::default()), vec![Group::all(&vs, s.weight_decay)])?;
        let padding = config.side as usize / 8;
        let augment = Pipeline(vec![Transform::PaddedCrop { padding }, Transform::HorizontalFlip { p: 0.5 }]);
        let order = context.seed("supervised order");
        let mut made = Self { vs, encoder, classifier, optimizer, data, config, augment, behind: 0, order };
        if start == Start::Rewound {
            made.train(0, s.rewind, 0, None)?;
            made.behind = s.rewind;
        }
        Ok(made)
    }

    /// Everything that training changes.
    fn state(&self) -> Snapshot {
        Snapshot::of(self.vs.variables().into_values().chain(self.optimizer.state_dict().into_values()))
    }

    fn logits(&self, x: &Tensor, train: bool) -> Tensor {
        self.classifier.forward(&self.encoder.forward_t(x, train))
    }

    /// Trains through epochs `from..to` in the order `stream`, masked weights at 0.
    fn train(&mut self, from: usize, to: usize, stream: usize, masks: Option<&Masks>) -> Result<()> {
        let s = &self.config.supervised;
        let (x, y) = (&self.data.train.x, &self.data.train.y);
        let n = x.size()[0] as usize;
        let seed = seed::derive(self.order, &[&stream.to_string()]);
        let order = Order::new(n, s.batch.min(n), seed)?;
        let per_epoch = order.batches_per_epoch();
        let drop = |share: f64| (share * (s.epochs * per_epoch) as f64).round() as usize;
        let shape = Shape::Steps(vec![(drop(0.5), 0.1), (drop(0.75), 0.01)]);
        let schedule = Schedule::new(s.lr, s.epochs * per_epoch, shape);
        let mut last = None;
        for step in from * per_epoch..to * per_epoch {
            let index = Tensor::from_slice(&order.batch(step)).to_device(x.device());
            let mut rng = seed::rng(seed, &["augment", &step.to_string()]);
            let batch = self.augment.apply(&x.index_select(0, &index), &mut rng)?;
            let loss = self.logits(&batch, true).cross_entropy_for_logits(&y.index_select(0, &index));
            self.optimizer.zero_grad();
            loss.f_backward()?;
            self.optimizer.step(schedule.lr(step))?;
            if let Some(masks) = masks {
                masks.apply();
            }
            last = Some(loss.detach());
        }
        let loss = last.map_or(0.0, |l| l.double_value(&[]));
        ensure!(loss.is_finite(), "the supervised loss became {loss}; lower supervised.lr");
        Ok(())
    }

    fn test_accuracy(&self) -> Result<f64> {
        let test = &self.data.test;
        Ok(100.0 * accuracy(&in_parts(&test.x, EVALUATED, |x| self.logits(x, false)), &test.y)?)
    }

    /// Percent of test images wrong with some weights, where batch norm uses the statistics of these images.
    fn error_of(&self, weights: &StateDict) -> Result<f64> {
        load_state_dict(&self.vs, weights)?;
        let test = &self.data.test;
        Ok(100.0 - 100.0 * accuracy(&in_parts(&test.x, EVALUATED, |x| self.logits(x, true)), &test.y)?)
    }
}

/// Iterative magnitude pruning from a start; accuracy by round.
pub(super) fn tickets(start: Start, config: &Config, context: &mut Context<'_>) -> Result<()> {
    let data = Data::load(config, context.plan)?;
    let mut net = Classifier::new(start, &data, config, context)?;
    let state = net.state();
    let s = &config.supervised;
    let pruning = IterativePruning { rate: s.rate, rounds: s.rounds };
    let rounds = pruning.run::<f64, anyhow::Error>(Masks::full(&net.vs), &state, |round, masks| {
        context.progress(round, s.rounds + 1, None);
        net.train(net.behind, s.epochs, 0, Some(masks))?;
        net.test_accuracy()
    })?;
    for (round, (_, accuracy)) in rounds.into_iter().enumerate() {
        context.metric(round, SPARSE, accuracy);
    }
    Ok(())
}

/// Trainings from one start in several orders; errors on the lines between each two.
pub(super) fn lines(start: Start, config: &Config, context: &mut Context<'_>) -> Result<()> {
    let data = Data::load(config, context.plan)?;
    let mut net = Classifier::new(start, &data, config, context)?;
    let state = net.state();
    let s = &config.supervised;
    let mut ends = vec![];
    for order in 0..s.orders {
        context.progress(order, s.orders + 1, None);
        state.restore();
        net.train(0, s.epochs, order, None)?;
        context.metric(order, "test accuracy", net.test_accuracy()?);
        ends.push(state_dict(&net.vs));
    }
    let (mut barriers, mut mean) = (vec![], vec![0.0; s.points]);
    for (i, a) in ends.iter().enumerate() {
        for b in &ends[i + 1..] {
            let errors = along_line(a, b, s.points, |weights| net.error_of(weights))?;
            barriers.push(barrier(&errors)?);
            mean.iter_mut().zip(&errors).for_each(|(m, e)| *m += e);
        }
    }
    let pairs = barriers.len() as f64;
    context.array("errors", mean.into_iter().map(|m| m / pairs).collect());
    context.metric(0, BARRIER, stats::mean(&barriers));
    Ok(())
}
