//! One cell: a mixture, or an encoder and the classifiers on its features.

use super::{Features, LR, NB, Simulation, error_of, m_star};
use crate::runner::Context;
use crate::vision::{Images, Part, features, standardised};
use anyhow::{Result, bail};
use autodidact_core::nn::layers;
use autodidact_core::nn::{Mlp, MlpConfig};
use autodidact_core::optim::{Adam, Group, Optimizer, Rule};
use autodidact_core::schedule::{Schedule, Shape};
use autodidact_core::seed::{self, Rng};
use autodidact_core::stats::quantile;
use autodidact_core::train::{TrainConfig, Trainer};
use autodidact_datasets::augment::{Pipeline, SimClr, barlow_twins_small_digits};
use autodidact_datasets::batch::Order;
use autodidact_ssl::contrastive::nt_xent;
use autodidact_ssl::generative_classifiers::mixture::{GaussianMixtureTask, geometric_sizes, sample_complexity};
use autodidact_ssl::generative_classifiers::theory::assumption_stats;
use autodidact_ssl::generative_classifiers::{
    Classifier, GaussianNaiveBayes, Labelled, LinearEvaluation, NaiveBayesConfig, Scaler, learning_curve, random_subset,
};
use tch::nn::{Module, ModuleT, VarStore};
use tch::{Kind, Tensor};

/// The array of log-likelihood ratios.
pub(super) const RATIOS: &str = "log-likelihood ratios";

fn naive_bayes(floor: f64) -> Classifier {
    Classifier::NaiveBayes(NaiveBayesConfig { floor, ..Default::default() })
}

/// Naive Bayes with a floor of its own, as metrics name it.
pub(super) fn with_floor(floor: f64) -> String {
    format!("{NB}, floor {floor:e}")
}

/// The sample complexities of both classifiers on one mixture.
pub(super) fn mixture(task: GaussianMixtureTask, n: i64, s: &Simulation, context: &mut Context<'_>) -> Result<()> {
    let device = context.plan.device;
    let draw = |purpose: &str, count: i64| {
        let (x, y) = task.sample(count, &mut seed::rng(context.arm_seed(purpose), &[]));
        (x.to_device(device).to_kind(Kind::Double), y.to_device(device))
    };
    let ((x, y), (test_x, test_y)) = (draw("pool", s.pool * n), draw("test", s.test));
    let classes = task.centres().len() as i64;
    let (pool, test) = (Labelled { x: &x, y: &y, classes }, Labelled { x: &test_x, y: &test_y, classes });
    let sizes = geometric_sizes(2 * classes, s.pool * n, s.ratio)?;
    let target = task.bayes_error() + s.excess;
    context.metric(0, "Bayes error", task.bayes_error());
    let fits = [(NB, naive_bayes(1e-9)), (LR, Classifier::LogisticRegression { c: s.c })];
    for (i, (name, classifier)) in fits.into_iter().enumerate() {
        let evaluation = LinearEvaluation { scaler: Scaler::None, classifier };
        let mut rng = seed::rng(context.arm_seed("subsets"), &[]);
        let Some(m) = sample_complexity(&evaluation, pool, test, target, &sizes, s.draws, &mut rng)? else {
            bail!(
                "{name} does not come within {} of the Bayes error with any subset of the {} samples; raise simulation.pool",
                s.excess,
                s.pool * n
            );
        };
        context.metric(0, &m_star(name), m as f64);
        context.progress(i + 1, 2, None);
    }
    Ok(())
}

/// Trains an encoder and judges its features.
pub(super) fn encoder(arm: &str, f: &Features, context: &mut Context<'_>) -> Result<()> {
    let data = Data::load(f, context)?;
    let vs = VarStore::new(context.plan.device);
    let net = train(arm, f, &data, &vs, context)?;
    let [pool_x, test_x] = [&data.pool, &data.test].map(|part| features(&*net, &part.x).to_kind(Kind::Double));
    let pool = Labelled { x: &pool_x, y: &data.pool.y, classes: data.classes };
    let test = Labelled { x: &test_x, y: &data.test.y, classes: data.classes };

    // The same subsets for all encoders of a seed.
    let mut rng = seed::rng(context.seed("tuning"), &[]);
    let floors: Vec<Classifier> = f.floors.iter().map(|&floor| naive_bayes(floor)).collect();
    let cs: Vec<Classifier> = f.cs.iter().map(|&c| Classifier::LogisticRegression { c }).collect();
    let [floor, c] = tuned(&[floors, cs], pool, f.tuned_at, &mut rng)?;
    context.metric(0, "floor chosen", f.floors[floor]);
    context.metric(0, "C chosen", f.cs[c]);
    let classifiers = f.floors.iter().map(|&v| naive_bayes(v)).chain([Classifier::LogisticRegression { c: f.cs[c] }]);
    let evaluations: Vec<LinearEvaluation> =
        classifiers.map(|classifier| LinearEvaluation { scaler: Scaler::MinMax, classifier }).collect();

    let mut rng = seed::rng(context.seed("subsets"), &[]);
    for (i, &m) in f.sizes.iter().enumerate() {
        let errors = learning_curve(&evaluations, pool, test, &[m], f.draws, &mut rng)?;
        let percent: Vec<f64> = errors.iter().map(|e| 100.0 * e[0]).collect();
        context.metric(m as usize, &error_of(NB), percent[floor]);
        context.metric(m as usize, &error_of(LR), percent[f.floors.len()]);
        for (value, error) in f.floors.iter().zip(&percent) {
            context.metric(m as usize, &error_of(&with_floor(*value)), *error);
        }
        context.progress(f.steps + i + 1, f.steps + f.sizes.len(), None);
    }
    diagnose(pool, test, context)
}

/// Of each list of candidates the one (the first of equals) with the lowest error on the rest of the pool after a fit on `m`.
fn tuned<const N: usize>(
    lists: &[Vec<Classifier>; N],
    pool: Labelled<'_>,
    m: i64,
    rng: &mut Rng,
) -> Result<[usize; N]> {
    let subset = random_subset(pool.y, m, pool.classes, rng)?;
    let rest = Tensor::ones([pool.y.size()[0]], (Kind::Bool, pool.y.device())).index_fill(0, &subset, 0);
    let part = |index: &Tensor| (pool.x.index_select(0, index), pool.y.index_select(0, index));
    let ((x, y), (rest_x, rest_y)) = (part(&subset), part(&rest.nonzero().squeeze_dim(1)));
    let mut best = [0; N];
    for (best, list) in best.iter_mut().zip(lists) {
        let mut lowest = f64::INFINITY;
        for (i, &classifier) in list.iter().enumerate() {
            let fitted =
                LinearEvaluation { scaler: Scaler::MinMax, classifier }.fit(Labelled { x: &x, y: &y, ..pool })?;
            let error = fitted.error(Labelled { x: &rest_x, y: &rest_y, ..pool })?;
            if error < lowest {
                (lowest, *best) = (error, i);
            }
        }
    }
    Ok(best)
}

/// Whether the features are as the theory assumes.
fn diagnose(pool: Labelled<'_>, test: Labelled<'_>, context: &mut Context<'_>) -> Result<()> {
    let x = Scaler::MinMax.fit(pool.x)?.apply(pool.x)?;
    let floor = NaiveBayesConfig::default().floor;
    let assumptions = assumption_stats(Labelled { x: &x, ..pool }, floor)?;
    context.metric(0, "smallest shared variance", assumptions.variance_deciles[0]);
    context.metric(0, "median shared variance", assumptions.variance_deciles[5]);
    context.metric(0, "1st percentile of |mean log ratio| per feature", assumptions.mean_log_ratio_quantile(0.01)?);
    context.metric(0, "median of |mean log ratio| per feature", assumptions.mean_log_ratio_quantile(0.5)?);
    if context.plan.seeds.first() == Some(&context.cell_seed()) {
        let log_p = GaussianNaiveBayes::fit(pool.x, pool.y, pool.classes, &NaiveBayesConfig::default())?
            .log_likelihood(test.x)?;
        let own = test.y.one_hot(test.classes).to_kind(Kind::Bool);
        let ratio = (log_p.masked_select(&own).unsqueeze(1) - &log_p) / test.x.size()[1] as f64;
        let ratios = Vec::<f64>::try_from(ratio.masked_select(&own.logical_not()))?;
        context.array(RATIOS, (0..=500).map(|i| quantile(&ratios, f64::from(i) / 500.0)).collect());
    }
    Ok(())
}

/// Images for the encoder, with labels for the classifiers, and for the test: disjoint.
struct Data {
    encoder: Part,
    pool: Part,
    test: Part,
    classes: i64,
    channels: i64,
    augment: Pipeline,
}

impl Data {
    fn load(f: &Features, context: &Context<'_>) -> Result<Self> {
        let plan = context.plan;
        let train = f.encoder_images + f.pool;
        let all = Images::load(plan, &plan.dataset, "generative-classifiers", train, usize::MAX, f.side)?;
        // Of the digits a third of the test part has to be labelled.
        let images =
            Part { x: Tensor::cat(&[&all.train.x, &all.test.x], 0), y: Tensor::cat(&[&all.train.y, &all.test.y], 0) };
        let (encoder, pool, test) = (f.encoder_images as i64, f.pool as i64, f.test as i64);
        if images.len() < encoder + pool + test {
            bail!("{} has {} images, fewer than encoder_images + pool + test", plan.dataset, images.len());
        }
        let augment = if plan.dataset == "digits" {
            barlow_twins_small_digits()
        } else {
            SimClr::small(f.side as usize).pipeline()
        };
        Ok(Self {
            encoder: images.slice(0, encoder),
            pool: images.slice(encoder, pool),
            test: images.slice(encoder + pool, test),
            classes: all.classes,
            channels: all.channels,
            augment,
        })
    }
}

/// A trained encoder; all arms of a seed have the same initialisation, batches and steps.
fn train(arm: &str, f: &Features, data: &Data, vs: &VarStore, context: &mut Context<'_>) -> Result<Box<dyn ModuleT>> {
    tch::manual_seed(context.seed("init") as i64);
    let net = f.encoder.build(vs.root() / "encoder", data.channels, f.side)?;
    let width = f.encoder.features();
    let projector = Mlp::new(vs.root() / "projector", &MlpConfig::projector(&[width, f.hidden, f.embedding]))?;
    let classifier = layers::linear(vs.root() / "classifier", width, data.classes, true);
    let contrastive = match arm {
        "random" => return Ok(net),
        "contrastive" => true,
        "supervised" => false,
        other => bail!("unknown arm {other}"),
    };
    let order = Order::new(data.encoder.len() as usize, f.batch, context.seed("order"))?;
    let schedule = Schedule::new(f.lr, f.steps, Shape::cosine_to(0.0));
    let config = TrainConfig {
        checkpoint: Some(context.checkpoint_every(500)),
        ..TrainConfig::new(schedule, context.seed("train"))
    };
    let optimizer = Optimizer::new(Rule::Adam(Adam::default()), vec![Group::all(vs, 0.0)])?;
    let steps = f.steps + f.sizes.len();
    let history = Trainer::new(config, vs, optimizer)?.run(
        |step| {
            let index = Tensor::from_slice(&order.batch(step.index)).to_device(vs.device());
            let x = data.encoder.x.index_select(0, &index);
            let encode = |view: &str| -> autodidact_core::Result<Tensor> {
                Ok(net.forward_t(&standardised(&data.augment.apply(&x, &mut step.rng(view))?), true))
            };
            let a = encode("view a")?;
            if contrastive {
                let embed = |h: &Tensor| projector.forward_t(h, true);
                return nt_xent(&embed(&a), &embed(&encode("view b")?), f.tau);
            }
            Ok(classifier.forward(&a).cross_entropy_for_logits(&data.encoder.y.index_select(0, &index)))
        },
        |p| {
            context.progress(p.done, steps, p.loss);
            Ok(())
        },
    )?;
    if let Some(last) = history.losses.last() {
        context.metric(f.steps, "training loss", last.loss);
    }
    Ok(net)
}
