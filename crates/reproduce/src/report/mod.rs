//! The report: a page per run, a static site over all recorded results, and the README's table, made from `run.json` alone.

mod bench;
mod readme;

pub use readme::{check_readme, update_readme};

use crate::catalog::{PAPERS, summary};
use crate::record::RunRecord;
use anyhow::{Context as _, Result};
use autodidact_benches::Record;
use autodidact_core::train::write_atomically;
use minijinja::value::Serde;
use minijinja::{Environment, Value, context};
use std::path::{Path, PathBuf};

const BASE: &str = include_str!("base.html");
const PAGE: &str = include_str!("page.html");
const INDEX: &str = include_str!("index.html");
const BENCH: &str = include_str!("bench.html");
const STYLE: &str = include_str!("style.css");

fn environment() -> Result<Environment<'static>> {
    let mut env = Environment::new();
    let templates =
        [("base.html", BASE), ("page.html", PAGE), ("index.html", INDEX), ("bench.html", BENCH), ("style.css", STYLE)];
    for (name, source) in templates {
        env.add_template(name, source)?;
    }
    env.add_filter("words", |verdict: String| verdict.replace('_', " "));
    env.add_filter("figure", |v: Value| f64::try_from(v).map_or("–".to_owned(), figure));
    env.add_filter("exponent", |v: Value| f64::try_from(v).map_or("–".to_owned(), |v| format!("{v:.2}")));
    env.add_filter("minutes", |seconds: f64| match seconds {
        s if s < 90.0 => format!("{s:.0} s"),
        s if s < 5400.0 => format!("{:.1} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    });
    Ok(env)
}

/// A number with four significant digits.
pub fn figure(v: f64) -> String {
    match v.abs() {
        0.0 => "0".into(),
        a if !(1e-3..1e6).contains(&a) => format!("{v:.2e}"),
        a => format!("{v:.*}", (3 - a.log10().floor() as i32).clamp(0, 6) as usize),
    }
}

/// The self-contained page of a run whose plots lie in `folder`.
///
/// # Errors
/// A plot that cannot be read.
pub fn page(record: &RunRecord, folder: &Path) -> Result<String> {
    render_page(record, folder, None)
}

fn render_page(record: &RunRecord, folder: &Path, index: Option<&str>) -> Result<String> {
    let plots = record.plots.iter().map(|(file, caption)| {
        let path = folder.join(file);
        let svg = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Ok(context! { svg, caption })
    });
    let plots = plots.collect::<Result<Vec<_>>>()?;
    let run = Value::from(Serde(record));
    let counts = summary(&record.counts());
    let config = serde_json::to_string_pretty(&record.config)?;
    Ok(environment()?.get_template("page.html")?.render(context! { run, plots, counts, config, index })?)
}

/// Recorded results, in the order of the catalogue.
///
/// # Errors
/// A damaged `run.json`.
pub fn recorded(results: &Path) -> Result<Vec<(PathBuf, RunRecord)>> {
    let mut all = vec![];
    for p in PAPERS {
        let folder = results.join(p.slug);
        if folder.join("run.json").exists() {
            let record = RunRecord::read(&folder.join("run.json"))?;
            all.push((folder, record));
        }
    }
    Ok(all)
}

/// Writes the site: an index of all papers, a page per recorded result, and one of the benchmarks where there is a record of
/// them at `bench`.
///
/// # Errors
/// A damaged record, or what the system says.
pub fn site(results: &Path, bench: &Path, out: &Path) -> Result<usize> {
    let recorded = recorded(results)?;
    for (folder, record) in &recorded {
        let page = render_page(record, folder, Some("../index.html"))?;
        write_atomically(&out.join(&record.paper).join("index.html"), page.as_bytes())?;
    }
    let papers: Vec<Value> = PAPERS
        .iter()
        .map(|p| {
            let run = recorded.iter().find(|(_, r)| r.paper == p.slug).map(|(_, r)| Value::from(Serde(r)));
            context! { slug => p.slug, area => p.area, title => p.title, authors => p.authors, year => p.year, run }
        })
        .collect();
    let mut areas: Vec<&str> = PAPERS.iter().map(|p| p.area).collect();
    areas.sort_unstable();
    areas.dedup();
    let benchmarks = bench.exists().then(|| Record::read(bench)).transpose()?;
    if let Some(record) = &benchmarks {
        write_atomically(&out.join("bench/index.html"), bench::page(record)?.as_bytes())?;
    }
    let benchmarks = benchmarks.is_some();
    let html = environment()?.get_template("index.html")?.render(context! { papers, areas, benchmarks })?;
    write_atomically(&out.join("index.html"), html.as_bytes())?;
    Ok(recorded.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_four_digits() {
        assert_eq!([0.0, 42.256, 0.5, 1234.5, -0.01234].map(figure), ["0", "42.26", "0.5000", "1234", "-0.01234"]);
        assert_eq!(figure(1.5e-7), "1.50e-7");
    }
}
