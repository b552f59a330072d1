//! Answers in turns: a question, an answer, a request to review it, another answer.

use autodidact_core::{Error, Result};

/// An answer and its review.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TwoTurn {
    /// The first answer.
    pub first: Vec<i64>,
    /// The request to review it.
    pub review: Vec<i64>,
    /// The answer after it.
    pub second: Vec<i64>,
}

/// Answers to all questions, then answers after each of `reviews` requests to review the last one, each given all that was said before:
/// `question, answer, review, answer, review, ...`. `answer` continues contexts, all of a turn at once and in the order of the
/// questions; what goes with them (images, a sampler, a temperature) is its own. Returns the answers turn by turn.
///
/// ```
/// use autodidact_core::{Error, Result};
/// use autodidact_preference::self_correction_learning::iterate_review;
/// // A model that says how many tokens it has read.
/// let count = |contexts: &[Vec<i64>]| -> Result<Vec<Vec<i64>>> {
///     Ok(contexts.iter().map(|c| vec![c.len() as i64]).collect())
/// };
/// let turns = iterate_review::<Error>(&[vec![5, 5, 5]], &[9, 9], 2, count).unwrap();
/// assert_eq!(turns, [[[3]], [[6]], [[9]]]);
/// ```
///
/// # Errors
/// Those of `answer`; another number of answers than questions.
pub fn iterate_review<E: From<Error>>(
    questions: &[Vec<i64>],
    review: &[i64],
    reviews: usize,
    mut answer: impl FnMut(&[Vec<i64>]) -> Result<Vec<Vec<i64>>, E>,
) -> Result<Vec<Vec<Vec<i64>>>, E> {
    let mut contexts = questions.to_vec();
    let mut turns: Vec<Vec<Vec<i64>>> = vec![];
    for turn in 0..=reviews {
        if turn > 0 {
            for (context, said) in contexts.iter_mut().zip(&turns[turn - 1]) {
                context.extend_from_slice(said);
                context.extend_from_slice(review);
            }
        }
        let said = answer(&contexts)?;
        if said.len() != questions.len() {
            return Err(
                Error::value("answers", format!("{}, one to each question", questions.len()), said.len()).into()
            );
        }
        turns.push(said);
    }
    Ok(turns)
}

/// One answer and one review of it for each question; see [`iterate_review`].
///
/// # Errors
/// As [`iterate_review`].
pub fn run_two_turn<E: From<Error>>(
    questions: &[Vec<i64>],
    review: &[i64],
    answer: impl FnMut(&[Vec<i64>]) -> Result<Vec<Vec<i64>>, E>,
) -> Result<Vec<TwoTurn>, E> {
    let mut turns = iterate_review(questions, review, 1, answer)?.into_iter();
    let (first, second) = (turns.next().unwrap_or_default(), turns.next().unwrap_or_default());
    let both = first.into_iter().zip(second);
    Ok(both.map(|(first, second)| TwoTurn { first, review: review.to_vec(), second }).collect())
}
