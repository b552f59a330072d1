//! Images of parts (c) and (d).

use crate::experiment::Plan;
use crate::vision::{Part, resized};
use anyhow::Result;
use autodidact_core::seed;
use autodidact_datasets::image::{ImageSet, digits, shapes};
use autodidact_datasets::load_images;
use rand::seq::SliceRandom;
use std::f64::consts::TAU;
use tch::{Device, Kind, Tensor};

/// Side of a digit on an image of 32x32.
const DIGIT: i64 = 16;

/// Digits in the middle of backgrounds, with and without.
pub(super) struct Composites {
    /// Backgrounds alone, `[N, 3, side, side]` in `[0, 1]`.
    pub backgrounds: Tensor,
    /// With the digit, and which it is.
    pub images: Part,
}

impl Composites {
    /// The `len` first ones.
    pub fn first(&self, len: i64) -> Part {
        self.images.slice(0, len.min(self.images.len()))
    }
}

/// `background` where the digit `[N, 1, h, w]` (in the middle) is 0; elsewhere a mixture with share `strength` of the digit.
pub(super) fn overlay(background: &Tensor, digit: &Tensor, strength: f64) -> Tensor {
    let pad = (background.size()[2] - digit.size()[2]) / 2;
    let digit = digit.constant_pad_nd([pad; 4]);
    let mask = digit.gt(0.0).to_kind(Kind::Float) * strength;
    background + mask * (digit - background)
}

/// Random colour textures `[n, 3, 32, 32]` in `[0, 1]`: sums of six plane waves, each with a phase and an amplitude for every
/// channel.
pub(super) fn textures(n: i64, seed: u64) -> Tensor {
    tch::manual_seed(seed as i64);
    let uniform =
        |shape: &[i64], low: f64, high: f64| Tensor::rand(shape, (Kind::Float, Device::Cpu)) * (high - low) + low;
    let place = Tensor::arange(32, (Kind::Float, Device::Cpu)) / 32.0;
    let (x, y) = (place.view([1, 1, 1, 32]), place.view([1, 1, 32, 1]));
    let mut sum = Tensor::full([n, 3, 32, 32], 0.5, (Kind::Float, Device::Cpu));
    for _ in 0..6 {
        let [fx, fy] = [(); 2].map(|()| uniform(&[n, 1, 1, 1], -4.0, 4.0));
        let (phase, amplitude) = (uniform(&[n, 3, 1, 1], 0.0, TAU), uniform(&[n, 3, 1, 1], 0.0, 0.25));
        sum += ((fx * &x + fy * &y) * TAU + phase).sin() * amplitude;
    }
    sum.clamp(0.0, 1.0)
}

/// At most `train` training images of part (c) and `test` test images, the same for every seed and arm.
pub(super) fn composites(
    plan: &Plan,
    (train, test): (usize, usize),
    side: i64,
    strength: f64,
) -> Result<(Composites, Composites)> {
    let split = seed::derive(0, &["projection-head", "split"]);
    let load = |name: &str| load_images(name, plan.data_dir.as_deref(), plan.download);
    let compose = |background: Tensor, digits: &ImageSet| {
        // Where there are fewer digits than backgrounds, they are used again.
        let index = Tensor::arange(background.size()[0], (Kind::Int64, Device::Cpu)).remainder(digits.len() as i64);
        let digit = digits.to_float().internal_upsample_bilinear2d_aa([DIGIT, DIGIT], false, None, None);
        let images = overlay(&background, &digit.index_select(0, &index), strength);
        let pool = |x: Tensor| resized(&x, side).to_device(plan.device);
        let y = digits.labels.index_select(0, &index).to_device(plan.device);
        Composites { backgrounds: pool(background), images: Part { x: pool(images), y } }
    };
    if plan.dataset == "digits" {
        let (some, rest) = digits().split(1297, split)?;
        let [a, b] =
            [(train, "train"), (test, "test")].map(|(n, name)| textures(n as i64, seed::derive(split, &[name])));
        return Ok((compose(a, &some), compose(b, &rest)));
    }
    let ((train_bg, test_bg), (train_digits, test_digits)) = (load(&plan.dataset)?, load("mnist")?);
    let of = |backgrounds: &ImageSet, digits: &ImageSet, n: usize, name: &str| -> Result<Composites> {
        let split = seed::derive(split, &[name]);
        let backgrounds = backgrounds.subset(n.min(backgrounds.len()), split)?;
        let digits = digits.subset(backgrounds.len().min(digits.len()), split)?;
        // In the balanced order both sets run through their classes: another order for one keeps them independent.
        let shuffled = digits.select(&order(digits.len(), split))?;
        Ok(compose(backgrounds.to_float(), &shuffled))
    };
    Ok((of(&train_bg, &train_digits, train, "train")?, of(&test_bg, &test_digits, test, "test")?))
}

fn order(n: usize, seed: u64) -> Vec<i64> {
    let mut order: Vec<i64> = (0..n as i64).collect();
    order.shuffle(&mut seed::rng(seed, &["digits"]));
    order
}

/// Images of part (d), the same for every seed and arm.
pub(super) struct Classes {
    /// Training images with their classes.
    pub train: Part,
    /// Test images.
    pub test: Part,
    /// Super-class of every class.
    pub coarse: Tensor,
    /// Number of super-classes.
    pub super_classes: i64,
}

/// Super-class of every class of CIFAR-100, in the order of the classes' names.
const CIFAR100: [i64; 100] = [
    4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11, 6, 11, 5, 10, 7, 6, 13, 15, 3, 15, 0, 11, 1, 10,
    12, 14, 16, 9, 11, 5, 5, 19, 8, 8, 15, 13, 14, 17, 18, 10, 16, 4, 17, 4, 2, 0, 17, 4, 18, 17, 10, 3, 2, 12, 12, 16,
    12, 1, 9, 19, 2, 10, 0, 1, 16, 12, 9, 13, 15, 13, 16, 19, 2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0, 17, 8, 14,
    13,
];

/// Vehicles (0) and animals (1).
const CIFAR10: [i64; 10] = [0, 0, 1, 1, 1, 1, 1, 1, 0, 0];

/// Stripes (0) and spots (1).
const SHAPES: [i64; 10] = [0, 1, 0, 1, 0, 1, 0, 1, 0, 1];

impl Classes {
    /// At most `train` training images and `test` test images.
    pub fn load(plan: &Plan, (train, test): (usize, usize), side: i64) -> Result<Self> {
        let split = seed::derive(0, &["projection-head", "classes"]);
        let (coarse, (some, held)): (&[i64], _) = match plan.dataset.as_str() {
            "digits" => (&SHAPES, (shapes(split, 0..train as u64), shapes(split, train as u64..(train + test) as u64))),
            name => {
                let coarse: &[i64] = if name == "cifar10" { &CIFAR10 } else { &CIFAR100 };
                (coarse, load_images(name, plan.data_dir.as_deref(), plan.download)?)
            }
        };
        let part = |set: &ImageSet, most: usize| -> Result<Part> {
            Ok(Part::new(&set.subset(most.min(set.len()), split)?, side, plan.device))
        };
        Ok(Self {
            train: part(&some, train)?,
            test: part(&held, test)?,
            coarse: Tensor::from_slice(coarse).to_device(plan.device),
            super_classes: coarse.iter().max().map_or(0, |m| m + 1),
        })
    }

    /// Number of classes.
    pub fn classes(&self) -> i64 {
        self.coarse.size()[0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digit_is_mixed_in_where_it_is_not_black() {
        let background = Tensor::full([1, 3, 4, 4], 0.5, (Kind::Float, Device::Cpu));
        let digit = Tensor::from_slice(&[0f32, 1.0, 0.25, 0.0]).view([1, 1, 2, 2]);
        let mixed = overlay(&background, &digit, 0.8);
        let at = |i: i64, j: i64| mixed.double_value(&[0, 2, i, j]);
        for (got, want) in [(at(0, 0), 0.5), (at(1, 1), 0.5), (at(1, 2), 0.9), (at(2, 1), 0.3), (at(2, 2), 0.5)] {
            assert!((got - want).abs() < 1e-6, "{got} {want}");
        }
    }

    #[test]
    fn super_classes_hold_as_many_classes_as_published() {
        for class in 0..20 {
            assert_eq!(CIFAR100.iter().filter(|c| **c == class).count(), 5);
        }
        // Aquarium fish, flatfish, ray, shark and trout.
        assert!([1, 32, 67, 73, 91].iter().all(|fish| CIFAR100[*fish] == 1));
    }

    #[test]
    fn textures_vary_and_stay_in_range() {
        let x = textures(8, 1);
        assert_eq!(x, textures(8, 1));
        assert!(x.min().double_value(&[]) >= 0.0 && x.max().double_value(&[]) <= 1.0);
        let spread = x.std_dim([2i64, 3].as_slice(), true, false).min().double_value(&[]);
        assert!(spread > 0.05, "{spread}");
    }
}
