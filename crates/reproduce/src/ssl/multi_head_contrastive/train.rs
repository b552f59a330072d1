//! One cell: data, networks, training and the judges of the representation.

use super::{
    Arm, CHOSEN, Config, FEW, KNN, Method, NEGATIVE, OVERLAP, POSITIVE, PROBE, Part, RANK, Setting, TAU_NEGATIVE,
    TAU_POSITIVE,
};
use crate::experiment::Plan;
use crate::pretrain::Networks;
use crate::runner::Context;
use crate::vision::{Embedder, Images, Part as Set, augmentation, features, knn, ridge};
use anyhow::{Result, ensure};
use autodidact_core::metrics::effective_rank;
use autodidact_core::seed;
use autodidact_core::train::Progress;
use autodidact_datasets::augment::{Pipeline, SimClr, Transform};
use autodidact_ssl::multi_head_contrastive::{
    AmclOutput, Heads, MultiHeadProjector, PairTemperature, Rule, SimilarityHistogram,
};
use autodidact_ssl::unit;
use std::cell::Cell;
use std::path::PathBuf;
use tch::{Kind, Tensor};

/// Augmentations of colour images there are.
pub(super) const AUGMENTATIONS: usize = 5;

/// Bins of a similarity histogram.
pub(super) const BINS: i64 = 40;

/// Test images whose pairs of views are compared.
const PAIRS: i64 = 500;

/// The first `count` of crop, blur, grey, colour jitter and flip, applied in SimCLR's order.
fn prefix(count: usize, side: i64) -> Pipeline {
    let mut all = SimClr::small(side as usize).pipeline().0;
    all.push(Transform::GaussianBlur { kernel: 3, sigma: (0.1, 2.0), p: 0.5 });
    all.retain(|t| {
        let place = match t {
            Transform::RandomResizedCrop(_) => 0,
            Transform::GaussianBlur { .. } => 1,
            Transform::Grayscale { .. } => 2,
            Transform::ColorJitter(_) => 3,
            _ => 4,
        };
        place < count
    });
    Pipeline(all)
}

/// A part's images, the same for all cells, and its augmentation.
struct Data {
    images: Images,
    /// Images for choosing a temperature.
    validation: Set,
    augment: Pipeline,
    dataset: String,
}

impl Data {
    fn load(plan: &Plan, part: Part, setting: &Setting) -> Result<Self> {
        let (dataset, augment) = match part {
            Part::Digits => ("digits", augmentation("digits", setting.side)),
            Part::Color(count) => (plan.dataset.as_str(), prefix(count, setting.side)),
        };
        let most = setting.train + setting.validation;
        let mut images = Images::load(plan, dataset, "multi-head-contrastive", most, setting.test, setting.side)?;
        let train = images.train.len() - setting.validation as i64;
        ensure!(train > 0, "{dataset}: fewer than {} images besides those for validation", setting.validation);
        let validation = images.train.slice(train, setting.validation as i64);
        images.train = images.train.slice(0, train);
        Ok(Self { images, validation, augment, dataset: dataset.into() })
    }
}

/// Networks of an arm and what it trains them with.
struct Model {
    networks: Networks,
    temperature: PairTemperature,
    arm: Arm,
}

impl Model {
    fn new(arm: &Arm, config: &Config, tau: Option<f64>, data: &Data, init: u64) -> Result<Self> {
        let setting = config.of(arm.part);
        let spec = &setting.pretraining;
        let several = arm.heads.unwrap_or(config.heads);
        let (heads, hidden, output) = match arm.method {
            Method::NtXent | Method::AmclOne => (1, 1, 1),
            Method::MultiHead | Method::Amcl | Method::Hadamard | Method::Linear => (several, 1, 1),
            Method::WideHidden => (1, several, 1),
            Method::Wide => (1, several, several),
        };
        let shape = Heads { heads, hidden: hidden * spec.hidden, output: output * spec.embedding, batch_norm: true };
        let images = &data.images;
        let networks = Networks::build(images.train.x.device(), init, |p| {
            let encoder = spec.encoder.build(p / "encoder", images.channels, setting.side)?;
            Ok(Embedder::of(encoder, MultiHeadProjector::new(p / "projector", spec.encoder.features(), &shape)?))
        })?;
        let rule = match (tau, arm.method) {
            (Some(tau), _) => Rule::Constant(tau),
            (None, Method::Hadamard) => Rule::Hadamard,
            (None, _) => Rule::DotOfPhi,
        };
        let temperature = PairTemperature::new(networks.variables(), shape.output, &config.temperature(rule))?;
        Ok(Self { networks, temperature, arm: *arm })
    }

    fn train(
        &self,
        config: &Config,
        data: &Data,
        seed: u64,
        checkpoint: (PathBuf, usize),
        mut observe: impl FnMut(&mut Progress<'_>) -> Result<()>,
    ) -> Result<autodidact_core::train::History> {
        let spec = &config.of(self.arm.part).pretraining.training;
        let loss = self.arm.loss(config);
        let watch = (spec.steps / 20).max(1);
        // Read back only when it is logged.
        let last: Cell<Option<AmclOutput>> = Cell::default();
        self.networks.pretrain(
            spec,
            &data.images.train.x,
            &data.augment,
            seed,
            checkpoint,
            |za, zb, _| {
                let out = loss.simclr(za, zb, &self.temperature)?;
                let total = out.total.shallow_clone();
                last.set(Some(out));
                Ok(total)
            },
            |_, p| {
                if let Some(out) = last.take()
                    && self.arm.adaptive()
                    && (p.done == 1 || p.done.is_multiple_of(watch))
                {
                    p.log(TAU_POSITIVE, out.mean_tau_pos.double_value(&[]))?;
                    p.log(TAU_NEGATIVE, out.mean_tau_neg.double_value(&[]))?;
                }
                observe(p)
            },
        )
    }
}

/// The constant temperature with which NT-Xent has the best linear probe on validation images, at a seed of its own.
fn chosen(arm: &Arm, config: &Config, data: &Data, context: &mut Context<'_>) -> Result<f64> {
    let setting = config.of(arm.part);
    let key = (setting, &config.color_taus, arm.part.to_string());
    context.shared(&format!("temperature with {}", arm.part), &key, |context| {
        let own = |purpose: &str| seed::derive(0, &["multi-head-contrastive", "choice", purpose]);
        let (total, steps) = (config.color_taus.len(), setting.pretraining.training.steps);
        let mut best = (f64::NEG_INFINITY, 0.0);
        for (i, tau) in config.color_taus.iter().enumerate() {
            let nt_xent = Arm { method: Method::NtXent, part: arm.part, tau: Some(*tau), heads: None };
            let model = Model::new(&nt_xent, config, nt_xent.tau, data, own("init"))?;
            let (path, every) = context.checkpoint_every(500);
            let path = path.with_extension(format!("choice{i}"));
            model.train(config, data, own("train"), (path.clone(), every), |p| {
                context.progress(i * steps + p.done, total * steps, p.loss);
                Ok(())
            })?;
            std::fs::remove_file(path).ok();
            let [bank, queries] =
                [&data.images.train, &data.validation].map(|s| features(&*model.networks.twin.encoder, &s.x));
            let score = ridge((&bank, &data.images.train.y), (&queries, &data.validation.y), data.images.classes)?;
            if score > best.0 {
                best = (score, *tau);
            }
        }
        Ok(best.1)
    })
}

/// Trains and evaluates; logs everything.
pub(super) fn cell(arm: &Arm, config: &Config, context: &mut Context<'_>) -> Result<()> {
    let setting = config.of(arm.part);
    let data = Data::load(context.plan, arm.part, setting)?;
    let tau = match arm.tau {
        _ if arm.adaptive() => None,
        Some(tau) => Some(tau),
        None => {
            let tau = chosen(arm, config, &data, context)?;
            context.metric(0, CHOSEN, tau);
            Some(tau)
        }
    };
    let model = Model::new(arm, config, tau, &data, context.seed("init"))?;
    let checkpoint = context.checkpoint_every(500);
    let history = model.train(config, &data, context.seed("train"), checkpoint, |p| {
        context.progress(p.done, p.total, p.loss);
        Ok(())
    })?;
    context.log(&history);
    measure(&model, config, &data, context)
}

fn measure(model: &Model, config: &Config, data: &Data, context: &mut Context<'_>) -> Result<()> {
    let setting = config.of(model.arm.part);
    let (steps, classes) = (setting.pretraining.training.steps, data.images.classes);
    let twin = &model.networks.twin;
    let (train, test) = (&data.images.train, &data.images.test);
    let [bank, queries] = [train, test].map(|s| features(&*twin.encoder, &s.x));
    let tested = (&queries, &test.y);
    context.metric(steps, PROBE, ridge((&bank, &train.y), tested, classes)?);
    context.metric(steps, KNN, knn((&bank, &train.y), tested, classes, setting.k)?);
    // [classes, draws, shots]
    let drawn = train.of_each_class(classes, config.shots * config.draws)?;
    let drawn = drawn.view([classes, config.draws as i64, config.shots as i64]);
    let mut sum = 0.0;
    for draw in 0..config.draws as i64 {
        let few = drawn.select(1, draw).reshape([-1]);
        sum += ridge((&bank.index_select(0, &few), &train.y.index_select(0, &few)), tested, classes)?;
    }
    context.metric(steps, FEW, sum / config.draws as f64);

    let unseen = test.x.narrow(0, 0, test.len().min(PAIRS));
    let of_view = |view: &str| -> Result<Tensor> {
        let mut rng = seed::rng(0, &["multi-head-contrastive", "pairs", view, &data.dataset]);
        tch::no_grad(|| Ok(unit(&twin.embed(&data.augment.apply(&unseen, &mut rng)?, false))))
    };
    let (za, zb) = (of_view("a")?, of_view("b")?);
    let (heads, n) = (za.size()[0], za.size()[1]);
    let own = Tensor::eye(n, (Kind::Bool, za.device()));
    let mut histograms = vec![];
    let mut sums = [0.0; 4];
    for c in 0..heads {
        let similarity = za.get(c).matmul(&zb.get(c).tr());
        let (positive, negative) = (similarity.diagonal(0, 0, 1), similarity.masked_select(&own.logical_not()));
        let histogram = SimilarityHistogram::new(&positive, &negative, BINS)?;
        let mean = |s: &Tensor| s.mean(Kind::Double).double_value(&[]);
        let values = [histogram.overlap(), mean(&positive), mean(&negative), effective_rank(&za.get(c))?];
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += value / heads as f64;
        }
        histograms.push(histogram);
    }
    for (name, value) in [OVERLAP, POSITIVE, NEGATIVE, RANK].into_iter().zip(sums) {
        context.metric(steps, name, value);
    }
    let mean = |of: fn(&SimilarityHistogram) -> &Vec<f64>| {
        (0..BINS as usize).map(|b| histograms.iter().map(|h| of(h)[b]).sum::<f64>() / heads as f64).collect()
    };
    context.array(POSITIVE, mean(|h| &h.positive));
    context.array(NEGATIVE, mean(|h| &h.negative));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use autodidact_core::nn::parameter_count;

    #[test]
    fn augmentations_are_added_in_the_papers_order() {
        let names = |n: usize| -> Vec<String> {
            let name = |t: &Transform| format!("{t:?}").split([' ', '(']).next().unwrap_or_default().to_owned();
            prefix(n, 16).0.iter().map(name).collect()
        };
        assert_eq!(names(1), ["RandomResizedCrop"]);
        assert_eq!(names(3), ["RandomResizedCrop", "Grayscale", "GaussianBlur"]);
        assert_eq!(names(5), ["RandomResizedCrop", "HorizontalFlip", "ColorJitter", "Grayscale", "GaussianBlur"]);
    }

    #[test]
    fn a_wide_hidden_layer_has_as_many_weights_as_the_heads() {
        let count = |heads: i64, hidden: i64| {
            let vs = tch::nn::VarStore::new(tch::Device::Cpu);
            let shape = Heads { heads, hidden, output: 64, batch_norm: true };
            MultiHeadProjector::new(vs.root(), 128, &shape).unwrap();
            parameter_count(&vs)
        };
        assert_eq!(count(3, 128), count(1, 3 * 128));
    }
}
