//! Mixed Barlow Twins (Bandara, De Melo and Patel, 2023; arXiv 2312.02151).
//!
//! Barlow Twins lets samples interact only through batch statistics and, with wide embeddings on little data, goes on lowering
//! its loss by memorising them. A third batch of pixel-wise mixtures of images of the two views is embedded too, and in its
//! cross-correlations with both views each mixture must behave as the same mixture of embeddings.
//!
//! With one `alpha ~ Beta(1, 1)` and one permutation `pi` per batch, `Y^M_b = alpha Y^A_b + (1 - alpha) Y^B_pi(b)`; with
//! embeddings standardised over the batch and `M = alpha Z^A + (1 - alpha) Z^B_pi`,
//! `C^MA = Z^M' Z^A / N`, `G^MA = M' Z^A / N` (`C^MB`, `G^MB` likewise with `Z^B` on the right), and
//! `L = L_BT + lambda_reg lambda_BT (|C^MA - G^MA|_F^2 + |C^MB - G^MB|_F^2)`. Gradients flow through all of it, `M` included.
//!
//! ```
//! use autodidact_ssl::barlow_twins::Standardise;
//! use autodidact_ssl::mixed_barlow_twins::{Mix, MixedBarlowTwins};
//! use tch::Tensor;
//!
//! // Columns that are centred and uncorrelated, the same in both views: no loss of Barlow Twins.
//! let z = Tensor::from_slice2(&[[1f32, 1.], [-1., 1.], [1., -1.], [-1., -1.]]);
//! // The mixtures swap partners within the pairs (0, 1) and (2, 3); half and half, the first column is 0 and the second stays.
//! let mix = Mix::new(0.5, &[1, 0, 3, 2]).unwrap();
//! let mixture = mix.apply(&z, &z).unwrap();
//! assert_eq!(mixture, Tensor::from_slice2(&[[0f32, 1.], [0., 1.], [0., -1.], [0., -1.]]));
//! let config = MixedBarlowTwins { standardise: Standardise::None, ..Default::default() };
//! let exact = config.forward(&z, &z, &mixture, &mix).unwrap();
//! assert_eq!(exact.total.double_value(&[]), 0.0);
//! // An embedding that ignores the mixing misses by (z_b1, 0): |C^MA - G^MA|^2 = 1, as for B; 4/128 of the sum.
//! let other = config.forward(&z, &z, &z, &mix).unwrap();
//! assert!((other.total.double_value(&[]) - 4.0 / 128.0 * 2.0).abs() < 1e-6);
//! ```

use crate::barlow_twins::{
    BarlowTwinsLoss, BarlowTwinsOutput, Standardise, diagonal, normalised, off_diagonal_squares,
};
use crate::{check_pair, in_full_precision};
use autodidact_core::error::{check_matrix, check_range};
use autodidact_core::seed::Rng;
use autodidact_core::{Error, Result};
use rand::seq::SliceRandom;
use rand_distr::{Beta, Distribution};
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// How the samples of a batch are mixed: the same way in pixels and in embeddings.
#[derive(Debug)]
pub struct Mix {
    alpha: f64,
    /// `[N]`
    partner: Tensor,
}

impl Mix {
    /// `alpha` of sample `b` of the first view with `1 - alpha` of sample `partner[b]` of the second.
    ///
    /// # Errors
    /// `alpha` outside `[0, 1]`, partners that are no permutation.
    pub fn new(alpha: f64, partner: &[i64]) -> Result<Self> {
        check_range("alpha", alpha, 0.0..=1.0)?;
        let mut sorted = partner.to_vec();
        sorted.sort_unstable();
        if !sorted.iter().copied().eq(0..partner.len() as i64) {
            return Err(Error::value("partner", "a permutation of 0..N", format!("{partner:?}")));
        }
        Ok(Self { alpha, partner: Tensor::from_slice(partner) })
    }

    /// One draw for a batch of `n`: `alpha ~ Beta(beta, beta)` (the paper: `beta` 1, uniform) and a random permutation.
    ///
    /// # Errors
    /// `beta` not above 0.
    pub fn draw(n: usize, beta: f64, rng: &mut Rng) -> Result<Self> {
        check_range("beta", beta, f64::MIN_POSITIVE..)?;
        let distribution = Beta::new(beta, beta).map_err(|e| Error::value("beta", "above 0", e))?;
        let mut partner: Vec<i64> = (0..n as i64).collect();
        partner.shuffle(rng);
        Self::new(distribution.sample(rng).clamp(0.0, 1.0), &partner)
    }

    /// `alpha`.
    pub fn alpha(&self) -> f64 {
        self.alpha
    }

    /// The mixtures `[N, ...]` of two batches `[N, ...]`: of augmented images, or of embeddings.
    ///
    /// # Errors
    /// Shapes that differ, another number of samples.
    pub fn apply(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        if a.size() != b.size() {
            return Err(Error::shape("b", format!("{:?}, the shape of a", a.size()), b));
        }
        if a.size().first() != self.partner.size().first() {
            return Err(Error::shape("a", format!("{} samples, as many as are mixed", self.partner.numel()), a));
        }
        let b = b.f_index_select(0, &self.partner.to_device(b.device()))?;
        Ok(b.f_lerp(a, self.alpha)?)
    }
}

/// The loss, as a configuration. The default is that of the paper on CIFAR-10.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MixedBarlowTwins {
    /// `lambda_BT`, weight of the redundancy term, above 0: 1/128 (ImageNet: 0.0051).
    pub lambda_bt: f64,
    /// `lambda_reg`, weight of the regulariser relative to `lambda_bt`, at least 0: 4 (STL-10: 2; ImageNet: 1 or 2).
    pub lambda_reg: f64,
    /// Halves the regulariser, as the official code for ImageNet does.
    pub half: bool,
    /// Normalisation of the embeddings over the batch. The official code takes the unbiased deviation and no `eps`; the
    /// default is that of [`BarlowTwinsLoss`].
    pub standardise: Standardise,
    /// Scales each embedding to length 1 before that, as the official code for small data does. Default: no.
    pub row_norm: bool,
}

impl Default for MixedBarlowTwins {
    fn default() -> Self {
        let standardise = BarlowTwinsLoss::default().standardise;
        Self { lambda_bt: 1.0 / 128.0, lambda_reg: 4.0, half: false, standardise, row_norm: false }
    }
}

/// The loss and its parts: differentiable scalars, in f32 (f64 for embeddings in f64).
#[derive(Debug)]
pub struct MixedBarlowTwinsOutput {
    /// What is minimised.
    pub total: Tensor,
    /// Barlow Twins of the two views.
    pub twins: BarlowTwinsOutput,
    /// `|C^MA - G^MA|_F^2`.
    pub reg_a: Tensor,
    /// `|C^MB - G^MB|_F^2`.
    pub reg_b: Tensor,
}

impl MixedBarlowTwins {
    /// The same early in training: `lambda_reg` rises linearly from 0 over the first `warmup` steps (ImageNet: 10 epochs).
    pub fn warmed(self, step: usize, warmup: usize) -> Self {
        let share = if step < warmup { step as f64 / warmup as f64 } else { 1.0 };
        Self { lambda_reg: self.lambda_reg * share, ..self }
    }

    /// The loss of embeddings `[N, D]` of two views and of their mixtures: `zm` embeds `mix.apply(ya, yb)`. Work is
    /// `O(N D min(N, D))`.
    ///
    /// # Errors
    /// Shapes that differ, fewer than two rows, weights out of range.
    pub fn forward(&self, za: &Tensor, zb: &Tensor, zm: &Tensor, mix: &Mix) -> Result<MixedBarlowTwinsOutput> {
        self.check()?;
        let (n, d) = check_pair(za, zb)?;
        if check_matrix("zm", zm)? != (n, d) {
            return Err(Error::shape("zm", format!("[{n}, {d}], the shape of za"), zm));
        }
        in_full_precision([za, zb, zm], |z| {
            let [a, b, m] = z.map(|z| self.scaled(&z));
            let kind = a.kind();
            // C^MA - G^MA = (Z^M - M)' Z^A / N: one product for each side.
            let miss = m - mix.apply(&a, &b)?;
            let c_ii = diagonal(&a, &b);
            let inner = |x: &Tensor, y: &Tensor| (x * y).sum(kind);
            // |x' y|^2 = <x x', y y'>. The views' Gram matrices serve both terms: three N x N products here, three D x D ones
            // there, and autograd multiplies twice for each.
            let (off_diag, [reg_a, reg_b]) = if n < d {
                let [ga, gb, gm] = [&a, &b, &miss].map(|z| z.matmul(&z.tr()));
                (inner(&ga, &gb) - inner(&c_ii, &c_ii), [ga, gb].map(|g| inner(&gm, &g)))
            } else {
                let off_diag = off_diagonal_squares(&a, &b, || c_ii.shallow_clone());
                (off_diag, [&a, &b].map(|z| miss.tr().matmul(z).norm().square()))
            };
            let twins = BarlowTwinsLoss { lambda: self.lambda_bt, ..Default::default() }
                .combine((c_ii - 1.0).square().sum(kind), off_diag);
            let weight = self.lambda_bt * self.lambda_reg * if self.half { 0.5 } else { 1.0 };
            let total = &twins.total + (&reg_a + &reg_b) * weight;
            Ok(MixedBarlowTwinsOutput { total, twins, reg_a, reg_b })
        })
    }

    /// `G^MA` and `G^MB` `[D, D]` of two views' embeddings `[N, D]`, which [`forward`](Self::forward) does not form.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn targets(&self, za: &Tensor, zb: &Tensor, mix: &Mix) -> Result<[Tensor; 2]> {
        check_pair(za, zb)?;
        in_full_precision([za, zb], |z| {
            let [a, b] = z.map(|z| self.scaled(&z));
            let mixture = mix.apply(&a, &b)?;
            Ok([a, b].map(|z| mixture.tr().matmul(&z)))
        })
    }

    fn check(&self) -> Result<()> {
        check_range("lambda_bt", self.lambda_bt, f64::MIN_POSITIVE..)?;
        check_range("lambda_reg", self.lambda_reg, 0.0..)
    }

    /// Normalised embeddings over `sqrt(N)`, so that products of two are correlations.
    fn scaled(&self, z: &Tensor) -> Tensor {
        let root = (z.size()[0] as f64).sqrt();
        if !self.row_norm {
            return normalised(z, self.standardise) / root;
        }
        let length = z.norm_scalaropt_dim(2.0, [1i64].as_slice(), true).clamp_min(1e-12);
        normalised(&(z / length), self.standardise) / root
    }
}
