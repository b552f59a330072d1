//! The user's cache folder: where finished copies live, and the rules by which a folder becomes one.
//!
//! - Work is done in a temporary folder beside the final place and renamed when it is complete, so that a folder under its
//!   final name is never half-made.
//! - Whoever makes something holds the cache's lock. The system drops the lock of a process that dies, so a temporary folder
//!   seen by the holder of the lock belongs to nobody and is removed.

use std::env;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};

use super::{manifest, size};

/// Prefix of the temporary folders; the process that made one follows, for the human who looks.
const STAGING: &str = "tmp-";

/// The folder that set-up keeps its copies in.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

/// The right to change the cache, until dropped.
pub struct Lock {
    _file: File,
}

/// A folder in the making, removed when dropped unless it was published.
pub struct Staging<'a> {
    cache: &'a Cache,
    path: PathBuf,
}

impl Cache {
    /// The cache of this user: `$AUTODIDACT_CACHE`, else `$XDG_CACHE_HOME/autodidact`, else `~/.cache/autodidact`.
    pub fn locate() -> Result<Self> {
        let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let root = set("AUTODIDACT_CACHE")
            .or_else(|| set("XDG_CACHE_HOME").map(|dir| dir.join("autodidact")))
            .or_else(|| set("HOME").map(|dir| dir.join(".cache/autodidact")))
            .context("no place for the libtorch copy: neither $AUTODIDACT_CACHE, $XDG_CACHE_HOME nor $HOME is set\n  set AUTODIDACT_CACHE to a folder you can write")?;
        Ok(Self { root: std::path::absolute(root)? })
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the copy called `name` is, or would be.
    pub fn entry(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Takes the lock, waiting for another set-up to end, and clears away what interrupted ones have left.
    pub fn lock(&self) -> Result<Lock> {
        let open = || {
            fs::create_dir_all(&self.root)?;
            File::options().create(true).truncate(false).write(true).open(self.root.join(".lock"))
        };
        let file = open().map_err(|error| self.unwritable(&error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                eprintln!("another set-up is at work in {}; waiting for it to end", self.root.display());
                file.lock().with_context(|| format!("locking {}", self.root.display()))?;
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("locking {}", self.root.display()));
            }
        }
        let lock = Lock { _file: file };
        self.sweep(&lock)?;
        Ok(lock)
    }

    /// Removes every temporary folder; all are orphans, because their makers would hold the lock.
    fn sweep(&self, _: &Lock) -> Result<()> {
        let entries = fs::read_dir(&self.root).with_context(|| format!("reading {}", self.root.display()))?;
        for entry in entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(STAGING)) {
            if let Err(error) = fs::remove_dir_all(entry.path()) {
                // It only takes space, and the next set-up tries again.
                eprintln!("what an interrupted set-up left stays: {}: {error}", entry.path().display());
            }
        }
        Ok(())
    }

    /// A fresh temporary folder, after a look at whether `needed` bytes are free.
    pub fn staging(&self, _: &Lock, needed: u64) -> Result<Staging<'_>> {
        self.require(needed)?;
        let path = self.root.join(format!("{STAGING}{}", std::process::id()));
        fs::create_dir(&path).map_err(|error| self.unwritable(&error))?;
        Ok(Staging { cache: self, path })
    }

    /// Fails when the cache's file system has less than `needed` bytes free.
    fn require(&self, needed: u64) -> Result<()> {
        let stat = rustix::fs::statvfs(&self.root)
            .with_context(|| format!("looking at the space in {}", self.root.display()))?;
        enough(&self.root, stat.f_bavail * stat.f_frsize, needed)
    }

    fn unwritable(&self, error: &io::Error) -> anyhow::Error {
        let root = self.root.display();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => self.full(),
            _ => anyhow!(
                "the cache folder {root} cannot be written ({error})\n  set AUTODIDACT_CACHE to a folder you can write, with a few GB free"
            ),
        }
    }

    /// The message for a disk that filled up while working.
    pub fn full(&self) -> anyhow::Error {
        anyhow!(
            "no space left in {} while setting up; what was half-made is removed\n  free some space there, or set AUTODIDACT_CACHE to a folder on a larger disk, and run the command again",
            self.root.display()
        )
    }
}

/// Compares free and needed space, in bytes.
fn enough(root: &Path, free: u64, needed: u64) -> Result<()> {
    if free < needed {
        bail!(
            "not enough space in {}: set-up needs {} while it works, {} are free\n  free some space there, or set AUTODIDACT_CACHE to a folder on a larger disk",
            root.display(),
            size(needed),
            size(free)
        );
    }
    Ok(())
}

impl Staging<'_> {
    /// The temporary folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the folder its final name, replacing an earlier one, once all it holds is listed and on the disk.
    pub fn publish(self, name: &str) -> Result<PathBuf> {
        manifest::write(&self.path)?;
        let target = self.cache.entry(name);
        let retired = self.cache.root.join(format!("{STAGING}{}-old", std::process::id()));
        let replaces = fs::symlink_metadata(&target).is_ok();
        if replaces {
            fs::rename(&target, &retired).with_context(|| format!("replacing {}", target.display()))?;
        }
        fs::rename(&self.path, &target).with_context(|| format!("writing {}", target.display()))?;
        File::open(&self.cache.root)?.sync_all()?;
        if replaces {
            fs::remove_dir_all(&retired).with_context(|| format!("removing the earlier {}", target.display()))?;
        }
        Ok(target)
    }
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        // Best effort: what stays is swept by the next holder of the lock. After `publish` there is nothing at the path.
        let _ = fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> (tempfile::TempDir, Cache) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("cache");
        (dir, Cache { root })
    }

    #[test]
    fn the_lock_sweeps_what_interrupted_set_ups_left_and_nothing_else() {
        let (_dir, cache) = cache();
        for name in ["tmp-1", "tmp-2-old", "libtorch"] {
            fs::create_dir_all(cache.entry(name).join("inner")).unwrap();
        }
        let _lock = cache.lock().unwrap();
        let mut left: Vec<_> = fs::read_dir(cache.root()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".lock", "libtorch"]);
    }

    #[test]
    fn a_folder_appears_whole_or_not_at_all() {
        let (_dir, cache) = cache();
        let lock = cache.lock().unwrap();
        let staging = cache.staging(&lock, 0).unwrap();
        fs::write(staging.path().join("file"), "half").unwrap();
        let path = staging.path().to_owned();
        drop(staging);
        assert!(!path.exists() && !cache.entry("copy").exists());

        for content in ["first", "second"] {
            let staging = cache.staging(&lock, 0).unwrap();
            fs::write(staging.path().join("file"), content).unwrap();
            let copy = staging.publish("copy").unwrap();
            assert_eq!(fs::read_to_string(copy.join("file")).unwrap(), content);
            assert_eq!(manifest::verify(&copy), Ok(()));
        }
        assert_eq!(fs::read_dir(cache.root()).unwrap().count(), 2, "the copy and the lock");
    }

    #[test]
    fn the_second_set_up_waits_for_the_first() {
        let (_dir, cache) = cache();
        let lock = cache.lock().unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        let second = cache.clone();
        let waiting = std::thread::spawn(move || {
            let _lock = second.lock().unwrap();
            sender.send(()).unwrap();
        });
        assert!(receiver.recv_timeout(std::time::Duration::from_millis(200)).is_err(), "the lock is held");
        drop(lock);
        receiver.recv_timeout(std::time::Duration::from_secs(10)).expect("the lock is free");
        waiting.join().unwrap();
    }

    #[test]
    fn space_is_looked_at_before_work_begins() {
        let error = enough(Path::new("/somewhere"), 1_400_000_000, 2_000_000_000).unwrap_err().to_string();
        assert!(error.contains("/somewhere") && error.contains("2.0 GB") && error.contains("1.4 GB"), "{error}");
        assert!(error.contains("AUTODIDACT_CACHE"), "{error}");
        assert!(enough(Path::new("/somewhere"), 2_000_000_000, 2_000_000_000).is_ok());
        let (_dir, cache) = cache();
        let lock = cache.lock().unwrap();
        assert!(cache.staging(&lock, u64::MAX).is_err());
    }
}
