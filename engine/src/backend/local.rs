//! A repository in a directory, local or shared.
//!
//! An object is written to a file under `tmp/`, synced, and renamed to its name without replacing
//! one; then the directory is synced. A writer holds a lock on its temporary file, so that another
//! process can tell an abandoned one without asking a clock.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::num::NonZeroU64;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{
    Advice, CWD, FlockOperation, RenameFlags, fadvise, flock, renameat_with, statvfs,
};
use rustix::io::Errno;

use super::{Backend, Key, Listed, Space};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{SessionId, random};

/// Objects are written in pieces of this size: larger ones make the kernel look for large stretches
/// of free memory, which costs more than the calls that are saved.
const WRITE_BYTES: usize = 256 << 10;
/// So many bytes are written before the kernel is asked to begin with the disk.
const WRITEBACK_BYTES: u64 = 8 << 20;

const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
const TEMPORARY: &str = "tmp";

/// Objects as files below a directory of mode 0700, each of mode 0600.
#[derive(Debug)]
pub struct LocalBackend {
    root: PathBuf,
}

impl LocalBackend {
    /// Uses the repository in `root`. Nothing is read or created.
    pub fn open(root: impl Into<PathBuf>) -> Self {
        LocalBackend { root: root.into() }
    }

    /// Makes the directories of a new repository in `root`, which must not exist or be empty, and
    /// makes them durable.
    ///
    /// Fails with `Refused` when something other than an unfinished `create` is there.
    pub fn create(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        make_directory(&root, true)?;
        let ours = |name: &str| {
            // A file system made for the repository has a directory of its own at its top.
            [TEMPORARY, "lost+found"].contains(&name)
                || Space::ALL.iter().any(|space| space.prefix() == name)
        };
        for entry in read_directory(&root)? {
            if !ours(&entry) {
                return Err(Error::new(
                    ErrorKind::Refused,
                    root.display().to_string(),
                    format!("an empty directory expected, found {entry:?} in it"),
                ));
            }
        }
        make_directory(&root.join(TEMPORARY), false)?;
        for space in Space::ALL {
            make_directory(&root.join(space.prefix()), false)?;
        }
        let packs = root.join(Space::Packs.prefix());
        for shard in 0..=255u8 {
            make_directory(&packs.join(format!("{shard:02x}")), false)?;
        }
        for directory in [&packs, &root] {
            sync_directory(directory)?;
        }
        if let Some(parent) = root.parent() {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            sync_directory(parent)?;
        }
        Ok(LocalBackend { root })
    }

    /// Returns the directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.root.join(key.to_string())
    }

    fn open_object(&self, key: &Key) -> Result<(File, PathBuf)> {
        let path = self.path(key);
        let file = File::open(&path).map_err(|error| Error::io(&path, "open", error))?;
        Ok((file, path))
    }

    /// Creates a temporary file and locks it.
    fn temporary(&self) -> Result<(File, PathBuf)> {
        let directory = self.root.join(TEMPORARY);
        loop {
            let path = directory.join(SessionId(random()).to_string());
            let create = |path: &Path| {
                OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)
            };
            let file = match create(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    make_directory(&directory, false)?;
                    create(&path)
                }
                other => other,
            }
            .map_err(|error| Error::io(&path, "create", error))?;
            // Where locks are not supported nobody can clean up either: see `clean_up`.
            let _ = flock(&file, FlockOperation::LockExclusive);
            // Another process may have cleaned it up between creation and lock.
            let links = file.metadata().map_err(|error| Error::io(&path, "examine", error))?;
            if links.nlink() > 0 {
                return Ok((file, path));
            }
        }
    }

    fn fill(&self, file: &mut File, path: &Path, parts: &[&[u8]]) -> Result<()> {
        let (mut written, mut sent) = (0, 0);
        for piece in parts.iter().flat_map(|part| part.chunks(WRITE_BYTES)) {
            file.write_all(piece).map_err(|error| Error::io(path, "write", error))?;
            written += piece.len() as u64;
            if written - sent >= WRITEBACK_BYTES {
                // Advice that nothing of it is needed again has the kernel begin to write it, so
                // that the disk works meanwhile and the sync at the end finds little.
                let _ = fadvise(&*file, sent, NonZeroU64::new(written - sent), Advice::DontNeed);
                sent = written;
            }
        }
        file.sync_all().map_err(|error| Error::io(path, "sync", error))
    }
}

impl Backend for LocalBackend {
    fn location(&self) -> String {
        self.root.display().to_string()
    }

    fn put_new(&self, key: &Key, parts: &[&[u8]]) -> Result<()> {
        let (mut file, temporary) = self.temporary()?;
        let target = self.path(key);
        if let Some(directory) = target.parent().filter(|directory| !directory.exists()) {
            make_directory(directory, false)?;
        }
        let done = self
            .fill(&mut file, &temporary, parts)
            .and_then(|()| rename_new(&temporary, &target))
            .and_then(|()| sync_directory(target.parent().unwrap_or(&self.root)));
        if done.is_err() {
            // After a successful rename this finds nothing; the object stays, unsynced or not.
            let _ = std::fs::remove_file(&temporary);
        }
        done
    }

    fn get(&self, key: &Key, bytes_max: u64) -> Result<Vec<u8>> {
        let (mut file, path) = self.open_object(key)?;
        let length = file.metadata().map_err(|error| Error::io(&path, "examine", error))?.len();
        check_length(key, length, bytes_max)?;
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
        file.read_to_end(&mut bytes).map_err(|error| Error::io(&path, "read", error))?;
        Ok(bytes)
    }

    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>> {
        let (mut file, path) = self.open_object(key)?;
        let found = file.metadata().map_err(|error| Error::io(&path, "examine", error))?.len();
        if offset.checked_add(length as u64).is_none_or(|end| end > found) {
            return Err(too_short(key, offset, length, found));
        }
        // Memory that is read into needs no zeros first.
        let mut bytes = Vec::with_capacity(length);
        file.seek(SeekFrom::Start(offset))
            .and_then(|_| file.take(length as u64).read_to_end(&mut bytes))
            .map_err(|error| Error::io(&path, "read", error))?;
        match bytes.len() == length {
            true => Ok(bytes),
            false => Err(too_short(key, offset, length, offset + bytes.len() as u64)),
        }
    }

    fn list(&self, space: Space, each: &mut dyn FnMut(Listed)) -> Result<()> {
        let directory = self.root.join(space.prefix());
        let mut pending = vec![(directory, space.prefix().to_owned())];
        while let Some((directory, prefix)) = pending.pop() {
            let listing = match std::fs::read_dir(&directory) {
                // Copies leave out empty directories, and these two are empty most of the time...
                Err(error)
                    if error.kind() == std::io::ErrorKind::NotFound
                        && matches!(space, Space::Leases | Space::Doomed) =>
                {
                    continue;
                }
                // ...but another that is not there must not pass for an empty one.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    return Err(Error::corrupt(
                        directory.display().to_string(),
                        "this directory of the repository is missing, which init has made; if a \
                         copy has left out empty directories, make it again",
                    ));
                }
                other => other.map_err(|error| Error::io(&directory, "list", error))?,
            };
            for entry in listing {
                let entry = entry.map_err(|error| Error::io(&directory, "list", error))?;
                let name = format!("{prefix}/{}", entry.file_name().to_string_lossy());
                let metadata = match entry.metadata() {
                    // Deleted since the directory was read.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                    other => other.map_err(|error| Error::io(entry.path(), "examine", error))?,
                };
                if metadata.is_dir() && space == Space::Packs && prefix == space.prefix() {
                    pending.push((entry.path(), name));
                } else {
                    each(Listed { name, bytes: metadata.len() });
                }
            }
        }
        Ok(())
    }

    fn length(&self, key: &Key) -> Result<u64> {
        let path = self.path(key);
        let metadata =
            std::fs::metadata(&path).map_err(|error| Error::io(&path, "examine", error))?;
        Ok(metadata.len())
    }

    fn delete(&self, key: &Key) -> Result<()> {
        let path = self.path(key);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io(&path, "delete", error))
            }
            _ => sync_directory(path.parent().unwrap_or(&self.root)),
        }
    }

    fn free_bytes(&self) -> Option<u64> {
        let facts = statvfs(&self.root).ok()?;
        Some(facts.f_bavail * facts.f_frsize)
    }

    fn clean_up(&self) -> Result<()> {
        let directory = self.root.join(TEMPORARY);
        for name in read_directory(&directory).unwrap_or_default() {
            let path = directory.join(name);
            let Ok(file) = File::open(&path) else { continue };
            // Only a lock that is granted says that nobody writes it any more.
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
                let _ = std::fs::remove_file(&path);
            }
        }
        Ok(())
    }
}

/// Fails with `Corrupt` when an object is longer than a reader accepts.
pub(super) fn check_length(key: &Key, found: u64, bytes_max: u64) -> Result<()> {
    if found > bytes_max { Err(too_long(key, found, bytes_max)) } else { Ok(()) }
}

/// Makes the error for an object that is longer than a reader accepts.
pub(super) fn too_long(key: &Key, found: u64, bytes_max: u64) -> Error {
    Error::corrupt(key.to_string(), format!("at most {bytes_max} bytes expected, found {found}"))
}

/// Makes the error for a range that the object does not have.
pub(super) fn too_short(key: &Key, offset: u64, length: usize, found: u64) -> Error {
    Error::corrupt(
        key.to_string(),
        format!("{length} bytes from byte {offset} expected, the object has {found}"),
    )
}

fn rename_new(from: &Path, to: &Path) -> Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        // File systems without this flag (NFS among them) have links, which do not replace either.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => std::fs::hard_link(from, to)
            .and_then(|()| std::fs::remove_file(from))
            .map_err(|error| Error::io(to, "create", error)),
        Err(error) => Err(Error::io(to, "create", error)),
    }
}

fn make_directory(path: &Path, recursive: bool) -> Result<()> {
    match DirBuilder::new().mode(DIRECTORY_MODE).recursive(recursive).create(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        other => other.map_err(|error| Error::io(path, "create directory", error)),
    }
}

fn read_directory(path: &Path) -> Result<Vec<String>> {
    let listing = std::fs::read_dir(path).map_err(|error| Error::io(path, "list", error))?;
    listing
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<std::io::Result<_>>()
        .map_err(|error| Error::io(path, "list", error))
}

/// Makes the names in a directory durable.
fn sync_directory(path: &Path) -> Result<()> {
    let directory = File::open(path).map_err(|error| Error::io(path, "open", error))?;
    directory.sync_all().map_err(|error| Error::io(path, "sync", error))
}
