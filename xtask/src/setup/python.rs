//! The active Python: what it has, and running its pip.

use std::collections::VecDeque;
use std::env;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, IsTerminal};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;

use super::cache::Cache;
use super::libtorch::VERSION;

/// Tells about the interpreter without importing anything heavy; fails on a Python too old to be of use.
const PROBE: &str = r#"
import json, sys
from importlib import metadata, util
def find(name):
    try:
        spec = util.find_spec(name)
        return {"version": metadata.version(name), "folder": list(spec.submodule_search_locations)[0]}
    except Exception:
        return None
print(json.dumps({"executable": sys.executable, "version": list(sys.version_info[:2]), "pip": find("pip"), "torch": find("torch")}))
"#;

/// A Python 3.8 or later on `PATH`.
#[derive(Debug, Deserialize)]
pub struct Python {
    /// The interpreter.
    pub executable: PathBuf,
    /// Major and minor version.
    pub version: (u32, u32),
    pip: Option<Package>,
    torch: Option<Package>,
}

/// An installed package.
#[derive(Debug, Deserialize)]
struct Package {
    version: String,
    folder: PathBuf,
}

impl Python {
    /// The `python3`, else `python`, that comes first on `PATH` and runs.
    pub fn find() -> Option<Self> {
        ["python3", "python"].iter().find_map(|name| Self::at(Path::new(name)))
    }

    /// The interpreter at `program`, if it runs.
    pub fn at(program: &Path) -> Option<Self> {
        let output = without_libtorch(Command::new(program)).args(["-c", PROBE]).stdin(Stdio::null()).output().ok()?;
        output.status.success().then(|| serde_json::from_slice(&output.stdout).ok())?
    }

    /// [`Python::find`], or the message of its absence.
    pub fn require(purpose: &str) -> Result<Self> {
        Self::find().with_context(|| {
            format!(
                "no Python 3.8 or later (python3, python) on PATH; it is needed {purpose}\n  install Python 3 with pip, or set LIBTORCH to a folder with libtorch {VERSION}"
            )
        })
    }

    /// The folder of an installed PyTorch of the right version.
    pub fn torch(&self) -> Option<&Path> {
        let torch = self.torch.as_ref()?;
        (torch.version.split('+').next() == Some(VERSION)).then_some(torch.folder.as_path())
    }

    /// A command that runs this interpreter.
    pub fn command(&self) -> Command {
        without_libtorch(Command::new(&self.executable))
    }

    /// Runs pip, its progress bar passed through to the terminal; its messages are the detail of the error, if it fails.
    ///
    /// Temporary files go to `scratch`, so that they share the fate of the folder in the making.
    pub fn pip<S: AsRef<std::ffi::OsStr>>(&self, args: &[S], what: &str, scratch: &Path, cache: &Cache) -> Result<()> {
        if self.pip.is_none() {
            bail!(
                "{} has no pip; it is needed to download {what}\n  install it (python3 -m ensurepip --user, or your system's package python3-pip), or set LIBTORCH to a folder with libtorch {VERSION}",
                self.executable.display()
            );
        }
        let progress = Stdio::from(io::stderr().as_fd().try_clone_to_owned()?);
        let mut command = self.command();
        die_with_this_process(&mut command);
        let mut child = command
            .args(["-m", "pip"])
            .args(args)
            .env("PIP_DISABLE_PIP_VERSION_CHECK", "1")
            .env("PIP_NO_INPUT", "1")
            .env("TMPDIR", scratch)
            .stdin(Stdio::null())
            .stdout(progress)
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}", self.executable.display()))?;
        let tail = follow(BufReader::new(child.stderr.take().expect("stderr is piped")));
        if child.wait()?.success() {
            return Ok(());
        }
        Err(explain(what, &tail, cache))
    }
}

/// `command` without `.libtorch/lib` on its library path: a Python's own PyTorch must not load the libraries linked there.
fn without_libtorch(mut command: Command) -> Command {
    if let Some(path) = env::var_os("LD_LIBRARY_PATH") {
        let kept: Vec<_> = env::split_paths(&path).filter(|dir| !dir.ends_with(".libtorch/lib")).collect();
        match env::join_paths(kept) {
            Ok(kept) if kept != OsString::new() => command.env("LD_LIBRARY_PATH", kept),
            _ => command.env_remove("LD_LIBRARY_PATH"),
        };
    }
    command
}

/// Ends `command` when this process is killed: a download nobody waits for must not go on, least of all beside the next one.
fn die_with_this_process(command: &mut Command) {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Signal, set_parent_process_death_signal};
        use std::os::unix::process::CommandExt;
        // SAFETY: between fork and exec only a single system call is made, which neither allocates nor locks.
        unsafe {
            command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = command;
}

/// Reads pip's messages to their end and keeps the last ones, of its retries only the latest; tells of retries while they happen.
fn follow(stderr: impl BufRead) -> Vec<String> {
    const KEPT: usize = 6;
    const WIDTH: usize = 300;
    let is_retry = |line: &str| line.contains("Retrying");
    let mut tail: VecDeque<String> = VecDeque::new();
    let mut told = false;
    for line in stderr.split(b'\n').map_while(Result::ok) {
        let line: String = String::from_utf8_lossy(&line).trim_end().chars().take(WIDTH).collect();
        if line.is_empty() {
            continue;
        }
        if is_retry(&line) {
            if !told {
                let hint = if io::stderr().is_terminal() { " (Ctrl-C gives up)" } else { "" };
                eprintln!("  the network does not answer; pip tries again a few times{hint}");
                told = true;
            }
            tail.retain(|earlier| !is_retry(earlier));
        }
        tail.push_back(line);
        if tail.len() > KEPT {
            tail.pop_front();
        }
    }
    tail.into()
}

/// Turns the last words of a failed pip into one message that says what to do.
fn explain(what: &str, tail: &[String], cache: &Cache) -> anyhow::Error {
    let said = tail.join("\n");
    let has = |needles: &[&str]| needles.iter().any(|needle| said.contains(needle));
    if has(&["No space left", "Errno 28", "Errno 122"]) {
        return cache.full();
    }
    let network = [
        "Retrying",
        "Max retries",
        "Connection",
        "connection",
        "ConnectTimeout",
        "ReadTimeout",
        "name resolution",
        "unreachable",
    ];
    let (reason, advice) = if has(&network) {
        (
            "the package index cannot be reached",
            "check the network (behind a proxy, set HTTPS_PROXY; for a mirror, PIP_INDEX_URL), and run the command again",
        )
    } else if has(&["hash", "HASH"]) {
        ("what came was damaged", "run the command again")
    } else if has(&["No matching distribution", "no such option", "not a supported wheel"]) {
        (
            "pip finds no package for this machine",
            "update pip (python3 -m pip install --upgrade pip) and run the command again",
        )
    } else {
        ("pip failed", "see to what pip says and run the command again")
    };
    let detail: String = tail.iter().map(|line| format!("\n    {line}")).collect();
    anyhow!(
        "cannot download {what}: {reason}\n  {advice};\n  or set LIBTORCH to a folder with libtorch {VERSION}\n  pip's last words:{detail}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_failed_download_is_told() {
        let cache = Cache::locate().unwrap();
        let cases = [
            ("OSError: [Errno 28] No space left on device", "no space left"),
            ("WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError'", "check the network"),
            ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES", "damaged"),
            ("ERROR: No matching distribution found for torch==2.11.0", "update pip"),
            ("ERROR: something else", "pip failed"),
        ];
        for (said, expected) in cases {
            let message = explain("PyTorch", &[said.to_owned()], &cache).to_string();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn of_many_retries_one_is_kept() {
        let text = "WARNING: Retrying (Retry(total=1))\nWARNING: Retrying (Retry(total=0))\nERROR: none\n";
        assert_eq!(follow(text.as_bytes()), ["WARNING: Retrying (Retry(total=0))", "ERROR: none"]);
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        let text: String = (0..20).map(|line| format!("line {line}\n\n")).collect();
        assert_eq!(follow(text.as_bytes()), ["line 14", "line 15", "line 16", "line 17", "line 18", "line 19"]);
    }

    #[test]
    fn another_release_of_pytorch_is_not_taken() {
        let with = |version: &str| Python {
            executable: "python3".into(),
            version: (3, 12),
            pip: None,
            torch: Some(Package { version: version.to_owned(), folder: "/site/torch".into() }),
        };
        assert_eq!(with("2.11.0+cpu").torch(), Some(Path::new("/site/torch")));
        assert_eq!(with("2.11.1").torch(), None);
    }
}
