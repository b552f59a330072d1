//! The runner: does the cells of an experiment, keeps what is finished, and makes the record.

mod cell;
mod context;
mod progress;
mod workers;

pub use cell::{CellFile, CellRecord, MetricPoint};
pub use context::Context;
pub use progress::{Bars, CellBar};
pub use workers::end_with_the_starter;

use crate::experiment::{Cell, Experiment, Plan};
use crate::record::{self, RunRecord};
use crate::results::Results;
use crate::verdict::{Finding, Verdict};
use anyhow::{Context as _, Result, bail};
use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use workers::Workers;

/// How a run is driven; nothing here changes a number.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Folder of the run.
    pub out: PathBuf,
    /// Forget finished cells and start over.
    pub fresh: bool,
    /// Only the cells `i` of every `n`.
    pub shard: Option<(usize, usize)>,
    /// Only these arms (an arm's sweep points included).
    pub arms: Vec<String>,
    /// No progress.
    pub quiet: bool,
    /// Processes that share the cells, this one among them.
    pub jobs: usize,
    /// The arguments by which this program becomes one of the others.
    pub worker_arguments: Vec<OsString>,
    /// Whether this process is one of the others: it leaves alone what somebody works on.
    pub worker: bool,
    /// The command, for the record.
    pub command: String,
}

/// How a run ended.
#[derive(Debug)]
pub enum Outcome {
    /// All cells are there, and so is the record.
    Complete(Box<RunRecord>),
    /// Some cells are left to other shards or were not asked for.
    Incomplete {
        /// Finished cells.
        done: usize,
        /// Cells of the whole run.
        total: usize,
    },
}

/// Runs an experiment's cells, or those of a shard, and makes the record when all are finished.
///
/// # Errors
/// A cell that fails (finished ones stay on disk), or a record that cannot be written.
pub fn run(experiment: &dyn Experiment, plan: &Plan, options: &RunOptions) -> Result<Outcome> {
    let paper = experiment.paper();
    let cells = experiment.cells(plan)?;
    let files: Vec<CellFile> =
        cells.iter().map(|c| CellFile::new(&options.out, paper.slug, experiment.version(), plan, c)).collect();
    let folder = options.out.join("cells");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make the run folder {}; name another with --out", folder.display()))?;
    let mine = |i: usize| {
        options.shard.is_none_or(|(shard, of)| i % of == shard)
            && (options.arms.is_empty() || options.arms.iter().any(|a| in_arm(&cells[i].arm, a)))
    };
    let todo: Vec<usize> = (0..cells.len()).filter(|&i| mine(i)).collect();
    if options.fresh {
        todo.iter().for_each(|&i| files[i].forget());
    }
    let open: Vec<_> = todo.iter().map(|&i| (&cells[i], &files[i])).filter(|(_, file)| !file.path.exists()).collect();
    let bars = Bars::new(todo.len() as u64, options.quiet);
    let pass = |wait: bool| {
        todo.iter().try_for_each(|&i| {
            run_cell(experiment, plan, &cells[i], &files[i], wait, &bars).with_context(|| cells[i].to_string())
        })
    };
    let result = if options.worker {
        pass(false)
    } else if options.jobs.min(open.len()) > 1 {
        shared(options, &open, &bars, || pass(false)).and_then(|()| pass(true))
    } else {
        pass(true)
    };
    bars.finish();
    result?;
    if options.worker {
        // The record is made by the process that started this one.
        return Ok(Outcome::Incomplete { done: files.iter().filter(|f| f.path.exists()).count(), total: files.len() });
    }
    let finished = read_all(&cells, &files, &bars);
    if finished.len() < cells.len() {
        return Ok(Outcome::Incomplete { done: finished.len(), total: cells.len() });
    }
    let results = Results::new(plan.clone(), finished);
    let record = judge(experiment, &results, options)?;
    Ok(Outcome::Complete(Box::new(record)))
}

/// Does what no other process does, beside workers, until all of them have ended.
fn shared(
    options: &RunOptions,
    open: &[(&Cell, &CellFile)],
    bars: &Bars,
    work: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let mut workers = Workers::start(options.jobs.min(open.len()) - 1, &options.worker_arguments)?;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| workers::watch(open, bars, &stop));
        let _stop = Stop(&stop);
        work()?;
        for why in workers.wait()? {
            bars.say(&format!("a further process of this run failed, and its cells are done here: {why}"));
        }
        Ok(())
    })
}

/// Set when this is dropped, by a panic too: the scope waits for its threads.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn in_arm(cell_arm: &str, arm: &str) -> bool {
    cell_arm == arm || cell_arm.strip_prefix(arm).is_some_and(|rest| rest.starts_with('/'))
}

/// Runs one cell unless it is finished. Processes on a shared folder hold a lock each on the cell they work on; a cell that another
/// one has is waited for, or left to it.
fn run_cell(
    experiment: &dyn Experiment,
    plan: &Plan,
    cell: &Cell,
    file: &CellFile,
    wait: bool,
    bars: &Bars,
) -> Result<()> {
    let lock_path = file.lock();
    let lock = File::create(&lock_path)
        .with_context(|| format!("cannot write {}; name another folder with --out", lock_path.display()))?;
    if let Err(TryLockError::WouldBlock) = lock.try_lock() {
        if !wait {
            return Ok(());
        }
        bars.say(&format!("{cell}: another process is at work on it; waiting"));
        lock.lock().with_context(|| lock_path.display().to_string())?;
    }
    file.sweep();
    match file.read() {
        Ok(Some(_)) => {
            bars.count(&cell.to_string(), None);
            let _ = std::fs::remove_file(&lock_path);
            return Ok(());
        }
        Ok(None) => {}
        Err(e) => bars.say(&format!("warning: {} is damaged: {e:#}; the cell is computed again", file.path.display())),
    }
    let bar = bars.start(&cell.to_string());
    let start = Instant::now();
    tch::manual_seed(autodidact_core::seed::derive(cell.seed, &[experiment.paper().slug, &cell.arm]) as i64);
    let mut context = Context::new(experiment, plan, cell, bar.clone(), file.checkpoint());
    experiment.run(cell, &mut context)?;
    let mut record = context.finish();
    record.wall_seconds = start.elapsed().as_secs_f64();
    record.peak_memory_mb = autodidact_core::device::peak_memory_mb(plan.device);
    file.write(&record).context("the finished cell cannot be saved; cells finished before are safe")?;
    let _ = std::fs::remove_file(&lock_path);
    bars.done(&bar, &cell.to_string(), record.wall_seconds);
    Ok(())
}

fn read_all(cells: &[Cell], files: &[CellFile], bars: &Bars) -> Vec<(Cell, CellRecord)> {
    let read = |(cell, file): (&Cell, &CellFile)| match file.read() {
        Ok(record) => record.map(|r| (cell.clone(), r)),
        Err(e) => {
            bars.say(&format!("warning: {} is damaged: {e:#}; run again to recompute it", file.path.display()));
            None
        }
    };
    cells.iter().zip(files).filter_map(read).collect()
}

fn judge(experiment: &dyn Experiment, results: &Results, options: &RunOptions) -> Result<RunRecord> {
    let claims = experiment.claims();
    let mut findings = experiment.judge(results).context("the finished cells cannot be judged")?;
    let smoke = results.plan().scale == crate::experiment::Scale::Smoke;
    for f in &mut findings {
        if smoke {
            f.verdict = Verdict::NotJudged;
        }
    }
    check_findings(&claims, &findings)?;
    let plots = experiment.plots(results).context("the plots cannot be drawn")?;
    let record = RunRecord::new(experiment, results, &claims, &findings, &options.command);
    record::write(&options.out, &record, results, &plots)?;
    Ok(record)
}

fn check_findings(claims: &[crate::experiment::Claim], findings: &[Finding]) -> Result<()> {
    let (declared, found): (Vec<_>, Vec<_>) =
        (claims.iter().map(|c| c.id).collect(), findings.iter().map(|f| f.id).collect());
    if declared != found {
        bail!("the experiment declares claims {declared:?} but judges {found:?}");
    }
    Ok(())
}

/// The folder of a run when the user names none.
pub fn default_out(workspace: &Path, slug: &str, plan: &Plan) -> PathBuf {
    workspace.join("runs").join(slug).join(format!("{}-{}", plan.scale, plan.dataset))
}
