//! Gradient descent as a differentiable function of its data and step size.

use autodidact_core::error::check_range;
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// The inner loop of a bilevel method: `steps` of gradient descent with momentum.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct InnerLoop {
    /// Number of steps `N`.
    pub steps: usize,
    /// `m` of `v <- m v + g`, in `[0, 1)`.
    pub momentum: f64,
    /// Only the last steps stay in the graph (truncated backpropagation); all if `None`.
    pub kept: Option<usize>,
}

/// Runs the inner loop from `start [P]` and returns the parameters before the first and after every step, `steps + 1` vectors.
///
/// `v_k = m v_{k-1} + g_k`, `theta_{k+1} = theta_k - a v_k`, with `g_k` the gradient of `loss(k, theta_k)` and `a` the scalar
/// `step_size`. All of it is in the graph: whatever is computed from the result can be differentiated with respect to `step_size`
/// and to what `loss` depends on, through gradients and momentum. `start` is detached. Memory grows with the steps in the graph.
///
/// ```
/// use autodidact_distill::distilled_data::{InnerLoop, unroll};
/// use tch::{Kind, Tensor};
/// // loss (theta x)^2 / 2 from theta = 1 at x = 2 with step 0.1: theta_1 = 1 - 0.1*4
/// let [x, a] = [2.0, 0.1].map(|v: f64| Tensor::from(v).set_requires_grad(true));
/// let inner = InnerLoop { steps: 1, momentum: 0.9, kept: None };
/// let path = unroll(&Tensor::from_slice(&[1.0]), &a, inner, |_, t| Ok((t * &x).square().sum(Kind::Double) / 2.0))?;
/// path[1].square().sum(Kind::Double).backward();
/// assert!((path[1].double_value(&[0]) - 0.6).abs() < 1e-12);
/// assert!((x.grad().double_value(&[]) + 0.48).abs() < 1e-12);
/// assert!((a.grad().double_value(&[]) + 4.8).abs() < 1e-12);
/// # Ok::<(), autodidact_core::Error>(())
/// ```
///
/// # Errors
/// No steps, momentum outside its range, a start or step size of another shape, whatever `loss` reports.
pub fn unroll(
    start: &Tensor,
    step_size: &Tensor,
    inner: InnerLoop,
    mut loss: impl FnMut(usize, &Tensor) -> Result<Tensor>,
) -> Result<Vec<Tensor>> {
    let InnerLoop { steps, momentum, kept } = inner;
    check_range("inner steps", steps as f64, 1.0..)?;
    check_range("inner momentum", momentum, 0.0..1.0)?;
    if start.dim() != 1 {
        return Err(Error::shape("start", "[P]", start));
    }
    if step_size.numel() != 1 {
        return Err(Error::shape("step size", "a single number", step_size));
    }
    let leaf = |theta: &Tensor| theta.detach().set_requires_grad(true);
    let mut path = vec![leaf(start)];
    let mut velocity: Option<Tensor> = None;
    for k in 0..steps {
        let in_graph = kept.is_none_or(|kept| k + kept >= steps);
        let theta = path[k].shallow_clone();
        let value = loss(k, &theta)?;
        let gradient = Tensor::f_run_backward(&[&value], &[&theta], in_graph, in_graph)?.swap_remove(0);
        let v = match velocity {
            Some(v) if momentum > 0.0 => v * momentum + gradient,
            _ => gradient,
        };
        let next = &theta - &v * step_size;
        path.push(if in_graph { next } else { leaf(&next) });
        velocity = Some(v);
    }
    Ok(path)
}
