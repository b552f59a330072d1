//! Non-linear least squares.

use super::Minimum;

/// Levenberg-Marquardt with Marquardt's scaling: minimises `sum_i r_i(p)^2 / 2` for few parameters.
#[derive(Debug, Clone)]
pub struct LevenbergMarquardt {
    /// Most iterations.
    pub max_iterations: usize,
    /// Stop when an iteration lowers the objective by less than this, relative to its size.
    pub tolerance: f64,
}

impl Default for LevenbergMarquardt {
    fn default() -> Self {
        Self { max_iterations: 200, tolerance: 1e-14 }
    }
}

impl LevenbergMarquardt {
    /// Minimises over `residual(p, i, gradient) -> r_i(p)` for `i` in `0..m`, where `gradient` receives the derivatives of
    /// `r_i`. `None` if the start gives a residual that is not finite.
    pub fn minimise(
        &self,
        x0: &[f64],
        m: usize,
        residual: impl Fn(&[f64], usize, &mut [f64]) -> f64,
    ) -> Option<Minimum> {
        let n = x0.len();
        let evaluate = |p: &[f64]| {
            let (mut jtj, mut jtr, mut value) = (vec![0.0; n * n], vec![0.0; n], 0.0);
            let mut row = vec![0.0; n];
            for i in 0..m {
                let r = residual(p, i, &mut row);
                value += r * r / 2.0;
                for a in 0..n {
                    jtr[a] += row[a] * r;
                    for b in 0..n {
                        jtj[a * n + b] += row[a] * row[b];
                    }
                }
            }
            (value, jtj, jtr)
        };
        let mut x = x0.to_vec();
        let (mut value, mut jtj, mut jtr) = evaluate(&x);
        if !value.is_finite() {
            return None;
        }
        let mut damping = 1e-3;
        for iteration in 0..self.max_iterations {
            let mut damped = jtj.clone();
            for a in 0..n {
                damped[a * n + a] += damping * jtj[a * n + a].max(f64::MIN_POSITIVE);
            }
            let trial: Option<Vec<f64>> =
                solve(damped, jtr.clone()).map(|step| x.iter().zip(step).map(|(x, s)| x - s).collect());
            let evaluated = trial.map(|t| (evaluate(&t), t)).filter(|((v, ..), _)| v.is_finite() && *v <= value);
            match evaluated {
                Some(((v, a, b), t)) => {
                    let gain = value - v;
                    (x, value, jtj, jtr) = (t, v, a, b);
                    damping = (damping / 10.0).max(1e-15);
                    if gain <= self.tolerance * value.max(f64::MIN_POSITIVE) {
                        return Some(Minimum { x, value, iterations: iteration + 1, converged: true });
                    }
                }
                None if damping > 1e12 => {
                    return Some(Minimum { x, value, iterations: iteration, converged: true });
                }
                None => damping *= 10.0,
            }
        }
        Some(Minimum { x, value, iterations: self.max_iterations, converged: false })
    }
}

/// Gaussian elimination with partial pivoting; `None` for a singular matrix.
fn solve(mut a: Vec<f64>, mut b: Vec<f64>) -> Option<Vec<f64>> {
    let n = b.len();
    for c in 0..n {
        let pivot = (c..n).max_by(|&i, &j| a[i * n + c].abs().total_cmp(&a[j * n + c].abs()))?;
        if a[pivot * n + c] == 0.0 {
            return None;
        }
        for k in 0..n {
            a.swap(c * n + k, pivot * n + k);
        }
        b.swap(c, pivot);
        for r in c + 1..n {
            let factor = a[r * n + c] / a[c * n + c];
            for k in c..n {
                a[r * n + k] -= factor * a[c * n + k];
            }
            b[r] -= factor * b[c];
        }
    }
    for c in (0..n).rev() {
        let known: f64 = (c + 1..n).map(|k| a[c * n + k] * b[k]).sum();
        b[c] = (b[c] - known) / a[c * n + c];
    }
    b.iter().all(|v| v.is_finite()).then_some(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recovers_a_planted_power_law_from_a_poor_start() {
        let x: Vec<f64> = (1..=30).map(f64::from).collect();
        let truth = [1.5, 4.0, 0.7];
        let f = |p: &[f64], x: f64| p[0] + p[1] * x.powf(-p[2]);
        let residual = |p: &[f64], i: usize, g: &mut [f64]| {
            let t = x[i].powf(-p[2]);
            g.copy_from_slice(&[1.0, t, -p[1] * t * x[i].ln()]);
            f(p, x[i]) - f(&truth, x[i])
        };
        let m = LevenbergMarquardt::default().minimise(&[0.0, 1.0, 0.1], x.len(), residual).unwrap();
        assert!(m.converged);
        m.x.iter().zip(truth).for_each(|(a, b)| assert!((a - b).abs() < 1e-7, "{m:?}"));
    }

    #[test]
    fn the_linear_case_is_ordinary_least_squares() {
        // Line through (0,1), (1,3), (2,4): intercept 7/6, slope 3/2.
        let y = [1.0, 3.0, 4.0];
        let residual = |p: &[f64], i: usize, g: &mut [f64]| {
            g.copy_from_slice(&[1.0, i as f64]);
            p[0] + p[1] * i as f64 - y[i]
        };
        let m = LevenbergMarquardt::default().minimise(&[0.0, 0.0], 3, residual).unwrap();
        assert!((m.x[0] - 7.0 / 6.0).abs() < 1e-9 && (m.x[1] - 1.5).abs() < 1e-9);
    }

    #[test]
    fn a_start_without_value_is_none() {
        assert!(LevenbergMarquardt::default().minimise(&[1.0], 1, |_, _, _| f64::NAN).is_none());
    }
}
