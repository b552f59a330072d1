//! Which places the blocks of a decoder attend to.

use crate::{Error, Result};
use tch::{Device, Kind, Tensor};

/// Which of the places up to its own a place attends to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttentionPattern {
    /// All.
    Dense,
    /// Sparse, by turns (Child et al., 2019; arXiv 1904.10509): the first block and every second one after it see the last `stride` places,
    /// the others every `stride`-th place back from their own. For images in raster order the stride is the length of a row.
    Strided {
        /// Places of the local band, and step of the others.
        stride: i64,
    },
}

impl AttentionPattern {
    pub(super) fn check(self) -> Result<()> {
        match self {
            AttentionPattern::Strided { stride } if stride < 1 => {
                Err(Error::value("stride of attention", "at least 1", stride))
            }
            _ => Ok(()),
        }
    }

    /// What a block lets the places `past..past + t` see of the places `0..past + t`: bool `[t, past + t]`; `None` for all up to their own.
    pub fn visible(self, block: usize, past: i64, t: i64, device: Device) -> Option<Tensor> {
        let AttentionPattern::Strided { stride } = self else { return None };
        let options = (Kind::Int64, device);
        let back = Tensor::arange_start(past, past + t, options).unsqueeze(1) - Tensor::arange(past + t, options);
        let chosen = if block.is_multiple_of(2) { back.less(stride) } else { back.remainder(stride).eq(0) };
        Some(chosen.logical_and(&back.greater_equal(0)))
    }

    /// The masks of the blocks by turns, where `cached` is what a cache of `past` places asks for.
    pub(super) fn masks(self, cached: Option<Tensor>, past: i64, t: i64, device: Device) -> Vec<Option<Tensor>> {
        let turns = if self == AttentionPattern::Dense { 1 } else { 2 };
        let of = |block| match (self.visible(block, past, t, device), &cached) {
            (Some(visible), Some(mask)) if mask.kind() == Kind::Bool => Some(visible.logical_and(mask)),
            (Some(visible), Some(scores)) => Some(scores.masked_fill(&visible.logical_not(), f64::NEG_INFINITY)),
            (Some(visible), None) => Some(visible),
            (None, mask) => mask.as_ref().map(Tensor::shallow_clone),
        };
        (0..turns).map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Gpt, GptConfig};
    use tch::nn::VarStore;

    fn rows(t: &Tensor) -> Vec<String> {
        let row = |i| Vec::<i64>::try_from(t.get(i).to_kind(Kind::Int64)).unwrap();
        (0..t.size()[0]).map(|i| row(i).iter().map(|v| if *v == 1 { 'x' } else { '.' }).collect()).collect()
    }

    #[test]
    fn bands_and_strides_take_turns() {
        let pattern = AttentionPattern::Strided { stride: 2 };
        let seen = |block, past, t| rows(&pattern.visible(block, past, t, Device::Cpu).unwrap());
        assert_eq!(seen(0, 0, 4), ["x...", "xx..", ".xx.", "..xx"]);
        assert_eq!(seen(1, 0, 4), ["x...", ".x..", "x.x.", ".x.x"]);
        assert_eq!(seen(2, 2, 2), [".xx.", "..xx"]);
        assert!(AttentionPattern::Dense.visible(0, 0, 4, Device::Cpu).is_none());
    }

    #[test]
    fn a_sparse_network_sees_what_it_says_and_gives_the_same_through_a_cache() {
        tch::manual_seed(3);
        let vs = VarStore::new(Device::Cpu);
        let config =
            GptConfig { pattern: AttentionPattern::Strided { stride: 3 }, ..GptConfig::gpt2(11, 12, 16, 2, 4) };
        let model = Gpt::new(vs.root(), &config).unwrap();
        tch::no_grad(|| vs.trainable_variables().iter_mut().for_each(|t| drop(t.g_mul_scalar_(10.0))));
        let tokens = Tensor::randint(11, [2, 9], (Kind::Int64, Device::Cpu));
        let whole = model.logits(&tokens, None).unwrap();
        for chunks in [vec![1; 9], vec![4, 1, 3, 1]] {
            let mut cache = model.cache(2, Device::Cpu);
            let part = |len| model.logits(&tokens.narrow(1, cache.len(), len), Some(&mut cache)).unwrap();
            let parts: Vec<Tensor> = chunks.into_iter().map(part).collect();
            assert!(Tensor::cat(&parts, 1).allclose(&whole, 1e-4, 1e-4, false));
        }
        // Rows behind padding are what they are without it.
        let mut cache = model.cache_after_padding(&Tensor::from_slice(&[0i64, 2]), 12);
        let first = model.logits(&tokens.narrow(1, 0, 8), Some(&mut cache)).unwrap();
        let last = model.logits(&tokens.narrow(1, 8, 1), Some(&mut cache)).unwrap();
        let padded = Tensor::cat(&[first, last], 1);
        assert!(padded.get(0).allclose(&whole.get(0), 1e-4, 1e-4, false));
        let alone = model.logits(&tokens.narrow(0, 1, 1).narrow(1, 2, 7), None).unwrap();
        assert!(padded.get(1).narrow(0, 2, 7).allclose(&alone.get(0), 1e-4, 1e-4, false));
        // With one block, place 5 sees places 3 to 5 only.
        let local = Gpt::new(&vs.root() / "one", &GptConfig { depth: 1, ..config }).unwrap();
        let other = tokens.copy();
        let _ = other.narrow(1, 0, 3).fill_(0);
        let [a, b] = [&tokens, &other].map(|t| local.logits(t, None).unwrap());
        assert!(a.narrow(1, 5, 4).allclose(&b.narrow(1, 5, 4), 1e-6, 1e-6, false));
        let bad = GptConfig { pattern: AttentionPattern::Strided { stride: 0 }, ..config };
        assert!(bad.check().unwrap_err().to_string().contains("stride"));
    }
}
