//! Making a libtorch of our own in the cache, from PyTorch's published wheels.
//!
//! A copy is a folder in the cache that holds `torch/` (with `include/` and `lib/`) and its list of files.

use std::env::consts::ARCH;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::cache::{Cache, Lock, Staging};
use super::libtorch::{self, Libtorch, VERSION};
use super::python::Python;
use super::{manifest, wheel};

/// What a libtorch can run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Build {
    /// Processors alone: 0.5 GB.
    Cpu,
    /// NVIDIA GPUs as well: the whole wheel with the NVIDIA libraries it depends on.
    Cuda,
}

impl Build {
    /// Name of the copy in the cache.
    pub fn name(self) -> String {
        match self {
            Self::Cpu => format!("libtorch-{VERSION}-cpu"),
            Self::Cuda => format!("libtorch-{VERSION}-cuda"),
        }
    }

    /// Bytes that must be free to make it: the download, pip's temporary copy of it, and the result.
    fn needs(self) -> u64 {
        match self {
            Self::Cpu => 2_000_000_000,
            Self::Cuda => 8_000_000_000,
        }
    }
}

/// Any wheel of the release has the same headers and libraries, whatever Python is the active one.
const PYTHON_VERSION: &str = "3.12";

/// The C libraries (glibc 2.x) that PyTorch, NVIDIA and Triton publish their Linux wheels for.
const GLIBC: std::ops::RangeInclusive<u32> = 17..=28;

/// NVIDIA libraries that `libtorch_cpu` of the published wheels needs even where there is no GPU, and their packages.
const NVIDIA: [(&str, &str); 2] =
    [("nvidia-cuda-cupti==13.0.*", "libcupti.so.13"), ("nvidia-cuda-runtime==13.0.*", "libcudart.so.13")];

/// The libraries of the PyTorch wheel that `libtorch_cpu` consists of, on this machine.
fn libraries(arch: &str) -> Option<&'static [&'static str]> {
    match arch {
        "x86_64" => Some(&["libtorch_cpu.so", "libc10.so", "libgomp.so.1"]),
        "aarch64" => Some(&[
            "libtorch_cpu.so",
            "libc10.so",
            "libgomp.so.1",
            "libgfortran.so.5",
            "libarm_compute.so",
            "libarm_compute_graph.so",
            "libnvpl_blas_core.so.0",
            "libnvpl_blas_lp64_gomp.so.0",
            "libnvpl_lapack_core.so.0",
            "libnvpl_lapack_lp64_gomp.so.0",
        ]),
        _ => None,
    }
}

/// A whole copy in the cache that serves for `build`; the CUDA build serves for the CPU, too.
pub fn find(cache: &Cache, build: Build) -> Option<Libtorch> {
    match build {
        Build::Cpu => whole(cache, Build::Cpu).or_else(|| whole(cache, Build::Cuda)),
        Build::Cuda => whole(cache, Build::Cuda),
    }
}

/// The copy of exactly `build`, if nothing of it was lost.
fn whole(cache: &Cache, build: Build) -> Option<Libtorch> {
    let folder = cache.entry(&build.name());
    manifest::verify(&folder).ok()?;
    libtorch::inspect(&folder.join("torch")).ok()
}

/// Whether `root` is a copy from a cache of which something was lost.
pub fn is_damaged(root: &Path) -> bool {
    let made_here = root.parent().filter(|folder| {
        let name = folder.file_name().unwrap_or_default();
        [Build::Cpu, Build::Cuda].iter().any(|build| *name == *build.name())
    });
    made_here.is_some_and(|folder| manifest::verify(folder).is_err())
}

/// Downloads and unpacks a copy of `build`.
pub fn make(cache: &Cache, lock: &Lock, python: &Python, build: Build) -> Result<Libtorch> {
    if !cfg!(target_os = "linux") || libraries(ARCH).is_none() {
        bail!(
            "there is no ready-made libtorch for this system ({} on {ARCH})\n  install PyTorch {VERSION} in the active Python, or set LIBTORCH to a folder with libtorch {VERSION}",
            std::env::consts::OS
        );
    }
    let earlier = cache.entry(&build.name());
    if earlier.exists()
        && let Err(lost) = manifest::verify(&earlier)
    {
        eprintln!("the copy in {} is damaged ({}); it is made anew", earlier.display(), lost.display());
    }
    let staging = cache.staging(lock, build.needs())?;
    let filled = match build {
        Build::Cpu => fill_cpu(&staging, python, cache),
        Build::Cuda => fill_cuda(&staging, python, cache),
    };
    let folder = filled
        .and_then(|()| staging.publish(&build.name()))
        .map_err(|error| if is_full(&error) { cache.full() } else { error })?;
    libtorch::inspect(&folder.join("torch")).map_err(|fault| anyhow::anyhow!("{}: {fault}", folder.display()))
}

/// Whether a full disk is at the bottom of an error.
fn is_full(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|error| matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
}

/// pip's options that name the wheels of this kind of machine, so that any Python fetches the same ones.
fn platform_options() -> Vec<String> {
    let mut options = vec!["--only-binary=:all:".to_owned(), "--python-version".to_owned(), PYTHON_VERSION.to_owned()];
    let platforms = GLIBC.rev().map(|minor| format!("manylinux_2_{minor}")).chain(["manylinux2014".to_owned()]);
    for platform in platforms {
        options.extend(["--platform".to_owned(), format!("{platform}_{ARCH}")]);
    }
    options
}

/// The whole wheel and what it depends on, as pip installs it.
fn fill_cuda(staging: &Staging, python: &Python, cache: &Cache) -> Result<()> {
    eprintln!("downloading PyTorch {VERSION} with CUDA (about 3 GB), once, to {}", cache.root().display());
    let scratch = scratch(staging)?;
    let mut args = ["install", "--no-compile", "--target"].map(str::to_owned).to_vec();
    args.push(staging.path().display().to_string());
    args.extend(platform_options());
    args.push(format!("torch=={VERSION}"));
    python.pip(&args, &format!("PyTorch {VERSION} with CUDA"), &scratch, cache)?;
    fs::remove_dir_all(&scratch).context("removing pip's temporary files")
}

/// Headers and the libraries that run without a GPU.
fn fill_cpu(staging: &Staging, python: &Python, cache: &Cache) -> Result<()> {
    eprintln!("downloading PyTorch {VERSION} (about 0.5 GB), once, to {}", cache.root().display());
    let scratch = scratch(staging)?;
    let wheels = scratch.join("wheels");
    for (packages, what) in [
        (vec![format!("torch=={VERSION}")], format!("PyTorch {VERSION}")),
        (NVIDIA.iter().map(|(package, _)| (*package).to_owned()).collect(), "libraries that PyTorch needs".to_owned()),
    ] {
        let mut args = ["download", "--no-deps", "--dest"].map(str::to_owned).to_vec();
        args.push(wheels.display().to_string());
        args.extend(platform_options());
        args.extend(packages);
        python.pip(&args, &what, &scratch, cache)?;
    }

    let libraries = libraries(ARCH).expect("checked before the download");
    for entry in fs::read_dir(&wheels).with_context(|| format!("reading {}", wheels.display()))? {
        let wheel = entry?.path();
        wheel::unpack(&wheel, staging.path(), |entry| place(entry, libraries))
            .context("a download cannot be unpacked; run the command again to fetch it anew")?;
        fs::remove_file(&wheel)?;
    }
    fs::remove_dir_all(&scratch).context("removing the downloads")?;

    let torch = staging.path().join("torch");
    for library in libraries.iter().copied().chain(NVIDIA.map(|(_, library)| library)) {
        if !torch.join("lib").join(library).exists() {
            bail!("the downloaded wheels hold no {library}; they are not the published ones of PyTorch {VERSION}");
        }
    }
    write(&torch.join("build-version"), &format!("{VERSION}\n"))?;
    // What links against libtorch asks for `-ltorch`; in the published wheels that library is empty but for its own need
    // of the CUDA ones. A linker script of that name stands for the part that is here.
    write(&torch.join("lib/libtorch.so"), "INPUT(-ltorch_cpu)\n")
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

/// A folder for downloads inside the folder in the making.
fn scratch(staging: &Staging) -> Result<PathBuf> {
    let scratch = staging.path().join("scratch");
    fs::create_dir(&scratch).with_context(|| format!("writing {}", scratch.display()))?;
    Ok(scratch)
}

/// Where a file of one of the wheels goes in the copy, if it is needed.
fn place(entry: &str, libraries: &[&str]) -> Option<String> {
    if entry.starts_with("torch/include/") {
        return Some(entry.to_owned());
    }
    let of_torch = entry.strip_prefix("torch/lib/").is_some_and(|file| libraries.contains(&file));
    let (folder, file) = entry.rsplit_once('/')?;
    let of_nvidia = folder == "nvidia/cu13/lib" && NVIDIA.iter().any(|(_, library)| *library == file);
    (of_torch || of_nvidia).then(|| format!("torch/lib/{file}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_the_libraries_of_the_cpu_are_taken() {
        let libraries = libraries("x86_64").unwrap();
        for (entry, expected) in [
            ("torch/include/ATen/ATen.h", Some("torch/include/ATen/ATen.h")),
            ("torch/lib/libtorch_cpu.so", Some("torch/lib/libtorch_cpu.so")),
            ("nvidia/cu13/lib/libcudart.so.13", Some("torch/lib/libcudart.so.13")),
            ("torch/lib/libtorch_cuda.so", None),
            ("torch/lib/libtorch.so", None),
            ("nvidia/cu13/lib/libnvperf_host.so", None),
            ("nvidia/cu13/include/cupti.h", None),
            ("torch/__init__.py", None),
        ] {
            assert_eq!(place(entry, libraries).as_deref(), expected, "{entry}");
        }
    }

    #[test]
    fn a_full_disk_is_seen_through_every_layer() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        assert!(is_full(&anyhow::Error::new(full).context("writing").context("setting up")));
        assert!(!is_full(&anyhow::Error::new(io::Error::from(io::ErrorKind::NotFound)).context("writing")));
    }
}
