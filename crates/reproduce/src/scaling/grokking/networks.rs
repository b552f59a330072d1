//! The same knob on other networks: a perceptron on images, a transformer on modular addition.

use super::{ACCURACY, Config, TEST, TRAIN, TRAIN_ACCURACY};
use crate::runner::Context;
use anyhow::Result;
use autodidact_core::nn::{Gpt, GptConfig};
use autodidact_core::optim::{Adam, Group, Optimizer, Rule, Sgd};
use autodidact_core::schedule::{Schedule, Shape};
use autodidact_core::train::{TrainConfig, Trainer};
use autodidact_core::{Error, seed};
use autodidact_datasets::batch::Order;
use autodidact_datasets::image::ImageSet;
use autodidact_datasets::load_images;
use autodidact_scaling::grokking::{ModularAddition, NtkMlp, OutputScaled, log_steps};
use tch::nn::VarStore;
use tch::{Device, Kind, Reduction, Tensor};

/// Samples with what is to be learned about them.
type Set = (Tensor, Tensor);

/// One training run: the loss and accuracy of outputs against targets, logged on both sets at log-spaced steps.
struct Run<'a> {
    train: &'a Set,
    test: &'a Set,
    /// Samples per step; all where `None`.
    batch: Option<usize>,
    steps: usize,
    lr: f64,
}

/// A run that diverges leaves its curve until then.
fn train(
    run: &Run<'_>,
    vs: &VarStore,
    optimizer: Optimizer,
    c: &Config,
    context: &mut Context<'_>,
    forward: impl Fn(&Tensor) -> autodidact_core::Result<Tensor>,
    score: impl Fn(&Tensor, &Tensor) -> (Tensor, Tensor),
) -> Result<()> {
    let records = log_steps(run.steps, c.per_decade);
    let order = run.batch.map(|b| Order::new(run.train.0.size()[0] as usize, b, context.seed("order"))).transpose()?;
    let see = || -> autodidact_core::Result<Vec<f64>> {
        tch::no_grad(|| {
            let mut numbers = vec![];
            for (x, y) in [run.train, run.test] {
                let (loss, accuracy) = score(&forward(x)?, y);
                numbers.extend([loss.double_value(&[]), accuracy.double_value(&[])]);
            }
            Ok(numbers)
        })
    };
    const NAMES: [&str; 4] = [TRAIN, TRAIN_ACCURACY, TEST, ACCURACY];
    let mut log: Vec<(usize, Vec<f64>)> = vec![(0, see()?)];
    let config = TrainConfig {
        log_every: 500,
        ..TrainConfig::new(Schedule::new(run.lr, run.steps, Shape::Constant), context.seed("train"))
    };
    let result = Trainer::new(config, vs, optimizer)?.run(
        |step| {
            let Some(order) = &order else { return Ok(score(&forward(&run.train.0)?, &run.train.1).0) };
            let rows = Tensor::from_slice(&order.batch(step.index)).to_device(vs.device());
            let (x, y) = (run.train.0.index_select(0, &rows), run.train.1.index_select(0, &rows));
            Ok(score(&forward(&x)?, &y).0)
        },
        |p| {
            if p.loss.is_some() {
                context.progress(p.done, p.total, p.loss);
            }
            if records.binary_search(&p.done).is_ok() {
                log.push((p.done, see()?));
            }
            Ok(())
        },
    );
    match result {
        Ok(_) | Err(Error::Diverged { .. }) => {}
        Err(e) => return Err(e.into()),
    }
    for (step, numbers) in log {
        for (name, value) in NAMES.into_iter().zip(numbers) {
            context.metric(step, name, value);
        }
    }
    Ok(())
}

/// Images of mean zero and variance one (over the training set's pixels) with one-hot targets.
fn prepared(set: &ImageSet, like: &ImageSet, device: Device) -> Set {
    let pixels = like.to_float();
    let x = (set.to_float() - pixels.mean(Kind::Float)) / pixels.std(true);
    let y = set.labels.one_hot(set.classes.len() as i64).to_kind(Kind::Float);
    (x.flatten(1, -1).to_device(device), y.to_device(device))
}

/// Trains the perceptron on images at an output scale.
pub fn images(scale: f64, c: &Config, context: &mut Context<'_>) -> Result<()> {
    let plan = context.plan;
    let (all, test) = load_images(&plan.dataset, plan.data_dir.as_deref(), plan.download)?;
    let part = all.subset(c.images, context.seed("images"))?;
    let (train_set, test_set) = (prepared(&part, &part, plan.device), prepared(&test, &part, plan.device));
    seed::seed_torch(context.seed("network"), &["weights"]);
    let vs = VarStore::new(plan.device);
    let widths = [&[train_set.0.size()[1]], &c.hidden[..], &[train_set.1.size()[1]]].concat();
    let model = NtkMlp::new(&vs.root(), &widths, c.gain)?;
    let mut origin_vs = VarStore::new(plan.device);
    let origin = NtkMlp::new(&origin_vs.root(), &widths, c.gain)?;
    origin_vs.copy(&vs)?;
    let scaled = OutputScaled::centred(|x: &Tensor| model.forward(x), |x: &Tensor| origin.forward(x), scale)?;
    // Per sample the squared error over all classes: 1 at the start.
    let score = |out: &Tensor, y: &Tensor| {
        let loss = (out - y).square().sum(Kind::Float) / y.size()[0] as f64;
        let right = out.argmax(1, false).eq_tensor(&y.argmax(1, false));
        (loss, right.to_kind(Kind::Float).mean(Kind::Float))
    };
    let (optimizer, lr, batch) = if c.image_rate > 0.0 {
        let sgd = Rule::Sgd(Sgd { momentum: 0.0, nesterov: false });
        let width = c.hidden[c.hidden.len() - 1] as f64;
        (Optimizer::new(sgd, vec![Group::all(&vs, 0.0)])?, scaled.rate(c.image_rate * width), None)
    } else {
        (Optimizer::new(Rule::AdamW(Adam::default()), vec![Group::all(&vs, 0.01)])?, 1e-3, Some(200))
    };
    let batch = batch.filter(|b| *b < c.images);
    let run = Run { train: &train_set, test: &test_set, batch, steps: c.image_steps, lr };
    train(&run, &vs, optimizer, c, context, |x| scaled.forward(x), score)
}

/// Trains a transformer of one block on 30 % of the sums modulo a number.
pub fn modular(scale: f64, decay: f64, c: &Config, context: &mut Context<'_>) -> Result<()> {
    let device = context.plan.device;
    let task = ModularAddition::new(c.modulus)?;
    let on_device = |(x, y): Set| (x.to_device(device), y.to_device(device));
    let [train_set, test_set] = task.split(0.3, context.seed("pairs"))?.map(on_device);
    seed::seed_torch(context.seed("network"), &["weights"]);
    let vs = VarStore::new(device);
    let config = GptConfig { tied: false, ..GptConfig::gpt2(task.vocab(), 3, c.width, 1, 4) };
    let model = Gpt::new(vs.root(), &config)?;
    let answer = |x: &Tensor| Ok(model.project(&model.hidden(x, None)?.select(1, 2)));
    let scaled = OutputScaled::new(answer, scale)?;
    let score = |out: &Tensor, y: &Tensor| {
        let loss = out.cross_entropy_loss::<&Tensor>(y, None, Reduction::Mean, -100, 0.0);
        (loss, out.argmax(1, false).eq_tensor(y).to_kind(Kind::Float).mean(Kind::Float))
    };
    let adam = Adam { betas: (0.9, 0.98), ..Default::default() };
    let optimizer = Optimizer::new(Rule::AdamW(adam), vec![Group::all(&vs, decay)])?;
    let run = Run { train: &train_set, test: &test_set, batch: None, steps: c.modular_steps, lr: 1e-3 };
    train(&run, &vs, optimizer, c, context, |x| scaled.forward(x), score)
}
