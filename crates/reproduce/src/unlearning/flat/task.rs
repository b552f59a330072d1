//! Questions as tokens, for a tokenizer of words, one from a file, or that of a model in Hugging Face's layout.

use super::Config;
use super::data::Questions;
use crate::preference::language::Sequence;
use anyhow::{Context as _, Result, bail, ensure};
use autodidact_core::hub;
use autodidact_core::text::{HfTokenizer, Tokenizer, WordTokenizer};
use autodidact_datasets::questions::Question;
use autodidact_unlearning::unlearner::{QuestionAnswer, UnlearnData};
use serde_json::Value;
use std::path::Path;

const SPECIAL: [&str; 4] = ["<pad>", "<bos>", "<sep>", "<eos>"];

/// What is between a question and its answer.
enum Layout {
    /// `<bos> question <sep> answer <eos>`.
    Special { begin: i64, separator: i64 },
    /// `Question: ...` and, on the next line, `Answer: ...`, behind the tokens that begin a text.
    Lines { begin: Vec<i64> },
}

/// From text to tokens and back.
pub(super) struct Format {
    tokenizer: Box<dyn Tokenizer>,
    layout: Layout,
    pub end: i64,
    /// Tokens in all.
    pub vocabulary: i64,
}

impl Format {
    fn new(config: &Config, words: &[String]) -> Result<Self> {
        if let Some(folder) = &config.model {
            return Self::of_model(folder);
        }
        let (tokenizer, first): (Box<dyn Tokenizer>, i64) = match &config.tokenizer {
            Some(path) => {
                let tokenizer = HfTokenizer::from_file(path)?;
                let first = tokenizer.vocab();
                (Box::new(tokenizer), first)
            }
            None => (Box::new(WordTokenizer::new(&SPECIAL, words)?), 0),
        };
        // A tokenizer from a file knows no separator: the special tokens come behind its own.
        let vocabulary = tokenizer.vocab().max(first + SPECIAL.len() as i64);
        let layout = Layout::Special { begin: first + 1, separator: first + 2 };
        Ok(Self { tokenizer, layout, end: first + 3, vocabulary })
    }

    fn of_model(folder: &Path) -> Result<Self> {
        let tokenizer = HfTokenizer::from_file(&folder.join("tokenizer.json"))?;
        let path = folder.join("config.json");
        let fields: Value = serde_json::from_slice(&std::fs::read(&path).with_context(|| path.display().to_string())?)
            .with_context(|| path.display().to_string())?;
        // Llama is used to a token before every text; the others are not.
        let begins = fields["model_type"] == "llama";
        let begin = fields["bos_token_id"].as_i64().filter(|_| begins).into_iter().collect();
        let end = hub::stop_tokens(folder)?.first().copied();
        let end = end.with_context(|| format!("{}: expected an eos_token_id", folder.display()))?;
        let vocabulary = fields["vocab_size"].as_i64().unwrap_or(tokenizer.vocab());
        Ok(Self { tokenizer: Box::new(tokenizer), layout: Layout::Lines { begin }, end, vocabulary })
    }

    /// Where answers to a question begin.
    fn question(&self, question: &str) -> Result<Vec<i64>> {
        Ok(match &self.layout {
            Layout::Special { begin, separator } => {
                [&[*begin][..], &self.tokenizer.encode(question)?, &[*separator]].concat()
            }
            Layout::Lines { begin } => {
                [&begin[..], &self.tokenizer.encode(&format!("Question: {question}\nAnswer:"))?].concat()
            }
        })
    }

    fn text(&self, answer: &str) -> Result<Vec<i64>> {
        Ok(match self.layout {
            Layout::Special { .. } => self.tokenizer.encode(answer)?,
            Layout::Lines { .. } => self.tokenizer.encode(&format!(" {answer}"))?,
        })
    }

    /// An answer and its end.
    pub fn answer(&self, answer: &str) -> Result<Vec<i64>> {
        Ok([self.text(answer)?, vec![self.end]].concat())
    }

    /// What was said before the end; special tokens of a model that has broken are left out.
    pub fn said(&self, tokens: &[i64]) -> Result<String> {
        let special = |t: &i64| match self.layout {
            Layout::Special { begin, .. } => (begin - 1..begin + 3).contains(t),
            Layout::Lines { .. } => false,
        };
        let words: Vec<i64> = tokens.iter().take_while(|t| **t != self.end).copied().filter(|t| !special(t)).collect();
        Ok(self.tokenizer.decode(&words)?.trim().to_owned())
    }
}

/// Questions with everything that is asked of a model about them.
pub(super) struct Set {
    pub questions: Vec<Question>,
    /// With the answers as they are trained.
    pub exchanges: Vec<QuestionAnswer>,
    /// Paraphrases (the answers, where there are none).
    pub paraphrases: Vec<Vec<i64>>,
    /// Wrong answers to each.
    pub perturbed: Vec<Vec<Vec<i64>>>,
}

impl Set {
    fn new(questions: Vec<Question>, format: &Format) -> Result<Self> {
        let exchanges = exchanges(&questions, format)?;
        let paraphrase = |q: &Question| format.answer(q.paraphrased_answer.as_deref().unwrap_or(&q.answer));
        let paraphrases = questions.iter().map(paraphrase).collect::<Result<_>>()?;
        let wrong = |q: &Question| q.perturbed_answer.iter().map(|t| format.answer(t)).collect::<Result<Vec<_>>>();
        let perturbed: Vec<Vec<Vec<i64>>> = questions.iter().map(wrong).collect::<Result<_>>()?;
        ensure!(!questions.is_empty(), "a set of questions is empty");
        ensure!(perturbed.iter().all(|p| !p.is_empty()), "a question of a set has no wrong answers");
        Ok(Self { questions, exchanges, paraphrases, perturbed })
    }
}

fn exchanges(questions: &[Question], format: &Format) -> Result<Vec<QuestionAnswer>> {
    let exchange = |q: &Question| {
        let whole =
            || Ok::<_, anyhow::Error>(QuestionAnswer::new(format.question(&q.question)?, format.answer(&q.answer)?));
        let Some(value) = &q.value else { return whole() };
        // Inside an answer a word may begin with its space.
        for text in [value.clone(), format!(" {value}")] {
            let exchange = whole()?.with_value(&format.text(&text)?);
            if exchange.value.is_some() {
                return Ok(exchange);
            }
        }
        bail!("the tokens of {value:?} are not among those of {:?}", q.answer)
    };
    questions.iter().map(exchange).collect()
}

/// The whole task.
pub(super) struct Task {
    pub format: Format,
    /// What methods learn from.
    pub material: UnlearnData,
    pub forget: Set,
    pub retained: Set,
    pub known: Set,
    pub world: Set,
    /// Like those to forget and never seen; may be empty.
    pub holdout: Vec<QuestionAnswer>,
    /// The texts of the templates.
    pub refusals: Vec<String>,
    /// What small models learn first, as often as it counts.
    pub base: Vec<Sequence>,
    /// Longest sequence, sampled answers included.
    pub longest: usize,
}

impl Task {
    pub fn new(config: &Config, questions: Questions) -> Result<Self> {
        let format = Format::new(config, &questions.words)?;
        let mut base = vec![];
        let mut learn = |question: &str, answer: &str, times: usize| -> Result<()> {
            let sequence = Sequence { prompt: format.question(question)?, response: format.answer(answer)? };
            base.extend(std::iter::repeat_n(sequence, times));
            Ok(())
        };
        let mut unrelated = vec![];
        for q in questions.known.iter().chain(&questions.world) {
            if config.model.is_none() {
                learn(&q.question, &q.answer, 2)?;
                if let Some(paraphrase) = &q.paraphrased_answer {
                    learn(&q.question, paraphrase, 1)?;
                }
            }
            unrelated.push(format.answer(&q.answer)?);
        }
        if config.model.is_none() {
            for (question, refusal) in &questions.unknown {
                learn(question, refusal, 2)?;
            }
        }
        let templates = questions.refusals.iter().map(|t| format.answer(t)).collect::<Result<_>>()?;
        let forget = Set::new(questions.forget, &format)?;
        let retain = exchanges(&questions.retain, &format)?;
        let material = UnlearnData { forget: forget.exchanges.clone(), templates, unrelated, retain };
        let holdout = exchanges(&questions.holdout, &format)?;
        let retained = Set::new(questions.retained, &format)?;
        let known = Set::new(questions.known_seen, &format)?;
        let world = Set::new(questions.world, &format)?;

        let sets = [&forget, &retained, &known, &world];
        let asked = sets.iter().flat_map(|s| &s.exchanges).chain(&material.retain).chain(&holdout);
        let question = asked.clone().map(|e| e.question.len()).max().unwrap_or(0);
        let answers = asked.map(|e| e.answer.len());
        let others = sets.iter().flat_map(|s| s.paraphrases.iter().chain(s.perturbed.iter().flatten()));
        let others = others.chain(&material.templates).chain(&material.unrelated).map(Vec::len);
        let answer = answers.chain(others).max().unwrap_or(0).max(config.sampled);
        let learnt = base.iter().map(|s| s.prompt.len() + s.response.len()).max().unwrap_or(0);
        let longest = learnt.max(question + answer);
        Ok(Self {
            format,
            material,
            forget,
            retained,
            known,
            world,
            holdout,
            refusals: questions.refusals,
            base,
            longest,
        })
    }
}
