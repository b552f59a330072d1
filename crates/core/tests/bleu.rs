//! BLEU against sacrebleu's values.

use autodidact_core::metrics::{BleuCounts, Smoothing, corpus_bleu, tokenize_13a};
use serde_json::Value;

fn golden() -> Value {
    serde_json::from_str(include_str!("fixtures/bleu.json")).unwrap()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|t| t.as_str().unwrap().to_owned()).collect()
}

#[test]
fn words_are_those_of_the_13a_tokenizer() {
    for pair in golden()["tokens"].as_array().unwrap() {
        let line = pair[0].as_str().unwrap();
        assert_eq!(tokenize_13a(line), texts(&pair[1]), "{line:?}");
    }
}

#[test]
fn scores_are_sacrebleus_under_each_smoothing() {
    for corpus in golden()["corpora"].as_array().unwrap() {
        let (name, hypotheses) = (&corpus["name"], texts(&corpus["hypotheses"]));
        let references: Vec<Vec<String>> = corpus["references"].as_array().unwrap().iter().map(texts).collect();
        let mut counts = BleuCounts::default();
        for (i, hypothesis) in hypotheses.iter().enumerate() {
            let references: Vec<Vec<String>> = references.iter().map(|r| tokenize_13a(&r[i])).collect();
            let borrowed: Vec<&[String]> = references.iter().map(Vec::as_slice).collect();
            counts.add(&tokenize_13a(hypothesis), &borrowed);
        }
        for (smoothing, want) in corpus["scores"].as_object().unwrap() {
            let value = smoothing.split(' ').nth(1).map_or(0.0, |v| v.parse().unwrap());
            let rule = match smoothing.split(' ').next().unwrap() {
                "exp" => Smoothing::Exponential,
                "none" => Smoothing::None,
                "floor" => Smoothing::Floor { value },
                _ => Smoothing::Add { value },
            };
            let got = counts.bleu(rule).unwrap();
            let got = [vec![got.score, got.brevity_penalty], got.precisions.to_vec()].concat();
            for (got, want) in got.into_iter().zip(want.as_array().unwrap()) {
                let want = want.as_f64().unwrap();
                assert!((got - want).abs() < 1e-9, "{name} with {smoothing}: {got} for {want}");
            }
            if smoothing == "exp" && references.len() == 1 {
                let score = corpus_bleu(&hypotheses, &references[0]).unwrap().score;
                assert!((score - want[0].as_f64().unwrap()).abs() < 1e-9, "{name}");
            }
        }
    }
}

#[test]
fn tokens_of_any_kind_count_and_bad_input_is_an_error() {
    // A hypothesis that is its reference scores 100; one that is half as long loses e^-1.
    let mut counts = BleuCounts::default();
    counts.add(&[1, 2, 3, 4, 5, 6], &[&[1, 2, 3, 4, 5, 6]]);
    assert!((counts.bleu(Smoothing::None).unwrap().score - 100.0).abs() < 1e-12);
    let mut counts = BleuCounts::default();
    counts.add(&[1, 2, 3, 4], &[&[1, 2, 3, 4, 5, 6, 7, 8]]);
    assert!((counts.bleu(Smoothing::None).unwrap().score - 100.0 * (-1f64).exp()).abs() < 1e-12);
    // An n-gram counts at most as often as in the reference that has it most often.
    let mut counts = BleuCounts::default();
    counts.add(&["a", "a", "a"], &[&["a", "b"], &["a", "c", "a", "d"]]);
    assert_eq!((counts.matches, counts.ngrams), ([2, 0, 0, 0], [3, 2, 1, 0]));
    // Both are one word off: the shorter counts.
    assert_eq!((counts.hypothesis_length, counts.reference_length), (3, 2));
    assert_eq!(BleuCounts::default().bleu(Smoothing::default()).unwrap().score, 0.0);
    assert!(counts.bleu(Smoothing::Add { value: -1.0 }).is_err());
    assert!(corpus_bleu::<&str, &str>(&[], &[]).is_err());
    assert!(corpus_bleu(&["a"], &["a", "b"]).unwrap_err().to_string().contains("references: expected 1"));
}
