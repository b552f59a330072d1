//! Finished cells on disk: one file each, written atomically, checked when read.

use crate::experiment::{Cell, Plan};
use anyhow::{Context as _, Result, bail};
use autodidact_core::train::write_atomically;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// One value of a metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricPoint {
    /// Step at which it was measured (0 where there is no time axis).
    pub step: u64,
    /// Name.
    pub metric: String,
    /// Value; JSON has no NaN, so an absent value reads as NaN.
    #[serde(deserialize_with = "nan_if_null")]
    pub value: f64,
}

fn nan_if_null<'de, D: serde::Deserializer<'de>>(d: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or(f64::NAN))
}

/// What a finished cell leaves behind.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CellRecord {
    /// Metrics in the order of logging.
    pub metrics: Vec<MetricPoint>,
    /// Larger results for plots (a matrix, a spectrum).
    pub arrays: BTreeMap<String, Vec<f64>>,
    /// Wall time in seconds.
    pub wall_seconds: f64,
    /// Peak memory of the process in MB when the cell ended.
    pub peak_memory_mb: f64,
    /// Shared parts that it used, with their content's name in the cache.
    pub shared: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct Envelope {
    key: Value,
    sha256: String,
    record: Value,
}

/// A cell's place on disk.
#[derive(Debug, Clone)]
pub struct CellFile {
    key: Value,
    /// The finished cell.
    pub path: PathBuf,
}

/// Hexadecimal SHA-256.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// What [`write_keyed`] wrote under this key: `None` if there is no file.
///
/// # Errors
/// A file that is damaged, or another key's.
pub(super) fn read_keyed<T: DeserializeOwned>(path: &Path, key: &Value) -> Result<Option<T>> {
    let text = match std::fs::read(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.with_context(|| path.display().to_string())?,
    };
    let envelope: Envelope = serde_json::from_slice(&text).context("it is not whole")?;
    if envelope.sha256 != sha256(envelope.record.to_string().as_bytes()) {
        bail!("its content does not match its checksum");
    }
    if envelope.key != *key {
        bail!("it belongs to another cell");
    }
    Ok(Some(serde_json::from_value(envelope.record)?))
}

/// Writes a value with its key and checksum; at any moment there is the whole file or none.
pub(super) fn write_keyed(path: &Path, key: &Value, value: &impl Serialize) -> Result<()> {
    let record = serde_json::to_value(value)?;
    let sha256 = sha256(record.to_string().as_bytes());
    let envelope = Envelope { key: key.clone(), sha256, record };
    Ok(write_atomically(path, &serde_json::to_vec(&envelope)?)?)
}

impl CellFile {
    /// The place of a cell below `folder`. Its name has a digest of everything that decides the cell's numbers.
    pub fn new(folder: &Path, slug: &str, version: u32, plan: &Plan, cell: &Cell) -> Self {
        let key = json!({
            "paper": slug,
            "code": version,
            "arm": cell.arm,
            "seed": cell.seed,
            "scale": plan.scale,
            "dataset": plan.dataset,
            "data": plan.data,
            "config": plan.config,
            "device": plan.device_name(),
            "threads": plan.threads,
        });
        let digest = &sha256(key.to_string().as_bytes())[..12];
        let arm: String =
            cell.arm.chars().map(|c| if c.is_ascii_alphanumeric() || "-=.".contains(c) { c } else { '_' }).collect();
        let path = folder.join("cells").join(format!("{arm}-s{}-{digest}.json", cell.seed));
        Self { key, path }
    }

    /// Where a long cell may keep its checkpoint.
    pub fn checkpoint(&self) -> PathBuf {
        self.path.with_extension("safetensors")
    }

    /// Lock that a process holds while it works on the cell.
    pub fn lock(&self) -> PathBuf {
        self.path.with_extension("lock")
    }

    /// Removes the finished cell, and its checkpoint, unless another process is at work on it.
    pub(super) fn forget(&self) {
        let lock = File::create(self.lock()).ok();
        if lock.as_ref().is_some_and(|lock| lock.try_lock().is_ok()) {
            let _ = std::fs::remove_file(&self.path);
            let _ = std::fs::remove_file(self.checkpoint());
        }
    }

    /// Removes what a process that was killed while writing left behind; to be called under the lock.
    pub(super) fn sweep(&self) {
        let stem = format!(".{}.", self.path.file_stem().unwrap_or_default().to_string_lossy());
        let Some(entries) = self.path.parent().and_then(|folder| std::fs::read_dir(folder).ok()) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(&stem) && name.ends_with(".tmp") {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    /// The finished cell: `None` if there is none.
    ///
    /// # Errors
    /// A file that is damaged, or another cell's.
    pub fn read(&self) -> Result<Option<CellRecord>> {
        read_keyed(&self.path, &self.key)
    }

    /// Writes the finished cell; at any moment there is the whole file or none.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, record: &CellRecord) -> Result<()> {
        write_keyed(&self.path, &self.key, record)?;
        // The cell is finished: its checkpoint is of no more use.
        let _ = std::fs::remove_file(self.checkpoint());
        Ok(())
    }
}
