//! The k-th largest magnitude of many tensors, without sorting or joining them.

use crate::{Error, Result};
use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

/// Bits of a magnitude that the first look sorts by.
const HIGH: u32 = 16;
/// Values of one thread's share.
const CHUNK: usize = 1 << 18;

/// The magnitudes of kept weights (f32, on the CPU), masked ones left out.
fn magnitudes(weights: &Tensor, mask: &Tensor) -> Result<Vec<f32>> {
    let flat = weights.detach().flatten(0, -1).to_kind(Kind::Float);
    let kept = if mask.min().double_value(&[]) > 0.0 { flat } else { flat.masked_select(&mask.flatten(0, -1).gt(0.0)) };
    Ok(Vec::try_from(kept.abs().to_device(Device::Cpu))?)
}

/// The `k`-th largest magnitude (`k` from 1) over all weights that are kept, and how many of that very magnitude belong to the `k`
/// largest. Two passes: a histogram of the upper half of the bits (magnitudes of floats are ordered as their bits are), then the values
/// of one bin.
///
/// # Errors
/// Weights that are not finite, fewer than `k` of them.
pub(super) fn threshold<'a>(
    entries: impl Iterator<Item = (&'a str, &'a Tensor, &'a Tensor)>,
    k: usize,
) -> Result<(f32, usize)> {
    let mut all = vec![];
    for (name, weights, mask) in entries {
        let values = magnitudes(weights, mask)?;
        check_finite(name, &values)?;
        all.push(values);
    }
    let chunks: Vec<&[f32]> = all.iter().flat_map(|v| v.chunks(CHUNK)).collect();
    let bin = |v: &f32| (v.to_bits() >> HIGH) as usize;
    let empty = || vec![0u64; 1 << HIGH];
    let counts = chunks
        .par_iter()
        .fold(empty, |mut counts, chunk| {
            chunk.iter().for_each(|v| counts[bin(v)] += 1);
            counts
        })
        .reduce(empty, |mut a, b| {
            a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
            a
        });
    let mut left = k as u64;
    let found = (0..counts.len()).rev().find(|b| {
        let here = left <= counts[*b];
        left -= if here { 0 } else { counts[*b] };
        here
    });
    let (Some(found), true) = (found, k > 0) else {
        return Err(Error::value("kept weights", format!("{k} or more, and one at least"), counts.iter().sum::<u64>()));
    };
    let mut bits: Vec<u32> =
        chunks.par_iter().flat_map_iter(|c| c.iter().filter(|v| bin(v) == found).map(|v| v.to_bits())).collect();
    let at = bits.len() - left as usize;
    let (_, value, larger) = bits.select_nth_unstable(at);
    let value = *value;
    let above = larger.iter().filter(|b| **b > value).count();
    Ok((f32::from_bits(value), left as usize - above))
}

fn check_finite(name: &str, values: &[f32]) -> Result<()> {
    match values.par_iter().find_any(|v| !v.is_finite()) {
        Some(bad) => Err(Error::value(name, "finite weights", bad)),
        None => Ok(()),
    }
}

/// Mask of a tensor's `rank` above a threshold, and of its first `ties` values at the threshold, which it counts down.
pub(super) fn above(weights: &Tensor, mask: &Tensor, threshold: f32, ties: &mut usize) -> Tensor {
    let magnitude = weights.detach().abs().to_kind(Kind::Float);
    let kept = mask.gt(0.0);
    let mut chosen = magnitude.gt(f64::from(threshold)).logical_and(&kept);
    if *ties > 0 {
        let places = magnitude.eq(f64::from(threshold)).logical_and(&kept).flatten(0, -1).nonzero().squeeze_dim(1);
        let take = (*ties).min(places.numel());
        let flat = chosen.flatten(0, -1).index_fill(0, &places.narrow(0, 0, take as i64), 1.0);
        chosen = flat.view_as(weights);
        *ties -= take;
    }
    chosen.to_kind(weights.kind())
}
