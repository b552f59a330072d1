//! Timing in turns, and the ratio.

use crate::entry::{Beside, Entry, Point, Work};
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
    /// After this time an entry ends early.
    pub limit: Duration,
    /// But not before so many rounds.
    pub at_least: usize,
    /// A turn repeats short work for about this long.
    pub turn: Duration,
    /// First calls of both sides that take longer than this are the one round, though they also make threads and caches.
    pub patience: Duration,
}

impl Default for Effort {
    fn default() -> Self {
        Self {
            rounds: 25,
            limit: Duration::from_secs(15),
            at_least: 7,
            turn: Duration::from_millis(40),
            patience: Duration::MAX,
        }
    }
}

impl Effort {
    /// For a first look: the whole suite in a few minutes, with wide intervals.
    pub const fn quick() -> Self {
        Self {
            rounds: 7,
            limit: Duration::from_millis(300),
            at_least: 5,
            turn: Duration::from_millis(5),
            patience: Duration::from_secs(1),
        }
    }

    /// One call of each side: to see that everything runs.
    pub const fn once() -> Self {
        Self { rounds: 1, limit: Duration::ZERO, at_least: 1, turn: Duration::ZERO, patience: Duration::ZERO }
    }
}

/// Times of one side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pace {
    /// What does the work.
    pub who: String,
    /// Seconds of a call, the median of each round's turn.
    pub seconds: Vec<f64>,
    /// Memory that one call takes beyond its inputs, in MB (1e6 bytes), where the system tells.
    pub memory_mb: Option<f64>,
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
    /// Seconds of one call aimed at.
    pub limit: Option<f64>,
    /// How many things one call goes through, and what they are.
    pub items: Option<(f64, String)>,
    /// The series over problem sizes that the entry belongs to.
    pub point: Option<Point>,
}

/// Whether what was aimed at was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The whole interval is on the right side.
    Met,
    /// The interval contains the bound.
    Open,
    /// The whole interval is on the wrong side.
    Missed,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Verdict::Met => "met",
            Verdict::Open => "open",
            Verdict::Missed => "missed",
        })
    }
}

impl Measured {
    /// Whether the ratio, or else the time, is what was aimed at; `None` where nothing was, or it was not measured. A ratio of
    /// fewer than five rounds leaves it open: its interval says little.
    pub fn verdict(&self) -> Option<Verdict> {
        match (self.target, self.ratio, self.limit) {
            (Some(_), Some(r), _) if r.n < 5 => Some(Verdict::Open),
            (Some(bound), Some(r), _) if r.high <= bound => Some(Verdict::Met),
            (Some(bound), Some(r), _) if r.low > bound => Some(Verdict::Missed),
            (Some(_), Some(_), _) => Some(Verdict::Open),
            // A limit is a budget, far from what is usual: the median tells.
            (_, _, Some(limit)) if self.ours.median() <= limit => Some(Verdict::Met),
            (_, _, Some(_)) => Some(Verdict::Missed),
            _ => None,
        }
    }

    /// What comes before the first slash of the name.
    pub fn area(&self) -> &str {
        self.name.split('/').next().unwrap_or_default()
    }
}

/// Measures an entry; `peer` is `None` where no Python is at hand, and such entries are measured alone.
///
/// # Errors
/// Those of the work on either side, and first results that do not agree.
pub fn measure(entry: Entry, peer: Option<&mut Peer>, effort: Effort) -> Result<Measured> {
    let ours = Side::Ours((entry.ours)()?);
    let (other, who) = match (entry.beside, peer) {
        (None, _) | (Some((_, Beside::Python { .. })), None) => (None, String::new()),
        (Some((label, Beside::Ours(prepare))), _) => (Some(Side::Ours(prepare()?)), label.to_owned()),
        (Some((label, Beside::Python { work, arguments })), Some(peer)) => {
            let package = peer.prepare(work, &arguments)?;
            (Some(Side::Peer(peer)), format!("{label} ({package})"))
        }
    };
    let (mut ours, first) = Turns::start(ours, "autodidact".into())?;
    let mut other = match other {
        Some(side) => {
            let (turns, other) = Turns::start(side, who.clone()).context(who)?;
            check_agreement(first, other, entry.agreement)?;
            Some(turns)
        }
        None => None,
    };
    let firsts = ours.pace.seconds[0] + other.as_ref().map_or(0.0, |o| o.pace.seconds[0]);
    let (mut ours, beside) = if firsts > effort.patience.as_secs_f64() {
        (ours.pace, other.map(|other| other.pace))
    } else {
        ours.settle(effort.turn)?;
        other.iter_mut().try_for_each(|other| other.settle(effort.turn))?;
        rounds(ours, other, effort)?
    };
    if entry.elsewhere {
        ours.memory_mb = None;
    }
    let ratio = beside.as_ref().map(|beside| ratio(&ours.seconds, &beside.seconds)).transpose()?;
    Ok(Measured {
        name: entry.name,
        what: entry.what,
        ours,
        beside,
        ratio,
        target: entry.target,
        limit: entry.limit,
        items: entry.items.map(|(count, things)| (count, things.to_owned())),
        point: entry.point,
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
                let mut done = Called { seconds: Vec::with_capacity(calls), value: f64::NAN, memory_mb: None };
                for _ in 0..calls {
                    let start = Instant::now();
                    done.value = work()?;
                    done.seconds.push(start.elapsed().as_secs_f64());
                }
                Ok(done)
            }
        }
    }

    /// One call that is watched for its memory.
    fn watched(&mut self) -> Result<Called> {
        match self {
            Side::Peer(peer) => peer.watched_call(),
            Side::Ours(_) => {
                let (called, memory_mb) = machine::memory_of(|| self.call(1));
                Ok(Called { memory_mb, ..called? })
            }
        }
    }
}

/// A side with what its turns have given so far.
struct Turns<'a> {
    side: Side<'a>,
    /// Calls that fill a turn.
    calls: usize,
    pace: Pace,
}

impl<'a> Turns<'a> {
    /// With the first call, whose number is returned.
    fn start(mut side: Side<'a>, who: String) -> Result<(Self, f64)> {
        let first = side.watched()?;
        Ok((
            Self { side, calls: 1, pace: Pace { who, seconds: first.seconds, memory_mb: first.memory_mb } },
            first.value,
        ))
    }

    /// Forgets the first call, which also made threads and caches that stay, and finds out how many calls fill a turn.
    fn settle(&mut self, turn: Duration) -> Result<()> {
        let calls = |once: f64| (turn.as_secs_f64() / once).ceil().clamp(1.0, 10_000.0) as usize;
        let watched = self.side.watched()?;
        (self.pace.seconds, self.pace.memory_mb) = (vec![], watched.memory_mb);
        self.calls = match calls(watched.seconds[0]) {
            1 => 1,
            // The time of short work is better known once it is warm.
            _ => calls(self.side.call(2)?.seconds[1]),
        };
        Ok(())
    }

    /// Median seconds of a call. Short work gets one call first to bring caches and threads back after the other side's turn.
    fn take(&mut self) -> Result<()> {
        let warm = usize::from(self.calls > 1);
        let seconds = self.side.call(self.calls + warm)?.seconds;
        self.pace.seconds.push(median(&seconds[warm..]));
        Ok(())
    }
}

/// Our side's pace and the other's over the same rounds; the sides take turns in going first.
fn rounds<'a>(mut ours: Turns<'a>, mut other: Option<Turns<'a>>, effort: Effort) -> Result<(Pace, Option<Pace>)> {
    let start = Instant::now();
    for round in 0..effort.rounds {
        if round >= effort.at_least && start.elapsed() > effort.limit {
            break;
        }
        if round % 2 == 0 {
            ours.take()?;
        }
        if let Some(other) = &mut other {
            other.take()?;
        }
        if round % 2 == 1 {
            ours.take()?;
        }
    }
    Ok((ours.pace, other.map(|other| other.pace)))
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
    fn first_calls_beyond_patience_are_the_round() {
        let slow = || -> Result<Work> {
            Ok(Box::new(|| {
                std::thread::sleep(Duration::from_millis(2));
                Ok(1.0)
            }))
        };
        let with = |patience| {
            let effort = Effort { rounds: 3, turn: Duration::ZERO, patience, ..Effort::default() };
            measure(Entry::new("a", "b", slow).beside_ours("c", slow), None, effort).unwrap()
        };
        let rounds = |m: Measured| (m.ours.seconds.len(), m.beside.unwrap().seconds.len());
        assert_eq!(rounds(with(Duration::from_millis(1))), (1, 1));
        assert_eq!(rounds(with(Duration::MAX)), (3, 3));
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
        // The first results, memory, then the rounds.
        assert_eq!(*calls.borrow(), ["ab", "ab", "ab", "ba", "ab", "ba"].concat());
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
