//! The quadratic network against its definition, against PyTorch and against its limits.

use autodidact_core::tangent::{Centring, empirical_ntk};
use autodidact_core::testing::{assert_close, check_gradient, fixture};
use autodidact_scaling::grokking::{
    FlowState, GrokTrainer, KernelRegression, ModularAddition, NtkMlp, OutputScaled, PopulationFlow, QuadraticNet,
    SingleIndex, initial_terms,
};
use std::collections::BTreeMap;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

fn golden() -> (BTreeMap<String, Tensor>, QuadraticNet) {
    let g = fixture(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/grokking.safetensors"));
    let net = QuadraticNet::new(g["w"].copy(), 2.0, 0.5).unwrap();
    (g, net)
}

fn close(what: &str, got: f64, want: f64, tolerance: f64) {
    assert!((got - want).abs() <= tolerance * want.abs().max(1e-300), "{what}: {got}, expected {want}");
}

fn number(t: &Tensor) -> f64 {
    t.double_value(&[])
}

#[test]
fn hand_computed_values_of_two_units() {
    let net = QuadraticNet::new(Tensor::eye(2, (Kind::Double, Device::Cpu)), 2.0, 0.5).unwrap();
    let (x, other) = (Tensor::from_slice2(&[[1f64, 2.0]]), Tensor::from_slice2(&[[0.5f64, -1.0]]));
    close("output", net.forward(&x).unwrap().double_value(&[0]), 4.25, 1e-12);
    close("kernel", net.ntk(&x, &other).unwrap().double_value(&[0, 0]), -4.3125, 1e-12);
    // The exact loss is that of many samples.
    let beta = Tensor::from_slice(&[2f64.sqrt(), 0.0]);
    tch::manual_seed(0);
    let many = Tensor::randn([200_000, 2], (Kind::Double, Device::Cpu)) / 2f64.sqrt();
    let error = net.forward(&many).unwrap() - many.mv(&beta).square() * 0.5;
    close("Monte Carlo", number(&error.square().mean(Kind::Double)), 1.375, 0.02);
    // Less its own initial output the network is zero, and misses all of the target: 1/4 + 1/2 of |beta|^2 = D = 2.
    let none = net.test_loss_terms(&beta, Some(&net.statistics())).unwrap();
    close("variance of the target", none.variance, 0.25, 1e-12);
    close("missed features", none.misalignment, 0.5, 1e-12);
    assert_eq!(none.linear, 0.0);
}

#[test]
fn terms_at_the_start_and_at_the_solution() {
    let terms = initial_terms(100, 1.0, 0.25);
    close("variance", terms.variance, 0.140625, 1e-12);
    close("misalignment", terms.misalignment, 0.497812, 1e-5);
    let wide = QuadraticNet::random((40_000, 30), 1.0, 0.25, 1.0, 0).unwrap();
    let task = SingleIndex::new(30, 0, true).unwrap();
    close("|beta|^2", number(&task.beta.square().sum(Kind::Double)), 30.0, 1e-12);
    let (got, want) = (wide.test_loss_terms(&task.beta, None).unwrap(), initial_terms(30, 1.0, 0.25));
    close("variance", got.variance, want.variance, 0.01);
    close("misalignment", got.misalignment, want.misalignment, 0.01);
    assert!(got.linear < 1e-4);
    // Units at +-beta/sqrt(alpha eps) know the target.
    let (alpha, eps) = (2.0, 0.125);
    let row = &task.beta / f64::sqrt(alpha * eps);
    let perfect = QuadraticNet::new(Tensor::stack(&[&row, &-&row], 0), alpha, eps).unwrap();
    assert!(perfect.test_loss_terms(&task.beta, None).unwrap().total() < 1e-20);
}

#[test]
fn the_kernel_and_the_gradient_are_those_of_autograd() {
    let (g, net) = golden();
    assert_close("kernel", &net.ntk(&g["x_test"], &g["x"]).unwrap(), &g["ntk"], 1e-12);
    let w = g["w"].copy().set_requires_grad(true);
    let leaf = QuadraticNet::new(w.shallow_clone(), 2.0, 0.5).unwrap();
    let k = empirical_ntk(&leaf.forward(&g["x"]).unwrap(), &[w]).unwrap();
    assert_close("kernel of Jacobians", &net.ntk(&g["x"], &g["x"]).unwrap(), &k, 1e-12);

    let loss = |w: &Tensor| {
        let f = QuadraticNet::new(w.shallow_clone(), 2.0, 0.5).unwrap().forward(&g["x"]).unwrap();
        (f - &g["y"]).square().mean(Kind::Double)
    };
    check_gradient(&g["w"], 1e-7, loss);
    let w = g["w"].copy().set_requires_grad(true);
    loss(&w).backward();
    let residuals = net.forward(&g["x"]).unwrap() - &g["y"];
    assert_close("gradient", &net.gradient(&g["x"], &residuals).unwrap(), &w.grad(), 1e-12);
}

#[test]
fn a_compressed_network_is_the_same_network() {
    let (g, net) = golden();
    let (small, q) = net.compress().unwrap();
    assert_eq!(small.w.size(), [5, 4]);
    assert_close("weights", &q.matmul(&small.w), &net.w, 1e-12);
    assert_close("outputs", &small.forward(&g["x"]).unwrap(), &net.forward(&g["x"]).unwrap(), 1e-12);
    assert_close("kernel", &small.ntk(&g["x"], &g["x"]).unwrap(), &net.ntk(&g["x"], &g["x"]).unwrap(), 1e-12);
    let residuals = net.forward(&g["x"]).unwrap() - &g["y"];
    let [full, less] = [&net, &small].map(|n| n.gradient(&g["x"], &residuals).unwrap());
    assert_close("gradient", &q.matmul(&less), &full, 1e-12);
    let (a, b) = (net.test_loss_terms(&g["beta"], None).unwrap(), small.test_loss_terms(&g["beta"], None).unwrap());
    close("loss", b.total(), a.total(), 1e-12);
}

#[test]
fn training_is_that_of_autograd() {
    let (g, net) = golden();
    close(
        "alignment",
        autodidact_core::tangent::cka(&net.ntk(&g["x"], &g["x"]).unwrap(), &g["y"], Centring::Both).unwrap(),
        number(&g["cka"]),
        1e-10,
    );
    for (name, centre, decay) in [("plain", false, 0.0), ("centred", true, 0.0), ("decay", false, 0.01)] {
        let (_, mut net) = golden();
        let trainer = GrokTrainer { steps: 60, centre, decay, per_decade: 3, ..Default::default() };
        let mut seen = 0;
        let count = |_: &_, _: &_| {
            seen += 1;
            Ok(())
        };
        let records =
            trainer.run(&mut net, (&g["x"], &g["y"]), (&g["x_test"], &g["y_test"]), &g["beta"], count).unwrap();
        let last = records[records.len() - 1];
        assert_eq!((seen, last.step), (records.len(), 60));
        let want = |what: &str| &g[&format!("{name}.{what}")];
        assert_close(name, &net.w, want("w"), 1e-9);
        close("training loss", last.train, number(want("train")), 1e-8);
        close("test loss", last.test, number(want("test")), 1e-8);
        close("alignment", last.cka, number(want("cka")), 1e-8);
        close("drift", last.kernel_drift, number(want("drift")), 1e-8);
        close("|W|", last.weight_norm, number(&net.w.norm()), 1e-10);
        close("|W - W0|", last.weight_change, number(&((&net.w - &g["w"]).norm() / g["w"].norm())), 1e-9);
    }
}

#[test]
fn the_lazy_references_are_pytorchs() {
    let (g, net) = golden();
    let (train, test) = ((&g["x"], &g["y"]), (&g["x_test"], &g["y_test"]));
    let eta = GrokTrainer::default().eta(&net);
    assert_eq!(eta, 9.0 / 4.0);
    let lazy = net.linearise(train, test, false).unwrap();
    let state = lazy.at(60, eta).unwrap();
    close("training loss", state.train, number(&g["lazy.train"]), 1e-9);
    close("test loss", state.test, number(&g["lazy.test"]), 1e-9);
    close("distance", state.distance, number(&g["lazy.distance"]), 1e-9);
    let ridge = net.kernel_regression(train, test, false, 1e-6).unwrap();
    close("regression", ridge.test_loss(), number(&g["ridge.test"]), 1e-8);
    close("difficulty", ridge.difficulty, number(&g["ridge.difficulty"]), 1e-8);
    // Where the lazy training goes is the regression, and how far is its difficulty.
    let end = lazy.at(50_000_000, eta).unwrap();
    let exact = net.kernel_regression(train, test, false, 1e-12).unwrap();
    assert!(end.train < 1e-8);
    close("limit", end.test, exact.test_loss(), 1e-3);
    close("distance of the limit", end.distance.powi(2), exact.difficulty, 1e-3);
}

#[test]
fn large_output_scales_train_as_the_linearised_network() {
    let task = SingleIndex::new(6, 3, true).unwrap();
    let ((x, y), (xt, yt)) = (task.sample(20, "train").unwrap(), task.sample(50, "test").unwrap());
    let off = |alpha: f64| {
        let mut net = QuadraticNet::random((40, 6), alpha, 0.5, 1.0, 3).unwrap();
        let trainer = GrokTrainer { steps: 200, centre: true, per_decade: 4, ..Default::default() };
        let lazy = net.linearise((&x, &y), (&xt, &yt), true).unwrap();
        let eta = trainer.eta(&net);
        let records = trainer.run(&mut net, (&x, &y), (&xt, &yt), &task.beta, |_, _| Ok(())).unwrap();
        let differences = records.iter().map(|r| {
            let state = lazy.at(r.step, eta).unwrap();
            (r.test - state.test).abs().max((r.train - state.train).abs())
        });
        differences.fold(0.0, f64::max)
    };
    let (near, far) = (off(100.0), off(1000.0));
    assert!(near < 0.05 && far < 0.15 * near, "{near} {far}");
}

#[test]
fn lazy_distance_goes_as_one_over_alpha() {
    let task = SingleIndex::new(6, 1, true).unwrap();
    let ((x, y), (xt, yt)) = (task.sample(20, "train").unwrap(), task.sample(50, "test").unwrap());
    let difficulty = |alpha: f64| {
        let net = QuadraticNet::random((200, 6), alpha, 0.25, 1.0, 1).unwrap();
        net.kernel_regression((&x, &y), (&xt, &yt), true, 1e-10).unwrap().difficulty
    };
    let base = difficulty(1.0);
    for alpha in [0.5, 2.0] {
        close("alpha^2 |W - W0|^2", alpha * alpha * difficulty(alpha), base, 1e-6);
    }
}

#[test]
fn without_curvature_the_network_is_linear_and_never_generalises() {
    let task = SingleIndex::new(5, 2, true).unwrap();
    let ((x, y), (xt, yt)) = (task.sample(40, "train").unwrap(), task.sample(2000, "test").unwrap());
    let mut net = QuadraticNet::random((20, 5), 1.0, 0.0, 1.0, 2).unwrap();
    let trainer = GrokTrainer { steps: 500, ..Default::default() };
    let records = trainer.run(&mut net, (&x, &y), (&xt, &yt), &task.beta, |_, _| Ok(())).unwrap();
    assert!(records.iter().all(|r| r.terms.total() >= 0.5));
    let [a, b] = [1.0, 3.0].map(|c| number(&net.forward(&(xt.narrow(0, 0, 1) * c)).unwrap().squeeze()));
    close("linearity", b, 3.0 * a, 1e-10);
    // Both forms of the step agree where they meet.
    let run = |eps: f64| {
        let mut net = QuadraticNet::random((20, 5), 1.0, eps, 1.0, 2).unwrap();
        let trainer = GrokTrainer { steps: 50, ..Default::default() };
        trainer.run(&mut net, (&x, &y), (&xt, &yt), &task.beta, |_, _| Ok(())).unwrap().pop().unwrap().test
    };
    close("steps", run(0.000_999_999), run(0.001_000_001), 1e-6);
}

#[test]
fn much_data_follows_the_population() {
    let d = 4;
    let task = SingleIndex::new(d, 0, true).unwrap();
    // The gradient knows the inputs by their moments up to the fourth only. Those of a normal variable are also those of +-sqrt 3 with
    // probability 1/6 each and 0 else (Gauss-Hermite's three points): all combinations of (sqrt 3, -sqrt 3, 0, 0, 0, 0) are unlimited data.
    let point = Tensor::from_slice(&[3f64.sqrt(), -3f64.sqrt(), 0.0, 0.0, 0.0, 0.0]) / (d as f64).sqrt();
    let axes: Vec<Tensor> = (0..d).map(|_| point.shallow_clone()).collect();
    let x = Tensor::cartesian_prod(&axes);
    let y = task.target(&x).unwrap();
    // M = I and wbar = 0 exactly, as with unlimited units.
    let eye = Tensor::eye(d, (Kind::Double, Device::Cpu)) * (d as f64).sqrt();
    let mut net = QuadraticNet::new(Tensor::cat(&[&eye, &-&eye], 0), 1.0, 0.25).unwrap();
    let eta = GrokTrainer::default().eta(&net);
    let flow = PopulationFlow { d, alpha: 1.0, eps: 0.25, rate: 1.0 };
    let steps: Vec<usize> = (0..200).collect();
    for (step, state) in steps.iter().zip(flow.at(&steps).unwrap()) {
        let (got, want) = (net.test_loss_terms(&task.beta, None).unwrap().total(), state.terms(d).total());
        assert!((got - want).abs() < 1e-9 * want + 1e-14, "step {step}: {got}, theory {want}");
        let residuals = net.forward(&x).unwrap() - &y;
        net.w = &net.w - net.gradient(&x, &residuals).unwrap() * eta;
    }
    assert!(flow.at(&[5000]).unwrap()[0].terms(d).total() < 1e-6);
    assert_eq!(flow.at(&[0]).unwrap()[0], FlowState { along: 0.25, across: 0.25 });
    // The features' time is proportional to alpha / eps from the same alpha eps on.
    let all: Vec<usize> = (0..20_000).collect();
    let time =
        |alpha: f64, eps: f64| PopulationFlow { d: 30, alpha, eps, rate: 1.0 }.time(0.02, &all).unwrap().unwrap();
    close("time", time(2.0, 0.125) as f64, 4.0 * time(1.0, 0.25) as f64, 0.01);
    assert!(time(4.0, 0.25) > time(1.0, 0.25));
}

#[test]
fn networks_of_the_other_settings() {
    tch::manual_seed(0);
    let vs = VarStore::new(Device::Cpu);
    let mlp = NtkMlp::new(&vs.root(), &[3, 400, 300, 2], 2f64.sqrt()).unwrap();
    let x = Tensor::randn([50, 3], (Kind::Float, Device::Cpu));
    // Hidden layers keep the mean square |x|^2/3 (times the gain's 2, halved by ReLU); the read-out divides by a further root of 300.
    let out = mlp.forward(&x).unwrap() * 300f64.sqrt();
    close("scale", number(&out.square().mean(Kind::Double)), 2.0, 0.5);
    let start = mlp.forward(&x).unwrap().detach();
    let scaled =
        OutputScaled::centred(|x: &Tensor| mlp.forward(x), |_: &Tensor| Ok(start.shallow_clone()), 5.0).unwrap();
    let out = scaled.forward(&x).unwrap();
    assert!(number(&out.abs().max()) == 0.0 && out.requires_grad());
    assert!(NtkMlp::new(&vs.root(), &[3], 1.0).is_err());
    assert!(OutputScaled::new(|x: &Tensor| Ok(x.copy()), 0.0).is_err());

    let task = ModularAddition::new(7).unwrap();
    let [(train, answers), (test, _)] = task.split(0.3, 1).unwrap();
    assert_eq!(train.size()[0] + test.size()[0], 49);
    for i in 0..answers.size()[0] {
        let token = |j| train.int64_value(&[i, j]);
        assert!(task.is_correct(token(0), token(1), answers.int64_value(&[i])) && token(2) == 7);
    }
    assert!(task.split(0.0, 0).is_err() && task.split(1.0, 0).is_err() && ModularAddition::new(1).is_err());
}

#[test]
fn bad_input_is_refused() {
    let (g, net) = golden();
    let weights = |t: Tensor, alpha, eps| QuadraticNet::new(t, alpha, eps).unwrap_err().to_string();
    assert!(weights(g["beta"].copy(), 1.0, 0.1).starts_with("weights: expected [N, D]"));
    assert!(weights(g["w"].to_kind(Kind::Float), 1.0, 0.1).starts_with("weights: expected f64"));
    assert!(weights(g["w"].copy(), 0.0, 0.1).starts_with("alpha: "));
    assert!(weights(g["w"].copy(), 1.0, -0.1).starts_with("eps: "));
    assert!(net.test_loss_terms(&g["y"], None).is_err());
    assert!(net.gradient(&g["x"], &g["beta"]).is_err());
    assert!(KernelRegression::new(&g["ntk"], &g["ntk"], &g["y"], &g["y_test"], 1e-10).is_err());
    let (train, test) = ((&g["x"], &g["y"]), (&g["x_test"], &g["y_test"]));
    assert!(net.kernel_regression(train, test, false, 0.0).is_err());
    assert!(net.linearise((&g["x"], &g["y_test"]), test, false).is_err());
    assert!(net.linearise(train, test, false).unwrap().at(3, 0.0).is_err());
    let mut net = net;
    let narrow = g["w"].narrow(1, 0, 3);
    let mut refused = |trainer: GrokTrainer, train| {
        trainer.run(&mut net, train, test, &g["beta"], |_, _| Ok(())).unwrap_err().to_string()
    };
    let ok = GrokTrainer { steps: 5, ..Default::default() };
    assert!(refused(GrokTrainer { steps: 0, ..ok.clone() }, train).starts_with("steps: "));
    assert!(refused(GrokTrainer { rate: 0.0, ..ok.clone() }, train).starts_with("rate: "));
    assert!(refused(GrokTrainer { decay: 1.0, ..ok.clone() }, train).starts_with("decay: "));
    assert!(refused(ok.clone(), (&g["x"], &g["y_test"])).starts_with("training set: "));
    assert!(refused(ok.clone(), (&narrow, &g["y"])).starts_with("training set: "));
    let wild = GrokTrainer { steps: 2000, rate: 1e6, ..ok };
    assert!(refused(wild, train).contains("the loss became"));
    assert!(PopulationFlow { d: 0, alpha: 1.0, eps: 1.0, rate: 1.0 }.at(&[1]).is_err());
    assert!(SingleIndex::new(0, 0, true).is_err());
}
