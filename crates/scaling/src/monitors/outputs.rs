//! Output logits and their normaliser.

use autodidact_core::{Error, Result};
use tch::{Kind, Tensor};

/// What output logits look like, scalars without graphs.
#[derive(Debug)]
pub struct OutputStats {
    /// Mean logit.
    pub mean: Tensor,
    /// Smallest logit.
    pub min: Tensor,
    /// Largest logit.
    pub max: Tensor,
    /// Mean of `log Z`, the log-sum-exp of a place's logits. Far below 0: the logits diverge, for the loss does not hold them.
    pub log_z: Tensor,
    /// Smallest `log Z`.
    pub min_log_z: Tensor,
}

/// Statistics of logits `[..., V]`.
///
/// # Errors
/// No logits.
pub fn output_stats(logits: &Tensor) -> Result<OutputStats> {
    check(logits)?;
    tch::no_grad(|| {
        let logits = logits.detach();
        let log_z = logits.logsumexp([-1i64].as_slice(), false);
        Ok(OutputStats {
            mean: logits.mean(logits.kind()),
            min: logits.min(),
            max: logits.max(),
            log_z: log_z.mean(log_z.kind()),
            min_log_z: log_z.min(),
        })
    })
}

/// `mean (log Z)^2` of logits `[..., V]` over their places, differentiable: the term that PaLM adds to the loss with a coefficient of 1e-4
/// (Chowdhery et al., 2022; arXiv 2204.02311).
///
/// ```
/// use autodidact_scaling::monitors::z_loss;
/// use tch::Tensor;
/// let z = z_loss(&Tensor::from_slice(&[0f64, 0.0])).unwrap(); // (ln 2)^2
/// assert!((z.double_value(&[]) - 0.480453).abs() < 1e-6);
/// ```
///
/// # Errors
/// No logits.
pub fn z_loss(logits: &Tensor) -> Result<Tensor> {
    check(logits)?;
    let log_z = logits.logsumexp([-1i64].as_slice(), false);
    Ok(log_z.square().mean(log_z.kind()))
}

/// Mean cross-entropy of logits `[..., V]` and targets `[...]` (Int64) in nats, and [`z_loss`], from one log-sum-exp.
///
/// # Errors
/// Targets of another shape or type.
pub fn cross_entropy_with_z(logits: &Tensor, targets: &Tensor) -> Result<(Tensor, Tensor)> {
    check(logits)?;
    let places = &logits.size()[..logits.dim() - 1];
    if targets.size() != places || targets.kind() != Kind::Int64 {
        return Err(Error::shape("targets", format!("Int64 {places:?}"), targets));
    }
    let log_z = logits.logsumexp([-1i64].as_slice(), false);
    let of_target = logits.f_gather(-1, &targets.unsqueeze(-1), false)?.squeeze_dim(-1);
    let kind = log_z.kind();
    Ok(((&log_z - of_target).mean(kind), log_z.square().mean(kind)))
}

fn check(logits: &Tensor) -> Result<()> {
    if logits.dim() < 1 || logits.numel() == 0 || !logits.is_floating_point() {
        return Err(Error::shape("logits", "floating-point [..., V], at least one", logits));
    }
    Ok(())
}
