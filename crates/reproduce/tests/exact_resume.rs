//! A training run that is killed again and again, by SIGKILL and from outside, ends with the very parameters and losses of
//! the run that nobody disturbed.
//!
//! The child process is this test binary itself: a test that finds [`FOLDER`] in its environment trains there.

#![cfg(unix)]

use autodidact_core::nn::{ConvNet, ConvNetConfig, ConvNetHead};
use autodidact_core::optim::{Adam, Group, Lars, Optimizer, Rule, Sgd};
use autodidact_core::schedule::{Schedule, Shape};
use autodidact_core::seed;
use autodidact_core::train::{Checkpoint, History, TrainConfig, Trainer};
use autodidact_datasets::augment::barlow_twins_small_digits;
use autodidact_datasets::batch::Batches;
use autodidact_datasets::image::digits;
use rand::RngExt;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use tch::nn::{self, Module, ModuleT, VarStore};
use tch::{Device, Kind, Tensor};

const FOLDER: &str = "EXACT_RESUME_FOLDER";
const STEPS: usize = 200;
const KILLS: usize = 20;
const ACCUMULATE: usize = 2;

#[test]
fn sgd_survives_twenty_kills() {
    survives("sgd_survives_twenty_kills", Rule::Sgd(Sgd { momentum: 0.9, nesterov: true }), 0.05);
}

#[test]
fn adamw_survives_twenty_kills() {
    survives("adamw_survives_twenty_kills", Rule::AdamW(Adam::default()), 2e-3);
}

#[test]
fn lars_survives_twenty_kills() {
    survives("lars_survives_twenty_kills", Rule::Lars(Lars { momentum: 0.9, eta: 0.02 }), 0.5);
}

struct Network {
    trunk: ConvNet,
    head: nn::Linear,
    /// Trained on every seventh step only: between them its gradient is zero, and its momentum still moves it.
    rare: nn::Linear,
}

impl Network {
    fn new(vs: &VarStore) -> Self {
        let config = ConvNetConfig { channels: 1, blocks: vec![(8, 1), (8, 2)], head: ConvNetHead::GlobalMean };
        let head = |name: &str| nn::linear(vs.root() / name, 8, 10, Default::default());
        Self { trunk: ConvNet::new(vs.root() / "trunk", &config).unwrap(), head: head("head"), rare: head("rare") }
    }
}

/// Everything that could make two runs differ: shuffled order, augmentation, dropout, batch norm, an average of the
/// weights, accumulation, clipping, a schedule, a part of the network without a gradient on most steps.
fn train(folder: &Path, rule: Rule, lr: f64) {
    tch::set_num_threads(1);
    let (vs, mut average) = (VarStore::new(Device::Cpu), VarStore::new(Device::Cpu));
    tch::manual_seed(3);
    let network = Network::new(&vs);
    Network::new(&average);
    let batches = Batches::new(digits(), 32, 7).unwrap();
    let augmentation = barlow_twins_small_digits();
    let optimizer = Optimizer::new(rule, Group::split_decay(&vs, 1e-3)).unwrap();
    let schedule = Schedule::new(lr, STEPS, Shape::cosine_to(0.01)).warmup(10);
    let config = TrainConfig {
        accumulate: ACCUMULATE,
        clip_norm: Some(1.0),
        log_every: 5,
        checkpoint: Some((folder.join("checkpoint"), 3)),
        ..TrainConfig::new(schedule, 11)
    };
    let trainer = Trainer::new(config, &vs, optimizer).unwrap().with_ema(&mut average, 0.9).unwrap();
    println!("\nfrom {}", trainer.next_step());
    let history = trainer.run(
        |step| {
            let batch = batches.get(step.index * ACCUMULATE + step.micro)?;
            let images = augmentation.apply(&batch.images, &mut step.rng("augmentation"))?;
            let features = network.trunk.forward_t(&images, true).dropout(0.2, true);
            let loss = network.head.forward(&features).cross_entropy_for_logits(&batch.labels);
            let rarely = || network.rare.forward(&features).cross_entropy_for_logits(&batch.labels);
            Ok(if step.index % 7 == 0 { loss + rarely() } else { loss })
        },
        |p| {
            println!("step {}", p.done);
            std::thread::sleep(Duration::from_millis(1));
            Ok(())
        },
    );
    let mut end = Checkpoint::default();
    end.insert("model", vs.variables());
    end.insert("average", average.variables());
    end.set("history", &history.unwrap()).unwrap();
    end.save(&folder.join("end")).unwrap();
}

/// One life of the training process: killed `after` so many steps and a little (microseconds), or left to finish.
/// Returns the step it started from and whether it was killed.
fn live(test: &str, folder: &Path, kill: Option<(usize, u64)>) -> (usize, bool) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut from, mut steps) = (None, 0);
    for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
        if let Some(step) = line.strip_prefix("from ") {
            from = Some(step.parse().unwrap());
        }
        steps += usize::from(line.starts_with("step "));
        if let Some((_, micros)) = kill.filter(|(after, _)| *after == steps) {
            std::thread::sleep(Duration::from_micros(micros));
            child.kill().unwrap();
            assert!(!child.wait().unwrap().success());
            return (from.unwrap(), true);
        }
    }
    assert!(child.wait().unwrap().success(), "{test}: the training process failed");
    (from.unwrap(), false)
}

fn survives(test: &str, rule: Rule, lr: f64) {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return train(Path::new(&folder), rule, lr);
    }
    let folder = tempfile::tempdir().unwrap();
    let (calm, stormy) = (folder.path().join("calm"), folder.path().join("stormy"));
    live(test, &calm, None);
    let mut rng = seed::rng(0, &[test]);
    let mut starts = vec![];
    for _ in 0..KILLS {
        let (from, killed) = live(test, &stormy, Some((rng.random_range(1..10), rng.random_range(0..8000))));
        assert!(killed, "the run ended before it was killed {KILLS} times: {starts:?}");
        starts.push(from);
    }
    starts.push(live(test, &stormy, None).0);
    assert!(starts.is_sorted() && starts[KILLS] > 20 && starts.iter().all(|s| s % 3 == 0), "{starts:?}");

    let [calm, stormy] = [calm, stormy].map(|f| Checkpoint::load(&f.join("end"), Device::Cpu).unwrap());
    let (a, b) = (calm.get::<History>("history").unwrap(), stormy.get::<History>("history").unwrap());
    assert_eq!(a, b, "{test}: losses");
    assert!(a.losses.len() == STEPS / 5 + 1 && a.losses[40].loss < a.losses[0].loss, "{test} learns nothing: {a:?}");
    assert!(calm.all().keys().eq(stormy.all().keys()));
    for (name, tensor) in calm.all() {
        assert_eq!(bits(&tensor), bits(&stormy.all()[&name]), "{test}: {name}");
    }
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    assert_eq!(tensor.kind(), Kind::Float);
    let values: Vec<f32> = tensor.flatten(0, -1).try_into().unwrap();
    values.into_iter().map(f32::to_bits).collect()
}
