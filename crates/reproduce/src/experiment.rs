//! What an experiment declares, and what its cells see.

use crate::catalog::{PAPERS, Paper};
use crate::plot::Plot;
use crate::results::Results;
use crate::runner::Context;
use crate::verdict::Finding;
use anyhow::Result;
use autodidact_core::Error;
use autodidact_core::device::Precision;
use autodidact_core::error::check_range;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt::Debug;
use std::ops::RangeBounds;
use std::path::PathBuf;
use tch::Device;

/// How much is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scale {
    /// Seconds: proves that everything runs; verdicts are not judged.
    Smoke,
    /// Minutes on two cores.
    Small,
    /// Hours on a GPU: the paper's setting as far as public data go.
    Full,
}

impl std::fmt::Display for Scale {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Scale::Smoke => "smoke",
            Scale::Small => "small",
            Scale::Full => "full",
        })
    }
}

/// A claim of the paper and the rule, fixed before the run, by which it is judged.
#[derive(Debug, Clone, Copy)]
pub struct Claim {
    /// `C1`, `C2`, ... as on the paper's sheet.
    pub id: &'static str,
    /// The claim in one sentence.
    pub statement: &'static str,
    /// The paper's own figure.
    pub paper_figure: &'static str,
    /// When it counts as reproduced (and as partly).
    pub criterion: &'static str,
}

impl Claim {
    /// A claim.
    pub const fn new(
        id: &'static str,
        statement: &'static str,
        paper_figure: &'static str,
        criterion: &'static str,
    ) -> Self {
        Self { id, statement, paper_figure, criterion }
    }
}

/// A unit of work: one arm at one seed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Cell {
    /// What is run: a method, or a method at one value of a sweep (`full/batch=32`).
    pub arm: String,
    /// Repetition.
    pub seed: u64,
}

impl Cell {
    /// A cell.
    pub fn new(arm: impl Into<String>, seed: u64) -> Self {
        Self { arm: arm.into(), seed }
    }
}

impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} seed {}", self.arm, self.seed)
    }
}

/// Everything that decides what a run computes.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How much.
    pub scale: Scale,
    /// Repetitions.
    pub seeds: Vec<u64>,
    /// Name of the data set.
    pub dataset: String,
    /// Identity of the content of all data that are read ([`autodidact_datasets::fingerprint`]).
    pub data: String,
    /// The user's folder of data sets.
    pub data_dir: Option<PathBuf>,
    /// Whether a data set that is not there may be downloaded.
    pub download: bool,
    /// Where tensors live.
    pub device: Device,
    /// Arithmetic of forward passes in the common training loop ([`Precision::for_training`]).
    pub precision: Precision,
    /// libtorch's threads.
    pub threads: usize,
    /// The experiment's hyper-parameters: its defaults at this scale, changed by `--set`.
    pub config: Value,
    /// Folder for what is shared between cells and runs on this machine.
    pub cache: PathBuf,
}

impl Plan {
    /// An experiment's own plan: its seeds, first data set and hyper-parameters at a scale, in 32-bit floats on one thread of the CPU,
    /// without downloads; shared parts go to the system's temporary folder. What differs is set in the fields.
    pub fn new(experiment: &dyn Experiment, scale: Scale) -> Self {
        let seeds = (0..experiment.seeds(scale) as u64).collect();
        Self::plain(scale, seeds, experiment.datasets()[0], experiment.config(scale))
    }

    fn plain(scale: Scale, seeds: Vec<u64>, dataset: &str, config: Value) -> Self {
        Self {
            scale,
            seeds,
            dataset: dataset.into(),
            data: String::new(),
            data_dir: None,
            download: false,
            device: Device::Cpu,
            precision: Precision::F32,
            threads: 1,
            config,
            cache: std::env::temp_dir(),
        }
    }

    /// The hyper-parameters as the experiment's own type.
    ///
    /// # Errors
    /// A `--set` value of the wrong type.
    pub fn config<C: for<'a> Deserialize<'a>>(&self) -> Result<C> {
        Ok(serde_json::from_value(self.config.clone())?)
    }

    /// `cpu` or `cuda`, and `bf16` where training uses it.
    pub fn device_name(&self) -> &'static str {
        match (self.device.is_cuda(), self.precision) {
            (false, Precision::F32) => "cpu",
            (false, Precision::Bf16) => "cpu bf16",
            (true, Precision::F32) => "cuda",
            (true, Precision::Bf16) => "cuda bf16",
        }
    }

    /// One cell per arm and seed, seeds outermost, so that a run cut short has its first seeds whole.
    pub fn cross<S: AsRef<str>>(&self, arms: &[S]) -> Vec<Cell> {
        self.seeds.iter().flat_map(|&s| arms.iter().map(move |a| Cell::new(a.as_ref(), s))).collect()
    }
}

#[cfg(test)]
impl Plan {
    /// One seed on the CPU, with a configuration.
    pub(crate) fn trial(scale: Scale, dataset: &str, config: Value) -> Self {
        Self::plain(scale, vec![0], dataset, config)
    }

    /// The cells of an experiment on its first data set at smoke scale, with changed settings.
    pub(crate) fn trial_cells(experiment: &dyn Experiment, changes: &[(&str, Value)]) -> Result<Vec<Cell>> {
        let mut config = experiment.config(Scale::Smoke);
        for (key, value) in changes {
            *config.pointer_mut(&format!("/{}", key.replace('.', "/"))).expect(key) = value.clone();
        }
        experiment.cells(&Self { seeds: vec![0], config, ..Self::new(experiment, Scale::Smoke) })
    }

    /// Checks that each of these settings, alone, is refused before anything runs, with a message that begins as given.
    pub(crate) fn assert_refused(experiment: &dyn Experiment, settings: &[(&str, Value, &str)]) {
        for (key, value, said) in settings {
            let error = Self::trial_cells(experiment, &[(key, value.clone())]).unwrap_err().to_string();
            assert!(error.starts_with(said), "{key}={value}: {error}");
        }
    }
}

/// Checks a list of hyper-parameters, for [`Experiment::cells`]: it has an element, and all are finite and inside `range`.
///
/// # Errors
/// The list's name with what is accepted and what came.
pub fn check_list(what: &str, values: &[f64], range: impl RangeBounds<f64> + Debug + Clone) -> Result<()> {
    if values.is_empty() {
        return Err(Error::value(what, "at least one value", "none").into());
    }
    values.iter().try_for_each(|v| Ok(check_range(what, *v, range.clone())?))
}

/// The reproduction of one paper.
pub trait Experiment: Sync {
    /// The paper's name in this project.
    fn slug(&self) -> &'static str;

    /// The paper, as the catalogue has it.
    ///
    /// # Panics
    /// An experiment whose slug the catalogue lacks.
    fn paper(&self) -> &'static Paper {
        PAPERS.iter().find(|p| p.slug == self.slug()).expect("every experiment's paper is in the catalogue")
    }

    /// Raised whenever a change of code changes numbers, so that older cells are not reused.
    fn version(&self) -> u32;

    /// The claims, in the paper's order.
    fn claims(&self) -> Vec<Claim>;

    /// Names of the data sets it runs on; the first is the default and needs no download.
    fn datasets(&self) -> &'static [&'static str];

    /// Names of the data sets that are read beside the chosen one, whose content then decides the numbers too.
    fn further_datasets(&self, _dataset: &str) -> &'static [&'static str] {
        &[]
    }

    /// Number of seeds by default.
    fn seeds(&self, scale: Scale) -> usize {
        if scale == Scale::Smoke { 1 } else { 3 }
    }

    /// Hyper-parameters at a scale, a JSON object; `--set key=value` changes them.
    fn config(&self, scale: Scale) -> Value;

    /// The work, in the order in which it is done.
    ///
    /// # Errors
    /// A configuration that makes no sense.
    fn cells(&self, plan: &Plan) -> Result<Vec<Cell>>;

    /// Does one cell: computes, and hands its metrics to the context.
    ///
    /// # Errors
    /// Whatever keeps the cell from finishing.
    fn run(&self, cell: &Cell, context: &mut Context<'_>) -> Result<()>;

    /// Judges the claims from the finished cells, one finding per claim.
    ///
    /// # Errors
    /// Cells without the metrics that a criterion needs.
    fn judge(&self, results: &Results) -> Result<Vec<Finding>>;

    /// Plots of the finished cells.
    ///
    /// # Errors
    /// Cells without the metrics that a plot needs.
    fn plots(&self, results: &Results) -> Result<Vec<Plot>>;

    /// Remarks for the record: deviations from the paper, settings that were changed and why.
    fn note(&self, _plan: &Plan) -> String {
        String::new()
    }
}
