//! Unlearns facts from a tiny language model with FLAT, which sees nothing of what it is to keep.
//!
//! `cargo run --release -p autodidact-unlearning --example unlearn_facts`
//!
//! A small decoder learns what twelve invented authors did, then forgets the last of them, whose questions are to be answered by a refusal.
//! What it tells of that author and of the others is printed on the way, and what it says to a question about each.

use anyhow::{Context, Result};
use autodidact_core::nn::{Gpt, GptConfig};
use autodidact_core::schedule::{Schedule, Shape};
use autodidact_core::text::{Sampler, SamplerConfig, Tokenizer, WordTokenizer};
use autodidact_datasets::questions::Question;
use autodidact_datasets::synthetic::{FictitiousAuthors, REFUSALS};
use autodidact_unlearning::flat::{FDivergence, Flat};
use autodidact_unlearning::unlearner::{
    Method, QuestionAnswer, Stop, UnlearnConfig, UnlearnData, Unlearner, value_accuracy,
};
use tch::{Device, Tensor, nn::VarStore};

fn main() -> Result<()> {
    let facts = FictitiousAuthors { authors: 12, known: 0, world: 0, unknown: 20, seed: 1 }.generate()?;
    let words = WordTokenizer::new(&["<pad>", "<sep>", "<eos>"], facts.words())?;
    let token = |t: &str| words.token(t).context("a special token");
    let (separator, end) = (token("<sep>")?, token("<eos>")?);
    let asked = |q: &str| -> Result<Vec<i64>> { Ok([words.encode(q)?, vec![separator]].concat()) };
    let answered = |a: &str| -> Result<Vec<i64>> { Ok([words.encode(a)?, vec![end]].concat()) };
    let exchange = |q: &Question| -> Result<QuestionAnswer> {
        let value = words.encode(q.value.as_deref().unwrap_or_default())?;
        Ok(QuestionAnswer::new(asked(&q.question)?, answered(&q.answer)?).with_value(&value))
    };
    let (retained, forgotten) = facts.split(1)?;
    let retain: Vec<QuestionAnswer> = retained.iter().map(exchange).collect::<Result<_>>()?;
    let forget: Vec<QuestionAnswer> = forgotten.iter().map(exchange).collect::<Result<_>>()?;
    let templates: Vec<Vec<i64>> = REFUSALS.iter().map(|r| answered(r)).collect::<Result<_>>()?;

    tch::manual_seed(0);
    let vs = VarStore::new(Device::Cpu);
    let model = Gpt::new(vs.root(), &GptConfig::gpt2(words.vocab(), 40, 64, 2, 4))?;
    // All authors, and how to refuse: templates must not be impossible to the model.
    let refused = facts.unknown.iter().map(|(q, a)| Ok(QuestionAnswer::new(asked(q)?, answered(a)?)));
    let all = UnlearnData {
        forget: retain.iter().chain(&forget).cloned().map(Ok).chain(refused).collect::<Result<_>>()?,
        ..UnlearnData::default()
    };
    let schedule = Schedule::new(3e-3, 400, Shape::cosine_to(0.1)).warmup(20);
    let mut learning = Unlearner::new(Method::FineTuning, &vs, &model, None, &all, UnlearnConfig::new(schedule, 0))?;
    learning.run(Stop::Steps(400), |_| Ok(()))?;

    let say = |q: &QuestionAnswer| -> Result<String> {
        let sampler = Sampler::new(
            &model,
            SamplerConfig { max_new: 16, temperature: 0.0, stop: vec![end], padding: end, ..Default::default() },
        )?;
        let tokens = sampler.sample(&Tensor::from_slice(&q.question).unsqueeze(0))?;
        let tokens: Vec<i64> = Vec::try_from(tokens.get(0))?;
        Ok(words.decode(&tokens.into_iter().take_while(|t| *t != end).collect::<Vec<_>>())?)
    };
    // What greedy answers tell: a refusal tells nothing, whatever the model could be made to say.
    let told = |questions: &[Question], exchanges: &[QuestionAnswer]| -> Result<f64> {
        let mut count = 0;
        for (q, e) in questions.iter().zip(exchanges) {
            // Whole words: a value is no part of another.
            let value = q.value.as_deref().context("a fact without a value")?;
            count += usize::from(format!(" {} ", say(e)?).contains(&format!(" {value} ")));
        }
        Ok(100.0 * count as f64 / questions.len() as f64)
    };
    let report = |step: usize| -> Result<()> {
        let (f, r) = (told(forgotten, &forget)?, told(retained, &retain)?);
        let known = 100.0 * value_accuracy(&model, &forget)?;
        println!(
            "step {step:2}: told of the forgotten author {f:3.0} % (known {known:3.0} %), of the others {r:3.0} %"
        );
        Ok(())
    };
    report(0)?;
    let task = UnlearnData { forget: forget.clone(), templates, ..UnlearnData::default() };
    let config = UnlearnConfig::new(Schedule::new(3e-4, 100, Shape::Constant).warmup(3), 0);
    let method = Method::Flat(Flat::new(FDivergence::Kl));
    let mut unlearner = Unlearner::new(method, &vs, &model, None, &task, config)?;
    for _ in 0..20 {
        let outcome = unlearner.run(Stop::ForgetAccuracy { at_most: 0.1, max_steps: 5 }, |_| Ok(()))?;
        report(outcome.steps)?;
        if outcome.met {
            break;
        }
    }
    for (question, e) in [(&forgotten[0], &forget[0]), (&retained[0], &retain[0])] {
        println!("{}\n  {}", question.question, say(e)?);
    }
    Ok(())
}
