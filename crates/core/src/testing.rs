//! Checks that the tests of every method use: gradients against finite differences, golden values from fixtures.

use crate::train::Checkpoint;
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// Compares the gradient of a scalar function at `x` (f64) with central differences, entry by entry.
///
/// # Panics
/// When an entry differs by more than `tolerance` relative to the largest gradient entry (or 1, if that is larger).
pub fn check_gradient(x: &Tensor, tolerance: f64, f: impl Fn(&Tensor) -> Tensor) {
    assert_eq!(x.kind(), Kind::Double, "finite differences need f64");
    let leaf = x.detach().copy().set_requires_grad(true);
    f(&leaf).backward();
    let gradient = leaf.grad();
    let scale = gradient.abs().max().double_value(&[]).max(1.0);
    let h = 1e-5;
    for i in 0..x.numel() as i64 {
        let at = |delta: f64| {
            let moved = x.detach().copy();
            let _ = moved.view(-1).narrow(0, i, 1).g_add_scalar_(delta);
            tch::no_grad(|| f(&moved).double_value(&[]))
        };
        let numeric = (at(h) - at(-h)) / (2.0 * h);
        let analytic = gradient.view(-1).double_value(&[i]);
        let error = (numeric - analytic).abs();
        assert!(error <= tolerance * scale, "entry {i}: gradient {analytic}, finite difference {numeric}");
    }
}

/// Asserts that two tensors agree to a relative tolerance (of the largest entry of `want`).
///
/// # Panics
/// When they do not.
pub fn assert_close(what: &str, got: &Tensor, want: &Tensor, tolerance: f64) {
    assert_eq!(got.size(), want.size(), "{what}: shapes");
    let (got, want) = (got.to_kind(Kind::Double), want.to_kind(Kind::Double));
    let error = (&got - &want).abs().max().double_value(&[]);
    let scale = want.abs().max().double_value(&[]).max(f64::MIN_POSITIVE);
    assert!(error <= tolerance * scale, "{what}: largest difference {error}, largest entry {scale}");
}

/// The tensors of a safetensors fixture, by name.
///
/// # Panics
/// When the file cannot be read.
pub fn fixture(path: impl AsRef<Path>) -> BTreeMap<String, Tensor> {
    let path = path.as_ref();
    let file = Checkpoint::load(path, Device::Cpu).unwrap_or_else(|e| panic!("fixture: {e}"));
    file.all()
}
