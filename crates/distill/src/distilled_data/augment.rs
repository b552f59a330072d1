//! Differentiable augmentation for synthetic images.

use autodidact_core::error::check_range;
use autodidact_core::seed::Rng;
use autodidact_core::{Error, Result};
use rand::RngExt;
use rand::seq::IndexedRandom;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// A kind of augmentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// Brightness, saturation and contrast.
    Color,
    /// A shift, zeros beyond the edge.
    Crop,
    /// A square of zeros.
    Cutout,
    /// Left to right.
    Flip,
    /// Each axis by a factor of its own.
    Scale,
    /// About the centre.
    Rotate,
}

/// Differentiable siamese augmentation (Zhao and Bilen, 2021): every call draws one of the policies. With shared parameters,
/// real and synthetic images of a matching loss are changed alike; else every image has its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DiffAugment {
    /// What is drawn from.
    pub policies: Vec<Policy>,
    /// Brightness: added, uniform in plus or minus half of this.
    pub brightness: f64,
    /// Saturation: factor on the deviation from the pixel's grey, uniform from 0 to this.
    pub saturation: f64,
    /// Contrast: factor on the deviation from the image's mean, uniform from this to this plus 1.
    pub contrast: f64,
    /// Largest shift, a share of the side.
    pub crop: f64,
    /// Side of the cut square, a share of the image's.
    pub cutout: f64,
    /// Probability of a flip.
    pub flip: f64,
    /// Largest zoom, above 1; the least is its reciprocal.
    pub scale: f64,
    /// Largest rotation in degrees.
    pub rotate: f64,
}

impl Default for DiffAugment {
    fn default() -> Self {
        let policies = vec![Policy::Color, Policy::Crop, Policy::Cutout, Policy::Flip, Policy::Scale, Policy::Rotate];
        Self {
            policies,
            brightness: 1.0,
            saturation: 2.0,
            contrast: 0.5,
            crop: 0.125,
            cutout: 0.5,
            flip: 0.5,
            scale: 1.2,
            rotate: 15.0,
        }
    }
}

/// An augmentation with its parameters: of one image each, or one set for all.
#[derive(Debug, Clone, PartialEq)]
pub enum Drawn {
    /// `(added, saturation factor, contrast factor)`.
    Color(Vec<[f64; 3]>),
    /// `(down, right)`, in pixels.
    Shift(Vec<[i64; 2]>),
    /// First row and column of the square, and its side; it may stick out.
    Cutout(Vec<[i64; 2]>, i64),
    /// Whether to flip.
    Flip(Vec<bool>),
    /// Rows of the map from output to input positions, in units of half the sides.
    Affine(Vec<[f64; 6]>),
}

impl DiffAugment {
    /// Draws an augmentation for images of side `side`: `Some(n)` parameters, one per image; `None` for one set for any batch.
    ///
    /// # Errors
    /// No policies, constants outside their ranges.
    pub fn draw(&self, images: Option<i64>, side: i64, rng: &mut Rng) -> Result<Drawn> {
        for (what, value) in
            [("brightness", self.brightness), ("saturation", self.saturation), ("contrast", self.contrast)]
        {
            check_range(what, value, 0.0..)?;
        }
        for (what, value) in [("crop", self.crop), ("cutout", self.cutout), ("flip", self.flip)] {
            check_range(what, value, 0.0..=1.0)?;
        }
        check_range("scale", self.scale, 1.0..)?;
        check_range("rotate", self.rotate, 0.0..)?;
        let Some(policy) = self.policies.choose(rng) else {
            return Err(Error::value("augmentation policies", "at least one", "none"));
        };
        let n = images.unwrap_or(1);
        let pixels = |share: f64| (share * side as f64 + 0.5) as i64;
        let (shift, square) = (pixels(self.crop), pixels(self.cutout));
        let each = |n: i64| 0..n;
        Ok(match policy {
            Policy::Color => Drawn::Color(
                each(n)
                    .map(|_| {
                        let [b, s, c] = [(); 3].map(|()| rng.random::<f64>());
                        [(b - 0.5) * self.brightness, s * self.saturation, c + self.contrast]
                    })
                    .collect(),
            ),
            Policy::Crop => Drawn::Shift(each(n).map(|_| [(); 2].map(|()| rng.random_range(-shift..=shift))).collect()),
            Policy::Cutout => {
                // Centres are uniform over the image; an even square also over the far edge.
                let centres = side + 1 - square % 2;
                let corner = |rng: &mut Rng| [(); 2].map(|()| rng.random_range(0..centres) - square / 2);
                Drawn::Cutout(each(n).map(|_| corner(rng)).collect(), square)
            }
            Policy::Flip => Drawn::Flip(each(n).map(|_| rng.random_bool(self.flip)).collect()),
            Policy::Scale => {
                let low = self.scale.recip();
                let factor = |rng: &mut Rng| low + rng.random::<f64>() * (self.scale - low);
                Drawn::Affine(each(n).map(|_| [factor(rng), 0.0, 0.0, 0.0, factor(rng), 0.0]).collect())
            }
            Policy::Rotate => {
                let turn = |rng: &mut Rng| ((rng.random::<f64>() * 2.0 - 1.0) * self.rotate).to_radians().sin_cos();
                Drawn::Affine(
                    each(n)
                        .map(|_| {
                            let (sin, cos) = turn(rng);
                            [cos, -sin, 0.0, sin, cos, 0.0]
                        })
                        .collect(),
                )
            }
        })
    }
}

impl Drawn {
    fn len(&self) -> usize {
        match self {
            Drawn::Color(p) => p.len(),
            Drawn::Shift(p) | Drawn::Cutout(p, _) => p.len(),
            Drawn::Flip(p) => p.len(),
            Drawn::Affine(p) => p.len(),
        }
    }

    /// Changes images `[N, C, H, W]`, differentiably (once).
    ///
    /// # Errors
    /// No images, or a number of them that the parameters are not for.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let &[n, _, h, w] = &x.size()[..] else {
            return Err(Error::shape("images", "[N, C, H, W]", x));
        };
        if self.len() != 1 && self.len() as i64 != n {
            return Err(Error::shape("images", format!("{} images, one for each set of parameters", self.len()), x));
        }
        let device = x.device();
        // `[n or 1, 1, 1, 1]`
        let numbers = |v: Vec<f64>| Tensor::from_slice(&v).to_kind(x.kind()).to_device(device).view([-1, 1, 1, 1]);
        let integers = |v: Vec<i64>| Tensor::from_slice(&v).to_device(device).view([-1, 1, 1, 1]);
        let rows = Tensor::arange(h, (Kind::Int64, device)).view([1, 1, h, 1]);
        let columns = Tensor::arange(w, (Kind::Int64, device)).view([1, 1, 1, w]);
        let axis = |p: &[[i64; 2]], i: usize| integers(p.iter().map(|v| v[i]).collect());
        Ok(match self {
            Drawn::Color(p) => {
                let part = |i: usize| numbers(p.iter().map(|v| v[i]).collect());
                let x = x + part(0);
                let grey = x.mean_dim([1i64].as_slice(), true, x.kind());
                let x = (x - &grey) * part(1) + grey;
                let mean = x.mean_dim([1i64, 2, 3].as_slice(), true, x.kind());
                (x - &mean) * part(2) + mean
            }
            Drawn::Shift(p) => {
                // Where each row and column comes from; what comes from outside is 0.
                let (from_row, from_column) = (&rows - axis(p, 0), &columns - axis(p, 1));
                let inside = |from: &Tensor, size: i64| from.ge(0).logical_and(&from.lt(size));
                let mask = inside(&from_row, h).logical_and(&inside(&from_column, w));
                let place = from_row.clamp(0, h - 1) * w + from_column.clamp(0, w - 1);
                let place = place.expand([n, x.size()[1], h, w], false).flatten(2, 3);
                x.flatten(2, 3).gather(2, &place, false).view_as(x) * mask.to_kind(x.kind())
            }
            Drawn::Cutout(p, side) => {
                let covered =
                    |at: &Tensor, first: Tensor| at.ge_tensor(&first).logical_and(&at.lt_tensor(&(first + *side)));
                let hole = covered(&rows, axis(p, 0)).logical_and(&covered(&columns, axis(p, 1)));
                x * hole.logical_not().to_kind(x.kind())
            }
            Drawn::Flip(p) => {
                let flip = Tensor::from_slice(p).to_device(device).view([-1, 1, 1, 1]);
                x.flip([3]).where_self(&flip, x)
            }
            Drawn::Affine(p) => {
                let flat: Vec<f64> = p.iter().flatten().copied().collect();
                let theta = Tensor::from_slice(&flat).to_kind(x.kind()).to_device(device).view([-1, 2, 3]);
                let grid = Tensor::affine_grid_generator(&theta.expand([n, 2, 3], false), x.size(), false);
                x.f_grid_sampler(&grid, 0, 0, false)?
            }
        })
    }
}
