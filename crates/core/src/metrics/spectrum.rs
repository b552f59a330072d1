//! Singular values of tall feature matrices, from the smaller Gram matrix in f64.

use crate::error::check_matrix;
use crate::{Error, Result};
use tch::{Device, Kind, Tensor};

/// Rows that are widened to f64 at a time.
const ROWS: i64 = 4096;
/// Columns of a block of the Gram matrix; blocks below the diagonal are not computed.
const BLOCK: i64 = 256;
/// Eigenvalues below this share of the largest are rounding errors of the Gram matrix.
const ROUNDING: f64 = 16.0 * f64::EPSILON;

/// Gathers the Gram matrix `Z^T Z` of features that come in batches, in f64: memory `D^2`, however many rows.
#[derive(Debug)]
pub struct SpectrumAccumulator {
    gram: Tensor,
    rows: i64,
}

impl SpectrumAccumulator {
    /// For features of `width` columns.
    ///
    /// # Errors
    /// A width below 1.
    pub fn new(width: i64, device: Device) -> Result<Self> {
        if width < 1 {
            return Err(Error::value("width", "at least 1", width));
        }
        Ok(Self { gram: Tensor::zeros([width, width], (Kind::Double, device)), rows: 0 })
    }

    /// Adds a batch `[B, D]`; no gradient is recorded.
    ///
    /// # Errors
    /// A batch of another width.
    pub fn push(&mut self, batch: &Tensor) -> Result<()> {
        let (n, d) = check_matrix("features", batch)?;
        let width = self.gram.size()[0];
        if d != width {
            return Err(Error::shape("features", format!("[B, {width}]"), batch));
        }
        tch::no_grad(|| {
            for from in (0..n).step_by(ROWS as usize) {
                let rows = batch.narrow(0, from, ROWS.min(n - from)).to_kind(Kind::Double);
                for i in (0..d).step_by(BLOCK as usize) {
                    let left = rows.narrow(1, i, BLOCK.min(d - i));
                    // Block row i from the diagonal on.
                    let mut block = self.gram.narrow(0, i, left.size()[1]).narrow(1, i, d - i);
                    let _ = block.g_add_(&left.tr().matmul(&rows.narrow(1, i, d - i)));
                }
            }
        });
        self.rows += n;
        Ok(())
    }

    /// Rows so far.
    pub fn rows(&self) -> i64 {
        self.rows
    }

    /// Singular values of all rows so far, largest first, `min(rows, D)` of them. Those below about 6e-8 of the largest are
    /// rounding and given as 0.
    ///
    /// # Errors
    /// No rows, or features that are not finite.
    pub fn singular_values(&self) -> Result<Vec<f64>> {
        if self.rows == 0 {
            return Err(Error::value("rows", "at least 1", 0));
        }
        roots(&self.gram, self.rows.min(self.gram.size()[0]))
    }
}

/// Square roots of the eigenvalues of a symmetric matrix given by its upper triangle, the `count` largest, descending.
fn roots(gram: &Tensor, count: i64) -> Result<Vec<f64>> {
    let values: Vec<f64> = gram.f_linalg_eigvalsh("U")?.to_device(Device::Cpu).try_into()?;
    let largest = values.last().copied().unwrap_or(0.0);
    if !values.iter().all(|v| v.is_finite()) {
        return Err(Error::value("features", "finite values", "NaN or infinity"));
    }
    let root = |v: &f64| if *v > ROUNDING * largest { v.sqrt() } else { 0.0 };
    Ok(values.iter().rev().take(count as usize).map(root).collect())
}

/// Singular values of features `[N, D]`, largest first, `min(N, D)` of them, from the smaller of the Gram matrices in f64: a
/// fraction of the cost of a singular value decomposition, and right down to about 6e-8 of the largest (below, 0).
///
/// # Errors
/// Features that are no finite matrix with at least one row and column.
pub fn singular_values(features: &Tensor) -> Result<Vec<f64>> {
    let (n, d) = check_matrix("features", features)?;
    if n < 1 || d < 1 {
        return Err(Error::shape("features", "at least one row and one column", features));
    }
    let finite = features.detach().isfinite().all();
    if finite.int64_value(&[]) == 0 {
        return Err(Error::value("features", "finite values", "NaN or infinity"));
    }
    if n < d {
        let x = features.detach().to_kind(Kind::Double);
        return roots(&x.matmul(&x.tr()), n);
    }
    let mut gram = SpectrumAccumulator::new(d, features.device())?;
    gram.push(&features.detach())?;
    gram.singular_values()
}

/// Effective rank of features `[N, D]`: the exponential of the entropy of the normalised singular values (Roy and
/// Vetterli, 2007). Between 1 and `min(N, D)`.
///
/// # Errors
/// Features that are no finite, non-zero matrix.
pub fn effective_rank(features: &Tensor) -> Result<f64> {
    let singular = singular_values(features)?;
    let sum: f64 = singular.iter().sum();
    if sum == 0.0 {
        return Err(Error::value("features", "not all zero", "zeros"));
    }
    let entropy: f64 = singular.iter().map(|s| s / sum).filter(|p| *p > 0.0).map(|p| -p * p.ln()).sum();
    Ok(entropy.exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(n: i64, d: i64, kind: Kind) -> Tensor {
        tch::manual_seed(5);
        Tensor::randn([n, d], (kind, Device::Cpu))
    }

    fn close(got: &[f64], want: &Tensor, tolerance: f64) {
        let want: Vec<f64> = want.to_kind(Kind::Double).try_into().unwrap();
        assert_eq!(got.len(), want.len());
        let worst = got.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(worst <= tolerance * want[0], "{worst}");
    }

    #[test]
    fn singular_values_equal_those_of_the_decomposition() {
        // More rows than a chunk, more columns than a block; and more columns than rows.
        for (n, d) in [(4200, 300), (40, 90), (7, 7)] {
            let z = normal(n, d, Kind::Double);
            close(&singular_values(&z).unwrap(), &z.svd(true, true).1, 1e-10);
        }
    }

    #[test]
    fn nearly_collapsed_features_keep_their_small_directions() {
        // One direction 1e5 times as strong as seven others, which f32 arithmetic on the Gram matrix would lose.
        let scale = Tensor::from_slice(&[1e5f64, 1., 1., 1., 1., 1., 1., 1.]);
        let z = normal(512, 8, Kind::Double) * scale;
        let want = z.svd(true, true).1;
        close(&singular_values(&z).unwrap()[1..], &want.narrow(0, 1, 7), 1e-4);
        let f32s = singular_values(&z.to_kind(Kind::Float)).unwrap();
        close(&f32s[1..], &z.to_kind(Kind::Float).to_kind(Kind::Double).svd(true, true).1.narrow(0, 1, 7), 1e-4);
        // Rank one: the others are exactly 0.
        let ones = singular_values(&Tensor::ones([7, 5], (Kind::Float, Device::Cpu))).unwrap();
        assert!((ones[0] - 35f64.sqrt()).abs() < 1e-12 && ones[1..] == [0.0; 4], "{ones:?}");
    }

    #[test]
    fn batches_add_up_and_bad_ones_are_errors() {
        let z = normal(60, 5, Kind::Float);
        let mut gram = SpectrumAccumulator::new(5, Device::Cpu).unwrap();
        assert!(gram.singular_values().is_err());
        for part in z.split(17, 0) {
            gram.push(&part).unwrap();
        }
        assert_eq!(gram.rows(), 60);
        close(&gram.singular_values().unwrap(), &z.to_kind(Kind::Double).svd(true, true).1, 1e-10);
        assert!(gram.push(&normal(3, 4, Kind::Float)).is_err());
        assert!(singular_values(&(z / 0.0)).unwrap_err().to_string().contains("finite"));
    }

    #[test]
    fn effective_rank_counts_equal_directions() {
        let eye = Tensor::eye(5, (Kind::Float, Device::Cpu));
        assert!((effective_rank(&eye).unwrap() - 5.0).abs() < 1e-9);
        let one = Tensor::ones([7, 5], (Kind::Float, Device::Cpu));
        assert_eq!(effective_rank(&one).unwrap(), 1.0);
        // Singular values 3 and 1: entropy of (3/4, 1/4).
        let two = Tensor::from_slice2(&[[3.0f32, 0.0], [0.0, 1.0], [0.0, 0.0]]);
        let entropy = -(0.75f64 * 0.75f64.ln() + 0.25 * 0.25f64.ln());
        assert!((effective_rank(&two).unwrap() - entropy.exp()).abs() < 1e-9);
        assert!(effective_rank(&Tensor::zeros([2, 2], (Kind::Float, Device::Cpu))).is_err());
    }
}
