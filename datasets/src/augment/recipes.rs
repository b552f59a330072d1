//! The augmentations of published methods.

use super::ops::Filter;
use super::random::{ColorJitter, Pipeline, RandomAffine, RandomResizedCrop, Transform};

/// Mean of ImageNet's channels, as commonly used for normalisation.
pub const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Standard deviation of ImageNet's channels, as commonly used for normalisation.
pub const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

fn normalize() -> Transform {
    Transform::Normalize { mean: IMAGENET_MEAN.into(), std: IMAGENET_STD.into() }
}

/// The augmentation of SimCLR (Chen et al. 2020, "A Simple Framework for Contrastive Learning of Visual
/// Representations", appendix A); both views are drawn from it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SimClr {
    /// Side of the result in pixels.
    pub size: usize,
    /// Strength s of the colour jitter: brightness, contrast and saturation 0.8 s, hue 0.2 s.
    pub strength: f64,
    /// Probability of the blur (kernel of a tenth of the side, sigma 0.1 to 2 pixels).
    pub blur: f64,
    /// Whether the result is normalised by ImageNet's statistics; SimCLR itself leaves it in `[0, 1]`.
    pub normalize: bool,
}

impl Default for SimClr {
    /// The paper's values for ImageNet: 224 pixels, s = 1, blur with probability 0.5.
    fn default() -> Self {
        Self { size: 224, strength: 1.0, blur: 0.5, normalize: false }
    }
}

impl SimClr {
    /// The paper's values for CIFAR-10 (its appendix B.9), at `size` pixels: s = 0.5 and no blur.
    pub fn small(size: usize) -> Self {
        Self { size, strength: 0.5, blur: 0.0, normalize: false }
    }

    /// The transforms: crop, flip, colour jitter (p 0.8), grey (p 0.2), blur.
    pub fn pipeline(&self) -> Pipeline {
        let s = self.strength;
        let mut transforms = vec![
            Transform::RandomResizedCrop(RandomResizedCrop { size: (self.size, self.size), ..Default::default() }),
            Transform::HorizontalFlip { p: 0.5 },
            Transform::ColorJitter(ColorJitter {
                brightness: 0.8 * s,
                contrast: 0.8 * s,
                saturation: 0.8 * s,
                hue: 0.2 * s,
                p: 0.8,
            }),
            Transform::Grayscale { p: 0.2 },
        ];
        if self.blur > 0.0 {
            let kernel = (self.size / 10) | 1;
            transforms.push(Transform::GaussianBlur { kernel, sigma: (0.1, 2.0), p: self.blur });
        }
        if self.normalize {
            transforms.push(normalize());
        }
        Pipeline(transforms)
    }
}

/// The pair of augmentations of Barlow Twins (Zbontar et al. 2021, arXiv 2103.03230), taken from BYOL: they differ in
/// blur and solarisation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BarlowTwins {
    /// Side of the result in pixels.
    pub size: usize,
    /// Smallest area of the crop, as a share of the image.
    pub min_scale: f64,
    /// Probability of the blur (sigma 0.1 to 2 pixels) in the two views.
    pub blur: (f64, f64),
    /// Probability of solarisation (at 128/255) in the two views.
    pub solarize: (f64, f64),
    /// Whether the result is normalised by ImageNet's statistics.
    pub normalize: bool,
}

impl Default for BarlowTwins {
    /// The paper's values, at 224 pixels.
    fn default() -> Self {
        Self { size: 224, min_scale: 0.08, blur: (1.0, 0.1), solarize: (0.0, 0.2), normalize: true }
    }
}

impl BarlowTwins {
    /// The transforms T and T' of the two views: crop (bicubic), flip, colour jitter (0.4, 0.4, 0.2, 0.1; p 0.8),
    /// grey (p 0.2), blur, solarisation, normalisation.
    pub fn pipelines(&self) -> (Pipeline, Pipeline) {
        (self.view(self.blur.0, self.solarize.0), self.view(self.blur.1, self.solarize.1))
    }

    fn view(&self, blur: f64, solarize: f64) -> Pipeline {
        // Wide enough for sigma 2: 23 pixels as in BYOL, or three standard deviations each way on a small image.
        let kernel = (2 * (self.size / 5) + 1).min(23);
        let mut transforms = vec![
            Transform::RandomResizedCrop(RandomResizedCrop {
                size: (self.size, self.size),
                scale: (self.min_scale, 1.0),
                filter: Filter::Bicubic,
                ..Default::default()
            }),
            Transform::HorizontalFlip { p: 0.5 },
            Transform::ColorJitter(ColorJitter { brightness: 0.4, contrast: 0.4, saturation: 0.2, hue: 0.1, p: 0.8 }),
            Transform::Grayscale { p: 0.2 },
        ];
        if blur > 0.0 {
            transforms.push(Transform::GaussianBlur { kernel, sigma: (0.1, 2.0), p: blur });
        }
        if solarize > 0.0 {
            transforms.push(Transform::Solarize { threshold: 128.0 / 255.0, p: solarize });
        }
        if self.normalize {
            transforms.push(normalize());
        }
        Pipeline(transforms)
    }
}

/// The augmentation of the small Barlow Twins reproduction on colour images of `size` pixels; both views are drawn from
/// it: crop (scale 0.2 to 1), flip, with p 0.8 brightness by up to 50 %, contrast and saturation by up to 40 %, with p
/// 0.8 a shift of each channel by up to 0.12 standard deviations (of 0.25), grey with p 0.2.
pub fn barlow_twins_small_color(size: usize) -> Pipeline {
    Pipeline(vec![
        Transform::RandomResizedCrop(RandomResizedCrop { size: (size, size), scale: (0.2, 1.0), ..Default::default() }),
        Transform::HorizontalFlip { p: 0.5 },
        Transform::BrightnessShift { max: 0.5 * 0.25, p: 0.8 },
        Transform::ColorJitter(ColorJitter { brightness: 0.0, contrast: 0.4, saturation: 0.4, hue: 0.0, p: 0.8 }),
        Transform::ChannelShift { max: 0.12 * 0.25, p: 0.8 },
        Transform::Grayscale { p: 0.2 },
    ])
}

/// The augmentation of the small Barlow Twins reproduction on 8x8 digits; both views are drawn from it: rotation by up
/// to 0.25 rad, zoom 0.75 to 1.1, shift by up to a quarter of the half-width, gain 0.6 to 1.4, noise of standard
/// deviation 0.1, and with p 0.5 a 3x3 square set to 0.
pub fn barlow_twins_small_digits() -> Pipeline {
    Pipeline(vec![
        Transform::Affine(RandomAffine { rotation: 0.25, zoom: (0.75, 1.1), shift: 0.25 }),
        Transform::Gain { range: (0.6, 1.4) },
        Transform::Noise { std: 0.1 },
        Transform::Cutout { side: 3, p: 0.5 },
    ])
}
