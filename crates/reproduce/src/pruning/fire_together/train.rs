//! Training and measuring of one arm.

use super::{ACCURACY, AGREEMENT, Arm, BY_CLASS, Config, EMPTY, ESTIMATE, FIRING, REDUCTION, VARIED};
use crate::runner::Context;
use crate::vision::{Images, Part, standardised};
use anyhow::{Result, bail};
use autodidact_core::landscape::{load_state_dict, state_dict};
use autodidact_core::metrics::accuracy;
use autodidact_core::optim::{Group, Optimizer, Rule, Sgd, StateDict};
use autodidact_core::schedule::{Schedule, Shape};
use autodidact_core::{Error, seed};
use autodidact_datasets::augment::{Pipeline, Transform};
use autodidact_datasets::batch::Order;
use autodidact_datasets::synthetic::{GlyphStyle, StrokeGlyphs};
use autodidact_pruning::fire_together::{
    Criterion, GatedNet, GatedNetConfig, Gates, HeadInput, Pooling, Stage, mask_loss,
};
use rand::seq::SliceRandom;
use tch::{Device, Kind, Tensor};

/// Classes of the generated characters.
const GLYPHS: usize = 20;
/// Images of an evaluation at a time.
const PART: i64 = 500;

fn shape(c: &Config, channels: i64, classes: i64, input: HeadInput) -> GatedNetConfig {
    let stages = c.stages.iter().map(|s| if *s == 0 { Stage::Pool } else { Stage::Filters(*s) }).collect();
    GatedNetConfig { channels, side: c.side, stages, classes, pooling: Pooling::Max, input }
}

/// What the network itself refuses.
pub(super) fn check(c: &Config) -> Result<()> {
    Ok(GatedNet::new(&shape(c, 1, 2, HeadInput::Plain), Device::Cpu).map(drop)?)
}

fn load(c: &Config, context: &Context<'_>) -> Result<Images> {
    let plan = context.plan;
    let (n, tested) = c.images;
    if plan.dataset != "stroke-glyphs" {
        return Images::load(plan, &plan.dataset, "fire-together", n, tested, c.side);
    }
    let glyphs = StrokeGlyphs::new(GLYPHS, 0)?;
    let classes: Vec<usize> = (0..GLYPHS).collect();
    let part = |n: usize, purpose: &str| {
        let drawn = seed::derive(0, &["fire-together", purpose]);
        let set = glyphs.draw(&classes, n.div_ceil(GLYPHS), GlyphStyle::Plain, drawn)?;
        // They come class by class; estimates look at the first.
        let set = set.subset(set.len(), drawn)?;
        Ok::<Part, anyhow::Error>(Part::new(&set, c.side, plan.device))
    };
    Ok(Images { train: part(n, "train")?, test: part(tested, "test")?, classes: GLYPHS as i64, channels: 1 })
}

/// A network with the data that it sees.
struct Study<'a> {
    c: &'a Config,
    data: Images,
}

/// What trains gates.
#[derive(Clone, Copy)]
enum Gating<'a> {
    None,
    Heads { criterion: Criterion, detached: bool },
    Fixed(&'a [Tensor]),
    Regularised(f64),
}

pub(super) fn run(arm: Arm, c: &Config, context: &mut Context<'_>) -> Result<()> {
    let study = Study { c, data: load(c, context)? };
    match arm {
        Arm::Dense => {
            let net = study.dense(HeadInput::Standardised, context)?;
            study.report(&net, Gates::Open, None, context)
        }
        Arm::Oracle(r) => {
            let net = study.dense(HeadInput::Standardised, context)?;
            study.estimate(&net, Criterion::Mass(r), context)?;
            study.report(&net, Gates::Oracle(Criterion::Mass(r)), None, context)
        }
        Arm::Continued => {
            let net = study.dense(HeadInput::Standardised, context)?;
            study.train(&net, Gating::None, true, context)?;
            study.report(&net, Gates::Open, None, context)
        }
        Arm::Decoupled(r) => {
            let dense = study.dense(HeadInput::Standardised, context)?;
            study.estimate(&dense, Criterion::Mass(r), context)?;
            let net = study.decoupled(r, context)?;
            study.report(&net, Gates::Heads, Some(Criterion::Mass(r)), context)
        }
        Arm::Joint(r) | Arm::Softmax(r) | Arm::JointSoftmax(r) => {
            let input = if matches!(arm, Arm::Joint(_)) { HeadInput::Standardised } else { HeadInput::Softmax };
            let net = study.dense(input, context)?;
            let criterion = Criterion::Mass(r);
            let detached = matches!(arm, Arm::Softmax(_));
            study.train(&net, Gating::Heads { criterion, detached }, true, context)?;
            study.report(&net, Gates::Heads, Some(criterion), context)
        }
        Arm::Uniform(r) => {
            let net = study.dense(HeadInput::Standardised, context)?;
            // Whose targets save as much as those of the share: heads miss either.
            let peaks = net.peaks(&study.some())?;
            let (saved, _) = peaks.reduction(&net, Criterion::Mass(r))?;
            let criterion = Criterion::Uniform(peaks.choose(&net, Criterion::Uniform, saved.clamp(0.001, 0.999))?);
            study.train(&net, Gating::Heads { criterion, detached: true }, true, context)?;
            study.report(&net, Gates::Heads, Some(criterion), context)
        }
        Arm::Static(r) | Arm::Random(r) => {
            let counts = study.counts(&study.decoupled(r, context)?)?;
            let net = study.dense(HeadInput::Standardised, context)?;
            let masks = if matches!(arm, Arm::Static(_)) {
                net.peaks(&study.some())?.most_frequent(Criterion::Mass(r), &counts)?
            } else {
                random(&net, &counts, context.seed("random filters"))
            };
            study.train(&net, Gating::Fixed(&masks), true, context)?;
            study.report(&net, Gates::Fixed(&masks), None, context)
        }
        Arm::Regularised(lambda) => {
            let net = study.dense(HeadInput::Standardised, context)?;
            study.train(&net, Gating::Regularised(lambda), true, context)?;
            study.report(&net, Gates::Heads, None, context)
        }
    }
}

fn random(net: &GatedNet, counts: &[i64], seed: u64) -> Vec<Tensor> {
    let mut rng = seed::rng(seed, &["filters"]);
    let mask = |(filters, count): (i64, &i64)| {
        let mut on: Vec<f32> = (0..filters).map(|i| f32::from(u8::from(i < *count))).collect();
        on.shuffle(&mut rng);
        Tensor::from_slice(&on).to_device(net.store().device())
    };
    net.filters().into_iter().zip(counts).map(mask).collect()
}

impl Study<'_> {
    fn fresh(&self, input: HeadInput, context: &Context<'_>) -> Result<GatedNet> {
        tch::manual_seed(context.seed("init") as i64);
        let shape = shape(self.c, self.data.channels, self.data.classes, input);
        Ok(GatedNet::new(&shape, context.plan.device)?)
    }

    /// The same for all networks of a seed, as the key of what they share.
    fn key(&self, context: &Context<'_>) -> serde_json::Value {
        let c = Config { shares: vec![], compared: vec![], lambdas: vec![], ..self.c.clone() };
        serde_json::json!([c, context.cell_seed(), context.plan.data])
    }

    /// The dense network, trained once for all arms of a seed; its heads are fresh.
    fn dense(&self, input: HeadInput, context: &mut Context<'_>) -> Result<GatedNet> {
        let key = self.key(context);
        let mut weights = context.shared_tensors("dense network", &key, |context| {
            let net = self.fresh(HeadInput::Standardised, context)?;
            self.train(&net, Gating::None, false, context)?;
            Ok(without_heads(state_dict(net.store())))
        })?;
        let net = self.fresh(input, context)?;
        weights.extend(state_dict(net.store()).into_iter().filter(|(name, _)| name.starts_with("heads.")));
        load_state_dict(net.store(), &weights)?;
        if self.c.open_heads {
            net.open_heads();
        }
        Ok(net)
    }

    /// The network of the decoupled arm, which others compare with.
    fn decoupled(&self, r: f64, context: &mut Context<'_>) -> Result<GatedNet> {
        let key = (self.key(context), r);
        let weights = context.shared_tensors(&format!("decoupled {r}"), &key, |context| {
            let net = self.dense(HeadInput::Standardised, context)?;
            self.train(&net, Gating::Heads { criterion: Criterion::Mass(r), detached: true }, true, context)?;
            Ok(state_dict(net.store()))
        })?;
        let net = self.fresh(HeadInput::Standardised, context)?;
        load_state_dict(net.store(), &weights)?;
        Ok(net)
    }

    /// Training images that estimates are made on.
    fn some(&self) -> Tensor {
        let train = &self.data.train;
        standardised(&train.x.narrow(0, 0, (self.c.estimated as i64).min(train.len())))
    }

    fn masks(&self, net: &GatedNet) -> Result<Vec<Tensor>> {
        Ok(tch::no_grad(|| net.forward(&self.some(), Gates::Heads, None, true, false))?.masks)
    }

    /// Mean number of filters of each layer that a network computes on training images, rounded.
    fn counts(&self, net: &GatedNet) -> Result<Vec<i64>> {
        let mean = |m: &Tensor| m.sum_dim_intlist([1i64].as_slice(), false, Kind::Double).mean(Kind::Double);
        Ok(self.masks(net)?.iter().map(|m| mean(m).double_value(&[]).round() as i64).collect())
    }

    fn estimate(&self, net: &GatedNet, criterion: Criterion, context: &mut Context<'_>) -> Result<()> {
        let (saved, _) = net.peaks(&self.some())?.reduction(net, criterion)?;
        context.metric(0, ESTIMATE, 100.0 * saved);
        Ok(())
    }

    /// Trains densely, or continues with gates.
    fn train(&self, net: &GatedNet, gating: Gating<'_>, continued: bool, context: &Context<'_>) -> Result<()> {
        let c = self.c;
        let train = &self.data.train;
        let (epochs, lr) = if continued { (c.pruning_epochs, c.pruning_lr) } else { (c.epochs, c.lr) };
        let data = context.seed(if continued { "pruning" } else { "dense" });
        let n = train.len() as usize;
        if n < c.batch {
            bail!(Error::value("batch", format!("at most the {n} training images"), c.batch));
        }
        let order = Order::new(n, c.batch, data)?;
        let steps = epochs * order.batches_per_epoch();
        let schedule = Schedule::new(lr, steps, Shape::cosine_to(0.0));
        let rule = || Rule::Sgd(Sgd { momentum: c.momentum, nesterov: false });
        let [backbone, heads] = net.parts();
        let mut optimizer = Optimizer::new(rule(), vec![Group::of(backbone, c.weight_decay)])?;
        // Behind a softmax values are one over the number of channels.
        let of_layer = |i: usize, channels: i64| {
            let own = heads.iter().filter(|(name, _)| name.starts_with(&format!("heads.{i}.")));
            let group = Group::of(own.map(|(name, p)| (name.clone(), p.shallow_clone())).collect(), 0.0);
            group.scaled(if net.reads_softmax() { channels as f64 } else { 1.0 })
        };
        let channels = [self.data.channels].into_iter().chain(net.filters());
        let groups = (0..net.filters().len()).zip(channels).map(|(i, channels)| of_layer(i, channels)).collect();
        let mut head_optimizer = Optimizer::new(rule(), groups)?;
        let flips = if context.plan.dataset == "cifar10" {
            vec![Transform::PaddedCrop { padding: c.padding }, Transform::HorizontalFlip { p: 0.5 }]
        } else {
            // A mirrored character is another one.
            vec![Transform::PaddedCrop { padding: c.padding }]
        };
        let augment = Pipeline(flips);
        for step in 0..steps {
            let rows = Tensor::from_slice(&order.batch(step)).to_device(train.x.device());
            let (x, y) = (train.x.index_select(0, &rows), train.y.index_select(0, &rows));
            let x = standardised(&augment.apply(&x, &mut seed::rng(data, &["augment", &step.to_string()]))?);
            let learning = step < (c.cooldown * epochs as f64) as usize * order.batches_per_epoch();
            let (out, extra, heads_move) = match gating {
                Gating::None => (net.forward(&x, Gates::Open, None, true, true)?, None, false),
                Gating::Fixed(masks) => (net.forward(&x, Gates::Fixed(masks), None, true, true)?, None, false),
                Gating::Heads { criterion, detached } => {
                    let asked = learning.then_some(criterion);
                    // Behind the cooldown heads are frozen, their statistics too.
                    let out = net.forward_frozen(&x, Gates::Heads, asked, detached, learning)?;
                    let loss = if learning { Some(mask_loss(&out.targets)?) } else { None };
                    (out, loss, learning)
                }
                Gating::Regularised(lambda) => {
                    let out = net.forward(&x, Gates::StraightThrough, None, false, true)?;
                    let share = net.macs(&out.masks).mean(Kind::Double) / net.dense_macs();
                    (out, Some(share.to_kind(Kind::Float) * lambda), true)
                }
            };
            let mut loss = out.logits.cross_entropy_for_logits(&y);
            if let Some(extra) = extra {
                loss += extra;
            }
            optimizer.zero_grad();
            head_optimizer.zero_grad();
            loss.f_backward()?;
            optimizer.step(schedule.lr(step))?;
            if heads_move {
                head_optimizer.step(c.head_lr)?;
            }
            if step % 50 == 0 || step + 1 == steps {
                let loss = loss.double_value(&[]);
                if !loss.is_finite() {
                    bail!(Error::Diverged { loss, step, total: steps });
                }
                context.progress(step, steps, Some(loss));
            }
        }
        Ok(())
    }

    /// What a network does on test images.
    fn report(
        &self,
        net: &GatedNet,
        gates: Gates<'_>,
        criterion: Option<Criterion>,
        context: &mut Context<'_>,
    ) -> Result<()> {
        let test = &self.data.test;
        let (mut logits, mut masks, mut agreed) = (vec![], vec![], vec![]);
        for x in test.x.split(PART, 0) {
            let out = tch::no_grad(|| net.forward(&standardised(&x), gates, criterion, true, false))?;
            logits.push(out.logits);
            for ((_, target), mask) in out.targets.iter().zip(&out.masks) {
                agreed.push(target.eq_tensor(mask).to_kind(Kind::Float).flatten(0, -1));
            }
            masks.push(out.masks);
        }
        let of_layer = |i: usize| Tensor::cat(&masks.iter().map(|m| m[i].shallow_clone()).collect::<Vec<_>>(), 0);
        let masks: Vec<Tensor> = (0..net.filters().len()).map(of_layer).collect();
        let mean = |t: &Tensor| t.to_kind(Kind::Double).mean(Kind::Double).double_value(&[]);
        let step = self.c.pruning_epochs;
        context.metric(step, ACCURACY, 100.0 * accuracy(&Tensor::cat(&logits, 0), &test.y)?);
        context.metric(step, REDUCTION, 100.0 * (1.0 - mean(&net.macs(&masks)) / net.dense_macs()));
        let rates: Vec<Tensor> = masks.iter().map(|m| m.mean_dim([0i64].as_slice(), false, Kind::Double)).collect();
        let all = Tensor::cat(&rates, 0);
        context.metric(step, VARIED, 100.0 * mean(&all.gt(0.01).logical_and(&all.lt(0.99))));
        let empty: Vec<Tensor> = masks.iter().map(|m| m.amax([1i64].as_slice(), false).le(0.0)).collect();
        context.metric(step, EMPTY, 100.0 * mean(&Tensor::stack(&empty, 0)));
        if !agreed.is_empty() {
            context.metric(step, AGREEMENT, 100.0 * mean(&Tensor::cat(&agreed, 0)));
        }
        context.array(FIRING, Vec::try_from(&all)?);
        let last = masks.last().map(|m| m.to_kind(Kind::Double));
        if let Some(last) = last {
            let one_hot = test.y.one_hot(self.data.classes).to_kind(Kind::Double);
            let counts = one_hot.sum_dim_intlist([0i64].as_slice(), false, Kind::Double).clamp_min(1.0);
            let by_class = one_hot.tr().matmul(&last) / counts.unsqueeze(1);
            context.array(BY_CLASS, Vec::try_from(by_class.flatten(0, -1))?);
        }
        Ok(())
    }
}

fn without_heads(weights: StateDict) -> StateDict {
    weights.into_iter().filter(|(name, _)| !name.starts_with("heads.")).collect()
}
