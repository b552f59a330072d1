//! Baselines by hand, at the reference, and in their limits.

use autodidact_core::optim::StateDict;
use autodidact_core::testing::check_gradient;
use autodidact_unlearning::answers::*;
use tch::{Device, Kind, Reduction, Tensor};

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);

fn all(log_p: &Tensor) -> Answers {
    Answers::new(log_p, &Tensor::ones(log_p.size(), (Kind::Bool, Device::Cpu))).unwrap()
}

fn value(t: &Tensor) -> f64 {
    t.double_value(&[])
}

#[test]
fn answers_leave_padding_out() {
    let log_p = Tensor::from_slice2(&[[-1.0f64, -2.0, f64::NEG_INFINITY], [-0.5, -0.5, -0.5]]);
    let mask = Tensor::from_slice2(&[[true, true, false], [true, true, true]]);
    let answers = Answers::new(&log_p, &mask).unwrap();
    assert_eq!(Vec::<f64>::try_from(answers.nll()).unwrap(), [3.0, 1.5]);
    assert_eq!(Vec::<f64>::try_from(answers.tokens()).unwrap(), [2.0, 3.0]);
    assert!((value(&answers.cross_entropy()) - 4.5 / 5.0).abs() < 1e-12);
    assert!((value(&gradient_ascent(&answers)) + 0.9).abs() < 1e-12);
    assert_eq!(answers.padded_length(), 3);
    let said = |e: autodidact_core::Error| e.to_string();
    assert!(said(Answers::new(&log_p, &mask.narrow(1, 0, 2)).unwrap_err()).starts_with("mask of answers"));
    assert!(said(Answers::new(&log_p, &mask.to_kind(Kind::Int64)).unwrap_err()).contains("Bool"));
    let without = Tensor::from_slice2(&[[false, false, false], [true, true, true]]);
    assert!(said(Answers::new(&log_p, &without).unwrap_err()).contains("a token at least"));
}

#[test]
fn combinations_are_weighted_by_tokens() {
    let forget = all(&Tensor::from_slice2(&[[-1.0f64, -3.0]]));
    let retain = all(&Tensor::from_slice2(&[[-0.5f64, -0.5, -0.5], [-1.5, -1.5, -1.5]]));
    assert!((value(&gradient_difference(&forget, &retain)) - (-2.0 + 1.0)).abs() < 1e-12);
    // 4 + 6 nats over 2 + 6 tokens.
    assert!((value(&preference_optimization(&forget, &retain)) - 10.0 / 8.0).abs() < 1e-12);
    let kl = Tensor::from(0.25);
    assert!((value(&llmu(&forget, &retain, &kl)) - (-1.0 + 1.0 + 0.25)).abs() < 1e-12);
}

#[test]
fn negative_preferences_at_the_reference_are_gradient_ascent() {
    let reference = Tensor::from_slice(&[3.0f64, 5.0]);
    let l = reference.copy().set_requires_grad(true);
    let loss = npo(&l, &reference, 0.1).unwrap();
    assert!((value(&loss) - 13.862944).abs() < 1e-6);
    let gradient = Tensor::run_backward(&[&loss], &[&l], false, false).remove(0);
    // That of minus the mean of the summed losses.
    assert!((gradient + 0.5).abs().max().double_value(&[]) < 1e-12);
    // l - l_ref = ln 2.
    let l = (&reference + 2f64.ln()).set_requires_grad(true);
    let loss = npo(&l, &reference, 0.1).unwrap();
    assert!((value(&loss) - 13.181805).abs() < 1e-6);
    let gradient = Tensor::run_backward(&[&loss], &[&l], false, false).remove(0);
    assert!((gradient * -2.0 - 0.965357).abs().max().double_value(&[]) < 1e-6);
    // beta -> 0: minus the loss, but for a constant.
    let moved = |by: f64| value(&npo(&(&reference + by), &reference, 1e-6).unwrap());
    assert!((moved(2.0) - moved(0.0) + 2.0).abs() < 1e-4);
    assert!(npo(&reference, &reference, 0.0).is_err() && npo(&reference, &Tensor::from(1.0), 0.1).is_err());
}

#[test]
fn direct_preferences_compare_with_the_frozen_model() {
    let [f, e, rf, re] = [[3.0f64, 5.0], [2.0, 4.0], [2.5, 5.5], [2.2, 3.0]].map(|v| Tensor::from_slice(&v));
    let at_reference = dpo([&rf, &rf], [&re, &re], 0.1).unwrap();
    assert!((value(&at_reference) - 20.0 * 2f64.ln()).abs() < 1e-9);
    // Margins (0.5 + 0.2) and (-0.5 - 1).
    let loss = |m: f64| (1.0 + (-0.1 * m).exp()).ln() * 20.0;
    let got = value(&dpo([&f, &rf], [&e, &re], 0.1).unwrap());
    assert!((got - 0.5 * (loss(0.7) + loss(-1.5))).abs() < 1e-9);
    check_gradient(&f, 1e-6, |f| dpo([f, &rf], [&e, &re], 0.1).unwrap());
    check_gradient(&e, 1e-6, |e| dpo([&f, &rf], [e, &re], 0.1).unwrap());
    // The reference gets no gradient.
    let frozen = rf.copy().set_requires_grad(true);
    assert!(!dpo([&f, &frozen], [&e, &re], 0.1).unwrap().requires_grad());
}

#[test]
fn divergence_from_the_reference_is_torchs_over_the_tokens_of_the_mask() {
    tch::manual_seed(0);
    let [logits, reference] = [0, 1].map(|_| Tensor::randn([2, 3, 4], F64));
    let mask = Tensor::from_slice2(&[[true, true, false], [true, false, false]]);
    let got = kl_to_reference(&logits, &reference, &mask).unwrap();
    let rows =
        |t: &Tensor| t.log_softmax(2, None::<Kind>).flatten(0, 1).index_select(0, &Tensor::from_slice(&[0i64, 1, 3]));
    let peer = rows(&logits).kl_div(&rows(&reference), Reduction::Sum, true) / 3.0;
    assert!((value(&got) - value(&peer)).abs() < 1e-12);
    assert_eq!(value(&kl_to_reference(&logits, &logits, &mask).unwrap()), 0.0);
    check_gradient(&logits, 1e-6, |l| kl_to_reference(l, &reference, &mask).unwrap());
    let none = Tensor::zeros([2, 3], (Kind::Bool, Device::Cpu));
    assert!(kl_to_reference(&logits, &reference, &none).is_err());
    assert!(kl_to_reference(&logits, &reference.narrow(2, 0, 3), &mask).is_err());
    assert!(kl_to_reference(&logits, &reference, &mask.to_kind(Kind::Int64)).is_err());
}

#[test]
fn task_vectors_are_subtracted() {
    let of = |v: f64, steps: i64| -> StateDict {
        [("w".to_owned(), Tensor::from_slice(&[v, 2.0 * v])), ("steps".to_owned(), Tensor::from(steps))].into()
    };
    let vector = TaskVector::between(&of(1.0, 3), &of(1.5, 9)).unwrap();
    let moved = vector.subtracted_from(&of(1.0, 3), 5.0).unwrap();
    assert_eq!(Vec::<f64>::try_from(&moved["w"]).unwrap(), [-1.5, -3.0]);
    assert_eq!(moved["steps"].int64_value(&[]), 3);
    let same = vector.subtracted_from(&of(1.0, 3), 0.0).unwrap();
    assert_eq!(same["w"], of(1.0, 3)["w"]);
    let other: StateDict = [("v".to_owned(), Tensor::from_slice(&[1.0f64]))].into();
    assert!(TaskVector::between(&of(1.0, 3), &other).is_err());
    assert!(vector.subtracted_from(&other, 1.0).is_err() && vector.subtracted_from(&of(1.0, 3), f64::NAN).is_err());
}
