//! What a network that was pre-trained on a small set is worth on other tasks.

use super::sets::{Set, Source, fresh, make};
use super::{Measure, Method, Setting, tasks};
use crate::runner::Context;
use crate::vision::{Encoder, Part, brought_to, load_some, ridge, standardised};
use anyhow::Result;
use autodidact_core::metrics::accuracy;
use autodidact_core::nn::layers;
use autodidact_core::optim::{Group, Optimizer, Rule, Sgd};
use autodidact_core::schedule::{Schedule, Shape};
use autodidact_core::{Result as CoreResult, seed};
use autodidact_datasets::augment::{Pipeline, Transform};
use autodidact_datasets::batch::Order;
use autodidact_datasets::image::ImageSet;
use autodidact_distill::dataset_distillation_ssl::{InnerModel, InnerTraining};
use tch::nn::{Module, ModuleT, Path, VarStore};
use tch::{Tensor, nn};

/// A target task, images in `[0, 1]` with the source's side and channels.
struct Task {
    name: &'static str,
    train: Part,
    test: Part,
    classes: i64,
}

impl Task {
    fn load(name: &'static str, source: &Source, setting: &Setting, context: &Context<'_>) -> Result<Self> {
        let plan = context.plan;
        // Balanced subsets of these need some more than are taken.
        let (all, held) = load_some(plan, name, 2 * setting.labelled, 2 * setting.test)?;
        let split = seed::derive(0, &["dataset-distillation-ssl", "split"]);
        let part = |set: &ImageSet, most: usize| -> Result<Part> {
            let set = set.subset(most.min(set.len()), split)?;
            let x = brought_to(&set.to_float(), setting.side, source.channels());
            Ok(Part { x: x.to_device(plan.device), y: set.labels.to_device(plan.device) })
        };
        Ok(Self {
            name,
            train: part(&all, setting.labelled)?,
            test: part(&held, setting.test)?,
            classes: all.classes.len() as i64,
        })
    }
}

/// Pre-trains on a set, for the same number of steps whatever it is.
fn pretrain(model: &mut InnerModel, set: &Set, epochs: usize) -> CoreResult<()> {
    for _ in 0..epochs {
        match set {
            Set::None => {}
            Set::Targets(set) => model.regress(set)?,
            Set::Labels(x, y) => model.step(|net| Ok(net.forward(x, true)?.cross_entropy_for_logits(y)))?,
        }
    }
    Ok(())
}

fn outputs(set: &Set, source: &Source) -> i64 {
    match set {
        Set::Targets(set) => set.y.size()[1],
        _ => source.classes,
    }
}

fn probe(body: &dyn ModuleT, task: &Task) -> Result<f64> {
    let of = |x: &Tensor| crate::vision::features(body, x);
    ridge((&of(&task.train.x), &task.train.y), (&of(&task.test.x), &task.test.y), task.classes)
}

/// Makes the arm's set, pre-trains on it and judges by transfer; logs everything.
pub(super) fn cell(method: Method, source: &Source, setting: &Setting, context: &mut Context<'_>) -> Result<()> {
    let set = make(method, source, setting, context)?;
    let width = outputs(&set, source);
    let training = setting.training(method);
    let init = context.seed("pre-training");
    let mut model = fresh(setting, training, source, width, init)?;
    pretrain(&mut model, &set, setting.epochs)?;
    let mut other = other(setting, training, source, width, init)?;
    pretrain(&mut other, &set, setting.epochs)?;
    let tasks = tasks(&context.plan.dataset);
    for name in tasks {
        let task = Task::load(name, source, setting, context)?;
        context.metric(0, &Measure::Ridge.name(name), probe(model.body(), &task)?);
        context.metric(0, &Measure::Other.name(name), probe(other.body(), &task)?);
        // Fine-tuning changes the network: each task starts from the pre-trained one.
        let mut tuned = fresh(setting, training, source, width, init)?;
        tuned.copy_from(&model)?;
        let accuracy = fine_tune(&tuned, &task, setting, context)?;
        context.metric(setting.steps, &Measure::FineTuned.name(name), accuracy);
    }
    Ok(())
}

/// A network of another architecture: strided convolutions and a global mean.
fn other(setting: &Setting, training: InnerTraining, source: &Source, outputs: i64, init: u64) -> Result<InnerModel> {
    tch::manual_seed(init as i64);
    let encoder = Encoder::Pooled;
    let vs = nn::VarStore::new(source.train.x.device());
    // Whether it can be built at all, for an error that is not a panic.
    encoder.build(vs.root(), source.channels(), setting.side)?;
    let body =
        |p: &Path<'_>| encoder.build(p / "encoder", source.channels(), setting.side).expect("it was built before");
    tch::manual_seed(init as i64);
    Ok(InnerModel::new(source.train.x.device(), body, encoder.features(), outputs, training)?)
}

/// Trains all of the network with a new head on the task's labels; test accuracy in percent.
fn fine_tune(model: &InnerModel, task: &Task, setting: &Setting, context: &Context<'_>) -> Result<f64> {
    let device = task.train.x.device();
    let head_vs = VarStore::new(device);
    tch::manual_seed(context.seed("head") as i64);
    let features = tch::no_grad(|| model.body().forward_t(&task.train.x.narrow(0, 0, 1), false)).size()[1];
    let head = layers::linear(head_vs.root(), features, task.classes, true);
    let groups = vec![Group::all(model.variables(), 5e-4), {
        let mut group = Group::all(&head_vs, 5e-4);
        group.names.iter_mut().for_each(|name| name.insert_str(0, "new "));
        group
    }];
    let mut optimizer = Optimizer::new(Rule::Sgd(Sgd::default()), groups)?;
    let schedule = Schedule::new(setting.fine_lr, setting.steps, Shape::cosine_to(0.0));
    let order = Order::new(
        task.train.len() as usize,
        setting.fine_batch.min(task.train.len() as usize),
        context.seed("order"),
    )?;
    let mut transforms = vec![Transform::PaddedCrop { padding: (setting.side / 8) as usize }];
    // A mirrored digit is another character.
    if !["mnist", "digits"].contains(&task.name) {
        transforms.push(Transform::HorizontalFlip { p: 0.5 });
    }
    let augment = Pipeline(transforms);
    for step in 0..setting.steps {
        let index = Tensor::from_slice(&order.batch(step)).to_device(device);
        let rng = &mut seed::rng(context.seed("augment"), &[task.name, &step.to_string()]);
        let x = augment.apply(&task.train.x.index_select(0, &index), rng)?;
        optimizer.zero_grad();
        let logits = head.forward(&model.body().forward_t(&standardised(&x), true));
        logits.cross_entropy_for_logits(&task.train.y.index_select(0, &index)).backward();
        optimizer.step(schedule.lr(step))?;
    }
    let features = crate::vision::features(model.body(), &task.test.x);
    Ok(100.0 * accuracy(&tch::no_grad(|| head.forward(&features)), &task.test.y)?)
}
