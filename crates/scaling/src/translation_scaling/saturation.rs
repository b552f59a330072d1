//! Whether BLEU levels off below some loss.

use super::logs;
use autodidact_core::{Error, Result, seed};
use rand::RngExt;
use serde::{Deserialize, Serialize};

/// Fewest points on each side of a break.
const SIDE: usize = 2;
/// Simulated studies behind the `p` of the test.
const STUDIES: usize = 999;

/// A continuous line with one bend through `ln BLEU` over `ln L`, beside the straight line.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Saturation {
    /// Slope of the straight line.
    pub slope: f64,
    /// Slope below the bend: of the better models.
    pub below: f64,
    /// Slope above the bend.
    pub above: f64,
    /// The loss at the bend.
    pub loss: f64,
    /// `((SSE_line - SSE_bent)/2) / (SSE_bent/(n - 4))`.
    pub f: f64,
    /// How often the straight line with noise of its own size gives as large an `f`, the bend searched anew each time.
    pub p: f64,
}

impl Saturation {
    /// Whether BLEU levels off: the bend is there (`p` below `level`), and the curve is flatter below it.
    pub fn levels_off(&self, level: f64) -> bool {
        self.p < level && self.below.abs() < self.above.abs()
    }
}

/// Segmented regression of `ln BLEU` on `ln L` for points `(loss, BLEU)`: the bend is searched between the points, two or more of them on
/// each side. The usual F distribution does not hold for a bend that was searched, so `p` comes from 999 simulated studies under the
/// straight line, drawn from `seed`.
///
/// # Errors
/// Fewer than six points or four different losses, numbers that are not positive.
pub fn saturation(points: &[(f64, f64)], seed: u64) -> Result<Saturation> {
    let mut points = points.to_vec();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (x, y) = logs(&points, 6)?;
    let mut places = x.clone();
    places.dedup();
    if places.len() < 2 * SIDE {
        return Err(Error::value("different losses", format!("at least {}", 2 * SIDE), places.len()));
    }
    // Bends on a fine grid from the second loss to the last but one.
    let (low, high) = (places[SIDE - 1], places[places.len() - SIDE]);
    let bends: Vec<f64> = (0..=60).map(|i| low + (high - low) * f64::from(i) / 60.0).collect();
    let designs: Vec<Design> = bends.iter().map(|b| Design::new(&x, Some(*b))).collect();
    let line = Design::new(&x, None);
    let free = x.len() as f64 - 4.0;
    let f_of = |y: &[f64]| {
        let straight = line.fit(y);
        let bent = designs.iter().map(|d| d.fit(y)).enumerate().min_by(|a, b| a.1.sse.total_cmp(&b.1.sse));
        let (at, bent) = bent.expect("there are bends");
        // Points on a line leave rounding errors only, of which no ratio says anything.
        let floor = f64::EPSILON * y.iter().map(|y| y * y).sum::<f64>();
        let f = (straight.sse - bent.sse).max(0.0) / 2.0 / ((bent.sse + floor) / free);
        (f, at, straight, bent)
    };
    let (f, at, straight, bent) = f_of(&y);
    let deviation = (straight.sse / (x.len() as f64 - 2.0)).sqrt();
    let mut rng = seed::rng(seed, &["saturation"]);
    let mut normal = || {
        let (u, v): (f64, f64) = (rng.random(), rng.random());
        (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    };
    let mut larger = 0;
    for _ in 0..STUDIES {
        let drawn: Vec<f64> = straight.fitted.iter().map(|fitted| fitted + deviation * normal()).collect();
        larger += usize::from(f_of(&drawn).0 >= f);
    }
    let p = (larger + 1) as f64 / (STUDIES + 1) as f64;
    let [below, above] = [bent.slopes[0], bent.slopes[0] + bent.slopes[1]];
    Ok(Saturation { slope: straight.slopes[0], below, above, loss: bends[at].exp(), f, p })
}

/// Orthonormal columns of a regression: the constant, `x`, and what is above a bend; with the coefficients that give them.
struct Design {
    /// Each column less what the earlier ones explain, of length 1.
    basis: Vec<Vec<f64>>,
    /// The columns, without the constant.
    columns: Vec<Vec<f64>>,
}

struct Line {
    sse: f64,
    fitted: Vec<f64>,
    /// Of `x`, and what the bend adds.
    slopes: [f64; 2],
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

impl Design {
    fn new(x: &[f64], bend: Option<f64>) -> Self {
        let mut columns = vec![x.to_vec()];
        columns.extend(bend.map(|b| x.iter().map(|x| (x - b).max(0.0)).collect::<Vec<f64>>()));
        let mut basis: Vec<Vec<f64>> = vec![vec![(x.len() as f64).powf(-0.5); x.len()]];
        for column in &columns {
            let mut rest = column.clone();
            for b in &basis {
                let along = dot(&rest, b);
                rest.iter_mut().zip(b).for_each(|(r, b)| *r -= along * b);
            }
            let length = dot(&rest, &rest).sqrt();
            rest.iter_mut().for_each(|r| *r /= length);
            basis.push(rest);
        }
        Self { basis, columns }
    }

    fn fit(&self, y: &[f64]) -> Line {
        let along: Vec<f64> = self.basis.iter().map(|b| dot(y, b)).collect();
        let fitted: Vec<f64> =
            (0..y.len()).map(|i| along.iter().zip(&self.basis).map(|(a, b)| a * b[i]).sum()).collect();
        let sse = y.iter().zip(&fitted).map(|(y, f)| (y - f).powi(2)).sum();
        // Back from the orthonormal columns: the last first.
        let bend = match self.columns.get(1) {
            Some(column) => along[2] / dot(column, &self.basis[2]),
            None => 0.0,
        };
        let rest = along[1] - self.columns.get(1).map_or(0.0, |c| bend * dot(c, &self.basis[1]));
        Line { sse, fitted, slopes: [rest / dot(&self.columns[0], &self.basis[1]), bend] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use autodidact_core::stats::mean;

    #[test]
    fn a_bent_line_is_found_by_least_squares() {
        let x = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
        let y = x.map(|x: f64| 2.0 - 0.5 * x - 1.5 * (x - 2.0).max(0.0));
        let line = Design::new(&x, Some(2.0)).fit(&y);
        assert!(line.sse < 1e-20 && (line.slopes[0] + 0.5).abs() < 1e-10 && (line.slopes[1] + 1.5).abs() < 1e-10);
        let straight = Design::new(&x, None).fit(&[1.0, 3.0, 4.0, 4.0, 5.0, 7.0]);
        // About the means (2.5, 4) the products sum to 18, the squares of x to 17.5.
        assert!((straight.slopes[0] - 18.0 / 17.5).abs() < 1e-12, "{}", straight.slopes[0]);
        assert!((mean(&straight.fitted) - 4.0).abs() < 1e-12);
    }
}
