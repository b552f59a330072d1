//! Exponential moving averages of parameters: momentum encoders, mean teachers.

use super::StateDict;
use crate::error::check_range;
use crate::{Error, Result, shim};
use tch::{Kind, Tensor, nn::VarStore};

/// A target network that follows an online network: `target <- decay*target + (1 - decay)*online`.
///
/// Floating-point variables (parameters and running statistics alike) are averaged; others are copied. The target's
/// variables are frozen.
#[derive(Debug)]
pub struct Ema {
    target: Vec<Tensor>,
    online: Vec<Tensor>,
    copies: Vec<(Tensor, Tensor)>,
}

impl Ema {
    /// Ties the variables of `target` to those of the same names in `online`, and copies the online values over.
    ///
    /// # Errors
    /// A target variable that is missing from `online` or has another shape there.
    pub fn new(target: &mut VarStore, online: &VarStore) -> Result<Self> {
        Self::tied(target, online, false)
    }

    /// The same, but afterwards only the parameters follow; buffers (running statistics) are the target's own.
    ///
    /// # Errors
    /// As [`Ema::new`].
    pub fn of_parameters(target: &mut VarStore, online: &VarStore) -> Result<Self> {
        Self::tied(target, online, true)
    }

    fn tied(target: &mut VarStore, online: &VarStore, parameters_only: bool) -> Result<Self> {
        target.freeze();
        let source: StateDict = online.variables().into_iter().collect();
        let (mut averaged, mut followed, mut copies) = (vec![], vec![], vec![]);
        let mut names: Vec<_> = target.variables().into_iter().collect();
        names.sort_by(|a, b| a.0.cmp(&b.0));
        for (name, t) in names {
            let o = source
                .get(&name)
                .ok_or_else(|| Error::value("online network", format!("a variable {name}"), "none"))?;
            if o.size() != t.size() {
                return Err(Error::shape(format!("online network's {name}"), format!("{:?}", t.size()), o));
            }
            let follows = !parameters_only || o.requires_grad();
            let mut t = t.detach();
            let o = o.detach();
            tch::no_grad(|| t.f_copy_(&o).map(|_| ()))?;
            if !follows {
                continue;
            }
            if matches!(t.kind(), Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16) {
                averaged.push(t);
                followed.push(o);
            } else {
                copies.push((t, o));
            }
        }
        Ok(Self { target: averaged, online: followed, copies })
    }

    /// One update, in one kernel call.
    ///
    /// # Errors
    /// `decay` outside `[0, 1]`.
    pub fn update(&mut self, decay: f64) -> Result<()> {
        check_range("EMA decay", decay, 0.0..=1.0)?;
        shim::foreach_lerp(&self.target, &self.online, 1.0 - decay)?;
        for (t, o) in &mut self.copies {
            tch::no_grad(|| t.f_copy_(o).map(|_| ()))?;
        }
        Ok(())
    }
}
