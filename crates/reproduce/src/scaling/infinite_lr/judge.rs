//! Verdicts and plots.

use super::{
    ANNEALED, Config, HELD_OUT, HELD_OUT_PROBE, JOINT, LOSS, NEIGHBOURS, PROBE, REPLAY_COSINE, REPLAY_INFINITE, SWITCH,
    TASKS, annealed_arm, cosine_arm, full_run_arm, infinite_arm, vision_arm,
};
use crate::plot::{Plot, Series};
use crate::results::Results;
use crate::verdict::{Finding, Judgement, Verdict, difference, summary};
use anyhow::Result;
use autodidact_core::stats::{self, Estimate};
use autodidact_scaling::infinite_lr::{ContinualMatrix, TaskSchedule};

pub(super) fn findings(results: &Results) -> Result<Vec<Finding>> {
    let config: Config = results.plan().config()?;
    Ok(vec![
        better(results, &config)?,
        Finding::not_judged("C2", "Needs models of hundreds of millions of parameters."),
        warming_up(results, &config)?,
        anytime(results, &config)?,
    ])
}

/// Mean of the last losses on A and B, for each seed.
fn both(results: &Results, arm: &str, losses: [&str; TASKS]) -> Result<Vec<f64>> {
    let (a, b) = (results.values(arm, losses[0])?, results.values(arm, losses[1])?);
    Ok(a.iter().zip(&b).map(|(a, b)| 0.5 * (a + b)).collect())
}

/// Of several arms, that with the lowest mean of a number on held-out data.
fn best(arms: Vec<String>, number: impl Fn(&str) -> Result<Vec<f64>>) -> Result<String> {
    let scored: Vec<(f64, String)> =
        arms.into_iter().map(|a| Ok((stats::mean(&number(&a)?), a))).collect::<Result<_>>()?;
    let least = scored.into_iter().min_by(|a, b| a.0.total_cmp(&b.0));
    Ok(least.map(|l| l.1).unwrap_or_default())
}

/// C1.
fn better(results: &Results, config: &Config) -> Result<Finding> {
    let held_out = |arm: &str| both(results, arm, HELD_OUT);
    let cosines: Vec<String> = config.language.peaks.iter().map(|p| cosine_arm(*p)).collect();
    let infinites: Vec<String> = config.language.constants.iter().map(|c| infinite_arm(*c)).collect();
    let (cosine, infinite) = (best(cosines.clone(), held_out)?, best(infinites.clone(), held_out)?);
    let final_loss = |arm: &str| both(results, arm, LOSS);
    let language = difference(&final_loss(&cosine)?, &final_loss(&infinite)?, 0.0);
    let same_peak = difference(&final_loss(&cosine_arm(config.peak()))?, &final_loss(&infinite)?, 0.0);
    let replay = difference(&final_loss(REPLAY_COSINE)?, &final_loss(REPLAY_INFINITE)?, 0.0);

    let probe = |arm: &str| Ok(results.values(arm, HELD_OUT_PROBE)?.iter().map(|v| -v).collect());
    let images = |list: Vec<String>| best(list.into_iter().map(|a| vision_arm(&a)).collect(), probe);
    let seen_cosine = images(config.vision.peaks.iter().map(|p| cosine_arm(*p)).collect())?;
    let seen_infinite = images(config.vision.constants.iter().map(|c| infinite_arm(*c)).collect())?;
    let vision = difference(&results.values(&seen_infinite, PROBE)?, &results.values(&seen_cosine, PROBE)?, 0.0);

    let text_verdict = match (language.verdict, same_peak.verdict) {
        (Verdict::NotReproduced, Verdict::Reproduced) => Verdict::Partly,
        (v, _) => v,
    };
    let verdict = match (text_verdict, vision.verdict) {
        (Verdict::NotJudged, _) | (_, Verdict::NotJudged) => Verdict::NotJudged,
        (Verdict::Reproduced, Verdict::Reproduced) => Verdict::Reproduced,
        (Verdict::NotReproduced, Verdict::NotReproduced) => Verdict::NotReproduced,
        _ => Verdict::Partly,
    };
    let mut words = vec![];
    for arm in
        cosines.iter().chain(&infinites).map(String::as_str).chain([ANNEALED, REPLAY_COSINE, REPLAY_INFINITE, JOINT])
    {
        let (a, b) = (results.mean(arm, LOSS[0])?, results.mean(arm, LOSS[1])?);
        let forgotten = stats::mean(&forgetting(results, arm)?);
        words.push(format!("{arm} {a:.3} / {b:.3} ({forgotten:.3})"));
    }
    let mut probes = vec![];
    for arm in results.arms().into_iter().filter(|a| a.starts_with("images/")) {
        let of = |metric: &str| results.mean(arm, metric);
        probes.push(format!("{} {:.1} / {:.1}", arm.trim_start_matches("images/"), of(PROBE)?, of(NEIGHBOURS)?));
    }
    let note = format!(
        "Nats, mean over A and B: best cosine ({cosine}) minus best infinite ({infinite}); at the same peak {same_peak:+}; with replay {replay:+}. Images: probe of {} minus {} {vision:+} points. Final losses on A / B (nats forgotten of earlier texts): {}. Probe / neighbours in %: {}.",
        seen_infinite.trim_start_matches("images/"),
        seen_cosine.trim_start_matches("images/"),
        words.join(", "),
        probes.join(", ")
    );
    Ok(Finding::new("C1", language, note).against(0.0).verdict(verdict))
}

/// How much of earlier tasks is lost at the end, for each seed.
fn forgetting(results: &Results, arm: &str) -> Result<Vec<f64>> {
    let seeds = results.seeds(arm);
    seeds.iter().map(|s| Ok(matrix(results, arm, *s)?.forgetting())).collect()
}

/// Losses, negated, after each task.
fn matrix(results: &Results, arm: &str, seed: u64) -> Result<ContinualMatrix> {
    let series: Vec<Vec<(f64, f64)>> = LOSS.iter().map(|l| results.series(arm, seed, l)).collect::<Result<_>>()?;
    let row = |j: usize| series.iter().map(|s| -s[j].1).collect();
    Ok(ContinualMatrix::new((0..TASKS).map(row).collect())?)
}

/// C3.
fn warming_up(results: &Results, config: &Config) -> Result<Finding> {
    let peaks = |arm: &str| -> Result<Vec<f64>> {
        let seeds = results.seeds(arm);
        let largest = |s: &u64| Ok(results.series(arm, *s, SWITCH)?.iter().fold(f64::MIN, |m, p| m.max(p.1)));
        seeds.iter().map(largest).collect()
    };
    let (cosine, infinite) = (cosine_arm(config.peak()), infinite_arm(config.middle()));
    let (high, low) = (peaks(&cosine)?, peaks(&infinite)?);
    let judgement = difference(&high, &low, 0.0);
    let note = format!(
        "Largest loss on A in the first tenth of B, {cosine} minus {infinite}: {:.3} and {:.3} nats; after A {:.3} and {:.3} (annealed, both), after B {:.3} and {:.3}.",
        stats::mean(&high),
        stats::mean(&low),
        results.mean_series(&cosine, LOSS[0])?[0].1,
        results.mean_series(&infinite, LOSS[0])?[0].1,
        results.mean_series(&cosine, LOSS[0])?[1].1,
        results.mean_series(&infinite, LOSS[0])?[1].1,
    );
    Ok(Finding::new("C3", judgement, note).against(0.0))
}

/// The cosine run up to a share of the stream whose peak is best on held-out text.
fn best_full_run(config: &Config, share: f64, held_out: impl Fn(&str) -> Result<Vec<f64>>) -> Result<String> {
    best(config.language.peaks.iter().map(|p| full_run_arm(share, *p)).collect(), held_out)
}

/// C4.
fn anytime(results: &Results, config: &Config) -> Result<Finding> {
    let (mut worst, mut words, mut met, mut seeds) = (f64::MIN, vec![], 0, 0);
    for &share in &config.points {
        let (_, total) = config.point(share);
        let loss = |arm: &str, losses: [&str; TASKS]| {
            if total <= config.language.steps { results.values(arm, losses[0]) } else { both(results, arm, losses) }
        };
        let chosen = best_full_run(config, share, |arm| loss(arm, HELD_OUT))?;
        let (annealed, full) = (loss(&annealed_arm(share), LOSS)?, loss(&chosen, LOSS)?);
        seeds = annealed.len();
        let (above, half) = summary(&annealed.iter().zip(&full).map(|(a, f)| a - f).collect::<Vec<_>>());
        worst = worst.max(above);
        met += usize::from(above <= 0.02);
        // Of the text that is read there: the mean over A and B also counts what is forgotten of earlier ones.
        let current = LOSS[((total - 1) / config.language.steps).min(TASKS - 1)];
        words.push(format!(
            "{:.0} % {above:+.3} (plus or minus {half:.3}; {:.3}, {chosen}; {current} {:+.3})",
            100.0 * share,
            stats::mean(&full),
            results.mean(&annealed_arm(share), current)? - results.mean(&chosen, current)?
        ));
    }
    let verdict = match met {
        n if n == config.points.len() => Verdict::Reproduced,
        n if 2 * n > config.points.len() => Verdict::Partly,
        _ => Verdict::NotReproduced,
    };
    let judgement =
        Judgement { estimate: Estimate { n: seeds, ..Estimate::exact(worst) }, verdict: verdict.with_seeds(seeds) };
    let note = format!(
        "Largest excess of annealing over a cosine planned for the same length, in nats. By point of the stream (the cosine's loss, its arm; the excess on the text that is read there): {}.",
        words.join(", ")
    );
    Ok(Finding::new("C4", judgement, note).against(0.02))
}

pub(super) fn plots(results: &Results) -> Result<Vec<Plot>> {
    let config: Config = results.plan().config()?;
    let (cosine, infinite) = (cosine_arm(config.peak()), infinite_arm(config.middle()));
    let points = |curve: Vec<f64>| curve.into_iter().enumerate().map(|(n, v)| (n as f64, v)).collect::<Vec<_>>();
    let rates = Plot::lines(
        "rates",
        "Learning rates over the stream.",
        "step",
        "learning rate",
        vec![
            Series::line("repeated cosine", 0, &points(config.language.cosine(config.peak()).curve(TASKS))),
            Series::line("infinite", 1, &points(config.language.infinite(config.middle()).curve(TASKS))),
        ],
    );
    let shown = [cosine.as_str(), infinite.as_str(), ANNEALED, JOINT];
    let mut switch = vec![];
    for (i, arm) in [&cosine, &infinite].into_iter().enumerate() {
        switch.push(Series::line(arm.as_str(), i, &results.mean_series(arm, SWITCH)?));
    }
    let mut forgotten = vec![];
    let mut all: Vec<String> = config.language.peaks.iter().map(|p| cosine_arm(*p)).collect();
    all.extend(config.language.constants.iter().map(|c| infinite_arm(*c)));
    all.extend([ANNEALED, REPLAY_COSINE, REPLAY_INFINITE, JOINT].map(str::to_owned));
    for (i, arm) in all.iter().enumerate() {
        let (mean, half) = summary(&both(results, arm, LOSS)?);
        forgotten.push((arm.clone(), mean, half, i));
    }
    let mut panels = vec![];
    let (mut low, mut high) = (f64::MAX, f64::MIN);
    for arm in shown {
        let mut values = vec![];
        for j in 0..TASKS {
            for loss in LOSS {
                values.push(results.mean_series(arm, loss)?[j].1);
            }
        }
        low = values.iter().copied().fold(low, f64::min);
        high = values.iter().copied().fold(high, f64::max);
        panels.push((arm.to_owned(), TASKS, TASKS, values));
    }
    let (mut annealed, mut full) = (vec![], vec![]);
    for &share in &config.points {
        let steps = config.point(share).1 as f64;
        let chosen = best_full_run(&config, share, |arm| results.values(arm, HELD_OUT[0]))?;
        annealed.push((steps, results.mean(&annealed_arm(share), LOSS[0])?));
        full.push((steps, results.mean(&chosen, LOSS[0])?));
    }
    let anytime = vec![
        Series::line("annealed from the constant phase", 0, &annealed),
        Series::line("best cosine of that length", 1, &full),
    ];
    let mut probes = vec![];
    for (i, arm) in results.arms().into_iter().filter(|a| a.starts_with("images/")).enumerate() {
        let series = results.mean_series(arm, PROBE)?;
        probes.push(Series::line(arm.trim_start_matches("images/"), i, &series));
    }
    Ok(vec![
        rates,
        Plot::lines("switch", "Loss on the first text as training on the second begins.", "step", SWITCH, switch),
        Plot::heat("matrices", "Losses (nats) on A, B and A' (columns) after each task (rows).", panels, low, high),
        Plot::bars("final", "Loss after the last task, mean over A and B.", "nats per character", forgotten),
        Plot::lines(
            "anytime",
            "Loss on A at the end of runs that stop along the stream.",
            "steps of the run",
            LOSS[0],
            anytime,
        ),
        Plot::lines("images", "Linear probe of the autoencoder's features on all classes.", "step", PROBE, probes),
    ])
}
