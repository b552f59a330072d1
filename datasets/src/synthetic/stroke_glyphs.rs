//! Invented characters drawn with a few strokes.

use super::fictitious_authors::SplitMix;
use crate::image::ImageSet;
use autodidact_core::error::check_range;
use autodidact_core::seed::{self, Rng};
use autodidact_core::{Error, Result};
use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;
use tch::Tensor;

const SIDE: usize = 16;
/// Standard deviation of a stroke's profile, as a share of the side.
const PEN: f64 = 0.045;

type Point = [f64; 2];

/// How [`StrokeGlyphs`] are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GlyphStyle {
    /// Bright strokes on black.
    Plain,
    /// Dark strokes on a bright ground that varies smoothly: one minus the plain image, times `1 - 0.4 g` with `g` uniform noise of 4x4,
    /// enlarged bilinearly.
    Inverted,
}

/// An endless alphabet: class `c` has three joined strokes through four points and a fourth stroke of its own, all ends uniform in
/// `[0.15, 0.85]^2` of the image, drawn by SplitMix64 from `1000 seed + c`.
///
/// An image shifts every point by a normal deviation of 0.02, turns all by up to 0.25 rad around the middle, scales them by 0.85 to 1.15
/// and moves them by up to 0.08 each way; a pixel is `exp(-d^2 / (2 * 0.045^2))` of its distance to the nearest stroke, plus normal noise
/// of 0.15, in `[0, 1]`.
///
/// ```
/// use autodidact_datasets::synthetic::{GlyphStyle, StrokeGlyphs};
/// let glyphs = StrokeGlyphs::new(40, 0)?;
/// let set = glyphs.draw(&[7, 3], 5, GlyphStyle::Inverted, 1)?;
/// assert_eq!((set.len(), set.image_size()), (10, [1, 16, 16]));
/// // Labels follow the list.
/// assert_eq!((set.classes[0].as_str(), set.labels.int64_value(&[0])), ("glyph 7", 0));
/// # Ok::<(), autodidact_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct StrokeGlyphs {
    /// By class: four joined points, and the two of the last stroke.
    points: Vec<[Point; 6]>,
}

impl StrokeGlyphs {
    /// The first `classes` characters of the alphabet that `seed` names.
    ///
    /// # Errors
    /// No classes.
    pub fn new(classes: usize, seed: u64) -> Result<Self> {
        check_range("classes", classes as f64, 1.0..)?;
        let template = |class: usize| {
            let mut random = SplitMix(seed.wrapping_mul(1000).wrapping_add(class as u64));
            let mut coordinate = || 0.15 + 0.7 * random.uniform();
            std::array::from_fn(|_| [coordinate(), coordinate()])
        };
        Ok(Self { points: (0..classes).map(template).collect() })
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.points.len()
    }

    /// `per_class` images of each of `classes`, class by class: `Uint8 [N, 1, 16, 16]`, labelled by the place in the list. Image `i` of a
    /// class and seed is the same whatever else is drawn.
    ///
    /// # Errors
    /// Classes that there are not, none of them, no images.
    pub fn draw(&self, classes: &[usize], per_class: usize, style: GlyphStyle, seed: u64) -> Result<ImageSet> {
        check_range("images per class", per_class as f64, 1.0..)?;
        check_range("classes to draw", classes.len() as f64, 1.0..)?;
        if let Some(bad) = classes.iter().find(|c| **c >= self.classes()) {
            return Err(Error::value("class", format!("below {}", self.classes()), bad));
        }
        let mut pixels = vec![0u8; classes.len() * per_class * SIDE * SIDE];
        pixels.par_chunks_mut(SIDE * SIDE).enumerate().for_each(|(k, image)| {
            let (class, i) = (classes[k / per_class], k % per_class);
            let rng = &mut seed::rng(seed, &["stroke glyphs", &class.to_string(), &i.to_string()]);
            let values = shown(&render(&moved(&self.points[class], rng)), style, rng);
            image.iter_mut().zip(values).for_each(|(byte, v)| *byte = (255.0 * v).round() as u8);
        });
        let labels: Vec<i64> = (0..classes.len() * per_class).map(|k| (k / per_class) as i64).collect();
        let images = Tensor::from_slice(&pixels).view([labels.len() as i64, 1, SIDE as i64, SIDE as i64]);
        let names = classes.iter().map(|c| format!("glyph {c}")).collect();
        ImageSet::new(images, Tensor::from_slice(&labels), names)
    }
}

fn normal(rng: &mut Rng) -> f64 {
    StandardNormal.sample(rng)
}

/// The points of one image.
fn moved(points: &[Point; 6], rng: &mut Rng) -> [Point; 6] {
    let (sin, cos) = rng.random_range(-0.25..0.25f64).sin_cos();
    let scale = rng.random_range(0.85..1.15);
    let shift: Point = std::array::from_fn(|_| rng.random_range(-0.08..0.08));
    points.map(|p| {
        let [x, y] = p.map(|v| v - 0.5 + 0.02 * normal(rng));
        [0.5 + scale * (cos * x - sin * y) + shift[0], 0.5 + scale * (sin * x + cos * y) + shift[1]]
    })
}

/// Strokes without noise, row by row.
fn render(p: &[Point; 6]) -> Vec<f64> {
    let strokes = [[p[0], p[1]], [p[1], p[2]], [p[2], p[3]], [p[4], p[5]]];
    let at = |i: usize| (i as f64 + 0.5) / SIDE as f64;
    let pixel = |k: usize| {
        let point = [at(k % SIDE), at(k / SIDE)];
        let nearest = strokes.iter().map(|s| squared_distance(point, s)).fold(f64::INFINITY, f64::min);
        (-nearest / (2.0 * PEN * PEN)).exp()
    };
    (0..SIDE * SIDE).map(pixel).collect()
}

fn squared_distance([x, y]: Point, [a, b]: &[Point; 2]) -> f64 {
    let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
    let length = (dx * dx + dy * dy).max(f64::MIN_POSITIVE);
    let along = (((x - a[0]) * dx + (y - a[1]) * dy) / length).clamp(0.0, 1.0);
    (x - a[0] - along * dx).powi(2) + (y - a[1] - along * dy).powi(2)
}

/// With noise and ground, in `[0, 1]`.
fn shown(strokes: &[f64], style: GlyphStyle, rng: &mut Rng) -> Vec<f64> {
    let noisy: Vec<f64> = strokes.iter().map(|v| (v + 0.15 * normal(rng)).clamp(0.0, 1.0)).collect();
    if style == GlyphStyle::Plain {
        return noisy;
    }
    let coarse: [f64; 16] = std::array::from_fn(|_| rng.random());
    noisy.iter().enumerate().map(|(k, v)| (1.0 - v) * (1.0 - 0.4 * enlarged(&coarse, k))).collect()
}

/// Pixel `k` of a 4x4 image enlarged bilinearly, pixels being squares.
fn enlarged(coarse: &[f64; 16], k: usize) -> f64 {
    let place = |i: usize| {
        let at = ((i as f64 + 0.5) / SIDE as f64 * 4.0 - 0.5).clamp(0.0, 3.0);
        (at as usize, (at as usize + 1).min(3), at.fract())
    };
    let ((x0, x1, fx), (y0, y1, fy)) = (place(k % SIDE), place(k / SIDE));
    let row = |y: usize| coarse[4 * y + x0] * (1.0 - fx) + coarse[4 * y + x1] * fx;
    row(y0) * (1.0 - fy) + row(y1) * fy
}

#[cfg(test)]
mod tests {
    use super::*;
    use autodidact_core::metrics::{RidgeProbe, accuracy};

    #[test]
    fn a_stroke_fades_with_the_distance_to_it() {
        // From (0.25, 0.5) to (0.75, 0.5); the pixel row above it is half a pixel away.
        let line = [[0.25, 0.5], [0.75, 0.5]];
        let pixels = render(&[line[0], line[1], line[1], line[1], line[0], line[1]]);
        let expected = (-(1.0f64 / 32.0).powi(2) / (2.0 * 0.045 * 0.045)).exp();
        assert!((pixels[7 * 16 + 8] - expected).abs() < 1e-12 && (pixels[8 * 16 + 4] - expected).abs() < 1e-12);
        // Beyond the end the distance is that to the end.
        let [dx, dy] = [0.75 - 15.5 / 16.0, 1.0 / 32.0];
        let end = (-(dx * dx + dy * dy) / (2.0f64 * 0.045 * 0.045)).exp();
        assert!((pixels[8 * 16 + 15] - end).abs() < 1e-12);
    }

    #[test]
    fn the_ground_is_bilinear() {
        let mut coarse = [0.0; 16];
        (0..16).for_each(|i| coarse[i] = (i % 4) as f64);
        // Centres of coarse pixels lie between the fine ones: columns 1 and 2 are at 3/8 - 1/2 < 0 and 5/8 - 1/2.
        assert_eq!((enlarged(&coarse, 1), enlarged(&coarse, 15)), (0.0, 3.0));
        assert!((enlarged(&coarse, 16 * 5 + 2) - 0.125).abs() < 1e-12);
    }

    #[test]
    fn images_depend_on_seed_class_and_place_alone() {
        let glyphs = StrokeGlyphs::new(6, 3).unwrap();
        assert_eq!(glyphs, StrokeGlyphs { points: StrokeGlyphs::new(9, 3).unwrap().points[..6].to_vec() });
        let all = glyphs.draw(&[0, 4], 3, GlyphStyle::Plain, 1).unwrap();
        let some = glyphs.draw(&[4], 2, GlyphStyle::Plain, 1).unwrap();
        assert_eq!(some.images, all.images.narrow(0, 3, 2));
        let other = glyphs.draw(&[4], 2, GlyphStyle::Plain, 2).unwrap();
        assert_ne!(other.images, some.images);
        // Plain images are mostly dark, inverted ones mostly bright.
        let mean =
            |style| glyphs.draw(&[0, 1, 2], 5, style, 1).unwrap().to_float().mean(tch::Kind::Double).double_value(&[]);
        assert!(mean(GlyphStyle::Plain) < 0.4 && mean(GlyphStyle::Inverted) > 0.5);
    }

    #[test]
    fn classes_can_be_told_apart() {
        let glyphs = StrokeGlyphs::new(4, 0).unwrap();
        let part = |seed: u64| {
            let set = glyphs.draw(&[0, 1, 2, 3], 60, GlyphStyle::Plain, seed).unwrap();
            (set.to_float().flatten(1, -1), set.labels)
        };
        let ((x, y), (test, labels)) = (part(0), part(1));
        let scores = RidgeProbe { penalty: 0.1 }.scores(&x, &y, 4, &test).unwrap();
        assert!(accuracy(&scores, &labels).unwrap() > 0.6);
    }

    #[test]
    fn what_cannot_be_drawn_is_refused() {
        assert!(StrokeGlyphs::new(0, 0).is_err());
        let glyphs = StrokeGlyphs::new(2, 0).unwrap();
        let draw = |classes: &[usize], n| glyphs.draw(classes, n, GlyphStyle::Plain, 0).map(|s| s.len());
        assert_eq!(draw(&[2], 1).unwrap_err().to_string(), "class: expected below 2, got 2");
        assert!(draw(&[], 1).is_err() && draw(&[0], 0).is_err());
    }
}
