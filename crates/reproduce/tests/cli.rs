//! What a user meets on the command line: errors that say what to do, plain output, interruption, the report.

mod common;

use common::{Lab, QUICK, SLOW};
use std::fs;
use std::path::Path;

#[test]
fn misspelt_names_get_a_suggestion() {
    let lab = Lab::new();
    let said = |args: &str| lab.fail(args);
    assert_eq!(said("barlow-twin"), "there is no paper barlow-twin; did you mean barlow-twins?");
    assert!(said("xyz").contains("there are: barlow-twins, "));
    assert_eq!(said("barlow-twins --arm ful"), "there is no arm ful; did you mean full?");
    let set = "teacher-guidance --scale smoke --set";
    assert_eq!(said(&format!("{set} epoch=3")), "there is no hyper-parameter epoch; did you mean epochs?");
    let data = said("barlow-twins --dataset cifer10");
    assert_eq!(data, "there is no data set of barlow-twins named cifer10; did you mean cifar10?");
    let unknown = said("barlow-twins --dataset imagenet");
    assert!(unknown.contains("digits, shapes, cifar10"), "{unknown}");
    assert!(lab.run("barlow-twins --sclae smoke").stderr.contains("'--scale'"));
}

#[test]
fn settings_that_make_no_sense_are_refused_before_anything_runs() {
    let lab = Lab::new();
    for (args, want) in [
        ("", "name a paper, or use --all; --list shows them"),
        ("--seeds 0", "--seeds must be at least 1"),
        ("--threads 0", "--threads must be from 1 to 1024"),
        ("--threads 99999999999", "--threads must be from 1 to 1024"),
        ("--set epochs=many", "--set epochs: expected a value like 5, got many"),
        ("--set epochs=1.5", "--set epochs: expected a value like 5, got 1.5"),
        ("--set epochs=-1", "--set epochs: expected a value like 5, got -1"),
        ("--set epochs", "--set expects KEY=VALUE, got epochs"),
        ("--data nowhere", "the data folder nowhere (--data or $AUTODIDACT_DATA) does not exist"),
        ("--record", "--record works inside the workspace of autodidact only"),
    ] {
        let said =
            if args.is_empty() { lab.fail("") } else { lab.fail(&format!("teacher-guidance --scale smoke {args}")) };
        assert_eq!(said, want, "{args}");
    }
    let together = lab.fail("barlow-twins teacher-guidance --set epochs=3");
    assert_eq!(together, "--dataset, --set and --arm go with one paper");
    for (args, want) in [
        ("--seeds -1", "unexpected argument '-1'"),
        ("--shard 2/2", "expected I/N with I below N, such as 0/4"),
        ("--device gpu", "expected auto, cpu, cuda or cuda:N, got gpu"),
        ("--fresh --resume", "cannot be used with"),
    ] {
        let said = lab.run(&format!("teacher-guidance --scale smoke {args}")).stderr;
        assert!(said.contains(want), "{args}: {said}");
    }
    assert!(lab.run("teacher-guidance --scale tiny").stderr.contains("[possible values: smoke, small, full]"));
    assert!(!lab.path("runs").exists(), "something ran");
}

#[test]
fn data_that_is_not_there_is_one_error_that_says_what_to_do() {
    let lab = Lab::new();
    fs::create_dir(lab.path("data")).unwrap();
    let said = lab.fail("barlow-twins --scale smoke --dataset cifar10 --offline --data data --out run");
    assert!(
        said.contains("data: expected the data set cifar10 as cifar-10-batches-bin or cifar-10-binary.tar.gz"),
        "{said}"
    );
    assert!(said.contains("put it there"), "{said}");
}

#[test]
fn a_folder_that_cannot_be_written_is_one_error_that_says_what_to_do() {
    let lab = Lab::new();
    fs::write(lab.path("file"), "").unwrap();
    let said = lab.fail(&format!("{QUICK} --out file/run"));
    assert!(said.starts_with("cannot make the run folder file/run") && said.contains("--out"), "{said}");
    // Not even an administrator can make files in a cell folder that is a link into the process table.
    if cfg!(target_os = "linux") {
        fs::create_dir(lab.path("run")).unwrap();
        std::os::unix::fs::symlink("/proc/self", lab.path("run/cells")).unwrap();
        let said = lab.fail(&format!("{QUICK} --out run"));
        assert!(said.contains("cannot write run/cells/toy-s0") && said.contains("--out"), "{said}");
    }
}

#[test]
fn output_is_plain_lines_away_from_a_terminal_and_quiet_means_quiet() {
    let lab = Lab::new();
    let plain = lab.succeed(&format!("{QUICK} --out plain"));
    let both = format!("{}{}", plain.stdout, plain.stderr);
    assert!(!both.contains(['\u{1b}', '\r']), "{both:?}");
    let lines: Vec<&str> = plain.stderr.lines().collect();
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert!(lines.iter().enumerate().all(|(i, l)| l.starts_with(&format!("[{}/5] ", i + 1))), "{lines:?}");
    assert!(plain.stdout.contains("page: plain/index.html") && lab.path("plain/index.html").exists());

    let quiet = lab.succeed(&format!("{QUICK} --quiet --out quiet"));
    assert_eq!(quiet.stderr, "");
    let table = |s: &str| s.lines().filter(|l| l.starts_with(['│', '┌', '└'])).map(str::to_owned).collect::<Vec<_>>();
    assert!(!table(&quiet.stdout).is_empty() && table(&quiet.stdout) == table(&plain.stdout));
    let again = lab.succeed(&format!("{QUICK} --out plain"));
    assert!(again.stderr.is_empty(), "a finished run has nothing to report: {}", again.stderr);
}

#[test]
fn without_out_a_run_goes_to_a_folder_of_its_own_and_several_get_one_each() {
    let lab = Lab::new();
    lab.succeed(QUICK);
    assert!(lab.path("runs/teacher-guidance/smoke-digits/run.json").exists());
    lab.succeed("teacher-guidance lr-annealing-law --scale smoke --threads 1 --out both");
    for paper in ["teacher-guidance", "lr-annealing-law"] {
        assert!(lab.path("both").join(paper).join("run.json").exists(), "{paper}");
    }
}

#[test]
fn the_list_names_every_paper() {
    let lab = Lab::new();
    let list = lab.succeed("--list");
    for paper in autodidact_reproduce::catalog::PAPERS {
        assert!(list.stdout.lines().any(|l| l.trim_start().starts_with(paper.slug)), "{}", list.stdout);
    }
    assert!(list.stderr.is_empty());
}

#[cfg(unix)]
#[test]
fn an_interrupt_says_that_the_run_continues() {
    use std::io::Read;
    use std::os::unix::process::ExitStatusExt;
    let lab = Lab::new();
    for (signal, name) in [(libc::SIGINT, "interrupt"), (libc::SIGTERM, "terminate")] {
        let mut running = lab.start(&format!("{SLOW} --out {name}"));
        // SAFETY: the child is ours and has not been waited for.
        assert_eq!(unsafe { libc::kill(running.child.id() as i32, signal) }, 0);
        let mut said = String::new();
        running.stderr.read_to_string(&mut said).unwrap();
        assert_eq!(running.child.wait().unwrap().signal(), Some(signal));
        assert!(
            said.ends_with("\nstopped; finished cells are safe: the same command continues with the others\n"),
            "{said}"
        );
    }
}

#[cfg(unix)]
#[test]
fn a_reader_that_goes_away_is_no_error() {
    let lab = Lab::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = lab.command("--list").stdout(writer).output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

/// A workspace with the project's README and the result of a quick run.
fn workspace(lab: &Lab) {
    lab.succeed(&format!("{QUICK} --out run"));
    let results = lab.path("crates/reproduce/results/teacher-guidance");
    fs::create_dir_all(&results).unwrap();
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md"), lab.path("README.md")).unwrap();
    for entry in fs::read_dir(lab.path("run")).unwrap().map(Result::unwrap).filter(|e| e.path().is_file()) {
        fs::copy(entry.path(), results.join(entry.file_name())).unwrap();
    }
}

#[test]
fn the_report_brings_the_readme_up_to_date_and_check_finds_a_stale_one() {
    let lab = Lab::new();
    assert_eq!(lab.fail("report"), "report works inside the workspace of autodidact only");
    workspace(&lab);
    let stale = |lab: &Lab| {
        let said = lab.fail("report --check");
        assert!(said.ends_with("is not that of the recorded results; run `cargo xtask report`"), "{said}");
    };
    stale(&lab);
    let said = lab.succeed("report").stdout;
    assert_eq!(said, "1 recorded results; open site/index.html\n");
    lab.succeed("report --check");
    let readme = fs::read_to_string(lab.path("README.md")).unwrap();
    assert!(readme.contains("[5 not judged](crates/reproduce/results/teacher-guidance/run.json)"), "{readme}");
    assert!(fs::read_to_string(lab.path("site/index.html")).unwrap().contains("teacher-guidance"));
    assert!(fs::read_to_string(lab.path("site/teacher-guidance/index.html")).unwrap().contains("<svg"));
    assert!(lab.succeed("--list").stdout.contains("5 not judged"));

    let record = lab.path("crates/reproduce/results/teacher-guidance/run.json");
    let text = fs::read_to_string(&record).unwrap();
    fs::write(&record, text.replacen("\"not_judged\"", "\"reproduced\"", 1)).unwrap();
    stale(&lab);
    fs::write(&record, &text[..text.len() / 2]).unwrap();
    assert!(lab.fail("report").contains("run.json is no whole run record"));
    assert!(lab.succeed("--list").stdout.contains("run.json is damaged"));
}
