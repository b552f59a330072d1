//! Folders of JPEG and PNG files, one folder per class.

use super::ImageSet;
use autodidact_core::{Error, Result};
use image::imageops::FilterType;
use rayon::prelude::*;
use std::path::{Path, PathBuf};
use tch::Tensor;

/// Reads `root/CLASS/*.{jpg,jpeg,png}`: classes and files in alphabetical order, every image converted to RGB, scaled
/// so that it covers `size` x `size` pixels and cropped around its centre; `Uint8 [N, 3, size, size]`.
///
/// The first file that cannot be decoded, a missing folder, and a folder without images are errors.
pub fn image_folder(root: &Path, size: u32) -> Result<ImageSet> {
    if size == 0 {
        return Err(Error::value("size", "at least 1 pixel", size));
    }
    let mut classes = Vec::new();
    let mut files = Vec::new();
    for folder in entries(root)?.into_iter().filter(|p| p.is_dir()) {
        let label = classes.len() as i64;
        classes.push(folder.file_name().unwrap_or_default().to_string_lossy().into_owned());
        files.extend(entries(&folder)?.into_iter().filter(|p| is_image(p)).map(|p| (p, label)));
    }
    if files.is_empty() {
        let found = format!("{} class folders without images", classes.len());
        return Err(Error::format(root, "folders (one per class) of JPEG or PNG files", found));
    }
    let pixels: Vec<Vec<u8>> = files.par_iter().map(|(file, _)| decode(file, size)).collect::<Result<_>>()?;
    let labels: Vec<i64> = files.iter().map(|(_, label)| *label).collect();
    let side = i64::from(size);
    let images = Tensor::from_slice(&pixels.concat()).view([files.len() as i64, side, side, 3]);
    ImageSet::new(images.permute([0, 3, 1, 2]).contiguous(), Tensor::from_slice(&labels), classes)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let listed = std::fs::read_dir(folder).map_err(|e| crate::files::io_error(folder, "a folder", e))?;
    let mut paths =
        listed.map(|entry| entry.map(|e| e.path()).map_err(|e| Error::io(folder, e))).collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    ["jpg", "jpeg", "png"].contains(&extension.as_str())
}

fn decode(file: &Path, size: u32) -> Result<Vec<u8>> {
    let image = image::ImageReader::open(file)
        .and_then(|reader| reader.with_guessed_format())
        .map_err(|e| Error::io(file, e))?
        .decode()
        .map_err(|e| Error::format(file, "a JPEG or PNG image", e.to_string()))?;
    Ok(image.resize_to_fill(size, size, FilterType::Triangle).into_rgb8().into_raw())
}
