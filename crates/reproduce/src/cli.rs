//! The command line of `reproduce`.

mod settings;

use crate::catalog::{self, PAPERS, Paper, RESULTS, summary};
use crate::experiment::{Experiment, Plan, Scale};
use crate::record::{self, RunRecord};
use crate::runner::{self, Outcome, RunOptions, default_out};
use crate::{experiments, report, signals};
use anyhow::{Context as _, Result, bail};
use autodidact_core::device::{DeviceChoice, Precision};
use clap::{Args, Parser, Subcommand};
use settings::configured;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use tch::Device;

/// Reproduce papers on learning with little or no supervision: run their experiments, judge their claims.
///
/// Without options a paper runs at scale `small` (minutes on two cores) on data that needs no download. A run that is
/// stopped continues where it was.
#[derive(Debug, Parser)]
#[command(name = "reproduce", version, bin_name = "cargo xtask reproduce", args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the site and the README's table from the recorded results.
    Report(ReportArgs),
}

#[derive(Debug, Args)]
struct ReportArgs {
    /// Only check that the README's table equals the recorded results.
    #[arg(long)]
    check: bool,
    /// Folder of the site.
    #[arg(long, default_value = "site")]
    out: PathBuf,
}

#[derive(Debug, Args)]
struct RunArgs {
    /// Papers to run, by name (see --list).
    #[arg(value_name = "PAPER")]
    papers: Vec<String>,
    /// Run all papers.
    #[arg(long, conflicts_with = "papers")]
    all: bool,
    /// List the papers with their areas and last verdicts.
    #[arg(long)]
    list: bool,
    /// smoke: seconds, proves that it runs; small: minutes on two cores; full: hours on a GPU.
    #[arg(long, value_enum, default_value_t = Scale::Small)]
    scale: Scale,
    /// Number of repetitions.
    #[arg(long, value_name = "N")]
    seeds: Option<usize>,
    /// Seed of the first repetition; trials on other seeds than those of the result keep it honest.
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    first_seed: u64,
    /// auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    /// Forward passes of the common training loop: f32, or bf16 for matrix products and convolutions in bfloat16 (autocast). Loops that
    /// papers have of their own stay in f32.
    #[arg(long, default_value = "f32")]
    precision: Precision,
    /// Folder with data sets in their publishers' formats.
    #[arg(long, value_name = "DIR", env = "AUTODIDACT_DATA")]
    data: Option<PathBuf>,
    /// Data set to use instead of the paper's default here.
    #[arg(long, value_name = "NAME")]
    dataset: Option<String>,
    /// Never download: a data set that is not in the data folder is an error.
    #[arg(long)]
    offline: bool,
    /// Threads of libtorch in each process; numbers depend on it [default: 1; on a GPU, the number of cores].
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Processes that share the cells; numbers do not depend on it [default: as many as there are cores for, 16 at most; on a GPU, 1].
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Folder of the run [default: runs/<paper>/<scale>-<dataset> in the workspace].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Run only these arms.
    #[arg(long = "arm", value_name = "ARM")]
    arms: Vec<String>,
    /// Change a hyper-parameter, as KEY=VALUE (JSON value).
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Run only cells I of every N (I from 0); shards on a shared folder make one result.
    #[arg(long, value_name = "I/N", value_parser = parse_shard)]
    shard: Option<(usize, usize)>,
    /// Continue from finished cells (the default).
    #[arg(long, conflicts_with = "fresh")]
    resume: bool,
    /// Forget finished cells and start over.
    #[arg(long)]
    fresh: bool,
    /// Copy the finished record to the recorded results.
    #[arg(long)]
    record: bool,
    /// No progress.
    #[arg(long)]
    quiet: bool,
    /// Be one of the other processes of `--jobs`.
    #[arg(long, hide = true)]
    worker: bool,
}

fn parse_shard(s: &str) -> Result<(usize, usize), String> {
    let parts = s.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
    parts.filter(|(i, n)| i < n).ok_or_else(|| "expected I/N with I below N, such as 0/4".into())
}

/// Parses the process's arguments and does what they say.
///
/// # Errors
/// Anything that goes wrong, with what to do about it.
pub fn main() -> Result<()> {
    let cli = Cli::parse();
    let workspace = workspace();
    signals::end_with_the_pipe();
    match cli.command {
        Some(Command::Report(args)) => make_report(&workspace, &args),
        None if cli.run.list => {
            println!("{}", catalog::list(&workspace));
            Ok(())
        }
        None => run(&workspace, &cli.run),
    }
}

/// The workspace around the current folder; elsewhere, the current folder itself.
fn workspace() -> PathBuf {
    let here = std::env::current_dir().unwrap_or_else(|_| ".".into());
    here.ancestors().find(|p| is_workspace(p)).unwrap_or(&here).to_owned()
}

fn is_workspace(folder: &Path) -> bool {
    folder.join(RESULTS).parent().is_some_and(Path::is_dir)
}

fn check_inside(workspace: &Path, what: &str) -> Result<()> {
    if is_workspace(workspace) { Ok(()) } else { bail!("{what} works inside the workspace of autodidact only") }
}

fn make_report(workspace: &Path, args: &ReportArgs) -> Result<()> {
    check_inside(workspace, "report")?;
    let (readme, results) = (workspace.join("README.md"), workspace.join(RESULTS));
    if args.check {
        report::check_readme(&readme, &results)?;
        println!("the README's table equals the recorded results");
        return Ok(());
    }
    let bench = workspace.join("benches").join(autodidact_benches::record::RECORDED);
    let pages = report::site(&results, &bench, &args.out)?;
    report::update_readme(&readme, &results)?;
    println!("{pages} recorded results; open {}", args.out.join("index.html").display());
    Ok(())
}

/// Finds a name, or says which one is meant.
fn find<'a, T>(what: &str, name: &str, all: impl IntoIterator<Item = (&'a str, T)>) -> Result<T> {
    let mut names = vec![];
    for (n, value) in all {
        if n == name {
            return Ok(value);
        }
        names.push(n);
    }
    let score = |n: &&str| strsim::jaro_winkler(n, name);
    match names.iter().copied().max_by(|a, b| score(a).total_cmp(&score(b))).filter(|n| score(n) > 0.7) {
        Some(n) => bail!("there is no {what} {name}; did you mean {n}?"),
        None => bail!("there is no {what} {name}; there are: {}", names.join(", ")),
    }
}

fn run(workspace: &Path, args: &RunArgs) -> Result<()> {
    let experiments = experiments();
    let by_name = || experiments.iter().map(|e| (e.paper().slug, *e));
    let chosen: Vec<&dyn Experiment> = match (args.all, args.papers.is_empty()) {
        (true, _) => experiments.clone(),
        (false, true) => bail!("name a paper, or use --all; --list shows them"),
        _ => args.papers.iter().map(|p| find("paper", p, by_name())).collect::<Result<_>>()?,
    };
    if chosen.len() > 1 && (args.dataset.is_some() || !args.set.is_empty() || !args.arms.is_empty()) {
        bail!("--dataset, --set and --arm go with one paper");
    }
    if args.record {
        check_inside(workspace, "--record")?;
        if args.scale == Scale::Smoke {
            bail!("--record goes with scale small or full: verdicts are not judged at scale smoke");
        }
    }
    let plans = chosen.iter().map(|e| plan(*e, args)).collect::<Result<Vec<_>>>()?;
    if !args.quiet {
        signals::say_that_a_stopped_run_continues();
    }
    if args.worker {
        runner::end_with_the_starter();
    }
    let mut failed = vec![];
    for (experiment, plan) in chosen.iter().zip(&plans) {
        if let Err(e) = run_one(workspace, *experiment, plan, args) {
            if chosen.len() == 1 {
                return Err(e);
            }
            eprintln!("error: {}: {e:#}", experiment.paper().slug);
            failed.push(experiment.paper().slug);
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("failed: {}", failed.join(", ")) }
}

/// Processes by default on a machine with more cores than that: each holds the data and the networks of a cell.
const MANY_JOBS: usize = 16;

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// More threads than any machine profits from; libtorch ends the process when it cannot make them.
const MAX_THREADS: usize = 1024;

fn plan(experiment: &dyn Experiment, args: &RunArgs) -> Result<Plan> {
    let datasets = experiment.datasets();
    let dataset = match &args.dataset {
        None => datasets[0],
        Some(name) => {
            find(&format!("data set of {} named", experiment.paper().slug), name, datasets.iter().map(|d| (*d, *d)))?
        }
    };
    if let Some(folder) = args.data.as_ref().filter(|folder| !folder.is_dir()) {
        bail!("the data folder {} (--data or $AUTODIDACT_DATA) does not exist", folder.display());
    }
    let seeds = args.seeds.unwrap_or(experiment.seeds(args.scale));
    if seeds == 0 {
        bail!("--seeds must be at least 1");
    }
    let device = args.device.resolve()?;
    let threads = args.threads.unwrap_or(if device.is_cuda() { cores() } else { 1 });
    if !(1..=MAX_THREADS).contains(&threads) {
        bail!("--threads must be from 1 to {MAX_THREADS}");
    }
    if args.jobs.is_some_and(|jobs| !(1..=MAX_THREADS).contains(&jobs)) {
        bail!("--jobs must be from 1 to {MAX_THREADS}");
    }
    let last = args.first_seed.checked_add(seeds as u64).context("--first-seed is too large")?;
    let mut plan = Plan {
        scale: args.scale,
        seeds: (args.first_seed..last).collect(),
        dataset: dataset.to_owned(),
        data: String::new(),
        data_dir: args.data.clone(),
        download: !args.offline,
        device,
        precision: args.precision,
        threads,
        config: configured(experiment.config(args.scale), &args.set)?,
        cache: cache_folder(),
    };
    let cells = experiment.cells(&plan).context("--set")?;
    for arm in &args.arms {
        let arms = cells.iter().flat_map(|c| [c.arm.as_str(), c.arm.split('/').next().unwrap_or("")]);
        let mut arms: Vec<&str> = arms.collect();
        arms.sort_unstable();
        arms.dedup();
        find("arm", arm, arms.into_iter().map(|a| (a, ())))?;
    }
    // Last: it may download.
    let sets = std::iter::once(dataset).chain(experiment.further_datasets(dataset).iter().copied());
    let identity = |set| autodidact_datasets::fingerprint(set, plan.data_dir.as_deref(), plan.download);
    plan.data = sets.map(identity).collect::<Result<Vec<_>, _>>()?.join("+");
    Ok(plan)
}

/// `$AUTODIDACT_CACHE`, else `autodidact` in the user's cache folder.
fn cache_folder() -> PathBuf {
    let env = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    env("AUTODIDACT_CACHE")
        .or_else(|| env("XDG_CACHE_HOME").map(|p| p.join("autodidact")))
        .or_else(|| env("HOME").map(|p| p.join(".cache/autodidact")))
        .unwrap_or_else(|| std::env::temp_dir().join("autodidact"))
}

fn run_one(workspace: &Path, experiment: &dyn Experiment, plan: &Plan, args: &RunArgs) -> Result<()> {
    tch::set_num_threads(plan.threads as i32);
    plan.precision.set_for_training();
    let slug = experiment.paper().slug;
    let out = match &args.out {
        None => default_out(workspace, slug, plan),
        Some(out) if args.all || args.papers.len() > 1 => out.join(slug),
        Some(out) => out.clone(),
    };
    let options = RunOptions {
        out: out.clone(),
        fresh: args.fresh,
        shard: args.shard,
        arms: args.arms.clone(),
        quiet: args.quiet,
        jobs: match args.jobs {
            Some(jobs) => jobs,
            None if plan.device.is_cuda() => 1,
            None => (cores() / plan.threads).clamp(1, MANY_JOBS),
        },
        worker_arguments: worker_arguments(slug, plan, args, &out),
        worker: args.worker,
        command: command(slug, plan, args),
    };
    match runner::run(experiment, plan, &options)? {
        Outcome::Incomplete { done, total } => {
            println!("{slug}: {done} of {total} cells are finished in {}", out.display());
            println!(
                "run the other shards or arms, or the same command without --shard and --arm, to complete the result"
            );
        }
        Outcome::Complete(record) => {
            let to = workspace.join(RESULTS).join(slug);
            if args.record {
                record::publish(&out, &record, &to)?;
            }
            print_verdicts(experiment.paper(), &record);
            println!("page: {}", out.join("index.html").display());
            if args.record {
                println!("recorded in {}; now run `cargo xtask report`", to.display());
            }
        }
    }
    Ok(())
}

/// The command that repeats a run, with what decides its numbers.
fn command(slug: &str, plan: &Plan, args: &RunArgs) -> String {
    let mut c = format!("cargo xtask reproduce {slug} --scale {} --dataset {}", plan.scale, plan.dataset);
    if args.data.is_some() {
        c += " --data DIR";
    }
    c += &format!(" --seeds {}", plan.seeds.len());
    if args.first_seed != 0 {
        c += &format!(" --first-seed {}", args.first_seed);
    }
    c += &format!(" --threads {}", plan.threads);
    if plan.device.is_cuda() {
        c += " --device cuda";
    }
    if plan.precision != Precision::F32 {
        c += &format!(" --precision {}", plan.precision);
    }
    for s in &args.set {
        // Quoting fails for a NUL alone, which no argument can hold.
        c += &format!(" --set {}", shlex::try_quote(s).unwrap_or(s.into()));
    }
    c
}

/// Arguments for another process of the same run of one paper.
fn worker_arguments(slug: &str, plan: &Plan, args: &RunArgs, out: &Path) -> Vec<OsString> {
    let mut all: Vec<OsString> =
        [slug, "--worker", "--quiet", "--scale", &plan.scale.to_string(), "--dataset", &plan.dataset]
            .map(OsString::from)
            .into();
    let mut option = |name: &str, value: OsString| all.extend([name.into(), value]);
    option("--out", out.into());
    option("--seeds", plan.seeds.len().to_string().into());
    option("--first-seed", args.first_seed.to_string().into());
    option("--threads", plan.threads.to_string().into());
    option("--device", if let Device::Cuda(i) = plan.device { format!("cuda:{i}") } else { "cpu".into() }.into());
    option("--precision", plan.precision.to_string().into());
    args.data.iter().for_each(|folder| option("--data", folder.into()));
    args.arms.iter().for_each(|arm| option("--arm", arm.into()));
    args.set.iter().for_each(|set| option("--set", set.into()));
    args.shard.iter().for_each(|(i, n)| option("--shard", format!("{i}/{n}").into()));
    if args.offline {
        all.push("--offline".into());
    }
    all
}

fn print_verdicts(paper: &Paper, record: &RunRecord) {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::UTF8_FULL_CONDENSED);
    table.set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
    table.set_width(std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok()).unwrap_or(120));
    table.set_header(["claim", "verdict", "measured (95 % interval)", "what was measured"]);
    for c in &record.claims {
        let interval = match (c.measured, c.ci_low, c.ci_high) {
            (Some(m), Some(l), Some(h)) if l != h => {
                format!("{} ({} to {})", report::figure(m), report::figure(l), report::figure(h))
            }
            (Some(m), ..) => report::figure(m),
            _ => "–".into(),
        };
        table.add_row([&format!("{} {}", c.id, c.statement), &c.verdict.words(), &interval, &c.note]);
    }
    println!("\n{} ({}, {})\n{table}", paper.title, paper.authors, paper.year);
    println!(
        "{}: {}; scale {}, data {}, {} {}, {:.0} s of computing",
        paper.slug,
        summary(&record.counts()),
        record.scale,
        record.dataset,
        record.seeds.len(),
        if record.seeds.len() == 1 { "seed" } else { "seeds" },
        record.wall_seconds
    );
    if record.scale != Scale::Full && record.claims.iter().any(|c| c.verdict.key() == "not_judged") {
        println!("Verdicts are judged at scale small and above, with three or more seeds.");
    }
    debug_assert!(PAPERS.iter().any(|p| p.slug == record.paper));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_names_get_a_suggestion_or_the_list() {
        let all = || ["barlow-twins", "teacher-guidance"].map(|n| (n, ()));
        assert!(find("paper", "barlow-twins", all()).is_ok());
        let e = find("paper", "barlowtwin", all()).unwrap_err().to_string();
        assert_eq!(e, "there is no paper barlowtwin; did you mean barlow-twins?");
        let e = find("paper", "xyz", all()).unwrap_err().to_string();
        assert!(e.ends_with("there are: barlow-twins, teacher-guidance"), "{e}");
    }

    #[test]
    fn the_recorded_command_is_what_a_shell_takes() {
        let line = ["reproduce", "barlow-twins", "--threads", "1", "--first-seed", "3", "--set", "widths=[16, 32]"];
        let args = Cli::parse_from(line).run;
        let experiment = find("paper", "barlow-twins", experiments().into_iter().map(|e| (e.slug(), e))).unwrap();
        let plan = plan(experiment, &args).unwrap();
        assert_eq!(plan.seeds, [3, 4, 5]);
        let command = command(experiment.slug(), &plan, &args);
        assert!(command.ends_with("--seeds 3 --first-seed 3 --threads 1 --set 'widths=[16, 32]'"), "{command}");
        assert_eq!(shlex::split(&command).unwrap().last().unwrap(), "widths=[16, 32]");
    }

    #[test]
    fn shards_are_counted_from_zero() {
        assert_eq!(parse_shard("1/4"), Ok((1, 4)));
        assert!(parse_shard("4/4").is_err() && parse_shard("x").is_err());
    }
}
