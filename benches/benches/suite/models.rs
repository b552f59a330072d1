//! Work on trained networks: classification by neighbours, sampling.

use crate::scrambled;
use anyhow::Result;
use autodidact_benches::{Entry, Work};
use autodidact_core::hub;
use autodidact_core::metrics::{Knn, Vote};
use autodidact_core::nn::{Gpt, GptConfig};
use autodidact_core::optim::{Adam, Group, Optimizer, Rule};
use autodidact_core::text::{Sampler, SamplerConfig, pad_left};
use serde_json::json;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

pub fn entries() -> Result<[Entry; 5]> {
    let [small, large] = [("1M", 128, 4, 4, 1.0 / 1.2), ("10M", 384, 6, 6, 1.0)].map(training);
    Ok([weighted_knn(), sampling(), generation()?, small, large])
}

/// One step of training a character-level GPT: batch of 8 windows of 128, clipping and AdamW, beside a plain PyTorch loop.
fn training((name, width, depth, heads, target): (&str, i64, usize, i64, f64)) -> Entry {
    const VOCAB: i64 = 65;
    const CONTEXT: i64 = 128;
    const WINDOWS: i64 = 8;
    let arguments = json!({
        "width": width, "depth": depth, "heads": heads, "vocabulary": VOCAB, "context": CONTEXT, "batch": WINDOWS,
    });
    let what = format!("a step of a GPT of width {width}, depth {depth}, on {WINDOWS} windows of {CONTEXT}");
    Entry::new(format!("text/training/{name}"), what, move || {
        let mut stepping = Stepping::new(&GptConfig::gpt2(VOCAB, CONTEXT, width, depth, heads), WINDOWS)?;
        Ok(Box::new(move || stepping.step()))
    })
    .beside_python("a plain loop", "gpt_training", arguments)
    .at_most(target)
}

/// Training of a decoder, a step at a time on the same full windows: clipping and AdamW.
pub struct Stepping {
    model: Gpt,
    optimizer: Optimizer,
    x: Tensor,
    y: Tensor,
    _parameters: VarStore,
}

impl Stepping {
    pub fn new(config: &GptConfig, windows: i64) -> Result<Self> {
        tch::manual_seed(0);
        let vs = VarStore::new(Device::Cpu);
        let (vocabulary, context) = (config.vocab, config.context);
        let tokens =
            (scrambled(&[windows, context + 1], 0.0, Kind::Double).abs() * vocabulary as f64).to_kind(Kind::Int64);
        Ok(Self {
            model: Gpt::new(vs.root(), config)?,
            optimizer: Optimizer::new(Rule::AdamW(Adam::default()), Group::split_decay(&vs, 0.1))?,
            x: tokens.narrow(1, 0, context),
            y: tokens.narrow(1, 1, context),
            _parameters: vs,
        })
    }

    pub fn step(&mut self) -> Result<f64> {
        self.optimizer.zero_grad();
        let loss = self.model.loss(&self.x, &self.y)?;
        loss.backward();
        let _norm = self.optimizer.clip_grad_norm(1.0)?;
        self.optimizer.step(1e-3)?;
        Ok(loss.double_value(&[]))
    }
}

/// Scores of queries by weighted nearest neighbours; the bank is normalised beforehand on both sides.
fn weighted_knn() -> Entry {
    let arguments = json!({"queries": 10_000, "bank": 20_000, "d": 512, "k": 200, "classes": 10});
    let ours = || {
        let bank = scrambled(&[20_000, 512], 0.0, Kind::Float);
        let labels = Tensor::arange(20_000, (Kind::Int64, Device::Cpu)).remainder(10);
        let queries = scrambled(&[10_000, 512], 0.5, Kind::Float);
        let knn = Knn::new(&bank, &labels, 10)?;
        Ok(Box::new(move || Ok(knn.scores(&queries, 200, Vote::Temperature(0.07))?.double_value(&[0, 0]))) as _)
    };
    Entry::new("metrics/weighted-knn", "10,000 queries against 20,000, D = 512, k = 200", ours)
        .beside_python("matmul, topk, scatter_add", "weighted_knn", arguments)
        .agreeing(1e-4)
}

/// Prompts and continuation of the sampling entry.
const BATCH: i64 = 4;
const PROMPT: i64 = 16;
const NEW: i64 = 112;

/// Greedy sampling with the key-value cache against running the model on every prefix.
fn sampling() -> Entry {
    let what = format!("{BATCH} x {NEW} tokens from a GPT of width 128, depth 4");
    Entry::new("text/sampling", what, || {
        let (vs, model) = model()?;
        let prompts = prompts();
        Ok(Box::new(move || {
            let _keeps_the_weights = &vs;
            let config = SamplerConfig { max_new: NEW, temperature: 0.0, ..Default::default() };
            checksum(&Sampler::new(&model, config)?.sample(&prompts)?)
        }))
    })
    .beside_ours("every prefix anew", || -> Result<Work> {
        let (vs, model) = model()?;
        let prompts = prompts();
        Ok(Box::new(move || {
            let _keeps_the_weights = &vs;
            let mut all = prompts.shallow_clone();
            for _ in 0..NEW {
                let hidden = tch::no_grad(|| model.hidden(&all, None))?.select(1, -1);
                all = Tensor::cat(&[all, tch::no_grad(|| model.project(&hidden)).argmax(1, true)], 1);
            }
            checksum(&all.narrow(1, PROMPT, NEW))
        }))
    })
    .agreeing(0.0)
}

/// Greedy continuations of prompts of different lengths by a Llama that both sides read from one folder.
fn generation() -> Result<Entry> {
    let folder = tempfile::tempdir()?;
    let prompts: Vec<Vec<i64>> = (0..8).map(|row| (0..16 - row).map(|i| (7 * row + 11 * i) % 65).collect()).collect();
    let arguments = json!({"folder": folder.path(), "prompts": prompts, "new": NEW});
    let ours = move || {
        let (_vs, model) = network(&GptConfig::llama(65, 128, 128, 4, (4, 2), 344))?;
        hub::save(folder.path(), &model, None)?;
        let (prompts, mask) = pad_left(&prompts, 0, Device::Cpu)?;
        Ok(Box::new(move || {
            let _keeps_the_folder = &folder;
            let config = SamplerConfig { max_new: NEW, temperature: 0.0, ..Default::default() };
            checksum(&Sampler::new(&model, config)?.sample_padded(&prompts, &mask)?)
        }) as Work)
    };
    let what = format!("{NEW} tokens for each of 8 prompts of 9 to 16, Llama of width 128, depth 4");
    Ok(Entry::new("text/generation", what, ours)
        .beside_python("generate", "generation", arguments)
        .agreeing(0.0)
        .at_most(1.0 / 3.0))
}

fn model() -> Result<(VarStore, Gpt)> {
    network(&GptConfig::gpt2(65, 128, 128, 4, 4))
}

fn network(config: &GptConfig) -> Result<(VarStore, Gpt)> {
    tch::manual_seed(0);
    let vs = VarStore::new(Device::Cpu);
    let model = Gpt::new(vs.root(), config)?;
    // Far from uniform predictions, so that rounding does not decide between tokens.
    tch::no_grad(|| {
        vs.trainable_variables().iter_mut().filter(|t| t.dim() > 1).for_each(|t| drop(t.g_mul_scalar_(8.0)))
    });
    Ok((vs, model))
}

fn prompts() -> Tensor {
    (scrambled(&[BATCH, PROMPT], 0.0, Kind::Double).abs() * 65.0).to_kind(Kind::Int64)
}

fn checksum(tokens: &Tensor) -> Result<f64> {
    Ok(tokens.sum(Kind::Int64).int64_value(&[]) as f64)
}
