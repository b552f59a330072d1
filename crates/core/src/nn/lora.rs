//! Low-rank adapters (LoRA; Hu et al., 2021, arXiv 2106.09685): a frozen linear layer `W` becomes `W + (alpha / r) B A` with `A [r, in]` and
//! `B [out, r]`, of which only `A` and `B` are trained. `B` starts at zero, so that the adapted network starts as the one it adapts.

use super::layers;
use crate::error::check_range;
use crate::{Error, Result};
use tch::Tensor;
use tch::nn::{Init, Linear, Module, Path};

/// A linear layer of a block that can be adapted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoraTarget {
    /// Queries, keys and values: one adapter for the three.
    Qkv,
    /// Output of the attention.
    Out,
    /// Gate of a SwiGLU perceptron.
    Gate,
    /// Into the perceptron.
    Up,
    /// Out of the perceptron.
    Down,
}

/// How a network is adapted.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraConfig {
    /// r: rank of the update.
    pub rank: i64,
    /// alpha: the update is scaled by `alpha / r`.
    pub alpha: f64,
    /// Share of the adapters' inputs that is zeroed in training, in `0..1`.
    pub dropout: f64,
    /// The layers to adapt, in every block.
    pub targets: Vec<LoraTarget>,
}

impl Default for LoraConfig {
    /// The attention's projections at rank 8 with `alpha = 16`, without dropout.
    fn default() -> Self {
        Self { rank: 8, alpha: 16.0, dropout: 0.0, targets: vec![LoraTarget::Qkv, LoraTarget::Out] }
    }
}

impl LoraConfig {
    pub(super) fn check(&self) -> Result<()> {
        if self.rank < 1 {
            return Err(Error::value("LoRA rank", "at least 1", self.rank));
        }
        if self.targets.is_empty() {
            return Err(Error::value("LoRA targets", "one or more layers", "none"));
        }
        check_range("LoRA alpha", self.alpha, f64::MIN_POSITIVE..)?;
        check_range("LoRA dropout", self.dropout, 0.0..1.0)
    }
}

#[derive(Debug)]
struct Adapter {
    a: Tensor,
    b: Tensor,
    scale: f64,
    dropout: f64,
    training: bool,
}

/// A linear layer, with an adapter or without.
#[derive(Debug)]
pub(super) struct Projection {
    pub linear: Linear,
    adapter: Option<Adapter>,
    /// Whether the adapter takes part.
    on: bool,
}

impl Projection {
    pub fn new(linear: Linear) -> Self {
        Self { linear, adapter: None, on: true }
    }

    /// Adds an adapter whose parameters `a` and `b` are made under `p`.
    pub fn adapt(&mut self, p: &Path, config: &LoraConfig) {
        let size = self.linear.ws.size();
        let a = p.var("a", &[config.rank, size[1]], layers::uniform(size[1]));
        let b = p.var("b", &[size[0], config.rank], Init::Const(0.0));
        let scale = config.alpha / config.rank as f64;
        self.adapter = Some(Adapter { a, b, scale, dropout: config.dropout, training: false });
        self.on = true;
    }

    pub fn is_adapted(&self) -> bool {
        self.adapter.is_some()
    }

    pub fn switch(&mut self, on: bool) {
        self.on = on;
    }

    pub fn set_training(&mut self, training: bool) {
        if let Some(a) = &mut self.adapter {
            a.training = training;
        }
    }

    /// Adds the update to the weights and drops the adapter.
    pub fn merge(&mut self) {
        if let Some(Adapter { a, b, scale, .. }) = self.adapter.take() {
            let weights = &self.linear.ws;
            let update = (b.matmul(&a) * scale).to_kind(weights.kind());
            tch::no_grad(|| drop(weights.shallow_clone().g_add_(&update)));
        }
    }

    pub fn remove(&mut self) {
        self.adapter = None;
    }
}

impl Module for Projection {
    fn forward(&self, x: &Tensor) -> Tensor {
        let y = self.linear.forward(x);
        let Some(Adapter { a, b, scale, dropout, training }) = self.adapter.as_ref().filter(|_| self.on) else {
            return y;
        };
        // Adapters may be of a wider type than the frozen weights.
        let mut x = x.to_kind(a.kind());
        if *training && *dropout > 0.0 {
            x = x.dropout(*dropout, true);
        }
        let update = x.matmul(&a.tr()).matmul(&b.tr()) * *scale;
        &y + update.to_kind(y.kind())
    }
}
