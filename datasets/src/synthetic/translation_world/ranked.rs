//! Distributions by rank.

use autodidact_core::seed::Rng;
use rand::RngExt;
use rand::seq::SliceRandom;

/// Probabilities `rank^-zipf` in an order by context.
#[derive(Debug)]
pub(super) struct Ranked {
    /// Items by rank, for each context.
    items: Vec<Vec<usize>>,
    /// Rank of each item, for each context.
    ranks: Vec<Vec<usize>>,
    cumulative: Vec<f64>,
    log: Vec<f64>,
}

impl Ranked {
    pub(super) fn new(contexts: usize, items: usize, zipf: f64, rng: &mut Rng) -> Self {
        let weights: Vec<f64> = (1..=items).map(|r| (r as f64).powf(-zipf)).collect();
        let total: f64 = weights.iter().sum();
        let mut sum = 0.0;
        let cumulative = weights.iter().map(|w| {
            sum += w / total;
            sum
        });
        let cumulative = cumulative.collect();
        let order = |_| {
            let mut order: Vec<usize> = (0..items).collect();
            order.shuffle(rng);
            order
        };
        let orders: Vec<Vec<usize>> = (0..contexts).map(order).collect();
        let inverse = |order: &Vec<usize>| {
            let mut ranks = vec![0; items];
            order.iter().enumerate().for_each(|(rank, &item)| ranks[item] = rank);
            ranks
        };
        let ranks = orders.iter().map(inverse).collect();
        Self { items: orders, ranks, cumulative, log: weights.iter().map(|w| (w / total).ln()).collect() }
    }

    pub(super) fn draw(&self, context: usize, rng: &mut Rng) -> usize {
        let u: f64 = rng.random();
        self.items[context][self.cumulative.partition_point(|c| *c <= u).min(self.cumulative.len() - 1)]
    }

    pub(super) fn log_prob(&self, context: usize, item: usize) -> f64 {
        self.log[self.ranks[context][item]]
    }
}
