//! How alike two recommenders are, how good one is, and how alike sets of sequences are.

use super::losses::check_lists;
use autodidact_core::error::check_range;
use autodidact_core::{Error, Result};
use std::collections::{HashMap, HashSet};
use tch::{Kind, Tensor};

/// The first `c` items of both lists.
fn firsts(a: &Tensor, b: &Tensor, c: i64) -> Result<(Tensor, Tensor)> {
    for (what, lists) in [("lists", a), ("other lists", b)] {
        match lists.size()[..] {
            [n, k] if n > 0 && n == a.size()[0] && k >= c => {}
            _ => return Err(Error::shape(what, format!("[N, k] with k at least {c}"), lists)),
        }
    }
    check_range("c", c as f64, 1.0..)?;
    Ok((a.narrow(1, 0, c), b.narrow(1, 0, c)))
}

/// Agr@c: share of the first `c` items of lists `[N, k]` that are among the first `c` of the others, mean over rows.
///
/// # Errors
/// Lists of other shapes, shorter than `c`, or none.
pub fn agreement_at(a: &Tensor, b: &Tensor, c: i64) -> Result<f64> {
    let (a, b) = firsts(a, b, c)?;
    let shared = a.unsqueeze(2).eq_tensor(&b.unsqueeze(1)).any_dim(2, false);
    Ok(shared.to_kind(Kind::Double).mean(Kind::Double).double_value(&[]))
}

/// Share of the first `c` places of lists `[N, k]` that hold the same item.
///
/// # Errors
/// As [`agreement_at`].
pub fn exact_match_at(a: &Tensor, b: &Tensor, c: i64) -> Result<f64> {
    let (a, b) = firsts(a, b, c)?;
    Ok(a.eq_tensor(&b).to_kind(Kind::Double).mean(Kind::Double).double_value(&[]))
}

/// Recall@c and NDCG@c of the true next items `[N]` under scores `[N, I]`: among all items, or among the given negatives `[N, m]`. An item's
/// rank counts those of larger scores.
///
/// # Errors
/// Shapes that differ, items without a score, `c` below 1.
pub fn recall_ndcg(scores: &Tensor, targets: &Tensor, c: i64, negatives: Option<&Tensor>) -> Result<(f64, f64)> {
    let target = targets.unsqueeze(-1);
    check_lists("targets", scores, &target)?;
    check_range("c", c as f64, 1.0..)?;
    let own = scores.gather(1, &(&target - 1), false);
    let others = match negatives {
        Some(negatives) => {
            check_lists("negatives", scores, negatives)?;
            scores.gather(1, &(negatives - 1), false)
        }
        None => scores.shallow_clone(),
    };
    let rank = others.gt_tensor(&own).to_kind(Kind::Double).sum_dim_intlist([1i64].as_slice(), false, Kind::Double);
    let hit = rank.lt(c as f64).to_kind(Kind::Double);
    let gain = (rank + 2.0).log2().reciprocal() * &hit;
    Ok((hit.mean(Kind::Double).double_value(&[]), gain.mean(Kind::Double).double_value(&[])))
}

/// How close synthetic sequences are to raw ones.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SequenceStatistics {
    /// `KL(raw || synthetic)` of the items' frequencies, with one half added to every count.
    pub frequency_kl: f64,
    /// Share of the raw sequences' pairs of neighbours (counted as often as they occur) that occur in the synthetic ones.
    pub bigram_coverage: f64,
    /// Mean length of runs of one genre in the synthetic sequences; NaN without genres.
    pub genre_run: f64,
}

/// Of sequences of items from 1 to `items` (0 is padding); `genres` has an item's main genre at `item - 1`.
///
/// # Errors
/// No sequences with two items; unknown items; genres of another number.
pub fn sequence_statistics(
    synthetic: &[Vec<i64>],
    raw: &[Vec<i64>],
    items: i64,
    genres: Option<&[usize]>,
) -> Result<SequenceStatistics> {
    if let Some(bad) = synthetic.iter().chain(raw).flatten().find(|i| !(0..=items).contains(*i)) {
        return Err(Error::value("items", format!("from 1 to {items}, or 0"), bad));
    }
    if let Some(genres) = genres.filter(|g| g.len() as i64 != items) {
        return Err(Error::value("genres", format!("one for each of {items} items"), genres.len()));
    }
    let frequency = |sequences: &[Vec<i64>]| -> Vec<f64> {
        let mut counts = vec![0.5; items as usize];
        sequences.iter().flatten().filter(|i| **i > 0).for_each(|i| counts[*i as usize - 1] += 1.0);
        let sum: f64 = counts.iter().sum();
        counts.iter().map(|c| c / sum).collect()
    };
    let bigrams = |sequences: &[Vec<i64>]| -> HashMap<(i64, i64), usize> {
        let mut counts = HashMap::new();
        let pairs = sequences.iter().flat_map(|s| s.windows(2)).filter(|w| w[0] > 0 && w[1] > 0);
        pairs.for_each(|w| *counts.entry((w[0], w[1])).or_insert(0) += 1);
        counts
    };
    let (known, made) = (bigrams(raw), bigrams(synthetic));
    if known.is_empty() || made.is_empty() {
        return Err(Error::value("sequences", "some of two or more items on both sides", "none"));
    }
    let made: HashSet<_> = made.into_keys().collect();
    let (all, seen) =
        known.iter().fold((0, 0), |(all, seen), (pair, n)| (all + n, seen + if made.contains(pair) { *n } else { 0 }));
    let (p, q) = (frequency(raw), frequency(synthetic));
    let genre_run = genres.map_or(f64::NAN, |genres| {
        let of = |i: &i64| genres[*i as usize - 1];
        let rows = synthetic.iter().map(|s| s.iter().filter(|i| **i > 0).map(of).collect::<Vec<_>>());
        let (length, runs) = rows.fold((0, 0), |(length, runs), g| {
            let breaks = g.windows(2).filter(|w| w[0] != w[1]).count();
            (length + g.len(), runs + breaks + usize::from(!g.is_empty()))
        });
        length as f64 / runs as f64
    });
    Ok(SequenceStatistics {
        frequency_kl: p.iter().zip(&q).map(|(p, q)| p * (p / q).ln()).sum(),
        bigram_coverage: f64::from(seen as u32) / f64::from(all as u32),
        genre_run,
    })
}
