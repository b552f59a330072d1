//! Generated sequences: hidden Markov chains, half of which repeat a stretch of themselves.

use anyhow::Result;
use autodidact_core::seed::{Rng, rng};
use autodidact_datasets::synthetic::HiddenMarkov;
use rand::RngExt;
use rand::seq::SliceRandom;
use tch::{Device, Kind, Tensor};

/// Positions of a sequence, the class token's included.
pub const LENGTH: i64 = 32;
/// Tokens: padding, class token, mask, seven that are not used, and the symbols.
pub const VOCAB: i64 = 64;
pub const CLS: i64 = 1;
pub const MASK: i64 = 2;
/// The first symbol.
pub const SYMBOLS: i64 = 10;
/// States of the chain.
pub const STATES: i64 = 8;
/// Where the repeated stretch stands, where it comes from, and how long it is.
const COPY: (i64, i64, i64) = (16, 4, 8);

/// What the repeated stretch holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Copy {
    /// What the chain gives.
    None,
    /// What stands at its origin.
    Exact,
    /// The same with one symbol replaced by another of the same state.
    Near,
}

/// Sequences `[N, 32]` with the states of their symbols `[N, 31]` (Int64).
pub struct Sequences {
    pub tokens: Tensor,
    pub states: Tensor,
}

/// The chain: states that stay with probability 0.7 and emit symbols by Zipf's law, each in an order of its own.
pub struct Corpus {
    chain: HiddenMarkov,
}

impl Corpus {
    pub fn new(seed: u64) -> Result<Self> {
        let (states, symbols) = (STATES as usize, (VOCAB - SYMBOLS) as usize);
        let mut rng = rng(seed, &["emissions"]);
        let stay = |i: usize, j: usize| if i == j { 0.7 } else { 0.3 / (states - 1) as f64 };
        let transition = (0..states).map(|i| (0..states).map(|j| stay(i, j)).collect()).collect();
        let zipf: Vec<f64> = (1..=symbols).map(|r| (r as f64).powf(-1.2)).collect();
        let total: f64 = zipf.iter().sum();
        let emission = (0..states)
            .map(|_| {
                let mut order: Vec<usize> = (0..symbols).collect();
                order.shuffle(&mut rng);
                order.into_iter().map(|rank| zipf[rank] / total).collect()
            })
            .collect();
        Ok(Self { chain: HiddenMarkov::new(transition, emission)? })
    }

    /// `n` sequences, each with what `copy` says of it.
    pub fn sample(&self, n: usize, rng: &mut Rng, mut copy: impl FnMut(usize, &mut Rng) -> Copy) -> Result<Sequences> {
        let drawn = self.chain.sample(n, LENGTH as usize - 1, rng)?;
        let mut tokens = Vec::<i64>::try_from(drawn.tokens.flatten(0, -1))?;
        let states = Vec::<i64>::try_from(drawn.states.flatten(0, -1))?;
        let row = LENGTH as usize - 1;
        // The class token stands before the symbols.
        let (to, from, length) = (COPY.0 as usize - 1, COPY.1 as usize - 1, COPY.2 as usize);
        for i in 0..n {
            let copy = copy(i, rng);
            let sequence = &mut tokens[i * row..][..row];
            if copy != Copy::None {
                sequence.copy_within(from..from + length, to);
            }
            if copy == Copy::Near {
                let place = rng.random_range(0..length);
                let old = sequence[to + place];
                // Of the state of the origin, so that the symbol alone does not tell.
                let state = states[i * row + from + place] as usize;
                while sequence[to + place] == old {
                    sequence[to + place] = self.chain.emit(state, rng) as i64;
                }
            }
        }
        let symbols = Tensor::from_slice(&tokens).view([n as i64, row as i64]) + SYMBOLS;
        let cls = Tensor::full([n as i64, 1], CLS, (Kind::Int64, Device::Cpu));
        Ok(Sequences { tokens: Tensor::cat(&[cls, symbols], 1), states: drawn.states })
    }
}

/// What networks are fine-tuned on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Task {
    /// Is a stretch repeated? Negatives have nothing to do with it.
    Easy,
    /// Half of the negatives are repeated but for one symbol.
    Medium,
    /// All of them are.
    Hard,
    /// Which state emitted the first symbol: it hardly needs pre-training.
    State,
}

impl Task {
    pub const ALL: [Self; 4] = [Self::Easy, Self::Medium, Self::Hard, Self::State];
    /// Those that need pre-training.
    pub const COPY: [Self; 3] = [Self::Easy, Self::Medium, Self::Hard];

    pub fn name(self) -> &'static str {
        match self {
            Self::Easy => "easy",
            Self::Medium => "medium",
            Self::Hard => "hard",
            Self::State => "state",
        }
    }

    pub fn classes(self) -> i64 {
        if self == Self::State { STATES } else { 2 }
    }

    /// `n` sequences and their labels, half of each class of the copy tasks.
    pub fn sample(self, corpus: &Corpus, n: usize, rng: &mut Rng) -> Result<(Tensor, Tensor)> {
        let negative = |i: usize| match self {
            Self::Hard => Copy::Near,
            Self::Medium if i % 4 == 1 => Copy::Near,
            _ => Copy::None,
        };
        let drawn = corpus.sample(n, rng, |i, rng| match self {
            Self::State if rng.random_bool(0.5) => Copy::Exact,
            Self::State => Copy::None,
            _ if i % 2 == 0 => Copy::Exact,
            _ => negative(i),
        })?;
        let labels = match self {
            Self::State => drawn.states.select(1, 0),
            _ => Tensor::from_slice(&(0..n as i64).map(|i| 1 - i % 2).collect::<Vec<_>>()),
        };
        Ok((drawn.tokens, labels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_say_what_the_stretch_holds() {
        let corpus = Corpus::new(0).unwrap();
        let differing = |task: Task| {
            let (x, y) = task.sample(&corpus, 400, &mut rng(0, &[task.name()])).unwrap();
            assert_eq!(x.size(), [400, LENGTH]);
            assert_eq!((x.min().int64_value(&[]), x.select(1, 0).max().int64_value(&[])), (CLS, CLS));
            let differ = x.narrow(1, COPY.0, COPY.2).ne_tensor(&x.narrow(1, COPY.1, COPY.2)).sum_dim_intlist(
                [1i64].as_slice(),
                false,
                Kind::Int64,
            );
            (Vec::<i64>::try_from(differ).unwrap(), Vec::<i64>::try_from(y).unwrap())
        };
        for task in Task::COPY {
            let (differ, labels) = differing(task);
            assert_eq!(labels.iter().sum::<i64>(), 200);
            assert!(differ.iter().zip(&labels).all(|(d, y)| (*d == 0) == (*y == 1) || (*y == 0 && task == Task::Easy)));
            let near = differ.iter().filter(|d| **d == 1).count();
            match task {
                Task::Easy => assert!(near < 20),
                Task::Medium => assert!((100..130).contains(&near), "{near}"),
                _ => assert_eq!(near, 200),
            }
        }
        let (_, labels) = differing(Task::State);
        assert!((0..STATES).all(|s| labels.contains(&s)));
    }
}
