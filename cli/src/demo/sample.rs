//! The bundled sample: a small real deployment on four nights, unpacked one night at a time.

use std::collections::HashMap;
use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{PermissionsExt, lchown};
use std::path::{Component, Path, PathBuf};

use colvault_engine::error::{Error, ErrorKind, Result};
use colvault_engine::progress::Cancel;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
use tar::{Archive, Entry, EntryType, Header};
use zstd::stream::read::Decoder;

/// How errors name the archive.
const NAME: &str = "the bundled sample";

static ARCHIVE: &[u8] = include_bytes!("../../sample/tiny-nights.tar.zst");

/// What happened since the night before, for each night in the archive.
pub const NIGHTS: [&str; 4] = [
    "databases created and loaded",
    "rows appended by cpimport",
    "scattered UPDATE and DELETE, append",
    "DROP TABLE, widening UPDATE, append",
];

/// No night takes more space on disk than this, in bytes.
pub const NIGHT_BYTES_MAX: u64 = 100 << 20;

/// No night has more files and directories than this.
pub const NIGHT_ENTRIES_MAX: u64 = 600;

/// The user that owns the deployment's files.
pub const OWNER: &str = "mysql";

/// Unpacks one night into a new directory, with modes and times, and as root with owners.
pub fn unpack(night: usize, directory: &Path, cancel: &Cancel) -> Result<()> {
    unpack_from(ARCHIVE, night, directory, cancel)
}

fn unpack_from(packed: &[u8], night: usize, directory: &Path, cancel: &Cancel) -> Result<()> {
    fs::create_dir(directory).map_err(|error| Error::io(directory, "create", error))?;
    let mut archive = Archive::new(Decoder::new(packed).map_err(unreadable)?);
    let mut attributes = Attributes::new();
    let top = format!("night{night}");
    // Directories get their times last, when nothing changes in them any more.
    let mut directories: Vec<(PathBuf, Header)> = Vec::new();
    for entry in archive.entries().map_err(unreadable)? {
        cancel.check()?;
        let mut entry = entry.map_err(unreadable)?;
        let path = entry.path().map_err(unreadable)?.into_owned();
        let Ok(below) = path.strip_prefix(&top) else { continue };
        let place = directory.join(safe(below)?);
        match entry.header().entry_type() {
            EntryType::Directory => {
                fs::create_dir_all(&place).map_err(|error| Error::io(&place, "create", error))?;
                directories.push((place, entry.header().clone()));
            }
            EntryType::Regular => {
                write_file(&mut entry, &place)?;
                attributes.set(&place, entry.header())?;
            }
            other => {
                return Err(corrupt(format!("files and directories expected, found {other:?}")));
            }
        }
    }
    if directories.is_empty() {
        return Err(corrupt(format!("{top} expected, found nothing of that name")));
    }
    directories.iter().rev().try_for_each(|(place, header)| attributes.set(place, header))
}

fn write_file(entry: &mut Entry<'_, impl Read>, place: &Path) -> Result<()> {
    let mut file = File::create_new(place).map_err(|error| Error::io(place, "create", error))?;
    io::copy(entry, &mut file).map_err(|error| Error::io(place, "write", error))?;
    Ok(())
}

/// Returns a path that stays below the directory it is joined to.
fn safe(path: &Path) -> Result<&Path> {
    match path.components().all(|part| matches!(part, Component::Normal(_))) {
        true => Ok(path),
        false => Err(corrupt(format!("plain paths expected, found {}", path.display()))),
    }
}

/// Sets what the archive says of an entry.
struct Attributes {
    is_root: bool,
    users: HashMap<Vec<u8>, Option<u32>>,
    groups: HashMap<Vec<u8>, Option<u32>>,
}

impl Attributes {
    fn new() -> Self {
        Attributes { is_root: is_root(), users: HashMap::new(), groups: HashMap::new() }
    }

    fn set(&mut self, place: &Path, header: &Header) -> Result<()> {
        if self.is_root {
            let (uid, gid) = self.owner(header)?;
            // A change of owner clears mode bits, so the mode comes after it.
            lchown(place, Some(uid), Some(gid))
                .map_err(|error| Error::io(place, "change the owner of", error))?;
        }
        let mode = Permissions::from_mode(header.mode().map_err(unreadable)?);
        fs::set_permissions(place, mode)
            .map_err(|error| Error::io(place, "change the mode of", error))?;
        let seconds = i64::try_from(header.mtime().map_err(unreadable)?)
            .map_err(|_| corrupt("a time of this age of the universe expected"))?;
        set_mtime(place, (seconds, 0))
    }

    /// Returns the ids of the owner's names here, or the archive's own ids where there is no such
    /// name.
    fn owner(&mut self, header: &Header) -> Result<(u32, u32)> {
        let numeric = |id: u64| {
            u32::try_from(id).map_err(|_| corrupt(format!("an owner's id expected, found {id}")))
        };
        let user = header.username_bytes().unwrap_or_default().to_vec();
        let group = header.groupname_bytes().unwrap_or_default().to_vec();
        let uid = numeric(header.uid().map_err(unreadable)?)?;
        let gid = numeric(header.gid().map_err(unreadable)?)?;
        let known = |name: &Vec<u8>| String::from_utf8(name.clone()).ok();
        let user_here = *self
            .users
            .entry(user)
            .or_insert_with_key(|name| Some(uzers::get_user_by_name(&known(name)?)?.uid()));
        let group_here = *self
            .groups
            .entry(group)
            .or_insert_with_key(|name| Some(uzers::get_group_by_name(&known(name)?)?.gid()));
        Ok((user_here.unwrap_or(uid), group_here.unwrap_or(gid)))
    }
}

/// Sets the time of the last change, in seconds and nanoseconds.
pub fn set_mtime(place: &Path, (seconds, nanoseconds): (i64, i64)) -> Result<()> {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds as _ };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, place, &times, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|error| Error::io(place, "set the times of", error))
}

/// Whether this process may give files to others.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether this host has a user of the owner's name.
pub fn has_owner() -> bool {
    uzers::get_user_by_name(OWNER).is_some()
}

fn unreadable(error: io::Error) -> Error {
    Error::new(ErrorKind::Corrupt, NAME, "cannot be unpacked").caused_by(error)
}

fn corrupt(problem: impl Into<String>) -> Error {
    Error::new(ErrorKind::Corrupt, NAME, problem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::tree;

    #[test]
    fn every_night_unpacks_within_its_bounds() {
        let directory = tempfile::tempdir().unwrap();
        for night in 0..NIGHTS.len() {
            let place = directory.path().join(night.to_string());
            unpack(night, &place, &Cancel::default()).unwrap();
            let listing = tree::list(&place).unwrap();
            let blocks = |size: u64| size.div_ceil(4096) * 4096;
            let bytes: u64 = listing.values().map(|record| blocks(record.size).max(4096)).sum();
            assert!(bytes <= NIGHT_BYTES_MAX, "{bytes}");
            assert!(listing.len() as u64 <= NIGHT_ENTRIES_MAX, "{}", listing.len());
            let dbroot = &listing[Path::new("var/lib/columnstore/data1")];
            assert_eq!(dbroot.mode, 0o1755);
            fs::remove_dir_all(place).unwrap();
        }
    }

    #[test]
    fn what_is_not_there_or_no_archive_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let unpack = |packed: &[u8], night, name: &str| {
            let place = directory.path().join(name);
            unpack_from(packed, night, &place, &Cancel::default()).unwrap_err().kind()
        };
        assert_eq!(unpack(ARCHIVE, 4, "a"), ErrorKind::Corrupt);
        assert_eq!(unpack(&ARCHIVE[..1000], 0, "b"), ErrorKind::Corrupt);
        assert_eq!(unpack(b"neither zstd nor tar", 0, "c"), ErrorKind::Corrupt);
    }

    #[test]
    fn paths_that_lead_out_are_refused() {
        for path in ["../x", "a/../../x", "/etc"] {
            assert!(safe(Path::new(path)).is_err(), "{path}");
        }
        assert!(safe(Path::new("a/b")).is_ok());
    }

    #[test]
    fn a_request_to_stop_is_heard() {
        let directory = tempfile::tempdir().unwrap();
        let cancel = Cancel::default();
        cancel.cancel();
        let error = unpack(0, &directory.path().join("night"), &cancel).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted);
    }
}
