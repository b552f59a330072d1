//! Parameter groups.

use tch::{Tensor, nn::VarStore};

/// Parameters that share a learning-rate scale, a weight decay and (for LARS) the adaptation.
#[derive(Debug)]
pub struct Group {
    /// Names of the parameters, as in the variable store.
    pub names: Vec<String>,
    /// The parameters, in the order of `names`.
    pub params: Vec<Tensor>,
    /// Multiplies the learning rate of a step.
    pub lr_scale: f64,
    /// Weight decay (coupled or decoupled, as the rule says).
    pub weight_decay: f64,
    /// Whether LARS adapts the rate of these parameters.
    pub adapt: bool,
}

impl Group {
    /// All trainable variables of a store in one group.
    pub fn all(vs: &VarStore, weight_decay: f64) -> Self {
        Self::of(sorted_trainables(vs), weight_decay)
    }

    /// The given parameters, with learning-rate scale 1 and LARS adaptation on.
    pub fn of(params: Vec<(String, Tensor)>, weight_decay: f64) -> Self {
        let (names, params) = params.into_iter().unzip();
        Self { names, params, lr_scale: 1.0, weight_decay, adapt: true }
    }

    /// The trainable variables in two groups: matrices and filters with `weight_decay`; vectors and scalars (biases,
    /// normalisation gains) without decay and without LARS adaptation.
    pub fn split_decay(vs: &VarStore, weight_decay: f64) -> Vec<Self> {
        let (decay, plain): (Vec<_>, Vec<_>) = sorted_trainables(vs).into_iter().partition(|(_, p)| p.dim() > 1);
        [(decay, weight_decay, true), (plain, 0.0, false)]
            .into_iter()
            .filter(|(params, ..)| !params.is_empty())
            .map(|(params, weight_decay, adapt)| Self { adapt, ..Self::of(params, weight_decay) })
            .collect()
    }

    /// The same group with another learning-rate scale.
    pub fn scaled(mut self, lr_scale: f64) -> Self {
        self.lr_scale = lr_scale;
        self
    }
}

/// The trainable variables of a store by name, in the order of the names (a store itself keeps them in a hash map).
pub fn sorted_trainables(vs: &VarStore) -> Vec<(String, Tensor)> {
    let mut all: Vec<_> = vs.variables().into_iter().filter(|(_, t)| t.requires_grad()).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}
