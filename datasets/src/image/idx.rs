//! IDX, the format of MNIST (LeCun, Cortes, Burges): two zero bytes, a type code (8 = unsigned byte), the number of
//! dimensions, the dimensions as big-endian 32-bit integers, the data.

use super::ImageSet;
use crate::files::read_plain_or_gz;
use autodidact_core::{Error, Result};
use std::path::{Path, PathBuf};
use tch::Tensor;

/// An array of unsigned bytes in row-major order.
#[derive(Debug, PartialEq, Eq)]
pub struct Idx {
    /// The dimensions, outermost first.
    pub dims: Vec<usize>,
    /// The values, `dims` multiplied of them.
    pub data: Vec<u8>,
}

/// Reads an IDX file of unsigned bytes with `rank` dimensions, plain or gzip.
pub fn read_idx(path: &Path, rank: usize) -> Result<Idx> {
    let bytes = read_plain_or_gz(path, "an IDX file")?;
    let magic = [0, 0, 8, rank as u8];
    if !bytes.starts_with(&magic) {
        let expected = format!("IDX magic number {magic:02x?} (unsigned bytes, {rank} dimensions)");
        return Err(Error::format(path, expected, format!("{:02x?}", &bytes[..bytes.len().min(4)])));
    }
    let header = 4 + 4 * rank;
    if bytes.len() < header {
        return Err(Error::format(path, format!("a header of {header} bytes"), format!("{} bytes", bytes.len())));
    }
    let dims: Vec<usize> =
        bytes[4..header].chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize).collect();
    let wanted = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    if wanted != Some(bytes.len() - header) {
        let expected = format!("{dims:?} values after the header");
        return Err(Error::format(path, expected, format!("{} values", bytes.len() - header)));
    }
    Ok(Idx { dims, data: bytes[header..].to_vec() })
}

/// MNIST, or a set in its format (Fashion-MNIST, KMNIST), from the publisher's four files in `folder`, plain or `.gz`:
/// training and test part, `Uint8 [N, 1, 28, 28]`, classes `"0"` to `"9"`.
pub fn mnist(folder: &Path) -> Result<(ImageSet, ImageSet)> {
    Ok((pair(folder, "train")?, pair(folder, "t10k")?))
}

fn pair(folder: &Path, part: &str) -> Result<ImageSet> {
    let (image_file, label_file) = (find(folder, part, "images", 3), find(folder, part, "labels", 1));
    let images = read_idx(&image_file, 3)?;
    let labels = read_idx(&label_file, 1)?;
    if images.dims[0] != labels.dims[0] {
        let expected = format!("{} labels, one for each image of {}", images.dims[0], image_file.display());
        return Err(Error::format(&label_file, expected, format!("{}", labels.dims[0])));
    }
    if let Some(i) = labels.data.iter().position(|&l| l > 9) {
        return Err(Error::format(&label_file, "labels below 10", format!("label {} at {i}", labels.data[i])));
    }
    let [n, h, w] = [images.dims[0] as i64, images.dims[1] as i64, images.dims[2] as i64];
    let pixels = Tensor::from_slice(&images.data).view([n, 1, h, w]);
    let labels: Vec<i64> = labels.data.into_iter().map(i64::from).collect();
    ImageSet::new(pixels, Tensor::from_slice(&labels), (0..10).map(|k| k.to_string()).collect())
}

/// The first of the names in use that exists, else the publisher's own, whose absence the reader then reports.
fn find(folder: &Path, part: &str, what: &str, rank: usize) -> PathBuf {
    let publisher = folder.join(format!("{part}-{what}-idx{rank}-ubyte.gz"));
    let plain = folder.join(format!("{part}-{what}-idx{rank}-ubyte"));
    let dotted = folder.join(format!("{part}-{what}.idx{rank}-ubyte"));
    [&plain, &dotted].into_iter().find(|p| p.exists()).cloned().unwrap_or(publisher)
}
