//! AMCL against its formulas written out pair by pair elsewhere, its identities, worked values and bad input.

use autodidact_core::device::Precision;
use autodidact_core::nn::{Mlp, MlpConfig};
use autodidact_core::testing::{assert_close, check_gradient, fixture};
use autodidact_ssl::barlow_twins::BarlowTwinsLoss;
use autodidact_ssl::contrastive::nt_xent;
use autodidact_ssl::moco::Moco;
use autodidact_ssl::multi_head_contrastive::{
    Amcl, AmclOutput, Form, Heads, MultiHeadProjector, PairTemperature, Rule, SimilarityHistogram, TemperatureConfig,
    omega,
};
use autodidact_ssl::siamese;
use tch::nn::{ModuleT, VarStore};
use tch::{Device, Kind, Tensor};

const RULES: [(&str, Rule); 3] = [("dot", Rule::DotOfPhi), ("hadamard", Rule::Hadamard), ("concat", Rule::Concat)];

fn value(t: &Tensor) -> f64 {
    t.double_value(&[])
}

fn random(shape: &[i64], kind: Kind) -> Tensor {
    Tensor::randn(shape, (kind, Device::Cpu))
}

/// `cos(0.37 (4i+j)^2 + 0.1 i)` and the same plus `0.3 sin(1.7 (4i+j) + 0.5)`, 1 x 3 x 4.
fn worked() -> [Tensor; 2] {
    let a = |k: i32| (0.37 * f64::from(k * k) + 0.1 * f64::from(k / 4)).cos();
    let b = |k: i32| a(k) + 0.3 * (1.7 * f64::from(k) + 0.5).sin();
    let matrix = |f: &dyn Fn(i32) -> f64| Tensor::from_slice(&(0..12).map(f).collect::<Vec<_>>()).view([1, 3, 4]);
    [matrix(&a), matrix(&b)]
}

fn predictor(rule: Rule, width: i64, kind: Kind) -> (VarStore, PairTemperature) {
    let mut vs = VarStore::new(Device::Cpu);
    let config = TemperatureConfig { rule, low: 0.1, high: 0.9, hidden: 6, detach: false };
    let temperature = PairTemperature::new(vs.root(), width, &config).unwrap();
    if kind == Kind::Double {
        vs.double();
    }
    (vs, temperature)
}

#[test]
fn worked_values_at_one_constant_temperature() {
    let [a, b] = worked();
    let tau = PairTemperature::constant(0.2).unwrap();
    let is = |config: Amcl, want: f64| {
        let got = value(&Amcl { beta: 0.0, ..config }.simclr(&a, &b, &tau).unwrap().total);
        assert!((got - want).abs() < 5e-9, "{config:?}: {got} {want}");
    };
    is(Amcl::default(), 0.19233143);
    is(Amcl { with_positive: false, ..Amcl::default() }, -1.99552088);
    is(Amcl::linear(1), -2.60009051);
    is(Amcl::linear(2), -2.83828843);
    is(Amcl { form: Form::Soft { kappa: Some(2) }, with_positive: false, ..Amcl::default() }, -2.10722870);
}

#[test]
fn values_and_gradients_equal_the_formulas_pair_by_pair() {
    let golden = fixture(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/multi_head_contrastive.safetensors"));
    let config = Amcl { beta: 0.03, ..Default::default() };
    let linear = Amcl { beta: 0.03, ..Amcl::linear(2) };
    let hardest = Amcl { form: Form::Soft { kappa: Some(2) }, with_positive: false, ..config };
    type Loss<'a> = Box<dyn Fn(&Tensor, &Tensor, &PairTemperature) -> autodidact_core::Result<AmclOutput> + 'a>;
    for (kind, tolerance) in [(Kind::Double, 1e-9), (Kind::Float, 2e-4)] {
        let input = |name: &str| golden[name].to_kind(kind);
        let (queue, pa, pb) = (input("queue"), input("pa"), input("pb"));
        let simclr = |c: Amcl| -> Loss<'_> { Box::new(move |a, b, t| c.simclr(a, b, t)) };
        let moco = |c: Amcl| -> Loss<'_> {
            let queue = &queue;
            Box::new(move |a, b, t| c.moco(a, b, queue, t))
        };
        let losses: [(&str, Loss<'_>); 8] = [
            ("simclr.soft", simclr(config)),
            ("simclr.soft_hardest", simclr(hardest)),
            ("simclr.linear", simclr(linear)),
            ("simclr.linear_with_positive", simclr(Amcl { with_positive: true, ..linear })),
            ("moco.soft", moco(config)),
            ("moco.linear", moco(linear)),
            ("simsiam", Box::new(|a, b, t| config.simsiam([a, b], [&pa, &pb], t))),
            ("barlow", Box::new(|a, b, t| config.barlow_twins(a, b, 0.01, t))),
        ];
        for (rule, of) in RULES {
            for (name, loss) in &losses {
                let width = if *name == "barlow" { 5 } else { 4 };
                let (vs, temperature) = predictor(of, width, kind);
                for (key, mut weight) in vs.variables() {
                    tch::no_grad(|| weight.copy_(&golden[&format!("{rule}.{width}.{key}")]));
                }
                let [a, b] = ["za", "zb"].map(|z| input(z).detach().copy().set_requires_grad(true));
                let out = loss(&a, &b, &temperature).unwrap();
                out.total.backward();
                let close = |key: &str, got: &Tensor| {
                    let what = format!("{rule}.{name}.{key}");
                    let want = &golden[&what];
                    if got.defined() {
                        assert_close(&format!("{what} {kind:?}"), got, want, tolerance);
                    } else {
                        assert_eq!(value(&want.abs().max()), 0.0, "{what}");
                    }
                };
                close("per_head", &out.per_head);
                close("grad.za", &a.grad());
                close("grad.zb", &b.grad());
                for (key, weight) in vs.variables() {
                    close(&format!("grad.{key}"), &weight.grad());
                }
            }
        }
    }
}

#[test]
fn one_head_at_a_constant_temperature_is_the_plain_loss() {
    tch::manual_seed(3);
    let [a, b, k, q] = [(); 4].map(|()| random(&[3, 7, 5], Kind::Double));
    let plain = Amcl { beta: 0.0, ..Default::default() };
    let close = |what: &str, out: &AmclOutput, of: &dyn Fn(i64) -> Tensor| {
        let want = Tensor::stack(&(0..3).map(of).collect::<Vec<_>>(), 0);
        assert_close(what, &out.per_head, &want, 1e-9);
        assert_close(what, &out.total, &want.sum(Kind::Double), 1e-9);
    };
    let tau = PairTemperature::constant(0.3).unwrap();
    let one = PairTemperature::constant(1.0).unwrap();
    close("NT-Xent", &plain.simclr(&a, &b, &tau).unwrap(), &|c| nt_xent(&a.get(c), &b.get(c), 0.3).unwrap());
    let queue = &k / k.norm_scalaropt_dim(2.0, [2i64].as_slice(), true);
    let moco = Moco { tau: 0.3, ..Default::default() };
    close("MoCo", &plain.moco(&q, &a, &queue, &tau).unwrap(), &|c| {
        moco.forward(&q.get(c), &a.get(c), &queue.get(c)).unwrap()
    });
    close("Barlow Twins", &plain.barlow_twins(&a, &b, 0.0051, &one).unwrap(), &|c| {
        BarlowTwinsLoss::default().forward(&a.get(c), &b.get(c)).unwrap().total
    });
    let halves = |c: i64| {
        let one = siamese::simsiam(&a.get(c), &q.get(c)).unwrap() + siamese::simsiam(&b.get(c), &k.get(c)).unwrap();
        (one / 2.0).to_kind(Kind::Double)
    };
    let want = Tensor::stack(&[halves(0), halves(1), halves(2)], 0);
    assert_close("SimSiam", &plain.simsiam([&a, &b], [&k, &q], &one).unwrap().per_head, &want, 1e-6);
}

#[test]
fn gradients_equal_finite_differences_through_the_temperatures() {
    tch::manual_seed(1);
    let [a, b] = [(); 2].map(|()| random(&[2, 4, 3], Kind::Double));
    let config = Amcl { beta: 0.1, ..Default::default() };
    for (_, rule) in RULES {
        let (_vs, temperature) = predictor(rule, 3, Kind::Double);
        for config in [config, Amcl { beta: 0.1, ..Amcl::linear(2) }] {
            check_gradient(&a, 1e-6, |a| config.simclr(a, &b, &temperature).unwrap().total);
        }
        let (_vs, of_columns) = predictor(rule, 4, Kind::Double);
        check_gradient(&a, 1e-6, |a| config.barlow_twins(a, &b, 0.1, &of_columns).unwrap().total);
    }
}

#[test]
fn omega_has_its_values_minimum_and_stationary_temperature() {
    let at = |tau: f64| value(&omega(&Tensor::from(tau), 128));
    for (tau, want) in [(1.0, 1.0), (0.1, -137.36544595), (2.0, 44.86141956), (1.0 / 64.0, -202.16851733)] {
        assert!((at(tau) - want).abs() < 1e-8, "{tau}: {}", at(tau));
    }
    assert!(at(1.0 / 64.0) < at(1.01 / 64.0) && at(1.0 / 64.0) < at(0.99 / 64.0));
    // The positive's part, -s/tau + beta Omega(tau), is stationary, and smallest, at 2 (beta - s)/(beta d').
    let (s, beta, d) = (-0.4, 0.3, 6);
    let best: f64 = 2.0 * (beta - s) / (beta * d as f64);
    let part = |tau: &Tensor| (omega(tau, d) * beta - tau.reciprocal() * s).sum(Kind::Double);
    for (tau, slope) in [(best, Some(0.0)), (best * 0.9, None)] {
        let tau = Tensor::from_slice(&[tau]).set_requires_grad(true);
        part(&tau).backward();
        let t = value(&tau);
        let formula = s / (t * t) + beta * (d as f64 / (2.0 * t) - 1.0 / (t * t));
        assert!((value(&tau.grad()) - slope.unwrap_or(formula)).abs() < 1e-9);
        check_gradient(&tau.detach(), 1e-6, part);
    }
}

#[test]
fn identical_heads_have_the_loss_and_the_gradient_of_one() {
    tch::manual_seed(5);
    let [a, b] = [(); 2].map(|()| random(&[1, 6, 4], Kind::Double));
    let (_vs, temperature) = predictor(Rule::DotOfPhi, 4, Kind::Double);
    for config in [Amcl::default(), Amcl::linear(3)] {
        let single = value(&config.simclr(&a, &b, &temperature).unwrap().total);
        let three = a.repeat([3, 1, 1]).set_requires_grad(true);
        let out = config.simclr(&three, &b.repeat([3, 1, 1]), &temperature).unwrap();
        assert!((value(&out.total) - 3.0 * single).abs() < 1e-10);
        out.total.backward();
        let gradient = three.grad();
        assert_close("heads", &gradient.get(0), &gradient.get(2), 1e-12);
        assert!(value(&gradient.abs().max()) > 1e-3);
    }
}

#[test]
fn temperatures_stay_in_their_bounds_and_are_symmetric() {
    // The same numbers in every run: tests that draw at random at the same time share the generator.
    let wave = |shape: &[i64], step: f64| {
        let count: i64 = shape.iter().product();
        (Tensor::arange(count, (Kind::Float, Device::Cpu)) * step).sin().view(shape)
    };
    let z = wave(&[2, 5, 4], 2.3);
    let z = &z / z.norm_scalaropt_dim(2.0, [2i64].as_slice(), true);
    let other = z.flip([1]);
    for (_, rule) in RULES {
        let (vs, temperature) = predictor(rule, 4, Kind::Float);
        for (_, mut weight) in vs.variables() {
            tch::no_grad(|| weight.copy_(&(wave(&weight.size(), 1.7) * 0.5)));
        }
        let tau = temperature.all(&z, &z).unwrap();
        assert_eq!(tau.size(), [2, 5, 5]);
        assert!(value(&tau.min()) > 0.1 - 1e-6 && value(&tau.max()) < 0.9 + 1e-6, "up to rounding");
        let spread = value(&tau.std(false));
        assert!(spread > 0.01, "they differ: {spread}");
        assert_close("symmetric", &tau, &tau.transpose(1, 2), 1e-5);
        let crossed = temperature.all(&z, &other).unwrap();
        assert_close("of two sets", &crossed, &tau.flip([2]), 1e-5);
        let rows = temperature.rows(&z, &other).unwrap();
        assert_close("rows", &rows, &crossed.diagonal(0, 1, 2), 1e-5);
        for (_, mut weight) in vs.variables() {
            let _ = tch::no_grad(|| weight.zero_());
        }
        let middle = temperature.all(&z, &other).unwrap();
        assert_close("without weights", &middle, &(middle.ones_like() * 0.5), 1e-6);
    }
}

#[test]
fn a_detached_predictor_weighs_but_does_not_steer() {
    tch::manual_seed(9);
    let (z, weight) = (random(&[1, 4, 3], Kind::Float), random(&[1, 4, 4], Kind::Float));
    for detach in [false, true] {
        let vs = VarStore::new(Device::Cpu);
        let config = TemperatureConfig { detach, ..Default::default() };
        let temperature = PairTemperature::new(vs.root(), 3, &config).unwrap();
        let z = z.copy().set_requires_grad(true);
        (temperature.all(&z, &z).unwrap() * &weight).sum(Kind::Float).backward();
        assert_eq!(z.grad().defined() && value(&z.grad().abs().max()) > 0.0, !detach);
        assert!(vs.variables()["phi.0.linear.weight"].grad().defined());
    }
}

#[test]
fn the_logarithm_of_the_sum_exceeds_the_largest() {
    let tau = PairTemperature::constant(0.5).unwrap();
    let soft = Amcl { with_positive: false, beta: 0.0, ..Default::default() };
    let linear = Amcl { beta: 0.0, ..Amcl::linear(1) };
    // Not from the generator, which tests running beside this one draw from too: a near tie of the two hardest would matter.
    let [a, b] = [0.3, 1.7].map(|step| (Tensor::arange(36, (Kind::Double, Device::Cpu)) * step).sin().view([2, 6, 3]));
    let gap = |tau: &PairTemperature| {
        value(&soft.simclr(&a, &b, tau).unwrap().total) - value(&linear.simclr(&a, &b, tau).unwrap().total)
    };
    assert!(gap(&tau) > 0.1);
    // At a low temperature the hardest negative dominates.
    assert!((0.0..1e-3).contains(&gap(&PairTemperature::constant(1e-4).unwrap())));
}

#[test]
fn the_projector_is_so_many_networks_side_by_side() {
    for batch_norm in [false, true] {
        tch::manual_seed(2);
        let vs = VarStore::new(Device::Cpu);
        let heads = Heads { heads: 3, hidden: 6, output: 4, batch_norm };
        let projector = MultiHeadProjector::new(vs.root(), 5, &heads).unwrap();
        let x = random(&[8, 5], Kind::Float);
        let z = projector.forward_t(&x, true);
        assert_eq!(z.size(), [3, 8, 4]);
        let all = vs.variables();
        for c in 0..3 {
            let own = VarStore::new(Device::Cpu);
            let config = if batch_norm { MlpConfig::projector(&[5, 6, 4]) } else { MlpConfig::plain(&[5, 6, 4]) };
            let mlp = Mlp::new(own.root(), &config).unwrap();
            for (name, mut weight) in own.variables() {
                let from = match name.as_str() {
                    "0.linear.weight" => all["hidden.weight"].narrow(0, 6 * c, 6),
                    "0.linear.bias" => all["hidden.bias"].narrow(0, 6 * c, 6),
                    "1.linear.weight" => all["output"].get(c).tr(),
                    "1.linear.bias" => all["bias"].get(c).view([-1]),
                    _ => continue,
                };
                tch::no_grad(|| weight.copy_(&from));
            }
            assert_close("head", &z.get(c), &mlp.forward_t(&x, true), 1e-5);
        }
        // As wide as linear layers start, and no two heads alike.
        let output = &all["output"];
        assert!(value(&output.abs().max()) <= 1.0 / 6f64.sqrt() && value(&output.abs().max()) > 0.3);
        assert!(value(&(output.get(0) - output.get(1)).abs().max()) > 0.1);
    }
}

#[test]
fn histograms_count_and_overlap() {
    let s = |v: &[f64]| Tensor::from_slice(v);
    // Bins of width a half; the ends belong to the outer bins, and rounding past them too.
    let h = SimilarityHistogram::new(&s(&[1.0, 1.0 + 1e-9, 0.2, 0.6]), &s(&[-1.0, -0.2, 0.1, 0.7]), 4).unwrap();
    assert_eq!((h.positive.as_slice(), h.negative.as_slice()), (&[0., 0., 0.25, 0.75][..], &[0.25; 4][..]));
    assert_eq!(h.overlap(), 0.5);
    let x = random(&[2, 50], Kind::Float).tanh();
    assert!((SimilarityHistogram::new(&x, &x, 20).unwrap().overlap() - 1.0).abs() < 1e-12);
    assert_eq!(SimilarityHistogram::new(&s(&[0.9]), &s(&[-0.9]), 10).unwrap().overlap(), 0.0);
    assert!(SimilarityHistogram::new(&s(&[f64::NAN]), &s(&[0.0]), 4).unwrap_err().to_string().starts_with("positive"));
    assert!(SimilarityHistogram::new(&s(&[0.0]), &s(&[0.0]), 0).is_err());
}

#[test]
fn autocast_changes_nothing() {
    tch::manual_seed(13);
    let [a, b] = [(); 2].map(|()| random(&[2, 16, 8], Kind::Float));
    let (_vs, temperature) = predictor(Rule::Hadamard, 8, Kind::Float);
    for config in [Amcl::default(), Amcl::linear(4)] {
        let want = config.simclr(&a, &b, &temperature).unwrap();
        let got = Precision::Bf16.run(Device::Cpu, || config.simclr(&a, &b, &temperature)).unwrap();
        assert_eq!(got.total.kind(), Kind::Float);
        assert_close("loss", &got.total, &want.total, 1e-6);
        let half = config.simclr(&a.to_kind(Kind::BFloat16), &b.to_kind(Kind::BFloat16), &temperature).unwrap();
        assert_close("of embeddings in bf16", &half.total, &want.total, 2e-2);
    }
}

#[test]
fn bad_input_is_an_error() {
    let [a, b] = worked();
    let tau = PairTemperature::constant(0.2).unwrap();
    let says = |r: autodidact_core::Result<AmclOutput>, what: &str| {
        let e = r.unwrap_err().to_string();
        assert!(e.starts_with(what), "{e}");
    };
    says(Amcl::default().simclr(&a.get(0), &b, &tau), "za: expected [C, N, d']");
    says(Amcl::default().simclr(&a, &b.narrow(1, 0, 2), &tau), "zb: expected [1, 3, 4]");
    says(Amcl { beta: -1.0, ..Default::default() }.simclr(&a, &b, &tau), "beta");
    says(Amcl::linear(5).simclr(&a, &b, &tau), "kappa: expected 1 to 4");
    says(Amcl::default().moco(&a, &b, &a.narrow(2, 0, 2), &tau), "queue: expected [1, K, 4]");
    says(Amcl::linear(4).moco(&a, &b, &a, &tau), "kappa: expected 1 to 3");
    says(Amcl::default().simsiam([&a, &b], [&a, &b.get(0)], &tau), "z: expected [1, 3, 4]");
    says(Amcl::default().barlow_twins(&a, &b, 0.0, &tau), "lambda");
    let (_vs, narrow) = predictor(Rule::DotOfPhi, 3, Kind::Double);
    says(Amcl::default().simclr(&a, &b, &narrow), "z: expected [C, R, 3]");
    assert!(narrow.rows(&a, &b.narrow(1, 0, 2)).is_err());
    assert!(PairTemperature::constant(0.0).is_err());
    let root = VarStore::new(Device::Cpu);
    let inverted = TemperatureConfig { low: 0.5, high: 0.2, ..Default::default() };
    assert!(PairTemperature::new(root.root(), 4, &inverted).unwrap_err().to_string().starts_with("high"));
    let none = Heads { heads: 0, ..Default::default() };
    assert!(MultiHeadProjector::new(root.root(), 4, &none).unwrap_err().to_string().starts_with("heads"));
}
