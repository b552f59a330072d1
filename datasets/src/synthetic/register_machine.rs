//! Programs for a machine with one register, whose solutions can be checked step by step.

use autodidact_core::seed::Rng;
use rand::RngExt;

/// What a step does to the register, modulo [`RegisterMachine::MODULUS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RegisterOp {
    /// Adds the operand.
    Add,
    /// Subtracts it.
    Subtract,
    /// Multiplies by it.
    Multiply,
}

impl RegisterOp {
    const ALL: [Self; 3] = [Self::Add, Self::Subtract, Self::Multiply];

    /// The register after this step.
    pub fn apply(self, register: i64, operand: i64) -> i64 {
        let result = match self {
            Self::Add => register + operand,
            Self::Subtract => register - operand,
            Self::Multiply => register * operand,
        };
        result.rem_euclid(RegisterMachine::MODULUS)
    }
}

/// A task for language models in which every step of a solution can be right or wrong.
///
/// A problem is a start value and a program of five operations; a solution repeats each operation and writes the register after it.
/// Values, operands included, are integers modulo 11. Vocabulary of 32 tokens: [`PAD`](Self::PAD), [`BOS`](Self::BOS),
/// [`SEP`](Self::SEP), [`EOS`](Self::EOS), from [`OP`](Self::OP) on the three operations, from [`VALUE`](Self::VALUE) on the eleven
/// values. A prompt is `BOS start (op operand) x 5 SEP`, a solution `(op operand value) x 5 EOS`.
///
/// ```
/// use autodidact_datasets::synthetic::{RegisterMachine, RegisterOp::*};
/// let problem = RegisterMachine { start: 3, program: [(Add, 9), (Multiply, 4), (Subtract, 7), (Add, 1), (Multiply, 10)] };
/// // 3 + 9 = 1, 1 x 4 = 4, 4 - 7 = 8, 8 + 1 = 9, 9 x 10 = 2 (modulo 11).
/// assert_eq!(problem.values(), [1, 4, 8, 9, 2]);
/// let mut response = problem.solution();
/// assert!(problem.check(&response).is_correct());
/// // A slip in the second step; the third follows from it.
/// (response[5], response[8]) = (RegisterMachine::VALUE + 5, RegisterMachine::VALUE + 9);
/// let check = problem.check(&response);
/// assert_eq!(check.steps, [true, false, true, false, true]);
/// assert_eq!((check.first_error(), check.answer, check.outcome), (Some(1), Some(2), true)); // right by luck
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RegisterMachine {
    /// The register at the start, 0 to 10.
    pub start: i64,
    /// Operations with their operands, 1 to 10.
    pub program: [(RegisterOp, i64); Self::STEPS],
}

/// What is right in a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegisterCheck {
    /// Whether the response has the form of a solution: the program's operations and operands, values, the end.
    pub well_formed: bool,
    /// Whether each step repeats its operation and operand, and its value follows from the value written before.
    pub steps: [bool; RegisterMachine::STEPS],
    /// The last value before the end, where there is one.
    pub answer: Option<i64>,
    /// Whether that is the right one.
    pub outcome: bool,
}

impl RegisterCheck {
    /// Whether all steps are right, and with them the outcome.
    pub fn is_correct(&self) -> bool {
        self.well_formed && self.first_error().is_none()
    }

    /// The first wrong step, from 0.
    pub fn first_error(&self) -> Option<usize> {
        self.steps.iter().position(|right| !right)
    }
}

impl RegisterMachine {
    /// All arithmetic is modulo this.
    pub const MODULUS: i64 = 11;
    /// Operations of a program.
    pub const STEPS: usize = 5;
    /// Fills sequences.
    pub const PAD: i64 = 0;
    /// Beginning of a text.
    pub const BOS: i64 = 1;
    /// Between problem and solution.
    pub const SEP: i64 = 2;
    /// End of a solution.
    pub const EOS: i64 = 3;
    /// The first of three operations.
    pub const OP: i64 = 5;
    /// The first of eleven values.
    pub const VALUE: i64 = 10;
    /// Tokens.
    pub const VOCAB: i64 = 32;
    /// Tokens of a prompt.
    pub const PROMPT: usize = 3 + 2 * Self::STEPS;
    /// Tokens of a solution, its end included.
    pub const SOLUTION: usize = 3 * Self::STEPS + 1;

    /// A problem, all being equally likely.
    pub fn random(rng: &mut Rng) -> Self {
        let start = rng.random_range(0..Self::MODULUS);
        let step = |_| (RegisterOp::ALL[rng.random_range(0..3)], rng.random_range(1..Self::MODULUS));
        Self { start, program: std::array::from_fn(step) }
    }

    /// The register after each step.
    pub fn values(&self) -> [i64; Self::STEPS] {
        let mut register = self.start;
        self.program.map(|(op, operand)| {
            register = op.apply(register, operand);
            register
        })
    }

    fn step_tokens((op, operand): (RegisterOp, i64)) -> [i64; 2] {
        [Self::OP + op as i64, Self::VALUE + operand]
    }

    /// The prompt.
    pub fn tokens(&self) -> Vec<i64> {
        let program = self.program.iter().flat_map(|s| Self::step_tokens(*s));
        [Self::BOS, Self::VALUE + self.start].into_iter().chain(program).chain([Self::SEP]).collect()
    }

    /// The right response.
    pub fn solution(&self) -> Vec<i64> {
        let steps = self.program.iter().zip(self.values());
        let steps = steps.flat_map(|(step, value)| {
            let [op, operand] = Self::step_tokens(*step);
            [op, operand, Self::VALUE + value]
        });
        steps.chain([Self::EOS]).collect()
    }

    fn value(token: i64) -> Option<i64> {
        let value = token - Self::VALUE;
        (0..Self::MODULUS).contains(&value).then_some(value)
    }

    /// Checks any response, its end included (where it came to one).
    pub fn check(&self, response: &[i64]) -> RegisterCheck {
        let mut before = Some(self.start);
        let (mut steps, mut well_formed) = ([false; Self::STEPS], response.len() == Self::SOLUTION);
        for (t, (right, &(op, operand))) in steps.iter_mut().zip(&self.program).enumerate() {
            let copied = response.get(3 * t..3 * t + 2) == Some(&Self::step_tokens((op, operand)));
            let value = response.get(3 * t + 2).copied().and_then(Self::value);
            *right = copied && value.is_some() && before.map(|b| op.apply(b, operand)) == value;
            well_formed &= copied && value.is_some();
            before = value;
        }
        let answer = match response {
            [.., value, Self::EOS] => Self::value(*value),
            _ => None,
        };
        well_formed &= answer.is_some();
        RegisterCheck { well_formed, steps, answer, outcome: answer == Some(self.values()[Self::STEPS - 1]) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use autodidact_core::seed::rng;

    #[test]
    fn solutions_are_right_and_fit_the_vocabulary() {
        let mut rng = rng(0, &["test"]);
        let mut answers = [0usize; RegisterMachine::MODULUS as usize];
        for _ in 0..2_000 {
            let problem = RegisterMachine::random(&mut rng);
            let (prompt, solution) = (problem.tokens(), problem.solution());
            assert_eq!((prompt.len(), solution.len()), (RegisterMachine::PROMPT, RegisterMachine::SOLUTION));
            assert!(prompt.iter().chain(&solution).all(|t| (0..RegisterMachine::VOCAB).contains(t)));
            let check = problem.check(&solution);
            assert!(check.is_correct() && check.outcome);
            answers[check.answer.unwrap() as usize] += 1;
        }
        // Operands are never 0, so that all answers are equally likely: 182 each, standard deviation 13.
        assert!(answers.iter().all(|n| (130..=235).contains(n)), "{answers:?}");
    }

    #[test]
    fn wrong_steps_are_found_where_they_are() {
        let mut rng = rng(1, &["test"]);
        let problem = RegisterMachine::random(&mut rng);
        let right = problem.solution();
        for wrong in 0..RegisterMachine::STEPS {
            let mut response = right.clone();
            let value = response[3 * wrong + 2] - RegisterMachine::VALUE;
            response[3 * wrong + 2] = RegisterMachine::VALUE + (value + 1) % RegisterMachine::MODULUS;
            let check = problem.check(&response);
            // The step after it does not follow from the wrong value either.
            let want: Vec<bool> = (0..RegisterMachine::STEPS).map(|t| t != wrong && t != wrong + 1).collect();
            assert_eq!((check.first_error(), &check.steps[..], check.well_formed), (Some(wrong), &want[..], true));
            assert_eq!(check.outcome, wrong != RegisterMachine::STEPS - 1);
        }
    }

    #[test]
    fn what_is_no_solution_has_no_form() {
        let problem = RegisterMachine::random(&mut rng(2, &["test"]));
        let right = problem.solution();
        let bad = |change: &dyn Fn(&mut Vec<i64>)| {
            let mut response = right.clone();
            change(&mut response);
            problem.check(&response)
        };
        // Another operand, the value as it should be.
        let check = bad(&|r| r[4] = RegisterMachine::VALUE + (r[4] - RegisterMachine::VALUE) % 10 + 1);
        assert_eq!((check.well_formed, check.first_error(), check.outcome), (false, Some(1), true));
        // No value, no end, too long, nothing.
        assert_eq!(bad(&|r| r[5] = RegisterMachine::SEP).steps, [true, false, false, true, true]);
        let check = bad(&|r| r.truncate(15));
        assert_eq!((check.well_formed, check.answer, check.first_error()), (false, None, None));
        assert!(!check.is_correct());
        assert!(!bad(&|r| r.insert(15, RegisterMachine::VALUE)).well_formed);
        let check = problem.check(&[]);
        assert_eq!((check.well_formed, check.answer, check.first_error()), (false, None, Some(0)));
        assert_eq!(problem.check(&[RegisterMachine::EOS]).answer, None);
    }
}
