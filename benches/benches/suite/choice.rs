//! Which entries run.

use anyhow::{Result, bail};

/// The entries whose name contains one of the filters; all where there is none. A filter that fits nothing is an error.
pub fn choose<T>(all: Vec<T>, name: fn(&T) -> &str, filters: &[String]) -> Result<Vec<T>> {
    for filter in filters {
        if !all.iter().any(|e| name(e).contains(filter.as_str())) {
            let near = near(filter, all.iter().map(name));
            let hint = if near.is_empty() { String::new() } else { format!(" (near: {})", near.join(", ")) };
            bail!("no benchmark's name contains {filter}{hint}; --list shows all");
        }
    }
    let wanted = |e: &T| filters.is_empty() || filters.iter().any(|f| name(e).contains(f.as_str()));
    Ok(all.into_iter().filter(wanted).collect())
}

/// Up to three names of which a part resembles the filter, the nearest first.
fn near<'a>(filter: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let parts = |name: &'a str| name.split('/').chain([name]);
    let score = |name: &'a str| parts(name).map(|p| strsim::jaro_winkler(p, filter)).fold(0.0, f64::max);
    let mut scored: Vec<(f64, &str)> = names.map(|n| (score(n), n)).filter(|s| s.0 > 0.75).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    scored.into_iter().take(3).map(|s| s.1).collect()
}
