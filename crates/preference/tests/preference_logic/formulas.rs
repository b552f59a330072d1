//! Formulas, polynomials and truth tables: what is read, printed, simplified and counted.

use super::*;

#[test]
fn formulas_read_as_they_print_and_mean_what_sympy_says() {
    for line in lines(&golden()["formulas"]) {
        let (bits, text) = line.split_once(' ').unwrap();
        let formula: Formula = text.parse().unwrap();
        let table = formula.truth_table(4).unwrap();
        assert_eq!(table.bits(), bits.parse::<u64>().unwrap(), "{text}");
        assert_eq!(formula.to_string().parse::<Formula>().unwrap(), formula, "{text}");
        assert_eq!(Formula::parse(&formula.with_names(&PROBABILITIES).to_string(), &PROBABILITIES).unwrap(), formula);
        assert!(formula.equivalent(&table.formula()).unwrap());
    }
    let same = |a: &str, b: &str| assert_eq!(a.parse::<Formula>().unwrap(), b.parse().unwrap());
    same("not w and l or w_ref -> l_ref -> w", "(((not w) and l) or w_ref) -> (l_ref -> w)");
    same("!w&l|w^~l => true", "((not w and l) or (w xor not l)) -> true");
    same("¬w ∧ l ∨ ⊥ → ⊤", "((not w) and l) or false implies true");
    same("w and l and w", "(w and l) and w");
    let long = Formula::parse("M(y_l) -> M(y_w)", &["M(y_w)", "M(y_l)"]).unwrap();
    assert_eq!(long.to_string(), "l -> w");
    assert!(long.entails(&"not l or w or w_ref".parse().unwrap()).unwrap());
    assert!(!Formula::Top.entails(&long).unwrap());
    for bad in ["", "w and", "w l", "(w", "w)", "x9", "wl", "not", "w -> -> l", &"(".repeat(1000), &"not ".repeat(500)]
    {
        assert!(bad.parse::<Formula>().is_err(), "{bad}");
    }
    assert!("w and ".repeat(1000).parse::<Formula>().is_err());
    assert!(format!("{}w", "w and ".repeat(330)).parse::<Formula>().is_ok());
    assert_eq!(
        "w and ) l".parse::<Formula>().unwrap_err().to_string(),
        "formula: expected one of w, l, w_ref, l_ref, x4, x5, true, false, not or '(', got ') l' at byte 6"
    );
    assert!(Formula::parse("a", &["a", "a"]).is_err() && Formula::parse("a", &[]).is_err());
}

#[test]
fn simplified_formulas_are_equivalent_and_no_longer_than_sympys() {
    for row in Vec::<Vec<i64>>::try_from(&golden()["minimal"]).unwrap() {
        let [bits, terms, literals] = row[..] else { panic!("three numbers") };
        let table = autodidact_preference::preference_logic::TruthTable::new(4, bits as u64).unwrap();
        let formula = table.formula();
        assert_eq!(formula.truth_table(4).unwrap(), table);
        let text = formula.to_string();
        let used = text.split([' ', '(', ')']).filter(|word| SHORT.contains(word)).count() as i64;
        assert!(used <= literals, "{text}: {used} literals, sympy's {terms} terms have {literals}");
    }
    for (long, short) in [
        ("not l or w", "l -> w"),
        ("(w and l) or (w and not l)", "w"),
        ("not w and l or not l and w", "w xor l"),
        ("w and l or not w and not l", "not (w xor l)"),
        ("not (w or l)", "not w and not l"),
        ("(w or l) and (w_ref or l_ref)", "(w or l) and (w_ref or l_ref)"),
        ("(l -> w) and (l_ref -> w_ref)", "(l -> w) and (l_ref -> w_ref)"),
        ("w and not w", "false"),
        ("w -> w", "true"),
    ] {
        assert_eq!(long.parse::<Formula>().unwrap().simplify().unwrap().to_string(), short);
    }
    assert!(Formula::Var(6).simplify().is_err() && Formula::Var(usize::MAX).simplify().is_err());
}

#[test]
fn model_counts_are_probabilities() {
    tch::manual_seed(5);
    let log_probs = random(9, 4);
    for text in ["w", "w xor l xor w_ref", "(w_ref and l) -> (l_ref and w)", "w and l and w_ref and l_ref"] {
        let formula: Formula = text.parse().unwrap();
        let count = log_wmc(&formula, &log_probs).unwrap().exp();
        assert_close(
            text,
            &(&count + log_wmc(&!formula.clone(), &log_probs).unwrap().exp()),
            &count.ones_like(),
            1e-12,
        );
        let polynomial = Polynomial::of_worlds(formula.truth_table(4).unwrap());
        for r in 0..9 {
            let p = Vec::<f64>::try_from(log_probs.get(r).exp()).unwrap();
            assert!((count.double_value(&[r]) - polynomial.value(&p).unwrap()).abs() < 1e-14);
        }
    }
    assert_eq!(log_wmc(&Formula::Top, &log_probs).unwrap(), Tensor::zeros([9], F64));
    // Without constraint and additive condition, the negative logarithm of the core's probability: the semantic loss.
    for marks in landscape(2).unwrap().filter(|m| !m.is_degenerate() && m.losing() == !m.winning()) {
        let (structure, two) = (marks.structure(), log_probs.narrow(1, 0, 2));
        let want = -log_wmc(structure.core(), &two).unwrap();
        assert_close("semantic loss", &compiled(&marks.to_string()).forward(&two).unwrap(), &want, 1e-12);
    }
}
