//! What a run leaves: `bench.json` and a table.

use crate::machine;
use crate::measure::Measured;
use anyhow::{Context, Result};
use autodidact_core::stats::{Estimate, slope};
use comfy_table::{ContentArrangement, Table, presets};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use time::OffsetDateTime;

/// A whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Day of the run, UTC, `YYYY-MM-DD`.
    pub date: String,
    /// Processor.
    pub cpu: String,
    /// Threads of each side.
    pub threads: usize,
    /// The entries, in the order of the suite.
    pub entries: Vec<Measured>,
}

impl Record {
    /// An empty record of today on this machine.
    pub fn new(threads: usize) -> Self {
        Self { date: OffsetDateTime::now_utc().date().to_string(), cpu: machine::cpu(), threads, entries: vec![] }
    }

    /// For each series over problem sizes, the exponent `b` of `time = a * size^b`, by least squares of the logarithms.
    pub fn growth(&self) -> BTreeMap<&str, f64> {
        let mut series: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
        for e in &self.entries {
            if let Some((name, size)) = &e.series {
                series.entry(name).or_default().push((size.ln(), e.ours.median().ln()));
            }
        }
        let exponent = |(name, points): (_, Vec<(f64, f64)>)| {
            let (x, y): (Vec<f64>, Vec<f64>) = points.into_iter().unzip();
            Some((name, slope(&x, &y).ok()?))
        };
        series.into_iter().filter_map(exponent).collect()
    }

    /// The table for a terminal.
    pub fn table(&self) -> Table {
        let mut table = self.rows();
        table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
        table
    }

    fn rows(&self) -> Table {
        let mut table = Table::new();
        table.set_header(["entry", "ours", "beside", "its time", "ratio (95 %)", "target", "memory"]);
        for e in &self.entries {
            let beside = |f: fn(&crate::Pace) -> String| e.beside.as_ref().map_or("–".into(), f);
            table.add_row([
                format!("{}: {}", e.name, e.what),
                duration(e.ours.median()),
                beside(|b| b.who.clone()),
                beside(|b| duration(b.median())),
                e.ratio.map_or("–".into(), |r| format!("{:.3} ({:.3} to {:.3})", r.value, r.low, r.high)),
                e.target.map_or("–".into(), |t| {
                    let judged = e.ratio.map_or("not measured", |r| verdict(r, t));
                    format!("{}: {judged}", (t * 1e3).round() / 1e3)
                }),
                e.memory_mb.map_or("–".into(), |mb| format!("{mb:.0} MB")),
            ]);
        }
        table
    }

    /// The record as Markdown.
    pub fn markdown(&self) -> String {
        let mut table = self.rows();
        table.load_style(presets::ASCII_MARKDOWN);
        let mut text = format!("{}, {}, threads on each side: {}.\n\n{table}\n", self.date, self.cpu, self.threads);
        let growth = self.growth();
        if !growth.is_empty() {
            text += "\nGrowth with problem size:\n\n";
            for (name, exponent) in growth {
                writeln!(text, "- {name}: exponent {exponent:.2}").expect("writing to a string cannot fail");
            }
        }
        text
    }

    /// Writes `bench.json` and `bench.md` into a folder.
    ///
    /// # Errors
    /// A folder that cannot be made or written to.
    pub fn write(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        let save = |name: &str, text: String| {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
        };
        save("bench.json", serde_json::to_string_pretty(self)? + "\n")?;
        save("bench.md", self.markdown())
    }
}

/// Whether a ratio keeps an upper bound: `open` while its interval contains the bound.
fn verdict(ratio: Estimate, bound: f64) -> &'static str {
    match ratio {
        r if r.high <= bound => "met",
        r if r.low > bound => "missed",
        _ => "open",
    }
}

/// Three significant digits in the largest unit of which there is at least one.
fn duration(seconds: f64) -> String {
    let (scaled, unit) = match seconds {
        s if s >= 1.0 => (s, "s"),
        s if s >= 1e-3 => (s * 1e3, "ms"),
        s => (s * 1e6, "µs"),
    };
    let digits = (2 - scaled.log10().floor() as i64).clamp(0, 2) as usize;
    format!("{scaled:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pace;

    fn entry(name: &str, seconds: f64, other: Option<f64>, size: Option<f64>) -> Measured {
        let pace = |s: f64| Pace { who: "a|b".into(), seconds: vec![s, s, s] };
        let ratio =
            other.map(|o| Estimate { value: seconds / o, low: 0.9 * seconds / o, high: 1.1 * seconds / o, n: 3 });
        Measured {
            name: name.into(),
            what: "work".into(),
            ours: pace(seconds),
            beside: other.map(pace),
            ratio,
            target: other.map(|_| 1.0),
            memory_mb: Some(12.4),
            series: size.map(|s| ("loss over D".into(), s)),
        }
    }

    fn record() -> Record {
        let entries = vec![
            entry("fast", 0.002, Some(0.004), None),
            entry("d=10", 1e-4, None, Some(10.0)),
            entry("d=100", 1e-2, None, Some(100.0)),
        ];
        Record { entries, ..Record::new(2) }
    }

    #[test]
    fn growth_is_the_exponent_of_the_size() {
        assert!((record().growth()["loss over D"] - 2.0).abs() < 1e-12);
    }

    #[test]
    fn targets_are_judged_by_the_interval() {
        let at = |value: f64| verdict(Estimate { value, low: value - 0.1, high: value + 0.1, n: 9 }, 1.0);
        assert_eq!((at(0.8), at(0.95), at(1.05), at(1.2)), ("met", "open", "open", "missed"));
    }

    #[test]
    fn times_have_three_digits() {
        let shown = [2.345e-6, 4.5e-5, 1.2345e-3, 0.12345, 12.345, 123.4].map(duration);
        assert_eq!(shown, ["2.35 µs", "45.0 µs", "1.23 ms", "123 ms", "12.3 s", "123 s"]);
    }

    #[test]
    fn a_record_is_written_and_read_back() {
        let folder = std::env::temp_dir().join(format!("autodidact-bench-{}", std::process::id()));
        let record = record();
        record.write(&folder).unwrap();
        let text = fs::read_to_string(folder.join("bench.json")).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
        let markdown = fs::read_to_string(folder.join("bench.md")).unwrap();
        assert!(
            markdown.contains("0.500 (0.450 to 0.550)") && markdown.contains("loss over D: exponent 2.00"),
            "{markdown}"
        );
        fs::remove_dir_all(folder).unwrap();
    }
}
