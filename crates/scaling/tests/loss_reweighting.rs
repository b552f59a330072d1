//! Loss-based reweighting: the sheet's numbers, what weights must satisfy, gradients.

use autodidact_core::testing::{assert_close, check_gradient};
use autodidact_scaling::loss_reweighting::{
    DomainMixer, LossReweighter, ReweightShape, Temperature, effective_sample_size, per_sequence_loss, power_weights,
    top_k_weights, weight_entropy,
};
use tch::{Device, Kind, Tensor};

fn reweighter(shape: ReweightShape, r: f64) -> LossReweighter {
    LossReweighter { shape, delta: 1.0, temperature: Temperature::Constant(r), warmup_steps: 0 }
}

fn weights(shape: ReweightShape, r: f64, losses: &[f64]) -> Vec<f64> {
    Vec::try_from(reweighter(shape, r).weights(&Tensor::from_slice(losses), 0).unwrap()).unwrap()
}

#[track_caller]
fn near(got: &[f64], want: &[f64]) {
    for (g, w) in got.iter().zip(want) {
        assert!((g - w).abs() < 1e-5, "{got:?} is not {want:?}");
    }
}

const STEPS: [f64; 5] = [1.0, 2.0, 3.0, 4.0, 5.0];
const ALL: [ReweightShape; 5] = [
    ReweightShape::Uniform,
    ReweightShape::LinUpper,
    ReweightShape::Quadratic,
    ReweightShape::Extremes,
    ReweightShape::Upper,
];

#[test]
fn weights_of_five_losses_are_those_of_the_formulas() {
    use ReweightShape::{Extremes, LinUpper, Quadratic, Upper};
    near(&weights(LinUpper, 1.0, &STEPS), &[0.092562, 0.152609, 0.251610, 0.251610, 0.251610]);
    near(&weights(LinUpper, 0.4, &STEPS), &[0.024368, 0.085052, 0.296860, 0.296860, 0.296860]);
    near(&weights(Quadratic, 1.0, &STEPS), &[0.111703, 0.236476, 0.303641, 0.236476, 0.111703]);
    near(&weights(Quadratic, 0.4, &STEPS), &[0.036732, 0.239523, 0.447489]);
    near(&weights(Extremes, 1.0, &STEPS), &[0.279256, 0.169377, 0.102733]);
    near(&weights(Extremes, 0.4, &STEPS), &[0.376634, 0.107908, 0.030916]);
    near(&weights(Upper, 1.0, &STEPS), &[0.114051, 0.146444, 0.188038, 0.241445, 0.310022]);
    let loss = |r| reweighter(LinUpper, r).loss(&Tensor::from_slice(&STEPS), 0).unwrap().double_value(&[]);
    near(&[loss(1.0), loss(0.4)], &[3.417096, 3.756793]);
    let eight = [2.1, 2.5, 2.4, 3.9, 1.0, 2.2, 2.3, 6.0];
    near(&weights(LinUpper, 0.4, &eight), &[0.06844, 0.10210, 0.09238, 0.27753, 0.02278, 0.07564, 0.08359, 0.27753]);
    let loss = reweighter(LinUpper, 0.4).loss(&Tensor::from_slice(&eight), 0).unwrap();
    near(&[loss.double_value(&[])], &[3.74972]);
}

#[test]
fn one_sample_apart_gets_the_least_or_the_most() {
    let mut losses = [3.0; 64];
    losses[7] = 1.0;
    near(&[weights(ReweightShape::LinUpper, 0.4, &losses)[7]], &[0.0013012]);
    near(&[weights(ReweightShape::LinUpper, 1.0, &losses)[7]], &[0.0058055]);
    losses[7] = 9.0;
    near(&[weights(ReweightShape::LinUpper, 0.4, &losses)[7]], &[0.162039]);
    near(&[weights(ReweightShape::LinUpper, 1.0, &losses)[7]], &[0.041363]);
}

#[test]
fn weights_depend_on_the_order_of_losses_and_their_spacing_alone() {
    let losses = [0.3, 2.0, 1.1, 4.0, 0.9, 2.2];
    for shape in ALL {
        let w = weights(shape, 0.4, &losses);
        assert!((w.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        // Invariant under scale and shift, equivariant under permutation.
        near(&weights(shape, 0.4, &losses.map(|l| 3.0 * l + 7.0)), &w);
        let mut turned = losses;
        turned.rotate_left(2);
        let mut expected = w.clone();
        expected.rotate_left(2);
        near(&weights(shape, 0.4, &turned), &expected);
        // Never farther apart than the temperature allows; uniform at high temperature, and of equal losses.
        let (low, high) = w.iter().fold((f64::MAX, 0f64), |(l, h), v| (l.min(*v), h.max(*v)));
        assert!(high / low <= (1.0f64 / 0.4).exp() * (1.0 + 1e-12), "{shape:?}");
        for v in weights(shape, 1e6, &losses).into_iter().chain(weights(shape, 0.4, &[1.7; 6])) {
            assert!((v - 1.0 / 6.0).abs() < 1e-6, "{shape:?}: {v}");
        }
        // A larger delta sharpens as a lower temperature does; the quadratic shape is free of it.
        let wide = LossReweighter { delta: 2.0, ..reweighter(shape, 0.8) };
        let got = Vec::<f64>::try_from(wide.weights(&Tensor::from_slice(&losses), 0).unwrap()).unwrap();
        let r = if shape == ReweightShape::Quadratic { 0.8 } else { 0.4 };
        near(&got, &weights(shape, r, &losses));
    }
}

#[test]
fn the_gradient_on_a_loss_is_its_weight() {
    let losses = Tensor::from_slice(&[0.3, 2.0, 1.1, 4.0, 0.9]).set_requires_grad(true);
    for shape in ALL {
        let reweighter = reweighter(shape, 0.4);
        let g = Tensor::run_backward(&[&reweighter.loss(&losses, 0).unwrap()], &[&losses], false, false).swap_remove(0);
        assert_close(&format!("{shape:?}"), &g, &reweighter.weights(&losses, 0).unwrap(), 1e-15);
    }
}

#[test]
fn parts_of_a_batch_average_to_the_whole() {
    let losses = Tensor::from_slice(&[0.3, 2.0, 1.1, 4.0, 0.9, 2.2]).set_requires_grad(true);
    let reweighter = reweighter(ReweightShape::LinUpper, 0.4);
    let whole = Tensor::run_backward(&[&reweighter.loss(&losses, 0).unwrap()], &[&losses], false, false).swap_remove(0);
    let mut sum = Tensor::zeros([6], (Kind::Double, Device::Cpu));
    for part in [0..2, 2..4, 4..6] {
        let own = losses.narrow(0, part.start, 2);
        let loss = reweighter.loss_of_part(&losses, &own, part, 3, 0).unwrap();
        sum += Tensor::run_backward(&[&loss], &[&losses], false, false).swap_remove(0) / 3.0;
    }
    assert_close("gradient", &sum, &whole, 1e-15);
    let own = losses.narrow(0, 0, 2);
    assert!(reweighter.loss_of_part(&losses, &own, 5..7, 3, 0).is_err());
    assert!(reweighter.loss_of_part(&losses, &own, 0..3, 2, 0).is_err());
}

#[test]
fn temperatures_and_warm_up_follow_the_step() {
    let linear = Temperature::Linear { from: 5.0, to: 1.0, steps: 4 };
    assert_eq!([0, 1, 4, 9].map(|s| linear.at(s)), [5.0, 4.0, 1.0, 1.0]);
    let warm = Temperature::Warm { high: 100.0, steps: 2, then: 0.4 };
    assert_eq!([0, 1, 2].map(|s| warm.at(s)), [100.0, 100.0, 0.4]);
    let late = LossReweighter { warmup_steps: 3, ..reweighter(ReweightShape::LinUpper, 0.4) };
    let losses = Tensor::from_slice(&STEPS);
    assert!((late.loss(&losses, 2).unwrap().double_value(&[]) - 3.0).abs() < 1e-12);
    near(&[late.loss(&losses, 3).unwrap().double_value(&[])], &[3.756793]);
}

#[test]
fn losses_of_sequences_are_means_over_their_own_targets() {
    tch::manual_seed(0);
    let hidden = Tensor::randn([3, 4, 5], (Kind::Double, Device::Cpu));
    let head = Tensor::randn([7, 5], (Kind::Double, Device::Cpu));
    let labels = Tensor::from_slice2(&[[1i64, 2, 3, 4], [6, -1, 0, -1], [-100, -100, -100, 5]]);
    let (losses, counts) = per_sequence_loss(&hidden, &head, &labels).unwrap();
    assert_eq!(Vec::<f64>::try_from(counts).unwrap(), [4.0, 2.0, 1.0]);
    let each = hidden.matmul(&head.tr()).log_softmax(-1, Kind::Double);
    let at = |b: i64, t: i64| -each.double_value(&[b, t, labels.int64_value(&[b, t])]);
    let want = [(0..4).map(|t| at(0, t)).sum::<f64>() / 4.0, (at(1, 0) + at(1, 2)) / 2.0, at(2, 3)];
    near(&Vec::<f64>::try_from(losses).unwrap(), &want);
    check_gradient(&hidden, 1e-6, |h| {
        // Weights are constants here: those of the unperturbed losses.
        let w = Tensor::from_slice(&[0.2, 0.5, 0.3]);
        (per_sequence_loss(h, &head, &labels).unwrap().0 * w).sum(Kind::Double)
    });
    let none = Tensor::from_slice2(&[[1i64, 2, 3, 4], [6, -1, 0, -1], [-1, -1, -1, -1]]);
    assert!(per_sequence_loss(&hidden, &head, &none).unwrap_err().to_string().contains("active targets"));
}

#[test]
fn baselines_and_summaries() {
    let losses = Tensor::from_slice(&[1.0, 4.0, 2.0, 3.0]);
    near(&Vec::<f64>::try_from(top_k_weights(&losses, 2).unwrap()).unwrap(), &[0.0, 0.5, 0.0, 0.5]);
    near(
        &Vec::<f64>::try_from(power_weights(&losses, 2.0).unwrap()).unwrap(),
        &[1.0 / 30.0, 16.0 / 30.0, 4.0 / 30.0, 0.3],
    );
    near(&Vec::<f64>::try_from(power_weights(&losses, 0.0).unwrap()).unwrap(), &[0.25; 4]);
    let two = top_k_weights(&losses, 2).unwrap();
    near(&[effective_sample_size(&two).double_value(&[]), weight_entropy(&two).double_value(&[])], &[2.0, 2f64.ln()]);
    let mut mixer = DomainMixer::new(2, 1.0, 0.1).unwrap();
    mixer.update(&[2f64.ln(), -3.0]).unwrap();
    // 2 : 1, mixed with a tenth of the uniform.
    near(&mixer.weights, &[0.9 * 2.0 / 3.0 + 0.05, 0.9 / 3.0 + 0.05]);
    mixer.update(&[0.0, 0.0]).unwrap();
    assert!((mixer.weights.iter().sum::<f64>() - 1.0).abs() < 1e-12);
}

#[test]
fn bad_input_is_named() {
    let of = |t: &Tensor, r| reweighter(ReweightShape::LinUpper, r).weights(t, 0).unwrap_err().to_string();
    let losses = Tensor::from_slice(&STEPS);
    assert!(of(&losses.view([1, 5]), 1.0).contains("[B]"));
    assert!(of(&Tensor::from_slice(&[1i64, 2]), 1.0).contains("floating-point"));
    assert!(of(&losses, 0.0).contains("temperature"));
    assert!(of(&losses.narrow(0, 0, 0), 1.0).contains("at least one"));
    assert!(LossReweighter { delta: 0.0, ..LossReweighter::default() }.weights(&losses, 0).is_err());
    assert!(top_k_weights(&losses, 6).is_err());
    assert!(power_weights(&-&losses, 1.0).is_err());
    assert!(DomainMixer::new(0, 1.0, 0.0).is_err());
    assert!(DomainMixer::new(2, 1.0, 0.0).unwrap().update(&[1.0]).is_err());
    assert!(DomainMixer::new(1, 1.0, 0.0).unwrap().update(&[f64::NAN]).is_err());
}
