//! Which samples make which batch.

use crate::seed::rng;
use crate::{Error, Result};
use rand::seq::SliceRandom;
use std::sync::{Arc, Mutex, PoisonError};

/// The order of the samples in endless, shuffled epochs. Batch `step` is a function of the seed and of `step` alone, so
/// a resumed run goes on with the very batches it would have seen.
///
/// Every epoch holds each sample at most once; the samples that do not fill a last batch are left out of that epoch.
///
/// ```
/// use autodidact_core::train::Order;
/// let order = Order::new(10, 4, 0)?;
/// assert_eq!(order.batches_per_epoch(), 2);
/// assert_eq!(order.batch(5), order.batch(5)); // epoch 2, second batch
/// assert_ne!(order.batch(0), order.batch(2)); // each epoch has its own order
/// # Ok::<(), autodidact_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Order {
    samples: usize,
    batch: usize,
    seed: u64,
    /// The epoch asked for last and its permutation.
    latest: Mutex<(usize, Arc<[i64]>)>,
}

impl Order {
    /// Order of `samples` samples in batches of `batch`, from 1 to `samples`.
    pub fn new(samples: usize, batch: usize, seed: u64) -> Result<Self> {
        if !(1..=samples).contains(&batch) {
            return Err(Error::value("batch size", format!("1 to {samples}, the number of samples"), batch));
        }
        Ok(Self { samples, batch, seed, latest: Mutex::new((0, permutation(samples, seed, 0))) })
    }

    /// Full batches in an epoch.
    pub fn batches_per_epoch(&self) -> usize {
        self.samples / self.batch
    }

    /// The epoch that batch `step` belongs to.
    pub fn epoch_of(&self, step: usize) -> usize {
        step / self.batches_per_epoch()
    }

    /// The indices of the samples of batch `step`, counted from the start of training.
    pub fn batch(&self, step: usize) -> Vec<i64> {
        let position = step % self.batches_per_epoch();
        self.epoch(self.epoch_of(step))[position * self.batch..][..self.batch].to_vec()
    }

    /// The order of all samples in `epoch`.
    pub fn epoch(&self, epoch: usize) -> Arc<[i64]> {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.0 != epoch {
            *latest = (epoch, permutation(self.samples, self.seed, epoch));
        }
        latest.1.clone()
    }
}

fn permutation(samples: usize, seed: u64, epoch: usize) -> Arc<[i64]> {
    let mut indices: Vec<i64> = (0..samples as i64).collect();
    indices.shuffle(&mut rng(seed, &["order", &epoch.to_string()]));
    indices.into()
}
