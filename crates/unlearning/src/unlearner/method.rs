//! The losses of one step.

use super::QuestionAnswer;
use crate::answers::{
    Answers, dpo, gradient_ascent, gradient_difference, kl_to_reference, llmu, npo, preference_optimization,
};
use crate::flat::Flat;
use autodidact_core::nn::Gpt;
use autodidact_core::text::{pad_responses, selected_log_probs};
use autodidact_core::{Error, Result};
use tch::{Kind, Tensor};

/// What is minimised.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Method {
    /// [`Flat::forward`].
    Flat(Flat),
    /// [`Flat::forgetting`]: its ablation without templates.
    FlatWithoutTemplates(Flat),
    /// Minus the cross-entropy of the answers to forget.
    GradientAscent,
    /// [`npo`].
    Npo {
        /// Strength of the reference, above 0.
        beta: f64,
    },
    /// [`dpo`] of templates over answers to forget.
    Dpo {
        /// Strength of the reference, above 0.
        beta: f64,
    },
    /// Cross-entropy of templates alone ("I don't know").
    Templates,
    /// [`gradient_difference`].
    GradientDifference,
    /// [`gradient_ascent`] with [`kl_to_reference`] on retained answers.
    KlToReference,
    /// [`preference_optimization`].
    PreferenceOptimization,
    /// [`npo`] with the cross-entropy of retained answers.
    NpoRetain {
        /// Strength of the reference, above 0.
        beta: f64,
    },
    /// [`llmu`].
    Llmu,
    /// Cross-entropy over unrelated answers to the questions to forget and retained answers, all tokens alike.
    Mismatch,
    /// Cross-entropy of the answers to forget, which learns them: any fine-tuning, and the end of a [`TaskVector`](crate::answers::TaskVector).
    FineTuning,
}

/// What a method reads, in the order in which a batch has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Forget,
    Templates,
    Unrelated,
    Retain,
}

impl Method {
    pub(super) fn parts(self) -> &'static [Part] {
        match self {
            Self::Flat(_) | Self::Dpo { .. } => &[Part::Forget, Part::Templates],
            Self::FlatWithoutTemplates(_) | Self::GradientAscent | Self::Npo { .. } | Self::FineTuning => {
                &[Part::Forget]
            }
            Self::Templates => &[Part::Templates],
            Self::GradientDifference | Self::KlToReference | Self::NpoRetain { .. } => &[Part::Forget, Part::Retain],
            Self::PreferenceOptimization => &[Part::Templates, Part::Retain],
            Self::Llmu => &[Part::Forget, Part::Unrelated, Part::Retain],
            Self::Mismatch => &[Part::Unrelated, Part::Retain],
        }
    }

    /// What the frozen reference is asked of.
    fn referred(self) -> &'static [Part] {
        match self {
            Self::Npo { .. } | Self::NpoRetain { .. } => &[Part::Forget],
            Self::Dpo { .. } => &[Part::Forget, Part::Templates],
            Self::KlToReference | Self::Llmu => &[Part::Retain],
            _ => &[],
        }
    }

    /// Whether it learns from template answers.
    pub fn needs_templates(self) -> bool {
        self.parts().contains(&Part::Templates)
    }

    /// Whether it learns from unrelated answers.
    pub fn needs_unrelated(self) -> bool {
        self.parts().contains(&Part::Unrelated)
    }

    /// Whether it learns from retained questions.
    pub fn needs_retain(self) -> bool {
        self.parts().contains(&Part::Retain)
    }

    /// Whether it compares with the model as it was, frozen.
    pub fn needs_reference(self) -> bool {
        !self.referred().is_empty()
    }

    /// The loss of a batch, a scalar.
    pub(super) fn loss(self, model: &Gpt, reference: Option<&Gpt>, batch: &Batch<'_>) -> Result<Tensor> {
        let now = Forward::new(model, batch, self.parts())?;
        let before = match self.referred() {
            [] => None,
            parts => {
                let reference = reference.ok_or_else(|| Error::value("reference", "a frozen model", "none"))?;
                Some((reference, tch::no_grad(|| Forward::new(reference, batch, parts))?))
            }
        };
        let answers = |part| now.answers(part);
        // The reference's negative log-likelihoods; a method that asks for them has one.
        let nll_before = |part| match &before {
            Some((_, before)) => Ok(before.answers(part)?.nll()),
            None => Err(Error::value("reference", "a frozen model", "none")),
        };
        let kl = || match &before {
            Some((reference, before)) => {
                let [logits, frozen] =
                    [now.logits(model, Part::Retain), tch::no_grad(|| before.logits(reference, Part::Retain))];
                let all = Tensor::ones(&logits.size()[..2], (Kind::Bool, logits.device()));
                kl_to_reference(&logits, &frozen, &all)
            }
            None => Err(Error::value("reference", "a frozen model", "none")),
        };
        match self {
            Self::Flat(flat) => flat.forward(&answers(Part::Templates)?, &answers(Part::Forget)?),
            Self::FlatWithoutTemplates(flat) => Ok(flat.forgetting(&answers(Part::Forget)?)),
            Self::GradientAscent => Ok(gradient_ascent(&answers(Part::Forget)?)),
            Self::FineTuning => Ok(answers(Part::Forget)?.cross_entropy()),
            Self::Templates => Ok(answers(Part::Templates)?.cross_entropy()),
            Self::GradientDifference => Ok(gradient_difference(&answers(Part::Forget)?, &answers(Part::Retain)?)),
            Self::PreferenceOptimization => {
                Ok(preference_optimization(&answers(Part::Templates)?, &answers(Part::Retain)?))
            }
            Self::Mismatch => Ok(preference_optimization(&answers(Part::Unrelated)?, &answers(Part::Retain)?)),
            Self::Npo { beta } => npo(&answers(Part::Forget)?.nll(), &nll_before(Part::Forget)?, beta),
            Self::NpoRetain { beta } => {
                let forgetting = npo(&answers(Part::Forget)?.nll(), &nll_before(Part::Forget)?, beta)?;
                Ok(forgetting + answers(Part::Retain)?.cross_entropy())
            }
            Self::Dpo { beta } => {
                let [forget, templates] = [answers(Part::Forget)?.nll(), answers(Part::Templates)?.nll()];
                let [f, e] = [nll_before(Part::Forget)?, nll_before(Part::Templates)?];
                dpo([&forget, &f], [&templates, &e], beta)
            }
            Self::KlToReference => Ok(gradient_ascent(&answers(Part::Forget)?) + kl()?),
            Self::Llmu => Ok(llmu(&answers(Part::Forget)?, &answers(Part::Unrelated)?, &kl()?)),
        }
    }
}

/// Questions of one forward pass: those to forget, and for each of them what was drawn of the rest (as far as the method needs it).
pub(super) struct Batch<'a> {
    pub forget: Vec<&'a QuestionAnswer>,
    pub templates: Vec<&'a [i64]>,
    pub unrelated: Vec<&'a [i64]>,
    pub retain: Vec<&'a QuestionAnswer>,
}

impl Batch<'_> {
    /// Questions and answers of a part.
    fn rows(&self, part: Part) -> Vec<(&[i64], &[i64])> {
        let answered = |answers: &[_]| -> Vec<(&[i64], &[i64])> {
            self.forget.iter().map(|e| &e.question[..]).zip(answers.iter().copied()).collect()
        };
        match part {
            Part::Forget => self.forget.iter().map(|e| e.parts()).collect(),
            Part::Retain => self.retain.iter().map(|e| e.parts()).collect(),
            Part::Templates => answered(&self.templates),
            Part::Unrelated => answered(&self.unrelated),
        }
    }
}

/// Some parts of a batch through a model at one time.
struct Forward {
    parts: &'static [Part],
    /// Rows of a part.
    size: i64,
    hidden: Tensor,
    log_p: Tensor,
    mask: Tensor,
}

impl Forward {
    fn new(model: &Gpt, batch: &Batch<'_>, parts: &'static [Part]) -> Result<Self> {
        let rows: Vec<_> = parts.iter().flat_map(|part| batch.rows(*part)).collect();
        let (tokens, mask) = pad_responses(rows, 0, model.head().device())?;
        let length = tokens.size()[1] - 1;
        let mask = mask.narrow(1, 1, length);
        let hidden = model.hidden(&tokens.narrow(1, 0, length), None)?;
        let targets = tokens.narrow(1, 1, length).masked_fill(&mask.logical_not(), -1);
        let log_p = selected_log_probs(&hidden, model.head(), &targets)?;
        Ok(Self { parts, size: batch.forget.len() as i64, hidden, log_p, mask })
    }

    /// A part's rows of a tensor.
    fn of(&self, part: Part, all: &Tensor) -> Tensor {
        let at = self.parts.iter().position(|p| *p == part).unwrap_or(0) as i64;
        all.narrow(0, at * self.size, self.size)
    }

    fn answers(&self, part: Part) -> Result<Answers> {
        Answers::new(&self.of(part, &self.log_p), &self.of(part, &self.mask))
    }

    /// Logits of all tokens of a part's answers, `[1, N, V]`, in 32 bits or more.
    fn logits(&self, model: &Gpt, part: Part) -> Tensor {
        let places = self.of(part, &self.mask).reshape([-1]).nonzero().squeeze_dim(1);
        let hidden = self.of(part, &self.hidden).flatten(0, 1).index_select(0, &places);
        let logits = model.project(&hidden).unsqueeze(0);
        if logits.kind() == Kind::Double { logits } else { logits.to_kind(Kind::Float) }
    }
}
