//! Recall of facts whose frequencies follow Zipf's law.

use autodidact_core::error::check_range;
use autodidact_core::seed::{Rng, rng};
use autodidact_core::{Error, Result};
use rand::RngExt;
use rand::seq::SliceRandom;
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

/// Keys with a fixed value each, asked for as often as Zipf's law says: an endless source for scaling laws. The input is a key by its
/// digits, the target its value; nothing about a value can be guessed from other keys, so that a model has to store them, the frequent
/// ones first, and losses fall as power laws in size and in steps. The value is certain given the key: the entropy is 0, and the loss of
/// a model is known exactly, as a sum over all keys.
///
/// ```
/// use autodidact_datasets::synthetic::ZipfRecall;
/// let table = ZipfRecall::default().table(tch::Device::Cpu)?;
/// assert_eq!(table.inputs.size(), [4096, 3]);
/// // The most frequent key makes up more than a third of all questions.
/// assert!(table.probabilities.max().double_value(&[]) > 0.38);
/// # Ok::<(), autodidact_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ZipfRecall {
    /// Base of the digits, 2 to 256.
    pub base: i64,
    /// Digits of a key, 1 to 6; there are `base^digits` keys (at most 2^24).
    pub digits: u32,
    /// Values, drawn uniformly in `0..values`.
    pub values: i64,
    /// The key of rank `r` (from 0) has probability proportional to `(r + 1)^-zipf`.
    pub zipf: f64,
    /// Names the source: which key has which rank and value.
    pub language: u64,
}

impl Default for ZipfRecall {
    /// 4,096 keys of three base-16 digits, 16 values, exponent 1.5.
    fn default() -> Self {
        Self { base: 16, digits: 3, values: 16, zipf: 1.5, language: 0 }
    }
}

/// All keys of a [`ZipfRecall`].
#[derive(Debug)]
pub struct RecallTable {
    /// Digits of each key, `[K, digits]`, Int64.
    pub inputs: Tensor,
    /// Value of each key, `[K]`, Int64.
    pub targets: Tensor,
    /// Probability of each key, `[K]`, Float.
    pub probabilities: Tensor,
    /// Keys by rank.
    order: Vec<i64>,
    /// Cumulative probabilities by rank.
    cumulative: Vec<f64>,
}

/// A batch in which repeated questions stand once.
#[derive(Debug)]
pub struct CountedBatch {
    /// Digits, `[U, digits]`.
    pub inputs: Tensor,
    /// Values, `[U]`.
    pub targets: Tensor,
    /// Shares of the batch, `[U]`, summing to 1: the mean over the batch is the sum weighted by these.
    pub weights: Tensor,
}

impl ZipfRecall {
    /// Number of keys.
    pub fn keys(&self) -> i64 {
        self.base.pow(self.digits)
    }

    /// All keys, on a device.
    ///
    /// # Errors
    /// Settings out of range.
    pub fn table(&self, device: Device) -> Result<RecallTable> {
        check_range("base", self.base as f64, 2.0..=256.0)?;
        check_range("digits", f64::from(self.digits), 1.0..=6.0)?;
        check_range("values", self.values as f64, 1.0..)?;
        check_range("Zipf exponent", self.zipf, 0.0..=10.0)?;
        let keys = self.base.checked_pow(self.digits).filter(|k| *k <= 1 << 24);
        let keys = keys.ok_or_else(|| {
            Error::value("keys", "at most 2^24 (base^digits)", format!("{}^{}", self.base, self.digits))
        })?;
        let name = self.language.to_string();
        let mut order: Vec<i64> = (0..keys).collect();
        order.shuffle(&mut rng(self.language, &["zipf recall", "order", &name]));
        let mut draw = rng(self.language, &["zipf recall", "values", &name]);
        let values: Vec<i64> = (0..keys).map(|_| draw.random_range(0..self.values)).collect();
        let weights: Vec<f64> = (0..keys).map(|r| (r as f64 + 1.0).powf(-self.zipf)).collect();
        let total: f64 = weights.iter().sum();
        let mut probabilities = vec![0.0; keys as usize];
        let (mut cumulative, mut sum) = (Vec::with_capacity(keys as usize), 0.0);
        for (key, weight) in order.iter().zip(&weights) {
            probabilities[*key as usize] = weight / total;
            sum += weight / total;
            cumulative.push(sum);
        }
        let place = |at: u32| self.base.pow(self.digits - 1 - at);
        let digits: Vec<i64> =
            (0..keys).flat_map(|k| (0..self.digits).map(move |at| k / place(at) % self.base)).collect();
        Ok(RecallTable {
            inputs: Tensor::from_slice(&digits).view([keys, i64::from(self.digits)]).to_device(device),
            targets: Tensor::from_slice(&values).to_device(device),
            probabilities: Tensor::from_slice(&probabilities).to_kind(Kind::Float).to_device(device),
            order,
            cumulative,
        })
    }
}

impl RecallTable {
    /// `count` keys drawn by their probabilities.
    pub fn draw(&self, count: usize, rng: &mut Rng) -> Vec<i64> {
        let rank = |u: f64| self.cumulative.partition_point(|c| *c <= u).min(self.order.len() - 1);
        (0..count).map(|_| self.order[rank(rng.random())]).collect()
    }

    /// Digits and values of keys, `[N, digits]` and `[N]`.
    pub fn rows(&self, keys: &[i64]) -> (Tensor, Tensor) {
        let index = Tensor::from_slice(keys).to_device(self.targets.device());
        (self.inputs.index_select(0, &index), self.targets.index_select(0, &index))
    }

    /// A batch of `count` questions, of which equal ones stand once: under Zipf's law it is several times smaller, and the gradient of
    /// its weighted loss is that of the batch.
    pub fn counted(&self, count: usize, rng: &mut Rng) -> CountedBatch {
        let mut counts = BTreeMap::<i64, usize>::new();
        self.draw(count, rng).into_iter().for_each(|k| *counts.entry(k).or_default() += 1);
        let keys: Vec<i64> = counts.keys().copied().collect();
        let weights: Vec<f32> = counts.values().map(|c| *c as f32 / count as f32).collect();
        let (inputs, targets) = self.rows(&keys);
        CountedBatch { inputs, targets, weights: Tensor::from_slice(&weights).to_device(self.targets.device()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_as_often_as_zipf_says() {
        let source = ZipfRecall { language: 3, ..Default::default() };
        let table = source.table(Device::Cpu).unwrap();
        assert!((table.probabilities.sum(Kind::Double).double_value(&[]) - 1.0).abs() < 1e-5);
        let mut draw = rng(1, &["test"]);
        let keys = table.draw(40_000, &mut draw);
        // Ranks 0, 1 and 9 have 1, 2^-1.5 and 10^-1.5 of the same unit.
        let share = |rank: usize| keys.iter().filter(|k| **k == table.order[rank]).count() as f64 / 40_000.0;
        let unit = table.cumulative[0];
        for rank in [0, 1, 9] {
            let want = unit * (rank as f64 + 1.0).powf(-1.5);
            assert!((share(rank) - want).abs() < 5.0 * (want / 40_000.0).sqrt(), "{rank}");
        }
        // Digits spell the key, and the same key always has the same value.
        let (inputs, targets) = table.rows(&[0x3a7, 0x3a7]);
        assert_eq!(Vec::<i64>::try_from(inputs.get(0)).unwrap(), [3, 10, 7]);
        assert_eq!(targets.int64_value(&[0]), targets.int64_value(&[1]));
        let again = source.table(Device::Cpu).unwrap();
        assert_eq!(again.targets, table.targets);
        let other = ZipfRecall { language: 4, ..source }.table(Device::Cpu).unwrap();
        assert_ne!(other.targets, table.targets);
    }

    #[test]
    fn counted_batches_weigh_as_the_batch() {
        let table = ZipfRecall::default().table(Device::Cpu).unwrap();
        let keys = table.draw(512, &mut rng(2, &["test"]));
        let counted = table.counted(512, &mut rng(2, &["test"]));
        let each = table.rows(&keys).1.to_kind(Kind::Double).mean(Kind::Double).double_value(&[]);
        let weighted =
            (counted.targets.to_kind(Kind::Double) * counted.weights.to_kind(Kind::Double)).sum(Kind::Double);
        assert!((each - weighted.double_value(&[])).abs() < 1e-5);
        assert!(counted.targets.size()[0] < 200);
    }

    #[test]
    fn settings_out_of_range_are_errors() {
        let bad = |source: ZipfRecall| source.table(Device::Cpu).unwrap_err().to_string();
        assert!(bad(ZipfRecall { base: 1, ..Default::default() }).starts_with("base"));
        assert!(bad(ZipfRecall { digits: 0, ..Default::default() }).starts_with("digits"));
        assert!(bad(ZipfRecall { base: 256, digits: 4, ..Default::default() }).starts_with("keys"));
        assert!(bad(ZipfRecall { zipf: -1.0, ..Default::default() }).starts_with("Zipf"));
    }
}
