//! Setting up: a libtorch of the right version behind the link `.libtorch`, and a compiler to build against it.

pub mod cache;
pub mod compiler;
mod copy;
mod libtorch;
mod link;
pub mod manifest;
pub mod python;
mod wheel;

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};

use crate::workspace::Workspace;
use cache::Cache;
use copy::Build;
use libtorch::{Libtorch, VERSION};
use link::State;
use python::Python;

/// What is asked of the set-up.
#[derive(Debug, Default, Clone, Copy, clap::Args)]
pub struct Request {
    /// Set up the CUDA build (3 GB), for NVIDIA GPUs; without this it is chosen when an NVIDIA driver is found
    #[arg(long, conflicts_with = "cpu")]
    pub cuda: bool,
    /// Set up the CPU build (0.5 GB) even if an NVIDIA driver is found
    #[arg(long)]
    pub cpu: bool,
    /// Make a fresh copy in the cache, even if a good libtorch is set up
    #[arg(long)]
    pub force: bool,
}

/// Sees to it that `.libtorch` leads to a usable libtorch, quickly if it does already.
///
/// Taken is the first of: `$LIBTORCH`; what `.libtorch` leads to; the copy in the cache; the active Python's PyTorch; a copy
/// made now.
pub fn ensure(workspace: &Workspace, request: Request) -> Result<Outcome> {
    compiler::require()?;
    let link = workspace.libtorch();
    if let Some(own) = users_own(env::var_os("LIBTORCH").map(PathBuf::from), &link)? {
        let libtorch = check_own(&own, request)?;
        if own != link {
            link::set(&link, &own)?;
        }
        return Ok(Outcome { libtorch, source: Source::Variable });
    }
    if let State::Linked(_) | State::Foreign = link::state(&link)
        && !request.force
        && let Some(libtorch) = current(&link, request)
    {
        return Ok(Outcome { libtorch, source: Source::Link });
    }

    let build = if request.cuda || (!request.cpu && has_nvidia_driver()) { Build::Cuda } else { Build::Cpu };
    if link::state(&link) == State::Foreign {
        // Said before anything is downloaded.
        bail!(
            "{} is in the way: it is not a usable libtorch {VERSION}, and set-up wants to put a link there\n  move it away, and run the command again",
            link.display()
        );
    }
    let (libtorch, source) = find_or_make(&Cache::locate()?, build, request.force)?;
    link::set(&link, &libtorch.root)?;
    Ok(Outcome { libtorch, source })
}

/// What set-up ended with.
#[derive(Debug)]
pub struct Outcome {
    libtorch: Libtorch,
    source: Source,
}

/// Where a libtorch was found.
#[derive(Debug, Clone, Copy)]
enum Source {
    Variable,
    Link,
    Cache,
    Python,
    Made,
}

impl Outcome {
    /// One line (or two) for the user of `cargo xtask setup`.
    pub fn describe(&self) -> String {
        let source = match self.source {
            Source::Variable => "as $LIBTORCH says",
            Source::Link => "set up before",
            Source::Cache => "a copy made before",
            Source::Python => "the active Python's PyTorch",
            Source::Made => "made now",
        };
        let build = if self.libtorch.cuda { "CUDA" } else { "CPU" };
        let root = self.libtorch.root.canonicalize().unwrap_or_else(|_| self.libtorch.root.clone());
        let mut text = format!("libtorch {VERSION} ({build}) is ready: {} ({source})", root.display());
        if !self.libtorch.cuda && has_nvidia_driver() {
            text += "\nthis machine has an NVIDIA driver: `cargo xtask setup --cuda` sets the CUDA build up";
        }
        text
    }
}

/// The user's own `$LIBTORCH`, made absolute; none if it is unset or what cargo's configuration sets it to.
fn users_own(value: Option<PathBuf>, link: &Path) -> Result<Option<PathBuf>> {
    let Some(value) = value else { return Ok(None) };
    if value.as_os_str().is_empty() {
        bail!(
            "$LIBTORCH is set to nothing\n  unset it to let set-up choose, or set it to a folder with libtorch {VERSION}"
        );
    }
    let own = std::path::absolute(value)?;
    Ok((own != link).then_some(own))
}

/// Checks the user's choice, for which there is no substitute.
fn check_own(own: &Path, request: Request) -> Result<Libtorch> {
    let advice = format!(
        "set LIBTORCH to a folder with include/ and lib/ of libtorch {VERSION}, or unset it to let set-up make one"
    );
    let libtorch = libtorch::inspect(own)
        .map_err(|fault| anyhow!("$LIBTORCH ({}) is not libtorch {VERSION}: {fault}\n  {advice}", own.display()))?;
    if request.cuda && !libtorch.cuda {
        bail!("$LIBTORCH ({}) has no CUDA (lib/libtorch_cuda), which --cuda asks for\n  {advice}", own.display());
    }
    if request.force {
        bail!("$LIBTORCH is set, so --force has nothing to make\n  unset it to have a copy made");
    }
    Ok(libtorch)
}

/// What `.libtorch` leads to now, if it will do.
fn current(link: &Path, request: Request) -> Option<Libtorch> {
    let libtorch = libtorch::inspect(link).ok()?;
    let whole = !copy::is_damaged(&link.canonicalize().ok()?);
    (whole && (libtorch.cuda || !request.cuda)).then_some(libtorch)
}

/// A libtorch of `build`, from the cache or the active Python if they have one; with `force` always a fresh copy.
fn find_or_make(cache: &Cache, build: Build, force: bool) -> Result<(Libtorch, Source)> {
    if !force && let Some(libtorch) = copy::find(cache, build) {
        return Ok((libtorch, Source::Cache));
    }
    let python = Python::require("to download PyTorch")?;
    if !force
        && let Some(torch) = python.torch()
        && let Ok(libtorch) = libtorch::inspect(torch)
        && (libtorch.cuda || build == Build::Cpu)
    {
        return Ok((libtorch, Source::Python));
    }
    let lock = cache.lock()?;
    // Another set-up may have made it while this one waited.
    if !force && let Some(libtorch) = copy::find(cache, build) {
        return Ok((libtorch, Source::Cache));
    }
    Ok((copy::make(cache, &lock, &python, build)?, Source::Made))
}

/// Whether an NVIDIA driver is installed.
pub fn has_nvidia_driver() -> bool {
    Path::new("/proc/driver/nvidia/version").exists() || compiler::on_path("nvidia-smi").is_some()
}

/// Bytes for people.
fn size(bytes: u64) -> String {
    match bytes {
        1_000_000_000.. => format!("{:.1} GB", bytes as f64 / 1e9),
        _ => format!("{:.0} MB", bytes as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargos_own_value_of_libtorch_is_not_the_users() {
        let link = Path::new("/project/.libtorch");
        let own = |value: &str| users_own(Some(value.into()), link);
        assert_eq!(users_own(None, link).unwrap(), None);
        assert_eq!(own("/project/.libtorch").unwrap(), None);
        assert_eq!(own("/project/.libtorch/").unwrap(), None);
        assert_eq!(own("/opt/libtorch").unwrap(), Some("/opt/libtorch".into()));
        assert!(own("relative").unwrap().unwrap().is_absolute());
        assert!(own("").unwrap_err().to_string().contains("set to nothing"));
    }

    #[test]
    fn the_users_choice_is_checked_and_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let check = |request| check_own(dir.path(), request).map_err(|error| error.to_string());
        assert!(check(Request::default()).unwrap_err().contains("empty"));
        libtorch::tests::fake(dir.path(), Some("2.9.1"));
        assert!(check(Request::default()).unwrap_err().contains("it is version 2.9.1"));
        libtorch::tests::fake(dir.path(), Some(VERSION));
        assert!(check(Request::default()).is_ok());
        assert!(check(Request { cuda: true, ..Request::default() }).unwrap_err().contains("no CUDA"));
        assert!(check(Request { force: true, ..Request::default() }).unwrap_err().contains("--force"));
    }

    #[test]
    fn sizes_are_readable() {
        assert_eq!((size(2_000_000_000), size(530_000_000)), ("2.0 GB".to_owned(), "530 MB".to_owned()));
    }
}
