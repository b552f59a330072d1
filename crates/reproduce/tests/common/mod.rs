//! The real `reproduce` binary in a folder of its own.

#![allow(dead_code, reason = "each test file uses its own part")]

use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::SystemTime;

/// The cells of [`QUICK`] and [`SLOW`].
pub const CELLS: usize = 5;
/// A whole reproduction in about a second.
pub const QUICK: &str = "teacher-guidance --scale smoke --jobs 1";
/// The same with cells (the last three) of about a second each, to be interrupted in.
pub const SLOW: &str = "teacher-guidance --scale smoke --jobs 1 --set epochs=50";

/// A folder to run in, without the user's data and caches.
pub struct Lab(tempfile::TempDir);

/// How a run ended.
pub struct Ended {
    pub ok: bool,
    pub stdout: String,
    pub stderr: String,
}

impl Lab {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The binary with arguments, separated by blanks.
    pub fn command(&self, args: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reproduce"));
        command.args(args.split_whitespace()).current_dir(self.0.path());
        command.env("AUTODIDACT_CACHE", self.path("cache")).env("XDG_CACHE_HOME", self.path("cache"));
        command.env_remove("AUTODIDACT_DATA").env_remove("COLUMNS");
        command
    }

    pub fn run(&self, args: &str) -> Ended {
        let output = self.command(args).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ended { ok: output.status.success(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Runs to a good end.
    pub fn succeed(&self, args: &str) -> Ended {
        let ended = self.run(args);
        assert!(ended.ok, "{args}: {}", ended.stderr);
        ended
    }

    /// Runs to a bad end: one line of error, which is returned; nothing else.
    pub fn fail(&self, args: &str) -> String {
        let ended = self.run(args);
        assert!(!ended.ok, "{args} succeeded: {}", ended.stdout);
        let message = ended.stderr.strip_prefix("error: ").unwrap_or_else(|| panic!("{args}: {}", ended.stderr));
        assert!(
            message.trim_end().lines().count() == 1 && ended.stdout.is_empty(),
            "{args}: {message}{}",
            ended.stdout
        );
        message.trim_end().to_owned()
    }

    /// Starts a run and returns when it has finished a cell.
    pub fn start(&self, args: &str) -> Running {
        let mut command = self.command(args);
        #[cfg(unix)]
        {
            use std::os::unix::process::CommandExt;
            // SAFETY: `signal` may be called between fork and exec. The tests themselves may run as a background job, which
            // ignores interrupts; the child is not to inherit that.
            unsafe {
                command.pre_exec(|| {
                    libc::signal(libc::SIGINT, libc::SIG_DFL);
                    Ok(())
                });
            }
        }
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.starts_with('[') {
            line.clear();
            assert!(stderr.read_line(&mut line).unwrap() > 0, "{args} ended without finishing a cell");
        }
        Running { child, stderr }
    }
}

/// A process in the middle of a run.
pub struct Running {
    pub child: Child,
    pub stderr: BufReader<std::process::ChildStderr>,
}

/// What of a run must not depend on how it came about.
#[derive(Debug, PartialEq)]
pub struct Outcome {
    pub claims: Value,
    pub metrics: String,
    pub plots: BTreeMap<String, String>,
}

impl Outcome {
    pub fn read(out: &Path) -> Self {
        let text = |name: &str| std::fs::read_to_string(out.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let record: Value = serde_json::from_str(&text("run.json")).unwrap();
        let plots = record["plots"].as_array().unwrap().iter().map(|p| p[0].as_str().unwrap().to_owned());
        let plots = plots.map(|p| (p.clone(), text(&p))).collect();
        Self { claims: record["claims"].clone(), metrics: text("metrics.csv"), plots }
    }
}

/// The finished cells of a run: time and content by name.
pub fn cells(out: &Path) -> BTreeMap<String, (SystemTime, String)> {
    let Ok(entries) = std::fs::read_dir(out.join("cells")) else { return BTreeMap::new() };
    let cell = |entry: std::fs::DirEntry| {
        let name = entry.file_name().into_string().unwrap();
        let read = || (entry.metadata().unwrap().modified().unwrap(), std::fs::read_to_string(entry.path()).unwrap());
        (name.ends_with(".json")).then(|| (name, read()))
    };
    entries.map(Result::unwrap).filter_map(cell).collect()
}

/// Files in the folder of cells that are no finished cell: locks, checkpoints, temporary files.
pub fn litter(out: &Path) -> Vec<String> {
    let names = std::fs::read_dir(out.join("cells")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    names.filter(|n| n.starts_with('.') || !n.ends_with(".json")).collect()
}
