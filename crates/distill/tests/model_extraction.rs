//! Model extraction: worked examples, the losses and recommenders of PyTorch, counted queries, generation, metrics, bad input.

use autodidact_core::device::Precision;
use autodidact_core::testing::{assert_close, check_gradient, fixture};
use autodidact_distill::model_extraction::{
    Architecture, BlackBox, Extraction, Fitting, Follow, Generator, InteractionSampler, Recommender, RecommenderConfig,
    SynthesisSignal, agreement_at, bidirectional_repair_loss, exact_match_at, extract, fit, list_ranking_loss, lists,
    recall_ndcg, sample_negatives, sequence_statistics,
};
use std::collections::BTreeMap;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

const ALL: [Architecture; 4] =
    [Architecture::SasRec, Architecture::Bert4Rec, Architecture::Gru4Rec, Architecture::Narm];
const INT: (Kind, Device) = (Kind::Int64, Device::Cpu);

fn golden() -> BTreeMap<String, Tensor> {
    fixture(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/model_extraction.safetensors"))
}

fn value(x: &Tensor) -> f64 {
    x.double_value(&[])
}

fn row(items: &[i64]) -> Tensor {
    Tensor::from_slice(items).unsqueeze(0)
}

#[test]
fn losses_of_the_worked_examples() {
    let (list, negatives) = (row(&[1, 2]), row(&[3, 4]));
    let loss =
        |s: [f64; 4]| value(&list_ranking_loss(&Tensor::from_slice2(&[s]), &list, &negatives, 0.5, 0.5).unwrap());
    assert_eq!(loss([3.0, 1.0, 2.0, 0.0]), 0.0);
    assert_eq!(loss([1.0, 1.0, 2.0, 0.0]), 1.25);

    let s = Tensor::from_slice2(&[[3f64, 1.0, 2.0, 0.0]]).set_requires_grad(true);
    let repair = bidirectional_repair_loss(&s, &list, 2, 0.5).unwrap();
    assert_eq!(value(&repair.loss), 1.5);
    repair.loss.backward();
    assert_eq!(s.grad(), Tensor::from_slice2(&[[0f64, -1.0, 1.0, 0.0]]));
    let marks = |t: &Tensor| Vec::<bool>::try_from(t.view([-1])).unwrap();
    assert_eq!((marks(&repair.missed), marks(&repair.intruders)), (vec![false, true], vec![false, true]));
    assert_eq!(repair.top, row(&[1, 3]));
    // The same items in another order: nothing to repair, and no gradient.
    let s = s.detach().set_requires_grad(true);
    let same = bidirectional_repair_loss(&s, &row(&[3, 1]), 2, 0.5).unwrap();
    same.loss.backward();
    assert_eq!((value(&same.loss), s.grad()), (0.0, s.zeros_like()));
}

#[test]
fn losses_and_gradients_equal_the_definitions() {
    let g = golden();
    let (lists, negatives) = (&g["lists"], &g["negatives"]);
    let ranking = |s: &Tensor| list_ranking_loss(s, lists, negatives, 0.5, 0.7).unwrap();
    let repair = |s: &Tensor| bidirectional_repair_loss(s, lists, 3, 0.7).unwrap().loss;
    for (name, loss) in [("ranking", &ranking as &dyn Fn(&Tensor) -> Tensor), ("repair", &repair)] {
        let s = g["scores"].copy().set_requires_grad(true);
        let l = loss(&s);
        assert_close(name, &l, &g[name], 1e-12);
        l.backward();
        assert_close(name, &s.grad(), &g[&format!("{name}.grad")], 1e-12);
        check_gradient(&g["scores"], 1e-6, loss);
        let narrow = g["scores"].to_kind(Kind::Float);
        let inside = Precision::Bf16.run(Device::Cpu, || Ok(loss(&narrow))).unwrap();
        assert_close(name, &inside, &g[name], 1e-6);
    }
}

#[test]
fn negatives_are_uniform_outside_of_the_list() {
    tch::manual_seed(0);
    let lists = Tensor::from_slice2(&[[5i64, 1, 6], [2, 4, 3]]);
    let drawn = sample_negatives(&lists, 6, 30_000).unwrap();
    for (r, outside) in [[2i64, 3, 4], [1, 5, 6]].iter().enumerate() {
        let counts = drawn.get(r as i64).bincount::<Tensor>(None, 7);
        for item in 0..7 {
            let share = counts.double_value(&[item]) / 30_000.0;
            let want = if outside.contains(&item) { 1.0 / 3.0 } else { 0.0 };
            assert!((share - want).abs() < 0.012, "item {item} of row {r}: {share}");
            assert!(want > 0.0 || share == 0.0);
        }
    }
}

/// A recommender with the fixture's weights.
fn known(architecture: Architecture, g: &BTreeMap<String, Tensor>) -> (VarStore, Box<dyn Recommender>) {
    let vs = VarStore::new(Device::Cpu);
    let config = RecommenderConfig { width: 4, blocks: 1, ..RecommenderConfig::new(7, 6) };
    let model = architecture.build(&vs.root(), &config).unwrap();
    let prefix = format!("{architecture:?}").to_lowercase();
    for (name, mut v) in vs.variables() {
        tch::no_grad(|| v.copy_(&g[&format!("{prefix}.{name}")]));
    }
    (vs, model)
}

#[test]
fn recommenders_equal_pytorchs_layers() {
    let g = golden();
    let (sequences, lengths) = (&g["sequences"], &g["lengths"]);
    for (name, architecture) in [("sasrec", Architecture::SasRec), ("narm", Architecture::Narm)] {
        let (_vs, model) = known(architecture, &g);
        let scores = model.prefix_scores(sequences, false).unwrap();
        assert_close(name, &scores, &g[&format!("{name}.scores")], 1e-5);
        let last = model.scores(sequences, lengths, false).unwrap();
        let want = Tensor::stack(&[scores.get(0).get(4), scores.get(1).get(2)], 0);
        assert_close(name, &last, &want, 1e-6);
    }
    let (_vs, model) = known(Architecture::Bert4Rec, &g);
    let last = model.scores(sequences, lengths, false).unwrap();
    assert_close("bert4rec", &last, &g["bert4rec.scores"], 1e-5);
    let all = model.prefix_scores(sequences, false).unwrap();
    assert_close("its prefixes", &Tensor::stack(&[all.get(0).get(4), all.get(1).get(2)], 0), &last, 1e-5);
}

fn small(architecture: Architecture, items: i64) -> (VarStore, Box<dyn Recommender>) {
    let vs = VarStore::new(Device::Cpu);
    tch::manual_seed(1);
    let config = RecommenderConfig { width: 16, blocks: 1, ..RecommenderConfig::new(items, 8) };
    let model = architecture.build(&vs.root(), &config).unwrap();
    (vs, model)
}

#[test]
fn later_items_and_padding_change_nothing_before_them() {
    for architecture in ALL {
        let (_vs, model) = small(architecture, 9);
        let scores = |items: &[i64]| model.prefix_scores(&row(items), false).unwrap();
        let (a, b) = (scores(&[1, 2, 3, 4, 5]), scores(&[1, 2, 3, 9, 0]));
        assert_close("prefixes", &a.narrow(1, 0, 3), &b.narrow(1, 0, 3), 1e-4);
        assert!((a.narrow(1, 3, 1) - b.narrow(1, 3, 1)).abs().max().double_value(&[]) > 1e-6, "{architecture:?}");
    }
}

#[test]
fn every_recommender_learns_a_cycle() {
    // Seven in a row of 1 2 3 ... 9 1 2 ...
    let sequences = (Tensor::arange(7, INT) + Tensor::arange(9, INT).unsqueeze(1)).remainder(9) + 1;
    let next = sequences.select(1, 6);
    for architecture in ALL {
        let (vs, model) = small(architecture, 9);
        // Of a cloze, few items are targets.
        let steps = if architecture == Architecture::Bert4Rec { 500 } else { 150 };
        let fitting = Fitting { steps, batch: 12, lr: 5e-3, ..Fitting::default() };
        fit(&vs, model.as_ref(), &sequences, None, &fitting, 0).unwrap();
        let scores = model.scores(&sequences, &Tensor::full([9], 6, INT), false).unwrap();
        let (recall, ndcg) = recall_ndcg(&scores, &next, 1, None).unwrap();
        assert_eq!((recall, ndcg), (1.0, 1.0), "{architecture:?}");
    }
}

#[test]
fn the_best_weights_on_held_out_sequences_are_kept() {
    let (vs, model) = small(Architecture::Gru4Rec, 6);
    let (learned, other) = (row(&[1, 2, 3, 4, 5, 6]), row(&[6, 5, 4, 3, 2, 1]));
    let fitting = Fitting { steps: 60, batch: 4, lr: 1e-2, ..Fitting::default() };
    fit(&vs, model.as_ref(), &learned, Some(&other), &fitting, 0).unwrap();
    let loss = |model: &dyn Recommender| {
        let scores = model.prefix_scores(&other.narrow(1, 0, 5), false).unwrap().view([5, 6]);
        value(&scores.cross_entropy_for_logits(&(other.narrow(1, 1, 5) - 1).view([-1])))
    };
    let kept = loss(model.as_ref());
    // What is learned is wrong for the others: in the end they are worse off than anywhere before.
    let (vs, model) = small(Architecture::Gru4Rec, 6);
    fit(&vs, model.as_ref(), &learned, None, &fitting, 0).unwrap();
    assert!(loss(model.as_ref()) > kept + 1.0, "{} {kept}", loss(model.as_ref()));
    assert!(kept < 6f64.ln() + 0.1, "{kept}");
}

#[test]
fn the_black_box_counts_and_keeps_to_its_budget() {
    let (_vs, model) = small(Architecture::SasRec, 9);
    let victim = BlackBox::new(model.as_ref(), 4).unwrap().with_budget(10);
    let sequences = Tensor::from_slice2(&[[1i64, 2, 3, 4], [5, 6, 0, 0]]);
    let labelled = victim.label(&sequences).unwrap();
    assert_eq!((victim.queries(), labelled.lists.size()), (6, vec![2, 4, 4]));
    assert_eq!(value(&labelled.lists.get(1).narrow(0, 2, 2).sum(Kind::Int64)), 0.0);
    let list = victim.top_k(&sequences, &Tensor::from_slice(&[4i64, 2])).unwrap();
    assert_eq!(victim.queries(), 8);
    assert_eq!((list.get(0), list.get(1)), (labelled.lists.get(0).get(3), labelled.lists.get(1).get(1)));
    let e = victim.label(&sequences).unwrap_err().to_string();
    assert!(e.contains("budget of 10") && e.contains("14"), "{e}");
    assert_eq!(victim.queries(), 8);
    // The list is the victim's, best first.
    let scores = model.scores(&sequences, &Tensor::from_slice(&[4i64, 2]), false).unwrap();
    assert_eq!(list.narrow(1, 0, 1).squeeze_dim(1), scores.argmax(1, false) + 1);
}

#[test]
fn generated_sequences_follow_the_list_or_not() {
    let (_vs, model) = small(Architecture::SasRec, 30);
    let starts = Tensor::arange(30, INT) + 1;
    let inside = |follow| {
        let victim = BlackBox::new(model.as_ref(), 3).unwrap();
        let made = Generator { sampler: None, follow }.generate(&victim, &starts, 6, 0).unwrap();
        assert_eq!((victim.queries(), made.sequences.size(), made.lists.size()), (180, vec![30, 6], vec![30, 6, 3]));
        assert_eq!(made.sequences.select(1, 0), starts);
        assert!(made.sequences.min().int64_value(&[]) >= 1 && made.sequences.max().int64_value(&[]) <= 30);
        let next = made.sequences.narrow(1, 1, 5).unsqueeze(2);
        let hit = made.lists.narrow(1, 0, 5).eq_tensor(&next).any_dim(2, false);
        value(&hit.to_kind(Kind::Double).mean(Kind::Double))
    };
    assert_eq!(inside(Follow::Always), 1.0);
    // By chance 3 of 30.
    let never = inside(Follow::Never);
    assert!(never < 0.25, "{never}");
}

#[test]
fn sampler_and_signal_learn_from_the_known_histories() {
    // Histories go up by one; the victim's lists hold the next item for small items only.
    let histories = Tensor::stack(&(0..20).map(|i| Tensor::arange(6, INT) + 1 + i % 7).collect::<Vec<_>>(), 0);
    let config = RecommenderConfig {
        width: 16,
        blocks: 1,
        dropout: 0.0,
        attention_dropout: 0.0,
        ..RecommenderConfig::new(12, 8)
    };
    let fitting = Fitting { steps: 120, batch: 16, lr: 1e-2, ..Fitting::default() };
    let sampler = InteractionSampler::fit(&histories, &config, &fitting, 0).unwrap();
    let p = sampler.probabilities(&row(&[3, 4]));
    assert!((value(&p.sum(Kind::Double)) - 1.0).abs() < 1e-5 && p.double_value(&[0, 4]) > 0.8, "{p}");
    let lists = (&histories + 1).unsqueeze(2);
    let helpful = histories.lt(6).unsqueeze(2);
    let lists = lists.where_self(&helpful, &Tensor::full([1], 12, INT));
    let known = autodidact_distill::model_extraction::Labelled { sequences: histories, lists };
    let signal = SynthesisSignal::fit(&sampler, &known, &Fitting { steps: 200, lr: 5e-2, ..fitting }, 0).unwrap();
    let z = |items: &[i64]| value(&signal.probability(&sampler, &row(items)).squeeze());
    assert!(z(&[2, 3]) > 0.8 && z(&[7, 8]) < 0.2, "{} {}", z(&[2, 3]), z(&[7, 8]));
}

#[test]
fn a_surrogate_comes_to_agree_and_a_copy_agrees_entirely() {
    let (victim_vs, victim) = small(Architecture::SasRec, 12);
    let sequences = Tensor::randint(12, [40, 6], INT) + 1;
    // A victim with clear preferences.
    let cycle = (Tensor::arange(6, INT) + Tensor::arange(12, INT).unsqueeze(1)).remainder(12) + 1;
    fit(
        &victim_vs,
        victim.as_ref(),
        &cycle,
        None,
        &Fitting { steps: 150, batch: 12, lr: 1e-2, ..Fitting::default() },
        0,
    )
    .unwrap();
    let lengths = Tensor::full([40], 6, INT);
    let truth = lists(victim.as_ref(), &sequences, &lengths, 12).unwrap();
    let same = lists(victim.as_ref(), &sequences, &lengths, 12).unwrap();
    assert_eq!((agreement_at(&truth, &same, 3).unwrap(), exact_match_at(&truth, &same, 12).unwrap()), (1.0, 1.0));

    let black_box = BlackBox::new(victim.as_ref(), 6).unwrap();
    let known = black_box.label(&sequences).unwrap();
    let (vs, surrogate) = small(Architecture::Narm, 12);
    let before = lists(surrogate.as_ref(), &sequences, &lengths, 3).unwrap();
    let fitting = Fitting { steps: 200, batch: 20, lr: 1e-2, ..Fitting::default() };
    let config = Extraction { fitting, top: 3, repair: 0.2, ..Extraction::default() };
    let missed = extract(&vs, surrogate.as_ref(), &known, &config, 0).unwrap();
    let after = lists(surrogate.as_ref(), &sequences, &lengths, 3).unwrap();
    let (before, after) = (agreement_at(&truth, &before, 3).unwrap(), agreement_at(&truth, &after, 3).unwrap());
    assert!(after > 0.8 && after > before + 0.2, "{before} {after}");
    assert_eq!(missed.len(), 200);
    assert!(missed[190..].iter().sum::<f64>() < 0.7 * missed[..10].iter().sum::<f64>());
    let silent = extract(&vs, surrogate.as_ref(), &known, &Extraction { repair: 0.0, ..config }, 0).unwrap();
    assert!(silent.is_empty());
}

#[test]
fn metrics_of_worked_examples() {
    let (a, b) = (row(&[1, 2, 3]), row(&[3, 4, 1]));
    assert!((agreement_at(&a, &b, 3).unwrap() - 2.0 / 3.0).abs() < 1e-12);
    assert_eq!((agreement_at(&a, &b, 1).unwrap(), exact_match_at(&a, &b, 3).unwrap()), (0.0, 0.0));
    // Item 2 is third of all, first among items 2 and 4.
    let scores = Tensor::from_slice2(&[[5f64, 3.0, 4.0, 1.0]]);
    let target = Tensor::from_slice(&[2i64]);
    assert_eq!(recall_ndcg(&scores, &target, 3, None).unwrap(), (1.0, 0.5));
    assert_eq!(recall_ndcg(&scores, &target, 2, None).unwrap(), (0.0, 0.0));
    assert_eq!(recall_ndcg(&scores, &target, 1, Some(&row(&[4]))).unwrap(), (1.0, 1.0));

    let raw = vec![vec![1, 2, 1, 2], vec![3, 1, 0]];
    let same = sequence_statistics(&raw, &raw, 3, Some(&[0, 0, 1])).unwrap();
    assert_eq!((same.frequency_kl, same.bigram_coverage), (0.0, 1.0));
    // Runs: 1 2 1 2 | 3 | 1: six items in three runs.
    assert_eq!(same.genre_run, 2.0);
    // 1 2 occurs twice among four pairs. Counts with a half each: raw 3.5, 2.5, 1.5 of 7.5; made 1.5, 1.5, 0.5 of 3.5.
    let made = sequence_statistics(&[vec![1, 2]], &raw, 3, None).unwrap();
    assert_eq!(made.bigram_coverage, 0.5);
    let kl: f64 =
        [(3.5f64, 1.5), (2.5, 1.5), (1.5, 0.5)].iter().map(|(p, q)| p / 7.5 * (p / 7.5 / (q / 3.5)).ln()).sum();
    assert!((made.frequency_kl - kl).abs() < 1e-12 && made.genre_run.is_nan());
}

#[test]
fn bad_input_is_an_error() {
    let (vs, model) = small(Architecture::SasRec, 9);
    let says = |e: autodidact_core::Error, what: &str| assert!(e.to_string().contains(what), "{e}");
    says(model.prefix_scores(&row(&[1, 10]), false).unwrap_err(), "from 1 to 9");
    says(model.prefix_scores(&Tensor::ones([1, 9], INT), false).unwrap_err(), "context of 8");
    says(model.scores(&row(&[1, 2]), &Tensor::from_slice(&[3i64]), false).unwrap_err(), "from 1 to 2");
    says(BlackBox::new(model.as_ref(), 10).unwrap_err(), "list length");
    says(fit(&vs, model.as_ref(), &row(&[1]), None, &Fitting::default(), 0).unwrap_err(), "two or more items");
    let config = RecommenderConfig { heads: 3, ..RecommenderConfig::new(9, 8) };
    for architecture in ALL {
        says(architecture.build(&vs.root(), &config).unwrap_err(), "divisor of width 64");
    }
    let scores = Tensor::zeros([1, 4], (Kind::Float, Device::Cpu));
    let list = row(&[1, 2]);
    says(list_ranking_loss(&scores, &row(&[1, 5]), &list, 0.5, 0.5).unwrap_err(), "from 1 to 4");
    says(list_ranking_loss(&scores, &list, &row(&[3]), 0.5, 0.5).unwrap_err(), "[1, 2]");
    says(list_ranking_loss(&scores, &list, &list, -0.5, 0.5).unwrap_err(), "m1");
    says(bidirectional_repair_loss(&scores, &list, 3, 0.5).unwrap_err(), "c:");
    says(sample_negatives(&list, 2, 1).unwrap_err(), "outside the lists");
    says(agreement_at(&list, &list, 3).unwrap_err(), "at least 3");
    says(sequence_statistics(&[vec![1]], &[vec![1, 2]], 3, None).unwrap_err(), "two or more items");
    says(sequence_statistics(&[vec![1, 4]], &[vec![1, 2]], 3, None).unwrap_err(), "from 1 to 3");
    let known = BlackBox::new(model.as_ref(), 4).unwrap().label(&row(&[1, 2])).unwrap();
    says(extract(&vs, model.as_ref(), &known, &Extraction::default(), 0).unwrap_err(), "at least 10");
    let lazy = Fitting { steps: 0, ..Fitting::default() };
    let config = Extraction { top: 2, fitting: lazy, ..Extraction::default() };
    says(extract(&vs, model.as_ref(), &known, &config, 0).unwrap_err(), "steps");
    says(
        InteractionSampler::fit(&row(&[1, 2]), &RecommenderConfig::new(9, 8), &Fitting::default(), 0).unwrap_err(),
        "known histories",
    );
}
