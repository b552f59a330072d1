//! Self-training that looks ahead: trajectories, masks and losses against an independent implementation, and what must not happen.

use autodidact_core::device::Precision;
use autodidact_core::nn::{UNet, UNetConfig};
use autodidact_core::optim::{Adam, Group, Optimizer, Rule, Sgd, Snapshot};
use autodidact_core::seed::rng;
use autodidact_core::testing::{assert_close, check_gradient, fixture};
use autodidact_core::{Error, Result};
use autodidact_distill::learning_from_future::{
    DomainMix, DomainMixConfig, Domains, PartlyLabelled, Restore, SelfTraining, SelfTrainingConfig, SemiSupervised,
    SemiSupervisedConfig, Task, Variant, class_masks, confidence_weight, cut_masks, entropy_drop_mask, mix,
    weighted_pixel_ce,
};
use std::collections::BTreeMap;
use tch::nn::{Init, VarStore};
use tch::{Device, Kind, Reduction, Tensor};

const CPU: Device = Device::Cpu;

/// Numbers that no generator draws: tests run side by side.
fn wave(size: &[i64], phase: f64) -> Tensor {
    (Tensor::arange(size.iter().product::<i64>(), (Kind::Float, CPU)) * 0.7 + phase).sin().view(size)
}

fn golden() -> BTreeMap<String, Tensor> {
    fixture(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/learning_from_future.safetensors"))
}

/// `theta^2/2 + weight (theta - phi)^2/2`, where the teacher's label is its weight.
struct Scalars {
    theta: Tensor,
    phi: Tensor,
    weight: f64,
    /// The labels given so far.
    seen: Vec<f64>,
}

impl Task for Scalars {
    type Batch = ();
    type Labels = f64;

    fn label(&mut self, _: &()) -> Result<f64> {
        self.seen.push(self.phi.double_value(&[]));
        Ok(self.phi.double_value(&[]))
    }

    fn loss(&mut self, _: &(), label: &f64) -> Result<Tensor> {
        Ok((self.theta.square() + (&self.theta - *label).square() * self.weight) / 2.0)
    }
}

/// Student at 1, teacher at 0, rate .1, momentum .5.
fn scalars(variant: Variant, weight: f64, plain_start: bool) -> (SelfTraining, Scalars) {
    let (student, mut teacher) = (VarStore::new(CPU), VarStore::new(CPU));
    let theta = student.root().var("w", &[], Init::Const(1.0));
    let mut phi = teacher.root().var("w", &[], Init::Const(0.0));
    let sgd = Rule::Sgd(Sgd { momentum: 0.0, nesterov: false });
    let optimizer = Optimizer::new(sgd, vec![Group::all(&student, 0.0)]).unwrap();
    let config = SelfTrainingConfig { momentum: 0.5, ramp: false, plain_start, ..SelfTrainingConfig::new(variant) };
    let training = SelfTraining::new(config, &student, &mut teacher, optimizer).unwrap();
    assert_eq!(phi.double_value(&[]), 1.0, "the teacher begins as the student");
    let _ = tch::no_grad(|| phi.fill_(0.0));
    (training, Scalars { theta: theta.shallow_clone(), phi: phi.shallow_clone(), weight, seen: vec![] })
}

fn run(variant: Variant) -> (f64, f64, Vec<f64>, usize, usize) {
    let (mut training, mut task) = scalars(variant, 1.0, false);
    let future = vec![(); if let Variant::Wide(k) = variant { k } else { 0 }];
    let done = training.iteration(&mut task, &(), &future, 0.1).unwrap();
    assert_eq!(training.passes(), done.passes);
    let [theta, phi] = [&task.theta, &task.phi].map(|t| t.double_value(&[]));
    (theta, phi, task.seen, done.passes, done.ema_updates)
}

fn near(got: f64, want: f64) {
    assert!((got - want).abs() < 1e-6, "{got} {want}");
}

#[test]
fn an_iteration_of_each_variant_by_hand() {
    let (theta, phi, seen, passes, updates) = run(Variant::Plain);
    near(theta, 0.8);
    near(phi, 0.4);
    assert_eq!((seen.len(), passes, updates), (1, 1, 1));

    let (theta, phi, seen, passes, updates) = run(Variant::Deep(1));
    near(phi, 0.675);
    near(theta, 0.8675);
    near(seen[0], 0.5);
    near(seen[1], 0.675);
    assert_eq!((passes, updates), (2, 2));

    // Two steps: .5; .85; .675; .85 - .1 (.85 + .175) = .7475; .71125; 1 - .1 (1 + .28875).
    let (theta, phi, seen, passes, updates) = run(Variant::Deep(2));
    near(phi, 0.71125);
    near(theta, 0.871125);
    near(seen[1], 0.675);
    assert_eq!((passes, updates), (3, 3));

    // The teacher is unchanged in the virtual steps, which agree: .8; .4; 1 - .1 (1 + .6) = .84; .62.
    let (theta, phi, seen, passes, updates) = run(Variant::Wide(3));
    near(theta, 0.84);
    near(phi, 0.62);
    assert_eq!((seen[..3].to_vec(), passes, updates), (vec![0.0; 3], 4, 2));

    // No step ahead: the teacher moves first, then the student as ever.
    let (theta, phi, ..) = run(Variant::Deep(0));
    near(phi, 0.5);
    near(theta, 1.0 - 0.1 * 1.5);
}

#[test]
fn the_real_step_starts_at_the_cached_student() {
    let (mut training, mut task) = scalars(Variant::Deep(3), 1.0, true);
    for _ in 0..4 {
        let before = task.theta.double_value(&[]);
        training.iteration(&mut task, &(), &[], 0.1).unwrap();
        let phi = *task.seen.last().unwrap();
        near(task.theta.double_value(&[]), before - 0.1 * (2.0 * before - phi));
    }
    // The first iteration was plain: one label; then four each.
    assert_eq!(task.seen.len(), 1 + 3 * 4);
}

#[test]
fn without_unlabelled_loss_the_student_is_that_of_supervised_training() {
    for variant in [Variant::Plain, Variant::Deep(3), Variant::Wide(2)] {
        let (mut training, mut task) = scalars(variant, 0.0, true);
        let future = vec![(); if let Variant::Wide(k) = variant { k } else { 0 }];
        for i in 1..=5 {
            training.iteration(&mut task, &(), &future, 0.1).unwrap();
            near(task.theta.double_value(&[]), 0.9f64.powi(i));
        }
    }
}

/// A linear classifier with hard labels from the teacher.
struct Linear {
    theta: Tensor,
    phi: Tensor,
}

impl Task for Linear {
    type Batch = (Tensor, Tensor);
    type Labels = Tensor;

    fn label(&mut self, (rows, _): &(Tensor, Tensor)) -> Result<Tensor> {
        Ok(rows.get(1).matmul(&self.phi.tr()).argmax(1, false))
    }

    fn loss(&mut self, (rows, classes): &(Tensor, Tensor), labels: &Tensor) -> Result<Tensor> {
        let ce = |i: i64, y: &Tensor| {
            let logits = rows.get(i).matmul(&self.theta.tr());
            logits.cross_entropy_loss::<Tensor>(y, None, Reduction::Mean, -100, 0.0)
        };
        Ok(ce(0, classes) + ce(1, labels))
    }
}

struct Classifier {
    training: SelfTraining,
    task: Linear,
    batches: Vec<(Tensor, Tensor)>,
    wide: bool,
}

impl Classifier {
    fn new(config: SelfTrainingConfig) -> Self {
        let g = golden();
        let (mut student, mut teacher) = (VarStore::new(CPU), VarStore::new(CPU));
        for vs in [&student, &teacher] {
            let _ = vs.root().var("w", &g["start"].size(), Init::Const(0.0));
        }
        student.double();
        teacher.double();
        let of = |vs: &VarStore| vs.variables().remove("w").unwrap();
        tch::no_grad(|| of(&student).copy_(&g["start"]));
        let optimizer = Optimizer::new(Rule::AdamW(Adam::default()), vec![Group::all(&student, 0.01)]).unwrap();
        let training = SelfTraining::new(config, &student, &mut teacher, optimizer).unwrap();
        let batches = (0..4).map(|i| (g["rows"].get(i), g["classes"].get(i))).collect();
        let task = Linear { theta: of(&student), phi: of(&teacher) };
        Self { training, task, batches, wide: matches!(config.variant, Variant::Wide(_)) }
    }

    fn iterate(&mut self, i: usize) {
        let future = |i: usize| (self.batches[i % 4].0.shallow_clone(), self.batches[i % 4].1.shallow_clone());
        let future = if self.wide { vec![future(i + 1), future(i + 2)] } else { vec![] };
        self.training.iteration(&mut self.task, &self.batches[i], &future, 0.05).unwrap();
    }
}

#[test]
fn trajectories_of_a_classifier_equal_those_of_plain_loops() {
    let g = golden();
    let base = SelfTrainingConfig { momentum: 0.9, ..SelfTrainingConfig::new(Variant::Deep(2)) };
    for (name, config) in [
        ("plain", SelfTrainingConfig { variant: Variant::Plain, ..base }),
        ("deep", base),
        ("deep.again", SelfTrainingConfig { follow_real: true, ..base }),
        ("deep.optimizer", SelfTrainingConfig { restore: Restore::WeightsAndOptimizer, ..base }),
        ("wide", SelfTrainingConfig { variant: Variant::Wide(2), ..base }),
    ] {
        let mut classifier = Classifier::new(config);
        (0..4).for_each(|i| classifier.iterate(i));
        assert_close(name, &classifier.task.theta, &g[&format!("{name}.theta")], 1e-10);
        assert_close(name, &classifier.task.phi, &g[&format!("{name}.phi")], 1e-10);
    }
}

#[test]
fn a_run_goes_on_from_its_state() {
    let config = SelfTrainingConfig { momentum: 0.9, ..SelfTrainingConfig::new(Variant::Deep(2)) };
    let mut whole = Classifier::new(config);
    (0..2).for_each(|i| whole.iterate(i));
    let mut resumed = Classifier::new(config);
    resumed.training.load_state_dict(&whole.training.state_dict()).unwrap();
    tch::no_grad(|| {
        resumed.task.theta.copy_(&whole.task.theta);
        resumed.task.phi.copy_(&whole.task.phi);
    });
    for c in [&mut whole, &mut resumed] {
        (2..4).for_each(|i| c.iterate(i));
    }
    assert!(whole.task.theta == resumed.task.theta && whole.task.phi == resumed.task.phi);
    assert!(resumed.training.load_state_dict(&BTreeMap::new()).is_err());
}

#[test]
fn restoring_everything_leaves_no_trace_of_the_virtual_steps() {
    // Without unlabelled loss, AdamW and running statistics are those of supervised training only if they are restored.
    let train = |variant, restore| {
        let build = |vs: &VarStore| {
            let conv = autodidact_core::nn::layers::conv2d(vs.root() / "conv", 3, 4, 1, 1, 0, false);
            let norm = autodidact_core::nn::layers::batch_norm2d(vs.root() / "norm", 4);
            tch::nn::seq_t().add(conv).add(norm)
        };
        let (student, mut teacher) = (VarStore::new(CPU), VarStore::new(CPU));
        let nets = [build(&student), build(&teacher)];
        for (name, mut v) in student.variables() {
            if name.contains("conv") {
                tch::no_grad(|| v.copy_(&wave(&v.size(), 0.3)));
            }
        }
        let optimizer = Optimizer::new(Rule::AdamW(Adam::default()), vec![Group::all(&student, 0.0)]).unwrap();
        let config = SelfTrainingConfig { restore, ..SelfTrainingConfig::new(variant) };
        let mut training = SelfTraining::new(config, &student, &mut teacher, optimizer).unwrap();
        let config = DomainMixConfig { weight: 0.0, ..DomainMixConfig::new(4) };
        let mut task = DomainMix::new(&nets[0], &nets[1], config, rng(0, &[])).unwrap();
        for i in 0..4 {
            let x = wave(&[2, 3, 6, 6], f64::from(i));
            let labels = (wave(&[2, 6, 6], 0.5) * 2.0 + 2.0).to_kind(Kind::Int64);
            training.iteration(&mut task, &Domains { source: x.copy(), labels, target: x }, &[], 0.01).unwrap();
        }
        let mut all: Vec<_> = student.variables().into_iter().collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all.into_iter().map(|(_, t)| t).collect::<Vec<_>>()
    };
    let plain = train(Variant::Plain, Restore::Weights);
    assert!(train(Variant::Deep(2), Restore::Everything) == plain);
    assert!(train(Variant::Deep(2), Restore::WeightsAndOptimizer) != plain);
    assert!(train(Variant::Deep(2), Restore::Weights) != plain);
}

#[test]
fn a_snapshot_keeps_values_and_puts_them_back_in_place() {
    let vs = VarStore::new(CPU);
    let mut w = vs.root().var("w", &[2], Init::Const(1.0));
    let mut snapshot = Snapshot::of_parameters(&vs);
    let _ = tch::no_grad(|| w.fill_(2.0));
    snapshot.restore();
    assert_eq!(w.double_value(&[0]), 1.0);
    let _ = tch::no_grad(|| w.fill_(3.0));
    snapshot.take();
    let _ = tch::no_grad(|| w.fill_(4.0));
    snapshot.restore();
    assert!(w.double_value(&[1]) == 3.0 && w.requires_grad());
}

#[test]
fn pixel_losses_and_masks_equal_the_loops() {
    let g = golden();
    let (labels, weight) = (&g["labels"], &g["weight"]);
    let loss = |x: &Tensor| weighted_pixel_ce(x, labels, weight).unwrap();
    let x = g["logits"].copy().set_requires_grad(true);
    let value = loss(&x);
    assert_close("pixel_ce", &value, &g["pixel_ce"], 1e-12);
    value.backward();
    assert_close("gradient", &x.grad(), &g["pixel_ce.grad"], 1e-10);
    check_gradient(&g["logits"], 1e-8, loss);
    let narrow = g["logits"].to_kind(Kind::BFloat16);
    let inside = Precision::Bf16.run(CPU, || Ok(loss(&narrow))).unwrap();
    assert!(inside.kind() == Kind::Float);
    assert_close("bf16", &inside, &g["pixel_ce"], 1e-2);

    assert_close("confidence", &confidence_weight(&g["teacher_logits"], 0.7).unwrap(), &g["confidence"], 1e-12);
    let dropped = entropy_drop_mask(&g["teacher_logits"], labels, 60.0).unwrap();
    assert_eq!(dropped.to_kind(Kind::Uint8), g["dropped"]);
}

#[test]
fn three_of_four_confident_pixels_weigh_three_quarters() {
    let logits = Tensor::from_slice(&[9f64, 9.0, 9.0, 0.1, 0.0, 0.0, 0.0, 0.0]).view([1, 2, 2, 2]);
    assert_eq!(confidence_weight(&logits, 0.9).unwrap().double_value(&[]), 0.75);
}

#[test]
fn class_masks_take_half_of_the_classes_of_the_batch() {
    // Three classes in the batch, of which the first map has two; 255 is none.
    let labels = Tensor::from_slice(&[0i64, 0, 3, 255, 0, 3, 5, 5]).view([2, 2, 2]);
    let mut chosen = std::collections::BTreeSet::new();
    for seed in 0..50 {
        let masks = class_masks(&labels, 6, &mut rng(seed, &["classes"])).unwrap();
        for map in 0..2 {
            let mask = masks.get(map);
            let of = |class: i64| mask.masked_select(&labels.get(map).eq(class));
            // A class is in the mask as a whole or not at all.
            let taken: Vec<i64> = [0i64, 3, 5].into_iter().filter(|c| of(*c).any().int64_value(&[]) == 1).collect();
            assert!(taken.iter().all(|c| of(*c).all().int64_value(&[]) == 1) && taken.len() <= 2);
            assert!(map == 0 || taken.len() == 2, "the second map has all three classes");
            assert_eq!(of(255).any().int64_value(&[]), 0);
            chosen.insert((map, taken));
        }
    }
    assert_eq!(chosen.iter().filter(|(map, _)| *map == 1).count(), 3, "{chosen:?}");
    // One class: all of it, and what is pasted is the source.
    let one = Tensor::zeros([1, 2, 2], (Kind::Int64, CPU));
    let mask = class_masks(&one, 6, &mut rng(0, &[])).unwrap();
    let [a, b] = [1.0, 2.0].map(|v| Tensor::full([1, 3, 2, 2], v, (Kind::Float, CPU)));
    assert_eq!(mix(&mask, &a, &b).unwrap(), a);
    assert_eq!(mix(&mask.logical_not(), &a, &b).unwrap(), b);
}

#[test]
fn cut_masks_are_rectangles_of_the_area() {
    let masks = cut_masks(40, [12, 16], 0.5, CPU, &mut rng(0, &["cut"])).unwrap();
    let mut shapes = std::collections::BTreeSet::new();
    for i in 0..40 {
        let at = masks.get(i).nonzero();
        let (low, high) = (at.amin([0i64].as_slice(), false), at.amax([0i64].as_slice(), false) + 1);
        let sides: Vec<i64> = (high - low).try_into().unwrap();
        assert_eq!(sides[0] * sides[1], at.size()[0], "no rectangle");
        assert!((sides[0] * sides[1] - 96).abs() <= 8, "{sides:?}");
        shapes.insert(sides);
    }
    assert!(shapes.len() > 4);
}

fn nets(classes: i64) -> ([VarStore; 2], [UNet; 2]) {
    tch::manual_seed(3);
    let config = UNetConfig { widths: vec![4, 8], outputs: classes, groups: 2, ..Default::default() };
    let stores = [VarStore::new(CPU), VarStore::new(CPU)];
    let nets = [&stores[0], &stores[1]].map(|vs| UNet::new(vs.root(), &config).unwrap());
    (stores, nets)
}

#[test]
fn the_mixed_loss_is_that_of_its_parts() {
    let (_stores, [student, teacher]) = nets(4);
    let x = || Tensor::rand([2, 3, 9, 7], (Kind::Float, CPU));
    let labels = Tensor::randint(4, [2, 9, 7], (Kind::Int64, CPU));
    let batch = Domains { source: x(), labels: labels.copy(), target: x() };
    let logits = tch::no_grad(|| tch::nn::ModuleT::forward_t(&teacher, &batch.target, false));
    let threshold = logits.softmax(1, Kind::Float).amax([1i64].as_slice(), false).median().double_value(&[]);
    let config = DomainMixConfig { threshold, weight: 0.5, ignored_rows: (1, 2), ..DomainMixConfig::new(4) };
    let mut task = DomainMix::new(&student, &teacher, config, rng(7, &[])).unwrap();
    let told = tch::no_grad(|| task.label(&batch).unwrap());
    let share = confidence_weight(&logits, threshold).unwrap().double_value(&[]);
    assert!((share - 0.5).abs() < 0.01, "{share}");
    let rows: Vec<f64> = told.weight.get(0).select(1, 0).to_kind(Kind::Double).try_into().unwrap();
    rows.iter().enumerate().for_each(|(i, w)| near(*w, if i == 0 || i > 6 { 0.0 } else { share }));

    let mask = class_masks(&labels, 4, &mut rng(7, &[])).unwrap();
    let of = |x: &Tensor| tch::nn::ModuleT::forward_t(&student, x, true);
    let ones = labels.ones_like().to_kind(Kind::Float);
    let weight = mix(&mask, &ones, &told.weight).unwrap();
    let mixed = mix(&mask, &labels, &told.labels).unwrap();
    let unlabelled =
        weighted_pixel_ce(&of(&mix(&mask, &batch.source, &batch.target).unwrap()), &mixed, &weight).unwrap();
    let want = weighted_pixel_ce(&of(&batch.source), &labels, &ones).unwrap() + unlabelled * 0.5;
    assert_close("loss", &task.loss(&batch, &told).unwrap(), &want, 1e-6);
}

#[test]
fn keeping_fewer_pixels_weighs_them_more() {
    let (_stores, [student, teacher]) = nets(4);
    let x = || Tensor::rand([2, 3, 8, 8], (Kind::Float, CPU));
    let batch =
        PartlyLabelled { images: x(), labels: Tensor::randint(4, [2, 8, 8], (Kind::Int64, CPU)), unlabelled: x() };
    let loss = |keep_percent, weight| {
        let config = SemiSupervisedConfig { keep_percent, weight, mix: 0.0 };
        let mut task = SemiSupervised::new(&student, &teacher, config, rng(0, &[])).unwrap();
        let labels = tch::no_grad(|| task.label(&batch).unwrap());
        (task.loss(&batch, &labels).unwrap().double_value(&[]), labels)
    };
    let (supervised, labels) = loss(80.0, 0.0);
    let of = |x: &Tensor, y: &Tensor| {
        let logits = tch::nn::ModuleT::forward_t(&student, x, true);
        logits.cross_entropy_loss::<Tensor>(y, None, Reduction::Mean, 255, 0.0).double_value(&[])
    };
    near(supervised, of(&batch.images, &batch.labels));
    let logits = tch::nn::ModuleT::forward_t(&teacher, &batch.unlabelled, true);
    let dropped = entropy_drop_mask(&logits, &labels, 25.0).unwrap();
    let kept = labels.masked_fill(&dropped, 255);
    let share = kept.ne(255).to_kind(Kind::Double).mean(Kind::Double).double_value(&[]);
    assert!((share - 0.25).abs() < 0.02, "{share}");
    let (some, _) = loss(25.0, 1.0);
    assert!((some - supervised - of(&batch.unlabelled, &kept) / share).abs() < 1e-4);
    // Nothing kept: nothing learned, and nothing breaks.
    near(loss(0.0, 1.0).0, supervised);
}

#[test]
fn mixing_unlabelled_images_is_drawn_by_the_generator() {
    let (_stores, [student, teacher]) = nets(4);
    let x = || Tensor::rand([3, 3, 8, 8], (Kind::Float, CPU));
    let batch =
        PartlyLabelled { images: x(), labels: Tensor::randint(4, [3, 8, 8], (Kind::Int64, CPU)), unlabelled: x() };
    let loss = |seed| {
        let config = SemiSupervisedConfig { mix: 1.0, ..Default::default() };
        let mut task = SemiSupervised::new(&student, &teacher, config, rng(seed, &[])).unwrap();
        let labels = tch::no_grad(|| task.label(&batch).unwrap());
        task.loss(&batch, &labels).unwrap().double_value(&[])
    };
    assert!(loss(1) == loss(1) && loss(1) != loss(2));
}

#[test]
fn bad_input_is_an_error() {
    let text = |e: Error| e.to_string();
    let maps = Tensor::zeros([2, 4, 3, 3], (Kind::Float, CPU));
    let labels = Tensor::zeros([2, 3, 3], (Kind::Int64, CPU));
    let ones = labels.to_kind(Kind::Float) + 1.0;
    assert!(text(weighted_pixel_ce(&maps, &labels.narrow(1, 0, 2), &ones).unwrap_err()).contains("[2, 3, 3]"));
    assert!(weighted_pixel_ce(&maps, &ones, &ones).is_err());
    assert!(weighted_pixel_ce(&maps, &labels, &ones.narrow(0, 0, 1)).is_err());
    assert!(text(confidence_weight(&labels, 0.5).unwrap_err()).contains("[B, C, H, W]"));
    assert!(confidence_weight(&maps, 1.5).is_err());
    assert!(entropy_drop_mask(&maps, &labels, 101.0).is_err());
    assert!(class_masks(&ones, 4, &mut rng(0, &[])).is_err() && class_masks(&labels, 0, &mut rng(0, &[])).is_err());
    assert!(cut_masks(1, [4, 4], 1.0, CPU, &mut rng(0, &[])).is_err());
    assert!(mix(&ones, &maps, &maps).is_err() && mix(&labels.eq(0), &maps, &maps.narrow(1, 0, 1)).is_err());
    assert!(mix(&labels.eq(0), &maps.narrow(0, 0, 1), &maps.narrow(0, 0, 1)).is_err());

    let ([student, mut teacher], [a, b]) = nets(4);
    let build = |config, teacher: &mut VarStore| {
        let optimizer = Optimizer::new(Rule::Sgd(Sgd::default()), vec![Group::all(&student, 0.0)]).unwrap();
        SelfTraining::new(config, &student, teacher, optimizer)
    };
    let of = SelfTrainingConfig::new;
    assert!(build(SelfTrainingConfig { momentum: 1.5, ..of(Variant::Plain) }, &mut teacher).is_err());
    assert!(build(of(Variant::Wide(0)), &mut teacher).is_err());
    assert!(build(of(Variant::Plain), &mut VarStore::new(CPU)).is_ok(), "a teacher without variables follows nothing");
    let mut other = VarStore::new(CPU);
    let _ = other.root().var("v", &[1], Init::Const(0.0));
    assert!(text(build(of(Variant::Plain), &mut other).unwrap_err()).contains("a variable v"));
    let mut task = DomainMix::new(&a, &b, DomainMixConfig::new(4), rng(0, &[])).unwrap();
    let x = Tensor::zeros([1, 3, 4, 4], (Kind::Float, CPU));
    let batch = || Domains { source: x.copy(), labels: Tensor::zeros([1, 4, 4], (Kind::Int64, CPU)), target: x.copy() };
    let mut wide = build(of(Variant::Wide(2)), &mut teacher).unwrap();
    assert!(text(wide.iteration(&mut task, &batch(), &[batch()], 0.1).unwrap_err()).contains("future batches"));
    assert!(wide.iteration(&mut task, &batch(), &[batch(), batch()], -1.0).is_err());
    assert!(DomainMix::new(&a, &b, DomainMixConfig::new(1), rng(0, &[])).is_err());
    let bad = DomainMixConfig { ignored_rows: (-1, 0), ..DomainMixConfig::new(4) };
    assert!(DomainMix::new(&a, &b, bad, rng(0, &[])).is_err());
    let bad = SemiSupervisedConfig { mix: 2.0, ..Default::default() };
    assert!(SemiSupervised::new(&a, &b, bad, rng(0, &[])).is_err());
}
