//! What a monitor will show at the next size.

use autodidact_core::error::check_range;
use autodidact_core::{Error, Result};

/// A polynomial fitted by least squares.
#[derive(Debug, Clone, PartialEq)]
pub struct Polynomial {
    /// Centre of the argument.
    centre: f64,
    /// Coefficients of the powers of `x - centre`, from the constant on.
    coefficients: Vec<f64>,
}

impl Polynomial {
    /// Of a degree through points, exactly where there is one more than the degree.
    ///
    /// # Errors
    /// Values that are not finite, fewer different arguments than coefficients.
    pub fn fit(x: &[f64], y: &[f64], degree: usize) -> Result<Self> {
        if x.len() != y.len() {
            return Err(Error::value("points of a polynomial", format!("{} values", x.len()), y.len()));
        }
        x.iter().chain(y).try_for_each(|v| check_range("points of a polynomial", *v, ..))?;
        let mut different = x.to_vec();
        different.sort_by(f64::total_cmp);
        different.dedup();
        let n = degree + 1;
        if different.len() < n {
            let expected = format!("at least {n} different arguments for degree {degree}");
            return Err(Error::value("points of a polynomial", expected, different.len()));
        }
        let centre = x.iter().sum::<f64>() / x.len() as f64;
        let spread = x.iter().map(|x| (x - centre).abs()).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
        // Orthonormal columns (Gram and Schmidt, twice), then back substitution.
        let powers = |j: usize| -> Vec<f64> { x.iter().map(|x| ((x - centre) / spread).powi(j as i32)).collect() };
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        // The columns of R; the j-th has j + 1 entries.
        let (mut q, mut r) = (Vec::<Vec<f64>>::new(), Vec::<Vec<f64>>::new());
        for j in 0..n {
            let (mut column, mut along) = (powers(j), vec![0.0; j]);
            for _ in 0..2 {
                for (unit, entry) in q.iter().zip(&mut along) {
                    let part = dot(unit, &column);
                    *entry += part;
                    column.iter_mut().zip(unit).for_each(|(c, u)| *c -= part * u);
                }
            }
            let length = dot(&column, &column).sqrt();
            along.push(length);
            r.push(along);
            q.push(column.iter().map(|c| c / length).collect());
        }
        let mut coefficients = vec![0.0; n];
        for j in (0..n).rev() {
            let known: f64 = (j + 1..n).map(|k| r[k][j] * coefficients[k]).sum();
            coefficients[j] = (dot(&q[j], y) - known) / r[j][j];
        }
        coefficients.iter_mut().enumerate().for_each(|(j, c)| *c /= spread.powi(j as i32));
        Ok(Self { centre, coefficients })
    }

    /// The value at `x`.
    pub fn at(&self, x: f64) -> f64 {
        self.coefficients.iter().rev().fold(0.0, |sum, c| sum * (x - self.centre) + c)
    }
}

/// Extrapolates a probe over sizes: fits a polynomial of `degree` (2 in the paper) to `log10(probe)` over `log10(size)` and gives its value
/// at `next`, all as logarithms.
///
/// ```
/// use autodidact_scaling::monitors::predict_next_scale;
/// // Squares, from 1, 2 and 3 on to 4.
/// let p = predict_next_scale(&[1.0, 2.0, 3.0], &[1.0, 4.0, 9.0], 2, 4.0).unwrap();
/// assert!((p - 16.0).abs() < 1e-9);
/// ```
///
/// # Errors
/// As [`Polynomial::fit`]; a next size that is not finite.
pub fn predict_next_scale(log_size: &[f64], log_probe: &[f64], degree: usize, next: f64) -> Result<f64> {
    check_range("next size", next, ..)?;
    Ok(Polynomial::fit(log_size, log_probe, degree)?.at(next))
}
