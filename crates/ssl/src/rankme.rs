//! RankMe: Assessing the downstream performance of pretrained self-supervised representations by their rank (Garrido,
//! Balestriero, Najman and LeCun, 2023; arXiv 2210.02885).
//!
//! Joint-embedding training can end in embeddings that fill a small subspace, and its loss does not tell. RankMe is a smooth
//! rank of the embedding matrix `Z [N, K]` (projector outputs of `N` training images, one view each, evaluation mode; neither
//! centred nor normalised), without labels and without a threshold:
//!
//! `RankMe(Z) = exp(-sum_k p_k ln p_k)`, `p_k = sigma_k / sum_l sigma_l + eps`, over the `min(N, K)` singular values.
//!
//! Runs of the same method and architecture, and only those, can be compared by it ([`select`]): a low rank bounds what a linear
//! probe can reach, a high one promises nothing. The paper uses `N = 25,600`; ten times `K` is enough.
//!
//! ```
//! use autodidact_ssl::rankme::{EPS, rankme};
//! use tch::Tensor;
//! // Singular values 3 and 1: the entropy of (3/4, 1/4) is 0.5623.
//! let z = Tensor::from_slice2(&[[3f32, 0.], [0., 1.], [0., 0.]]);
//! assert!((rankme(&z, EPS).unwrap() - 1.754765).abs() < 1e-6);
//! ```

use autodidact_core::error::{check_matrix, check_range};
pub use autodidact_core::metrics::{SpectrumAccumulator, effective_rank, singular_values};
use autodidact_core::{Error, Result};
use tch::{Device, Kind, Tensor};

/// The paper's `eps`, for embeddings in 32 bits.
pub const EPS: f64 = 1e-7;

/// RankMe of embeddings `[N, K]`, between 1 and `min(N, K)` (but for `eps`); no gradient. The spectrum comes from the smaller
/// Gram matrix in f64.
///
/// # Errors
/// Embeddings that are no finite, non-zero matrix; a negative `eps`.
pub fn rankme(z: &Tensor, eps: f64) -> Result<f64> {
    rankme_from_singular_values(&singular_values(z)?, eps)
}

/// RankMe from the singular values.
///
/// # Errors
/// Values that are negative, not finite or all zero; a negative `eps`.
pub fn rankme_from_singular_values(singular: &[f64], eps: f64) -> Result<f64> {
    check_range("eps", eps, 0.0..)?;
    singular.iter().try_for_each(|s| check_range("singular value", *s, 0.0..))?;
    let sum: f64 = singular.iter().sum();
    if sum == 0.0 {
        return Err(Error::value("embeddings", "not all zero", "zeros"));
    }
    let entropy: f64 = singular.iter().map(|s| s / sum + eps).filter(|p| *p > 0.0).map(|p| -p * p.ln()).sum();
    Ok(entropy.exp())
}

/// RankMe of embeddings that come in batches: memory `K^2`. Push single views in evaluation mode, for instance every few
/// hundred steps of a training run.
#[derive(Debug)]
pub struct RankMeAccumulator {
    spectrum: SpectrumAccumulator,
    eps: f64,
}

impl RankMeAccumulator {
    /// For embeddings of `width` columns.
    ///
    /// # Errors
    /// A width below 1, a negative `eps`.
    pub fn new(width: i64, eps: f64, device: Device) -> Result<Self> {
        check_range("eps", eps, 0.0..)?;
        Ok(Self { spectrum: SpectrumAccumulator::new(width, device)?, eps })
    }

    /// Adds a batch `[B, K]`.
    ///
    /// # Errors
    /// A batch of another width.
    pub fn push(&mut self, batch: &Tensor) -> Result<()> {
        self.spectrum.push(batch)
    }

    /// RankMe of all batches so far.
    ///
    /// # Errors
    /// No batch, or embeddings that are all zero or not finite.
    pub fn finish(&self) -> Result<f64> {
        rankme_from_singular_values(&self.spectrum.singular_values()?, self.eps)
    }
}

/// Number of singular values above `tolerance` times the largest.
///
/// # Errors
/// A tolerance outside `[0, 1)`.
pub fn classical_rank(singular: &[f64], tolerance: f64) -> Result<usize> {
    check_range("tolerance", tolerance, 0.0..1.0)?;
    let largest = singular.iter().copied().fold(0.0, f64::max);
    Ok(singular.iter().filter(|s| **s > tolerance * largest).count())
}

/// `(sum sigma^2)^2 / sum sigma^4`: the number of equal directions that would spread the energy alike. NaN for zeros.
pub fn participation_ratio(singular: &[f64]) -> f64 {
    let energies = singular.iter().map(|s| s * s);
    energies.clone().sum::<f64>().powi(2) / energies.map(|e| e * e).sum::<f64>()
}

/// `sum sigma^2 / sigma_1^2`. NaN for zeros.
pub fn stable_rank(singular: &[f64]) -> f64 {
    let largest = singular.iter().copied().fold(0.0, f64::max);
    singular.iter().map(|s| s * s).sum::<f64>() / (largest * largest)
}

/// The paper's competitor alpha-ReQ (Agrawal, Mondal, Ghosh and Richards, 2022): the decay `alpha` of the eigenvalue spectrum
/// of the covariance of **representations** `[N, D]`, centred here, by least squares of `ln lambda_i = -alpha ln i + c` with
/// weights `1/i` over the eigenvalues of 0-based `range` (10..100 in the public code), as far as there are any above 0. Runs
/// with `alpha` near 1 are preferred.
///
/// # Errors
/// Representations that are no finite matrix, fewer than two eigenvalues in the range.
pub fn alpha_req(representations: &Tensor, range: std::ops::Range<usize>) -> Result<f64> {
    check_matrix("representations", representations)?;
    let x = representations.detach().to_kind(Kind::Double);
    let singular = singular_values(&(&x - x.mean_dim([0i64].as_slice(), true, Kind::Double)))?;
    // The covariance's eigenvalues up to a factor, which the intercept takes.
    let eigenvalues: Vec<f64> = singular.iter().map(|s| s * s).collect();
    power_law_decay(&eigenvalues, range)
}

/// The decay of descending eigenvalues, see [`alpha_req`].
///
/// # Errors
/// Fewer than two positive eigenvalues in the range.
pub fn power_law_decay(eigenvalues: &[f64], range: std::ops::Range<usize>) -> Result<f64> {
    let inside = eigenvalues.iter().enumerate().skip(range.start).take(range.len()).filter(|(_, v)| **v > 0.0);
    // (weight, ln i, ln lambda), i from 1.
    let points: Vec<(f64, f64, f64)> =
        inside.map(|(i, v)| (1.0 / (i + 1) as f64, ((i + 1) as f64).ln(), v.ln())).collect();
    if points.len() < 2 {
        return Err(Error::value("eigenvalues above 0 in the range", "at least 2", points.len()));
    }
    let total: f64 = points.iter().map(|p| p.0).sum();
    let mean = |f: &dyn Fn(&(f64, f64, f64)) -> f64| points.iter().map(|p| p.0 * f(p)).sum::<f64>() / total;
    let (x, y) = (mean(&|p| p.1), mean(&|p| p.2));
    Ok(-mean(&|p| (p.1 - x) * (p.2 - y)) / mean(&|p| (p.1 - x).powi(2)))
}

/// A finished run of a sweep over one hyper-parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// The hyper-parameter's value.
    pub value: f64,
    /// RankMe of its embeddings.
    pub rankme: f64,
    /// alpha-ReQ of its representations.
    pub alpha: f64,
    /// Accuracy of the probe, which only the oracle looks at.
    pub accuracy: f64,
}

/// How a run of a sweep is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Selection {
    /// The highest RankMe. Runs within the relative `tolerance` of it count as equal, and of those the one is taken at which
    /// the rank stops growing: the smallest value where rank grows with the hyper-parameter over the sweep, else the largest.
    RankMe {
        /// Relative; 0 for none.
        tolerance: f64,
    },
    /// `alpha` closest to 1.
    AlphaReq,
    /// The middle of the sweep: what one would take without looking.
    Median,
    /// The best probe.
    Oracle,
}

/// The chosen run of a sweep.
///
/// ```
/// use autodidact_ssl::rankme::{Candidate, Selection, select};
/// let run = |value, rankme, accuracy| Candidate { value, rankme, alpha: 1.0, accuracy };
/// let runs = [run(0.1, 5.0, 60.0), run(1.0, 9.9, 80.0), run(10.0, 10.0, 75.0)];
/// assert_eq!(select(&runs, Selection::RankMe { tolerance: 0.05 }).unwrap().value, 1.0);
/// assert_eq!(select(&runs, Selection::RankMe { tolerance: 0.0 }).unwrap().value, 10.0);
/// ```
///
/// # Errors
/// No runs, a tolerance outside `[0, 1)`, a quantity that the rule needs and that is not finite.
pub fn select(runs: &[Candidate], rule: Selection) -> Result<&Candidate> {
    let best = |score: &dyn Fn(&Candidate) -> f64| -> Result<&Candidate> {
        runs.iter().try_for_each(|r| check_range("score of a run", score(r), ..))?;
        let best = runs.iter().max_by(|a, b| score(a).total_cmp(&score(b)));
        best.ok_or_else(|| Error::value("runs", "at least one", "none"))
    };
    match rule {
        Selection::Oracle => best(&|r| r.accuracy),
        Selection::AlphaReq => best(&|r| -(r.alpha - 1.0).abs()),
        Selection::Median => {
            let mut sorted: Vec<&Candidate> = runs.iter().collect();
            sorted.sort_by(|a, b| a.value.total_cmp(&b.value));
            sorted
                .get(sorted.len().saturating_sub(1) / 2)
                .copied()
                .ok_or_else(|| Error::value("runs", "at least one", "none"))
        }
        Selection::RankMe { tolerance } => {
            check_range("tolerance", tolerance, 0.0..1.0)?;
            let highest = best(&|r| r.rankme)?.rankme;
            let reach = runs.iter().filter(|r| r.rankme >= highest * (1.0 - tolerance));
            let by_value = |a: &&Candidate, b: &&Candidate| a.value.total_cmp(&b.value);
            let chosen = if grows(runs) { reach.min_by(by_value) } else { reach.max_by(by_value) };
            chosen.ok_or_else(|| Error::value("runs", "at least one", "none"))
        }
    }
}

/// Whether rank grows with the hyper-parameter: over all pairs, more often than it falls.
fn grows(runs: &[Candidate]) -> bool {
    let pairs = runs.iter().flat_map(|a| runs.iter().map(move |b| (a.value - b.value) * (a.rankme - b.rankme)));
    pairs.map(|p| if p == 0.0 { 0.0 } else { p.signum() }).sum::<f64>() >= 0.0
}
