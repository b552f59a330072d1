//! Blocks of encoder and decoder.

use super::Seq2SeqConfig;
use crate::Result;
use crate::nn::attention::{Attention, Place};
use crate::nn::layers;
use tch::Tensor;
use tch::nn::{LayerNorm, Linear, Module, Path};

/// A linear layer with Glorot's weights and biases of 0.
fn linear(p: Path, input: i64, output: i64, bias: bool) -> Linear {
    let made = layers::linear(p, input, output, bias);
    let bound = (6.0 / (input + output) as f64).sqrt();
    tch::no_grad(|| {
        let _ = made.ws.shallow_clone().uniform_(-bound, bound);
        if let Some(bias) = &made.bs {
            let _ = bias.shallow_clone().zero_();
        }
    });
    made
}

/// Weights of projections that write to the residual stream, which start smaller the more of them there are: over the root of `writes`.
fn soften(projections: &[&Linear], writes: usize) {
    let factor = (writes as f64).powf(-0.5);
    tch::no_grad(|| projections.iter().for_each(|l| drop(l.ws.shallow_clone().g_mul_scalar_(factor))));
}

/// `down(relu(up(x)))`.
#[derive(Debug)]
struct Perceptron {
    up: Linear,
    down: Linear,
}

impl Perceptron {
    fn new(p: &Path, c: &Seq2SeqConfig) -> Self {
        Self { up: linear(p / "up", c.width, c.hidden, true), down: linear(p / "down", c.hidden, c.width, true) }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        self.down.forward(&self.up.forward(x).relu_())
    }
}

#[derive(Debug)]
pub(super) struct EncoderBlock {
    norm1: LayerNorm,
    attention: Attention,
    norm2: LayerNorm,
    perceptron: Perceptron,
}

impl EncoderBlock {
    pub fn new(p: &Path, c: &Seq2SeqConfig) -> Result<Self> {
        let block = Self {
            norm1: layers::layer_norm(p / "norm1", c.width),
            attention: Attention::with(p / "attention", &c.attention(false), linear)?,
            norm2: layers::layer_norm(p / "norm2", c.width),
            perceptron: Perceptron::new(p, c),
        };
        soften(&[block.attention.linears()[1], &block.perceptron.down], 2 * c.encoder_layers);
        Ok(block)
    }

    /// `x [B, S, width]` with `mask [B, 1, 1, S]` of what may be seen.
    pub fn forward(&self, x: &Tensor, mask: Option<&Tensor>, drop: impl Fn(Tensor) -> Tensor) -> Tensor {
        let place = Place { mask: mask.map(Tensor::shallow_clone), ..Place::default() };
        let x = x + drop(self.attention.forward(&self.norm1.forward(x), &place, None));
        let y = drop(self.perceptron.forward(&self.norm2.forward(&x)));
        x + y
    }
}

/// Keys and values `[B, heads, S, head]` that a decoder block makes of the encoder's states.
#[derive(Debug)]
pub(super) struct Memory {
    pub keys: Tensor,
    pub values: Tensor,
}

impl Memory {
    /// The rows of these indices.
    pub fn select(&self, rows: &Tensor) -> Self {
        Self { keys: self.keys.index_select(0, rows), values: self.values.index_select(0, rows) }
    }
}

#[derive(Debug)]
pub(super) struct DecoderBlock {
    heads: i64,
    norm1: LayerNorm,
    attention: Attention,
    norm2: LayerNorm,
    query: Linear,
    /// Keys and values of the encoder's states.
    memory: Linear,
    out: Linear,
    norm3: LayerNorm,
    perceptron: Perceptron,
}

impl DecoderBlock {
    pub fn new(p: &Path, c: &Seq2SeqConfig) -> Result<Self> {
        let cross = p / "cross";
        let block = Self {
            heads: c.heads,
            norm1: layers::layer_norm(p / "norm1", c.width),
            attention: Attention::with(p / "attention", &c.attention(true), linear)?,
            norm2: layers::layer_norm(p / "norm2", c.width),
            query: linear(&cross / "query", c.width, c.width, true),
            memory: linear(&cross / "memory", c.width, 2 * c.width, true),
            out: linear(&cross / "out", c.width, c.width, true),
            norm3: layers::layer_norm(p / "norm3", c.width),
            perceptron: Perceptron::new(p, c),
        };
        let writers = [block.attention.linears()[1], &block.out, &block.perceptron.down];
        soften(&writers, 3 * c.decoder_layers);
        Ok(block)
    }

    /// What the block attends to of the encoder's states `[B, S, width]`.
    pub fn memory(&self, states: &Tensor) -> Memory {
        let (b, s, width) = states.size3().expect("[B, S, width]");
        let both = self.memory.forward(states).view([b, s, 2 * self.heads, width / self.heads]).transpose(1, 2);
        Memory { keys: both.narrow(1, 0, self.heads), values: both.narrow(1, self.heads, self.heads) }
    }

    /// `x [B, T, width]`, `past` places behind those of the cache.
    pub fn forward(
        &self,
        x: &Tensor,
        memory: &Memory,
        mask: Option<&Tensor>,
        past: i64,
        cache: Option<&mut (Tensor, Tensor)>,
        drop: impl Fn(Tensor) -> Tensor,
    ) -> Tensor {
        let place = Place { past, ..Place::default() };
        let x = x + drop(self.attention.forward(&self.norm1.forward(x), &place, cache));
        let (b, t, width) = x.size3().expect("[B, T, width]");
        let query = self.query.forward(&self.norm2.forward(&x));
        let query = query.view([b, t, self.heads, width / self.heads]).transpose(1, 2);
        let Memory { keys, values } = memory;
        let seen = Tensor::scaled_dot_product_attention(&query, keys, values, mask, 0.0, false, None, false);
        let seen = seen.transpose(1, 2).reshape([b, t, width]);
        let x = x + drop(self.out.forward(&seen));
        let y = drop(self.perceptron.forward(&self.norm3.forward(&x)));
        x + y
    }
}
