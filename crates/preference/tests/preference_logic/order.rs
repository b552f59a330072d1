//! The landscape of losses and its order.

use super::*;

#[test]
fn the_landscape_has_the_papers_size() {
    let all: Vec<Marks> = landscape(2).unwrap().collect();
    let count = |keep: &dyn Fn(&Marks) -> bool| all.iter().filter(|m| keep(m)).count();
    assert_eq!(all.len(), 256);
    assert_eq!(all.iter().collect::<std::collections::HashSet<_>>().len(), 256);
    assert_eq!(count(&|m| !m.has_additive()), 81);
    assert_eq!(count(&|m| m.consistent()), 16);
    assert_eq!(count(&|m| m.consistent() && !m.has_additive()), 9);
    assert!(all.iter().all(|m| !m.consistent() || m.monotone()));
    assert_eq!(count(&|m| !m.is_degenerate()), 225);
    let distinct = |m: &Marks| !m.is_degenerate() && m.winning() != m.losing();
    assert_eq!(count(&distinct), 210);
    assert_eq!(count(&|m| distinct(m) && m.monotone()), 52);
    assert_eq!(landscape(1).unwrap().count(), 16);
    assert_eq!(landscape(3).unwrap().size_hint().0, 65_536);
    let mut four = landscape(4).unwrap();
    assert_eq!(four.size_hint().0, 1 << 32);
    let some = four.nth(3_000_000_001).unwrap();
    assert_eq!(some.to_string().parse::<Marks>().unwrap(), some);
    assert!(landscape(0).is_err() && landscape(5).is_err());
}

#[test]
fn every_loss_survives_the_way_through_its_program() {
    tch::manual_seed(1);
    let log_probs = random(50, 2);
    for marks in proper(2) {
        let structure = marks.structure();
        let (above, below) = structure.ratio();
        assert_eq!(decompile(&above, &below).unwrap().marks(), marks);
        // The formulas say what the marks say.
        let [p, c, a] = [structure.core(), structure.cond(), structure.add()].map(Clone::clone);
        let again = PreferenceStructure::new(p, c, a, 2).unwrap();
        assert_eq!(again.marks(), marks);
        assert_eq!(PreferenceStructure::from_marks(&marks.to_string()).unwrap(), structure);
        // The printed ratio is the loss.
        let text = [marks.winning(), marks.losing()].map(|t| Polynomial::parse(&t.model_count(&PAIR), &PAIR).unwrap());
        assert_eq!(text, [above.clone(), below.clone()]);
        let rho = compiled(&marks.to_string()).rho(&log_probs).unwrap();
        for r in 0..50 {
            let p = Vec::<f64>::try_from(log_probs.get(r).exp()).unwrap();
            let direct = (above.value(&p).unwrap() / below.value(&p).unwrap()).ln();
            assert!((rho.double_value(&[r]) - direct).abs() < 1e-12 * direct.abs().max(1.0));
        }
    }
}

#[test]
fn monotone_is_what_a_grid_of_derivatives_says() {
    let g = golden();
    let check = |marks: Vec<String>, want: &Tensor| {
        let want = Vec::<u8>::try_from(want).unwrap();
        for (marks, want) in marks.iter().zip(want) {
            assert_eq!(marks.parse::<Marks>().unwrap().monotone(), want == 1, "{marks}");
        }
    };
    check(lines(&g["two.marks"]), &g["two.monotone"]);
    check(lines(&g["three_monotone.marks"]), &g["three_monotone"]);
    // With a reference, monotone structures stay so, in the reference the other way round.
    for marks in landscape(2).unwrap().filter(|m| m.consistent()) {
        let relative = marks.with_reference().unwrap();
        assert!(relative.consistent() && relative.monotone(), "{marks}");
    }
}

#[test]
fn stronger_structures_have_larger_losses_everywhere() {
    tch::manual_seed(2);
    let log_probs = random(60, 2);
    let all = proper(2);
    let rhos: Vec<Tensor> = all.iter().map(|m| compiled(&m.to_string()).rho(&log_probs).unwrap()).collect();
    let rhos = Tensor::stack(&rhos, 0);
    let mut pairs = 0;
    for (i, a) in all.iter().enumerate() {
        let below: Vec<i64> = (0..all.len()).filter(|&j| j != i && a.stronger_than(all[j])).map(|j| j as i64).collect();
        pairs += below.len();
        if !below.is_empty() {
            let gap = rhos.index_select(0, &Tensor::from_slice(&below)) - rhos.get(i as i64);
            assert!(gap.min().double_value(&[]) > -1e-12, "{a}");
        }
    }
    // (3^4 - 2^4)^2 pairs of non-empty subsets and supersets, less the 225 of a structure with itself.
    assert_eq!(pairs, 4000);
    let stronger = |a: &str, b: &str| named(a).structure.stronger_than(&named(b).structure);
    for (a, b) in [
        ("CEunl", "CPO"),
        ("CEunl", "ORPO"),
        ("CPO", "cCPO"),
        ("cCPO", "sCPO"),
        ("ORPO", "cCPO"),
        ("ORPO", "cfUNL"),
        ("cfUNL", "sCPO"),
        ("cUNL", "CPO"),
        ("cUNL", "ORPO"),
        ("fUNL", "cfUNL"),
        ("CE", "cCPO"),
    ] {
        assert!(stronger(a, b) && !stronger(b, a), "{a} => {b}");
    }
    assert!(!stronger("CPO", "ORPO") && !stronger("ORPO", "CPO"));
    let consistent: Vec<_> = landscape(2).unwrap().filter(|m| m.consistent()).collect();
    let [first, last] = ["CEunl", "sCPO"].map(|name| named(name).structure.marks());
    assert!(consistent.iter().all(|&m| first.stronger_than(m) && m.stronger_than(last)));
}

#[test]
fn the_lattice_has_the_edges_that_nothing_lies_between() {
    let structures: Vec<_> = landscape(2).unwrap().filter(|m| m.consistent()).map(Marks::structure).collect();
    let order = lattice(&structures);
    // Two rows, each with the marks in the order - => *, . => +: the square of a square, 4 * 4 nodes and 2 * 4 * 4 edges.
    assert_eq!(order.edges.len(), 32);
    assert_eq!(*order.heights.iter().max().unwrap(), 4);
    let reaches = |from: usize, to: usize| {
        let mut open = vec![from];
        while let Some(i) = open.pop() {
            if i == to {
                return true;
            }
            open.extend(order.edges.iter().filter(|(a, _)| *a == i).map(|&(_, b)| b));
        }
        false
    };
    for (i, a) in structures.iter().enumerate() {
        for (j, b) in structures.iter().enumerate() {
            assert_eq!(reaches(i, j), a.stronger_than(b));
        }
    }
    let three: Vec<_> = ["CPO", "cCPO", "SLiC", "sCPO"].map(|name| named(name).structure).into();
    let names = ["CPO", "c\"CPO", "SLiC", "sCPO"];
    let order = lattice(&three);
    assert_eq!((order.edges.as_slice(), order.same_as.as_slice()), (&[(0, 1), (1, 3)][..], &[0, 1, 0, 3][..]));
    assert_eq!(order.heights, [2, 1, 2, 0]);
    assert_eq!(order.to_text(&names).unwrap(), "2 CPO = SLiC => c\"CPO\n1 c\"CPO => sCPO\n0 sCPO\n");
    let dot = order.to_dot(&names).unwrap();
    assert!(
        dot.contains("n0 [label=\"CPO = SLiC\"];\n") && dot.contains("label=\"c\\\"CPO\"") && dot.contains("n1 -> n3;")
    );
    assert!(order.to_dot(&names[..2]).is_err());
    assert!(lattice(&[]).edges.is_empty());
}
