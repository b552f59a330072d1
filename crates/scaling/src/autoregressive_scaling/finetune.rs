//! Classification by a generative model.

use autodidact_core::error::{check_class_indices, check_labels, check_range};
use autodidact_core::nn::{Gpt, layers};
use autodidact_core::optim::{Adam, Group, Optimizer, Rule};
use autodidact_core::schedule::Schedule;
use autodidact_core::train::{TrainConfig, Trainer};
use autodidact_core::{Error, Result};
use rand::RngExt;
use tch::nn::{Linear, Module, VarStore};
use tch::{Kind, Tensor};

/// A generative model without its head, and a linear classifier on the mean of its last activations.
#[derive(Debug)]
pub struct Classifier<'a> {
    model: &'a Gpt,
    head: Linear,
}

impl Classifier<'_> {
    /// Scores of the classes, `[B, T]` tokens to `[B, classes]`.
    ///
    /// # Errors
    /// Tokens that the model does not take.
    pub fn logits(&self, tokens: &Tensor) -> Result<Tensor> {
        let hidden = self.model.hidden(tokens, None)?;
        let pooled = hidden.mean_dim([1i64].as_slice(), false, hidden.kind());
        Ok(self.head.forward(&pooled))
    }

    /// The share of rows that get another class than their label, in parts of `batch` rows.
    ///
    /// # Errors
    /// No rows, another number of labels, tokens that the model does not take.
    pub fn error(&self, tokens: &Tensor, labels: &Tensor, batch: i64) -> Result<f64> {
        check_labels("labels", labels, tokens.size()[0])?;
        check_range("rows", tokens.size()[0] as f64, 1.0..)?;
        check_range("batch", batch as f64, 1.0..)?;
        let mut wrong = 0;
        for (x, y) in tokens.split(batch, 0).iter().zip(labels.split(batch, 0)) {
            let scores = tch::no_grad(|| self.logits(x))?;
            wrong += scores.argmax(-1, false).ne_tensor(&y).sum(Kind::Int64).int64_value(&[]);
        }
        Ok(wrong as f64 / tokens.size()[0] as f64)
    }
}

/// How a classifier is trained.
#[derive(Debug, Clone)]
pub struct FinetuneConfig {
    /// Learning rate by step; the paper takes that of pre-training.
    pub schedule: Schedule,
    /// Rows of a step, drawn with replacement; 1,024 in the paper.
    pub batch: usize,
    /// AdamW's weight decay.
    pub weight_decay: f64,
    /// Largest joint gradient norm.
    pub clip_norm: Option<f64>,
    /// Seed of the order of rows.
    pub seed: u64,
}

/// A classifier that is not trained yet: its head is put under `classifier` in the store of the model, which [`finetune_classifier`] then
/// trains as a whole.
///
/// # Errors
/// Fewer than two classes, a store that has a classifier.
pub fn new_classifier<'a>(vs: &VarStore, model: &'a Gpt, classes: i64) -> Result<Classifier<'a>> {
    check_range("classes", classes as f64, 2.0..)?;
    if vs.variables().contains_key("classifier.weight") {
        return Err(Error::value("store", "no classifier yet", "classifier.weight"));
    }
    let head = layers::linear(vs.root() / "classifier", model.config().width, classes, true);
    Ok(Classifier { model, head })
}

/// Trains a classifier with all weights of its model on `tokens` Int64 `[N, T]` and `labels` Int64 `[N]`. The generative head has no part
/// in the loss.
///
/// # Errors
/// No rows, another number of labels, labels beyond the classes, settings out of range, a loss that is not finite.
pub fn finetune_classifier(
    vs: &VarStore,
    classifier: &Classifier<'_>,
    (tokens, labels): (&Tensor, &Tensor),
    config: &FinetuneConfig,
) -> Result<()> {
    let rows = tokens.size()[0];
    check_class_indices("labels", labels, rows, classifier.head.ws.size()[0])?;
    check_range("batch", config.batch as f64, 1.0..)?;
    let adam = Adam { betas: (0.9, 0.95), ..Adam::default() };
    let optimizer = Optimizer::new(Rule::AdamW(adam), Group::split_decay(vs, config.weight_decay))?;
    let train = TrainConfig {
        clip_norm: config.clip_norm,
        log_every: config.schedule.total.max(1),
        ..TrainConfig::new(config.schedule.clone(), config.seed)
    };
    Trainer::new(train, vs, optimizer)?.run(
        |step| {
            let mut rng = step.rng("rows");
            let picked: Vec<i64> = (0..config.batch).map(|_| rng.random_range(0..rows)).collect();
            let index = Tensor::from_slice(&picked).to_device(tokens.device());
            let logits = classifier.logits(&tokens.index_select(0, &index))?;
            Ok(logits.cross_entropy_for_logits(&labels.index_select(0, &index)))
        },
        |_| Ok(()),
    )?;
    Ok(())
}
