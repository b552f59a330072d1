//! What makes a folder a libtorch that this workspace can use.

use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// The PyTorch release that the `tch` crate of this workspace is generated from; no other one links.
pub const VERSION: &str = "2.11.0";

/// A folder that holds headers and libraries of the right version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Libtorch {
    /// The folder with `include/` and `lib/`.
    pub root: PathBuf,
    /// Whether it can run on NVIDIA GPUs.
    pub cuda: bool,
}

/// Why a folder is not a usable libtorch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is at the path, or it is not a folder.
    Missing,
    /// The folder is empty.
    Empty,
    /// A file or folder that every libtorch has is not there.
    Lacks(PathBuf),
    /// Headers and libraries are there, but nothing tells their version.
    Unversioned,
    /// It is another release.
    Version(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Missing => write!(f, "it is not a folder"),
            Self::Empty => write!(f, "the folder is empty"),
            Self::Lacks(part) => write!(f, "it has no {}", part.display()),
            Self::Unversioned => write!(f, "no file in it tells which version it is"),
            Self::Version(found) => write!(f, "it is version {found}"),
        }
    }
}

/// Checks that `root` is a libtorch of [`VERSION`].
pub fn inspect(root: &Path) -> Result<Libtorch, Fault> {
    let mut entries = fs::read_dir(root).map_err(|_| Fault::Missing)?;
    if entries.next().is_none() {
        return Err(Fault::Empty);
    }
    let library = |name: &str| Path::new("lib").join(format!("{DLL_PREFIX}{name}{DLL_SUFFIX}"));
    for part in [PathBuf::from("include/torch"), library("torch_cpu"), library("c10")] {
        if !root.join(&part).exists() {
            return Err(Fault::Lacks(part));
        }
    }
    let found = version(root).ok_or(Fault::Unversioned)?;
    // "2.11.0+cu130" and "2.11.0+cpu" are builds of the same release.
    if found.split('+').next() != Some(VERSION) {
        return Err(Fault::Version(found));
    }
    Ok(Libtorch { root: root.to_owned(), cuda: root.join(library("torch_cuda")).exists() })
}

/// The version that a libtorch folder claims: in `build-version` (archives of libtorch), `version.py` (wheels) or a header.
fn version(root: &Path) -> Option<String> {
    let read = |file: &str| fs::read_to_string(root.join(file)).ok();
    let plain = || read("build-version").map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let python = || read("version.py").and_then(|text| version_in_python(&text));
    let header = |file: &str| read(file).and_then(|text| version_in_header(&text));
    plain()
        .or_else(python)
        .or_else(|| header("include/torch/headeronly/version.h"))
        .or_else(|| header("include/torch/csrc/api/include/torch/version.h"))
}

/// The value of `__version__ = '...'`.
fn version_in_python(text: &str) -> Option<String> {
    let value =
        text.lines().find_map(|line| line.strip_prefix("__version__")?.split_once('=').map(|(_, value)| value))?;
    let value = value.trim().trim_matches(['\'', '"']);
    (!value.is_empty()).then(|| value.to_owned())
}

/// The three numbers of `#define TORCH_VERSION_{MAJOR,MINOR,PATCH}`, joined by dots.
fn version_in_header(text: &str) -> Option<String> {
    let number = |part: &str| {
        text.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            let defines = words.next() == Some("#define")
                && words.next().and_then(|word| word.strip_prefix("TORCH_VERSION_")) == Some(part);
            if defines { words.next()?.parse::<u32>().ok() } else { None }
        })
    };
    Some(format!("{}.{}.{}", number("MAJOR")?, number("MINOR")?, number("PATCH")?))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Fills `root` with the files that [`inspect`] looks for.
    pub fn fake(root: &Path, version: Option<&str>) {
        fs::create_dir_all(root.join("include/torch")).unwrap();
        fs::create_dir_all(root.join("lib")).unwrap();
        for name in ["torch_cpu", "c10"] {
            fs::write(root.join("lib").join(format!("{DLL_PREFIX}{name}{DLL_SUFFIX}")), "library").unwrap();
        }
        if let Some(version) = version {
            fs::write(root.join("build-version"), format!("{version}\n")).unwrap();
        }
    }

    #[test]
    fn builds_of_the_right_release_are_accepted() {
        for version in ["2.11.0", "2.11.0+cpu", "2.11.0+cu130"] {
            let dir = tempfile::tempdir().unwrap();
            fake(dir.path(), Some(version));
            assert_eq!(inspect(dir.path()), Ok(Libtorch { root: dir.path().to_owned(), cuda: false }));
        }
    }

    #[test]
    fn cuda_is_told_from_its_library() {
        let dir = tempfile::tempdir().unwrap();
        fake(dir.path(), Some(VERSION));
        fs::write(dir.path().join(format!("lib/{DLL_PREFIX}torch_cuda{DLL_SUFFIX}")), "").unwrap();
        assert!(inspect(dir.path()).unwrap().cuda);
    }

    #[test]
    fn every_fault_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("libtorch");
        assert_eq!(inspect(&root), Err(Fault::Missing));
        fs::write(&root, "a file").unwrap();
        assert_eq!(inspect(&root), Err(Fault::Missing));
        fs::remove_file(&root).unwrap();
        fs::create_dir(&root).unwrap();
        assert_eq!(inspect(&root), Err(Fault::Empty));
        fs::create_dir(root.join("lib")).unwrap();
        assert_eq!(inspect(&root), Err(Fault::Lacks("include/torch".into())));
        fake(&root, None);
        assert_eq!(inspect(&root), Err(Fault::Unversioned));
        for wrong in ["2.10.0", "2.11.1+cpu", "2.1", "12.11.0"] {
            fake(&root, Some(wrong));
            assert_eq!(inspect(&root), Err(Fault::Version(wrong.to_owned())));
        }
        fs::remove_file(root.join(format!("lib/{DLL_PREFIX}torch_cpu{DLL_SUFFIX}"))).unwrap();
        assert!(matches!(inspect(&root), Err(Fault::Lacks(part)) if part.starts_with("lib")));
    }

    #[test]
    fn the_version_is_found_in_a_wheel_and_in_the_headers() {
        let dir = tempfile::tempdir().unwrap();
        fake(dir.path(), None);
        let header = dir.path().join("include/torch/headeronly/version.h");
        fs::create_dir_all(header.parent().unwrap()).unwrap();
        fs::write(
            &header,
            "#define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION_MINOR 9\n#define TORCH_VERSION_PATCH 1\n",
        )
        .unwrap();
        assert_eq!(inspect(dir.path()), Err(Fault::Version("2.9.1".to_owned())));
        fs::write(dir.path().join("version.py"), "__all__ = ['__version__']\n__version__ = '2.11.0+cu130'\n").unwrap();
        assert!(inspect(dir.path()).is_ok());
    }

    #[test]
    fn a_header_without_all_three_numbers_tells_no_version() {
        assert_eq!(version_in_header("#define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION_MINOR 11\n"), None);
        assert_eq!(version_in_python("version = '2.11.0'\n"), None);
    }
}
