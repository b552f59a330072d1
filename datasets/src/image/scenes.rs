//! Procedural scenes with a class for every pixel, in any number of looks: domains of a segmentation task.

use super::shapes::{Colour, Wave, coverage, mix, normal, outline};
use autodidact_core::error::check_range;
use autodidact_core::seed::{Rng, rng};
use autodidact_core::{Error, Result};
use rand::RngExt;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::f32::consts::TAU;
use std::ops::Range;
use tch::Tensor;

/// The classes of [`scenes`].
pub const SCENE_CLASSES: [&str; 5] = ["background", "disc", "square", "triangle", "ring"];

/// Shapes of the classes above 0, as [`outline`] numbers them, with the mean colours of the clean look.
const OBJECTS: [(usize, Colour); 4] =
    [(0, [0.8, 0.2, 0.2]), (1, [0.2, 0.8, 0.2]), (2, [0.2, 0.2, 0.8]), (4, [0.8, 0.8, 0.2])];

/// How scenes look. Two looks of the same scenes are two domains.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SceneStyle {
    /// Turn of the objects' colours about the grey axis, in degrees.
    pub hue: f32,
    /// Amplitude of stripes on the objects.
    pub stripes: f32,
    /// Amplitude of the background's smooth field.
    pub field: f32,
    /// Loss of light across the image, in any direction, as a share of the middle's.
    pub falloff: f32,
    /// Factor of the contrast about middle grey.
    pub contrast: f32,
    /// Whether the image is blurred by a 3x3 box.
    pub blur: bool,
    /// Standard deviation of the pixels' noise.
    pub noise: f32,
}

impl SceneStyle {
    /// A clean rendering.
    pub fn source() -> Self {
        Self { hue: 0.0, stripes: 0.0, field: 0.1, falloff: 0.0, contrast: 1.0, blur: false, noise: 0.05 }
    }

    /// Other colours, textures and light, little contrast, blur and noise.
    pub fn target() -> Self {
        Self { hue: 40.0, stripes: 0.1, field: 0.25, falloff: 0.25, contrast: 0.7, blur: true, noise: 0.12 }
    }

    fn check(&self) -> Result<()> {
        check_range("hue", self.hue.into(), ..)?;
        for (what, value) in [
            ("stripes", self.stripes),
            ("field", self.field),
            ("falloff", self.falloff),
            ("contrast", self.contrast),
            ("noise", self.noise),
        ] {
            check_range(what, value.into(), 0.0..)?;
        }
        Ok(())
    }
}

/// Images with the class of every pixel.
#[derive(Debug)]
pub struct Scenes {
    /// Pixels, `Uint8 [N, 3, side, side]`.
    pub images: Tensor,
    /// Classes (see [`SCENE_CLASSES`]), `Int64 [N, side, side]`.
    pub masks: Tensor,
}

/// Draws scenes `range` of the endless set named by `seed`, of `side` x `side` pixels: two to four discs, squares, triangles and rings
/// (radius uniform in `side/8` to `side/4`, any place and rotation, later ones on top) on a grey background with a smooth field.
///
/// Scene `i` of a seed is the same whatever the range that contains it, and its mask and objects are the same in every style: only
/// the look is another.
///
/// ```
/// use autodidact_datasets::image::{SceneStyle, scenes};
/// let (clean, other) = (scenes(0, 3..7, 32, &SceneStyle::source())?, scenes(0, 3..7, 32, &SceneStyle::target())?);
/// assert_eq!(clean.images.size(), [4, 3, 32, 32]);
/// assert!(clean.masks == other.masks && clean.images != other.images);
/// # Ok::<(), autodidact_core::Error>(())
/// ```
///
/// # Errors
/// A side below 8, a style with a negative amplitude.
pub fn scenes(seed: u64, range: Range<u64>, side: usize, style: &SceneStyle) -> Result<Scenes> {
    if side < 8 {
        return Err(Error::value("side of the scenes", "at least 8 pixels", side));
    }
    style.check()?;
    let n = range.end.saturating_sub(range.start) as usize;
    let pixels = side * side;
    let (mut images, mut masks) = (vec![0u8; n * 3 * pixels], vec![0i64; n * pixels]);
    let chunks = images.par_chunks_mut(3 * pixels).zip(masks.par_chunks_mut(pixels)).enumerate();
    chunks.for_each(|(k, (image, mask))| {
        let name = (range.start + k as u64).to_string();
        let stream = |purpose: &str| rng(seed, &["scenes", purpose, &name]);
        let objects = objects(side as f32, &mut stream("objects"));
        Canvas { side, style }.render(&objects, image, mask, &mut stream("look"));
    });
    let side = side as i64;
    Ok(Scenes {
        images: Tensor::from_slice(&images).view([n as i64, 3, side, side]),
        masks: Tensor::from_slice(&masks).view([n as i64, side, side]),
    })
}

struct Object {
    class: usize,
    centre: (f32, f32),
    radius: f32,
    rotation: (f32, f32),
    colour: Colour,
    stripes: Wave,
}

fn objects(side: f32, rng: &mut Rng) -> Vec<Object> {
    let count = rng.random_range(2..=4);
    let mut draw = || {
        let class = rng.random_range(1..=OBJECTS.len());
        let mut colour = OBJECTS[class - 1].1;
        colour.iter_mut().for_each(|c| *c += 0.1 * normal(rng));
        Object {
            class,
            centre: (rng.random_range(0.0..side), rng.random_range(0.0..side)),
            radius: rng.random_range(side / 8.0..side / 4.0),
            rotation: rng.random_range(0.0..TAU).sin_cos(),
            colour,
            stripes: Wave::draw(side / 10.0..side / 5.0, rng),
        }
    };
    (0..count).map(|_| draw()).collect()
}

/// Nodes of the background's field along a side.
const NODES: usize = 4;

struct Canvas<'a> {
    side: usize,
    style: &'a SceneStyle,
}

impl Canvas<'_> {
    fn render(&self, objects: &[Object], image: &mut [u8], mask: &mut [i64], rng: &mut Rng) {
        let (side, style) = (self.side, self.style);
        let pixels = side * side;
        let grey = rng.random_range(0.3..0.6);
        let field: [f32; NODES * NODES] = std::array::from_fn(|_| style.field * normal(rng));
        let direction = rng.random_range(0.0..TAU).sin_cos();
        let inks: Vec<Colour> = objects.iter().map(|o| turned(&o.colour, style.hue)).collect();
        let mut canvas = vec![0f32; 3 * pixels];
        for p in 0..pixels {
            let (x, y) = ((p % side) as f32 + 0.5, (p / side) as f32 + 0.5);
            let mut colour = [grey + self.field(&field, x, y); 3];
            for (object, ink) in objects.iter().zip(&inks) {
                let (dx, dy) = (x - object.centre.0, y - object.centre.1);
                let distance = outline(OBJECTS[object.class - 1].0, object.radius, object.rotation, dx, dy);
                let shade = style.stripes * object.stripes.at(dx, dy);
                mix(&mut colour, &ink.map(|c| c + shade), coverage(distance));
                if distance < 0.0 {
                    mask[p] = object.class as i64;
                }
            }
            let across = (direction.0 * x + direction.1 * y) / side as f32 - (direction.0 + direction.1) / 2.0;
            let light = 1.0 + style.falloff * across;
            (0..3).for_each(|c| canvas[c * pixels + p] = 0.5 + style.contrast * (colour[c] * light - 0.5));
        }
        if style.blur {
            canvas = canvas.chunks(pixels).flat_map(|plane| blurred(plane, side)).collect();
        }
        for (to, from) in image.iter_mut().zip(&canvas) {
            *to = ((from + style.noise * normal(rng)).clamp(0.0, 1.0) * 255.0).round() as u8;
        }
    }

    /// Bilinear interpolation between the nodes, the outermost of which lie on the edge.
    fn field(&self, nodes: &[f32], x: f32, y: f32) -> f32 {
        let along = |v: f32| {
            let at = v / self.side as f32 * (NODES - 1) as f32;
            let low = (at as usize).min(NODES - 2);
            (low, at - low as f32)
        };
        let ((i, s), (j, t)) = (along(x), along(y));
        let row = |j: usize| nodes[j * NODES + i] * (1.0 - s) + nodes[j * NODES + i + 1] * s;
        row(j) * (1.0 - t) + row(j + 1) * t
    }
}

/// A colour turned about the grey axis.
fn turned(colour: &Colour, degrees: f32) -> Colour {
    let (sin, cos) = degrees.to_radians().sin_cos();
    let [r, g, b] = *colour;
    let (mean, sin) = ((r + g + b) / 3.0, sin / 3f32.sqrt());
    let turn = |c: f32, before: f32, after: f32| mean + cos * (c - mean) + sin * (before - after);
    [turn(r, b, g), turn(g, r, b), turn(b, g, r)]
}

/// Means over 3x3 pixels; those beyond the edge are those on it.
fn blurred(plane: &[f32], side: usize) -> Vec<f32> {
    let at = |x: usize, y: usize| {
        let near = |v: usize| v.saturating_sub(1)..=(v + 1);
        let cells = near(y).flat_map(|j| near(x).map(move |i| (i, j)));
        // The first row and column lack the neighbour before them; it is counted as the edge itself.
        let (mut sum, mut count) = (0.0, 0.0);
        for (i, j) in cells {
            let weight = if x == 0 && i == 0 { 2.0 } else { 1.0 } * if y == 0 && j == 0 { 2.0 } else { 1.0 };
            sum += weight * plane[j.min(side - 1) * side + i.min(side - 1)];
            count += weight;
        }
        sum / count
    };
    (0..side * side).map(|p| at(p % side, p / side)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    #[test]
    fn a_scene_does_not_depend_on_the_range_and_its_mask_not_on_the_style() {
        let clean = scenes(5, 0..20, 32, &SceneStyle::source()).unwrap();
        let part = scenes(5, 7..11, 32, &SceneStyle::source()).unwrap();
        assert_eq!(part.images, clean.images.narrow(0, 7, 4));
        assert_eq!(part.masks, clean.masks.narrow(0, 7, 4));
        let other = scenes(5, 0..20, 32, &SceneStyle::target()).unwrap();
        assert!(other.masks == clean.masks && other.images != clean.images);
        assert_ne!(scenes(6, 0..20, 32, &SceneStyle::source()).unwrap().masks, clean.masks);
    }

    #[test]
    fn every_class_is_there_and_has_its_colour() {
        let Scenes { images, masks } = scenes(0, 0..200, 32, &SceneStyle::source()).unwrap();
        let flat = images.permute([0, 2, 3, 1]).reshape([-1, 3]).to_kind(Kind::Double) / 255.0;
        for class in 0..5i64 {
            let rows = masks.flatten(0, -1).eq(class).nonzero().squeeze_dim(1);
            let share = rows.size()[0] as f64 / masks.numel() as f64;
            assert!(share > 0.02, "class {class}: {share}");
            let mean: Vec<f64> = flat.index_select(0, &rows).mean_dim(0, false, Kind::Double).try_into().unwrap();
            let want = if class == 0 { [0.45; 3] } else { OBJECTS[class as usize - 1].1.map(f64::from) };
            let error = mean.iter().zip(want).map(|(m, w)| (m - w).abs()).fold(0.0, f64::max);
            assert!(error < 0.06, "class {class}: {mean:?} {want:?}");
        }
    }

    #[test]
    fn colours_turn_about_grey_and_blur_keeps_the_mean() {
        let near = |a: Colour, b: Colour| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(near(turned(&[0.8, 0.2, 0.3], 120.0), [0.3, 0.8, 0.2]));
        assert!(near(turned(&[0.4, 0.4, 0.4], 40.0), [0.4, 0.4, 0.4]));
        assert!(blurred(&[0.25; 81], 9).iter().all(|v| (v - 0.25).abs() < 1e-6));
        let mut point = vec![0.0; 81];
        point[0] = 9.0;
        let spread = blurred(&point, 9);
        assert!((spread[0] - 4.0).abs() < 1e-6 && (spread[1] - 2.0).abs() < 1e-6 && (spread[10] - 1.0).abs() < 1e-6);
    }

    #[test]
    fn styles_that_make_no_sense_are_errors() {
        assert!(scenes(0, 0..1, 7, &SceneStyle::source()).unwrap_err().to_string().contains("at least 8"));
        assert!(scenes(0, 0..1, 32, &SceneStyle { noise: -1.0, ..SceneStyle::source() }).is_err());
    }
}
