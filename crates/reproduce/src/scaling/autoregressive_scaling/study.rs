//! What the finished runs say, seed by seed: curves, laws, information.

use super::runs::{Domain, Run};
use super::{Config, LONGER, LOSS, POSITIONS, SAMPLES, TOKENS, TOLD};
use crate::results::Results;
use anyhow::{Context as _, Result};
use autodidact_scaling::autoregressive_scaling::{PfDays, Trend, percentile_trends};
use autodidact_scaling::fit::{FitOptions, PowerLawPlusConst, lower_hull_log};

/// Percentiles of the losses of images.
pub const PERCENTILES: [f64; 5] = [5.0, 20.0, 50.0, 80.0, 95.0];

/// `(x, loss)`.
pub type Points = Vec<(f64, f64)>;

/// The finished runs of all seeds.
pub struct Study<'a> {
    pub results: &'a Results,
    pub c: &'a Config,
}

impl Study<'_> {
    pub fn seeds(&self) -> &[u64] {
        &self.results.plan().seeds
    }

    pub fn by_seed<T>(&self, of: impl Fn(u64) -> Result<T>) -> Result<Vec<T>> {
        self.seeds().iter().map(|&s| of(s)).collect()
    }

    /// `(step, loss)` of a run's tests.
    pub fn tests(&self, run: &Run, seed: u64) -> Result<Points> {
        self.results.series(&run.arm(), seed, LOSS)
    }

    /// `(compute in PF-days, loss)` of a run's tests.
    pub fn curve(&self, run: &Run, seed: u64) -> Result<Points> {
        let tokens = self.results.value(&run.arm(), seed, TOKENS)?;
        let of = |(step, loss)| (PfDays::of_training(run.weights(), step * tokens).0, loss);
        Ok(self.tests(run, seed)?.into_iter().map(of).collect())
    }

    pub fn curves(&self, domain: Domain, seed: u64) -> Result<Vec<Points>> {
        domain.runs(self.c).iter().map(|run| self.curve(run, seed)).collect()
    }

    /// The step and the loss of the best test.
    pub fn best(&self, run: &Run, seed: u64) -> Result<(f64, f64)> {
        let tests = self.tests(run, seed)?;
        tests.into_iter().min_by(|a, b| a.1.total_cmp(&b.1)).context("no test of the run")
    }

    /// `(N, lowest loss)`.
    pub fn sizes(&self, domain: Domain, seed: u64) -> Result<Points> {
        domain.runs(self.c).iter().map(|run| Ok((run.weights(), self.best(run, seed)?.1))).collect()
    }

    /// The law of sizes.
    pub fn law(&self, domain: Domain, seed: u64) -> Result<PowerLawPlusConst> {
        Ok(PowerLawPlusConst::fit(&self.sizes(domain, seed)?, &FitOptions::default())?.law)
    }

    /// The law of compute, below all learning curves.
    pub fn frontier(&self, domain: Domain, seed: u64) -> Result<PowerLawPlusConst> {
        Ok(PowerLawPlusConst::fit_frontier(&self.curves(domain, seed)?, &FitOptions::default())?.law)
    }

    /// Learning curves over the three largest decades of compute, and the corners of their hull as `(compute, N)`.
    pub fn corners(&self, domain: Domain, seed: u64) -> Result<Points> {
        let curves = self.curves(domain, seed)?;
        let most = curves.iter().flatten().map(|p| p.0).fold(0.0, f64::max);
        let sized = domain.runs(self.c);
        let points: Vec<(f64, (f64, f64))> = curves
            .into_iter()
            .zip(&sized)
            .flat_map(|(curve, run)| curve.into_iter().map(|p| (run.weights(), p)))
            .filter(|(_, p)| p.0 >= most / 1e3)
            .collect();
        let hull = lower_hull_log(&points.iter().map(|p| p.1).collect::<Vec<_>>())?;
        Ok(hull.into_iter().map(|i| (points[i].1.0, points[i].0)).collect())
    }

    pub fn trends(&self, seed: u64) -> Result<Vec<Trend>> {
        let runs = Domain::Images.runs(self.c);
        let sizes: Vec<f64> = runs.iter().map(Run::weights).collect();
        let losses = runs.iter().map(|r| Ok(self.results.array(&r.arm(), seed, SAMPLES)?.to_vec()));
        let losses = losses.collect::<Result<Vec<Vec<f64>>>>()?;
        Ok(percentile_trends(&sizes, &losses, &PERCENTILES, &FitOptions::default())?)
    }

    /// Information of labels about images by size, nats per image.
    pub fn information(&self, seed: u64) -> Result<Points> {
        let of = |run: &Run| {
            let (step, blank) = self.best(run, seed)?;
            let told = self.results.series(&run.arm(), seed, TOLD)?;
            let told = told.into_iter().find(|p| p.0 == step).context("no test behind the label")?.1;
            let tokens = self.results.value(&run.arm(), seed, TOKENS)? / self.c.batch as f64;
            Ok((run.weights(), tokens * (blank - told)))
        };
        Domain::Images.runs(self.c).iter().map(of).collect()
    }

    /// `(loss on the digits of training, loss on longer numbers)` of a run's tests.
    pub fn hard(&self, run: &Run, seed: u64) -> Result<Points> {
        let longer = self.results.series(&run.arm(), seed, LONGER)?;
        Ok(self.tests(run, seed)?.iter().zip(longer).map(|(a, b)| (a.1, b.1)).collect())
    }

    /// Errors of a metric by size, one row per seed.
    pub fn errors(&self, metric: &str) -> Result<Vec<Vec<f64>>> {
        let runs = Domain::Images.runs(self.c);
        self.by_seed(|s| runs.iter().map(|r| self.results.value(&r.arm(), s, metric)).collect())
    }

    /// `(position from 1, loss)` of the largest network, averaged over seeds.
    pub fn by_position(&self, domain: Domain) -> Result<Points> {
        let run = domain.runs(self.c).pop().context("no sizes")?;
        let losses = self.results.mean_array(&run.arm(), POSITIONS)?;
        Ok((1..).zip(losses).map(|(t, loss)| (f64::from(t), loss)).collect())
    }
}
