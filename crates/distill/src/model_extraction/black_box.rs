//! Access to a victim through its lists alone.

use super::recommender::Recommender;
use autodidact_core::error::check_range;
use autodidact_core::{Error, Result};
use std::cell::Cell;
use tch::{Kind, Tensor};

/// Sequences are put to the victim in parts of this size.
const PART: i64 = 256;

/// A victim that answers a sequence with its `k` best items, in order, and counts the questions. Scores do not leave it.
#[derive(Debug)]
pub struct BlackBox<'a> {
    victim: &'a dyn Recommender,
    k: i64,
    queries: Cell<u64>,
    budget: Option<u64>,
}

/// Sequences with the victim's lists for all their prefixes.
#[derive(Debug)]
pub struct Labelled {
    /// Items `[N, T]`, padded with 0 on the right.
    pub sequences: Tensor,
    /// Items `[N, T, k]`, best first; 0 at padding.
    pub lists: Tensor,
}

impl Labelled {
    /// Both, one after the other.
    ///
    /// # Errors
    /// Sequences or lists of other lengths.
    pub fn join(&self, other: &Self) -> Result<Self> {
        let (a, b) = (self.lists.size(), other.lists.size());
        if a[1..] != b[1..] {
            return Err(Error::shape("lists to join", format!("[N, {}, {}]", a[1], a[2]), &other.lists));
        }
        let cat = |a: &Tensor, b: &Tensor| Tensor::cat(&[a, b], 0);
        Ok(Self { sequences: cat(&self.sequences, &other.sequences), lists: cat(&self.lists, &other.lists) })
    }
}

impl<'a> BlackBox<'a> {
    /// Lists of `k` items.
    ///
    /// # Errors
    /// `k` outside `1..=items`.
    pub fn new(victim: &'a dyn Recommender, k: i64) -> Result<Self> {
        check_range("list length", k as f64, 1.0..=victim.items() as f64)?;
        Ok(Self { victim, k, queries: Cell::new(0), budget: None })
    }

    /// The same, refusing to answer more than `budget` queries.
    pub fn with_budget(mut self, budget: u64) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Prefixes answered so far.
    pub fn queries(&self) -> u64 {
        self.queries.get()
    }

    /// Length of the lists.
    pub fn list_length(&self) -> i64 {
        self.k
    }

    /// Number of the items that it knows.
    pub fn items(&self) -> i64 {
        self.victim.items()
    }

    fn charge(&self, queries: u64) -> Result<()> {
        let sum = self.queries.get() + queries;
        if let Some(budget) = self.budget.filter(|budget| sum > *budget) {
            return Err(Error::value("queries", format!("at most the budget of {budget}"), sum));
        }
        self.queries.set(sum);
        Ok(())
    }

    /// Lists `[B, k]` for the first `lengths [B]` items of sequences `[B, T]`: `B` queries.
    ///
    /// # Errors
    /// What the victim cannot read; a budget that is spent.
    pub fn top_k(&self, sequences: &Tensor, lengths: &Tensor) -> Result<Tensor> {
        self.charge(sequences.size().first().copied().unwrap_or(0) as u64)?;
        let _guard = tch::no_grad_guard();
        let parts = sequences.split(PART, 0).into_iter().zip(lengths.split(PART, 0));
        let lists = parts.map(|(s, l)| Ok(self.best(&self.victim.scores(&s, &l, false)?)));
        Ok(Tensor::cat(&lists.collect::<Result<Vec<_>>>()?, 0))
    }

    /// Sequences `[N, T]` with lists for all their prefixes: a query for every item that is no padding.
    ///
    /// # Errors
    /// As [`top_k`](Self::top_k).
    pub fn label(&self, sequences: &Tensor) -> Result<Labelled> {
        let there = sequences.gt(0);
        self.charge(there.sum(Kind::Int64).int64_value(&[]) as u64)?;
        let _guard = tch::no_grad_guard();
        let parts = sequences.split(PART, 0);
        let lists = parts.iter().map(|s| Ok(self.best(&self.victim.prefix_scores(s, false)?)));
        let lists = Tensor::cat(&lists.collect::<Result<Vec<_>>>()?, 0);
        Ok(Labelled { lists: lists * there.unsqueeze(2).to_kind(Kind::Int64), sequences: sequences.shallow_clone() })
    }

    /// Items of the largest scores.
    fn best(&self, scores: &Tensor) -> Tensor {
        scores.topk(self.k, -1, true, true).1 + 1
    }
}
