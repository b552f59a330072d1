//! Verdicts and plots.

use super::{ACCURACY, AGREEMENT, Arm, BY_CLASS, Config, EMPTY, ESTIMATE, FIRING, REDUCTION, VARIED, arms};
use crate::plot::{Plot, Series};
use crate::results::Results;
use crate::verdict::{self, Finding, Judgement, Verdict};
use anyhow::Result;
use autodidact_core::stats::{self, Estimate};

pub(super) fn findings(results: &Results) -> Result<Vec<Finding>> {
    let study = Study { results, c: results.plan().config()? };
    let untested = Finding::not_judged("C6", "Needs the paper's networks and those of the other methods.");
    if let Some(why) = study.untrained()? {
        let mut all: Vec<Finding> =
            ["C1", "C2", "C3", "C4", "C5"].into_iter().map(|id| Finding::not_judged(id, why.clone())).collect();
        all.push(untested);
        return Ok(all);
    }
    Ok(vec![study.fixed()?, study.known()?, study.joint()?, study.dead()?, study.uniform()?, untested])
}

struct Study<'a> {
    results: &'a Results,
    c: Config,
}

impl Study<'_> {
    fn values(&self, arm: Arm, metric: &str) -> Result<Vec<f64>> {
        self.results.values(&arm.name(), metric)
    }

    fn mean(&self, arm: Arm, metric: &str) -> Result<f64> {
        Ok(stats::mean(&self.values(arm, metric)?))
    }

    fn seeds(&self) -> usize {
        self.results.seeds(&Arm::Dense.name()).len()
    }

    /// Twice the accuracy of guessing (percent).
    fn twice_chance(&self) -> f64 {
        if self.results.plan().dataset == "stroke-glyphs" { 10.0 } else { 20.0 }
    }

    /// Why nothing can be said: the dense network has learnt next to nothing.
    fn untrained(&self) -> Result<Option<String>> {
        let dense = self.mean(Arm::Dense, ACCURACY)?;
        Ok((dense.is_nan() || dense < self.twice_chance()).then(|| {
            format!("The dense network is right on {dense:.1} % of test images, less than twice what guessing gives.")
        }))
    }

    /// Accuracy of a kind of arm, mean of the compared shares, by seed.
    fn compared(&self, of: fn(f64) -> Arm) -> Result<Vec<f64>> {
        let each: Vec<Vec<f64>> =
            self.c.compared.iter().map(|r| self.values(of(*r), ACCURACY)).collect::<Result<_>>()?;
        let seeds = each.first().map_or(0, Vec::len);
        Ok((0..seeds).map(|s| stats::mean(&each.iter().map(|e| e[s]).collect::<Vec<_>>())).collect())
    }

    /// Largest difference of mean savings between two kinds of arms over the compared shares.
    fn apart(&self, a: fn(f64) -> Arm, b: fn(f64) -> Arm) -> Result<f64> {
        let each =
            self.c.compared.iter().map(|r| Ok((self.mean(a(*r), REDUCTION)? - self.mean(b(*r), REDUCTION)?).abs()));
        // An unknown saving is not a near one.
        let each = each.collect::<Result<Vec<f64>>>()?;
        Ok(if each.iter().any(|d| d.is_nan()) { f64::NAN } else { each.into_iter().fold(0.0, f64::max) })
    }

    fn words(&self, of: fn(f64) -> Arm, shares: &[f64]) -> Result<String> {
        let each = shares.iter().map(|r| {
            let arm = of(*r);
            Ok(format!(
                "{} {:.1} % at {:.1} % saved",
                arm.name(),
                self.mean(arm, ACCURACY)?,
                self.mean(arm, REDUCTION)?
            ))
        });
        Ok(each.collect::<Result<Vec<_>>>()?.join(", "))
    }

    /// C1.
    fn fixed(&self) -> Result<Finding> {
        let decoupled = self.compared(Arm::Decoupled)?;
        let over = |of| Ok::<_, anyhow::Error>(verdict::difference(&decoupled, &self.compared(of)?, 0.0));
        let (fixed, random) = (over(Arm::Static)?, over(Arm::Random)?);
        let apart = self.apart(Arm::Decoupled, Arm::Static)?;
        let verdict = match fixed.verdict {
            Verdict::NotJudged => Verdict::NotJudged,
            Verdict::Reproduced if apart <= 2.0 => Verdict::Reproduced,
            _ if fixed.estimate.value > 0.0 || random.verdict == Verdict::Reproduced => Verdict::Partly,
            _ => Verdict::NotReproduced,
        };
        let note = format!(
            "Dense {:.1} %, trained on {:.1} %; {}; {}; {}; {}. Savings of decoupled and static differ by at most {apart:.1} points. Decoupled minus random {random:+}. Shown: decoupled minus static, points.",
            self.mean(Arm::Dense, ACCURACY)?,
            self.mean(Arm::Continued, ACCURACY)?,
            self.words(Arm::Decoupled, &self.c.compared)?,
            self.words(Arm::Static, &self.c.compared)?,
            self.words(Arm::Random, &self.c.compared)?,
            self.words(Arm::Regularised, &self.c.lambdas)?,
        );
        Ok(Finding::new("C1", fixed, note).against(0.0).verdict(verdict))
    }

    /// C2.
    fn known(&self) -> Result<Finding> {
        let mut shares = self.c.shares.clone();
        shares.sort_by(f64::total_cmp);
        let saved: Vec<Vec<f64>> =
            shares.iter().map(|r| self.values(Arm::Decoupled(*r), REDUCTION)).collect::<Result<_>>()?;
        let falls = (0..self.seeds()).all(|s| saved.windows(2).all(|w| w[0][s] > w[1][s])) && shares.len() > 1;
        let (mut worst, mut words) = (0.0f64, vec![]);
        for r in &shares {
            let arm = Arm::Decoupled(*r);
            let (estimated, reached) = (self.mean(arm, ESTIMATE)?, self.mean(arm, REDUCTION)?);
            if *r < 1.0 {
                let apart = (estimated - reached).abs();
                worst = if apart.is_nan() { f64::INFINITY } else { worst.max(apart) };
            }
            words.push(format!(
                "{r}: {estimated:.1} and {reached:.1} ({:.0} % of decisions as the target, {:.0} % of filters vary, {:.1} % of masks empty)",
                self.mean(arm, AGREEMENT)?,
                self.mean(arm, VARIED)?,
                self.mean(arm, EMPTY)?
            ));
        }
        let any = self.c.estimated_shares().next().is_some();
        let verdict = if any { Verdict::of(falls && worst <= 10.0) } else { Verdict::NotJudged };
        let softmax = self.c.compared.iter().map(|r| {
            let arm = Arm::Softmax(*r);
            Ok(format!("{r}: {:.1} ({:.0} % of filters vary)", self.mean(arm, REDUCTION)?, self.mean(arm, VARIED)?))
        });
        let regularised = self.c.lambdas.iter().map(|l| {
            let (low, high) = stats::extent(self.values(Arm::Regularised(*l), REDUCTION)?);
            Ok(format!("{l}: {low:.1} to {high:.1}"))
        });
        let note = format!(
            "Saved in %, estimated and reached, by share: {}. Falls in every seed: {falls}. With the paper's softmax {}. Regularised, over seeds, by weight: {}. Shown: largest difference between estimate and saving.",
            words.join("; "),
            softmax.collect::<Result<Vec<_>>>()?.join(", "),
            regularised.collect::<Result<Vec<_>>>()?.join(", "),
        );
        let estimate = Estimate { n: self.seeds(), ..Estimate::exact(worst) };
        let judgement = Judgement { estimate, verdict: verdict.with_seeds(self.seeds()) };
        Ok(Finding::new("C2", judgement, note).against(10.0))
    }

    /// C3.
    fn joint(&self) -> Result<Finding> {
        let gain = verdict::difference(&self.compared(Arm::Joint)?, &self.compared(Arm::Decoupled)?, 0.0);
        let inside = gain.estimate.low >= -1.5 && gain.estimate.high <= 1.5;
        // Gates that never close would be equal too.
        for arm in self.c.compared.iter().flat_map(|r| [Arm::Joint(*r), Arm::Decoupled(*r)]) {
            let saved = self.mean(arm, REDUCTION)?;
            if saved.is_nan() || saved < 5.0 {
                return Ok(Finding::not_judged("C3", format!("{} saves {saved:.1} % only.", arm.name())));
            }
            let accuracy = self.mean(arm, ACCURACY)?;
            if accuracy.is_nan() || accuracy < self.twice_chance() {
                return Ok(Finding::not_judged("C3", format!("{} is right on {accuracy:.1} % only.", arm.name())));
            }
        }
        let note = format!(
            "{}; {}. With the paper's softmax: {}; {}; joint minus decoupled {:+}. Shown: joint minus decoupled, points.",
            self.words(Arm::Joint, &self.c.compared)?,
            self.words(Arm::Decoupled, &self.c.compared)?,
            self.words(Arm::JointSoftmax, &self.c.compared)?,
            self.words(Arm::Softmax, &self.c.compared)?,
            verdict::difference(&self.compared(Arm::JointSoftmax)?, &self.compared(Arm::Softmax)?, 0.0),
        );
        Ok(Finding::new("C3", gain, note).against(0.0).verdict(Verdict::of(inside).with_seeds(self.seeds())))
    }

    /// C4.
    fn dead(&self) -> Result<Finding> {
        let whole = Arm::Decoupled(1.0);
        if !arms(&self.c).contains(&whole) {
            return Ok(Finding::not_judged("C4", "A share of 1 is not among the shares."));
        }
        let (accuracy, saved) = (self.values(whole, ACCURACY)?, self.values(whole, REDUCTION)?);
        let gain = |arm| Ok::<_, anyhow::Error>(verdict::difference(&accuracy, &self.values(arm, ACCURACY)?, 0.0));
        let (dense, continued) = (gain(Arm::Dense)?, gain(Arm::Continued)?);
        let met = dense.estimate.value >= -0.5
            && continued.estimate.value >= -0.5
            && !saved.is_empty()
            && saved.iter().all(|s| *s > 0.0);
        let note = format!(
            "{:.1} % saved ({:.1} % do not fire in the dense network; {:.0} % of decisions as the target); accuracy minus that of the dense network {dense:+} points, minus that of the dense network trained on {continued:+}. Shown: the latter.",
            stats::mean(&saved),
            self.mean(whole, ESTIMATE)?,
            self.mean(whole, AGREEMENT)?,
        );
        Ok(Finding::new("C4", continued, note).against(-0.5).verdict(Verdict::of(met).with_seeds(self.seeds())))
    }

    /// C5.
    fn uniform(&self) -> Result<Finding> {
        let gain = verdict::difference(&self.compared(Arm::Decoupled)?, &self.compared(Arm::Uniform)?, 0.0);
        let apart = self.apart(Arm::Decoupled, Arm::Uniform)?;
        let note = format!(
            "{}; {}. Savings differ by at most {apart:.1} points. Shown: mass minus uniform, points.",
            self.words(Arm::Decoupled, &self.c.compared)?,
            self.words(Arm::Uniform, &self.c.compared)?
        );
        let verdict = if apart <= 5.0 { gain.verdict } else { Verdict::NotJudged };
        Ok(Finding::new("C5", gain, note).against(0.0).verdict(verdict))
    }
}

pub(super) fn plots(results: &Results) -> Result<Vec<Plot>> {
    let study = Study { results, c: results.plan().config()? };
    let c = &study.c;
    let point = |arm: Arm| {
        let (y, half) = verdict::summary(&study.values(arm, ACCURACY)?);
        Ok((study.mean(arm, REDUCTION)?, y, half))
    };
    let line = |name: &str, colour: usize, of: fn(f64) -> Arm, at: &[f64]| -> Result<Series> {
        let mut points: Vec<(f64, f64, f64)> = at.iter().map(|r| point(of(*r))).collect::<Result<_>>()?;
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        Ok(Series::with_intervals(name, colour, points))
    };
    let mut plots = vec![Plot::lines(
        "accuracy",
        "Accuracy by the share of operations saved.",
        REDUCTION,
        ACCURACY,
        vec![
            line("decoupled", 0, Arm::Decoupled, &c.shares)?,
            line("joint", 1, Arm::Joint, &c.compared)?,
            line("softmax", 2, Arm::Softmax, &c.compared)?,
            line("joint softmax", 2, Arm::JointSoftmax, &c.compared)?.dashed(),
            line("uniform", 3, Arm::Uniform, &c.compared)?,
            line("static", 4, Arm::Static, &c.compared)?,
            line("random static", 5, Arm::Random, &c.compared)?,
            line("regularised", 6, Arm::Regularised, &c.lambdas)?,
            line("targets, not trained", 7, Arm::Oracle, &c.shares)?.dashed(),
            Series::with_intervals("dense, trained on", 8, vec![point(Arm::Continued)?]).dots(),
        ],
    )];
    let mut known: Vec<(f64, f64)> = vec![];
    for r in &c.shares {
        known.push((study.mean(Arm::Decoupled(*r), ESTIMATE)?, study.mean(Arm::Decoupled(*r), REDUCTION)?));
    }
    known.sort_by(|a, b| a.0.total_cmp(&b.0));
    let top = known.last().map_or(1.0, |k| k.0.max(k.1));
    plots.push(Plot::lines(
        "estimate",
        "Saving that the dense network's peaks predict, and saving that is reached, by share.",
        ESTIMATE,
        REDUCTION,
        vec![
            Series::line("decoupled", 0, &known).dots(),
            Series::line("as estimated", 7, &[(0.0, 0.0), (top, top)]).dashed(),
        ],
    ));
    // At the first compared share: how often filters are on, sorted within each layer.
    if let Some(&r) = c.compared.first() {
        let arm = Arm::Decoupled(r).name();
        // Filters of different seeds have nothing in common but their rank.
        let by_seed: Vec<&[f64]> =
            results.seeds(&arm).into_iter().map(|seed| results.array(&arm, seed, FIRING)).collect::<Result<_>>()?;
        let (mut series, mut from) = (vec![], 0);
        for (i, filters) in c.stages.iter().filter(|s| **s > 0).map(|f| *f as usize).enumerate() {
            let sorted: Vec<Vec<f64>> = by_seed
                .iter()
                .map(|rates| {
                    let mut part = rates[from..from + filters].to_vec();
                    part.sort_by(f64::total_cmp);
                    part
                })
                .collect();
            from += filters;
            let rank = |k: usize| stats::mean(&sorted.iter().map(|s| s[k]).collect::<Vec<_>>());
            let points: Vec<(f64, f64)> =
                (0..filters).map(|k| ((k as f64 + 0.5) / filters as f64, 100.0 * rank(k))).collect();
            series.push(Series::line(format!("layer {}", i + 1), i, &points));
        }
        plots.push(Plot::lines(
            "firing",
            &format!("How often filters are computed (share {r}), in ascending order in each layer, mean over seeds."),
            "share of the layer's filters",
            "images on which it is computed (%)",
            series,
        ));
        let seed = results.seeds(&arm).first().copied().unwrap_or_default();
        let last = c.stages.iter().rev().find(|s| **s > 0).map_or(1, |f| *f as usize);
        let by_class = results.array(&arm, seed, BY_CLASS)?.to_vec();
        let panel = (format!("share {r}, seed {seed}"), by_class.len() / last, last, by_class);
        let caption = "How often each filter of the last layer (columns) is computed for images of each class (rows), in one seed.";
        plots.push(Plot::heat("classes", caption, vec![panel], 0.0, 1.0));
    }
    Ok(plots)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::{Cell, Experiment, Plan, Scale};
    use crate::pruning::FireTogether;
    use crate::runner::{CellRecord, MetricPoint};

    /// Verdicts where each arm has a made-up accuracy, saving and estimate.
    fn verdicts(of: impl Fn(Arm, u64) -> [f64; 3]) -> Vec<Verdict> {
        let mut plan = Plan::trial(Scale::Small, "stroke-glyphs", FireTogether.config(Scale::Small));
        plan.seeds = vec![0, 1, 2];
        let c: Config = plan.config().unwrap();
        let mut cells = vec![];
        for &seed in &plan.seeds {
            for arm in arms(&c) {
                let mut record = CellRecord::default();
                let point = |metric: &str, value| MetricPoint { step: 1, metric: metric.into(), value };
                let [accuracy, saved, estimate] = of(arm, seed);
                record.metrics = vec![point(ACCURACY, accuracy), point(REDUCTION, saved), point(ESTIMATE, estimate)];
                record.metrics.extend([point(AGREEMENT, 90.0), point(VARIED, 50.0), point(EMPTY, 0.0)]);
                cells.push((Cell::new(arm.name(), seed), record));
            }
        }
        findings(&Results::new(plan, cells)).unwrap().into_iter().map(|f| f.verdict).collect()
    }

    #[test]
    fn the_papers_world_one_without_effects_and_an_untrained_one() {
        use Verdict::{NotJudged, NotReproduced, Reproduced};
        let held = |arm: Arm, seed: u64| {
            let jitter = 0.1 * seed as f64;
            match arm {
                Arm::Dense | Arm::Continued => [80.0 + jitter, 0.0, 0.0],
                Arm::Decoupled(r) | Arm::Joint(r) | Arm::Softmax(r) | Arm::JointSoftmax(r) | Arm::Oracle(r) => {
                    [80.0 - (1.0 - r) + 2.0 * jitter, 5.0 + 200.0 * (1.0 - r), 6.0 + 200.0 * (1.0 - r)]
                }
                Arm::Static(r) | Arm::Random(r) | Arm::Uniform(r) => [76.0 + jitter, 6.0 + 200.0 * (1.0 - r), 0.0],
                Arm::Regularised(l) => [78.0, 10.0 * l, 0.0],
            }
        };
        assert_eq!(verdicts(held), [Reproduced, Reproduced, Reproduced, Reproduced, Reproduced, NotJudged]);
        // Gates that never close: nothing is saved and nothing lost.
        let idle = |_: Arm, seed: u64| [80.0 + 0.1 * seed as f64, 0.0, 40.0];
        assert_eq!(verdicts(idle), [NotReproduced, NotReproduced, NotJudged, NotReproduced, NotReproduced, NotJudged]);
        assert_eq!(verdicts(|_, _| [5.0, 50.0, 50.0]), [NotJudged; 6]);
        // Gates that destroy the network are not comparable.
        let broken = |arm: Arm, _: u64| match arm {
            Arm::Dense | Arm::Continued => [80.0, 0.0, 0.0],
            _ => [5.0, 90.0, f64::NAN],
        };
        let got = verdicts(broken);
        assert_eq!((got[1], got[2], got[3]), (NotReproduced, NotJudged, NotReproduced));
    }
}
