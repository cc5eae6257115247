//! Keeps a backup from taking in its own repository or cache.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use colvault_engine::error::ErrorKind;
use colvault_engine::pattern::Patterns;
use colvault_engine::source::SourceTree;

use super::real_path;
use crate::exit::Failure;
use crate::settings::CacheDirectory;

/// Fails with `Refused` when the repository or the cache lies in what is to be backed up, unless
/// the user excludes it, or when what is to be backed up lies in the repository. One in a bucket has no
/// directory.
pub fn refuse_own_directories(
    trees: &[SourceTree],
    exclude: &Patterns,
    repository: Option<&Path>,
    cache: Option<&CacheDirectory>,
) -> Result<(), Failure> {
    let repository = repository.map(real_path);
    for taken in trees.iter().flat_map(taken) {
        if let Some(repository) = &repository {
            taken.refuse_repository(repository, exclude)?;
        }
        let Some(cache) = cache else { continue };
        let directory = real_path(&cache.path);
        if taken.holds(&directory, exclude) {
            let what = if cache.is_default { "the default cache" } else { "the cache" };
            let problem = format!("{what} {} lies in it", directory.display());
            return Err(refused(&taken.path, problem)
                .with_hint("put the cache elsewhere with --cache-dir, or --exclude it"));
        }
    }
    Ok(())
}

/// A path that is taken with everything below it.
struct Taken<'a> {
    tree: &'a SourceTree,
    path: PathBuf,
}

impl Taken<'_> {
    fn refuse_repository(&self, repository: &Path, exclude: &Patterns) -> Result<(), Failure> {
        if self.path.starts_with(repository) {
            let problem = format!("it lies in the repository {}", repository.display());
            return Err(refused(&self.path, problem));
        }
        if self.holds(repository, exclude) {
            let problem = format!("the repository {} lies in it", repository.display());
            return Err(refused(&self.path, problem)
                .with_hint("put the repository elsewhere, best on another disk, or --exclude it"));
        }
        Ok(())
    }

    fn holds(&self, place: &Path, exclude: &Patterns) -> bool {
        let below_base =
            place.strip_prefix(&self.tree.base).map(|path| path.as_os_str().as_bytes());
        place.starts_with(&self.path) && !below_base.is_ok_and(|path| exclude.covers(path))
    }
}

fn taken(tree: &SourceTree) -> impl Iterator<Item = Taken<'_>> {
    let path = |selected: &PathBuf| match selected.as_os_str().is_empty() {
        true => tree.base.clone(),
        false => tree.base.join(selected),
    };
    tree.select.iter().map(move |selected| Taken { tree, path: path(selected) })
}

fn refused(path: &Path, problem: String) -> Failure {
    Failure::new(ErrorKind::Refused, path.display().to_string(), problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_directories_are_refused_where_they_would_be_taken() {
        let tree = SourceTree {
            component: "files".into(),
            base: "/".into(),
            recorded: "/".into(),
            select: vec!["nowhere/data".into()],
            leave_out: Vec::new(),
        };
        let hint = |repository: &str, cache: &str, exclude: &[&str]| {
            let cache = CacheDirectory { path: cache.into(), is_default: true };
            let exclude = Patterns::new(exclude.iter().copied()).unwrap();
            refuse_own_directories(
                std::slice::from_ref(&tree),
                &exclude,
                Some(Path::new(repository)).filter(|path| !path.as_os_str().is_empty()),
                Some(&cache),
            )
            .map_err(|failure| failure.hint().unwrap_or_default().to_owned())
        };
        assert_eq!(hint("/nowhere/repository", "/nowhere/cache", &[]), Ok(()));
        assert_eq!(hint("/nowhere/database", "/nowhere/cache", &[]), Ok(()));
        for repository in ["/nowhere/data", "/nowhere/data/r", "/nowhere"] {
            assert!(hint(repository, "/nowhere/cache", &[]).is_err(), "{repository}");
        }
        // A bucket lies nowhere; the cache still does.
        assert_eq!(hint("", "/nowhere/cache", &[]), Ok(()));
        assert!(hint("", "/nowhere/data/cache", &[]).is_err());
        let said = hint("/nowhere/r", "/nowhere/data/cache", &[]).unwrap_err();
        assert!(said.contains("--cache-dir"), "{said}");
        assert_eq!(hint("/nowhere/r", "/nowhere/data/cache", &["/nowhere/data/cache"]), Ok(()));
        assert_eq!(hint("/nowhere/data/x/r", "/c", &["/nowhere/data/x"]), Ok(()));
    }
}
