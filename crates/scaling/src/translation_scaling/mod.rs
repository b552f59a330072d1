//! Scaling laws of encoder-decoder translation models (Ghorbani, Firat, Freitag, Bapna, Krikun, Garcia, Chelba and Cherry, 2021;
//! arXiv 2109.07740): the test loss is a product of power laws of the encoder's and the decoder's parameters plus a constant, and BLEU
//! follows the loss on texts whose target side is natural, but levels off where it is a translation.
//!
//! `L(N_e, N_d) = alpha (Nbar_e/N_e)^p_e (Nbar_d/N_d)^p_d + L_inf`, so that of a budget `B` the encoder should get `B p_e/(p_e + p_d)`. The law and
//! its competitors, which know the total only or add the two sizes, are [`fit`](crate::fit)'s ([`BivariateLaw`], [`UnivariateLaw`],
//! [`AdditiveLaw`], [`compare_laws`]), as is the law of parameters and data of Gordon, Duh and Kaplan ([`JointDataParamLaw`]). Here are the
//! curves of BLEU over the loss ([`BleuLossCurve`]), the test whether BLEU levels off ([`saturation`]) and published points
//! ([`published_points`]). The network is [`Seq2Seq`](autodidact_core::nn::Seq2Seq), whose
//! [`param_split`](autodidact_core::nn::Seq2SeqConfig::param_split) counts as the law does.
//!
//! ```
//! use autodidact_scaling::translation_scaling::{BleuLossCurve, CurveForm, published_points};
//! let points = published_points();
//! let pairs: Vec<(f64, f64)> = points.iter().map(|p| (p.loss, p.bleu)).collect();
//! // On these development sets (of mixed origin) an exponential fits BLEU better than a power.
//! let exponential = BleuLossCurve::fit(CurveForm::Exponential, &pairs).unwrap();
//! let power = BleuLossCurve::fit(CurveForm::Power, &pairs).unwrap();
//! assert!((exponential.curve.rate - 0.4697).abs() < 1e-4 && exponential.r2 > power.r2);
//! assert!((exponential.curve.at(2.0) - 29.77).abs() < 0.01);
//! ```

mod curve;
mod published;
mod saturation;

pub use crate::fit::{AdditiveLaw, BivariateLaw, Comparison, JointDataParamLaw, Split, UnivariateLaw, compare_laws};
pub use curve::{BleuLossCurve, CurveFit, CurveForm};
pub use published::{PublishedPoint, published_points, stacked_parameters};
pub use saturation::{Saturation, saturation};

use autodidact_core::{Error, Result};

/// Logarithms of losses and scores, which must be positive and at least `least` in number.
fn logs(points: &[(f64, f64)], least: usize) -> Result<(Vec<f64>, Vec<f64>)> {
    if points.len() < least {
        return Err(Error::value("points (loss, BLEU)", format!("at least {least}"), points.len()));
    }
    let good = |v: f64| v.is_finite() && v > 0.0;
    if let Some((i, p)) = points.iter().enumerate().find(|(_, p)| !good(p.0) || !good(p.1)) {
        return Err(Error::value(format!("point {i}"), "positive finite numbers", format!("({}, {})", p.0, p.1)));
    }
    Ok(points.iter().map(|p| (p.0.ln(), p.1.ln())).unzip())
}
