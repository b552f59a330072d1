//! The fitting toolbox: planted constants, published points, identities.

use autodidact_core::seed;
use autodidact_scaling::fit::*;
use rand::RngExt;

fn close(got: f64, want: f64, relative: f64) {
    assert!((got - want).abs() <= relative * want.abs(), "got {got}, want {want}");
}

fn near(got: f64, want: f64, absolute: f64) {
    assert!((got - want).abs() <= absolute, "got {got}, want {want}");
}

fn least_squares() -> FitOptions {
    FitOptions { objective: Objective::LeastSquares, ..Default::default() }
}

/// Twenty of the Chinchilla runs as read from the figure: parameters, tokens, loss.
const CHINCHILLA: [(f64, f64, f64); 20] = [
    (7.382e7, 3.154e9, 3.406),
    (2.167e8, 4.148e9, 3.085),
    (1.397e8, 8.154e9, 3.012),
    (8.163e8, 1.897e9, 3.049),
    (3.056e8, 5.561e9, 2.915),
    (1.958e8, 1.909e10, 2.812),
    (6.322e8, 7.34e9, 2.737),
    (7.243e8, 7.536e9, 2.725),
    (2.167e8, 3.932e10, 2.704),
    (1.266e9, 7.712e9, 2.648),
    (5.525e8, 2.552e10, 2.578),
    (1.266e9, 1.288e10, 2.555),
    (1.266e9, 1.955e10, 2.517),
    (1.609e9, 2.205e10, 2.457),
    (8.163e8, 5.735e10, 2.435),
    (1.424e9, 4.455e10, 2.406),
    (4.516e9, 2.076e10, 2.388),
    (6.796e9, 2.277e10, 2.342),
    (4.516e9, 3.671e10, 2.304),
    (2.98e9, 1.466e11, 2.212),
];

fn chinchilla() -> Points {
    Points::new(CHINCHILLA.map(|(n, d, l)| ([n, d], l))).unwrap()
}

#[test]
fn twenty_published_runs_give_the_known_chinchilla_law() {
    let fitted = fit::<ChinchillaLaw>(&chinchilla(), &FitOptions::default()).unwrap();
    let ChinchillaLaw { e, a, alpha, b, beta } = fitted.law;
    close(fitted.objective, 4.703e-5, 1e-3);
    near(e, 1.80279, 1e-4);
    near(alpha, 0.35090, 1e-4);
    near(beta, 0.36157, 1e-4);
    close(a, 511.563, 2e-3);
    close(b, 1951.419, 2e-3);
    assert!(fitted.agreeing.0 * 2 > fitted.agreeing.1, "{:?}", fitted.agreeing);
    assert!(fitted.r2 > 0.99 && fitted.mean_error < 1e-2);
    // The published grid of starts leads to the same law.
    let starts: Vec<ChinchillaLaw> = ChinchillaLaw::published_starts().into_iter().step_by(37).collect();
    let again = fit_from(&chinchilla(), &starts, &FitOptions::default()).unwrap();
    close(again.objective, fitted.objective, 1e-6);
    near(again.law.alpha, alpha, 1e-5);
}

#[test]
fn the_published_optimum_allocates_as_published() {
    let law = ChinchillaLaw { e: 1.81722, a: 477.83, alpha: 0.34731, b: 2143.4, beta: 0.36717 };
    let best = law.optimal_allocation(5.76e23);
    close(best.n, 7.32e10, 3e-3);
    near(law.allocation_exponent(), 0.5139, 1e-4);
    close(6.0 * best.n * best.d, 5.76e23, 1e-12);
    // Moving along the same compute only raises the loss.
    for factor in [0.8, 1.25] {
        assert!(law.loss(best.n * factor, best.d / factor) > best.loss);
    }
}

#[test]
fn planted_constants_are_recovered_from_noisy_points_within_their_intervals() {
    let truth = ChinchillaLaw { e: 1.7, a: 400.0, alpha: 0.34, b: 1500.0, beta: 0.35 };
    let mut rng = seed::rng(4, &["planted"]);
    let points = (0..200).map(|_| {
        let n = 10f64.powf(rng.random_range(7.0..10.0));
        let d = n * 10f64.powf(rng.random_range(0.0..2.5));
        ([n, d], truth.loss(n, d) * (1.0 + 0.004 * (rng.random::<f64>() - 0.5)))
    });
    let points = Points::new(points.collect::<Vec<_>>()).unwrap();
    let options = FitOptions { resamples: 100, ..Default::default() };
    let fitted = fit::<ChinchillaLaw>(&points, &options).unwrap();
    for ((got, (low, high)), want) in fitted.law.constants().iter().zip(&fitted.intervals).zip(truth.constants()) {
        close(*got, want, 0.25);
        let width = high - low;
        assert!(low - width < want && want < high + width, "{want} is far from [{low}, {high}]");
    }
    near(fitted.law.alpha, 0.34, 0.01);
    let (low, high) = fitted.interval(&[1e11, 2e12]);
    let want = truth.loss(1e11, 2e12);
    assert!(low - 0.01 < want && want < high + 0.01 && high - low < 0.1, "{want} in [{low}, {high}]");
    // A thrown-in outlier hardly moves Huber's fit.
    let mut with: Vec<([f64; 2], f64)> = points.iter().map(|(x, y)| ([x[0], x[1]], y)).collect();
    with[17].1 *= 1.5;
    let with = Points::new(with).unwrap();
    let huber = fit::<ChinchillaLaw>(&with, &FitOptions::default()).unwrap().law;
    near(huber.alpha, fitted.law.alpha, 2e-3);
    // Bootstraps repeat.
    assert_eq!(fit::<ChinchillaLaw>(&points, &options).unwrap().intervals, fitted.intervals);

    let check = validate_largest::<ChinchillaLaw>(&points, 0.2, &FitOptions::default()).unwrap();
    assert_eq!(check.held_out.len(), 40);
    assert!(check.mean_error() < 0.004, "{}", check.mean_error());
    let (left, out): (Vec<usize>, Vec<usize>) = (0..200).partition(|i| !check.held_out.contains(i));
    let size = |i: &usize| points.inputs(*i).iter().product::<f64>();
    let largest_left = left.iter().map(size).fold(0.0, f64::max);
    assert!(out.iter().all(|i| size(i) > largest_left));
}

/// Sizes of the image models (to three digits), and losses of a 16x16 law with small errors.
const SIZES: [f64; 7] = [1.23e4, 9.83e4, 7.86e5, 6.29e6, 5.03e7, 4.03e8, 3.22e9];
const LOSSES: [f64; 7] = [3.07972, 2.91252, 2.81574, 2.74620, 2.71254, 2.68284, 2.67010];

fn henighan() -> Vec<(f64, f64)> {
    SIZES.into_iter().zip(LOSSES).collect()
}

#[test]
fn the_power_law_with_constant_gives_the_known_fits() {
    let fitted = PowerLawPlusConst::fit(&henighan(), &FitOptions::default()).unwrap();
    close(fitted.objective, 2.39346e-6, 1e-4);
    close(fitted.law.l_inf, 2.64472, 1e-5);
    close(fitted.law.alpha, 0.22917, 1e-4);
    close(fitted.law.x0, 323.64, 1e-3);
    let squares = PowerLawPlusConst::fit(&henighan(), &least_squares()).unwrap();
    close(squares.objective, 3.7134e-5, 1e-4);
    close(squares.law.l_inf, 2.64464, 1e-5);
    close(squares.law.alpha, 0.22869, 1e-4);
    close(squares.law.x0, 321.34, 1e-3);

    let truth = PowerLawPlusConst { l_inf: 2.64, x0: 280.0, alpha: 0.22 };
    let exact: Vec<(f64, f64)> = SIZES.map(|n| (n, truth.loss(n))).to_vec();
    for options in [FitOptions::default(), least_squares()] {
        let law = PowerLawPlusConst::fit(&exact, &options).unwrap().law;
        close(law.l_inf, 2.64, 1e-6);
        close(law.alpha, 0.22, 1e-5);
        close(law.x0, 280.0, 1e-4);
    }
    // Along the profile the best constant is the least.
    let profile = PowerLawPlusConst::profile(&henighan(), &[2.6, 2.64472, 2.66], least_squares().objective).unwrap();
    assert!(profile[1].1 < profile[0].1 && profile[1].1 < profile[2].1);
    close(profile[1].1, 3.7134e-5, 1e-3);
    assert!(PowerLawPlusConst::profile(&henighan(), &[2.7], least_squares().objective).is_err());
}

#[test]
fn henighans_tables() {
    let table = |l_inf, x0, alpha| SIZES.map(|n| PowerLawPlusConst { l_inf, x0, alpha }.loss(n));
    for (got, want) in [
        (table(3.12, 80.0, 0.24), [3.41865, 3.30135, 3.23011, 3.18684, 3.16058, 3.14463, 3.13496]),
        (table(2.64, 280.0, 0.22), [3.07511, 2.91543, 2.81433, 2.75032, 2.70983, 2.68418, 2.66797]),
        (table(0.28, 1.1e4, 0.16), [1.26229, 0.98439, 0.78507, 0.64211, 0.53964, 0.46611, 0.41346]),
    ] {
        got.iter().zip(want).for_each(|(g, w)| close(*g, w, 2e-5));
    }
    for (c0, beta, want) in [
        (3.3e-13, 0.73, 1.293e9),
        (5.3e-14, 0.64, 3.137e8),
        (4.8e-12, 0.75, 3.084e8),
        (1.13e-12, 0.71, 3.036e8),
        (2.3e-12, 0.69, 1.073e8),
    ] {
        close(NOpt { c0, beta }.n(1.0), want, 1e-3);
    }
    let images = NOpt { c0: 5.3e-14, beta: 0.64 };
    close(images.tokens(1.0, PF_DAY), 4.591e10, 1e-3);
    close(images.data_exponent(), 0.5625, 1e-12);
    // Per image: the constant by the tokens, the scale by their power.
    let compute = |l_inf, x0, alpha, tokens: f64| PowerLawPlusConst { l_inf, x0, alpha }.per_sample(tokens);
    for (law, l_inf, scale) in [
        (compute(3.13, 1.8e-8, 0.19, 192.0), 601.0, 1.87e4),
        (compute(2.64, 1.6e-8, 0.16, 768.0), 2028.0, 1.73e10),
        (compute(2.21, 3.6e-9, 0.10, 3072.0), 6789.0, 2.69e26),
        (compute(4.09, 6.1e-7, 0.11, 256.0), 1047.0, 4.77e15),
        (compute(3.17, 2.6e-6, 0.12, 1024.0), 3246.0, 3.17e19),
    ] {
        close(law.l_inf, l_inf, 1e-3);
        close(law.x0, scale, 5e-3);
    }
    assert_eq!(loss_per_sample(3.0, 192), 576.0);
}

#[test]
fn frontiers() {
    let points = [(1.0, 5.0), (2.0, 4.0), (2.0, 6.0), (3.0, 4.5), (4.0, 3.0), (5.0, 3.0)];
    assert_eq!(pareto_envelope(&points).unwrap(), [(1.0, 5.0), (2.0, 4.0), (4.0, 3.0)]);
    assert!(pareto_envelope(&[]).is_err());
    // In logs (0,0), (1,-1), (2,-1.5), (3,-4): the middle two lie above the line from the second to the last but for the first.
    let e = |x: f64| x.exp();
    let logs = [(e(0.0), e(0.0)), (e(1.0), e(-2.0)), (e(2.0), e(-2.5)), (e(3.0), e(-4.0)), (e(4.0), e(-3.0))];
    assert_eq!(lower_hull_log(&logs).unwrap(), [0, 1, 3]);

    // Curves of sizes whose losses fall to a floor of their own: every size is best somewhere, and the frontier is a power law.
    let law = ChinchillaLaw { e: 1.0, a: 60.0, alpha: 0.4, b: 90.0, beta: 0.4 };
    let sizes: Vec<f64> = (0..45).map(|i| 1e4 * 1.2f64.powi(i)).collect();
    let curve = |n: f64| {
        (0..1200).map(|i| (0.02 * f64::from(i)).exp()).map(move |d| (6.0 * n * d * 100.0, law.loss(n, d * 100.0)))
    };
    let curves: Vec<Vec<(f64, f64)>> = sizes.iter().map(|&n| curve(n).collect()).collect();
    // Below and above, the smallest and the largest model are best for want of others.
    let inner = |c: &Vec<(f64, f64)>| c.iter().copied().filter(|p| p.0 > 1e10 && p.0 < 1e15).collect::<Vec<_>>();
    let inner: Vec<Vec<(f64, f64)>> = curves.iter().map(inner).collect();
    let (best, r2) = NOpt::fit_curves(&sizes, &inner).unwrap();
    assert!(r2 > 0.95 && (best.beta - 0.5).abs() < 0.08, "{best:?} {r2}");
    assert!(NOpt::fit_curves(&sizes[1..], &inner).is_err());
    let fitted = PowerLawPlusConst::fit_frontier(&inner, &FitOptions::default()).unwrap();
    near(fitted.law.l_inf, 1.0, 0.02);
    near(fitted.law.alpha, 0.2, 0.02);
    for (c, l) in pareto_envelope(&inner.concat()).unwrap() {
        assert!(fitted.law.loss(c) < l * 1.0005, "above the frontier at {c}");
    }
}

/// `(N_e, N_d, exact loss, loss with errors)`.
const TRANSLATION: [(f64, f64, f64, f64); 11] = [
    (1.0 / 3.0, 1.0, 1.63119, 1.6342),
    (0.5, 1.0, 1.57973, 1.5767),
    (1.0, 1.0, 1.5, 1.5030),
    (2.0, 1.0, 1.42962, 1.4266),
    (4.0, 1.0, 1.36750, 1.3705),
    (8.0, 1.0, 1.31266, 1.3097),
    (1.0, 1.0 / 3.0, 1.74345, 1.7404),
    (1.0, 0.5, 1.64382, 1.6468),
    (1.0, 2.0, 1.38399, 1.3810),
    (1.0, 4.0, 1.29040, 1.2934),
    (1.0, 8.0, 1.21492, 1.2119),
];

#[test]
fn the_bivariate_law_and_its_competitors() {
    let truth = BivariateLaw { alpha: 0.6, p_e: 0.18, p_d: 0.31, l_inf: 0.9, ref_e: 1.0, ref_d: 1.0 };
    TRANSLATION.iter().for_each(|p| near(truth.loss(p.0, p.1), p.2, 6e-6));
    let exact = Points::new(TRANSLATION.map(|p| ([p.0, p.1], truth.loss(p.0, p.1)))).unwrap();
    let law = fit::<BivariateLaw>(&exact, &least_squares()).unwrap().law.with_reference(1.0, 1.0);
    for (got, want) in law.constants().into_iter().zip(truth.constants()) {
        near(got, want, 1e-6);
    }
    let noisy = Points::new(TRANSLATION.map(|p| ([p.0, p.1], p.3))).unwrap();
    let fitted = fit::<BivariateLaw>(&noisy, &least_squares()).unwrap();
    let law = fitted.law.with_reference(1.0, 1.0);
    for (got, want) in law.constants().into_iter().zip([0.62223, 0.17451, 0.29842, 0.87841]) {
        near(got, want, 2e-5);
    }
    close(fitted.objective, 8.85488e-5, 1e-5);
    near(fitted.r2, 0.99969, 1e-5);
    let univariate = fit::<UnivariateLaw>(&noisy, &least_squares()).unwrap();
    close(univariate.objective, 1.76828e-2, 1e-4);
    near(univariate.r2, 0.93828, 1e-5);

    let split = truth.optimal_split(2.0);
    near(split.n_e, 0.734694, 1e-6);
    near(split.n_d, 1.265306, 1e-6);
    near(split.loss, 1.489619, 1e-6);
    near(truth.alpha_star(), 0.828087, 1e-6);
    near(truth.alpha_star() * 2f64.powf(-0.49) + 0.9, split.loss, 1e-12);
    near(truth.loss(0.7, truth.iso_loss(1.4, 0.7).unwrap()), 1.4, 1e-12);
    assert!(truth.iso_loss(0.9, 1.0).is_err());
    // Another reference changes alpha by c^p only.
    near(truth.with_reference(2.0, 1.0).alpha, 0.6 * 2f64.powf(-0.18), 1e-12);
    near(truth.with_reference(2.0, 5.0).loss(0.3, 0.8), truth.loss(0.3, 0.8), 1e-12);
    // Without an encoder's exponent it is the univariate law of the decoder.
    let one = BivariateLaw { p_e: 0.0, ..truth };
    near(
        one.loss(7.0, 2.0),
        PowerLawPlusConst { l_inf: 0.9, x0: 0.6f64.powf(1.0 / 0.31), alpha: 0.31 }.loss(2.0),
        1e-12,
    );

    let symmetric = Points::new([0.5, 2.0, 4.0].map(|n| ([n, n], truth.loss(n, n)))).unwrap();
    let [bivariate, univariate, additive] = compare_laws(&noisy, &symmetric, &least_squares()).unwrap();
    assert!(bivariate.held_out_error < 0.01, "{bivariate:?}");
    assert!(bivariate.held_out_error < additive.held_out_error && additive.held_out_error < univariate.held_out_error);
    assert!(bivariate.aic < univariate.aic, "{bivariate:?} {univariate:?} {additive:?}");
}

const BYTES: [f64; 9] =
    [6805504.0, 13553664.0, 27088896.0, 54286336.0, 108449792.0, 217077760.0, 434356224.0, 868360192.0, 1736732672.0];
/// Gordon et al.'s models from German to English: parameters and losses by data.
const GORDON: [(f64, [f64; 9]); 6] = [
    (393216.0, [4.34778, 3.57089, 2.95982, 2.58958, 2.36474, 2.28863, 2.25397, 2.24579, 2.24128]),
    (1572864.0, [4.14668, 3.40255, 2.78925, 2.40757, 2.11933, 1.94435, 1.91260, 1.89881, 1.88503]),
    (6291456.0, [4.17716, 3.21578, 2.67264, 2.29229, 2.01012, 1.79162, 1.68442, 1.63604, 1.62967]),
    (18874368.0, [4.00726, 3.10475, 2.42454, 2.00418, 1.71586, 1.52442, 1.41480, 1.37875, 1.36327]),
    (37748736.0, [4.07032, 3.13437, 2.38656, 1.94663, 1.67785, 1.46531, 1.36114, 1.30967, 1.30003]),
    (56070144.0, [4.00298, 3.10363, 2.35900, 1.92521, 1.66799, 1.45585, 1.34072, 1.30398, 1.27698]),
];

#[test]
fn published_translation_points_give_the_published_joint_law() {
    let all = GORDON.iter().flat_map(|(n, losses)| BYTES.iter().zip(losses).map(|(d, l)| ([*n, *d], *l)));
    let fitted = fit::<JointDataParamLaw>(&Points::new(all).unwrap(), &least_squares()).unwrap();
    let JointDataParamLaw { a_n, ln_n_c, a_d, ln_d_c } = fitted.law;
    near(a_n, 0.1222, 1e-4);
    near(ln_n_c, 19.3722, 2e-3);
    near(a_d, 0.4204, 1e-4);
    near(ln_d_c, 18.9969, 2e-3);
    near(fitted.r2, 0.9972, 1e-4);

    let column: Vec<(f64, f64)> = GORDON.iter().map(|(n, losses)| (*n, losses[8])).collect();
    let options = FitOptions { objective: Objective::LogLeastSquares, ..Default::default() };
    let fitted = PowerLawPlusConst::fit(&column, &options).unwrap();
    near(fitted.law.l_inf, 0.5115, 1e-3);
    near(fitted.law.alpha, 0.1711, 1e-4);
    close(fitted.law.x0.powf(fitted.law.alpha), 15.7507, 1e-3);
    near((fitted.objective / 6.0).sqrt(), 0.0177, 1e-4);
}

#[test]
fn power_laws_and_critical_batches() {
    let truth = PowerLaw { x0: 6.5e13, alpha: 0.077 };
    let points: Vec<(f64, f64)> = [1e6, 1e7, 6e7, 3.3e10].map(|n| (n, truth.at(n))).to_vec();
    let (law, r2) = PowerLaw::ols(&points).unwrap();
    close(law.alpha, 0.077, 1e-9);
    close(law.x0, 6.5e13, 1e-7);
    near(r2, 1.0, 1e-12);
    close(law.inverse(law.at(5e8)), 5e8, 1e-9);
    let general =
        fit::<PowerLaw>(&Points::new(points.iter().map(|p| ([p.0], p.1))).unwrap(), &FitOptions::default()).unwrap();
    close(general.law.x0, 6.5e13, 1e-4);
    assert!(PowerLaw::ols(&[(1.0, 2.0), (0.0, 1.0)]).unwrap_err().to_string().starts_with("point 1: "));

    let contour = BatchTradeoff { s_min: 1e4, e_min: 2e9 };
    let steps = [(2e4, 110_000.0), (5e4, 50_000.0), (1e5, 30_000.0), (2e5, 20_000.0), (5e5, 14_000.0), (1e6, 12_000.0)];
    steps.iter().for_each(|(b, s)| close(contour.steps(*b), *s, 1e-12));
    let linear = BatchTradeoff::linear(&steps).unwrap();
    close(linear.s_min, 1e4, 1e-9);
    close(linear.e_min, 2e9, 1e-9);
    let general =
        fit::<BatchTradeoff>(&Points::new(steps.map(|p| ([p.0], p.1))).unwrap(), &FitOptions::default()).unwrap();
    close(general.law.critical(), 2e5, 1e-5);
    // Steps that rise with the batch size have no contour.
    assert!(BatchTradeoff::linear(&[(1.0, 10.0), (2.0, 11.0)]).unwrap_err().to_string().contains("S_min"));
    assert!(BatchTradeoff::linear(&[(1.0, 10.0), (1.0, 11.0)]).is_err());

    let truth = CriticalBatchLaw { b_star: 2.1e8, alpha_b: 0.21 };
    for (loss, want) in [(2.0, 7.74004e6), (3.0, 1.12257e6), (4.0, 285277.0)] {
        close(truth.at(loss), want, 1e-5);
    }
    let points = Points::new([2.0, 2.5, 3.0, 4.0].map(|l| ([l], truth.at(l)))).unwrap();
    let law = fit::<CriticalBatchLaw>(&points, &FitOptions::default()).unwrap().law;
    close(law.b_star, 2.1e8, 1e-5);
    close(law.alpha_b, 0.21, 1e-6);
}

/// Derivatives by differences, at a point away from the optimum.
fn check_slopes<L: Law>(at: &[f64]) {
    let features: Vec<Vec<f64>> = vec![vec![-1.3, 0.2, 0.9], vec![0.4, -0.7, 1.1]];
    let evaluate = |at: &[f64]| {
        let mut into = Evaluation { log: vec![0.0; 3], slopes: vec![vec![0.0; 3]; at.len()] };
        L::evaluate(at, &features, &mut into);
        into
    };
    let here = evaluate(at);
    for k in 0..at.len() {
        let moved = |by: f64| {
            let mut at = at.to_vec();
            at[k] += by;
            evaluate(&at).log
        };
        let (up, down) = (moved(1e-6), moved(-1e-6));
        for i in 0..3 {
            let want = (up[i] - down[i]) / 2e-6;
            assert!((here.slopes[k][i] - want).abs() < 1e-8, "{} by {k}: {} {want}", L::NAME, here.slopes[k][i]);
        }
    }
}

#[test]
fn gradients_are_the_derivatives() {
    check_slopes::<PowerLaw>(&[0.3, 0.4]);
    check_slopes::<PowerLawPlusConst>(&[0.1, -0.5, 0.4]);
    check_slopes::<ChinchillaLaw>(&[0.1, -0.5, 0.2, 0.4, 0.7]);
    check_slopes::<BatchTradeoff>(&[0.1, -0.5]);
    check_slopes::<CriticalBatchLaw>(&[0.1, 0.5]);
    check_slopes::<JointDataParamLaw>(&[0.1, -0.5, 0.4, 0.3]);
    check_slopes::<BivariateLaw>(&[0.1, -0.5, 0.4, 0.3]);
    check_slopes::<UnivariateLaw>(&[0.1, -0.5, 0.4]);
    check_slopes::<AdditiveLaw>(&[0.1, -0.5, 0.2, 0.4, 0.7]);
}

/// Coordinates at any centre are the same law.
fn check_coordinates<L: Law + std::fmt::Debug>(law: L, x: &[f64]) {
    let again = L::from_coordinates(&law.coordinates(&[1.7, -0.4]), &[1.7, -0.4]);
    close(again.predict(x), law.predict(x), 1e-12);
    let centre = L::features(x).into_iter().map(|_| 0.0).collect::<Vec<_>>();
    let features: Vec<Vec<f64>> = L::features(x).into_iter().map(|f| vec![f]).collect();
    let at = law.coordinates(&centre);
    let mut into = Evaluation { log: vec![0.0], slopes: vec![vec![0.0]; at.len()] };
    L::evaluate(&at, &features, &mut into);
    close(into.log[0].exp(), law.predict(x), 1e-12);
    assert_eq!(law.constants().len(), L::CONSTANTS.len());
}

#[test]
fn coordinates_keep_the_law() {
    check_coordinates(PowerLaw { x0: 3.0, alpha: -0.4 }, &[5.0]);
    check_coordinates(PowerLawPlusConst { l_inf: 1.2, x0: 3.0, alpha: 0.4 }, &[5.0]);
    check_coordinates(ChinchillaLaw { e: 1.2, a: 3.0, alpha: 0.4, b: 2.0, beta: 0.6 }, &[5.0, 9.0]);
    check_coordinates(BatchTradeoff { s_min: 1.2, e_min: 3.0 }, &[5.0]);
    check_coordinates(CriticalBatchLaw { b_star: 1.2, alpha_b: 0.3 }, &[5.0]);
    check_coordinates(JointDataParamLaw { a_n: 0.2, ln_n_c: 3.0, a_d: 0.5, ln_d_c: 2.0 }, &[5.0, 9.0]);
    check_coordinates(BivariateLaw { alpha: 0.6, p_e: 0.2, p_d: 0.3, l_inf: 0.9, ref_e: 2.0, ref_d: 3.0 }, &[5.0, 9.0]);
    check_coordinates(UnivariateLaw { beta: 0.6, p: 0.2, l_inf: 0.9 }, &[5.0, 9.0]);
    check_coordinates(AdditiveLaw { a_e: 0.6, p_e: 0.2, a_d: 0.4, p_d: 0.3, l_inf: 0.9 }, &[5.0, 9.0]);
}

#[test]
fn whole_runs_are_resampled_together() {
    // Two runs whose levels differ: resampling runs makes the interval of the level as wide as their distance, resampling points does not.
    let points: Vec<([f64; 1], f64)> =
        (0..40).map(|i| (1.0 + f64::from(i % 20), if i < 20 { 1.0 } else { 1.2 })).map(|(x, s)| ([x], s / x)).collect();
    let options = FitOptions { objective: Objective::LogLeastSquares, resamples: 200, ..Default::default() };
    let single = Points::new(points.clone()).unwrap();
    let runs = single.clone().of_runs((0..40).map(|i| i / 20).collect()).unwrap();
    let width = |p: &Points| {
        let (low, high) = fit::<PowerLaw>(p, &options).unwrap().interval(&[5.0]);
        high - low
    };
    assert!(width(&runs) > 0.03 && width(&single) < 0.02, "{} {}", width(&runs), width(&single));
    assert!(single.of_runs(vec![0; 3]).is_err());
}

#[test]
fn bad_input_is_an_error_that_says_what_was_expected() {
    let message = |e: autodidact_core::Error| e.to_string();
    assert!(message(Points::new(Vec::<([f64; 1], f64)>::new()).unwrap_err()).contains("at least one"));
    assert!(message(Points::new([([1.0], 2.0), ([-1.0], 2.0)]).unwrap_err()).starts_with("point 1: expected positive"));
    assert!(
        message(Points::new([(vec![1.0], 2.0), (vec![1.0, 2.0], 2.0)]).unwrap_err()).starts_with("inputs of point 1")
    );
    let two = Points::new([([1.0], 2.0), ([2.0], 1.0)]).unwrap();
    let e = message(fit::<ChinchillaLaw>(&two, &FitOptions::default()).unwrap_err());
    assert!(e.contains("2 (n, d)"), "{e}");
    let e = message(fit::<PowerLawPlusConst>(&two, &FitOptions::default()).unwrap_err());
    assert!(e.contains("as many as constants, 3"), "{e}");
    for options in [
        FitOptions { objective: Objective::Huber { delta: 0.0 }, ..Default::default() },
        FitOptions { frontier: -1.0, ..Default::default() },
        FitOptions { level: 1.5, ..Default::default() },
    ] {
        assert!(fit::<PowerLaw>(&two, &options).is_err());
    }
    assert!(validate_largest::<PowerLaw>(&two, 0.0, &FitOptions::default()).is_err());
    assert!(
        message(validate_largest::<PowerLaw>(&two, 0.5, &FitOptions::default()).unwrap_err()).contains("constants")
    );
    assert!(fit_from::<PowerLaw>(&two, &[], &FitOptions::default()).is_err());
}
