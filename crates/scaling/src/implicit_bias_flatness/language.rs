//! Languages whose loss and entropy are exact.

use autodidact_core::device::on_host;
use autodidact_core::error::{check_matrix, check_range, check_values};
use autodidact_core::{Error, Result};
use tch::{Kind, Tensor};

/// Most input bits of a language that lists them all.
const MOST_BITS: i64 = 20;

/// Inputs, all equally likely, each with the probability that its label is 1.
#[derive(Debug)]
pub struct BinaryLanguage {
    /// `[N, d]` (f64).
    pub inputs: Tensor,
    /// `P(y = 1 | x)`, `[N]` (f64).
    pub probabilities: Tensor,
    entropy: f64,
}

impl BinaryLanguage {
    /// From `inputs [N, d]` and `probabilities [N]` in `[0, 1]`. Both become f64 and stay on the inputs' device. Probabilities of 0 and 1
    /// make it an ordinary labelled set.
    ///
    /// # Errors
    /// Other shapes, no inputs, probabilities outside `[0, 1]`.
    pub fn new(inputs: &Tensor, probabilities: &Tensor) -> Result<Self> {
        let (n, _) = check_matrix("inputs", inputs)?;
        if n == 0 || probabilities.size() != [n] {
            return Err(Error::shape("probabilities", format!("[{n}], one or more"), probabilities));
        }
        let p = probabilities.to_kind(Kind::Double).to_device(inputs.device());
        check_values("probabilities", &p, 0.0..=1.0)?;
        let q: Tensor = 1.0 - &p;
        let entropy = -(p.xlogy(&p) + q.xlogy(&q)).mean(Kind::Double).double_value(&[]);
        Ok(Self { inputs: inputs.to_kind(Kind::Double), probabilities: p, entropy })
    }

    /// The XOR-language: all `2^d` vectors of signs, `P(y = 1 | x) = sigmoid(strength x_1 x_2)`. Row `i` has the bits of `i`, highest
    /// first, 0 as -1.
    ///
    /// # Errors
    /// `d` outside 2 to 20, a strength that is not finite.
    pub fn xor(d: i64, strength: f64) -> Result<Self> {
        check_range("d", d as f64, 2.0..=MOST_BITS as f64)?;
        check_range("strength", strength, ..)?;
        let rows = Tensor::arange(1 << d, on_host(Kind::Int64)).unsqueeze(1);
        let shifts = Tensor::arange_start_step(d - 1, -1, -1, on_host(Kind::Int64));
        let bits = rows.bitwise_right_shift(&shifts).bitwise_and_tensor(&Tensor::from(1i64));
        let inputs = bits.to_kind(Kind::Double) * 2.0 - 1.0;
        let p = (xor_sign(&inputs) * strength).sigmoid();
        Self::new(&inputs, &p)
    }

    /// The label behind an XOR-language, 1 where `x_1 x_2 = 1`: `[N]` (Int64).
    pub fn xor_labels(&self) -> Tensor {
        xor_sign(&self.inputs).gt(0.0).to_kind(Kind::Int64)
    }

    /// Number of inputs `N`.
    pub fn len(&self) -> i64 {
        self.inputs.size()[0]
    }

    /// Never.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Mean entropy of a label given its input, in nats: the smallest loss.
    pub fn entropy(&self) -> f64 {
        self.entropy
    }

    /// Mean cross-entropy in nats (a scalar with its graph) of logits `[N]` for label 1.
    ///
    /// # Errors
    /// Logits of another shape.
    pub fn loss(&self, logits: &Tensor) -> Result<Tensor> {
        if logits.size() != self.probabilities.size() {
            return Err(Error::shape("logits", format!("{:?}", self.probabilities.size()), logits));
        }
        Ok((logits.softplus() - logits * &self.probabilities).mean(Kind::Double))
    }
}

fn xor_sign(inputs: &Tensor) -> Tensor {
    inputs.select(1, 0) * inputs.select(1, 1)
}

/// How far losses are from the entropy of the language, the smallest one possible.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SaturationMeter {
    /// Entropy in nats.
    pub entropy: f64,
    /// Largest excess, in nats, that counts as the same, minimal loss.
    pub tol: f64,
}

impl SaturationMeter {
    /// A loss over the entropy.
    pub fn excess(&self, loss: f64) -> f64 {
        loss - self.entropy
    }

    /// Whether a model of this excess is saturated.
    pub fn saturated(&self, excess: f64) -> bool {
        excess <= self.tol
    }
}
