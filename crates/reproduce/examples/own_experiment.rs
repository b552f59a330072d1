//! An experiment of one's own on the runner: seeds, resume, progress, verdicts, plots and the page come with it.
//!
//! `cargo run --release -p autodidact-reproduce --example own_experiment -- [FOLDER]` (`runs/ridge`)
//!
//! The claim: with as many points as features, a penalty halves the error of linear regression. A second call finds all cells finished.

use anyhow::Result;
use autodidact_core::kernel::{Kernel, KernelRidge};
use autodidact_core::seed::seed_torch;
use autodidact_reproduce::catalog::Paper;
use autodidact_reproduce::experiment::{Cell, Claim, Experiment, Plan, Scale};
use autodidact_reproduce::plot::{Plot, Series};
use autodidact_reproduce::results::Results;
use autodidact_reproduce::runner::{Context, Outcome, RunOptions, run};
use autodidact_reproduce::verdict::{Finding, ratio};
use serde_json::{Value, json};
use std::path::PathBuf;
use tch::{Device, Kind, Tensor};

static PAPER: Paper = Paper {
    slug: "ridge",
    area: "regression",
    title: "Ridge Regression: Biased Estimation for Nonorthogonal Problems",
    authors: "Hoerl and Kennard",
    year: 1970,
    arxiv: "",
    venue: "Technometrics 12",
};

struct Ridge;

impl Experiment for Ridge {
    fn slug(&self) -> &'static str {
        PAPER.slug
    }
    fn paper(&self) -> &'static Paper {
        &PAPER
    }
    fn version(&self) -> u32 {
        1
    }
    fn claims(&self) -> Vec<Claim> {
        vec![Claim::new(
            "C1",
            "A penalty halves the error.",
            "none",
            "error without / with penalty above 2, whole interval",
        )]
    }
    fn datasets(&self) -> &'static [&'static str] {
        &["generated"]
    }
    fn config(&self, _scale: Scale) -> Value {
        json!({ "features": 50, "noise": 1.0, "penalties": [1e-6, 0.1, 1.0, 10.0] })
    }
    fn cells(&self, plan: &Plan) -> Result<Vec<Cell>> {
        let penalties: Vec<f64> = serde_json::from_value(plan.config["penalties"].clone())?;
        Ok(plan.cross(&penalties.iter().map(|p| format!("penalty={p}")).collect::<Vec<_>>()))
    }
    fn run(&self, cell: &Cell, context: &mut Context<'_>) -> Result<()> {
        let config = &context.plan.config;
        let (d, noise) = (config["features"].as_i64().unwrap_or(50), config["noise"].as_f64().unwrap_or(1.0));
        let lambda = cell.arm.trim_start_matches("penalty=").parse()?;
        seed_torch(context.seed("data"), &[]); // the same for every arm of a seed
        let weights = Tensor::randn([d, 1], (Kind::Double, Device::Cpu));
        let draw = |n: i64| Tensor::randn([n, d], (Kind::Double, Device::Cpu));
        let (x, test) = (draw(d), draw(1000));
        let y = x.matmul(&weights);
        let model = KernelRidge { kernel: Kernel::Linear, lambda }.fit(&x, &(&y + y.randn_like() * noise))?;
        let error = (model.predict(&test)? - test.matmul(&weights)).square().mean(Kind::Double).double_value(&[]);
        context.metric(0, "error", error);
        Ok(())
    }
    fn judge(&self, results: &Results) -> Result<Vec<Finding>> {
        let (without, with) = (results.values("penalty=0.000001", "error")?, results.values("penalty=1", "error")?);
        Ok(vec![Finding::new("C1", ratio(&without, &with, 2.0), "at penalty 1")])
    }
    fn plots(&self, results: &Results) -> Result<Vec<Plot>> {
        let point = |arm: &&str| Ok((arm.trim_start_matches("penalty=").parse()?, results.mean(arm, "error")?));
        let points = results.arms().iter().map(point).collect::<Result<Vec<(f64, f64)>>>()?;
        let series = vec![Series::line("test error", 0, &points)];
        Ok(vec![Plot::lines("error", "Test error over the penalty", "penalty", "error", series).log(true, true)])
    }
}

fn main() -> Result<()> {
    let out = std::env::args_os().nth(1).map_or_else(|| "runs/ridge".into(), PathBuf::from);
    let plan = Plan { seeds: (0..10).collect(), cache: out.join("cache"), ..Plan::new(&Ridge, Scale::Small) };
    let command = "own_experiment".into();
    let options = RunOptions {
        out: out.clone(),
        fresh: false,
        shard: None,
        arms: vec![],
        quiet: false,
        jobs: 1,
        worker_arguments: vec![],
        worker: false,
        command,
    };
    if let Outcome::Complete(record) = run(&Ridge, &plan, &options)? {
        for c in &record.claims {
            println!("{}: {} ({:.2?}; {})", c.id, c.verdict.words(), c.measured.unwrap_or(f64::NAN), c.criterion);
        }
        println!("the page: {}", out.join("index.html").display());
    }
    Ok(())
}
