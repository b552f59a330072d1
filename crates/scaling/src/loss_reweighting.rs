//! Dynamic Loss-Based Sample Reweighting for Improved Large Language Model Pretraining (Sow, Woisetschlaeger, Bulusu, Wang, Jacobsen and
//! Liang, 2025; arXiv 2502.06733): which sequences of a batch deserve their step, decided by their present losses alone.
//!
//! Losses `l [B]` of the global batch are brought to `h = (2 l - l_max - l_min) delta / (l_max - l_min)` in `[-delta, delta]`, shaped by
//! `f`, and turned into weights by a softmax at temperature `r`:
//!
//! `w_i = exp(f(h_i)/r) / sum_j exp(f(h_j)/r)`, the maximiser of `sum_i w_i f(h_i) - r KL(w | uniform)`.
//!
//! | shape | `f(h)` | more weight for |
//! |---|---|---|
//! | `LinUpper` | `min(h + delta, delta)` | all but low losses; the upper half alike |
//! | `Quadratic` | `1 - h^2/delta^2` | the middle |
//! | `Extremes` | `abs(h)` | both ends |
//! | `Upper` (code only) | `(h + delta)/2` | high losses, without a cap |
//!
//! The step's loss is `sum_i w_i l_i`; no gradient comes through weights. For the first steps, when losses say nothing about samples,
//! it is the plain mean.
//!
//! ```
//! use autodidact_scaling::loss_reweighting::{LossReweighter, ReweightShape, Temperature};
//! use tch::Tensor;
//! let reweighter = LossReweighter { temperature: Temperature::Constant(1.0), warmup_steps: 0, ..LossReweighter::default() };
//! let losses = Tensor::from_slice(&[1f64, 2., 3., 4., 5.]);
//! // h = (-1, -.5, 0, .5, 1), f = (0, .5, 1, 1, 1).
//! let w = Vec::<f64>::try_from(reweighter.weights(&losses, 0)?).unwrap();
//! assert!((w[0] - 0.092562).abs() < 1e-6 && (w[4] - 0.251610).abs() < 1e-6);
//! assert!((reweighter.loss(&losses, 0)?.double_value(&[]) - 3.417096).abs() < 1e-6);
//! # Ok::<(), autodidact_core::Error>(())
//! ```

use autodidact_core::error::{check_range, check_values};
use autodidact_core::text::selected_log_probs;
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use tch::Tensor;

/// Which losses matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReweightShape {
    /// All alike.
    Uniform,
    /// Less for losses below the middle of their range.
    LinUpper,
    /// Most for the middle.
    Quadratic,
    /// Most for both ends.
    Extremes,
    /// Growing with the loss throughout.
    Upper,
}

/// The softmax's temperature `r` over the steps of a run; high is uniform.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Temperature {
    /// The same at all steps.
    Constant(f64),
    /// `high` for the first `steps`, `then` afterwards: the large models' way to begin with (almost) uniform weights.
    Warm {
        /// Temperature at first.
        high: f64,
        /// How long.
        steps: usize,
        /// Temperature afterwards.
        then: f64,
    },
    /// From `from` at step 0 to `to` at step `steps`, linearly; `to` from there on.
    Linear {
        /// Temperature at step 0.
        from: f64,
        /// Temperature in the end.
        to: f64,
        /// Length of the way.
        steps: usize,
    },
}

impl Temperature {
    /// `r` at a step, counted from 0.
    pub fn at(self, step: usize) -> f64 {
        match self {
            Temperature::Constant(r) => r,
            Temperature::Warm { high, steps, then } => {
                if step < steps {
                    high
                } else {
                    then
                }
            }
            Temperature::Linear { from, to, steps } => {
                from + (to - from) * (step as f64 / steps.max(1) as f64).min(1.0)
            }
        }
    }
}

/// Turns losses into weights; the default is the paper's for its smallest GPT-2 (`LinUpper`, `r = 1`, from step 1,000 on; larger
/// ones have `r = 0.4`).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LossReweighter {
    /// The shape `f`.
    pub shape: ReweightShape,
    /// `delta`, above 0: the range of `h`.
    pub delta: f64,
    /// `r`, above 0.
    pub temperature: Temperature,
    /// Steps with uniform weights at the start.
    pub warmup_steps: usize,
}

impl Default for LossReweighter {
    fn default() -> Self {
        Self { shape: ReweightShape::LinUpper, delta: 1.0, temperature: Temperature::Constant(1.0), warmup_steps: 1000 }
    }
}

/// Smallest range of losses that is divided by: batches of equal losses get equal weights.
const LEAST_RANGE: f64 = 1e-6;

impl LossReweighter {
    /// Weights `[B]` of losses `[B]` (those of the whole batch, of all devices) at a step; they sum to 1 and have no gradient.
    ///
    /// # Errors
    /// Anything but a floating-point vector; a delta or temperature that is not above 0.
    pub fn weights(&self, losses: &Tensor, step: usize) -> Result<Tensor> {
        let n = check_losses(losses)?;
        let r = self.temperature.at(step);
        check_range("temperature r", r, f64::MIN_POSITIVE..)?;
        check_range("delta", self.delta, f64::MIN_POSITIVE..f64::MAX)?;
        if self.shape == ReweightShape::Uniform || step < self.warmup_steps {
            return Ok(Tensor::full([n], 1.0 / n as f64, (losses.kind(), losses.device())));
        }
        let l = losses.detach();
        let (low, high) = l.aminmax(None, false);
        let range = (&high - &low).clamp_min(LEAST_RANGE);
        let delta = self.delta;
        let h = (l * 2.0 - (high + low)) * delta / range;
        let f = match self.shape {
            ReweightShape::LinUpper => (h + delta).clamp_max(delta),
            ReweightShape::Quadratic => 1.0 - h.square() / (delta * delta),
            ReweightShape::Extremes => h.abs(),
            ReweightShape::Upper => h * 0.5 + 0.5 * delta,
            ReweightShape::Uniform => unreachable!("handled above"),
        };
        Ok((f / r).softmax(0, losses.kind()))
    }

    /// The step's loss, `sum_i w_i l_i`: on the scale of a mean, whatever the batch.
    ///
    /// # Errors
    /// As [`weights`](Self::weights).
    pub fn loss(&self, losses: &Tensor, step: usize) -> Result<Tensor> {
        Ok(weighted_sum(&self.weights(losses, step)?, losses))
    }

    /// The loss of one of `parts` devices that hold the global batch between them: `parts * sum_{i in part} w_i l_i` with weights from
    /// all losses (gathered, `[B]`), so that the average of the devices' gradients is the gradient of [`loss`](Self::loss). `own` are
    /// the losses of the rows `part`, with their graph.
    ///
    /// # Errors
    /// As [`weights`](Self::weights); rows outside the batch, losses of another number of rows.
    pub fn loss_of_part(
        &self,
        all: &Tensor,
        own: &Tensor,
        part: Range<i64>,
        parts: usize,
        step: usize,
    ) -> Result<Tensor> {
        let weights = self.weights(all, step)?;
        let rows = part.end - part.start;
        if part.start < 0 || rows < 1 || part.end > weights.size()[0] {
            return Err(Error::value(
                "rows of a part",
                format!("some of the batch's {}", weights.size()[0]),
                format!("{part:?}"),
            ));
        }
        if own.size() != [rows] {
            return Err(Error::shape("losses of a part", format!("[{rows}]"), own));
        }
        Ok(weighted_sum(&weights.narrow(0, part.start, rows), own) * parts as f64)
    }
}

fn weighted_sum(weights: &Tensor, losses: &Tensor) -> Tensor {
    (weights * losses).sum(losses.kind())
}

fn check_losses(losses: &Tensor) -> Result<i64> {
    match losses.size()[..] {
        [n] if n > 0 && losses.is_floating_point() => Ok(n),
        [n] if n > 0 => Err(Error::value("losses", "a floating-point tensor", format!("{:?}", losses.kind()))),
        _ => Err(Error::shape("losses", "[B] of at least one", losses)),
    }
}

/// Mean cross entropy of every sequence, `[B]` in nats, over its own active targets, and their numbers `[B]`. `hidden [B, T, H]` are a
/// model's last states, `head [V, H]` its output head, `labels [B, T]` (Int64) the next tokens with a negative number where there is
/// none. Logits of the batch are never held.
///
/// # Errors
/// As [`selected_log_probs`]; (on the CPU) a sequence without an active target.
pub fn per_sequence_loss(hidden: &Tensor, head: &Tensor, labels: &Tensor) -> Result<(Tensor, Tensor)> {
    if labels.dim() != 2 {
        return Err(Error::shape("labels", "[B, T]", labels));
    }
    let each = selected_log_probs(hidden, head, labels)?;
    let over = |t: &Tensor| t.sum_dim_intlist([1i64].as_slice(), false, each.kind());
    let counts = over(&labels.ge(0));
    check_values("active targets of a sequence", &counts, 1.0..)?;
    Ok((-over(&each) / &counts, counts))
}

/// How many equally weighted samples the weights are worth: `1 / sum w^2`, a scalar tensor.
pub fn effective_sample_size(weights: &Tensor) -> Tensor {
    weights.square().sum(weights.kind()).reciprocal()
}

/// Entropy of weights in nats, a scalar tensor; `ln B` where they are uniform.
pub fn weight_entropy(weights: &Tensor) -> Tensor {
    -weights.xlogy(weights).sum(weights.kind())
}

/// Hard examples only: equal weights `[B]` for the `k` highest losses, none for the others.
///
/// # Errors
/// As [`LossReweighter::weights`]; a number outside 1 to `B`.
pub fn top_k_weights(losses: &Tensor, k: i64) -> Result<Tensor> {
    let n = check_losses(losses)?;
    if !(1..=n).contains(&k) {
        return Err(Error::value("k", format!("1 to {n}, the batch"), k));
    }
    let (_, places) = losses.detach().topk(k, 0, true, false);
    let zeros = Tensor::zeros([n], (losses.kind(), losses.device()));
    Ok(zeros.index_fill(0, &places, 1.0 / k as f64))
}

/// Focal weights `[B]`: proportional to `l^gamma`.
///
/// # Errors
/// As [`LossReweighter::weights`]; a gamma below 0, (on the CPU) negative losses.
pub fn power_weights(losses: &Tensor, gamma: f64) -> Result<Tensor> {
    check_losses(losses)?;
    check_range("gamma", gamma, 0.0..)?;
    let l = losses.detach();
    check_values("losses", &l, 0.0..)?;
    let w = l.clamp_min(1e-12).pow_tensor_scalar(gamma);
    Ok(&w / w.sum(w.kind()))
}

/// Weights of domains by the exponentiated gradient of DoReMi (Xie et al., 2023; arXiv 2305.10429): `log a_k` grows by `lr` times the
/// domain's excess loss over a reference (not below 0), and the normalised result is mixed with the uniform distribution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DomainMixer {
    /// Present weights, which sum to 1.
    pub weights: Vec<f64>,
    /// Step size, above 0.
    pub lr: f64,
    /// Share of the uniform distribution, in `[0, 1]`.
    pub smoothing: f64,
}

impl DomainMixer {
    /// Uniform weights of `domains` domains.
    ///
    /// # Errors
    /// No domains, or settings out of range.
    pub fn new(domains: usize, lr: f64, smoothing: f64) -> Result<Self> {
        check_range("domains", domains as f64, 1.0..)?;
        check_range("learning rate of domains", lr, f64::MIN_POSITIVE..)?;
        check_range("smoothing of domains", smoothing, 0.0..=1.0)?;
        Ok(Self { weights: vec![1.0 / domains as f64; domains], lr, smoothing })
    }

    /// One update from the domains' losses over a reference model's, in nats per token.
    ///
    /// # Errors
    /// Another number of domains, values that are not finite.
    pub fn update(&mut self, excess: &[f64]) -> Result<()> {
        if excess.len() != self.weights.len() {
            return Err(Error::value("excess losses", format!("{}, one per domain", self.weights.len()), excess.len()));
        }
        if let Some(bad) = excess.iter().find(|e| !e.is_finite()) {
            return Err(Error::value("excess losses", "finite values", bad));
        }
        let logs: Vec<f64> = self.weights.iter().zip(excess).map(|(w, e)| w.ln() + self.lr * e.max(0.0)).collect();
        let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let raised: Vec<f64> = logs.iter().map(|l| (l - most).exp()).collect();
        let total: f64 = raised.iter().sum();
        let even = 1.0 / self.weights.len() as f64;
        self.weights = raised.iter().map(|r| (1.0 - self.smoothing) * r / total + self.smoothing * even).collect();
        Ok(())
    }
}
