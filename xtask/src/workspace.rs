//! The workspace: its folders, and cargo run inside it.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Where the dynamic linker looks first.
pub const LIBRARY_PATH: &str = if cfg!(target_os = "macos") { "DYLD_LIBRARY_PATH" } else { "LD_LIBRARY_PATH" };

/// The workspace that this program belongs to.
#[derive(Debug, Clone)]
pub struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// The workspace whose `xtask` cargo is running (or, outside cargo, whose `xtask` was compiled).
    pub fn locate() -> Result<Self> {
        let package = env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
        let root = Path::new(&package).parent().context("xtask lies in the workspace")?.to_owned();
        Ok(Self { root })
    }

    /// The folder with the workspace's `Cargo.toml`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The link to libtorch.
    pub fn libtorch(&self) -> PathBuf {
        self.root.join(".libtorch")
    }

    /// The folder that cargo builds in, told from where this program was built.
    pub fn target(&self) -> Result<PathBuf> {
        let program = env::current_exe()?;
        Ok(program.ancestors().nth(2).context("cargo builds xtask two folders deep")?.to_owned())
    }

    /// A cargo that builds as a plain one would: what `cargo run` has set for this program is taken back, because some build
    /// scripts run again when it changes.
    pub fn cargo(&self) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(&self.root).env(LIBRARY_PATH, self.search_path(None));
        for (name, _) in env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") || name == "CARGO" {
                command.env_remove(&*name);
            }
        }
        match env::var_os("LIBTORCH").map(std::path::absolute) {
            Some(Ok(own)) if own != self.libtorch() => command.env("LIBTORCH", own),
            _ => command.env_remove("LIBTORCH"),
        };
        command
    }

    /// A program built by [`Workspace::cargo`].
    pub fn program(&self, path: &Path) -> Command {
        let mut command = Command::new(path);
        command.env(LIBRARY_PATH, self.search_path(None));
        command
    }

    /// The library path with `first` and then `.libtorch/lib` first, whatever else it holds.
    pub fn search_path(&self, first: Option<&Path>) -> OsString {
        let ours = self.libtorch().join("lib");
        let rest = env::var_os(LIBRARY_PATH).unwrap_or_default();
        let rest = env::split_paths(&rest).filter(|dir| *dir != ours && !dir.as_os_str().is_empty());
        let first = first.map(Path::to_owned).into_iter().chain([ours.clone()]);
        env::join_paths(first.chain(rest)).unwrap_or_else(|_| ours.into())
    }
}

/// Runs a command to its end, without standard input.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("starting {}", command.get_program().to_string_lossy()))?;
    if !status.success() {
        bail!("{} ended with {status}", line(command));
    }
    Ok(())
}

/// A command as one would type it.
pub fn line(command: &Command) -> String {
    let word = |word: &std::ffi::OsStr| {
        let word = word.to_string_lossy();
        let plain = !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || "-_./=:,+".contains(c));
        if plain { word.into_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
    };
    let program = Path::new(command.get_program());
    let program = if program.ends_with("cargo") { "cargo".into() } else { word(program.as_os_str()) };
    [program].into_iter().chain(command.get_args().map(word)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtorch_comes_first_on_the_library_path_once() {
        let workspace = Workspace { root: "/project".into() };
        let paths: Vec<_> = env::split_paths(&workspace.search_path(None)).collect();
        assert_eq!(paths[0], Path::new("/project/.libtorch/lib"));
        assert_eq!(
            paths.iter().filter(|path| path.ends_with(".libtorch/lib") && path.starts_with("/project")).count(),
            1
        );
    }

    #[test]
    fn a_command_is_shown_as_it_is_typed() {
        let mut command = Command::new("/toolchain/bin/cargo");
        command.args(["test", "--", "it's here", "--exact"]);
        assert_eq!(line(&command), r"cargo test -- 'it'\''s here' --exact");
    }
}
