//! The benchmark suite: `cargo xtask bench [FILTER]`; see benches/README.md.

mod augment;
mod distill;
mod distilled;
mod fits;
mod models;
mod optim;
mod preference;
mod pruning;
mod ssl;

use anyhow::{Context, Result};
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
    /// Rounds, each a turn of both sides
    #[arg(long, default_value_t = Effort::default().rounds)]
    rounds: usize,
    /// Seconds after which an entry ends early (not before seven rounds)
    #[arg(long, default_value_t = Effort::default().limit.as_secs_f64())]
    seconds: f64,
    /// Threads of each side [default: all]
    #[arg(long)]
    threads: Option<usize>,
    /// Name the entries and end
    #[arg(long)]
    list: bool,
    /// Python that has the peers of benches/peers/requirements.txt; without it our side is timed alone
    #[arg(long, env = "AUTODIDACT_PEER_PYTHON")]
    python: Option<PathBuf>,
    /// Folder of the results
    #[arg(long, env = "AUTODIDACT_BENCH_OUT", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bench"))]
    out: PathBuf,
    /// Given by `cargo bench`; without it, as under `cargo test`, everything runs once and nothing is written
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let threads = match options.threads {
        Some(n) => n.max(1),
        None => std::thread::available_parallelism()?.get(),
    };
    tch::set_num_threads(i32::try_from(threads)?);
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    let wanted = |e: &Entry| options.filter.is_empty() || options.filter.iter().any(|f| e.name.contains(f.as_str()));
    let entries: Vec<Entry> = entries(threads)?.into_iter().filter(wanted).collect();
    if options.list {
        entries.iter().for_each(|e| println!("{}: {}", e.name, e.what));
        return Ok(());
    }
    let mut effort = Effort {
        rounds: options.rounds.max(1),
        limit: Duration::try_from_secs_f64(options.seconds)?,
        ..Effort::default()
    };
    if !options.bench {
        effort = Effort::once();
    }
    let mut peer = options.python.as_deref().map(|python| peer(python, threads)).transpose()?;
    if peer.is_none() {
        eprintln!("no Python with the peers (AUTODIDACT_PEER_PYTHON): only our side is timed");
    }
    let mut record = Record::new(threads);
    for entry in entries {
        let name = entry.name.clone();
        eprintln!("{name}: {}", entry.what);
        record.entries.push(measure(entry, peer.as_mut(), effort).context(name)?);
        if options.bench {
            record.write(&options.out)?;
        }
    }
    println!("{}", record.table());
    for (series, exponent) in record.growth() {
        println!("{series}: exponent {exponent:.2}");
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

fn entries(threads: usize) -> Result<Vec<Entry>> {
    let mut all = vec![optim::adamw_step()?];
    all.extend(augment::entries(threads));
    all.extend(ssl::entries());
    all.extend(fits::entries()?);
    all.extend(distill::entries());
    all.extend(distilled::entries());
    all.extend(models::entries()?);
    all.extend(preference::entries());
    all.extend(pruning::entries());
    Ok(all)
}

/// A tensor that both sides can make: the fractional parts of `43758.5453 sin(12.9898 i + phase)`, in `(-1, 1)`.
fn scrambled(shape: &[i64], phase: f64, kind: Kind) -> Tensor {
    let count: i64 = shape.iter().product();
    let i = Tensor::arange(count, (Kind::Double, Device::Cpu));
    ((i * 12.9898 + phase).sin() * 43758.5453).frac().to_kind(kind).view(shape)
}
