//! Files of the BRM: what they say, and what in that cannot be.

use super::{Contents, FileKind, Inspection, READ_BYTES, WHOLE_BYTES_MAX};
use crate::columnstore::brm::{
    CurrentSet, ExtentMap, Journal, JournalReader, OidBitmap, Sensible, TableLocks, Transactions,
    VersionBuffer, Versions,
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
        if self.kind == FileKind::Journal {
            return self.journal(size);
        }
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

    /// Counts the changes of a journal, which may have any size.
    fn journal(&mut self, size: u64) -> Result<Option<Contents>> {
        let mut reader = JournalReader::default();
        let mut at = 0;
        while at < size {
            let bytes = self.read(at, READ_BYTES.min(size - at))?;
            at += bytes.len() as u64;
            if let Err(malformed) = reader.read(&bytes) {
                self.senseless(malformed.to_string());
                return Ok(None);
            }
        }
        match reader.end() {
            Ok(Journal { records, commands }) => Ok(Some(Contents::Journal { records, commands })),
            Err(malformed) => {
                self.senseless(malformed.to_string());
                Ok(None)
            }
        }
    }

    fn decoded(&mut self, bytes: &[u8]) -> Decoded<Contents> {
        Ok(match self.kind {
            FileKind::ExtentMap => {
                let map = self.sensible(ExtentMap::decode(bytes)?);
                self.extent_map(map)
            }
            FileKind::Versions => {
                Contents::Versions(self.sensible(Versions::decode(bytes)?).entries)
            }
            FileKind::VersionBuffer => {
                let VersionBuffer { files, blocks } = self.sensible(VersionBuffer::decode(bytes)?);
                Contents::VersionBuffer { files, blocks }
            }
            FileKind::OidBitmap => {
                let bitmap = self.sensible(OidBitmap::decode(bytes)?);
                self.oid_bitmap(bitmap)
            }
            FileKind::TableLocks => {
                let mut locks = TableLocks::decode(bytes)?.locks;
                locks.retain(|lock| self.options.oid.is_none_or(|oid| lock.table == oid));
                Contents::TableLocks(locks)
            }
            FileKind::Current => Contents::Current(CurrentSet::decode(bytes)?),
            _ => Contents::Transactions(self.sensible(Transactions::decode(bytes)?)),
        })
    }

    /// Finds what cannot be in what a file says, and returns that.
    fn sensible<T: Sensible>(&mut self, content: T) -> T {
        content.faults(&mut |fault| self.senseless(fault));
        content
    }

    /// Finds what makes no sense.
    fn senseless(&mut self, detail: String) {
        self.find(Finding::new(FindingKind::UnreadableBrm, &*self.object, detail));
    }

    fn extent_map(&self, map: ExtentMap) -> Contents {
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

    fn oid_bitmap(&self, bitmap: OidBitmap) -> Contents {
        let asked = self.options.oid.map(|oid| (oid, bitmap.is_taken(oid)));
        Contents::OidBitmap {
            taken: bitmap.taken().collect(),
            free: bitmap.free,
            version_buffer_db_roots: bitmap.version_buffer_db_roots,
            asked,
        }
    }
}
