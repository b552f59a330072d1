//! Mixed Barlow Twins against the formula written out elsewhere, its identities and bad input.

use autodidact_core::device::Precision;
use autodidact_core::seed::rng;
use autodidact_core::testing::{assert_close, check_gradient, fixture};
use autodidact_ssl::barlow_twins::{BarlowTwinsLoss, Standardise, cross_correlation};
use autodidact_ssl::mixed_barlow_twins::{Mix, MixedBarlowTwins, MixedBarlowTwinsOutput};
use tch::{Device, Kind, Tensor};

const EXACT: Standardise = Standardise::Batch { unbiased: false, eps: 0.0 };

fn value(t: &Tensor) -> f64 {
    t.double_value(&[])
}

fn worked() -> ([Tensor; 2], Mix) {
    let za = Tensor::from_slice2(&[[1f64, 2.], [-1., 0.], [2., -2.], [-2., 1.]]);
    let zb = Tensor::from_slice2(&[[1f64, 1.], [-1., 1.], [2., -1.], [-2., 0.]]);
    ([za, zb], Mix::new(0.3, &[2, 0, 3, 1]).unwrap())
}

/// Views and embeddings of mixtures that follow the mixing, but not exactly.
fn views(n: i64, d: i64, kind: Kind) -> ([Tensor; 3], Mix) {
    tch::manual_seed(5);
    let noise = |scale: f64| Tensor::randn([n, d], (kind, Device::Cpu)) * scale;
    let base = noise(1.0);
    let (za, zb) = (&base + noise(0.3), &base + noise(0.3));
    let shifted: Vec<i64> = (0..n).map(|i| (i + 1) % n).collect();
    let mix = Mix::new(0.35, &shifted).unwrap();
    let zm = mix.apply(&za, &zb).unwrap() + noise(0.3);
    ([za, zb, zm], mix)
}

fn standardised(z: &Tensor) -> Tensor {
    let z = z - z.mean_dim([0i64].as_slice(), true, z.kind());
    let variance = z.square().mean_dim([0i64].as_slice(), true, z.kind());
    z / variance.sqrt()
}

#[test]
fn the_worked_example() {
    let ([za, zb], mix) = worked();
    let config = MixedBarlowTwins { standardise: EXACT, ..Default::default() };
    let [g_ma, g_mb] = config.targets(&za, &zb, &mix).unwrap();
    assert_close("G^MA", &g_ma, &Tensor::from_slice2(&[[0.230000, 0.395547], [-0.662224, 0.121623]]), 1e-5);
    assert_close("G^MB", &g_mb, &Tensor::from_slice2(&[[0.230000, 0.553008], [-0.662224, 0.165705]]), 1e-5);
    let is = |out: &MixedBarlowTwinsOutput, a: f64, b: f64| {
        assert!((value(&out.reg_a) - a).abs() < 1e-6 && (value(&out.reg_b) - b).abs() < 1e-6, "{out:?}");
    };
    let mixture = mix.apply(&standardised(&za), &standardised(&zb)).unwrap();
    is(&config.forward(&za, &zb, &mixture, &mix).unwrap(), 0.121103, 0.143434);

    let zm = Tensor::from_slice2(&[[1f64, 0.], [0., 1.], [-1., 0.], [0., -1.]]);
    let out = config.forward(&za, &zb, &zm, &mix).unwrap();
    is(&out, 1.434851, 1.148296);
    assert!((value(&(&out.total - &out.twins.total)) - 0.0807233).abs() < 1e-6);
    let imagenet = MixedBarlowTwins { lambda_bt: 0.0051, lambda_reg: 1.0, half: true, ..config };
    let out = imagenet.forward(&za, &zb, &zm, &mix).unwrap();
    assert!((value(&(&out.total - &out.twins.total)) - 0.00658702).abs() < 1e-7);
}

#[test]
fn values_and_gradients_equal_the_formula_in_narrow_and_wide_embeddings() {
    let golden = fixture(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/mixed_barlow_twins.safetensors"));
    let unbiased = Standardise::Batch { unbiased: true, eps: 0.0 };
    let official = MixedBarlowTwins { standardise: unbiased, row_norm: true, ..Default::default() };
    for shape in ["narrow", "wide"] {
        let get = |name: &str| &golden[&format!("{shape}.{name}")];
        let perm: Vec<i64> = get("perm").try_into().unwrap();
        let mix = Mix::new(value(get("alpha")), &perm).unwrap();
        for (form, config) in [("default", MixedBarlowTwins::default()), ("official", official)] {
            for (kind, tolerance) in [(Kind::Double, 1e-9), (Kind::Float, 1e-4)] {
                let want = |name: &str| get(&format!("{form}.{name}"));
                let close = |name: &str, got: &Tensor| {
                    assert_close(&format!("{shape} {form} {kind:?} {name}"), got, want(name), tolerance);
                };
                let [a, b, m] =
                    ["za", "zb", "zm"].map(|z| get(z).to_kind(kind).detach().copy().set_requires_grad(true));
                let out = config.forward(&a, &b, &m, &mix).unwrap();
                out.total.backward();
                let [g_ma, g_mb] = config.targets(&a, &b, &mix).unwrap();
                for (name, got) in [
                    ("total", &out.total),
                    ("reg_a", &out.reg_a),
                    ("reg_b", &out.reg_b),
                    ("g_ma", &g_ma),
                    ("g_mb", &g_mb),
                    ("grad_a", &a.grad()),
                    ("grad_b", &b.grad()),
                    ("grad_m", &m.grad()),
                ] {
                    close(name, got);
                }
            }
        }
    }
}

#[test]
fn gradients_flow_through_every_embedding_the_targets_included() {
    for (n, d) in [(6, 3), (4, 11)] {
        let ([za, zb, zm], mix) = views(n, d, Kind::Double);
        for row_norm in [false, true] {
            let config = MixedBarlowTwins { lambda_bt: 0.3, row_norm, ..Default::default() };
            let total = |a: &Tensor, b: &Tensor, m: &Tensor| config.forward(a, b, m, &mix).unwrap().total;
            check_gradient(&za, 1e-7, |x| total(x, &zb, &zm));
            check_gradient(&zb, 1e-7, |x| total(&za, x, &zm));
            check_gradient(&zm, 1e-7, |x| total(&za, &zb, x));
        }
    }
}

#[test]
fn without_the_regulariser_it_is_barlow_twins() {
    // D x D products, N x N ones here alone, and N x N ones in both.
    for (n, d) in [(32, 8), (12, 16), (8, 40)] {
        let ([za, zb, zm], mix) = views(n, d, Kind::Double);
        let mixed = MixedBarlowTwins { lambda_reg: 0.0, ..Default::default() }.forward(&za, &zb, &zm, &mix).unwrap();
        let twins = BarlowTwinsLoss { lambda: 1.0 / 128.0, ..Default::default() }.forward(&za, &zb).unwrap();
        assert_close("total", &mixed.total, &twins.total, 1e-12);
        assert_close("on-diagonal", &mixed.twins.on_diag, &twins.on_diag, 1e-12);
        assert_close("off-diagonal", &mixed.twins.off_diag, &twins.off_diag, 1e-12);
    }
}

#[test]
fn embeddings_that_mix_as_pixels_do_cost_nothing_unless_they_are_standardised_again() {
    let ([za, zb, _], mix) = views(64, 4, Kind::Double);
    let (za, zb) = (standardised(&za), standardised(&zb));
    let mixture = mix.apply(&za, &zb).unwrap();
    let regulariser = |standardise, zm: &Tensor, mix: &Mix| {
        let out = MixedBarlowTwins { standardise, ..Default::default() }.forward(&za, &zb, zm, mix).unwrap();
        value(&out.reg_a) + value(&out.reg_b)
    };
    assert!(regulariser(Standardise::None, &mixture, &mix) < 1e-20);
    assert!(regulariser(EXACT, &mixture, &mix) > 1e-3);
    let whole = Mix::new(1.0, &(0..64).rev().collect::<Vec<_>>()).unwrap();
    assert!(regulariser(EXACT, &za, &whole) < 1e-20);
}

#[test]
fn the_regulariser_is_the_distance_of_correlations_and_targets() {
    for (n, d) in [(32, 6), (8, 30)] {
        let ([za, zb, zm], mix) = views(n, d, Kind::Double);
        let config = MixedBarlowTwins::default();
        let out = config.forward(&za, &zb, &zm, &mix).unwrap();
        let [g_ma, g_mb] = config.targets(&za, &zb, &mix).unwrap();
        for (z, g, got) in [(&za, g_ma, &out.reg_a), (&zb, g_mb, &out.reg_b)] {
            let c = cross_correlation(&zm, z, config.standardise).unwrap();
            assert_close("regulariser", got, &(c - g).square().sum(Kind::Double), 1e-10);
        }
    }
}

#[test]
fn images_are_mixed_by_one_weight_and_one_permutation() {
    let y = Tensor::arange(2 * 3 * 4, (Kind::Float, Device::Cpu)).view([2, 3, 2, 2]);
    let mix = Mix::new(0.25, &[1, 0]).unwrap();
    assert_close("mixed", &mix.apply(&y, &y).unwrap(), &(&y * 0.25 + y.flip([0]) * 0.75), 1e-6);
    let (ya, yb) = (&y + 1.0, &y * 2.0);
    let mean = Mix::new(0.5, &[0, 1]).unwrap().apply(&ya, &yb).unwrap();
    assert_close("mean of the views", &mean, &((&ya + &yb) / 2.0), 1e-6);
    // The other way round it makes the same mixtures in another order.
    let [a, b, _] = views(4, 3, Kind::Float).0;
    let there = Mix::new(0.3, &[2, 0, 3, 1]).unwrap().apply(&a, &b).unwrap();
    let back = Mix::new(0.7, &[1, 3, 0, 2]).unwrap().apply(&b, &a).unwrap();
    assert_close("swapped", &back, &there.index_select(0, &Tensor::from_slice(&[1i64, 3, 0, 2])), 1e-6);
}

#[test]
fn draws_follow_the_beta_distribution_and_their_generator() {
    let draw = |beta, i: u64| Mix::draw(10, beta, &mut rng(i, &["draw"])).unwrap();
    let alphas = |beta| (0..2000).map(|i| draw(beta, i).alpha()).collect::<Vec<_>>();
    for (beta, sd) in [(1.0, (1f64 / 12.0).sqrt()), (4.0, 1.0 / 6.0)] {
        let alphas = alphas(beta);
        let mean = alphas.iter().sum::<f64>() / 2000.0;
        let deviation = (alphas.iter().map(|a| (a - 0.5).powi(2)).sum::<f64>() / 2000.0).sqrt();
        assert!((mean - 0.5).abs() < 5.0 * sd / 2000f64.sqrt(), "{mean}");
        assert!((deviation / sd - 1.0).abs() < 0.1, "{deviation}");
    }
    let x = Tensor::arange(10, (Kind::Float, Device::Cpu)).view([10, 1]);
    let mixed = |i| draw(1.0, i).apply(&x, &x).unwrap();
    assert_eq!(mixed(3), mixed(3));
    assert_ne!(mixed(3), mixed(4));
}

#[test]
fn the_weight_warms_up_linearly() {
    let at = |step| MixedBarlowTwins::default().warmed(step, 10).lambda_reg;
    assert_eq!([0, 5, 10, 100].map(at), [0.0, 2.0, 4.0, 4.0]);
    assert_eq!(MixedBarlowTwins::default().warmed(0, 0).lambda_reg, 4.0);
}

#[test]
fn under_autocast_it_computes_in_f32() {
    for (n, d) in [(64, 16), (16, 64)] {
        let ([za, zb, zm], mix) = views(n, d, Kind::Float);
        let config = MixedBarlowTwins::default();
        let losses = || {
            let out = config.forward(&za, &zb, &zm, &mix)?;
            let [g_ma, _] = config.targets(&za, &zb, &mix)?;
            Ok([out.total, out.reg_a, out.reg_b, g_ma])
        };
        let plain = losses().unwrap();
        for (got, want) in Precision::Bf16.run(Device::Cpu, losses).unwrap().iter().zip(&plain) {
            assert_eq!(got.kind(), Kind::Float);
            assert_close("under autocast", got, want, 1e-6);
        }
        // Embeddings that come in bf16 cost their own rounding, no more.
        let narrow = [&za, &zb, &zm].map(|z| z.to_kind(Kind::BFloat16));
        let wide = [0, 1, 2].map(|i: usize| narrow[i].to_kind(Kind::Float));
        let [rounded, want] =
            [&narrow, &wide].map(|z| config.forward(&z[0], &z[1], &z[2], &mix).unwrap().total.detach());
        assert_close("rounded", &rounded, &want, 1e-6);
    }
}

#[test]
fn bad_input_gives_the_right_error() {
    let ([za, zb, zm], mix) = views(6, 3, Kind::Float);
    let config = MixedBarlowTwins::default();
    let fails = |config: MixedBarlowTwins, z: [&Tensor; 3], mix: &Mix| {
        config.forward(z[0], z[1], z[2], mix).unwrap_err().to_string()
    };
    let short = zm.narrow(0, 0, 5);
    assert_eq!(fails(config, [&za, &zb, &short], &mix), "zm: expected [6, 3], the shape of za, got shape [5, 3]");
    let other = Mix::new(0.5, &[1, 0]).unwrap();
    assert_eq!(fails(config, [&za, &zb, &zm], &other), "a: expected 2 samples, as many as are mixed, got shape [6, 3]");
    let negative = MixedBarlowTwins { lambda_reg: -1.0, ..config };
    assert!(fails(negative, [&za, &zb, &zm], &mix).starts_with("lambda_reg: expected a finite number"));
    let none = MixedBarlowTwins { lambda_bt: 0.0, ..config };
    assert!(fails(none, [&za, &zb, &zm], &mix).starts_with("lambda_bt: expected a finite number"));
    assert!(Mix::new(1.5, &[0]).unwrap_err().to_string().starts_with("alpha: expected a finite number"));
    let twice = Mix::new(0.5, &[0, 0]).unwrap_err().to_string();
    assert_eq!(twice, "partner: expected a permutation of 0..N, got [0, 0]");
    assert!(Mix::draw(4, 0.0, &mut rng(0, &[])).is_err());
    assert!(mix.apply(&za, &short).is_err());
    assert!(config.targets(&za, &short, &mix).is_err());
}
