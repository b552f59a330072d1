//! One cell: data, victim, sequences, surrogates at every weight of the repair loss.

use super::{
    AGREEMENT, Arm, BIGRAMS, CHOICE, Config, FIRST, FREQUENCY, Following, GENRE_RUN, MISSED, NDCG, QUERIES, RECALL,
    Source, VICTIM_RECALL, VICTIM_SAMPLED, at_repair,
};
use crate::runner::Context;
use anyhow::{Result, ensure};
use autodidact_core::landscape::{load_state_dict, state_dict};
use autodidact_core::seed;
use autodidact_datasets::interactions::padded;
use autodidact_datasets::load_interactions;
use autodidact_distill::model_extraction::{
    BlackBox, Extraction, Follow, Generator, InteractionSampler, Labelled, Recommender, RecommenderConfig,
    SynthesisSignal, agreement_at, extract, fit, lists, recall_ndcg, sample_negatives, sequence_statistics,
};
use rand::seq::SliceRandom;
use tch::nn::VarStore;
use tch::{Kind, Tensor};

/// Items compared.
const TOP: i64 = 10;

/// Contexts whose continuations are asked for, with the true next items.
struct Asked {
    sequences: Tensor,
    lengths: Tensor,
    next: Tensor,
}

/// Users' histories as the parties see them, on the plan's device.
struct Data {
    items: i64,
    /// Main genres by item, where all are known.
    genres: Option<Vec<usize>>,
    /// All but the last two items of every user, for the victim.
    all: Tensor,
    /// Those of the known users, and of the unknown ones.
    known: Tensor,
    unknown: Vec<Vec<i64>>,
    validation: Asked,
    test: Asked,
}

impl Data {
    fn load(config: &Config, fraction: f64, context: &Context<'_>) -> Result<Self> {
        let plan = context.plan;
        let all = load_interactions(&plan.dataset, plan.data_dir.as_deref(), plan.download)?.last(config.length);
        let items = all.items.len() as i64;
        let mut users: Vec<&Vec<i64>> = all.sequences.iter().take(config.users).collect();
        // Who is known, and who decides, differs between seeds; a smaller fraction is part of a larger one.
        users.shuffle(&mut seed::rng(context.seed("users"), &[]));
        let count = |fraction: f64| (users.len() as f64 * fraction).round() as usize;
        let (known, reserved) = (count(fraction), count(config.fractions[0]));
        ensure!(
            known >= 2 && users.len() > reserved + config.validation && items > config.list,
            "the data set has {} users and {items} items, too few for these settings",
            users.len()
        );
        let history = |user: &&Vec<i64>| user[..user.len() - 2].to_vec();
        let device = plan.device;
        let rows = |rows: &[&[i64]]| -> Result<(Tensor, Tensor)> {
            let (sequences, lengths) = padded(rows)?;
            Ok((sequences.to_device(device), lengths.to_device(device)))
        };
        let histories = |users: &[&Vec<i64>]| -> Result<Tensor> {
            Ok(rows(&users.iter().map(|u| &u[..u.len() - 2]).collect::<Vec<_>>())?.0)
        };
        // As many items as the longest prefix whose continuation models learn, so that no position is new to them.
        let window = config.length - 3;
        let asked = |users: &[&Vec<i64>]| -> Result<Asked> {
            let before = |u: &&Vec<i64>| (u.len() - 1).saturating_sub(window);
            let contexts: Vec<&[i64]> = users.iter().map(|u| &u[before(u)..u.len() - 1]).collect();
            let (sequences, lengths) = rows(&contexts)?;
            let next: Vec<i64> = users.iter().map(|u| u[u.len() - 1]).collect();
            Ok(Asked { sequences, lengths, next: Tensor::from_slice(&next).to_device(device) })
        };
        let decided = reserved + config.validation;
        let genres: Option<Vec<usize>> = all.genres.iter().map(|g| g.first().copied()).collect();
        Ok(Self {
            items,
            genres,
            all: histories(&users)?,
            known: histories(&users[..known])?,
            unknown: users[reserved..].iter().map(history).collect(),
            validation: asked(&users[reserved..decided])?,
            test: asked(&users[decided..])?,
        })
    }
}

/// A trained model with its weights.
struct Trained {
    _weights: VarStore,
    model: Box<dyn Recommender>,
}

/// The victim of a seed, trained once for all arms.
fn victim(config: &Config, size: &RecommenderConfig, data: &Data, context: &mut Context<'_>) -> Result<Trained> {
    let vs = VarStore::new(context.plan.device);
    tch::manual_seed(context.seed("victim") as i64);
    let model = config.victim.build(&vs.root(), size)?;
    let key = (config.victim, size, &config.victim_fitting, config.users, config.length, context.cell_seed());
    let seed = context.seed("victim");
    let weights = context.shared_tensors("victim", &key, |_| {
        fit(&vs, model.as_ref(), &data.all, None, &config.victim_fitting, seed)?;
        Ok(state_dict(&vs))
    })?;
    load_state_dict(&vs, &weights)?;
    Ok(Trained { _weights: vs, model })
}

/// The sequences that an arm may learn from, within the budget; and the synthetic ones among them.
fn sequences(
    arm: Arm,
    config: &Config,
    size: &RecommenderConfig,
    data: &Data,
    victim: &BlackBox<'_>,
    context: &Context<'_>,
) -> Result<(Labelled, Option<Tensor>)> {
    let seed = context.seed("sequences");
    let (budget, length) = (config.synthetic as i64 * config.synthetic_length, config.synthetic_length);
    let options = (Kind::Int64, context.plan.device);
    let data_free = |follow| -> Result<(Labelled, Option<Tensor>)> {
        seed::seed_torch(seed, &["starts"]);
        let starts = Tensor::randint(data.items, [config.synthetic as i64], options) + 1;
        let made = Generator { sampler: None, follow }.generate(victim, &starts, length, seed)?;
        let synthetic = made.sequences.shallow_clone();
        Ok((made, Some(synthetic)))
    };
    let (use_sampler, follow) = match arm.source {
        Source::Random => return data_free(Follow::Never),
        Source::Autoregressive => return data_free(Follow::Always),
        Source::FewShot | Source::Unlabelled => return Ok((victim.label(&data.known)?, None)),
        Source::Augmented { sampler, follow } => (sampler, follow),
    };
    let known = victim.label(&data.known)?;
    let sampler = InteractionSampler::fit(&data.known, size, &config.sampler_fitting, seed)?;
    let signal = SynthesisSignal::fit(&sampler, &known, &config.signal_fitting, seed)?;
    let follow = match follow {
        Following::Never => Follow::Never,
        Following::Always => Follow::Always,
        Following::Signal => Follow::Signal(&signal, &sampler),
    };
    let count = (budget - victim.queries() as i64) / length;
    ensure!(count > 0, "the known histories use up the budget of {budget} queries");
    seed::seed_torch(seed, &["starts"]);
    let users = Tensor::randint(data.known.size()[0], [count], options);
    let starts = data.known.select(1, 0).index_select(0, &users);
    let generator = Generator { sampler: use_sampler.then_some(&sampler), follow };
    let made = generator.generate(victim, &starts, length, seed)?;
    let synthetic = made.sequences.shallow_clone();
    Ok((stretched(&known, &made)?, Some(synthetic)))
}

/// Known and synthetic sequences in one, the shorter ones padded.
fn stretched(known: &Labelled, made: &Labelled) -> Result<Labelled> {
    let longest = known.sequences.size()[1].max(made.sequences.size()[1]);
    let pad = |l: &Labelled| {
        let more = longest - l.sequences.size()[1];
        Labelled { sequences: l.sequences.constant_pad_nd([0, more]), lists: l.lists.constant_pad_nd([0, 0, 0, more]) }
    };
    Ok(pad(known).join(&pad(made))?)
}

fn rows(sequences: &Tensor) -> Result<Vec<Vec<i64>>> {
    let (t, flat) = (sequences.size()[1] as usize, sequences.contiguous().view([-1]));
    Ok(Vec::<i64>::try_from(flat)?.chunks(t).map(<[i64]>::to_vec).collect())
}

/// Gathers sequences, trains a surrogate at every weight of the repair loss, and compares it with the victim.
pub(super) fn cell(arm: Arm, config: &Config, context: &mut Context<'_>) -> Result<()> {
    let data = Data::load(config, arm.fraction, context)?;
    let size = config.model(data.items);
    let victim = victim(config, &size, &data, context)?;
    let of_victim = |asked: &Asked| lists(victim.model.as_ref(), &asked.sequences, &asked.lengths, TOP);
    let (deciding, wanted) = (of_victim(&data.validation)?, of_victim(&data.test)?);
    quality(victim.model.as_ref(), &data, context)?;
    let budget = config.synthetic as u64 * config.synthetic_length as u64;
    let black_box = BlackBox::new(victim.model.as_ref(), config.list)?.with_budget(budget);
    let (learned, synthetic) = sequences(arm, config, &size, &data, &black_box, context)?;
    let queries = if arm.source == Source::Unlabelled { 0 } else { black_box.queries() };
    context.metric(0, QUERIES, queries as f64);
    if let Some(synthetic) = synthetic {
        let made = sequence_statistics(&rows(&synthetic)?, &data.unknown, data.items, data.genres.as_deref())?;
        context.metric(0, FREQUENCY, made.frequency_kl);
        context.metric(0, BIGRAMS, made.bigram_coverage);
        if made.genre_run.is_finite() {
            context.metric(0, GENRE_RUN, made.genre_run);
        }
    }
    // Without the victim there is nothing to repair.
    let unlabelled = arm.source == Source::Unlabelled;
    let repairs = if unlabelled { &[0.0][..] } else { &config.repairs };
    let steps = config.extraction.fitting.steps;
    for (i, &repair) in repairs.iter().enumerate() {
        context.progress(i, repairs.len(), None);
        let vs = VarStore::new(context.plan.device);
        tch::manual_seed(context.seed("surrogate") as i64);
        let surrogate = arm.surrogate.build(&vs.root(), &size)?;
        let order = context.seed("order");
        if unlabelled {
            fit(&vs, surrogate.as_ref(), &data.known, None, &config.extraction.fitting, order)?;
        } else {
            let extraction = Extraction { repair, ..config.extraction };
            let missed = extract(&vs, surrogate.as_ref(), &learned, &extraction, order)?;
            let every = steps.div_ceil(30).max(1);
            for (i, part) in missed.chunks(every).enumerate() {
                let done = (i * every + part.len()).min(steps);
                context.metric(done, &at_repair(MISSED, repair), autodidact_core::stats::mean(part));
            }
        }
        let of = |asked: &Asked| lists(surrogate.as_ref(), &asked.sequences, &asked.lengths, TOP);
        let found = of(&data.test)?;
        let agreements = [
            (CHOICE, agreement_at(&deciding, &of(&data.validation)?, TOP)?),
            (AGREEMENT, agreement_at(&wanted, &found, TOP)?),
            (FIRST, agreement_at(&wanted, &found, 1)?),
        ];
        for (name, value) in agreements {
            context.metric(steps, &at_repair(name, repair), 100.0 * value);
        }
        let scores = tch::no_grad(|| surrogate.scores(&data.test.sequences, &data.test.lengths, false))?;
        let (recall, ndcg) = recall_ndcg(&scores, &data.test.next, TOP, None)?;
        context.metric(steps, &at_repair(RECALL, repair), 100.0 * recall);
        context.metric(steps, &at_repair(NDCG, repair), 100.0 * ndcg);
    }
    Ok(())
}

/// How good the victim itself is.
fn quality(victim: &dyn Recommender, data: &Data, context: &mut Context<'_>) -> Result<()> {
    let scores = tch::no_grad(|| victim.scores(&data.test.sequences, &data.test.lengths, false))?;
    seed::seed_torch(0, &["model-extraction", "negatives"]);
    let negatives = sample_negatives(&data.test.next.unsqueeze(1), data.items, 100)?;
    let all = recall_ndcg(&scores, &data.test.next, TOP, None)?.0;
    let sampled = recall_ndcg(&scores, &data.test.next, TOP, Some(&negatives))?.0;
    context.metric(0, VICTIM_RECALL, 100.0 * all);
    context.metric(0, VICTIM_SAMPLED, 100.0 * sampled);
    Ok(())
}
