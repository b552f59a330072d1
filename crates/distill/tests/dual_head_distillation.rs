//! Dual-head distillation: worked examples, identities, values and gradients of the definitions in PyTorch, alignment, heads, bad input.

use autodidact_core::device::Precision;
use autodidact_core::testing::{assert_close, check_gradient, fixture};
use autodidact_distill::dual_head_distillation::{
    AuxHead, AuxHeadConfig, Dhkd, DualHead, GradientAligner, Projection, Scope, binary_kl, binary_kl_norm,
    gradient_conflict, neural_collapse,
};
use autodidact_distill::logits::kd;
use std::collections::BTreeMap;
use tch::nn::{Module, ModuleT, VarStore};
use tch::{Device, Kind, Tensor};

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);
const F32: (Kind, Device) = (Kind::Float, Device::Cpu);

fn golden() -> BTreeMap<String, Tensor> {
    fixture(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/dual_head_distillation.safetensors"))
}

fn value(x: &Tensor) -> f64 {
    x.double_value(&[])
}

fn near(got: f64, want: f64, tolerance: f64) {
    assert!((got - want).abs() < tolerance, "{got} {want}");
}

type Loss = fn(&Tensor, &Tensor, f64) -> autodidact_core::Result<Tensor>;
const LOSSES: [(&str, Loss); 2] = [("binary_kl", binary_kl), ("binary_kl_norm", binary_kl_norm)];

#[test]
fn losses_of_the_worked_example() {
    let t = Tensor::from_slice2(&[[3f64, -1., -2.]]);
    let of = |loss: Loss| {
        let s = Tensor::from_slice2(&[[2f64, 0., -1.]]).set_requires_grad(true);
        let l = loss(&s, &t, 2.0).unwrap();
        l.backward();
        (value(&l), s.grad(), s.detach())
    };
    let (plain, gradient, s) = of(binary_kl);
    near(plain, 0.309_120_38, 1e-8);
    assert_close("BinaryKL", &gradient, &Tensor::from_slice2(&[[-0.173032f64, 0.244919, 0.217198]]), 1e-5);
    let (norm, gradient, _) = of(binary_kl_norm);
    near(norm, 0.371_157_64, 1e-8);
    assert_close("BinaryKL-Norm", &gradient, &(((&s - &t) / 2.0).sigmoid() - 0.5).g_mul_scalar(2.0), 1e-12);
    let log_cosh = [-1f64, 1.0, 1.0].map(|d| (d / 4.0).cosh().ln()).iter().sum::<f64>() * 4.0;
    near(norm, log_cosh, 1e-12);
    near(value(&kd(&s, &t, 4.0).unwrap()), 0.490_175_03, 1e-8);
}

#[test]
fn losses_and_gradients_equal_the_definitions() {
    let g = golden();
    for (name, loss) in LOSSES {
        let s = g["s"].copy().set_requires_grad(true);
        let l = loss(&s, &g["t"], 2.0).unwrap();
        assert_close(name, &l, &g[name], 1e-10);
        l.backward();
        assert_close(name, &s.grad(), &g[&format!("{name}.grad")], 1e-10);
        check_gradient(&g["s"], 1e-6, |s| loss(s, &g["t"], 2.0).unwrap());
        // In 32 bits, under autocast too.
        let [s, t] = ["s", "t"].map(|k| g[k].to_kind(Kind::Float));
        let inside = Precision::Bf16.run(Device::Cpu, || loss(&s, &t, 2.0)).unwrap();
        assert_close(name, &inside, &g[name], 1e-6);
        let narrow = loss(&s.to_kind(Kind::BFloat16), &t.to_kind(Kind::BFloat16), 2.0).unwrap();
        assert_eq!(narrow.kind(), Kind::Float);
        assert_close(name, &narrow, &g[name], 1e-2);
    }
}

#[test]
fn both_see_the_level_and_vanish_at_the_teacher() {
    let g = golden();
    let (s, t) = (&g["s"], &g["t"]);
    for (name, loss) in LOSSES {
        near(value(&loss(t, t, 2.0).unwrap()), 0.0, 1e-12);
        let (here, shifted) = (value(&loss(s, t, 2.0).unwrap()), value(&loss(&(s + 1.0), t, 2.0).unwrap()));
        assert!((here - shifted).abs() > 0.1, "{name}: {here} {shifted}");
        // Quadratic at a high temperature.
        let quadratic = (s - t).square().sum(Kind::Double) / (8.0 * 6.0);
        assert_close(name, &loss(s, t, 1e4).unwrap(), &quadratic, 1e-4);
        // Large logits stay exact in 32 bits, where probabilities would be 0 and 1.
        let [far, near_by] = [Tensor::full([1, 2], 60.0, F32), Tensor::full([1, 2], -60.0, F32)];
        let l = value(&loss(&far, &near_by, 2.0).unwrap());
        // 2 classes, 4 times 60 (or log cosh 30) each.
        let want = if name == "binary_kl" { 8.0 * 30.0 } else { 8.0 * (30.0 - 2f64.ln()) };
        near(l, want, 1e-3);
    }
    assert_close("KD", &kd(&(s + 1.0), t, 4.0).unwrap(), &kd(s, t, 4.0).unwrap(), 1e-9);
    // The normalised loss sees differences alone; the plain one saturates with the teacher.
    let both = binary_kl_norm(&(s + 7.0), &(t + 7.0), 2.0).unwrap();
    assert_close("differences", &both, &binary_kl_norm(s, t, 2.0).unwrap(), 1e-9);
    let saturated = binary_kl(&(s + 60.0), &(t + 60.0), 2.0).unwrap();
    assert!(value(&saturated) < 1e-6);
}

#[test]
fn no_gradient_reaches_the_teacher() {
    let g = golden();
    for (_, loss) in LOSSES {
        let (s, t) = (g["s"].copy().set_requires_grad(true), g["t"].copy().set_requires_grad(true));
        loss(&s, &t, 2.0).unwrap().backward();
        assert!(s.grad().defined() && !t.grad().defined());
    }
}

#[test]
fn alignment_of_the_worked_example() {
    // g1 = (1, 0) and g2 = (-1, 1).
    let p = Tensor::zeros([2], F64).set_requires_grad(true);
    let (a, b) = (p.get(0), p.get(1) - p.get(0));
    let joined = |first: &Tensor, second: &Tensor, projection| {
        let aligner = GradientAligner { scope: Scope::AllParameters, projection };
        aligner.combine(first, second, &[p.shallow_clone()], &[]).unwrap()
    };
    let one = joined(&a, &b, Projection::Second);
    assert_eq!(one.gradients[0], Tensor::from_slice(&[1f64, 1.0]));
    assert!(one.conflict.int64_value(&[]) == 1);
    near(value(&one.cosine), -(0.5f64.sqrt()), 1e-12);
    // After it, the second loss's part is orthogonal to the first gradient.
    near(value(&(&one.gradients[0] - Tensor::from_slice(&[1f64, 0.0])).get(0)), 0.0, 1e-12);
    // PCGrad: (1, 0) loses its part along (-1, 1), which is (1/2, -1/2).
    assert_eq!(joined(&a, &b, Projection::Both).gradients[0], Tensor::from_slice(&[0.5f64, 1.5]));
    // Without a conflict, the sum.
    let plain = joined(&a, &(-&b), Projection::Both);
    assert_eq!(plain.gradients[0], Tensor::from_slice(&[2f64, -1.0]));
    assert!(plain.conflict.int64_value(&[]) == 0);
    // A loss without gradient in the scope.
    let q = Tensor::zeros([1], F64).set_requires_grad(true);
    let elsewhere = q.get(0);
    let alone = joined(&a, &elsewhere, Projection::Second);
    assert_eq!((alone.gradients[0].copy(), value(&alone.cosine)), (Tensor::from_slice(&[1f64, 0.0]), 0.0));
}

/// The network of the fixture: its parameters and the two losses.
fn network(g: &BTreeMap<String, Tensor>) -> ([Tensor; 3], Tensor, Tensor) {
    let [w, main, aux] = ["w", "main", "aux"].map(|k| g[k].copy().set_requires_grad(true));
    let h = g["x"].matmul(&w.tr()).tanh();
    let first = h.matmul(&main.tr()).cross_entropy_loss::<Tensor>(&g["y"], None, tch::Reduction::Mean, -100, 0.0);
    let second = binary_kl_norm(&h.matmul(&aux.tr()), &g["against"], 2.0).unwrap();
    ([w, main, aux], first, second)
}

#[test]
fn aligned_gradients_equal_the_definition() {
    let g = golden();
    let flat = |g: &[Tensor]| Tensor::cat(&g.iter().map(|g| g.reshape([-1])).collect::<Vec<_>>(), 0);
    for (name, scope) in [("all_parameters", Scope::AllParameters), ("backbone_only", Scope::BackboneOnly)] {
        for (kind, projection) in [("second", Projection::Second), ("both", Projection::Both)] {
            let ([w, main, aux], first, second) = network(&g);
            let (backbone, heads) = ([w], [main, aux]);
            let aligner = GradientAligner { scope, projection };
            let aligned = aligner.combine(&first, &second, &backbone, &heads).unwrap();
            let inside = if scope == Scope::AllParameters { 3 } else { 1 };
            assert_close(kind, &flat(&aligned.gradients[..inside]), &g[&format!("{name}.{kind}")], 1e-9);
            assert_close("cosine", &aligned.cosine, &g[&format!("{name}.cosine")], 1e-9);
            // As a loss, it has the sum's value and these gradients.
            let loss = aligned.as_loss(&(&first + &second), backbone.iter().chain(&heads));
            assert_close("value", &loss, &(&first + &second), 1e-12);
            loss.backward();
            for (p, want) in backbone.iter().chain(&heads).zip(&aligned.gradients) {
                assert_close("gradient", &p.grad(), want, 1e-12);
            }
        }
    }
}

#[test]
fn conflicts_are_told_by_group() {
    let g = golden();
    let ([w, main, aux], first, second) = network(&g);
    let groups = [vec![w.shallow_clone()], vec![main.shallow_clone()], vec![w, main, aux]];
    let cosines = gradient_conflict(&first, &second, &groups).unwrap();
    assert_close("backbone", &cosines.get(0), &g["backbone_only.cosine"], 1e-9);
    // The second loss does not reach the main head.
    assert_eq!(value(&cosines.get(1)), 0.0);
    assert_close("all", &cosines.get(2), &g["all_parameters.cosine"], 1e-9);
}

#[test]
fn neural_collapse_equals_the_definition_and_vanishes_on_a_simplex() {
    let g = golden();
    let nc = neural_collapse(&g["features"], &g["labels"], &g["weights"]).unwrap();
    let all = Tensor::from_slice(&[nc.within, nc.equinorm, nc.equiangular, nc.self_duality]);
    assert_close("collapse", &all, &g["nc"], 1e-9);
    // Three directions at 120 degrees, two samples each, and a classifier that points along them.
    let angle = Tensor::from_slice(&[0f64, 1.0, 2.0]) * (std::f64::consts::TAU / 3.0);
    let simplex = Tensor::stack(&[angle.cos(), angle.sin()], 1);
    let labels = Tensor::from_slice(&[0i64, 1, 2, 0, 1, 2]);
    let features = simplex.index_select(0, &labels) + 5.0;
    let nc = neural_collapse(&features, &labels, &(&simplex * 3.0)).unwrap();
    for zero in [nc.within, nc.equinorm, nc.equiangular, nc.self_duality] {
        near(zero, 0.0, 1e-12);
    }
    // Spread of half a unit along one axis: S_W = diag(0, 1/4), S_B = 1/2 of the identity, of 3 classes.
    let spread = Tensor::from_slice2(&[[0f64, 0.5]]) * Tensor::from_slice(&[1f64, 1., 1., -1., -1., -1.]).unsqueeze(1);
    let nc = neural_collapse(&(&features + spread), &labels, &simplex).unwrap();
    near(nc.within, 0.25 / 0.5 / 3.0, 1e-9);
}

struct Backbone(tch::nn::Linear);

impl std::fmt::Debug for Backbone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Backbone")
    }
}

impl ModuleT for Backbone {
    fn forward_t(&self, x: &Tensor, _train: bool) -> Tensor {
        self.0.forward(x).relu()
    }
}

fn dual(vs: &VarStore, config: AuxHeadConfig) -> DualHead<Backbone> {
    tch::manual_seed(3);
    let backbone = Backbone(autodidact_core::nn::layers::linear(vs.root() / "body", 5, 8, true));
    DualHead::new(&vs.root(), backbone, 8, 4, config).unwrap()
}

#[test]
fn without_the_logit_loss_the_student_trains_as_alone() {
    // Whatever the auxiliary head, the rest starts from the same weights, and alpha 0 leaves the main head its cross entropy.
    let x = golden()["x"].to_kind(Kind::Float);
    let (y, t) = (Tensor::from_slice(&[0i64, 1, 2, 3, 0, 1]), Tensor::ones([6, 4], F32));
    let gradient = |config, alpha| {
        let vs = VarStore::new(Device::Cpu);
        let student = dual(&vs, config);
        let (main, aux) = student.forward_train(&x);
        let loss = Dhkd { alpha, ..Dhkd::default() }.forward(&main, &aux, &t, &y, 0).unwrap();
        loss.total.backward();
        let all = vs.variables();
        let of = |name: &str| all[name].grad();
        assert_eq!(of("aux.classifier.weight").defined(), alpha > 0.0);
        (of("body.weight").copy(), of("main.weight").copy(), value(&loss.cross_entropy))
    };
    let (body, main, ce) = gradient(AuxHeadConfig::Linear, 0.0);
    let with_mlp = gradient(AuxHeadConfig::mlp(), 0.0);
    assert_eq!((&body, &main, ce), (&with_mlp.0, &with_mlp.1, with_mlp.2));
    let distilled = gradient(AuxHeadConfig::Linear, 1.0);
    assert_eq!(distilled.1, main, "the logit loss does not reach the main head");
    assert!((&distilled.0 - &body).abs().max().double_value(&[]) > 1e-4, "it reaches the backbone");
}

#[test]
fn the_student_is_the_backbone_with_the_main_head() {
    let vs = VarStore::new(Device::Cpu);
    let student = dual(&vs, AuxHeadConfig::mlp());
    let x = golden()["x"].to_kind(Kind::Float);
    let (main, aux) = student.forward_train(&x);
    assert_eq!((main.size(), aux.size()), (vec![6, 4], vec![6, 4]));
    let whole = student.forward_t(&x, false);
    let (backbone, head) = student.into_student();
    assert_eq!(head.forward(&backbone.forward_t(&x, false)), whole);
    // Dropout and batch norm act in training alone.
    let head = AuxHead::new(vs.root() / "other", 5, 4, AuxHeadConfig::Mlp { hidden: 16, dropout: 0.5 }).unwrap();
    assert_eq!(head.forward_t(&x, false), head.forward_t(&x, false));
    assert_ne!(head.forward_t(&x, true), head.forward_t(&x, true));
}

#[test]
fn the_auxiliary_loss_stops_at_its_epoch() {
    let g = golden();
    let y = g["y"].copy();
    let config = Dhkd::imagenet();
    let before = config.forward(&g["s"], &g["s"], &g["t"], &y, 49).unwrap();
    assert_close("alpha", &before.logit_loss.unwrap(), &(&g["binary_kl_norm"] * 0.1), 1e-10);
    assert!(config.forward(&g["s"], &g["s"], &g["t"], &y, 50).unwrap().logit_loss.is_none());
}

#[test]
fn bad_input_is_an_error() {
    let g = golden();
    let (s, t) = (&g["s"], &g["t"]);
    for (_, loss) in LOSSES {
        assert!(loss(s, &t.narrow(1, 0, 3), 2.0).unwrap_err().to_string().contains("[6, 7]"));
        assert!(loss(s, t, 0.0).unwrap_err().to_string().contains("temperature"));
    }
    let labels = Tensor::from_slice(&[0i64, 1, 2, 3, 4, 9]);
    assert!(Dhkd::default().forward(s, s, t, &labels, 0).unwrap_err().to_string().contains("0..7"));
    let negative = Dhkd { alpha: -1.0, ..Dhkd::default() };
    assert!(negative.forward(s, s, t, &g["y"], 0).unwrap_err().to_string().contains("alpha"));
    let vs = VarStore::new(Device::Cpu);
    let head = |features, config| AuxHead::new(vs.root(), features, 4, config).unwrap_err().to_string();
    assert!(head(0, AuxHeadConfig::Linear).contains("positive"));
    assert!(head(5, AuxHeadConfig::Mlp { hidden: 8, dropout: 1.0 }).contains("dropout"));
    let a = Tensor::zeros([], F64).set_requires_grad(true);
    assert!(GradientAligner::default().combine(&a, &a, &[], &[]).is_err());
    assert!(gradient_conflict(&a, &a, &[vec![]]).unwrap_err().to_string().contains("none of them empty"));
    let one_class = Tensor::zeros([6], (Kind::Int64, Device::Cpu));
    assert!(neural_collapse(s, &one_class, t).unwrap_err().to_string().contains("at least 2"));
    assert!(neural_collapse(s, &g["y"], &t.narrow(1, 0, 3)).unwrap_err().to_string().contains("[K, 7]"));
}
