//! Language models as Hugging Face's `transformers` keeps them: trains a small GPT-2, saves its folder, loads it and samples from it.
//!
//! `cargo run --release -p autodidact-core --example language_model` learns the characters of one of this crate's source files.
//! `cargo run --release -p autodidact-core --example language_model -- FOLDER "Once upon a time"` continues a text with a downloaded model
//! of the GPT-2, Llama or Qwen2 family (`config.json`, `model.safetensors`, `tokenizer.json`).

use anyhow::{Result, bail};
use autodidact_core::hub;
use autodidact_core::nn::{Gpt, GptConfig, parameter_count};
use autodidact_core::optim::{Adam, Group, Optimizer, Rule};
use autodidact_core::schedule::{Schedule, Shape};
use autodidact_core::text::{CharTokenizer, HfTokenizer, Sampler, SamplerConfig, Tokenizer, Windows};
use autodidact_core::train::{TrainConfig, Trainer};
use std::path::Path;
use tch::{Device, Tensor, nn::VarStore};

const SOURCE: &str = include_str!("../src/schedule.rs");

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match &args[..] {
        [] => train_and_sample(),
        [folder, prompt] => {
            let folder = Path::new(folder);
            let (_vs, model) = hub::load(folder, Device::Cpu)?;
            let tokenizer = HfTokenizer::from_file(&folder.join("tokenizer.json"))?;
            let config = SamplerConfig { top_p: Some(0.9), stop: hub::stop_tokens(folder)?, ..Default::default() };
            println!("{prompt}{}", continued(&model, &tokenizer, prompt, config)?);
            Ok(())
        }
        _ => bail!("give no arguments, or a model's folder and a prompt"),
    }
}

fn continued(model: &Gpt, tokenizer: &impl Tokenizer, prompt: &str, config: SamplerConfig) -> Result<String> {
    let prompt = Tensor::from_slice(&tokenizer.encode(prompt)?).unsqueeze(0);
    let new: Vec<i64> = Sampler::new(model, config)?.sample(&prompt)?.get(0).try_into()?;
    Ok(tokenizer.decode(&new)?)
}

fn train_and_sample() -> Result<()> {
    tch::manual_seed(0);
    let tokenizer = CharTokenizer::from_text(SOURCE)?;
    let windows = Windows::new(&tokenizer.encode(SOURCE)?, 64, Device::Cpu)?;
    let vs = VarStore::new(Device::Cpu);
    let model = Gpt::new(vs.root(), &GptConfig::gpt2(tokenizer.vocab(), 128, 64, 2, 4))?;
    println!("{} characters, {} parameters", tokenizer.vocab(), parameter_count(&vs));
    let schedule = Schedule::new(5e-3, 400, Shape::cosine_to(0.1)).warmup(20);
    let optimizer = Optimizer::new(Rule::AdamW(Adam::default()), Group::split_decay(&vs, 0.1))?;
    let history = Trainer::new(TrainConfig { log_every: 100, ..TrainConfig::new(schedule, 0) }, &vs, optimizer)?.run(
        |step| {
            let (tokens, targets) = windows.random(16, &mut step.rng("windows"));
            model.loss(&tokens, &targets)
        },
        |_| Ok(()),
    )?;
    for point in history.losses {
        println!("step {:3}: {:.3} nats per character", point.step, point.loss);
    }

    let folder = tempfile::tempdir()?;
    hub::save(folder.path(), &model, None)?;
    let (_vs, loaded) = hub::load(folder.path(), Device::Cpu)?;
    let (tokens, _) = windows.fixed(2);
    let logits = |model: &Gpt| tch::no_grad(|| model.logits(&tokens, None));
    println!("the loaded network computes the same: {}", logits(&model)?.equal(&logits(&loaded)?));
    let config = SamplerConfig { max_new: 100, temperature: 0.3, ..Default::default() };
    println!("---\n    pub fn{}", continued(&loaded, &tokenizer, "    pub fn", config)?);
    Ok(())
}
