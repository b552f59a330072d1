//! The head that predicts which filters will fire.

use autodidact_core::nn::layers;
use autodidact_core::{Error, Result};
use tch::nn::{Linear, Module, Path};
use tch::{Kind, Tensor};

/// How a head reads a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// Largest value of each channel, as the paper's figure has it.
    Max,
    /// Mean of each channel, as the official code has it.
    Mean,
}

/// What happens to the pooled channels before the head's linear layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadInput {
    /// Softmax over the channels, the paper's. Its values are around one over their number, which takes long to learn from.
    Softmax,
    /// Standardised by running means and variances (momentum 0.1, as batch norm's without gain and shift).
    Standardised,
    /// Nothing.
    Plain,
}

/// A head: pooling, normalisation and a linear layer, `[B, C_in, H, W] -> [B, C_out]`. A filter is computed where its logit is above 0.
#[derive(Debug)]
pub struct MaskHead {
    pooling: Pooling,
    input: HeadInput,
    pub(super) linear: Linear,
    pub(super) mean: Tensor,
    pub(super) variance: Tensor,
}

/// Added to variances, as batch norm does.
pub(super) const EPSILON: f64 = 1e-5;
const MOMENTUM: f64 = 0.1;

impl MaskHead {
    /// A head with fresh weights under `p`.
    ///
    /// # Errors
    /// Widths that are not positive.
    pub fn new(p: &Path, channels: i64, filters: i64, pooling: Pooling, input: HeadInput) -> Result<Self> {
        if channels < 1 || filters < 1 {
            return Err(Error::value("channels and filters of a head", "at least 1", channels.min(filters)));
        }
        let linear = layers::linear(p / "linear", channels, filters, true);
        let (mean, variance) = (p.zeros_no_train("mean", &[channels]), p.ones_no_train("variance", &[channels]));
        Ok(Self { pooling, input, linear, mean, variance })
    }

    /// Pooled channels, `[B, C_in]`.
    pub fn pool(&self, x: &Tensor) -> Tensor {
        match self.pooling {
            Pooling::Max => x.amax([2i64, 3].as_slice(), false),
            Pooling::Mean => x.mean_dim([2i64, 3].as_slice(), false, x.kind()),
        }
    }

    /// How it normalises.
    pub fn input(&self) -> HeadInput {
        self.input
    }

    /// Logits `[B, C_out]` of a map `[B, C_in, H, W]`; in training the running statistics follow.
    pub fn logits(&self, x: &Tensor, train: bool) -> Tensor {
        let e = self.pool(x);
        let e = match self.input {
            HeadInput::Plain => e,
            HeadInput::Softmax => e.softmax(1, e.kind()),
            HeadInput::Standardised => Tensor::batch_norm(
                &e,
                None::<&Tensor>,
                None::<&Tensor>,
                Some(&self.mean),
                Some(&self.variance),
                train,
                MOMENTUM,
                EPSILON,
                false,
            ),
        };
        self.linear.forward(&e)
    }

    /// The mask of 0 and 1 that logits mean, without a gradient.
    pub fn mask(logits: &Tensor) -> Tensor {
        logits.detach().gt(0.0).to_kind(Kind::Float)
    }

    /// Sets the head to say yes to every filter.
    pub fn open(&self) {
        tch::no_grad(|| {
            let _ = self.linear.ws.shallow_clone().zero_();
            if let Some(b) = &self.linear.bs {
                let _ = b.shallow_clone().fill_(1.0);
            }
        });
    }
}
