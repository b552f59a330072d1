//! The network's course with unlimited data and units.

use super::TestLossTerms;
use autodidact_core::Result;
use autodidact_core::error::check_range;

/// The expected terms of the test loss at initialisation with `N -> infinity` units and `|beta|^2 = D`: `wbar = 0`, `M = I`.
///
/// ```
/// let terms = autodidact_scaling::grokking::initial_terms(30, 1.0, 0.25);
/// assert!((terms.variance - 0.140625).abs() < 1e-12 && (terms.misalignment - 0.492708).abs() < 1e-6);
/// ```
pub fn initial_terms(d: i64, alpha: f64, eps: f64) -> TestLossTerms {
    FlowState { along: alpha * eps, across: alpha * eps }.terms(d)
}

/// Gradient descent in the limit of unlimited data and units: with `|beta|^2 = D` symmetry leaves two numbers of `alpha eps M = along
/// bb^T + across (I - bb^T)`, `b = beta/|beta|`.
///
/// The population's gradient turns a step into `W <- W (I - kappa R)`, `R = (tr A I + 2 A) / (2 D^2)`, `kappa = 2 eps rate / alpha`: the
/// features' time goes as `alpha/eps`, however the learning rate `eta = rate N / alpha^2` keeps the kernel's time fixed. This is the
/// theory's curve for how late features are learned; with few data they are learned later still.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PopulationFlow {
    /// Dimension `D`.
    pub d: i64,
    /// Scale of the output.
    pub alpha: f64,
    /// `eps`.
    pub eps: f64,
    /// Learning rate over `N / alpha^2`.
    pub rate: f64,
}

/// Where the flow is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FlowState {
    /// Along the target's direction; `D` once it is learned.
    pub along: f64,
    /// In each other direction; 0 at the end.
    pub across: f64,
}

impl FlowState {
    /// The terms of the test loss.
    pub fn terms(&self, d: i64) -> TestLossTerms {
        let d = d as f64;
        let trace = self.along + (d - 1.0) * self.across - d;
        let square = (self.along - d).powi(2) + (d - 1.0) * self.across.powi(2);
        TestLossTerms { variance: 0.25 * (trace / d).powi(2), misalignment: square / (2.0 * d * d), linear: 0.0 }
    }
}

impl PopulationFlow {
    /// The states after the given numbers of steps, which ascend.
    ///
    /// # Errors
    /// A dimension below 1; scales or a rate not above 0.
    pub fn at(&self, steps: &[usize]) -> Result<Vec<FlowState>> {
        check_range("dimension", self.d as f64, 1.0..)?;
        check_range("alpha", self.alpha, f64::MIN_POSITIVE..)?;
        check_range("eps", self.eps, f64::MIN_POSITIVE..)?;
        check_range("rate", self.rate, f64::MIN_POSITIVE..)?;
        let d = self.d as f64;
        let kappa = 2.0 * self.eps * self.rate / self.alpha;
        let start = self.alpha * self.eps;
        let (mut state, mut done) = (FlowState { along: start, across: start }, 0);
        let mut states = vec![];
        for &step in steps {
            for _ in done..step {
                let FlowState { along, across } = state;
                let trace = along + (d - 1.0) * across - d;
                let factor = |entry: f64| (1.0 - kappa * (trace + 2.0 * entry) / (2.0 * d * d)).powi(2);
                state = FlowState { along: along * factor(along - d), across: across * factor(across) };
            }
            done = done.max(step);
            states.push(state);
        }
        Ok(states)
    }

    /// The first of the steps at which the test loss is at or below a threshold.
    ///
    /// # Errors
    /// As [`at`](Self::at).
    pub fn time(&self, threshold: f64, steps: &[usize]) -> Result<Option<usize>> {
        let states = self.at(steps)?;
        let learned = |s: &FlowState| s.terms(self.d).total() <= threshold;
        Ok(steps.iter().zip(&states).find(|(_, s)| learned(s)).map(|(step, _)| *step))
    }
}
