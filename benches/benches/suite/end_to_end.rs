//! What a user of the reproductions waits for: training as two of them do it, and the program itself.

use crate::scrambled;
use anyhow::{Result, ensure};
use autodidact_benches::{Entry, Work};
use autodidact_core::nn::{ConvNet, ConvNetConfig, ConvNetHead, Gpt, GptConfig, Mlp};
use autodidact_core::optim::{Adam, Group, Optimizer, Rule};
use autodidact_core::seed::{Rng, rng};
use autodidact_core::text::{pad_responses, response_log_probs};
use autodidact_datasets::augment::{Pipeline, barlow_twins_small_color};
use autodidact_datasets::image::shapes;
use autodidact_preference::losses::{PairLogProbs, dpo};
use autodidact_ssl::barlow_twins::{BarlowTwinsLoss, projector};
use rand::seq::SliceRandom;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Command;
use tch::nn::{ModuleT, VarStore};
use tch::{Device, Kind, Tensor};

/// The entries; those of the program only where it is.
pub fn entries(threads: usize, reproduce: Option<&Path>) -> Vec<Entry> {
    let mut all = vec![barlow_twins(), preference()];
    if let Some(program) = reproduce {
        all.push(list(program.to_owned()));
        all.push(smoke(program.to_owned(), threads));
    }
    all
}

/// Images of an epoch, and of a step.
const IMAGES: i64 = 1024;
const BATCH: i64 = 128;

/// Training as in the Barlow Twins reproduction at `small`, beside what a user of lightly and torchvision writes.
///
/// A call is an epoch: the workers of a `DataLoader` start with it and have nothing to do between two of them, so that they
/// neither work ahead of the clock nor take time from the other side's turn.
fn barlow_twins() -> Entry {
    let what = format!("training on {IMAGES} colour images of 16x16 as `barlow-twins` does at small, batch {BATCH}");
    Entry::new("end-to-end/barlow-twins", what, || {
        let mut training = BarlowTwinsTraining::new(IMAGES)?;
        Ok(Box::new(move || training.epoch()))
    })
    .beside_python(
        "its loss, PIL transforms in a DataLoader with a worker per thread",
        "barlow_twins_training",
        json!({"images": IMAGES, "batch": BATCH, "side": 16}),
    )
    .counting(IMAGES as f64, "images")
    .at_most(1.0)
}

/// The Barlow Twins experiment at its `small` scale.
pub struct BarlowTwinsTraining {
    images: Tensor,
    augment: Pipeline,
    encoder: ConvNet,
    projector: Mlp,
    optimizer: Optimizer,
    rng: Rng,
    _parameters: VarStore,
}

impl BarlowTwinsTraining {
    pub fn new(images: i64) -> Result<Self> {
        tch::manual_seed(0);
        let vs = VarStore::new(Device::Cpu);
        let blocks = vec![(32, 1), (64, 2), (128, 2), (256, 2)];
        let encoder =
            ConvNet::new(vs.root() / "encoder", &ConvNetConfig { channels: 3, blocks, head: ConvNetHead::GlobalMean })?;
        Ok(Self {
            images: shapes(0, 0..images as u64).to_float().avg_pool2d(2, 2, 0, false, true, None),
            augment: barlow_twins_small_color(16),
            encoder,
            projector: projector(vs.root() / "projector", &[256, 512, 512])?,
            optimizer: Optimizer::new(Rule::Adam(Adam::default()), vec![Group::all(&vs, 1e-6)])?,
            rng: rng(0, &["training"]),
            _parameters: vs,
        })
    }

    /// Both views of some images.
    pub fn views(&mut self, index: &[i64]) -> Result<[Tensor; 2]> {
        let x = self.images.index_select(0, &Tensor::from_slice(index));
        Ok([self.augment.apply(&x, &mut self.rng)?, self.augment.apply(&x, &mut self.rng)?])
    }

    pub fn step(&mut self, index: &[i64]) -> Result<f64> {
        let [za, zb] = self.views(index)?.map(|x| {
            let features = self.encoder.forward_t(&((x - 0.5) / 0.25), true);
            self.projector.forward_t(&features, true)
        });
        let loss = BarlowTwinsLoss { lambda: 1.0 / 128.0, ..Default::default() }.forward(&za, &zb)?.total;
        self.optimizer.zero_grad();
        loss.backward();
        self.optimizer.step(2e-3)?;
        Ok(loss.double_value(&[]))
    }

    fn epoch(&mut self) -> Result<f64> {
        let mut order: Vec<i64> = (0..self.images.size()[0]).collect();
        order.shuffle(&mut self.rng);
        order.chunks_exact(BATCH as usize).try_fold(0.0, |_, index| self.step(index))
    }
}

/// Sizes of the preference experiments at `small`: pairs, of which a step takes so many, the decoder, tokens of a prompt.
const PAIRS: usize = 300;
const PAIRS_OF_STEP: usize = 32;
const VOCAB: i64 = 40;
const PROMPT: usize = 5;

/// DPO as in the preference reproductions at `small`, beside the same loop with trl's function for the log-probabilities.
fn preference() -> Entry {
    let lengths: Vec<usize> = (0..2 * PAIRS).map(|i| 6 + i * 7 % 15).collect();
    let arguments = json!({
        "lengths": lengths, "batch": PAIRS_OF_STEP, "prompt": PROMPT, "vocabulary": VOCAB,
        "width": 64, "depth": 2, "heads": 4, "context": 64, "beta": 0.1, "lr": 5e-4,
    });
    let what = format!("a step of DPO on {PAIRS_OF_STEP} pairs of short answers as `rpo` has it at small");
    Entry::new("end-to-end/preference", what, move || dpo_training(&lengths))
        .beside_python("a plain loop with selective_log_softmax", "dpo_training", arguments)
        .counting(PAIRS_OF_STEP as f64, "pairs")
        .at_most(1.0)
}

/// The chosen answers come first in `lengths`, then the rejected ones.
fn dpo_training(lengths: &[usize]) -> Result<Work> {
    tch::manual_seed(0);
    let vs = VarStore::new(Device::Cpu);
    let model = Gpt::new(vs.root(), &GptConfig::gpt2(VOCAB, 64, 64, 2, 4))?;
    let longest = PROMPT + lengths.iter().max().map_or(0, |l| *l);
    let drawn = scrambled(&[lengths.len() as i64, longest as i64], 0.0, Kind::Double).abs() * VOCAB as f64;
    let rows: Vec<Vec<i64>> = drawn.to_kind(Kind::Int64).try_into()?;
    let parts = rows.iter().zip(lengths).map(|(row, &length)| row[..PROMPT + length].split_at(PROMPT));
    let (tokens, response) = pad_responses(parts, 0, Device::Cpu)?;
    let log_probs = move |model: &Gpt, rows: &Tensor| -> Result<PairLogProbs> {
        let of = |t: &Tensor| t.index_select(0, rows);
        let each = response_log_probs(model, &of(&tokens), &of(&response))?;
        Ok(PairLogProbs::halves(&each.sum_dim_intlist([1i64].as_slice(), false, Kind::Float))?)
    };
    let everything = Tensor::arange(2 * PAIRS as i64, (Kind::Int64, Device::Cpu));
    let reference = tch::no_grad(|| log_probs(&model, &everything))?;
    let mut optimizer = Optimizer::new(Rule::AdamW(Adam::default()), vec![Group::all(&vs, 0.0)])?;
    let mut rng = rng(0, &["pairs"]);
    let mut order: Vec<i64> = (0..PAIRS as i64).collect();
    Ok(Box::new(move || {
        let _keeps_the_weights = &vs;
        let (index, _) = order.partial_shuffle(&mut rng, PAIRS_OF_STEP);
        let index = Tensor::from_slice(index);
        let policy = log_probs(&model, &Tensor::cat(&[&index, &(&index + PAIRS as i64)], 0))?;
        let of = |t: &Tensor| t.index_select(0, &index);
        let reference = PairLogProbs::new(of(&reference.chosen), of(&reference.rejected))?;
        let loss = dpo(&policy.margin(&reference)?, 0.1)?.mean(Kind::Float);
        optimizer.zero_grad();
        loss.backward();
        let _norm = optimizer.clip_grad_norm(1.0)?;
        optimizer.step(5e-4)?;
        Ok(loss.double_value(&[]))
    }))
}

/// Start-up of the program: the list of papers. Most of it is libtorch's own start, about 0.2 s; `cargo xtask reproduce --list`
/// gives the same list without it.
fn list(program: PathBuf) -> Entry {
    let ours = || {
        Ok(Box::new(move || {
            let output = Command::new(&program).arg("--list").output()?;
            ensure!(output.status.success(), "`reproduce --list` ended with {}", output.status);
            Ok(output.stdout.iter().filter(|b| **b == b'\n').count() as f64)
        }) as Work)
    };
    Entry::new("end-to-end/list", "start-up: `reproduce --list`", ours).elsewhere().within_seconds(0.5)
}

/// A run of an experiment from nothing to its verdicts, by as many processes of one thread as the suite has threads.
fn smoke(program: PathBuf, threads: usize) -> Entry {
    let ours = move || {
        Ok(Box::new(move || {
            let out = tempfile::tempdir()?;
            let mut command = Command::new(&program);
            command.args(["teacher-guidance", "--scale", "smoke", "--dataset", "digits", "--jobs"]);
            let output = command.arg(threads.to_string()).arg("--out").arg(out.path()).output()?;
            ensure!(
                output.status.success(),
                "the run of teacher-guidance ended with {}: {}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            );
            Ok(1.0)
        }) as Work)
    };
    Entry::new("end-to-end/teacher-guidance-smoke", "`reproduce teacher-guidance --scale smoke` to its verdicts", ours)
        .elsewhere()
        .within_seconds(20.0)
}
