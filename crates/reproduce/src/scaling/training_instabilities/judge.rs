//! The findings.

use super::Config;
use super::runs::{EPSILON, POINTWISE, arm, by_width, coupled, depth, fixed, mu, trend_lr, undecayed, warmup};
use super::train::{
    BIGRAM, COSINE, DIVERGED, EPS_LOSS, EPS_UPDATE, GRADIENT, KEY, LOG_Z, LOSS, MAX_LOGIT, QUERY, START, UPDATE,
    WEIGHTS,
};
use crate::results::Results;
use crate::verdict::{self, Finding, Judgement, Verdict};
use anyhow::Result;
use autodidact_core::stats::{self, Estimate};
use autodidact_scaling::monitors::{
    LrSensitivity, adam_update_rms, lr_sensitivity, lr_sensitivity_over_ranges, predict_next_scale,
};

/// The finding of every claim.
pub fn findings(results: &Results) -> Result<Vec<Finding>> {
    let study = Study::new(results)?;
    Ok(vec![
        study.norm()?,
        study.logits()?,
        study.outputs()?,
        study.warmups()?,
        study.decays()?,
        study.shapes()?,
        study.mu_param()?,
        study.trend()?,
        study.gradients()?,
        Finding::not_judged(
            "C10",
            "A claim of equality, which needs curves of several run lengths and batch sizes at equal data: many times the work of the others.",
        ),
    ])
}

/// The finished runs, as curves over learning rates.
pub struct Study<'a> {
    pub results: &'a Results,
    pub c: Config,
    pub seeds: Vec<u64>,
}

impl<'a> Study<'a> {
    pub fn new(results: &'a Results) -> Result<Self> {
        Ok(Self { results, c: results.plan().config()?, seeds: results.plan().seeds.clone() })
    }

    /// `(rate, final loss)` and the loss at the start.
    fn points(&self, curve: &str, lrs: &[f64], seed: u64) -> Result<(Vec<(f64, f64)>, f64)> {
        let value = |lr, metric| self.results.value(&arm(curve, lr), seed, metric);
        let points = lrs.iter().map(|&lr| Ok((lr, value(lr, LOSS)?))).collect::<Result<Vec<_>>>()?;
        Ok((points, value(lrs[0], START)?))
    }

    fn by_seed<T>(&self, quantity: impl Fn(u64) -> Result<T>) -> Result<Vec<T>> {
        self.seeds.iter().map(|&seed| quantity(seed)).collect()
    }

    /// The final loss, at most that at the start.
    fn capped(&self, arm: &str, seed: u64) -> Result<f64> {
        Ok(self.results.value(arm, seed, LOSS)?.min(self.results.value(arm, seed, START)?))
    }

    fn sensitivity(&self, curve: &str, seed: u64) -> Result<LrSensitivity> {
        let (points, start) = self.points(curve, &self.c.lrs, seed)?;
        Ok(lr_sensitivity(&points, start)?)
    }

    /// LRS by seed.
    fn lrs(&self, curve: &str) -> Result<Vec<f64>> {
        self.by_seed(|seed| Ok(self.sensitivity(curve, seed)?.value))
    }

    /// The index of the learning rate of the lowest mean loss.
    fn best(&self, curve: &str) -> Result<usize> {
        let losses = self.c.lrs.iter().map(|&lr| Ok(stats::mean(&self.by_seed(|s| self.capped(&arm(curve, lr), s))?)));
        let losses = losses.collect::<Result<Vec<f64>>>()?;
        Ok((0..losses.len()).min_by(|&a, &b| losses[a].total_cmp(&losses[b])).unwrap_or(0))
    }

    /// Mean over the last tenth of training.
    pub fn late(&self, arm: &str, seed: u64, metric: &str) -> Result<f64> {
        let series = self.results.series(arm, seed, metric)?;
        let from = (self.c.steps - self.c.steps / 10) as f64;
        let late: Vec<f64> = series.into_iter().filter(|p| p.0 > from).map(|p| p.1).collect();
        Ok(stats::mean(&late))
    }

    /// log10 of the largest attention logit, mean over seeds.
    pub fn log_logit(&self, curve: &str, lr: f64) -> Result<f64> {
        // A run that was interrupted goes on from a lower maximum.
        let largest =
            |s| Ok(self.results.series(&arm(curve, lr), s, MAX_LOGIT)?.iter().fold(f64::MIN, |m, p| m.max(p.1)));
        let values = self.by_seed(largest)?;
        Ok(stats::mean(&values.iter().map(|v| v.max(f64::MIN_POSITIVE).log10()).collect::<Vec<_>>()))
    }

    /// log10 of the weights beside embedding and head.
    pub fn log_size(&self, arm: &str) -> Result<f64> {
        Ok(self.results.mean(arm, WEIGHTS)?.log10())
    }

    fn enough(&self, verdict: Verdict) -> Verdict {
        verdict.with_seeds(self.seeds.len())
    }

    fn diverged(&self, curve: &str) -> Result<f64> {
        let shares = self.c.lrs.iter().map(|&lr| self.results.mean(&arm(curve, lr), DIVERGED));
        Ok(shares.sum::<Result<f64>>()? * self.seeds.len() as f64)
    }

    /// C1.
    fn norm(&self) -> Result<Finding> {
        let (mut gains, mut parts, mut offs, mut note) = (vec![], vec![], vec![], vec![]);
        for &width in &self.c.widths {
            let (on, off) = (self.lrs(&by_width(true, width))?, self.lrs(&by_width(false, width))?);
            let gain = verdict::difference(&off, &on, 0.0);
            note.push(format!(
                "d = {width}: {:.3} with, {:.3} without (difference {gain:+}; best rates {} and {}; {} runs without a finite loss)",
                stats::mean(&on),
                stats::mean(&off),
                self.c.lrs[self.best(&by_width(true, width))?],
                self.c.lrs[self.best(&by_width(false, width))?],
                self.diverged(&by_width(false, width))?,
            ));
            parts.push(gain.verdict);
            gains.push(gain);
            offs.push(off);
        }
        let growth = stats::mean(&offs[offs.len() - 1]) - stats::mean(&offs[0]);
        let verdict = match Verdict::all(&parts) {
            Verdict::Reproduced if growth > 0.0 => Verdict::Reproduced,
            Verdict::Reproduced => Verdict::Partly,
            Verdict::Partly => Verdict::NotReproduced,
            v => v,
        };
        let widest: Judgement = gains[gains.len() - 1];
        let note = format!(
            "LRS by width: {}. Without the norm it changes by {growth:+.3} from the smallest to the largest width. Shown: the difference at the largest.",
            note.join("; ")
        );
        Ok(Finding::new("C1", widest, note).verdict(self.enough(verdict)))
    }

    /// C2.
    fn logits(&self) -> Result<Finding> {
        let width = self.c.middle();
        let (on, off) = (by_width(true, width), by_width(false, width));
        let (mut explodes, mut by_length, mut note, mut excess) = (true, true, vec![], vec![]);
        for &lr in self.c.high_lrs() {
            let (with, without) = (arm(&on, lr), arm(&off, lr));
            let gaps = self.by_seed(|s| Ok(self.capped(&without, s)? - self.capped(&with, s)?))?;
            let logit = self.log_logit(&off, lr)?;
            explodes &= logit > 3.0 && stats::mean(&gaps) >= 0.1;
            let growth = |metrics: &[&str]| -> Result<f64> {
                let logs = self.by_seed(|s| {
                    metrics.iter().try_fold(0.0, |sum, metric| {
                        let series = self.results.series(&without, s, metric)?;
                        Ok(sum + (series[series.len() - 1].1 / series[0].1).log10())
                    })
                })?;
                Ok(stats::mean(&logs))
            };
            let (lengths, cosine) = (growth(&[QUERY, KEY])?, growth(&[COSINE])?);
            by_length &= lengths > cosine;
            note.push(format!(
                "rate {lr}: largest logit {:.1} (with the norm {:.1}), loss {:+.3} above that with the norm; lengths grow {:.1}-fold, cosines {:.2}-fold",
                10f64.powf(logit),
                10f64.powf(self.log_logit(&on, lr)?),
                stats::mean(&gaps),
                10f64.powf(lengths),
                10f64.powf(cosine),
            ));
            excess = gaps;
        }
        let pointwise =
            self.c.high_lrs().iter().map(|&lr| Ok(format!("{:.1}", 10f64.powf(self.log_logit(POINTWISE, lr)?))));
        let pointwise = pointwise.collect::<Result<Vec<_>>>()?.join(" and ");
        let losses =
            self.c.kappas.iter().map(|&k| Ok((k, self.results.mean(&arm(&fixed(k), self.c.middle_lr), LOSS)?)));
        let losses = losses.collect::<Result<Vec<_>>>()?;
        // The kappa nearest to 10, and the largest.
        let distance = |k: f64| (k.log10() - 1.0).abs();
        let near = losses.iter().min_by(|a, b| distance(a.0).total_cmp(&distance(b.0))).map_or(f64::NAN, |p| p.1);
        let last = losses[losses.len() - 1];
        let bigram = self.results.mean(&arm(&fixed(last.0), self.c.middle_lr), BIGRAM)?;
        let scan: Vec<String> = losses.iter().map(|(k, l)| format!("{k}: {l:.3}")).collect();
        let parts = [explodes, by_length, last.1 - near > 0.1].map(Verdict::of);
        Ok(Finding {
            id: "C2",
            estimate: verdict::estimate(&excess),
            baseline: None,
            verdict: self.enough(Verdict::all(&parts)),
            note: format!(
                "Without the norm at width {width}, {}. With squared ReLU in place of the softmax the largest logits are {pointwise}. Loss by kappa of forced scores (rate {}): {}; bigram counts {bigram:.3}. Shown: the loss above that with the norm at the highest rate.",
                note.join("; "),
                self.c.middle_lr,
                scan.join(", "),
            ),
        })
    }

    /// C3.
    fn outputs(&self) -> Result<Finding> {
        let lr = self.c.long_lrs[self.c.long_lrs.len() - 1];
        let end = |z: bool| self.by_seed(|s| self.results.value(&arm(&undecayed(z), lr), s, LOG_Z));
        let (free, held) = (end(false)?, end(true)?);
        let pairs = || free.iter().zip(&held);
        let verdict = match () {
            _ if pairs().all(|(f, h)| *f < -1.0 && h.abs() < 1.0) => Verdict::Reproduced,
            _ if pairs().all(|(f, h)| *f < -1.0 && *f < h - 1.0) => Verdict::Partly,
            _ => Verdict::NotReproduced,
        };
        let mut note = vec![];
        for &lr in &self.c.long_lrs {
            for z in [false, true] {
                let name = arm(&undecayed(z), lr);
                let series = self.results.mean_series(&name, LOG_Z)?;
                let half = series.iter().find(|p| 2.0 * p.0 >= self.c.long as f64).map_or(f64::NAN, |p| p.1);
                note.push(format!(
                    "rate {lr}, {} z-loss: {half:.2} at half of the run, {:.2} at its end, loss {:.3}",
                    if z { "with" } else { "without" },
                    series[series.len() - 1].1,
                    self.results.mean(&name, LOSS)?,
                ));
            }
        }
        let note = format!(
            "Mean log Z of {} steps without decay: {}. Shown: its end without the z-loss at the highest rate.",
            self.c.long,
            note.join("; ")
        );
        Ok(Finding {
            id: "C3",
            estimate: verdict::estimate(&free),
            baseline: Some(stats::mean(&held)),
            verdict: self.enough(verdict),
            note,
        })
    }

    /// C4.
    fn warmups(&self) -> Result<Finding> {
        let all = self.c.warmups.iter().map(|&steps| Ok((steps, self.lrs(&warmup(&self.c, steps))?)));
        let all = all.collect::<Result<Vec<_>>>()?;
        let (short, long) = (&all[0].1, &all[all.len() - 1].1);
        let gain = verdict::difference(short, long, 0.0);
        let means: Vec<String> = all.iter().map(|(steps, v)| format!("{steps}: {:.3}", stats::mean(v))).collect();
        let note = format!("LRS by steps of warm-up, with the norm: {}.", means.join(", "));
        Ok(Finding::new("C4", gain, note).against(0.0).verdict(gain.or_partly()))
    }

    /// C5.
    fn decays(&self) -> Result<Finding> {
        let c = &self.c;
        let all: Vec<f64> = std::iter::once(c.low_lr).chain(c.lrs.iter().copied()).collect();
        let ranges = [(all[0], all[all.len() - 2]), (all[1], all[all.len() - 1])];
        let least = |curve: &str| {
            self.by_seed(|seed| {
                let (points, start) = self.points(curve, &all, seed)?;
                Ok(lr_sensitivity_over_ranges(&points, start, &ranges)?)
            })
        };
        let (independent, both) = (least(&by_width(true, c.widths[0]))?, least(&coupled(c))?);
        let values = |s: &[LrSensitivity]| s.iter().map(|s| s.value).collect::<Vec<_>>();
        let gain = verdict::difference(&values(&both), &values(&independent), 0.0);
        let describe = |s: &[LrSensitivity]| {
            let losses: Vec<f64> = s.iter().map(|s| s.best_loss).collect();
            let rates: Vec<String> = s.iter().map(|s| s.best_lr.to_string()).collect();
            format!(
                "{:.3} (best loss {:.3}, at rates {})",
                stats::mean(&values(s)),
                stats::mean(&losses),
                rates.join(", ")
            )
        };
        let note = format!("LRS, coupled: {}; independent: {}.", describe(&both), describe(&independent));
        Ok(Finding::new("C5", gain, note).against(0.0).verdict(gain.or_partly()))
    }

    /// C6.
    fn shapes(&self) -> Result<Finding> {
        let c = &self.c;
        let depths: Vec<String> = c.depths.iter().map(|&d| depth(c, d)).collect();
        let widths: Vec<String> = c.widths.iter().map(|&w| by_width(true, w)).collect();
        let slopes = |curves: &[String]| {
            let sizes = curves.iter().map(|curve| self.log_size(&arm(curve, c.lrs[0]))).collect::<Result<Vec<_>>>()?;
            self.by_seed(|seed| {
                let values = curves.iter().map(|curve| Ok(self.sensitivity(curve, seed)?.value));
                Ok(stats::slope(&sizes, &values.collect::<Result<Vec<_>>>()?)?)
            })
        };
        let (deeper, wider) = (slopes(&depths)?, slopes(&widths)?);
        let gain = verdict::difference(&deeper, &wider, 0.0);
        let describe = |curves: &[String], sizes: Vec<String>| -> Result<String> {
            let parts = curves.iter().zip(sizes).map(|(curve, size)| {
                let losses = self.by_seed(|seed| Ok(self.sensitivity(curve, seed)?.best_loss))?;
                Ok(format!("{size}: {:.3} (best loss {:.3})", stats::mean(&self.lrs(curve)?), stats::mean(&losses)))
            });
            Ok(parts.collect::<Result<Vec<_>>>()?.join(", "))
        };
        let note = format!(
            "Slopes by tenfold size: {:.3} over depths, {:.3} over widths. LRS by depth at width {}: {}; by width: {}.",
            stats::mean(&deeper),
            stats::mean(&wider),
            c.widths[0],
            describe(&depths, c.depths.iter().map(ToString::to_string).collect())?,
            describe(&widths, c.widths.iter().map(ToString::to_string).collect())?,
        );
        Ok(Finding::new("C6", gain, note).against(0.0).verdict(gain.or_partly()))
    }

    /// C7.
    fn mu_param(&self) -> Result<Finding> {
        let c = &self.c;
        let ends = [c.widths[0], c.widest()];
        let places = ends.iter().map(|&w| self.best(&mu(c, w))).collect::<Result<Vec<_>>>()?;
        let standard = ends.iter().map(|&w| self.best(&by_width(true, w))).collect::<Result<Vec<_>>>()?;
        let kept = places[0].abs_diff(places[1]) <= 1;
        let (with, without) = (self.lrs(&mu(c, c.widest()))?, self.lrs(&by_width(true, c.widest()))?);
        let gain = verdict::difference(&without, &with, 0.0);
        let no_lower = match gain.verdict {
            Verdict::Reproduced => Verdict::NotReproduced,
            Verdict::NotReproduced => Verdict::Reproduced,
            v => v,
        };
        let rates = |places: &[usize]| places.iter().map(|i| c.lrs[*i].to_string()).collect::<Vec<_>>().join(", ");
        let loss = |curve: String, place: usize| self.results.mean(&arm(&curve, c.lrs[place]), LOSS);
        let note = format!(
            "Best rates at the smallest and the largest width: {} with muParam, {} without. At width {}: LRS {:.3} with, {:.3} without; best loss {:.3} and {:.3}. Shown: LRS without minus with.",
            rates(&places),
            rates(&standard),
            c.widest(),
            stats::mean(&with),
            stats::mean(&without),
            loss(mu(c, c.widest()), places[1])?,
            loss(by_width(true, c.widest()), standard[1])?,
        );
        Ok(Finding::new("C7", gain, note).verdict(self.enough(Verdict::all(&[Verdict::of(kept), no_lower]))))
    }

    /// C8.
    fn trend(&self) -> Result<Finding> {
        let lr = trend_lr(&self.c);
        let curves: Vec<String> =
            std::iter::once(self.c.narrow).chain(self.c.widths.iter().copied()).map(|w| by_width(false, w)).collect();
        let sizes = curves.iter().map(|curve| self.log_size(&arm(curve, lr))).collect::<Result<Vec<_>>>()?;
        let logits = curves.iter().map(|curve| self.log_logit(curve, lr)).collect::<Result<Vec<_>>>()?;
        let last = curves.len() - 1;
        let predicted = predict_next_scale(&sizes[..last], &logits[..last], 2.min(last - 1), sizes[last])?;
        let seen: Vec<String> =
            sizes.iter().zip(&logits).map(|(n, l)| format!("{:.0}: {l:.2}", 10f64.powf(*n))).collect();
        Ok(Finding {
            id: "C8",
            estimate: Estimate { n: self.seeds.len(), ..Estimate::exact(predicted) },
            baseline: Some(logits[last]),
            verdict: self.enough(Verdict::of((predicted - logits[last]).abs() <= 0.5)),
            note: format!(
                "log10 of the largest attention logit by N at rate {lr}: {}. Predicted for the last from the others: {predicted:.2} (shown, beside the measured one).",
                seen.join(", "),
            ),
        })
    }

    /// C9.
    fn gradients(&self) -> Result<Finding> {
        let c = &self.c;
        let slopes = |of: &dyn Fn(f64) -> (String, f64), values: &[f64]| {
            self.by_seed(|seed| {
                let points = values.iter().map(|&v| {
                    let (arm, x) = of(v);
                    Ok((x, self.late(&arm, seed, GRADIENT)?.log10()))
                });
                let points = points.collect::<Result<Vec<_>>>()?.into_iter().filter(|p| p.1.is_finite());
                let (x, y): (Vec<f64>, Vec<f64>) = points.unzip();
                Ok(stats::slope(&x, &y)?)
            })
        };
        let curve = by_width(true, c.middle());
        let over_rates = slopes(&|lr| (arm(&curve, lr), lr.log10()), &c.lrs)?;
        let zeros = vec![0.0; over_rates.len()];
        let falls = verdict::difference(&zeros, &over_rates, 0.0);
        let sizes = c.widths.iter().map(|&w| self.log_size(&arm(&by_width(true, w), c.middle_lr)));
        let sizes = sizes.collect::<Result<Vec<_>>>()?;
        let widths: Vec<f64> = (0..sizes.len()).map(|i| i as f64).collect();
        let of_width = |i: f64| (arm(&by_width(true, c.widths[i as usize]), c.middle_lr), sizes[i as usize]);
        let over_sizes = slopes(&of_width, &widths)?;

        let run = arm(EPSILON, c.middle_lr);
        let usual = self.by_seed(|seed| self.late(&run, seed, UPDATE))?;
        let large = self.results.values(&run, EPS_UPDATE)?;
        let ratios: Vec<f64> = large.iter().zip(&usual).map(|(l, u)| l / u).collect();
        let halved = (stats::mean(&ratios) - adam_update_rms(1.0, 1.0)).abs() <= 0.1;
        let note = format!(
            "Slope of log10 gradient RMS on log10 rate {:.2} (shown negated), on log10 N {:.2}. At rate {} the gradient's RMS is {:.2e}; with epsilon there the update's RMS is {:.3} in place of {:.3}, the loss {:.3} in place of {:.3}.",
            stats::mean(&over_rates),
            stats::mean(&over_sizes),
            c.middle_lr,
            stats::mean(&self.by_seed(|seed| self.late(&run, seed, GRADIENT))?),
            stats::mean(&large),
            stats::mean(&usual),
            self.results.mean(&run, EPS_LOSS)?,
            self.results.mean(&run, LOSS)?,
        );
        let verdict = Verdict::all(&[falls.verdict, Verdict::of(halved)]);
        Ok(Finding::new("C9", falls, note).verdict(self.enough(verdict)))
    }
}
