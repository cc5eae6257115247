//! Files of the BRM: what they say, and what in that cannot be.

use std::collections::{BTreeMap, HashSet};

use super::{Contents, FileKind, Inspection, WHOLE_BYTES_MAX};
use crate::columnstore::brm::{
    CurrentSet, ExtentMap, Journal, MapExtent, OidBitmap, TableLocks, Transactions, VersionBuffer,
    Versions,
};
use crate::error::{Error, ErrorKind, Result};
use crate::finding::{Finding, FindingKind};
use crate::format::wire::Decoded;

/// Returns what a file of the BRM is whose first bytes say so.
pub(super) fn by_content(first: &[u8]) -> Option<FileKind> {
    if ExtentMap::version(first).is_some() {
        Some(FileKind::ExtentMap)
    } else if Versions::begins(first) {
        Some(FileKind::Versions)
    } else if VersionBuffer::begins(first) {
        Some(FileKind::VersionBuffer)
    } else {
        None
    }
}

impl Inspection<'_> {
    /// Reads a file of the BRM; `None` when it makes no sense.
    pub(super) fn brm(&mut self) -> Result<Option<Contents>> {
        let size = self.file.size();
        if size > WHOLE_BYTES_MAX {
            let problem =
                format!("a file of at most {WHOLE_BYTES_MAX} bytes expected, found {size}");
            return Err(Error::new(ErrorKind::Unsupported, &*self.object, problem));
        }
        let bytes = self.read(0, size)?;
        if let (FileKind::ExtentMap, Some(version @ 1..=3)) =
            (self.kind, ExtentMap::version(&bytes))
        {
            let problem =
                format!("an extent map of version 4 or 5 expected, found the older {version}");
            return Err(Error::new(ErrorKind::Unsupported, &*self.object, problem));
        }
        match self.decoded(&bytes) {
            Ok(contents) => Ok(Some(contents)),
            Err(malformed) => {
                self.senseless(malformed.to_string());
                Ok(None)
            }
        }
    }

    fn decoded(&mut self, bytes: &[u8]) -> Decoded<Contents> {
        Ok(match self.kind {
            FileKind::ExtentMap => self.extent_map(ExtentMap::decode(bytes)?),
            FileKind::Versions => self.versions(Versions::decode(bytes)?),
            FileKind::VersionBuffer => self.version_buffer(VersionBuffer::decode(bytes)?),
            FileKind::OidBitmap => self.oid_bitmap(OidBitmap::decode(bytes)?),
            FileKind::TableLocks => {
                let mut locks = TableLocks::decode(bytes)?.locks;
                locks.retain(|lock| self.options.oid.is_none_or(|oid| lock.table == oid));
                Contents::TableLocks(locks)
            }
            FileKind::Current => Contents::Current(CurrentSet::decode(bytes)?),
            FileKind::Journal => {
                let records = Journal::decode(bytes)?.records;
                let mut commands = BTreeMap::new();
                for record in &records {
                    *commands.entry(record.command).or_default() += 1;
                }
                Contents::Journal { records: records.len() as u64, commands }
            }
            _ => {
                let transactions = Transactions::decode(bytes)?;
                for (what, number) in [
                    ("last transaction", transactions.last),
                    ("version of the system catalog", transactions.catalog_version),
                ] {
                    self.refuse_negative(what, number);
                }
                Contents::Transactions(transactions)
            }
        })
    }

    /// Finds what cannot be.
    fn senseless(&mut self, detail: String) {
        self.find(Finding::new(FindingKind::UnreadableBrm, &*self.object, detail));
    }

    fn refuse_negative(&mut self, what: &str, number: i32) {
        if number < 0 {
            self.senseless(format!("{what}: none below zero expected, found {number}"));
        }
    }

    fn extent_map(&mut self, map: ExtentMap) -> Contents {
        let named =
            |number: usize, extent: &MapExtent| format!("extent {number} (OID {})", extent.oid);
        for (number, extent) in map.extents.iter().enumerate() {
            let mut wrong = |what: &str, expected: &str, found: String| {
                let name = named(number, extent);
                self.senseless(format!("{name}, {what}: {expected} expected, found {found}"));
            };
            if extent.units == 0 {
                wrong("LBIDs", "at least 1024", "none".into());
            }
            if ![0, 1, 2, 4, 8, 16].contains(&extent.width) {
                wrong("column width", "0, 1, 2, 4, 8 or 16", extent.width.to_string());
            }
            if extent.db_root == 0 {
                wrong("DB Root", "1 or more", "0".into());
            }
            if !(0..=2).contains(&extent.status) {
                wrong("status", "0 to 2", extent.status.to_string());
            }
            if extent.valid > 2 {
                wrong("worth of smallest and largest value", "0 to 2", extent.valid.to_string());
            }
        }
        let mut order: Vec<usize> = (0..map.extents.len()).collect();
        order.sort_unstable_by_key(|number| map.extents[*number].lbid);
        for pair in order.windows(2) {
            let (first, second) = (&map.extents[pair[0]], &map.extents[pair[1]]);
            if first.end() > second.lbid {
                self.senseless(format!(
                    "{}: LBIDs from {} on expected, found {}: {} has those before",
                    named(pair[1], second),
                    first.end(),
                    second.lbid,
                    named(pair[0], first),
                ));
            }
        }
        let place = |e: &MapExtent| (e.oid, e.db_root, e.partition, e.segment, e.block_offset);
        order.sort_unstable_by_key(|number| place(&map.extents[*number]));
        for pair in order.windows(2) {
            let (first, second) = (&map.extents[pair[0]], &map.extents[pair[1]]);
            if place(first) == place(second) {
                self.senseless(format!(
                    "{}: a place of its own in a file expected, found that of extent {}",
                    named(pair[1], second),
                    pair[0]
                ));
            }
        }
        let wanted = self.options.oid;
        let total = map.extents.len() as u64;
        let extents = (0..).zip(map.extents);
        Contents::ExtentMap {
            version: map.version,
            total,
            extents: extents
                .filter(|(_, extent)| wanted.is_none_or(|oid| extent.oid == oid))
                .collect(),
            free: map.free.into_iter().filter(|range| range.units > 0).collect(),
        }
    }

    fn versions(&mut self, versions: Versions) -> Contents {
        let mut seen = HashSet::with_capacity(versions.entries.len());
        for (number, entry) in versions.entries.iter().enumerate() {
            self.refuse_negative(&format!("version {number}, transaction"), entry.version);
            if !seen.insert((entry.lbid, entry.version)) {
                self.senseless(format!(
                    "version {number}: one version of LBID {} by transaction {} expected, found two",
                    entry.lbid, entry.version
                ));
            }
        }
        Contents::Versions(versions.entries)
    }

    fn version_buffer(&mut self, buffer: VersionBuffer) -> Contents {
        let files: HashSet<u32> = buffer.files.iter().map(|file| file.oid).collect();
        for (number, block) in buffer.blocks.iter().enumerate() {
            self.refuse_negative(&format!("block {number}, transaction"), block.version);
            if !files.contains(&block.oid) {
                self.senseless(format!(
                    "block {number}: one of the files listed expected, found {}",
                    block.oid
                ));
            }
        }
        for file in buffer.files.iter().filter(|file| file.next > file.size) {
            self.senseless(format!(
                "file {}: a next place within its {} bytes expected, found {}",
                file.oid, file.size, file.next
            ));
        }
        Contents::VersionBuffer { files: buffer.files, blocks: buffer.blocks }
    }

    fn oid_bitmap(&mut self, bitmap: OidBitmap) -> Contents {
        let taken: Vec<_> = bitmap.taken().collect();
        for free in &bitmap.free {
            // The first range in use that does not end before the free one begins.
            let at = taken.partition_point(|range| range.last < free.first);
            if let Some(range) = taken.get(at).filter(|range| range.first <= free.last) {
                self.senseless(format!(
                    "free list, OIDs {} to {}: none in use expected, found {}",
                    free.first,
                    free.last,
                    range.first.max(free.first)
                ));
            }
        }
        let asked = self.options.oid.map(|oid| (oid, bitmap.is_taken(oid)));
        Contents::OidBitmap {
            taken,
            free: bitmap.free,
            version_buffer_db_roots: bitmap.version_buffer_db_roots,
            asked,
        }
    }
}
