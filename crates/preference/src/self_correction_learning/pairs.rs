//! Preference pairs from answers whose rightness is known.

use super::CorrectionType;
use serde::{Deserialize, Serialize};

/// Two answers of a model to one question, and whether each is right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged<R> {
    /// The answer before the review.
    pub first: R,
    /// The answer after it.
    pub second: R,
    /// Whether each is right.
    pub right: (bool, bool),
}

impl<R> Judged<R> {
    /// What the review did.
    pub fn correction(&self) -> CorrectionType {
        CorrectionType::classify(self.right.0, self.right.1)
    }
}

/// Which reviews pairs are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Corrections {
    /// Those that fixed a wrong answer (type 2).
    Fix,
    /// Those that broke a right one (type 3).
    Break,
    /// Both, as in the paper.
    Both,
}

/// A right and a wrong answer to the same question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponsePair<R> {
    /// Place of the question.
    pub question: usize,
    /// The right answer.
    pub chosen: R,
    /// The wrong one.
    pub rejected: R,
}

/// The pairs of records, in their order: the right answer chosen, the wrong one rejected. Both are answers to the question alone;
/// whoever trains on them leaves the review out of the prompt.
pub fn self_correction_pairs<R: Clone>(records: &[Judged<R>], which: Corrections) -> Vec<ResponsePair<R>> {
    let wanted = |r: &Judged<R>| match r.correction() {
        CorrectionType::Fix => which != Corrections::Break,
        CorrectionType::Break => which != Corrections::Fix,
        CorrectionType::Keep | CorrectionType::Fail => false,
    };
    let of = |(question, r): (usize, &Judged<R>)| {
        let (chosen, rejected) = if r.right.0 { (&r.first, &r.second) } else { (&r.second, &r.first) };
        ResponsePair { question, chosen: chosen.clone(), rejected: rejected.clone() }
    };
    records.iter().enumerate().filter(|(_, r)| wanted(r)).map(of).collect()
}

/// The control without a review: of the samples of each question with their rightness, the first right and the first wrong one, where
/// there are both.
pub fn independent_sample_pairs<R: Clone>(samples: &[Vec<(R, bool)>]) -> Vec<ResponsePair<R>> {
    let of = |(question, of_one): (usize, &Vec<(R, bool)>)| {
        let first = |right| of_one.iter().find(|s| s.1 == right).map(|s| s.0.clone());
        Some(ResponsePair { question, chosen: first(true)?, rejected: first(false)? })
    };
    samples.iter().enumerate().filter_map(of).collect()
}
