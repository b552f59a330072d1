//! RankMe against hand-computed and independently computed values, its invariances, its competitors and the choice of runs.

use autodidact_core::metrics::singular_values;
use autodidact_ssl::rankme::{
    Candidate, EPS, RankMeAccumulator, Selection, alpha_req, classical_rank, effective_rank, participation_ratio,
    power_law_decay, rankme, rankme_from_singular_values, select, stable_rank,
};
use tch::{Device, Kind, Tensor};

/// `cos(0.37 (4i+j)^2 + 0.1 i)`, 6 x 4.
fn cosines() -> Tensor {
    let entry = |k: i32| (0.37 * f64::from(k * k) + 0.1 * f64::from(k / 4)).cos();
    Tensor::from_slice(&(0..24).map(entry).collect::<Vec<_>>()).view([6, 4])
}

fn near(got: f64, want: f64, tolerance: f64) {
    assert!((got - want).abs() <= tolerance, "{got}, expected {want}");
}

#[test]
fn small_matrices_have_the_values_computed_by_hand() {
    // p = 1/2 + eps twice; (3/4, 1/4); one direction: (1 + eps, eps, eps).
    near(rankme(&Tensor::eye(2, (Kind::Float, Device::Cpu)), EPS).unwrap(), 1.99999988, 1e-8);
    near(rankme(&Tensor::from_slice2(&[[3f64, 0.], [0., 1.]]), EPS).unwrap(), 1.75476529, 1e-8);
    near(rankme(&Tensor::ones([4, 3], (Kind::Float, Device::Cpu)), EPS).unwrap(), 1.00000312, 1e-8);
    near(rankme_from_singular_values(&[2.5; 128], EPS).unwrap(), 128.0063, 1e-4);
    let powers = |a: f64| (1..=128).map(|k| f64::from(k).powf(-a)).collect::<Vec<_>>();
    for (a, want) in [(0.5, 107.0531), (1.0, 46.9552), (2.0, 4.8682)] {
        near(rankme_from_singular_values(&powers(a), EPS).unwrap(), want, 1e-4);
    }
}

#[test]
fn a_full_matrix_has_numpys_value_uncentred_and_from_singular_values() {
    let z = cosines();
    let singular = singular_values(&z).unwrap();
    for (got, want) in singular.iter().zip([2.7971, 2.1188, 1.0643, 0.5801]) {
        near(*got, want, 5e-5);
    }
    near(rankme(&z, EPS).unwrap(), 3.448774707, 1e-8);
    let centred = &z - z.mean_dim([0i64].as_slice(), true, Kind::Double);
    near(rankme(&centred, EPS).unwrap(), 3.162664008, 1e-8);
    // Eigenvalues of the Gram matrix instead of their roots: a frequent deviation, and another number.
    let eigenvalues: Vec<f64> = singular.iter().map(|s| s * s).collect();
    near(rankme_from_singular_values(&eigenvalues, EPS).unwrap(), 2.671929852, 1e-8);
    near(effective_rank(&z).unwrap(), rankme(&z, 0.0).unwrap(), 1e-12);
}

#[test]
fn scale_rotation_and_repetition_leave_it() {
    let (z, want) = (cosines(), 3.448774707);
    let rotation = |n| Tensor::linalg_qr(&Tensor::randn([n, n], (Kind::Double, Device::Cpu)), "reduced").0;
    near(rankme(&(&z * 1e4), EPS).unwrap(), want, 1e-8);
    near(rankme(&z.matmul(&rotation(4)), EPS).unwrap(), want, 1e-8);
    near(rankme(&rotation(6).matmul(&z), EPS).unwrap(), want, 1e-8);
    near(rankme(&Tensor::cat(&[&z, &z], 0), EPS).unwrap(), want, 1e-8);
    // And wide matrices are as good as tall ones.
    near(rankme(&z.tr().contiguous(), EPS).unwrap(), want, 1e-8);
}

#[test]
fn noise_fills_all_directions_as_rows_come() {
    tch::manual_seed(0);
    let z = Tensor::randn([8192, 64], (Kind::Float, Device::Cpu));
    for (n, want) in [(256, 61.9), (1024, 63.5), (8192, 63.9)] {
        near(rankme(&z.narrow(0, 0, n), EPS).unwrap(), want, 0.2);
    }
}

#[test]
fn nearly_collapsed_f32_embeddings_give_the_f64_value() {
    tch::manual_seed(1);
    // 1 direction in 256 but for a part of 1e-5.
    let strong = Tensor::randn([2048, 1], (Kind::Double, Device::Cpu))
        .matmul(&Tensor::randn([1, 256], (Kind::Double, Device::Cpu)));
    let z = strong + Tensor::randn([2048, 256], (Kind::Double, Device::Cpu)) * 1e-5;
    let (_, exact, _) = z.svd(true, false);
    let exact = rankme_from_singular_values(&Vec::<f64>::try_from(exact).unwrap(), EPS).unwrap();
    near(rankme(&z, EPS).unwrap(), exact, 1e-6 * exact);
    near(rankme(&z.to_kind(Kind::Float), EPS).unwrap(), exact, 1e-4 * exact);
}

#[test]
fn batches_add_up_to_the_whole() {
    let z = cosines();
    let mut batches = RankMeAccumulator::new(4, EPS, Device::Cpu).unwrap();
    for part in z.split(4, 0) {
        batches.push(&part).unwrap();
    }
    near(batches.finish().unwrap(), rankme(&z, EPS).unwrap(), 1e-12);
    assert!(batches.push(&z.tr()).is_err());
    assert!(RankMeAccumulator::new(4, -1.0, Device::Cpu).is_err());
}

#[test]
fn other_ranks_of_a_hand_computed_spectrum() {
    let s = [4.0, 2.0, 1.0, 0.01];
    assert_eq!(classical_rank(&s, 1e-2).unwrap(), 3);
    assert_eq!(classical_rank(&s, 0.3).unwrap(), 2);
    assert!(classical_rank(&s, 1.0).is_err());
    near(stable_rank(&[4.0, 2.0, 2.0]), 24.0 / 16.0, 1e-12);
    near(participation_ratio(&[2.0, 2.0, 0.0]), 2.0, 1e-12);
}

#[test]
fn alpha_is_the_exponent_of_a_power_law() {
    let law: Vec<f64> = (1..=200).map(|i| 7.0 * f64::from(i).powf(-1.5)).collect();
    near(power_law_decay(&law, 10..100).unwrap(), 1.5, 1e-12);
    // Eigenvalues i^-1 of a covariance: orthogonal columns of those lengths, on rows whose mean is 0.
    let basis = {
        let random = Tensor::randn([64, 24], (Kind::Double, Device::Cpu));
        let centred = &random - random.mean_dim([0i64].as_slice(), true, Kind::Double);
        Tensor::linalg_qr(&centred, "reduced").0
    };
    let lengths = Tensor::arange(24, (Kind::Double, Device::Cpu)) + 1.0;
    let features = basis * lengths.pow_tensor_scalar(-0.5) + 3.0;
    near(alpha_req(&features, 3..20).unwrap(), 1.0, 1e-9);
    assert!(power_law_decay(&law[..11], 10..100).is_err());
}

#[test]
fn runs_are_chosen_by_rank_by_alpha_and_by_the_oracle() {
    let run = |value, rankme, alpha, accuracy| Candidate { value, rankme, alpha, accuracy };
    let runs =
        [run(0.1, 5.0, 2.0, 60.0), run(1.0, 9.8, 1.4, 82.0), run(5.0, 9.9, 0.9, 80.0), run(10.0, 10.0, 0.5, 75.0)];
    let value = |rule| select(&runs, rule).unwrap().value;
    assert_eq!(value(Selection::RankMe { tolerance: 0.0 }), 10.0);
    // Rank grows with the value: of those that share the highest, the smallest.
    assert_eq!(value(Selection::RankMe { tolerance: 0.03 }), 1.0);
    assert_eq!(value(Selection::AlphaReq), 5.0);
    assert_eq!(value(Selection::Oracle), 1.0);
    assert_eq!(value(Selection::Median), 1.0);
    let falling: Vec<Candidate> = runs.iter().map(|r| Candidate { value: -r.value, ..*r }).collect();
    assert_eq!(select(&falling, Selection::RankMe { tolerance: 0.03 }).unwrap().value, -1.0);
    assert!(select(&[], Selection::Oracle).is_err());
    assert!(select(&[run(1.0, f64::NAN, 1.0, 1.0)], Selection::RankMe { tolerance: 0.0 }).is_err());
}

#[test]
fn bad_embeddings_are_errors() {
    assert!(rankme(&Tensor::zeros([3, 3], (Kind::Float, Device::Cpu)), EPS).unwrap_err().to_string().contains("zero"));
    assert!(rankme(&(cosines() / 0.0), EPS).unwrap_err().to_string().contains("finite"));
    assert!(rankme(&Tensor::zeros([3], (Kind::Float, Device::Cpu)), EPS).is_err());
    assert!(rankme(&cosines(), -1e-7).is_err());
}
