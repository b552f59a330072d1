//! Preference losses: DPO from hidden states to gradients, and the family on log-probabilities.

use crate::scrambled;
use anyhow::Result;
use autodidact_benches::{Entry, Work};
use autodidact_core::text::selected_log_probs;
use autodidact_preference::losses::{PairLogProbs, dpo, ipo, orpo, simpo};
use serde_json::json;
use tch::{Device, Kind, Tensor};

/// Pairs, tokens of a response, width, vocabulary.
const SIZES: [i64; 4] = [8, 256, 512, 50_257];
const BETA: f64 = 0.1;

pub fn entries() -> [Entry; 3] {
    [in_parts(), beside_trl(), family()]
}

/// Hidden states of chosen and rejected responses, the output head, the tokens, and the reference's log-probabilities.
struct Inputs {
    hidden: Tensor,
    head: Tensor,
    tokens: Tensor,
    reference: PairLogProbs,
}

impl Inputs {
    fn new() -> Result<Self> {
        let [pairs, length, width, vocabulary] = SIZES;
        let tokens = Tensor::arange(2 * pairs * length, (Kind::Int64, Device::Cpu)) * 7919;
        let zeros = || Tensor::zeros([pairs], (Kind::Float, Device::Cpu));
        Ok(Self {
            hidden: scrambled(&[2 * pairs, length, width], 0.0, Kind::Float).set_requires_grad(true),
            head: (scrambled(&[vocabulary, width], 0.5, Kind::Float) * 0.1).set_requires_grad(true),
            tokens: tokens.remainder(vocabulary).view([2 * pairs, length]),
            reference: PairLogProbs::new(zeros(), zeros())?,
        })
    }

    /// DPO of log-probabilities of tokens, down to the gradients of hidden states and head.
    fn dpo(mut self, log_probs: impl Fn(&Tensor, &Tensor, &Tensor) -> Result<Tensor> + 'static) -> Work {
        Box::new(move || {
            self.hidden.zero_grad();
            self.head.zero_grad();
            let each = log_probs(&self.hidden, &self.head, &self.tokens)?;
            let pairs = PairLogProbs::halves(&each.sum_dim_intlist([1i64].as_slice(), false, Kind::Float))?;
            let loss = dpo(&pairs.margin(&self.reference)?, BETA)?.mean(Kind::Float);
            loss.backward();
            Ok(loss.double_value(&[]))
        })
    }
}

fn parts() -> Result<Work> {
    Ok(Inputs::new()?.dpo(|hidden, head, tokens| Ok(selected_log_probs(hidden, head, tokens)?)))
}

fn whole() -> Result<Work> {
    Ok(Inputs::new()?.dpo(|hidden, head, tokens| {
        let all = hidden.matmul(&head.tr()).log_softmax(-1, None::<Kind>);
        Ok(all.gather(2, &tokens.unsqueeze(2), false).squeeze_dim(2))
    }))
}

fn what() -> String {
    let [pairs, length, width, vocabulary] = SIZES;
    format!(
        "DPO forward and backward from hidden states: {pairs} pairs of {length} tokens, width {width}, vocabulary {vocabulary}"
    )
}

fn in_parts() -> Entry {
    Entry::new("preference/dpo", what(), parts).beside_ours("all logits at once", whole).agreeing(1e-4).at_most(1.1)
}

fn beside_trl() -> Entry {
    let [pairs, length, width, vocabulary] = SIZES;
    let arguments = json!({"pairs": pairs, "length": length, "width": width, "vocabulary": vocabulary, "beta": BETA});
    Entry::new("preference/dpo-trl", what(), parts)
        .beside_python("selective_log_softmax", "dpo", arguments)
        .agreeing(1e-4)
        .at_most(1.1)
}

/// Four losses with their gradients on log-probabilities of many responses.
fn family() -> Entry {
    const PAIRS: i64 = 65_536;
    let ours = || -> Result<Work> {
        let side = |phase: f64| -> Tensor {
            let leaf: Tensor = -(scrambled(&[PAIRS], phase, Kind::Float).abs() * 40.0 + 1.0);
            leaf.set_requires_grad(true)
        };
        let (mut chosen, mut rejected) = (side(0.0), side(0.5));
        let reference = PairLogProbs::new(side(0.25).detach(), side(0.75).detach())?;
        let lengths = Tensor::full([PAIRS], 20.0, (Kind::Float, Device::Cpu));
        Ok(Box::new(move || {
            chosen.zero_grad();
            rejected.zero_grad();
            let policy = PairLogProbs::new(chosen.shallow_clone(), rejected.shallow_clone())?;
            let margin = policy.margin(&reference)?;
            let means = policy.per_token(&lengths, &lengths)?;
            let each = dpo(&margin, BETA)? + ipo(&margin, BETA)? + simpo(&means, 2.0, 1.0)? + orpo(&means)?;
            let loss = each.mean(Kind::Float);
            loss.backward();
            Ok(loss.double_value(&[]))
        }))
    };
    Entry::new(
        "preference/losses",
        "DPO, IPO, SimPO and ORPO with gradients on 65,536 pairs of log-probabilities",
        ours,
    )
    .beside_python("as in trl's trainers", "preference_losses", json!({"pairs": PAIRS, "beta": BETA}))
    .agreeing(1e-4)
    .at_most(1.1)
}
