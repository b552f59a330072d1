//! Findings and plots.

use super::super::garland::{CHOSEN, REJECTED};
use super::{
    ACCURACY, BASE, BREAK, BROKEN, Config, FAILURES, FAULTS, FIX, FIXED, INDEPENDENT, PAIRS, PROMPTS, SCL, SFT, STEPS,
    accuracy_after, failures_after, mixed_arm, portion_arm, share_arm, transitions,
};
use crate::plot::{Plot, Series};
use crate::results::Results;
use crate::verdict::{self, Finding, Judgement, LEVEL, Verdict};
use anyhow::Result;
use autodidact_core::stats::{self, mcnemar, wilson_ci};

/// A difference within so many points of 0 is none.
const NONE: f64 = 1.0;

/// Reviews after which the paper compares.
const TURNS: usize = 3;

struct Judge<'a> {
    results: &'a Results,
    config: Config,
}

impl Judge<'_> {
    fn accuracy(&self, arm: &str) -> Result<Vec<f64>> {
        self.results.values(arm, ACCURACY)
    }

    /// A metric after so many reviews, by seed.
    fn at(&self, arm: &str, metric: &str, reviews: usize) -> Result<Vec<f64>> {
        let one = |seed| Ok(self.results.series(arm, seed, metric)?[reviews.min(self.config.reviews)].1);
        self.results.seeds(arm).into_iter().map(one).collect()
    }

    /// The same as means over prompts.
    fn mean_at(&self, arm: &str, metric: impl Fn(&str) -> String, reviews: usize) -> Result<Vec<f64>> {
        let mut mean = vec![0.0; self.results.seeds(arm).len()];
        for prompt in PROMPTS {
            let each = self.at(arm, &metric(prompt), reviews)?;
            mean.iter_mut().zip(each).for_each(|(m, v)| *m += v / PROMPTS.len() as f64);
        }
        Ok(mean)
    }

    /// Accuracy after so many reviews, by seed.
    fn after(&self, arm: &str, prompt: &str, reviews: usize) -> Result<Vec<f64>> {
        self.at(arm, &accuracy_after(prompt), reviews)
    }

    fn mean_after(&self, arm: &str, reviews: usize) -> Result<Vec<f64>> {
        self.mean_at(arm, accuracy_after, reviews)
    }

    /// What a review did, added over seeds: kept, fixed, broken, failed.
    fn counts(&self, arm: &str, prompt: &str) -> Result<[f64; 4]> {
        let mut sum = [0.0; 4];
        for seed in self.results.seeds(arm) {
            let of_seed = self.results.array(arm, seed, &transitions(prompt))?;
            sum.iter_mut().zip(of_seed).for_each(|(s, n)| *s += n);
        }
        Ok(sum)
    }

    /// C1.
    fn reviews(&self) -> Result<Finding> {
        let direct = self.accuracy(BASE)?;
        let change = verdict::difference(&self.mean_after(BASE, 1)?, &direct, 0.0);
        let (mut fixed, mut broken) = (0.0, 0.0);
        let mut each = vec![];
        for prompt in PROMPTS {
            let [_, fix, brk, _] = self.counts(BASE, prompt)?;
            fixed += fix / PROMPTS.len() as f64;
            broken += brk / PROMPTS.len() as f64;
            each.push(format!(
                "{prompt} {:.2} % ({fix} fixed, {brk} broken)",
                stats::mean(&self.after(BASE, prompt, 1)?)
            ));
        }
        let test = mcnemar(fixed, broken)?;
        let value = stats::mean(&self.mean_after(BASE, 1)?) - stats::mean(&direct);
        let (made_fixed, made_broken) = (self.results.mean(BASE, FIXED)?, self.results.mean(BASE, BROKEN)?);
        let verdict = if value < 0.0 && test.p < 0.05 && made_broken > made_fixed {
            Verdict::Reproduced
        } else if value.abs() <= NONE {
            Verdict::Partly
        } else {
            Verdict::NotReproduced
        };
        let n = direct.len();
        let mut shares = vec![];
        for share in self.config.other_shares.iter().copied() {
            let arm = share_arm(share);
            let change = stats::mean(&self.mean_after(&arm, 1)?) - self.results.mean(&arm, ACCURACY)?;
            shares.push(format!("{:+.2} points with {} %", change, 100.0 * share));
        }
        let total = (n * self.config.data.tested) as f64;
        let right = stats::mean(&direct) / 100.0 * total;
        let wilson = wilson_ci(right.round() as usize, total as usize, LEVEL)?;
        let note = format!(
            "Points of accuracy of the base after one review over its direct answers, mean over prompts. Direct {:.2} % (Wilson {:.1} to {:.1}); {}; McNemar's test of {fixed:.0} fixed and {broken:.0} broken: chi-squared {:.2}, p {:.2e}. When pairs are made (temperature {}, CP): {:.0} fixed, {:.0} broken by seed.{}",
            100.0 * right / total,
            100.0 * wilson.low,
            100.0 * wilson.high,
            each.join(", "),
            test.statistic,
            test.p,
            self.config.temperature,
            made_fixed,
            made_broken,
            if shares.is_empty() {
                String::new()
            } else {
                format!(
                    " With other shares of reviews in pre-training than {} %: {}.",
                    100.0 * self.config.share,
                    shares.join(", ")
                )
            },
        );
        Ok(Finding::new("C1", change, note).against(stats::mean(&direct)).verdict(verdict.with_seeds(n)))
    }

    /// C2.
    fn turns(&self) -> Result<Finding> {
        let last = self.config.reviews;
        if last < TURNS {
            return Ok(Finding::not_judged("C2", format!("Needs {TURNS} reviews; {last} were made.")));
        }
        let (one, three) = (self.mean_after(BASE, 1)?, self.mean_after(BASE, TURNS)?);
        let change = verdict::difference(&three, &one, 0.0);
        let verdict = Verdict::of(stats::mean(&three) <= stats::mean(&one));
        let means = (0..=last).map(|k| Ok(format!("{:.2}", stats::mean(&self.mean_after(BASE, k)?))));
        let silent = (0..=last).map(|k| {
            let share = stats::mean(&self.mean_at(BASE, failures_after, k)?);
            Ok(format!("{share:.1}"))
        });
        let note = format!(
            "Points of accuracy of the base after {TURNS} reviews over that after one, mean over prompts. Accuracy after 0 to {last} reviews: {} %; without a letter (a wrong answer): {} %. Pre-training has no second review of an answer: part of the fall is answers that lose their form.",
            means.collect::<Result<Vec<_>>>()?.join(", "),
            silent.collect::<Result<Vec<_>>>()?.join(", "),
        );
        let n = one.len();
        Ok(Finding::new("C2", change, note).against(stats::mean(&one)).verdict(verdict.with_seeds(n)))
    }

    /// The best accuracy after one review, with its prompt.
    fn best_review(&self) -> Result<(f64, &'static str)> {
        let mut best = (f64::NEG_INFINITY, PROMPTS[0]);
        for prompt in PROMPTS {
            let mean = stats::mean(&self.after(BASE, prompt, 1)?);
            if mean > best.0 {
                best = (mean, prompt);
            }
        }
        Ok(best)
    }

    /// C3.
    fn improves(&self) -> Result<Finding> {
        let (scl, base) = (self.accuracy(SCL)?, self.accuracy(BASE)?);
        let gain = verdict::difference(&scl, &base, 0.0);
        let first = gain.verdict == Verdict::Reproduced && gain.estimate.value > NONE;
        let (review, prompt) = self.best_review()?;
        let verdict = match (first, stats::mean(&scl) > review) {
            (true, true) => Verdict::Reproduced,
            (true, false) => Verdict::Partly,
            _ => Verdict::NotReproduced,
        };
        let mut each = vec![];
        for arm in [SCL, &mixed_arm(self.config.sft_mix), FIX, BREAK, INDEPENDENT, SFT] {
            each.push(format!(
                "{arm} {:.2} % ({:.0} pairs; {:+.1} / {:+.1} nats of chosen / rejected)",
                self.results.mean(arm, ACCURACY)?,
                self.results.mean(arm, PAIRS)?,
                self.results.mean(arm, CHOSEN)?,
                self.results.mean(arm, REJECTED)?,
            ));
        }
        let note = format!(
            "Points of accuracy of direct answers of scl over the base. Base {:.2} % ({:.0} steps of pre-training; {:.2} % without a letter), after one review at best {review:.2} % ({prompt}); scl after one review {:.2} %. Arms: {}.",
            stats::mean(&base),
            self.results.mean(BASE, STEPS)?,
            self.results.mean(BASE, FAILURES)?,
            stats::mean(&self.mean_after(SCL, 1)?),
            each.join(", "),
        );
        let n = scl.len();
        Ok(Finding::new("C3", gain, note).against(stats::mean(&base)).verdict(verdict.with_seeds(n)))
    }

    /// C3b.
    fn controls(&self) -> Result<Finding> {
        let scl = self.accuracy(SCL)?;
        let lead = |arm: &str| Ok::<_, anyhow::Error>(verdict::difference(&scl, &self.accuracy(arm)?, 0.0));
        let independent = lead(INDEPENDENT)?;
        let note = format!(
            "Points of accuracy of direct answers of scl over pairs of independent samples; scl over the likelihood of the same chosen answers {:+}; over fixed answers only {:+}; over broken ones only {:+}; with {} of likelihood mixed in over without {:+}.",
            lead(SFT)?,
            lead(FIX)?,
            lead(BREAK)?,
            self.config.sft_mix,
            verdict::difference(&self.accuracy(&mixed_arm(self.config.sft_mix))?, &scl, 0.0),
        );
        let baseline = self.results.mean(INDEPENDENT, ACCURACY)?;
        let judgement = Judgement { verdict: Verdict::NotJudged, ..independent };
        Ok(Finding::new("C3b", judgement, note).against(baseline))
    }

    /// Portions of the pairs, all last, with accuracies by seed.
    fn portions(&self) -> Result<Vec<(f64, Vec<f64>)>> {
        let mut portions = self.config.portions.clone();
        portions.sort_by(f64::total_cmp);
        let mut all = vec![];
        for p in portions {
            all.push((p, self.accuracy(&portion_arm(p))?));
        }
        all.push((1.0, self.accuracy(SCL)?));
        Ok(all)
    }

    /// C4.
    fn amounts(&self) -> Result<Finding> {
        let base = self.accuracy(BASE)?;
        let portions = self.portions()?;
        let grows = portions.windows(2).all(|w| {
            let steps: Vec<f64> = w[1].1.iter().zip(&w[0].1).map(|(b, a)| b - a).collect();
            let error = stats::standard_error(&steps);
            stats::mean(&steps) >= -error
        });
        let gain = |values: &[f64]| stats::mean(values) - stats::mean(&base);
        let full = gain(&portions[portions.len() - 1].1);
        // The portion nearest to the paper's 40 %.
        let near = portions.iter().min_by(|a, b| (a.0 - 0.4).abs().total_cmp(&(b.0 - 0.4).abs())).expect("there is 1");
        let reaches = full > 0.0 && gain(&near.1) > 0.7 * full;
        let verdict = match (grows, reaches) {
            _ if (near.0 - 0.4).abs() > 1e-9 => Verdict::NotJudged,
            _ if full <= 0.0 => Verdict::NotReproduced,
            (true, true) => Verdict::Reproduced,
            (false, false) => Verdict::NotReproduced,
            _ => Verdict::Partly,
        };
        let each: Vec<String> =
            portions.iter().map(|(p, a)| format!("{:+.2} with {:.0} %", gain(a), 100.0 * p)).collect();
        let note = format!(
            "Points of accuracy over the base with {} of the pairs, which is {:.2} of the gain of all: {}; it {} fall by more than a standard error from one portion to the next.",
            near.0,
            gain(&near.1) / full,
            each.join(", "),
            if grows { "does not" } else { "does" },
        );
        let n = base.len();
        let judgement = verdict::difference(&near.1, &base, 0.0);
        Ok(Finding::new("C4", judgement, note).against(full).verdict(verdict.with_seeds(n)))
    }
}

fn judge(results: &Results) -> Result<Judge<'_>> {
    Ok(Judge { results, config: results.plan().config()? })
}

pub(super) fn findings(results: &Results) -> Result<Vec<Finding>> {
    let judge = judge(results)?;
    Ok(vec![judge.reviews()?, judge.turns()?, judge.improves()?, judge.controls()?, judge.amounts()?])
}

pub(super) fn plots(results: &Results) -> Result<Vec<Plot>> {
    let judge = judge(results)?;
    let n = results.plan().seeds.len();
    let mut bars = vec![];
    for prompt in PROMPTS {
        let counts = judge.counts(BASE, prompt)?;
        let total: f64 = counts.iter().sum();
        for (i, (name, count)) in
            ["right, right", "fixed", "broken", "wrong, wrong"].into_iter().zip(counts).enumerate()
        {
            bars.push((format!("{prompt}: {name}"), 100.0 * count / total, 0.0, i));
        }
    }
    let mut turns = vec![];
    for (i, prompt) in PROMPTS.into_iter().enumerate() {
        let by_turn = |k: usize| -> Result<(f64, f64, f64)> {
            let (mean, half) = verdict::summary(&judge.after(BASE, prompt, k)?);
            Ok((k as f64, mean, half))
        };
        let points = (0..=judge.config.reviews).map(by_turn).collect::<Result<Vec<_>>>()?;
        turns.push(Series::with_intervals(format!("base, {prompt}"), i, points));
    }
    let scl = (0..=judge.config.reviews).map(|k| Ok((k as f64, stats::mean(&judge.mean_after(SCL, k)?))));
    turns.push(Series::line("scl, mean", PROMPTS.len(), &scl.collect::<Result<Vec<_>>>()?).dashed());
    let point = |(p, values): (f64, Vec<f64>)| {
        let (mean, half) = verdict::summary(&values);
        (100.0 * p, mean, half)
    };
    let mut amounts = vec![(0.0, judge.accuracy(BASE)?)];
    amounts.extend(judge.portions()?);
    let level = |arm: &str, colour| -> Result<Series> {
        let mean = results.mean(arm, ACCURACY)?;
        Ok(Series::line(arm, colour, &[(0.0, mean), (100.0, mean)]).dashed())
    };
    let amounts = vec![
        Series::with_intervals("scl", 0, amounts.into_iter().map(point).collect()),
        level(INDEPENDENT, 1)?,
        level(SFT, 2)?,
    ];
    let mut faults = vec![];
    for (_, metric) in FAULTS {
        for (i, arm) in [BASE, SCL].into_iter().enumerate() {
            let (mean, half) = verdict::summary(&results.values(arm, metric)?);
            faults.push((
                format!("{}, {arm}", metric.trim_start_matches("first fault: ").trim_end_matches(" (%)")),
                mean,
                half,
                i,
            ));
        }
    }
    let mut plots = vec![
        Plot::bars(
            "transitions",
            &format!("What one review does to the base's answers, by request; shares over {n} seeds."),
            "share of answers (%)",
            bars,
        ),
        Plot::lines(
            "turns",
            &format!(
                "Accuracy over reviews of the base, and of the trained model; means over {n} seeds with 95 % intervals."
            ),
            "reviews",
            "accuracy (%)",
            turns,
        ),
        Plot::lines(
            "portions",
            &format!(
                "Accuracy of direct answers against the portion of pairs; means over {n} seeds with 95 % intervals."
            ),
            "portion of the pairs (%)",
            "accuracy (%)",
            amounts,
        ),
        Plot::bars(
            "faults",
            &format!(
                "Where direct answers first go wrong, before and after; means over {n} seeds with 95 % intervals."
            ),
            "share of answers (%)",
            faults,
        ),
    ];
    if !judge.config.other_shares.is_empty() {
        plots.push(shares(&judge, n)?);
    }
    Ok(plots)
}

/// Accuracy by the share of reviews in pre-training.
fn shares(judge: &Judge<'_>, n: usize) -> Result<Plot> {
    let mut shares = vec![(judge.config.share, BASE.to_owned())];
    shares.extend(judge.config.other_shares.iter().map(|&s| (s, share_arm(s))));
    shares.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut curve = [vec![], vec![]];
    for (share, arm) in shares {
        for (points, values) in curve.iter_mut().zip([judge.accuracy(&arm)?, judge.mean_after(&arm, 1)?]) {
            let (mean, half) = verdict::summary(&values);
            points.push((100.0 * share, mean, half));
        }
    }
    let [direct, reviewed] = curve;
    Ok(Plot::lines(
        "shares",
        &format!(
            "Accuracy of bases that saw reviews in other shares of pre-training, direct and after one review; means over {n} seeds with 95 % intervals."
        ),
        "share of reviews in pre-training (%)",
        "accuracy (%)",
        vec![Series::with_intervals("direct", 0, direct), Series::with_intervals("after one review", 1, reviewed)],
    ))
}
