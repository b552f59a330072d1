//! The losses against independent implementations, their identities and bad input.

use autodidact_core::device::Precision;
use autodidact_core::testing::{assert_close, check_gradient, fixture};
use autodidact_ssl::barlow_twins::{
    BarlowTwinsLoss, Form, Recipe, Redundancy, Standardise, cross_correlation, off_diagonal, partial_correlation,
};
use autodidact_ssl::contrastive::{info_nce, nt_xent};
use autodidact_ssl::siamese::simsiam;
use autodidact_ssl::vicreg::Vicreg;
use tch::{Device, Kind, Tensor, nn};

const EXACT: Standardise = Standardise::Batch { unbiased: false, eps: 0.0 };

fn worked() -> (Tensor, Tensor) {
    let za = Tensor::from_slice2(&[[1f32, 2.], [-1., 0.], [2., -2.], [-2., 1.]]);
    let zb = Tensor::from_slice2(&[[1f32, 1.], [-1., 1.], [2., -1.], [-2., 0.]]);
    (za, zb)
}

fn views(n: i64, d: i64) -> (Tensor, Tensor) {
    tch::manual_seed(3);
    let base = Tensor::randn([n, d], (Kind::Float, Device::Cpu));
    let noise = || Tensor::randn([n, d], (Kind::Float, Device::Cpu)) * 0.3;
    (&base + noise(), &base + noise())
}

fn value(t: &Tensor) -> f64 {
    t.double_value(&[])
}

fn loss(config: BarlowTwinsLoss, za: &Tensor, zb: &Tensor) -> f64 {
    value(&config.forward(za, zb).unwrap().total)
}

#[test]
fn losses_and_gradients_equal_those_of_lightly() {
    let golden = fixture(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/losses.safetensors"));
    let bt =
        |a: &Tensor, b: &Tensor| BarlowTwinsLoss { lambda: 5e-3, ..Default::default() }.forward(a, b).unwrap().total;
    type Loss<'a> = &'a dyn Fn(&Tensor, &Tensor) -> Tensor;
    let weighted = Vicreg { invariance: 5.0, variance: 10.0, covariance: 2.0, ..Default::default() };
    let losses: [(&str, Loss); 6] = [
        ("barlow_twins", &bt),
        ("nt_xent", &|a, b| nt_xent(a, b, 0.5).unwrap()),
        ("nt_xent_cold", &|a, b| nt_xent(a, b, 0.05).unwrap()),
        ("simsiam", &|a, b| simsiam(a, b).unwrap()),
        ("vicreg", &|a, b| Vicreg::default().forward(a, b).unwrap().total),
        ("vicreg_weighted", &|a, b| weighted.forward(a, b).unwrap().total),
    ];
    for (name, loss) in losses {
        let a = golden["za"].copy().set_requires_grad(true);
        let b = golden["zb"].copy().set_requires_grad(true);
        let value = loss(&a, &b);
        assert_close(name, &value, &golden[&format!("{name}.loss")], 2e-5);
        value.backward();
        for (side, t) in [("a", &a), ("b", &b)] {
            match golden.get(&format!("{name}.grad_{side}")) {
                Some(want) => assert_close(&format!("{name} grad {side}"), &t.grad(), want, 1e-4),
                None => assert!(!t.grad().defined(), "{name}: no gradient may reach side {side}"),
            }
        }
    }
}

#[test]
fn values_and_gradients_equal_the_formula_in_narrow_and_wide_embeddings() {
    // Wider than twice the batch, the loss is computed from N x N matrices.
    for (n, d) in [(6, 3), (4, 11)] {
        let (za, zb) = views(n, d);
        let (za, zb) = (za.to_kind(Kind::Double), zb.to_kind(Kind::Double));
        for form in [Form::Full, Form::InvarianceOnly, Form::RedundancyOnly, Form::CrossEntropy { tau: 0.7 }] {
            let config = BarlowTwinsLoss { lambda: 0.3, form, ..Default::default() };
            let want = value(&reference_loss(&config, &za, &zb));
            assert!((loss(config, &za, &zb) - want).abs() < 1e-12 * want.abs().max(1.0), "{form:?}, D = {d}");
            check_gradient(&za, 1e-7, |x| config.forward(x, &zb).unwrap().total);
            check_gradient(&zb, 1e-7, |x| config.forward(&za, x).unwrap().total);
        }
    }
}

/// The formula written out in f64, entry by entry.
fn reference_loss(config: &BarlowTwinsLoss, za: &Tensor, zb: &Tensor) -> Tensor {
    let std = |z: &Tensor| {
        let z = z - z.mean_dim([0i64].as_slice(), true, Kind::Double);
        let variance = z.square().mean_dim([0i64].as_slice(), true, Kind::Double);
        z / (variance + 1e-5).sqrt()
    };
    let (n, d) = za.size2().unwrap();
    let c = std(za).tr().matmul(&std(zb)) / n as f64;
    let eye = Tensor::eye(d, (Kind::Double, Device::Cpu));
    let on = ((&c - &eye) * &eye).square().sum(Kind::Double);
    let rest = eye.ones_like() - &eye;
    let off = (&c * &rest).square().sum(Kind::Double);
    match config.form {
        Form::Full => on + off * config.lambda,
        Form::InvarianceOnly => on,
        Form::RedundancyOnly => off,
        Form::CrossEntropy { tau } => {
            let diagonal = (c.diagonal(0, 0, 1) / tau).exp().sum(Kind::Double).log();
            let others = ((c.clamp_min(0.0) / tau).exp() * &rest).sum(Kind::Double).log();
            others * config.lambda - diagonal
        }
    }
}

#[test]
fn sums_of_millions_of_entries_keep_their_precision() {
    let (za, zb) = views(1024, 2048);
    let config = BarlowTwinsLoss::default();
    let exact = loss(config, &za.to_kind(Kind::Double), &zb.to_kind(Kind::Double));
    let got = loss(config, &za, &zb);
    assert!((got / exact - 1.0).abs() < 1e-5, "{got} {exact}");
}

#[test]
fn vicreg_equals_its_formula_in_narrow_and_wide_embeddings() {
    let formula = |a: &Tensor, b: &Tensor| {
        let (n, d) = a.size2().unwrap();
        let part = |z: &Tensor| {
            let z = z - z.mean_dim([0i64].as_slice(), true, Kind::Double);
            let cov = z.tr().matmul(&z) / (n - 1) as f64;
            let variance = cov.diagonal(0, 0, 1);
            let hinge = ((&variance + 1e-4).sqrt().neg() + 1.0).clamp_min(0.0).mean(Kind::Double);
            (hinge, (cov.square().sum(Kind::Double) - variance.square().sum(Kind::Double)) / d as f64)
        };
        let ((va, ca), (vb, cb)) = (part(a), part(b));
        (a - b).square().mean(Kind::Double) * 25.0 + (va + vb) * 12.5 + ca + cb
    };
    for (n, d) in [(8, 3), (4, 11)] {
        let (za, zb) = views(n, d);
        // Some units above the hinge, some below.
        let scale = Tensor::linspace(0.3, 2.0, d, (Kind::Double, Device::Cpu));
        let (za, zb) = (za.to_kind(Kind::Double) * &scale, zb.to_kind(Kind::Double) * &scale);
        let loss = |a: &Tensor, b: &Tensor| Vicreg::default().forward(a, b).unwrap().total;
        assert_close("loss", &loss(&za, &zb), &formula(&za, &zb), 1e-12);
        check_gradient(&za, 1e-6, |x| loss(x, &zb));
        check_gradient(&zb, 1e-6, |x| loss(&za, x));
    }
    let (za, zb) = views(8, 3);
    assert!(Vicreg { covariance: -1.0, ..Default::default() }.forward(&za, &zb).is_err());
    // Collapse costs the variance term alone, and its gradient is finite.
    let constant = Tensor::ones([8, 3], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    let out = Vicreg::default().forward(&constant, &constant).unwrap();
    assert!((value(&out.variance) - 0.99).abs() < 1e-6 && value(&out.covariance) == 0.0);
    out.total.backward();
    assert_eq!(value(&constant.grad().isfinite().all().to_kind(Kind::Float)), 1.0);
}

#[test]
fn the_worked_example() {
    let (za, zb) = worked();
    let config = BarlowTwinsLoss { lambda: 5e-3, standardise: EXACT, ..Default::default() };
    let out = config.forward(&za, &zb).unwrap();
    let want = Tensor::from_slice2(&[[1.0, -0.381385], [-0.427618, 0.764471]]);
    assert_close("C", &cross_correlation(&za, &zb, EXACT).unwrap(), &want, 1e-6);
    assert!((value(&out.on_diag) - 0.055474).abs() < 1e-6);
    assert!((value(&out.off_diag) - 0.328312).abs() < 1e-6);
    assert!((loss(BarlowTwinsLoss { lambda: 0.0051, ..config }, &za, &zb) - 0.0571484).abs() < 1e-6);
    let unbiased = BarlowTwinsLoss { standardise: Standardise::Batch { unbiased: true, eps: 0.0 }, ..config };
    assert!((loss(unbiased, &za, &zb) - 0.2454510).abs() < 1e-6);
    let ce = BarlowTwinsLoss { form: Form::CrossEntropy { tau: 1.0 }, lambda: 1.0, ..config };
    assert!((loss(ce, &za, &zb) + 0.889154).abs() < 1e-6);
}

#[test]
fn affine_maps_of_units_leave_the_loss_and_swapping_views_transposes_c() {
    let (za, zb) = views(32, 5);
    let config = BarlowTwinsLoss::default();
    let reference = loss(config, &za, &zb);
    let scale = Tensor::from_slice(&[0.5f32, 2.0, 3.0, 1.0, 7.0]);
    assert!((loss(config, &(&za * &scale + 4.0), &zb) - reference).abs() < 1e-3 * reference);
    let flip = Tensor::from_slice(&[1f32, -1.0, 1.0, 1.0, 1.0]);
    assert!((loss(config, &(&za * &flip), &(&zb * &flip)) - reference).abs() < 1e-5 * reference);
    let c = |a: &Tensor, b: &Tensor| cross_correlation(a, b, config.standardise).unwrap();
    assert_close("C transposed", &c(&za, &zb).tr(), &c(&zb, &za), 1e-5);
    assert!((loss(config, &zb, &za) - reference).abs() < 1e-5 * reference);
}

#[test]
fn a_constant_unit_costs_its_diagonal_term_and_is_no_nan() {
    let (za, zb) = views(32, 4);
    let _ = za.narrow(1, 2, 1).fill_(7.0);
    let config = BarlowTwinsLoss::default();
    assert!(cross_correlation(&za, &zb, config.standardise).unwrap().double_value(&[2, 2]).abs() < 1e-6);
    let za = za.set_requires_grad(true);
    let out = config.forward(&za, &zb).unwrap();
    assert!(value(&out.on_diag) > 1.0);
    out.total.backward();
    assert!(value(&za.grad().isnan().any().to_kind(Kind::Float)) == 0.0);
}

#[test]
fn uncorrelated_identical_views_cost_nothing_with_the_biased_variance_only() {
    // Columns of a Hadamard matrix without the first: mean 0, uncorrelated.
    let z = Tensor::from_slice2(&[[1f32, 1., 1.], [-1., 1., -1.], [1., -1., -1.], [-1., -1., 1.]]);
    let config = BarlowTwinsLoss { standardise: EXACT, ..Default::default() };
    assert!(loss(config, &z, &z).abs() < 1e-6);
    let unbiased = BarlowTwinsLoss { standardise: Standardise::Batch { unbiased: true, eps: 0.0 }, ..config };
    assert!((loss(unbiased, &z, &z) - 3.0 / 16.0).abs() < 1e-6); // D / N^2
}

#[test]
fn gradients_are_centred_and_orthogonal_to_the_centred_embeddings() {
    let (za, zb) = views(32, 6);
    let za = za.set_requires_grad(true);
    BarlowTwinsLoss::default().forward(&za, &zb).unwrap().total.backward();
    let g = za.grad();
    let columns = |t: Tensor| value(&t.sum_dim_intlist([0i64].as_slice(), false, Kind::Float).abs().max());
    let size = value(&g.abs().max());
    assert!(columns(g.shallow_clone()) < 1e-4 * size);
    let centred = za.detach() - za.detach().mean_dim([0i64].as_slice(), true, Kind::Float);
    assert!(columns(&g * centred) < 1e-3 * size);
}

#[test]
fn shares_of_replicas_sum_to_the_whole() {
    let (za, zb) = views(24, 5);
    let config = BarlowTwinsLoss::default();
    let whole = config.forward(&za, &zb).unwrap();
    let standardised = |z: &Tensor| {
        let z = z - z.mean_dim([0i64].as_slice(), true, Kind::Float);
        let variance = z.square().mean_dim([0i64].as_slice(), true, Kind::Float);
        z / (variance + 1e-5).sqrt()
    };
    let (a, b) = (standardised(&za), standardised(&zb));
    let share = |from, len| partial_correlation(&a.narrow(0, from, len), &b.narrow(0, from, len), 24).unwrap();
    let c = share(0, 8) + share(8, 16);
    assert_close("C", &c, &cross_correlation(&za, &zb, config.standardise).unwrap(), 1e-5);
    let summed = config.of_summed(&c).unwrap();
    for (name, got, want) in [
        ("loss", &summed.total, &whole.total),
        ("on-diagonal", &summed.on_diag, &whole.on_diag),
        ("off-diagonal", &summed.off_diag, &whole.off_diag),
    ] {
        assert_close(name, got, want, 1e-5);
    }
    assert!(partial_correlation(&a, &b, 10).is_err());
    assert!(BarlowTwinsLoss { redundancy: Redundancy::Auto, ..config }.of_summed(&c).is_err());
}

#[test]
fn variants_do_what_they_say() {
    let (za, zb) = views(64, 4);
    let c = cross_correlation(&za, &zb, Standardise::None).unwrap();
    let centre = |z: &Tensor| z - z.mean_dim([0i64].as_slice(), true, Kind::Float);
    assert_close("covariance", &c, &(centre(&za).tr().matmul(&centre(&zb)) / 64.0), 1e-5);
    // Feature normalisation keeps the trace of C(Z, Z) at D.
    let c = cross_correlation(&za, &za, Standardise::BatchThenFeature).unwrap();
    assert!((value(&c.trace()) - 4.0).abs() < 1e-4);
    let auto = BarlowTwinsLoss { redundancy: Redundancy::Auto, ..Default::default() }.forward(&za, &zb).unwrap();
    let own = cross_correlation(&za, &za, BarlowTwinsLoss::default().standardise).unwrap();
    assert_close("auto", &auto.off_diag, &off_diagonal(&own).unwrap().square().sum(Kind::Float), 1e-5);
    let c = Tensor::arange(9, (Kind::Float, Device::Cpu)).view([3, 3]);
    assert_eq!(Vec::<f32>::try_from(off_diagonal(&c).unwrap()).unwrap(), [1., 2., 3., 5., 6., 7.]);
}

#[test]
fn losses_under_autocast_compute_in_f32() {
    let (za, zb) = views(128, 32);
    let losses = || {
        let twins = BarlowTwinsLoss::default().forward(&za, &zb)?.total;
        let c = cross_correlation(&za, &zb, EXACT)?;
        let share = partial_correlation(&za, &zb, 128)?;
        let vicreg = Vicreg::default().forward(&za, &zb)?.total;
        Ok([twins, c, share, nt_xent(&za, &zb, 0.1)?, info_nce(&za, &zb, 0.1)?, vicreg])
    };
    let plain = losses().unwrap();
    let autocast = Precision::Bf16.run(Device::Cpu, || {
        assert_eq!(za.matmul(&zb.tr()).kind(), Kind::BFloat16);
        losses()
    });
    for (got, want) in autocast.unwrap().iter().zip(&plain) {
        assert_eq!(got.kind(), Kind::Float);
        assert_close("under autocast", got, want, 1e-6);
    }
    // Embeddings that come in bf16 cost their own rounding, no more.
    let (a, b) = (za.to_kind(Kind::BFloat16), zb.to_kind(Kind::BFloat16));
    let rounded = BarlowTwinsLoss::default().forward(&a, &b).unwrap().total;
    let (a, b) = (a.to_kind(Kind::Float), b.to_kind(Kind::Float));
    assert_close("rounded", &rounded, &BarlowTwinsLoss::default().forward(&a, &b).unwrap().total, 1e-6);
}

#[test]
fn the_recipe_gives_the_published_rates() {
    let s = Recipe::default().schedule(2048, 10, 1000);
    let rates = [5, 10, 505, 1000].map(|epoch| s.lr(epoch * 10));
    for (got, want) in rates.into_iter().zip([0.8, 1.6, 0.8008, 0.0016]) {
        assert!((got - want).abs() < 1e-9, "{got} {want}");
    }
    let vs = nn::VarStore::new(Device::Cpu);
    let w = vs.root().var("w", &[1, 2], nn::Init::Const(0.0));
    let b = vs.root().var("b", &[2], nn::Init::Const(0.0));
    let optimizer = Recipe::default().optimizer(&vs).unwrap();
    let biases = optimizer.groups().iter().find(|g| g.names == ["b"]).unwrap();
    assert!((biases.lr_scale * 1.6 - 0.0384).abs() < 1e-12 && biases.weight_decay == 0.0 && !biases.adapt);
    drop((w, b));
}

#[test]
fn one_lars_step_is_the_hand_computed_one() {
    let vs = nn::VarStore::new(Device::Cpu);
    let w = vs.root().var_copy("w", &Tensor::from_slice2(&[[3f32, 4.]]));
    (&w * Tensor::from_slice2(&[[0.6f32, 0.8]])).sum(Kind::Float).backward();
    let mut optimizer = Recipe::default().optimizer(&vs).unwrap();
    optimizer.step(1.0).unwrap();
    // q = 0.001 * 5 / |g + 1e-6 p| = 0.00499998; the step is q times the gradient.
    assert_close("p", &w.detach(), &Tensor::from_slice2(&[[3.0 - 0.003, 4.0 - 0.004]]), 1e-6);
}

#[test]
fn info_nce_is_half_of_a_symmetric_pair_and_both_refuse_bad_input() {
    let (q, _) = views(4, 3);
    let sharp = value(&info_nce(&q, &q, 0.01).unwrap());
    assert!(sharp < 0.05, "identical keys at a low temperature are found: {sharp}");
    let uniform = value(&info_nce(&q.ones_like(), &q.ones_like(), 0.1).unwrap());
    assert!((uniform - 4f64.ln()).abs() < 1e-5);
    let (za, zb) = views(8, 3);
    let e = nt_xent(&za, &zb.narrow(1, 0, 2), 0.5).unwrap_err();
    assert_eq!(e.to_string(), "zb: expected [8, 3], the shape of za, got shape [8, 2]");
    assert!(nt_xent(&za, &zb, 0.0).is_err());
    assert!(BarlowTwinsLoss { lambda: -1.0, ..Default::default() }.forward(&za, &zb).is_err());
    assert!(BarlowTwinsLoss { lambda: f64::NAN, ..Default::default() }.forward(&za, &zb).is_err());
    assert!(BarlowTwinsLoss::default().forward(&za.narrow(0, 0, 1), &zb.narrow(0, 0, 1)).is_err());
    assert!(cross_correlation(&za.view(-1), &zb, EXACT).is_err());
}
