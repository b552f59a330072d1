//! The benchmark suite: `cargo xtask bench [FILTER]`; see benches/README.md.

mod augment;
mod choice;
mod distill;
mod distilled;
mod end_to_end;
mod fits;
mod growth;
mod models;
mod optim;
mod preference;
mod pruning;
mod ssl;

use anyhow::{Context, Result, bail};
use autodidact_benches::{Effort, Entry, Peer, Record, measure};
use clap::Parser;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tch::{Device, Kind, Tensor};

/// Times the library beside the Python packages that do the same work.
#[derive(Parser)]
#[command(name = "suite")]
struct Options {
    /// Only entries whose name contains one of these
    filter: Vec<String>,
    /// Few rounds: the whole suite in minutes, with wide intervals
    #[arg(long)]
    quick: bool,
    /// Rounds, each a turn of both sides [default: 25]
    #[arg(long)]
    rounds: Option<usize>,
    /// Seconds after which an entry ends early, but not before seven rounds [default: 15]
    #[arg(long)]
    seconds: Option<f64>,
    /// Threads of each side [default: all]
    #[arg(long)]
    threads: Option<usize>,
    /// Name the entries and end
    #[arg(long)]
    list: bool,
    /// Make this the recorded run: benches/results/bench.json, and the table in benches/RESULTS.md
    #[arg(long, conflicts_with_all = ["filter", "quick", "rounds", "seconds"])]
    record: bool,
    /// Python that has the peers of benches/peers/requirements.txt; without it our side is timed alone
    #[arg(long, env = "AUTODIDACT_PEER_PYTHON")]
    python: Option<PathBuf>,
    /// The built `reproduce` program; without it the entries that start it are left out
    #[arg(long, env = "AUTODIDACT_REPRODUCE")]
    reproduce: Option<PathBuf>,
    /// Folder of the results
    #[arg(long, env = "AUTODIDACT_BENCH_OUT", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bench"))]
    out: PathBuf,
    /// Given by `cargo bench`; without it, as under `cargo test`, everything runs once and nothing is written
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    fn effort(&self) -> Result<Effort> {
        let usual = match (self.bench, self.quick) {
            (false, _) => return Ok(Effort::once()),
            (true, true) => Effort::quick(),
            (true, false) => Effort::default(),
        };
        Ok(Effort {
            rounds: self.rounds.unwrap_or(usual.rounds).max(1),
            limit: self.seconds.map_or(Ok(usual.limit), Duration::try_from_secs_f64)?,
            ..usual
        })
    }
}

fn main() -> Result<()> {
    let options = Options::parse();
    let threads = match options.threads {
        Some(n) => n.max(1),
        None => std::thread::available_parallelism()?.get(),
    };
    tch::set_num_threads(i32::try_from(threads)?);
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    // A list has all entries, whatever is at hand.
    let program = options.reproduce.clone().or_else(|| options.list.then(|| "reproduce".into()));
    if program.is_none() {
        eprintln!("no built program (AUTODIDACT_REPRODUCE): the entries that start `reproduce` are left out");
    }
    if options.record && (options.python.is_none() || options.reproduce.is_none()) {
        bail!(
            "a run is recorded whole: with the peers and the `reproduce` program, as `cargo xtask bench --record` has them"
        );
    }
    let chosen = choice::choose(entries(threads, program.as_deref())?, |e| &e.name, &options.filter)?;
    if options.list {
        chosen.iter().for_each(|e| println!("{}: {}", e.name, e.what));
        return Ok(());
    }
    let effort = options.effort()?;
    let mut peer = options.python.as_deref().map(|python| peer(python, threads)).transpose()?;
    if peer.is_none() {
        eprintln!("no Python with the peers (AUTODIDACT_PEER_PYTHON): only our side is timed");
    }
    let mut record = Record::new(threads);
    let total = chosen.len();
    for (i, entry) in chosen.into_iter().enumerate() {
        let name = entry.name.clone();
        eprintln!("{}/{total} {name}: {}", i + 1, entry.what);
        record.entries.push(measure(entry, peer.as_mut(), effort).context(name)?);
        if options.bench {
            record.write(&options.out)?;
        }
    }
    println!("{}", record.text());
    if options.record {
        record.publish(Path::new(env!("CARGO_MANIFEST_DIR")))?;
        println!("recorded in benches/results and benches/RESULTS.md; now run `cargo xtask report`");
    }
    Ok(())
}

fn peer(python: &Path, threads: usize) -> Result<Peer> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/serve.py");
    let mut command = Command::new(python);
    // NumPy and SciPy read the number of threads when they load.
    command.env("OMP_NUM_THREADS", threads.to_string()).env("OPENBLAS_NUM_THREADS", threads.to_string());
    // The interpreter brings a libtorch of its own, which ours on the library path must not replace.
    Peer::start(command.arg(script).env_remove("LD_LIBRARY_PATH"), threads)
}

fn entries(threads: usize, reproduce: Option<&Path>) -> Result<Vec<Entry>> {
    let mut all = vec![optim::adamw_step()?];
    all.extend(augment::entries(threads));
    all.extend(ssl::entries());
    all.extend(fits::entries()?);
    all.extend(distill::entries());
    all.extend(distilled::entries());
    all.extend(models::entries()?);
    all.extend(preference::entries());
    all.extend(pruning::entries());
    all.extend(growth::entries());
    all.extend(end_to_end::entries(threads, reproduce));
    Ok(all)
}

/// A tensor that both sides can make: the fractional parts of `43758.5453 sin(12.9898 i + phase)`, in `(-1, 1)`.
fn scrambled(shape: &[i64], phase: f64, kind: Kind) -> Tensor {
    let count: i64 = shape.iter().product();
    let i = Tensor::arange(count, (Kind::Double, Device::Cpu));
    ((i * 12.9898 + phase).sin() * 43758.5453).frac().to_kind(kind).view(shape)
}
