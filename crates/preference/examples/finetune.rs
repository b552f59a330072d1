//! Fine-tunes a language model of a Hugging Face folder (GPT-2, Llama, Qwen2) on preferences in JSON lines.
//!
//! `cargo run --release -p autodidact-preference --example finetune -- --model Qwen2.5-0.5B-Instruct --preferences pairs.jsonl --out tuned`
//!
//! Lines are `{"prompt": .., "chosen": .., "rejected": ..}`, texts or chats. The last part of the file is kept out and measured before and
//! after: the loss, and how often the chosen response gains more on the reference than the rejected one.

use anyhow::{Context, Result, bail, ensure};
use autodidact_core::device::{DeviceChoice, Precision};
use autodidact_core::nn::{Gpt, LoraConfig};
use autodidact_core::optim::{Adam, Group, Optimizer, Rule};
use autodidact_core::schedule::{Schedule, Shape};
use autodidact_core::text::{ChatTemplate, HfTokenizer, pad_responses, response_log_probs};
use autodidact_core::train::{TrainConfig, Trainer};
use autodidact_core::{Result as CoreResult, hub};
use autodidact_datasets::batch::Order;
use autodidact_datasets::preferences::{Preference, PreferenceTokens};
use autodidact_preference::losses::{PairLogProbs, cpo, dpo, hinge, ipo, nca_pair, orpo, robust_dpo, simpo};
use autodidact_preference::rpo::{Rpo, SftReduction};
use clap::{Parser, ValueEnum};
use std::path::PathBuf;
use tch::{Device, Kind, Tensor, nn::VarStore};

#[derive(Parser)]
#[command(about = "Fine-tunes a language model on preferences")]
struct Args {
    /// Folder with config.json, safetensors, tokenizer.json
    #[arg(long)]
    model: PathBuf,
    /// JSON lines with prompt, chosen, rejected
    #[arg(long)]
    preferences: PathBuf,
    /// Folder of the tuned model
    #[arg(long)]
    out: PathBuf,
    #[arg(long, value_enum, default_value_t = Method::Dpo)]
    method: Method,
    /// Strength of the reference; CPO's and SimPO's factor of the log-ratio, ORPO's weight of the odds
    #[arg(long, default_value_t = 0.1)]
    beta: f64,
    /// SimPO's margin, robust DPO's rate of flipped labels, RPO's weight of the likelihood
    #[arg(long, default_value_t = 0.1)]
    parameter: f64,
    /// Rank of low-rank adapters; 0 trains all weights
    #[arg(long, default_value_t = 8)]
    lora: i64,
    #[arg(long, default_value_t = 5e-5)]
    lr: f64,
    /// Pairs of a step
    #[arg(long, default_value_t = 16)]
    batch: usize,
    #[arg(long, default_value_t = 1)]
    epochs: usize,
    /// Most tokens of prompt and response
    #[arg(long, default_value_t = 1024)]
    longest: usize,
    /// Share of the pairs that is kept out
    #[arg(long, default_value_t = 0.05)]
    kept_out: f64,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    /// Forward passes in bfloat16
    #[arg(long)]
    bf16: bool,
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Method {
    Dpo,
    RobustDpo,
    Ipo,
    Hinge,
    Nca,
    Rpo,
    Cpo,
    Simpo,
    Orpo,
}

/// A batch's log-probabilities and lengths.
struct Batch {
    policy: PairLogProbs,
    reference: PairLogProbs,
    lengths: PairLogProbs,
}

impl Args {
    /// Losses of pairs, `[B]` or their mean.
    fn loss(&self, batch: &Batch) -> CoreResult<Tensor> {
        let Batch { policy, reference, lengths } = batch;
        let margin = || policy.margin(reference);
        let per_token = || policy.per_token(&lengths.chosen, &lengths.rejected);
        match self.method {
            Method::Dpo => dpo(&margin()?, self.beta),
            Method::RobustDpo => robust_dpo(&margin()?, self.parameter, self.beta),
            Method::Ipo => ipo(&margin()?, self.beta),
            Method::Hinge => hinge(&margin()?, self.beta),
            Method::Nca => nca_pair(&policy.over(reference)?, self.beta),
            Method::Rpo => {
                let rpo = Rpo { beta: self.beta, eta: self.parameter, reduction: SftReduction::Mean };
                Ok(rpo.forward(policy, reference, &lengths.chosen)?.total)
            }
            Method::Cpo => Ok(cpo(policy, self.beta)? - &policy.chosen / &lengths.chosen),
            Method::Simpo => simpo(&per_token()?, self.beta, self.parameter),
            Method::Orpo => Ok(orpo(&per_token()?)? * self.beta - &policy.chosen / &lengths.chosen),
        }
    }

    fn precision(&self) -> Precision {
        if self.bf16 { Precision::Bf16 } else { Precision::F32 }
    }
}

/// Preferences with the reference's log-probabilities.
struct Data {
    pairs: Vec<PreferenceTokens>,
    reference: Vec<[f32; 2]>,
    padding: i64,
    device: Device,
}

impl Data {
    /// Tokens `[2B, T]` and response mask: chosen first, then rejected.
    fn tokens(&self, rows: &[i64]) -> CoreResult<(Tensor, Tensor)> {
        let pairs = || rows.iter().map(|&i| &self.pairs[i as usize]);
        let chosen = pairs().map(|p| (&p.prompt[..], &p.chosen[..]));
        let both = chosen.chain(pairs().map(|p| (&p.prompt[..], &p.rejected[..])));
        pad_responses(both, self.padding, self.device)
    }

    fn batch(&self, model: &Gpt, rows: &[i64]) -> CoreResult<Batch> {
        let (tokens, response) = self.tokens(rows)?;
        let sum = |x: &Tensor| x.sum_dim_intlist([1i64].as_slice(), false, Kind::Float);
        let of = |side: usize| {
            let values: Vec<f32> = rows.iter().map(|&i| self.reference[i as usize][side]).collect();
            Tensor::from_slice(&values).to_device(self.device)
        };
        Ok(Batch {
            policy: PairLogProbs::halves(&sum(&response_log_probs(model, &tokens, &response)?))?,
            reference: PairLogProbs::new(of(0), of(1))?,
            lengths: PairLogProbs::halves(&sum(&response))?,
        })
    }

    /// Mean loss, and share of pairs whose chosen response gains more, over some rows.
    fn measure(&self, model: &Gpt, rows: &[i64], args: &Args) -> Result<(f64, f64)> {
        let (mut loss, mut right) = (0.0, 0.0);
        for part in rows.chunks(args.batch) {
            let batch = tch::no_grad(|| args.precision().run(self.device, || self.batch(model, part)))?;
            loss += args.loss(&batch)?.mean(Kind::Double).double_value(&[]) * part.len() as f64;
            right += batch.policy.margin(&batch.reference)?.greater(0.0).sum(Kind::Double).double_value(&[]);
        }
        Ok((loss / rows.len() as f64, right / rows.len() as f64))
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    ensure!(args.batch > 0 && args.epochs > 0, "--batch and --epochs must be at least 1");
    ensure!((0.0..1.0).contains(&args.kept_out), "--kept-out must be in 0..1, got {}", args.kept_out);
    let device = args.device.resolve()?;
    let (mut vs, mut model) = hub::load(&args.model, device)?;
    let tokenizer = HfTokenizer::from_file(&args.model.join("tokenizer.json"))?;
    let template = if args.model.join("tokenizer_config.json").exists() {
        Some(ChatTemplate::from_folder(&args.model))
    } else {
        None
    };
    let end = hub::stop_tokens(&args.model)?.first().copied();
    let longest = args.longest.min(model.config().context as usize);
    let mut pairs = vec![];
    for preference in Preference::read(&args.preferences)? {
        let preference = preference?;
        // A template that is missing or broken matters to chats only.
        let template = match (&preference, &template) {
            (Preference::Chat { .. }, Some(Ok(template))) => Some(template),
            (Preference::Chat { .. }, Some(Err(e))) => bail!("the model's chat template: {e}"),
            _ => None,
        };
        pairs.push(preference.tokens(&tokenizer, template, end)?.truncated(longest)?);
    }
    ensure!(pairs.len() >= 2, "{}: expected at least two preferences", args.preferences.display());
    let count = pairs.len();
    let kept_out = ((count as f64 * args.kept_out) as usize).max(1);
    let train = count - kept_out;
    let mut data = Data { reference: vec![[0.0; 2]; count], pairs, padding: end.unwrap_or(0), device };

    // The reference is the model as it is.
    let all: Vec<i64> = (0..count as i64).collect();
    for rows in all.chunks(args.batch) {
        let batch = tch::no_grad(|| args.precision().run(device, || data.batch(&model, rows)))?;
        let values = |t: &Tensor| Vec::<f32>::try_from(t.to_device(Device::Cpu));
        for (i, (w, l)) in
            rows.iter().zip(values(&batch.policy.chosen)?.into_iter().zip(values(&batch.policy.rejected)?))
        {
            data.reference[*i as usize] = [w, l];
        }
    }

    let adapters = VarStore::new(device);
    if args.lora > 0 {
        tch::manual_seed(args.seed as i64);
        model.adapt(
            &adapters.root(),
            &LoraConfig { rank: args.lora, alpha: 2.0 * args.lora as f64, ..Default::default() },
        )?;
    }
    let trained = if args.lora > 0 { &adapters } else { &vs };
    let batch = args.batch.min(train);
    let order = Order::new(train, batch, args.seed)?;
    let steps = args.epochs * order.batches_per_epoch().max(1);
    let unseen = &all[train..];
    let report = |when: &str, model: &Gpt| -> Result<()> {
        let (loss, right) = data.measure(model, unseen, &args)?;
        println!(
            "{when}: loss {loss:.4}, chosen above rejected {:.1} % of {} pairs kept out",
            100.0 * right,
            unseen.len()
        );
        Ok(())
    };
    report("before", &model)?;
    let schedule = Schedule::new(args.lr, steps, Shape::cosine_to(0.1)).warmup(steps / 10);
    let config =
        TrainConfig { clip_norm: Some(1.0), precision: args.precision(), ..TrainConfig::new(schedule, args.seed) };
    let optimizer = Optimizer::new(Rule::AdamW(Adam::default()), vec![Group::all(trained, 0.0)])?;
    Trainer::new(config, trained, optimizer)?.run(
        |step| Ok(args.loss(&data.batch(&model, &order.batch(step.index))?)?.mean(Kind::Float)),
        |progress| {
            if let Some(loss) = progress.loss {
                println!("step {} of {steps}: loss {loss:.4}", progress.done);
            }
            Ok(())
        },
    )?;
    report("after", &model)?;
    if args.lora > 0 {
        model.merge_adapters();
        vs.unfreeze();
    }
    hub::save(&args.out, &model, Some(&args.model)).context("the tuned model")?;
    println!("written to {}", args.out.display());
    Ok(())
}
