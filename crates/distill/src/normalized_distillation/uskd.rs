//! USKD: soft labels that the student makes for itself.

use super::targets;
use crate::logits::{hidden_log_softmax, mean, row_sum};
use autodidact_core::device::in_full_precision;
use autodidact_core::error::{check_matrix, check_range};
use autodidact_core::nn::layers;
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::nn::{Linear, Module, Path};
use tch::{Kind, Tensor};

/// Keeps ratios of masses finite.
const EPS: f64 = 1e-6;

/// What of the student's output enters the score by which classes are ranked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RankScore {
    /// Probabilities, as the paper has it.
    Probability,
    /// Log-probabilities, as the published code has it (it has overwritten the probabilities by then).
    LogProbability,
    /// Nothing: classes are ranked at random, by libtorch's generator. A control.
    Random,
}

/// Constants of USKD.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct UskdConfig {
    /// Weight of the target part.
    pub alpha: f64,
    /// Weight of the non-target part.
    pub beta: f64,
    /// Weight of the weak head's cross entropy.
    pub mu: f64,
    /// Label smoothing of the weak head's target.
    pub smoothing: f64,
    /// Exponent of Zipf's law.
    pub zipf_exponent: f64,
    /// How classes are ranked.
    pub rank_score: RankScore,
}

impl Default for UskdConfig {
    /// The values for ImageNet.
    fn default() -> Self {
        Self {
            alpha: 1.0,
            beta: 0.1,
            mu: 0.005,
            smoothing: 0.1,
            zipf_exponent: 1.0,
            rank_score: RankScore::Probability,
        }
    }
}

impl UskdConfig {
    /// The values for CIFAR-100.
    pub fn cifar100() -> Self {
        Self { alpha: 0.1, mu: 0.1, ..Self::default() }
    }
}

/// The parts of USKD, scalars with their weights.
#[derive(Debug)]
pub struct UskdOutput {
    /// Their sum, to be added to the cross entropy with weight 1.
    pub total: Tensor,
    /// `-alpha mean_b P log S_y`.
    pub target: Tensor,
    /// `-beta mean_b sum_{i != y} z_i log N_i(s)`.
    pub non_target: Tensor,
    /// `-mu mean_b sum_i q_i log softmax(w)_i`.
    pub weak: Tensor,
}

/// USKD with its weakly supervised head, a linear layer on an intermediate feature, needed in training alone.
#[derive(Debug)]
pub struct Uskd {
    config: UskdConfig,
    head: Linear,
}

impl Uskd {
    /// A fresh head under `p`, for features of width `features`.
    ///
    /// # Errors
    /// No features, fewer than two classes, negative weights, smoothing outside `[0, 1]`.
    pub fn new(p: Path, features: i64, classes: i64, config: UskdConfig) -> Result<Self> {
        check_range("features", features as f64, 1.0..)?;
        check_range("classes", classes as f64, 2.0..)?;
        let UskdConfig { alpha, beta, mu, smoothing, zipf_exponent, .. } = config;
        for (what, value) in [("alpha", alpha), ("beta", beta), ("mu", mu), ("zipf_exponent", zipf_exponent)] {
            check_range(what, value, 0.0..)?;
        }
        check_range("smoothing", smoothing, 0.0..=1.0)?;
        Ok(Self { config, head: layers::linear(p / "weak_head", features, classes, true) })
    }

    /// Of an intermediate feature `[B, F]` (pooled; it gets gradients from the weak head), logits `[B, C]` and labels: class indices
    /// `[B]`, or distributions `[B, C]` of mixed images, of which the two heaviest classes are targets.
    ///
    /// # Errors
    /// Shapes that do not match, labels outside the classes.
    pub fn forward(&self, feature: &Tensor, logits: &Tensor, labels: &Tensor) -> Result<UskdOutput> {
        let (b, c) = check_matrix("logits", logits)?;
        if b < 1 || c < 2 || c != self.head.ws.size()[0] {
            return Err(Error::shape("logits", format!("[B, {}]", self.head.ws.size()[0]), logits));
        }
        let (n, f) = check_matrix("feature", feature)?;
        if n != b || f != self.head.ws.size()[1] {
            return Err(Error::shape("feature", format!("[{b}, {}]", self.head.ws.size()[1]), feature));
        }
        let weak = self.head.forward(feature);
        in_full_precision([logits, &weak], |[logits, weak]| {
            let kind = logits.kind();
            let (classes, weights) = targets(labels, b, c, kind)?;
            let log_s = logits.log_softmax(1, kind);
            let log_at = log_s.gather(1, &classes, false);
            let label = soft_target_label(&log_at.detach().exp(), &weights)?;
            let log_w = weak.log_softmax(1, kind);
            let uniform = self.config.smoothing / c as f64;
            let hard = if labels.is_floating_point() {
                labels.to_kind(kind)
            } else {
                log_w.detach().zeros_like().scatter_value(1, &classes, 1.0)
            };
            let scores = rank_score(&logits.detach(), &weak.detach(), &classes, self.config.rank_score)?;
            let zipf = zipf_labels(&scores, &classes, self.config.zipf_exponent)?;
            let others = hidden_log_softmax(&logits, &classes, 1.0);
            let target = mean(&row_sum(&(label * log_at))) * -self.config.alpha;
            let non_target = mean(&row_sum(&(zipf * others))) * -self.config.beta;
            let weak = mean(&row_sum(&((hard * (1.0 - self.config.smoothing) + uniform) * log_w))) * -self.config.mu;
            Ok(UskdOutput { total: &target + &non_target + &weak, target, non_target, weak })
        })
    }

    /// Scores of the weak head, `[B, C]`, for features `[B, F]`.
    pub fn weak_logits(&self, feature: &Tensor) -> Tensor {
        self.head.forward(feature)
    }
}

/// The soft target label `P = S_y^2 + V - mean_b S_y^2`, detached: probabilities `[B, K]` of the targets and their weights `V`, 1 for
/// hard labels; 0 where a weight is, and not counted there. Its mean over the batch is that of `V`, and single entries may exceed 1.
///
/// # Errors
/// Shapes that differ.
pub fn soft_target_label(probability: &Tensor, weight: &Tensor) -> Result<Tensor> {
    check_matrix("probability", probability)?;
    if weight.size() != probability.size() {
        return Err(Error::shape("weight", format!("{:?}, the shape of probability", probability.size()), weight));
    }
    let absent = weight.eq(0.0);
    let squares = probability.detach().square().masked_fill(&absent, 0.0);
    let centre = squares.mean_dim([0i64].as_slice(), true, squares.kind());
    Ok((squares + weight - centre).masked_fill(&absent, 0.0))
}

/// The score by which classes are ranked, `R_i = W_i/(1 - W_y) + S_i/(1 - S_y)` of the softmaxes of the weak head's and the student's
/// logits `[B, C]`, for targets `[B, K]` (their probabilities are summed); detached, `[B, C]`.
///
/// # Errors
/// Shapes that differ.
pub fn rank_score(logits: &Tensor, weak: &Tensor, targets: &Tensor, how: RankScore) -> Result<Tensor> {
    check_matrix("logits", logits)?;
    if weak.size() != logits.size() {
        return Err(Error::shape("weak logits", format!("{:?}, the shape of logits", logits.size()), weak));
    }
    let share = |p: Tensor| {
        // A target that is named twice counts once.
        let own = (&p - p.scatter_value(1, targets, 0.0)).sum_dim_intlist([1i64].as_slice(), true, p.kind());
        p / (1.0 + EPS - own)
    };
    let (s, w) = (logits.detach(), weak.detach());
    let student = match how {
        RankScore::Random => return Ok(s.rand_like()),
        RankScore::Probability => s.softmax(1, s.kind()),
        RankScore::LogProbability => s.log_softmax(1, s.kind()),
    };
    Ok(share(w.softmax(1, w.kind())) + share(student))
}

/// Soft non-target labels by Zipf's law, `[B, C]`: `rank^-exponent` by descending score `[B, C]` over all classes, 0 for the targets
/// `[B, K]`, brought to sum 1 over the others. (The target takes a rank too: usually the first, so the others begin at 1/2.)
///
/// # Errors
/// Scores that are no matrix.
pub fn zipf_labels(scores: &Tensor, targets: &Tensor, exponent: f64) -> Result<Tensor> {
    let (b, c) = check_matrix("scores", scores)?;
    let law = Tensor::arange_start(1, c + 1, (Kind::Double, scores.device())).pow_tensor_scalar(-exponent);
    let law = law.to_kind(scores.kind()).unsqueeze(0).expand([b, c], false);
    let (_, order) = scores.detach().sort_stable(true, 1, true);
    let z = scores.detach().zeros_like().scatter(1, &order, &law).scatter_value(1, targets, 0.0);
    let sum = z.sum_dim_intlist([1i64].as_slice(), true, z.kind());
    Ok(z / sum)
}
