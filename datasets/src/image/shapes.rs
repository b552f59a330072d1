//! Procedural images whose class is a shape and a texture, with everything else varying.

use super::ImageSet;
use autodidact_core::seed::{Rng, rng};
use rand::{Rng as _, RngExt};
use rayon::prelude::*;
use std::f32::consts::{PI, TAU};
use std::ops::Range;
use tch::Tensor;

const SIDE: usize = 32;
const PIXELS: usize = SIDE * SIDE;

/// The classes of [`shapes`]: class `2 * s + t` is shape `s` with texture `t`.
pub const SHAPE_CLASSES: [&str; 10] = [
    "striped disc",
    "spotted disc",
    "striped square",
    "spotted square",
    "striped triangle",
    "spotted triangle",
    "striped cross",
    "spotted cross",
    "striped ring",
    "spotted ring",
];

/// Draws images `range` of the endless data set named by `seed`: `Uint8 [N, 3, 32, 32]`.
///
/// Image `i` of a seed is the same whatever the range that contains it, and its class is `i % 10` (see
/// [`SHAPE_CLASSES`]): five shapes (disc, square, triangle, cross, ring) times two textures (stripes, spots). A shape
/// has two colours, arranged by the texture. These factors vary independently of the class, each drawn per image:
///
/// | factor | distribution |
/// |---|---|
/// | centre | uniform, at most 4 pixels from the middle in x and in y |
/// | scale | radius uniform in 8.5 to 12.5 pixels |
/// | rotation of the shape, of the texture | uniform in 0 to 2 pi, each of its own |
/// | period of the texture | uniform in 4.5 to 6 pixels, any phase |
/// | colours | three random RGB colours (background, two of the object) at least 0.5 apart |
/// | lighting | gain 0.7 to 1.15 with a linear fall-off of up to 25 % in any direction |
/// | background | two plane waves of any direction, period 8 to 30 pixels, amplitude up to 0.1; up to two blobs |
/// | noise | normal, standard deviation 0.01 to 0.05 |
///
/// A linear classifier on the pixels reaches 15 % and a ConvNet of five layers 97 % after six epochs of 10,000 images
/// (`cargo run --release -p autodidact-datasets --example shapes_difficulty`).
pub fn shapes(seed: u64, range: Range<u64>) -> ImageSet {
    let n = range.end.saturating_sub(range.start) as usize;
    let mut pixels = vec![0u8; n * 3 * PIXELS];
    pixels.par_chunks_mut(3 * PIXELS).enumerate().for_each(|(k, image)| {
        let i = range.start + k as u64;
        let mut rng = rng(seed, &["shapes", &i.to_string()]);
        Scene::draw((i % 10) as usize, &mut rng).render(image, &mut rng);
    });
    let labels: Vec<i64> = range.map(|i| (i % 10) as i64).collect();
    let images = Tensor::from_slice(&pixels).view([n as i64, 3, SIDE as i64, SIDE as i64]);
    ImageSet { images, labels: Tensor::from_slice(&labels), classes: SHAPE_CLASSES.map(String::from).into() }
}

pub(super) type Colour = [f32; 3];

/// A plane wave over the image: `amplitude * sin(kx * x + ky * y + phase)`.
pub(super) struct Wave {
    kx: f32,
    ky: f32,
    phase: f32,
}

impl Wave {
    pub(super) fn draw(period: Range<f32>, rng: &mut Rng) -> Self {
        let (sin, cos) = rng.random_range(0.0..TAU).sin_cos();
        let k = TAU / rng.random_range(period);
        Self { kx: k * cos, ky: k * sin, phase: rng.random_range(0.0..TAU) }
    }

    pub(super) fn at(&self, x: f32, y: f32) -> f32 {
        (self.kx * x + self.ky * y + self.phase).sin()
    }

    /// The wave a quarter turn away, for spots.
    fn across(&self, phase: f32) -> Self {
        Self { kx: -self.ky, ky: self.kx, phase }
    }
}

struct Blob {
    centre: (f32, f32),
    radius: f32,
    colour: Colour,
}

/// All that is drawn for one image.
struct Scene {
    shape: usize,
    spotted: bool,
    centre: (f32, f32),
    radius: f32,
    rotation: (f32, f32),
    texture: [Wave; 2],
    background: Colour,
    object: [Colour; 2],
    waves: [(Wave, Colour); 2],
    blobs: Vec<Blob>,
    gain: f32,
    falloff: (f32, f32),
    noise: f32,
}

impl Scene {
    fn draw(class: usize, rng: &mut Rng) -> Self {
        let colour = |rng: &mut Rng| -> Colour { std::array::from_fn(|_| rng.random_range(0.05..0.95)) };
        let background = colour(rng);
        let mut object = [background; 2];
        for k in 0..2 {
            let taken = [background, object[0]];
            object[k] = std::iter::repeat_with(|| colour(rng))
                .find(|c| taken.iter().all(|t| distance(c, t) >= 0.5))
                .expect("an endless iterator");
        }
        let wave = Wave::draw(4.5..6.0, rng);
        let across = wave.across(rng.random_range(0.0..TAU));
        let fall = rng.random_range(0.0..0.25) / SIDE as f32;
        let direction = rng.random_range(0.0..TAU);
        Self {
            shape: class / 2,
            spotted: class % 2 == 1,
            centre: (rng.random_range(-4.0..4.0), rng.random_range(-4.0..4.0)),
            radius: rng.random_range(8.5..12.5),
            rotation: rng.random_range(0.0..TAU).sin_cos(),
            texture: [wave, across],
            background,
            object,
            waves: std::array::from_fn(|_| {
                let amplitude = std::array::from_fn(|_| rng.random_range(-0.1..0.1));
                (Wave::draw(8.0..30.0, rng), amplitude)
            }),
            blobs: (0..rng.random_range(0..3))
                .map(|_| Blob {
                    centre: (rng.random_range(-16.0..16.0), rng.random_range(-16.0..16.0)),
                    radius: rng.random_range(1.0..3.0),
                    colour: colour(rng),
                })
                .collect(),
            gain: rng.random_range(0.7..1.15),
            falloff: (fall * direction.cos(), fall * direction.sin()),
            noise: rng.random_range(0.01..0.05),
        }
    }

    fn render(&self, image: &mut [u8], rng: &mut Rng) {
        for p in 0..PIXELS {
            let middle = (SIDE as f32 - 1.0) / 2.0;
            let (x, y) = ((p % SIDE) as f32 - middle, (p / SIDE) as f32 - middle);
            let mut colour = self.background;
            for (wave, amplitude) in &self.waves {
                let value = wave.at(x, y);
                (0..3).for_each(|c| colour[c] += amplitude[c] * value);
            }
            for blob in &self.blobs {
                let r = (x - blob.centre.0).hypot(y - blob.centre.1);
                mix(&mut colour, &blob.colour, coverage(r - blob.radius));
            }
            let cover = coverage(self.distance(x - self.centre.0, y - self.centre.1));
            if cover > 0.0 {
                let wave = self.texture[0].at(x, y);
                // Spots are the bumps of two crossed waves; both textures give each colour about half of the area.
                let pattern = if self.spotted { wave * self.texture[1].at(x, y) - 0.05 } else { wave };
                let mut ink = self.object[0];
                mix(&mut ink, &self.object[1], (0.5 + 2.0 * pattern).clamp(0.0, 1.0));
                mix(&mut colour, &ink, cover);
            }
            let light = self.gain * (1.0 + self.falloff.0 * x + self.falloff.1 * y);
            for c in 0..3 {
                let value = colour[c] * light + self.noise * normal(rng);
                image[c * PIXELS + p] = (value.clamp(0.0, 1.0) * 255.0).round() as u8;
            }
        }
    }

    /// Signed distance from the shape's outline, of a point relative to its centre.
    fn distance(&self, x: f32, y: f32) -> f32 {
        outline(self.shape, self.radius, self.rotation, x, y)
    }
}

/// Signed distance (in pixels, negative inside) from the outline of a shape (disc, square, triangle, cross, ring) of radius `r`, of
/// a point relative to its centre.
pub(super) fn outline(shape: usize, r: f32, (sin, cos): (f32, f32), x: f32, y: f32) -> f32 {
    let (x, y) = (cos * x + sin * y, cos * y - sin * x);
    match shape {
        0 => x.hypot(y) - 0.95 * r,
        1 => x.abs().max(y.abs()) - 0.8 * r,
        2 => {
            // The three sides of an equilateral triangle lie half its outer radius away from the centre.
            let side = |k: f32| {
                let (s, c) = (k * 2.0 * PI / 3.0).sin_cos();
                c * x + s * y
            };
            side(0.0).max(side(1.0)).max(side(2.0)) - 0.6 * r
        }
        3 => {
            let (long, short) = (x.abs().max(y.abs()), x.abs().min(y.abs()));
            (long - r).max(short - 0.36 * r)
        }
        _ => (x.hypot(y) - 0.72 * r).abs() - 0.3 * r,
    }
}

fn distance(a: &Colour, b: &Colour) -> f32 {
    (0..3).map(|c| (a[c] - b[c]).powi(2)).sum::<f32>().sqrt()
}

/// The share of a pixel that lies inside an outline at signed distance `d`.
pub(super) fn coverage(d: f32) -> f32 {
    (0.5 - d).clamp(0.0, 1.0)
}

pub(super) fn mix(colour: &mut Colour, other: &Colour, share: f32) {
    (0..3).for_each(|c| colour[c] += share * (other[c] - colour[c]));
}

/// A nearly normal number, from the sum of four bytes (mean 0, variance 1).
pub(super) fn normal(rng: &mut Rng) -> f32 {
    let sum: u32 = rng.next_u32().to_le_bytes().iter().map(|&b| u32::from(b)).sum();
    // The variance of a uniform byte is (256^2 - 1) / 12.
    (sum as f32 - 510.0) / 147.8
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    #[test]
    fn an_image_does_not_depend_on_the_range_that_contains_it() {
        let all = shapes(3, 0..40);
        assert_eq!(shapes(3, 17..25).images, all.images.narrow(0, 17, 8));
        assert_eq!(shapes(3, 17..25).labels, all.labels.narrow(0, 17, 8));
        assert_ne!(shapes(4, 0..40).images, all.images);
    }

    #[test]
    fn classes_cannot_be_told_by_mean_colour() {
        let set = shapes(0, 0..2000);
        let mean = set.to_float().mean_dim([2i64, 3].as_slice(), false, Kind::Float);
        for class in 0..10 {
            let rows = set.labels.eq(class).nonzero().squeeze_dim(1);
            let gap = (mean.index_select(0, &rows).mean_dim(0, false, Kind::Float)
                - mean.mean_dim(0, false, Kind::Float))
            .abs()
            .max();
            // The standard error of a class mean of 200 images is about 0.012.
            assert!(gap.double_value(&[]) < 0.06, "class {class}: {gap:?}");
        }
    }

    #[test]
    fn a_linear_classifier_on_pixels_fails() {
        let (train, test) = (shapes(0, 0..2000), shapes(1, 0..1000));
        let rows = |set: &ImageSet| set.to_float().flatten(1, -1) - 0.5;
        let (x, held_out) = (rows(&train), rows(&test));
        // Ridge regression on one-hot labels, in its dual form.
        let kernel = x.matmul(&x.tr()) + Tensor::eye(2000, (Kind::Float, tch::Device::Cpu)) * 50.0;
        let weights = Tensor::linalg_solve(&kernel, &train.labels.one_hot(10).to_kind(Kind::Float), true);
        let guess = held_out.matmul(&x.tr()).matmul(&weights).argmax(1, false);
        let accuracy = guess.eq_tensor(&test.labels).to_kind(Kind::Double).mean(Kind::Double).double_value(&[]);
        assert!(accuracy < 0.3, "{accuracy}");
    }
}
