//! The paper's constants, sizes and unit.

use crate::fit::{NOpt, PF_DAY, PowerLawPlusConst};
use serde::{Deserialize, Serialize};

/// Compute in PF-days, 8.64e19 FLOP each.
///
/// ```
/// use autodidact_scaling::autoregressive_scaling::PfDays;
/// // A million weights and 1.44e13 tokens: 6 * 1e6 * 1.44e13 FLOP.
/// assert!((PfDays::of_training(1e6, 1.44e13).0 - 1.0).abs() < 1e-12);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct PfDays(pub f64);

impl PfDays {
    /// Of floating-point operations.
    pub fn of_flop(flop: f64) -> Self {
        Self(flop / PF_DAY)
    }

    /// Of training `n` weights (without embeddings) on `tokens`: `6 n tokens` FLOP.
    pub fn of_training(n: f64, tokens: f64) -> Self {
        Self::of_flop(6.0 * n * tokens)
    }

    /// Floating-point operations.
    pub fn flop(self) -> f64 {
        self.0 * PF_DAY
    }

    /// The tokens on which it trains `n` weights.
    pub fn tokens(self, n: f64) -> f64 {
        self.flop() / (6.0 * n)
    }
}

/// The laws of one domain (table 1): nats per token, compute in PF-days.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Published {
    /// The data.
    pub domain: &'static str,
    /// Tokens of a sample, where samples are of one length.
    pub tokens: Option<usize>,
    /// Loss by weights.
    pub by_size: PowerLawPlusConst,
    /// Loss by compute.
    pub by_compute: Option<PowerLawPlusConst>,
    /// The best size of a compute.
    pub best_size: Option<NOpt>,
}

type Constants = (f64, f64, f64);

const fn law((l_inf, x0, alpha): Constants) -> PowerLawPlusConst {
    PowerLawPlusConst { l_inf, x0, alpha }
}

const fn whole(
    domain: &'static str,
    tokens: Option<usize>,
    by_size: Constants,
    by_compute: Constants,
    (c0, beta): (f64, f64),
) -> Published {
    let (by_size, by_compute) = (law(by_size), Some(law(by_compute)));
    Published { domain, tokens, by_size, by_compute, best_size: Some(NOpt { c0, beta }) }
}

const fn part(domain: &'static str, by_size: Constants) -> Published {
    Published { domain, tokens: None, by_size: law(by_size), by_compute: None, best_size: None }
}

/// Table 1. The parts of captions have no laws of compute of their own.
pub const PUBLISHED: [Published; 12] = [
    whole("language", None, (0.0, 1.47e14, 0.070), (0.0, 3.47e8, 0.048), (3.3e-13, 0.73)),
    whole("image 8x8", Some(192), (3.12, 8.0e1, 0.24), (3.13, 1.8e-8, 0.19), (5.3e-14, 0.64)),
    whole("image 16x16", Some(768), (2.64, 2.8e2, 0.22), (2.64, 1.6e-8, 0.16), (4.8e-12, 0.75)),
    whole("image 32x32", Some(3072), (2.20, 6.3e1, 0.13), (2.21, 3.6e-9, 0.10), (1.6e-13, 0.65)),
    whole("image VQ 16x16", Some(256), (3.99, 2.7e4, 0.13), (4.09, 6.1e-7, 0.11), (6.2e-14, 0.64)),
    whole("image VQ 32x32", Some(1024), (3.07, 1.9e4, 0.14), (3.17, 2.6e-6, 0.12), (9.4e-13, 0.70)),
    whole("text to image (image)", None, (2.0, 5.1e3, 0.16), (1.93, 1.5e-6, 0.15), (9.4e-13, 0.70)),
    part("text to image (text)", (0.0, 5.6e8, 0.037)),
    whole("image to text (image)", None, (2.0, 5.5e3, 0.15), (1.97, 1.5e-6, 0.16), (3.3e-12, 0.72)),
    part("image to text (text)", (0.0, 7.0e8, 0.039)),
    whole("video", Some(4096), (1.01, 3.7e4, 0.24), (0.95, 2.2e-5, 0.14), (1.13e-12, 0.71)),
    whole("math (extrapolate)", None, (0.28, 1.1e4, 0.16), (0.14, 1.4e-5, 0.17), (2.3e-12, 0.69)),
];

/// `(width, layers, peak learning rate)` of the networks for images, video and mathematics (table 5).
pub const IMAGE_SIZES: [(i64, usize, f64); 7] = [
    (32, 4, 0.002686),
    (64, 8, 0.001597),
    (128, 16, 0.00095),
    (256, 32, 0.000565),
    (512, 64, 0.000336),
    (1024, 128, 0.0002),
    (2048, 256, 0.000119),
];

/// The same of the multimodal networks.
pub const MULTIMODAL_SIZES: [(i64, usize, f64); 10] = [
    (64, 2, 0.00164),
    (128, 2, 0.00144),
    (256, 4, 0.00115),
    (512, 4, 0.000959),
    (512, 8, 0.000862),
    (768, 6, 0.000789),
    (768, 12, 0.000692),
    (1280, 8, 0.000606),
    (1280, 20, 0.000479),
    (1536, 24, 0.000402),
];
