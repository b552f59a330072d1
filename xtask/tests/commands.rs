//! The commands from outside, with a cargo that notes how it was called.

#![cfg(target_os = "linux")]

#[allow(dead_code)]
#[path = "../../crates/reproduce/src/catalog.rs"]
mod catalog;
mod machine;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use machine::{Machine, Python, libtorch};

/// A machine that is set up, and whose cargo notes its calls and "builds" a `reproduce` that does the same and ends with 7.
fn machine() -> Machine {
    let machine = Machine::new(Python::Missing);
    libtorch(&machine.path("libtorch"), "2.11.0");
    symlink(machine.path("libtorch"), machine.link()).unwrap();
    let note = |who: &str| {
        format!("echo \"{who} $* LIBTORCH=$LIBTORCH $LD_LIBRARY_PATH\" >>{}/notes", machine.dir().display())
    };
    machine.script("reproduce", &format!("{}; exit 7", note("reproduce")));
    cargo(&machine, &note("cargo"));
    machine
}

/// A cargo that runs a line of shell, and then "builds" the `reproduce` of the machine.
fn cargo(machine: &Machine, first: &str) {
    let artifact = format!(
        r#"{{"reason":"compiler-artifact","target":{{"name":"reproduce"}},"executable":"{}"}}"#,
        machine.path("bin/reproduce").display()
    );
    machine.script("cargo", &format!("{first}; [ \"$1\" != build ] || echo '{artifact}'"));
}

/// Runs `xtask ARGS`.
fn run(machine: &Machine, args: &[&str]) -> Output {
    command(machine, args).output().unwrap()
}

fn command(machine: &Machine, args: &[&str]) -> Command {
    let mut command = machine.xtask(args);
    command.env("CARGO", machine.path("bin/cargo")).env("LD_LIBRARY_PATH", "/opt/lib");
    command
}

/// The calls that were noted, less their environment.
fn calls(machine: &Machine) -> Vec<String> {
    let notes = fs::read_to_string(machine.path("notes")).unwrap_or_default();
    notes.lines().map(|line| line.split(" LIBTORCH").next().unwrap().to_owned()).collect()
}

#[test]
fn tests_run_over_the_workspace_or_the_packages_named() {
    for (args, expected) in [
        (&["test"][..], "cargo test --release --workspace"),
        (&["test", "barlow", "--", "--nocapture"], "cargo test --release --workspace barlow -- --nocapture"),
        (&["test", "--", "--nocapture"], "cargo test --release --workspace -- --nocapture"),
        (&["test", "-p", "autodidact-core"], "cargo test --release -p autodidact-core"),
    ] {
        let machine = machine();
        assert!(run(&machine, args).status.success());
        assert_eq!(calls(&machine), [expected]);
    }
}

#[test]
fn reproduce_and_report_become_the_program() {
    for (args, expected) in [
        (&["reproduce", "barlow-twins", "--seeds", "3", "--", "-x"][..], "reproduce barlow-twins --seeds 3 -- -x"),
        (&["reproduce", "--list", "--area", "ssl"], "reproduce --list --area ssl"),
        (&["report", "--check"], "reproduce report --check"),
    ] {
        let machine = machine();
        assert_eq!(run(&machine, args).status.code(), Some(7), "the exit status is the program's");
        let calls = calls(&machine);
        assert!(calls[0].starts_with("cargo build --release --package autodidact-reproduce"), "{calls:?}");
        assert_eq!(calls[1..], [expected]);
    }
}

#[test]
fn the_list_of_papers_needs_no_build_and_no_set_up() {
    let machine = machine();
    fs::remove_file(machine.link()).unwrap();
    let output = run(&machine, &["reproduce", "--list"]);
    assert!(output.status.success());
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("barlow-twins") && said.contains("no recorded result"), "{said}");
    assert_eq!(calls(&machine), Vec::<String>::new());
}

#[test]
fn children_find_libtorch_first_and_see_only_the_users_own_variable() {
    let machine = machine();
    run(&machine, &["test"]);
    let notes = || fs::read_to_string(machine.path("notes")).unwrap();
    let first = format!("LIBTORCH= {}/lib:/opt/lib\n", machine.link().display());
    assert!(notes().ends_with(&first), "{}", notes());
    let own = machine.path("libtorch");
    command(&machine, &["test"]).env("LIBTORCH", &own).output().unwrap();
    assert!(notes().contains(&format!("LIBTORCH={} ", own.display())), "{}", notes());
}

#[test]
fn ci_stops_at_the_first_failure_and_says_how_to_run_it_alone() {
    let machine = machine();
    let output = run(&machine, &["ci"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("every paper at smoke scale failed"), "{said}");
    assert!(said.contains("to run it alone: cargo xtask reproduce --all --scale smoke"), "{said}");
    let calls = calls(&machine);
    for (call, expected) in calls.iter().zip([
        "cargo fmt --all --check",
        "cargo clippy --release --workspace --all-targets -- -D warnings",
        "cargo test --release --workspace",
        "cargo doc --release --workspace --no-deps",
        "cargo build --release --package autodidact-reproduce",
        "reproduce --all --scale smoke --device cpu --threads 1 --out",
    ]) {
        assert!(call.starts_with(expected), "{call}");
    }
    assert_eq!(calls.len(), 6);

    // A good end: a program that leaves a folder for each run.
    let slugs: Vec<&str> = catalog::PAPERS.iter().map(|p| p.slug).collect();
    let good = format!(
        "echo $* >>$0.args; [ $1 = --all ] && runs='{}' || runs=.; \
         while [ $# -gt 0 ]; do [ $1 = --out ] && out=$2; shift; done; [ $out ] || exit 0; \
         for run in $runs; do mkdir -p $out/$run; echo arm,seed,step,metric,value >$out/$run/metrics.csv; done",
        slugs.join(" ")
    );
    machine.script("reproduce", &good);
    let pretended = machine.link().with_file_name("xtask").join("pretend-gpu");
    fs::create_dir_all(&pretended).unwrap();
    fs::write(pretended.join("pretend_gpu.cpp"), "").unwrap();
    let output = run(&machine, &["ci"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let calls = fs::read_to_string(machine.path("bin/reproduce.args")).unwrap();
    assert_eq!(calls.lines().filter(|call| call.contains("--device cuda")).count(), slugs.len());
    assert!(calls.ends_with("report --check\n"), "{calls}");
}

#[test]
fn benchmarks_run_without_peers_or_with_those_of_the_user() {
    let machine = machine();
    let notes = machine.dir().join("notes");
    let note = "$* $AUTODIDACT_PEER_PYTHON $AUTODIDACT_REPRODUCE $AUTODIDACT_BENCH_OUT";
    cargo(&machine, &format!("[ \"$1\" = build ] || echo \"{note}\" >>{}", notes.display()));
    let suite = |args: &[&str]| {
        let mut command = command(&machine, &[&["bench"], args].concat());
        assert!(command.env("AUTODIDACT_PEER_PYTHON", "/my/python").status().unwrap().success());
        let notes = fs::read_to_string(&notes).unwrap();
        let line = notes.lines().last().unwrap().strip_prefix("bench --package autodidact-benches -- ").unwrap();
        let (line, out) = line.rsplit_once(' ').unwrap();
        assert!(Path::new(out).ends_with("bench"), "{notes}");
        line.to_owned()
    };
    let program = machine.path("bin/reproduce").display().to_string();
    // The program is built only where its entries are wanted, and nothing is needed for a list.
    assert_eq!(suite(&["--no-peers", "--filter", "augment", "--filter", "knn"]), "augment knn  ");
    assert_eq!(suite(&["--quick"]), format!("--quick /my/python {program}"));
    assert_eq!(suite(&["--record"]), format!("--record /my/python {program}"));
    assert_eq!(
        suite(&["--filter", "end-to-end", "--", "--rounds", "9"]),
        format!("end-to-end --rounds 9 /my/python {program}")
    );
    assert_eq!(suite(&["--list"]), "--list /my/python ");
    for refused in [["--record", "--quick"], ["--record", "--no-peers"]] {
        assert!(!run(&machine, &[&["bench"], &refused[..]].concat()).status.success());
    }
}
