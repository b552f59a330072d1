//! `cargo xtask bench`: the benchmark suite, beside the Python packages it is compared with.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use super::reproduce;
use crate::setup::cache::{Cache, Staging};
use crate::setup::python::Python;
use crate::setup::{self, manifest};
use crate::workspace::{self, Workspace};

/// Names the interpreter that runs the peers, for the suite; set by the user it is used as it is.
const PEER_PYTHON: &str = "AUTODIDACT_PEER_PYTHON";

/// Bytes that must be free to make the environment: PyTorch with its NVIDIA libraries, packed and unpacked.
const NEEDED: u64 = 9_000_000_000;

/// Names the built `reproduce` program, for the entries of the suite that start it.
const REPRODUCE: &str = "AUTODIDACT_REPRODUCE";

/// The entries that start it.
const ENTRIES_OF_PROGRAM: [&str; 2] = ["end-to-end/list", "end-to-end/teacher-guidance-smoke"];

/// Which benchmarks run, and how.
#[derive(clap::Args)]
pub struct Options {
    /// Only benchmarks whose name contains this; may be given more than once
    #[arg(long, value_name = "TEXT")]
    filter: Vec<String>,
    /// Few rounds: the whole suite in minutes, with wide intervals
    #[arg(long)]
    quick: bool,
    /// Leave the Python packages out: no environment is made, only our own times are taken
    #[arg(long)]
    no_peers: bool,
    /// Make this the recorded run: benches/results/bench.json, and the tables in benches/RESULTS.md
    #[arg(long, conflicts_with_all = ["filter", "quick", "no_peers"])]
    record: bool,
    /// Name the benchmarks and end
    #[arg(long)]
    list: bool,
    /// Other options of the suite, for example `-- --rounds 50 --threads 1`
    #[arg(last = true, value_name = "OPTIONS")]
    suite: Vec<OsString>,
}

/// Sets up, makes what is missing (the peers' environment, the `reproduce` program), and runs the suite.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    setup::ensure(workspace, setup::Request::default())?;
    let out = workspace.target()?.join("bench");
    let mut cargo = workspace.cargo();
    cargo
        .args(["bench", "--package", "autodidact-benches", "--"])
        .args(&options.filter)
        .env("AUTODIDACT_BENCH_OUT", &out);
    for (flag, given) in [("--quick", options.quick), ("--record", options.record), ("--list", options.list)] {
        if given {
            cargo.arg(flag);
        }
    }
    cargo.args(&options.suite);
    if options.list {
        return workspace::run(&mut cargo);
    }
    if options.no_peers {
        cargo.env_remove(PEER_PYTHON);
    } else if env::var_os(PEER_PYTHON).is_none() {
        cargo.env(PEER_PYTHON, peers(workspace)?);
    }
    if wants_program(&options.filter) {
        cargo.env(REPRODUCE, reproduce::build(workspace)?);
    }
    workspace::run(&mut cargo)?;
    eprintln!("results are in {}", out.display());
    Ok(())
}

/// Whether entries that start the program are among those chosen: it takes minutes to build.
fn wants_program(filter: &[String]) -> bool {
    filter.is_empty() || filter.iter().any(|f| ENTRIES_OF_PROGRAM.iter().any(|name| name.contains(f.as_str())))
}

/// The interpreter of an environment that holds the peers, made if it is missing.
fn peers(workspace: &Workspace) -> Result<PathBuf> {
    let requirements = workspace.root().join("benches/peers/requirements.txt");
    let text = fs::read_to_string(&requirements).with_context(|| format!("reading {}", requirements.display()))?;
    let python = Python::require("to run the peers (--no-peers leaves them out)")?;
    if python.version < (3, 11) {
        bail!(
            "the peers need Python 3.11 or later, and {} is {}.{}\n  put a later one first on PATH, or leave them out with --no-peers",
            python.executable.display(),
            python.version.0,
            python.version.1
        );
    }
    let cache = Cache::locate()?;
    let name = environment(&text, python.version);
    let interpreter = |folder: &Path| folder.join("bin/python");
    if manifest::verify(&cache.entry(&name)).is_ok() {
        return Ok(interpreter(&cache.entry(&name)));
    }
    let lock = cache.lock()?;
    if manifest::verify(&cache.entry(&name)).is_ok() {
        return Ok(interpreter(&cache.entry(&name)));
    }
    eprintln!("installing the Python packages to compare with (about 3 GB), once, in {}", cache.root().display());
    let staging = cache.staging(&lock, NEEDED)?;
    fill(&staging, &python, &requirements, &cache)?;
    // Only `bin/python` is used from here on, and that works wherever the environment is moved to.
    Ok(interpreter(&staging.publish(&name)?))
}

/// Makes a virtual environment and installs the requirements.
fn fill(staging: &Staging, python: &Python, requirements: &Path, cache: &Cache) -> Result<()> {
    let made = python.command().args(["-m", "venv"]).arg(staging.path()).stdin(Stdio::null()).output()?;
    if !made.status.success() {
        let said = [made.stdout, made.stderr].concat();
        bail!(
            "python3 -m venv failed\n  on Debian and Ubuntu: apt install python3-venv; or leave the peers out with --no-peers\n  it said: {}",
            String::from_utf8_lossy(&said).trim()
        );
    }
    let inside =
        Python::at(&staging.path().join("bin/python")).context("the new virtual environment's Python does not run")?;
    let scratch = staging.path().join("scratch");
    fs::create_dir(&scratch)?;
    let args = ["install".into(), "--requirement".into(), requirements.as_os_str().to_owned()];
    inside.pip(&args, "the Python packages to compare with", &scratch, cache)?;
    fs::remove_dir_all(&scratch).context("removing pip's temporary files")
}

/// Name of the environment: another list of packages or another Python makes another one.
fn environment(requirements: &str, version: (u32, u32)) -> String {
    let mut hasher = DefaultHasher::new();
    requirements.hash(&mut hasher);
    format!("peers-python{}.{}-{:016x}", version.0, version.1, hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_built_where_it_is_wanted() {
        let wants = |filter: &[&str]| wants_program(&filter.iter().map(|f| (*f).to_owned()).collect::<Vec<_>>());
        assert!(wants(&[]) && wants(&["knn", "list"]) && wants(&["end-to-end"]));
        assert!(!wants(&["knn"]) && !wants(&["end-to-end/barlow"]));
    }

    #[test]
    fn environments_differ_where_their_content_would() {
        let name = environment("torch==2.11.0\n", (3, 12));
        assert!(name.starts_with("peers-python3.12-"));
        assert_eq!(name, environment("torch==2.11.0\n", (3, 12)));
        assert_ne!(name, environment("torch==2.11.0\nscipy\n", (3, 12)));
        assert_ne!(name, environment("torch==2.11.0\n", (3, 11)));
    }
}
