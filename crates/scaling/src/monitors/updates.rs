//! Sizes of gradients and of Adam's updates.

use autodidact_core::optim::{Adam, StateDict};
use autodidact_core::{Error, Result};
use tch::{Kind, Tensor};

/// Root mean square of a tensor's entries, summed in f64, a scalar without a graph.
///
/// ```
/// use autodidact_scaling::monitors::rms;
/// assert_eq!(rms(&tch::Tensor::from_slice(&[3f32, -4.0, 0.0, 0.0])).double_value(&[]), 2.5);
/// ```
pub fn rms(t: &Tensor) -> Tensor {
    tch::no_grad(|| t.detach().to_kind(Kind::Double).square().mean(Kind::Double).sqrt())
}

/// [`rms`] of a parameter's gradient.
///
/// # Errors
/// A parameter that has no gradient yet.
pub fn gradient_rms(parameter: &Tensor) -> Result<Tensor> {
    match parameter.grad() {
        g if g.defined() => Ok(rms(&g)),
        _ => Err(Error::value("gradient", "a backward pass before", "none")),
    }
}

/// Euclidean norm of all gradients together, in f64; parameters without a gradient are left out.
///
/// # Errors
/// No gradient at all.
pub fn gradient_norm(parameters: &[Tensor]) -> Result<Tensor> {
    let squares = parameters.iter().map(Tensor::grad).filter(Tensor::defined);
    let squares: Vec<Tensor> =
        squares.map(|g| tch::no_grad(|| g.to_kind(Kind::Double).square().sum(Kind::Double))).collect();
    if squares.is_empty() {
        return Err(Error::value("gradients", "a backward pass before", "none"));
    }
    Ok(Tensor::stack(&squares, 0).sum(Kind::Double).sqrt())
}

/// The direction of Adam's last step in a parameter, `m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)`, from the state of an
/// [`Optimizer`](autodidact_core::optim::Optimizer): what the learning rate multiplies. Its [`rms`] is about 1 at the start of training and
/// falls where gradients approach `eps` or change their signs.
///
/// # Errors
/// A state without this parameter or without Adam's moments, or before the first step.
pub fn adam_direction(state: &StateDict, parameter: &str, adam: &Adam) -> Result<Tensor> {
    let slot = |name: &str| {
        let slot = state.get(&format!("{parameter}.{name}"));
        slot.ok_or_else(|| Error::value("optimizer's state", format!("{name} of {parameter}"), "none"))
    };
    let (m, v) = (slot("exp_avg")?, slot("exp_avg_sq")?);
    let step = slot("step")?.double_value(&[]);
    if step < 1.0 {
        return Err(Error::value("optimizer's state", "one after a step", "one before the first"));
    }
    let unbiased = |beta: f64| 1.0 / (1.0 - beta.powf(step));
    tch::no_grad(|| {
        let root = (v.to_kind(Kind::Double) * unbiased(adam.betas.1)).sqrt();
        Ok(m.to_kind(Kind::Double) * unbiased(adam.betas.0) / (root + adam.eps))
    })
}

/// RMS of Adam's update for gradients that keep their value, `g / (g + eps)`: how much of the learning rate epsilon leaves.
///
/// ```
/// use autodidact_scaling::monitors::adam_update_rms;
/// assert_eq!(adam_update_rms(1e-8, 1e-8), 0.5);
/// assert!((adam_update_rms(1e-7, 1e-8) - 0.90909).abs() < 1e-5);
/// ```
pub fn adam_update_rms(gradient_rms: f64, eps: f64) -> f64 {
    gradient_rms / (gradient_rms + eps)
}
