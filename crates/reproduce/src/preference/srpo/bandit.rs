//! Bandits: how far a policy moves when the pairs come from elsewhere.

use crate::runner::Context;
use anyhow::Result;
use autodidact_core::error::check_range;
use autodidact_core::seed::{self, Rng};
use autodidact_preference::srpo::TabularPairs;
use rand::RngExt;
use rand::seq::IndexedRandom;
use serde::{Deserialize, Serialize};

/// Numbers of responses.
pub(super) const SIZES: [usize; 2] = [3, 10];
/// Strengths of the reference.
pub(super) const BETAS: [f64; 2] = [1.0, 0.2];
/// The one that samples are judged at.
pub(super) const SAMPLED_BETA: f64 = 0.2;
pub(super) const METHODS: [&str; 3] = ["srpo", "ipo", "dpo"];

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Config {
    /// Preference matrices of each kind and size in a cell.
    instances: usize,
    /// Pairs of an instance, where they are sampled.
    pairs: usize,
    /// Share of the skewed behaviour's favourite.
    skew: f64,
    alpha: f64,
}

impl Config {
    pub fn new(instances: usize) -> Self {
        Self { instances, pairs: 5000, skew: 0.8, alpha: 0.5 }
    }

    pub fn check(&self) -> Result<()> {
        check_range("bandit.instances", self.instances as f64, 1.0..)?;
        check_range("bandit.pairs", self.pairs as f64, 1.0..)?;
        check_range("bandit.skew", self.skew, f64::MIN_POSITIVE..=0.999)?;
        Ok(check_range("bandit.alpha", self.alpha, 0.01..=0.99)?)
    }
}

/// The array of a method's total variations, an entry for each instance.
pub(super) fn moved(method: &str, how: &str, kind: &str, size: usize, beta: f64) -> String {
    format!("{method}, {how}, {kind}, {size} responses, beta {beta}")
}

/// Kinds of preferences.
pub(super) const KINDS: [&str; 2] = ["bradley-terry", "intransitive"];

/// `p[i][j]`: of utilities, or each drawn by itself.
fn preferences(kind: &str, n: usize, rng: &mut Rng) -> Vec<Vec<f64>> {
    let utilities: Vec<f64> = (0..n).map(|_| rng.random_range(-2.0..2.0)).collect();
    let mut p = vec![vec![0.5; n]; n];
    for i in 0..n {
        for j in 0..i {
            let drawn: f64 = rng.random_range(0.05..0.95);
            p[i][j] = if kind == KINDS[0] { 1.0 / (1.0 + (utilities[j] - utilities[i]).exp()) } else { drawn };
            p[j][i] = 1.0 - p[i][j];
        }
    }
    p
}

fn total_variation(a: &[f64], b: &[f64]) -> f64 {
    0.5 * a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f64>()
}

fn policy(method: &str, pairs: &TabularPairs, beta: f64, alpha: f64) -> Result<Vec<f64>> {
    Ok(match method {
        "srpo" => pairs.srpo(beta, alpha)?.0,
        "ipo" => pairs.ipo(beta)?,
        _ => pairs.dpo(beta)?,
    })
}

/// Comparisons of two responses drawn from a behaviour (those of a response with itself say nothing and are left out).
fn drawn(p: &[Vec<f64>], behaviour: &[f64], count: usize, rng: &mut Rng) -> Result<Vec<(usize, usize)>> {
    let places: Vec<usize> = (0..p.len()).collect();
    let mut all = vec![];
    for _ in 0..count {
        let mut draw = || places.choose_weighted(rng, |&i| behaviour[i]).copied();
        let (a, b) = (draw()?, draw()?);
        if a != b {
            all.push(if rng.random_bool(p[a][b]) { (a, b) } else { (b, a) });
        }
    }
    Ok(all)
}

pub(super) fn run(config: &Config, context: &mut Context<'_>) -> Result<()> {
    let run_seed = context.seed("bandit");
    let (mut done, total) = (0, KINDS.len() * SIZES.len() * config.instances);
    let mut found: std::collections::BTreeMap<String, Vec<f64>> = std::collections::BTreeMap::new();
    for kind in KINDS {
        for size in SIZES {
            let uniform = vec![1.0 / size as f64; size];
            let mut skewed = vec![(1.0 - config.skew) / (size - 1) as f64; size];
            skewed[0] = config.skew;
            for instance in 0..config.instances {
                let mut rng = seed::rng(run_seed, &[kind, &size.to_string(), &instance.to_string()]);
                let p = preferences(kind, size, &mut rng);
                let exact = [&uniform, &skewed].map(|mu| TabularPairs::exact(&p, mu, &uniform));
                let mut sampled = vec![];
                for mu in [&uniform, &skewed] {
                    sampled.push(TabularPairs::observed(&drawn(&p, mu, config.pairs, &mut rng)?, &uniform)?);
                }
                let [a, b] = exact;
                let (a, b) = (a?, b?);
                for method in METHODS {
                    let between = |a: &TabularPairs, b: &TabularPairs, beta: f64| -> Result<f64> {
                        let of = |pairs| policy(method, pairs, beta, config.alpha);
                        Ok(total_variation(&of(a)?, &of(b)?))
                    };
                    for beta in BETAS {
                        let name = moved(method, "exact", kind, size, beta);
                        found.entry(name).or_default().push(between(&a, &b, beta)?);
                    }
                    let name = moved(method, "sampled", kind, size, SAMPLED_BETA);
                    found.entry(name).or_default().push(between(&sampled[0], &sampled[1], SAMPLED_BETA)?);
                }
                done += 1;
                context.progress(done, total, None);
            }
        }
    }
    found.into_iter().for_each(|(name, values)| context.array(&name, values));
    Ok(())
}
