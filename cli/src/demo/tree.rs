//! What a tree of files is, path by path, as the operating system tells it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, FileType, Metadata};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use colvault_engine::error::{Error, Result};
use rustix::fs::{lgetxattr, llistxattr};
use rustix::io::Errno;

/// The paths of a tree relative to its top, which itself is the empty path.
pub type Listing = BTreeMap<PathBuf, Record>;

/// What a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A device.
    Device,
}

/// Everything about a path but its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it is.
    pub kind: Kind,
    /// Permission bits with set-id and sticky bits.
    pub mode: u32,
    /// Owner and group.
    pub owner: (u32, u32),
    /// Time of the last change, in seconds and nanoseconds.
    pub mtime: (i64, i64),
    /// Bytes of a file; 0 for everything else.
    pub size: u64,
    /// How many names it has; 1 for directories.
    pub links: u64,
    /// Extended attributes.
    pub xattrs: BTreeMap<OsString, Vec<u8>>,
    /// Where a symbolic link leads.
    pub target: Option<PathBuf>,
}

/// Lists everything below `top`, and `top` itself.
pub fn list(top: &Path) -> Result<Listing> {
    let mut listing = Listing::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(path) = waiting.pop() {
        // Joining the empty path would add a slash.
        let place = if path.as_os_str().is_empty() { top.to_owned() } else { top.join(&path) };
        let record = examine(&place)?;
        if record.kind == Kind::Directory {
            waiting.extend(names(&place)?.into_iter().map(|name| path.join(name)));
        }
        listing.insert(path, record);
    }
    Ok(listing)
}

/// Returns the names in a directory, in order.
pub fn names(directory: &Path) -> Result<Vec<OsString>> {
    let failed = |error| Error::io(directory, "list", error);
    let entries = fs::read_dir(directory).map_err(failed)?;
    let mut names: Vec<OsString> = entries
        .map(|entry| Ok(entry?.file_name()))
        .collect::<std::io::Result<_>>()
        .map_err(failed)?;
    names.sort();
    Ok(names)
}

/// Returns what a path is, without following a link.
pub fn examine(place: &Path) -> Result<Record> {
    let metadata =
        fs::symlink_metadata(place).map_err(|error| Error::io(place, "examine", error))?;
    let kind = kind(metadata.file_type());
    let target = match kind {
        Kind::Symlink => {
            Some(fs::read_link(place).map_err(|error| Error::io(place, "read the link", error))?)
        }
        _ => None,
    };
    Ok(Record {
        kind,
        mode: metadata.mode() & 0o7777,
        owner: (metadata.uid(), metadata.gid()),
        mtime: (metadata.mtime(), metadata.mtime_nsec()),
        size: if kind == Kind::File { metadata.len() } else { 0 },
        links: links(kind, &metadata),
        xattrs: xattrs(place)?,
        target,
    })
}

fn kind(file_type: FileType) -> Kind {
    if file_type.is_file() {
        Kind::File
    } else if file_type.is_dir() {
        Kind::Directory
    } else if file_type.is_symlink() {
        Kind::Symlink
    } else if file_type.is_fifo() {
        Kind::Fifo
    } else if file_type.is_socket() {
        Kind::Socket
    } else {
        Kind::Device
    }
}

fn links(kind: Kind, metadata: &Metadata) -> u64 {
    if kind == Kind::Directory { 1 } else { metadata.nlink() }
}

fn xattrs(place: &Path) -> Result<BTreeMap<OsString, Vec<u8>>> {
    let failed = |error: Errno| Error::io(place, "read the attributes of", error);
    let mut names = vec![0; 64 << 10];
    let length = match llistxattr(place, &mut names[..]) {
        Err(Errno::NOTSUP) => 0,
        other => other.map_err(failed)?,
    };
    let mut found = BTreeMap::new();
    for name in names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 64 << 10];
        let length = lgetxattr(place, name, &mut value[..]).map_err(failed)?;
        value.truncate(length);
        found.insert(OsString::from_vec(name.to_vec()), value);
    }
    Ok(found)
}
