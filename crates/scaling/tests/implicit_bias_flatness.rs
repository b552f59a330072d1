//! Values worked out by hand, identities of the noise and of the traces, and PyTorch's autograd as a peer.

use autodidact_core::curvature::Hessian;
use autodidact_core::metrics::{RidgeProbe, accuracy};
use autodidact_core::testing::{assert_close, fixture};
use autodidact_core::{Result, seed};
use autodidact_scaling::implicit_bias_flatness::trace::{fisher_exact, fisher_sampled, sampled_log_prob};
use autodidact_scaling::implicit_bias_flatness::*;
use rand::seq::index;
use tch::{Device, Kind, Tensor};

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);

/// Weights as leaves, `w` and `a`, with a network that shares them.
fn leaves(net: &TwoLayer) -> (TwoLayer, Vec<Tensor>) {
    let copy = net.copy();
    let copy = TwoLayer { w: copy.w.set_requires_grad(true), a: copy.a.set_requires_grad(true), scale: copy.scale };
    let params = vec![copy.w.shallow_clone(), copy.a.shallow_clone()];
    (copy, params)
}

/// A network that gives `2 x_1 x_2` on all signs of three bits: `sum_k c_k |w_k . x|` with four directions that no input is orthogonal to, coefficients solved for.
fn minimiser() -> (TwoLayer, BinaryLanguage) {
    let language = BinaryLanguage::xor(3, 2.0).unwrap();
    let w = Tensor::from_slice2(&[[1f64, 1.0, 0.2], [1.0, -1.0, 0.3], [0.5, 0.3, 1.0], [0.4, -0.2, 1.0]]);
    // Up to their sign, inputs are the last four.
    let half = language.inputs.narrow(0, 4, 4);
    let target = half.select(1, 0) * half.select(1, 1) * 2.0;
    let c = Tensor::linalg_solve(&half.matmul(&w.tr()).abs(), &target.unsqueeze(1), true).squeeze_dim(1);
    let a = Tensor::cat(&[&c, &c], 0) * 8f64.sqrt();
    (TwoLayer::from_parts(&Tensor::cat(&[&w, &-&w], 0), &a, OutputScale::Root).unwrap(), language)
}

#[test]
fn the_peers_loss_gradient_products_and_traces() {
    let g = fixture(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/implicit_bias_flatness.safetensors"));
    let language = BinaryLanguage::xor(3, 2.0).unwrap();
    assert_close("probabilities", &language.probabilities, &g["p"], 1e-14);
    let net = TwoLayer::from_parts(&g["w"], &g["a"], OutputScale::Root).unwrap();
    let (graph, params) = leaves(&net);
    let hessian = Hessian::of(&params, || graph.loss(&language)).unwrap();
    assert_close("loss", &net.loss(&language).unwrap(), &g["loss"], 1e-13);
    assert_close(
        "gradient",
        &hessian.gradient().unwrap(),
        &Tensor::cat(&[g["gw"].view(-1), g["ga"].shallow_clone()], 0),
        1e-12,
    );
    assert_close("product", &hessian.product(&g["v"]).unwrap(), &g["hv"], 1e-12);
    let (trace, fisher) = (g["trace"].double_value(&[]), g["fisher"].double_value(&[]));
    assert!((trace - fisher).abs() < 1e-12); // no residual term on the diagonal, far from the minimum too
    assert!((net.trace(&language).unwrap() - trace).abs() < 1e-12);
    assert!((Hessian::of(&params, || graph.loss(&language)).unwrap().exact_trace().unwrap() - trace).abs() < 1e-12);

    // A step of the closed form is minus the rate times the gradient.
    let mut stepped = net.copy();
    let once = Training { noise: Noise::FullBatch, lr: 0.3, steps: 1, ..Default::default() };
    continue_training(&mut stepped, &language, &once).unwrap();
    assert_close("w", &stepped.w, &(&net.w - &g["gw"] * 0.3), 1e-13);
    assert_close("a", &stepped.a, &(&net.a - &g["ga"] * 0.3), 1e-13);
}

#[test]
fn entropy_and_the_cost_of_one_half() {
    let language = BinaryLanguage::xor(8, 2.0).unwrap();
    assert_eq!(language.len(), 256);
    let e = (-2f64).exp();
    assert!((language.entropy() - ((1.0 + e).ln() + 2.0 * e / (1.0 + e))).abs() < 1e-14);
    assert!((language.entropy() - 0.365334).abs() < 1e-6);
    let net = TwoLayer::new(8, 64, &Init::default(), 1).unwrap();
    assert!((net.excess(&language).unwrap() - 0.327813).abs() < 1e-6);
    // Labels agree with probabilities.
    let likely = language.probabilities.gt(0.5).to_kind(Kind::Int64);
    assert_eq!(language.xor_labels(), likely);
    // Certain labels have no entropy.
    let certain = BinaryLanguage::new(&language.inputs, &likely.to_kind(Kind::Double)).unwrap();
    assert_eq!(certain.entropy(), 0.0);
}

#[test]
fn all_traces_agree_at_any_weights() {
    let language = BinaryLanguage::xor(4, 2.0).unwrap();
    let net = TwoLayer::new(4, 6, &Init { second: 1.0, ..Default::default() }, 2).unwrap();
    let (graph, params) = leaves(&net);
    let closed = net.trace(&language).unwrap();
    assert!((Hessian::of(&params, || graph.loss(&language)).unwrap().exact_trace().unwrap() - closed).abs() < 1e-12);
    let binary = |f: &Tensor| Tensor::stack(&[&f.zeros_like(), f], -1);
    let by_labels = fisher_exact(&binary(&graph.logits(&language.inputs).unwrap()), &params).unwrap();
    assert!((by_labels - closed).abs() < 1e-12);
    let signs = Hessian::of(&params, || graph.loss(&language)).unwrap().trace(400, 0).unwrap();
    assert!((signs.value - closed).abs() < 3.0 * signs.standard_error, "{signs:?}, {closed}");
    let sampled = fisher_sampled(&params, 600, 0, |_| {
        let at = Tensor::randint(16, [1], (Kind::Int64, Device::Cpu));
        sampled_log_prob(&binary(&graph.logits(&language.inputs.index_select(0, &at))?).get(0))
    })
    .unwrap();
    assert!((sampled.value - closed).abs() < 3.0 * sampled.standard_error, "{sampled:?}, {closed}");
}

#[test]
fn one_logit_per_input_has_the_bernoulli_variances() {
    let theta = Tensor::from_slice(&[0.0f64, 9f64.ln()]).set_requires_grad(true);
    let logits = || Tensor::stack(&[theta.zeros_like(), theta.shallow_clone()], 1);
    assert!((fisher_exact(&logits(), &[theta.shallow_clone()]).unwrap() - 0.17).abs() < 1e-12);
    let one_hot = Tensor::eye(2, F64);
    let language = BinaryLanguage::new(&one_hot, &Tensor::from_slice(&[0.5f64, 0.9])).unwrap();
    let loss = || language.loss(&one_hot.mv(&theta));
    assert!((Hessian::of(&[theta.shallow_clone()], loss).unwrap().exact_trace().unwrap() - 0.17).abs() < 1e-12);
}

#[test]
fn at_a_minimum_gradient_noise_has_mean_zero_and_the_hessian_as_covariance() {
    let (net, language) = minimiser();
    assert!(net.excess(&language).unwrap().abs() < 1e-14);
    let (graph, params) = leaves(&net);
    let f = graph.logits(&language.inputs).unwrap();
    let mut mean = Tensor::zeros([32], F64);
    let mut covariance = Tensor::zeros([32, 32], F64);
    for i in 0..8 {
        let p = language.probabilities.double_value(&[i]);
        for (y, share) in [(0.0, 1.0 - p), (1.0, p)] {
            let loss = f.get(i).softplus() - f.get(i) * y;
            let g = Tensor::run_backward(&[loss], &params, true, false);
            let g = Tensor::cat(&[g[0].view(-1), g[1].shallow_clone()], 0);
            covariance += g.outer(&g) * (share / 8.0);
            mean += g * (share / 8.0);
        }
    }
    assert!(mean.abs().max().double_value(&[]) < 1e-12);
    let hessian = Hessian::of(&params, || graph.loss(&language)).unwrap().dense().unwrap();
    assert!((hessian - covariance).abs().max().double_value(&[]) < 1e-12);
}

#[test]
fn a_noisy_step_from_a_minimum_moves_the_trace_by_the_square_of_the_rate() {
    let (net, language) = minimiser();
    let start = net.trace(&language).unwrap();
    // All 16 samples of a step with a batch of one, by their probabilities.
    let change = |lr: f64| -> f64 {
        let mut sum = 0.0;
        for i in 0..8 {
            let p = language.probabilities.double_value(&[i]);
            for (y, share) in [(0.0, 1.0 - p), (1.0, p)] {
                let sample = language.inputs.narrow(0, i, 1);
                let sample = BinaryLanguage::new(&sample, &Tensor::from_slice(&[y])).unwrap();
                let mut moved = net.copy();
                let step = Training { noise: Noise::FullBatch, lr, steps: 1, ..Default::default() };
                continue_training(&mut moved, &sample, &step).unwrap();
                sum += share / 8.0 * (moved.trace(&language).unwrap() - start);
            }
        }
        sum
    };
    let (full, half) = (change(2e-3), change(1e-3));
    assert!((full / half - 4.0).abs() < 0.05, "{full} and {half}");
}

#[test]
fn rescaling_a_unit_keeps_the_function_and_changes_the_trace_as_worked_out() {
    let language = BinaryLanguage::xor(4, 2.0).unwrap();
    let net = TwoLayer::new(4, 6, &Init::default(), 5).unwrap();
    // The two terms of unit 0, from its features.
    let r = net.features(&language.inputs).unwrap();
    let q = net.logits(&language.inputs).unwrap().sigmoid();
    let spread = &q * (1.0 - &q);
    let unit = r.select(1, 0);
    let second = (&spread * unit.square()).mean(Kind::Double).double_value(&[]) / 6.0;
    let first = (spread * unit.sign()).mean(Kind::Double).double_value(&[]) * 4.0 * 4.0 / 6.0; // a^2 = 4, |x|^2 = 4
    let rescaled = |c: f64| -> (f64, f64) {
        let moved = net.copy();
        let _ = moved.w.get(0).g_mul_scalar_(c);
        let _ = moved.a.get(0).g_mul_scalar_(1.0 / c);
        let gap = moved.logits(&language.inputs).unwrap() - net.logits(&language.inputs).unwrap();
        (gap.abs().max().double_value(&[]), moved.unit_traces(&language).unwrap().double_value(&[0]))
    };
    for c in [0.5, 1.0, 3.0] {
        let (gap, trace) = rescaled(c);
        assert!(gap < 1e-12);
        assert!((trace - (c * c * second + first / (c * c))).abs() < 1e-12);
    }
    let balanced = (first / second).powf(0.25);
    let at = |c: f64| rescaled(c).1;
    assert!(at(balanced) < at(balanced * 1.1) && at(balanced) < at(balanced / 1.1));
    assert!((at(balanced) - 2.0 * (first * second).sqrt()).abs() < 1e-12);
}

#[test]
fn noise_flattens_on_the_manifold_and_descent_without_noise_does_not() {
    let language = BinaryLanguage::xor(4, 2.0).unwrap();
    let quiet = Training { noise: Noise::FullBatch, lr: 0.1, steps: 2500, ..Default::default() };
    let mut start = TwoLayer::new(4, 16, &Init::default(), 0).unwrap();
    continue_training(&mut start, &language, &quiet).unwrap();
    let meter = SaturationMeter { entropy: language.entropy(), tol: 0.002 };
    assert!(meter.saturated(start.excess(&language).unwrap()));
    let trace = start.trace(&language).unwrap();
    let after = |noise: Noise| -> f64 {
        let mut net = start.copy();
        continue_training(&mut net, &language, &Training { noise, lr: 0.15, steps: 4000, ..Default::default() })
            .unwrap();
        let net = anneal_to_manifold(&net, &language, 0.1, 1000).unwrap();
        assert!(meter.saturated(net.excess(&language).unwrap()));
        net.trace(&language).unwrap() / trace
    };
    let (batches, labels, none) = (after(Noise::Minibatch(4)), after(Noise::Labels), after(Noise::FullBatch));
    assert!(
        batches < 0.9 && labels < 0.99 && batches < labels && (none - 1.0).abs() < 0.02,
        "{batches} {labels} {none}"
    );
}

#[test]
fn blocks_of_noise_join_and_the_same_seed_gives_the_same_run() {
    let language = BinaryLanguage::xor(3, 2.0).unwrap();
    let run = |seed: u64| {
        let mut net = TwoLayer::new(3, 4, &Init::default(), 0).unwrap();
        let training = Training { noise: Noise::Minibatch(64), steps: 300, seed, ..Default::default() }; // blocks of 256
        continue_training(&mut net, &language, &training).unwrap();
        net.w
    };
    assert_eq!(run(0), run(0));
    assert_ne!(run(0), run(1));
}

#[test]
fn frozen_features_stay_and_saturate() {
    let language = BinaryLanguage::xor(3, 2.0).unwrap();
    let mut net = TwoLayer::new(3, 64, &Init::default(), 0).unwrap();
    let before = net.w.copy();
    let steps = frozen_random_features(&mut net, &language, 1.0, 20_000, 0.001, 100).unwrap();
    assert!(steps < 20_000 && steps.is_multiple_of(100));
    assert_eq!(net.w, before);
    assert!(net.excess(&language).unwrap() <= 0.001);
}

#[test]
fn an_adversary_of_weight_zero_is_plain_descent_and_one_with_weight_hides_the_label() {
    let language = BinaryLanguage::xor(4, 2.0).unwrap();
    let labels = language.xor_labels();
    let net = TwoLayer::new(4, 16, &Init::default(), 1).unwrap();
    let trained = |lambda: f64| {
        let mut copy = net.copy();
        let adversary = Adversary { lambda, ..Default::default() };
        adversarial_pretrain(&mut copy, &language, &labels, &adversary, 0.1, 1500).unwrap();
        copy
    };
    let mut plain = net.copy();
    let quiet = Training { noise: Noise::FullBatch, lr: 0.1, steps: 1500, ..Default::default() };
    continue_training(&mut plain, &language, &quiet).unwrap();
    assert_close("w", &trained(0.0).w, &plain.w, 1e-9);
    let shots = RidgeShots { shots: 8, ..Default::default() };
    let probe = |n: &TwoLayer| {
        let f = n.features(&language.inputs).unwrap();
        shots.accuracy((&f, &labels), (&f, &labels), 2, 0).unwrap()
    };
    let (with, without) = (probe(&trained(0.5)), probe(&trained(0.0)));
    assert!(with < without - 0.02, "{with} {without}");
}

#[test]
fn the_dual_probe_of_many_draws_is_the_ridge_probe() {
    tch::manual_seed(4);
    let (x, test) = (Tensor::randn([40, 6], F64), Tensor::randn([50, 6], F64));
    let label = |x: &Tensor| x.select(1, 0).gt(0.0).to_kind(Kind::Int64) + x.select(1, 1).gt(0.0).to_kind(Kind::Int64);
    let (y, truth) = (label(&x), label(&test));
    let shots = RidgeShots { shots: 12, draws: 70, penalty: 0.1 };
    let got = shots.accuracy((&x, &y), (&test, &truth), 3, 9).unwrap();
    let one = |draw: usize| -> Result<f64> {
        let rng = &mut seed::rng(9, &["ridge shots", &draw.to_string()]);
        let rows: Vec<i64> = index::sample(rng, 40, 12).into_iter().map(|i| i as i64).collect();
        let rows = Tensor::from_slice(&rows);
        let (x, y) = (x.index_select(0, &rows), y.index_select(0, &rows));
        accuracy(&RidgeProbe { penalty: 0.1 }.scores(&x, &y, 3, &test)?, &truth)
    };
    let mean = (0..70).map(|draw| one(draw).unwrap()).sum::<f64>() / 70.0;
    assert!((got - mean).abs() < 1e-12, "{got} {mean}");
    assert!(linear_probe((&x, &y), (&test, &truth), 3).unwrap() > 0.5);
}

#[test]
fn finetuning_learns_the_shown_labels_and_leaves_the_network() {
    let language = BinaryLanguage::xor(4, 2.0).unwrap();
    let net = TwoLayer::new(4, 16, &Init::default(), 0).unwrap();
    let before = net.w.copy();
    let labels = language.xor_labels();
    let all: Vec<i64> = (0..16).collect();
    assert_eq!(finetune(&net, &language, &labels, &all, 0.3, 1500).unwrap(), 1.0);
    assert!(finetune(&net, &language, &labels, &[0], 0.3, 50).unwrap() < 1.0);
    assert_eq!(net.w, before);
    assert!(finetune(&net, &language, &labels, &[16], 0.3, 1).unwrap_err().to_string().contains("0 to 15"));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let message = |e: autodidact_core::Error| e.to_string();
    let language = BinaryLanguage::xor(3, 2.0).unwrap();
    let mut net = TwoLayer::new(4, 4, &Init::default(), 0).unwrap();
    assert!(message(net.loss(&language).unwrap_err()).contains("[N, 4]"));
    assert!(message(TwoLayer::new(4, 5, &Init::default(), 0).unwrap_err()).contains("even"));
    assert!(BinaryLanguage::xor(1, 2.0).is_err());
    let p = Tensor::from_slice(&[0.5f64, 1.5]);
    assert!(message(BinaryLanguage::new(&Tensor::zeros([2, 3], F64), &p).unwrap_err()).contains("probabilities"));
    let four = BinaryLanguage::xor(4, 2.0).unwrap();
    let none = Training { noise: Noise::Minibatch(0), ..Default::default() };
    assert!(message(continue_training(&mut net, &four, &none).unwrap_err()).contains("batch"));
    let wild = Training { noise: Noise::FullBatch, lr: f64::MAX, steps: 4, ..Default::default() };
    assert!(message(continue_training(&mut net, &four, &wild).unwrap_err()).contains("weights"));
    let x = Tensor::ones([4, 2], F64);
    let y = Tensor::from_slice(&[0i64, 1, 1, 0]);
    assert!(RidgeShots::default().accuracy((&x, &y), (&x, &y), 2, 0).is_err());
    // Features that do not vary say nothing, and are no error.
    let shots = RidgeShots { shots: 3, draws: 4, penalty: 1e-3 };
    assert_eq!(shots.accuracy((&x, &y), (&x, &y), 2, 0).unwrap(), 0.5);
    let meter = SaturationMeter { entropy: 0.0, tol: 0.002 };
    assert!(message(flatness_report(&[], &meter).unwrap_err()).contains("at least 3"));
    let constant = Tensor::ones([], F64);
    assert!(fisher_sampled(&[x.set_requires_grad(true)], 2, 0, |_| Ok(constant.shallow_clone())).is_err());
    assert!(sampled_log_prob(&Tensor::zeros([2, 2], F64)).is_err());
}
