//! Progress: bars on a terminal, a line per cell elsewhere, nothing when quiet.

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::HashSet;
use std::io::IsTerminal;
use std::sync::Mutex;

/// The bars of a run.
pub struct Bars {
    multi: MultiProgress,
    cells: ProgressBar,
    mode: Mode,
    /// Cells that are done, by this process or another.
    counted: Mutex<HashSet<String>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Bars,
    Lines,
    Quiet,
}

/// The bar within a running cell.
#[derive(Clone)]
pub struct CellBar {
    bar: ProgressBar,
    quiet: bool,
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates of this module are valid").progress_chars("━╸─")
}

impl Bars {
    /// Bars over `cells` cells.
    pub fn new(cells: u64, quiet: bool) -> Self {
        let mode = match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => Mode::Quiet,
            (false, true) => Mode::Bars,
            (false, false) => Mode::Lines,
        };
        let target = if mode == Mode::Bars { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let multi = MultiProgress::with_draw_target(target);
        let bar = multi.add(ProgressBar::new(cells));
        bar.set_style(style("cells {bar:30.green} {pos}/{len}  {elapsed} elapsed, {eta} left"));
        bar.enable_steady_tick(std::time::Duration::from_millis(500));
        Self { multi, cells: bar, mode, counted: Mutex::default() }
    }

    /// Opens the bar of a cell.
    pub fn start(&self, name: &str) -> CellBar {
        let bar = self.multi.insert_before(&self.cells, ProgressBar::new(0));
        bar.set_style(style("  {prefix:32} {bar:30.cyan} {pos}/{len}  {msg}  {eta} left"));
        bar.set_prefix(name.to_owned());
        CellBar { bar, quiet: self.mode == Mode::Quiet }
    }

    /// Closes the bar of a cell that is done, after so many seconds.
    pub fn done(&self, bar: &CellBar, cell: &str, seconds: f64) {
        bar.bar.finish_and_clear();
        self.count(cell, Some(seconds));
    }

    /// Counts a cell, once: it took so many seconds, or was there already.
    pub fn count(&self, cell: &str, seconds: Option<f64>) {
        if !self.counted.lock().is_ok_and(|mut counted| counted.insert(cell.to_owned())) {
            return;
        }
        self.cells.inc(1);
        if let (Mode::Lines, Some(seconds)) = (self.mode, seconds) {
            eprintln!("[{}/{}] {cell}: {seconds:.1} s", self.cells.position(), self.cells.length().unwrap_or(0));
        }
    }

    /// Prints a line above the bars, unless quiet.
    pub fn say(&self, line: &str) {
        match self.mode {
            Mode::Quiet => {}
            Mode::Lines => eprintln!("{line}"),
            Mode::Bars => {
                let _ = self.multi.println(line);
            }
        }
    }

    /// Removes the bars.
    pub fn finish(&self) {
        self.cells.finish_and_clear();
    }
}

impl CellBar {
    pub(super) fn update(&self, done: u64, total: u64, loss: Option<f64>) {
        self.bar.set_length(total);
        self.bar.set_position(done);
        if let Some(loss) = loss {
            self.bar.set_message(format!("loss {loss:.4}"));
        }
    }

    pub(super) fn warn(&self, line: &str) {
        if !self.quiet {
            self.bar.suspend(|| eprintln!("warning: {line}"));
        }
    }
}
