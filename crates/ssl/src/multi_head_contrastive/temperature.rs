//! A temperature for every pair of embeddings.

use autodidact_core::error::check_range;
use autodidact_core::nn::{Mlp, MlpConfig, layers};
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::Tensor;
use tch::nn::{Linear, ModuleT, Path};

/// What decides a pair's temperature.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Rule {
    /// The same for all, not learned.
    Constant(f64),
    /// `q = <phi(z), phi(z')>` with a small network `phi`.
    DotOfPhi,
    /// `q = m(z * z')`, a small network of the entrywise product.
    Hadamard,
    /// `q = [m(z, z') + m(z', z)]/2`, a small network of the two vectors one after the other.
    Concat,
}

/// Constants of a [`PairTemperature`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TemperatureConfig {
    /// What decides.
    pub rule: Rule,
    /// Lowest temperature, above 0. The loss is unbounded in the temperatures of negatives, and gradients grow like its
    /// inverse, so keep it well above 0.
    pub low: f64,
    /// Highest temperature, at least `low`.
    pub high: f64,
    /// Hidden width of the network (and output width of `phi`).
    pub hidden: i64,
    /// Whether no gradient flows through the temperatures into the embeddings.
    pub detach: bool,
}

impl Default for TemperatureConfig {
    fn default() -> Self {
        Self { rule: Rule::DotOfPhi, low: 0.1, high: 1.0, hidden: 128, detach: false }
    }
}

#[derive(Debug)]
enum Net {
    Constant(f64),
    Phi(Mlp),
    Hadamard(Linear, Linear),
    Concat(Linear, Linear),
}

/// Temperatures `low + (high - low) sigmoid(q)` of pairs of embeddings, one predictor for all heads; symmetric in the pair.
#[derive(Debug)]
pub struct PairTemperature {
    net: Net,
    low: f64,
    high: f64,
    detach: bool,
    /// Width of the embeddings; none for a constant.
    width: Option<i64>,
}

impl PairTemperature {
    /// Fresh weights under `p` for embeddings of `width`.
    ///
    /// # Errors
    /// Bounds that descend or are not above 0, a constant not above 0, widths below 1.
    pub fn new(p: Path, width: i64, config: &TemperatureConfig) -> Result<Self> {
        let TemperatureConfig { rule, low, high, hidden, detach } = *config;
        if let Rule::Constant(tau) = rule {
            return Self::constant(tau);
        }
        check_range("low", low, f64::MIN_POSITIVE..)?;
        check_range("high", high, low..)?;
        for (what, value) in [("width", width), ("hidden", hidden)] {
            if value < 1 {
                return Err(Error::value(what, "at least 1", value));
            }
        }
        let layers =
            |input| (layers::linear(&p / "first", input, hidden, true), layers::linear(&p / "last", hidden, 1, true));
        let net = match rule {
            Rule::Constant(tau) => Net::Constant(tau),
            Rule::DotOfPhi => Net::Phi(Mlp::new(&p / "phi", &MlpConfig::plain(&[width, hidden, hidden]))?),
            Rule::Hadamard => {
                let (first, last) = layers(width);
                Net::Hadamard(first, last)
            }
            Rule::Concat => {
                let (first, last) = layers(2 * width);
                Net::Concat(first, last)
            }
        };
        Ok(Self { net, low, high, detach, width: Some(width) })
    }

    /// The same temperature for all pairs, which needs no weights.
    ///
    /// # Errors
    /// A temperature not above 0.
    pub fn constant(tau: f64) -> Result<Self> {
        check_range("tau", tau, f64::MIN_POSITIVE..)?;
        Ok(Self { net: Net::Constant(tau), low: tau, high: tau, detach: false, width: None })
    }

    /// Temperatures `[C, R, M]` of all pairs of `z [C, R, d']` with `other [C, M, d']` (unit vectors).
    ///
    /// # Errors
    /// Shapes that do not match each other or the predictor.
    pub fn all(&self, z: &Tensor, other: &Tensor) -> Result<Tensor> {
        let (c, r, d) = match z.size()[..] {
            [c, r, d] if self.width.is_none_or(|w| w == d) => (c, r, d),
            _ => return Err(Error::shape("z", format!("[C, R, {}]", self.width.unwrap_or(0)), z)),
        };
        let m = match other.size()[..] {
            [heads, m, e] if heads == c && e == d => m,
            _ => return Err(Error::shape("other", format!("[{c}, M, {d}]"), other)),
        };
        if let Net::Constant(tau) = self.net {
            return Ok(Tensor::full([1, 1, 1], tau, (z.kind(), z.device())).expand([c, r, m], false));
        }
        // Pairs within one set need one pass through phi.
        let same = std::ptr::eq(z, other);
        let [z, other] = [z, other].map(|x| if self.detach { x.detach() } else { x.shallow_clone() });
        let q = match &self.net {
            Net::Constant(_) => unreachable!("returned above"),
            Net::Phi(phi) => {
                let a = phi.forward_t(&z, true);
                let b = if same { a.shallow_clone() } else { phi.forward_t(&other, true) };
                a.matmul(&b.transpose(1, 2))
            }
            Net::Hadamard(first, last) => {
                // Of hidden unit h: sum_k z_k w_hk z'_k, so the products of all pairs are never held.
                let h = first.ws.size()[0];
                let weighted = (z.unsqueeze(2) * &first.ws).reshape([c, r * h, d]);
                let hidden = weighted.matmul(&other.transpose(1, 2)).view([c, r, h, m]);
                let hidden = biased(hidden, first, &[1, 1, h, 1]).relu();
                biased(last.ws.matmul(&hidden).squeeze_dim(2), last, &[1])
            }
            Net::Concat(first, last) => {
                let [own, others] = [0, d].map(|from| first.ws.narrow(1, from, d).tr());
                let h = first.ws.size()[0];
                let hidden = |of_z: &Tensor, of_other: &Tensor| {
                    let sum = z.matmul(of_z).unsqueeze(2) + other.matmul(of_other).unsqueeze(1);
                    biased(sum, first, &[h]).relu()
                };
                let both = (hidden(&own, &others) + hidden(&others, &own)) / 2.0;
                biased(both.matmul(&last.ws.tr()).squeeze_dim(3), last, &[1])
            }
        };
        // In place: the product is not needed for a gradient.
        Ok((q.sigmoid() * (self.high - self.low)).g_add_scalar_(self.low))
    }

    /// Temperatures `[C, N]` of the pairs of the same rows of `z` and `other`, `[C, N, d']` each.
    ///
    /// # Errors
    /// As [`all`](Self::all).
    pub fn rows(&self, z: &Tensor, other: &Tensor) -> Result<Tensor> {
        match z.size()[..] {
            [c, n, d] if other.size() == z.size() => {
                let [z, other] = [z, other].map(|x| x.reshape([c * n, 1, d]));
                Ok(self.all(&z, &other)?.reshape([c, n]))
            }
            _ => Err(Error::shape("other", format!("{:?}, the shape of z", z.size()), other)),
        }
    }
}

fn biased(x: Tensor, layer: &Linear, shape: &[i64]) -> Tensor {
    match &layer.bs {
        Some(bias) => x + bias.view(shape),
        None => x,
    }
}
