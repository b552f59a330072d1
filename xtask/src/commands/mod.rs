//! The commands, other than set-up.

pub mod bench;
pub mod ci;
pub mod gpu_check;
pub mod reproduce;

use std::ffi::OsString;

use anyhow::Result;

use crate::setup;
use crate::workspace::{self, Workspace};

/// `cargo xtask test`: set-up, then every test.
///
/// Release mode shares the build of libtorch's bindings with `reproduce`, and the tests train models.
pub fn test(workspace: &Workspace, args: &[OsString]) -> Result<()> {
    setup::ensure(workspace, setup::Request::default())?;
    let mut cargo = workspace.cargo();
    cargo.args(["test", "--release"]);
    if !chooses_packages(args) {
        cargo.arg("--workspace");
    }
    workspace::run(cargo.args(args))
}

/// Whether cargo's arguments (before `--`) say which packages are meant.
fn chooses_packages(args: &[OsString]) -> bool {
    args.iter()
        .map(|arg| arg.to_string_lossy())
        .take_while(|arg| arg != "--")
        .any(|arg| arg.starts_with("-p") || arg.starts_with("--package") || arg == "--workspace" || arg == "--all")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_of_packages_is_recognised() {
        let chooses = |args: &[&str]| chooses_packages(&args.iter().map(OsString::from).collect::<Vec<_>>());
        assert!(chooses(&["-p", "autodidact-core"]) && chooses(&["-pxtask"]) && chooses(&["--package=xtask"]));
        assert!(!chooses(&["barlow"]) && !chooses(&["--", "-p"]) && !chooses(&[]));
    }
}
