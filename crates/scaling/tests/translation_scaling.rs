//! Published points, curves of BLEU, saturation.

use autodidact_core::nn::Seq2SeqConfig;
use autodidact_scaling::fit::{FitOptions, Objective, Points, PowerLawPlusConst, fit};
use autodidact_scaling::translation_scaling::*;

fn near(got: f64, want: f64, absolute: f64) {
    assert!((got - want).abs() <= absolute, "{got} for {want}");
}

fn pairs() -> Vec<(f64, f64)> {
    published_points().iter().map(|p| (p.loss, p.bleu)).collect()
}

#[test]
fn published_points_give_the_known_laws() {
    let points = published_points();
    assert_eq!(points.len(), 54);
    let sizes: Vec<f64> = points.iter().step_by(9).map(|p| p.n).collect();
    assert_eq!(sizes, [393_216.0, 1_572_864.0, 6_291_456.0, 18_874_368.0, 37_748_736.0, 56_070_144.0]);
    let scores: Vec<f64> = points.iter().skip(8).step_by(9).map(|p| p.bleu).collect();
    assert_eq!(scores, [25.59, 31.48, 35.34, 40.13, 41.54, 41.79]);
    let all = Points::new(points.iter().map(|p| ([p.n, p.bytes], p.loss))).unwrap();
    let options = FitOptions { objective: Objective::LeastSquares, ..Default::default() };
    let fitted = fit::<JointDataParamLaw>(&all, &options).unwrap();
    near(fitted.law.a_n, 0.1222, 1e-4);
    near(fitted.law.ln_d_c, 18.9969, 2e-3);
    near(fitted.r2, 0.9972, 1e-4);
    let column: Vec<(f64, f64)> = points.iter().skip(8).step_by(9).map(|p| (p.n, p.loss)).collect();
    let options = FitOptions { objective: Objective::LogLeastSquares, ..Default::default() };
    near(PowerLawPlusConst::fit(&column, &options).unwrap().law.alpha, 0.1711, 1e-4);
}

#[test]
fn curves_of_bleu_are_the_known_least_squares() {
    let fitted = BleuLossCurve::fit(CurveForm::Exponential, &pairs()).unwrap();
    near(fitted.curve.factor, 76.1618, 1e-3);
    near(fitted.curve.rate, 0.469665, 1e-5);
    near(fitted.r2, 0.996440, 1e-6);
    let fitted = BleuLossCurve::fit(CurveForm::Power, &pairs()).unwrap();
    near(fitted.curve.factor, 56.0032, 1e-3);
    near(fitted.curve.rate, 0.984172, 1e-5);
    near(fitted.r2, 0.973532, 1e-6);
}

#[test]
fn planted_curves_are_found() {
    for form in [CurveForm::Power, CurveForm::Exponential] {
        let curve = BleuLossCurve { form, factor: 41.0, rate: 1.7 };
        let points: Vec<(f64, f64)> = [0.9, 1.1, 1.6, 2.4, 3.0].map(|l| (l, curve.at(l))).to_vec();
        let fitted = BleuLossCurve::fit(form, &points).unwrap();
        near(fitted.curve.factor, 41.0, 1e-6);
        near(fitted.curve.rate, 1.7, 1e-8);
        near(fitted.r2, 1.0, 1e-12);
    }
    // 30 at a loss of 1, 7.5 at 2: rate 2; e^-2 a nat.
    near(BleuLossCurve { form: CurveForm::Power, factor: 30.0, rate: 2.0 }.at(2.0), 7.5, 1e-12);
    near(BleuLossCurve { form: CurveForm::Exponential, factor: 30.0, rate: 2.0 }.at(1.0), 30.0 * (-2f64).exp(), 1e-12);
}

#[test]
fn a_score_that_levels_off_is_told_from_one_that_goes_on() {
    let noise = |i: usize| 0.004 * ((i * 37 % 11) as f64 / 5.0 - 1.0);
    let losses: Vec<f64> = (0..16).map(|i| 1.2 * 1.06f64.powi(i)).collect();
    let power = |i: usize| (losses[i], 40.0 * losses[i].powf(-1.1) * (1.0 + noise(i)));
    let straight: Vec<(f64, f64)> = (0..16).map(power).collect();
    let found = saturation(&straight, 0).unwrap();
    near(found.slope, -1.1, 0.02);
    assert!(!found.levels_off(0.01), "{found:?}");
    // Below a loss of 1.8 nothing is gained.
    let flat = |i: usize| (losses[i], 40.0 * losses[i].max(1.8).powf(-1.1) * (1.0 + noise(i)));
    let mut bent: Vec<(f64, f64)> = (0..16).map(flat).collect();
    let found = saturation(&bent, 0).unwrap();
    assert!(found.levels_off(0.01), "{found:?}");
    near(found.loss, 1.8, 0.05);
    near(found.below, 0.0, 0.05);
    near(found.above, -1.1, 0.1);
    assert_eq!(found, saturation(&bent, 0).unwrap());
    // The order of the points does not matter.
    bent.reverse();
    near(saturation(&bent, 0).unwrap().f, found.f, 1e-6 * found.f);
    // The other way round there is a bend, but no saturation.
    let steep: Vec<(f64, f64)> =
        (0..16).map(|i| (losses[i], 40.0 * losses[i].min(1.8).powf(-1.1) * (1.0 + noise(i)))).collect();
    let found = saturation(&steep, 0).unwrap();
    assert!(found.p < 0.01 && !found.levels_off(0.01), "{found:?}");
}

#[test]
fn the_optimal_split_follows_the_exponents_and_any_ratio_has_the_same_exponent() {
    let law = BivariateLaw { alpha: 0.6, p_e: 0.18, p_d: 0.31, l_inf: 0.9, ref_e: 1.0, ref_d: 1.0 };
    for budget in [1.0, 2.0, 50.0] {
        let best = law.optimal_split(budget);
        for share in 1..20 {
            let n_e = budget * f64::from(share) / 20.0;
            assert!(law.loss(n_e, budget - n_e) >= best.loss);
        }
        // Half and half costs the same factor at any budget.
        let half = law.loss(budget / 2.0, budget / 2.0);
        near((half - 0.9) / (best.loss - 0.9), (1.5 - 0.9) / (1.489619 - 0.9), 1e-5);
    }
    // Sizes as the law counts them: the paper's reference has more weights in its decoder.
    let (encoder, decoder) =
        Seq2SeqConfig { encoder_layers: 6, decoder_layers: 6, ..Seq2SeqConfig::new(9, 9, 512, 2048, 8) }.param_split();
    assert_eq!((encoder * 2) as f64, stacked_parameters(6, 512, 2048));
    assert_eq!(decoder - encoder, 6 * 4 * 512 * 512);
}

#[test]
fn bad_input_is_an_error_that_says_what_was_expected() {
    let error = |r: autodidact_core::Result<CurveFit>| r.unwrap_err().to_string();
    assert!(error(BleuLossCurve::fit(CurveForm::Power, &[(1.0, 2.0); 2])).contains("at least 3"));
    assert!(error(BleuLossCurve::fit(CurveForm::Power, &[(1.0, 2.0), (2.0, 0.0), (3.0, 1.0)])).starts_with("point 1"));
    assert!(error(BleuLossCurve::fit(CurveForm::Power, &[(1.0, 2.0); 3])).contains("two or more different values"));
    assert!(saturation(&[(1.0, 2.0); 5], 0).unwrap_err().to_string().contains("at least 6"));
    assert!(saturation(&[(1.0, 2.0); 6], 0).unwrap_err().to_string().contains("different losses"));
}
