//! Reading files with errors that name the file, what was expected and what was found.

use autodidact_core::{Error, Result};
use flate2::read::MultiGzDecoder;
use std::io::Read;
use std::path::Path;

/// Error for an I/O failure at `path`: a missing file says what was expected there.
pub(crate) fn io_error(path: &Path, expected: &str, error: std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::NotFound => Error::format(path, expected, "no such file"),
        _ => Error::io(path, error),
    }
}

/// The bytes of a file, as they are.
pub(crate) fn read(path: &Path, expected: &str) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| io_error(path, expected, e))
}

/// The bytes of a file, decompressed when they begin with gzip's magic number.
pub(crate) fn read_plain_or_gz(path: &Path, expected: &str) -> Result<Vec<u8>> {
    let bytes = read(path, expected)?;
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        if path.extension().is_some_and(|e| e == "gz") {
            let found = format!("a file that begins with {:02x?}", &bytes[..bytes.len().min(2)]);
            return Err(Error::format(path, "gzip (magic number 1f 8b)", found));
        }
        return Ok(bytes);
    }
    let mut plain = Vec::new();
    MultiGzDecoder::new(&bytes[..]).read_to_end(&mut plain).map_err(|e| {
        Error::format(path, "a complete gzip stream", format!("{e} after {} decompressed bytes", plain.len()))
    })?;
    Ok(plain)
}

/// The text of a file (plain or gzip), which must be UTF-8.
pub(crate) fn read_text(path: &Path, expected: &str) -> Result<String> {
    utf8(path, read_plain_or_gz(path, expected)?)
}

/// `bytes` as text, or an error that names the line of the first byte that is not UTF-8.
pub(crate) fn utf8(path: &Path, bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|e| {
        let good = e.utf8_error().valid_up_to();
        let line = 1 + e.as_bytes()[..good].iter().filter(|&&b| b == b'\n').count();
        Error::format(path, "UTF-8 text", format!("byte 0x{:02x} on line {line}", e.as_bytes()[good]))
    })
}
