//! What to do about it. The paper's procedures are known from its abstract; these are readings of it.

use autodidact_core::error::check_range;
use autodidact_core::{Error, Result};

/// Where the temperature should go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Hotter: the pruned network is badly connected.
    Raise,
    /// Colder.
    Lower,
}

/// The rule: raise the temperature where the connectivity is below `-eps`, else lower it.
pub fn direction(lmc: f64, eps: f64) -> Direction {
    if lmc < -eps { Direction::Raise } else { Direction::Lower }
}

/// A search for a temperature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tuning {
    /// The temperature found, an index.
    pub chosen: usize,
    /// What was measured on the way, in order, with where it pointed.
    pub path: Vec<(usize, Direction)>,
}

/// Bisects temperatures `0..count`, the hottest first, for a density: `measure` prunes and retrains a pair at a temperature and gives its
/// [`Lmc`](super::Lmc). Found is the coldest temperature that is still connected; the hottest where none is. At most `log2(count) + 2`
/// temperatures are measured.
///
/// # Errors
/// No temperatures, a start outside of them, an `eps` that is negative, those of `measure`.
pub fn tune_temperature<E: From<Error>>(
    count: usize,
    start: usize,
    eps: f64,
    mut measure: impl FnMut(usize) -> Result<f64, E>,
) -> Result<Tuning, E> {
    check_range("temperatures", count as f64, 1.0..)?;
    check_range("start", start as f64, 0.0..count as f64)?;
    check_range("eps", eps, 0.0..)?;
    // Connected at `low` and hotter, not at `high` and colder; the ends are assumed.
    let (mut low, mut high) = (None, count);
    let mut next = start;
    let mut path = vec![];
    loop {
        let to = direction(measure(next)?, eps);
        path.push((next, to));
        match to {
            Direction::Raise => high = next,
            Direction::Lower => low = Some(next),
        }
        let from = low.map_or(0, |l| l + 1);
        if from >= high {
            return Ok(Tuning { chosen: low.unwrap_or(0), path });
        }
        next = from + (high - from) / 2;
    }
}

/// The model to prune to a density, of candidates given by the connectivity and similarity `(lmc, cka)` of their pruned pairs: of those
/// with `lmc >= -eps` the most similar, else the best connected (the first of equals).
///
/// # Errors
/// No candidates, values that are not finite.
pub fn select_model(candidates: &[(f64, f64)], eps: f64) -> Result<usize> {
    if candidates.is_empty() || candidates.iter().any(|(l, c)| !l.is_finite() || !c.is_finite()) {
        return Err(Error::value("candidates", "finite connectivities and similarities", format!("{candidates:?}")));
    }
    let best = |of: &dyn Fn(usize) -> Option<f64>| {
        let scored = (0..candidates.len()).filter_map(|i| Some((i, of(i)?)));
        scored.reduce(|best, c| if c.1 > best.1 { c } else { best }).map(|b| b.0)
    };
    let connected = best(&|i| (candidates[i].0 >= -eps).then_some(candidates[i].1));
    Ok(connected.or_else(|| best(&|i| Some(candidates[i].0))).unwrap_or(0))
}
