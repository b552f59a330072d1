//! Every method against PyTorch on a tiny GPT-2; rules of stopping, what is known, bad input.

use autodidact_core::error::Error;
use autodidact_core::nn::{Gpt, GptConfig};
use autodidact_core::schedule::{Schedule, Shape};
use autodidact_core::testing::fixture;
use autodidact_core::{hub, landscape};
use autodidact_unlearning::flat::{FDivergence, Flat};
use autodidact_unlearning::unlearner::*;
use std::path::PathBuf;
use tch::{Device, Kind, nn::VarStore};

fn place(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/unlearner").join(name)
}

/// What the golden values were computed on.
fn material() -> UnlearnData {
    let exchange = |q: &[i64], a: &[i64]| QuestionAnswer::new(q.to_vec(), a.to_vec());
    UnlearnData {
        forget: vec![
            exchange(&[3, 4, 5], &[6, 7, 8, 1]),
            exchange(&[9, 4], &[10, 1]),
            exchange(&[3, 11, 12, 13], &[14, 15, 1]),
        ],
        templates: vec![vec![2, 16, 1]],
        unrelated: vec![vec![17, 18, 19, 20, 1]],
        retain: vec![exchange(&[21, 5], &[22, 23, 1])],
    }
}

fn model() -> (VarStore, Gpt) {
    hub::load_as(place("model"), Device::Cpu, Kind::Double).unwrap()
}

fn config(lr: f64) -> UnlearnConfig {
    UnlearnConfig::new(Schedule::new(lr, 5, Shape::Constant), 0)
}

const KL: Method = Method::Flat(Flat {
    divergence: FDivergence::Kl,
    normalization: autodidact_unlearning::flat::Normalisation::AnswerTokens,
    averaging: autodidact_unlearning::flat::Averaging::PerSample,
});

#[test]
fn losses_of_every_method_are_those_of_pytorch_step_by_step() {
    let golden = fixture(place("golden.safetensors"));
    let (_frozen, reference) = hub::load_as(place("reference"), Device::Cpu, Kind::Double).unwrap();
    let material = material();
    let flat = |divergence| Method::Flat(Flat::new(divergence));
    let beta = 0.1;
    let methods = [
        ("flat_tv", flat(FDivergence::TotalVariation)),
        ("flat_kl", flat(FDivergence::Kl)),
        ("flat_js", flat(FDivergence::JensenShannon)),
        ("flat_pearson", flat(FDivergence::Pearson)),
        ("flat_reverse_kl", flat(FDivergence::ReverseKl)),
        ("flat_hellinger", flat(FDivergence::SquaredHellinger)),
        ("flat_neyman", flat(FDivergence::Neyman)),
        ("forgetting_kl", Method::FlatWithoutTemplates(Flat::new(FDivergence::Kl))),
        ("ga", Method::GradientAscent),
        ("npo", Method::Npo { beta }),
        ("dpo", Method::Dpo { beta }),
        ("templates", Method::Templates),
        ("gd", Method::GradientDifference),
        ("kl", Method::KlToReference),
        ("po", Method::PreferenceOptimization),
        ("npo_retain", Method::NpoRetain { beta }),
        ("llmu", Method::Llmu),
        ("mismatch", Method::Mismatch),
        ("fine_tuning", Method::FineTuning),
    ];
    assert_eq!(methods.len(), golden.len());
    for (name, method) in methods {
        let (vs, model) = model();
        let reference = method.needs_reference().then_some(&reference);
        let mut unlearner = Unlearner::new(method, &vs, &model, reference, &material, config(3e-3)).unwrap();
        let mut losses = vec![];
        let outcome = unlearner
            .run(Stop::Epochs(5), |p| {
                losses.push(p.loss);
                Ok(())
            })
            .unwrap();
        assert_eq!(outcome, Outcome { steps: 5, met: true });
        for (i, (got, want)) in losses.iter().zip(Vec::<f64>::try_from(&golden[name]).unwrap()).enumerate() {
            assert!((got - want).abs() < 1e-7, "{name}, step {i}: {got} for {want}");
        }
    }
}

#[test]
fn only_some_methods_need_more_than_what_is_to_be_forgotten() {
    assert!(!KL.needs_reference() && !KL.needs_retain() && KL.needs_templates());
    let (vs, model) = model();
    let bare = UnlearnData { forget: material().forget, ..UnlearnData::default() };
    let said = |method: Method| match Unlearner::new(method, &vs, &model, None, &bare, config(1e-3)) {
        Err(Error::Value { what, .. }) => what,
        _ => "nothing".into(),
    };
    assert_eq!(said(Method::GradientAscent), "nothing");
    assert_eq!(said(KL), "templates");
    assert_eq!(said(Method::GradientDifference), "retained questions");
    assert_eq!(said(Method::Mismatch), "unrelated answers");
    assert_eq!(said(Method::Npo { beta: 0.1 }), "reference");
}

#[test]
fn parts_of_a_batch_give_the_gradient_of_the_whole() {
    let material = material();
    let after = |micro_batch: usize| {
        let (vs, model) = model();
        let config = UnlearnConfig { micro_batch, ..config(1e-2) };
        let mut unlearner = Unlearner::new(KL, &vs, &model, None, &material, config).unwrap();
        let loss = unlearner.step().unwrap().double_value(&[]);
        let _second = unlearner.step().unwrap();
        (loss, landscape::state_dict(&vs))
    };
    let (whole, parts) = (after(3), after(2));
    assert!((whole.0 - parts.0).abs() < 1e-12);
    for (name, w) in &whole.1 {
        assert!((w - &parts.1[name]).abs().max().double_value(&[]) < 1e-9, "{name}");
    }
}

#[test]
fn what_is_known_is_what_is_most_probable_at_the_value() {
    let (_vs, model) = model();
    let exchanges = material().forget;
    for (e, log_p) in exchanges
        .iter()
        .zip(answer_log_probs(&model, &exchanges.iter().map(QuestionAnswer::parts).collect::<Vec<_>>()).unwrap())
    {
        let all = [&e.question[..], &e.answer].concat();
        let logits = model.logits(&tch::Tensor::from_slice(&all).unsqueeze(0), None).unwrap().squeeze_dim(0);
        let p = logits.log_softmax(1, None::<Kind>);
        let mut right = vec![];
        for (i, token) in e.answer.iter().enumerate() {
            let at = (e.question.len() + i - 1) as i64;
            assert!((log_p[i] - p.double_value(&[at, *token])).abs() < 1e-10);
            right.push(p.get(at).argmax(0, false).int64_value(&[]));
        }
        // An answer of what is most probable (given the true tokens before) is known where they agree.
        for (i, best) in right.iter().enumerate() {
            let value = QuestionAnswer { value: Some(i..i + 1), ..e.clone() };
            assert_eq!(value_accuracy(&model, &[value]).unwrap(), f64::from(u8::from(*best == e.answer[i])));
        }
    }
    // Only all tokens together count, and rows do not mix.
    let best = |question: &[i64]| {
        let tokens = tch::Tensor::from_slice(question).unsqueeze(0);
        model.logits(&tokens, None).unwrap().get(0).get(-1).argmax(0, false).int64_value(&[])
    };
    let (a, b) = (best(&[3, 4, 5]), best(&[9, 4]));
    let half = QuestionAnswer::new(vec![3, 4, 5], vec![a, (best(&[3, 4, 5, a]) + 1) % 24]);
    let whole = QuestionAnswer::new(vec![9, 4], vec![b, best(&[9, 4, b])]);
    assert_eq!(knows(&model, &[half.clone(), whole.clone(), half.clone()]).unwrap(), [false, true, false]);
    let first = QuestionAnswer { value: Some(0..1), ..half };
    assert_eq!(value_accuracy(&model, &[first, whole]).unwrap(), 1.0);
    let named = QuestionAnswer::new(vec![1], vec![5, 6, 7, 6, 1]);
    assert_eq!(named.clone().with_value(&[6, 1]).value, Some(3..5));
    assert_eq!(named.clone().with_value(&[6]).value, Some(1..2));
    assert_eq!((named.clone().with_value(&[9]).value, named.with_value(&[]).value), (None, None));
}

#[test]
fn it_stops_by_its_rule_and_goes_on_when_asked() {
    let vs = VarStore::new(Device::Cpu);
    tch::manual_seed(1);
    let model = Gpt::new(vs.root(), &GptConfig::gpt2(24, 16, 16, 1, 2)).unwrap();
    let material = material();
    let learning = |steps| {
        let config = UnlearnConfig { batch: 2, ..config(1e-2) };
        let mut unlearner = Unlearner::new(Method::FineTuning, &vs, &model, None, &material, config).unwrap();
        assert_eq!(unlearner.steps_per_epoch(), 2);
        unlearner.run(Stop::Epochs(steps), |_| Ok(())).unwrap()
    };
    assert_eq!(learning(40), Outcome { steps: 80, met: true });
    assert_eq!(value_accuracy(&model, &material.forget).unwrap(), 1.0);

    let mut unlearner = Unlearner::new(KL, &vs, &model, None, &material, config(1e-2)).unwrap();
    let rule = |at_most, max_steps| Stop::ForgetAccuracy { at_most, max_steps };
    assert_eq!(unlearner.run(rule(1.0, 5), |_| Ok(())).unwrap(), Outcome { steps: 0, met: true });
    assert_eq!(unlearner.run(rule(0.0, 1), |_| Ok(())).unwrap(), Outcome { steps: 1, met: false });
    let mut last = 1.0;
    let outcome = unlearner
        .run(rule(0.4, 100), |p| {
            assert!(last > 0.4, "it should have stopped");
            last = p.forget_accuracy.unwrap();
            Ok(())
        })
        .unwrap();
    assert!(outcome.met && outcome.steps > 1 && last <= 0.4);
    let further = unlearner
        .run(Stop::Steps(3), |p| {
            assert!(p.forget_accuracy.is_none());
            Ok(())
        })
        .unwrap();
    assert_eq!(further.steps, outcome.steps + 3);
    assert!(unlearner.run(rule(1.5, 1), |_| Ok(())).is_err());
    let failed = unlearner.run(Stop::Steps(2), |_| Err(Error::Failed("enough".into())));
    assert_eq!(failed.unwrap_err().to_string(), "enough");
}

#[test]
fn a_loss_that_is_no_number_ends_the_run() {
    let (vs, model) = model();
    let material = material();
    let schedule = Schedule::new(1e200, 5, Shape::Constant);
    let config = UnlearnConfig { clip_norm: None, ..UnlearnConfig::new(schedule, 0) };
    let mut unlearner = Unlearner::new(Method::GradientAscent, &vs, &model, None, &material, config).unwrap();
    assert!(matches!(unlearner.run(Stop::Steps(5), |_| Ok(())), Err(Error::Diverged { .. })));
}

#[test]
fn bad_settings_are_refused() {
    let (vs, model) = model();
    let refused = |material: &UnlearnData, config: UnlearnConfig| {
        Unlearner::new(KL, &vs, &model, None, material, config).err().unwrap().to_string()
    };
    let good = material();
    assert!(refused(&good, UnlearnConfig { batch: 0, ..config(1e-3) }).starts_with("batch: "));
    assert!(refused(&good, UnlearnConfig { micro_batch: 0, ..config(1e-3) }).starts_with("micro-batch: "));
    assert!(refused(&good, UnlearnConfig { weight_decay: -1.0, ..config(1e-3) }).starts_with("weight decay: "));
    assert!(refused(&good, UnlearnConfig { clip_norm: Some(0.0), ..config(1e-3) }).starts_with("clip_norm: "));
    let with = |e: QuestionAnswer| UnlearnData { forget: vec![e], ..material() };
    assert!(refused(&with(QuestionAnswer::new(vec![], vec![1])), config(1e-3)).starts_with("tokens of a question"));
    assert!(refused(&with(QuestionAnswer::new(vec![1], vec![])), config(1e-3)).starts_with("tokens of an answer"));
    let beyond = QuestionAnswer { value: Some(1..3), ..QuestionAnswer::new(vec![1], vec![2, 3]) };
    assert!(refused(&with(beyond), config(1e-3)).starts_with("value of an answer"));
    let empty = UnlearnData { templates: vec![vec![]], ..material() };
    assert!(refused(&empty, config(1e-3)).starts_with("templates and unrelated answers"));
    assert!(value_accuracy(&model, &[]).is_err());
    assert!(answer_log_probs(&model, &[(&[], &[1])]).is_err());
}
