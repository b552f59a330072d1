//! Barlow Twins (Zbontar, Jing, Misra, LeCun and Deny, 2021; arXiv 2103.03230).
//!
//! Two views of each image pass through the same network. The cross-correlation matrix of the two batches of embeddings is
//! pushed to the identity: its diagonal makes every unit invariant to the augmentation, its off-diagonal entries decorrelate
//! the units, so that the code is neither constant nor redundant.
//!
//! With columns standardised over the batch (biased variance, `eps` under the root),
//! `C_ij = 1/N sum_b za_bi zb_bj` and
//! `L = sum_i (1 - C_ii)^2 + lambda sum_i sum_{j != i} C_ij^2` (sums, not means).
//!
//! ```
//! use autodidact_ssl::barlow_twins::{BarlowTwinsLoss, Standardise};
//! use tch::Tensor;
//!
//! let za = Tensor::from_slice2(&[[1f32, 2.], [-1., 0.], [2., -2.], [-2., 1.]]);
//! let zb = Tensor::from_slice2(&[[1f32, 1.], [-1., 1.], [2., -1.], [-2., 0.]]);
//! let standardise = Standardise::Batch { unbiased: false, eps: 0.0 };
//! let loss = BarlowTwinsLoss { lambda: 5e-3, standardise, ..Default::default() }.forward(&za, &zb).unwrap();
//! // C = [[1, -0.3814], [-0.4276, 0.7645]]: 0.0555 + 0.005 * 0.3283.
//! assert!((loss.total.double_value(&[]) - 0.0571156).abs() < 1e-6);
//! ```

use crate::{check_pair, in_full_precision};
use autodidact_core::error::check_range;
use autodidact_core::nn::{Mlp, MlpConfig};
use autodidact_core::optim::{Group, Lars, Optimizer, Rule};
use autodidact_core::schedule::{Schedule, Shape};
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::nn::{Path, VarStore};
use tch::{Kind, Tensor};

/// How embeddings are normalised before they are correlated.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Standardise {
    /// Each column to mean 0 and variance 1 over the batch.
    Batch {
        /// Divide the variance by `N - 1` (the paper's pseudo-code) instead of `N` (its code).
        unbiased: bool,
        /// Added to the variance.
        eps: f64,
    },
    /// Each column to mean 0: `C` is the cross-covariance.
    None,
    /// Columns as in `Batch`, then each row to length `sqrt(D)`, so that `C` of identical isotropic views is near the identity.
    /// (The paper's "feature normalisation"; its scale is not stated.)
    BatchThenFeature,
}

/// The official code's: batch norm without affine parameters.
const OFFICIAL: Standardise = Standardise::Batch { unbiased: false, eps: 1e-5 };

/// Which loss of the paper's ablation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Form {
    /// Both terms.
    Full,
    /// The diagonal sum alone.
    InvarianceOnly,
    /// The off-diagonal sum alone, without `lambda`.
    RedundancyOnly,
    /// `-log sum_i exp(C_ii/tau) + lambda log sum_{i != j} exp(max(C_ij, 0)/tau)`.
    CrossEntropy {
        /// Temperature.
        tau: f64,
    },
}

/// Where the off-diagonal entries come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Redundancy {
    /// The cross-correlation of the two views.
    Cross,
    /// The auto-correlation of the first view.
    Auto,
}

/// The loss, as a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BarlowTwinsLoss {
    /// `lambda`, weight of the redundancy term, above 0. Default: the code's 0.0051 (the text says 5e-3).
    pub lambda: f64,
    /// Which terms.
    pub form: Form,
    /// Normalisation of the embeddings.
    pub standardise: Standardise,
    /// Source of the off-diagonal entries.
    pub redundancy: Redundancy,
}

impl Default for BarlowTwinsLoss {
    fn default() -> Self {
        Self { lambda: 0.0051, form: Form::Full, standardise: OFFICIAL, redundancy: Redundancy::Cross }
    }
}

/// The loss and its parts: differentiable scalars, in f32 (f64 for embeddings in f64).
#[derive(Debug)]
pub struct BarlowTwinsOutput {
    /// What is minimised.
    pub total: Tensor,
    /// `sum_i (1 - C_ii)^2`.
    pub on_diag: Tensor,
    /// `sum_i sum_{j != i} C_ij^2`, without `lambda`.
    pub off_diag: Tensor,
}

/// One view's embeddings `[N, D]`, normalised; gradients flow through the statistics.
pub(crate) fn normalised(z: &Tensor, how: Standardise) -> Tensor {
    match how {
        Standardise::None => z - z.mean_dim([0i64].as_slice(), true, z.kind()),
        Standardise::Batch { unbiased, eps } => {
            let n = z.size()[0] as f64;
            // Batch norm is biased. With variances n/(n-1) times as large, 1/sqrt(v n/(n-1) + eps) = k/sqrt(v + k^2 eps).
            let k = if unbiased { ((n - 1.0) / n).sqrt() } else { 1.0 };
            let z = z.batch_norm::<Tensor>(None, None, None, None, true, 0.0, k * k * eps, true);
            if unbiased { z * k } else { z }
        }
        Standardise::BatchThenFeature => {
            let z = normalised(z, OFFICIAL);
            let length = z.norm_scalaropt_dim(2.0, [1i64].as_slice(), true).clamp_min(1e-12);
            &z / length * (z.size()[1] as f64).sqrt()
        }
    }
}

/// The cross-correlation matrix `[D, D]` of two batches of embeddings `[N, D]`, in f32; rows belong to `za`.
///
/// # Errors
/// Shapes that differ, or fewer than two rows.
pub fn cross_correlation(za: &Tensor, zb: &Tensor, standardise: Standardise) -> Result<Tensor> {
    let (n, _) = check_pair(za, zb)?;
    in_full_precision([za, zb], |views| {
        let [a, b] = views.map(|z| normalised(&z, standardise));
        Ok(a.tr().matmul(&(b / n as f64)))
    })
}

/// The entries of a square matrix beside its diagonal, `[D, D] -> [D * (D - 1)]`, row by row.
///
/// # Errors
/// A matrix that is not square.
pub fn off_diagonal(c: &Tensor) -> Result<Tensor> {
    match c.size()[..] {
        [d, e] if d == e && d > 0 => {
            Ok(c.flatten(0, 1).narrow(0, 0, d * d - 1).view([d - 1, d + 1]).narrow(1, 1, d).reshape([-1]))
        }
        _ => Err(Error::shape("c", "[D, D]", c)),
    }
}

/// Sum of the squares of the entries of `C = a^T b` beside its diagonal, `a` and `b` `[N, D]`.
///
/// `|a^T b|^2 = <a a^T, b b^T>`: where the embedding is much wider than the batch, the two `N x N` matrices cost less than
/// the `D x D` one. The factor 2: autograd multiplies twice for each of them in the backward pass. There `C` has a rank
/// below `D`, so that the sum is not small beside the diagonal, which is subtracted.
pub(crate) fn off_diagonal_squares(a: &Tensor, b: &Tensor, diagonal: impl FnOnce() -> Tensor) -> Tensor {
    let (n, d) = (a.size()[0], a.size()[1]);
    if 2 * n < d {
        (a.matmul(&a.tr()) * b.matmul(&b.tr())).sum(a.kind()) - diagonal().square().sum(a.kind())
    } else {
        // Row r of this view is the run of D entries that follows the r-th diagonal one. (A norm would need no squares in
        // memory, but adds 32-bit numbers one by one: it is off by a thousandth for millions of entries. Sums are pairwise.)
        a.tr().matmul(b).as_strided([d - 1, d], [d + 1, 1], 1).square().sum(a.kind())
    }
}

/// Diagonal of `a^T b`.
pub(crate) fn diagonal(a: &Tensor, b: &Tensor) -> Tensor {
    (a * b).sum_dim_intlist([0i64].as_slice(), false, a.kind())
}

impl BarlowTwinsLoss {
    /// The loss of two batches of embeddings `[N, D]` on one device; `N` is the whole batch. Work is `O(N D min(N, D))`.
    ///
    /// # Errors
    /// Shapes that differ, fewer than two rows, `lambda` or a temperature not above 0.
    pub fn forward(&self, za: &Tensor, zb: &Tensor) -> Result<BarlowTwinsOutput> {
        self.check()?;
        let (n, _) = check_pair(za, zb)?;
        in_full_precision([za, zb], |views| {
            let [a, b] = views.map(|z| normalised(&z, self.standardise));
            // Divided here, C needs no pass of its own for it.
            let b = b / n as f64;
            if let Form::CrossEntropy { tau } = self.form {
                let other = if self.redundancy == Redundancy::Auto { &a / n as f64 } else { b.shallow_clone() };
                return Ok(self.cross_entropy(&a.tr().matmul(&b), &a.tr().matmul(&other), tau));
            }
            let c_ii = diagonal(&a, &b);
            let off_diag = match self.redundancy {
                Redundancy::Cross => off_diagonal_squares(&a, &b, || c_ii.shallow_clone()),
                Redundancy::Auto => {
                    let scaled = &a / n as f64;
                    off_diagonal_squares(&a, &scaled, || diagonal(&a, &scaled))
                }
            };
            Ok(self.combine((c_ii - 1.0).square().sum(a.kind()), off_diag))
        })
    }

    /// The data-parallel form: each replica standardises with the statistics of the whole batch (synchronised batch norm),
    /// correlates its own rows ([`partial_correlation`]) and divides by the global batch size; the sum of these partial
    /// matrices over replicas, which an all-reduce forms, is `c`.
    ///
    /// # Errors
    /// A matrix that is not square, `lambda` or a temperature not above 0, the auto-correlation variant.
    pub fn of_summed(&self, c: &Tensor) -> Result<BarlowTwinsOutput> {
        self.check()?;
        if self.redundancy == Redundancy::Auto {
            return Err(Error::value("redundancy", "Cross in the data-parallel form", "Auto"));
        }
        if !matches!(c.size()[..], [d, e] if d == e && d > 0) {
            return Err(Error::shape("c", "[D, D]", c));
        }
        if let Form::CrossEntropy { tau } = self.form {
            return Ok(self.cross_entropy(c, c, tau));
        }
        Ok(self.combine(on_diagonal(c), off_diagonal(c)?.square().sum(c.kind())))
    }

    fn check(&self) -> Result<()> {
        check_range("lambda", self.lambda, f64::MIN_POSITIVE..)?;
        match self.form {
            Form::CrossEntropy { tau } => check_range("tau", tau, f64::MIN_POSITIVE..),
            _ => Ok(()),
        }
    }

    pub(crate) fn combine(&self, on_diag: Tensor, off_diag: Tensor) -> BarlowTwinsOutput {
        let total = match self.form {
            Form::InvarianceOnly => on_diag.shallow_clone(),
            Form::RedundancyOnly => off_diag.shallow_clone(),
            _ => &on_diag + &off_diag * self.lambda,
        };
        BarlowTwinsOutput { total, on_diag, off_diag }
    }

    /// `c` gives the diagonal, `source` the entries beside it.
    fn cross_entropy(&self, c: &Tensor, source: &Tensor, tau: f64) -> BarlowTwinsOutput {
        let eye = Tensor::eye(c.size()[0], (Kind::Bool, c.device()));
        let others = (source.clamp_min(0.0) / tau).masked_fill(&eye, f64::NEG_INFINITY);
        let total = others.logsumexp([0i64, 1].as_slice(), false) * self.lambda
            - (c.diagonal(0, 0, 1) / tau).logsumexp([0i64].as_slice(), false);
        let off_diag = source.masked_fill(&eye, 0.0).square().sum(c.kind());
        BarlowTwinsOutput { total, on_diag: on_diagonal(c), off_diag }
    }
}

fn on_diagonal(c: &Tensor) -> Tensor {
    (c.diagonal(0, 0, 1) - 1.0).square().sum(c.kind())
}

/// One replica's share of the cross-correlation: `za`, `zb` `[n, D]` are its rows, already standardised with the statistics
/// of the whole batch of `global` rows.
///
/// # Errors
/// Shapes that differ, or a global batch smaller than the share.
pub fn partial_correlation(za: &Tensor, zb: &Tensor, global: i64) -> Result<Tensor> {
    if za.size() != zb.size() || za.dim() != 2 {
        return Err(Error::shape("zb", format!("{:?}, the shape of za", za.size()), zb));
    }
    if global < za.size()[0] {
        return Err(Error::value("global batch", format!("at least {}", za.size()[0]), global));
    }
    in_full_precision([za, zb], |[a, b]| Ok(a.tr().matmul(&(b / global as f64))))
}

/// The projector: linear layers without biases, batch norm and ReLU between them, nothing after the last.
///
/// # Errors
/// Fewer than two widths, or one that is not positive.
pub fn projector(p: Path, widths: &[i64]) -> Result<Mlp> {
    Mlp::new(p, &MlpConfig::projector(widths))
}

/// The predictor of the paper's asymmetric ablations: two linear layers with batch norm and ReLU between.
///
/// # Errors
/// Widths that are not positive.
pub fn predictor(p: Path, width: i64, hidden: i64) -> Result<Mlp> {
    Mlp::new(p, &MlpConfig::projector(&[width, hidden, width]))
}

/// The paper's training recipe.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recipe {
    /// Base learning rate of weights, scaled by `batch / 256`.
    pub lr_weights: f64,
    /// Base learning rate of biases and batch-norm parameters, scaled likewise.
    pub lr_biases: f64,
    /// Weight decay of weights (1e-6 in the code, 1.5e-6 in the text).
    pub weight_decay: f64,
    /// LARS.
    pub lars: Lars,
    /// Epochs of warm-up.
    pub warmup_epochs: usize,
    /// Final learning rate as a fraction of the peak.
    pub end: f64,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            lr_weights: 0.2,
            lr_biases: 0.0048,
            weight_decay: 1e-6,
            lars: Lars::default(),
            warmup_epochs: 10,
            end: 1e-3,
        }
    }
}

impl Recipe {
    /// LARS over all trainable variables: vectors (biases, batch norm) without decay and adaptation, at their own rate.
    ///
    /// # Errors
    /// A store without trainable variables, constants out of range.
    pub fn optimizer(&self, vs: &VarStore) -> Result<Optimizer> {
        let groups = Group::split_decay(vs, self.weight_decay).into_iter().map(|g| {
            let scale = if g.adapt { 1.0 } else { self.lr_biases / self.lr_weights };
            g.scaled(scale)
        });
        Optimizer::new(Rule::Lars(self.lars), groups.collect())
    }

    /// The schedule of the weights' learning rate: linear warm-up, then a cosine to `end` of the peak.
    pub fn schedule(&self, batch: usize, steps_per_epoch: usize, epochs: usize) -> Schedule {
        let peak = self.lr_weights * batch as f64 / 256.0;
        Schedule::new(peak, epochs * steps_per_epoch, Shape::cosine_to(self.end))
            .warmup(self.warmup_epochs * steps_per_epoch)
    }
}
