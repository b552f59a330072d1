//! What recorded runs say: the verdicts of one `run.json`, or how many claims of each area held.
//!
//! `cargo run --release -p autodidact-reproduce --example verdicts -- crates/reproduce/results [SLUG]`

use anyhow::{Result, bail, ensure};
use autodidact_reproduce::record::RunRecord;
use autodidact_reproduce::report::recorded;
use std::collections::BTreeMap;
use std::path::Path;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (folder, slug) = match &args[..] {
        [folder] => (Path::new(folder), None),
        [folder, slug] => (Path::new(folder), Some(slug)),
        _ => bail!("give the folder of recorded results, and a paper's name for its claims"),
    };
    match slug {
        Some(slug) => claims(&RunRecord::read(&folder.join(slug).join("run.json"))?),
        None => areas(folder)?,
    }
    Ok(())
}

fn claims(run: &RunRecord) {
    println!("{} ({}): scale {}, {}, {} seeds", run.title, run.arxiv, run.scale, run.dataset, run.seeds.len());
    for c in &run.claims {
        println!("{:4} {:14} {}", c.id, c.verdict.words(), c.statement);
        if let (Some(measured), Some(low), Some(high)) = (c.measured, c.ci_low, c.ci_high) {
            println!("     measured {measured:.3} ({low:.3} to {high:.3}); criterion: {}", c.criterion);
        }
    }
}

fn areas(folder: &Path) -> Result<()> {
    let mut areas: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
    let runs = recorded(folder)?;
    ensure!(!runs.is_empty(), "no recorded results in {}", folder.display());
    for (_, run) in &runs {
        for claim in &run.claims {
            *areas.entry(run.area.clone()).or_default().entry(claim.verdict.words()).or_insert(0) += 1;
        }
    }
    for (area, counts) in areas {
        let counts: Vec<String> = counts.iter().map(|(verdict, n)| format!("{n} {verdict}")).collect();
        println!("{area:11} {}", counts.join(", "));
    }
    println!("{} runs", runs.len());
    Ok(())
}
