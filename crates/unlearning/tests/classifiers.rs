//! Baselines, splits and attacks on classifiers.

mod common;

use autodidact_core::metrics::accuracy;
use autodidact_core::testing::fixture;
use autodidact_unlearning::baselines::*;
use autodidact_unlearning::classifier::*;
use autodidact_unlearning::membership::*;
use autodidact_unlearning::splits::*;
use common::images;
use tch::{Device, Kind, Tensor};

const F32: (Kind, Device) = (Kind::Float, Device::Cpu);

fn network() -> SmallCnn {
    let config =
        SmallCnnConfig { channels: 1, side: 8, kernel: 3, filters: [4, 8], embedding: 16, hidden: None, classes: 3 };
    SmallCnn::new(&config, Device::Cpu).unwrap()
}

fn training(epochs: usize, lr: f64) -> Training {
    Training { epochs, lr, ..Training::default() }
}

fn correct(model: &SmallCnn, data: &Labelled) -> f64 {
    accuracy(&model.probabilities(&data.x), &data.y).unwrap()
}

#[test]
fn each_method_forgets_a_class_and_those_with_remaining_data_keep_the_others() {
    let data = images(240);
    tch::manual_seed(0);
    let (initial, ignorant) = (network(), network());
    let original = initial.copy().unwrap();
    train(&original, &data, &training(10, 3e-3)).unwrap();
    assert!(correct(&original, &data) > 0.97);
    let split = class_removal(&data.y, 0).unwrap();
    let [forget, remaining] = split.rows().map(|rows| data.rows(&rows));
    type Method<'a> = (&'a str, bool, Box<dyn Fn(&SmallCnn) + 'a>);
    let few = training(6, 2e-3);
    // At the original its divergence has no gradient: the first passes away from it hardly move.
    let away = ScrubConfig { forgetting_epochs: 12, ..ScrubConfig::default() };
    let methods: Vec<Method<'_>> = vec![
        ("gradient ascent", false, Box::new(|m| drop(gradient_ascent(m, &forget, &training(6, 3e-3)).unwrap()))),
        ("random labels", true, Box::new(|m| drop(random_labels(m, &forget, &remaining, 3, &few).unwrap()))),
        ("boundary", false, Box::new(|m| drop(boundary_shrink(m, &forget, 0.3, &few).unwrap()))),
        ("unroll", true, Box::new(|m| drop(unroll(m, &initial, &forget, &remaining, 3.0, &few).unwrap()))),
        (
            "bad teacher",
            true,
            Box::new(|m| drop(bad_teacher(m, [&original, &ignorant], &forget, &remaining, &few).unwrap())),
        ),
        (
            "scrub",
            true,
            Box::new(|m| {
                drop(scrub(m, &original, &forget, &remaining, &away, &training(12, 5e-3)).unwrap());
            }),
        ),
    ];
    for (name, keeps, method) in methods {
        let model = original.copy().unwrap();
        method(&model);
        // Where nothing is known, the likeliest class may be the right one by chance; its probability is low.
        let f = model.probabilities(&forget.x).select(1, 0).mean(Kind::Double).double_value(&[]);
        let r = correct(&model, &remaining);
        assert!(f < 0.5, "{name}: {f}");
        assert!(!keeps || r > 0.9, "{name}: {r}");
    }
    assert!(correct(&original, &data) > 0.97, "the original stays as it was");
}

#[test]
fn identities_of_the_baselines() {
    let data = images(60);
    let model = network();
    let (forget, remaining) = (data.first(20), data.rows(&Tensor::arange_start(20, 60, (Kind::Int64, Device::Cpu))));
    let before = model.probabilities(&data.x);
    let none = training(0, 1e-3);
    // Without epochs, and without a rate, nothing moves.
    random_labels(&model, &forget, &remaining, 3, &none).unwrap();
    unroll(&model, &network(), &forget, &remaining, 0.0, &none).unwrap();
    assert_eq!(model.probabilities(&data.x), before);
    // One batch at the initial weights: theta + rate * gradient.
    let initial = network();
    let moved = initial.copy().unwrap();
    let whole = Training { batch: 20, ..none };
    unroll(&moved, &initial, &forget, &remaining, 0.1, &whole).unwrap();
    let loss = initial.logits(&forget.x, true).cross_entropy_for_logits(&forget.y);
    loss.backward();
    for ((_, old), (_, new)) in initial.parts().iter().flatten().zip(moved.parts().iter().flatten()) {
        let want = old + old.grad() * 0.1;
        assert!((want - new).abs().max().double_value(&[]) < 1e-6);
    }
    // With the original as both teachers there is nothing to learn.
    let twice = bad_teacher(&model, [&model, &model], &forget, &remaining, &training(1, 0.0)).unwrap();
    assert!(twice[0].abs() < 1e-6, "{twice:?}");
    let wrong = wrong_labels(&data.y, 3, 1).unwrap();
    assert_eq!(wrong.eq_tensor(&data.y).sum(Kind::Int64).int64_value(&[]), 0);
    assert!(wrong_labels(&data.y, 1, 1).is_err());
}

#[test]
fn only_the_shards_with_forgotten_samples_are_trained_again() {
    let data = images(90);
    let few = training(8, 3e-3);
    tch::manual_seed(1);
    let fresh = || Ok(network());
    let mut sisa = Sisa::train(&data, 3, fresh, &few).unwrap();
    let score = |sisa: &Sisa<SmallCnn>| accuracy(&sisa.probabilities(&data.x), &data.y).unwrap();
    assert!(score(&sisa) > 0.9);
    assert_eq!(sisa.forget(&data, &[5], fresh, &few).unwrap(), 1);
    assert_eq!(sisa.forget(&data, &[5], fresh, &few).unwrap(), 0, "it is forgotten already");
    let all: Vec<i64> = (0..90).collect();
    assert!(sisa.forget(&data, &all, fresh, &few).is_err());
    assert!(Sisa::train(&data, 0, fresh, &few).is_err());
}

#[test]
fn splits_take_what_they_say() {
    let labels = Tensor::arange(100, (Kind::Int64, Device::Cpu)).remainder(10);
    let split = data_removal(&labels, 5..10, 0.4, 7).unwrap();
    assert_eq!((split.forget.len(), split.remaining.len()), (20, 80));
    assert!(split.forget.iter().all(|i| i % 10 >= 5) && split.forget.iter().all(|i| !split.remaining.contains(i)));
    assert_ne!(split, data_removal(&labels, 5..10, 0.4, 8).unwrap());
    assert_eq!(class_removal(&labels, 3).unwrap().forget, (0..10).map(|i| 10 * i + 3).collect::<Vec<_>>());
    let (noisy, split) = label_noise(&labels, 10, 0..5, 0.6, 7).unwrap();
    let changed = noisy.ne_tensor(&labels).nonzero().view(-1);
    assert_eq!(Vec::<i64>::try_from(changed).unwrap(), split.forget);
    assert_eq!(split.forget.len(), 30);
    assert!(class_removal(&labels, 10).is_err(), "no such class");
    assert!(data_removal(&labels, 0..10, 1.0, 0).is_err(), "nothing remains");
    assert!(data_removal(&labels, 0..10, 0.0, 0).is_err());
}

#[test]
fn stumps_are_those_of_xgboost() {
    let g = fixture(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/label_agnostic_forgetting.safetensors"));
    let positive: Vec<bool> = Vec::<i64>::try_from(&g["y"]).unwrap().into_iter().map(|y| y == 1).collect();
    let config = BoostedStumpsConfig { rounds: 12, ..Default::default() };
    let margins = BoostedStumps::fit(&g["x"], &positive, &config).unwrap().log_odds(&g["x"]).unwrap();
    let want = Vec::<f64>::try_from(&g["margins"]).unwrap();
    let worst = margins.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst < 1e-5, "{worst}");
}

#[test]
fn attacks_find_members_by_their_confidence_and_only_then() {
    tch::manual_seed(2);
    let probabilities = |n: i64, scale: f64| (Tensor::randn([n, 5], F32) * scale).softmax(1, None::<Kind>);
    for attacker in [Attacker::Logistic, Attacker::Stumps(BoostedStumpsConfig::default())] {
        let attack = MembershipAttack::fit(&probabilities(300, 6.0), &probabilities(300, 1.0), attacker).unwrap();
        let found = attack.balanced_accuracy(&probabilities(200, 6.0), &probabilities(200, 1.0)).unwrap();
        assert!(found > 0.8, "{attacker:?}: {found}");
        let same = probabilities(200, 1.0);
        let guessed = attack.balanced_accuracy(&same, &same).unwrap();
        assert!((guessed - 0.5).abs() < 1e-12, "alike ones are guessed: {guessed}");
        // Which class is likely says nothing.
        let turned = same.flip([1i64].as_slice());
        assert_eq!(attack.share_of_members(&turned).unwrap(), attack.share_of_members(&same).unwrap());
        assert!(attack.share_of_members(&probabilities(3, 1.0).narrow(1, 0, 4)).is_err());
    }
}

#[test]
fn what_was_forgotten_a_little_is_learnt_again_sooner() {
    let data = images(120);
    tch::manual_seed(0);
    let original = network();
    train(&original, &data, &training(10, 3e-3)).unwrap();
    let class = data.rows(&data.y.eq(0).nonzero().view(-1));
    let again = |model: &SmallCnn, most: usize| {
        relearn_steps(&model.copy().unwrap(), &class, 0.95, most, &Training { lr: 1e-3, ..training(1, 1e-3) }).unwrap()
    };
    assert_eq!(again(&original, 50), Some(0));
    let suppressed = original.copy().unwrap();
    gradient_ascent(&suppressed, &class, &training(6, 3e-3)).unwrap();
    assert!(correct(&suppressed, &class) < 0.4);
    let steps = again(&suppressed, 400).unwrap();
    // Trained on the other classes only, it has to learn the class from nothing.
    let never = network();
    train(&never, &data.rows(&data.y.ne(0).nonzero().view(-1)), &training(10, 3e-3)).unwrap();
    let from_nothing = again(&never, 400).unwrap();
    assert!(steps > 0 && steps < from_nothing, "{steps} {from_nothing}");
    assert_eq!(again(&suppressed, 0), None, "no step is not enough");
}
