//! Losses and scores of a trained model; laws of published ones.

use super::data::TestSet;
use crate::runner::Context;
use anyhow::Result;
use autodidact_core::metrics::{BleuCounts, Smoothing};
use autodidact_core::nn::Seq2Seq;
use autodidact_scaling::fit::{FitOptions, Objective, Points, PowerLawPlusConst, fit};
use autodidact_scaling::translation_scaling::{BleuLossCurve, CurveForm, JointDataParamLaw, published_points};
use tch::Kind;

/// Mean loss of all target tokens.
pub fn loss(model: &Seq2Seq, test: &TestSet) -> autodidact_core::Result<f64> {
    let (mut sum, mut tokens) = (0.0, 0.0);
    for part in &test.parts {
        let b = &part.batch;
        let each = tch::no_grad(|| model.log_probs(&b.source, b.mask.as_ref(), &b.target, false))?;
        sum -= each.sum(Kind::Double).double_value(&[]);
        tokens += b.target.ge(0).sum(Kind::Double).double_value(&[]);
    }
    Ok(sum / tokens)
}

/// Corpus BLEU of greedy translations.
pub fn bleu(model: &Seq2Seq, test: &TestSet) -> autodidact_core::Result<f64> {
    let mut counts = BleuCounts::default();
    for part in &test.parts {
        let longest = part.references.iter().map(Vec::len).max().unwrap_or(1) as i64;
        let limit = (longest + 8).min(model.config().context);
        let translations = model.greedy(&part.batch.source, part.batch.mask.as_ref(), limit)?;
        translations.iter().zip(&part.references).for_each(|(t, r)| counts.add(t, &[r]));
    }
    Ok(counts.bleu(Smoothing::Exponential)?.score)
}

/// Laws of the published models.
pub fn published(context: &mut Context<'_>) -> Result<()> {
    let points = published_points();
    let squares = FitOptions { objective: Objective::LeastSquares, ..Default::default() };
    let all = Points::new(points.iter().map(|p| ([p.n, p.bytes], p.loss)))?;
    let joint = fit::<JointDataParamLaw>(&all, &squares)?;
    let most = points.iter().map(|p| p.bytes).fold(0.0, f64::max);
    let column: Vec<(f64, f64)> = points.iter().filter(|p| p.bytes == most).map(|p| (p.n, p.loss)).collect();
    let logs = FitOptions { objective: Objective::LogLeastSquares, ..Default::default() };
    let size = PowerLawPlusConst::fit(&column, &logs)?;
    let pairs: Vec<(f64, f64)> = points.iter().map(|p| (p.loss, p.bleu)).collect();
    let exponential = BleuLossCurve::fit(CurveForm::Exponential, &pairs)?;
    let power = BleuLossCurve::fit(CurveForm::Power, &pairs)?;
    for (name, value) in [
        ("a_N", joint.law.a_n),
        ("ln N_c", joint.law.ln_n_c),
        ("a_D", joint.law.a_d),
        ("ln D_c", joint.law.ln_d_c),
        ("joint R2", joint.r2),
        ("L_inf", size.law.l_inf),
        ("p", size.law.alpha),
        ("size rms", (size.objective / column.len() as f64).sqrt()),
        ("exponential factor", exponential.curve.factor),
        ("exponential rate", exponential.curve.rate),
        ("exponential R2", exponential.r2),
        ("power factor", power.curve.factor),
        ("power rate", power.curve.rate),
        ("power R2", power.r2),
    ] {
        context.metric(0, name, value);
    }
    Ok(())
}
