//! Transforms: distributions from which the parameters of each image are drawn.

use super::ops::{Affine, Filter, Op, PerImage, Point, Rect, batch_size, run};
use autodidact_core::error::check_range;
use autodidact_core::seed::Rng;
use autodidact_core::{Error, Result};
use rand::seq::SliceRandom;
use rand::{Rng as _, RngExt};
use tch::Tensor;

/// A random rectangle of the image, resized: area and aspect ratio are drawn, then the place, as in torchvision.
#[derive(Debug, Clone, PartialEq)]
pub struct RandomResizedCrop {
    /// Height and width of the result in pixels.
    pub size: (usize, usize),
    /// Range of the rectangle's area as a share of the image's, in (0, 1].
    pub scale: (f64, f64),
    /// Range of width / height, drawn uniformly on the logarithmic scale.
    pub ratio: (f64, f64),
    /// Interpolation.
    pub filter: Filter,
}

impl Default for RandomResizedCrop {
    /// torchvision's values, and 224 pixels.
    fn default() -> Self {
        Self { size: (224, 224), scale: (0.08, 1.0), ratio: (3.0 / 4.0, 4.0 / 3.0), filter: Filter::Bilinear }
    }
}

/// Random changes of brightness, contrast, saturation (factors in `[max(0, 1 - s), 1 + s]`) and hue (turn in `[-s,
/// s]`), each image with its own strengths. The order of the four is drawn once per batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ColorJitter {
    /// Strength of brightness, at least 0.
    pub brightness: f64,
    /// Strength of contrast, at least 0.
    pub contrast: f64,
    /// Strength of saturation, at least 0.
    pub saturation: f64,
    /// Strength of hue, in [0, 0.5].
    pub hue: f64,
    /// Probability with which an image is changed.
    pub p: f64,
}

/// A random similarity about the centre, black beyond the edge.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RandomAffine {
    /// Largest rotation in radians, either way.
    pub rotation: f64,
    /// Range of the zoom factor.
    pub zoom: (f64, f64),
    /// Largest shift along each axis as a share of half of the image's side.
    pub shift: f64,
}

/// A random operation. Every image draws its own parameters; `p` is the probability with which an image is changed.
#[derive(Debug, Clone, PartialEq)]
pub enum Transform {
    /// See [`RandomResizedCrop`].
    RandomResizedCrop(RandomResizedCrop),
    /// A window of the image's own size out of the image with a black border: a shift by whole pixels.
    PaddedCrop {
        /// Width of the border, the largest shift in pixels.
        padding: usize,
    },
    /// Mirror left to right.
    HorizontalFlip {
        /// Probability.
        p: f64,
    },
    /// See [`ColorJitter`].
    ColorJitter(ColorJitter),
    /// Grey in all channels.
    Grayscale {
        /// Probability.
        p: f64,
    },
    /// Gaussian blur.
    GaussianBlur {
        /// Width of the kernel in pixels, odd.
        kernel: usize,
        /// Range of the standard deviation in pixels.
        sigma: (f64, f64),
        /// Probability.
        p: f64,
    },
    /// Inversion of bright pixels.
    Solarize {
        /// Pixels at or above it are inverted.
        threshold: f64,
        /// Probability.
        p: f64,
    },
    /// See [`RandomAffine`].
    Affine(RandomAffine),
    /// Multiplication by a number, not clamped.
    Gain {
        /// Range of the factor.
        range: (f64, f64),
    },
    /// Additive normal noise, not clamped.
    Noise {
        /// Standard deviation.
        std: f64,
    },
    /// A square set to 0, anywhere inside the image.
    Cutout {
        /// Side in pixels.
        side: usize,
        /// Probability.
        p: f64,
    },
    /// A number added to the whole image, uniform in `[-max, max]`, not clamped.
    BrightnessShift {
        /// Largest shift.
        max: f64,
        /// Probability.
        p: f64,
    },
    /// A number added to each channel, uniform in `[-max, max]`, not clamped.
    ChannelShift {
        /// Largest shift.
        max: f64,
        /// Probability.
        p: f64,
    },
    /// `(x - mean) / std` per channel.
    Normalize {
        /// Mean of each channel.
        mean: Vec<f32>,
        /// Standard deviation of each channel.
        std: Vec<f32>,
    },
}

/// Transforms applied one after the other.
#[derive(Debug, Clone, PartialEq)]
pub struct Pipeline(pub Vec<Transform>);

impl Pipeline {
    /// Draws parameters for every image of a batch and applies them: `[N, C, H, W]` (`Float` in `[0, 1]`, or `Uint8`)
    /// to `Float [N, C, H', W']`. One state of `rng` gives one result. Settings outside their range are errors.
    pub fn apply(&self, images: &Tensor, rng: &mut Rng) -> Result<Tensor> {
        let (n, size) = batch_size(images)?;
        run(images, &self.draw(n, size, rng)?)
    }

    /// Draws the operations for `n` images of `[C, H, W]` pixels.
    pub fn draw(&self, n: usize, size: [usize; 3], rng: &mut Rng) -> Result<Vec<Op>> {
        let mut ops = Vec::with_capacity(self.0.len() + 3);
        let mut size = size;
        for transform in &self.0 {
            transform.draw(n, size, rng, &mut ops)?;
            if let Transform::RandomResizedCrop(crop) = transform {
                (size[1], size[2]) = crop.size;
            }
        }
        Ok(ops)
    }
}

/// Draws `value` for each image with probability `p`.
fn maybe<T>(n: usize, p: f64, rng: &mut Rng, mut value: impl FnMut(&mut Rng) -> T) -> Result<PerImage<T>> {
    check_range("probability", p, 0.0..=1.0)?;
    Ok((0..n).map(|_| rng.random_bool(p).then(|| value(rng))).collect())
}

fn uniform((low, high): (f64, f64), rng: &mut Rng) -> f64 {
    low + (high - low) * rng.random::<f64>()
}

fn check_interval(what: &str, (low, high): (f64, f64), within: std::ops::RangeInclusive<f64>) -> Result<()> {
    if low <= high && within.contains(&low) && within.contains(&high) {
        return Ok(());
    }
    Err(Error::value(what, format!("an ordered pair within {within:?}"), format!("({low}, {high})")))
}

impl Transform {
    fn draw(&self, n: usize, [c, h, w]: [usize; 3], rng: &mut Rng, ops: &mut Vec<Op>) -> Result<()> {
        let positive = f64::MIN_POSITIVE..=f64::MAX;
        ops.push(match self {
            Self::RandomResizedCrop(crop) => {
                check_interval("scale", crop.scale, f64::MIN_POSITIVE..=1.0)?;
                check_interval("ratio", crop.ratio, positive)?;
                let rects = (0..n).map(|_| crop.rect(h, w, rng)).collect();
                Op::ResizedCrop { rects, size: crop.size, filter: crop.filter }
            }
            Self::PaddedCrop { padding } => {
                let most = *padding as i64;
                let mut shift = || rng.random_range(-most..=most) as f32;
                let affine = |shift| Some(Affine { angle: 0.0, scale: 1.0, shift });
                Op::Affine((0..n).map(|_| affine((shift(), shift()))).collect())
            }
            Self::HorizontalFlip { p } => Op::Flip(maybe(n, *p, rng, |_| ())?.iter().map(Option::is_some).collect()),
            Self::ColorJitter(jitter) => return jitter.draw(n, rng, ops),
            Self::Grayscale { p } => Op::Point(Point::Saturation, maybe(n, *p, rng, |_| 0.0)?),
            Self::GaussianBlur { kernel, sigma, p } => {
                check_interval("sigma", *sigma, positive)?;
                Op::Blur { kernel: *kernel, sigma: maybe(n, *p, rng, |rng| uniform(*sigma, rng) as f32)? }
            }
            Self::Solarize { threshold, p } => Op::Point(Point::Solarize, maybe(n, *p, rng, |_| *threshold as f32)?),
            Self::Affine(affine) => {
                check_interval("zoom", affine.zoom, positive)?;
                let draw = |rng: &mut Rng| {
                    let mut signed = |max: f64| uniform((-max, max), rng) as f32;
                    let angle = signed(affine.rotation);
                    let shift = (signed(affine.shift * w as f64 / 2.0), signed(affine.shift * h as f64 / 2.0));
                    Affine { angle, scale: uniform(affine.zoom, rng) as f32, shift }
                };
                Op::Affine((0..n).map(|_| Some(draw(rng))).collect())
            }
            Self::Gain { range } => {
                check_interval("gain", *range, f64::MIN..=f64::MAX)?;
                Op::Point(Point::Gain, (0..n).map(|_| Some(uniform(*range, rng) as f32)).collect())
            }
            Self::Noise { std } => Op::Noise((0..n).map(|_| Some((*std as f32, rng.next_u32()))).collect()),
            Self::Cutout { side, p } => {
                if *side == 0 || *side > h.min(w) {
                    return Err(Error::value("cutout side", format!("1 to {} pixels", h.min(w)), side));
                }
                Op::Cutout(maybe(n, *p, rng, |rng| Rect {
                    top: rng.random_range(0..=h - side),
                    left: rng.random_range(0..=w - side),
                    height: *side,
                    width: *side,
                })?)
            }
            Self::BrightnessShift { max, p } => {
                Op::ChannelShift(maybe(n, *p, rng, |rng| vec![uniform((-max, *max), rng) as f32; c])?)
            }
            Self::ChannelShift { max, p } => {
                Op::ChannelShift(maybe(n, *p, rng, |rng| (0..c).map(|_| uniform((-max, *max), rng) as f32).collect())?)
            }
            Self::Normalize { mean, std } => Op::Normalize { mean: mean.clone(), std: std.clone() },
        });
        Ok(())
    }
}

impl ColorJitter {
    fn draw(&self, n: usize, rng: &mut Rng, ops: &mut Vec<Op>) -> Result<()> {
        check_range("hue", self.hue, 0.0..=0.5)?;
        let chosen = maybe(n, self.p, rng, |_| ())?;
        let mut steps = Vec::with_capacity(4);
        for (point, strength) in [
            (Point::Brightness, self.brightness),
            (Point::Contrast, self.contrast),
            (Point::Saturation, self.saturation),
            (Point::Hue, self.hue),
        ] {
            check_range("strength of a colour jitter", strength, 0.0..)?;
            if strength > 0.0 {
                let (low, high) = if point == Point::Hue {
                    (-strength, strength)
                } else {
                    ((1.0 - strength).max(0.0), 1.0 + strength)
                };
                let values = chosen.iter().map(|c| c.map(|()| uniform((low, high), rng) as f32)).collect();
                steps.push(Op::Point(point, values));
            }
        }
        steps.shuffle(rng);
        ops.append(&mut steps);
        Ok(())
    }
}

impl RandomResizedCrop {
    fn rect(&self, h: usize, w: usize, rng: &mut Rng) -> Rect {
        let place = |height: usize, width: usize, rng: &mut Rng| Rect {
            top: rng.random_range(0..=h - height),
            left: rng.random_range(0..=w - width),
            height,
            width,
        };
        let log_ratio = (self.ratio.0.ln(), self.ratio.1.ln());
        for _ in 0..10 {
            let area = (h * w) as f64 * uniform(self.scale, rng);
            let ratio = uniform(log_ratio, rng).exp();
            let (width, height) = ((area * ratio).sqrt().round() as usize, (area / ratio).sqrt().round() as usize);
            if (1..=w).contains(&width) && (1..=h).contains(&height) {
                return place(height, width, rng);
            }
        }
        // No draw fitted (a very long image): the largest centred rectangle of an allowed ratio.
        let ratio = (w as f64 / h as f64).clamp(self.ratio.0, self.ratio.1);
        let width = ((h as f64 * ratio).round() as usize).clamp(1, w);
        let height = ((w as f64 / ratio).round() as usize).clamp(1, h);
        Rect { top: (h - height) / 2, left: (w - width) / 2, height, width }
    }
}
