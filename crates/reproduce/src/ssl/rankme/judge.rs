//! Findings and plots.

use super::{ALPHA, CLASSICAL, Config, FEW, OUTSIDE, PROBE, RANK, RANK_R, RANK_SUBSET, Setting, Sweep};
use crate::experiment::Scale;
use crate::plot::{Plot, Series};
use crate::results::Results;
use crate::verdict::{self, Finding, Verdict, estimate};
use anyhow::Result;
use autodidact_core::stats::{self, Estimate};
use autodidact_ssl::rankme::{Candidate, Selection, select};

struct Study<'a> {
    results: &'a Results,
    config: Config,
    sweeps: Vec<Sweep>,
    /// The probe that C1 and C3 look at.
    probe: &'static str,
}

impl<'a> Study<'a> {
    fn new(results: &'a Results) -> Result<Self> {
        let plan = results.plan();
        let config: Config = plan.config()?;
        let sweeps = config.of(&plan.dataset).sweeps();
        let probe = if plan.dataset == "digits" { FEW } else { PROBE };
        Ok(Self { results, config, sweeps, probe })
    }

    fn setting(&self) -> &Setting {
        self.config.of(&self.results.plan().dataset)
    }

    fn enough(&self, verdict: Verdict) -> Verdict {
        verdict.with_seeds(self.results.plan().seeds.len())
    }

    /// A metric of a sweep's runs at one seed, by ascending value of the hyper-parameter.
    fn column(&self, sweep: &Sweep, seed: u64, metric: &str) -> Result<Vec<f64>> {
        sweep.arms.iter().map(|(_, arm)| self.results.value(arm, seed, metric)).collect()
    }

    /// Spearman's correlation of two metrics over a sweep, by seed. 0 where one of them is the same in all runs.
    fn correlations(&self, sweep: &Sweep, a: &str, b: &str) -> Result<Vec<f64>> {
        let seeds = &self.results.plan().seeds;
        let of = |seed: &u64| {
            let (a, b) = (self.column(sweep, *seed, a)?, self.column(sweep, *seed, b)?);
            Ok(stats::spearman(&a, &b).unwrap_or(0.0))
        };
        seeds.iter().map(of).collect()
    }

    /// Whether the run of lowest mean rank is among the two of lowest mean accuracy.
    fn lowest_is_bad(&self, sweep: &Sweep) -> Result<bool> {
        let means = |metric: &str| -> Result<Vec<f64>> {
            sweep.arms.iter().map(|(_, arm)| self.results.mean(arm, metric)).collect()
        };
        let (rank, accuracy) = (means(RANK)?, means(self.probe)?);
        let lowest = (0..rank.len()).min_by(|&a, &b| rank[a].total_cmp(&rank[b])).unwrap_or(0);
        Ok(accuracy.iter().filter(|a| **a < accuracy[lowest]).count() < 2)
    }

    /// Correlations of RankMe and a probe, by sweep and seed.
    fn by_sweep(&self, probe: &str) -> Result<Vec<(&Sweep, Vec<f64>)>> {
        self.sweeps.iter().map(|s| Ok((s, self.correlations(s, RANK, probe)?))).collect()
    }

    /// C1.
    fn in_domain(&self) -> Result<Finding> {
        let correlations = self.by_sweep(self.probe)?;
        let average = averages(&correlations);
        let (mut all, mut nu, mut lowest) = (stats::mean(&average) >= 0.3, false, vec![]);
        for (sweep, r) in correlations.iter().filter(|(s, _)| s.method == "vicreg") {
            let bad = self.lowest_is_bad(sweep)?;
            let passes = stats::mean(r) >= 0.6 && bad;
            all &= passes;
            nu |= passes && sweep.name == "nu";
            lowest.push(format!("{} {}", sweep.name, if bad { "yes" } else { "no" }));
        }
        let verdict = match (all, nu) {
            (true, _) => Verdict::Reproduced,
            (_, true) => Verdict::Partly,
            _ => Verdict::NotReproduced,
        };
        Ok(Finding {
            id: "C1",
            estimate: estimate(&average),
            baseline: None,
            verdict: self.enough(verdict),
            note: format!(
                "Spearman's correlation of RankMe and {} by sweep: {}; their average is shown. Lowest rank among the two worst in VICReg's sweeps: {}.",
                self.probe,
                listed(&correlations),
                lowest.join(", "),
            ),
        })
    }

    /// C2.
    fn out_of_domain(&self) -> Result<Finding> {
        let correlations = self.by_sweep(OUTSIDE)?;
        let average = averages(&correlations);
        let nu = correlations.iter().any(|(s, r)| s.name == "nu" && stats::mean(r) >= 0.5);
        let parts = [Verdict::of(nu), Verdict::of(stats::mean(&average) >= 0.3)];
        Ok(Finding {
            id: "C2",
            estimate: estimate(&average),
            baseline: None,
            verdict: self.enough(Verdict::all(&parts)),
            note: format!(
                "Spearman's correlation of RankMe and {OUTSIDE} by sweep: {}; their average is shown.",
                listed(&correlations)
            ),
        })
    }

    /// Accuracy that a rule's choice loses against the oracle's, mean over sweeps, by seed.
    fn gaps(&self, rule: Selection) -> Result<Vec<f64>> {
        let of = |seed: &u64| {
            let mut gap = 0.0;
            for sweep in &self.sweeps {
                let runs = self.candidates(sweep, *seed)?;
                let accuracy = |rule| Ok::<_, anyhow::Error>(select(&runs, rule)?.accuracy);
                gap += (accuracy(Selection::Oracle)? - accuracy(rule)?) / self.sweeps.len() as f64;
            }
            Ok(gap)
        };
        self.results.plan().seeds.iter().map(of).collect()
    }

    fn candidates(&self, sweep: &Sweep, seed: u64) -> Result<Vec<Candidate>> {
        let run = |(value, arm): &(f64, String)| {
            let of = |metric: &str| self.results.value(arm, seed, metric);
            Ok(Candidate { value: *value, rankme: of(RANK)?, alpha: of(ALPHA)?, accuracy: of(self.probe)? })
        };
        sweep.arms.iter().map(run).collect()
    }

    /// C3.
    fn selection(&self) -> Result<Finding> {
        let rule = Selection::RankMe { tolerance: self.config.tolerance };
        let (ours, alpha, median) = (self.gaps(rule)?, self.gaps(Selection::AlphaReq)?, self.gaps(Selection::Median)?);
        let (gap, alpha, median) = (stats::mean(&ours), stats::mean(&alpha), stats::mean(&median));
        let most = if self.results.plan().scale == Scale::Full { 0.5 } else { 1.0 };
        let verdict = match () {
            _ if gap <= most && gap <= alpha && gap <= median => Verdict::Reproduced,
            _ if gap < median => Verdict::Partly,
            _ => Verdict::NotReproduced,
        };
        let mut choices = vec![];
        for sweep in &self.sweeps {
            let chosen = self.results.plan().seeds.iter().map(|s| {
                let runs = self.candidates(sweep, *s)?;
                Ok(format!("{} ({})", select(&runs, rule)?.value, select(&runs, Selection::Oracle)?.value))
            });
            choices.push(format!(
                "{} {}: {}",
                sweep.method,
                sweep.name,
                chosen.collect::<Result<Vec<_>>>()?.join(", ")
            ));
        }
        Ok(Finding {
            id: "C3",
            estimate: estimate(&ours),
            baseline: Some(median),
            verdict: self.enough(verdict),
            note: format!(
                "Points of {} lost against the oracle: RankMe {gap:.2}, alpha-ReQ {alpha:.2}, median of the sweep {median:.2}. Chosen by RankMe (by the oracle), by seed: {}.",
                self.probe,
                choices.join("; "),
            ),
        })
    }

    fn pooled(&self, method: &str, metric: &str) -> Result<Vec<f64>> {
        let arms = self.results.arms().into_iter().filter(|a| a.starts_with(method));
        Ok(arms.map(|a| self.results.values(a, metric)).collect::<Result<Vec<_>>>()?.concat())
    }

    /// C4.
    fn sampling(&self) -> Result<Finding> {
        let (all, subset) = (self.pooled("", RANK)?, self.pooled("", RANK_SUBSET)?);
        let errors: Vec<f64> = all.iter().zip(&subset).map(|(a, s)| 100.0 * (s / a - 1.0).abs()).collect();
        let sample = verdict::within(&errors, 5.0);
        let agreement = stats::spearman(&all, &self.pooled("", CLASSICAL)?).unwrap_or(0.0);
        Ok(Finding {
            id: "C4",
            estimate: sample.estimate,
            baseline: None,
            verdict: self.enough(Verdict::all(&[sample.verdict, Verdict::of(agreement > 0.9)])),
            note: format!(
                "Percent by which RankMe of {} rows differs from that of {}: largest shown, mean {:.2}. Correlation with the rank above 1e-2: {agreement:.3}.",
                self.setting().subset,
                self.setting().train,
                stats::mean(&errors),
            ),
        })
    }

    /// C5.
    fn representations(&self) -> Result<Finding> {
        let correlation = |method: &str| -> Result<f64> {
            Ok(stats::spearman(&self.pooled(method, RANK)?, &self.pooled(method, RANK_R)?).unwrap_or(0.0))
        };
        let (vicreg, simclr) = (correlation("vicreg")?, correlation("simclr")?);
        let n = self.results.plan().seeds.len();
        Ok(Finding {
            id: "C5",
            estimate: Estimate { n, ..Estimate::exact(vicreg.min(simclr)) },
            baseline: None,
            verdict: self.enough(Verdict::all(&[Verdict::of(vicreg > 0.6), Verdict::of(simclr > 0.6)])),
            note: format!("Pooled correlation: VICReg {vicreg:.3}, SimCLR {simclr:.3}; the smaller is shown."),
        })
    }
}

/// By seed, the average over sweeps.
fn averages(correlations: &[(&Sweep, Vec<f64>)]) -> Vec<f64> {
    let seeds = correlations.first().map_or(0, |(_, r)| r.len());
    (0..seeds).map(|i| stats::mean(&correlations.iter().map(|(_, r)| r[i]).collect::<Vec<_>>())).collect()
}

fn listed(correlations: &[(&Sweep, Vec<f64>)]) -> String {
    let one = |(s, r): &(&Sweep, Vec<f64>)| format!("{} {} {:.2}", s.method, s.name, stats::mean(r));
    correlations.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// The finding of every claim.
pub fn findings(results: &Results) -> Result<Vec<Finding>> {
    let study = Study::new(results)?;
    Ok(vec![
        study.in_domain()?,
        study.out_of_domain()?,
        study.selection()?,
        study.sampling()?,
        study.representations()?,
    ])
}

/// Scatter plots, spectra, and RankMe in training.
pub fn plots(results: &Results) -> Result<Vec<Plot>> {
    let study = Study::new(results)?;
    let scatter = |probe: &str| -> Result<Vec<Series>> {
        let series = study.sweeps.iter().enumerate().map(|(i, sweep)| {
            let point = |(_, arm): &(f64, String)| Ok((results.mean(arm, RANK)?, results.mean(arm, probe)?));
            let points = sweep.arms.iter().map(point).collect::<Result<Vec<_>>>()?;
            Ok(Series::line(format!("{} {}", sweep.method, sweep.name), i, &points).dots())
        });
        series.collect()
    };
    let inside = format!("RankMe and {} of every run, by sweep; means over seeds.", study.probe);
    let outside = format!("RankMe and {OUTSIDE} of every run, by sweep; means over seeds.");
    let seed = results.plan().seeds[0];
    let mut spectra = vec![];
    for (i, (nu, arm)) in study.sweeps[0].arms.iter().enumerate() {
        let singular = results.array(arm, seed, "singular values")?;
        let largest = singular.first().copied().unwrap_or(1.0);
        let points = singular.iter().enumerate().map(|(k, s)| ((k + 1) as f64, (s / largest).max(1e-8)));
        spectra.push(Series::line(format!("nu {nu}"), i, &points.collect::<Vec<_>>()));
    }
    let mut watched = vec![];
    for (i, (nu, arm)) in study.sweeps[0].arms.iter().enumerate() {
        watched.push(Series::line(format!("nu {nu}"), i, &results.mean_series(arm, "RankMe in training")?));
    }
    Ok(vec![
        Plot::lines("probe", &inside, "RankMe", &format!("{} (%)", study.probe), scatter(study.probe)?).log(true, false),
        Plot::lines("out-of-domain", &outside, "RankMe", &format!("{OUTSIDE} (%)"), scatter(OUTSIDE)?).log(true, false),
        Plot::lines(
            "spectra",
            &format!("Singular values of VICReg's embeddings by weight of the covariance term, relative to the largest (seed {seed})."),
            "index",
            "singular value",
            spectra,
        )
        .log(true, true),
        Plot::lines(
            "training",
            "RankMe of VICReg's embeddings during training, by weight of the covariance term; means over seeds.",
            "step",
            "RankMe",
            watched,
        ),
    ])
}
