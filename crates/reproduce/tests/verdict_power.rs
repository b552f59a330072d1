//! The verdict rules on simulated studies: a thousand without an effect, and a thousand with one of known size.
//!
//! Two-sided 95 % intervals find an absent effect in about 2.5 % of studies; the limit is 6 %. The power against an effect of
//! `delta` standard errors is compared with its theoretical value, computed here by numerical integration.

use autodidact_core::stats::t_critical;
use autodidact_reproduce::verdict::{self, Judgement, Verdict};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal, StandardNormal};
use statrs::distribution::{Binomial, ChiSquared, Continuous, ContinuousCDF, Discrete, Normal as NormalLaw};

const STUDIES: usize = 1000;

/// Share of simulated studies judged reproduced.
fn share(seed: u64, mut study: impl FnMut(&mut ChaCha8Rng) -> Judgement) -> f64 {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let hits = (0..STUDIES).filter(|_| study(&mut rng).verdict == Verdict::Reproduced).count();
    hits as f64 / STUDIES as f64
}

fn normals(rng: &mut ChaCha8Rng, n: usize, mean: f64, sd: f64) -> Vec<f64> {
    (0..n).map(|_| mean + sd * rng.sample::<f64, _>(StandardNormal)).collect()
}

/// Power of a t test with `n` observations when the mean is `delta` standard errors: the chance that a normal variable around
/// `delta` exceeds the critical value times `sqrt(chi2 / (n-1))`.
fn t_power(n: usize, delta: f64) -> f64 {
    let df = n as f64 - 1.0;
    let (critical, chi, z) = (t_critical(df, 0.95), ChiSquared::new(df).unwrap(), NormalLaw::standard());
    let (top, steps) = (df + 12.0 * (2.0 * df).sqrt() + 20.0, 200_000);
    let width = top / steps as f64;
    (0..steps)
        .map(|i| (i as f64 + 0.5) * width)
        .map(|q| chi.pdf(q) * (1.0 - z.cdf(critical * (q / df).sqrt() - delta)) * width)
        .sum()
}

/// Three standard errors of a simulated share.
fn near(got: f64, want: f64) -> bool {
    (got - want).abs() <= 3.0 * (want * (1.0 - want) / STUDIES as f64).sqrt() + 0.01
}

fn check(kind: &str, null: f64, power: f64, theory: f64) {
    assert!(null <= 0.06, "{kind}: found without an effect in {:.1} % of studies", 100.0 * null);
    assert!(near(power, theory), "{kind}: power {power:.3}, theory {theory:.3}");
}

#[test]
fn differences_at_three_five_and_ten_seeds() {
    for n in [3, 5, 10] {
        // Pairs share their seed's component, as arms of one seed do.
        let study = |rng: &mut ChaCha8Rng, delta: f64| {
            let common = normals(rng, n, 50.0, 4.0);
            let effect = delta * 1.0 / (n as f64).sqrt();
            let method: Vec<f64> = common.iter().zip(normals(rng, n, effect, 1.0)).map(|(c, e)| c + e).collect();
            verdict::difference(&method, &common, 0.0)
        };
        for delta in [2.0, 4.0] {
            let null = share(1, |rng| study(rng, 0.0));
            check(&format!("difference, n = {n}"), null, share(2, |rng| study(rng, delta)), t_power(n, delta));
        }
    }
}

#[test]
fn at_most_is_the_mirror_of_a_difference() {
    let study = |rng: &mut ChaCha8Rng, excess: f64| {
        let baseline = normals(rng, 5, 70.0, 3.0);
        let variant: Vec<f64> = baseline.iter().zip(normals(rng, 5, excess, 1.0)).map(|(b, e)| b + e).collect();
        verdict::at_most(&variant, &baseline, 0.5)
    };
    // Exactly at the margin there is nothing to find; 3 standard errors below it there is.
    let below = 0.5 - 3.0 / 5f64.sqrt();
    check("at most", share(3, |r| study(r, 0.5)), share(4, |r| study(r, below)), t_power(5, 3.0));
}

#[test]
fn ratios() {
    let study = |rng: &mut ChaCha8Rng, log_ratio: f64| {
        let baseline: Vec<f64> = normals(rng, 5, 1.0, 0.3).iter().map(|v| v.exp()).collect();
        let noise = normals(rng, 5, log_ratio, 0.1);
        let method: Vec<f64> = baseline.iter().zip(noise).map(|(b, e)| b * e.exp()).collect();
        verdict::ratio(&method, &baseline, 1.0)
    };
    let effect = 3.0 * 0.1 / 5f64.sqrt();
    check("ratio", share(5, |r| study(r, 0.0)), share(6, |r| study(r, effect)), t_power(5, 3.0));
}

#[test]
fn trends() {
    let x = [1.0, 2.0, 3.0, 4.0];
    let study = |rng: &mut ChaCha8Rng, slope: f64| {
        let rows: Vec<Vec<f64>> = (0..5)
            .map(|_| {
                let level = normals(rng, 1, 40.0, 5.0)[0];
                normals(rng, 4, level, 1.0).iter().zip(x).map(|(y, x)| y + slope * x).collect()
            })
            .collect();
        verdict::trend(&x, &rows)
    };
    // A slope's deviation is 1/sqrt(sum (x - mean)^2) = 1/sqrt(5), its mean's over five seeds 1/5.
    check("trend", share(7, |r| study(r, 0.0)), share(8, |r| study(r, 3.0 / 5.0)), t_power(5, 3.0));
}

#[test]
fn correlations() {
    let n = 20;
    let study = |rng: &mut ChaCha8Rng, rho: f64| {
        let x = normals(rng, n, 0.0, 1.0);
        let y: Vec<f64> =
            x.iter().zip(normals(rng, n, 0.0, 1.0)).map(|(x, e)| rho * x + (1.0 - rho * rho).sqrt() * e).collect();
        verdict::correlation(&x, &y, 0.0)
    };
    // Spearman's coefficient of normal pairs is (6/pi) asin(rho/2); its transform is about normal with variance 1.06/(n-3).
    let rho: f64 = 0.6;
    let spearman = 6.0 / std::f64::consts::PI * (rho / 2.0).asin();
    let deviation = (1.06 / (n as f64 - 3.0)).sqrt();
    let theory = NormalLaw::standard().cdf(spearman.atanh() / deviation - 1.959964);
    let (null, power) = (share(9, |r| study(r, 0.0)), share(10, |r| study(r, rho)));
    assert!(null <= 0.06, "correlation: {null}");
    // The transform is an approximation at n = 20.
    assert!((power - theory).abs() < 0.08, "correlation: power {power:.3}, theory {theory:.3}");
}

#[test]
fn rates() {
    let n = 100;
    let study = |rng: &mut ChaCha8Rng, p: f64| {
        let successes = (0..n).filter(|_| rng.random_bool(p)).count();
        verdict::rate(successes, n, 0.5)
    };
    // The exact chance of enough successes.
    let needed = (0..=n).find(|k| verdict::rate(*k, n, 0.5).verdict == Verdict::Reproduced).unwrap();
    let p = 0.5 + 3.0 * (0.25f64 / n as f64).sqrt();
    let theory: f64 = (needed..=n).map(|k| Binomial::new(p, n as u64).unwrap().pmf(k as u64)).sum();
    check("rate", share(11, |r| study(r, 0.5)), share(12, |r| study(r, p)), theory);
}

#[test]
fn theory_itself() {
    // Without an effect the one-sided half of a two-sided 5 % test finds it in 2.5 %; many observations give the normal limit; and
    // simulated t intervals agree.
    assert!((t_power(5, 0.0) - 0.025).abs() < 1e-3);
    let normal_limit = 1.0 - NormalLaw::standard().cdf(1.959964 - 2.0);
    assert!((t_power(2000, 2.0) - normal_limit).abs() < 5e-3);
    let draws = Normal::new(0.0, 1.0).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let hits = (0..20_000)
        .filter(|_| {
            let x: Vec<f64> = (0..5).map(|_| draws.sample(&mut rng) + 2.0 / 5f64.sqrt()).collect();
            autodidact_core::stats::mean_ci(&x, 0.95).unwrap().low > 0.0
        })
        .count();
    assert!((hits as f64 / 20_000.0 - t_power(5, 2.0)).abs() < 0.01);
}

#[test]
fn too_few_seeds_are_not_judged_and_parts_combine() {
    assert_eq!(verdict::difference(&[2.0, 2.1], &[1.0, 1.0], 0.0).verdict, Verdict::NotJudged);
    assert_eq!(verdict::difference(&[2.0, 2.1, f64::NAN], &[1.0, 1.0, 1.0], 0.0).verdict, Verdict::NotJudged);
    assert_eq!(verdict::within(&[], 1.0).verdict, Verdict::NotJudged);
    assert_eq!(verdict::within(&[0.1, f64::NAN], 1.0).verdict, Verdict::NotReproduced);
    assert_eq!(verdict::within(&[0.1, 0.2], 0.2).verdict, Verdict::Reproduced);
    use Verdict::{NotJudged, NotReproduced, Partly, Reproduced};
    for (parts, want) in [
        (vec![Reproduced, Reproduced], Reproduced),
        (vec![Reproduced, NotReproduced], Partly),
        (vec![Partly, NotReproduced], Partly),
        (vec![NotReproduced, NotReproduced], NotReproduced),
        (vec![Reproduced, NotJudged], NotJudged),
        (vec![], NotJudged),
    ] {
        assert_eq!(Verdict::all(&parts), want, "{parts:?}");
    }
}
