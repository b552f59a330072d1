//! The loss curves that the paper prints beside its fit.

use super::Curve;
use autodidact_core::schedule::{Schedule, Shape};

/// Validation losses at steps 1000, 2000, ..., 20000 of a cosine to zero (peak 2e-4, 500 steps of warm-up).
const COSINE: [f64; 20] = [
    3.6696358, 3.3254106, 3.1908393, 3.1158533, 3.0604768, 3.020384, 2.9880967, 2.9612265, 2.9395165, 2.9195616,
    2.9030452, 2.8881907, 2.8767889, 2.8654318, 2.8565135, 2.8489892, 2.843639, 2.8398669, 2.8380618, 2.8376071,
];

/// The same with a constant learning rate.
const CONSTANT: [f64; 20] = [
    3.6714418, 3.325626, 3.1884103, 3.111947, 3.058354, 3.0211415, 2.9874816, 2.96082, 2.9406552, 2.9241402, 2.9054413,
    2.8942103, 2.8807929, 2.8702695, 2.862175, 2.8530996, 2.8448784, 2.8383856, 2.8326995, 2.8294308,
];

/// The published cosine and constant runs of 20,000 steps, on which the paper fits `L = 2.628 + 0.429 S1^-0.550 - 0.411 S2`.
/// As in its listing, the loss of step `s` is matched to the areas of `eta_0..=eta_s`.
pub fn published_curves() -> [Curve; 2] {
    [(Shape::cosine_to(0.0), COSINE), (Shape::Constant, CONSTANT)].map(|(shape, losses)| {
        let schedule = Schedule::new(2e-4, 20_000, shape).warmup(500);
        let points = losses.iter().enumerate().map(|(i, &loss)| ((i + 1) * 1000, loss)).collect();
        Curve { lrs: schedule.lrs(), warmup: schedule.warmup, points }
    })
}
