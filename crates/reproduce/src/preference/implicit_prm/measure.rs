//! What the values of steps are good for, on the test problems; and the propositions.

use super::super::language::Policy;
use super::stage::{Rollouts, STEPS, Stage, responses};
use super::{
    BEST, BEST_SUM, Config, ERROR_F1, EXACT, FIRST_ERROR, GREEDY, HEAT, MILD, NO_REFERENCE, ORDERED, OUTCOME, PASS,
    SIZES, VOTE, WITHIN, WITHIN_QUARTER,
};
use crate::runner::Context;
use anyhow::Result;
use autodidact_core::{Result as CoreResult, seed, stats};
use autodidact_preference::implicit_prm::{
    PrefixValue, StepAggregate, best_threshold, expected_best_of_n, first_error_f1, log_ratio, pass_at_n, prefix_q,
    prefix_value, separation, weighted_majority_vote,
};
use rand::RngExt;
use rand::seq::IndexedRandom;
use tch::{Kind, Tensor};

/// Test responses that have the form of a solution: the others are left out for all arms.
pub(super) fn well_formed(test: &Rollouts) -> Vec<usize> {
    (0..test.sequences.len()).filter(|&row| test.checks[row].well_formed).collect()
}

/// NaN where a measure is not defined (no response of a kind).
fn or_nan(value: CoreResult<f64>) -> f64 {
    value.unwrap_or(f64::NAN)
}

/// Values of the steps of well-formed test responses.
pub(super) struct Judged<'a> {
    pub test: &'a Rollouts,
    pub rows: &'a [usize],
    pub values: &'a [Vec<f64>],
}

impl Judged<'_> {
    fn scores(&self, aggregate: StepAggregate) -> Result<Vec<f64>> {
        Ok(self.values.iter().map(|v| aggregate.of(v)).collect::<CoreResult<_>>()?)
    }

    fn outcome(&self, place: usize) -> bool {
        self.test.checks[self.rows[place]].outcome
    }

    /// Places of the well-formed responses to a problem.
    fn places(&self, problem: usize) -> std::ops::Range<usize> {
        let at = |row: usize| self.rows.partition_point(|&r| r < row);
        at(problem * self.test.each)..at((problem + 1) * self.test.each)
    }

    /// Percent of problems whose best of `n` responses is right.
    fn best_of(&self, scores: &[f64], n: usize) -> Result<f64> {
        let each = (0..self.test.problems.len()).map(|problem| {
            let places = self.places(problem);
            if places.is_empty() {
                return Ok(0.0);
            }
            let outcomes: Vec<bool> = places.clone().map(|i| self.outcome(i)).collect();
            Ok(100.0 * expected_best_of_n(&scores[places], &outcomes, n.min(outcomes.len()))?)
        });
        Ok(stats::mean(&each.collect::<Result<Vec<_>>>()?))
    }

    /// Percent of votes of `n` well-formed responses that are right, in the mean over problems.
    fn vote_of(&self, weights: &[f64], n: usize) -> Result<f64> {
        let each = (0..self.test.problems.len()).map(|problem| {
            let places: Vec<usize> = self.places(problem).collect();
            if places.is_empty() {
                return Ok(0.0);
            }
            let votes = places.chunks_exact(n.min(places.len())).map(|group| {
                let answers: Vec<_> = group.iter().map(|&i| self.test.checks[self.rows[i]].answer).collect();
                let weights: Vec<f64> = group.iter().map(|&i| weights[i]).collect();
                let won = weighted_majority_vote(&answers, &weights)?;
                Ok(100.0 * f64::from(u8::from(self.outcome(group[won]))))
            });
            Ok(stats::mean(&votes.collect::<Result<Vec<_>>>()?))
        });
        Ok(stats::mean(&each.collect::<Result<Vec<_>>>()?))
    }

    /// Logs all measures; `mild` is what scores are multiplied with for votes that weigh nearly the same.
    pub fn log(&self, mild: f64, context: &mut Context<'_>) -> Result<()> {
        let (worst, sum) = (self.scores(StepAggregate::Min)?, self.scores(StepAggregate::Sum)?);
        let logistic = |by: f64| -> Vec<f64> { worst.iter().map(|s| 1.0 / (1.0 + (-s * by).exp())).collect() };
        let (weights, nearly_equal) = (logistic(1.0), logistic(mild));
        for n in SIZES.into_iter().filter(|&n| n <= self.test.each) {
            context.metric(n, BEST, self.best_of(&worst, n)?);
            context.metric(n, BEST_SUM, self.best_of(&sum, n)?);
            context.metric(n, VOTE, self.vote_of(&weights, n)?);
            context.metric(n, MILD, self.vote_of(&nearly_equal, n)?);
        }
        let of = |outcome: bool| -> Vec<f64> {
            (0..sum.len()).filter(|&i| self.outcome(i) == outcome).map(|i| sum[i]).collect()
        };
        context.metric(0, OUTCOME, or_nan(separation(&of(true), &of(false))));
        if self.values.first().is_some_and(|v| v.len() == STEPS) {
            self.log_steps(context)?;
        }
        Ok(())
    }

    fn log_steps(&self, context: &mut Context<'_>) -> Result<()> {
        let errors: Vec<Option<usize>> = self.rows.iter().map(|&r| self.test.checks[r].first_error()).collect();
        let (mut right, mut wrong) = (vec![], vec![]);
        for (values, error) in self.values.iter().zip(&errors) {
            if let Some(e) = *error {
                right.extend_from_slice(&values[..e]);
                wrong.push(values[e]);
            }
        }
        context.metric(0, FIRST_ERROR, or_nan(separation(&right, &wrong)));
        // The threshold comes from the first half of the problems, and is used on the second.
        let half = self.places(self.test.problems.len() / 2).start;
        let f1 = best_threshold(&self.values[..half], &errors[..half])
            .and_then(|t| Ok(first_error_f1(&self.values[half..], &errors[half..], t)?.f1));
        context.metric(0, ERROR_F1, or_nan(f1));
        // Mean values of steps by the place of the first error (the last row: none), less those of faultless responses.
        let mean = |error: Option<usize>, step: usize| {
            let of: Vec<f64> =
                self.values.iter().zip(&errors).filter(|(_, e)| **e == error).map(|(v, _)| v[step]).collect();
            stats::mean(&of)
        };
        let mut all = vec![];
        for error in 0..STEPS {
            let less = (0..STEPS).map(|t| mean(Some(error), t) - mean(None, t));
            all.extend(less.map(|v| if v.is_finite() { v } else { 0.0 }));
        }
        context.array(HEAT, all);
        Ok(())
    }

    /// Best of `n` by values that come from the policy alone.
    pub fn log_without_reference(&self, context: &mut Context<'_>) -> Result<()> {
        let worst = self.scores(StepAggregate::Min)?;
        for n in SIZES.into_iter().filter(|&n| n <= self.test.each) {
            context.metric(n, NO_REFERENCE, self.best_of(&worst, n)?);
        }
        Ok(())
    }

    /// Probability that one of `n` responses is right.
    pub fn log_pass(&self, context: &mut Context<'_>) -> Result<()> {
        for n in SIZES.into_iter().filter(|&n| n <= self.test.each) {
            let each = (0..self.test.problems.len()).map(|problem| {
                let places = self.places(problem);
                let (count, right) = (places.len(), places.filter(|&i| self.outcome(i)).count());
                Ok(if count == 0 { 0.0 } else { 100.0 * pass_at_n(right, count, n.min(count))? })
            });
            context.metric(n, PASS, stats::mean(&each.collect::<Result<Vec<f64>>>()?));
        }
        Ok(())
    }
}

/// Accuracy of a policy's most probable tokens on the test problems, in percent.
pub(super) fn greedy(policy: &Policy, test: &Rollouts, context: &mut Context<'_>) -> Result<()> {
    let drawn = responses(policy, &test.problems, 1, 0.0, 0)?;
    let right = test.problems.iter().zip(&drawn).filter(|(p, r)| p.check(&r.response).outcome).count();
    context.metric(0, GREEDY, 100.0 * right as f64 / test.problems.len() as f64);
    Ok(())
}

/// Whether `q` of prefixes of test responses is what their continuations by the generator say it should be.
pub(super) fn prefixes(
    policy: &Policy,
    stage: &Stage,
    rows: &[usize],
    config: &Config,
    context: &mut Context<'_>,
) -> Result<()> {
    let mut rng = seed::rng(context.seed("prefixes"), &["which"]);
    let chosen: Vec<(usize, usize)> =
        (0..config.prefixes).filter_map(|_| Some((*rows.choose(&mut rng)?, rng.random_range(0..STEPS - 1)))).collect();
    let seed = context.seed("continuations");
    let found = stage.continuations(policy, &chosen, config.continuations, (config.beta, seed))?;
    let (mut within, mut quarter, mut ordered) = (vec![], vec![], vec![]);
    let percent = |holds: bool| 100.0 * f64::from(u8::from(holds));
    let is_within = |value: &PrefixValue, q: f64| percent((value.q - q).abs() <= 3.0 * value.error);
    for (q, rewards) in found {
        let value = prefix_value(&rewards, config.beta)?;
        within.push(is_within(&value, q));
        quarter.push(is_within(&prefix_value(&rewards[..(rewards.len() / 4).max(2)], config.beta)?, q));
        ordered.push(percent(value.mean <= q && q <= value.best));
    }
    context.metric(0, WITHIN, stats::mean(&within));
    context.metric(0, WITHIN_QUARTER, stats::mean(&quarter));
    context.metric(0, ORDERED, stats::mean(&ordered));
    Ok(())
}

/// Largest violation of both propositions over all prefixes of random trees: three tokens, four levels, three values of beta.
pub(super) fn trees(count: usize, context: &mut Context<'_>) -> Result<()> {
    const LEVELS: usize = 4;
    const INNER: usize = 40;
    let mut rng = seed::rng(context.seed("trees"), &["trees"]);
    let mut worst = 0.0f64;
    for tree in 0..count {
        let beta = [0.05, 0.5, 3.0][tree % 3];
        let mut distributions = || -> Vec<[f64; 3]> {
            let one = |_| {
                let e: [f64; 3] = std::array::from_fn(|_| rng.random_range(-2.0..2.0f64).exp());
                e.map(|x| x / e.iter().sum::<f64>())
            };
            (0..INNER).map(one).collect()
        };
        let (policy, reference) = (distributions(), distributions());
        // Prefix i is continued by prefixes 3i+1, 3i+2, 3i+3; the responses end at the 81 last ones.
        let paths: Vec<[usize; LEVELS + 1]> = (INNER..3 * INNER + 1)
            .map(|leaf| {
                let mut path = [leaf; LEVELS + 1];
                (0..LEVELS).rev().for_each(|level| path[level] = (path[level + 1] - 1) / 3);
                path
            })
            .collect();
        let log_probs = |p: &[[f64; 3]]| {
            let along = |w: &[usize]| p[w[0]][(w[1] - 1) % 3].ln();
            let rows: Vec<f64> = paths.iter().flat_map(|path| path.windows(2).map(along)).collect();
            Tensor::from_slice(&rows).view([-1, LEVELS as i64])
        };
        let (policy, expected) = (log_probs(&policy), log_probs(&reference));
        let all = policy.ones_like().to_kind(Kind::Bool);
        let along: Vec<f64> = prefix_q(&log_ratio(&policy, &expected, &all)?, beta)?.reshape([-1]).try_into()?;
        let mut q = vec![0.0; 3 * INNER + 1];
        for (path, values) in paths.iter().zip(along.chunks(LEVELS)) {
            path[1..].iter().zip(values).for_each(|(&prefix, value)| q[prefix] = *value);
        }
        let (mut mean, mut best) = (q.clone(), q.clone());
        let mut exponential: Vec<f64> = q.iter().map(|q| (q / beta).exp()).collect();
        for i in (0..INNER).rev() {
            let below = 3 * i + 1..3 * i + 4;
            let over = |v: &[f64]| reference[i].iter().zip(&v[below.clone()]).map(|(p, v)| p * v).sum::<f64>();
            (mean[i], exponential[i]) = (over(&mean), over(&exponential));
            best[i] = best[below.clone()].iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let exact = (beta * exponential[i].ln() - q[i]).abs();
            worst = worst.max(exact).max(mean[i] - q[i]).max(q[i] - best[i]);
        }
    }
    context.metric(0, EXACT, worst);
    Ok(())
}
