//! The annealing law against the published points, golden areas and identities.

use autodidact_core::schedule::{Decay, Schedule, Shape};
use autodidact_scaling::lr_annealing_law::*;
use serde::Deserialize;
use std::collections::BTreeMap;

fn cosine(total: usize, end: f64) -> Schedule {
    Schedule::new(2e-4, total, Shape::cosine_to(end)).warmup(500)
}

fn constant(total: usize) -> Schedule {
    Schedule::new(2e-4, total, Shape::Constant)
}

fn published() -> Vec<Curve> {
    published_curves().to_vec()
}

fn close(got: f64, want: f64, relative: f64) {
    assert!((got - want).abs() <= relative * want.abs(), "got {got}, want {want}");
}

#[test]
fn the_published_points_give_the_published_law() {
    for (lambda, [l0, a, c, alpha, objective]) in [
        (0.999, [2.62780, 0.42967, 0.41077, 0.54985, 1.629246e-5]),
        (0.99, [2.62065, 0.43868, 3.91572, 0.54116, 2.31713e-5]),
        (0.995, [2.62134, 0.43783, 1.96645, 0.54194, 2.19359e-5]),
        (0.9995, [2.63350, 0.42223, 0.22070, 0.55740, 1.83692e-5]),
    ] {
        let report = fit(&published(), lambda, &FitOptions::default()).unwrap();
        for (got, want) in [(report.law.l0, l0), (report.law.a, a), (report.law.c, c), (report.law.alpha, alpha)] {
            close(got, want, 1e-3);
        }
        close(report.objective, objective, 1e-3);
    }
    let (best, profile) = fit_lambda(&published(), &[0.99, 0.995, 0.999, 0.9995], &FitOptions::default()).unwrap();
    assert_eq!(best.law.lambda, 0.999);
    assert_eq!(profile.len(), 4);
    close(best.r2, 0.999634, 1e-5);
    close(best.max_error, 0.0043, 0.02);
    close(best.mean_error, 0.00074, 0.02);
}

#[test]
fn the_fitted_law_predicts_the_published_figures() {
    let law = fit(&published(), 0.999, &FitOptions::default()).unwrap().law;
    let wsd = |total, ratio| Schedule::new(2e-4, total, Shape::wsd(ratio, Decay::Linear));
    for (schedule, want) in [
        (constant(20_000), 2.82828),
        (cosine(20_000, 0.0), 2.83622),
        (cosine(20_000, 0.1), 2.83022),
        (wsd(20_000, 0.05), 2.80084),
        (wsd(20_000, 0.10), 2.78736),
        (wsd(20_000, 0.20), 2.77823),
        (wsd(20_000, 0.30), 2.77852),
        (wsd(20_000, 0.50), 2.78870),
        (constant(60_000), 2.73738),
        (cosine(60_000, 0.0), 2.70545),
        (wsd(60_000, 0.10), 2.67201),
        (wsd(60_000, 0.20), 2.66860),
    ] {
        close(law.final_loss(&schedule), want, 5e-5);
    }
    let curve = law.curve(&cosine(20_000, 0.0)).unwrap();
    for (step, want) in [(1000, 3.66839), (5000, 3.05995), (10_000, 2.91883)] {
        close(curve[step], want, 5e-5);
    }
    let (ratio, loss) = optimal_cooldown_ratio(&law, 20_000, 2e-4, Decay::Linear).unwrap();
    assert!((0.2..=0.3).contains(&ratio) && loss < 2.7783, "{ratio} {loss}");
    let order = compare_schedules(&law, &[constant(20_000), wsd(20_000, 0.2), cosine(20_000, 0.0)]).unwrap();
    assert_eq!(order.iter().map(|o| o.0).collect::<Vec<_>>(), [1, 0, 2]);
}

#[test]
fn golden_areas() {
    let last = |schedule: &Schedule, lambda| {
        let areas = AnnealAreas::of(schedule, lambda, WarmupTreatment::AsPeak).unwrap();
        (*areas.s1.last().unwrap(), *areas.s2.last().unwrap())
    };
    let (s1, s2) = last(&cosine(20_000, 0.0), 0.999);
    close(s1, 2.0501, 1e-5);
    close(s2, 0.197474, 1e-5);
    close(last(&cosine(20_000, 0.0), 0.99).1, 0.019997, 1e-4);
    let (s1, s2) = last(&constant(20_000), 0.999);
    close(s1, 4.0002, 1e-9);
    assert_eq!(s2, 0.0);
    let drop = Schedule::new(2e-4, 1099, Shape::two_stage(100, 0.5));
    close(last(&drop, 0.999).1, 0.0632305, 1e-5);
}

#[test]
fn areas_equal_their_closed_form() {
    let lrs = cosine(900, 0.0).warmup(0).lrs();
    for lambda in [0.9, 0.99, 1.0] {
        let areas = AnnealAreas::from_lrs(&lrs, 0, lambda, WarmupTreatment::AsPeak).unwrap();
        for s in [1usize, 100, 900] {
            let weight = |n: f64| if lambda == 1.0 { n } else { (1.0 - f64::powf(lambda, n)) / (1.0 - lambda) };
            let want: f64 = (1..=s).map(|k| (lrs[k - 1] - lrs[k]) * weight((s - k + 1) as f64)).sum();
            close(areas.s2[s], want, 1e-10);
        }
    }
}

#[test]
fn warmup_never_makes_the_annealing_area_negative() {
    let schedule = cosine(2000, 0.1);
    for treatment in [WarmupTreatment::AsPeak, WarmupTreatment::TrueAreaNoDelta] {
        let areas = AnnealAreas::of(&schedule, 0.99, treatment).unwrap();
        assert!(areas.s2.iter().all(|s| *s >= 0.0), "{treatment:?}");
        assert_eq!(areas.s2[500], 0.0);
    }
    let peak = AnnealAreas::of(&schedule, 0.99, WarmupTreatment::AsPeak).unwrap();
    let real = AnnealAreas::of(&schedule, 0.99, WarmupTreatment::TrueAreaNoDelta).unwrap();
    // The true area lacks half of the warm-up triangle (and the half step at its end).
    close(peak.s1[2000] - real.s1[2000], 2e-4 * 250.5, 1e-9);
    assert_eq!(peak.s2, real.s2);
}

#[test]
fn rises_lower_the_area_and_the_area_is_linear() {
    let lrs = [1.0, 1.0, 0.4, 0.4, 0.9, 0.9];
    let s2 = |lrs: &[f64]| AnnealAreas::from_lrs(lrs, 0, 0.8, WarmupTreatment::AsPeak).unwrap().s2;
    let a = s2(&lrs);
    let momentum: Vec<f64> = a.windows(2).map(|w| w[1] - w[0]).collect();
    assert!(momentum[3] < momentum[2], "the rise at step 4 works against the earlier drop");
    let other = [0.5, 0.4, 0.3, 0.2, 0.1, 0.0];
    let sum: Vec<f64> = lrs.iter().zip(other).map(|(a, b)| a + b).collect();
    s2(&sum).iter().zip(a.iter().zip(s2(&other))).for_each(|(s, (a, b))| assert!((s - a - b).abs() < 1e-12));
}

#[test]
fn units_of_the_learning_rate_do_not_matter() {
    let law = AnnealLaw { l0: 2.6, a: 0.43, alpha: 0.55, c: 0.41, lambda: 0.999, warmup: WarmupTreatment::AsPeak };
    let schedule = cosine(20_000, 0.1);
    let larger = Schedule { peak: schedule.peak * 7.0, ..schedule.clone() };
    let (a, b) = (law.curve(&schedule).unwrap(), law.rescaled(7.0).curve(&larger).unwrap());
    a.iter().zip(&b).skip(1).for_each(|(a, b)| close(*b, *a, 1e-12));
}

#[test]
fn without_annealing_the_law_is_a_power_law_and_fits_worse() {
    let plain = fit(&published(), 0.999, &FitOptions { annealing: false, ..Default::default() }).unwrap();
    assert_eq!(plain.law.c, 0.0);
    let full = fit(&published(), 0.999, &FitOptions::default()).unwrap();
    assert!(plain.objective > 5.0 * full.objective);
    close(full.law.objective(&published(), 1e-3).unwrap(), full.objective, 1e-9);
}

/// Public curves of a 100 M-parameter model with SciPy's fit of two of them and its errors on the others.
#[derive(Deserialize)]
struct Public {
    law: BTreeMap<String, f64>,
    objective: f64,
    errors: BTreeMap<String, f64>,
    runs: BTreeMap<String, Vec<(usize, f64)>>,
}

impl Public {
    fn load() -> Self {
        serde_json::from_str(include_str!("fixtures/annealing.json")).unwrap()
    }

    fn curve(&self, run: &str) -> Curve {
        const WARMUP: usize = 2160;
        let wsd = |decay| Shape::Wsd { cooldown: 1.0 / 6.0, decay, end: 0.1 };
        let (total, shape) = match run {
            "constant_24000" => (24_000, Shape::Constant),
            "constant_72000" => (72_000, Shape::Constant),
            "cosine_24000" => (24_000, Shape::cosine_to(0.1)),
            "cosine_72000" => (72_000, Shape::cosine_to(0.1)),
            "wsd_20000_24000" => (24_000, wsd(Decay::Exponential)),
            "wsdld_20000_24000" => (24_000, wsd(Decay::Linear)),
            "wsdcon_3" => (16_000, Shape::two_stage(8000, 0.1)),
            "wsdcon_9" => (16_000, Shape::two_stage(8000, 0.3)),
            "wsdcon_18" => (16_000, Shape::two_stage(8000, 0.6)),
            other => panic!("unknown run {other}"),
        };
        let mut lrs = Schedule::new(3e-4, total, shape).warmup(WARMUP).lrs();
        // These runs reach the peak at the last step of the warm-up, not at the first one after it.
        for (i, lr) in lrs[..WARMUP].iter_mut().enumerate() {
            *lr = 3e-4 * i as f64 / (WARMUP - 1) as f64;
        }
        Curve { lrs, warmup: WARMUP, points: self.runs[run].clone() }
    }
}

#[test]
fn two_public_curves_predict_seven_others_as_scipy_says() {
    let public = Public::load();
    let fitted = ["cosine_24000", "constant_24000"].map(|run| public.curve(run));
    assert_eq!(fitted.iter().map(|c| c.points.len()).sum::<usize>(), 342);
    let options = FitOptions { warmup: WarmupTreatment::TrueAreaNoDelta, ..Default::default() };
    let report = fit(&fitted, 0.999, &options).unwrap();
    let AnnealLaw { l0, a, alpha, c, .. } = report.law;
    for (name, got) in [("l0", l0), ("a", a), ("alpha", alpha), ("c", c)] {
        close(got, public.law[name], 1e-4);
    }
    close(report.objective, public.objective, 1e-6);
    assert_eq!(public.errors.len(), 7);
    for (run, want) in &public.errors {
        let errors = report.law.relative_errors(&public.curve(run)).unwrap();
        let mean = errors.iter().map(|e| e.abs()).sum::<f64>() / errors.len() as f64;
        close(mean, *want, 1e-3);
        assert!(mean < 0.0035, "{run}: {mean}");
    }
}

#[test]
fn a_law_keeps_the_warmup_it_was_fitted_with() {
    let public = Public::load();
    let curves = [public.curve("cosine_24000"), public.curve("constant_24000")];
    let schedule = Schedule::new(3e-4, 24_000, Shape::cosine_to(0.1)).warmup(2160);
    for warmup in [WarmupTreatment::AsPeak, WarmupTreatment::TrueAreaNoDelta] {
        let FitReport { law, objective, .. } =
            fit(&curves, 0.999, &FitOptions { warmup, ..Default::default() }).unwrap();
        assert_eq!(law.warmup, warmup);
        close(law.objective(&curves, 1e-3).unwrap(), objective, 1e-12);
        let areas = AnnealAreas::of(&schedule, 0.999, warmup).unwrap();
        assert_eq!(law.final_loss(&schedule), law.loss(areas.s1[24_000], areas.s2[24_000]));
        let saved = serde_json::to_string(&law).unwrap();
        assert_eq!(serde_json::from_str::<AnnealLaw>(&saved).unwrap(), law);
    }
    let older = r#"{"l0": 2.6, "a": 0.4, "alpha": 0.5, "c": 0.4, "lambda": 0.999}"#;
    assert_eq!(serde_json::from_str::<AnnealLaw>(older).unwrap().warmup, WarmupTreatment::AsPeak);
}

#[test]
fn a_planted_law_is_recovered_with_intervals_that_hold_it() {
    let truth = AnnealLaw { l0: 1.2, a: 1.0, alpha: 0.25, c: 0.6, lambda: 0.99, warmup: WarmupTreatment::AsPeak };
    let mut noise = 1u64;
    let mut jitter = || {
        noise = noise.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        1.0 + 1e-3 * ((noise >> 33) as f64 / (1u64 << 31) as f64 - 0.5)
    };
    let mut curve = |shape| {
        let schedule = Schedule::new(2e-3, 1600, shape).warmup(50);
        let losses = truth.curve(&schedule).unwrap();
        let points = (200..=1600).step_by(40).map(|s| (s, losses[s] * jitter())).collect();
        Curve { lrs: schedule.lrs(), warmup: 50, points }
    };
    let curves = [curve(Shape::Constant), curve(Shape::cosine_to(0.0))];
    let report = fit(&curves, 0.99, &FitOptions { resamples: 200, ..Default::default() }).unwrap();
    for (got, (low, high), want) in [
        (report.law.l0, report.intervals[0], truth.l0),
        (report.law.a, report.intervals[1], truth.a),
        (report.law.alpha, report.intervals[2], truth.alpha),
        (report.law.c, report.intervals[3], truth.c),
    ] {
        close(got, want, 0.15);
        let width = high - low;
        assert!(low - width < want && want < high + width, "{want} is far from [{low}, {high}]");
    }
    assert!(report.agreeing.0 > report.agreeing.1 / 2, "{:?}", report.agreeing);
}

#[test]
fn comparators() {
    // Without drops the multi-power law is the same power law.
    let law = MultiPowerLaw { l0: 2.0, a: 0.5, alpha: 0.5, b: 400.0, beta: 0.5, c: 2.0, gamma: 0.6 };
    let lrs = constant(100).lrs();
    close(law.loss_at(&lrs, 100).unwrap(), 2.0 + 0.5 * (101.0f64 * 2e-4).powf(-0.5), 1e-12);
    // One drop at step 60, by hand.
    let mut lrs = lrs;
    lrs[60..].fill(1e-4);
    let s1: f64 = 60.0 * 2e-4 + 41.0 * 1e-4;
    let gain = 1e-4 * (1.0 - (1.0 + 2.0 * 1e-4f64.powf(-0.6) * 41.0 * 1e-4).powf(-0.5));
    close(law.loss_at(&lrs, 100).unwrap(), 2.0 + 0.5 * s1.powf(-0.5) - 400.0 * gain, 1e-12);
    assert!(law.loss_at(&lrs, 101).is_err());

    let truth = ChinchillaData { l0: 1.7, a: 30.0, alpha: 0.4 };
    let points: Vec<(f64, f64)> = [1e3, 3e3, 1e4, 3e4, 1e5].map(|t| (t, truth.loss(t))).to_vec();
    let fitted = ChinchillaData::fit(&points, 1e-3).unwrap();
    close(fitted.l0, 1.7, 1e-3);
    close(fitted.alpha, 0.4, 1e-2);
    assert!(ChinchillaData::fit(&points[..2], 1e-3).is_err());
}

#[test]
fn bad_curves_are_errors_that_name_the_curve() {
    let mut curves = published();
    curves[1].points[3].1 = f64::NAN;
    let e = fit(&curves, 0.999, &FitOptions::default()).unwrap_err().to_string();
    assert!(e.starts_with("loss of curve 1 at step 4000"), "{e}");
    let mut curves = published();
    curves[0].points[0].0 = 30_000;
    assert!(fit(&curves, 0.999, &FitOptions::default()).unwrap_err().to_string().contains("at most 20000"));
    let law = fit(&published(), 0.999, &FitOptions::default()).unwrap().law;
    assert!(law.relative_errors(&curves[0]).unwrap_err().to_string().contains("at most 20000"));
    curves[1].points.clear();
    curves[0].points.drain(..17);
    assert!(fit(&curves, 0.999, &FitOptions::default()).unwrap_err().to_string().starts_with("points: expected"));
    assert!(AnnealAreas::from_lrs(&[1.0, -1.0], 0, 0.9, WarmupTreatment::AsPeak).is_err());
    assert!(AnnealAreas::from_lrs(&[1.0], 1, 0.9, WarmupTreatment::AsPeak).is_err());
    assert!(AnnealAreas::from_lrs(&[1.0, 1.0], 0, 1.5, WarmupTreatment::AsPeak).is_err());
    assert!(fit_lambda(&published(), &[], &FitOptions::default()).is_err());
}
