//! Key content against examples computed by hand; the degree loss at its start, against finite differences and with bad input.

use autodidact_core::testing::{assert_close, check_gradient};
use autodidact_preference::losses::dpo;
use autodidact_preference::preference_degree::{
    DegreeHead, Phrase, degree_loss, grades, key_words, last_states, monotonicity, ordinal_degree_loss, rake,
    rake_text, remove_top, with_degree,
};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

const STOP: [i64; 6] = [0, 1, 2, 25, 33, 34];
const WORDS: [i64; 7] = [0, 9, 17, 25, 1, 18, 33];

fn stops(word: &i64) -> bool {
    STOP.contains(word)
}

fn phrase(places: &[(usize, usize)], score: f64) -> Phrase {
    Phrase { places: places.iter().map(|&(from, to)| from..to).collect(), score }
}

#[test]
fn phrases_are_runs_between_stop_words_with_sums_of_degree_over_frequency() {
    let phrases = rake(&WORDS, stops);
    let expected = [phrase(&[(1, 3)], 4.0), phrase(&[(5, 6)], 1.0)];
    assert_eq!(phrases, expected);
    // A word alone and in a pair: degree 1 + 2, frequency 2; its partner 2.
    let phrases = rake(&[9, 0, 9, 17], stops);
    assert_eq!(phrases[0], phrase(&[(2, 4)], 3.5));
    assert_eq!(phrases[1], phrase(&[(0, 1)], 1.5));
    // The same phrase twice is one, with two places.
    let phrases = rake(&[9, 17, 0, 9, 17], stops);
    assert_eq!(phrases, [phrase(&[(0, 2), (3, 5)], 4.0)]);
    assert!(rake(&[0, 1], stops).is_empty() && rake::<i64>(&[], stops).is_empty());
}

#[test]
fn texts_separate_at_punctuation_and_keep_their_places() {
    let text = "Über-Graphen, directed Graphs; the directed graphs of Nets.";
    let phrases = rake_text(text, |w| ["the", "of"].contains(&w));
    let at = |p: &Phrase| p.places.iter().map(|r| &text[r.clone()]).collect::<Vec<_>>();
    assert_eq!(at(&phrases[0]), ["directed Graphs", "directed graphs"]);
    assert_eq!(phrases[0].score, 4.0);
    assert_eq!(at(&phrases[1]), ["Über-Graphen"]);
    assert_eq!(at(&phrases[2]), ["Nets"]);
    assert_eq!(phrases.len(), 3);
    // A dash on its own is no word.
    assert_eq!(at(&rake_text(text, |w| w == "the")[0]).len(), 1);
    assert_eq!(rake_text("linear - constraints", |_| false).len(), 2);
}

#[test]
fn removal_goes_by_score_and_keeps_the_order() {
    let phrases = rake(&WORDS, stops);
    assert_eq!(remove_top(&WORDS, &phrases, 0), WORDS);
    // ceil(1/3 * 2) = 1 phrase, ceil(2/3 * 2) = 2: of four degrees the last two would be the same.
    assert_eq!(remove_top(&WORDS, &phrases, 1), [0, 25, 1, 18, 33]);
    assert_eq!(grades(&WORDS, &phrases, 4), None);
    assert_eq!(grades(&WORDS, &phrases, 3).unwrap()[2], [0, 25, 1, 33]);
    // Words of phrases one by one: three of them make four degrees.
    let words = key_words(&phrases);
    assert_eq!(words.iter().map(|w| w.places[0].start).collect::<Vec<_>>(), [1, 2, 5]);
    assert_eq!(words.iter().map(|w| w.score).collect::<Vec<_>>(), [4.0, 4.0, 1.0]);
    assert_eq!(grades(&WORDS, &words, 4).unwrap()[1], [0, 17, 25, 1, 18, 33]);
    // Nothing may be left with nothing, and one degree is none.
    assert_eq!(grades(&[9, 17], &key_words(&rake(&[9, 17], stops)), 3), None);
    assert_eq!(grades(&WORDS, &words, 1), None);
}

#[test]
fn a_new_head_knows_nothing_and_asks_nothing() {
    let vs = VarStore::new(Device::Cpu);
    let head = DegreeHead::new(vs.root(), 6, 4).unwrap();
    tch::manual_seed(1);
    let states = Tensor::randn([5, 6], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    let degrees = Tensor::from_slice(&[0i64, 1, 2, 3, 0]);
    let loss = degree_loss(&head.forward(&states).unwrap(), &degrees).unwrap();
    assert_close("loss", &loss, &Tensor::full([5], 4f64.ln(), (Kind::Float, Device::Cpu)), 1e-6);
    loss.mean(Kind::Float).backward();
    assert_eq!(states.grad().abs().max().double_value(&[]), 0.0);
    assert!(vs.variables()["degree.weight"].grad().abs().max().double_value(&[]) > 0.0);
    // Expected share 1/2 at the start: (1/2 - d/3)^2.
    let ordinal = ordinal_degree_loss(&head.forward(&states).unwrap(), &degrees).unwrap();
    let sixth = 1.0 / 36.0;
    assert_close(
        "ordinal loss",
        &ordinal,
        &Tensor::from_slice(&[0.25, sixth, sixth, 0.25, 0.25]).to_kind(Kind::Float),
        1e-6,
    );
}

#[test]
fn gradients_are_those_of_the_values() {
    tch::manual_seed(2);
    let logits = Tensor::randn([4, 3], (Kind::Double, Device::Cpu));
    let degrees = Tensor::from_slice(&[2i64, 0, 1, 1]);
    check_gradient(&logits, 1e-6, |x| degree_loss(x, &degrees).unwrap().sum(Kind::Double));
    check_gradient(&logits, 1e-6, |x| ordinal_degree_loss(x, &degrees).unwrap().sum(Kind::Double));
}

#[test]
fn states_are_taken_at_the_last_token_and_not_at_padding() {
    let hidden = Tensor::arange(12, (Kind::Float, Device::Cpu)).view([2, 3, 2]);
    let mask = Tensor::from_slice2(&[[true, true, false], [true, true, true]]);
    let last = last_states(&hidden, &mask).unwrap();
    assert_eq!(Vec::<Vec<f64>>::try_from(last.to_kind(Kind::Double)).unwrap(), [[2.0, 3.0], [10.0, 11.0]]);
    assert!(last_states(&hidden, &mask.narrow(1, 0, 2)).is_err());
    assert!(last_states(&hidden, &mask.to_kind(Kind::Int64)).is_err());
    assert!(last_states(&mask, &mask).is_err());
}

#[test]
fn without_weight_the_loss_is_the_preference_loss() {
    let preference = dpo(&Tensor::from_slice(&[1.2, -0.3]), 0.1).unwrap().mean(Kind::Double);
    let degree = Tensor::from(1.3862944f64);
    let value = |gamma| with_degree(&preference, &degree, gamma).unwrap().double_value(&[]);
    assert_eq!(value(0.0), preference.double_value(&[]));
    assert!((value(0.1) - preference.double_value(&[]) - 0.13862944).abs() < 1e-12);
    assert!(with_degree(&preference, &degree, -0.1).is_err());
    assert!(with_degree(&Tensor::zeros([2], (Kind::Float, Device::Cpu)), &degree, 0.1).is_err());
}

#[test]
fn monotone_are_rewards_that_fall_with_every_degree() {
    assert_eq!(
        monotonicity(&[vec![1.0, 0.5, 0.2], vec![1.0, 0.5, 0.5], vec![0.0, 1.0, 2.0], vec![3.0, 1.0, -9.0]]),
        0.5
    );
    assert_eq!(monotonicity(&[]), 0.0);
}

#[test]
fn bad_input_is_an_error() {
    let vs = VarStore::new(Device::Cpu);
    assert!(DegreeHead::new(vs.root(), 0, 4).is_err());
    assert!(DegreeHead::new(vs.root(), 4, 1).is_err());
    let head = DegreeHead::new(vs.root(), 4, 3).unwrap();
    assert!(head.forward(&Tensor::zeros([2, 5], (Kind::Float, Device::Cpu))).is_err());
    let logits = head.forward(&Tensor::zeros([2, 4], (Kind::Float, Device::Cpu))).unwrap();
    assert!(degree_loss(&logits, &Tensor::from_slice(&[0i64])).is_err());
    assert!(degree_loss(&logits, &Tensor::from_slice(&[0.0, 1.0])).is_err());
    assert!(degree_loss(&logits, &Tensor::from_slice(&[0i64, 3])).is_err());
    assert!(ordinal_degree_loss(&logits.view([-1]), &Tensor::from_slice(&[0i64, 1])).is_err());
}
