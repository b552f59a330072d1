//! The measures by hand.

use autodidact_unlearning::tofu::*;

#[test]
fn truth_ratios_and_probabilities() {
    let losses = Losses { paraphrase: 1.0, perturbed: vec![1.5, 2.0, 1.2, 1.0, 3.0] };
    let close = |got: f64, want: f64| assert!((got - want).abs() < 1e-6, "{got} for {want}");
    close(losses.truth_ratio().unwrap(), 0.585695);
    close(losses.known().unwrap(), 0.414305);
    close(losses.undecided().unwrap(), 0.585695);
    close(losses.statistic().unwrap(), 2.095936);
    close(losses.normalised_probability().unwrap(), 0.254552);
    // Wrong answers more probable than the right one.
    let wrong = Losses { paraphrase: 3.0, perturbed: vec![1.0] };
    assert_eq!(wrong.known().unwrap(), 0.0);
    close(wrong.undecided().unwrap(), (-2f64).exp());
    // Losses of long answers do not underflow.
    let long = Losses { paraphrase: 2000.0, perturbed: vec![2001.0] };
    close(long.truth_ratio().unwrap(), (-1f64).exp());
    assert!(Losses { paraphrase: 1.0, perturbed: vec![] }.truth_ratio().is_err());
    assert!(Losses { paraphrase: f64::NAN, perturbed: vec![1.0] }.statistic().is_err());
}

#[test]
fn forgetting_is_compared_with_never_having_known() {
    let of = |a: f64| Losses { paraphrase: a, perturbed: vec![2.0, 2.0] };
    let knowing: Vec<_> = (0..50).map(|i| of(0.01 * f64::from(i))).collect();
    let ignorant: Vec<_> = (0..50).map(|i| of(2.0 + 0.01 * f64::from(i))).collect();
    let quality = forget_quality(&knowing, &ignorant).unwrap();
    assert_eq!(quality.statistic, 1.0);
    assert!((quality.log10_p() - 1.9823e-29f64.log10()).abs() < 1e-4);
    assert_eq!(forget_quality(&ignorant, &ignorant).unwrap().p(), 1.0);
    assert!(forget_quality(&[], &ignorant).is_err());
    // Of a model that has diverged, too.
    let diverged = Losses { paraphrase: 1.0, perturbed: vec![5000.0] };
    assert_eq!(forget_quality(&vec![diverged; 50], &ignorant).unwrap().statistic, 1.0);
}

#[test]
fn utility_is_a_harmonic_mean() {
    assert!((model_utility(&[0.9, 0.8, 0.5]).unwrap() - 0.687898).abs() < 1e-6);
    assert_eq!(model_utility(&[0.9, 0.0]).unwrap(), 0.0);
    assert!(model_utility(&[]).is_err() && model_utility(&[1.2]).is_err());
}

#[test]
fn membership_is_read_off_the_least_probable_tokens() {
    // Two of five tokens.
    assert_eq!(min_k(&[-1.0, -5.0, -0.1, -3.0, -2.0], 0.4).unwrap(), 4.0);
    assert_eq!(min_k(&[-1.0, -2.0], 0.1).unwrap(), 2.0, "one at least");
    assert!(min_k(&[], 0.4).is_err() && min_k(&[-1.0], 0.0).is_err());
    // Pairs won: 3 of 4, and a tie.
    assert_eq!(auc(&[3.0, 1.0], &[0.0, 1.0]).unwrap(), 3.5 / 4.0);
    assert_eq!(auc(&[0.0], &[1.0]).unwrap(), 0.0);
    assert!(auc(&[], &[1.0]).is_err() && auc(&[f64::NAN], &[1.0]).is_err());
    // Still memorised: held-out texts are never the more probable ones.
    assert!((privacy_leakage(0.0, 0.4772).unwrap() + 100.0).abs() < 1e-12);
    assert!((privacy_leakage(0.9544, 0.4772).unwrap() - 100.0).abs() < 1e-9);
    assert!(privacy_leakage(0.5, 0.0).is_err());
}

#[test]
fn memorization_is_the_mean_overlap() {
    // Three of four words in order, over four and six: 0.6; and all.
    let texts = ["The cat sat there.", "so it goes"];
    let got = memorisation(&texts, &["the cat sat on the mat", "So it goes."]).unwrap();
    assert!((got - 0.8).abs() < 1e-12);
    assert!(memorisation(&texts, &["one"]).is_err() && memorisation::<&str, &str>(&[], &[]).is_err());
}
