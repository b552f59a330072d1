//! Checkpoints that a run must not continue from.

use autodidact_core::Result;
use autodidact_core::nn::{Mlp, MlpConfig};
use autodidact_core::optim::{Adam, Group, Optimizer, Rule, Sgd};
use autodidact_core::schedule::{Schedule, Shape};
use autodidact_core::train::{History, TrainConfig, Trainer};
use std::path::Path;
use tch::nn::{ModuleT, VarStore};
use tch::{Device, Kind, Tensor};

const WIDTHS: [i64; 3] = [4, 8, 2];

fn adam() -> Rule {
    Rule::AdamW(Adam::default())
}

/// Six steps with a checkpoint after every second; `stop` ends the run early, as an error does.
fn train(path: &Path, widths: &[i64], rule: Rule, seed: u64, stop: Option<usize>) -> Result<(usize, History)> {
    let vs = VarStore::new(Device::Cpu);
    tch::manual_seed(0);
    let net = Mlp::new(vs.root(), &MlpConfig::plain(widths))?;
    let optimizer = Optimizer::new(rule, vec![Group::all(&vs, 0.0)])?;
    let schedule = Schedule::new(1e-2, 6, Shape::Constant);
    let config = TrainConfig { log_every: 1, checkpoint: Some((path.into(), 2)), ..TrainConfig::new(schedule, seed) };
    let trainer = Trainer::new(config, &vs, optimizer)?;
    let from = trainer.next_step();
    let history = trainer.run(
        |_| {
            Ok(net
                .forward_t(&Tensor::rand([16, widths[0]], (Kind::Float, Device::Cpu)), true)
                .square()
                .mean(Kind::Float))
        },
        |mut p| {
            p.log("weights", p.vs.variables().values().map(|t| t.norm().double_value(&[])).fold(0.0, f64::max))?;
            match stop {
                Some(stop) if p.done == stop => Err(autodidact_core::Error::Failed("stopped".into())),
                _ => Ok(()),
            }
        },
    )?;
    Ok((from, history))
}

/// A run stopped after its fifth step, whose last checkpoint is that of the fourth.
fn stopped(path: &Path) {
    assert_eq!(train(path, &WIDTHS, adam(), 0, Some(5)).unwrap_err().to_string(), "stopped");
}

fn refusal(path: &Path, widths: &[i64], rule: Rule, seed: u64) -> String {
    let e = train(path, widths, rule, seed, None).unwrap_err().to_string();
    assert!(e.starts_with(&path.display().to_string()) && e.ends_with("remove the file to start this run over"), "{e}");
    e
}

#[test]
fn a_stopped_run_goes_on_from_its_last_checkpoint_with_all_that_it_logged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stopped");
    stopped(&path);
    let (from, history) = train(&path, &WIDTHS, adam(), 0, None).unwrap();
    let (start, whole) = train(&folder.path().join("whole"), &WIDTHS, adam(), 0, None).unwrap();
    assert_eq!((from, start), (4, 0));
    assert_eq!(history, whole);
    assert!(history.losses.len() == 6 && history.logged.iter().map(|l| l.done).eq(1..=6), "{history:?}");
}

#[test]
fn the_checkpoint_of_another_run_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    stopped(&path);
    assert!(refusal(&path, &[4, 9, 2], adam(), 0).contains("that of another network"));
    assert!(refusal(&path, &[4, 8, 8, 2], adam(), 0).contains("that of another network"));
    assert!(refusal(&path, &WIDTHS, Rule::Sgd(Sgd::default()), 0).contains("that of another one"));
    assert!(refusal(&path, &WIDTHS, adam(), 1).contains("\"seed\":0"));
    let other = Rule::AdamW(Adam { betas: (0.9, 0.95), ..Default::default() });
    assert!(refusal(&path, &WIDTHS, other, 0).contains("0.95"));
    // And none of them did it harm.
    assert_eq!(train(&path, &WIDTHS, adam(), 0, None).unwrap().0, 4);
}

#[test]
fn a_truncated_or_overwritten_checkpoint_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    stopped(&path);
    let whole = std::fs::read(&path).unwrap();
    for len in [0, 7, 100, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..len]).unwrap();
        assert!(refusal(&path, &WIDTHS, adam(), 0).contains("expected a whole safetensors file"), "{len} bytes");
    }
    std::fs::write(&path, vec![0xa5; whole.len()]).unwrap();
    assert!(refusal(&path, &WIDTHS, adam(), 0).contains("expected a whole safetensors file"));
}
