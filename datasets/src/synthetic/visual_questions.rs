//! Questions with four options about two handwritten digits: the smallest task in which a model has to look, compute and choose.

use crate::image::ImageSet;
use autodidact_core::seed::Rng;
use autodidact_core::{Error, Result};
use rand::RngExt;
use rand::seq::{IndexedRandom, SliceRandom};
use tch::Tensor;

/// What is asked of the two digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DigitOperation {
    /// Their sum.
    Sum,
    /// Their distance.
    Difference,
    /// The last digit of their product.
    Product,
    /// The larger one.
    Maximum,
    /// 1 if both are even or both are odd, else 0.
    SameParity,
}

impl DigitOperation {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Sum, Self::Difference, Self::Product, Self::Maximum, Self::SameParity];

    /// The result for two digits: 0 to 18.
    pub fn apply(self, a: usize, b: usize) -> usize {
        match self {
            Self::Sum => a + b,
            Self::Difference => a.abs_diff(b),
            Self::Product => a * b % 10,
            Self::Maximum => a.max(b),
            Self::SameParity => usize::from((a + b).is_multiple_of(2)),
        }
    }
}

/// Digits that a hasty reader takes for each digit.
const LOOKALIKES: [&[usize]; 10] =
    [&[6, 8], &[7, 8], &[7, 3], &[8, 5, 9], &[9, 6], &[3, 9], &[0, 8], &[1, 9], &[1, 3, 9], &[4, 3, 8]];

const OPTIONS: usize = 4;

/// A question about two digits.
///
/// As tokens (a vocabulary of 36: [`PAD`](Self::PAD), [`BOS`](Self::BOS), [`SEP`](Self::SEP), [`EOS`](Self::EOS), four requests for a
/// [review](Self::REVIEW), five operations, the letters A to D, the numbers 0 to 18) it is `BOS operation A n B n C n D n SEP`, and its
/// answer `digit digit result letter EOS`: first what is seen, then what follows, then the choice.
///
/// ```
/// use autodidact_datasets::synthetic::{AnswerFault, DigitOperation, VisualQuestion};
/// let q = VisualQuestion { digits: [3, 8], operation: DigitOperation::Sum, options: [11, 12, 6, 5], right: 0 };
/// assert_eq!(q.fault(&q.answer()), None);
/// // An 8 read as a 3, and rightly added.
/// let misread = VisualQuestion { digits: [3, 3], right: 2, ..q };
/// assert_eq!(q.fault(&misread.answer()), Some(AnswerFault::Digit));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VisualQuestion {
    /// The digits in the image, 0 to 9.
    pub digits: [usize; 2],
    /// What is asked.
    pub operation: DigitOperation,
    /// Numbers behind the letters A to D, all different, 0 to 18.
    pub options: [usize; OPTIONS],
    /// Place of the right one.
    pub right: usize,
}

/// Where an answer first goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AnswerFault {
    /// It is not two digits, a number, a letter and an end.
    Form,
    /// A digit is misread.
    Digit,
    /// The digits are right, and the result is not.
    Result,
    /// The result is right, and the letter is not.
    Letter,
}

impl VisualQuestion {
    /// Fills sequences.
    pub const PAD: i64 = 0;
    /// Beginning of a question.
    pub const BOS: i64 = 1;
    /// Between question and answer.
    pub const SEP: i64 = 2;
    /// End of an answer.
    pub const EOS: i64 = 3;
    /// Four ways to ask for a review of the answer before.
    pub const REVIEW: [i64; 4] = [4, 5, 6, 7];
    /// The first of five operations, in the order of [`DigitOperation::ALL`].
    pub const OPERATION: i64 = 8;
    /// The first of four letters.
    pub const LETTER: i64 = 13;
    /// The number 0, the first of 19.
    pub const NUMBER: i64 = 17;
    /// Tokens.
    pub const VOCAB: i64 = 36;
    /// Tokens of an answer, its end included.
    pub const MOST: usize = 5;

    /// A random question about given digits. The wrong options are what the operation gives when one of the digits is misread (by one,
    /// or for one that looks like it), and what other operations give; where these are fewer than three, any numbers.
    ///
    /// # Errors
    /// Digits above 9.
    pub fn draw(digits: [usize; 2], rng: &mut Rng) -> Result<Self> {
        let operation = *DigitOperation::ALL.choose(rng).expect("there are five");
        Self::draw_of(operation, digits, rng)
    }

    /// The same for a given operation.
    ///
    /// # Errors
    /// Digits above 9.
    pub fn draw_of(operation: DigitOperation, digits: [usize; 2], rng: &mut Rng) -> Result<Self> {
        let [a, b] = digits;
        if a > 9 || b > 9 {
            return Err(Error::value("digits", "0 to 9", format!("{digits:?}")));
        }
        let truth = operation.apply(a, b);
        let mut wrong: Vec<usize> = vec![];
        let misread = |d: usize| {
            let near = [d.checked_sub(1), Some(d + 1)].into_iter().flatten().filter(|&x| x <= 9);
            near.chain(LOOKALIKES[d].iter().copied()).collect::<Vec<_>>()
        };
        wrong.extend(misread(a).into_iter().map(|x| operation.apply(x, b)));
        wrong.extend(misread(b).into_iter().map(|x| operation.apply(a, x)));
        wrong.extend(DigitOperation::ALL.map(|other| other.apply(a, b)));
        wrong.sort_unstable();
        wrong.dedup();
        wrong.retain(|&x| x != truth);
        wrong.shuffle(rng);
        while wrong.len() < OPTIONS - 1 {
            let number = rng.random_range(0..=18);
            if number != truth && !wrong.contains(&number) {
                wrong.push(number);
            }
        }
        let right = rng.random_range(0..OPTIONS);
        let mut others = wrong.into_iter();
        let options = std::array::from_fn(|i| if i == right { truth } else { others.next().expect("three or more") });
        Ok(Self { digits, operation, options, right })
    }

    fn number(n: usize) -> i64 {
        Self::NUMBER + n as i64
    }

    /// The question as tokens.
    pub fn tokens(&self) -> Vec<i64> {
        let place = DigitOperation::ALL.iter().position(|o| *o == self.operation).expect("all are listed");
        let mut out = vec![Self::BOS, Self::OPERATION + place as i64];
        for (i, &n) in self.options.iter().enumerate() {
            out.extend([Self::LETTER + i as i64, Self::number(n)]);
        }
        out.push(Self::SEP);
        out
    }

    /// The right answer, with its end.
    pub fn answer(&self) -> Vec<i64> {
        let [a, b] = self.digits.map(Self::number);
        let result = Self::number(self.operation.apply(self.digits[0], self.digits[1]));
        vec![a, b, result, Self::LETTER + self.right as i64, Self::EOS]
    }

    /// The option that an answer chooses, its first letter; `None` where there is no letter before the end.
    pub fn choice(answer: &[i64]) -> Option<usize> {
        let told = answer.iter().take_while(|&&t| t != Self::EOS);
        let mut places = told.filter_map(|t| usize::try_from(t - Self::LETTER).ok());
        places.find(|&p| p < OPTIONS)
    }

    /// Whether an answer chooses the right option, whatever it says before.
    pub fn is_right(&self, answer: &[i64]) -> bool {
        Self::choice(answer) == Some(self.right)
    }

    /// Where an answer first goes wrong. One that goes wrong may still choose the right option.
    pub fn fault(&self, answer: &[i64]) -> Option<AnswerFault> {
        let is_number = |t: &i64| (Self::NUMBER..Self::VOCAB).contains(t);
        let formed = answer.len() == Self::MOST
            && answer[..3].iter().all(is_number)
            && Self::choice(&answer[3..4]).is_some()
            && answer[4] == Self::EOS;
        let right = self.answer();
        let first = answer.iter().zip(&right).position(|(a, b)| a != b);
        match first {
            _ if !formed => Some(AnswerFault::Form),
            None => None,
            Some(0 | 1) => Some(AnswerFault::Digit),
            Some(2) => Some(AnswerFault::Result),
            Some(_) => Some(AnswerFault::Letter),
        }
    }
}

/// Two digits side by side: pairs of images of one set.
#[derive(Debug)]
pub struct DigitPairs {
    /// What is in them.
    pub digits: Vec<[usize; 2]>,
    /// `[N, 1, 8, 16]`, 0 to 1.
    pub images: Tensor,
}

impl DigitPairs {
    /// `count` pairs of random images (with replacement) of a set of digits, such as a part of [`digits`](crate::image::digits).
    ///
    /// # Errors
    /// An empty set, or one whose classes are not ten.
    pub fn draw(set: &ImageSet, count: usize, rng: &mut Rng) -> Result<Self> {
        if set.is_empty() || set.classes.len() != 10 {
            let got = format!("{} images of {} classes", set.len(), set.classes.len());
            return Err(Error::value("digits", "images of ten classes", got));
        }
        let labels = Vec::<i64>::try_from(&set.labels)?;
        let mut side = || -> Vec<i64> { (0..count).map(|_| rng.random_range(0..set.len() as i64)).collect() };
        let (left, right) = (side(), side());
        let at = |i: &i64| labels[*i as usize] as usize;
        let digits = left.iter().zip(&right).map(|(l, r)| [at(l), at(r)]).collect();
        let half = |index: &[i64]| Ok::<_, Error>(set.select(index)?.to_float());
        Ok(Self { digits, images: Tensor::cat(&[half(&left)?, half(&right)?], 3) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::digits;
    use autodidact_core::seed::rng;
    use std::collections::HashSet;

    #[test]
    fn operations_are_those_of_arithmetic() {
        let results = |a, b| DigitOperation::ALL.map(|o| o.apply(a, b));
        assert_eq!(results(7, 8), [15, 1, 6, 8, 0]);
        assert_eq!(results(9, 9), [18, 0, 1, 9, 1]);
        assert_eq!(results(0, 4), [4, 4, 0, 4, 1]);
    }

    #[test]
    fn every_question_has_four_different_options_and_one_of_them_is_right() {
        let mut rng = rng(0, &["test"]);
        let mut letters = [0; OPTIONS];
        let mut near = 0;
        for i in 0..5_000 {
            let digits = [i % 10, i / 10 % 10];
            let q = VisualQuestion::draw(digits, &mut rng).unwrap();
            assert_eq!(q.options.iter().collect::<HashSet<_>>().len(), OPTIONS);
            assert_eq!(q.options[q.right], q.operation.apply(digits[0], digits[1]));
            assert!(q.options.iter().all(|&n| n <= 18));
            letters[q.right] += 1;
            near += q
                .options
                .iter()
                .filter(|n| DigitOperation::ALL.iter().any(|o| o.apply(digits[0], digits[1]) == **n))
                .count();
            let (tokens, answer) = (q.tokens(), q.answer());
            assert_eq!((tokens.len(), answer.len()), (11, VisualQuestion::MOST));
            assert!(tokens.iter().chain(&answer).all(|t| (1..VisualQuestion::VOCAB).contains(t)));
            assert!(q.is_right(&answer) && q.fault(&answer).is_none());
        }
        assert!(letters.iter().all(|&n| (1_150..1_350).contains(&n)), "{letters:?}");
        // The right one, and some of other operations.
        assert!((7_000..14_000).contains(&near), "{near}");
        assert!(VisualQuestion::draw([3, 10], &mut rng).is_err());
    }

    #[test]
    fn faults_are_named_by_the_first_wrong_token() {
        let q = VisualQuestion { digits: [3, 8], operation: DigitOperation::Product, options: [11, 4, 6, 5], right: 1 };
        let [n, l] = [VisualQuestion::NUMBER, VisualQuestion::LETTER];
        assert_eq!(q.tokens(), [1, 10, 13, 28, 14, 21, 15, 23, 16, 22, 2]);
        assert_eq!(q.answer(), [n + 3, n + 8, n + 4, l + 1, 3]);
        for (answer, fault, right) in [
            (vec![n + 3, n + 8, n + 4, l + 1, 3], None, true),
            (vec![n + 2, n + 8, n + 6, l + 2, 3], Some(AnswerFault::Digit), false),
            (vec![n + 3, n + 3, n + 4, l + 1, 3], Some(AnswerFault::Digit), true),
            (vec![n + 3, n + 8, n + 11, l, 3], Some(AnswerFault::Result), false),
            (vec![n + 3, n + 8, n + 4, l + 3, 3], Some(AnswerFault::Letter), false),
            (vec![n + 3, n + 8, n + 4, l + 1, 2], Some(AnswerFault::Form), true),
            (vec![n + 3, n + 8, l + 1, 3], Some(AnswerFault::Form), true),
            (vec![n + 3, n + 8, n + 4, 3], Some(AnswerFault::Form), false),
            (vec![3, l + 1], Some(AnswerFault::Form), false),
            (vec![], Some(AnswerFault::Form), false),
        ] {
            assert_eq!((q.fault(&answer), q.is_right(&answer)), (fault, right), "{answer:?}");
        }
        assert_eq!(VisualQuestion::choice(&[l + 4, n, l + 2, l]), Some(2));
    }

    #[test]
    fn images_show_the_digits_that_are_asked_about() {
        let (set, _) = digits().split(50, 3).unwrap();
        let pairs = DigitPairs::draw(&set, 200, &mut rng(1, &["test"])).unwrap();
        assert_eq!(pairs.images.size(), [200, 1, 8, 16]);
        let all = set.to_float();
        let labels = Vec::<i64>::try_from(&set.labels).unwrap();
        for (i, digits) in pairs.digits.iter().enumerate() {
            for (side, digit) in digits.iter().enumerate() {
                let half = pairs.images.get(i as i64).narrow(2, 8 * side as i64, 8);
                let same =
                    (&all - half).abs().amax([1i64, 2, 3].as_slice(), false).argmin(None, false).int64_value(&[]);
                assert_eq!(labels[same as usize] as usize, *digit);
            }
        }
        assert!(DigitPairs::draw(&set.select(&[]).unwrap(), 2, &mut rng(1, &["test"])).is_err());
    }
}
