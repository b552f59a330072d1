//! Tables: CSV and ARFF.

use crate::files;
use autodidact_core::{Error, Result};
use std::path::{Path, PathBuf};
use tch::{Kind, Tensor};

/// What a column holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Numbers; a missing one is NaN.
    Numeric(Vec<f64>),
    /// Categories.
    Nominal {
        /// For each row the index into `levels`; a missing value is its own level `"?"`.
        codes: Vec<i64>,
        /// The names of the categories: sorted (CSV) or as declared (ARFF).
        levels: Vec<String>,
    },
}

/// A named column.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Its name: from the header, or its number from 0.
    pub name: String,
    /// Its values, one per row.
    pub values: Values,
}

/// A table in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// The columns, all of the same length.
    pub columns: Vec<Column>,
    path: PathBuf,
}

/// Reads a comma-separated file (plain or gzip). A column is numeric when all its cells are numbers, empty or `?`, else
/// nominal; cells may be quoted by `"` or `'`. A row of another length than the first is an error naming its line.
pub fn read_csv(path: &Path, header: bool) -> Result<Table> {
    let text = files::read_text(path, "a CSV file")?;
    let mut rows = records(path, &text, 1, None)?;
    if rows.is_empty() || (header && rows.len() == 1) {
        return Err(Error::format(path, "at least one row of data", format!("{} lines", rows.len())));
    }
    let names: Vec<String> =
        if header { rows.remove(0).1 } else { (0..rows[0].1.len()).map(|k| k.to_string()).collect() };
    let columns = names.into_iter().enumerate().map(|(k, name)| {
        let cells: Vec<&str> = rows.iter().map(|(_, row)| row[k].as_str()).collect();
        let numbers: Option<Vec<f64>> = cells.iter().map(|cell| number(cell)).collect();
        let values = numbers.map_or_else(|| nominal(&cells), Values::Numeric);
        Column { name, values }
    });
    Ok(Table { columns: columns.collect(), path: path.to_owned() })
}

/// Reads an ARFF file (Weka's attribute-relation format; plain or gzip) with numeric and nominal attributes. A value
/// that does not fit its attribute is an error naming line and attribute.
pub fn read_arff(path: &Path) -> Result<Table> {
    let text = files::read_text(path, "an ARFF file")?;
    let mut attributes: Vec<(String, Option<Vec<String>>)> = Vec::new();
    let mut lines = text.split_inclusive('\n').enumerate();
    let mut offset = 0;
    let first = loop {
        let Some((i, line)) = lines.next() else {
            return Err(Error::format(
                path,
                "an @DATA section",
                format!("{} attributes and no @DATA", attributes.len()),
            ));
        };
        offset += line.len();
        let line = line.trim();
        let keyword = line.split_whitespace().next().unwrap_or_default().to_lowercase();
        match keyword.as_str() {
            "" | "@relation" => {}
            "@attribute" => attributes.push(attribute(path, i + 1, line["@attribute".len()..].trim())?),
            "@data" => break i + 2,
            _ if line.starts_with('%') => {}
            _ => return Err(Error::format(path, format!("an ARFF declaration on line {}", i + 1), line)),
        }
    };
    let rows = records(path, &text[offset..], first, Some(attributes.len()))?;
    if rows.is_empty() {
        return Err(Error::format(path, "at least one row of data", "none"));
    }
    let column = |k: usize, name: String, levels: Option<Vec<String>>| -> Result<Column> {
        let misfit = |line: usize, cell: &str, what: &str| {
            Error::format(path, format!("{what} for attribute {name} on line {line}"), format!("{cell:?}"))
        };
        let values = match levels {
            None => Values::Numeric(
                rows.iter()
                    .map(|(line, row)| number(&row[k]).ok_or_else(|| misfit(*line, &row[k], "a number")))
                    .collect::<Result<_>>()?,
            ),
            Some(mut levels) => {
                let missing = rows.iter().any(|(_, row)| row[k] == "?");
                levels.extend(missing.then(|| "?".to_owned()));
                let code = |(line, row): &(usize, Vec<String>)| {
                    let found = levels.iter().position(|level| *level == row[k]);
                    found.map(|c| c as i64).ok_or_else(|| misfit(*line, &row[k], "a declared value"))
                };
                Values::Nominal { codes: rows.iter().map(code).collect::<Result<_>>()?, levels }
            }
        };
        Ok(Column { name: name.clone(), values })
    };
    let columns = attributes.into_iter().enumerate().map(|(k, (name, levels))| column(k, name, levels));
    Ok(Table { columns: columns.collect::<Result<_>>()?, path: path.to_owned() })
}

/// Name and, for a nominal attribute, the declared values.
fn attribute(path: &Path, line: usize, text: &str) -> Result<(String, Option<Vec<String>>)> {
    let quote = text.chars().next().filter(|c| ['\'', '"'].contains(c));
    let (name, kind) = match quote {
        Some(q) => text[1..].split_once(q).unwrap_or_default(),
        None => text.split_once(char::is_whitespace).unwrap_or_default(),
    };
    let kind = kind.trim();
    if let Some(list) = kind.strip_prefix('{').and_then(|k| k.strip_suffix('}')) {
        return Ok((name.to_owned(), Some(list.split(',').map(|v| unquote(v).to_owned()).collect())));
    }
    match kind.to_lowercase().as_str() {
        "numeric" | "real" | "integer" => Ok((name.to_owned(), None)),
        _ => {
            let expected = format!("a numeric or nominal attribute on line {line}");
            Err(Error::format(path, expected, format!("@attribute {text}")))
        }
    }
}

/// The rows with their line numbers; all of `width` cells, or as many as the first.
fn records(path: &Path, text: &str, first_line: usize, width: Option<usize>) -> Result<Vec<(usize, Vec<String>)>> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .comment(width.map(|_| b'%'))
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let mut rows: Vec<(usize, Vec<String>)> = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|e| Error::format(path, "comma-separated rows", e.to_string()))?;
        let line = record.position().map_or(0, |p| p.line() as usize) + first_line - 1;
        let wanted = width.or(rows.first().map(|(_, row)| row.len())).unwrap_or(record.len());
        if record.len() != wanted {
            let found = format!("{} cells", record.len());
            return Err(Error::format(path, format!("{wanted} cells on line {line}"), found));
        }
        rows.push((line, record.iter().map(|cell| unquote(cell).to_owned()).collect()));
    }
    Ok(rows)
}

fn unquote(cell: &str) -> &str {
    let cell = cell.trim();
    cell.strip_prefix('\'').and_then(|c| c.strip_suffix('\'')).unwrap_or(cell)
}

fn number(cell: &str) -> Option<f64> {
    if cell.is_empty() || cell == "?" { Some(f64::NAN) } else { cell.parse().ok() }
}

fn nominal(cells: &[&str]) -> Values {
    let mut levels: Vec<String> = cells.iter().map(|&c| if c.is_empty() { "?" } else { c }.to_owned()).collect();
    levels.sort();
    levels.dedup();
    let code = |cell: &&str| {
        let name = if cell.is_empty() { "?" } else { *cell };
        levels.binary_search_by(|level| level.as_str().cmp(name)).expect("a level of its own") as i64
    };
    Values::Nominal { codes: cells.iter().map(code).collect(), levels }
}

impl Table {
    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.columns.first().map_or(0, |c| match &c.values {
            Values::Numeric(values) => values.len(),
            Values::Nominal { codes, .. } => codes.len(),
        })
    }

    /// The column called `name`.
    pub fn column(&self, name: &str) -> Result<&Column> {
        let found = self.columns.iter().find(|c| c.name == name);
        let names = || self.columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
        found.ok_or_else(|| Error::format(&self.path, format!("a column {name}"), format!("columns {}", names())))
    }

    /// Features and labels for classification, with the last column as label: `Double [N, D]`, where a nominal column
    /// becomes one 0/1 column per level; `Int64 [N]`; and the names of the classes, sorted.
    pub fn classification(&self) -> Result<(Tensor, Tensor, Vec<String>)> {
        let [features @ .., label] = &self.columns[..] else {
            return Err(Error::format(&self.path, "columns", "none"));
        };
        let columns: Vec<Tensor> = features
            .iter()
            .map(|column| match &column.values {
                Values::Numeric(values) => Tensor::from_slice(values).unsqueeze(1),
                Values::Nominal { codes, levels } => {
                    Tensor::from_slice(codes).one_hot(levels.len() as i64).to_kind(Kind::Double)
                }
            })
            .collect();
        let values = match &label.values {
            Values::Nominal { .. } => label.values.clone(),
            Values::Numeric(values) => {
                let names: Vec<String> = values.iter().map(f64::to_string).collect();
                nominal(&names.iter().map(String::as_str).collect::<Vec<_>>())
            }
        };
        match values {
            Values::Nominal { codes, levels } if !columns.is_empty() => {
                Ok((Tensor::cat(&columns, 1), Tensor::from_slice(&codes), levels))
            }
            _ => Err(Error::format(&self.path, "at least one feature before the label", "one column")),
        }
    }
}
