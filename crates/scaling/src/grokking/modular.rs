//! Addition modulo a number.

use autodidact_core::error::check_range;
use autodidact_core::{Result, seed};
use rand::seq::SliceRandom;
use tch::Tensor;

/// All sums `a + b mod p`, as sequences `a b =` with the answer to be predicted at the last token.
///
/// ```
/// use autodidact_scaling::grokking::ModularAddition;
/// let task = ModularAddition::new(5)?;
/// assert!(task.is_correct(4, 3, 2) && !task.is_correct(4, 3, 7));
/// let [(train, answers), (test, _)] = task.split(0.4, 0)?;
/// assert_eq!((train.size(), answers.size(), test.size()), (vec![10, 3], vec![10], vec![15, 3]));
/// # Ok::<(), autodidact_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModularAddition {
    p: i64,
}

impl ModularAddition {
    /// Modulo `p`, at least 2.
    ///
    /// # Errors
    /// A smaller one.
    pub fn new(p: i64) -> Result<Self> {
        check_range("p", p as f64, 2.0..)?;
        Ok(Self { p })
    }

    /// Number of tokens: the residues and `=`.
    pub fn vocab(&self) -> i64 {
        self.p + 1
    }

    /// Whether `c` is the sum of `a` and `b`.
    pub fn is_correct(&self, a: i64, b: i64, c: i64) -> bool {
        (0..self.p).contains(&c) && (a + b - c).rem_euclid(self.p) == 0
    }

    /// Sequences `[n, 3]` with answers `[n]` (Int64): a share of all pairs at random for training, the rest for testing.
    ///
    /// # Errors
    /// A share that leaves either set empty.
    pub fn split(&self, share: f64, seed: u64) -> Result<[(Tensor, Tensor); 2]> {
        let all = self.p * self.p;
        let n = (share * all as f64).round();
        check_range("training pairs", n, 1.0..=(all - 1) as f64)?;
        let mut order: Vec<i64> = (0..all).collect();
        order.shuffle(&mut seed::rng(seed, &["pairs"]));
        let part = |pairs: &[i64]| {
            let tokens: Vec<i64> = pairs.iter().flat_map(|i| [i / self.p, i % self.p, self.p]).collect();
            let answers: Vec<i64> = pairs.iter().map(|i| (i / self.p + i % self.p) % self.p).collect();
            (Tensor::from_slice(&tokens).view([-1, 3]), Tensor::from_slice(&answers))
        };
        let (train, test) = order.split_at(n as usize);
        Ok([part(train), part(test)])
    }
}
