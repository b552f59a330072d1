//! Unpacking the few files of a wheel (a zip archive) that set-up needs.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::Path;

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use zip::ZipArchive;

/// Unpacks the files of `wheel` that `place` gives a path for, relative to `into`; returns how many there were.
///
/// Every file's length and checksum is compared with the archive's own record of it, so a damaged wheel is an error.
pub fn unpack(wheel: &Path, into: &Path, place: impl Fn(&str) -> Option<String>) -> Result<usize> {
    let name = wheel.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let damaged = || format!("{name} is damaged");
    let mut archive = ZipArchive::new(BufReader::new(File::open(wheel)?)).with_context(damaged)?;

    let mut chosen = Vec::new();
    let mut bytes = 0;
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).with_context(damaged)?;
        let path = entry.name().with_context(damaged)?;
        if entry.is_file()
            && let Some(target) = place(&path)
        {
            if entry.enclosed_name().is_none() {
                bail!("{name} is damaged: {path} points outside of it");
            }
            bytes += entry.size();
            chosen.push((index, target));
        }
    }

    let bar = bar(bytes, &name);
    for (index, target) in &chosen {
        let mut entry = archive.by_index(*index).with_context(damaged)?;
        let expected = entry.size();
        let path = into.join(target);
        let write = || -> io::Result<File> {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            File::create(&path)
        };
        let mut file = write().with_context(|| format!("writing {}", path.display()))?;
        let copied = io::copy(&mut bar.wrap_read(&mut entry), &mut file)
            .with_context(|| format!("unpacking {target} from {name}"))?;
        if copied != expected {
            bail!("{name} is damaged: {target} has {copied} bytes of {expected}");
        }
    }
    bar.finish_and_clear();
    Ok(chosen.len())
}

/// A bar on a terminal, one plain line elsewhere.
fn bar(bytes: u64, name: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("  unpacking {msg} [{bar:30}] {bytes}/{total_bytes} {eta}")
        .expect("the template is valid")
        .progress_chars("=> ");
    let bar = ProgressBar::new(bytes).with_style(style).with_message(name.to_owned());
    if bar.is_hidden() {
        eprintln!("  unpacking {name}");
    }
    bar
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use std::io::Write;
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    /// Writes a wheel with the given files.
    pub fn fake(path: &Path, files: &[(&str, &str)]) {
        let mut zip = ZipWriter::new(File::create(path).unwrap());
        for (name, content) in files {
            zip.start_file(*name, SimpleFileOptions::default()).unwrap();
            zip.write_all(content.as_bytes()).unwrap();
        }
        zip.finish().unwrap();
    }

    const FILES: &[(&str, &str)] = &[
        ("torch/include/torch/torch.h", "a header of some length, so that it can be damaged"),
        ("torch/lib/libtorch_cpu.so", "a library of some length, so that it can be damaged"),
        ("torch/nn/__init__.py", "not needed"),
    ];

    fn place(entry: &str) -> Option<String> {
        (!entry.ends_with(".py")).then(|| entry.replacen("torch/", "moved/", 1))
    }

    #[test]
    fn chosen_files_land_where_they_are_placed() {
        let dir = tempfile::tempdir().unwrap();
        let wheel = dir.path().join("torch.whl");
        fake(&wheel, FILES);
        assert_eq!(unpack(&wheel, &dir.path().join("out"), place).unwrap(), 2);
        for (name, content) in &FILES[..2] {
            let moved = dir.path().join("out").join(place(name).unwrap());
            assert_eq!(fs::read_to_string(moved).unwrap(), *content);
        }
        assert!(!dir.path().join("out/torch").exists());
    }

    #[test]
    fn every_damaged_byte_of_a_needed_file_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let wheel = dir.path().join("torch.whl");
        fake(&wheel, FILES);
        let whole = fs::read(&wheel).unwrap();
        let start = whole.windows(5).position(|window| window == b"torch").unwrap() + FILES[0].0.len();
        for at in start..start + 20 {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            fs::write(&wheel, &bytes).unwrap();
            assert!(unpack(&wheel, &dir.path().join("out"), place).is_err(), "byte {at} was changed");
        }
    }

    #[test]
    fn a_truncated_wheel_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let wheel = dir.path().join("torch.whl");
        fake(&wheel, FILES);
        let whole = fs::read(&wheel).unwrap();
        for length in [0, 10, whole.len() / 2, whole.len() - 1] {
            fs::write(&wheel, &whole[..length]).unwrap();
            let error = unpack(&wheel, &dir.path().join("out"), place).unwrap_err().to_string();
            assert!(error.contains("torch.whl is damaged"), "{error}");
        }
    }

    #[test]
    fn a_path_out_of_the_wheel_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let wheel = dir.path().join("evil.whl");
        fake(&wheel, &[("torch/../../escaped", "x")]);
        let error = unpack(&wheel, &dir.path().join("out"), |entry| Some(entry.to_owned())).unwrap_err().to_string();
        assert!(error.contains("outside"), "{error}");
        assert!(!dir.path().join("escaped").exists());
    }
}
