//! A masked autoencoder on a stream of classes.

use super::{Config, HELD_OUT_PROBE, NEIGHBOURS, PROBE, TASKS, Training};
use crate::runner::Context;
use crate::vision::{brought_to, load_some};
use anyhow::{Result, bail, ensure};
use autodidact_core::metrics::{Knn, LogisticRegression, LogisticRegressionConfig, Vote, accuracy, standardise};
use autodidact_core::optim::{Adam, Group, Optimizer, Rule};
use autodidact_core::{Result as CoreResult, seed};
use autodidact_datasets::batch::Order;
use autodidact_datasets::image::ImageSet;
use autodidact_distill::self_distilled_pretraining::Mae;
use autodidact_scaling::infinite_lr::{ContinualRun, Resume, TaskSchedule};
use tch::nn::VarStore;
use tch::{Kind, Tensor};

/// Classes of each task, of ten.
const CLASSES: [std::ops::Range<i64>; TASKS] = [0..3, 3..6, 6..10];

/// Trains one arm; probes of its features on all classes at the end of every task.
pub(super) fn run(training: Training, config: &Config, context: &mut Context<'_>) -> Result<()> {
    let plan = context.plan;
    let name = if plan.dataset == "grammar" { "digits" } else { "cifar10" };
    let (train, test) = load_some(plan, name, config.images, 2 * config.test)?;
    ensure!(train.classes.len() == 10, "the stream is made of ten classes, {name} has {}", train.classes.len());
    let some = |set: ImageSet, n: usize| set.subset(n.min(set.len()), seed::derive(0, &["infinite-lr", "images"]));
    let (train, test) = (some(train, config.images)?, some(test, 2 * config.test)?);
    let of = |set: &ImageSet| {
        let x = brought_to(&set.to_float(), config.mae.side, config.mae.channels);
        (x.to_device(plan.device), set.labels.to_device(plan.device))
    };
    let (images, labels) = of(&train);
    let (tested, tested_labels) = of(&test);
    // Rows of each task, on the processor, for the order of the data.
    let classes = Vec::<i64>::try_from(&train.labels)?;
    let rows: Vec<Vec<i64>> =
        CLASSES.iter().map(|c| (0..).zip(&classes).filter(|(_, y)| c.contains(y)).map(|(i, _)| i).collect()).collect();
    let seed = context.seed("train images");
    let orders: Vec<Order> = (rows.iter().enumerate())
        .map(|(task, r)| {
            Order::new(r.len(), config.mae_batch.min(r.len()), seed::derive(seed, &["order", &task.to_string()]))
        })
        .collect::<Result<_, _>>()?;

    tch::manual_seed(context.seed("init images") as i64);
    let vs = VarStore::new(plan.device);
    let mae = Mae::new(&vs.root(), &config.mae)?;
    let adam = Adam { betas: (0.9, 0.95), ..Adam::default() };
    let mut optimizer = Optimizer::new(Rule::AdamW(adam), Group::split_decay(&vs, config.weight_decay))?;
    let (schedule, resume): (Box<dyn TaskSchedule>, _) = match training {
        Training::Cosine(peak) => (Box::new(config.vision.cosine(peak)), Resume::Annealed),
        Training::Infinite(constant, resume) => (Box::new(config.vision.infinite(constant)), resume),
        other => bail!("images have no arm {other:?}"),
    };
    let probe = |classes: i64| -> CoreResult<[f64; 3]> {
        let features = |x: &Tensor| -> CoreResult<Tensor> {
            tch::no_grad(|| {
                let parts: CoreResult<Vec<Tensor>> = x.split(500, 0).iter().map(|part| pooled(&mae, part)).collect();
                Ok(Tensor::cat(&parts?, 0))
            })
        };
        let (known, asked) = (features(&images)?, features(&tested)?);
        let neighbours = Knn::new(&known, &labels, classes)?.accuracy(&asked, &tested_labels, 20, Vote::Plain)?;
        let (known, [asked]) = standardise(&known, [&asked])?;
        let config = LogisticRegressionConfig::scikit_learn(1.0, known.size()[0], classes)?;
        let scores = LogisticRegression::fit(&known, &labels, classes, &config)?.logits(&asked)?;
        let half = asked.size()[0] / 2;
        let of = |from: i64, n: i64| accuracy(&scores.narrow(0, from, n), &tested_labels.narrow(0, from, n));
        Ok([of(0, half)?, of(half, asked.size()[0] - half)?, neighbours])
    };
    let steps = schedule.steps();
    let mut logged = vec![];
    let run = ContinualRun { tasks: TASKS, resume, clip_norm: Some(config.clip), seed, vs: &vs };
    run.run(
        schedule.as_ref(),
        &mut optimizer,
        |task, n| {
            let picked: Vec<i64> = orders[task].batch(n).into_iter().map(|i| rows[task][i as usize]).collect();
            let batch = images.index_select(0, &Tensor::from_slice(&picked).to_device(plan.device));
            let noise = mae.noise(batch.size()[0]);
            Ok(mae.forward(&batch, &noise)?.loss)
        },
        |moment| {
            let done = moment.task * steps + moment.done;
            if moment.end {
                let [held_out, linear, neighbours] = probe(10)?;
                logged.extend([
                    (done, HELD_OUT_PROBE, held_out),
                    (done, PROBE, linear),
                    (done, NEIGHBOURS, neighbours),
                ]);
            }
            if done.is_multiple_of(10) {
                context.progress(done, TASKS * steps, None);
            }
            Ok(())
        },
    )?;
    for (step, metric, value) in logged {
        context.metric(step, metric, 100.0 * value);
    }
    Ok(())
}

/// Mean of the encoder's patches, all of which it sees: `[N, width]`.
fn pooled(mae: &Mae, images: &Tensor) -> CoreResult<Tensor> {
    let tokens = mae.encoder().tokens(images)?;
    Ok(tokens.narrow(1, 1, mae.patches()).mean_dim([1i64].as_slice(), false, Kind::Float))
}
