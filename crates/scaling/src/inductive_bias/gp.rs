//! Gaussian processes: hypotheses that fit the training set exactly.

use super::{GeneralizedChi2, HypothesisSampler};
use autodidact_core::device::on_host;
use autodidact_core::error::{check_matrix, check_range};
use autodidact_core::kernel::{Kernel, KernelRidge, KernelSystem};
use autodidact_core::{Error, Result, seed};
use tch::{Kind, Tensor};

/// A Gaussian process with a kernel's covariance, conditioned on a training set and looked at where it is tested. Outputs are
/// independent and share the covariance.
#[derive(Debug)]
pub struct GpPosterior {
    /// Mean at the test inputs, `[n_t, k]` (f64).
    pub mean: Tensor,
    /// Covariance of one output at the test inputs, `[n_t, n_t]` (f64).
    pub covariance: Tensor,
}

impl GpPosterior {
    /// Conditions on `x [n, d]`, `y [n, k]`: mean `K_tX K_XX^-1 y`, covariance `K_tt - K_tX K_XX^-1 K_Xt`; `jitter` is added to the
    /// diagonal of `K_XX` (1e-8 is right for most; 0 if the matrix is well conditioned).
    ///
    /// # Errors
    /// As [`KernelRidge::fit`]; test inputs of another width; a kernel of given rows, which has none for the test inputs.
    pub fn new(kernel: Kernel, x: &Tensor, y: &Tensor, test: &Tensor, jitter: f64) -> Result<Self> {
        check_range("jitter", jitter, 0.0..)?;
        if kernel == Kernel::Precomputed {
            return Err(Error::value("kernel of a Gaussian process", "a function of inputs", "precomputed rows"));
        }
        let krr = KernelRidge { kernel, lambda: jitter.max(f64::MIN_POSITIVE) };
        let system = KernelSystem::new(&krr, x, y)?;
        let across = kernel.matrix(test, &system.x)?;
        let mean = across.matmul(&system.solve(&system.y));
        let covariance = kernel.matrix(test, test)? - across.matmul(&system.solve(&across.tr()));
        Ok(Self { mean, covariance })
    }

    /// The law of the mean squared error against targets `[n_t, k]`.
    ///
    /// # Errors
    /// Targets of another shape or not finite; a covariance of zero.
    pub fn errors(&self, targets: &Tensor) -> Result<GeneralizedChi2> {
        let (spread, offsets) = self.eigen(targets)?;
        let total = self.mean.numel() as f64;
        let (n, k) = check_matrix("targets", targets)?;
        let variances = (spread.view([n, 1]).expand([n, k], false).contiguous() / total).view([-1]);
        let squares = (offsets.square() / total).view([-1]);
        GeneralizedChi2::new(Vec::try_from(variances)?, Vec::try_from(squares)?)
    }

    /// The covariance's eigenvalues `[n_t]`, not below 0, and the errors of the mean in its eigenvectors `[n_t, k]`.
    fn eigen(&self, targets: &Tensor) -> Result<(Tensor, Tensor)> {
        if targets.size() != self.mean.size() {
            return Err(Error::shape("targets", format!("{:?}", self.mean.size()), targets));
        }
        let away = &self.mean - targets.to_kind(Kind::Double);
        if !bool::try_from(away.isfinite().all())? {
            return Err(Error::value("targets", "finite values", "NaN or infinity"));
        }
        let symmetric = (&self.covariance + self.covariance.tr()) * 0.5;
        let (values, vectors) = symmetric.f_linalg_eigh("L")?;
        Ok((values.clamp_min(0.0), vectors.tr().matmul(&away)))
    }
}

/// A posterior with the targets that it is tested on, as a class to sample.
#[derive(Debug)]
pub struct GpTask {
    deviations: Tensor,
    offsets: Tensor,
}

impl GpTask {
    /// # Errors
    /// As [`GpPosterior::errors`].
    pub fn new(posterior: &GpPosterior, targets: &Tensor) -> Result<Self> {
        let (values, offsets) = posterior.eigen(targets)?;
        Ok(Self { deviations: values.sqrt().view([1, -1, 1]), offsets: offsets.unsqueeze(0) })
    }
}

impl HypothesisSampler for GpTask {
    fn sample_errors(&self, n: usize, seed: u64) -> Result<Vec<f64>> {
        let (_, points, outputs) = self.offsets.size3()?;
        // About 32 MB at a time.
        let chunk = (4_000_000 / (points * outputs)).clamp(1, n.max(1) as i64) as usize;
        let mut errors = Vec::with_capacity(n);
        seed::seed_torch(seed, &["inductive-bias", "gaussian process"]);
        while errors.len() < n {
            let count = chunk.min(n - errors.len()) as i64;
            let z = Tensor::randn([count, points, outputs], on_host(Kind::Double));
            let e = (z * &self.deviations + &self.offsets).square().mean_dim([1i64, 2].as_slice(), false, Kind::Double);
            errors.extend(Vec::<f64>::try_from(e)?);
        }
        Ok(errors)
    }
}
