//! What a run leaves: `bench.json` and a table.

use crate::entry::Point;
use crate::machine;
use crate::measure::{Measured, Pace};
use anyhow::{Context, Result};
use autodidact_core::stats::slope;
use comfy_table::{ContentArrangement, Table, presets};
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use std::fs;
use std::path::Path;
use time::OffsetDateTime;

/// Where the recorded run lies, below the folder of this package.
pub const RECORDED: &str = "results/bench.json";

/// Around the table in `RESULTS.md`.
const MARKS: [&str; 2] = ["<!-- run: made by `cargo xtask bench --record` -->", "<!-- /run -->"];

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

/// An entry of a series.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct AtSize {
    /// The size.
    pub size: f64,
    /// Median seconds of a call.
    pub seconds: f64,
    /// Memory of a call, in MB, where it is known.
    pub memory_mb: Option<f64>,
}

/// A series over a problem size.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Growth {
    /// What is done, and the sizes that stay.
    pub series: String,
    /// The size that grows.
    pub over: String,
    /// What was measured at each size, in the order of the suite.
    pub points: Vec<AtSize>,
    /// `b` of `time = a * size^b`, by least squares of the logarithms; `None` of one point.
    pub time: Option<f64>,
    /// The same of memory; `None` too where a point takes less than 1 MB, which is not known well enough.
    pub memory: Option<f64>,
}

impl Growth {
    fn new(series: String, over: String, points: Vec<AtSize>) -> Self {
        let exponent = |values: Option<Vec<f64>>| {
            let sizes: Vec<f64> = points.iter().map(|p| p.size.ln()).collect();
            slope(&sizes, &values?).ok()
        };
        let time = exponent(Some(points.iter().map(|p| p.seconds.ln()).collect()));
        let memory = exponent(points.iter().map(|p| p.memory_mb.filter(|mb| *mb >= 1.0).map(f64::ln)).collect());
        Self { series, over, points, time, memory }
    }
}

impl Record {
    /// An empty record of today on this machine.
    pub fn new(threads: usize) -> Self {
        Self { date: OffsetDateTime::now_utc().date().to_string(), cpu: machine::cpu(), threads, entries: vec![] }
    }

    /// Reads a `bench.json`.
    ///
    /// # Errors
    /// A file that cannot be read or is no record.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is no record of the benchmarks", path.display()))
    }

    /// The series over problem sizes, in the order of the suite.
    pub fn growth(&self) -> Vec<Growth> {
        let mut all: Vec<(&Point, Vec<AtSize>)> = vec![];
        for (e, point) in self.entries.iter().filter_map(|e| Some((e, e.point.as_ref()?))) {
            let measured = AtSize { size: point.size, seconds: e.ours.median(), memory_mb: e.ours.memory_mb };
            match all.iter_mut().find(|(p, _)| p.series == point.series && p.over == point.over) {
                Some((_, points)) => points.push(measured),
                None => all.push((point, vec![measured])),
            }
        }
        all.into_iter().map(|(p, points)| Growth::new(p.series.clone(), p.over.clone(), points)).collect()
    }

    /// The tables for a terminal.
    pub fn text(&self) -> String {
        let mut tables = vec![self.rows()];
        tables.extend(self.growth_rows());
        let styled = tables.into_iter().map(|mut table| {
            table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
            table.to_string()
        });
        styled.collect::<Vec<_>>().join("\n\n")
    }

    fn rows(&self) -> Table {
        let mut table = Table::new();
        table.set_header(["entry", "ours", "beside", "its time", "ratio (95 %)", "target", "memory"]);
        for e in &self.entries {
            let beside = |f: fn(&Pace) -> String| e.beside.as_ref().map_or("–".into(), f);
            table.add_row([
                format!("{}: {}", e.name, e.what),
                e.time(),
                beside(|b| b.who.clone()),
                beside(|b| duration(b.median())),
                e.ratio.map_or("–".into(), |r| format!("{:.3} ({:.3} to {:.3})", r.value, r.low, r.high)),
                e.aim(),
                e.memory(),
            ]);
        }
        table
    }

    fn growth_rows(&self) -> Option<Table> {
        let mut table = Table::new();
        table.set_header(["growth with problem size", "sizes", "exponent of time", "of memory"]);
        let growth = self.growth();
        for g in &growth {
            let exponent = |b: Option<f64>| b.map_or("–".into(), |b| format!("{b:.2}"));
            let sizes: Vec<String> = g.points.iter().map(|p| p.size.to_string()).collect();
            let sizes = format!("{} = {}", g.over, sizes.join(", "));
            table.add_row([g.series.clone(), sizes, exponent(g.time), exponent(g.memory)]);
        }
        (!growth.is_empty()).then_some(table)
    }

    /// The record as Markdown.
    pub fn markdown(&self) -> String {
        let mut text = format!("{}, {}, threads on each side: {}.\n", self.date, self.cpu, self.threads);
        for mut table in [self.rows()].into_iter().chain(self.growth_rows()) {
            table.load_style(presets::ASCII_MARKDOWN);
            write!(text, "\n{table}\n").expect("writing to a string cannot fail");
        }
        text
    }

    /// The record as JSON, a line per entry.
    fn json(&self) -> Result<String> {
        let entries = self.entries.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
        Ok(format!(
            "{{\"date\": {}, \"cpu\": {}, \"threads\": {}, \"entries\": [\n{}\n]}}\n",
            serde_json::to_string(&self.date)?,
            serde_json::to_string(&self.cpu)?,
            self.threads,
            entries.join(",\n")
        ))
    }

    /// Writes `bench.json` and `bench.md` into a folder.
    ///
    /// # Errors
    /// A folder that cannot be made or written to.
    pub fn write(&self, folder: &Path) -> Result<()> {
        save(&folder.join("bench.json"), &self.json()?)?;
        save(&folder.join("bench.md"), &self.markdown())
    }

    /// Makes this the recorded run: `results/bench.json` and the tables in `RESULTS.md`, below the folder of this package.
    ///
    /// # Errors
    /// A `RESULTS.md` without the marks around its tables, and what the system says.
    pub fn publish(&self, package: &Path) -> Result<()> {
        let path = package.join("RESULTS.md");
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let text = replace_between(&text, MARKS, &format!("\n{}\n", self.markdown()))
            .with_context(|| format!("{} lacks the lines {}", path.display(), MARKS.join(" and ")))?;
        save(&package.join(RECORDED), &self.json()?)?;
        save(&path, &text)
    }
}

impl Measured {
    /// Median time of a call of ours in words, with its things per second.
    pub fn time(&self) -> String {
        let seconds = self.ours.median();
        match &self.items {
            Some((count, things)) => format!("{}, {:.0} {things}/s", duration(seconds), count / seconds),
            None => duration(seconds),
        }
    }

    /// What is aimed at, and whether it was reached, in words.
    pub fn aim(&self) -> String {
        let bound = match (self.target, self.limit) {
            (Some(ratio), _) => ((ratio * 1e3).round() / 1e3).to_string(),
            (_, Some(seconds)) => format!("{seconds} s"),
            _ => return "–".into(),
        };
        match self.verdict() {
            Some(verdict) => format!("{bound}: {verdict}"),
            None => format!("{bound}: not measured"),
        }
    }

    /// Memory of a call of ours, and of the other's, in words.
    pub fn memory(&self) -> String {
        let mb = |pace: &Pace| pace.memory_mb.map_or("–".into(), |mb| format!("{mb:.0}"));
        match &self.beside {
            Some(beside) => format!("{} / {} MB", mb(&self.ours), mb(beside)),
            None if self.ours.memory_mb.is_none() => "–".into(),
            None => format!("{} MB", mb(&self.ours)),
        }
    }
}

/// A text with what lies between two marks replaced; `None` if they are not there.
pub fn replace_between(text: &str, [start, end]: [&str; 2], new: &str) -> Option<String> {
    let (before, rest) = text.split_once(start)?;
    let (_, after) = rest.split_once(end)?;
    Some(format!("{before}{start}\n{new}{end}{after}"))
}

fn save(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

/// Three significant digits in the largest unit of which there is at least one.
pub fn duration(seconds: f64) -> String {
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
    use crate::measure::Verdict;
    use autodidact_core::stats::Estimate;

    fn entry(name: &str, seconds: f64, other: Option<f64>, size: Option<f64>) -> Measured {
        let pace = |s: f64| Pace { who: "a|b".into(), seconds: vec![s, s, s], memory_mb: Some(1e3 * s) };
        let ratio =
            other.map(|o| Estimate { value: seconds / o, low: 0.9 * seconds / o, high: 1.1 * seconds / o, n: 3 });
        Measured {
            name: name.into(),
            what: "work".into(),
            ours: pace(seconds),
            beside: other.map(pace),
            ratio,
            target: other.map(|_| 1.0),
            limit: None,
            items: None,
            point: size.map(|size| Point { series: "loss".into(), over: "D".into(), size }),
        }
    }

    fn record() -> Record {
        let entries = vec![
            entry("area/fast", 0.002, Some(0.004), None),
            entry("d=10", 1e-2, None, Some(10.0)),
            entry("d=100", 1.0, None, Some(100.0)),
        ];
        Record { entries, ..Record::new(2) }
    }

    #[test]
    fn growth_is_the_exponent_of_the_size() {
        let growth = record().growth();
        assert!((growth[0].time.unwrap() - 2.0).abs() < 1e-12 && growth.len() == 1 && growth[0].points.len() == 2);
        assert!((growth[0].memory.unwrap() - 2.0).abs() < 1e-12);
        let at = |size: f64, memory_mb| AtSize { size, seconds: size, memory_mb };
        let growth = Growth::new("s".into(), "N".into(), vec![at(1.0, Some(0.2)), at(2.0, Some(4.0))]);
        assert!(growth.time == Some(1.0) && growth.memory.is_none());
        assert!(Growth::new("s".into(), "N".into(), vec![at(1.0, None)]).time.is_none());
    }

    #[test]
    fn targets_are_judged_by_the_interval() {
        let at = |value: f64| {
            let ratio = Some(Estimate { value, low: value - 0.1, high: value + 0.1, n: 9 });
            Measured { ratio, ..entry("a", 1.0, Some(1.0), None) }.verdict().unwrap()
        };
        let verdicts = [at(0.8), at(0.95), at(1.05), at(1.2)];
        assert_eq!(verdicts, [Verdict::Met, Verdict::Open, Verdict::Open, Verdict::Missed]);
        let within = |limit: f64| Measured { limit: Some(limit), ..entry("a", 1.0, None, None) };
        assert_eq!([within(2.0).aim(), within(0.5).aim()], ["2 s: met", "0.5 s: missed"]);
        let alone = Measured { ratio: None, ..entry("a", 1.0, Some(1.0), None) };
        assert_eq!((alone.verdict(), alone.aim().as_str()), (None, "1: not measured"));
        assert_eq!(entry("a", 1.0, None, None).aim(), "–");
    }

    #[test]
    fn cells_of_the_table_are_words() {
        let e = Measured { items: Some((128.0, "images".into())), ..entry("area/fast", 0.002, Some(0.004), None) };
        assert_eq!([e.time(), e.memory(), e.area().into()], ["2.00 ms, 64000 images/s", "2 / 4 MB", "area"]);
    }

    #[test]
    fn times_have_three_digits() {
        let shown = [2.345e-6, 4.5e-5, 1.2345e-3, 0.12345, 12.345, 123.4].map(duration);
        assert_eq!(shown, ["2.35 µs", "45.0 µs", "1.23 ms", "123 ms", "12.3 s", "123 s"]);
    }

    #[test]
    fn a_record_is_written_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let record = record();
        record.write(folder.path()).unwrap();
        assert_eq!(Record::read(&folder.path().join("bench.json")).unwrap(), record);
        let markdown = fs::read_to_string(folder.path().join("bench.md")).unwrap();
        assert!(markdown.contains("0.500 (0.450 to 0.550)") && markdown.contains("D = 10, 100"), "{markdown}");
        assert!(Record::read(&folder.path().join("bench.md")).unwrap_err().to_string().contains("is no record"));
    }

    #[test]
    fn a_published_record_replaces_the_table_and_leaves_the_words() {
        let folder = tempfile::tempdir().unwrap();
        let results = folder.path().join("RESULTS.md");
        assert!(record().publish(folder.path()).is_err());
        fs::write(&results, "words").unwrap();
        assert!(record().publish(folder.path()).unwrap_err().to_string().contains("lacks the lines"));
        fs::write(&results, format!("words\n{}\nold\n{}\nmore\n", MARKS[0], MARKS[1])).unwrap();
        record().publish(folder.path()).unwrap();
        let text = fs::read_to_string(&results).unwrap();
        assert!(text.starts_with("words\n") && text.ends_with("\nmore\n") && !text.contains("old"), "{text}");
        assert_eq!(Record::read(&folder.path().join(RECORDED)).unwrap(), record());
        // The file of the workspace has the marks.
        let ours = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("RESULTS.md")).unwrap();
        assert!(replace_between(&ours, MARKS, "").is_some());
    }
}
