//! Limited-memory BFGS with box bounds.

use std::collections::VecDeque;

/// L-BFGS (Liu and Nocedal, 1989) on a box: variables that sit on a bound which the gradient pushes against are held,
/// the others take a quasi-Newton step, and trial points are projected into the box.
#[derive(Debug, Clone)]
pub struct Lbfgs {
    /// Correction pairs kept.
    pub history: usize,
    /// Most iterations.
    pub max_iterations: usize,
    /// Stop when an iteration lowers the objective by less than this, relative to its size.
    pub f_tolerance: f64,
    /// Stop when the largest component of the projected gradient is below this.
    pub g_tolerance: f64,
    /// Bounds of each variable; empty for none.
    pub bounds: Vec<(f64, f64)>,
}

impl Default for Lbfgs {
    fn default() -> Self {
        Self { history: 10, max_iterations: 1000, f_tolerance: 1e-12, g_tolerance: 1e-10, bounds: vec![] }
    }
}

/// Where a minimiser stopped.
#[derive(Debug, Clone, PartialEq)]
pub struct Minimum {
    /// The point.
    pub x: Vec<f64>,
    /// The objective there.
    pub value: f64,
    /// Iterations taken.
    pub iterations: usize,
    /// Whether it stopped by itself (rather than at the limit on iterations): a tolerance was met, or no step along the
    /// gradient lowers the objective any more, which means a minimum to rounding if the gradient given is right.
    pub converged: bool,
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

struct Pair {
    s: Vec<f64>,
    y: Vec<f64>,
    rho: f64,
}

impl Lbfgs {
    /// Minimises `f`, which returns the objective at a point and writes its gradient; infinity or NaN marks points outside
    /// the domain. `None` if the start itself is outside.
    pub fn minimise(&self, x0: &[f64], mut f: impl FnMut(&[f64], &mut [f64]) -> f64) -> Option<Minimum> {
        let n = x0.len();
        let mut x = x0.to_vec();
        self.project(&mut x);
        let mut g = vec![0.0; n];
        let mut value = f(&x, &mut g);
        if !value.is_finite() || g.iter().any(|v| !v.is_finite()) {
            return None;
        }
        let mut pairs: VecDeque<Pair> = VecDeque::with_capacity(self.history);
        let (mut trial, mut trial_g) = (vec![0.0; n], vec![0.0; n]);
        for iteration in 0..self.max_iterations {
            let free: Vec<bool> = (0..n).map(|i| !self.held(i, x[i], g[i])).collect();
            let projected = |g: &[f64]| -> Vec<f64> { (0..n).map(|i| if free[i] { g[i] } else { 0.0 }).collect() };
            let pg = projected(&g);
            let largest = pg.iter().fold(0.0f64, |m, v| m.max(v.abs()));
            if largest <= self.g_tolerance {
                return Some(Minimum { x, value, iterations: iteration, converged: true });
            }
            let mut direction = projected(&quasi_newton(&pairs, &pg));
            if dot(&direction, &pg) >= 0.0 || pairs.is_empty() {
                pairs.clear();
                // Without curvature, a first step of length at most one in the largest component.
                direction = pg.iter().map(|v| -v / largest.max(1.0)).collect();
            }
            let slope = dot(&direction, &pg);
            let mut take = |t: f64, trial: &mut Vec<f64>, trial_g: &mut Vec<f64>| -> f64 {
                for i in 0..n {
                    trial[i] = x[i] + t * direction[i];
                }
                self.project(trial);
                let v = f(trial, trial_g);
                if v.is_finite() && trial_g.iter().all(|g| g.is_finite()) { v } else { f64::INFINITY }
            };
            let Some(new_value) = line_search(value, slope, &direction, &mut take, &mut trial, &mut trial_g) else {
                if pairs.is_empty() {
                    // Not even the gradient direction improves: a minimum to rounding.
                    return Some(Minimum { x, value, iterations: iteration, converged: true });
                }
                pairs.clear();
                continue;
            };
            let s: Vec<f64> = trial.iter().zip(&x).map(|(a, b)| a - b).collect();
            let y: Vec<f64> = trial_g.iter().zip(&g).map(|(a, b)| a - b).collect();
            let sy = dot(&s, &y);
            if sy > f64::EPSILON * dot(&y, &y) {
                if pairs.len() == self.history {
                    pairs.pop_front();
                }
                pairs.push_back(Pair { s, y, rho: 1.0 / sy });
            }
            let gain = value - new_value;
            std::mem::swap(&mut x, &mut trial);
            std::mem::swap(&mut g, &mut trial_g);
            let small = gain <= self.f_tolerance * value.abs().max(f64::MIN_POSITIVE);
            value = new_value;
            if small {
                return Some(Minimum { x, value, iterations: iteration + 1, converged: true });
            }
        }
        Some(Minimum { x, value, iterations: self.max_iterations, converged: false })
    }

    fn project(&self, x: &mut [f64]) {
        for (v, (low, high)) in x.iter_mut().zip(&self.bounds) {
            *v = v.clamp(*low, *high);
        }
    }

    fn held(&self, i: usize, x: f64, g: f64) -> bool {
        self.bounds.get(i).is_some_and(|&(low, high)| (x <= low && g > 0.0) || (x >= high && g < 0.0))
    }
}

/// The two-loop recursion: minus the inverse Hessian estimate times `g`.
fn quasi_newton(pairs: &VecDeque<Pair>, g: &[f64]) -> Vec<f64> {
    let mut q: Vec<f64> = g.iter().map(|v| -v).collect();
    let mut alphas = Vec::with_capacity(pairs.len());
    for p in pairs.iter().rev() {
        let alpha = p.rho * dot(&p.s, &q);
        q.iter_mut().zip(&p.y).for_each(|(q, y)| *q -= alpha * y);
        alphas.push(alpha);
    }
    if let Some(p) = pairs.back() {
        let scale = 1.0 / (p.rho * dot(&p.y, &p.y));
        q.iter_mut().for_each(|q| *q *= scale);
    }
    for (p, alpha) in pairs.iter().zip(alphas.into_iter().rev()) {
        let beta = p.rho * dot(&p.y, &q);
        q.iter_mut().zip(&p.s).for_each(|(q, s)| *q += (alpha - beta) * s);
    }
    q
}

/// A step that lowers the objective enough (Armijo) and, while the slope along the ray stays steep, a longer one. Leaves the
/// accepted point and gradient in `trial` and `trial_g`.
fn line_search(
    value: f64,
    slope: f64,
    direction: &[f64],
    take: &mut impl FnMut(f64, &mut Vec<f64>, &mut Vec<f64>) -> f64,
    trial: &mut Vec<f64>,
    trial_g: &mut Vec<f64>,
) -> Option<f64> {
    const ARMIJO: f64 = 1e-4;
    const CURVATURE: f64 = 0.9;
    let mut t = 1.0;
    for _ in 0..60 {
        let v = take(t, trial, trial_g);
        if v <= value + ARMIJO * t * slope {
            let mut best = v;
            let steep = |g: &[f64]| dot(g, direction) < CURVATURE * slope;
            let mut longer = 2.0 * t;
            while t == 1.0 && steep(trial_g) && longer < 1e10 {
                let (mut far, mut far_g) = (trial.clone(), trial_g.clone());
                let v = take(longer, &mut far, &mut far_g);
                if !(v < best && v <= value + ARMIJO * longer * slope) {
                    break;
                }
                (best, *trial, *trial_g) = (v, far, far_g);
                longer *= 2.0;
            }
            return Some(best);
        }
        // The minimum of the parabola through value, slope and the trial, kept within a factor of ten.
        let parabola = -slope * t * t / (2.0 * (v - value - slope * t));
        t = if parabola.is_finite() { parabola.clamp(0.1 * t, 0.5 * t) } else { 0.1 * t };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rosenbrock(x: &[f64], g: &mut [f64]) -> f64 {
        let mut f = 0.0;
        g.fill(0.0);
        for i in 0..x.len() - 1 {
            let (a, b) = (1.0 - x[i], x[i + 1] - x[i] * x[i]);
            f += a * a + 100.0 * b * b;
            g[i] += -2.0 * a - 400.0 * x[i] * b;
            g[i + 1] += 200.0 * b;
        }
        f
    }

    #[test]
    fn finds_the_rosenbrock_minimum_in_ten_dimensions() {
        let m = Lbfgs { f_tolerance: 1e-16, ..Default::default() }.minimise(&[-1.2; 10], rosenbrock).unwrap();
        assert!(m.converged && m.iterations < 300, "{m:?}");
        assert!(m.x.iter().all(|v| (v - 1.0).abs() < 1e-5), "{m:?}");
    }

    #[test]
    fn stops_on_the_bound_that_is_active_at_the_constrained_minimum() {
        // min (x-2)^2 + (y+1)^2 + xy on x <= 1, y >= 0: at (1, 0) both bounds hold.
        let f = |x: &[f64], g: &mut [f64]| {
            g[0] = 2.0 * (x[0] - 2.0) + x[1];
            g[1] = 2.0 * (x[1] + 1.0) + x[0];
            (x[0] - 2.0).powi(2) + (x[1] + 1.0).powi(2) + x[0] * x[1]
        };
        let bounds = vec![(f64::NEG_INFINITY, 1.0), (0.0, f64::INFINITY)];
        let m = Lbfgs { bounds, ..Default::default() }.minimise(&[-3.0, 5.0], f).unwrap();
        assert_eq!(m.x, [1.0, 0.0]);
    }

    #[test]
    fn a_bounded_rosenbrock_agrees_with_scipy() {
        // scipy.optimize.minimize(rosen, [-1.2, 1], method="L-BFGS-B", bounds=[(-2, 0.5), (-2, 2)]) -> (0.5, 0.25).
        let bounds = vec![(-2.0, 0.5), (-2.0, 2.0)];
        let m = Lbfgs { bounds, ..Default::default() }.minimise(&[-1.2, 1.0], rosenbrock).unwrap();
        assert!((m.x[0] - 0.5).abs() < 1e-9 && (m.x[1] - 0.25).abs() < 1e-6, "{m:?}");
    }

    #[test]
    fn a_start_outside_the_domain_is_none_and_the_domain_is_kept() {
        let f = |x: &[f64], g: &mut [f64]| {
            g[0] = 1.0 - 1.0 / x[0];
            x[0] - x[0].ln() // NaN below zero
        };
        assert!(Lbfgs::default().minimise(&[-1.0], f).is_none());
        let m = Lbfgs::default().minimise(&[30.0], f).unwrap();
        assert!((m.x[0] - 1.0).abs() < 1e-5, "{m:?}");
    }
}
