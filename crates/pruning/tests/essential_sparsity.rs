//! Knees that are known, and zeros that are counted by hand.

use autodidact_core::masks::Masks;
use autodidact_pruning::essential_sparsity::*;
use tch::Tensor;

#[test]
fn the_first_crossing_counts() {
    let curve = [(0.0, 90.0), (0.1, 90.2), (0.2, 89.5), (0.3, 89.1), (0.4, 88.7), (0.5, 89.3)];
    assert_eq!(essential_sparsity(&curve, 90.0, 1.0).unwrap(), Some(0.3));
    assert_eq!(essential_sparsity(&curve, 90.0, 0.0).unwrap(), Some(0.1));
    assert_eq!(essential_sparsity(&curve, 95.0, 1.0).unwrap(), None);
    assert_eq!(essential_sparsity(&curve, 90.0, 5.0).unwrap(), Some(0.5));
    assert!(essential_sparsity(&[], 90.0, 1.0).is_err());
    assert!(essential_sparsity(&curve, 90.0, -1.0).is_err());
    assert!(essential_sparsity(&[(0.2, 1.0), (0.1, 1.0)], 1.0, 0.1).is_err());
    assert!(essential_sparsity(&[(0.0, f64::NAN)], 1.0, 0.1).is_err());
    assert!(essential_sparsity(&[(1.2, 1.0)], 1.0, 0.1).is_err());
}

#[test]
fn knees_are_found() {
    let curve: Vec<(f64, f64)> =
        (0..10).map(|i| f64::from(i) / 10.0).map(|s| (s, 90.0 - 5.0 * s - 100.0 * (s - 0.6f64).max(0.0))).collect();
    let knee = Knee::of(&curve).unwrap();
    assert!((knee.at - 0.6).abs() < 1e-12 && (knee.before + 5.0).abs() < 1e-9 && (knee.after + 105.0).abs() < 1e-9);
    assert!((knee.sharpness() - 21.0).abs() < 1e-9);
    assert_eq!(Knee { at: 0.5, before: 1.0, after: -2.0 }.sharpness(), f64::INFINITY);
    assert_eq!(Knee { at: 0.5, before: -1.0, after: 2.0 }.sharpness(), 0.0);
    assert!(Knee::of(&curve[..3]).is_err());
}

#[test]
fn zeros_are_counted_and_breaks_found() {
    let w = Tensor::from_slice(&[0.1f32, -0.001, 0.0, -0.5, 2e-4]);
    let masks = Masks::of(vec![("w".into(), w)]);
    assert_eq!(zero_fraction(&masks, 1e-2).unwrap(), 0.6);
    assert_eq!(zero_fraction(&masks, 0.0).unwrap(), 0.0);
    assert!(zero_fraction(&masks, -1.0).is_err());
    let curve: Vec<(f64, f64)> =
        (0..20).map(|i| f64::from(i) * 50.0).map(|t| (t, 1e-5 * t + 1e-3 * (t - 600.0f64).max(0.0))).collect();
    let broken = Abruptness::of(&curve).unwrap();
    assert_eq!(broken.at, 600.0);
    assert!((broken.ratio() - 101.0).abs() < 1e-6);
    assert_eq!(Abruptness { at: 1.0, before: 0.0, after: 1.0 }.ratio(), f64::INFINITY);
    assert_eq!(Abruptness { at: 1.0, before: 1.0, after: -1.0 }.ratio(), 0.0);
    assert!(decayed_at(1e-4, 1e-3, 1e-3, 0.01).is_err() && decayed_at(1.0, 1e-3, 0.0, 0.01).is_err());
}
