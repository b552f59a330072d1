//! SRPO's loss by hand, its closed form against independently computed values, and where its optimum does not move.

use autodidact_core::testing::check_gradient;
use autodidact_preference::losses::ipo;
use autodidact_preference::srpo::{
    RevisionTemplate, Srpo, SrpoLogRatios, TabularPairs, ipo_closed_form, srpo_closed_form,
};
use tch::{Kind, Tensor};

fn preferences() -> Vec<Vec<f64>> {
    vec![vec![0.5, 0.9, 0.3], vec![0.1, 0.5, 0.8], vec![0.7, 0.2, 0.5]]
}

const UNIFORM: [f64; 3] = [1.0 / 3.0; 3];

fn near(got: &[f64], want: &[f64], tolerance: f64) {
    assert!(got.iter().zip(want).all(|(g, w)| (g - w).abs() < tolerance), "{got:?}, expected {want:?}");
}

fn ratios(values: [f64; 6]) -> SrpoLogRatios {
    let [chosen, rejected, wl, lw, ww, ll] = values.map(|v| Tensor::from_slice(&[v]));
    SrpoLogRatios {
        chosen,
        rejected,
        chosen_given_rejected: wl,
        rejected_given_chosen: lw,
        chosen_given_chosen: ww,
        rejected_given_rejected: ll,
    }
}

#[test]
fn the_closed_form_is_that_of_an_independent_solver() {
    let one = srpo_closed_form(&preferences(), &UNIFORM, None, 1.0).unwrap();
    near(&one.log_z, &[0.46324, 0.57469, 0.55467], 5e-6);
    near(&one.policy, &[0.35623, 0.31866, 0.32510], 5e-6);
    near(&one.improver[0], &[0.34581, 0.23181, 0.42238], 5e-6);
    near(&one.improver[1], &[0.46149, 0.30934, 0.22917], 5e-6);
    near(&one.improver[2], &[0.25839, 0.42601, 0.31560], 5e-6);
    assert!((one.value - 0.5296793).abs() < 5e-8, "{}", one.value);
    // A uniform policy is improved more.
    assert!(one.log_z.iter().sum::<f64>() / 3.0 - one.value > 0.001);
    let fifth = srpo_closed_form(&preferences(), &UNIFORM, None, 0.2).unwrap();
    near(&fifth.log_z, &[2.75040, 3.55457, 3.16776], 5e-6);
    near(&fifth.policy, &[0.47478, 0.21244, 0.31278], 5e-6);
    let u = [1.0, 0.0, -1.0];
    let bt: Vec<Vec<f64>> = u.iter().map(|a| u.iter().map(|b| 1.0 / (1.0 + f64::exp(b - a))).collect()).collect();
    near(&srpo_closed_form(&bt, &UNIFORM, None, 0.2).unwrap().policy, &[0.68469, 0.22324, 0.09206], 5e-6);
}

#[test]
fn the_optimum_does_not_move_with_the_behaviour_but_ipos_does() {
    let p = preferences();
    let closed = srpo_closed_form(&p, &UNIFORM, None, 0.2).unwrap();
    let ratio = |row: &[f64]| row.iter().map(|x| (x * 3.0).ln()).collect::<Vec<_>>();
    let (g, d) = (ratio(&closed.policy), closed.improver.iter().map(|r| ratio(r)).collect::<Vec<_>>());
    for (behaviour, ipo) in [
        (UNIFORM, [0.45186, 0.27407, 0.27407]),
        ([0.8, 0.1, 0.1], [0.33950, 0.07206, 0.58844]),
        ([0.1, 0.1, 0.8], [0.13010, 0.64440, 0.22550]),
    ] {
        let pairs = TabularPairs::exact(&p, &behaviour, &UNIFORM).unwrap();
        for alpha in [0.0, 0.25, 1.0] {
            assert!(pairs.srpo_loss(&g, &d, 0.2, alpha) < 1e-15);
        }
        let (policy, improver) = pairs.srpo(0.2, 0.5).unwrap();
        near(&policy, &closed.policy, 1e-5);
        (0..3).for_each(|y| near(&improver[y], &closed.improver[y], 1e-5));
        near(&ipo_closed_form(&p, &behaviour, &UNIFORM, 0.2).unwrap(), &ipo, 5e-6);
        near(&pairs.ipo(0.2).unwrap(), &ipo, 5e-6);
    }
}

#[test]
fn dpo_finds_the_utilities_of_bradley_terry_whatever_the_behaviour() {
    let u = [0.3, -0.2, 0.5];
    let bt: Vec<Vec<f64>> = u.iter().map(|a| u.iter().map(|b| 1.0 / (1.0 + f64::exp(b - a))).collect()).collect();
    let weights: Vec<f64> = u.iter().map(|u| (u / 0.5f64).exp()).collect();
    let want: Vec<f64> = weights.iter().map(|w| w / weights.iter().sum::<f64>()).collect();
    for behaviour in [UNIFORM, [0.8, 0.1, 0.1]] {
        near(&TabularPairs::exact(&bt, &behaviour, &UNIFORM).unwrap().dpo(0.5).unwrap(), &want, 1e-5);
    }
}

#[test]
fn counted_comparisons_approach_exact_ones() {
    // Every pair of different responses 100 times, in proportion to its preferences.
    let p = preferences();
    let mut comparisons = vec![];
    for (i, row) in p.iter().enumerate() {
        for (j, p) in row[..i].iter().enumerate() {
            let wins = (100.0 * p).round() as usize;
            comparisons.extend(vec![(i, j); wins]);
            comparisons.extend(vec![(j, i); 100 - wins]);
        }
    }
    let (policy, _) = TabularPairs::observed(&comparisons, &UNIFORM).unwrap().srpo(0.2, 0.5).unwrap();
    near(&policy, &[0.47478, 0.21244, 0.31278], 1e-4);
}

#[test]
fn losses_are_those_computed_by_hand() {
    let srpo = |alpha| Srpo { beta: 0.05, alpha };
    let r = || ratios([1.0, -1.0, 2.0, -1.0, 0.5, -0.5]);
    let out = srpo(0.25).forward(&r(), None).unwrap();
    near(&[out.joint.double_value(&[0]), out.dagger.double_value(&[0])], &[0.140625, 0.160625], 1e-12);
    near(&[out.total.double_value(&[0])], &[0.145625], 1e-12);
    // At the reference every part is 1/4.
    for alpha in [0.0, 0.25, 1.0] {
        near(&[srpo(alpha).forward(&ratios([0.0; 6]), None).unwrap().total.double_value(&[0])], &[0.25], 1e-12);
    }
    // Certainty is the default, and the pair in the other order has the same loss.
    let certain = srpo(0.25).forward(&r(), Some(&Tensor::from_slice(&[1.0]))).unwrap();
    assert_eq!(certain.total, out.total);
    let turned = srpo(0.25).forward(&ratios([-1.0, 1.0, -1.0, 2.0, -0.5, 0.5]), Some(&Tensor::from_slice(&[0.0])));
    near(&[turned.unwrap().total.double_value(&[0])], &[0.145625], 1e-12);
}

#[test]
fn an_improver_that_ignores_what_it_improves_gives_ipo() {
    let (w, l, beta) = (0.7, -0.4, 0.3);
    let out = Srpo { beta, alpha: 0.0 }.forward(&ratios([w, l, w, l, w, l]), None).unwrap();
    let h = Tensor::from_slice(&[w - l]);
    near(&[out.total.double_value(&[0])], &[beta * beta * ipo(&h, beta).unwrap().double_value(&[0])], 1e-12);
}

#[test]
fn gradients_are_those_of_finite_differences() {
    let x = Tensor::from_slice(&[1.0, -1.0, 2.0, -1.0, 0.5, -0.5]);
    let p = Tensor::from_slice(&[0.8]);
    check_gradient(&x, 1e-7, |x| {
        let at = |i| x.narrow(0, i, 1);
        let r = SrpoLogRatios {
            chosen: at(0),
            rejected: at(1),
            chosen_given_rejected: at(2),
            rejected_given_chosen: at(3),
            chosen_given_chosen: at(4),
            rejected_given_rejected: at(5),
        };
        Srpo { beta: 0.3, alpha: 0.4 }.forward(&r, Some(&p)).unwrap().total.sum(Kind::Double)
    });
}

#[test]
fn what_does_not_fit_is_refused() {
    let text = |e: autodidact_core::Error| e.to_string();
    let srpo = Srpo::default();
    assert!(text(Srpo { alpha: 1.5, ..srpo }.forward(&ratios([0.0; 6]), None).unwrap_err()).contains("alpha"));
    let mut wrong = ratios([0.0; 6]);
    wrong.chosen_given_chosen = Tensor::zeros([2], tch::kind::DOUBLE_CPU);
    assert!(text(srpo.forward(&wrong, None).unwrap_err()).contains("chosen given chosen"));
    let p = Tensor::from_slice(&[1.5]);
    assert!(text(srpo.forward(&ratios([0.0; 6]), Some(&p)).unwrap_err()).contains("preference"));
    assert!(
        text(srpo_closed_form(&[vec![0.5, 0.9], vec![0.2, 0.5]], &[0.5, 0.5], None, 1.0).unwrap_err())
            .contains("both orders")
    );
    assert!(text(srpo_closed_form(&preferences(), &[0.5, 0.5], None, 1.0).unwrap_err()).contains("reference"));
    assert!(text(TabularPairs::observed(&[(0, 7)], &UNIFORM).unwrap_err()).contains("comparisons"));
    assert!(TabularPairs::observed(&[(0, 1)], &UNIFORM).unwrap().srpo(0.2, 0.0).is_err());
    assert_eq!(RevisionTemplate { marker: vec![9, 9], end: 3 }.context(&[1], &[5]), [1, 5, 9, 9]);
}
