//! Bandits of which some arms are hardly ever compared.

use crate::runner::Context;
use anyhow::Result;
use autodidact_core::error::check_range;
use autodidact_core::seed::{self, Rng};
use autodidact_datasets::synthetic::Garland;
use autodidact_preference::rpo::{Comparison, TabularRpo};
use rand::RngExt;
use serde::{Deserialize, Serialize};

const ARMS: usize = 8;
/// Arms that the data compare often; the others are compared once each.
const COVERED: usize = 5;
/// Gradient steps of DPO.
const STEPS: usize = 2000;
/// Weights of the baseline at [`Config::comparisons`], and the one that is judged.
pub(super) const ETAS: [f64; 3] = [0.05, 0.2, 1.0];
pub(super) const JUDGED: f64 = 0.2;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Config {
    /// Bandits of a seed.
    instances: usize,
    /// Comparisons among covered arms where DPO and RPO are compared.
    comparisons: usize,
    /// Numbers of comparisons over which the gap is followed.
    pub numbers: Vec<usize>,
}

impl Config {
    pub fn new(instances: usize) -> Self {
        Self { instances, comparisons: 80, numbers: vec![20, 40, 80, 160, 320, 640, 1280] }
    }

    pub fn check(&self) -> Result<()> {
        check_range("bandit.instances", self.instances as f64, 1.0..)?;
        check_range("bandit.comparisons", self.comparisons as f64, 1.0..)?;
        check_range("length of bandit.numbers", self.numbers.len() as f64, 2.0..)?;
        self.numbers.iter().try_for_each(|&n| Ok(check_range("bandit.numbers", n as f64, 1.0..)?))
    }
}

/// Names of the arrays that a cell keeps: a value for each instance.
pub(super) const DPO_VALUE: &str = "expected reward, dpo";

pub(super) fn rpo_value(eta: f64) -> String {
    format!("expected reward, rpo eta={eta}")
}

pub(super) fn gap(number: usize) -> String {
    format!("gap, N={number}")
}

/// Preferred and other arm of one comparison under Bradley-Terry.
fn compare(a: usize, b: usize, rewards: &[f64], rng: &mut Rng) -> Result<Comparison> {
    let first = rng.random_bool(Garland::preference(rewards[a], rewards[b], 1.0)?);
    Ok(if first { Comparison { winner: a, loser: b } } else { Comparison { winner: b, loser: a } })
}

/// Comparisons: `number` among covered arms, and one of each other arm with a covered one.
fn data(number: usize, rewards: &[f64], rng: &mut Rng) -> Result<Vec<Comparison>> {
    let mut all = vec![];
    for _ in 0..number {
        let a = rng.random_range(0..COVERED);
        let b = (a + rng.random_range(1..COVERED)) % COVERED;
        all.push(compare(a, b, rewards, rng)?);
    }
    for rare in COVERED..ARMS {
        all.push(compare(rare, rng.random_range(0..COVERED), rewards, rng)?);
    }
    Ok(all)
}

pub(super) fn run(config: &Config, context: &mut Context<'_>) -> Result<()> {
    let reference = [1.0 / ARMS as f64; ARMS];
    let value = |policy: &[f64], rewards: &[f64]| policy.iter().zip(rewards).map(|(p, r)| p * r).sum::<f64>();
    let mut dpo = vec![];
    let mut rpo = vec![vec![]; ETAS.len()];
    let mut gaps = vec![vec![]; config.numbers.len()];
    let run_seed = context.seed("bandit");
    for instance in 0..config.instances {
        let mut rng = seed::rng(run_seed, &[&instance.to_string()]);
        let rewards: Vec<f64> = (0..ARMS).map(|_| rng.random_range(0.0..2.0)).collect();
        let best = rewards[..COVERED].iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let beta_of = |number: usize| 1.0 / (number as f64).sqrt();
        let comparisons = data(config.comparisons, &rewards, &mut rng)?;
        let beta = beta_of(config.comparisons);
        // Steps of size 1 on implicit rewards, whatever beta is.
        let plain = TabularRpo::new(&reference, &comparisons, beta, 0.0)?.descend(STEPS, 1.0 / (beta * beta))?;
        dpo.push(value(&plain, &rewards));
        for (values, eta) in rpo.iter_mut().zip(ETAS) {
            values.push(value(&TabularRpo::new(&reference, &comparisons, beta, eta)?.solve()?, &rewards));
        }
        for (values, &number) in gaps.iter_mut().zip(&config.numbers) {
            let comparisons = data(number, &rewards, &mut rng)?;
            let eta = JUDGED * (config.comparisons as f64 / number as f64).sqrt();
            let policy = TabularRpo::new(&reference, &comparisons, beta_of(number), eta)?.solve()?;
            values.push(best - value(&policy, &rewards));
        }
        context.progress(instance + 1, config.instances, None);
    }
    context.array(DPO_VALUE, dpo);
    for (values, eta) in rpo.into_iter().zip(ETAS) {
        context.array(&rpo_value(eta), values);
    }
    for (values, &number) in gaps.into_iter().zip(&config.numbers) {
        context.array(&gap(number), values);
    }
    Ok(())
}
