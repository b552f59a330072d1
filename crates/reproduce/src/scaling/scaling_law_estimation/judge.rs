//! Laws of the finished runs, and the findings.

use super::{Config, LOSS, RecallNet, Setting, TEXT_DEPTH, text_arm};
use crate::results::Results;
use crate::verdict::{self, Finding, Judgement, Verdict, estimate};
use anyhow::Result;
use autodidact_core::stats;
use autodidact_scaling::fit::BatchTradeoff;
use autodidact_scaling::scaling_law_estimation::{
    EstimateOptions, FitReport, KaplanLaw, Run, block_parameters, contour, estimate_all, first_reach,
};

/// Loss levels at which steps and critical batch sizes of held-out runs are compared.
const LEVELS: usize = 5;

/// `(steps, loss)`, by steps.
pub type Curve = Vec<(f64, f64)>;

/// The curve of an arm from a step on.
pub fn curve(results: &Results, arm: &str, seed: u64, from: usize) -> Result<Curve> {
    Ok(results.series(arm, seed, LOSS)?.into_iter().filter(|p| p.0 >= from as f64).collect())
}

fn run(results: &Results, setting: Setting, seed: u64, c: &Config) -> Result<Run> {
    Ok(Run {
        n: RecallNet::size(setting.width),
        batch: setting.batch as f64,
        converged: setting.batch == c.batch,
        points: curve(results, &setting.arm(), seed, c.first)?,
    })
}

/// What one seed says.
pub struct Seed {
    /// The seed.
    pub seed: u64,
    /// Constants.
    pub report: FitReport,
    /// Constants of the same estimation without batch sizes.
    pub blind: FitReport,
    /// Constants of the text's models, whose batch size is one.
    pub text: FitReport,
}

fn lowest(curve: &[(f64, f64)]) -> f64 {
    curve.iter().map(|p| p.1).fold(f64::INFINITY, f64::min)
}

/// Levels that all curves pass, evenly spread in `ln L`, from the highest down.
fn levels(curves: &[&[(f64, f64)]]) -> Vec<f64> {
    let low = curves.iter().map(|c| lowest(c)).fold(0.0, f64::max) * 1.02;
    let high = curves.iter().filter_map(|c| c.first()).map(|p| p.1).fold(f64::INFINITY, f64::min);
    (0..LEVELS).map(|i| high * (low / high).powf((i as f64 + 0.5) / LEVELS as f64)).collect()
}

/// Estimates of every seed.
pub fn seeds(results: &Results, c: &Config) -> Result<Vec<Seed>> {
    let of = |&seed: &u64| {
        let runs = Setting::fitted(c).into_iter().map(|s| run(results, s, seed, c)).collect::<Result<Vec<_>>>()?;
        let options = EstimateOptions { refine: true, noise: c.noise, ..Default::default() };
        let blind = EstimateOptions { batch: false, ..options.clone() };
        let text = |&width: &i64| {
            let points = curve(results, &text_arm(width), seed, c.first)?;
            let batch = (c.text_batch * c.text_context) as f64;
            Ok(Run { n: block_parameters(TEXT_DEPTH, width as usize), batch, converged: true, points })
        };
        let text = c.text_widths.iter().map(text).collect::<Result<Vec<_>>>()?;
        Ok(Seed {
            seed,
            report: estimate_all(&runs, &options)?,
            blind: estimate_all(&runs, &blind)?,
            text: estimate_all(&text, &blind)?,
        })
    };
    results.plan().seeds.iter().map(of).collect()
}

/// Constants in words.
pub fn words(law: &KaplanLaw) -> String {
    let KaplanLaw { n_c, alpha_n, s_c, alpha_s, b_star, alpha_b } = law;
    let size = format!("N_c {n_c:.3e}, alpha_N {alpha_n:.3}, S_c {s_c:.3}, alpha_S {alpha_s:.3}");
    if *b_star == 0.0 { size } else { format!("{size}, B_* {b_star:.2}, alpha_B {alpha_b:.3}") }
}

fn geometric(values: &[f64]) -> f64 {
    stats::mean(&values.iter().map(|v| v.ln()).collect::<Vec<_>>()).exp()
}

fn list(values: &[f64], digits: usize) -> String {
    values.iter().map(|v| format!("{v:.digits$}")).collect::<Vec<_>>().join(", ")
}

/// The finding of every claim.
pub fn findings(results: &Results, c: &Config) -> Result<Vec<Finding>> {
    let seeds = match seeds(results, c) {
        Ok(seeds) => seeds,
        // A sweep whose contours allow no fit of a seed leaves nothing to judge.
        Err(e) => {
            let why = format!("The constants could not be estimated: {e:#}");
            return Ok(["C1", "C2a", "C2bd", "C2c", "C3", "C4"].map(|id| Finding::not_judged(id, why.as_str())).into());
        }
    };
    let study = Study { results, c, seeds };
    Ok(vec![
        study.forms(),
        study.minimum()?,
        study.trajectories()?,
        study.critical_batch()?,
        study.without_batches()?,
        study.loss_not_size()?,
    ])
}

struct Study<'a> {
    results: &'a Results,
    c: &'a Config,
    seeds: Vec<Seed>,
}

impl Study<'_> {
    fn by_seed(&self, of: impl Fn(&Seed) -> Result<f64>) -> Result<Vec<f64>> {
        self.seeds.iter().map(of).collect()
    }

    fn finding(&self, id: &'static str, values: &[f64], verdict: Verdict, note: String) -> Finding {
        let verdict = verdict.with_seeds(values.len());
        Finding { id, estimate: estimate(values), baseline: None, verdict, note }
    }

    fn at_most(values: &[f64], whole: f64, part: f64) -> Verdict {
        match stats::mean(values) {
            m if m <= whole => Verdict::Reproduced,
            m if m <= part => Verdict::Partly,
            _ => Verdict::NotReproduced,
        }
    }

    /// C1.
    fn forms(&self) -> Finding {
        let smallest: Vec<f64> =
            self.seeds.iter().map(|s| s.report.r2.iter().copied().fold(f64::INFINITY, f64::min)).collect();
        let mean = |k: usize| stats::mean(&self.seeds.iter().map(|s| s.report.r2[k]).collect::<Vec<_>>());
        let note = format!(
            "Smallest R^2 of the three lines by seed. Means: loss on size {:.4}, critical batch on loss {:.4}, reducible loss on S_min {:.4}. Constants of the first seed, by the lines: {}; refined: {}. Those of the second setup (text) by the same procedure: {}.",
            mean(0),
            mean(1),
            mean(2),
            words(&self.seeds[0].report.stepwise),
            words(&self.seeds[0].report.law),
            words(&self.seeds[0].text.stepwise),
        );
        self.finding("C1", &smallest, Verdict::of(smallest.iter().all(|r| *r >= 0.98)), note)
    }

    /// C2a.
    fn minimum(&self) -> Result<Finding> {
        let c = self.c;
        let sized = |width: i64, seed: u64| -> Result<f64> {
            Ok(lowest(&curve(self.results, &Setting { width, batch: c.batch }.arm(), seed, c.first)?))
        };
        let largest = c.held_out.iter().copied().max().unwrap_or_default();
        let batch = *c.held_out_batches.iter().max().unwrap_or(&c.batch);
        let smallest = c.widths.iter().copied().min().unwrap_or_default();
        let parts = self.seeds.iter().map(|s| {
            let observed = lowest(&curve(self.results, &Setting { width: largest, batch }.arm(), s.seed, c.first)?);
            let predicted = s.report.stepwise.min_loss(RecallNet::size(largest));
            Ok((predicted, observed, sized(smallest, s.seed)? - observed))
        });
        let parts = parts.collect::<Result<Vec<(f64, f64, f64)>>>()?;
        let errors: Vec<f64> = parts.iter().map(|(p, o, range)| 100.0 * (p - o).abs() / range).collect();
        let pairs: Vec<String> = parts.iter().map(|(p, o, _)| format!("{p:.4} ({o:.4})")).collect();
        let relative: Vec<f64> = parts.iter().map(|(p, o, _)| 100.0 * (p / o - 1.0)).collect();
        let text = self.by_seed(|s| {
            let observed = lowest(&curve(self.results, &text_arm(c.text_held_out), s.seed, c.first)?);
            let predicted = s.text.stepwise.min_loss(block_parameters(TEXT_DEPTH, c.text_held_out as usize));
            Ok(100.0 * (predicted / observed - 1.0))
        })?;
        let note = format!(
            "Percent of the range. Predicted (observed) minimum loss of width {largest} by seed: {}; relative to the loss itself {} %. Secondary, text of width {}: {} %.",
            pairs.join(", "),
            list(&relative, 1),
            c.text_held_out,
            list(&text, 2),
        );
        let off: Vec<f64> = parts.iter().map(|(p, o, _)| (p / o).ln().abs()).collect();
        let verdict = match Self::at_most(&errors, 10.0, 20.0) {
            Verdict::Reproduced if stats::mean(&off) > 0.10 => Verdict::Partly,
            v => v,
        };
        Ok(self.finding("C2a", &errors, verdict, note))
    }

    /// Mean `|ln(L_pred/L_obs)|` of one held-out trajectory, on points that are judged.
    fn error(&self, law: &KaplanLaw, setting: Setting, seed: u64) -> Result<f64> {
        let observed = curve(self.results, &setting.arm(), seed, self.c.judged_from)?;
        let n = RecallNet::size(setting.width);
        let errors = observed.iter().map(|&(s, l)| Ok((law.loss_at(n, s, setting.batch as f64)? / l).ln().abs()));
        Ok(stats::mean(&errors.collect::<Result<Vec<_>>>()?))
    }

    fn mean_error(&self, law: &KaplanLaw, seed: u64) -> Result<f64> {
        let errors = Setting::held_out(self.c).into_iter().map(|s| self.error(law, s, seed));
        Ok(stats::mean(&errors.collect::<Result<Vec<_>>>()?))
    }

    /// C2b and C2d.
    fn trajectories(&self) -> Result<Finding> {
        let c = self.c;
        let errors = self.by_seed(|s| self.mean_error(&s.report.law, s.seed))?;
        let stepwise = self.by_seed(|s| self.mean_error(&s.report.stepwise, s.seed))?;
        let mut each = vec![];
        for setting in Setting::held_out(c) {
            let mut steps = vec![];
            for s in &self.seeds {
                let observed = curve(self.results, &setting.arm(), s.seed, c.first)?;
                for level in levels(&[&observed]) {
                    let Some(reached) = first_reach(&observed, level) else { continue };
                    let needs = s.report.law.requirements(RecallNet::size(setting.width), level, setting.batch as f64);
                    // A loss below the predicted minimum is never reached, by the law.
                    steps.push(needs.map_or(f64::INFINITY, |r| 100.0 * (r.steps / reached - 1.0).abs()));
                }
            }
            let error = stats::mean(&self.by_seed(|s| self.error(&s.report.law, setting, s.seed))?);
            each.push(format!("{} {error:.3} (steps to a loss off by {:.0} %)", setting.arm(), stats::median(&steps)));
        }
        let text = self.by_seed(|s| {
            let observed = curve(self.results, &text_arm(c.text_held_out), s.seed, c.judged_from)?;
            let (n, batch) =
                (block_parameters(TEXT_DEPTH, c.text_held_out as usize), (c.text_batch * c.text_context) as f64);
            let errors = observed.iter().map(|&(t, l)| Ok((s.text.law.loss_at(n, t, batch)? / l).ln().abs()));
            Ok(stats::mean(&errors.collect::<Result<Vec<_>>>()?))
        })?;
        let note = format!(
            "Mean |ln(L_pred/L_obs)| from step {} on, by the refined constants; by the lines alone {}. By run: {} (medians over {LEVELS} levels and seeds). Secondary, text of width {}: {}.",
            c.judged_from,
            list(&stepwise, 3),
            each.join("; "),
            c.text_held_out,
            list(&text, 3),
        );
        Ok(self.finding("C2bd", &errors, Self::at_most(&errors, 0.10, 0.20), note))
    }

    /// Curves of a width at the held-out batch sizes, by batch.
    fn held_out_curves(&self, width: i64, seed: u64) -> Result<Vec<(f64, Curve)>> {
        let of = |&batch: &usize| {
            Ok((batch as f64, curve(self.results, &Setting { width, batch }.arm(), seed, self.c.first)?))
        };
        self.c.held_out_batches.iter().map(of).collect()
    }

    /// Contours of a held-out width at levels that all of its curves pass; `None` where the steps allow none.
    fn measured(&self, width: i64, seed: u64) -> Result<Vec<(f64, Option<BatchTradeoff>)>> {
        let curves = self.held_out_curves(width, seed)?;
        let borrowed: Vec<(f64, &[(f64, f64)])> = curves.iter().map(|(b, c)| (*b, c.as_slice())).collect();
        let levels = levels(&borrowed.iter().map(|(_, c)| *c).collect::<Vec<_>>());
        Ok(levels.into_iter().map(|level| (level, contour(&borrowed, level).ok())).collect())
    }

    /// C2c.
    fn critical_batch(&self) -> Result<Finding> {
        let width = self.c.held_out[0];
        let mut ratios = vec![vec![]; LEVELS];
        let mut losses = vec![vec![]; LEVELS];
        for s in &self.seeds {
            for (i, (level, contour)) in self.measured(width, s.seed)?.into_iter().enumerate() {
                losses[i].push(level);
                ratios[i].extend(contour.map(|c| c.critical() / s.report.law.b_crit(level)));
            }
        }
        // A level at which a seed has no contour counts as a miss.
        let whole = |r: &Vec<f64>| r.len() == self.seeds.len();
        let means: Vec<f64> = ratios.iter().map(|r| if whole(r) { geometric(r) } else { f64::NAN }).collect();
        let met = means.iter().filter(|r| (1.0 / 1.5..=1.5).contains(*r)).count();
        let by_level: Vec<String> =
            losses.iter().zip(&means).map(|(l, r)| format!("{:.3}: {r:.2}", stats::mean(l))).collect();
        let by_seed: Vec<f64> = (0..self.seeds.len())
            .map(|k| geometric(&ratios.iter().filter(|r| whole(r)).map(|r| r[k]).collect::<Vec<_>>()))
            .collect();
        let note = format!(
            "Measured over predicted critical batch size of width {width} (geometric mean over levels by seed; measured from batches {:?}). By loss: {}. Within a factor 1.5 at {met} of {LEVELS} levels.",
            self.c.held_out_batches,
            by_level.join(", "),
        );
        Ok(self.finding("C2c", &by_seed, Verdict::of(met >= 4), note))
    }

    /// C3.
    fn without_batches(&self) -> Result<Finding> {
        let with = self.by_seed(|s| self.mean_error(&s.report.law, s.seed))?;
        let blind = self.by_seed(|s| self.mean_error(&s.blind.law, s.seed))?;
        let Judgement { estimate, .. } = verdict::ratio(&blind, &with, 1.0);
        let ratios: Vec<f64> = blind.iter().zip(&with).map(|(b, w)| b / w).collect();
        let note = format!(
            "Error without the batch size over error with it, geometric mean. Errors without it {}, with it {}. Of rate and context length, which the claim also names, nothing is tested here.",
            list(&blind, 3),
            list(&with, 3),
        );
        let verdict = Verdict::of(geometric(&ratios) >= 2.0).with_seeds(ratios.len());
        Ok(Finding { id: "C3", estimate, baseline: Some(2.0), verdict, note })
    }

    /// C4.
    fn loss_not_size(&self) -> Result<Finding> {
        let found: Vec<f64> = self.seeds.iter().map(|s| s.report.contours.len() as f64).collect();
        let slopes = self.by_seed(|s| {
            let (x, y): (Vec<f64>, Vec<f64>) =
                s.report.contours.iter().map(|(l, c)| (l.ln(), c.critical().ln())).unzip();
            Ok(stats::slope(&x, &y)?)
        })?;
        let falls = estimate(&slopes);
        // The two sizes at the losses of the held-out size's levels that the other passes too.
        let width = self.c.held_out[0];
        let mut compared = vec![];
        for s in &self.seeds {
            let small = self.c.batches.iter().map(|&batch| {
                let arm = Setting { width: self.c.sweep_width, batch }.arm();
                Ok((batch as f64, curve(self.results, &arm, s.seed, self.c.first)?))
            });
            let small = small.collect::<Result<Vec<(f64, Curve)>>>()?;
            let small: Vec<(f64, &[(f64, f64)])> = small
                .iter()
                .filter(|(b, _)| self.c.held_out_batches.contains(&(*b as usize)))
                .map(|(b, c)| (*b, c.as_slice()))
                .collect();
            let large = self.held_out_curves(width, s.seed)?;
            let large: Vec<(f64, &[(f64, f64)])> = large.iter().map(|(b, c)| (*b, c.as_slice())).collect();
            let all: Vec<&[(f64, f64)]> = small.iter().chain(&large).map(|(_, c)| *c).collect();
            let ratio =
                |level: f64| Some(contour(&large, level).ok()?.critical() / contour(&small, level).ok()?.critical());
            compared.push(levels(&all).into_iter().filter_map(ratio).collect::<Vec<_>>());
        }
        let ratios: Vec<f64> = compared.iter().map(|r| geometric(r)).collect();
        let used: Vec<f64> = compared.iter().map(|r| r.len() as f64).collect();
        let mean = geometric(&ratios);
        let parts = [falls.high < 0.0 && slopes.len() > 1, (1.0 / 1.5..=1.5).contains(&mean)];
        let note = format!(
            "Slope of ln B_crit on ln L at width {}. Critical batch size of width {width} over that of width {} at equal loss, both from batches {:?}, by seed: {} (geometric mean {mean:.2}). Contours by seed: {}; levels that allow the comparison, of {LEVELS}: {}.",
            self.c.sweep_width,
            self.c.sweep_width,
            self.c.held_out_batches,
            list(&ratios, 2),
            list(&found, 0),
            list(&used, 0),
        );
        Ok(self.finding("C4", &slopes, Verdict::all(&parts.map(Verdict::of)), note))
    }
}
