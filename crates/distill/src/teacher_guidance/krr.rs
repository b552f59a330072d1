//! Self-distilled kernel ridge regression.

use super::{limit_lambda, limit_shrinkage, optimal_alpha, shrinkage_recursion};
use autodidact_core::error::check_range;
use autodidact_core::kernel::{KernelRidge, KernelSystem, KrrModel};
use autodidact_core::{Error, Result};
use std::cell::OnceCell;
use tch::{Kind, Tensor};

/// Where the weights of the ground truth come from.
#[derive(Debug)]
pub enum AlphaSchedule {
    /// The same at every step.
    Constant(f64),
    /// One per step, from step 1 (whose weight has no effect).
    PerStep(Vec<f64>),
    /// Greedily optimal for the validation error of each step.
    Optimal {
        /// Validation inputs `[m, d]`.
        x: Tensor,
        /// Validation targets `[m, C]`.
        y: Tensor,
        /// Keep the weights in `[0, 1]`.
        clip: bool,
    },
}

/// A chain of refits. All steps share one Cholesky factorisation.
#[derive(Debug)]
pub struct SelfDistilledKrr {
    krr: KernelRidge,
    system: KernelSystem,
    schedule: AlphaSchedule,
    /// Kernel rows and targets of the validation set, and the first fit's predictions there.
    validation: Option<(Tensor, Tensor)>,
    steps: Vec<Fitted>,
    /// Eigenvectors and eigenvalues, once asked for.
    spectrum: OnceCell<(Tensor, Vec<f64>)>,
}

#[derive(Debug)]
struct Fitted {
    alpha: f64,
    beta: Tensor,
    predictions: Tensor,
}

impl SelfDistilledKrr {
    /// A chain on `x [n, d]`, `y [n, C]`, before its first step.
    ///
    /// # Errors
    /// As [`KernelRidge::fit`]; constant weights outside `[0, 1]`; validation data of other widths.
    pub fn new(krr: KernelRidge, x: &Tensor, y: &Tensor, schedule: AlphaSchedule) -> Result<Self> {
        let system = KernelSystem::new(&krr, x, y)?;
        let validation = match &schedule {
            AlphaSchedule::Constant(alpha) => {
                check_range("alpha", *alpha, 0.0..=1.0)?;
                None
            }
            AlphaSchedule::PerStep(alphas) => {
                alphas.iter().try_for_each(|a| check_range("alpha", *a, 0.0..=1.0))?;
                None
            }
            AlphaSchedule::Optimal { x, y, .. } => {
                let rows = krr.kernel.matrix(x, &system.x)?;
                let want = [rows.size()[0], system.y.size()[1]];
                if y.size() != want {
                    return Err(Error::shape("validation targets", format!("{want:?}"), y));
                }
                Some((rows, y.to_kind(Kind::Double)))
            }
        };
        Ok(Self { krr, system, schedule, validation, steps: vec![], spectrum: OnceCell::new() })
    }

    /// Takes one step; returns the weight of the ground truth that it used (1 at step 1, where it has no effect).
    ///
    /// # Errors
    /// More steps than [`AlphaSchedule::PerStep`] has weights.
    pub fn step(&mut self) -> Result<f64> {
        let Some(previous) = self.steps.last() else {
            self.push(1.0, &self.system.y.shallow_clone());
            return Ok(1.0);
        };
        let alpha = match &self.schedule {
            AlphaSchedule::Constant(alpha) => *alpha,
            AlphaSchedule::PerStep(alphas) => *alphas
                .get(self.steps.len())
                .ok_or_else(|| Error::value("steps", format!("at most {}", alphas.len()), self.steps.len() + 1))?,
            AlphaSchedule::Optimal { clip, .. } => {
                let (rows, y) = self.validation.as_ref().expect("it is set with the schedule");
                let f = rows.matmul(&self.steps[0].beta);
                let g = rows.matmul(&self.system.solve(&previous.predictions));
                optimal_alpha(y, &f, &g, *clip)?
            }
        };
        let targets = &self.system.y * alpha + &previous.predictions * (1.0 - alpha);
        self.push(alpha, &targets);
        Ok(alpha)
    }

    fn push(&mut self, alpha: f64, targets: &Tensor) {
        let beta = self.system.solve(targets);
        let predictions = self.system.gram.matmul(&beta);
        self.steps.push(Fitted { alpha, beta, predictions });
    }

    /// Steps until there are `t`.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn run(&mut self, t: usize) -> Result<()> {
        while self.steps.len() < t {
            self.step()?;
        }
        Ok(())
    }

    fn at(&self, t: usize) -> Result<&Fitted> {
        t.checked_sub(1)
            .and_then(|i| self.steps.get(i))
            .ok_or_else(|| Error::value("step", format!("1 to {}, those taken", self.steps.len()), t))
    }

    /// Weights of the ground truth, by step.
    pub fn alphas(&self) -> Vec<f64> {
        self.steps.iter().map(|s| s.alpha).collect()
    }

    /// The function of step `t` (from 1).
    ///
    /// # Errors
    /// A step that was not taken.
    pub fn model(&self, t: usize) -> Result<KrrModel> {
        let beta = self.at(t)?.beta.shallow_clone();
        Ok(KrrModel { kernel: self.krr.kernel, x: self.system.x.shallow_clone(), beta })
    }

    /// Predictions on the training inputs, `y^(t) [n, C]`.
    ///
    /// # Errors
    /// A step that was not taken.
    pub fn train_predictions(&self, t: usize) -> Result<Tensor> {
        Ok(self.at(t)?.predictions.shallow_clone())
    }

    /// Validation predictions that step `t` (from 2) would have had at other weights of the ground truth, for the same teacher:
    /// those of the fit to the ground truth and of the fit to the teacher alone, at `x [m, d]`.
    ///
    /// # Errors
    /// A step that was not taken, or the first.
    pub fn components(&self, t: usize, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let rows = self.krr.kernel.matrix(x, &self.system.x)?;
        let teacher = &self.at(t.saturating_sub(1))?.predictions;
        Ok((rows.matmul(&self.at(1)?.beta), rows.matmul(&self.system.solve(teacher))))
    }

    /// Eigenvectors `[n, n]` (columns) and eigenvalues of the kernel matrix, ascending; negative rounding errors set to 0.
    /// Computed at the first call.
    ///
    /// # Errors
    /// A decomposition that fails.
    pub fn spectrum(&self) -> Result<(&Tensor, &[f64])> {
        let (vectors, values) = match self.spectrum.get() {
            Some(known) => known,
            None => {
                let (values, vectors) = self.system.gram.f_linalg_eigh("L")?;
                let values = values.clamp_min(0.0).try_into()?;
                self.spectrum.get_or_init(|| (vectors, values))
            }
        };
        Ok((vectors, values))
    }

    /// Diagonal of `B^(t)` for the weights used.
    ///
    /// # Errors
    /// A step that was not taken.
    pub fn shrinkage(&self, t: usize) -> Result<Vec<f64>> {
        self.at(t)?;
        shrinkage_recursion(self.spectrum()?.1, self.krr.lambda, &self.alphas()[..t])
    }

    /// What the chain converges to at a constant weight: ridge regression with `lambda/alpha`; the zero function at 0.
    ///
    /// # Errors
    /// `alpha` outside `[0, 1]`.
    pub fn limit(&self, alpha: f64) -> Result<KrrModel> {
        check_range("alpha", alpha, 0.0..=1.0)?;
        if alpha == 0.0 {
            let beta = self.system.y.zeros_like();
            return Ok(KrrModel { kernel: self.krr.kernel, x: self.system.x.shallow_clone(), beta });
        }
        let krr = KernelRidge { lambda: limit_lambda(self.krr.lambda, alpha), ..self.krr };
        krr.fit(&self.system.x, &self.system.y)
    }

    /// First step of a chain at constant `alpha` whose training predictions are all within `eps` of the limit; `None` if that
    /// takes more than `max_steps`.
    ///
    /// # Errors
    /// `alpha` outside `[0, 1]`, `eps` not above 0.
    pub fn steps_to_tolerance(&self, alpha: f64, eps: f64, max_steps: usize) -> Result<Option<usize>> {
        check_range("eps", eps, f64::MIN_POSITIVE..)?;
        let (vectors, values) = self.spectrum()?;
        let limit = limit_shrinkage(values, self.krr.lambda, alpha)?;
        let coordinates = vectors.tr().matmul(&self.system.y);
        let a: Vec<f64> = values.iter().map(|d| d / (d + self.krr.lambda)).collect();
        let mut error: Vec<f64> = a.iter().zip(&limit).map(|(a, l)| a - l).collect();
        for t in 1..=max_steps {
            let distance = vectors.matmul(&(Tensor::from_slice(&error).unsqueeze(1) * &coordinates)).abs().max();
            if distance.double_value(&[]) < eps {
                return Ok(Some(t));
            }
            // Each mode's error shrinks by exactly (1 - alpha) a.
            error.iter_mut().zip(&a).for_each(|(e, a)| *e *= (1.0 - alpha) * a);
        }
        Ok(None)
    }
}
