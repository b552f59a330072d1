//! Full-batch gradient descent of the quadratic network.

use super::{QuadraticNet, TestLossTerms};
use autodidact_core::error::check_range;
use autodidact_core::tangent::{Centring, cka};
use autodidact_core::{Error, Result};
use tch::{Kind, Tensor};

/// Below this `eps` the network is treated as nearly linear: the other form of the step divides by it.
const LINEAR: f64 = 1e-3;

/// Gradient descent on the mean squared error, with records at log-spaced steps.
#[derive(Debug, Clone, PartialEq)]
pub struct GrokTrainer {
    /// Steps.
    pub steps: usize,
    /// Learning rate over `N / alpha^2`: with it the kernel's part of the dynamics does not depend on `alpha`. Above 0.
    pub rate: f64,
    /// Share of the weights that each step takes off, in `[0, 1)`: `W <- (1 - decay) W - eta grad`.
    pub decay: f64,
    /// Whether the initial output is subtracted.
    pub centre: bool,
    /// Records per factor ten of steps.
    pub per_decade: usize,
    /// How the kernel is centred before it is compared with the targets.
    pub centring: Centring,
}

impl Default for GrokTrainer {
    fn default() -> Self {
        Self { steps: 25_000, rate: 1.0, decay: 0.0, centre: false, per_decade: 24, centring: Centring::default() }
    }
}

/// What is seen of a run after a number of steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GrokRecord {
    /// Steps done.
    pub step: usize,
    /// Mean squared error on the training set.
    pub train: f64,
    /// On the test set.
    pub test: f64,
    /// The exact test loss.
    pub terms: TestLossTerms,
    /// `|W|`.
    pub weight_norm: f64,
    /// `|W - W_0| / |W_0|`.
    pub weight_change: f64,
    /// Alignment of the training set's tangent kernel with its targets.
    pub cka: f64,
    /// `|K - K_0| / |K_0|` on the training set.
    pub kernel_drift: f64,
}

/// Steps from 0 to `total`, both among them, `per_decade` to a factor of ten (fewer where they would coincide).
///
/// ```
/// use autodidact_scaling::grokking::log_steps;
/// assert_eq!(log_steps(100, 2), [0, 1, 3, 10, 32, 100]);
/// ```
pub fn log_steps(total: usize, per_decade: usize) -> Vec<usize> {
    let mut steps = vec![0];
    for i in 0.. {
        let step = 10f64.powf(i as f64 / per_decade.max(1) as f64).round() as usize;
        if step >= total {
            break;
        }
        if step > steps[steps.len() - 1] {
            steps.push(step);
        }
    }
    if total > 0 {
        steps.push(total);
    }
    steps
}

impl GrokTrainer {
    /// Trains the network on `train = (x [P, D], y [P])`, all f64 on its device; `observe` sees each record and the network as it is then
    /// (compressed; its weights have the norms of the whole network's).
    ///
    /// # Errors
    /// Settings out of range, data that do not fit the network, a loss that is no longer finite, those of `observe`.
    pub fn run(
        &self,
        net: &mut QuadraticNet,
        train: (&Tensor, &Tensor),
        test: (&Tensor, &Tensor),
        beta: &Tensor,
        mut observe: impl FnMut(&GrokRecord, &QuadraticNet) -> Result<()>,
    ) -> Result<Vec<GrokRecord>> {
        self.check()?;
        for (name, (x, y)) in [("training set", train), ("test set", test)] {
            if x.dim() != 2 || x.size()[1] != net.w.size()[1] {
                return Err(Error::shape(name, format!("[P, {}]", net.w.size()[1]), x));
            }
            if y.size() != x.size()[..1] {
                return Err(Error::shape(name, format!("targets [{}]", x.size()[0]), y));
            }
        }
        let (small, q) = net.compress()?;
        let first = First {
            weights: small.w.copy(),
            norm: norm(&small.w),
            kernel: small.ntk(train.0, train.0)?,
            statistics: small.statistics(),
        };
        // With the initial output subtracted, targets are what is left to learn.
        let shifted = |(x, y): (&Tensor, &Tensor)| -> Result<Tensor> {
            Ok(if self.centre { y + small.forward(x)? } else { y.shallow_clone() })
        };
        let (y_train, y_test) = (shifted(train)?, shifted(test)?);
        let mut descent = Descent::new(&small, train.0, &y_train, self);
        let mut records = vec![];
        let mut done = 0;
        for step in log_steps(self.steps, self.per_decade) {
            tch::no_grad(|| (done..step).for_each(|_| descent.step()));
            done = step;
            let now = descent.network(&small);
            let error =
                |x: &Tensor, y: &Tensor| -> Result<Tensor> { Ok((now.forward(x)? - y).square().mean(Kind::Double)) };
            let kernel = now.ntk(train.0, train.0)?;
            let numbers = Vec::<f64>::try_from(Tensor::stack(
                &[
                    error(train.0, &y_train)?,
                    error(test.0, &y_test)?,
                    now.w.norm(),
                    (&now.w - &first.weights).norm(),
                    (&kernel - &first.kernel).norm() / first.kernel.norm(),
                ],
                0,
            ))?;
            if !numbers[0].is_finite() {
                return Err(Error::Diverged { loss: numbers[0], step, total: self.steps });
            }
            let record = GrokRecord {
                step,
                train: numbers[0],
                test: numbers[1],
                terms: now.test_loss_terms(beta, self.centre.then_some(&first.statistics))?,
                weight_norm: numbers[2],
                weight_change: numbers[3] / first.norm,
                cka: cka(&kernel, train.1, self.centring)?,
                kernel_drift: numbers[4],
            };
            observe(&record, &now)?;
            records.push(record);
        }
        net.w = q.matmul(&descent.network(&small).w);
        Ok(records)
    }

    /// `eta = rate N / alpha^2`.
    pub fn eta(&self, net: &QuadraticNet) -> f64 {
        self.rate * net.units() / (net.alpha * net.alpha)
    }

    fn check(&self) -> Result<()> {
        check_range("steps", self.steps as f64, 1.0..)?;
        check_range("rate", self.rate, f64::MIN_POSITIVE..)?;
        check_range("decay", self.decay, 0.0..1.0)?;
        check_range("records per decade", self.per_decade as f64, 1.0..)
    }
}

struct First {
    weights: Tensor,
    norm: f64,
    kernel: Tensor,
    statistics: super::Statistics,
}

fn norm(t: &Tensor) -> f64 {
    t.norm().double_value(&[])
}

/// The step, in two products of matrices.
///
/// With the slopes `a = c + eps h` the output is `alpha/(2 eps N) (sum a^2 - sum c^2)`, so that the step on `v = eps w` needs nothing but
/// `a`: `s = sum a^2 - sum c^2 - y 2 eps N/alpha`, `v <- v - eta alpha^2/(P N^2) (s a)^T x`.
struct Descent {
    v: Tensor,
    /// A view of `v`.
    transposed: Tensor,
    x: Tensor,
    scaled: Tensor,
    linear: Tensor,
    /// What `sum a^2` should be `[P, 1]`, or the targets where the network is nearly linear.
    targets: Tensor,
    eps: f64,
    nearly_linear: bool,
    gain: f64,
    keep: Option<f64>,
}

impl Descent {
    fn new(net: &QuadraticNet, x: &Tensor, y: &Tensor, options: &GrokTrainer) -> Self {
        let (eps, units, p) = (net.eps, net.units(), x.size()[0] as f64);
        let eta = options.eta(net);
        let nearly_linear = eps < LINEAR;
        let gain = net.alpha / units;
        let y = y.unsqueeze(1);
        let (v, scaled, targets) = if nearly_linear {
            (net.w.copy(), x * (-2.0 * eta * gain / p), y)
        } else {
            let targets = y * (2.0 * eps / gain) + net.linear.square().sum(Kind::Double);
            (&net.w * eps, x * (-eta * gain * gain / p), targets)
        };
        Self {
            transposed: v.tr(),
            v,
            x: x.shallow_clone(),
            scaled,
            linear: net.linear.shallow_clone(),
            targets,
            eps,
            nearly_linear,
            gain,
            keep: (options.decay > 0.0).then_some(1.0 - options.decay),
        }
    }

    fn step(&mut self) {
        let sum = |t: Tensor| t.sum_dim_intlist([1].as_slice(), true, Kind::Double);
        let slopes = if self.nearly_linear {
            let h = self.x.mm(&self.transposed);
            let residual = sum(&h * (&h * (0.5 * self.eps) + &self.linear)) * self.gain - &self.targets;
            (h * self.eps + &self.linear) * residual
        } else {
            let mut a = self.linear.addmm(&self.x, &self.transposed);
            let mut s = sum(a.square());
            s -= &self.targets;
            a *= &s;
            a
        };
        if let Some(keep) = self.keep {
            self.v *= keep;
        }
        let _ = self.v.addmm_(&slopes.tr(), &self.scaled);
    }

    fn network(&self, like: &QuadraticNet) -> QuadraticNet {
        let w = if self.nearly_linear { self.v.copy() } else { &self.v / self.eps };
        QuadraticNet { w, ..like.shallow_clone() }
    }
}
