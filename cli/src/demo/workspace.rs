//! The directory the demonstration works in: looked at for space before, removed after.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use colvault_engine::error::{Error, ErrorKind, Result};
use colvault_engine::progress::Cancel;
use rustix::fs::{StatVfs, statvfs, syncfs};
use tempfile::TempDir;

use super::sample::{NIGHT_BYTES_MAX, NIGHT_ENTRIES_MAX, NIGHTS};
use super::tree::{Kind, examine, names};
use crate::units::bytes;

/// How many nights are unpacked at one time: the live one, a restored one, and the archive's.
const NIGHTS_AT_ONCE: u64 = 3;

/// What the repository, its cache and the logs take at most, in bytes.
const REPOSITORY_BYTES_MAX: u64 = 30 << 20;

/// How much is copied at once, in bytes.
const BLOCK: usize = 1 << 20;

/// What the demonstration needs of a file system, and what is there.
#[derive(Clone, Copy, Debug)]
pub struct Space {
    /// Bytes needed.
    pub needed: u64,
    /// Bytes free.
    pub free: u64,
}

/// A fresh directory, removed with everything in it when this goes.
#[derive(Debug)]
pub struct Workspace {
    directory: TempDir,
    is_kept: bool,
    /// The same directory with links resolved.
    path: PathBuf,
    /// What it needs and has.
    pub space: Space,
}

impl Workspace {
    /// Creates one in `parent`; `keep` leaves it there.
    ///
    /// Fails with `Full` if there is not enough space.
    pub fn create(parent: &Path, keep: bool) -> Result<Workspace> {
        let space = look_for_space(parent, keep)?;
        let directory = tempfile::Builder::new()
            .prefix("colvault-demo-")
            .permissions(Permissions::from_mode(0o700))
            .disable_cleanup(keep)
            .tempdir_in(parent)
            .map_err(|error| Error::io(parent, "create a directory in", error))?;
        let path = directory
            .path()
            .canonicalize()
            .map_err(|error| Error::io(directory.path(), "resolve", error))?;
        Ok(Workspace { directory, is_kept: keep, path, space })
    }

    /// Returns a path in it.
    pub fn at(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Returns where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Ends its use: removes it, unless it is to be kept.
    pub fn close(self) -> Result<()> {
        if self.is_kept {
            return Ok(());
        }
        self.directory.close().map_err(|error| Error::io(&self.path, "remove", error))
    }
}

fn look_for_space(parent: &Path, keep: bool) -> Result<Space> {
    let nights = NIGHTS_AT_ONCE + if keep { NIGHTS.len() as u64 - 1 } else { 0 };
    let facts =
        statvfs(parent).map_err(|error| Error::io(parent, "examine the file system of", error))?;
    let StatVfs { f_bavail, f_frsize, f_files, f_favail, .. } = facts;
    let needed = nights * NIGHT_BYTES_MAX + REPOSITORY_BYTES_MAX;
    let space = Space { needed, free: f_bavail.saturating_mul(f_frsize) };
    let full = |problem| Err(Error::new(ErrorKind::Full, parent.display().to_string(), problem));
    if space.free < space.needed {
        let (needed, free) = (bytes(space.needed), bytes(space.free));
        return full(format!("{needed} of free space needed, found {free}"));
    }
    // Some file systems make inodes as they go and report none.
    let inodes = nights * NIGHT_ENTRIES_MAX;
    if f_files > 0 && f_favail < inodes {
        return full(format!("{inodes} free inodes needed, found {f_favail}"));
    }
    Ok(space)
}

/// Removes a directory with everything in it.
pub fn remove(directory: &Path) -> Result<()> {
    fs::remove_dir_all(directory).map_err(|error| Error::io(directory, "remove", error))
}

/// Copies a tree into a new directory, content only, and has the disk take it. Returns how many
/// bytes were copied.
pub fn copy_plainly(from: &Path, to: &Path, cancel: &Cancel) -> Result<u64> {
    let bytes = copy_directory(from, to, cancel)?;
    let sync = |error: io::Error| Error::io(to, "sync", error);
    syncfs(File::open(to).map_err(sync)?).map_err(|error| sync(error.into()))?;
    Ok(bytes)
}

fn copy_directory(from: &Path, to: &Path, cancel: &Cancel) -> Result<u64> {
    fs::create_dir(to).map_err(|error| Error::io(to, "create", error))?;
    let mut bytes = 0;
    for name in names(from)? {
        cancel.check()?;
        let (source, place) = (from.join(&name), to.join(&name));
        bytes += match examine(&source)?.kind {
            Kind::Directory => copy_directory(&source, &place, cancel)?,
            Kind::File => copy_file(&source, &place)?,
            _ => 0,
        };
    }
    Ok(bytes)
}

/// Copies by reading and writing: no file system may share the blocks.
fn copy_file(from: &Path, to: &Path) -> Result<u64> {
    let open = |error| Error::io(from, "open", error);
    let mut source = io::BufReader::with_capacity(BLOCK, File::open(from).map_err(open)?);
    let mut place = File::create_new(to).map_err(|error| Error::io(to, "create", error))?;
    let mut bytes = 0;
    loop {
        let filled = io::BufRead::fill_buf(&mut source);
        let filled = filled.map_err(|error| Error::io(from, "read", error))?;
        if filled.is_empty() {
            return Ok(bytes);
        }
        io::Write::write_all(&mut place, filled).map_err(|error| Error::io(to, "write", error))?;
        let length = filled.len();
        io::BufRead::consume(&mut source, length);
        bytes += length as u64;
    }
}

/// Returns the sizes of all files in a tree added up.
pub fn bytes_in(directory: &Path) -> Result<u64> {
    let mut bytes = 0;
    for name in names(directory)? {
        let place = directory.join(name);
        let record = examine(&place)?;
        bytes += match record.kind {
            Kind::Directory => bytes_in(&place)?,
            _ => record.size,
        };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_with_what_is_in_it_also_on_a_panic() {
        let parent = tempfile::tempdir().unwrap();
        let outcome = std::panic::catch_unwind(|| {
            let workspace = Workspace::create(parent.path(), false).unwrap();
            fs::create_dir(workspace.at("live")).unwrap();
            fs::write(workspace.at("live/file"), "x").unwrap();
            panic!("in the middle");
        });
        assert!(outcome.is_err());
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn it_stays_when_asked_to() {
        let parent = tempfile::tempdir().unwrap();
        let workspace = Workspace::create(parent.path(), true).unwrap();
        fs::write(workspace.at("file"), "x").unwrap();
        let path = workspace.path().to_owned();
        workspace.close().unwrap();
        assert!(path.join("file").exists());
    }

    #[test]
    fn a_place_that_is_not_there_is_an_error() {
        let parent = tempfile::tempdir().unwrap();
        let error = Workspace::create(&parent.path().join("none"), false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }

    #[test]
    fn a_plain_copy_has_the_same_content() {
        let parent = tempfile::tempdir().unwrap();
        let (from, to) = (parent.path().join("from"), parent.path().join("to"));
        fs::create_dir_all(from.join("d")).unwrap();
        let content: Vec<u8> = (0..BLOCK + 100).map(|at| (at % 251) as u8).collect();
        fs::write(from.join("d/file"), &content).unwrap();
        fs::write(from.join("empty"), "").unwrap();
        let bytes = copy_plainly(&from, &to, &Cancel::default()).unwrap();
        assert_eq!(bytes, content.len() as u64);
        assert!(fs::read(to.join("d/file")).unwrap() == content);
        assert_eq!(bytes_in(&to).unwrap(), bytes);
    }
}
