//! The GPU beside the CPU. Without a GPU these tests pass with a word; `cargo xtask gpu-check` runs them on a pretended one.

use autodidact_core::device::{DeviceChoice, Precision, peak_memory_mb};
use autodidact_core::nn::{Gpt, GptConfig};
use autodidact_core::optim::{Adam, Group, Lars, Optimizer, Rule, Sgd};
use autodidact_core::schedule::{Decay, Schedule, Shape};
use autodidact_core::text::{Sampler, SamplerConfig, selected_log_probs};
use autodidact_core::train::{History, TrainConfig, Trainer};
use std::path::PathBuf;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

const STEPS: usize = 20;
const VOCABULARY: i64 = 17;

fn gpu() -> Option<Device> {
    let device = DeviceChoice::Cuda(0).resolve();
    if let Err(why) = &device {
        eprintln!("skipped: {why}");
    }
    device.ok()
}

/// The same on every device: weights are drawn on the CPU.
fn network(device: Device) -> (VarStore, Gpt) {
    tch::manual_seed(0);
    let mut vs = VarStore::new(Device::Cpu);
    let net = Gpt::new(vs.root(), &GptConfig::gpt2(VOCABULARY, 12, 16, 2, 2)).unwrap();
    vs.set_device(device);
    (vs, net)
}

fn tokens(step: usize) -> Tensor {
    (Tensor::arange(4 * 13, (Kind::Int64, Device::Cpu)) * 7 + step as i64).remainder(VOCABULARY).view([4, 13])
}

struct Run {
    history: History,
    weights: Vec<Tensor>,
    /// How often the host waited for the device, where that is counted.
    waits: Option<i64>,
}

fn train(device: Device, rule: Rule, precision: Precision, log_every: usize, checkpoint: Option<PathBuf>) -> Run {
    let (vs, net) = network(device);
    let optimizer = Optimizer::new(rule, Group::split_decay(&vs, 0.1)).unwrap();
    let schedule = Schedule::new(1e-2, STEPS, Shape::Decay { decay: Decay::Cosine, end: 0.0 }).warmup(4);
    let config = TrainConfig {
        accumulate: 2,
        clip_norm: Some(1.0),
        precision,
        log_every,
        checkpoint: checkpoint.map(|path| (path, 7)),
        ..TrainConfig::new(schedule, 0)
    };
    let batches: Vec<Tensor> = (0..STEPS).map(|step| tokens(step).to_device(device)).collect();
    let before = waits();
    let history = Trainer::new(config, &vs, optimizer)
        .unwrap()
        .run(|s| net.loss(&batches[s.index].narrow(1, 0, 12), &batches[s.index].narrow(1, 1, 12)), |_| Ok(()))
        .unwrap();
    let waits = waits().zip(before).map(|(now, before)| now - before);
    let mut weights: Vec<_> = vs.variables().into_iter().collect();
    weights.sort_by(|a, b| a.0.cmp(&b.0));
    Run { history, weights: weights.into_iter().map(|(_, w)| w.to_device(Device::Cpu)).collect(), waits }
}

/// Waits of the host that a pretended GPU has counted; a real one counts none.
#[cfg(unix)]
fn waits() -> Option<i64> {
    use libloading::os::unix::Library;
    let program = Library::this();
    // SAFETY: the stand-in for libtorch_cuda.so, loaded with global symbols, gives this function this type.
    unsafe { program.get::<unsafe extern "C" fn() -> i64>(b"pretend_gpu_waits").ok().map(|count| count()) }
}

#[cfg(not(unix))]
fn waits() -> Option<i64> {
    None
}

fn assert_close(a: f64, b: f64, what: &str) {
    assert!((a - b).abs() <= 1e-3 * a.abs().max(0.1), "{what}: {a} on the CPU, {b} on the GPU");
}

#[test]
fn every_rule_trains_as_on_the_cpu() {
    let Some(gpu) = gpu() else { return };
    let rules = [
        Rule::Sgd(Sgd { momentum: 0.9, nesterov: true }),
        Rule::Adam(Adam::default()),
        Rule::AdamW(Adam::default()),
        Rule::Lars(Lars::default()),
    ];
    for rule in rules {
        let [ours, other] = [Device::Cpu, gpu].map(|d| train(d, rule, Precision::F32, 1, None));
        for (a, b) in ours.history.losses.iter().zip(&other.history.losses) {
            assert_close(a.loss, b.loss, &format!("{rule:?}, step {}", a.step));
        }
    }
}

#[test]
fn autocast_is_that_of_the_device() {
    let Some(gpu) = gpu() else { return };
    let a = Tensor::rand([4, 4], (Kind::Float, gpu));
    assert_eq!(Precision::Bf16.run(gpu, || Ok(a.matmul(&a).kind())).unwrap(), Kind::BFloat16);
    assert_eq!(Precision::F32.run(gpu, || Ok(a.matmul(&a).kind())).unwrap(), Kind::Float);
    let [wide, narrow] =
        [Precision::F32, Precision::Bf16].map(|p| train(gpu, Rule::AdamW(Adam::default()), p, 1, None).history);
    assert_ne!(wide, narrow);
    for (a, b) in wide.losses.iter().zip(&narrow.losses) {
        assert!((a.loss - b.loss).abs() < 0.05, "step {}: {} in 32 bits, {} in bf16", a.step, a.loss, b.loss);
    }
}

#[test]
fn a_step_waits_for_the_device_only_where_it_logs() {
    let Some(gpu) = gpu() else { return };
    let [often, seldom] =
        [1, STEPS].map(|every| train(gpu, Rule::AdamW(Adam::default()), Precision::Bf16, every, None));
    if let (Some(often), Some(seldom)) = (often.waits, seldom.waits) {
        // The first and the last step log.
        assert_eq!((often, seldom), (STEPS as i64, 2));
    }
}

#[test]
fn a_run_goes_on_exactly_and_on_another_device() {
    let Some(gpu) = gpu() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    let rule = Rule::AdamW(Adam::default());
    let whole = train(gpu, rule, Precision::F32, 1, Some(path.clone()));
    // Its last checkpoint is that of step 14.
    let resumed = train(gpu, rule, Precision::F32, 1, Some(path.clone()));
    assert_eq!(whole.history, resumed.history);
    assert!(whole.weights.iter().zip(&resumed.weights).all(|(a, b)| a.equal(b)));
    let elsewhere = train(Device::Cpu, rule, Precision::F32, 1, Some(path));
    for (a, b) in elsewhere.history.losses.iter().zip(&whole.history.losses) {
        assert_close(a.loss, b.loss, "after the move");
    }
}

#[test]
fn log_probabilities_and_samples_are_those_of_the_cpu() {
    let Some(gpu) = gpu() else { return };
    let results = [Device::Cpu, gpu].map(|device| {
        let (_vs, net) = network(device);
        let x = tokens(0).to_device(device);
        let hidden = net.hidden(&x.narrow(1, 0, 12), None).unwrap();
        // A third of the targets is left out.
        let left_out = x.narrow(1, 0, 12).remainder(3).eq(0);
        let targets = x.narrow(1, 1, 12).masked_fill(&left_out, -1);
        let hidden = hidden.masked_fill(&left_out.unsqueeze(2), f64::NAN);
        let picked = selected_log_probs(&hidden, net.head(), &targets).unwrap();
        picked.sum(Kind::Float).backward();
        let config = SamplerConfig { temperature: 0.0, max_new: 5, ..SamplerConfig::default() };
        let sampled = Sampler::new(&net, config).unwrap().sample(&x.narrow(1, 0, 6)).unwrap();
        (picked, net.head().grad(), sampled)
    });
    let [(p, g, s), (q, h, t)] = results;
    let near = |a: &Tensor, b: &Tensor| a.allclose(&b.to_device(Device::Cpu), 1e-3, 1e-4, false);
    assert!(near(&p, &q) && near(&g, &h));
    assert_eq!(Vec::<Vec<i64>>::try_from(s).unwrap(), Vec::<Vec<i64>>::try_from(t.to_device(Device::Cpu)).unwrap());
}

#[test]
fn tensors_on_two_devices_are_an_error_that_says_so() {
    let Some(gpu) = gpu() else { return };
    let (_vs, net) = network(gpu);
    let hidden = Tensor::zeros([4, 12, 16], (Kind::Float, gpu));
    let e = selected_log_probs(&hidden, net.head(), &tokens(0).narrow(1, 1, 12)).unwrap_err().to_string();
    assert!(e.contains("device"), "{e}");
}

#[test]
fn memory_is_that_of_the_device() {
    let Some(gpu) = gpu() else { return };
    let t = Tensor::ones([8_000_000], (Kind::Float, gpu));
    let with = peak_memory_mb(gpu);
    assert!((32.0..1000.0).contains(&with), "{with}");
    drop(t);
}
