//! Sharpness-aware minimisation.

use crate::error::check_range;
use crate::{Error, Result};
use tch::{Kind, Tensor};

/// Sharpness-aware minimisation (Foret et al., 2021; arXiv 2010.01412): the step at `w` takes the gradient at `w + rho g / (|g| + 1e-12)`,
/// `g` being the gradient at `w` and its norm that over all parameters.
///
/// Each step has two passes: gradient, [`Sam::climb`], gradient again, [`Sam::descend`], and the optimizer's step. Running statistics of
/// batch norm should come from the first pass alone: put those of the second back with a [`Snapshot`](super::Snapshot) of the buffers.
///
/// ```
/// use autodidact_core::optim::Sam;
/// use tch::{Device, nn};
/// let vs = nn::VarStore::new(Device::Cpu);
/// let mut w = vs.root().var("w", &[2], nn::Init::Const(0.0));
/// tch::no_grad(|| w.copy_(&tch::Tensor::from_slice(&[1.0f32, 2.0])));
/// let mut sam = Sam::new(0.05, vs.trainable_variables())?;
/// (&w * tch::Tensor::from_slice(&[3.0f32, 4.0])).sum(tch::Kind::Float).backward();
/// sam.climb()?;
/// assert!((w.double_value(&[0]) - 1.03).abs() < 1e-6 && (w.double_value(&[1]) - 2.04).abs() < 1e-6);
/// sam.descend();
/// assert_eq!((w.double_value(&[0]), w.double_value(&[1])), (1.0, 2.0));
/// # Ok::<(), autodidact_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Sam {
    rho: f64,
    params: Vec<Tensor>,
    /// The weights before the climb.
    before: Vec<Tensor>,
}

impl Sam {
    /// For parameters; `rho` is the length of the climb (0 climbs nowhere: the optimizer alone).
    ///
    /// # Errors
    /// A negative `rho`.
    pub fn new(rho: f64, params: Vec<Tensor>) -> Result<Self> {
        check_range("rho", rho, 0.0..)?;
        Ok(Self { rho, params, before: vec![] })
    }

    /// Moves the weights along their gradients, and clears these.
    ///
    /// # Errors
    /// Parameters without any gradient, or a climb that is not over.
    pub fn climb(&mut self) -> Result<()> {
        if !self.before.is_empty() {
            return Err(Error::Failed("a climb of SAM must be followed by its descent".into()));
        }
        let gradients: Vec<Tensor> = self.params.iter().map(Tensor::grad).collect();
        let squares = gradients.iter().filter(|g| g.defined()).map(|g| g.square().sum(Kind::Float)).collect::<Vec<_>>();
        if squares.is_empty() {
            return Err(Error::value("gradients", "some before a climb of SAM", "none"));
        }
        tch::no_grad(|| {
            let scale = self.rho / (Tensor::stack(&squares, 0).sum(Kind::Float).sqrt() + 1e-12);
            self.before = self.params.iter().map(Tensor::copy).collect();
            for (p, g) in self.params.iter_mut().zip(gradients) {
                if g.defined() {
                    let _ = p.g_add_(&(&g * &scale));
                    let _ = g.shallow_clone().zero_();
                }
            }
        });
        Ok(())
    }

    /// Puts the weights back to where the climb began, bit for bit; the gradients stay.
    pub fn descend(&mut self) {
        tch::no_grad(|| {
            for (p, before) in self.params.iter_mut().zip(self.before.drain(..)) {
                p.copy_(&before);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::{Group, Optimizer, Rule, Sgd};
    use tch::nn::{Init, VarStore};
    use tch::{Device, Kind};

    /// A few steps on a quartic.
    fn run(rho: Option<f64>) -> Vec<f32> {
        let vs = VarStore::new(Device::Cpu);
        let mut w = vs.root().var("w", &[3], Init::Const(0.0));
        tch::no_grad(|| w.copy_(&Tensor::from_slice(&[1.0f32, -2.0, 0.5])));
        let mut sam = rho.map(|rho| Sam::new(rho, vs.trainable_variables()).unwrap());
        let mut optimizer = Optimizer::new(Rule::Sgd(Sgd::default()), vec![Group::all(&vs, 0.0)]).unwrap();
        for _ in 0..5 {
            optimizer.zero_grad();
            w.pow_tensor_scalar(4).sum(Kind::Float).backward();
            if let Some(sam) = &mut sam {
                sam.climb().unwrap();
                w.pow_tensor_scalar(4).sum(Kind::Float).backward();
                sam.descend();
            }
            optimizer.step(0.01).unwrap();
        }
        Vec::try_from(&w).unwrap()
    }

    #[test]
    fn no_climb_is_the_optimizer_alone_and_a_climb_by_hand() {
        assert_eq!(run(Some(0.0)), run(None));
        assert_ne!(run(Some(0.1)), run(None));
        // One parameter: g = 4, w' = 1 + rho, gradient 4 (1 + rho)^3.
        let vs = VarStore::new(Device::Cpu);
        let w = vs.root().var("w", &[], Init::Const(1.0));
        let mut sam = Sam::new(0.5, vs.trainable_variables()).unwrap();
        w.pow_tensor_scalar(4).backward();
        sam.climb().unwrap();
        assert!(sam.climb().is_err(), "twice without a descent");
        w.pow_tensor_scalar(4).backward();
        sam.descend();
        assert_eq!(w.double_value(&[]), 1.0);
        assert!((w.grad().double_value(&[]) - 13.5).abs() < 1e-5);
        assert!(Sam::new(-1.0, vec![]).is_err());
        let fresh = VarStore::new(Device::Cpu);
        let _ = fresh.root().var("w", &[1], Init::Const(1.0));
        assert!(Sam::new(0.1, fresh.trainable_variables()).unwrap().climb().is_err());
    }
}
