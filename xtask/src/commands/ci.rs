//! `cargo xtask ci`: all that must pass before a change is taken.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::{gpu_check, reproduce};
use crate::setup;
use crate::workspace::{self, Workspace};

/// Runs every check, each under a heading with its time, and stops at the first that fails.
pub fn run(workspace: &Workspace) -> Result<()> {
    let start = Instant::now();
    let cargo = |args: &[&str]| {
        let mut cargo = workspace.cargo();
        cargo.args(args);
        cargo
    };
    step("set-up", "cargo xtask setup", || {
        eprintln!("{}", setup::ensure(workspace, setup::Request::default())?.describe());
        Ok(())
    })?;
    check("format", cargo(&["fmt", "--all", "--check"]), "cargo fmt --all --check")?;
    check(
        "lints",
        cargo(&["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"]),
        "cargo clippy --release --workspace --all-targets -- -D warnings",
    )?;
    check("tests", cargo(&["test", "--release", "--workspace"]), "cargo xtask test")?;
    let mut docs = cargo(&["doc", "--release", "--workspace", "--no-deps"]);
    docs.env("RUSTDOCFLAGS", "-D warnings");
    check("docs", docs, "RUSTDOCFLAGS='-D warnings' cargo doc --release --workspace --no-deps")?;

    let program = reproduce::build(workspace)?;
    let out = workspace.target()?.join("ci-smoke");
    if out.exists() {
        fs::remove_dir_all(&out).with_context(|| format!("removing {}", out.display()))?;
    }
    let mut smoke = workspace.program(&program);
    // One thread: on a busy machine, threads that wait for others make a smoke run of seconds one of minutes.
    smoke
        .current_dir(workspace.root())
        .args(["--all", "--scale", "smoke", "--device", "cpu", "--threads", "1", "--out"])
        .arg(&out);
    check(
        "every paper at smoke scale",
        smoke,
        "cargo xtask reproduce --all --scale smoke --device cpu --threads 1 --out target/ci-smoke --fresh",
    )?;
    step("every paper on a GPU", "cargo xtask gpu-check", || gpu_check::check(workspace, &program, &[], Some(&out)))?;
    fs::remove_dir_all(&out).ok();
    let mut report = workspace.program(&program);
    report.current_dir(workspace.root()).args(["report", "--check"]);
    check("README and recorded results", report, "cargo xtask report --check")?;
    eprintln!("\nall checks passed in {}", seconds(start.elapsed()));
    Ok(())
}

/// A step that is one command.
fn check(name: &str, mut command: Command, again: &str) -> Result<()> {
    step(name, again, || workspace::run(&mut command))
}

/// Runs one step under a heading; its failure says how to run it alone.
fn step(name: &str, again: &str, action: impl FnOnce() -> Result<()>) -> Result<()> {
    eprintln!("\n== {name}: {again}");
    let start = Instant::now();
    let outcome = action();
    let took = seconds(start.elapsed());
    match outcome {
        Ok(()) => eprintln!("== {name}: passed in {took}"),
        Err(error) => bail!("{name} failed after {took}: {error:#}\n  to run it alone: {again}"),
    }
    Ok(())
}

fn seconds(time: Duration) -> String {
    match time.as_secs() {
        0..100 => format!("{:.1} s", time.as_secs_f64()),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_says_how_to_run_it_alone() {
        let error = step("tests", "cargo xtask test", || bail!("2 tests failed")).unwrap_err().to_string();
        assert!(error.starts_with("tests failed after") && error.contains("2 tests failed"), "{error}");
        assert!(error.ends_with("to run it alone: cargo xtask test"), "{error}");
    }

    #[test]
    fn times_are_readable() {
        assert_eq!(seconds(Duration::from_millis(1234)), "1.2 s");
        assert_eq!(seconds(Duration::from_secs(754)), "12 min 34 s");
    }
}
