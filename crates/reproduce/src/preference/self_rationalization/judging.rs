//! Inputs of a judge, its judgements, and how good they are.

use super::super::garland::sampling;
use super::super::language::{Sampling, Sequence, sample};
use super::{ACCURACY, ERROR, FACTS, INCONSISTENT, KAPPA, PAIRWISE, PEARSON, UNREADABLE, WITHIN_ONE};
use super::{by_fact, confusion, right_facts};
use crate::runner::Context;
use anyhow::Result;
use autodidact_core::nn::Gpt;
use autodidact_core::{seed, stats};
use autodidact_datasets::synthetic::{Criterion, Garland, GarlandFacts, GarlandPrompt, JudgedResponse};
use autodidact_preference::self_rationalization::{Judgement, ScoreAgreement};
use rand::seq::IndexedRandom;
use tch::Device;

/// Whether a judge writes a rationale before the score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Rationale,
    ScoreOnly,
}

impl Form {
    /// What a judge should write: facts where it gives reasons, the judgement's marker, the score, the end.
    pub fn tokens(self, facts: GarlandFacts, score: u8) -> Vec<i64> {
        let rationale = if self == Form::Rationale { &facts.tokens()[..] } else { &[] };
        [rationale, &[Garland::JUDGE, Garland::score_token(score), Garland::EOS]].concat()
    }

    /// Reads a judgement.
    fn read(self, tokens: &[i64]) -> Judgement<Vec<i64>> {
        let at = if self == Form::Rationale { GarlandFacts::TOKENS } else { 0 };
        let (rationale, rest) = tokens.split_at(at.min(tokens.len()));
        let readable = self == Form::ScoreOnly || GarlandFacts::parse(rationale).is_some();
        let score = match *rest {
            [Garland::JUDGE, score, Garland::EOS] if readable => Garland::read_score(score),
            _ => None,
        };
        Judgement { rationale: rationale.to_vec(), score }
    }
}

/// Random inputs.
pub(super) fn inputs(garland: &Garland, count: usize, seed: u64) -> Vec<JudgedResponse> {
    let mut rng = seed::rng(seed, &["inputs"]);
    (0..count).map(|_| garland.to_judge(&mut rng)).collect()
}

/// Inputs in pairs: two responses to the same prompt under the same criterion.
pub(super) fn paired_inputs(garland: &Garland, count: usize, seed: u64) -> Vec<JudgedResponse> {
    let mut rng = seed::rng(seed, &["paired inputs"]);
    let prompts = GarlandPrompt::all();
    let mut all = vec![];
    for _ in 0..count / 2 {
        let criterion = *Criterion::ALL.choose(&mut rng).expect("there are four");
        let prompt = *prompts.choose(&mut rng).expect("there are 96");
        all.extend((0..2).map(|_| JudgedResponse { criterion, prompt, words: garland.flawed(&prompt, &mut rng) }));
    }
    all
}

/// A judgement as it was written, and as it is read.
pub(super) struct Written {
    pub sequence: Sequence,
    pub judgement: Judgement<Vec<i64>>,
}

/// `each` judgements of every input, by input. A temperature of 0 is greedy.
pub(super) fn judgements(
    model: &Gpt,
    inputs: &[JudgedResponse],
    each: usize,
    (form, temperature): (Form, f64),
    seed: u64,
    device: Device,
) -> Result<Vec<Vec<Written>>> {
    let prompts: Vec<Vec<i64>> = inputs.iter().flat_map(|i| vec![i.tokens(); each]).collect();
    let how = Sampling { most: GarlandFacts::TOKENS + 3, ..sampling(temperature) };
    let read = |sequence: Sequence| Written { judgement: form.read(&sequence.response), sequence };
    let mut all = sample(model, &prompts, &how, seed, device)?.into_iter().map(read);
    Ok(inputs.iter().map(|_| all.by_ref().take(each).collect()).collect())
}

/// The score that stands for an unreadable one in correlations.
const MIDDLE: u8 = 3;

/// Logs how good scores are at a round, with something behind the names.
pub(super) fn log_scores(
    inputs: &[JudgedResponse],
    scores: &[Option<u8>],
    round: usize,
    behind: &str,
    context: &mut Context<'_>,
) -> Result<()> {
    let truth: Vec<u8> = inputs.iter().map(JudgedResponse::score).collect();
    let given: Vec<u8> = scores.iter().map(|s| s.unwrap_or(MIDDLE)).collect();
    let agreement = ScoreAgreement::of(&given, &truth)?;
    let right = scores.iter().zip(&truth).filter(|(s, t)| **s == Some(**t)).count();
    let floats = |x: &[u8]| x.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
    // A judge that gives everything the same score knows nothing.
    let pearson = stats::pearson(&floats(&given), &floats(&truth)).unwrap_or(0.0);
    let (mut won, mut pairs) = (0.0, 0.0);
    for (given, truth) in given.chunks(2).zip(truth.chunks(2)).filter(|(_, t)| t[0] != t[1]) {
        pairs += 1.0;
        won += match given[0].cmp(&given[1]) {
            std::cmp::Ordering::Equal => 0.5,
            order => f64::from(u8::from(order == truth[0].cmp(&truth[1]))),
        };
    }
    let percent = |count: usize| 100.0 * count as f64 / inputs.len() as f64;
    for (metric, value) in [
        (ACCURACY, percent(right)),
        (WITHIN_ONE, 100.0 * agreement.within_one),
        (ERROR, agreement.mean_absolute_error),
        (PEARSON, pearson),
        (KAPPA, agreement.quadratic_weighted_kappa),
        (PAIRWISE, 100.0 * won / f64::max(pairs, 1.0)),
        (UNREADABLE, percent(scores.iter().filter(|s| s.is_none()).count())),
    ] {
        context.metric(round, &format!("{metric}{behind}"), value);
    }
    Ok(())
}

/// Judges the test inputs greedily and logs everything.
pub(super) fn test(
    model: &Gpt,
    inputs: &[JudgedResponse],
    form: Form,
    round: usize,
    context: &mut Context<'_>,
) -> Result<()> {
    let written = judgements(model, inputs, 1, (form, 0.0), 0, context.plan.device)?;
    let judged: Vec<&Judgement<Vec<i64>>> = written.iter().map(|w| &w[0].judgement).collect();
    let scores: Vec<Option<u8>> = judged.iter().map(|j| j.score).collect();
    log_scores(inputs, &scores, round, "", context)?;
    let mut table = [0.0; 25];
    let mut of_truth = [0.0; 5];
    for (input, score) in inputs.iter().zip(&scores) {
        let row = usize::from(input.score() - 1);
        of_truth[row] += 1.0;
        if let Some(score) = score {
            table[row * 5 + usize::from(score - 1)] += 1.0;
        }
    }
    let shares = table.iter().enumerate().map(|(i, n)| 100.0 * n / f64::max(of_truth[i / 5], 1.0));
    context.array(&confusion(round), shares.collect());
    if form == Form::ScoreOnly {
        return Ok(());
    }
    let (mut right, mut each, mut contradictions) = (vec![], [0.0; 4], 0);
    for (input, judgement) in inputs.iter().zip(&judged) {
        let facts = GarlandFacts::parse(&judgement.rationale);
        let matches = facts.map_or([false; 4], |f| f.matches(input.facts()));
        right.push(matches.iter().filter(|m| **m).count() as f64);
        for (sum, m) in each.iter_mut().zip(matches) {
            *sum += 100.0 * f64::from(u8::from(m)) / inputs.len() as f64;
        }
        contradictions +=
            usize::from(facts.is_some_and(|f| judgement.score.is_some_and(|s| s != f.score(input.criterion))));
    }
    context.metric(round, FACTS, 25.0 * stats::mean(&right));
    context.metric(round, INCONSISTENT, 100.0 * contradictions as f64 / inputs.len() as f64);
    context.array(&right_facts(round), right);
    context.array(&by_fact(round), each.to_vec());
    Ok(())
}
