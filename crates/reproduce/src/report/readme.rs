//! The README's table of papers.

use super::recorded;
use crate::catalog::{PAPERS, summary};
use anyhow::{Context as _, Result, bail};
use autodidact_benches::record::replace_between;
use autodidact_core::train::write_atomically;
use std::fmt::Write as _;
use std::path::Path;

const START: &str = "<!-- papers: made by `cargo xtask report` -->";
const END: &str = "<!-- /papers -->";

fn table(results: &Path) -> Result<String> {
    let recorded = recorded(results)?;
    let mut out = String::from("| area | paper | claims | run |\n|---|---|---|---|\n");
    for p in PAPERS {
        let (verdict, run) = match recorded.iter().find(|(_, r)| r.paper == p.slug) {
            None => ("no recorded result".to_owned(), String::new()),
            Some((_, r)) => (
                format!("[{}](crates/reproduce/results/{}/run.json)", summary(&r.counts()), p.slug),
                format!(
                    "{}, {}, {} seeds, {:.0} min",
                    r.scale,
                    r.dataset,
                    r.seeds.len(),
                    (r.wall_seconds / 60.0).ceil()
                ),
            ),
        };
        writeln!(
            out,
            "| {} | `{}`: {} ([{}](https://arxiv.org/abs/{})) | {verdict} | {run} |",
            p.area, p.slug, p.title, p.arxiv, p.arxiv
        )?;
    }
    Ok(out)
}

fn updated(readme: &Path, results: &Path) -> Result<(String, String)> {
    let text = std::fs::read_to_string(readme).with_context(|| readme.display().to_string())?;
    let Some(new) = replace_between(&text, [START, END], &table(results)?) else {
        bail!("{} lacks the lines {START} and {END}", readme.display())
    };
    Ok((text, new))
}

/// Writes the table of recorded results into the README, between its marks.
///
/// # Errors
/// A README without the marks, a damaged record, or what the system says.
pub fn update_readme(readme: &Path, results: &Path) -> Result<()> {
    let (old, new) = updated(readme, results)?;
    if old != new {
        write_atomically(readme, new.as_bytes())?;
    }
    Ok(())
}

/// Whether the README's table is that of the recorded results.
///
/// # Errors
/// When it is not.
pub fn check_readme(readme: &Path, results: &Path) -> Result<()> {
    let (old, new) = updated(readme, results)?;
    if old != new {
        bail!(
            "the table of papers in {} is not that of the recorded results; run `cargo xtask report`",
            readme.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_table_is_found_and_mended() {
        let folder = tempfile::tempdir().unwrap();
        let readme = folder.path().join("README.md");
        std::fs::write(&readme, format!("# x\n{START}\nold\n{END}\nrest\n")).unwrap();
        assert!(check_readme(&readme, folder.path()).is_err());
        update_readme(&readme, folder.path()).unwrap();
        check_readme(&readme, folder.path()).unwrap();
        let text = std::fs::read_to_string(&readme).unwrap();
        assert!(text.contains("`barlow-twins`") && text.ends_with("rest\n"));
        std::fs::write(&readme, "no marks").unwrap();
        assert!(check_readme(&readme, folder.path()).unwrap_err().to_string().contains("lacks the lines"));
    }
}
