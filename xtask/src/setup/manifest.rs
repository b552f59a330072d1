//! The list of files that a finished folder holds, by which a later run sees that it is whole.
//!
//! A folder gets its final name only when it is complete, so what the list guards against is loss afterwards: files deleted by
//! hand or by a cleaner of caches, or a power failure before everything had reached the disk.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Name of the list inside the folder; it is written last.
const NAME: &str = "manifest.tsv";

/// Files from this size on are flushed one by one; a list that does not match gives small ones away after a crash.
const FLUSHED_FROM: u64 = 1 << 20;

/// Lists every file under `root` with its size, and sees to it that large files and the list are on the disk.
pub fn write(root: &Path) -> Result<()> {
    let mut lines = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
            let path = entry?.path();
            let meta = fs::symlink_metadata(&path)?;
            if meta.is_dir() {
                folders.push(path);
                continue;
            }
            if meta.is_file() && meta.len() >= FLUSHED_FROM {
                File::open(&path)?.sync_all().with_context(|| format!("writing {}", path.display()))?;
            }
            let name = path.strip_prefix(root).expect("the walk stays under its root");
            lines.push(format!("{}\t{}\n", meta.len(), name.display()));
        }
    }
    lines.sort();
    let path = root.join(NAME);
    let mut file = File::create(&path).with_context(|| format!("writing {}", path.display()))?;
    file.write_all(lines.concat().as_bytes()).and_then(|()| file.sync_all())?;
    File::open(root)?.sync_all()?;
    Ok(())
}

/// Whether `root` has a list and every file on it has its size; the first that has not is the error.
pub fn verify(root: &Path) -> Result<(), PathBuf> {
    let list = root.join(NAME);
    let text = fs::read_to_string(&list).map_err(|_| list.clone())?;
    if text.is_empty() {
        return Err(list);
    }
    for line in text.lines() {
        let (size, name) = line.split_once('\t').ok_or_else(|| list.clone())?;
        let path = root.join(name);
        match fs::symlink_metadata(&path) {
            Ok(meta) if size.parse() == Ok(meta.len()) => {}
            _ => return Err(path),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listed_folder_is_whole_until_a_file_changes() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("deep/er/file");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "four").unwrap();
        assert!(verify(dir.path()).is_err(), "without a list nothing is trusted");
        write(dir.path()).unwrap();
        assert_eq!(verify(dir.path()), Ok(()));
        fs::write(&file, "fou").unwrap();
        assert_eq!(verify(dir.path()), Err(file.clone()));
        fs::remove_file(&file).unwrap();
        assert_eq!(verify(dir.path()), Err(file));
    }

    #[test]
    fn a_damaged_list_is_not_trusted() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "four").unwrap();
        for damaged in ["", "4", "x\tfile\n"] {
            fs::write(dir.path().join(NAME), damaged).unwrap();
            assert!(verify(dir.path()).is_err(), "{damaged:?}");
        }
    }
}
