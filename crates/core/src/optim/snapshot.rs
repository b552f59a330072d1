//! Values of tensors, kept to be put back.

use tch::{Tensor, nn::VarStore};

/// Copies of tensors that other parts hold on to: weights, an optimizer's state, running statistics.
///
/// What is taken are values, and they are put back in place, so that optimizers and networks that share the tensors see them.
///
/// ```
/// use autodidact_core::optim::Snapshot;
/// use tch::{Device, nn};
/// let vs = nn::VarStore::new(Device::Cpu);
/// let mut w = vs.root().var("w", &[1], nn::Init::Const(1.0));
/// let before = Snapshot::of_parameters(&vs);
/// let _ = tch::no_grad(|| w.fill_(5.0));
/// before.restore();
/// assert_eq!(w.double_value(&[0]), 1.0);
/// ```
#[derive(Debug)]
pub struct Snapshot {
    live: Vec<Tensor>,
    saved: Vec<Tensor>,
}

impl Snapshot {
    /// The values that tensors have now.
    pub fn of(tensors: impl IntoIterator<Item = Tensor>) -> Self {
        let live: Vec<Tensor> = tensors.into_iter().map(|t| t.detach()).collect();
        let saved = live.iter().map(Tensor::copy).collect();
        Self { live, saved }
    }

    /// Those of the trainable variables of a store.
    pub fn of_parameters(vs: &VarStore) -> Self {
        Self::of(vs.trainable_variables())
    }

    /// Those of the other variables of a store: running statistics, say.
    pub fn of_buffers(vs: &VarStore) -> Self {
        Self::of(vs.variables().into_values().filter(|t| !t.requires_grad()))
    }

    /// Takes the values anew, without new memory.
    pub fn take(&mut self) {
        copy(&self.live, &mut self.saved);
    }

    /// Puts the values back.
    pub fn restore(&self) {
        let mut live: Vec<Tensor> = self.live.iter().map(Tensor::shallow_clone).collect();
        copy(&self.saved, &mut live);
    }

    /// The tensors whose values it keeps (not the values).
    pub fn live(&self) -> &[Tensor] {
        &self.live
    }
}

fn copy(from: &[Tensor], to: &mut [Tensor]) {
    tch::no_grad(|| to.iter_mut().zip(from).for_each(|(to, from)| to.copy_(from)));
}
