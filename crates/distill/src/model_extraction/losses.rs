//! Losses on ranked lists. Scores `[N, I]` have column `i` for item `i + 1`; lists `[N, k]` hold items, best first.

use autodidact_core::device::in_full_precision;
use autodidact_core::error::{check_matrix, check_range};
use autodidact_core::{Error, Result};
use tch::{Kind, Tensor};

/// Checks scores `[N, I]` and lists `[N, k]`; returns `(N, I, k)`.
pub(super) fn check_lists(what: &str, scores: &Tensor, lists: &Tensor) -> Result<(i64, i64, i64)> {
    let (n, items) = check_matrix("scores", scores)?;
    check_items(what, lists, items)?;
    match lists.size()[..] {
        [rows, k] if rows == n && k <= items => Ok((n, items, k)),
        _ => Err(Error::shape(what, format!("[{n}, k] of at most {items} items"), lists)),
    }
}

fn check_items(what: &str, lists: &Tensor, items: i64) -> Result<()> {
    if lists.dim() != 2 || lists.kind() != Kind::Int64 || lists.numel() == 0 {
        return Err(Error::shape(what, "Int64 [N, k] of at least one item", lists));
    }
    let (low, high) = (lists.min().int64_value(&[]), lists.max().int64_value(&[]));
    if low < 1 || high > items {
        return Err(Error::value(what, format!("items from 1 to {items}"), format!("from {low} to {high}")));
    }
    Ok(())
}

/// For each list `[N, k]` of different items, `count` items outside of it, drawn uniformly with replacement by libtorch's generator:
/// `[N, count]`.
///
/// # Errors
/// Items outside `1..=items`, lists of all items, nothing to draw.
pub fn sample_negatives(lists: &Tensor, items: i64, count: i64) -> Result<Tensor> {
    check_items("lists", lists, items)?;
    let [n, k] = lists.size()[..] else { return Err(Error::shape("lists", "[N, k]", lists)) };
    check_range("items outside the lists", (items - k) as f64, 1.0..)?;
    check_range("negatives", count as f64, 1.0..)?;
    let drawn = Tensor::randint(items - k, [n, count], (Kind::Int64, lists.device()));
    // The r-th item outside a sorted list l lies behind all l_j (from 0) with l_j - j <= r.
    let gaps = lists.sort(1, false).0 - 1 - Tensor::arange(k, (Kind::Int64, lists.device()));
    Ok(&drawn + drawn.searchsorted::<Tensor>(&gaps.contiguous(), false, true, "right", None) + 1)
}

/// The ranking loss of list distillation (Yue, He, Zeng and McAuley, 2021; arXiv 2109.01165), a scalar, mean over the rows:
/// `mean_{i<k} max(0, m1 - (S_{l_i} - S_{l_{i+1}})) + mean_i max(0, m2 - (S_{l_i} - S_{n_i}))` of a list `l` and negatives `n`, both `[N, k]`.
/// The first part is absent from lists of one item.
///
/// # Errors
/// Shapes that differ, items without a score, negative margins.
pub fn list_ranking_loss(scores: &Tensor, lists: &Tensor, negatives: &Tensor, m1: f64, m2: f64) -> Result<Tensor> {
    let (n, _, k) = check_lists("lists", scores, lists)?;
    check_lists("negatives", scores, negatives)?;
    if negatives.size() != [n, k] {
        return Err(Error::shape("negatives", format!("[{n}, {k}], one for each item of the lists"), negatives));
    }
    check_range("m1", m1, 0.0..)?;
    check_range("m2", m2, 0.0..)?;
    in_full_precision([scores], |[scores]| {
        let of = |items: &Tensor| scores.gather(1, &(items - 1), false);
        let (listed, others) = (of(lists), of(negatives));
        let hinge = |margin: f64, better: &Tensor, worse: &Tensor| (worse - better + margin).relu().mean(scores.kind());
        let apart = hinge(m2, &listed, &others);
        if k == 1 {
            return Ok(apart);
        }
        Ok(apart + hinge(m1, &listed.narrow(1, 0, k - 1), &listed.narrow(1, 1, k - 1)))
    })
}

/// What [`bidirectional_repair_loss`] finds.
#[derive(Debug)]
pub struct Repair {
    /// The loss, a scalar.
    pub loss: Tensor,
    /// Which of the victim's top `c` the surrogate misses, `[N, c]`.
    pub missed: Tensor,
    /// The surrogate's current top `c`, `[N, c]`, and which of them do not belong there.
    pub top: Tensor,
    /// Marks intruders among `top`, `[N, c]`.
    pub intruders: Tensor,
}

/// A reconstruction of the paper's bidirectional repair loss from its description. With the victim's first `c` items of a list and the
/// surrogate's current top `c`, items that the surrogate misses must rise above those that intrude:
/// `max(0, margin - (S_m - S_j))` for every missed item `m` and intruder `j`, mean over all pairs of the batch; 0 when all lists agree. The
/// choice of items gets no gradient.
///
/// # Errors
/// Shapes that differ, items without a score, `c` above the length of the lists, a negative margin.
pub fn bidirectional_repair_loss(scores: &Tensor, lists: &Tensor, c: i64, margin: f64) -> Result<Repair> {
    let (_, _, k) = check_lists("lists", scores, lists)?;
    check_range("c", c as f64, 1.0..=k as f64)?;
    check_range("margin", margin, 0.0..)?;
    in_full_precision([scores], |[scores]| {
        let wanted = lists.narrow(1, 0, c);
        let top = scores.detach().topk(c, 1, true, true).1 + 1;
        let equal = wanted.unsqueeze(2).eq_tensor(&top.unsqueeze(1));
        let missed = equal.any_dim(2, false).logical_not();
        let intruders = equal.any_dim(1, false).logical_not();
        let pairs = missed.unsqueeze(2).logical_and(&intruders.unsqueeze(1)).to_kind(scores.kind());
        let of = |items: &Tensor| scores.gather(1, &(items - 1), false);
        let hinges = (of(&top).unsqueeze(1) - of(&wanted).unsqueeze(2) + margin).relu();
        let count = pairs.sum(scores.kind()).clamp_min(1.0);
        Ok(Repair { loss: (hinges * pairs).sum(scores.kind()) / count, missed, top, intruders })
    })
}
