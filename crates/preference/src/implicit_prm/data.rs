//! Pairs and balanced sets from responses with outcomes.

use autodidact_core::seed::Rng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

/// A correct and an incorrect response to one prompt, by their places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponsePair {
    /// Which prompt.
    pub prompt: usize,
    /// Place of the correct response among those to the prompt.
    pub correct: usize,
    /// Place of the incorrect one.
    pub incorrect: usize,
}

/// Of each prompt, every correct response with every incorrect one; `correct[i][j]` says whether response `j` to prompt `i` is.
///
/// ```
/// use autodidact_preference::implicit_prm::all_pairs;
/// let pairs = all_pairs(&[vec![true, false, false], vec![true, true], vec![]]);
/// let places: Vec<_> = pairs.iter().map(|p| (p.prompt, p.correct, p.incorrect)).collect();
/// assert_eq!(places, [(0, 0, 1), (0, 0, 2)]);
/// ```
pub fn all_pairs(correct: &[Vec<bool>]) -> Vec<ResponsePair> {
    let places =
        |outcomes: &[bool], is: bool| -> Vec<usize> { (0..outcomes.len()).filter(|&i| outcomes[i] == is).collect() };
    let of = |(prompt, outcomes): (usize, &Vec<bool>)| {
        let incorrect = places(outcomes, false);
        let pair = move |c: usize, i: usize| ResponsePair { prompt, correct: c, incorrect: i };
        let pairs = places(outcomes, true).into_iter().flat_map(move |c| {
            let incorrect = incorrect.clone();
            incorrect.into_iter().map(move |i| pair(c, i))
        });
        pairs.collect::<Vec<_>>()
    };
    correct.iter().enumerate().flat_map(of).collect()
}

/// What is made equal by leaving responses out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Balance {
    /// Nothing.
    None,
    /// The numbers of correct and incorrect responses in all.
    Overall,
    /// Those of each prompt (one whose responses are all correct or all incorrect loses them all).
    PerPrompt,
}

/// The responses that stay, `(prompt, place)`, in order; which of the surplus go is drawn from `rng`.
pub fn balanced(correct: &[Vec<bool>], balance: Balance, rng: &mut Rng) -> Vec<(usize, usize)> {
    let all = |prompt: usize| (0..correct[prompt].len()).map(move |place| (prompt, place));
    let mut equal = |candidates: Vec<(usize, usize)>| {
        let (mut right, mut wrong): (Vec<_>, Vec<_>) = candidates.into_iter().partition(|&(i, j)| correct[i][j]);
        let count = right.len().min(wrong.len());
        for side in [&mut right, &mut wrong] {
            side.shuffle(rng);
            side.truncate(count);
        }
        right.append(&mut wrong);
        right.sort_unstable();
        right
    };
    let prompts = 0..correct.len();
    match balance {
        Balance::None => prompts.flat_map(all).collect(),
        Balance::Overall => equal(prompts.flat_map(all).collect()),
        Balance::PerPrompt => prompts.flat_map(|i| equal(all(i).collect())).collect(),
    }
}
