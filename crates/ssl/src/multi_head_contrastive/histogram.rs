//! How far the similarities of positive and negative pairs are apart.

use autodidact_core::{Error, Result};
use tch::{Device, Kind, Tensor};

/// How similar positive and negative pairs are.
#[derive(Debug, Clone, PartialEq)]
pub struct SimilarityHistogram {
    /// Share of the positive pairs in each of the equal bins of `[-1, 1]`, ascending.
    pub positive: Vec<f64>,
    /// The same of the negative pairs.
    pub negative: Vec<f64>,
}

impl SimilarityHistogram {
    /// Of cosine similarities, in tensors of any shape.
    ///
    /// # Errors
    /// No bins, no pairs, similarities that are not finite.
    pub fn new(positive: &Tensor, negative: &Tensor, bins: i64) -> Result<Self> {
        if bins < 1 {
            return Err(Error::value("bins", "at least 1", bins));
        }
        let shares = |what: &str, s: &Tensor| -> Result<Vec<f64>> {
            if s.numel() == 0 || s.isfinite().all().int64_value(&[]) == 0 {
                return Err(Error::value(what, "one or more finite similarities", "none or NaN"));
            }
            // Rounding may carry a cosine past its bounds.
            let s = s.detach().to_device(Device::Cpu).to_kind(Kind::Double).clamp(-1.0, 1.0);
            // Not `histc`, which takes its bounds from the data when they are equal.
            let bin = ((s + 1.0) * (bins as f64 / 2.0)).floor().clamp_max(bins as f64 - 1.0).to_kind(Kind::Int64);
            let counts = bin.view(-1).bincount::<Tensor>(None, bins).to_kind(Kind::Double);
            Ok((&counts / counts.sum(Kind::Double)).try_into()?)
        };
        Ok(Self { positive: shares("positive", positive)?, negative: shares("negative", negative)? })
    }

    /// Overlap coefficient of the two: the sum over bins of the smaller share, 0 (apart) to 1 (equal).
    pub fn overlap(&self) -> f64 {
        self.positive.iter().zip(&self.negative).map(|(p, n)| p.min(*n)).sum()
    }
}
