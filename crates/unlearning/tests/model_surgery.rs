//! Hand-computed values, golden values of PyTorch, identities of the learners, and what a class-incremental learner must and must not do.

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
fn fresh_adapters_change_nothing_and_trained_ones_do() {
    let _generator = alone();
    let net = backbone();
    let images = task(0, 5).0;
    let plain = net.features(&images, None, false).unwrap();
    let adapters = net.adapters(small()).unwrap();
    assert_eq!(net.features(&images, Some(&adapters), false).unwrap(), plain);
    assert_eq!(net.features(&images, Some(&adapters), true).unwrap(), plain);
    let tensors = adapters.tensors().each_ref().map(|t| Tensor::randn_like(t) * 0.3);
    let moved = AdapterSet::of(tensors, small()).unwrap();
    let with = net.features(&images, Some(&moved), false).unwrap();
    assert!((&with - &plain).abs().max().double_value(&[]) > 0.01);
    // All sets at once are the sets one by one.
    let all = net.features_of_all(&images, &[adapters, moved.copy()]).unwrap();
    assert_close("first", &all.select(1, 0), &plain, 1e-5);
    assert_close("second", &all.select(1, 1), &with, 1e-5);
    // Dropout acts in training alone.
    let train = || net.features(&images, Some(&moved), true).unwrap();
    assert_ne!(train(), train());
    assert_eq!(net.features(&images, Some(&moved), false).unwrap(), with);
}

#[test]
fn a_block_with_an_adapter_is_that_of_pytorch() {
    let _generator = alone();
    let golden = golden();
    let names: BTreeMap<String, Tensor> =
        golden.iter().filter_map(|(n, t)| Some((n.strip_prefix("vit.")?.to_owned(), t.shallow_clone()))).collect();
    let config = VitConfig { depth: 1, heads: 4, ..tiny() };
    let net = AdaptedVit::new(&config, &names, Device::Cpu).unwrap();
    let adapter = AdapterConfig { rank: 3, scale: 0.7, dropout: 0.0 };
    let set = AdapterSet::of([0, 1, 2, 3].map(|i| golden[&format!("adapter.{i}")].shallow_clone()), adapter).unwrap();
    let images = &golden["block.images"];
    assert_close("plain", &net.features(images, None, false).unwrap(), &golden["block.plain"], 1e-5);
    assert_close("adapted", &net.features(images, Some(&set), false).unwrap(), &golden["block.adapted"], 1e-5);
    let all = net.features_of_all(images, &[set]).unwrap();
    assert_close("adapted", &all.select(1, 0), &golden["block.adapted"], 1e-5);
}

#[test]
fn merging_has_the_known_values() {
    let _generator = alone();
    let mut bank = AdapterBank::default();
    let mut current = filled(4.0);
    bank.merge(&mut current, 0.5).unwrap();
    assert_eq!(entry(&current), 4.0, "nothing to merge with");
    bank.push(&filled(1.0)).unwrap();
    bank.push(&filled(3.0)).unwrap();
    assert_eq!(entry(bank.mean_of_previous().unwrap()), 2.0);
    for (from, alpha, expected) in [(2.0, 0.1, 2.0), (5.0, 0.1, 4.7), (5.0, 0.0, 5.0), (5.0, 1.0, 2.0)] {
        let mut current = filled(from);
        bank.merge(&mut current, alpha).unwrap();
        assert!((entry(&current) - expected).abs() < 1e-6, "{from} {alpha}");
    }
    // Twelve pulls at once are twelve pulls.
    let expected = 2.0 + 3.0 * 0.9f64.powi(12);
    assert!((expected - 2.84729).abs() < 1e-5);
    let (mut one, mut many) = (filled(5.0), filled(5.0));
    one.pull(bank.mean_of_previous().unwrap(), 0.1, 12).unwrap();
    (0..12).for_each(|_| bank.merge(&mut many, 0.1).unwrap());
    assert!((entry(&one) - expected).abs() < 1e-5 && (entry(&many) - expected).abs() < 1e-5);
    // 4 tensors with 2 * (3 + 1 + 3 + 3) entries that differ by 3.
    assert!((filled(1.0).distance(&filled(4.0)).unwrap() - (20.0f64 * 9.0).sqrt()).abs() < 1e-5);
    assert!(filled(1.0).pull(&filled(2.0), 1.5, 1).is_err());
    // Evaluation as the official code has it: the second is pulled to the first, the third to the mean of both.
    bank.push(&filled(6.0)).unwrap();
    bank.pull_all(0.5, 1).unwrap();
    let values: Vec<f64> = bank.sets().iter().map(entry).collect();
    assert!(values.iter().zip([1.0, 2.0, 3.75]).all(|(v, w)| (v - w).abs() < 1e-6), "{values:?}");
    assert!((entry(bank.mean_of_previous().unwrap()) - 2.25).abs() < 1e-6);
}

#[test]
fn kept_adapters_are_copies() {
    let _generator = alone();
    let mut bank = AdapterBank::default();
    let mut set = filled(1.0);
    bank.push(&set).unwrap();
    set.pull(&filled(9.0), 1.0, 1).unwrap();
    assert_eq!((entry(&set), entry(&bank.sets()[0])), (9.0, 1.0));
    assert_eq!(entry(bank.mean_of_previous().unwrap()), 1.0);
    let other = AdapterSet::fresh(3, 3, *set.config(), Device::Cpu).unwrap();
    assert!(bank.push(&other).is_err());
}

#[test]
fn the_orthogonality_loss_is_that_of_pytorch() {
    let _generator = alone();
    let golden = golden();
    let (batch, means) = (&golden["orth.batch"], &golden["orth.means"]);
    let leaf = batch.copy().set_requires_grad(true);
    let loss = orth_loss(&leaf, Some(means), 0.8).unwrap();
    loss.backward();
    assert_close("loss", &loss, &golden["orth.loss"], 1e-12);
    assert_close("gradient", &leaf.grad(), &golden["orth.gradient"], 1e-10);
    check_gradient(batch, 1e-6, |x| orth_loss(x, Some(means), 0.8).unwrap());
    // A single row is nearest to itself.
    assert_eq!(orth_loss(&Tensor::ones([1, 4], F64), None, 0.8).unwrap().double_value(&[]), 0.0);
    assert!(orth_loss(batch, Some(&Tensor::zeros([2, 3], F64)), 0.8).unwrap_err().to_string().contains("[K, 4]"));
    assert!(orth_loss(batch, None, 0.0).is_err());
}

#[test]
fn retrieval_refines_until_it_agrees_or_four_adapters_were_tried() {
    let _generator = alone();
    // With the identity as classifier a feature is its logits. Two tasks of one class each.
    let head = LinearHead::of(Tensor::eye(2, F32), Tensor::zeros([2], F32)).unwrap();
    let tasks = Tensor::from_slice(&[0i64, 1]);
    let features = Tensor::from_slice(
        &[
            // Adapter 0 says 0: a fixed point.
            [1.0f32, 0.0, 0.0, 1.0],
            // 0 says 1 and 1 says 0: a cycle.
            [0.0, 1.0, 1.0, 0.1],
            // 0 says 1 and 1 agrees.
            [0.3, 0.7, 0.2, 0.8],
        ]
        .concat(),
    )
    .view([3, 2, 2]);
    let first = Tensor::from_slice(&[0i64, 0, 0]);
    let refined = self_refine(&features, &head, &tasks, &first, 4).unwrap();
    let ints = |t: &Tensor| Vec::<i64>::try_from(t.flatten(0, -1)).unwrap();
    assert_eq!(ints(&refined.iterations), [1, 4, 2]);
    assert_eq!(ints(&refined.path), [0, 0, 0, 0, 0, 1, 0, 1, 0, 1, 1, 1]);
    assert_eq!(ints(&refined.task), [0, 1, 1]);
    // Of the adapter that was evaluated last, not of the one it names.
    assert_eq!(refined.logits, Tensor::from_slice2(&[[1.0f32, 0.0], [1.0, 0.1], [0.2, 0.8]]));
    let once = self_refine(&features, &head, &tasks, &first, 1).unwrap();
    assert_eq!((ints(&once.task), ints(&once.iterations)), (vec![0, 0, 0], vec![1, 1, 1]));
    let bad = Tensor::from_slice(&[0i64, 2, 0]);
    assert!(self_refine(&features, &head, &tasks, &bad, 4).unwrap_err().to_string().contains("first tasks"));
    assert!(self_refine(&features, &head, &tasks, &first, 0).is_err());
    assert!(self_refine(&features, &head, &first, &first, 4).is_err());
}

#[test]
fn both_stages_are_added() {
    let _generator = alone();
    let (l, orig) = (Tensor::from_slice2(&[[2f64, 1.0, 0.0]]), Tensor::from_slice2(&[[0.9f64, 0.5, 0.1]]));
    let scores = two_stage_ensemble(&l, &orig, 3).unwrap();
    assert_close("scores", &scores, &Tensor::from_slice2(&[[1.38368f64, 0.46112, 0.15520]]), 1e-5);
    assert!(two_stage_ensemble(&l, &orig.narrow(1, 0, 2), 3).is_err());
    assert!(two_stage_ensemble(&l, &orig, 0).is_err());
}

#[test]
fn memories_have_the_densities_of_pytorch() {
    let _generator = alone();
    let golden = golden();
    let (features, points) = (&golden["memory.features"], &golden["memory.points"]);
    for (kind, name) in [(MemoryKind::Full, "full"), (MemoryKind::Diagonal, "diagonal"), (MemoryKind::Centroids(1), "")]
    {
        let mut memory = GaussianMemory::new(kind, 1e-2).unwrap();
        memory.fit(features).unwrap();
        if let Some(density) = golden.get(&format!("memory.{name}")) {
            assert_close(name, &memory.log_density(0, points).unwrap(), density, 1e-9);
        }
        assert_close("mean", &memory.means().unwrap(), &features.mean_dim([0i64].as_slice(), true, Kind::Double), 1e-6);
        // The spread of draws, with six samples in eight dimensions.
        tch::manual_seed(1);
        let drawn = memory.sample(0, 100_000).unwrap().to_kind(Kind::Double);
        let mean = drawn.mean_dim([0i64].as_slice(), false, Kind::Double);
        let centred = &drawn - &mean;
        let covariance = centred.tr().matmul(&centred) / (100_000.0 - 1.0);
        let factor = &golden["memory.factor"];
        let mut expected = factor.matmul(&factor.tr());
        if kind != MemoryKind::Full {
            let ridge = Tensor::eye(8, F64) * 1e-2;
            // The centre's variances divide by the number of samples.
            let share = if kind == MemoryKind::Diagonal { 1.0 } else { 5.0 / 6.0 };
            expected = ((&expected - &ridge) * share + ridge).diagonal(0, 0, 1).diag(0);
        }
        let deviation = expected.diagonal(0, 0, 1).sqrt();
        let apart = (mean - features.mean_dim([0i64].as_slice(), false, Kind::Double)).abs();
        let in_errors = (apart / (&deviation / 100_000f64.sqrt())).max().double_value(&[]);
        assert!(in_errors < 3.5, "{kind:?}: mean off by {in_errors} standard errors");
        // Of a covariance: sqrt((s_ii s_jj + s_ij^2) / n).
        let error = ((deviation.square().outer(&deviation.square()) + expected.square()) / 100_000.0).sqrt();
        let in_errors = ((covariance - expected).abs() / error).max().double_value(&[]);
        assert!(in_errors < 4.0, "{kind:?}: covariance off by {in_errors} standard errors");
    }
}

#[test]
fn full_and_diagonal_memories_agree_without_correlation() {
    let _generator = alone();
    // Two features that vary on their own.
    let features = Tensor::from_slice2(&[[1f64, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]]);
    let memory = |kind| {
        let mut memory = GaussianMemory::new(kind, 1e-4).unwrap();
        memory.fit(&features).unwrap();
        memory
    };
    let (full, diagonal) = (memory(MemoryKind::Full), memory(MemoryKind::Diagonal));
    let points = Tensor::from_slice2(&[[0.3f64, 1.0], [2.0, -1.0]]);
    assert_close("density", &full.log_density(0, &points).unwrap(), &diagonal.log_density(0, &points).unwrap(), 1e-12);
    let draw = |m: &GaussianMemory| {
        tch::manual_seed(4);
        m.sample(0, 50).unwrap()
    };
    assert_close("draws", &draw(&full), &draw(&diagonal), 1e-6);
    // Two clusters far apart are two centres, drawn alike.
    let apart = Tensor::cat(&[&features + 100.0, &features - 100.0], 0);
    let mut memory = GaussianMemory::new(MemoryKind::Centroids(2), 1e-4).unwrap();
    memory.fit(&apart).unwrap();
    tch::manual_seed(5);
    let drawn = memory.sample(0, 2000).unwrap();
    assert!(drawn.abs().min().double_value(&[]) > 80.0);
    assert!((drawn.select(1, 0).gt(0.0).to_kind(Kind::Double).mean(Kind::Double).double_value(&[]) - 0.5).abs() < 0.05);
    let all = memory.sample_all(3, |_| 0.0).unwrap();
    assert_eq!(all.size(), [3, 2]);
    // What cannot be remembered.
    assert!(GaussianMemory::new(MemoryKind::Full, 0.0).is_err());
    assert!(GaussianMemory::new(MemoryKind::Centroids(0), 1.0).is_err());
    let mut memory = GaussianMemory::new(MemoryKind::Full, 1e-4).unwrap();
    assert!(memory.means().is_err() && memory.sample_all(2, |_| 1.0).is_err());
    assert!(memory.fit(&features.narrow(0, 0, 1)).unwrap_err().to_string().contains("samples of a class"));
    memory.fit(&features).unwrap();
    assert!(memory.fit(&Tensor::zeros([3, 5], F64)).unwrap_err().to_string().contains("[N, 2]"));
    assert!(memory.sample(1, 2).is_err() && memory.sample(0, 0).is_err());
    assert!(memory.fit(&(Tensor::zeros([3, 2], F64) / 0.0)).unwrap_err().to_string().contains("finite"));
}

#[test]
fn alignment_makes_classes_of_two_tasks_comparable() {
    let _generator = alone();
    // Class 0 alone in its task got a large bias: everything is class 0.
    let head = LinearHead::of(Tensor::zeros([2, 2], F32), Tensor::from_slice(&[3f32, 0.0])).unwrap();
    let mut memory = GaussianMemory::new(MemoryKind::Full, 1e-4).unwrap();
    let spread = Tensor::from_slice2(&[[0.1f32, 0.0], [-0.1, 0.0], [0.0, 0.1], [0.0, -0.1]]);
    let (one, other) = (&spread + Tensor::from_slice(&[1f32, 0.0]), &spread + Tensor::from_slice(&[0f32, 1.0]));
    memory.fit(&one).unwrap();
    memory.fit(&other).unwrap();
    let mut tasks = Tasks::default();
    tasks.add(&Tensor::from_slice(&[0i64, 0])).unwrap();
    tasks.add(&Tensor::from_slice(&[1i64, 1])).unwrap();
    let classes = |head: &LinearHead| {
        Vec::<i64>::try_from(head.logits(&Tensor::cat(&[&one, &other], 0)).argmax(1, false)).unwrap()
    };
    assert_eq!(classes(&head), [0; 8]);
    for config in [
        Alignment { samples: 50, lr: 0.05, ..Default::default() },
        Alignment { samples: 50, lr: 0.05, logit_norm: Some(0.1), older_means_shrink: true, ..Default::default() },
    ] {
        let head = LinearHead::of(Tensor::zeros([2, 2], F32), Tensor::from_slice(&[3f32, 0.0])).unwrap();
        tch::manual_seed(1);
        align_classifier(&head, &memory, &tasks, &config).unwrap();
        assert_eq!(classes(&head), [0, 0, 0, 0, 1, 1, 1, 1], "{config:?}");
    }
    let short = LinearHead::of(Tensor::zeros([1, 2], F32), Tensor::zeros([1], F32)).unwrap();
    let e = align_classifier(&short, &memory, &tasks, &Alignment::default()).unwrap_err().to_string();
    assert!(e.contains("expected 2 as the memory, got 1 and 2"), "{e}");
    let bad = Alignment { logit_norm: Some(0.0), ..Default::default() };
    assert!(align_classifier(&head, &memory, &tasks, &bad).is_err());
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
fn without_training_all_prototype_learners_are_one_cosine_classifier() {
    let _generator = alone();
    let net = backbone();
    let mut simple = SimpleCil::new(&net);
    let mut aper = Aper::new(&net, small(), training(0)).unwrap();
    let mut ease = Ease::new(&net, small(), training(0), 0.1).unwrap();
    let test = task(0, 6).0;
    for t in 0..2 {
        let (images, labels) = task(t, 6);
        for learner in [&mut simple as &mut dyn CilLearner, &mut aper, &mut ease] {
            learner.observe_task(&images, &labels).unwrap();
        }
        let cosines = simple.predict(&test).unwrap();
        assert_eq!(cosines.size(), [12, 2 * (t + 1)]);
        assert_close("APER", &aper.predict(&test).unwrap(), &cosines, 1e-5);
        let scores = ease.predict(&test).unwrap();
        if t == 0 {
            assert_close("EASE", &scores, &cosines, 1e-5);
        } else {
            // New classes are seen through both adapters. Prototypes of old ones are synthesised in the new subspace.
            assert_close("EASE", &scores.narrow(1, 2, 2), &(cosines.narrow(1, 2, 2) * 1.1), 1e-5);
        }
    }
    assert!(simple.predict(&Tensor::zeros([1, 3, 8, 8], F32)).unwrap_err().to_string().contains("[N, 1, 8, 8]"));
}

#[test]
fn old_prototypes_are_synthesised_by_similarity() {
    let _generator = alone();
    // One class in each of two tasks: the new class has all the weight, so that both have its prototype in the new subspace.
    let net = backbone();
    let mut ease = Ease::new(&net, small(), training(0), 1.0).unwrap();
    let mut simple = SimpleCil::new(&net);
    let (images, labels) = task(0, 6);
    for class in 0..2 {
        let of = labels.eq(class).nonzero().squeeze_dim(1);
        let (x, y) = (images.index_select(0, &of), labels.index_select(0, &of));
        ease.observe_task(&x, &y).unwrap();
        simple.observe_task(&x, &y).unwrap();
    }
    let (scores, cosines) = (ease.predict(&images).unwrap(), simple.predict(&images).unwrap());
    assert_close("old", &scores.select(1, 0), &(cosines.select(1, 0) + cosines.select(1, 1)), 1e-5);
    assert_close("new", &scores.select(1, 1), &(cosines.select(1, 1) * 2.0), 1e-5);
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
