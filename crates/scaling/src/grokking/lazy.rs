//! What training gives when the tangent kernel stays as it is at the start.

use super::QuadraticNet;
use autodidact_core::error::{check_matrix, check_range};
use autodidact_core::kernel::{Kernel, KernelRidge, KernelSystem};
use autodidact_core::{Error, Result};
use tch::{Device, Kind, Tensor};

/// A network linearised at its initial weights, `f_0 + J_0 (W - W_0)`, under full-batch gradient descent on the mean squared error:
/// after `t` steps of rate `eta` its residuals are `(1 - 2 eta K_0 / P)^t (f_0 - y)`, known for any `t` at once from the kernel's
/// eigenvectors.
#[derive(Debug)]
pub struct Linearised {
    /// Eigenvalues of `K_0`, ascending.
    eigenvalues: Vec<f64>,
    /// Initial residuals in the basis of eigenvectors.
    residuals: Vec<f64>,
    /// Test kernel times eigenvectors `[T, P]`.
    test_basis: Tensor,
    test_residuals: Tensor,
}

/// The linearised network after some steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LazyState {
    /// Mean squared error on the training set.
    pub train: f64,
    /// On the test set.
    pub test: f64,
    /// `|W - W_0|`.
    pub distance: f64,
}

impl Linearised {
    /// Of any network with one output, from its initial tangent kernels `k [P, P]` and `k_test [T, P]` (of test against training inputs)
    /// and the initial residuals `f_0 - y` on both sets, `[P]` and `[T]` (of a centred network `-y`).
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn new(k: &Tensor, k_test: &Tensor, residuals: &Tensor, test_residuals: &Tensor) -> Result<Self> {
        let p = check_kernels(k, k_test, residuals, test_residuals)?;
        let [k, k_test, residuals, test_residuals] =
            [k, k_test, residuals, test_residuals].map(|t| t.to_device(Device::Cpu).to_kind(Kind::Double));
        let (values, vectors) = k.f_linalg_eigh("L")?;
        let residuals = vectors.tr().matmul(&residuals.view([p, 1])).view([-1]);
        Ok(Self {
            // Rounding leaves the smallest a little below 0.
            eigenvalues: Vec::try_from(values.clamp_min(0.0))?,
            residuals: Vec::try_from(residuals)?,
            test_basis: k_test.matmul(&vectors),
            test_residuals,
        })
    }

    /// The state after `steps` steps of rate `eta`.
    ///
    /// # Errors
    /// A rate not above 0.
    pub fn at(&self, steps: usize, eta: f64) -> Result<LazyState> {
        check_range("eta", eta, f64::MIN_POSITIVE..)?;
        let p = self.residuals.len() as f64;
        let c = 2.0 * eta / p;
        let t = steps as f64;
        let (mut train, mut distance) = (0.0, 0.0);
        let sums: Vec<f64> = (self.eigenvalues.iter().zip(&self.residuals))
            .map(|(&l, &r)| {
                let x = c * l;
                // (1 - x)^t and the sum of the powers before it.
                let power = (1.0 - x).abs().powf(t) * if x > 1.0 && steps % 2 == 1 { -1.0 } else { 1.0 };
                let sum = match x {
                    0.0 => t,
                    x if x < 0.5 => -(t * (-x).ln_1p()).exp_m1() / x,
                    x => (1.0 - power) / x,
                };
                train += (power * r).powi(2) / p;
                distance += l * (c * sum * r).powi(2);
                -c * sum * r
            })
            .collect();
        let test = self.test_basis.mv(&Tensor::from_slice(&sums)) + &self.test_residuals;
        Ok(LazyState { train, test: test.square().mean(Kind::Double).double_value(&[]), distance: distance.sqrt() })
    }
}

fn check_kernels(k: &Tensor, k_test: &Tensor, residuals: &Tensor, test_residuals: &Tensor) -> Result<i64> {
    let (p, columns) = check_matrix("kernel", k)?;
    if p != columns {
        return Err(Error::shape("kernel", "[P, P]", k));
    }
    let (t, columns) = check_matrix("test kernel", k_test)?;
    if columns != p {
        return Err(Error::shape("test kernel", format!("[T, {p}]"), k_test));
    }
    for (what, residuals, n) in [("residuals", residuals, p), ("test residuals", test_residuals, t)] {
        if residuals.size() != [n] {
            return Err(Error::shape(what, format!("[{n}]"), residuals));
        }
    }
    Ok(p)
}

/// Regression with the initial tangent kernel: what lazy training ends at, `f_0(x) + k_0(x)^T K_0^-1 (y - f_0)`.
#[derive(Debug)]
pub struct KernelRegression {
    /// Errors `f - y` on the test set `[T]` (f64, on the CPU).
    pub test_residuals: Tensor,
    /// `(y - f_0)^T K_0^-1 (y - f_0)`: the task's difficulty for the kernel, and the squared distance `|W - W_0|^2` of the lazy solution.
    pub difficulty: f64,
}

impl KernelRegression {
    /// From the same kernels and residuals as [`Linearised::new`], with a ridge of `ridge` times the kernel's mean diagonal (above 0;
    /// 1e-10 where nothing is to be smoothed).
    ///
    /// # Errors
    /// Shapes that do not fit, a ridge not above 0.
    pub fn new(k: &Tensor, k_test: &Tensor, residuals: &Tensor, test_residuals: &Tensor, ridge: f64) -> Result<Self> {
        check_kernels(k, k_test, residuals, test_residuals)?;
        let [k, k_test, residuals, test_residuals] =
            &[k, k_test, residuals, test_residuals].map(|t| t.to_device(Device::Cpu).to_kind(Kind::Double));
        let lambda = ridge * k.diagonal(0, 0, 1).mean(Kind::Double).double_value(&[]);
        let krr = KernelRidge { kernel: Kernel::Precomputed, lambda };
        let y = -residuals.unsqueeze(1);
        let system = KernelSystem::new(&krr, k, &y)?;
        let solution = system.solve(&y);
        Ok(Self {
            test_residuals: k_test.matmul(&solution).squeeze_dim(1) + test_residuals,
            difficulty: (y * solution).sum(Kind::Double).double_value(&[]),
        })
    }

    /// Mean squared error on the test set.
    pub fn test_loss(&self) -> f64 {
        self.test_residuals.square().mean(Kind::Double).double_value(&[])
    }
}

impl QuadraticNet {
    /// The network linearised at its present weights, on `(x [P, D], y [P])` and a test set; `centre` subtracts its present output.
    ///
    /// # Errors
    /// Data that do not fit the network.
    pub fn linearise(&self, train: (&Tensor, &Tensor), test: (&Tensor, &Tensor), centre: bool) -> Result<Linearised> {
        let [k, k_test, r, r_test] = self.lazy_problem(train, test, centre)?;
        Linearised::new(&k, &k_test, &r, &r_test)
    }

    /// Regression with the present tangent kernel, as [`linearise`](Self::linearise).
    ///
    /// # Errors
    /// Data that do not fit the network, a ridge not above 0.
    pub fn kernel_regression(
        &self,
        train: (&Tensor, &Tensor),
        test: (&Tensor, &Tensor),
        centre: bool,
        ridge: f64,
    ) -> Result<KernelRegression> {
        let [k, k_test, r, r_test] = self.lazy_problem(train, test, centre)?;
        KernelRegression::new(&k, &k_test, &r, &r_test, ridge)
    }

    fn lazy_problem(
        &self,
        (x, y): (&Tensor, &Tensor),
        (x_test, y_test): (&Tensor, &Tensor),
        centre: bool,
    ) -> Result<[Tensor; 4]> {
        let residuals = |x: &Tensor, y: &Tensor| -> Result<Tensor> {
            if y.size() != x.size()[..1] {
                return Err(Error::shape("targets", format!("[{}]", x.size()[0]), y));
            }
            Ok(if centre { -y } else { self.forward(x)? - y })
        };
        Ok([self.ntk(x, x)?, self.ntk(x_test, x)?, residuals(x, y)?, residuals(x_test, y_test)?])
    }
}
