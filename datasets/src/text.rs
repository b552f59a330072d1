//! Plain text, JSON lines and parallel sentences; each file may be compressed by gzip.

use crate::files;
use autodidact_core::{Error, Result};
use serde::de::DeserializeOwned;
use std::io::{BufRead, BufReader, Read};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

/// The text of a UTF-8 file. Bytes that are not UTF-8 are an error that names their line.
pub fn read_text(path: &Path) -> Result<String> {
    files::read_text(path, "a text file")
}

/// The records of a JSON-lines file, read one by one as they are asked for; blank lines are skipped.
///
/// A line that does not hold a `T` is an error naming file and line; the iteration can go on behind it.
///
/// ```no_run
/// use autodidact_datasets::text::JsonLines;
/// #[derive(serde::Deserialize)]
/// struct Problem {
///     question: String,
///     answer: String,
/// }
/// for problem in JsonLines::<Problem>::open("gsm8k/train.jsonl".as_ref())? {
///     let Problem { question, answer } = problem?;
///     println!("{question} {answer}");
/// }
/// # Ok::<(), autodidact_core::Error>(())
/// ```
pub struct JsonLines<T> {
    path: PathBuf,
    reader: Box<dyn BufRead + Send>,
    line: usize,
    record: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> JsonLines<T> {
    /// Opens the file.
    pub fn open(path: &Path) -> Result<Self> {
        let file = std::fs::File::open(path).map_err(|e| files::io_error(path, "a JSON-lines file", e))?;
        let mut plain = BufReader::new(file);
        let gzip = plain.fill_buf().map_err(|e| Error::io(path, e))?.starts_with(&[0x1f, 0x8b]);
        let reader: Box<dyn BufRead + Send> =
            if gzip { Box::new(BufReader::new(flate2::read::MultiGzDecoder::new(plain))) } else { Box::new(plain) };
        Ok(Self { path: path.to_owned(), reader, line: 0, record: PhantomData })
    }
}

impl<T: DeserializeOwned> Iterator for JsonLines<T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut text = Vec::new();
        loop {
            self.line += 1;
            text.clear();
            match self.reader.by_ref().read_until(b'\n', &mut text) {
                Ok(0) => return None,
                Ok(_) if text.trim_ascii().is_empty() => {}
                Ok(_) => break,
                Err(e) => {
                    // The stream cannot be read any further; the next call ends the iteration.
                    self.reader = Box::new(std::io::empty());
                    let found = format!("{e} on line {}", self.line);
                    return Some(Err(Error::format(&self.path, "a readable JSON-lines file", found)));
                }
            }
        }
        Some(
            serde_json::from_slice(&text)
                .map_err(|e| Error::format(&self.path, format!("a JSON record on line {}", self.line), e.to_string())),
        )
    }
}

/// Pairs of lines of two files, one sentence a line (Multi30k and most translation corpora). Files of different
/// length are an error.
pub fn parallel_sentences(source: &Path, target: &Path) -> Result<Vec<(String, String)>> {
    let expected = "a file with one sentence a line";
    let (a, b) = (files::read_text(source, expected)?, files::read_text(target, expected)?);
    let (lines, other) = (a.lines().count(), b.lines().count());
    if lines != other {
        let expected = format!("{lines} lines, as many as {}", source.display());
        return Err(Error::format(target, expected, format!("{other} lines")));
    }
    Ok(a.lines().zip(b.lines()).map(|(a, b)| (a.trim().to_owned(), b.trim().to_owned())).collect())
}

/// Sentences with their translations, in three parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParallelText {
    /// For training.
    pub train: Vec<(String, String)>,
    /// For choices.
    pub validation: Vec<(String, String)>,
    /// For the result.
    pub test: Vec<(String, String)>,
}

/// Multi30k (Elliott et al., 2016) from English, its original, to German: `train`, `val` and `test_2016_flickr` in a folder, each with the
/// ending of its language, plain or compressed.
///
/// # Errors
/// Files that are missing, or of different lengths.
pub fn multi30k(folder: &Path) -> Result<ParallelText> {
    let file = |part: &str, language: &str| {
        let compressed = folder.join(format!("{part}.{language}.gz"));
        if compressed.is_file() { compressed } else { folder.join(format!("{part}.{language}")) }
    };
    let part = |name: &str| parallel_sentences(&file(name, "en"), &file(name, "de"));
    Ok(ParallelText { train: part("train")?, validation: part("val")?, test: part("test_2016_flickr")? })
}
