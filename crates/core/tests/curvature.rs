//! Hessians, their eigenvalues and traces, tangent kernels and alignments: closed forms and torch.func's values.

use autodidact_core::curvature::{Hessian, Lanczos};
use autodidact_core::tangent::{Centring, cka, debiased_cka, empirical_ntk, jacobian, linear_cka, tangent_kernel};
use autodidact_core::testing::{assert_close, fixture};
use autodidact_core::{Error, seed};
use rand::RngExt;
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

const DOUBLE: (Kind, Device) = (Kind::Double, Device::Cpu);

/// In f64 (`cross_entropy_for_logits` goes through f32).
fn cross_entropy(logits: &Tensor, labels: &Tensor) -> Tensor {
    logits.log_softmax(-1, Kind::Double).nll_loss(labels)
}

struct Golden {
    g: BTreeMap<String, Tensor>,
    params: Vec<Tensor>,
}

impl Golden {
    fn new() -> Self {
        let g = fixture(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/curvature.safetensors"));
        let params = ["w1", "b1", "w2"].map(|n| g[n].copy().set_requires_grad(true)).into();
        Self { g, params }
    }

    fn outputs(&self, x: &Tensor) -> Tensor {
        let [w1, b1, w2] = &self.params[..] else { unreachable!() };
        (x.matmul(&w1.tr()) + b1).tanh().matmul(&w2.tr())
    }

    fn loss(&self) -> Tensor {
        cross_entropy(&self.outputs(&self.g["x"]), &self.g["labels"])
    }

    fn value(&self, name: &str) -> f64 {
        self.g[name].double_value(&[])
    }
}

#[test]
fn hessians_of_a_network_are_those_of_torch_func() {
    let golden = Golden::new();
    let whole = Hessian::of(&golden.params, || Ok(golden.loss())).unwrap();
    // The same from four batches of three.
    let part = |i: usize| {
        let rows = |t: &Tensor| t.narrow(0, 3 * i as i64, 3);
        Ok(cross_entropy(&golden.outputs(&rows(&golden.g["x"])), &rows(&golden.g["labels"])))
    };
    let parts = Hessian::in_parts(&golden.params, 4, part).unwrap();
    for h in [&whole, &parts] {
        assert_eq!(h.size(), 40);
        assert_close("gradient", &h.gradient().unwrap(), &golden.g["gradient"], 1e-12);
        assert_close("product", &h.product(&golden.g["v"]).unwrap(), &golden.g["hv"], 1e-12);
        assert_close("matrix", &h.dense().unwrap(), &golden.g["hessian"], 1e-12);
        assert!((h.exact_trace().unwrap() - golden.value("trace")).abs() < 1e-12);
        let found = h.largest(3, &Lanczos { tolerance: 1e-9, ..Lanczos::default() }).unwrap();
        assert!(found.converged && found.steps <= 40);
        assert_close("eigenvalues", &Tensor::from_slice(&found.values), &golden.g["eigenvalues"].narrow(0, 0, 3), 1e-9);
        for (i, value) in found.values.iter().enumerate() {
            let v = found.vectors.get(i as i64);
            let residual = (h.product(&v).unwrap() - &v * *value).norm().double_value(&[]);
            assert!(residual < 1e-8, "{residual}");
        }
        let trace = h.trace(400, 3).unwrap();
        let exact = golden.value("trace");
        assert!((trace.value - exact).abs() < 4.0 * trace.standard_error, "{trace:?} {exact}");
        assert!(trace.standard_error < 0.1 * exact);
    }
    assert_eq!(whole.trace(5, 1).unwrap(), whole.trace(5, 1).unwrap());
    assert!(golden.params.iter().all(|p| !p.grad().defined()), "gradients of a training step are left alone");
}

#[test]
fn no_random_stream_of_the_training_moves() {
    let golden = Golden::new();
    let h = Hessian::of(&golden.params, || Ok(golden.loss())).unwrap();
    let draw = |measure: bool| {
        tch::manual_seed(5);
        if measure {
            h.trace(2, 0).unwrap();
            h.sharpness(&Lanczos::default()).unwrap();
        }
        Tensor::rand([3], DOUBLE)
    };
    assert_eq!(draw(false), draw(true));
}

/// `w^T A w / 2` with `A = Q diag(d) Q^T`.
fn quadratic(d: &[f64], kind: Kind) -> (Tensor, Tensor) {
    let n = d.len();
    let mut rng = seed::rng(1, &["quadratic"]);
    let entries: Vec<f64> = (0..n * n).map(|_| rng.random_range(-1.0..1.0)).collect();
    let (q, _) = Tensor::linalg_qr(&Tensor::from_slice(&entries).view([n as i64, n as i64]), "reduced");
    let a = q.matmul(&Tensor::from_slice(d).diag(0)).matmul(&q.tr()).to_kind(kind);
    let w = Tensor::from_slice(&vec![0.5; n]).to_kind(kind).set_requires_grad(true);
    (a, w)
}

fn half_form(a: &Tensor, w: &Tensor) -> Tensor {
    w.dot(&a.mv(w)) / 2.0
}

#[test]
fn eigenvalues_of_quadratics_are_found_multiple_ones_too() {
    let mut d: Vec<f64> = (0..60).map(|i| 0.01 * f64::from(i)).collect();
    d.extend([-3.0, 5.0, 5.0, 4.0]);
    for (kind, tolerance) in [(Kind::Double, 1e-9), (Kind::Float, 1e-4)] {
        let (a, w) = quadratic(&d, kind);
        let h = Hessian::of(&[w.shallow_clone()], || Ok(half_form(&a, &w))).unwrap();
        let found = h.largest(3, &Lanczos { steps: 64, tolerance: 1e-12, seed: 2 }).unwrap();
        for (value, want) in found.values.iter().zip([5.0, 5.0, 4.0]) {
            assert!((value - want).abs() < tolerance, "{found:?}");
        }
        assert!((found.smallest + 3.0).abs() < tolerance);
        // A sharp eigenvalue takes few products.
        let found = h.largest(1, &Lanczos::default()).unwrap();
        assert!(found.converged && found.steps < 20 && (found.values[0] - 5.0).abs() < 1e-3, "{found:?}");
        // Residuals are what the recurrence says.
        let v = found.vectors.get(0);
        let residual = (h.product(&v).unwrap() - &v * found.values[0]).norm().double_value(&[]);
        assert!((residual - found.residuals[0]).abs() < 10.0 * tolerance, "{residual} {:?}", found.residuals);
    }
    // Every direction is an eigenvector.
    let w = Tensor::ones([7], DOUBLE).set_requires_grad(true);
    let h = Hessian::of(&[w.shallow_clone()], || Ok(w.square().sum(Kind::Double))).unwrap();
    assert_eq!(h.largest(7, &Lanczos::default()).unwrap().values.len(), 7);
    assert!((h.sharpness(&Lanczos::default()).unwrap() - 2.0).abs() < 1e-12);
    // Signs give a diagonal's trace exactly.
    let trace = h.trace(3, 0).unwrap();
    assert!((trace.value - 14.0).abs() < 1e-12 && trace.standard_error < 1e-12);
}

#[test]
fn a_linear_loss_and_unused_parameters_have_no_curvature() {
    let [a, b] = [2.0, 3.0].map(|v| Tensor::full([2], v, DOUBLE).set_requires_grad(true));
    let params = [a.shallow_clone(), b.shallow_clone()];
    let h = Hessian::of(&params, || Ok(a.sum(Kind::Double))).unwrap();
    assert_eq!(h.gradient().unwrap(), Tensor::from_slice(&[1f64, 1.0, 0.0, 0.0]));
    assert_eq!((h.exact_trace().unwrap(), h.sharpness(&Lanczos::default()).unwrap()), (0.0, 0.0));
    let h = Hessian::of(&params, || Ok((&b * &b * &b).sum(Kind::Double))).unwrap();
    assert_eq!(h.diagonal().unwrap(), Tensor::from_slice(&[0f64, 0.0, 18.0, 18.0]));
}

#[test]
fn tangent_kernels_are_those_of_torch_func() {
    let golden = Golden::new();
    let outputs = golden.outputs(&golden.g["x"]);
    let j = jacobian(&outputs, &golden.params).unwrap();
    assert_close("Jacobian", &j, &golden.g["jacobian"], 1e-12);
    let k = empirical_ntk(&outputs, &golden.params).unwrap();
    assert_close("kernel", &k, &golden.g["ntk"], 1e-12);
    let block = tangent_kernel(&j.narrow(0, 0, 4), &j.narrow(0, 4, 8)).unwrap();
    assert_close("kernel between sets", &block, &k.narrow(0, 0, 4).narrow(1, 4, 8), 1e-12);

    let y = golden.g["labels"].one_hot(3);
    for (name, centring) in [("none", Centring::None), ("columns", Centring::Columns), ("both", Centring::Both)] {
        let got = cka(&k, &y, centring).unwrap();
        assert!((got - golden.value(&format!("cka_{name}"))).abs() < 1e-12, "{name}: {got}");
    }
    // A vector of targets, by the formula y^T K y / (|K| |y|^2).
    let y = golden.g["x"].select(1, 0);
    let c = &y - y.mean(Kind::Double);
    let centred = &k - k.mean_dim([0i64].as_slice(), true, Kind::Double);
    let want =
        c.dot(&centred.mv(&c)).double_value(&[]) / (centred.norm().double_value(&[]) * c.dot(&c).double_value(&[]));
    assert!((cka(&k, &y, Centring::Columns).unwrap() - want).abs() < 1e-12);
}

#[test]
fn the_quadratic_network_of_the_grokking_paper_has_its_kernel() {
    // N = D = 2, W = I, alpha = 2, eps = 0.5: f(x) = (alpha/N) sum_i (w_i x + (eps/2) (w_i x)^2).
    let w = Tensor::eye(2, DOUBLE).set_requires_grad(true);
    let x = Tensor::from_slice2(&[[1f64, 2.0], [0.5, -1.0]]);
    let h = x.matmul(&w.tr());
    let f = (&h + h.square() * 0.25).sum_dim_intlist([1i64].as_slice(), false, Kind::Double);
    assert!((f.double_value(&[0]) - 4.25).abs() < 1e-12);
    assert!((empirical_ntk(&f, &[w]).unwrap().double_value(&[0, 1]) + 4.3125).abs() < 1e-12);
}

#[test]
fn features_align_up_to_turns_scales_and_shifts() {
    tch::manual_seed(0);
    let x = Tensor::randn([6, 3], DOUBLE);
    let (q, _) = Tensor::linalg_qr(&Tensor::randn([3, 3], DOUBLE), "reduced");
    let y = 3.0 * x.matmul(&q) + 1.5;
    assert!((linear_cka(&x, &x).unwrap() - 1.0).abs() < 1e-12);
    assert!((linear_cka(&x, &y).unwrap() - 1.0).abs() < 1e-12);
    // Both forms: more features than inputs, and fewer.
    let z = Tensor::cat(&[&x, &Tensor::randn([6, 8], DOUBLE)], 1);
    let gram = z.matmul(&z.tr());
    let other = Tensor::randn([6, 2], DOUBLE);
    assert!((linear_cka(&z, &other).unwrap() - cka(&gram, &other, Centring::Both).unwrap()).abs() < 1e-12);
}

#[test]
fn bad_input_gives_the_right_error() {
    let w = Tensor::ones([3], DOUBLE).set_requires_grad(true);
    let ok = || Ok(w.square().sum(Kind::Double));
    let params = [w.shallow_clone()];
    let said = |e: Error| e.to_string();
    assert!(said(Hessian::of(&[], ok).unwrap_err()).contains("at least one"));
    assert!(said(Hessian::of(&[w.detach()], ok).unwrap_err()).contains("without gradients"));
    assert!(said(Hessian::of(&params, || Ok(w.square())).unwrap_err()).contains("a scalar"));
    assert!(said(Hessian::of(&params, || Ok(Tensor::from(1.0))).unwrap_err()).contains("depends on the parameters"));
    assert!(said(Hessian::in_parts(&params, 0, |_| ok()).unwrap_err()).contains("parts"));
    let h = Hessian::of(&params, ok).unwrap();
    assert!(said(h.product(&Tensor::ones([4], DOUBLE)).unwrap_err()).contains("expected [3]"));
    assert!(said(h.product(&Tensor::ones([3], (Kind::Float, Device::Cpu))).unwrap_err()).contains("Double"));
    assert!(said(h.trace(1, 0).unwrap_err()).contains("samples"));
    assert!(said(h.largest(4, &Lanczos::default()).unwrap_err()).contains("eigenvalues"));
    assert!(h.largest(1, &Lanczos { tolerance: 0.0, ..Lanczos::default() }).is_err());
    let bad = Hessian::of(&params, || Ok((&w * f64::NAN).square().sum(Kind::Double))).unwrap();
    assert!(said(bad.sharpness(&Lanczos::default()).unwrap_err()).contains("not finite"));
    assert!(bad.trace(2, 0).is_err());

    assert!(said(jacobian(&Tensor::ones([2], DOUBLE), &params).unwrap_err()).contains("depend on the parameters"));
    let k = Tensor::ones([3, 3], DOUBLE);
    assert!(said(cka(&k, &Tensor::ones([2], DOUBLE), Centring::Both).unwrap_err()).contains("[3] or [3, C]"));
    assert!(said(cka(&k.narrow(0, 0, 2), &w, Centring::Both).unwrap_err()).contains("[N, N]"));
    assert!(said(cka(&k, &w, Centring::Both).unwrap_err()).contains("constant"));
    assert!(linear_cka(&k, &k.narrow(0, 0, 2)).is_err());
    assert!(tangent_kernel(&k, &k.narrow(1, 0, 2)).is_err());
}

#[test]
fn unrelated_features_are_dissimilar_without_bias() {
    tch::manual_seed(5);
    let [x, y] = [0, 1].map(|_| Tensor::randn([60, 50], DOUBLE));
    assert!(linear_cka(&x, &y).unwrap() > 0.3, "few inputs, many features");
    assert!(debiased_cka(&x, &y).unwrap().abs() < 0.05);
    assert!((debiased_cka(&x, &(&x * 3.0)).unwrap() - 1.0).abs() < 1e-12);
    // The sums over different inputs that the estimate stands for: i, j; i, j, q; i, j, q, r.
    let [x, y] = [0, 1].map(|_| Tensor::randn([6, 2], DOUBLE));
    let [k, l] = [&x, &y].map(|t| Vec::<Vec<f64>>::try_from(t.matmul(&t.tr())).unwrap());
    let hsic = |k: &[Vec<f64>], l: &[Vec<f64>]| {
        let (mut two, mut three, mut four) = ((0.0, 0), (0.0, 0), (0.0, 0));
        for i in 0..6 {
            for j in (0..6).filter(|j| *j != i) {
                two = (two.0 + k[i][j] * l[i][j], two.1 + 1);
                for q in (0..6).filter(|q| ![i, j].contains(q)) {
                    three = (three.0 + k[i][j] * l[i][q], three.1 + 1);
                    for r in (0..6).filter(|r| ![i, j, q].contains(r)) {
                        four = (four.0 + k[i][j] * l[q][r], four.1 + 1);
                    }
                }
            }
        }
        let mean = |(sum, n): (f64, i32)| sum / f64::from(n);
        mean(two) + mean(four) - 2.0 * mean(three)
    };
    let want = hsic(&k, &l) / (hsic(&k, &k) * hsic(&l, &l)).sqrt();
    assert!((debiased_cka(&x, &y).unwrap() - want).abs() < 1e-12);
    assert!(debiased_cka(&x.narrow(0, 0, 3), &y.narrow(0, 0, 3)).is_err());
}
