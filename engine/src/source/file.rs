//! Files of the source: what they are, their attributes, and reading them politely.

use std::ffi::{CStr, CString, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{
    Advice, AtFlags, Dir, FileType, Mode, OFlags, SeekFrom, Statx, StatxFlags, fadvise, fgetxattr,
    flistxattr, lgetxattr, llistxattr, open, openat, readlinkat, seek, statx,
};
use rustix::io::{Errno, IoSliceMut, ReadWriteFlags, preadv2};

use crate::error::{Error, Result};
use crate::format::manifest::{Identity, Time};

/// What `statx` tells of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub file_type: FileType,
    /// Permission, set-id and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes.
    pub size: u64,
    /// Bytes allocated.
    pub allocated: u64,
    /// Last change of content.
    pub mtime: Time,
    /// Last change of content or attributes, and the inode.
    pub identity: Identity,
    /// Names it has.
    pub links: u32,
    /// Device it is on.
    pub device: u64,
    /// Device number of a device file.
    pub device_number: (u32, u32),
}

impl Stat {
    fn of(raw: &Statx) -> Self {
        let time = |at: rustix::fs::StatxTimestamp| Time {
            seconds: at.tv_sec,
            nanoseconds: at.tv_nsec.min(999_999_999),
        };
        Stat {
            file_type: FileType::from_raw_mode(raw.stx_mode.into()),
            mode: u32::from(raw.stx_mode) & 0o7777,
            uid: raw.stx_uid,
            gid: raw.stx_gid,
            size: raw.stx_size,
            allocated: raw.stx_blocks * 512,
            mtime: time(raw.stx_mtime),
            identity: Identity { ctime: time(raw.stx_ctime), inode: raw.stx_ino },
            links: raw.stx_nlink,
            device: u64::from(raw.stx_dev_major) << 32 | u64::from(raw.stx_dev_minor),
            device_number: (raw.stx_rdev_major, raw.stx_rdev_minor),
        }
    }

    /// Whether size and times are the same: what reading must not see change.
    pub fn same_content(&self, other: &Stat) -> bool {
        self.size == other.size && self.mtime == other.mtime && self.identity == other.identity
    }

    /// Whether less is allocated than its size: it may have holes.
    pub fn may_have_holes(&self) -> bool {
        self.allocated < self.size
    }
}

/// A name in an open directory. Looking at it, opening it and entering it go through that
/// directory, so that nobody can exchange a directory on the way for a link to elsewhere.
#[derive(Clone, Debug)]
pub struct Place {
    directory: Arc<OwnedFd>,
    name: OsString,
    /// Where it is on this host, for messages.
    pub host_path: PathBuf,
}

impl Place {
    /// Opens a directory named by its path, to be looked at itself.
    pub fn base(path: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = open(path, flags, Mode::empty())
            .map_err(|error| Error::io(path, "open the directory", error))?;
        Ok(Place {
            directory: Arc::new(directory),
            name: ".".into(),
            host_path: path.to_path_buf(),
        })
    }

    /// Returns a name in an open directory.
    pub fn inside(directory: Arc<OwnedFd>, name: OsString, host_path: PathBuf) -> Self {
        Place { directory, name, host_path }
    }

    fn failed(&self, doing: &str, error: Errno) -> Error {
        Error::io(&self.host_path, doing, error)
    }

    /// Returns what it is, without following a symbolic link.
    pub fn stat(&self) -> Result<Stat> {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        statx(&self.directory, &self.name, flags, StatxFlags::BASIC_STATS)
            .map(|raw| Stat::of(&raw))
            .map_err(|error| self.failed("examine", error))
    }

    /// Opens the directory it is.
    pub fn enter(&self) -> Result<Arc<OwnedFd>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(&self.directory, &self.name, flags, Mode::empty())
            .map(Arc::new)
            .map_err(|error| self.failed("open the directory", error))
    }

    /// Opens the file it is, to be read: no link is followed, no pipe waited for, no access time
    /// touched where that is allowed.
    pub fn open(&self) -> Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(&self.directory, &self.name, flags | OFlags::NOATIME, Mode::empty())
        {
            // Only the owner may leave access times alone.
            Err(Errno::PERM) => openat(&self.directory, &self.name, flags, Mode::empty()),
            other => other,
        };
        file.map(File::from).map_err(|error| self.failed("open", error))
    }

    /// Returns where the symbolic link it is points to.
    pub fn read_link(&self) -> Result<Vec<u8>> {
        readlinkat(&self.directory, &self.name, Vec::new())
            .map(CString::into_bytes)
            .map_err(|error| self.failed("read the link", error))
    }

    /// Returns its extended attributes, sorted by name; nothing where the file system has none.
    pub fn xattrs(&self) -> Result<Attributes> {
        // The calls for attributes take no directory; its descriptor's own path stands for it.
        let path = Path::new("/proc/self/fd")
            .join(self.directory.as_raw_fd().to_string())
            .join(&self.name);
        collect_xattrs(
            |buffer| llistxattr(&path, buffer),
            |name, buffer| lgetxattr(&path, name, buffer),
        )
        .map_err(|error| self.failed("read the extended attributes of", error))
    }
}

/// Extended attributes: names and values.
pub type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

/// Returns the extended attributes of an open file, sorted by name.
pub fn xattrs_open(file: &File, path: &Path) -> Result<Attributes> {
    collect_xattrs(|buffer| flistxattr(file, buffer), |name, buffer| fgetxattr(file, name, buffer))
        .map_err(|error| Error::io(path, "read the extended attributes of", error))
}

/// Returns what an open file is.
pub fn stat_open(file: &File, path: &Path) -> Result<Stat> {
    statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)
        .map(|raw| Stat::of(&raw))
        .map_err(|error| Error::io(path, "examine", error))
}

/// Returns the names in an open directory, sorted by their bytes.
pub fn sorted_names(directory: &OwnedFd, path: &Path) -> Result<Vec<OsString>> {
    let failed = |error: Errno| Error::io(path, "list", error);
    let mut names = Vec::new();
    for entry in Dir::read_from(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable();
    // Some file systems list a name twice that is replaced meanwhile.
    names.dedup();
    Ok(names.into_iter().map(OsString::from_vec).collect())
}

/// Reads at `offset` until the buffer is full or the file ends; returns how many bytes.
///
/// What was not in the page cache before is dropped from it after: a backup must not push out what
/// the database works with. Where the kernel cannot tell, the pages stay.
pub fn read_politely(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let resident = {
        let mut slices = [IoSliceMut::new(buffer)];
        match preadv2(file, &mut slices, offset, ReadWriteFlags::NOWAIT) {
            Ok(read) => read,
            Err(Errno::AGAIN) => 0,
            Err(_) => return read_full(file, offset, buffer),
        }
    };
    if resident == buffer.len() {
        return Ok(resident);
    }
    let rest = read_full(file, offset + resident as u64, &mut buffer[resident..])?;
    if let Some(length) = std::num::NonZeroU64::new(rest as u64) {
        let _ = fadvise(file, offset + resident as u64, Some(length), Advice::DontNeed);
    }
    Ok(resident + rest)
}

fn read_full(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    use std::os::unix::fs::FileExt;
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Returns the first stretch of data in `start..end` of a file: what lies before it is a hole.
/// `None` when all of it is. A file system that cannot tell says that all is data.
pub fn next_data(file: &File, start: u64, end: u64) -> Option<(u64, u64)> {
    let data = match seek(file, SeekFrom::Data(start)) {
        Ok(data) => data,
        Err(Errno::NXIO) => return None,
        Err(_) => return Some((start, end)),
    };
    if data >= end {
        return None;
    }
    let hole = seek(file, SeekFrom::Hole(data)).unwrap_or(end);
    Some((data, hole.clamp(data, end)))
}

fn collect_xattrs(
    list: impl FnMut(&mut [u8]) -> Result<usize, Errno>,
    mut get: impl FnMut(&CStr, &mut [u8]) -> Result<usize, Errno>,
) -> Result<Attributes, Errno> {
    let names = match read_growing(list) {
        Err(Errno::NOTSUP | Errno::NOSYS) => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for name in names.split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        match read_growing(|buffer| get(name, buffer)) {
            // Removed since the names were listed.
            Err(Errno::NODATA) => {}
            other => found.push((name.to_bytes().to_vec(), other?)),
        }
    }
    found.sort();
    Ok(found)
}

fn read_growing(mut read: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; 256];
    loop {
        match read(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(Errno::RANGE) if buffer.len() < 1 << 20 => buffer.resize(buffer.len() * 4, 0),
            Err(error) => return Err(error),
        }
    }
}

/// Returns the present time as the kernel stamps files with it.
pub fn now() -> Time {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    Time { seconds: time.tv_sec, nanoseconds: u32::try_from(time.tv_nsec).unwrap_or(0) }
}
