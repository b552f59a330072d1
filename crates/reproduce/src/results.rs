//! The finished cells of a run, as experiments, plots and records ask for them.

use crate::experiment::{Cell, Plan};
use crate::runner::CellRecord;
use anyhow::{Context as _, Result, bail, ensure};
use std::collections::BTreeMap;

/// Finished cells.
#[derive(Debug)]
pub struct Results {
    plan: Plan,
    cells: BTreeMap<Cell, CellRecord>,
    order: Vec<Cell>,
}

impl Results {
    /// The cells of a plan, in the order of the plan.
    pub fn new(plan: Plan, cells: Vec<(Cell, CellRecord)>) -> Self {
        let order = cells.iter().map(|(c, _)| c.clone()).collect();
        Self { plan, cells: cells.into_iter().collect(), order }
    }

    /// What was run.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Cells in the order of the plan.
    pub fn iter(&self) -> impl Iterator<Item = (&Cell, &CellRecord)> {
        self.order.iter().map(|c| (c, &self.cells[c]))
    }

    /// Whether an arm was run.
    pub fn has(&self, arm: &str) -> bool {
        self.order.iter().any(|c| c.arm == arm)
    }

    /// Arms in the order of the plan.
    pub fn arms(&self) -> Vec<&str> {
        let mut arms: Vec<&str> = vec![];
        for c in &self.order {
            if !arms.contains(&c.arm.as_str()) {
                arms.push(&c.arm);
            }
        }
        arms
    }

    /// Seeds of an arm, ascending.
    pub fn seeds(&self, arm: &str) -> Vec<u64> {
        self.cells.keys().filter(|c| c.arm == arm).map(|c| c.seed).collect()
    }

    fn record(&self, arm: &str, seed: u64) -> Result<&CellRecord> {
        let Some(record) = self.cells.get(&Cell::new(arm, seed)) else { bail!("no cell {arm} seed {seed}") };
        Ok(record)
    }

    /// The last value of a metric in a cell.
    ///
    /// # Errors
    /// No such cell or metric.
    pub fn value(&self, arm: &str, seed: u64, metric: &str) -> Result<f64> {
        let last = self.record(arm, seed)?.metrics.iter().rev().find(|m| m.metric == metric);
        let Some(last) = last else { bail!("cell {arm} seed {seed} has no metric {metric}") };
        Ok(last.value)
    }

    /// The last value of a metric for each seed of an arm, by ascending seed.
    ///
    /// # Errors
    /// No such arm or metric.
    pub fn values(&self, arm: &str, metric: &str) -> Result<Vec<f64>> {
        let seeds = self.seeds(arm);
        if seeds.is_empty() {
            bail!("no cell of arm {arm}");
        }
        seeds.into_iter().map(|s| self.value(arm, s, metric)).collect()
    }

    /// Mean over seeds of the last value of a metric.
    ///
    /// # Errors
    /// No such arm or metric.
    pub fn mean(&self, arm: &str, metric: &str) -> Result<f64> {
        Ok(autodidact_core::stats::mean(&self.values(arm, metric)?))
    }

    /// Of several arms, the first with the highest mean of a metric.
    ///
    /// # Errors
    /// No arms, no such arm or metric.
    pub fn best(&self, arms: impl IntoIterator<Item = String>, metric: &str) -> Result<String> {
        let mut best: Option<(f64, String)> = None;
        for arm in arms {
            let mean = self.mean(&arm, metric)?;
            if best.as_ref().is_none_or(|(highest, _)| mean > *highest) {
                best = Some((mean, arm));
            }
        }
        best.map(|(_, arm)| arm).context("no arms to choose from")
    }

    /// `(step, value)` of a metric in a cell.
    ///
    /// # Errors
    /// No such cell or metric.
    pub fn series(&self, arm: &str, seed: u64, metric: &str) -> Result<Vec<(f64, f64)>> {
        let metrics = self.record(arm, seed)?.metrics.iter().filter(|m| m.metric == metric);
        let points: Vec<_> = metrics.map(|m| (m.step as f64, m.value)).collect();
        if points.is_empty() {
            bail!("cell {arm} seed {seed} has no metric {metric}");
        }
        Ok(points)
    }

    /// Series of a metric averaged over the seeds of an arm (which log at the same steps).
    ///
    /// # Errors
    /// No such arm or metric.
    pub fn mean_series(&self, arm: &str, metric: &str) -> Result<Vec<(f64, f64)>> {
        let mut sums: BTreeMap<u64, (f64, usize)> = BTreeMap::new();
        for seed in self.seeds(arm) {
            for (step, value) in self.series(arm, seed, metric)? {
                let sum = sums.entry(step as u64).or_default();
                *sum = (sum.0 + value, sum.1 + 1);
            }
        }
        Ok(sums.into_iter().map(|(step, (sum, n))| (step as f64, sum / n as f64)).collect())
    }

    /// An array that a cell saved.
    ///
    /// # Errors
    /// No such cell or array.
    pub fn array(&self, arm: &str, seed: u64, name: &str) -> Result<&[f64]> {
        let Some(array) = self.record(arm, seed)?.arrays.get(name) else {
            bail!("cell {arm} seed {seed} has no array {name}")
        };
        Ok(array)
    }

    /// An array that every seed of an arm saved, averaged entry by entry.
    ///
    /// # Errors
    /// No such arm or array, arrays of different lengths.
    pub fn mean_array(&self, arm: &str, name: &str) -> Result<Vec<f64>> {
        let seeds = self.seeds(arm);
        let mut mean: Vec<f64> = vec![];
        for (i, seed) in seeds.iter().enumerate() {
            let values = self.array(arm, *seed, name)?;
            if i == 0 {
                mean.resize(values.len(), 0.0);
            }
            ensure!(values.len() == mean.len(), "arrays {name} of {arm} have different lengths");
            mean.iter_mut().zip(values).for_each(|(m, v)| *m += v / seeds.len() as f64);
        }
        ensure!(!seeds.is_empty(), "no cell of arm {arm}");
        Ok(mean)
    }
}
