//! Operations with given parameters: what they compute, and the checks at the door.

use super::{cpu, tensor};
use autodidact_core::{Error, Result};
use tch::{Device, Kind, Tensor};

/// One parameter per image; an image whose entry is `None` passes unchanged.
pub type PerImage<T> = Vec<Option<T>>;

/// A rectangle of pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rect {
    /// First row.
    pub top: usize,
    /// First column.
    pub left: usize,
    /// Number of rows.
    pub height: usize,
    /// Number of columns.
    pub width: usize,
}

/// Interpolation when an image is resized. Both are widened when they shrink an image (antialiasing), and leave out
/// what lies beyond the edge, as PIL and torchvision with `antialias=True` do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// Triangle of half-width 1.
    Bilinear,
    /// Cubic convolution with a = -1/2, half-width 2.
    Bicubic,
}

impl Filter {
    pub(super) fn support(self) -> f32 {
        match self {
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
        }
    }
}

/// A similarity about the image's centre, as torchvision's `affine`: the content is scaled, rotated, then shifted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Affine {
    /// Rotation in radians, clockwise on the screen.
    pub angle: f32,
    /// Zoom factor, above 0; above 1 magnifies.
    pub scale: f32,
    /// Shift to the right and down, in pixels.
    pub shift: (f32, f32),
}

impl Affine {
    /// The inverse map, from an output to an input position relative to the centre: `[[a, b, c], [d, e, f]]` by rows.
    pub(super) fn inverse(&self) -> [f32; 6] {
        let (sin, cos) = self.angle.sin_cos();
        let (sin, cos) = (sin / self.scale, cos / self.scale);
        let (x, y) = self.shift;
        [cos, sin, -cos * x - sin * y, -sin, cos, sin * x - cos * y]
    }
}

/// An operation on the colours of an image with one number per image; definitions follow torchvision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// `clamp(f x)`; parameter: factor `f >= 0`.
    Brightness,
    /// `clamp(f x + (1 - f) m)` with `m` the mean grey of the image; parameter: factor `f >= 0`.
    Contrast,
    /// `clamp(f x + (1 - f) grey(x))`, `grey = 0.2989 R + 0.587 G + 0.114 B`; parameter: factor `f >= 0`; 0 gives a
    /// grey image. One-channel images stay as they are.
    Saturation,
    /// Rotation of the hue in HSV space; parameter: turn in `[-0.5, 0.5]`, a fraction of the circle. One-channel images
    /// stay as they are.
    Hue,
    /// `1 - x` where `x >= t`; parameter: threshold `t`.
    Solarize,
    /// `g x`, not clamped; parameter: `g`.
    Gain,
}

/// One operation with the parameters of every image of a batch.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// Cuts out a rectangle of each image and resizes it.
    ResizedCrop {
        /// The rectangles, inside the image.
        rects: Vec<Rect>,
        /// Height and width of the result.
        size: (usize, usize),
        /// Interpolation.
        filter: Filter,
    },
    /// Mirrors the images marked `true` left to right.
    Flip(Vec<bool>),
    /// Moves the content, bilinear, black beyond the edge.
    Affine(PerImage<Affine>),
    /// An operation on colours.
    Point(Point, PerImage<f32>),
    /// Gaussian blur with reflected edges.
    Blur {
        /// Width of the kernel in pixels: odd, its half less than height and width.
        kernel: usize,
        /// Standard deviation in pixels, above 0.
        sigma: PerImage<f32>,
    },
    /// Adds a number to each channel, not clamped: one per channel for each image.
    ChannelShift(PerImage<Vec<f32>>),
    /// Adds normal noise, not clamped: standard deviation, and the seed of the image's noise.
    Noise(PerImage<(f32, u32)>),
    /// Sets a rectangle to 0.
    Cutout(PerImage<Rect>),
    /// `(x - mean) / std` per channel.
    Normalize {
        /// Mean of each channel.
        mean: Vec<f32>,
        /// Standard deviation of each channel, above 0.
        std: Vec<f32>,
    },
}

impl Op {
    /// The number of images the parameters are for, if the operation has any of its own.
    fn batch(&self) -> Option<usize> {
        match self {
            Self::ResizedCrop { rects, .. } => Some(rects.len()),
            Self::Flip(p) => Some(p.len()),
            Self::Affine(p) => Some(p.len()),
            Self::Point(_, p) => Some(p.len()),
            Self::Blur { sigma, .. } => Some(sigma.len()),
            Self::ChannelShift(p) => Some(p.len()),
            Self::Noise(p) => Some(p.len()),
            Self::Cutout(p) => Some(p.len()),
            Self::Normalize { .. } => None,
        }
    }

    /// Checks the parameters against images of `[c, h, w]` and returns the size of the result.
    fn check(&self, n: usize, [c, h, w]: [usize; 3]) -> Result<[usize; 3]> {
        if let Some(got) = self.batch().filter(|&got| got != n) {
            return Err(Error::value("parameters of an augmentation", format!("one for each of {n} images"), got));
        }
        let inside = |r: &Rect| {
            let fits = r.height > 0 && r.width > 0 && r.top + r.height <= h && r.left + r.width <= w;
            if fits {
                Ok(())
            } else {
                Err(Error::value("rectangle", format!("one inside {h}x{w} pixels"), format!("{r:?}")))
            }
        };
        let channels = |what: &str, got: usize| {
            if got == c { Ok(()) } else { Err(Error::value(what, format!("{c} values, one per channel"), got)) }
        };
        let range = |what: &str, value: f32, low: f32, high: f32| {
            if (low..=high).contains(&value) {
                Ok(())
            } else {
                Err(Error::value(what, format!("a number from {low} to {high}"), value))
            }
        };
        let positive = f32::MIN_POSITIVE;
        match self {
            Self::ResizedCrop { rects, size, .. } => {
                rects.iter().try_for_each(inside)?;
                if size.0 == 0 || size.1 == 0 {
                    return Err(Error::value("size", "at least one pixel", format!("{size:?}")));
                }
                return Ok([c, size.0, size.1]);
            }
            Self::Affine(p) => p.iter().flatten().try_for_each(|a| range("scale", a.scale, positive, f32::MAX))?,
            Self::Point(point, p) => {
                let (what, low, high) = match point {
                    Point::Hue => ("hue", -0.5, 0.5),
                    Point::Solarize => ("threshold", f32::MIN, f32::MAX),
                    Point::Gain => ("gain", f32::MIN, f32::MAX),
                    _ => ("factor", 0.0, f32::MAX),
                };
                p.iter().flatten().try_for_each(|&v| range(what, v, low, high))?;
                if !matches!(point, Point::Brightness | Point::Solarize | Point::Gain) && c != 1 && c != 3 {
                    return Err(Error::value(format!("channels for {point:?}"), "1 or 3", c));
                }
            }
            Self::Blur { kernel, sigma } => {
                if kernel % 2 == 0 || kernel / 2 >= h.min(w) {
                    let expected = format!("an odd number with half of it below {}", h.min(w));
                    return Err(Error::value("blur kernel", expected, kernel));
                }
                sigma.iter().flatten().try_for_each(|&s| range("sigma", s, positive, f32::MAX))?;
            }
            Self::ChannelShift(p) => p.iter().flatten().try_for_each(|s| channels("channel shift", s.len()))?,
            Self::Noise(p) => p.iter().flatten().try_for_each(|&(s, _)| range("noise", s, 0.0, f32::MAX))?,
            Self::Cutout(p) => p.iter().flatten().try_for_each(inside)?,
            Self::Normalize { mean, std } => {
                channels("mean", mean.len())?;
                channels("std", std.len())?;
                std.iter().try_for_each(|&s| range("std", s, positive, f32::MAX))?;
            }
            Self::Flip(_) => {}
        }
        Ok([c, h, w])
    }
}

/// Applies `ops` in order to `images` (`[N, C, H, W]`, `Float` or `Uint8`; see the module) and returns `Float [N, C,
/// H', W']` on the same device. Parameters for another number of images, or outside their range, are errors.
///
/// ```
/// use autodidact_datasets::augment::{Op, Point, run};
/// let x = tch::Tensor::full([2, 1, 2, 2], 0.25, (tch::Kind::Float, tch::Device::Cpu));
/// let y = run(&x, &[Op::Point(Point::Brightness, vec![Some(2.0), None])])?;
/// assert_eq!(y.select(0, 0).max().double_value(&[]), 0.5);
/// assert_eq!(y.select(0, 1).max().double_value(&[]), 0.25);
/// # Ok::<(), autodidact_core::Error>(())
/// ```
pub fn run(images: &Tensor, ops: &[Op]) -> Result<Tensor> {
    let (n, size) = batch_size(images)?;
    let out = ops.iter().try_fold(size, |size, op| op.check(n, size))?;
    tch::no_grad(|| match images.device() {
        Device::Cpu => cpu::run(images, ops, n, size, out),
        _ => tensor::run(images, ops),
    })
}

/// `(N, [C, H, W])` of images in one of the accepted forms.
pub(super) fn batch_size(images: &Tensor) -> Result<(usize, [usize; 3])> {
    if !matches!(images.kind(), Kind::Float | Kind::Uint8) {
        return Err(Error::value("images", "Float or Uint8 pixels", format!("{:?}", images.kind())));
    }
    match images.size()[..] {
        [n, c, h, w] if c > 0 && h > 0 && w > 0 => Ok((n as usize, [c as usize, h as usize, w as usize])),
        _ => Err(Error::shape("images", "[N, C, H, W] with at least one pixel", images)),
    }
}

/// Seeds a noise stream: mixes the bits of a 32-bit number (a bijection in which every input bit moves half of the
/// output's).
pub(super) fn mix(mut x: u32) -> u32 {
    for (shift, factor) in MIX {
        x = (x ^ (x >> shift)).wrapping_mul(factor);
    }
    x ^ (x >> 16)
}

/// Rounds of [`mix`]: shift and odd factor.
pub(super) const MIX: [(u32, u32); 2] = [(16, 0x7feb_352d), (15, 0x846c_a68b)];
