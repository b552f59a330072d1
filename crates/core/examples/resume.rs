//! Stops a run in the middle and continues it from its checkpoint: the parameters end bit for bit where the uninterrupted run's do.
//!
//! `cargo run --release -p autodidact-core --example resume -- [STEP]` stops at that step (137).
//!
//! The checkpoint holds the weights and the optimizer's whole state, Adam's moments included; batches and dropout follow from seed and step.

use anyhow::{Context, Result, bail, ensure};
use autodidact_core::nn::{Mlp, MlpConfig};
use autodidact_core::optim::{Adam, Group, Optimizer, Rule};
use autodidact_core::schedule::{Schedule, Shape};
use autodidact_core::train::{Order, TrainConfig, Trainer};
use autodidact_core::{Error, seed};
use std::path::Path;
use tch::nn::{ModuleT, VarStore};
use tch::{Device, Kind, Tensor};

const STEPS: usize = 300;
const SAVE_EVERY: usize = 50;

/// A run to the end, or to step `stop`, where it fails as a killed process would; returns where it started and its final weights.
fn train(checkpoint: &Path, stop: Option<usize>) -> Result<(usize, VarStore)> {
    let vs = VarStore::new(Device::Cpu);
    seed::seed_torch(0, &["weights"]);
    let net = Mlp::new(vs.root(), &MlpConfig { dropout: 0.1, ..MlpConfig::plain(&[2, 64, 64, 1]) })?;
    let optimizer = Optimizer::new(Rule::AdamW(Adam::default()), Group::split_decay(&vs, 1e-2))?;
    let mut config = TrainConfig::new(Schedule::new(3e-3, STEPS, Shape::cosine_to(0.0)).warmup(20), 7);
    config.checkpoint = Some((checkpoint.to_owned(), SAVE_EVERY));
    config.log_every = 100;
    // y = x0 x1 on a square of points.
    let side = Tensor::linspace(-1.0, 1.0, 32, (Kind::Float, Device::Cpu));
    let x = Tensor::cartesian_prod(&[&side, &side]);
    let y = x.select(1, 0) * x.select(1, 1);
    let order = Order::new(1024, 64, 7)?;

    let trainer = Trainer::new(config, &vs, optimizer)?;
    let start = trainer.next_step();
    let history = trainer.run(
        |step| {
            if Some(step.index) == stop {
                return Err(Error::Failed(format!("stopped at step {}", step.index)));
            }
            let rows = Tensor::from_slice(&order.batch(step.index));
            let predicted = net.forward_t(&x.index_select(0, &rows), true).squeeze_dim(1);
            Ok(predicted.mse_loss(&y.index_select(0, &rows), tch::Reduction::Mean))
        },
        |_| Ok(()),
    )?;
    let losses: Vec<_> = history.losses.iter().map(|p| format!("{:.5} at {}", p.loss, p.step)).collect();
    println!("from step {start}: losses {}", losses.join(", "));
    Ok((start, vs))
}

fn main() -> Result<()> {
    let stop: usize = std::env::args().nth(1).map_or(Ok(137), |a| a.parse()).context("the argument is a step")?;
    ensure!(stop < STEPS, "the run has {STEPS} steps, so it cannot stop at {stop}");
    let folder = tempfile::tempdir()?;
    let (_, whole) = train(&folder.path().join("whole.safetensors"), None)?;

    let checkpoint = folder.path().join("stopped.safetensors");
    match train(&checkpoint, Some(stop)) {
        Err(e) => println!("{e}"),
        Ok(_) => bail!("the run did not stop"),
    }
    let (start, resumed) = train(&checkpoint, None)?;
    let (whole, resumed) = (whole.variables(), resumed.variables());
    let same = whole.iter().filter(|(name, t)| t.equal(&resumed[*name])).count();
    println!("continued from step {start}: {same} of {} tensors equal bit for bit", whole.len());
    Ok(())
}
