//! Optimizers whose whole state can be saved: SGD, Adam, AdamW and LARS over parameter groups.
//!
//! `tch::nn::Optimizer` keeps Adam's moments to itself, so a resumed run is another run. Here the state is a plain
//! dictionary of tensors ([`Optimizer::state_dict`]), and a step is a handful of ATen's fused or foreach kernels, however
//! many parameters there are.
//!
//! ```
//! use autodidact_core::optim::{Adam, Group, Optimizer, Rule};
//! use tch::{Device, nn};
//!
//! # fn main() -> autodidact_core::Result<()> {
//! let vs = nn::VarStore::new(Device::Cpu);
//! let w = vs.root().var("w", &[1], nn::Init::Const(1.0));
//! let mut opt = Optimizer::new(Rule::AdamW(Adam::default()), vec![Group::all(&vs, 0.0)])?;
//! w.square().sum(tch::Kind::Float).backward();
//! opt.step(0.1)?; // Adam's first step moves every coordinate by the learning rate
//! assert!((w.double_value(&[0]) - 0.9).abs() < 1e-6);
//! # Ok(())
//! # }
//! ```

mod ema;
mod groups;
mod sam;
mod snapshot;

pub use ema::Ema;
pub use groups::{Group, sorted_trainables};
pub use sam::Sam;
pub use snapshot::Snapshot;

use crate::error::check_range;
use crate::shim::{self, AdamStep, LarsStep, SgdStep};
use crate::{Error, Result};
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// Tensors by name: what a checkpoint holds of an optimizer or a network.
pub type StateDict = BTreeMap<String, Tensor>;

/// Stochastic gradient descent with (Nesterov) momentum, as PyTorch defines it (no dampening):
/// `b <- momentum*b + g`, `p <- p - lr*b` (Nesterov: `p - lr*(g + momentum*b)`), with `g = grad + weight_decay*p`.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Sgd {
    /// Momentum in `[0, 1)`.
    pub momentum: f64,
    /// Nesterov's variant; needs momentum above 0.
    pub nesterov: bool,
}

impl Default for Sgd {
    fn default() -> Self {
        Self { momentum: 0.9, nesterov: false }
    }
}

/// Adam's constants (Kingma and Ba, 2015), for the coupled and the decoupled (Loshchilov and Hutter, 2019) weight decay.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Adam {
    /// Decay rates of the first and second moment, each in `[0, 1)`.
    pub betas: (f64, f64),
    /// Added to the root of the second moment.
    pub eps: f64,
}

impl Default for Adam {
    fn default() -> Self {
        Self { betas: (0.9, 0.999), eps: 1e-8 }
    }
}

/// LARS (You et al., 2017) in the form of the Barlow Twins and SwAV code: `d = g + weight_decay*p`, scaled by
/// `eta*|p|/|d|` in the groups that [`Group::adapt`] marks (1 where a norm is 0); `b <- momentum*b + d`; `p <- p - lr*b`.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Lars {
    /// Momentum in `[0, 1)`.
    pub momentum: f64,
    /// Trust coefficient.
    pub eta: f64,
}

impl Default for Lars {
    fn default() -> Self {
        Self { momentum: 0.9, eta: 0.001 }
    }
}

/// The update rule of an [`Optimizer`].
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Rule {
    /// Gradient descent with momentum.
    Sgd(Sgd),
    /// Adam; weight decay is added to the gradient.
    Adam(Adam),
    /// Adam with decoupled weight decay: `p <- p*(1 - lr*weight_decay)` before the step.
    AdamW(Adam),
    /// Layer-wise adaptive rates.
    Lars(Lars),
}

impl Rule {
    fn check(&self) -> Result<()> {
        match *self {
            Rule::Sgd(Sgd { momentum, nesterov }) => {
                check_range("momentum", momentum, 0.0..1.0)?;
                if nesterov && momentum == 0.0 {
                    return Err(Error::value("momentum", "above 0 with nesterov", momentum));
                }
                Ok(())
            }
            Rule::Adam(a) | Rule::AdamW(a) => {
                check_range("beta1", a.betas.0, 0.0..1.0)?;
                check_range("beta2", a.betas.1, 0.0..1.0)?;
                check_range("eps", a.eps, 0.0..)
            }
            Rule::Lars(Lars { momentum, eta }) => {
                check_range("momentum", momentum, 0.0..1.0)?;
                check_range("eta", eta, 0.0..)
            }
        }
    }

    fn slots(&self) -> &'static [&'static str] {
        match self {
            Rule::Sgd(Sgd { momentum: 0.0, .. }) => &[],
            Rule::Sgd(_) | Rule::Lars(_) => &["momentum"],
            Rule::Adam(_) | Rule::AdamW(_) => &["exp_avg", "exp_avg_sq", "step"],
        }
    }
}

/// An update rule over parameter groups, with its state.
#[derive(Debug)]
pub struct Optimizer {
    rule: Rule,
    groups: Vec<Group>,
    /// `state[group][slot][parameter]`.
    state: Vec<Vec<Vec<Tensor>>>,
}

impl Optimizer {
    /// An optimizer over `groups` ([`Group::all`], [`Group::split_decay`] or any other partition).
    ///
    /// # Errors
    /// Constants outside their ranges, no parameters, or two of the same name.
    pub fn new(rule: Rule, groups: Vec<Group>) -> Result<Self> {
        rule.check()?;
        let mut names = std::collections::BTreeSet::new();
        for g in &groups {
            check_range("lr_scale", g.lr_scale, 0.0..)?;
            check_range("weight_decay", g.weight_decay, 0.0..)?;
            if let Some(twice) = g.names.iter().find(|n| !names.insert(n.as_str())) {
                return Err(Error::value("parameter groups", "each parameter once", format!("{twice} twice")));
            }
        }
        if names.is_empty() {
            return Err(Error::value("parameter groups", "at least one trainable parameter", "none"));
        }
        let slot = |g: &Group, slot: &str| -> Vec<Tensor> {
            let scalar = slot == "step";
            let zeros = |p: &Tensor| {
                if scalar { Tensor::zeros([], (Kind::Float, p.device())) } else { p.detach().zeros_like() }
            };
            g.params.iter().map(zeros).collect()
        };
        let state = groups.iter().map(|g| rule.slots().iter().map(|s| slot(g, s)).collect()).collect();
        Ok(Self { rule, groups, state })
    }

    /// Updates every parameter that has a gradient, with learning rate `lr` times each group's scale.
    ///
    /// # Errors
    /// A learning rate that is negative or not finite.
    pub fn step(&mut self, lr: f64) -> Result<()> {
        check_range("learning rate", lr, 0.0..)?;
        for (g, state) in self.groups.iter().zip(&self.state) {
            let grads: Vec<Tensor> = g.params.iter().map(Tensor::grad).collect();
            let with_grad: Vec<usize> = (0..grads.len()).filter(|&i| grads[i].defined()).collect();
            if with_grad.is_empty() {
                continue;
            }
            let pick =
                |list: &[Tensor]| -> Vec<Tensor> { with_grad.iter().map(|&i| list[i].shallow_clone()).collect() };
            let (params, grads) = (pick(&g.params), pick(&grads));
            let slots: Vec<Vec<Tensor>> = state.iter().map(|s| pick(s)).collect();
            let (lr, weight_decay) = (lr * g.lr_scale, g.weight_decay);
            match self.rule {
                Rule::Sgd(Sgd { momentum, nesterov }) => {
                    let o = SgdStep { lr, momentum, dampening: 0.0, weight_decay, nesterov, first_step: false };
                    shim::fused_sgd(&params, &grads, slots.first().map(Vec::as_slice), &o)?;
                }
                Rule::Adam(a) | Rule::AdamW(a) => {
                    let decoupled = matches!(self.rule, Rule::AdamW(_));
                    let o = AdamStep { lr, betas: a.betas, eps: a.eps, weight_decay, decoupled };
                    shim::fused_adam(&params, &grads, &slots[0], &slots[1], &slots[2], &o)?;
                }
                Rule::Lars(Lars { momentum, eta }) => {
                    let o = LarsStep { lr, momentum, weight_decay, eta, adapt: g.adapt };
                    shim::lars(&params, &grads, &slots[0], &o)?;
                }
            }
        }
        Ok(())
    }

    /// Sets every gradient to zero, in place.
    pub fn zero_grad(&mut self) {
        for p in self.groups.iter_mut().flat_map(|g| &mut g.params) {
            p.zero_grad();
        }
    }

    /// Scales all gradients so that their joint Euclidean norm is at most `max_norm` (as `torch.nn.utils.clip_grad_norm_`);
    /// returns the norm before, a scalar tensor on the gradients' device (no host round trip).
    ///
    /// # Errors
    /// `max_norm` not above 0, or no gradients yet.
    pub fn clip_grad_norm(&self, max_norm: f64) -> Result<Tensor> {
        check_range("max_norm", max_norm, f64::MIN_POSITIVE..)?;
        let grads: Vec<Tensor> =
            self.groups.iter().flat_map(|g| &g.params).map(Tensor::grad).filter(Tensor::defined).collect();
        if grads.is_empty() {
            return Err(Error::value("gradients", "a backward pass before clipping", "none"));
        }
        shim::clip_grad_norm(&grads, max_norm)
    }

    /// The rule and what the groups set, for the check that a checkpoint belongs to the same run.
    pub(crate) fn constants(&self) -> serde_json::Value {
        let group = |g: &Group| serde_json::json!([g.names.len(), g.lr_scale, g.weight_decay, g.adapt]);
        serde_json::json!({ "rule": self.rule, "groups": self.groups.iter().map(group).collect::<Vec<_>>() })
    }

    /// The parameter groups.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The whole state, as `<parameter>.<slot>`; the tensors are shared, not copied.
    pub fn state_dict(&self) -> StateDict {
        self.entries().map(|(name, t)| (name, t.shallow_clone())).collect()
    }

    /// Restores what [`state_dict`](Self::state_dict) gave.
    ///
    /// # Errors
    /// A missing, surplus or wrongly shaped entry; nothing is changed then.
    pub fn load_state_dict(&mut self, from: &StateDict) -> Result<()> {
        let mut count = 0;
        for (name, to) in self.entries() {
            count += 1;
            match from.get(&name) {
                None => return Err(Error::value("optimizer state", name, "no such entry")),
                Some(t) if t.size() != to.size() => {
                    return Err(Error::shape(format!("optimizer state {name}"), format!("{:?}", to.size()), t));
                }
                Some(_) => {}
            }
        }
        if count != from.len() {
            return Err(Error::value("optimizer state", format!("{count} entries"), from.len()));
        }
        for (name, to) in self.entries() {
            to.shallow_clone().f_copy_(&from[&name])?;
        }
        Ok(())
    }

    fn entries(&self) -> impl Iterator<Item = (String, &Tensor)> {
        self.groups.iter().zip(&self.state).flat_map(|(g, state)| {
            state.iter().zip(self.rule.slots()).flat_map(|(tensors, slot)| {
                tensors.iter().zip(&g.names).map(move |(t, name)| (format!("{name}.{slot}"), t))
            })
        })
    }
}
