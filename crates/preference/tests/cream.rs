//! Consistency of rankings against hand-computed values and its invariances; the regularised loss against its two forms.

use autodidact_core::testing::assert_close;
use autodidact_preference::cream::{
    Agreement, best_and_worst, consistency, kendall_tau, label_of_regularisation, top_order,
};
use autodidact_preference::losses::{dpo, soft_label_dpo};
use tch::{Kind, Tensor};

const NOW: [f64; 5] = [1.2, 0.4, -0.3, 2.0, 0.1];
const BEFORE: [f64; 5] = [0.9, 0.5, 0.2, 0.7, -1.0];

fn rate(a: &[f64], b: &[f64], agreement: Agreement) -> f64 {
    consistency(&[a.to_vec()], &[b.to_vec()], agreement).unwrap().mean
}

#[test]
fn rates_are_those_computed_by_hand() {
    assert!((kendall_tau(&NOW, &BEFORE).unwrap() - 0.6).abs() < 1e-12);
    assert!((rate(&NOW, &BEFORE, Agreement::Kendall) - 0.8).abs() < 1e-12);
    assert!((rate(&NOW, &BEFORE, Agreement::Spearman) - 0.9).abs() < 1e-12);
    assert_eq!(rate(&NOW, &BEFORE, Agreement::TopOrder), 0.0);
    let reversed: Vec<f64> = NOW.iter().map(|x| -x).collect();
    for (agreement, same, opposite) in
        [(Agreement::Kendall, 1.0, 0.0), (Agreement::Spearman, 1.0, 0.0), (Agreement::TopOrder, 1.0, 0.0)]
    {
        assert!((rate(&NOW, &NOW, agreement) - same).abs() < 1e-12);
        assert!((rate(&NOW, &reversed, agreement) - opposite).abs() < 1e-12);
    }
    // Ties are neither.
    assert_eq!(kendall_tau(&[1.0, 1.0, 2.0], &[0.0, 1.0, 2.0]).unwrap(), 2.0 / 3.0);
    assert_eq!(rate(&[1.0, 1.0], &[0.0, 1.0], Agreement::Spearman), 0.5);
    assert!(!top_order(&[1.0, 2.0, 0.0], &[1.0, 2.0, 1.5]).unwrap());
}

#[test]
fn shifts_and_positive_scales_change_nothing() {
    let moved: Vec<f64> = NOW.iter().map(|x| 7.0 * x - 3.0).collect();
    for agreement in [Agreement::Kendall, Agreement::Spearman, Agreement::TopOrder] {
        assert_eq!(rate(&moved, &BEFORE, agreement), rate(&NOW, &BEFORE, agreement));
    }
}

#[test]
fn random_rankings_agree_in_half_of_the_pairs() {
    // All 120 orders of five against one: mean 0, standard deviation sqrt(2(2N+5)/(9N(N-1))) = 0.408.
    let mut orders = vec![vec![]];
    for value in 0..5 {
        let insert = |o: &Vec<f64>, at: usize| [&o[..at], &[f64::from(value)], &o[at..]].concat();
        orders = orders.iter().flat_map(|o| (0..=o.len()).map(|at| insert(o, at)).collect::<Vec<_>>()).collect();
    }
    let taus: Vec<f64> = orders.iter().map(|o| kendall_tau(o, &[0.0, 1.0, 2.0, 3.0, 4.0]).unwrap()).collect();
    let mean = taus.iter().sum::<f64>() / 120.0;
    let deviation = (taus.iter().map(|t| t * t).sum::<f64>() / 120.0).sqrt();
    assert!(mean.abs() < 1e-12 && (deviation - 0.40825).abs() < 1e-5, "{mean} {deviation}");
}

#[test]
fn prompts_without_a_ranking_take_the_mean() {
    let now = [NOW.to_vec(), vec![1.0], vec![0.0, 1.0]];
    let before = [BEFORE.to_vec(), vec![1.0], vec![1.0, 0.0]];
    let c = consistency(&now, &before, Agreement::Kendall).unwrap();
    assert_eq!(c.by_prompt[1], None);
    assert!((c.mean - 0.4).abs() < 1e-12);
    let dynamic = c.dynamic();
    assert!((dynamic[0] - 0.8).abs() < 1e-12 && (dynamic[1] - 0.4).abs() < 1e-12 && dynamic[2] == 0.0);
}

#[test]
fn pairs_need_two_different_responses() {
    assert_eq!(best_and_worst(&NOW, &["a", "b", "c", "d", "e"]), Some((3, 2)));
    assert_eq!(best_and_worst(&NOW, &["a", "b", "same", "same", "e"]), None);
    assert_eq!(best_and_worst(&[1.0, 1.0], &["a", "b"]), None);
    assert_eq!(best_and_worst::<&str>(&[], &[]), None);
}

#[test]
fn the_soft_label_is_dpo_with_a_pull_to_indifference() {
    for (lambda, want) in [(0.0, 1.0), (0.1, 0.916667), (1.0, 0.666667), (1e12, 0.5)] {
        assert!((label_of_regularisation(lambda).unwrap() - want).abs() < 1e-6);
    }
    // L_DPO + lambda (-log P - log (1-P)) = (1 + 2 lambda) times the loss with the soft label.
    let h = Tensor::from_slice(&[-3.0, 0.2, 1.2, 8.0]);
    let lambda = 0.3;
    let (forward, reverse) = (dpo(&h, 0.5).unwrap(), dpo(&-&h, 0.5).unwrap());
    let regularised: Tensor = &forward + lambda * (&forward + &reverse);
    let label = Tensor::from(label_of_regularisation(lambda).unwrap());
    let soft = soft_label_dpo(&h, &label, 0.5).unwrap() * (1.0 + 2.0 * lambda);
    assert_close("the two forms", &soft, &regularised, 1e-12);
    // Indifference at the reference moves nothing.
    let at = Tensor::zeros([3], tch::kind::DOUBLE_CPU).set_requires_grad(true);
    soft_label_dpo(&at, &Tensor::from(0.5), 0.5).unwrap().sum(Kind::Double).backward();
    assert_eq!(at.grad().abs().max().double_value(&[]), 0.0);
}

#[test]
fn what_does_not_fit_is_refused() {
    let text = |a: &[f64], b: &[f64]| kendall_tau(a, b).unwrap_err().to_string();
    assert!(text(&[1.0], &[1.0]).contains("at least 2"));
    assert!(text(&[1.0, 2.0], &[1.0]).contains("same length"));
    assert!(text(&[1.0, f64::NAN], &[1.0, 2.0]).contains("NaN"));
    assert!(consistency(&[vec![1.0]], &[vec![1.0]], Agreement::Kendall).is_err());
    assert!(consistency(&[vec![1.0, 2.0]], &[], Agreement::Kendall).is_err());
    assert!(label_of_regularisation(-0.1).is_err());
}
