//! Sequential recommenders: what they have in common, and how they are trained.

use super::gru::GruRecommender;
use super::transformer::{Bert4Rec, SasRec};
use autodidact_core::error::check_range;
use autodidact_core::optim::{Adam, Group, Optimizer, Rule, Snapshot};
use autodidact_core::schedule::{Schedule, Shape};
use autodidact_core::train::{TrainConfig, Trainer};
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::nn::{Path, VarStore};
use tch::{Kind, Reduction, Tensor};

/// A model that scores the next item of a sequence.
///
/// Sequences are `Int64 [B, T]`: items numbered from 1, padded on the right with 0. Scores have a column per item, column `i` for item `i + 1`.
/// With padding on the right, causal models need no mask, and all architectures read the same tensors.
pub trait Recommender: std::fmt::Debug {
    /// Number of items.
    fn items(&self) -> i64;

    /// Longest sequence.
    fn context(&self) -> i64;

    /// States `[B, T, D]` after each prefix; those of prefixes that end in padding mean nothing.
    fn states(&self, sequences: &Tensor, train: bool) -> Tensor;

    /// States `[B, D]` after the first `lengths [B]` items.
    fn last_states(&self, sequences: &Tensor, lengths: &Tensor, train: bool) -> Tensor {
        let states = self.states(sequences, train);
        let at = (lengths - 1).view([-1, 1, 1]).expand([-1, 1, states.size()[2]], false);
        states.gather(1, &at, false).squeeze_dim(1)
    }

    /// Scores `[..., items]` of states `[..., D]`.
    fn project(&self, states: &Tensor) -> Tensor;

    /// Training loss of sequences, a scalar: by default the mean cross entropy of every next item.
    fn loss(&self, sequences: &Tensor) -> Tensor {
        next_item_loss(self, sequences, true)
    }

    /// Scores `[B, T, items]` of what follows each prefix.
    ///
    /// # Errors
    /// Sequences of another rank or type, too long, or with items that the model does not know.
    fn prefix_scores(&self, sequences: &Tensor, train: bool) -> Result<Tensor> {
        check_sequences(sequences, self.items(), self.context())?;
        Ok(self.project(&self.states(sequences, train)))
    }

    /// Scores `[B, items]` of what follows the first `lengths [B]` items.
    ///
    /// # Errors
    /// As [`prefix_scores`](Self::prefix_scores); lengths of another shape, or outside `1..=T`.
    fn scores(&self, sequences: &Tensor, lengths: &Tensor, train: bool) -> Result<Tensor> {
        let (b, t) = check_sequences(sequences, self.items(), self.context())?;
        if lengths.size() != [b] || lengths.kind() != Kind::Int64 {
            return Err(Error::shape("lengths", format!("Int64 [{b}]"), lengths));
        }
        let (low, high) = (lengths.min().int64_value(&[]), lengths.max().int64_value(&[]));
        if low < 1 || high > t {
            return Err(Error::value("lengths", format!("from 1 to {t}"), format!("from {low} to {high}")));
        }
        Ok(self.project(&self.last_states(sequences, lengths, train)))
    }
}

/// Checks sequences of items and returns their number and length.
pub(super) fn check_sequences(sequences: &Tensor, items: i64, context: i64) -> Result<(i64, i64)> {
    let [b, t] = sequences.size()[..] else { return Err(Error::shape("sequences", "Int64 [B, T]", sequences)) };
    if sequences.kind() != Kind::Int64 || b < 1 || t < 1 {
        return Err(Error::shape("sequences", "Int64 [B, T] of at least one item", sequences));
    }
    if t > context {
        return Err(Error::value("length of the sequences", format!("at most the context of {context}"), t));
    }
    let (low, high) = (sequences.min().int64_value(&[]), sequences.max().int64_value(&[]));
    if low < 0 || high > items {
        return Err(Error::value("items", format!("from 1 to {items}, or 0"), format!("from {low} to {high}")));
    }
    Ok((b, t))
}

/// Size of a recommender.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RecommenderConfig {
    /// Number of items.
    pub items: i64,
    /// Longest sequence.
    pub context: i64,
    /// Width `d` of embeddings and states.
    pub width: i64,
    /// Transformer blocks (of SASRec and BERT4Rec).
    pub blocks: usize,
    /// Attention heads; a divisor of the width.
    pub heads: i64,
    /// Dropout of embeddings and of what blocks add.
    pub dropout: f64,
    /// Dropout of attention.
    pub attention_dropout: f64,
}

impl RecommenderConfig {
    /// Width 64, two blocks, two heads, dropout 0.1, as published for MovieLens 1M.
    pub fn new(items: i64, context: i64) -> Self {
        Self { items, context, width: 64, blocks: 2, heads: 2, dropout: 0.1, attention_dropout: 0.1 }
    }

    /// Checks the values.
    ///
    /// # Errors
    /// Sizes that are not positive, heads that do not divide the width, dropout outside `[0, 1)`.
    pub fn check(&self) -> Result<()> {
        check_range("items", self.items as f64, 2.0..)?;
        check_range("context", self.context as f64, 1.0..)?;
        check_range("width", self.width as f64, 1.0..)?;
        check_range("heads", self.heads as f64, 1.0..)?;
        if self.width % self.heads != 0 {
            return Err(Error::value("heads", format!("a divisor of width {}", self.width), self.heads));
        }
        check_range("dropout", self.dropout, 0.0..1.0)?;
        check_range("attention dropout", self.attention_dropout, 0.0..1.0)
    }
}

/// The kinds of recommenders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// Causal self-attention (Kang and McAuley, 2018; arXiv 1808.09781).
    SasRec,
    /// Bidirectional self-attention trained to fill gaps (Sun et al., 2019; arXiv 1904.06690).
    Bert4Rec,
    /// A gated recurrent unit (Hidasi et al., 2016; arXiv 1511.06939), trained by cross entropy.
    Gru4Rec,
    /// The same with attention over its states (Li et al., 2017; arXiv 1711.04725).
    Narm,
}

impl Architecture {
    /// Fresh weights under `p`.
    ///
    /// # Errors
    /// As [`RecommenderConfig::check`].
    pub fn build(self, p: &Path, config: &RecommenderConfig) -> Result<Box<dyn Recommender>> {
        Ok(match self {
            Self::SasRec => Box::new(SasRec::new(p, config)?),
            Self::Bert4Rec => Box::new(Bert4Rec::new(p, config)?),
            Self::Gru4Rec => Box::new(GruRecommender::new(p, config, false)?),
            Self::Narm => Box::new(GruRecommender::new(p, config, true)?),
        })
    }
}

/// How models are trained: AdamW at a constant rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Fitting {
    /// Steps.
    pub steps: usize,
    /// Sequences per step, drawn with replacement.
    pub batch: i64,
    /// Learning rate.
    pub lr: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Largest norm of the gradient.
    pub clip: f64,
}

impl Default for Fitting {
    fn default() -> Self {
        Self { steps: 1000, batch: 128, lr: 1e-3, weight_decay: 0.01, clip: 5.0 }
    }
}

impl Fitting {
    /// Checks the values.
    ///
    /// # Errors
    /// Numbers out of range.
    pub fn check(&self) -> Result<()> {
        check_range("steps", self.steps as f64, 1.0..)?;
        check_range("batch", self.batch as f64, 1.0..)?;
        check_range("lr", self.lr, f64::MIN_POSITIVE..)?;
        check_range("weight decay", self.weight_decay, 0.0..)?;
        check_range("clip", self.clip, f64::MIN_POSITIVE..)
    }

    /// Runs it: `loss` gets rows drawn from `rows`, `observe` the step after each.
    pub(super) fn run(
        &self,
        vs: &VarStore,
        rows: i64,
        seed: u64,
        mut loss: impl FnMut(&Tensor) -> Result<Tensor>,
        mut observe: impl FnMut(usize) -> Result<()>,
    ) -> Result<()> {
        self.check()?;
        let schedule = Schedule::new(self.lr, self.steps, Shape::Constant);
        let config = TrainConfig { clip_norm: Some(self.clip), ..TrainConfig::new(schedule, seed) };
        let optimizer = Optimizer::new(Rule::AdamW(Adam::default()), vec![Group::all(vs, self.weight_decay)])?;
        let device = vs.device();
        // Every step has libtorch's generator seeded, so the draw is a function of the step.
        let draw = || Tensor::randint(rows, [self.batch], (Kind::Int64, device));
        Trainer::new(config, vs, optimizer)?.run(|_| loss(&draw()), |p| observe(p.done))?;
        Ok(())
    }
}

/// Trains a recommender on sequences `[N, T]` by its own loss. With held-out sequences the weights of the lowest loss on them, looked at twenty
/// times, are kept in the end.
///
/// # Errors
/// Sequences that the model cannot read, of fewer than two items; settings out of range; diverged training.
pub fn fit(
    vs: &VarStore,
    model: &dyn Recommender,
    sequences: &Tensor,
    held_out: Option<&Tensor>,
    config: &Fitting,
    seed: u64,
) -> Result<()> {
    let (n, t) = check_sequences(sequences, model.items(), model.context())?;
    if t < 2 {
        return Err(Error::shape("sequences to learn from", "two or more items", sequences));
    }
    let every = config.steps.div_ceil(20).max(1);
    let mut best: Option<(f64, Snapshot)> = None;
    config.run(
        vs,
        n,
        seed,
        |rows| Ok(model.loss(&sequences.index_select(0, rows))),
        |done| {
            let Some(held_out) = held_out.filter(|_| done.is_multiple_of(every) || done == config.steps) else {
                return Ok(());
            };
            let loss = tch::no_grad(|| next_item_loss(model, held_out, false)).double_value(&[]);
            if best.as_ref().is_none_or(|(least, _)| loss < *least) {
                best = Some((loss, Snapshot::of_parameters(vs)));
            }
            Ok(())
        },
    )?;
    if let Some((_, weights)) = best {
        weights.restore();
    }
    Ok(())
}

/// Mean cross entropy of every next item.
fn next_item_loss<R: Recommender + ?Sized>(model: &R, sequences: &Tensor, train: bool) -> Tensor {
    let t = sequences.size()[1];
    let scores = model.project(&model.states(&sequences.narrow(1, 0, t - 1), train));
    // Padding becomes -1 and is left out.
    let targets = (sequences.narrow(1, 1, t - 1) - 1).reshape([-1]);
    scores.view([-1, model.items()]).cross_entropy_loss::<Tensor>(&targets, None, Reduction::Mean, -1, 0.0)
}
