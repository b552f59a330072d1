//! The two-layer network with a quadratic activation and a fixed read-out.

use autodidact_core::device::on_host;
use autodidact_core::error::{check_matrix, check_range};
use autodidact_core::{Error, Result};
use tch::{Device, Kind, Tensor};

/// `f(x) = alpha/N sum_i phi(w_i.x)` with `phi(h) = h + eps/2 h^2`.
#[derive(Debug)]
pub struct QuadraticNet {
    /// Weights `W [N, D]` (f64).
    pub w: Tensor,
    /// Scale of the output `alpha`, above 0: large is lazy.
    pub alpha: f64,
    /// `eps`, at least 0: how far the initial kernel is aligned with quadratic targets.
    pub eps: f64,
    /// Coefficient of each unit's linear part `[N]`, ones unless [compressed](Self::compress).
    pub(super) linear: Tensor,
    /// The `N` of the read-out.
    pub(super) units: f64,
}

/// What the network's function depends on.
#[derive(Debug)]
pub struct Statistics {
    /// `wbar [D]`, the mean of the weights.
    pub mean: Tensor,
    /// `M [D, D]`, the mean of `w w^T`.
    pub second: Tensor,
}

/// The parts of the exact test loss on the target `(beta.x)^2 / 2`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TestLossTerms {
    /// `(tr A / D)^2 / 4`: the wrong mean output.
    pub variance: f64,
    /// `|A|^2 / (2 D^2)`: quadratic features that are not the target's.
    pub misalignment: f64,
    /// `alpha^2 |wbar|^2 / D`: power of the linear part, of which the target has none.
    pub linear: f64,
}

impl TestLossTerms {
    /// The test loss.
    pub fn total(&self) -> f64 {
        self.variance + self.misalignment + self.linear
    }
}

impl QuadraticNet {
    /// A network with these weights `[N, D]`.
    ///
    /// # Errors
    /// Weights that are no f64 matrix; `alpha` not above 0, `eps` below 0.
    pub fn new(w: Tensor, alpha: f64, eps: f64) -> Result<Self> {
        let (n, _) = check_matrix("weights", &w)?;
        if w.kind() != Kind::Double {
            return Err(Error::value("weights", "f64", format!("{:?}", w.kind())));
        }
        check_range("units", n as f64, 1.0..)?;
        check_range("alpha", alpha, f64::MIN_POSITIVE..)?;
        check_range("eps", eps, 0.0..)?;
        let linear = Tensor::ones([n], (Kind::Double, w.device()));
        Ok(Self { w, alpha, eps, linear, units: n as f64 })
    }

    /// The network with weights `~ N(0, scale^2)`, from libtorch's generator after seeding it with `seed`.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn random((n, d): (i64, i64), alpha: f64, eps: f64, scale: f64, seed: u64) -> Result<Self> {
        autodidact_core::seed::seed_torch(seed, &["weights"]);
        let w = Tensor::f_randn([n, d], on_host(Kind::Double))?;
        Self::new(w * scale, alpha, eps)
    }

    /// The same function, tangent kernel and gradient descent with at most `D + 1` units, and `Q [N, K]` (orthonormal columns) by which
    /// the weights are recovered: `W = Q w`, at any time of training.
    ///
    /// The units enter through sums of `(c_i, w_i)(c_i, w_i)^T` over the rows of `[c | W]` (`c` the linear coefficients, ones at first),
    /// which any rotation among the rows leaves alone, and gradients rotate with them. `[c | W] = Q R` has at most `D + 1` rows `R`.
    ///
    /// # Errors
    /// Those of libtorch.
    pub fn compress(&self) -> Result<(Self, Tensor)> {
        let rows = Tensor::f_cat(&[&self.linear.unsqueeze(1), &self.w], 1)?;
        // Done once, on the CPU, where no further library is needed for it.
        let (q, r) = Tensor::f_linalg_qr(&rows.to_device(Device::Cpu), "reduced")?;
        let [q, r] = [q, r].map(|t| t.to_device(rows.device()));
        let net = Self {
            w: r.narrow(1, 1, r.size()[1] - 1).contiguous(),
            linear: r.select(1, 0).contiguous(),
            ..self.shallow_clone()
        };
        Ok((net, q))
    }

    /// The same weights, not copied.
    pub fn shallow_clone(&self) -> Self {
        let (w, linear) = (self.w.shallow_clone(), self.linear.shallow_clone());
        Self { w, linear, ..*self }
    }

    /// The `N` of the read-out, which stays when the network is compressed.
    pub fn units(&self) -> f64 {
        self.units
    }

    /// Outputs `[P]` of inputs `[P, D]`.
    ///
    /// # Errors
    /// Inputs of another width or type.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let h = x.f_mm(&self.w.tr())?;
        let phi = &h * (&h * (0.5 * self.eps) + &self.linear);
        Ok(phi.sum_dim_intlist([1].as_slice(), false, Kind::Double) * (self.alpha / self.units))
    }

    /// `phi'` of every unit `[P, N]`.
    fn slopes(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_mm(&self.w.tr())? * self.eps + &self.linear)
    }

    /// The tangent kernel `[P, P']` between `x [P, D]` and `x' [P', D]`: `(alpha/N)^2 x.x' sum_i phi'(w_i.x) phi'(w_i.x')`.
    ///
    /// # Errors
    /// Inputs of another width or type.
    pub fn ntk(&self, x: &Tensor, other: &Tensor) -> Result<Tensor> {
        let units = self.slopes(x)?.matmul(&self.slopes(other)?.tr());
        Ok(x.matmul(&other.tr()) * units * (self.alpha / self.units).powi(2))
    }

    /// Gradient `[N, D]` of the mean squared residual, from the residuals `r = f - y [P]`: `2 alpha/(P N) sum_mu r_mu phi'(h_i,mu) x_mu`.
    ///
    /// # Errors
    /// Inputs of another width or type, residuals of another number.
    pub fn gradient(&self, x: &Tensor, residuals: &Tensor) -> Result<Tensor> {
        let p = x.size()[0];
        if residuals.size() != [p] {
            return Err(Error::shape("residuals", format!("[{p}]"), residuals));
        }
        let weighted = self.slopes(x)? * residuals.unsqueeze(1);
        Ok(weighted.tr().matmul(x) * (2.0 * self.alpha / (p as f64 * self.units)))
    }

    /// `wbar` and `M`.
    pub fn statistics(&self) -> Statistics {
        let w = self.w.tr();
        Statistics { mean: w.mv(&self.linear) / self.units, second: w.matmul(&self.w) / self.units }
    }

    /// The exact test loss on the target `(beta.x)^2 / 2`, in parts; of the output less that of the network with statistics `origin` if
    /// these are given.
    ///
    /// # Errors
    /// `beta` of another size.
    pub fn test_loss_terms(&self, beta: &Tensor, origin: Option<&Statistics>) -> Result<TestLossTerms> {
        let d = self.w.size()[1];
        if beta.size() != [d] {
            return Err(Error::shape("beta", format!("[{d}]"), beta));
        }
        let Statistics { mut mean, mut second } = self.statistics();
        if let Some(origin) = origin {
            (mean, second) = (mean - &origin.mean, second - &origin.second);
        }
        let a = second * (self.alpha * self.eps) - beta.outer(beta);
        let d = d as f64;
        // One round trip for the three.
        let linear = mean.square().sum(Kind::Double) * (self.alpha * self.alpha / d);
        let misalignment = a.square().sum(Kind::Double) / (2.0 * d * d);
        let variance = (a.trace() / d).square() * 0.25;
        let terms = Vec::<f64>::try_from(Tensor::stack(&[variance, misalignment, linear], 0))?;
        Ok(TestLossTerms { variance: terms[0], misalignment: terms[1], linear: terms[2] })
    }
}
