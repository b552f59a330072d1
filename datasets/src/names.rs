//! The front door: data sets by name.

use crate::fetch::{self, Source};
use crate::image::{self, ImageSet};
use crate::interactions::{self, Interactions};
use crate::synthetic::{Grammar, MarkovShop};
use crate::text::ParallelText;
use autodidact_core::seed::derive;
use autodidact_core::{Error, Result};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::path::{Path, PathBuf};

/// Names that [`load_images`] knows.
pub const IMAGE_SETS: [&str; 6] = ["digits", "shapes", "mnist", "fashion-mnist", "cifar10", "cifar100"];

/// Names that [`load_text`] knows.
pub const TEXTS: [&str; 2] = ["grammar", "tinyshakespeare"];

/// Names that [`load_parallel`] knows.
pub const PARALLEL_TEXTS: [&str; 1] = ["multi30k"];

/// Names that [`load_interactions`] knows.
pub const INTERACTION_SETS: [&str; 4] = ["markov", "ml-100k", "ml-1m", "amazon-beauty"];

/// Names of folders of [`Question`](crate::questions::Question)s: `tofu`, with the publisher's files `forget01.json`, `retain99.json`,
/// `world_facts_perturbed.json` and so on; not downloaded.
pub const QUESTION_SETS: [&str; 1] = ["tofu"];

/// Loads a labelled image set: training and test part.
///
/// | name | images | where from |
/// |---|---|---|
/// | `digits` | 1,000 + 797 of `[1, 8, 8]`, class-balanced | shipped |
/// | `shapes` | 20,000 + 4,000 of `[3, 32, 32]` | generated |
/// | `mnist` | 60,000 + 10,000 of `[1, 28, 28]` | `mnist/` |
/// | `fashion-mnist` | 60,000 + 10,000 of `[1, 28, 28]` | `fashion-mnist/` or `FashionMNIST/raw/`; not downloaded |
/// | `cifar10` | up to 50,000 + 10,000 of `[3, 32, 32]` | `cifar-10-batches-bin/` or `cifar-10-binary.tar.gz` |
/// | `cifar100` | 50,000 + 10,000 of `[3, 32, 32]` | `cifar-100-binary/` or `cifar-100-binary.tar.gz` |
///
/// Files are looked for below `data_dir`, else below `$AUTODIDACT_DATA`, else in the user's cache folder. A set that is
/// not there is downloaded to that place if `download` says so, else the error says what to do. Case, `-` and `_` in
/// the name do not matter.
pub fn load_images(name: &str, data_dir: Option<&Path>, download: bool) -> Result<(ImageSet, ImageSet)> {
    let place = |source| find(source, data_dir, download, &mut |_, _| {});
    match canonical(name, &IMAGE_SETS)? {
        "digits" => image::digits().split(1000, 0),
        "shapes" => Ok((image::shapes(0, 0..20_000), image::shapes(derive(0, &["test"]), 0..4_000))),
        name @ ("mnist" | "fashion-mnist") => image::mnist(&place(name)?),
        "cifar10" => image::cifar10(&place("cifar10")?).map(|c| (c.train, c.test)),
        _ => image::cifar100(&place("cifar100")?).map(|c| (c.train, c.test)),
    }
}

/// Loads a text: `grammar` (1 MB from the default [`Grammar`], generated) or `tinyshakespeare` (1.1 MB, looked for as
/// in [`load_images`]).
pub fn load_text(name: &str, data_dir: Option<&Path>, download: bool) -> Result<String> {
    match canonical(name, &TEXTS)? {
        "grammar" => Grammar::default().text(1_000_000, 0),
        name => crate::text::read_text(&find(name, data_dir, download, &mut |_, _| {})?),
    }
}

/// Loads sentences of English with their translations into German: `multi30k` (29,000 + 1,014 + 1,000 captions, looked for as in
/// [`load_images`] below `multi30k/`; not downloaded).
///
/// # Errors
/// An unknown name, files that are missing or break their format.
pub fn load_parallel(name: &str, data_dir: Option<&Path>) -> Result<ParallelText> {
    let name = canonical(name, &PARALLEL_TEXTS)?;
    crate::text::multi30k(&find(name, data_dir, false, &mut |_, _| {})?)
}

/// Loads interactions of users with items, without the users and items of fewer than five (but for the generated ones).
///
/// | name | what | where from |
/// |---|---|---|
/// | `markov` | 2,000 users, 300 items | generated, the default [`MarkovShop`] |
/// | `ml-100k` | MovieLens 100K | `ml-100k/`, unpacked from the publisher's archive |
/// | `ml-1m` | MovieLens 1M | `ml-1m/`, the same |
/// | `amazon-beauty` | reviews of beauty products, 2014 | `ratings_Beauty.csv` or `amazon-beauty/ratings_Beauty.csv` |
///
/// They are looked for as in [`load_images`]; none is downloaded.
///
/// # Errors
/// An unknown name, files that are missing or break their format.
pub fn load_interactions(name: &str, data_dir: Option<&Path>, download: bool) -> Result<Interactions> {
    let place = |name| find(name, data_dir, download, &mut |_, _| {});
    let all = match canonical(name, &INTERACTION_SETS)? {
        "markov" => return Ok(MarkovShop::default().generate(0)?.interactions),
        "ml-100k" => interactions::movielens_100k(&place("ml-100k")?)?,
        "ml-1m" => interactions::movielens_1m(&place("ml-1m")?)?,
        _ => interactions::amazon(&place("amazon-beauty")?)?,
    };
    Ok(all.core(5))
}

/// Where the files of the data set `name` lie, below `data_dir` or its defaults (see [`load_images`]); they are
/// downloaded first if they are missing and `download` says so, with calls of `progress`.
pub fn find(name: &str, data_dir: Option<&Path>, download: bool, progress: fetch::Progress) -> Result<PathBuf> {
    let source = fetch::source(canonical(name, &fetch::SOURCES.map(|s| s.name))?)?;
    let folder = match data_dir {
        Some(folder) => folder.to_owned(),
        None => default_data_dir()?,
    };
    match fetch::locate(&folder, source) {
        Some(path) => Ok(path),
        None if download && !source.files.is_empty() => fetch::download(&folder, source, progress),
        None => Err(missing(&folder, source)),
    }
}

/// Identifies the content of a data set: `built in` for those that are shipped or generated (among them `scenes`, of
/// [`scenes`](image::scenes), and `garland`, `registers`, `hidden-markov`, `stroke-glyphs`, `translation-world` and `fictitious-authors`, of [`synthetic`](crate::synthetic)), else the SHA-256 (64 hexadecimal
/// digits) of the list of its files' digests and names; the files are looked for as in [`load_images`].
///
/// # Errors
/// An unknown name, files that are missing or cannot be read.
pub fn fingerprint(name: &str, data_dir: Option<&Path>, download: bool) -> Result<String> {
    const GENERATED: [&str; 7] =
        ["scenes", "garland", "registers", "hidden-markov", "translation-world", "stroke-glyphs", "fictitious-authors"];
    let known = [&IMAGE_SETS[..], &TEXTS, &PARALLEL_TEXTS, &INTERACTION_SETS, &QUESTION_SETS, &GENERATED].concat();
    let canonical = canonical(name, &known)?;
    if GENERATED.contains(&canonical) || ["digits", "shapes", "grammar", "markov"].contains(&canonical) {
        return Ok("built in".into());
    }
    let place = find(name, data_dir, download, &mut |_, _| {})?;
    let mut files = vec![];
    if place.is_dir() {
        for entry in std::fs::read_dir(&place).map_err(|e| Error::io(&place, e))? {
            let path = entry.map_err(|e| Error::io(&place, e))?.path();
            if path.is_file() {
                files.push(path);
            }
        }
        files.sort();
    } else {
        files.push(place);
    }
    // As `sha256sum` lists them.
    let mut list = String::new();
    for path in files {
        let digest = File::open(&path).and_then(|mut f| fetch::digest(&mut f)).map_err(|e| Error::io(&path, e))?;
        list += &format!("{digest}  {}\n", path.file_name().unwrap_or_default().to_string_lossy());
    }
    Ok(fetch::hex(&Sha256::digest(list)))
}

/// `$AUTODIDACT_DATA`, else `autodidact/data` in the user's cache folder.
pub fn default_data_dir() -> Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    variable("AUTODIDACT_DATA")
        .or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join("autodidact/data")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/autodidact/data")))
        .ok_or_else(|| Error::Failed("no data directory: set AUTODIDACT_DATA or pass one".into()))
}

fn missing(folder: &Path, source: &Source) -> Error {
    let mut places: Vec<&str> = source.places.iter().map(|(place, _)| *place).collect();
    places.dedup();
    let expected = format!("the data set {} as {}", source.name, places.join(" or "));
    let advice = match source.files {
        [] => "neither; put it there, or name another data directory",
        _ => "neither; put it there, name another data directory, or allow the download",
    };
    Error::format(folder, expected, advice)
}

/// The known name that `name` means.
fn canonical<'a>(name: &str, known: &[&'a str]) -> Result<&'a str> {
    let plain = |s: &str| s.to_lowercase().replace(['-', '_', ' '], "");
    known.iter().find(|k| plain(k) == plain(name)).copied().ok_or_else(|| unknown(name, known))
}

/// The error for a name that is not `known`, with the closest of them.
pub(crate) fn unknown(name: &str, known: &[&str]) -> Error {
    let closest = known
        .iter()
        .map(|k| (strsim::jaro_winkler(k, &name.to_lowercase()), k))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(similarity, _)| *similarity > 0.7);
    let hint = closest.map(|(_, k)| format!("; did you mean {k}?")).unwrap_or_default();
    Error::value("data set", format!("one of {}", known.join(", ")), format!("{name}{hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_forgiving_and_misspellings_get_a_suggestion() {
        assert_eq!(canonical("CIFAR-10", &IMAGE_SETS).unwrap(), "cifar10");
        assert_eq!(canonical("tiny-shakespeare", &TEXTS).unwrap(), "tinyshakespeare");
        let e = load_images("cifer10", None, false).unwrap_err().to_string();
        assert_eq!(
            e,
            "data set: expected one of digits, shapes, mnist, fashion-mnist, cifar10, cifar100, got cifer10; did you mean cifar10?"
        );
        assert!(!load_text("xyz", None, false).unwrap_err().to_string().contains("did you mean"));
    }

    #[test]
    fn a_fingerprint_changes_with_the_content_and_not_with_the_place() {
        let put = |content: &str| {
            let folder = tempfile::tempdir().unwrap();
            std::fs::create_dir(folder.path().join("tinyshakespeare")).unwrap();
            std::fs::write(folder.path().join("tinyshakespeare/input.txt"), content).unwrap();
            fingerprint("tinyshakespeare", Some(folder.path()), false).unwrap()
        };
        assert_eq!(put("to be"), put("to be"));
        assert_ne!(put("to be"), put("not to be"));
        assert_eq!(put("").len(), 64);
        assert_eq!(fingerprint("Digits", None, false).unwrap(), "built in");
        let empty = tempfile::tempdir().unwrap();
        assert!(fingerprint("mnist", Some(empty.path()), false).unwrap_err().to_string().contains("put it there"));
    }

    #[test]
    fn shipped_and_generated_sets_need_no_files() {
        let (train, test) = load_images("digits", None, false).unwrap();
        assert_eq!((train.len(), test.len()), (1000, 797));
        assert_eq!(load_text("grammar", None, false).unwrap().len(), 1_000_000);
    }

    #[test]
    fn an_absent_set_says_where_it_was_looked_for() {
        let folder = tempfile::tempdir().unwrap();
        let e = load_images("mnist", Some(folder.path()), false).unwrap_err().to_string();
        assert!(e.starts_with(&folder.path().display().to_string()), "{e}");
        assert!(e.contains("expected the data set mnist as mnist or MNIST/raw, found neither"), "{e}");
    }
}
