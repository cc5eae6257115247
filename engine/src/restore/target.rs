//! The tree that is written: every step goes through open directories, so that a link on the way
//! cannot lead out of it, whatever a manifest says.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, linkat, makedev, mkdirat, mknodat, open, openat, statat,
    symlinkat, unlinkat,
};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::format::manifest::Node;

/// A destination, with the directories on the way to the entry that came last held open.
pub(super) struct TargetTree {
    root: PathBuf,
    root_directory: OwnedFd,
    /// Names below the root and their open directories, each inside the one before.
    open: Vec<(Vec<u8>, OwnedFd)>,
    on_the_way: HashSet<Vec<u8>>,
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl TargetTree {
    /// Opens a destination, which is created if it is not there.
    pub fn open(root: &Path) -> Result<Self> {
        std::fs::create_dir_all(root)
            .map_err(|error| Error::io(root, "create the target directory", error))?;
        // The destination itself may be a link: the user named it.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root_directory = open(root, flags, Mode::empty())
            .map_err(|error| Error::io(root, "open the target directory", error))?;
        Ok(TargetTree {
            root: root.to_path_buf(),
            root_directory,
            open: Vec::new(),
            on_the_way: HashSet::new(),
        })
    }

    /// Returns where an entry is on this host.
    pub fn host_path(&self, path: &[u8]) -> PathBuf {
        self.root.join(OsStr::from_bytes(path))
    }

    /// Returns directories that were made on the way to entries, without being entries themselves.
    pub fn made_on_the_way(self) -> HashSet<Vec<u8>> {
        self.on_the_way
    }

    fn failed(&self, path: &[u8], doing: &str, error: Errno) -> Error {
        Error::io(self.host_path(path), doing, error)
    }

    /// Opens the directory `path`, making what is missing on the way.
    fn enter(&mut self, path: &[u8]) -> Result<&OwnedFd> {
        let parts: Vec<&[u8]> =
            path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).collect();
        let same =
            self.open.iter().zip(&parts).take_while(|((name, _), part)| name == *part).count();
        self.open.truncate(same);
        for depth in same..parts.len() {
            let name = parts[depth];
            let above = self.open.last().map_or(&self.root_directory, |(_, open)| open);
            let directory = match openat(above, name, DIRECTORY, Mode::empty()) {
                Err(Errno::NOENT) => {
                    self.on_the_way.insert(parts[..=depth].join(&b'/'));
                    mkdirat(above, name, Mode::RWXU)
                        .and_then(|()| openat(above, name, DIRECTORY, Mode::empty()))
                }
                other => other,
            };
            let directory = directory.map_err(|error| {
                self.failed(&parts[..=depth].join(&b'/'), "open the directory", error)
            })?;
            self.open.push((name.to_vec(), directory));
        }
        Ok(self.open.last().map_or(&self.root_directory, |(_, open)| open))
    }

    /// Opens the directory that holds an entry and returns it with the entry's name.
    fn parent<'p>(&mut self, path: &'p [u8]) -> Result<(&OwnedFd, &'p [u8])> {
        let (above, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&b""[..], path),
        };
        Ok((self.enter(above)?, name))
    }

    /// Opens an existing directory.
    pub fn open_directory(&mut self, path: &[u8]) -> Result<&OwnedFd> {
        self.enter(path)
    }

    /// Makes a directory; with `replace` something else of its name gives way.
    pub fn directory(&mut self, path: &[u8], replace: bool) -> Result<()> {
        if path.is_empty() {
            return Ok(());
        }
        if replace {
            self.make_way(path, Some(FileType::Directory))?;
        }
        let (above, name) = self.parent(path)?;
        match mkdirat(above, name, Mode::RWXU) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) if replace => Ok(()),
            Err(error) => Err(self.failed(path, "create the directory", error)),
        }
    }

    /// Creates a file for writing, or with `replace` opens the one that is there. Returns it with
    /// the size it had: `None` for a new one.
    pub fn file(&mut self, path: &[u8], replace: bool) -> Result<(File, Option<u64>)> {
        if replace {
            self.make_way(path, Some(FileType::RegularFile))?;
        }
        let (above, name) = self.parent(path)?;
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let owner_only = Mode::RUSR | Mode::WUSR;
        if replace {
            match openat(above, name, flags, Mode::empty()) {
                Err(Errno::NOENT) => {}
                Err(error) => return Err(self.failed(path, "open", error)),
                Ok(file) => {
                    let file = File::from(file);
                    let size = file
                        .metadata()
                        .map_err(|error| Error::io(self.host_path(path), "examine", error))?
                        .len();
                    return Ok((file, Some(size)));
                }
            }
        }
        openat(above, name, flags | OFlags::CREATE | OFlags::EXCL, owner_only)
            .map(|file| (File::from(file), None))
            .map_err(|error| self.failed(path, "create", error))
    }

    /// Removes what stands where an entry of another kind is to be. A file with further names is
    /// removed too: writing to it would change them.
    fn make_way(&mut self, path: &[u8], wanted: Option<FileType>) -> Result<()> {
        let (above, name) = self.parent(path)?;
        let found = match statat(above, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            other => other.map_err(|error| Error::io(OsStr::from_bytes(name), "examine", error))?,
        };
        let kind = FileType::from_raw_mode(found.st_mode);
        let shared = kind == FileType::RegularFile && found.st_nlink > 1;
        if Some(kind) == wanted && !shared {
            return Ok(());
        }
        let removed = match kind {
            FileType::Directory => {
                let full = self.host_path(path);
                return std::fs::remove_dir_all(&full)
                    .map_err(|error| Error::io(&full, "remove", error));
            }
            _ => unlinkat(above, name, AtFlags::empty()),
        };
        removed.map_err(|error| self.failed(path, "remove", error))
    }

    /// Makes a further name of an entry.
    pub fn hard_link(&mut self, first: &[u8], path: &[u8], replace: bool) -> Result<()> {
        if replace {
            self.make_way(path, None)?;
        }
        let (above, name) = self.parent(first)?;
        let above = above
            .as_fd()
            .try_clone_to_owned()
            .map_err(|error| Error::io(OsStr::from_bytes(first), "hold the directory of", error))?;
        let (to, to_name) = self.parent(path)?;
        linkat(above, name, to, to_name, AtFlags::empty())
            .map_err(|error| self.failed(path, "link", error))
    }

    /// Makes a link, pipe or device.
    pub fn special(&mut self, path: &[u8], node: &Node, replace: bool) -> Result<()> {
        if replace {
            self.make_way(path, None)?;
        }
        let (above, name) = self.parent(path)?;
        let owner_only = Mode::RUSR | Mode::WUSR;
        let made = match node {
            Node::Symlink { target } => symlinkat(OsStr::from_bytes(target), above, name),
            Node::Fifo => mknodat(above, name, FileType::Fifo, owner_only, 0),
            Node::CharDevice { major, minor } => {
                mknodat(above, name, FileType::CharacterDevice, owner_only, makedev(*major, *minor))
            }
            Node::BlockDevice { major, minor } => {
                mknodat(above, name, FileType::BlockDevice, owner_only, makedev(*major, *minor))
            }
            Node::File { .. } | Node::Directory | Node::Socket | Node::Unreadable { .. } => Ok(()),
        };
        made.map_err(|error| self.failed(path, "create", error))
    }
}

/// Waits until everything written to the file system of a path is durable.
pub(super) fn sync_file_system(path: &Path) -> Result<()> {
    let directory = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| Error::io(path, "open", error))?;
    rustix::fs::syncfs(&directory)
        .map_err(|error| Error::io(path, "sync the file system", error))?;
    // The destination's own name, where its parent is on another file system.
    if let Some(parent) = path.parent()
        && let Ok(parent) = open(parent, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
    {
        let _ = rustix::fs::fsync(&parent);
    }
    Ok(())
}
