//! Curvature of a loss: products with its Hessian, largest eigenvalues (sharpness), trace.
//!
//! A product `H v` is the gradient of `<grad L, v>` (Pearlmutter, 1994): one backward pass through the gradient's graph, and no matrix is
//! ever formed. Eigenvalues come from Lanczos' method with full re-orthogonalisation, the trace from Hutchinson's estimator
//! `E[v^T H v]` with signs `v` (Hutchinson, 1990), or from all products with unit vectors.
//!
//! The loss must be differentiable twice, which libtorch's fused attention on the CPU is not: build a [`Gpt`](crate::nn::Gpt) with
//! [`fused`](crate::nn::AttentionScores::fused) off to look at its curvature. Dropout off and batch norm in evaluation mode, or the loss is
//! another one each time.
//!
//! ```
//! use autodidact_core::curvature::{Hessian, Lanczos};
//! use tch::{Kind, Tensor};
//! // L = 3 x^2 + x y + y^2: Hessian ((6, 1), (1, 2)), eigenvalues 4 +- sqrt 5, trace 8.
//! let w = Tensor::from_slice(&[0.3f64, -1.0]).set_requires_grad(true);
//! let (x, y) = (w.get(0), w.get(1));
//! let h = Hessian::of(&[w], || Ok(3.0 * x.square() + &x * &y + y.square())).unwrap();
//! assert!((h.sharpness(&Lanczos::default()).unwrap() - (4.0 + 5f64.sqrt())).abs() < 1e-9);
//! assert!((h.exact_trace().unwrap() - 8.0).abs() < 1e-12);
//! let trace = h.trace(200, 0).unwrap(); // each sample is 8 + 2 or 8 - 2
//! assert!((trace.value - 8.0).abs() < 4.0 * trace.standard_error);
//! ```

mod lanczos;

pub use lanczos::{Eigen, Lanczos};

use crate::error::check_range;
use crate::seed::{self, Rng};
use crate::{Error, Result, stats};
use rand::RngExt;
use tch::{Kind, Tensor};

/// Most parameters of a Hessian that is written out ([`Hessian::dense`]).
const MOST_DENSE: i64 = 20_000;

/// The Hessian of a loss with respect to some parameters, as a linear map on flat vectors `[P]`: the entries of the parameters one after
/// the other, in the order given.
pub struct Hessian<'a> {
    params: Vec<Tensor>,
    size: i64,
    gradients: Gradients<'a>,
}

/// Gradients with their graphs.
enum Gradients<'a> {
    /// Made once.
    Kept(Tensor),
    /// Made again whenever they are needed, part by part.
    Parts(usize, Box<dyn Fn(usize) -> Result<Tensor> + 'a>),
}

impl std::fmt::Debug for Hessian<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hessian").field("size", &self.size).finish_non_exhaustive()
    }
}

/// Hutchinson's estimate of a trace.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TraceEstimate {
    /// Mean of `v^T H v`.
    pub value: f64,
    /// Its standard error.
    pub standard_error: f64,
    /// Products taken.
    pub samples: usize,
}

impl<'a> Hessian<'a> {
    /// Of a loss (a scalar) at the parameters' present values. The graph is kept: every product costs a backward pass through it, and
    /// parameters must not change in place while this lives.
    ///
    /// # Errors
    /// No parameters, some that need no gradient or are of different types or devices; those of `loss`; a loss that is no scalar.
    pub fn of(params: &[Tensor], loss: impl FnOnce() -> Result<Tensor>) -> Result<Self> {
        let size = check(params)?;
        let gradient = tch::with_grad(|| gradient(&loss()?, params))?;
        Ok(Self { params: shallow(params), size, gradients: Gradients::Kept(gradient) })
    }

    /// Of the mean of `parts` losses (of batches of equal size), `loss(0)`, `loss(1)`, ...: memory for one graph at a time, which is built
    /// again in each call of a method ([`trace`](Self::trace) and [`products`](Self::products) build each part once).
    ///
    /// # Errors
    /// As [`of`](Self::of), and no parts.
    pub fn in_parts(params: &[Tensor], parts: usize, loss: impl Fn(usize) -> Result<Tensor> + 'a) -> Result<Self> {
        check_range("parts of the loss", parts as f64, 1.0..)?;
        let size = check(params)?;
        Ok(Self { params: shallow(params), size, gradients: Gradients::Parts(parts, Box::new(loss)) })
    }

    /// Number of parameters `P`.
    pub fn size(&self) -> i64 {
        self.size
    }

    /// The gradient `[P]`.
    ///
    /// # Errors
    /// Those of the loss.
    pub fn gradient(&self) -> Result<Tensor> {
        let mut sum = self.zeros(&[self.size]);
        self.each_part(|gradient, share| {
            sum += gradient.detach() * share;
            Ok(())
        })?;
        Ok(sum)
    }

    /// `H v` for `v [P]`.
    ///
    /// # Errors
    /// A vector of another shape, type or device; those of the loss.
    pub fn product(&self, v: &Tensor) -> Result<Tensor> {
        if v.size() != [self.size] {
            return Err(Error::shape("vector", format!("[{}]", self.size), v));
        }
        Ok(self.products(&v.unsqueeze(0))?.squeeze_dim(0))
    }

    /// `H v` for each row of `v [n, P]`.
    ///
    /// # Errors
    /// As [`product`](Self::product).
    pub fn products(&self, v: &Tensor) -> Result<Tensor> {
        let n = match v.size()[..] {
            [n, p] if p == self.size => n,
            _ => return Err(Error::shape("vectors", format!("[n, {}]", self.size), v)),
        };
        let like = &self.params[0];
        if v.kind() != like.kind() || v.device() != like.device() {
            let of = |t: &Tensor| format!("{:?} on {:?}", t.kind(), t.device());
            return Err(Error::value("vectors", format!("those of the parameters, {}", of(like)), of(v)));
        }
        let sum = self.zeros(&[n, self.size]);
        self.each_part(|gradient, share| {
            for i in 0..n {
                let _ = sum.get(i).g_add_(&(self.backward(gradient, &v.get(i))? * share));
            }
            Ok(())
        })?;
        Ok(sum)
    }

    /// The largest eigenvalue.
    ///
    /// # Errors
    /// As [`largest`](Self::largest).
    pub fn sharpness(&self, lanczos: &Lanczos) -> Result<f64> {
        Ok(self.largest(1, lanczos)?.values[0])
    }

    /// The `count` largest eigenvalues (not in magnitude) with their vectors.
    ///
    /// # Errors
    /// A count outside `1..=P`, options out of range, a loss or products that are not finite.
    pub fn largest(&self, count: usize, lanczos: &Lanczos) -> Result<Eigen> {
        lanczos.largest(count, &self.zeros(&[self.size]), |v| self.product(v))
    }

    /// Hutchinson's estimate of the trace from `samples` products with random signs, which are a function of `seed` alone (no other random
    /// stream moves). The variance of a sample is twice the sum of the squares off the diagonal.
    ///
    /// # Errors
    /// Fewer than two samples; those of the loss.
    pub fn trace(&self, samples: usize, seed: u64) -> Result<TraceEstimate> {
        check_range("samples of the trace", samples as f64, 2.0..)?;
        let mut values = vec![0.0; samples];
        self.each_part(|gradient, share| {
            for (i, value) in values.iter_mut().enumerate() {
                let v = self.signs(&mut seed::rng(seed, &["hutchinson", &i.to_string()]));
                *value += share * dot(&v, &self.backward(gradient, &v)?);
            }
            Ok(())
        })?;
        let (value, standard_error) = (stats::mean(&values), stats::standard_error(&values));
        check_range("trace of the Hessian", value, ..)?;
        Ok(TraceEstimate { value, standard_error, samples })
    }

    /// The diagonal `[P]`, from `P` products: for small networks.
    ///
    /// # Errors
    /// Those of the loss.
    pub fn diagonal(&self) -> Result<Tensor> {
        let diagonal = self.zeros(&[self.size]);
        self.each_part(|gradient, share| {
            self.each_unit(|i, unit| {
                let entry = self.backward(gradient, unit)?.get(i) * share;
                let _ = diagonal.get(i).g_add_(&entry);
                Ok(())
            })
        })?;
        Ok(diagonal)
    }

    /// The trace, from `P` products: for small networks.
    ///
    /// # Errors
    /// Those of the loss.
    pub fn exact_trace(&self) -> Result<f64> {
        Ok(self.diagonal()?.sum(Kind::Double).double_value(&[]))
    }

    /// The matrix `[P, P]`, for small networks.
    ///
    /// # Errors
    /// More than 20,000 parameters; those of the loss.
    pub fn dense(&self) -> Result<Tensor> {
        check_range("parameters of a dense Hessian", self.size as f64, 1.0..=MOST_DENSE as f64)?;
        let rows = self.zeros(&[self.size, self.size]);
        self.each_part(|gradient, share| {
            self.each_unit(|i, unit| {
                let _ = rows.get(i).g_add_(&(self.backward(gradient, unit)? * share));
                Ok(())
            })
        })?;
        Ok(rows)
    }

    fn each_unit(&self, mut see: impl FnMut(i64, &Tensor) -> Result<()>) -> Result<()> {
        let unit = self.zeros(&[self.size]);
        (0..self.size).try_for_each(|i| {
            let mut entry = unit.get(i);
            let _ = entry.fill_(1.0);
            see(i, &unit)?;
            let _ = entry.zero_();
            Ok(())
        })
    }

    /// Shows each part's flat gradient and the part's share of the mean.
    fn each_part(&self, mut see: impl FnMut(&Tensor, f64) -> Result<()>) -> Result<()> {
        match &self.gradients {
            Gradients::Kept(gradient) => see(gradient, 1.0),
            Gradients::Parts(parts, loss) => (0..*parts).try_for_each(|part| {
                let gradient = tch::with_grad(|| gradient(&loss(part)?, &self.params))?;
                see(&gradient, 1.0 / *parts as f64)
            }),
        }
    }

    /// The gradient of `<gradient, v>`.
    fn backward(&self, gradient: &Tensor, v: &Tensor) -> Result<Tensor> {
        if !gradient.requires_grad() {
            return Ok(self.zeros(&[self.size])); // a linear loss
        }
        let along = tch::with_grad(|| gradient.f_dot(v))?;
        flat(Tensor::f_run_backward(&[along], &self.params, true, false)?, &self.params)
    }

    fn signs(&self, rng: &mut Rng) -> Tensor {
        let mut signs = Vec::with_capacity(self.size as usize);
        while signs.len() < self.size as usize {
            let bits: u64 = rng.random();
            let left = (self.size as usize - signs.len()).min(64);
            signs.extend((0..left).map(|i| if bits >> i & 1 == 1 { 1f32 } else { -1.0 }));
        }
        Tensor::from_slice(&signs).to_kind(self.params[0].kind()).to_device(self.params[0].device())
    }

    fn zeros(&self, size: &[i64]) -> Tensor {
        Tensor::zeros(size, (self.params[0].kind(), self.params[0].device()))
    }
}

fn shallow(params: &[Tensor]) -> Vec<Tensor> {
    params.iter().map(Tensor::shallow_clone).collect()
}

/// Checks parameters; their number of entries.
pub(crate) fn check(params: &[Tensor]) -> Result<i64> {
    let Some(first) = params.first() else { return Err(Error::value("parameters", "at least one", "none")) };
    for p in params {
        let fits = p.requires_grad() && p.kind() == first.kind() && p.device() == first.device();
        if !fits || !p.is_floating_point() {
            let of = |t: &Tensor| {
                let needs = if t.requires_grad() { "with" } else { "without" };
                format!("{:?} on {:?} {needs} gradients", t.kind(), t.device())
            };
            let expected = "floating-point tensors with gradients, all of one type and on one device";
            return Err(Error::value("parameters", expected, format!("{}, then {}", of(first), of(p))));
        }
    }
    Ok(params.iter().map(|p| p.numel() as i64).sum())
}

/// The flat gradient of a scalar, with its graph.
fn gradient(loss: &Tensor, params: &[Tensor]) -> Result<Tensor> {
    if loss.numel() != 1 {
        return Err(Error::shape("loss", "a scalar", loss));
    }
    if !loss.requires_grad() {
        return Err(Error::value("loss", "one that depends on the parameters", "a constant"));
    }
    flat(Tensor::f_run_backward(&[loss], params, true, true)?, params)
}

/// Gradients one after the other; zeros where there is none.
pub(crate) fn flat(gradients: Vec<Tensor>, params: &[Tensor]) -> Result<Tensor> {
    let parts = gradients.into_iter().zip(params);
    let parts: Vec<Tensor> =
        parts.map(|(g, p)| if g.defined() { g.reshape([-1]) } else { p.detach().zeros_like().reshape([-1]) }).collect();
    Ok(Tensor::f_cat(&parts, 0)?)
}

fn dot(a: &Tensor, b: &Tensor) -> f64 {
    a.to_kind(Kind::Double).dot(&b.to_kind(Kind::Double)).double_value(&[])
}
