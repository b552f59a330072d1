//! What would the loss be under another learning-rate schedule? The annealing law, fitted to runs that exist, predicts it.
//!
//! `cargo run --release -p autodidact-scaling --example schedules -- [STEPS]` (50000)
//!
//! The law is fitted to one published run of 20,000 steps (a cosine), predicts the other (a constant rate) at every step, and then ranks
//! schedules for a run of another length. Replace `published_curves` by curves of your own.

use anyhow::{Context, Result, ensure};
use autodidact_core::schedule::{Decay, Schedule, Shape};
use autodidact_scaling::lr_annealing_law::{
    FitOptions, compare_schedules, fit, optimal_cooldown_ratio, published_curves,
};

const PEAK: f64 = 2e-4;

fn main() -> Result<()> {
    let steps: usize = std::env::args().nth(1).map_or(Ok(50_000), |a| a.parse()).context("the argument is a number")?;
    ensure!(steps >= 1000, "a run of 1000 steps or more, not {steps}");
    let [cosine, constant] = published_curves();
    let report = fit(std::slice::from_ref(&cosine), 0.999, &FitOptions::default())?;
    let law = report.law;
    println!("on the cosine, fitted: largest error {:.2} %", 100.0 * report.max_error);
    let errors = law.relative_errors(&constant)?;
    let largest = errors.iter().map(|e| e.abs()).fold(0.0, f64::max);
    println!("on the constant rate, not fitted: largest error {:.2} %", 100.0 * largest);

    let options = FitOptions { resamples: 100, ..Default::default() };
    let both = fit(&[cosine, constant], 0.999, &options)?;
    let names = ["L0", "A", "alpha", "C"];
    let values = [both.law.l0, both.law.a, both.law.alpha, both.law.c];
    for ((name, value), (low, high)) in names.iter().zip(values).zip(&both.intervals) {
        println!("{name:5} {value:.3} ({low:.3} to {high:.3})");
    }
    let candidates = [
        ("constant", Shape::Constant),
        ("cosine to 0", Shape::cosine_to(0.0)),
        ("cosine to a tenth", Shape::cosine_to(0.1)),
        ("cool-down over a tenth", Shape::wsd(0.1, Decay::Linear)),
        ("cool-down over a fifth", Shape::wsd(0.2, Decay::OneMinusSqrt)),
    ];
    let schedules: Vec<_> =
        candidates.iter().map(|(_, shape)| Schedule::new(PEAK, steps, shape.clone()).warmup(500)).collect();
    println!("after {steps} steps, by predicted loss:");
    for (i, loss) in compare_schedules(&both.law, &schedules)? {
        println!("  {loss:.4}  {}", candidates[i].0);
    }
    let (ratio, loss) = optimal_cooldown_ratio(&both.law, steps, PEAK, Decay::Linear)?;
    println!("  {loss:.4}  the best linear cool-down, over {:.0} % of the steps", 100.0 * ratio);
    Ok(())
}
