//! Hand-computed values, golden values of PyTorch, identities of the learners, and what a class-incremental learner must and must not do.

mod adapters;
mod memory;

use autodidact_core::nn::VitConfig;
use autodidact_core::testing::{assert_close, check_gradient, fixture};
use autodidact_unlearning::model_surgery::*;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tch::{Device, Kind, Tensor};

const F32: (Kind, Device) = (Kind::Float, Device::Cpu);
const F64: (Kind, Device) = (Kind::Double, Device::Cpu);

/// Holds libtorch's generator, which all threads share: learners seed it and go on drawing.
fn alone() -> MutexGuard<'static, ()> {
    static GENERATOR: Mutex<()> = Mutex::new(());
    GENERATOR.lock().unwrap_or_else(PoisonError::into_inner)
}

fn golden() -> BTreeMap<String, Tensor> {
    fixture(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/model_surgery.safetensors"))
}

fn tiny() -> VitConfig {
    VitConfig { side: 8, patch: 4, channels: 1, width: 16, depth: 2, heads: 2, mlp_ratio: 2, ..Default::default() }
}

fn backbone() -> AdaptedVit {
    tch::manual_seed(3);
    AdaptedVit::fresh(&tiny(), Device::Cpu).unwrap()
}

fn small() -> AdapterConfig {
    AdapterConfig { rank: 4, scale: 1.0, dropout: 0.1 }
}

fn training(epochs: usize) -> TaskTraining {
    TaskTraining { epochs, batch: 8, lr: 0.05, ..Default::default() }
}

/// Tasks of two classes with `n` images each: noise around a picture per class.
fn task(task: i64, n: i64) -> (Tensor, Tensor) {
    tch::manual_seed(100);
    let pictures = Tensor::randn([10, 1, 8, 8], F32);
    tch::manual_seed(200 + task);
    let labels = Tensor::arange(2 * n, (Kind::Int64, Device::Cpu)).remainder(2) + 2 * task;
    (pictures.index_select(0, &labels) + Tensor::randn([2 * n, 1, 8, 8], F32) * 0.3, labels)
}

fn fast(epochs: usize) -> MosConfig {
    let alignment = Alignment { epochs: 5, samples: 20, lr: 0.02, ..Default::default() };
    MosConfig { adapter: small(), training: training(epochs), alignment: Some(alignment), ..Default::default() }
}

/// Adapters whose entries all have one value.
fn filled(value: f64) -> AdapterSet {
    let config = AdapterConfig { rank: 1, ..Default::default() };
    let fresh = AdapterSet::fresh(2, 3, config, Device::Cpu).unwrap();
    AdapterSet::of(fresh.tensors().each_ref().map(|t| Tensor::full_like(t, value)), config).unwrap()
}

fn entry(set: &AdapterSet) -> f64 {
    let all: Vec<Tensor> = set.tensors().iter().map(|t| t.flatten(0, -1)).collect();
    let all = Tensor::cat(&all, 0);
    assert!((all.max() - all.min()).double_value(&[]) < 1e-6);
    all.double_value(&[0])
}

#[test]
fn one_task_needs_no_surgery() {
    let _generator = alone();
    let net = backbone();
    let (images, labels) = task(0, 12);
    let mut mos = Mos::new(&net, fast(2)).unwrap();
    assert!(mos.predict(&images).is_err());
    mos.observe_task(&images, &labels).unwrap();
    let mut without = Mos::new(&net, MosConfig { alpha: 0.0, alignment: None, ..fast(2) }).unwrap();
    without.observe_task(&images, &labels).unwrap();
    // No merging and no alignment with a single task, and it is always retrieved, at once.
    assert_eq!(mos.predict(&images).unwrap(), without.predict(&images).unwrap());
    let features = mos.features(&images).unwrap();
    let decision = mos.decide(&features, mos.inference()).unwrap();
    assert_eq!(decision.path, Tensor::zeros([24, 4], (Kind::Int64, Device::Cpu)));
    assert_eq!(decision.iterations, Tensor::ones([24], (Kind::Int64, Device::Cpu)));
    assert_eq!(decision.scores, mos.predict(&images).unwrap());
}

#[test]
fn every_learner_learns_and_repeats_itself() {
    let _generator = alone();
    let net = backbone();
    let before = net.weights();
    let (adapter, fit) = (small(), training(6));
    let slca =
        SlcaConfig { training: TaskTraining { lr: 0.1, ..SlcaConfig::default().training }, ..Default::default() };
    let make = |name: &str| -> Box<dyn CilLearner + '_> {
        match name {
            "finetune" => Box::new(Finetune::new(&net, fit).unwrap()),
            "lwf" => Box::new(Lwf::new(&net, fit, 2.0, 3.0).unwrap()),
            "slca" => Box::new(
                Slca::new(&net, SlcaConfig { training: TaskTraining { epochs: 6, batch: 8, ..slca.training }, ..slca })
                    .unwrap(),
            ),
            "adapter" => Box::new(FinetuneAdapter::new(&net, adapter, fit).unwrap()),
            "simple" => Box::new(SimpleCil::new(&net)),
            "aper" => Box::new(Aper::new(&net, adapter, fit).unwrap()),
            "ease" => Box::new(Ease::new(&net, adapter, fit, 0.1).unwrap()),
            _ => Box::new(Mos::new(&net, fast(6)).unwrap()),
        }
    };
    let run = |name: &str| {
        let mut learner = make(name);
        let mut metrics = CilMetrics::default();
        let (mut images, mut labels) = (vec![], vec![]);
        let mut last = Tensor::new();
        for t in 0..3 {
            let (x, y) = task(t, 16);
            learner.observe_task(&x, &y).unwrap();
            images.push(x);
            labels.push(y);
            last = learner.predict(&Tensor::cat(&images, 0)).unwrap();
            let of_classes = learner.tasks().of_classes(Device::Cpu);
            metrics.record(&last.argmax(1, false), &Tensor::cat(&labels, 0), &of_classes).unwrap();
        }
        (metrics, last)
    };
    for name in ["finetune", "lwf", "slca", "adapter", "simple", "aper", "ease", "mos"] {
        let (metrics, scores) = run(name);
        assert!(metrics.curve()[0] > 90.0, "{name}: {:?}", metrics.curve());
        let enough = match name {
            "finetune" | "lwf" | "adapter" => 20.0,
            "slca" => 60.0,
            _ => 80.0,
        };
        assert!(metrics.last() > enough, "{name}: {:?}", metrics.curve());
        assert_eq!(run(name).1, scores, "{name} repeats itself");
    }
    // Fine-tuning forgets more.
    assert!(run("adapter").0.forgetting() > run("mos").0.forgetting());
    assert!(before.iter().all(|(name, w)| net.weights()[name] == *w), "the backbone is not changed");
}

#[test]
fn merging_keeps_adapters_together_and_goes_on_from_the_last() {
    let _generator = alone();
    let net = backbone();
    let run = |config: MosConfig| {
        let mut mos = Mos::new(&net, config).unwrap();
        for t in 0..2 {
            let (x, y) = task(t, 12);
            mos.observe_task(&x, &y).unwrap();
        }
        mos
    };
    let distance = |mos: &Mos<'_>| mos.bank().sets()[1].distance(&mos.bank().sets()[0]).unwrap();
    let base = fast(4);
    let (free, merged) = (run(MosConfig { alpha: 0.0, ..base }), run(base));
    let official = run(MosConfig { merge: MergeSchedule::OfficialPerBlock, ..base });
    assert!(distance(&free) > distance(&merged) && distance(&merged) > distance(&official));
    assert!(distance(&official) > 0.0);
    assert_eq!(distance(&run(MosConfig { alpha: 1.0, ..base })), 0.0);
    // Without steps the second adapter is the first.
    let still = run(fast(0));
    assert_eq!(distance(&still), 0.0);
    // Prediction leaves the bank alone, unless it is told otherwise.
    let test = task(0, 4).0;
    let mut merged = merged;
    let before = distance(&merged);
    let _ = merged.predict(&test).unwrap();
    assert_eq!(distance(&merged), before);
    let mut mutating = run(MosConfig { eval_mutates: true, ..base });
    let before = distance(&mutating);
    let _ = mutating.predict(&test).unwrap();
    assert!((distance(&mutating) / before - 0.9).abs() < 1e-3);
    // What the true task is worth: no other class can win.
    let features = merged.features(&test).unwrap();
    let tasks = Tensor::zeros([8], (Kind::Int64, Device::Cpu));
    let within = merged.within_task(&features, &tasks).unwrap();
    assert!(within.argmax(1, false).max().int64_value(&[]) < 2);
    assert!(merged.decide(&features.narrow(1, 0, 1), merged.inference()).is_err());
}

#[test]
fn curves_and_forgetting_follow_from_counts() {
    let _generator = alone();
    let of_classes = Tensor::from_slice(&[0i64, 0, 1, 2]);
    let record = |m: &mut CilMetrics, predicted: &[i64], labels: &[i64]| {
        m.record(&Tensor::from_slice(predicted), &Tensor::from_slice(labels), &of_classes)
    };
    let mut metrics = CilMetrics::default();
    assert!(metrics.last().is_nan() && metrics.average().is_nan());
    record(&mut metrics, &[0, 1, 1, 0], &[0, 1, 1, 1]).unwrap();
    assert_eq!((metrics.last(), metrics.forgetting()), (75.0, 0.0));
    record(&mut metrics, &[0, 1, 1, 1, 2, 0], &[0, 1, 1, 1, 2, 2]).unwrap();
    record(&mut metrics, &[0, 3, 3, 3, 2, 2, 3], &[0, 1, 1, 1, 2, 2, 3]).unwrap();
    assert_eq!(metrics.by_task(), [vec![75.0], vec![100.0, 50.0], vec![25.0, 100.0, 100.0]]);
    // The first task lost 75 points of its best, the second none.
    assert_eq!(metrics.forgetting(), 37.5);
    assert!(record(&mut metrics, &[0], &[4]).is_err());
    assert!(record(&mut metrics, &[0, 1], &[0]).is_err());
}

#[test]
fn tasks_and_settings_that_cannot_be_are_refused() {
    let _generator = alone();
    let net = backbone();
    let (images, labels) = task(0, 6);
    let mut mos = Mos::new(&net, fast(1)).unwrap();
    mos.observe_task(&images, &labels).unwrap();
    let again = mos.observe_task(&images, &labels).unwrap_err().to_string();
    assert_eq!(again, "labels of a new task: expected classes from 2 on, got 0");
    let gap = mos.observe_task(&images, &(&labels + 3)).unwrap_err().to_string();
    assert_eq!(gap, "samples of class 2: expected two or more, got 0");
    for config in [
        MosConfig { alpha: 1.1, ..fast(1) },
        MosConfig { tau: 0.0, ..fast(1) },
        MosConfig { reg: -1.0, ..fast(1) },
        MosConfig { max_iter: 0, ..fast(1) },
        MosConfig { adapter: AdapterConfig { rank: 0, ..small() }, ..fast(1) },
        MosConfig { adapter: AdapterConfig { dropout: 1.0, ..small() }, ..fast(1) },
        MosConfig { training: TaskTraining { batch: 0, ..training(1) }, ..fast(1) },
    ] {
        assert!(Mos::new(&net, config).is_err(), "{config:?}");
    }
    assert!(Lwf::new(&net, training(1), 0.0, 1.0).is_err());
    assert!(Ease::new(&net, small(), training(1), -0.1).is_err());
    let wide = AdapterSet::fresh(2, 8, small(), Device::Cpu).unwrap();
    assert!(net.features(&images, Some(&wide), false).unwrap_err().to_string().contains("[2, 4, 16]"));
    assert!(net.features_of_all(&images, &[]).is_err());
    let mut lost = Finetune::new(&net, TaskTraining { lr: 1e30, ..training(3) }).unwrap();
    assert!(lost.observe_task(&images, &labels).unwrap_err().to_string().contains("loss"));
}
