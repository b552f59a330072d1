//! Curve fits and kernel regressions.

use crate::scrambled;
use anyhow::Result;
use autodidact_benches::Entry;
use autodidact_core::kernel::{Kernel, KernelRidge};
use autodidact_distill::teacher_guidance::{AlphaSchedule, SelfDistilledKrr};
use autodidact_scaling::fit::{ChinchillaLaw, FitOptions as Options, Points, fit_from};
use autodidact_scaling::lr_annealing_law::{AnnealAreas, FitOptions, WarmupTreatment, fit, published_curves};
use serde_json::json;
use tch::Kind;

pub fn entries() -> Result<Vec<Entry>> {
    Ok(vec![
        annealing_fit("published-listing", false)?,
        annealing_fit("analytic-gradient", true)?,
        chinchilla_fit("own-gradient", false)?,
        chinchilla_fit("analytic-gradient", true)?,
        ridge_chain(),
    ])
}

/// The annealing law on its 40 published points from 54 starts. SciPy gets the areas for free and a process per thread.
fn annealing_fit(name: &str, analytic: bool) -> Result<Entry> {
    const LAMBDA: f64 = 0.999;
    let (mut s1, mut s2, mut losses) = (vec![], vec![], vec![]);
    for curve in published_curves() {
        let areas = AnnealAreas::from_lrs(&curve.lrs, curve.warmup, LAMBDA, WarmupTreatment::AsPeak)?;
        for (step, loss) in curve.points {
            s1.push(areas.s1[step]);
            s2.push(areas.s2[step]);
            losses.push(loss);
        }
    }
    let arguments = json!({"s1": s1, "s2": s2, "losses": losses, "analytic": analytic});
    let ours = || Ok(Box::new(|| Ok(fit(&published_curves(), LAMBDA, &FitOptions::default())?.objective)) as _);
    let label = if analytic { "L-BFGS-B with the gradient" } else { "L-BFGS-B as in the published listing" };
    Ok(Entry::new(format!("scaling/annealing-fit/{name}"), "annealing law, 40 points, 54 starts", ours)
        .beside_python(label, "annealing_fit", arguments)
        // Finite differences end a little above the minimum.
        .agreeing(0.02))
}

/// Chinchilla's law on 250 noisy points from 500 of the published starts. SciPy gets a process per thread.
fn chinchilla_fit(name: &str, analytic: bool) -> Result<Entry> {
    let truth = ChinchillaLaw { e: 1.8172, a: 482.01, alpha: 0.3478, b: 2085.43, beta: 0.3658 };
    // Low-discrepancy sizes and errors of one per cent.
    let along = |i: usize, step: f64| (i as f64 * step).fract();
    let points: Vec<([f64; 2], f64)> = (0..250)
        .map(|i| {
            let n = 10f64.powf(7.5 + 2.5 * along(i, 0.754_877_666));
            let d = n * 10f64.powf(2.2 * along(i, 0.569_840_296));
            ([n, d], truth.loss(n, d) * (1.0 + 0.02 * (along(i, 0.618_033_989) - 0.5)))
        })
        .collect();
    let starts: Vec<ChinchillaLaw> = ChinchillaLaw::published_starts().into_iter().step_by(9).collect();
    let rows: Vec<[f64; 5]> = starts.iter().map(|s| [s.a.ln(), s.b.ln(), s.e.ln(), s.alpha, s.beta]).collect();
    let column = |k: usize| points.iter().map(|p| p.0[k]).collect::<Vec<_>>();
    let losses: Vec<f64> = points.iter().map(|p| p.1).collect();
    let arguments = json!({"n": column(0), "d": column(1), "losses": losses, "starts": rows, "analytic": analytic});
    let ours = move || {
        let (points, starts) = (Points::new(points.clone())?, starts.clone());
        Ok(Box::new(move || Ok(fit_from(&points, &starts, &Options::default())?.objective)) as _)
    };
    let label = if analytic { "L-BFGS-B with the gradient" } else { "L-BFGS-B, its own gradient" };
    let entry = Entry::new(format!("scaling/chinchilla-fit/{name}"), "Chinchilla's law, 250 points, 500 starts", ours)
        .beside_python(label, "chinchilla_fit", arguments)
        // Finite differences end a little above the minimum.
        .agreeing(0.02);
    Ok(if analytic { entry } else { entry.at_most(0.02) })
}

/// Twenty steps of self-distilled kernel ridge regression.
fn ridge_chain() -> Entry {
    let ours = || {
        let (x, y) = (scrambled(&[400, 10], 0.0, Kind::Double), scrambled(&[400, 1], 0.5, Kind::Double));
        Ok(Box::new(move || {
            let krr = KernelRidge { kernel: Kernel::Rbf { gamma: 0.3 }, lambda: 0.2 };
            let mut chain = SelfDistilledKrr::new(krr, &x, &y, AlphaSchedule::Constant(0.3))?;
            chain.run(20)?;
            Ok(chain.train_predictions(20)?.double_value(&[0, 0]))
        }) as _)
    };
    Entry::new("distill/kernel-ridge-chain", "20 steps of self-distillation at n = 400", ours)
        .beside_python("KernelRidge, refitted", "ridge_chain", json!({"n": 400, "d": 10, "steps": 20}))
        .agreeing(1e-6)
}
