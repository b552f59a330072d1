//! Largest eigenvalues of a symmetric map that is known by its products only.

use super::dot;
use crate::error::check_range;
use crate::seed::{self, Rng};
use crate::{Error, Result};
use rand::RngExt;
use tch::{Device, Kind, Tensor};

/// Lanczos' method for the largest eigenvalues of a symmetric map, with full re-orthogonalisation: memory for as many vectors as steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lanczos {
    /// Most products.
    pub steps: usize,
    /// Stops when the residuals `|A v - l v|` of all wanted pairs are at most this times the largest eigenvalue in magnitude.
    pub tolerance: f64,
    /// Of the random start.
    pub seed: u64,
}

impl Default for Lanczos {
    fn default() -> Self {
        Self { steps: 100, tolerance: 1e-4, seed: 0 }
    }
}

/// What [`Lanczos`] found.
#[derive(Debug)]
pub struct Eigen {
    /// Eigenvalues, largest first.
    pub values: Vec<f64>,
    /// `|A v - l v|` of each, by Lanczos' recurrence.
    pub residuals: Vec<f64>,
    /// Unit vectors, `[count, P]`.
    pub vectors: Tensor,
    /// The smallest Ritz value: the smallest eigenvalue is at most this (and close to it, if it is far out).
    pub smallest: f64,
    /// Products taken.
    pub steps: usize,
    /// Whether all residuals are within the tolerance.
    pub converged: bool,
}

impl Lanczos {
    /// The `count` largest eigenvalues of the symmetric map `product` on vectors like `like [P]`.
    ///
    /// # Errors
    /// A count outside `1..=P` or above the steps, a tolerance that is not positive; those of `product`, and products that are not finite.
    pub fn largest(
        &self,
        count: usize,
        like: &Tensor,
        mut product: impl FnMut(&Tensor) -> Result<Tensor>,
    ) -> Result<Eigen> {
        let size = like.numel();
        let steps = self.steps.min(size);
        check_range("eigenvalues", count as f64, 1.0..=steps as f64)?;
        check_range("tolerance of Lanczos' method", self.tolerance, f64::MIN_POSITIVE..)?;
        // Below this share of the largest eigenvalue a new direction is rounding.
        let rounding = if like.kind() == Kind::Double { 1e-13 } else { 1e-6 };
        let mut rng = seed::rng(self.seed, &["lanczos"]);
        let mut basis: Vec<Tensor> = vec![];
        let (mut diagonal, mut beside) = (vec![], vec![]);
        let mut q = random(like, &basis, &mut rng);
        loop {
            let w = product(&q)?.to_kind(like.kind());
            basis.push(q);
            diagonal.push(dot(&w, &basis[basis.len() - 1]));
            let w = orthogonal(w, &basis);
            let length = dot(&w, &w).sqrt();
            if !length.is_finite() {
                return Err(Error::Failed("Lanczos' method: a product that is not finite".into()));
            }
            let (values, vectors) = tridiagonal(&diagonal, &beside)?;
            let done = values.len();
            let scale = values[0].abs().max(values[done - 1].abs());
            let wanted = count.min(done);
            let residuals: Vec<f64> = vectors[..wanted].iter().map(|v| (length * v[done - 1]).abs()).collect();
            // An invariant subspace says nothing about what lies outside it (further eigenvectors of the same eigenvalue, say).
            let closed = length <= rounding * scale.max(f64::MIN_POSITIVE);
            let within = residuals.iter().all(|r| *r <= self.tolerance * scale);
            if done >= steps || (done >= count && within && !closed) {
                let rows: Vec<Tensor> = vectors[..count].iter().map(|v| combine(v, &basis)).collect();
                return Ok(Eigen {
                    smallest: values[done - 1],
                    values: values[..count].to_vec(),
                    residuals,
                    vectors: Tensor::stack(&rows, 0),
                    steps: done,
                    converged: within,
                });
            }
            q = if closed { random(like, &basis, &mut rng) } else { w / length };
            beside.push(if closed { 0.0 } else { length });
        }
    }
}

/// A random unit vector, orthogonal to the basis.
fn random(like: &Tensor, basis: &[Tensor], rng: &mut Rng) -> Tensor {
    let entries: Vec<f64> = (0..like.numel()).map(|_| rng.random_range(-1.0..1.0)).collect();
    let v = orthogonal(Tensor::from_slice(&entries).to_kind(like.kind()).to_device(like.device()), basis);
    let length = dot(&v, &v).sqrt();
    v / length
}

/// Without its part in the span of an orthonormal basis; twice, for what rounding left.
fn orthogonal(mut w: Tensor, basis: &[Tensor]) -> Tensor {
    if !basis.is_empty() {
        let q = Tensor::stack(basis, 0);
        for _ in 0..2 {
            w = &w - q.tr().mv(&q.mv(&w));
        }
    }
    w
}

fn combine(coefficients: &[f64], basis: &[Tensor]) -> Tensor {
    let q = Tensor::stack(basis, 0);
    let c = Tensor::from_slice(coefficients).to_kind(q.kind()).to_device(q.device());
    let v = q.tr().mv(&c);
    let length = dot(&v, &v).sqrt();
    v / length
}

/// Eigenvalues, largest first, and vectors of a symmetric tridiagonal matrix.
fn tridiagonal(diagonal: &[f64], beside: &[f64]) -> Result<(Vec<f64>, Vec<Vec<f64>>)> {
    let n = diagonal.len();
    let mut entries = vec![0.0; n * n];
    for (i, d) in diagonal.iter().enumerate() {
        entries[i * n + i] = *d;
    }
    for (i, b) in beside.iter().enumerate() {
        entries[i * n + i + 1] = *b;
        entries[(i + 1) * n + i] = *b;
    }
    let matrix = Tensor::from_slice(&entries).view([n as i64, n as i64]).to_device(Device::Cpu);
    let (values, vectors) = matrix.f_linalg_eigh("U")?;
    let values: Vec<f64> = values.flip([0]).try_into()?;
    let columns: Vec<f64> = vectors.tr().flip([0]).contiguous().view(-1).try_into()?;
    Ok((values, columns.chunks(n).map(<[f64]>::to_vec).collect()))
}
