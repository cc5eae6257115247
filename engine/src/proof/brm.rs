//! The files of the BRM, found in a snapshot, read and checked by themselves.
//!
//! Source: docs/COLUMNSTORE.md 2 and 7. Where they are is what Columnstore.xml said, which is among
//! the snapshot's facts; without it, where ColumnStore has them by default.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::Prover;
use super::rules::Rule;
use crate::columnstore::brm::{
    CurrentSet, ExtentMap, Journal, JournalReader, OidBitmap, Sensible, TableLock, TableLocks,
    Transactions, VersionBuffer, Versions,
};
use crate::error::Result;
use crate::finding::{Finding, FindingKind};
use crate::format::manifest::{Entry, Node, Time};
use crate::format::text::{decode_path, encode, encode_path};
use crate::format::wire::Decoded;

/// Source: ColumnStore `oam/etc/Columnstore.xml`, SystemConfig/DBRMRoot.
const DBRM_ROOT_DEFAULT: &str = "/var/lib/columnstore/data1/systemFiles/dbrm/BRM_saves";

/// The most that is read of one file: an extent map of ten million extents.
const FILE_BYTES_MAX: u64 = 1 << 30;
/// In such pieces.
const PIECE_BYTES: u64 = 64 << 20;

/// A file of the BRM as it stands in the snapshot.
struct File {
    bytes: Vec<u8>,
    changed: Time,
}

/// What the files of the BRM say, as far as they can be read.
#[derive(Default)]
pub(super) struct Brm {
    pub map: Option<ExtentMap>,
    pub bitmap: Option<OidBitmap>,
}

impl Prover<'_> {
    /// Reads the files of the BRM and checks what can be checked with them alone.
    pub(super) fn brm(&mut self) -> Result<Brm> {
        let files = self.paths();
        // Whatever else is found depends on whether there is a journal.
        let journal = self.read_journal(&files.journal)?;
        let current = self.read(&files.current, CurrentSet::decode)?;
        let transactions = self.read(&files.transactions, Transactions::decode)?;
        let bitmap = self.read(&files.bitmap, OidBitmap::decode)?.map(|(bitmap, _)| bitmap);
        if let Some((locks, _)) = self.read(&files.locks, TableLocks::decode)? {
            self.table_locks(&files.locks, &locks);
        }
        let Some((set, _)) = current else {
            self.book.unchecked("which set of BRM files counts is not known");
            return Ok(Brm { map: None, bitmap });
        };
        let map_path = files.of_set(set, "_em");
        let map = self.extent_map(&map_path)?;
        let versions_path = files.of_set(set, "_vss");
        let versions = self.read(&versions_path, Versions::decode)?.map(|(versions, _)| versions);
        let buffer_path = files.of_set(set, "_vbbm");
        let buffer = self.read(&buffer_path, VersionBuffer::decode)?.map(|(buffer, _)| buffer);
        if let Some(versions) = &versions {
            self.locked_versions(&versions_path, versions);
        }
        // A last transaction that cannot be says nothing about others.
        if let Some((transactions, _)) = transactions.filter(|(last, _)| last.last >= 0) {
            let of_blocks = versions.iter().flat_map(|v| &v.entries).map(|entry| entry.version);
            let newest = of_blocks.map(|version| (version, &versions_path));
            let of_buffer = buffer.iter().flat_map(|b| &b.blocks).map(|block| block.version);
            let newest = newest.chain(of_buffer.map(|version| (version, &buffer_path)));
            self.known_versions(&transactions, newest.max_by_key(|(version, _)| *version));
        }
        if let (Some((journal, changed)), Some((_, map_changed))) = (&journal, &map) {
            let base_changed = match set {
                CurrentSet::Base => None,
                _ => self.changed(&files.of_set(CurrentSet::Base, "_em"))?,
            };
            let times = Times { journal: *changed, map: *map_changed, base: base_changed };
            if !self.journal(&files, set, journal, &times) {
                // One cause: what an old map says of today's files is no further finding.
                return Ok(Brm { map: None, bitmap });
            }
        }
        Ok(Brm { map: map.map(|(map, _)| map), bitmap })
    }

    fn paths(&self) -> Paths {
        let fact = |name: &str| self.snapshot.facts.get(name).map(PathBuf::from);
        let root = fact("dbrm_root").unwrap_or_else(|| DBRM_ROOT_DEFAULT.into());
        let beside = |name: &str| root.with_file_name(name);
        Paths {
            current: CurrentSet::Base.file(&root, "_current"),
            journal: CurrentSet::Base.file(&root, "_journal"),
            transactions: fact("txn_id_file").unwrap_or_else(|| beside("SMTxnID")),
            locks: fact("table_lock_file").unwrap_or_else(|| beside("tablelocks")),
            bitmap: fact("oid_bitmap_file").unwrap_or_else(|| beside("oidbitmap")),
            root,
        }
    }

    /// Reads a file and decodes it, and finds it when it is not there or makes no sense.
    fn read<T: Sensible>(
        &mut self,
        path: &Path,
        decode: fn(&[u8]) -> Decoded<T>,
    ) -> Result<Option<(T, Time)>> {
        let Some(file) = self.file(path)? else { return Ok(None) };
        Ok(self.decoded(path, &file.bytes, decode).map(|content| (content, file.changed)))
    }

    /// Decodes a file. What in it cannot be is one finding, however much it is; the rest is used.
    fn decoded<T: Sensible>(
        &mut self,
        path: &Path,
        bytes: &[u8],
        decode: fn(&[u8]) -> Decoded<T>,
    ) -> Option<T> {
        match decode(bytes) {
            Ok(content) => {
                let (mut first, mut more) = (None, 0u64);
                content.faults(&mut |fault| match first {
                    None => first = Some(fault),
                    Some(_) => more += 1,
                });
                match (first, more) {
                    (None, _) => self.book.holds(Rule::BrmReadable, 1),
                    (Some(first), 0) => self.unreadable(path, first),
                    (Some(first), more) => {
                        self.unreadable(path, format!("{first}; and {more} more that cannot be"));
                    }
                }
                Some(content)
            }
            Err(error) => {
                self.unreadable(path, error.to_string());
                None
            }
        }
    }

    /// The extent map; an older version of it is no damage, but cannot be read.
    fn extent_map(&mut self, path: &Path) -> Result<Option<(ExtentMap, Time)>> {
        let Some(file) = self.file(path)? else { return Ok(None) };
        if let Some(version @ 1..=3) = ExtentMap::version(&file.bytes) {
            self.book.holds(Rule::BrmReadable, 1);
            self.book.unchecked(format!(
                "extents: the extent map is of version {version}; versions 4 and 5 can be read"
            ));
            return Ok(None);
        }
        let map = self.decoded(path, &file.bytes, ExtentMap::decode);
        Ok(map.map(|map| (map, file.changed)))
    }

    /// Counts what a journal has, in pieces: it has no size that it cannot have.
    fn read_journal(&mut self, path: &Path) -> Result<Option<(Journal, Time)>> {
        let Some(entry) = self.file_entry(path)? else { return Ok(None) };
        // Also when it cannot be read: that it has changes is known.
        self.book.journal_bytes = entry.size();
        let mut reader = JournalReader::default();
        let mut read = Ok(());
        let whole = self.pieces(path, &entry, |piece| {
            read = reader.read(piece);
            read.is_ok()
        })?;
        if !whole {
            return Ok(None);
        }
        match read.and_then(|()| reader.end()) {
            Ok(journal) => {
                self.book.holds(Rule::BrmReadable, 1);
                Ok(Some((journal, entry.mtime)))
            }
            Err(error) => {
                self.unreadable(path, error.to_string());
                Ok(None)
            }
        }
    }

    /// Returns the content of a file; `None` when it is not in the snapshot, which is a finding.
    fn file(&mut self, path: &Path) -> Result<Option<File>> {
        let Some(entry) = self.file_entry(path)? else { return Ok(None) };
        if entry.size() > FILE_BYTES_MAX {
            let (shown, size) = (encode_path(path), entry.size());
            self.book.unchecked(format!(
                "{shown} has {size} bytes; at most {FILE_BYTES_MAX} of such a file are read"
            ));
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let whole = self.pieces(path, &entry, |piece| {
            bytes.extend_from_slice(piece);
            true
        })?;
        Ok(whole.then_some(File { bytes, changed: entry.mtime }))
    }

    /// Reads a file piece by piece, until there is no more or no more is wanted; false when the
    /// repository has not all of it, which is noted.
    fn pieces(
        &mut self,
        path: &Path,
        entry: &Entry,
        mut take: impl FnMut(&[u8]) -> bool,
    ) -> Result<bool> {
        let mut at = 0;
        while at < entry.size() {
            self.cancel.check()?;
            match self.content.read(entry.extents(), at, PIECE_BYTES) {
                Ok(piece) if !piece.is_empty() => {
                    at += piece.len() as u64;
                    if !take(&piece) {
                        break;
                    }
                }
                Ok(_) => break,
                Err(error) => {
                    self.book.lacks(&encode_path(path), &error)?;
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Returns the entry of a file; `None` when it is not in the snapshot as one that could be read,
    /// which is a finding.
    fn file_entry(&mut self, path: &Path) -> Result<Option<Entry>> {
        let shown = encode_path(path);
        let Some((component, below)) = self.place(path) else {
            self.book.unchecked(format!("{shown} is in no component of the snapshot"));
            return Ok(None);
        };
        let entry = match self.manifest(component).find(&below) {
            Ok(entry) => entry,
            Err(error) => {
                self.book.lacks(&shown, &error)?;
                return Ok(None);
            }
        };
        let Some(entry) = entry else {
            let why = self.excluded(&shown);
            if self.paths().locks == path {
                // The server starts without it, and with no table locked.
                self.book.unchecked(format!(
                    "{}: {shown} is not there{why}; locks that it had are not known",
                    Rule::NoTableLock.name()
                ));
                return Ok(None);
            }
            self.unreadable(path, format!("a file of the BRM expected, it is not there{why}"));
            return Ok(None);
        };
        if let Some(finding) = self.repeated_unreadable(component, &entry) {
            self.book.repeats(Rule::BrmReadable, 1, finding);
            return Ok(None);
        }
        if !matches!(entry.node, Node::File { .. }) {
            let found = entry.node.noun();
            self.unreadable(path, format!("a regular file expected, found {found}"));
            return Ok(None);
        }
        Ok(Some(entry))
    }

    /// Returns when a file was changed last; `None` when it is not there.
    fn changed(&mut self, path: &Path) -> Result<Option<Time>> {
        let Some((component, below)) = self.place(path) else { return Ok(None) };
        match self.manifest(component).find(&below) {
            Ok(entry) => Ok(entry.map(|entry| entry.mtime)),
            Err(error) => self.book.lacks(&encode_path(path), &error).map(|()| None),
        }
    }

    fn unreadable(&mut self, path: &Path, detail: String) {
        let finding = Finding::new(FindingKind::UnreadableBrm, encode_path(path), detail);
        self.book.fails(Rule::BrmReadable, 1, finding);
    }

    fn table_locks(&mut self, path: &Path, locks: &TableLocks) {
        for lock in &locks.locks {
            let finding = Finding::new(FindingKind::TableLocked, encode_path(path), told(lock));
            self.book.fails(Rule::NoTableLock, 1, finding);
        }
        if locks.locks.is_empty() {
            self.book.holds(Rule::NoTableLock, 1);
        }
    }

    /// One transaction locks many blocks: they are one finding.
    fn locked_versions(&mut self, path: &Path, versions: &Versions) {
        let mut locked = versions.entries.iter().filter(|entry| entry.locked);
        let Some(first) = locked.next() else {
            self.book.holds(Rule::NoLockedVersion, (versions.entries.len() as u64).max(1));
            return;
        };
        let count = locked.count() as u64 + 1;
        self.book.holds(Rule::NoLockedVersion, versions.entries.len() as u64 - count);
        let detail = format!(
            "no locked version of a block expected, found {count} of {} (LBID {}, version {}): a \
             transaction was under way",
            versions.entries.len(),
            first.lbid,
            first.version
        );
        let finding = Finding::new(FindingKind::LockedVersion, encode_path(path), detail);
        self.book.fails(Rule::NoLockedVersion, count, finding);
    }

    fn known_versions(&mut self, transactions: &Transactions, newest: Option<(i32, &PathBuf)>) {
        match newest {
            Some((version, path)) if version > transactions.last => {
                let detail = format!(
                    "versions up to {}, the last transaction of SMTxnID, expected, found {version}: \
                     the files are of different times",
                    transactions.last
                );
                let finding = Finding::new(FindingKind::UnknownVersion, encode_path(path), detail);
                self.book.fails(Rule::VersionsKnown, 1, finding);
            }
            _ => self.book.holds(Rule::VersionsKnown, 1),
        }
    }

    /// What times tell about whose changes the journal has. Source: docs/COLUMNSTORE.md 7.
    /// Returns whether the set that counts may be compared with segment files.
    fn journal(
        &mut self,
        files: &Paths,
        set: CurrentSet,
        journal: &Journal,
        times: &Times,
    ) -> bool {
        let mut fails = |detail: String| {
            let object = encode_path(&files.journal);
            let finding = Finding::new(FindingKind::JournalOfAnotherSet, object, detail);
            self.book.fails(Rule::JournalCurrent, 1, finding);
        };
        let current = set.prefix();
        if journal.records == 0 {
            // save_brm writes the base set, empties the journal, and names the base set at the end.
            let is_old = times.base.is_some_and(|base| base > times.map);
            match is_old {
                true => fails(format!(
                    "the changes made since {current} was saved expected, found an empty journal and \
                     a newer base set that _current does not name: saving it was interrupted, or \
                     _current is of another time"
                )),
                false => self.book.holds(Rule::JournalCurrent, 1),
            }
            return !is_old;
        }
        // A set is saved first; then its journal is begun anew.
        if times.journal < times.map {
            fails(format!(
                "changes made after {current}_em was saved expected, found a journal of {} changes \
                 that was written before it: it belongs to another set",
                journal.records
            ));
        } else {
            self.book.holds(Rule::JournalCurrent, 1);
        }
        self.book.unchecked(format!(
            "changes of the BRM that only the journal has: {} in {} bytes; the extent map is as it was \
             before them",
            journal.records,
            self.book.journal_bytes
        ));
        true
    }
}

/// When the files were changed that tell whose changes the journal has.
struct Times {
    journal: Time,
    map: Time,
    /// The extent map of the base set, when another set counts.
    base: Option<Time>,
}

/// Where the files are, as the deployment names them.
struct Paths {
    root: PathBuf,
    current: PathBuf,
    journal: PathBuf,
    transactions: PathBuf,
    locks: PathBuf,
    bitmap: PathBuf,
}

impl Paths {
    /// Returns the path of a file of a set.
    fn of_set(&self, set: CurrentSet, suffix: &str) -> PathBuf {
        set.file(&self.root, suffix)
    }
}

/// Who locks which table.
fn told(lock: &TableLock) -> String {
    let owner = match lock.transaction {
        ..=0 => String::new(),
        transaction => format!(" for transaction {transaction}"),
    };
    format!(
        "no table lock expected, found lock {} on the table with OID {}, held by {} (process {}){owner}",
        lock.id,
        lock.table,
        encode(&lock.owner),
        lock.pid
    )
}

impl<'a> Prover<'a> {
    /// Returns the component that a path of the deployment is in, and the path below its base.
    fn place(&self, path: &Path) -> Option<(&'a crate::format::snapshot::Component, Vec<u8>)> {
        let mut components = self.snapshot.components.iter();
        components.find_map(|component| {
            let number = component.name.strip_prefix("dbroot/")?;
            number.parse::<u32>().ok()?;
            let below = path.strip_prefix(decode_path(&component.path)).ok()?;
            Some((component, below.as_os_str().as_bytes().to_vec()))
        })
    }
}
