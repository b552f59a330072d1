//! Random teachers: a student that learns to imitate a network frozen at random initialisation ends with better features than it.
//!
//! Sarnthein, Bachmann, Anagnostidis and Hofmann, "Random Teachers are Good Teachers", ICML 2023 (arXiv 2302.12091). There are no labels,
//! no augmentation and no knowledge in the teacher; what the student gains is a bias of gradient training itself. It is strongest
//! for a student that starts next to its teacher, though the teacher is the loss's global minimum.
//!
//! With teacher `theta_T`, a fresh draw `theta~` and locality `alpha`, the student starts at ([`interpolate`])
//!
//! `theta_S(alpha) = ((1 - alpha) theta_T + alpha theta~) / sqrt((1 - alpha)^2 + alpha^2)`
//!
//! and minimises the cross entropy of its softmax with the teacher's over the outputs of a [`Head`],
//! `L = -mean_b sum_i p_T,i log p_S,i` ([`kd_cross_entropy`](crate::logits::kd_cross_entropy) at temperature 1). The teacher is in
//! evaluation mode throughout: with batch norm, it sees the running statistics of its initialisation.
//!
//! AdamW is part of the mechanism: next to an exact copy, gradients are rounding noise, of which Adam's first step makes moves of the
//! whole learning rate, while plain gradient descent stays where it is.
//!
//! Lottery tickets and linear mode connectivity of the student are measured with
//! [`IterativePruning`](autodidact_core::masks::IterativePruning) and [`landscape`](autodidact_core::landscape).
//!
//! ```
//! use autodidact_distill::random_teachers::interpolate;
//! use tch::{Device, nn};
//! let [teacher, student] = [2.0, 4.0].map(|value| {
//!     let vs = nn::VarStore::new(Device::Cpu);
//!     let _ = vs.root().var("w", &[1], nn::Init::Const(value));
//!     vs
//! });
//! interpolate(&student, &teacher, 0.5, true)?; // (1 + 2) / sqrt(.25 + .25)
//! assert!((student.variables()["w"].double_value(&[0]) - 4.242641).abs() < 1e-6);
//! # Ok::<(), autodidact_core::Error>(())
//! ```

mod head;

pub use head::{Head, HeadConfig};

use autodidact_core::error::check_range;
use autodidact_core::optim::sorted_trainables;
use autodidact_core::{Error, Result};
use tch::Tensor;
use tch::nn::VarStore;

/// The paper's locality: so close that 32-bit weights are those of the teacher, but for the last digit of tiny ones.
pub const LOCAL: f64 = 1e-10;

/// Moves a fresh student to `((1 - alpha) theta_T + alpha theta~) / delta`, where `theta~` is what it holds: all its parameters, in place.
/// With `keep_variance`, `delta = sqrt((1 - alpha)^2 + alpha^2)`, which keeps the variance of Gaussian weights; else 1. Buffers stay.
///
/// # Errors
/// `alpha` outside `[0, 1]`, a teacher of another shape.
pub fn interpolate(student: &VarStore, teacher: &VarStore, alpha: f64, keep_variance: bool) -> Result<()> {
    check_range("alpha", alpha, 0.0..=1.0)?;
    let delta = if keep_variance { (1.0 - alpha).hypot(alpha) } else { 1.0 };
    combine(student, teacher, (1.0 - alpha) / delta, alpha / delta)
}

/// Moves a fresh student to `theta_T + eps theta~`, where `theta~` is what it holds: all its parameters, in place. Buffers stay.
///
/// # Errors
/// `eps` negative or not finite, a teacher of another shape.
pub fn neighbour(student: &VarStore, teacher: &VarStore, eps: f64) -> Result<()> {
    check_range("eps", eps, 0.0..)?;
    combine(student, teacher, 1.0, eps)
}

fn combine(student: &VarStore, teacher: &VarStore, of_teacher: f64, of_fresh: f64) -> Result<()> {
    let variables = teacher.variables();
    let pairs = sorted_trainables(student).into_iter().map(|(name, s)| match variables.get(&name) {
        Some(t) if t.size() == s.size() => Ok((s, t.detach())),
        _ => Err(Error::value("teacher", format!("a parameter {name} of shape {:?}", s.size()), "none")),
    });
    // Nothing is moved before all is there.
    let pairs = pairs.collect::<Result<Vec<(Tensor, Tensor)>>>()?;
    tch::no_grad(|| {
        for (mut s, t) in pairs {
            let moved = t * of_teacher + &s * of_fresh;
            s.copy_(&moved);
        }
    });
    Ok(())
}
