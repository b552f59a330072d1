//! LLM Unlearning via Loss Adjustment with Only Forget Data (Wang, Wei, Liu, Pang, Liu, Shah, Bao, Liu and Wei, 2025; arXiv 2410.11143),
//! FLAT: forgets with the questions to forget and template answers alone, without retained data and without a frozen reference.
//!
//! With `P(x, y) = (1/|y|) sum_i p(y_i | x, y_<i)`, the mean probability of an answer's tokens, a template answer `y_e` ("I do not know") and the
//! answer to forget `y_f`, it maximises an f-divergence between the two in its variational form:
//!
//! `L = -g*(P(x, y_e)) + f*(g*(P(x, y_f)))`.
//!
//! Both terms are bounded, and the divergence weighs learning the template against forgetting ([`FDivergence::weights`]). For a token,
//! `grad p = p grad ln p`: what is forgotten already stops contributing, and so does a template that the model finds impossible.
//!
//! ```
//! use autodidact_unlearning::flat::FDivergence;
//! use tch::Tensor;
//! let (template, forget) = (Tensor::from(0.3), Tensor::from(0.8));
//! let loss = |d: FDivergence| d.loss(&template, &forget).double_value(&[]);
//! assert!((loss(FDivergence::Kl) - 0.518731).abs() < 1e-6); // exp(-0.2) - 0.3
//! assert!((loss(FDivergence::Pearson) - 0.66).abs() < 1e-12); // 0.16 + 0.8 - 0.3
//! ```

use crate::answers::Answers;
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// The divergence, by its activation `g*` and the conjugate of the generator behind it, `f*(g*)`, as functions of `v = P`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FDivergence {
    /// `tanh(v)/2`, `tanh(v)/2`.
    TotalVariation,
    /// `v`, `exp(v - 1)`.
    Kl,
    /// `ln 2 - softplus(-v)`, `v + softplus(-v) - ln 2`.
    JensenShannon,
    /// `v`, `v^2/4 + v`.
    Pearson,
    /// `-exp(-v)`, `v - 1`.
    ReverseKl,
    /// `1 - exp(-v)`, `exp(v) - 1`.
    SquaredHellinger,
    /// `1 - exp(-v)`, `2 - 2 exp(-v/2)`.
    Neyman,
    /// `v`, `v + v^2/4 + v^3/16` (to the third order).
    Jeffrey,
}

impl FDivergence {
    /// Those of the paper.
    pub const PUBLISHED: [Self; 4] = [Self::TotalVariation, Self::Kl, Self::JensenShannon, Self::Pearson];
    /// All.
    pub const ALL: [Self; 8] = [
        Self::TotalVariation,
        Self::Kl,
        Self::JensenShannon,
        Self::Pearson,
        Self::ReverseKl,
        Self::SquaredHellinger,
        Self::Neyman,
        Self::Jeffrey,
    ];

    /// `g*(v)`, entry by entry.
    pub fn activation(self, v: &Tensor) -> Tensor {
        match self {
            Self::TotalVariation => v.tanh() / 2.0,
            Self::Kl | Self::Pearson | Self::Jeffrey => v.shallow_clone(),
            // ln 2 - softplus(-v) = ln 2 + ln sigmoid(v).
            Self::JensenShannon => v.log_sigmoid() + std::f64::consts::LN_2,
            Self::ReverseKl => -(-v).exp(),
            Self::SquaredHellinger | Self::Neyman => -(-v).expm1(),
        }
    }

    /// `f*(g*(v))`, entry by entry.
    pub fn conjugate_of_activation(self, v: &Tensor) -> Tensor {
        match self {
            Self::TotalVariation => v.tanh() / 2.0,
            Self::Kl => (v - 1.0).exp(),
            Self::JensenShannon => v - v.log_sigmoid() - std::f64::consts::LN_2,
            Self::Pearson => v.square() / 4.0 + v,
            Self::ReverseKl => v - 1.0,
            Self::SquaredHellinger => v.expm1(),
            Self::Neyman => (v / -2.0).expm1() * -2.0,
            Self::Jeffrey => v + v.square() / 4.0 + v.pow_tensor_scalar(3) / 16.0,
        }
    }

    /// `-g*(template) + f*(g*(forget))`, entry by entry.
    pub fn loss(self, template: &Tensor, forget: &Tensor) -> Tensor {
        self.conjugate_of_activation(forget) - self.activation(template)
    }

    /// How much the gradients of `P` count: `g*'(v_e)` for the template's (which descends), `(f* o g*)'(v_f)` for that of the answer to
    /// forget (which ascends).
    pub fn weights(self, template: f64, forget: f64) -> (f64, f64) {
        let sigmoid = |v: f64| 1.0 / (1.0 + (-v).exp());
        let (e, f) = (template, forget);
        match self {
            Self::TotalVariation => (0.5 / e.cosh().powi(2), 0.5 / f.cosh().powi(2)),
            Self::Kl => (1.0, (f - 1.0).exp()),
            Self::JensenShannon => (sigmoid(-e), sigmoid(f)),
            Self::Pearson => (1.0, f / 2.0 + 1.0),
            Self::ReverseKl => ((-e).exp(), 1.0),
            Self::SquaredHellinger => ((-e).exp(), f.exp()),
            Self::Neyman => ((-e).exp(), (-f / 2.0).exp()),
            Self::Jeffrey => (1.0, 1.0 + f / 2.0 + 3.0 * f * f / 16.0),
        }
    }
}

/// What a summed probability is divided by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Normalisation {
    /// The tokens of the answer.
    #[default]
    AnswerTokens,
    /// All positions, padding included, as the published code does: it makes `P` small and all divergences nearly linear.
    PaddedLength,
}

/// Where the batch is averaged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Averaging {
    /// After the divergence.
    #[default]
    PerSample,
    /// Before it, as the published code does.
    BatchMean,
}

/// The loss of FLAT, with the choices in which the published code differs from the paper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flat {
    /// The divergence.
    pub divergence: FDivergence,
    /// What makes a probability of an answer's summed ones.
    pub normalization: Normalisation,
    /// Where the batch is averaged.
    pub averaging: Averaging,
}

impl Flat {
    /// The paper's form.
    pub fn new(divergence: FDivergence) -> Self {
        Self { divergence, normalization: Normalisation::default(), averaging: Averaging::default() }
    }

    /// The loss of a batch: template answers and answers to forget of the same questions. A scalar; no reference model is asked.
    ///
    /// # Errors
    /// Batches of different sizes.
    pub fn forward(&self, templates: &Answers, forget: &Answers) -> Result<Tensor> {
        let (of_template, of_forget) = (templates.tokens(), forget.tokens());
        if of_template.size() != of_forget.size() {
            let expected = format!("{:?} as the templates'", of_template.size());
            return Err(Error::shape("answers to forget", expected, &of_forget));
        }
        Ok(self.divergence.loss(&self.probability(templates), &self.probability(forget)).mean(None::<Kind>))
    }

    /// The loss without its template term, `f*(g*(P(x, y_f)))`: what forgetting alone does, for ablations. A scalar.
    pub fn forgetting(&self, forget: &Answers) -> Tensor {
        self.divergence.conjugate_of_activation(&self.probability(forget)).mean(None::<Kind>)
    }

    /// `P`, `[B]` or, of a batch's mean, `[1]`.
    fn probability(&self, answers: &Answers) -> Tensor {
        let p = match self.normalization {
            Normalisation::AnswerTokens => answers.probability(),
            Normalisation::PaddedLength => answers.summed_probability() / answers.padded_length() as f64,
        };
        match self.averaging {
            Averaging::PerSample => p,
            Averaging::BatchMean => p.mean_dim([0i64].as_slice(), true, None::<Kind>),
        }
    }
}
