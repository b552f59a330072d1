//! The six constants: reference values, identities, and estimation on generated and on noisy curves.

use autodidact_core::seed;
use autodidact_scaling::scaling_law_estimation::*;
use rand::RngExt;

const LAW: KaplanLaw = KaplanLaw::PUBLISHED;

fn close(got: f64, want: f64, relative: f64) {
    assert!((got - want).abs() <= relative * want.abs(), "got {got}, want {want}");
}

#[test]
fn reference_values() {
    for (n, want) in [(1e6, 3.99571), (6e7, 2.91526), (3.3e10, 1.79337)] {
        close(LAW.min_loss(n), want, 4e-6);
    }
    for (loss, want) in [(2.0, 7.74004e6), (3.0, 1.12257e6), (4.0, 285277.0)] {
        close(LAW.b_crit(loss), want, 2e-6);
    }
    for (n, s, b, want) in
        [(6e7, 1e4, 5e5, 3.459549), (6e7, 1e5, 5e5, 3.040822), (6e7, 1e4, 5e4, 4.109680), (3.3e10, 1e5, 4e6, 1.925442)]
    {
        close(LAW.loss_at(n, s, b).unwrap(), want, 3e-7);
    }
    close(LAW.loss_at(6e7, 1e4, 1e30).unwrap(), 3.220668, 3e-7);
    close(LAW.loss_min_steps(6e7, 1e4), 3.220668, 3e-7);
    let loss = LAW.loss_at(6e7, 1e4, 5e5).unwrap();
    let needs = LAW.requirements(6e7, loss, 5e5).unwrap();
    close(needs.s_min, 4675.28, 2e-6);
    close(needs.e_min, 2.66236e9, 3e-6);
    close(LAW.b_crit(loss), 569455.0, 3e-6);
    close(needs.steps, 1e4, 1e-9);
    assert_eq!(block_parameters(12, 768), 84_934_656.0);
    assert_eq!(training_flop(1e9, 2e10), 1.2e20);
}

#[test]
fn limits_of_the_batch_size() {
    let (n, loss) = (6e7, 3.3);
    let of = |b: f64| LAW.requirements(n, loss, b).unwrap();
    let critical = of(LAW.b_crit(loss));
    close(critical.time_factor, 2.0, 1e-12);
    close(critical.compute_factor, 2.0, 1e-12);
    close(of(1e30).steps, critical.s_min, 1e-9);
    close(of(1e-9).tokens, critical.e_min, 1e-9);
    for b in [1e3, 1e5, 1e7] {
        let r = of(b);
        close((r.time_factor - 1.0) * (r.compute_factor - 1.0), 1.0, 1e-9);
        close(r.tokens, r.steps * b, 1e-12);
        close(LAW.loss_at(n, r.steps, b).unwrap(), loss, 1e-12);
    }
    // More steps, larger batches, larger models: lower losses.
    let steps: Vec<f64> = (1..60).map(|i| 1.3f64.powi(i)).collect();
    let curve = LAW.trajectory(6e7, 1e5, &steps).unwrap();
    assert!(curve.windows(2).all(|w| w[1] < w[0]));
    assert!(curve.iter().all(|l| *l > LAW.min_loss(6e7)));
    assert!(LAW.loss_at(6e7, 1e4, 1e6).unwrap() < LAW.loss_at(6e7, 1e4, 1e5).unwrap());
}

#[test]
fn first_reach_interpolates_in_the_logarithm_of_steps() {
    let curve = [(10.0, 3.0), (1000.0, 1.0), (2000.0, 1.5), (4000.0, 0.5)];
    close(first_reach(&curve, 2.0).unwrap(), 100.0, 1e-12);
    // The first time counts, not the last.
    close(first_reach(&curve, 1.4).unwrap(), 10f64.powf(2.6), 1e-9);
    assert_eq!(first_reach(&curve, 0.4), None);
    assert_eq!(first_reach(&curve, 3.0), Some(10.0));
    assert_eq!(first_reach(&curve, 4.0), None);
}

/// Runs of a law: six sizes at one batch size, seven batch sizes of the fourth; losses with errors of a relative size.
fn runs(law: &KaplanLaw, error: f64) -> Vec<Run> {
    let mut rng = seed::rng(5, &["runs"]);
    let mut run = |n: f64, batch: f64, converged: bool| {
        let steps: Vec<f64> = (0..40).map(|i| 30.0 * 1.24f64.powi(i)).collect();
        let losses = law.trajectory(n, batch, &steps).unwrap();
        let noisy = losses.iter().map(|l| l * (1.0 + error * (rng.random::<f64>() - 0.5)));
        Run { n, batch, converged, points: steps.iter().copied().zip(noisy).collect() }
    };
    let sizes = [576.0, 1024.0, 2304.0, 4096.0, 9216.0, 16384.0];
    let mut all: Vec<Run> = sizes.iter().map(|&n| run(n, 512.0, true)).collect();
    all.extend([16.0, 32.0, 64.0, 128.0, 256.0, 1024.0].map(|b| run(9216.0, b, false)));
    all
}

const SMALL: KaplanLaw = KaplanLaw { n_c: 60.0, alpha_n: 0.62, s_c: 20.0, alpha_s: 0.8, b_star: 14.0, alpha_b: 0.9 };

#[test]
fn refinement_returns_the_law_of_exact_curves() {
    let all = runs(&SMALL, 0.0);
    let report = estimate_all(&all, &EstimateOptions { refine: true, ..Default::default() }).unwrap();
    for (got, want) in [
        (report.law.n_c, SMALL.n_c),
        (report.law.alpha_n, SMALL.alpha_n),
        (report.law.s_c, SMALL.s_c),
        (report.law.alpha_s, SMALL.alpha_s),
        (report.law.b_star, SMALL.b_star),
        (report.law.alpha_b, SMALL.alpha_b),
    ] {
        close(got, want, 1e-3);
    }
    // Contours of exact curves are those of the law, up to the interpolation.
    assert!(report.contours.len() >= 10);
    for (loss, contour) in &report.contours {
        close(contour.critical(), SMALL.b_crit(*loss), 0.02);
        close(contour.s_min, SMALL.requirements(9216.0, *loss, 1.0).unwrap().s_min, 0.02);
    }
    // At the end of a run even the largest batches have not come to L(N): what is left bends the line of step c.
    let [n, b, s] = report.r2;
    assert!(n > 0.99 && b > 0.99 && s > 0.95, "{:?}", report.r2);
}

#[test]
fn noisy_curves_predict_a_larger_model() {
    let all = runs(&SMALL, 0.02);
    let options = EstimateOptions { refine: true, resamples: 12, ..Default::default() };
    let report = estimate_all(&all, &options).unwrap();
    let steps = [200.0, 1000.0, 5000.0];
    for batch in [64.0, 512.0] {
        let (got, want) =
            (report.law.trajectory(65536.0, batch, &steps).unwrap(), SMALL.trajectory(65536.0, batch, &steps).unwrap());
        got.iter().zip(want).for_each(|(g, w)| close(*g, w, 0.02));
    }
    let truth = [SMALL.n_c, SMALL.alpha_n, SMALL.s_c, SMALL.alpha_s, SMALL.b_star, SMALL.alpha_b];
    for ((low, high), want) in report.intervals.iter().zip(truth) {
        let width = high - low;
        assert!(low - width < want && want < high + width, "{want} is far from [{low}, {high}]");
    }
    // Without the batch size the same procedure fails on small batches.
    let blind = estimate_all(&all, &EstimateOptions { batch: false, refine: true, ..Default::default() }).unwrap();
    assert_eq!(blind.law.b_star, 0.0);
    let error = |law: &KaplanLaw| {
        let (got, want) = (law.loss_at(65536.0, 1000.0, 64.0).unwrap(), SMALL.loss_at(65536.0, 1000.0, 64.0).unwrap());
        (got / want).ln().abs()
    };
    assert!(error(&blind.law) > 5.0 * error(&report.law), "{} {}", error(&blind.law), error(&report.law));
}

#[test]
fn the_single_steps_return_their_constants() {
    let sizes: Vec<(f64, f64)> = [1e6, 1e7, 6e7].map(|n| (n, LAW.min_loss(n))).to_vec();
    let (law, r2) = fit_n(&sizes).unwrap();
    close(law.x0, 6.5e13, 1e-8);
    close(law.alpha, 0.077, 1e-10);
    close(r2, 1.0, 1e-12);
    let (law, _) = fit_b_crit(&[2.0, 3.0, 4.0].map(|l| (l, LAW.b_crit(l)))).unwrap();
    close(law.b_star, 2.1e8, 1e-9);
    close(law.alpha_b, 0.21, 1e-9);
    let steps: Vec<f64> = (0..30).map(|i| 1e3 * 1.3f64.powi(i)).collect();
    let curve = |batch: f64| {
        let points = steps.iter().copied().zip(LAW.trajectory(6e7, batch, &steps).unwrap()).collect();
        Run { n: 6e7, batch, converged: false, points }
    };
    let (law, r2) = fit_s(&[curve(1e5), curve(2e6)], &KaplanLaw { s_c: 1.0, alpha_s: 1.0, ..LAW }, 0.0).unwrap();
    close(law.x0, 2.1e3, 1e-6);
    close(law.alpha, 0.76, 1e-6);
    close(r2, 1.0, 1e-9);
    // Points at the floor are dropped.
    let (law, _) = fit_s(&[curve(2e6)], &LAW, 0.05).unwrap();
    close(law.alpha, 0.76, 1e-6);
}

#[test]
fn noise_scales_of_drawn_gradients() {
    // Gradients (1, 0) with independent noise of variances 3 and 5: B_simple = 8.
    let mut rng = seed::rng(2, &["noise scale"]);
    let mut normal = || (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
    let mut norm = |b: usize| {
        let repeats = 20_000 / b;
        let squared = (0..repeats).map(|_| {
            let (x, y) =
                (0..b).fold((0.0, 0.0), |(x, y), _| (x + 1.0 + 3f64.sqrt() * normal(), y + 5f64.sqrt() * normal()));
            (x * x + y * y) / (b * b) as f64
        });
        squared.sum::<f64>() / repeats as f64
    };
    let scale = GradientNoiseScale::from_norms((2.0, norm(2)), (20.0, norm(20))).unwrap();
    close(scale.b_simple(), 8.0, 0.15);
    assert!(GradientNoiseScale::from_norms((2.0, 1.0), (2.0, 1.0)).is_err());
    assert!(GradientNoiseScale::from_norms((0.0, 1.0), (2.0, 1.0)).is_err());
}

#[test]
fn bad_input_is_an_error() {
    let e = LAW.requirements(6e7, 2.9, 1e5).unwrap_err().to_string();
    assert!(e.starts_with("loss: expected above 2.91526"), "{e}");
    assert!(LAW.loss_at(6e7, 0.0, 1e5).unwrap_err().to_string().starts_with("steps"));
    assert!(LAW.requirements(-1.0, 3.0, 1e5).is_err());
    let mut all = runs(&SMALL, 0.0);
    all[3].points[5].1 = f64::NAN;
    let e = estimate_all(&all, &EstimateOptions::default()).unwrap_err().to_string();
    assert!(e.starts_with("run 3: "), "{e}");
    all[3].points.clear();
    assert!(estimate_all(&all, &EstimateOptions::default()).unwrap_err().to_string().starts_with("points of run 3"));
    let e = estimate_all(&runs(&SMALL, 0.0)[..6], &EstimateOptions::default()).unwrap_err().to_string();
    assert!(e.starts_with("batch sizes of one model"), "{e}");
}
