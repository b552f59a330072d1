//! `.libtorch`, the link at the workspace root by which every cargo command finds libtorch.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// What is at the link's place.
#[derive(Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing, or a link to nowhere.
    Absent,
    /// A link, and the folder it leads to.
    Linked(PathBuf),
    /// A folder or file of the user's.
    Foreign,
}

/// Looks at `link`.
pub fn state(link: &Path) -> State {
    match fs::symlink_metadata(link) {
        Err(_) => State::Absent,
        Ok(meta) if !meta.is_symlink() => State::Foreign,
        Ok(_) => fs::canonicalize(link).map_or(State::Absent, State::Linked),
    }
}

/// Makes `link` lead to `target`, in one step for whoever looks at the same time.
pub fn set(link: &Path, target: &Path) -> Result<()> {
    match state(link) {
        State::Foreign => bail!(
            "{} is in the way: set-up wants to put a link to {} there\n  move it away, and run the command again",
            link.display(),
            target.display()
        ),
        State::Linked(now) if Some(&now) == fs::canonicalize(target).ok().as_ref() => return Ok(()),
        _ => {}
    }
    let fresh = link.with_extension(format!("{}", std::process::id()));
    let _ = fs::remove_file(&fresh);
    symlink(target, &fresh)
        .and_then(|()| fs::rename(&fresh, link))
        .with_context(|| format!("linking {} to {}", link.display(), target.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_made_replaced_and_mended() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let link = root.join(".libtorch");
        for target in ["one", "two"].map(|name| root.join(name)) {
            fs::create_dir(&target).unwrap();
            set(&link, &target).unwrap();
            set(&link, &target).unwrap();
            assert_eq!(state(&link), State::Linked(target.clone()));
        }
        fs::remove_dir(root.join("two")).unwrap();
        assert_eq!(state(&link), State::Absent, "a link to nowhere counts as none");
        set(&link, &root.join("one")).unwrap();
        assert_eq!(state(&link), State::Linked(root.join("one")));
        assert_eq!(fs::read_dir(&root).unwrap().count(), 2, "no temporary link stays");
    }

    #[test]
    fn what_is_not_a_link_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join(".libtorch");
        fs::create_dir(&link).unwrap();
        assert_eq!(state(&link), State::Foreign);
        assert!(set(&link, dir.path()).unwrap_err().to_string().contains("move it away"));
        assert!(link.is_dir());
    }
}
