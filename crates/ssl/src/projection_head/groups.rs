//! Representations under spurious correlation: accuracy of the worst group, and a last layer trained on balanced groups.

use autodidact_core::error::{check_class_indices, check_labels, check_matrix, check_range};
use autodidact_core::metrics::{LogisticRegression, LogisticRegressionConfig, standardise};
use autodidact_core::seed::Rng;
use autodidact_core::{Error, Result};
use rand::seq::SliceRandom;
use tch::{Device, Kind, Tensor};

/// Accuracy of each group of samples and the least of them: `scores [N, C]`, `labels [N]`, `groups [N]` in `0..count`. A group
/// without samples has no accuracy (NaN) and does not count.
///
/// # Errors
/// Wrong shapes, groups outside the count, no samples.
pub fn worst_group_accuracy(scores: &Tensor, labels: &Tensor, groups: &Tensor, count: i64) -> Result<(f64, Vec<f64>)> {
    let (n, _) = check_matrix("scores", scores)?;
    check_labels("labels", labels, n)?;
    check_class_indices("groups", groups, n, count)?;
    let right = scores.argmax(1, false).eq_tensor(labels).to_kind(Kind::Double);
    let total = groups.bincount::<&Tensor>(None, count).to_kind(Kind::Double);
    let each: Vec<f64> = (groups.bincount(Some(&right), count) / total).to_device(Device::Cpu).try_into()?;
    Ok((each.iter().copied().fold(f64::NAN, f64::min), each))
}

/// Last-layer retraining (Kirichenko, Izmailov and Wilson, 2023; arXiv 2204.02937), as a configuration: logistic regressions on
/// standardised features of random subsets in which all groups are of one size, their weights averaged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LastLayer {
    /// Subsets, each with a fit of its own.
    pub subsets: usize,
    /// The fit.
    pub fit: LogisticRegressionConfig,
}

impl Default for LastLayer {
    /// 10 subsets. (The paper tunes an L1 penalty; here it is the L2 penalty of the fit, to be tuned by the caller.)
    fn default() -> Self {
        Self { subsets: 10, fit: LogisticRegressionConfig { penalty: 1e-2, ..Default::default() } }
    }
}

/// Retrains the last layer on `features [N, D]` with `labels [N]` in `0..classes` and `groups [N]` in `0..count`, and returns
/// its logits `[M, classes]` (f64) for `test [M, D]`.
///
/// # Errors
/// Wrong shapes, indices out of range, a group without samples, no subsets, features that are not finite.
pub fn last_layer_retrain(
    (features, labels, groups): (&Tensor, &Tensor, &Tensor),
    (classes, count): (i64, i64),
    test: &Tensor,
    config: &LastLayer,
    rng: &mut Rng,
) -> Result<Tensor> {
    let (n, _) = check_matrix("features", features)?;
    check_class_indices("labels", labels, n, classes)?;
    check_class_indices("groups", groups, n, count)?;
    check_range("subsets", config.subsets as f64, 1.0..)?;
    let mut members = vec![vec![]; count as usize];
    for (i, group) in (0i64..).zip(Vec::<i64>::try_from(groups.to_device(Device::Cpu))?) {
        members[group as usize].push(i);
    }
    let size = members.iter().map(Vec::len).min().unwrap_or(0);
    if size == 0 {
        return Err(Error::value("groups", format!("samples of each of {count}"), "none of some"));
    }
    let (x, [test]) = standardise(features, [test])?;
    let mut sum: Option<LogisticRegression> = None;
    for _ in 0..config.subsets {
        let mut chosen = vec![];
        for group in &mut members {
            group.shuffle(rng);
            chosen.extend_from_slice(&group[..size]);
        }
        let index = Tensor::from_slice(&chosen).to_device(x.device());
        let (x, y) = (x.index_select(0, &index), labels.index_select(0, &index));
        let fit = LogisticRegression::fit(&x, &y, classes, &config.fit)?;
        sum = Some(match sum {
            None => fit,
            Some(sum) => LogisticRegression {
                weight: sum.weight + fit.weight,
                bias: sum.bias + fit.bias,
                converged: sum.converged && fit.converged,
            },
        });
    }
    let sum = sum.expect("at least one subset");
    Ok(sum.logits(&test)? / config.subsets as f64)
}
