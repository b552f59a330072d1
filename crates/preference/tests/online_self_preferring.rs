//! Strengths, rankings and pairs by hand; the soft loss's values, and what it is for on a policy that can be solved.

use autodidact_core::testing::check_gradient;
use autodidact_preference::losses::soft_label_dpo;
use autodidact_preference::online_self_preferring::{RankedPairing, Strengths, rloo_loss, strength_regression_loss};
use tch::{Kind, Tensor};

/// Exact Bradley-Terry strengths of rewards.
fn exact(rewards: &[f64], tau: f64) -> Strengths {
    let p = |a: f64, b: f64| 1.0 / (1.0 + ((b - a) / tau).exp());
    Strengths::debiased(&rewards.iter().map(|a| rewards.iter().map(|b| p(*a, *b)).collect()).collect::<Vec<_>>())
        .unwrap()
}

#[test]
fn strengths_know_no_position() {
    // Logits 1.3 and -0.2 in one order, -0.5 and 0.4 in the other.
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let s = Strengths::debiased(&[vec![0.0, sigmoid(1.5)], vec![sigmoid(-0.9), 0.0]]).unwrap();
    assert!((s.between(0, 1) - 0.764262).abs() < 1e-6);
    assert_eq!(s.between(0, 1) + s.between(1, 0), 1.0);
    // A judge that prefers what stands first says nothing.
    let first = Strengths::debiased(&vec![vec![0.9; 3]; 3]).unwrap();
    assert!((first.between(2, 0) - 0.5).abs() < 1e-12 && first.cycles() == 0);
}

#[test]
fn pairings_are_as_many_as_they_say_and_ranked() {
    let s = exact(&[0.3, 2.0, -1.0, 0.9], 1.0);
    assert_eq!(s.ranking(), [1, 3, 0, 2]);
    assert!((s.scores().iter().sum::<f64>() - 2.0).abs() < 1e-12);
    let places = |pairing: RankedPairing| pairing.pairs(&s).iter().map(|p| (p.better, p.worse)).collect::<Vec<_>>();
    assert_eq!(places(RankedPairing::AllPairs), [(1, 3), (1, 0), (1, 2), (3, 0), (3, 2), (0, 2)]);
    assert_eq!(places(RankedPairing::BestVsRest), [(1, 3), (1, 0), (1, 2)]);
    assert_eq!(places(RankedPairing::Adjacent), [(1, 3), (3, 0), (0, 2)]);
    assert_eq!(places(RankedPairing::BestVsWorst), [(1, 2)]);
    assert!(RankedPairing::AllPairs.pairs(&s).iter().all(|p| p.strength > 0.5));
}

#[test]
fn cycles_are_counted_and_their_pairs_keep_their_strength() {
    let cycle = [vec![0.5, 0.9, 0.3], vec![0.1, 0.5, 0.8], vec![0.7, 0.2, 0.5]];
    let s = Strengths::debiased(&cycle).unwrap();
    assert_eq!((s.cycles(), exact(&[1.0, 2.0, 3.0, 4.0], 1.0).cycles()), (1, 0));
    // Ranked 0 (0.6), 2 and 1 (0.45): 0 against 2 contradicts the ranking.
    let contradiction = RankedPairing::AllPairs.pairs(&s).into_iter().find(|p| (p.better, p.worse) == (0, 2)).unwrap();
    assert!((contradiction.strength - 0.3).abs() < 1e-12);
}

#[test]
fn the_soft_loss_has_the_values_computed_by_hand() {
    for (p, loss, slope) in
        [(0.5, 0.713015, 0.009869), (0.7, 0.633015, -0.010131), (0.9, 0.553015, -0.030131), (1.0, 0.513015, -0.040131)]
    {
        let h = Tensor::from_slice(&[4.0]).set_requires_grad(true);
        let value = soft_label_dpo(&h, &Tensor::from(p), 0.1).unwrap().sum(Kind::Double);
        value.backward();
        assert!((value.double_value(&[]) - loss).abs() < 1e-6);
        assert!((h.grad().double_value(&[0]) - slope).abs() < 1e-6);
    }
    // Regression has the same optimum.
    let h = Tensor::from_slice(&[8.472979, 0.0]);
    let loss = strength_regression_loss(&h, &Tensor::from_slice(&[0.7, 0.5]), 0.1).unwrap();
    assert!(loss.abs().max().double_value(&[]) < 1e-12);
}

/// With exact strengths on all pairs, the optimum is that of KL-regularised reward maximisation at coefficient beta tau.
#[test]
fn exact_strengths_lead_to_the_regularised_optimum() {
    let (rewards, tau, beta) = ([0.5, -0.3, 0.8], 0.5, 0.4);
    let s = exact(&rewards, tau);
    let logits = Tensor::zeros([3], tch::kind::DOUBLE_CPU).set_requires_grad(true);
    let (mut better, mut worse, mut strength) = (vec![], vec![], vec![]);
    for pair in RankedPairing::AllPairs.pairs(&s) {
        better.push(pair.better as i64);
        worse.push(pair.worse as i64);
        strength.push(pair.strength);
    }
    let [better, worse] = [better, worse].map(|i| Tensor::from_slice(&i));
    let strength = Tensor::from_slice(&strength);
    for _ in 0..2000 {
        let h = logits.index_select(0, &better) - logits.index_select(0, &worse);
        let loss = soft_label_dpo(&h, &strength, beta).unwrap().mean(Kind::Double);
        let gradient = Tensor::run_backward(&[loss], &[&logits], false, false).remove(0);
        let _ = tch::no_grad(|| logits.shallow_clone().g_add_(&(gradient * -20.0)));
    }
    let got: Vec<f64> = logits.softmax(0, Kind::Double).detach().try_into().unwrap();
    let weights: Vec<f64> = rewards.iter().map(|r| (r / (tau * beta)).exp()).collect();
    for (g, w) in got.iter().zip(&weights) {
        assert!((g - w / weights.iter().sum::<f64>()).abs() < 1e-6, "{got:?}");
    }
}

#[test]
fn leave_one_out_weighs_by_the_lead_over_the_others() {
    let rewards = Tensor::from_slice2(&[[1.0, 2.0, 6.0], [0.0, 0.0, 0.0]]);
    let leaf = Tensor::from_slice2(&[[-1.0, -2.0, -3.0], [-1.0, -1.0, -1.0]]).set_requires_grad(true);
    rloo_loss(&leaf, &rewards).unwrap().backward();
    // Leads: 1 - 4, 2 - 3.5, 6 - 1.5; the mean is over six.
    let want = Tensor::from_slice2(&[[3.0, 1.5, -4.5], [0.0, 0.0, 0.0]]) / 6.0;
    assert!((leaf.grad() - want).abs().max().double_value(&[]) < 1e-12);
    check_gradient(&leaf.detach(), 1e-8, |x| rloo_loss(x, &rewards).unwrap());
}

#[test]
fn what_does_not_fit_is_refused() {
    let text = |m: &[Vec<f64>]| Strengths::debiased(m).unwrap_err().to_string();
    assert!(text(&[vec![0.5]]).contains("two or more"));
    assert!(text(&[vec![0.5, 1.5], vec![0.5, 0.5]]).contains("strength"));
    assert!(text(&[vec![0.5, f64::NAN], vec![0.5, 0.5]]).contains("strength"));
    let h = Tensor::from_slice(&[1.0]);
    assert!(strength_regression_loss(&h, &Tensor::from_slice(&[0.5, 0.5]), 0.1).is_err());
    assert!(strength_regression_loss(&h, &Tensor::from_slice(&[0.5]), 0.0).is_err());
    assert!(strength_regression_loss(&h, &Tensor::from_slice(&[1.5]), 0.1).is_err());
    let one = Tensor::zeros([2, 1], tch::kind::DOUBLE_CPU);
    assert!(rloo_loss(&one, &one).unwrap_err().to_string().contains("two or more"));
}
