//! Rotary position embedding (Su et al., 2021, arXiv 2104.09864) and its stretched variants for longer contexts.
//!
//! Features `i` and `i + head/2` of a query or key at position `p` turn by the angle `p w_i`, `w_i = base^(-2i/head)`, so that the
//! product of a query and a key depends on their distance. The variants are those that Hugging Face configurations name under
//! `rope_scaling`: they change `w_i` and, in YaRN, scale the turned features.
//!
//! ```
//! use autodidact_core::nn::{Rotary, RotaryScaling};
//! let plain = Rotary::new(10_000.0);
//! assert_eq!(plain.frequencies(4).0, [1.0, 0.01]);
//! let half_speed = Rotary { scaling: RotaryScaling::Linear { factor: 2.0 }, ..plain };
//! assert_eq!(half_speed.frequencies(4).0, [0.5, 0.005]);
//! ```

use crate::error::check_range;
use crate::{Error, Result};
use std::f64::consts::TAU;
use tch::{Kind, Tensor};

/// Rotary positions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rotary {
    /// Base of the frequencies (Llama 2: 10,000; Llama 3: 500,000; Qwen2: 1,000,000).
    pub base: f64,
    /// Stretching to a longer context.
    pub scaling: RotaryScaling,
}

/// How the frequencies are stretched to a context longer than that of pre-training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RotaryScaling {
    /// Not at all.
    None,
    /// Every frequency divided by `factor` (position interpolation; Chen et al., 2023, arXiv 2306.15595).
    Linear {
        /// Ratio of the contexts, at least 1.
        factor: f64,
    },
    /// Llama 3.1: wavelengths beyond `original / low` are stretched by `factor`, those below `original / high` are kept, those
    /// between are blended linearly in `original / wavelength`.
    Llama3 {
        /// Ratio by which long waves are stretched, at least 1.
        factor: f64,
        /// `low_freq_factor`.
        low: f64,
        /// `high_freq_factor`, above `low`.
        high: f64,
        /// Context of pre-training, in tokens.
        original: i64,
    },
    /// YaRN (Peng et al., 2023, arXiv 2309.00071): frequencies of more than `fast` turns within the original context are kept, those of
    /// fewer than `slow` are divided by `factor`, with a linear ramp over the features between; cosines and sines are scaled by
    /// `attention`.
    Yarn {
        /// Ratio of the contexts, at least 1.
        factor: f64,
        /// Context of pre-training, in tokens.
        original: i64,
        /// `beta_fast`, in turns (the paper's 32).
        fast: f64,
        /// `beta_slow`, in turns (the paper's 1).
        slow: f64,
        /// Factor on cosines and sines; the paper's is [`yarn_attention`].
        attention: f64,
        /// Whether the ends of the ramp are whole features.
        truncate: bool,
    },
}

/// YaRN's factor on cosines and sines: `0.1 ln(factor) + 1`.
pub fn yarn_attention(factor: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * factor.ln() + 1.0 }
}

impl Rotary {
    /// Rotary positions of this base, not stretched.
    pub fn new(base: f64) -> Self {
        Self { base, scaling: RotaryScaling::None }
    }

    /// Checks base and scaling, for heads of width `head`.
    ///
    /// # Errors
    /// An odd head width; a base that is not above 1; settings outside the ranges that [`RotaryScaling`] gives.
    pub fn check(&self, head: i64) -> Result<()> {
        if head < 2 || head % 2 != 0 {
            return Err(Error::value("head width", "an even number for rotary positions", head));
        }
        if !(self.base.is_finite() && self.base > 1.0) {
            return Err(Error::value("rotary base", "a number above 1", self.base));
        }
        let context = |original: i64| match original {
            1.. => Ok(()),
            _ => Err(Error::value("original context of the rotary scaling", "at least 1", original)),
        };
        match self.scaling {
            RotaryScaling::None => Ok(()),
            RotaryScaling::Linear { factor } => check_range("rotary factor", factor, 1.0..),
            RotaryScaling::Llama3 { factor, low, high, original } => {
                check_range("rotary factor", factor, 1.0..)?;
                check_range("low_freq_factor", low, f64::MIN_POSITIVE..high)?;
                check_range("high_freq_factor", high, low..)?;
                context(original)
            }
            RotaryScaling::Yarn { factor, original, fast, slow, attention, .. } => {
                check_range("rotary factor", factor, 1.0..)?;
                check_range("beta_slow", slow, f64::MIN_POSITIVE..=fast)?;
                check_range("beta_fast", fast, slow..)?;
                check_range("attention_factor", attention, f64::MIN_POSITIVE..)?;
                context(original)
            }
        }
    }

    /// Angular frequencies of the `head / 2` pairs of features, in radians per position, and the factor on cosines and sines.
    pub fn frequencies(&self, head: i64) -> (Vec<f64>, f64) {
        let half = (head / 2) as usize;
        let plain = (0..half).map(|i| self.base.powf(-2.0 * i as f64 / head as f64));
        match self.scaling {
            RotaryScaling::None => (plain.collect(), 1.0),
            RotaryScaling::Linear { factor } => (plain.map(|w| w / factor).collect(), 1.0),
            RotaryScaling::Llama3 { factor, low, high, original } => {
                let stretch = |w: f64| {
                    // Waves that fit into the original context, clamped to the blend's ends.
                    let kept = ((original as f64 * w / TAU - low) / (high - low)).clamp(0.0, 1.0);
                    (1.0 - kept) * w / factor + kept * w
                };
                (plain.map(stretch).collect(), 1.0)
            }
            RotaryScaling::Yarn { factor, original, fast, slow, attention, truncate } => {
                // The (fractional) feature that makes so many turns within the original context.
                let feature =
                    |turns: f64| head as f64 * (original as f64 / (turns * TAU)).ln() / (2.0 * self.base.ln());
                let (mut from, mut to) = (feature(fast), feature(slow));
                if truncate {
                    (from, to) = (from.floor(), to.ceil());
                }
                let (from, to) = (from.max(0.0), to.min(head as f64 - 1.0));
                // Hugging Face's guard against a ramp without length.
                let length = if from == to { 0.001 } else { to - from };
                let stretch = |(i, w): (usize, f64)| {
                    let stretched = ((i as f64 - from) / length).clamp(0.0, 1.0);
                    stretched * w / factor + (1.0 - stretched) * w
                };
                (plain.enumerate().map(stretch).collect(), attention)
            }
        }
    }
}

/// Cosines and signed sines of positions, `[.., T, head]`, for [`rotate`](Self::rotate).
#[derive(Debug)]
pub(super) struct RotaryTable {
    cos: Tensor,
    /// The first half negated: what the turned features are multiplied by.
    sin: Tensor,
}

impl RotaryTable {
    /// The table of positions `0..len`, `[len, 2 F]`, from the frequencies `[F]` (f32) and the factor.
    pub fn new(frequencies: &Tensor, factor: f64, len: i64, kind: Kind) -> Self {
        let angle = Tensor::arange(len, (Kind::Float, frequencies.device())).outer(frequencies);
        let (cos, sin) = (angle.cos() * factor, angle.sin() * factor);
        let both = |a: Tensor, b: Tensor| Tensor::cat(&[a, b], 1).to_kind(kind);
        Self { cos: both(cos.shallow_clone(), cos), sin: both(-&sin, sin) }
    }

    /// The rows of `len` positions from `from`.
    pub fn narrow(&self, from: i64, len: i64) -> Self {
        Self { cos: self.cos.narrow(0, from, len), sin: self.sin.narrow(0, from, len) }
    }

    /// The rows of positions `[B, T]`, as `[B, 1, T, head]`.
    pub fn gather(&self, positions: &Tensor) -> Self {
        let shape = [positions.size()[0], 1, positions.size()[1], self.cos.size()[1]];
        let rows = |t: &Tensor| t.index_select(0, &positions.reshape([-1])).view(shape);
        Self { cos: rows(&self.cos), sin: rows(&self.sin) }
    }

    /// Turns the features of `x [B, heads, T, head]`.
    pub fn rotate(&self, x: &Tensor) -> Tensor {
        // Rolling by half brings each feature's partner to its place.
        let partner = x.roll(x.size()[3] / 2, 3);
        x * &self.cos + partner * &self.sin
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn products_of_turned_vectors_depend_on_their_distance_only() {
        let (w, _) = Rotary::new(10_000.0).frequencies(8);
        let table = RotaryTable::new(&Tensor::from_slice(&w).to_kind(Kind::Float), 1.0, 6, Kind::Float);
        let vector = || Tensor::rand([8], (Kind::Float, Device::Cpu)).expand([1, 1, 6, 8], false);
        let products = table.rotate(&vector()).matmul(&table.rotate(&vector()).transpose(-1, -2)).squeeze();
        let at = |i: i64, j: i64| products.double_value(&[i, j]);
        assert!((at(3, 1) - at(5, 3)).abs() < 1e-5);
        assert!((at(2, 1) - at(3, 1)).abs() > 1e-6);
    }

    #[test]
    fn stretched_frequencies_agree_with_hand_computed_ones() {
        // Original context 2 pi * 8: a feature of frequency w makes 8 w turns. Base 16 and head 4: w = 1, 1/4; turns 8, 2.
        let near = |got: &[f64], want: &[f64]| got.iter().zip(want).all(|(a, b)| (a - b).abs() < 0.02 * b);
        let llama3 = |low, high| {
            let scaling = RotaryScaling::Llama3 { factor: 10.0, low, high, original: 50 };
            Rotary { base: 16.0, scaling }.frequencies(4).0
        };
        assert!(near(&llama3(3.0, 4.0), &[1.0, 0.025]));
        // 2 turns are half-way between 1 and 3: (0.25 + 0.025) / 2.
        assert!(near(&llama3(1.0, 3.0), &[1.0, 0.1375]));
        // YaRN's feature of t turns: 4 ln(8 / t) / (2 ln 16), so 0.5 for 4 turns, 1 for 2.
        let yarn = |fast, slow, truncate| {
            let scaling = RotaryScaling::Yarn { factor: 10.0, original: 50, fast, slow, attention: 1.5, truncate };
            Rotary { base: 16.0, scaling }.frequencies(4)
        };
        assert!(near(&yarn(7.9, 0.51, true).0, &[1.0, 0.1375]), "{:?}", yarn(7.9, 0.51, true));
        assert_eq!(yarn(4.0, 1.0, true).1, 1.5);
        assert!((yarn_attention(std::f64::consts::E) - 1.1).abs() < 1e-12);
    }

    #[test]
    fn settings_out_of_range_are_errors() {
        let check = |base, scaling, head| Rotary { base, scaling }.check(head).unwrap_err().to_string();
        assert!(check(1e4, RotaryScaling::None, 5).contains("even"));
        assert!(check(f64::NAN, RotaryScaling::None, 4).contains("rotary base"));
        assert!(check(1e4, RotaryScaling::Linear { factor: 0.5 }, 4).contains("rotary factor"));
        let llama3 = RotaryScaling::Llama3 { factor: 8.0, low: 4.0, high: 1.0, original: 8 };
        assert!(check(1e4, llama3, 4).contains("freq_factor"));
    }
}
