//! Self-distillation against its closed forms, the paper's toy, scikit-learn, and bad input.

use autodidact_core::kernel::{Kernel, KernelRidge};
use autodidact_core::testing::{assert_close, check_gradient, fixture};
use autodidact_distill::teacher_guidance::*;
use tch::{Device, Kind, Tensor};

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);

const TOY: KernelRidge = KernelRidge { kernel: Kernel::Rbf { gamma: 80.0 }, lambda: 0.2 };

fn toy(schedule: AlphaSchedule) -> SelfDistilledKrr {
    let x = Tensor::linspace(0.0, 1.0, 11, F64).view([11, 1]);
    SelfDistilledKrr::new(TOY, &x, &Tensor::from_slice(&TOY_TARGETS).view([11, 1]), schedule).unwrap()
}

fn sine(x: &Tensor) -> Tensor {
    (x * (2.0 * std::f64::consts::PI)).sin()
}

fn mse(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).square().mean(Kind::Double).double_value(&[])
}

#[test]
fn the_hand_example() {
    let gram = Tensor::from_slice2(&[[2.0f64, 1.0], [1.0, 2.0]]);
    let y = Tensor::from_slice2(&[[1.0f64], [0.0]]);
    let krr = KernelRidge { kernel: Kernel::Precomputed, lambda: 1.0 };
    let mut chain = SelfDistilledKrr::new(krr, &gram, &y, AlphaSchedule::Constant(0.5)).unwrap();
    chain.run(2).unwrap();
    let want = |a: f64, b: f64| Tensor::from_slice2(&[[a], [b]]);
    assert_close("y1", &chain.train_predictions(1).unwrap(), &want(0.625, 0.125), 1e-14);
    assert_close("y2", &chain.train_predictions(2).unwrap(), &want(0.515625, 0.140625), 1e-14);
    let limit = chain.limit(0.5).unwrap().predict(&gram).unwrap();
    assert_close("limit", &limit, &want(0.4666666666666667, 0.13333333333333333), 1e-12);
    let b = chain.shrinkage(2).unwrap();
    assert!((b[0] - 0.375).abs() < 1e-14 && (b[1] - 0.65625).abs() < 1e-14);
}

#[test]
fn the_papers_toy_errors() {
    let at = Tensor::linspace(0.0, 1.0, 101, F64).view([101, 1]);
    for (alpha, want) in [
        (0.0, [0.16477, 0.15076, 0.14915, 0.15561, 0.16735, 0.18251, 0.49505]),
        (0.25, [0.16477, 0.15309, 0.14958, 0.14903, 0.14946, 0.15011, 0.15250]),
        (0.35, [0.16477, 0.15424, 0.15089, 0.14983, 0.14954, 0.14948, 0.14959]),
    ] {
        let mut chain = toy(AlphaSchedule::Constant(alpha));
        chain.run(6).unwrap();
        for (t, want) in want.iter().enumerate() {
            let model = if t < 6 { chain.model(t + 1) } else { chain.limit(alpha) }.unwrap();
            let got = mse(&model.predict(&at).unwrap(), &sine(&at));
            assert!((got - want).abs() < 5.1e-6, "alpha {alpha}, step {}: {got} {want}", t + 1);
        }
    }
}

#[test]
fn the_toys_optimal_weights() {
    let x = (Tensor::arange(10, F64) * 0.1 + 0.05).view([10, 1]);
    let mut chain = toy(AlphaSchedule::Optimal { x: x.shallow_clone(), y: sine(&x), clip: false });
    chain.run(5).unwrap();
    let want = [(-0.60163, 0.149569), (0.33875, 0.150017), (0.34168, 0.150288), (0.34234, 0.150436)];
    for (t, (alpha, error)) in (2..=5).zip(want) {
        assert!((chain.alphas()[t - 1] - alpha).abs() < 1e-5);
        let got = mse(&chain.model(t).unwrap().predict(&x).unwrap(), &sine(&x));
        assert!((got - error).abs() < 1e-6, "step {t}: {got}");
        // No other weight of a fine grid is better at this step.
        let (f, g) = chain.components(t, &x).unwrap();
        let best = (-100..=200)
            .map(|a| f64::from(a) / 100.0)
            .map(|a| mse(&(&f * a + &g * (1.0 - a)), &sine(&x)))
            .fold(f64::MAX, f64::min);
        assert!(got <= best + 1e-12);
    }
    for (alpha, error) in [(0.0, 0.151703), (1.0, 0.164695)] {
        let mut chain = toy(AlphaSchedule::Constant(alpha));
        chain.run(2).unwrap();
        assert!((mse(&chain.model(2).unwrap().predict(&x).unwrap(), &sine(&x)) - error).abs() < 1e-6);
    }
}

#[test]
fn chains_equal_scikit_learns() {
    let golden = fixture(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/krr.safetensors"));
    for (name, kernel) in [
        ("rbf", Kernel::Rbf { gamma: 0.3 }),
        ("laplacian", Kernel::Laplacian { gamma: 0.3 }),
        ("linear", Kernel::Linear),
    ] {
        let krr = KernelRidge { kernel, lambda: 0.2 };
        let mut chain = SelfDistilledKrr::new(krr, &golden["x"], &golden["y"], AlphaSchedule::Constant(0.3)).unwrap();
        chain.run(4).unwrap();
        for t in 1..=4 {
            let got = chain.model(t).unwrap().predict(&golden["at"]).unwrap();
            assert_close(&format!("{name}, step {t}"), &got, &golden[&format!("{name}.{t}")], 1e-10);
        }
    }
}

#[test]
fn recursion_closed_form_and_solves_agree_and_converge() {
    tch::manual_seed(4);
    let (x, y) = (Tensor::randn([40, 3], F64), Tensor::randn([40, 2], F64));
    let krr = KernelRidge { kernel: Kernel::Rbf { gamma: 0.5 }, lambda: 0.1 };
    for alpha in [0.0, 0.1, 0.5, 1.0] {
        let mut chain = SelfDistilledKrr::new(krr, &x, &y, AlphaSchedule::Constant(alpha)).unwrap();
        chain.run(200).unwrap();
        let (vectors, values) = chain.spectrum().unwrap();
        for t in 1..=20 {
            let closed = shrinkage_closed_form(values, 0.1, alpha, t as u32).unwrap();
            let recursion = chain.shrinkage(t).unwrap();
            closed.iter().zip(&recursion).for_each(|(a, b)| assert!((a - b).abs() < 1e-12));
            assert!(closed.iter().all(|b| (0.0..1.0).contains(b)));
            let spectral = vectors.matmul(&(Tensor::from_slice(&closed).unsqueeze(1) * vectors.tr().matmul(&y)));
            assert_close("y", &spectral, &chain.train_predictions(t).unwrap(), 1e-9);
        }
        let limit = chain.limit(alpha).unwrap().predict(&x).unwrap();
        let error = (chain.train_predictions(200).unwrap() - &limit).abs().max().double_value(&[]);
        if alpha > 0.0 {
            assert!(error < 1e-8, "alpha {alpha}: {error}");
            let steps = chain.steps_to_tolerance(alpha, 1e-6, 500).unwrap().unwrap();
            let distance = |t| (chain.train_predictions(t).unwrap() - &limit).abs().max().double_value(&[]);
            assert!(distance(steps) < 1e-6 && (steps == 1 || distance(steps - 1) >= 1e-6));
        } else {
            assert_eq!(chain.steps_to_tolerance(alpha, 1e-6, 3).unwrap(), None);
        }
    }
}

#[test]
fn weight_one_changes_nothing() {
    let mut chain = toy(AlphaSchedule::Constant(1.0));
    chain.run(4).unwrap();
    assert_close("steps", &chain.train_predictions(4).unwrap(), &chain.train_predictions(1).unwrap(), 1e-12);
}

#[test]
fn on_the_toy_ratios_pass_their_limit_by_two_percent_and_come_back() {
    let chain = toy(AlphaSchedule::Constant(0.25));
    let d = chain.spectrum().unwrap().1;
    let ratios = |t: u32| sparsity_ratios(d, &shrinkage_closed_form(d, 0.2, 0.25, t).unwrap(), 1e-10);
    let limit = sparsity_ratios(d, &limit_shrinkage(d, 0.2, 0.25).unwrap(), 1e-10);
    let above = |t: u32| ratios(t).iter().zip(&limit).map(|(a, b)| a / b - 1.0).fold(f64::NEG_INFINITY, f64::max);
    // The highest of all steps is the third, at the ratio of the two smallest modes.
    let highest = (1..=100).max_by(|s, t| above(*s).total_cmp(&above(*t))).unwrap();
    assert_eq!(highest, 3);
    assert!((above(3) - 0.01956285).abs() < 1e-8 && (ratios(3)[0] / limit[0] - 1.0 - above(3)).abs() < 1e-15);
    assert!(ratios(100).iter().zip(&limit).all(|(a, b)| (a / b - 1.0).abs() < 1e-10));
}

#[test]
fn ratios_of_random_spectra_stay_within_their_bounds() {
    tch::manual_seed(9);
    let random = |n: i64, low: f64, high: f64| -> Vec<f64> {
        (Tensor::rand([n], F64) * (high / low).ln() + low.ln()).exp().try_into().unwrap()
    };
    let mut highest = 0.0f64;
    for _ in 0..300 {
        let (lambda, mut d) = (random(1, 1e-3, 50.0)[0], random(30, 1e-5, 400.0));
        d.sort_by(f64::total_cmp);
        let alpha = Tensor::rand([1], F64).double_value(&[0]);
        let ratios =
            |alpha: f64, t: u32| sparsity_ratios(&d, &shrinkage_closed_form(&d, lambda, alpha, t).unwrap(), 0.0);
        let limit = sparsity_ratios(&d, &limit_shrinkage(&d, lambda, alpha).unwrap(), 0.0);
        let first = ratios(alpha, 1);
        for t in 1..=20 {
            for (((now, without), limit), first) in ratios(alpha, t).iter().zip(ratios(0.0, t)).zip(&limit).zip(&first)
            {
                let above = |bound: f64| now / bound - 1.0;
                assert!(above(*first) > -1e-12 && above(without) < 1e-12 && above(limit / alpha) < 1e-12);
                highest = highest.max(above(*limit));
            }
        }
    }
    // The limit's own ratio is passed by far.
    assert!(highest > 1.0, "{highest}");
}

#[test]
fn the_coefficients_minimise_the_step_objective() {
    tch::manual_seed(5);
    let (x, y) = (Tensor::randn([8, 2], F64), Tensor::randn([8, 1], F64));
    let kernel = Kernel::Rbf { gamma: 0.5 };
    let mut chain =
        SelfDistilledKrr::new(KernelRidge { kernel, lambda: 0.3 }, &x, &y, AlphaSchedule::Constant(0.4)).unwrap();
    chain.run(2).unwrap();
    let (gram, teacher) = (kernel.matrix(&x, &x).unwrap(), chain.train_predictions(1).unwrap());
    let objective = |beta: &Tensor| {
        let f = gram.matmul(beta);
        let square = |a: Tensor| a.square().sum(Kind::Double);
        square(&f - &y) * 0.2 + square(&f - &teacher) * 0.3 + (beta.tr().matmul(&f)).sum(Kind::Double) * 0.15
    };
    let beta = chain.model(2).unwrap().beta.copy().set_requires_grad(true);
    objective(&beta).backward();
    assert!(beta.grad().abs().max().double_value(&[]) < 1e-12);
}

#[test]
fn the_arc_cosine_kernel_is_that_of_random_relu_features() {
    tch::manual_seed(6);
    let x = Tensor::randn([5, 3], F64);
    let w = Tensor::randn([3, 400_000], F64);
    let features = x.matmul(&w).relu();
    let sampled = features.matmul(&features.tr()) * (2.0 / 400_000.0);
    assert_close("arc-cosine", &Kernel::ArcCosine.matrix(&x, &x).unwrap(), &sampled, 0.02);
}

#[test]
fn deep_losses_by_hand_and_by_finite_differences() {
    let onehot = Tensor::from_slice2(&[[1f32, 0.0]]);
    let teacher = Tensor::from_slice2(&[[0.75f32, 0.25]]);
    // Equal logits: probabilities (1/2, 1/2).
    let logits = Tensor::from_slice2(&[[0f32, 0.0]]);
    let loss =
        |alpha, kind| weighted_distillation_loss(&logits, &teacher, &onehot, alpha, kind).unwrap().double_value(&[]);
    assert!((loss(0.6, DistillationLoss::BrierSoftmax) - (0.6 * 0.25 + 0.4 * 0.0625)).abs() < 1e-7);
    assert!((loss(0.6, DistillationLoss::CrossEntropy) - 2f64.ln()).abs() < 1e-6);
    assert!((loss(0.0, DistillationLoss::LogitMse) - (0.75f64.powi(2) + 0.25f64.powi(2)) / 2.0).abs() < 1e-7);

    tch::manual_seed(7);
    let x = Tensor::randn([3, 4], F64);
    let teacher = Tensor::randn([3, 4], F64).softmax(1, Kind::Double);
    let onehot = Tensor::eye(4, F64).narrow(0, 0, 3);
    for kind in [DistillationLoss::BrierSoftmax, DistillationLoss::CrossEntropy, DistillationLoss::LogitMse] {
        let reference = |x: &Tensor| {
            let p = x.softmax(1, Kind::Double);
            match kind {
                DistillationLoss::BrierSoftmax => {
                    (&p - &onehot).square().mean(Kind::Double) * 0.3 + (&p - &teacher).square().mean(Kind::Double) * 0.7
                }
                DistillationLoss::LogitMse => {
                    (x - &onehot).square().mean(Kind::Double) * 0.3 + (x - &teacher).square().mean(Kind::Double) * 0.7
                }
                DistillationLoss::CrossEntropy => -((&onehot * 0.3 + &teacher * 0.7) * p.log()).sum(Kind::Double) / 3.0,
            }
        };
        let leaf = x.to_kind(Kind::Float).set_requires_grad(true);
        let t = teacher.to_kind(Kind::Float).set_requires_grad(true);
        weighted_distillation_loss(&leaf, &t, &onehot, 0.3, kind).unwrap().backward();
        assert!(!t.grad().defined(), "no gradient may reach the teacher");
        let leaf64 = x.copy().set_requires_grad(true);
        reference(&leaf64).backward();
        assert_close(&format!("{kind:?}"), &leaf.grad(), &leaf64.grad(), 1e-4);
        check_gradient(&x, 1e-6, reference);
    }
    let penalty = parameter_norm_penalty(&[Tensor::from_slice(&[3f32, 4.0]), Tensor::from_slice(&[0f32])]);
    assert!((penalty.double_value(&[]) - 5.0).abs() < 1e-5);
}

#[test]
fn the_deep_chain_hands_on_teachers_and_estimates_weights() {
    // Networks are stand-ins: a number whose "probabilities" are (p, 1 - p).
    let y = Tensor::from_slice2(&[[1.0f64, 0.0]]);
    let predict = |m: &f64| Ok(Tensor::from_slice2(&[[*m, 1.0 - *m]]));
    let train = |step: usize, alpha: f64, teacher: Option<&f64>| {
        Ok(match teacher {
            None => 1.25,
            Some(t) => alpha * 1.25 + (1.0 - alpha) * (t - 0.5 / (step - 1) as f64),
        })
    };
    let chain = SelfDistillation { steps: 3, alpha: GroundTruthWeight::Estimated }.run(train, predict, &y).unwrap();
    // Step 2: 1.25 from the ground truth and 0.75 from the teacher alone: half of each hits 1.
    assert!((chain[1].alpha - 0.5).abs() < 1e-12 && (chain[1].model - 1.0).abs() < 1e-12);
    assert!((chain[2].model - 1.0).abs() < 1e-12);
    let constant =
        SelfDistillation { steps: 3, alpha: GroundTruthWeight::Constant(0.0) }.run(train, predict, &y).unwrap();
    assert_eq!(constant.iter().map(|s| s.model).collect::<Vec<_>>(), [1.25, 0.75, 0.5]);
    assert!(SelfDistillation { steps: 0, alpha: GroundTruthWeight::Estimated }.run(train, predict, &y).is_err());
    assert!(
        SelfDistillation { steps: 3, alpha: GroundTruthWeight::PerStep(vec![1.0]) }.run(train, predict, &y).is_err()
    );
}

#[test]
fn bad_input_is_an_error() {
    let x = Tensor::zeros([4, 2], F64);
    let y = Tensor::zeros([4, 1], F64);
    let fit = |lambda, x: &Tensor, y: &Tensor| KernelRidge { kernel: Kernel::Rbf { gamma: 1.0 }, lambda }.fit(x, y);
    assert!(fit(0.0, &x, &y).unwrap_err().to_string().starts_with("lambda"));
    assert!(fit(1.0, &x, &y.narrow(0, 0, 3)).unwrap_err().to_string().contains("[4, C]"));
    assert!(fit(1.0, &(&x / 0.0), &y).unwrap_err().to_string().contains("finite"));
    assert!(fit(1.0, &x, &y).unwrap().predict(&Tensor::zeros([1, 3], F64)).is_err());
    assert!(optimal_alpha(&y, &y, &x, true).is_err());
    assert_eq!(optimal_alpha(&y, &y, &y, true).unwrap(), 1.0);
    assert!(shrinkage_closed_form(&[1.0], 1.0, 1.5, 2).is_err());
    assert!(shrinkage_recursion(&[-1.0], 1.0, &[1.0]).is_err());
    let mut chain = toy(AlphaSchedule::PerStep(vec![1.0, 0.5]));
    chain.run(2).unwrap();
    assert!(chain.step().unwrap_err().to_string().contains("at most 2"));
    assert!(chain.model(3).is_err() && chain.model(0).is_err());
    let logits = Tensor::zeros([2, 3], (Kind::Float, Device::Cpu));
    let bad =
        weighted_distillation_loss(&logits, &logits, &logits.narrow(1, 0, 2), 0.5, DistillationLoss::BrierSoftmax);
    assert!(bad.unwrap_err().to_string().contains("onehot"));
}
