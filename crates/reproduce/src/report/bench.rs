//! The site's page of the benchmarks, made from the recorded run alone.

use super::environment;
use crate::plot::{Plot, Ratio, Series};
use anyhow::Result;
use autodidact_benches::record::duration;
use autodidact_benches::{AtSize, Growth, Measured, Record, Verdict};
use minijinja::value::Serde;
use minijinja::{Value, context};

/// The page.
///
/// # Errors
/// A record whose ratios or sizes are not positive.
pub(super) fn page(record: &Record) -> Result<String> {
    let ends = ends(record);
    let areas = areas(record).into_iter().map(|(area, entries)| {
        let ratios: Vec<Ratio> = entries.iter().filter_map(|e| ratio(e)).collect();
        let caption = format!("Time of ours over that of the other side, {area}.");
        let plot = (!ratios.is_empty()).then(|| Plot::ratios(area, &caption, "time, ours / other", ratios, ends).svg());
        let rows: Vec<Value> = entries.iter().map(|e| row(e)).collect();
        Ok(context! { area, rows, plot => plot.transpose()? })
    });
    let areas = areas.collect::<Result<Vec<Value>>>()?;
    let verdicts: Vec<Verdict> = record.entries.iter().filter_map(Measured::verdict).collect();
    let counts = [Verdict::Met, Verdict::Open, Verdict::Missed].map(|kind| {
        let count = verdicts.iter().filter(|v| **v == kind).count();
        context! { verdict => kind.to_string(), count }
    });
    let growth = record.growth();
    let curves = curves(&growth)?;
    let growth: Vec<Value> = growth.iter().map(|g| Value::from(Serde(g))).collect();
    let run = context! { date => &record.date, cpu => &record.cpu, threads => record.threads };
    Ok(environment()?.get_template("bench.html")?.render(context! { run, counts, areas, growth, curves })?)
}

/// Entries by area, in the order of the suite.
fn areas(record: &Record) -> Vec<(&str, Vec<&Measured>)> {
    let mut all: Vec<(&str, Vec<&Measured>)> = vec![];
    for e in &record.entries {
        match all.iter_mut().find(|(area, _)| *area == e.area()) {
            Some((_, entries)) => entries.push(e),
            None => all.push((e.area(), vec![e])),
        }
    }
    all
}

/// Ends of the axis of all ratios, with room at both.
fn ends(record: &Record) -> (f64, f64) {
    let values = record.entries.iter().filter_map(|e| e.ratio).flat_map(|r| [r.low, r.high]);
    let (low, high) = autodidact_core::stats::extent(values.chain([0.5, 1.5]));
    (low / 1.15, high * 1.15)
}

/// A name without its area, and the package that it is compared with (or other work of ours).
fn ratio(e: &Measured) -> Option<Ratio> {
    let (r, other) = (e.ratio?, e.beside.as_ref()?);
    // `class (package version)`
    let package = other.who.rsplit_once('(').and_then(|(_, p)| p.split_whitespace().next());
    let colour = match e.verdict() {
        Some(Verdict::Met) => 2,
        Some(Verdict::Open) => 5,
        Some(Verdict::Missed) => 1,
        None => 7,
    };
    Some(Ratio {
        label: format!("{} / {}", short(e), package.unwrap_or(&other.who)),
        value: r.value,
        interval: (r.low, r.high),
        target: e.target,
        colour,
    })
}

fn short(e: &Measured) -> &str {
    e.name.split_once('/').map_or(&e.name, |(_, rest)| rest)
}

/// A row of the table.
fn row(e: &Measured) -> Value {
    let other = e.beside.as_ref().map(|b| context! { who => &b.who, time => duration(b.median()) });
    let ratio = e.ratio.map(|r| {
        let [value, low, high] = [r.value, r.low, r.high].map(|v| format!("{v:.3}"));
        context! { value, low, high }
    });
    let verdict = e.verdict().map(|v| v.to_string());
    context! {
        name => short(e), what => &e.what, time => e.time(), memory => e.memory(), aim => e.aim(), other, ratio, verdict,
    }
}

/// Time and memory over each of the sizes that grow.
fn curves(growth: &[Growth]) -> Result<Vec<Value>> {
    let mut sizes: Vec<&str> = vec![];
    for g in growth {
        if !sizes.contains(&g.over.as_str()) {
            sizes.push(&g.over);
        }
    }
    let of_size = |over: &str| {
        let growth: Vec<&Growth> = growth.iter().filter(|g| g.over == over).collect();
        let time = curve(&growth, over, "time of a call (s)", |g| g.time, |p| Some(p.seconds))?;
        let memory =
            curve(&growth, over, "memory of a call (MB)", |g| g.memory, |p| p.memory_mb.filter(|mb| *mb >= 1.0))?;
        Ok(context! { over, plots => [time, memory].into_iter().flatten().collect::<Vec<_>>() })
    };
    sizes.into_iter().map(of_size).collect()
}

/// One quantity of some series, where it is known.
fn curve(
    growth: &[&Growth],
    over: &str,
    y: &str,
    exponent: impl Fn(&Growth) -> Option<f64>,
    of: impl Fn(&AtSize) -> Option<f64>,
) -> Result<Option<String>> {
    let mut series = vec![];
    for (i, g) in growth.iter().enumerate() {
        let points: Vec<(f64, f64)> = g.points.iter().filter_map(|p| Some((p.size, of(p)?))).collect();
        let power = exponent(g).map_or(String::new(), |b| format!(": {over}^{b:.2}"));
        if !points.is_empty() {
            series.push(Series::line(format!("{}{power}", g.series), i, &points));
        }
    }
    if series.is_empty() {
        return Ok(None);
    }
    Ok(Some(Plot::lines(over, y, over, y, series).log(true, true).narrow().svg()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use autodidact_benches::{Pace, Point};
    use autodidact_core::stats::Estimate;

    fn entry(name: &str, ratio: Option<f64>, size: Option<f64>) -> Measured {
        let seconds = 0.25 * size.unwrap_or(1.0);
        let pace = |who: &str| Pace { who: who.into(), seconds: vec![seconds], memory_mb: Some(40.0 * seconds) };
        Measured {
            name: name.into(),
            what: "loss <and> gradient".into(),
            ours: pace("autodidact"),
            beside: ratio.map(|_| pace("Loss (lightly 1.6.0)")),
            ratio: ratio.map(|value| Estimate { value, low: 0.9 * value, high: 1.1 * value, n: 25 }),
            target: ratio.map(|_| 1.0),
            limit: None,
            items: None,
            point: size.map(|size| Point { series: "loss".into(), over: "D".into(), size }),
        }
    }

    #[test]
    fn the_page_shows_bars_curves_and_the_table() {
        let entries = vec![
            entry("ssl/fast/n=2", Some(0.5), None),
            entry("ssl/slow/n=2", Some(2.0), None),
            entry("growth/loss/D=2", None, Some(2.0)),
            entry("growth/loss/D=8", None, Some(8.0)),
        ];
        let html = page(&Record { entries, ..Record::new(2) }).unwrap();
        assert_eq!(html.matches("<figure").count(), 3, "bars of one area, time and memory");
        assert!(html.contains("fast/n=2 / lightly") && html.contains("1 met") && html.contains("1 missed"));
        assert!(html.contains("D = 2, 8") && html.contains("loss &lt;and&gt; gradient") && html.contains("2 threads"));
        // Nothing measured yet is a page too.
        assert!(page(&Record::new(1)).unwrap().contains("All entries"));
    }
}
