//! Further processes that share the cells of a run. Processes, because libtorch has one random generator for all threads of one.

use super::{Bars, CellFile};
use crate::experiment::Cell;
use anyhow::{Context as _, Result};
use std::ffi::OsString;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often it is looked what the others have finished.
const LOOK: Duration = Duration::from_millis(200);

/// Running workers; they end with this.
pub(super) struct Workers(Vec<(Child, Option<ChildStdin>)>);

impl Workers {
    /// Starts this program again, `count` times, with these arguments.
    pub fn start(count: usize, arguments: &[OsString]) -> Result<Self> {
        let mut all = Self(vec![]);
        let program = std::env::current_exe().context("finding this program's file")?;
        for _ in 0..count {
            let mut command = Command::new(&program);
            command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
            let mut child =
                command.spawn().context("starting a further process of this run (--jobs 1 does without)")?;
            // Waiting for the child would close it.
            let lifeline = child.stdin.take();
            all.0.push((child, lifeline));
        }
        Ok(all)
    }

    /// Waits for all to end; returns how those ended that failed.
    pub fn wait(&mut self) -> Result<Vec<ExitStatus>> {
        let ended = self.0.iter_mut().map(|(child, _)| child.wait()).collect::<Result<Vec<_>, _>>()?;
        self.0.clear();
        Ok(ended.into_iter().filter(|status| !status.success()).collect())
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for (child, _) in &mut self.0 {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// In a worker: ends the process when the one that started it has ended, killed perhaps. Its finished cells are safe.
pub fn end_with_the_starter() {
    std::thread::spawn(|| {
        // Nothing is ever written: this returns when the other end closes.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        std::process::exit(1);
    });
}

/// Counts the cells that others finish, until `stop`.
pub(super) fn watch(cells: &[(&Cell, &CellFile)], bars: &Bars, stop: &AtomicBool) {
    let mut open: Vec<_> = cells.to_vec();
    while !stop.load(Ordering::Relaxed) {
        open.retain(|(cell, file)| match file.path.exists().then(|| file.read()) {
            Some(Ok(Some(record))) => {
                bars.count(&cell.to_string(), Some(record.wall_seconds));
                false
            }
            // A damaged one is not finished.
            _ => true,
        });
        std::thread::sleep(LOOK);
    }
}
