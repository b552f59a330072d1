//! What a caption tells about its image, and how that grows with the model.

use autodidact_core::error::check_range;
use autodidact_core::stats::{Estimate, mean, paired_difference_ci, slope};
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// Information `I = L(image | blank) - L(image | caption)` in nats per image, with its 95 % interval over images: `blank[i]` and `told[i]`
/// are the losses of image `i`, summed over its tokens, behind a blank caption and behind its own. (Of a text, with the image blank or not.)
///
/// ```
/// use autodidact_scaling::autoregressive_scaling::mutual_information;
/// let i = mutual_information(&[200.0, 210.0, 190.0], &[198.0, 207.0, 189.0]).unwrap();
/// assert_eq!(i.value, 2.0);
/// ```
///
/// # Errors
/// Fewer than two images, another number of losses.
pub fn mutual_information(blank: &[f64], told: &[f64]) -> Result<Estimate> {
    paired_difference_ci(blank, told, 0.95)
}

/// The share of a text's loss that is information about its image, `I/L(text)`; 1 for a text that tells nothing else.
///
/// # Errors
/// A loss that is not positive.
pub fn infogain(information: f64, text_loss: f64) -> Result<f64> {
    check_range("loss of the text", text_loss, f64::MIN_POSITIVE..)?;
    Ok(information / text_loss)
}

/// `lambda ln(N/N_c)`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LogNLaw {
    /// Nats per factor e of size.
    pub lambda: f64,
    /// The size that has none.
    pub n_c: f64,
}

impl LogNLaw {
    /// The value at a size.
    pub fn at(&self, n: f64) -> f64 {
        self.lambda * (n / self.n_c).ln()
    }
}

/// Least squares of `(N, value)` on `ln N`, and the `R^2`.
///
/// # Errors
/// Fewer than two sizes, sizes that are not positive.
pub fn log_n_fit(points: &[(f64, f64)]) -> Result<(LogNLaw, f64)> {
    if let Some(bad) = points.iter().find(|p| !(p.0 > 0.0 && p.0.is_finite())) {
        return Err(Error::value("sizes", "positive finite numbers", bad.0));
    }
    let (x, y): (Vec<f64>, Vec<f64>) = points.iter().map(|(n, v)| (n.ln(), *v)).unzip();
    let lambda = slope(&x, &y)?;
    let law = LogNLaw { lambda, n_c: (mean(&x) - mean(&y) / lambda).exp() };
    let square = |d: f64| d * d;
    let rest: f64 = points.iter().map(|(n, v)| square(v - law.at(*n))).sum();
    let all: f64 = y.iter().map(|v| square(v - mean(&y))).sum();
    Ok((law, if all > 0.0 { 1.0 - rest / all } else { 0.0 }))
}

/// `H_t = sum over k up to t of k^-p`.
///
/// ```
/// use autodidact_scaling::autoregressive_scaling::harmonic;
/// assert!((harmonic(64, 0.5) - 14.602064).abs() < 1e-6);
/// ```
pub fn harmonic(t: usize, p: f64) -> f64 {
    // From the smallest term on.
    (1..=t).rev().map(|k| (k as f64).powf(-p)).sum()
}

/// The loss at place `t` (from 1) of a model whose loss far into a text is `l`: `l + (l_u - l)/t^p`, `l_u` the loss of the first token.
pub fn token_loss(l: f64, l_u: f64, p: f64, t: f64) -> f64 {
    l + (l_u - l) * t.powf(-p)
}

/// What the first half of a text of `2 T` tokens tells about the second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Information {
    /// Nats.
    pub information: f64,
    /// Over the loss of the second half.
    pub infogain: f64,
}

/// The information between two halves of `t` tokens each that follows from [`token_loss`]: `(2 H_T - H_2T) (l_u - l)`, and over the loss
/// of the second half, `T l + (H_2T - H_T)(l_u - l)`.
///
/// ```
/// use autodidact_scaling::autoregressive_scaling::infogain_model;
/// let model = infogain_model(4.0, 7.0, 0.5, 64).unwrap();
/// assert!((model.information - 23.97870).abs() < 1e-5 && (model.infogain - 0.086934).abs() < 1e-6);
/// ```
///
/// # Errors
/// No tokens, a loss `l` that is not positive or above `l_u`.
pub fn infogain_model(l: f64, l_u: f64, p: f64, t: usize) -> Result<Information> {
    check_range("loss", l, f64::MIN_POSITIVE..=l_u)?;
    if t == 0 {
        return Err(Error::value("tokens of a half", "at least 1", t));
    }
    let (half, whole) = (harmonic(t, p), harmonic(2 * t, p));
    let information = (2.0 * half - whole) * (l_u - l);
    Ok(Information { information, infogain: information / (t as f64 * l + (whole - half) * (l_u - l)) })
}
