//! Classifiers on features, the loss that keeps features apart, and the alignment of a classifier with remembered classes.

use super::learner::Tasks;
use super::memory::GaussianMemory;
use autodidact_core::error::{check_matrix, check_range};
use autodidact_core::nn::unit;
use autodidact_core::optim::{Group, Optimizer, Rule, Sgd};
use autodidact_core::schedule::{Schedule, Shape};
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// A linear classifier that grows with the classes.
#[derive(Debug)]
pub struct LinearHead {
    weight: Tensor,
    bias: Tensor,
}

impl LinearHead {
    /// For features of a width, without classes yet.
    pub fn new(width: i64, device: Device) -> Self {
        let zeros = |size: &[i64]| Tensor::zeros(size, (Kind::Float, device)).set_requires_grad(true);
        Self { weight: zeros(&[0, width]), bias: zeros(&[0]) }
    }

    /// From a matrix `[C, d]` and a bias `[C]`.
    ///
    /// # Errors
    /// Other shapes.
    pub fn of(weight: Tensor, bias: Tensor) -> Result<Self> {
        let (classes, _) = check_matrix("weight", &weight)?;
        if bias.size() != [classes] {
            return Err(Error::shape("bias", format!("[{classes}]"), &bias));
        }
        let leaf = |t: Tensor| t.detach().copy().set_requires_grad(true);
        Ok(Self { weight: leaf(weight), bias: leaf(bias) })
    }

    /// Number of classes.
    pub fn classes(&self) -> i64 {
        self.bias.size()[0]
    }

    /// Adds classes with PyTorch's default weights, `U(-1/sqrt(d), 1/sqrt(d))`, drawn by libtorch's generator.
    pub fn grow(&mut self, classes: i64) {
        let (_, width) = self.weight.size2().expect("a matrix by construction");
        let bound = 1.0 / (width as f64).sqrt();
        let drawn = |size: &[i64]| Tensor::empty(size, (Kind::Float, self.weight.device())).uniform_(-bound, bound);
        let (weight, bias) = (drawn(&[classes, width]), drawn(&[classes]));
        self.weight = Tensor::cat(&[self.weight.detach(), weight], 0).set_requires_grad(true);
        self.bias = Tensor::cat(&[self.bias.detach(), bias], 0).set_requires_grad(true);
    }

    /// Logits `[..., C]` of features `[..., d]`.
    pub fn logits(&self, features: &Tensor) -> Tensor {
        features.linear(&self.weight, Some(&self.bias))
    }

    /// Cross-entropy of the classes from `from` on, the others being left out.
    pub(super) fn loss_from(&self, features: &Tensor, labels: &Tensor, from: i64) -> Tensor {
        let new = self.classes() - from;
        let logits = features.linear(&self.weight.narrow(0, from, new), Some(self.bias.narrow(0, from, new)));
        logits.cross_entropy_for_logits(&(labels - from))
    }

    /// The tensors as a group of an optimizer.
    pub fn group(&self, weight_decay: f64) -> Group {
        let named = [("head.weight", &self.weight), ("head.bias", &self.bias)];
        Group::of(named.map(|(n, t)| (n.to_owned(), t.shallow_clone())).into(), weight_decay)
    }
}

/// A classifier by the cosine between features and the classes' prototypes.
#[derive(Debug, Default)]
pub struct CosineHead {
    /// Of length 1, `[C, d]`.
    prototypes: Option<Tensor>,
}

impl CosineHead {
    /// Adds the prototypes `[k, d]` of the next classes.
    ///
    /// # Errors
    /// No matrix, or of another width.
    pub fn push(&mut self, prototypes: &Tensor) -> Result<()> {
        let (_, d) = check_matrix("prototypes", prototypes)?;
        let new = unit(prototypes);
        self.prototypes = Some(match &self.prototypes {
            Some(old) if old.size()[1] != d => {
                return Err(Error::shape("prototypes", format!("[k, {}]", old.size()[1]), prototypes));
            }
            Some(old) => Tensor::cat(&[old, &new], 0),
            None => new,
        });
        Ok(())
    }

    /// Cosines `[N, C]` of features `[N, d]`.
    ///
    /// # Errors
    /// No prototypes yet, features of another width.
    pub fn logits(&self, features: &Tensor) -> Result<Tensor> {
        let Some(prototypes) = &self.prototypes else {
            return Err(Error::value("prototypes", "a class or more", "none"));
        };
        let (_, d) = check_matrix("features", features)?;
        if d != prototypes.size()[1] {
            return Err(Error::shape("features", format!("[N, {}]", prototypes.size()[1]), features));
        }
        Ok(unit(features).matmul(&prototypes.tr()))
    }
}

/// Means `[k, d]` of the features of each of the `k` classes from `from` on.
pub(super) fn class_means(features: &Tensor, labels: &Tensor, from: i64, k: i64) -> Tensor {
    let member = (labels - from).one_hot(k).to_kind(features.kind());
    let count = member.sum_dim_intlist([0i64].as_slice(), false, features.kind()).unsqueeze(1);
    member.tr().matmul(features) / count
}

/// Keeps features apart from each other and from the means of earlier classes: with the rows `M` of `class_means [K, d]` (if there are any)
/// and `features [B, d]`, `S = M M^T / tau`, the mean over rows of the cross-entropy of `S_i` with label `i`. Neither is detached or
/// normalised.
///
/// ```
/// use autodidact_unlearning::model_surgery::orth_loss;
/// use tch::Tensor;
/// let features = Tensor::from_slice2(&[[1f64, 0.0], [0.0, 1.0], [0.6, 0.8]]);
/// // S = [[1.25, 0, 0.75], [0, 1.25, 1], [0.75, 1, 1.25]].
/// assert!((orth_loss(&features, None, 0.8)?.double_value(&[]) - 0.744266).abs() < 1e-6);
/// # Ok::<(), autodidact_core::Error>(())
/// ```
///
/// # Errors
/// No matrices of one width, no features, a `tau` that is not positive.
pub fn orth_loss(features: &Tensor, class_means: Option<&Tensor>, tau: f64) -> Result<Tensor> {
    let (n, d) = check_matrix("features", features)?;
    check_range("features", n as f64, 1.0..)?;
    check_range("tau", tau, f64::MIN_POSITIVE..)?;
    let rows = match class_means {
        Some(means) if check_matrix("class means", means)?.1 != d => {
            return Err(Error::shape("class means", format!("[K, {d}]"), means));
        }
        Some(means) => Tensor::cat(&[means, features], 0),
        None => features.shallow_clone(),
    };
    let similar = rows.matmul(&rows.tr()) / tau;
    let each = similar.logsumexp([1i64].as_slice(), false) - similar.diagonal(0, 0, 1);
    Ok(each.mean(similar.kind()))
}

/// How a classifier is aligned with remembered classes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Alignment {
    /// Times that the classes are drawn.
    pub epochs: usize,
    /// Draws of each class, and samples of a step; as many steps as classes are taken. At least 1.
    pub samples: i64,
    /// SGD's rate; a cosine to 0 over the epochs.
    pub lr: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// SLCA: logits are divided by this times their mean norm over tasks.
    pub logit_norm: Option<f64>,
    /// SLCA: means of task `t` of `B` are multiplied by `0.9 + 0.1 (t + 1) / B`.
    pub older_means_shrink: bool,
}

impl Default for Alignment {
    /// MOS with batches of 48.
    fn default() -> Self {
        Self { epochs: 30, samples: 240, lr: 0.005, weight_decay: 5e-4, logit_norm: None, older_means_shrink: false }
    }
}

impl Alignment {
    pub(super) fn check(&self) -> Result<()> {
        check_range("alignment samples", self.samples as f64, 1.0..)?;
        check_range("alignment rate", self.lr, 0.0..)?;
        check_range("alignment weight decay", self.weight_decay, 0.0..)?;
        self.logit_norm.map_or(Ok(()), |t| check_range("logit norm", t, f64::MIN_POSITIVE..))
    }
}

/// Trains a classifier on draws of all remembered classes alike, so that classes that were never trained together can be compared. All
/// draws come from libtorch's generator; nothing is read back from the device.
///
/// # Errors
/// Settings outside their ranges, classifier, memory and tasks of different numbers of classes.
pub fn align_classifier(head: &LinearHead, memory: &GaussianMemory, tasks: &Tasks, config: &Alignment) -> Result<()> {
    config.check()?;
    let classes = memory.len() as i64;
    if head.classes() != classes || tasks.classes() != classes {
        let got = format!("{} and {}", head.classes(), tasks.classes());
        return Err(Error::value("classes of classifier and tasks", format!("{classes} as the memory"), got));
    }
    let factor = |class: usize| {
        if !config.older_means_shrink {
            return 1.0;
        }
        0.9 + 0.1 * (tasks.of_class(class as i64) + 1) as f64 / tasks.len() as f64
    };
    let schedule = Schedule::new(config.lr, config.epochs, Shape::cosine_to(0.0));
    let mut optimizer = Optimizer::new(Rule::Sgd(Sgd::default()), vec![head.group(config.weight_decay)])?;
    let device = head.weight.device();
    let labels = Tensor::arange(classes, (Kind::Int64, device)).view([-1, 1]).repeat([1, config.samples]).flatten(0, 1);
    for epoch in 0..config.epochs {
        let order = Tensor::randperm(classes * config.samples, (Kind::Int64, device));
        let drawn = memory.sample_all(config.samples, factor)?.index_select(0, &order);
        let labels = labels.index_select(0, &order);
        for (x, y) in drawn.split(config.samples, 0).iter().zip(labels.split(config.samples, 0)) {
            optimizer.zero_grad();
            let logits = head.logits(x);
            let logits = match config.logit_norm {
                Some(share) => &logits / (task_norms(&logits, tasks) * share),
                None => logits,
            };
            logits.cross_entropy_for_logits(&y).backward();
            optimizer.step(schedule.lr(epoch))?;
        }
    }
    Ok(())
}

/// Mean over tasks of the norm of their logits, `[N, 1]`.
fn task_norms(logits: &Tensor, tasks: &Tasks) -> Tensor {
    let norms: Vec<Tensor> = (0..tasks.len())
        .map(|t| {
            let range = tasks.range(t);
            logits.narrow(1, range.start, range.end - range.start).norm_scalaropt_dim(2.0, [1i64].as_slice(), true)
                + 1e-7
        })
        .collect();
    Tensor::cat(&norms, 1).mean_dim([1i64].as_slice(), true, Kind::Float)
}
