//! Questions with answers as tokens, and what a model makes of them.

use autodidact_core::error::check_range;
use autodidact_core::nn::Gpt;
use autodidact_core::text::{pad_responses, response_log_probs};
use autodidact_core::{Error, Result};
use std::ops::Range;
use tch::{Device, Kind, Tensor};

/// Questions that are looked at in one forward pass.
const AT_ONCE: usize = 128;

/// A question and an answer in tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuestionAnswer {
    /// What is given, up to where the answer begins.
    pub question: Vec<i64>,
    /// The answer with its end.
    pub answer: Vec<i64>,
    /// The tokens of the answer that matter (a name, a year); `None`: all of them.
    pub value: Option<Range<usize>>,
}

impl QuestionAnswer {
    /// A question whose whole answer matters.
    pub fn new(question: Vec<i64>, answer: Vec<i64>) -> Self {
        Self { question, answer, value: None }
    }

    /// The same, where of the answer only the place matters at which `value` stands first; all of it, where it stands nowhere.
    pub fn with_value(mut self, value: &[i64]) -> Self {
        let at = (!value.is_empty()).then(|| self.answer.windows(value.len()).position(|w| w == value)).flatten();
        self.value = at.map(|from| from..from + value.len());
        self
    }

    /// Question and answer.
    pub fn parts(&self) -> (&[i64], &[i64]) {
        (&self.question, &self.answer)
    }

    pub(super) fn check(&self) -> Result<()> {
        check_range("tokens of a question", self.question.len() as f64, 1.0..)?;
        check_range("tokens of an answer", self.answer.len() as f64, 1.0..)?;
        let value = self.value.clone().unwrap_or(0..self.answer.len());
        if value.is_empty() || value.end > self.answer.len() {
            let expected = format!("a part of the answer's {} tokens", self.answer.len());
            return Err(Error::value("value of an answer", expected, format!("{value:?}")));
        }
        Ok(())
    }
}

/// The log-probability of every token of answers, given their questions and what is before in the answer; without gradients. Answers
/// longer than others are no matter: each has as many values as tokens.
///
/// # Errors
/// A question or an answer without tokens, tokens that the model does not have, sequences beyond its context.
pub fn answer_log_probs(model: &Gpt, questions: &[(&[i64], &[i64])]) -> Result<Vec<Vec<f64>>> {
    let mut all = Vec::with_capacity(questions.len());
    for part in questions.chunks(AT_ONCE) {
        for (question, answer) in part {
            check_range("tokens of a question", question.len() as f64, 1.0..)?;
            check_range("tokens of an answer", answer.len() as f64, 1.0..)?;
        }
        let (tokens, mask) = pad_responses(part.iter().copied(), 0, model.head().device())?;
        let log_p = tch::no_grad(|| response_log_probs(model, &tokens, &mask))?;
        let width = tokens.size()[1] as usize;
        let log_p: Vec<f64> = log_p.to_kind(Kind::Double).to_device(Device::Cpu).reshape([-1]).try_into()?;
        let rows = part.iter().zip(log_p.chunks(width));
        all.extend(rows.map(|((question, answer), row)| row[question.len()..][..answer.len()].to_vec()));
    }
    Ok(all)
}

/// Share of questions whose value is known: each of its tokens is the most probable one, given the true tokens before it.
///
/// # Errors
/// No questions, and as [`answer_log_probs`]; a value outside its answer.
pub fn value_accuracy(model: &Gpt, questions: &[QuestionAnswer]) -> Result<f64> {
    let known = knows(model, questions)?;
    Ok(known.iter().filter(|k| **k).count() as f64 / known.len() as f64)
}

/// Of which questions the value is known, as [`value_accuracy`] counts.
///
/// # Errors
/// As [`value_accuracy`].
pub fn knows(model: &Gpt, questions: &[QuestionAnswer]) -> Result<Vec<bool>> {
    check_range("questions", questions.len() as f64, 1.0..)?;
    questions.iter().try_for_each(QuestionAnswer::check)?;
    let mut all = Vec::with_capacity(questions.len());
    for part in questions.chunks(AT_ONCE) {
        // The prompt of a value is everything before it.
        let parts = part.iter().map(|e| {
            let value = e.value.clone().unwrap_or(0..e.answer.len());
            ([&e.question[..], &e.answer[..value.start]].concat(), e.answer[value].to_vec())
        });
        let parts: Vec<(Vec<i64>, Vec<i64>)> = parts.collect();
        let (tokens, mask) = pad_responses(parts.iter().map(|(q, v)| (&q[..], &v[..])), 0, model.head().device())?;
        let length = tokens.size()[1] - 1;
        let right = tch::no_grad(|| -> Result<Tensor> {
            let hidden = model.hidden(&tokens.narrow(1, 0, length), None)?;
            let places = mask.narrow(1, 1, length).reshape([-1]).nonzero().squeeze_dim(1);
            let chosen = model.project(&hidden.flatten(0, 1).index_select(0, &places)).argmax(1, false);
            Ok(chosen.eq_tensor(&tokens.narrow(1, 1, length).reshape([-1]).index_select(0, &places)))
        })?;
        let mut right = Vec::<bool>::try_from(right.to_device(Device::Cpu))?.into_iter();
        // `all` would stop at the first wrong token and leave the rest of the row to the next one.
        all.extend(parts.iter().map(|(_, v)| right.by_ref().take(v.len()).filter(|r| !r).count() == 0));
    }
    Ok(all)
}
