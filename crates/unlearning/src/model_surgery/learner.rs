//! What all class-incremental learners share: tasks, the training on one, and the metrics.

use autodidact_core::error::{check_class_indices, check_labels, check_range};
use autodidact_core::optim::{Group, Optimizer, Rule, Sgd};
use autodidact_core::schedule::{Schedule, Shape};
use autodidact_core::{Error, Result, seed};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use tch::{Device, Kind, Tensor};

/// Which classes came with which task. Classes are numbered in the order in which they come.
///
/// ```
/// use autodidact_unlearning::model_surgery::Tasks;
/// use tch::Tensor;
/// let mut tasks = Tasks::default();
/// assert_eq!(tasks.add(&Tensor::from_slice(&[1i64, 0, 1, 0]))?, 0..2);
/// assert_eq!(tasks.add(&Tensor::from_slice(&[2i64, 2, 3, 3, 4, 4]))?, 2..5);
/// assert_eq!((tasks.len(), tasks.classes(), tasks.of_class(3)), (2, 5, 1));
/// assert!(tasks.add(&Tensor::from_slice(&[4i64, 5])).is_err()); // class 4 is known
/// # Ok::<(), autodidact_core::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tasks {
    /// First class after each task.
    ends: Vec<i64>,
}

impl Tasks {
    /// The next task, by the labels `[N]` (Int64) of its samples: its classes follow those before.
    ///
    /// # Errors
    /// Labels of earlier classes, a class in between without two samples.
    pub fn add(&mut self, labels: &Tensor) -> Result<Range<i64>> {
        let known = self.classes();
        check_labels("labels", labels, labels.size().first().copied().unwrap_or(0))?;
        if labels.numel() == 0 {
            return Err(Error::value("samples of a task", "one or more", 0));
        }
        let (low, high) = (labels.min().int64_value(&[]), labels.max().int64_value(&[]));
        if low < known {
            return Err(Error::value("labels of a new task", format!("classes from {known} on"), low));
        }
        let counts = Vec::<i64>::try_from((labels - known).bincount::<Tensor>(None, 0))?;
        if let Some(few) = counts.iter().position(|c| *c < 2) {
            let what = format!("samples of class {}", known + few as i64);
            return Err(Error::value(what, "two or more", counts[few]));
        }
        self.ends.push(high + 1);
        Ok(known..high + 1)
    }

    /// Number of tasks.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there was none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Number of classes of all tasks.
    pub fn classes(&self) -> i64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Classes of a task; those of the last for tasks that have not come yet.
    pub fn range(&self, task: usize) -> Range<i64> {
        let end = |i: usize| self.ends.get(i).copied().unwrap_or_else(|| self.classes());
        task.checked_sub(1).map_or(0, end)..end(task)
    }

    /// The task of a class; [`len`](Self::len) of a class that has not come yet.
    pub fn of_class(&self, class: i64) -> usize {
        self.ends.partition_point(|end| *end <= class)
    }

    /// The tasks of all classes, `[C]` (Int64).
    pub fn of_classes(&self, device: Device) -> Tensor {
        let tasks: Vec<i64> = (0..self.classes()).map(|c| self.of_class(c) as i64).collect();
        Tensor::from_slice(&tasks).to_device(device)
    }
}

/// A learner whose classes come task by task, without a way back to earlier samples.
pub trait CilLearner {
    /// Learns a task: images `[N, C, side, side]` as the backbone takes them, labels `[N]` (Int64) of classes that follow those before
    /// ([`Tasks`]).
    ///
    /// # Errors
    /// Labels of earlier classes, images of another size, a loss that is not finite.
    fn observe_task(&mut self, images: &Tensor, labels: &Tensor) -> Result<()>;

    /// Scores `[N, classes so far]` of images, largest for the predicted class.
    ///
    /// # Errors
    /// Images of another size, no task yet.
    fn predict(&mut self, images: &Tensor) -> Result<Tensor>;

    /// The tasks so far.
    fn tasks(&self) -> &Tasks;
}

/// How a task is learned, the same for all learners that train: SGD with momentum 0.9, a cosine to 0 over the epochs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TaskTraining {
    /// Passes over the task's samples.
    pub epochs: usize,
    /// Samples of a step; an epoch's last may have fewer. At least 1.
    pub batch: i64,
    /// Rate.
    pub lr: f64,
    /// Factor of the rate for adapters or the backbone.
    pub body_scale: f64,
    /// Factor of the rate for the classifier.
    pub head_scale: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Base of the random numbers (weights, order, dropout, draws), which libtorch's generator makes.
    pub seed: u64,
}

impl Default for TaskTraining {
    /// The official code's for CIFAR-100 in steps of 5 classes.
    fn default() -> Self {
        Self { epochs: 20, batch: 48, lr: 0.03, body_scale: 1.0, head_scale: 0.1, weight_decay: 5e-4, seed: 0 }
    }
}

impl TaskTraining {
    /// Checks the ranges.
    ///
    /// # Errors
    /// Settings outside them.
    pub fn check(&self) -> Result<()> {
        check_range("batch", self.batch as f64, 1.0..)?;
        for (what, value) in [
            ("lr", self.lr),
            ("body_scale", self.body_scale),
            ("head_scale", self.head_scale),
            ("weight_decay", self.weight_decay),
        ] {
            check_range(what, value, 0.0..)?;
        }
        Ok(())
    }

    /// Seeds libtorch's generator for a task.
    pub(super) fn begin(&self, task: usize) {
        seed::seed_torch(self.seed, &["task", &task.to_string()]);
    }

    /// Seeds libtorch's generator for the weights of fresh adapters, so that all learners begin with the same.
    pub(super) fn begin_adapter(&self, number: usize) {
        seed::seed_torch(self.seed, &["adapter", &number.to_string()]);
    }

    /// Takes the steps of a task of `samples` samples; `loss` gets the indices of a batch, and `after` comes after every step.
    pub(super) fn run(
        &self,
        (body, head): (Group, Group),
        samples: i64,
        device: Device,
        mut loss: impl FnMut(&Tensor) -> Result<Tensor>,
        mut after: impl FnMut() -> Result<()>,
    ) -> Result<()> {
        self.check()?;
        let groups = vec![body.scaled(self.body_scale), head.scaled(self.head_scale)];
        let mut optimizer = Optimizer::new(Rule::Sgd(Sgd::default()), groups)?;
        let schedule = Schedule::new(self.lr, self.epochs, Shape::cosine_to(0.0));
        for epoch in 0..self.epochs {
            let order = Tensor::randperm(samples, (Kind::Int64, device));
            let mut last = None;
            for batch in order.split(self.batch, 0) {
                optimizer.zero_grad();
                let value = loss(&batch)?;
                value.f_backward()?;
                optimizer.step(schedule.lr(epoch))?;
                after()?;
                last = Some(value.detach());
            }
            // Once per epoch: reading the loss waits for the device.
            let loss = last.map_or(0.0, |l| l.double_value(&[]));
            if !loss.is_finite() {
                return Err(Error::Diverged { loss, step: epoch, total: self.epochs });
            }
        }
        Ok(())
    }
}

/// Accuracies after every task.
///
/// ```
/// use autodidact_unlearning::model_surgery::CilMetrics;
/// use tch::Tensor;
/// let tasks = Tensor::from_slice(&[0i64, 0, 1]); // of three classes
/// let mut metrics = CilMetrics::default();
/// metrics.record(&Tensor::from_slice(&[0i64, 1]), &Tensor::from_slice(&[0i64, 1]), &tasks)?;
/// // After the second task an image of the first is forgotten.
/// metrics.record(&Tensor::from_slice(&[0i64, 2, 2, 2]), &Tensor::from_slice(&[0i64, 1, 2, 2]), &tasks)?;
/// assert_eq!(metrics.curve(), [100.0, 75.0]);
/// assert_eq!((metrics.average(), metrics.last(), metrics.forgetting()), (87.5, 75.0, 50.0));
/// # Ok::<(), autodidact_core::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CilMetrics {
    /// By evaluation, `(right, all)` of each task.
    counts: Vec<Vec<(f64, f64)>>,
}

impl CilMetrics {
    /// An evaluation after the next task: predicted classes and labels `[N]` (Int64) of images of all tasks so far, and the tasks of the
    /// classes `[C]` (Int64; more classes than came are allowed).
    ///
    /// # Errors
    /// Other shapes, labels without a task.
    pub fn record(&mut self, predicted: &Tensor, labels: &Tensor, class_to_task: &Tensor) -> Result<()> {
        let n = labels.size().first().copied().unwrap_or(0);
        check_class_indices("labels", labels, n, class_to_task.numel() as i64)?;
        check_labels("predictions", predicted, n)?;
        let task = class_to_task.index_select(0, labels);
        let right = predicted.eq_tensor(labels).to_kind(Kind::Double);
        let of = |weights: Tensor| Ok::<_, Error>(Vec::<f64>::try_from(task.bincount(Some(weights), 0))?);
        let (right, all) = (of(right.shallow_clone())?, of(right.ones_like())?);
        self.counts.push(right.into_iter().zip(all).collect());
        Ok(())
    }

    /// Accuracy (%) on all classes so far, after each task.
    pub fn curve(&self) -> Vec<f64> {
        let share = |counts: &Vec<(f64, f64)>| {
            let (right, all) = counts.iter().fold((0.0, 0.0), |s, c| (s.0 + c.0, s.1 + c.1));
            100.0 * right / all
        };
        self.counts.iter().map(share).collect()
    }

    /// Mean of the curve; NaN without evaluations.
    pub fn average(&self) -> f64 {
        autodidact_core::stats::mean(&self.curve())
    }

    /// End of the curve; NaN without evaluations.
    pub fn last(&self) -> f64 {
        self.curve().last().copied().unwrap_or(f64::NAN)
    }

    /// Accuracy (%) on the images of each task at each evaluation; NaN of a task without images.
    pub fn by_task(&self) -> Vec<Vec<f64>> {
        self.counts.iter().map(|c| c.iter().map(|(right, all)| 100.0 * right / all).collect()).collect()
    }

    /// Mean over all tasks but the last of the best accuracy minus the last one, in points; 0 of a single task.
    pub fn forgetting(&self) -> f64 {
        let by_task = self.by_task();
        let Some((last, _)) = by_task.split_last() else { return f64::NAN };
        let lost =
            |t: usize| by_task.iter().filter_map(|e| e.get(t)).copied().fold(f64::NEG_INFINITY, f64::max) - last[t];
        let lost: Vec<f64> = (0..last.len().saturating_sub(1)).map(lost).collect();
        if lost.is_empty() { 0.0 } else { autodidact_core::stats::mean(&lost) }
    }
}
