//! Observations.

use autodidact_core::{Error, Result};

/// Observations of a positive quantity at positive inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct Points {
    inputs: Vec<Vec<f64>>,
    values: Vec<f64>,
    runs: Option<Vec<usize>>,
}

impl Points {
    /// From `(inputs, value)`, all positive.
    ///
    /// # Errors
    /// No points, points of different numbers of inputs, numbers that are not positive and finite.
    pub fn new<X: AsRef<[f64]>>(points: impl IntoIterator<Item = (X, f64)>) -> Result<Self> {
        let (inputs, values): (Vec<Vec<f64>>, Vec<f64>) =
            points.into_iter().map(|(x, y)| (x.as_ref().to_vec(), y)).unzip();
        let Some(first) = inputs.first() else { return Err(Error::value("points", "at least one", "none")) };
        for (i, (x, y)) in inputs.iter().zip(&values).enumerate() {
            if x.len() != first.len() {
                return Err(Error::value(format!("inputs of point {i}"), first.len().to_string(), x.len()));
            }
            if let Some(bad) = x.iter().chain([y]).find(|v| !(v.is_finite() && **v > 0.0)) {
                return Err(Error::value(format!("point {i}"), "positive finite numbers", bad));
            }
        }
        Ok(Self { inputs, values, runs: None })
    }

    /// The same, of which point `i` belongs to run `runs[i]`: the bootstrap then draws whole runs.
    ///
    /// # Errors
    /// Another number of runs than points.
    pub fn of_runs(mut self, runs: Vec<usize>) -> Result<Self> {
        if runs.len() != self.len() {
            return Err(Error::value("runs", format!("one for each of the {} points", self.len()), runs.len()));
        }
        self.runs = Some(runs);
        Ok(self)
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Never: there is at least one point.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Inputs of a point.
    pub fn inputs(&self, i: usize) -> &[f64] {
        &self.inputs[i]
    }

    /// What was observed.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// Points as `(inputs, value)`.
    pub fn iter(&self) -> impl Iterator<Item = (&[f64], f64)> {
        self.inputs.iter().map(Vec::as_slice).zip(self.values.iter().copied())
    }

    /// The smallest observation.
    pub fn smallest(&self) -> f64 {
        self.values.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// The largest observation.
    pub fn largest(&self) -> f64 {
        self.values.iter().copied().fold(0.0, f64::max)
    }

    /// The points of these indices.
    ///
    /// # Errors
    /// No index.
    pub fn select(&self, indices: &[usize]) -> Result<Self> {
        let points = Self::new(indices.iter().map(|&i| (&self.inputs[i], self.values[i])))?;
        match &self.runs {
            Some(runs) => points.of_runs(indices.iter().map(|&i| runs[i]).collect()),
            None => Ok(points),
        }
    }

    /// Indices of the points that are drawn together: those of each run, or each point alone.
    pub(super) fn blocks(&self) -> Vec<Vec<usize>> {
        match &self.runs {
            None => (0..self.len()).map(|i| vec![i]).collect(),
            Some(runs) => {
                let mut blocks = std::collections::BTreeMap::<usize, Vec<usize>>::new();
                runs.iter().enumerate().for_each(|(i, run)| blocks.entry(*run).or_default().push(i));
                blocks.into_values().collect()
            }
        }
    }
}
