//! Further processes that share the cells of a run. Processes, because libtorch has one random generator for all threads of one.

use super::{Bars, CellFile};
use crate::experiment::Cell;
use anyhow::{Context as _, Result};
use std::ffi::OsString;
use std::io::Read;
use std::process::{Child, ChildStdin, Command, Stdio};
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
            command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
            let mut child =
                command.spawn().context("starting a further process of this run (--jobs 1 does without)")?;
            // Waiting for the child would close it.
            let lifeline = child.stdin.take();
            all.0.push((child, lifeline));
        }
        Ok(all)
    }

    /// Waits for all to end; returns what those said that failed.
    pub fn wait(&mut self) -> Result<Vec<String>> {
        let mut failures = vec![];
        for (child, _) in &mut self.0 {
            let mut said = String::new();
            if let Some(mut errors) = child.stderr.take() {
                errors.read_to_string(&mut said)?;
            }
            let status = child.wait()?;
            if !status.success() {
                let error = said.lines().find(|line| line.starts_with("error: ") || line.contains("panicked"));
                failures.push(error.map_or_else(|| status.to_string(), str::to_owned));
            }
        }
        self.0.clear();
        Ok(failures)
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
        // Not `exit`, which would destroy what the other threads compute with.
        #[cfg(unix)]
        // SAFETY: the process ends here and now.
        unsafe {
            libc::_exit(1)
        }
        #[cfg(not(unix))]
        std::process::abort()
    });
}

/// Counts the cells that others finish, until `stop`.
pub(super) fn watch(cells: &[(&Cell, &CellFile)], bars: &Bars, stop: &AtomicBool) {
    let mut open: Vec<_> = cells.to_vec();
    loop {
        // Before the look, so that the last one sees everything.
        let last = stop.load(Ordering::Relaxed);
        open.retain(|(cell, file)| match file.path.exists().then(|| file.read()) {
            Some(Ok(Some(record))) => {
                bars.count(&cell.to_string(), Some(record.wall_seconds));
                false
            }
            // A damaged one is not finished.
            _ => true,
        });
        if last {
            break;
        }
        std::thread::sleep(LOOK);
    }
}
