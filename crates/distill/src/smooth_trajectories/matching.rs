//! Matching a student's trajectory with an expert's.

use super::buffer::TrajectoryBuffer;
use crate::distilled_data::{DiffAugment, FlatConvNet, InnerLoop, unroll};
use crate::distilled_data::{Shuffled, cross_entropy};
use autodidact_core::error::{check_class_indices, check_range};
use autodidact_core::seed::Rng;
use autodidact_core::{Error, Result};
use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// Which of the expert's epochs between start and target are matched too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Intermediate {
    /// None.
    Off,
    /// All, each with weight 1.
    Equal,
    /// All, the `i`-th of `M - 1` with weight `i/M`.
    Adaptive,
}

/// One outer step of trajectory matching; the default is the paper's setting for CIFAR-10 with ten images per class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrajectoryMatching {
    /// The student's `N` steps, their momentum and how many of them are differentiated through.
    pub inner: InnerLoop,
    /// Images in a batch of the student; all if `None`.
    pub batch: Option<usize>,
    /// The expert's epochs `M` that the student is to make up for.
    pub expert_epochs: usize,
    /// Start epochs are uniform in `0..max_start`.
    pub max_start: usize,
    /// Whether the student's loss is weighted by [`balance_factor`].
    pub balance: bool,
    /// Which epochs between are matched.
    pub intermediate: Intermediate,
    /// `alpha` of [`perturb_convolutions`]; 0 for none.
    pub perturbation: f64,
    /// Augmentation of the synthetic images, parameters of its own for each.
    pub augment: Option<DiffAugment>,
}

impl Default for TrajectoryMatching {
    fn default() -> Self {
        Self {
            inner: InnerLoop { steps: 30, momentum: 0.9, kept: None },
            batch: None,
            expert_epochs: 2,
            max_start: 20,
            balance: true,
            intermediate: Intermediate::Equal,
            perturbation: 1.0,
            augment: Some(DiffAugment::default()),
        }
    }
}

/// The parts of the loss, scalars.
#[derive(Debug)]
pub struct MatchingOutput {
    /// What is minimised: the distance after the last step, and those between.
    pub total: Tensor,
    /// Start epoch `s`.
    pub start: usize,
    /// Normalised squared distance after the last step.
    pub last: Tensor,
    /// Weighted sum of those at the epochs between, if there are any.
    pub intermediate: Option<Tensor>,
}

/// Weight of the student's loss at start epoch `s`: with `h = floor(s_max/2)`, `log_5(s - h + 8)` from `h` on and
/// `1/log_5(h - s + 8)` before. Late epochs move little and get more.
pub fn balance_factor(start: usize, max_start: usize) -> f64 {
    let half = max_start / 2;
    let log5 = |x: usize| (x as f64).ln() / 5f64.ln();
    if start >= half { log5(start - half + 8) } else { log5(half - start + 8).recip() }
}

/// After which of the student's `steps` it is compared with each of the expert's `epochs`: `i floor(N/M)`, the last after all.
pub fn intermediate_steps(steps: usize, epochs: usize) -> Vec<usize> {
    (1..epochs).map(|i| i * (steps / epochs)).chain([steps]).collect()
}

/// `|a - target|^2 / |start - target|^2`: 1 for a student that has not moved, 0 for one that has arrived.
///
/// # Errors
/// Vectors of different lengths.
pub fn normalised_distance(a: &Tensor, target: &Tensor, start: &Tensor) -> Result<Tensor> {
    if a.size() != target.size() || start.size() != target.size() {
        return Err(Error::shape("parameters", format!("{:?}, as the target", target.size()), a));
    }
    let squared = |x: &Tensor| (x - target).square().sum(x.kind());
    Ok(squared(a) / squared(start))
}

/// Multiplies every weight of the convolutions by `1 + alpha d/|d|_F`, with `d` normal and the norm over the weights of the layer;
/// all other parameters stay. The relative change of a weight is about `alpha/sqrt(n)` in a layer of `n` weights.
///
/// # Errors
/// Parameters of another length, `alpha` below 0.
pub fn perturb_convolutions(net: &FlatConvNet, theta: &Tensor, alpha: f64, rng: &mut Rng) -> Result<Tensor> {
    check_range("perturbation", alpha, 0.0..)?;
    if theta.size() != [net.parameters()] {
        return Err(Error::shape("theta", format!("[{}]", net.parameters()), theta));
    }
    let mut factor = vec![1f32; net.parameters() as usize];
    for layer in net.layers().iter().filter(|l| l.shape.len() == 4) {
        let factor = &mut factor[layer.range.start as usize..layer.range.end as usize];
        factor.fill_with(|| StandardNormal.sample(rng));
        let norm = factor.iter().map(|d| d * d).sum::<f32>().sqrt();
        factor.iter_mut().for_each(|d| *d = 1.0 + alpha as f32 * *d / norm);
    }
    Ok(theta * Tensor::from_slice(&factor).to_device(theta.device()).to_kind(theta.kind()))
}

impl TrajectoryMatching {
    /// Trajectory matching without any of the paper's additions (Cazenavette et al., 2022), CIFAR-10 with ten images per class.
    pub fn mtt() -> Self {
        Self {
            inner: InnerLoop { momentum: 0.0, ..Self::default().inner },
            balance: false,
            intermediate: Intermediate::Off,
            perturbation: 0.0,
            ..Self::default()
        }
    }

    /// Checks what does not depend on data; `epochs` are the expert's.
    ///
    /// # Errors
    /// Constants outside their ranges, targets beyond the expert's last epoch.
    pub fn check(&self, epochs: usize) -> Result<()> {
        check_range("inner.steps", self.inner.steps as f64, 1.0..)?;
        check_range("inner.momentum", self.inner.momentum, 0.0..1.0)?;
        check_range("expert_epochs", self.expert_epochs as f64, 1.0..)?;
        check_range("max_start", self.max_start as f64, 1.0..)?;
        check_range("perturbation", self.perturbation, 0.0..)?;
        if self.intermediate != Intermediate::Off && self.inner.steps < self.expert_epochs {
            return Err(Error::value("inner.steps", "at least one for each of the expert's epochs", self.inner.steps));
        }
        if self.max_start - 1 + self.expert_epochs > epochs {
            let most = format!("at most {epochs}, the expert's epochs");
            return Err(Error::value("max_start - 1 + expert_epochs", most, self.max_start - 1 + self.expert_epochs));
        }
        Ok(())
    }

    /// The loss of synthetic images `[m, C, S, S]` with class indices `[m]`, for one expert and one start epoch drawn from the
    /// buffer; differentiable in the images and in the student's `step_size` (a scalar). The student's start, its perturbation
    /// included, also is the reference of the normalisation.
    ///
    /// # Errors
    /// What [`check`](Self::check) finds, an empty buffer, images or labels that do not fit the network.
    pub fn forward(
        &self,
        net: &FlatConvNet,
        buffer: &TrajectoryBuffer,
        (x, y): (&Tensor, &Tensor),
        step_size: &Tensor,
        rng: &mut Rng,
    ) -> Result<MatchingOutput> {
        let trajectory = buffer.sample(rng)?;
        self.check(buffer.epochs())?;
        let start = rng.random_range(0..self.max_start);
        self.from_epoch(net, trajectory, start, (x, y), step_size, rng)
    }

    /// The same for a given trajectory `[T+1, P]` and start epoch.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn from_epoch(
        &self,
        net: &FlatConvNet,
        trajectory: &Tensor,
        start: usize,
        (x, y): (&Tensor, &Tensor),
        step_size: &Tensor,
        rng: &mut Rng,
    ) -> Result<MatchingOutput> {
        let images = x.size().first().copied().unwrap_or(0);
        check_class_indices("labels", y, images, net.config().classes)?;
        if images < 1 {
            return Err(Error::shape("synthetic images", "at least one", x));
        }
        let at = |epoch: usize| trajectory.f_get(epoch as i64);
        let mut theta = at(start)?;
        if self.perturbation > 0.0 {
            theta = perturb_convolutions(net, &theta, self.perturbation, rng)?;
        }
        let weight = if self.balance { balance_factor(start, self.max_start) } else { 1.0 };
        let mut batches = Shuffled::new(images, self.batch.unwrap_or(images as usize));
        let path = unroll(&theta, step_size, self.inner, |_, theta| {
            let picked = batches.draw(rng).map(|i| i.to_device(x.device()));
            let of = |t: &Tensor| picked.as_ref().map_or_else(|| t.shallow_clone(), |i| t.index_select(0, i));
            let mut images = of(x);
            if let Some(augment) = &self.augment {
                let drawn = augment.draw(Some(images.size()[0]), net.config().side, rng)?;
                images = drawn.apply(&images)?;
            }
            Ok(cross_entropy(&net.forward(theta, &images)?, &of(y)) * weight)
        })?;
        let last = normalised_distance(&path[self.inner.steps], &at(start + self.expert_epochs)?, &theta)?;
        let mut intermediate: Option<Tensor> = None;
        if self.intermediate != Intermediate::Off {
            let steps = intermediate_steps(self.inner.steps, self.expert_epochs);
            for (i, step) in (1..self.expert_epochs).zip(steps) {
                let weight = match self.intermediate {
                    Intermediate::Adaptive => i as f64 / self.expert_epochs as f64,
                    _ => 1.0,
                };
                let part = normalised_distance(&path[step], &at(start + i)?, &theta)? * weight;
                intermediate = Some(match intermediate {
                    Some(sum) => sum + part,
                    None => part,
                });
            }
        }
        let total = intermediate.as_ref().map_or_else(|| last.shallow_clone(), |i| &last + i);
        Ok(MatchingOutput { total, start, last, intermediate })
    }
}
