//! Paths as the deployment names them, and where they are on this host.
//!
//! Invariant: whatever a configuration file or a symbolic link below the root says, the result
//! lies at or below the root.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};

/// As many as Linux follows in one path (`MAXSYMLINKS`).
const LINKS_MAX: usize = 40;

/// Far more than any configuration file has.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// The directory that stands for `/` of a deployment, as given with `--root`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    host: PathBuf,
}

/// Where a path of the deployment leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The path inside the root: absolute, without `.`, `..` and symbolic links.
    pub inside: PathBuf,
    /// The symbolic links met on the way, each as a path inside the root whose parent directories
    /// are no links; in the order met, without repetition.
    pub links: Vec<PathBuf>,
}

impl Root {
    /// Opens the root directory.
    ///
    /// Errors: as the operating system says if it cannot be reached; [`ErrorKind::Invalid`] if it
    /// is not a directory.
    pub fn open(directory: &Path) -> Result<Root> {
        let host = fs::canonicalize(directory)
            .map_err(|error| Error::io(directory, "open the root directory", error))?;
        if !host.is_dir() {
            let object = directory.display().to_string();
            let problem = "expected the root directory of a deployment, found a file";
            return Err(Error::new(ErrorKind::Invalid, object, problem));
        }
        Ok(Root { host })
    }

    /// Returns the root directory on this host, without symbolic links.
    pub fn host(&self) -> &Path {
        &self.host
    }

    /// Returns where on this host the deployment's path `named` is, following every symbolic link
    /// inside the root.
    ///
    /// The end of the path need not exist. Errors: see [`Root::follow`].
    pub fn resolve(&self, named: &Path) -> Result<PathBuf> {
        Ok(self.on_host(&self.follow(named)?.inside))
    }

    /// Follows the deployment's path `named` and tells which symbolic links were met.
    ///
    /// A relative `named` counts from the root. What does not exist cannot be a link: from there
    /// on the path is taken by its letters. Errors: [`ErrorKind::Invalid`] after 40 links, and
    /// what the operating system refuses other than "not found".
    pub fn follow(&self, named: &Path) -> Result<Resolved> {
        let mut inside = PathBuf::from("/");
        let mut links = Vec::new();
        let mut followed = 0;
        let mut steps = Vec::new();
        push_steps(&mut steps, named);
        while let Some(step) = steps.pop() {
            if step == ".." {
                inside.pop();
                continue;
            }
            inside.push(&step);
            let Some(target) = self.link_target(&inside)? else { continue };
            followed += 1;
            if followed > LINKS_MAX {
                let problem = format!("expected at most {LINKS_MAX} symbolic links, found more");
                let object = self.on_host(named).display().to_string();
                return Err(Error::new(ErrorKind::Invalid, object, problem));
            }
            if !links.contains(&inside) {
                links.push(inside.clone());
            }
            inside.pop();
            if target.is_absolute() {
                inside = PathBuf::from("/");
            }
            push_steps(&mut steps, &target);
        }
        Ok(Resolved { inside, links })
    }

    /// Returns the path on this host of a path inside the root, by its letters.
    pub fn on_host(&self, inside: &Path) -> PathBuf {
        let mut host = self.host.clone();
        host.extend(inside.components().filter(|step| matches!(step, Component::Normal(_))));
        host
    }

    /// Returns the deployment's name for a path on this host; `None` if it lies outside the root.
    pub fn recorded(&self, host: &Path) -> Option<PathBuf> {
        let below = host.strip_prefix(&self.host).ok()?;
        Some(Path::new("/").join(below))
    }

    fn link_target(&self, inside: &Path) -> Result<Option<PathBuf>> {
        let host = self.on_host(inside);
        match fs::symlink_metadata(&host) {
            Ok(metadata) if metadata.is_symlink() => fs::read_link(&host)
                .map(Some)
                .map_err(|error| Error::io(&host, "read the symbolic link", error)),
            Ok(_) => Ok(None),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(Error::io(&host, "look at", error)),
        }
    }
}

/// Reads a regular file on this host; `None` if there is none.
///
/// Errors: what the operating system refuses, and [`ErrorKind::Invalid`] for anything that is not
/// a file or is larger than a configuration file can be.
pub(super) fn read_optional(host: &Path) -> Result<Option<Vec<u8>>> {
    let metadata = match fs::metadata(host) {
        Ok(metadata) => metadata,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(Error::io(host, "look at", error)),
    };
    if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
        let found = if metadata.is_file() { "a larger one" } else { "something else" };
        let problem = format!("expected a file of at most {FILE_BYTES_MAX} bytes, found {found}");
        return Err(Error::new(ErrorKind::Invalid, host.display().to_string(), problem));
    }
    fs::read(host).map(Some).map_err(|error| Error::io(host, "read", error))
}

/// Whether the error says that there is nothing of that name.
pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Pushes the steps of `path` so that the first is popped first.
fn push_steps(steps: &mut Vec<OsString>, path: &Path) {
    for step in path.components().rev() {
        match step {
            Component::Normal(name) => steps.push(name.to_owned()),
            Component::ParentDir => steps.push("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn root() -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path()).unwrap();
        (directory, root)
    }

    #[test]
    fn absolute_links_are_followed_inside_the_root() {
        let (_directory, root) = root();
        fs::create_dir_all(root.host().join("mnt/disk1/000.dir")).unwrap();
        fs::create_dir_all(root.host().join("var/lib/columnstore")).unwrap();
        symlink("/mnt/disk1", root.host().join("var/lib/columnstore/data1")).unwrap();
        let named = Path::new("/var/lib/columnstore/data1/000.dir");
        assert_eq!(root.resolve(named).unwrap(), root.host().join("mnt/disk1/000.dir"));
        let links = root.follow(named).unwrap().links;
        assert_eq!(links, [PathBuf::from("/var/lib/columnstore/data1")]);
    }

    #[test]
    fn relative_links_count_from_where_they_are() {
        let (_directory, root) = root();
        fs::create_dir_all(root.host().join("var/lib")).unwrap();
        fs::create_dir_all(root.host().join("var/big")).unwrap();
        symlink("../big", root.host().join("var/lib/columnstore")).unwrap();
        let named = Path::new("/var/lib/columnstore/data1");
        assert_eq!(root.resolve(named).unwrap(), root.host().join("var/big/data1"));
    }

    #[test]
    fn no_path_and_no_link_escapes_the_root() {
        let (_directory, root) = root();
        symlink("../../../../../../../../etc", root.host().join("out")).unwrap();
        for named in ["/../../etc/passwd", "/out/passwd", "../etc/./passwd", "/out/../etc/passwd"] {
            let host = root.resolve(Path::new(named)).unwrap();
            assert_eq!(host, root.host().join("etc/passwd"), "{named}");
        }
        assert_eq!(root.resolve(Path::new("/..")).unwrap(), root.host());
    }

    #[test]
    fn a_loop_of_links_is_an_error() {
        let (_directory, root) = root();
        symlink("/b", root.host().join("a")).unwrap();
        symlink("/a", root.host().join("b")).unwrap();
        let error = root.resolve(Path::new("/a/data1")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("40 symbolic links"), "{error}");
    }

    #[test]
    fn forty_links_are_followed() {
        let (_directory, root) = root();
        for number in 0..LINKS_MAX {
            let target = format!("{}", number + 1);
            symlink(target, root.host().join(number.to_string())).unwrap();
        }
        assert_eq!(root.resolve(Path::new("/0")).unwrap(), root.host().join("40"));
    }

    #[test]
    fn a_path_that_does_not_exist_is_resolved_as_far_as_it_goes() {
        let (_directory, root) = root();
        fs::write(root.host().join("file"), "").unwrap();
        let resolved = root.resolve(Path::new("/no/such/place/../file")).unwrap();
        assert_eq!(resolved, root.host().join("no/such/file"));
        let resolved = root.resolve(Path::new("/file/below")).unwrap();
        assert_eq!(resolved, root.host().join("file/below"));
    }

    #[test]
    fn recorded_is_the_reverse() {
        let (_directory, root) = root();
        let named = Path::new("/var/lib/mysql");
        assert_eq!(root.recorded(&root.on_host(named)).unwrap(), named);
        assert_eq!(root.recorded(root.host()).unwrap(), Path::new("/"));
        assert_eq!(root.recorded(Path::new("/elsewhere")), None);
    }

    #[test]
    fn only_files_of_a_sane_size_are_read() {
        let (_directory, root) = root();
        let file = root.host().join("file");
        assert_eq!(read_optional(&file).unwrap(), None);
        fs::write(&file, "text").unwrap();
        assert_eq!(read_optional(&file).unwrap().as_deref(), Some(&b"text"[..]));
        assert_eq!(read_optional(&file.join("below")).unwrap(), None);
        fs::File::options().write(true).open(&file).unwrap().set_len(FILE_BYTES_MAX + 1).unwrap();
        assert_eq!(read_optional(&file).unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(read_optional(root.host()).unwrap_err().kind(), ErrorKind::Invalid);
    }

    #[test]
    fn the_root_must_be_a_directory() {
        let (_directory, root) = root();
        let file = root.host().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(Root::open(&file).unwrap_err().kind(), ErrorKind::Invalid);
        let missing = root.host().join("missing");
        assert_eq!(Root::open(&missing).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
