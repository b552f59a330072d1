//! Dataset distillation: one outer step of trajectory matching, and kernel ridge regression.

use crate::scrambled;
use anyhow::Result;
use autodidact_benches::Entry;
use autodidact_core::kernel::{Kernel, KernelRidge};
use autodidact_distill::distilled_data::{FlatConvNet, FlatConvNetConfig, InnerLoop};
use autodidact_distill::smooth_trajectories::TrajectoryMatching;
use serde_json::json;
use tch::{Device, Kind, Tensor};

/// Classes and images per class.
const CLASSES: i64 = 10;
const PER_CLASS: i64 = 10;

pub fn entries() -> Vec<Entry> {
    vec![matching(32, 3, 32, 3, 4).at_most(1.0), ridge(2000).at_most(2.0)]
}

/// One outer step: `steps` of the student on all images, backward to images and step size.
pub fn matching(width: i64, depth: usize, side: i64, channels: i64, steps: usize) -> Entry {
    let name = format!("distill/trajectory-matching/side={side},width={width},N={steps}");
    Entry::new(name, "one outer step, 10 images per class", move || {
        let net = FlatConvNet::new(FlatConvNetConfig { channels, side, width, depth, classes: CLASSES })?;
        let path = scrambled(&[3, net.parameters()], 0.0, Kind::Float) * 0.1;
        let m = CLASSES * PER_CLASS;
        let images = scrambled(&[m, channels, side, side], 0.5, Kind::Float).set_requires_grad(true);
        let labels = Tensor::arange(m, (Kind::Int64, Device::Cpu)).remainder(CLASSES);
        let step_size = Tensor::from(0.01f32).set_requires_grad(true);
        let matching = TrajectoryMatching {
            inner: InnerLoop { steps, momentum: 0.0, kept: None },
            augment: None,
            ..TrajectoryMatching::mtt()
        };
        let mut rng = autodidact_core::seed::rng(0, &["bench"]);
        Ok(Box::new(move || {
            let losses = matching.from_epoch(&net, &path, 0, (&images, &labels), &step_size, &mut rng)?;
            Tensor::run_backward(&[&losses.last], &[&images, &step_size], false, false);
            Ok(losses.last.double_value(&[]))
        }))
    })
    .beside_python(
        "torch.func.functional_call and autograd.grad",
        "trajectory_matching",
        json!({"width": width, "depth": depth, "side": side, "channels": channels, "steps": steps}),
    )
    .agreeing(1e-4)
}

/// Kernel matrix and targets of a regression on `n` samples.
fn problem(n: i64) -> Result<(Tensor, Tensor)> {
    let x = scrambled(&[n, 64], 0.0, Kind::Double);
    let k = Kernel::Rbf { gamma: 0.1 }.matrix(&x, &x)?;
    Ok((k, scrambled(&[n, 10], 0.5, Kind::Double)))
}

/// Fit of ten targets on a precomputed kernel, beside the factorisation alone.
fn ridge(n: i64) -> Entry {
    Entry::new(format!("distill/krr/n={n}"), "checks, factorisation and solution for 10 targets", move || {
        let (k, y) = problem(n)?;
        let krr = KernelRidge { kernel: Kernel::Precomputed, lambda: 1e-3 };
        Ok(Box::new(move || Ok(krr.fit(&k, &y)?.beta.sum(Kind::Double).double_value(&[]))))
    })
    .beside_ours("LAPACK's Cholesky alone", move || {
        let (k, _) = problem(n)?;
        let k = k + Tensor::eye(n, (Kind::Double, Device::Cpu)) * 1e-3;
        Ok(Box::new(move || Ok(k.f_linalg_cholesky(false)?.double_value(&[0, 0]))))
    })
}
