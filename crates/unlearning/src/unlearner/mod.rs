//! Unlearning a language model: any [`Method`] of the family, with one optimizer, one order of the data and one rule of stopping, so
//! that methods can be compared.
//!
//! ```
//! use autodidact_core::nn::{Gpt, GptConfig};
//! use autodidact_core::schedule::{Schedule, Shape};
//! use autodidact_unlearning::flat::{FDivergence, Flat};
//! use autodidact_unlearning::unlearner::{
//!     Method, QuestionAnswer, Stop, UnlearnConfig, UnlearnData, Unlearner, value_accuracy,
//! };
//! use tch::{Device, nn::VarStore};
//! tch::manual_seed(0);
//! let vs = VarStore::new(Device::Cpu);
//! let model = Gpt::new(vs.root(), &GptConfig::gpt2(8, 8, 32, 1, 2))?;
//! let config = || UnlearnConfig::new(Schedule::new(1e-2, 100, Shape::Constant), 0);
//!
//! // It learns that 1 is answered by 2, and 3 by 4 (0 ends an answer) ...
//! let fact = |question, answer| QuestionAnswer::new(vec![question], vec![answer, 0]);
//! let facts = UnlearnData { forget: vec![fact(1, 2), fact(3, 4)], ..UnlearnData::default() };
//! Unlearner::new(Method::FineTuning, &vs, &model, None, &facts, config())?.run(Stop::Epochs(40), |_| Ok(()))?;
//! assert_eq!(value_accuracy(&model, &facts.forget)?, 1.0);
//!
//! // ... and forgets the one, which is to be answered by 7.
//! let task = UnlearnData { forget: vec![fact(1, 2)], templates: vec![vec![7, 0]], ..UnlearnData::default() };
//! let method = Method::Flat(Flat::new(FDivergence::Kl));
//! let stop = Stop::ForgetAccuracy { at_most: 0.1, max_steps: 50 };
//! let outcome = Unlearner::new(method, &vs, &model, None, &task, config())?.run(stop, |_| Ok(()))?;
//! assert!(outcome.met && value_accuracy(&model, &task.forget)? == 0.0);
//! # Ok::<(), autodidact_core::Error>(())
//! ```

mod method;
mod question_answer;

pub use method::Method;
pub use question_answer::{QuestionAnswer, answer_log_probs, knows, value_accuracy};

use autodidact_core::device::Precision;
use autodidact_core::error::check_range;
use autodidact_core::nn::Gpt;
use autodidact_core::optim::{Adam, Group, Optimizer, Rule};
use autodidact_core::schedule::Schedule;
use autodidact_core::{Error, Result, seed};
use method::Batch;
use rand::RngExt as _;
use rand::seq::SliceRandom;
use tch::{Kind, Tensor, nn::VarStore};

/// What a method may learn from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnlearnData {
    /// What is to be forgotten.
    pub forget: Vec<QuestionAnswer>,
    /// Answers that may be given instead, with their ends; one is drawn for each question at each step.
    pub templates: Vec<Vec<i64>>,
    /// Answers to other questions, drawn likewise.
    pub unrelated: Vec<Vec<i64>>,
    /// What is to be kept; one is drawn for each question to forget at each step.
    pub retain: Vec<QuestionAnswer>,
}

/// How an [`Unlearner`] runs.
#[derive(Debug, Clone)]
pub struct UnlearnConfig {
    /// Questions to forget in a step.
    pub batch: usize,
    /// Most of them in one forward and backward pass; the gradients of a step's passes are averaged.
    pub micro_batch: usize,
    /// Learning rate by step. A [`Stop`] decides how many there are.
    pub schedule: Schedule,
    /// AdamW's.
    pub weight_decay: f64,
    /// Largest joint gradient norm.
    pub clip_norm: Option<f64>,
    /// Arithmetic of the forward passes.
    pub precision: Precision,
    /// Order of the data and everything that is drawn: the same for methods that are compared.
    pub seed: u64,
}

impl UnlearnConfig {
    /// Batches of 32 in one pass, weight decay 0.01, gradients clipped to norm 1, in 32 bits: as published but for the arithmetic.
    pub fn new(schedule: Schedule, seed: u64) -> Self {
        Self {
            batch: 32,
            micro_batch: usize::MAX,
            schedule,
            weight_decay: 0.01,
            clip_norm: Some(1.0),
            precision: Precision::F32,
            seed,
        }
    }
}

/// When to stop. Counted from the call of [`Unlearner::run`], which can be called again to go on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Stop {
    /// After so many steps.
    Steps(usize),
    /// After so many passes over what is to be forgotten.
    Epochs(usize),
    /// As soon as [`value_accuracy`] on what is to be forgotten is small enough.
    ForgetAccuracy {
        /// Largest share that may still be known.
        at_most: f64,
        /// Steps after which it stops all the same.
        max_steps: usize,
    },
}

/// What an observer of [`Unlearner::run`] sees after a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Steps done since the unlearner was made.
    pub done: usize,
    /// The step's loss, before its update.
    pub loss: f64,
    /// What of the answers to forget is still known, if the rule of stopping asks for it.
    pub forget_accuracy: Option<f64>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// Steps done since the unlearner was made.
    pub steps: usize,
    /// Whether it stopped by its rule, and not because the most steps were done.
    pub met: bool,
}

/// A language model on its way to forget.
pub struct Unlearner<'a> {
    method: Method,
    model: &'a Gpt,
    reference: Option<&'a Gpt>,
    data: &'a UnlearnData,
    config: UnlearnConfig,
    optimizer: Optimizer,
    done: usize,
    /// The epoch asked for last, and its order.
    order: (usize, Vec<usize>),
}

impl<'a> Unlearner<'a> {
    /// Trains the variables of `vs`, which are the model's (or its adapters'). The reference is a second model with the weights at the
    /// start; only methods that [need it](Method::needs_reference) take one, FLAT does not.
    ///
    /// # Errors
    /// Settings out of range, data or a reference that the method needs and that is not there, questions without tokens.
    pub fn new(
        method: Method,
        vs: &VarStore,
        model: &'a Gpt,
        reference: Option<&'a Gpt>,
        data: &'a UnlearnData,
        config: UnlearnConfig,
    ) -> Result<Self> {
        check_range("batch", config.batch as f64, 1.0..)?;
        check_range("micro-batch", config.micro_batch as f64, 1.0..)?;
        check_range("weight decay", config.weight_decay, 0.0..)?;
        if let Some(norm) = config.clip_norm {
            check_range("clip_norm", norm, f64::MIN_POSITIVE..)?;
        }
        config.schedule.check()?;
        let UnlearnData { forget, templates, unrelated, retain } = data;
        for (what, needed, there) in [
            ("questions to forget", true, forget.len()),
            ("templates", method.needs_templates(), templates.len()),
            ("unrelated answers", method.needs_unrelated(), unrelated.len()),
            ("retained questions", method.needs_retain(), retain.len()),
            ("reference", method.needs_reference(), usize::from(reference.is_some())),
        ] {
            if needed && there == 0 {
                return Err(Error::value(what, format!("one at least for {method:?}"), "none"));
            }
        }
        forget.iter().chain(retain).try_for_each(QuestionAnswer::check)?;
        if templates.iter().chain(unrelated).any(Vec::is_empty) {
            return Err(Error::value("templates and unrelated answers", "a token at least each", "one without"));
        }
        let optimizer = Optimizer::new(Rule::AdamW(Adam::default()), vec![Group::all(vs, config.weight_decay)])?;
        let mut unlearner = Self { method, model, reference, data, config, optimizer, done: 0, order: (0, vec![]) };
        unlearner.order.1 = unlearner.permutation(0);
        Ok(unlearner)
    }

    /// Steps of a pass over what is to be forgotten; its last batch may be smaller.
    pub fn steps_per_epoch(&self) -> usize {
        self.data.forget.len().div_ceil(self.config.batch)
    }

    /// One step; its loss (mean over the passes), a scalar without gradient.
    ///
    /// # Errors
    /// Those of the model and of the method.
    pub fn step(&mut self) -> Result<Tensor> {
        let rows = self.batch();
        let count = rows.len();
        let mut rng = seed::rng(self.config.seed, &["drawn", &self.done.to_string()]);
        self.optimizer.zero_grad();
        let mut total: Option<Tensor> = None;
        for part in rows.chunks(self.config.micro_batch.min(count)) {
            let batch = self.draw(part, &mut rng);
            let device = self.model.head().device();
            let loss = self.config.precision.run(device, || self.method.loss(self.model, self.reference, &batch))?;
            let loss = loss * (part.len() as f64 / count as f64);
            loss.f_backward()?;
            let loss = loss.detach();
            total = Some(total.map_or_else(|| loss.shallow_clone(), |t| t + &loss));
        }
        if let Some(norm) = self.config.clip_norm {
            let _norm = self.optimizer.clip_grad_norm(norm)?;
        }
        self.optimizer.step(self.config.schedule.lr(self.done))?;
        self.done += 1;
        Ok(total.unwrap_or_else(|| Tensor::from(0f32)))
    }

    /// Steps until the rule says stop. The observer sees every step; its errors end the run.
    ///
    /// # Errors
    /// Those of [`step`](Self::step) and of the observer, a loss that is not finite, a share outside `[0, 1]`.
    pub fn run(&mut self, stop: Stop, mut observe: impl FnMut(Progress) -> Result<()>) -> Result<Outcome> {
        let (most, at_most) = match stop {
            Stop::Steps(steps) => (steps, None),
            Stop::Epochs(epochs) => (epochs.saturating_mul(self.steps_per_epoch()), None),
            Stop::ForgetAccuracy { at_most, max_steps } => {
                check_range("share that may be known", at_most, 0.0..=1.0)?;
                (max_steps, Some(at_most))
            }
        };
        let (model, forget) = (self.model, &self.data.forget);
        let known = || at_most.map(|_| value_accuracy(model, forget)).transpose();
        let enough = |accuracy: Option<f64>| accuracy.zip(at_most).is_some_and(|(a, most)| a <= most);
        if enough(known()?) {
            return Ok(Outcome { steps: self.done, met: true });
        }
        let mut met = at_most.is_none();
        for index in 0..most {
            let loss = self.step()?.to_kind(Kind::Double).double_value(&[]);
            if !loss.is_finite() {
                return Err(Error::Diverged { loss, step: index, total: most });
            }
            let forget_accuracy = known()?;
            observe(Progress { done: self.done, loss, forget_accuracy })?;
            if enough(forget_accuracy) {
                met = true;
                break;
            }
        }
        Ok(Outcome { steps: self.done, met })
    }

    /// The next step's questions to forget.
    fn batch(&mut self) -> Vec<usize> {
        let per_epoch = self.steps_per_epoch();
        let (epoch, place) = (self.done / per_epoch, self.done % per_epoch);
        if self.order.0 != epoch {
            self.order = (epoch, self.permutation(epoch));
        }
        self.order.1.chunks(self.config.batch).nth(place).map(<[usize]>::to_vec).unwrap_or_default()
    }

    fn permutation(&self, epoch: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.data.forget.len()).collect();
        order.shuffle(&mut seed::rng(self.config.seed, &["order", &epoch.to_string()]));
        order
    }

    /// For each question to forget one of everything that is there. All methods draw alike, whatever they need.
    fn draw(&self, rows: &[usize], rng: &mut seed::Rng) -> Batch<'a> {
        let UnlearnData { forget, templates, unrelated, retain } = self.data;
        let mut batch = Batch {
            forget: rows.iter().map(|i| &forget[*i]).collect(),
            templates: vec![],
            unrelated: vec![],
            retain: vec![],
        };
        for _ in rows {
            let [a, b, c] = [rng.random::<f64>(), rng.random(), rng.random()];
            let at = |share: f64, n: usize| ((share * n as f64) as usize).min(n.saturating_sub(1));
            batch.templates.extend(templates.get(at(a, templates.len())).map(|t| &t[..]));
            batch.unrelated.extend(unrelated.get(at(b, unrelated.len())).map(|t| &t[..]));
            batch.retain.extend(retain.get(at(c, retain.len())));
        }
        batch
    }
}
