//! What a running cell sees of the world.

use super::cell::{CellRecord, MetricPoint, read_keyed, sha256, write_keyed};
use super::progress::CellBar;
use crate::experiment::{Cell, Experiment, Plan};
use anyhow::{Result, ensure};
use autodidact_core::optim::StateDict;
use autodidact_core::seed;
use autodidact_core::train::{Checkpoint, History, Logged};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::fs::File;
use std::path::{Path, PathBuf};
use tch::Device;

/// A running cell's plan, seeds, log, progress bar and cache.
pub struct Context<'a> {
    /// What is being run.
    pub plan: &'a Plan,
    slug: &'static str,
    version: u32,
    cell: &'a Cell,
    record: CellRecord,
    bar: CellBar,
    checkpoint: PathBuf,
}

impl<'a> Context<'a> {
    pub(super) fn new(
        experiment: &dyn Experiment,
        plan: &'a Plan,
        cell: &'a Cell,
        bar: CellBar,
        checkpoint: PathBuf,
    ) -> Self {
        let (slug, version) = (experiment.paper().slug, experiment.version());
        Self { plan, slug, version, cell, record: CellRecord::default(), bar, checkpoint }
    }

    pub(super) fn finish(self) -> CellRecord {
        self.record
    }

    /// The cell's repetition.
    pub fn cell_seed(&self) -> u64 {
        self.cell.seed
    }

    /// Seed of a random stream that all arms of one seed share: initialisation, data order, splits.
    pub fn seed(&self, purpose: &str) -> u64 {
        seed::derive(self.cell.seed, &[self.slug, purpose])
    }

    /// Seed of a random stream of this arm alone.
    pub fn arm_seed(&self, purpose: &str) -> u64 {
        seed::derive(self.cell.seed, &[self.slug, purpose, &self.cell.arm])
    }

    /// Logs a metric at a step.
    pub fn metric(&mut self, step: usize, metric: &str, value: f64) {
        self.record.metrics.push(MetricPoint { step: step as u64, metric: metric.to_owned(), value });
    }

    /// Saves an array for plots.
    pub fn array(&mut self, name: &str, values: Vec<f64>) {
        self.record.arrays.insert(name.to_owned(), values);
    }

    /// Moves the cell's progress bar: `done` of `total`, with the loss if there is one.
    pub fn progress(&self, done: usize, total: usize, loss: Option<f64>) {
        self.bar.update(done as u64, total as u64, loss);
    }

    /// Where this cell may keep a checkpoint (removed when the cell is finished), every so many steps, as
    /// [`TrainConfig::checkpoint`](autodidact_core::train::TrainConfig) wants it.
    pub fn checkpoint_every(&self, steps: usize) -> (PathBuf, usize) {
        (self.checkpoint.clone(), steps)
    }

    /// Takes over the metrics that a training run logged.
    pub fn log(&mut self, history: &History) {
        for Logged { done, metric, value } in &history.logged {
            self.metric(*done, metric, *value);
        }
    }

    /// Something expensive that several cells need (a tuned learning rate, a pre-trained network's numbers): computed once
    /// per machine, kept in a cache under the digest of `key`, which must hold everything that decides it but the paper,
    /// the version of the experiment, the data set, the kind of device and the number of threads.
    ///
    /// # Errors
    /// Those of `make`. A cached value that is damaged is made again, with a warning; a cache that cannot be written is no
    /// error: the value is there.
    pub fn shared<T: Serialize + DeserializeOwned>(
        &mut self,
        name: &str,
        key: &impl Serialize,
        make: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let (path, key) = self.shared_place((self.slug, self.version), name, key, "json")?;
        self.cached(name, &path, |p| read_keyed(p, &key), |p, value| write_keyed(p, &key, value), make)
    }

    /// The same for tensors (weights of a teacher, trajectories of experts), on the CPU.
    ///
    /// # Errors
    /// As [`shared`](Self::shared).
    pub fn shared_tensors(
        &mut self,
        name: &str,
        key: &impl Serialize,
        make: impl FnOnce(&mut Self) -> Result<StateDict>,
    ) -> Result<StateDict> {
        self.common_tensors(self.slug, self.version, (name, key), make)
    }

    /// Tensors that experiments of several papers share (a pre-trained language model): under the name of an owner in place of the
    /// paper, and its version.
    ///
    /// # Errors
    /// As [`shared`](Self::shared).
    pub fn common_tensors(
        &mut self,
        owner: &str,
        version: u32,
        (name, key): (&str, &impl Serialize),
        make: impl FnOnce(&mut Self) -> Result<StateDict>,
    ) -> Result<StateDict> {
        let (path, key) = self.shared_place((owner, version), name, key, "safetensors")?;
        let read = |path: &Path| -> Result<Option<StateDict>> {
            if !path.exists() {
                return Ok(None);
            }
            let file = Checkpoint::load(path, Device::Cpu)?;
            ensure!(file.get::<Value>("key")? == key, "it belongs to another cell");
            Ok(Some(file.section("tensors")))
        };
        let write = |path: &Path, tensors: &StateDict| -> Result<()> {
            let mut file = Checkpoint::default();
            file.set("key", &key)?;
            file.insert("tensors", tensors.iter().map(|(name, t)| (name.clone(), t.shallow_clone())));
            Ok(file.save(path)?)
        };
        self.cached(name, &path, read, write, make)
    }

    /// A shared part's file and whole key; its digest goes to the record.
    fn shared_place(
        &mut self,
        (owner, version): (&str, u32),
        name: &str,
        key: &impl Serialize,
        ending: &str,
    ) -> Result<(PathBuf, Value)> {
        let key = serde_json::json!({
            "paper": owner,
            "code": version,
            "dataset": self.plan.dataset,
            "data": self.plan.data,
            "device": self.plan.device_name(),
            "threads": self.plan.threads,
            "name": name,
            "key": serde_json::to_value(key)?,
        });
        let digest = sha256(key.to_string().as_bytes())[..16].to_owned();
        let path = self.plan.cache.join("shared").join(format!("{digest}.{ending}"));
        self.record.shared.insert(name.to_owned(), digest);
        Ok((path, key))
    }

    fn cached<T>(
        &mut self,
        name: &str,
        path: &Path,
        read: impl Fn(&Path) -> Result<Option<T>>,
        write: impl Fn(&Path, &T) -> Result<()>,
        make: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        if let Ok(Some(value)) = read(path) {
            return Ok(value);
        }
        // Another process may be making the same; a cache that cannot be locked is one that cannot be written.
        let lock_path = path.with_extension("lock");
        let lock = lock(&lock_path);
        match read(path) {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => {}
            Err(e) => self.bar.warn(&format!("{} is damaged: {e:#}; {name} is made again", path.display())),
        }
        let value = make(self)?;
        if let Err(e) = write(path, &value) {
            self.bar.warn(&format!("{name} is not cached: {e}"));
        }
        drop(lock);
        // Whoever waits for it, or makes a new one, finds the value.
        let _ = std::fs::remove_file(lock_path);
        Ok(value)
    }
}

/// Waits for the lock on a file, made with its folder if it is missing.
fn lock(path: &Path) -> Option<File> {
    std::fs::create_dir_all(path.parent()?).ok()?;
    let file = File::create(path).ok()?;
    file.lock().ok()?;
    Some(file)
}
