//! What classifiers are asked to forget.

use crate::baselines::wrong_labels;
use autodidact_core::error::check_range;
use autodidact_core::{Error, Result, seed};
use rand::seq::SliceRandom;
use std::ops::Range;
use tch::Tensor;

/// Rows of the training data that stay, and those that are to be forgotten, both ascending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Remaining rows.
    pub remaining: Vec<i64>,
    /// Rows to forget.
    pub forget: Vec<i64>,
}

impl Split {
    /// From the rows to forget, of `n`.
    ///
    /// # Errors
    /// None to forget, or none that remain.
    fn new(n: usize, mut forget: Vec<i64>) -> Result<Self> {
        forget.sort_unstable();
        let remaining: Vec<i64> = (0..n as i64).filter(|i| forget.binary_search(i).is_err()).collect();
        if forget.is_empty() || remaining.is_empty() {
            return Err(Error::value("samples to forget", format!("some of {n}, not all"), forget.len()));
        }
        Ok(Self { remaining, forget })
    }

    /// The rows to forget, and those that remain, as tensors.
    pub fn rows(&self) -> [Tensor; 2] {
        [&self.forget, &self.remaining].map(|rows| Tensor::from_slice(rows))
    }
}

/// A share of each of some classes, rounded, drawn by the seed.
fn some_of(labels: &[i64], classes: Range<i64>, share: f64, seed: u64) -> Result<Vec<i64>> {
    check_range("share to forget", share, f64::MIN_POSITIVE..=1.0)?;
    let mut picked = vec![];
    for class in classes {
        let mut rows: Vec<i64> = (0..).zip(labels).filter(|(_, y)| **y == class).map(|(i, _)| i).collect();
        rows.shuffle(&mut seed::rng(seed, &["forget", &class.to_string()]));
        picked.extend(&rows[..(share * rows.len() as f64).round() as usize]);
    }
    Ok(picked)
}

/// Data removal: a random share of each of some classes (the paper of label-agnostic forgetting: 40 % of 5 to 9).
///
/// # Errors
/// A share outside `(0, 1]`, nothing to forget or nothing that remains.
pub fn data_removal(labels: &Tensor, classes: Range<i64>, share: f64, seed: u64) -> Result<Split> {
    let labels = Vec::<i64>::try_from(labels)?;
    Split::new(labels.len(), some_of(&labels, classes, share, seed)?)
}

/// Class removal: all of a class.
///
/// # Errors
/// Nothing to forget or nothing that remains.
pub fn class_removal(labels: &Tensor, class: i64) -> Result<Split> {
    data_removal(labels, class..class + 1, 1.0, 0)
}

/// Noisy labels: a random share of each of some classes gets a random wrong label, and is what is to be forgotten. Returns the labels to train
/// with, `[N]`.
///
/// # Errors
/// As [`data_removal`] and [`wrong_labels`].
pub fn label_noise(labels: &Tensor, classes: i64, noisy: Range<i64>, share: f64, seed: u64) -> Result<(Tensor, Split)> {
    let split = data_removal(labels, noisy, share, seed)?;
    let [rows, _] = split.rows();
    let rows = rows.to_device(labels.device());
    let wrong = wrong_labels(&labels.index_select(0, &rows), classes, seed)?.to_device(labels.device());
    Ok((labels.index_copy(0, &rows, &wrong), split))
}
