//! The project's commands, run as `cargo xtask COMMAND`: set-up, reproductions, report, benchmarks, tests.
//!
//! This program never links libtorch, so it runs first on a fresh machine and sets libtorch up for the rest.

#[cfg(not(unix))]
compile_error!("autodidact builds on Linux and macOS; on Windows use the Windows Subsystem for Linux");

// The list of papers is answered without starting cargo or loading libtorch; the program that runs them shares this file.
#[allow(dead_code)]
#[path = "../../crates/reproduce/src/catalog.rs"]
mod catalog;
mod commands;
mod setup;
mod workspace;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use workspace::Workspace;

/// Everything there is to do in this workspace; each command first sets up what it needs.
///
/// New here? `cargo xtask reproduce --list` shows the papers, `cargo xtask reproduce barlow-twins` reproduces one.
#[derive(Parser)]
#[command(bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Set libtorch up, so that plain cargo commands work too
    ///
    /// Links .libtorch to the first of: $LIBTORCH; what it is linked to already; the copy in the cache; the PyTorch of the
    /// active Python, if it is the right release; a copy made now from PyTorch's published wheels. The cache is
    /// $AUTODIDACT_CACHE, else $XDG_CACHE_HOME/autodidact, else ~/.cache/autodidact. It is safe to interrupt this and to run
    /// it again; if all is set up it takes no time.
    Setup(setup::Request),
    /// Reproduce a paper: set up, build, run, and print which of its claims held
    ///
    /// All arguments go to the `reproduce` program, for example `cargo xtask reproduce barlow-twins --scale smoke`.
    /// `--list` shows all papers. Once the program is built, `--help` shows all that it understands.
    #[command(disable_help_flag = true)]
    Reproduce(PassedOn),
    /// Collect the recorded results into a web site and the table in README.md
    ///
    /// `--check` changes nothing, and fails if README.md differs from the recorded results. Once the `reproduce` program is
    /// built, `--help` shows all that it understands.
    #[command(disable_help_flag = true)]
    Report(PassedOn),
    /// Run the tests of the whole workspace, in release mode; arguments go to `cargo test`
    ///
    /// For example `cargo xtask test -p autodidact-core`, or `cargo xtask test -- barlow`.
    Test(PassedOn),
    /// Run the benchmark suite, with the Python packages it compares with in an environment of their own
    Bench(commands::bench::Options),
    /// Run papers at smoke scale on a GPU and compare their losses with the CPU's
    ///
    /// Without a GPU it takes a pretended one: a stand-in for libtorch_cuda.so that computes on the CPU, but on which what
    /// mixes devices, or asks for a kernel that CUDA is known to lack, fails. It also counts how often the host waits for the
    /// device.
    GpuCheck(commands::gpu_check::Options),
    /// Run all that must pass before a change is taken: format, lints, tests, docs, every paper at smoke scale on the CPU and
    /// on a GPU (a pretended one, where there is none), the report
    Ci,
}

/// Arguments for another program; declared for the help, and taken from the command line as they are ([`main`]), because the
/// parser would swallow a leading `--`.
#[derive(clap::Args)]
struct PassedOn {
    /// Arguments that are passed on
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    _args: Vec<OsString>,
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    let after_command = std::env::args_os().skip(2).collect();
    match act(command, after_command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act(command: Command, args: Vec<OsString>) -> Result<ExitCode> {
    let workspace = Workspace::locate()?;
    match command {
        Command::Setup(request) => println!("{}", setup::ensure(&workspace, request)?.describe()),
        Command::Reproduce(_) => return commands::reproduce::run(&workspace, "reproduce", args),
        Command::Report(_) => return commands::reproduce::run(&workspace, "report", args),
        Command::Test(_) => commands::test(&workspace, &args)?,
        Command::Bench(options) => commands::bench::run(&workspace, &options)?,
        Command::GpuCheck(options) => commands::gpu_check::run(&workspace, &options)?,
        Command::Ci => commands::ci::run(&workspace)?,
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
