//! `cargo xtask setup` from outside: a workspace, a cache and a PATH of their own, and a Python that plays its part.

#![cfg(target_os = "linux")]

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// A machine to set up.
struct Machine {
    dir: tempfile::TempDir,
}

/// How the machine's Python behaves.
#[derive(Clone, Copy)]
enum Python {
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
    fn new(python: Python) -> Self {
        let machine = Self { dir: tempfile::tempdir().unwrap() };
        for folder in ["bin", "project/xtask", "wheels"] {
            fs::create_dir_all(machine.path(folder)).unwrap();
        }
        machine.script("c++", "");
        machine.wheels();
        machine.python(python);
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn link(&self) -> PathBuf {
        self.path("project/.libtorch")
    }

    fn copy(&self) -> PathBuf {
        self.path("cache/libtorch-2.11.0-cpu")
    }

    fn script(&self, name: &str, text: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Installs a Python that answers the probe, and whose pip finds its destination as the argument after `--dest`.
    fn python(&self, python: Python) {
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
                    "mkdir -p $6; echo half >$6/torch.whl; touch {}/hangs; exec sleep 60",
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
    fn wheels(&self) {
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
    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command
            .args(["setup", "--cpu"])
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", self.path("bin").display()))
            .env("CARGO_MANIFEST_DIR", self.path("project/xtask"))
            .env("LIBTORCH", self.link())
            .env("AUTODIDACT_CACHE", self.path("cache"));
        command
    }

    fn setup(&self) -> Output {
        self.command().output().unwrap()
    }

    /// Asserts that set-up fails with one message that holds all of `parts`, and leaves nothing that a later run could trust.
    fn fails(&self, command: &mut Command, parts: &[&str]) {
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
    fn works(&self) {
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
    fn downloads(&self) -> usize {
        fs::read_to_string(self.path("calls")).map_or(0, |calls| calls.lines().count())
    }
}

fn wheel(path: &Path, files: &[String]) {
    let mut zip = ZipWriter::new(File::create(path).unwrap());
    for name in files {
        zip.start_file(name.as_str(), SimpleFileOptions::default()).unwrap();
        zip.write_all(format!("content of {name}").as_bytes()).unwrap();
    }
    zip.finish().unwrap();
}

/// Fills a folder with what a libtorch of `version` has.
fn libtorch(root: &Path, version: &str) {
    fs::create_dir_all(root.join("include/torch")).unwrap();
    fs::create_dir_all(root.join("lib")).unwrap();
    for library in ["libtorch_cpu.so", "libc10.so"] {
        fs::write(root.join("lib").join(library), "library").unwrap();
    }
    fs::write(root.join("build-version"), version).unwrap();
}

#[test]
fn from_nothing_to_a_link_and_the_second_time_without_python() {
    let machine = Machine::new(Python::Working);
    machine.works();
    assert_eq!(machine.downloads(), 2);
    machine.python(Python::Missing);
    let start = Instant::now();
    machine.works();
    assert!(start.elapsed() < Duration::from_secs(1));
    fs::remove_file(machine.link()).unwrap();
    machine.works();
    assert_eq!(machine.downloads(), 2);
}

#[test]
fn a_damaged_copy_is_made_anew() {
    let machine = Machine::new(Python::Working);
    machine.works();
    fs::remove_file(machine.link().join("include/torch/torch.h")).unwrap();
    machine.works();
    fs::write(machine.link().join("lib/libtorch_cpu.so"), "content of").unwrap();
    machine.works();
    assert_eq!(machine.downloads(), 6);
}

#[test]
fn force_makes_a_fresh_copy() {
    let machine = Machine::new(Python::Working);
    machine.works();
    assert!(machine.command().arg("--force").output().unwrap().status.success());
    machine.works();
    assert_eq!(machine.downloads(), 4);
}

#[test]
fn a_killed_download_is_started_over() {
    let machine = Machine::new(Python::Hanging);
    let mut child = machine.command().stderr(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    while !machine.path("hangs").exists() {
        assert!(start.elapsed() < Duration::from_secs(30), "pip was not started");
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let left = || fs::read_dir(machine.path("cache")).unwrap().count();
    assert_eq!(left(), 2, "the lock, and the temporary folder");
    assert!(!machine.link().exists() && !machine.copy().exists());
    machine.python(Python::Working);
    machine.works();
    assert_eq!(left(), 2, "the lock, and the copy");
}

#[test]
fn two_at_once_make_one_copy() {
    let machine = Machine::new(Python::Working);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert!(machine.setup().status.success()));
        }
    });
    assert_eq!(machine.downloads(), 2);
    machine.works();
}

#[test]
fn every_missing_tool_is_named() {
    let machine = Machine::new(Python::Missing);
    // A PATH on which only the pretended tools are.
    let bare = |machine: &Machine| {
        let mut command = machine.command();
        command.env("PATH", machine.path("bin"));
        command
    };
    machine.fails(&mut bare(&machine), &["no Python 3.8 or later", "install Python 3 with pip"]);
    machine.python(Python::WithoutPip);
    machine.fails(&mut machine.command(), &["has no pip", "python3-pip"]);
    machine.fails(machine.command().env("CXX", "/no/such/c++"), &["$CXX is /no/such/c++"]);
    fs::remove_file(machine.path("bin/c++")).unwrap();
    machine.fails(&mut bare(&machine), &["no C++ compiler found", "apt install g++"]);
    machine.script("g++", "");
    machine.fails(&mut bare(&machine), &["export CXX=", "bin/g++"]);
}

#[test]
fn every_failure_of_pip_is_explained() {
    for (message, parts) in [
        (
            "WARNING: Retrying (Retry(total=0)) after connection broken by NewConnectionError",
            &["cannot be reached", "check the network", "NewConnectionError"][..],
        ),
        ("ERROR: No matching distribution found for torch==2.11.0", &["update pip", "No matching distribution"]),
        ("OSError: [Errno 28] No space left on device", &["no space left", "AUTODIDACT_CACHE"]),
        ("Segmentation fault", &["pip failed", "Segmentation fault"]),
    ] {
        let machine = Machine::new(Python::Failing(message));
        machine.fails(&mut machine.command(), parts);
        machine.python(Python::Working);
        machine.works();
    }
}

#[test]
fn a_damaged_or_foreign_wheel_is_refused() {
    let machine = Machine::new(Python::Working);
    let path = machine.path("wheels/torch.whl");
    let whole = fs::read(&path).unwrap();
    let at = whole.windows(10).position(|window| window.starts_with(b"libc10.so")).unwrap() + 12;
    let mut flipped = whole.clone();
    flipped[at] ^= 1;
    for damaged in [&flipped[..], &whole[..whole.len() / 2]] {
        fs::write(&path, damaged).unwrap();
        machine.fails(&mut machine.command(), &["torch.whl", "run the command again"]);
    }
    wheel(&path, &["torch/include/torch/torch.h".to_owned()]);
    machine.fails(&mut machine.command(), &["hold no libtorch_cpu.so"]);
}

#[test]
fn a_cache_that_cannot_be_written_is_named() {
    let machine = Machine::new(Python::Working);
    fs::write(machine.path("file"), "in the way").unwrap();
    let cache = machine.path("file/cache");
    machine.fails(machine.command().env("AUTODIDACT_CACHE", &cache), &["cannot be written", "set AUTODIDACT_CACHE"]);
    machine.fails(machine.command().env_remove("AUTODIDACT_CACHE"), &["neither $AUTODIDACT_CACHE"]);
}

#[test]
fn the_users_libtorch_is_linked_or_refused_and_never_replaced() {
    let machine = Machine::new(Python::Working);
    let own = machine.path("own");
    let with = |value: &Path| {
        let mut command = machine.command();
        command.env("LIBTORCH", value);
        command
    };
    machine.fails(&mut with(&own), &["$LIBTORCH", "not a folder"]);
    machine.fails(&mut with(Path::new("")), &["$LIBTORCH is set to nothing"]);
    fs::create_dir(&own).unwrap();
    machine.fails(&mut with(&own), &["the folder is empty", "unset it"]);
    libtorch(&own, "2.10.0+cpu");
    machine.fails(&mut with(&own), &["it is version 2.10.0+cpu"]);
    libtorch(&own, "2.11.0+cpu");
    assert!(with(&own).output().unwrap().status.success());
    assert_eq!(fs::read_link(machine.link()).unwrap(), own);
    assert_eq!(machine.downloads(), 0);
}

#[test]
fn what_lies_at_the_links_place_is_mended_used_or_named() {
    let machine = Machine::new(Python::Working);
    symlink("/nowhere/at/all", machine.link()).unwrap();
    machine.works();
    fs::remove_file(machine.link()).unwrap();
    libtorch(&machine.link(), "2.11.0");
    assert!(machine.setup().status.success(), "a libtorch unpacked at the link's place will do");
    fs::write(machine.link().join("build-version"), "2.9.0").unwrap();
    let output = machine.setup();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("move it away"));
}
