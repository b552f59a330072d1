//! A CSV file with a header, whose errors name line and column.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

pub struct Table {
    path: PathBuf,
    header: Vec<String>,
    /// Line in the file, and fields.
    rows: Vec<(u64, Vec<String>)>,
}

impl Table {
    pub fn read(path: &Path) -> Result<Self> {
        let mut reader = csv::ReaderBuilder::new()
            .trim(csv::Trim::All)
            .flexible(true)
            .comment(Some(b'#'))
            .from_path(path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        let header: Vec<String> = reader.headers().context("no header")?.iter().map(String::from).collect();
        let mut rows = vec![];
        for record in reader.records() {
            let record = record.with_context(|| format!("cannot read {}", path.display()))?;
            let line = record.position().map_or(0, csv::Position::line);
            if record.len() != header.len() {
                bail!("{}, line {line}: {} fields where the header has {}", path.display(), record.len(), header.len());
            }
            rows.push((line, record.iter().map(String::from).collect()));
        }
        if rows.is_empty() {
            bail!("{}: no lines below the header", path.display());
        }
        Ok(Self { path: path.to_owned(), header, rows })
    }

    /// The fields of a column with their lines.
    pub fn column(&self, name: &str) -> Result<impl Iterator<Item = (u64, &str)>> {
        let at = self.header.iter().position(|h| h.eq_ignore_ascii_case(name)).with_context(|| {
            let header = self.header.join(", ");
            format!("{}, line 1: no column {name}; there are {header} (--columns names others)", self.path.display())
        })?;
        Ok(self.rows.iter().map(move |(line, fields)| (*line, fields[at].as_str())))
    }

    /// A column of positive numbers.
    pub fn numbers(&self, name: &str) -> Result<Vec<f64>> {
        self.column(name)?.map(|(line, text)| self.number(line, name, text)).collect()
    }

    /// A field as a positive number.
    pub fn number(&self, line: u64, name: &str, text: &str) -> Result<f64> {
        match text.parse::<f64>() {
            Ok(v) if v.is_finite() && v > 0.0 => Ok(v),
            _ => bail!("{}, line {line}, column {name}: expected a positive number, got {text:?}", self.path.display()),
        }
    }

    /// A column of names, numbered in the order in which they come.
    pub fn labels(&self, name: &str) -> Result<Vec<usize>> {
        let mut seen: Vec<&str> = vec![];
        let number = |text| {
            seen.iter().position(|s| *s == text).unwrap_or_else(|| {
                seen.push(text);
                seen.len() - 1
            })
        };
        Ok(self.column(name)?.map(|(_, text)| text).map(number).collect())
    }
}
