//! The C++ compiler, which libtorch's bindings are built with.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

/// Fails when no C++ compiler is where the build will look for it: `$CXX`, else `c++` on `PATH`.
pub fn require() -> Result<()> {
    if let Some(cxx) = own() {
        let program = cxx.split_whitespace().next().expect("not blank");
        if on_path(program).is_none() {
            bail!("$CXX is {cxx}, but there is no such program\n  correct it, or unset it to use the system's c++");
        }
        return Ok(());
    }
    if on_path("c++").is_some() {
        return Ok(());
    }
    if let Some(other) = ["g++", "clang++"].into_iter().find_map(on_path) {
        bail!("there is no c++ on PATH, but there is {0}\n  tell the build: export CXX={0}", other.display());
    }
    bail!(
        "no C++ compiler found\n  install one (Debian, Ubuntu: apt install g++; Fedora: dnf install gcc-c++), or set CXX to yours"
    )
}

/// `$CXX`, if it names anything.
fn own() -> Option<String> {
    env::var("CXX").ok().filter(|cxx| !cxx.trim().is_empty())
}

/// The compiler of [`require`], to which arguments are added.
pub fn command() -> Command {
    let cxx = own().unwrap_or_else(|| "c++".into());
    let mut words = cxx.split_whitespace();
    let mut command = Command::new(words.next().expect("not blank"));
    command.args(words);
    command
}

/// The file that `program` names: itself when it has a slash, else the first on `PATH`.
pub fn on_path(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|path| is_executable(path));
    }
    env::split_paths(&env::var_os("PATH")?).map(|dir| dir.join(program)).find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
