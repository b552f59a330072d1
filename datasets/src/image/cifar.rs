//! CIFAR-10 and CIFAR-100, binary version (Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images").
//!
//! A record is one label byte (CIFAR-10) or a coarse and a fine label byte (CIFAR-100), then 3,072 bytes: 32x32 red,
//! green, blue.

use super::ImageSet;
use crate::files::{io_error, read, utf8};
use autodidact_core::{Error, Result};
use flate2::read::GzDecoder;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use tch::Tensor;

const PIXELS: usize = 3 * 32 * 32;

/// CIFAR's two parts, and how much of the training part was there.
#[derive(Debug)]
pub struct Cifar {
    /// Training images, `Uint8 [N, 3, 32, 32]`.
    pub train: ImageSet,
    /// Test images, `Uint8 [N, 3, 32, 32]`.
    pub test: ImageSet,
    /// The number of training files found: 1 to 5 for CIFAR-10 (10,000 images each), 1 for CIFAR-100.
    pub train_batches: usize,
}

/// CIFAR-10 from a folder with `data_batch_*.bin` (at least one of the five) and `test_batch.bin`, or from the
/// publisher's `cifar-10-binary.tar.gz`.
pub fn cifar10(path: &Path) -> Result<Cifar> {
    let names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
    load(path, "data_batch_", "test_batch.bin", "batches.meta.txt", 1, &names.map(String::from))
}

/// CIFAR-100 with its fine labels, from a folder with `train.bin` and `test.bin`, or from the publisher's
/// `cifar-100-binary.tar.gz`. Classes are named by `fine_label_names.txt` when it is there, else numbered.
pub fn cifar100(path: &Path) -> Result<Cifar> {
    let numbered: Vec<String> = (0..100).map(|k| k.to_string()).collect();
    load(path, "train", "test.bin", "fine_label_names.txt", 2, &numbered)
}

fn load(path: &Path, train: &str, test: &str, meta: &str, label_bytes: usize, classes: &[String]) -> Result<Cifar> {
    let is_train = |name: &str| name.starts_with(train) && name.ends_with(".bin");
    let members = members(path, |name| is_train(name) || name == test || name == meta)?;
    let missing = |name: &str| Error::format(path, format!("a file {name}"), "no such file in it");

    let mut classes = classes.to_vec();
    if let Some((file, bytes)) = members.get(meta) {
        let names: Vec<String> =
            utf8(file, bytes.clone())?.lines().map(|l| l.trim().to_owned()).filter(|l| !l.is_empty()).collect();
        if names.len() != classes.len() {
            return Err(Error::format(file, format!("{} class names", classes.len()), format!("{}", names.len())));
        }
        classes = names;
    }
    let set = |parts: &[&(PathBuf, Vec<u8>)]| -> Result<ImageSet> {
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        for (file, bytes) in parts {
            parse(file, bytes, label_bytes, classes.len(), &mut pixels, &mut labels)?;
        }
        let images = Tensor::from_slice(&pixels).view([labels.len() as i64, 3, 32, 32]);
        ImageSet::new(images, Tensor::from_slice(&labels), classes.clone())
    };
    let batches: Vec<_> = members.iter().filter(|(name, _)| is_train(name)).map(|(_, member)| member).collect();
    if batches.is_empty() {
        return Err(missing(&format!("{train}*.bin")));
    }
    let test = members.get(test).ok_or_else(|| missing(test))?;
    Ok(Cifar { train: set(&batches)?, test: set(&[test])?, train_batches: batches.len() })
}

/// The wanted files of a folder or of a `.tar.gz`, by name.
fn members(path: &Path, wanted: impl Fn(&str) -> bool) -> Result<BTreeMap<String, (PathBuf, Vec<u8>)>> {
    let expected = "a folder or .tar.gz of CIFAR in its binary version";
    let mut found = BTreeMap::new();
    if path.is_dir() {
        for entry in std::fs::read_dir(path).map_err(|e| Error::io(path, e))? {
            let file = entry.map_err(|e| Error::io(path, e))?.path();
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if wanted(&name) {
                let bytes = read(&file, expected)?;
                found.insert(name, (file, bytes));
            }
        }
        return Ok(found);
    }
    let file = std::fs::File::open(path).map_err(|e| io_error(path, expected, e))?;
    let damaged = |e: std::io::Error| Error::format(path, "a complete .tar.gz archive", e.to_string());
    let mut archive = tar::Archive::new(GzDecoder::new(std::io::BufReader::new(file)));
    for entry in archive.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let inner = entry.path().map_err(damaged)?.into_owned();
        let name = inner.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if entry.header().entry_type().is_file() && wanted(&name) {
            let mut bytes = Vec::with_capacity(entry.size() as usize);
            entry.read_to_end(&mut bytes).map_err(damaged)?;
            found.insert(name, (path.join(inner), bytes));
        }
    }
    Ok(found)
}

fn parse(
    file: &Path,
    bytes: &[u8],
    label_bytes: usize,
    classes: usize,
    pixels: &mut Vec<u8>,
    labels: &mut Vec<i64>,
) -> Result<()> {
    let record = label_bytes + PIXELS;
    if bytes.is_empty() || !bytes.len().is_multiple_of(record) {
        let expected = format!("a positive multiple of {record} bytes (one record each)");
        return Err(Error::format(file, expected, format!("{} bytes", bytes.len())));
    }
    for (i, chunk) in bytes.chunks_exact(record).enumerate() {
        let label = chunk[label_bytes - 1];
        if label as usize >= classes {
            return Err(Error::format(file, format!("labels below {classes}"), format!("label {label} in record {i}")));
        }
        labels.push(label.into());
        pixels.extend_from_slice(&chunk[label_bytes..]);
    }
    Ok(())
}
