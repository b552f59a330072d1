//! Momentum contrast (He, Fan, Wu, Xie and Girshick, 2020; arXiv 1911.05722).
//!
//! Queries come from the trained network, keys from one that follows it as an exponential moving average, and the keys of
//! earlier batches, kept in a queue, are the negatives: many of them, consistent with each other, at the cost of none.
//!
//! `L = mean_i -log( exp(q_i k_i/tau) / (exp(q_i k_i/tau) + sum_n exp(q_i k_n/tau)) )` with vectors of unit length and `k_n`
//! over the queue.
//!
//! ```
//! use autodidact_core::nn::layers::linear;
//! use autodidact_core::optim::Ema;
//! use autodidact_ssl::moco::Moco;
//! use tch::nn::{Module, VarStore};
//! use tch::{Device, Kind, Tensor};
//!
//! # fn main() -> autodidact_core::Result<()> {
//! let (online, mut target) = (VarStore::new(Device::Cpu), VarStore::new(Device::Cpu));
//! let [query, key] = [&online, &target].map(|vs| linear(vs.root(), 8, 4, true));
//! let moco = Moco { queue: 64, ..Default::default() };
//! let (mut ema, mut queue) = (Ema::new(&mut target, &online)?, moco.queue(online.root() / "queue", 4)?);
//! let views = [(); 2].map(|()| Tensor::randn([16, 8], (Kind::Float, Device::Cpu)));
//! // A step: loss, queue, (gradients and optimizer,) moving average.
//! let keys = key.forward(&views[1]);
//! let loss = moco.forward(&query.forward(&views[0]), &keys, &queue.keys())?;
//! queue.enqueue(&keys)?;
//! loss.backward();
//! ema.update(moco.momentum)?;
//! # Ok(())
//! # }
//! ```

use crate::{check_pair, in_full_precision, unit};
use autodidact_core::error::check_range;
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::nn::Path;
use tch::{Kind, Tensor};

/// Constants of the method; the default is the paper's for ImageNet.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Moco {
    /// `tau`, above 0.
    pub tau: f64,
    /// `m`, decay of the key network's moving average ([`Ema`](autodidact_core::optim::Ema)).
    pub momentum: f64,
    /// `K`, keys in the queue.
    pub queue: i64,
}

impl Default for Moco {
    fn default() -> Self {
        Self { tau: 0.07, momentum: 0.999, queue: 65_536 }
    }
}

impl Moco {
    /// A queue of this size for keys of a width, as variables below `p`.
    ///
    /// # Errors
    /// As [`Queue::new`].
    pub fn queue(&self, p: Path, width: i64) -> Result<Queue> {
        Queue::new(p, &[self.queue, width])
    }

    /// The loss of queries and keys `[N, D]` (normalised here) against the keys of earlier batches `[K, D]` (of unit length, as
    /// [`Queue::keys`] gives them): a scalar, the mean over queries. No gradient goes to the keys.
    ///
    /// # Errors
    /// Shapes that differ, fewer than two rows, a temperature not above 0.
    pub fn forward(&self, queries: &Tensor, keys: &Tensor, negatives: &Tensor) -> Result<Tensor> {
        let (_, d) = check_pair(queries, keys)?;
        check_range("tau", self.tau, f64::MIN_POSITIVE..)?;
        if !matches!(negatives.size()[..], [k, e] if k > 0 && e == d) {
            return Err(Error::shape("negatives", format!("[K, {d}]"), negatives));
        }
        in_full_precision([queries, keys, negatives], |[queries, keys, negatives]| {
            let (q, k) = (unit(&queries), unit(&keys.detach().to_kind(queries.kind())));
            let positive = (&q * k).sum_dim_intlist([1i64].as_slice(), true, q.kind());
            // The queue is in 32 bits, whatever the queries are in.
            let negatives = negatives.detach().to_kind(q.kind());
            let logits = Tensor::cat(&[positive, q.matmul(&negatives.tr())], 1) / self.tau;
            Ok((logits.logsumexp([1i64].as_slice(), false) - logits.select(1, 0)).mean(logits.kind()))
        })
    }
}

/// Keys of earlier batches, first in, first out. They and the position are variables of a store (not trained), so that
/// checkpoints of the store hold them.
#[derive(Debug)]
pub struct Queue {
    keys: Tensor,
    /// Where the next key goes, `[1]`; on the device, so that no step waits for it.
    next: Tensor,
}

impl Queue {
    /// Keys `[K, D]`, or `[C, K, D]` for `C` heads, at first random ones of unit length.
    ///
    /// # Errors
    /// A shape of other than two or three dimensions, or with one below 1.
    pub fn new(p: Path, shape: &[i64]) -> Result<Self> {
        if !matches!(shape.len(), 2 | 3) || shape.iter().any(|s| *s < 1) {
            return Err(Error::value("queue", "a shape [K, D] or [C, K, D]", format!("{shape:?}")));
        }
        let keys = unit(&Tensor::randn(shape, (Kind::Float, p.device())));
        let next = Tensor::zeros([1], (Kind::Int64, p.device()));
        Ok(Self { keys: p.add("keys", keys, false), next: p.add("next", next, false) })
    }

    /// A copy of the keys (a loss may hold it while the queue moves on), of unit length.
    pub fn keys(&self) -> Tensor {
        self.keys.copy()
    }

    /// Puts the keys of a batch, `[N, D]` or `[C, N, D]`, in place of the oldest: normalised, detached, in f32.
    ///
    /// # Errors
    /// Another shape, or more keys than the queue holds.
    pub fn enqueue(&mut self, keys: &Tensor) -> Result<()> {
        let (size, dim) = (self.keys.size(), self.keys.dim());
        let mut expected = size.clone();
        let n = if keys.dim() == dim { keys.size()[dim - 2] } else { 0 };
        expected[dim - 2] = n;
        if n < 1 || n > size[dim - 2] || keys.size() != expected {
            return Err(Error::shape("keys", format!("at most {size:?} in the last but one dimension"), keys));
        }
        tch::no_grad(|| {
            let keys = unit(&keys.detach().to_kind(Kind::Float));
            let place = (&self.next + Tensor::arange(n, (Kind::Int64, self.next.device()))).remainder(size[dim - 2]);
            let _ = self.keys.index_copy_(dim as i64 - 2, &place, &keys);
            let _ = self.next.g_add_scalar_(n).remainder_(size[dim - 2]);
        });
        Ok(())
    }
}
