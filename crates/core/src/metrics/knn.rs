//! k-nearest-neighbour classification of representations.

use crate::error::{check_class_indices, check_matrix, check_range};
use crate::nn::unit;
use crate::{Error, Result};
use tch::{Kind, Tensor};

/// How neighbours vote.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Vote {
    /// One vote each.
    Plain,
    /// `exp(similarity / temperature)` each (Wu et al., 2018).
    Temperature(f64),
}

/// A k-NN classifier by cosine similarity.
#[derive(Debug)]
pub struct Knn {
    /// Normalised, `[D, M]`: the layout that the product reads fastest.
    bank: Tensor,
    labels: Tensor,
    classes: i64,
}

impl Knn {
    /// A classifier from `bank [M, D]` and its `labels [M]` in `0..classes`.
    ///
    /// # Errors
    /// Wrong shapes, or labels outside the classes.
    pub fn new(bank: &Tensor, labels: &Tensor, classes: i64) -> Result<Self> {
        let (m, _) = check_matrix("bank", bank)?;
        check_class_indices("labels", labels, m, classes)?;
        Ok(Self { bank: normalised(bank).tr().contiguous(), labels: labels.shallow_clone(), classes })
    }

    /// Class scores `[N, classes]` of `queries [N, D]` from their `k` nearest neighbours (all of the bank if it is smaller).
    ///
    /// # Errors
    /// Queries of another width, `k` of 0, a temperature that is not positive.
    pub fn scores(&self, queries: &Tensor, k: i64, vote: Vote) -> Result<Tensor> {
        let (n, d) = check_matrix("queries", queries)?;
        let (width, m) = self.bank.size2()?;
        if d != width {
            return Err(Error::shape("queries", format!("[N, {width}]"), queries));
        }
        if k < 1 {
            return Err(Error::value("k", "at least 1", k));
        }
        if let Vote::Temperature(t) = vote {
            check_range("temperature", t, f64::MIN_POSITIVE..)?;
        }
        // Similarities of a chunk of queries at a time, in one buffer: fresh memory for each would be mapped page by page.
        const CHUNK: i64 = 512;
        let scores = Tensor::zeros([n, self.classes], (Kind::Float, queries.device()));
        let buffer = Tensor::empty([CHUNK.min(n), m], (self.bank.kind(), queries.device()));
        tch::no_grad(|| -> Result<()> {
            for start in (0..n).step_by(CHUNK as usize) {
                let len = CHUNK.min(n - start);
                let chunk = normalised(&queries.narrow(0, start, len));
                let similarity = chunk.f_matmul_out(&buffer.narrow(0, 0, len), &self.bank)?;
                let (top, index) = similarity.topk(k.min(m), 1, true, false);
                let votes = match vote {
                    Vote::Plain => top.ones_like(),
                    // The largest similarity is 1, so this does not overflow at any temperature.
                    Vote::Temperature(t) => ((top - 1.0) / t).exp(),
                };
                let labels = self.labels.index_select(0, &index.flatten(0, 1)).view_as(&index);
                let _ = scores.narrow(0, start, len).scatter_add_(1, &labels, &votes);
            }
            Ok(())
        })?;
        Ok(scores)
    }

    /// Accuracy on labelled queries; see [`scores`](Self::scores).
    ///
    /// # Errors
    /// As [`scores`](Self::scores).
    pub fn accuracy(&self, queries: &Tensor, labels: &Tensor, k: i64, vote: Vote) -> Result<f64> {
        super::accuracy(&self.scores(queries, k, vote)?, labels)
    }
}

fn normalised(x: &Tensor) -> Tensor {
    unit(&x.to_kind(Kind::Float))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bank() -> Knn {
        let bank = Tensor::from_slice2(&[[1.0f32, 0.0], [0.8, 0.6], [0.0, 2.0]]);
        Knn::new(&bank, &Tensor::from_slice(&[0i64, 1, 1]), 2).unwrap()
    }

    #[test]
    fn votes_are_weighted_by_similarity() {
        let query = Tensor::from_slice2(&[[5.0f32, 0.0]]);
        // Similarities 1, 0.8, 0: plain voting gives class 1, a low temperature class 0.
        let plain = bank().scores(&query, 3, Vote::Plain).unwrap();
        assert_eq!(Vec::<f32>::try_from(plain.view(-1)).unwrap(), [1.0, 2.0]);
        let scores = bank().scores(&query, 3, Vote::Temperature(0.1)).unwrap();
        let scores = Vec::<f32>::try_from(scores.view(-1)).unwrap();
        assert!((scores[0] - 1.0).abs() < 1e-6 && (scores[1] - (-2f32).exp() - (-10f32).exp()).abs() < 1e-6);
        assert_eq!(bank().accuracy(&query, &Tensor::from_slice(&[0i64]), 1, Vote::Plain).unwrap(), 1.0);
    }

    #[test]
    fn bad_input_is_an_error() {
        let query = Tensor::from_slice2(&[[5.0f32, 0.0, 1.0]]);
        assert!(bank().scores(&query, 3, Vote::Plain).unwrap_err().to_string().contains("[N, 2]"));
        assert!(bank().scores(&query.narrow(1, 0, 2), 0, Vote::Plain).is_err());
        let bank = Tensor::from_slice2(&[[1.0f32, 0.0]]);
        assert!(Knn::new(&bank, &Tensor::from_slice(&[3i64]), 2).is_err());
    }
}
