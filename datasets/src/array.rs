//! Arrays: NumPy's `.npy`, versions 1 to 3.

use crate::files::read;
use autodidact_core::{Error, Result};
use std::path::Path;
use tch::{Kind, Tensor};

/// Reads an array of `float32`, `float64`, `int32`, `int64` or `uint8`, little-endian and in C order, as a tensor of
/// its shape and type. Other types and Fortran order are errors that name them.
pub fn read_npy(path: &Path) -> Result<Tensor> {
    let bytes = read(path, "a .npy file")?;
    let wrong = |expected: &str, found: String| Error::format(path, expected, found);
    if !bytes.starts_with(b"\x93NUMPY") {
        return Err(wrong("NumPy's magic number 93 4e 55 4d 50 59", format!("{:02x?}", &bytes[..bytes.len().min(6)])));
    }
    let short = || wrong("a complete header", format!("{} bytes", bytes.len()));
    let version = *bytes.get(6).ok_or_else(short)?;
    let (start, length) = match (version, &bytes[6..]) {
        (1, [_, _, a, b, ..]) => (10usize, usize::from(u16::from_le_bytes([*a, *b]))),
        (2 | 3, [_, _, a, b, c, d, ..]) => (12, u32::from_le_bytes([*a, *b, *c, *d]) as usize),
        (1..=3, _) => return Err(short()),
        _ => return Err(wrong("format version 1, 2 or 3", format!("version {version}"))),
    };
    let header = bytes.get(start..start.saturating_add(length)).ok_or_else(short)?;
    let header = String::from_utf8_lossy(header);
    let entry = |key: &str| {
        let (_, rest) = header.split_once(&format!("'{key}':")).ok_or_else(|| wrong(key, header.trim().to_owned()))?;
        Ok::<&str, Error>(rest.trim_start())
    };
    let descr = entry("descr")?.split('\'').nth(1).unwrap_or_default();
    let (kind, size) = match descr {
        "<f4" => (Kind::Float, 4),
        "<f8" => (Kind::Double, 8),
        "<i4" => (Kind::Int, 4),
        "<i8" => (Kind::Int64, 8),
        "|u1" => (Kind::Uint8, 1),
        _ => return Err(wrong("type <f4, <f8, <i4, <i8 or |u1", format!("type {descr}"))),
    };
    if !entry("fortran_order")?.starts_with("False") {
        return Err(wrong("C order", "Fortran order".into()));
    }
    let shape = entry("shape")?;
    let inner = shape.strip_prefix('(').and_then(|s| s.split_once(')')).map_or("", |(inner, _)| inner);
    let dims: Option<Vec<i64>> =
        inner.split(',').map(str::trim).filter(|d| !d.is_empty()).map(|d| d.parse().ok()).collect();
    let dims = dims.filter(|d| d.iter().all(|&d| d >= 0)).ok_or_else(|| wrong("a shape", shape.trim().to_owned()))?;
    let data = &bytes[start + length..];
    let wanted = dims.iter().try_fold(size as i64, |n, &d| n.checked_mul(d));
    if wanted != Some(data.len() as i64) {
        return Err(wrong(&format!("{dims:?} values of {size} bytes"), format!("{} bytes of data", data.len())));
    }
    Ok(Tensor::f_from_data_size(data, &dims, kind)?)
}
