//! What frozen features are worth downstream.

use super::{BinaryLanguage, Noise, Training, TwoLayer, continue_training};
use autodidact_core::error::{check_class_indices, check_matrix, check_range};
use autodidact_core::metrics::{LogisticRegression, LogisticRegressionConfig, accuracy};
use autodidact_core::{Error, Result, seed, stats};
use rand::seq::index;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// Draws are solved so many at a time.
const CHUNK: usize = 64;

/// A ridge probe of few labels, averaged over draws of which inputs are labelled: as
/// [`RidgeProbe`](autodidact_core::metrics::RidgeProbe), in the dual form and many draws at a time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RidgeShots {
    /// Labelled inputs.
    pub shots: usize,
    /// Draws.
    pub draws: usize,
    /// Penalty, relative to the mean squared feature.
    pub penalty: f64,
}

impl Default for RidgeShots {
    /// 16 labels, 200 draws, penalty 1e-3.
    fn default() -> Self {
        Self { shots: 16, draws: 200, penalty: 1e-3 }
    }
}

impl RidgeShots {
    /// Mean accuracy on `test [M, D]` with labels `[M]`, of probes fitted to `shots` rows each of `features [N, D]` with labels `[N]`, drawn
    /// without replacement from `seed`. A draw whose features do not vary counts as the class that it saw most (the first of several).
    ///
    /// # Errors
    /// Other shapes, labels outside the classes, more shots than rows, fewer than two shots, no draws, a penalty not above 0.
    pub fn accuracy(
        &self,
        (features, labels): (&Tensor, &Tensor),
        (test, test_labels): (&Tensor, &Tensor),
        classes: i64,
        seed: u64,
    ) -> Result<f64> {
        let (n, d) = check_matrix("features", features)?;
        check_class_indices("labels", labels, n, classes)?;
        let (m, test_d) = check_matrix("test features", test)?;
        check_class_indices("test labels", test_labels, m, classes)?;
        if test_d != d {
            return Err(Error::shape("test features", format!("[M, {d}]"), test));
        }
        check_range("shots", self.shots as f64, 2.0..=n as f64)?;
        check_range("draws", self.draws as f64, 1.0..)?;
        check_range("penalty", self.penalty, f64::MIN_POSITIVE..)?;
        let (x, test) = (features.detach().to_kind(Kind::Double), test.detach().to_kind(Kind::Double));
        let y = labels.one_hot(classes).to_kind(Kind::Double);
        let k = self.shots as i64;
        let eye = Tensor::eye(k, (Kind::Double, x.device()));
        let mut shares = vec![];
        for start in (0..self.draws).step_by(CHUNK) {
            let chunk = CHUNK.min(self.draws - start);
            let mut rows = Vec::with_capacity(chunk * self.shots);
            for draw in start..start + chunk {
                let rng = &mut seed::rng(seed, &["ridge shots", &draw.to_string()]);
                rows.extend(index::sample(rng, n as usize, self.shots).into_iter().map(|i| i as i64));
            }
            let rows = Tensor::from_slice(&rows).to_device(x.device());
            let r = chunk as i64;
            let (shown, told) =
                (x.index_select(0, &rows).view([r, k, d]), y.index_select(0, &rows).view([r, k, classes]));
            let mean = shown.mean_dim([1i64].as_slice(), true, Kind::Double);
            let centre = told.mean_dim([1i64].as_slice(), true, Kind::Double);
            let shown = shown - &mean;
            let gram = shown.bmm(&shown.transpose(1, 2));
            let ridge = gram.diagonal(0, 1, 2).sum_dim_intlist([1i64].as_slice(), false, Kind::Double)
                * (self.penalty / d as f64);
            // A draw of equal features has no ridge; any will do.
            let ridge = ridge.clamp_min(1e-300).view([r, 1, 1]);
            let scaled = gram / &ridge + &eye;
            let dual = Tensor::f_linalg_solve(&scaled, &(&told - &centre), true)? / ridge;
            let weights = shown.transpose(1, 2).bmm(&dual);
            // Scores [r, M, C] = (test - mean) W + centre.
            let offset = centre - mean.bmm(&weights);
            let scores = test.matmul(&weights) + offset;
            let right = scores.argmax(-1, false).eq_tensor(test_labels).to_kind(Kind::Double);
            shares.extend(Vec::<f64>::try_from(right.mean_dim([1i64].as_slice(), false, Kind::Double))?);
        }
        Ok(stats::mean(&shares))
    }
}

/// Accuracy on `test [M, D]` of a logistic regression (penalty 1e-4) on frozen `features [N, D]`.
///
/// # Errors
/// Other shapes, labels outside the classes.
pub fn linear_probe(
    (features, labels): (&Tensor, &Tensor),
    (test, test_labels): (&Tensor, &Tensor),
    classes: i64,
) -> Result<f64> {
    let (features, test) = (features.detach(), test.detach());
    let fit = LogisticRegression::fit(&features, labels, classes, &LogisticRegressionConfig::default())?;
    accuracy(&fit.logits(&test)?, test_labels)
}

/// Accuracy on all inputs of `language` for `labels [N]` (0 or 1) after the whole network was trained, without noise, on the inputs
/// `shown` (indices) with their labels. The network itself stays as it is.
///
/// # Errors
/// Labels of another shape, indices outside the inputs, settings out of range.
pub fn finetune(
    net: &TwoLayer,
    language: &BinaryLanguage,
    labels: &Tensor,
    shown: &[i64],
    lr: f64,
    steps: usize,
) -> Result<f64> {
    check_class_indices("labels", labels, language.len(), 2)?;
    if let Some(bad) = shown.iter().find(|i| !(0..language.len()).contains(*i)) {
        return Err(Error::value("index", format!("0 to {}", language.len() - 1), bad));
    }
    let index = Tensor::from_slice(shown).to_device(language.inputs.device());
    let part = BinaryLanguage::new(
        &language.inputs.index_select(0, &index),
        &labels.index_select(0, &index).to_kind(Kind::Double),
    )?;
    let mut tuned = net.copy();
    let quiet = Training { noise: Noise::FullBatch, lr, steps, ..Default::default() };
    continue_training(&mut tuned, &part, &quiet)?;
    let predicted = tuned.logits(&language.inputs)?.gt(0.0).to_kind(Kind::Int64);
    Ok(predicted.eq_tensor(labels).to_kind(Kind::Double).mean(Kind::Double).double_value(&[]))
}
