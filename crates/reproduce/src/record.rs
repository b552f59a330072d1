//! Records: `run.json`, `metrics.csv`, plots and the page of a run.

use crate::experiment::{Claim, Experiment, Scale};
use crate::plot::Plot;
use crate::results::Results;
use crate::verdict::{Finding, Verdict};
use anyhow::{Context as _, Result};
use autodidact_core::train::write_atomically;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// A judged claim.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClaimRecord {
    /// As on the paper's sheet.
    pub id: String,
    /// The claim.
    pub statement: String,
    /// The paper's own figure.
    pub paper_figure: String,
    /// The rule.
    pub criterion: String,
    /// The measured quantity.
    pub measured: Option<f64>,
    /// Lower end of its 95 % interval.
    pub ci_low: Option<f64>,
    /// Upper end of its 95 % interval.
    pub ci_high: Option<f64>,
    /// What it is compared with.
    pub baseline: Option<f64>,
    /// Observations behind it.
    pub n_seeds: usize,
    /// The outcome.
    pub verdict: Verdict,
    /// Numbers and reasons.
    pub note: String,
}

/// `run.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Slug.
    pub paper: String,
    /// Title.
    pub title: String,
    /// Authors.
    pub authors: String,
    /// Year.
    pub year: u16,
    /// arXiv identifier.
    pub arxiv: String,
    /// Venue.
    pub venue: String,
    /// Area.
    pub area: String,
    /// How much was run.
    pub scale: Scale,
    /// Data set.
    pub dataset: String,
    /// SHA-256 of its files, or `built in`.
    #[serde(default)]
    pub data: String,
    /// `cpu` or `cuda`.
    pub device: String,
    /// libtorch's threads.
    pub threads: usize,
    /// Repetitions.
    pub seeds: Vec<u64>,
    /// Computing time, summed over cells.
    pub wall_seconds: f64,
    /// Largest peak memory of a cell.
    pub peak_memory_mb: f64,
    /// The command.
    pub command: String,
    /// Versions of the code, libtorch and the system.
    pub versions: BTreeMap<String, String>,
    /// Hyper-parameters.
    pub config: Value,
    /// Shared parts from the cache, by name, with their digests.
    pub shared: BTreeMap<String, String>,
    /// The judged claims.
    pub claims: Vec<ClaimRecord>,
    /// Remarks.
    pub note: String,
    /// File names of the plots, with captions.
    pub plots: Vec<(String, String)>,
}

impl RunRecord {
    /// The record of a finished run.
    pub fn new(
        experiment: &dyn Experiment,
        results: &Results,
        claims: &[Claim],
        findings: &[Finding],
        command: &str,
    ) -> Self {
        let (paper, plan) = (experiment.paper(), results.plan());
        let known = |v: f64| v.is_finite().then_some(v);
        let claims = claims.iter().zip(findings).map(|(c, f)| ClaimRecord {
            id: c.id.into(),
            statement: c.statement.into(),
            paper_figure: c.paper_figure.into(),
            criterion: c.criterion.into(),
            measured: known(f.estimate.value),
            ci_low: known(f.estimate.low),
            ci_high: known(f.estimate.high),
            baseline: f.baseline.and_then(known),
            n_seeds: f.estimate.n,
            verdict: f.verdict,
            note: f.note.clone(),
        });
        let versions = [
            ("autodidact", env!("CARGO_PKG_VERSION").to_owned()),
            ("experiment", experiment.version().to_string()),
            ("libtorch", "2.11.0".to_owned()),
            ("system", format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH)),
            ("cpu", cpu_model()),
        ];
        Self {
            paper: paper.slug.into(),
            title: paper.title.into(),
            authors: paper.authors.into(),
            year: paper.year,
            arxiv: paper.arxiv.into(),
            venue: paper.venue.into(),
            area: paper.area.into(),
            scale: plan.scale,
            dataset: plan.dataset.clone(),
            data: plan.data.clone(),
            device: plan.device_name().into(),
            threads: plan.threads,
            seeds: plan.seeds.clone(),
            wall_seconds: results.iter().map(|(_, r)| r.wall_seconds).sum(),
            peak_memory_mb: results.iter().map(|(_, r)| r.peak_memory_mb).fold(0.0, f64::max),
            command: command.into(),
            versions: versions.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
            config: plan.config.clone(),
            shared: results.iter().flat_map(|(_, r)| r.shared.clone()).collect(),
            claims: claims.collect(),
            note: experiment.note(plan),
            plots: vec![],
        }
    }

    /// Number of claims by verdict, as the catalogue counts them.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for c in &self.claims {
            *counts.entry(c.verdict.key().to_owned()).or_insert(0) += 1;
        }
        counts
    }

    /// Reads a `run.json`.
    ///
    /// # Errors
    /// A file that is missing or damaged.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).with_context(|| path.display().to_string())?;
        serde_json::from_slice(&text).with_context(|| format!("{} is no whole run record", path.display()))
    }
}

fn cpu_model() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|l| l.strip_prefix("model name")?.split_once(':'));
    model.map_or("unknown".into(), |(_, m)| m.trim().to_owned())
}

/// Writes `run.json`, `metrics.csv`, the plots and the page into a run's folder.
///
/// # Errors
/// What the system says.
pub fn write(out: &Path, record: &RunRecord, results: &Results, plots: &[Plot]) -> Result<()> {
    let mut record = record.clone();
    for plot in plots {
        let file = format!("{}.svg", plot.name);
        write_atomically(&out.join(&file), plot.svg()?.as_bytes())?;
        record.plots.push((file, plot.caption.clone()));
    }
    let mut csv = csv::Writer::from_writer(vec![]);
    csv.write_record(["arm", "seed", "step", "metric", "value"])?;
    for (cell, r) in results.iter() {
        for m in &r.metrics {
            csv.write_record([
                &cell.arm,
                &cell.seed.to_string(),
                &m.step.to_string(),
                &m.metric,
                &m.value.to_string(),
            ])?;
        }
    }
    write_atomically(&out.join("metrics.csv"), &csv.into_inner()?)?;
    write_atomically(&out.join("run.json"), &json(&record)?)?;
    let page = crate::report::page(&record, out)?;
    write_atomically(&out.join("index.html"), page.as_bytes())?;
    Ok(())
}

fn json(record: &RunRecord) -> Result<Vec<u8>> {
    let mut json = serde_json::to_vec_pretty(record)?;
    json.push(b'\n');
    Ok(json)
}

/// Copies a run's record (not its cells) to the folder of recorded results.
///
/// # Errors
/// What the system says.
pub fn publish(out: &Path, record: &RunRecord, to: &Path) -> Result<()> {
    let read = RunRecord::read(&out.join("run.json"))?;
    if let (Ok(run), Ok(target)) = (out.canonicalize(), to.canonicalize())
        && (run.starts_with(&target) || target.starts_with(&run))
    {
        anyhow::bail!("the run's folder {} is that of recorded results; choose another --out", out.display());
    }
    // Everything is read before anything recorded is replaced.
    let names = read.plots.iter().map(|(f, _)| f.as_str()).chain(["metrics.csv", "run.json"]);
    let files = names.map(|name| {
        let path = out.join(name);
        Ok((name, std::fs::read(&path).with_context(|| path.display().to_string())?))
    });
    let files = files.collect::<Result<Vec<_>>>()?;
    for (name, bytes) in &files {
        write_atomically(&to.join(name), bytes)?;
    }
    // Plots of an earlier version that are no longer made must not stay behind.
    for entry in std::fs::read_dir(to).with_context(|| to.display().to_string())? {
        let entry = entry?;
        let path = entry.path();
        if path.extension().is_some_and(|e| e == "svg") && !files.iter().any(|(name, _)| entry.file_name() == *name) {
            std::fs::remove_file(&path).with_context(|| path.display().to_string())?;
        }
    }
    debug_assert_eq!(read.paper, record.paper);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
        let entries = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
        entries.map(|p| (p.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(&p).unwrap())).collect()
    }

    #[test]
    fn publishing_replaces_a_record_as_a_whole_or_not_at_all() {
        let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("results/teacher-guidance");
        let folder = tempfile::tempdir().unwrap();
        let (run, to) = (folder.path().join("run"), folder.path().join("results"));
        for place in [&run, &to] {
            std::fs::create_dir(place).unwrap();
        }
        for (name, bytes) in files(&recorded) {
            std::fs::write(run.join(name), bytes).unwrap();
        }
        let record = RunRecord::read(&run.join("run.json")).unwrap();
        std::fs::write(to.join("old.svg"), "a plot of an earlier version").unwrap();

        let (metrics, moved) = (run.join("metrics.csv"), folder.path().join("metrics.csv"));
        std::fs::rename(&metrics, &moved).unwrap();
        let e = publish(&run, &record, &to).unwrap_err();
        assert!(format!("{e:#}").contains("metrics.csv"), "{e:#}");
        assert!(files(&to).keys().eq(["old.svg"]), "something was replaced");

        std::fs::rename(&moved, &metrics).unwrap();
        publish(&run, &record, &to).unwrap();
        assert_eq!(files(&to), files(&recorded));

        for out in [&to, &to.join("."), &folder.path().to_owned()] {
            std::fs::copy(to.join("run.json"), folder.path().join("run.json")).unwrap();
            let e = publish(out, &record, &to).unwrap_err();
            assert!(e.to_string().contains("choose another --out"), "{e}");
        }
        assert_eq!(files(&to), files(&recorded));
    }
}
