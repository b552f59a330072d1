//! How a network is trained, on real or on synthetic images.

use super::convnet::FlatConvNet;
use super::select::Shuffled;
use super::{DiffAugment, FlatConvNetConfig};
use autodidact_core::error::{check_class_indices, check_range};
use autodidact_core::optim::{Group, Optimizer, Rule, Sgd};
use autodidact_core::seed::Rng;
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::{Reduction, Tensor};

/// The cross entropy is multiplied by `from + (1 - from) e/epochs` in the epochs `e < epochs`, and by 1 after: large early
/// losses cannot throw a network far ("clipping loss" of Shen, Yang and Lam, 2023).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ramp {
    /// Factor of the first epoch, in `[0, 1]`.
    pub from: f64,
    /// Epochs until the factor is 1.
    pub epochs: usize,
}

impl Default for Ramp {
    fn default() -> Self {
        Self { from: 0.5, epochs: 10 }
    }
}

impl Ramp {
    /// Factor in an epoch, counted from 0.
    pub fn factor(&self, epoch: usize) -> f64 {
        if epoch >= self.epochs { 1.0 } else { self.from + (1.0 - self.from) * epoch as f64 / self.epochs as f64 }
    }
}

/// Over what a gradient's norm is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PenaltyNorm {
    /// The channels of one pixel, as the published code.
    Pixel,
    /// The whole image, as the penalty of Gulrajani et al. (2017).
    Image,
}

/// Penalty on the gradient of the summed logits with respect to the images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GradientPenalty {
    /// Factor, at least 0.
    pub weight: f64,
    /// Norm at which it vanishes.
    pub target: f64,
    /// Over what the norm is taken.
    pub norm: PenaltyNorm,
}

impl Default for GradientPenalty {
    fn default() -> Self {
        Self { weight: 2.0, target: 1.0, norm: PenaltyNorm::Pixel }
    }
}

/// `weight * mean (|J| - target)^2`, with `J` the gradient of the sum of all logits with respect to images `x [N, C, H, W]`, its
/// norm taken per pixel or per image, the mean over pixels and images. Differentiable in what `logits` depends on.
///
/// # Errors
/// Images of another shape, a weight or target below 0, whatever `logits` reports.
pub fn gradient_penalty(
    x: &Tensor,
    penalty: GradientPenalty,
    logits: impl Fn(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    if x.dim() != 4 {
        return Err(Error::shape("images", "[N, C, H, W]", x));
    }
    check_range("penalty weight", penalty.weight, 0.0..)?;
    check_range("penalty target", penalty.target, 0.0..)?;
    let x = x.detach().set_requires_grad(true);
    let sum = logits(&x)?.sum(x.kind());
    let gradient = Tensor::f_run_backward(&[&sum], &[&x], true, true)?.swap_remove(0);
    let dims: &[i64] = match penalty.norm {
        PenaltyNorm::Pixel => &[1],
        PenaltyNorm::Image => &[1, 2, 3],
    };
    let norm = gradient.norm_scalaropt_dim(2.0, dims, false);
    Ok((norm - penalty.target).square().mean(x.kind()) * penalty.weight)
}

/// Training by SGD. The default is the expert of trajectory matching (Cazenavette et al., 2022).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// Epochs `T`.
    pub epochs: usize,
    /// Images in a batch.
    pub batch: usize,
    /// Learning rate.
    pub lr: f64,
    /// Momentum in `[0, 1)`.
    pub momentum: f64,
    /// Weight decay of all parameters.
    pub weight_decay: f64,
    /// Factor of the learning rate after epoch `T/2 + 1` (counted from 0), when momentum starts anew; 1 for none.
    pub decay: f64,
    /// Factor of the loss in early epochs.
    pub ramp: Option<Ramp>,
    /// Penalty on the gradient with respect to the images (those before augmentation); the ramp does not touch it.
    pub penalty: Option<GradientPenalty>,
    /// Augmentation, parameters of its own for every image.
    pub augment: Option<DiffAugment>,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            epochs: 50,
            batch: 256,
            lr: 0.01,
            momentum: 0.0,
            weight_decay: 0.0,
            decay: 1.0,
            ramp: None,
            penalty: None,
            augment: Some(DiffAugment::default()),
        }
    }
}

impl Recipe {
    /// Checks what does not depend on data.
    ///
    /// # Errors
    /// Constants outside their ranges.
    pub fn check(&self) -> Result<()> {
        check_range("epochs", self.epochs as f64, 1.0..)?;
        check_range("batch", self.batch as f64, 1.0..)?;
        check_range("lr", self.lr, 0.0..)?;
        check_range("momentum", self.momentum, 0.0..1.0)?;
        check_range("weight_decay", self.weight_decay, 0.0..)?;
        check_range("decay", self.decay, 0.0..=1.0)?;
        if let Some(ramp) = self.ramp {
            check_range("ramp.from", ramp.from, 0.0..=1.0)?;
        }
        if let Some(penalty) = self.penalty {
            check_range("penalty.weight", penalty.weight, 0.0..)?;
            check_range("penalty.target", penalty.target, 0.0..)?;
        }
        Ok(())
    }

    /// Trains from `start [P]` on images with class indices and returns the last parameters; `epoch` sees the parameters after
    /// every epoch (a view, to be copied if kept).
    ///
    /// # Errors
    /// Constants outside their ranges, images, labels or parameters that do not fit, whatever `epoch` reports.
    pub fn train(
        &self,
        net: &FlatConvNet,
        start: &Tensor,
        (x, y): (&Tensor, &Tensor),
        rng: &mut Rng,
        mut epoch: impl FnMut(usize, &Tensor) -> Result<()>,
    ) -> Result<Tensor> {
        self.check()?;
        let FlatConvNetConfig { classes, side, .. } = *net.config();
        let samples = x.size().first().copied().unwrap_or(0);
        if samples < 1 {
            return Err(Error::shape("images", "[N, C, H, W] with at least one image", x));
        }
        check_class_indices("labels", y, samples, classes)?;
        let theta = start.detach().copy().set_requires_grad(true);
        let optimizer = || {
            let rule = Rule::Sgd(Sgd { momentum: self.momentum, nesterov: false });
            Optimizer::new(rule, vec![Group::of(vec![("theta".into(), theta.shallow_clone())], self.weight_decay)])
        };
        let (mut optimizer_now, mut lr) = (optimizer()?, self.lr);
        let mut batches = Shuffled::new(samples, self.batch);
        for e in 0..self.epochs {
            let factor = self.ramp.map_or(1.0, |r| r.factor(e));
            for _ in 0..batches.per_epoch() {
                let picked = batches.draw(rng).map(|i| i.to_device(x.device()));
                let of = |t: &Tensor| picked.as_ref().map_or_else(|| t.shallow_clone(), |i| t.index_select(0, i));
                let (images, labels) = (of(x), of(y));
                let augmented = match &self.augment {
                    Some(a) => a.draw(Some(images.size()[0]), side, rng)?.apply(&images)?,
                    None => images.shallow_clone(),
                };
                optimizer_now.zero_grad();
                let mut loss = cross_entropy(&net.forward(&theta, &augmented)?, &labels) * factor;
                if let Some(penalty) = self.penalty {
                    loss += gradient_penalty(&images, penalty, |x| net.forward(&theta, x))?;
                }
                loss.backward();
                optimizer_now.step(lr)?;
            }
            epoch(e, &theta.detach())?;
            if self.decay < 1.0 && e == self.epochs / 2 + 1 {
                (optimizer_now, lr) = (optimizer()?, lr * self.decay);
            }
        }
        Ok(theta.detach())
    }

    /// Trains fresh parameters and returns them from the start on, after every epoch: `[T+1, P]`.
    ///
    /// # Errors
    /// As [`train`](Self::train).
    pub fn trajectory(&self, net: &FlatConvNet, data: (&Tensor, &Tensor), rng: &mut Rng) -> Result<Tensor> {
        let start = net.init(rng, data.0.device());
        let mut path = vec![start.copy()];
        let keep = |_, theta: &Tensor| {
            path.push(theta.copy());
            Ok(())
        };
        let _last = self.train(net, &start, data, rng, keep)?;
        Ok(Tensor::stack(&path, 0))
    }
}

/// Mean over the batch, in the logits' own precision.
pub(crate) fn cross_entropy(logits: &Tensor, labels: &Tensor) -> Tensor {
    logits.cross_entropy_loss::<Tensor>(labels, None, Reduction::Mean, -100, 0.0)
}
