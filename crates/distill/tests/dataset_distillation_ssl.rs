//! KRR-ST: worked examples, identities, scikit-learn's and PyTorch's values, finite differences, the pool, resuming, bad input.

use autodidact_core::testing::{assert_close, check_gradient, fixture};
use autodidact_distill::dataset_distillation_ssl::{
    DistilledSet, InnerModel, InnerTraining, KrrSt, KrrStConfig, Penalty, PooledConvNet, krr_predict, krr_st_loss,
};
use autodidact_distill::distilled_data::{InnerLoop, unroll};
use std::collections::BTreeMap;
use tch::nn::ModuleT;
use tch::{Device, Kind, Tensor};

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);
const F32: (Kind, Device) = (Kind::Float, Device::Cpu);

fn golden() -> BTreeMap<String, Tensor> {
    fixture(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/dataset_distillation_ssl.safetensors"))
}

fn value(x: &Tensor) -> f64 {
    x.double_value(&[])
}

#[test]
fn predictions_and_gradients_are_those_of_scikit_learn_and_pytorch() {
    let g = golden();
    for name in ["dual", "primal"] {
        let of = |part: &str| g[&format!("{name}_{part}")].copy();
        let (f_t, y_t) = (of("f_t"), of("y_t"));
        let fixed = krr_predict(&f_t, &of("f_s"), &of("y_s"), Penalty::Fixed(0.3), true).unwrap();
        assert_close(&format!("{name} fixed"), &fixed, &of("fixed"), 1e-10);
        let [f_s, y_s] = ["f_s", "y_s"].map(|part| of(part).set_requires_grad(true));
        let loss = krr_st_loss(&f_t, &f_s, &y_s, &y_t, Penalty::Trace(1e-3)).unwrap();
        loss.backward();
        assert_close(&format!("{name} loss"), &loss, &of("loss"), 1e-9);
        assert_close(&format!("{name} grad_f"), &f_s.grad(), &of("grad_f"), 1e-8);
        assert_close(&format!("{name} grad_y"), &y_s.grad(), &of("grad_y"), 1e-8);
        // The closed form of the targets' gradient, without a constant column, at a fixed penalty.
        let y_s = of("y_s").set_requires_grad(true);
        let p = krr_predict(&f_t, &f_s.detach(), &y_s, Penalty::Fixed(0.3), false).unwrap();
        (&p - &y_t).square().mean(Kind::Double).backward();
        let f_s = f_s.detach();
        let k = f_s.matmul(&f_s.tr()) + Tensor::eye(f_s.size()[0], F64) * 0.3;
        let expected =
            Tensor::linalg_solve(&k, &f_s.matmul(&f_t.tr()), true).matmul(&(p.detach() - &y_t)) * (2.0 / 21.0);
        assert_close(name, &y_s.grad(), &expected, 1e-9);
    }
}

#[test]
fn dual_is_primal_and_the_limit_interpolates() {
    tch::manual_seed(0);
    let (f_s, y_s) = (Tensor::randn([6, 8], F64), Tensor::randn([6, 2], F64));
    // With 8 features it is dual; of the same 6 images twice it is primal, at twice the penalty.
    let f_t = Tensor::randn([4, 8], F64);
    let dual = krr_predict(&f_t, &f_s, &y_s, Penalty::Fixed(0.5), true).unwrap();
    let twice = |t: &Tensor| Tensor::cat(&[t, t], 0);
    let primal = krr_predict(&f_t, &twice(&f_s), &twice(&y_s), Penalty::Fixed(1.0), true).unwrap();
    assert_close("primal", &primal, &dual, 1e-8);
    let own = krr_predict(&f_s, &f_s, &y_s, Penalty::Trace(1e-12), true).unwrap();
    assert_close("interpolation", &own, &y_s, 1e-6);
    // In 32 bits, with images that coincide, at the paper's penalty.
    let f = twice(&f_s).to_kind(Kind::Float);
    let y = twice(&y_s).to_kind(Kind::Float);
    let p = krr_predict(&f, &f, &y, Penalty::Trace(1e-6), true).unwrap();
    assert_eq!(p.kind(), Kind::Float);
    assert_close("coinciding images", &p, &y, 1e-3);
}

const WIDTHS: [i64; 2] = [3, 4];

fn fresh() -> impl Fn(u64) -> autodidact_core::Result<InnerModel> {
    |seed| {
        tch::manual_seed(seed as i64);
        let features = PooledConvNet::features(&WIDTHS, 8);
        let body = |p: &tch::nn::Path| -> Box<dyn ModuleT> { Box::new(PooledConvNet::new(p, 1, &WIDTHS)) };
        InnerModel::new(Device::Cpu, body, features, 5, InnerTraining { lr: 0.05, ..Default::default() })
    }
}

fn set() -> DistilledSet {
    tch::manual_seed(7);
    let (x, y) = (Tensor::randn([6, 1, 8, 8], F32), Tensor::randn([6, 5], F32));
    DistilledSet::new(x, y).unwrap()
}

fn config() -> KrrStConfig {
    KrrStConfig { models: 2, max_steps: 4, iterations: 12, lr: 0.02, ..KrrStConfig::default() }
}

#[test]
fn the_gradient_is_a_finite_difference() {
    tch::manual_seed(3);
    let (f_s, y_s) = (Tensor::randn([4, 6], F64), Tensor::randn([4, 2], F64));
    let (f_t, y_t) = (Tensor::randn([3, 6], F64), Tensor::randn([3, 2], F64));
    // A fixed penalty: the one by trace gets no gradient, which a finite difference would see.
    let of = |f_s: &Tensor, y_s: &Tensor| krr_st_loss(&f_t, f_s, y_s, &y_t, Penalty::Fixed(0.1)).unwrap();
    check_gradient(&f_s, 1e-6, |f| of(f, &y_s));
    check_gradient(&y_s, 1e-6, |y| of(&f_s, y));
    // And of the fewer features than images.
    let of = |f_s: &Tensor| {
        let narrow = f_t.narrow(1, 0, 2);
        krr_st_loss(&narrow, f_s, &y_s, &y_t, Penalty::Fixed(0.1)).unwrap()
    };
    check_gradient(&f_s.narrow(1, 0, 2).contiguous(), 1e-6, of);
}

#[test]
fn the_pool_trains_renews_and_leaves_the_real_side_take_turns() {
    let mut krr = KrrSt::new(config(), &set(), fresh(), 0).unwrap();
    assert!(krr.pool().steps().iter().all(|z| (1..4).contains(z)), "{:?}", krr.pool().steps());
    let (x_t, y_t) = (Tensor::randn([9, 1, 8, 8], F32), Tensor::randn([9, 5], F32).set_requires_grad(true));
    let loss = krr.loss(0, &x_t, &y_t).unwrap();
    loss.backward();
    assert!(!y_t.grad().defined(), "representations get no gradient");
    let before = krr.set();
    let first = value(&krr.step(&x_t, &y_t).unwrap());
    assert!((&krr.set().x - &before.x).abs().max().double_value(&[]) > 0.0);
    assert!((&krr.set().y - &before.y).abs().max().double_value(&[]) > 0.0);
    let mut counts = vec![krr.pool().steps()];
    let mut last = first;
    for _ in 1..12 {
        last = value(&krr.step(&x_t, &y_t).unwrap());
        counts.push(krr.pool().steps());
    }
    // Every step moves one counter: up by one, or from the last step to 0.
    for pair in counts.windows(2) {
        let moved: Vec<_> = pair[0].iter().zip(&pair[1]).filter(|(a, b)| a != b).collect();
        assert!(
            moved.len() == 1 && (*moved[0].1 == moved[0].0 + 1 || (*moved[0].0 == 4 && *moved[0].1 == 0)),
            "{pair:?}"
        );
    }
    assert!(counts.iter().flatten().any(|z| *z == 0), "a network was renewed");
    assert!(last < first, "{first} {last}");
    // Targets that are not learned stay.
    let fixed = KrrStConfig { learn_targets: false, ..config() };
    let mut krr = KrrSt::new(fixed, &set(), fresh(), 0).unwrap();
    let _loss = krr.step(&x_t, &y_t).unwrap();
    assert_eq!(krr.set().y, set().y);
}

#[test]
fn a_run_that_was_stopped_goes_on_with_the_same_numbers() {
    tch::manual_seed(5);
    let (x_t, y_t) = (Tensor::randn([9, 1, 8, 8], F32), Tensor::randn([9, 5], F32));
    let start = || KrrSt::new(config(), &set(), fresh(), 1).unwrap();
    let mut whole = start();
    for _ in 0..9 {
        let _loss = whole.step(&x_t, &y_t).unwrap();
    }
    let mut half = start();
    for _ in 0..5 {
        let _loss = half.step(&x_t, &y_t).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.safetensors");
    half.checkpoint().unwrap().save(&path).unwrap();
    let mut resumed = start();
    resumed.restore(&autodidact_core::train::Checkpoint::load(&path, Device::Cpu).unwrap()).unwrap();
    assert_eq!(resumed.next_step(), 5);
    for _ in 5..9 {
        let _loss = resumed.step(&x_t, &y_t).unwrap();
    }
    assert_eq!((resumed.set().x, resumed.set().y), (whole.set().x, whole.set().y));
    let three = KrrStConfig { models: 3, ..config() };
    let mut other = KrrSt::new(three, &set(), fresh(), 1).unwrap();
    let file = autodidact_core::train::Checkpoint::load(&path, Device::Cpu).unwrap();
    assert_eq!(other.restore(&file).unwrap_err().to_string(), "checkpoint: expected 3 networks, got 2");
}

/// The paper's reason for an inner problem without sampling: minimiser and expectation do not commute. Inner loss
/// `(theta x xi - 1)^2` with `xi` 0.5 or 1.5, outer loss `theta^2/2`, at `x = 1`.
#[test]
fn sampled_inner_problems_bias_the_gradient() {
    let inner = InnerLoop { steps: 400, momentum: 0.0, kept: None };
    let solve = |scales: &[f64]| {
        let x = Tensor::from(1f64).set_requires_grad(true);
        let path = unroll(&Tensor::from_slice(&[0.1]), &Tensor::from(0.2), inner, |_, theta| {
            let scales = Tensor::from_slice(scales);
            Ok((theta * &x * scales - 1.0).square().mean(Kind::Double))
        });
        let theta = path.unwrap().pop().unwrap();
        (theta.square().sum(Kind::Double) / 2.0).backward();
        (theta.double_value(&[0]), value(&x.grad()))
    };
    let (theta, gradient) = solve(&[0.5, 1.5]);
    assert!((theta - 0.8).abs() < 1e-9 && (gradient + 0.64).abs() < 1e-9, "{theta} {gradient}");
    let (a, b) = (solve(&[0.5]), solve(&[1.5]));
    assert!(((a.0 + b.0) / 2.0 - 4.0 / 3.0).abs() < 1e-9);
    assert!(((a.1 + b.1) / 2.0 + 20.0 / 9.0).abs() < 1e-6, "{}", (a.1 + b.1) / 2.0);
}

#[test]
fn a_set_survives_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("set.safetensors");
    set().save(&path).unwrap();
    let back = DistilledSet::load(&path, Device::Cpu).unwrap();
    assert_eq!((back.len(), back.x, back.y), (6, set().x, set().y));
    let error = DistilledSet::load(&folder.path().join("none"), Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("none"), "{error}");
}

#[test]
fn bad_input_says_what_is_wrong() {
    let (f_s, y_s, f_t) = (Tensor::ones([3, 4], F64), Tensor::ones([3, 2], F64), Tensor::ones([5, 4], F64));
    let of = |f_t: &Tensor, f_s: &Tensor, y_s: &Tensor, p| krr_predict(f_t, f_s, y_s, p, true).unwrap_err().to_string();
    let p = Penalty::Fixed(0.1);
    assert_eq!(of(&f_t.narrow(1, 0, 3), &f_s, &y_s, p), "f_s: expected [m, 3], the width of f_t, got shape [3, 4]");
    let e = of(&f_t, &f_s, &y_s.narrow(0, 0, 2), p);
    assert_eq!(e, "y_s: expected [3, d], a row for each of f_s, got shape [2, 2]");
    assert!(of(&f_t, &f_s, &y_s, Penalty::Trace(0.0)).contains("penalty"));
    let nan = Tensor::full([3, 4], f64::NAN, F64);
    assert!(of(&f_t, &nan, &y_s, p).contains("positive definite (finite features"));
    let e = krr_st_loss(&f_t, &f_s, &y_s, &y_s, p).unwrap_err().to_string();
    assert_eq!(e, "y_t: expected [5, 2], got shape [3, 2]");
    let e = DistilledSet::new(Tensor::zeros([2, 1, 8, 8], F32), Tensor::zeros([3, 5], F32)).unwrap_err().to_string();
    assert_eq!(e, "targets: expected [2, d], got shape [3, 5]");
    let wide = DistilledSet::new(set().x, Tensor::zeros([6, 4], F32)).unwrap();
    let e = KrrSt::new(config(), &wide, fresh(), 0).unwrap_err().to_string();
    assert_eq!(e, "targets: expected [6, 5], the network's outputs, got shape [6, 4]");
    let none = KrrStConfig { models: 0, ..config() };
    assert!(KrrSt::new(none, &set(), fresh(), 0).is_err());
    let krr = KrrSt::new(config(), &set(), fresh(), 0).unwrap();
    assert_eq!(krr.pool().get(2).unwrap_err().to_string(), "place in the pool: expected below 2, got 2");
}
