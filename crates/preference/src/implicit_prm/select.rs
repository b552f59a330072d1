//! The choice among responses by scores, and how good scores of steps are.

use autodidact_core::error::check_range;
use autodidact_core::{Error, Result};

fn check_numbers(what: &str, values: &[f64]) -> Result<()> {
    if values.is_empty() || values.iter().any(|v| v.is_nan()) {
        let got = if values.is_empty() { "none" } else { "NaN" };
        return Err(Error::value(what, "at least one number, no NaN", got));
    }
    Ok(())
}

/// The place of the highest score, the first of several.
///
/// # Errors
/// No scores, NaN.
pub fn best_of_n(scores: &[f64]) -> Result<usize> {
    check_numbers("scores", scores)?;
    Ok((0..scores.len()).rev().max_by(|a, b| scores[*a].total_cmp(&scores[*b])).expect("there is a score"))
}

/// Probability that the response with the highest score among `n` drawn from these without replacement is correct, ties being broken by
/// chance: best-of-`n` accuracy as its exact mean over all subsets, instead of that of one. Equal scores give the share of correct ones.
///
/// ```
/// use autodidact_preference::implicit_prm::expected_best_of_n;
/// // Of the pairs from scores 3 (wrong), 2 (right), 1 (wrong), one has the right response at its top.
/// let p = expected_best_of_n(&[3.0, 1.0, 2.0], &[false, false, true], 2).unwrap();
/// assert!((p - 1.0 / 3.0).abs() < 1e-12);
/// ```
///
/// # Errors
/// No scores, NaN, another number of outcomes, `n` outside 1 to the number of scores.
pub fn expected_best_of_n(scores: &[f64], correct: &[bool], n: usize) -> Result<f64> {
    check_numbers("scores", scores)?;
    let count = scores.len();
    if correct.len() != count {
        return Err(Error::value("outcomes", format!("those of {count} responses"), correct.len()));
    }
    check_range("n", n as f64, 1.0..=count as f64)?;
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let (mut expected, mut from) = (0.0, 0);
    for group in order.chunk_by(|a, b| scores[*a] == scores[*b]) {
        let to = from + group.len();
        // All n come from behind the group's start, and not all from behind its end.
        let top = avoiding(from, count, n) - avoiding(to, count, n);
        let right = group.iter().filter(|&&i| correct[i]).count();
        expected += top * right as f64 / group.len() as f64;
        from = to;
    }
    Ok(expected)
}

/// Probability that none of `n` draws without replacement from `count` hits one of `special`.
fn avoiding(special: usize, count: usize, n: usize) -> f64 {
    (0..n).map(|i| (count - i).saturating_sub(special) as f64 / (count - i) as f64).product()
}

/// Probability that at least one of `n` responses drawn without replacement from `samples`, `correct` of which are right, is right.
///
/// # Errors
/// More correct ones than samples, `n` outside 1 to their number.
pub fn pass_at_n(correct: usize, samples: usize, n: usize) -> Result<f64> {
    check_range("n", n as f64, 1.0..=samples as f64)?;
    check_range("correct samples", correct as f64, 0.0..=samples as f64)?;
    Ok(1.0 - avoiding(correct, samples, n))
}

/// The answer with the most weight: the place of its first response. Of several with the same weight the first counts.
///
/// ```
/// use autodidact_preference::implicit_prm::weighted_majority_vote;
/// assert_eq!(weighted_majority_vote(&["7", "3", "3"], &[0.9, 0.5, 0.3]).unwrap(), 0);
/// assert_eq!(weighted_majority_vote(&["7", "3", "3"], &[0.9, 0.5, 0.5]).unwrap(), 1);
/// ```
///
/// # Errors
/// No answers, NaN, another number of weights.
pub fn weighted_majority_vote<T: PartialEq>(answers: &[T], weights: &[f64]) -> Result<usize> {
    check_numbers("weights", weights)?;
    if answers.len() != weights.len() {
        return Err(Error::value("weights", format!("those of {} answers", answers.len()), weights.len()));
    }
    let weight = |answer: &T| -> f64 { answers.iter().zip(weights).filter(|a| a.0 == answer).map(|a| a.1).sum() };
    let sums: Vec<f64> = answers.iter().map(weight).collect();
    let best = best_of_n(&sums)?;
    Ok(answers.iter().position(|a| *a == answers[best]).expect("it is one of them"))
}

/// The most frequent answer: the place of its first response.
///
/// # Errors
/// No answers.
pub fn majority_vote<T: PartialEq>(answers: &[T]) -> Result<usize> {
    weighted_majority_vote(answers, &vec![1.0; answers.len()])
}

/// Probability that a value from `higher` exceeds one from `lower`, ties as halves (the area under the ROC curve): 1/2 where the values
/// tell nothing.
///
/// # Errors
/// An empty list, NaN.
pub fn separation(higher: &[f64], lower: &[f64]) -> Result<f64> {
    check_numbers("values", higher)?;
    check_numbers("values", lower)?;
    let mut sorted = lower.to_vec();
    sorted.sort_by(f64::total_cmp);
    let below = |h: f64| sorted.partition_point(|l| *l < h) + sorted.partition_point(|l| *l <= h);
    let sum: usize = higher.iter().map(|&h| below(h)).sum();
    Ok(sum as f64 / (2.0 * higher.len() as f64 * lower.len() as f64))
}

/// How well first errors are found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FirstErrors {
    /// Share of the faultless responses that are recognised.
    pub correct: f64,
    /// Share of the others whose first wrong step is named.
    pub erroneous: f64,
    /// Harmonic mean of the two.
    pub f1: f64,
}

impl FirstErrors {
    fn new(correct: f64, erroneous: f64) -> Self {
        let sum = correct + erroneous;
        Self { correct, erroneous, f1: if sum > 0.0 { 2.0 * correct * erroneous / sum } else { 0.0 } }
    }
}

/// Responses of either kind, and their lists checked.
fn kinds(values: &[Vec<f64>], first_error: &[Option<usize>]) -> Result<(usize, usize)> {
    if values.len() != first_error.len() {
        return Err(Error::value("first errors", format!("those of {} responses", values.len()), first_error.len()));
    }
    for (steps, error) in values.iter().zip(first_error) {
        check_numbers("values of steps", steps)?;
        if let Some(e) = error.filter(|e| *e >= steps.len()) {
            return Err(Error::value("first error", format!("one of {} steps", steps.len()), e));
        }
    }
    let faultless = first_error.iter().filter(|e| e.is_none()).count();
    match (faultless, first_error.len() - faultless) {
        (0, _) | (_, 0) => Err(Error::value("responses", "some with and some without errors", "one kind only")),
        both => Ok(both),
    }
}

/// Takes the first step whose value is below `threshold` for the first wrong one, of responses whose steps have these values and whose
/// first wrong step is known (`None`: faultless).
///
/// # Errors
/// Lists that differ in length or are empty, NaN, errors that are no steps, responses of one kind only.
pub fn first_error_f1(values: &[Vec<f64>], first_error: &[Option<usize>], threshold: f64) -> Result<FirstErrors> {
    let (faultless, wrong) = kinds(values, first_error)?;
    let found = |steps: &Vec<f64>| steps.iter().position(|v| *v < threshold);
    let (mut correct, mut erroneous) = (0, 0);
    for (_, error) in values.iter().zip(first_error).filter(|(steps, error)| found(steps) == **error) {
        *if error.is_none() { &mut correct } else { &mut erroneous } += 1;
    }
    Ok(FirstErrors::new(f64::from(correct) / faultless as f64, f64::from(erroneous) / wrong as f64))
}

/// The threshold with the highest [`first_error_f1`] on these responses.
///
/// # Errors
/// As [`first_error_f1`].
pub fn best_threshold(values: &[Vec<f64>], first_error: &[Option<usize>]) -> Result<f64> {
    let (faultless, wrong) = kinds(values, first_error)?;
    // A response is judged rightly by the thresholds of one interval (low, high]: these are its ends.
    let mut changes: Vec<(f64, bool, i32)> = vec![];
    for (steps, error) in values.iter().zip(first_error) {
        let before = &steps[..error.unwrap_or(steps.len())];
        let high = before.iter().copied().fold(f64::INFINITY, f64::min);
        let low = error.map_or(f64::NEG_INFINITY, |e| steps[e]);
        if low < high {
            changes.push((low, error.is_none(), 1));
            changes.push((high, error.is_none(), -1));
        }
    }
    changes.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut best, mut counts) = ((f64::NEG_INFINITY, f64::NAN), [0i32; 2]);
    for (i, &(at, is_faultless, change)) in changes.iter().enumerate() {
        counts[usize::from(is_faultless)] += change;
        // Between this value and the next.
        let next = changes.get(i + 1).map_or(f64::INFINITY, |c| c.0);
        if next <= at {
            continue;
        }
        let f1 = FirstErrors::new(f64::from(counts[1]) / faultless as f64, f64::from(counts[0]) / wrong as f64).f1;
        if f1 > best.0 {
            let inside = match (at.is_finite(), next.is_finite()) {
                (true, true) => next,
                (true, false) => at + 1.0,
                _ => next.min(f64::MAX),
            };
            best = (f1, inside);
        }
    }
    Ok(best.1)
}
