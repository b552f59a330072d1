//! Known preference losses and their structures.

use super::loss::{CompiledLoss, Link, columns, compile};
use super::structure::{Marks, PreferenceStructure};
use crate::losses::PairLogProbs;
use autodidact_core::error::check_range;
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// The propositions of a loss and where their log-probabilities come from.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Input {
    /// Winner and loser, of the policy.
    Policy,
    /// These and the reference's.
    WithReference,
    /// These and those of a reference that is made up: it prefers every winner by `margin` nats.
    ManualReference {
        /// `log q_w - log q_l`, at least 0.
        margin: f64,
    },
    /// The policy's, a second copy of the winner, and the reference's copies of the three. The copy's log-ratio to its reference is
    /// `-lambda max(0, log q_w - log p_w)`, a penalty on winners that the policy finds less likely than the reference does.
    PenalisedWinner {
        /// Weight of the penalty, at least 0.
        lambda: f64,
    },
}

impl Input {
    /// Names of the propositions, for formulas.
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Self::Policy => &["w", "l"],
            Self::WithReference | Self::ManualReference { .. } => &super::SHORT,
            Self::PenalisedWinner { .. } => &["w", "l", "w2", "w_ref", "l_ref", "w2_ref"],
        }
    }

    /// Names of their probabilities, for polynomials.
    pub fn probabilities(self) -> &'static [&'static str] {
        match self {
            Self::Policy => &["p_w", "p_l"],
            Self::WithReference | Self::ManualReference { .. } => &super::PROBABILITIES,
            Self::PenalisedWinner { .. } => &["p_w", "p_l", "p_w2", "q_w", "q_l", "q_w2"],
        }
    }

    /// Whether log-probabilities of a reference are needed.
    pub fn needs_reference(self) -> bool {
        matches!(self, Self::WithReference | Self::PenalisedWinner { .. })
    }

    /// Log-probabilities of the propositions, `[B, n]`; no gradient comes from a reference.
    ///
    /// # Errors
    /// No reference where one is needed, one of another number of pairs, a margin or lambda below 0.
    pub fn columns(self, policy: &PairLogProbs, reference: Option<&PairLogProbs>) -> Result<Tensor> {
        if self.needs_reference() && reference.is_none() {
            return Err(Error::value("reference", "log-probabilities of a reference", "none"));
        }
        match self {
            Self::Policy => columns(policy, None),
            Self::WithReference => columns(policy, reference),
            Self::ManualReference { margin } => {
                check_range("margin", margin, 0.0..)?;
                let certain = policy.chosen.zeros_like();
                let rejected = &certain - margin;
                columns(policy, Some(&PairLogProbs { chosen: certain, rejected }))
            }
            Self::PenalisedWinner { lambda } => {
                check_range("lambda", lambda, 0.0..)?;
                let four = columns(policy, reference)?;
                let column = |i| four.select(1, i);
                let copy = (column(2) - column(0)).relu() * -lambda;
                let certain = copy.zeros_like();
                Ok(Tensor::stack(&[column(0), column(1), copy, column(2), column(3), certain], 1))
            }
        }
    }
}

/// A loss that has a name.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedLoss {
    /// As it is usually called.
    pub name: &'static str,
    /// Its structure.
    pub structure: PreferenceStructure,
    /// Its function of the log-ratio, with usual settings.
    pub link: Link,
    /// What its propositions are.
    pub input: Input,
}

impl NamedLoss {
    /// The loss on log-probabilities `[B, n]` of its propositions ([`Input::columns`]).
    ///
    /// # Errors
    /// Those of [`compile`], should `link` have been changed to a bad one.
    pub fn compile(&self) -> Result<CompiledLoss> {
        compile(&self.structure, self.link)
    }

    /// The losses `[B]` of a batch of pairs.
    ///
    /// # Errors
    /// Those of [`Input::columns`].
    pub fn forward(&self, policy: &PairLogProbs, reference: Option<&PairLogProbs>) -> Result<Tensor> {
        self.compile()?.forward(&self.input.columns(policy, reference)?)
    }
}

/// Losses of a policy alone: names and marks.
const SINGLE: [(&str, &str); 10] = [
    ("CE", "++--"),
    ("CEunl", "-+--"),
    ("CPO", "*+-."),
    ("ORPO", ".+-."),
    ("sCPO", "++-+"),
    ("cCPO", "++-."),
    ("cUNL", "-+-."),
    ("fUNL", "-+-+"),
    ("cfUNL", ".+-+"),
    ("qfUNL", ".+-*"),
];

/// The named losses.
///
/// Of the policy alone, on log-probabilities per token and with `-log sigmoid(rho)`: CE (log-odds of the winner), CEunl (the same and
/// unlikelihood of the loser), CPO, ORPO, and sCPO, cCPO, cUNL, fUNL, cfUNL, qfUNL, which differ from these in constraints. CPO with
/// other links: SLiC (`delta` 1) and RRHF. CPO relative to a reference: DPO (`beta` 0.1) and IPO (`beta` 0.1); to one that is made up:
/// SimPO (`beta` 2, `gamma` 1, that is a margin of 1/2); with a second copy of the winner: DPOP (`beta` 0.1, `lambda` 50).
pub fn catalogue() -> Vec<NamedLoss> {
    let structure = |marks: &str| marks.parse::<Marks>().expect("marks of the catalogue are well-formed").structure();
    let relative = |marks| structure(marks).with_reference().expect("structures of the catalogue are small enough");
    let single = |&(name, marks): &(&'static str, &str)| NamedLoss {
        name,
        structure: structure(marks),
        link: Link::default(),
        input: Input::Policy,
    };
    let cpo = "*+-.";
    let beta = 0.1;
    let mut all: Vec<NamedLoss> = SINGLE.iter().map(single).collect();
    all.extend([
        NamedLoss { name: "SLiC", structure: structure(cpo), link: Link::Hinge { delta: 1.0 }, input: Input::Policy },
        NamedLoss { name: "RRHF", structure: structure(cpo), link: Link::Rrhf, input: Input::Policy },
        NamedLoss {
            name: "DPO",
            structure: relative(cpo),
            link: Link::LogSigmoid { beta },
            input: Input::WithReference,
        },
        NamedLoss { name: "IPO", structure: relative(cpo), link: Link::Ipo { beta }, input: Input::WithReference },
        NamedLoss {
            name: "SimPO",
            structure: relative(cpo),
            link: Link::LogSigmoid { beta: 2.0 },
            input: Input::ManualReference { margin: 0.5 },
        },
        // Winner and its copy against the loser.
        NamedLoss {
            name: "DPOP",
            structure: relative("*-+.--.."),
            link: Link::LogSigmoid { beta },
            input: Input::PenalisedWinner { lambda: 50.0 },
        },
    ]);
    all
}
