//! Findings and plots.

use super::super::garland::{CHOSEN, GOLD, KL, REJECTED, paths, win_rate};
use super::exact::{CORES, COUNTED, COUNTS, ORDER, PROGRAMS, REFERENCES, ROUND_TRIP};
use super::{CCPO, CLAMPED, COMPARED, CPO, EXACT, REWARDS, consistent};
use crate::plot::{Plot, Series};
use crate::results::Results;
use crate::verdict::{self, Finding, Judgement, Verdict};
use anyhow::Result;
use autodidact_core::stats;
use autodidact_preference::preference_logic::{Lattice, compile, lattice};
use tch::Tensor;

/// An array of exact cells, by seed.
fn exact<'a>(results: &'a Results, name: &str) -> Result<Vec<&'a [f64]>> {
    results.seeds(EXACT).into_iter().map(|seed| results.array(EXACT, seed, name)).collect()
}

/// The largest value of each seed.
fn largest(by_seed: &[&[f64]]) -> Vec<f64> {
    let top = |v: &&[f64]| v.iter().copied().fold(0.0, |top, x| if x.is_nan() { x } else { f64::max(top, x) });
    by_seed.iter().map(top).collect()
}

/// A claim of which all parts must hold.
fn whole(parts: &[Verdict]) -> Verdict {
    match Verdict::all(parts) {
        Verdict::Partly => Verdict::NotReproduced,
        v => v,
    }
}

fn programs(results: &Results) -> Result<Finding> {
    let errors = exact(results, ROUND_TRIP)?;
    let n = errors.first().map_or(0, |e| e.len());
    let errors = largest(&errors);
    let changed: f64 = exact(results, PROGRAMS)?.concat().iter().sum();
    let error = verdict::within(&errors, 1e-12);
    let note = format!(
        "Largest error of a core over {n} losses and all random probabilities: {:.1e}; {changed} programs changed on the way from the formula and back.",
        error.estimate.value
    );
    let verdict = Verdict::all(&[error.verdict, Verdict::of(changed == 0.0)]);
    Ok(Finding::new("C1", error, note).verdict(if verdict == Verdict::Partly {
        Verdict::NotReproduced
    } else {
        verdict
    }))
}

fn counts(results: &Results) -> Result<Finding> {
    let mut errors = vec![];
    let mut seen = vec![];
    for counts in exact(results, COUNTS)? {
        let off = counts.iter().zip(COUNTED).map(|(c, (_, expected))| (c - expected).abs());
        errors.push(off.fold(0.0, f64::max));
        seen = counts.iter().zip(COUNTED).map(|(c, (what, expected))| format!("{c} {what} ({expected})")).collect();
    }
    let note = format!("Largest difference from the theorem's numbers. Counted (expected): {}.", seen.join(", "));
    Ok(Finding::new("C2", verdict::within(&errors, 0.0), note))
}

fn order(results: &Results) -> Result<Finding> {
    let all = exact(results, ORDER)?;
    let violations: Vec<f64> = all.iter().map(|a| a[1]).collect();
    let (pairs, order) = (all.first().map_or(0.0, |a| a[0]), verdict::within(&violations, 0.0));
    let cores = exact(results, CORES)?;
    let shared = cores.iter().all(|c| c[..] == [1.0, 0.0, 0.0]);
    let note = format!(
        "Values in the wrong order, over {pairs} comparable pairs of losses at all random probabilities. Core of CPO and ORPO: {}; their constraints and additive conditions differ: {}.",
        if cores.iter().all(|c| c[0] == 1.0) { "equivalent" } else { "not equivalent" },
        if cores.iter().all(|c| c[1..] == [0.0, 0.0]) { "yes" } else { "no" },
    );
    Ok(Finding::new("C3", order, note).verdict(whole(&[order.verdict, Verdict::of(shared)])))
}

fn references(results: &Results) -> Result<Finding> {
    let all = exact(results, REFERENCES)?;
    let errors: Vec<&[f64]> = all.iter().map(|a| &a[..2]).collect();
    let error = verdict::within(&largest(&errors), 1e-10);
    let same = all.iter().all(|a| a[2] == 1.0);
    let of = |i: usize| all.iter().map(|a| a[i]).fold(0.0, f64::max);
    let note = format!(
        "Largest error of a loss from its program: DPO {:.1e}, SimPO {:.1e}. DPO's program is CPO's with a reference: {}.",
        of(0),
        of(1),
        if same { "yes" } else { "no" }
    );
    Ok(Finding::new("C4", error, note).verdict(whole(&[error.verdict, Verdict::of(same)])))
}

/// Points of win rate of an arm's samples against CPO's above one half, by seed.
fn lead(results: &Results, arm: &str) -> Result<Vec<f64>> {
    let each = results.seeds(arm).into_iter().map(|seed| {
        let of = |arm| results.array(arm, seed, REWARDS);
        Ok(100.0 * win_rate(of(arm)?, of(CPO)?) - 50.0)
    });
    each.collect()
}

/// The consistent losses that were trained on the first seed, with their order.
struct Trained {
    names: Vec<String>,
    lattice: Lattice,
}

fn trained(results: &Results) -> Result<Trained> {
    let all = consistent()?.into_iter().filter(|(name, _)| results.has(name));
    let (names, structures): (Vec<_>, Vec<_>) = all.unzip();
    Ok(Trained { lattice: lattice(&structures), names })
}

impl Trained {
    /// A metric of the first seed at the last step.
    fn of(&self, results: &Results, metric: &str) -> Result<Vec<f64>> {
        let seed = results.plan().seeds[0];
        self.names.iter().map(|name| results.value(name, seed, metric)).collect()
    }
}

fn training(results: &Results) -> Result<Finding> {
    let (mut means, mut spreads, mut each, mut clamped) = (vec![], vec![], vec![], 0.0);
    for arm in COMPARED {
        let changes = results.values(arm, CHOSEN)?;
        means.push(stats::mean(&changes));
        spreads.push(stats::variance(&changes));
        clamped += results.values(arm, CLAMPED)?.iter().sum::<f64>();
        each.push(format!(
            "{arm} {:+.1} / {:+.1}, {:.2}, {:.1}, {:.0} %",
            stats::mean(&changes),
            results.mean(arm, REJECTED)?,
            results.mean(arm, GOLD)?,
            results.mean(arm, KL)?,
            50.0 + stats::mean(&lead(results, arm)?)
        ));
    }
    let (between, within) = (stats::variance(&means), stats::mean(&spreads));
    let wins = lead(results, CCPO)?;
    let zero = vec![0.0; wins.len()];
    let above = verdict::difference(&wins, &zero, -10.0);
    let competes = whole(&[above.verdict, Verdict::of(above.estimate.value >= -5.0)]);
    let win = Judgement { verdict: competes, ..above };
    let differ = Verdict::of(between > 4.0 * within).with_seeds(wins.len());
    let trained = trained(results)?;
    let heights: Vec<f64> = trained.lattice.heights.iter().map(|&h| h as f64).collect();
    let correlation = stats::spearman(&heights, &trained.of(results, CHOSEN)?)?;
    let note = format!(
        "Points of win rate of cCPO against CPO above 50 %. Variance of the change of chosen answers' log-probability between losses {between:.2}, between seeds {within:.2} (ratio {:.1}). Change of log-probability of chosen / rejected answers (nats), gold reward, divergence (nats), win rate against CPO: {}. Over {} consistent losses on one seed, rank correlation of height in the lattice with the change of chosen answers: {correlation:.2}. Clamped log-probabilities at the end: {clamped:.0}.",
        between / within,
        each.join("; "),
        trained.names.len()
    );
    Ok(Finding::new("C5", win, note).against(0.0).verdict(Verdict::all(&[differ, competes])))
}

pub(super) fn findings(results: &Results) -> Result<Vec<Finding>> {
    Ok(vec![programs(results)?, counts(results)?, order(results)?, references(results)?, training(results)?])
}

/// The Hasse diagram: the strongest losses at the top, with gold rewards.
fn hasse(results: &Results) -> Result<Plot> {
    let trained = trained(results)?;
    let (heights, gold) = (&trained.lattice.heights, trained.of(results, GOLD)?);
    let levels = |h: usize| (0..heights.len()).filter(move |&i| heights[i] == h).collect::<Vec<_>>();
    let place = |i: usize| {
        let level = levels(heights[i]);
        let at = level.iter().position(|&j| j == i).unwrap_or(0) as f64;
        // Levels are set off against each other, so that edges do not hide one another.
        (at - level.len() as f64 / 2.0 + 0.13 * heights[i] as f64, heights[i] as f64)
    };
    // One line may draw all edges if it goes back over them.
    let mut walk = vec![];
    let mut seen = vec![false; heights.len()];
    for start in 0..heights.len() {
        if !seen[start] {
            visit(start, &trained.lattice.edges, &mut seen, &mut walk);
        }
    }
    let edges: Vec<(f64, f64)> = walk.into_iter().map(place).collect();
    let mut series = vec![Series::line("entails, downwards", 7, &edges)];
    for (i, (name, gold)) in trained.names.iter().zip(gold).enumerate() {
        series.push(Series::line(format!("{name} {gold:.2}"), 0, &[place(i)]).labelled());
    }
    Ok(Plot::lines(
        "lattice",
        "Losses that rank a pair right, by the longest chain of losses that each entails (lines: entailment, downwards), with the gold reward after training on one seed. Losses without a name have the marks of their truth table (rows both, winner only, loser only, neither valid).",
        "",
        "height in the lattice",
        series,
    ))
}

/// Walks over all edges from a node, there and back.
fn visit(node: usize, edges: &[(usize, usize)], seen: &mut [bool], walk: &mut Vec<usize>) {
    seen[node] = true;
    walk.push(node);
    for &(a, b) in edges {
        let next = if a == node {
            b
        } else if b == node {
            a
        } else {
            continue;
        };
        if seen[next] {
            walk.push(next);
        } else {
            visit(next, edges, seen, walk);
        }
        walk.push(node);
    }
}

/// Losses over the probabilities of winner (across) and loser (down).
fn surfaces() -> Result<Plot> {
    const SIDE: usize = 24;
    let all = consistent()?;
    let at = |i: usize| (i as f64 + 0.5) / SIDE as f64;
    let points: Vec<[f64; 2]> =
        (0..SIDE).rev().flat_map(|row| (0..SIDE).map(move |column| [at(column).ln(), at(row).ln()])).collect();
    let points = Tensor::from_slice2(&points);
    let mut panels = vec![];
    for name in COMPARED {
        if let Some((_, structure)) = all.iter().find(|(n, _)| n == name) {
            let values: Vec<f64> = compile(structure, Default::default())?.forward(&points)?.try_into()?;
            panels.push((name.to_owned(), SIDE, SIDE, values));
        }
    }
    Ok(Plot::heat(
        "surfaces",
        "Losses -log sigmoid(rho) over the probability of the winner (0 to 1, left to right) and of the loser (0 to 1, upwards); blue is high (3 and above), orange low (0).",
        panels,
        0.0,
        3.0,
    ))
}

pub(super) fn plots(results: &Results) -> Result<Vec<Plot>> {
    let n = results.plan().seeds.len();
    let (mut chosen, mut gold) = (vec![], vec![]);
    for (i, arm) in COMPARED.into_iter().enumerate() {
        chosen.push(Series::line(arm, i, &results.mean_series(arm, CHOSEN)?));
        chosen.push(Series::line(format!("{arm}, rejected"), i, &results.mean_series(arm, REJECTED)?).dashed());
        gold.push(Series::line(arm, i, &results.mean_series(arm, GOLD)?));
    }
    Ok(vec![
        hasse(results)?,
        Plot::lines(
            "log-probabilities",
            &format!(
                "Mean change of the log-probability of the training answers, chosen and, dashed, rejected; means over {n} seeds."
            ),
            "step",
            "change of log-probability (nats)",
            chosen,
        ),
        Plot::lines(
            "gold",
            &format!("Gold reward of samples during training; means over {n} seeds."),
            "step",
            "gold reward",
            gold,
        ),
        paths(results, &COMPARED, "the reference")?,
        surfaces()?,
    ])
}
