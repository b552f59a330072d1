//! iSogCLR against LibAUC's values, the plain objective, its closed forms and bad input.

use autodidact_core::device::Precision;
use autodidact_core::testing::{assert_close, check_gradient};
use autodidact_ssl::isogclr::{Isogclr, TemperatureState, kl_to_uniform, optimal_tau, rgcl_value};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

/// `cos(0.37 (4i+j)^2 + 0.1 i)` and the same plus `0.3 sin(1.7 (4i+j) + 0.5)`, 3 x 4.
fn views() -> (Tensor, Tensor) {
    let a = |k: i32| (0.37 * f64::from(k * k) + 0.1 * f64::from(k / 4)).cos();
    let b = |k: i32| a(k) + 0.3 * (1.7 * f64::from(k) + 0.5).sin();
    let matrix = |f: &dyn Fn(i32) -> f64| Tensor::from_slice(&(0..12).map(f).collect::<Vec<_>>()).view([3, 4]);
    (matrix(&a), matrix(&b))
}

fn state(samples: i64, config: &Isogclr) -> (VarStore, TemperatureState) {
    let vs = VarStore::new(Device::Cpu);
    let state = TemperatureState::new(vs.root(), samples, config).unwrap();
    (vs, state)
}

fn numbers(t: &Tensor) -> Vec<f64> {
    t.to_kind(Kind::Double).try_into().unwrap()
}

fn near(got: &[f64], want: &[f64], tolerance: f64) {
    assert!(
        got.len() == want.len() && got.iter().zip(want).all(|(g, w)| (g - w).abs() < tolerance),
        "{got:?} {want:?}"
    );
}

/// LibAUC 2.0.1, `GCLoss_v1` with the same constants (it does not clip).
#[test]
fn two_steps_equal_those_of_libauc() {
    let (a, b) = views();
    let config = Isogclr { tau_init: 0.2, subtract_positive: false, clip: f64::INFINITY, ..Default::default() };
    let (_vs, mut state) = state(5, &config);
    let index = Tensor::from_slice(&[3i64, 0, 2]);
    let mut step = || config.forward(&a, &b, &index, &mut state).unwrap().surrogate.double_value(&[]);
    assert!((step() + 1.18005729).abs() < 1e-7);
    let of = |t: &Tensor| numbers(&t.index_select(0, &index));
    near(&of(&state.log_s.exp()), &[0.97346892, 8.82319725, 9.41221751], 1e-5);
    near(&of(&state.tau), &[0.19740331, 0.20391117, 0.20011077], 1e-7);
    near(&of(&state.momentum), &[0.08655648, -0.13037232, -0.00369219], 1e-6);
    let second = config.forward(&a, &b, &index, &mut state).unwrap().surrogate.double_value(&[]);
    assert!((second + 1.18771455).abs() < 1e-6, "{second}");
    near(&of(&state.tau), &[0.19358439, 0.20900520, 0.19949615], 1e-6);
    // The samples that were not in the batch are as they were.
    near(&[state.tau.double_value(&[1]), state.tau.double_value(&[4])], &[0.2, 0.2], 1e-7);
    assert!(state.log_s.double_value(&[1]).is_infinite());
    let fixed = Isogclr { eta: 0.0, ..config };
    let (_vs, mut state) = self::state(5, &fixed);
    let mut step = || fixed.forward(&a, &b, &index, &mut state).unwrap().surrogate.double_value(&[]);
    step();
    assert!((step() + 1.18289597).abs() < 1e-6, "with the temperatures fixed");
}

/// `tau log[1/n sum exp(h/tau)]`, mean over samples, sum over views, written out row by row.
fn plain(a: &Tensor, b: &Tensor, tau: f64) -> Tensor {
    let unit = |z: &Tensor| z / z.norm_scalaropt_dim(2.0, [1i64].as_slice(), true);
    let (a, b) = (unit(a), unit(b));
    let n = a.size()[0];
    let z = Tensor::cat(&[&a, &b], 0);
    let mut sum = Tensor::zeros([], (Kind::Double, Device::Cpu));
    for i in 0..2 * n {
        let (own, other) = (z.get(i), z.get((i + n) % (2 * n)));
        let others: Vec<i64> = (0..2 * n).filter(|j| j % n != i % n).collect();
        let h = z.index_select(0, &Tensor::from_slice(&others)).matmul(&own) - own.dot(&other);
        sum += (h / tau).exp().mean(Kind::Double).log() * tau;
    }
    sum / n as f64
}

#[test]
fn with_gamma_1_the_gradient_is_that_of_the_plain_objective() {
    tch::manual_seed(2);
    let [a, b] = [(); 2].map(|()| Tensor::randn([5, 3], (Kind::Double, Device::Cpu)));
    let index = Tensor::arange(5, (Kind::Int64, Device::Cpu));
    for subtract_positive in [true, false] {
        let config = Isogclr { gamma: 1.0, tau_init: 0.3, subtract_positive, ..Default::default() };
        let (_vs, mut state) = state(5, &config);
        let [x, want] = [(); 2].map(|()| a.copy().set_requires_grad(true));
        config.forward(&x, &b, &index, &mut state).unwrap().surrogate.backward();
        plain(&want, &b, 0.3).backward();
        // The state, and so the temperature, is in f32.
        assert_close("gradient", &x.grad(), &want.grad(), 1e-6);
        check_gradient(&a, 1e-6, |x| plain(x, &b, 0.3));
    }
}

#[test]
fn a_second_visit_averages_and_the_first_of_a_sample_does_not() {
    let (a, b) = views();
    let config = Isogclr { eta: 0.0, tau_init: 0.5, ..Default::default() };
    let (_vs, mut averaged) = state(4, &config);
    let index = Tensor::from_slice(&[0i64, 1, 2]);
    config.forward(&a, &b, &index, &mut averaged).unwrap();
    let first = numbers(&averaged.log_s.exp());
    // The same sample 0 and 1 beside the unseen sample 3, with other embeddings.
    let mixed = Tensor::from_slice(&[0i64, 1, 3]);
    let (_vs, mut fresh) = state(4, &config);
    config.forward(&(&a * &a), &b, &mixed, &mut fresh).unwrap();
    config.forward(&(&a * &a), &b, &mixed, &mut averaged).unwrap();
    let (batch, second) = (numbers(&fresh.log_s.exp()), numbers(&averaged.log_s.exp()));
    assert!((second[3] - batch[3]).abs() < 1e-6, "a first visit is not averaged");
    for i in 0..2 {
        // Both views average with the shared old value, so their mean does too.
        assert!((second[i] - (0.2 * first[i] + 0.8 * batch[i])).abs() < 1e-5);
    }
}

#[test]
fn temperatures_move_by_rho_less_the_divergence() {
    // Equal features: h = 0, the divergence is 0 and the gradient is rho.
    let z = Tensor::ones([4, 3], (Kind::Float, Device::Cpu));
    let config = Isogclr::default();
    let (_vs, mut state) = state(4, &config);
    let index = Tensor::arange(4, (Kind::Int64, Device::Cpu));
    let out = config.forward(&z, &z, &index, &mut state).unwrap();
    near(&numbers(&state.tau), &[0.1 - 0.03 * 0.5 * 0.4; 4], 1e-7);
    assert!(out.mean_kl.double_value(&[]).abs() < 1e-6 && (out.mean_tau.double_value(&[]) - 0.1).abs() < 1e-7);
    // In general: the derivative of the objective.
    tch::manual_seed(4);
    let h = Tensor::randn([6, 9], (Kind::Double, Device::Cpu)) - 1.0;
    let tau = Tensor::linspace(0.2, 1.5, 6, (Kind::Double, Device::Cpu));
    let leaf = tau.copy().set_requires_grad(true);
    rgcl_value(&h, &leaf, 0.4).unwrap().sum(Kind::Double).backward();
    assert_close("derivative", &leaf.grad(), &(kl_to_uniform(&h, &tau).unwrap().neg() + 0.4), 1e-10);
    check_gradient(&tau, 1e-6, |t| rgcl_value(&h, t, 0.4).unwrap().sum(Kind::Double));
}

#[test]
fn the_mean_gradient_of_the_views_is_clipped() {
    tch::manual_seed(8);
    let [a, b] = [(); 2].map(|()| Tensor::randn([6, 4], (Kind::Float, Device::Cpu)));
    let index = Tensor::arange(6, (Kind::Int64, Device::Cpu));
    let momentum = |clip: f64| {
        let config = Isogclr { clip, beta: 1.0, rho: 0.0, ..Default::default() };
        let (_vs, mut state) = state(6, &config);
        config.forward(&a, &b, &index, &mut state).unwrap();
        numbers(&state.momentum)
    };
    // With rho = 0 the gradient is minus the divergence, the mean over both views.
    let free = momentum(f64::INFINITY);
    assert!(free.iter().any(|g| *g < -1.3) && free.iter().any(|g| *g > -1.3), "{free:?}");
    near(&momentum(1.3), &free.iter().map(|g| g.max(-1.3)).collect::<Vec<_>>(), 1e-6);
}

#[test]
fn long_runs_on_fixed_features_end_at_the_optimal_temperatures() {
    tch::manual_seed(6);
    let [a, b] = [(); 2].map(|()| Tensor::randn([16, 4], (Kind::Float, Device::Cpu)));
    let b = &a + b * 0.3;
    let config = Isogclr { gamma: 1.0, eta: 0.02, rho: 0.3, tau_init: 0.5, tau_max: 5.0, ..Default::default() };
    let (_vs, mut state) = state(16, &config);
    let index = Tensor::arange(16, (Kind::Int64, Device::Cpu));
    let mut kl = 0.0;
    for _ in 0..2000 {
        kl = config.forward(&a, &b, &index, &mut state).unwrap().mean_kl.double_value(&[]);
    }
    assert!((kl - 0.3).abs() < 1e-3, "{kl}");
}

#[test]
fn optimal_temperatures_have_their_closed_forms() {
    // A fraction f of negatives with h = 0, the others with h = -1.
    for (rho, want) in
        [(0.1, [1.04076, 0.72486, 0.46302]), (0.4, [0.54540, 0.44272, 0.31731]), (1.0, [0.31498, 0.31571, 0.24950])]
    {
        for (share, want) in [20, 5, 1].into_iter().zip(want) {
            let h = -Tensor::ones([1, 100], (Kind::Double, Device::Cpu));
            let _ = h.narrow(1, 0, share).fill_(0.0);
            let tau = optimal_tau(&h, rho, 0.01, 5.0).unwrap();
            near(&numbers(&tau), &[want], 1e-5);
            near(&numbers(&kl_to_uniform(&h, &tau).unwrap()), &[rho], 1e-9);
        }
    }
    // A radius beyond log n pins the temperature to the lowest.
    let h = Tensor::from_slice(&[0f64, -1.0]).view([1, 2]);
    near(&numbers(&optimal_tau(&h, 1.0, 0.05, 1.0).unwrap()), &[0.05], 1e-9);
}

#[test]
fn small_temperatures_do_not_overflow() {
    let a = Tensor::from_slice2(&[[1f32, 0.], [-1., 0.01], [0.9, 0.4]]);
    let config = Isogclr { tau_init: 0.005, tau_min: 0.005, ..Default::default() };
    let (_vs, mut state) = state(3, &config);
    let index = Tensor::arange(3, (Kind::Int64, Device::Cpu));
    // Opposite views: h up to 2, h/tau up to 400.
    let leaf = a.copy().set_requires_grad(true);
    let out = config.forward(&leaf, &a.neg(), &index, &mut state).unwrap();
    out.surrogate.backward();
    assert!(leaf.grad().isfinite().all().int64_value(&[]) == 1 && state.log_s.isfinite().all().int64_value(&[]) == 1);
    assert!(numbers(&state.log_s).iter().any(|s| *s > 200.0));
}

#[test]
fn two_modalities_are_symmetric_and_mask_the_pair() {
    let (a, b) = views();
    let config = Isogclr { gamma: 1.0, tau_init: 0.2, ..Isogclr::bimodal() };
    let index = Tensor::from_slice(&[1i64, 0, 2]);
    let (_v1, mut images) = state(3, &config);
    let (_v2, mut texts) = state(3, &config);
    let one = config.forward_bimodal(&a, &b, &index, &mut images, &mut texts).unwrap();
    let (_v3, mut swapped_images) = state(3, &config);
    let (_v4, mut swapped_texts) = state(3, &config);
    let two = config.forward_bimodal(&b, &a, &index, &mut swapped_images, &mut swapped_texts).unwrap();
    assert_close("swapped", &one.surrogate, &two.surrogate, 1e-12);
    assert_eq!(numbers(&images.tau), numbers(&swapped_texts.tau));
    // Gradient of the plain objective of both sides, the pair itself not among the negatives.
    let objective = |x: &Tensor| {
        let unit = |z: &Tensor| z / z.norm_scalaropt_dim(2.0, [1i64].as_slice(), true);
        let s = unit(x).matmul(&unit(&b).tr());
        let off = Tensor::eye(3, (Kind::Bool, Device::Cpu));
        let side = |s: &Tensor| {
            let h = (s - s.diagonal(0, 0, 1).unsqueeze(1)) / 0.2;
            let log_mean = h.masked_fill(&off, f64::NEG_INFINITY).logsumexp([1i64].as_slice(), false) - 2f64.ln();
            (log_mean * 0.2).mean(Kind::Double)
        };
        side(&s) + side(&s.tr())
    };
    let (_v5, mut images) = state(3, &config);
    let (_v6, mut texts) = state(3, &config);
    let [x, want] = [(); 2].map(|()| a.copy().set_requires_grad(true));
    config.forward_bimodal(&x, &b, &index, &mut images, &mut texts).unwrap().surrogate.backward();
    objective(&want).backward();
    assert_close("gradient", &x.grad(), &want.grad(), 1e-6);
}

#[test]
fn autocast_changes_nothing_and_the_state_is_the_stores() {
    let (a, b) = views();
    let (a, b) = (a.to_kind(Kind::Float), b.to_kind(Kind::Float));
    let config = Isogclr::default();
    let index = Tensor::from_slice(&[0i64, 1, 2]);
    let (_vs, mut plain) = state(3, &config);
    let want = config.forward(&a, &b, &index, &mut plain).unwrap();
    let (vs, mut cast) = state(3, &config);
    let got = Precision::Bf16.run(Device::Cpu, || config.forward(&a, &b, &index, &mut cast)).unwrap();
    assert_eq!(got.surrogate.kind(), Kind::Float);
    assert_close("surrogate", &got.surrogate, &want.surrogate, 1e-6);
    assert_eq!(vs.variables()["tau"], cast.tau);
    assert_eq!(vs.trainable_variables().len(), 0);
}

#[test]
fn bad_input_is_an_error() {
    let (a, b) = views();
    let config = Isogclr::default();
    let (_vs, mut state) = state(3, &config);
    let error = |r: autodidact_core::Result<autodidact_ssl::isogclr::IsogclrOutput>| r.unwrap_err().to_string();
    let index = Tensor::from_slice(&[0i64, 1]);
    assert!(error(config.forward(&a, &b, &index, &mut state)).starts_with("index: expected [3]"));
    let index = Tensor::from_slice(&[0i64, 1, 2]);
    assert!(error(config.forward(&a, &b.narrow(0, 0, 2), &index, &mut state)).starts_with("zb"));
    let bad = Isogclr { gamma: 0.0, ..config };
    assert!(error(bad.forward(&a, &b, &index, &mut state)).starts_with("gamma"));
    assert!(TemperatureState::new(VarStore::new(Device::Cpu).root(), 0, &config).is_err());
    assert!(optimal_tau(&a, 0.4, 1.0, 0.5).is_err());
    assert!(rgcl_value(&a, &Tensor::ones([2], (Kind::Double, Device::Cpu)), 0.4).is_err());
}
