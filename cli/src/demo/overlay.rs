//! One night's work on a live deployment: what differs is changed where it is, as a database
//! changes its files, and everything else is left untouched.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt, lchown};
use std::path::Path;

use colvault_engine::error::{Error, ErrorKind, Result};
use colvault_engine::progress::Cancel;
use serde::Serialize;

use super::sample::set_mtime;
use super::tree::{Kind, Record, examine, names};

/// In what units a file's content is compared and rewritten, in bytes.
const BLOCK: usize = 64 << 10;

/// What was done, in numbers of files and directories.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// Those that were not there.
    pub created: u64,
    /// Files whose content was changed in place.
    pub rewritten: u64,
    /// Those of which only attributes were changed.
    pub touched: u64,
    /// Those that are gone.
    pub deleted: u64,
    /// Those that were left as they are.
    pub untouched: u64,
    /// Bytes written.
    pub bytes_written: u64,
}

/// Makes the tree `live` equal to the tree `night`. Both are there; their tops are not counted.
pub fn lay(night: &Path, live: &Path, cancel: &Cancel) -> Result<Changes> {
    let mut overlay = Overlay { changes: Changes::default(), cancel };
    overlay.below(night, live)?;
    Ok(overlay.changes)
}

struct Overlay<'a> {
    changes: Changes,
    cancel: &'a Cancel,
}

impl Overlay<'_> {
    /// Makes a directory equal. Returns whether its attributes were changed.
    fn below(&mut self, night: &Path, live: &Path) -> Result<bool> {
        let wanted = names(night)?;
        for name in names(live)?.iter().filter(|name| wanted.binary_search(name).is_err()) {
            self.delete(&live.join(name))?;
        }
        for name in &wanted {
            self.cancel.check()?;
            self.entry(&night.join(name), &live.join(name))?;
        }
        // Last: what happened in it has changed its time.
        set_attributes(&examine(night)?, live)
    }

    fn entry(&mut self, night: &Path, live: &Path) -> Result<()> {
        let wanted = examine(night)?;
        let present = match examine(live) {
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            other => Some(other?),
        };
        let is_other_kind = present.as_ref().is_some_and(|present| present.kind != wanted.kind);
        if is_other_kind {
            self.delete(live)?;
        }
        let is_new = present.is_none() || is_other_kind;
        match wanted.kind {
            Kind::Directory => {
                if is_new {
                    fs::create_dir(live).map_err(|error| Error::io(live, "create", error))?;
                }
                let touched = self.below(night, live)?;
                self.count(is_new, false, touched);
                Ok(())
            }
            Kind::File => {
                let written = rewrite(night, live, is_new)?;
                self.changes.bytes_written += written.unwrap_or(0);
                let touched = set_attributes(&wanted, live)?;
                self.count(is_new, written.is_some(), touched);
                Ok(())
            }
            other => Err(Error::new(
                ErrorKind::Unsupported,
                night.display().to_string(),
                format!("a file or a directory expected, found {other:?}"),
            )),
        }
    }

    fn delete(&mut self, place: &Path) -> Result<()> {
        if examine(place)?.kind == Kind::Directory {
            for name in names(place)? {
                self.delete(&place.join(name))?;
            }
            fs::remove_dir(place).map_err(|error| Error::io(place, "delete", error))?;
        } else {
            fs::remove_file(place).map_err(|error| Error::io(place, "delete", error))?;
        }
        self.changes.deleted += 1;
        Ok(())
    }

    fn count(&mut self, is_new: bool, rewritten: bool, touched: bool) {
        let counter = match (is_new, rewritten, touched) {
            (true, _, _) => &mut self.changes.created,
            (false, true, _) => &mut self.changes.rewritten,
            (false, false, true) => &mut self.changes.touched,
            (false, false, false) => &mut self.changes.untouched,
        };
        *counter += 1;
    }
}

/// Writes the blocks of a file that differ. Returns how many bytes that were, `None` if the
/// content was the same.
fn rewrite(night: &Path, live: &Path, is_new: bool) -> Result<Option<u64>> {
    let reading = |error| Error::io(night, "read", error);
    let writing = |error| Error::io(live, "write", error);
    let source = File::open(night).map_err(reading)?;
    let place = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(is_new)
        .open(live)
        .map_err(|error| Error::io(live, "open", error))?;
    let (mut wanted, mut present) = (vec![0; BLOCK], vec![0; BLOCK]);
    let (mut offset, mut written) = (0, 0);
    loop {
        let length = read_full_at(&source, &mut wanted, offset).map_err(reading)?;
        let found = read_full_at(&place, &mut present[..length], offset).map_err(writing)?;
        if wanted[..length] != present[..found] {
            place.write_all_at(&wanted[..length], offset).map_err(writing)?;
            written += length as u64;
        }
        offset += length as u64;
        if length < BLOCK {
            break;
        }
    }
    let is_longer = place.metadata().map_err(writing)?.len() > offset;
    if is_longer {
        place.set_len(offset).map_err(writing)?;
    }
    Ok((is_new || is_longer || written > 0).then_some(written))
}

/// Reads from an offset on until the buffer is full or the file ends.
pub fn read_full_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Sets those attributes that differ. Returns whether any did.
fn set_attributes(wanted: &Record, place: &Path) -> Result<bool> {
    let present = examine(place)?;
    let mut mode = present.mode;
    if present.owner != wanted.owner {
        let (uid, gid) = wanted.owner;
        lchown(place, Some(uid), Some(gid))
            .map_err(|error| Error::io(place, "change the owner of", error))?;
        mode = examine(place)?.mode;
    }
    if mode != wanted.mode {
        fs::set_permissions(place, Permissions::from_mode(wanted.mode))
            .map_err(|error| Error::io(place, "change the mode of", error))?;
    }
    if present.mtime != wanted.mtime {
        set_mtime(place, wanted.mtime)?;
    }
    let Record { owner, mode, mtime, .. } = present;
    Ok((owner, mode, mtime) != (wanted.owner, wanted.mode, wanted.mtime))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::tree::list;
    use std::os::unix::fs::MetadataExt;
    use std::path::PathBuf;

    /// A pair of trees in a directory of their own.
    struct Pair {
        _directory: tempfile::TempDir,
        night: PathBuf,
        live: PathBuf,
    }

    impl Pair {
        fn new() -> Pair {
            let directory = tempfile::tempdir().unwrap();
            let [night, live] = ["night", "live"].map(|name| directory.path().join(name));
            for top in [&night, &live] {
                fs::create_dir_all(top.join("d/e")).unwrap();
                fs::write(top.join("d/same"), vec![7; 3 * BLOCK + 5]).unwrap();
                fs::write(top.join("d/file"), vec![1; 3 * BLOCK + 5]).unwrap();
            }
            let pair = Pair { _directory: directory, night, live };
            pair.lay();
            pair
        }

        /// Lays the night over the live tree, which then equals it; returns what was done.
        fn lay(&self) -> Changes {
            let changes = lay(&self.night, &self.live, &Cancel::default()).unwrap();
            let (wanted, found) = (list(&self.night).unwrap(), list(&self.live).unwrap());
            assert_eq!(wanted, found);
            for (path, record) in &wanted {
                if record.kind == Kind::File {
                    let read = |top: &Path| fs::read(top.join(path)).unwrap();
                    assert!(read(&self.night) == read(&self.live), "{}", path.display());
                }
            }
            changes
        }

        fn inode(&self, path: &str) -> u64 {
            fs::metadata(self.live.join(path)).unwrap().ino()
        }

        fn ctime(&self, path: &str) -> (i64, i64) {
            let metadata = fs::metadata(self.live.join(path)).unwrap();
            (metadata.ctime(), metadata.ctime_nsec())
        }
    }

    #[test]
    fn what_is_equal_is_left_alone() {
        let pair = Pair::new();
        let before = pair.ctime("d/same");
        assert_eq!(pair.lay(), Changes { untouched: 4, ..Changes::default() });
        assert_eq!(pair.ctime("d/same"), before);
    }

    #[test]
    fn content_changes_in_place_and_only_where_it_differs() {
        let pair = Pair::new();
        let (file, other, inode) =
            (pair.night.join("d/file"), pair.ctime("d/same"), pair.inode("d/file"));
        let mut content = vec![1; 3 * BLOCK + 5];
        content[2 * BLOCK] = 2;
        for (content, written) in [
            (content.clone(), BLOCK),
            ([content.clone(), vec![3; BLOCK]].concat(), BLOCK),
            (content[..BLOCK + 9].to_vec(), 9),
            (content[..BLOCK].to_vec(), 0),
            (Vec::new(), 0),
            (vec![9; 2 * BLOCK], 2 * BLOCK),
        ] {
            fs::write(&file, &content).unwrap();
            set_mtime(&file, (1_000_000_000, content.len() as i64)).unwrap();
            let changes = pair.lay();
            assert_eq!((changes.rewritten, changes.untouched), (1, 3), "{}", content.len());
            assert!(changes.bytes_written <= (written + BLOCK) as u64, "{changes:?}");
            assert_eq!(pair.inode("d/file"), inode);
        }
        assert_eq!(pair.ctime("d/same"), other);
    }

    #[test]
    fn content_that_changed_behind_the_same_size_and_time_is_noticed() {
        let pair = Pair::new();
        let file = pair.night.join("d/file");
        let mtime = examine(&file).unwrap().mtime;
        fs::write(&file, vec![2; 3 * BLOCK + 5]).unwrap();
        set_mtime(&file, mtime).unwrap();
        assert_eq!(pair.lay().rewritten, 1);
    }

    #[test]
    fn attributes_alone_are_changed_alone() {
        let pair = Pair::new();
        fs::set_permissions(pair.night.join("d/file"), Permissions::from_mode(0o600)).unwrap();
        set_mtime(&pair.night.join("d/same"), (1_000_000_000, 123_456_789)).unwrap();
        fs::set_permissions(pair.night.join("d/e"), Permissions::from_mode(0o1755)).unwrap();
        assert_eq!(pair.lay(), Changes { touched: 3, untouched: 1, ..Changes::default() });
    }

    #[test]
    fn what_comes_and_goes_and_changes_its_kind() {
        let pair = Pair::new();
        fs::remove_file(pair.night.join("d/file")).unwrap();
        fs::create_dir(pair.night.join("d/file")).unwrap();
        fs::write(pair.night.join("d/file/x"), "x").unwrap();
        fs::remove_dir(pair.night.join("d/e")).unwrap();
        fs::write(pair.live.join("d/e/gone"), "x").unwrap();
        let changes = pair.lay();
        assert_eq!((changes.created, changes.deleted, changes.bytes_written), (2, 3, 1));
    }

    #[test]
    fn other_kinds_are_refused() {
        let pair = Pair::new();
        std::os::unix::fs::symlink("d", pair.night.join("link")).unwrap();
        let error = lay(&pair.night, &pair.live, &Cancel::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }
}
