//! Plain paths as a source.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use colvault_engine::backup::Group;
use colvault_engine::error::{Error, Result};
use colvault_engine::source::SourceTree;

use super::Source;

/// Makes a source of paths that exist: one component with `/` as its base.
///
/// A path that is a symbolic link stands for the link; links on the way to it are followed. Of
/// paths one of which contains the other, the outer one stays. Fails with `NotFound` and the like
/// for the first path that cannot be reached.
pub fn plain_paths(asked: &[PathBuf]) -> Result<Source> {
    let mut paths = Vec::new();
    for path in asked {
        let absolute = canonical_but_last(path)?;
        fs::symlink_metadata(&absolute).map_err(|error| Error::io(path, "examine", error))?;
        paths.push(absolute);
    }
    let paths = outermost(paths);
    let relative = |path: &PathBuf| path.strip_prefix("/").unwrap_or(path).to_owned();
    let tree = SourceTree {
        component: "files".to_owned(),
        base: "/".into(),
        recorded: "/".into(),
        select: paths.iter().map(relative).collect(),
        leave_out: Vec::new(),
    };
    Ok(Source {
        trees: vec![tree],
        group: Group::Paths,
        paths,
        left_out: Vec::new(),
        credentials: Vec::new(),
        facts: BTreeMap::new(),
        evidence: BTreeMap::new(),
        findings: Vec::new(),
        notes: Vec::new(),
        daemons: None,
        record: None,
        record_table_of: BTreeMap::new(),
        deployment: None,
        obstacles: Vec::new(),
    })
}

/// Makes a path absolute and follows every link but one at its end.
fn canonical_but_last(path: &Path) -> Result<PathBuf> {
    let failed = |error: io::Error| Error::io(path, "examine", error);
    let absolute = std::path::absolute(path).map_err(failed)?;
    match (absolute.parent(), absolute.file_name()) {
        (Some(parent), Some(name)) => Ok(fs::canonicalize(parent).map_err(failed)?.join(name)),
        // The root, or a path that ends in `..`.
        _ => fs::canonicalize(&absolute).map_err(failed),
    }
}

/// Sorts paths and drops those inside another.
fn outermost(mut paths: Vec<PathBuf>) -> Vec<PathBuf> {
    paths.sort();
    let mut kept: Vec<PathBuf> = Vec::new();
    for path in paths {
        // By parts, an outer path comes right before what it contains.
        if !kept.last().is_some_and(|outer| path.starts_with(outer)) {
            kept.push(path);
        }
    }
    kept
}

/// Follows the links of as much of a path as exists.
pub fn real_path(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let existing = absolute.ancestors().find_map(|above| {
        let rest = absolute.strip_prefix(above).ok()?;
        // Joining nothing would end the path with a slash.
        let real = above.canonicalize().ok()?;
        Some(if rest.as_os_str().is_empty() { real } else { real.join(rest) })
    });
    existing.unwrap_or(absolute)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn inner_paths_collapse_and_names_that_only_begin_alike_do_not() {
        let paths = ["/b", "/a.x", "/a/c/d", "/a", "/a/b", "/b"].map(PathBuf::from).to_vec();
        let expected = ["/a", "/a.x", "/b"].map(PathBuf::from);
        assert_eq!(outermost(paths), expected);
        assert_eq!(outermost(vec!["/".into(), "/x".into()]), [PathBuf::from("/")]);
    }

    #[test]
    fn a_link_at_the_end_stays_and_one_on_the_way_is_followed() {
        let directory = tempfile::tempdir().unwrap();
        let top = directory.path().canonicalize().unwrap();
        fs::create_dir_all(top.join("real/deep")).unwrap();
        symlink("real", top.join("link")).unwrap();
        for (asked, expected) in [
            ("link", "link"),
            ("link/deep", "real/deep"),
            ("link/deep/..", "real"),
            ("./real/./deep", "real/deep"),
        ] {
            assert_eq!(
                canonical_but_last(&top.join(asked)).unwrap(),
                top.join(expected),
                "{asked}"
            );
        }
        assert!(plain_paths(&[top.join("absent")]).is_err());
        let source = plain_paths(&[top.join("link")]).unwrap();
        assert_eq!(source.trees[0].select, [top.join("link").strip_prefix("/").unwrap()]);
        assert_eq!(real_path(&top.join("link/new/file")), top.join("real/new/file"));
    }
}
