//! What a learner knows of each task after each task.

use autodidact_core::stats::mean;
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// `R[j][i]`: how well the model after task `j` does on task `i`; higher is better (accuracies, or losses negated).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContinualMatrix {
    r: Vec<Vec<f64>>,
}

impl ContinualMatrix {
    /// From the rows after each task, over all tasks (those to come are needed for forward transfer only).
    ///
    /// ```
    /// use autodidact_scaling::infinite_lr::ContinualMatrix;
    /// let m = ContinualMatrix::new(vec![vec![0.8, 0.0], vec![0.6, 0.9]])?;
    /// assert!((m.average() - 0.75).abs() < 1e-12 && (m.forgetting() - 0.2).abs() < 1e-12);
    /// # Ok::<(), autodidact_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// Anything but a square matrix of finite numbers with at least one row.
    pub fn new(r: Vec<Vec<f64>>) -> Result<Self> {
        let n = r.len();
        match r.iter().find(|row| row.len() != n) {
            _ if n == 0 => Err(Error::value("tasks of a continual matrix", "at least one", 0)),
            Some(row) => Err(Error::value("row of a continual matrix", format!("{n} values, one per task"), row.len())),
            None => match r.iter().flatten().find(|v| !v.is_finite()) {
                Some(bad) => Err(Error::value("continual matrix", "finite values", bad)),
                None => Ok(Self { r }),
            },
        }
    }

    fn last(&self) -> &[f64] {
        &self.r[self.r.len() - 1]
    }

    /// Mean over the tasks after the last one.
    pub fn average(&self) -> f64 {
        mean(self.last())
    }

    /// Mean over the earlier tasks of the best value they ever had minus the last; 0 with a single task.
    pub fn forgetting(&self) -> f64 {
        self.over_earlier(|i| {
            let best = self.r[i..].iter().map(|row| row[i]).fold(f64::NEG_INFINITY, f64::max);
            best - self.last()[i]
        })
    }

    /// Mean over the earlier tasks of the last value minus that right after the task; 0 with a single task.
    pub fn backward_transfer(&self) -> f64 {
        self.over_earlier(|i| self.last()[i] - self.r[i][i])
    }

    /// Mean over the later tasks of the value right before the task minus `baseline`, that of an untrained model for each task; 0
    /// with a single task.
    ///
    /// # Errors
    /// Another number of baseline values.
    pub fn forward_transfer(&self, baseline: &[f64]) -> Result<f64> {
        if baseline.len() != self.r.len() {
            return Err(Error::value(
                "baseline of forward transfer",
                format!("{} values", self.r.len()),
                baseline.len(),
            ));
        }
        Ok(self.over_earlier(|i| self.r[i][i + 1] - baseline[i + 1]))
    }

    fn over_earlier(&self, f: impl Fn(usize) -> f64) -> f64 {
        match self.r.len() - 1 {
            0 => 0.0,
            earlier => mean(&(0..earlier).map(f).collect::<Vec<_>>()),
        }
    }
}
