//! The findings.

use super::{Config, ENCODERS, LR, NB, SUPERVISED, error_of, features, m_star, mixture_arm};
use crate::results::Results;
use crate::verdict::{self, Finding, Judgement, Verdict, estimate};
use anyhow::{Context as _, Result};
use autodidact_core::stats;
use autodidact_ssl::generative_classifiers::samples_to_converge;

/// Percent of test samples wrong at a size, by seed.
pub(super) fn errors(results: &Results, arm: &str, classifier: &str, m: i64) -> Result<Vec<f64>> {
    let at = |seed| -> Result<f64> {
        let series = results.series(arm, seed, &error_of(classifier))?;
        let point = series.iter().find(|p| p.0 == m as f64);
        Ok(point.with_context(|| format!("{arm} seed {seed} has no error at {m}"))?.1)
    };
    results.seeds(arm).into_iter().map(at).collect()
}

/// `(middle of the bin, percent of the values)`.
pub(super) fn histogram(values: &[f64], bins: usize) -> Vec<(f64, f64)> {
    // The outermost hundredths would squeeze the rest.
    let (low, high) = (stats::quantile(values, 0.005), stats::quantile(values, 0.995));
    crate::plot::histogram(values, (low, high), bins)
}

/// The finding of every claim.
pub(super) fn findings(results: &Results, config: &Config) -> Result<Vec<Finding>> {
    let [c3, c4] = regimes(results, config)?;
    Ok(vec![growth(results, config)?, convergence(results, config)?, c3, c4])
}

fn enough(results: &Results, verdict: Verdict) -> Verdict {
    verdict.with_seeds(results.plan().seeds.len())
}

/// C1.
fn growth(results: &Results, config: &Config) -> Result<Finding> {
    let (mut as_claimed, mut ordered, mut words) = (true, true, vec![]);
    // Of the first number of classes, for the record.
    let mut shown = None;
    for &k in &config.simulation.classes {
        let dimensions = config.simulation.dimensions_for(k)?;
        let logs: Vec<f64> = dimensions.iter().map(|n| (*n as f64).ln()).collect();
        let columns = |classifier: &str| -> Result<Vec<Vec<f64>>> {
            dimensions.iter().map(|&n| results.values(&mixture_arm(k, n), &m_star(classifier))).collect()
        };
        let slopes = |columns: &[Vec<f64>]| -> Result<Vec<f64>> {
            let seeds = 0..columns[0].len();
            seeds.map(|s| Ok(stats::slope(&logs, &columns.iter().map(|c| c[s].ln()).collect::<Vec<_>>())?)).collect()
        };
        let (nb, lr) = (columns(NB)?, columns(LR)?);
        let (nb_slope, lr_slope) = (estimate(&slopes(&nb)?), estimate(&slopes(&lr)?));
        as_claimed &= (0.7..=1.3).contains(&lr_slope.value) && nb_slope.value < 0.4;
        ordered &= nb.iter().zip(&lr).all(|(nb, lr)| stats::mean(nb) < stats::mean(lr));
        let list = |columns: &[Vec<f64>]| {
            columns.iter().map(|c| format!("{:.0}", stats::mean(c))).collect::<Vec<_>>().join(", ")
        };
        words.push(format!(
            "K = {k}, n = {dimensions:?}: m* of naive Bayes {} (slope {:.2}, {:.2} to {:.2}), of logistic regression {} (slope {:.2}, {:.2} to {:.2})",
            list(&nb), nb_slope.value, nb_slope.low, nb_slope.high, list(&lr), lr_slope.value, lr_slope.low, lr_slope.high,
        ));
        shown.get_or_insert((lr_slope, nb_slope));
    }
    let (lr, nb) = shown.context("no number of classes")?;
    let verdict = match (as_claimed, ordered) {
        (true, _) => Verdict::Reproduced,
        (_, true) => Verdict::Partly,
        _ => Verdict::NotReproduced,
    };
    let judgement = Judgement { estimate: lr, verdict: enough(results, verdict) };
    let note = format!(
        "Slope of logistic regression at K = {}, beside that of naive Bayes. Means over seeds, 95 % intervals: {}.",
        config.simulation.classes[0],
        words.join("; "),
    );
    Ok(Finding::new("C1", judgement, note).against(nb.value))
}

/// C2.
fn convergence(results: &Results, config: &Config) -> Result<Finding> {
    let f = features(config, &results.plan().dataset);
    let (mut faster, mut pairs, mut words) = (0, 0, vec![]);
    for arm in ENCODERS {
        let sizes = |classifier: &str| -> Result<Vec<f64>> {
            let curve = |seed| results.series(arm, seed, &error_of(classifier));
            results.seeds(arm).into_iter().map(|s| Ok(samples_to_converge(&curve(s)?, 0.1)?)).collect()
        };
        let (nb, lr) = (sizes(NB)?, sizes(LR)?);
        let won = nb.iter().zip(&lr).filter(|(nb, lr)| nb < lr).count();
        (faster, pairs) = (faster + won, pairs + nb.len());
        words.push(format!(
            "{arm} {won} of {} (median m_0.1: naive Bayes {:.0}, logistic regression {:.0})",
            nb.len(),
            stats::median(&nb),
            stats::median(&lr)
        ));
    }
    let share = faster as f64 / pairs as f64;
    let interval = stats::wilson_ci(faster, pairs, verdict::LEVEL)?;
    let judgement = Judgement { estimate: interval, verdict: enough(results, Verdict::of(share >= 2.0 / 3.0)) };
    let note = format!(
        "Share of pairs of encoder and seed in which naive Bayes converges with fewer samples: {}; the largest subset has {} samples.",
        words.join(", "),
        f.sizes[f.sizes.len() - 1],
    );
    Ok(Finding::new("C2", judgement, note).against(2.0 / 3.0))
}

/// C3 and C4.
fn regimes(results: &Results, config: &Config) -> Result<[Finding; 2]> {
    let f = features(config, &results.plan().dataset);
    // Logistic regression minus naive Bayes: above 0 where naive Bayes is better.
    let gain = |arm: &str, m: i64| -> Result<Judgement> {
        Ok(verdict::difference(&errors(results, arm, LR, m)?, &errors(results, arm, NB, m)?, 0.0))
    };
    let few =
        f.sizes.iter().filter(|m| **m <= 50).map(|&m| Ok((m, gain(SUPERVISED, m)?))).collect::<Result<Vec<_>>>()?;
    let largest = f.sizes[f.sizes.len() - 1];
    let many = verdict::difference(
        &errors(results, SUPERVISED, NB, largest)?,
        &errors(results, SUPERVISED, LR, largest)?,
        0.0,
    );
    let surely_few = few.iter().any(|(_, j)| j.verdict == Verdict::Reproduced);
    let mean_few = few.iter().any(|(_, j)| j.estimate.value > 0.0);
    let of = |surely: bool, means: bool| match (surely, means) {
        (true, _) => Verdict::Reproduced,
        (_, true) => Verdict::Partly,
        _ => Verdict::NotReproduced,
    };
    let c3 = enough(results, of(surely_few, mean_few));
    let c4 = of(surely_few && many.verdict == Verdict::Reproduced, mean_few && many.estimate.value > 0.0);
    let c4 = enough(results, c4);

    let mut curves = vec![];
    for arm in ENCODERS {
        let mut points = vec![];
        for &m in &f.sizes {
            let [nb, lr] = [NB, LR].map(|c| errors(results, arm, c, m).map(|e| stats::mean(&e)));
            points.push((m, nb?, lr?));
        }
        let listed: Vec<String> = points.iter().map(|(m, nb, lr)| format!("{m}: {nb:.1}/{lr:.1}")).collect();
        let floors: Vec<String> = results.values(arm, "floor chosen")?.iter().map(|v| format!("{v:e}")).collect();
        let cs: Vec<String> = results.values(arm, "C chosen")?.iter().map(f64::to_string).collect();
        let crossing = match crossing(&points) {
            Some(m) => format!("the curves cross at m = {m:.0}"),
            None => "the curves do not cross".into(),
        };
        curves.push(format!(
            "{arm} {}; {crossing}; floors chosen {}, C {}",
            listed.join(", "),
            floors.join(" "),
            cs.join(" ")
        ));
    }
    let best = few.iter().max_by(|a, b| a.1.estimate.low.total_cmp(&b.1.estimate.low));
    let small: Vec<String> = few.iter().map(|(m, j)| format!("m = {m}: {j}")).collect();
    let c3 = match best {
        None => Finding::not_judged("C3", "no subset of at most 50 samples was run"),
        Some((m, j)) => Finding::new("C3", *j, format!(
            "Points by which naive Bayes has the lower error (supervised encoder), the surest size, {m}, shown; {}. Errors (%, naive Bayes/logistic regression): {}.",
            small.join(", "), curves.join(". "),
        )).verdict(c3),
    };
    let c4 = Finding::new("C4", many, format!(
        "Points by which logistic regression has the lower error at m = {largest} (supervised encoder): {}; for small subsets see C3.",
        many,
    )).verdict(c4);
    Ok([c3, c4])
}

/// Where naive Bayes stops having the lower error for good, interpolated in `log m`; none if it never starts or never stops.
fn crossing(points: &[(i64, f64, f64)]) -> Option<f64> {
    let ahead = |p: &(i64, f64, f64)| p.2 - p.1;
    let last = points.iter().rposition(|p| ahead(p) > 0.0)?;
    let (a, b) = (&points[last], points.get(last + 1)?);
    let t = ahead(a) / (ahead(a) - ahead(b));
    Some((a.0 as f64).powf(1.0 - t) * (b.0 as f64).powf(t))
}
