//! Not All Semantics are Created Equal: Contrastive Self-supervised Learning with Automatic Temperature Individualization
//! (Qiu, Hu, Yuan, Zhou, Zhang and Yang, 2023; arXiv 2305.11965).
//!
//! Anchors with frequent semantics have true neighbours among their negatives and should push softly; those with rare
//! semantics should push hard. Taking each anchor's worst distribution over negatives within a Kullback-Leibler ball of radius
//! `rho` makes the temperature a dual variable of that anchor: with `h_i(z) = sim(anchor, z) - sim(anchor, positive)` over the
//! `n` negatives,
//!
//! `RGCL = 1/N sum_i { tau_i log[1/n sum_z exp(h_i(z)/tau_i)] + rho tau_i }`, minimised over the network and
//! `tau_i` in `[tau_min, tau_max]`; inside, `KL(softmax(h_i/tau_i) || uniform) = rho`.
//!
//! iSogCLR does that stochastically: every training sample keeps its temperature, a momentum of that temperature's gradient,
//! and a moving average of its normaliser, so that small batches suffice ([`Isogclr`]). With `eta = 0` it is SogCLR (Yuan et
//! al., 2022) at a fixed temperature.
//!
//! ```
//! use autodidact_ssl::isogclr::{kl_to_uniform, optimal_tau};
//! use tch::Tensor;
//! // A fifth of the negatives are as similar as the positive, the others less so by 1: frequent semantics.
//! let h = Tensor::from_slice(&[0f64, -1., -1., -1., -1.]).view([1, 5]);
//! let tau = optimal_tau(&h, 0.4, 0.05, 2.0).unwrap();
//! assert!((tau.double_value(&[0]) - 0.54540).abs() < 1e-5);
//! assert!((kl_to_uniform(&h, &tau).unwrap().double_value(&[0]) - 0.4).abs() < 1e-6);
//! ```

use crate::{check_pair, in_full_precision, unit};
use autodidact_core::error::{check_labels, check_matrix, check_range};
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::nn::Path;
use tch::{Kind, Tensor};

/// Constants of the method; the default is the published one for images alone.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Isogclr {
    /// `gamma` in `(0, 1]`, weight of the batch in the moving average of the normaliser. A sample's first visit uses 1.
    pub gamma: f64,
    /// `beta` in `(0, 1]`, weight of the batch in the momentum of the temperature's gradient.
    pub beta: f64,
    /// `eta`, learning rate of the temperatures; 0 keeps them (SogCLR).
    pub eta: f64,
    /// `rho`, radius of the ball; larger gives smaller temperatures, from `log n` on the lowest.
    pub rho: f64,
    /// First temperature of every sample.
    pub tau_init: f64,
    /// Lowest temperature.
    pub tau_min: f64,
    /// Highest temperature.
    pub tau_max: f64,
    /// Bound on the temperature's gradient (the mean over the two views); infinite for none.
    pub clip: f64,
    /// Whether the normaliser averages `exp(h/tau)` (the paper and its code for two modalities) or `exp(sim/tau)` (its code for
    /// images, LibAUC). The same at `gamma = 1`.
    pub subtract_positive: bool,
}

impl Default for Isogclr {
    fn default() -> Self {
        Self {
            gamma: 0.8,
            beta: 0.5,
            eta: 0.03,
            rho: 0.4,
            tau_init: 0.1,
            tau_min: 0.05,
            tau_max: 1.0,
            clip: 3.0,
            subtract_positive: true,
        }
    }
}

impl Isogclr {
    /// SogCLR: the same at a fixed temperature.
    pub fn sogclr(tau: f64) -> Self {
        Self { eta: 0.0, tau_init: tau, tau_min: tau, tau_max: tau, ..Self::default() }
    }

    /// The published constants for images and texts.
    pub fn bimodal() -> Self {
        Self { beta: 0.9, rho: 7.0, tau_init: 0.01, tau_min: 0.005, clip: 5.0, ..Self::default() }
    }

    fn check(&self) -> Result<()> {
        check_range("gamma", self.gamma, f64::MIN_POSITIVE..=1.0)?;
        check_range("beta", self.beta, f64::MIN_POSITIVE..=1.0)?;
        check_range("eta", self.eta, 0.0..)?;
        check_range("rho", self.rho, 0.0..)?;
        check_range("tau_min", self.tau_min, f64::MIN_POSITIVE..)?;
        check_range("tau_max", self.tau_max, self.tau_min..)?;
        check_range("tau_init", self.tau_init, self.tau_min..=self.tau_max)?;
        if self.clip.is_nan() || self.clip <= 0.0 {
            return Err(Error::value("clip", "above 0", self.clip));
        }
        Ok(())
    }
}

/// What is kept of every training sample, `[samples]` each, in f32. The tensors are variables of a store (not trained by
/// gradients), so that checkpoints of the store hold them.
#[derive(Debug)]
pub struct TemperatureState {
    /// Temperatures.
    pub tau: Tensor,
    /// Logarithm of the moving average of the normaliser; minus infinity before the first visit.
    pub log_s: Tensor,
    /// Momentum of the temperatures' gradients.
    pub momentum: Tensor,
}

impl TemperatureState {
    /// For a data set of `samples`, as variables below `p`.
    ///
    /// # Errors
    /// No samples, constants out of range.
    pub fn new(p: Path, samples: i64, config: &Isogclr) -> Result<Self> {
        config.check()?;
        if samples < 1 {
            return Err(Error::value("samples", "at least 1", samples));
        }
        let fill = |value: f64| Tensor::full([samples], value, (Kind::Float, p.device()));
        Ok(Self {
            tau: p.add("tau", fill(config.tau_init), false),
            log_s: p.add("log_s", fill(f64::NEG_INFINITY), false),
            momentum: p.add("momentum", fill(0.0), false),
        })
    }

    /// Takes over what the batch's anchors found; `log_s` and `gradient` `[B]`.
    fn update(&mut self, index: &Tensor, tau: &Tensor, log_s: &Tensor, gradient: &Tensor, config: &Isogclr) {
        let gradient = gradient.clamp(-config.clip, config.clip);
        let momentum = self.momentum.index_select(0, index) * (1.0 - config.beta) + gradient * config.beta;
        let tau = (tau - &momentum * config.eta).clamp(config.tau_min, config.tau_max);
        for (state, new) in [(&mut self.log_s, log_s), (&mut self.momentum, &momentum), (&mut self.tau, &tau)] {
            let _ = state.index_copy_(0, index, &new.to_kind(Kind::Float));
        }
    }
}

/// The surrogate loss and what to watch.
#[derive(Debug)]
pub struct IsogclrOutput {
    /// Its gradient estimates that of the objective; its value means nothing. A scalar.
    pub surrogate: Tensor,
    /// Mean temperature of the batch before the step, detached.
    pub mean_tau: Tensor,
    /// Mean `KL(p || uniform)` over the batch's anchors, detached; it tends to `rho`.
    pub mean_kl: Tensor,
}

/// One batch of anchors.
struct Anchors {
    /// `sum_z w(z) h(z) / n`, `[R]`; gradients flow through `h` alone.
    surrogate: Tensor,
    log_s: Tensor,
    gradient: Tensor,
    kl: Tensor,
}

/// `similarity [R, M]` and `positive [R]` with gradients; `masked [R, M]` is true where there is no negative, of which every row
/// has `n`.
///
/// With `h = s - shift` all sums over negatives follow from those of `e = exp((s - max s)/tau)` and of `e s`.
fn anchors(
    similarity: &Tensor,
    positive: &Tensor,
    masked: &Tensor,
    n: f64,
    tau: &Tensor,
    log_s: &Tensor,
    c: &Isogclr,
) -> Anchors {
    let kind = similarity.kind();
    let row_sum = |x: &Tensor| x.sum_dim_intlist([1i64].as_slice(), false, kind);
    // Without the positive in the exponential, its own gradient is outside of the average.
    let (shift, outside) = if c.subtract_positive {
        (positive.shallow_clone(), positive.zeros_like())
    } else {
        (positive.zeros_like(), positive.shallow_clone())
    };
    let mut e = similarity.detach().masked_fill(masked, f64::NEG_INFINITY);
    let max = e.amax([1i64].as_slice(), true);
    let e = e.g_sub_(&max).g_div_(&tau.unsqueeze(1)).exp_();
    let (sum, weighted) = (row_sum(&e), row_sum(&(&e * similarity)));
    // `max h / tau`, and the sum of `e h`.
    let top = (max.squeeze_dim(1) - shift.detach()) / tau;
    let total = weighted - &shift * &sum;
    let log_g = &top + sum.log() - n.ln();
    let average = if c.gamma < 1.0 {
        let mixed = (log_s + (1.0 - c.gamma).ln()).logaddexp(&(&log_g + c.gamma.ln()));
        log_g.where_self(&log_s.isneginf(), &mixed)
    } else {
        log_g.shallow_clone()
    };
    let mean = total.detach() / tau;
    let gradient = &average + c.rho - (&top - &average).exp() * &mean / n;
    let kl = mean / sum - &log_g;
    Anchors { surrogate: (top - &average).exp() * total / n - outside, log_s: average, gradient, kl }
}

fn check_index(index: &Tensor, n: i64, state: &TemperatureState) -> Result<()> {
    check_labels("index", index, n)?;
    if index.device() != state.tau.device() {
        return Err(Error::value(
            "index",
            format!("a tensor on {:?}", state.tau.device()),
            format!("{:?}", index.device()),
        ));
    }
    Ok(())
}

impl Isogclr {
    /// One step's surrogate loss of two views `[B, D]` (normalised here) of the samples `index [B]` (Int64, distinct, below the
    /// state's size), and the update of their state. The negatives of an anchor are both views of all other samples. Mean over
    /// samples of the sum over the two views.
    ///
    /// # Errors
    /// Shapes that differ, fewer than two rows, an index of another shape, constants out of range.
    pub fn forward(
        &self,
        za: &Tensor,
        zb: &Tensor,
        index: &Tensor,
        state: &mut TemperatureState,
    ) -> Result<IsogclrOutput> {
        self.check()?;
        let (b, _) = check_pair(za, zb)?;
        check_index(index, b, state)?;
        in_full_precision([za, zb], |[za, zb]| {
            let (za, zb) = (unit(&za), unit(&zb));
            let z = Tensor::cat(&[&za, &zb], 0);
            let positive = (&za * &zb).sum_dim_intlist([1i64].as_slice(), false, z.kind()).repeat([2]);
            let similarity = z.matmul(&z.tr());
            let masked = Tensor::eye(b, (Kind::Bool, z.device())).repeat([2, 2]);
            let tau = state.tau.index_select(0, index);
            let (taus, log_s) = (tau.repeat([2]), state.log_s.index_select(0, index).repeat([2]));
            let found = anchors(&similarity, &positive, &masked, (2 * b - 2) as f64, &taus, &log_s, self);
            let [first, second] = [0, b].map(|from| found.log_s.narrow(0, from, b));
            let log_s = first.logaddexp(&second) - 2f64.ln();
            let gradient = (found.gradient.narrow(0, 0, b) + found.gradient.narrow(0, b, b)) / 2.0;
            tch::no_grad(|| state.update(index, &tau, &log_s, &gradient, self));
            Ok(IsogclrOutput {
                surrogate: found.surrogate.sum(z.kind()) / b as f64,
                mean_tau: tau.mean(Kind::Float),
                mean_kl: found.kl.mean(z.kind()),
            })
        })
    }

    /// The loss of images and texts `[B, D]` (normalised here), each a pair of the sample at `index [B]`: image anchors against
    /// the other texts and text anchors against the other images, with a state each. Sum of the two means.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_bimodal(
        &self,
        images: &Tensor,
        texts: &Tensor,
        index: &Tensor,
        image_state: &mut TemperatureState,
        text_state: &mut TemperatureState,
    ) -> Result<IsogclrOutput> {
        self.check()?;
        let (b, _) = check_pair(images, texts)?;
        check_index(index, b, image_state)?;
        check_index(index, b, text_state)?;
        in_full_precision([images, texts], |[images, texts]| {
            let (images, texts) = (unit(&images), unit(&texts));
            let similarity = images.matmul(&texts.tr());
            let positive = similarity.diagonal(0, 0, 1);
            let masked = Tensor::eye(b, (Kind::Bool, similarity.device()));
            let side = |similarity: &Tensor, state: &mut TemperatureState| {
                let kind = similarity.kind();
                let (tau, log_s) = (state.tau.index_select(0, index), state.log_s.index_select(0, index));
                let found = anchors(similarity, &positive, &masked, (b - 1) as f64, &tau, &log_s, self);
                tch::no_grad(|| state.update(index, &tau, &found.log_s, &found.gradient, self));
                (found.surrogate.mean(kind), tau.mean(Kind::Float), found.kl.mean(kind))
            };
            let (a, tau_a, kl_a) = side(&similarity, image_state);
            let (b, tau_b, kl_b) = side(&similarity.tr(), text_state);
            Ok(IsogclrOutput { surrogate: a + b, mean_tau: (tau_a + tau_b) / 2.0, mean_kl: (kl_a + kl_b) / 2.0 })
        })
    }
}

/// Rows of `h [R, n]` with a temperature each.
fn check_rows(h: &Tensor, tau: &Tensor) -> Result<i64> {
    let (rows, n) = check_matrix("h", h)?;
    if n < 1 {
        return Err(Error::shape("h", "at least one negative", h));
    }
    if tau.size() != [rows] {
        return Err(Error::shape("tau", format!("[{rows}]"), tau));
    }
    Ok(n)
}

/// The true objective of each anchor, `tau log[1/n sum_z exp(h(z)/tau)] + rho tau`: `h [R, n]` (negatives alone), `tau [R]`
/// above 0, result `[R]`; differentiable in both. For watching, and for tests.
///
/// # Errors
/// Wrong shapes, no negatives.
pub fn rgcl_value(h: &Tensor, tau: &Tensor, rho: f64) -> Result<Tensor> {
    let n = check_rows(h, tau)?;
    let log_mean = (h / tau.unsqueeze(1)).logsumexp([1i64].as_slice(), false) - (n as f64).ln();
    Ok((log_mean + rho) * tau)
}

/// `KL(softmax(h/tau) || uniform)` of each row: between 0 and `log n`. Shapes as in [`rgcl_value`].
///
/// # Errors
/// Wrong shapes, no negatives.
pub fn kl_to_uniform(h: &Tensor, tau: &Tensor) -> Result<Tensor> {
    let n = check_rows(h, tau)?;
    let log_p = (h / tau.unsqueeze(1)).log_softmax(1, h.kind());
    Ok((log_p.exp() * &log_p).sum_dim_intlist([1i64].as_slice(), false, h.kind()) + (n as f64).ln())
}

/// The temperature in `[low, high]` that minimises each row's objective: where `KL = rho`, else the nearer bound. `h [R, n]`,
/// result `[R]`, by bisection of all rows at once.
///
/// # Errors
/// A wrong shape, bounds that are not ascending and above 0, a negative `rho`.
pub fn optimal_tau(h: &Tensor, rho: f64, low: f64, high: f64) -> Result<Tensor> {
    check_range("low", low, f64::MIN_POSITIVE..)?;
    check_range("high", high, low..)?;
    check_range("rho", rho, 0.0..)?;
    let (rows, _) = check_matrix("h", h)?;
    let h = h.detach();
    let bound = |value: f64| Tensor::full([rows], value, (h.kind(), h.device()));
    let (mut low, mut high) = (bound(low), bound(high));
    // KL falls with the temperature.
    for _ in 0..60 {
        let middle = (&low + &high) / 2.0;
        let above = kl_to_uniform(&h, &middle)?.gt(rho);
        (low, high) = (middle.where_self(&above, &low), high.where_self(&above, &middle));
    }
    Ok((low + high) / 2.0)
}
