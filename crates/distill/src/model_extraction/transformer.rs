//! SASRec and BERT4Rec.

use super::recommender::{Recommender, RecommenderConfig};
use autodidact_core::Result;
use autodidact_core::nn::layers;
use tch::nn::{Init, LayerNorm, Linear, Module, Path};
use tch::{Kind, Reduction, Tensor};

/// Share of the items that BERT4Rec's training hides.
const HIDDEN: f64 = 0.2;

#[derive(Debug)]
struct Block {
    norm1: LayerNorm,
    qkv: Linear,
    out: Linear,
    norm2: LayerNorm,
    up: Linear,
    down: Linear,
}

/// Pre-norm transformer blocks on embedded items with learned positions; scores by the items' embeddings.
#[derive(Debug)]
struct Encoder {
    config: RecommenderConfig,
    /// Padding, the items, and the mask.
    tokens: Tensor,
    positions: Tensor,
    blocks: Vec<Block>,
    norm: LayerNorm,
    bias: Tensor,
}

impl Encoder {
    fn new(p: &Path, config: &RecommenderConfig) -> Result<Self> {
        config.check()?;
        let (d, init) = (config.width, Init::Randn { mean: 0.0, stdev: 0.02 });
        let tokens = p.var("tokens", &[config.items + 2, d], init);
        let positions = p.var("positions", &[config.context + 1, d], init);
        let block = |i: usize| {
            let p = p / "blocks" / i;
            Block {
                norm1: layers::layer_norm(&p / "norm1", d),
                qkv: layers::linear(&p / "qkv", d, 3 * d, true),
                out: layers::linear(&p / "out", d, d, true),
                norm2: layers::layer_norm(&p / "norm2", d),
                up: layers::linear(&p / "up", d, 4 * d, true),
                down: layers::linear(&p / "down", 4 * d, d, true),
            }
        };
        let blocks: Vec<Block> = (0..config.blocks).map(block).collect();
        tch::no_grad(|| {
            for linear in blocks.iter().flat_map(|b| [&b.qkv, &b.out, &b.up, &b.down]) {
                let _ = linear.ws.shallow_clone().normal_(0.0, 0.02);
                let _ = linear.bs.as_ref().map(|b| b.shallow_clone().zero_());
            }
        });
        let norm = layers::layer_norm(p / "norm", d);
        let bias = p.var("bias", &[config.items], Init::Const(0.0));
        Ok(Self { config: *config, tokens, positions, blocks, norm, bias })
    }

    /// States `[B, T, D]`. With `visible [B, T]` all positions see the visible ones; without, each sees itself and earlier ones.
    fn forward(&self, tokens: &Tensor, visible: Option<&Tensor>, train: bool) -> Tensor {
        let c = &self.config;
        let [b, t] = tokens.size()[..] else { unreachable!("sequences are checked at the door") };
        let drop = |x: Tensor| if train && c.dropout > 0.0 { x.dropout(c.dropout, true) } else { x };
        let mut x = drop(Tensor::embedding(&self.tokens, tokens, -1, false, false) + self.positions.narrow(0, 0, t));
        let mask = visible.map(|v| v.view([b, 1, 1, t]));
        let dropout = if train { c.attention_dropout } else { 0.0 };
        for block in &self.blocks {
            let qkv = block.qkv.forward(&block.norm1.forward(&x));
            let split = qkv.view([b, t, 3, c.heads, c.width / c.heads]).permute([2, 0, 3, 1, 4]);
            let [q, k, v] = [0, 1, 2].map(|i| split.get(i));
            let causal = mask.is_none();
            let y = Tensor::scaled_dot_product_attention(&q, &k, &v, mask.as_ref(), dropout, causal, None, false);
            x = &x + drop(block.out.forward(&y.transpose(1, 2).reshape([b, t, c.width])));
            x = &x + drop(block.down.forward(&block.up.forward(&block.norm2.forward(&x)).gelu("none")));
        }
        self.norm.forward(&x)
    }

    fn project(&self, states: &Tensor) -> Tensor {
        states.matmul(&self.tokens.narrow(0, 1, self.config.items).tr()) + &self.bias
    }
}

/// SASRec: causal self-attention, one pass scores every prefix.
#[derive(Debug)]
pub struct SasRec(Encoder);

impl SasRec {
    /// Fresh weights under `p`.
    ///
    /// # Errors
    /// As [`RecommenderConfig::check`].
    pub fn new(p: &Path, config: &RecommenderConfig) -> Result<Self> {
        Ok(Self(Encoder::new(p, config)?))
    }
}

impl Recommender for SasRec {
    fn items(&self) -> i64 {
        self.0.config.items
    }

    fn context(&self) -> i64 {
        self.0.config.context
    }

    fn states(&self, sequences: &Tensor, train: bool) -> Tensor {
        self.0.forward(sequences, None, train)
    }

    fn project(&self, states: &Tensor) -> Tensor {
        self.0.project(states)
    }
}

/// BERT4Rec: bidirectional self-attention, trained to fill in hidden items; a mask put behind a prefix stands for the next item, so every
/// prefix takes a pass of its own.
#[derive(Debug)]
pub struct Bert4Rec(Encoder);

impl Bert4Rec {
    /// Fresh weights under `p`.
    ///
    /// # Errors
    /// As [`RecommenderConfig::check`].
    pub fn new(p: &Path, config: &RecommenderConfig) -> Result<Self> {
        Ok(Self(Encoder::new(p, config)?))
    }

    fn mask(&self) -> i64 {
        self.0.config.items + 1
    }
}

impl Recommender for Bert4Rec {
    fn items(&self) -> i64 {
        self.0.config.items
    }

    fn context(&self) -> i64 {
        self.0.config.context
    }

    fn states(&self, sequences: &Tensor, train: bool) -> Tensor {
        let [b, t] = sequences.size()[..] else { unreachable!("sequences are checked at the door") };
        let rows = sequences.repeat_interleave_self_int(t, 0, b * t);
        let lengths = Tensor::arange(t, (Kind::Int64, sequences.device())).repeat([b]) + 1;
        self.last_states(&rows, &lengths, train).view([b, t, -1])
    }

    fn last_states(&self, sequences: &Tensor, lengths: &Tensor, train: bool) -> Tensor {
        let [b, t] = sequences.size()[..] else { unreachable!("sequences are checked at the door") };
        let column = Tensor::arange(t + 1, (Kind::Int64, sequences.device())).unsqueeze(0);
        let end = lengths.unsqueeze(1);
        let tokens = Tensor::cat(&[sequences, &sequences.new_zeros([b, 1], (Kind::Int64, sequences.device()))], 1);
        let tokens = tokens.masked_fill(&column.eq_tensor(&end), self.mask());
        let states = self.0.forward(&tokens, Some(&column.le_tensor(&end)), train);
        states.gather(1, &end.unsqueeze(2).expand([-1, 1, states.size()[2]], false), false).squeeze_dim(1)
    }

    fn project(&self, states: &Tensor) -> Tensor {
        self.0.project(states)
    }

    fn loss(&self, sequences: &Tensor) -> Tensor {
        let there = sequences.gt(0);
        let drawn = Tensor::rand(sequences.size(), (Kind::Float, sequences.device()));
        // The last item is always hidden, as it is when the model is used; so no batch is without a target.
        let last = there.to_kind(Kind::Int64).sum_dim_intlist([1i64].as_slice(), true, Kind::Int64) - 1;
        let hidden = drawn.lt(HIDDEN).scatter_value(1, &last, 1).logical_and(&there);
        let states = self.0.forward(&sequences.masked_fill(&hidden, self.mask()), Some(&there), true);
        let targets = (sequences - 1).masked_fill(&hidden.logical_not(), -1).view([-1]);
        let scores = self.0.project(&states).view([-1, self.items()]);
        scores.cross_entropy_loss::<Tensor>(&targets, None, Reduction::Mean, -1, 0.0)
    }
}
