//! Being written.
use crate::catalog::{PAPERS, Paper};
use crate::experiment::{Cell, Claim, Experiment, Plan, Scale};
use crate::plot::Plot;
use crate::results::Results;
use crate::runner::Context;
use crate::verdict::Finding;
use anyhow::Result;

/// The experiment.
pub struct LrAnnealingLaw;

impl Experiment for LrAnnealingLaw {
    fn paper(&self) -> &'static Paper { PAPERS.iter().find(|p| p.slug == "lr-annealing-law").unwrap() }
    fn version(&self) -> u32 { 1 }
    fn claims(&self) -> Vec<Claim> { vec![] }
    fn datasets(&self) -> &'static [&'static str] { &["digits"] }
    fn config(&self, _: Scale) -> serde_json::Value { serde_json::json!({}) }
    fn cells(&self, plan: &Plan) -> Result<Vec<Cell>> { Ok(plan.cross(&["a"])) }
    fn run(&self, _: &Cell, c: &mut Context<'_>) -> Result<()> { c.metric(0, "x", 1.0); Ok(()) }
    fn judge(&self, _: &Results) -> Result<Vec<Finding>> { Ok(vec![]) }
    fn plots(&self, _: &Results) -> Result<Vec<Plot>> { Ok(vec![]) }
}
