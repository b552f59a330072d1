//! Types of reviews and their pairs, the loss against hand-computed values and trl, McNemar's test against scipy.

use autodidact_core::testing::{assert_close, check_gradient, fixture};
use autodidact_core::{Error, Result};
use autodidact_preference::losses::{PairLogProbs, dpo};
use autodidact_preference::self_correction_learning::{
    Choice, CorrectionType, Corrections, DpoWithSft, Judged, TransitionCounts, dpo_with_sft, extract_choice,
    independent_sample_pairs, iterate_review, run_two_turn, self_correction_pairs,
};
use tch::{Kind, Tensor};

fn one(x: f64) -> Tensor {
    Tensor::from_slice(&[x])
}

fn pair(w: f64, l: f64) -> PairLogProbs {
    PairLogProbs::new(one(w), one(l)).unwrap()
}

fn record(first: i64, second: i64, right: (bool, bool)) -> Judged<i64> {
    Judged { first, second, right }
}

#[test]
fn types_and_pairs_are_those_of_the_table() {
    use CorrectionType::{Break, Fail, Fix, Keep};
    let records = [
        record(1, 2, (true, true)),
        record(3, 4, (false, true)),
        record(5, 6, (true, false)),
        record(7, 8, (false, false)),
        record(9, 10, (false, true)),
    ];
    let types: Vec<_> = records.iter().map(Judged::correction).collect();
    assert_eq!(types, [Keep, Fix, Break, Fail, Fix]);
    let pairs = |which| -> Vec<(usize, i64, i64)> {
        self_correction_pairs(&records, which).into_iter().map(|p| (p.question, p.chosen, p.rejected)).collect()
    };
    assert_eq!(pairs(Corrections::Both), [(1, 4, 3), (2, 5, 6), (4, 10, 9)]);
    assert_eq!(pairs(Corrections::Fix), [(1, 4, 3), (4, 10, 9)]);
    assert_eq!(pairs(Corrections::Break), [(2, 5, 6)]);
    let counts = TransitionCounts::of(&records);
    assert_eq!(counts, TransitionCounts { keep: 1, fix: 2, broken: 1, fail: 1 });
    assert_eq!(counts.change(), 0.2);
}

#[test]
fn accuracies_differ_by_what_is_fixed_and_broken() {
    let counts = TransitionCounts { keep: 520, fix: 40, broken: 65, fail: 375 };
    let (first, second) = (counts.first_accuracy(0.95).unwrap(), counts.second_accuracy(0.95).unwrap());
    assert_eq!((first.value, second.value, first.n), (0.585, 0.56, 1000));
    assert!((second.value - first.value - counts.change()).abs() < 1e-15);
    let [fixed, broken] = counts.rates(0.95).unwrap().map(|r| r.unwrap());
    assert_eq!((fixed.value, broken.value), (40.0 / 415.0, 65.0 / 585.0));
    let test = counts.mcnemar();
    assert!((test.statistic - 5.4857).abs() < 1e-4 && (test.p - 0.0192).abs() < 1e-4, "{test:?}");
    // The two counts are interchangeable, and equal ones say nothing.
    assert_eq!(TransitionCounts { fix: 65, broken: 40, ..counts }.mcnemar(), test);
    assert_eq!(TransitionCounts { fix: 40, broken: 40, ..counts }.mcnemar().p, 1.0);
    let never = TransitionCounts { keep: 3, ..TransitionCounts::default() };
    assert_eq!(never.mcnemar().p, 1.0);
    assert!(never.rates(0.95).unwrap()[0].is_none());
    assert!(TransitionCounts::default().first_accuracy(0.95).is_err());
}

#[test]
fn independent_samples_give_a_pair_where_they_disagree() {
    let samples = vec![
        vec![("a", true), ("b", true)],
        vec![("c", false), ("d", true), ("e", true), ("f", false)],
        vec![("g", true), ("h", false)],
        vec![("i", false)],
        vec![],
    ];
    let pairs: Vec<_> =
        independent_sample_pairs(&samples).into_iter().map(|p| (p.question, p.chosen, p.rejected)).collect();
    assert_eq!(pairs, [(1, "d", "c"), (2, "g", "h")]);
}

#[test]
fn reviews_see_all_that_was_said_before() {
    let mut seen: Vec<Vec<Vec<i64>>> = vec![];
    let questions = [vec![1, 2], vec![3]];
    let mut model = |contexts: &[Vec<i64>]| -> Result<Vec<Vec<i64>>> {
        seen.push(contexts.to_vec());
        // One or two tokens that tell the turn.
        Ok(contexts.iter().map(|c| vec![10 + seen.len() as i64; c.len().min(2)]).collect())
    };
    let turns = iterate_review::<Error>(&questions, &[7, 8], 2, &mut model).unwrap();
    assert_eq!(turns, [[vec![11, 11], vec![11]], [vec![12, 12], vec![12, 12]], [vec![13, 13], vec![13, 13]]]);
    let two =
        run_two_turn::<Error>(&questions, &[7, 8], |c| Ok(c.iter().map(|c| vec![c.len() as i64]).collect())).unwrap();
    assert_eq!(
        (two[0].first.as_slice(), two[0].review.as_slice(), two[0].second.as_slice()),
        (&[2][..], &[7, 8][..], &[5][..])
    );
    assert_eq!(two[1].second, [4]);
    assert_eq!(seen[0], questions);
    assert_eq!(seen[1], [vec![1, 2, 11, 11, 7, 8], vec![3, 11, 7, 8]]);
    assert_eq!(seen[2], [vec![1, 2, 11, 11, 7, 8, 12, 12, 7, 8], vec![3, 11, 7, 8, 12, 12, 7, 8]]);
    let short = iterate_review::<Error>(&questions, &[], 1, |_| Ok(vec![vec![1]]));
    assert!(short.unwrap_err().to_string().contains("2, one to each question"));
    let failed = run_two_turn::<Error>(&questions, &[], |_| Err(Error::Failed("no model".into())));
    assert_eq!(failed.unwrap_err().to_string(), "no model");
}

#[test]
fn the_loss_has_the_values_computed_by_hand() {
    let (policy, reference) = (pair(-12.3, -10.1), pair(-13.0, -9.6));
    let nll = one(12.3 / 8.0);
    let loss = |policy: &PairLogProbs, sft_mix| {
        dpo_with_sft(policy, &reference, &nll, &DpoWithSft { beta: 0.1, sft_mix }).unwrap().double_value(&[0])
    };
    assert!((loss(&policy, 0.1) - 0.7252015).abs() < 5e-8);
    assert!((loss(&policy, 0.0) - 0.6349461).abs() < 5e-8);
    assert_eq!(loss(&policy, 1.0), 1.5375);
    let plain = dpo(&policy.margin(&reference).unwrap(), 0.1).unwrap();
    assert_eq!(dpo_with_sft(&policy, &reference, &nll, &DpoWithSft::default()).unwrap(), plain);
    // At the reference: (1 - m) ln 2 + m NLL.
    let at = pair(-13.0, -9.6);
    assert!((loss(&at, 0.3) - (0.7 * 2f64.ln() + 0.3 * 1.5375)).abs() < 1e-12);
}

#[test]
fn the_loss_has_the_values_and_gradients_of_trl() {
    let golden = fixture("tests/fixtures/self_correction.safetensors");
    let reference = PairLogProbs::halves(&golden["reference"]).unwrap();
    let tokens = golden["lengths"].narrow(0, 0, 5).sum(Kind::Double);
    for (name, sft_mix) in [("sft 0.1", 0.1), ("sft 0.5", 0.5)] {
        let leaf = golden["policy"].copy().set_requires_grad(true);
        let policy = PairLogProbs::halves(&leaf).unwrap();
        let nll = -policy.chosen.sum(Kind::Double) / &tokens;
        let loss = dpo_with_sft(&policy, &reference, &nll, &DpoWithSft { beta: 0.3, sft_mix }).unwrap();
        let loss = loss.mean(Kind::Double);
        assert_close(name, &loss.view(1), &golden[name], 1e-12);
        loss.backward();
        assert_close(name, &leaf.grad(), &golden[&format!("{name}.gradient")], 1e-12);
    }
    // Counts of types 2 and 3, statistic and p, by row.
    let tables = &golden["mcnemar"];
    for row in 0..tables.size()[0] {
        let [fix, broken, statistic, p] = [0, 1, 2, 3].map(|i| tables.double_value(&[row, i]));
        let counts = TransitionCounts { fix: fix as usize, broken: broken as usize, ..TransitionCounts::default() };
        let got = counts.mcnemar();
        assert!((got.statistic - statistic).abs() < 1e-12 * statistic.max(1.0), "{got:?}");
        assert!((got.p - p).abs() < 1e-9 * p + 1e-15, "{got:?}, expected {p}");
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    let x = Tensor::from_slice(&[-12.3, -5.0, -10.1, -6.5]);
    let reference = PairLogProbs::new(Tensor::from_slice(&[-13.0, -5.5]), Tensor::from_slice(&[-9.6, -6.0])).unwrap();
    check_gradient(&x, 1e-8, |x| {
        let policy = PairLogProbs::halves(x).unwrap();
        let nll = -&policy.chosen / 5.0;
        dpo_with_sft(&policy, &reference, &nll, &DpoWithSft { beta: 0.3, sft_mix: 0.2 }).unwrap().sum(Kind::Double)
    });
}

#[test]
fn choices_are_found_where_they_are_marked_and_else_where_they_may_be() {
    let found = |option, marked| Some(Choice { option, marked });
    for (text, want) in [
        ("## C ##", found(2, true)),
        ("##c##", None),
        ("The answer is ## 0 ##.", found(0, true)),
        ("## the cat ## then ## B ##", found(1, true)),
        ("## E ## but D. fits", found(3, false)),
        ("A. and then ## B ##", found(1, true)),
        ("A. and then ## B", found(0, false)),
        ("USA. is not an option, B. is", found(1, false)),
        ("B.", found(1, false)),
        ("B", None),
        ("## 4 ##", None),
        ("####", None),
        ("", None),
        ("Ünlü D.", found(3, false)),
    ] {
        assert_eq!(extract_choice(text, 4), want, "{text}");
    }
    assert_eq!(extract_choice("## 25 ##", 100), found(25, true));
    assert_eq!(extract_choice("A.", 0), None);
}

#[test]
fn what_does_not_fit_is_refused() {
    let (policy, reference) = (pair(-1.0, -2.0), pair(-1.0, -2.0));
    let two = Tensor::from_slice(&[1.0, 2.0]);
    let error = |nll: &Tensor, beta, sft_mix| {
        dpo_with_sft(&policy, &reference, nll, &DpoWithSft { beta, sft_mix }).unwrap_err().to_string()
    };
    assert!(error(&two, 0.1, 0.1).contains("nll: expected one number or [1]"));
    assert!(error(&one(1.0), 0.0, 0.1).contains("beta"));
    assert!(error(&one(1.0), 0.1, 1.1).contains("sft_mix"));
}
