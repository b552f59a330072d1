//! Traces of Hessians by the model's own labels, exactly or sampled with a standard error. Those by Hessian products, for any loss, are
//! [`autodidact_core::curvature::Hessian::trace`] (random signs) and `exact_trace`.
//!
//! The Fisher form `Tr = E_x E_(y ~ p_theta(.|x)) |grad_theta log p_theta(y|x)|^2` is the trace of the Hessian where `p_theta` is the
//! language, and that of its Gauss-Newton part elsewhere. Labels come from the model: with those of the data it would be the empirical
//! Fisher trace, which is right at saturation only. Gradients are squared sample by sample: the square of a batch's mean gradient is
//! something else. Dropout must be off.
//!
//! ```
//! use autodidact_scaling::implicit_bias_flatness::trace::fisher_exact;
//! use tch::Tensor;
//! // One logit per input, P(y = 1) = 0.5 and 0.9: (0.5 * 0.5 + 0.9 * 0.1) / 2.
//! let theta = Tensor::from_slice(&[0.0f64, 9f64.ln()]).set_requires_grad(true);
//! let logits = Tensor::stack(&[theta.zeros_like(), theta.shallow_clone()], 1);
//! assert!((fisher_exact(&logits, &[theta]).unwrap() - 0.17).abs() < 1e-12);
//! ```

use autodidact_core::curvature::TraceEstimate;
use autodidact_core::error::{check_matrix, check_range};
use autodidact_core::{Error, Result, seed, stats};
use tch::{Kind, Tensor};

/// The Fisher form from `samples` samples, one backward pass each: `log_prob(i)` gives `log p_theta(y|x)` (a scalar with its graph) of an input and a
/// label that it draws from the model ([`sampled_log_prob`]). Libtorch's generator is seeded before each call, from `seed` and `i`.
///
/// Of sequences, draw one position of each: the mean over positions is meant, and the gradient of a sum over positions is something else.
///
/// # Errors
/// Fewer than two samples, those of `log_prob`, a value that is no scalar or does not depend on `params`, gradients that are not finite.
pub fn fisher_sampled(
    params: &[Tensor],
    samples: usize,
    seed: u64,
    mut log_prob: impl FnMut(usize) -> Result<Tensor>,
) -> Result<TraceEstimate> {
    check_range("samples of the trace", samples as f64, 2.0..)?;
    let squares = (0..samples).map(|i| {
        seed::seed_torch(seed, &["fisher", &i.to_string()]);
        squared_gradient(&tch::with_grad(|| log_prob(i))?, params, false)
    });
    // Read back once, in the end.
    let squares = Vec::<f64>::try_from(Tensor::stack(&squares.collect::<Result<Vec<_>>>()?, 0))?;
    let (value, standard_error) = (stats::mean(&squares), stats::standard_error(&squares));
    check_range("trace", value, ..)?;
    Ok(TraceEstimate { value, standard_error, samples })
}

/// Draws a label from logits `[C]` (with their graph) and gives its log-probability, a scalar with its graph. Libtorch's generator.
///
/// # Errors
/// Logits of another rank, or not finite.
pub fn sampled_log_prob(logits: &Tensor) -> Result<Tensor> {
    if logits.dim() != 1 {
        return Err(Error::shape("logits", "[C]", logits));
    }
    let log_p = logits.log_softmax(0, None::<Kind>);
    let label = log_p.detach().exp().f_multinomial(1, true)?;
    Ok(log_p.index_select(0, &label).squeeze())
}

/// The Fisher form, summed over all labels: `logits [N, C]` (with their graph, which is kept) of all inputs, `N C` backward passes. For
/// binary logits `f`, give `[0, f]`.
///
/// # Errors
/// Logits of another shape, or that do not depend on `params`.
pub fn fisher_exact(logits: &Tensor, params: &[Tensor]) -> Result<f64> {
    let (n, classes) = check_matrix("logits", logits)?;
    let log_p = tch::with_grad(|| logits.log_softmax(1, None::<Kind>));
    let p = log_p.detach().exp().to_kind(Kind::Double);
    let mut sum = Tensor::zeros([], (Kind::Double, logits.device()));
    for i in 0..n {
        for y in 0..classes {
            let square = tch::with_grad(|| squared_gradient(&log_p.get(i).get(y), params, true))?;
            sum += square * p.get(i).get(y);
        }
    }
    Ok(sum.double_value(&[]) / n as f64)
}

/// `|grad|^2` of a scalar, f64.
fn squared_gradient(value: &Tensor, params: &[Tensor], keep_graph: bool) -> Result<Tensor> {
    if value.numel() != 1 || !value.requires_grad() {
        return Err(Error::shape("log-probability", "a scalar that depends on the parameters", value));
    }
    let gradients = Tensor::f_run_backward(&[value], params, keep_graph, false)?;
    let squares: Vec<Tensor> = gradients.iter().filter(|g| g.defined()).map(|g| g.square().sum(Kind::Double)).collect();
    if squares.is_empty() {
        return Err(Error::value("log-probability", "one that depends on the parameters", "another"));
    }
    Ok(Tensor::stack(&squares, 0).sum(Kind::Double))
}
