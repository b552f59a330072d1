//! Language models of the preference experiments: sizes, sequences, supervised training, sampling, log-probabilities.

use anyhow::Result;
use autodidact_core::landscape::load_state_dict;
use autodidact_core::nn::{Gpt, GptConfig};
use autodidact_core::optim::{Adam, Group, Optimizer, Rule, StateDict};
use autodidact_core::schedule::{Schedule, Shape};
use autodidact_core::text::{Sampler, SamplerConfig, pad_left, pad_responses, response_log_probs, response_loss};
use autodidact_core::train::{Step, TrainConfig, Trainer};
use autodidact_core::{Error, Result as CoreResult, error::check_range, seed};
use autodidact_datasets::batch::Order;
use serde::{Deserialize, Serialize};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

/// Sequences that are scored at one time.
const AT_ONCE: usize = 512;

/// Sizes of the decoder: width, depth and heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LmSize {
    /// 64, 2, 4.
    S,
    /// 128, 3, 4.
    M,
    /// 192, 6, 6.
    L,
}

impl LmSize {
    fn config(self, vocabulary: i64) -> GptConfig {
        let (width, depth, heads) = match self {
            LmSize::S => (64, 2, 4),
            LmSize::M => (128, 3, 4),
            LmSize::L => (192, 6, 6),
        };
        GptConfig::gpt2(vocabulary, 64, width, depth, heads)
    }
}

/// A language model with its variables.
pub(crate) struct Policy {
    pub vs: VarStore,
    pub model: Gpt,
}

impl Policy {
    /// Fresh weights from a seed.
    pub fn new(lm: LmSize, vocabulary: i64, seed: u64, device: Device) -> Result<Self> {
        let vs = VarStore::new(device);
        seed::seed_torch(seed, &["weights"]);
        let model = Gpt::new(vs.root(), &lm.config(vocabulary))?;
        Ok(Self { vs, model })
    }

    /// Given weights.
    pub fn with(lm: LmSize, vocabulary: i64, weights: &StateDict, device: Device) -> Result<Self> {
        let policy = Self::new(lm, vocabulary, 0, device)?;
        load_state_dict(&policy.vs, weights)?;
        Ok(policy)
    }
}

/// What is given, and what a model says to it (its end included, where it came to one).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sequence {
    pub prompt: Vec<i64>,
    pub response: Vec<i64>,
}

/// Sequences as tensors.
pub(crate) struct Sequences {
    /// `[N, T]`, padded on the right.
    pub tokens: Tensor,
    /// `[N, T]`, true on responses.
    pub response: Tensor,
}

impl Sequences {
    pub fn new<'a>(sequences: impl IntoIterator<Item = &'a Sequence>, padding: i64, device: Device) -> Result<Self> {
        let parts = sequences.into_iter().map(|s| (&s.prompt[..], &s.response[..]));
        let (tokens, response) = pad_responses(parts, padding, device)?;
        Ok(Self { tokens, response })
    }

    pub fn len(&self) -> usize {
        self.tokens.size()[0] as usize
    }

    pub fn rows(&self, index: &Tensor) -> Self {
        Self { tokens: self.tokens.index_select(0, index), response: self.response.index_select(0, index) }
    }

    /// Tokens of the responses, `[N]`.
    pub fn lengths(&self) -> Tensor {
        self.response.sum_dim_intlist([1i64].as_slice(), false, Kind::Float)
    }

    /// Log-probabilities of each token of the responses, `[N, T]`, with gradients.
    pub fn token_log_probs(&self, model: &Gpt) -> CoreResult<Tensor> {
        response_log_probs(model, &self.tokens, &self.response)
    }

    /// Log-probabilities of the responses, `[N]`, with gradients.
    pub fn log_probs(&self, model: &Gpt) -> CoreResult<Tensor> {
        Ok(self.token_log_probs(model)?.sum_dim_intlist([1i64].as_slice(), false, Kind::Float))
    }

    /// Mean negative log-probability of the response tokens of some rows.
    pub fn loss(&self, model: &Gpt, rows: &[i64]) -> CoreResult<Tensor> {
        let batch = self.rows(&Tensor::from_slice(rows).to_device(self.tokens.device()));
        response_loss(model, &batch.tokens, &batch.response)
    }

    /// Log-probabilities without gradients, however many there are.
    pub fn scores(&self, model: &Gpt) -> CoreResult<Tensor> {
        self.in_parts(|part| part.log_probs(model))
    }

    /// What is computed of each row, without gradients, however many there are.
    pub fn in_parts(&self, of: impl Fn(&Self) -> CoreResult<Tensor>) -> CoreResult<Tensor> {
        tch::no_grad(|| {
            let parts = (0..self.len()).step_by(AT_ONCE).map(|from| {
                let count = AT_ONCE.min(self.len() - from) as i64;
                let narrow = |t: &Tensor| t.narrow(0, from as i64, count);
                of(&Self { tokens: narrow(&self.tokens), response: narrow(&self.response) })
            });
            Ok(Tensor::cat(&parts.collect::<CoreResult<Vec<_>>>()?, 0))
        })
    }
}

/// How responses are drawn.
pub(crate) struct Sampling {
    pub temperature: f64,
    /// Most tokens.
    pub most: usize,
    pub end: i64,
    pub padding: i64,
}

/// One response to each prompt.
pub(crate) fn sample(
    model: &Gpt,
    prompts: &[Vec<i64>],
    how: &Sampling,
    seed: u64,
    device: Device,
) -> Result<Vec<Sequence>> {
    seed::seed_torch(seed, &["sample"]);
    let config = SamplerConfig {
        max_new: how.most as i64,
        temperature: how.temperature,
        stop: vec![how.end],
        padding: how.padding,
        ..SamplerConfig::default()
    };
    let sampler = Sampler::new(model, config)?;
    let mut all = vec![];
    for part in prompts.chunks(AT_ONCE) {
        let (tokens, mask) = pad_left(part, how.padding, device)?;
        let rows = sampler.sample_padded(&tokens, &mask)?.to_device(Device::Cpu);
        let width = rows.size()[1] as usize;
        let rows: Vec<i64> = rows.reshape([-1]).try_into()?;
        for (prompt, row) in part.iter().zip(rows.chunks(width)) {
            let count = row.iter().position(|&t| t == how.end).map_or(width, |end| end + 1);
            all.push(Sequence { prompt: prompt.clone(), response: row[..count].to_vec() });
        }
    }
    Ok(all)
}

/// Supervised training on responses: AdamW with warm-up and a cosine to a tenth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Supervised {
    pub steps: usize,
    pub batch: usize,
    pub lr: f64,
    pub warmup: usize,
    pub weight_decay: f64,
}

impl Supervised {
    /// Checks what `--set` may have changed.
    pub fn check(&self, name: &str, sequences: usize) -> Result<()> {
        let key = |field: &str| format!("{name}.{field}");
        check_range(&key("steps"), self.steps as f64, 1.0..)?;
        check_range(&key("batch"), self.batch as f64, 1.0..=sequences as f64)?;
        check_range(&key("lr"), self.lr, f64::MIN_POSITIVE..)?;
        check_range(&key("warmup"), self.warmup as f64, 0.0..=self.steps as f64)?;
        Ok(check_range(&key("weight_decay"), self.weight_decay, 0.0..)?)
    }

    /// Minimises the mean negative log-probability of response tokens.
    pub fn run(
        &self,
        policy: &Policy,
        data: &Sequences,
        seed: u64,
        observe: impl FnMut(usize, Option<f64>) -> Result<()>,
    ) -> Result<()> {
        let order = Order::new(data.len(), self.batch, seed)?;
        self.minimise(policy, seed, |step| data.loss(&policy.model, &order.batch(step.index)), observe)
    }

    /// The same for a loss of each step.
    pub fn minimise(
        &self,
        policy: &Policy,
        seed: u64,
        loss: impl FnMut(Step) -> CoreResult<Tensor>,
        observe: impl FnMut(usize, Option<f64>) -> Result<()>,
    ) -> Result<()> {
        let schedule = Schedule::new(self.lr, self.steps, Shape::cosine_to(0.1)).warmup(self.warmup);
        minimise(&policy.vs, (schedule, self.weight_decay, seed), loss, observe)
    }
}

/// AdamW on a schedule, gradients clipped to norm 1, with an observer (of the steps done, and the loss where it is known) that may fail
/// in its own way.
pub(crate) fn minimise(
    vs: &VarStore,
    (schedule, weight_decay, seed): (Schedule, f64, u64),
    loss: impl FnMut(Step) -> CoreResult<Tensor>,
    mut observe: impl FnMut(usize, Option<f64>) -> Result<()>,
) -> Result<()> {
    let config = TrainConfig { clip_norm: Some(1.0), ..TrainConfig::new(schedule, seed) };
    let optimizer = Optimizer::new(Rule::AdamW(Adam::default()), vec![Group::all(vs, weight_decay)])?;
    // The trainer's callbacks know the library's errors only.
    let mut failure = None;
    let done = Trainer::new(config, vs, optimizer)?.run(loss, |p| {
        observe(p.done, p.loss).map_err(|e| {
            failure = Some(e);
            Error::Failed("evaluation".into())
        })
    });
    match failure {
        Some(e) => Err(e),
        None => Ok(done.map(drop)?),
    }
}
