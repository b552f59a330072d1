//! Projection heads: losses and descents against independent implementations, the closed forms, heads, bad input.

use autodidact_core::device::Precision;
use autodidact_core::metrics::{LogisticRegression, standardise};
use autodidact_core::seed::rng;
use autodidact_core::testing::{assert_close, check_gradient, fixture};
use autodidact_ssl::contrastive::{nt_xent, supcon};
use autodidact_ssl::projection_head::{
    DiagonalNet, FeatureTask, FixedReweightHead, LastLayer, LinearContrastiveNet, MlpHead, MlpHeadConfig, NoHead,
    ProjectionHead, SymmetricRelu, balancedness, closed_form, difficulty, last_layer_retrain,
    spectral_contrastive_loss, worst_group_accuracy,
};
use std::collections::BTreeMap;
use tch::nn::{Module, VarStore};
use tch::{Device, Kind, Tensor};

fn golden() -> BTreeMap<String, Tensor> {
    fixture(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/projection_head.safetensors"))
}

fn value(t: &Tensor) -> f64 {
    t.double_value(&[])
}

fn close(got: f64, want: f64, tolerance: f64) {
    assert!((got - want).abs() <= tolerance, "{got}, expected {want}");
}

fn randn(seed: i64, n: i64, d: i64) -> Tensor {
    tch::manual_seed(seed);
    Tensor::randn([n, d], (Kind::Double, Device::Cpu))
}

/// The setting of the worked example.
fn worked() -> FeatureTask {
    FeatureTask::new(vec![2.0, 1.0, 1.0, 0.5], vec![0.0, 0.0, 0.5, 0.2], vec![1.0; 4]).unwrap()
}

#[test]
fn supcon_and_its_gradient_equal_pytorch_metric_learning() {
    let golden = golden();
    for (name, tau) in [("supcon", 0.5), ("supcon_cold", 0.07)] {
        let z = golden["supcon.z"].copy().set_requires_grad(true);
        let loss = supcon(&z, &golden["supcon.labels"], tau).unwrap();
        assert_close(name, &loss, &golden[&format!("{name}.loss")], 1e-5);
        loss.backward();
        assert_close(name, &z.grad(), &golden[&format!("{name}.grad")], 1e-4);
    }
}

#[test]
fn supcon_of_two_views_with_own_labels_is_nt_xent() {
    let (za, zb) = (randn(1, 7, 4), randn(2, 7, 4));
    let labels = Tensor::arange(7, (Kind::Int64, Device::Cpu));
    let loss = |z: &Tensor, y: &Tensor| supcon(z, y, 0.5).unwrap();
    let both = Tensor::cat(&[&za, &zb], 0);
    let twice = labels.repeat([2]);
    close(value(&loss(&both, &twice)), value(&nt_xent(&za, &zb, 0.5).unwrap()), 1e-12);
    check_gradient(&za, 1e-7, |x| loss(x, &labels.remainder(3)));
    // No row has a positive: nothing to learn.
    let z = za.set_requires_grad(true);
    let alone = loss(&z, &labels);
    assert_eq!(value(&alone), 0.0);
    alone.backward();
    assert_eq!(value(&z.grad().abs().max()), 0.0);
    // The names of the classes do not matter.
    assert_eq!(loss(&both, &(&twice * 100 - 3)), loss(&both, &twice));
}

#[test]
fn spectral_loss_and_gradients_equal_the_double_sum_in_narrow_and_wide_embeddings() {
    let golden = golden();
    for name in ["spectral_narrow", "spectral_wide"] {
        let of = |what: &str| &golden[&format!("{name}.{what}")];
        let [a, b] = ["a", "b"].map(|side| of(side).copy().set_requires_grad(true));
        let loss = spectral_contrastive_loss(&a, &b).unwrap();
        assert_close(name, &loss, of("loss"), 1e-12);
        loss.backward();
        assert_close(name, &a.grad(), of("grad_a"), 1e-10);
        assert_close(name, &b.grad(), of("grad_b"), 1e-10);
        check_gradient(&a.detach(), 1e-7, |x| spectral_contrastive_loss(x, &b.detach()).unwrap());
    }
    let at = |i: i64, j: i64| (4 * i + j) as f64;
    let entries = |f: &dyn Fn(i64, i64) -> f64| -> Tensor {
        let values: Vec<f64> = (0..3).flat_map(|i| (0..4).map(move |j| (i, j))).map(|(i, j)| f(i, j)).collect();
        Tensor::from_slice(&values).view([3, 4])
    };
    let a = entries(&|i, j| (0.37 * at(i, j).powi(2) + 0.1 * i as f64).cos());
    let b = entries(&|i, j| (0.37 * at(i, j).powi(2) + 0.1 * i as f64).cos() + 0.3 * (1.7 * at(i, j) + 0.5).sin());
    close(value(&spectral_contrastive_loss(&a, &b).unwrap()), -4.37061822, 1e-8);
}

#[test]
fn losses_under_autocast_compute_in_f32() {
    let (za, zb) = (randn(3, 64, 16).to_kind(Kind::Float), randn(4, 64, 16).to_kind(Kind::Float));
    let labels = Tensor::arange(64, (Kind::Int64, Device::Cpu)).remainder(5);
    let losses = || Ok([spectral_contrastive_loss(&za, &zb)?, supcon(&za, &labels, 0.1)?]);
    let plain = losses().unwrap();
    let autocast = Precision::Bf16.run(Device::Cpu, || {
        assert_eq!(za.matmul(&zb.tr()).kind(), Kind::BFloat16);
        losses()
    });
    for (got, want) in autocast.unwrap().iter().zip(&plain) {
        assert_eq!(got.kind(), Kind::Float);
        assert_close("under autocast", got, want, 1e-6);
    }
    let half = za.to_kind(Kind::BFloat16);
    let rounded = half.to_kind(Kind::Float);
    assert_close("rounded", &supcon(&half, &labels, 0.1).unwrap(), &supcon(&rounded, &labels, 0.1).unwrap(), 1e-6);
}

#[test]
fn the_expected_batch_loss_is_the_population_loss() {
    let task = worked();
    let net = LinearContrastiveNet::random(4, 6, 2, 0.4, &mut rng(1, &["net"])).unwrap();
    let want = net.population_loss(&task.covariance(), &task.cross_covariance()).unwrap();
    let views = task.views(20_000, &mut rng(1, &["views"])).map(|x| x.to_kind(Kind::Double));
    let [z1, z2] = views.map(|x| net.forward(&x, 2).unwrap());
    let got = value(&spectral_contrastive_loss(&z1, &z2).unwrap());
    close(got, want, 0.02 * want.abs().max(1.0));
}

#[test]
fn samples_have_the_tasks_covariances_and_labels() {
    let task = FeatureTask { phi_down: vec![3.0, 0.0, 1.0, 1.0], ..worked() };
    let [a, b] = task.views(40_000, &mut rng(0, &["views"])).map(|x| x.to_kind(Kind::Double));
    assert_close("sigma", &(a.tr().matmul(&a) / 40_000.0), &task.covariance(), 0.02);
    assert_close("c", &(a.tr().matmul(&b) / 40_000.0), &task.cross_covariance(), 0.02);
    let (x, y) = task.downstream(50, &mut rng(0, &["down"]));
    assert_eq!(x.size(), [50, 4]);
    assert_eq!(x.select(1, 0).gt(0.0).to_kind(Kind::Int64), y.select(1, 0));
    assert_eq!((value(&x.select(1, 0).abs().min()), value(&x.select(1, 1).abs().max())), (3.0, 0.0));
    assert!((0.3..0.7).contains(&value(&y.to_kind(Kind::Double).mean(Kind::Double))));
}

#[test]
fn descents_equal_autograd() {
    let golden = golden();
    let layers = |when: &str| [0, 1, 2].map(|i| golden[&format!("linear.{when}{i}")].copy());
    let mut net = LinearContrastiveNet::new(layers("start").into()).unwrap();
    net.descend(&golden["linear.sigma"], &golden["linear.c"], 0.01, 50).unwrap();
    for (got, want) in net.layers().iter().zip(&layers("end")) {
        assert_close("layer", got, want, 1e-10);
    }
    let list = |name: &str| Vec::<f64>::try_from(&golden[&format!("diagonal.{name}")]).unwrap();
    let mut net = DiagonalNet::new(list("w1"), list("w2"), 0.1, 0.25).unwrap();
    let task = FeatureTask::new(vec![1.0, 0.7, 2.0, 1.3], vec![0.2, 0.5, 0.1, 1.0], vec![1.0; 4]).unwrap();
    net.descend(&task, 0.02, 100).unwrap();
    for (got, want) in [(&net.w1, list("end_w1")), (&net.w2, list("end_w2"))] {
        got.iter().zip(want).for_each(|(got, want)| close(*got, want, 1e-12));
    }
    // Units in a dead zone stay where they are.
    assert_eq!((net.w1[2], net.w2[2], net.w1[3], net.w2[3]), (0.04, 1.0, 0.9, 0.1));
}

#[test]
fn gradient_descent_ends_at_the_closed_form_and_keeps_the_balance() {
    let task = worked();
    let (post, pre) = (closed_form::post(&task), closed_form::pre(&task));
    for (got, want) in post.iter().zip([0.5, 1.0, 0.5, 1.6]) {
        close(*got, want, 1e-12);
    }
    for (got, want) in pre.iter().zip([0.5f64.sqrt(), 1.0, 0.5f64.sqrt(), 1.26491]) {
        close(*got, want, 1e-5);
    }
    close(closed_form::minimum_loss(&task), -2.4721, 1e-12);
    let (sigma, c) = (task.covariance(), task.cross_covariance());
    let mut net = LinearContrastiveNet::random(4, 6, 2, 0.05, &mut rng(0, &["net"])).unwrap();
    let balance = |net: &LinearContrastiveNet| balancedness(&net.layers()[0], &net.layers()[1]).unwrap();
    let start = balance(&net);
    net.descend(&sigma, &c, 0.005, 3500).unwrap();
    let early = net.feature_weights(2).unwrap();
    assert!(early[1] > 0.99 && early[2] < 0.25, "the disrupted feature is learned last: {early:?}");
    net.descend(&sigma, &c, 0.005, 60_000).unwrap();
    for (got, want) in net.feature_weights(2).unwrap().iter().zip(&post) {
        close(*got, *want, 1e-6);
    }
    for (got, want) in net.feature_weights(1).unwrap().iter().zip(&pre) {
        close(*got, *want, 0.01);
    }
    close(net.population_loss(&sigma, &c).unwrap(), -2.4721, 1e-9);
    assert!(value(&(balance(&net) - &start).abs().max()) < 0.0125);
}

#[test]
fn deeper_layers_weight_features_progressively() {
    // From balanced layers, the weights after layer l are post^(l/D).
    let task = worked();
    let weights: Vec<f64> = vec![0.5; 4];
    let layers = (0..3).map(|_| Tensor::from_slice(&weights).diag(0)).collect();
    let mut net = LinearContrastiveNet::new(layers).unwrap();
    net.descend(&task.covariance(), &task.cross_covariance(), 0.005, 20_000).unwrap();
    for layer in 1..=3 {
        for (got, want) in net.feature_weights(layer).unwrap().iter().zip(closed_form::layer(&task, layer, 3)) {
            close(*got, want, 1e-6);
        }
    }
    assert_eq!(closed_form::layer(&task, 0, 3), [1.0; 4]);
}

#[test]
fn the_minimiser_of_full_covariances_is_a_minimum_of_its_rank() {
    let golden = golden();
    let (sigma, c) = (&golden["linear.sigma"], &golden["linear.c"]);
    for p in [2, 4] {
        let a = closed_form::minimiser(sigma, c, p).unwrap();
        let least = closed_form::loss(&a, sigma, c).unwrap();
        let mut net = LinearContrastiveNet::random(4, p, 1, 0.3, &mut rng(0, &["net"])).unwrap();
        net.descend(sigma, c, 0.02, 20_000).unwrap();
        let w = &net.layers()[0];
        close(net.population_loss(sigma, c).unwrap(), least, 1e-7);
        assert_close("A", &w.tr().matmul(w), &a, 1e-3);
    }
    let task = worked();
    let a = closed_form::minimiser(&task.covariance(), &task.cross_covariance(), 6).unwrap();
    let squares: Vec<f64> = a.diag(0).try_into().unwrap();
    squares.iter().zip(closed_form::post(&task)).for_each(|(got, want)| close(*got, want * want, 1e-12));
    assert!(closed_form::minimiser(&-sigma, c, 2).unwrap_err().to_string().contains("positive definite"));
}

#[test]
fn diagonal_units_end_at_their_fixed_points() {
    let task = FeatureTask::new(vec![1.0; 4], vec![0.0, 0.5, 0.9, 1.0], vec![1.0; 4]).unwrap();
    let mut net = DiagonalNet::new(vec![1.2; 4], vec![1.1; 4], 0.1, 0.25).unwrap();
    let k = net.conserved(&task, 0).unwrap();
    close(k, 0.0, 1e-12);
    net.descend(&task, 0.01, 200_000).unwrap();
    for (i, (u, z)) in [(1.118034, 1.0), (0.866025, 0.5), (0.591608, 0.1), (0.5106, 0.0108)].into_iter().enumerate() {
        let got = net.unit(&task, i).unwrap();
        // A finite rate changes what the flow conserves a little.
        close(got.0, u, 3e-3);
        close(got.1, z, 1e-3);
    }
    close(closed_form::diag_fixed_point(1.0, 0.9, 0.0, 0.25).0, 0.591608, 1e-6);
    assert_eq!(closed_form::diag_fixed_point(1.0, 1.0, 0.0, 0.25), (0.5, 0.0));
    close(net.loss(&task).unwrap(), -1.0 - 0.0625 - 1e-4, 1e-6);
    // Away from k = 0.
    let task = FeatureTask::new(vec![0.5], vec![0.3], vec![1.0]).unwrap();
    let mut net = DiagonalNet::new(vec![3.0], vec![0.8], 0.1, 0.25).unwrap();
    let k = net.conserved(&task, 0).unwrap();
    net.descend(&task, 1e-3, 200_000).unwrap();
    let (u, z) = closed_form::diag_fixed_point(0.5, 0.3, k, 0.25);
    close(net.unit(&task, 0).unwrap().0, u, 1e-3);
    close(net.unit(&task, 0).unwrap().1, z, 1e-6);
}

#[test]
fn difficulties_of_the_worked_settings_have_both_signs() {
    let d = |task: &FeatureTask, k| {
        let of = |w: Vec<f64>| difficulty(&w, &task.phi_down, k).unwrap();
        (of(closed_form::pre(task)), of(closed_form::post(task)))
    };
    let disrupted = FeatureTask::new(vec![1.0; 2], vec![0.9, 0.0], vec![1.0; 2]).unwrap();
    let (pre, post) = d(&disrupted, 0);
    close(pre, 11.0, 1e-9);
    close(post, 101.0, 1e-9);
    // The other feature is favoured by the loss: there the layer above is better.
    let (pre, post) = d(&disrupted, 1);
    assert!(post < pre);
    let strong = FeatureTask::new(vec![10.0, 1.0], vec![0.0; 2], vec![1.0; 2]).unwrap();
    let (pre, post) = d(&strong, 0);
    assert!(pre < post);
    assert_eq!(difficulty(&[0.0, 1.0], &[1.0, 1.0], 0).unwrap(), f64::INFINITY);
    assert!(difficulty(&[1.0], &[1.0, 1.0], 0).is_err() && difficulty(&[1.0], &[1.0], 1).is_err());
}

#[test]
fn the_symmetrised_relu_is_odd_with_a_dead_zone() {
    let t = Tensor::from_slice(&[-2.0f64, -0.5, -0.1, 0.0, 0.4, 0.5, 3.0]);
    let s = SymmetricRelu::new(0.5).unwrap();
    let want = Tensor::from_slice(&[-1.5f64, 0.0, 0.0, 0.0, 0.0, 0.0, 2.5]);
    assert_close("values", &s.forward(&t), &want, 1e-12);
    assert_eq!(s.forward(&-&t), -s.forward(&t));
    assert_eq!(SymmetricRelu::new(0.0).unwrap().forward(&t), t);
    let smooth = Tensor::from_slice(&[-2.0f64, -0.3, 0.2, 0.7]);
    check_gradient(&smooth, 1e-8, |x| s.forward(x).square().sum(Kind::Double));
    let mut vs = VarStore::new(Device::Cpu);
    let learned = SymmetricRelu::learnable(&vs.root(), 0.5).unwrap();
    vs.double();
    assert_close("learned", &learned.forward(&t), &want, 1e-12);
    learned.forward(&t).sum(Kind::Double).backward();
    // d/db: -1 for each active positive unit, +1 for each active negative one.
    assert_eq!(value(&vs.variables()["b"].grad()), 0.0);
    learned.forward(&t).abs().sum(Kind::Double).backward();
    assert_eq!(value(&vs.variables()["b"].grad()), -2.0);
    assert!(SymmetricRelu::new(-0.1).is_err());
}

#[test]
fn the_fixed_head_scales_coordinates_and_their_gradients() {
    let x = randn(5, 3, 4).to_kind(Kind::Float).set_requires_grad(true);
    let head = FixedReweightHead::new(2.0, 4, Device::Cpu).unwrap();
    let taps = head.forward_with_taps(x.shallow_clone());
    let weights = Tensor::from_slice(&[1f32, 0.5, 0.25, 0.125]);
    assert_close("post", &taps.post, &(&x * &weights), 1e-7);
    assert_eq!(taps.pre, x);
    taps.post.sum(Kind::Float).backward();
    assert_close("gradient", &x.grad(), &weights.expand([3, 4], false), 1e-7);
    let identity = FixedReweightHead::new(1.0, 4, Device::Cpu).unwrap();
    assert_eq!(identity.forward(&x), x);
    assert_eq!(NoHead.forward(&x), x);
    // 1.5^-511 is below the smallest 32-bit number, 1.05^-511 is not.
    let last = |kappa| value(&FixedReweightHead::new(kappa, 512, Device::Cpu).unwrap().weights().get(511));
    assert_eq!(last(1.5), 0.0);
    close(last(1.05) / 1.05f64.powi(-511), 1.0, 1e-6);
    assert!(FixedReweightHead::new(0.9, 4, Device::Cpu).is_err());
    assert!(FixedReweightHead::new(1.1, 0, Device::Cpu).is_err());
}

#[test]
fn the_mlp_head_is_two_linear_layers_around_its_activation() {
    for symmetric in [None, Some(0.25)] {
        let mut vs = VarStore::new(Device::Cpu);
        let config = MlpHeadConfig { output: 2, symmetric, ..MlpHeadConfig::contrastive(3) };
        let head = MlpHead::new(&vs.root(), &config).unwrap();
        vs.double();
        let v = vs.variables();
        let x = randn(6, 5, 3);
        let hidden = x.matmul(&v["hidden.weight"].tr()) + &v["hidden.bias"];
        let hidden = match symmetric {
            None => hidden.clamp_min(0.0),
            Some(b) => hidden.sign() * (hidden.abs() - b).clamp_min(0.0),
        };
        let want = hidden.matmul(&v["output.weight"].tr()) + &v["output.bias"];
        let taps = head.forward_with_taps(x.shallow_clone());
        assert_close("post", &taps.post.detach(), &want.detach(), 1e-12);
        assert_eq!(v.contains_key("activation.b"), symmetric.is_some());
    }
    let vs = VarStore::new(Device::Cpu);
    let bad = MlpHeadConfig { width: 0, ..MlpHeadConfig::supervised(4) };
    assert!(MlpHead::new(&vs.root(), &bad).unwrap_err().to_string().contains("positive numbers, got 0 and 4"));
    assert_eq!(MlpHeadConfig::contrastive(4).output, 128);
}

#[test]
fn the_worst_group_is_found() {
    let scores = Tensor::from_slice2(&[[1f32, 0.], [0., 1.], [1., 0.], [0., 1.], [0., 1.]]);
    let labels = Tensor::from_slice(&[0i64, 1, 1, 1, 0]);
    let groups = Tensor::from_slice(&[0i64, 0, 2, 2, 2]);
    let (worst, each) = worst_group_accuracy(&scores, &labels, &groups, 3).unwrap();
    close(worst, 1.0 / 3.0, 1e-12);
    assert!(each[0] == 1.0 && each[1].is_nan() && each[2] == worst);
    assert!(worst_group_accuracy(&scores, &labels, &groups, 2).is_err());
}

#[test]
fn retraining_on_balanced_groups_ignores_the_spurious_feature() {
    // The label is a noisy first feature; the second, sharper one agrees with it in 95 % of the training samples.
    let draw = |seed: i64, agree: f64| {
        tch::manual_seed(seed);
        let n = 2000;
        let y = Tensor::randint(2, [n], (Kind::Int64, Device::Cpu));
        let same = Tensor::rand([n], (Kind::Double, Device::Cpu)).lt(agree);
        let s = y.where_self(&same, &(1 - &y));
        let noise = Tensor::randn([n, 2], (Kind::Double, Device::Cpu)) * Tensor::from_slice(&[1.0f64, 0.3]);
        let x = Tensor::stack(&[&y, &s], 1).to_kind(Kind::Double) * 2.0 - 1.0 + noise;
        (x, y.shallow_clone(), y * 2 + s)
    };
    let (x, y, g) = draw(1, 0.95);
    let (test, test_y, test_g) = draw(2, 0.5);
    let config = LastLayer { subsets: 3, ..Default::default() };
    let worst = |logits: &Tensor| worst_group_accuracy(logits, &test_y, &test_g, 4).unwrap().0;
    let retrained = last_layer_retrain((&x, &y, &g), (2, 4), &test, &config, &mut rng(0, &["groups"])).unwrap();
    let (sx, [st]) = standardise(&x, [&test]).unwrap();
    let plain = LogisticRegression::fit(&sx, &y, 2, &config.fit).unwrap().logits(&st).unwrap();
    assert!(worst(&retrained) > worst(&plain) + 0.2, "{} {}", worst(&retrained), worst(&plain));
    // Where groups are of one size, every subset is the whole set.
    let index = Tensor::cat(&[0i64, 1, 2, 3].map(|k| g.eq(k).nonzero().view(-1).narrow(0, 0, 20)), 0);
    let [x, y, g] = [&x, &y, &g].map(|t| t.index_select(0, &index));
    let all = last_layer_retrain((&x, &y, &g), (2, 4), &test, &config, &mut rng(0, &["groups"])).unwrap();
    let (sx, [st]) = standardise(&x, [&test]).unwrap();
    let fit = LogisticRegression::fit(&sx, &y, 2, &config.fit).unwrap();
    assert_close("logits", &all, &fit.logits(&st).unwrap(), 1e-3);
    let missing = last_layer_retrain((&x, &y, &g), (2, 5), &test, &config, &mut rng(0, &["groups"]));
    assert!(missing.unwrap_err().to_string().contains("samples of each of 5"));
    let none = LastLayer { subsets: 0, ..config };
    assert!(last_layer_retrain((&x, &y, &g), (2, 4), &test, &none, &mut rng(0, &["groups"])).is_err());
}

#[test]
fn bad_input_is_refused() {
    let z = randn(7, 4, 3);
    let y = Tensor::from_slice(&[0i64, 0, 1, 1]);
    assert!(supcon(&z, &y.narrow(0, 0, 3), 0.5).unwrap_err().to_string().contains("labels: expected [4]"));
    assert!(supcon(&z, &y.to_kind(Kind::Double), 0.5).is_err());
    assert!(supcon(&z, &y, 0.0).is_err());
    assert!(supcon(&z.narrow(0, 0, 1), &y.narrow(0, 0, 1), 0.5).is_err());
    assert!(spectral_contrastive_loss(&z, &z.narrow(1, 0, 2)).is_err());
    let e = FeatureTask::new(vec![1.0, 2.0], vec![0.0], vec![1.0]).unwrap_err().to_string();
    assert!(e.contains("got 2, 1 and 1"), "{e}");
    assert!(FeatureTask::new(vec![0.0], vec![0.0], vec![1.0]).is_err());
    assert!(FeatureTask::new(vec![1.0], vec![1.5], vec![1.0]).is_err());
    let task = worked();
    assert!(LinearContrastiveNet::new(vec![]).is_err());
    let e = LinearContrastiveNet::new(vec![randn(1, 5, 4), randn(1, 3, 6)]).unwrap_err().to_string();
    assert_eq!(e, "layer 2: expected [_, 5], got shape [3, 6]");
    let mut net = LinearContrastiveNet::new(vec![randn(1, 5, 4), randn(1, 3, 5)]).unwrap();
    assert!(net.forward(&randn(2, 3, 5), 1).is_err() && net.forward(&randn(2, 3, 4), 3).is_err());
    assert!(net.feature_weights(0).is_err());
    assert!(net.descend(&task.covariance(), &randn(1, 3, 3), 0.1, 1).is_err());
    assert!(net.descend(&task.covariance(), &task.cross_covariance(), 0.0, 1).is_err());
    assert!(balancedness(&randn(1, 5, 4), &randn(1, 3, 4)).is_err());
    assert!(DiagonalNet::new(vec![1.0], vec![], 0.1, 0.1).is_err());
    let mut units = DiagonalNet::new(vec![1.0], vec![1.0], 0.1, 0.1).unwrap();
    assert!(units.descend(&task, 0.1, 1).is_err() && units.unit(&task, 0).is_err());
}
