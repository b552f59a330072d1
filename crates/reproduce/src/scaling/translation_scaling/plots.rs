//! Plots of the finished models.

use super::{Config, Model, bleu_of, judge, loss_of, mean, test_sets};
use crate::plot::{Plot, Series};
use crate::results::Results;
use crate::verdict::summary;
use anyhow::Result;
use autodidact_scaling::translation_scaling::{BivariateLaw, BleuLossCurve, CurveForm};

/// A loss with its interval over `x`.
fn observed(
    results: &Results,
    c: &Config,
    models: &[Model],
    test: &str,
    x: impl Fn([f64; 2]) -> f64,
) -> Result<Vec<(f64, f64, f64)>> {
    let point = |m: &Model| {
        let (loss, half) = summary(&results.values(&c.arm(*m), &loss_of(test))?);
        Ok((x(c.sizes(*m)), loss, half))
    };
    models.iter().map(point).collect()
}

pub fn all(results: &Results, c: &Config) -> Result<Vec<Plot>> {
    let tests = test_sets(&results.plan().dataset);
    let laws = tests.iter().map(|t| Ok(judge::joint(results, c, t)?.law)).collect::<Result<Vec<BivariateLaw>>>()?;
    let mut plots = vec![];
    for (k, name, stack, models) in
        [(0, "encoder", "encoder", c.encoder_scaled()), (1, "decoder", "decoder", c.decoder_scaled())]
    {
        let mut series = vec![];
        for (i, (test, law)) in tests.iter().zip(&laws).enumerate() {
            let points = observed(results, c, &models, test, |n| n[k])?;
            series.push(Series { dots: true, ..Series::with_intervals(format!("{test}, observed"), i, points) });
            let ends = [c.sizes(models[0]), c.sizes(models[models.len() - 1])];
            let line: Vec<(f64, f64)> = (0..=40)
                .map(|s| {
                    let n = ends[0][k] * (ends[1][k] / ends[0][k]).powf(f64::from(s) / 40.0);
                    let mut sizes = ends[0];
                    sizes[k] = n;
                    (n, judge::predict(law, sizes))
                })
                .collect();
            series.push(Series::line(format!("{test}, law"), i, &line).dashed());
        }
        let caption =
            format!("Loss over the {stack}'s parameters, the other stack of {} layers, with the joint law.", c.fixed);
        plots.push(
            Plot::lines(name, &caption, &format!("parameters of the {stack}"), "test loss (nats/token)", series)
                .log(true, false),
        );
    }

    let mut series = vec![];
    for (i, (test, law)) in tests.iter().zip(&laws).enumerate() {
        for (kind, models, colour) in [("fitted", c.fitted(), 2 * i), ("held out", c.symmetric(), 2 * i + 1)] {
            let point = |m: &Model| Ok((judge::predict(law, c.sizes(*m)), mean(results, c, *m, &loss_of(test))?));
            let pairs = models.iter().map(point).collect::<Result<Vec<_>>>()?;
            series.push(Series::line(format!("{test}, {kind}"), colour, &pairs).dots());
        }
    }
    let ends = series.iter().flat_map(|s| s.points.iter().map(|p| p.0));
    let (low, high) = ends.fold((f64::INFINITY, 0.0f64), |(l, h), x| (l.min(x), h.max(x)));
    series.push(Series::line("equal", 7, &[(low, low), (high, high)]).dashed());
    plots.push(Plot::lines(
        "predicted",
        "Loss predicted by the law of encoder- and decoder-scaled models and observed loss (means over seeds).",
        "predicted loss (nats/token)",
        "observed loss (nats/token)",
        series,
    ));

    let test = tests[0];
    let total = judge::total(results, c, test)?;
    let families =
        [("encoder grows", c.encoder_scaled()), ("decoder grows", c.decoder_scaled()), ("both grow", c.symmetric())];
    let mut series = vec![];
    for (i, (name, models)) in families.iter().enumerate() {
        series.push(Series::with_intervals(*name, i, observed(results, c, models, test, |n| n[0] + n[1])?));
    }
    let mut sums: Vec<f64> = c.all().iter().map(|m| c.sizes(*m).iter().sum()).collect();
    sums.sort_by(f64::total_cmp);
    let line: Vec<(f64, f64)> = sums.iter().map(|n| (*n, judge::predict(&total, [n / 2.0, n / 2.0]))).collect();
    series.push(Series::line("law of the total", 7, &line).dashed());
    let caption = format!(
        "Loss over all parameters on {test} sentences, by which stack grows: one curve if only the total mattered."
    );
    plots.push(
        Plot::lines("total", &caption, "parameters of both stacks", "test loss (nats/token)", series).log(true, false),
    );

    let mut series = vec![];
    for (i, test) in tests.iter().enumerate() {
        let pairs = judge::scores(results, c, &c.all(), test)?;
        series.push(Series::line(*test, i, &pairs).dots());
        if let Ok(fitted) = BleuLossCurve::fit(CurveForm::Power, &pairs) {
            let (low, high) = pairs.iter().fold((f64::INFINITY, 0.0f64), |(l, h), p| (l.min(p.0), h.max(p.0)));
            let at = |s: i32| low + (high - low) * f64::from(s) / 40.0;
            let line: Vec<(f64, f64)> = (0..=40).map(|s| (at(s), fitted.curve.at(at(s)))).collect();
            series.push(Series::line(format!("{test}, power"), i, &line).dashed());
        }
    }
    plots.push(
        Plot::lines(
            "bleu",
            "BLEU over the loss, all models and seeds, by the origin of the test sentences.",
            "test loss (nats/token)",
            &bleu_of("test"),
            series,
        )
        .log(true, true),
    );
    plots.push(iso_loss(c, test, &laws[0])?);
    Ok(plots)
}

/// Sizes of equal loss, and the best splits.
fn iso_loss(c: &Config, test: &str, law: &BivariateLaw) -> Result<Plot> {
    let sizes: Vec<[f64; 2]> = c.all().iter().map(|m| c.sizes(*m)).collect();
    let range = |k: usize| {
        let ends = sizes.iter().map(|s| s[k]);
        ends.fold((f64::INFINITY, 0.0f64), |(l, h), n| (l.min(n), h.max(n)))
    };
    let (encoder, decoder) = (range(0), range(1));
    let steps = |(low, high): (f64, f64)| (0..=60).map(move |s| low * (high / low).powf(f64::from(s) / 60.0));
    let inside = |n: f64| (decoder.0 / 1.5..=decoder.1 * 1.5).contains(&n);
    let mut series = vec![];
    for (i, m) in c.symmetric().into_iter().chain([Model { encoder: c.fixed, decoder: c.fixed }]).enumerate() {
        let [n_e, n_d] = c.sizes(m);
        let loss = law.loss(n_e, n_d);
        let mut line = vec![];
        for n in steps(encoder) {
            // A law without an exponent has no curve of equal loss.
            let other = law.iso_loss(loss, n).unwrap_or(f64::NAN);
            if inside(other) {
                line.push((n, other));
            }
        }
        series.push(Series::line(format!("loss {loss:.4}"), i, &line));
    }
    let models: Vec<(f64, f64)> = sizes.iter().map(|s| (s[0], s[1])).collect();
    series.push(Series::line("models", 7, &models).dots());
    let ray: Vec<(f64, f64)> = steps(encoder).map(|n| (n, n * law.p_d / law.p_e)).filter(|p| inside(p.1)).collect();
    series.push(Series::line("best split", 5, &ray).dashed());
    let caption = format!("Sizes of equal loss by the law of {test} sentences, and the best split of a budget.");
    Ok(Plot::lines("iso-loss", &caption, "parameters of the encoder", "parameters of the decoder", series)
        .log(true, true))
}
