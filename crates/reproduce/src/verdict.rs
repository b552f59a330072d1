//! Verdicts, by rules that are code.
//!
//! Each rule turns numbers into an [`Estimate`] and a [`Verdict`]. All use two-sided 95 % intervals, so that an effect that
//! is not there is "reproduced" in about 2.5 % of studies; the tests simulate a thousand studies of each kind.

use autodidact_core::stats::{self, Estimate};
use serde::{Deserialize, Serialize};

/// Level of all intervals.
pub const LEVEL: f64 = 0.95;

/// Fewest seeds for a verdict on a random quantity.
pub const MIN_SEEDS: usize = 3;

/// The outcome of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The criterion is met.
    Reproduced,
    /// A part of it, or its weaker form, is.
    Partly,
    /// It is not.
    NotReproduced,
    /// Smoke runs, too few seeds, or a claim that this scale cannot test.
    NotJudged,
}

impl Verdict {
    /// As `run.json` spells it.
    pub fn key(self) -> &'static str {
        match self {
            Verdict::Reproduced => "reproduced",
            Verdict::Partly => "partly",
            Verdict::NotReproduced => "not_reproduced",
            Verdict::NotJudged => "not_judged",
        }
    }

    /// In words.
    pub fn words(self) -> String {
        self.key().replace('_', " ")
    }

    /// Reproduced or not, by a condition.
    pub fn of(condition: bool) -> Self {
        if condition { Verdict::Reproduced } else { Verdict::NotReproduced }
    }

    /// The verdict of a study of so many seeds: not judged below [`MIN_SEEDS`].
    pub fn with_seeds(self, seeds: usize) -> Self {
        if seeds >= MIN_SEEDS { self } else { Verdict::NotJudged }
    }

    /// The outcome of a claim with several parts: all, some or none; not judged if a part is not.
    pub fn all(parts: &[Verdict]) -> Self {
        let met = parts.iter().filter(|v| **v == Verdict::Reproduced).count();
        let some = parts.iter().any(|v| matches!(v, Verdict::Reproduced | Verdict::Partly));
        match () {
            _ if parts.is_empty() || parts.contains(&Verdict::NotJudged) => Verdict::NotJudged,
            _ if met == parts.len() => Verdict::Reproduced,
            _ if some => Verdict::Partly,
            _ => Verdict::NotReproduced,
        }
    }
}

/// A rule's result.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judgement {
    /// The quantity that the rule looks at.
    pub estimate: Estimate,
    /// The outcome.
    pub verdict: Verdict,
}

/// The quantity with its interval, to two digits; `{:+}` gives its sign.
impl std::fmt::Display for Judgement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Estimate { value, low, high, .. } = self.estimate;
        if !value.is_finite() {
            return f.write_str("unknown (too few seeds)");
        }
        if f.sign_plus() {
            f.write_str(if value < 0.0 { "" } else { "+" })?;
        }
        write!(f, "{value:.2} ({low:.2} to {high:.2})")
    }
}

impl Judgement {
    /// The verdict of a criterion whose weaker form is that the quantity is above 0: partly where only that holds.
    pub fn or_partly(&self) -> Verdict {
        match self.verdict {
            Verdict::NotReproduced if self.estimate.value > 0.0 => Verdict::Partly,
            v => v,
        }
    }

    fn of(estimate: Option<Estimate>, seeds: usize, met: impl Fn(&Estimate) -> bool) -> Self {
        let unknown = Estimate { value: f64::NAN, low: f64::NAN, high: f64::NAN, n: seeds };
        let verdict = match &estimate {
            Some(e) => Verdict::of(met(e)).with_seeds(seeds),
            None => Verdict::NotJudged,
        };
        Self { estimate: estimate.unwrap_or(unknown), verdict }
    }
}

/// Mean over seeds with its interval; of a single value, the value alone.
pub fn estimate(values: &[f64]) -> Estimate {
    stats::mean_ci(values, LEVEL).unwrap_or(Estimate::exact(stats::mean(values)))
}

/// Mean and half the width of its interval (0 of a single value), for plots.
pub fn summary(values: &[f64]) -> (f64, f64) {
    (stats::mean(values), stats::mean_ci(values, LEVEL).map_or(0.0, |e| e.high - e.value))
}

/// Method better than baseline: the paired difference `method - baseline` exceeds `margin` with its whole interval.
pub fn difference(method: &[f64], baseline: &[f64], margin: f64) -> Judgement {
    let e = stats::paired_difference_ci(method, baseline, LEVEL).ok();
    Judgement::of(e, method.len(), |e| e.low > margin)
}

/// Variant no better than baseline by more than `margin`: the whole interval of `variant - baseline` is at most that.
pub fn at_most(variant: &[f64], baseline: &[f64], margin: f64) -> Judgement {
    let e = stats::paired_difference_ci(variant, baseline, LEVEL).ok();
    Judgement::of(e, variant.len(), |e| e.high <= margin)
}

/// Of a criterion on means only: `method` is above `baseline` in every seed. Partly where only the mean is.
pub fn all_above(method: &[f64], baseline: &[f64]) -> Verdict {
    let gains: Vec<f64> = method.iter().zip(baseline).map(|(m, b)| m - b).collect();
    let verdict = match () {
        _ if gains.iter().all(|g| *g > 0.0) => Verdict::Reproduced,
        _ if stats::mean(&gains) > 0.0 => Verdict::Partly,
        _ => Verdict::NotReproduced,
    };
    verdict.with_seeds(gains.len())
}

/// Ratio of paired positive quantities: the interval of the geometric mean of `method/baseline` lies above `threshold`.
pub fn ratio(method: &[f64], baseline: &[f64], threshold: f64) -> Judgement {
    let logs: Vec<f64> = method.iter().zip(baseline).map(|(m, b)| (m / b).ln()).collect();
    let e = stats::mean_ci(&logs, LEVEL).ok();
    let e = e.map(|e| Estimate { value: e.value.exp(), low: e.low.exp(), high: e.high.exp(), n: e.n });
    Judgement::of(e, logs.len(), |e| e.low > threshold)
}

/// Monotone trend: slopes of `y` on `x`, one per seed, whose mean's interval lies above 0.
pub fn trend(x: &[f64], y_by_seed: &[Vec<f64>]) -> Judgement {
    let slopes: Option<Vec<f64>> = y_by_seed.iter().map(|y| stats::slope(x, y).ok()).collect();
    let e = slopes.and_then(|s| stats::mean_ci(&s, LEVEL).ok());
    Judgement::of(e, y_by_seed.len(), |e| e.low > 0.0)
}

/// Rank correlation of pairs of independent observations: Spearman's coefficient is at least `minimum`, and its interval
/// lies above 0.
pub fn correlation(x: &[f64], y: &[f64], minimum: f64) -> Judgement {
    let e = stats::spearman_ci(x, y, LEVEL).ok();
    Judgement::of(e, x.len(), |e| e.value >= minimum && e.low > 0.0)
}

/// A proportion above a rate: Wilson's interval lies above `minimum`.
pub fn rate(successes: usize, trials: usize, minimum: f64) -> Judgement {
    let e = stats::wilson_ci(successes, trials, LEVEL).ok();
    Judgement::of(e, trials, |e| e.low > minimum)
}

/// An exact statement: every value is at most `bound` (errors of identities, deterministic figures).
pub fn within(values: &[f64], bound: f64) -> Judgement {
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let known = !values.is_empty() && values.iter().all(|v| !v.is_nan());
    let verdict = if values.is_empty() { Verdict::NotJudged } else { Verdict::of(known && largest <= bound) };
    Judgement { estimate: Estimate { n: values.len(), ..Estimate::exact(largest) }, verdict }
}

/// What a claim's judgement puts on record.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// The claim's id.
    pub id: &'static str,
    /// The measured quantity with its interval; NaN where there is none.
    pub estimate: Estimate,
    /// The value it is compared with.
    pub baseline: Option<f64>,
    /// The outcome.
    pub verdict: Verdict,
    /// What was measured, in words and numbers; why the outcome is what it is.
    pub note: String,
}

impl Finding {
    /// A finding from one rule.
    pub fn new(id: &'static str, judgement: Judgement, note: impl Into<String>) -> Self {
        let Judgement { estimate, verdict } = judgement;
        Self { id, estimate, baseline: None, verdict, note: note.into() }
    }

    /// The same with the baseline's value.
    pub fn against(mut self, baseline: f64) -> Self {
        self.baseline = Some(baseline);
        self
    }

    /// The same with another verdict (of a claim with several parts).
    pub fn verdict(mut self, verdict: Verdict) -> Self {
        self.verdict = verdict;
        self
    }

    /// A claim that this scale cannot test, with the reason.
    pub fn not_judged(id: &'static str, why: impl Into<String>) -> Self {
        let estimate = Estimate { value: f64::NAN, low: f64::NAN, high: f64::NAN, n: 0 };
        Self { id, estimate, baseline: None, verdict: Verdict::NotJudged, note: why.into() }
    }
}
