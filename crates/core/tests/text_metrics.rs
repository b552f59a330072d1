//! NLTK, rouge-score and SciPy as peers.

use autodidact_core::metrics::RougeL;
use autodidact_core::stats::ks_2samp;
use autodidact_core::text::porter_stem;
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    stems: Vec<(String, String)>,
    rouge: Vec<(String, String, bool, f64, f64, f64)>,
    ks: Vec<(Vec<f64>, Vec<f64>, f64, f64)>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("fixtures/text_metrics.json")).unwrap()
}

#[test]
fn stems_are_nltks() {
    let stems = golden().stems;
    assert!(stems.len() > 1000);
    for (word, stem) in stems {
        assert_eq!(porter_stem(&word), stem, "{word}");
    }
    assert_eq!(porter_stem("Élan"), "élan", "words of other alphabets stay");
}

#[test]
fn rouge_is_rouge_scores() {
    for (text, reference, stem, recall, precision, f1) in golden().rouge {
        let got = RougeL::of(&text, &reference, stem);
        for (got, want) in [(got.recall, recall), (got.precision, precision), (got.f1, f1)] {
            assert!((got - want).abs() < 1e-12, "{text:?} and {reference:?}: {got} for {want}");
        }
    }
}

#[test]
fn tests_of_two_samples_are_scipys() {
    for (a, b, statistic, p) in golden().ks {
        let test = ks_2samp(&a, &b).unwrap();
        assert!((test.statistic - statistic).abs() < 1e-12);
        assert!((test.ln_p - p.ln()).abs() < 1e-9 * (1.0 + p.ln().abs()), "{} for {p}", test.p());
        assert_eq!(ks_2samp(&b, &a).unwrap().statistic, test.statistic);
    }
}

#[test]
fn samples_far_apart_do_not_underflow() {
    let apart = |n: usize| ks_2samp(&vec![0.0; n], &vec![1.0; n]).unwrap();
    assert!((apart(50).p() / 1.9823e-29 - 1.0).abs() < 1e-4);
    assert!((apart(100).p() / 2.2088e-59 - 1.0).abs() < 1e-4);
    // 2 / C(20000, 10000), by Stirling's formula.
    let expected = 2f64.ln() - (20_000.0 * 2f64.ln() - 0.5 * (std::f64::consts::PI * 10_000.0).ln() - 1.0 / 80_000.0);
    assert!((apart(10_000).ln_p - expected).abs() < 1e-6);
    assert_eq!(apart(10_000).p(), 0.0);
    // The limit for large samples, near the exact value at the border.
    let spread = |n: usize, shift: f64| (0..n).map(|i| i as f64 / n as f64 + shift).collect::<Vec<_>>();
    let exact = ks_2samp(&spread(10_000, 0.0), &spread(10_000, 0.02)).unwrap();
    let limit = ks_2samp(&spread(10_001, 0.0), &spread(10_001, 0.02)).unwrap();
    assert!((exact.ln_p - limit.ln_p).abs() < 0.05, "{} and {}", exact.ln_p, limit.ln_p);
    assert_eq!(ks_2samp(&[1.0, 2.0], &[1.0, 2.0]).unwrap().p(), 1.0);
    assert!(ks_2samp(&[], &[1.0]).is_err() && ks_2samp(&[f64::NAN], &[1.0]).is_err());
}
