//! Weighted model counts in log space, and losses compiled from preference structures.

use super::formula::Formula;
use super::structure::PreferenceStructure;
use super::table::{Cube, TruthTable};
use crate::losses::{CERTAIN, PairLogProbs, dpo, ipo, log1mexp};
use autodidact_core::device::in_full_precision;
use autodidact_core::error::{check_matrix, check_range};
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// In place of minus infinity, of which products with 0 are not 0.
const IMPOSSIBLE: f64 = -1e30;

/// The convex, decreasing function f of the log-ratio `rho` that makes a loss of a preference structure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Link {
    /// `-log sigmoid(beta rho)`: DPO, CPO, ORPO. With beta 1 and no additive condition it is the negative logarithm of the probability
    /// of P given P_C: the semantic loss.
    LogSigmoid {
        /// Factor of rho, above 0.
        beta: f64,
    },
    /// `(rho - 1/(2 beta))^2`: IPO.
    Ipo {
        /// Twice its inverse is the margin; above 0.
        beta: f64,
    },
    /// `max(0, delta - rho)`: SLiC.
    Hinge {
        /// The margin in nats, at least 0.
        delta: f64,
    },
    /// `max(0, -rho)`: RRHF.
    Rrhf,
}

impl Default for Link {
    fn default() -> Self {
        Self::LogSigmoid { beta: 1.0 }
    }
}

impl Link {
    fn check(self) -> Result<()> {
        match self {
            Self::LogSigmoid { beta } | Self::Ipo { beta } => check_range("beta", beta, f64::MIN_POSITIVE..),
            Self::Hinge { delta } => check_range("delta", delta, 0.0..),
            Self::Rrhf => Ok(()),
        }
    }

    /// f of `rho [B]`.
    ///
    /// # Errors
    /// A beta not above 0, a delta below 0, a `rho` that is no vector.
    pub fn apply(self, rho: &Tensor) -> Result<Tensor> {
        self.check()?;
        match self {
            Self::LogSigmoid { beta } => dpo(rho, beta),
            Self::Ipo { beta } => ipo(rho, beta),
            Self::Hinge { delta } => {
                let below: Tensor = delta - rho;
                Ok(below.relu())
            }
            Self::Rrhf => Ok((-rho).relu()),
        }
    }
}

/// Sums over worlds, laid out for two matrix products.
#[derive(Debug)]
struct Sums {
    n: i64,
    /// `[n, C]`, 1 where a cube has the proposition.
    plain: Tensor,
    /// `[n, C]`, 1 where a cube has its negation; absent where no cube has one.
    negated: Option<Tensor>,
    /// Cubes of each sum.
    sizes: Vec<i64>,
}

impl Sums {
    fn new(tables: &[TruthTable]) -> Self {
        let n = tables.iter().map(|t| t.propositions()).max().unwrap_or(1);
        let cubes: Vec<Vec<Cube>> = tables.iter().map(|t| t.disjoint_cubes()).collect();
        let sizes = cubes.iter().map(|c| c.len() as i64).collect();
        let all: Vec<Cube> = cubes.into_iter().flatten().collect();
        let matrix = |of_negated: bool| {
            let has = |cube: &Cube, i: usize| cube.literals().any(|(j, negated)| j == i && negated == of_negated);
            let entries = (0..n).flat_map(|i| all.iter().map(move |cube| f64::from(u8::from(has(cube, i)))));
            Tensor::from_slice(&entries.collect::<Vec<_>>()).view([n as i64, all.len() as i64])
        };
        let any_negated = all.iter().any(|cube| cube.literals().any(|(_, negated)| negated));
        Self { n: n as i64, plain: matrix(false), negated: any_negated.then(|| matrix(true)), sizes }
    }

    fn to_device(&self, device: Device) -> Self {
        Self {
            n: self.n,
            plain: self.plain.to_device(device),
            negated: self.negated.as_ref().map(|m| m.to_device(device)),
            sizes: self.sizes.clone(),
        }
    }

    fn check(&self, log_probs: &Tensor) -> Result<()> {
        let (b, n) = check_matrix("log-probabilities", log_probs)?;
        if b < 1 || n != self.n {
            return Err(Error::shape("log-probabilities", format!("[B, {}] of at least one row", self.n), log_probs));
        }
        Ok(())
    }

    /// The logarithm of each sum, `[B]`.
    fn forward(&self, log_probs: &Tensor) -> Result<Vec<Tensor>> {
        self.check(log_probs)?;
        in_full_precision([log_probs], |[lp]| {
            let like = |m: &Tensor| m.to_device(lp.device()).to_kind(lp.kind());
            let lp = lp.clamp_min(IMPOSSIBLE);
            let mut worlds = lp.matmul(&like(&self.plain));
            if let Some(negated) = &self.negated {
                worlds += log1mexp(&lp).matmul(&like(negated));
            }
            let mut start = 0;
            let sums = self.sizes.iter().map(|&size| {
                let part = worlds.narrow(1, start, size);
                start += size;
                if size == 1 { part.squeeze_dim(1) } else { part.logsumexp([1i64].as_slice(), false) }
            });
            Ok(sums.collect())
        })
    }
}

/// The logarithm of a formula's weighted model count `[B]`, from log-probabilities `[B, n]` of its propositions: the log-probability
/// that it holds if they are independent. In 32 bits, or in 64 if the input is.
///
/// Log-probabilities are at most 0; minus infinity counts as -1e30, so that no NaN arises. Where the formula needs the probability that a proposition is false, those above -1e-6 count as
/// -1e-6, without gradient to that factor.
///
/// # Errors
/// Another shape, a formula with other propositions, one that no world satisfies.
pub fn log_wmc(formula: &Formula, log_probs: &Tensor) -> Result<Tensor> {
    let (_, n) = check_matrix("log-probabilities", log_probs)?;
    let table = formula.truth_table(n as usize)?;
    check_satisfiable("formula", table)?;
    Ok(Sums::new(&[table]).forward(log_probs)?.remove(0))
}

fn check_satisfiable(what: &str, table: TruthTable) -> Result<()> {
    if table.is_empty() {
        return Err(Error::value(what, "one that a world satisfies", "false"));
    }
    Ok(())
}

/// A loss compiled from a preference structure: `f(log WMC(winning form) - log WMC(losing form))`.
///
/// Worlds are summed in advance as far as disjoint cubes go, so that a batch takes two small matrix products and two log-sum-exps, and
/// losses that are ratios of products (CPO, DPO) need neither complements nor sums.
#[derive(Debug)]
pub struct CompiledLoss {
    sums: Sums,
    link: Link,
}

/// Compiles a structure.
///
/// # Errors
/// A winning or losing form that no world satisfies, a beta or delta out of range.
pub fn compile(structure: &PreferenceStructure, link: Link) -> Result<CompiledLoss> {
    let marks = structure.marks();
    check_satisfiable("winning form", marks.winning())?;
    check_satisfiable("losing form", marks.losing())?;
    link.check()?;
    Ok(CompiledLoss { sums: Sums::new(&[marks.winning(), marks.losing()]), link })
}

impl CompiledLoss {
    /// The same with its tables on a device, so that none is copied there at each call.
    pub fn to_device(&self, device: Device) -> Self {
        Self { sums: self.sums.to_device(device), link: self.link }
    }

    /// The function of the log-ratio.
    pub fn link(&self) -> Link {
        self.link
    }

    /// The log-ratio `rho [B]` from log-probabilities `[B, n]`, at most 0, as [`log_wmc`] takes them. Nothing is detached: what comes
    /// from a reference should be beforehand ([`columns`] does).
    ///
    /// # Errors
    /// Another shape.
    pub fn rho(&self, log_probs: &Tensor) -> Result<Tensor> {
        let sums = self.sums.forward(log_probs)?;
        Ok(&sums[0] - &sums[1])
    }

    /// The losses `[B]` from log-probabilities `[B, n]`, as [`CompiledLoss::rho`].
    ///
    /// # Errors
    /// Another shape.
    pub fn forward(&self, log_probs: &Tensor) -> Result<Tensor> {
        self.link.apply(&self.rho(log_probs)?)
    }

    /// How many of the entries `[B, n]` are so near certainty (above -1e-6) that the probability of the contrary, which this loss
    /// needs, is clamped: an integer scalar, still on its device.
    ///
    /// # Errors
    /// Another shape.
    pub fn clamped(&self, log_probs: &Tensor) -> Result<Tensor> {
        self.sums.check(log_probs)?;
        let near = log_probs.detach().greater(CERTAIN);
        let needed = match &self.sums.negated {
            Some(m) => m.to_device(near.device()).sum_dim_intlist([1i64].as_slice(), false, Kind::Double).greater(0.0),
            None => Tensor::zeros([self.sums.n], (Kind::Bool, near.device())),
        };
        Ok(near.logical_and(&needed).sum(Kind::Int64))
    }
}

/// The columns of the propositions of a pair: `[B, 2]` (winner, loser), or `[B, 4]` with those of a reference, from which no gradient
/// comes.
///
/// Sums over tokens are so small that every probability of the contrary is 1 and losses that differ in it alone are equal; means over
/// tokens ([`PairLogProbs::per_token`]) keep them apart.
///
/// # Errors
/// A reference of another number of pairs.
pub fn columns(policy: &PairLogProbs, reference: Option<&PairLogProbs>) -> Result<Tensor> {
    let mut all = vec![policy.chosen.shallow_clone(), policy.rejected.shallow_clone()];
    if let Some(reference) = reference {
        if reference.chosen.size() != policy.chosen.size() {
            let expected = format!("{:?}, as the policy", policy.chosen.size());
            return Err(Error::shape("reference", expected, &reference.chosen));
        }
        all.extend([reference.chosen.detach(), reference.rejected.detach()]);
    }
    Ok(Tensor::stack(&all, 1))
}
