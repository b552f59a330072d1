//! SRPO: a policy whose responses are hard to improve, and one that improves them, from one loss on offline pairs.
//!
//! Choi, Ahmadian, Geist, Pietquin, Azar: *Self-Improving Robust Preference Optimization*, ICLR 2025, arXiv 2406.01660.
//!
//! `min_pi max_pi+ E[p(y2 > y1|x)] - beta KL(pi+(.|y1,x) || ref) + beta KL(pi(.|x) || ref)` over `y1 ~ pi`, `y2 ~ pi+(.|y1)` has a closed
//! form that holds whatever policy the pairs come from. With log-ratios to the reference `g(y)` of the policy and `d(y2|y1)` of the
//! improver, both of these residuals are zero at the solution, for all pairs:
//!
//! ```text
//! joint:  p(y2 > y1) - 1/2 - beta/2 [d(y2|y1) - d(y1|y2) + g(y2) - g(y1)]
//! dagger: p(y2 > y1) - 1/2 - beta   [d(y2|y1) - d(y1|y1)]
//! ```
//!
//! The loss is `(1 - alpha)` times the square of the first plus `alpha` times that of the second.
//!
//! ```
//! use autodidact_preference::srpo::{Srpo, SrpoLogRatios};
//! use tch::Tensor;
//!
//! let one = |x: f64| Tensor::from_slice(&[x]);
//! let ratios = SrpoLogRatios {
//!     chosen: one(1.0), rejected: one(-1.0),
//!     chosen_given_rejected: one(2.0), rejected_given_chosen: one(-1.0),
//!     chosen_given_chosen: one(0.5), rejected_given_rejected: one(-0.5),
//! };
//! let out = Srpo { beta: 0.05, alpha: 0.25 }.forward(&ratios, None).unwrap();
//! // 3/4 (1/2 - 0.025 * 5)^2 + 1/4 [(1/2 - 0.05 * 2.5)^2 + (1/2 - 0.05 * 1.5)^2]/2
//! assert!((out.total.double_value(&[0]) - 0.145625).abs() < 1e-12);
//! ```

use autodidact_core::error::{check_range, check_values};
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::Tensor;

mod tabular;

pub use tabular::{ClosedForm, TabularPairs, ipo_closed_form, srpo_closed_form};

/// Log-ratios of a policy to its reference for a batch of pairs, each `[B]`, summed over the tokens of the response that is scored.
#[derive(Debug)]
pub struct SrpoLogRatios {
    /// g of the chosen response, given the prompt alone.
    pub chosen: Tensor,
    /// g of the rejected one.
    pub rejected: Tensor,
    /// d of the chosen response as an improvement of the rejected one.
    pub chosen_given_rejected: Tensor,
    /// d of the rejected response as an improvement of the chosen one.
    pub rejected_given_chosen: Tensor,
    /// d of the chosen response as an improvement of itself.
    pub chosen_given_chosen: Tensor,
    /// d of the rejected response as an improvement of itself.
    pub rejected_given_rejected: Tensor,
}

impl SrpoLogRatios {
    fn check(&self) -> Result<()> {
        let size = self.chosen.size();
        if size.len() != 1 || size[0] < 1 || !self.chosen.is_floating_point() {
            return Err(Error::shape("chosen", "[B] of floating-point numbers", &self.chosen));
        }
        for (what, t) in [
            ("rejected", &self.rejected),
            ("chosen given rejected", &self.chosen_given_rejected),
            ("rejected given chosen", &self.rejected_given_chosen),
            ("chosen given chosen", &self.chosen_given_chosen),
            ("rejected given rejected", &self.rejected_given_rejected),
        ] {
            if t.size() != size {
                return Err(Error::shape(what, format!("{size:?}, as chosen"), t));
            }
        }
        Ok(())
    }
}

/// The loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Srpo {
    /// Strength of the reference: log-ratios differ by 1/(2 beta) nats where a preference is certain.
    pub beta: f64,
    /// Share of the improver's own loss, in `[0, 1]`. At 0 the joint loss leaves it open how much policy and improver take over; at 1
    /// the policy learns nothing.
    pub alpha: f64,
}

impl Default for Srpo {
    fn default() -> Self {
        Self { beta: 0.01, alpha: 0.25 }
    }
}

/// What [`Srpo::forward`] gives, each `[B]`.
#[derive(Debug)]
pub struct SrpoOutput {
    /// The loss.
    pub total: Tensor,
    /// Squared joint residuals.
    pub joint: Tensor,
    /// Squared residuals of the improver, means over the two orders of a pair.
    pub dagger: Tensor,
}

impl Srpo {
    /// The loss of each pair. `preference [B]` is the probability that the chosen response is preferred; none means 1, and
    /// no gradient comes from it.
    ///
    /// # Errors
    /// Shapes that differ, probabilities outside `[0, 1]`, beta not above 0, alpha outside `[0, 1]`.
    pub fn forward(&self, ratios: &SrpoLogRatios, preference: Option<&Tensor>) -> Result<SrpoOutput> {
        check_range("beta", self.beta, f64::MIN_POSITIVE..)?;
        check_range("alpha", self.alpha, 0.0..=1.0)?;
        ratios.check()?;
        let target = match preference {
            None => Tensor::from(0.5).to_kind(ratios.chosen.kind()).to_device(ratios.chosen.device()),
            Some(p) => {
                if p.size() != ratios.chosen.size() {
                    return Err(Error::shape("preference", format!("{:?}", ratios.chosen.size()), p));
                }
                check_values("preference", p, 0.0..=1.0)?;
                p.detach().to_kind(ratios.chosen.kind()) - 0.5
            }
        };
        let r = ratios;
        let both = &r.chosen_given_rejected - &r.rejected_given_chosen + &r.chosen - &r.rejected;
        // The residual of the pair in the other order is its negative.
        let joint = (&target - both * (0.5 * self.beta)).square();
        let improves = &target - (&r.chosen_given_rejected - &r.rejected_given_rejected) * self.beta;
        let spoils = &target - (&r.chosen_given_chosen - &r.rejected_given_chosen) * self.beta;
        let dagger = (improves.square() + spoils.square()) * 0.5;
        let total = &joint * (1.0 - self.alpha) + &dagger * self.alpha;
        Ok(SrpoOutput { total, joint, dagger })
    }
}

/// Where the parts of a revision are: prompt, first response (without its end) and the marker that asks for a better one come before
/// what is scored or sampled.
///
/// ```
/// use autodidact_preference::srpo::RevisionTemplate;
/// let template = RevisionTemplate { marker: vec![4], end: 3 };
/// assert_eq!(template.context(&[1, 2], &[30, 31, 3]), [1, 2, 30, 31, 4]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevisionTemplate {
    /// Tokens that ask for a revision.
    pub marker: Vec<i64>,
    /// The end of a text, which the first response loses.
    pub end: i64,
}

impl RevisionTemplate {
    /// What a revision is conditioned on.
    pub fn context(&self, prompt: &[i64], first: &[i64]) -> Vec<i64> {
        let first = first.strip_suffix(&[self.end]).unwrap_or(first);
        [prompt, first, &self.marker].concat()
    }
}
