//! Joint refinement of the six constants.

use super::{KaplanLaw, Run};
use autodidact_core::Result;
use autodidact_core::fit::{Lbfgs, RobustFit};
use autodidact_core::stats::mean;

/// Points of a run that enter: more of them only repeat each other.
const POINTS: usize = 60;

/// Huber's loss of the logarithms of all losses (delta 1e-3), minimised from a law by L-BFGS. The trajectory is given only implicitly, as
/// a root; its derivatives follow from the implicit function. A law without batch sizes stays one.
///
/// # Errors
/// Losses or constants that are not positive.
pub fn refine(runs: &[Run], from: &KaplanLaw) -> Result<KaplanLaw> {
    let mut points = vec![];
    for run in runs {
        let stride = run.points.len().div_ceil(POINTS).max(1);
        points.extend(run.points.iter().step_by(stride).map(|&(s, l)| (run.n.ln(), s, run.batch, l)));
    }
    let losses: Vec<f64> = points.iter().map(|p| p.3).collect();
    let centre = |of: fn(&(f64, f64, f64, f64)) -> f64| mean(&points.iter().map(of).collect::<Vec<_>>());
    let (n0, s0, l0) = (centre(|p| p.0), centre(|p| p.1.ln()), centre(|p| p.3.ln()));
    // Coordinates: logarithms of both terms and of the critical batch size in the middle, and the exponents.
    let law = |x: &[f64]| KaplanLaw {
        n_c: (x[0] / x[1] + n0).exp(),
        alpha_n: x[1],
        s_c: (x[2] / x[3] + s0).exp(),
        alpha_s: x[3],
        b_star: (x[4] + x[5] * l0).exp(),
        alpha_b: 1.0 / x[5],
    };
    let without = from.b_star == 0.0;
    let k = 1.0 / from.alpha_b;
    let start = vec![
        from.alpha_n * (from.n_c.ln() - n0),
        from.alpha_n,
        from.alpha_s * (from.s_c.ln() - s0),
        from.alpha_s,
        if without { -700.0 } else { from.b_star.ln() - k * l0 },
        k,
    ];
    let (free, exponent) = ((f64::NEG_INFINITY, f64::INFINITY), (1e-3, 20.0));
    let batch = if without { [(-700.0, -700.0), (k, k)] } else { [free, (0.0, 50.0)] };
    let minimiser = Lbfgs {
        bounds: vec![free, exponent, free, exponent, batch[0], batch[1]],
        max_iterations: 500,
        ..Default::default()
    };
    let model = |x: &[f64], i: usize, g: &mut [f64]| {
        let (n, s, b, _) = points[i];
        let (dn, ds) = (n - n0, s.ln() - s0);
        let first = (x[0] - x[1] * dn).exp();
        let loss = law(x).root(first, s, b);
        let q = (x[4] - x[5] * (loss.ln() - l0)).exp() / b;
        let (longer, share) = ((1.0 + q).ln(), q / (1.0 + q));
        let second = (x[2] - x[3] * (ds - longer)).exp();
        let slope = 1.0 + second * x[3] * share * x[5] / loss;
        g.copy_from_slice(&[
            first / slope,
            -dn * first / slope,
            second / slope,
            -(ds - longer) * second / slope,
            second * x[3] * share / slope,
            -second * x[3] * share * (loss.ln() - l0) / slope,
        ]);
        loss
    };
    let best = RobustFit { delta: 1e-3, minimiser }.run(&losses, model, &[start])?.best;
    let refined = law(&best.x);
    Ok(if without { KaplanLaw { b_star: 0.0, alpha_b: from.alpha_b, ..refined } } else { refined })
}
