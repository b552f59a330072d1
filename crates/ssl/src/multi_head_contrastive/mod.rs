//! Adaptive Multi-head Contrastive Learning (Wang, Koniusz, Gedeon and Zheng, 2023; arXiv 2310.05615).
//!
//! With strong augmentations positive pairs are often dissimilar and negative ones often similar, which one projection head with
//! one temperature judges all alike. Here `C` heads with weights of their own judge each pair, at a temperature that is
//! learned for every pair and head, and a regulariser from the same likelihood holds the temperatures.
//!
//! With embeddings around the anchor's as Gaussians of variance `tau`, the negative log-likelihood of a pair of unit vectors is
//! `-s/tau + Omega(tau)`, `Omega(tau) = (d'/2) ln tau + 1/tau` ([`omega`]). The log posterior odds of the positive are
//!
//! `L = sum_c mean_i { log sum_n exp(s_in/tau_in) - s_i+/tau_i+ + beta [Omega(tau_i+) - mean_n Omega(tau_in)] }`
//!
//! ([`Form::Soft`], NT-Xent for one head, constant temperatures and `beta = 0`); the paper puts the largest term, or
//! the mean of the `kappa` hardest negatives, in place of the logarithm of the sum ([`Form::TopKappaLinear`]).
//!
//! ```
//! use autodidact_ssl::multi_head_contrastive::{Amcl, PairTemperature};
//! use tch::Tensor;
//! // Orthogonal pairs of identical views, under two equal heads.
//! let z = Tensor::from_slice(&[1f32, 0., 0., 1., 1., 0., 0., 1.]).view([2, 2, 2]);
//! let tau = PairTemperature::constant(0.5).unwrap();
//! // Each row has its positive at 1/0.5 and two negatives at 0.
//! let soft = Amcl { beta: 0.0, ..Default::default() }.simclr(&z, &z, &tau).unwrap();
//! assert!((soft.total.double_value(&[]) - 2.0 * (1.0 + 2.0 * (-2f64).exp()).ln()).abs() < 1e-6);
//! let linear = Amcl { beta: 0.0, ..Amcl::linear(1) }.simclr(&z, &z, &tau).unwrap();
//! assert_eq!(linear.total.double_value(&[]), -4.0);
//! ```

mod heads;
mod histogram;
mod temperature;

pub use heads::{Heads, MultiHeadProjector};
pub use histogram::SimilarityHistogram;
pub use temperature::{PairTemperature, Rule, TemperatureConfig};

use crate::barlow_twins::{Standardise, normalised};
use crate::{in_full_precision, unit};
use autodidact_core::error::check_range;
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// How negatives enter the loss of an anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Form {
    /// `log sum exp(s/tau)`, over all negatives or over the hardest (most similar).
    Soft {
        /// Number of negatives; `None` for all.
        kappa: Option<i64>,
    },
    /// The mean of `s/tau - beta Omega(tau)` over the hardest negatives: the paper's (2.1) at `kappa = 1`.
    TopKappaLinear {
        /// Number of negatives.
        kappa: i64,
    },
}

/// The losses, as a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Amcl {
    /// How negatives enter.
    pub form: Form,
    /// Whether the positive is among them too (InfoNCE; the paper's (2.4)).
    pub with_positive: bool,
    /// `beta`, weight of the regulariser, at least 0. `Omega` of negatives enters with a minus and pulls their temperatures to
    /// the bounds, so it is to be small.
    pub beta: f64,
}

impl Default for Amcl {
    /// The soft form over all negatives and the positive, `beta` 0.01.
    fn default() -> Self {
        Self { form: Form::Soft { kappa: None }, with_positive: true, beta: 0.01 }
    }
}

/// The loss and what to watch, in f32 (f64 for embeddings in f64, which learned temperatures take from a predictor in f64).
#[derive(Debug)]
pub struct AmclOutput {
    /// The sum over heads: a differentiable scalar.
    pub total: Tensor,
    /// The loss of each head, `[C]`.
    pub per_head: Tensor,
    /// Mean temperature of positive pairs (Barlow Twins: of the diagonal), detached.
    pub mean_tau_pos: Tensor,
    /// Mean temperature of the negative pairs that count (Barlow Twins: beside the diagonal), detached; of SimSiam, which has
    /// none, that of the positives.
    pub mean_tau_neg: Tensor,
}

/// `Omega(tau) = (d'/2) ln tau + 1/tau`, entry by entry, for embeddings of width `d`; smallest at `2/d`.
pub fn omega(tau: &Tensor, d: i64) -> Tensor {
    tau.log() * (d as f64 / 2.0) + tau.reciprocal()
}

/// Anchors with their positive `[C, R]` and negatives `[C, R, M]`, by similarity and temperature.
struct Pairs {
    positive: Tensor,
    tau_pos: Tensor,
    negatives: Tensor,
    tau_neg: Tensor,
    /// Rows of a view, if all rows of both views are anchors and columns: an anchor and its positive are no negatives.
    views: Option<i64>,
    /// `d'`.
    width: i64,
}

fn check_heads(what: &str, z: &Tensor, expected: Option<&Tensor>) -> Result<(i64, i64, i64)> {
    if let Some(e) = expected.filter(|e| e.size() != z.size()) {
        return Err(Error::shape(what, format!("{:?}, the shape of the other view", e.size()), z));
    }
    match z.size()[..] {
        [c, n, d] if c > 0 && n > 1 && d > 0 && z.is_floating_point() => Ok((c, n, d)),
        _ => Err(Error::shape(what, "[C, N, d'] of floats with two or more rows", z)),
    }
}

fn mean_last(x: &Tensor) -> Tensor {
    x.mean_dim([-1i64].as_slice(), false, x.kind())
}

fn output(per_head: Tensor, tau_pos: &Tensor, tau_neg: &Tensor) -> AmclOutput {
    AmclOutput {
        total: per_head.sum(per_head.kind()),
        per_head,
        mean_tau_pos: tau_pos.detach().mean(tau_pos.kind()),
        mean_tau_neg: tau_neg.detach().mean(tau_neg.kind()),
    }
}

impl Amcl {
    /// The linear form over the `kappa` hardest negatives, without the positive.
    pub fn linear(kappa: i64) -> Self {
        Self { form: Form::TopKappaLinear { kappa }, with_positive: false, ..Self::default() }
    }

    /// SimCLR: views `[C, N, d']` (normalised here), row by row positive pairs; the negatives of an anchor are both views of the
    /// other rows. Mean over the `2N` anchors, sum over heads; gradients go to both views and to the temperatures.
    ///
    /// # Errors
    /// Shapes that differ, fewer than two rows, `kappa` beyond the number of negatives, `beta` below 0.
    pub fn simclr(&self, za: &Tensor, zb: &Tensor, temperature: &PairTemperature) -> Result<AmclOutput> {
        let (_, n, width) = check_heads("za", za, None)?;
        check_heads("zb", zb, Some(za))?;
        self.check(2 * n - 2)?;
        in_full_precision([za, zb], |views| {
            let z = unit(&Tensor::cat(&views, 1));
            let negatives = z.matmul(&z.transpose(1, 2));
            let tau_neg = temperature.all(&z, &z)?;
            // Both are symmetric, so the second view's positives are the first's.
            let [positive, tau_pos] = [&negatives, &tau_neg].map(|x| x.diagonal(n, 1, 2).repeat([1, 2]));
            Ok(self.contrast(&Pairs { positive, tau_pos, negatives, tau_neg, views: Some(n), width }))
        })
    }

    /// MoCo: queries and keys `[C, N, d']` (normalised here), the keys of earlier batches `[C, K, d']` (of unit length, as
    /// [`Queue::keys`](crate::moco::Queue::keys) gives them) as negatives. Mean over queries, sum over heads; no gradient goes
    /// to keys.
    ///
    /// # Errors
    /// As [`simclr`](Self::simclr); a queue of another shape.
    pub fn moco(
        &self,
        queries: &Tensor,
        keys: &Tensor,
        queue: &Tensor,
        temperature: &PairTemperature,
    ) -> Result<AmclOutput> {
        let (c, _, width) = check_heads("queries", queries, None)?;
        check_heads("keys", keys, Some(queries))?;
        match queue.size()[..] {
            [heads, k, d] if heads == c && d == width => self.check(k)?,
            _ => return Err(Error::shape("queue", format!("[{c}, K, {width}]"), queue)),
        }
        in_full_precision([queries, keys, queue], |[queries, keys, queue]| {
            // The queue is in 32 bits, whatever the queries are in.
            let kind = queries.kind();
            let (q, k) = (unit(&queries), unit(&keys.detach().to_kind(kind)));
            let queue = queue.detach().to_kind(kind);
            Ok(self.contrast(&Pairs {
                positive: (&q * &k).sum_dim_intlist([2i64].as_slice(), false, q.kind()),
                tau_pos: temperature.rows(&q, &k)?,
                negatives: q.matmul(&queue.transpose(1, 2)),
                tau_neg: temperature.all(&q, &queue)?,
                views: None,
                width,
            }))
        })
    }

    /// SimSiam: predictions `p` and projections `z` of the two views, `[C, N, d']` each (normalised here); `z` is detached. Each
    /// prediction is drawn to the other view's projection, `-s/(2 tau) + beta Omega(tau)`; mean over rows, sum over heads.
    ///
    /// # Errors
    /// Shapes that differ, fewer than two rows, `beta` below 0.
    pub fn simsiam(&self, p: [&Tensor; 2], z: [&Tensor; 2], temperature: &PairTemperature) -> Result<AmclOutput> {
        check_range("beta", self.beta, 0.0..)?;
        let (_, _, width) = check_heads("p", p[0], None)?;
        for (what, x) in [("p", p[1]), ("z", z[0]), ("z", z[1])] {
            check_heads(what, x, Some(p[0]))?;
        }
        in_full_precision([p[0], p[1], z[1], z[0]], |[pa, pb, za, zb]| {
            let (p, z) = (unit(&Tensor::cat(&[pa, pb], 1)), unit(&Tensor::cat(&[za, zb], 1).detach()));
            let tau = temperature.rows(&p, &z)?;
            let similarity = (&p * &z).sum_dim_intlist([2i64].as_slice(), false, p.kind());
            // Means over both views: twice their halves.
            let per_head = mean_last(&(omega(&tau, width) * (2.0 * self.beta) - similarity / &tau));
            Ok(output(per_head, &tau, &tau))
        })
    }

    /// Barlow Twins: views `[C, N, D]`, standardised over the batch and correlated head by head; sum over heads of
    /// `sum_l (1 - C_ll/tau_l)^2 + lambda sum_{l != m} C_lm^2/tau_lm + beta [sum_l Omega(tau_l) - sum_{l != m} Omega(tau_lm)]`.
    ///
    /// A pair is a unit of the first view and one of the second, so the temperatures see columns: their width is `N`, the batch
    /// size. `d'` of `Omega` is `D`.
    ///
    /// # Errors
    /// Shapes that differ, fewer than two rows or one column, `lambda` not above 0, `beta` below 0.
    pub fn barlow_twins(
        &self,
        za: &Tensor,
        zb: &Tensor,
        lambda: f64,
        temperature: &PairTemperature,
    ) -> Result<AmclOutput> {
        check_range("beta", self.beta, 0.0..)?;
        check_range("lambda", lambda, f64::MIN_POSITIVE..)?;
        let (c, n, d) = check_heads("za", za, None)?;
        check_heads("zb", zb, Some(za))?;
        if d < 2 {
            return Err(Error::shape("za", "two or more columns", za));
        }
        in_full_precision([za, zb], |views| {
            // All heads' columns side by side are standardised at once; then each is a unit vector.
            let standardise = Standardise::Batch { unbiased: false, eps: 1e-5 };
            let [a, b] = views.map(|z| {
                let flat = z.transpose(0, 1).reshape([n, c * d]);
                (normalised(&flat, standardise) / (n as f64).sqrt()).tr().view([c, d, n])
            });
            let correlation = a.matmul(&b.transpose(1, 2));
            let tau = temperature.all(&a, &b)?;
            let [on, on_tau] = [&correlation, &tau].map(|x| x.diagonal(0, 1, 2));
            // Row r of this view is the run of d entries that follows the r-th diagonal one.
            let [off, off_tau] = [&correlation, &tau].map(|x| {
                x.reshape([c, d * d]).narrow(1, 0, d * d - 1).view([c, d - 1, d + 1]).narrow(2, 1, d).reshape([c, -1])
            });
            let sum = |x: Tensor| x.sum_dim_intlist([-1i64].as_slice(), false, x.kind());
            let mut per_head = sum((1f64 - on / &on_tau).square()) + sum(off.square() / &off_tau) * lambda;
            if self.beta > 0.0 {
                per_head += (sum(omega(&on_tau, d)) - sum(omega(&off_tau, d))) * self.beta;
            }
            Ok(output(per_head, &on_tau, &off_tau))
        })
    }

    fn check(&self, negatives: i64) -> Result<()> {
        check_range("beta", self.beta, 0.0..)?;
        match self.form {
            Form::Soft { kappa: Some(kappa) } | Form::TopKappaLinear { kappa } if !(1..=negatives).contains(&kappa) => {
                Err(Error::value("kappa", format!("1 to {negatives}, the number of negatives"), kappa))
            }
            _ => Ok(()),
        }
    }

    fn contrast(&self, p: &Pairs) -> AmclOutput {
        let log_sum = |x: Tensor| x.logsumexp([-1i64].as_slice(), false);
        let hidden = p.views.map(|n| Tensor::eye(n, (Kind::Bool, p.positive.device())).repeat([2, 2]));
        // Fresh products, which no other operation holds, are filled in place.
        let hide = |mut x: Tensor| match &hidden {
            Some(hidden) => x.masked_fill_(hidden, f64::NEG_INFINITY),
            None => x,
        };
        let hardest = |s: &Tensor, tau: &Tensor, kappa: i64| {
            let (s, at) = s.topk(kappa, -1, true, false);
            (s, tau.gather(-1, &at, false))
        };
        let of_negatives = |kappa: i64| hardest(&hide(p.negatives.copy()), &p.tau_neg, kappa);
        let inverse_pos = p.tau_pos.reciprocal();
        let drawn = &p.positive * &inverse_pos;
        let mut all = false;
        // What negatives add, and the inverse temperatures of those that count.
        let (pushed, inverse) = match self.form {
            Form::Soft { kappa: None } => {
                all = true;
                let inverse = p.tau_neg.reciprocal();
                (log_sum(hide(&p.negatives * &inverse)), inverse)
            }
            Form::Soft { kappa: Some(kappa) } => {
                let (s, tau) = of_negatives(kappa);
                let inverse = tau.reciprocal();
                (log_sum(s * &inverse), inverse)
            }
            Form::TopKappaLinear { kappa } => {
                let (mut s, mut tau) = of_negatives(kappa);
                if self.with_positive {
                    let with = |x: &Tensor, positive: &Tensor| Tensor::cat(&[x, &positive.unsqueeze(-1)], -1);
                    (s, tau) = hardest(&with(&s, &p.positive), &with(&tau, &p.tau_pos), kappa);
                }
                let inverse = tau.reciprocal();
                (mean_last(&(s * &inverse)), inverse)
            }
        };
        // Over the negatives that count, of all anchors of a head: `[C, R, M] -> [C]`.
        let mean = |x: &Tensor| {
            let sum = |x: &Tensor| x.flatten(1, -1).sum_dim_intlist([1i64].as_slice(), false, x.kind());
            let (r, m) = (x.size()[1], x.size()[2]);
            match p.views.filter(|_| all) {
                Some(n) => {
                    let others = [0, n, -n].map(|at| sum(&x.diagonal(at, 1, 2)));
                    (sum(x) - &others[0] - &others[1] - &others[2]) / (r * (m - 2)) as f64
                }
                None => sum(x) / (r * m) as f64,
            }
        };
        let soft = self.with_positive && matches!(self.form, Form::Soft { .. });
        let mut per_head = mean_last(&((if soft { pushed.logaddexp(&drawn) } else { pushed }) - drawn));
        if self.beta > 0.0 {
            // Omega, of the inverse temperatures that are there already.
            let half = p.width as f64 / 2.0;
            let above = mean_last(&(&inverse_pos - inverse_pos.log() * half));
            per_head += (above - mean(&inverse) + mean(&inverse.log()) * half) * self.beta;
        }
        let tau_neg = tch::no_grad(|| mean(&if all { p.tau_neg.shallow_clone() } else { inverse.reciprocal() }));
        output(per_head, &p.tau_pos, &tau_neg)
    }
}
