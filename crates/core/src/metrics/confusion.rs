//! Counts of classes against predictions: intersection over union of segmentations.

use crate::{Error, Result};
use tch::{Device, Kind, Tensor};

/// Counts of (true class, predicted class), added up over batches: of images, or of the pixels of a segmentation.
///
/// ```
/// use autodidact_core::metrics::ConfusionMatrix;
/// use tch::Tensor;
/// let mut confusion = ConfusionMatrix::new(2)?;
/// // The last pixel is marked 255: no class.
/// let (predicted, labels) = (Tensor::from_slice(&[0i64, 1, 1, 1, 0]), Tensor::from_slice(&[0i64, 0, 1, 1, 255]));
/// confusion.add(&predicted, &labels, Some(255))?;
/// assert_eq!(confusion.iou(), [1.0 / 2.0, 2.0 / 3.0]);
/// assert!((confusion.mean_iou() - 0.583333).abs() < 1e-6);
/// assert_eq!(confusion.accuracy(), 0.75);
/// # Ok::<(), autodidact_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfusionMatrix {
    classes: usize,
    /// By rows: true classes.
    counts: Vec<i64>,
}

impl ConfusionMatrix {
    /// No counts yet.
    ///
    /// # Errors
    /// No classes.
    pub fn new(classes: usize) -> Result<Self> {
        if classes == 0 {
            return Err(Error::value("classes", "at least 1", 0));
        }
        Ok(Self { classes, counts: vec![0; classes * classes] })
    }

    /// Adds predicted classes and labels, `Int64` of the same shape; where the label is `ignore`, nothing is counted.
    ///
    /// # Errors
    /// Shapes that differ, classes outside the matrix.
    pub fn add(&mut self, predicted: &Tensor, labels: &Tensor, ignore: Option<i64>) -> Result<()> {
        if predicted.size() != labels.size() {
            return Err(Error::shape(
                "predictions",
                format!("{:?}, the shape of the labels", labels.size()),
                predicted,
            ));
        }
        for (what, x) in [("predictions", predicted), ("labels", labels)] {
            if x.kind() != Kind::Int64 {
                return Err(Error::value(what, "Int64 class indices", format!("{:?}", x.kind())));
            }
        }
        let (mut predicted, mut labels) = (predicted.flatten(0, -1), labels.flatten(0, -1));
        if let Some(ignore) = ignore {
            let counted = labels.ne(ignore);
            (predicted, labels) = (predicted.masked_select(&counted), labels.masked_select(&counted));
        }
        if labels.numel() == 0 {
            return Ok(());
        }
        let n = self.classes as i64;
        for (what, x) in [("predictions", &predicted), ("labels", &labels)] {
            let (low, high) = (x.min().int64_value(&[]), x.max().int64_value(&[]));
            if low < 0 || high >= n {
                let got = format!("values from {low} to {high}");
                return Err(Error::value(what, format!("class indices below {n}"), got));
            }
        }
        let counts = (labels * n + predicted).bincount::<Tensor>(None, n * n).to_device(Device::Cpu);
        for (sum, count) in self.counts.iter_mut().zip(Vec::<i64>::try_from(counts)?) {
            *sum += count;
        }
        Ok(())
    }

    /// Number of items of true class `label` that were predicted as `predicted`.
    pub fn count(&self, label: usize, predicted: usize) -> i64 {
        self.counts[label * self.classes + predicted]
    }

    /// Intersection over union of each class, `TP / (TP + FP + FN)`; NaN of a class that is neither there nor predicted.
    pub fn iou(&self) -> Vec<f64> {
        let of = |c: usize| {
            let row: i64 = (0..self.classes).map(|p| self.count(c, p)).sum();
            let column: i64 = (0..self.classes).map(|l| self.count(l, c)).sum();
            let both = self.count(c, c);
            both as f64 / (row + column - both) as f64
        };
        (0..self.classes).map(of).collect()
    }

    /// Mean of [`iou`](Self::iou) over the classes that are there or predicted; NaN without counts.
    pub fn mean_iou(&self) -> f64 {
        let known: Vec<f64> = self.iou().into_iter().filter(|v| !v.is_nan()).collect();
        crate::stats::mean(&known)
    }

    /// Share of items whose class is predicted; NaN without counts.
    pub fn accuracy(&self) -> f64 {
        let right: i64 = (0..self.classes).map(|c| self.count(c, c)).sum();
        right as f64 / self.counts.iter().sum::<i64>() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_add_up_and_absent_classes_have_no_iou() {
        let of = |v: &[i64]| Tensor::from_slice(v).view([1, -1]);
        let mut whole = ConfusionMatrix::new(3).unwrap();
        assert!(whole.mean_iou().is_nan() && whole.accuracy().is_nan());
        whole.add(&of(&[0, 1, 1, 1]), &of(&[0, 0, 1, 1]), None).unwrap();
        let mut parts = ConfusionMatrix::new(3).unwrap();
        parts.add(&of(&[0, 1]), &of(&[0, 0]), None).unwrap();
        parts.add(&of(&[1, 1, 2]), &of(&[1, 1, 7]), Some(7)).unwrap();
        assert_eq!(whole, parts);
        assert_eq!(whole.count(0, 1), 1);
        assert!(whole.iou()[2].is_nan() && (whole.mean_iou() - 7.0 / 12.0).abs() < 1e-12);
        whole.add(&of(&[2]), &of(&[0]), None).unwrap();
        assert_eq!(whole.iou()[2], 0.0);
    }

    #[test]
    fn what_is_no_class_is_an_error() {
        let (two, three) = (Tensor::from_slice(&[0i64, 1]), Tensor::from_slice(&[0i64, 1, 2]));
        let mut m = ConfusionMatrix::new(2).unwrap();
        assert!(m.add(&two, &three, None).unwrap_err().to_string().contains("[3]"));
        assert!(m.add(&three, &three, None).unwrap_err().to_string().contains("0 to 2"));
        assert!(m.add(&two.to_kind(Kind::Float), &two, None).is_err());
        assert!(ConfusionMatrix::new(0).is_err());
    }
}
