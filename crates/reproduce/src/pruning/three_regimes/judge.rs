//! Verdicts and plots.

use super::train::Temperature;
use super::{AGREEMENT, CKA, CURVE, Config, DENSE, LMC, SHARPNESS, TEST, TRAIN, arm};
use crate::plot::{Plot, Series};
use crate::results::Results;
use crate::verdict::{self, Finding, Judgement, Verdict};
use anyhow::Result;
use autodidact_core::stats::{self, Estimate};
use autodidact_pruning::three_regimes::{Direction, PhaseDiagram, Regime, direction, select_model, tune_temperature};

pub(super) fn findings(results: &Results) -> Result<Vec<Finding>> {
    let study = Study::new(results)?;
    Ok(vec![
        study.dichotomy()?,
        study.connectivity()?,
        study.similarity()?,
        study.direction()?,
        study.batches()?,
        study.selection()?,
    ])
}

/// Place of the least of some values, the first of equals.
fn least(values: &[f64]) -> usize {
    (0..values.len()).fold(0, |best, i| if values[i] < values[best] { i } else { best })
}

struct Study<'a> {
    results: &'a Results,
    config: Config,
    seeds: Vec<u64>,
    stops: Vec<Temperature>,
}

impl<'a> Study<'a> {
    fn new(results: &'a Results) -> Result<Self> {
        let config: Config = results.plan().config()?;
        let seeds = results.seeds(&arm(&config.cold(), config.densities[0], &config));
        let stops = config.stops.iter().map(|s| config.stop(*s)).collect();
        Ok(Self { results, config, seeds, stops })
    }

    fn enough(&self, verdict: Verdict) -> Verdict {
        verdict.with_seeds(self.seeds.len())
    }

    fn values(&self, temperature: &Temperature, density: f64, metric: &str) -> Result<Vec<f64>> {
        self.results.values(&arm(temperature, density, &self.config), metric)
    }

    fn mean(&self, temperature: &Temperature, density: f64, metric: &str) -> Result<f64> {
        Ok(stats::mean(&self.values(temperature, density, metric)?))
    }

    /// Means over temperatures (rows) and densities (columns).
    fn table(&self, temperatures: &[Temperature], densities: &[f64], metric: &str) -> Result<Vec<f64>> {
        temperatures.iter().flat_map(|t| densities.iter().map(move |d| self.mean(t, *d, metric))).collect()
    }

    fn diagram(&self) -> Result<PhaseDiagram> {
        let of = |metric| self.table(&self.stops, &self.config.densities, metric);
        let error = of(TEST)?.into_iter().map(|e| e / 100.0).collect();
        Ok(PhaseDiagram::new((self.stops.len(), self.config.densities.len()), error, of(LMC)?, of(CKA)?)?)
    }

    /// A table in words: by temperature the values by density.
    fn words(&self, temperatures: &[Temperature], densities: &[f64], metric: &str, digits: usize) -> Result<String> {
        let row = |t: &Temperature| -> Result<String> {
            let cells = densities.iter().map(|d| Ok(format!("{:.digits$}", self.mean(t, *d, metric)?)));
            Ok(format!("{} {}", t.name(&self.config), cells.collect::<Result<Vec<_>>>()?.join(" / ")))
        };
        Ok(temperatures.iter().map(row).collect::<Result<Vec<_>>>()?.join(", "))
    }

    fn densities(&self) -> String {
        self.config.densities.iter().map(f64::to_string).collect::<Vec<_>>().join(" / ")
    }

    /// C1.
    fn dichotomy(&self) -> Result<Finding> {
        let (hot, cold) = (&self.stops[0], &self.config.cold());
        let [low, high] = self.config.ends();
        let behind = |density: f64| -> Result<f64> {
            let errors = self.table(&self.stops, &[density], TEST)?;
            Ok(errors[errors.len() - 1] - errors.iter().copied().fold(f64::INFINITY, f64::min))
        };
        let coldest = self.values(cold, low, TEST)?;
        let mut never_best = true;
        for (i, error) in coldest.iter().enumerate() {
            let mut others = vec![];
            for t in &self.stops[..self.stops.len() - 1] {
                others.push(self.values(t, low, TEST)?[i]);
            }
            never_best &= others.iter().any(|o| o < error);
        }
        let gaps: Vec<f64> = (self.config.densities.iter())
            .map(|d| Ok(self.mean(cold, *d, TEST)? - self.mean(hot, *d, TEST)?))
            .collect::<Result<_>>()?;
        let met = behind(low)? >= 1.0 && never_best && behind(high)? <= 0.5;
        let verdict = match () {
            _ if met => Verdict::Reproduced,
            _ if gaps.windows(2).all(|w| w[0] > w[1]) => Verdict::Partly,
            _ => Verdict::NotReproduced,
        };
        let shown = verdict::difference(&coldest, &self.values(hot, low, TEST)?, 0.0);
        let dense: Vec<String> = (self.stops.iter())
            .map(|t| Ok(format!("{} {:.1}", t.name(&self.config), self.mean(t, low, DENSE)?)))
            .collect::<Result<_>>()?;
        let note = format!(
            "Test errors in % at densities {}: {} (training errors {}; dense {}). Coldest minus hottest by density: {}. Shown: that at the lowest.",
            self.densities(),
            self.words(&self.stops, &self.config.densities, TEST, 1)?,
            self.words(&self.stops, &self.config.densities, TRAIN, 1)?,
            dense.join(", "),
            gaps.iter().map(|g| format!("{g:+.1}")).collect::<Vec<_>>().join(" / ")
        );
        Ok(Finding::new("C1", shown, note).against(0.0).verdict(self.enough(verdict)))
    }

    /// C2.
    fn connectivity(&self) -> Result<Finding> {
        let (hot, cold) = (&self.stops[0], &self.config.cold());
        let [low, high] = self.config.ends();
        let here = self.mean(cold, low, LMC)?;
        let barrier = self.config.barrier;
        let by_density = here <= -barrier && here <= self.mean(cold, high, LMC)? - barrier;
        let by_temperature = here < self.mean(hot, low, LMC)?;
        let verdict = Verdict::all(&[by_density, by_temperature].map(Verdict::of));
        let regimes = self.diagram()?.regimes(self.config.eps);
        let names: Vec<String> = (self.stops.iter().zip(regimes.chunks(self.config.densities.len())))
            .map(|(t, row)| {
                let row = row.iter().map(|r| match r {
                    Regime::I => "I",
                    Regime::IIA => "II-A",
                    Regime::IIB => "II-B",
                });
                format!("{} {}", t.name(&self.config), row.collect::<Vec<_>>().join(" / "))
            })
            .collect();
        let note = format!(
            "Connectivity at densities {}: {}. Regimes: {}. Shown: coldest at the lowest density.",
            self.densities(),
            self.words(&self.stops, &self.config.densities, LMC, 3)?,
            names.join(", ")
        );
        let estimate = verdict::estimate(&self.values(cold, low, LMC)?);
        Ok(Finding::new("C2", Judgement { estimate, verdict }, note)
            .against(self.mean(cold, high, LMC)?)
            .verdict(self.enough(verdict)))
    }

    /// C3.
    fn similarity(&self) -> Result<Finding> {
        let rising = |values: &[f64]| values.windows(2).all(|w| w[1] > w[0]);
        let table = self.table(&self.stops, &self.config.densities, CKA)?;
        let by_density = table.chunks(self.config.densities.len()).all(rising);
        let [low, high] = self.config.ends();
        let by_coldness = rising(&self.table(&self.stops, &[high], CKA)?);
        let verdict = Verdict::all(&[by_density, by_coldness].map(Verdict::of));
        let cold = self.config.cold();
        let shown = verdict::difference(&self.values(&cold, high, CKA)?, &self.values(&cold, low, CKA)?, 0.0);
        let note = format!(
            "CKA of the softmax at densities {}: {}; agreement in %: {}. Shown: coldest, highest minus lowest density.",
            self.densities(),
            self.words(&self.stops, &self.config.densities, CKA, 3)?,
            self.words(&self.stops, &self.config.densities, AGREEMENT, 1)?
        );
        Ok(Finding::new("C3", shown, note).against(0.0).verdict(self.enough(verdict)))
    }

    /// C4: the rule is asked from both sides of each pair.
    fn direction(&self) -> Result<Finding> {
        let (mut right, mut asked, mut raised, mut hotter) = (0, 0, 0, 0);
        for &density in &self.config.densities {
            for pair in self.stops.windows(2) {
                let errors = [self.values(&pair[0], density, TEST)?, self.values(&pair[1], density, TEST)?];
                let lmcs = [self.values(&pair[0], density, LMC)?, self.values(&pair[1], density, LMC)?];
                for i in 0..self.seeds.len() {
                    if (errors[0][i] - errors[1][i]).abs() < 1.0 {
                        continue;
                    }
                    let better = if errors[0][i] < errors[1][i] { Direction::Raise } else { Direction::Lower };
                    for lmc in &lmcs {
                        asked += 1;
                        let said = direction(lmc[i], self.config.eps);
                        right += usize::from(said == better);
                        raised += usize::from(said == Direction::Raise);
                        hotter += usize::from(better == Direction::Raise);
                    }
                }
            }
        }
        if asked == 0 {
            return Ok(Finding::not_judged("C4", "No neighbouring temperatures differ by 1 point."));
        }
        let rate = right as f64 / asked as f64;
        let constant = hotter.max(asked - hotter);
        let note = format!(
            "The rule is right in {right} of {asked} cases; it says hotter in {raised}, which would be right in {hotter}; one answer for all is right in {constant} at best. Cases depend on each other, so no interval is given."
        );
        let estimate = Estimate { n: self.seeds.len(), ..Estimate::exact(rate) };
        let verdict = Verdict::of(rate >= 0.75 && right > constant);
        Ok(Finding::new("C4", Judgement { estimate, verdict }, note).against(0.75).verdict(self.enough(verdict)))
    }

    /// C5.
    fn batches(&self) -> Result<Finding> {
        let sizes = self.config.by_batch();
        let ends = self.config.ends();
        let similar = self.table(&sizes, &ends, CKA)?.chunks(2).all(|c| c[1] > c[0]);
        let best = |density: f64| -> Result<usize> {
            let errors = self.table(&sizes, &[density], TEST)?;
            Ok(least(&errors))
        };
        let (low, high) = (best(ends[0])?, best(ends[1])?);
        let verdict = Verdict::all(&[similar, high > low].map(Verdict::of));
        let (small, large) = (&sizes[0], &sizes[sizes.len() - 1]);
        let shown = verdict::difference(&self.values(large, ends[0], TEST)?, &self.values(small, ends[0], TEST)?, 0.0);
        let note = format!(
            "At densities {} / {} (batch {} is the whole training of the stops): test errors in % {}; connectivity {}; CKA {}. Best: {} and {}. Shown: largest minus smallest batch at the lowest density.",
            ends[0],
            ends[1],
            self.config.batch,
            self.words(&sizes, &ends, TEST, 1)?,
            self.words(&sizes, &ends, LMC, 3)?,
            self.words(&sizes, &ends, CKA, 3)?,
            sizes[low].name(&self.config),
            sizes[high].name(&self.config)
        );
        Ok(Finding::new("C5", shown, note).against(0.0).verdict(self.enough(verdict)))
    }

    /// Test errors by seed of the temperature that `choose` names, given a seed's index and a density.
    fn chosen(&self, density: f64, choose: impl Fn(usize, f64) -> Result<usize>) -> Result<Vec<f64>> {
        let errors = self.stops.iter().map(|t| self.values(t, density, TEST)).collect::<Result<Vec<_>>>()?;
        (0..self.seeds.len()).map(|i| Ok(errors[choose(i, density)?][i])).collect()
    }

    /// The stop with the least of a metric.
    fn least(&self, seed: usize, density: f64, metric: &str) -> Result<usize> {
        let all = self.stops.iter().map(|t| Ok(self.values(t, density, metric)?[seed]));
        let all = all.collect::<Result<Vec<f64>>>()?;
        Ok(least(&all))
    }

    /// C6, and the two other case studies.
    fn selection(&self) -> Result<Finding> {
        let pair = |i: usize, d: f64, t: &Temperature| -> Result<(f64, f64)> {
            Ok((self.values(t, d, LMC)?[i], self.values(t, d, CKA)?[i]))
        };
        let selected = |i: usize, d: f64| -> Result<usize> {
            let candidates = self.stops.iter().map(|t| pair(i, d, t)).collect::<Result<Vec<_>>>()?;
            Ok(select_model(&candidates, self.config.eps)?)
        };
        let tuned = |i: usize, d: f64| -> Result<usize> {
            let start = self.stops.len() - 1;
            let found =
                tune_temperature(self.stops.len(), start, self.config.eps, |t| Ok(pair(i, d, &self.stops[t])?.0));
            Ok(found.map_err(|e: anyhow::Error| e)?.chosen)
        };
        let (mut never_worse, mut once_better, mut words, mut shown) = (true, false, vec![], None);
        for &density in &self.config.densities {
            let ours = self.chosen(density, selected)?;
            let dense = self.chosen(density, |i, d| self.least(i, d, DENSE))?;
            let flat = self.chosen(density, |i, d| self.least(i, d, SHARPNESS))?;
            let best = self.chosen(density, |i, d| self.least(i, d, TEST))?;
            let random = self.table(&self.stops, &[density], TEST)?;
            let gain = verdict::difference(&ours, &dense, 0.0);
            never_worse &= gain.estimate.value <= 0.0;
            once_better |= gain.estimate.value < 0.0;
            words.push(format!(
                "{density}: selected {:.1}, by dense accuracy {:.1}, by sharpness {:.1}, at random {:.1}, the best {:.1}, tuned by connectivity {:.1}",
                stats::mean(&ours),
                stats::mean(&dense),
                stats::mean(&flat),
                stats::mean(&random),
                stats::mean(&best),
                stats::mean(&self.chosen(density, tuned)?)
            ));
            shown.get_or_insert(gain);
        }
        let rhos = self.config.by_rho();
        let ends = self.config.ends();
        let verdict = Verdict::of(never_worse && once_better);
        let note = format!(
            "Test error in % by density: {}. SAM at densities {} / {}: test errors {}; connectivity {}. Shown: selected minus by dense accuracy at the lowest density.",
            words.join("; "),
            ends[0],
            ends[1],
            self.words(&rhos, &ends, TEST, 1)?,
            self.words(&rhos, &ends, LMC, 3)?
        );
        let shown = shown.unwrap_or_else(|| verdict::difference(&[], &[], 0.0));
        Ok(Finding::new("C6", shown, note).against(0.0).verdict(self.enough(verdict)))
    }
}

pub(super) fn plots(results: &Results) -> Result<Vec<Plot>> {
    let study = Study::new(results)?;
    let config = &study.config;
    let diagram = study.diagram()?;
    let (rows, columns) = diagram.size();
    let axes = format!(
        "rows: {} (hottest first); columns: density {}",
        study.stops.iter().map(|t| t.name(config)).collect::<Vec<_>>().join(", "),
        study.densities()
    );
    let map = |name: &str, what: &str, values: Vec<f64>| {
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let panels = vec![(what.to_owned(), rows, columns, values)];
        Plot::heat(name, &format!("{what}, mean over seeds; {axes}."), panels, low, high)
    };
    let mut curves = vec![];
    let [low, high] = config.ends();
    let chosen = [(config.cold(), low), (study.stops[0], low), (config.cold(), high), (study.stops[0], high)];
    for (i, (temperature, density)) in chosen.into_iter().enumerate() {
        let name = arm(&temperature, density, config);
        let curve = results.mean_array(&name, CURVE)?;
        let end = (curve.len() - 1).max(1) as f64;
        let points: Vec<_> = curve.iter().enumerate().map(|(k, e)| (k as f64 / end, 100.0 * e)).collect();
        curves.push(Series::line(name, i, &points));
    }
    Ok(vec![
        map("normalised-error", "Test error above the least of its density", diagram.normalised_error()),
        map("error", "Test error", diagram.test_error.clone()),
        map("connectivity", "Linear mode connectivity", diagram.lmc.clone()),
        map("similarity", "CKA of the softmax outputs", diagram.cka.clone()),
        Plot::lines(
            "lines",
            "Training error on the line between two retrained networks, mean over seeds.",
            "t",
            "training error (%)",
            curves,
        ),
    ])
}
