//! The two-dimensional scattering transform (Bruna and Mallat, 2013; arXiv 1203.1513): a fixed network of Morlet wavelets,
//! moduli and averages, stable to small deformations. `scatsimclr` stands on it.
//!
//! With wavelets `psi_{j,l}` of scales `2^j` (`j < J`) and `L` angles, and a low-pass `phi_J` (`*` is convolution):
//! `S0 = x * phi_J`; `S1[j1,l1] = |x * psi_{j1,l1}| * phi_J`;
//! `S2[j1,l1,j2,l2] = ||x * psi_{j1,l1}| * psi_{j2,l2}| * phi_J` for `j2 > j1`; all sampled with stride `2^J`.
//!
//! Filters, padding (by reflection) and sampling are those of Kymatio 0.3, to whose values it agrees. Wavelets are applied by
//! FFT, all angles and images at once, and sampled as coarsely as their band allows; the low-pass is separable, so that
//! averaging, sampling and cropping are one small matrix on either side.
//!
//! ```
//! use autodidact_ssl::scattering::Scattering2d;
//! use tch::{Device, Kind, Tensor};
//! let scattering = Scattering2d::new(2, 8, (32, 32), 2, Device::Cpu).unwrap();
//! assert_eq!(scattering.channels(), 81); // 1 + J L + L^2 J (J - 1) / 2
//! let x = Tensor::ones([1, 3, 32, 32], (Kind::Float, Device::Cpu));
//! let s = scattering.forward(&x).unwrap();
//! assert_eq!(s.size(), [1, 3 * 81, 8, 8]);
//! // A constant image has a mean and no oscillations.
//! assert!((s.double_value(&[0, 0, 4, 4]) - 1.0).abs() < 1e-4 && s.double_value(&[0, 1, 4, 4]).abs() < 1e-5);
//! ```

use autodidact_core::device::{Precision, on_host};
use autodidact_core::{Error, Result};
use std::f64::consts::PI;
use tch::{Device, Kind, Tensor};

/// Complex numbers that are worked on at a time, so that they stay in cache; more images are cut into chunks.
const CHUNK: i64 = 1 << 19;
/// Kymatio's value in the Gaussians' norm.
#[allow(clippy::approx_constant, reason = "its values depend on it in the fifth digit")]
const ALMOST_PI: f64 = 3.1415;
/// Copies of the grid on each side that a periodised filter sums.
const COPIES: i64 = 2;

/// The transform for images of one size. Nothing in it is trained; gradients flow through it to its input.
#[derive(Debug)]
pub struct Scattering2d {
    scales: usize,
    angles: i64,
    size: (i64, i64),
    second_order: bool,
    /// Spectra of the wavelets of scale `j` at the resolution after sampling by `2^r`: `wavelets[j][r] [L, M/2^r, N/2^r]`,
    /// divided by `4^(j - r)` for the sampling that follows.
    wavelets: Vec<Vec<Tensor>>,
    /// Averages, samples and crops rows and columns at the resolution after sampling by `2^r`: `[out, M/2^r]`, `[out, N/2^r]`.
    averages: Vec<(Tensor, Tensor)>,
    /// Left, right, top, bottom.
    padding: [i64; 4],
}

impl Scattering2d {
    /// `scales` is `J`, `angles` is `L`, `size` the images' height and width; `order` 1 or 2.
    ///
    /// # Errors
    /// No scales or angles, another order, images smaller than `2^J` (or too small to be padded by reflection).
    pub fn new(scales: usize, angles: usize, size: (i64, i64), order: usize, device: Device) -> Result<Self> {
        if !(1..=8).contains(&scales) || angles < 1 {
            return Err(Error::value(
                "scattering",
                "1 to 8 scales and an angle",
                format!("J = {scales}, L = {angles}"),
            ));
        }
        if !(1..=2).contains(&order) {
            return Err(Error::value("order", "1 or 2", order));
        }
        let stride = 1i64 << scales;
        let padded = |n: i64| ((n + stride) / stride + 1) * stride;
        let (m, n) = (padded(size.0), padded(size.1));
        let [left, right] = [(n - size.1) / 2, (n - size.1 + 1) / 2];
        let [top, bottom] = [(m - size.0) / 2, (m - size.0 + 1) / 2];
        if size.0 < stride || size.1 < stride || bottom >= size.0 || right >= size.1 {
            return Err(Error::value(
                "image size",
                format!("more than 2^J = {stride} on each side"),
                format!("{size:?}"),
            ));
        }
        let levels = scales.saturating_sub(1).max(1);
        let wavelets = (0..scales).map(|j| {
            let spectra: Vec<Tensor> = (0..angles).map(|l| spectrum(&morlet(m, n, j, l, angles))).collect();
            let spectra = Tensor::stack(&spectra, 0);
            // What is filtered at resolution r is sampled by 2^(j - r).
            let mean = |r: usize| 0.25f64.powi((j - r) as i32);
            (0..levels.min(j + 1)).map(|r| place(&(fold(&spectra, r) * mean(r)), device)).collect()
        });
        let low_pass = |length: i64, r: usize| place(&average(length, scales, r), device);
        let averages = (0..scales).map(|r| (low_pass(m, r), low_pass(n, r)));
        Ok(Self {
            scales,
            angles: angles as i64,
            size,
            second_order: order == 2,
            wavelets: wavelets.collect(),
            averages: averages.collect(),
            padding: [left, right, top, bottom],
        })
    }

    /// Maps for each channel of an image: `1 + J L`, and `L^2 J (J-1)/2` more at order 2.
    pub fn channels(&self) -> i64 {
        let (j, l) = (self.scales as i64, self.angles);
        1 + j * l + if self.second_order { l * l * j * (j - 1) / 2 } else { 0 }
    }

    /// Height and width of a map.
    pub fn output_size(&self) -> (i64, i64) {
        let (rows, columns) = &self.averages[0];
        (rows.size()[0], columns.size()[0])
    }

    /// The transform of images `[B, C, H, W]`: `[B, C F, H/2^J, W/2^J]` in f32, channel `c F + f`, with `f` in the order `S0`,
    /// `S1` by `(j1, l1)`, `S2` by `(j1, l1)` and within by `(j2, l2)`.
    ///
    /// # Errors
    /// Images of another size.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (b, c) = match x.size()[..] {
            [b, c, h, w] if (h, w) == self.size && b > 0 && c > 0 => (b, c),
            _ => return Err(Error::shape("images", format!("[B, C, {}, {}]", self.size.0, self.size.1), x)),
        };
        let paths = if self.second_order { self.angles } else { 1 };
        let each = self.wavelets[0][0].numel() as i64 * paths * c;
        Precision::F32.run(x.device(), || {
            let x = x.to_kind(Kind::Float);
            let parts: Vec<Tensor> =
                x.split((CHUNK / each).clamp(1, b), 0).iter().map(|part| self.transform(part)).collect();
            let (h, w) = self.output_size();
            Ok(Tensor::cat(&parts, 0).view([b, c * self.channels(), h, w]))
        })
    }

    /// `[B, C, H, W] -> [B C, F, h, w]`.
    fn transform(&self, x: &Tensor) -> Tensor {
        let x = x.reflection_pad2d(self.padding).flatten(0, 1);
        let spectrum = transformed(&x);
        let mut first = vec![];
        let mut second = vec![];
        for j1 in 0..self.scales {
            let u1 = filtered(&spectrum.unsqueeze(1), &self.wavelets[j1][0], j1);
            first.push(self.averaged(&u1, j1));
            if self.second_order && j1 + 1 < self.scales {
                let spectrum = transformed(&u1).unsqueeze(2);
                let deeper: Vec<Tensor> = (j1 + 1..self.scales)
                    .map(|j2| self.averaged(&filtered(&spectrum, &self.wavelets[j2][j1], j2 - j1), j2))
                    .collect();
                second.push(Tensor::cat(&deeper, 2).flatten(1, 2));
            }
        }
        let zeroth = self.averaged(&x, 0).unsqueeze(1);
        let all: Vec<Tensor> = std::iter::once(zeroth).chain(first).chain(second).collect();
        Tensor::cat(&all, 1)
    }

    fn averaged(&self, u: &Tensor, resolution: usize) -> Tensor {
        let (rows, columns) = &self.averages[resolution];
        rows.matmul(u).matmul(&columns.tr())
    }
}

fn transformed(x: &Tensor) -> Tensor {
    x.fft_fft2(None::<&[i64]>, [-2i64, -1].as_slice(), "backward")
}

/// `|x * psi|` sampled by `2^r`: sampling is averaging the aliased blocks of the spectrum (the filter has the factor of the
/// average). Sums of slices, since ATen reduces complex numbers slowly.
fn filtered(spectrum: &Tensor, filter: &Tensor, r: usize) -> Tensor {
    let mut product = spectrum * filter;
    for _ in 0..r {
        for axis in [-2i64, -1] {
            let half = product.size()[(product.dim() as i64 + axis) as usize] / 2;
            product = product.narrow(axis, 0, half) + product.narrow(axis, half, half);
        }
    }
    product.fft_ifft2(None::<&[i64]>, [-2i64, -1].as_slice(), "backward").abs()
}

fn place(t: &Tensor, device: Device) -> Tensor {
    t.to_kind(Kind::Float).to_device(device)
}

/// A Gaussian with envelope `sigma` (and `sigma/slant` across), at angle `theta`, times a wave of frequency `xi`, on a periodic
/// grid centred on its first point: real and imaginary part.
fn gabor(m: i64, n: i64, sigma: f64, theta: f64, xi: f64, slant: f64) -> (Tensor, Tensor) {
    let axis = |length: i64| Tensor::arange_start(-COPIES * length, (COPIES + 1) * length, on_host(Kind::Double));
    let (x, y) = (axis(m).unsqueeze(1), axis(n).unsqueeze(0));
    let (cos, sin) = (theta.cos(), theta.sin());
    let along = &x * cos + &y * sin;
    let across = &y * cos - &x * sin;
    let envelope = ((along.square() + across.square() * (slant * slant)) / (-2.0 * sigma * sigma)).exp();
    let phase = along * xi;
    let norm = 2.0 * ALMOST_PI * sigma * sigma / slant;
    let copies = 2 * COPIES + 1;
    let periodic =
        |f: Tensor| f.view([copies, m, copies, n]).sum_dim_intlist([0i64, 2].as_slice(), false, Kind::Double) / norm;
    (periodic(&envelope * phase.cos()), periodic(&envelope * phase.sin()))
}

/// The wavelet of scale `j` and angle number `l` of `angles`: a Gabor filter less the Gaussian that makes its sum 0.
fn morlet(m: i64, n: i64, j: usize, l: usize, angles: usize) -> (Tensor, Tensor) {
    let scale = (1u32 << j) as f64;
    let sigma = 0.8 * scale;
    // As whole numbers: with an odd number of angles Kymatio truncates here.
    let first = (angles as f64 - angles as f64 / 2.0 - 1.0).trunc();
    let theta = (first - l as f64) * PI / angles as f64;
    let slant = 4.0 / angles as f64;
    let (re, im) = gabor(m, n, sigma, theta, 0.75 * PI / scale, slant);
    let (envelope, _) = gabor(m, n, sigma, theta, 0.0, slant);
    let sum = |t: &Tensor| t.sum(Kind::Double).double_value(&[]);
    let (k_re, k_im) = (sum(&re) / sum(&envelope), sum(&im) / sum(&envelope));
    (re - &envelope * k_re, im - envelope * k_im)
}

/// The spectrum of a filter that is centred on the first point, and so real.
fn spectrum((re, im): &(Tensor, Tensor)) -> Tensor {
    transformed(&Tensor::complex(re, im)).real().contiguous()
}

/// Spectra `[.., M, N]` at the resolution after sampling by `2^r`: the frequencies outside of the band that is kept are removed,
/// then the aliased blocks are summed.
fn fold(spectra: &Tensor, r: usize) -> Tensor {
    if r == 0 {
        return spectra.shallow_clone();
    }
    let (mut shape, k) = (spectra.size(), 1i64 << r);
    let (n, m) = (shape.pop().unwrap_or(1), shape.pop().unwrap_or(1));
    let kept = |length: i64| {
        let mask = Tensor::ones([length], on_host(Kind::Double));
        let _ = mask.narrow(0, length / (2 * k), length - length / k).zero_();
        mask
    };
    shape.extend([k, m / k, k, n / k]);
    (spectra * kept(m).unsqueeze(1) * kept(n)).view(&shape[..]).sum_dim_intlist(
        [-4i64, -2].as_slice(),
        false,
        Kind::Double,
    )
}

/// The low-pass along one axis of `length` points, at the resolution after sampling by `2^r`, as a matrix that also samples
/// down to the stride `2^J` and drops one sample at each end.
fn average(length: i64, scales: usize, r: usize) -> Tensor {
    let sigma = 0.8 * (1u32 << (scales - 1)) as f64;
    // phi_J is the product of this with itself: its norm is the square of this one's.
    let axis = Tensor::arange_start(-COPIES * length, (COPIES + 1) * length, on_host(Kind::Double));
    let gaussian = (axis.square() / (-2.0 * sigma * sigma)).exp() / (2.0 * ALMOST_PI * sigma * sigma).sqrt();
    let periodic = gaussian.view([2 * COPIES + 1, length]).sum_dim_intlist([0i64].as_slice(), false, Kind::Double);
    let spectrum = periodic.fft_fft(None, 0, "backward").real();
    let k = 1i64 << r;
    let mask = Tensor::ones([length], on_host(Kind::Double));
    if r > 0 {
        let _ = mask.narrow(0, length / (2 * k), length - length / k).zero_();
    }
    let points = length / k;
    let folded = (spectrum * mask).view([k, points]).sum_dim_intlist([0i64].as_slice(), false, Kind::Double);
    let kernel = folded.fft_ifft(None, 0, "backward").real();
    let stride = 1i64 << (scales - r);
    let samples: Vec<Tensor> = (1..points / stride - 1)
        .map(|s| kernel.flip([0]).roll([s * stride + 1].as_slice(), [0i64].as_slice()))
        .collect();
    Tensor::stack(&samples, 0)
}
