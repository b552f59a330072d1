//! Fits a scaling law to a table of runs.
//!
//! `cargo run --release -p autodidact-scaling --example fit -- points.csv --law chinchilla --bootstrap 200 --plot out.svg`
//!
//! The file has a header and one run a line. Columns of the laws (`--columns` names others, in this order):
//!
//! | `--law` | columns |
//! |---|---|
//! | `power`, `power-constant` | `x`, `loss` |
//! | `chinchilla`, `joint` | `n`, `d`, `loss` |
//! | `bivariate`, `univariate`, `additive` | `n_e`, `n_d`, `loss` |
//! | `batch-tradeoff` | `b`, `steps` |
//! | `critical-batch` | `loss`, `b_crit` |
//! | `annealing` | `run`, `lr`, `loss`: a line for every step, the loss where it was measured |

mod annealing;
mod plot;
mod table;

use anyhow::{Context, Result, bail};
use autodidact_scaling::fit::*;
use clap::{Parser, ValueEnum};
use std::path::PathBuf;

#[derive(Parser)]
#[command(about = "Fits a scaling law to a table of runs")]
struct Args {
    /// CSV file with a header
    points: PathBuf,
    #[arg(long, value_enum)]
    law: LawName,
    #[arg(long, value_enum, default_value_t = ObjectiveName::Huber)]
    objective: ObjectiveName,
    /// Width of the quadratic part of Huber's loss
    #[arg(long, default_value_t = 1e-3)]
    delta: f64,
    /// Bootstrap resamples for 95 % intervals; 0 for none
    #[arg(long, default_value_t = 0)]
    bootstrap: usize,
    /// Draw whole runs in the bootstrap: the column that names them
    #[arg(long, value_name = "COLUMN")]
    runs: Option<String>,
    /// Fit without the largest share of the points too, and predict them
    #[arg(long, value_name = "SHARE", num_args = 0..=1, default_missing_value = "0.2")]
    leave_largest_out: Option<f64>,
    /// Keep the law below the points: a penalty of weight 100 where it is above
    #[arg(long)]
    frontier: bool,
    /// Columns of the inputs and of the value, instead of the law's own names
    #[arg(long, value_delimiter = ',')]
    columns: Vec<String>,
    /// SVG of the points, the law and its extrapolation
    #[arg(long, value_name = "SVG")]
    plot: Option<PathBuf>,
    /// Best division of this compute (FLOP, chinchilla) or number of parameters (bivariate)
    #[arg(long)]
    budget: Option<f64>,
    /// Annealing law: decays of the momentum, of which the best is taken
    #[arg(long, value_delimiter = ',', default_value = "0.99,0.995,0.999,0.9995")]
    lambda: Vec<f64>,
    /// Annealing law: steps of warm-up
    #[arg(long, default_value_t = 0)]
    warmup: usize,
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum LawName {
    Power,
    PowerConstant,
    Chinchilla,
    Bivariate,
    Univariate,
    Additive,
    Joint,
    BatchTradeoff,
    CriticalBatch,
    Annealing,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum ObjectiveName {
    Huber,
    LeastSquares,
    LogLeastSquares,
}

impl Args {
    fn options(&self) -> FitOptions {
        let objective = match self.objective {
            ObjectiveName::Huber => Objective::Huber { delta: self.delta },
            ObjectiveName::LeastSquares => Objective::LeastSquares,
            ObjectiveName::LogLeastSquares => Objective::LogLeastSquares,
        };
        let frontier = if self.frontier { 100.0 } else { 0.0 };
        FitOptions { objective, frontier, resamples: self.bootstrap, seed: self.seed, ..Default::default() }
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    match args.law {
        LawName::Power => report::<PowerLaw>(&args, "loss", |_, _| vec![]),
        LawName::PowerConstant => report::<PowerLawPlusConst>(&args, "loss", |_, _| vec![]),
        LawName::Chinchilla => report::<ChinchillaLaw>(&args, "loss", |law, budget| {
            let best = law.optimal_allocation(budget);
            vec![("N", best.n), ("D", best.d), ("loss", best.loss)]
        }),
        LawName::Bivariate => report::<BivariateLaw>(&args, "loss", |law, budget| {
            let best = law.optimal_split(budget);
            vec![("N_e", best.n_e), ("N_d", best.n_d), ("loss", best.loss)]
        }),
        LawName::Univariate => report::<UnivariateLaw>(&args, "loss", |_, _| vec![]),
        LawName::Additive => report::<AdditiveLaw>(&args, "loss", |_, _| vec![]),
        LawName::Joint => report::<JointDataParamLaw>(&args, "loss", |_, _| vec![]),
        LawName::BatchTradeoff => report::<BatchTradeoff>(&args, "steps", |_, _| vec![]),
        LawName::CriticalBatch => report::<CriticalBatchLaw>(&args, "b_crit", |_, _| vec![]),
        LawName::Annealing => annealing::report(&args),
    }
}

/// What a budget buys, by a law.
type Budget<L> = fn(&L, f64) -> Vec<(&'static str, f64)>;

fn report<L: Law>(args: &Args, value: &str, budget: Budget<L>) -> Result<()> {
    let names: Vec<String> = match args.columns.len() {
        0 => L::INPUTS.iter().copied().chain([value]).map(String::from).collect(),
        n if n == L::INPUTS.len() + 1 => args.columns.clone(),
        n => bail!("--columns: the {} law has {} inputs and a value, got {n} names", L::NAME, L::INPUTS.len()),
    };
    let table = table::Table::read(&args.points)?;
    let columns = names.iter().map(|n| table.numbers(n)).collect::<Result<Vec<_>>>()?;
    let (inputs, values) = columns.split_at(names.len() - 1);
    let rows = (0..values[0].len()).map(|i| (inputs.iter().map(|c| c[i]).collect::<Vec<_>>(), values[0][i]));
    let mut points = Points::new(rows)?;
    if let Some(runs) = &args.runs {
        points = points.of_runs(table.labels(runs)?)?;
    }

    let fitted = fit::<L>(&points, &args.options())?;
    println!("{} law, {} points", L::NAME, points.len());
    let quality = Quality {
        objective: fitted.objective,
        r2: fitted.r2,
        mean_error: fitted.mean_error,
        agreeing: fitted.agreeing,
    };
    print_fit(L::CONSTANTS.iter().copied().zip(fitted.law.constants()), &fitted.intervals, quality);
    if let Some(total) = args.budget {
        let bought = budget(&fitted.law, total);
        if bought.is_empty() {
            bail!("--budget: the {} law has no best division", L::NAME);
        }
        let text: Vec<String> = bought.iter().map(|(name, value)| format!("{name} {}", short(*value))).collect();
        println!("best division of {}: {}", short(total), text.join(", "));
    }

    let validation = match args.leave_largest_out {
        Some(share) => Some(validate_largest::<L>(&points, share, &args.options())?),
        None => None,
    };
    if let Some(check) = &validation {
        let worst = check.errors.iter().fold(0.0f64, |w, e| if e.abs() > w.abs() { *e } else { w });
        println!(
            "without the largest {} points it predicts them with a mean error of {:.3} %, at worst {:+.3} %",
            check.held_out.len(),
            100.0 * check.mean_error(),
            100.0 * worst
        );
    }
    if let Some(path) = &args.plot {
        plot::draw(path, &names, &points, &fitted, validation.as_ref())
            .with_context(|| format!("cannot draw {}", path.display()))?;
        println!("{} written", path.display());
    }
    Ok(())
}

/// How well a law fits.
struct Quality {
    objective: f64,
    r2: f64,
    mean_error: f64,
    agreeing: (usize, usize),
}

/// The table of constants, and the line below it.
fn print_fit<'a>(constants: impl IntoIterator<Item = (&'a str, f64)>, intervals: &[(f64, f64)], quality: Quality) {
    println!("{:>10} {:>14}  95 % interval", "constant", "value");
    for (k, (name, constant)) in constants.into_iter().enumerate() {
        let interval = intervals.get(k).map_or(String::from("-"), |i| format!("{} .. {}", short(i.0), short(i.1)));
        println!("{name:>10} {:>14}  {interval}", short(constant));
    }
    let Quality { objective, r2, mean_error, agreeing: (agreeing, starts) } = quality;
    println!(
        "objective {objective:.6e}, R^2 {r2:.5}, mean error {:.3} %, {agreeing} of {starts} starts agree",
        100.0 * mean_error
    );
}

/// Five digits, without an exponent where it is easy to read.
fn short(value: f64) -> String {
    if value == 0.0 || (1e-3..1e5).contains(&value.abs()) { format!("{value:.5}") } else { format!("{value:.4e}") }
}
