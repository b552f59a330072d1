//! A machine to try `xtask` on: a workspace, a cache and a PATH of its own, and a Python that plays its part.

#![allow(dead_code)] // each test program uses a part

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// A machine to set up.
pub struct Machine {
    dir: tempfile::TempDir,
}

/// How the machine's Python behaves.
#[derive(Clone, Copy)]
pub enum Python {
    /// None is installed.
    Missing,
    /// It has no pip.
    WithoutPip,
    /// Its pip ends with this on standard error.
    Failing(&'static str),
    /// Its pip copies wheels.
    Working,
    /// Its pip hangs after half a wheel.
    Hanging,
}

impl Machine {
    pub fn new(python: Python) -> Self {
        let machine = Self { dir: tempfile::tempdir().unwrap() };
        for folder in ["bin", "project/xtask", "wheels"] {
            fs::create_dir_all(machine.path(folder)).unwrap();
        }
        machine.script("c++", "");
        machine.wheels();
        machine.python(python);
        machine
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn link(&self) -> PathBuf {
        self.path("project/.libtorch")
    }

    pub fn copy(&self) -> PathBuf {
        self.path("cache/libtorch-2.11.0-cpu")
    }

    pub fn script(&self, name: &str, text: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Installs a Python that answers the probe, and whose pip finds its destination as the argument after `--dest`.
    pub fn python(&self, python: Python) {
        let _ = fs::remove_file(self.path("bin/python3"));
        let (pip, action) = match python {
            Python::Missing => return,
            Python::WithoutPip => ("null", "exit 1".to_owned()),
            Python::Failing(message) => {
                (r#"{"version": "25.0", "folder": "/"}"#, format!("echo '{message}' >&2; exit 1"))
            }
            Python::Working => (
                r#"{"version": "25.0", "folder": "/"}"#,
                format!("echo pip >>{0}/calls; mkdir -p $6; cp {0}/wheels/$part*.whl $6", self.dir.path().display()),
            ),
            Python::Hanging => (
                r#"{"version": "25.0", "folder": "/"}"#,
                format!(
                    "mkdir -p $6; echo half >$6/torch.whl; echo $$ >{0}/pid; mv {0}/pid {0}/hangs; exec sleep 60",
                    self.dir.path().display()
                ),
            ),
        };
        self.script(
            "python3",
            &format!(
                r#"if [ "$1" = -c ]; then
                    echo '{{"executable": "{0}/bin/python3", "version": [3, 12], "pip": {pip}, "torch": null}}'; exit 0
                fi
                case "$*" in *torch==2.11.0*) part=torch ;; *) part=nvidia ;; esac
                {action}"#,
                self.dir.path().display()
            ),
        );
    }

    /// Makes small wheels in the shape of the published ones.
    pub fn wheels(&self) {
        let libraries = if cfg!(target_arch = "x86_64") {
            &["libtorch_cpu.so", "libc10.so", "libgomp.so.1"][..]
        } else {
            &[
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
            ]
        };
        let mut torch: Vec<String> = libraries.iter().map(|library| format!("torch/lib/{library}")).collect();
        torch.extend(["torch/include/torch/torch.h", "torch/lib/libtorch_cuda.so", "torch/nn.py"].map(str::to_owned));
        wheel(&self.path("wheels/torch.whl"), &torch);
        wheel(&self.path("wheels/nvidia_cupti.whl"), &["nvidia/cu13/lib/libcupti.so.13".to_owned()]);
        wheel(&self.path("wheels/nvidia_runtime.whl"), &["nvidia/cu13/lib/libcudart.so.13".to_owned()]);
    }

    /// `xtask setup` on this machine.
    pub fn command(&self) -> Command {
        self.xtask(&["setup", "--cpu"])
    }

    /// `xtask ARGS` on this machine, with the variables that cargo sets.
    pub fn xtask(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command
            .args(args)
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", self.path("bin").display()))
            .env("CARGO_MANIFEST_DIR", self.path("project/xtask"))
            .env("LIBTORCH", self.link())
            .env("AUTODIDACT_CACHE", self.path("cache"));
        command
    }

    pub fn setup(&self) -> Output {
        self.command().output().unwrap()
    }

    /// Asserts that set-up fails with one message that holds all of `parts`, and leaves nothing that a later run could trust.
    pub fn fails(&self, command: &mut Command, parts: &[&str]) {
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert_eq!(said.matches("error:").count(), 1, "{said}");
        for part in parts {
            assert!(said.contains(part), "{part:?} is not in: {said}");
        }
        assert!(!self.link().exists() && !self.copy().exists());
        let left = fs::read_dir(self.path("cache")).map(|entries| {
            entries.flatten().filter(|entry| entry.file_name() != ".lock").map(|entry| entry.path()).collect::<Vec<_>>()
        });
        assert_eq!(left.unwrap_or_default(), Vec::<PathBuf>::new());
    }

    /// Asserts that set-up ends well and that the link leads to a whole copy.
    pub fn works(&self) {
        let output = self.setup();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("libtorch 2.11.0 (CPU) is ready"), "{said}");
        for file in ["include/torch/torch.h", "lib/libtorch_cpu.so", "lib/libcupti.so.13", "lib/libcudart.so.13"] {
            assert!(fs::read_to_string(self.link().join(file)).unwrap().contains("content of"), "{file}");
        }
        assert_eq!(fs::read_to_string(self.link().join("lib/libtorch.so")).unwrap(), "INPUT(-ltorch_cpu)\n");
        assert!(!self.link().join("lib/libtorch_cuda.so").exists());
    }

    /// How often pip was run.
    pub fn downloads(&self) -> usize {
        fs::read_to_string(self.path("calls")).map_or(0, |calls| calls.lines().count())
    }
}

pub fn wheel(path: &Path, files: &[String]) {
    let mut zip = ZipWriter::new(File::create(path).unwrap());
    for name in files {
        zip.start_file(name.as_str(), SimpleFileOptions::default()).unwrap();
        zip.write_all(format!("content of {name}").as_bytes()).unwrap();
    }
    zip.finish().unwrap();
}

/// Fills a folder with what a libtorch of `version` has.
pub fn libtorch(root: &Path, version: &str) {
    fs::create_dir_all(root.join("include/torch")).unwrap();
    fs::create_dir_all(root.join("lib")).unwrap();
    for library in ["libtorch_cpu.so", "libc10.so"] {
        fs::write(root.join("lib").join(library), "library").unwrap();
    }
    fs::write(root.join("build-version"), version).unwrap();
}
