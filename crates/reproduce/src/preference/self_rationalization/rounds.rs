//! One cell: the first judge, then rounds of judging and learning; or several judgements at test time.

use super::super::garland::{Answer, PairData, PairTraining, Pairs, world};
use super::super::language::{Policy, Sequence, Sequences};
use super::judging::{Form, Written, inputs, judgements, log_scores, paired_inputs, test};
use super::{BY_META, BY_PROBABILITY, CONSISTENCY, Config, DROPPED, Method, PAIRS, SAMPLED, margins};
use crate::runner::Context;
use anyhow::{Result, bail};
use autodidact_core::landscape::state_dict;
use autodidact_core::optim::StateDict;
use autodidact_core::seed;
use autodidact_core::text::response_loss;
use autodidact_datasets::synthetic::{Garland, GarlandFacts, JudgedResponse};
use autodidact_preference::losses::dpo;
use autodidact_preference::self_rationalization::{CurationRule, Judgement, best_of_n, curate, self_consistency_score};
use rand::seq::SliceRandom;
use tch::Kind;

/// Steps of imitation between checks whether the judge is good enough.
const CHECK: usize = 25;
/// Inputs of such a check.
const CHECKED: usize = 200;

/// The judge that imitates noisy judgements; shared by all arms of its form.
fn first_judge(form: Form, config: &Config, context: &mut Context<'_>) -> Result<StateDict> {
    let device = context.plan.device;
    let base = config.base.weights(context.cell_seed(), context)?;
    let seed = context.seed("imitation");
    let parts = (&config.base, config.seed_inputs, config.noise, &config.imitation, config.head_room);
    let key = (parts, form == Form::Rationale, seed);
    context.shared_tensors("first judge", &key, |context| {
        let garland = world();
        let mut rng = seed::rng(seed, &["noise"]);
        let examples: Vec<Sequence> = inputs(&garland, config.seed_inputs, seed)
            .iter()
            .map(|input| {
                let facts = input.facts();
                let response = form.tokens(facts.corrupted(config.noise, &mut rng), facts.score(input.criterion));
                Sequence { prompt: input.tokens(), response }
            })
            .collect();
        let data = Sequences::new(&examples, Garland::PAD, device)?;
        let policy = config.base.policy(&base, device)?;
        let unseen = inputs(&garland, CHECKED, seed::derive(seed, &["validation"]));
        let mut enough: Option<StateDict> = None;
        let done = config.imitation.run(&policy, &data, seed, |done, loss| {
            context.progress(done, config.imitation.steps, loss);
            if done.is_multiple_of(CHECK) && done > 0 {
                let written = judgements(&policy.model, &unseen, 1, (form, 0.0), 0, device)?;
                let right = unseen.iter().zip(&written).filter(|(i, w)| w[0].judgement.score == Some(i.score()));
                if right.count() as f64 > config.head_room * CHECKED as f64 {
                    enough = Some(state_dict(&policy.vs));
                    bail!("good enough");
                }
            }
            Ok(())
        });
        match (enough, done) {
            (Some(weights), _) => Ok(weights),
            (None, Ok(())) => Ok(state_dict(&policy.vs)),
            (None, Err(e)) => Err(e),
        }
    })
}

/// Facts, and the score, in which a judgement agrees with another of the same input.
fn rating(judgement: &Judgement<Vec<i64>>, second: &Judgement<Vec<i64>>) -> f64 {
    let facts = [judgement, second].map(|j| GarlandFacts::parse(&j.rationale));
    let [Some(a), Some(b)] = facts else { return 0.0 };
    a.agreement(b) as f64 + f64::from(u8::from(judgement.score.is_some() && judgement.score == second.score))
}

/// A rating of each judgement by a second judgement of its input, by input.
fn ratings(
    judge: &Policy,
    inputs: &[JudgedResponse],
    written: &[Vec<Written>],
    seed: u64,
    context: &Context<'_>,
) -> Result<Vec<Vec<f64>>> {
    let each = written.first().map_or(0, Vec::len);
    let second = judgements(&judge.model, inputs, each, (Form::Rationale, 1.0), seed, context.plan.device)?;
    let rated = written.iter().zip(&second);
    Ok(rated.map(|(a, b)| a.iter().zip(b).map(|(a, b)| rating(&a.judgement, &b.judgement)).collect()).collect())
}

pub(super) fn cell(method: Method, config: &Config, context: &mut Context<'_>) -> Result<()> {
    let device = context.plan.device;
    let form = if method == Method::ScoreOnly { Form::ScoreOnly } else { Form::Rationale };
    let first = first_judge(form, config, context)?;
    let policy = config.base.policy(&first, device)?;
    let garland = world();
    let unseen = paired_inputs(&garland, config.test, context.seed("test"));
    if method == Method::TestTime {
        return at_test_time(&policy, &unseen, config, context);
    }
    test(&policy.model, &unseen, form, 0, context)?;
    for (i, &count) in config.rounds.iter().enumerate() {
        let round = i + 1;
        let asked = inputs(&garland, count, context.seed(&format!("round {round}")));
        let written = judgements(
            &policy.model,
            &asked,
            config.judgements,
            (form, 1.0),
            context.arm_seed(&format!("sample {round}")),
            device,
        )?;
        let right =
            asked.iter().zip(&written).flat_map(|(a, w)| w.iter().map(|w| w.judgement.score == Some(a.score())));
        let all = (count * config.judgements) as f64;
        context.metric(round, SAMPLED, 100.0 * right.filter(|r| *r).count() as f64 / all);
        let learnt = Learnt::of(method, &policy, &asked, &written, round, config, context)?;
        learnt.learn(method, &policy, round, config, context)?;
        test(&policy.model, &unseen, form, round, context)?;
    }
    Ok(())
}

/// What a round learns from.
struct Learnt {
    chosen: Vec<Sequence>,
    rejected: Vec<Sequence>,
}

impl Learnt {
    fn of(
        method: Method,
        judge: &Policy,
        asked: &[JudgedResponse],
        written: &[Vec<Written>],
        round: usize,
        config: &Config,
        context: &mut Context<'_>,
    ) -> Result<Self> {
        let seed = context.arm_seed(&format!("pairs {round}"));
        let mut rng = seed::rng(seed, &[]);
        let ratings = match method {
            Method::MetaJudge => ratings(judge, asked, written, seed, context)?,
            _ => vec![],
        };
        let (mut chosen, mut rejected, mut dropped) = (vec![], vec![], 0);
        let mut distances = vec![0.0; 5];
        for (i, (input, written)) in asked.iter().zip(written).enumerate() {
            let judged: Vec<_> = written.iter().map(|w| w.judgement.clone()).collect();
            let truth = input.score();
            let mut pairs = match method {
                Method::Correct { margin } => curate(&judged, &CurationRule::CorrectAnswer { truth }, margin)?,
                Method::Majority => curate(&judged, &CurationRule::Majority, 1)?,
                Method::MetaJudge => curate(&judged, &CurationRule::MetaJudge { ratings: &ratings[i] }, 1)?,
                Method::ScoreOnly => curate(&judged, &CurationRule::CorrectAnswer { truth }, 1)?,
                // Judgements to imitate; each stands for a pair with itself.
                Method::RejectionSampling => {
                    let right = (0..judged.len()).filter(|&i| judged[i].score == Some(truth));
                    right.filter(|&i| !judged[..i].contains(&judged[i])).map(|i| (i, i)).collect()
                }
                Method::TestTime => vec![],
            };
            dropped += usize::from(pairs.is_empty());
            pairs.shuffle(&mut rng);
            for (w, l) in pairs.into_iter().take(config.pairs_per_input) {
                if let (Some(a), Some(b)) = (judged[w].score, judged[l].score) {
                    distances[usize::from(a.abs_diff(b))] += 1.0;
                }
                chosen.push(written[w].sequence.clone());
                rejected.push(written[l].sequence.clone());
            }
        }
        context.metric(round, PAIRS, chosen.len() as f64);
        context.metric(round, DROPPED, 100.0 * dropped as f64 / asked.len() as f64);
        context.array(&margins(round), distances);
        Ok(Self { chosen, rejected })
    }

    fn learn(
        self,
        method: Method,
        policy: &Policy,
        round: usize,
        config: &Config,
        context: &mut Context<'_>,
    ) -> Result<()> {
        let device = context.plan.device;
        let count = self.chosen.len();
        if count == 0 {
            // A judge that is always right, or never, has nothing to learn from.
            return Ok(());
        }
        let (batch, steps) = (config.batch.min(count), config.steps);
        let training = PairTraining { steps, batch, lr: config.lr, warmup: 20.min(steps / 2) };
        let seed = context.arm_seed(&format!("order {round}"));
        let observe = |done, loss| {
            context.progress(done, steps, loss);
            Ok(())
        };
        if method == Method::RejectionSampling {
            let data = Sequences::new(&self.chosen, Garland::PAD, device)?;
            return training.minimise(
                policy,
                (count, seed),
                |index| {
                    let batch = data.rows(index);
                    response_loss(&policy.model, &batch.tokens, &batch.response)
                },
                observe,
            );
        }
        let answers = |side: Vec<Sequence>| side.into_iter().map(|sequence| Answer { sequence, reward: 0.0 }).collect();
        let pairs = Pairs { chosen: answers(self.chosen), rejected: answers(self.rejected) };
        // The reference is the judge as the round finds it.
        let data = PairData::new(&pairs, &policy.model, device)?;
        training.run(policy, &data, seed, |batch| dpo(&batch.margin()?, config.beta), observe)
    }
}

/// The first judge with several judgements: votes and best-of-N.
fn at_test_time(judge: &Policy, unseen: &[JudgedResponse], config: &Config, context: &mut Context<'_>) -> Result<()> {
    let device = context.plan.device;
    let n = config.judgements;
    let seed = context.arm_seed("judgements");
    let written = judgements(&judge.model, unseen, n, (Form::Rationale, 1.0), seed, device)?;
    let votes =
        written.iter().map(|w| self_consistency_score(&w.iter().filter_map(|w| w.judgement.score).collect::<Vec<_>>()));
    log_scores(unseen, &votes.collect::<Vec<_>>(), 0, CONSISTENCY, context)?;
    let sequences = Sequences::new(written.iter().flatten().map(|w| &w.sequence), Garland::PAD, device)?;
    let per_token: Vec<f64> =
        (sequences.scores(&judge.model)? / sequences.lengths()).to_kind(Kind::Double).try_into()?;
    let by_probability: Vec<Vec<f64>> = per_token.chunks(n).map(<[f64]>::to_vec).collect();
    let by_meta = ratings(judge, unseen, &written, seed::derive(seed, &["second"]), context)?;
    for (rewards, behind) in [(by_probability, BY_PROBABILITY), (by_meta, BY_META)] {
        let mut scores = vec![];
        for (written, rewards) in written.iter().zip(&rewards) {
            let judged: Vec<_> = written.iter().map(|w| w.judgement.clone()).collect();
            scores.push(best_of_n(&judged, rewards)?.and_then(|i| judged[i].score));
        }
        log_scores(unseen, &scores, 0, behind, context)?;
    }
    Ok(())
}
