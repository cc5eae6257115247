//! Inspect: what one file of ColumnStore or InnoDB says, and what in it does not hold.
//!
//! The file is on this host or in a snapshot, from which it is read verified and without a restore.
//! What it is, its name says where its bytes cannot, and its bytes where they can. Segment files and
//! tablespaces are read slot by slot and page by page, so that memory does not grow with them. Files
//! of the BRM are read whole, up to 256 MiB, and take three times their size; but the journal, which has
//! no limit.

mod blocks;
mod brm;
mod file;
mod segment;
mod tablespace;

use std::collections::BTreeMap;

use crate::columnstore::brm::{
    BufferBlock, BufferFile, CurrentSet, FreeRange, MapExtent, OidRange, TableLock, Transactions,
    Version,
};
use crate::columnstore::segment::Header;
use crate::columnstore::{SegmentPath, segment as format};
use crate::error::{Error, ErrorKind, Result};
use crate::finding::{Finding, FindingKind, Findings};
use crate::format::segment::Damage;
use crate::progress::{Cancel, Event, Observer};
pub use file::{FileBytes, HostFile, StoredFile};
pub use tablespace::page_type_name;

/// The most of a file that is read at once, where it is not read whole: 1 MiB.
const READ_BYTES: u64 = 1 << 20;

/// The largest file of the BRM that is read: 256 MiB, two and a half million extents.
const WHOLE_BYTES_MAX: u64 = 256 << 20;

/// What of a file to look at.
#[derive(Clone, Debug, Default)]
pub struct InspectOptions {
    /// Of a segment file, only this slot, from 0. Other files have none: it is an error there.
    pub slot: Option<u64>,
    /// Of an extent map, an OID bitmap or table locks, only this object. Other files name none, or
    /// are of one: it is an error there.
    pub oid: Option<u32>,
    /// To stop it.
    pub cancel: Cancel,
}

/// What kind of file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A segment file with a header.
    Segment,
    /// A segment file without one: blocks and nothing else.
    Uncompressed,
    /// `versionbuffer.cdf`: blocks and nothing else.
    VersionBufferFile,
    /// `_em`
    ExtentMap,
    /// `_vss`
    Versions,
    /// `_vbbm`
    VersionBuffer,
    /// `_journal`
    Journal,
    /// `_current`
    Current,
    /// `oidbitmap`
    OidBitmap,
    /// `SMTxnID`
    Transactions,
    /// `tablelocks`
    TableLocks,
    /// A tablespace of InnoDB.
    Tablespace,
}

impl FileKind {
    /// Returns the word used in JSON.
    pub fn name(self) -> &'static str {
        match self {
            FileKind::Segment => "segment",
            FileKind::Uncompressed => "uncompressed-segment",
            FileKind::VersionBufferFile => "version-buffer-file",
            FileKind::ExtentMap => "extent-map",
            FileKind::Versions => "versions",
            FileKind::VersionBuffer => "version-buffer",
            FileKind::Journal => "journal",
            FileKind::Current => "current",
            FileKind::OidBitmap => "oid-bitmap",
            FileKind::Transactions => "transactions",
            FileKind::TableLocks => "table-locks",
            FileKind::Tablespace => "tablespace",
        }
    }

    /// Returns the words used in text, with an article.
    pub fn title(self) -> &'static str {
        match self {
            FileKind::Segment => "a compressed segment file",
            FileKind::Uncompressed => "an uncompressed segment file",
            FileKind::VersionBufferFile => "a file of the version buffer",
            FileKind::ExtentMap => "an extent map",
            FileKind::Versions => "versions of blocks (vss)",
            FileKind::VersionBuffer => "the block map of the version buffer (vbbm)",
            FileKind::Journal => "a journal of the BRM",
            FileKind::Current => "the name of the current set of BRM files",
            FileKind::OidBitmap => "an OID bitmap",
            FileKind::Transactions => "the last transaction",
            FileKind::TableLocks => "table locks",
            FileKind::Tablespace => "a tablespace of InnoDB",
        }
    }

    /// Returns what a file of this name is, as far as names tell: of compression they do not.
    fn by_name(name: &[u8]) -> Option<Self> {
        match name {
            b"SMTxnID" => return Some(FileKind::Transactions),
            b"tablelocks" => return Some(FileKind::TableLocks),
            b"oidbitmap" => return Some(FileKind::OidBitmap),
            b"versionbuffer.cdf" => return Some(FileKind::VersionBufferFile),
            _ => {}
        }
        let number = name.strip_prefix(b"FILE").and_then(|rest| rest.strip_suffix(b".cdf"));
        if number.is_some_and(|number| number.len() >= 3 && number.iter().all(u8::is_ascii_digit)) {
            return Some(FileKind::Uncompressed);
        }
        let at = name.windows(9).position(|part| part == b"BRM_saves")?;
        match name.get(at + 9..)? {
            b"_em" | b"A_em" | b"B_em" => Some(FileKind::ExtentMap),
            b"_vss" | b"A_vss" | b"B_vss" => Some(FileKind::Versions),
            b"_vbbm" | b"A_vbbm" | b"B_vbbm" => Some(FileKind::VersionBuffer),
            b"_journal" => Some(FileKind::Journal),
            b"_current" => Some(FileKind::Current),
            _ => None,
        }
    }

    /// Returns what a file is whose first bytes are these.
    fn by_content(first: &[u8], size: u64) -> Option<Self> {
        if format::header_length(first).is_some() {
            return Some(FileKind::Segment);
        }
        brm::by_content(first).or_else(|| tablespace::by_content(first, size))
    }
}

/// What was found in a file.
#[derive(Clone, Debug, PartialEq)]
pub struct InspectReport {
    /// What it is.
    pub kind: FileKind,
    /// Its size in bytes.
    pub size: u64,
    /// What it says; `None` when that makes no sense, which is a finding.
    pub contents: Option<Contents>,
    /// What does not hold.
    pub findings: Findings,
}

/// What a file says.
#[derive(Clone, Debug, PartialEq)]
pub enum Contents {
    /// A segment file with a header.
    Segment(SegmentContents),
    /// A file of blocks.
    Blocks(BlockContents),
    /// The extents asked for, and the free ranges that have LBIDs.
    ExtentMap {
        /// Version of the layout.
        version: u8,
        /// How many extents there are in all.
        total: u64,
        /// Those asked for, in the order of the file, with their places in it from 0.
        extents: Vec<(u64, MapExtent)>,
        /// LBIDs that no extent has.
        free: Vec<FreeRange>,
    },
    /// Versions of blocks, in the order of the file.
    Versions(Vec<Version>),
    /// Where the version buffer has what.
    VersionBuffer {
        /// Its files.
        files: Vec<BufferFile>,
        /// Blocks in them, in the order of the file.
        blocks: Vec<BufferBlock>,
    },
    /// The changes in a journal, counted by command.
    Journal {
        /// How many there are.
        records: u64,
        /// How many there are of each command, by its number.
        commands: BTreeMap<u8, u64>,
    },
    /// The set that counts.
    Current(CurrentSet),
    /// Object ids in use.
    OidBitmap {
        /// Ranges in use, in ascending order.
        taken: Vec<OidRange>,
        /// The free list.
        free: Vec<OidRange>,
        /// The DB Root of each version buffer.
        version_buffer_db_roots: Vec<u16>,
        /// Whether the object asked for is in use.
        asked: Option<(u32, bool)>,
    },
    /// The last transaction.
    Transactions(Transactions),
    /// The locks asked for.
    TableLocks(Vec<TableLock>),
    /// A tablespace.
    Tablespace(TablespaceContents),
}

/// What a segment file says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SegmentContents {
    /// Whose it is, if its path says so.
    pub place: Option<SegmentPath>,
    /// Its header.
    pub header: Header,
    /// How many slots its table has; none when the table makes no sense.
    pub slots_total: u64,
    /// Those asked for.
    pub slots: Vec<Slot>,
    /// What stands behind the last slot, if anything does.
    pub tail: Option<Filler>,
}

/// One slot.
#[derive(Clone, Debug, PartialEq)]
pub struct Slot {
    /// Its number, from 0.
    pub number: u64,
    /// Where it begins, in bytes from the file's beginning.
    pub offset: u64,
    /// How many bytes it has.
    pub length: u64,
    /// Its first byte: how the payload is packed.
    pub signature: u8,
    /// How many bytes of payload it says it has.
    pub payload: u32,
    /// The checksum it says the payload has.
    pub stored: u32,
    /// The checksum that the payload has; `None` when there is no such payload.
    pub computed: Option<u32>,
    /// What stands behind the payload; `None` when it cannot be said where that ends.
    pub padding: Option<Filler>,
    /// What does not hold.
    pub damage: Option<Damage>,
}

/// Bytes that mean nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filler {
    /// How many there are.
    pub bytes: u64,
    /// Whether they are zeros; what else they are is left over from before.
    pub is_zeros: bool,
}

/// What a file of blocks says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockContents {
    /// Whose it is, if its path says so.
    pub place: Option<SegmentPath>,
    /// Whole blocks of 8 KiB.
    pub blocks: u64,
    /// Blocks that repeat one value from beginning to end, as those without rows do.
    pub uniform: u64,
    /// The last block that does not.
    pub last_varied: Option<u64>,
}

/// What a tablespace says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TablespaceContents {
    /// Bytes of a page.
    pub page_bytes: u64,
    /// Whether its pages have the checksum that can be verified.
    pub is_full_crc32: bool,
    /// Whole pages.
    pub pages: u64,
    /// How many there are of each type, by its number; those never written are not among them.
    pub types: BTreeMap<u16, u64>,
    /// Pages of zeros: never written.
    pub unused: u64,
    /// Pages whose checksum holds.
    pub hold: u64,
    /// Pages whose checksum does not hold.
    pub damaged: u64,
    /// Pages of which nothing can be said: encrypted, compressed, or of an older form.
    pub not_verifiable: u64,
}

/// Reads a file and returns what it says; `path` is its name, by which it may be recognised, and
/// what findings call it.
///
/// Fails with `Unsupported` when it is none that this program knows, or is of an older form; with
/// `Invalid` when a slot or an object is asked for that such a file has not; and when it cannot be
/// read. What does not hold is a finding, and an event.
pub fn inspect(
    file: &mut dyn FileBytes,
    path: &[u8],
    options: &InspectOptions,
    observer: &dyn Observer,
) -> Result<InspectReport> {
    let size = file.size();
    let first = file.read(0, format::BLOCK_BYTES)?;
    // The name of an object in a bucket has its path in it, with these for slashes.
    let path: Vec<u8> = path.iter().map(|byte| if *byte == b'~' { b'/' } else { *byte }).collect();
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let kind = match FileKind::by_name(name) {
        Some(FileKind::Uncompressed) if format::header_length(&first).is_some() => {
            Some(FileKind::Segment)
        }
        Some(kind) => Some(kind),
        None => FileKind::by_content(&first, size),
    };
    let kind = kind.ok_or_else(|| {
        let problem = "a file of ColumnStore or a tablespace of InnoDB expected, found neither";
        Error::new(ErrorKind::Unsupported, file.shown(), problem)
    })?;
    let mut inspection = Inspection {
        object: file.shown().to_owned(),
        component: file.component().to_owned(),
        file,
        kind,
        options,
        observer,
        findings: Findings::default(),
    };
    inspection.refuse_what_there_is_not()?;
    observer.event(Event::Expected { entries: 1, bytes: size });
    let contents = inspection.contents(&path, &first)?;
    Ok(InspectReport { kind, size, contents, findings: inspection.findings })
}

/// One inspection as it goes.
struct Inspection<'a> {
    file: &'a mut dyn FileBytes,
    object: String,
    component: String,
    kind: FileKind,
    options: &'a InspectOptions,
    observer: &'a dyn Observer,
    findings: Findings,
}

impl Inspection<'_> {
    fn contents(&mut self, path: &[u8], first: &[u8]) -> Result<Option<Contents>> {
        let place = SegmentPath::parse(path);
        Ok(match self.kind {
            FileKind::Segment => Some(Contents::Segment(self.segment(place, first)?)),
            FileKind::Uncompressed | FileKind::VersionBufferFile => {
                Some(Contents::Blocks(self.blocks(place)?))
            }
            FileKind::Tablespace => Some(Contents::Tablespace(self.tablespace(first)?)),
            _ => self.brm()?,
        })
    }

    fn refuse_what_there_is_not(&self) -> Result<()> {
        let refuse = |asked: String, expected: &str| {
            let problem = format!("{expected} expected, found {}", self.kind.title());
            Err(Error::new(ErrorKind::Invalid, format!("{asked} of {}", self.object), problem))
        };
        let has_oids =
            [FileKind::ExtentMap, FileKind::OidBitmap, FileKind::TableLocks].contains(&self.kind);
        match (self.options.slot, self.options.oid) {
            (Some(slot), _) if self.kind != FileKind::Segment => {
                refuse(format!("slot {slot}"), "a compressed segment file")
            }
            (_, Some(oid)) if !has_oids => {
                refuse(format!("OID {oid}"), "an extent map, an OID bitmap or table locks")
            }
            _ => Ok(()),
        }
    }

    /// Reads a stretch of the file, and tells how far it has come.
    fn read(&mut self, start: u64, length: u64) -> Result<Vec<u8>> {
        self.options.cancel.check()?;
        let bytes = self.file.read(start, length)?;
        self.observer.event(Event::Done { entries: 0, bytes: bytes.len() as u64 });
        Ok(bytes)
    }

    /// Says whether a stretch is zeros.
    fn filler(&mut self, start: u64, end: u64) -> Result<Filler> {
        let mut is_zeros = true;
        let mut at = start;
        while at < end {
            let bytes = self.read(at, READ_BYTES.min(end - at))?;
            is_zeros &= are_zeros(&bytes);
            at += bytes.len() as u64;
        }
        Ok(Filler { bytes: end.saturating_sub(start), is_zeros })
    }

    fn find(&mut self, finding: Finding) {
        self.observer.event(Event::Finding(&finding));
        self.findings.push(finding);
    }

    /// Finds damage at a place.
    fn damaged(&mut self, kind: FindingKind, damage: &Damage) {
        let place = match (damage.slot, kind) {
            (Some(page), FindingKind::DamagedPage) => format!("page {page}, "),
            (Some(slot), _) => format!("slot {slot}, "),
            (None, _) => String::new(),
        };
        let Damage { what, offset, expected, found, .. } = damage;
        let detail = format!("{place}{what} at byte {offset}: {expected} expected, found {found}");
        let at = Some(damage.place(&self.component));
        self.find(Finding { at, ..Finding::new(kind, &*self.object, detail) });
    }
}

fn are_zeros(bytes: &[u8]) -> bool {
    bytes.iter().fold(0, |all, byte| all | byte) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_what_bytes_cannot() {
        for (name, kind) in [
            ("SMTxnID", Some(FileKind::Transactions)),
            ("BRM_saves_current", Some(FileKind::Current)),
            ("BRM_savesB_em", Some(FileKind::ExtentMap)),
            ("backup_1795443845_BRM_saves_vss", Some(FileKind::Versions)),
            ("FILE001.cdf", Some(FileKind::Uncompressed)),
            ("FILE001.cdf.orig", None),
            ("FILEabc.cdf", None),
            ("BRM_savesC_em", None),
            ("BRM_saves_em.meta", None),
            ("orders.frm", None),
        ] {
            assert_eq!(FileKind::by_name(name.as_bytes()), kind, "{name}");
        }
    }
}
