//! Trajectory matching and what it stands on: worked examples, identities, values and gradients of PyTorch, finite differences, bad
//! input.

use autodidact_core::seed::{Rng, rng};
use autodidact_core::testing::{assert_close, check_gradient, fixture};
use autodidact_distill::distilled_data::{
    FlatConvNet, FlatConvNetConfig, GradientPenalty, InnerLoop, PenaltyNorm, Ramp, Recipe, distribution_matching_loss,
    gradient_distance, gradient_matching_loss, gradient_penalty, unroll,
};
use autodidact_distill::smooth_trajectories::{
    Intermediate, TrajectoryBuffer, TrajectoryMatching, balance_factor, intermediate_steps, normalised_distance,
    perturb_convolutions, smooth_expert, strong_expert,
};
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);

fn golden() -> BTreeMap<String, Tensor> {
    fixture(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/smooth_trajectories.safetensors"))
}

fn golden_net() -> FlatConvNet {
    FlatConvNet::new(FlatConvNetConfig { channels: 2, side: 8, width: 4, depth: 2, classes: 3 }).unwrap()
}

fn tiny() -> FlatConvNet {
    FlatConvNet::new(FlatConvNetConfig { channels: 1, side: 4, width: 2, depth: 1, classes: 2 }).unwrap()
}

fn random() -> Rng {
    rng(0, &["test"])
}

fn value(x: &Tensor) -> f64 {
    x.double_value(&[])
}

fn leaf(x: &Tensor) -> Tensor {
    x.detach().copy().set_requires_grad(true)
}

/// Trajectory matching with neither augmentation nor perturbation.
fn matching(steps: usize, epochs: usize, max_start: usize) -> TrajectoryMatching {
    TrajectoryMatching {
        inner: InnerLoop { steps, momentum: 0.0, kept: None },
        expert_epochs: epochs,
        max_start,
        augment: None,
        ..TrajectoryMatching::mtt()
    }
}

#[test]
fn the_network_is_pytorchs() {
    let (g, net) = (golden(), golden_net());
    assert_eq!(net.parameters(), g["theta"].size()[0]);
    assert_close("logits", &net.forward(&g["theta"], &g["x"]).unwrap(), &g["logits"], 1e-10);
    // The sizes of the published network, and of the one for digits.
    let digits = FlatConvNetConfig { channels: 1, side: 8, width: 16, depth: 2, classes: 10 };
    assert_eq!(FlatConvNet::new(digits).unwrap().parameters(), 3194);
    // Fresh weights: within 1/sqrt(fan_in), of its variance; gains 1, shifts 0.
    let net = FlatConvNet::new(FlatConvNetConfig::default()).unwrap();
    let theta = net.init(&mut random(), Device::Cpu);
    for layer in net.layers() {
        let part = theta.narrow(0, layer.range.start, layer.range.end - layer.range.start);
        let (low, high) = (part.min().double_value(&[]), part.max().double_value(&[]));
        match layer.name.as_str() {
            "1.conv.weight" => {
                let bound = 1.0 / (128f64 * 9.0).sqrt();
                assert!(high <= bound && high > 0.99 * bound && low >= -bound, "{low} {high} {bound}");
                assert!((part.std(false).double_value(&[]) / bound * 3f64.sqrt() - 1.0).abs() < 0.01);
            }
            name if name.ends_with("norm.weight") => assert_eq!((low, high), (1.0, 1.0)),
            name if name.ends_with("norm.bias") => assert_eq!((low, high), (0.0, 0.0)),
            _ => {}
        }
    }
}

#[test]
fn penalty_and_matching_losses_are_pytorchs() {
    let (g, net) = (golden(), golden_net());
    for (name, norm) in [("pixel", PenaltyNorm::Pixel), ("image", PenaltyNorm::Image)] {
        let theta = leaf(&g["theta"]);
        let penalty = GradientPenalty { norm, ..GradientPenalty::default() };
        let loss = gradient_penalty(&g["x"], penalty, |x| net.forward(&theta, x)).unwrap();
        loss.backward();
        assert_close(name, &loss, &g[&format!("penalty_{name}")], 1e-10);
        assert_close(name, &theta.grad(), &g[&format!("penalty_{name}_grad")], 1e-9);
    }
    let real = (&g["real"], &g["real_y"]);
    for name in ["gradient", "distribution"] {
        let x = leaf(&g["x"]);
        let of = if name == "gradient" { gradient_matching_loss } else { distribution_matching_loss };
        let loss = of(&net, &g["theta"], real, (&x, &g["y"]), None, &mut random()).unwrap();
        loss.backward();
        assert_close(name, &loss, &g[name], 1e-10);
        assert_close(name, &x.grad(), &g[&format!("{name}_grad")], 1e-9);
        // A set matches itself.
        let own = of(&net, &g["theta"], real, real, None, &mut random()).unwrap();
        assert!(value(&own).abs() < 1e-3, "{name}: {own}");
    }
    let same = gradient_distance(&net, &g["theta"], &(&g["theta"] * 3.0)).unwrap();
    assert!(value(&same).abs() < 1e-4, "directions count, not lengths");
}

#[test]
fn the_penalty_of_a_linear_model_is_that_of_its_weights() {
    // Logits W x: the gradient of their sum is the sum of the rows of W, the same for every image.
    let w = Tensor::from_slice2(&[[0.5f64, 1.0, 0.0, 2.0], [0.5, -1.0, 3.0, 0.0]]);
    let x = Tensor::randn([5, 1, 2, 2], F64);
    let of = |norm| {
        let p = GradientPenalty { weight: 0.1, norm, target: 1.0 };
        value(&gradient_penalty(&x, p, |x| Ok(x.flatten(1, -1).matmul(&w.tr()))).unwrap())
    };
    // Gradient (1, 0, 3, 2).
    assert!((of(PenaltyNorm::Image) - 0.1 * (14f64.sqrt() - 1.0).powi(2)).abs() < 1e-12);
    assert!((of(PenaltyNorm::Pixel) - 0.1 * (0.0 + 1.0 + 4.0 + 1.0) / 4.0).abs() < 1e-12);
}

#[test]
fn one_outer_step_is_pytorchs() {
    let (g, net) = (golden(), golden_net());
    let (x, a) = (leaf(&g["x"]), Tensor::from(0.03f64).set_requires_grad(true));
    let full = TrajectoryMatching {
        inner: InnerLoop { steps: 5, momentum: 0.9, kept: None },
        balance: true,
        intermediate: Intermediate::Equal,
        ..matching(5, 2, 4)
    };
    let of = |m: &TrajectoryMatching, x: &Tensor| {
        // Starts below 4 set the balance; epoch 1 of a trajectory of 3 epochs is within it.
        m.from_epoch(&net, &g["path"], 1, (x, &g["y"]), &a, &mut random()).unwrap()
    };
    let losses = of(&full, &x);
    assert_close("last", &losses.last, &g["last"], 1e-10);
    assert_close("between", losses.intermediate.as_ref().unwrap(), &g["between"], 1e-10);
    losses.total.backward();
    assert_close("images", &x.grad(), &g["match_grad_x"], 1e-8);
    assert_close("step size", &a.grad(), &g["match_grad_a"], 1e-8);
    let half = TrajectoryMatching { intermediate: Intermediate::Adaptive, ..full.clone() };
    assert_close("half", of(&half, &x).intermediate.as_ref().unwrap(), &(&g["between"] / 2.0), 1e-10);
    // Truncation leaves the value and changes the gradient; nothing kept has none.
    let kept = |kept| TrajectoryMatching { inner: InnerLoop { kept: Some(kept), ..full.inner }, ..full.clone() };
    let (two, none) = (of(&kept(2), &x), of(&kept(0), &x));
    assert_close("truncated", &two.last, &g["last"], 1e-10);
    let other = leaf(&g["x"]);
    of(&kept(2), &other).total.backward();
    assert!((other.grad() - &g["match_grad_x"]).abs().max().double_value(&[]) > 1e-6);
    let of_images = Tensor::run_backward(&[&none.total], &[&x], false, false);
    assert!(!of_images[0].defined(), "nothing leads back to the images");
    assert_close("all kept", &of(&kept(5), &x).total, &losses.total, 1e-12);
}

#[test]
fn unrolled_momentum_of_the_worked_example() {
    // Loss (theta x)^2/2, x = 2, a = 0.1: theta 1, 0.6, then velocity 0.9*4 + 0.6*4 = 6 and theta 0.
    let [x, a] = [2.0, 0.1].map(|v: f64| Tensor::from(v).set_requires_grad(true));
    let inner = InnerLoop { steps: 2, momentum: 0.9, kept: None };
    let loss = |_: usize, t: &Tensor| Ok((t * &x).square().sum(Kind::Double) / 2.0);
    let path = unroll(&Tensor::from_slice(&[1.0]), &a, inner, loss).unwrap();
    assert!((value(&path[1].get(0)) - 0.6).abs() < 1e-12 && value(&path[2].get(0)).abs() < 1e-12);
}

/// Images and step size of a loss against finite differences, through three steps with momentum.
#[test]
fn second_order_gradients_are_finite_differences() {
    let net = tiny();
    let start = net.init(&mut random(), Device::Cpu).to_kind(Kind::Double);
    let target = &start + Tensor::randn([net.parameters()], F64) * 0.1;
    let path = Tensor::stack(&[&start, &((&start + &target) / 2.0), &target], 0);
    let y = Tensor::from_slice(&[0i64, 1, 1]);
    let m = TrajectoryMatching {
        inner: InnerLoop { steps: 4, momentum: 0.9, kept: None },
        balance: true,
        intermediate: Intermediate::Equal,
        perturbation: 0.5,
        ..matching(4, 2, 1)
    };
    tch::manual_seed(1);
    let x = Tensor::randn([3, 1, 4, 4], F64);
    let a = Tensor::from(0.1f64);
    let of = |x: &Tensor, a: &Tensor| m.from_epoch(&net, &path, 0, (x, &y), a, &mut random()).unwrap().total;
    check_gradient(&x, 1e-6, |x| tch::with_grad(|| of(x, &a)));
    check_gradient(&a, 1e-6, |a| tch::with_grad(|| of(&x, a)));
}

#[test]
fn balance_and_intermediate_steps_of_the_worked_examples() {
    for (start, want) in [(0, 0.55683), (9, 0.73248), (10, 1.29203), (19, 1.76037)] {
        assert!((balance_factor(start, 20) - want).abs() < 1e-5, "{start}");
    }
    assert_eq!(intermediate_steps(20, 3), [6, 12, 20]);
    assert_eq!(intermediate_steps(15, 1), [15]);
}

#[test]
fn distance_is_one_at_the_start_and_zero_at_the_target() {
    let [start, target] = [0, 1].map(|_| Tensor::randn([7], F64));
    let of = |a: &Tensor| value(&normalised_distance(a, &target, &start).unwrap());
    assert!((of(&start) - 1.0).abs() < 1e-12 && of(&target) == 0.0);
    // A student with a step size of 0 stays.
    let (net, path) = (tiny(), Tensor::randn([3, tiny().parameters()], F64));
    let x = Tensor::randn([2, 1, 4, 4], F64);
    let m = TrajectoryMatching { intermediate: Intermediate::Equal, ..matching(4, 2, 1) };
    let y = Tensor::from_slice(&[0i64, 1]);
    let losses = m.from_epoch(&net, &path, 0, (&x, &y), &Tensor::from(0f64), &mut random()).unwrap();
    assert!((value(&losses.last) - 1.0).abs() < 1e-12);
    assert!((value(losses.intermediate.as_ref().unwrap()) - 1.0).abs() < 1e-12);
}

#[test]
fn perturbation_is_bounded_and_leaves_the_rest() {
    let net = golden_net();
    let theta = golden()["theta"].shallow_clone();
    let moved = perturb_convolutions(&net, &theta, 1.0, &mut random()).unwrap();
    for layer in net.layers() {
        let part = |t: &Tensor| t.narrow(0, layer.range.start, layer.range.end - layer.range.start);
        let change = (part(&moved) - part(&theta)).norm();
        if layer.shape.len() == 4 {
            let most = part(&theta).abs().max();
            assert!(value(&change) > 1e-3 && value(&change) <= value(&most) + 1e-6, "{}", layer.name);
        } else {
            assert_eq!(value(&change), 0.0, "{}", layer.name);
        }
    }
    assert_eq!(perturb_convolutions(&net, &theta, 0.0, &mut random()).unwrap(), theta);
}

#[test]
fn training_is_plain_sgd_with_ramp_decay_and_fresh_momentum() {
    assert_eq!([0, 1, 9, 10, 40].map(|e| Ramp::default().factor(e)), [0.5, 0.55, 0.95, 1.0, 1.0]);
    let net = tiny();
    tch::manual_seed(2);
    let x = Tensor::randn([4, 1, 4, 4], F64);
    let y = Tensor::from_slice(&[0i64, 1, 0, 1]);
    let start = net.init(&mut random(), Device::Cpu).to_kind(Kind::Double);
    let recipe = Recipe {
        epochs: 5,
        lr: 0.1,
        momentum: 0.9,
        weight_decay: 0.01,
        decay: 0.5,
        ramp: Some(Ramp { from: 0.5, epochs: 2 }),
        penalty: Some(GradientPenalty { weight: 0.3, ..GradientPenalty::default() }),
        augment: None,
        ..Recipe::default()
    };
    let got = recipe.train(&net, &start, (&x, &y), &mut random(), |_, _| Ok(())).unwrap();
    // The same by hand, whole batches: rate and momentum are new after epoch 5/2 + 1 = 3.
    let (mut theta, mut v) = (start.copy(), start.zeros_like());
    for (epoch, factor) in [0.5, 0.75, 1.0, 1.0, 1.0].into_iter().enumerate() {
        let t = leaf(&theta);
        let logp = net.forward(&t, &x).unwrap().log_softmax(1, Kind::Double);
        let ce = -logp.gather(1, &y.unsqueeze(1), false).mean(Kind::Double);
        let penalty = gradient_penalty(&x, recipe.penalty.unwrap(), |x| net.forward(&t, x)).unwrap();
        (ce * factor + penalty).backward();
        if epoch == 4 {
            v = v.zeros_like();
        }
        v = v * 0.9 + t.grad() + &theta * 0.01;
        theta = &theta - &v * if epoch == 4 { 0.05 } else { 0.1 };
    }
    assert_close("parameters", &got, &theta, 1e-9);
    let path = recipe.trajectory(&net, (&x.to_kind(Kind::Float), &y), &mut random()).unwrap();
    assert_eq!(path.size(), [6, net.parameters()]);
    assert_eq!((strong_expert().momentum, smooth_expert().ramp), (0.9, Some(Ramp::default())));
}

#[test]
fn a_buffer_survives_the_disk_and_knows_how_fast_experts_move() {
    let mut buffer = TrajectoryBuffer::default();
    buffer.push(Tensor::from_slice2(&[[0f32, 0.0], [3.0, 4.0], [3.0, 5.0]])).unwrap();
    buffer.push(Tensor::zeros([3, 2], (Kind::Float, Device::Cpu))).unwrap();
    let smooth = &buffer.smoothness().unwrap()[0];
    assert_eq!(smooth.change, [25.0, 1.0]);
    assert!((smooth.cosine[0] - 0.8).abs() < 1e-9 && smooth.max_change() == 25.0);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("experts.safetensors");
    buffer.save(&path).unwrap();
    let back = TrajectoryBuffer::load(&path, Device::Cpu).unwrap();
    assert_eq!((back.len(), back.epochs()), (2, 2));
    assert_eq!(back.trajectories()[0], buffer.trajectories()[0]);
    std::fs::write(&path, b"nothing").unwrap();
    let error = TrajectoryBuffer::load(&path, Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("experts.safetensors: expected a whole safetensors file"), "{error}");
    let diverged = Tensor::full([3, 2], f64::NAN, (Kind::Float, Device::Cpu));
    assert!(buffer.push(diverged).unwrap_err().to_string().contains("lower its learning rate"));
    let other = Tensor::zeros([2, 2], (Kind::Float, Device::Cpu));
    let error = buffer.push(other).unwrap_err().to_string();
    assert_eq!(error, "trajectory: expected [3, 2], as the others, got shape [2, 2]");
}

#[test]
fn bad_input_says_what_is_wrong() {
    let of = |side, depth| FlatConvNet::new(FlatConvNetConfig { side, depth, ..FlatConvNetConfig::default() });
    assert_eq!(of(12, 3).unwrap_err().to_string(), "ConvNet side: expected a multiple of 2^3, got 12");
    assert_eq!(of(32, 0).unwrap_err().to_string(), "ConvNet depth: expected at least 1, got 0");
    assert!(of(32, 70).is_err());
    let net = tiny();
    let theta = net.init(&mut random(), Device::Cpu);
    let x = Tensor::zeros([2, 1, 4, 4], (Kind::Float, Device::Cpu));
    let e = net.forward(&theta.narrow(0, 0, 5), &x).unwrap_err().to_string();
    assert_eq!(e, format!("theta: expected [{}], got shape [5]", net.parameters()));
    let e = net.forward(&theta, &x.narrow(3, 0, 2)).unwrap_err().to_string();
    assert_eq!(e, "images: expected [N, 1, 4, 4], got shape [2, 1, 4, 2]");
    let y = Tensor::from_slice(&[0i64, 1]);
    let a = Tensor::from(0.1f32);
    let mut buffer = TrajectoryBuffer::default();
    let m = matching(2, 2, 3);
    let of = |m: &TrajectoryMatching, buffer: &TrajectoryBuffer, y: &Tensor| {
        m.forward(&net, buffer, (&x, y), &a, &mut random()).map(|l| value(&l.total)).map_err(|e| e.to_string())
    };
    assert_eq!(of(&m, &buffer, &y).unwrap_err(), "trajectory buffer: expected at least one expert, got none");
    buffer.push(Tensor::zeros([4, net.parameters()], (Kind::Float, Device::Cpu))).unwrap();
    let e = of(&m, &buffer, &y).unwrap_err();
    assert_eq!(e, "max_start - 1 + expert_epochs: expected at most 3, the expert's epochs, got 4");
    assert!(of(&matching(2, 2, 2), &buffer, &(&y + 1)).unwrap_err().contains("labels"));
    assert!(of(&matching(0, 2, 2), &buffer, &y).unwrap_err().contains("inner.steps"));
    let m = TrajectoryMatching { intermediate: Intermediate::Equal, ..matching(1, 2, 2) };
    assert!(of(&m, &buffer, &y).unwrap_err().contains("at least one for each of the expert's epochs"));
    let e = unroll(&theta, &Tensor::zeros([2], (Kind::Float, Device::Cpu)), m.inner, |_, t| Ok(t.sum(Kind::Float)));
    assert_eq!(e.unwrap_err().to_string(), "step size: expected a single number, got shape [2]");
    let recipe = Recipe { lr: f64::NAN, ..Recipe::default() };
    assert!(recipe.check().is_err());
    let real = (&x, &y);
    let lone = (&x.narrow(0, 0, 1), &y.narrow(0, 0, 1));
    let e = gradient_matching_loss(&net, &theta, real, lone, None, &mut random()).unwrap_err().to_string();
    assert_eq!(e, "matched images: expected some of every class, real and synthetic, got none of 1");
}
