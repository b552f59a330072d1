//! Laws of the finished runs, and the findings.

use super::runs::{Domain, Run};
use super::study::{PERCENTILES, Points, Study};
use super::{Config, IMAGES, SCRATCH, TOKENS, TUNED};
use crate::results::Results;
use crate::verdict::{self, Finding, Verdict, estimate};
use anyhow::{Context as _, Result};
use autodidact_core::stats::{self, mean};
use autodidact_scaling::autoregressive_scaling::{Trend, infogain, log_n_fit, reducible_r2};
use autodidact_scaling::fit::{FitOptions, NOpt, Objective, PF_DAY, PowerLawPlusConst};

/// Domains whose constants are not known beforehand.
const UNKNOWN: [Domain; 3] = [Domain::Images, Domain::Arithmetic, Domain::Text];

/// The finding of every claim.
pub fn findings(results: &Results, c: &Config) -> Result<Vec<Finding>> {
    let study = Study { results, c };
    let found: [(&'static str, Result<Finding>); 7] = [
        ("C1", study.by_size()),
        ("C2", study.best_sizes()),
        ("C4", study.aspect_ratios()),
        ("C5", study.percentiles()),
        ("C6", study.labels()),
        ("C7", study.extrapolation()),
        ("C8", study.classification()),
    ];
    // Runs that allow no fit leave a claim open, and not the others.
    let mut all: Vec<Finding> = found
        .into_iter()
        .map(|(id, finding)| finding.unwrap_or_else(|e| Finding::not_judged(id, format!("No fit: {e:#}"))))
        .collect();
    let largest = Domain::Images.runs(c).last().map_or(0.0, Run::weights);
    let why = format!("The largest network on images has {largest:.0} weights: it says nothing of 1e9.");
    all.insert(2, Finding::not_judged("C3", why));
    all.push(study.positions());
    all.push(study.crossing().unwrap_or_else(|e| Finding::not_judged("C10", format!("No fit: {e:#}"))));
    Ok(all)
}

/// `R^2` of the line of `y` on `x`, and of the plane of `y` on `x` and `z`.
fn explained(x: &[f64], z: &[f64], y: &[f64]) -> Result<(f64, f64)> {
    let first = stats::pearson(x, y)?.powi(2);
    let left = |y: &[f64]| -> Result<Vec<f64>> {
        let (slope, middle) = (stats::slope(x, y)?, (mean(x), mean(y)));
        Ok(x.iter().zip(y).map(|(x, v)| v - middle.1 - slope * (x - middle.0)).collect())
    };
    // What is left of y is explained by what is left of z.
    let more = stats::pearson(&left(z)?, &left(y)?)?.powi(2);
    Ok((first, first + (1.0 - first) * more))
}

fn words(law: &PowerLawPlusConst) -> String {
    format!("{:.3} + (x/{:.2e})^-{:.3}", law.l_inf, law.x0, law.alpha)
}

fn joined(values: &[f64], digits: usize) -> String {
    values.iter().map(|v| format!("{v:.digits$}")).collect::<Vec<_>>().join(", ")
}

impl Study<'_> {
    fn finding(&self, id: &'static str, values: &[f64], verdict: Verdict, note: String) -> Finding {
        let verdict = verdict.with_seeds(self.seeds().len());
        Finding { id, estimate: estimate(values), baseline: None, verdict, note }
    }

    /// C1.
    fn by_size(&self) -> Result<Finding> {
        let straight =
            |domain| self.by_seed(|seed| Ok(reducible_r2(&self.law(domain, seed)?, &self.sizes(domain, seed)?)?));
        let beyond = |domain| {
            self.by_seed(|seed| {
                let points = self.sizes(domain, seed)?;
                let (last, others) = points.split_last().context("no sizes")?;
                let law = PowerLawPlusConst::fit(others, &FitOptions::default())?.law;
                Ok(100.0 * (law.loss(last.0) / last.1 - 1.0).abs())
            })
        };
        let (mut parts, mut notes, mut lowest) = (vec![], vec![], vec![f64::INFINITY; self.seeds().len()]);
        for domain in UNKNOWN {
            let shown = || -> Result<String> {
                let first = self.seeds()[0];
                let constants = self.by_seed(|s| Ok(self.law(domain, s)?.l_inf))?;
                let by_compute = self.by_seed(|s| Ok(self.frontier(domain, s)?.l_inf))?;
                Ok(format!(
                    "L_inf of L(N) {}, of L(C) {}; first seed L(N) {}, L(C in PF-days) {}",
                    joined(&constants, 3),
                    joined(&by_compute, 3),
                    words(&self.law(domain, first)?),
                    words(&self.frontier(domain, first)?),
                ))
            };
            let measured = straight(domain).and_then(|r2| Ok((r2, beyond(domain)?)));
            // Text, and the laws of compute, are shown only: what cannot be fitted there leaves the claim as it is.
            if domain == Domain::Text && measured.is_err() {
                notes.push("text: no fit".to_owned());
                continue;
            }
            let (r2, error) = measured?;
            let met = [mean(&r2) >= 0.97, mean(&error) <= 2.0];
            if domain != Domain::Text {
                parts.extend(met.map(Verdict::of));
                lowest.iter_mut().zip(&r2).for_each(|(low, r)| *low = low.min(*r));
            }
            notes.push(format!(
                "{}: R^2 {} (needed 0.97), largest size off by {} % (2); {}",
                domain.name(),
                joined(&r2, 4),
                joined(&error, 2),
                shown().unwrap_or_else(|e| format!("no law of compute: {e:#}")),
            ));
        }
        let shares = self.by_seed(|seed| {
            let smallest = self.sizes(Domain::Recall, seed)?.first().map_or(f64::NAN, |p| p.1);
            Ok(100.0 * self.law(Domain::Recall, seed)?.l_inf / smallest)
        })?;
        // Recall alone is a check of the fit, not a domain that follows the law.
        let none = Verdict::all(&parts) == Verdict::NotReproduced;
        parts.push(Verdict::of(mean(&shares) < 5.0));
        let verdict = if none { Verdict::NotReproduced } else { Verdict::all(&parts) };
        let recall = joined(&straight(Domain::Recall)?, 4);
        let note = format!(
            "Lower R^2 of images and arithmetic by seed. {}. Recall: L_inf {} % of the smallest model's loss (below 5), R^2 {recall}. Text is no part of the verdict.",
            notes.join(". "),
            joined(&shares, 2),
        );
        Ok(self.finding("C1", &lowest, verdict, note))
    }

    /// C2.
    fn best_sizes(&self) -> Result<Finding> {
        let mut notes = vec![];
        let (mut betas, mut squares, mut fewest) = (vec![], vec![], usize::MAX);
        for domain in UNKNOWN {
            let fits = self.by_seed(|seed| Ok(NOpt::fit(&self.corners(domain, seed)?)?));
            if domain == Domain::Text && fits.is_err() {
                notes.push("text: no fit".to_owned());
                continue;
            }
            let fits = fits?;
            let corners = self.by_seed(|seed| self.corners(domain, seed))?;
            let sizes = |points: &Points| {
                let mut sizes: Vec<f64> = points.iter().map(|p| p.1).collect();
                sizes.sort_unstable_by(f64::total_cmp);
                sizes.dedup();
                sizes.len()
            };
            let distinct: Vec<usize> = corners.iter().map(sizes).collect();
            // Of the first and the last corner alone.
            let ends = corners.iter().map(|p| {
                let ((c0, n0), (c1, n1)) = (p[0], p[p.len() - 1]);
                (n1 / n0).ln() / (c1 / c0).ln()
            });
            let ends = ends.collect::<Vec<f64>>();
            let beta: Vec<f64> = fits.iter().map(|f| f.0.beta).collect();
            // Of corners of one size there is no variance to explain.
            let r2: Vec<f64> = fits.iter().map(|f| if f.1.is_finite() { f.1 } else { 0.0 }).collect();
            let data: Vec<f64> = fits.iter().map(|f| f.0.data_exponent()).collect();
            notes.push(format!(
                "{}: beta {} (of the first and last corner alone {}), R^2 {}, D as N to the {}, sizes among the corners {distinct:?}",
                domain.name(),
                joined(&beta, 3),
                joined(&ends, 3),
                joined(&r2, 3),
                joined(&data, 2)
            ));
            if domain != Domain::Text {
                fewest = distinct.into_iter().fold(fewest, usize::min);
                betas.push(beta);
                squares.push(r2);
            }
        }
        let within = betas.iter().all(|b| (0.4..=0.9).contains(&mean(b)));
        let straight = squares.iter().all(|r| mean(r) >= 0.95) && betas.iter().all(|b| mean(b) > 0.0);
        let verdict = match (within, straight) {
            // Two sizes make a power law of anything.
            _ if fewest < 3 => Verdict::NotJudged,
            (true, _) => Verdict::Reproduced,
            (false, true) => Verdict::Partly,
            _ => Verdict::NotReproduced,
        };
        let both: Vec<f64> = (0..self.seeds().len()).map(|s| mean(&[betas[0][s], betas[1][s]])).collect();
        let note = format!("Mean beta of images and arithmetic by seed. {}.", notes.join("; "));
        Ok(self.finding("C2", &both, verdict, note))
    }

    /// C4.
    fn aspect_ratios(&self) -> Result<Finding> {
        if self.c.shapes.len() < 2 {
            return Ok(Finding::not_judged("C4", "No shapes of equal size at this scale: only `full` trains them."));
        }
        let mut best = vec![];
        let mut notes = vec![];
        for domain in [Domain::Images, Domain::Text] {
            let shapes = domain.shapes(self.c);
            let losses = self.by_seed(|s| shapes.iter().map(|r| Ok(self.best(r, s)?.1)).collect::<Result<Vec<_>>>())?;
            let of = |i: usize| mean(&losses.iter().map(|l| l[i]).collect::<Vec<_>>());
            let ratio = |i: usize| shapes[i].aspect_ratio();
            let lowest = (0..shapes.len()).min_by(|&a, &b| of(a).total_cmp(&of(b))).unwrap_or(0);
            best.push(ratio(lowest));
            let list: Vec<String> = (0..shapes.len()).map(|i| format!("{:.1}: {:.4}", ratio(i), of(i))).collect();
            notes.push(format!("{} {}", domain.name(), list.join(", ")));
        }
        let verdict = Verdict::all(&[Verdict::of(best[0] <= 20.0), Verdict::of(best[1] > best[0])]);
        let note =
            format!("Best aspect ratio on images; on text {:.1}. Losses by ratio: {}.", best[1], notes.join("; "));
        Ok(self.finding("C4", &best[..1], verdict, note))
    }

    /// C5.
    fn percentiles(&self) -> Result<Finding> {
        let trends = self.by_seed(|seed| self.trends(seed))?;
        let of = |k: usize, f: &dyn Fn(&Trend) -> f64| mean(&trends.iter().map(|t| f(&t[k])).collect::<Vec<_>>());
        let r2: Vec<f64> = (0..PERCENTILES.len()).map(|k| of(k, &|t| t.r2)).collect();
        let lowest: Vec<f64> = trends.iter().map(|t| t.iter().map(|t| t.r2).fold(f64::INFINITY, f64::min)).collect();
        let list: Vec<String> = (0..PERCENTILES.len())
            .map(|k| {
                let (l_inf, alpha) = (of(k, &|t| t.fitted.law.l_inf), of(k, &|t| t.fitted.law.alpha));
                format!("{}: R^2 {:.4}, L_inf {l_inf:.1}, alpha {alpha:.2}", PERCENTILES[k], r2[k])
            })
            .collect();
        let parts: Vec<Verdict> = r2.iter().map(|r| Verdict::of(*r >= 0.95)).collect();
        let note = format!("Lowest R^2 of the percentiles by seed. Means (nats per image): {}.", list.join("; "));
        Ok(self.finding("C5", &lowest, Verdict::all(&parts), note))
    }

    /// C6.
    fn labels(&self) -> Result<Finding> {
        let by_seed = self.by_seed(|seed| self.information(seed))?;
        let sizes: Vec<f64> = by_seed[0].iter().map(|p| p.0.ln()).collect();
        let of = |k: usize| by_seed.iter().map(|p| p[k].1).collect::<Vec<_>>();
        let estimates: Vec<_> = (0..sizes.len()).map(|k| estimate(&of(k))).collect();
        let means: Vec<f64> = estimates.iter().map(|e| e.value).collect();
        let rank = stats::spearman(&sizes, &means)?;
        let text = 10f64.ln();
        let gains = means.iter().map(|i| Ok(infogain(*i, text)?)).collect::<Result<Vec<f64>>>()?;
        let law = by_seed.iter().map(|p| Ok(log_n_fit(p)?)).collect::<Result<Vec<_>>>()?;
        let parts = [estimates.iter().skip(2).all(|e| e.low > 0.0), rank >= 0.9];
        let bounded = gains.iter().all(|g| *g <= 1.0);
        let verdict = match Verdict::all(&parts.map(Verdict::of)) {
            Verdict::Reproduced if !bounded => Verdict::Partly,
            verdict => verdict,
        };
        let list: Vec<String> = sizes
            .iter()
            .zip(&estimates)
            .map(|(n, e)| format!("N {:.0}: {:.3} ({:.3} to {:.3})", n.exp(), e.value, e.low, e.high))
            .collect();
        let note = format!(
            "Information of the label at the largest size, nats per image. By size: {}. Spearman with ln N {rank:.2}; infogain {}; lambda of lambda ln(N/N_c) {}, R^2 {}.",
            list.join(", "),
            joined(&gains, 3),
            joined(&law.iter().map(|l| l.0.lambda).collect::<Vec<_>>(), 3),
            joined(&law.iter().map(|l| l.1).collect::<Vec<_>>(), 3),
        );
        Ok(self.finding("C6", &of(sizes.len() - 1), verdict, note))
    }

    /// C7.
    fn extrapolation(&self) -> Result<Finding> {
        let shares = self.by_seed(|seed| {
            let (mut x, mut z, mut y) = (vec![], vec![], vec![]);
            for run in Domain::Arithmetic.runs(self.c) {
                for (same, longer) in self.hard(&run, seed)? {
                    x.push(same);
                    z.push(run.weights().ln());
                    y.push(longer);
                }
            }
            let (line, plane) = explained(&x, &z, &y)?;
            Ok((line, plane, stats::slope(&x, &y)?))
        })?;
        let line: Vec<f64> = shares.iter().map(|s| s.0).collect();
        let more: Vec<f64> = shares.iter().map(|s| s.1 - s.0).collect();
        let slopes: Vec<f64> = shares.iter().map(|s| s.2).collect();
        // Where the line explains nothing, that the size adds nothing says nothing.
        let verdict = match (mean(&line) >= 0.9 && mean(&slopes) > 0.0, mean(&more) < 0.03) {
            (true, true) => Verdict::Reproduced,
            (true, false) => Verdict::Partly,
            _ => Verdict::NotReproduced,
        };
        let at_the_end = self.by_seed(|seed| {
            let of = |run: &Run| Ok(self.hard(run, seed)?.last().copied().unwrap_or((f64::NAN, f64::NAN)));
            Domain::Arithmetic.runs(self.c).iter().map(of).collect::<Result<Points>>()
        })?;
        let ends: Vec<String> = at_the_end[0].iter().map(|p| format!("{:.3} and {:.3}", p.0, p.1)).collect();
        let note = format!(
            "Share of variance that the line explains, by seed (slopes {}); with ln N more by {}. Losses at the end on {} to {} digits and on {} to {}, by size (first seed): {}.",
            joined(&slopes, 2),
            joined(&more, 4),
            self.c.digits.0,
            self.c.digits.1,
            self.c.longer.0,
            self.c.longer.1,
            ends.join("; "),
        );
        Ok(self.finding("C7", &line, verdict, note))
    }

    /// C8.
    fn classification(&self) -> Result<Finding> {
        let runs = Domain::Images.runs(self.c);
        let sizes: Vec<f64> = runs.iter().map(|r| r.weights().ln()).collect();
        let (tuned, scratch) = (self.errors(TUNED)?, self.errors(SCRATCH)?);
        let falls = verdict::trend(&sizes, &tuned.iter().map(|e| e.iter().map(|v| -v).collect()).collect::<Vec<_>>());
        // A hundredth of a percent keeps the ratio of errors finite.
        let gain =
            |k: usize| tuned.iter().zip(&scratch).map(|(t, s)| (s[k] + 0.01) / (t[k] + 0.01)).collect::<Vec<f64>>();
        let (small, large) = (gain(0), gain(sizes.len() - 1));
        let more = verdict::ratio(&large, &small, 1.0);
        let by_size = |e: &[Vec<f64>]| -> Vec<f64> {
            (0..sizes.len()).map(|k| mean(&e.iter().map(|e| e[k]).collect::<Vec<_>>())).collect()
        };
        let note = format!(
            "By how much more pre-training divides the error at the largest size than at the smallest (geometric mean): {more:.2}. Errors by size, fine-tuned: {} %; from scratch: {} %. Error falls by {falls:.2} % per factor e of N.",
            joined(&by_size(&tuned), 1),
            joined(&by_size(&scratch), 1),
        );
        let verdict = Verdict::all(&[falls.verdict, more.verdict]);
        Ok(Finding { id: "C8", estimate: more.estimate, baseline: Some(1.0), verdict, note })
    }

    /// C9.
    fn positions(&self) -> Finding {
        let r2 = |domain| -> Result<String> {
            let points = self.by_position(domain)?;
            // Places whose pixels are always dark cost nothing, and have no logarithm.
            let points: Points = points.into_iter().map(|p| (p.0, p.1.max(1e-3))).collect();
            let squares = FitOptions { objective: Objective::LeastSquares, ..Default::default() };
            let fitted = PowerLawPlusConst::fit(&points, &squares)?;
            Ok(format!("{} {:.3} (exponent {:.2})", domain.name(), fitted.r2, fitted.law.alpha))
        };
        let both: Vec<String> = [Domain::Text, Domain::Images].into_iter().filter_map(|d| r2(d).ok()).collect();
        Finding::not_judged(
            "C9",
            format!(
                "See the plot. R^2 of a power law with a constant in the position, largest network: {}.",
                both.join(", ")
            ),
        )
    }

    /// C10.
    fn crossing(&self) -> Result<Finding> {
        if self.c.data.is_empty() {
            return Ok(Finding::not_judged("C10", "No runs on fewer images at this scale: only `full` trains them."));
        }
        let found = self.by_seed(|seed| {
            let by_compute = self.frontier(Domain::Images, seed)?;
            let curves = self.curves(Domain::Images, seed)?;
            let most = curves.iter().flatten().map(|p| p.0).fold(0.0, f64::max);
            let tokens = self.results.value(&Domain::Images.runs(self.c)[0].arm(), seed, TOKENS)? / self.c.batch as f64;
            let limited = Run::limited(self.c)
                .into_iter()
                .map(|run| Ok((self.results.value(&run.arm(), seed, IMAGES)? * tokens, self.best(&run, seed)?.1)));
            let by_data = PowerLawPlusConst::fit(&limited.collect::<Result<Points>>()?, &FitOptions::default())?.law;
            let best = NOpt::fit(&self.corners(Domain::Images, seed)?)?.0;
            let cross = (0..4000)
                .map(|i| most * 10f64.powf(f64::from(i) * 0.005))
                .find(|&c| by_compute.loss(c) < by_data.loss(best.tokens(c, PF_DAY)));
            Ok(cross.map_or(f64::INFINITY, |at| (at / most).log10()))
        })?;
        let verdict = Verdict::of(found.iter().all(|x| *x > 0.0 && x.is_finite()));
        let note = "Decades of compute beyond the largest run at which L(C) falls below L(D(C)).".to_owned();
        Ok(self.finding("C10", &found, verdict, note))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{LONGER, LOSS, POSITIONS, SAMPLES, TOLD};
    use super::*;
    use crate::experiment::{Experiment as _, Plan, Scale};
    use crate::runner::{CellRecord, MetricPoint};
    use crate::scaling::AutoregressiveScaling;

    #[test]
    fn planes_explain_what_lines_leave() {
        let x = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
        let z = [1.0, -1.0, 1.0, -1.0, 1.0, -1.0];
        let y: Vec<f64> = x.iter().zip(z).map(|(x, z)| 2.0 * x + 0.5 * z).collect();
        let (line, plane) = explained(&x, &z, &y).unwrap();
        assert!((plane - 1.0).abs() < 1e-12 && line < 0.999 && line > 0.9, "{line} {plane}");
        let y: Vec<f64> = x.iter().map(|x| 1.0 - x).collect();
        assert!(explained(&x, &z, &y).is_err() || explained(&x, &z, &y).unwrap().0 > 1.0 - 1e-12);
    }

    /// Cells whose curves follow laws; `bend` spoils the sizes. With `shapes` there are those of C4 and the limits of C10.
    fn made_up(bend: f64, shapes: bool) -> Vec<Finding> {
        let mut config = AutoregressiveScaling.config(Scale::Small);
        if shapes {
            config["shapes"] = serde_json::json!([[88, 1], [48, 4], [24, 12]]);
            config["data"] = serde_json::json!([100, 1000, 10_000, 100_000]);
        }
        let c: Config = serde_json::from_value(config.clone()).unwrap();
        let plan = Plan { seeds: vec![0, 1, 2], ..Plan::trial(Scale::Small, "digits", config) };
        let mut cells = vec![];
        for cell in AutoregressiveScaling.cells(&plan).unwrap() {
            let run = Run::all(&c).into_iter().find(|r| r.arm() == cell.arm).unwrap();
            let (n, seed) = (run.weights(), cell.seed as f64);
            let l_inf = match run.domain {
                Domain::Recall => 1e-6,
                _ => 1.0 + 0.01 * seed,
            };
            let mut record = CellRecord::default();
            let mut put = |step: usize, metric: &str, value: f64| {
                record.metrics.push(MetricPoint { step: step as u64, metric: metric.to_owned(), value });
            };
            if let Some(images) = run.limit {
                put(0, IMAGES, images as f64);
            }
            put(0, TOKENS, if run.domain == Domain::Images { 64.0 * c.batch as f64 } else { 1536.0 });
            let spoiled = if run.width == 16 { bend } else { 0.0 };
            // Shapes are best at a ratio of 12 on images, of 88 on text; few images cost as a power of their tokens.
            let shape = match run.domain {
                Domain::Images => 0.01 * (run.aspect_ratio() / 12.0).ln().abs(),
                _ => 0.01 * (run.aspect_ratio() / 88.0).ln().abs(),
            };
            let shape = if run.domain.shapes(&c).contains(&run) { shape } else { 0.0 };
            let few = run.limit.map_or(0.0, |images| (10.0 / images as f64).powf(0.5));
            let floor = l_inf + (500.0 / n).powf(0.3) + spoiled + shape + few;
            for step in super::super::runs::checkpoints(&c, c.steps) {
                let loss = floor + 3.0 * (step as f64).powf(-0.6);
                put(step, LOSS, loss);
                if run.domain == Domain::Images {
                    put(step, TOLD, loss - (0.2 * (n / 100.0).ln() + 0.01 * seed) / 64.0);
                }
                if run.domain == Domain::Arithmetic {
                    put(step, LONGER, 2.0 * loss + 0.5 + 0.3 * spoiled);
                }
            }
            if run.domain == Domain::Images {
                put(c.steps, TUNED, 30.0 - 2.0 * n.ln() + seed);
                put(c.steps, SCRATCH, 30.0 - 1.5 * n.ln() + seed);
                let samples = (0..100).map(|i| 64.0 * (floor + 0.01 * f64::from(i))).collect();
                record.arrays.insert(SAMPLES.into(), samples);
            }
            record.arrays.insert(POSITIONS.into(), (1..=64).map(|t| 1.0 + f64::from(t).powf(-0.5)).collect());
            cells.push((cell, record));
        }
        findings(&Results::new(plan, cells), &c).unwrap()
    }

    fn verdict(found: &[Finding], id: &str) -> (Verdict, f64) {
        let finding = found.iter().find(|f| f.id == id).unwrap();
        (finding.verdict, finding.estimate.value)
    }

    #[test]
    fn runs_that_follow_the_laws_reproduce_them() {
        let found = made_up(0.0, false);
        let ids: Vec<&str> = found.iter().map(|f| f.id).collect();
        assert_eq!(ids, ["C1", "C2", "C3", "C4", "C5", "C6", "C7", "C8", "C9", "C10"]);
        for id in ["C1", "C2", "C5", "C6", "C7", "C8"] {
            assert_eq!(verdict(&found, id).0, Verdict::Reproduced, "{id}: {found:?}");
        }
        for id in ["C3", "C4", "C9", "C10"] {
            assert_eq!(verdict(&found, id).0, Verdict::NotJudged, "{id}");
        }
        // 0.2 ln(34560/100), and 0.01 on average.
        assert!((verdict(&found, "C6").1 - 1.179).abs() < 1e-2, "{found:?}");
        assert!(verdict(&found, "C7").1 > 0.999);
    }

    #[test]
    fn shapes_and_limits_are_judged_where_they_were_run() {
        let found = made_up(0.0, true);
        let (c4, best) = verdict(&found, "C4");
        assert_eq!((c4, best), (Verdict::Reproduced, 12.0));
        // L(C) tends to the loss of endless training, L(D) is that of the largest network: the former wins far out.
        let (c10, decades) = verdict(&found, "C10");
        assert!(c10 != Verdict::NotJudged && decades >= 0.0, "{found:?}");
    }

    #[test]
    fn runs_off_the_laws_do_not() {
        let found = made_up(0.4, false);
        // That recall's constant is found is no domain on the law.
        assert_eq!(verdict(&found, "C1").0, Verdict::NotReproduced, "{found:?}");
        assert_eq!(verdict(&found, "C5").0, Verdict::NotReproduced);
    }
}
