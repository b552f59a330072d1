//! The formats of MovieLens and of Amazon's reviews.

use super::Interactions;
use crate::files;
use autodidact_core::{Error, Result};
use std::collections::HashMap;
use std::path::Path;

/// MovieLens 100K: the folder with `u.data` (`user<TAB>item<TAB>rating<TAB>timestamp`), and with `u.item` and `u.genre` if genres are wanted.
/// Every rating counts as an interaction.
///
/// # Errors
/// Files that are missing or break the format, with the line.
pub fn movielens_100k(folder: &Path) -> Result<Interactions> {
    let mut all = ratings(&folder.join("u.data"), "\t", "user, item, rating and timestamp between tabs")?;
    let (names, movies) = (folder.join("u.genre"), folder.join("u.item"));
    if !names.is_file() || !movies.is_file() {
        return Ok(all);
    }
    let text = latin1(&names)?;
    let genres = text.lines().filter_map(|line| line.split_once('|')).map(|(name, _)| name.to_owned());
    all.genre_names = genres.collect();
    let fields = 5 + all.genre_names.len();
    let expected = format!("{fields} fields between |, of which the last {} are 0 or 1", all.genre_names.len());
    let text = latin1(&movies)?;
    let mut found = HashMap::new();
    for (line, row) in lines(&text) {
        let cells: Vec<&str> = row.split('|').collect();
        if cells.len() != fields || cells[5..].iter().any(|flag| !["0", "1"].contains(flag)) {
            return Err(misfit(&movies, line, &expected, row));
        }
        let flags = cells[5..].iter().enumerate().filter(|(_, flag)| **flag == "1");
        found.insert(cells[0], flags.map(|(genre, _)| genre).collect());
    }
    all.genres = all.items.iter().map(|item| found.remove(item.as_str()).unwrap_or_default()).collect();
    Ok(all)
}

/// MovieLens 1M: the folder with `ratings.dat` (`user::item::rating::timestamp`), and with `movies.dat` (`item::title::genre|genre`) if genres
/// are wanted. Every rating counts as an interaction.
///
/// # Errors
/// As [`movielens_100k`].
pub fn movielens_1m(folder: &Path) -> Result<Interactions> {
    let mut all = ratings(&folder.join("ratings.dat"), "::", "user, item, rating and timestamp between ::")?;
    let movies = folder.join("movies.dat");
    if !movies.is_file() {
        return Ok(all);
    }
    let text = latin1(&movies)?;
    let mut found = HashMap::new();
    for (line, row) in lines(&text) {
        let [item, _, genres] = row.split("::").collect::<Vec<_>>()[..] else {
            return Err(misfit(&movies, line, "item, title and genres between ::", row));
        };
        let index = |name: &str| {
            all.genre_names.iter().position(|known| known == name).unwrap_or_else(|| {
                all.genre_names.push(name.to_owned());
                all.genre_names.len() - 1
            })
        };
        found.insert(item, genres.split('|').map(index).collect());
    }
    all.genres = all.items.iter().map(|item| found.remove(item.as_str()).unwrap_or_default()).collect();
    Ok(all)
}

/// Ratings of Amazon's reviews as comma-separated values (plain or gzip): without a header `user,item,rating,timestamp`, as `ratings_Beauty.csv`
/// has it; with one, its columns `user_id`, `parent_asin` (or `asin`) and `timestamp` in any order. Every review counts as an interaction.
///
/// # Errors
/// A file that is missing or breaks the format, with the line.
pub fn amazon(path: &Path) -> Result<Interactions> {
    const EXPECTED: &str = "user, item, rating and timestamp between commas";
    let text = files::read_text(path, "ratings as comma-separated values")?;
    let mut rows = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
    let mut columns: Option<[usize; 3]> = None;
    let mut events = vec![];
    for row in rows.records() {
        let row = row.map_err(|e| Error::format(path, EXPECTED, e.to_string()))?;
        let line = row.position().map_or(0, csv::Position::line);
        let Some([user, item, time]) = columns else {
            let at = |name: &str| row.iter().position(|cell| cell == name);
            columns = match (at("user_id"), at("parent_asin").or_else(|| at("asin")), at("timestamp")) {
                (Some(user), Some(item), Some(time)) => Some([user, item, time]),
                _ => {
                    events.push(event(path, line, EXPECTED, &row, [0, 1, 3])?);
                    Some([0, 1, 3])
                }
            };
            continue;
        };
        events.push(event(path, line, EXPECTED, &row, [user, item, time])?);
    }
    not_empty(path, EXPECTED, events)
}

/// A row's user, item and time.
fn event(
    path: &Path,
    line: u64,
    expected: &str,
    row: &csv::StringRecord,
    columns: [usize; 3],
) -> Result<(String, String, i64)> {
    let broken = || misfit(path, line as usize, expected, &row.iter().collect::<Vec<_>>().join(","));
    let [user, item, time] = columns.map(|c| row.get(c).map(str::trim).filter(|cell| !cell.is_empty()));
    let time = time.and_then(|t| t.parse().ok()).ok_or_else(broken)?;
    Ok((user.ok_or_else(broken)?.to_owned(), item.ok_or_else(broken)?.to_owned(), time))
}

/// Lines of four fields: user, item, rating, timestamp.
fn ratings(path: &Path, separator: &str, expected: &str) -> Result<Interactions> {
    let text = latin1(path)?;
    let mut events = vec![];
    for (line, row) in lines(&text) {
        let broken = || misfit(path, line, expected, row);
        let [user, item, rating, time] = row.split(separator).collect::<Vec<_>>()[..] else { return Err(broken()) };
        let time = time.trim().parse().map_err(|_| broken())?;
        if user.is_empty() || item.is_empty() || rating.trim().parse::<f64>().is_err() {
            return Err(broken());
        }
        events.push((user.to_owned(), item.to_owned(), time));
    }
    not_empty(path, expected, events)
}

fn not_empty(path: &Path, expected: &str, events: Vec<(String, String, i64)>) -> Result<Interactions> {
    if events.is_empty() {
        return Err(Error::format(path, expected, "no lines"));
    }
    Ok(Interactions::from_events(events))
}

/// Lines that are not empty, numbered from 1.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines()).filter(|(_, row)| !row.is_empty())
}

fn misfit(path: &Path, line: usize, expected: &str, row: &str) -> Error {
    let shown: String = row.chars().take(80).collect();
    Error::format(path, format!("{expected}, on line {line}"), format!("{shown:?}"))
}

/// MovieLens' files are in ISO 8859-1.
fn latin1(path: &Path) -> Result<String> {
    let bytes = files::read_plain_or_gz(path, "a file of MovieLens")?;
    Ok(bytes.into_iter().map(char::from).collect())
}
