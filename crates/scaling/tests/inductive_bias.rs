//! The inductive bias: laws of errors against exact values and SciPy, samplers against what they must satisfy.

use autodidact_core::kernel::Kernel;
use autodidact_core::stats::{mean, variance};
use autodidact_core::testing::fixture;
use autodidact_scaling::inductive_bias::{
    Architecture, GeneralizedChi2, GpPosterior, GpTask, HypothesisSampler, ScaledNcx2, TrainedEnsemble,
    architecture_bias, inductive_bias, ln_gamma_cdf, ln_normal_cdf,
};
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

fn golden() -> BTreeMap<String, Tensor> {
    fixture(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/inductive_bias.safetensors"))
}

fn rows(t: &Tensor) -> Vec<Vec<f64>> {
    Vec::try_from(t).unwrap()
}

fn column(v: &[f64]) -> Tensor {
    Tensor::from_slice(v).view([-1, 1])
}

#[track_caller]
fn near(got: f64, want: f64, tolerance: f64) {
    assert!((got - want).abs() <= tolerance, "{got} is not {want}");
}

/// The sheet's two points on a line.
fn line(test: &[f64]) -> GpPosterior {
    let ends = column(&[0.0, 1.0]);
    GpPosterior::new(Kernel::Rbf { gamma: 0.5 }, &ends, &ends, &column(test), 0.0).unwrap()
}

#[test]
fn distribution_functions_are_exact_where_scipy_underflows() {
    for row in rows(&golden()["cdf"]) {
        let got = ScaledNcx2::new(row[0], row[1], 0.01).unwrap().ln_cdf(row[2] * 0.01).unwrap();
        assert!((got - row[3]).abs() <= 1e-9 * row[3].abs().max(1e-3), "{row:?}: {got}");
    }
    for (z, want) in [(-3.0, -6.607726221510349), (-5.1, -15.588487091871466), (6.0, -9.865876455243758e-10)] {
        near(ln_normal_cdf(z), want, want.abs() * 1e-10);
    }
    // Where its two forms meet.
    near(ln_normal_cdf(-5.0 + 1e-12), ln_normal_cdf(-5.0 - 1e-12), 1e-10);
    for a in [0.3, 2.0, 40.0] {
        near(ln_gamma_cdf(a, a + 1.0 - 1e-9), ln_gamma_cdf(a, a + 1.0 + 1e-9), 1e-8);
    }
}

#[test]
fn sankaran_is_an_approximation_of_the_same() {
    for (df, nc, scale, eps, exact, approximate) in [
        (10.0, 5.0, 0.1, 0.3, 5.908226, 5.735124),
        (10.0, 5.0, 0.1, 0.8, 2.142446, 2.147230),
        (50.0, 20.0, 0.01, 0.3, 9.377459, 9.284192),
        (200.0, 100.0, 0.001, 0.15, 23.761075, 23.564284),
        (200.0, 100.0, 0.001, 0.02, 188.544130, 165.933313),
    ] {
        let e = ScaledNcx2::new(df, nc, scale).unwrap();
        near(-e.ln_cdf(eps).unwrap(), exact, 2e-6);
        near(-e.ln_cdf_sankaran(eps), approximate, 2e-6);
    }
}

#[test]
fn maximum_likelihood_finds_what_scipy_finds() {
    let golden = golden();
    let errors = Vec::<f64>::try_from(&golden["errors"]).unwrap();
    let want = Vec::<f64>::try_from(&golden["fit"]).unwrap();
    let fit = ScaledNcx2::fit(&errors).unwrap();
    // The likelihood is flat along df and nc: what is compared is what the fit says of the sample.
    near(fit.ks_distance(&errors).unwrap(), want[4], 1e-4);
    for (got, want) in [fit.df, fit.nc, fit.scale].iter().zip(&want) {
        assert!((got / want - 1.0).abs() < 0.02, "{fit:?}");
    }
    near(fit.scale * (fit.df + fit.nc), mean(&errors), 2e-3);
    let central = ScaledNcx2::fit_moments(&errors).unwrap();
    near(central.scale * central.df, mean(&errors), 1e-12);
    near(2.0 * central.scale.powi(2) * central.df, variance(&errors), 1e-12);
    // Three moments give back the distribution that they are of.
    let (df, nc, s) = (8.0, 20.0, 0.02);
    let cumulants = (s * (df + nc), 2.0 * s * s * (df + 2.0 * nc), 8.0 * s * s * s * (df + 3.0 * nc));
    let back = ScaledNcx2::of_three_moments(cumulants.0, cumulants.1, cumulants.2).unwrap();
    near(back.df, df, 1e-8);
    near(back.nc, nc, 1e-8);
    // Less skewed than any chi-squared: none.
    assert!(ScaledNcx2::of_three_moments(1.0, 1.0, 0.0).is_none());
}

#[test]
fn a_corner_of_the_likelihood_is_not_taken_for_a_fit() {
    // Twenty linear fits of one task, which differ by a hundredth: a likelihood started elsewhere ends at no degrees of freedom and gives
    // 3.4 nats to a target eighty deviations below their mean.
    let errors: Vec<f64> = (0..20).map(|i| 0.039 + 0.00034 * (1.7 * f64::from(i)).sin()).collect();
    let eps = mean(&errors) - 80.0 * variance(&errors).sqrt();
    let bias = inductive_bias(&errors, eps, 20, 0).unwrap();
    near(bias.deviations, 80.0, 1e-9);
    // A normal distribution gives 80^2/2 = 3200; a chi-squared, which is skewed, more.
    assert!((3200.0..10_000.0).contains(&bias.nats.value), "{bias:?}");
    assert!(bias.nats.low <= bias.nats.value && bias.nats.value <= bias.nats.high, "{bias:?}");
}

#[test]
fn a_gaussian_process_between_two_points_is_known_in_closed_form() {
    let posterior = line(&[0.5]);
    near(posterior.mean.double_value(&[0, 0]), 0.54931843, 1e-8);
    near(posterior.covariance.double_value(&[0, 0]), 0.03045637, 1e-8);
    // With one test point e is scale * ncx2(1, d^2/s^2).
    let (m, v) = (posterior.mean.double_value(&[0, 0]), posterior.covariance.double_value(&[0, 0]));
    for (target, eps, nats) in [(0.5, 0.01, 0.871937), (0.0, 0.01, 5.314857), (0.0, 0.1, 2.398711)] {
        let exact = ScaledNcx2::new(1.0, (m - target).powi(2) / v, v).unwrap();
        near(-exact.ln_cdf(eps).unwrap(), nats, 1e-6);
        // The saddle point's error is largest with a single term.
        let saddle = posterior.errors(&column(&[target])).unwrap();
        near(-saddle.ln_cdf(eps).unwrap(), nats, 0.06);
    }
    let two = line(&[0.5, 1.5]).errors(&column(&[0.5, 1.0])).unwrap();
    for (got, want) in two.cumulants().iter().zip([0.09553564, 0.01575229, 0.00554742]) {
        near(*got, want, 1e-8);
    }
    near(two.ln_cdf(0.05).unwrap().exp(), 0.5094, 0.02);
}

#[test]
fn the_saddle_point_is_close_with_many_terms_and_monotone() {
    // 50 equal terms of total non-centrality 20: the sum is a scaled non-central chi-squared.
    let (a, c) = (vec![0.02 / 50.0; 50], vec![0.02 * 20.0 / 50.0 / 50.0; 50]);
    let e = GeneralizedChi2::new(a, c).unwrap();
    let exact = ScaledNcx2::new(50.0, 20.0, 0.02 / 50.0).unwrap();
    near(-e.ln_cdf(0.006).unwrap(), 22.08194, 1e-5);
    near(-exact.ln_cdf(0.006).unwrap(), 22.08158, 1e-5);
    let [k1, k2, _] = e.cumulants();
    let mut last = f64::NEG_INFINITY;
    for step in 1..200 {
        // Through the mean and far to the right.
        let p = e.ln_cdf(k1 + (f64::from(step) / 20.0 - 5.0) * k2.sqrt()).unwrap();
        assert!(p >= last, "step {step}: {p} after {last}");
        last = p;
    }
    near(last, 0.0, 1e-4);
    near(e.ln_cdf(k1).unwrap().exp(), exact.ln_cdf(k1).unwrap().exp(), 1e-3);
    assert_eq!(e.ln_cdf(f64::INFINITY).unwrap(), 0.0);
    assert_eq!(e.ln_cdf(0.0).unwrap(), f64::NEG_INFINITY);
    // A constant term cannot be undercut.
    let shifted = GeneralizedChi2::new(vec![0.0, 1.0], vec![2.0, 0.5]).unwrap();
    assert_eq!(shifted.ln_cdf(1.9).unwrap(), f64::NEG_INFINITY);
    assert!(shifted.ln_cdf(2.1).unwrap().is_finite());
}

#[test]
fn samples_of_a_gaussian_process_follow_its_law() {
    let posterior = line(&[0.5, 1.5, 2.5]);
    let targets = column(&[0.5, 1.0, 0.0]);
    let law = posterior.errors(&targets).unwrap();
    let task = GpTask::new(&posterior, &targets).unwrap();
    let errors = task.sample_errors(20_000, 3).unwrap();
    let [k1, k2, _] = law.cumulants();
    near(mean(&errors), k1, 4.0 * (k2 / 20_000.0).sqrt());
    near(variance(&errors) / k2, 1.0, 0.1);
    assert_eq!(task.sample_errors(5, 3).unwrap(), task.sample_errors(5, 3).unwrap());
    assert_ne!(task.sample_errors(5, 3).unwrap(), task.sample_errors(5, 4).unwrap());
    // A test point of the training set has no variance, and a doubled test set the same errors.
    near(line(&[0.0]).covariance.double_value(&[0, 0]), 0.0, 1e-9);
    let twice = line(&[0.5, 1.5, 2.5, 0.5, 1.5, 2.5]).errors(&column(&[0.5, 1.0, 0.0, 0.5, 1.0, 0.0])).unwrap();
    for (a, b) in twice.cumulants().iter().zip(law.cumulants()) {
        near(*a, b, 1e-9);
    }
    near(twice.ln_cdf(0.3).unwrap(), law.ln_cdf(0.3).unwrap(), 1e-6);
    // Several outputs share the covariance.
    let wide = GpPosterior::new(
        Kernel::Rbf { gamma: 0.5 },
        &column(&[0.0, 1.0]),
        &Tensor::from_slice2(&[[0.0, 1.0], [1.0, 0.0]]),
        &column(&[0.5, 1.5, 2.5]),
        1e-10,
    )
    .unwrap();
    let targets = Tensor::zeros([3, 2], (Kind::Double, Device::Cpu));
    let law = wide.errors(&targets).unwrap().cumulants();
    let errors = GpTask::new(&wide, &targets).unwrap().sample_errors(5000, 0).unwrap();
    near(mean(&errors), law[0], 5.0 * (law[1] / 5000.0).sqrt());
}

fn regression(n: i64) -> (Tensor, Tensor) {
    let x = Tensor::linspace(-1.0, 1.0, n, (Kind::Float, Device::Cpu)).view([n, 1]);
    let y = (&x * 2.0).sin();
    (x, y)
}

#[test]
fn networks_side_by_side_learn_as_they_would_alone() {
    let (train, test) = (regression(24), regression(10));
    let ensemble = |architecture, epochs| TrainedEnsemble {
        architecture,
        inputs: (train.0.shallow_clone(), test.0.shallow_clone()),
        targets: (train.1.shallow_clone(), test.1.shallow_clone()),
        epochs,
        batch: 8,
        lr: 1e-2,
    };
    let fitted = ensemble(Architecture::Mlp(vec![16]), 150).train(5, 1).unwrap();
    // A constant leaves 0.6.
    assert!(fitted.train.iter().all(|e| *e < 2e-2), "{fitted:?}");
    assert!(fitted.test.windows(2).any(|w| w[0] != w[1]), "all alike: {fitted:?}");
    // The best line through sin(2x) on [-1, 1] leaves about 0.06.
    let line = ensemble(Architecture::Linear, 150).train(3, 1).unwrap();
    assert!(line.train.iter().all(|e| (0.005..0.05).contains(e)), "{line:?}");
    let spread = line.train.iter().fold(0.0f64, |m, e| m.max((e - line.train[0]).abs()));
    assert!(spread < 2e-3, "one line fits best: {line:?}");
    assert_eq!(
        ensemble(Architecture::Linear, 3).train(4, 9).unwrap(),
        ensemble(Architecture::Linear, 3).train(4, 9).unwrap()
    );
}

#[test]
fn convolutions_of_one_network_see_its_own_channels_only() {
    tch::manual_seed(0);
    let x = Tensor::rand([20, 1, 8, 8], (Kind::Float, Device::Cpu));
    // Whether the left half is brighter: learnable by a convolution.
    let halves = |from| x.narrow(3, from, 4).mean_dim([1i64, 2, 3].as_slice(), false, Kind::Float);
    let y = ((halves(0) - halves(4)) * 10.0).view([20, 1]);
    let of = |networks| {
        TrainedEnsemble {
            architecture: Architecture::ConvNet(vec![4, 6]),
            inputs: (x.shallow_clone(), x.shallow_clone()),
            targets: (y.shallow_clone(), y.shallow_clone()),
            epochs: 40,
            batch: 10,
            lr: 1e-2,
        }
        .train(networks, 2)
        .unwrap()
    };
    let three = of(3);
    let before = y.square().mean(Kind::Double).double_value(&[]);
    assert!(three.train.iter().all(|e| *e < 0.3 * before), "{three:?} of {before}");
    assert!(three.train[0] != three.train[1] && three.train[1] != three.train[2]);
    assert_eq!(three.train, three.test);
}

#[test]
fn bad_input_is_named() {
    let message = |e: autodidact_core::Error| e.to_string();
    assert!(message(inductive_bias(&[0.1; 7], 0.1, 0, 0).unwrap_err()).contains("at least 8"));
    assert!(message(ScaledNcx2::fit(&[0.1, 0.2, f64::NAN, 0.3, 0.1, 0.1, 0.1, 0.1]).unwrap_err()).contains("finite"));
    assert!(ScaledNcx2::fit(&[0.1; 20]).is_err(), "no spread");
    assert!(inductive_bias(&[0.1, 0.2, 0.1, 0.3, 0.1, 0.2, 0.1, 0.2], 0.0, 0, 0).is_err());
    assert!(ScaledNcx2::new(0.0, 1.0, 1.0).is_err());
    assert!(GeneralizedChi2::new(vec![1.0], vec![]).is_err());
    assert!(GeneralizedChi2::new(vec![0.0], vec![1.0]).is_err());
    assert!(GeneralizedChi2::new(vec![-1.0], vec![1.0]).is_err());
    assert!(line(&[0.5]).errors(&column(&[0.5, 0.6])).is_err());
    assert!(line(&[0.5]).errors(&column(&[f64::NAN])).is_err());
    assert!(architecture_bias(10.0, f64::INFINITY).is_err());
    assert_eq!(architecture_bias(10.0, 4.0).unwrap(), 6.0);
    let ends = column(&[0.0, 1.0]);
    assert!(
        message(GpPosterior::new(Kernel::Precomputed, &ends, &ends, &ends, 0.0).unwrap_err()).contains("precomputed")
    );
    let (x, y) = regression(12);
    let ensemble = TrainedEnsemble {
        architecture: Architecture::ConvNet(vec![4]),
        inputs: (x.shallow_clone(), x),
        targets: (y.shallow_clone(), y),
        epochs: 1,
        batch: 4,
        lr: 1e-2,
    };
    assert!(message(ensemble.train(2, 0).unwrap_err()).contains("[12, C, H, W]"));
    let deep = TrainedEnsemble { architecture: Architecture::Mlp(vec![0]), ..ensemble };
    assert!(deep.train(2, 0).is_err());
}
