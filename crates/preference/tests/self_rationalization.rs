//! Pairs of judgements, votes and agreement against examples computed by hand, and bad input.

use autodidact_core::optim::StateDict;
use autodidact_preference::self_rationalization::{
    CurationRule, Judgement, ScoreAgreement, best_of_n, curate, expected_score, merge_weights, self_consistency_score,
};
use tch::Tensor;

fn judgements(scores: &[u8]) -> Vec<Judgement<usize>> {
    scores.iter().enumerate().map(|(i, &score)| Judgement::new(i, score)).collect()
}

const SCORES: [u8; 6] = [4, 3, 5, 4, 1, 2];

#[test]
fn pairs_are_those_of_the_rules() {
    let all = judgements(&SCORES);
    let correct = |margin| curate(&all, &CurationRule::CorrectAnswer { truth: 4 }, margin).unwrap();
    assert_eq!(correct(1), [(0, 1), (0, 2), (0, 4), (0, 5), (3, 1), (3, 2), (3, 4), (3, 5)]);
    assert_eq!(correct(2), [(0, 4), (0, 5), (3, 4), (3, 5)]);
    assert_eq!(correct(3), [(0, 4), (3, 4)]);
    // Four is the commonest score too.
    assert_eq!(curate(&all, &CurationRule::Majority, 1).unwrap(), correct(1));
    let ratings = [3.0, 1.0, 0.5, 2.5, 0.0, 2.0];
    let meta = curate(&all, &CurationRule::MetaJudge { ratings: &ratings }, 2).unwrap();
    assert_eq!(meta, [(0, 1), (0, 2), (0, 4), (3, 2), (3, 4), (5, 4)]);
    // No judgement is right; all are the same.
    assert_eq!(curate(&judgements(&[1, 2, 3]), &CurationRule::CorrectAnswer { truth: 5 }, 1).unwrap(), []);
    assert_eq!(curate(&judgements(&[3, 3, 3]), &CurationRule::Majority, 1).unwrap(), []);
    assert_eq!(curate(&judgements(&[]), &CurationRule::Majority, 1).unwrap(), []);
}

#[test]
fn repetitions_and_unreadable_judgements_make_no_pairs() {
    let mut all = judgements(&SCORES);
    all[3] = all[0].clone();
    all[1].score = None;
    assert_eq!(curate(&all, &CurationRule::CorrectAnswer { truth: 4 }, 1).unwrap(), [(0, 2), (0, 4), (0, 5)]);
    // The vote still counts repetitions: 4, 5, 4, 1, 2.
    assert_eq!(curate(&all, &CurationRule::Majority, 1).unwrap(), [(0, 2), (0, 4), (0, 5)]);
}

#[test]
fn votes_take_the_commonest_score_and_break_ties_at_the_mean() {
    assert_eq!(self_consistency_score(&[4, 3, 4, 5]), Some(4));
    // 1 and 4 twice each; the mean is 3.
    assert_eq!(self_consistency_score(&[1, 1, 4, 4, 5]), Some(4));
    // 2 and 4 are as near to 3.
    assert_eq!(self_consistency_score(&[2, 4]), Some(2));
    assert_eq!(self_consistency_score(&[]), None);
}

#[test]
fn the_best_is_readable_and_the_first_of_equals() {
    let mut all = judgements(&[1, 2, 3, 4]);
    assert_eq!(best_of_n(&all, &[0.1, 0.7, 0.7, 0.2]).unwrap(), Some(1));
    all[1].score = None;
    assert_eq!(best_of_n(&all, &[0.1, 0.7, 0.7, 0.2]).unwrap(), Some(2));
    assert_eq!(best_of_n::<usize>(&[], &[]).unwrap(), None);
    assert!(best_of_n(&all, &[0.0]).is_err());
}

#[test]
fn expected_scores_are_means_of_normalised_probabilities() {
    assert!((expected_score(&[0.1, 0.0, 0.0, 0.2, 0.1]).unwrap() - 3.5).abs() < 1e-12);
    for bad in [&[0.0, 0.0][..], &[-0.1, 0.5], &[f64::NAN], &[]] {
        assert!(expected_score(bad).is_err());
    }
}

#[test]
fn agreement_is_that_computed_by_hand() {
    let (scores, truth) = ([1, 2, 3, 4, 5, 5, 2, 3], [1, 3, 3, 4, 4, 5, 5, 1]);
    let got = ScoreAgreement::of(&scores, &truth).unwrap();
    // Differences 0 1 0 0 1 0 3 2; kappa from the table of both, 1 - sum w O / sum w E with squared differences w (NumPy): 7/13.
    assert_eq!((got.accuracy, got.within_one, got.mean_absolute_error), (0.5, 0.75, 0.875));
    assert!((got.quadratic_weighted_kappa - 7.0 / 13.0).abs() < 1e-12, "{got:?}");
    let perfect = ScoreAgreement::of(&[2, 2], &[2, 2]).unwrap();
    assert_eq!((perfect.accuracy, perfect.quadratic_weighted_kappa), (1.0, 1.0));
    assert!(ScoreAgreement::of(&[1], &[1, 2]).is_err() && ScoreAgreement::of(&[], &[]).is_err());
}

#[test]
fn merging_is_a_weighted_mean_and_the_identity_on_equal_models() {
    let model = |x: f64| StateDict::from([("a".to_owned(), Tensor::from_slice(&[x, 2.0 * x]))]);
    let (a, b) = (model(1.0), model(3.0));
    let value = |m: &StateDict| Vec::<f64>::try_from(&m["a"]).unwrap();
    assert_eq!(value(&merge_weights(&[&a, &b], &[0.5, 0.5]).unwrap()), [2.0, 4.0]);
    assert_eq!(value(&merge_weights(&[&a, &b], &[0.25, 0.75]).unwrap()), [2.5, 5.0]);
    assert_eq!(value(&merge_weights(&[&a, &a], &[0.5, 0.5]).unwrap()), value(&a));
    assert_eq!(value(&merge_weights(&[&b], &[1.0]).unwrap()), value(&b));
    let other = StateDict::from([("b".to_owned(), Tensor::from_slice(&[1.0, 2.0]))]);
    assert!(merge_weights(&[&a, &other], &[0.5, 0.5]).is_err());
    assert!(merge_weights(&[&a, &b], &[0.5, 0.4]).is_err());
    assert!(merge_weights(&[&a], &[0.5, 0.5]).is_err());
    assert!(merge_weights(&[], &[]).is_err());
}

#[test]
fn bad_input_is_an_error() {
    let all = judgements(&SCORES);
    assert!(curate(&all, &CurationRule::CorrectAnswer { truth: 0 }, 1).is_err());
    assert!(curate(&all, &CurationRule::CorrectAnswer { truth: 6 }, 1).is_err());
    assert!(curate(&all, &CurationRule::Majority, 0).is_err());
    assert!(curate(&all, &CurationRule::MetaJudge { ratings: &[1.0] }, 1).is_err());
}
