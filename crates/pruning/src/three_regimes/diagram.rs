//! What is measured, and the map that it gives.

use autodidact_core::error::{check_matrix, check_range};
use autodidact_core::{Error, Result, stats};
use tch::{Kind, Tensor};

/// Linear mode connectivity.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lmc {
    /// `m - E(t*)`: below 0 a barrier, above 0 a better network in between.
    pub value: f64,
    /// Index of `t*` on the way (the first of equals).
    pub at: usize,
}

/// The connectivity of two networks from the errors on the line between them, end to end.
///
/// # Errors
/// Fewer than two errors, or one that is not finite.
pub fn lmc(errors: &[f64]) -> Result<Lmc> {
    let ([first, .., last], true) = (errors, errors.iter().all(|e| e.is_finite())) else {
        return Err(Error::value("errors on the way", "two or more finite numbers", format!("{errors:?}")));
    };
    let m = (first + last) / 2.0;
    let at =
        (0..errors.len()).fold(0, |best, i| if (m - errors[i]).abs() > (m - errors[best]).abs() { i } else { best });
    Ok(Lmc { value: m - errors[at], at })
}

/// Share of inputs on which two networks name the same class: scores `[N, C]` each.
///
/// # Errors
/// Different shapes, or none.
pub fn output_agreement(a: &Tensor, b: &Tensor) -> Result<f64> {
    same_matrices(a, b)?;
    Ok(a.argmax(1, false).eq_tensor(&b.argmax(1, false)).to_kind(Kind::Double).mean(Kind::Double).double_value(&[]))
}

/// Mean Jensen-Shannon divergence of two networks' probabilities `[N, C]`, in nats: 0 to ln 2.
///
/// # Errors
/// Different shapes, or none.
pub fn jensen_shannon(p: &Tensor, q: &Tensor) -> Result<f64> {
    same_matrices(p, q)?;
    let [p, q] = [p, q].map(|t| t.to_kind(Kind::Double));
    let middle = (&p + &q) / 2.0;
    let to_middle = |p: &Tensor| p.xlogy(p) - p.xlogy(&middle);
    let each = (to_middle(&p) + to_middle(&q)).sum_dim_intlist([1i64].as_slice(), false, Kind::Double) / 2.0;
    Ok(each.mean(Kind::Double).double_value(&[]))
}

fn same_matrices(a: &Tensor, b: &Tensor) -> Result<()> {
    let (n, classes) = check_matrix("outputs", a)?;
    if b.size() != [n, classes] || n == 0 {
        return Err(Error::shape("other outputs", format!("[{n}, {classes}], not empty"), b));
    }
    Ok(())
}

/// Where a pruned network is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Regime {
    /// Badly connected.
    I,
    /// Connected, dissimilar.
    IIA,
    /// Connected, similar.
    IIB,
}

/// What separates the regimes. The paper draws its lines by eye; these are this project's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    /// Connected are networks whose [`Lmc`] is at least minus this (an error, 0 to 1).
    pub lmc: f64,
    /// Similar are networks whose CKA is at least this.
    pub cka: f64,
}

impl Thresholds {
    /// The regime of a pair.
    pub fn regime(&self, lmc: f64, cka: f64) -> Regime {
        match (lmc >= -self.lmc, cka >= self.cka) {
            (false, _) => Regime::I,
            (true, false) => Regime::IIA,
            (true, true) => Regime::IIB,
        }
    }
}

/// Measurements over temperatures (rows, hottest first) and densities (columns, lowest first).
#[derive(Debug, Clone, PartialEq)]
pub struct PhaseDiagram {
    temperatures: usize,
    densities: usize,
    /// Test error, 0 to 1, row by row.
    pub test_error: Vec<f64>,
    /// [`Lmc`].
    pub lmc: Vec<f64>,
    /// CKA of the softmax outputs.
    pub cka: Vec<f64>,
}

impl PhaseDiagram {
    /// From measurements of `temperatures x densities` cells, row by row.
    ///
    /// # Errors
    /// No cells, lists of other lengths, values that are not finite.
    pub fn new(
        (temperatures, densities): (usize, usize),
        test_error: Vec<f64>,
        lmc: Vec<f64>,
        cka: Vec<f64>,
    ) -> Result<Self> {
        check_range("cells of a diagram", (temperatures * densities) as f64, 1.0..)?;
        for (what, list) in [("test errors", &test_error), ("connectivities", &lmc), ("similarities", &cka)] {
            if list.len() != temperatures * densities || list.iter().any(|v| !v.is_finite()) {
                let expected = format!("{temperatures} x {densities} finite values");
                return Err(Error::value(what, expected, format!("{list:?}")));
            }
        }
        Ok(Self { temperatures, densities, test_error, lmc, cka })
    }

    fn column<'a>(&'a self, of: &'a [f64], density: usize) -> impl Iterator<Item = f64> + 'a {
        of.iter().skip(density).step_by(self.densities).copied()
    }

    /// Test errors without the least of their density.
    pub fn normalised_error(&self) -> Vec<f64> {
        let least: Vec<f64> =
            (0..self.densities).map(|d| self.column(&self.test_error, d).fold(f64::INFINITY, f64::min)).collect();
        self.test_error.iter().enumerate().map(|(i, e)| e - least[i % self.densities]).collect()
    }

    /// The temperature (row; the hottest of equals) with the least test error at a density (column).
    ///
    /// # Errors
    /// A density that there is not.
    pub fn best_temperature(&self, density: usize) -> Result<usize> {
        check_range("density", density as f64, 0.0..self.densities as f64)?;
        let errors: Vec<f64> = self.column(&self.test_error, density).collect();
        Ok((0..errors.len()).fold(0, |best, t| if errors[t] < errors[best] { t } else { best }))
    }

    /// The regimes, row by row: connected down to `-eps`, similar from the median CKA of a density's connected cells on.
    pub fn regimes(&self, eps: f64) -> Vec<Regime> {
        let medians: Vec<f64> = (0..self.densities)
            .map(|d| {
                let cells = self.column(&self.lmc, d).zip(self.column(&self.cka, d));
                let connected: Vec<f64> = cells.filter(|(lmc, _)| *lmc >= -eps).map(|(_, cka)| cka).collect();
                // NaN without connected cells, where it does not matter.
                stats::median(&connected)
            })
            .collect();
        let cells = self.lmc.iter().zip(&self.cka).enumerate();
        cells.map(|(i, (l, c))| Thresholds { lmc: eps, cka: medians[i % self.densities] }.regime(*l, *c)).collect()
    }

    /// Rows and columns.
    pub fn size(&self) -> (usize, usize) {
        (self.temperatures, self.densities)
    }
}
