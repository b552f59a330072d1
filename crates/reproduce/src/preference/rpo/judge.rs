//! Findings and plots.

use super::super::garland::{CHOSEN, Fall, GOLD, KL, REJECTED, win_rate};
use super::{BANDIT, Config, DPO, IPO, MEAN, PROXY, REWARDS, SECOND_DPO, SECOND_RPO, SFT, STRONG};
use super::{bandit, rpo_arm};
use crate::plot::{Plot, Series};
use crate::results::Results;
use crate::verdict::{self, Finding, Judgement, Verdict};
use anyhow::Result;
use autodidact_core::stats::{self, Estimate};

/// DPO must lower the log-probability of chosen answers by this much for the claims to be about anything.
const OVER_OPTIMISED: f64 = -2.0;

struct Judge<'a> {
    results: &'a Results,
    config: Config,
    /// The RPO arm that the claims are judged by.
    rpo: String,
}

impl Judge<'_> {
    /// A bandit's array of all seeds in one.
    fn instances(&self, name: &str) -> Result<Vec<f64>> {
        let mut all = vec![];
        for seed in self.results.seeds(BANDIT) {
            all.extend_from_slice(self.results.array(BANDIT, seed, name)?);
        }
        Ok(all)
    }

    /// Means of the gap to the best covered arm, by number of comparisons.
    fn gaps(&self) -> Result<Vec<(f64, f64)>> {
        let each = self.config.bandit.numbers.iter();
        each.map(|&n| Ok((n as f64, stats::mean(&self.instances(&bandit::gap(n))?)))).collect()
    }

    /// C1.
    fn bandits(&self) -> Result<Finding> {
        let dpo = self.instances(bandit::DPO_VALUE)?;
        let gain = verdict::difference(&self.instances(&bandit::rpo_value(bandit::JUDGED))?, &dpo, 0.0);
        let gaps = self.gaps()?;
        let logs: Vec<(f64, f64)> = gaps.iter().map(|(n, g)| (n.ln(), g.ln())).collect();
        let (x, y): (Vec<f64>, Vec<f64>) = logs.into_iter().unzip();
        let slope = if y.iter().all(|v| v.is_finite()) { stats::slope(&x, &y)? } else { f64::NAN };
        let verdict = Verdict::all(&[gain.verdict, Verdict::of(slope <= -0.3)]);
        let others = bandit::ETAS.iter().map(|&eta| {
            Ok(format!("eta {eta}: {:+}", verdict::difference(&self.instances(&bandit::rpo_value(eta))?, &dpo, 0.0)))
        });
        let gaps: Vec<String> = gaps.iter().map(|(n, g)| format!("{g:.3} at {n}")).collect();
        let note = format!(
            "Expected gold reward of RPO minus DPO on {} bandits ({}); gap to the best covered arm {}, slope {slope:.2}.",
            dpo.len(),
            others.collect::<Result<Vec<_>>>()?.join("; "),
            gaps.join(", "),
        );
        let n = self.results.seeds(BANDIT).len();
        let gain = Judgement { estimate: Estimate { n, ..gain.estimate }, ..gain };
        Ok(Finding::new("C1", gain, note).against(stats::mean(&dpo)).verdict(verdict))
    }

    fn change(&self, arm: &str) -> Result<Vec<f64>> {
        self.results.values(arm, CHOSEN)
    }

    /// Percent of samples of an arm that beat another's, by seed.
    fn wins(&self, arm: &str, against: &str) -> Result<Vec<f64>> {
        let each = self.results.seeds(arm).into_iter().map(|seed| {
            let of = |arm| self.results.array(arm, seed, REWARDS);
            Ok(100.0 * win_rate(of(arm)?, of(against)?))
        });
        each.collect()
    }

    /// Win rate minus one half, in points.
    fn lead(&self, arm: &str, against: &str) -> Result<Judgement> {
        let wins = self.wins(arm, against)?;
        Ok(verdict::difference(&wins, &vec![50.0; wins.len()], 0.0))
    }

    /// C2.
    fn chosen(&self) -> Result<Finding> {
        let (rpo, dpo) = (self.change(&self.rpo)?, self.change(DPO)?);
        let gain = verdict::difference(&rpo, &dpo, 0.0);
        let lowered = stats::mean(&dpo);
        let mut each = vec![];
        for (arm, _) in self.config.methods() {
            let rejected = self.results.mean(&arm, REJECTED)?;
            each.push(format!("{arm} {:.1} / {rejected:.1}", stats::mean(&self.change(&arm)?)));
        }
        let note = format!(
            "Nats of {} over dpo at the last step. Change of log-probability of chosen / rejected answers: {}.{}",
            self.rpo,
            each.join(", "),
            if lowered < OVER_OPTIMISED { "" } else { " DPO does not over-optimise here." }
        );
        let verdict = if lowered < OVER_OPTIMISED { gain.verdict } else { Verdict::NotJudged };
        Ok(Finding::new("C2", gain, note).against(lowered).verdict(verdict))
    }

    /// C3.
    fn beats(&self) -> Result<Finding> {
        let lead = self.lead(&self.rpo, DPO)?;
        let mut each = vec![];
        for (arm, _) in self.config.methods() {
            let against = if arm.starts_with("second/") { SECOND_DPO } else { DPO };
            let wins = stats::mean(&self.wins(&arm, against)?);
            each.push(format!("{arm} {:.2} ({wins:.0} %)", self.results.mean(&arm, GOLD)?));
        }
        let note = format!(
            "Points of win rate of {} against dpo above 50 %. Gold reward at the last step (win rate against dpo of the same reference): {}.",
            self.rpo,
            each.join(", ")
        );
        Ok(Finding::new("C3", lead, note).against(0.0).verdict(lead.or_partly()))
    }

    /// C3b.
    fn collapse(&self) -> Result<Finding> {
        let (dpo, rpo) = (Fall::of(self.results, DPO)?, Fall::of(self.results, &self.rpo)?);
        let verdict = match (dpo.is_clear(), rpo.is_clear()) {
            (true, false) => Verdict::Reproduced,
            (true, true) if rpo.fall < dpo.fall => Verdict::Partly,
            _ => Verdict::NotReproduced,
        };
        let mut each = vec![];
        for (arm, _) in self.config.methods() {
            each.push(format!("{arm} {}", Fall::of(self.results, &arm)?));
        }
        let n = self.results.seeds(DPO).len();
        let note = format!(
            "Fall of DPO's mean gold reward from its maximum over the evaluations (which chance makes look high) to the last step, {dpo}; {} falls by {rpo}. Standard errors are those of the seeds' differences. All: {}.",
            self.rpo,
            each.join(", ")
        );
        let estimate = Estimate { n, ..Estimate::exact(dpo.fall) };
        let judgement = Judgement { estimate, verdict: verdict.with_seeds(n) };
        Ok(Finding::new("C3b", judgement, note).against(rpo.fall))
    }

    /// C5.
    fn plugs_in(&self) -> Result<Finding> {
        let gain = verdict::difference(&self.change(SECOND_RPO)?, &self.change(SECOND_DPO)?, 0.0);
        let lead = self.lead(SECOND_RPO, SECOND_DPO)?;
        let above = |j: &Judgement| Verdict::of(j.estimate.value > 0.0).with_seeds(j.estimate.n);
        let note = format!(
            "With the second reference, nats of chosen answers of RPO over DPO; win rate minus 50 %: {lead:+}; gold reward {:.2} against {:.2}.",
            self.results.mean(SECOND_RPO, GOLD)?,
            self.results.mean(SECOND_DPO, GOLD)?
        );
        Ok(Finding::new("C5", gain, note).verdict(Verdict::all(&[above(&gain), above(&lead)])))
    }

    /// The arms of the first reference that plots show.
    fn shown(&self) -> Vec<String> {
        let fixed = [DPO, STRONG, MEAN, IPO, SFT].map(str::to_owned);
        let mut arms: Vec<String> = self.config.etas.iter().map(|&eta| rpo_arm(eta)).collect();
        arms.splice(0..0, fixed);
        arms
    }
}

fn judge(results: &Results) -> Result<Judge<'_>> {
    let config: Config = results.plan().config()?;
    Ok(Judge { results, rpo: rpo_arm(config.eta), config })
}

pub(super) fn findings(results: &Results) -> Result<Vec<Finding>> {
    let judge = judge(results)?;
    let untested = Finding::not_judged("C4", "Needs chat models and a judging model.");
    Ok(vec![judge.bandits()?, judge.chosen()?, judge.beats()?, judge.collapse()?, untested, judge.plugs_in()?])
}

pub(super) fn plots(results: &Results) -> Result<Vec<Plot>> {
    let judge = judge(results)?;
    let n = results.plan().seeds.len();
    let of = |arm: &str, metric: &str| results.mean_series(arm, metric);
    let (mut probabilities, mut gold, mut path) = (vec![], vec![], vec![]);
    for (i, arm) in judge.shown().iter().enumerate() {
        probabilities.push(Series::line(format!("{arm}, chosen"), i, &of(arm, CHOSEN)?));
        if [DPO, &judge.rpo].contains(&arm.as_str()) {
            probabilities.push(Series::line(format!("{arm}, rejected"), i, &of(arm, REJECTED)?).dashed());
        }
        gold.push(Series::line(arm, i, &of(arm, GOLD)?));
        let root = |(_, kl): (f64, f64)| kl.max(0.0).sqrt();
        let against = |metric: &str| -> Result<Vec<(f64, f64)>> {
            Ok(of(arm, KL)?.into_iter().map(root).zip(of(arm, metric)?.into_iter().map(|p| p.1)).collect())
        };
        path.push(Series::line(arm, i, &against(GOLD)?));
        if [DPO, &judge.rpo].contains(&arm.as_str()) {
            path.push(Series::line(format!("{arm}, implicit"), i, &against(PROXY)?).dashed());
        }
    }
    let mut bars = vec![];
    let (mean, half) = verdict::summary(&judge.instances(bandit::DPO_VALUE)?);
    bars.push(("dpo".to_owned(), mean, half, 0));
    for (i, eta) in bandit::ETAS.iter().enumerate() {
        let (mean, half) = verdict::summary(&judge.instances(&bandit::rpo_value(*eta))?);
        bars.push((format!("rpo, eta {eta}"), mean, half, i + 1));
    }
    Ok(vec![
        Plot::lines(
            "gold",
            &format!("Gold reward of samples during preference training; means over {n} seeds."),
            "step",
            "gold reward",
            gold,
        ),
        Plot::lines(
            "log-probabilities",
            &format!("Mean change of the log-probability of the training answers; means over {n} seeds."),
            "step",
            "change of log-probability (nats)",
            probabilities,
        ),
        Plot::lines(
            "over-optimisation",
            &format!("Gold reward and, dashed, implicit reward of samples against the square root of their divergence from the reference, step by step; means over {n} seeds."),
            "square root of KL (nats)",
            "reward",
            path,
        ),
        Plot::bars(
            "bandit",
            "Expected gold reward of the policies on bandits with three arms that are compared once each; means over all instances with 95 % intervals.",
            "expected gold reward",
            bars,
        ),
        Plot::lines(
            "gap",
            "Gap of RPO's policy to the best well-covered arm against the number of comparisons, eta and beta falling as its square root; means over all instances.",
            "comparisons",
            "gap",
            vec![Series::line("rpo", 1, &judge.gaps()?)],
        )
        .log(true, true),
    ])
}
