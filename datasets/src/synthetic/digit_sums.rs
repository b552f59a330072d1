//! Sums and differences by their digits, of a stated difficulty.

use autodidact_core::error::check_range;
use autodidact_core::seed::Rng;
use autodidact_core::{Error, Result};
use rand::RngExt;
use tch::{Device, Tensor};

/// Windows of problems such as `17+42=59;`, for language models that are judged by the answers alone.
///
/// A problem's difficulty is the number of digits of its two operands, drawn uniformly; a window starts with a problem and goes on with
/// further ones until it is full, so that all places are as common in training on easy problems as in tests on hard ones. Tokens: the digits,
/// then `+`, `-`, `=`, `;`. The answer is certain given the question: the entropy is 0.
///
/// ```
/// use autodidact_datasets::synthetic::DigitSums;
/// let easy = DigitSums { digits: (1, 2), window: 24 };
/// let (inputs, targets) = easy.batch(3, &mut autodidact_core::seed::rng(0, &["sums"]), tch::Device::Cpu)?;
/// assert_eq!((inputs.size(), targets.size()), (vec![3, 24], vec![3, 24]));
/// # Ok::<(), autodidact_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DigitSums {
    /// Fewest and most digits of the operands, 1 to 15.
    pub digits: (u32, u32),
    /// Tokens of a window.
    pub window: usize,
}

impl DigitSums {
    /// Tokens.
    pub const VOCAB: i64 = 14;
    /// The target of a place at which no answer stands.
    pub const IGNORED: i64 = -100;

    const SYMBOLS: &str = "0123456789+-=;";

    fn token(symbol: char) -> i64 {
        Self::SYMBOLS.find(symbol).expect("one of the symbols") as i64
    }

    /// Tokens as text.
    pub fn text(tokens: &[i64]) -> String {
        let symbol = |t: &i64| usize::try_from(*t).ok().and_then(|t| Self::SYMBOLS.chars().nth(t)).unwrap_or('?');
        tokens.iter().map(symbol).collect()
    }

    /// A problem with its answer, and where the answer begins.
    fn problem(&self, rng: &mut Rng) -> (String, usize) {
        let digits = rng.random_range(self.digits.0..=self.digits.1);
        let lowest = if digits == 1 { 0 } else { 10i64.pow(digits - 1) };
        let mut operand = || rng.random_range(lowest..10i64.pow(digits));
        let (a, b) = (operand(), operand());
        let (question, answer) = if rng.random() { (format!("{a}+{b}="), a + b) } else { (format!("{a}-{b}="), a - b) };
        (format!("{question}{answer};"), question.len())
    }

    /// `count` windows: inputs and targets, each Int64 `[count, window]`. Targets are the next tokens where these belong to an answer (its
    /// `;` too), else [`IGNORED`](Self::IGNORED).
    ///
    /// # Errors
    /// Digits outside 1 to 15, an empty window.
    pub fn batch(&self, count: usize, rng: &mut Rng, device: Device) -> Result<(Tensor, Tensor)> {
        check_range("digits", f64::from(self.digits.0), 1.0..=f64::from(self.digits.1))?;
        check_range("digits", f64::from(self.digits.1), 1.0..=15.0)?;
        if self.window == 0 {
            return Err(Error::value("window", "at least 1 token", 0));
        }
        let (mut inputs, mut targets) = (Vec::with_capacity(count * self.window), vec![]);
        let (mut row, mut next) = (Vec::with_capacity(self.window + 64), vec![]);
        for _ in 0..count {
            row.clear();
            next.clear();
            while row.len() <= self.window {
                let (text, answer) = self.problem(rng);
                for (i, symbol) in text.chars().enumerate() {
                    let token = Self::token(symbol);
                    row.push(token);
                    next.push(if i >= answer { token } else { Self::IGNORED });
                }
            }
            inputs.extend_from_slice(&row[..self.window]);
            targets.extend_from_slice(&next[1..=self.window]);
        }
        let shape = [count as i64, self.window as i64];
        let [inputs, targets] = [inputs, targets].map(|t| Tensor::from_slice(&t).view(shape).to_device(device));
        Ok((inputs, targets))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use autodidact_core::seed::rng;

    #[test]
    fn windows_hold_right_answers_and_ask_for_these_alone() {
        let source = DigitSums { digits: (1, 4), window: 64 };
        let (x, y) = source.batch(50, &mut rng(1, &["test"]), Device::Cpu).unwrap();
        let mut lengths = [0; 5];
        for i in 0..50 {
            let row = Vec::<i64>::try_from(x.get(i)).unwrap();
            let targets = Vec::<i64>::try_from(y.get(i)).unwrap();
            let text = DigitSums::text(&row);
            let whole = text.rfind(';').unwrap();
            for problem in text[..whole].split(';') {
                let (question, answer) = problem.split_once('=').unwrap();
                let at = question[1..].find(['+', '-']).unwrap() + 1;
                let (a, b): (i64, i64) = (question[..at].parse().unwrap(), question[at + 1..].parse().unwrap());
                let value = if question.as_bytes()[at] == b'+' { a + b } else { a - b };
                assert_eq!(answer.parse::<i64>().unwrap(), value, "{problem}");
                assert_eq!(at, question.len() - at - 1);
                lengths[at] += 1;
            }
            let mut answering = false;
            for (place, symbol) in text[..whole].chars().enumerate() {
                answering = (answering || symbol == '=') && symbol != ';';
                let want = if answering { row[place + 1] } else { DigitSums::IGNORED };
                assert_eq!(targets[place], want, "{text} {place}");
            }
        }
        assert_eq!(lengths[0], 0);
        assert!(lengths[1..].iter().all(|n| *n > 30), "{lengths:?}");
    }

    #[test]
    fn settings_out_of_range_are_errors() {
        let bad = |digits, window| {
            DigitSums { digits, window }.batch(1, &mut rng(0, &["t"]), Device::Cpu).unwrap_err().to_string()
        };
        assert!(bad((0, 2), 8).starts_with("digits"));
        assert!(bad((3, 2), 8).starts_with("digits"));
        assert!(bad((1, 16), 8).starts_with("digits"));
        assert!(bad((1, 2), 0).starts_with("window"));
    }
}
