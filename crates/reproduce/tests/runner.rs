//! Runs that are killed, split, damaged and starved of disk give the result of the run that nobody disturbed.

mod common;

use common::{CELLS, Lab, Outcome, QUICK, SLOW, cells, litter};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The undisturbed run of [`SLOW`].
fn calm() -> &'static Outcome {
    static CALM: OnceLock<Outcome> = OnceLock::new();
    CALM.get_or_init(|| {
        let lab = Lab::new();
        lab.succeed(&format!("{SLOW} --out run"));
        Outcome::read(&lab.path("run"))
    })
}

#[test]
fn a_killed_run_continues_without_computing_finished_cells_again() {
    let lab = Lab::new();
    let (command, out) = (format!("{SLOW} --out run"), lab.path("run"));
    let mut finished = cells(&out);
    for kill in 1..CELLS {
        let mut running = lab.start(&command);
        std::thread::sleep(Duration::from_millis(30 * kill as u64));
        running.child.kill().unwrap();
        assert!(!running.child.wait().unwrap().success(), "it ended before the kill");
        let now = cells(&out);
        assert!(now.len() > finished.len() && now.len() < CELLS, "{} cells after kill {kill}", now.len());
        assert!(finished.iter().all(|(name, cell)| now[name] == *cell), "a finished cell was touched");
        finished = now;
        if finished.len() == CELLS - 1 {
            break;
        }
    }
    // What a process killed in the middle of a write leaves behind.
    let unfinished = litter(&out).into_iter().find_map(|n| n.strip_suffix(".lock").map(str::to_owned)).unwrap();
    std::fs::write(out.join("cells").join(format!(".{unfinished}.json.0123456789abcdef.tmp")), "half a ce").unwrap();
    lab.succeed(&command);
    let now = cells(&out);
    assert!(now.len() == CELLS && finished.iter().all(|(name, cell)| now[name] == *cell));
    assert_eq!(litter(&out), Vec::<String>::new());
    assert_eq!(&Outcome::read(&out), calm());
}

#[test]
fn two_shards_at_the_same_time_make_the_result_of_one_run() {
    let lab = Lab::new();
    let out = lab.path("run");
    let shards = [0, 1].map(|i| format!("{SLOW} --out run --shard {i}/2"));
    let ended = std::thread::scope(|scope| {
        let lab = &lab;
        shards.map(|shard| scope.spawn(move || lab.succeed(&shard))).map(|thread| thread.join().unwrap())
    });
    assert!(ended.iter().any(|e| e.stdout.contains("what was measured")), "the shard that ends last makes the record");
    let finished = cells(&out);
    assert_eq!(finished.len(), CELLS);
    assert_eq!(&Outcome::read(&out), calm());

    let merged = lab.succeed(&format!("{SLOW} --out run"));
    assert!(merged.stderr.is_empty() && cells(&out) == finished, "the merge computed something: {}", merged.stderr);
    assert_eq!(&Outcome::read(&out), calm());
}

#[cfg(target_os = "linux")]
#[test]
fn several_processes_make_the_result_of_one_and_end_with_the_first() {
    let lab = Lab::new();
    let out = lab.path("run");
    let command = format!("{} --out run", SLOW.replace("--jobs 1", "--jobs 3"));
    let mut running = lab.start(&command);
    // A process by itself holds one lock at a time.
    wait_for("two processes at work", || {
        out.join("cells").is_dir() && litter(&out).iter().filter(|name| name.ends_with(".lock")).count() > 1
    });
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    let place = lab.path("run").display().to_string();
    let at_work = || {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        processes.filter_map(|p| std::fs::read_to_string(p.path().join("cmdline")).ok()).any(|line| {
            // Workers name the folder as it was given.
            line.contains("--worker") && (line.contains(&place) || line.contains("\0run\0"))
        })
    };
    wait_for("the others to end", || !at_work());
    let killed = cells(&out);
    assert!(killed.len() < CELLS, "it ended before the kill");

    let ended = lab.succeed(&command);
    assert_eq!(ended.stderr.lines().filter(|line| line.starts_with('[')).count(), CELLS - killed.len());
    assert!(cells(&out).len() == CELLS && litter(&out).is_empty());
    assert_eq!(&Outcome::read(&out), calm());
}

#[test]
fn a_shard_or_an_arm_alone_makes_no_record_and_says_what_is_missing() {
    let lab = Lab::new();
    let out = lab.path("run");
    let said = lab.succeed(&format!("{QUICK} --out run --shard 1/2")).stdout;
    assert!(said.contains("2 of 5 cells are finished") && said.contains("run the other shards"), "{said}");
    let said = lab.succeed(&format!("{QUICK} --out run --arm mlp")).stdout;
    assert!(said.contains("4 of 5 cells are finished") && !out.join("run.json").exists(), "{said}");
    let finished = cells(&out);
    lab.succeed(&format!("{QUICK} --out run"));
    assert!(out.join("run.json").exists() && finished.iter().all(|(name, cell)| cells(&out)[name] == *cell));
}

type Damage<'a> = &'a dyn Fn(&str) -> String;

#[test]
fn damaged_cells_are_found_and_computed_again() {
    let lab = Lab::new();
    let (command, out) = (format!("{QUICK} --out run"), lab.path("run"));
    lab.succeed(&command);
    let (whole, before) = (Outcome::read(&out), cells(&out));
    let names: Vec<&String> = before.keys().collect();
    let number = |text: &str| text.replacen("\"value\":0.", "\"value\":1.", 1);
    let damage: [(&str, Damage); 4] = [
        ("a digit", &number),
        ("truncated", &|text| text[..text.len() / 2].to_owned()),
        ("empty", &|_| String::new()),
        ("another cell's", &|_| before[names[0]].1.clone()),
    ];
    for (i, (what, change)) in damage.into_iter().enumerate() {
        let name = names[i + 1];
        let bad = change(&before[name].1);
        assert_ne!(bad, before[name].1, "{what}");
        std::fs::write(out.join("cells").join(name), bad).unwrap();
    }
    let before = cells(&out);
    let said = lab.succeed(&command).stderr;
    let after = cells(&out);
    for (i, name) in names.iter().enumerate() {
        let warned =
            said.lines().any(|l| l.starts_with("warning:") && l.contains(*name) && l.contains("computed again"));
        assert_eq!(warned, i > 0, "{name}: {said}");
        assert_eq!(after[*name] != before[*name], i > 0, "{name}");
    }
    assert_eq!(Outcome::read(&out), whole);
}

#[test]
fn fresh_starts_over() {
    let lab = Lab::new();
    lab.succeed(&format!("{QUICK} --out run"));
    let (first, result) = (cells(&lab.path("run")), Outcome::read(&lab.path("run")));
    lab.succeed(&format!("{QUICK} --out run --fresh"));
    let second = cells(&lab.path("run"));
    assert!(first.keys().eq(second.keys()) && first.iter().all(|(name, cell)| second[name].0 > cell.0));
    assert_eq!(Outcome::read(&lab.path("run")), result);
}

#[cfg(unix)]
#[test]
fn a_full_disk_loses_no_finished_cell() {
    use std::os::unix::process::CommandExt;
    let lab = Lab::new();
    let (command, out) = (format!("{QUICK} --out run"), lab.path("run"));
    // Every write to a file fails, as on a disk without a free byte.
    let starved = || {
        let mut starved = lab.command(&command);
        // SAFETY: both calls may be made between fork and exec.
        unsafe {
            starved.pre_exec(|| {
                let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
                libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
                if libc::setrlimit(libc::RLIMIT_FSIZE, &none) == 0 {
                    Ok(())
                } else {
                    Err(std::io::Error::last_os_error())
                }
            });
        }
        let output = starved.output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    lab.succeed(&format!("{command} --arm krr --arm toy"));
    let finished = cells(&out);
    assert_eq!(finished.len(), 2);
    let said = starved();
    assert!(
        said.contains("error: mlp/alpha=0 seed 0: the finished cell cannot be saved; cells finished before are safe"),
        "{said}"
    );
    assert_eq!(cells(&out), finished);
    assert!(litter(&out).iter().all(|name| name.ends_with(".lock")), "{:?}", litter(&out));

    lab.succeed(&command);
    let (complete, result) = (cells(&out), Outcome::read(&out));
    assert!(finished.iter().all(|(name, cell)| complete[name] == *cell));
    // And a disk that fills up when the cells are there and the record is written.
    let said = starved();
    assert!(said.starts_with("error: ") && said.contains("File too large"), "{said}");
    assert_eq!((cells(&out), Outcome::read(&out)), (complete, result), "the old record is whole");
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(30), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
