//! Verdicts.

use super::{
    ACCURACY, ALPHA, CKA, Config, DIFFICULTY, EPS, EXACT, KERNEL, LAZY, LINEAR, MISALIGNMENT, MONTE_CARLO, NORM,
    TARGETS, TEST, TRAIN, alpha_arm, decay_arm, eps_arm, few_decay_arm, image_arm, modular_arm, norm_arm, samples_arm,
};
use crate::results::Results;
use crate::verdict::{Finding, Verdict, estimate, within};
use anyhow::Result;
use autodidact_core::stats::{self, Estimate};
use autodidact_scaling::grokking::{GrokGap, PopulationFlow, grok_gap, log_steps};

pub fn findings(results: &Results, c: &Config) -> Result<Vec<Finding>> {
    let judge = Judge { results, c };
    Ok(vec![
        judge.groks()?,
        judge.output_scale()?,
        judge.alignment()?,
        judge.samples()?,
        judge.decomposition()?,
        judge.decay()?,
        judge.networks()?,
    ])
}

/// A run's gap with its last step, which stands for what has not happened by then.
#[derive(Clone, Copy)]
pub struct Ended {
    pub gap: GrokGap,
    last: usize,
}

impl Ended {
    pub fn known(&self) -> Option<f64> {
        self.gap.gap()
    }

    /// The gap, or the least that it can be.
    fn at_least(&self) -> f64 {
        let at = |t: Option<usize>| t.unwrap_or(self.last) as f64;
        at(self.gap.t_test) - at(self.gap.t_train)
    }

    fn words(&self) -> String {
        let at = |t: Option<usize>| t.map_or("none".to_owned(), |t| t.to_string());
        format!("{}->{}", at(self.gap.t_train), at(self.gap.t_test))
    }
}

/// The gaps of an arm by seed.
pub fn gaps(results: &Results, arm: &str, threshold: f64) -> Result<Vec<Ended>> {
    let of_seed = |seed| -> Result<Ended> {
        let train = results.series(arm, seed, TRAIN)?;
        let test = results.series(arm, seed, TEST)?;
        let curve: Vec<_> = train.iter().zip(&test).map(|(a, b)| (a.0 as usize, a.1, b.1)).collect();
        Ok(Ended { gap: grok_gap(&curve, threshold), last: curve.last().map_or(0, |p| p.0) })
    };
    results.seeds(arm).into_iter().map(of_seed).collect()
}

/// Median of what is there; `None` of nothing.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let values: Vec<f64> = values.collect();
    (!values.is_empty()).then(|| stats::median(&values))
}

pub fn median_gap(gaps: &[Ended]) -> Option<f64> {
    median(gaps.iter().filter_map(Ended::known))
}

fn words(gaps: &[Ended]) -> String {
    gaps.iter().map(Ended::words).collect::<Vec<_>>().join(", ")
}

/// At least four of five.
fn most(met: usize, of: usize) -> bool {
    5 * met >= 4 * of && of > 0
}

/// Correlation of a knob and what it does; NaN where there are fewer than three points.
fn spearman(points: &[(f64, f64)]) -> f64 {
    let (x, y): (Vec<f64>, Vec<f64>) = points.iter().copied().unzip();
    if points.len() < 3 { f64::NAN } else { stats::spearman(&x, &y).unwrap_or(f64::NAN) }
}

struct Judge<'a> {
    results: &'a Results,
    c: &'a Config,
}

impl Judge<'_> {
    fn seeds(&self) -> usize {
        self.results.plan().seeds.len()
    }

    fn finding(&self, id: &'static str, estimate: Estimate, parts: &[bool], note: String) -> Finding {
        let parts: Vec<Verdict> = parts.iter().map(|p| Verdict::of(*p)).collect();
        let verdict = Verdict::all(&parts).with_seeds(self.seeds());
        Finding { id, estimate, baseline: None, verdict, note }
    }

    fn gaps(&self, arm: &str) -> Result<Vec<Ended>> {
        gaps(self.results, arm, self.c.threshold)
    }

    /// C1.
    fn groks(&self) -> Result<Finding> {
        let arm = alpha_arm(ALPHA);
        let gaps = self.gaps(&arm)?;
        let last = self.results.values(&arm, TEST)?;
        let ratios: Vec<f64> = gaps.iter().map(|g| g.gap.log_ratio().map_or(f64::NAN, f64::exp)).collect();
        let met = ratios.iter().zip(&last).filter(|(r, l)| **r >= 4.0 && **l < self.c.threshold).count();
        let known: Vec<f64> = ratios.iter().copied().filter(|r| r.is_finite()).collect();
        let targets = self.results.values(LAZY, TARGETS)?;
        let kernel = self.results.values(LAZY, KERNEL)?;
        let mut lowest = vec![];
        for seed in self.results.seeds(LAZY) {
            lowest.push(self.results.series(LAZY, seed, TEST)?.iter().map(|p| p.1).fold(f64::MAX, f64::min));
        }
        let lazy: Vec<f64> = lowest.iter().zip(&kernel).zip(&targets).map(|((l, k), t)| l.min(*k) / t).collect();
        let stays = lazy.iter().all(|l| *l > 0.5);
        let list = |v: &[f64]| v.iter().map(|v| format!("{v:.3}")).collect::<Vec<_>>().join(", ");
        let note = format!(
            "t_test/t_train, mean over seeds; met in {met} of {}. Steps to the threshold by seed: {}. Final test losses {}; lowest of the linearised network {}, kernel regression {}, targets' variance {}. Difficulty of the task for the kernel {:.0} (mean).",
            ratios.len(),
            words(&gaps),
            list(&last),
            list(&lowest),
            list(&kernel),
            list(&targets),
            self.results.mean(LAZY, DIFFICULTY)?,
        );
        Ok(self.finding("C1", estimate(&known), &[most(met, ratios.len()), stays], note))
    }

    /// C2.
    fn output_scale(&self) -> Result<Finding> {
        let mut alphas = self.c.alphas.clone();
        alphas.sort_by(f64::total_cmp);
        let (mut points, mut said, mut censored) = (vec![], vec![], false);
        for (i, &alpha) in alphas.iter().enumerate() {
            let gaps = self.gaps(&alpha_arm(alpha))?;
            points.extend(median_gap(&gaps).map(|g| (alpha, g)));
            censored |= i + 1 < alphas.len() && gaps.iter().any(|g| g.known().is_none());
            said.push(format!("alpha {alpha}: {}", words(&gaps)));
        }
        let mut norms = vec![];
        for &norm in &self.c.norms {
            norms.push(format!("{norm}: {}", words(&self.gaps(&norm_arm(norm))?)));
        }
        let theory: Vec<String> = alphas
            .iter()
            .map(|&alpha| {
                let flow = PopulationFlow { d: self.c.d, alpha, eps: EPS, rate: 1.0 };
                let time = flow.time(self.c.threshold, &log_steps(self.c.long_steps, 100))?;
                Ok(format!("{alpha}: {}", time.map_or("none".into(), |t| t.to_string())))
            })
            .collect::<Result<_>>()?;
        let rho = spearman(&points);
        let medians: Vec<String> = points.iter().map(|(a, g)| format!("{a}: {g:.0}")).collect();
        let note = format!(
            "Spearman's correlation of alpha and the median gap. Medians {}. By seed, {}. With unlimited data the theory has the test loss at the threshold after {}. Over the scale of the initial weights (centred, rate over its square): {}.",
            medians.join(", "),
            said.join("; "),
            theory.join(", "),
            norms.join("; "),
        );
        Ok(self.finding(
            "C2",
            Estimate { n: points.len(), ..Estimate::exact(rho) },
            &[rho > 1.0 - 1e-9, !censored],
            note,
        ))
    }

    fn first_and_last(&self, arm: &str, metric: &str) -> Result<Vec<(f64, f64)>> {
        let of_seed = |seed| -> Result<(f64, f64)> {
            let series = self.results.series(arm, seed, metric)?;
            Ok((series[0].1, series[series.len() - 1].1))
        };
        self.results.seeds(arm).into_iter().map(of_seed).collect()
    }

    /// C3.
    fn alignment(&self) -> Result<Finding> {
        let mut epss = self.c.epss.clone();
        epss.sort_by(f64::total_cmp);
        let (mut points, mut said) = (vec![], vec![]);
        for &eps in &epss {
            let arm = eps_arm(eps);
            let cka = self.first_and_last(&arm, CKA)?;
            let mean = |v: fn(&(f64, f64)) -> f64| stats::mean(&cka.iter().map(v).collect::<Vec<_>>());
            points.push((eps, mean(|c| c.0)));
            let gaps = words(&self.gaps(&arm)?);
            said.push(format!("eps {eps}: CKA {:.3} to {:.3}, steps {gaps}", mean(|c| c.0), mean(|c| c.1)));
        }
        let least = |eps: f64| -> Result<f64> {
            Ok(median(self.gaps(&eps_arm(eps))?.iter().map(Ended::at_least)).unwrap_or(f64::NAN))
        };
        let rho = spearman(&points);
        let (smallest, main) = (least(epss[0])?, least(EPS)?);
        let rise = self.first_and_last(&alpha_arm(ALPHA), CKA)?;
        let rises: Vec<f64> = rise.iter().map(|(first, last)| last / first).collect();
        let note = format!(
            "Rise of the main arm's CKA (last over first). Spearman's correlation of eps and the initial CKA {rho:.2}; median gap (at least) {smallest:.0} at eps {}, {main:.0} at {EPS}. {}.",
            epss[0],
            said.join("; "),
        );
        let parts = [rho > 0.9, smallest > main && epss[0] < EPS, stats::mean(&rises) > 3.0];
        Ok(self.finding("C3", estimate(&rises), &parts, note))
    }

    /// C4.
    fn samples(&self) -> Result<Finding> {
        let mut all = self.c.other_samples.clone();
        all.push(self.c.samples);
        all.sort_unstable();
        let by_size = all.iter().map(|p| self.gaps(&samples_arm(*p, self.c))).collect::<Result<Vec<_>>>()?;
        let said: Vec<String> = all.iter().zip(&by_size).map(|(p, g)| format!("P {p}: {}", words(g))).collect();
        if all.len() < 5 {
            return Ok(Finding::not_judged("C4", format!("Needs five numbers of samples. {}.", said.join("; "))));
        }
        let reached = |g: &Vec<Ended>| g.iter().filter(|e| e.gap.t_test.is_some()).count();
        let never = by_size[..2].iter().all(|g| reached(g) == 0);
        let do_reach = by_size[2..4].iter().all(|g| most(reached(g), g.len()));
        let least = |g: &[Ended]| median(g.iter().map(Ended::at_least)).unwrap_or(f64::NAN);
        let (middle, largest) = (least(&by_size[2]), least(&by_size[all.len() - 1]));
        let few: Vec<f64> = self.results.values(&samples_arm(all[1], self.c), TEST)?;
        let note = format!(
            "Median gap (at least) at P {} over that at P {}; {largest:.0} and {middle:.0} steps. {}. Final test loss at P {}: {:.3}.",
            all[all.len() - 1],
            all[2],
            said.join("; "),
            all[1],
            stats::mean(&few),
        );
        let parts = [never, do_reach, largest < middle];
        Ok(self.finding("C4", Estimate { n: self.seeds(), ..Estimate::exact(largest / middle) }, &parts, note))
    }

    /// C5.
    fn decomposition(&self) -> Result<Finding> {
        let arm = alpha_arm(ALPHA);
        let (mut off, mut sampled, mut before, mut said) = (vec![], vec![], true, vec![]);
        for seed in self.results.seeds(&arm) {
            let series = |metric| self.results.series(&arm, seed, metric);
            let (exact, many) = (series(EXACT)?, series(MONTE_CARLO)?);
            let furthest = |other: &[(f64, f64)]| {
                exact.iter().zip(other).map(|(e, m)| (e.1 / m.1 - 1.0).abs()).fold(0.0, f64::max)
            };
            off.push(furthest(&many));
            sampled.push(furthest(&series(TEST)?));
            let linear = series(LINEAR)?;
            let peak = linear.iter().fold((0.0, f64::MIN), |best, p| if p.1 > best.1 { *p } else { best });
            let misalignment = series(MISALIGNMENT)?;
            let half = misalignment.iter().find(|p| p.1 <= 0.5 * misalignment[0].1).map(|p| p.0);
            before &= half.is_none_or(|h| peak.0 < h) && peak.0 > 0.0;
            let half = half.map_or("none".to_owned(), |h| h.to_string());
            said.push(format!("{:.3} to {:.3} at step {}, {half}", linear[0].1, peak.1, peak.0));
        }
        let judged = within(&off, 0.05);
        let note = format!(
            "Largest relative difference of the sum of the terms and the loss on {} fresh points; on the {} test samples {:.2}. Linear power (start to peak) and the step at which the misalignment is half: {}.",
            self.c.monte_carlo,
            self.c.test,
            stats::mean(&sampled),
            said.join("; "),
        );
        let parts = [judged.verdict == Verdict::Reproduced, before];
        Ok(self.finding("C5", judged.estimate, &parts, note))
    }

    /// C6.
    fn decay(&self) -> Result<Finding> {
        let mut growth = vec![];
        for (arm, toy) in self.c.toys() {
            if toy.decay > 0.0 {
                continue;
            }
            for (gap, (first, last)) in self.gaps(&arm)?.iter().zip(self.first_and_last(&arm, NORM)?) {
                growth.extend(gap.known().map(|_| last / first));
            }
        }
        let grown = growth.iter().filter(|g| **g >= 1.0).count();
        let mut said = vec![];
        for &decay in &self.c.decays {
            said.push(format!("{decay}: {}", words(&self.gaps(&decay_arm(decay))?)));
        }
        if let (Some(&decay), Some(&p)) = (self.c.decays.first(), self.c.other_samples.first()) {
            said.push(format!("{decay} at P {p}: {}", words(&self.gaps(&few_decay_arm(decay, p))?)));
        }
        let note = format!(
            "Final over initial norm of the weights in the {} runs without decay in which both losses end below the threshold; it is at least 1 in {grown}. With a share of the weights taken off per step, steps to the threshold: {}.",
            growth.len(),
            said.join("; "),
        );
        let verdict = match () {
            _ if growth.is_empty() => Verdict::NotJudged,
            _ if grown == growth.len() => Verdict::Reproduced,
            _ if 2 * grown > growth.len() => Verdict::Partly,
            _ => Verdict::NotReproduced,
        };
        let verdict = verdict.with_seeds(self.seeds());
        // Runs of a seed share data and weights: no interval.
        let estimate = Estimate { n: self.seeds(), ..Estimate::exact(stats::mean(&growth)) };
        Ok(Finding { id: "C6", estimate, baseline: Some(1.0), verdict, note })
    }

    /// C7.
    fn networks(&self) -> Result<Finding> {
        let mut scales = self.c.image_scales.clone();
        scales.sort_by(f64::total_cmp);
        let (mut points, mut said) = (vec![], vec![]);
        for &scale in &scales {
            let arm = image_arm(scale);
            let gaps = gaps(self.results, &arm, self.c.image_threshold)?;
            points.extend(median(gaps.iter().map(Ended::at_least)).map(|g| (scale, g)));
            said.push(format!(
                "scale {scale}: {} (final losses {:.3} training, {:.3} test; test accuracy {:.3})",
                words(&gaps),
                self.results.mean(&arm, TRAIN)?,
                self.results.mean(&arm, TEST)?,
                self.results.mean(&arm, ACCURACY)?,
            ));
        }
        if self.c.modulus > 0 {
            for &decay in &self.c.modular_decays {
                for &scale in &self.c.modular_scales {
                    let arm = modular_arm(scale, decay);
                    let gaps = gaps(self.results, &arm, 0.1)?;
                    said.push(format!("{arm}: losses below 0.1 at {}", words(&gaps)));
                }
            }
        }
        let rho = spearman(&points);
        let verdict = match rho {
            r if r.is_nan() => Verdict::NotJudged,
            r if r > 1.0 - 1e-9 => Verdict::Reproduced,
            r if r > 0.0 => Verdict::Partly,
            _ => Verdict::NotReproduced,
        };
        let verdict = verdict.with_seeds(self.seeds());
        let note = format!(
            "Spearman's correlation of the output scale and the median gap on images, threshold {}. By seed, {}.",
            self.c.image_threshold,
            said.join("; "),
        );
        let estimate = Estimate { n: points.len(), ..Estimate::exact(rho) };
        Ok(Finding { id: "C7", estimate, baseline: None, verdict, note })
    }
}
