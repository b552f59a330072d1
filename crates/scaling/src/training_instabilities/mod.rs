//! Small-scale proxies for large-scale Transformer training instabilities (Wortsman et al., 2023; arXiv 2309.14322).
//!
//! The instabilities of very large transformers appear in small ones at high learning rates: attention scores grow without bound, and output
//! logits diverge. A layer norm of queries and keys cures the one ([`QkNorm::PerHead`]), the z-loss the other:
//! `loss = CE + c mean (log Z)^2`, `c = 1e-4`. Here are the paper's network ([`Proxy`]), its optimizer ([`Recipe`]: AdamW with coupled or
//! independent weight decay, and the simple, intermediate and full forms of the maximal-update parametrisation) and its loss; what is
//! measured is in [`monitors`](crate::monitors).
//!
//! Weight decay: with the schedule `s in [0, 1]`, the peak rate `eta` and Adam's direction `d`,
//! - coupled (libraries' AdamW): `p <- p - s eta (d + lambda p)`;
//! - independent: `p <- p - s (eta d + lambda p)`, so that the peak does not change how fast weights decay.
//!
//! ```
//! use autodidact_scaling::training_instabilities::{Decay, Proxy, Recipe};
//! // The paper's smallest model: 2.4 million weights beside embedding and head.
//! let proxy = Proxy { width: 256, depth: 3, head_width: 64, ..Proxy::new(32_101, 512) };
//! assert_eq!(proxy.weights(), 3 * 12 * 256 * 256 + 3 * (2 * 256 + 2 * 64) + 256);
//! // Independent decay is AdamW's with lambda over the peak.
//! let recipe = Recipe { decay: Decay::Independent(1e-4), ..Recipe::default() };
//! assert_eq!(recipe.weight_decay(1e-2, 1.0), 1e-2);
//! assert_eq!(Recipe { decay: Decay::Coupled(0.1), ..recipe }.weight_decay(1e-2, 1.0), 0.1);
//! ```

mod recipe;

pub use recipe::{Decay, MuParam, Recipe};

use crate::monitors::cross_entropy_with_z;
use autodidact_core::error::check_range;
use autodidact_core::nn::{
    AttentionScores, Bias, Gpt, GptConfig, Perceptron, Position, QkNorm, Rotary, ScoreScale, TransformerNorm,
};
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::nn::Path;
use tch::{Kind, Tensor};

/// Epsilon of all layer norms.
pub const NORM_EPS: f64 = 1e-6;

/// The paper's network: a decoder with norms before its layers, rotary positions, GELU, no biases (norms have gains only) and a head of its
/// own.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Proxy {
    /// Number of tokens.
    pub vocab: i64,
    /// Longest sequence.
    pub context: i64,
    /// Model width `d`.
    pub width: i64,
    /// Blocks.
    pub depth: usize,
    /// Width of a head `d_h`, which stays when the model grows; divides the width.
    pub head_width: i64,
    /// Layer norm of queries and keys within each head.
    pub qk_norm: bool,
    /// Which parts of the maximal-update parametrisation are in the initialisation and in the scores.
    pub mu: MuParam,
    /// Width at which the parametrisation changes nothing.
    pub base_width: i64,
}

impl Proxy {
    /// Width 256 (also the base), 3 blocks, heads of 64, with the norm of queries and keys.
    pub fn new(vocab: i64, context: i64) -> Self {
        let mu = MuParam::Standard;
        Self { vocab, context, width: 256, depth: 3, head_width: 64, qk_norm: true, mu, base_width: 256 }
    }

    /// The same as a network's configuration; its scores may be changed further (pointwise attention, fixed norms).
    pub fn config(&self) -> GptConfig {
        let &Self { vocab, context, width, depth, head_width, .. } = self;
        let norm = if self.qk_norm { QkNorm::PerHead { eps: NORM_EPS } } else { QkNorm::None };
        let scale = if self.mu == MuParam::Full { ScoreScale::Inv } else { ScoreScale::InvSqrt };
        GptConfig {
            head_width: Some(head_width),
            perceptron: Perceptron::Gelu,
            norm: TransformerNorm::LayerGain,
            norm_eps: NORM_EPS,
            position: Position::Rotary(Rotary::new(10_000.0)),
            bias: Bias::NONE,
            tied: false,
            scores: AttentionScores { norm, scale, ..AttentionScores::default() },
            ..GptConfig::gpt2(vocab, context, width, depth, width / head_width.max(1))
        }
    }

    /// Weights without embedding and head, `N`.
    pub fn weights(&self) -> i64 {
        let norms = 2 * self.width + if self.qk_norm { 2 * self.head_width } else { 0 };
        self.depth as i64 * (12 * self.width * self.width + norms) + self.width
    }

    /// A network with the paper's initialisation under `p` (a network of its own root): the embedding normal with deviation `1/sqrt(d)`, all
    /// matrices truncated normal with deviation `1/sqrt(fan_in)`; from [`MuParam::Intermediate`] on the head with
    /// `sqrt(base)/fan_in`, in the full form queries at zero.
    ///
    /// # Errors
    /// Sizes that are not positive or do not divide each other.
    pub fn network(&self, p: Path) -> Result<Gpt> {
        self.network_with(p, self.config())
    }

    /// The same with a configuration that [`config`](Self::config) gave and the caller changed.
    ///
    /// # Errors
    /// As [`network`](Self::network).
    pub fn network_with(&self, p: Path, config: GptConfig) -> Result<Gpt> {
        check_range("base width", self.base_width as f64, 1.0..)?;
        if self.head_width < 1 || self.width % self.head_width != 0 {
            return Err(Error::value("head width", format!("a divisor of the width {}", self.width), self.head_width));
        }
        let model = Gpt::new(p, &config)?;
        tch::no_grad(|| {
            for (name, mut t) in model.parameters() {
                let [_, fan_in] = t.size()[..] else { continue };
                if name == "tokens.weight" {
                    let _ = t.normal_(0.0, 1.0 / (self.width as f64).sqrt());
                    continue;
                }
                let small_head = name == "head" && matches!(self.mu, MuParam::Intermediate | MuParam::Full);
                let deviation = match small_head {
                    true => (self.base_width as f64).sqrt() / fan_in as f64,
                    false => 1.0 / (fan_in as f64).sqrt(),
                };
                t.copy_(&(truncated_normal(&t) * deviation));
                if self.mu == MuParam::Full && name.ends_with("attention.qkv.weight") {
                    let _ = t.narrow(0, 0, self.width).zero_();
                }
            }
        });
        Ok(model)
    }
}

/// Normal numbers cut at two deviations, scaled so that their deviation is 1.
fn truncated_normal(like: &Tensor) -> Tensor {
    // Phi(2) - Phi(-2), and the deviation of what lies between.
    const WITHIN: f64 = 0.954_499_736_103_641_6;
    const DEVIATION: f64 = 0.879_625_661_034_239_8;
    let u = Tensor::rand(like.size(), (Kind::Double, like.device())) * (2.0 * WITHIN) - WITHIN;
    (u.erfinv() * (std::f64::consts::SQRT_2 / DEVIATION)).to_kind(like.kind())
}

/// The training loss `CE + coefficient mean (log Z)^2` and the cross-entropy in it (nats per token), of logits `[..., V]` and targets
/// `[...]`.
///
/// # Errors
/// A negative coefficient, targets of another shape.
pub fn loss(logits: &Tensor, targets: &Tensor, z_coefficient: f64) -> Result<(Tensor, Tensor)> {
    check_range("coefficient of the z-loss", z_coefficient, 0.0..)?;
    let (entropy, z) = cross_entropy_with_z(logits, targets)?;
    let loss = if z_coefficient > 0.0 { &entropy + z * z_coefficient } else { entropy.shallow_clone() };
    Ok((loss, entropy))
}
