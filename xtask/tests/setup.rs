//! `cargo xtask setup` from outside: every way in which it begins, ends, or is broken off.

#![cfg(target_os = "linux")]

mod machine;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use machine::{Machine, Python, libtorch, wheel};

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
    // pip goes with it: what remains of the process, if anything, has no command line.
    let pip = fs::read_to_string(machine.path("hangs")).unwrap();
    let lives = || fs::read(format!("/proc/{}/cmdline", pip.trim())).is_ok_and(|line| !line.is_empty());
    while lives() {
        assert!(start.elapsed() < Duration::from_secs(30), "pip goes on without its set-up");
        std::thread::sleep(Duration::from_millis(10));
    }
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
