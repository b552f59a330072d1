//! One cell: a learner gets all tasks.

use super::data::{Task, backbone, tasks};
use super::{
    ACCURACY, AVERAGE, CONFUSION, Change, Config, DISTANCE, EVALUATIONS, FIRST, FORGETTING, LAST, Learner, NO_ENSEMBLE,
    NO_REFINEMENT, ORACLE_ADAPTER, ORACLE_TASK, REFINED, RETRIEVAL, variant,
};
use crate::runner::Context;
use anyhow::Result;
use autodidact_core::metrics::class_accuracy;
use autodidact_unlearning::model_surgery::{
    AdaptedVit, Alignment, Aper, CilLearner, CilMetrics, Ease, Finetune, FinetuneAdapter, Inference, Lwf, Mos,
    MosConfig, SimpleCil, Slca, SlcaConfig, TaskTraining,
};
use tch::{Kind, Tensor};

pub fn run(learner: Learner, config: &Config, context: &mut Context<'_>) -> Result<()> {
    let net = backbone(config, context)?;
    let all = tasks(config, context)?;
    let setting = config.setting(context.plan);
    let training = TaskTraining { seed: context.seed("learner"), ..setting.training };
    let adapter = setting.adapter;
    // A head that learns at a tenth of the rate is part of MOS.
    let plain = TaskTraining { head_scale: 1.0, ..training };
    match learner {
        Learner::Finetune => observe(&mut Finetune::new(&net, plain)?, &all, context),
        Learner::Lwf => observe(&mut Lwf::new(&net, plain, 2.0, 3.0)?, &all, context),
        Learner::SimpleCil => observe(&mut SimpleCil::new(&net), &all, context),
        Learner::Aper => observe(&mut Aper::new(&net, adapter, plain)?, &all, context),
        Learner::Ease => observe(&mut Ease::new(&net, adapter, plain, 0.1)?, &all, context),
        Learner::FinetuneAdapter => observe(&mut FinetuneAdapter::new(&net, adapter, plain)?, &all, context),
        Learner::Slca => {
            let usual = SlcaConfig::default();
            let (epochs, samples) = config.slca;
            let alignment = Alignment { epochs, samples, ..usual.alignment };
            let TaskTraining { body_scale, head_scale, .. } = usual.training;
            let training = TaskTraining { body_scale, head_scale, ..training };
            observe(&mut Slca::new(&net, SlcaConfig { training, alignment, ..usual })?, &all, context)
        }
        Learner::Mos(change) => surgery(&net, change, training, &all, config, context),
    }
}

/// Test images of the tasks so far, with their classes.
fn so_far(all: &[Task], task: usize) -> (Tensor, Tensor) {
    let of = |pick: fn(&Task) -> &Tensor| Tensor::cat(&all[..=task].iter().map(pick).collect::<Vec<_>>(), 0);
    (of(|t| &t.test.0), of(|t| &t.test.1))
}

fn observe(learner: &mut dyn CilLearner, all: &[Task], context: &mut Context<'_>) -> Result<()> {
    let mut metrics = CilMetrics::default();
    for (t, task) in all.iter().enumerate() {
        learner.observe_task(&task.train.0, &task.train.1)?;
        let (x, y) = so_far(all, t);
        let predicted = learner.predict(&x)?.argmax(1, false);
        let of_classes = learner.tasks().of_classes(y.device());
        metrics.record(&predicted, &y, &of_classes)?;
        context.metric(learner.tasks().classes() as usize, ACCURACY, metrics.last());
        context.progress(t + 1, all.len(), None);
        if t + 1 == all.len() {
            context.array(CONFUSION, confusion(&predicted, &y, &of_classes, all.len() as i64)?);
        }
    }
    summarise("", &metrics, all.len(), context);
    Ok(())
}

fn summarise(name: &str, metrics: &CilMetrics, step: usize, context: &mut Context<'_>) {
    let values = [(AVERAGE, metrics.average()), (LAST, metrics.last()), (FORGETTING, metrics.forgetting())];
    for (metric, value) in values {
        let metric = if name.is_empty() { metric.to_owned() } else { variant(name, metric) };
        context.metric(step, &metric, value);
    }
}

/// Share of each task's images (rows) whose predicted class is of each task.
fn confusion(predicted: &Tensor, labels: &Tensor, of_classes: &Tensor, tasks: i64) -> Result<Vec<f64>> {
    let task = |classes: &Tensor| of_classes.index_select(0, classes);
    let counts = (task(labels) * tasks + task(predicted)).bincount::<Tensor>(None, tasks * tasks).view([tasks, tasks]);
    let shares = &counts / counts.sum_dim_intlist([1i64].as_slice(), true, Kind::Double);
    Ok(shares.to_kind(Kind::Double).view([-1]).try_into()?)
}

fn surgery(
    net: &AdaptedVit,
    change: Change,
    training: TaskTraining,
    all: &[Task],
    config: &Config,
    context: &mut Context<'_>,
) -> Result<()> {
    let Config { alpha, reg, .. } = *config;
    let (adapter, alignment) = (config.setting(context.plan).adapter, config.setting(context.plan).alignment);
    let mut settings = MosConfig { adapter, training, alpha, reg, alignment: Some(alignment), ..Default::default() };
    match change {
        Change::None => {}
        Change::Alpha(alpha) => settings.alpha = alpha,
        Change::NoAlignment => settings.alignment = None,
        Change::NoOrth => settings.reg = 0.0,
        Change::Merge(merge, eval_mutates) => (settings.merge, settings.eval_mutates) = (merge, eval_mutates),
    }
    let mut mos = Mos::new(net, settings)?;
    let mut metrics: [CilMetrics; 5] = Default::default();
    for (t, task) in all.iter().enumerate() {
        let mean = mos.bank().mean_of_previous().map(|m| m.copy());
        mos.observe_task(&task.train.0, &task.train.1)?;
        if let (Some(mean), Some(set)) = (mean, mos.bank().sets().last()) {
            context.metric(t + 1, DISTANCE, set.distance(&mean)?);
        }
        let (x, y) = so_far(all, t);
        let features = mos.features(&x)?;
        let of_classes = mos.tasks().of_classes(y.device());
        let truth = of_classes.index_select(0, &y);
        let whole = mos.inference();
        let decision = mos.decide(&features, whole)?;
        let scores = |how: Inference<'_>| Ok::<_, anyhow::Error>(mos.decide(&features, how)?.scores);
        let predicted = [
            decision.scores,
            scores(Inference { refine: false, ..whole })?,
            scores(Inference { ensemble: false, ..whole })?,
            scores(Inference { oracle: Some(&truth), ensemble: false, ..whole })?,
            mos.within_task(&features, &truth)?,
        ]
        .map(|s| s.argmax(1, false));
        for (metrics, predicted) in metrics.iter_mut().zip(&predicted) {
            metrics.record(predicted, &y, &of_classes)?;
        }
        context.metric(mos.tasks().classes() as usize, ACCURACY, metrics[0].last());
        context.progress(t + 1, all.len(), None);
        if t + 1 < all.len() {
            continue;
        }
        context.array(CONFUSION, confusion(&predicted[0], &y, &of_classes, all.len() as i64)?);
        let evaluations = decision.path.size()[1];
        for k in 0..evaluations {
            let right = 100.0 * class_accuracy(&decision.path.select(1, k), &truth)?;
            context.metric(k as usize + 1, RETRIEVAL, right);
            if k == 0 {
                context.metric(t + 1, FIRST, right);
            }
            if k + 1 == evaluations {
                context.metric(t + 1, REFINED, right);
            }
        }
        context.metric(t + 1, EVALUATIONS, decision.iterations.mean(Kind::Double).double_value(&[]));
    }
    for (name, metrics) in ["", NO_REFINEMENT, NO_ENSEMBLE, ORACLE_ADAPTER, ORACLE_TASK].iter().zip(&metrics) {
        summarise(name, metrics, all.len(), context);
    }
    Ok(())
}
