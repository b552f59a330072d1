//! Measures of classifiers and representations.

mod bleu;
mod confusion;
mod knn;
mod logistic;
mod probe;
mod rouge;
mod spectrum;

pub use bleu::{Bleu, BleuCounts, Smoothing, corpus_bleu, tokenize_13a};
pub use confusion::ConfusionMatrix;
pub use knn::{Knn, Vote};
pub use logistic::{LogisticRegression, LogisticRegressionConfig};
pub use probe::{LinearProbe, RidgeProbe, standardise};
pub use rouge::RougeL;
pub use spectrum::{SpectrumAccumulator, effective_rank, singular_values};

use crate::error::{check_labels, check_matrix};
use crate::{Error, Result};
use tch::{Kind, Tensor};

/// Fraction of rows whose largest score is at the label: `scores [N, C]`, `labels [N]`.
///
/// # Errors
/// Wrong shapes, or an empty batch.
pub fn accuracy(scores: &Tensor, labels: &Tensor) -> Result<f64> {
    let (n, _) = check_matrix("scores", scores)?;
    agreement(&scores.argmax(1, false), labels, n)
}

/// Fraction of predicted classes `[N]` that equal the labels `[N]`.
///
/// # Errors
/// Wrong shapes, or an empty batch.
pub fn class_accuracy(predicted: &Tensor, labels: &Tensor) -> Result<f64> {
    agreement(predicted, labels, labels.size().first().copied().unwrap_or(0))
}

fn agreement(predicted: &Tensor, labels: &Tensor, n: i64) -> Result<f64> {
    check_labels("labels", labels, n)?;
    check_labels("predictions", predicted, n)?;
    if n == 0 {
        return Err(Error::value("batch size", "at least 1", 0));
    }
    Ok(predicted.eq_tensor(labels).to_kind(Kind::Float).mean(Kind::Double).double_value(&[]))
}

/// Expected calibration error (Naeini et al., 2015; Guo et al., 2017) with equal-width bins over the confidence of the
/// predicted class: `sum_b |B_b|/N * |accuracy(B_b) - confidence(B_b)|`, for `probabilities [N, C]`.
///
/// # Errors
/// Wrong shapes, no bins, or an empty batch.
pub fn expected_calibration_error(probabilities: &Tensor, labels: &Tensor, bins: usize) -> Result<f64> {
    let (n, _) = check_matrix("probabilities", probabilities)?;
    check_labels("labels", labels, n)?;
    if bins == 0 || n == 0 {
        return Err(Error::value("bins and batch size", "at least 1", bins.min(n as usize)));
    }
    let (confidence, predicted) = probabilities.to_kind(Kind::Double).max_dim(1, false);
    let correct = predicted.eq_tensor(labels).to_kind(Kind::Double);
    // Bins are (low, high], as in the reference implementation.
    let bin = (&confidence * bins as f64).ceil().clamp(1.0, bins as f64).to_kind(Kind::Int64) - 1;
    let gap = Tensor::zeros([bins as i64], (Kind::Double, labels.device())).index_add(0, &bin, &(correct - confidence));
    Ok(gap.abs().sum(Kind::Double).double_value(&[]) / n as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calibration_error_of_a_hand_computed_case() {
        // Two bins: confidences .6, .8 (one right): |.5 - .7|; and .4 (of three classes; right): |1 - .4|.
        let p = Tensor::from_slice2(&[[0.6f64, 0.3, 0.1], [0.8, 0.1, 0.1], [0.4, 0.3, 0.3]]);
        let y = Tensor::from_slice(&[0i64, 1, 0]);
        let e = expected_calibration_error(&p, &y, 2).unwrap();
        assert!((e - (2.0 * 0.2 + 0.6) / 3.0).abs() < 1e-12, "{e}");
        assert!((accuracy(&p, &y).unwrap() - 2.0 / 3.0).abs() < 1e-12);
        assert!(expected_calibration_error(&p, &y.narrow(0, 0, 2), 2).is_err());
    }
}
