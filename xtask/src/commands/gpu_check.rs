//! `cargo xtask gpu-check`: every paper on a GPU, real or pretended, beside the CPU.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use comfy_table::{Table, presets};
use serde::Deserialize;

use super::reproduce;
use crate::catalog::PAPERS;
use crate::setup;
use crate::workspace::{self, Workspace};

/// Steps whose losses are compared: later ones differ by how training amplifies rounding.
const STEPS: f64 = 20.0;
/// Relative difference that rounding explains.
const CLOSE: f64 = 1e-3;
/// Relative difference that it does not: batch statistics of the few samples of smoke runs amplify, but not so far.
const TOO_FAR: f64 = 2e-2;

/// Which papers are checked.
#[derive(clap::Args)]
pub struct Options {
    /// Only these papers
    #[arg(value_name = "PAPER")]
    papers: Vec<String>,
}

/// Sets up, builds, and checks.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    if let Some(unknown) = options.papers.iter().find(|name| PAPERS.iter().all(|p| p.slug != name.as_str())) {
        bail!("there is no paper {unknown}\n  cargo xtask reproduce --list shows all");
    }
    setup::ensure(workspace, setup::Request::default())?;
    let program = reproduce::build(workspace)?;
    check(workspace, &program, &options.papers, None)
}

/// Runs papers (none named: all) at smoke scale on the GPU and compares their losses with those of `reference`, a folder of the same
/// runs on the CPU, made here if there is none. Runs core's own GPU test first.
pub fn check(workspace: &Workspace, program: &Path, papers: &[String], reference: Option<&Path>) -> Result<()> {
    let gpu = Gpu::find(workspace)?;
    eprintln!("{}", gpu.describe());
    let mut test = workspace.cargo();
    test.args(["test", "--release", "--package", "autodidact-core", "--test", "gpu"]);
    workspace::run(gpu.visible_to(&mut test, workspace))?;

    let out = workspace.target()?.join("gpu-check");
    if out.exists() {
        fs::remove_dir_all(&out).with_context(|| format!("removing {}", out.display()))?;
    }
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["paper", "kernels", "waits", "losses compared", "beyond 0.1 %", "largest difference"]);
    let chosen = PAPERS.iter().map(|p| p.slug).filter(|slug| papers.is_empty() || papers.iter().any(|p| p == slug));
    let mut far = vec![];
    for slug in chosen {
        eprintln!("{slug}");
        let (on_gpu, counts) = (out.join("gpu").join(slug), out.join(format!("{slug}.json")));
        let mut run = smoke(workspace, program, slug, "cuda", &on_gpu);
        // What the cells of a paper share is computed on the GPU too, and a pretended one's is not left for a real one to find.
        run.env("AUTODIDACT_CACHE", out.join("cache")).env("AUTODIDACT_PRETEND_GPU_COUNTS", &counts);
        workspace::run(gpu.visible_to(&mut run, workspace))?;
        let on_cpu = match reference {
            Some(folder) => folder.join(slug),
            None => {
                let folder = out.join("cpu").join(slug);
                workspace::run(&mut smoke(workspace, program, slug, "cpu", &folder))?;
                folder
            }
        };
        let difference = Difference::between(&losses(&on_cpu)?, &losses(&on_gpu)?);
        let counted = |kind| Counts::read(&counts).map_or("–".into(), |c| c.all(kind).to_string());
        table.add_row([
            slug.to_owned(),
            counted("kernels"),
            counted("waits"),
            difference.compared.to_string(),
            difference.beyond.to_string(),
            format!("{:.1e}", difference.largest),
        ]);
        if difference.largest > TOO_FAR {
            far.push(format!("{slug} ({}: {:.3} %)", difference.at, 100.0 * difference.largest));
        }
    }
    eprintln!("{table}");
    fs::remove_dir_all(&out).ok();
    if far.is_empty() {
        return Ok(());
    }
    bail!("losses of the first {STEPS} steps differ between CPU and GPU by more than {TOO_FAR}: {}", far.join("; "))
}

fn smoke(workspace: &Workspace, program: &Path, slug: &str, device: &str, out: &Path) -> Command {
    let mut command = workspace.program(program);
    // What a paper prints is of interest where it fails, and then it goes to standard error.
    command.current_dir(workspace.root()).stdout(Stdio::null());
    command.args([slug, "--scale", "smoke", "--quiet", "--threads", "1", "--device", device, "--out"]).arg(out);
    command
}

/// What `--device cuda` will find.
enum Gpu {
    Real,
    /// The folder of the stand-in for `libtorch_cuda.so`.
    Pretended(PathBuf),
}

impl Gpu {
    fn find(workspace: &Workspace) -> Result<Self> {
        if setup::has_nvidia_driver() && workspace.libtorch().join("lib/libtorch_cuda.so").exists() {
            return Ok(Self::Real);
        }
        Ok(Self::Pretended(pretend(workspace)?))
    }

    fn describe(&self) -> &'static str {
        match self {
            Self::Real => "on the GPU of this machine",
            Self::Pretended(_) => {
                "no GPU here: on a pretended one (xtask/pretend-gpu), which computes on the CPU but keeps devices apart"
            }
        }
    }

    fn visible_to<'a>(&self, command: &'a mut Command, workspace: &Workspace) -> &'a mut Command {
        match self {
            Self::Real => command,
            Self::Pretended(folder) => command.env(workspace::LIBRARY_PATH, workspace.search_path(Some(folder))),
        }
    }
}

/// Compiles the stand-in, if its source or libtorch is newer than it.
fn pretend(workspace: &Workspace) -> Result<PathBuf> {
    let source = workspace.root().join("xtask/pretend-gpu/pretend_gpu.cpp");
    let folder = workspace.target()?.join("pretend-gpu");
    let library = folder.join("libtorch_cuda.so");
    let torch = workspace.libtorch();
    let modified = |path: &Path| path.metadata().and_then(|m| m.modified());
    if let Ok(made) = modified(&library)
        && modified(&source).with_context(|| source.display().to_string())? < made
        && modified(&torch.join("build-version")).is_ok_and(|t| t < made)
    {
        return Ok(folder);
    }
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let include = torch.join("include");
    let mut compiler = setup::compiler::command();
    compiler
        .args(["-std=c++17", "-O1", "-w", "-shared", "-fPIC", "-D_GLIBCXX_USE_CXX11_ABI=1"])
        .arg("-I")
        .arg(&include)
        .arg("-I")
        .arg(include.join("torch/csrc/api/include"))
        .arg(&source)
        .arg("-L")
        .arg(torch.join("lib"))
        .args(["-ltorch_cpu", "-lc10", "-o"])
        .arg(&library);
    workspace::run(&mut compiler)?;
    Ok(folder)
}

/// What the stand-in counted, by operation.
#[derive(Deserialize)]
struct Counts(BTreeMap<String, BTreeMap<String, u64>>);

impl Counts {
    /// Nothing where the GPU was a real one.
    fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    fn all(&self, kind: &str) -> u64 {
        self.0.get(kind).and_then(|by_operation| by_operation.get("all")).copied().unwrap_or(0)
    }
}

/// One line of `metrics.csv`.
#[derive(Deserialize)]
struct Logged {
    arm: String,
    seed: u64,
    step: f64,
    metric: String,
    /// Empty where it is not a number.
    value: Option<f64>,
}

/// Losses of the first steps of a run, by arm, seed, step and metric.
fn losses(run: &Path) -> Result<BTreeMap<String, f64>> {
    let path = run.join("metrics.csv");
    let mut file = csv::Reader::from_path(&path).with_context(|| format!("reading {}", path.display()))?;
    let mut all = BTreeMap::new();
    for line in file.deserialize() {
        let Logged { arm, seed, step, metric, value } = line.with_context(|| format!("reading {}", path.display()))?;
        if step <= STEPS && metric.contains("loss") {
            all.insert(format!("{arm}, seed {seed}, step {step}, {metric}"), value.unwrap_or(f64::NAN));
        }
    }
    Ok(all)
}

/// How far two runs of one experiment are apart.
#[derive(Debug, Default, PartialEq)]
struct Difference {
    compared: usize,
    beyond: usize,
    largest: f64,
    at: String,
}

impl Difference {
    fn between(a: &BTreeMap<String, f64>, b: &BTreeMap<String, f64>) -> Self {
        let mut difference = Self::default();
        for (name, x) in a {
            let relative = match b.get(name) {
                // A loss near zero is known to an absolute precision only.
                Some(y) if x.is_finite() && y.is_finite() => (x - y).abs() / x.abs().max(0.01),
                Some(y) if x.is_finite() == y.is_finite() => 0.0,
                Some(_) => f64::INFINITY,
                // What cells share is logged by the one that computes it, and by none that finds it in a cache.
                None => continue,
            };
            difference.compared += 1;
            difference.beyond += usize::from(relative > CLOSE);
            if relative > difference.largest {
                (difference.largest, difference.at) = (relative, name.clone());
            }
        }
        difference
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(folder: &Path, lines: &str) -> BTreeMap<String, f64> {
        fs::write(folder.join("metrics.csv"), format!("arm,seed,step,metric,value\n{lines}")).unwrap();
        losses(folder).unwrap()
    }

    #[test]
    fn early_losses_are_compared_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let a = run(folder.path(), "x,0,1,loss,2\nx,0,2,loss,1\nx,0,1,\"accuracy, %\",50\nx,0,21,test loss,9\n");
        let b = run(folder.path(), "x,0,1,loss,2.001\nx,0,2,loss,1.01\nx,0,1,\"accuracy, %\",10\nx,0,21,test loss,1\n");
        let difference = Difference::between(&a, &b);
        assert_eq!((difference.compared, difference.beyond), (2, 1));
        assert!((difference.largest - 0.01).abs() < 1e-12 && difference.at == "x, seed 0, step 2, loss");
        let b = run(folder.path(), "x,0,1,loss,2\nx,0,2,loss,NaN\n");
        assert_eq!(Difference::between(&a, &b).largest, f64::INFINITY);
    }

    #[test]
    fn counts_are_those_of_the_stand_in() {
        let counts: Counts =
            serde_json::from_str(r#"{"kernels": {"all": 3, "aten::mm": 3}, "waits": {"all": 1}}"#).unwrap();
        assert_eq!((counts.all("kernels"), counts.all("waits"), counts.all("uploads")), (3, 1, 0));
    }

    #[test]
    fn library_code_makes_tensors_where_its_inputs_are() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut folders = vec![root.join("crates"), root.join("datasets/src")];
        let mut against = vec![];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                // Experiments make their data on the host; tests and examples are written for a device that is known.
                if path.is_dir() && !["reproduce", "tests", "examples"].contains(&name.as_str()) {
                    folders.push(path);
                } else if name.ends_with(".rs") && name != "tests.rs" {
                    let text = fs::read_to_string(&path).unwrap();
                    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
                    let lines = code.lines().enumerate().filter(|(_, l)| !l.trim_start().starts_with("//"));
                    let found = lines.filter(|(_, l)| l.contains("Kind::") && l.contains("Device::Cpu)"));
                    against.extend(found.map(|(i, line)| format!("{}:{}: {}", path.display(), i + 1, line.trim())));
                }
            }
        }
        let against: Vec<_> = against.into_iter().filter(|line| !line.contains("to_device(")).collect();
        assert!(against.is_empty(), "use the device of an input, or device::on_host:\n{}", against.join("\n"));
    }
}
