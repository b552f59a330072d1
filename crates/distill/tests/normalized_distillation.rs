//! The losses on logits, NKD and USKD: worked examples, identities, values and gradients of the formulas in PyTorch, bad input.

use autodidact_core::device::Precision;
use autodidact_core::testing::{assert_close, check_gradient, fixture};
use autodidact_distill::logits::{
    Dkd, Wsld, kd, kd_cross_entropy, label_smoothing, non_target_log_softmax, teacher_free,
};
use autodidact_distill::normalized_distillation::{
    Nkd, RankScore, Uskd, UskdConfig, kd_decomposition, rank_score, soft_target_label, zipf_labels,
};
use std::collections::BTreeMap;
use tch::nn::VarStore;
use tch::{Device, Kind, Reduction, Tensor};

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);

fn golden() -> BTreeMap<String, Tensor> {
    fixture(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/normalized_distillation.safetensors"))
}

fn near(got: f64, want: f64) {
    assert!((got - want).abs() < 2e-8, "{got} {want}");
}

fn value(x: &Tensor) -> f64 {
    x.double_value(&[])
}

/// (The method of `Tensor` rounds to 32 bits.)
fn cross_entropy(s: &Tensor, y: &Tensor) -> Tensor {
    s.cross_entropy_loss::<Tensor>(y, None, Reduction::Mean, -100, 0.0)
}

/// The worked example: student, teacher, label.
fn example() -> (Tensor, Tensor, Tensor) {
    let s = Tensor::from_slice2(&[[2f64, 1., 0., -1.]]).set_requires_grad(true);
    (s, Tensor::from_slice2(&[[3f64, 1., 0.5, -1.]]), Tensor::from_slice(&[0i64]))
}

#[test]
fn nkd_of_the_worked_example() {
    let (s, t, y) = example();
    near(value(&cross_entropy(&s, &y)), 0.44018970);
    let loss = Nkd::default().forward(&s, &t, &y).unwrap();
    near(value(&loss.target), 0.35621664);
    near(value(&loss.non_target), 1.36680683);
    near(value(&Nkd::cifar100().forward(&s, &t, &y).unwrap().non_target), 33.59734721);
    loss.total.backward();
    let gradient = Tensor::from_slice2(&[[-0.288157, 0.328410, -0.084698, 0.044445]]);
    assert!((s.grad() - gradient).abs().max().double_value(&[]) < 1e-6);
    assert!(value(&s.grad().sum(Kind::Double)).abs() < 1e-12);

    let parts = kd_decomposition(&s, &t, &y).unwrap();
    near(parts.target, 0.35621664);
    near(parts.target + parts.non_target + parts.mass, value(&kd_cross_entropy(&s, &t, 1.0).unwrap()));
    assert!(
        (parts.student_mass - (1.0 - 0.643914)).abs() < 1e-6 && (parts.teacher_mass - (1.0 - 0.809234)).abs() < 1e-6
    );
    let normalised = value(&Nkd { gamma: 1.0, temperature: 1.0 }.forward(&s, &t, &y).unwrap().non_target);
    near(parts.non_target, parts.teacher_mass * normalised);
}

type Loss<'a> = Box<dyn Fn(&Tensor) -> Tensor + 'a>;

#[test]
fn losses_and_gradients_equal_the_formulas() {
    let g = golden();
    let (t, y) = (&g["t"], &g["y"]);
    let losses: [(&str, Loss<'_>); 6] = [
        ("nkd.imagenet", Box::new(|s| Nkd::default().forward(s, t, y).unwrap().total)),
        ("nkd.cifar100", Box::new(|s| Nkd::cifar100().forward(s, t, y).unwrap().total)),
        ("kd", Box::new(|s| kd(s, t, 4.0).unwrap())),
        ("dkd", Box::new(|s| Dkd::default().forward(s, t, y).unwrap().total)),
        ("wsld", Box::new(|s| Wsld::default().forward(s, t, y).unwrap())),
        ("teacher_free", Box::new(|s| teacher_free(s, y, 0.99, 20.0).unwrap())),
    ];
    for (name, loss) in losses {
        let s = g["s"].copy().set_requires_grad(true);
        let value = loss(&s);
        assert_close(name, &value, &g[name], 1e-10);
        value.backward();
        assert_close(name, &s.grad(), &g[&format!("{name}.grad")], 1e-9);
        if name != "wsld" {
            // WSLD's weights follow the student, but get no gradient.
            check_gradient(&g["s"], 1e-6, &loss);
        }
        // In 32 bits, under autocast too.
        let narrow = g["s"].to_kind(Kind::Float);
        let inside = Precision::Bf16.run(Device::Cpu, || Ok(loss(&narrow))).unwrap();
        // Of a divergence times 20^2, five digits.
        assert_close(name, &inside, &g[name], if name == "teacher_free" { 1e-4 } else { 1e-5 });
    }
}

#[test]
fn uskd_of_the_worked_example() {
    let s = Tensor::from_slice2(&[[2f64, 1., 0., -1.], [0.5, 0.2, 1.5, 0.]]);
    let w = Tensor::from_slice2(&[[0.3f64, 0.9, -0.2, 0.1], [0., 0.4, 1., 0.6]]);
    let y = Tensor::from_slice(&[0i64, 2]);
    let at = y.unsqueeze(1);
    let own = s.softmax(1, Kind::Double).gather(1, &at, false);
    let p = soft_target_label(&own, &Tensor::ones([2, 1], F64)).unwrap();
    assert_close("P", &p, &Tensor::from_slice2(&[[1.063336f64], [0.936664]]), 1e-6);

    // A head that gives those weak logits: features are the logits themselves.
    let vs = VarStore::new(Device::Cpu);
    let unit = UskdConfig { beta: 1.0, mu: 1.0, ..Default::default() };
    let losses = |rank_score| {
        let uskd = Uskd::new(vs.root() / format!("{rank_score:?}"), 4, 4, UskdConfig { rank_score, ..unit }).unwrap();
        for (name, mut v) in vs.variables() {
            let identity = if name.ends_with("bias") { Tensor::zeros([4], F64) } else { Tensor::eye(4, F64) };
            tch::no_grad(|| v.copy_(&identity));
        }
        let loss = uskd.forward(&w.to_kind(Kind::Float), &s, &y).unwrap();
        [loss.target, loss.non_target, loss.weak].map(|x| value(&x))
    };
    for (rank, non_target) in [(RankScore::Probability, 1.17660011), (RankScore::LogProbability, 1.11890780)] {
        let [target, others, weak] = losses(rank);
        near(target, 0.52556143);
        near(others, non_target);
        assert!((weak - 1.22465279).abs() < 1e-6, "{weak}");
    }

    let thirds = [6.0 / 13.0, 4.0 / 13.0, 3.0 / 13.0];
    let rows = |how| {
        let scores = rank_score(&s, &w, &at, how).unwrap();
        let z = zipf_labels(&scores, &at, 1.0).unwrap();
        assert!(
            (z.sum_dim_intlist([1i64].as_slice(), false, Kind::Double) - 1.0).abs().max().double_value(&[]) < 1e-12
        );
        z
    };
    let first = [0.0, thirds[0], thirds[1], thirds[2]];
    let second = [thirds[2], thirds[1], 0.0, thirds[0]];
    assert_close("z", &rows(RankScore::Probability), &Tensor::from_slice2(&[first, second]), 1e-9);
    let by_log = [thirds[0], thirds[1], 0.0, thirds[2]];
    assert_close("z", &rows(RankScore::LogProbability), &Tensor::from_slice2(&[first, by_log]), 1e-9);
}

#[test]
fn uskd_equals_the_formula_for_hard_and_mixed_labels() {
    let g = golden();
    let config = UskdConfig { alpha: 0.7, beta: 0.3, mu: 0.2, zipf_exponent: 1.2, ..Default::default() };
    for (name, labels, rank_score) in [
        ("hard", &g["y"], RankScore::Probability),
        ("log", &g["y"], RankScore::LogProbability),
        ("mixed", &g["mixed"], RankScore::Probability),
    ] {
        let mut vs = VarStore::new(Device::Cpu);
        let uskd = Uskd::new(vs.root(), 5, 7, UskdConfig { rank_score, ..config }).unwrap();
        for (name, mut v) in vs.variables() {
            tch::no_grad(|| v.copy_(&g[if name.ends_with("bias") { "bias" } else { "head" }]));
        }
        vs.double();
        let (s, feature) = (g["s"].copy().set_requires_grad(true), g["feature"].copy().set_requires_grad(true));
        let loss = uskd.forward(&feature, &s, labels).unwrap().total;
        assert_close(name, &loss, &g[&format!("uskd.{name}")], 1e-7);
        loss.backward();
        assert_close(name, &s.grad(), &g[&format!("uskd.{name}.grad")], 1e-7);
        assert_close(name, &feature.grad(), &g[&format!("uskd.{name}.feature_grad")], 1e-6);
    }
}

#[test]
fn the_non_target_part_sees_shapes_alone() {
    let g = golden();
    let (s, t, y) = (&g["s"], &g["t"], &g["y"]);
    let at = y.unsqueeze(1);
    let of = |s: &Tensor| Nkd::cifar100().forward(s, t, y).unwrap().non_target;
    let want = of(s);
    let shifted = (s + 5.0).scatter(1, &at, &s.gather(1, &at, false));
    assert_close("a constant on the others", &of(&shifted), &want, 1e-12);
    assert_close("another target logit", &of(&s.scatter_value(1, &at, 9.0)), &want, 1e-12);
    // At the teacher's own logits it is smallest.
    let same = t.copy().set_requires_grad(true);
    of(&same).backward();
    assert!(same.grad().abs().max().double_value(&[]) < 1e-12);

    // gamma lambda (N(s) - N(t)) / B for the others, nothing for the target.
    let s = s.copy().set_requires_grad(true);
    of(&s).backward();
    let n = |z: &Tensor| non_target_log_softmax(z, y, 3.0).unwrap().exp();
    let expected = (n(&s.detach()) - n(t)) * (3.5 * 3.0 / 6.0);
    let column = Tensor::arange(6, (Kind::Int64, Device::Cpu)).unsqueeze(0);
    let others = &column + column.ge_tensor(&at).to_kind(Kind::Int64);
    assert_close("gradient", &s.grad().gather(1, &others, false), &expected, 1e-9);
    assert_eq!(s.grad().gather(1, &at, false), Tensor::zeros([6, 1], F64));
}

#[test]
fn special_cases() {
    let g = golden();
    let (s, t, y) = (&g["s"], &g["t"], &g["y"]);
    // A teacher that is sure of the label: the target part is the cross entropy.
    let sure = Tensor::zeros([6, 7], F64).scatter_value(1, &y.unsqueeze(1), 200.0);
    let nkd = Nkd { gamma: 0.0, temperature: 1.0 }.forward(s, &sure, y).unwrap();
    assert_close("target", &nkd.total, &cross_entropy(s, y), 1e-12);
    assert_close("smoothing 0", &label_smoothing(s, y, 0.0).unwrap(), &cross_entropy(s, y), 1e-12);
    // Distributions count by their heaviest class.
    let soft = Tensor::full([6, 7], 0.05, F64).scatter_value(1, &y.unsqueeze(1), 0.7);
    let by_soft = Nkd::default().forward(s, t, &soft).unwrap().total;
    assert_close("soft", &by_soft, &Nkd::default().forward(s, t, y).unwrap().total, 0.0);
    // KD and its cross-entropy form differ by the teacher's entropy.
    let p = (t / 4.0).softmax(1, Kind::Double);
    let entropy = -(&p * p.log()).sum(Kind::Double) / 6.0 * 16.0;
    assert_close("entropy", &(kd_cross_entropy(s, t, 4.0).unwrap() - kd(s, t, 4.0).unwrap()), &entropy, 1e-10);
    // A batch of one: P = 1 and the target part is the cross entropy.
    let one = soft_target_label(&Tensor::from_slice2(&[[0.3f64]]), &Tensor::ones([1, 1], F64)).unwrap();
    assert_eq!(value(&one.view([])), 1.0);
    // Confident students stay finite in 32 bits.
    let steep = (s * 100.0).to_kind(Kind::Float);
    let loss = Nkd::default().forward(&steep, &t.to_kind(Kind::Float), y).unwrap();
    assert!(value(&loss.total).is_finite());
}

#[test]
fn no_gradient_passes_the_labels_uskd_makes() {
    let g = golden();
    let s = g["s"].copy().set_requires_grad(true);
    let at = g["y"].unsqueeze(1);
    let p = soft_target_label(&s.softmax(1, Kind::Double).gather(1, &at, false), &Tensor::ones([6, 1], F64)).unwrap();
    let scores = rank_score(&s, &s, &at, RankScore::Probability).unwrap();
    assert!(!p.requires_grad() && !scores.requires_grad() && !zipf_labels(&scores, &at, 1.0).unwrap().requires_grad());
    assert!((value(&p.mean(Kind::Double)) - 1.0).abs() < 1e-12);
}

#[test]
fn bad_input_is_an_error() {
    let (s, t, y) = example();
    assert!(kd(&s, &t.narrow(1, 0, 3), 1.0).unwrap_err().to_string().contains("[1, 4]"));
    assert!(kd(&s, &t, 0.0).is_err());
    assert!(Nkd::default().forward(&s, &t, &Tensor::from_slice(&[4i64])).unwrap_err().to_string().contains("0..4"));
    assert!(Nkd { gamma: -1.0, temperature: 1.0 }.forward(&s, &t, &y).is_err());
    assert!(Dkd::default().forward(&s, &t, &Tensor::from_slice(&[0i64, 1])).is_err());
    assert!(teacher_free(&s, &y, 0.2, 20.0).is_err());
    assert!(label_smoothing(&s, &y, 1.5).is_err());
    assert!(non_target_log_softmax(&s.narrow(1, 0, 1), &y, 1.0).is_err());
    let vs = VarStore::new(Device::Cpu);
    assert!(Uskd::new(vs.root(), 3, 1, UskdConfig::default()).is_err());
    assert!(Uskd::new(vs.root(), 3, 4, UskdConfig { beta: f64::NAN, ..Default::default() }).is_err());
    let uskd = Uskd::new(vs.root(), 3, 4, UskdConfig::cifar100()).unwrap();
    let feature = Tensor::zeros([1, 3], (Kind::Float, Device::Cpu));
    let (s, bad) = (s.to_kind(Kind::Float), Tensor::zeros([1, 5], (Kind::Float, Device::Cpu)));
    assert!(uskd.forward(&feature, &bad, &y).unwrap_err().to_string().contains("[B, 4]"));
    assert!(uskd.forward(&bad, &s, &y).unwrap_err().to_string().contains("[1, 3]"));
    assert!(uskd.forward(&feature, &s, &Tensor::zeros([1, 3], (Kind::Float, Device::Cpu))).is_err());
    assert!(uskd.forward(&feature, &s, &Tensor::from_slice(&[7i64])).is_err());
}
