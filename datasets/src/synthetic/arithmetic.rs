//! Arithmetic questions with one right answer.

use autodidact_core::seed::{Rng, rng};
use autodidact_core::{Error, Result};
use rand::RngExt;

/// A family of questions such as `17+4-25=`, with answer `-4`: integers joined by operators, evaluated with the usual
/// precedence.
///
/// ```
/// use autodidact_datasets::synthetic::Arithmetic;
/// let sums = Arithmetic { terms: 2, ..Default::default() };
/// let task = sums.task(0)?;
/// assert!(sums.is_correct(&task.question, &task.answer)?);
/// assert!(!sums.is_correct(&task.question, "many")?);
/// assert!(sums.is_correct("2+3*4=", " 14 ")?);
/// # Ok::<(), autodidact_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arithmetic {
    /// Numbers in a question, 2 to 16.
    pub terms: usize,
    /// Largest number of digits of each, 1 to 6; every number below `10^digits` is equally likely.
    pub digits: u32,
    /// Operators to choose from: any of `+`, `-`, `*`.
    pub operators: String,
    /// Names the stream of questions.
    pub seed: u64,
}

/// A question and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// An expression with `=` at the end.
    pub question: String,
    /// The decimal value.
    pub answer: String,
}

impl Default for Arithmetic {
    /// Two numbers of up to two digits, added or subtracted.
    fn default() -> Self {
        Self { terms: 2, digits: 2, operators: "+-".into(), seed: 0 }
    }
}

impl Arithmetic {
    /// Task `index`: always the same one for a seed.
    pub fn task(&self, index: u64) -> Result<Task> {
        let operators: Vec<char> = self.operators.chars().collect();
        if operators.is_empty() || operators.iter().any(|o| !"+-*".contains(*o)) {
            return Err(Error::value("operators", "some of + - *", &self.operators));
        }
        if !(2..=16).contains(&self.terms) {
            return Err(Error::value("terms", "2 to 16", self.terms));
        }
        if !(1..=6).contains(&self.digits) {
            return Err(Error::value("digits", "1 to 6", self.digits));
        }
        let mut rng = rng(self.seed, &["arithmetic", &index.to_string()]);
        let number = |rng: &mut Rng| rng.random_range(0..10u32.pow(self.digits)).to_string();
        let mut question = number(&mut rng);
        for _ in 1..self.terms {
            question.push(operators[rng.random_range(0..operators.len())]);
            question += &number(&mut rng);
        }
        let answer = evaluate(&question)?.to_string();
        Ok(Task { question: question + "=", answer })
    }

    /// Whether `answer` (blanks around it aside) is the value of `question`. A question that is not an expression is an
    /// error.
    pub fn is_correct(&self, question: &str, answer: &str) -> Result<bool> {
        let value = evaluate(question.trim().trim_end_matches('='))?;
        Ok(answer.trim().parse() == Ok(value))
    }
}

/// The value of integers joined by `+`, `-` and `*`.
fn evaluate(expression: &str) -> Result<i128> {
    let bad = || Error::value("question", "integers joined by + - *, in range", format!("{expression:?}"));
    let (mut sum, mut sign) = (0i128, 1);
    for term in expression.split_inclusive(['+', '-']) {
        let product = term.trim_end_matches(['+', '-']).split('*').try_fold(sign, |product: i128, factor| {
            let digits = Some(factor.trim()).filter(|f| f.bytes().all(|b| b.is_ascii_digit()));
            product.checked_mul(digits.and_then(|f| f.parse().ok()).ok_or_else(bad)?).ok_or_else(bad)
        })?;
        sum = sum.checked_add(product).ok_or_else(bad)?;
        sign = if term.ends_with('-') { -1 } else { 1 };
    }
    if expression.is_empty() || expression.ends_with(['+', '-']) { Err(bad()) } else { Ok(sum) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_have_their_usual_value() {
        for (expression, value) in [("1+2", 3), ("2-3*4", -10), ("2*3-4*5+1", -13), ("7", 7), ("10-2-3", 5)] {
            assert_eq!(evaluate(expression).unwrap(), value, "{expression}");
        }
        for bad in ["", "1+", "a*2", "1--2", "+1", "1e3"] {
            let e = evaluate(bad).unwrap_err().to_string();
            assert!(e.starts_with("question: expected integers"), "{bad}: {e}");
        }
    }

    #[test]
    fn tasks_are_reproducible_and_checked() {
        let family = Arithmetic { terms: 3, digits: 1, operators: "+*".into(), seed: 4 };
        for i in 0..200 {
            let task = family.task(i).unwrap();
            assert_eq!(task, family.task(i).unwrap());
            assert!(family.is_correct(&task.question, &task.answer).unwrap());
            let wrong = (task.answer.parse::<i64>().unwrap() + 1).to_string();
            assert!(!family.is_correct(&task.question, &wrong).unwrap());
        }
        assert_ne!(family.task(0).unwrap(), Arithmetic { seed: 5, ..family.clone() }.task(0).unwrap());
        assert!(Arithmetic { operators: "/".into(), ..family }.task(0).is_err());
    }
}
