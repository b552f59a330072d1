//! Timing in turns, and the ratio.

use crate::entry::{Beside, Entry, Work};
use crate::machine;
use crate::peer::{Called, Peer};
use anyhow::{Context, Result, bail};
use autodidact_core::stats::{Estimate, bootstrap_ci, median};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effort {
    /// Rounds, each a turn of both sides.
    pub rounds: usize,
    /// After this time an entry ends early, but not before seven rounds.
    pub limit: Duration,
    /// A turn repeats short work for about this long.
    pub turn: Duration,
}

impl Default for Effort {
    fn default() -> Self {
        Self { rounds: 25, limit: Duration::from_secs(15), turn: Duration::from_millis(40) }
    }
}

impl Effort {
    /// One call of each side: to see that everything runs.
    pub const fn once() -> Self {
        Self { rounds: 1, limit: Duration::ZERO, turn: Duration::ZERO }
    }
}

/// Times of one side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pace {
    /// What does the work.
    pub who: String,
    /// Seconds of a call, the median of each round's turn.
    pub seconds: Vec<f64>,
}

impl Pace {
    /// Median seconds of a call.
    pub fn median(&self) -> f64 {
        median(&self.seconds)
    }
}

/// One measured entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The entry's name.
    pub name: String,
    /// The work in words.
    pub what: String,
    /// Our side.
    pub ours: Pace,
    /// The other side.
    pub beside: Option<Pace>,
    /// Median of ours over median of the other's, with its 95 % interval.
    pub ratio: Option<Estimate>,
    /// The ratio aimed at.
    pub target: Option<f64>,
    /// Memory that one call of ours takes beyond its inputs, in MB (1e6 bytes), where the system tells.
    pub memory_mb: Option<f64>,
    /// Series and size that the entry belongs to.
    pub series: Option<(String, f64)>,
}

/// Measures an entry; `peer` is `None` where no Python is at hand, and such entries are measured alone.
///
/// # Errors
/// Those of the work on either side, and first results that do not agree.
pub fn measure(entry: Entry, peer: Option<&mut Peer>, effort: Effort) -> Result<Measured> {
    let mut ours = Side::Ours((entry.ours)()?);
    let (mut other, who) = match (entry.beside, peer) {
        (None, _) | (Some((_, Beside::Python { .. })), None) => (None, String::new()),
        (Some((label, Beside::Ours(prepare))), _) => (Some(Side::Ours(prepare()?)), label.to_owned()),
        (Some((label, Beside::Python { work, arguments })), Some(peer)) => {
            let package = peer.prepare(work, &arguments)?;
            (Some(Side::Peer(peer)), format!("{label} ({package})"))
        }
    };
    let first = ours.call(1)?.value;
    if let Some(other) = &mut other {
        check_agreement(first, other.call(1).context(who.clone())?.value, entry.agreement)?;
    }
    // Not of the first call, which also makes threads and caches that stay.
    let (second, memory_mb) = machine::memory_of(|| ours.call(1));
    second?;
    let (seconds, others) = rounds(&mut ours, other.as_mut(), effort)?;
    let ratio = (!others.is_empty()).then(|| ratio(&seconds, &others)).transpose()?;
    Ok(Measured {
        name: entry.name,
        what: entry.what,
        ours: Pace { who: "autodidact".into(), seconds },
        beside: ratio.map(|_| Pace { who, seconds: others }),
        ratio,
        target: entry.target,
        memory_mb,
        series: entry.series.map(|(name, size)| (name.to_owned(), size)),
    })
}

fn check_agreement(ours: f64, other: f64, tolerance: Option<f64>) -> Result<()> {
    // The difference of a NaN is NaN, which is within nothing.
    let agrees = |t: f64| (ours - other).abs() <= t * other.abs();
    match tolerance {
        Some(t) if !agrees(t) => {
            bail!(
                "the two sides do different work: ours gives {ours}, the other {other}, more than {t} apart (relative)"
            )
        }
        _ => Ok(()),
    }
}

/// Median of `ours` over median of `other`, the times of the same rounds, with a 95 % interval from resampling rounds.
///
/// ```
/// // Both sides slow down together in the third round; the ratio does not notice.
/// let e = autodidact_benches::measure::ratio(&[1.0, 1.0, 3.0, 1.0], &[2.0, 2.0, 6.0, 2.0]).unwrap();
/// assert_eq!((e.low, e.value, e.high), (0.5, 0.5, 0.5));
/// ```
///
/// # Errors
/// Different numbers of rounds, or none. One round gives an interval of no width.
pub fn ratio(ours: &[f64], other: &[f64]) -> Result<Estimate> {
    if ours.len() != other.len() || ours.is_empty() {
        bail!("a ratio needs the same rounds of both sides, not {} and {}", ours.len(), other.len());
    }
    let of = |rounds: &[f64]| {
        let pick = |times: &[f64]| median(&rounds.iter().map(|&r| times[r as usize]).collect::<Vec<_>>());
        pick(ours) / pick(other)
    };
    let rounds: Vec<f64> = (0..ours.len()).map(|r| r as f64).collect();
    if rounds.len() == 1 {
        return Ok(Estimate::exact(of(&rounds)));
    }
    Ok(bootstrap_ci(&rounds, of, 0.95, 2000, 0)?)
}

enum Side<'a> {
    Ours(Work),
    Peer(&'a mut Peer),
}

impl Side<'_> {
    fn call(&mut self, calls: usize) -> Result<Called> {
        match self {
            Side::Peer(peer) => peer.call(calls),
            Side::Ours(work) => {
                let mut done = Called { seconds: Vec::with_capacity(calls), value: f64::NAN };
                for _ in 0..calls {
                    let start = Instant::now();
                    done.value = work()?;
                    done.seconds.push(start.elapsed().as_secs_f64());
                }
                Ok(done)
            }
        }
    }

    /// Calls that fill a turn.
    fn calls(&mut self, turn: Duration) -> Result<usize> {
        let calls = |once: f64| (turn.as_secs_f64() / once).ceil().clamp(1.0, 10_000.0) as usize;
        match calls(self.call(1)?.seconds[0]) {
            1 => Ok(1),
            // The time of short work is better known once it is warm.
            _ => Ok(calls(self.call(2)?.seconds[1])),
        }
    }

    /// Median seconds of a call. Short work gets one call first to bring caches and threads back after the other side's turn.
    fn turn(&mut self, calls: usize) -> Result<f64> {
        let warm = usize::from(calls > 1);
        Ok(median(&self.call(calls + warm)?.seconds[warm..]))
    }
}

/// Times by round of our side and the other; the sides take turns in going first.
fn rounds(ours: &mut Side, mut other: Option<&mut Side>, effort: Effort) -> Result<(Vec<f64>, Vec<f64>)> {
    const AT_LEAST: usize = 7;
    let calls = ours.calls(effort.turn)?;
    let other_calls = other.as_mut().map_or(Ok(0), |o| o.calls(effort.turn))?;
    let (mut mine, mut others) = (vec![], vec![]);
    let start = Instant::now();
    for round in 0..effort.rounds {
        if round >= AT_LEAST && start.elapsed() > effort.limit {
            break;
        }
        if round % 2 == 0 {
            mine.push(ours.turn(calls)?);
        }
        if let Some(other) = &mut other {
            others.push(other.turn(other_calls)?);
        }
        if round % 2 == 1 {
            mine.push(ours.turn(calls)?);
        }
    }
    Ok((mine, others))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;
    use std::cell::RefCell;
    use std::rc::Rc;

    #[test]
    fn the_interval_covers_the_true_ratio_as_often_as_it_says() {
        let studies = 300;
        let covers = |study: &u64| {
            let mut rng = autodidact_core::seed::rng(*study, &["ratio"]);
            // Skewed, as times are, with a slow-down that both sides share.
            let mut times = || 1.0 + rng.random::<f64>().powi(3);
            let (ours, other): (Vec<f64>, Vec<f64>) = (0..25)
                .map(|_| {
                    let load = times();
                    (0.5 * load * times(), load * times())
                })
                .unzip();
            let e = ratio(&ours, &other).unwrap();
            e.low <= 0.5 && 0.5 <= e.high
        };
        let covered = (0..studies).filter(covers).count() as f64 / studies as f64;
        assert!(covered > 0.9, "{covered}");
    }

    #[test]
    fn a_ratio_needs_rounds_of_both_sides() {
        assert!(ratio(&[1.0], &[1.0, 2.0]).unwrap_err().to_string().contains("1 and 2"));
        assert!(ratio(&[], &[]).is_err());
        assert_eq!(ratio(&[3.0], &[2.0]).unwrap(), Estimate::exact(1.5));
    }

    #[test]
    fn the_sides_take_turns_and_turns_in_going_first() {
        let calls = Rc::new(RefCell::new(String::new()));
        let side = |name: char| {
            let calls = calls.clone();
            move || {
                let work = move || {
                    calls.borrow_mut().push(name);
                    Ok(1.0)
                };
                Ok(Box::new(work) as Work)
            }
        };
        let entry = Entry::new("a", "b", side('a')).beside_ours("other", side('b')).agreeing(0.0);
        let m = measure(entry, None, Effort { rounds: 4, turn: Duration::ZERO, ..Effort::default() }).unwrap();
        // The first results, memory, the number of calls in a turn, then the rounds.
        assert_eq!(*calls.borrow(), ["ab", "a", "ab", "ab", "ba", "ab", "ba"].concat());
        let other = m.beside.unwrap();
        assert_eq!((m.ours.seconds.len(), other.seconds.len(), other.who.as_str()), (4, 4, "other"));
        assert_eq!(m.ratio.unwrap().value, m.ours.median() / median(&other.seconds));
    }

    /// Work that only returns a number.
    fn giving(value: f64) -> impl FnOnce() -> Result<Work> {
        move || Ok(Box::new(move || Ok(value)))
    }

    #[test]
    fn sides_that_compute_different_things_are_refused() {
        let with = |other: f64, tolerance| {
            let entry = Entry::new("a", "b", giving(1.0)).beside_ours("c", giving(other)).agreeing(tolerance);
            measure(entry, None, Effort::once()).map(|_| ()).map_err(|e| e.to_string())
        };
        assert_eq!(with(1.001, 0.01), Ok(()));
        assert!(with(1.1, 0.01).unwrap_err().contains("ours gives 1, the other 1.1"));
        assert!(with(f64::NAN, 0.01).is_err());
    }

    #[test]
    fn without_python_our_side_is_measured_alone() {
        let entry = Entry::new("a", "b", giving(1.0)).beside_python("p", "w", serde_json::json!({}));
        let m = measure(entry, None, Effort::once()).unwrap();
        assert!(m.beside.is_none() && m.ratio.is_none() && m.ours.seconds.len() == 1);
    }
}
