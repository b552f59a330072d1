//! The family of direct preference losses, on log-probabilities of pairs of responses.
//!
//! A language model gives `log pi(y|x)`, the sum of its tokens' log-probabilities over the response (end of text included, prompt and
//! padding not: [`response_log_probs`](autodidact_core::text::response_log_probs)). All losses here are functions of such numbers for a
//! chosen and a rejected response, of the policy and mostly of a frozen reference; most see them only through the *margin*
//! `h = (log pi - log pi_ref)(chosen) - (log pi - log pi_ref)(rejected)`.
//!
//! Every function gives one value per pair, `[B]`, in nats; the mean over a batch is the caller's. No gradient comes from references and soft labels.
//!
//! | loss | of | formula |
//! |---|---|---|
//! | [`dpo`] (Rafailov et al. 2023, 2305.18290) | `h` | `-log s(beta h)` |
//! | [`soft_label_dpo`] (conservative DPO: label smoothing) | `h` | `-c log s(beta h) - (1-c) log s(-beta h)` |
//! | [`robust_dpo`] (Chowdhury et al. 2024, 2403.00409) | `h` | `[(1-e) dpo(h) - e dpo(-h)] / (1-2e)` |
//! | [`ipo`] (Azar et al. 2023, 2310.12036) | `h` | `(h - 1/(2 beta))^2` |
//! | [`hinge`] (Liu et al. 2023, 2309.06657) | `h` | `max(0, 1 - beta h)` |
//! | [`slic`] (Zhao et al. 2023, 2305.10425) | pairs | `max(0, delta - log pi(w) + log pi(l))` |
//! | [`cpo`] (Xu et al. 2024, 2401.08417) | pairs | `-log s(beta [log pi(w) - log pi(l)])` |
//! | [`simpo`] (Meng et al. 2024, 2405.14734) | pairs per token | `-log s(beta [log pi(w)/n_w - log pi(l)/n_l] - gamma)` |
//! | [`orpo`] (Hong et al. 2024, 2403.07691) | pairs per token | `-log s(logit p_w - logit p_l)` |
//! | [`nca_pair`] (Chen et al. 2024, 2402.05369) | log-ratios | `-log s(r_w) - [log s(-r_w) + log s(-r_l)]/2` |
//! | [`kto`] (Ethayarajh et al. 2024, 2402.01306) | log-ratios, unpaired | `1 - s(r - z)` or `1 - s(z - r)` |
//!
//! (`s` is the logistic function, `r = beta (log pi - log pi_ref)`.)

use autodidact_core::error::{check_range, check_values};
use autodidact_core::{Error, Result};
use tch::{Kind, Tensor};

/// Log-probabilities of chosen and rejected responses, each `[B]`.
#[derive(Debug)]
pub struct PairLogProbs {
    /// Of the preferred responses.
    pub chosen: Tensor,
    /// Of the others.
    pub rejected: Tensor,
}

impl PairLogProbs {
    /// A batch of pairs.
    ///
    /// # Errors
    /// Anything but two floating-point vectors of the same length and type.
    pub fn new(chosen: Tensor, rejected: Tensor) -> Result<Self> {
        check_vector("chosen", &chosen)?;
        if rejected.size() != chosen.size() {
            return Err(Error::shape("rejected", format!("{:?}, as chosen", chosen.size()), &rejected));
        }
        check_vector("rejected", &rejected)?;
        Ok(Self { chosen, rejected })
    }

    /// From one pass over both: the first half of `both [2B]` is chosen, the second rejected.
    ///
    /// # Errors
    /// Anything but a floating-point vector of even length.
    pub fn halves(both: &Tensor) -> Result<Self> {
        let n = check_vector("log-probabilities", both)?;
        if n % 2 != 0 {
            return Err(Error::shape("log-probabilities", "an even number: chosen, then rejected", both));
        }
        Self::new(both.narrow(0, 0, n / 2), both.narrow(0, n / 2, n / 2))
    }

    /// Chosen minus rejected, `[B]`: the margin of losses without a reference.
    pub fn gap(&self) -> Tensor {
        &self.chosen - &self.rejected
    }

    /// Log-ratios to a reference, from which no gradient comes.
    ///
    /// # Errors
    /// Another number of pairs.
    pub fn over(&self, reference: &Self) -> Result<Self> {
        if reference.chosen.size() != self.chosen.size() {
            return Err(Error::shape(
                "reference",
                format!("{:?}, as the policy", self.chosen.size()),
                &reference.chosen,
            ));
        }
        Self::new(&self.chosen - reference.chosen.detach(), &self.rejected - reference.rejected.detach())
    }

    /// The margin `h [B]` over a reference.
    ///
    /// # Errors
    /// Another number of pairs.
    pub fn margin(&self, reference: &Self) -> Result<Tensor> {
        Ok(self.over(reference)?.gap())
    }

    /// Means over tokens, from the lengths of the responses, each `[B]`: logarithms of the geometric mean of token probabilities.
    ///
    /// # Errors
    /// Lengths of another shape or (on the CPU) below 1.
    pub fn per_token(&self, chosen: &Tensor, rejected: &Tensor) -> Result<Self> {
        for (what, lengths) in [("lengths of chosen", chosen), ("lengths of rejected", rejected)] {
            check_lengths(what, lengths, &self.chosen)?;
        }
        Self::new(&self.chosen / chosen, &self.rejected / rejected)
    }
}

fn check_vector(what: &str, x: &Tensor) -> Result<i64> {
    match x.size()[..] {
        [n] if n > 0 && x.is_floating_point() => Ok(n),
        [n] if n > 0 => Err(Error::value(what, "a floating-point tensor", format!("{:?}", x.kind()))),
        _ => Err(Error::shape(what, "[B] of at least one", x)),
    }
}

/// Checks lengths against what they belong to.
pub(crate) fn check_lengths(what: &str, lengths: &Tensor, like: &Tensor) -> Result<()> {
    if lengths.size() != like.size() {
        return Err(Error::shape(what, format!("{:?}", like.size()), lengths));
    }
    check_values(what, lengths, 1.0..)
}

fn check_beta(beta: f64) -> Result<()> {
    check_range("beta", beta, f64::MIN_POSITIVE..)
}

/// Cross entropy of `s(x)` with probabilities `p`, from which no gradient comes: `-p log s(x) - (1-p) log s(-x) = -log s(x) + (1-p) x`.
pub(crate) fn logistic_cross_entropy(x: &Tensor, p: &Tensor) -> Tensor {
    logistic_loss(x) + (1.0 - p.detach().to_kind(x.kind())) * x
}

/// `-log s(x)`.
pub(crate) fn logistic_loss(x: &Tensor) -> Tensor {
    -x.log_sigmoid()
}

/// Direct preference optimisation: `-log s(beta h)`.
///
/// # Errors
/// Margins that are no vector, beta not above 0.
pub fn dpo(margin: &Tensor, beta: f64) -> Result<Tensor> {
    check_vector("margin", margin)?;
    check_beta(beta)?;
    Ok(logistic_loss(&(margin * beta)))
}

/// DPO towards the probability `target` (in `[0, 1]`; one number or `[B]`) that the chosen response is preferred:
/// `-c log s(beta h) - (1-c) log s(-beta h)`, least at `h = ln(c/(1-c)) / beta`. With `1 - e` in all pairs it is conservative DPO
/// (label smoothing `e`). No gradient comes from targets.
///
/// # Errors
/// As [`dpo`]; targets of another shape or (on the CPU) outside `[0, 1]`.
pub fn soft_label_dpo(margin: &Tensor, target: &Tensor, beta: f64) -> Result<Tensor> {
    check_vector("margin", margin)?;
    check_beta(beta)?;
    if target.dim() > 0 && target.size() != margin.size() {
        return Err(Error::shape("target", format!("one number or {:?}", margin.size()), target));
    }
    check_values("target", target, 0.0..=1.0)?;
    let h = margin * beta;
    Ok(logistic_cross_entropy(&h, target))
}

/// DPO made unbiased for labels that are flipped with probability `flip`: `[(1-e) dpo(h) - e dpo(-h)] / (1-2e)`.
///
/// # Errors
/// As [`dpo`]; a probability outside `[0, 1/2)`.
pub fn robust_dpo(margin: &Tensor, flip: f64, beta: f64) -> Result<Tensor> {
    check_range("flip", flip, 0.0..0.5)?;
    let (kept, flipped) = (dpo(margin, beta)?, dpo(&-margin, beta)?);
    Ok((kept * (1.0 - flip) - flipped * flip) / (1.0 - 2.0 * flip))
}

/// Identity preference optimisation: `(h - 1/(2 beta))^2`. On summed log-probabilities as in the paper; some packages put in means
/// over tokens instead.
///
/// # Errors
/// As [`dpo`].
pub fn ipo(margin: &Tensor, beta: f64) -> Result<Tensor> {
    check_vector("margin", margin)?;
    check_beta(beta)?;
    Ok((margin - 0.5 / beta).square())
}

/// Hinge loss on the margin over a reference: `max(0, 1 - beta h)`.
///
/// # Errors
/// As [`dpo`].
pub fn hinge(margin: &Tensor, beta: f64) -> Result<Tensor> {
    check_vector("margin", margin)?;
    check_beta(beta)?;
    let below: Tensor = 1.0 - margin * beta;
    Ok(below.relu())
}

/// Sequence likelihood calibration without a reference: `max(0, delta - log pi(w) + log pi(l))`.
///
/// # Errors
/// A delta below 0.
pub fn slic(pairs: &PairLogProbs, delta: f64) -> Result<Tensor> {
    check_range("delta", delta, 0.0..)?;
    let below: Tensor = delta - pairs.gap();
    Ok(below.relu())
}

/// The preference term of contrastive preference optimisation, DPO without a reference: `-log s(beta [log pi(w) - log pi(l)])`. The
/// whole loss adds the negative log-likelihood of the chosen response.
///
/// # Errors
/// Beta not above 0.
pub fn cpo(pairs: &PairLogProbs, beta: f64) -> Result<Tensor> {
    dpo(&pairs.gap(), beta)
}

/// Simple preference optimisation on log-probabilities per token ([`PairLogProbs::per_token`]): `-log s(beta gap - gamma)`.
///
/// # Errors
/// Beta not above 0, gamma below 0.
pub fn simpo(per_token: &PairLogProbs, beta: f64, gamma: f64) -> Result<Tensor> {
    check_beta(beta)?;
    check_range("gamma", gamma, 0.0..)?;
    Ok(logistic_loss(&(per_token.gap() * beta - gamma)))
}

/// Largest log-probability per token that [`orpo`] and [`log1mexp`] tell from certainty, where the odds are infinite.
pub(crate) const CERTAIN: f64 = -1e-6;

/// `log(1 - exp(x))` for `x < 0`, stable at both ends; `x` is clamped to -1e-6.
pub fn log1mexp(x: &Tensor) -> Tensor {
    let x = x.clamp_max(CERTAIN);
    let near = x.greater(-std::f64::consts::LN_2);
    // Each branch gets an argument that is harmless where the other is taken, so that no NaN enters the gradient.
    let half = Tensor::from(-std::f64::consts::LN_2).to_kind(x.kind()).to_device(x.device());
    let low = (-x.where_self(&near, &half).expm1()).log();
    let high = (-half.where_self(&near, &x).exp()).log1p();
    low.where_self(&near, &high)
}

/// The odds-ratio term of ORPO on log-probabilities per token: `-log s(logit p_w - logit p_l)`. The whole loss is the negative
/// log-likelihood per token of the chosen response plus lambda (0.1) times this.
///
/// # Errors
/// None beyond those of [`PairLogProbs`]; the signature keeps to the family's.
pub fn orpo(per_token: &PairLogProbs) -> Result<Tensor> {
    let [chosen, rejected] = [&per_token.chosen, &per_token.rejected].map(|l| l.clamp_max(CERTAIN));
    // log(1 - p_w) - log(1 - p_l) as one quotient: `expm1` keeps what matters near p = 1, and far from it log(1 - p) is small beside
    // log p, so that the branches of `log1mexp` would buy nothing.
    let complements = (chosen.expm1() / rejected.expm1()).log();
    Ok(logistic_loss(&(chosen - rejected - complements)))
}

/// Noise-contrastive alignment for pairs, from log-ratios to the reference ([`PairLogProbs::over`]):
/// `-log s(r_w) - [log s(-r_w) + log s(-r_l)]/2` with `r = beta log-ratio`.
///
/// # Errors
/// Beta not above 0.
pub fn nca_pair(ratios: &PairLogProbs, beta: f64) -> Result<Tensor> {
    check_beta(beta)?;
    let (w, l) = (&ratios.chosen * beta, &ratios.rejected * beta);
    Ok(logistic_loss(&w) + (logistic_loss(&-w) + logistic_loss(&-l)) * 0.5)
}

/// The settings of [`kto`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kto {
    /// Strength of the reference.
    pub beta: f64,
    /// Weight of desirable responses, lambda_D.
    pub desirable: f64,
    /// Weight of undesirable ones, lambda_U.
    pub undesirable: f64,
}

impl Default for Kto {
    fn default() -> Self {
        Self { beta: 0.1, desirable: 1.0, undesirable: 1.0 }
    }
}

/// Kahneman-Tversky optimisation, for single responses that are desirable or not (`[B]`, Bool): with `r = beta log-ratio [B]` and
/// `z = beta max(0, kl)`, `lambda_D (1 - s(r - z))` or `lambda_U (1 - s(z - r))`. `kl` is an estimate of the policy's divergence from
/// the reference in nats (one number; usually the mean log-ratio of responses to other prompts of the batch); no gradient comes from it.
///
/// # Errors
/// Shapes that differ, beta not above 0, negative weights.
pub fn kto(log_ratio: &Tensor, desirable: &Tensor, kl: &Tensor, config: &Kto) -> Result<Tensor> {
    check_vector("log-ratio", log_ratio)?;
    check_beta(config.beta)?;
    check_range("weight of desirable responses", config.desirable, 0.0..)?;
    check_range("weight of undesirable responses", config.undesirable, 0.0..)?;
    if desirable.size() != log_ratio.size() || desirable.kind() != Kind::Bool {
        return Err(Error::shape("desirable", format!("Bool {:?}", log_ratio.size()), desirable));
    }
    if kl.numel() != 1 {
        return Err(Error::shape("kl", "one number", kl));
    }
    let away = log_ratio * config.beta - kl.detach().clamp_min(0.0) * config.beta;
    // 1 - s(x) = s(-x).
    let good = (-&away).sigmoid() * config.desirable;
    Ok(good.where_self(desirable, &(away.sigmoid() * config.undesirable)))
}
