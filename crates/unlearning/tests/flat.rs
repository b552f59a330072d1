//! The values of the sheet, monotony, and gradients against finite differences.

use autodidact_core::testing::check_gradient;
use autodidact_unlearning::answers::Answers;
use autodidact_unlearning::flat::*;
use tch::{Device, Kind, Tensor};

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);

#[test]
fn losses_and_weights_are_the_known_ones() {
    let (e, f) = (0.3, 0.8);
    for (divergence, loss) in [
        (FDivergence::TotalVariation, 0.186362),
        (FDivergence::Kl, 0.518731),
        (FDivergence::JensenShannon, 0.339162),
        (FDivergence::Pearson, 0.66),
        (FDivergence::ReverseKl, 0.540818),
        (FDivergence::SquaredHellinger, 0.966359),
        (FDivergence::Neyman, 0.400178),
        // 0.8 + 0.16 + 0.032 - 0.3.
        (FDivergence::Jeffrey, 0.692),
    ] {
        let got = divergence.loss(&Tensor::from(e), &Tensor::from(f)).double_value(&[]);
        assert!((got - loss).abs() < 1e-6, "{divergence:?}: {got}");
    }
    for (divergence, weights) in [
        (FDivergence::Kl, (1.0, 0.818731)),
        (FDivergence::JensenShannon, (0.425557, 0.689974)),
        (FDivergence::TotalVariation, (0.457568, 0.279528)),
        (FDivergence::Pearson, (1.0, 1.4)),
    ] {
        let got = divergence.weights(e, f);
        assert!((got.0 - weights.0).abs() < 1e-6 && (got.1 - weights.1).abs() < 1e-6, "{divergence:?}: {got:?}");
    }
}

#[test]
fn weights_are_the_derivatives_and_have_their_signs() {
    let v = Tensor::linspace(0.0, 1.0, 21, F64);
    for divergence in FDivergence::ALL {
        let (e, f) = (v.copy().set_requires_grad(true), v.copy().set_requires_grad(true));
        let loss = divergence.loss(&e, &f).sum(Kind::Double);
        let gradients = Tensor::run_backward(&[&loss], &[&e, &f], false, false);
        for i in 0..21 {
            let at = v.double_value(&[i]);
            let (template, forget) = divergence.weights(at, at);
            let (de, df) = (gradients[0].double_value(&[i]), gradients[1].double_value(&[i]));
            assert!((de + template).abs() < 1e-12 && (df - forget).abs() < 1e-12, "{divergence:?} at {at}");
            assert!(de <= 0.0 && df >= 0.0);
        }
    }
    // Equal answers: total variation is 0; and so is Jensen-Shannon at 0.
    let same = FDivergence::TotalVariation.loss(&v, &v);
    assert_eq!(same.abs().max().double_value(&[]), 0.0);
    let zero = Tensor::from(0.0);
    assert!(FDivergence::JensenShannon.loss(&zero, &zero).double_value(&[]).abs() < 1e-15);
}

/// Answers of logits `[B, T, V]` whose true tokens are all 0.
fn answers(logits: &Tensor, lengths: &[i64]) -> Answers {
    let log_p = logits.log_softmax(2, None::<Kind>).select(2, 0);
    let positions = Tensor::arange(logits.size()[1], (Kind::Int64, Device::Cpu));
    let mask = positions.unsqueeze(0).lt_tensor(&Tensor::from_slice(lengths).unsqueeze(1));
    Answers::new(&log_p, &mask).unwrap()
}

#[test]
fn gradients_are_those_of_finite_differences() {
    tch::manual_seed(0);
    let (templates, forget) = (Tensor::randn([3, 4, 5], F64), Tensor::randn([3, 4, 5], F64));
    for divergence in FDivergence::ALL {
        for averaging in [Averaging::PerSample, Averaging::BatchMean] {
            let flat = Flat { averaging, ..Flat::new(divergence) };
            check_gradient(&forget, 1e-6, |f| {
                flat.forward(&answers(&templates, &[4, 2, 1]), &answers(f, &[1, 4, 3])).unwrap()
            });
            check_gradient(&templates, 1e-6, |t| {
                flat.forward(&answers(t, &[4, 2, 1]), &answers(&forget, &[1, 4, 3])).unwrap()
            });
        }
    }
    // Of one token, grad P = p (1 - p) in its logit.
    let logits = Tensor::from_slice(&[0.7f64, -0.2]).view([1, 1, 2]).set_requires_grad(true);
    let p = answers(&logits, &[1]).probability().sum(Kind::Double);
    let gradient = Tensor::run_backward(&[&p], &[&logits], false, false).remove(0).double_value(&[0, 0, 0]);
    let p = p.double_value(&[]);
    assert!((gradient - p * (1.0 - p)).abs() < 1e-12);
}

#[test]
fn the_two_deviations_of_the_published_code_are_choices() {
    let log_p = Tensor::from_slice2(&[[0.5f64, 0.25, 0.9, 0.9], [0.8, 0.4, 0.6, 0.2]]).log();
    let short =
        Answers::new(&log_p, &Tensor::from_slice2(&[[true, true, false, false], [true, true, true, true]])).unwrap();
    let whole = Answers::new(&log_p, &Tensor::ones([2, 4], (Kind::Bool, Device::Cpu))).unwrap();
    let loss = |flat: Flat| flat.forward(&whole, &short).unwrap().double_value(&[]);
    let pearson = |v: f64| v + v * v / 4.0;
    let (e, f) = ([0.6375, 0.5], [0.375, 0.5]);
    let paper = Flat::new(FDivergence::Pearson);
    let expected = (pearson(f[0]) - e[0] + pearson(f[1]) - e[1]) / 2.0;
    assert!((loss(paper) - expected).abs() < 1e-12);
    let padded = Flat { normalization: Normalisation::PaddedLength, ..paper };
    let expected = (pearson(0.75 / 4.0) - e[0] + pearson(f[1]) - e[1]) / 2.0;
    assert!((loss(padded) - expected).abs() < 1e-12);
    let batch = Flat { averaging: Averaging::BatchMean, ..paper };
    let expected = pearson((f[0] + f[1]) / 2.0) - (e[0] + e[1]) / 2.0;
    assert!((loss(batch) - expected).abs() < 1e-12);
    let one = Answers::new(&log_p.narrow(0, 0, 1), &Tensor::ones([1, 4], (Kind::Bool, Device::Cpu))).unwrap();
    // Without the template term, the sum of the two is that of the activation of templates.
    for flat in [paper, padded, batch] {
        let whole = flat.forward(&whole, &short).unwrap() - flat.forgetting(&short);
        let e = (e[0] + e[1]) / 2.0;
        assert!((whole.double_value(&[]) + e).abs() < 1e-12);
    }
    for flat in [paper, batch] {
        assert!(flat.forward(&whole, &one).unwrap_err().to_string().starts_with("answers to forget"));
    }
}
