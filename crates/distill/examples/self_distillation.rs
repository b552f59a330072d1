//! A kernel ridge regression that is its own teacher: refits to its predictions mixed with the targets.
//!
//! `cargo run --release -p autodidact-distill --example self_distillation -- [NOISE]` (standard deviation of the targets' noise, 0.5)
//!
//! Without ground truth every step smooths more; a constant share of it converges to ridge regression with `lambda / alpha`; the share that
//! is best on held-out points is known in closed form at each step.

use anyhow::{Context, Result, ensure};
use autodidact_core::kernel::{Kernel, KernelRidge};
use autodidact_distill::teacher_guidance::{AlphaSchedule, SelfDistilledKrr};
use tch::{Device, Kind, Tensor};

const STEPS: usize = 6;

fn main() -> Result<()> {
    let noise: f64 = std::env::args().nth(1).map_or(Ok(0.5), |a| a.parse()).context("the argument is a number")?;
    ensure!(noise >= 0.0 && noise.is_finite(), "a standard deviation is 0 or more, not {noise}");
    tch::manual_seed(0);
    let points = |n: i64| {
        let x = Tensor::rand([n, 1], (Kind::Double, Device::Cpu)) * 2.0;
        let clean = (&x * std::f64::consts::TAU).sin();
        (x, &clean + clean.randn_like() * noise, clean)
    };
    let ((x, y, _), (held_x, held_y, _), (test_x, _, truth)) = (points(60), points(60), points(500));
    let ridge = KernelRidge { kernel: Kernel::Rbf { gamma: 50.0 }, lambda: 0.03 };
    let error = |predicted: &Tensor| predicted.mse_loss(&truth, tch::Reduction::Mean).double_value(&[]).sqrt();

    println!("root mean squared distance from the true function by step, and weights of the ground truth");
    let best = AlphaSchedule::Optimal { x: held_x, y: held_y, clip: true };
    for (name, schedule) in [
        ("none", AlphaSchedule::Constant(0.0)),
        ("0.4", AlphaSchedule::Constant(0.4)),
        ("best on held-out points", best),
    ] {
        let mut chain = SelfDistilledKrr::new(ridge, &x, &y, schedule)?;
        chain.run(STEPS)?;
        let errors = (1..=STEPS).map(|t| Ok(error(&chain.model(t)?.predict(&test_x)?))).collect::<Result<Vec<_>>>()?;
        println!("{name:24} {errors:.3?}  {:.2?}", &chain.alphas()[1..]);
        if name == "0.4" {
            println!("{:24} {:.3}", "  its limit", error(&chain.limit(0.4)?.predict(&test_x)?));
        }
    }
    Ok(())
}
