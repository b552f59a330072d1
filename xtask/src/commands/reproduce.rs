//! `cargo xtask reproduce` and `cargo xtask report`: build the `reproduce` program and become it.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use clap::CommandFactory;
use serde_json::Value;

use crate::setup;
use crate::workspace::{self, Workspace};

/// Sets up, builds, and replaces this process by `reproduce ARGS` or `reproduce report ARGS`.
pub fn run(workspace: &Workspace, command: &str, args: Vec<OsString>) -> Result<ExitCode> {
    if command == "reproduce" && args == ["--list"] {
        println!("{}", crate::catalog::list(workspace.root()));
        return Ok(ExitCode::SUCCESS);
    }
    let asks_for_help = args.iter().any(|arg| arg == "--help" || arg == "-h");
    if (asks_for_help || (args.is_empty() && command == "reproduce")) && !built_before(workspace)? {
        // Building takes minutes and a download: too much for a look at the help.
        help(command)?;
        return Ok(if asks_for_help { ExitCode::SUCCESS } else { ExitCode::from(2) });
    }
    setup::ensure(workspace, setup::Request::default())?;
    let mut program = workspace.program(&build(workspace)?);
    if command == "report" {
        program.arg("report");
    }
    let error = program.args(args).exec();
    Err(error).with_context(|| format!("starting {}", program.get_program().to_string_lossy()))
}

/// Builds the program, cargo showing its progress, and returns where it is.
pub fn build(workspace: &Workspace) -> Result<PathBuf> {
    let mut cargo = workspace.cargo();
    cargo
        .args(["build", "--release", "--package", "autodidact-reproduce", "--bin", "reproduce"])
        .args(["--message-format", "json-render-diagnostics"])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    let output = cargo.output().context("starting cargo")?;
    if !output.status.success() {
        bail!(
            "the build of `reproduce` failed\n  what the compiler said is above; the command was: {}",
            workspace::line(&cargo)
        );
    }
    executable(&output.stdout).context("cargo built no program called `reproduce`")
}

/// The path of the program among cargo's messages, one JSON object a line.
fn executable(messages: &[u8]) -> Option<PathBuf> {
    messages
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Value>(line).ok())
        .filter(|message| message["reason"] == "compiler-artifact" && message["target"]["name"] == "reproduce")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

fn built_before(workspace: &Workspace) -> Result<bool> {
    Ok(workspace.target()?.join("release/reproduce").exists())
}

/// What is known of the command without the program itself.
fn help(command: &str) -> Result<()> {
    let mut cli = crate::Cli::command();
    cli.build();
    let command = cli.find_subcommand_mut(command).context("a command of this program")?;
    Ok(command.print_long_help()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_among_cargos_messages() {
        let messages = br#"{"reason":"compiler-artifact","target":{"name":"autodidact_core"},"executable":null}
{"reason":"build-script-executed"}
{"reason":"compiler-artifact","target":{"name":"reproduce"},"executable":"/target/release/reproduce"}
{"reason":"build-finished","success":true}
"#;
        assert_eq!(executable(messages), Some("/target/release/reproduce".into()));
        assert_eq!(executable(b"{\"reason\":\"build-finished\"}\n"), None);
    }
}
