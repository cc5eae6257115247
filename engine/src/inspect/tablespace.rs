//! Tablespaces of InnoDB: pages by type, and checksums that do not hold.

use super::{FileKind, Inspection, READ_BYTES, TablespaceContents};
use crate::columnstore::page::{PageState, Tablespace};
use crate::error::Result;
use crate::finding::{Finding, FindingKind};

const PAGE_TYPE_AT: usize = 24;

/// Whether a file begins like a tablespace.
pub(super) fn by_content(first: &[u8], size: u64) -> Option<FileKind> {
    Tablespace::recognise(first, size).map(|_| FileKind::Tablespace)
}

/// Returns the name of a page's type; `None` for a number that is not known. Source: MariaDB
/// `storage/innobase/include/fil0fil.h`.
pub fn page_type_name(number: u16) -> Option<&'static str> {
    Some(match number {
        0 => "allocated",
        2 => "undo log",
        3 => "inodes of segments",
        4 => "free list of the change buffer",
        5 => "bitmap of the change buffer",
        6 => "system",
        7 => "transaction system",
        8 => "header of the tablespace",
        9 => "descriptors of extents",
        10 => "long values",
        11 | 12 => "compressed long values",
        13 => "unknown",
        18 => "root of an index, changed instantly",
        17_854 => "spatial index",
        17_855 => "index",
        34_354 => "compressed",
        37_401 => "compressed and encrypted",
        _ => return None,
    })
}

impl Inspection<'_> {
    pub(super) fn tablespace(&mut self, first: &[u8]) -> Result<TablespaceContents> {
        let size = self.file.size();
        let mut contents = TablespaceContents::default();
        let Some(space) = Tablespace::recognise(first, size) else { return Ok(contents) };
        let page_bytes = space.page_bytes as u64;
        contents.page_bytes = page_bytes;
        contents.is_full_crc32 = space.is_full_crc32;
        let whole = size - size % page_bytes;
        let mut at = 0;
        while at < whole {
            // A power of two, as pages are: no page is cut.
            let bytes = self.read(at, READ_BYTES.min(whole - at))?;
            at += bytes.len() as u64;
            for page in bytes.chunks(space.page_bytes) {
                self.page(&space, page, &mut contents);
            }
        }
        if whole < size {
            let detail = format!(
                "whole pages of {page_bytes} bytes expected, found {} bytes behind page {}",
                size - whole,
                contents.pages
            );
            self.find(Finding::new(FindingKind::DamagedPage, &*self.object, detail));
        }
        Ok(contents)
    }

    fn page(&mut self, space: &Tablespace, page: &[u8], contents: &mut TablespaceContents) {
        let state = space.verify(page, contents.pages);
        contents.pages += 1;
        match &state {
            PageState::Unused => {
                contents.unused += 1;
                return;
            }
            PageState::Holds => contents.hold += 1,
            PageState::NotVerifiable => contents.not_verifiable += 1,
            PageState::Damaged(damage) => {
                contents.damaged += 1;
                self.damaged(FindingKind::DamagedPage, damage);
            }
        }
        let kind = page.get(PAGE_TYPE_AT..PAGE_TYPE_AT + 2).and_then(|kind| kind.try_into().ok());
        *contents.types.entry(kind.map_or(0, u16::from_be_bytes)).or_default() += 1;
    }
}
