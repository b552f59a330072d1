//! The CPU path: each image passes through all operations while it lies in the cache; images in parallel.

use super::color;
use super::ops::{Affine, Filter, Op, Point, Rect, mix};
use autodidact_core::Result;
use rayon::prelude::*;
use tch::{Kind, Tensor};

pub(super) fn run(images: &Tensor, ops: &[Op], n: usize, size: [usize; 3], out: [usize; 3]) -> Result<Tensor> {
    let images = images.contiguous();
    let result = Tensor::f_empty([n, out[0], out[1], out[2]].map(|d| d as i64), (Kind::Float, images.device()))?;
    let (len, out_len) = (size.iter().product::<usize>(), out.iter().product::<usize>());
    if n == 0 {
        return Ok(result);
    }
    // SAFETY: `result` is contiguous, has `n * out_len` floats and is not shared yet.
    let target = unsafe { std::slice::from_raw_parts_mut(result.data_ptr().cast::<f32>(), n * out_len) };
    if images.kind() == Kind::Uint8 {
        // SAFETY: `images` is contiguous, has `n * len` bytes and outlives the loop.
        let source = unsafe { std::slice::from_raw_parts(images.data_ptr().cast::<u8>(), n * len) };
        each(source, target, ops, len, out_len, size, |v| f32::from(v) / 255.0);
    } else {
        // SAFETY: as above, with floats.
        let source = unsafe { std::slice::from_raw_parts(images.data_ptr().cast::<f32>(), n * len) };
        each(source, target, ops, len, out_len, size, |v| v);
    }
    Ok(result)
}

fn each<T: Copy + Sync>(
    source: &[T],
    target: &mut [f32],
    ops: &[Op],
    len: usize,
    out_len: usize,
    size: [usize; 3],
    float: impl Fn(T) -> f32 + Sync,
) {
    target.par_chunks_mut(out_len).zip(source.par_chunks(len)).enumerate().for_each_init(
        Image::default,
        |image, (i, (target, source))| {
            image.size = size;
            image.pixels.clear();
            image.pixels.extend(source.iter().map(|&v| float(v)));
            ops.iter().for_each(|op| image.apply(op, i));
            target.copy_from_slice(&image.pixels);
        },
    );
}

/// One image and the memory its operations need, reused from image to image.
#[derive(Default)]
struct Image {
    /// `[C, H, W]`.
    size: [usize; 3],
    pixels: Vec<f32>,
    spare: Vec<f32>,
    line: Vec<f32>,
}

impl Image {
    fn apply(&mut self, op: &Op, i: usize) {
        let [_, h, w] = self.size;
        match op {
            Op::ResizedCrop { rects, size, filter } => self.resized_crop(rects[i], *size, *filter),
            Op::Flip(flip) => {
                if flip[i] {
                    self.pixels.chunks_exact_mut(w).for_each(<[f32]>::reverse);
                }
            }
            Op::Affine(p) => p[i].iter().for_each(|a| self.affine(a)),
            Op::Point(point, p) => p[i].iter().for_each(|&v| self.point(*point, v)),
            Op::Blur { kernel, sigma } => sigma[i].iter().for_each(|&s| self.blur(*kernel, s)),
            Op::ChannelShift(p) => p[i].iter().for_each(|shift| {
                for (plane, s) in self.pixels.chunks_exact_mut(h * w).zip(shift) {
                    plane.iter_mut().for_each(|x| *x += s);
                }
            }),
            Op::Noise(p) => p[i].iter().for_each(|&(std, seed)| {
                let key = mix(seed);
                self.pixels.iter_mut().zip(0..).for_each(|(x, k)| *x += std * normal(key, k));
            }),
            Op::Cutout(p) => p[i].iter().for_each(|r| {
                for plane in self.pixels.chunks_exact_mut(h * w) {
                    plane
                        .chunks_exact_mut(w)
                        .skip(r.top)
                        .take(r.height)
                        .for_each(|row| row[r.left..][..r.width].fill(0.0));
                }
            }),
            Op::Normalize { mean, std } => {
                for (plane, (m, s)) in self.pixels.chunks_exact_mut(h * w).zip(mean.iter().zip(std)) {
                    plane.iter_mut().for_each(|x| *x = (*x - m) / s);
                }
            }
        }
    }

    fn point(&mut self, point: Point, v: f32) {
        let [c, h, w] = self.size;
        let pixels = &mut self.pixels;
        match (point, c) {
            (Point::Brightness, _) => color::brightness(pixels, v),
            (Point::Gain, _) => pixels.iter_mut().for_each(|x| *x *= v),
            (Point::Solarize, _) => color::solarize(pixels, v),
            (Point::Contrast, 3) => {
                let grey = color::mean_grey(pixels, h * w);
                color::blend(pixels, v, grey);
            }
            (Point::Contrast, _) => {
                let mean = pixels.iter().sum::<f32>() / pixels.len() as f32;
                color::blend(pixels, v, mean);
            }
            (Point::Saturation, 3) => color::saturation(pixels, h * w, v),
            (Point::Hue, 3) => color::hue(pixels, h * w, v),
            (Point::Saturation | Point::Hue, _) => {}
        }
    }

    fn resized_crop(&mut self, rect: Rect, (oh, ow): (usize, usize), filter: Filter) {
        let [c, h, w] = self.size;
        let (columns, rows) = (Taps::new(rect.width, ow, filter), Taps::new(rect.height, oh, filter));
        // Along the rows of the rectangle first, then down its columns.
        self.line.clear();
        self.line.resize(rect.height * ow, 0.0);
        self.spare.clear();
        self.spare.resize(c * oh * ow, 0.0);
        for (plane, target) in self.pixels.chunks_exact(h * w).zip(self.spare.chunks_exact_mut(oh * ow)) {
            let source = plane.chunks_exact(w).skip(rect.top).take(rect.height);
            for (row, narrow) in source.zip(self.line.chunks_exact_mut(ow)) {
                columns.resample(&row[rect.left..][..rect.width], narrow);
            }
            for (y, row) in target.chunks_exact_mut(ow).enumerate() {
                let (first, weights) = rows.of(y);
                for (k, &weight) in weights.iter().enumerate() {
                    let narrow = &self.line[(first + k) * ow..][..ow];
                    row.iter_mut().zip(narrow).for_each(|(r, v)| *r += weight * v);
                }
            }
        }
        std::mem::swap(&mut self.pixels, &mut self.spare);
        self.size = [c, oh, ow];
    }

    fn affine(&mut self, affine: &Affine) {
        let [_, h, w] = self.size;
        let [a, b, tx, d, e, ty] = affine.inverse();
        let (cx, cy) = ((w as f32 - 1.0) / 2.0, (h as f32 - 1.0) / 2.0);
        self.spare.clear();
        for plane in self.pixels.chunks_exact(h * w) {
            let at = |x: i64, y: i64| {
                let inside = (0..w as i64).contains(&x) && (0..h as i64).contains(&y);
                if inside { plane[y as usize * w + x as usize] } else { 0.0 }
            };
            self.spare.extend((0..h * w).map(|p| {
                let (x, y) = ((p % w) as f32 - cx, (p / w) as f32 - cy);
                let (x, y) = (a * x + b * y + tx + cx, d * x + e * y + ty + cy);
                let (x0, y0) = (x.floor(), y.floor());
                let (fx, fy) = (x - x0, y - y0);
                let (x0, y0) = (x0 as i64, y0 as i64);
                let top = at(x0, y0) * (1.0 - fx) + at(x0 + 1, y0) * fx;
                let bottom = at(x0, y0 + 1) * (1.0 - fx) + at(x0 + 1, y0 + 1) * fx;
                top * (1.0 - fy) + bottom * fy
            }));
        }
        std::mem::swap(&mut self.pixels, &mut self.spare);
    }

    fn blur(&mut self, kernel: usize, sigma: f32) {
        let [_, h, w] = self.size;
        let weights = gaussian(kernel, sigma);
        let half = kernel / 2;
        self.spare.clear();
        self.spare.resize(self.pixels.len(), 0.0);
        self.line.clear();
        self.line.resize(w + 2 * half, 0.0);
        for (plane, target) in self.pixels.chunks_exact_mut(h * w).zip(self.spare.chunks_exact_mut(h * w)) {
            // Down the columns into `target`, then along its rows back.
            for (y, row) in target.chunks_exact_mut(w).enumerate() {
                for (k, &weight) in weights.iter().enumerate() {
                    let source = &plane[reflect(y + k, half, h) * w..][..w];
                    row.iter_mut().zip(source).for_each(|(r, v)| *r += weight * v);
                }
            }
            for (row, result) in target.chunks_exact(w).zip(plane.chunks_exact_mut(w)) {
                self.line.iter_mut().enumerate().for_each(|(x, v)| *v = row[reflect(x, half, w)]);
                result.fill(0.0);
                for (k, &weight) in weights.iter().enumerate() {
                    result.iter_mut().zip(&self.line[k..]).for_each(|(r, v)| *r += weight * v);
                }
            }
        }
    }
}

/// Position `i` of a line of `n` padded by `half` reflected values on each side.
fn reflect(i: usize, half: usize, n: usize) -> usize {
    let p = i.abs_diff(half);
    if p < n { p } else { 2 * (n - 1) - p }
}

/// A Gaussian sampled at the kernel's pixels, with sum 1.
pub(super) fn gaussian(kernel: usize, sigma: f32) -> Vec<f32> {
    let half = (kernel / 2) as f32;
    let mut weights: Vec<f32> = (0..kernel).map(|k| (-0.5 * ((k as f32 - half) / sigma).powi(2)).exp()).collect();
    let sum: f32 = weights.iter().sum();
    weights.iter_mut().for_each(|v| *v /= sum);
    weights
}

/// The weights with which `n` pixels in a line make `out` pixels.
struct Taps {
    count: usize,
    first: Vec<usize>,
    weights: Vec<f32>,
}

impl Taps {
    fn new(n: usize, out: usize, filter: Filter) -> Self {
        let scale = n as f32 / out as f32;
        let stretch = scale.max(1.0);
        let reach = filter.support() * stretch;
        // Every window has the same number of taps, so that the inner loop has a fixed length; at the edges some
        // weights are 0.
        let count = n.min((2.0 * reach).ceil() as usize);
        let mut taps = Self { count, first: Vec::with_capacity(out), weights: Vec::with_capacity(out * count) };
        for i in 0..out {
            let centre = (i as f32 + 0.5) * scale;
            let first = ((centre - reach - 0.5).ceil().max(0.0) as usize).min(n - count);
            let start = taps.weights.len();
            taps.weights.extend((0..count).map(|k| weight(filter, ((first + k) as f32 + 0.5 - centre) / stretch)));
            let sum: f32 = taps.weights[start..].iter().sum();
            taps.weights[start..].iter_mut().for_each(|v| *v /= sum);
            taps.first.push(first);
        }
        taps
    }

    fn of(&self, i: usize) -> (usize, &[f32]) {
        (self.first[i], &self.weights[i * self.count..][..self.count])
    }

    fn resample(&self, source: &[f32], target: &mut [f32]) {
        match self.count {
            2 => self.resample_by::<2>(source, target),
            4 => self.resample_by::<4>(source, target),
            _ => {
                for (i, t) in target.iter_mut().enumerate() {
                    let (first, weights) = self.of(i);
                    *t = source[first..].iter().zip(weights).map(|(v, w)| v * w).sum();
                }
            }
        }
    }

    /// [`Self::resample`] with the number of taps (bilinear or bicubic magnification) known to the compiler.
    fn resample_by<const K: usize>(&self, source: &[f32], target: &mut [f32]) {
        let (weights, _) = self.weights.as_chunks::<K>();
        for ((t, &first), weights) in target.iter_mut().zip(&self.first).zip(weights) {
            *t = source[first..][..K].iter().zip(weights).map(|(v, w)| v * w).sum();
        }
    }
}

/// The filter's value at distance `x`.
fn weight(filter: Filter, x: f32) -> f32 {
    let x = x.abs();
    match filter {
        Filter::Bilinear => (1.0 - x).max(0.0),
        Filter::Bicubic if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
        Filter::Bicubic if x < 2.0 => ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0,
        Filter::Bicubic => 0.0,
    }
}

/// Normal number `k` of the stream `key`, by the Box-Muller transform of two hashed counters.
fn normal(key: u32, k: u32) -> f32 {
    let unit = |x: u32| (mix(x ^ key) >> 8) as f32 / (1 << 24) as f32;
    let (u, v) = (unit(2 * k), unit(2 * k + 1));
    (-2.0 * (1.0 - u).ln()).sqrt() * (std::f32::consts::TAU * v).cos()
}
