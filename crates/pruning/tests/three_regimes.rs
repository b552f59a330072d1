//! Curves, maps and searches whose answer is known.

use autodidact_core::Error;
use autodidact_core::landscape::interpolate;
use autodidact_core::tangent::linear_cka;
use autodidact_pruning::three_regimes::*;
use tch::{Device, Kind, Tensor};

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);

#[test]
fn connectivity_is_the_largest_deviation() {
    let found = lmc(&[0.02, 0.05, 0.10, 0.30, 0.10, 0.04]).unwrap();
    assert!((found.value + 0.27).abs() < 1e-12 && found.at == 3);
    // Better in between.
    let found = lmc(&[0.2, 0.1, 0.05, 0.2]).unwrap();
    assert!((found.value - 0.15).abs() < 1e-12 && found.at == 2);
    assert_eq!(lmc(&[0.1; 11]).unwrap(), Lmc { value: 0.0, at: 0 });
    assert!(lmc(&[0.1]).is_err() && lmc(&[0.1, f64::NAN]).is_err());
}

#[test]
fn lines_keep_their_ends_and_their_zeros() {
    tch::manual_seed(0);
    let mask = Tensor::from_slice(&[1f64, 0.0, 1.0, 0.0]);
    let [a, b] = [0, 1].map(|_| [("w".to_owned(), Tensor::randn([4], F64) * &mask)].into());
    assert_eq!(interpolate(&a, &b, 0.0).unwrap()["w"], a["w"]);
    assert_eq!(interpolate(&a, &b, 1.0).unwrap()["w"], b["w"]);
    let middle = interpolate(&a, &b, 0.5).unwrap();
    for t in [0.2, 0.7] {
        let point = interpolate(&a, &b, t).unwrap();
        let outside: Tensor = &point["w"] * (1.0 - &mask);
        assert_eq!(outside.abs().max().double_value(&[]), 0.0);
        // A quadratic Bezier curve over the middle is the line.
        let bezier = &a["w"] * (1.0 - t) * (1.0 - t) + &middle["w"] * 2.0 * t * (1.0 - t) + &b["w"] * t * t;
        assert!((bezier - &point["w"]).abs().max().double_value(&[]) < 1e-12);
    }
}

#[test]
fn similarity_does_not_see_turns_scales_and_shifts() {
    tch::manual_seed(1);
    let x = Tensor::randn([30, 4], F64);
    let (q, _) = Tensor::linalg_qr(&Tensor::randn([4, 4], F64), "reduced");
    assert!((linear_cka(&x, &(x.matmul(&q) * 3.0 + 5.0)).unwrap() - 1.0).abs() < 1e-10);
    let p = Tensor::from_slice2(&[[0.5f64, 0.5], [1.0, 0.0]]);
    let q = Tensor::from_slice2(&[[0.5f64, 0.5], [0.0, 1.0]]);
    assert!((jensen_shannon(&p, &q).unwrap() - 0.5 * 2f64.ln()).abs() < 1e-12);
    assert_eq!(jensen_shannon(&p, &p).unwrap(), 0.0);
    assert_eq!(output_agreement(&p, &q).unwrap(), 0.5);
    assert!(output_agreement(&p, &x).is_err() && jensen_shannon(&p, &x).is_err());
}

#[test]
fn the_map_has_its_regimes() {
    // Two temperatures, three densities.
    let error = vec![0.30, 0.20, 0.15, 0.33, 0.19, 0.12];
    let lmc = vec![-0.02, -0.01, 0.0, -0.40, -0.01, 0.0];
    let cka = vec![0.90, 0.92, 0.95, 0.85, 0.94, 0.99];
    let map = PhaseDiagram::new((2, 3), error, lmc, cka).unwrap();
    let normal = map.normalised_error();
    for (got, want) in normal.iter().zip([0.0, 0.01, 0.03, 0.03, 0.0, 0.0]) {
        assert!((got - want).abs() < 1e-12);
    }
    assert_eq!([0, 1, 2].map(|d| map.best_temperature(d).unwrap()), [0, 1, 1]);
    assert!(map.best_temperature(3).is_err());
    use Regime::*;
    assert_eq!(map.regimes(0.05), [IIB, IIA, IIA, I, IIB, IIB]);
    assert_eq!(map.size(), (2, 3));
    assert!(PhaseDiagram::new((2, 2), vec![0.0; 6], vec![0.0; 4], vec![0.0; 4]).is_err());
    assert!(PhaseDiagram::new((1, 1), vec![f64::NAN], vec![0.0], vec![0.0]).is_err());
    assert!(PhaseDiagram::new((0, 1), vec![], vec![], vec![]).is_err());
}

#[test]
fn bisection_finds_the_coldest_connected_temperature() {
    for count in 1..20 {
        for boundary in 0..=count {
            for start in 0..count {
                // Connected are the temperatures before the boundary.
                let mut measured = 0;
                let found = tune_temperature(count, start, 0.05, |t| -> Result<f64, Error> {
                    measured += 1;
                    Ok(if t < boundary { -0.01 } else { -0.3 })
                })
                .unwrap();
                assert_eq!(found.chosen, boundary.saturating_sub(1));
                assert!(measured as f64 <= (count as f64).log2() + 2.0 && measured == found.path.len());
                let to = if start < boundary { Direction::Lower } else { Direction::Raise };
                assert_eq!(found.path[0], (start, to));
            }
        }
    }
    let fails = |_| Err::<f64, Error>(Error::Failed("no".into()));
    assert!(tune_temperature(3, 0, 0.05, fails).is_err());
    assert!(tune_temperature(0, 0, 0.05, |_| Ok::<f64, Error>(0.0)).is_err());
    assert!(tune_temperature(3, 3, 0.05, |_| Ok::<f64, Error>(0.0)).is_err());
}

#[test]
fn models_are_selected_by_similarity_among_the_connected() {
    assert_eq!(select_model(&[(-0.3, 0.99), (-0.01, 0.91), (-0.02, 0.93)], 0.05).unwrap(), 2);
    assert_eq!(select_model(&[(-0.3, 0.99), (-0.2, 0.91)], 0.05).unwrap(), 1);
    assert_eq!(direction(-0.05, 0.05), Direction::Lower);
    assert_eq!(direction(-0.051, 0.05), Direction::Raise);
    assert!(select_model(&[], 0.05).is_err() && select_model(&[(f64::NAN, 0.0)], 0.05).is_err());
}
