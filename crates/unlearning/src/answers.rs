//! Losses on the answers of a language model, and the baselines that unlearning methods are compared with.
//!
//! Everything here takes the log-probabilities of given answers, so it works for any model; with the decoders of
//! `autodidact_core::nn` they come from [`selected_log_probs`](autodidact_core::text::selected_log_probs), which never holds the logits. Questions and padding are
//! left out by the mask.
//!
//! | loss | forget | retain | frozen reference |
//! |---|---|---|---|
//! | [`gradient_ascent`] | yes | | |
//! | [`gradient_difference`] | yes | yes | |
//! | [`gradient_ascent`] + [`kl_to_reference`] | yes | yes | yes |
//! | [`preference_optimization`] ("I don't know") | templates | yes | |
//! | [`npo`], with [`Answers::cross_entropy`] of retained answers NPO-RT | yes | | yes |
//! | [`dpo`] | yes, templates | | yes |
//! | [`llmu`] | yes, unrelated answers | yes | yes |
//! | [`TaskVector`] | yes (fine-tuned on) | | |
//!
//! ```
//! use autodidact_unlearning::answers::{Answers, npo};
//! use tch::Tensor;
//! // Two answers of two tokens, the second one padded.
//! let log_p = Tensor::from_slice2(&[[0.5f64, 0.25], [0.8, 1.0]]).log();
//! let answers = Answers::new(&log_p, &Tensor::from_slice2(&[[true, true], [true, false]]))?;
//! // Mean probability of the true tokens: (0.5 + 0.25) / 2 and 0.8.
//! let p = Vec::<f64>::try_from(answers.probability())?;
//! assert!((p[0] - 0.375).abs() < 1e-12 && (p[1] - 0.8).abs() < 1e-12);
//! // At the reference NPO is (2 / beta) ln 2.
//! let l = answers.nll();
//! assert!((npo(&l, &l, 0.1)?.double_value(&[]) - 13.862944).abs() < 1e-6);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use autodidact_core::error::check_range;
use autodidact_core::optim::StateDict;
use autodidact_core::{Error, Result};
use tch::{Kind, Tensor};

/// Log-probabilities of the tokens of answers, `[B, T]`, and which of them belong to the answer (its end included).
#[derive(Debug)]
pub struct Answers {
    log_p: Tensor,
    mask: Tensor,
}

impl Answers {
    /// `log_p [B, T]` of the true tokens and `mask [B, T]` (Bool) of the answers' tokens; what is masked out may be anything.
    ///
    /// # Errors
    /// Other shapes or types, an answer without tokens.
    pub fn new(log_p: &Tensor, mask: &Tensor) -> Result<Self> {
        if log_p.dim() != 2 || log_p.size() != mask.size() || log_p.numel() == 0 {
            return Err(Error::shape(
                "mask of answers",
                format!("that of the log-probabilities, {:?}", log_p.size()),
                mask,
            ));
        }
        if mask.kind() != Kind::Bool {
            return Err(Error::value("mask of answers", "Bool", format!("{:?}", mask.kind())));
        }
        let answers = Self { log_p: log_p.masked_fill(&mask.logical_not(), 0.0), mask: mask.to_kind(log_p.kind()) };
        if answers.tokens().min().double_value(&[]) < 1.0 {
            return Err(Error::value("answers", "a token at least each", "one without"));
        }
        Ok(answers)
    }

    fn sum(of: &Tensor) -> Tensor {
        of.sum_dim_intlist([1i64].as_slice(), false, of.kind())
    }

    /// Tokens of each answer, `[B]`.
    pub fn tokens(&self) -> Tensor {
        Self::sum(&self.mask)
    }

    /// Positions, padding included: `T`.
    pub fn padded_length(&self) -> i64 {
        self.mask.size()[1]
    }

    /// Negative log-likelihood of each answer, summed over its tokens, `[B]`.
    pub fn nll(&self) -> Tensor {
        -Self::sum(&self.log_p)
    }

    /// Sum over each answer's tokens of the probability of the true one, `[B]`.
    pub fn summed_probability(&self) -> Tensor {
        Self::sum(&(self.log_p.exp() * &self.mask))
    }

    /// Mean over each answer's tokens of the probability (not the log-probability) of the true one, `[B]`.
    pub fn probability(&self) -> Tensor {
        self.summed_probability() / self.tokens()
    }

    /// Cross-entropy: the mean over all tokens of the batch, a scalar.
    pub fn cross_entropy(&self) -> Tensor {
        self.nll().sum(self.log_p.kind()) / self.mask.sum(self.log_p.kind())
    }
}

/// `-CE(forget)`: unbounded below, so that it does not stop at forgetting.
pub fn gradient_ascent(forget: &Answers) -> Tensor {
    -forget.cross_entropy()
}

/// `-CE(forget) + CE(retain)`.
pub fn gradient_difference(forget: &Answers, retain: &Answers) -> Tensor {
    gradient_ascent(forget) + retain.cross_entropy()
}

/// `KL(p_ref || p)`, mean over the tokens of `mask [B, T]` (Bool): logits `[B, T, V]` of the model and of the frozen reference, which gets no
/// gradient. Added to [`gradient_ascent`] it is the baseline called KL.
///
/// # Errors
/// Shapes that differ, an empty mask.
pub fn kl_to_reference(logits: &Tensor, reference: &Tensor, mask: &Tensor) -> Result<Tensor> {
    if logits.dim() != 3 || logits.size() != reference.size() {
        return Err(Error::shape(
            "logits of the reference",
            format!("[B, T, V] as the model's {:?}", logits.size()),
            reference,
        ));
    }
    if mask.kind() != Kind::Bool || mask.size() != logits.size()[..2] {
        return Err(Error::shape("mask", format!("Bool {:?}", &logits.size()[..2]), mask));
    }
    let [p, reference] = [logits, reference].map(|l| l.flatten(0, 1).log_softmax(1, None::<Kind>));
    let reference = reference.detach();
    let each = (reference.exp() * (&reference - p)).sum_dim_intlist([1i64].as_slice(), false, logits.kind());
    let mask = mask.flatten(0, 1);
    check_range("tokens of the mask", mask.sum(Kind::Double).double_value(&[]), 1.0..)?;
    Ok(each.masked_select(&mask).mean(logits.kind()))
}

/// The loss that TOFU calls preference optimisation: cross-entropy over one batch of template answers ("I do not know") to the questions
/// to forget and retained answers, all tokens alike.
pub fn preference_optimization(templates: &Answers, retain: &Answers) -> Tensor {
    let kind = templates.log_p.kind();
    let (nll, tokens) =
        (templates.nll().sum(kind) + retain.nll().sum(kind), templates.mask.sum(kind) + retain.mask.sum(kind));
    nll / tokens
}

/// Negative preference optimisation (Zhang et al., 2024; arXiv 2404.05868): `-(2 / beta) ln sigmoid(beta (l - l_ref))`, mean over the batch, with
/// the summed negative log-likelihoods `[B]` ([`Answers::nll`]) under the model and the frozen reference. For `beta -> 0` it is gradient
/// ascent on the sum.
///
/// # Errors
/// Other shapes, a `beta` that is not positive.
pub fn npo(nll: &Tensor, reference: &Tensor, beta: f64) -> Result<Tensor> {
    check_range("beta", beta, f64::MIN_POSITIVE..)?;
    same("reference", nll, reference)?;
    Ok((beta * (nll - reference.detach())).log_sigmoid().mean(nll.kind()) * (-2.0 / beta))
}

/// Direct preference optimisation of templates over answers to forget, as TOFU scales it: `-(2 / beta) ln sigmoid(beta (r_f - r_e))` with
/// `r = l - l_ref`, mean over the batch, of summed negative log-likelihoods `[B]`: of answers to forget and of templates, each under the
/// model and the frozen reference.
///
/// # Errors
/// Other shapes, a `beta` that is not positive.
pub fn dpo(forget: [&Tensor; 2], templates: [&Tensor; 2], beta: f64) -> Result<Tensor> {
    check_range("beta", beta, f64::MIN_POSITIVE..)?;
    for (what, other) in
        [("reference", forget[1]), ("templates", templates[0]), ("reference of templates", templates[1])]
    {
        same(what, forget[0], other)?;
    }
    let ratio = |[l, reference]: [&Tensor; 2]| l - reference.detach();
    Ok((beta * (ratio(forget) - ratio(templates))).log_sigmoid().mean(forget[0].kind()) * (-2.0 / beta))
}

/// Large language model unlearning (Yao et al., 2023; arXiv 2310.10683): `0.5 (-CE(forget)) + CE(unrelated answers) + kl`, `kl` being
/// [`kl_to_reference`] on retained answers. Its weights are those of FLAT's comparison.
pub fn llmu(forget: &Answers, unrelated: &Answers, kl: &Tensor) -> Tensor {
    0.5 * gradient_ascent(forget) + unrelated.cross_entropy() + kl
}

fn same(what: &str, a: &Tensor, b: &Tensor) -> Result<()> {
    if a.dim() == 1 && a.size() == b.size() && a.numel() > 0 {
        return Ok(());
    }
    Err(Error::shape(what, format!("[B] as the answers' {:?}, not empty", a.size()), b))
}

/// The difference that fine-tuning on what is to be forgotten makes (Ilharco et al., 2023; arXiv 2212.04089): subtracted, it forgets.
#[derive(Debug)]
pub struct TaskVector(StateDict);

impl TaskVector {
    /// `tuned - base`; entries that are no floating-point numbers are left out.
    ///
    /// # Errors
    /// Entries of other names or shapes.
    pub fn between(base: &StateDict, tuned: &StateDict) -> Result<Self> {
        let entries = base.iter().filter(|(_, b)| b.is_floating_point()).map(|(name, b)| {
            let t = tuned.get(name).filter(|t| t.size() == b.size());
            let t = t.ok_or_else(|| Error::value("tuned weights", format!("{name} {:?}", b.size()), "none of it"))?;
            Ok((name.clone(), t - b))
        });
        Ok(Self(entries.collect::<Result<_>>()?))
    }

    /// `weights - alpha * vector`.
    ///
    /// # Errors
    /// Weights that lack an entry of the vector or have it in another shape, an `alpha` that is not finite.
    pub fn subtracted_from(&self, weights: &StateDict, alpha: f64) -> Result<StateDict> {
        check_range("alpha", alpha, ..)?;
        if let Some((name, v)) = self.0.iter().find(|(name, v)| weights.get(*name).is_none_or(|w| w.size() != v.size()))
        {
            return Err(Error::value("weights", format!("{name} {:?}", v.size()), "none of it"));
        }
        let moved = |(name, w): (&String, &Tensor)| {
            let moved = self.0.get(name).map_or_else(|| w.copy(), |v| w - v * alpha);
            (name.clone(), moved)
        };
        Ok(weights.iter().map(moved).collect())
    }
}
